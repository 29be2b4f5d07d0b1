//! A canvas for `render`: shapes with smooth edges by [tiny-skia], letters from [embedded-graphics]' bitmap font.
//!
//! Coordinates are pixels, x to the right and y down, (0, 0) the upper left corner of the upper left pixel. Parts
//! outside the canvas are cut off. A shape with a coordinate that is not finite is left out.
//!
//! [tiny-skia]: https://docs.rs/tiny-skia
//! [embedded-graphics]: https://docs.rs/embedded-graphics

use std::convert::Infallible;

use embedded_graphics::mono_font::MonoTextStyle;
use embedded_graphics::mono_font::ascii::FONT_6X10;
use embedded_graphics::pixelcolor::BinaryColor;
use embedded_graphics::prelude::{DrawTarget, Drawable, OriginDimensions, Pixel, Size};
use embedded_graphics::text::{Baseline, Text};
use tiny_skia::{FillRule, LineCap, LineJoin, Paint, Path, PathBuilder, Pixmap, Rect, Stroke, Transform};

use crate::{Frame, raw::Image};

/// A colour: red, green, blue.
pub type Color = [u8; 3];

/// A point: x and y.
pub type Point = (f64, f64);

/// The font: cells of 6 by 10, with capitals of rows 1 to 7 and columns 0 to 4.
const CELL: f64 = 6.0;
const CAPITAL_TOP: i32 = 1;
const CAPITAL: f64 = 7.0;

/// An RGB picture to draw upon.
#[derive(Clone, Debug)]
pub struct Canvas {
    pixmap: Pixmap,
}

impl Canvas {
    /// A canvas of `width` by `height` pixels of `background`.
    ///
    /// # Panics
    ///
    /// If either is 0, or the picture would not fit into memory.
    #[must_use]
    #[track_caller]
    pub fn new(width: u32, height: u32, background: Color) -> Self {
        let Some(mut pixmap) = Pixmap::new(width, height) else { panic!("a canvas of {width} by {height} pixels") };
        let [red, green, blue] = background;
        pixmap.fill(tiny_skia::Color::from_rgba8(red, green, blue, u8::MAX));
        Self { pixmap }
    }

    /// Fills the polygon with these corners, which may go round either way.
    pub fn polygon(&mut self, corners: &[Point], color: Color) {
        if let Some(path) = through(corners, true) {
            self.fill(&path, color);
        }
    }

    /// Draws a line through `points`, `width` wide, with round ends and bends.
    pub fn line(&mut self, points: &[Point], width: f64, color: Color) {
        if let Some(path) = through(points, false) {
            self.stroke(&path, width, color);
        }
    }

    /// Fills a disc.
    pub fn disc(&mut self, (x, y): Point, radius: f64, color: Color) {
        if let Some(path) = PathBuilder::from_circle(single(x), single(y), single(radius)) {
            self.fill(&path, color);
        }
    }

    /// Draws a circle, `width` wide; `radius` is that of the middle of its line.
    pub fn ring(&mut self, (x, y): Point, radius: f64, width: f64, color: Color) {
        if let Some(path) = PathBuilder::from_circle(single(x), single(y), single(radius)) {
            self.stroke(&path, width, color);
        }
    }

    /// Fills a rectangle.
    pub fn rectangle(&mut self, (left, top): Point, (width, height): Point, color: Color) {
        if let Some(rect) = Rect::from_xywh(single(left), single(top), single(width), single(height)) {
            self.fill(&PathBuilder::from_rect(rect), color);
        }
    }

