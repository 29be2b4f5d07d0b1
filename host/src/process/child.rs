//! One worker as the host sees it: its messages, its log, its slab, and how it ended. Knows nothing of envs. Only the
//! watcher starts, reads and reaps a worker.

use std::collections::VecDeque;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::sync::atomic::{AtomicBool, AtomicU32};
use std::sync::{Arc, Mutex, MutexGuard, Once, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError};
use rustix::net::SendFlags;
use serde::Serialize;

use super::reap::Process;
use crate::cage::{Wall, Walls};
use crate::wire::packet;
use crate::wire::slab::host::HostSlab;
use crate::wire::slab::pack::HostPack;
use crate::wire::talk::FromWorker;
use crate::wire::wait::{self, SLICE};

/// Bytes of guest log that are kept per worker: the newest. A guest that logs without end costs this much and no more;
/// dropped bytes are counted.
pub const LOG_BYTES_MAX: usize = 64 * 1024;

/// How long a killed process may take to be gone. Only a process stuck in the kernel takes longer than milliseconds.
const REAP_TIMEOUT: Duration = Duration::from_secs(5);

/// An empty set of capabilities, as the kernel prints it.
const NO_CAPABILITY: &str = "0000000000000000";

/// How a worker ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// It exited with this status.
    Code(i32),
    /// This signal killed it.
    Signal(i32),
    /// The kernel killed it, since the memory of its control group is used up.
    OutOfMemory,
    /// Another part of this program reaped it (a handler that waits for any child).
    Unknown,
}

/// The newest bytes of a log, and the number of older bytes that were dropped.
#[derive(Clone, Debug, Default)]
pub struct LogTail {
    bytes: VecDeque<u8>,
    dropped: u64,
}

impl LogTail {
    /// The newest bytes of a log, of which so many older ones were dropped.
    pub(crate) fn of(bytes: Vec<u8>, dropped: u64) -> LogTail {
        LogTail { bytes: bytes.into(), dropped }
    }

    /// Appends, dropping the oldest beyond [`LOG_BYTES_MAX`].
    pub fn push(&mut self, bytes: &[u8]) {
        let skipped = bytes.len().saturating_sub(LOG_BYTES_MAX);
        let bytes = &bytes[skipped..];
        let excess = (self.bytes.len() + bytes.len()).saturating_sub(LOG_BYTES_MAX);
        self.bytes.drain(..excess);
        self.bytes.extend(bytes);
        self.dropped += (skipped + excess) as u64;
    }

    /// Appends the content of another log.
    pub fn append(&mut self, other: &LogTail) {
        self.dropped = self.dropped.saturating_add(other.dropped);
        let (first, second) = other.bytes.as_slices();
        self.push(first);
        self.push(second);
    }

