//! The same play in other ways: interpreted, spawned, in batches, restored, branched.

use super::Notes;
use super::answers::compared_steps;
use super::episodes::first_part;
use super::play::{Played, Player, Stage, builder};
use super::rule::{Finding, Rule};
use crate::cage::engine::Backend;
use crate::env::rollout::{Acting, Amount, Keep};
use crate::env::terms::Start;
use crate::error::Error;

/// Steps that are played before a snapshot or a branch is made, and after it.
const BEFORE: usize = 20;
const AFTER: usize = 40;

pub(super) fn look(stage: &Stage<'_>, first: &Played, notes: &mut Notes) -> Result<(), Error> {
    let rules = [
        Rule::BackendsAgree,
        Rule::StartsAgree,
        Rule::BatchAgrees,
        Rule::RestoreAgrees,
        Rule::BranchAgrees,
        Rule::HashOrder,
    ];
    let why = if stage.is_outside() {
        Some("what is granted comes from outside, and may differ")
    } else if notes.has_found(Rule::Reproducible) {
        Some("equal seeds do not give equal episodes")
    } else if first.rows.len() <= 1 {
        Some("no step was taken")
    } else {
        None
    };
    if let Some(why) = why {
        rules.into_iter().for_each(|rule| notes.skip(rule, why));
        return Ok(());
    }
    backends(stage, first, notes)?;
    starts(stage, first, notes)?;
    batches(stage, first, notes)?;
    copies(stage, first, notes)?;
    hash_order(stage, first, notes)
}

fn backends(stage: &Stage<'_>, first: &Played, notes: &mut Notes) -> Result<(), Error> {
    if stage.options.quick {
        notes.skip(Rule::BackendsAgree, "left out by --quick");
        return Ok(());
    }
    let envs = builder(stage.options, &stage.options.plugin)?.backend(Backend::Pulley).build()?;
    let played = Player::new(envs, stage.options.seed)?.play(stage.options.seed, compared_steps(stage))?;
    notes.judge(Rule::BackendsAgree, first.difference(&played));
    Ok(())
}

fn starts(stage: &Stage<'_>, first: &Played, notes: &mut Notes) -> Result<(), Error> {
    let envs = stage.builder()?.start(Start::Spawn).build()?;
    let mut player = Player::new(envs, stage.options.seed)?;
    let played = player.play(stage.options.seed, compared_steps(stage))?;
    notes.judge(Rule::StartsAgree, first.difference(&played));
    Ok(())
}

/// The first episode, in batches of steps.
fn batches(stage: &Stage<'_>, first: &Played, notes: &mut Notes) -> Result<(), Error> {
    // Without the reset, and up to the first end.
    let steps = first.rows.iter().skip(1).take_while(|row| !row.is_reset).count();
    let stride = first.spec.action_space.stride();
    let mut envs = stage.env()?;
    envs.reset(Some(stage.options.seed))?;
    let mut at = 0;
    for size in [1, 2, 7, steps] {
        let count = size.min(steps - at);
        if count == 0 {
            break;
        }
        let taken = envs.step_many(0, &first.actions[at * stride..(at + count) * stride])?;
        for index in 0..taken.taken as usize {
            let row = &first.rows[1 + at + index];
            if let Some(what) = row.difference_of_batch(&taken, index, &first.spec) {
                notes.find(Rule::BatchAgrees, Finding::at(what, stage.options.seed, (at + index + 1) as u64));
                return Ok(());
            }
        }
        at += taken.taken as usize;
        if (taken.taken as usize) < count {
            let seen = format!("a batch of {count} steps took {}", taken.taken);
            notes.find(Rule::BatchAgrees, Finding::at(seen, stage.options.seed, at as u64));
            return Ok(());
        }
    }
    // The guest's own loop, which rollouts call.
    let mut played = stage.env()?;
    played.reset(Some(stage.options.seed))?;
    let actions = &first.actions[..at * stride];
    played.rollout(Acting::Given(&[actions]), Amount::Steps(0), Keep::Returns)?;
    if played.digests() != envs.digests() {
        let seen = format!("{at} steps in one call of its `step-many` give other answers than single steps");
        notes.find(Rule::BatchAgrees, Finding::at(seen, stage.options.seed, at as u64));
        return Ok(());
    }
    notes.pass(Rule::BatchAgrees);
    Ok(())
}

