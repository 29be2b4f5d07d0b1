//! A histogram of returns as a PNG. This file knows numbers and pixels, and nothing of envs.

use std::fs::File;
use std::io::BufWriter;
use std::path::{Path, PathBuf};

use anyhow::Context;
use embedded_graphics::mono_font::ascii::{FONT_7X13, FONT_9X15_BOLD};
use embedded_graphics::mono_font::{MonoFont, MonoTextStyle};
use embedded_graphics::pixelcolor::Rgb888;
use embedded_graphics::prelude::*;
use embedded_graphics::primitives::{Line, PrimitiveStyle, Rectangle};
use embedded_graphics::text::{Alignment, Text};
use rollcage::UsageError;
use rollcage::text::escape_line;

/// Pixels of the picture, and of the margins around the bars.
const WIDTH: u32 = 720;
const HEIGHT: u32 = 400;
const LEFT: i32 = 64;
const RIGHT: i32 = 24;
const TOP: i32 = 48;
const BOTTOM: i32 = 56;

/// Bars of a histogram, at most.
const BARS_MAX: usize = 40;

const INK: Rgb888 = Rgb888::new(0x33, 0x33, 0x33);
const PALE: Rgb888 = Rgb888::new(0xdd, 0xdd, 0xdd);
const BAR: Rgb888 = Rgb888::new(0x4c, 0x78, 0xa8);
const MEAN: Rgb888 = Rgb888::new(0xd6, 0x27, 0x28);

/// Where a histogram goes.
pub(super) struct Plot<'p> {
    path: &'p Path,
}

impl<'p> Plot<'p> {
    /// A histogram in a file whose folder exists.
    pub(super) fn at(path: &'p Path) -> Result<Plot<'p>, UsageError> {
        let shown = escape_line(&path.to_string_lossy());
        if path.extension().is_none_or(|extension| extension != "png") {
            return Err(UsageError::new(format!("--plot `{shown}`: expected a file that ends in .png")));
        }
        let folder = path.parent().map(Path::to_owned).filter(|folder| folder != Path::new(""));
        let folder = folder.unwrap_or_else(|| PathBuf::from("."));
        match folder.is_dir() {
            true => Ok(Plot { path }),
            false => Err(UsageError::new(format!("--plot `{shown}`: its folder does not exist"))),
        }
    }

    /// Draws the returns. Nothing is drawn of none.
    pub(super) fn draw(&self, returns: &[f64]) -> anyhow::Result<()> {
        let finite: Vec<f64> = returns.iter().copied().filter(|value| value.is_finite()).collect();
        let shown = || format!("plot `{}`", escape_line(&self.path.to_string_lossy()));
        if finite.is_empty() {
            anyhow::bail!("{}: no episode ended, so there is nothing to draw", shown());
        }
        let file = File::create(self.path).with_context(shown)?;
        let mut encoder = png::Encoder::new(BufWriter::new(file), WIDTH, HEIGHT);
        encoder.set_color(png::ColorType::Rgb);
        encoder.set_depth(png::BitDepth::Eight);
        let pixels = draw(&finite, returns.len() - finite.len()).pixels;
        encoder.write_header().and_then(|mut writer| writer.write_image_data(&pixels)).with_context(shown)
    }
}

/// Counts of values in bars of equal width.
struct Histogram {
    least: f64,
    width: f64,
    counts: Vec<usize>,
}

impl Histogram {
    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a picture"
    )]
    fn of(values: &[f64]) -> Histogram {
        let least = values.iter().copied().fold(f64::INFINITY, f64::min);
        let most = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        if least == most {
            return Histogram { least: least - 0.5, width: 1.0, counts: vec![values.len()] };
        }
        let wanted = ((values.len() as f64).sqrt().ceil() as usize).clamp(1, BARS_MAX);
        // Returns that are whole numbers have bars of whole numbers.
        let whole = values.iter().all(|value| value.fract() == 0.0 && value.abs() < 1e15);
        let span = if whole { most - least + 1.0 } else { most - least };
        let width = if whole { (span / wanted as f64).ceil() } else { span / wanted as f64 };
        let count = if whole { (span / width).ceil() as usize } else { wanted };
        let mut counts = vec![0; count.max(1)];
        for value in values {
            let bar = (((value - least) / width) as usize).min(counts.len() - 1);
            counts[bar] += 1;
        }
        Histogram { least, width, counts }
    }

    #[expect(clippy::cast_precision_loss, reason = "a picture")]
    fn end(&self) -> f64 {
        self.least + self.width * self.counts.len() as f64
    }
}

struct Canvas {
    pixels: Vec<u8>,
}

impl OriginDimensions for Canvas {
    fn size(&self) -> Size {
        Size::new(WIDTH, HEIGHT)
    }
}

impl DrawTarget for Canvas {
    type Color = Rgb888;
    type Error = std::convert::Infallible;

