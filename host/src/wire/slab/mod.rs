//! On the path of a step: vec_env → **slab** → wait → worker/serve → worker/instance → slab.
//! Knows the bytes; knows nothing of processes, wasm or time.
//!
//! One sealed memfd of [`SLAB_BYTES`] per instance number of an env, mapped by the host and by the one worker.
//! The host writes `request` and `actions`, the worker everything else, and what a worker writes is a claim:
//! it is copied once into host memory and checked there. No `&[u8]` into the slab exists anywhere, on either side.
//!
//! ```text
//! 0        request   turn, command, count, flags, seed, spin_us, host_sleeps          host
//! 128      answer    done, half, status, taken, flags, reward, lengths, worker_sleeps worker
//! 4 KiB    actions   `count` values of the action space                               host
//! 1 MiB    view      observation, mask, info; then the final view, the same again     worker
//! 32 MiB   bulk      frames, texts, info-extra, columns of a batch; the spec at first worker
//! ```

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::ptr::NonNull;
use std::sync::atomic::Ordering::{Acquire, Relaxed};
use std::sync::atomic::{AtomicU8, AtomicU32, AtomicU64};

use rustix::fs::{MemfdFlags, SealFlags};
use rustix::mm::{MapFlags, ProtFlags};

use super::handshake;
use crate::spec::Spec;

/// Bytes of a slab: address space, one fixed size for every env. Memory is paid when touched, so this bounds what
/// a hostile worker can make the machine spend on its slab; it does not bound the worker's own memory.
pub const SLAB_BYTES: usize = 64 << 20;

const REQUEST_AT: usize = 0;
const ANSWER_AT: usize = 128;
const ACTIONS_AT: usize = 4 << 10;
const VIEW_AT: usize = 1 << 20;
const BULK_AT: usize = 32 << 20;

/// Bytes for the actions of one request. One value of an action space must fit, or `create` has failed.
pub const ACTIONS_BYTES_MAX: usize = VIEW_AT - ACTIONS_AT;
/// Bytes for the view and the final view together.
pub const VIEWS_BYTES_MAX: usize = BULK_AT - VIEW_AT;
/// Bytes of the bulk area: an encoded spec, a frame, the columns of a batch.
pub const BULK_BYTES_MAX: usize = SLAB_BYTES - BULK_AT;
/// Bytes of one `info-extra`: JSON for what is rare. A view's and its final view's stand side by side in the bulk area.
pub const INFO_EXTRA_BYTES_MAX: usize = 64 * 1024;

/// Bytes of the JSON of a call's result or an attribute. A frame may fill the bulk area, but JSON becomes values of many
/// times its size in whoever reads it.
pub const JSON_BYTES_MAX: usize = 1 << 20;

/// Where in the bulk area the final view's `info-extra` stands: after the longest that the view's own can be, so that
/// writing one never moves the other.
const FINAL_EXTRA_AT: usize = INFO_EXTRA_BYTES_MAX;

/// Where a worker maps its slab: far from everything the loader or the allocator places, so that a branch can map
/// its own slab over it and a filter can match the address.
#[cfg(feature = "worker")]
pub(crate) const WORKER_ADDRESS: usize = 0x1000_0000_0000;

/// What the host asks of a worker in one turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Command {
    /// Begin an episode.
    Reset,
    /// One step.
    Step,
    /// One step, and a reset in the same turn if it ends the episode.
    StepThenReset,
    /// `count` steps, ending with the episode.
    StepMany,
    /// Answer the control message that was sent before this turn.
    Message,
}

impl Command {
    const fn number(self) -> u32 {
        match self {
            Command::Reset => 1,
            Command::Step => 2,
            Command::StepThenReset => 3,
            Command::StepMany => 4,
            Command::Message => 5,
        }
    }

    #[cfg(feature = "worker")]
    const fn from_number(number: u32) -> Option<Command> {
        match number {
            1 => Some(Command::Reset),
            2 => Some(Command::Step),
            3 => Some(Command::StepThenReset),
            4 => Some(Command::StepMany),
            5 => Some(Command::Message),
            _ => None,
        }
    }
}

