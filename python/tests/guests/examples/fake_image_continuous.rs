//! `FakeImageEnv` of Stable-Baselines3, with continuous actions.

use rollcage_sdk::prelude::*;
use twins::image::{FakeImage, Kind};

struct It;

impl Kind for It {
    type Space = BoxSpace<[f32; 5]>;
    const NAME: &'static str = "fake-image-continuous";

    fn space() -> Self::Space {
        BoxSpace::all(-1.0, 1.0)
    }
}

type Env = FakeImage<It>;
rollcage_sdk::export!(Env);
