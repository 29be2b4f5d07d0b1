//! Goal: an action mask that changes with every step; a masked action is refused, and nothing has happened then.
//! Method: of four choices, `steps mod 4` and the one after it are open.

use rollcage_sdk::prelude::*;

const CHOICES: i64 = 4;

struct Masked {
    steps: i64,
}

impl Environment for Masked {
    type Config = NoConfig;
    type Options = NoOptions;
    /// Steps, and the last action (-1 after a reset).
    type ObservationSpace = BoxSpace<[i64; 2]>;
    type ActionSpace = Discrete;
    type InfoSpace = NoInfo;

    const NAME: &'static str = "masked";
    const SUMMARY: &'static str = "An action mask that changes with every step";

    fn create(_config: NoConfig) -> Result<Self, CreateError> {
        Ok(Self { steps: 0 })
    }

    fn spec(&self) -> Spec<Self> {
        Spec::new(BoxSpace::default(), Discrete::new(CHOICES)).masked().max_episode_steps(20)
    }

    fn reset(&mut self, _rng: &mut NumpyRng, _options: NoOptions) -> Result<View<Self>, EnvError> {
        self.steps = 0;
        Ok(View::new([0, -1]))
    }

    fn step(&mut self, _rng: &mut NumpyRng, action: i64) -> Result<Step<Self>, EnvError> {
        self.steps += 1;
        Ok(Step::new([self.steps, action], 1.0))
    }

    fn action_mask(&self) -> Vec<bool> {
        (0..CHOICES).map(|choice| (choice - self.steps).rem_euclid(CHOICES) < 2).collect()
    }
}

rollcage_sdk::export!(Masked);