    /// Fills a rectangle whose corners are round.
    pub fn rounded(&mut self, (left, top): Point, (width, height): Point, radius: f64, color: Color) {
        let radius = radius.min(width / 2.0).min(height / 2.0).max(0.0);
        // How far the control points of a cubic curve lie from the ends of a quarter of a circle.
        let bend = radius * (1.0 - 4.0 / 3.0 * (std::f64::consts::SQRT_2 - 1.0));
        let (right, bottom) = (left + width, top + height);
        // From each corner's first end to its second: the way along the side, then into the corner and out.
        let corners = [
            ((right - radius, top), (right - bend, top), (right, top + bend), (right, top + radius)),
            ((right, bottom - radius), (right, bottom - bend), (right - bend, bottom), (right - radius, bottom)),
            ((left + radius, bottom), (left + bend, bottom), (left, bottom - bend), (left, bottom - radius)),
            ((left, top + radius), (left, top + bend), (left + bend, top), (left + radius, top)),
        ];
        let mut builder = PathBuilder::new();
        builder.move_to(single(left + radius), single(top));
        for (from, out, into, to) in corners {
            builder.line_to(single(from.0), single(from.1));
            let [out, into, to] = [out, into, to].map(|(x, y)| (single(x), single(y)));
            builder.cubic_to(out.0, out.1, into.0, into.1, to.0, to.1);
        }
        builder.close();
        if let Some(path) = builder.finish() {
            self.fill(&path, color);
        }
    }

    /// Writes a line of ASCII, its upper left corner at `(left, top)`, with capitals `size` pixels high.
    pub fn text(&mut self, text: &str, (left, top): Point, size: f64, color: Color) {
        let mut ink = Ink(Vec::new());
        let style = MonoTextStyle::new(&FONT_6X10, BinaryColor::On);
        let Ok(_) = Text::with_baseline(text, (0, -CAPITAL_TOP).into(), style, Baseline::Top).draw(&mut ink);
        let side = size / CAPITAL;
        for (x, y) in ink.0 {
            self.rectangle((left + f64::from(x) * side, top + f64::from(y) * side), (side, side), color);
        }
    }

    /// The finished picture, as [`Environment::render`](crate::Environment::render) returns it.
    #[must_use]
    pub fn into_frame(self) -> Frame {
        let pixels = self.pixmap.pixels().iter().flat_map(|pixel| [pixel.red(), pixel.green(), pixel.blue()]);
        Frame::Rgb(Image { width: self.pixmap.width(), height: self.pixmap.height(), pixels: pixels.collect() })
    }

    fn fill(&mut self, path: &Path, color: Color) {
        if is_finite(path) {
            self.pixmap.fill_path(path, &paint(color), FillRule::Winding, Transform::identity(), None);
        }
    }

    fn stroke(&mut self, path: &Path, width: f64, color: Color) {
        let stroke =
            Stroke { width: single(width), line_cap: LineCap::Round, line_join: LineJoin::Round, ..Stroke::default() };
        if is_finite(path) {
            self.pixmap.stroke_path(path, &paint(color), &stroke, Transform::identity(), None);
        }
    }
}

/// The width of `text` as [`Canvas::text`] writes it, in pixels.
#[must_use]
#[expect(clippy::cast_precision_loss, reason = "a line of text is short")]
pub fn text_width(text: &str, size: f64) -> f64 {
    // The last letter without the gap after it.
    (text.len() as f64 * CELL - 1.0).max(0.0) * size / CAPITAL
}

/// The corners of a rectangle.
#[must_use]
pub fn corners(left: f64, top: f64, right: f64, bottom: f64) -> [Point; 4] {
    [(left, top), (right, top), (right, bottom), (left, bottom)]
}

/// Turns `points` by `angle` radians about (0, 0), clockwise on the canvas, then moves them by `to`.
#[must_use]
pub fn turned<const N: usize>(points: [Point; N], angle: f64, to: Point) -> [Point; N] {
    let (sin, cos) = angle.sin_cos();
    points.map(|(x, y)| (to.0 + x * cos - y * sin, to.1 + x * sin + y * cos))
}

fn paint([red, green, blue]: Color) -> Paint<'static> {
    let mut paint = Paint::default();
    paint.set_color_rgba8(red, green, blue, u8::MAX);
    paint
}

/// A path through `points`; `None` for fewer than two, or for a coordinate that is not finite.
fn through(points: &[Point], closed: bool) -> Option<Path> {
    let (first, rest) = points.split_first()?;
    let mut builder = PathBuilder::new();
    builder.move_to(single(first.0), single(first.1));
    rest.iter().for_each(|&(x, y)| builder.line_to(single(x), single(y)));
    if closed {
        builder.close();
    }
    builder.finish()
}

fn is_finite(path: &Path) -> bool {
    path.points().iter().all(|point| point.is_finite())
}

