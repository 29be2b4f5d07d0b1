//! What an env must refuse, and that a refusal changes nothing.

use serde_json::json;

use super::Notes;
use super::episodes::first_part;
use super::play::{Played, Player, Stage};
use super::rule::{Finding, Rule};
use crate::episode::TimeLimit;
use crate::error::Error;
use crate::fault::FaultKind;

/// A name that no env has.
const NOBODYS: &str = "rollcage_check_asks_for_nothing";

/// Steps before and after the calls that are refused.
const STEPS: usize = 20;

/// Steps in which an episode ends, if it ends by itself.
const END_STEPS: usize = 5_000;
const END_STEPS_QUICK: usize = 500;

pub(super) fn look(stage: &Stage<'_>, first: &Played, notes: &mut Notes) -> Result<(), Error> {
    after_the_end(stage, notes)?;
    if stage.is_outside() || notes.has_found(Rule::Reproducible) || first.rows.len() <= stage.steps(STEPS) {
        notes.skip(Rule::RefusedHarmless, "episodes do not repeat, or are too short");
        return Ok(());
    }
    refused(stage, first, notes)
}

/// Steps once more after the end of an episode. The host never does.
fn after_the_end(stage: &Stage<'_>, notes: &mut Notes) -> Result<(), Error> {
    let seed = stage.options.seed;
    let most = stage.steps(if stage.options.quick { END_STEPS_QUICK } else { END_STEPS });
    // The host's limit ends an episode that goes on in the guest.
    let envs = stage.builder()?.time_limit(TimeLimit::Off).build()?;
    let mut player = Player::new(envs, seed)?;
    let mut played = player.play(seed, 0)?;
    while played.rows.len() < most && played.rows.last().is_some_and(|row| !row.ends()) {
        player.go_on(&mut played, 1)?;
        if played.fault.is_some() {
            break;
        }
    }
    let Some(last) = played.rows.last().filter(|_| played.fault.is_none()) else {
        notes.skip(Rule::StepAfterEnd, "a fault came first");
        return Ok(());
    };
    if !last.ends() {
        notes.skip(Rule::StepAfterEnd, "no episode ended by itself");
        return Ok(());
    }
    let answer = player.step_after_the_end();
    let finding = match answer {
        Ok(()) => Some(Finding::at("the step was answered", seed, played.rows.len() as u64)),
        // The host takes it for a step in the middle of an episode.
        Err(Error::Fault(fault)) if fault.kind == FaultKind::BadAnswer && fault.message.contains("refuses a step") => {
            None
        }
        Err(Error::Usage(_)) => None,
        Err(Error::Fault(fault)) => Some(Finding::at(
            format!("{}: {}", fault.kind, super::play::brief(&fault.message)),
            seed,
            played.rows.len() as u64,
        )),
        Err(error) => return Err(error),
    };
    notes.judge(Rule::StepAfterEnd, finding);
    Ok(())
}

/// Calls what is not there, in the middle of an episode.
fn refused(stage: &Stage<'_>, first: &Played, notes: &mut Notes) -> Result<(), Error> {
    let seed = stage.options.seed;
    let steps = stage.steps(STEPS);
    let mut player = Player::new(stage.env()?, seed)?;
    let mut played = player.play(seed, steps)?;
    let envs = &mut player.envs;
    let calls = [
        envs.call(0, NOBODYS, &json!({})).map(|_| "a call of no method"),
        envs.get_attribute(0, NOBODYS).map(|_| "reading no attribute"),
        envs.set_attribute(0, NOBODYS, &json!(1)).map(|()| "writing no attribute"),
    ];
    for call in calls {
        match call {
            // An env that answers everything refuses nothing.
            Ok(_) | Err(Error::Usage(_)) => {}
            Err(Error::Fault(fault)) => {
                let seen =
                    format!("a call of what is not there: {}: {}", fault.kind, super::play::brief(&fault.message));
                notes.find(Rule::RefusedHarmless, Finding::at(seen, seed, STEPS as u64));
                return Ok(());
            }
            Err(error) => return Err(error),
        }
    }
    player.go_on(&mut played, steps)?;
    let expected = first_part(first, played.rows.len().saturating_sub(1));
    notes.judge(Rule::RefusedHarmless, expected.difference(&played));
    Ok(())
}