/// Flags of a request.
pub mod request_flags {
    /// The `seed` field counts.
    pub const SEED: u32 = 1;
    /// This step (of a batch: the last one) reaches the host's time limit.
    pub const LAST_STEP: u32 = 2;
    /// A control message was sent before this turn: read it first.
    pub const MESSAGE: u32 = 4;
}

/// Flags of an answer.
pub mod answer_flags {
    /// The task's own end.
    pub const TERMINATED: u32 = 1;
    /// The env's own truncation, not the host's time limit.
    pub const TRUNCATED: u32 = 2;
    /// A reset followed in the same turn: the step's own view is the final view.
    pub const RESET: u32 = 4;
    /// Every flag there is.
    pub const ALL: u32 = TERMINATED | TRUNCATED | RESET;
}

/// How a turn was answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// As asked.
    Ok,
    /// The guest refused (an [`EnvError`](super::talk::EnvError)); the env runs on. The reason is a control message.
    Refused,
    /// The instance has ended. Kind and reason are a control message.
    Fault,
}

impl Status {
    #[cfg(feature = "worker")]
    const fn number(self) -> u32 {
        match self {
            Status::Ok => 0,
            Status::Refused => 1,
            Status::Fault => 2,
        }
    }

    const fn from_number(number: u32) -> Option<Status> {
        match number {
            0 => Some(Status::Ok),
            1 => Some(Status::Refused),
            2 => Some(Status::Fault),
            _ => None,
        }
    }
}

/// The words the host writes. On cache lines of its own.
#[repr(C, align(64))]
struct RequestWords {
    turn: AtomicU32,
    command: AtomicU32,
    count: AtomicU32,
    flags: AtomicU32,
    seed: AtomicU64,
    spin_us: AtomicU32,
    host_sleeps: AtomicU32,
}

/// The words the worker writes. On cache lines of its own.
#[repr(C, align(64))]
struct AnswerWords {
    done: AtomicU32,
    half: AtomicU32,
    status: AtomicU32,
    taken: AtomicU32,
    flags: AtomicU32,
    extra_len: AtomicU32,
    reward: AtomicU64,
    final_extra_len: AtomicU32,
    worker_sleeps: AtomicU32,
}

/// A broken promise of the worker, with the evidence. It becomes a `protocol` fault.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lie(pub String);

/// Where the parts of one view stand, and how long they are: a pure function of the spec, computed by both sides.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ViewLayout {
    /// Bytes of one observation.
    pub observation: usize,
    /// Bytes of one action mask (0: not masked).
    pub mask: usize,
    /// Bytes of one declared info (0: no declared fields).
    pub info: usize,
    /// Bytes of one action.
    pub action: usize,
}

const fn align(n: usize) -> usize {
    n.div_ceil(64) * 64
}

impl ViewLayout {
    /// The layout of a spec, or which limit it breaks.
    pub fn of(spec: &Spec) -> Result<ViewLayout, String> {
        let layout = ViewLayout {
            observation: spec.observation_space.stride(),
            mask: if spec.action_masked { spec.action_space.mask_len()? } else { 0 },
            info: crate::space::info_layout(&spec.info_fields)?.stride,
            action: spec.action_space.stride(),
        };
        if layout.action > ACTIONS_BYTES_MAX {
            return Err(format!("an action takes {} bytes, the limit is {ACTIONS_BYTES_MAX}", layout.action));
        }
        if 2 * layout.view_bytes() > VIEWS_BYTES_MAX {
            let limit = VIEWS_BYTES_MAX / 2;
            return Err(format!("a view takes {} bytes, the limit is {limit}", layout.view_bytes()));
        }
        Ok(layout)
    }

    const fn mask_at(&self) -> usize {
        align(self.observation)
    }

    const fn info_at(&self) -> usize {
        self.mask_at() + align(self.mask)
    }

    /// Bytes of a whole view, each part on cache lines of its own.
    const fn view_bytes(&self) -> usize {
        self.info_at() + align(self.info)
    }

