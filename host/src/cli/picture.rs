//! `--render`: the final state of env 0, or its first episode as a GIF.
//!
//! A GIF is written while the run goes on: two pictures are kept in memory, however many there are. Pictures are untrusted:
//! the host has checked their size against their bytes, but here they may still be of any size, and the size may change with
//! every frame.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use anyhow::Context;
use gif::{DisposalMethod, Encoder, Repeat};
use rollcage::text::escape;
use rollcage::{Autoreset, Description, Frame, RenderMode, UsageError, VecEnv};
use serde::Serialize;

/// Frames of a GIF: longer episodes are cut off there.
const FRAMES_MAX: usize = 1000;
/// Frames a second if the plugin sets none.
const FPS_DEFAULT: u32 = 10;
/// Frames a second that viewers show: most viewers turn a delay of less than 2 hundredths into 10.
const FPS_MAX: u32 = 50;
/// Hundredths of a second for which the last frame stays.
const LAST_DELAY: u16 = 100;
/// The quantiser's speed, from 1, best, to 30, fastest: only for frames of more than 256 colours.
const QUANTISER_SPEED: i32 = 10;

/// The target of `--render`, and its format.
pub(super) struct Picture<'a> {
    path: &'a Path,
    kind: Kind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Gif,
    Png,
    Text,
}

impl Picture<'_> {
    pub(super) fn at(path: &Path) -> Result<Picture<'_>, UsageError> {
        let shown = path.display();
        let kind = match path.extension().and_then(|extension| extension.to_str()) {
            Some("gif") => Kind::Gif,
            Some("png") => Kind::Png,
            Some("txt") => Kind::Text,
            _ => {
                let message = format!("picture `{shown}`: expected a name that ends in .gif, .png or .txt");
                return Err(UsageError::new(message));
            }
        };
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        if !folder.is_dir() {
            return Err(UsageError::new(format!("picture `{shown}`: no such folder `{}`", folder.display())));
        }
        Ok(Picture { path, kind })
    }

    /// Whether the picture is of an episode and not of a state.
    pub(super) fn is_gif(&self) -> bool {
        self.kind == Kind::Gif
    }

    fn mode(&self) -> RenderMode {
        match self.kind {
            Kind::Gif | Kind::Png => RenderMode::RgbArray,
            Kind::Text => RenderMode::Ansi,
        }
    }

    /// Checks that the plugin draws such pictures, before it runs.
    pub(super) fn check(&self, description: &Description) -> Result<(), UsageError> {
        let modes = &description.render_modes;
        if modes.contains(&self.mode()) {
            return Ok(());
        }
        let (name, shown) = (&description.name, self.path.display());
        let error = UsageError::new(match self.mode() {
            RenderMode::RgbArray => format!("picture `{shown}`: plugin `{name}` does not draw pixels"),
            RenderMode::Ansi => format!("picture `{shown}`: plugin `{name}` does not draw text"),
        });
        Err(match modes.first() {
            Some(RenderMode::Ansi) => error.hint("it draws text: name a file that ends in .txt"),
            Some(RenderMode::RgbArray) => error.hint("it draws pixels: name a file that ends in .gif or .png"),
            None => error.hint("it draws nothing: leave `--render` out"),
        })
    }

    /// The recorder that must follow the run while it goes on; none if one picture is drawn at its end.
    pub(super) fn recorder(&self, description: &Description, autoreset: Autoreset) -> Option<Recorder> {
        (self.kind == Kind::Gif).then(|| Recorder::new(self.path, description.render_fps, autoreset))
    }

    /// Draws env 0 in its present state.
    pub(super) fn draw(&self, envs: &mut VecEnv) -> anyhow::Result<Drawn> {
        let shown = self.path.display();
        let frame = envs.render(0, self.mode()).with_context(|| format!("picture `{shown}`"))?;
        let mut drawn = Drawn::at(self.path);
        let written = File::create(self.path).and_then(|file| match frame {
            Frame::Rgb { width, height, pixels } => {
                (drawn.width, drawn.height) = (Some(width), Some(height));
                write_png(file, width, height, &pixels)
            }
            Frame::Text(text) => (&file).write_all(keep_colours(&text).as_bytes()),
        });
        written.with_context(|| format!("picture `{shown}`"))?;
        Ok(drawn)
    }
}

