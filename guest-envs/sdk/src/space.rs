//! Gymnasium's spaces, typed: each knows the Rust type of its values and how they travel as bytes.
//!
//! | Gymnasium        | space                | value in Rust                                                   |
//! |------------------|----------------------|-----------------------------------------------------------------|
//! | `Box`            | [`BoxSpace<V>`]      | `V`: a number, nested arrays of numbers, or a `Vec` of numbers  |
//! | `Discrete`       | [`Discrete`]         | `i64`                                                           |
//! | `MultiDiscrete`  | [`MultiDiscrete<V>`] | `V`: arrays or a `Vec` of `i64`                                 |
//! | `MultiBinary`    | [`MultiBinary<V>`]   | `V`: arrays or a `Vec` of `bool`                                |
//! | `Text`           | [`Text`]             | `String`                                                        |
//! | `Tuple`          | a tuple of spaces    | the tuple of their values                                       |
//! | `Dict`           | a [`dict!`](crate::dict) struct | the struct that `dict!` makes beside it              |
//!
//! Where the value is an array, its shape is its type's: `BoxSpace<[[u8; 3]; 64]>` has shape (64, 3), and an
//! observation of another shape does not compile. A `Vec` has the shape that its space was made with; a value of
//! another length is an error when it is returned.

use std::fmt;

pub use crate::element::{Element, F16, Tensor};
use crate::raw::{BoxSpace as BoxNode, DictSpace, DiscreteSpace, MultiBinarySpace, MultiDiscreteSpace};
use crate::raw::{Dtype, OutOfBounds, SpaceNode, TextSpace, TupleSpace};

/// A space: which values there are, and how a value is written as bytes.
///
/// The spaces of this module, tuples of spaces and the structs of [`dict!`](crate::dict) implement it. The methods are
/// for the SDK alone.
pub trait Space: 'static {
    /// The Rust type of one value.
    type Value: fmt::Debug;

    /// Appends this space's nodes to `tree` and returns the index of its own.
    #[doc(hidden)]
    fn describe(&self, tree: &mut Vec<SpaceNode>) -> u32;

    /// Writes one value, which must be in the space. Only the bounds of a Box are not checked: Gymnasium leaves them to
    /// the env.
    #[doc(hidden)]
    fn write(&self, value: &Self::Value, to: &mut Writer) -> Result<(), Mismatch>;

    /// Writes zeros for an absent value.
    #[doc(hidden)]
    fn write_absent(&self, to: &mut Writer);

    /// Reads one value, which must be in the space.
    #[doc(hidden)]
    fn read(&self, from: &mut Reader<'_>) -> Result<Self::Value, Mismatch>;

    /// The bytes of action mask that this space takes: one for each choice of a Discrete or MultiDiscrete.
    #[doc(hidden)]
    fn choices(&self) -> u64 {
        0
    }

    /// Whether `mask` allows the value. Takes this space's bytes from the front of the mask.
    #[doc(hidden)]
    fn allows(&self, _value: &Self::Value, _mask: &mut Mask<'_>) -> bool {
        true
    }
}

/// The Rust type of a space's values.
pub type ValueOf<S> = <S as Space>::Value;

/// The reason why a value is not in its space.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mismatch(String);

impl Mismatch {
    pub(crate) fn new(message: impl Into<String>) -> Self {
        Self(message.into())
    }

    /// Adds the name of the child in which the error was found.
    #[doc(hidden)]
    #[must_use]
    pub fn within(self, key: impl fmt::Display) -> Self {
        Self(format!("`{key}`: {}", self.0))
    }
}

impl fmt::Display for Mismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Mismatch {}

/// The alignment of a whole value, and of a Dict or Tuple within a value.
const COMPOSITE_ALIGNMENT: usize = 8;

/// Collects values as the interface wants them: aligned, little-endian, padded.
#[doc(hidden)]
#[derive(Debug)]
pub struct Writer {
    pub(crate) bytes: Vec<u8>,
}

impl Writer {
    pub(crate) fn with_capacity(bytes: usize) -> Self {
        Self { bytes: Vec::with_capacity(bytes) }
    }

    pub(crate) fn len(&self) -> usize {
        self.bytes.len()
    }

    pub(crate) fn truncate(&mut self, bytes: usize) {
        self.bytes.truncate(bytes);
    }

    pub(crate) fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }

    #[inline]
    fn align(&mut self, alignment: usize) {
        let end = self.bytes.len().next_multiple_of(alignment);
        if end != self.bytes.len() {
            self.bytes.resize(end, 0);
        }
    }

    /// Pads before the first and after the last child of a whole value, and before the first of a nested Dict or Tuple.
    #[inline]
    pub fn align_composite(&mut self) {
        self.align(COMPOSITE_ALIGNMENT);
    }

    #[inline]
    fn elements<T: Element>(&mut self, elements: &[T]) {
        self.align(T::SIZE);
        T::write(elements, &mut self.bytes);
    }

    fn zeros(&mut self, alignment: usize, count: usize) {
        self.align(alignment);
        self.bytes.resize(self.bytes.len() + count, 0);
    }
}

/// Takes values apart again.
#[doc(hidden)]
#[derive(Debug)]
pub struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
    /// The rule for finite floats outside their bounds.
    outside: OutOfBounds,
}

impl<'a> Reader<'a> {
    pub(crate) fn new(bytes: &'a [u8], outside: OutOfBounds) -> Self {
        Self { bytes, at: 0, outside }
    }