    const fn view_at(&self, which: Which) -> usize {
        match which {
            Which::View => VIEW_AT,
            Which::Final => VIEW_AT + self.view_bytes(),
        }
    }

    /// Bytes of one step in the columns of a batch: observation, mask, info, reward, length of its info-extra.
    const fn column_bytes(&self) -> usize {
        self.observation + self.mask + self.info + 8 + 8
    }

    /// Steps that fit into one request of command 4, by the room for actions and for answers.
    pub fn steps_max(&self) -> usize {
        let by_actions = ACTIONS_BYTES_MAX / self.action.max(1);
        // Half of the bulk area is left to the texts of info-extra.
        let by_columns = BULK_BYTES_MAX / 2 / self.column_bytes();
        by_actions.min(by_columns).clamp(1, 1 << 20)
    }
}

/// Which of the two views of a slab.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Which {
    /// The view a turn leaves the env in.
    View,
    /// Same-step autoreset only: the view of the step that ended the episode.
    Final,
}

/// The columns of a batch in the bulk area, for `count` steps.
#[derive(Clone, Copy, Debug)]
struct Columns {
    observations: usize,
    masks: usize,
    infos: usize,
    rewards: usize,
    extra_lens: usize,
    extras: usize,
}

impl Columns {
    const fn of(layout: &ViewLayout, count: usize) -> Columns {
        let observations = BULK_AT;
        let masks = observations + count * layout.observation;
        let infos = masks + (count * layout.mask).next_multiple_of(8);
        let rewards = infos + count * layout.info;
        let extra_lens = rewards + count * 8;
        let extras = extra_lens + count * 8;
        Columns { observations, masks, infos, rewards, extra_lens, extras }
    }
}

/// A mapping of a slab. All access is by relaxed atomics on words inside it, so that a hostile writer on the other
/// side can change values under a reader, but never break it.
struct Mapping {
    base: NonNull<u8>,
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
        let _ = unsafe { rustix::mm::munmap(self.base.as_ptr().cast(), SLAB_BYTES) };
    }
}

impl Mapping {
    fn new(fd: BorrowedFd<'_>, address: Option<usize>) -> io::Result<Mapping> {
        let flags = match address {
            Some(_) => MapFlags::SHARED | MapFlags::FIXED_NOREPLACE,
            None => MapFlags::SHARED,
        };
        let hint = std::ptr::with_exposed_provenance_mut(address.unwrap_or(0));
        // SAFETY: a new shared mapping of a sealed memfd that is `SLAB_BYTES` long and cannot shrink (so no access
        // within it can raise SIGBUS); `FIXED_NOREPLACE` never replaces a mapping of ours.
        let base =
            unsafe { rustix::mm::mmap(hint, SLAB_BYTES, ProtFlags::READ | ProtFlags::WRITE, flags, fd.as_fd(), 0)? };
        match NonNull::new(base.cast::<u8>()) {
            Some(base) => Ok(Mapping { base }),
            None => Err(io::Error::other("mmap returned address 0")),
        }
    }

    /// Leaves the mapping out of processes that this one forks: a slab is gone with its env, whoever forked meanwhile.
    fn keep_from_forks(&self) -> io::Result<()> {
        // SAFETY: the mapping is whole and this value's own; the advice changes nothing in this process. In a forked one nobody
        // reads it: `VecEnv` refuses there.
        unsafe { rustix::mm::madvise(self.base.as_ptr().cast(), SLAB_BYTES, rustix::mm::Advice::LinuxDontFork)? };
        Ok(())
    }

    /// Maps another slab in this one's place.
    #[cfg(feature = "worker")]
    fn replace(&mut self, fd: BorrowedFd<'_>) -> io::Result<()> {
        let (at, protection) = (self.base.as_ptr().cast(), ProtFlags::READ | ProtFlags::WRITE);
        // SAFETY: over the mapping that this value owns, and exactly it; nothing borrows from it (`&mut self`). What it
        // led to is another process's. The memfd is as `new` wants it.
        unsafe { rustix::mm::mmap(at, SLAB_BYTES, protection, MapFlags::SHARED | MapFlags::FIXED, fd, 0)? };
        Ok(())
    }

