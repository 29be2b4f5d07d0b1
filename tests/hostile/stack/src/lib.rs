//! Goal: exhaust the native stack that wasm frames lie on; how deep that is differs between machines and engines.
//! Method: recursion whose state is in wasm locals alone, so that the guest's stack in linear memory is not touched.

use mischief::rollcage_sdk::prelude::*;
use mischief::{Mischief, Nothing};

struct Stack;

impl Mischief for Stack {
    type Details = Nothing;

    const NAME: &'static str = "stack";
    const SUMMARY: &'static str = "Overflows the native stack";

    fn strike(_: &Nothing) -> Result<(), EnvError> {
        let never = std::hint::black_box(u64::MAX);
        std::hint::black_box(deeper(std::hint::black_box(0), never));
        Ok(())
    }
}

/// The rotation keeps the compiler from making a loop of it: it can neither be the last operation's accumulator nor be
/// put off.
#[inline(never)]
fn deeper(depth: u64, never: u64) -> u64 {
    if depth == never { depth } else { deeper(depth + 1, never).rotate_left(7) ^ depth }
}

mischief::export!(Stack);
