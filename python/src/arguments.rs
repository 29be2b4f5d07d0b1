//! Python's arguments for envs, and the builder made from them.

use std::path::{Path, PathBuf};
use std::time::Duration;

use pyo3::prelude::*;
use rollcage::outside::grant::Protected;
use rollcage::record::writer::Record;
use rollcage::rollout::PolicyPlugin;
use rollcage::{
    Backend, Builder, Cache, EnvsPerWorker, Error, Grants, Limits, OnFault, TimeLimit, Trust, UsageError, VecEnv,
};
use serde_json::Value;

use crate::bundles::{Bundling, Named};

/// The arguments of `rollcage.make_vec`: a dict with these keys, checked and completed by `rollcage._arguments`.
#[derive(FromPyObject)]
#[pyo3(from_item_all)]
pub(crate) struct Arguments {
    /// A shipped plugin's name, a path, or a bundle.
    plugin: Named,
    /// Where the bundler of a folder finds what it needs.
    bundling: Bundling,
    num_envs: usize,
    /// JSON objects: one for all envs, or one for each.
    configs: Vec<String>,
    seed: u64,
    /// The run's number of the first env here, and of the first instance of each.
    first_env: u32,
    first_instance: u32,
    /// Grants, as `--grant` writes them.
    grants: Vec<String>,
    grants_file: Option<PathBuf>,
    /// The user's home folder, most of which no grant may reach.
    home: Option<PathBuf>,
    limits: Given,
    autoreset_mode: String,
    /// The time limit; -1 for none.
    max_episode_steps: Option<i64>,
    on_fault: String,
    backend: String,
    /// The `rollcage` program.
    worker: PathBuf,
    cache: Option<PathBuf>,
    /// The cache's bound, as `ROLLCAGE_CACHE_MAX` writes it.
    cache_max: Option<String>,
    /// A level of the sandbox.
    require_sandbox: Option<String>,
    debug: bool,
    recycle_after: Option<u64>,
    /// A number, or `auto`.
    envs_per_worker: String,
    /// A policy's file.
    policy: Option<PathBuf>,
    /// The policy's config, JSON.
    policy_config: String,
    /// The policy's process: `env` or `own`.
    policy_worker: String,
    /// A folder to record into.
    record: Option<PathBuf>,
    embed_plugin: bool,
    start: Option<String>,
    branching: bool,
}

/// `rollcage.Limits`. For a limit that is not given, the host's default holds.
#[derive(FromPyObject)]
struct Given {
    start_timeout: Option<f64>,
    reset_timeout: Option<f64>,
    step_timeout: Option<f64>,
    call_timeout: Option<f64>,
    close_timeout: Option<f64>,
    compile_timeout: Option<f64>,
    memory_bytes: Option<u64>,
    fuel_per_step: Option<u64>,
    sockets: Option<u32>,
    restarts_in_window: Option<u32>,
    restarts_window: Option<f64>,
    restarts_in_all: Option<u32>,
    snapshot_bytes: Option<usize>,
}

