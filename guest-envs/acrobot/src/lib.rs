//! Acrobot: two links hang from a bar, and a torque at the joint between them swings the free end up.
//!
//! Gymnasium's `Acrobot-v1`, with the equations of Sutton's book.
//!
//! | action | torque at the joint, N m |   | observation (f32, shape (6,))          | ends the episode          |
//! |--------|--------------------------|---|----------------------------------------|---------------------------|
//! | 0      | -1                       |   | cos and sin of the first link's angle  | when the free end is one  |
//! | 1      | 0                        |   | cos and sin of the second's to it      | link's length above the   |
//! | 2      | 1                        |   | angular velocities, ±4π and ±9π rad/s  | bar                       |

use std::f64::consts::{FRAC_PI_2, PI};

use rollcage_sdk::classic::{ResetBounds, runge_kutta, single, wrapped_angle};
use rollcage_sdk::draw::{corners, turned};
use rollcage_sdk::prelude::*;

/// The time from one state to the next, in seconds.
const DT: f64 = 0.2;
/// The length of either link, in metres.
const LENGTH: f64 = 1.0;
/// The mass of either link, in kilograms.
const MASS: f64 = 1.0;
/// The distance from a link's upper end to its centre of mass, in metres.
const CENTRE: f64 = 0.5;
/// The moment of inertia of either link.
const MOMENT_OF_INERTIA: f64 = 1.0;
const GRAVITY: f64 = 9.8;
/// The greatest velocity of the first link, in radians a second.
const MAX_VELOCITY_1: f64 = 4.0 * PI;
/// The greatest velocity of the second link, in radians a second.
const MAX_VELOCITY_2: f64 = 9.0 * PI;
/// The torque of each action, in newton metres.
const TORQUE: [f64; 3] = [-1.0, 0.0, 1.0];

/// The env.
#[derive(Clone, Debug)]
pub struct Acrobot {
    /// Angle of the first link (0: straight down), of the second to the first, and the velocities of both.
    state: [f64; 4],
}

impl Environment for Acrobot {
    type Config = NoConfig;
    type Options = ResetBounds;
    type ObservationSpace = BoxSpace<[f32; 6]>;
    type ActionSpace = Discrete;
    type InfoSpace = NoInfo;

    const NAME: &'static str = "acrobot";
    const SUMMARY: &'static str = "Swing two links up by the joint between them (Gymnasium's Acrobot-v1)";
    const RENDER_MODES: &'static [RenderMode] = &[RenderMode::RgbArray];
    const RENDER_FPS: u32 = 15;

    fn create(_config: NoConfig) -> Result<Self, CreateError> {
        Ok(Self { state: [0.0; 4] })
    }

    fn spec(&self) -> Spec<Self> {
        let high = [1.0, 1.0, 1.0, 1.0, MAX_VELOCITY_1, MAX_VELOCITY_2].map(single);
        Spec::new(BoxSpace::new(high.map(|bound| -bound), high), Discrete::new(3))
            .max_episode_steps(500)
            .reward_threshold(-100.0)
    }

    fn reset(&mut self, rng: &mut NumpyRng, bounds: ResetBounds) -> Result<View<Self>, EnvError> {
        let (low, high) = bounds.or(-0.1, 0.1)?;
        // Gymnasium keeps 32 bits of what was drawn.
        self.state = rng.uniform_array(low, high).map(|drawn| single(drawn).into());
        Ok(View::new(self.observation()))
    }

    fn step(&mut self, _rng: &mut NumpyRng, action: i64) -> Result<Step<Self>, EnvError> {
        let torque = TORQUE[usize::try_from(action).expect("an action was checked to be one of three")];
        let [theta1, theta2, velocity1, velocity2] = runge_kutta(|state| accelerate(state, torque), self.state, DT);
        self.state = [
            wrapped_angle(theta1),
            wrapped_angle(theta2),
            velocity1.clamp(-MAX_VELOCITY_1, MAX_VELOCITY_1),
            velocity2.clamp(-MAX_VELOCITY_2, MAX_VELOCITY_2),
        ];
        let [theta1, theta2, ..] = self.state;
        let up = -theta1.cos() - (theta2 + theta1).cos() > 1.0;
        Ok(Step::new(self.observation(), if up { 0.0 } else { -1.0 }).terminated(up))
    }

    /// Draws the height to reach, the links and their joints: 500 by 500 pixels.
    fn render(&self, _mode: RenderMode) -> Result<Frame, EnvError> {
        const SIDE: u32 = 500;
        const MIDDLE: f64 = 250.0;
        const SCALE: f64 = MIDDLE / (2.0 * LENGTH + 0.2);
        const HALF_WIDTH: f64 = 0.1 * SCALE;

        let [theta1, theta2, ..] = self.state;
        let mut canvas = Canvas::new(SIDE, SIDE, [255; 3]);
        let height = MIDDLE - SCALE * LENGTH;
        canvas.line(&[(0.0, height), (f64::from(SIDE), height)], 1.0, [0; 3]);
        let bar = (MIDDLE, MIDDLE);
        let joint = (MIDDLE + SCALE * LENGTH * theta1.sin(), MIDDLE + SCALE * LENGTH * theta1.cos());
        for (end, angle) in [(bar, theta1), (joint, theta1 + theta2)] {
            let link = corners(0.0, -HALF_WIDTH, SCALE * LENGTH, HALF_WIDTH);
            canvas.polygon(&turned(link, FRAC_PI_2 - angle, end), [0, 204, 204]);
            canvas.disc(end, HALF_WIDTH, [204, 204, 0]);
        }
        Ok(canvas.into_frame())
    }
}

