//! On the path of a step: vec_env → slab → **wait** → worker/serve → worker/instance → slab.
//! Knows two words and the clock; knows nothing of what they mean.
//!
//! The futexes work between processes, so never with `FUTEX_PRIVATE`. No sleep is longer than [`SLICE`] in one piece.
//! After each piece the waiter looks again at the deadline, at the worker's death and at the word, so that a lost or
//! withheld wake-up costs 20 ms and never hangs.

use std::hint;
use std::sync::OnceLock;
use std::sync::atomic::Ordering::{Acquire, Relaxed, SeqCst};
use std::sync::atomic::{AtomicU32, AtomicU64, fence};
use std::time::{Duration, Instant};

use rustix::thread::futex::{self, Flags, Timespec};

use super::handshake;

/// The longest sleep in one piece.
pub const SLICE: Duration = Duration::from_millis(20);

/// Words that one `futex_waitv` can watch; the kernel's own limit.
const WAITV_MAX: usize = 128;

/// How to wait for the other side before sleeping.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Spin {
    /// Not at all.
    None,
    /// Keep the processor: when the other side runs on another core and answers within microseconds.
    Busy(Duration),
    /// Yield the processor at each look: when workers outnumber the cores, so that the waiter's core is needed for
    /// work.
    Yield(Duration),
}

impl Spin {
    /// Keeps the processor for so many microseconds; 0: not at all.
    pub fn for_us(us: u32) -> Spin {
        match us {
            0 => Spin::None,
            us => Spin::Busy(Duration::from_micros(u64::from(us))),
        }
    }
}

/// The longest time between two looks at the clock of a thread that shares its core with no process but its own
/// workers. A longer gap means that another process ran on the core: the answers of fifty workers take less time, and a
/// foreign time slice takes more.
const STOOD_STILL: Duration = Duration::from_millis(1);

/// How long a process neither spins nor yields after such a gap. The next try costs at most one foreign time slice, a
/// few milliseconds.
const CROWDED: Duration = Duration::from_millis(200);

/// Until when this process takes the cores for crowded, in microseconds since its first wait. All waits of a process
/// share the finding, since the whole machine is crowded.
static CROWDED_UNTIL: AtomicU64 = AtomicU64::new(0);

/// When this process waited first. This uses std's clock, in workers too: std asks the C library, which has known the
/// kernel's clock page since the process started, while rustix would look for that page behind the seccomp filter.
static FIRST_WAIT: OnceLock<Instant> = OnceLock::new();

/// Waits until `word` is no longer `last`, for at most the spin and then one sleep of `sleep_max` (for a host at most
/// [`SLICE`]). `sleeps` tells the other side that a wake is needed. Returns whether the word has changed.
pub fn wait(word: &AtomicU32, last: u32, sleeps: &AtomicU32, spin: Spin, sleep_max: Duration) -> bool {
    let changed = || word.load(Acquire) != last;
    if changed() {
        return true;
    }
    if spin_while(spin, || !changed()) {
        return true;
    }
    sleep(word, last, sleeps, sleep_max);
    changed()
}

/// Spins while `unchanged` holds, for at most the time of `spin`. Returns whether it ceased to hold.
///
/// Spinning and yielding pay only while no other process wants the core. A yielding thread beside a process that
/// computes without end gives that process a whole time slice; a spinning thread uses up its own share of the
/// processor. Both cases show in the clock, and the thread then sleeps instead for as long as [`CROWDED`]: a sleeping
/// thread is woken at once.
pub(crate) fn spin_while(spin: Spin, unchanged: impl Fn() -> bool) -> bool {
    let (Spin::Busy(time) | Spin::Yield(time)) = spin else { return false };
    let begun = Instant::now();
    let first = *FIRST_WAIT.get_or_init(|| begun);
    let micros = |time: Instant| u64::try_from((time - first).as_micros()).unwrap_or(u64::MAX);
    if micros(begun) < CROWDED_UNTIL.load(Relaxed) {
        return false;
    }
    let mut before = begun;
    while before - begun < time {
        if spin == Spin::Yield(time) {
            std::thread::yield_now();
        } else {
            // Reading the clock costs as much as fifty looks.
            for _ in 0..50 {
                if !unchanged() {
                    return true;
                }
                hint::spin_loop();
            }
        }
        let after = Instant::now();
        if after - before > STOOD_STILL {
            CROWDED_UNTIL.store(micros(after + CROWDED), Relaxed);
        }
        if !unchanged() {
            return true;
        }
        before = after;
    }
    false
}

