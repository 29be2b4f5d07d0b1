//! On the path of a step: **vec_env** → slab → wait → worker/serve → worker/instance → slab.
//! This file knows what a caller may ask of many envs at once. It knows nothing of bytes in slabs, processes or wasm.
//! `vec_env/calls.rs` has what is asked of one env, `vec_env/state.rs` what is known without asking.

mod calls;
mod state;

use std::borrow::Cow;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::apart::Apart;
use super::batch::{Batch, Steps};
use super::policy::Random;
use super::recorded::manifest_of;
use super::slot::{self, Progress, Slot};
use super::terms::{Shape, Terms};
use crate::digest::Digest;
use crate::error::{Error, UsageError, UsageKind};
use crate::fault::{FaultKind, FaultLog};
use crate::interrupt::Interrupt;
use crate::limits::deadline;
use crate::outside::grant::Grants;
use crate::outside::service::Keeper;
use crate::process::child;
use crate::record::capture_name;
use crate::record::rows::RowShape;
use crate::record::writer::Recording;
use crate::slice::{self, Short};
use crate::wire::slab::layout::Strides;
use crate::wire::talk::{Reply, TEXT_BYTES_MAX, ToWorker};
use crate::wire::wait::{self, SLICE, Spin};

/// The time that the host spins for an answer before it sleeps.
const HOST_SPIN: Duration = Duration::from_micros(20);

/// The time during which the host yields the processor between looks before it sleeps, when workers outnumber the cores.
const HOST_YIELD: Duration = Duration::from_micros(50);

/// Many envs, each a wasm instance in a process of its own, stepped together.
///
/// Actions and observations are bytes of their spaces: one value after the other, `stride` bytes apart, little-endian (see
/// `wit/0.1.0/types.wit`). A `VecEnv` may be made in one thread and used in another. Dropping it ends every worker.
///
/// ```no_run
/// use rollcage::{Plugin, VecEnv};
///
/// fn main() -> Result<(), rollcage::Error> {
///     rollcage::worker_main(); // this program is its own worker
///     let plugin = Plugin::from_file("env.wasm".as_ref())?;
///     let mut envs = VecEnv::builder(plugin).envs(8).seed(7).build()?;
///     envs.reset(None)?;
///     let actions = vec![0; 8 * envs.spec().action_space.stride()];
///     for _ in 0..100 {
///         let batch = envs.step(&actions)?;
///         println!("{:?}", batch.rewards);
///     }
///     Ok(())
/// }
/// ```
pub struct VecEnv {
    pub(crate) slots: Vec<Slot>,
    /// Shared with the branches of these envs.
    pub(crate) terms: Arc<Terms>,
    pub(crate) batch: Batch,
    pub(crate) faults: FaultLog,
    /// The interrupt of waiting calls. The slots have it too.
    pub(crate) interrupt: Interrupt,
    /// The fork count of this program when this value was made.
    forks: u32,
    /// The envs that a call has named, to find an env named twice.
    seen: Vec<bool>,
    /// The keeper of what the run is counted as, and of the ports and services that all envs share.
    pub(super) keeper: Option<Keeper>,
    /// The recording of this run, and whether the plugin is put into it.
    pub(crate) recording: Option<(Recording, bool)>,
    /// The result of the recording that ended with the envs.
    recorded: Option<Result<Digest, Error>>,
    pub(crate) grants: Grants,
    pub(crate) seed: u64,
    /// The number of the first env.
    pub(super) first_env: u32,
    /// The step that `step_async` began.
    halved: Halved,
    /// Whether its envs have ended.
    ended: bool,
    /// The policies in processes of their own, once they were to act.
    pub(super) apart: Option<Apart>,
    /// The generators of random rollouts, once there was one.
    pub(super) random: Option<Random>,
    /// The request for short slices: the thread that waits for its envs gets the processor soon after their answers.
    short: Option<Arc<Short>>,
}

/// A step in two halves.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Halved {
    /// No step was begun, or its answers were given.
    #[default]
    No,
    /// A step was begun, and the caller is to wait for it.
    Begun,
    /// The wait for the step was interrupted: the caller may take it up again, but need not.
    Interrupted,
}

