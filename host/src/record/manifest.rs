//! `rollout.json`: what ran, with which hash, and the result. The file's fields are the fields here, in their order.

use std::time::SystemTime;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::history::{InstanceNote, Totals};
use super::journal::Asked;
use crate::cage::engine::{ANSWERING, Backend, ENGINE_VERSION, EngineSettings};
use crate::digest::Digest;
use crate::episode::{Autoreset, TimeLimit};
use crate::fault::FaultKind;
use crate::limits::Limits;
use crate::space::{InfoField, OutOfBounds, Space, float_json};
use crate::spec::Spec;
use crate::spread::Spread;

/// The number of the format.
pub const FORMAT: u32 = 1;

/// The manifest, a rollout's `rollout.json`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// [`FORMAT`].
    pub format: u32,
    /// False while the run goes on, and forever if it was killed.
    pub complete: bool,
    /// The version of rollcage that wrote it.
    pub rollcage: String,
    /// The plugin that ran.
    pub plugin: PluginName,
    /// The policy beside the envs; null: there was none, and the program that ran them chose the actions.
    #[serde(default)]
    pub policy: Option<PolicyRecord>,
    /// The config of every env, or a list with one config per env; defaults are filled in.
    pub config: Value,
    /// The base seed: env *i*'s first seed is this plus *i*.
    pub seed: u64,
    /// The number of the first env here, in a run whose envs are on several hosts; left out where it is 0. Envs in this folder
    /// have the run's numbers.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub first_env: u32,
    /// The number of each env's first instance here; left out where it is 0. Those before it ran on a host that was lost.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub first_instance: u32,
    /// The number of envs.
    pub envs: u32,
    /// The autoreset mode.
    pub autoreset: Autoreset,
    /// The time limit that was asked for. Null: the env's own; `"none"`: no limit.
    pub max_episode_steps: TimeLimit,
    /// The grants, as `--grant` writes them.
    pub grants: Vec<String>,
    /// Which inputs from outside were captured: `sockets`, `clock=real`, `random=real`.
    pub captured: Vec<String>,
    /// The limits.
    pub limits: RecordedLimits,
    /// The engine.
    pub engine: Engine,
    /// The spaces.
    pub spaces: Spaces,
    /// False if another run on another machine may differ; `not_portable` says why.
    pub portable: bool,
    /// The reasons why the recording is not portable.
    pub not_portable: Vec<String>,
    /// Sums over all envs; null until the end.
    pub totals: Option<Value>,
    /// The instances whose end is not in exactly one row.
    pub instances: Vec<InstanceEnd>,
    /// The run's digest; null until the end.
    pub digest: Option<String>,
    /// Each env's digest.
    pub digests: Vec<String>,
    /// The machine that recorded. It is not part of the receipt, and neither are the two fields that follow.
    pub machine: Value,
    /// The start time, RFC 3339.
    pub started: String,
    /// The end time, RFC 3339; null until the end.
    pub finished: Option<String>,
}

fn is_zero(number: &u32) -> bool {
    *number == 0
}

/// The plugin of a recording.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PluginName {
    /// The plugin's name for itself.
    pub name: String,
    /// The plugin's own version.
    pub version: String,
    /// SHA-256 of the plugin's file.
    pub sha256: String,
    /// The interface version that the plugin exports.
    pub interface: String,
}

/// The policy of a recording.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PolicyRecord {
    /// The policy's name for itself.
    pub name: String,
    /// The policy's own version.
    pub version: String,
    /// SHA-256 of its file; for a network, of the component that ships with the network in it.
    pub sha256: String,
    /// The interface that it exports.
    pub interface: String,
    /// Its config; defaults are filled in.
    pub config: Value,
    /// Bytes of memory that an instance may have.
    pub memory_bytes: u64,
    /// Fuel of an action; null: not counted.
    pub fuel: Option<u64>,
}

/// Limits, in bytes and seconds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "the fields are those of `Limits`")]
pub struct RecordedLimits {
    pub memory_bytes: u64,
    pub fuel_per_step: Option<u64>,
    pub clock_step: f64,
    pub start_timeout: f64,
    pub reset_timeout: f64,
    pub step_timeout: f64,
    pub call_timeout: f64,
    pub sockets: u32,
    pub socket_bytes: u64,
}

