//! `CustomGymEnv` over a Dict of the four.

use rollcage_sdk::prelude::*;
use rollcage_sdk::space::ValueOf;
use twins::{Custom, Kind};

rollcage_sdk::dict! {
    struct Four in FourSpace {
        discrete: Discrete,
        multidiscrete: MultiDiscrete<[i64; 2]>,
        multibinary: MultiBinary<[bool; 3]>,
        continuous: BoxSpace<[f32; 2]>,
    }
}

struct It;

impl Kind for It {
    type Space = FourSpace;
    const NAME: &'static str = "custom-dict";

    fn space() -> Self::Space {
        FourSpace {
            discrete: Discrete::new(2),
            multidiscrete: MultiDiscrete::new([2, 3]),
            multibinary: MultiBinary::new(),
            continuous: BoxSpace::all(0.0, 1.0),
        }
    }

    fn draw(rng: &mut NumpyRng) -> ValueOf<Self::Space> {
        Four {
            discrete: rng.integers(0, 2),
            multidiscrete: [rng.integers(0, 2), rng.integers(0, 3)],
            multibinary: [(); 3].map(|()| twins::bit(rng)),
            continuous: [twins::unit(rng), twins::unit(rng)],
        }
    }
}

type Env = Custom<It>;
rollcage_sdk::export!(Env);
