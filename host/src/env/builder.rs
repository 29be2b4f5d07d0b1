//! The parts of a [`VecEnv`], and the order in which they are made: grants, plugin, configs, then workers. The builder knows
//! what a caller may ask for. It starts only the plugin's compile and describe processes.

use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use serde::Serialize;
use serde_json::{Map, Value};

pub(super) use super::autoreset::{Autoreset, TimeLimit};
use super::pack::{self, EnvsPerWorker, Sharing};
use super::policy_plugin::{GivenPolicy, PolicyPlugin, PolicyWorker};
use super::slot::Slot;
use super::stock::Stock;
use super::terms::Start;
use super::terms::{Terms, unshared_by_imports};
use super::vec_env::VecEnv;
use crate::cage::engine::{Backend, EngineSettings};
use crate::cage::{Level, Required, Walls};
use crate::error::{Error, UsageError};
use crate::fault::OnFault;
use crate::files::absolute;
use crate::interrupt::Interrupt;
use crate::limits::Limits;
use crate::outside::broker::Names;
use crate::outside::grant::{Access, Extent, Grant, Grants, Opened, Placeholders, Protected, inject, over};
use crate::outside::trust::{Asked, Trust};
use crate::plugin::cache::Cache;
use crate::plugin::config::{self, CompleteConfig};
use crate::plugin::{CompileObserver, Plugin, Prepared, Preparing};
use crate::process::group::GroupLimits;
use crate::process::{machine, start};
use crate::record::journal::PastInstance;
use crate::record::writer::{Record, Recording};
use crate::wire::job::{Cage, CaptureMode, GrantedSockets};

/// The largest number of envs in one `VecEnv`. Each env is a process, two descriptors and 64 MiB of the host's address
/// space.
pub const ENVS_MAX: usize = 4096;

type ConfigOf = Box<dyn Fn(usize) -> Result<Value, UsageError> + Send>;

/// The settings that a [`VecEnv`] is made from. Made by [`VecEnv::builder`].
pub struct Builder {
    plugin: Plugin,
    envs: usize,
    config: ConfigOf,
    seed: u64,
    first_env: u32,
    first_instance: u32,
    limits: Limits,
    autoreset: Autoreset,
    time_limit: TimeLimit,
    on_fault: OnFault,
    backend: Backend,
    worker: Option<PathBuf>,
    cache: Option<Cache>,
    compile_observer: Option<CompileObserver>,
    cage: Cage,
    level: Option<Level>,
    debug: bool,
    grants: Grants,
    protected: Vec<Protected>,
    connections: Vec<(usize, TcpStream)>,
    temporary: Option<PathBuf>,
    recycle_after: Option<u64>,
    record: Option<Record>,
    again: Option<PastInstance>,
    /// The plugin, if it was prepared before.
    prepared: Option<Prepared>,
    trust: Trust,
    start: Start,
    envs_per_worker: EnvsPerWorker,
    policy: Option<PolicyPlugin>,
    policy_worker: PolicyWorker,
    copied: bool,
    /// The folder that relative paths of grants start from.
    folder: PathBuf,
    interrupt: Interrupt,
}

impl VecEnv {
    /// Starts a builder for envs of a plugin.
    pub fn builder(plugin: Plugin) -> Builder {
        Builder::new(plugin)
    }
}

impl Builder {
    pub(crate) fn new(plugin: Plugin) -> Builder {
        Builder {
            plugin,
            envs: 1,
            config: Box::new(|_| Ok(Value::Object(Map::new()))),
            seed: 0,
            first_env: 0,
            first_instance: 0,
            limits: Limits::default(),
            autoreset: Autoreset::default(),
            time_limit: TimeLimit::default(),
            on_fault: OnFault::default(),
            backend: Backend::default(),
            worker: None,
            cache: None,
            compile_observer: None,
            cage: Cage::default(),
            level: None,
            debug: false,
            grants: Grants::new(),
            protected: Vec::new(),
            connections: Vec::new(),
            temporary: None,
            recycle_after: None,
            record: None,
            again: None,
            prepared: None,
            trust: Trust::all(),
            start: Start::default(),
            envs_per_worker: EnvsPerWorker::default(),
            policy: None,
            policy_worker: PolicyWorker::default(),
            copied: true,
            folder: std::env::current_dir().unwrap_or_default(),
            interrupt: Interrupt::default(),
        }
    }

