//! `BitFlippingEnv` of Stable-Baselines3: a bit a step.

use rollcage_sdk::prelude::*;
use twins::goals::{BitFlipping, Kind};

struct It;

impl Kind for It {
    type Space = Discrete;
    const NAME: &'static str = "bit-flipping";

    fn space(bits: u32) -> Self::Space {
        Discrete::new(bits.into())
    }

    fn flips(action: &i64, bit: usize) -> bool {
        usize::try_from(*action) == Ok(bit)
    }
}

type Env = BitFlipping<It>;
rollcage_sdk::export!(Env);