    fn request(&self) -> &RequestWords {
        // SAFETY: within the mapping, aligned, valid for any bytes, and made of atomics only.
        unsafe { self.base.add(REQUEST_AT).cast().as_ref() }
    }

    fn answer(&self) -> &AnswerWords {
        // SAFETY: as for `request`.
        unsafe { self.base.add(ANSWER_AT).cast().as_ref() }
    }

    fn words(&self, at: usize, count: usize) -> &[AtomicU64] {
        assert!(at.is_multiple_of(8) && at + count * 8 <= SLAB_BYTES, "the slab's own offsets stay inside it");
        // SAFETY: inside the mapping (asserted; offsets and lengths are the reader's own, never the other side's
        // word), aligned to 8, and atomics may be written by anybody.
        unsafe { std::slice::from_raw_parts(self.base.add(at).cast().as_ptr(), count) }
    }

    fn bytes(&self, at: usize, count: usize) -> &[AtomicU8] {
        assert!(at + count <= SLAB_BYTES, "the slab's own offsets stay inside it");
        // SAFETY: as for `words`.
        unsafe { std::slice::from_raw_parts(self.base.add(at).cast().as_ptr(), count) }
    }

    /// Copies out of the slab: word by word, relaxed, the last few bytes one by one. `at` is a multiple of 8.
    fn copy_out(&self, at: usize, out: &mut [u8]) {
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

    /// Copies into the slab, as `copy_out` copies out of it.
    fn copy_in(&self, at: usize, from: &[u8]) {
        let (chunks, rest) = from.as_chunks::<8>();
        for (from, to) in chunks.iter().zip(self.words(at, chunks.len())) {
            to.store(u64::from_ne_bytes(*from), Relaxed);
        }
        for (from, to) in rest.iter().zip(self.bytes(at + chunks.len() * 8, rest.len())) {
            to.store(*from, Relaxed);
        }
    }
}

/// What the host asks in one turn, but for the actions.
#[derive(Clone, Copy, Debug)]
pub struct Request {
    /// What to do.
    pub command: Command,
    /// Steps of a batch; else 1.
    pub count: u32,
    /// See [`request_flags`].
    pub flags: u32,
    /// With [`request_flags::SEED`].
    pub seed: u64,
    /// Microseconds for which the worker spins after its answer before it sleeps.
    pub spin_us: u32,
}

/// The host's side of a slab.
pub struct HostSlab {
    map: Mapping,
    /// The last turn published: the host never reads back what it wrote.
    turn: AtomicU32,
}

impl HostSlab {
    /// Makes a slab: the host's mapping, and the descriptor to hand to the worker.
    pub fn create() -> io::Result<(HostSlab, OwnedFd)> {
        let fd = sealed_memfd("rollcage-slab")?;
        rustix::fs::ftruncate(&fd, SLAB_BYTES as u64)?;
        rustix::fs::fcntl_add_seals(&fd, SealFlags::GROW | SealFlags::SHRINK | SealFlags::SEAL)?;
        let map = Mapping::new(fd.as_fd(), None)?;
        map.keep_from_forks()?;
        Ok((HostSlab { map, turn: AtomicU32::new(0) }, fd))
    }

    /// Writes action number `index` of the coming request.
    pub fn write_action(&self, layout: &ViewLayout, index: usize, action: &[u8]) {
        assert!(action.len() == layout.action && (index + 1) * layout.action <= ACTIONS_BYTES_MAX);
        self.map.copy_in(ACTIONS_AT + index * layout.action, action);
    }

    /// Publishes a request as the next turn. Returns whether the worker sleeps and must be woken by
    /// [`super::wait::wake`] on [`HostSlab::turn_word`].
    pub fn publish(&self, request: &Request) -> bool {
        let words = self.map.request();
        words.command.store(request.command.number(), Relaxed);
        words.count.store(request.count, Relaxed);
        words.flags.store(request.flags, Relaxed);
        words.seed.store(request.seed, Relaxed);
        words.spin_us.store(request.spin_us, Relaxed);
        let turn = self.turn.load(Relaxed).wrapping_add(1);
        self.turn.store(turn, Relaxed);
        handshake::publish(&words.turn, turn, &self.map.answer().worker_sleeps)
    }

