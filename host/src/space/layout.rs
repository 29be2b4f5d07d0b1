//! Where the leaves of a value lie, and whether bytes are a value.
//!
//! On the path of a step: [`Layout::check`] judges a worker's answer, [`Layout::contains`] an agent's action. Alignment
//! and order are those of `wit/0.1.0/types.wit`, and are written down only here.

use std::ops::Range;

use super::dtype::{Number, array};
use super::field::{InfoField, OutOfBounds};
use super::shape::count;
use super::words::{at, index_of, joined, quoted};
use super::{Dtype, NODES_MAX, Space, VALUE_BYTES_MAX, check_names};
use crate::error::UsageError;

/// How far a float may be outside its `Box` and still be taken for the bound, in units in the last place of the larger
/// bound. An action computed as `low + fraction * (high - low)` in the dtype is wrong by at most two units.
const ROUNDING_ULPS: f64 = 4.0;

/// The layout of a space: where the leaves of a value lie, and what each may hold.
#[derive(Clone, Debug)]
pub struct Layout {
    /// Bytes of one value, and the distance from one value to the next: a multiple of 8, at least 8.
    pub stride: usize,
    /// The leaves in depth-first order.
    pub leaves: Vec<Leaf>,
    /// The tree that the leaves form.
    pub(super) tree: Tree,
    /// Leaves for which not every sequence of bytes is a value.
    checked: Vec<usize>,
    /// Leaves of which an element may be outside its bounds: boxes of floats, which may be NaN, and of integers whose bounds
    /// leave out some.
    bounded: Vec<usize>,
    /// The ranges between leaves and after the last leaf, which hold zeros.
    gaps: Vec<Range<usize>>,
    mask_len: usize,
}

/// One leaf of a space, and where it lies in a value.
#[derive(Clone, Debug)]
pub struct Leaf {
    /// Bytes from the start of the value.
    pub offset: usize,
    /// Bytes of the leaf, without padding.
    pub size: usize,
    /// The leaf's name in messages: `goal.position`, `hands[1]`; empty for a space that is a single leaf.
    pub path: String,
    /// What the leaf may hold.
    pub kind: LeafKind,
    /// Where the leaf's choices begin in a mask.
    mask: usize,
}

/// What a leaf may hold: as in [`Space`], but prepared for use.
#[derive(Clone, Debug, PartialEq)]
pub enum LeafKind {
    /// Elements of `dtype` in C order; `low` and `high` hold one element for all elements, or one for each.
    #[expect(missing_docs, reason = "the fields are those of `Space`")]
    Box { dtype: Dtype, shape: Vec<u32>, low: Vec<u8>, high: Vec<u8> },
    /// One i64.
    #[expect(missing_docs, reason = "the fields are those of `Space`")]
    Discrete { n: u64, start: i64 },
    /// i64s in C order; `start` holds an i64 for each.
    #[expect(missing_docs, reason = "the fields are those of `Space`")]
    MultiDiscrete { shape: Vec<u32>, nvec: Vec<u64>, start: Vec<i64> },
    /// Bytes in C order, each 0 or 1.
    #[expect(missing_docs, reason = "the fields are those of `Space`")]
    MultiBinary { shape: Vec<u32> },
    /// A u32 count of bytes, then UTF-8, then zeros.
    Text {
        /// Least number of characters (Unicode scalar values).
        min_length: u32,
        /// Greatest number of characters.
        max_length: u32,
        /// The allowed characters in Gymnasium's order; none allows every character.
        charset: Option<Vec<char>>,
        /// The allowed characters in ascending order.
        sorted: Option<Vec<char>>,
    },
}

/// The tree of the leaves: indices into [`Layout::leaves`].
#[derive(Clone, Debug)]
pub(super) enum Tree {
    Leaf(usize),
    Dict(Vec<(String, Tree)>),
    Tuple(Vec<Tree>),
}

/// Bytes of a Text leaf.
pub(super) fn text_bytes(max_length: u32) -> usize {
    usize::try_from(max_length).unwrap_or(usize::MAX).saturating_mul(4).saturating_add(4)
}

/// Alignment and bytes of a node; a Dict or Tuple has no bytes except those of its children.
fn measure(space: &Space) -> (usize, usize) {
    match space {
        Space::Box { dtype, shape, .. } => (dtype.size(), count(shape) * dtype.size()),
        Space::Discrete { .. } => (8, 8),
        Space::MultiDiscrete { shape, .. } => (8, count(shape) * 8),
        Space::MultiBinary { shape } => (1, count(shape)),
        Space::Text { max_length, .. } => (4, text_bytes(*max_length)),
        Space::Dict(_) | Space::Tuple(_) => (8, 0),
    }
}

/// The end of a value of `space` that may begin at `offset`.
pub(super) fn end(space: &Space, offset: usize) -> usize {
    let (alignment, bytes) = measure(space);
    let start = offset.next_multiple_of(alignment);
    match space {
        Space::Dict(entries) => entries.iter().fold(start, |offset, (_, space)| end(space, offset)),
        Space::Tuple(spaces) => spaces.iter().fold(start, |offset, space| end(space, offset)),
        _ => start + bytes,
    }
}

/// The number of choices of all Discrete and MultiDiscrete leaves, without overflow for any untrusted `n`.
pub(super) fn choices(space: &Space) -> usize {
    let sum = |sum: usize, n: usize| sum.saturating_add(n);
    match space {
        Space::Discrete { n, .. } => usize::try_from(*n).unwrap_or(usize::MAX),
        Space::MultiDiscrete { nvec, .. } => {
            nvec.iter().map(|&n| usize::try_from(n).unwrap_or(usize::MAX)).fold(0, sum)
        }
        Space::Dict(entries) => entries.iter().map(|(_, space)| choices(space)).fold(0, sum),
        Space::Tuple(spaces) => spaces.iter().map(choices).fold(0, sum),
        _ => 0,
    }
}

/// A mask's length, if a mask can be that long.
pub(super) fn check_mask_len(len: usize) -> Result<usize, String> {
    if len <= VALUE_BYTES_MAX { Ok(len) } else { Err(format!("a mask would have more than {VALUE_BYTES_MAX} bytes")) }
}

impl Layout {
    pub(super) fn new(space: &Space) -> Layout {
        let mut layout = Layout::empty();
        layout.tree = layout.place(space, String::new());
        layout.align(8);
        layout
    }

