//! From compiled code to something that can be instantiated: the part of a worker's start that opens a path, maps
//! code as executable and installs handlers. It runs between the two filters; nothing of a guest runs here.

use wasmtime::Engine;
use wasmtime::component::{Component, Linker};

use super::bindings::Pre;
use crate::cage::engine::EngineSettings;
use crate::cage::wasm::config;
use crate::worker::wasi;

/// A plugin's code, linked: all that [`Instance`](crate::worker::instance::Instance) needs.
pub(crate) struct Loaded {
    pub(super) engine: Engine,
    pub(super) pre: Pre,
    pub(super) settings: EngineSettings,
}

/// Why code does not load.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum LoadError {
    /// The engine itself.
    #[error("the engine does not start: {0}")]
    Engine(String),
    /// Code of another engine, other settings, another processor, or no code. Compile again.
    #[error("the compiled code does not load: {0}")]
    Code(String),
    /// An import that a 0.2.x newer than ours has.
    #[error("the plugin's imports cannot be met: {0}; build it with an older WASI 0.2")]
    Link(String),
    /// The export is not what its version says.
    #[error("the plugin does not export interface version {interface} as that defines it: {reason}")]
    Export {
        /// The version.
        interface: String,
        /// What is missing or different.
        reason: String,
    },
    /// Not a version spoken here: code and program do not belong together.
    #[error("the compiled code is of interface version {0}, which this rollcage does not speak")]
    Interface(String),
}

/// Loads compiled code from a path (`/proc/self/fd/N`: a file's pages are shared between workers, bytes would be
/// copied) and links it. Afterwards instantiating needs neither paths nor executable mappings.
///
/// # Errors
///
/// If the code is not of this engine, these settings and this processor, or is not of `interface`.
pub(crate) fn load(path: &str, settings: &EngineSettings, interface: &str) -> Result<Loaded, LoadError> {
    let config = config(settings).map_err(|e| LoadError::Engine(reason(&e)))?;
    let engine = Engine::new(&config).map_err(|e| LoadError::Engine(reason(&e)))?;
    // SAFETY: the engine trusts these bytes as it trusts its own: they must come from its compiler, unmodified, and
    // stay so while mapped. They were written by this program's compile process, whose input had been validated;
    // they reach the worker as a memfd that the host sealed against writing, made from that process's output or from
    // a cache entry of the user's own that carries a checksum; and the engine checks its own header (version,
    // settings, processor) first. That process had parsed a stranger's file, so the argument is not absolute: which
    // is why both it and this one are behind wall 2 before they see the bytes. The safe ways in compile here, which
    // needs what wall 2 takes away.
    let component = unsafe { Component::deserialize_file(&engine, path) }.map_err(|e| LoadError::Code(reason(&e)))?;
    let mut linker = Linker::new(&engine);
    wasi::link(&mut linker).map_err(|e| LoadError::Engine(reason(&e)))?;
    let pre = linker.instantiate_pre(&component).map_err(|e| LoadError::Link(reason(&e)))?;
    let pre = Pre::new(interface, pre)
        .ok_or_else(|| LoadError::Interface(interface.to_owned()))?
        .map_err(|e| LoadError::Export { interface: interface.to_owned(), reason: reason(&e) })?;
    // The signal stack, which a thread's first call into wasm would map otherwise, behind the filters.
    Engine::tls_eager_initialize();
    Ok(Loaded { engine, pre, settings: *settings })
}

fn reason(error: &wasmtime::Error) -> String {
    format!("{error:#}")
}
