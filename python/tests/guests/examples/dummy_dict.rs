//! `DummyDictEnv` of `test_vec_normalize.py`: random observations of a Dict.

use rollcage_sdk::prelude::*;
use rollcage_sdk::serde_json::Value;

rollcage_sdk::dict! {
    struct Seen in SeenSpace {
        observation: BoxSpace<[f32; 4]>,
        achieved_goal: BoxSpace<[f32; 4]>,
        desired_goal: BoxSpace<[f32; 4]>,
    }
}

struct Env;

impl Environment for Env {
    type Config = NoConfig;
    type Options = NoOptions;
    type ObservationSpace = SeenSpace;
    type ActionSpace = BoxSpace<[f32; 3]>;
    type InfoSpace = NoInfo;

    const NAME: &'static str = "dummy-dict";
    const SUMMARY: &'static str = "Random observations of a Dict";

    fn create(_config: NoConfig) -> Result<Self, CreateError> {
        Ok(Self)
    }

    fn spec(&self) -> Spec<Self> {
        let number = || BoxSpace::all(-20.0, 20.0);
        Spec::new(
            SeenSpace { observation: number(), achieved_goal: number(), desired_goal: number() },
            BoxSpace::all(-1.0, 1.0),
        )
    }

    fn reset(&mut self, rng: &mut NumpyRng, _options: NoOptions) -> Result<View<Self>, EnvError> {
        Ok(View::new(draw(rng)))
    }

    fn step(&mut self, rng: &mut NumpyRng, _action: [f32; 3]) -> Result<Step<Self>, EnvError> {
        let seen = draw(rng);
        Ok(Step::new(seen, -1.0).terminated(rng.random() > 0.8))
    }

    fn call(&mut self, method: &str, arguments: Value) -> Result<Value, EnvError> {
        twins::goals::call(Self::NAME, method, &arguments)
    }
}

fn draw(rng: &mut NumpyRng) -> Seen {
    Seen { observation: twins::goal(rng), achieved_goal: twins::goal(rng), desired_goal: twins::goal(rng) }
}

rollcage_sdk::export!(Env);
