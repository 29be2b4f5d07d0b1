//! `IdentityEnvBox` of Stable-Baselines3: the right action is what was seen, or near it.

use rollcage_sdk::prelude::*;

rollcage_sdk::config! {
    /// What can be configured.
    struct Config {
        /// The least number.
        pub low: f32 = -1.0,
        /// The largest.
        pub high: f32 = 1.0,
        /// How near is near.
        pub eps: f32 = 0.05,
        /// Steps of an episode.
        pub ep_length: u32 = 100,
    }
}

struct Env {
    config: Config,
    seen: f32,
    step: u32,
}

impl Environment for Env {
    type Config = Config;
    type Options = NoOptions;
    type ObservationSpace = BoxSpace<[f32; 1]>;
    type ActionSpace = BoxSpace<[f32; 1]>;
    type InfoSpace = NoInfo;

    const NAME: &'static str = "identity-box";
    const SUMMARY: &'static str = "The right action is near what was seen";

    fn create(config: Config) -> Result<Self, CreateError> {
        Ok(Self { config, seen: 0.0, step: 0 })
    }

    fn spec(&self) -> Spec<Self> {
        let space = || BoxSpace::all(self.config.low, self.config.high);
        Spec::new(space(), space())
    }

    fn reset(&mut self, rng: &mut NumpyRng, _options: NoOptions) -> Result<View<Self>, EnvError> {
        self.step = 0;
        Ok(View::new([self.look(rng)]))
    }

    fn step(&mut self, rng: &mut NumpyRng, [action]: [f32; 1]) -> Result<Step<Self>, EnvError> {
        let right = (action - self.seen).abs() <= self.config.eps;
        self.step += 1;
        let seen = self.look(rng);
        Ok(Step::new([seen], f64::from(u8::from(right))).truncated(self.step >= self.config.ep_length))
    }
}

impl Env {
    fn look(&mut self, rng: &mut NumpyRng) -> f32 {
        let Config { low, high, .. } = self.config;
        self.seen = (low + twins::unit(rng) * (high - low)).clamp(low, high);
        self.seen
    }
}

rollcage_sdk::export!(Env);
