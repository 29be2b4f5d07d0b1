//! CartPole: a pole stands on a cart, and the cart is pushed left or right so that it stays up.
//!
//! Gymnasium's `CartPole-v1`, state for state. This is the env to read first; every other has its order.
//!
//! | action | effect        |   | observation (f32, shape (4,)) | ends the episode |
//! |--------|---------------|---|-------------------------------|------------------|
//! | 0      | push to left  |   | position of the cart, m       | beyond ±2.4      |
//! | 1      | push to right |   | its velocity, m/s             |                  |
//! |        |               |   | angle of the pole, rad        | beyond ±12°      |
//! |        |               |   | its angular velocity, rad/s   |                  |

use std::f64::consts::PI;

use rollcage_sdk::classic::{ResetBounds, single};
use rollcage_sdk::draw::{corners, turned};
use rollcage_sdk::prelude::*;

const GRAVITY: f64 = 9.8;
const MASS_CART: f64 = 1.0;
const MASS_POLE: f64 = 0.1;
const TOTAL_MASS: f64 = MASS_POLE + MASS_CART;
/// Half the pole's length, in metres.
const LENGTH: f64 = 0.5;
const POLE_MASS_LENGTH: f64 = MASS_POLE * LENGTH;
/// The force of a push, in newtons.
const FORCE: f64 = 10.0;
/// The time from one state to the next, in seconds.
const TAU: f64 = 0.02;
/// The angle beyond which the pole counts as fallen, in radians.
const THETA_LIMIT: f64 = 12.0 * 2.0 * PI / 360.0;
/// The position beyond which the cart has left its track, in metres.
const X_LIMIT: f64 = 2.4;

rollcage_sdk::config! {
    /// What can be configured.
    pub struct Config {
        /// Reward 0 for every step and -1 for the fall, as Sutton and Barto have it, instead of 1 for every step.
        pub sutton_barto_reward: bool = false,
    }
}

/// The env.
#[derive(Clone, Debug)]
pub struct CartPole {
    config: Config,
    /// Position, velocity, angle, angular velocity.
    state: [f64; 4],
}

impl Environment for CartPole {
    type Config = Config;
    type Options = ResetBounds;
    type ObservationSpace = BoxSpace<[f32; 4]>;
    type ActionSpace = Discrete;
    type InfoSpace = NoInfo;

    const NAME: &'static str = "cartpole";
    const SUMMARY: &'static str =
        "Balance a pole on a cart by pushing the cart left or right (Gymnasium's CartPole-v1)";
    const RENDER_MODES: &'static [RenderMode] = &[RenderMode::RgbArray];
    const RENDER_FPS: u32 = 50;

    fn create(config: Config) -> Result<Self, CreateError> {
        Ok(Self { config, state: [0.0; 4] })
    }

    fn spec(&self) -> Spec<Self> {
        // Twice the limits, so that the state in which an episode ends is in the space too.
        let high = [X_LIMIT * 2.0, f64::INFINITY, THETA_LIMIT * 2.0, f64::INFINITY].map(single);
        Spec::new(BoxSpace::new(high.map(|bound| -bound), high), Discrete::new(2))
            .max_episode_steps(500)
            .reward_threshold(475.0)
    }

    fn reset(&mut self, rng: &mut NumpyRng, bounds: ResetBounds) -> Result<View<Self>, EnvError> {
        let (low, high) = bounds.or(-0.05, 0.05)?;
        self.state = rng.uniform_array(low, high);
        Ok(View::new(self.observation()))
    }

    fn step(&mut self, _rng: &mut NumpyRng, action: i64) -> Result<Step<Self>, EnvError> {
        let [x, x_dot, theta, theta_dot] = self.state;
        let force = if action == 1 { FORCE } else { -FORCE };
        let (sin, cos) = (theta.sin(), theta.cos());

        // R. V. Florian, "Correct equations for the dynamics of the cart-pole system", without friction.
        let push = (force + POLE_MASS_LENGTH * (theta_dot * theta_dot) * sin) / TOTAL_MASS;
        let theta_acc = (GRAVITY * sin - cos * push) / (LENGTH * (4.0 / 3.0 - MASS_POLE * (cos * cos) / TOTAL_MASS));
        let x_acc = push - POLE_MASS_LENGTH * theta_acc * cos / TOTAL_MASS;

        let (x, theta) = (x + TAU * x_dot, theta + TAU * theta_dot);
        self.state = [x, x_dot + TAU * x_acc, theta, theta_dot + TAU * theta_acc];

        let fallen = x.abs() > X_LIMIT || theta.abs() > THETA_LIMIT;
        let reward = match (self.config.sutton_barto_reward, fallen) {
            (false, _) => 1.0,
            (true, false) => 0.0,
            (true, true) => -1.0,
        };
        Ok(Step::new(self.observation(), reward).terminated(fallen))
    }

