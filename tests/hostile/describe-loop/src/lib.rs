//! Goal: keep whoever wants to know the plugin waiting for ever.
//! Method: an endless loop in `describe`.

use mischief::rollcage_sdk::prelude::*;
use mischief::{Mischief, Nothing};

struct DescribeLoop;

impl Mischief for DescribeLoop {
    type Details = Nothing;

    const NAME: &'static str = "describe-loop";
    const SUMMARY: &'static str = "Never answers describe";

    fn strike(_: &Nothing) -> Result<(), EnvError> {
        Ok(())
    }
}

mischief::export!(
    DescribeLoop,
    describe = |_| {
        loop {
            std::hint::spin_loop();
        }
    }
);
