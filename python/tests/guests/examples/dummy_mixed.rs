//! `DummyMixedDictEnv` of `test_vec_normalize.py`: random observations of a Dict.

use rollcage_sdk::prelude::*;

rollcage_sdk::dict! {
    struct Seen in SeenSpace {
        obs1: BoxSpace<[f32; 4]>,
        obs2: Discrete,
        obs3: BoxSpace<[f32; 4]>,
    }
}

struct Env;

impl Environment for Env {
    type Config = NoConfig;
    type Options = NoOptions;
    type ObservationSpace = SeenSpace;
    type ActionSpace = BoxSpace<[f32; 3]>;
    type InfoSpace = NoInfo;

    const NAME: &'static str = "dummy-mixed";
    const SUMMARY: &'static str = "Random observations of a Dict";

    fn create(_config: NoConfig) -> Result<Self, CreateError> {
        Ok(Self)
    }

    fn spec(&self) -> Spec<Self> {
        let number = || BoxSpace::all(-20.0, 20.0);
        Spec::new(SeenSpace { obs1: number(), obs2: Discrete::new(1), obs3: number() }, BoxSpace::all(-1.0, 1.0))
    }

    fn reset(&mut self, rng: &mut NumpyRng, _options: NoOptions) -> Result<View<Self>, EnvError> {
        Ok(View::new(draw(rng)))
    }

    fn step(&mut self, rng: &mut NumpyRng, _action: [f32; 3]) -> Result<Step<Self>, EnvError> {
        let seen = draw(rng);
        Ok(Step::new(seen, 0.0).terminated(rng.random() > 0.8))
    }
}

fn draw(rng: &mut NumpyRng) -> Seen {
    Seen { obs1: twins::goal(rng), obs2: 0, obs3: twins::goal(rng) }
}

rollcage_sdk::export!(Env);
