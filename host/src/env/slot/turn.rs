//! Turns of an env: a request is published, the worker is looked at, and its answer is checked and entered.

use std::io;
use std::os::fd::BorrowedFd;
use std::sync::atomic::Ordering::Acquire;
use std::time::{Duration, Instant};

use super::fault::{FaultFound, end_of, guest_fault, lied, limit_of, name_of, nobody, timed_out};
use super::{Busy, Op, Phase, ResetOp, Slot, Terms, slab_of};
use crate::digest::{StepFlags, ViewParts};
use crate::env::batch::{Batch, EpisodeEnd, Steps, View};
use crate::env::oddity::Place;
use crate::error::UsageError;
use crate::fault::{FaultKind, FaultLog, MESSAGE_BYTES_MAX};
use crate::json;
use crate::limits::deadline;
use crate::process::child::Heard;
use crate::wire::slab::host::HostSlab;
use crate::wire::slab::layout::Which;
use crate::wire::slab::{Answer, Command, Lie, Request, Status, request_flags};
use crate::wire::talk::{EnvError, FromWorker, ToWorker};
use crate::wire::wait::{self, Spin};

impl Slot {
    /// Publishes a request as the next turn.
    pub(super) fn publish(&mut self, op: Op, terms: &Terms, batch: &mut Batch, faults: &mut FaultLog) {
        let left = self.steps_left(terms);
        let (command, count) = match &op {
            // Nothing to ask: the env is ready, or was asked already.
            Op::Start | Op::Converse(_) => {
                self.op = None;
                return;
            }
            Op::Step(command) => (*command, 1),
            Op::StepMany(count) => (Command::StepMany, *count),
            Op::MakePolicy => (Command::Rollout, 0),
            Op::Play(part) => (Command::Rollout, self.rows_of(part, terms)),
            Op::Reset(_) => (Command::Reset, 1),
        };
        let timeout = if matches!(op, Op::MakePolicy) { terms.limits.start_timeout } else { limit_of(command, terms) };
        if self.has_lost_its_keeper() {
            let (kind, message, backtrace) = Slot::keeper_lost();
            self.met_fault(kind, message, backtrace, terms, batch, faults);
            return;
        }
        if self.process().is_none_or(|child| child.shared.attention.load(Acquire))
            && let Some((kind, message, backtrace)) = self.death()
        {
            // The worker died, or lied, while no turn was under way.
            self.met_fault(kind, message, backtrace, terms, batch, faults);
            return;
        }
        let mut request = Request { command, count, flags: 0, seed: 0, spin_us: terms.spin_us() };
        let mut seed = None;
        let mut options = None;
        match &op {
            Op::Reset(reset) => {
                // The host always passes a seed to the first reset of an instance.
                seed = match reset.seed {
                    None if self.fresh => Some(self.first_seed()),
                    seed => seed,
                };
                options = reset.options.clone();
            }
            Op::Step(Command::StepThenReset) => options = self.reset_options.clone(),
            _ => {}
        }
        let order = self.order(&op, terms);
        if let Some(seed) = seed {
            request.flags |= request_flags::SEED;
            request.seed = seed;
        }
        let limit_flag = order.is_none() && left.is_some_and(|left| left == count);
        if limit_flag && !matches!(op, Op::Reset(_)) {
            request.flags |= request_flags::LAST_STEP;
        }
        let message = options.clone().map(ToWorker::ResetOptions).or(order);
        if let Some(message) = message {
            request.flags |= request_flags::MESSAGE;
            if let Some(Err(error)) = self.send(&message, &[]) {
                let (kind, message, backtrace) = self.unsent(&error, deadline(timeout));
                self.met_fault(kind, message, backtrace, terms, batch, faults);
                return;
            }
        }
        if let Some(Op::Reset(reset)) = &mut self.op {
            reset.asked = true;
        }
        let busy = Busy::new(request, self.latest(timeout));
        self.phase = Phase::Busy(Busy { limit_flag, seed, options, ..busy });
        let Some(slab) = self.slab() else { return };
        if matches!(op, Op::Step(_) | Op::StepMany(_)) {
            let layout = &terms.shape().strides.view;
            for (index, action) in self.action.chunks_exact(layout.action.max(1)).enumerate() {
                slab.write_action(layout, count as usize, index, action);
            }
        } else if matches!(op, Op::Play(_)) {
            slab.write_given(&self.action);
        }
        self.publish_turn(slab, &request, timeout);
    }

