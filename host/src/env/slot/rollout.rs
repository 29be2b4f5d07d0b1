//! Turns in which the worker plays by itself: what is asked for, and how the rows that come back are checked and entered, as
//! if each had been asked for.

use std::sync::Arc;

use super::fault::{FaultFound, lied, name_of, nobody};
use super::turn::Rejected;
use super::{Op, Phase, ResetOp, Slot, Terms};
use crate::digest::{StepFlags, ViewParts};
use crate::env::batch::{Batch, EpisodeEnd, View};
use crate::env::oddity::Place;
use crate::error::Error;
use crate::fault::{Fault, FaultKind, FaultLog};
use crate::space::OutOfBounds;
use crate::wire::slab::rollout::{ADDED_MAX, RolloutLayout, RolloutRows, Row};
use crate::wire::slab::{Answer, Lie, Status};
use crate::wire::talk::{ActingAs, FromWorker, GuestFault, Order, ToWorker};
use crate::wire::wait::Spin;

/// The policy in an env's worker.
#[derive(Clone)]
pub(super) struct MadePolicy {
    /// The key of its random stream.
    key: [u8; 32],
    /// The names of the numbers that it adds to each action.
    pub(super) names: Arc<[String]>,
    /// Whether it has seen the present episode from its beginning up to here.
    follows: bool,
}

/// What is played in one turn.
#[derive(Clone, Debug)]
pub(crate) struct Part {
    /// Whether the policy acts; else the actions are given.
    pub(crate) by_policy: bool,
    /// Whether the guest's own loop may take many given actions in one call.
    pub(crate) batched: bool,
    /// Steps to take at most; with given actions, their number.
    pub(crate) steps: u32,
    /// Episodes to end at most.
    pub(crate) episodes: u32,
}

/// What was played in one turn.
#[derive(Clone, Default)]
pub(crate) struct Played {
    pub(crate) rows: RolloutRows,
    /// The episodes that ended.
    pub(crate) episodes: Vec<EpisodeEnd>,
    /// Whether one more action was taken, which met a fault.
    pub(crate) unanswered: bool,
}

impl Slot {
    /// The key of the random stream of this instance's policy.
    pub(crate) fn policy_key(&self) -> [u8; 32] {
        let mut hasher = blake3::Hasher::new();
        hasher.update(b"rollcage-policy-instance\x01");
        hasher.update(&self.base_seed.to_le_bytes());
        hasher.update(&self.instance.to_le_bytes());
        hasher.finalize().into()
    }

    /// Whether the worker has the policy that is to act now.
    pub(crate) fn has_policy(&self) -> bool {
        self.policy.as_ref().is_some_and(|policy| policy.key == self.policy_key())
    }

    /// The names of the numbers that the policy adds to each action, once it was made.
    pub(crate) fn policy_adds(&self) -> Arc<[String]> {
        self.policy.as_ref().map(|policy| Arc::clone(&policy.names)).unwrap_or_default()
    }

    /// Makes the slot of a policy start its worker as that of the policy of this env's running instance.
    pub(crate) fn act_for(&mut self, env: &Slot) {
        self.stop();
        (self.base_seed, self.instance, self.started) = (env.base_seed, env.instance, false);
        (self.pending, self.error, self.masked, self.op) = (None, None, false, None);
    }

    /// Notes that the policy was made in a process of its own, and adds numbers of these names.
    pub(crate) fn policy_is_made(&mut self, names: &[String]) {
        let names = names.iter().map(|name| crate::text::escape_line(name)).collect();
        self.policy = Some(MadePolicy { key: self.policy_key(), names, follows: false });
    }

    /// Whether the policy has seen the present episode up to here.
    pub(crate) fn policy_follows(&self) -> bool {
        self.policy.as_ref().is_some_and(|policy| policy.follows)
    }

    /// Notes that the policy has seen the present episode up to here.
    pub(crate) fn policy_sees(&mut self) {
        if let Some(policy) = &mut self.policy {
            policy.follows = true;
        }
    }

