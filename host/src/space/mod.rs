//! Gymnasium's spaces: the byte form of values, which values belong to a space, and how to draw one.
//!
//! A [`Space`] comes from an untrusted plugin as flat [`Node`]s and is checked once, by [`Space::from_nodes`]. Its
//! [`Layout`] is computed once and does everything with values: check, contain, sample, JSON. Knows the bytes of a
//! value; knows nothing of slabs, workers or files.

mod arrow;
mod dtype;
mod field;
mod layout;
mod sample;
mod shape;
mod text;
mod value;
mod words;

use std::collections::HashSet;

use serde::{Deserialize, Serialize};

pub(crate) use self::arrow::{SHAPE_KEY, item_field};
use self::dtype::Number;
pub use self::field::{InfoField, OutOfBounds};
pub use self::layout::{InfoLayout, Layout, Leaf, LeafKind};
pub use self::text::float_json;
use crate::text::escape_line;

/// Nodes of one space: `wit/0.1.0/types.wit` promises authors this many.
pub const NODES_MAX: usize = 1024;

/// Levels of one space, the root's included: `wit/0.1.0/types.wit` promises authors this many. Code that walks down a
/// checked space may recurse.
pub const DEPTH_MAX: usize = 16;

/// Dimensions of a shape. numpy 1 had this limit, and formats that nest by dimension (JSON) stay shallow.
pub const RANK_MAX: usize = 32;

/// Bytes of a Dict key or of an info field's name. Every message about a value below the key contains it.
pub const KEY_BYTES_MAX: usize = 256;

/// Bytes of one value of a space, of one mask, or of one info. A slab is 64 MiB and holds several of them; a 1080p
/// picture is 6 MiB. A batch of values is not bounded by this.
pub const VALUE_BYTES_MAX: usize = 16 * 1024 * 1024;

/// Element types of a `Box`, with numpy's names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[expect(missing_docs, reason = "the variants are numpy's names")]
pub enum Dtype {
    Boolean,
    Int8,
    Int16,
    Int32,
    Int64,
    Uint8,
    Uint16,
    Uint32,
    Uint64,
    Float16,
    Float32,
    Float64,
}

/// A space of values. Leaves, order and byte encoding are those of `wit/0.1.0/types.wit`.
///
/// [`Space::from_nodes`] makes a space that keeps every rule, in one form: equal bounds are one element, a start of
/// zeros is empty. The methods rely on the rules; a space that is put together by hand must keep them too.
#[derive(Clone, Debug, PartialEq)]
#[expect(missing_docs, reason = "the fields are Gymnasium's; what is not is said at the variant")]
pub enum Space {
    /// Gymnasium's `Box`. `low` and `high` hold bytes of `dtype`, little-endian: one element for all elements, or one
    /// for each.
    Box { dtype: Dtype, shape: Vec<u32>, low: Vec<u8>, high: Vec<u8> },
    /// Gymnasium's `Discrete`: `start ..= start + n - 1`.
    Discrete { n: u64, start: i64 },
    /// Gymnasium's `MultiDiscrete`; an empty `start` is all 0.
    MultiDiscrete { shape: Vec<u32>, nvec: Vec<u64>, start: Vec<i64> },
    /// Gymnasium's `MultiBinary`.
    MultiBinary { shape: Vec<u32> },
    /// Gymnasium's `Text`; lengths count Unicode scalar values.
    Text { min_length: u32, max_length: u32, charset: Option<String> },
    /// Gymnasium's `Dict`, in its order.
    Dict(Vec<(String, Space)>),
    /// Gymnasium's `Tuple`.
    Tuple(Vec<Space>),
}

/// One node of the flat wire form of a space. Node 0 is the root; a child's index is greater than its parent's; every
/// node except the root is the child of exactly one node.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the fields are those of `Space`")]
pub enum Node {
    Box { dtype: Dtype, shape: Vec<u32>, low: Vec<u8>, high: Vec<u8> },
    Discrete { n: u64, start: i64 },
    MultiDiscrete { shape: Vec<u32>, nvec: Vec<u64>, start: Vec<i64> },
    MultiBinary { shape: Vec<u32> },
    Text { min_length: u32, max_length: u32, charset: Option<String> },
    Dict { keys: Vec<String>, children: Vec<u32> },
    Tuple { children: Vec<u32> },
}

