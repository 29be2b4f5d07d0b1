//! `CustomGymEnv` over a image with its channels first.

use rollcage_sdk::prelude::*;
use rollcage_sdk::space::ValueOf;
use twins::{Custom, Kind};

struct It;

impl Kind for It {
    type Space = BoxSpace<[[[u8; 12]; 8]; 3]>;
    const NAME: &'static str = "custom-transposed";

    fn space() -> Self::Space {
        BoxSpace::all(0, 255)
    }

    fn draw(rng: &mut NumpyRng) -> ValueOf<Self::Space> {
        [(); 3].map(|()| [(); 8].map(|()| [(); 12].map(|()| twins::byte(rng))))
    }
}

type Env = Custom<It>;
rollcage_sdk::export!(Env);