    /// Forgets the policy: the next rollout makes it.
    pub(crate) fn forget_policy(&mut self) {
        self.policy = None;
    }

    /// The error of a rollout whose policy cannot go on, with the newest part of a log and the bytes that came before.
    pub(crate) fn policy_fault(&mut self, message: String, backtrace: Vec<String>, log: (String, u64)) -> Error {
        self.policy = None;
        let mut fault = self.bare_fault(FaultKind::Policy, message);
        fault.backtrace = backtrace;
        (fault.log, fault.log_dropped_bytes) = log;
        fault.into()
    }

    /// Steps done otherwise are not seen by the policy.
    pub(super) fn policy_lost_sight(&mut self) {
        if let Some(policy) = &mut self.policy {
            policy.follows = false;
        }
    }

    /// Where the rows of the next turn lie.
    pub(crate) fn rollout_layout(&self, by_policy: bool, terms: &Terms) -> RolloutLayout {
        let added = if by_policy { self.policy.as_ref().map_or(0, |policy| policy.names.len()) } else { 0 };
        RolloutLayout::of(terms.shape().strides.view, added)
    }

    /// The rows that the next turn has room for.
    pub(super) fn rows_of(&self, part: &Part, terms: &Terms) -> u32 {
        let rows = u32::try_from(self.rollout_layout(part.by_policy, terms).rows).unwrap_or(u32::MAX);
        // Each step, and a reset after it.
        rows.min(part.steps.saturating_mul(2))
    }

    /// Makes the policy, without waiting for it.
    pub(crate) fn begin_policy(&mut self, terms: &Terms, batch: &mut Batch, faults: &mut FaultLog) {
        self.policy = None;
        self.op = Some(Op::MakePolicy);
        self.advance(std::time::Duration::ZERO, Spin::None, terms, batch, faults);
    }

    /// Begins a turn in which the worker plays, without waiting for it. The env is in an episode. `given` are the actions, if
    /// the policy does not act.
    pub(crate) fn begin_part(
        &mut self,
        part: Part,
        given: &[u8],
        terms: &Terms,
        batch: &mut Batch,
        faults: &mut FaultLog,
    ) {
        batch.begin_row(self.row());
        self.before_added_reset = None;
        self.rolled.rows.clear();
        self.rolled.episodes.clear();
        self.rolled.unanswered = false;
        self.action.clear();
        self.action.extend_from_slice(given);
        self.op = Some(Op::Play(part));
        self.advance(std::time::Duration::ZERO, Spin::None, terms, batch, faults);
    }

    /// What was played in the last turn.
    pub(crate) fn rolled(&self) -> &Played {
        &self.rolled
    }

    /// The message that goes with a turn of the policy, or with one in which the worker plays.
    pub(super) fn order(&self, op: &Op, terms: &Terms) -> Option<ToWorker> {
        match op {
            Op::MakePolicy => {
                let config = terms.policy.as_ref()?.config.canonical.clone();
                Some(ToWorker::MakePolicy { key: self.policy_key(), config })
            }
            Op::Play(part) => {
                let takes_over = !self.policy.as_ref().is_some_and(|policy| policy.follows);
                Some(ToWorker::Rollout(Order {
                    acting: if part.by_policy {
                        ActingAs::Policy { takes_over }
                    } else {
                        ActingAs::Given { batched: part.batched }
                    },
                    steps: part.steps,
                    episodes: part.episodes,
                    elapsed: self.step,
                    limit: terms.time_limit.over(self.own_time_limit),
                    options: self.reset_options.clone(),
                }))
            }
            _ => None,
        }
    }

