//! Writing recordings: an event is entered in its env's [`journal`]; a thread of its own makes rows of the events
//! ([`history`], [`rows`]) and writes closed Parquet parts ([`writer`]). The contract is `docs/rollout.md`.
//!
//! This floor knows events, values and files. It must never know an env, a worker, or how a recording is read again.

pub(crate) mod capture;
pub(crate) mod checksums;
pub(crate) mod history;
pub(crate) mod journal;
pub mod manifest;
pub(crate) mod rows;
pub mod writer;

/// The manifest's file name.
pub const MANIFEST: &str = "rollout.json";
/// The file name of the checksums, which are written last.
pub const CHECKSUMS: &str = "CHECKSUMS";
/// The plugin's file name, if the plugin was embedded.
pub const PLUGIN: &str = "plugin.wasm";
/// The folder of captured input.
pub const CAPTURE: &str = "capture";

/// The file name of a part.
pub(crate) fn part_name(number: u32) -> String {
    format!("trajectory-{number:05}.parquet")
}

/// The file name of an env's captured calls, inside the folder of captures.
pub(crate) fn capture_name(env: usize) -> String {
    format!("{CAPTURE}/{env}.bin")
}

/// The part number in this file name.
pub(crate) fn number_of_part(name: &str) -> Option<u32> {
    let number = name.strip_prefix("trajectory-")?.strip_suffix(".parquet")?.parse().ok()?;
    (part_name(number) == name).then_some(number)
}

/// The env number in this file name of captured calls.
pub(crate) fn env_of_capture(name: &str) -> Option<usize> {
    let env = name.strip_suffix(".bin")?.parse().ok()?;
    (format!("{env}.bin") == name).then_some(env)
}
