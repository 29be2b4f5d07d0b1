//! The interface versions that this rollcage speaks: for each version one frozen folder of `wit/` and one file here.
//!
//! A component is bound once, in [`Pre::instantiate`], into the function handles that
//! [`Instance`](crate::worker::instance::Instance) calls. Only this file looks at a version; the path of a step does not.
//! When a second version comes, the older file converts its handles and types into those of the newer version.

mod policy_v0_1_0;
mod v0_1_0;

use wasmtime::Store;
use wasmtime::component::{InstancePre, Linker};

pub(crate) use self::policy_v0_1_0::{Decision, Exports as PolicyExports};
pub(crate) use self::v0_1_0::{CreateError, Exports};
use crate::worker::wasi::guest::Guest;

/// Interface versions, oldest first.
pub(crate) const SUPPORTED: &[&str] = &["0.1.0"];

/// The name of a plugin's export, before its version.
pub(crate) const EXPORT: &str = "rollcage:env/environment@";

/// The interface of policies, as [`Compiled`](super::compile::Compiled) names it: apart from the versions of envs.
pub(crate) const POLICY: &str = "policy-0.1.0";

/// The name of a policy's export, before its version; and the versions that this rollcage speaks.
pub(crate) const POLICY_EXPORT: &str = "rollcage:policy/policy@";
pub(crate) const POLICIES_SUPPORTED: &[&str] = &["0.1.0"];

/// A component whose imports are linked and whose exports are found, ready to be instantiated.
pub(crate) enum Pre {
    /// Interface 0.1.0.
    V0_1_0(v0_1_0::Pre),
    /// A policy, of interface 0.1.0.
    Policy(policy_v0_1_0::Pre),
}

/// Links what every supported version imports of ours.
///
/// # Errors
///
/// Only if an interface were linked twice.
pub(crate) fn link(linker: &mut Linker<Guest>) -> wasmtime::Result<()> {
    v0_1_0::link(linker)
}

impl Pre {
    /// Finds the exports of an interface version; `None` if rollcage does not speak it.
    ///
    /// # Errors
    ///
    /// The component's export lacks functions of the version.
    pub(crate) fn new(interface: &str, pre: InstancePre<Guest>) -> Option<wasmtime::Result<Pre>> {
        match interface {
            "0.1.0" => Some(v0_1_0::pre(pre).map(Pre::V0_1_0)),
            POLICY => Some(policy_v0_1_0::pre(pre).map(Pre::Policy)),
            _ => None,
        }
    }

    /// Instantiates the component and keeps its functions.
    ///
    /// # Errors
    ///
    /// A limit of the store is reached, memory is refused, or the guest's own start traps.
    pub(crate) fn instantiate(&self, store: &mut Store<Guest>) -> wasmtime::Result<Exports> {
        match self {
            Pre::V0_1_0(pre) => v0_1_0::instantiate(pre, store),
            Pre::Policy(_) => Err(wasmtime::Error::msg("a policy, where an env is wanted")),
        }
    }

    /// As [`Pre::instantiate`], of a policy.
    ///
    /// # Errors
    ///
    /// As there.
    pub(crate) fn instantiate_policy(&self, store: &mut Store<Guest>) -> wasmtime::Result<PolicyExports> {
        match self {
            Pre::Policy(pre) => policy_v0_1_0::instantiate(pre, store),
            Pre::V0_1_0(_) => Err(wasmtime::Error::msg("an env, where a policy is wanted")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_supported_version_has_a_frozen_folder() {
        let wit = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../wit");
        for version in SUPPORTED {
            assert!(wit.join(version).is_dir(), "wit/{version} is missing");
        }
    }
}