    /// Accepts the answer to the order that made the policy.
    pub(super) fn accept_policy(&mut self, answer: Answer) -> Result<(), Rejected> {
        match (answer.status, self.explanation()?) {
            (Status::Ok, FromWorker::PolicyMade(names)) if names.len() <= ADDED_MAX => {
                let names = names.iter().map(|name| crate::text::escape_line(name)).collect();
                self.policy = Some(MadePolicy { key: self.policy_key(), names, follows: false });
                Ok(())
            }
            (Status::Refused, FromWorker::PolicyFailed(fault)) => {
                self.policy_failed(fault);
                Ok(())
            }
            (Status::Fault, FromWorker::Fault(fault)) => Err(super::fault::guest_fault(fault).into()),
            (status, other) => {
                let lie = Lie(format!("status {status:?} of a policy, explained by {}", name_of(&other)));
                Err(Rejected::from(lied(lie)))
            }
        }
    }

    /// Accepts a played turn. What was played before a fault or a refusal counts.
    pub(super) fn accept_played(
        &mut self,
        answer: Answer,
        (by_policy, batched): (bool, bool),
        terms: &Terms,
        batch: &mut Batch,
    ) -> Result<(), Rejected> {
        self.enter_rows(answer.taken as usize, by_policy, terms, batch)?;
        if let (true, Some(policy)) = (by_policy, &mut self.policy) {
            policy.follows = true;
        } else {
            self.policy_lost_sight();
        }
        if answer.status == Status::Ok {
            return Ok(());
        }
        self.keep_asked_action(answer.taken as usize, by_policy, terms);
        match (answer.status, self.explanation()?) {
            (Status::Refused, FromWorker::PolicyFailed(fault)) if by_policy => {
                self.policy_failed(fault);
                Ok(())
            }
            (Status::Refused, FromWorker::Refused(error)) => Err(Rejected::Refused(error)),
            (Status::Fault, FromWorker::PlaySteps(_)) if batched => {
                self.must_be_repeated();
                Ok(())
            }
            (Status::Fault, FromWorker::Fault(fault)) => {
                self.ask_for_the_reset();
                Err(super::fault::guest_fault(fault).into())
            }
            (status, other) => Err(lied(Lie(format!("status {status:?}, explained by {}", name_of(&other)))).into()),
        }
    }

    /// The instance goes on in another worker, where it is told again what it was told, and by single steps from then on.
    pub(super) fn must_be_repeated(&mut self) {
        (self.repeats, self.only_steps) = (true, true);
        self.op = None;
    }

    /// Ends an instance that cannot be told again, by a fault that its next step or reset reports.
    pub(crate) fn end_unrepeated(&mut self, terms: &Terms, faults: &mut FaultLog, error: &Error) {
        self.repeats = false;
        let message = format!("its loop over steps failed, and it cannot be run again by single steps: {error}");
        let fault = self.make_fault(FaultKind::BadAnswer, message, Vec::new(), terms, faults);
        self.pending = Some(fault);
    }

    /// Whether the instance must be told again before it is asked anything.
    pub(crate) fn is_to_be_repeated(&self) -> bool {
        self.repeats
    }

    /// Whether the guest's own loop may take so many bytes of given actions: if it does not go as single steps, the instance is
    /// told again, for which its past must be kept.
    pub(crate) fn takes_batches(&self, bytes: usize, terms: &Terms) -> bool {
        !self.only_steps
            && terms.limits.fuel_per_step.is_none()
            && terms.shape().strides.view.mask == 0
            && terms.can_be_repeated()
            && self.events.past_has_room(bytes, self.past_bytes)
    }

    /// The policy cannot go on; the env can.
    fn policy_failed(&mut self, fault: GuestFault) {
        let message = format!("the policy cannot go on: {}", fault.message);
        let (_, _, backtrace) = super::fault::guest_fault(fault);
        let log = self.log();
        self.error = Some(self.policy_fault(message, backtrace, (log.text(), log.dropped())));
    }

