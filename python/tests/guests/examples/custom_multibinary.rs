//! `CustomGymEnv` over a MultiBinary.

use rollcage_sdk::prelude::*;
use rollcage_sdk::space::ValueOf;
use twins::{Custom, Kind};

struct It;

impl Kind for It {
    type Space = MultiBinary<[bool; 3]>;
    const NAME: &'static str = "custom-multibinary";

    fn space() -> Self::Space {
        MultiBinary::new()
    }

    fn draw(rng: &mut NumpyRng) -> ValueOf<Self::Space> {
        [(); 3].map(|()| twins::bit(rng))
    }
}

type Env = Custom<It>;
rollcage_sdk::export!(Env);
