//! The rows of a rollout: what a worker writes while it plays by itself, and the host reads after it. One row is an event,
//! in order: a step with its action and its view, or the reset that follows an episode's end with its view.
//!
//! ```text
//! bulk: what (u64), rewards (f64), actions, added numbers (f32), observations, masks, infos, texts
//! ```
//!
//! The action of a step is written before the env is asked, so that it is known if the env never answers.

#[cfg(feature = "worker")]
use std::sync::atomic::Ordering::Release;
use std::sync::atomic::Ordering::{Acquire, Relaxed};

use super::host::HostSlab;
use super::layout::ViewLayout;
#[cfg(feature = "worker")]
use super::worker::{ViewBytes, WorkerSlab};
use super::{ACTIONS_BYTES_MAX, BULK_BYTES_MAX, INFO_EXTRA_BYTES_MAX, Lie};
use crate::wire::packet::MESSAGE_BYTES_MAX;

/// Bytes of the rows of one turn, where more than two rows fit: what a processor's second cache holds, so that the host
/// reads what the worker has just written.
const ROWS_BYTES: usize = 512 << 10;

/// Rows of one turn.
const ROWS_MAX: usize = 8192;

/// Where given actions begin, behind the message that comes with the turn.
const GIVEN_AT: usize = (MESSAGE_BYTES_MAX + 8).next_multiple_of(64);

/// Numbers that a policy may add to each action.
pub const ADDED_MAX: usize = 64;

/// What a row is: bits of its first word. The upper half has the bytes of the view's `info-extra`.
mod bits {
    pub(super) const RESET: u64 = 1;
    pub(super) const TERMINATED: u64 = 2;
    pub(super) const TRUNCATED: u64 = 4;
    pub(super) const TIME_LIMIT: u64 = 8;
    pub(super) const ALL: u64 = RESET | TERMINATED | TRUNCATED | TIME_LIMIT;
}

/// What happened in a row.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Row {
    /// The episode began.
    Reset,
    /// A step was taken.
    Step {
        /// The step's reward.
        reward: f64,
        /// Whether the task itself ended the episode.
        terminated: bool,
        /// Whether the env ended it by a rule of its own.
        truncated: bool,
        /// Whether it reached the time limit.
        time_limit: bool,
    },
}

/// Where the rows of a turn lie: a pure function of the spec and of the count of added numbers.
#[derive(Clone, Copy, Debug)]
pub struct RolloutLayout {
    view: ViewLayout,
    /// Numbers that the policy adds to each action.
    added: usize,
    /// Rows that one turn has room for, at least two: a step, and the reset after it.
    pub rows: usize,
    rewards: usize,
    actions: usize,
    numbers: usize,
    observations: usize,
    masks: usize,
    infos: usize,
    texts: usize,
}

impl RolloutLayout {
    /// The layout of the turns of envs with this spec.
    pub fn of(view: ViewLayout, added: usize) -> RolloutLayout {
        let numbers_bytes = numbers_stride(added);
        let row = 8 + 8 + view.action + numbers_bytes + view.observation + view.mask + view.info;
        let rows = (ROWS_BYTES / row).clamp(2, ROWS_MAX);
        let rewards = rows * 8;
        let actions = rewards + rows * 8;
        let numbers = actions + rows * view.action;
        let observations = numbers + rows * numbers_bytes;
        let masks = observations + rows * view.observation;
        let infos = masks + (rows * view.mask).next_multiple_of(8);
        let texts = infos + rows * view.info;
        RolloutLayout { view, added, rows, rewards, actions, numbers, observations, masks, infos, texts }
    }

    /// Whether two rows fit at all. If not, these envs are too large to play by themselves.
    pub fn fits(&self) -> bool {
        self.has_room_for_text(0)
    }

    /// Whether the longest `info-extra` still fits behind so many bytes of other texts.
    pub fn has_room_for_text(&self, texts: usize) -> bool {
        self.texts + texts + INFO_EXTRA_BYTES_MAX <= BULK_BYTES_MAX
    }

    /// Given actions that one turn has room for; 0: an action is too large to be given so.
    pub fn given_max(&self) -> usize {
        (ACTIONS_BYTES_MAX - GIVEN_AT) / self.view.action.max(1)
    }
}

/// Bytes of the numbers of one row.
const fn numbers_stride(added: usize) -> usize {
    (added * 4).next_multiple_of(8)
}

