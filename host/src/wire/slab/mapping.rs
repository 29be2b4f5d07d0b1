//! The memory itself: mapped once, read and written only by atomic loads and stores.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::ptr::NonNull;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicU8, AtomicU32, AtomicU64};

use rustix::fs::MemfdFlags;
use rustix::mm::{MapFlags, ProtFlags};

use super::layout::Place;

/// The words that the host writes, on their own cache lines.
#[repr(C, align(64))]
pub(super) struct RequestWords {
    pub(super) turn: AtomicU32,
    pub(super) command: AtomicU32,
    pub(super) count: AtomicU32,
    pub(super) flags: AtomicU32,
    pub(super) seed: AtomicU64,
    pub(super) spin_us: AtomicU32,
    pub(super) host_sleeps: AtomicU32,
    /// The turn that is to end after the present step.
    pub(super) stop: AtomicU32,
}

/// The words that the worker writes, on their own cache lines.
#[repr(C, align(64))]
pub(super) struct AnswerWords {
    pub(super) done: AtomicU32,
    pub(super) half: AtomicU32,
    pub(super) status: AtomicU32,
    pub(super) taken: AtomicU32,
    pub(super) flags: AtomicU32,
    pub(super) extra_len: AtomicU32,
    pub(super) reward: AtomicU64,
    pub(super) final_extra_len: AtomicU32,
    pub(super) worker_sleeps: AtomicU32,
}

/// The words of a worker with several envs: those of the host, then those of the worker, on cache lines of their own.
#[repr(C, align(64))]
pub(super) struct PackWords {
    /// Raised when any env has a new turn.
    pub(super) turn: AtomicU32,
    pub(super) spin_us: AtomicU32,
    pub(super) host_sleeps: AtomicU32,
    _line: [u32; 13],
    /// The `turn` up to which every env's turn is answered.
    pub(super) done: AtomicU32,
    pub(super) worker_sleeps: AtomicU32,
    /// The place, counted from 1, of the env that is being asked; 0: none.
    pub(super) at: AtomicU32,
    /// Raised with every request and every step of a batch that begins.
    pub(super) beat: AtomicU32,
}

/// A mapping of a slab. All access is by relaxed atomics on words inside it, so that a hostile writer on the other
/// side can change values under a reader, but never break it.
pub(super) struct Mapping {
    base: NonNull<u8>,
    bytes: usize,
}

// SAFETY: the mapping belongs to this value until it is dropped, and every access to it is atomic.
unsafe impl Send for Mapping {}

// SAFETY: as for `Send`.
unsafe impl Sync for Mapping {}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: `base` came from an `mmap` of exactly this length, and nothing borrows from it (no reference into
        // the slab outlives a call). rustix has no owning map type; memmap2 gives out `&mut [u8]`, which a second
        // writer makes unsound.
        let _ = unsafe { rustix::mm::munmap(self.base.as_ptr().cast(), self.bytes) };
    }
}

impl Mapping {
    /// Maps a memfd of so many bytes, which can neither grow nor shrink.
    pub(super) fn new(fd: BorrowedFd<'_>, bytes: usize, address: Option<usize>) -> io::Result<Mapping> {
        let flags = match address {
            Some(_) => MapFlags::SHARED | MapFlags::FIXED_NOREPLACE,
            None => MapFlags::SHARED,
        };
        let hint = std::ptr::with_exposed_provenance_mut(address.unwrap_or(0));
        // SAFETY: a new shared mapping of a sealed memfd that is `bytes` long and cannot shrink (so no access
        // within it can raise SIGBUS); `FIXED_NOREPLACE` never replaces a mapping of ours.
        let base = unsafe { rustix::mm::mmap(hint, bytes, ProtFlags::READ | ProtFlags::WRITE, flags, fd.as_fd(), 0)? };
        match NonNull::new(base.cast::<u8>()) {
            Some(base) => Ok(Mapping { base, bytes }),
            None => Err(io::Error::other("mmap returned address 0")),
        }
    }

    /// Leaves the mapping out of processes that this one forks. So a slab is gone with its env, even if the host has
    /// forked.
    pub(super) fn keep_from_forks(&self) -> io::Result<()> {
        // SAFETY: the mapping is whole and this value's own; the advice changes nothing in this process. A forked
        // process never reads the mapping: `VecEnv` refuses there.
        unsafe { rustix::mm::madvise(self.base.as_ptr().cast(), self.bytes, rustix::mm::Advice::LinuxDontFork)? };
        Ok(())
    }

