//! Goal: the runaway recursion that authors write. It ends at the same depth on every machine.
//! Method: frames of 4 KiB, which live on the guest's own stack in linear memory; that grows down to address 0, and
//! past it every access is out of bounds.

use mischief::rollcage_sdk::prelude::*;
use mischief::{Mischief, Nothing};

struct Recurse;

impl Mischief for Recurse {
    type Details = Nothing;

    const NAME: &'static str = "recurse";
    const SUMMARY: &'static str = "Overflows its own stack in linear memory";

    fn strike(_: &Nothing) -> Result<(), EnvError> {
        std::hint::black_box(deeper(std::hint::black_box(0)));
        Ok(())
    }
}

#[inline(never)]
fn deeper(depth: u64) -> u64 {
    let mut frame = [depth; 512];
    // What passes through a black box has to be in memory. The call before the sum keeps the frame alive.
    std::hint::black_box(&mut frame);
    if depth == std::hint::black_box(u64::MAX) {
        return 0;
    }
    deeper(depth + 1).wrapping_add(frame.iter().sum())
}

mischief::export!(Recurse);