    fn empty() -> Layout {
        let tree = Tree::Tuple(Vec::new());
        Layout {
            stride: 0,
            leaves: Vec::new(),
            tree,
            checked: Vec::new(),
            bounded: Vec::new(),
            gaps: Vec::new(),
            mask_len: 0,
        }
    }

    /// Aligns the next leaf. While a layout is being made, `stride` is where the next leaf may begin.
    fn align(&mut self, alignment: usize) {
        let next = self.stride.next_multiple_of(alignment);
        if next > self.stride {
            self.gaps.push(self.stride..next);
        }
        self.stride = next;
    }

    fn place(&mut self, space: &Space, path: String) -> Tree {
        let (alignment, size) = measure(space);
        self.align(alignment);
        let kind = match space {
            Space::Dict(entries) => {
                let mut place = |(key, space): &(String, Space)| (key.clone(), self.place(space, joined(&path, key)));
                return Tree::Dict(entries.iter().map(&mut place).collect());
            }
            Space::Tuple(spaces) => {
                let mut place = |(index, space)| self.place(space, format!("{path}[{index}]"));
                return Tree::Tuple(spaces.iter().enumerate().map(&mut place).collect());
            }
            Space::Box { dtype, shape, low, high } => {
                LeafKind::Box { dtype: *dtype, shape: shape.clone(), low: low.clone(), high: high.clone() }
            }
            Space::Discrete { n, start } => LeafKind::Discrete { n: *n, start: *start },
            Space::MultiDiscrete { shape, nvec, start } => LeafKind::MultiDiscrete {
                shape: shape.clone(),
                nvec: nvec.clone(),
                start: if start.is_empty() { vec![0; nvec.len()] } else { start.clone() },
            },
            Space::MultiBinary { shape } => LeafKind::MultiBinary { shape: shape.clone() },
            Space::Text { min_length, max_length, charset } => {
                let charset: Option<Vec<char>> = charset.as_ref().map(|charset| charset.chars().collect());
                let mut sorted = charset.clone();
                if let Some(sorted) = &mut sorted {
                    sorted.sort_unstable();
                }
                LeafKind::Text { min_length: *min_length, max_length: *max_length, charset, sorted }
            }
        };
        let index = self.leaves.len();
        if !matches!(kind, LeafKind::Box { dtype, .. } if dtype != Dtype::Boolean) {
            self.checked.push(index);
        }
        if kind.is_bounded() {
            self.bounded.push(index);
        }
        let mask = self.mask_len;
        self.mask_len = mask.saturating_add(choices(space));
        self.leaves.push(Leaf { offset: self.stride, size, path, kind, mask });
        self.stride += size;
        Tree::Leaf(index)
    }

    /// Checks the structure of a value in `bytes`: its length, choices in range, booleans 0 or 1, texts complete and of
    /// the right length and charset, zeros between leaves. Elements of a number `Box` may be any bytes, so only the
    /// length is checked if a space is one such `Box` of a multiple of 8 bytes.
    ///
    /// # Errors
    ///
    /// The first leaf that is not a value, and why, as a fragment that fits after a colon; bounded in length.
    pub fn check(&self, bytes: &[u8]) -> Result<(), String> {
        self.check_length(bytes)?;
        self.check_gaps(bytes)?;
        self.checked.iter().try_for_each(|&leaf| self.leaves[leaf].check(bytes))
    }

    fn check_length(&self, bytes: &[u8]) -> Result<(), String> {
        if bytes.len() == self.stride {
            Ok(())
        } else {
            Err(format!("{} bytes, expected {}", bytes.len(), self.stride))
        }
    }

    fn check_gaps(&self, bytes: &[u8]) -> Result<(), String> {
        match self.gaps.iter().find(|gap| !all_zero(&bytes[(*gap).clone()])) {
            None => Ok(()),
            Some(gap) => Err(format!("the padding at byte {} is not zero", gap.start)),
        }
    }

    /// Checks that Gymnasium's `contains` accepts the value in `bytes`: [`Layout::check`], and every `Box` element lies
    /// between its `low` and its `high`, which NaN never does.
    ///
    /// # Errors
    ///
    /// The first leaf that does not fit, its value, and what is allowed, as a fragment that fits after a colon.
    pub fn contains(&self, bytes: &[u8]) -> Result<(), String> {
        self.check(bytes)?;
        self.leaves.iter().try_for_each(|leaf| leaf.check_bounds(bytes))
    }

    /// Whether every `Box` element lies between its `low` and its `high`, as in [`Layout::contains`]: made for every step, one pass
    /// without a branch. The value has passed [`Layout::check`].
    pub(crate) fn is_within_bounds(&self, bytes: &[u8]) -> bool {
        self.bounded.iter().all(|&leaf| self.leaves[leaf].is_within_bounds(bytes))
    }

    /// Turns an agent's action into the action that the env gets: a value that passes [`Layout::contains`]. A finite
    /// float outside its `Box` stays as it is if the env accepts such floats; otherwise it becomes the bound, if
    /// rounding alone put it outside. Returns the new bytes if they differ from `bytes`.
    ///
    /// # Errors
    ///
    /// As [`Layout::contains`], with advice where clipping helps.
    pub fn as_action(&self, bytes: &[u8], outside: OutOfBounds) -> Result<Option<Vec<u8>>, UsageError> {
        self.check(bytes).map_err(UsageError::new)?;
        let mut clipped = None;
        self.leaves.iter().try_for_each(|leaf| leaf.as_action(bytes, outside, &mut clipped))?;
        Ok(clipped)
    }

    /// Turns a policy's action into the action that the env gets, as [`Layout::as_action`]. An empty mask allows every action.
    ///
    /// # Errors
    ///
    /// What is wrong with the action, as the rest of a sentence that begins with `its action`.
    pub(crate) fn as_chosen(&self, given: &[u8], mask: &[u8], outside: OutOfBounds) -> Result<Vec<u8>, String> {
        if given.len() != self.stride {
            return Err(format!("has {} bytes; one of the action space has {}", given.len(), self.stride));
        }
        let not_allowed = |what: String| format!("is not allowed: {what}");
        let clipped = self.as_action(given, outside).map_err(|error| not_allowed(error.message))?;
        let action = clipped.unwrap_or_else(|| given.to_vec());
        if !mask.is_empty() {
            self.check_unmasked(&action, mask).map_err(not_allowed)?;
        }
        Ok(action)
    }

