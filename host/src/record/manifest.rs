//! `rollout.json`: what ran, by whose hash, and what came of it. The file's fields are the fields here, in their order.

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

/// A rollout's `rollout.json`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// [`FORMAT`].
    pub format: u32,
    /// False while the run goes on, and for ever if it was killed.
    pub complete: bool,
    /// The version of rollcage that wrote it.
    pub rollcage: String,
    /// What was run.
    pub plugin: PluginName,
    /// The config of every env, or a list of one for each: with defaults filled in.
    pub config: Value,
    /// Env *i*'s first seed is this plus *i*.
    pub seed: u64,
    /// How many envs.
    pub envs: u32,
    /// What followed an episode's end.
    pub autoreset: Autoreset,
    /// The time limit that was asked for; null: the env's own; `"none"`: no limit.
    pub max_episode_steps: TimeLimit,
    /// The grants, as `--grant` has them.
    pub grants: Vec<String>,
    /// What of the outside was captured: `sockets`, `clock=real`, `random=real`.
    pub captured: Vec<String>,
    /// The limits.
    pub limits: RecordedLimits,
    /// The engine.
    pub engine: Engine,
    /// The spaces.
    pub spaces: Spaces,
    /// False: run again on another machine, it may go otherwise; `not_portable` says why.
    pub portable: bool,
    /// Why it is not portable.
    pub not_portable: Vec<String>,
    /// Sums over all envs; null until the end.
    pub totals: Option<Value>,
    /// The instances whose end is not in a row, or is in more than a row.
    pub instances: Vec<InstanceEnd>,
    /// The run's digest; null until the end.
    pub digest: Option<String>,
    /// Each env's digest.
    pub digests: Vec<String>,
    /// Where it was recorded. Not a part of the receipt, like the two that follow.
    pub machine: Value,
    /// RFC 3339.
    pub started: String,
    /// RFC 3339; null until the end.
    pub finished: Option<String>,
}

/// Which plugin.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PluginName {
    /// As it names itself.
    pub name: String,
    /// Its own version.
    pub version: String,
    /// SHA-256 of its file.
    pub sha256: String,
    /// The interface version it exports.
    pub interface: String,
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

/// What ran the guest's code, as far as answers and fuel depend on it.
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
    /// What a wasm instruction costs: the engine version's own table.
    pub operator_costs: String,
}

impl Engine {
    /// The engine of this build.
    pub(crate) fn of(settings: EngineSettings) -> Engine {
        let target = match settings.backend {
            Backend::Native => std::env::consts::ARCH,
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

    /// Which backend it was.
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
    /// The spec that these are of; checked, since anybody may have written them.
    ///
    /// # Errors
    /// Which space is none, and why.
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

/// How an instance came out. All of an env's, in order: their digests make up the env's.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InstanceEnd {
    /// The env.
    pub env: u32,
    /// The instance number.
    pub instance: u32,
    /// Its digest.
    pub digest: String,
    /// The fault that ended it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fault: Option<FaultEnd>,
    /// What was said to an instance that was never reset.
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
    /// What it said.
    pub message: String,
    /// What the env was asked for.
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

/// Totals as `rollout.json` has them: no times.
#[expect(clippy::cast_precision_loss, reason = "nobody plays 2^53 episodes")]
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

/// Why a run with this grant is not portable, if it is a directory.
pub(crate) fn files_are_missing(grant: &str) -> Option<String> {
    grant.starts_with("dir=").then(|| format!("`{grant}`: its files are an input, and not in the recording"))
}

impl Manifest {
    /// The text of its file.
    ///
    /// # Errors
    /// It cannot be written as JSON.
    pub(crate) fn text(&self) -> Result<String, serde_json::Error> {
        let mut text = serde_json::to_string_pretty(self)?;
        text.push('\n');
        Ok(text)
    }

    /// What the totals say of returns, as JSON has it: none where no episode has finished.
    pub fn mean_return(&self) -> Option<&Value> {
        self.totals.as_ref()?.get("return")?.get("mean")
    }

    /// The receipt: BLAKE3 of what ran and what came of it, as canonical JSON (RFC 8785), without machine and times.
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

    /// The config of an env.
    pub fn config_of(&self, env: usize) -> &Value {
        match &self.config {
            Value::Array(configs) => configs.get(env).unwrap_or(&Value::Null),
            config => config,
        }
    }
}

/// The time, RFC 3339.
pub(crate) fn now() -> String {
    humantime::format_rfc3339_seconds(SystemTime::now()).to_string()
}

/// Where this is recorded.
pub(crate) fn machine() -> Value {
    let system = rustix::system::uname();
    serde_json::json!({
        "arch": std::env::consts::ARCH,
        "os": system.sysname().to_string_lossy(),
        "kernel": system.release().to_string_lossy(),
        "cores": std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
    })
}