/// An explicit reset of some envs: the envs, their seeds, and their options.
#[derive(Clone, Debug, Default)]
pub struct ResetSome<'a> {
    /// One flag per env; none: reset all envs.
    pub mask: Option<&'a [bool]>,
    /// One seed per env; an env without one goes on with its generators.
    pub seeds: Option<&'a [Option<u64>]>,
    /// Options for every reset env: a JSON object.
    pub options: Option<&'a Value>,
}

impl VecEnv {
    /// The builder's result, before any worker has started.
    pub(crate) fn assembled(slots: Vec<Slot>, terms: Terms, grants: Grants, seed: u64, interrupt: Interrupt) -> VecEnv {
        VecEnv::assembled_beside(slots, Arc::new(terms), grants, seed, interrupt)
    }

    /// Envs with the terms of other envs.
    pub(crate) fn assembled_beside(
        mut slots: Vec<Slot>,
        terms: Arc<Terms>,
        grants: Grants,
        seed: u64,
        interrupt: Interrupt,
    ) -> VecEnv {
        slots.iter_mut().for_each(|slot| slot.set_interrupt(&interrupt));
        let layout = terms.shape.as_ref().map(|shape| shape.strides.view).unwrap_or_default();
        VecEnv {
            batch: Batch::zeros(slots.len(), &layout),
            faults: FaultLog::default(),
            interrupt,
            forks: child::forks(),
            seen: Vec::new(),
            slots,
            terms,
            keeper: None,
            recording: None,
            recorded: None,
            grants,
            seed,
            first_env: 0,
            halved: Halved::No,
            ended: false,
            apart: None,
            random: None,
            short: None,
        }
    }

    /// Starts every worker and waits until all are ready; [`Builder::build`](super::builder::Builder::build) has done so already.
    ///
    /// # Errors
    /// As [`Builder::build`](super::builder::Builder::build), for the workers. After an error there is nothing to step. [`Error::Usage`]: the envs were
    /// started before, whatever the result.
    pub fn start(&mut self) -> Result<(), Error> {
        self.check_not_over()?;
        if self.terms.shape.is_some() {
            return Err(started_before().into());
        }
        let started = self.start_all();
        if started.is_err() {
            if let Some(terms) = Arc::get_mut(&mut self.terms) {
                terms.shape = None;
            }
            // No step was taken, so there is no recording to keep. It is dropped last, since workers write into its folder.
            let recording = if self.is_forked() { None } else { self.recording.take() };
            self.slots.iter_mut().for_each(Slot::end_journal);
            self.end();
            drop(recording);
        }
        started
    }

    fn start_all(&mut self) -> Result<(), Error> {
        let terms = Arc::get_mut(&mut self.terms).ok_or_else(started_before)?;
        terms.make_room(self.slots.len())?;
        self.keeper = slot::keep_the_run(terms, self.slots.len(), self.seed, &self.interrupt)?;
        for slot in &mut self.slots {
            slot.begin_start(&self.terms)?;
            slot.check_interrupted()?;
        }
        // Ask for all copies, and for all instances of shared workers, before waiting for any.
        for slot in &mut self.slots {
            while !slot.leave_queue(SLICE, &self.terms)? {
                self.interrupt.check()?;
            }
        }
        self.tell(0..self.slots.len());
        for index in 0..self.slots.len() {
            self.finish(index)?;
            if let Some(error) = self.slots[index].take_error() {
                return Err(error);
            }
            if let Some(spec) = self.slots[index].take_first_spec() {
                let env = self.slots[index].env();
                let refuse = |what: String| UsageError::new(format!("env {env}: its spec does not fit: {what}"));
                let strides = Strides::of(&spec).map_err(refuse)?;
                self.batch = Batch::zeros(self.slots.len(), &strides.view);
                self.slots[index].set_shape(&strides);
                let (observation, action) = (spec.observation_space.layout(), spec.action_space.layout());
                let terms = Arc::get_mut(&mut self.terms).ok_or_else(started_before)?;
                terms.shape = Some(Shape { spec, strides, observation, action });
            }
        }
        self.begin_recording()
    }

    /// Records all events from now on, including the first start.
    pub(crate) fn record(&mut self, recording: Recording, embed_plugin: bool) {
        self.slots.iter_mut().for_each(|slot| slot.set_journal(recording.journal().clone()));
        self.recording = Some((recording, embed_plugin));
    }