    fn draw_iter<I: IntoIterator<Item = Pixel<Rgb888>>>(&mut self, pixels: I) -> Result<(), Self::Error> {
        for Pixel(at, color) in pixels {
            let (Ok(x), Ok(y)) = (usize::try_from(at.x), usize::try_from(at.y)) else { continue };
            if x < WIDTH as usize && y < HEIGHT as usize {
                let at = (y * WIDTH as usize + x) * 3;
                self.pixels[at..at + 3].copy_from_slice(&[color.r(), color.g(), color.b()]);
            }
        }
        Ok(())
    }
}

impl Canvas {
    fn text(&mut self, text: &str, at: (i32, i32), alignment: Alignment, font: &MonoFont<'_>, color: Rgb888) {
        let Ok(_) = Text::with_alignment(text, at.into(), MonoTextStyle::new(font, color), alignment).draw(self);
    }

    fn line(&mut self, from: (i32, i32), to: (i32, i32), color: Rgb888) {
        let style = PrimitiveStyle::with_stroke(color, 1);
        let Ok(()) = Line::new(from.into(), to.into()).into_styled(style).draw(self);
    }
}

#[expect(clippy::cast_precision_loss, clippy::cast_possible_truncation, reason = "a picture")]
fn draw(values: &[f64], not_finite: usize) -> Canvas {
    let mut canvas = Canvas { pixels: vec![0xff; (WIDTH * HEIGHT * 3) as usize] };
    let histogram = Histogram::of(values);
    let most = histogram.counts.iter().copied().max().unwrap_or(1).max(1);
    let (width, height) = (WIDTH as i32 - LEFT - RIGHT, HEIGHT as i32 - TOP - BOTTOM);
    let floor = TOP + height;
    let x = |value: f64| {
        let part = (value - histogram.least) / (histogram.end() - histogram.least);
        LEFT + (part * f64::from(width)) as i32
    };
    let y = |count: usize| floor - (count as f64 / most as f64 * f64::from(height)) as i32;
    for part in 0..=4 {
        let count = most * part / 4;
        if part > 0 && count == most * (part - 1) / 4 {
            continue;
        }
        canvas.line((LEFT, y(count)), (LEFT + width, y(count)), PALE);
        canvas.text(&count.to_string(), (LEFT - 8, y(count) + 4), Alignment::Right, &FONT_7X13, INK);
    }
    for (bar, &count) in histogram.counts.iter().enumerate().filter(|(_, count)| **count > 0) {
        let (left, right) = (
            x(histogram.least + histogram.width * bar as f64),
            x(histogram.least + histogram.width * (bar + 1) as f64),
        );
        let corner = Point::new(left, y(count));
        let size = Size::new((right - left - 1).max(1).unsigned_abs(), (floor - y(count)).max(1).unsigned_abs());
        let Ok(()) = Rectangle::new(corner, size).into_styled(PrimitiveStyle::with_fill(BAR)).draw(&mut canvas);
    }
    canvas.line((LEFT, floor), (LEFT + width, floor), INK);
    for part in 0..=4 {
        let value = histogram.least + (histogram.end() - histogram.least) * f64::from(part) / 4.0;
        canvas.line((x(value), floor), (x(value), floor + 4), INK);
        canvas.text(&number(value), (x(value), floor + 18), Alignment::Center, &FONT_7X13, INK);
    }
    let mean = values.iter().sum::<f64>() / values.len() as f64;
    canvas.line((x(mean), TOP), (x(mean), floor), MEAN);
    let odd = if not_finite > 0 { format!(", {not_finite} not finite") } else { String::new() };
    let title = format!("{} episodes, mean return {}{odd}", values.len(), number(mean));
    canvas.text(&title, (LEFT, 28), Alignment::Left, &FONT_9X15_BOLD, INK);
    canvas.text("return", (LEFT + width / 2, HEIGHT as i32 - 14), Alignment::Center, &FONT_7X13, INK);
    canvas.text("episodes", (8, TOP - 12), Alignment::Left, &FONT_7X13, INK);
    canvas
}

/// A number as short as four figures allow.
fn number(value: f64) -> String {
    let digits = if value == 0.0 || value.abs() >= 1000.0 {
        0
    } else if value.abs() >= 100.0 {
        1
    } else {
        2
    };
    let text = format!("{value:.digits$}");
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_owned() } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_is_in_a_bar() {
        for values in [
            vec![1.0],
            vec![500.0; 9],
            vec![-3.5, 2.25, 8.0],
            (0..1000).map(f64::from).collect(),
            vec![1e300, -1e300, 0.0],
            vec![f64::MIN_POSITIVE, 0.0],
        ] {
            let histogram = Histogram::of(&values);
            assert_eq!(histogram.counts.iter().sum::<usize>(), values.len(), "{values:?}");
            assert!(histogram.counts.len() <= BARS_MAX);
            let canvas = draw(&values, 0);
            assert!(canvas.pixels.chunks_exact(3).any(|pixel| pixel == [0x4c, 0x78, 0xa8]), "{values:?}");
        }
    }

    #[test]
    fn numbers_are_short() {
        let short: Vec<String> = [0.0, 12.5, 123.456, 98765.4, -3.0, 0.126].map(number).to_vec();
        assert_eq!(short, ["0", "12.5", "123.5", "98765", "-3", "0.13"]);
    }
}
