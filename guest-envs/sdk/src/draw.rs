//! A small rasteriser with smooth edges, enough for the pictures of classic control.
//!
//! Coordinates are pixels, x to the right and y down, (0, 0) the upper left corner of the upper left pixel.

use crate::{Frame, raw::Image};

/// Red, green, blue.
pub type Color = [u8; 3];

/// An RGB picture to draw upon.
#[derive(Clone, Debug)]
pub struct Canvas {
    width: u32,
    height: u32,
    pixels: Vec<u8>,
}

impl Canvas {
    /// `width` by `height` pixels of `background`.
    ///
    /// # Panics
    ///
    /// If either is 0.
    #[must_use]
    pub fn new(width: u32, height: u32, background: Color) -> Self {
        assert!(width > 0 && height > 0, "a canvas of {width} by {height} pixels");
        Self { width, height, pixels: background.repeat(width as usize * height as usize) }
    }

    /// Fills the convex polygon with these corners, which may go round either way.
    pub fn polygon(&mut self, corners: &[(f64, f64)], color: Color) {
        let edges = || corners.iter().zip(corners.iter().cycle().skip(1));
        let doubled_area: f64 = edges().map(|(a, b)| a.0 * b.1 - b.0 * a.1).sum();
        let outward = if doubled_area < 0.0 { -1.0 } else { 1.0 };
        // Unit normals that point out, and how far along them the edge lies.
        let sides: Vec<(f64, f64, f64)> = edges()
            .filter(|(a, b)| a != b)
            .map(|(a, b)| {
                let length = (b.0 - a.0).hypot(b.1 - a.1) * outward;
                let (x, y) = ((b.1 - a.1) / length, (a.0 - b.0) / length);
                (x, y, x * a.0 + y * a.1)
            })
            .collect();
        let bounds = corners
            .iter()
            .fold(EMPTY, |(left, top, right, bottom), &(x, y)| (left.min(x), top.min(y), right.max(x), bottom.max(y)));
        self.fill(bounds, color, |px, py| {
            sides.iter().map(|(x, y, at)| x * px + y * py - at).fold(f64::NEG_INFINITY, f64::max)
        });
    }

    /// Fills a disc.
    pub fn disc(&mut self, (x, y): (f64, f64), radius: f64, color: Color) {
        let bounds = (x - radius, y - radius, x + radius, y + radius);
        self.fill(bounds, color, |px, py| (px - x).hypot(py - y) - radius);
    }

    /// The finished picture, as [`Environment::render`](crate::Environment::render) returns it.
    #[must_use]
    pub fn into_frame(self) -> Frame {
        Frame::Rgb(Image { width: self.width, height: self.height, pixels: self.pixels })
    }

    /// Blends `color` into every pixel within `bounds` by how much of it lies inside: `distance` is that of the pixel's
    /// centre to the border, negative inside.
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "clamped to the canvas and to a byte")]
    fn fill(
        &mut self,
        (left, top, right, bottom): (f64, f64, f64, f64),
        color: Color,
        distance: impl Fn(f64, f64) -> f64,
    ) {
        let clip = |value: f64, end: u32| value.clamp(0.0, f64::from(end)) as u32;
        let columns = clip(left.floor(), self.width)..clip(right.ceil(), self.width);
        for y in clip(top.floor(), self.height)..clip(bottom.ceil(), self.height) {
            for x in columns.clone() {
                let cover = (0.5 - distance(f64::from(x) + 0.5, f64::from(y) + 0.5)).clamp(0.0, 1.0);
                let at = (y as usize * self.width as usize + x as usize) * 3;
                for (pixel, ink) in self.pixels[at..at + 3].iter_mut().zip(color) {
                    let paper = f64::from(*pixel);
                    *pixel = (paper + (f64::from(ink) - paper) * cover).round() as u8;
                }
            }
        }
    }
}

/// Bounds of no point: left, top, right, bottom.
const EMPTY: (f64, f64, f64, f64) = (f64::INFINITY, f64::INFINITY, f64::NEG_INFINITY, f64::NEG_INFINITY);

#[cfg(test)]
mod tests {
    use super::*;

    fn row(canvas: &Canvas, y: usize) -> Vec<u8> {
        let width = canvas.width as usize;
        canvas.pixels[y * width * 3..(y + 1) * width * 3].iter().step_by(3).copied().collect()
    }

    #[test]
    fn rectangles_are_exact_in_both_directions_round() {
        let corners = [(1.0, 1.0), (3.0, 1.0), (3.0, 2.0), (1.0, 2.0)];
        let mut reversed = corners;
        reversed.reverse();
        for corners in [corners, reversed] {
            let mut canvas = Canvas::new(4, 3, [0; 3]);
            canvas.polygon(&corners, [200; 3]);
            assert_eq!(row(&canvas, 0), [0, 0, 0, 0]);
            assert_eq!(row(&canvas, 1), [0, 200, 200, 0]);
            assert_eq!(row(&canvas, 2), [0, 0, 0, 0]);
        }
    }

    #[test]
    fn half_covered_pixels_are_half_blended() {
        let mut canvas = Canvas::new(3, 1, [100; 3]);
        canvas.polygon(&[(0.5, 0.0), (2.0, 0.0), (2.0, 1.0), (0.5, 1.0)], [200; 3]);
        assert_eq!(row(&canvas, 0), [150, 200, 100]);
    }

    #[test]
    fn what_lies_outside_is_clipped() {
        let mut canvas = Canvas::new(2, 2, [0; 3]);
        canvas.disc((-50.0, 1e9), 10.0, [255; 3]);
        canvas.polygon(&[(f64::NAN, 0.0), (1.0, 1.0), (0.0, 1.0)], [0; 3]);
        canvas.disc((1.0, 1.0), 1e6, [9; 3]);
        assert_eq!(canvas.pixels, [9; 12]);
    }
}