    /// Publishes the next turn. A worker that the env shares is told later, by [`Slot::tell`], once its other envs have
    /// theirs.
    pub(super) fn publish_turn(&self, slab: &HostSlab, request: &Request, limit: Duration) {
        let must_wake = slab.publish(request);
        if let Some(seat) = &self.seat {
            seat.note(self.env, request.command, limit);
        } else if must_wake {
            wait::wake(slab.turn_word());
        }
    }

    /// Sends a message to the env. None: no worker runs.
    pub(super) fn send(&self, message: &ToWorker, descriptors: &[BorrowedFd<'_>]) -> Option<io::Result<()>> {
        match &self.seat {
            Some(seat) => seat.slab().map(|slab| slab.write_message(message)),
            None => self.child.as_ref().map(|child| child.send(message, descriptors)),
        }
    }

    /// The seed of an instance's first reset.
    pub(super) fn first_seed(&self) -> u64 {
        if self.instance == 0 {
            return self.base_seed;
        }
        let mut hasher = blake3::Hasher::new();
        hasher.update(b"rollcage-restart\x01");
        hasher.update(&self.base_seed.to_le_bytes());
        hasher.update(&self.instance.to_le_bytes());
        let hash = hasher.finalize();
        u64::from_le_bytes(std::array::from_fn(|index| hash.as_bytes()[index]))
    }

    /// One look at a busy worker, with one wait in it if `patience` allows.
    pub(super) fn look(&mut self, patience: Duration, spin: Spin, terms: &Terms) -> Look {
        if self.seat.is_some() {
            return self.look_seated(patience, spin, terms);
        }
        let Phase::Busy(Busy { request, deadline, heartbeat, moved, .. }) = &self.phase else { return Look::Working };
        let (request, deadline, heartbeat, moved) = (*request, *deadline, *heartbeat, *moved);
        let Some(child) = &self.child else { return Look::fault(nobody()) };
        let Some(slab) = child.slab() else { return Look::fault(nobody()) };
        let mut waited = patience.is_zero();
        loop {
            match slab.answered() {
                Err(lie) => return Look::fault(lied(lie)),
                Ok(true) => {
                    return match slab.claim().check(&request) {
                        Ok(answer) => Look::Answer(answer),
                        Err(lie) => Look::fault(lied(lie)),
                    };
                }
                Ok(false) => {}
            }
            if child.shared.attention.load(Acquire)
                && let Some(ill) = self.death()
            {
                return Look::fault(ill);
            }
            if self.has_lost_its_keeper() {
                return Look::fault(Slot::keeper_lost());
            }
            if waited {
                // The clock is read only when a wait brought nothing new.
                let now = Instant::now();
                if now < deadline {
                    return Look::Working;
                }
                // A batch is judged step by step: a worker that makes progress gets the time of another step. Its progress is
                // a claim, so it is believed at most once per step.
                let times = match request.command {
                    Command::StepMany => request.count,
                    // The policy and the env, for each row, and a reset of the policy.
                    Command::Rollout => request.count.saturating_mul(3),
                    _ => 0,
                };
                let heard = (moved < times).then(|| slab.heartbeat(heartbeat)).flatten();
                if let Some(taken) = heard
                    && let Phase::Busy(busy) = &mut self.phase
                {
                    busy.heartbeat = taken;
                    busy.moved += 1;
                    busy.deadline = self::deadline(terms.limits.step_timeout);
                    return Look::Working;
                }
                // An answer that has come by now counts, because the env is not to blame if the host was stopped.
                if matches!(slab.answered(), Ok(false)) {
                    return Look::fault(timed_out(request.command, limit_of(request.command, terms)));
                }
                continue;
            }
            wait::wait(slab.done_word(), slab.unanswered(), slab.host_sleeps(), spin, patience.min(wait::SLICE));
            waited = true;
        }
    }

    /// Accepts an answer: copies it out, checks it, enters it into row and digest.
    pub(super) fn accept(&mut self, answer: Answer, terms: &Terms, batch: &mut Batch, faults: &mut FaultLog) {
        let Phase::Busy(busy) = std::mem::replace(&mut self.phase, Phase::Idle) else { return };
        let accepted = match self.op.clone() {
            Some(Op::Step(_)) => self.accept_step(answer, &busy, terms, batch),
            Some(Op::StepMany(count)) => self.accept_steps(answer, count, &busy, terms, batch),
            Some(Op::Reset(_)) => self.accept_reset(answer, &busy, terms, batch),
            Some(Op::MakePolicy) => self.accept_policy(answer),
            Some(Op::Play(part)) => self.accept_played(answer, (part.by_policy, part.batched), terms, batch),
            // Refused or answered, the result goes to no caller.
            Some(Op::Converse(message)) => self.reply(&answer, &message).map(|_| ()).map_err(Rejected::from),
            Some(Op::Start) | None => Ok(()),
        };
        match accepted {
            // A planned restart ended the instance, and its reset belongs to the next instance.
            Ok(()) if std::mem::take(&mut self.recycled) => {}
            Ok(()) => self.op = None,
            Err(Rejected::FaultFound((kind, message, backtrace))) => {
                self.phase = Phase::Busy(busy);
                self.met_fault(kind, message, backtrace, terms, batch, faults);
            }
            Err(Rejected::Refused(error)) => match self.judge(&error, busy.options.is_some(), terms) {
                Ok(error) => {
                    let (env, step) = (self.env, self.step);
                    self.give_up(error.of(&format!("env {env}, step {step}: ")).into());
                }
                Err((kind, message, backtrace)) => {
                    self.phase = Phase::Busy(busy);
                    self.met_fault(kind, message, backtrace, terms, batch, faults);
                }
            },
        }
    }

    /// Accepts a step's answer, together with the reset's if both were one turn.
    pub(super) fn accept_step(
        &mut self,
        answer: Answer,
        busy: &Busy,
        terms: &Terms,
        batch: &mut Batch,
    ) -> Result<(), Rejected> {
        // A refusal or a fault in the reset's half leaves the step's half answered.
        let half = busy.request.command == Command::StepThenReset && self.slab().is_some_and(HostSlab::half_answered);
        if answer.status != Status::Ok && !half {
            return Err(self.rejection(answer.status)?);
        }
        self.step_answered(&answer, busy, terms, batch)?;
        if matches!(self.op, Some(Op::Reset(_))) && !self.recycled {
            self.accept_reset(answer, busy, terms, batch)?;
        }
        Ok(())
    }

    /// Enters an answered step into row and digest. If a reset follows in the same turn, the reset is under way from here on.
    pub(super) fn step_answered(
        &mut self,
        answer: &Answer,
        busy: &Busy,
        terms: &Terms,
        batch: &mut Batch,
    ) -> Result<(), FaultFound> {
        let row = self.row();
        self.read_view(answer, if answer.reset { Which::Final } else { Which::View }, terms)?;
        if !answer.terminated && !answer.truncated && !busy.limit_flag {
            self.check_open(terms)?;
        }
        self.step += 1;
        self.episode_return += answer.reward;
        let Answer { terminated, truncated, reward, .. } = *answer;
        let flags = StepFlags { terminated, truncated, time_limit: busy.limit_flag };
        self.policy_lost_sight();
        self.enter_own_step(reward, flags);
        self.look_for_oddities(reward, terms);
        batch.set_view(row, &self.view);
        batch.rewards[row] = reward;
        batch.terminated[row] = terminated;
        batch.truncated[row] = truncated || busy.limit_flag;
        if terminated || truncated || busy.limit_flag {
            batch.episodes[row] = Some(EpisodeEnd { episode_return: self.episode_return, length: self.step });
            self.end_episode();
        }
        if answer.reset {
            batch.keep_final(row);
            // Clear only the options that this turn carried. Options set while it was on its way are for a later reset.
            if self.reset_options == busy.options {
                self.reset_options = None;
            }
            self.op = Some(Op::Reset(ResetOp { seed: None, options: busy.options.clone(), asked: true }));
        } else if self.ended
            && terms.autoreset.resets_at_once()
            && terms.recycle_after.is_some_and(|episodes| self.played >= episodes)
        {
            // The worker was not asked to reset: the next instance is, within the same call.
            batch.keep_final(row);
            self.before_added_reset = Some(self.as_of_now());
            self.op = Some(Op::Reset(ResetOp { seed: None, options: self.reset_options.take(), asked: false }));
            self.recycled = true;
            self.recycle_if_due(terms);
        }
        Ok(())
    }

    /// Accepts a reset's answer.
    pub(super) fn accept_reset(
        &mut self,
        answer: Answer,
        busy: &Busy,
        terms: &Terms,
        batch: &mut Batch,
    ) -> Result<(), Rejected> {
        if answer.status != Status::Ok {
            return Err(self.rejection(answer.status)?);
        }
        self.read_view(&answer, Which::View, terms)?;
        self.check_open(terms)?;
        let row = self.row();
        if !self.ended {
            // Not earlier: if the env had refused, its episode would go on.
            self.end_episode();
        }
        self.policy_lost_sight();
        self.enter_reset(busy.seed, busy.options.as_deref());
        batch.set_view(row, &self.view);
        // In same-step mode the row belongs to the step.
        batch.was_reset[row] = !batch.has_final[row];
        self.fresh = false;
        self.ended = false;
        self.step = 0;
        self.episode_return = 0.0;
        self.look_for_oddities(0.0, terms);
        Ok(())
    }

    /// Checks that the view leaves an action open. The worker has done so.
    fn check_open(&self, terms: &Terms) -> Result<(), FaultFound> {
        if self.view.mask.is_empty() {
            return Ok(());
        }
        terms.shape().action.check_open(&self.view.mask).map_err(|what| lied(Lie(format!("its action mask: {what}"))))
    }

    /// Counts what is odd about the present view and the reward that came with it.
    fn look_for_oddities(&mut self, reward: f64, terms: &Terms) {
        let place = Place { at: self.answers, episode: self.episode, step: self.step };
        self.answers += 1;
        self.oddities.look(&terms.shape().observation, &self.view.observation, reward, place);
    }

    /// Accepts the answer to a batch of steps. Steps taken count, whatever happened after them.
    pub(super) fn accept_steps(
        &mut self,
        answer: Answer,
        count: u32,
        busy: &Busy,
        terms: &Terms,
        batch: &mut Batch,
    ) -> Result<(), Rejected> {
        let shape = terms.shape();
        let layout = shape.strides.view;
        let taken = answer.taken as usize;
        let slab = self.slab().ok_or_else(nobody)?;
        let columns = slab.read_columns(&layout, count as usize, taken).map_err(lied)?;
        let ended =
            (answer.terminated || answer.truncated || (busy.limit_flag && taken == count as usize)) && taken > 0;
        let mut extras = Vec::with_capacity(taken);
        let mut step = self.step;
        for (index, extra) in columns.extras.into_iter().enumerate() {
            let observation = &columns.observations[index * layout.observation..][..layout.observation];
            let mask = &columns.masks[index * layout.mask..][..layout.mask];
            let info = &columns.infos[index * layout.info..][..layout.info];
            shape.check(observation, mask, info).map_err(|what| lied(Lie(what)))?;
            let is_last = ended && index + 1 == taken;
            if !mask.is_empty() && !is_last {
                shape.action.check_open(mask).map_err(|what| lied(Lie(format!("its action mask: {what}"))))?;
            }
            extras.push(check_extra(extra)?);
        }
        for (index, extra) in extras.iter().enumerate() {
            let last = ended && index + 1 == taken;
            let flags = StepFlags {
                terminated: last && answer.terminated,
                truncated: last && answer.truncated,
                time_limit: last && busy.limit_flag && taken == count as usize,
            };
            let observation = &columns.observations[index * layout.observation..][..layout.observation];
            let view = ViewParts {
                observation,
                mask: &columns.masks[index * layout.mask..][..layout.mask],
                info: &columns.infos[index * layout.info..][..layout.info],
                extra: extra.as_bytes(),
            };
            let action = std::mem::take(&mut self.action);
            let one = &action[index * layout.action..][..layout.action];
            self.enter_step(one, columns.rewards[index], flags, view);
            self.action = action;
            step += 1;
            let place = Place { at: self.answers, episode: self.episode, step };
            self.answers += 1;
            self.oddities.look(&shape.observation, observation, columns.rewards[index], place);
            self.episode_return += columns.rewards[index];
        }
        self.step += answer.taken;
        self.policy_lost_sight();
        if let Some(last) = taken.checked_sub(1) {
            // The row shows the env's last answer: its mask is used for the next action, and a fault returns its observation.
            let of_last = |column: &[u8], stride: usize| column[last * stride..][..stride].to_vec();
            self.view = View {
                observation: of_last(&columns.observations, layout.observation),
                mask: of_last(&columns.masks, layout.mask),
                info: of_last(&columns.infos, layout.info),
                extra: extras[last].clone(),
            };
            batch.set_view(self.row(), &self.view);
        }
        self.steps = Steps {
            taken: answer.taken,
            observations: columns.observations,
            rewards: columns.rewards,
            action_masks: columns.masks,
            infos: columns.infos,
            infos_extra: extras,
            terminated: ended && answer.terminated,
            truncated: ended && (answer.truncated || (busy.limit_flag && taken == count as usize)),
            episode: None,
            fault: None,
        };
        if ended {
            self.steps.episode = Some(EpisodeEnd { episode_return: self.episode_return, length: self.step });
            self.end_episode();
        }
        match answer.status {
            Status::Ok => Ok(()),
            status => Err(self.rejection(status)?),
        }
    }

    /// Whose fault a refusal is: the caller's, if it can be. An env may refuse an action that its last mask forbids, and may
    /// refuse a reset because of its options. A refusal that cannot be true is a fault of the env.
    pub(super) fn judge(&self, error: &EnvError, has_options: bool, terms: &Terms) -> Result<UsageError, FaultFound> {
        let of_caller = || Ok(UsageError::new(text_of(error)));
        let of_env = |what: &str| Err((FaultKind::BadAnswer, format!("{what}: {error}"), Vec::new()));
        match (&self.op, error) {
            (Some(Op::Step(_) | Op::StepMany(_) | Op::Play(_)), EnvError::InvalidAction(_)) => {
                let (action, space) = (self.asked_action(), &terms.shape().action);
                // Where an action may be out of bounds, an env may refuse it for that.
                if self.view.mask.is_empty() || space.contains(action).is_err() {
                    return of_caller();
                }
                match space.check_unmasked(action, &self.view.mask) {
                    Err(masked) => Ok(UsageError::new(format!("action {masked}")).hint(
                        "choose among those that the action mask leaves open; `MaskablePPO` of sb3-contrib learns so",
                    )),
                    Ok(()) => of_env("it refuses an action that is in its space and open in its mask"),
                }
            }
            (Some(Op::Step(_) | Op::StepMany(_) | Op::Play(_)), EnvError::NeedsReset) => {
                of_env("it refuses a step in the middle of an episode")
            }
            (Some(Op::Step(_) | Op::StepMany(_) | Op::Play(_)), _) => {
                of_env("it refuses a step, for what no step is refused")
            }
            (_, EnvError::InvalidOptions(_) | EnvError::Unsupported(_)) if has_options => of_caller(),
            (_, EnvError::InvalidOptions(_)) => of_env("it refuses a reset that came without options"),
            _ => of_env("it refuses a reset, for what no reset is refused"),
        }
    }

    /// Copies a view out of the slab and checks it.
    pub(super) fn read_view(&mut self, answer: &Answer, which: Which, terms: &Terms) -> Result<(), FaultFound> {
        let shape = terms.shape();
        // Borrowed apart from the view.
        let slab = slab_of(self.seat.as_ref(), self.child.as_ref()).ok_or_else(nobody)?;
        let view = &mut self.view;
        slab.read_view(&shape.strides.view, which, &mut view.observation, &mut view.mask, &mut view.info);
        shape.check(&view.observation, &view.mask, &view.info).map_err(|what| lied(Lie(what)))?;
        view.extra.clear();
        let len = match which {
            Which::View => answer.extra_len,
            Which::Final => answer.final_extra_len,
        };
        if len > 0 {
            view.extra = check_extra(slab.read_extra(answer, which).map_err(lied)?)?;
        }
        Ok(())
    }

    /// Reads the reason why a turn was not carried out.
    pub(super) fn rejection(&mut self, status: Status) -> Result<Rejected, FaultFound> {
        match (status, self.explanation()?) {
            (Status::Refused, FromWorker::Refused(error)) => Ok(Rejected::Refused(error)),
            (Status::Fault, FromWorker::Fault(fault)) => Ok(Rejected::FaultFound(guest_fault(fault))),
            (status, other) => Err(lied(Lie(format!("status {status:?}, explained by {}", name_of(&other))))),
        }
    }

    /// The message that explains an answer.
    pub(super) fn explanation(&mut self) -> Result<FromWorker, FaultFound> {
        if let Some(seat) = &self.seat {
            return seat.slab().ok_or_else(nobody)?.read_message().map_err(lied);
        }
        let Some(child) = &self.child else { return Err(nobody()) };
        let until = Instant::now() + EXPLANATION_TIMEOUT;
        loop {
            match child.listen(until.saturating_duration_since(Instant::now())) {
                Heard::Message(message) => return Ok(message),
                Heard::Lie(lie) => return Err(lied(Lie(lie))),
                Heard::Dead(exit) => return Err(end_of(exit)),
                Heard::Nothing if Instant::now() >= until => {
                    return Err(lied(Lie("an answer that needs an explanation has none".to_owned())));
                }
                Heard::Nothing => {}
            }
        }
    }

    /// The reason why a message could not be sent. A closed socket usually belongs to a process whose end the watcher has not
    /// yet reported. This waits for the watcher's report, because that says more.
    pub(super) fn unsent(&self, error: &io::Error, deadline: Instant) -> FaultFound {
        let closed = matches!(error.kind(), io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset);
        let until = deadline.min(Instant::now() + EXPLANATION_TIMEOUT);
        while closed && self.child.as_ref().is_some_and(|child| !child.is_dead()) && Instant::now() < until {
            std::thread::sleep(Duration::from_micros(100));
        }
        self.death().unwrap_or_else(|| {
            (FaultKind::Protocol, format!("it does not read its control socket: {error}"), Vec::new())
        })
    }

    /// Whether the worker has died or lied without being asked, and how. Messages that came before an end explain it.
    pub(super) fn death(&self) -> Option<FaultFound> {
        if let Some(seat) = &self.seat {
            return if seat.life().is_some() { seat.death() } else { Some(nobody()) };
        }
        let Some(child) = &self.child else { return Some(nobody()) };
        if !child.is_dead() && child.shared.lie.get().is_none() {
            return None;
        }
        // An answer published before the end counts, with all messages that explain it. The next turn reports the end.
        if matches!(self.phase, Phase::Busy(_)) && child.slab().is_some_and(|slab| matches!(slab.answered(), Ok(true)))
        {
            return None;
        }
        loop {
            match child.listen(Duration::ZERO) {
                Heard::Message(FromWorker::Fault(fault)) => return Some(guest_fault(fault)),
                Heard::Message(_) => {}
                Heard::Lie(lie) => return Some(lied(Lie(lie))),
                Heard::Dead(exit) => return Some(end_of(exit)),
                Heard::Nothing => {}
            }
        }
    }
}

/// The time to wait for the explanation of a refusal or fault. It was sent before the answer, so only the watcher has still
/// to read it.
const EXPLANATION_TIMEOUT: Duration = Duration::from_secs(2);

/// The result of one look at a busy worker.
pub(super) enum Look {
    Working,
    Answer(Answer),
    Fault(FaultKind, String, Vec<String>),
}

impl Look {
    pub(super) fn fault((kind, message, backtrace): FaultFound) -> Look {
        Look::Fault(kind, message, backtrace)
    }
}

/// Why an answer was not accepted.
pub(super) enum Rejected {
    /// The guest refuses, and the env keeps running.
    Refused(EnvError),
    /// A fault.
    FaultFound(FaultFound),
}

impl From<FaultFound> for Rejected {
    fn from(ill: FaultFound) -> Rejected {
        Rejected::FaultFound(ill)
    }
}

/// Reads an `info-extra` as text: empty, or a JSON object that every reader accepts. The worker has checked it, but the host
/// does not trust the worker.
fn check_extra(bytes: Vec<u8>) -> Result<String, FaultFound> {
    let text = String::from_utf8(bytes).map_err(|_| lied(Lie("an info-extra that is not UTF-8".to_owned())))?;
    if !text.is_empty() {
        json::check_object("its info-extra", &text).map_err(|what| lied(Lie(what)))?;
    }
    Ok(text)
}

fn text_of(error: &EnvError) -> String {
    let mut text = crate::text::escape_line(&error.to_string());
    crate::text::cut(&mut text, MESSAGE_BYTES_MAX);
    text
}