    /// Bytes of an action mask: one per choice, for every Discrete leaf (`n`) and MultiDiscrete leaf (sum of `nvec`),
    /// in order. 0 if there is nothing to mask.
    ///
    /// # Errors
    ///
    /// A mask would have more than [`VALUE_BYTES_MAX`] bytes: this space cannot be masked.
    pub fn mask_len(&self) -> Result<usize, String> {
        check_mask_len(self.mask_len)
    }

    /// Checks that `mask` has [`Layout::mask_len`] bytes, each 0 or 1.
    ///
    /// # Errors
    ///
    /// What is wrong with the mask.
    pub fn check_mask(&self, mask: &[u8]) -> Result<(), String> {
        let expected = self.mask_len()?;
        if mask.len() != expected {
            return Err(format!("a mask of {} bytes, expected {expected}", mask.len()));
        }
        check_binary(mask).map_err(|(index, byte)| format!("byte {index} of the mask is {byte}, expected 0 or 1"))
    }

    /// Checks that `mask` leaves a choice open wherever one is made. The mask has passed [`Layout::check_mask`].
    ///
    /// # Errors
    ///
    /// The first element without an open choice.
    pub fn check_open(&self, mask: &[u8]) -> Result<(), String> {
        for leaf in &self.leaves {
            let mut rest = &mask[leaf.mask..];
            for (index, n, _) in leaf.kind.choices() {
                let (allowed, after) = rest.split_at(n);
                rest = after;
                if all_zero(allowed) {
                    let which = match &leaf.kind {
                        LeafKind::MultiDiscrete { shape, .. } => format!(" in element {}", index_of(shape, index)),
                        _ => String::new(),
                    };
                    return Err(format!("{}no choice is open{which}", at(&leaf.path)));
                }
            }
        }
        Ok(())
    }

    /// Checks that `mask` allows `action`. If a mask allows no choice, the first choice is allowed, as in Gymnasium's
    /// `sample`. Both have passed their checks.
    ///
    /// # Errors
    ///
    /// The first choice that the mask forbids.
    ///
    /// # Panics
    ///
    /// When the lengths are not those of this space.
    pub fn check_unmasked(&self, action: &[u8], mask: &[u8]) -> Result<(), String> {
        for leaf in &self.leaves {
            let bytes = leaf.bytes(action);
            let mut rest = &mask[leaf.mask..];
            for (index, n, start) in leaf.kind.choices() {
                let (allowed, after) = rest.split_at(n);
                rest = after;
                let value = i64::from_le_bytes(array(&bytes[8 * index..]));
                let choice = usize::try_from(value.wrapping_sub(start)).unwrap_or(usize::MAX);
                if choice != 0 && allowed.get(choice) != Some(&1)
                    || choice == 0 && allowed[0] == 0 && !all_zero(allowed)
                {
                    let which = match &leaf.kind {
                        LeafKind::MultiDiscrete { shape, .. } => format!("element {} is ", index_of(shape, index)),
                        _ => String::new(),
                    };
                    return Err(format!("{}{which}{value}, which is masked", at(&leaf.path)));
                }
            }
        }
        Ok(())
    }
}

impl Leaf {
    /// The bytes of this leaf in a value.
    ///
    /// # Panics
    ///
    /// When `value` is shorter than the layout's stride.
    pub fn bytes<'a>(&self, value: &'a [u8]) -> &'a [u8] {
        &value[self.offset..][..self.size]
    }

    /// The bytes of this leaf in a value.
    pub(super) fn bytes_mut<'a>(&self, value: &'a mut [u8]) -> &'a mut [u8] {
        &mut value[self.offset..][..self.size]
    }

    /// This leaf's part of a mask, and the rest of the mask.
    pub(super) fn mask<'a>(&self, mask: &'a [u8]) -> &'a [u8] {
        &mask[self.mask..]
    }

    pub(super) fn check(&self, value: &[u8]) -> Result<(), String> {
        self.kind.check(self.bytes(value)).map_err(|wrong| format!("{}{wrong}", at(&self.path)))
    }

    fn check_bounds(&self, value: &[u8]) -> Result<(), String> {
        let LeafKind::Box { dtype, shape, low, high } = &self.kind else { return Ok(()) };
        let bytes = self.bytes(value);
        for index in 0..count(shape) {
            let number = dtype.read(bytes, index);
            let (low, high) = (dtype.bound(low, index), dtype.bound(high, index));
            // The condition is written so that NaN, which compares false with everything, is outside.
            if !(low <= number && number <= high) {
                return Err(self.wrong_element(*dtype, shape, index, number, low, high));
            }
        }
        Ok(())
    }

    fn is_within_bounds(&self, value: &[u8]) -> bool {
        let LeafKind::Box { dtype, low, high, .. } = &self.kind else { return true };
        let bytes = self.bytes(value);
        match dtype {
            Dtype::Boolean => true,
            Dtype::Int8 => are_within(bytes, low, high, i8::from_le_bytes),
            Dtype::Int16 => are_within(bytes, low, high, i16::from_le_bytes),
            Dtype::Int32 => are_within(bytes, low, high, i32::from_le_bytes),
            Dtype::Int64 => are_within(bytes, low, high, i64::from_le_bytes),
            Dtype::Uint8 => are_within(bytes, low, high, u8::from_le_bytes),
            Dtype::Uint16 => are_within(bytes, low, high, u16::from_le_bytes),
            Dtype::Uint32 => are_within(bytes, low, high, u32::from_le_bytes),
            Dtype::Uint64 => are_within(bytes, low, high, u64::from_le_bytes),
            Dtype::Float16 => are_within(bytes, low, high, half::f16::from_le_bytes),
            Dtype::Float32 => are_within(bytes, low, high, f32::from_le_bytes),
            Dtype::Float64 => are_within(bytes, low, high, f64::from_le_bytes),
        }
    }

    /// [`Layout::as_action`] for one leaf whose structure was checked. `clipped` is the whole value, once it differs.
    fn as_action(&self, value: &[u8], outside: OutOfBounds, clipped: &mut Option<Vec<u8>>) -> Result<(), UsageError> {
        let LeafKind::Box { dtype, shape, low, high } = &self.kind else { return Ok(()) };
        let bytes = self.bytes(value);
        for index in 0..count(shape) {
            let number = dtype.read(bytes, index);
            let (low, high) = (dtype.bound(low, index), dtype.bound(high, index));
            if low <= number && number <= high {
                continue;
            }
            match (number, low, high) {
                _ if !number.is_finite() => {
                    return Err(UsageError::new(self.wrong_element(*dtype, shape, index, number, low, high)));
                }
                (Number::Float(_), ..) if outside == OutOfBounds::Pass => {}
                (Number::Float(float), Number::Float(least), Number::Float(most))
                    if is_rounding(*dtype, float, least, most) =>
                {
                    let bound = if number < low { low } else { high };
                    dtype.write(bound, self.bytes_mut(clipped.get_or_insert_with(|| value.to_vec())), index);
                }
                _ => {
                    return Err(UsageError::new(self.wrong_element(*dtype, shape, index, number, low, high))
                        .hint("clip it before: Gymnasium's `ClipAction` does, and in Python `clip_actions=True`"));
                }
            }
        }
        Ok(())
    }

    fn wrong_element(
        &self,
        dtype: Dtype,
        shape: &[u32],
        index: usize,
        number: Number,
        low: Number,
        high: Number,
    ) -> String {
        let which = if shape.is_empty() { String::new() } else { format!("element {} is ", index_of(shape, index)) };
        let (number, low, high) = (dtype.show(number), dtype.show(low), dtype.show(high));
        format!("{}{which}{number}, allowed is {low} to {high}", at(&self.path))
    }
}

