//! The terms that all envs of a `VecEnv` share: facts, and beside them the live [`Stock`] that envs are started from.

use std::os::fd::{AsFd, BorrowedFd};
use std::sync::atomic::Ordering::Relaxed;

pub(super) use super::autoreset::{Autoreset, TimeLimit};
use super::policy_plugin::{GivenPolicy, PolicyWorker};
use super::stock::Stock;
use crate::error::UsageError;
use crate::fault::OnFault;
use crate::limits::Limits;
use crate::outside::broker::Names;
use crate::outside::grant::{Grants, Services};
use crate::outside::trust::{Asked, Trust};
use crate::plugin::Plugin;
use crate::plugin::Prepared;
use crate::plugin::cache::Cache;
use crate::process::machine;
use crate::process::watcher::Log;
use crate::space::Layout;
use crate::spec::{Description, Spec, Want};
use crate::wire::job::{Cage, EnvJob, Granted};
use crate::wire::keeper::{Ceiling, Share};
use crate::wire::lease::LeaseSpec;
use crate::wire::slab::layout::Strides;

use std::fmt;
use std::str::FromStr;

/// Microseconds that a worker spins after its answer when it has a core of its own. A caller returns after 10 to 20, and
/// waking a sleeper on another core costs 55.
pub(super) const WORKER_SPIN_US: u32 = 100;

/// The terms that all envs of a `VecEnv`, and its copies, share.
pub(crate) struct Terms {
    pub(crate) prepared: Prepared,
    pub(crate) program: std::path::PathBuf,
    pub(crate) limits: Limits,
    pub(crate) autoreset: Autoreset,
    pub(crate) on_fault: OnFault,
    pub(crate) time_limit: TimeLimit,
    /// The sandbox around every worker.
    pub(crate) cage: Cage,
    /// Whether logs go straight to this program's stderr.
    pub(crate) debug: bool,
    /// The outside capabilities that every env has. Below, the descriptors of granted directories, in order.
    pub(crate) granted: Granted,
    pub(crate) directories: Vec<std::os::fd::OwnedFd>,
    /// Ports, processes and sockets of each env, before they are resolved for one env.
    pub(crate) beside: Services,
    /// The most that all runs of this user may have together.
    pub(crate) ceilings: Vec<Ceiling>,
    /// Ports of the run, once its keeper holds them.
    pub(crate) shared: Vec<(LeaseSpec, u16)>,
    /// The meaning of granted names.
    pub(crate) names: Names,
    /// The number of episodes after which an instance is ended at a reset.
    pub(crate) recycle_after: Option<u64>,
    /// The shape that the first worker's `create` returned; none before that.
    pub(crate) shape: Option<Shape>,
    /// The way envs are started.
    pub(crate) start: Start,
    /// The most envs that one worker has.
    pub(crate) each: usize,
    /// Whether copies of envs may be asked for.
    pub(crate) copied: bool,
    /// Cores of this machine.
    pub(crate) cores: usize,
    /// The cache of compiled plugins, for a policy that comes later.
    pub(crate) cache: Option<Cache>,
    /// What the operator allows.
    pub(crate) trust: Trust,
    /// The policy beside the envs, if they were given one.
    pub(crate) policy: Option<GivenPolicy>,
    /// The process in which it runs.
    pub(crate) policy_worker: PolicyWorker,
    /// The encoded spec of the envs for which these act: they are policies in processes of their own.
    pub(crate) acts_for: Option<Vec<u8>>,
    /// The processes that envs are started from.
    pub(crate) stock: Stock,
}

/// A spec, and the values derived from it.
pub(crate) struct Shape {
    pub(crate) spec: Spec,
    pub(crate) strides: Strides,
    pub(crate) observation: Layout,
    pub(crate) action: Layout,
}

impl Terms {
    pub(super) fn shape(&self) -> &Shape {
        self.shape.as_ref().expect("envs are asked nothing before the first spec is there")
    }

