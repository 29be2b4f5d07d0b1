//! Goal: envs of one run whose spaces differ, each of which is fine by itself.
//! Method: the number of choices and the length of the observation are the config's `n`.

use rollcage_sdk::prelude::*;
use schemars::JsonSchema;
use serde::Deserialize;

#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(default)]
struct Config {
    /// Choices, and numbers in an observation.
    #[schemars(range(min = 1, max = 64))]
    n: u32,
}

impl Default for Config {
    fn default() -> Self {
        Self { n: 2 }
    }
}

struct DifferingSpaces {
    n: u32,
    steps: i64,
}

impl Environment for DifferingSpaces {
    type Config = Config;
    type Options = NoOptions;
    /// Every number is that of steps.
    type ObservationSpace = BoxSpace<Vec<i64>>;
    type ActionSpace = Discrete;
    type InfoSpace = NoInfo;

    const NAME: &'static str = "differing-spaces";
    const SUMMARY: &'static str = "Spaces that depend on the config";

    fn create(Config { n }: Config) -> Result<Self, CreateError> {
        Ok(Self { n, steps: 0 })
    }

    fn spec(&self) -> Spec<Self> {
        Spec::new(BoxSpace::shaped(&[self.n], 0, i64::MAX), Discrete::new(i64::from(self.n)))
    }

    fn reset(&mut self, _rng: &mut NumpyRng, _options: NoOptions) -> Result<View<Self>, EnvError> {
        self.steps = 0;
        Ok(View::new(vec![0; self.n as usize]))
    }

    fn step(&mut self, _rng: &mut NumpyRng, _action: i64) -> Result<Step<Self>, EnvError> {
        self.steps += 1;
        Ok(Step::new(vec![self.steps; self.n as usize], 1.0))
    }
}

rollcage_sdk::export!(DifferingSpaces);
