//! The host's knowledge of engines: names and settings. Knows nothing of wasmtime itself, which belongs to the worker.

use serde::{Deserialize, Serialize};

use crate::error::UsageError;

/// The version of the `wasmtime` crate. Fuel prices, stack depth and the format of compiled code belong to it, so
/// it is part of the cache's key and of a rollout's manifest. The crate does not export its version; a test
/// compares this one with `Cargo.lock`.
pub const ENGINE_VERSION: &str = "48.0.8";

/// How guest code is run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Backend {
    /// Compiled to the machine's own code by Cranelift.
    #[default]
    Native,
    /// Interpreted by Pulley: slower, with the same answers on any machine.
    Pulley,
    /// As [`Backend::Native`], by the instructions that every processor of this architecture has: without AVX, FMA and BMI. It
    /// is for tests, which show that no answer depends on the processor.
    #[doc(hidden)]
    Baseline,
}

#[cfg(feature = "worker")]
impl Backend {
    /// Whether the processor runs the code itself.
    pub(crate) fn is_native(self) -> bool {
        match self {
            Backend::Native | Backend::Baseline => true,
            Backend::Pulley => false,
        }
    }
}

impl std::str::FromStr for Backend {
    type Err = UsageError;

    fn from_str(name: &str) -> Result<Backend, UsageError> {
        match name {
            "native" => Ok(Backend::Native),
            "pulley" => Ok(Backend::Pulley),
            "baseline" => Ok(Backend::Baseline),
            _ => Err(UsageError::new(format!("backend `{name}`: `native` and `pulley` are possible"))),
        }
    }
}

/// How plugins are compiled. Code is loaded only with the settings that it was compiled with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct EngineSettings {
    /// Native code or interpreter.
    pub backend: Backend,
    /// Whether fuel is counted.
    pub fuel: bool,
}

impl EngineSettings {
    /// What compiled code depends on besides the plugin: part of the cache's key, and of a rollout's manifest.
    ///
    /// Native code also depends on the processor's features (a cache may lie on a file system that several machines
    /// share); code for a processor that has more does not load.
    pub fn fingerprint(&self) -> String {
        let backend = match self.backend {
            Backend::Native => format!("native-{}{}", std::env::consts::ARCH, processor_features()),
            Backend::Pulley => "pulley64".to_owned(),
            Backend::Baseline => format!("baseline-{}", std::env::consts::ARCH),
        };
        let fuel = if self.fuel { "-fuel" } else { "" };
        format!("wasmtime-{ENGINE_VERSION}-{backend}{fuel}")
    }
}

/// The engine's settings that affect answers, with any backend. `cage/wasm.rs` configures the engine from them, and a
/// recording's manifest names them.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Answering {
    /// Makes the bits of every NaN the same. Otherwise the processor chooses them.
    pub(crate) nan_canonicalization: bool,
    /// Makes relaxed SIMD deterministic. It stays allowed, since toolchains emit it.
    pub(crate) relaxed_simd_deterministic: bool,
    /// Whether a memory may move. A memory that cannot move cannot fail to move: growth fails at the limit, or is a
    /// fault.
    pub(crate) memory_may_move: bool,
    /// Native stack that wasm frames may use, in bytes.
    pub(crate) wasm_stack_bytes: usize,
    /// Threads: they share memory in an order that differs from run to run.
    pub(crate) shared_memory: bool,
    /// Component-model concurrency.
    pub(crate) concurrency: bool,
    /// Memories of 64 bits.
    pub(crate) memory64: bool,
    /// Pages of a size other than 64 KiB.
    pub(crate) custom_page_sizes: bool,
    /// 128-bit arithmetic.
    pub(crate) wide_arithmetic: bool,
    /// Several stacks in one instance.
    pub(crate) stack_switching: bool,
}

/// The settings of this build.
pub(crate) const ANSWERING: Answering = Answering {
    nan_canonicalization: true,
    relaxed_simd_deterministic: true,
    memory_may_move: false,
    // Valid recursive code exceeds the engine's default of 512 KiB. A main thread has 8 MiB, and the signal handler and
    // host functions run on the same stack. The compiler chooses the size of frames, so *where* a recursion ends
    // differs between machines: faults of this kind are marked as not portable. Most guests never get here: a Rust or C
    // guest first exhausts its own stack in linear memory.
    wasm_stack_bytes: 1 << 20,
    shared_memory: false,
    concurrency: false,
    memory64: false,
    custom_page_sizes: false,
    wide_arithmetic: false,
    stack_switching: false,
};

impl std::fmt::Display for Answering {
    /// Writes each setting by name, in the order of the structure. A manifest has the hash of this text.
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Without `..`: a setting that is added is written too.
        let Answering {
            nan_canonicalization,
            relaxed_simd_deterministic,
            memory_may_move,
            wasm_stack_bytes,
            shared_memory,
            concurrency,
            memory64,
            custom_page_sizes,
            wide_arithmetic,
            stack_switching,
        } = self;
        write!(
            out,
            "nan-canonicalization={nan_canonicalization},relaxed-simd-deterministic={relaxed_simd_deterministic},\
             memory-may-move={memory_may_move},max-wasm-stack={wasm_stack_bytes},shared-memory={shared_memory},\
             concurrency={concurrency},memory64={memory64},custom-page-sizes={custom_page_sizes},\
             wide-arithmetic={wide_arithmetic},stack-switching={stack_switching}"
        )
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
    fn the_settings_that_answers_depend_on_are_written_as_the_engine_has_them() {
        let text = ANSWERING.to_string();
        assert!(
            text.starts_with("nan-canonicalization=true,relaxed-simd-deterministic=true,memory-may-move=false,"),
            "{text}"
        );
        assert!(text.contains(",max-wasm-stack=1048576,"), "{text}");
        let other = Answering { wasm_stack_bytes: 1 << 19, ..ANSWERING };
        assert_ne!(other.to_string(), text);
    }

    #[test]
    fn engine_version_is_the_locked_one() {
        let lock = include_str!("../../../Cargo.lock");
        let locked = format!("name = \"wasmtime\"\nversion = \"{ENGINE_VERSION}\"");
        assert!(lock.contains(&locked), "ENGINE_VERSION {ENGINE_VERSION} is not the version in Cargo.lock");
    }

    #[test]
    fn fingerprints_of_all_settings_differ() {
        let mut all = Vec::new();
        for backend in [Backend::Native, Backend::Pulley, Backend::Baseline] {
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