    /// Writes captured input from outside into this recording's folder.
    pub(crate) fn capture_into(&mut self, folder: &std::path::Path) {
        for (env, slot) in self.slots.iter_mut().enumerate() {
            slot.capture_to(folder.join(capture_name(self.first_env as usize + env)));
        }
    }

    /// The seed, and the numbers of the first env and of its first instance here.
    fn numbers(&self) -> (u64, u32, u32) {
        (self.seed, self.first_env, self.slots.first().map_or(0, Slot::first_instance))
    }

    fn begin_recording(&mut self) -> Result<(), Error> {
        let numbers = self.numbers();
        let Some((recording, embed_plugin)) = &mut self.recording else { return Ok(()) };
        let spec = &self.terms.shape.as_ref().expect("the envs have started").spec;
        let configs = self.slots.iter().map(|slot| &slot.config().value);
        let manifest = manifest_of(&self.terms, spec, configs, &self.grants, numbers);
        let shape = RowShape::of(spec).map_err(UsageError::new)?;
        let plugin = embed_plugin.then(|| self.terms.prepared.plugin.bytes());
        recording.begin(manifest, shape, plugin)
    }

    /// Closes the recording, if there is one: later calls are not in it. Returns the receipt (`docs/receipts.md`). After
    /// [`VecEnv::say_goodbye`], which closes the recording too, it returns the result of that.
    ///
    /// # Errors
    /// [`Error::System`]: the recording could not be written to the end. The part written before stays readable, and says
    /// that it is a part.
    pub fn finish_recording(&mut self) -> Result<Option<Digest>, Error> {
        if self.is_forked() {
            return Ok(None);
        }
        let Some((recording, _)) = self.recording.take() else { return self.recorded.take().transpose() };
        self.slots.iter_mut().for_each(Slot::end_journal);
        recording.finish(self.slots.iter().map(Slot::recorded_end).collect()).map(Some)
    }

    // ── Reset and step ──────────────────────────────────────────────────────────────────────────────────────────

    /// Resets every env. Operations under way are finished, and their answers are dropped. With a seed, env *i* starts anew
    /// from `seed + i`; in a share of a run, from `seed + first_env + i`
    /// ([`Builder::first_env`](super::builder::Builder::first_env)). Without a seed its generators go on (the first time: from
    /// the builder's seed).
    ///
    /// # Errors
    /// [`Error::Usage`] when the guest refuses; [`Error::Fault`] when an env cannot be brought up within its budget (or at
    /// once, under [`OnFault::Raise`](crate::OnFault::Raise)); [`Error::Interrupted`]. The other envs are reset all the same:
    /// see [`VecEnv::last`].
    pub fn reset(&mut self, seed: Option<u64>) -> Result<&Batch, Error> {
        let seeds = match seed {
            None => None,
            Some(seed) => Some(
                (u64::from(self.first_env)..)
                    .take(self.slots.len())
                    .map(|env| seed.checked_add(env).map(Some))
                    .collect::<Option<Vec<_>>>()
                    .ok_or_else(|| UsageError::new(format!("seed {seed} + env index is past 2^64 - 1")))?,
            ),
        };
        self.reset_some(&ResetSome { seeds: seeds.as_deref(), ..ResetSome::default() })
    }

    /// Resets some envs, with the caller's seeds and options. Rows of the other envs stay as they are, and those in flight
    /// stay in flight.
    ///
    /// # Errors
    /// As [`VecEnv::reset`]; and [`Error::Usage`] where a step was begun by [`VecEnv::step_async`] and not all envs are
    /// reset; for a mask or seeds whose length differs from the number of envs; or for options that are not a JSON object or
    /// too long.
    pub fn reset_some(&mut self, reset: &ResetSome<'_>) -> Result<&Batch, Error> {
        let envs = self.slots.len();
        let lengths = [reset.mask.map(<[bool]>::len), reset.seeds.map(<[Option<u64>]>::len)];
        if let Some(given) = lengths.into_iter().flatten().find(|given| *given != envs) {
            return Err(UsageError::new(format!("a reset's mask and seeds: {given} entries for {envs} envs")).into());
        }
        let options = reset.options.map(options_text).transpose()?;
        self.check_started()?;
        let ids: Vec<usize> = (0..envs).filter(|&index| reset.mask.is_none_or(|mask| mask[index])).collect();
        // A reset of all envs makes earlier answers unwanted. After a reset of some, the other envs' answers would be lost.
        if ids.len() < envs {
            self.check_not_halved()?;
        }
        ids.iter().for_each(|&index| self.slots[index].in_flight = false);
        self.finish_pending()?;
        for &index in &ids {
            let seed = reset.seeds.and_then(|seeds| seeds[index]);
            self.slots[index].begin_reset(seed, options.clone(), &self.terms, &mut self.batch, &mut self.faults);
        }
        self.tell(ids.iter().copied());
        self.collect(&ids)?;
        Ok(&self.batch)
    }

