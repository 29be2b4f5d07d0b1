//! Goal: be started again, quietly.
//! Method: the error `restart`.

use mischief::rollcage_sdk::prelude::*;
use mischief::{Mischief, Nothing};

struct Restart;

impl Mischief for Restart {
    type Details = Nothing;

    const NAME: &'static str = "restart";
    const SUMMARY: &'static str = "Asks for a new instance";

    fn strike(_: &Nothing) -> Result<(), EnvError> {
        Err(EnvError::restart("the level is spoilt"))
    }
}

mischief::export!(Restart);
