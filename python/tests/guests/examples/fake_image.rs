//! `FakeImageEnv` of Stable-Baselines3: random pictures of one channel, ten steps an episode.

use rollcage_sdk::prelude::*;

struct Env {
    step: u32,
}

impl Environment for Env {
    type Config = NoConfig;
    type Options = NoOptions;
    type ObservationSpace = BoxSpace<Vec<u8>>;
    type ActionSpace = Discrete;
    type InfoSpace = NoInfo;

    const NAME: &'static str = "fake-image";
    const SUMMARY: &'static str = "Random pictures";

    fn create(_config: NoConfig) -> Result<Self, CreateError> {
        Ok(Self { step: 0 })
    }

    fn spec(&self) -> Spec<Self> {
        Spec::new(BoxSpace::shaped(&[84, 84, 1], 0, 255), Discrete::new(6))
    }

    fn reset(&mut self, rng: &mut NumpyRng, _options: NoOptions) -> Result<View<Self>, EnvError> {
        self.step = 0;
        Ok(View::new(picture(rng)))
    }

    fn step(&mut self, rng: &mut NumpyRng, _action: i64) -> Result<Step<Self>, EnvError> {
        self.step += 1;
        Ok(Step::new(picture(rng), 0.0).truncated(self.step >= 10))
    }
}

fn picture(rng: &mut NumpyRng) -> Vec<u8> {
    (0..84 * 84).map(|_| twins::byte(rng)).collect()
}

rollcage_sdk::export!(Env);