    #[inline]
    fn take(&mut self, alignment: usize, count: usize) -> Result<&'a [u8], Mismatch> {
        let start = self.at.next_multiple_of(alignment);
        let taken = start.checked_add(count).and_then(|end| self.bytes.get(start..end));
        self.at = start.saturating_add(count);
        taken.ok_or_else(|| Mismatch::new(format!("{} bytes are too few for the space", self.bytes.len())))
    }

    #[inline]
    pub fn align_composite(&mut self) {
        self.at = self.at.next_multiple_of(COMPOSITE_ALIGNMENT);
    }

    /// Checks that the bytes end with the value and its padding.
    #[inline]
    pub(crate) fn finish(&mut self) -> Result<(), Mismatch> {
        self.align_composite();
        match self.bytes.len() == self.at {
            true => Ok(()),
            false => Err(Mismatch::new(format!("{} bytes where the space has {}", self.bytes.len(), self.at))),
        }
    }
}

/// The part of an action mask that the rest of a space has not taken yet.
#[doc(hidden)]
#[derive(Debug)]
pub struct Mask<'a>(pub(crate) &'a [u8]);

impl<'a> Mask<'a> {
    fn take(&mut self, choices: u64) -> &'a [u8] {
        let count = usize::try_from(choices).unwrap_or(usize::MAX).min(self.0.len());
        let (taken, rest) = self.0.split_at(count);
        self.0 = rest;
        taken
    }
}

/// The number of elements of an array of this shape.
#[track_caller]
fn elements_of(shape: &[u32]) -> usize {
    shape
        .iter()
        .try_fold(1_usize, |product, &side| product.checked_mul(side as usize))
        .expect("a shape that fits memory")
}

/// The shape of a tensor type, or of this value of the type.
#[track_caller]
fn shape_of<V: Tensor>(value: &V) -> Vec<u32> {
    V::shape().unwrap_or_else(|| vec![u32::try_from(value.elements().len()).expect("at most 2^32 - 1 elements")])
}

/// Checks another shape for a value's elements: it must have as many elements, or the author made a mistake.
#[track_caller]
fn reshape(from: &[u32], to: &[u32]) -> Vec<u32> {
    assert_eq!(elements_of(from), elements_of(to), "{from:?} cannot be reshaped to {to:?}");
    to.to_vec()
}

fn check_length(given: usize, shape: &[u32], kind: &str) -> Result<(), Mismatch> {
    let wanted = elements_of(shape);
    match given == wanted {
        true => Ok(()),
        false => Err(Mismatch::new(format!("{given} elements in a {kind} of shape {shape:?}, which has {wanted}"))),
    }
}

/// Gymnasium's `Box`: numbers between bounds, in the shape and with the dtype of `V`.
///
/// `V` is an element ([`f32`], [`u8`], `bool`, …: shape `()`), arrays of them (`[[u8; 3]; 64]`: shape (64, 3)), or a
/// `Vec` (the shape is given when the space is made). The default is unbounded, for a `V` of known shape.
#[derive(Clone, Debug, PartialEq)]
pub struct BoxSpace<V: Tensor> {
    shape: Vec<u32>,
    low: Bound<V>,
    high: Bound<V>,
}

#[derive(Clone, Debug, PartialEq)]
enum Bound<V: Tensor> {
    Same(V::Element),
    Each(V),
}

impl<V: Tensor> Bound<V> {
    /// The bounds: one element for all, or one for each.
    fn elements(&self) -> &[V::Element] {
        match self {
            Self::Same(element) => std::slice::from_ref(element),
            Self::Each(value) => value.elements(),
        }
    }

    fn at(&self, index: usize) -> V::Element {
        match self {
            Self::Same(element) => *element,
            Self::Each(value) => value.elements()[index],
        }
    }

    fn bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        <V::Element as Element>::write(self.elements(), &mut bytes);
        bytes
    }
}

impl<V: Tensor> BoxSpace<V> {
    /// A space with bounds for each element; it has their shape.
    ///
    /// # Panics
    ///
    /// If `low` and `high` are `Vec`s of different lengths.
    #[must_use]
    #[track_caller]
    pub fn new(low: V, high: V) -> Self {
        let shape = shape_of(&low);
        assert_eq!(shape, shape_of(&high), "the bounds of a Box have one shape");
        Self { shape, low: Bound::Each(low), high: Bound::Each(high) }
    }

    /// A space with the same bounds for all elements.
    ///
    /// # Panics
    ///
    /// If `V` is a `Vec`, which has no shape of its own: see [`shaped`](Self::shaped).
    #[must_use]
    #[track_caller]
    pub fn all(low: V::Element, high: V::Element) -> Self {
        let shape = V::shape().expect("a Box of a Vec is made with `shaped`");
        Self { shape, low: Bound::Same(low), high: Bound::Same(high) }
    }

    /// Gives the same elements another shape, in C order.
    ///
    /// # Panics
    ///
    /// If that shape has another number of elements.
    #[must_use]
    #[track_caller]
    pub fn reshaped(self, shape: &[u32]) -> Self {
        Self { shape: reshape(&self.shape, shape), ..self }
    }
}

impl<T: Element> BoxSpace<Vec<T>> {
    /// A space of arrays of this shape, in C order, with the same bounds for all elements.
    #[must_use]
    pub fn shaped(shape: &[u32], low: T, high: T) -> Self {
        Self { shape: shape.to_vec(), low: Bound::Same(low), high: Bound::Same(high) }
    }
}

