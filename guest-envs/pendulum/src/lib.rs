//! Pendulum: a rod turns about one end, and a torque too weak to lift it at once has to swing it upright.
//!
//! Gymnasium's `Pendulum-v1`, state for state.
//!
//! | action (f32, shape (1,))  |   | observation (f32, shape (3,))             | reward                            |
//! |---------------------------|---|-------------------------------------------|-----------------------------------|
//! | torque, N m, from -2 to 2 |   | cos and sin of the angle, 0 being upright | -(angle² + 0.1 velocity² + 0.001  |
//! |                           |   | its angular velocity, rad/s, ±8           | torque²), the angle within ±π     |
//!
//! A torque outside its bounds is set to them.

use std::f64::consts::{FRAC_PI_2, PI};

use rollcage_sdk::classic::{normalized_angle, single};
use rollcage_sdk::prelude::*;

/// The greatest speed, in radians a second.
const MAX_SPEED: f64 = 8.0;
/// The greatest torque, in newton metres.
const MAX_TORQUE: f64 = 2.0;
/// The time from one state to the next, in seconds.
const DT: f64 = 0.05;
/// The rod's mass, in kilograms.
const MASS: f64 = 1.0;
/// The rod's length, in metres.
const LENGTH: f64 = 1.0;

rollcage_sdk::config! {
    /// What can be configured.
    pub struct Config {
        /// The acceleration of gravity, m/s².
        pub g: f64 = 10.0,
    }
}

rollcage_sdk::config! {
    /// Reset options: the first state is drawn from their negatives up to them.
    pub struct Options {
        /// The greatest angle, rad.
        pub x_init: f64 = PI,
        /// The greatest angular velocity, rad/s.
        pub y_init: f64 = 1.0,
    }
}

/// The env.
#[derive(Clone, Debug)]
pub struct Pendulum {
    config: Config,
    /// The angle from upright in radians, not wrapped.
    theta: f64,
    /// The angular velocity, in radians a second.
    velocity: f64,
    /// The torque of the last step, for the picture.
    torque: Option<f64>,
}

impl Environment for Pendulum {
    type Config = Config;
    type Options = Options;
    type ObservationSpace = BoxSpace<[f32; 3]>;
    type ActionSpace = BoxSpace<[f32; 1]>;
    type InfoSpace = NoInfo;

    const NAME: &'static str = "pendulum";
    const SUMMARY: &'static str = "Swing a rod upright and keep it there (Gymnasium's Pendulum-v1)";
    const RENDER_MODES: &'static [RenderMode] = &[RenderMode::RgbArray];
    const RENDER_FPS: u32 = 30;

    fn create(config: Config) -> Result<Self, CreateError> {
        Ok(Self { config, theta: 0.0, velocity: 0.0, torque: None })
    }

    fn spec(&self) -> Spec<Self> {
        let high = [1.0, 1.0, MAX_SPEED].map(single);
        let torque = single(MAX_TORQUE);
        let observations = BoxSpace::new(high.map(|bound| -bound), high);
        Spec::new(observations, BoxSpace::all(-torque, torque)).out_of_bounds_passes().max_episode_steps(200)
    }

    fn reset(&mut self, rng: &mut NumpyRng, Options { x_init, y_init }: Options) -> Result<View<Self>, EnvError> {
        for (name, bound) in [("x_init", x_init), ("y_init", y_init)] {
            // From -bound to bound is twice as far.
            if bound < 0.0 || !(2.0 * bound).is_finite() {
                let message = format!("`{name}` ({bound}) is the greatest value to draw: 0 or more, and below 8.9e307");
                return Err(EnvError::invalid_options(message));
            }
        }
        self.theta = rng.uniform(-x_init, x_init);
        self.velocity = rng.uniform(-y_init, y_init);
        self.torque = None;
        Ok(View::new(self.observation()))
    }

    fn step(&mut self, _rng: &mut NumpyRng, [torque]: [f32; 1]) -> Result<Step<Self>, EnvError> {
        let (theta, velocity, g) = (self.theta, self.velocity, self.config.g);
        let angle = normalized_angle(theta);
        let torque = torque.clamp(-single(MAX_TORQUE), single(MAX_TORQUE));
        // numpy reckons with the torque in 32 bits.
        let effort = f64::from(single(0.001) * (torque * torque));
        let push = f64::from(single(3.0 / (MASS * (LENGTH * LENGTH))) * torque);
        let cost = angle * angle + 0.1 * (velocity * velocity) + effort;

        let velocity = velocity + (3.0 * g / (2.0 * LENGTH) * theta.sin() + push) * DT;
        self.velocity = velocity.clamp(-MAX_SPEED, MAX_SPEED);
        self.theta = theta + self.velocity * DT;
        self.torque = Some(torque.into());
        Ok(Step::new(self.observation(), -cost))
    }

    /// Draws the rod, its axle, and an arrow for the torque: 500 by 500 pixels.
    fn render(&self, _mode: RenderMode) -> Result<Frame, EnvError> {
        const SIDE: u32 = 500;
        const MIDDLE: (f64, f64) = (250.0, 250.0);
        const SCALE: f64 = 250.0 / 2.2;
        const ROD: [u8; 3] = [204, 77, 77];

        let mut canvas = Canvas::new(SIDE, SIDE, [255; 3]);
        // Angles grow anticlockwise, and the canvas's y down.
        let end = (MIDDLE.0 - SCALE * LENGTH * self.theta.sin(), MIDDLE.1 - SCALE * LENGTH * self.theta.cos());
        canvas.line(&[MIDDLE, end], 0.2 * SCALE, ROD);
        canvas.disc(MIDDLE, 0.05 * SCALE, [0; 3]);
        if let Some(torque) = self.torque {
            draw_torque(&mut canvas, MIDDLE, SCALE, torque);
        }
        Ok(canvas.into_frame())
    }
}