/// An error in nodes: the first node that breaks a rule, and the rule.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("node {node}: {reason}")]
pub struct SpaceError {
    /// Index of the node.
    pub node: usize,
    /// What is wrong with the node, as a fragment that fits after a colon.
    pub reason: String,
}

impl Space {
    /// The space that `nodes` describe. The nodes are untrusted: they cannot make this code recurse, and the largest
    /// allocation is no larger than they are.
    ///
    /// # Errors
    ///
    /// The first node that breaks a rule of `wit/0.1.0/types.wit` or one of the limits of this module. An empty Dict or
    /// Tuple and a shape with a zero are refused: they have no bytes, so N of them would have no stride.
    pub fn from_nodes(nodes: &[Node]) -> Result<Space, SpaceError> {
        let wrong = |node: usize, reason: String| SpaceError { node, reason };
        if nodes.is_empty() {
            return Err(wrong(0, "a space has at least one node".to_owned()));
        }
        if nodes.len() > NODES_MAX {
            return Err(wrong(NODES_MAX, format!("{} nodes, at most {NODES_MAX} are allowed", nodes.len())));
        }
        // Parents come before their children, so one pass forward knows every node's depth when it reaches the node.
        let mut depths: Vec<Option<usize>> = vec![None; nodes.len()];
        depths[0] = Some(1);
        let mut bytes = 0;
        for (index, node) in nodes.iter().enumerate() {
            let depth = depths[index].ok_or_else(|| wrong(index, "no Dict or Tuple has it as a child".to_owned()))?;
            for &child in children(node) {
                let at = usize::try_from(child).unwrap_or(usize::MAX);
                let reason = match depths.get(at) {
                    None => format!("child {child} does not exist"),
                    Some(_) if at <= index => format!("child {child} does not stand after it"),
                    Some(Some(_)) => format!("child {child} has a parent already"),
                    Some(None) if depth == DEPTH_MAX => format!("its children are deeper than {DEPTH_MAX} levels"),
                    Some(None) => {
                        depths[at] = Some(depth + 1);
                        continue;
                    }
                };
                return Err(wrong(index, reason));
            }
            bytes += check_node(node).map_err(|reason| wrong(index, reason))?;
            if bytes > VALUE_BYTES_MAX {
                return Err(wrong(index, format!("a value takes more than {VALUE_BYTES_MAX} bytes")));
            }
        }
        // In a backward pass every child is built before its parent takes it.
        let mut built: Vec<Option<Space>> = nodes.iter().map(|_| None).collect();
        for (index, node) in nodes.iter().enumerate().rev() {
            let mut take = |child: &u32| usize::try_from(*child).ok().and_then(|child| built[child].take());
            built[index] = Some(match node {
                Node::Dict { keys, children } => {
                    Space::Dict(keys.iter().cloned().zip(children.iter().filter_map(take)).collect())
                }
                Node::Tuple { children } => Space::Tuple(children.iter().filter_map(&mut take).collect()),
                Node::Box { dtype, shape, low, high } => Space::Box {
                    dtype: *dtype,
                    shape: shape.clone(),
                    low: one_if_equal(low, dtype.size()),
                    high: one_if_equal(high, dtype.size()),
                },
                Node::Discrete { n, start } => Space::Discrete { n: *n, start: *start },
                Node::MultiDiscrete { shape, nvec, start } => Space::MultiDiscrete {
                    shape: shape.clone(),
                    nvec: nvec.clone(),
                    start: if start.iter().all(|&start| start == 0) { Vec::new() } else { start.clone() },
                },
                Node::MultiBinary { shape } => Space::MultiBinary { shape: shape.clone() },
                Node::Text { min_length, max_length, charset } => {
                    Space::Text { min_length: *min_length, max_length: *max_length, charset: charset.clone() }
                }
            });
        }
        let space = built.swap_remove(0).ok_or_else(|| wrong(0, "it has no root".to_owned()))?;
        // The sum above does not include alignment.
        if space.stride() > VALUE_BYTES_MAX {
            return Err(wrong(0, format!("a value takes more than {VALUE_BYTES_MAX} bytes")));
        }
        Ok(space)
    }

