//! A cart on a rail: push it to a place, and let it stand still there.

use rollcage_sdk::prelude::*;

/// Seconds between two states.
const TAU: f64 = 0.05;
/// How far the rail goes to either side, in metres.
const RAIL: f64 = 2.0;
/// The greatest speed, in metres a second.
const SPEED: f64 = 10.0;

rollcage_sdk::config! {
    /// What can be configured.
    pub struct Config {
        /// The part of its speed that the cart loses in a second.
        #[schemars(range(min = 0.0, max = 1.0))]
        pub friction: f64 = 0.1,
    }
}

/// The env.
pub struct MyEnv {
    config: Config,
    position: f64,
    speed: f64,
    goal: f64,
}

impl Environment for MyEnv {
    type Config = Config;
    type Options = NoOptions;
    type ObservationSpace = BoxSpace<[f32; 3]>;
    type ActionSpace = BoxSpace<[f32; 1]>;
    type InfoSpace = NoInfo;

    const NAME: &'static str = "my-env";
    const SUMMARY: &'static str = "@SUMMARY@";
    const RENDER_MODES: &'static [RenderMode] = &[RenderMode::Ansi];
    const RENDER_FPS: u32 = 20;

    fn create(config: Config) -> Result<Self, CreateError> {
        Ok(Self {
            config,
            position: 0.0,
            speed: 0.0,
            goal: 0.0,
        })
    }

    fn spec(&self) -> Spec<Self> {
        let high = [RAIL, SPEED, RAIL].map(|bound| bound as f32);
        let observations = BoxSpace::new(high.map(|bound| -bound), high);
        // `step` clips pushes itself. Without `out_of_bounds_passes`, those beyond 1 are refused.
        Spec::new(observations, BoxSpace::all(-1.0, 1.0))
            .out_of_bounds_passes()
            .max_episode_steps(200)
    }

    fn reset(&mut self, rng: &mut NumpyRng, _options: NoOptions) -> Result<View<Self>, EnvError> {
        [self.position, self.goal] = rng.uniform_array(-RAIL, RAIL);
        self.speed = 0.0;
        Ok(View::new(self.observe()))
    }

    fn step(&mut self, _rng: &mut NumpyRng, [push]: [f32; 1]) -> Result<Step<Self>, EnvError> {
        let push = f64::from(push).clamp(-1.0, 1.0);
        self.speed =
            (self.speed * (1.0 - self.config.friction * TAU) + push * TAU).clamp(-SPEED, SPEED);
        self.position += self.speed * TAU;
        if self.position.abs() > RAIL {
            // The end of the rail is soft.
            (self.position, self.speed) = (RAIL.copysign(self.position), 0.0);
        }
        let away = (self.position - self.goal).abs();
        let done = away < 0.05 && self.speed.abs() < 0.1;
        let reward = if done {
            10.0
        } else {
            -away - 0.1 * push * push
        };
        Ok(Step::new(self.observe(), reward).terminated(done))
    }

    fn render(&self, _mode: RenderMode) -> Result<Frame, EnvError> {
        let mut cells = ['-'; 41];
        for (place, mark) in [(self.goal, '|'), (self.position, 'O')] {
            cells[((place / RAIL + 1.0) * 20.0).round() as usize] = mark;
        }
        Ok(Frame::Text(cells.iter().collect()))
    }
}

impl MyEnv {
    fn observe(&self) -> [f32; 3] {
        [self.position, self.speed, self.goal].map(|number| number as f32)
    }
}

rollcage_sdk::export!(MyEnv);
