//! Goal: give up in an orderly way, with few words or far too many.
//! Method: the error `failed`.

use mischief::Mischief;
use mischief::rollcage_sdk::prelude::*;

use schemars::JsonSchema;
use serde::Deserialize;

#[derive(Clone, Copy, Debug, Default, Deserialize, JsonSchema)]
#[serde(default)]
struct Details {
    /// Exclamation marks after the message.
    #[schemars(range(max = 16_000_000))]
    more_bytes: u32,
}

struct Fail;

impl Mischief for Fail {
    type Details = Details;

    const NAME: &'static str = "fail";
    const SUMMARY: &'static str = "Says that it cannot go on";

    fn strike(details: &Details) -> Result<(), EnvError> {
        Err(EnvError::failed(format!("the simulator has gone{}", "!".repeat(details.more_bytes as usize))))
    }
}

mischief::export!(Fail);