    /// The word a worker waits on.
    pub fn turn_word(&self) -> &AtomicU32 {
        &self.map.request().turn
    }

    /// The word the host waits on.
    pub fn done_word(&self) -> &AtomicU32 {
        &self.map.answer().done
    }

    /// The host's own sleep flag, for [`super::wait::sleep`].
    pub fn host_sleeps(&self) -> &AtomicU32 {
        &self.map.request().host_sleeps
    }

    /// The value of `done` while the worker still works on the last turn.
    pub fn unanswered(&self) -> u32 {
        self.turn.load(Relaxed).wrapping_sub(1)
    }

    /// Whether the last turn is answered; any value but "working" and "answered" is a lie.
    pub fn answered(&self) -> Result<bool, Lie> {
        let done = self.map.answer().done.load(Acquire);
        let turn = self.turn.load(Relaxed);
        if done == turn {
            Ok(true)
        } else if done == turn.wrapping_sub(1) {
            Ok(false)
        } else {
            Err(Lie(format!("`done` is {done} in turn {turn}")))
        }
    }

    /// Whether the step's half of command 3 had been answered (its view is the final view) when the worker ended.
    pub fn half_answered(&self) -> bool {
        self.map.answer().half.load(Acquire) == self.turn.load(Relaxed)
    }

    /// Steps of a batch that the worker says it has taken so far, if that is another number than `before`.
    pub fn heartbeat(&self, before: u32) -> Option<u32> {
        let taken = self.map.answer().taken.load(Relaxed);
        (taken != before).then_some(taken)
    }

    /// One reading of the answer's words.
    pub fn claim(&self) -> Claimed<AnswerClaim> {
        let words = self.map.answer();
        Claimed(AnswerClaim {
            status: words.status.load(Relaxed),
            taken: words.taken.load(Relaxed),
            flags: words.flags.load(Relaxed),
            reward: words.reward.load(Relaxed),
            extra_len: words.extra_len.load(Relaxed),
            final_extra_len: words.final_extra_len.load(Relaxed),
        })
    }

    /// Copies one view out. The bytes are still a claim: check them against the spaces.
    pub fn read_view(
        &self,
        layout: &ViewLayout,
        which: Which,
        observation: &mut [u8],
        mask: &mut [u8],
        info: &mut [u8],
    ) {
        let at = layout.view_at(which);
        self.map.copy_out(at, observation);
        self.map.copy_out(at + layout.mask_at(), mask);
        self.map.copy_out(at + layout.info_at(), info);
    }

    /// Copies `len` bytes of the bulk area from `at` (within the area, a multiple of 8).
    pub fn read_bulk(&self, at: usize, len: usize) -> Result<Vec<u8>, Lie> {
        if at.checked_add(len).is_none_or(|end| end > BULK_BYTES_MAX) || !at.is_multiple_of(8) {
            return Err(Lie(format!("{len} bytes at {at} of a bulk area of {BULK_BYTES_MAX}")));
        }
        let mut out = vec![0; len];
        self.map.copy_out(BULK_AT + at, &mut out);
        Ok(out)
    }

    /// Copies the `info-extra` of a view out. The text is still a claim.
    pub fn read_extra(&self, answer: &Answer, which: Which) -> Result<Vec<u8>, Lie> {
        match which {
            Which::View => self.read_bulk(0, answer.extra_len),
            Which::Final => self.read_bulk(FINAL_EXTRA_AT, answer.final_extra_len),
        }
    }

