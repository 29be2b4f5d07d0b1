//! Running a recording again, and comparing. Each env is a `VecEnv` of its own for each of its instances, whose events make
//! rows as they did when they were recorded: two rows are compared to the bit.
//!
//! What a fault hangs on time or on somebody outside is not waited for: it is taken as it was recorded, and what came before
//! it is compared.

use std::num::NonZero;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use serde_json::Value;

use super::folder::{Damage, Rollout};
use super::snapshot::Snapshot;
use crate::cage::engine::Backend;
use crate::cage::{Wall, Walls};
use crate::digest::{Digest, ViewParts, env_digest, run_digest};
use crate::env::autoreset::Autoreset;
use crate::env::builder::Builder;
use crate::env::pristine::Start;
use crate::env::vec_env::{ResetSome, VecEnv};
use crate::error::{Error, UsageError};
use crate::fault::{FaultKind, OnFault};
use crate::limits::{Limits, STRANGERS_MEMORY_BYTES_MAX};
use crate::outside::grant::{Grants, Protected};
use crate::plugin::cache::Cache;
use crate::plugin::{CompileObserver, Plugin};
use crate::record::history::{History, Totals};
use crate::record::journal::{Asked, FaultMet, Journal};
use crate::record::manifest::{FaultEnd, InstanceEnd, Manifest, PluginName, Spaces, files_are_missing, totals_json};
use crate::record::rows::{Row, RowShape, Rows};
use crate::record::writer;
use crate::space::float_json;

/// The longest that a step may take because its recording says so.
const PATIENCE_MAX: Duration = Duration::from_secs(3600);

/// Steps that are taken in one turn.
const BATCH_STEPS: usize = 1024;

/// Where an env that does something again begins.
#[derive(Clone)]
pub(crate) struct Again {
    pub(crate) instance: u32,
    pub(crate) episode: u64,
    pub(crate) journal: Journal,
    /// What came in from outside, by its names in the manifest, and the file it is served from.
    pub(crate) captured: Option<(Vec<String>, PathBuf)>,
}

/// How a recording is run again.
#[derive(Default)]
pub struct Replaying {
    /// By which engine; none: the recorded one.
    pub backend: Option<Backend>,
    /// The first episode of each env that is compared; those before it are run.
    pub from: u64,
    /// The `rollcage` program, as [`Builder::worker`] has it.
    pub worker: Option<PathBuf>,
    /// Where compiled plugins are kept.
    pub cache: Option<Cache>,
    /// As [`Builder::when_compiling`] has it.
    pub compile_observer: Option<CompileObserver>,
    /// Directories, which are never taken from a recording: somebody else's paths are not ours.
    pub grants: Grants,
    /// Paths that no grant may reach.
    pub protected: Vec<Protected>,
    /// Refuses to run where a wall of the sandbox does not stand: a recording's plugin is a stranger's.
    pub require_sandbox: bool,
    /// Envs that [`watch`] shows can be branched: also those of a run with sockets, since what came in is served. A branch goes
    /// on as far as it asks for what was recorded.
    pub branching: bool,
    /// Raised, it ends the replay by [`Error::Interrupted`].
    pub interrupt: Arc<AtomicBool>,
}

/// What came of it.
#[derive(Clone, Debug)]
pub struct Replayed {
    /// Steps that were taken again.
    pub steps: u64,
    /// The run's digest, as it came out now.
    pub digest: Digest,
    /// Each env's.
    pub digests: Vec<Digest>,
    /// The recording is a prefix: its run did not finish.
    pub prefix: bool,
    /// Faults that were taken as they were recorded.
    pub believed: u64,
    /// The walls that did not stand around env 0, and why.
    pub missing_walls: Vec<(Wall, String)>,
    /// The first difference, in the recording's order.
    pub difference: Option<Difference>,
}

/// Where a replay first parts from its recording.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub struct Difference {
    /// The env.
    pub env: u32,
    /// The episode, from 0.
    pub episode: u64,
    /// The step, from 0.
    pub step: u32,
    /// The column, or `digests`, `rows`.
    pub field: String,
    /// What the recording has, as JSON.
    pub recorded: Value,
    /// What came now.
    pub got: Value,
}

