//! A process that this program started, from its start until it is reaped. Until then its id is its own, so an id is
//! enough to kill it and to see its end: a descriptor for each process would be one more for each env.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::{Mutex, MutexGuard, PoisonError};

use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal, WaitId, WaitIdOptions, WaitOptions};
use rustix::process::{kill_process, pidfd_open, pidfd_send_signal, waitid, waitpid};

use super::child::Exit;

/// Looks at ends, and changes nothing.
const LOOK: WaitIdOptions = WaitIdOptions::EXITED.union(WaitIdOptions::NOHANG).union(WaitIdOptions::NOWAIT);

/// Only the children of the thread that asks (`__WNOTHREAD`), which rustix does not name.
const OF_THIS_THREAD: WaitIdOptions = WaitIdOptions::from_bits_retain(libc::__WNOTHREAD.cast_unsigned());

/// A child of the watcher's thread.
pub(crate) struct Process {
    pid: Pid,
    /// Locked while the process is killed or reaped: a process that is reaped has no id any more.
    is_reaped: Mutex<bool>,
}

impl Process {
    /// A child that nobody has reaped.
    pub(crate) fn new(pid: Pid) -> Process {
        Process { pid, is_reaped: Mutex::new(false) }
    }

    /// The id, which is another process's once this one is reaped.
    pub(crate) fn pid(&self) -> Pid {
        self.pid
    }

    /// Kills the process, if it is alive.
    pub(crate) fn kill(&self) {
        let is_reaped = self.lock();
        if *is_reaped {
            return;
        }
        // Another part of this program may have reaped the process (a handler that waits for any child), and the kernel
        // may have given its id away. So the signal goes to what the id meant while the process was still a child.
        match pidfd_open(self.pid, PidfdFlags::empty()) {
            Ok(_) if is_child(self.pid).is_err() => {}
            Ok(pidfd) => drop(pidfd_send_signal(pidfd, Signal::KILL)),
            Err(Errno::SRCH) => {}
            // No descriptor is left, or a filter forbids the call.
            Err(_) if is_child(self.pid).is_err() => {}
            Err(_) => drop(kill_process(self.pid, Signal::KILL)),
        }
    }

    /// Whether the process has ended. It stays to be reaped.
    pub(crate) fn has_ended(&self) -> bool {
        *self.lock() || !matches!(is_child(self.pid), Ok(false))
    }

    /// Reaps the process, and returns how it ended. Waits if it has not ended.
    pub(crate) fn reap(&self) -> Exit {
        let mut is_reaped = self.lock();
        if std::mem::replace(&mut *is_reaped, true) {
            return Exit::Unknown;
        }
        let of = |code: Option<i32>, signal: Option<i32>| match (code, signal) {
            (Some(code), _) => Exit::Code(code),
            (None, Some(signal)) => Exit::Signal(signal),
            (None, None) => Exit::Unknown,
        };
        match waitid(WaitId::Pid(self.pid), WaitIdOptions::EXITED) {
            Ok(Some(status)) => of(status.exit_status(), status.terminating_signal()),
            Ok(None) | Err(Errno::CHILD) => Exit::Unknown,
            // A filter around this process forbids the call.
            Err(_) => match waitpid(Some(self.pid), WaitOptions::empty()) {
                Ok(Some((_, status))) => of(status.exit_status(), status.terminating_signal()),
                _ => Exit::Unknown,
            },
        }
    }

    /// A descriptor that is readable once the process has ended.
    pub(crate) fn pidfd(&self) -> io::Result<OwnedFd> {
        Ok(pidfd_open(self.pid, PidfdFlags::empty())?)
    }

    fn lock(&self) -> MutexGuard<'_, bool> {
        self.is_reaped.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether a child has ended; it stays to be reaped.
///
/// # Errors
/// The process is no child of this program, or not any more.
pub(crate) fn is_child(pid: Pid) -> Result<bool, Errno> {
    match waitid(WaitId::Pid(pid), LOOK) {
        Ok(status) => Ok(status.is_some()),
        Err(Errno::CHILD) => Err(Errno::CHILD),
        Err(_) => Ok(false),
    }
}

/// Whether a child of this thread has ended and is not reaped.
pub(crate) fn a_child_has_ended() -> bool {
    matches!(waitid(WaitId::All, LOOK | OF_THIS_THREAD), Ok(Some(_)))
}

/// Whether the kernel tells whose child a process is, which adopting a copy needs. An older container's filter may
/// forbid it. Asking changes nothing.
pub(crate) fn can_adopt() -> bool {
    matches!(waitid(WaitId::All, LOOK), Ok(_) | Err(Errno::CHILD | Errno::INTR))
}