    /// What a worker that runs no env yet, or several, is handed: its slab and the code, which also stands in for broker and
    /// capture; the plugin's assets; the granted directories.
    pub(crate) fn handed<'a>(&'a self, slab: BorrowedFd<'a>) -> Vec<BorrowedFd<'a>> {
        let code = self.prepared.code.as_fd();
        let first = [slab, code, code, code, self.prepared.assets()];
        first.into_iter().chain(self.policy_files()).chain(self.directories.iter().map(AsFd::as_fd)).collect()
    }

    /// Whether an instance can be told again what it was told: nothing came in from outside, and nothing went out.
    pub(crate) fn can_be_repeated(&self) -> bool {
        !self.granted.is_captured()
            && self.granted.capture.is_none()
            && !self.beside.is_kept()
            && !self.granted.writes()
    }

    /// Refuses a policy that the operator does not allow.
    pub(crate) fn check_trust_of(&self, policy: &Plugin, envs: usize) -> Result<(), UsageError> {
        self.trust.check(&Asked {
            plugin: policy,
            grants: &Grants::new(),
            envs: envs as u64,
            memory_bytes: self.limits.memory_bytes,
            walls: self.cage.walls,
        })
    }

    /// The policy in the envs' own workers, if there is one.
    fn policy_beside(&self) -> Option<&GivenPolicy> {
        self.policy.as_ref().filter(|_| self.policy_worker == PolicyWorker::Env)
    }

    /// Whether the envs' policies have processes of their own.
    pub(crate) fn policies_are_apart(&self) -> bool {
        self.policy.is_some() && self.policy_worker == PolicyWorker::Own
    }

    /// The policy's code and assets, behind the plugin's assets.
    pub(crate) fn policy_files(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.policy_beside().into_iter().flat_map(GivenPolicy::handed)
    }

    /// The destination of a worker's log.
    pub(crate) fn log(&self) -> Log {
        if self.debug { Log::Through } else { Log::Kept }
    }

    /// The workers of so many envs.
    pub(crate) fn workers(&self, envs: usize) -> usize {
        envs.div_ceil(self.each)
    }

    /// Makes room in this process's limits for so many more envs.
    pub(crate) fn make_room(&self, envs: usize) -> Result<(), UsageError> {
        machine::make_room(envs, self.each, self.descriptors())
    }

    /// Descriptors that this process keeps for one worker: its control socket and log; the same of its keeper; the broker's
    /// socket.
    pub(crate) fn descriptors(&self) -> usize {
        2 + if self.beside.is_kept() { 2 } else { 0 } + usize::from(self.granted.talks())
    }

    /// What so many envs have: the first ones with what they are copied from and the run's keeper and services.
    pub(crate) fn share_of(&self, envs: usize) -> Share {
        let envs = envs as u64;
        let of_policy = self.policy.as_ref().map_or(0, |policy| policy.memory_bytes);
        Share {
            envs,
            memory_bytes: envs.saturating_mul(self.limits.memory_bytes.saturating_add(of_policy)),
            processes: self.workers(usize::try_from(envs).unwrap_or(usize::MAX)) as u64
                + envs * self.beside.processes_per_env()
                + self.beside.processes_per_run()
                + if self.policies_are_apart() { envs + 1 } else { 0 }
                + 2,
        }
    }

    /// Whether the template process calls `describe`, so that envs share what the guest imported.
    pub(crate) fn imports_first(&self) -> bool {
        matches!(self.start, Start::Best | Start::ForkAfterImport)
            && unshared_by_imports(&self.prepared.description, &self.granted, self.beside.is_kept()).is_none()
    }

