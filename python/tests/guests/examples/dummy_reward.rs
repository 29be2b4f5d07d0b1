//! `DummyRewardEnv` of `test_vec_normalize.py`: four known rewards in turn, which are the observations too.

use rollcage_sdk::prelude::*;

const REWARDS: [f32; 4] = [0.0, 1.0, 3.0, 4.0];

rollcage_sdk::config! {
    /// What can be configured.
    struct Config {
        /// The first reward's index.
        pub return_reward_idx: u8 = 0,
    }
}

struct Env {
    first: usize,
    t: usize,
}

impl Environment for Env {
    type Config = Config;
    type Options = NoOptions;
    type ObservationSpace = BoxSpace<[f32; 1]>;
    type ActionSpace = Discrete;
    type InfoSpace = NoInfo;

    const NAME: &'static str = "dummy-reward";
    const SUMMARY: &'static str = "Four known rewards in turn";

    fn create(config: Config) -> Result<Self, CreateError> {
        let first = usize::from(config.return_reward_idx);
        if first >= REWARDS.len() {
            return Err(CreateError::config("return_reward_idx", "from 0 to 3"));
        }
        Ok(Self { first, t: first })
    }

    fn spec(&self) -> Spec<Self> {
        Spec::new(BoxSpace::all(-1.0, 1.0), Discrete::new(2))
    }

    fn reset(&mut self, _rng: &mut NumpyRng, _options: NoOptions) -> Result<View<Self>, EnvError> {
        self.t = 0;
        Ok(View::new([REWARDS[self.first]]))
    }

    fn step(&mut self, _rng: &mut NumpyRng, _action: i64) -> Result<Step<Self>, EnvError> {
        self.t += 1;
        let value = REWARDS[(self.t + self.first) % REWARDS.len()];
        Ok(Step::new([value], value.into()).truncated(self.t == REWARDS.len()))
    }
}

rollcage_sdk::export!(Env);