    /// The number of envs: from 1 to [`ENVS_MAX`]; 1 by default.
    #[must_use]
    pub fn envs(mut self, envs: usize) -> Builder {
        self.envs = envs;
        self
    }

    /// One config for all envs: anything that serialises to a map. Keys that are not given have the schema's defaults.
    ///
    /// # Errors
    /// The value cannot be written as JSON.
    pub fn config<T: Serialize + ?Sized>(mut self, config: &T) -> Result<Builder, UsageError> {
        let value = config::from_serialize(config)?;
        self.config = Box::new(move |_| Ok(value.clone()));
        Ok(self)
    }

    /// A config for each env, from its number ([`Builder::first_env`] plus its index).
    #[must_use]
    pub fn config_with<T: Serialize>(mut self, config: impl Fn(usize) -> T + Send + 'static) -> Builder {
        self.config = Box::new(move |index| config::from_serialize(&config(index)));
        self
    }

    /// The seed of the first resets: env *i* gets `seed + i`. 0 by default.
    #[must_use]
    pub fn seed(mut self, seed: u64) -> Builder {
        self.seed = seed;
        self
    }

    /// The number of the first env here, in a run whose envs are on several hosts; 0 by default. Errors, faults, placeholders,
    /// recordings and seeds have the run's numbers: env *i* of this host is the run's env `first_env + i`, and its seed is
    /// `seed + first_env + i`. Its digest is the same on whichever host it is. Arguments and results of a [`VecEnv`] count its
    /// own envs, from 0.
    #[must_use]
    pub fn first_env(mut self, env: u32) -> Builder {
        self.first_env = env;
        self
    }

    /// The number of each env's first instance here; 0 by default. Envs that go on here after another host was lost begin with
    /// the number of their next instance, and with its seed.
    #[must_use]
    pub fn first_instance(mut self, instance: u32) -> Builder {
        self.first_instance = instance;
        self
    }

    /// Limits of the envs, and the times that the host waits for them.
    #[must_use]
    pub fn limits(mut self, limits: Limits) -> Builder {
        self.limits = limits;
        self
    }

    /// What follows an episode's end; next-step by default.
    #[must_use]
    pub fn autoreset(mut self, mode: Autoreset) -> Builder {
        self.autoreset = mode;
        self
    }

    /// A time limit in steps in place of the env's own.
    #[must_use]
    pub fn max_episode_steps(self, steps: u32) -> Builder {
        self.time_limit(TimeLimit::Steps(steps))
    }

    /// The time limit of episodes; the env's own by default. [`TimeLimit::Off`] is for a caller that cuts episodes itself.
    #[must_use]
    pub fn time_limit(mut self, limit: TimeLimit) -> Builder {
        self.time_limit = limit;
        self
    }

    /// The policy after a fault; a restart by default.
    #[must_use]
    pub fn on_fault(mut self, policy: OnFault) -> Builder {
        self.on_fault = policy;
        self
    }

    /// The backend that runs guest code; native code by default.
    #[must_use]
    pub fn backend(mut self, backend: Backend) -> Builder {
        self.backend = backend;
        self
    }

    /// The `rollcage` program that workers are started from. A program that calls [`worker_main`](crate::worker_main) first
    /// in its `main` does not need this setting.
    #[must_use]
    pub fn worker(mut self, program: impl Into<PathBuf>) -> Builder {
        self.worker = Some(absolute(program.into()));
        self
    }

    /// The cache for compiled plugins. Without a cache a plugin is compiled each time.
    #[must_use]
    pub fn cache(mut self, cache: Cache) -> Builder {
        self.cache = Some(cache);
        self
    }