    /// The reason why envs that import for themselves do so.
    pub(super) fn why_imports_are_own(&self) -> &'static str {
        unshared_by_imports(&self.prepared.description, &self.granted, self.beside.is_kept())
            .unwrap_or("only envs started by `fork-after-import` share them")
    }

    /// A failure of `create` in words, with the directory that the plugin wants and that nobody granted, if there is one.
    pub(super) fn with_lacking_directory(&self, message: String) -> String {
        let lacking =
            if self.directories.is_empty() { Want::lacking_directory(&self.prepared.description.wants) } else { None };
        match lacking {
            Some(lacking) => format!("{message}; {lacking}"),
            None => message,
        }
    }

    /// Whether there are more cores than workers.
    pub(crate) fn is_roomy(&self) -> bool {
        // An env and the policy that acts for it in a process of its own are two.
        let of_each = if self.policies_are_apart() || self.acts_for.is_some() { 2 } else { 1 };
        of_each * self.workers(self.stock.envs.load(Relaxed)) < self.cores
    }

    /// Microseconds that a worker spins after its answer.
    pub(crate) fn spin_us(&self) -> u32 {
        if self.is_roomy() { WORKER_SPIN_US } else { 0 }
    }

    /// The job of an env's worker with this title and config.
    pub(crate) fn job(&self, title: &str, config: String, capture_at: u64) -> EnvJob {
        EnvJob {
            cage: self.cage,
            engine: self.prepared.engine,
            interface: self.prepared.description.interface.clone(),
            plugin_sha256: self.prepared.random_of,
            assets_bytes: self.prepared.plugin.assets().len() as u64,
            warm_up: self.prepared.description.warm_up,
            config,
            memory_bytes: self.limits.memory_bytes,
            fuel_per_step: self.limits.fuel_per_step,
            clock_step: self.limits.clock_step,
            granted: self.granted.clone(),
            title: title.to_owned(),
            capture_at,
            copied: self.copied,
            policy: self.policy_beside().map(GivenPolicy::job),
            acts_for: None,
        }
    }
}

impl Shape {
    /// Checks a copied view against its spaces.
    pub(super) fn check(&self, observation: &[u8], mask: &[u8], info: &[u8]) -> Result<(), String> {
        self.observation.check(observation).map_err(|what| format!("its observation: {what}"))?;
        if mask.iter().any(|&byte| byte > 1) {
            return Err("its action mask has a byte that is neither 0 nor 1".to_owned());
        }
        self.strides.info.check(info).map_err(|what| format!("its info: {what}"))
    }
}

/// The reason why envs are not copies of an instance that has warmed up, if there is one. What comes in from outside,
/// and what goes out, belongs to one env and may differ between two.
pub(crate) fn unshared_by_imports(
    description: &Description,
    granted: &Granted,
    has_services: bool,
) -> Option<&'static str> {
    if !description.warm_up {
        Some("the plugin imports nothing before `create`")
    } else if granted.sockets.is_some() || has_services {
        Some("envs with sockets, ports or services share no imports: a connection is one process's")
    } else if granted.is_captured() || granted.capture.is_some() {
        Some("envs with real time or randomness share no imports")
    } else if granted.writes() {
        Some("envs with a directory that can be written share no imports")
    } else {
        None
    }
}

/// The way envs are started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Start {
    /// By fork where every layer of the sandbox is active, and after the imports of a plugin that asks for it; else by
    /// spawn.
    #[default]
    Best,
    /// Each env is a copy of one locked worker that has instantiated nothing.
    Fork,
    /// Each env is a copy of one created env: what `create` loads is in memory once. The envs must share one config.
    ForkAfterCreate,
    /// Each env is a copy of one instance that has warmed up, which is to say that its `describe` was called: what it
    /// imports is in memory once. For plugins that ask for it; never with sockets, ports, services, real time or
    /// randomness, or directories that can be written.
    ForkAfterImport,
    /// An exec for each env.
    Spawn,
}

impl fmt::Display for Start {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Start::Best => "best",
            Start::Fork => "fork",
            Start::ForkAfterCreate => "fork-after-create",
            Start::ForkAfterImport => "fork-after-import",
            Start::Spawn => "spawn",
        })
    }
}

impl FromStr for Start {
    type Err = UsageError;

    fn from_str(name: &str) -> Result<Start, UsageError> {
        [Start::Best, Start::Fork, Start::ForkAfterCreate, Start::ForkAfterImport, Start::Spawn]
            .into_iter()
            .find(|start| start.to_string() == name)
            .ok_or_else(|| {
                UsageError::new(format!(
                    "start `{name}`: `fork`, `fork-after-create`, `fork-after-import` and `spawn` are possible"
                ))
            })
    }
}
