//! A corridor: walk to its right end, over a floor that is slippery here and there.

use rollcage_sdk::prelude::*;

rollcage_sdk::config! {
    /// What can be configured.
    pub struct Config {
        /// Number of cells.
        #[schemars(range(min = 3, max = 100))]
        pub size: i64 = 9,
        /// Probability that a step goes the other way.
        #[schemars(range(min = 0.0, max = 1.0))]
        pub slip: f64 = 0.1,
    }
}

/// The env.
pub struct MyEnv {
    config: Config,
    at: i64,
}

impl Environment for MyEnv {
    type Config = Config;
    type Options = NoOptions;
    type ObservationSpace = Discrete;
    type ActionSpace = Discrete;
    type InfoSpace = NoInfo;

    const NAME: &'static str = "my-env";
    const SUMMARY: &'static str = "@SUMMARY@";
    const RENDER_MODES: &'static [RenderMode] = &[RenderMode::Ansi];
    const RENDER_FPS: u32 = 10;

    fn create(config: Config) -> Result<Self, CreateError> {
        Ok(Self { config, at: 0 })
    }

    fn spec(&self) -> Spec<Self> {
        Spec::new(Discrete::new(self.config.size), Discrete::new(2)).max_episode_steps(200)
    }

    fn reset(&mut self, rng: &mut NumpyRng, _options: NoOptions) -> Result<View<Self>, EnvError> {
        self.at = rng.integers(0, self.config.size / 2);
        Ok(View::new(self.at))
    }

    fn step(&mut self, rng: &mut NumpyRng, action: i64) -> Result<Step<Self>, EnvError> {
        let forward = (action == 1) != (rng.random() < self.config.slip);
        self.at = (self.at + if forward { 1 } else { -1 }).clamp(0, self.config.size - 1);
        let done = self.at == self.config.size - 1;
        Ok(Step::new(self.at, if done { 1.0 } else { -0.01 }).terminated(done))
    }

    fn render(&self, _mode: RenderMode) -> Result<Frame, EnvError> {
        let cells = (0..self.config.size).map(|cell| if cell == self.at { 'x' } else { '.' });
        Ok(Frame::Text(cells.collect()))
    }
}

rollcage_sdk::export!(MyEnv);
