//! Goal: reset options that reach the env, and ones that it refuses.
//! Method: `start` is where the count begins; an unknown key is refused by the SDK, a negative start by the env itself.

use rollcage_sdk::prelude::*;
use serde::Deserialize;

#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct StartOptions {
    start: i64,
}

struct Options {
    start: i64,
    steps: i64,
}

impl Environment for Options {
    type Config = NoConfig;
    type Options = StartOptions;
    /// Where the count began, where it is, and a number drawn from 0 to 2^31 - 1.
    type ObservationSpace = BoxSpace<[i64; 3]>;
    type ActionSpace = Discrete;
    type InfoSpace = NoInfo;

    const NAME: &'static str = "options";
    const SUMMARY: &'static str = "Reset options";

    fn create(_config: NoConfig) -> Result<Self, CreateError> {
        Ok(Self { start: 0, steps: 0 })
    }

    fn spec(&self) -> Spec<Self> {
        Spec::new(BoxSpace::default(), Discrete::new(2))
    }

    fn reset(&mut self, rng: &mut NumpyRng, StartOptions { start }: StartOptions) -> Result<View<Self>, EnvError> {
        if start < 0 {
            return Err(EnvError::invalid_options(format!("`start` is {start}, which is less than 0")));
        }
        (self.start, self.steps) = (start, 0);
        Ok(View::new(self.observation(rng)))
    }

    /// An episode is three steps long, so that automatic resets come soon.
    fn step(&mut self, rng: &mut NumpyRng, _action: i64) -> Result<Step<Self>, EnvError> {
        self.steps += 1;
        Ok(Step::new(self.observation(rng), 1.0).terminated(self.steps == 3))
    }
}

impl Options {
    fn observation(&self, rng: &mut NumpyRng) -> [i64; 3] {
        [self.start, self.start + self.steps, rng.integers(0, 1 << 31)]
    }
}

rollcage_sdk::export!(Options);