    /// An observer that is called when the plugin's compilation begins and again when it ends, but never where the cache has
    /// the plugin.
    #[must_use]
    pub fn when_compiling(mut self, observer: CompileObserver) -> Builder {
        self.compile_observer = Some(observer);
        self
    }

    /// The sandbox layers around every process of this plugin; by default all that the system has. Use fewer only to debug
    /// trusted code: with [`Walls::NONE`] an env may do whatever its user may do.
    #[must_use]
    pub fn walls(mut self, walls: Walls) -> Builder {
        self.cage.walls = walls;
        self
    }

    /// The level of the sandbox that every process of this plugin must have, compiling included: [`Level::Strict`] for
    /// untrusted code. None by default: layers that the system lacks are then reported ([`VecEnv::missing_walls`]). Of two
    /// levels the higher holds.
    #[must_use]
    pub fn require_sandbox(mut self, level: Level) -> Builder {
        self.level = self.level.max(Some(level));
        self.cage.required = self.level.map_or(Required::NOTHING, |level| level.of(false));
        self
    }

    /// The sandbox of other envs.
    pub(crate) fn cage(mut self, cage: Cage) -> Builder {
        self.cage = cage;
        self
    }

    /// Makes workers use no newer Landlock than this version: for tests of what an older kernel has.
    #[doc(hidden)]
    #[must_use]
    pub fn pretend_landlock(mut self, version: u32) -> Builder {
        self.cage.landlock = Some(version);
        self
    }

    /// Debugging of a plugin: its output goes to this program's stderr at once, and is not kept.
    #[must_use]
    pub fn debug(mut self) -> Builder {
        self.debug = true;
        self
    }

    /// Gives every env one more capability of the outside. Without grants an env has no capabilities. A relative path begins
    /// in the working directory that this program had when the builder was made.
    #[must_use]
    pub fn grant(mut self, grant: Grant) -> Builder {
        self.grants.add(grant);
        self
    }

    /// As [`Builder::grant`], for several grants.
    #[must_use]
    pub fn grants(mut self, grants: Grants) -> Builder {
        self.grants.append(grants);
        self
    }

    /// The folder for private working directories of services; `/tmp` by default. A relative path begins in this process's
    /// present working directory.
    #[must_use]
    pub fn temporary(mut self, folder: impl Into<PathBuf>) -> Builder {
        self.temporary = Some(absolute(folder.into()));
        self
    }

    /// Starts an env anew, with its services, after it has played this many episodes, because simulators leak. The restart
    /// happens at the reset after an episode's end. It is not a fault and does not count against the restart budget. Never by
    /// default.
    #[must_use]
    pub fn recycle_after(mut self, episodes: u64) -> Builder {
        self.recycle_after = Some(episodes);
        self
    }

    /// Records the run into a folder: every reset, step, call and fault, so that it can be run again and compared
    /// (`docs/rollout.md`). The recording is closed by [`VecEnv::finish_recording`], [`VecEnv::close`] or dropping.
    #[must_use]
    pub fn record(mut self, record: Record) -> Builder {
        self.record = Some(Record { folder: absolute(record.folder), ..record });
        self
    }

    /// The way envs are started: [`Start::Best`] by default.
    #[must_use]
    pub fn start(mut self, start: Start) -> Builder {
        self.start = start;
        self
    }

    /// Whether [`VecEnv::branch`] and [`VecEnv::write_back`] may be called; true by default. Without branching a worker lacks
    /// the system calls that copy its process: turn it off for untrusted plugins that are never branched. An env with granted
    /// sockets never has these calls.
    #[must_use]
    pub fn branching(mut self, branching: bool) -> Builder {
        self.copied = branching;
        self
    }

    /// The interrupt flag. Raised, it makes compiling, describing and starting return [`Error::Interrupted`] within 20 ms.
    /// Later it does so for the calls of the [`VecEnv`] ([`VecEnv::interrupt_flag`]).
    pub fn interrupt_flag(&self) -> Arc<AtomicBool> {
        self.interrupt.flag()
    }