impl HostSlab {
    /// Writes the actions that the next turn is to take one after another.
    pub fn write_given(&self, actions: &[u8]) {
        assert!(actions.len() <= ACTIONS_BYTES_MAX - GIVEN_AT, "no more than a turn has room for");
        self.map.copy_in(self.place.batch_at + GIVEN_AT, actions);
    }

    /// Tells the worker to end its turn after the present step.
    pub fn stop(&self) {
        self.map.request(&self.place).stop.store(self.unanswered().wrapping_add(1), Relaxed);
    }

    /// How far the worker says that it is: rows that are whole, and whether it asks the env now, not the policy.
    pub fn rollout_progress(&self) -> (usize, bool) {
        let pulse = self.map.answer(&self.place).taken.load(Acquire);
        ((pulse / 2) as usize, pulse % 2 == 1)
    }

    /// The action that the worker wrote for this row before it asked the env.
    pub fn read_rollout_action(&self, layout: &RolloutLayout, row: usize) -> Vec<u8> {
        let mut action = vec![0; layout.view.action];
        if row < layout.rows {
            self.map.copy_out(self.place.bulk_at + layout.actions + row * layout.view.action, &mut action);
        }
        action
    }

    /// Copies the first `taken` rows out. They are still claims.
    ///
    /// # Errors
    /// Words that no worker writes.
    pub fn read_rollout(&self, layout: &RolloutLayout, taken: usize, rows: &mut RolloutRows) -> Result<(), Lie> {
        let RolloutRows { what, actions, added, observations, masks, infos, texts, text_ends } = rows;
        if taken > layout.rows {
            return Err(Lie(format!("{taken} rows; a turn has room for {}", layout.rows)));
        }
        let at = self.place.bulk_at;
        let copy = |to: &mut Vec<u8>, from: usize, bytes: usize| {
            to.resize(bytes, 0);
            self.map.copy_out(at + from, to);
        };
        copy(actions, layout.actions, taken * layout.view.action);
        copy(observations, layout.observations, taken * layout.view.observation);
        copy(masks, layout.masks, taken * layout.view.mask);
        copy(infos, layout.infos, taken * layout.view.info);
        let mut numbers = Vec::new();
        copy(&mut numbers, layout.numbers, taken * numbers_stride(layout.added));
        added.clear();
        if layout.added > 0 {
            for row in numbers.chunks_exact(numbers_stride(layout.added)) {
                added.extend(row.as_chunks::<4>().0.iter().take(layout.added).map(|bytes| f32::from_le_bytes(*bytes)));
            }
        }
        texts.clear();
        text_ends.clear();
        what.clear();
        let rewards = self.map.words(at + layout.rewards, taken);
        let mut text_at = layout.texts;
        for (word, reward) in self.map.words(at, taken).iter().zip(rewards) {
            let (word, reward) = (word.load(Relaxed), f64::from_bits(reward.load(Relaxed)));
            let length = usize::try_from(word >> 32).unwrap_or(usize::MAX);
            let flags = word & 0xffff_ffff;
            if flags & !bits::ALL != 0 || length > INFO_EXTRA_BYTES_MAX {
                return Err(Lie(format!("a row of {flags:#x} with an info-extra of {length} bytes")));
            }
            if length > 0 {
                texts.extend(self.read_bulk(text_at, length)?);
                text_at += length.next_multiple_of(8);
            }
            text_ends.push(texts.len());
            let has = |bit: u64| flags & bit != 0;
            what.push(match (has(bits::RESET), flags & !bits::RESET) {
                (true, 0) => Row::Reset,
                (true, _) => return Err(Lie(format!("a reset with the flags of a step: {flags:#x}"))),
                (false, _) => Row::Step {
                    reward,
                    terminated: has(bits::TERMINATED),
                    truncated: has(bits::TRUNCATED),
                    time_limit: has(bits::TIME_LIMIT),
                },
            });
        }
        Ok(())
    }
}

/// The rows of one turn, copied out: a column for each thing.
#[derive(Clone, Debug, Default)]
pub struct RolloutRows {
    /// What happened in each row.
    pub what: Vec<Row>,
    /// An action for each row; of resets, zeros or anything.
    pub actions: Vec<u8>,
    /// The numbers that the policy added, row after row.
    pub added: Vec<f32>,
    /// The view after each row.
    pub observations: Vec<u8>,
    /// The mask after each row.
    pub masks: Vec<u8>,
    /// The declared info after each row.
    pub infos: Vec<u8>,
    texts: Vec<u8>,
    /// Where the text of each row ends.
    text_ends: Vec<usize>,
}