impl<V: Tensor> Default for BoxSpace<V> {
    #[track_caller]
    fn default() -> Self {
        Self::all(V::Element::MIN, V::Element::MAX)
    }
}

impl<V: Tensor> Space for BoxSpace<V> {
    type Value = V;

    fn describe(&self, tree: &mut Vec<SpaceNode>) -> u32 {
        let (low, high) = (self.low.bytes(), self.high.bytes());
        push(tree, SpaceNode::Box(BoxNode { dtype: V::Element::DTYPE, shape: self.shape.clone(), low, high }))
    }

    #[inline]
    fn write(&self, value: &V, to: &mut Writer) -> Result<(), Mismatch> {
        if V::FLEXIBLE {
            check_length(value.elements().len(), &self.shape, "Box")?;
        }
        to.elements(value.elements());
        Ok(())
    }

    fn write_absent(&self, to: &mut Writer) {
        to.zeros(V::Element::SIZE, V::Element::SIZE * elements_of(&self.shape));
    }

    fn read(&self, from: &mut Reader<'_>) -> Result<V, Mismatch> {
        let value: V = read_elements(&self.shape, from)?;
        let is_float = matches!(V::Element::DTYPE, Dtype::Float16 | Dtype::Float32 | Dtype::Float64);
        let passes = from.outside == OutOfBounds::Pass && is_float;
        let outside = |(index, element): (usize, &V::Element)| {
            let (low, high) = (self.low.at(index), self.high.at(index));
            let inside = low <= *element && *element <= high;
            // Finite: false of NaN as well.
            let passes = passes && V::Element::MIN < *element && *element < V::Element::MAX;
            (!(inside || passes)).then_some((low, *element, high))
        };
        match value.elements().iter().enumerate().find_map(outside) {
            None => Ok(value),
            Some((low, element, high)) => Err(Mismatch::new(format!("{element:?} is not within {low:?} and {high:?}"))),
        }
    }
}

fn read_elements<V: Tensor>(shape: &[u32], from: &mut Reader<'_>) -> Result<V, Mismatch> {
    let count = elements_of(shape);
    let bytes = from.take(V::Element::SIZE, V::Element::SIZE * count)?;
    let mut well_formed = true;
    let value = V::filled(count, |elements| well_formed = V::Element::read(bytes, elements));
    match well_formed {
        true => Ok(value),
        false => Err(Mismatch::new("a boolean is neither 0 nor 1")),
    }
}

/// Gymnasium's `Discrete`: the integers from `start` (0 unless told) up to but without `start + n`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Discrete {
    n: i64,
    start: i64,
}

impl Discrete {
    /// A space of `n` choices: 0, …, `n - 1`.
    ///
    /// # Panics
    ///
    /// If `n` is less than 1.
    #[must_use]
    #[track_caller]
    pub const fn new(n: i64) -> Self {
        assert!(n > 0, "a Discrete has at least one choice");
        Self { n, start: 0 }
    }

    /// The same number of choices, from `start` on.
    ///
    /// # Panics
    ///
    /// If the last choice does not fit an `i64`.
    #[must_use]
    #[track_caller]
    pub const fn starting_at(self, start: i64) -> Self {
        assert!(start.checked_add(self.n - 1).is_some(), "a Discrete ends within 64 bits");
        Self { start, ..self }
    }
}

impl Space for Discrete {
    type Value = i64;

    fn describe(&self, tree: &mut Vec<SpaceNode>) -> u32 {
        push(tree, SpaceNode::Discrete(DiscreteSpace { n: self.n.cast_unsigned(), start: self.start }))
    }

    #[inline]
    fn write(&self, value: &i64, to: &mut Writer) -> Result<(), Mismatch> {
        check_choice(*value, self.n, self.start)?;
        to.elements(std::slice::from_ref(value));
        Ok(())
    }

    fn write_absent(&self, to: &mut Writer) {
        to.zeros(8, 8);
    }

    #[inline]
    fn read(&self, from: &mut Reader<'_>) -> Result<i64, Mismatch> {
        let value: i64 = read_elements(&[], from)?;
        check_choice(value, self.n, self.start)?;
        Ok(value)
    }

    fn choices(&self) -> u64 {
        self.n.cast_unsigned()
    }

    fn allows(&self, value: &i64, mask: &mut Mask<'_>) -> bool {
        is_set(mask.take(self.choices()), value - self.start)
    }
}

/// Whether a choice is one of the `n` from `start` on.
#[inline]
fn check_choice(choice: i64, n: i64, start: i64) -> Result<(), Mismatch> {
    let last = start + (n - 1);
    match (start..=last).contains(&choice) {
        true => Ok(()),
        false => Err(Mismatch::new(format!("{choice} is not from {start} to {last}"))),
    }
}

/// Whether a mask leaves a choice open. If it closes all of them, the first is open: samplers take that one.
fn is_set(mask: &[u8], choice: i64) -> bool {
    let open = usize::try_from(choice).ok().and_then(|choice| mask.get(choice)) == Some(&1);
    open || choice == 0 && mask.iter().all(|&byte| byte == 0)
}