impl Pendulum {
    fn observation(&self) -> [f32; 3] {
        [self.theta.cos(), self.theta.sin(), self.velocity].map(single)
    }
}

/// Draws three quarters of a circle about the axle, as large as the torque, with a point at the end that it turns to.
fn draw_torque(canvas: &mut Canvas, (x, y): (f64, f64), scale: f64, torque: f64) {
    const PIECES: u32 = 48;
    let radius = scale * 0.25 * torque.abs() / MAX_TORQUE * 2.0;
    if radius < 3.0 {
        return;
    }
    // A positive torque turns anticlockwise.
    let sense = -torque.signum();
    let at = |angle: f64, radius: f64| (x + radius * angle.cos(), y + radius * angle.sin());
    let sweep = |piece: u32| -FRAC_PI_2 + sense * 1.5 * PI * f64::from(piece) / f64::from(PIECES);
    let arc: Vec<_> = (0..=PIECES).map(|piece| at(sweep(piece), radius)).collect();
    canvas.line(&arc, 2.0, [0; 3]);
    let (last, point) = (sweep(PIECES), sense * (8.0 / radius).min(1.0));
    canvas.polygon(&[at(last, radius - 5.0), at(last + point, radius), at(last, radius + 5.0)], [0; 3]);
}

rollcage_sdk::export!(Pendulum);

#[cfg(test)]
mod tests {
    use super::*;
    use rollcage_sdk::testing::Native;

    #[test]
    fn the_first_state_is_gymnasiums() {
        let mut env = Native::<Pendulum>::new("{}").expect("the defaults");
        let options = r#"{"x_init": 1.5707963267948966, "y_init": 0.5}"#;
        let first = env.reset(Some(123), Some(options)).expect("options").observation;
        // The example in the docstring of gymnasium 1.4.0's PendulumEnv, which drew its numbers in another way then.
        assert!((first[0].hypot(first[1]) - 1.0).abs() < 1e-6 && first[2].abs() <= 0.5, "{first:?}");
    }

    #[test]
    fn upright_and_still_costs_nothing() {
        let mut env = Native::<Pendulum>::new("{}").expect("the defaults");
        env.reset(Some(0), Some(r#"{"x_init": 0, "y_init": 0}"#)).expect("a reset");
        let step = env.step([0.0]).expect("a step");
        assert_eq!((step.observation, step.reward, step.terminated), ([1.0, 0.0, 0.0], 0.0, false));
        let step = env.step([2.0]).expect("a step");
        assert!((step.reward + 0.004).abs() < 1e-9 && step.observation[2] > 0.29, "{step:?}");
    }

    #[test]
    fn a_torque_outside_is_the_bound() {
        let step = |torque: f32| {
            let mut env = Native::<Pendulum>::new("{}").expect("the defaults");
            env.reset(Some(0), None).expect("a reset");
            env.step([torque]).map(|step| (step.observation, step.reward))
        };
        assert_eq!(step(-2.031_782_4), step(-2.0));
        assert_eq!(step(f32::MAX), step(2.0));
        assert!(matches!(step(f32::NAN), Err(EnvError::InvalidAction(_))));
        assert!(matches!(step(f32::INFINITY), Err(EnvError::InvalidAction(_))));
    }

    #[test]
    fn gravity_is_configured() {
        let fall = |config: &str| {
            let mut env = Native::<Pendulum>::new(config).expect("a config");
            env.reset(Some(4), None).expect("a reset");
            env.step([0.0]).expect("a step").observation[2]
        };
        assert_ne!(fall("{}"), fall(r#"{"g": 1.5}"#));
        assert_eq!(fall("{}"), fall(r#"{"g": 10}"#));
        for options in [r#"{"x_init": -1}"#, r#"{"y_init": 1e308}"#, r#"{"low": 1}"#] {
            let mut env = Native::<Pendulum>::new("{}").expect("the defaults");
            assert!(matches!(env.reset(Some(0), Some(options)), Err(EnvError::InvalidOptions(_))), "{options}");
        }
    }

    #[test]
    fn the_picture_points_up_when_it_is() {
        let mut env = Native::<Pendulum>::new("{}").expect("the defaults");
        env.reset(Some(0), Some(r#"{"x_init": 0, "y_init": 0}"#)).expect("a reset");
        let Ok(Frame::Rgb(image)) = env.render(RenderMode::RgbArray) else { panic!("no picture") };
        let pixel = |x: usize, y: usize| &image.pixels[(y * 500 + x) * 3..][..3];
        assert_eq!((pixel(250, 180), pixel(250, 330)), (&[204, 77, 77][..], &[255; 3][..]));
    }
}
