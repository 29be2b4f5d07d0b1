//! Parts that the envs of classic control share: the bounds of a reset, an integrator, angles, and rounding as numpy
//! does it.

use crate::draw::{Canvas, corners, turned};
use crate::{EnvError, Frame};

crate::config! {
    /// Reset options: the bounds between which the first state is drawn. What is not given is the env's own.
    pub struct ResetBounds {
        /// The least.
        pub low: Option<f64> = None,
        /// The greatest.
        pub high: Option<f64> = None,
    }
}

impl ResetBounds {
    /// The bounds of the first state; `low` and `high` where none were given.
    ///
    /// # Errors
    ///
    /// [`EnvError::InvalidOptions`] for a `low` above `high`, and for bounds too far apart to draw between.
    pub fn or(self, low: f64, high: f64) -> Result<(f64, f64), EnvError> {
        let (low, high) = (self.low.unwrap_or(low), self.high.unwrap_or(high));
        if low > high {
            return Err(EnvError::invalid_options(format!("`low` ({low}) is greater than `high` ({high})")));
        }
        if !(high - low).is_finite() {
            return Err(EnvError::invalid_options(format!("`low` ({low}) and `high` ({high}) are too far apart")));
        }
        Ok((low, high))
    }
}

/// Takes one step of the classical fourth-order Runge-Kutta method: the state after `dt`, by `derivative(state)`.
#[must_use]
pub fn runge_kutta<const N: usize>(derivative: impl Fn([f64; N]) -> [f64; N], state: [f64; N], dt: f64) -> [f64; N] {
    let ahead = |slope: &[f64; N], by: f64| std::array::from_fn(|index| state[index] + by * slope[index]);
    let k1 = derivative(state);
    let k2 = derivative(ahead(&k1, dt / 2.0));
    let k3 = derivative(ahead(&k2, dt / 2.0));
    let k4 = derivative(ahead(&k3, dt));
    std::array::from_fn(|index| {
        let sum = k1[index] + 2.0 * k2[index] + 2.0 * k3[index] + k4[index];
        state[index] + dt / 6.0 * sum
    })
}

/// Normalises an angle: the same direction from `-π` up to but without `π`, as Gymnasium's Pendulum does it.
#[must_use]
pub fn normalized_angle(angle: f64) -> f64 {
    use std::f64::consts::PI;
    (angle + PI).rem_euclid(2.0 * PI) - PI
}

/// Wraps an angle: the same direction within `-π` and `π`, by whole turns added or taken, as Gymnasium's Acrobot does.
///
/// Use it for angles of a few turns: each turn takes time.
#[must_use]
pub fn wrapped_angle(mut angle: f64) -> f64 {
    use std::f64::consts::PI;
    const TURN: f64 = PI - -PI;
    while angle > PI {
        angle -= TURN;
    }
    while angle < -PI {
        angle += TURN;
    }
    angle
}

/// Rounds to the nearest 32-bit number, as numpy's `astype(float32)`.
#[must_use]
#[expect(clippy::cast_possible_truncation, reason = "rounding to the nearest f32 is meant, as numpy does it")]
pub fn single(value: f64) -> f32 {
    value as f32
}

/// The valley of both mountain cars, `sin(3x)` in shape: its ends and its flag, in metres.
#[derive(Clone, Copy, Debug)]
pub struct Valley {
    /// The left end.
    pub from: f64,
    /// The right end.
    pub to: f64,
    /// The position of the flag.
    pub flag: f64,
}

impl Valley {
    /// Draws the valley, the flag, and the car at `position`, on its wheels: 600 by 400 pixels.
    #[must_use]
    pub fn picture(&self, position: f64) -> Frame {
        const WIDTH: f64 = 600.0;
        const HEIGHT: f64 = 400.0;
        const BLACK: [u8; 3] = [0; 3];
        const PIECES: u32 = 100;

        let scale = WIDTH / (self.to - self.from);
        let ground = |x: f64| ((x - self.from) * scale, HEIGHT - ((3.0 * x).sin() * 0.45 + 0.55) * scale);
        let mut canvas = Canvas::new(600, 400, [255; 3]);
        let piece = (self.to - self.from) / f64::from(PIECES);
        let line: Vec<_> = (0..=PIECES).map(|index| ground(self.from + f64::from(index) * piece)).collect();
        canvas.line(&line, 1.5, BLACK);

        let (x, y) = ground(self.flag);
        canvas.line(&[(x, y), (x, y - 50.0)], 1.5, BLACK);
        canvas.polygon(&[(x, y - 50.0), (x + 25.0, y - 45.0), (x, y - 40.0)], [204, 204, 0]);

        // It leans with the slope, which is that of `sin(3x)`.
        let lean = -(3.0 * position).cos();
        let (x, y) = ground(position);
        let at = (x, y - 10.0);
        canvas.polygon(&turned(corners(-20.0, -20.0, 20.0, 0.0), lean, at), BLACK);
        for wheel in turned([(-10.0, 0.0), (10.0, 0.0)], lean, at) {
            canvas.disc(wheel, 8.0, [128; 3]);
        }
        canvas.into_frame()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::f64::consts::PI;

    #[test]
    fn a_circle_comes_round() {
        // x'' = -x: after a turn in 100 steps, back where it began, to the method's fourth order.
        let mut state = [1.0, 0.0];
        for _ in 0..100 {
            state = runge_kutta(|[x, v]| [v, -x], state, 2.0 * PI / 100.0);
        }
        assert!((state[0] - 1.0).abs() < 1e-6 && state[1].abs() < 1e-5, "{state:?}");
    }

    #[test]
    fn angles_keep_their_direction() {
        for (angle, normalized, wrapped) in [
            (0.5, 0.5, 0.5),
            (PI, -PI, PI),
            (-PI, -PI, -PI),
            (4.0, 4.0 - 2.0 * PI, 4.0 - 2.0 * PI),
            (-7.0, 2.0 * PI - 7.0, 2.0 * PI - 7.0),
        ] {
            assert!((normalized_angle(angle) - normalized).abs() < 1e-12, "{angle}");
            assert!((wrapped_angle(angle) - wrapped).abs() < 1e-12, "{angle}");
        }
    }

    #[test]
    fn bounds_that_hold_nothing_are_refused() {
        let bounds = |low, high| ResetBounds { low, high }.or(-0.5, 0.5);
        assert_eq!(bounds(None, None), Ok((-0.5, 0.5)));
        assert_eq!(bounds(Some(0.1), None), Ok((0.1, 0.5)));
        assert_eq!(bounds(Some(0.5), None), Ok((0.5, 0.5)));
        assert_eq!(
            bounds(None, Some(-1.0)),
            Err(EnvError::invalid_options("`low` (-0.5) is greater than `high` (-1)"))
        );
        assert!(bounds(Some(-1e308), Some(1e308)).is_err());
    }
}
