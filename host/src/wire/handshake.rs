//! The few lines in which a wake-up could be lost: publishing a word, and going to sleep on it. Both sides of a slab
//! use them, the host and the worker as mirror images.
//!
//! The model in `tests/model/` also compiles this file, and runs every interleaving of it under loom: hence the atomics
//! from `crate::sync`.

use crate::sync::{AtomicU32, Ordering, fence};

/// Publishes `value`: a reader that sees it also sees everything written before it. Returns whether the other side
/// sleeps, or is about to, and must be woken.
pub(crate) fn publish(word: &AtomicU32, value: u32, sleeps: &AtomicU32) -> bool {
    word.store(value, Ordering::Release);
    // The other side stores its flag, fences, then looks at the word. Without a fence on both sides, each store could
    // still be under way when the other side's load runs (store-buffer reordering): both sides would miss each other's
    // store.
    fence(Ordering::SeqCst);
    sleeps.load(Ordering::Relaxed) != 0
}

/// Sleeps on `word` by `futex_wait` unless it is no longer `last`. The flag tells the publisher of the sleep.
pub(crate) fn sleep(word: &AtomicU32, last: u32, sleeps: &AtomicU32, futex_wait: impl FnOnce()) {
    sleeps.store(1, Ordering::Relaxed);
    fence(Ordering::SeqCst);
    if word.load(Ordering::Relaxed) == last {
        futex_wait();
    }
    sleeps.store(0, Ordering::Relaxed);
}
