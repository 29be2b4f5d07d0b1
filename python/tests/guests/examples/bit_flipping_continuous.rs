//! `BitFlippingEnv` of Stable-Baselines3, with continuous actions: each above zero flips its bit.

use rollcage_sdk::prelude::*;
use twins::goals::{BitFlipping, Kind};

struct It;

impl Kind for It {
    type Space = BoxSpace<Vec<f32>>;
    const NAME: &'static str = "bit-flipping-continuous";

    fn space(bits: u32) -> Self::Space {
        BoxSpace::shaped(&[bits], -1.0, 1.0)
    }

    fn flips(action: &Vec<f32>, bit: usize) -> bool {
        action[bit] > 0.0
    }
}

type Env = BitFlipping<It>;
rollcage_sdk::export!(Env);
