//! The worker's side of a slab: it reads requests and writes answers.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};

use super::layout::{Columns, Place, ViewLayout, Which};
use super::mapping::Mapping;
use super::{
    Answer, BULK_BYTES_MAX, Command, FINAL_EXTRA_AT, INFO_EXTRA_BYTES_MAX, Lie, Request, SLAB_BYTES, answer_flags,
};
use crate::cage::numbers::WORKER_ADDRESS;
use crate::wire::handshake;

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

/// The worker's side of a slab: of its only env, or of one env among several.
pub struct WorkerSlab {
    pub(super) map: Arc<Mapping>,
    pub(super) place: Place,
    /// The last turn answered.
    turn: u32,
}

impl WorkerSlab {
    /// Maps a slab at the worker's fixed address, and closes the descriptor: before the worker says anything to the host.
    pub fn map(fd: OwnedFd) -> io::Result<WorkerSlab> {
        let map = Mapping::new(fd.as_fd(), SLAB_BYTES, Some(WORKER_ADDRESS))?;
        Ok(WorkerSlab::at(Arc::new(map), Place::ALONE))
    }

    /// The env of these parts, which has answered nothing yet.
    pub(super) fn at(map: Arc<Mapping>, place: Place) -> WorkerSlab {
        WorkerSlab { map, place, turn: 0 }
    }

    /// Maps another slab in place of this one, for the copy of a worker: its turns begin anew. Closes the descriptor, as
    /// [`WorkerSlab::map`] does.
    pub(crate) fn replace(&mut self, fd: OwnedFd) -> io::Result<()> {
        let map =
            Arc::get_mut(&mut self.map).ok_or_else(|| io::Error::other("only the slab of one env is replaced"))?;
        map.replace(fd.as_fd())?;
        self.turn = 0;
        Ok(())
    }

    /// The same env's part, for the instance that follows.
    pub(crate) fn same(&self) -> WorkerSlab {
        WorkerSlab { map: Arc::clone(&self.map), place: self.place, turn: self.turn }
    }

    /// The word on which the host publishes turns.
    pub fn turn_word(&self) -> &AtomicU32 {
        &self.map.request(&self.place).turn
    }

    /// The worker's own sleep flag.
    pub fn worker_sleeps(&self) -> &AtomicU32 {
        &self.map.answer(&self.place).worker_sleeps
    }

    /// The last turn answered, which is the value of `turn` while there is nothing to do.
    pub fn idle(&self) -> u32 {
        self.turn
    }

    /// Microseconds to spin for the next turn before sleeping.
    pub fn spin_us(&self) -> u32 {
        self.map.request(&self.place).spin_us.load(Relaxed)
    }

    /// Takes the request of a new turn, if there is one.
    pub fn take(&mut self) -> Option<Result<Request, Lie>> {
        let words = self.map.request(&self.place);
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

    /// Copies action number `index` of a request for `count` steps out.
    pub fn read_action(&self, layout: &ViewLayout, count: usize, index: usize, action: &mut [u8]) {
        self.map.copy_out(self.place.actions_at(layout, count) + index * layout.action, action);
    }

    /// Writes a view. The caller has checked the lengths against the spec: a wrong length is a bug here, and a fault on
    /// the host's side.
    pub fn write_view(&self, layout: &ViewLayout, which: Which, view: ViewBytes<'_>) {
        assert_eq!(
            (view.observation.len(), view.mask.len(), view.info.len()),
            (layout.observation, layout.mask, layout.info)
        );
        let at = self.place.view_at(layout, which);
        self.map.copy_in(at, view.observation);
        self.map.copy_in(at + layout.mask_at(), view.mask);
        self.map.copy_in(at + layout.info_at(), view.info);
    }

    /// Copies the observation and the mask of the last view out.
    pub fn read_view(&self, layout: &ViewLayout, observation: &mut [u8], mask: &mut [u8]) {
        let at = self.place.view_at(layout, Which::View);
        self.map.copy_out(at, observation);
        self.map.copy_out(at + layout.mask_at(), mask);
    }

    /// Writes a view's `info-extra`.
    pub fn write_extra(&self, which: Which, extra: &[u8]) {
        assert!(extra.len() <= INFO_EXTRA_BYTES_MAX);
        let at = match which {
            Which::View => 0,
            Which::Final => FINAL_EXTRA_AT,
        };
        self.map.copy_in(self.place.bulk_at + at, extra);
    }

    /// Marks the step's own answer of command 3 as complete in the final view; the reset follows.
    pub fn publish_half(&self, answer: &Answer) {
        self.write_words(answer);
        self.map.answer(&self.place).half.store(self.turn, Release);
    }

    /// Writes into the bulk area from its beginning. Returns false if the bytes do not fit.
    pub fn write_bulk(&self, at: usize, bytes: &[u8]) -> bool {
        let fits = at + bytes.len() <= BULK_BYTES_MAX;
        if fits {
            self.map.copy_in(self.place.bulk_at + at, bytes);
        }
        fits
    }

    /// Copies bytes of the bulk area out that the host wrote there before the first turn. None: there is no room for as many.
    pub fn read_bulk(&self, len: usize) -> Option<Vec<u8>> {
        let mut out = (len <= BULK_BYTES_MAX).then(|| vec![0; len])?;
        self.map.copy_out(self.place.bulk_at, &mut out);
        Some(out)
    }

    /// Whether the longest `info-extra` still fits behind `texts` bytes of other texts, in a batch of `count`.
    pub fn has_room_for_text(&self, layout: &ViewLayout, count: usize, texts: usize) -> bool {
        Columns::of(layout, count, 0).extras + texts + INFO_EXTRA_BYTES_MAX <= BULK_BYTES_MAX
    }

    /// Writes step number `index` of a batch of `count` into its columns. `texts` is the room that the earlier steps'
    /// texts take, and is advanced.
    pub fn write_column(
        &self,
        layout: &ViewLayout,
        count: usize,
        index: usize,
        step: ColumnBytes<'_>,
        texts: &mut usize,
    ) {
        let columns = Columns::of(layout, count, self.place.bulk_at);
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

    /// Publishes how many steps of a batch are taken, so that the host gives the next step its own deadline.
    pub fn write_heartbeat(&self, taken: u32) {
        self.map.answer(&self.place).taken.store(taken, Relaxed);
        if self.place.is_row() {
            self.map.pack().count_beat();
        }
    }

    fn write_words(&self, answer: &Answer) {
        let words = self.map.answer(&self.place);
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

    /// Answers the turn. Returns whether the host sleeps and must be woken on [`WorkerSlab::done_word`]. For one env among
    /// several it does not: [`WorkerPack::finish`](super::pack::WorkerPack::finish) tells the host of all of them.
    pub fn publish(&self, answer: &Answer) -> bool {
        self.write_words(answer);
        let done = self.done_word();
        if self.place.is_row() {
            done.store(self.turn, Release);
            return false;
        }
        handshake::publish(done, self.turn, &self.map.request(&self.place).host_sleeps)
    }

    /// The word that the host waits on.
    pub fn done_word(&self) -> &AtomicU32 {
        &self.map.answer(&self.place).done
    }
}

/// One step of a batch as the worker writes it.
#[derive(Clone, Copy, Debug)]
pub struct ColumnBytes<'a> {
    /// The step's observation, mask and declared info.
    pub view: ViewBytes<'a>,
    /// The step's reward.
    pub reward: f64,
    /// The step's `info-extra`.
    pub extra: &'a [u8],
}