    /// Maps another slab in place of this one.
    #[cfg(feature = "worker")]
    pub(super) fn replace(&mut self, fd: BorrowedFd<'_>) -> io::Result<()> {
        let (at, protection) = (self.base.as_ptr().cast(), ProtFlags::READ | ProtFlags::WRITE);
        // SAFETY: the call replaces exactly the mapping that this value owns; nothing borrows from it (`&mut self`).
        // The old memory belongs to another process. The memfd is as `new` requires.
        unsafe { rustix::mm::mmap(at, self.bytes, protection, MapFlags::SHARED | MapFlags::FIXED, fd, 0)? };
        Ok(())
    }

    pub(super) fn request(&self, place: &Place) -> &RequestWords {
        // SAFETY: a place's words are within the mapping (its maker checks), aligned, valid for any bytes, and made of
        // atomics only.
        unsafe { self.base.add(place.request_at).cast().as_ref() }
    }

    pub(super) fn answer(&self, place: &Place) -> &AnswerWords {
        // SAFETY: as for `request`.
        unsafe { self.base.add(place.answer_at).cast().as_ref() }
    }

    /// The words of a worker with several envs.
    pub(super) fn pack(&self) -> &PackWords {
        // SAFETY: as for `request`; every mapping is longer than these words.
        unsafe { self.base.cast().as_ref() }
    }

    /// Whether so many bytes from `at` lie inside.
    pub(super) fn holds(&self, at: usize, bytes: usize) -> bool {
        at.checked_add(bytes).is_some_and(|end| end <= self.bytes)
    }

    pub(super) fn words(&self, at: usize, count: usize) -> &[AtomicU64] {
        assert!(at.is_multiple_of(8) && self.holds(at, count * 8), "the slab's own offsets stay inside it");
        // SAFETY: inside the mapping (asserted; offsets and lengths are the reader's own, never taken from the other
        // side), aligned to 8, and either side may write to atomics.
        unsafe { std::slice::from_raw_parts(self.base.add(at).cast().as_ptr(), count) }
    }

    pub(super) fn bytes(&self, at: usize, count: usize) -> &[AtomicU8] {
        assert!(self.holds(at, count), "the slab's own offsets stay inside it");
        // SAFETY: as for `words`.
        unsafe { std::slice::from_raw_parts(self.base.add(at).cast().as_ptr(), count) }
    }

    /// Copies out of the slab: word by word, relaxed, the last few bytes one by one. `at` is a multiple of 8.
    pub(super) fn copy_out(&self, at: usize, out: &mut [u8]) {
        let whole = out.len() / 8;
        let tail = self.bytes(at + whole * 8, out.len() - whole * 8);
        let (chunks, rest) = out.as_chunks_mut::<8>();
        for (to, from) in chunks.iter_mut().zip(self.words(at, whole)) {
            *to = from.load(Relaxed).to_ne_bytes();
        }
        for (to, from) in rest.iter_mut().zip(tail) {
            *to = from.load(Relaxed);
        }
    }

    /// Copies into the slab, in the same way as `copy_out`.
    pub(super) fn copy_in(&self, at: usize, from: &[u8]) {
        let (chunks, rest) = from.as_chunks::<8>();
        for (from, to) in chunks.iter().zip(self.words(at, chunks.len())) {
            to.store(u64::from_ne_bytes(*from), Relaxed);
        }
        for (from, to) in rest.iter().zip(self.bytes(at + chunks.len() * 8, rest.len())) {
            to.store(*from, Relaxed);
        }
    }
}

/// A memfd that can be sealed and never executed.
pub(crate) fn sealed_memfd(name: &str) -> io::Result<OwnedFd> {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    match rustix::fs::memfd_create(name, flags | MemfdFlags::NOEXEC_SEAL) {
        // Kernels before 6.3 do not know NOEXEC_SEAL.
        Err(rustix::io::Errno::INVAL) => Ok(rustix::fs::memfd_create(name, flags)?),
        other => Ok(other?),
    }
}
