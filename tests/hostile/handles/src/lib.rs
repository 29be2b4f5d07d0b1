//! Goal: make the host's own tables grow, which the limit on linear memory does not see.
//! Method: timers that are never dropped.

use mischief::rollcage_sdk::prelude::*;
use mischief::{Mischief, Nothing};

struct Handles;

impl Mischief for Handles {
    type Details = Nothing;

    const NAME: &'static str = "handles";
    const SUMMARY: &'static str = "Makes the host keep resources without end";

    fn strike(_: &Nothing) -> Result<(), EnvError> {
        let mut timers = Vec::new();
        loop {
            timers.push(wasip2::clocks::monotonic_clock::subscribe_duration(u64::MAX));
        }
    }
}

mischief::export!(Handles);
