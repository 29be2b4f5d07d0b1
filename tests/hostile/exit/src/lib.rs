//! Goal: end the process, if that could be done from inside.
//! Method: the standard library's `exit`.

use mischief::Mischief;
use mischief::rollcage_sdk::prelude::*;

use schemars::JsonSchema;
use serde::Deserialize;

#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(default)]
struct Details {
    /// The exit status.
    #[schemars(range(min = 0, max = 255))]
    status: i32,
}

impl Default for Details {
    fn default() -> Self {
        Self { status: 3 }
    }
}

struct Exit;

impl Mischief for Exit {
    type Details = Details;

    const NAME: &'static str = "exit";
    const SUMMARY: &'static str = "Calls exit";

    fn strike(details: &Details) -> Result<(), EnvError> {
        std::process::exit(details.status)
    }
}

mischief::export!(Exit);
