//! `CustomGymEnv` over a Discrete.

use rollcage_sdk::prelude::*;
use rollcage_sdk::space::ValueOf;
use twins::{Custom, Kind};

struct It;

impl Kind for It {
    type Space = Discrete;
    const NAME: &'static str = "custom-discrete";

    fn space() -> Self::Space {
        Discrete::new(2)
    }

    fn draw(rng: &mut NumpyRng) -> ValueOf<Self::Space> {
        rng.integers(0, 2)
    }
}

type Env = Custom<It>;
rollcage_sdk::export!(Env);