/// Gymnasium's `MultiDiscrete`: an array of choices, each with a number of its own.
///
/// `V` holds `i64`: `[i64; 3]`, `[[i64; 2]; 2]` or `Vec<i64>`.
#[derive(Clone, Debug, PartialEq)]
pub struct MultiDiscrete<V: Tensor<Element = i64>> {
    shape: Vec<u32>,
    nvec: V,
    start: Option<V>,
}

impl<V: Tensor<Element = i64>> MultiDiscrete<V> {
    /// A space with `nvec` choices for each element.
    ///
    /// # Panics
    ///
    /// If one of them is less than 1.
    #[must_use]
    #[track_caller]
    pub fn new(nvec: V) -> Self {
        assert!(nvec.elements().iter().all(|&n| n > 0), "every choice of a MultiDiscrete has at least one option");
        Self { shape: shape_of(&nvec), nvec, start: None }
    }

    /// Sets the least value of each element, which is 0 by default.
    ///
    /// # Panics
    ///
    /// If `start` has another length than `nvec`, or an element's last value does not fit an `i64`.
    #[must_use]
    #[track_caller]
    pub fn starting_at(self, start: V) -> Self {
        let (first, counts) = (start.elements(), self.nvec.elements());
        assert_eq!(first.len(), counts.len(), "start and nvec have one shape");
        let fits = first.iter().zip(counts).all(|(first, n)| first.checked_add(n - 1).is_some());
        assert!(fits, "a MultiDiscrete ends within 64 bits");
        Self { start: Some(start), ..self }
    }

    /// Gives the same elements another shape, in C order.
    ///
    /// # Panics
    ///
    /// If that shape has another number of elements.
    #[must_use]
    #[track_caller]
    pub fn reshaped(self, shape: &[u32]) -> Self {
        Self { shape: reshape(&self.shape, shape), ..self }
    }

    /// Whether every choice is one of its options.
    fn check(&self, value: &V) -> Result<(), Mismatch> {
        value.elements().iter().zip(self.options()).enumerate().try_for_each(|(index, (&choice, (n, start)))| {
            check_choice(choice, n, start).map_err(|mismatch| mismatch.within(index))
        })
    }

    /// The number of options of each element, and the first of them.
    fn options(&self) -> impl Iterator<Item = (i64, i64)> {
        let start = |index| self.start.as_ref().map_or(0, |start| start.elements()[index]);
        self.nvec.elements().iter().enumerate().map(move |(index, &n)| (n, start(index)))
    }
}

impl<V: Tensor<Element = i64>> Space for MultiDiscrete<V> {
    type Value = V;

    fn describe(&self, tree: &mut Vec<SpaceNode>) -> u32 {
        let nvec = self.nvec.elements().iter().map(|n| n.cast_unsigned()).collect();
        let start = self.start.as_ref().map_or_else(Vec::new, |start| start.elements().to_vec());
        push(tree, SpaceNode::MultiDiscrete(MultiDiscreteSpace { shape: self.shape.clone(), nvec, start }))
    }

    fn write(&self, value: &V, to: &mut Writer) -> Result<(), Mismatch> {
        check_length(value.elements().len(), &self.shape, "MultiDiscrete")?;
        self.check(value)?;
        to.elements(value.elements());
        Ok(())
    }

    fn write_absent(&self, to: &mut Writer) {
        to.zeros(8, 8 * elements_of(&self.shape));
    }

    fn read(&self, from: &mut Reader<'_>) -> Result<V, Mismatch> {
        let value = read_elements(&self.shape, from)?;
        self.check(&value)?;
        Ok(value)
    }

    fn choices(&self) -> u64 {
        self.options().fold(0, |sum, (n, _)| sum.saturating_add(n.cast_unsigned()))
    }

    fn allows(&self, value: &V, mask: &mut Mask<'_>) -> bool {
        let allowed = |(choice, (n, start)): (&i64, (i64, i64))| is_set(mask.take(n.cast_unsigned()), choice - start);
        value.elements().iter().zip(self.options()).map(allowed).fold(true, |all, one| all & one)
    }
}

/// Gymnasium's `MultiBinary`: an array of bits.
///
/// `V` holds `bool`: `[bool; 8]`, `[[bool; 3]; 3]` or `Vec<bool>`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MultiBinary<V: Tensor<Element = bool>> {
    shape: Vec<u32>,
    value: std::marker::PhantomData<V>,
}

impl<V: Tensor<Element = bool>> MultiBinary<V> {
    /// A space of bits in the shape of `V`.
    ///
    /// # Panics
    ///
    /// If `V` is a `Vec`, which has no shape of its own: see [`shaped`](Self::shaped).
    #[must_use]
    #[track_caller]
    #[expect(clippy::new_without_default, reason = "a Vec of bits has no default shape")]
    pub fn new() -> Self {
        Self {
            shape: V::shape().expect("a MultiBinary of a Vec is made with `shaped`"),
            value: std::marker::PhantomData,
        }
    }
}

impl MultiBinary<Vec<bool>> {
    /// A space of arrays of bits of this shape, in C order.
    #[must_use]
    pub fn shaped(shape: &[u32]) -> Self {
        Self { shape: shape.to_vec(), value: std::marker::PhantomData }
    }
}

impl<V: Tensor<Element = bool>> Space for MultiBinary<V> {
    type Value = V;

    fn describe(&self, tree: &mut Vec<SpaceNode>) -> u32 {
        push(tree, SpaceNode::MultiBinary(MultiBinarySpace { shape: self.shape.clone() }))
    }

