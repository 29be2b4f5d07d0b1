//! One long play: its answers, its end, its times and its memory.

use std::time::{Duration, Instant};

use super::play::{Played, Player, Stage, brief};
use super::rule::{Finding, Rule};
use super::{Notes, costs};
use crate::env::oddity::OddityKind;
use crate::error::Error;
use crate::fault::{Fault, FaultKind};

/// Steps that are compared with those of other plays.
const COMPARED_STEPS: usize = 300;
const COMPARED_STEPS_QUICK: usize = 100;

/// Steps of the long play: memory that grows shows by then.
const LONG_STEPS: usize = 10_000;
const LONG_STEPS_QUICK: usize = 1_000;

/// Steps that show how long one takes.
const FIRST_STEPS: usize = 5;

/// Steps without an end that say that there is none.
const ENDLESS_STEPS: usize = 500;

/// Steps between two looks at the memory.
const LAP: usize = 1_000;

/// The long play takes no longer, whatever was played.
const LONG_TIME: Duration = Duration::from_secs(10);
const LONG_TIME_QUICK: Duration = Duration::from_millis(1_500);

/// The steps that other plays take beside the first.
pub(super) fn compared_steps(stage: &Stage<'_>) -> usize {
    stage.steps(if stage.options.quick { COMPARED_STEPS_QUICK } else { COMPARED_STEPS })
}

/// Plays long, and returns the first part of it, with which others are compared.
pub(super) fn look(stage: &Stage<'_>, mut player: Box<Player>, notes: &mut Notes) -> Result<Played, Error> {
    let quick = stage.options.quick;
    let (most, time) = if quick { (LONG_STEPS_QUICK, LONG_TIME_QUICK) } else { (LONG_STEPS, LONG_TIME) };
    let begun = Instant::now();
    let mut first = player.play(stage.options.seed, FIRST_STEPS)?;
    // The median: the first step may make ready what others find there.
    let mut shown = first.times.clone();
    shown.sort_unstable();
    stage.pace.set(shown.get(shown.len() / 2).copied().unwrap_or_default());
    if first.fault.is_none() {
        player.go_on(&mut first, compared_steps(stage).saturating_sub(FIRST_STEPS))?;
    }
    let mut times = first.times.clone();
    let mut episodes = ends(&first);
    let mut memory = vec![(first.rows.len(), costs::memory(&player))];
    let mut fault = first.fault.clone();
    let mut rows = first.rows.len();
    while fault.is_none() && rows < most && begun.elapsed() < time {
        let mut lap = player.begun(stage.options.seed, 0);
        player.go_on(&mut lap, stage.steps(LAP).min(most - rows))?;
        rows += lap.rows.len();
        episodes += ends(&lap);
        times.extend(&lap.times);
        memory.push((rows, costs::memory(&player)));
        fault = lap.fault;
    }
    if let Some(fault) = &fault {
        found_fault(stage, fault, notes);
    }
    notes.pass(Rule::Faults);
    oddities(stage, &player, notes);
    if first.spec.action_masked {
        notes.pass(Rule::MaskOpen);
    } else {
        notes.skip(Rule::MaskOpen, "the env masks no actions");
    }
    notes.measures.steps = times.len() as u64;
    notes.measures.episodes = episodes;
    if episodes > 0 || player.envs.max_episode_steps().is_some() {
        notes.pass(Rule::EpisodeEnds);
    } else if fault.is_some() {
        notes.skip(Rule::EpisodeEnds, "a fault came first");
    } else if times.len() < ENDLESS_STEPS.min(most) {
        notes.skip(Rule::EpisodeEnds, "too few steps were taken");
    } else {
        let seen = format!("no episode ended in {} steps, and there is no time limit", times.len());
        notes.find(Rule::EpisodeEnds, Finding::at(seen, stage.options.seed, times.len() as u64));
    }
    costs::steps(&mut times, stage, notes);
    costs::growth(&memory, notes);
    Ok(first)
}

fn ends(played: &Played) -> u64 {
    played.rows.iter().filter(|row| row.ends()).count() as u64
}

/// Enters a fault under the rule that is about it.
pub(super) fn found_fault(stage: &Stage<'_>, fault: &Fault, notes: &mut Notes) {
    let said = brief(&fault.message);
    let rule = match fault.kind {
        FaultKind::BadAnswer if said.contains("no choice is open") => Rule::MaskOpen,
        // The SDKs refuse these before the host could see them.
        FaultKind::GuestFailed if said.contains("reward that is NaN") => Rule::RewardFinite,
        FaultKind::GuestFailed if said.contains("observation") && said.contains("NaN") => Rule::ObservationInSpace,
        _ => Rule::Faults,
    };
    let seen = format!("{}: {said}, in episode {}, step {}", fault.kind, fault.episode, fault.step);
    notes.find(rule, Finding { seen, seed: Some(stage.options.seed), step: None });
}

fn oddities(stage: &Stage<'_>, player: &Player, notes: &mut Notes) {
    for oddity in player.envs.oddities() {
        let rule = match oddity.kind {
            OddityKind::NanReward | OddityKind::InfiniteReward => Rule::RewardFinite,
            OddityKind::OutsideSpace => Rule::ObservationInSpace,
        };
        notes.find(rule, Finding { seen: oddity.to_string(), seed: Some(stage.options.seed), step: None });
    }
    notes.pass(Rule::RewardFinite);
    notes.pass(Rule::ObservationInSpace);
}