/// The picture or GIF that was drawn, for the report.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct Drawn {
    pub(super) file: String,
    /// The width in pixels; none for text.
    pub(super) width: Option<u32>,
    pub(super) height: Option<u32>,
    pub(super) frames: usize,
    /// The rate at which the frames play; none for a single picture.
    pub(super) frames_per_second: Option<f64>,
}

impl Drawn {
    fn at(path: &Path) -> Drawn {
        Drawn { file: path.display().to_string(), width: None, height: None, frames: 1, frames_per_second: None }
    }

    /// The line about the picture, for people.
    pub(super) fn line(&self) -> String {
        let mut line = self.file.clone();
        if let (Some(width), Some(height)) = (self.width, self.height) {
            line.push_str(&format!(": {width} by {height} pixels"));
        }
        if let Some(rate) = self.frames_per_second {
            let plural = if self.frames == 1 { "" } else { "s" };
            line.push_str(&format!(", {} frame{plural}, {rate} a second", self.frames));
        }
        line
    }
}

/// Records env 0's first episode: the state after its first reset and after every step of it.
///
/// In same-step mode the env is in its next episode when the step that ended the first episode has answered. So the last
/// state is not in the GIF.
pub(super) struct Recorder {
    path: PathBuf,
    autoreset: Autoreset,
    clock: FrameClock,
    /// Pictures of the episode so far, including those that were left out.
    seen: u32,
    gif: Option<Gif>,
    done: bool,
    failed: Option<anyhow::Error>,
}

impl Recorder {
    fn new(path: &Path, fps: u32, autoreset: Autoreset) -> Recorder {
        let clock = FrameClock::new(fps);
        Recorder { path: path.to_owned(), autoreset, clock, seen: 0, gif: None, done: false, failed: None }
    }

    /// Called after the first reset of every env.
    pub(super) fn after_reset(&mut self, envs: &mut VecEnv) {
        // A reset that was tried again after faults counts like any other reset.
        self.done |= envs.last().masked[0];
        self.take(envs);
    }

    /// Called after a step of env 0 with an action that counts.
    pub(super) fn after_step(&mut self, envs: &mut VecEnv) {
        let batch = envs.last();
        let ended = batch.episodes[0].is_some();
        // A fault ends the recording, unless the reset after the episode's last step met it.
        if (batch.faults[0].is_some() && !ended) || (ended && self.autoreset == Autoreset::SameStep) {
            self.done = true;
        }
        self.take(envs);
        self.done |= ended;
    }

    /// Takes the next picture, if it is to be shown.
    fn take(&mut self, envs: &mut VecEnv) {
        if self.done {
            return;
        }
        let shown = self.clock.shows(self.seen);
        self.seen += 1;
        if shown && let Err(error) = self.record(envs) {
            self.failed = Some(error);
            self.done = true;
        }
    }

    fn record(&mut self, envs: &mut VecEnv) -> anyhow::Result<()> {
        let place = || format!("picture `{}`", self.path.display());
        let Frame::Rgb { width, height, pixels } = envs.render(0, RenderMode::RgbArray).with_context(place)? else {
            anyhow::bail!("{}: text where pixels were asked for", place());
        };
        if self.gif.is_none() {
            self.gif = Some(Gif::create(&self.path, width, height).with_context(place)?);
        }
        if let Some(gif) = &mut self.gif {
            gif.push(&self.clock, (width, height), pixels).with_context(place)?;
            self.done |= gif.frames() >= FRAMES_MAX;
        }
        Ok(())
    }

    /// Writes the remaining frame.
    pub(super) fn finish(self) -> anyhow::Result<Drawn> {
        if let Some(error) = self.failed {
            return Err(error);
        }
        let Some(gif) = self.gif else {
            anyhow::bail!("picture `{}`: env 0 had no state to draw", self.path.display());
        };
        let (width, height, frames) = (Some(gif.width.into()), Some(gif.height.into()), gif.frames());
        gif.finish().with_context(|| format!("picture `{}`", self.path.display()))?;
        let frames_per_second = Some(self.clock.rate());
        Ok(Drawn { width, height, frames, frames_per_second, ..Drawn::at(&self.path) })
    }
}

