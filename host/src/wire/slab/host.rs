//! The host's side of a slab: it writes actions and turns, and reads answers, each copied once and then checked.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};

use rustix::fs::SealFlags;

use super::layout::{Columns, Place, ViewLayout, Which};
use super::mapping::{Mapping, sealed_memfd};
use super::{
    ACTIONS_BYTES_MAX, Answer, BULK_BYTES_MAX, Command, FINAL_EXTRA_AT, INFO_EXTRA_BYTES_MAX, Lie, Request, SLAB_BYTES,
    Status, answer_flags, request_flags,
};
use crate::wire::handshake;

/// The host's side of a slab: of a worker's only env, or of one env among several.
pub struct HostSlab {
    pub(super) map: Arc<Mapping>,
    pub(super) place: Place,
    /// The last turn published: the host never reads back what it wrote.
    turn: AtomicU32,
}

impl HostSlab {
    /// Makes a slab: the host's mapping, and the descriptor to hand to the worker.
    pub fn create() -> io::Result<(HostSlab, OwnedFd)> {
        let (map, fd) = new_mapping(SLAB_BYTES)?;
        Ok((HostSlab::at(Arc::new(map), Place::ALONE), fd))
    }

    /// The env of these parts, which has been asked nothing yet.
    pub(super) fn at(map: Arc<Mapping>, place: Place) -> HostSlab {
        HostSlab { map, place, turn: AtomicU32::new(0) }
    }

    /// Writes action number `index` of the next request, which asks for `count` steps.
    pub fn write_action(&self, layout: &ViewLayout, count: usize, index: usize, action: &[u8]) {
        assert!(action.len() == layout.action && (index + 1) * layout.action <= ACTIONS_BYTES_MAX);
        self.map.copy_in(self.place.actions_at(layout, count) + index * layout.action, action);
    }

    /// Publishes a request as the next turn. Returns whether the worker sleeps and must be woken by
    /// [`wake`](crate::wire::wait::wake) on [`HostSlab::turn_word`]. One env among several is looked at once its worker is
    /// told, by [`HostPack::tell`](super::pack::HostPack::tell).
    pub fn publish(&self, request: &Request) -> bool {
        let words = self.map.request(&self.place);
        words.command.store(request.command.number(), Relaxed);
        words.count.store(request.count, Relaxed);
        words.flags.store(request.flags, Relaxed);
        words.seed.store(request.seed, Relaxed);
        words.spin_us.store(request.spin_us, Relaxed);
        let turn = self.turn.load(Relaxed).wrapping_add(1);
        self.turn.store(turn, Relaxed);
        if self.place.is_row() {
            words.turn.store(turn, Release);
            return false;
        }
        handshake::publish(&words.turn, turn, &self.map.answer(&self.place).worker_sleeps)
    }

    /// The word that a worker waits on.
    pub fn turn_word(&self) -> &AtomicU32 {
        &self.map.request(&self.place).turn
    }

    /// The word that the host waits on.
    pub fn done_word(&self) -> &AtomicU32 {
        &self.map.answer(&self.place).done
    }

    /// The host's own sleep flag, for [`sleep`](crate::wire::handshake::sleep).
    pub fn host_sleeps(&self) -> &AtomicU32 {
        &self.map.request(&self.place).host_sleeps
    }

    /// The value of `done` while the worker still works on the last turn.
    pub fn unanswered(&self) -> u32 {
        self.turn.load(Relaxed).wrapping_sub(1)
    }

    /// Whether the last turn is answered. Any value except "working" and "answered" is a lie.
    pub fn answered(&self) -> Result<bool, Lie> {
        let done = self.map.answer(&self.place).done.load(Acquire);
        let turn = self.turn.load(Relaxed);
        if done == turn {
            Ok(true)
        } else if done == turn.wrapping_sub(1) {
            Ok(false)
        } else {
            Err(Lie(format!("`done` is {done} in turn {turn}")))
        }
    }

    /// Whether the worker had answered the step's half of command 3 (its view is the final view) before it ended.
    pub fn half_answered(&self) -> bool {
        self.map.answer(&self.place).half.load(Acquire) == self.turn.load(Relaxed)
    }

    /// The number of steps of a batch that the worker says it has taken so far, if the number differs from `before`.
    pub fn heartbeat(&self, before: u32) -> Option<u32> {
        let taken = self.map.answer(&self.place).taken.load(Relaxed);
        (taken != before).then_some(taken)
    }

    /// Reads the answer's words once.
    pub fn claim(&self) -> Claimed<AnswerClaim> {
        let words = self.map.answer(&self.place);
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
        let at = self.place.view_at(layout, which);
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
        self.map.copy_out(self.place.bulk_at + at, &mut out);
        Ok(out)
    }

    /// Writes into the bulk area, for a worker that reads it before its first turn. False: the bytes do not fit.
    pub fn write_bulk(&self, bytes: &[u8]) -> bool {
        let fits = bytes.len() <= BULK_BYTES_MAX;
        if fits {
            self.map.copy_in(self.place.bulk_at, bytes);
        }
        fits
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
        let columns = Columns::of(layout, count, self.place.bulk_at);
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
        let mut at = columns.extras - self.place.bulk_at;
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

/// A new memfd of so many bytes: the host's mapping, and the descriptor to hand to the worker.
pub(super) fn new_mapping(bytes: usize) -> io::Result<(Mapping, OwnedFd)> {
    let fd = sealed_memfd("rollcage-slab")?;
    rustix::fs::ftruncate(&fd, bytes as u64)?;
    rustix::fs::fcntl_add_seals(&fd, SealFlags::GROW | SealFlags::SHRINK | SealFlags::SEAL)?;
    let map = Mapping::new(fd.as_fd(), bytes, None)?;
    map.keep_from_forks()?;
    Ok((map, fd))
}

/// The columns of an answered batch, copied out. They are still claims.
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

/// One reading of something that a worker wrote. Only `check` gives a value that the host acts on.
#[derive(Clone, Copy, Debug)]
pub struct Claimed<T>(T);

/// The answer's words as they were read, unchecked.
#[derive(Clone, Copy, Debug)]
pub struct AnswerClaim {
    status: u32,
    taken: u32,
    flags: u32,
    reward: u64,
    extra_len: u32,
    final_extra_len: u32,
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
        if matches!(request.command, Command::Reset | Command::Message | Command::Create | Command::Rollout) && ended {
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