impl RolloutRows {
    /// Leaves no row.
    pub(crate) fn clear(&mut self) {
        let RolloutRows { what, actions, added, observations, masks, infos, texts, text_ends } = self;
        what.clear();
        added.clear();
        text_ends.clear();
        [actions, observations, masks, infos, texts].into_iter().for_each(Vec::clear);
    }

    /// The `info-extra` of a row.
    pub fn text(&self, row: usize) -> &[u8] {
        let begins = row.checked_sub(1).map_or(0, |before| self.text_ends[before]);
        &self.texts[begins..self.text_ends[row]]
    }
}

#[cfg(feature = "worker")]
impl WorkerSlab {
    /// Whether the host wants this turn to end after the present step.
    #[inline]
    pub fn is_stopped(&self) -> bool {
        self.map.request(&self.place).stop.load(Relaxed) == self.idle()
    }

    /// Copies given action number `index` out.
    pub fn read_given(&self, index: usize, action: &mut [u8]) {
        self.map.copy_out(self.place.batch_at + GIVEN_AT + index * action.len(), action);
    }

    /// Says that this row's policy is asked.
    #[inline]
    pub fn asks_policy(&self, row: usize) {
        self.pulse(2 * row);
    }

    /// Writes the action of a row, and says that the env is asked to take it.
    #[inline]
    pub fn asks_env(&self, layout: &RolloutLayout, row: usize, action: &[u8], added: &[f32]) {
        let at = self.place.bulk_at;
        self.map.copy_in(at + layout.actions + row * layout.view.action, action);
        let numbers = at + layout.numbers + row * numbers_stride(layout.added);
        for (pair, to) in added.chunks(2).zip(self.map.words(numbers, added.len().div_ceil(2))) {
            let bits = |index: usize| pair.get(index).map_or(0, |number| u64::from(number.to_bits()));
            to.store(bits(0) | bits(1) << 32, Relaxed);
        }
        self.pulse(2 * row + 1);
    }

    /// Says that the turn has begun: what it writes from now on is of this turn.
    pub fn begin_rollout(&self) {
        let words = self.map.answer(&self.place);
        words.taken.store(0, Relaxed);
        words.half.store(self.idle(), Release);
    }

    /// Copies so many given actions out, from number `index` on.
    pub fn read_many_given(&self, index: usize, stride: usize, actions: &mut [u8]) {
        self.map.copy_out(self.place.batch_at + GIVEN_AT + index * stride, actions);
    }

    /// Writes the actions of rows that follow one another, and says that the env is asked to take the first.
    pub fn asks_env_many(&self, layout: &RolloutLayout, row: usize, actions: &[u8]) {
        self.map.copy_in(self.place.bulk_at + layout.actions + row * layout.view.action, actions);
        self.pulse(2 * row + 1);
    }

    fn pulse(&self, pulse: usize) {
        let pulse = u32::try_from(pulse).unwrap_or(u32::MAX);
        self.map.answer(&self.place).taken.store(pulse, Release);
        if self.place.is_row() {
            self.map.pack().count_beat();
        }
    }

    /// Writes what a row's env answered. `texts` is the room that the texts before it take, and is advanced.
    #[inline]
    pub fn write_row(
        &self,
        layout: &RolloutLayout,
        index: usize,
        row: Row,
        view: ViewBytes<'_>,
        text: &[u8],
        texts: &mut usize,
    ) {
        let at = self.place.bulk_at;
        let flag = |on: bool, bit: u64| if on { bit } else { 0 };
        let (flags, reward) = match row {
            Row::Reset => (bits::RESET, 0.0),
            Row::Step { reward, terminated, truncated, time_limit } => {
                let flags = flag(terminated, bits::TERMINATED)
                    | flag(truncated, bits::TRUNCATED)
                    | flag(time_limit, bits::TIME_LIMIT);
                (flags, reward)
            }
        };
        self.map.words(at + index * 8, 1)[0].store(flags | (text.len() as u64) << 32, Relaxed);
        self.map.words(at + layout.rewards + index * 8, 1)[0].store(reward.to_bits(), Relaxed);
        self.map.copy_in(at + layout.observations + index * layout.view.observation, view.observation);
        // A mask's length need not be a multiple of 8: byte by byte.
        let mask = self.map.bytes(at + layout.masks + index * layout.view.mask, layout.view.mask);
        for (to, from) in mask.iter().zip(view.mask) {
            to.store(*from, Relaxed);
        }
        self.map.copy_in(at + layout.infos + index * layout.view.info, view.info);
        self.map.copy_in(at + layout.texts + *texts, text);
        *texts += text.len().next_multiple_of(8);
    }
}