    /// What a fault in a turn that was not answered was about: the rows that are whole are entered, and the fault is the
    /// policy's if that was asked.
    pub(super) fn salvage(
        &mut self,
        found: FaultFound,
        by_policy: bool,
        terms: &Terms,
        batch: &mut Batch,
    ) -> FaultFound {
        let Some(slab) = self.slab().filter(|slab| matches!(slab.answered(), Ok(false))) else { return found };
        if !slab.half_answered() {
            // The turn was never begun.
            return found;
        }
        let (rows, asks_env) = slab.rollout_progress();
        // These are claims like all others. If one is wrong, none counts.
        if self.enter_rows(rows, by_policy, terms, batch).is_ok() {
            self.keep_asked_action(rows, by_policy, terms);
        }
        let (kind, message, backtrace) = found;
        // A policy can keep its process from answering, and not end it: what ends a process is the env's fault, whoever was
        // asked.
        if by_policy && !asks_env && kind == FaultKind::StepTimeout {
            return (FaultKind::Policy, "the policy did not answer in the time of a step".to_owned(), backtrace);
        }
        self.ask_for_the_reset();
        match kind {
            FaultKind::StepTimeout if matches!(self.op, Some(Op::Reset(_))) => {
                (FaultKind::ResetTimeout, message.replace("the step", "the reset"), backtrace)
            }
            _ => (kind, message, backtrace),
        }
    }

    /// After the end of an episode, what the env was asked for is the reset.
    fn ask_for_the_reset(&mut self) {
        if self.ended {
            let options = self.reset_options.take();
            self.op = Some(Op::Reset(ResetOp { seed: None, options, asked: true }));
        }
    }

    /// Keeps the action of the row that was not answered, if the worker wrote one.
    fn keep_asked_action(&mut self, row: usize, by_policy: bool, terms: &Terms) {
        let layout = self.rollout_layout(by_policy, terms);
        let action = self.slab().map(|slab| slab.read_rollout_action(&layout, row)).unwrap_or_default();
        let is_one = matches!(terms.shape().action.as_action(&action, self.outside(terms)), Ok(None));
        self.action = if is_one { action } else { Vec::new() };
    }

    fn outside(&self, terms: &Terms) -> OutOfBounds {
        terms.shape().spec.actions_out_of_bounds
    }

    /// Copies rows out, checks all of them, and enters them.
    fn enter_rows(
        &mut self,
        taken: usize,
        by_policy: bool,
        terms: &Terms,
        batch: &mut Batch,
    ) -> Result<(), FaultFound> {
        let layout = self.rollout_layout(by_policy, terms);
        let mut rows = std::mem::take(&mut self.rolled.rows);
        let slab = self.slab().ok_or_else(nobody)?;
        slab.read_rollout(&layout, taken, &mut rows).map_err(lied)?;
        self.check_rows(&rows, by_policy, terms).map_err(|what| lied(Lie(what)))?;
        for row in 0..taken {
            self.enter_row(&rows, row, terms);
        }
        if let Some(last) = taken.checked_sub(1) {
            let layout = &terms.shape().strides.view;
            let of_last = |column: &[u8], stride: usize| column[last * stride..][..stride].to_vec();
            self.view = View {
                observation: of_last(&rows.observations, layout.observation),
                mask: of_last(&rows.masks, layout.mask),
                info: of_last(&rows.infos, layout.info),
                extra: String::from_utf8_lossy(rows.text(last)).into_owned(),
            };
            batch.set_view(self.row(), &self.view);
        }
        self.rolled.rows = rows;
        Ok(())
    }