    /// The wire form: the root first, children after their parents, in depth-first order.
    pub fn to_nodes(&self) -> Vec<Node> {
        let mut nodes = Vec::new();
        self.push_nodes(&mut nodes);
        nodes
    }

    /// Appends this space's nodes; returns the index of its own node.
    fn push_nodes(&self, nodes: &mut Vec<Node>) -> u32 {
        let index = nodes.len();
        let mut below = |spaces: &mut dyn Iterator<Item = &Space>| -> Vec<u32> {
            nodes.push(Node::Tuple { children: Vec::new() });
            spaces.map(|space| space.push_nodes(nodes)).collect()
        };
        let node = match self {
            Space::Dict(entries) => {
                let children = below(&mut entries.iter().map(|(_, space)| space));
                Node::Dict { keys: entries.iter().map(|(key, _)| key.clone()).collect(), children }
            }
            Space::Tuple(spaces) => Node::Tuple { children: below(&mut spaces.iter()) },
            leaf => {
                below(&mut std::iter::empty());
                leaf.to_leaf_node()
            }
        };
        nodes[index] = node;
        u32::try_from(index).unwrap_or(u32::MAX)
    }

    /// The node of a leaf.
    fn to_leaf_node(&self) -> Node {
        match self.clone() {
            Space::Box { dtype, shape, low, high } => Node::Box { dtype, shape, low, high },
            Space::Discrete { n, start } => Node::Discrete { n, start },
            Space::MultiDiscrete { shape, nvec, start } => Node::MultiDiscrete { shape, nvec, start },
            Space::MultiBinary { shape } => Node::MultiBinary { shape },
            Space::Text { min_length, max_length, charset } => Node::Text { min_length, max_length, charset },
            Space::Dict(_) | Space::Tuple(_) => Node::Tuple { children: Vec::new() },
        }
    }

    /// Computes the layout: where the leaves of a value lie, and all methods for values. Every call computes it anew,
    /// so keep it.
    pub fn layout(&self) -> Layout {
        Layout::new(self)
    }

    /// The distance in bytes from one value to the next: a multiple of 8, at least 8.
    pub fn stride(&self) -> usize {
        layout::end(self, 0).next_multiple_of(8)
    }

    /// [`Layout::mask_len`] without the layout.
    ///
    /// # Errors
    ///
    /// A mask of this space would have more than [`VALUE_BYTES_MAX`] bytes.
    pub fn mask_len(&self) -> Result<usize, String> {
        layout::check_mask_len(layout::choices(self))
    }

    /// [`Layout::contains`] for one value.
    ///
    /// # Errors
    ///
    /// As for [`Layout::contains`].
    pub fn contains(&self, value: &[u8]) -> Result<(), String> {
        self.layout().contains(value)
    }

    /// [`Layout::to_json`] for one value.
    ///
    /// # Panics
    ///
    /// As for [`Layout::to_json`].
    pub fn to_json(&self, value: &[u8]) -> serde_json::Value {
        self.layout().to_json(value)
    }

    /// [`Layout::from_json`] for one value.
    ///
    /// # Errors
    ///
    /// As for [`Layout::from_json`].
    ///
    /// # Panics
    ///
    /// As for [`Layout::from_json`].
    pub fn from_json(&self, json: &serde_json::Value, value: &mut [u8]) -> Result<(), String> {
        self.layout().from_json(json, value)
    }
}

/// [`InfoLayout::new`].
///
/// # Errors
///
/// As for [`InfoLayout::new`].
pub fn info_layout(fields: &[InfoField]) -> Result<InfoLayout, String> {
    InfoLayout::new(fields)
}

/// The children that a node names.
fn children(node: &Node) -> &[u32] {
    match node {
        Node::Dict { children, .. } | Node::Tuple { children } => children,
        _ => &[],
    }
}

