//! `CustomGymEnv` over a Tuple of the four.

use rollcage_sdk::prelude::*;
use rollcage_sdk::space::ValueOf;
use twins::{Custom, Kind};

struct It;

impl Kind for It {
    type Space = (Discrete, MultiDiscrete<[i64; 2]>, MultiBinary<[bool; 3]>, BoxSpace<[f32; 2]>);
    const NAME: &'static str = "custom-tuple";

    fn space() -> Self::Space {
        (Discrete::new(2), MultiDiscrete::new([2, 3]), MultiBinary::new(), BoxSpace::all(0.0, 1.0))
    }

    fn draw(rng: &mut NumpyRng) -> ValueOf<Self::Space> {
        (
            rng.integers(0, 2),
            [rng.integers(0, 2), rng.integers(0, 3)],
            [(); 3].map(|()| twins::bit(rng)),
            [twins::unit(rng), twins::unit(rng)],
        )
    }
}

type Env = Custom<It>;
rollcage_sdk::export!(Env);
