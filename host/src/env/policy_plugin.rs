//! A policy that comes as a file: prepared as an env's plugin is, and handed to workers beside it.

use std::os::fd::{AsFd, BorrowedFd};

use serde::Serialize;
use serde_json::{Map, Value};

use crate::cage::engine::{Backend, EngineSettings};
use crate::error::{Error, UsageError};
use crate::plugin::cache::Cache;
use crate::plugin::config::{self, CompleteConfig};
use crate::plugin::{Plugin, Prepared, Preparing};
use crate::record::manifest::PolicyRecord;
use crate::spec::Description;
use crate::wire::job::PolicyJob;

/// A policy as a component (`rollcage:policy`, see `wit/policy/`), with its config and its limits. It is as untrusted as an
/// env: it runs in the env's worker, in a store of its own, and is given nothing of the outside.
///
/// ```no_run
/// use rollcage::rollout::{Acting, Amount, Keep, PolicyPlugin};
/// use rollcage::{Plugin, VecEnv};
///
/// fn main() -> Result<(), rollcage::Error> {
///     rollcage::worker_main();
///     let policy = PolicyPlugin::new(Plugin::from_file("policy.wasm".as_ref())?);
///     let plugin = Plugin::from_file("env.wasm".as_ref())?;
///     let mut envs = VecEnv::builder(plugin).envs(8).seed(7).policy(policy).build()?;
///     let played = envs.rollout(Acting::Policy, Amount::Episodes(100), Keep::Returns)?;
///     for episode in played.episodes() {
///         println!("{}", episode.episode_return);
///     }
///     Ok(())
/// }
/// ```
#[derive(Clone)]
pub struct PolicyPlugin {
    pub(super) plugin: Plugin,
    config: Value,
    memory_bytes: u64,
    fuel: Option<u64>,
}

impl PolicyPlugin {
    /// A policy with its default config, 256 MiB of memory, and no count of fuel.
    pub fn new(plugin: Plugin) -> PolicyPlugin {
        PolicyPlugin { plugin, config: Value::Object(Map::new()), memory_bytes: 256 << 20, fuel: None }
    }

    /// A policy from a file: a component (`.wasm`), or a network (`.onnx`), which is carried by the component that ships for
    /// networks. docs/policies.md says what both may be.
    ///
    /// # Errors
    /// The file cannot be read, is too large, or this program carries no component for networks.
    pub fn open(path: &std::path::Path) -> Result<PolicyPlugin, UsageError> {
        if path.extension().is_none_or(|extension| extension != "onnx") {
            return Plugin::from_file(path).map(PolicyPlugin::new);
        }
        let shown = crate::text::escape_line(&path.to_string_lossy());
        let model = crate::files::read_regular(path, crate::limits::Limits::default().plugin_bytes)
            .map_err(|error| UsageError::new(format!("policy `{shown}`: {error}")))?;
        Plugin::of_network(&shown, model).map(PolicyPlugin::new)
    }

    /// The config of every instance: anything that serialises to a map. Keys that are not given have the schema's defaults.
    ///
    /// # Errors
    /// The value cannot be written as JSON.
    pub fn config<T: Serialize + ?Sized>(self, config: &T) -> Result<PolicyPlugin, UsageError> {
        Ok(PolicyPlugin { config: config::from_serialize(config)?, ..self })
    }

    /// Bytes of linear memory of one instance.
    #[must_use]
    pub fn memory_bytes(self, memory_bytes: u64) -> PolicyPlugin {
        PolicyPlugin { memory_bytes, ..self }
    }

    /// Fuel of each action. Without it only time bounds an action, by the envs' `step_timeout`.
    #[must_use]
    pub fn fuel(self, fuel: u64) -> PolicyPlugin {
        PolicyPlugin { fuel: Some(fuel), ..self }
    }

    /// The plugin.
    pub fn plugin(&self) -> &Plugin {
        &self.plugin
    }

