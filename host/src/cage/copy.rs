//! SANDBOX, part 2: another process of the same worker, in the same sandbox. A copy inherits all layers: both filters,
//! the Landlock domain, the limits, the namespaces, no capability. It inherits nothing else but the memory as it is.
//!
//! The system calls here are rows of the table (`seccomp`) only in workers that may be copied.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};

use super::numbers::{CONTROL, COPY_FLAGS};
use super::process::{control, die_with_the_host};

/// Which of the two processes this is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// The process that made the copy.
    Original,
    /// The new process.
    Copy,
}

/// Makes a copy of this process, and returns in both.
///
/// # Errors
/// The system's error: no memory, too many processes. There is no copy then.
pub fn copy() -> io::Result<Side> {
    // SAFETY: a clone without shared memory and without a stack of its own is a fork. This process has one thread (the
    // host checks), so no lock is held by a thread that the copy would lack. A worker uses the C library's per-process
    // data (the thread's id) only in messages. The C library's `fork` would make a child of the worker, and rustix has
    // no such call.
    let pid = unsafe { libc::syscall(libc::SYS_clone, COPY_FLAGS, 0, 0, 0, 0) };
    match pid {
        0 => Ok(Side::Copy),
        1.. => Ok(Side::Original),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Makes this process the copy, as its first act: it dies with the host, talks to the host over its own socket and logs
/// into its own pipe. If the host died before, its end of the socket is closed, and the first message over it ends the
/// copy.
///
/// # Errors
/// The system's error: the copy must end.
pub(crate) fn become_the_copy(theirs: OwnedFd, log: OwnedFd) -> io::Result<BorrowedFd<'static>> {
    die_with_the_host()?;
    for (descriptor, number) in [(&theirs, CONTROL), (&log, libc::STDERR_FILENO)] {
        // SAFETY: no value owns these two numbers: they are open until the process ends, and their old files belong to
        // the original. rustix's `dup3` wants an owner for the number.
        if unsafe { libc::dup3(descriptor.as_raw_fd(), number, libc::O_CLOEXEC) } < 0 {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(control())
}

/// Unpacks the descriptors of an order to copy: control socket, log, slab.
pub(crate) fn descriptors_of_a_copy(descriptors: Vec<OwnedFd>) -> io::Result<[OwnedFd; 3]> {
    <[OwnedFd; 3]>::try_from(descriptors).map_err(|_| io::Error::other("a copy's descriptors did not come"))
}