/// The choice of pictures to show, and their times, so that an episode plays in real time.
#[derive(Clone, Copy, Debug)]
struct FrameClock {
    fps: u32,
    /// One picture in so many is shown.
    stride: u32,
}

impl FrameClock {
    fn new(fps: u32) -> FrameClock {
        let fps = if fps == 0 { FPS_DEFAULT } else { fps };
        FrameClock { fps, stride: fps.div_ceil(FPS_MAX) }
    }

    fn shows(self, picture: u32) -> bool {
        picture.is_multiple_of(self.stride)
    }

    /// Hundredths of a second for which the frame of this number stays. A later frame makes up for the rounding of an earlier
    /// frame.
    fn delay(self, frame: usize) -> u16 {
        let begins =
            |frame: u64| (frame * 100 * u64::from(self.stride) + u64::from(self.fps) / 2) / u64::from(self.fps);
        let frame = frame as u64;
        u16::try_from(begins(frame + 1) - begins(frame)).unwrap_or(u16::MAX)
    }

    /// Frames a second, as shown.
    fn rate(self) -> f64 {
        f64::from(self.fps) / f64::from(self.stride)
    }
}

/// A GIF that is being written. A frame is held back until the next frame is there, since the last frame stays longer.
struct Gif {
    encoder: Encoder<BufWriter<File>>,
    width: u16,
    height: u16,
    written: usize,
    /// The screen as the last frame before the held frame left it.
    screen: Vec<u8>,
    held: Option<Vec<u8>>,
}

impl Gif {
    fn create(path: &Path, width: u32, height: u32) -> anyhow::Result<Gif> {
        let side = |pixels: u32| u16::try_from(pixels).ok().filter(|&side| side > 0);
        let (Some(width), Some(height)) = (side(width), side(height)) else {
            anyhow::bail!("{width} by {height} pixels: a GIF has 1 to {} on a side; a .png may have more", u16::MAX);
        };
        let mut encoder = Encoder::new(BufWriter::new(File::create(path)?), width, height, &[])?;
        encoder.set_repeat(Repeat::Infinite)?;
        Ok(Gif { encoder, width, height, written: 0, screen: Vec::new(), held: None })
    }

    fn frames(&self) -> usize {
        self.written + usize::from(self.held.is_some())
    }

    fn push(&mut self, clock: &FrameClock, (width, height): (u32, u32), pixels: Vec<u8>) -> anyhow::Result<()> {
        let size = (self.width.into(), self.height.into());
        if (width, height) != size {
            anyhow::bail!(
                "frame {} has {width} by {height} pixels, those before {} by {}",
                self.frames(),
                self.width,
                self.height
            );
        }
        if let Some(held) = self.held.replace(pixels) {
            self.write(held, clock.delay(self.written))?;
        }
        Ok(())
    }

    /// Writes the part of a frame that differs from the screen.
    fn write(&mut self, pixels: Vec<u8>, delay: u16) -> anyhow::Result<()> {
        let row = usize::from(self.width) * 3;
        let Changed { left, top, right, bottom } = changed(&self.screen, &pixels, row);
        let part: Vec<u8> =
            (top..bottom).flat_map(|y| &pixels[y * row + left * 3..y * row + right * 3]).copied().collect();
        // A GIF's sides have 16 bits.
        let [x, y, width, height] =
            [left, top, right - left, bottom - top].map(|side| u16::try_from(side).unwrap_or(0));
        // Up to 256 colours the palette is exact.
        let mut frame = gif::Frame::from_rgb_speed(width, height, &part, QUANTISER_SPEED);
        (frame.left, frame.top, frame.delay, frame.dispose) = (x, y, delay, DisposalMethod::Keep);
        self.encoder.write_frame(&frame)?;
        self.written += 1;
        self.screen = pixels;
        Ok(())
    }

    fn finish(mut self) -> anyhow::Result<()> {
        if let Some(held) = self.held.take() {
            self.write(held, LAST_DELAY)?;
        }
        self.encoder.into_inner()?.flush()?;
        Ok(())
    }
}