/// Snapshots and branches of an env in the middle of a play.
fn copies(stage: &Stage<'_>, first: &Played, notes: &mut Notes) -> Result<(), Error> {
    let seed = stage.options.seed;
    let (before, after) = (stage.steps(BEFORE), stage.steps(AFTER));
    let mut original = Player::new(stage.env()?, seed)?;
    original.play(seed, before)?;
    if first.rows.len() < before {
        notes.skip(Rule::RestoreAgrees, "a fault came first");
        notes.skip(Rule::BranchAgrees, "a fault came first");
        return Ok(());
    }
    let snapshot = original.envs.snapshot(0)?;
    let mut restored = Player::new(stage.env()?, seed)?;
    let back = restored.envs.restore(0, &snapshot).map(|_| ());
    let branched = original.envs.branch(0, 1);
    let is_over = original.is_over();

    let mut theirs = original.begun(seed, after);
    original.again(seed)?;
    original.go_on(&mut theirs, after)?;
    match back {
        Ok(()) => {
            let played = go_on(stage, restored, is_over)?;
            notes.judge(Rule::RestoreAgrees, later(theirs.difference(&played), before));
        }
        Err(Error::Usage(error)) => notes.find(Rule::RestoreAgrees, Finding::at(error.message, seed, before as u64)),
        Err(Error::Fault(fault)) => {
            notes.find(Rule::RestoreAgrees, Finding::at(fault.to_string(), seed, before as u64))
        }
        Err(error) => return Err(error),
    }
    match branched {
        Ok(envs) => {
            let played = go_on(stage, Player::new(envs, seed)?, is_over)?;
            notes.judge(Rule::BranchAgrees, later(theirs.difference(&played), before));
        }
        Err(Error::Usage(error)) => notes.skip(Rule::BranchAgrees, &error.message),
        Err(Error::Fault(fault)) => notes.find(Rule::BranchAgrees, Finding::at(fault.to_string(), seed, before as u64)),
        Err(error) => return Err(error),
    }
    Ok(())
}

/// Goes on with a copy, with the actions from the beginning.
fn go_on(stage: &Stage<'_>, mut copy: Player, is_over: bool) -> Result<Played, Error> {
    let steps = stage.steps(AFTER);
    let mut played = copy.begun(stage.options.seed, steps);
    copy.again(stage.options.seed)?;
    copy.takes_up(is_over);
    copy.go_on(&mut played, steps)?;
    Ok(played)
}

/// A finding of a play that began after so many steps.
fn later(finding: Option<Finding>, before: usize) -> Option<Finding> {
    finding.map(|finding| Finding { step: finding.step.map(|step| step + before as u64 + 1), ..finding })
}

/// The same plugin on a base whose hashes of strings are others.
fn hash_order(stage: &Stage<'_>, first: &Played, notes: &mut Notes) -> Result<(), Error> {
    let Some(other) = &stage.options.other_secret else {
        let is_interpreted = !stage.prepared.description().runtime.is_empty();
        let why = if stage.options.quick && is_interpreted {
            "left out by --quick"
        } else {
            "it is for envs in Python, where a base with another hash secret is there"
        };
        notes.skip(Rule::HashOrder, why);
        return Ok(());
    };
    let steps = compared_steps(stage);
    let mut prepared = builder(stage.options, other)?.prepare()?;
    // What the env draws before its first seed must not differ for another reason.
    prepared.random_of = stage.prepared.random_of;
    let envs = builder(stage.options, other)?.prepared(prepared).build()?;
    let played = Player::new(envs, stage.options.seed)?.play(stage.options.seed, steps)?;
    notes.judge(Rule::HashOrder, first_part(first, steps).difference(&played));
    Ok(())
}
