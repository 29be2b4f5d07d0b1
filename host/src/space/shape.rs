//! The number of elements of a shape.

/// The number of elements of a shape.
pub(super) fn count(shape: &[u32]) -> usize {
    shape
        .iter()
        .fold(1, |count: usize, &dimension| count.saturating_mul(usize::try_from(dimension).unwrap_or(usize::MAX)))
}