    /// Compiles and describes it, and completes its config.
    pub(crate) fn prepare(
        &self,
        backend: Backend,
        how: &Preparing<'_>,
        cache: Option<&Cache>,
    ) -> Result<GivenPolicy, Error> {
        let engine = EngineSettings { backend, fuel: self.fuel.is_some() };
        let prepared = Prepared::new(&self.plugin, &Preparing { engine, ..*how }, cache)?;
        let name = self.plugin.name().to_owned();
        if !prepared.is_policy() {
            return Err(UsageError::new(format!("policy `{name}`: it is an env, not a policy"))
                .hint("a policy exports `rollcage:policy/policy`; docs/policies.md shows how one is made")
                .into());
        }
        let config = prepared.schema.complete(self.config.clone(), &name).map_err(|mut error| {
            // `inspect` looks at envs.
            error.hints.retain(|hint| !hint.contains("rollcage inspect"));
            error.of("policy: ").hint("docs/policies.md lists the keys that a network's policy has")
        })?;
        Ok(GivenPolicy { prepared, config, memory_bytes: self.memory_bytes, fuel: self.fuel })
    }
}

/// The process in which a policy runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PolicyWorker {
    /// The env's worker, where thousands of steps are one turn. Policy and env are apart by wasm alone.
    #[default]
    Env,
    /// A worker of its own for each env's policy, behind all layers of the sandbox: what breaks out of the one is not in the
    /// other. Each step is then a turn of both processes.
    Own,
}

impl std::fmt::Display for PolicyWorker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            PolicyWorker::Env => "env",
            PolicyWorker::Own => "own",
        })
    }
}

impl std::str::FromStr for PolicyWorker {
    type Err = UsageError;

    fn from_str(name: &str) -> Result<PolicyWorker, UsageError> {
        [PolicyWorker::Env, PolicyWorker::Own]
            .into_iter()
            .find(|worker| worker.to_string() == name)
            .ok_or_else(|| UsageError::new(format!("policy worker `{name}`: `env` and `own` are possible")))
    }
}

/// A policy that workers are handed.
pub(crate) struct GivenPolicy {
    pub(crate) prepared: Prepared,
    pub(crate) config: CompleteConfig,
    pub(super) memory_bytes: u64,
    pub(super) fuel: Option<u64>,
}

impl GivenPolicy {
    /// Whether it is this policy, with this config and these limits.
    pub(crate) fn is(&self, policy: &PolicyPlugin) -> bool {
        let name = policy.plugin.name();
        self.prepared.plugin.sha256() == policy.plugin.sha256()
            && (self.memory_bytes, self.fuel) == (policy.memory_bytes, policy.fuel)
            && self
                .prepared
                .schema
                .complete(policy.config.clone(), name)
                .is_ok_and(|config| config.canonical == self.config.canonical)
    }

    /// What a recording says of it.
    pub(super) fn recorded(&self) -> PolicyRecord {
        let Description { name, version, interface, .. } = &self.prepared.description;
        PolicyRecord {
            name: name.clone(),
            version: version.clone(),
            sha256: self.prepared.plugin.sha256_hex(),
            interface: interface.clone(),
            config: self.config.value.clone(),
            memory_bytes: self.memory_bytes,
            fuel: self.fuel,
        }
    }

    /// What a worker needs to know of it.
    pub(super) fn job(&self) -> PolicyJob {
        let plugin = &self.prepared.plugin;
        PolicyJob {
            engine: self.prepared.engine,
            interface: self.prepared.description.interface.clone(),
            sha256: plugin.sha256(),
            assets_bytes: plugin.assets().len() as u64,
            memory_bytes: self.memory_bytes,
            fuel: self.fuel,
        }
    }

    /// Its descriptors, in the order in which a worker takes them.
    pub(super) fn handed(&self) -> [BorrowedFd<'_>; 2] {
        [self.prepared.code.as_fd(), self.prepared.assets()]
    }
}