    /// Steps every env: `actions` holds one value of the action space per env, in order. Row *i* of the batch is env *i*.
    ///
    /// # Errors
    /// [`Error::Usage`]: the actions are too short or long, or one is not in the space (nothing was stepped then); the guest
    /// refuses one; with autoreset disabled, an episode is over. [`Error::Fault`]: an env's fault under
    /// [`OnFault::Raise`](crate::OnFault::Raise), or a spent budget. [`Error::Interrupted`]. In the last three cases, the
    /// answers of all other envs are in [`VecEnv::last`]. Also [`Error::Usage`] if an answer still to be received would be
    /// lost: the answer to a step that [`VecEnv::step_async`] began, or of an env that was sent to.
    pub fn step(&mut self, actions: &[u8]) -> Result<&Batch, Error> {
        self.step_async(actions)?;
        self.step_wait()
    }

    /// The first half of [`VecEnv::step`]: every env begins its step, and the call does not wait.
    ///
    /// # Errors
    /// As [`VecEnv::step`], for errors found before any env is stepped.
    pub fn step_async(&mut self, actions: &[u8]) -> Result<(), Error> {
        let all = 0..self.slots.len();
        self.check_started()?;
        self.check_owed(all.clone())?;
        self.finish_pending()?;
        let actions = self.check_actions(actions, all.clone())?;
        self.publish(&actions, all);
        self.halved = Halved::Begun;
        Ok(())
    }

    /// The second half of [`VecEnv::step`]: waits for every env. After [`Error::Interrupted`] it may be called again.
    ///
    /// # Errors
    /// As [`VecEnv::step`], for the results of the step; and [`Error::Usage`] where [`VecEnv::step_async`] has begun no step.
    pub fn step_wait(&mut self) -> Result<&Batch, Error> {
        self.check_started()?;
        if self.halved == Halved::No {
            return Err(UsageError::new("no step was begun")
                .hint("`step_async` begins one, and each is waited for once")
                .of_kind(UsageKind::NoAsyncCall)
                .into());
        }
        self.halved = Halved::Interrupted;
        self.await_last(self.slots.len().checked_sub(1));
        for index in 0..self.slots.len() {
            self.finish(index)?;
        }
        self.halved = Halved::No;
        first(self.slots.iter_mut().filter_map(Slot::take_error))?;
        Ok(&self.batch)
    }

    /// Steps some envs and waits for all of them: `actions` holds one value per entry of `env_ids`. The batch keeps a row for
    /// every env; rows of the other envs stay as they are.
    ///
    /// # Errors
    /// As [`VecEnv::step`]; and [`Error::Usage`] for an index that appears twice or is out of range.
    pub fn step_some(&mut self, actions: &[u8], env_ids: &[usize]) -> Result<&Batch, Error> {
        self.check_started()?;
        self.check_ids(env_ids)?;
        self.check_owed(env_ids.iter().copied())?;
        self.finish_pending()?;
        let actions = self.check_actions(actions, env_ids.iter().copied())?;
        self.publish(&actions, env_ids.iter().copied());
        self.collect(env_ids)?;
        Ok(&self.batch)
    }

    /// The batch as the last call left it. After an error of one env, it has the answers of the others.
    pub fn last(&self) -> &Batch {
        &self.batch
    }