    /// Copies the first `taken` steps of a batch of `count` out.
    pub fn read_columns(&self, layout: &ViewLayout, count: usize, taken: usize) -> Result<BatchColumns, Lie> {
        let columns = Columns::of(layout, count);
        let mut batch = BatchColumns {
            observations: vec![0; taken * layout.observation],
            masks: vec![0; taken * layout.mask],
            infos: vec![0; taken * layout.info],
            rewards: Vec::with_capacity(taken),
            extras: Vec::with_capacity(taken),
        };
        self.map.copy_out(columns.observations, &mut batch.observations);
        self.map.copy_out(columns.masks, &mut batch.masks);
        self.map.copy_out(columns.infos, &mut batch.infos);
        for word in self.map.words(columns.rewards, taken) {
            batch.rewards.push(f64::from_bits(word.load(Relaxed)));
        }
        let mut at = columns.extras - BULK_AT;
        for word in self.map.words(columns.extra_lens, taken) {
            let len = usize::try_from(word.load(Relaxed)).unwrap_or(usize::MAX);
            if len > INFO_EXTRA_BYTES_MAX {
                return Err(Lie(format!("an info-extra of {len} bytes; the limit is {INFO_EXTRA_BYTES_MAX}")));
            }
            batch.extras.push(self.read_bulk(at, len)?);
            at += len.next_multiple_of(8);
        }
        Ok(batch)
    }
}

/// The columns of an answered batch, copied out; still claims.
#[derive(Clone, Debug, Default)]
pub struct BatchColumns {
    /// Observations back to back.
    pub observations: Vec<u8>,
    /// Action masks back to back.
    pub masks: Vec<u8>,
    /// Declared infos back to back.
    pub infos: Vec<u8>,
    /// A reward for each step.
    pub rewards: Vec<f64>,
    /// An `info-extra` for each step.
    pub extras: Vec<Vec<u8>>,
}

/// One reading of something a worker wrote. The only way to a value that the host acts on is `check`.
#[derive(Clone, Copy, Debug)]
pub struct Claimed<T>(T);

/// The answer's words as they were read.
#[derive(Clone, Copy, Debug)]
pub struct AnswerClaim {
    status: u32,
    taken: u32,
    flags: u32,
    reward: u64,
    extra_len: u32,
    final_extra_len: u32,
}

/// An answer whose words are possible.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Answer {
    /// How the turn was answered.
    pub status: Status,
    /// Steps taken.
    pub taken: u32,
    /// The task's own end.
    pub terminated: bool,
    /// The env's own truncation.
    pub truncated: bool,
    /// A reset followed in the same turn.
    pub reset: bool,
    /// The last step's reward.
    pub reward: f64,
    /// Bytes of the view's `info-extra`; for command 5, of the answer in the bulk area.
    pub extra_len: usize,
    /// Bytes of the final view's `info-extra`.
    pub final_extra_len: usize,
}

