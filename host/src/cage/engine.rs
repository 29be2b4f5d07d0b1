//! What the host knows of engines: names and settings. Knows nothing of wasmtime itself, which is the worker's.

use serde::{Deserialize, Serialize};

/// The version of the `wasmtime` crate. Fuel prices, stack depth and the format of compiled code belong to it, so
/// it is part of the cache's key and of a rollout's manifest. The crate does not export its version; a test
/// compares this one with `Cargo.lock`.
pub const ENGINE_VERSION: &str = "48.0.8";

/// How guest code is run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Backend {
    /// Compiled by Cranelift to the machine's own code.
    #[default]
    Native,
    /// Interpreted by Pulley: slower, the same answers on any machine.
    Pulley,
}

/// How plugins are compiled. Code compiled with one of these is loaded with the same only.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct EngineSettings {
    /// Native code or interpreter.
    pub backend: Backend,
    /// Whether fuel is counted.
    pub fuel: bool,
}

impl EngineSettings {
    /// What compiled code depends on beside the plugin: a part of the cache's key, and of a rollout's manifest.
    ///
    /// Native code also depends on the processor's features (a cache may lie on a file system that several machines
    /// share); code for a processor that has more does not load.
    pub fn fingerprint(&self) -> String {
        let backend = match self.backend {
            Backend::Native => format!("native-{}{}", std::env::consts::ARCH, processor_features()),
            Backend::Pulley => "pulley64".to_owned(),
        };
        let fuel = if self.fuel { "-fuel" } else { "" };
        format!("wasmtime-{ENGINE_VERSION}-{backend}{fuel}")
    }
}

/// The features that the compiler asks for on this architecture, as `+a+b`.
fn processor_features() -> String {
    #[cfg(target_arch = "x86_64")]
    macro_rules! present {
        ($($name:tt)*) => { [$(($name, std::is_x86_feature_detected!($name))),*] };
    }
    #[cfg(target_arch = "x86_64")]
    let features = present!(
        "cmpxchg16b" "sse3" "ssse3" "sse4.1" "sse4.2" "popcnt" "avx" "avx2" "fma" "avxvnni" "avx512vnni" "bmi1" "bmi2"
        "avx512bitalg" "avx512dq" "avx512f" "avx512vl" "avx512vbmi" "lzcnt"
    );
    #[cfg(target_arch = "aarch64")]
    macro_rules! present {
        ($($name:tt)*) => { [$(($name, std::arch::is_aarch64_feature_detected!($name))),*] };
    }
    #[cfg(target_arch = "aarch64")]
    let features = present!("lse" "paca" "fp16" "dotprod" "i8mm");
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    let features: [(&str, bool); 0] = [];

    features.iter().filter(|(_, present)| *present).map(|(name, _)| format!("+{name}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn engine_version_is_the_locked_one() {
        let lock = include_str!("../../../Cargo.lock");
        let locked = format!("name = \"wasmtime\"\nversion = \"{ENGINE_VERSION}\"");
        assert!(lock.contains(&locked), "ENGINE_VERSION {ENGINE_VERSION} is not the version in Cargo.lock");
    }

    #[test]
    fn fingerprints_of_all_settings_differ() {
        let mut all = Vec::new();
        for backend in [Backend::Native, Backend::Pulley] {
            for fuel in [false, true] {
                all.push(EngineSettings { backend, fuel }.fingerprint());
            }
        }
        let count = all.len();
        all.sort();
        all.dedup();
        assert_eq!(all.len(), count);
    }
}