    /// The text, as UTF-8; invalid bytes become replacement characters. The text is not escaped: see
    /// [`crate::text::escape`].
    pub fn text(&self) -> String {
        let bytes: Vec<u8> = self.bytes.iter().copied().collect();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// Bytes that were dropped.
    pub fn dropped(&self) -> u64 {
        self.dropped
    }
}

/// The memory that a worker shares with this process.
pub(crate) enum SharedSlab {
    /// Of its only env.
    Own(HostSlab),
    /// Of several envs.
    Pack(HostPack),
}

/// The state that the watcher and a worker's owner share.
pub(crate) struct Shared {
    /// The process. For a copy, it is set once the copy has said hello.
    pub(crate) process: OnceLock<Process>,
    /// True once no owner wants the process any more: a copy that says hello after that is killed at once.
    pub(crate) killed: AtomicBool,
    pub(crate) control: Arc<OwnedFd>,
    pub(crate) slab: Option<SharedSlab>,
    /// Set with every message, lie and death: the only flag that the stepper checks beside the slab's word.
    pub(crate) attention: AtomicBool,
    /// True once the process is gone and reaped; `exit` and the whole log are then final.
    pub(crate) dead: AtomicBool,
    pub(crate) exit: OnceLock<Exit>,
    /// What the worker wrote to the socket against the protocol.
    pub(crate) lie: OnceLock<String>,
    pub(crate) log: Mutex<LogTail>,
}

/// An owned worker. Dropping it kills the process and waits until it is reaped.
pub(crate) struct Child {
    /// The fork of this program that owns the worker, by [`forks`].
    pub(crate) forks: u32,
    pub(crate) shared: Arc<Shared>,
    pub(crate) messages: Receiver<FromWorker>,
}

/// How many forks led to this process since the first call. A value made under another number belongs to the parent.
/// This is one load, since it is on the path of a step; asking for the process id would be a system call.
pub(crate) fn forks() -> u32 {
    static FORKS: AtomicU32 = AtomicU32::new(0);
    static COUNTED: Once = Once::new();
    extern "C" fn in_the_child() {
        FORKS.fetch_add(1, Relaxed);
    }
    COUNTED.call_once(|| {
        // SAFETY: the handler is a function of this program that adds to an atomic, so it may run between `fork` and
        // the child's next action. No safe crate registers such a handler. Without memory for the registration, forks
        // go unnoticed.
        unsafe { libc::pthread_atfork(None, None, Some(in_the_child)) };
    });
    FORKS.load(Relaxed)
}

/// A lock for each fork of a program, by the fork's number. If a thread holds the lock while another thread forks, the
/// child lacks that thread: there the lock stays locked forever, so the child uses another lock.
pub(crate) struct LockByFork<T>([Mutex<Option<T>>; 16]);

impl<T> LockByFork<T> {
    pub(crate) const fn new() -> LockByFork<T> {
        LockByFork([const { Mutex::new(None) }; 16])
    }

    /// Takes this fork's lock.
    pub(crate) fn lock(&self) -> MutexGuard<'_, Option<T>> {
        self.0[forks() as usize % self.0.len()].lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The result of waiting for a message.
#[derive(Debug)]
pub(crate) enum Heard {
    Message(FromWorker),
    Lie(String),
    Dead(Exit),
    /// No message yet.
    Nothing,
}

impl Child {
    /// The slab of the worker of one env.
    pub(crate) fn slab(&self) -> Option<&HostSlab> {
        match &self.shared.slab {
            Some(SharedSlab::Own(slab)) => Some(slab),
            _ => None,
        }
    }

    /// The slab of the worker of several envs.
    pub(crate) fn pack(&self) -> Option<&HostPack> {
        match &self.shared.slab {
            Some(SharedSlab::Pack(pack)) => Some(pack),
            _ => None,
        }
    }

    /// The process id; none for a copy that has not said hello.
    pub(crate) fn pid(&self) -> Option<u32> {
        self.shared.process.get().map(|process| process.pid().as_raw_nonzero().get().unsigned_abs())
    }

