//! Goal: a panic whose message is found in the log, and whose function's name in the backtrace.
//! Method: a panic in a function of its own that is not inlined.

use mischief::rollcage_sdk::prelude::*;
use mischief::{Mischief, Nothing};

struct Panic;

impl Mischief for Panic {
    type Details = Nothing;

    const NAME: &'static str = "panic";
    const SUMMARY: &'static str = "Panics with a message";

    fn strike(_: &Nothing) -> Result<(), EnvError> {
        the_guilty_function(&mut Vec::new());
        Ok(())
    }
}

/// Takes something that no optimiser can know.
#[inline(never)]
fn the_guilty_function(list: &mut Vec<u8>) {
    let index = std::hint::black_box(7);
    assert!(index < list.len(), "the guilty function was here");
    list.truncate(index);
}

mischief::export!(Panic);
