//! A sealed file as memory: its bytes, read where they lie. Processes that map one file share its pages.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::ptr::NonNull;

use rustix::mm::{MapFlags, ProtFlags};

/// The bytes of a memfd that the host sealed against writing, growing and shrinking.
#[derive(Debug)]
pub(crate) struct Sealed {
    base: NonNull<u8>,
    bytes: usize,
}

// SAFETY: the mapping belongs to this value until it is dropped, and nobody can change what is mapped.
unsafe impl Send for Sealed {}

// SAFETY: as for `Send`.
unsafe impl Sync for Sealed {}

impl Drop for Sealed {
    fn drop(&mut self) {
        // SAFETY: `base` came from an `mmap` of exactly this length; what is borrowed from it borrows from this value.
        let _ = unsafe { rustix::mm::munmap(self.base.as_ptr().cast(), self.bytes) };
    }
}

impl Sealed {
    /// Maps a file of so many bytes, at least one, and closes the descriptor.
    ///
    /// # Errors
    /// The system's.
    pub(crate) fn map(fd: OwnedFd, bytes: usize) -> io::Result<Sealed> {
        // SAFETY: a new private mapping that is only read; nothing of this process is replaced.
        let base = unsafe {
            rustix::mm::mmap(std::ptr::null_mut(), bytes, ProtFlags::READ, MapFlags::PRIVATE, fd.as_fd(), 0)?
        };
        match NonNull::new(base.cast::<u8>()) {
            Some(base) => Ok(Sealed { base, bytes }),
            None => Err(io::Error::other("mmap returned address 0")),
        }
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        // SAFETY: the mapping is this long and lives as long as the value. The host sealed the file against writing and
        // shrinking before it handed it over, and told its length with the job, which the worker trusts as it trusts the
        // host's every word; so no byte changes under the reference, and none is missing.
        unsafe { std::slice::from_raw_parts(self.base.as_ptr(), self.bytes) }
    }
}