impl Claimed<AnswerClaim> {
    /// Checks the words against the request they answer.
    pub fn check(self, request: &Request) -> Result<Answer, Lie> {
        let claim = self.0;
        let lie = |what: String| Err(Lie(what));
        let Some(status) = Status::from_number(claim.status) else {
            return lie(format!("status {}", claim.status));
        };
        if claim.flags & !answer_flags::ALL != 0 {
            return lie(format!("flags {:#x}", claim.flags));
        }
        if claim.taken > request.count {
            return lie(format!("{} of {} steps taken", claim.taken, request.count));
        }
        if matches!(request.command, Command::Step | Command::StepThenReset) && status == Status::Ok && claim.taken != 1
        {
            return lie(format!("{} steps taken where one was asked for", claim.taken));
        }
        let reset = claim.flags & answer_flags::RESET != 0;
        let ended = claim.flags & (answer_flags::TERMINATED | answer_flags::TRUNCATED) != 0;
        let last = request.flags & request_flags::LAST_STEP != 0;
        if request.command == Command::StepThenReset && status == Status::Ok && reset != (ended || last) {
            return lie(format!("flags {:#x}: a reset that does not fit the step", claim.flags));
        }
        if request.command != Command::StepThenReset && reset {
            return lie("a reset in a turn that asks for none".to_owned());
        }
        if matches!(request.command, Command::Reset | Command::Message) && ended {
            return lie("an episode's end in a turn without a step".to_owned());
        }
        let limit = match request.command {
            Command::Message => BULK_BYTES_MAX,
            _ => INFO_EXTRA_BYTES_MAX,
        };
        for len in [claim.extra_len, claim.final_extra_len] {
            if len as usize > limit {
                return lie(format!("a text of {len} bytes; the limit is {limit}"));
            }
        }
        Ok(Answer {
            status,
            taken: claim.taken,
            terminated: claim.flags & answer_flags::TERMINATED != 0,
            truncated: claim.flags & answer_flags::TRUNCATED != 0,
            reset,
            reward: f64::from_bits(claim.reward),
            extra_len: claim.extra_len as usize,
            final_extra_len: claim.final_extra_len as usize,
        })
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

/// One view as the worker writes it.
#[derive(Clone, Copy, Debug)]
pub struct ViewBytes<'a> {
    /// The observation.
    pub observation: &'a [u8],
    /// The action mask.
    pub mask: &'a [u8],
    /// The declared info.
    pub info: &'a [u8],
}

/// The worker's side of a slab.
#[cfg(feature = "worker")]
pub struct WorkerSlab {
    map: Mapping,
    /// The last turn answered.
    turn: u32,
}

#[cfg(feature = "worker")]
impl WorkerSlab {
    /// Maps a slab at the worker's fixed address. The descriptor can be closed afterwards.
    pub fn map(fd: BorrowedFd<'_>) -> io::Result<WorkerSlab> {
        Ok(WorkerSlab { map: Mapping::new(fd, Some(WORKER_ADDRESS))?, turn: 0 })
    }

    /// Another slab in this one's place, for the copy of a worker: its turns begin anew.
    pub(crate) fn replace(&mut self, fd: BorrowedFd<'_>) -> io::Result<()> {
        self.map.replace(fd)?;
        self.turn = 0;
        Ok(())
    }

    /// The word the host publishes turns on.
    pub fn turn_word(&self) -> &AtomicU32 {
        &self.map.request().turn
    }

    /// The worker's own sleep flag.
    pub fn worker_sleeps(&self) -> &AtomicU32 {
        &self.map.answer().worker_sleeps
    }

    /// The last turn answered: the value of `turn` while there is nothing to do.
    pub fn idle(&self) -> u32 {
        self.turn
    }

    /// Microseconds to spin for the next turn before sleeping.
    pub fn spin_us(&self) -> u32 {
        self.map.request().spin_us.load(Relaxed)
    }

    /// Takes the request of a new turn, if there is one.
    pub fn take(&mut self) -> Option<Result<Request, Lie>> {
        let words = self.map.request();
        let turn = words.turn.load(Acquire);
        if turn == self.turn {
            return None;
        }
        self.turn = turn;
        let number = words.command.load(Relaxed);
        let Some(command) = Command::from_number(number) else {
            return Some(Err(Lie(format!("command {number}"))));
        };
        Some(Ok(Request {
            command,
            count: words.count.load(Relaxed),
            flags: words.flags.load(Relaxed),
            seed: words.seed.load(Relaxed),
            spin_us: words.spin_us.load(Relaxed),
        }))
    }

    /// Copies action number `index` out.
    pub fn read_action(&self, layout: &ViewLayout, index: usize, action: &mut [u8]) {
        self.map.copy_out(ACTIONS_AT + index * layout.action, action);
    }

    /// Writes a view. The lengths are the spec's: whoever calls has checked them (a wrong one is a bug here, and a
    /// fault over there).
    pub fn write_view(&self, layout: &ViewLayout, which: Which, view: ViewBytes<'_>) {
        assert_eq!(
            (view.observation.len(), view.mask.len(), view.info.len()),
            (layout.observation, layout.mask, layout.info)
        );
        let at = layout.view_at(which);
        self.map.copy_in(at, view.observation);
        self.map.copy_in(at + layout.mask_at(), view.mask);
        self.map.copy_in(at + layout.info_at(), view.info);
    }