/// Checks the rules for a single node. Returns the bytes of the node's own value, without its children.
fn check_node(node: &Node) -> Result<usize, String> {
    match node {
        Node::Box { dtype, shape, low, high } => {
            let count = elements(shape, dtype.size())?;
            for (name, bounds) in [("low", low), ("high", high)] {
                check_bounds(*dtype, count, bounds).map_err(|reason| format!("`{name}` {reason}"))?;
            }
            for index in 0..low.len().max(high.len()) / dtype.size() {
                let (low, high) = (dtype.bound(low, index), dtype.bound(high, index));
                if low > high {
                    return Err(format!(
                        "element {index} of `low` is {}, above that of `high`, {}",
                        dtype.show(low),
                        dtype.show(high)
                    ));
                }
            }
            Ok(count * dtype.size())
        }
        Node::Discrete { n, start } => check_choices(*n, *start).map(|()| 8),
        Node::MultiDiscrete { shape, nvec, start } => {
            let count = elements(shape, 8)?;
            if nvec.len() != count {
                return Err(format!("`nvec` has {} elements, its shape {count}", nvec.len()));
            }
            if !start.is_empty() && start.len() != count {
                return Err(format!("`start` has {} elements, its shape {count}", start.len()));
            }
            for (index, &n) in nvec.iter().enumerate() {
                check_choices(n, start.get(index).copied().unwrap_or(0))
                    .map_err(|reason| format!("element {index}: {reason}"))?;
            }
            Ok(count * 8)
        }
        Node::MultiBinary { shape } => elements(shape, 1),
        Node::Text { min_length, max_length, charset } => {
            if min_length > max_length {
                return Err(format!("`min-length` {min_length} is above `max-length` {max_length}"));
            }
            let bytes = layout::text_bytes(*max_length);
            if bytes > VALUE_BYTES_MAX {
                return Err(format!("`max-length` {max_length} takes {bytes} bytes, at most {VALUE_BYTES_MAX} fit"));
            }
            if let Some(charset) = charset {
                let mut seen = HashSet::new();
                if let Some(twice) = charset.chars().find(|char| !seen.insert(*char)) {
                    return Err(format!("`charset` has `{}` twice", escape_line(twice.encode_utf8(&mut [0; 4]))));
                }
                if charset.is_empty() && *max_length > 0 {
                    return Err("`charset` is empty".to_owned());
                }
            }
            Ok(bytes)
        }
        Node::Dict { keys, children } => {
            if keys.len() != children.len() {
                return Err(format!("{} keys and {} children", keys.len(), children.len()));
            }
            check_names(keys.iter().map(String::as_str))?;
            has_children(children)
        }
        Node::Tuple { children } => has_children(children),
    }
}

fn has_children(children: &[u32]) -> Result<usize, String> {
    if children.is_empty() { Err("it has no children".to_owned()) } else { Ok(0) }
}

/// The number of elements of a shape, each of `size` bytes.
fn elements(shape: &[u32], size: usize) -> Result<usize, String> {
    if shape.len() > RANK_MAX {
        return Err(format!("a shape of {} dimensions, at most {RANK_MAX} are allowed", shape.len()));
    }
    if shape.contains(&0) {
        return Err("a dimension of its shape is 0".to_owned());
    }
    shape
        .iter()
        .try_fold(1usize, |count, &dimension| count.checked_mul(usize::try_from(dimension).ok()?))
        .filter(|count| *count <= VALUE_BYTES_MAX / size)
        .ok_or_else(|| format!("a value takes more than {VALUE_BYTES_MAX} bytes"))
}

/// Checks that `bounds` are one element or `count` elements, and that each is an element of the dtype and a number.
fn check_bounds(dtype: Dtype, count: usize, bounds: &[u8]) -> Result<(), String> {
    let size = dtype.size();
    if bounds.len() != size && bounds.len() != count * size {
        return Err(format!("has {} bytes, expected {size} or {}", bounds.len(), count * size));
    }
    for index in 0..bounds.len() / size {
        match dtype.read(bounds, index) {
            Number::Float(number) if number.is_nan() => return Err(format!("is NaN in element {index}")),
            Number::Int(number) if dtype == Dtype::Boolean && number > 1 => {
                return Err(format!("is {number} in element {index}, a boolean is 0 or 1"));
            }
            _ => {}
        }
    }
    Ok(())
}

