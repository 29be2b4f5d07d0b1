//! Goal: an action mask that changes with every step; a masked action is refused, and nothing has happened then.
//! Method: of four choices, `steps mod 4` and the one after it are open. From a step on that the config names, the env refuses those
//! too; or takes all, where the mask is advice.

use rollcage_sdk::prelude::*;

const CHOICES: i64 = 4;

rollcage_sdk::config! {
    /// What can be configured.
    pub struct Config {
        /// From which step on every action is refused, counted from 0. -1: never.
        #[schemars(range(min = -1))]
        pub refuse_from: i64 = -1,
        /// Whether the mask is advice.
        pub advised: bool = false,
    }
}

struct Masked {
    config: Config,
    steps: i64,
}

impl Environment for Masked {
    type Config = Config;
    type Options = NoOptions;
    /// Steps, and the last action (-1 after a reset).
    type ObservationSpace = BoxSpace<[i64; 2]>;
    type ActionSpace = Discrete;
    type InfoSpace = NoInfo;

    const NAME: &'static str = "masked";
    const SUMMARY: &'static str = "An action mask that changes with every step";

    fn create(config: Config) -> Result<Self, CreateError> {
        Ok(Self { config, steps: 0 })
    }

    fn spec(&self) -> Spec<Self> {
        let spec = Spec::new(BoxSpace::default(), Discrete::new(CHOICES)).max_episode_steps(20);
        if self.config.advised { spec.advised() } else { spec.masked() }
    }

    fn reset(&mut self, _rng: &mut NumpyRng, _options: NoOptions) -> Result<View<Self>, EnvError> {
        self.steps = 0;
        Ok(View::new([0, -1]))
    }

    fn step(&mut self, _rng: &mut NumpyRng, action: i64) -> Result<Step<Self>, EnvError> {
        if self.config.refuse_from != -1 && self.config.refuse_from <= self.steps {
            return Err(EnvError::invalid_action("not today"));
        }
        self.steps += 1;
        Ok(Step::new([self.steps, action], 1.0))
    }

    fn action_mask(&self) -> Vec<bool> {
        (0..CHOICES).map(|choice| (choice - self.steps).rem_euclid(CHOICES) < 2).collect()
    }
}

rollcage_sdk::export!(Masked);
