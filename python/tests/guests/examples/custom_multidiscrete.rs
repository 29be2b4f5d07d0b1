//! `CustomGymEnv` over a MultiDiscrete.

use rollcage_sdk::prelude::*;
use rollcage_sdk::space::ValueOf;
use twins::{Custom, Kind};

struct It;

impl Kind for It {
    type Space = MultiDiscrete<[i64; 2]>;
    const NAME: &'static str = "custom-multidiscrete";

    fn space() -> Self::Space {
        MultiDiscrete::new([2, 3])
    }

    fn draw(rng: &mut NumpyRng) -> ValueOf<Self::Space> {
        [rng.integers(0, 2), rng.integers(0, 3)]
    }
}

type Env = Custom<It>;
rollcage_sdk::export!(Env);