impl Arguments {
    /// Makes the builder, and warnings that stop nothing. Nothing is compiled or started yet.
    pub(crate) fn builder(self) -> Result<(Builder, Vec<String>), Error> {
        let (plugin, mut warnings) = self.plugin.open(self.bundling)?;
        let configs = self.configs.iter().map(|text| parse(text)).collect::<Result<Vec<Value>, _>>()?;
        if configs.len() != 1 && configs.len() != self.num_envs {
            return Err(UsageError::new(format!("{} configs for {} envs", configs.len(), self.num_envs)).into());
        }
        let mut grants = match &self.grants_file {
            Some(file) => Grants::named(file)?,
            None => Grants::new(),
        };
        for text in &self.grants {
            grants.add(text.parse()?);
        }
        grants.check()?;
        let first = self.first_env as usize;
        let mut builder = VecEnv::builder(plugin)
            .envs(self.num_envs)
            .first_env(self.first_env)
            .first_instance(self.first_instance)
            .config_with(move |env| configs[if configs.len() == 1 { 0 } else { env - first }].clone())
            .seed(self.seed)
            .limits(self.limits.limits()?)
            .autoreset(choice("autoreset_mode", &self.autoreset_mode)?)
            .on_fault(choice::<OnFault>("on_fault", &self.on_fault)?)
            .backend(self.backend.parse::<Backend>()?)
            .worker(self.worker)
            .grants(grants)
            .trust(Trust::standing(Trust::file_of_user().as_deref()))
            .temporary(std::env::temp_dir())
            .protect(self.home.as_deref().map(Protected::of_home).unwrap_or_default());
        match self.cache.as_deref().map(Cache::open) {
            Some(Ok(cache)) => {
                let bounded = self.cache_max.as_deref().map(|text| cache.clone().bound_by(text));
                if let Some(Err(error)) = &bounded {
                    warnings.push(format!("environment variable `ROLLCAGE_CACHE_MAX`: {}", error.message));
                }
                builder = builder.cache(bounded.and_then(Result::ok).unwrap_or(cache));
            }
            // This costs a compilation each time, but nothing else.
            Some(Err(error)) => warnings.push(format!("{}; the plugin is compiled each time", error.message)),
            None => {}
        }
        if let Some(steps) = self.max_episode_steps {
            // `_arguments` has checked the bounds of the steps.
            builder = builder.time_limit(u32::try_from(steps).map_or(TimeLimit::Off, TimeLimit::Steps));
        }
        if let Some(episodes) = self.recycle_after {
            builder = builder.recycle_after(episodes);
        }
        builder = builder.envs_per_worker(self.envs_per_worker.parse::<EnvsPerWorker>()?);
        if let Some(file) = &self.policy {
            builder = builder.policy(policy(file, &self.policy_config)?);
        }
        builder = builder.policy_worker(self.policy_worker.parse()?);
        if let Some(folder) = self.record {
            builder = builder.record(Record { folder, embed_plugin: self.embed_plugin });
        }
        if let Some(start) = &self.start {
            builder = builder.start(start.parse()?);
        }
        builder = builder.branching(self.branching);
        if let Some(level) = &self.require_sandbox {
            builder = builder.require_sandbox(level.parse()?);
        }
        Ok((if self.debug { builder.debug() } else { builder }, warnings))
    }
}

/// A policy from its file, with its config as JSON.
pub(crate) fn policy(file: &Path, config: &str) -> Result<PolicyPlugin, Error> {
    Ok(PolicyPlugin::open(file)?.config(&parse(config)?)?)
}

impl Given {
    fn limits(&self) -> Result<Limits, UsageError> {
        let mut limits = Limits::default();
        for (name, given, limit) in [
            ("start_timeout", self.start_timeout, &mut limits.start_timeout),
            ("reset_timeout", self.reset_timeout, &mut limits.reset_timeout),
            ("step_timeout", self.step_timeout, &mut limits.step_timeout),
            ("call_timeout", self.call_timeout, &mut limits.call_timeout),
            ("close_timeout", self.close_timeout, &mut limits.close_timeout),
            ("compile_timeout", self.compile_timeout, &mut limits.compile_timeout),
            ("restarts_window", self.restarts_window, &mut limits.restarts.window),
        ] {
            if let Some(seconds) = given {
                *limit = patience(name, seconds)?;
            }
        }
        limits.memory_bytes = self.memory_bytes.unwrap_or(limits.memory_bytes);
        limits.fuel_per_step = self.fuel_per_step;
        limits.sockets = self.sockets.unwrap_or(limits.sockets);
        limits.snapshot_bytes = self.snapshot_bytes.unwrap_or(limits.snapshot_bytes);
        limits.restarts.in_window = self.restarts_in_window.unwrap_or(limits.restarts.in_window);
        limits.restarts.in_all = self.restarts_in_all.unwrap_or(limits.restarts.in_all);
        Ok(limits)
    }
}

/// Reads seconds as a time that a clock can add.
fn patience(name: &str, seconds: f64) -> Result<Duration, UsageError> {
    /// A year.
    const MOST: f64 = 365.0 * 24.0 * 3600.0;
    if seconds > 0.0 && seconds <= MOST {
        return Ok(Duration::from_secs_f64(seconds));
    }
    Err(UsageError::new(format!("limits `{name}`: {seconds} seconds; more than 0 and at most a year is possible")))
}

/// Parses one of the words by which a type of the host is written.
fn choice<T: serde::de::DeserializeOwned>(what: &str, given: &str) -> Result<T, UsageError> {
    serde_json::from_value(Value::from(given)).map_err(|error| UsageError::new(format!("{what}: {error}")))
}

/// Parses a JSON text that the package itself made.
pub(crate) fn parse(text: &str) -> Result<Value, UsageError> {
    serde_json::from_str(text).map_err(|error| UsageError::new(format!("not JSON: {error}")))
}