impl From<&Limits> for RecordedLimits {
    fn from(limits: &Limits) -> RecordedLimits {
        RecordedLimits {
            memory_bytes: limits.memory_bytes,
            fuel_per_step: limits.fuel_per_step,
            clock_step: limits.clock_step.as_secs_f64(),
            start_timeout: limits.start_timeout.as_secs_f64(),
            reset_timeout: limits.reset_timeout.as_secs_f64(),
            step_timeout: limits.step_timeout.as_secs_f64(),
            call_timeout: limits.call_timeout.as_secs_f64(),
            sockets: limits.sockets,
            socket_bytes: limits.socket_bytes,
        }
    }
}

/// The engine that ran the guest's code, as far as answers and fuel depend on it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Engine {
    /// The version of the engine.
    pub wasmtime: String,
    /// The machine's architecture, or `pulley64`.
    pub target: String,
    /// BLAKE3 of the settings that answers depend on, as text.
    pub settings: String,
    /// Whether fuel was counted.
    pub fuel: bool,
    /// The fuel that a wasm instruction costs: the engine version's own table.
    pub operator_costs: String,
}

impl Engine {
    /// The engine of this build.
    pub(crate) fn of(settings: EngineSettings) -> Engine {
        let target = match settings.backend {
            Backend::Native | Backend::Baseline => std::env::consts::ARCH,
            Backend::Pulley => "pulley64",
        };
        Engine {
            wasmtime: ENGINE_VERSION.to_owned(),
            target: target.to_owned(),
            settings: blake3::hash(ANSWERING.to_string().as_bytes()).to_hex().to_string(),
            fuel: settings.fuel,
            operator_costs: "default".to_owned(),
        }
    }

    /// The backend that compiled the code.
    pub fn backend(&self) -> Backend {
        if self.target == "pulley64" { Backend::Pulley } else { Backend::Native }
    }
}

/// The spaces of observations, actions and declared infos, as `rollcage inspect --json` writes them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "the fields are those of `Spec`")]
pub struct Spaces {
    pub observation: Value,
    pub action: Value,
    pub action_masked: bool,
    pub actions_out_of_bounds: OutOfBounds,
    pub info: Map<String, Value>,
    pub max_episode_steps: Option<u32>,
}

impl From<&Spec> for Spaces {
    fn from(spec: &Spec) -> Spaces {
        Spaces {
            observation: spec.observation_space.to_description_json(),
            action: spec.action_space.to_description_json(),
            action_masked: spec.action_masked,
            actions_out_of_bounds: spec.actions_out_of_bounds,
            info: spec
                .info_fields
                .iter()
                .map(|field| (field.name.clone(), field.space.to_description_json()))
                .collect(),
            max_episode_steps: spec.max_episode_steps,
        }
    }
}

impl Spaces {
    /// The spec with these spaces. It is checked, since the manifest may be anyone's.
    ///
    /// # Errors
    /// The space that is not valid, and why.
    pub fn spec(&self) -> Result<Spec, String> {
        let space = |what: &str, json: &Value| {
            Space::from_description_json(json).map_err(|error| format!("spaces.{what}: {error}"))
        };
        let info = |(name, json): (&String, &Value)| {
            Ok(InfoField { name: name.clone(), space: space(&format!("info.{name}"), json)? })
        };
        Ok(Spec {
            observation_space: space("observation", &self.observation)?,
            action_space: space("action", &self.action)?,
            action_masked: self.action_masked,
            actions_out_of_bounds: self.actions_out_of_bounds,
            info_fields: self.info.iter().map(info).collect::<Result<_, String>>()?,
            max_episode_steps: self.max_episode_steps,
            reward_threshold: None,
        })
    }
}

/// The end of an instance. The digests of all instances of an env, in order, make up the env's digest.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InstanceEnd {
    /// The env.
    pub env: u32,
    /// The instance number.
    pub instance: u32,
    /// Its digest.
    pub digest: String,
    /// The fault that ended the instance.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fault: Option<FaultEnd>,
    /// Calls on an instance that was never reset.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub calls: Vec<Value>,
}

