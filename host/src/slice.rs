//! A short time slice of the processor for the threads that hand a step to one another. Knows the scheduler; knows
//! nothing of envs.
//!
//! A thread that is woken beside processes that compute without end waits some milliseconds until another slice is
//! over, unless its own slice is shorter than theirs. Since Linux 6.12 a thread may ask for a short slice without any
//! right (`sched_setattr` with `sched_runtime` under `SCHED_OTHER`): its share of the processor stays the same, in
//! smaller and earlier pieces. Older kernels ignore the request.

use std::cell::{Cell, RefCell};
use std::mem::size_of;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Weak};

/// Nanoseconds of the shortest slice that the kernel gives. That is enough for a worker's answer or for waking many
/// workers.
const SHORT: u64 = 100_000;

/// Shortens the calling thread's slice for good: for a worker, whose one thread only answers. Processes that are copied
/// from the worker inherit its slice.
#[cfg(feature = "worker")]
pub(crate) fn shorten() {
    let _ = exchange(SHORT);
}

/// Keeps a thread's slice short until the last holder of this value drops it in that thread.
pub(crate) struct Short {
    /// The number of the thread.
    thread: u64,
    /// The previous slice, in nanoseconds; none if the kernel did not change it.
    before: Option<u64>,
}

thread_local! {
    /// This thread's number; 0 if it has none yet.
    static THREAD: Cell<u64> = const { Cell::new(0) };
    static HELD: RefCell<Weak<Short>> = const { RefCell::new(Weak::new()) };
}

/// Makes `held` keep the calling thread's slice short. Costs nothing if it already does.
pub(crate) fn hold(held: &mut Option<Arc<Short>>) {
    let here = this_thread();
    if held.as_ref().is_some_and(|short| short.thread == here) {
        return;
    }
    *held = Some(HELD.with_borrow_mut(|known| {
        known.upgrade().unwrap_or_else(|| {
            let short = Arc::new(Short { thread: here, before: exchange(SHORT) });
            *known = Arc::downgrade(&short);
            short
        })
    }));
}

impl Drop for Short {
    fn drop(&mut self) {
        // The last holder may be dropped in another thread: then the first thread keeps its short slice.
        if let Some(before) = self.before.filter(|_| THREAD.get() == self.thread) {
            let _ = exchange(before);
        }
    }
}

/// std's thread ids would cost a reference count at each look.
fn this_thread() -> u64 {
    static THREADS: AtomicU64 = AtomicU64::new(0);
    if THREAD.get() == 0 {
        THREAD.set(THREADS.fetch_add(1, Relaxed) + 1);
    }
    THREAD.get()
}

/// Sets the calling thread's slice, if it runs under `SCHED_OTHER`, and returns the slice before.
fn exchange(slice: u64) -> Option<u64> {
    let mut attributes: libc::sched_attr = get()?;
    // A thread under another policy was put there on purpose.
    if attributes.sched_policy != libc::SCHED_OTHER.unsigned_abs() {
        return None;
    }
    let before = std::mem::replace(&mut attributes.sched_runtime, slice);
    // SAFETY: the kernel reads `size` bytes of a structure that outlives the call, and changes only the calling thread.
    // Neither rustix nor std has this call.
    let set = unsafe { libc::syscall(libc::SYS_sched_setattr, 0, &raw const attributes, 0) };
    // Kernels before 6.12 report success, but change nothing.
    (set == 0 && get()?.sched_runtime == slice).then_some(before)
}

fn get() -> Option<libc::sched_attr> {
    // SAFETY: the structure has only integers, for which zeros are valid.
    let mut attributes: libc::sched_attr = unsafe { std::mem::zeroed() };
    let size = u32::try_from(size_of::<libc::sched_attr>()).ok()?;
    // SAFETY: the kernel writes at most `size` bytes, and the structure has that many. Neither rustix nor std has this
    // call.
    let got = unsafe { libc::syscall(libc::SYS_sched_getattr, 0, &raw mut attributes, size, 0) };
    (got == 0).then_some(attributes)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs on a thread of its own, which no other test touches. On a kernel without short slices there is nothing to
    /// see.
    #[test]
    fn a_slice_is_short_until_the_last_holder_is_gone() {
        let both = std::thread::spawn(|| {
            let before = get().expect("every Linux has this call").sched_runtime;
            let (mut first, mut second) = (None, None);
            hold(&mut first);
            let short = first.as_ref().is_some_and(|short| short.before.is_some());
            let expected = if short { SHORT } else { before };
            hold(&mut second);
            drop(first);
            assert_eq!(get().expect("as before").sched_runtime, expected);
            drop(second);
            (before, get().expect("as before").sched_runtime)
        });
        let (before, after) = both.join().expect("a thread that does not panic");
        assert_eq!(before, after);
    }
}