impl LeafKind {
    /// Whether an element may be outside its bounds.
    fn is_bounded(&self) -> bool {
        let LeafKind::Box { dtype, shape, low, high } = self else { return false };
        let (least, most) = dtype.limits();
        let leaves_out = |index| dtype.bound(low, index) > least || dtype.bound(high, index) < most;
        if low.is_empty() || high.is_empty() {
            // Of a layout alone, whose bounds nobody asks for; or of a box without elements.
            return false;
        }
        // One bound stands for all elements, or there is one for each.
        let bounds = if low.len() == dtype.size() && high.len() == dtype.size() { 1 } else { count(shape) };
        *dtype != Dtype::Boolean && (dtype.is_float() || (0..bounds).any(leaves_out))
    }

    /// Every element in which one of n choices is made: the element's index, n, and the first choice.
    pub(super) fn choices(&self) -> impl Iterator<Item = (usize, usize, i64)> {
        let discrete = match self {
            LeafKind::Discrete { n, start } => Some((*n, *start)),
            _ => None,
        };
        let (nvec, start): (&[u64], &[i64]) = match self {
            LeafKind::MultiDiscrete { nvec, start, .. } => (nvec, start),
            _ => (&[], &[]),
        };
        let multi = nvec.iter().copied().zip(start.iter().copied());
        let of = |(index, (n, start)): (usize, (u64, i64))| (index, usize::try_from(n).unwrap_or(usize::MAX), start);
        discrete.into_iter().chain(multi).enumerate().map(of)
    }

    /// Checks the structure of one leaf's bytes.
    fn check(&self, bytes: &[u8]) -> Result<(), String> {
        let binary = |shape: &[u32]| {
            check_binary(bytes).map_err(|(index, byte)| match shape {
                [] => format!("{byte}, expected 0 or 1"),
                shape => format!("element {} is {byte}, expected 0 or 1", index_of(shape, index)),
            })
        };
        match self {
            LeafKind::Box { dtype: Dtype::Boolean, shape, .. } | LeafKind::MultiBinary { shape } => binary(shape),
            LeafKind::Box { .. } => Ok(()),
            LeafKind::Discrete { n, start } => {
                let value = i64::from_le_bytes(array(bytes));
                check_choice(value, *n, *start)
            }
            LeafKind::MultiDiscrete { shape, nvec, start } => {
                for (index, (&n, &start)) in nvec.iter().zip(start).enumerate() {
                    check_choice(i64::from_le_bytes(array(&bytes[8 * index..])), n, start)
                        .map_err(|wrong| format!("element {} is {wrong}", index_of(shape, index)))?;
                }
                Ok(())
            }
            LeafKind::Text { min_length, max_length, sorted, .. } => {
                let text = decode_text(bytes)?;
                let length = text.chars().count();
                let allowed = usize::try_from(*min_length).unwrap_or(0)..=usize::try_from(*max_length).unwrap_or(0);
                if !allowed.contains(&length) {
                    return Err(format!("a text of {length} characters, allowed are {min_length} to {max_length}"));
                }
                match sorted.as_ref().and_then(|set| text.chars().find(|char| set.binary_search(char).is_err())) {
                    None => Ok(()),
                    Some(char) => Err(format!(
                        "the text {} has {}, which is not in its charset",
                        quoted(text),
                        quoted(char.encode_utf8(&mut [0; 4]))
                    )),
                }
            }
        }
    }
}

/// Whether rounding alone put a float outside. An infinite bound is never near.
fn is_rounding(dtype: Dtype, float: f64, low: f64, high: f64) -> bool {
    let largest =
        [low, high].into_iter().filter(|bound| bound.is_finite()).fold(0.0, |most: f64, bound| most.max(bound.abs()));
    (low - float).max(float - high) <= ROUNDING_ULPS * dtype.ulp(largest)
}

/// The text in a Text leaf.
pub(super) fn decode_text(bytes: &[u8]) -> Result<&str, String> {
    let (len, text) = bytes.split_at(4);
    let len = usize::try_from(u32::from_le_bytes(array(len))).unwrap_or(usize::MAX);
    let Some((text, rest)) = text.split_at_checked(len) else {
        return Err(format!("a text of {len} bytes, at most {} fit", text.len()));
    };
    let text = std::str::from_utf8(text)
        .map_err(|error| format!("a text that is not UTF-8 at byte {}", error.valid_up_to()))?;
    if all_zero(rest) { Ok(text) } else { Err("the bytes after the text are not zero".to_owned()) }
}

fn check_choice(value: i64, n: u64, start: i64) -> Result<(), String> {
    // Both are i64s, so their distance, taken modulo 2^64, is exact if it is not negative.
    if value.wrapping_sub(start).cast_unsigned() < n {
        Ok(())
    } else {
        Err(format!("{value}, allowed is {start} to {}", start.saturating_add_unsigned(n - 1)))
    }
}