    /// A question that is asked every 20 ms while compiling, describing or starting waits, as in [`VecEnv::interrupt_when`].
    #[must_use]
    pub fn interrupt_when(self, ask: impl FnMut() -> bool + Send + 'static) -> Builder {
        self.interrupt.ask_by(ask);
        self
    }

    /// Makes the envs repeat a recorded instance.
    pub(crate) fn again(mut self, again: PastInstance) -> Builder {
        self.again = Some(again);
        self
    }

    /// How many envs share a worker, each in a wasm store of its own: a number, or [`EnvsPerWorker::Auto`]. One wake and one
    /// sleep then serve all of them, so many cheap envs are stepped several times faster. Envs of one worker are apart by
    /// wasm alone, and a fault that ends the process ends all of them: the others' is [`FaultKind::Sibling`](crate::FaultKind).
    /// With more than one, sockets, ports, services, real clocks, branches and `fork-after-create` are refused; workers are
    /// spawned. Digests and recordings are the same. The default is one.
    #[must_use]
    pub fn envs_per_worker(mut self, envs: impl Into<EnvsPerWorker>) -> Builder {
        self.envs_per_worker = envs.into();
        self
    }

    /// A policy that can act in the envs' workers: see [`VecEnv::rollout`]. Each env has an instance of its own, which is made
    /// when it is first asked to act.
    #[must_use]
    pub fn policy(mut self, policy: PolicyPlugin) -> Builder {
        self.policy = Some(policy);
        self
    }

    /// The process in which the policy of each env runs: the env's worker, or one of its own. No result depends on it.
    #[must_use]
    pub fn policy_worker(mut self, worker: PolicyWorker) -> Builder {
        self.policy_worker = worker;
        self
    }

    /// Hands an open TCP connection to one env. The env's next connect to that connection's peer gets this very connection,
    /// whatever was said over it before, and needs no other grant. A clone that the caller keeps is the same connection. A
    /// connection that one instance has not taken goes to a later instance of the env. See [`VecEnv::hand_over`].
    #[must_use]
    pub fn connection(mut self, env: usize, connection: TcpStream) -> Builder {
        self.connections.push((env, connection));
        self
    }

    /// Paths that no grant may reach, beside the paths that are always protected: the system's own, the cache folder of this
    /// builder, and, against writing, the worker program. The library knows no home folder: a caller with a home folder names
    /// it here.
    #[must_use]
    pub fn protect(mut self, paths: impl IntoIterator<Item = Protected>) -> Builder {
        self.protected.extend(paths.into_iter().map(|one| Protected { path: absolute(one.path), ..one }));
        self
    }

    /// Compiles and describes the plugin, validates every config, starts the workers and waits until all are ready.
    ///
    /// # Errors
    /// [`Error::Usage`]: a grant is refused (nothing has started then), the plugin cannot be run, a config is wrong or a
    /// grant that the plugin needs is missing (no env has started then), `create` refuses a config, or the envs differ in
    /// their spaces. [`Error::Fault`]: an env cannot be started within its budget of
    /// restarts. [`Error::Interrupted`]. No process is left behind.
    pub fn build(self) -> Result<VecEnv, Error> {
        let mut envs = self.assemble()?;
        envs.start()?;
        Ok(envs)
    }

    /// The part of `build` before it starts a worker, for a caller that has something to do in between and calls
    /// [`VecEnv::start`] itself.
    ///
    /// # Errors
    /// As [`Builder::build`], for the grants, the plugin and the configs.
    pub fn assemble(self) -> Result<VecEnv, Error> {
        let program = start::program(self.worker.as_deref())?;
        self.check_trust()?;
        self.check()?;
        let opened = self.grants.open(&self.folder, &self.protected_with(&program))?;
        self.check_sharing(&opened)?;
        // Before the work: if the folder cannot be had, or belongs to another run, compiling would be in vain.
        let recording = self.record.as_ref().map(|record| Recording::open(&record.folder)).transpose()?;
        let prepared = self.prepare_with(&program)?;
        let policy = self.prepare_policy(&program)?;
        self.assemble_prepared(prepared, policy, program, opened, recording)
    }

