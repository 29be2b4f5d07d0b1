//! Goal: end the call by a plain wasm trap.
//! Method: the `unreachable` instruction, with nothing said before it.

use mischief::rollcage_sdk::prelude::*;
use mischief::{Mischief, Nothing};

struct Trap;

impl Mischief for Trap {
    type Details = Nothing;

    const NAME: &'static str = "trap";
    const SUMMARY: &'static str = "Executes the unreachable instruction";

    fn strike(_: &Nothing) -> Result<(), EnvError> {
        core::arch::wasm32::unreachable()
    }
}

mischief::export!(Trap);