    /// Compares what the kernel says of the process with what a ready worker must be: the sandbox layers that
    /// it reports as active, and behind the filter one thread. A process that is gone does not count as a lie.
    ///
    /// # Errors
    /// The first difference.
    pub(crate) fn check_status(&self, walls: Walls) -> Result<(), String> {
        let status = self.pid().and_then(|pid| std::fs::read_to_string(format!("/proc/{pid}/status")).ok());
        let Some(status) = status else { return Ok(()) };
        let field = |name: &str| status.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
        let claims: [(&str, &str, Wall); 6] = [
            // Without the filter a worker may begin threads at any time, and an emulator of processors (qemu-user) does.
            ("Threads:", "1", Wall::Seccomp),
            ("NoNewPrivs:", "1", Wall::NoNewPrivs),
            ("Seccomp:", "2", Wall::Seccomp),
            ("CapInh:", NO_CAPABILITY, Wall::Capabilities),
            ("CapPrm:", NO_CAPABILITY, Wall::Capabilities),
            ("CapEff:", NO_CAPABILITY, Wall::Capabilities),
        ];
        for (name, expected, wall) in claims {
            match field(name) {
                Some(found) if walls.has(wall) && found != expected => {
                    return Err(format!("the kernel says of the worker `{name} {found}`, where {expected} is due"));
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Whether the process is gone and reaped.
    pub(crate) fn is_dead(&self) -> bool {
        self.shared.dead.load(Acquire)
    }

    /// Sends a message. Never waits: a worker that does not read its socket gets no more messages.
    pub(crate) fn send<T: Serialize>(&self, message: &T, descriptors: &[BorrowedFd<'_>]) -> std::io::Result<()> {
        packet::send(self.shared.control.as_fd(), message, descriptors, SendFlags::DONTWAIT)
    }

    /// Waits for a message, a lie or death, for at most `time` and at most one [`SLICE`]. Messages come before the
    /// death that followed them.
    pub(crate) fn listen(&self, time: Duration) -> Heard {
        let time = time.min(SLICE);
        let message = if time.is_zero() {
            self.messages.try_recv().map_err(|error| error.is_disconnected())
        } else {
            self.messages.recv_timeout(time).map_err(|error| matches!(error, RecvTimeoutError::Disconnected))
        };
        match message {
            Ok(message) => Heard::Message(message),
            Err(disconnected) => match (self.shared.lie.get(), self.shared.exit.get()) {
                (Some(lie), _) => Heard::Lie(lie.clone()),
                (None, Some(exit)) if disconnected => Heard::Dead(*exit),
                _ => {
                    if disconnected {
                        // The watcher hangs up before it reaps: this gives it the moment it needs.
                        std::thread::sleep(Duration::from_micros(100));
                    }
                    Heard::Nothing
                }
            },
        }
    }

    /// Kills the process, if it is alive.
    pub(crate) fn kill(&self) {
        self.shared.killed.store(true, Release);
        if let Some(process) = self.shared.process.get() {
            process.kill();
        }
    }

    /// Waits until the process is gone and reaped. For a copy that has not said hello it does not wait: the watcher
    /// ends that copy.
    pub(crate) fn wait_dead(&self) -> Exit {
        if self.shared.process.get().is_none() {
            return Exit::Unknown;
        }
        let until = Instant::now() + REAP_TIMEOUT;
        while !self.is_dead() && Instant::now() < until {
            match self.messages.recv_timeout(SLICE) {
                Ok(_) | Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => std::thread::sleep(Duration::from_micros(100)),
            }
        }
        self.shared.exit.get().copied().unwrap_or(Exit::Unknown)
    }

    /// The log so far.
    pub(crate) fn log(&self) -> LogTail {
        self.shared.log.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        if self.forks != forks() {
            // This is a fork's copy: the process belongs to the parent.
            return;
        }
        self.kill();
        self.wait_dead();
    }
}

impl Shared {
    /// Publishes the end of a process; the watcher calls this last.
    pub(crate) fn set_dead(&self, exit: Exit) {
        let _ = self.exit.set(exit);
        self.dead.store(true, Release);
        self.alert();
    }

    /// Makes waiters look up. The wake-up is a hint: a waiter that does not sleep yet looks within a slice.
    pub(crate) fn alert(&self) {
        self.attention.store(true, Release);
        match &self.slab {
            Some(SharedSlab::Own(slab)) => wait::wake(slab.done_word()),
            Some(SharedSlab::Pack(pack)) => wait::wake(pack.done_word()),
            None => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_keeps_its_newest_bytes_and_counts_the_rest() {
        let mut log = LogTail::default();
        log.push(&vec![b'a'; LOG_BYTES_MAX - 1]);
        log.push(b"bc");
        assert_eq!(log.dropped(), 1);
        assert!(log.text().ends_with("abc"));
        log.push(&vec![b'd'; 3 * LOG_BYTES_MAX]);
        assert_eq!(log.text().len(), LOG_BYTES_MAX);
        assert_eq!(log.dropped(), 3 * LOG_BYTES_MAX as u64 + 1);
    }
}
