//! Rollouts on disk: what was done and what came of it, in a folder that others can read, run again and compare.
//!
//! The contract is `docs/rollout.md`. On the way to a recording: a slot enters an event in its [`journal`], a thread of its
//! own makes rows of them ([`history`], [`rows`]) and writes closed Parquet parts ([`record`]). On the way back:
//! [`folder`] verifies and reads, [`replay`] runs again and compares.

pub(crate) mod capture;
pub mod export;
pub mod folder;
pub(crate) mod history;
pub(crate) mod journal;
pub mod manifest;
mod part;
pub mod record;
pub mod replay;
pub(crate) mod rows;

pub use part::is_reading;

/// The manifest's file.
pub const MANIFEST: &str = "rollout.json";
/// The file of checksums, which comes last.
pub const CHECKSUMS: &str = "CHECKSUMS";
/// The plugin's file, where it was embedded.
pub const PLUGIN: &str = "plugin.wasm";
/// The folder of what came in from outside.
pub const CAPTURE: &str = "capture";

/// The name of a part.
pub(crate) fn part_name(number: u32) -> String {
    format!("trajectory-{number:05}.parquet")
}

/// The name of an env's captured calls, below the folder.
pub(crate) fn capture_name(env: usize) -> String {
    format!("{CAPTURE}/{env}.bin")
}

/// The number of the part that has this name.
pub(crate) fn number_of_part(name: &str) -> Option<u32> {
    let number = name.strip_prefix("trajectory-")?.strip_suffix(".parquet")?.parse().ok()?;
    (part_name(number) == name).then_some(number)
}

/// The env whose captured calls the file of this name has, in their folder.
pub(crate) fn env_of_capture(name: &str) -> Option<usize> {
    let env = name.strip_suffix(".bin")?.parse().ok()?;
    (format!("{env}.bin") == name).then_some(env)
}
