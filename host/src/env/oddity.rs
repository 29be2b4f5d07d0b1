//! What is odd about the answers of envs without being a fault: counted in every run, and told with its summary.
//!
//! Gymnasium's own vector envs pass such answers on, so they stay answers here. `rollcage check` says how to mend each.

use std::fmt;

use crate::space::Layout;

/// A kind of odd answer. The names are stable (`--json`, Python).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum OddityKind {
    /// A reward that is NaN.
    NanReward,
    /// A reward that is infinite.
    InfiniteReward,
    /// An observation with an element outside the bounds of its `Box`, or NaN.
    OutsideSpace,
}

impl OddityKind {
    /// Every kind.
    pub const ALL: [OddityKind; 3] = [OddityKind::NanReward, OddityKind::InfiniteReward, OddityKind::OutsideSpace];

    /// The stable name: `nan_reward`.
    pub fn name(self) -> &'static str {
        match self {
            OddityKind::NanReward => "nan_reward",
            OddityKind::InfiniteReward => "infinite_reward",
            OddityKind::OutsideSpace => "outside_space",
        }
    }

    fn words(self, one: bool) -> &'static str {
        match (self, one) {
            (OddityKind::NanReward, true) => "reward was NaN",
            (OddityKind::NanReward, false) => "rewards were NaN",
            (OddityKind::InfiniteReward, true) => "reward was infinite",
            (OddityKind::InfiniteReward, false) => "rewards were infinite",
            (OddityKind::OutsideSpace, true) => "observation was outside its space",
            (OddityKind::OutsideSpace, false) => "observations were outside their space",
        }
    }
}

/// Odd answers of one kind, of all envs of a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Oddity {
    /// What is odd.
    pub kind: OddityKind,
    /// How often it happened.
    pub times: u64,
    /// The env, episode and step of the first one. Step 0 is the reset.
    pub env: u32,
    /// See `env`.
    pub episode: u64,
    /// See `env`.
    pub step: u32,
    /// The value of the first one: which element is what, and what is allowed.
    pub example: String,
}

impl fmt::Display for Oddity {
    /// `12 rewards were NaN (first: env 3, episode 0, step 40)`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Oddity { kind, times, env, episode, step, example } = self;
        write!(f, "{times} {} (first: env {env}, episode {episode}, step {step}", kind.words(*times == 1))?;
        if !example.is_empty() {
            write!(f, ": {example}")?;
        }
        f.write_str(")")
    }
}

/// The odd answers of one env.
#[derive(Clone, Debug, Default)]
pub(crate) struct Oddities {
    kinds: [Option<Box<First>>; OddityKind::ALL.len()],
}

/// The first odd answer of a kind, and the number of all.
#[derive(Clone, Debug)]
struct First {
    times: u64,
    /// Steps and resets of this env before it, of all instances.
    at: u64,
    episode: u64,
    step: u32,
    example: String,
}

/// Where an answer stands in an env's run.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place {
    /// Answers of this env before it.
    pub(crate) at: u64,
    pub(crate) episode: u64,
    pub(crate) step: u32,
}

impl Oddities {
    /// Looks at an observation; of a step, at its reward too.
    #[inline]
    pub(crate) fn look(&mut self, layout: &Layout, observation: &[u8], reward: f64, place: Place) {
        if !reward.is_finite() {
            let kind = if reward.is_nan() { OddityKind::NanReward } else { OddityKind::InfiniteReward };
            self.count(kind, place, String::new);
        }
        if !layout.is_within_bounds(observation) {
            self.count(OddityKind::OutsideSpace, place, || layout.contains(observation).err().unwrap_or_default());
        }
    }

    #[cold]
    fn count(&mut self, kind: OddityKind, place: Place, example: impl FnOnce() -> String) {
        let Place { at, episode, step } = place;
        let first = || Box::new(First { times: 0, at, episode, step, example: example() });
        self.kinds[kind as usize].get_or_insert_with(first).times += 1;
    }

    /// The odd answers of many envs, by kind.
    pub(crate) fn of_all<'a>(all: impl Iterator<Item = (u32, &'a Oddities)> + Clone) -> Vec<Oddity> {
        let of = |kind: OddityKind| {
            let found = all.clone().filter_map(|(env, of_env)| Some((env, of_env.kinds[kind as usize].as_deref()?)));
            let times = found.clone().map(|(_, first)| first.times).sum();
            let (env, first) = found.min_by_key(|(env, first)| (first.at, *env))?;
            let First { episode, step, .. } = *first;
            Some(Oddity { kind, times, env, episode, step, example: first.example.clone() })
        };
        OddityKind::ALL.into_iter().filter_map(of).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::space::{Dtype, Space};

    #[test]
    fn the_first_of_all_envs_is_told() {
        let bound = |number: f32| number.to_le_bytes().to_vec();
        let space = Space::Box { dtype: Dtype::Float32, shape: vec![2], low: bound(-1.0), high: bound(1.0) };
        let layout = space.layout();
        let value = |numbers: [f32; 2]| numbers.map(f32::to_le_bytes).concat();
        let place = |at: u64| Place { at, episode: 1, step: 7 };
        let mut envs = [Oddities::default(), Oddities::default()];
        envs[0].look(&layout, &value([0.5, -1.0]), f64::NAN, place(9));
        envs[1].look(&layout, &value([0.5, 1.5]), f64::NAN, place(4));
        envs[1].look(&layout, &value([f32::NAN, 0.0]), f64::NEG_INFINITY, place(5));
        envs[1].look(&layout, &value([1.0, 0.0]), -1e300, place(6));
        let all = Oddities::of_all((0..).zip(&envs));
        let told: Vec<String> = all.iter().map(ToString::to_string).collect();
        assert_eq!(
            told,
            [
                "2 rewards were NaN (first: env 1, episode 1, step 7)",
                "1 reward was infinite (first: env 1, episode 1, step 7)",
                "2 observations were outside their space (first: env 1, episode 1, step 7: element [1] is 1.5, allowed is \
                 -1.0 to 1.0)",
            ]
        );
        assert_eq!(
            all.iter().map(|one| one.kind.name()).collect::<Vec<_>>(),
            ["nan_reward", "infinite_reward", "outside_space"]
        );
    }
}
