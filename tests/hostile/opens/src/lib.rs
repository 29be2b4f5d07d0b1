//! Goal: use up the host's descriptors, or reach one file among ten thousand.
//! Method: without a directory granted, open paths of every kind, for reading and for writing, and keep what opens; fail if
//! anything does.

use std::fs::{File, OpenOptions};

use mischief::Mischief;
use mischief::rollcage_sdk::prelude::*;

use schemars::JsonSchema;
use serde::Deserialize;

#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(default)]
struct Details {
    /// How many attempts.
    attempts: usize,
}

impl Default for Details {
    fn default() -> Self {
        Self { attempts: 10_000 }
    }
}

const PATHS: [&str; 10] = [
    "/etc/passwd",
    "../../../../../../etc/passwd",
    "../..",
    "/",
    ".",
    "",
    "/proc/self/environ",
    "/dev/zero",
    "a file of its own",
    "/tmp/\u{202e}a file\x1b[2J",
];

struct Opens;

impl Mischief for Opens {
    type Details = Details;

    const NAME: &'static str = "opens";
    const SUMMARY: &'static str = "Opens ten thousand files";

    fn strike(details: &Details) -> Result<(), EnvError> {
        let granted = wasip2::filesystem::preopens::get_directories();
        if !granted.is_empty() {
            return Err(EnvError::failed(format!("{} directories are there", granted.len())));
        }
        let mut opened = Vec::new();
        for (attempt, path) in PATHS.iter().cycle().take(details.attempts).enumerate() {
            let writes = attempt % 2 == 1;
            let file = match writes {
                true => OpenOptions::new().write(true).create(true).truncate(false).open(path),
                false => File::open(path),
            };
            if let Ok(file) = file {
                opened.push((path, file));
            }
        }
        match opened.first() {
            Some((path, _)) => Err(EnvError::failed(format!("{} files are open, `{path}` the first", opened.len()))),
            None => Ok(()),
        }
    }
}

mischief::export!(Opens);