/// Why there is no result.
#[derive(Debug, thiserror::Error)]
pub enum ReplayError {
    /// The recording.
    #[error(transparent)]
    Damage(#[from] Damage),
    /// The host, the plugin, an interrupt.
    #[error(transparent)]
    Host(#[from] Error),
}

impl From<UsageError> for ReplayError {
    fn from(error: UsageError) -> ReplayError {
        ReplayError::Host(error.into())
    }
}

/// Runs a recording again and compares every row. `progress` hears how many steps were taken.
///
/// # Errors
/// The recording cannot be read, the plugin cannot be run, a directory that it had is not granted, or an interrupt. That
/// something comes out otherwise is no error: [`Replayed::difference`].
pub fn replay(
    rollout: &Rollout,
    plugin: &Plugin,
    how: &Replaying,
    mut progress: impl FnMut(u64),
) -> Result<Replayed, ReplayError> {
    let manifest = rollout.manifest();
    let stage = Stage::new(rollout, plugin, how)?;
    let mut envs: Vec<EnvAgain<'_>> = (0..manifest.envs).map(|env| EnvAgain::new(env, &stage)).collect();
    let cores = std::thread::available_parallelism().map_or(1, NonZero::get);
    let mut difference = None;
    let mut begun = 0;
    for rows in rollout.rows() {
        let rows = rows?;
        let mut of_env: Vec<Vec<usize>> = vec![Vec::new(); envs.len()];
        for index in 0..rows.len() {
            let env = rows.row(index).env as usize;
            let envs = of_env.len();
            let own = of_env.get_mut(env).ok_or_else(|| {
                Damage::Unusable(UsageError::new(format!("recording: a row of env {env}; there are {envs} envs")))
            })?;
            own.push(index);
        }
        let work: Vec<(&mut EnvAgain<'_>, Vec<usize>)> = envs.iter_mut().zip(of_env).collect();
        in_parallel(work, cores, |(env, indices)| env.take(&rows, &indices, begun))?;
        begun += rows.len() as u64;
        difference = first_difference(&envs);
        progress(envs.iter().map(|env| env.history.totals.steps).sum());
        if difference.is_some() {
            break;
        }
    }
    if difference.is_none() {
        let work: Vec<&mut EnvAgain<'_>> = envs.iter_mut().collect();
        in_parallel(work, cores, |env| env.finish(begun))?;
        difference = first_difference(&envs);
    }
    let digests: Vec<Digest> = envs.iter_mut().map(EnvAgain::env_digest).collect();
    let digest = run_digest(&digests);
    let prefix = !rollout.is_complete();
    if difference.is_none() && !prefix {
        difference = different_digest(manifest, digest, &digests).or_else(|| different_manifest(manifest, &envs));
    }
    let steps = envs.iter().map(|env| env.history.totals.steps).sum();
    let believed = envs.iter().map(|env| env.believed).sum();
    let missing_walls = envs.first_mut().map(|env| std::mem::take(&mut env.missing_walls)).unwrap_or_default();
    Ok(Replayed { steps, digest, digests, prefix, believed, missing_walls, difference })
}

/// Plays one env of a recording up to the end of an episode and shows the caller each state of that episode: after its
/// reset (false), and after each step (true).
///
/// # Errors
/// As [`replay`]; and where there is no such episode.
pub fn watch(
    rollout: &Rollout,
    plugin: &Plugin,
    how: &Replaying,
    (env, episode): (u32, u64),
    mut show: impl FnMut(&mut VecEnv, bool),
) -> Result<(), ReplayError> {
    let stage = Stage::new(rollout, plugin, how)?;
    let mut again = EnvAgain::new(env, &stage);
    let mut seen = false;
    for rows in rollout.rows() {
        let rows = rows?;
        for index in 0..rows.len() {
            let row = rows.row(index);
            if row.env != env {
                continue;
            }
            if row.episode > episode {
                return Ok(());
            }
            let shown = row.episode == episode;
            seen |= shown;
            let has_action = row.outcome.is_some();
            let first = row.step == 0;
            if shown && first && has_action {
                // The reset alone, so that its state can be seen.
                again.do_rows(&rows, &[index], Part::Reset)?;
                if let Some(envs) = &mut again.running {
                    show(envs, false);
                }
                again.do_rows(&rows, &[index], Part::Rest)?;
            } else {
                again.do_rows(&rows, &[index], Part::Whole)?;
            }
            if shown
                && has_action
                && let Some(envs) = &mut again.running
            {
                show(envs, true);
            }
        }
    }
    if seen {
        return Ok(());
    }
    Err(UsageError::new(format!("the recording has no episode {episode} of env {env}")).into())
}

/// Plays one env of a recording up to so many steps of its own, over all its episodes, compares them, and takes a
/// [`Snapshot`] of where it stands. `until` none: to its last.
///
/// # Errors
/// As [`replay`]; and where the env has fewer steps, has ended there by a fault, or cannot be a snapshot
/// ([`VecEnv::snapshot`]).
pub fn snapshot_at(
    rollout: &Rollout,
    plugin: &Plugin,
    how: &Replaying,
    env: u32,
    until: Option<u64>,
) -> Result<Result<Snapshot, Difference>, ReplayError> {
    let mut stage = Stage::new(rollout, plugin, how)?;
    // Bounded by the recording, which somebody has kept.
    stage.limits.snapshot_bytes = usize::MAX;
    let mut again = EnvAgain::new(env, &stage);
    let (mut steps, mut begun) = (0, 0);
    for rows in rollout.rows() {
        let rows = rows?;
        let left = |steps: u64| until.is_none_or(|until| steps < until);
        let mut indices = Vec::new();
        for index in (0..rows.len()).filter(|&index| rows.row(index).env == env) {
            if !left(steps) {
                break;
            }
            indices.push(index);
            steps += u64::from(rows.row(index).outcome.is_some());
        }
        again.take(&rows, &indices, begun)?;
        begun += rows.len() as u64;
        if let Some((_, difference)) = again.difference {
            return Ok(Err(difference));
        }
        if !left(steps) {
            break;
        }
    }
    again.release();
    again.compare();
    if let Some((_, difference)) = again.difference {
        return Ok(Err(difference));
    }
    if until.is_some_and(|until| steps < until) {
        return Err(UsageError::new(format!("the recording has {steps} steps of env {env}")).into());
    }
    match &mut again.running {
        Some(envs) => Ok(Ok(envs.snapshot(0)?)),
        None => Err(UsageError::new(format!("env {env} has no running instance there")).into()),
    }
}

/// Runs `work` on every item, on as many threads as there are cores. The first error, in the order of the items.
fn in_parallel<T: Send, E: Send>(
    items: Vec<T>,
    threads: usize,
    work: impl Fn(T) -> Result<(), E> + Sync,
) -> Result<(), E> {
    let mut items: Vec<Option<T>> = items.into_iter().map(Some).collect();
    let share = items.len().div_ceil(threads.max(1)).max(1);
    std::thread::scope(|scope| {
        let work = &work;
        let threads: Vec<_> = items
            .chunks_mut(share)
            .map(|chunk| scope.spawn(move || chunk.iter_mut().filter_map(Option::take).try_for_each(work)))
            .collect();
        threads.into_iter().try_for_each(|thread| match thread.join() {
            Ok(done) => done,
            Err(panic) => std::panic::resume_unwind(panic),
        })
    })
}

fn first_difference(envs: &[EnvAgain<'_>]) -> Option<Difference> {
    let found = envs.iter().filter_map(|env| env.difference.as_ref());
    found.min_by_key(|(at, difference)| (*at, difference.env)).map(|(_, difference)| difference.clone())
}

/// All rows are equal; then so are the digests, unless the manifest says otherwise.
fn different_digest(manifest: &Manifest, digest: Digest, digests: &[Digest]) -> Option<Difference> {
    let got: Vec<String> = digests.iter().map(ToString::to_string).collect();
    let env = got.iter().zip(&manifest.digests).position(|(got, recorded)| got != recorded);
    let (env, field, recorded, got) = match env {
        Some(env) => (env, "digests", Value::from(manifest.digests[env].clone()), Value::from(got[env].clone())),
        None if manifest.digest.as_deref() != Some(&digest.to_string()) || got.len() != manifest.digests.len() => {
            (0, "digest", manifest.digest.clone().into(), digest.to_string().into())
        }
        None => return None,
    };
    let env = u32::try_from(env).unwrap_or(u32::MAX);
    Some(Difference { env, episode: 0, step: 0, field: field.to_owned(), recorded, got })
}

/// What else the manifest says of the run: sums, how instances came out, why it is not portable. All of it follows from what
/// was done again, but for the words of faults.
fn different_manifest(manifest: &Manifest, envs: &[EnvAgain<'_>]) -> Option<Difference> {
    let json = |value: serde_json::Result<Value>| value.unwrap_or_default();
    let instances = |ends: &[InstanceEnd]| {
        let mut ends = ends.to_vec();
        ends.iter_mut().filter_map(|end| end.fault.as_mut()).for_each(|fault| fault.message.clear());
        ends
    };
    let ended = instances(&envs.iter().flat_map(EnvAgain::ends).collect::<Vec<_>>());
    let recorded = instances(&manifest.instances);
    let at = recorded.iter().zip(&ended).position(|(recorded, got)| recorded != got);
    let at = at.or((recorded.len() != ended.len()).then_some(recorded.len().min(ended.len())));
    let one = |ends: &[InstanceEnd]| at.and_then(|at| ends.get(at)).map(|end| json(serde_json::to_value(end)));

    let totals = totals_json(&Totals::of(envs.iter().map(|env| env.history.totals)));
    let mut not_portable: Vec<String> = manifest.grants.iter().filter_map(|grant| files_are_missing(grant)).collect();
    not_portable.extend(envs.iter().flat_map(|env| writer::not_portable(&env.history)));
    let portable = (manifest.portable, &manifest.not_portable);
    [
        ("instances", one(&recorded).into(), one(&ended).into()),
        ("totals", manifest.totals.clone().into(), totals),
        ("not_portable", json(serde_json::to_value(portable)), {
            json(serde_json::to_value((not_portable.is_empty(), &not_portable)))
        }),
    ]
    .into_iter()
    .find(|(_, recorded, got): &(&str, Value, Value)| recorded != got)
    .map(|(field, recorded, got)| Difference {
        env: 0,
        episode: 0,
        step: 0,
        field: field.to_owned(),
        recorded,
        got,
    })
}

/// What all envs of a replay have in common.
struct Stage<'a> {
    rollout: &'a Rollout,
    how: &'a Replaying,
    plugin: &'a Plugin,
    limits: Limits,
    backend: Backend,
}

impl<'a> Stage<'a> {
    fn new(rollout: &'a Rollout, plugin: &'a Plugin, how: &'a Replaying) -> Result<Stage<'a>, UsageError> {
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
        // A run that was given more time is given it again; a stranger's word for it is bounded.
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
    fn start(&self, env: u32, again: Again) -> Result<VecEnv, Error> {
        let manifest = self.rollout.manifest();
        let mut builder: Builder = VecEnv::builder(self.plugin.clone())
            .config(manifest.config_of(env as usize))?
            .seed(manifest.seed.saturating_add(u64::from(env)))
            .limits(self.limits.clone())
            .autoreset(Autoreset::Disabled)
            .on_fault(OnFault::Raise)
            // One env: a worker to copy would be one more.
            .start(Start::Spawn)
            .branching(self.how.branching)
            .backend(self.backend)
            .grants(self.how.grants.clone())
            .protect(self.how.protected.iter().cloned())
            .time_limit(manifest.max_episode_steps)
            .again(again);
        if self.how.require_sandbox {
            builder = builder.require_walls(Walls::SANDBOX);
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
        builder.interrupt_when(move || interrupt.load(std::sync::atomic::Ordering::Relaxed)).build()
    }

    /// What the manifest says of plugin, config and spaces otherwise than the env that was started: rows of other spaces are
    /// not compared.
    fn other_env(&self, env: u32, envs: &VecEnv) -> Option<(&'static str, Value, Value)> {
        let manifest = self.rollout.manifest();
        let json = |value: serde_json::Result<Value>| value.unwrap_or_default();
        let plugin = PluginName::of(envs.prepared());
        let mut spaces = Spaces::from(envs.spec());
        if env > 0 {
            // The manifest has the first env's; configs differ, and so may this.
            spaces.max_episode_steps = manifest.spaces.max_episode_steps;
        }
        [
            ("plugin", json(serde_json::to_value(&manifest.plugin)), json(serde_json::to_value(&plugin))),
            ("spaces", json(serde_json::to_value(&manifest.spaces)), json(serde_json::to_value(&spaces))),
            (
                "config",
                manifest.config_of(env as usize).clone(),
                envs.config_of(0).map(|config| config.value.clone()).unwrap_or_default(),
            ),
        ]
        .into_iter()
        .find(|(_, recorded, got)| recorded != got)
    }

    /// How an instance ended, as the manifest has it.
    fn end_of(&self, env: u32, instance: u32) -> Option<&InstanceEnd> {
        self.rollout.manifest().instances.iter().find(|end| (end.env, end.instance) == (env, instance))
    }

    fn fault_of(&self, env: u32, instance: u32) -> Option<&FaultEnd> {
        self.end_of(env, instance).and_then(|end| end.fault.as_ref())
    }
}

/// One env that does again what was recorded.
struct EnvAgain<'a> {
    env: u32,
    stage: &'a Stage<'a>,
    journal: Journal,
    history: History,
    /// The instance that runs.
    running: Option<VecEnv>,
    /// Its number; none before the first.
    instance: Option<u32>,
    /// Recorded rows that wait for what they are compared with, and where in the recording the first of them stands.
    expected: Rows,
    expected_at: u64,
    /// Rows that came out.
    got: Rows,
    difference: Option<(u64, Difference)>,
    believed: u64,
    missing_walls: Vec<(Wall, String)>,
    /// Its instances' digests, once it is finished.
    instances: Vec<(u32, Digest)>,
}

/// Which part of a row is done.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Part {
    Whole,
    Reset,
    Rest,
}

impl<'a> EnvAgain<'a> {
    fn new(env: u32, stage: &'a Stage<'a>) -> EnvAgain<'a> {
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

    /// Does again what these rows of the recording say, and compares as far as they are complete.
    fn take(&mut self, rows: &Rows, indices: &[usize], begun: u64) -> Result<(), ReplayError> {
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

    /// The rest: what the manifest says of instances after the last row, and the last rows.
    fn finish(&mut self, begun: u64) -> Result<(), ReplayError> {
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
        // An instance to which nothing happened is a part of the digest too.
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

    fn env_digest(&mut self) -> Digest {
        env_digest(self.instances.iter().copied())
    }

    /// How its instances came out.
    fn ends(&self) -> impl Iterator<Item = InstanceEnd> + '_ {
        self.instances.iter().map(|&instance| {
            let note = self.history.notes.iter().find(|note| note.instance == instance.0);
            InstanceEnd::new(self.env, instance, note)
        })
    }

    fn do_rows(&mut self, rows: &Rows, indices: &[usize], part: Part) -> Result<(), ReplayError> {
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
                // As many as can be taken in one turn.
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

    /// Ends the instance that runs, and begins that one, with those between that had no row.
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

    /// An instance that met a fault before it had a row.
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
        // Counted here: what the recording says of it is compared.
        let episode = self.history.next_episode();
        self.instance = Some(instance);
        let captured = &self.stage.rollout.manifest().captured;
        let file = || self.stage.rollout.capture(self.env as usize);
        let captured = (!captured.is_empty()).then(|| (captured.clone(), file()));
        let again = Again { instance, episode, journal: self.journal.clone(), captured };
        let started = self.stage.start(self.env, again);
        match started {
            Ok(envs) => {
                self.missing_walls = envs.missing_walls().to_vec();
                if let Some((field, recorded, got)) = self.stage.other_env(self.env, &envs) {
                    let field = field.to_owned();
                    let difference = Difference { env: self.env, episode, step: 0, field, recorded, got };
                    self.difference.get_or_insert((self.expected_at, difference));
                    return Ok(());
                }
                self.running = Some(envs);
                Ok(())
            }
            // It was entered: it is compared with what was recorded.
            Err(Error::Fault(_)) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Ends what runs. `goes_on`: another instance follows, and if this one met no fault, it was ended by plan.
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

    /// Meets a fault again; or believes it, where it hangs on something that is not in the recording.
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

    /// Asks the instance that runs. A fault of its is entered, and compared with what was recorded; a refusal was no event
    /// when it was recorded, so that here it is a difference.
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

    /// Makes rows of what has happened.
    fn drain(&mut self) {
        let journal = self.journal.clone();
        self.enter(&journal);
    }

    fn enter(&mut self, journal: &Journal) {
        for (event, action, view) in journal.take().events() {
            self.history.enter(event, action, view, &mut self.got);
        }
    }

    /// Makes a row of the last step, if what follows it in the recording is nothing that can be done again: the rest is cut off,
    /// or it is a reset that nothing followed. Whether its caller had given up the episode there is the recording's to say.
    fn release(&mut self) {
        let cut = !self.expected.is_empty() && self.expected.row(0).outcome.is_some_and(|outcome| outcome.truncated);
        self.history.release(cut, &mut self.got);
    }

    /// Compares the rows that are there on both sides.
    fn compare(&mut self) {
        self.got.settle();
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

const NO_VIEW: ViewParts<'static> = ViewParts { observation: &[], mask: &[], info: &[], extra: &[] };

/// Whether a replay can meet this fault. A stack overflow it can on a machine like the one of the recording.
fn attempted(fault: &FaultEnd) -> bool {
    fault.asked != Asked::Nothing
        && (fault.kind.is_reproducible()
            || fault.kind == FaultKind::StackOverflow
            || fault.kind == FaultKind::Exited && fault.message.starts_with("the guest called exit"))
}

fn json(text: impl AsRef<str>) -> Result<Value, ReplayError> {
    serde_json::from_str(text.as_ref()).map_err(|error| {
        Damage::Unusable(UsageError::new(format!("recording: a text that is not JSON: {error}"))).into()
    })
}

/// An entry of the column `calls`.
#[derive(serde::Deserialize)]
struct Call {
    what: CallWhat,
    name: String,
    arguments: Value,
    #[serde(default)]
    before_reset: bool,
}

#[derive(Clone, Copy, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
enum CallWhat {
    Call,
    SetAttribute,
    Reseed,
}

fn calls_of(row: &Row<'_>) -> Result<Vec<Call>, ReplayError> {
    match row.calls {
        None => Ok(Vec::new()),
        Some(text) => parse_calls(json(text)?.as_array().map_or(&[], Vec::as_slice)),
    }
}

fn parse_calls(calls: &[Value]) -> Result<Vec<Call>, ReplayError> {
    let parse = |call: &Value| {
        serde_json::from_value(call.clone()).map_err(|error| {
            Damage::Unusable(UsageError::new(format!("recording: an entry of `calls` is none: {error}"))).into()
        })
    };
    calls.iter().map(parse).collect()
}

/// The first field in which two rows differ, with both values.
fn different(recorded: &Row<'_>, got: &Row<'_>, shape: &RowShape) -> Option<(String, Value, Value)> {
    let field = |name: &str, recorded: Value, got: Value| Some((name.to_owned(), recorded, got));
    let fault = |row: &Row<'_>| row.fault.map(FaultKind::name).into();
    let text = |row: &Row<'_>| String::from_utf8_lossy(row.view.extra).into_owned().into();
    let (one, two) = (recorded, got);
    if (one.instance, one.episode, one.step) != (two.instance, two.episode, two.step) {
        let place = |row: &Row<'_>| serde_json::json!([row.instance, row.episode, row.step]);
        return field("instance, episode, step", place(one), place(two));
    }
    if one.seed != two.seed {
        return field("seed", one.seed.into(), two.seed.into());
    }
    if one.options != two.options {
        return field("options", one.options.into(), two.options.into());
    }
    if one.view.observation != two.view.observation {
        let json = |row: &Row<'_>| shape.observation.to_json(row.view.observation);
        return field("observation", json(one), json(two));
    }
    if one.view.mask != two.view.mask {
        return field("action_mask", one.view.mask.into(), two.view.mask.into());
    }
    if one.view.info != two.view.info {
        let json = |row: &Row<'_>| Value::Object(shape.info.to_json(row.view.info));
        return field("info", json(one), json(two));
    }
    if one.view.extra != two.view.extra {
        return field("info_extra", text(one), text(two));
    }
    if one.calls != two.calls {
        return field("calls", one.calls.into(), two.calls.into());
    }
    if one.fault != two.fault {
        return field("fault", fault(one), fault(two));
    }
    if one.action != two.action {
        let json = |row: &Row<'_>| row.action.map(|action| shape.action.to_json(action)).into();
        return field("action", json(one), json(two));
    }
    if let (Some(one), Some(two)) = (&one.outcome, &two.outcome) {
        if one.reward.to_bits() != two.reward.to_bits() {
            return field("reward", float_json(one.reward), float_json(two.reward));
        }
        if one.terminated != two.terminated {
            return field("terminated", one.terminated.into(), two.terminated.into());
        }
        if one.truncated != two.truncated {
            return field("truncated", one.truncated.into(), two.truncated.into());
        }
        if one.digest != two.digest {
            return field("digest", one.digest.to_string().into(), two.digest.to_string().into());
        }
    } else if one.outcome != two.outcome {
        let reward = |row: &Row<'_>| row.outcome.map(|outcome| float_json(outcome.reward)).into();
        return field("reward", reward(one), reward(two));
    }
    None
}
