//! SANDBOX, part 2: namespaces of its own, if unprivileged user namespaces are allowed. This is one more layer, and no
//! other layer relies on it.

use std::io;

use rustix::thread::UnshareFlags;

/// Leaves the machine's network (the new one has no interface, not even a loopback that is up), its System V IPC and
/// POSIX queues, and its user ids (the new user namespace maps none, so no set-user-ID program has an effect in it).
///
/// # Errors
/// The system does not allow it: `EPERM` or `ENOSPC` by a setting, `EINVAL` by a kernel without namespaces.
pub(super) fn leave() -> io::Result<()> {
    // SAFETY: nothing of the old namespaces is open: no network socket (the control pair belongs to no network), and no
    // queue. One call enters all three, so that the user namespace is never entered alone: that would give every
    // capability over nothing.
    Ok(unsafe { rustix::thread::unshare_unsafe(UnshareFlags::NEWUSER | UnshareFlags::NEWNET | UnshareFlags::NEWIPC) }?)
}
