//! `FakeImageEnv` of Stable-Baselines3, with discrete actions.

use rollcage_sdk::prelude::*;
use twins::image::{FakeImage, Kind};

struct It;

impl Kind for It {
    type Space = Discrete;
    const NAME: &'static str = "fake-image";

    fn space() -> Self::Space {
        Discrete::new(6)
    }
}

type Env = FakeImage<It>;
rollcage_sdk::export!(Env);