    /// Allows no more than an operator does: which plugins, whose, with what grants; and requires the sandbox, if that is asked.
    /// Several add up.
    #[must_use]
    pub fn trust(mut self, trust: Trust) -> Builder {
        if let Some(level) = trust.requires_sandbox() {
            self = self.require_sandbox(level);
        }
        self.trust = std::mem::take(&mut self.trust).both(trust);
        self
    }

    /// Refuses what cannot share a worker before anything is compiled, as far as the grants tell.
    fn check_sharing(&self, opened: &Opened) -> Result<(), UsageError> {
        if matches!(self.envs_per_worker, EnvsPerWorker::Exactly(1) | EnvsPerWorker::Auto) {
            return Ok(());
        }
        let stand_in = Placeholders { ports: opened.beside.stand_in(), ..Placeholders::default() };
        let sharing = Sharing {
            granted: &opened.granted,
            beside: &opened.beside,
            sockets: opened.beside.rights_for(&stand_in)?.is_something() || !self.connections.is_empty(),
            start: self.start,
            cores: cores(),
        };
        sharing.envs_per_worker(self.envs_per_worker, self.envs, false).map(drop)
    }

    fn check_trust(&self) -> Result<(), UsageError> {
        self.trust.check(&Asked {
            plugin: &self.plugin,
            grants: &self.grants,
            envs: self.envs as u64,
            memory_bytes: self.limits.memory_bytes,
            walls: self.cage.walls,
        })
    }

    /// Uses the plugin as it was prepared before, if the engine's settings are the same.
    pub(crate) fn prepared(mut self, prepared: Prepared) -> Builder {
        self.prepared = Some(prepared);
        self
    }

    /// The plugin, compiled and described: what `build` does first.
    ///
    /// # Errors
    /// As [`Builder::build`], for the plugin.
    pub fn prepare(&self) -> Result<Prepared, Error> {
        self.check_trust()?;
        self.prepare_with(&start::program(self.worker.as_deref())?)
    }

    fn prepare_with(&self, program: &Path) -> Result<Prepared, Error> {
        let engine = EngineSettings { backend: self.backend, fuel: self.limits.fuel_per_step.is_some() };
        if let Some(prepared) = self.prepared.as_ref().filter(|prepared| prepared.engine == engine) {
            return Ok(prepared.clone());
        }
        let prepared = Prepared::new(&self.plugin, &self.preparing(engine, program), self.cache.as_ref())?;
        if prepared.is_policy() {
            let name = self.plugin.name();
            return Err(UsageError::new(format!("plugin `{name}`: it is a policy, not an env"))
                .hint(format!("it acts in an env: `rollcage run ENV --policy {}`", crate::text::argument(name)))
                .into());
        }
        Ok(prepared)
    }

    /// The policy, compiled and described, with its config.
    fn prepare_policy(&self, program: &Path) -> Result<Option<GivenPolicy>, Error> {
        let Some(policy) = &self.policy else { return Ok(None) };
        self.trust.check(&Asked {
            plugin: &policy.plugin,
            grants: &Grants::new(),
            envs: self.envs as u64,
            memory_bytes: self.limits.memory_bytes,
            walls: self.cage.walls,
        })?;
        let engine = EngineSettings { backend: self.backend, fuel: false };
        policy.prepare(self.backend, &self.preparing(engine, program), self.cache.as_ref()).map(Some)
    }

    fn preparing<'a>(&'a self, engine: EngineSettings, program: &'a Path) -> Preparing<'a> {
        Preparing {
            engine,
            limits: &self.limits,
            program,
            cage: &self.cage,
            interrupt: &self.interrupt,
            observer: self.compile_observer.as_ref(),
        }
    }

    /// The paths that the caller protects, and the paths that are protected because this builder uses them.
    fn protected_with(&self, program: &Path) -> Vec<Protected> {
        let cache = self.cache.as_ref().map(|cache| Protected {
            path: cache.folder().to_owned(),
            what: "the cache of compiled plugins: code that workers run".to_owned(),
            extent: Extent::Whole,
            from: Access::ReadOnly,
        });
        let program = Protected {
            path: program.to_owned(),
            what: "the program that workers are started from".to_owned(),
            extent: Extent::Whole,
            from: Access::ReadWrite,
        };
        self.protected.iter().cloned().chain(cache).chain([program]).collect()
    }