    /// Steps some envs without waiting: `actions` holds one value per entry of `env_ids`. Answers come by
    /// [`VecEnv::recv`].
    ///
    /// # Errors
    /// [`Error::Usage`]: as [`VecEnv::step`]; an index that appears twice, is out of range, or names an env in flight.
    /// Nothing was sent then.
    pub fn send(&mut self, actions: &[u8], env_ids: &[usize]) -> Result<(), Error> {
        self.check_started()?;
        self.check_ids(env_ids)?;
        self.check_owed(env_ids.iter().copied())?;
        self.halved = Halved::No;
        for &index in env_ids {
            self.finish(index)?;
            // The error of an interrupted call belongs to that call. It does not answer the action sent now.
            if let Some(error) = self.slots[index].take_error() {
                return Err(error);
            }
        }
        let actions = self.check_actions(actions, env_ids.iter().copied())?;
        self.publish(&actions, env_ids.iter().copied());
        for &index in env_ids {
            self.slots[index].in_flight = true;
        }
        Ok(())
    }

    /// Waits until at least `min_ready` of the envs in flight have answered (all of them, if fewer are in flight) or the
    /// timeout is over. Returns the envs that have answered: ids ascending, and a row for each. An env that has not answered
    /// stays in flight, and its answer belongs to its action.
    ///
    /// # Errors
    /// As [`VecEnv::step`], when a returned env has an error; the other envs stay ready for the next `recv`.
    pub fn recv(&mut self, min_ready: usize, timeout: Option<Duration>) -> Result<(Vec<usize>, Batch), Error> {
        self.check_started()?;
        let flying: Vec<usize> = (0..self.slots.len()).filter(|&index| self.slots[index].in_flight).collect();
        let wanted = min_ready.min(flying.len());
        let deadline = timeout.map(deadline);
        let mut ready = self.ready(&flying)?;
        while ready.len() < wanted && deadline.is_none_or(|deadline| Instant::now() < deadline) {
            self.interrupt.check()?;
            let left = deadline.map_or(SLICE, |deadline| deadline.saturating_duration_since(Instant::now()));
            self.wait_any(&flying, left);
            ready = self.ready(&flying)?;
        }
        for &index in &ready {
            if let Some(error) = self.slots[index].take_error() {
                self.slots[index].in_flight = false;
                return Err(error);
            }
        }
        for &index in &ready {
            self.slots[index].in_flight = false;
        }
        let batch = self.batch.gather(&ready);
        Ok((ready, batch))
    }

    /// Takes several steps of one env in one turn of its worker: `actions` holds one value per step. The batch ends with the
    /// episode, and never resets.
    ///
    /// # Errors
    /// As [`VecEnv::step`]; and [`Error::Usage`] where the env's episode is over. A fault is in [`Steps::fault`]. Under
    /// [`OnFault::Raise`](crate::OnFault::Raise) the fault is the error, and the caller does not get the steps taken before
    /// it.
    pub fn step_many(&mut self, env: usize, actions: &[u8]) -> Result<Steps, Error> {
        self.check_started()?;
        let index = self.existing(env)?;
        self.check_owed(std::iter::once(index))?;
        self.finish_pending()?;
        let stride = self.shape().strides.view.action;
        if stride == 0 || !actions.len().is_multiple_of(stride) {
            let bytes = actions.len();
            return Err(UsageError::new(format!("{bytes} bytes of actions; one takes {stride}")).into());
        }
        if let Some(error) = self.slots[index].refuses_step(&self.terms) {
            return Err(error.into());
        }
        let slot = &self.slots[index];
        if slot.is_masked() {
            return Err(UsageError::new(format!("env {env} is masked after a fault"))
                .hint("reset it, and it is stepped again")
                .into());
        }
        if !slot.has_pending_fault() && slot.is_ended() {
            return Err(UsageError::new(format!("env {env} cannot take a batch of steps: its episode is over"))
                .hint("reset it first; a batch of steps never does")
                .into());
        }
        let mut actions = Cow::Borrowed(actions);
        for number in 0..actions.len() / stride {
            self.as_action(&mut actions, number).map_err(|error| error.of(&format!("env {env}, action {number}: ")))?;
        }
        let layout = self.shape().strides.view;
        let mut all = Steps::default();
        let mut rest = &*actions;
        while !rest.is_empty() {
            let left = self.slots[index].steps_left(&self.terms).map_or(usize::MAX, |left| left as usize);
            let count = (rest.len() / stride).min(layout.steps_max()).min(left);
            let (now, later) = rest.split_at(count * stride);
            let count = u32::try_from(count).unwrap_or(u32::MAX);
            self.slots[index].begin_step_many(now, count, &self.terms, &mut self.batch, &mut self.faults);
            self.finish(index)?;
            let steps = self.slots[index].take_steps();
            let goes_on = steps.taken == count && !steps.terminated && !steps.truncated;
            // Texts of info-extra may fill the room before all steps are taken. The remaining steps are then asked for in
            // another turn.
            let short = steps.taken > 0 && steps.taken < count && !steps.terminated && !steps.truncated;
            rest = if short { &rest[steps.taken as usize * stride..] } else { later };
            all.extend(steps);
            if let Some(error) = self.slots[index].take_error() {
                return Err(error);
            }
            if !(goes_on || short) {
                break;
            }
        }
        Ok(all)
    }

