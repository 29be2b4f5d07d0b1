//! `IdentityEnv` of Stable-Baselines3: the right action is what was seen.

use rollcage_sdk::prelude::*;

rollcage_sdk::config! {
    /// What can be configured.
    struct Config {
        /// How many observations and actions there are.
        pub dim: u32 = 1,
        /// Steps of an episode.
        pub ep_length: u32 = 100,
    }
}

struct Env {
    config: Config,
    seen: i64,
    step: u32,
}

impl Environment for Env {
    type Config = Config;
    type Options = NoOptions;
    type ObservationSpace = Discrete;
    type ActionSpace = Discrete;
    type InfoSpace = NoInfo;

    const NAME: &'static str = "identity";
    const SUMMARY: &'static str = "The right action is what was seen";

    fn create(config: Config) -> Result<Self, CreateError> {
        if config.dim == 0 {
            return Err(CreateError::config("dim", "at least 1"));
        }
        Ok(Self { config, seen: 0, step: 0 })
    }

    fn spec(&self) -> Spec<Self> {
        let space = || Discrete::new(self.config.dim.into());
        Spec::new(space(), space())
    }

    fn reset(&mut self, rng: &mut NumpyRng, _options: NoOptions) -> Result<View<Self>, EnvError> {
        self.step = 0;
        self.seen = rng.integers(0, self.config.dim.into());
        Ok(View::new(self.seen))
    }

    fn step(&mut self, rng: &mut NumpyRng, action: i64) -> Result<Step<Self>, EnvError> {
        let right = action == self.seen;
        self.seen = rng.integers(0, self.config.dim.into());
        self.step += 1;
        Ok(Step::new(self.seen, f64::from(u8::from(right))).truncated(self.step >= self.config.ep_length))
    }
}

rollcage_sdk::export!(Env);