    /// Checks everything that can be checked without looking at the plugin.
    fn check(&self) -> Result<(), Error> {
        if self.envs == 0 || self.envs > ENVS_MAX {
            return Err(UsageError::new(format!("{} envs; from 1 to {ENVS_MAX} are possible", self.envs)).into());
        }
        if self.time_limit == TimeLimit::Steps(0) {
            return Err(UsageError::new("a time limit of 0 steps; an episode has at least one").into());
        }
        if self.recycle_after == Some(0) {
            return Err(UsageError::new("recycling after 0 episodes; an instance plays at least one").into());
        }
        if let Some(wall) = self.cage.required.walls.iter().find(|wall| !self.cage.walls.has(*wall)) {
            return Err(UsageError::new(format!("the wall `{wall}` is required and switched off at once")).into());
        }
        let last = u64::from(self.first_env) + (self.envs - 1) as u64;
        if last >= u64::from(u32::MAX) {
            return Err(UsageError::new(format!("env {last}; a run's envs have numbers below {}", u32::MAX)).into());
        }
        if self.seed.checked_add(last).is_none() {
            return Err(UsageError::new(format!("seed {} + env {last} is past 2^64 - 1", self.seed)).into());
        }
        Ok(())
    }

    fn assemble_prepared(
        self,
        prepared: Prepared,
        policy: Option<GivenPolicy>,
        program: PathBuf,
        opened: Opened,
        recording: Option<Recording>,
    ) -> Result<VecEnv, Error> {
        let Opened { grants, mut granted, directories, mut beside } = opened;
        let wants = grants.check_wants(prepared.plugin.name(), &prepared.description.wants);
        if let Some(folder) = self.temporary {
            beside.temporary = folder;
        }
        let stand_in = beside.stand_in();
        let mut configs: Vec<CompleteConfig> = Vec::with_capacity(self.envs);
        let mut with_leases: Vec<Option<Value>> = Vec::with_capacity(self.envs);
        for index in 0..self.envs {
            let given = over(grants.config(), (self.config)(self.first_env as usize + index)?);
            // The config is checked with the first port of each range; the real port is known when it is taken.
            let mut config = given.clone();
            let injected = inject(&mut config, &stand_in)?;
            let complete = match prepared.schema.complete(config, prepared.plugin.name()) {
                Ok(complete) => complete,
                // If the caller gave no config, a grants file might supply the missing keys, so an unmet want is the better
                // error.
                Err(error) if given.as_object().is_some_and(Map::is_empty) => {
                    return Err(wants.err().unwrap_or(error).into());
                }
                Err(error) => return Err(error.into()),
            };
            with_leases.push(injected.then_some(given));
            // Equal texts are kept once.
            configs.push(match configs.last() {
                Some(before) if before.canonical == complete.canonical => before.clone(),
                _ => complete,
            });
        }
        if self.again.is_none() {
            wants?;
        }
        let sockets = beside.rights_for(&Placeholders { ports: stand_in, ..Placeholders::default() })?;
        if sockets.is_something() || !self.connections.is_empty() {
            granted.sockets = Some(GrantedSockets {
                count_max: self.limits.sockets,
                bytes_max: self.limits.socket_bytes,
                listens: !sockets.listen.is_empty(),
            });
        }
        if let Some((what, _)) = self.again.as_ref().and_then(|again| again.captured.as_ref()) {
            let has = |name: &str| what.iter().any(|what| what == name);
            (granted.real_clock, granted.real_random) = (has("clock=real"), has("random=real"));
            let (count_max, bytes_max) = (self.limits.sockets, self.limits.socket_bytes);
            granted.sockets = has("sockets").then_some(GrantedSockets { count_max, bytes_max, listens: false });
            granted.capture = Some(CaptureMode::Serve);
        } else if self.record.is_some() && granted.is_captured() {
            granted.capture = Some(CaptureMode::Write);
        }
        let captures = granted.capture == Some(CaptureMode::Write);
        // Only the workers of envs have directories: a compile process has none.
        let mut cage = self.cage;
        cage.required = self.level.map_or(cage.required, |level| level.of(!directories.is_empty()));
        let cores = cores();
        let sockets = granted.sockets.is_some();
        let sharing = Sharing { granted: &granted, beside: &beside, sockets, start: self.start, cores };
        let each = sharing.envs_per_worker(self.envs_per_worker, self.envs, prepared.description.warm_up)?;
        // A connection cannot be in two processes; and where copies are not asked for, a worker lacks the system calls for
        // them.
        let copied = (self.copied || self.start == Start::ForkAfterCreate) && !granted.talks() && each == 1;
        if self.start == Start::ForkAfterCreate && self.record.is_some() && granted.is_captured() {
            return Err(UsageError::new("what comes in cannot be recorded of envs that are copied after `create`")
                .hint("start them by `fork`")
                .into());
        }
        if self.start == Start::ForkAfterCreate && !copied {
            return Err(UsageError::new(
                "envs with sockets cannot be copied after `create`: a connection is one process's",
            )
            .hint("start them by `fork`: each is a copy of what has no connection yet")
            .into());
        }
        if self.start == Start::ForkAfterImport
            && let Some(why) = unshared_by_imports(prepared.description(), &granted, beside.is_kept())
        {
            return Err(UsageError::new(format!("start `fork-after-import`: {why}"))
                .hint("start them by `fork`: each imports for itself")
                .into());
        }
        if let (Some(_), Some(cache)) = (&recording, &self.cache) {
            // If the plugin cannot be kept, a later replay must be given the plugin's file.
            let _ = cache.keep_plugin(&prepared.plugin);
        }
        let terms = Terms {
            prepared,
            program,
            limits: self.limits,
            autoreset: self.autoreset,
            on_fault: self.on_fault,
            time_limit: self.time_limit,
            shape: None,
            start: self.start,
            each,
            copied,
            cores,
            policy,
            policy_worker: self.policy_worker,
            acts_for: None,
            cache: self.cache,
            ceilings: self.trust.ceilings(),
            trust: self.trust,
            stock: Stock::new(self.envs),
            cage,
            debug: self.debug,
            granted,
            directories,
            beside,
            shared: Vec::new(),
            names: Names::default(),
            recycle_after: self.recycle_after,
        };
        let mut terms = terms;
        let there = GroupLimits::read();
        terms.prepared.warn(machine::more_than_there_is(self.envs, terms.limits.memory_bytes, &there));
        terms.prepared.warn(machine::more_processes_than_allowed(terms.share_of(self.envs).processes, &there));
        let slots = (0u32..).zip(configs.iter().zip(with_leases)).map(|(index, (config, with_leases))| {
            let seed = self.seed + u64::from(self.first_env) + u64::from(index);
            let mut slot = Slot::new(index, config.clone(), with_leases, seed);
            slot.count_from(self.first_env, self.first_instance);
            slot
        });
        let mut slots: Vec<Slot> = slots.collect();
        if each > 1 {
            slots.iter_mut().zip(pack::seats(self.envs, each, terms.cores)).for_each(|(slot, seat)| slot.sit(seat));
        }
        if let Some(again) = self.again {
            slots.iter_mut().for_each(|slot| slot.begin_at(&again));
        }
        slots.iter_mut().for_each(|slot| slot.keep_past(terms.limits.snapshot_bytes));
        let mut envs = VecEnv::assembled(slots, terms, grants, self.seed, self.interrupt);
        envs.first_env = self.first_env;
        if let Some(recording) = recording {
            if captures {
                envs.capture_into(recording.folder());
            }
            envs.record(recording, self.record.is_some_and(|record| record.embed_plugin));
        }
        for (env, connection) in self.connections {
            envs.hand_over(env, connection)?;
        }
        Ok(envs)
    }
}

/// Cores that this process may use.
fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, std::num::NonZero::get)
}
