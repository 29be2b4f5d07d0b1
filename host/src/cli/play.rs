//! The loop of `rollcage run`: which envs play, with which actions, for how long, and the counts.
//!
//! Each env has a share of its own and is not stepped after it has played its share, so no result depends on timing or on the
//! other envs. This file knows a `VecEnv` and a policy, and nothing of arguments or output.

use rollcage::env::policy::Policy;
use rollcage::spread::Spread;
use rollcage::{Autoreset, EpisodeEnd, Error, ResetSome, VecEnv};

/// The amount to play, for all envs together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Goal {
    /// Episodes that end by themselves or by their time limit; episodes ended by a fault do not count.
    Episodes(u64),
    /// Steps that were answered; resets do not count.
    Steps(u64),
}

impl Goal {
    pub(super) fn total(self) -> u64 {
        match self {
            Goal::Episodes(total) | Goal::Steps(total) => total,
        }
    }

    /// The share of one env: an even part, and for the first envs one more of the remainder.
    fn share(self, env: usize, envs: usize) -> u64 {
        let (env, envs) = (env as u64, envs.max(1) as u64);
        self.total() / envs + u64::from(env < self.total() % envs)
    }
}

/// The counts so far.
#[derive(Clone, Debug, Default)]
pub(super) struct Tally {
    pub(super) steps: u64,
    pub(super) episodes: u64,
    pub(super) returns: Spread,
    pub(super) lengths: Spread,
    /// Every return, if they are wanted.
    pub(super) every: Option<Vec<f64>>,
}

impl Tally {
    pub(super) fn end(&mut self, episode: EpisodeEnd) {
        self.episodes += 1;
        self.returns.add(episode.episode_return);
        self.lengths.add(f64::from(episode.length));
        self.every.iter_mut().for_each(|every| every.push(episode.episode_return));
    }

    /// The part of a goal that is done.
    pub(super) fn done(&self, goal: Goal) -> u64 {
        match goal {
            Goal::Episodes(_) => self.episodes,
            Goal::Steps(_) => self.steps,
        }
    }
}

/// A run under way.
pub(super) struct Play<'e> {
    envs: &'e mut VecEnv,
    policy: Policy,
    goal: Goal,
    resets_by_hand: bool,
    /// The remaining share of each env.
    left: Vec<u64>,
    /// The envs that go on, ascending.
    playing: Vec<usize>,
    /// The envs whose action counts in this step.
    acting: Vec<bool>,
    /// An action for each of `playing`.
    actions: Vec<u8>,
    stride: usize,
    /// The envs that were masked before their share was done.
    pub(super) masked: Vec<usize>,
    pub(super) tally: Tally,
}

impl<'e> Play<'e> {
    pub(super) fn new(envs: &'e mut VecEnv, policy: Policy, goal: Goal, autoreset: Autoreset) -> Play<'e> {
        let count = envs.len();
        let left: Vec<u64> = (0..count).map(|env| goal.share(env, count)).collect();
        let stride = envs.spec().action_space.stride();
        Play {
            playing: (0..count).filter(|&env| left[env] > 0).collect(),
            acting: vec![false; count],
            actions: vec![0; count * stride],
            masked: Vec::new(),
            tally: Tally::default(),
            resets_by_hand: autoreset == Autoreset::Disabled,
            envs,
            policy,
            goal,
            left,
            stride,
        }
    }

    pub(super) fn envs(&self) -> &VecEnv {
        self.envs
    }

    pub(super) fn envs_mut(&mut self) -> &mut VecEnv {
        self.envs
    }

    /// Whether an action of this env was part of the last step.
    pub(super) fn acted(&self, env: usize) -> bool {
        self.acting[env]
    }

    /// Makes the first reset of every env, also of envs that will take no step.
    pub(super) fn reset(&mut self) -> Result<(), Error> {
        self.envs.reset(None)?;
        self.leave_masked();
        Ok(())
    }

    /// Takes one step of all envs that still play. False: the run is over, because every share is done or the actions have
    /// ended.
    pub(super) fn turn(&mut self) -> Result<bool, Error> {
        if self.resets_by_hand {
            self.reset_ended()?;
        }
        if self.playing.is_empty() || !self.policy.advance()? {
            return Ok(false);
        }
        self.choose()?;
        let stepped = if self.playing.len() == self.acting.len() {
            self.envs.step(&self.actions).map(drop)
        } else {
            self.envs.step_some(&self.actions[..self.playing.len() * self.stride], &self.playing).map(drop)
        };
        // After one env's fault the answers of the other envs are present, and count.
        self.count();
        stepped.map(|()| true)
    }

    /// Resets ended envs. With autoreset disabled the caller resets, and here we are the caller. A reset takes no action, and
    /// no line of a file.
    fn reset_ended(&mut self) -> Result<(), Error> {
        if self.playing.iter().all(|&env| self.envs.takes_action(env)) {
            return Ok(());
        }
        let mut mask = vec![false; self.acting.len()];
        for &env in &self.playing {
            mask[env] = !self.envs.takes_action(env);
        }
        self.envs.reset_some(&ResetSome { mask: Some(&mask), ..ResetSome::default() })?;
        self.leave_masked();
        Ok(())
    }

    /// Asks the policy only for the envs whose action counts: an env that only resets draws nothing.
    fn choose(&mut self) -> Result<(), Error> {
        self.acting.fill(false);
        for (position, &env) in self.playing.iter().enumerate() {
            self.acting[env] = self.envs.takes_action(env);
            if self.acting[env] {
                let mask = Some(self.envs.last().action_mask(env)).filter(|mask| !mask.is_empty());
                self.policy.act(env, mask, &mut self.actions[position * self.stride..][..self.stride])?;
            }
        }
        Ok(())
    }

    fn count(&mut self) {
        let batch = self.envs.last();
        let mut leaves = false;
        for &env in &self.playing {
            if self.envs.is_busy(env) {
                // The call was interrupted before this env answered.
                continue;
            }
            let ended = batch.episodes[env];
            // In same-step mode a step that ended an episode was answered, even if its reset then met a fault.
            let answered = self.acting[env] && (batch.faults[env].is_none() || ended.is_some());
            self.tally.steps += u64::from(answered);
            if let Some(episode) = ended {
                self.tally.end(episode);
            }
            let counts = match self.goal {
                Goal::Episodes(_) => ended.is_some(),
                Goal::Steps(_) => answered,
            };
            self.left[env] -= u64::from(counts);
            leaves |= self.left[env] == 0 || batch.masked[env];
        }
        if leaves {
            self.playing.retain(|&env| self.left[env] > 0);
            self.leave_masked();
        }
    }

    /// Removes masked envs from the run; their shares stay unfinished.
    fn leave_masked(&mut self) {
        let batch = self.envs.last();
        self.masked.extend(self.playing.extract_if(.., |env| batch.masked[*env]));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_even_and_add_up() {
        for (total, envs, expected) in [
            (10, 1, vec![10]),
            (10, 3, vec![4, 3, 3]),
            (2, 4, vec![1, 1, 0, 0]),
            (0, 2, vec![0, 0]),
            (u64::MAX, 2, vec![u64::MAX / 2 + 1, u64::MAX / 2]),
        ] {
            for goal in [Goal::Episodes(total), Goal::Steps(total)] {
                let shares: Vec<u64> = (0..envs).map(|env| goal.share(env, envs)).collect();
                assert_eq!(shares, expected, "{goal:?}");
            }
        }
    }
}
