//! What stands where in the bytes of a value, for a space that is known only while the policy runs.

use crate::raw::{Dtype, Space, SpaceNode};

/// A leaf of a space: a node that is no Dict and no Tuple.
#[derive(Clone, Debug, PartialEq)]
pub struct Leaf<'space> {
    /// The keys and indices from the root, joined by dots; empty for a space that is one leaf.
    pub path: String,
    /// The byte of a value at which the leaf starts.
    pub at: usize,
    /// The bytes that it takes.
    pub bytes: usize,
    /// The node itself.
    pub node: &'space SpaceNode,
}

/// The leaves of a space, in the order of their bytes.
///
/// # Panics
///
/// If the space is not well-formed, or its values do not fit into memory. The host sends no such space.
#[must_use]
#[track_caller]
pub fn leaves(space: &Space) -> Vec<Leaf<'_>> {
    let mut leaves = Vec::new();
    place(space, 0, String::new(), &mut 0, &mut leaves);
    leaves
}

/// The bytes that a value of a space takes, padding included.
///
/// # Panics
///
/// As [`leaves`].
#[must_use]
#[track_caller]
pub fn size_of(space: &Space) -> usize {
    let mut end = 0;
    place(space, 0, String::new(), &mut end, &mut Vec::new());
    end.next_multiple_of(COMPOSITE_ALIGNMENT)
}

const COMPOSITE_ALIGNMENT: usize = 8;

#[track_caller]
fn place<'space>(space: &'space Space, index: usize, path: String, end: &mut usize, to: &mut Vec<Leaf<'space>>) {
    let within = |part: &str| if path.is_empty() { part.to_owned() } else { format!("{path}.{part}") };
    let node = &space.nodes[index];
    let (alignment, bytes) = match node {
        SpaceNode::Box(node) => {
            let size = size_of_element(node.dtype);
            (size, size.checked_mul(elements(&node.shape)).expect(FITS))
        }
        SpaceNode::Discrete(_) => (8, 8),
        SpaceNode::MultiDiscrete(node) => (8, elements(&node.shape).checked_mul(8).expect(FITS)),
        SpaceNode::MultiBinary(node) => (1, elements(&node.shape)),
        SpaceNode::Text(node) => (4, 4 + 4 * node.max_length as usize),
        SpaceNode::Dict(node) => {
            *end = end.next_multiple_of(COMPOSITE_ALIGNMENT);
            for (key, &child) in node.keys.iter().zip(&node.children) {
                place(space, child as usize, within(key), end, to);
            }
            return;
        }
        SpaceNode::Tuple(node) => {
            *end = end.next_multiple_of(COMPOSITE_ALIGNMENT);
            for (key, &child) in node.children.iter().enumerate() {
                place(space, child as usize, within(&key.to_string()), end, to);
            }
            return;
        }
    };
    let at = end.next_multiple_of(alignment);
    *end = at.checked_add(bytes).expect(FITS);
    to.push(Leaf { path, at, bytes, node });
}

const FITS: &str = "a value that fits into memory";

#[track_caller]
fn elements(shape: &[u32]) -> usize {
    shape.iter().try_fold(1_usize, |product, &side| product.checked_mul(side as usize)).expect(FITS)
}

fn size_of_element(dtype: Dtype) -> usize {
    match dtype {
        Dtype::Boolean | Dtype::Int8 | Dtype::Uint8 => 1,
        Dtype::Int16 | Dtype::Uint16 | Dtype::Float16 => 2,
        Dtype::Int32 | Dtype::Uint32 | Dtype::Float32 => 4,
        Dtype::Int64 | Dtype::Uint64 | Dtype::Float64 => 8,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::info::tree_of;
    use crate::prelude::*;
    use crate::space;

    crate::dict! {
        struct Inner in InnerSpace {
            grip: Discrete,
            joint: BoxSpace<[f32; 3]>,
        }
    }

    crate::dict! {
        struct Outer in OuterSpace {
            ready: MultiBinary<[bool; 3]>,
            arm: InnerSpace,
            word: Text,
            half: BoxSpace<[F16; 2]>,
        }
    }

    #[test]
    fn leaves_stand_where_the_encoder_writes_them() {
        let space = (
            BoxSpace::<u8>::default(),
            OuterSpace {
                ready: MultiBinary::new(),
                arm: InnerSpace { grip: Discrete::new(3), joint: BoxSpace::default() },
                word: Text::new(2),
                half: BoxSpace::default(),
            },
        );
        let value = (
            7,
            Outer {
                ready: [true, false, true],
                arm: Inner { grip: 2, joint: [1.0, 2.0, 3.0] },
                word: "ab".to_owned(),
                half: [F16(0x3c00), F16(0x4000)],
            },
        );
        let bytes = space::encode(&space, &value, 0).expect("a value");
        let tree = tree_of(&space);
        assert_eq!(size_of(&tree), bytes.len());
        let found = leaves(&tree);
        let of = |path: &str| {
            let leaf = found.iter().find(|leaf| leaf.path == path).expect(path);
            &bytes[leaf.at..leaf.at + leaf.bytes]
        };
        assert_eq!(of("0"), [7]);
        assert_eq!(of("1.ready"), [1, 0, 1]);
        assert_eq!(of("1.arm.grip"), 2_i64.to_le_bytes());
        assert_eq!(of("1.arm.joint")[8..], 3_f32.to_le_bytes());
        assert_eq!(of("1.word")[..6], *b"\x02\0\0\0ab");
        assert_eq!(of("1.half"), [0, 0x3c, 0, 0x40]);
    }
}
