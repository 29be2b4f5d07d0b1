//! Goal: fail before there is anything to name.
//! Method: a trap in `describe`.

use mischief::rollcage_sdk::prelude::*;
use mischief::{Mischief, Nothing};

struct DescribeTrap;

impl Mischief for DescribeTrap {
    type Details = Nothing;

    const NAME: &'static str = "describe-trap";
    const SUMMARY: &'static str = "Traps in describe";

    fn strike(_: &Nothing) -> Result<(), EnvError> {
        Ok(())
    }
}

mischief::export!(DescribeTrap, describe = |_| core::arch::wasm32::unreachable());