/// A coordinate in tiny-skia's type.
#[expect(clippy::cast_possible_truncation, reason = "a pixel's place needs no more")]
fn single(value: f64) -> f32 {
    value as f32
}

/// Collects the pixels of a text, to be drawn in any size.
struct Ink(Vec<(i32, i32)>);

impl OriginDimensions for Ink {
    fn size(&self) -> Size {
        Size::new(u32::MAX, u32::MAX)
    }
}

impl DrawTarget for Ink {
    type Color = BinaryColor;
    type Error = Infallible;

    fn draw_iter<I: IntoIterator<Item = Pixel<BinaryColor>>>(&mut self, pixels: I) -> Result<(), Infallible> {
        let on = pixels.into_iter().filter(|Pixel(_, color)| color.is_on());
        self.0.extend(on.map(|Pixel(at, _)| (at.x, at.y)));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(canvas: &Canvas, y: usize) -> Vec<u8> {
        let width = canvas.pixmap.width() as usize;
        canvas.pixmap.pixels()[y * width..(y + 1) * width].iter().map(|pixel| pixel.red()).collect()
    }

    #[test]
    fn rectangles_are_exact_in_both_directions_round() {
        let forth = corners(1.0, 1.0, 3.0, 2.0);
        let mut back = forth;
        back.reverse();
        for corners in [forth, back] {
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
        canvas.rectangle((0.5, 0.0), (1.5, 1.0), [200; 3]);
        let [half, full, none] = row(&canvas, 0)[..] else { panic!() };
        assert!((149..=151).contains(&half), "{half}");
        assert_eq!((full, none), (200, 100));
    }

    #[test]
    fn what_lies_outside_or_nowhere_is_left_out() {
        let mut canvas = Canvas::new(2, 2, [0; 3]);
        canvas.disc((-50.0, 1e9), 10.0, [255; 3]);
        canvas.disc((1.0, 1.0), f64::NAN, [255; 3]);
        canvas.polygon(&[(f64::NAN, 0.0), (1.0, 1.0), (0.0, 1.0)], [255; 3]);
        canvas.line(&[(0.0, f64::INFINITY), (1.0, 1.0)], 1.0, [255; 3]);
        canvas.polygon(&[], [255; 3]);
        assert!(canvas.pixmap.pixels().iter().all(|pixel| pixel.red() == 0));
        canvas.disc((1.0, 1.0), 1e3, [9; 3]);
        assert!(canvas.pixmap.pixels().iter().all(|pixel| pixel.red() == 9));
    }

    #[test]
    fn corners_are_round() {
        let mut canvas = Canvas::new(20, 20, [0; 3]);
        canvas.rounded((0.0, 0.0), (20.0, 20.0), 10.0, [255; 3]);
        let mut disc = Canvas::new(20, 20, [0; 3]);
        disc.disc((10.0, 10.0), 10.0, [255; 3]);
        for y in 0..20 {
            let far = row(&canvas, y).iter().zip(row(&disc, y)).any(|(a, b)| a.abs_diff(b) > 40);
            assert!(!far, "row {y}: {:?} {:?}", row(&canvas, y), row(&disc, y));
        }
    }

    #[test]
    fn letters_stand_where_they_are_put() {
        let mut canvas = Canvas::new(24, 16, [0; 3]);
        canvas.text("I", (2.0, 1.0), 14.0, [255; 3]);
        let rows: Vec<usize> = (0..16).filter(|&y| row(&canvas, y).contains(&255)).collect();
        assert_eq!(rows, (1..15).collect::<Vec<_>>());
        let left = (0..16).filter_map(|y| row(&canvas, y).iter().position(|&red| red == 255)).min();
        assert_eq!(left, Some(4), "the serif of an I is one pixel of the font in");
        assert_eq!((text_width("AB", 14.0), text_width("", 14.0)), (22.0, 0.0));
    }

    #[test]
    fn points_turn_clockwise() {
        let [(x, y)] = turned([(1.0, 0.0)], std::f64::consts::FRAC_PI_2, (10.0, 10.0));
        assert!((x - 10.0).abs() < 1e-9 && (y - 11.0).abs() < 1e-9, "{x} {y}");
    }
}
