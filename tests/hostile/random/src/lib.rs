//! Goal: make the host allocate and compute what the guest does not pay for.
//! Method: one request to `wasi:random`, far beyond what one may ask for.

use mischief::Mischief;
use mischief::rollcage_sdk::prelude::*;

use schemars::JsonSchema;
use serde::Deserialize;

#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(default)]
struct Details {
    /// How many.
    bytes: u64,
}

impl Default for Details {
    fn default() -> Self {
        Self { bytes: 1 << 40 }
    }
}

struct Random;

impl Mischief for Random {
    type Details = Details;

    const NAME: &'static str = "random";
    const SUMMARY: &'static str = "Asks for too many random bytes at once";

    fn strike(details: &Details) -> Result<(), EnvError> {
        std::hint::black_box(wasip2::random::random::get_random_bytes(details.bytes));
        Ok(())
    }
}

mischief::export!(Random);