impl Acrobot {
    fn observation(&self) -> [f32; 6] {
        let [theta1, theta2, velocity1, velocity2] = self.state;
        [theta1.cos(), theta1.sin(), theta2.cos(), theta2.sin(), velocity1, velocity2].map(single)
    }
}

/// The derivative of a state under a torque. The names are those of R. S. Sutton and A. G. Barto, "Reinforcement
/// Learning", in the section on the acrobot.
fn accelerate([theta1, theta2, velocity1, velocity2]: [f64; 4], torque: f64) -> [f64; 4] {
    const M: f64 = MASS;
    const L: f64 = LENGTH;
    const LC: f64 = CENTRE;
    const I: f64 = MOMENT_OF_INERTIA;

    let (sin2, cos2) = (theta2.sin(), theta2.cos());
    let d1 = M * (LC * LC) + M * (L * L + LC * LC + 2.0 * L * LC * cos2) + I + I;
    let d2 = M * (LC * LC + L * LC * cos2) + I;
    let phi2 = M * LC * GRAVITY * (theta1 + theta2 - PI / 2.0).cos();
    let phi1 = -M * L * LC * (velocity2 * velocity2) * sin2 - 2.0 * M * L * LC * velocity2 * velocity1 * sin2
        + (M * LC + M * L) * GRAVITY * (theta1 - PI / 2.0).cos()
        + phi2;
    let acceleration2 = (torque + d2 / d1 * phi1 - M * L * LC * (velocity1 * velocity1) * sin2 - phi2)
        / (M * (LC * LC) + I - d2 * d2 / d1);
    let acceleration1 = -(d2 * acceleration2 + phi1) / d1;
    [velocity1, velocity2, acceleration1, acceleration2]
}

rollcage_sdk::export!(Acrobot);

#[cfg(test)]
mod tests {
    use super::*;
    use rollcage_sdk::testing::Native;

    #[test]
    fn hanging_still_it_stays() {
        let mut env = Native::<Acrobot>::new("{}").expect("the defaults");
        let still = Some(r#"{"low": 0, "high": 0}"#);
        let seen = env.reset(Some(0), still).expect("a reset").observation;
        assert_eq!(seen, [1.0, 0.0, 1.0, 0.0, 0.0, 0.0]);
        let step = env.step(1).expect("a step");
        assert!(step.observation.iter().zip(seen).all(|(a, b)| (a - b).abs() < 1e-6), "{:?}", step.observation);
        assert_eq!((step.reward, step.terminated), (-1.0, false));
    }

    #[test]
    fn energy_is_kept_without_torque() {
        // Height and motion of both links, in joules.
        let energy = |[theta1, theta2, velocity1, velocity2]: [f64; 4]| {
            let both = velocity1 + velocity2;
            let motion = 0.5 * (CENTRE * CENTRE + MOMENT_OF_INERTIA) * velocity1 * velocity1
                + 0.5
                    * (velocity1 * velocity1
                        + CENTRE * CENTRE * both * both
                        + 2.0 * CENTRE * velocity1 * both * theta2.cos())
                + 0.5 * MOMENT_OF_INERTIA * both * both;
            motion - GRAVITY * (CENTRE * theta1.cos() + theta1.cos() + CENTRE * (theta1 + theta2).cos())
        };
        let mut state = [0.5, -0.3, 0.0, 0.0];
        let before = energy(state);
        for _ in 0..1000 {
            state = runge_kutta(|state| accelerate(state, 0.0), state, 0.001);
        }
        assert!((energy(state) - before).abs() < 1e-2, "{before} {}", energy(state));
    }

    #[test]
    fn the_free_end_above_the_line_ends_it() {
        let mut env = Native::<Acrobot>::new("{}").expect("the defaults");
        env.reset(Some(0), Some(r#"{"low": 3.0, "high": 3.1}"#)).expect("a reset");
        // Both angles near half a turn: the first link up, the second folded down upon it.
        assert!(!env.step(1).expect("a step").terminated);
        let mut acrobot = Acrobot { state: [PI, 0.0, 0.0, 0.0] };
        let step = acrobot.step(&mut NumpyRng::new(0), 1).expect("a step");
        assert_eq!((step.reward, step.terminated), (0.0, true));
    }

    #[test]
    fn the_picture_has_the_links() {
        let mut env = Native::<Acrobot>::new("{}").expect("the defaults");
        env.reset(Some(0), Some(r#"{"low": 0, "high": 0}"#)).expect("a reset");
        let Ok(Frame::Rgb(image)) = env.render(RenderMode::RgbArray) else { panic!("no picture") };
        let pixel = |x: usize, y: usize| &image.pixels[(y * 500 + x) * 3..][..3];
        assert_eq!(pixel(250, 300), [0, 204, 204], "the first link, straight down");
        assert_eq!(pixel(250, 250), [204, 204, 0], "the bar");
        assert_eq!(pixel(250, 200), [255, 255, 255]);
    }
}