/// Checks that `start ..= start + n - 1` are choices that fit an i64.
fn check_choices(n: u64, start: i64) -> Result<(), String> {
    if n == 0 {
        return Err("`n` is 0".to_owned());
    }
    if i64::try_from(n).is_err() {
        return Err(format!("`n` is {n}, at most {} is allowed", i64::MAX));
    }
    match start.checked_add_unsigned(n - 1) {
        Some(_) => Ok(()),
        None => Err(format!("{n} choices from {start} on pass {}", i64::MAX)),
    }
}

/// Checks that `names` can be keys: no duplicates, short enough for a message, without control characters.
fn check_names<'a>(names: impl Iterator<Item = &'a str>) -> Result<(), String> {
    let mut seen = HashSet::new();
    for name in names {
        if name.len() > KEY_BYTES_MAX {
            return Err(format!("a key of {} bytes, at most {KEY_BYTES_MAX} are allowed", name.len()));
        }
        if name.contains(char::is_control) {
            return Err(format!("key `{}` has a control character", escape_line(name)));
        }
        if !seen.insert(name) {
            return Err(format!("key `{}` is there twice", escape_line(name)));
        }
    }
    Ok(())
}

/// Reduces bounds to one element if all are equal.
fn one_if_equal(bounds: &[u8], size: usize) -> Vec<u8> {
    let first = &bounds[..size];
    if bounds.chunks_exact(size).all(|element| element == first) { first.to_vec() } else { bounds.to_vec() }
}

/// Spaces that the tests of this module share.
#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test that panics has failed")]
mod examples {
    use super::*;

    pub(super) fn floats(values: &[f32]) -> Vec<u8> {
        values.iter().flat_map(|value| value.to_le_bytes()).collect()
    }

    pub(super) fn number_box(dtype: Dtype, shape: &[u32], low: Number, high: Number) -> Space {
        let (mut from, mut to) = (vec![0; dtype.size()], vec![0; dtype.size()]);
        dtype.write(low, &mut from, 0);
        dtype.write(high, &mut to, 0);
        Space::Box { dtype, shape: shape.to_vec(), low: from, high: to }
    }

    pub(super) fn text(min_length: u32, max_length: u32, charset: Option<&str>) -> Space {
        Space::Text { min_length, max_length, charset: charset.map(str::to_owned) }
    }

    pub(super) fn dict(entries: &[(&str, Space)]) -> Space {
        Space::Dict(entries.iter().map(|(key, space)| ((*key).to_owned(), space.clone())).collect())
    }

    /// Gymnasium's CartPole: bounded and unbounded elements in one `Box`.
    pub(super) fn cartpole() -> Space {
        let bounds = [4.8, f32::INFINITY, 0.418_879_03, f32::INFINITY];
        let (low, high) = (floats(&bounds.map(|bound| -bound)), floats(&bounds));
        Space::Box { dtype: Dtype::Float32, shape: vec![4], low, high }
    }

    pub(super) fn multi() -> Space {
        Space::MultiDiscrete { shape: vec![2, 2], nvec: vec![5, 1, 3, 2], start: vec![-2, 0, 7, i64::MAX - 1] }
    }

    /// A space with a node of every kind.
    pub(super) fn nested() -> Space {
        let word = text(0, 3, Some("aß€🙂"));
        let hands = Space::Tuple(vec![Space::Discrete { n: 3, start: -1 }, multi()]);
        let bits = Space::MultiBinary { shape: vec![2, 3] };
        let flag = number_box(Dtype::Boolean, &[3], Number::Int(0), Number::Int(1));
        dict(&[("bits", bits), ("word", word), ("inner", dict(&[("a.b", hands), ("flag", flag)])), ("x", cartpole())])
    }

