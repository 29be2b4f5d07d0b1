//! A part of WALL 2: namespaces of its own. Where unprivileged user namespaces are allowed: one wall more, and none that
//! another one relies upon.

use std::io;

use rustix::thread::UnshareFlags;

/// Takes away the machine's network (the new one has no interface, not even a loopback that is up), its System V IPC and
/// POSIX queues, and its user ids (the new user namespace maps none, so no set-user-ID program means anything in it).
///
/// # Errors
/// The system does not allow it: `EPERM` or `ENOSPC` by a setting, `EINVAL` by a kernel without.
pub(super) fn leave() -> io::Result<()> {
    // SAFETY: nothing of a namespace that is left is open: no socket of the network but the control pair, which is not of
    // a network, and no queue. One call for all three, so that the user namespace is never entered alone: it would give
    // every capability over nothing.
    Ok(unsafe { rustix::thread::unshare_unsafe(UnshareFlags::NEWUSER | UnshareFlags::NEWNET | UnshareFlags::NEWIPC) }?)
}
