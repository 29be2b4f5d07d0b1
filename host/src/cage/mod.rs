//! The cage: what stops a plugin. Three walls, each assumed broken by the next, a file each.
//!
//! `wasm` is the first, `process` the second. The broker, the third, has nothing to open yet: a guest is granted nothing.

#[cfg(feature = "worker")]
pub(crate) mod process;
#[cfg(feature = "worker")]
pub(crate) mod wasm;

/// The walls that stand around every env, by name: what `--json` and a rollout report.
pub fn walls() -> Vec<&'static str> {
    vec!["wasm", "process", "no-new-privs", "rlimits"]
}
