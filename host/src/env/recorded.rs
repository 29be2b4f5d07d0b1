//! What a recording says of its envs. This file knows terms and manifests, and nothing of files.

use serde_json::Value;

use super::policy_plugin::GivenPolicy;
use super::terms::Terms;
use crate::outside::grant::Grants;
use crate::plugin::Prepared;
use crate::record::manifest::{
    Engine, FORMAT, Manifest, PluginName, RecordedLimits, Spaces, files_are_missing, instances_are_missing, machine,
    now,
};
use crate::spec::{Description, Spec};

impl PluginName {
    pub(crate) fn of(prepared: &Prepared) -> PluginName {
        let Description { name, version, interface, .. } = &prepared.description;
        let sha256 = prepared.plugin.sha256_hex();
        PluginName { name: name.clone(), version: version.clone(), sha256, interface: interface.clone() }
    }
}

/// The manifest of a run that is about to begin.
pub(crate) fn manifest_of<'a>(
    terms: &Terms,
    spec: &Spec,
    configs: impl Iterator<Item = &'a Value>,
    grants: &Grants,
    (seed, first_env, first_instance): (u64, u32, u32),
) -> Manifest {
    let configs: Vec<Value> = configs.cloned().collect();
    let mut not_portable: Vec<String> = instances_are_missing(first_instance).into_iter().collect();
    let mut captured = Vec::new();
    for grant in grants.iter() {
        not_portable.extend(files_are_missing(&grant.to_string()));
    }
    for (given, what) in [
        (terms.granted.sockets.is_some(), "sockets"),
        (terms.granted.real_clock, "clock=real"),
        (terms.granted.real_random, "random=real"),
    ] {
        if given {
            captured.push(what.to_owned());
        }
    }
    Manifest {
        format: FORMAT,
        complete: false,
        rollcage: env!("CARGO_PKG_VERSION").to_owned(),
        plugin: PluginName::of(&terms.prepared),
        policy: terms.policy.as_ref().map(GivenPolicy::recorded),
        envs: u32::try_from(configs.len()).unwrap_or(u32::MAX),
        config: match configs.first() {
            Some(first) if configs.iter().all(|config| config == first) => first.clone(),
            _ => configs.into(),
        },
        seed,
        first_env,
        first_instance,
        autoreset: terms.autoreset,
        max_episode_steps: terms.time_limit,
        grants: grants.iter().map(ToString::to_string).collect(),
        captured,
        limits: RecordedLimits::from(&terms.limits),
        engine: Engine::of(terms.prepared.engine),
        spaces: Spaces::from(spec),
        portable: not_portable.is_empty(),
        not_portable,
        totals: None,
        instances: Vec::new(),
        digest: None,
        digests: Vec::new(),
        machine: machine(),
        started: now(),
        finished: None,
    }
}
