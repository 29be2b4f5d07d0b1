//! Seeds and resets: what is the same again, and what is not.

use super::Notes;
use super::answers::compared_steps;
use super::play::{Played, Player, Stage};
use super::rule::{Finding, Rule};
use crate::error::Error;

/// Seeds that are compared.
const SEEDS: u64 = 8;

/// Steps that are enough to see whether two episodes differ.
const SHORT_STEPS: usize = 60;

/// Returns whether different seeds gave the same episodes: a key of the config may be what makes them random.
pub(super) fn look(stage: &Stage<'_>, first: &Played, notes: &mut Notes) -> Result<bool, Error> {
    let seed = stage.options.seed;
    let steps = compared_steps(stage);
    if stage.is_outside() {
        for rule in [Rule::Reproducible, Rule::ResetForgets, Rule::SeedMatters, Rule::ResetContinues] {
            notes.skip(rule, "what is granted comes from outside, and may differ");
        }
        return Ok(false);
    }
    let mut player = Player::new(stage.env()?, seed)?;
    let second = player.play(seed, steps)?;
    notes.judge(Rule::Reproducible, first.difference(&second));
    if notes.has_found(Rule::Reproducible) {
        // Everything else would differ for this reason alone.
        for rule in [Rule::ResetForgets, Rule::SeedMatters, Rule::ResetContinues] {
            notes.skip(rule, "equal seeds do not give equal episodes");
        }
        return Ok(false);
    }

    // The same instance again, which has played; and once more, in the middle of an episode.
    for played in [steps, steps.min(7)] {
        player.again(seed)?;
        let again = player.play(seed, played)?;
        notes.judge(Rule::ResetForgets, first_part(first, played).difference(&again));
    }

    if notes.has_found(Rule::ResetForgets) {
        // A reset with another seed would differ for what the one before left behind.
        player = Player::new(stage.env()?, seed)?;
    }
    let mut with_seeds = Vec::new();
    for other in (0..SEEDS).map(|more| seed.wrapping_add(more)) {
        player.again(seed)?;
        with_seeds.push(player.play(other, stage.steps(SHORT_STEPS))?);
    }
    let is_random = seeds_differ(&with_seeds);
    if is_random {
        notes.pass(Rule::SeedMatters);
        player.again(seed)?;
        let steps = stage.steps(SHORT_STEPS);
        let seeded = player.play(seed, steps)?;
        player.again(seed)?;
        let on = player.play_on(seed, steps)?;
        player.again(seed)?;
        let further = player.play_on(seed, steps)?;
        if [&seeded, &on, &further].into_iter().any(|played| played.fault.is_some()) {
            notes.skip(Rule::ResetContinues, "a fault came first");
            return Ok(false);
        }
        let repeats = same(&on, &further) || same(&seeded, &on);
        let seen = format!("two resets without a seed give the same {steps} steps");
        notes.judge(Rule::ResetContinues, repeats.then(|| Finding::at(seen, seed, 0)));
    } else {
        notes.skip(Rule::ResetContinues, "nothing in the env is random");
    }
    Ok(!is_random)
}

/// Whether some of these plays differ.
pub(super) fn seeds_differ(plays: &[Played]) -> bool {
    plays.windows(2).any(|two| !same(&two[0], &two[1]))
}

fn same(one: &Played, two: &Played) -> bool {
    one.difference(two).is_none()
}

/// What is found where no seed and no config makes a difference.
pub(super) fn seed_is_ignored(seed: u64) -> Finding {
    Finding::at(format!("{SEEDS} seeds give the same {SHORT_STEPS} steps, under every config that was tried"), seed, 0)
}

/// The beginning of a play.
pub(super) fn first_part(played: &Played, steps: usize) -> Played {
    let mut part = played.clone();
    if part.rows.len() > steps + 1 {
        part.rows.truncate(steps + 1);
        part.fault = None;
    }
    part
}
