//! Goal: blame the caller for what is right, so that the whole run ends in an error of the operator's.
//! Method: the errors that say that the caller is at fault, in answer to a step or reset that is as it should be.

use mischief::Mischief;
use mischief::rollcage_sdk::prelude::*;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(default)]
struct Details {
    /// By which error.
    error: Refusal,
}

impl Default for Details {
    fn default() -> Self {
        Self { error: Refusal::NeedsReset }
    }
}

#[derive(Clone, Copy, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
enum Refusal {
    NeedsReset,
    InvalidAction,
    InvalidOptions,
    Unsupported,
}

struct Refuses;

impl Mischief for Refuses {
    type Details = Details;

    const NAME: &'static str = "refuses";
    const SUMMARY: &'static str = "Refuses what is right";

    fn strike(details: &Details) -> Result<(), EnvError> {
        Err(match details.error {
            Refusal::NeedsReset => EnvError::NeedsReset,
            Refusal::InvalidAction => EnvError::invalid_action("not today"),
            Refusal::InvalidOptions => EnvError::invalid_options("not these"),
            Refusal::Unsupported => EnvError::unsupported("not here"),
        })
    }
}

mischief::export!(Refuses);
