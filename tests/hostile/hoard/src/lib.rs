//! Goal: learn that memory has an end without being ended: a refused growth is the guest's own -1, no fault.
//! Method: one `memory.grow` with every step, its result the observation; on demand a trap after it, in the same step
//! (which is then a fault of memory) or in the next (which is not).

use mischief::rollcage_sdk::prelude::*;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(default)]
struct Config {
    /// Pages of 64 KiB to ask for in every step.
    pages: u32,
    /// When to trap.
    then_trap: ThenTrap,
}

impl Default for Config {
    fn default() -> Self {
        Self { pages: 65_535, then_trap: ThenTrap::Never }
    }
}

#[derive(Clone, Copy, Debug, Deserialize, Serialize, JsonSchema, PartialEq, Eq)]
#[serde(rename_all = "kebab-case")]
enum ThenTrap {
    /// Goes on.
    Never,
    /// In the first step, after the growth.
    SameStep,
    /// In the second step, before its growth.
    NextStep,
}

struct Hoard {
    config: Config,
    steps: i64,
}

impl Environment for Hoard {
    type Config = Config;
    type Options = NoOptions;
    /// Steps, the action, what the last `memory.grow` returned: pages before it, or -1.
    type ObservationSpace = BoxSpace<[i64; 3]>;
    type ActionSpace = Discrete;
    type InfoSpace = NoInfo;

    const NAME: &'static str = "hoard";
    const SUMMARY: &'static str = "Asks for more memory than there is, and goes on";

    fn create(config: Config) -> Result<Self, CreateError> {
        Ok(Self { config, steps: 0 })
    }

    fn spec(&self) -> Spec<Self> {
        Spec::new(BoxSpace::default(), Discrete::new(2))
    }

    fn reset(&mut self, _rng: &mut NumpyRng, _options: NoOptions) -> Result<View<Self>, EnvError> {
        self.steps = 0;
        Ok(View::new([0, -1, 0]))
    }

    fn step(&mut self, _rng: &mut NumpyRng, action: i64) -> Result<Step<Self>, EnvError> {
        if self.config.then_trap == ThenTrap::NextStep && self.steps == 1 {
            core::arch::wasm32::unreachable();
        }
        let pages_before = grow(self.config.pages);
        if self.config.then_trap == ThenTrap::SameStep {
            core::arch::wasm32::unreachable();
        }
        self.steps += 1;
        Ok(Step::new([self.steps, action, pages_before], 1.0))
    }
}

/// The instruction: pages before it, or -1.
fn grow(pages: u32) -> i64 {
    let before = core::arch::wasm32::memory_grow::<0>(pages as usize);
    if before == usize::MAX { -1 } else { i64::try_from(before).expect("at most 65,536 pages") }
}

mischief::export!(env Hoard);
