//! The few lines in which a wake could be lost: publishing a word, and going to sleep on it. Both sides of a slab use
//! them, host and worker mirrored.
//!
//! The other file that compiles this one is the model in `tests/model/`, which runs every interleaving of it under
//! loom: hence the atomics from `crate::sync`.

use crate::sync::{AtomicU32, Ordering, fence};

/// Publishes `value`: everything written before it is seen by who sees it. Returns whether the other side sleeps, or is
/// about to, and must be woken.
pub(crate) fn publish(word: &AtomicU32, value: u32, sleeps: &AtomicU32) -> bool {
    word.store(value, Ordering::Release);
    // The other side stores its flag, fences, then looks at the word. Without a fence on both sides each store could
    // still be on its way when the other's load runs (store-buffer reordering): both would miss.
    fence(Ordering::SeqCst);
    sleeps.load(Ordering::Relaxed) != 0
}

/// Goes to sleep on `word` by `futex_wait` unless it is no longer `last`. The flag says so to who publishes.
pub(crate) fn sleep(word: &AtomicU32, last: u32, sleeps: &AtomicU32, futex_wait: impl FnOnce()) {
    sleeps.store(1, Ordering::Relaxed);
    fence(Ordering::SeqCst);
    if word.load(Ordering::Relaxed) == last {
        futex_wait();
    }
    sleeps.store(0, Ordering::Relaxed);
}