/// A part of a picture, in pixels; right and bottom are the first pixels outside it.
#[derive(Debug, PartialEq, Eq)]
struct Changed {
    left: usize,
    top: usize,
    right: usize,
    bottom: usize,
}

/// The smallest part that holds every difference: at least a pixel, and the whole of a first frame.
fn changed(before: &[u8], after: &[u8], row: usize) -> Changed {
    if before.len() != after.len() {
        return Changed { left: 0, top: 0, right: row / 3, bottom: after.len() / row };
    }
    let mut part: Option<Changed> = None;
    for (y, (old, new)) in before.chunks_exact(row).zip(after.chunks_exact(row)).enumerate() {
        let differs = |at: &usize| old[*at] != new[*at];
        let Some(first) = (0..row).find(differs) else { continue };
        let (left, right) = (first / 3, (0..row).rfind(differs).unwrap_or(first) / 3 + 1);
        part = Some(match part {
            None => Changed { left, top: y, right, bottom: y + 1 },
            Some(part) => {
                Changed { left: part.left.min(left), top: part.top, right: part.right.max(right), bottom: y + 1 }
            }
        });
    }
    part.unwrap_or(Changed { left: 0, top: 0, right: 1, bottom: 1 })
}

fn write_png(file: File, width: u32, height: u32, pixels: &[u8]) -> io::Result<()> {
    let mut encoder = png::Encoder::new(BufWriter::new(file), width, height);
    encoder.set_color(png::ColorType::Rgb);
    encoder.set_depth(png::BitDepth::Eight);
    let mut writer = encoder.write_header()?;
    writer.write_image_data(pixels)?;
    writer.finish()?;
    Ok(())
}

