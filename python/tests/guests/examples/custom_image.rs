//! `CustomGymEnv` over a image.

use rollcage_sdk::prelude::*;
use rollcage_sdk::space::ValueOf;
use twins::{Custom, Kind};

struct It;

impl Kind for It {
    type Space = BoxSpace<[[[u8; 3]; 8]; 12]>;
    const NAME: &'static str = "custom-image";

    fn space() -> Self::Space {
        BoxSpace::all(0, 255)
    }

    fn draw(rng: &mut NumpyRng) -> ValueOf<Self::Space> {
        [(); 12].map(|()| [(); 8].map(|()| [(); 3].map(|()| twins::byte(rng))))
    }
}

type Env = Custom<It>;
rollcage_sdk::export!(Env);