    pub(super) fn all() -> Vec<Space> {
        let mut spaces = vec![cartpole(), multi(), nested(), text(2, 9, None), text(0, 0, Some(""))];
        spaces.extend(Dtype::ALL.map(|dtype| {
            let (low, high) = dtype.limits();
            number_box(dtype, &[3, 2], low, high)
        }));
        for dtype in [Dtype::Float16, Dtype::Float32, Dtype::Float64] {
            let infinity = f64::INFINITY;
            for (low, high) in [(-infinity, infinity), (2.0, infinity), (-infinity, -2.0), (-0.5, 0.25), (1.5, 1.5)] {
                spaces.push(number_box(dtype, &[5], Number::Float(low), Number::Float(high)));
            }
        }
        spaces.push(number_box(Dtype::Int8, &[], Number::Int(-3), Number::Int(5)));
        spaces.push(Space::Discrete { n: u64::MAX / 2, start: i64::MIN });
        spaces.push(Space::MultiBinary { shape: vec![4] });
        spaces.push(Space::MultiBinary { shape: vec![] });
        spaces.iter().map(|space| Space::from_nodes(&space.to_nodes()).unwrap()).collect()
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test that panics has failed")]
mod tests {
    use super::examples::{cartpole, nested};
    use super::*;

    fn leaf() -> Node {
        Node::Discrete { n: 2, start: 0 }
    }

    fn tuple(children: &[u32]) -> Node {
        Node::Tuple { children: children.to_vec() }
    }

    fn keyed(keys: &[&str], children: &[u32]) -> Node {
        Node::Dict { keys: keys.iter().map(|key| (*key).to_owned()).collect(), children: children.to_vec() }
    }

    fn bytes(low: &[u8], high: &[u8], dtype: Dtype, shape: &[u32]) -> Node {
        Node::Box { dtype, shape: shape.to_vec(), low: low.to_vec(), high: high.to_vec() }
    }

    fn text(min_length: u32, max_length: u32, charset: Option<&str>) -> Node {
        Node::Text { min_length, max_length, charset: charset.map(str::to_owned) }
    }

    fn multi(shape: &[u32], nvec: &[u64], start: &[i64]) -> Node {
        Node::MultiDiscrete { shape: shape.to_vec(), nvec: nvec.to_vec(), start: start.to_vec() }
    }

    /// A tuple in a tuple in a tuple, and a leaf: `depth` levels.
    fn chain(depth: u32) -> Vec<Node> {
        (1..depth).map(|child| tuple(&[child])).chain([leaf()]).collect()
    }

    #[test]
    fn nodes_come_back() {
        for space in examples::all() {
            let nodes = space.to_nodes();
            assert_eq!(Space::from_nodes(&nodes).unwrap(), space);
            assert_eq!(Space::from_nodes(&nodes).unwrap().to_nodes(), nodes);
        }
        // Any order in which parents come before children, not only depth-first.
        let nodes = [tuple(&[2, 1]), tuple(&[3]), leaf(), text(1, 2, None)];
        let space = Space::from_nodes(&nodes).unwrap();
        assert_eq!(space.to_string(), "Tuple(Discrete(2), Tuple(Text(1, 2)))");
        assert!(Space::from_nodes(&chain(16)).is_ok());
        let wide: Vec<u32> = (1..1024).collect();
        let nodes: Vec<Node> = [tuple(&wide)].into_iter().chain(wide.iter().map(|_| leaf())).collect();
        assert_eq!(Space::from_nodes(&nodes).unwrap().stride(), 1023 * 8);
    }

    #[test]
    fn equal_spaces_have_one_form() {
        let nodes = [bytes(&[1, 1], &[2, 3], Dtype::Uint8, &[2])];
        let space = Space::from_nodes(&nodes).unwrap();
        assert_eq!(space, Space::Box { dtype: Dtype::Uint8, shape: vec![2], low: vec![1], high: vec![2, 3] });
        let space = Space::from_nodes(&[multi(&[2], &[1, 2], &[0, 0])]).unwrap();
        assert_eq!(space, Space::MultiDiscrete { shape: vec![2], nvec: vec![1, 2], start: vec![] });
    }

    #[test]
    fn hostile_nodes_are_refused() {
        let long = "k".repeat(257);
        let nan = f32::NAN.to_le_bytes();
        let (one, two) = (1f32.to_le_bytes(), 2f32.to_le_bytes());
        let many: Vec<Node> = (0..2000).map(|_| leaf()).collect();
        let cases: Vec<(Vec<Node>, usize, &str)> = vec![
            (vec![], 0, "a space has at least one node"),
            (many, 1024, "2000 nodes, at most 1024 are allowed"),
            (chain(17), 15, "its children are deeper than 16 levels"),
            (chain(1024), 15, "its children are deeper than 16 levels"),
            (vec![tuple(&[0])], 0, "child 0 does not stand after it"),
            (vec![tuple(&[1]), tuple(&[0])], 1, "child 0 does not stand after it"),
            (vec![tuple(&[1]), tuple(&[1])], 1, "child 1 does not stand after it"),
            (vec![tuple(&[1])], 0, "child 1 does not exist"),
            (vec![tuple(&[u32::MAX])], 0, "child 4294967295 does not exist"),
            (vec![tuple(&[1, 1]), leaf()], 0, "child 1 has a parent already"),
            (vec![tuple(&[1, 2]), tuple(&[2]), leaf()], 1, "child 2 has a parent already"),
            (vec![leaf(), leaf()], 1, "no Dict or Tuple has it as a child"),
            (vec![tuple(&[2]), leaf(), leaf()], 1, "no Dict or Tuple has it as a child"),
            (vec![tuple(&[])], 0, "it has no children"),
            (vec![keyed(&[], &[])], 0, "it has no children"),
            (vec![keyed(&["a"], &[1, 2]), leaf(), leaf()], 0, "1 keys and 2 children"),
            (vec![keyed(&["a", "a"], &[1, 2]), leaf(), leaf()], 0, "key `a` is there twice"),
            (vec![keyed(&["\u{1b}[2J"], &[1]), leaf()], 0, "key `\\u{1b}[2J` has a control character"),
            (vec![keyed(&[&long], &[1]), leaf()], 0, "a key of 257 bytes, at most 256 are allowed"),
            (vec![bytes(&[0], &[1], Dtype::Uint8, &[0])], 0, "a dimension of its shape is 0"),
            (vec![bytes(&[0], &[1], Dtype::Uint8, &[1 << 24, 2])], 0, "a value takes more than 16777216 bytes"),
            (vec![bytes(&[0], &[1], Dtype::Uint8, &[u32::MAX; 32])], 0, "a value takes more than 16777216 bytes"),
            (vec![bytes(&[0], &[1], Dtype::Uint8, &[u32::MAX, 0, u32::MAX])], 0, "a dimension of its shape is 0"),
            (vec![bytes(&[0], &[1], Dtype::Uint8, &[1; 33])], 0, "a shape of 33 dimensions, at most 32 are allowed"),
            (
                vec![tuple(&[1, 2]), bytes(&[0], &[1], Dtype::Uint8, &[1 << 24]), leaf()],
                2,
                "a value takes more than 16777216 bytes",
            ),
            (
                vec![tuple(&[1, 2]), bytes(&[0], &[1], Dtype::Uint8, &[(1 << 24) - 9]), leaf(), leaf()],
                3,
                "no Dict or Tuple has it as a child",
            ),
            (
                vec![tuple(&[1, 2, 3]), bytes(&[0], &[1], Dtype::Uint8, &[(1 << 24) - 9]), leaf(), text(0, 0, None)],
                3,
                "a value takes more than 16777216 bytes",
            ),
            (
                // These fit, except for alignment.
                vec![
                    tuple(&[1, 2, 3, 4]),
                    bytes(&[0], &[1], Dtype::Uint8, &[1]),
                    leaf(),
                    bytes(&[0], &[1], Dtype::Uint8, &[1]),
                    text(0, (1 << 22) - 5, None),
                ],
                0,
                "a value takes more than 16777216 bytes",
            ),
            (vec![bytes(&[], &[1], Dtype::Uint8, &[2])], 0, "`low` has 0 bytes, expected 1 or 2"),
            (vec![bytes(&[0], &[1, 1, 1], Dtype::Uint8, &[2])], 0, "`high` has 3 bytes, expected 1 or 2"),
            (vec![bytes(&[0; 5], &[1; 4], Dtype::Float32, &[1])], 0, "`low` has 5 bytes, expected 4 or 4"),
            (vec![bytes(&nan, &one, Dtype::Float32, &[1])], 0, "`low` is NaN in element 0"),
            (vec![bytes(&[0; 4], &nan, Dtype::Float32, &[1])], 0, "`high` is NaN in element 0"),
            (
                vec![bytes(&[one, two].concat(), &one, Dtype::Float32, &[2])],
                0,
                "element 1 of `low` is 2.0, above that of `high`, 1.0",
            ),
            (vec![bytes(&[0], &[2], Dtype::Boolean, &[1])], 0, "`high` is 2 in element 0, a boolean is 0 or 1"),
            (vec![bytes(&[1], &[255], Dtype::Int8, &[1])], 0, "element 0 of `low` is 1, above that of `high`, -1"),
            (vec![Node::Discrete { n: 0, start: 0 }], 0, "`n` is 0"),
            (
                vec![Node::Discrete { n: 1 << 63, start: i64::MIN }],
                0,
                "`n` is 9223372036854775808, at most 9223372036854775807 is allowed",
            ),
            (
                vec![Node::Discrete { n: 2, start: i64::MAX }],
                0,
                "2 choices from 9223372036854775807 on pass 9223372036854775807",
            ),
            (vec![multi(&[3], &[1, 2], &[])], 0, "`nvec` has 2 elements, its shape 3"),
            (vec![multi(&[2], &[1, 2], &[0])], 0, "`start` has 1 elements, its shape 2"),
            (vec![multi(&[2], &[1, 0], &[])], 0, "element 1: `n` is 0"),
            (vec![multi(&[1 << 22], &[], &[])], 0, "a value takes more than 16777216 bytes"),
            (vec![text(3, 2, None)], 0, "`min-length` 3 is above `max-length` 2"),
            (vec![text(0, u32::MAX, None)], 0, "`max-length` 4294967295 takes 17179869184 bytes, at most 16777216 fit"),
            (vec![text(0, 2, Some("aba"))], 0, "`charset` has `a` twice"),
            (vec![text(0, 2, Some(""))], 0, "`charset` is empty"),
            (vec![Node::MultiBinary { shape: vec![2, 0] }], 0, "a dimension of its shape is 0"),
        ];
        for (nodes, node, reason) in cases {
            let expected = SpaceError { node, reason: reason.to_owned() };
            assert_eq!(Space::from_nodes(&nodes), Err(expected));
        }
    }

    #[test]
    fn differences_are_named() {
        let with = |change: &dyn Fn(&mut Space)| {
            let mut space = nested();
            change(&mut space);
            space
        };
        let Space::Dict(mut entries) = nested() else { unreachable!() };
        entries.pop();
        let shorter = Space::Dict(entries);
        let renamed = with(&|space| {
            if let Space::Dict(entries) = space {
                entries[1].0 = "name".to_owned();
            }
        });
        let deeper = with(&|space| {
            let Space::Dict(entries) = space else { return };
            let Space::Dict(entries) = &mut entries[2].1 else { return };
            let Space::Tuple(spaces) = &mut entries[0].1 else { return };
            spaces[0] = Space::Discrete { n: 4, start: 0 };
        });
        let long = |last: u64| {
            let mut nvec = vec![2; 100];
            nvec[50] = last;
            Space::MultiDiscrete { shape: vec![100], nvec, start: vec![] }
        };
        let multi = "MultiDiscrete([2 2 2 ... 2 2 2])";
        for (one, other, expected) in [
            (nested(), nested(), None),
            (nested(), shorter, Some("a Dict of 4 keys and one of 3".to_owned())),
            (nested(), renamed, Some("key 1 is `word` and `name`".to_owned())),
            (nested(), deeper, Some("`inner[\"a.b\"][0]`: Discrete(3, start=-1) and Discrete(4)".to_owned())),
            (long(2), long(3), Some(format!("{multi} and {multi}, with a different `nvec`"))),
            (
                Space::Discrete { n: 2, start: 0 },
                Space::MultiBinary { shape: vec![2] },
                Some("Discrete(2) and MultiBinary(2)".to_owned()),
            ),
            (cartpole(), Space::Tuple(vec![cartpole()]), Some(format!("{} and Tuple({0})", cartpole()))),
        ] {
            assert_eq!(one.first_difference(&other), expected);
        }
    }
}
