//! One env that repeats its recording: its instances one after another, each call as the rows have it.

use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;

use super::compare::{Difference, different};
use super::damage::Damage;
use super::folder::Rollout;
use super::how::{ReplayError, Replaying};
use super::rerun::{BATCH_STEPS, PATIENCE_MAX};
use crate::cage::Wall;
use crate::cage::engine::Backend;
use crate::digest::{Digest, ViewParts, env_digest};
use crate::env::builder::Builder;
use crate::env::terms::Start;
use crate::env::vec_env::{ResetSome, VecEnv};
use crate::episode::Autoreset;
use crate::error::{Error, UsageError};
use crate::fault::{FaultKind, OnFault};
use crate::limits::{Limits, STRANGERS_MEMORY_BYTES_MAX};
use crate::plugin::Plugin;
use crate::record::history::History;
use crate::record::journal::{Asked, FaultMet, Journal, PastInstance};
use crate::record::manifest::{FaultEnd, InstanceEnd, PluginName, Spaces};
use crate::record::rows::{Row, RowShape, Rows};

/// The things that all envs of a replay share.
pub(super) struct Stage<'a> {
    rollout: &'a Rollout,
    how: &'a Replaying,
    plugin: &'a Plugin,
    pub(super) limits: Limits,
    backend: Backend,
}

impl<'a> Stage<'a> {
    pub(super) fn new(rollout: &'a Rollout, plugin: &'a Plugin, how: &'a Replaying) -> Result<Stage<'a>, UsageError> {
        let manifest = rollout.manifest();
        let recorded = &manifest.limits;
        if recorded.memory_bytes > STRANGERS_MEMORY_BYTES_MAX {
            return Err(UsageError::new(format!(
                "the recording wants {} bytes of memory for an env; the limit is {STRANGERS_MEMORY_BYTES_MAX}",
                recorded.memory_bytes
            )));
        }
        let mut wanted = manifest.grants.iter().filter(|grant| grant.starts_with("dir="));
        if let Some(grant) = wanted.next()
            && how.grants.is_empty()
        {
            return Err(UsageError::new(format!(
                "the run had `--grant {grant}`, whose files are not in the recording"
            ))
            .hint("grant a directory with the same files again: `--grant dir=HOST:GUEST`"));
        }
        let clock_step = Duration::try_from_secs_f64(recorded.clock_step)
            .map_err(|_| UsageError::new("the recording's clock_step is no time"))?;
        let ours = Limits::default();
        // A run that was given more time gets it again. A recording is untrusted, so the time is bounded.
        let patience = |seconds: f64, ours: Duration| {
            Duration::try_from_secs_f64(seconds).unwrap_or(ours).clamp(ours, ours.max(PATIENCE_MAX))
        };
        let limits = Limits {
            start_timeout: patience(recorded.start_timeout, ours.start_timeout),
            reset_timeout: patience(recorded.reset_timeout, ours.reset_timeout),
            step_timeout: patience(recorded.step_timeout, ours.step_timeout),
            call_timeout: patience(recorded.call_timeout, ours.call_timeout),
            memory_bytes: recorded.memory_bytes,
            fuel_per_step: recorded.fuel_per_step,
            clock_step,
            sockets: recorded.sockets,
            socket_bytes: recorded.socket_bytes,
            snapshot_bytes: 0,
            ..ours
        };
        Ok(Stage { rollout, how, plugin, limits, backend: how.backend.unwrap_or(manifest.engine.backend()) })
    }

    /// An instance of an env.
    fn start(&self, env: u32, again: PastInstance) -> Result<VecEnv, Error> {
        self.builder(env)?.again(again).build()
    }

    /// What an env of the recording is made of.
    pub(super) fn builder(&self, env: u32) -> Result<Builder, Error> {
        let manifest = self.rollout.manifest();
        let mut builder: Builder = VecEnv::builder(self.plugin.clone())
            .config(manifest.config_of(env))?
            .seed(manifest.seed)
            .first_env(env)
            .limits(self.limits.clone())
            .autoreset(Autoreset::Disabled)
            .on_fault(OnFault::Raise)
            // One env needs no template process: that would be one more worker.
            .start(Start::Spawn)
            .branching(self.how.branching)
            .backend(self.backend)
            .grants(self.how.grants.clone())
            .protect(self.how.protected.iter().cloned())
            .time_limit(manifest.max_episode_steps);
        builder = builder.trust(self.how.trust.clone());
        if let Some(level) = self.how.require_sandbox {
            builder = builder.require_sandbox(level);
        }
        if let Some(program) = &self.how.worker {
            builder = builder.worker(program);
        }
        if let Some(cache) = &self.how.cache {
            builder = builder.cache(cache.clone());
        }
        if let Some(observer) = &self.how.compile_observer {
            builder = builder.when_compiling(Arc::clone(observer));
        }
        let interrupt = Arc::clone(&self.how.interrupt);
        Ok(builder.interrupt_when(move || interrupt.load(std::sync::atomic::Ordering::Relaxed)))
    }

    /// The first difference in plugin, config or spaces between the manifest and the env that was started. Rows of different
    /// spaces are not compared.
    fn other_env(&self, env: u32, envs: &VecEnv) -> Option<(&'static str, Value, Value)> {
        let manifest = self.rollout.manifest();
        let json = |value: serde_json::Result<Value>| value.unwrap_or_default();
        let plugin = PluginName::of(envs.prepared());
        let mut spaces = Spaces::from(envs.spec());
        if env > manifest.first_env {
            // The manifest has the first env's limit. Configs differ between envs, and so may the limit.
            spaces.max_episode_steps = manifest.spaces.max_episode_steps;
        }
        [
            ("plugin", json(serde_json::to_value(&manifest.plugin)), json(serde_json::to_value(&plugin))),
            ("spaces", json(serde_json::to_value(&manifest.spaces)), json(serde_json::to_value(&spaces))),
            (
                "config",
                manifest.config_of(env).clone(),
                envs.config_of(0).map(|config| config.value.clone()).unwrap_or_default(),
            ),
        ]
        .into_iter()
        .find(|(_, recorded, got)| recorded != got)
    }

    /// The end of an instance, as the manifest has it.
    fn end_of(&self, env: u32, instance: u32) -> Option<&InstanceEnd> {
        self.rollout.manifest().instances.iter().find(|end| (end.env, end.instance) == (env, instance))
    }

    fn fault_of(&self, env: u32, instance: u32) -> Option<&FaultEnd> {
        self.end_of(env, instance).and_then(|end| end.fault.as_ref())
    }
}

/// One env that repeats what was recorded.
pub(super) struct EnvAgain<'a> {
    env: u32,
    stage: &'a Stage<'a>,
    journal: Journal,
    pub(super) history: History,
    /// The running instance.
    pub(super) running: Option<VecEnv>,
    /// The number of the running instance; none before the first.
    instance: Option<u32>,
    /// Recorded rows that wait for replayed rows to compare with. Below, the position in the recording of the first of them.
    expected: Rows,
    expected_at: u64,
    /// Replayed rows.
    got: Rows,
    pub(super) difference: Option<(u64, Difference)>,
    pub(super) believed: u64,
    pub(super) missing_walls: Vec<(Wall, String)>,
    /// The digests of its instances, once the env is finished.
    instances: Vec<(u32, Digest)>,
}

