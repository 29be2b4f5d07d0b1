//! Recordings, on the way in: an event is entered in its env's [`journal`], a thread of its own makes rows of them
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