    /// Makes sure that a rollout may begin: no answer is owed, and nothing is under way.
    pub(crate) fn begin_rollout(&mut self) -> Result<(), Error> {
        self.check_started()?;
        self.check_owed(0..self.slots.len())?;
        self.finish_pending()
    }

    // ── Collecting ──────────────────────────────────────────────────────────────────────────────────────────────

    /// How the host waits for an answer.
    fn spin(&self) -> Spin {
        if self.terms.is_roomy() { Spin::Busy(HOST_SPIN) } else { Spin::Yield(HOST_YIELD) }
    }

    fn shape(&self) -> &Shape {
        self.terms.shape.as_ref().expect("a VecEnv that was built has its spec")
    }

    pub(crate) fn existing(&self, env: usize) -> Result<usize, UsageError> {
        let envs = self.slots.len();
        (env < envs)
            .then_some(env)
            .ok_or_else(|| UsageError::new(format!("env {env} does not exist; there are {envs}")))
    }

    /// Refuses a call that would lose the answer to a step that was begun and is not waited for yet.
    pub(crate) fn check_not_halved(&self) -> Result<(), UsageError> {
        if self.halved == Halved::Begun {
            return Err(UsageError::new("a step was begun by `step_async`, and its answers are still to be received")
                .hint("`step_wait` first; a reset of all envs gives them up")
                .of_kind(UsageKind::AlreadyPending));
        }
        Ok(())
    }

    /// Refuses a call that would lose an answer of these envs that the caller is still to receive.
    fn check_owed(&self, mut envs: impl Iterator<Item = usize>) -> Result<(), UsageError> {
        self.check_not_halved()?;
        match envs.find(|&index| self.slots[index].in_flight) {
            Some(index) => Err(in_flight(index)),
            None => Ok(()),
        }
    }

    /// Finishes operations that an interrupted call left under way. Each answer belongs to the action of that call, and no
    /// other call returns it. An error of such an operation is reported now, before a new operation begins. Envs in flight
    /// stay in flight.
    fn finish_pending(&mut self) -> Result<(), Error> {
        self.check_started()?;
        self.halved = Halved::No;
        for index in 0..self.slots.len() {
            if !self.slots[index].in_flight {
                self.finish_pending_of(index)?;
            }
        }
        Ok(())
    }

    /// As `finish_pending`, for one env that is not in flight.
    pub(crate) fn finish_pending_of(&mut self, index: usize) -> Result<(), Error> {
        self.bring_to_rest(index)?;
        if self.slots[index].is_to_be_repeated() {
            // A call that was interrupted has left it so.
            self.repeat_now(index)?;
        }
        self.slots[index].take_error().map_or(Ok(()), Err)
    }

    /// Finishes the operation under way in one env, unless its caller will `recv` it.
    fn bring_to_rest(&mut self, index: usize) -> Result<(), Error> {
        if self.slots[index].in_flight {
            return Err(in_flight(index).into());
        }
        self.finish(index)
    }

    pub(crate) fn check_started(&self) -> Result<(), Error> {
        if let Some(error) = self.recording.as_ref().and_then(|(recording, _)| recording.failure()) {
            return Err(error);
        }
        if let Some(error) = self.keeper.as_ref().and_then(slot::lost_keeper_of_the_run) {
            return Err(error);
        }
        Ok(self.check_usable()?)
    }

    fn check_usable(&self) -> Result<(), UsageError> {
        self.check_not_over()?;
        match self.terms.shape {
            Some(_) => Ok(()),
            None => Err(UsageError::new("the envs are not started").hint("call `start` after `assemble`")),
        }
    }

