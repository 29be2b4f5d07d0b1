//! MountainCar: a car in a valley is too weak to climb out at once, and has to swing up to the flag.
//!
//! Gymnasium's `MountainCar-v0`, state for state.
//!
//! | action | effect                  |   | observation (f32, shape (2,)) | ends the episode           |
//! |--------|-------------------------|---|-------------------------------|----------------------------|
//! | 0      | accelerate to the left  |   | position, m, -1.2 to 0.6      | at 0.5 or beyond, if it is |
//! | 1      | do not accelerate       |   | velocity, m a step, ±0.07     | `goal_velocity` or more    |
//! | 2      | accelerate to the right |   |                               |                            |

use rollcage_sdk::classic::{ResetBounds, Valley, single};
use rollcage_sdk::prelude::*;

const MIN_POSITION: f64 = -1.2;
const MAX_POSITION: f64 = 0.6;
const MAX_SPEED: f64 = 0.07;
const GOAL_POSITION: f64 = 0.5;
/// The velocity that one action adds.
const FORCE: f64 = 0.001;
const GRAVITY: f64 = 0.0025;

rollcage_sdk::config! {
    /// What can be configured.
    pub struct Config {
        /// The velocity that the car needs at the flag for the episode to end.
        pub goal_velocity: f64 = 0.0,
    }
}

/// The env.
#[derive(Clone, Debug)]
pub struct MountainCar {
    config: Config,
    position: f64,
    velocity: f64,
}

impl Environment for MountainCar {
    type Config = Config;
    type Options = ResetBounds;
    type ObservationSpace = BoxSpace<[f32; 2]>;
    type ActionSpace = Discrete;
    type InfoSpace = NoInfo;

    const NAME: &'static str = "mountaincar";
    const SUMMARY: &'static str = "Swing a weak car out of a valley (Gymnasium's MountainCar-v0)";
    const RENDER_MODES: &'static [RenderMode] = &[RenderMode::RgbArray];
    const RENDER_FPS: u32 = 30;

    fn create(config: Config) -> Result<Self, CreateError> {
        Ok(Self { config, position: 0.0, velocity: 0.0 })
    }

    fn spec(&self) -> Spec<Self> {
        let (low, high) = ([MIN_POSITION, -MAX_SPEED].map(single), [MAX_POSITION, MAX_SPEED].map(single));
        Spec::new(BoxSpace::new(low, high), Discrete::new(3)).max_episode_steps(200).reward_threshold(-110.0)
    }

    fn reset(&mut self, rng: &mut NumpyRng, bounds: ResetBounds) -> Result<View<Self>, EnvError> {
        let (low, high) = bounds.or(-0.6, -0.4)?;
        (self.position, self.velocity) = (rng.uniform(low, high), 0.0);
        Ok(View::new(self.observation()))
    }

    fn step(&mut self, _rng: &mut NumpyRng, action: i64) -> Result<Step<Self>, EnvError> {
        let push = match action {
            0 => -FORCE,
            1 => 0.0,
            _ => FORCE,
        };
        self.velocity += push + (3.0 * self.position).cos() * -GRAVITY;
        self.velocity = self.velocity.clamp(-MAX_SPEED, MAX_SPEED);
        self.position = (self.position + self.velocity).clamp(MIN_POSITION, MAX_POSITION);
        if self.position == MIN_POSITION && self.velocity < 0.0 {
            self.velocity = 0.0;
        }
        let there = self.position >= GOAL_POSITION && self.velocity >= self.config.goal_velocity;
        Ok(Step::new(self.observation(), -1.0).terminated(there))
    }

    /// Draws the valley, the car on its wheels, the flag: 600 by 400 pixels.
    fn render(&self, _mode: RenderMode) -> Result<Frame, EnvError> {
        Ok(Valley { from: MIN_POSITION, to: MAX_POSITION, flag: GOAL_POSITION }.picture(self.position))
    }
}

impl MountainCar {
    fn observation(&self) -> [f32; 2] {
        [self.position, self.velocity].map(single)
    }
}

rollcage_sdk::export!(MountainCar);

#[cfg(test)]
mod tests {
    use super::*;
    use rollcage_sdk::testing::Native;

    #[test]
    fn the_first_state_is_gymnasiums() {
        let mut env = Native::<MountainCar>::new("{}").expect("the defaults");
        let first = env.reset(Some(123), Some(r#"{"low": -0.7, "high": 0.5}"#)).expect("options").observation;
        // The example in the docstring of gymnasium 1.4.0's MountainCarEnv.
        assert!((first[0] - 0.118_822_24).abs() < 1e-7 && first[1] == 0.0, "{first:?}");
    }

    #[test]
    fn swinging_with_the_motion_climbs_out() {
        // No car is faster than 0.07.
        for (config, ends) in [("{}", true), (r#"{"goal_velocity": 0.08}"#, false)] {
            let mut env = Native::<MountainCar>::new(config).expect("a config");
            let mut velocity = env.reset(Some(0), None).expect("a reset").observation[1];
            let ended = (0..150).any(|_| {
                let step = env.step(if velocity < 0.0 { 0 } else { 2 }).expect("a step");
                velocity = step.observation[1];
                assert_eq!(step.reward, -1.0);
                step.terminated
            });
            assert_eq!(ended, ends, "{config}");
        }
    }

    #[test]
    fn the_wall_stops_the_car() {
        let mut env = Native::<MountainCar>::new("{}").expect("the defaults");
        env.reset(Some(0), Some(r#"{"low": -1.19, "high": -1.19}"#)).expect("a reset");
        let seen: Vec<_> = (0..60).map(|_| env.step(0).expect("a step").observation).collect();
        assert!(seen.iter().all(|[position, _]| *position >= single(MIN_POSITION)), "{seen:?}");
        assert!(env.reset(None, Some(r#"{"low": 1, "high": 0}"#)).is_err());
    }

    #[test]
    fn the_picture_has_the_car_where_it_is() {
        let mut env = Native::<MountainCar>::new("{}").expect("the defaults");
        env.reset(Some(0), Some(r#"{"low": -0.3, "high": -0.3}"#)).expect("a reset");
        let Ok(Frame::Rgb(image)) = env.render(RenderMode::RgbArray) else { panic!("no picture") };
        assert_eq!((image.width, image.height, image.pixels.len()), (600, 400, 600 * 400 * 3));
        let dark = |x: usize| (0..400).filter(|y| image.pixels[(y * 600 + x) * 3..][..3] == [0; 3]).count();
        // 0.9 m from the left edge of 1.8 m.
        assert!(dark(300) > 15 && dark(500) < 15, "{} {}", dark(300), dark(500));
    }
}