    fn write(&self, value: &V, to: &mut Writer) -> Result<(), Mismatch> {
        check_length(value.elements().len(), &self.shape, "MultiBinary")?;
        to.elements(value.elements());
        Ok(())
    }

    fn write_absent(&self, to: &mut Writer) {
        to.zeros(1, elements_of(&self.shape));
    }

    fn read(&self, from: &mut Reader<'_>) -> Result<V, Mismatch> {
        read_elements(&self.shape, from)
    }
}

/// Gymnasium's `Text`: strings of bounded length, counted in Unicode scalar values.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Text {
    min_length: u32,
    max_length: u32,
    charset: Option<String>,
}

/// Gymnasium's default charset, in the order of its indices.
const ALPHANUMERIC: &str = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

impl Text {
    /// A space of 1 to `max_length` letters and digits (ASCII), as Gymnasium's `Text(max_length)`.
    #[must_use]
    pub fn new(max_length: u32) -> Self {
        Self { min_length: 1, max_length, charset: Some(ALPHANUMERIC.to_owned()) }
    }

    /// Sets the least number of characters.
    #[must_use]
    pub fn min_length(self, min_length: u32) -> Self {
        Self { min_length, ..self }
    }

    /// Allows these characters only, each written once, in Gymnasium's index order (which sorts them).
    #[must_use]
    pub fn charset(self, characters: &str) -> Self {
        Self { charset: Some(characters.to_owned()), ..self }
    }

    /// Allows any character.
    #[must_use]
    pub fn any_character(self) -> Self {
        Self { charset: None, ..self }
    }

    /// Whether a text has an allowed length, and allowed characters only.
    fn check(&self, text: &str) -> Result<(), Mismatch> {
        let length = text.chars().count();
        if !(self.min_length as usize..=self.max_length as usize).contains(&length) {
            let (min, max) = (self.min_length, self.max_length);
            return Err(Mismatch::new(format!("{length} characters where {min} to {max} are allowed")));
        }
        match self.charset.as_ref().and_then(|charset| text.chars().find(|&each| !charset.contains(each))) {
            None => Ok(()),
            Some(character) => Err(Mismatch::new(format!("the character {character:?} is not in the charset"))),
        }
    }

    /// The bytes that the longest text may take in UTF-8.
    fn room(&self) -> usize {
        4 * self.max_length as usize
    }
}

impl Space for Text {
    type Value = String;

    fn describe(&self, tree: &mut Vec<SpaceNode>) -> u32 {
        let (min_length, max_length) = (self.min_length, self.max_length);
        push(tree, SpaceNode::Text(TextSpace { min_length, max_length, charset: self.charset.clone() }))
    }

    fn write(&self, value: &String, to: &mut Writer) -> Result<(), Mismatch> {
        self.check(value)?;
        let count = u32::try_from(value.len()).map_err(|_| Mismatch::new("a text of more than 4 GiB"))?;
        to.elements(&[count]);
        to.elements(value.as_bytes());
        to.zeros(1, self.room() - value.len());
        Ok(())
    }

    fn write_absent(&self, to: &mut Writer) {
        to.zeros(4, 4 + self.room());
    }

    fn read(&self, from: &mut Reader<'_>) -> Result<String, Mismatch> {
        let count: u32 = read_elements(&[], from)?;
        let room = from.take(1, self.room())?;
        let bytes = room.get(..count as usize).ok_or_else(|| Mismatch::new("a text longer than its room"))?;
        let text = std::str::from_utf8(bytes).map_err(|_| Mismatch::new("a text that is not UTF-8"))?;
        self.check(text)?;
        Ok(text.to_owned())
    }
}

fn push(tree: &mut Vec<SpaceNode>, node: SpaceNode) -> u32 {
    tree.push(node);
    u32::try_from(tree.len() - 1).expect("a tree of at most 2^32 nodes")
}

/// A function that appends one child to the tree.
#[doc(hidden)]
pub type Describe<'a> = &'a dyn Fn(&mut Vec<SpaceNode>) -> u32;

