//! A batch's observations as an array of numpy's, without a copy.

use numpy::ndarray::ArrayView1;
use numpy::{PyArray1, PyArrayMethods};
use pyo3::prelude::*;

/// The bytes of the observations of `envs`: a `uint8` array over the host's own memory, which the next step overwrites. It is
/// read-only, and so is every array made of it: what the host keeps for a row that no env answers (after a fault) is in there.
///
/// It is the host's copy, made out of the slab and checked, and no memory of a worker's: what it shows does not change while
/// nobody steps.
pub(crate) fn observations<'py>(envs: &Bound<'py, PyAny>, bytes: &[u8]) -> Bound<'py, PyArray1<u8>> {
    // SAFETY: `bytes` is the column of the batch inside `envs`: it is allocated once, when the envs have started, neither
    // moved nor freed before `envs` is dropped (closing keeps it), and `envs` is the array's base, so that it lives as long.
    // Rust writes to it inside of calls that Python makes on `envs`; a reader in another thread meanwhile sees bytes from
    // before and after, as with every array that is shared between threads. No safe way lets numpy borrow Rust's memory.
    let array = unsafe { PyArray1::borrow_from_array(&ArrayView1::from(bytes), envs.clone()) };
    // Nobody else has it yet.
    array.readwrite().make_nonwriteable();
    array
}
