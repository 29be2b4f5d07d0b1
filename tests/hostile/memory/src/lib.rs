//! Goal: take all the memory there is, and fail for want of more.
//! Method: allocate and fill a mebibyte after the other; the allocator's answer to a refused `memory.grow` is to abort.

use mischief::rollcage_sdk::prelude::*;
use mischief::{Mischief, Nothing};

struct Memory;

impl Mischief for Memory {
    type Details = Nothing;

    const NAME: &'static str = "memory";
    const SUMMARY: &'static str = "Allocates until refused";

    fn strike(_: &Nothing) -> Result<(), EnvError> {
        let mut hoard = Vec::new();
        loop {
            hoard.push(vec![1_u8; 1 << 20]);
            std::hint::black_box(&hoard);
        }
    }
}

mischief::export!(Memory);