/// Whether all bytes are 0 or 1; if not, the first that is neither.
fn check_binary(bytes: &[u8]) -> Result<(), (usize, u8)> {
    // One pass without a branch: only a byte above 1 has a bit other than the lowest.
    if bytes.iter().fold(0, |bits, byte| bits | byte) <= 1 {
        return Ok(());
    }
    let found = bytes.iter().enumerate().find(|(_, byte)| **byte > 1);
    found.map_or(Ok(()), |(index, &byte)| Err((index, byte)))
}

/// Whether elements lie between bounds, which hold one element for all, or one for each. NaN lies nowhere.
fn are_within<const N: usize, T: PartialOrd + Copy>(
    bytes: &[u8],
    low: &[u8],
    high: &[u8],
    read: impl Fn([u8; N]) -> T,
) -> bool {
    let elements = bytes.as_chunks::<N>().0;
    match (low.as_chunks::<N>().0, high.as_chunks::<N>().0) {
        (&[low], &[high]) => {
            let (low, high) = (read(low), read(high));
            elements.iter().fold(true, |within, &element| {
                let element = read(element);
                within & (low <= element) & (element <= high)
            })
        }
        (lows, highs) => {
            // A list of one bound stands for all.
            let bounds = lows.iter().cycle().zip(highs.iter().cycle());
            elements.iter().zip(bounds).fold(true, |within, (&element, (&low, &high))| {
                let element = read(element);
                within & (read(low) <= element) & (element <= read(high))
            })
        }
    }
}

fn all_zero(bytes: &[u8]) -> bool {
    bytes.iter().fold(0, |bits, byte| bits | byte) == 0
}

/// Where the declared info fields lie in a view's `info`: a byte per field (1 present, 0 absent), padding to 8, then
/// each field's value in order as in a Dict. Absent values are zeros.
#[derive(Clone, Debug)]
pub struct InfoLayout {
    /// Bytes of one info, and the distance from one info to the next: a multiple of 8; 0 if there are no fields.
    pub stride: usize,
    pub(super) fields: Vec<Field>,
    pub(super) layout: Layout,
}

#[derive(Clone, Debug)]
pub(super) struct Field {
    pub(super) name: String,
    pub(super) tree: Tree,
    leaves: Range<usize>,
}

impl InfoLayout {
    /// The layout of `fields`, whose spaces were checked before.
    ///
    /// # Errors
    ///
    /// Names that cannot be keys, more fields than [`NODES_MAX`], more bytes than [`VALUE_BYTES_MAX`].
    pub fn new(fields: &[InfoField]) -> Result<InfoLayout, String> {
        if fields.len() > NODES_MAX {
            return Err(format!("{} fields, at most {NODES_MAX} are allowed", fields.len()));
        }
        check_names(fields.iter().map(|field| field.name.as_str()))?;
        let mut offset = fields.len().next_multiple_of(8);
        for field in fields {
            offset = end(&field.space, offset);
            if offset > VALUE_BYTES_MAX {
                return Err(format!("an info takes more than {VALUE_BYTES_MAX} bytes"));
            }
        }
        let mut layout = Layout::empty();
        layout.stride = fields.len();
        layout.align(8);
        let mut place = |field: &InfoField| {
            let first = layout.leaves.len();
            let tree = layout.place(&field.space, joined("", &field.name));
            Field { name: field.name.clone(), tree, leaves: first..layout.leaves.len() }
        };
        let fields: Vec<Field> = fields.iter().map(&mut place).collect();
        layout.align(8);
        Ok(InfoLayout { stride: layout.stride, fields, layout })
    }

    /// The fields' names, in order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.fields.iter().map(|field| field.name.as_str())
    }

    /// The leaves of field `index`, with offsets into the whole info.
    ///
    /// # Panics
    ///
    /// When there is no such field.
    pub fn leaves(&self, index: usize) -> &[Leaf] {
        &self.layout.leaves[self.fields[index].leaves.clone()]
    }

    /// Whether field `index` is present in an info of [`InfoLayout::stride`] bytes.
    pub fn is_present(&self, info: &[u8], index: usize) -> bool {
        index < self.fields.len() && info[index] == 1
    }

    /// Checks the structure of `info`, as [`Layout::check`] does; absent fields must be zeros.
    ///
    /// # Errors
    ///
    /// The first field that is wrong, and why, as a fragment that fits after a colon.
    pub fn check(&self, info: &[u8]) -> Result<(), String> {
        self.layout.check_length(info)?;
        self.layout.check_gaps(info)?;
        for (field, &present) in self.fields.iter().zip(info) {
            let leaves = &self.layout.leaves[field.leaves.clone()];
            match present {
                1 => leaves.iter().try_for_each(|leaf| leaf.check(info))?,
                0 if leaves.iter().all(|leaf| all_zero(leaf.bytes(info))) => {}
                0 => return Err(format!("{}absent, but not zero", at(&joined("", &field.name)))),
                other => {
                    let path = joined("", &field.name);
                    return Err(format!("{}its presence is {other}, expected 0 or 1", at(&path)));
                }
            }
        }
        Ok(())
    }

    /// Names and trees of the fields that are present.
    pub(super) fn present<'a>(&'a self, info: &'a [u8]) -> impl Iterator<Item = (&'a str, &'a Tree)> {
        let present = self.fields.iter().zip(info).filter(|(_, present)| **present == 1);
        present.map(|(field, _)| (field.name.as_str(), &field.tree))
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test that panics has failed")]
mod tests {
    use rand::{Rng, SeedableRng};
    use rand_chacha::ChaCha12Rng;

    use super::super::dtype::Number;
    use super::super::examples::{all, cartpole, dict, floats, multi, nested, number_box, text};
    use super::*;

    fn discrete(n: u64) -> Space {
        Space::Discrete { n, start: 0 }
    }

    fn bytes_box(dtype: Dtype, shape: &[u32]) -> Space {
        let (low, high) = dtype.limits();
        number_box(dtype, shape, low, high)
    }