/// Escapes a picture of text except for colours (`ESC [ numbers m`): such pictures are made of colours, which have no other
/// effect on a terminal.
fn keep_colours(text: &str) -> String {
    let mut out = String::new();
    let mut pieces = text.split("\u{1b}[");
    let mut coloured = false;
    out.push_str(&escape(pieces.next().unwrap_or_default()));
    for piece in pieces {
        let end = piece.find(|char: char| !char.is_ascii_digit() && char != ';').unwrap_or(piece.len());
        let is_colour = piece[end..].starts_with('m');
        if is_colour {
            coloured = !matches!(&piece[..end], "" | "0");
        }
        out.push_str(if is_colour { "\u{1b}[" } else { "\\u{1b}[" });
        out.push_str(&escape(piece));
    }
    if coloured {
        out.push_str("\u{1b}[0m");
    }
    if !out.is_empty() && !out.ends_with('\n') {
        out.push('\n');
    }
    out
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test that panics has failed")]
mod tests {
    use super::*;

    #[test]
    fn a_picture_is_of_what_the_plugin_draws() {
        let mut description = Description {
            name: "cartpole".to_owned(),
            version: "0.1.0".to_owned(),
            summary: String::new(),
            config_schema: String::new(),
            render_modes: vec![RenderMode::RgbArray],
            render_fps: 50,
            wants: Vec::new(),
            runtime: String::new(),
            warm_up: false,
            interface: "0.1.0".to_owned(),
        };
        assert!(Picture::at(Path::new("a.png")).unwrap().check(&description).is_ok());
        let error = Picture::at(Path::new("a.txt")).unwrap().check(&description).unwrap_err();
        assert_eq!(error.message, "picture `a.txt`: plugin `cartpole` does not draw text");
        assert_eq!(error.hints, ["it draws pixels: name a file that ends in .gif or .png"]);
        description.render_modes.clear();
        let error = Picture::at(Path::new("a.png")).unwrap().check(&description).unwrap_err();
        assert_eq!(error.hints, ["it draws nothing: leave `--render` out"]);
        for (path, message) in [
            ("a.bmp", "picture `a.bmp`: expected a name that ends in .gif, .png or .txt"),
            ("/nowhere/a.png", "picture `/nowhere/a.png`: no such folder `/nowhere`"),
        ] {
            assert_eq!(Picture::at(Path::new(path)).err().unwrap().message, message);
        }
    }

    #[test]
    fn a_text_picture_keeps_its_colours_and_nothing_else() {
        for (text, expected) in [
            ("SF\nFG\n", "SF\nFG\n"),
            ("S\u{1b}[41mF\u{1b}[0m", "S\u{1b}[41mF\u{1b}[0m\n"),
            ("S\u{1b}[1;31mF", "S\u{1b}[1;31mF\u{1b}[0m\n"),
            ("\u{1b}[2J\u{1b}]0;x\u{7}", "\\u{1b}[2J\\u{1b}]0;x\\u{7}\n"),
            ("", ""),
        ] {
            assert_eq!(keep_colours(text), expected, "{text:?}");
        }
    }

    #[test]
    fn frames_play_in_real_time() {
        for (fps, stride, rate) in
            [(50, 1, 50.0), (30, 1, 30.0), (4, 1, 4.0), (0, 1, 10.0), (60, 2, 30.0), (1000, 20, 50.0)]
        {
            let clock = FrameClock::new(fps);
            assert_eq!((clock.stride, clock.rate()), (stride, rate), "{fps}");
            let hundredths: f64 = (0..600).map(|frame| f64::from(clock.delay(frame))).sum();
            assert!((hundredths - 60_000.0 / rate).abs() < 1.0, "{fps}: {hundredths}");
            assert!((0..600).all(|frame| clock.delay(frame) >= 2), "{fps}");
        }
        assert!(FrameClock::new(60).shows(0) && !FrameClock::new(60).shows(1) && FrameClock::new(60).shows(2));
    }

    #[test]
    fn what_changed_is_found() {
        let before = vec![0; 5 * 4 * 3];
        let paint = |places: &[(usize, usize)]| {
            let mut after = before.clone();
            places.iter().for_each(|(x, y)| after[(y * 5 + x) * 3 + 1] = 9);
            let Changed { left, top, right, bottom } = changed(&before, &after, 15);
            (left, top, right, bottom)
        };
        assert_eq!(paint(&[]), (0, 0, 1, 1));
        assert_eq!(paint(&[(2, 1)]), (2, 1, 3, 2));
        assert_eq!(paint(&[(3, 1), (1, 3)]), (1, 1, 4, 4));
        assert_eq!(changed(&[], &before, 15), Changed { left: 0, top: 0, right: 5, bottom: 4 });
    }

    /// A picture of as many colours as asked for, different for every number.
    fn picture(number: usize, colours: usize) -> Vec<u8> {
        (0..64 * 64)
            .flat_map(|at| {
                let colour = (at * 7 + number) % colours;
                [colour % 256, colour / 256 * 16, number].map(|part| u8::try_from(part).unwrap())
            })
            .collect()
    }

    #[test]
    fn a_gif_is_read_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("picture.gif");
        for colours in [3, 256, 4000] {
            let clock = FrameClock::new(30);
            let mut gif = Gif::create(&path, 64, 64).unwrap();
            for number in 0..20 {
                gif.push(&clock, (64, 64), picture(number, colours)).unwrap();
            }
            assert!(gif.push(&clock, (64, 63), picture(0, 3)).unwrap_err().to_string().contains("64 by 63 pixels"));
            assert_eq!(gif.frames(), 20);
            gif.finish().unwrap();

            let mut options = gif::DecodeOptions::new();
            options.set_color_output(gif::ColorOutput::RGBA);
            let mut decoder = options.read_info(File::open(&path).unwrap()).unwrap();
            let mut screen = vec![0; 64 * 64 * 3];
            let mut delays = Vec::new();
            while let Some(frame) = decoder.read_next_frame().unwrap() {
                for (at, pixel) in frame.buffer.chunks_exact(4).enumerate() {
                    let (x, y) = (at % usize::from(frame.width), at / usize::from(frame.width));
                    let to = ((y + usize::from(frame.top)) * 64 + x + usize::from(frame.left)) * 3;
                    screen[to..to + 3].copy_from_slice(&pixel[..3]);
                }
                if colours <= 256 {
                    assert_eq!(screen, picture(delays.len(), colours), "frame {} of {colours}", delays.len());
                }
                delays.push(frame.delay);
            }
            assert_eq!((delays.len(), delays[..3].to_vec(), delays[19]), (20, vec![3, 4, 3], LAST_DELAY));
        }
        std::fs::remove_file(&path).unwrap();
        assert!(Gif::create(&path, 70_000, 4).is_err() && !path.exists());
    }
}
