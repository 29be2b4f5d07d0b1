//! A batch's observations as a numpy array, without a copy.

use numpy::ndarray::ArrayView1;
use numpy::{PyArray1, PyArrayMethods};
use pyo3::prelude::*;

/// The bytes of the observations of `envs`: a `uint8` array over the host's own memory, which the next step overwrites.
/// It is read-only, and so is every array made of it: the memory also holds what the host keeps for a row that no env
/// answers (after a fault).
///
/// The memory is the host's checked copy from the slab, and not a worker's: its content does not change between steps.
pub(crate) fn observations<'py>(envs: &Bound<'py, PyAny>, bytes: &[u8]) -> Bound<'py, PyArray1<u8>> {
    // SAFETY: `bytes` is the column of the batch inside `envs`. It is allocated once, when the envs have started, and
    // neither moved nor freed before `envs` is dropped (closing keeps it); `envs` is the array's base, so it lives as
    // long. Rust writes to it inside calls that Python makes on `envs`. A reader in another thread then sees a mix of
    // old and new bytes, as with every array that threads share. No safe way lets numpy borrow Rust's memory.
    let array = unsafe { PyArray1::borrow_from_array(&ArrayView1::from(bytes), envs.clone()) };
    // No other code has the array yet.
    array.readwrite().make_nonwriteable();
    array
}
