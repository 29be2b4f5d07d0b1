//! Goal: keep the caller waiting for ever, or until fuel or patience is used up.
//! Method: an endless loop that calls nothing.

use mischief::rollcage_sdk::prelude::*;
use mischief::{Mischief, Nothing};

struct Loop;

impl Mischief for Loop {
    type Details = Nothing;

    const NAME: &'static str = "loop";
    const SUMMARY: &'static str = "Never answers";

    fn strike(_: &Nothing) -> Result<(), EnvError> {
        loop {
            std::hint::spin_loop();
        }
    }
}

mischief::export!(Loop);