/// The part of a row to replay.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Part {
    Whole,
    Reset,
    Rest,
}

impl<'a> EnvAgain<'a> {
    pub(super) fn new(env: u32, stage: &'a Stage<'a>) -> EnvAgain<'a> {
        let shape: &Arc<RowShape> = stage.rollout.shape();
        EnvAgain {
            env,
            stage,
            journal: Journal::kept(),
            history: History::new(env),
            running: None,
            instance: None,
            expected: Rows::new(Arc::clone(shape)),
            expected_at: 0,
            got: Rows::new(Arc::clone(shape)),
            difference: None,
            believed: 0,
            missing_walls: Vec::new(),
            instances: Vec::new(),
        }
    }

    /// Repeats these rows of the recording, and compares the replayed rows as far as they are complete.
    pub(super) fn take(&mut self, rows: &Rows, indices: &[usize], begun: u64) -> Result<(), ReplayError> {
        if self.difference.is_some() || indices.is_empty() {
            return Ok(());
        }
        if self.expected.is_empty() {
            self.expected_at = begun + indices[0] as u64;
        }
        indices.iter().for_each(|&index| self.expected.push(&rows.row(index)));
        self.do_rows(rows, indices, Part::Whole)?;
        self.drain();
        self.compare();
        Ok(())
    }

    /// Replays the rest: instances that the manifest has after the last row, and the last rows.
    pub(super) fn finish(&mut self, begun: u64) -> Result<(), ReplayError> {
        if self.difference.is_some() {
            return Ok(());
        }
        let ends = &self.stage.rollout.manifest().instances;
        let rest: Vec<&InstanceEnd> = ends
            .iter()
            .filter(|end| end.env == self.env && self.instance.is_none_or(|now| end.instance > now))
            .collect();
        for end in rest {
            self.live_without_rows(end)?;
        }
        self.end_instance(false);
        self.release();
        let mut ended = self.history.finish(true, &mut self.got);
        self.compare();
        if self.difference.is_none() && self.expected.len() != self.got.len() && self.stage.rollout.is_complete() {
            let (recorded, got) = (self.expected.len(), self.got.len());
            let row = if recorded > 0 { self.expected.row(0) } else { self.got.row(0) };
            let (episode, step) = (row.episode, row.step);
            let field = "rows".to_owned();
            let (recorded, got) = (recorded.into(), got.into());
            self.difference = Some((begun, Difference { env: self.env, episode, step, field, recorded, got }));
        }
        // An instance without any events is a part of the digest too.
        let nothing = <crate::digest::InstanceDigest>::new().digest();
        for end in ends.iter().filter(|end| end.env == self.env) {
            if !ended.iter().any(|(instance, _)| *instance == end.instance) {
                ended.push((end.instance, nothing));
            }
        }
        ended.sort_unstable_by_key(|(instance, _)| *instance);
        self.instances = ended;
        Ok(())
    }

    pub(super) fn env_digest(&mut self) -> Digest {
        env_digest(self.instances.iter().copied())
    }

    /// The ends of its instances, as replayed.
    pub(super) fn ends(&self) -> impl Iterator<Item = InstanceEnd> + '_ {
        self.instances.iter().map(|&instance| {
            let note = self.history.notes.iter().find(|note| note.instance == instance.0);
            InstanceEnd::new(self.env, instance, note)
        })
    }

    pub(super) fn do_rows(&mut self, rows: &Rows, indices: &[usize], part: Part) -> Result<(), ReplayError> {
        let mut at = 0;
        while let Some(&index) = indices.get(at) {
            let row = rows.row(index);
            at += 1;
            if self.difference.is_some() {
                return Ok(());
            }
            if self.instance != Some(row.instance) {
                self.go_to_instance(row.instance)?;
            }
            let calls = calls_of(&row)?;
            if row.step == 0 && part != Part::Rest {
                for call in calls.iter().filter(|call| call.before_reset) {
                    self.say(call)?;
                }
                self.reset(row.seed, row.options)?;
            }
            if part == Part::Reset {
                continue;
            }
            for call in calls.iter().filter(|call| !call.before_reset) {
                self.say(call)?;
            }
            if let (Some(action), Some(_)) = (row.action, row.outcome) {
                // As many steps as fit one turn.
                let mut actions = action.to_vec();
                let mut count = 1;
                while let Some(next) = indices.get(at).map(|&index| rows.row(index))
                    && count < BATCH_STEPS
                    && (next.instance, next.episode) == (row.instance, row.episode)
                    && next.calls.is_none()
                    && let (Some(action), Some(_)) = (next.action, next.outcome)
                {
                    actions.extend_from_slice(action);
                    (at, count) = (at + 1, count + 1);
                }
                self.step(&actions)?;
            }
            if let Some(kind) = row.fault {
                let known = self.stage.fault_of(self.env, row.instance).filter(|fault| fault.kind == kind);
                let fault = known.cloned().unwrap_or_else(|| FaultEnd {
                    kind,
                    episode: row.episode,
                    step: row.step,
                    message: String::new(),
                    asked: if row.action.is_some() { Asked::Step } else { Asked::Nothing },
                });
                self.meet(&fault, row.action)?;
            }
        }
        Ok(())
    }

    /// Ends the running instance and begins the given one, including the instances in between that had no row.
    fn go_to_instance(&mut self, instance: u32) -> Result<(), ReplayError> {
        if self.instance.is_some_and(|now| now > instance) {
            let what = format!("recording: env {}: instance {instance} comes after a later one", self.env);
            return Err(Damage::Unusable(UsageError::new(what)).into());
        }
        let ends = &self.stage.rollout.manifest().instances;
        let between = ends.iter().filter(|end| {
            end.env == self.env && end.instance < instance && self.instance.is_none_or(|now| end.instance > now)
        });
        for end in between.collect::<Vec<_>>() {
            self.live_without_rows(end)?;
        }
        self.begin_instance(instance)
    }

    /// Repeats an instance that met a fault before it had a row.
    fn live_without_rows(&mut self, end: &InstanceEnd) -> Result<(), ReplayError> {
        let Some(fault) = &end.fault else {
            if !end.calls.is_empty() {
                self.begin_instance(end.instance)?;
                for call in parse_calls(&end.calls)? {
                    self.say(&call)?;
                }
            }
            return Ok(());
        };
        if fault.asked == Asked::Start && !attempted(fault) {
            self.end_instance(true);
            self.instance = Some(end.instance);
            return self.meet(fault, None);
        }
        self.begin_instance(end.instance)?;
        for call in parse_calls(&end.calls)? {
            self.say(&call)?;
        }
        self.meet(fault, None)
    }

    fn begin_instance(&mut self, instance: u32) -> Result<(), ReplayError> {
        self.end_instance(true);
        // Counted here, because the recording's own count is compared.
        let episode = self.history.next_episode();
        self.instance = Some(instance);
        let captured = &self.stage.rollout.manifest().captured;
        let file = || self.stage.rollout.capture(self.env as usize);
        let captured = (!captured.is_empty()).then(|| (captured.clone(), file()));
        let again = PastInstance { instance, episode, journal: self.journal.clone(), captured };
        let started = self.stage.start(self.env, again);
        match started {
            Ok(envs) => {
                self.missing_walls = envs.missing_walls();
                if let Some((field, recorded, got)) = self.stage.other_env(self.env, &envs) {
                    let field = field.to_owned();
                    let difference = Difference { env: self.env, episode, step: 0, field, recorded, got };
                    self.difference.get_or_insert((self.expected_at, difference));
                    return Ok(());
                }
                self.running = Some(envs);
                Ok(())
            }
            // The fault was entered, and is compared with the recording.
            Err(Error::Fault(_)) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Ends the running instance. `goes_on`: another instance follows, and an end without a fault was planned.
    fn end_instance(&mut self, goes_on: bool) {
        self.drain();
        self.running = None;
        if goes_on && self.instance.is_some() && self.history.instance() == self.instance {
            let recycled = Journal::kept();
            recycled.enter(
                (0, self.instance.unwrap_or(0)),
                false,
                crate::record::journal::What::Recycled,
                &[],
                NO_VIEW,
            );
            self.enter(&recycled);
        }
    }

    /// Repeats a fault, or takes it as recorded if it depends on something that is not in the recording.
    fn meet(&mut self, fault: &FaultEnd, action: Option<&[u8]>) -> Result<(), ReplayError> {
        if !attempted(fault) {
            self.drain();
            self.running = None;
            self.believed += 1;
            let FaultEnd { kind, episode, step, message, asked } = fault.clone();
            let met = FaultMet { kind, episode, step, message, asked };
            let believed = Journal::kept();
            let of = (0, self.instance.unwrap_or(0));
            let what = crate::record::journal::What::Fault(Box::new(met));
            believed.enter(of, false, what, action.unwrap_or_default(), NO_VIEW);
            self.enter(&believed);
            return Ok(());
        }
        match &fault.asked {
            Asked::Start | Asked::Nothing => Ok(()),
            Asked::Step => self.step(action.unwrap_or_default()),
            Asked::Reset { seed, options } => self.reset(*seed, options.as_deref()),
            Asked::Render { mode } => self.ask(|envs| envs.render(0, *mode).map(drop)),
            Asked::GetAttribute { name } => self.ask(|envs| envs.get_attribute(0, name).map(drop)),
            Asked::Call { name, arguments } => {
                let arguments = json(arguments)?;
                self.ask(|envs| envs.call(0, name, &arguments).map(drop))
            }
            Asked::SetAttribute { name, value } => {
                let value = json(value)?;
                self.ask(|envs| envs.set_attribute(0, name, &value))
            }
            Asked::Reseed { seed } => self.ask(|envs| envs.reseed(0, *seed)),
        }
    }

    fn say(&mut self, call: &Call) -> Result<(), ReplayError> {
        let Call { name, arguments, .. } = call;
        match call.what {
            CallWhat::Call => self.ask(|envs| envs.call(0, name, arguments).map(drop)),
            CallWhat::SetAttribute => self.ask(|envs| envs.set_attribute(0, name, arguments)),
            CallWhat::Reseed => {
                let seed = arguments.as_u64().unwrap_or(0);
                self.ask(|envs| envs.reseed(0, seed))
            }
        }
    }

    fn reset(&mut self, seed: Option<u64>, options: Option<&str>) -> Result<(), ReplayError> {
        let options = options.map(json).transpose()?;
        self.ask(|envs| {
            let reset = ResetSome { seeds: Some(&[seed]), options: options.as_ref(), ..ResetSome::default() };
            envs.reset_some(&reset).map(drop)
        })
    }

    fn step(&mut self, actions: &[u8]) -> Result<(), ReplayError> {
        self.ask(|envs| envs.step_many(0, actions).map(drop))
    }

    /// Sends a request to the running instance. A fault is entered, and compared with the recording. A refusal was not an
    /// event when it was recorded, so here it is a difference.
    fn ask(&mut self, ask: impl FnOnce(&mut VecEnv) -> Result<(), Error>) -> Result<(), ReplayError> {
        let Some(envs) = &mut self.running else { return Ok(()) };
        match ask(envs) {
            Ok(()) => Ok(()),
            Err(Error::Fault(_)) => {
                self.drain();
                self.running = None;
                Ok(())
            }
            Err(Error::Usage(refused)) => {
                self.drain();
                self.compare();
                if self.difference.is_none() && !self.expected.is_empty() {
                    let Row { episode, step, .. } = self.expected.row(0);
                    let (recorded, got) = ("an answer".into(), format!("refused: {}", refused.message).into());
                    let field = "action".to_owned();
                    let difference = Difference { env: self.env, episode, step, field, recorded, got };
                    self.difference = Some((self.expected_at, difference));
                }
                Ok(())
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Makes rows of the events so far.
    fn drain(&mut self) {
        let journal = self.journal.clone();
        self.enter(&journal);
    }

    fn enter(&mut self, journal: &Journal) {
        for (event, action, view) in journal.take().events() {
            self.history.enter(event, action, view, &mut self.got);
        }
    }

    /// Makes a row of the last step if the event that follows it in the recording cannot be repeated: the recording is cut
    /// off there, or the step was followed by a reset without further events. The recording says whether the caller had given
    /// up the episode there.
    pub(super) fn release(&mut self) {
        let cut = !self.expected.is_empty() && self.expected.row(0).outcome.is_some_and(|outcome| outcome.truncated);
        self.history.release(cut, &mut self.got);
    }

    /// Compares the rows for which both sides are present.
    pub(super) fn compare(&mut self) {
        self.got.finish_digests();
        let count = self.expected.len().min(self.got.len());
        for index in 0..count {
            let (recorded, got) = (self.expected.row(index), self.got.row(index));
            if self.difference.is_none() && recorded.episode >= self.stage.how.from {
                let found = different(&recorded, &got, &self.expected.shape);
                self.difference = found.map(|(field, recorded_value, got)| {
                    let Row { env, episode, step, .. } = recorded;
                    let at = self.expected_at + index as u64;
                    (at, Difference { env, episode, step, field, recorded: recorded_value, got })
                });
            }
        }
        self.expected.drop_before(count);
        self.got.drop_before(count);
        self.expected_at += count as u64;
    }
}

pub(super) const NO_VIEW: ViewParts<'static> = ViewParts { observation: &[], mask: &[], info: &[], extra: &[] };

/// Whether a replay can repeat this fault. A stack overflow can be repeated on a machine like that of the recording.
pub(super) fn attempted(fault: &FaultEnd) -> bool {
    fault.asked != Asked::Nothing
        && (fault.kind.is_reproducible()
            || fault.kind == FaultKind::StackOverflow
            || fault.kind == FaultKind::Exited && fault.message.starts_with("the guest called exit"))
}

pub(super) fn json(text: impl AsRef<str>) -> Result<Value, ReplayError> {
    serde_json::from_str(text.as_ref()).map_err(|error| {
        Damage::Unusable(UsageError::new(format!("recording: a text that is not JSON: {error}"))).into()
    })
}

/// An entry of the column `calls`.
#[derive(serde::Deserialize)]
pub(super) struct Call {
    what: CallWhat,
    name: String,
    arguments: Value,
    #[serde(default)]
    before_reset: bool,
}

#[derive(Clone, Copy, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum CallWhat {
    Call,
    SetAttribute,
    Reseed,
}

pub(super) fn calls_of(row: &Row<'_>) -> Result<Vec<Call>, ReplayError> {
    match row.calls {
        None => Ok(Vec::new()),
        Some(text) => parse_calls(json(text)?.as_array().map_or(&[], Vec::as_slice)),
    }
}

pub(super) fn parse_calls(calls: &[Value]) -> Result<Vec<Call>, ReplayError> {
    let parse = |call: &Value| {
        serde_json::from_value(call.clone()).map_err(|error| {
            Damage::Unusable(UsageError::new(format!("recording: an entry of `calls` is none: {error}"))).into()
        })
    };
    calls.iter().map(parse).collect()
}