/// A fault that ended an instance.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FaultEnd {
    /// Its kind.
    pub kind: FaultKind,
    /// The episode, from 0.
    pub episode: u64,
    /// The step, from 0.
    pub step: u32,
    /// The fault's message.
    pub message: String,
    /// What the env was asked for when it met the fault.
    pub(crate) asked: Asked,
}

impl InstanceEnd {
    pub(crate) fn new(env: u32, (instance, digest): (u32, Digest), note: Option<&InstanceNote>) -> InstanceEnd {
        InstanceEnd {
            env,
            instance,
            digest: digest.to_string(),
            fault: note.and_then(|note| note.fault.as_ref()).map(|fault| FaultEnd {
                kind: fault.kind,
                episode: fault.episode,
                step: fault.step,
                message: fault.message.clone(),
                asked: fault.asked.clone(),
            }),
            calls: note.map(|note| note.calls.clone()).unwrap_or_default(),
        }
    }
}

/// Totals as `rollout.json` has them, without times.
pub(crate) fn totals_json(totals: &Totals) -> Value {
    let figures = |spread: &Spread| match spread.figures() {
        None => Value::Null,
        Some((mean, min, max)) => {
            json!({ "mean": float_json(mean), "min": float_json(min), "max": float_json(max) })
        }
    };
    json!({
        "steps": totals.steps,
        "episodes": totals.episodes,
        "faults_total": totals.faults,
        "return": figures(&totals.returns),
        "length": figures(&totals.lengths),
    })
}

/// The reason why a recording is not portable that begins with this instance, if it is not the first.
pub(crate) fn instances_are_missing(first_instance: u32) -> Option<String> {
    let lost = || format!("the instances before number {first_instance} were on a host that was lost");
    (first_instance > 0).then(lost)
}

/// The reason why a run with this grant is not portable, if the grant is a directory.
pub(crate) fn files_are_missing(grant: &str) -> Option<String> {
    grant.starts_with("dir=").then(|| format!("`{grant}`: its files are an input, and not in the recording"))
}

impl Manifest {
    /// The text of the manifest's file.
    ///
    /// # Errors
    /// The manifest cannot be written as JSON.
    pub(crate) fn text(&self) -> Result<String, serde_json::Error> {
        let mut text = serde_json::to_string_pretty(self)?;
        text.push('\n');
        Ok(text)
    }

    /// Mean, least and greatest of the returns, as JSON has them; none if no episode has finished.
    pub fn mean_return(&self) -> Option<&Value> {
        self.totals.as_ref()?.get("return")?.get("mean")
    }

    /// The receipt: BLAKE3 of what ran and of the result, as canonical JSON (RFC 8785), without machine and times.
    ///
    /// # Errors
    /// The manifest cannot be written as JSON.
    pub fn receipt(&self) -> Result<Digest, String> {
        let mut value = serde_json::to_value(self).map_err(|error| error.to_string())?;
        if let Some(object) = value.as_object_mut() {
            ["machine", "started", "finished"].iter().for_each(|key| drop(object.remove(*key)));
        }
        let text = serde_json_canonicalizer::to_string(&value).map_err(|error| error.to_string())?;
        Ok(Digest(*blake3::hash(text.as_bytes()).as_bytes()))
    }

    /// The numbers of the envs.
    pub fn env_numbers(&self) -> std::ops::Range<u32> {
        self.first_env..self.first_env.saturating_add(self.envs)
    }

    /// The place of an env among those of this folder, by its number.
    pub(crate) fn place_of(&self, env: u32) -> Option<usize> {
        self.env_numbers().contains(&env).then(|| (env - self.first_env) as usize)
    }

    /// The config of an env, by its number.
    pub fn config_of(&self, env: u32) -> &Value {
        match &self.config {
            Value::Array(configs) => self.place_of(env).and_then(|at| configs.get(at)).unwrap_or(&Value::Null),
            config => config,
        }
    }
}

/// The present time, RFC 3339.
pub(crate) fn now() -> String {
    humantime::format_rfc3339_seconds(SystemTime::now()).to_string()
}

/// The machine on which this is recorded.
pub(crate) fn machine() -> Value {
    let system = rustix::system::uname();
    serde_json::json!({
        "arch": std::env::consts::ARCH,
        "os": system.sysname().to_string_lossy(),
        "kernel": system.release().to_string_lossy(),
        "cores": std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
    })
}
