//! Goal: fill whatever keeps the log: the pipe, the host's memory, a disk.
//! Method: numbered lines (or one line without an end) to stderr or stdout, so many bytes or without end.

use mischief::Mischief;
use mischief::rollcage_sdk::prelude::*;

use std::io::Write;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(default)]
struct Details {
    /// Bytes to log before going on, in lines of 22. -1: without end.
    #[schemars(range(min = -1))]
    bytes: i64,
    /// Where to.
    stream: Stream,
    /// Whether lines end.
    newlines: bool,
}

impl Default for Details {
    fn default() -> Self {
        Self { bytes: -1, stream: Stream::Stderr, newlines: true }
    }
}

#[derive(Clone, Copy, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
enum Stream {
    Stderr,
    Stdout,
}

struct Logs;

impl Mischief for Logs {
    type Details = Details;

    const NAME: &'static str = "logs";
    const SUMMARY: &'static str = "Logs without end, or a lot";

    fn strike(details: &Details) -> Result<(), EnvError> {
        let mut stream: Box<dyn Write> = match details.stream {
            Stream::Stderr => Box::new(std::io::stderr()),
            Stream::Stdout => Box::new(std::io::stdout()),
        };
        let end = if details.newlines { '\n' } else { ' ' };
        let mut written = 0;
        for number in 0_u64.. {
            if u64::try_from(details.bytes).is_ok_and(|bytes| written >= bytes) {
                break;
            }
            let line = format!("log line {number:012}{end}");
            // Nobody would hear of an error either.
            let _ = stream.write_all(line.as_bytes());
            written += line.len() as u64;
        }
        let _ = stream.flush();
        Ok(())
    }
}

mischief::export!(Logs);
