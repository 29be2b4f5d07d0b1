//! A part of WALL 2: one process more of the same worker, behind the same walls. A copy inherits them all: both filters, the
//! Landlock domain, the limits, the namespaces, no capability; and nothing but them and the memory as it stands.
//!
//! The system calls here are rows of the table (`seccomp`) in workers that may be copied, and in no other.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};

use super::numbers::{CONTROL, COPY_FLAGS};
use super::process::{control, die_with_the_host};

/// Which of the two one is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// The one that was there.
    Original,
    /// The new one.
    Copy,
}

/// Makes a copy of this process, and returns in both.
///
/// # Errors
/// The system's: no memory, too many processes. There is no copy then.
pub fn copy() -> io::Result<Side> {
    // SAFETY: a clone without shared memory and without a stack of its own is a fork. This process has one thread (the
    // host looks), so that no lock is held by a thread that the copy would lack; nothing that the C library keeps of a
    // process (the thread's id) is used by a worker but in messages. `fork` of the C library would be a child of the
    // worker, and rustix has none.
    let pid = unsafe { libc::syscall(libc::SYS_clone, COPY_FLAGS, 0, 0, 0, 0) };
    match pid {
        0 => Ok(Side::Copy),
        1.. => Ok(Side::Original),
        _ => Err(io::Error::last_os_error()),
    }
}

/// The copy's first act: it dies with the host, speaks to it over its own socket and logs into its own pipe. The host may
/// have died before: then its end of the socket is closed, and whatever is said over it ends the copy.
///
/// # Errors
/// The system's: the copy must end.
pub(crate) fn become_the_copy(theirs: OwnedFd, log: OwnedFd) -> io::Result<BorrowedFd<'static>> {
    die_with_the_host()?;
    for (descriptor, number) in [(&theirs, CONTROL), (&log, libc::STDERR_FILENO)] {
        // SAFETY: nobody owns these two numbers: they are open until the process ends, and what they led to is the
        // original's. rustix's `dup3` wants an owner for the number.
        if unsafe { libc::dup3(descriptor.as_raw_fd(), number, libc::O_CLOEXEC) } < 0 {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(control())
}

/// What comes with an order to copy: control socket, log, slab.
pub(crate) fn descriptors_of_a_copy(descriptors: Vec<OwnedFd>) -> io::Result<[OwnedFd; 3]> {
    <[OwnedFd; 3]>::try_from(descriptors).map_err(|_| io::Error::other("a copy's descriptors did not come"))
}