/// Appends a parent before its children, as the interface's order wants it.
fn describe_parent(
    tree: &mut Vec<SpaceNode>,
    children: &[Describe<'_>],
    parent: impl FnOnce(Vec<u32>) -> SpaceNode,
) -> u32 {
    let index = push(tree, SpaceNode::Tuple(TupleSpace { children: Vec::new() }));
    let children = children.iter().map(|describe| describe(tree)).collect();
    tree[index as usize] = parent(children);
    index
}

#[doc(hidden)]
pub fn describe_dict(tree: &mut Vec<SpaceNode>, keys: &[&str], children: &[Describe<'_>]) -> u32 {
    let keys = keys.iter().map(|&key| key.to_owned()).collect();
    describe_parent(tree, children, |children| SpaceNode::Dict(DictSpace { keys, children }))
}

macro_rules! tuples {
    ($(($($space:ident $index:tt),+);)+) => {$(
        impl<$($space: Space),+> Space for ($($space,)+) {
            type Value = ($($space::Value,)+);

            fn describe(&self, tree: &mut Vec<SpaceNode>) -> u32 {
                let children: &[Describe<'_>] = &[$(&|tree| self.$index.describe(tree)),+];
                describe_parent(tree, children, |children| SpaceNode::Tuple(TupleSpace { children }))
            }

            #[inline]
            fn write(&self, value: &Self::Value, to: &mut Writer) -> Result<(), Mismatch> {
                to.align_composite();
                $(self.$index.write(&value.$index, to).map_err(|mismatch| mismatch.within($index))?;)+
                Ok(())
            }

            fn write_absent(&self, to: &mut Writer) {
                to.align_composite();
                $(self.$index.write_absent(to);)+
            }

            fn read(&self, from: &mut Reader<'_>) -> Result<Self::Value, Mismatch> {
                from.align_composite();
                Ok(($(self.$index.read(from).map_err(|mismatch| mismatch.within($index))?,)+))
            }

            fn choices(&self) -> u64 {
                0_u64$(.saturating_add(self.$index.choices()))+
            }

            fn allows(&self, value: &Self::Value, mask: &mut Mask<'_>) -> bool {
                true $(& self.$index.allows(&value.$index, mask))+
            }
        }
    )+};
}

tuples! {
    (A 0);
    (A 0, B 1);
    (A 0, B 1, C 2);
    (A 0, B 1, C 2, D 3);
    (A 0, B 1, C 2, D 3, E 4);
    (A 0, B 1, C 2, D 3, E 4, F 5);
    (A 0, B 1, C 2, D 3, E 4, F 5, G 6);
    (A 0, B 1, C 2, D 3, E 4, F 5, G 6, H 7);
}

/// Declares a Gymnasium `Dict`: the struct of its values, and beside it the struct of their spaces.
///
/// The keys have the order in which they are written (Gymnasium sorts a plain `dict`: write them sorted to have its
/// order). Give a key that is not a Rust name with `as`. Values may be Dicts themselves.
///
/// ```
/// use rollcage_sdk::prelude::*;
///
/// rollcage_sdk::dict! {
///     /// What the rover sees.
///     pub struct Sight in SightSpace {
///         battery: Discrete,
///         camera: BoxSpace<[[u8; 8]; 8]>,
///         radio: Text as "last message",
///     }
/// }
///
/// let space = SightSpace { battery: Discrete::new(5), camera: BoxSpace::all(0, 255), radio: Text::new(12) };
/// let sight = Sight { battery: 4, camera: [[0; 8]; 8], radio: "hello".to_owned() };
/// # rollcage_sdk::testing::round_trip(&space, &sight).unwrap();
/// ```
#[macro_export]
macro_rules! dict {
    (
        $(#[$attribute:meta])*
        $visibility:vis struct $value:ident in $space:ident {
            $($(#[$field_attribute:meta])* $field:ident: $child:ty $(as $key:literal)?),+ $(,)?
        }
    ) => {
        $(#[$attribute])*
        #[derive(Clone, Debug)]
        #[allow(missing_docs, clippy::allow_attributes, reason = "the keys of a Dict may speak for themselves")]
        $visibility struct $value {
            $($(#[$field_attribute])* pub $field: $crate::space::ValueOf<$child>,)+
        }

        #[doc = ::std::concat!("The space of [`", ::std::stringify!($value), "`].")]
        #[derive(Clone, Debug)]
        #[allow(missing_docs, clippy::allow_attributes, reason = "the keys of a Dict may speak for themselves")]
        $visibility struct $space {
            $(pub $field: $child,)+
        }

        impl $crate::space::Space for $space {
            type Value = $value;

            fn describe(&self, tree: &mut ::std::vec::Vec<$crate::raw::SpaceNode>) -> u32 {
                let keys = [$($crate::__key!($field $($key)?)),+];
                let children: &[$crate::space::Describe<'_>] =
                    &[$(&|tree| $crate::space::Space::describe(&self.$field, tree)),+];
                $crate::space::describe_dict(tree, &keys, children)
            }

            fn write(
                &self,
                value: &$value,
                to: &mut $crate::space::Writer,
            ) -> ::std::result::Result<(), $crate::space::Mismatch> {
                to.align_composite();
                $($crate::space::Space::write(&self.$field, &value.$field, to)
                    .map_err(|mismatch| mismatch.within($crate::__key!($field $($key)?)))?;)+
                ::std::result::Result::Ok(())
            }

            fn write_absent(&self, to: &mut $crate::space::Writer) {
                to.align_composite();
                $($crate::space::Space::write_absent(&self.$field, to);)+
            }

            fn read(
                &self,
                from: &mut $crate::space::Reader<'_>,
            ) -> ::std::result::Result<$value, $crate::space::Mismatch> {
                from.align_composite();
                ::std::result::Result::Ok($value {
                    $($field: $crate::space::Space::read(&self.$field, from)
                        .map_err(|mismatch| mismatch.within($crate::__key!($field $($key)?)))?,)+
                })
            }

            fn choices(&self) -> u64 {
                0_u64$(.saturating_add($crate::space::Space::choices(&self.$field)))+
            }

            fn allows(&self, value: &$value, mask: &mut $crate::space::Mask<'_>) -> bool {
                true $(& $crate::space::Space::allows(&self.$field, &value.$field, mask))+
            }
        }
    };
}

/// The key of a field: the text after `as`, else its name.
#[doc(hidden)]
#[macro_export]
macro_rules! __key {
    ($field:ident $key:literal) => {
        $key
    };
    ($field:ident) => {
        $crate::space::key_of(::std::stringify!($field))
    };
}

/// Turns a field's name into a key: `r#type` is `type`.
#[doc(hidden)]
#[must_use]
pub fn key_of(field: &'static str) -> &'static str {
    field.strip_prefix("r#").unwrap_or(field)
}

/// Writes one whole value as bytes, padded to a multiple of 8.
#[inline]
pub(crate) fn encode<S: Space>(space: &S, value: &S::Value, room: usize) -> Result<Vec<u8>, Mismatch> {
    let mut writer = Writer::with_capacity(room);
    space.write(value, &mut writer)?;
    writer.align_composite();
    Ok(writer.bytes)
}

/// Appends a whole value behind others, which end where a value may begin.
#[inline]
pub(crate) fn append<S: Space>(space: &S, value: &S::Value, writer: &mut Writer) -> Result<(), Mismatch> {
    space.write(value, writer)?;
    writer.align_composite();
    Ok(())
}

/// Checks that a value is in its space, the bounds of a Box included.
#[doc(hidden)]
pub fn check<S: Space>(space: &S, value: &S::Value) -> Result<(), Mismatch> {
    decode(space, &encode(space, value, 0)?).map(drop)
}

/// Reads one whole value from all the bytes; it must be in the space.
#[inline]
pub(crate) fn decode<S: Space>(space: &S, bytes: &[u8]) -> Result<S::Value, Mismatch> {
    decode_action(space, bytes, OutOfBounds::Refuse)
}

/// Reads one whole value; with `Pass`, finite floats may be outside their bounds.
#[inline]
pub(crate) fn decode_action<S: Space>(space: &S, bytes: &[u8], outside: OutOfBounds) -> Result<S::Value, Mismatch> {
    let mut reader = Reader::new(bytes, outside);
    let value = space.read(&mut reader)?;
    reader.finish()?;
    Ok(value)
}

/// The bytes that a value takes, padding included: the same for all values of a space.
pub(crate) fn size_of<S: Space>(space: &S) -> usize {
    let mut writer = Writer::with_capacity(0);
    space.write_absent(&mut writer);
    writer.align_composite();
    writer.bytes.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    dict! {
        /// Inside another.
        struct Arm in ArmSpace {
            grip: Discrete,
            joint: BoxSpace<f32>,
        }
    }

    dict! {
        struct Robot in RobotSpace {
            ready: MultiBinary<[bool; 3]>,
            arm: Arm2,
            say: Text as "last word",
            r#type: MultiDiscrete<Vec<i64>>,
        }
    }

    type Arm2 = ArmSpace;

    fn robot() -> RobotSpace {
        RobotSpace {
            ready: MultiBinary::new(),
            arm: ArmSpace { grip: Discrete::new(3).starting_at(-1), joint: BoxSpace::all(-1.0, 1.0) },
            say: Text::new(2).any_character(),
            r#type: MultiDiscrete::new(vec![2, 3]),
        }
    }

    #[test]
    fn dicts_are_trees_with_their_keys() {
        let mut tree = Vec::new();
        assert_eq!(robot().describe(&mut tree), 0);
        let SpaceNode::Dict(root) = &tree[0] else { panic!("{tree:?}") };
        assert_eq!(root.keys, ["ready", "arm", "last word", "type"]);
        assert_eq!(root.children, [1, 2, 5, 6]);
        let SpaceNode::Dict(arm) = &tree[2] else { panic!("{tree:?}") };
        assert_eq!((arm.keys.as_slice(), arm.children.as_slice()), (&["grip".into(), "joint".into()][..], &[3, 4][..]));
    }

    #[test]
    fn leaves_are_aligned_and_the_value_padded() {
        let arm = Arm { grip: -1, joint: 1.0 };
        let value = Robot { ready: [true, false, true], arm, say: "é".to_owned(), r#type: vec![1, 2] };
        let bytes = encode(&robot(), &value, 0).expect("fits");
        let mut expected = vec![1, 0, 1, 0, 0, 0, 0, 0];
        expected.extend((-1_i64).to_le_bytes());
        expected.extend(1_f32.to_le_bytes());
        expected.extend([2, 0, 0, 0, 0xc3, 0xa9, 0, 0, 0, 0, 0, 0]);
        expected.extend([1_i64, 2].map(i64::to_le_bytes).concat());
        assert_eq!(bytes, expected);
        assert_eq!(bytes.len(), size_of(&robot()));

        let back = decode(&robot(), &bytes).expect("fits");
        assert_eq!(
            (back.ready, back.arm.grip, back.say.as_str(), back.r#type),
            ([true, false, true], -1, "é", vec![1, 2])
        );
    }

    #[test]
    fn small_elements_are_padded_to_eight() {
        assert_eq!(encode(&BoxSpace::<[u8; 3]>::all(0, 9), &[1, 2, 3], 0).expect("fits"), [1, 2, 3, 0, 0, 0, 0, 0]);
        let space = (BoxSpace::<u8>::all(0, 9), BoxSpace::<i16>::all(0, 9), BoxSpace::<[bool; 1]>::default());
        assert_eq!(encode(&space, &(7, 8, [true]), 0).expect("fits"), [7, 0, 8, 0, 1, 0, 0, 0]);
        let nested = (BoxSpace::<u8>::all(0, 9), (BoxSpace::<u8>::all(0, 9),));
        assert_eq!(encode(&nested, &(1, (2,)), 0).expect("fits"), [1, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0]);
    }

    #[test]
    fn shapes_are_those_of_the_types() {
        let shape = |space: &dyn Fn(&mut Vec<SpaceNode>) -> u32| {
            let mut tree = Vec::new();
            space(&mut tree);
            let SpaceNode::Box(node) = tree.remove(0) else { panic!() };
            (node.shape, node.low, node.high)
        };
        let image = BoxSpace::<[[[u8; 3]; 4]; 5]>::all(0, 255);
        assert_eq!(shape(&|tree| image.describe(tree)), (vec![5, 4, 3], vec![0], vec![255]));
        let image = BoxSpace::<Vec<u8>>::shaped(&[5, 4, 3], 0, 255);
        assert_eq!(shape(&|tree| image.describe(tree)), (vec![5, 4, 3], vec![0], vec![255]));
        assert_eq!(encode(&image, &vec![7; 60], 0).expect("fits").len(), 64);
        let wrong = encode(&image, &vec![7; 59], 0).expect_err("does not fit");
        assert_eq!(wrong.to_string(), "59 elements in a Box of shape [5, 4, 3], which has 60");
        let scalar = BoxSpace::<i8>::new(-1, 1);
        assert_eq!(shape(&|tree| scalar.describe(tree)), (vec![], vec![255], vec![1]));
        let square = BoxSpace::new([0.0_f32; 4], [1.0; 4]).reshaped(&[2, 2]);
        assert_eq!(shape(&|tree| square.describe(tree)).0, [2, 2]);
    }

    #[test]
    fn what_is_outside_is_named() {
        fn refused<S: Space>(space: &S, bytes: &[u8]) -> String {
            decode(space, bytes).map(|value| format!("{value:?}")).expect_err("refused").to_string()
        }
        let two = 2_i64.to_le_bytes();
        assert_eq!(refused(&Discrete::new(2), &two), "2 is not from 0 to 1");
        assert_eq!(refused(&(Discrete::new(2).starting_at(5),), &two), "`0`: 2 is not from 5 to 6");
        assert_eq!(refused(&MultiDiscrete::new([2_i64]), &two), "`0`: 2 is not from 0 to 1");
        assert_eq!(refused(&Discrete::new(2), &two[..7]), "7 bytes are too few for the space");
        assert_eq!(refused(&Discrete::new(3), &[two, two].concat()), "16 bytes where the space has 8");
        assert_eq!(refused(&MultiBinary::<[bool; 2]>::new(), &two), "a boolean is neither 0 nor 1");
        let nan = f64::NAN.to_le_bytes();
        assert_eq!(refused(&BoxSpace::<f64>::default(), &nan), "NaN is not within -inf and inf");
        let text = |text: &str| encode(&Text::new(9).min_length(0).any_character(), &text.to_owned(), 0).expect("fits");
        assert_eq!(refused(&Text::new(9), &text("")), "0 characters where 1 to 9 are allowed");
        assert_eq!(refused(&Text::new(9), &text("no good")), "the character ' ' is not in the charset");
        let action = |space: &BoxSpace<f32>, value: f32, outside| {
            let bytes = encode(space, &value, 0).expect("fits");
            decode_action(space, &bytes, outside).map_err(|mismatch| mismatch.to_string())
        };
        let unit = BoxSpace::all(-1.0, 1.0);
        assert_eq!(action(&unit, 1.5, OutOfBounds::Pass), Ok(1.5));
        assert_eq!(action(&unit, 1.5, OutOfBounds::Refuse), Err("1.5 is not within -1.0 and 1.0".to_owned()));
        for outside in [OutOfBounds::Pass, OutOfBounds::Refuse] {
            assert_eq!(action(&unit, f32::INFINITY, outside), Err("inf is not within -1.0 and 1.0".to_owned()));
            assert!(action(&unit, f32::NAN, outside).is_err());
            assert!(action(&BoxSpace::default(), f32::INFINITY, outside).is_ok(), "in its space");
        }
        let bytes = BoxSpace::<u8>::all(1, 3);
        assert!(decode_action(&bytes, &[4, 0, 0, 0, 0, 0, 0, 0], OutOfBounds::Pass).is_err(), "no float");
        let unwritable = encode(&(Text::new(1), Discrete::new(2)), &("ab".to_owned(), 0), 0).expect_err("too long");
        assert_eq!(unwritable.to_string(), "`0`: 2 characters where 1 to 1 are allowed");
        let unwritable = encode(&(Text::new(1), Discrete::new(2)), &("a".to_owned(), 2), 0).expect_err("too many");
        assert_eq!(unwritable.to_string(), "`1`: 2 is not from 0 to 1");
    }

    #[test]
    fn masks_are_taken_leaf_by_leaf() {
        let space =
            (Discrete::new(2), BoxSpace::<f32>::default(), MultiDiscrete::<[i64; 2]>::new([2, 3]).starting_at([1, 0]));
        assert_eq!(space.choices(), 7);
        let allows = |value, mask: [u8; 7]| space.allows(&value, &mut Mask(&mask));
        assert!(allows((1, 0.0, [2, 0]), [0, 1, 0, 1, 1, 0, 0]));
        assert!(!allows((0, 0.0, [2, 0]), [0, 1, 0, 1, 1, 0, 0]));
        assert!(!allows((1, 0.0, [1, 0]), [0, 1, 0, 1, 1, 0, 0]));
        assert!(!allows((1, 0.0, [2, 2]), [0, 1, 0, 1, 1, 0, 0]));
        assert!(allows((0, 0.0, [1, 0]), [0; 7]), "the first where none is open");
        assert!(!allows((1, 0.0, [1, 0]), [0; 7]) && !allows((0, 0.0, [1, 1]), [0; 7]));
    }
}