    /// Checks that the envs have not ended, and belong to this process.
    fn check_not_over(&self) -> Result<(), UsageError> {
        if self.is_forked() {
            return Err(UsageError::new("these envs belong to the process that this one was forked from")
                .hint("make envs of its own in the forked process; those of its parent go on there"));
        }
        if self.ended {
            return Err(UsageError::new("the envs have ended").hint("build new ones"));
        }
        Ok(())
    }

    /// Checks that the value at this position is an action, and replaces a value that the env is to be given in another form.
    fn as_action(&self, actions: &mut Cow<'_, [u8]>, position: usize) -> Result<(), UsageError> {
        let Shape { spec, strides, action, .. } = self.shape();
        let range = position * strides.view.action..(position + 1) * strides.view.action;
        if let Some(clipped) = action.as_action(&actions[range.clone()], spec.actions_out_of_bounds)? {
            actions.to_mut()[range].copy_from_slice(&clipped);
        }
        Ok(())
    }

    /// Every index names an env, and none twice.
    pub(crate) fn check_ids(&mut self, env_ids: &[usize]) -> Result<(), UsageError> {
        self.seen.clear();
        self.seen.resize(self.slots.len(), false);
        for &index in env_ids {
            self.existing(index)?;
            if std::mem::replace(&mut self.seen[index], true) {
                return Err(UsageError::new(format!("env {index} is named twice")));
            }
        }
        Ok(())
    }

    /// Checks every action that would run, before any action runs. Returns the actions for the envs: the same, except for
    /// floats that were outside their bounds by rounding.
    fn check_actions<'a>(
        &self,
        actions: &'a [u8],
        ids: impl ExactSizeIterator<Item = usize>,
    ) -> Result<Cow<'a, [u8]>, Error> {
        self.check_started()?;
        let stride = self.shape().strides.view.action;
        let envs = ids.len();
        if actions.len() != envs * stride {
            let (bytes, wanted) = (actions.len(), envs * stride);
            return Err(UsageError::new(format!("{bytes} bytes of actions; {envs} envs take {wanted}")).into());
        }
        let mut actions = Cow::Borrowed(actions);
        for (position, index) in ids.enumerate() {
            let slot = &self.slots[index];
            if let Some(error) = slot.refuses_step(&self.terms) {
                return Err(error.into());
            }
            if slot.takes_action(&self.terms) {
                self.as_action(&mut actions, position)
                    .map_err(|error| error.of(&format!("env {}: action ", slot.env())))?;
            }
        }
        Ok(actions)
    }

    /// Publishes a step for each of these envs.
    fn publish(&mut self, actions: &[u8], ids: impl Iterator<Item = usize>) {
        let stride = self.shape().strides.view.action;
        let mut before: Option<usize> = None;
        for (position, index) in ids.enumerate() {
            // A shared worker begins as soon as all its envs have their turns.
            if let Some(before) = before.replace(index)
                && !self.slots[before].shares_worker_with(&self.slots[index])
            {
                self.slots[before].tell();
            }
            let action = &actions[position * stride..(position + 1) * stride];
            self.slots[index].begin_step(action, &self.terms, &mut self.batch, &mut self.faults);
        }
        if let Some(last) = before {
            self.slots[last].tell();
        }
    }

    /// Tells the shared workers of these envs of their turns.
    fn tell(&self, ids: impl Iterator<Item = usize>) {
        ids.for_each(|index| self.slots[index].tell());
    }

    /// Waits for these envs in turn, then reports the first error among them.
    pub(super) fn collect(&mut self, ids: &[usize]) -> Result<(), Error> {
        self.await_last(ids.last().copied());
        for &index in ids {
            self.finish(index)?;
        }
        first(ids.iter().filter_map(|&index| self.slots[index].take_error()))
    }

    /// Waits for the env that was asked last, for a slice at most. Usually it answers last, so the host is woken once rather
    /// than for each env in turn.
    fn await_last(&self, index: Option<usize>) {
        if let Some(last) = index.and_then(|index| self.slots[index].watched_last()) {
            wait::wait(last.word, last.last, last.sleeps, self.spin(), SLICE);
        }
    }

    /// Waits until one env has no operation under way. This ends, because every wait in it has a deadline.
    pub(crate) fn finish(&mut self, index: usize) -> Result<(), Error> {
        slice::hold(&mut self.short);
        let spin = self.spin();
        let slot = &mut self.slots[index];
        while slot.is_busy() {
            let progress = slot.advance(SLICE, spin, &self.terms, &mut self.batch, &mut self.faults);
            slot.check_interrupted()?;
            if progress == Progress::Waiting {
                self.interrupt.check()?;
            }
        }
        Ok(())
    }

    /// Those of `flying` that have answered.
    fn ready(&mut self, flying: &[usize]) -> Result<Vec<usize>, Error> {
        let mut ready = Vec::with_capacity(flying.len());
        for &index in flying {
            let slot = &mut self.slots[index];
            let progress = slot.advance(Duration::ZERO, Spin::None, &self.terms, &mut self.batch, &mut self.faults);
            slot.check_interrupted()?;
            if progress == Progress::Done {
                ready.push(index);
            }
        }
        Ok(ready)
    }

    /// Sleeps until one of `flying` has news, or the policy of one, or a slice is over.
    pub(super) fn wait_any(&self, flying: &[usize], time: Duration) {
        let policies = self.apart.as_ref().map_or(&[][..], Apart::slots);
        let of_env = |&env: &usize| [self.slots.get(env), policies.get(env)].into_iter().flatten();
        let busy: Vec<&Slot> = flying.iter().flat_map(of_env).filter(|slot| slot.is_busy()).collect();
        let words: Vec<_> = busy.iter().filter_map(|slot| slot.watched()).collect();
        // A worker that is starting sends messages and does not change its slab's word.
        let time = if words.len() < busy.len() { time.min(Duration::from_millis(1)) } else { time };
        // Policy and env take turns, so each wait is short.
        let spin = if self.apart.is_some() { self.spin() } else { Spin::None };
        wait::wait_any(&words, spin, time);
    }

    fn converse(&mut self, env: usize, message: &ToWorker) -> Result<(Reply, Vec<u8>), Error> {
        self.check_started()?;
        let index = self.existing(env)?;
        self.bring_to_rest(index)?;
        let VecEnv { slots, terms, batch, faults, .. } = self;
        slots[index].converse(message, &[], terms, batch, faults)
    }
}