    #[test]
    fn leaves_lie_where_the_interface_says() {
        let binary = |n: u32| Space::MultiBinary { shape: vec![n] };
        for (space, stride, offsets) in [
            (cartpole(), 16, vec![0]),
            (bytes_box(Dtype::Float32, &[3]), 16, vec![0]),
            (bytes_box(Dtype::Float64, &[]), 8, vec![0]),
            (bytes_box(Dtype::Uint8, &[210, 160, 3]), 100_800, vec![0]),
            (bytes_box(Dtype::Boolean, &[9]), 16, vec![0]),
            (discrete(2), 8, vec![0]),
            (multi(), 32, vec![0]),
            (binary(5), 8, vec![0]),
            (text(1, 3, None), 16, vec![0]),
            (text(1, 10, None), 48, vec![0]),
            (Space::Tuple(vec![discrete(32), discrete(11), discrete(2)]), 24, vec![0, 8, 16]),
            (Space::Tuple(vec![binary(1), text(0, 1, None), binary(3), discrete(2)]), 24, vec![0, 4, 12, 16]),
            (
                Space::Tuple(vec![binary(1), bytes_box(Dtype::Int16, &[3]), bytes_box(Dtype::Float16, &[])]),
                16,
                vec![0, 2, 8],
            ),
            // A Dict begins at a multiple of 8, and the leaf after it needs only its own alignment.
            (dict(&[("a", binary(1)), ("b", dict(&[("c", binary(1))])), ("d", binary(1))]), 16, vec![0, 8, 9]),
            (nested(), 88, vec![0, 8, 24, 32, 64, 68]),
        ] {
            let layout = space.layout();
            assert_eq!(layout.stride, stride, "{space}");
            assert_eq!(space.stride(), stride, "{space}");
            let found: Vec<usize> = layout.leaves.iter().map(|leaf| leaf.offset).collect();
            assert_eq!(found, offsets, "{space}");
        }
    }

    #[test]
    fn paths_name_leaves() {
        let paths: Vec<String> = nested().layout().leaves.into_iter().map(|leaf| leaf.path).collect();
        assert_eq!(paths, ["bits", "word", "inner[\"a.b\"][0]", "inner[\"a.b\"][1]", "inner.flag", "x"]);
    }

    #[test]
    fn a_float_box_is_not_looked_at() {
        let layout = cartpole().layout();
        assert!(layout.checked.is_empty() && layout.gaps.is_empty());
        assert_eq!(layout.check(&[0xff; 16]), Ok(()));
    }

    #[test]
    fn claims_that_are_no_values_are_refused() {
        let word = |text: &[u8], max: u32| {
            let mut bytes = u32::try_from(text.len()).unwrap().to_le_bytes().to_vec();
            bytes.extend(text);
            bytes.resize((text_bytes(max)).next_multiple_of(8), 0);
            bytes
        };
        let raw = |count: u32, rest: &[u8]| [count.to_le_bytes().as_slice(), rest].concat();
        let int = |value: i64| value.to_le_bytes().to_vec();
        let ints = |values: &[i64]| values.iter().flat_map(|value| value.to_le_bytes()).collect::<Vec<u8>>();
        let abc = text(1, 3, Some("abc"));
        let emoji = "🙂".repeat(3);
        for (space, bytes, expected) in [
            (discrete(2), int(1), Ok(())),
            (discrete(2), vec![0; 16], Err("16 bytes, expected 8")),
            (discrete(2), vec![], Err("0 bytes, expected 8")),
            (discrete(2), int(2), Err("2, allowed is 0 to 1")),
            (discrete(2), int(-1), Err("-1, allowed is 0 to 1")),
            (Space::Discrete { n: 3, start: -1 }, int(-1), Ok(())),
            (Space::Discrete { n: 3, start: -1 }, int(2), Err("2, allowed is -1 to 1")),
            (
                Space::Discrete { n: 1, start: i64::MIN },
                int(i64::MAX),
                Err("9223372036854775807, allowed is -9223372036854775808 to -9223372036854775808"),
            ),
            (multi(), ints(&[-2, 0, 9, i64::MAX]), Ok(())),
            (multi(), ints(&[-2, 1, 9, i64::MAX]), Err("element [0, 1] is 1, allowed is 0 to 0")),
            (
                multi(),
                ints(&[-2, 0, 9, i64::MIN]),
                Err("element [1, 1] is -9223372036854775808, allowed is 9223372036854775806 to 9223372036854775807"),
            ),
            (
                Space::MultiBinary { shape: vec![2, 2] },
                vec![1, 0, 1, 2, 0, 0, 0, 0],
                Err("element [1, 1] is 2, expected 0 or 1"),
            ),
            (
                Space::MultiBinary { shape: vec![2, 2] },
                vec![1, 0, 1, 1, 0, 0, 1, 0],
                Err("the padding at byte 4 is not zero"),
            ),
            (Space::MultiBinary { shape: vec![] }, vec![3, 0, 0, 0, 0, 0, 0, 0], Err("3, expected 0 or 1")),
            (bytes_box(Dtype::Boolean, &[8]), vec![255; 8], Err("element [0] is 255, expected 0 or 1")),
            (bytes_box(Dtype::Float32, &[1]), vec![255; 8], Err("the padding at byte 4 is not zero")),
            (abc.clone(), word(b"cab", 3), Ok(())),
            (abc.clone(), word(b"", 3), Err("a text of 0 characters, allowed are 1 to 3")),
            (abc.clone(), word(b"abca", 3), Err("a text of 4 characters, allowed are 1 to 3")),
            (abc.clone(), word(b"ax\x1b", 3), Err("the text \"ax\\u{1b}\" has \"x\", which is not in its charset")),
            (abc.clone(), word(b"a\xff", 3), Err("a text that is not UTF-8 at byte 1")),
            (abc.clone(), raw(13, &[b'a'; 12]), Err("a text of 13 bytes, at most 12 fit")),
            (abc.clone(), raw(u32::MAX, &[b'a'; 12]), Err("a text of 4294967295 bytes, at most 12 fit")),
            (abc.clone(), raw(1, b"aa\0\0\0\0\0\0\0\0\0\0"), Err("the bytes after the text are not zero")),
            (text(3, 3, None), word(emoji.as_bytes(), 3), Ok(())),
            (
                Space::Tuple(vec![discrete(1), abc]),
                vec![0; 24],
                Err("`[1]`: a text of 0 characters, allowed are 1 to 3"),
            ),
        ] {
            let found = space.layout().check(&bytes);
            assert_eq!(found, expected.map_err(str::to_owned), "{space} {bytes:?}");
        }
    }

