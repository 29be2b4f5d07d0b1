//! `StepEnv` of `test_vec_envs.py`: the observation is the number of the step before.

use rollcage_sdk::prelude::*;

rollcage_sdk::config! {
    /// What can be configured.
    struct Config {
        /// Steps of an episode.
        pub max_steps: u32 = 5,
    }
}

struct Env {
    max_steps: u32,
    step: u32,
}

impl Environment for Env {
    type Config = Config;
    type Options = NoOptions;
    type ObservationSpace = BoxSpace<[i64; 1]>;
    type ActionSpace = Discrete;
    type InfoSpace = NoInfo;

    const NAME: &'static str = "step-env";
    const SUMMARY: &'static str = "Counts its steps";

    fn create(config: Config) -> Result<Self, CreateError> {
        Ok(Self { max_steps: config.max_steps, step: 0 })
    }

    fn spec(&self) -> Spec<Self> {
        Spec::new(BoxSpace::all(0, 999), Discrete::new(2))
    }

    fn reset(&mut self, _rng: &mut NumpyRng, _options: NoOptions) -> Result<View<Self>, EnvError> {
        self.step = 0;
        Ok(View::new([0]))
    }

    fn step(&mut self, _rng: &mut NumpyRng, _action: i64) -> Result<Step<Self>, EnvError> {
        let before = self.step;
        self.step += 1;
        Ok(Step::new([before.into()], 0.0).truncated(self.step >= self.max_steps))
    }
}

rollcage_sdk::export!(Env);
