//! The run of a policy that acts in the envs' workers.

use std::time::Instant;

use rollcage::rollout::{Acting, Amount, Keep};
use rollcage::{Error, VecEnv};

use super::play::{Goal, Tally};
use super::progress::Progress;
use super::report::Times;

/// Lets the envs play their shares of the goal.
pub(super) fn play(
    envs: &mut VecEnv,
    goal: Goal,
    mut tally: Tally,
    times: &mut Times,
    progress: &mut Progress,
    started: Instant,
    restored: bool,
) -> (Tally, Result<Option<String>, Error>) {
    let amount = match goal {
        Goal::Episodes(total) => Amount::Episodes(total),
        Goal::Steps(total) => Amount::StepsTogether(total),
    };
    // The first reset counts as the start; envs that begin from a snapshot are in an episode already.
    if !restored && let Err(error) = envs.reset(None) {
        return (tally, Err(error));
    }
    let first = Instant::now();
    times.start = Some(first.duration_since(started));
    let faults = envs.faults().clone();
    let played = envs.rollout_with(Acting::Policy, amount, Keep::Returns, &mut |done| {
        let so_far = Tally { steps: done.steps, episodes: done.episodes, returns: done.returns, ..Tally::default() };
        progress.step(&so_far, &faults);
    });
    times.playing = first.elapsed();
    match played {
        Err(error) => (tally, Err(error)),
        Ok(played) => {
            tally.steps = played.steps();
            played.episodes().for_each(|episode| tally.end(episode));
            let masked = (0..envs.len()).find(|&env| envs.is_masked(env));
            (tally, Ok(masked.map(|env| format!("env {env} is masked after a fault"))))
        }
    }
}