    /// Writes a view's `info-extra`.
    pub fn write_extra(&self, which: Which, extra: &[u8]) {
        assert!(extra.len() <= INFO_EXTRA_BYTES_MAX);
        let at = match which {
            Which::View => 0,
            Which::Final => FINAL_EXTRA_AT,
        };
        self.map.copy_in(BULK_AT + at, extra);
    }

    /// Says that the step's own answer of command 3 stands in the final view; what follows is the reset.
    pub fn publish_half(&self, answer: &Answer) {
        self.write_words(answer);
        self.map.answer().half.store(self.turn, std::sync::atomic::Ordering::Release);
    }

    /// Writes into the bulk area from its beginning. False: it does not fit.
    pub fn write_bulk(&self, at: usize, bytes: &[u8]) -> bool {
        let fits = at + bytes.len() <= BULK_BYTES_MAX;
        if fits {
            self.map.copy_in(BULK_AT + at, bytes);
        }
        fits
    }

    /// Whether the longest `info-extra` still fits behind `texts` bytes of others, in a batch of `count`.
    pub fn has_room_for_text(&self, layout: &ViewLayout, count: usize, texts: usize) -> bool {
        Columns::of(layout, count).extras + texts + INFO_EXTRA_BYTES_MAX <= SLAB_BYTES
    }

    /// Writes step number `index` of a batch of `count` into its columns; `texts` is the room its predecessors' texts
    /// take, and is moved on.
    pub fn write_column(
        &self,
        layout: &ViewLayout,
        count: usize,
        index: usize,
        step: ColumnBytes<'_>,
        texts: &mut usize,
    ) {
        let columns = Columns::of(layout, count);
        self.map.copy_in(columns.extras + *texts, step.extra);
        *texts += step.extra.len().next_multiple_of(8);
        self.map.copy_in(columns.observations + index * layout.observation, step.view.observation);
        // A mask's length need not be a multiple of 8: byte by byte.
        for (to, from) in self.map.bytes(columns.masks + index * layout.mask, layout.mask).iter().zip(step.view.mask) {
            to.store(*from, Relaxed);
        }
        self.map.copy_in(columns.infos + index * layout.info, step.view.info);
        self.map.copy_in(columns.rewards + index * 8, &step.reward.to_bits().to_ne_bytes());
        self.map.copy_in(columns.extra_lens + index * 8, &(step.extra.len() as u64).to_ne_bytes());
    }

    /// Says how many steps of a batch are taken, so that the host judges the next one by a time of its own.
    pub fn write_heartbeat(&self, taken: u32) {
        self.map.answer().taken.store(taken, Relaxed);
    }

    fn write_words(&self, answer: &Answer) {
        let words = self.map.answer();
        let flag = |on: bool, flag: u32| if on { flag } else { 0 };
        words.status.store(answer.status.number(), Relaxed);
        words.taken.store(answer.taken, Relaxed);
        words.flags.store(
            flag(answer.terminated, answer_flags::TERMINATED)
                | flag(answer.truncated, answer_flags::TRUNCATED)
                | flag(answer.reset, answer_flags::RESET),
            Relaxed,
        );
        words.reward.store(answer.reward.to_bits(), Relaxed);
        words.extra_len.store(u32::try_from(answer.extra_len).unwrap_or(u32::MAX), Relaxed);
        words.final_extra_len.store(u32::try_from(answer.final_extra_len).unwrap_or(u32::MAX), Relaxed);
    }

    /// Answers the turn. Returns whether the host sleeps and must be woken on [`WorkerSlab::done_word`].
    pub fn publish(&self, answer: &Answer) -> bool {
        self.write_words(answer);
        handshake::publish(&self.map.answer().done, self.turn, &self.map.request().host_sleeps)
    }

    /// The word the host waits on.
    pub fn done_word(&self) -> &AtomicU32 {
        &self.map.answer().done
    }
}

/// One step of a batch as the worker writes it.
#[derive(Clone, Copy, Debug)]
pub struct ColumnBytes<'a> {
    /// Observation, mask, declared info.
    pub view: ViewBytes<'a>,
    /// The step's reward.
    pub reward: f64,
    /// Its `info-extra`.
    pub extra: &'a [u8],
}
