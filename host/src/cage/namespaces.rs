//! SANDBOX, part 2: namespaces of its own, if unprivileged user namespaces are allowed. This is one more layer, and no
//! other layer relies on it.

use rustix::io::Errno;
use rustix::thread::UnshareFlags;

/// Leaves the machine's network (the new one has no interface, not even a loopback that is up), its System V IPC and
/// POSIX queues, and its user ids (the new user namespace maps none, so no set-user-ID program has an effect in it).
///
/// # Errors
/// The system does not allow it, by which setting, and what was left all the same: root may leave network and IPC where
/// nobody may make a user namespace.
pub(super) fn leave() -> Result<(), String> {
    let others = UnshareFlags::NEWNET | UnshareFlags::NEWIPC;
    let Err(error) = unshare(UnshareFlags::NEWUSER | others) else { return Ok(()) };
    let why = why(error);
    match unshare(others) {
        Ok(()) => Err(format!("network and IPC are left, and the user ids are not: {why}")),
        Err(_) => Err(why),
    }
}

fn unshare(namespaces: UnshareFlags) -> Result<(), Errno> {
    // SAFETY: nothing of the old namespaces is open: no network socket (the control pair belongs to no network), and no
    // queue. One call enters all of them, so that the user namespace is never entered alone: that would give every
    // capability over nothing.
    unsafe { rustix::thread::unshare_unsafe(namespaces) }
}

/// The setting behind an error of the system.
fn why(error: Errno) -> String {
    match error {
        Errno::NOSPC | Errno::USERS => {
            "no user namespace can be made: the sysctl `user.max_user_namespaces` is 0, or as many are in use"
                .to_owned()
        }
        Errno::PERM => {
            "this user may make no user namespace: a sysctl forbids it (`kernel.unprivileged_userns_clone`, \
             `kernel.apparmor_restrict_unprivileged_userns`), or a filter around this process"
                .to_owned()
        }
        Errno::INVAL => "this kernel has no user namespaces".to_owned(),
        other => other.to_string(),
    }
}