    /// Draws the track, the cart on it, the pole and its axle: 600 by 400 pixels.
    fn render(&self, _mode: RenderMode) -> Result<Frame, EnvError> {
        const SCALE: f64 = 600.0 / (X_LIMIT * 2.0);
        const TRACK: f64 = 300.0;
        const POLE_WIDTH: f64 = 10.0;
        const POLE_LENGTH: f64 = SCALE * LENGTH * 2.0;

        let mut canvas = Canvas::new(600, 400, [255; 3]);
        let [x, _, theta, _] = self.state;
        let (cart, axle) = (x * SCALE + 300.0, TRACK - 7.5);
        canvas.rectangle((0.0, TRACK - 1.0), (600.0, 1.0), [0; 3]);
        canvas.rectangle((cart - 25.0, TRACK - 15.0), (50.0, 30.0), [0; 3]);
        let upright = corners(-POLE_WIDTH / 2.0, POLE_WIDTH / 2.0 - POLE_LENGTH, POLE_WIDTH / 2.0, POLE_WIDTH / 2.0);
        canvas.polygon(&turned(upright, theta, (cart, axle)), [202, 152, 101]);
        canvas.disc((cart, axle), POLE_WIDTH / 2.0, [129, 132, 203]);
        Ok(canvas.into_frame())
    }
}

impl CartPole {
    fn observation(&self) -> [f32; 4] {
        self.state.map(single)
    }
}

rollcage_sdk::export!(CartPole);

#[cfg(test)]
mod tests {
    use super::*;
    use rollcage_sdk::testing::Native;

    #[test]
    fn the_first_states_are_gymnasiums() {
        let mut env = Native::<CartPole>::new("{}").expect("the defaults");
        let first = env.reset(Some(123), Some(r#"{"low": -0.1, "high": 0.1}"#)).expect("options").observation;
        // The example in the docstring of gymnasium 1.4.0's CartPoleEnv.
        let gymnasium = [0.036_470_37, -0.089_235_8, -0.055_928_03, -0.063_125_64];
        assert!(first.iter().zip(gymnasium).all(|(a, b)| (a - b).abs() < 1e-7), "{first:?}");
    }

    #[test]
    fn refused_options_change_nothing() {
        let mut env = Native::<CartPole>::new("{}").expect("the defaults");
        env.reset(Some(1), None).expect("a reset");
        let mut twin = Native::<CartPole>::new("{}").expect("the defaults");
        twin.reset(Some(1), None).expect("a reset");
        for options in [r#"{"low": 1}"#, r#"{"lo": 0}"#, r#"{"low": "x"}"#, r#"{"low": -1e308, "high": 1e308}"#] {
            for seed in [None, Some(5)] {
                let refused = env.reset(seed, Some(options)).map(|view| view.observation);
                assert!(matches!(refused, Err(EnvError::InvalidOptions(_))), "{options}: {refused:?}");
            }
        }
        assert_eq!(env.step(1).expect("a step").observation, twin.step(1).expect("a step").observation);
        let next = |env: &mut Native<CartPole>| env.reset(None, None).expect("a reset").observation;
        assert_eq!(next(&mut env), next(&mut twin));
    }

    #[test]
    fn a_fallen_pole_needs_a_reset() {
        for (config, last) in [("{}", 1.0), (r#"{"sutton_barto_reward": true}"#, -1.0)] {
            let mut env = Native::<CartPole>::new(config).expect("a config");
            assert_eq!(env.step(1).map(|step| step.reward), Err(EnvError::NeedsReset));
            env.reset(Some(0), None).expect("a reset");
            let fall = (0..500).map(|_| env.step(1).expect("a step")).find(|step| step.terminated).expect("a fall");
            assert_eq!(fall.reward, last);
            assert_eq!(env.step(1).map(|step| step.reward), Err(EnvError::NeedsReset));
            env.reset(None, None).expect("a reset");
            assert!(env.step(1).is_ok());
        }
    }

    #[test]
    fn the_picture_shows_cart_and_pole() {
        let mut env = Native::<CartPole>::new("{}").expect("the defaults");
        assert_eq!(env.render(RenderMode::RgbArray).err(), Some(EnvError::NeedsReset));
        env.reset(Some(0), Some(r#"{"low": 0, "high": 0}"#)).expect("a reset");
        assert!(matches!(env.render(RenderMode::Ansi), Err(EnvError::Unsupported(_))));
        let Ok(Frame::Rgb(image)) = env.render(RenderMode::RgbArray) else { panic!("no picture") };
        assert_eq!((image.width, image.height, image.pixels.len()), (600, 400, 600 * 400 * 3));
        let pixel = |x: usize, y: usize| &image.pixels[(y * 600 + x) * 3..][..3];
        assert_eq!(pixel(10, 10), [255, 255, 255]);
        assert_eq!(pixel(300, 200), [202, 152, 101], "the pole");
        assert_eq!(pixel(300, 292), [129, 132, 203], "the axle");
        assert_eq!(pixel(280, 310), [0, 0, 0], "the cart");
    }
}