/// Sleeps on `word` while it is `last`, at most `time`.
fn sleep(word: &AtomicU32, last: u32, sleeps: &AtomicU32, time: Duration) {
    handshake::sleep(word, last, sleeps, || {
        // Woken, changed, interrupted, timed out: in each case the caller looks again.
        let _ = futex::wait(word, Flags::empty(), last, Some(&timespec(time)));
    });
}

/// Wakes the sleeper on `word`: after a store to the word, if the other side's flag asks for it. Without a store the
/// wake-up is only a hint, which a waiter that does not sleep yet misses.
pub fn wake(word: &AtomicU32) {
    let _ = futex::wake(word, Flags::empty(), 1);
}

/// One of several words that a host waits for: it waits while the word is `last`.
pub struct Watched<'a> {
    /// The word.
    pub word: &'a AtomicU32,
    /// The word's value while there is nothing to see.
    pub last: u32,
    /// The host's sleep flag for the word.
    pub sleeps: &'a AtomicU32,
}

/// Waits until one of `words` changes, first by spinning, then asleep, for at most `time` and at most one [`SLICE`]. If there
/// are more words than the kernel watches at once, or no `futex_waitv` (Linux 5.16), it sleeps a fraction of a millisecond
/// instead.
pub fn wait_any(words: &[Watched<'_>], spin: Spin, time: Duration) {
    let time = time.min(SLICE);
    let unchanged = || words.iter().all(|watched| watched.word.load(Acquire) == watched.last);
    if !words.is_empty() && spin_while(spin, unchanged) {
        return;
    }
    for watched in words {
        watched.sleeps.store(1, Relaxed);
    }
    fence(SeqCst);
    let quiet = words.iter().all(|watched| watched.word.load(Relaxed) == watched.last);
    if quiet && (words.len() > WAITV_MAX || words.is_empty() || waitv(words, time).is_err()) {
        std::thread::sleep(time.min(Duration::from_micros(200)));
    }
    for watched in words {
        watched.sleeps.store(0, Relaxed);
    }
}

fn waitv(words: &[Watched<'_>], time: Duration) -> Result<(), ()> {
    use rustix::io::Errno;
    use rustix::thread::futex::{Wait, WaitFlags, WaitPtr, WaitvFlags};
    let waits: Vec<Wait> = words
        .iter()
        .map(|watched| {
            let mut wait = Wait::new();
            wait.val = u64::from(watched.last);
            wait.uaddr = WaitPtr::new(watched.word.as_ptr().cast());
            wait.flags = WaitFlags::SIZE_U32;
            wait
        })
        .collect();
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    let until = Duration::new(now.tv_sec.unsigned_abs(), u32::try_from(now.tv_nsec).unwrap_or(0)) + time;
    match futex::waitv(&waits, WaitvFlags::empty(), Some(&timespec(until)), rustix::thread::ClockId::Monotonic) {
        Ok(_) | Err(Errno::AGAIN | Errno::INTR | Errno::TIMEDOUT) => Ok(()),
        Err(_) => Err(()),
    }
}

fn timespec(time: Duration) -> Timespec {
    Timespec { tv_sec: i64::try_from(time.as_secs()).unwrap_or(i64::MAX), tv_nsec: i64::from(time.subsec_nanos()) }
}
