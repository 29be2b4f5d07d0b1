//! The stack of a worker: wasm's frames and the host's own functions grow on it. This is no layer of the sandbox: the
//! engine bounds what a guest may use of the stack (`wasm`).

use rustix::process::{Resource, getrlimit};
#[cfg(feature = "worker")]
use rustix::process::{Rlimit, setrlimit};
use rustix::thread::CapabilitySet;

use crate::error::UsageError;

/// The size that a stack must be able to reach: what Linux gives a main thread, and eight times what wasm frames may
/// use.
const STACK_BYTES: u64 = 8 << 20;

/// Raises the process's stack limit to that size, if it is lower. A stack grows up to the current limit, so raising it
/// is never too late. If it fails, everything stays as it was.
#[cfg(feature = "worker")]
pub(crate) fn make_room() {
    let Rlimit { current, maximum } = getrlimit(Resource::Stack);
    if current.is_some_and(|current| current < STACK_BYTES) {
        // A process with the right to do so also raises the hard limit.
        let maximum = maximum.map(|maximum| maximum.max(STACK_BYTES));
        let _ = setrlimit(Resource::Stack, Rlimit { current: Some(STACK_BYTES), maximum });
    }
}

/// Checks whether a process that is started from here can have that stack.
///
/// # Errors
/// The limit that is too low, and what to do about it.
pub(crate) fn check() -> Result<(), UsageError> {
    let may_raise =
        || rustix::thread::capabilities(None).is_ok_and(|sets| sets.effective.contains(CapabilitySet::SYS_RESOURCE));
    match getrlimit(Resource::Stack).maximum {
        Some(maximum) if maximum < STACK_BYTES && !may_raise() => {
            let (limit, need) = (maximum >> 10, STACK_BYTES >> 10);
            Err(UsageError::new(format!(
                "no worker can run: the hard limit of the stack is {limit} KiB (`ulimit -Hs`), and one needs {need} KiB"
            ))
            .hint(format!(
                "raise it where this shell or service was started: `ulimit -s {need}` before it was lowered, or `stack` in \
                 limits.conf, `LimitSTACK=` of systemd, `--ulimit stack={STACK_BYTES}` of docker run"
            )))
        }
        _ => Ok(()),
    }
}
