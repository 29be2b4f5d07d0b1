//! `CustomGymEnv` over a Box.

use rollcage_sdk::prelude::*;
use rollcage_sdk::space::ValueOf;
use twins::{Custom, Kind};

struct It;

impl Kind for It {
    type Space = BoxSpace<[f32; 2]>;
    const NAME: &'static str = "custom-box";

    fn space() -> Self::Space {
        BoxSpace::all(0.0, 1.0)
    }

    fn draw(rng: &mut NumpyRng) -> ValueOf<Self::Space> {
        [twins::unit(rng), twins::unit(rng)]
    }
}

type Env = Custom<It>;
rollcage_sdk::export!(Env);
