//! Turns compiled code into something that can be instantiated. This part of a worker's start opens a path, maps code as
//! executable and installs handlers. It runs between the two filters; no guest code runs here.

use wasmtime::Engine;
use wasmtime::component::{Component, Linker};

use super::bindings::{self, Pre};
use crate::cage::engine::EngineSettings;
use crate::cage::wasm::config;
use crate::worker::wasi;

/// A plugin's code, linked: all that [`Instance`](crate::worker::instance::Instance) needs.
pub(crate) struct Loaded {
    pub(super) engine: Engine,
    pub(super) pre: Pre,
    pub(super) settings: EngineSettings,
}

/// The reason why code does not load.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum LoadError {
    /// The engine could not be made.
    #[error("the engine does not start: {0}")]
    Engine(String),
    /// The code is from another engine, other settings or another processor, or is not code. Compile again.
    #[error("the compiled code does not load: {0}")]
    Code(String),
    /// The system lets no memory become executable: systemd's `MemoryDenyWriteExecute=`, or a policy of its own.
    #[error(
        "the system lets no memory become executable here ({0}): leave out what forbids it (systemd's \
         `MemoryDenyWriteExecute=`), or interpret the code: `--backend pulley`, `backend=\"pulley\"`"
    )]
    Executable(String),
    /// An import comes from a 0.2.x that is newer than ours.
    #[error("the plugin's imports cannot be met: {0}; build it with an older WASI 0.2")]
    Link(String),
    /// The export does not match its version.
    #[error("the plugin does not export interface version {interface} as that defines it: {reason}")]
    Export {
        /// The version.
        interface: String,
        /// The missing or different part.
        reason: String,
    },
    /// The version is not supported: code and program do not belong together.
    #[error("the compiled code is of interface version {0}, which this rollcage does not speak")]
    Interface(String),
}

/// Loads compiled code from a path (`/proc/self/fd/N`: a file's pages are shared between workers, bytes would be
/// copied) and links it. Afterwards instantiating needs neither paths nor executable mappings.
///
/// # Errors
///
/// The code is not of this engine, these settings and this processor, or is not of `interface`.
pub(crate) fn load(path: &str, settings: &EngineSettings, interface: &str) -> Result<Loaded, LoadError> {
    let config = config(settings).map_err(|e| LoadError::Engine(reason(&e)))?;
    let engine = Engine::new(&config).map_err(|e| LoadError::Engine(reason(&e)))?;
    // SAFETY: the engine trusts these bytes as it trusts its own: they must come from its compiler, unmodified, and stay so
    // while mapped. They were written by this program's compile process, whose input had been validated. They reach the
    // worker as a memfd that the host sealed against writing, made from that process's output or from a cache entry of the
    // user's own that carries a checksum. The engine first checks its own header (version, settings, processor). The compile
    // process had parsed an untrusted file, so the argument is not absolute: for that reason compile process and worker are
    // both behind layer 2 of the sandbox before they see the bytes. The safe ways in would compile here, which needs rights
    // that layer 2 takes away.
    let component = unsafe { Component::deserialize_file(&engine, path) }.map_err(|e| not_loaded(reason(&e)))?;
    let mut linker = Linker::new(&engine);
    wasi::link(&mut linker).map_err(|e| LoadError::Engine(reason(&e)))?;
    bindings::link(&mut linker).map_err(|e| LoadError::Engine(reason(&e)))?;
    let pre = linker.instantiate_pre(&component).map_err(|e| LoadError::Link(reason(&e)))?;
    let pre = Pre::new(interface, pre)
        .ok_or_else(|| LoadError::Interface(interface.to_owned()))?
        .map_err(|e| LoadError::Export { interface: interface.to_owned(), reason: reason(&e) })?;
    // Set up the signal stack, which a thread's first call into wasm would otherwise map behind the filters.
    Engine::tls_eager_initialize();
    Ok(Loaded { engine, pre, settings: *settings })
}

/// Why code was not loaded. The engine has no kind of error for the system's refusal, only words.
fn not_loaded(reason: String) -> LoadError {
    if reason.contains("make memory executable") { LoadError::Executable(reason) } else { LoadError::Code(reason) }
}

fn reason(error: &wasmtime::Error) -> String {
    format!("{error:#}")
}