    #[test]
    fn bounds_are_gymnasiums() {
        let (low, high) = (floats(&[-1.0, -1.0, 0.0, f32::NEG_INFINITY]), floats(&[1.0, 1.0, f32::INFINITY, 0.0]));
        let layout = Space::Box { dtype: Dtype::Float32, shape: vec![2, 2], low, high }.layout();
        let outside = |values: [f32; 4]| layout.contains(&floats(&values)).err();
        assert_eq!(outside([-1.0, 1.0, f32::INFINITY, f32::NEG_INFINITY]), None);
        assert_eq!(outside([0.0, 1.1, 0.0, 0.0]), Some("element [0, 1] is 1.1, allowed is -1.0 to 1.0".to_owned()));
        assert_eq!(outside([0.0, 0.0, f32::NAN, 0.0]), Some("element [1, 0] is nan, allowed is 0.0 to inf".to_owned()));
        let space =
            dict(&[("speed", number_box(Dtype::Uint64, &[], Number::Int(3), Number::Int(i128::from(u64::MAX))))]);
        assert_eq!(space.layout().contains(&[255; 8]), Ok(()));
        let wrong = space.layout().contains(&2u64.to_le_bytes());
        assert_eq!(wrong, Err("`speed`: 2, allowed is 3 to 18446744073709551615".to_owned()));
    }

    #[test]
    fn floats_outside_by_rounding_are_bounds() {
        let number = |dtype, low: f64, high: f64| {
            number_box(dtype, &[1], Number::Float(dtype.round(low)), Number::Float(dtype.round(high))).layout()
        };
        for dtype in [Dtype::Float16, Dtype::Float32, Dtype::Float64] {
            for (low, high) in
                [(-0.4, 0.3), (0.0, 0.1), (-10.0, 0.1), (f64::NEG_INFINITY, 0.7), (-2.0, -1.0), (0.0, 0.0)]
            {
                let layout = number(dtype, low, high);
                let value = |value: f64| {
                    let mut bytes = vec![0; 8];
                    dtype.write(Number::Float(value), &mut bytes, 0);
                    bytes
                };
                let (low, high) = (dtype.round(low), dtype.round(high));
                let unit = dtype.ulp(if low.is_finite() { low.abs().max(high.abs()) } else { high.abs() });
                for outside in [OutOfBounds::Refuse, OutOfBounds::Pass] {
                    let as_action = |number: f64| layout.as_action(&value(number), outside);
                    let clipped = |bound| (outside == OutOfBounds::Refuse).then(|| value(bound));
                    assert_eq!(as_action(high), Ok(None));
                    assert_eq!(as_action(high + unit), Ok(clipped(high)), "{} {low} {high}", dtype.name());
                    assert_eq!(as_action(high + 3.0 * unit), Ok(clipped(high)), "{} {low} {high}", dtype.name());
                    let far = as_action(high + 6.0 * unit);
                    assert_eq!(far.is_ok(), outside == OutOfBounds::Pass, "{far:?}");
                    for wrong in [f64::NAN, f64::INFINITY] {
                        assert!(as_action(wrong).is_err_and(|error| error.hints.is_empty()));
                    }
                    assert_eq!(as_action(f64::NEG_INFINITY).is_ok(), low.is_infinite());
                    if low.is_finite() {
                        assert_eq!(as_action(low - 3.0 * unit), Ok(clipped(low)), "{} {low} {high}", dtype.name());
                        assert_eq!(as_action(-dtype.round(60_000.0)).is_ok(), outside == OutOfBounds::Pass);
                    }
                }
            }
        }
        // Every unscaling of bounds with one decimal digit, as trainers compute it in 32 bits.
        for (low, high) in (-100i16..100).flat_map(|low| (low + 1..=100).map(move |high| (low, high))) {
            let [low, high] = [low, high].map(|tenths| f32::from(tenths) / 10.0);
            let layout = number(Dtype::Float32, low.into(), high.into());
            for scaled in [-1.0f32, 1.0] {
                let mut action = (low + 0.5 * (scaled + 1.0) * (high - low)).to_le_bytes().to_vec();
                action.extend([0; 4]);
                let sent = layout.as_action(&action, OutOfBounds::Refuse).unwrap().unwrap_or(action);
                assert_eq!(layout.contains(&sent), Ok(()), "{low} {high}");
            }
        }
        // No other space is judged differently.
        for space in [discrete(3), bytes_box(Dtype::Uint8, &[8]), multi()] {
            let layout = space.layout();
            for bytes in [vec![0; layout.stride], vec![3; layout.stride], vec![255; layout.stride]] {
                for outside in [OutOfBounds::Refuse, OutOfBounds::Pass] {
                    let taken = layout.as_action(&bytes, outside).map_err(|error| error.message);
                    assert_eq!(taken, layout.contains(&bytes).map(|()| None), "{space}");
                }
            }
        }
    }

    #[test]
    fn any_bytes_are_judged_without_a_panic() {
        let mut rng = ChaCha12Rng::seed_from_u64(1);
        for space in all() {
            let layout = space.layout();
            let mut bytes = vec![0; layout.stride];
            for round in 0..500 {
                // First plain noise; then a value with a few changed bytes, which passes more checks.
                if round % 2 == 0 {
                    rng.fill_bytes(&mut bytes);
                } else {
                    layout.sample(&mut rng, None, &mut bytes);
                    for _ in 0..rng.next_u32() % 3 {
                        let at = usize::try_from(rng.next_u32()).unwrap() % bytes.len();
                        bytes[at] = rng.next_u32().to_le_bytes()[0];
                    }
                }
                if layout.check(&bytes).is_ok() {
                    let mut back = vec![1; layout.stride];
                    layout.from_json(&layout.to_json(&bytes), &mut back).unwrap();
                    assert!(layout.check(&back).is_ok());
                }
                let _ = layout.contains(&bytes);
                let cut = usize::try_from(rng.next_u32()).unwrap() % bytes.len();
                assert!(layout.check(&bytes[..cut]).is_err());
            }
        }
    }

