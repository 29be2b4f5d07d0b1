//! Pictures: that they come, that they have one size, and that they change nothing.

use super::Notes;
use super::play::{Played, Player, Stage, brief};
use super::rule::{Finding, Rule};
use crate::env::vec_env::Frame;
use crate::error::Error;
use crate::spec::RenderMode;

/// Pictures of each mode that are looked at: one after the reset, and one after each of so many steps.
const PICTURES: usize = 20;

pub(super) fn look(stage: &Stage<'_>, first: &Played, notes: &mut Notes) -> Result<(), Error> {
    let modes = &stage.prepared.description().render_modes;
    if modes.is_empty() || first.fault.as_ref().is_some_and(|_| first.rows.is_empty()) {
        for rule in [Rule::Pictures, Rule::PictureSize, Rule::PictureHarmless] {
            notes.skip(rule, if modes.is_empty() { "the env draws none" } else { "a fault came first" });
        }
        return Ok(());
    }
    let seed = stage.options.seed;
    for &mode in modes {
        let mut player = Player::new(stage.env()?, seed)?;
        let mut played = player.play(seed, 0)?;
        let mut size = None;
        for step in 0..=stage.steps(PICTURES) as u64 {
            match player.envs.render(0, mode) {
                Ok(frame) => {
                    let now = size_of(&frame);
                    if now.is_some_and(|(width, height)| width == 0 || height == 0) {
                        notes
                            .find(Rule::Pictures, Finding::at(format!("{}: an empty picture", name(mode)), seed, step));
                    }
                    if let (Some(before), Some(now)) = (size.replace(now).flatten(), now)
                        && before != now
                    {
                        let seen = format!("{}x{} pixels, before {}x{}", now.0, now.1, before.0, before.1);
                        notes.find(Rule::PictureSize, Finding::at(seen, seed, step));
                    }
                }
                Err(Error::Usage(error)) => {
                    let seen = format!("{}: {}", name(mode), brief(&error.message));
                    notes.find(Rule::Pictures, Finding::at(seen, seed, step));
                    break;
                }
                Err(Error::Fault(fault)) => {
                    let seen = format!("{}: {}: {}", name(mode), fault.kind, brief(&fault.message));
                    notes.find(Rule::Pictures, Finding::at(seen, seed, step));
                    break;
                }
                Err(error) => return Err(error),
            }
            player.go_on(&mut played, 1)?;
            if played.fault.is_some() {
                break;
            }
        }
        if !stage.is_outside() && !notes.has_found(Rule::Reproducible) && !notes.has_found(Rule::Pictures) {
            let same = super::episodes::first_part(first, played.rows.len().saturating_sub(1));
            notes.judge(Rule::PictureHarmless, same.difference(&played));
        }
    }
    notes.pass(Rule::Pictures);
    notes.pass(Rule::PictureSize);
    notes.skip(Rule::PictureHarmless, "episodes do not repeat, or there is no picture");
    Ok(())
}

/// Hashes of the picture in each mode now. A mode without one has none.
pub(super) fn hashes(stage: &Stage<'_>, player: &mut Player) -> Result<Vec<[u8; 32]>, Error> {
    let mut hashes = Vec::new();
    for &mode in &stage.prepared.description().render_modes {
        match player.envs.render(0, mode) {
            Ok(Frame::Rgb { pixels, .. }) => hashes.push(*blake3::hash(&pixels).as_bytes()),
            Ok(Frame::Text(text)) => hashes.push(*blake3::hash(text.as_bytes()).as_bytes()),
            Err(Error::Usage(_)) => {}
            Err(Error::Fault(_)) => break,
            Err(error) => return Err(error),
        }
    }
    Ok(hashes)
}

fn size_of(frame: &Frame) -> Option<(u32, u32)> {
    match frame {
        Frame::Rgb { width, height, .. } => Some((*width, *height)),
        Frame::Text(_) => None,
    }
}

fn name(mode: RenderMode) -> &'static str {
    match mode {
        RenderMode::RgbArray => "rgb_array",
        RenderMode::Ansi => "ansi",
    }
}
