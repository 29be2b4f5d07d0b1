//! Goal: show whether an answer belongs to its action, also after a step that was interrupted or timed out.
//! Method: the observation holds the action, counters that never go back, and a draw from the generator. Steps can be made
//! to take long, or for ever.

use rollcage_sdk::prelude::*;
use schemars::JsonSchema;
use serde::Deserialize;

#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(default)]
struct Config {
    /// Turns of an empty loop in every step; a thousand million are about half a second.
    spins: u64,
    /// Only in this step of every episode, counted from 0. -1: in every one.
    #[schemars(range(min = -1))]
    spins_at: i64,
    /// The step of the instance, counted from 0 over all episodes, that never answers. -1: all do.
    #[schemars(range(min = -1))]
    hang_at: i64,
    /// Steps after which an episode terminates. -1: it never does.
    #[schemars(range(min = -1))]
    length: i64,
}

impl Default for Config {
    fn default() -> Self {
        Self { spins: 0, spins_at: -1, hang_at: -1, length: -1 }
    }
}

struct Echo {
    config: Config,
    /// Steps of the instance.
    total: i64,
    /// Episodes of the instance.
    episodes: i64,
    /// Steps of the episode.
    steps: i64,
}

impl Environment for Echo {
    type Config = Config;
    type Options = NoOptions;
    /// The action (-1 after a reset), steps of the instance, episode of the instance, step of the episode, and a number
    /// drawn from 0 to 2^31 - 1.
    type ObservationSpace = BoxSpace<[i64; 5]>;
    type ActionSpace = Discrete;
    type InfoSpace = NoInfo;

    const NAME: &'static str = "echo";
    const SUMMARY: &'static str = "Observations that show which action they answer";

    fn create(config: Config) -> Result<Self, CreateError> {
        Ok(Self { config, total: 0, episodes: -1, steps: 0 })
    }

    fn spec(&self) -> Spec<Self> {
        Spec::new(BoxSpace::default(), Discrete::new(1000))
    }

    fn reset(&mut self, rng: &mut NumpyRng, _options: NoOptions) -> Result<View<Self>, EnvError> {
        self.episodes += 1;
        self.steps = 0;
        Ok(View::new(self.observation(-1, rng)))
    }

    fn step(&mut self, rng: &mut NumpyRng, action: i64) -> Result<Step<Self>, EnvError> {
        if self.total == self.config.hang_at {
            loop {
                std::hint::spin_loop();
            }
        }
        if self.config.spins_at == -1 || self.config.spins_at == self.steps {
            for turn in 0..self.config.spins {
                std::hint::black_box(turn);
            }
        }
        self.total += 1;
        self.steps += 1;
        // The reward shows the action too.
        let reward = i32::try_from(action).expect("below 1000").into();
        Ok(Step::new(self.observation(action, rng), reward).terminated(self.steps == self.config.length))
    }
}

impl Echo {
    fn observation(&self, action: i64, rng: &mut NumpyRng) -> [i64; 5] {
        [action, self.total, self.episodes, self.steps, rng.integers(0, 1 << 31)]
    }
}

rollcage_sdk::export!(Echo);