    #[test]
    fn masks_have_a_byte_per_choice() {
        for (space, len) in [(nested(), 3 + 5 + 1 + 3 + 2), (multi(), 11), (cartpole(), 0)] {
            assert_eq!((space.layout().mask_len(), space.mask_len()), (Ok(len), Ok(len)), "{space}");
        }
        assert!(Space::Discrete { n: u64::MAX / 2, start: 0 }.mask_len().is_err());
        let huge = Space::Tuple(vec![discrete(u64::MAX / 2), discrete(u64::MAX / 2), discrete(u64::MAX / 2)]);
        assert!(huge.mask_len().is_err());
        assert_eq!(huge.layout().check_mask(&[]), Err("a mask would have more than 16777216 bytes".to_owned()));
        let layout = discrete(3).layout();
        assert_eq!(layout.check_mask(&[0, 0, 0]), Ok(()));
        assert_eq!(layout.check_mask(&[0, 2, 0]), Err("byte 1 of the mask is 2, expected 0 or 1".to_owned()));
        assert_eq!(layout.check_mask(&[0, 1]), Err("a mask of 2 bytes, expected 3".to_owned()));
    }

    #[test]
    fn a_pass_over_bounds_is_what_contains_says() {
        let mut rng = ChaCha12Rng::seed_from_u64(2);
        for space in all() {
            let layout = space.layout();
            let mut bytes = vec![0; layout.stride];
            for _ in 0..200 {
                layout.sample(&mut rng, None, &mut bytes);
                for _ in 0..rng.next_u32() % 3 {
                    let at = usize::try_from(rng.next_u32()).unwrap() % bytes.len();
                    bytes[at] = rng.next_u32().to_le_bytes()[0];
                }
                if layout.check(&bytes).is_ok() {
                    assert_eq!(layout.is_within_bounds(&bytes), layout.contains(&bytes).is_ok(), "{space}");
                }
            }
        }
        let pixels = bytes_box(Dtype::Uint8, &[8]).layout();
        assert!(pixels.bounded.is_empty(), "every byte is within the bounds of a picture");
    }

    #[test]
    fn a_mask_without_an_open_choice_is_named() {
        let space = Space::Tuple(vec![Space::Discrete { n: 3, start: -1 }, multi()]);
        let layout = space.layout();
        let open = [0, 1, 1, 0, 1, 0, 0, 0, 1, 0, 1, 0, 1, 1];
        assert_eq!(layout.check_open(&open), Ok(()));
        let mut closed = open;
        closed[..3].fill(0);
        assert_eq!(layout.check_open(&closed), Err("`[0]`: no choice is open".to_owned()));
        let mut closed = open;
        closed[9..12].fill(0);
        assert_eq!(layout.check_open(&closed), Err("`[1]`: no choice is open in element [1, 0]".to_owned()));
        assert_eq!(discrete(2).layout().check_open(&[0, 0]), Err("no choice is open".to_owned()));
        assert_eq!(cartpole().layout().check_open(&[]), Ok(()));
    }

    #[test]
    fn masked_actions_are_named() {
        let space = Space::Tuple(vec![Space::Discrete { n: 3, start: -1 }, multi()]);
        let layout = space.layout();
        let action = |values: [i64; 5]| values.iter().flat_map(|value| value.to_le_bytes()).collect::<Vec<u8>>();
        let mask = [0, 1, 1, 0, 1, 0, 0, 0, 1, 0, 0, 0, 1, 1];
        let last = i64::MAX - 1;
        for (values, expected) in [
            ([0, -1, 0, 7, last], Ok(())),
            ([-1, -1, 0, 7, last], Err("`[0]`: -1, which is masked")),
            ([0, -2, 0, 7, last], Err("`[1]`: element [0, 0] is -2, which is masked")),
            // If the mask allows nothing, the first choice is allowed.
            ([0, -1, 0, 8, last], Err("`[1]`: element [1, 0] is 8, which is masked")),
        ] {
            let found = layout.check_unmasked(&action(values), &mask);
            assert_eq!(found, expected.map_err(str::to_owned), "{values:?}");
        }
    }

    #[test]
    fn infos_have_a_byte_per_field() {
        let field = |name: &str, space: Space| InfoField { name: name.to_owned(), space };
        let none = InfoLayout::new(&[]).unwrap();
        assert_eq!((none.stride, none.check(&[]), none.to_json(&[]).len()), (0, Ok(()), 0));
        assert!(none.check(&[0; 8]).is_err());

        let flags = Space::MultiBinary { shape: vec![1] };
        let layout =
            InfoLayout::new(&[field("a", flags.clone()), field("b", discrete(5)), field("c d", dict(&[("x", flags)]))])
                .unwrap();
        assert_eq!(layout.stride, 8 + 8 + 8 + 8);
        assert_eq!(layout.names().collect::<Vec<_>>(), ["a", "b", "c d"]);
        assert_eq!(layout.leaves(1)[0].offset, 16);
        let mut info = [0; 32];
        (info[0], info[8], info[1], info[16]) = (1, 1, 1, 4);
        assert_eq!(layout.check(&info), Ok(()));
        assert_eq!(serde_json::Value::Object(layout.to_json(&info)).to_string(), r#"{"a":[1],"b":4}"#);
        assert!(layout.is_present(&info, 1) && !layout.is_present(&info, 2) && !layout.is_present(&info, 3));
        for (at, byte, expected) in [
            (0, 2, "`a`: its presence is 2, expected 0 or 1"),
            (0, 0, "`a`: absent, but not zero"),
            (8, 2, "`a`: element [0] is 2, expected 0 or 1"),
            (16, 5, "`b`: 5, allowed is 0 to 4"),
            (24, 1, "`[\"c d\"]`: absent, but not zero"),
            (3, 1, "the padding at byte 3 is not zero"),
            (9, 1, "the padding at byte 9 is not zero"),
        ] {
            let mut wrong = info;
            wrong[at] = byte;
            assert_eq!(layout.check(&wrong), Err(expected.to_owned()));
        }
        assert!(InfoLayout::new(&[field("a", discrete(1)), field("a", discrete(1))]).is_err());
        assert!(InfoLayout::new(&[field("a\n", discrete(1))]).is_err());
        let big = bytes_box(Dtype::Uint8, &[1 << 24]);
        assert_eq!(InfoLayout::new(&[field("a", big)]).unwrap_err(), "an info takes more than 16777216 bytes");
    }
}