    /// Checks every row against the spec, and their order against the time limit.
    fn check_rows(&self, rows: &RolloutRows, by_policy: bool, terms: &Terms) -> Result<(), String> {
        let shape = terms.shape();
        let layout = &shape.strides.view;
        let limit = terms.time_limit.over(self.own_time_limit);
        let (mut ended, mut step) = (self.ended, self.step);
        let mut mask_before = self.view.mask.as_slice();
        for (row, what) in rows.what.iter().enumerate() {
            let part = |column: &'_ [u8], stride: usize| -> std::ops::Range<usize> {
                debug_assert!((row + 1) * stride <= column.len());
                row * stride..(row + 1) * stride
            };
            let mask = &rows.masks[part(&rows.masks, layout.mask)];
            let observation = &rows.observations[part(&rows.observations, layout.observation)];
            shape.check(observation, mask, &rows.infos[part(&rows.infos, layout.info)])?;
            let text = std::str::from_utf8(rows.text(row)).map_err(|_| "an info-extra that is not UTF-8".to_owned())?;
            if !text.is_empty() {
                crate::json::check_object("its info-extra", text)?;
            }
            match *what {
                Row::Reset if !ended => return Err("a reset in the middle of an episode".to_owned()),
                Row::Reset => (ended, step) = (false, 0),
                Row::Step { .. } if ended => return Err("a step after the end of an episode".to_owned()),
                Row::Step { terminated, truncated, time_limit, .. } => {
                    step += 1;
                    if time_limit != limit.is_some_and(|limit| step >= limit) {
                        return Err(format!("step {step} with the time limit reached: {time_limit}"));
                    }
                    let action = &rows.actions[part(&rows.actions, layout.action)];
                    match shape.action.as_action(action, self.outside(terms)) {
                        Ok(None) => {}
                        Ok(Some(_)) => return Err("an action that is outside its bounds by rounding".to_owned()),
                        Err(error) => return Err(format!("an action that is none: {}", error.message)),
                    }
                    if by_policy && !mask_before.is_empty() {
                        shape.action.check_unmasked(action, mask_before)?;
                    }
                    ended = terminated || truncated || time_limit;
                }
            }
            mask_before = mask;
            if !ended && !mask.is_empty() {
                shape.action.check_open(mask).map_err(|what| format!("its action mask: {what}"))?;
            }
        }
        Ok(())
    }

    /// Enters one checked row.
    fn enter_row(&mut self, rows: &RolloutRows, row: usize, terms: &Terms) {
        let shape = terms.shape();
        let layout = &shape.strides.view;
        let observation = &rows.observations[row * layout.observation..][..layout.observation];
        let view = ViewParts {
            observation,
            mask: &rows.masks[row * layout.mask..][..layout.mask],
            info: &rows.infos[row * layout.info..][..layout.info],
            extra: rows.text(row),
        };
        let seen = match rows.what[row] {
            Row::Reset => {
                let options = self.reset_options.take();
                self.enter_reset_of(None, options.as_deref(), view);
                (self.fresh, self.ended, self.step, self.episode_return) = (false, false, 0, 0.0);
                0.0
            }
            Row::Step { reward, terminated, truncated, time_limit } => {
                let action = &rows.actions[row * layout.action..][..layout.action];
                self.enter_step(action, reward, StepFlags { terminated, truncated, time_limit }, view);
                self.step += 1;
                self.episode_return += reward;
                reward
            }
        };
        let place = Place { at: self.answers, episode: self.episode, step: self.step };
        self.answers += 1;
        self.oddities.look(&shape.observation, observation, seen, place);
        if let Row::Step { terminated, truncated, time_limit, .. } = rows.what[row]
            && (terminated || truncated || time_limit)
        {
            self.rolled.episodes.push(EpisodeEnd { episode_return: self.episode_return, length: self.step });
            self.end_episode();
        }
    }

    /// Tells a worker that plays to end its turn after the present step.
    pub(crate) fn stop_playing(&self) {
        if matches!((&self.op, &self.phase), (Some(Op::Play(_)), Phase::Busy(_)))
            && let Some(slab) = self.slab()
        {
            slab.stop();
        }
    }

    /// Ends a call that the policy's fault has ended: the process is gone with the instance, which nobody is charged for.
    pub(super) fn end_by_policy(&mut self, fault: Fault) {
        self.op = None;
        self.pending = Some(fault.clone());
        self.error = Some(Error::from(fault));
    }
}
