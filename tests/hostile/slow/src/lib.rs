//! Goal: answer late, but answer: for time limits, and for calls that were interrupted and end on their own.
//! Method: count. There is no real clock in a guest, so that the time is what the machine makes of it; a thousand million
//! turns are about half a second.

use mischief::Mischief;
use mischief::rollcage_sdk::prelude::*;

use schemars::JsonSchema;
use serde::Deserialize;

#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(default)]
struct Details {
    /// Turns of an empty loop.
    spins: u64,
}

impl Default for Details {
    fn default() -> Self {
        Self { spins: 1_000_000_000 }
    }
}

struct Slow;

impl Mischief for Slow {
    type Details = Details;

    const NAME: &'static str = "slow";
    const SUMMARY: &'static str = "Takes its time";

    fn strike(details: &Details) -> Result<(), EnvError> {
        for turn in 0..details.spins {
            std::hint::black_box(turn);
        }
        Ok(())
    }
}

mischief::export!(Slow);
