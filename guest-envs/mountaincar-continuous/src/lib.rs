//! MountainCarContinuous: a car in a valley is too weak to climb out at once, and has to swing up to the flag, with as
//! little force as it can.
//!
//! Gymnasium's `MountainCarContinuous-v0`, state for state.
//!
//! | action (f32, shape (1,))                |   | observation (f32, shape (2,)) | ends the episode            |
//! |-----------------------------------------|---|-------------------------------|-----------------------------|
//! | the force, from -1 (left) to 1 (right)  |   | position, m, -1.2 to 0.6      | at 0.45 or beyond, if it is |
//! |                                         |   | velocity, m a step, ±0.07     | `goal_velocity` or more     |
//!
//! A force outside its bounds pushes as the bound does, and is charged unclipped.

use rollcage_sdk::classic::{ResetBounds, Valley, single};
use rollcage_sdk::prelude::*;

const MIN_POSITION: f64 = -1.2;
const MAX_POSITION: f64 = 0.6;
const MAX_SPEED: f64 = 0.07;
const GOAL_POSITION: f64 = 0.45;
/// The velocity that a force of 1 adds.
const POWER: f64 = 0.0015;
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
pub struct MountainCarContinuous {
    config: Config,
    position: f64,
    velocity: f64,
    /// Whether this is the first state: in Gymnasium it has 64 bits, and every later one 32.
    first: bool,
}

impl Environment for MountainCarContinuous {
    type Config = Config;
    type Options = ResetBounds;
    type ObservationSpace = BoxSpace<[f32; 2]>;
    type ActionSpace = BoxSpace<[f32; 1]>;
    type InfoSpace = NoInfo;

    const NAME: &'static str = "mountaincar-continuous";
    const SUMMARY: &'static str =
        "Swing a weak car out of a valley with little force (Gymnasium's MountainCarContinuous-v0)";
    const RENDER_MODES: &'static [RenderMode] = &[RenderMode::RgbArray];
    const RENDER_FPS: u32 = 30;

    fn create(config: Config) -> Result<Self, CreateError> {
        Ok(Self { config, position: 0.0, velocity: 0.0, first: true })
    }

    fn spec(&self) -> Spec<Self> {
        let (low, high) = ([MIN_POSITION, -MAX_SPEED].map(single), [MAX_POSITION, MAX_SPEED].map(single));
        Spec::new(BoxSpace::new(low, high), BoxSpace::all(-1.0, 1.0))
            .out_of_bounds_passes()
            .max_episode_steps(999)
            .reward_threshold(90.0)
    }

    fn reset(&mut self, rng: &mut NumpyRng, bounds: ResetBounds) -> Result<View<Self>, EnvError> {
        let (low, high) = bounds.or(-0.6, -0.4)?;
        (self.position, self.velocity, self.first) = (rng.uniform(low, high), 0.0, true);
        Ok(View::new(self.observation()))
    }

    fn step(&mut self, _rng: &mut NumpyRng, [force]: [f32; 1]) -> Result<Step<Self>, EnvError> {
        // numpy reckons with the state in the precision that it has, and with the force in 32 bits. Where the force is clipped
        // it is Python's number, of 64 bits, until it meets the velocity.
        let wide = self.first;
        let round = |value: f64| if wide { value } else { single(value).into() };
        let slope = GRAVITY * round(3.0 * self.position).cos();
        let push = match force {
            -1.0..=1.0 => f64::from(force * single(POWER) - single(slope)),
            _ => round(POWER.copysign(force.into()) - slope),
        };
        let velocity = round(self.velocity + push);
        let mut velocity = velocity.clamp(round(-MAX_SPEED), round(MAX_SPEED));
        let position = round(self.position + velocity).clamp(round(MIN_POSITION), round(MAX_POSITION));
        if position == round(MIN_POSITION) && velocity < 0.0 {
            velocity = 0.0;
        }
        let there = position >= round(GOAL_POSITION) && velocity >= round(self.config.goal_velocity);
        let reward = if there { 100.0 } else { 0.0 } - f64::from(force) * f64::from(force) * 0.1;
        (self.position, self.velocity, self.first) = (single(position).into(), single(velocity).into(), false);
        Ok(Step::new(self.observation(), reward).terminated(there))
    }

    /// Draws the valley, the car on its wheels, the flag: 600 by 400 pixels.
    fn render(&self, _mode: RenderMode) -> Result<Frame, EnvError> {
        Ok(Valley { from: MIN_POSITION, to: MAX_POSITION, flag: GOAL_POSITION }.picture(self.position))
    }
}

impl MountainCarContinuous {
    fn observation(&self) -> [f32; 2] {
        [self.position, self.velocity].map(single)
    }
}

rollcage_sdk::export!(MountainCarContinuous);

#[cfg(test)]
mod tests {
    use super::*;
    use rollcage_sdk::testing::Native;

    #[test]
    fn the_first_state_is_gymnasiums() {
        let mut env = Native::<MountainCarContinuous>::new("{}").expect("the defaults");
        let first = env.reset(Some(123), Some(r#"{"low": -0.7, "high": -0.5}"#)).expect("options").observation;
        // The example in the docstring of gymnasium 1.4.0's Continuous_MountainCarEnv.
        assert!((first[0] - -0.563_529_6).abs() < 1e-7 && first[1] == 0.0, "{first:?}");
    }

    #[test]
    fn the_goal_pays_and_force_costs() {
        let mut env = Native::<MountainCarContinuous>::new("{}").expect("the defaults");
        let mut velocity = env.reset(Some(0), None).expect("a reset").observation[1];
        let last = (0..200).find_map(|_| {
            let step = env.step([if velocity < 0.0 { -1.0 } else { 1.0 }]).expect("a step");
            velocity = step.observation[1];
            assert_eq!(step.reward, if step.terminated { 99.9 } else { -0.1 });
            step.terminated.then_some(step.observation[0])
        });
        assert!(last.is_some_and(|position| position >= single(GOAL_POSITION)), "{last:?}");
    }

    #[test]
    fn a_force_outside_pushes_as_the_bound_and_is_charged_as_it_is() {
        let step = |force: f32| {
            let mut env = Native::<MountainCarContinuous>::new("{}").expect("the defaults");
            env.reset(Some(0), None).expect("a reset");
            let step = env.step([force]);
            assert!(env.render(RenderMode::RgbArray).is_ok());
            step.map(|step| (step.observation, step.reward))
        };
        let (bound, beyond) = (step(1.0).expect("a step"), step(1.5).expect("a step"));
        assert_eq!((bound.1, beyond.1), (-0.1, -0.225));
        assert!((bound.0[1] - beyond.0[1]).abs() < 1e-9, "{bound:?} {beyond:?}");
        for force in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            assert!(matches!(step(force), Err(EnvError::InvalidAction(_))), "{force}");
        }
    }
}
