//! Goal: block in a host function, where no fuel is used and no trap can come from the guest.
//! Method: wait for a timer at the end of time.

use mischief::rollcage_sdk::prelude::*;
use mischief::{Mischief, Nothing};

struct Wait;

impl Mischief for Wait {
    type Details = Nothing;

    const NAME: &'static str = "wait";
    const SUMMARY: &'static str = "Waits for what never comes";

    fn strike(_: &Nothing) -> Result<(), EnvError> {
        wasip2::clocks::monotonic_clock::subscribe_instant(u64::MAX).block();
        Ok(())
    }
}

mischief::export!(Wait);
