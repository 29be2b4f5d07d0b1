//! Plays for a comparison with the native class, which runs elsewhere: in a Python of the author's own.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::Report;
use super::play::{Options, Player, Stage};
use super::rule::{Finding, Outcome, Rule};
use crate::error::Error;

/// Seeds that are played.
const SEEDS: u64 = 3;

/// Steps of each.
const STEPS: usize = 300;
const STEPS_QUICK: usize = 100;

/// What was played with one seed, as JSON.
#[derive(Debug, Serialize)]
pub struct NativePlay {
    /// The seed of the first reset; later ones have none.
    pub seed: u64,
    /// The actions, in order.
    pub actions: Vec<Value>,
    /// The answers: `observation`, `reward`, `terminated`, `truncated`, and whether it is of a reset.
    pub rows: Vec<Value>,
}

/// The first difference that the native class shows.
#[derive(Debug, Deserialize)]
pub struct Difference {
    /// What differs.
    pub seen: String,
    /// The seed of the play.
    pub seed: u64,
    /// The step; 0 is the reset.
    pub step: u64,
}

impl NativePlay {
    /// Plays the plugin with some seeds.
    ///
    /// # Errors
    /// As [`examine`](super::examine).
    pub fn all(options: &Options) -> Result<Vec<NativePlay>, Error> {
        let stage = Stage::new(options)?;
        let steps = if options.quick { STEPS_QUICK } else { STEPS };
        let mut player = Player::new(stage.env()?, options.seed)?;
        let mut plays = Vec::new();
        for seed in (0..SEEDS).map(|more| options.seed.wrapping_add(more)) {
            let played = player.play(seed, steps)?;
            let space = &played.spec.action_space;
            plays.push(NativePlay {
                seed,
                actions: played.actions.chunks_exact(space.stride()).map(|action| space.to_json(action)).collect(),
                rows: played.rows.iter().map_while(|row| row.to_json(&played.spec)).collect(),
            });
        }
        Ok(plays)
    }
}

impl Report {
    /// Enters what the native class showed.
    pub fn compared_natively(&mut self, difference: Option<Difference>) {
        let outcome = match difference {
            None => Outcome::Passed,
            Some(Difference { seen, seed, step }) => Outcome::Found(vec![Finding::at(seen, seed, step)]),
        };
        self.rules.retain(|(rule, _)| *rule != Rule::NativeAgrees);
        self.rules.push((Rule::NativeAgrees, outcome));
    }
}