impl Drop for VecEnv {
    fn drop(&mut self) {
        self.end();
    }
}

/// A picture of an env.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Frame {
    /// `height * width * 3` bytes: rows from the top, R G B.
    Rgb {
        /// Pixels.
        width: u32,
        /// Pixels.
        height: u32,
        /// The bytes.
        pixels: Vec<u8>,
    },
    /// Text. Not escaped.
    Text(String),
}

fn in_flight(env: usize) -> UsageError {
    UsageError::new(format!("env {env} is in flight"))
        .hint("`recv` its answer before you ask something else of it")
        .of_kind(UsageKind::AlreadyPending)
}

fn started_before() -> UsageError {
    UsageError::new("the envs were started before").hint("`start` is called once, after `assemble`; build new ones")
}

/// The first error of a call; where a shared worker ended, that of the env that ended it. The others are taken too, because
/// an error belongs to the call that met it, not to a later call.
pub(super) fn first(errors: impl Iterator<Item = Error>) -> Result<(), Error> {
    let is_anothers = |error: &Error| matches!(error, Error::Fault(fault) if fault.kind == FaultKind::Sibling);
    errors
        .reduce(|first, next| if is_anothers(&first) && !is_anothers(&next) { next } else { first })
        .map_or(Ok(()), Err)
}

fn options_text(options: &Value) -> Result<String, UsageError> {
    if !options.is_object() {
        return Err(UsageError::new("reset options must be a JSON object"));
    }
    bounded(options.to_string(), "reset options")
}

fn bounded(text: String, what: &str) -> Result<String, UsageError> {
    let bytes = text.len();
    (bytes <= TEXT_BYTES_MAX)
        .then_some(text)
        .ok_or_else(|| UsageError::new(format!("{what} of {bytes} bytes; the limit is {TEXT_BYTES_MAX}")))
}

/// A guest's JSON. A result that is not JSON is the author's mistake, and is reported as such.
fn json(env: usize, bytes: &[u8]) -> Result<Value, Error> {
    serde_json::from_slice(bytes)
        .map_err(|error| UsageError::new(format!("env {env}: its answer is not JSON: {error}")).into())
}
