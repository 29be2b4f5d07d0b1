//! Rollouts: envs play by themselves, thousands of steps in a turn of their workers. This file knows who acts in which env
//! and how much is left to play; `slot/rollout.rs` has one turn of one env.

use std::borrow::Cow;
use std::time::Duration;

pub use super::policy_plugin::{PolicyPlugin, PolicyWorker};

use super::apart::{Apart, Chosen};
use super::batch::EpisodeEnd;
use super::policy::Random;
use super::slot::{Part, Progress, Slot};
use super::terms::Terms;
use super::vec_env::{VecEnv, first};
use crate::error::{Error, UsageError};
use crate::fault::Fault;
use crate::spread::Spread;
use crate::wire::slab::layout::ViewLayout;
use crate::wire::slab::rollout::Row;
use crate::wire::wait::{SLICE, Spin};

/// Who chooses the actions of a rollout.
#[derive(Clone, Copy, Debug)]
pub enum Acting<'a> {
    /// The policy that the envs were built with ([`Builder::policy`](super::builder::Builder::policy)).
    Policy,
    /// Samples of the action space, from a generator of each env's own: those of `rollcage run --policy random`.
    Random,
    /// Given actions: for each env its values of the action space, back to back. They end the rollout, whatever the amount.
    Given(&'a [&'a [u8]]),
}

/// How much is played.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Amount {
    /// So many steps of each env.
    Steps(u64),
    /// So many steps of all envs together, in even shares.
    StepsTogether(u64),
    /// So many episodes of all envs together, in even shares: env *i* of *n* plays one more than the others where *i* is less
    /// than the remainder. Episodes that a fault ended do not count.
    Episodes(u64),
}

/// What is kept of a rollout.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Keep {
    /// Every column.
    #[default]
    Columns,
    /// Returns and lengths of the episodes, which take no memory to speak of.
    Returns,
}

/// What was played, env by env.
#[derive(Clone, Debug, Default)]
pub struct Rollout {
    /// Names of the numbers that the policy added to each action.
    pub adds: Vec<String>,
    /// What each env played.
    pub envs: Vec<EnvRollout>,
}

/// What one env played: a row for each answered step. Values are bytes of their spaces, back to back.
#[derive(Clone, Debug, Default)]
pub struct EnvRollout {
    /// Answered steps.
    pub steps: u64,
    /// The observation on which each action was chosen.
    pub observations: Vec<u8>,
    /// The mask that came with it; empty if the env has none.
    pub action_masks: Vec<u8>,
    /// The actions.
    pub actions: Vec<u8>,
    /// What the policy added, [`Rollout::adds`] numbers a row.
    pub added: Vec<f32>,
    /// The rewards.
    pub rewards: Vec<f64>,
    /// Whether the task itself ended the episode with this step.
    pub terminated: Vec<bool>,
    /// Whether the env, the time limit, or a fault in the step after it cut the episode off here.
    pub truncated: Vec<bool>,
    /// The last observation of each episode that ended, in order: one for each row that is terminated or truncated.
    pub final_observations: Vec<u8>,
    /// The observation after the last row; where that row ended an episode, the same as its final observation.
    pub last_observation: Vec<u8>,
    /// Episodes that ended by themselves or by their time limit.
    pub episodes: Vec<EpisodeEnd>,
    /// Faults that the env met.
    pub faults: Vec<Fault>,
}

impl Rollout {
    /// The episodes that ended, env by env.
    pub fn episodes(&self) -> impl Iterator<Item = EpisodeEnd> {
        self.envs.iter().flat_map(|env| env.episodes.iter().copied())
    }

    /// Answered steps of all envs.
    pub fn steps(&self) -> u64 {
        self.envs.iter().map(|env| env.steps).sum()
    }
}

/// How far a rollout is.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Done {
    /// Answered steps of all envs.
    pub steps: u64,
    /// Episodes that ended.
    pub episodes: u64,
    /// Their returns.
    pub returns: Spread,
}

/// What is left to play in one env.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Left {
    Steps(u64),
    Episodes(u64),
}

impl Left {
    fn is_none(self) -> bool {
        matches!(self, Left::Steps(0) | Left::Episodes(0))
    }
}

/// One env while it plays.
struct Playing {
    left: Left,
    /// Given or drawn actions: how many were taken of those given.
    taken: usize,
    /// What is under way.
    asked: Asked,
    /// The numbers that come with the action under way, where the policy has a process of its own.
    numbers: Vec<f32>,
    returns: Spread,
    out: EnvRollout,
}

enum Asked {
    /// Nothing, or what has no rows: a reset, a policy that is made.
    Nothing,
    Part,
    /// No more is asked of this env.
    Over,
}

impl VecEnv {
    /// Lets the envs play by themselves: the policy acts in each env's worker, episodes end and begin again, and what was
    /// played comes back as columns. Digests and recordings are those of the same steps asked for one by one. An env that was
    /// not reset yet, or whose episode is over, is reset first. With same-step autoreset, envs that end with an episode's end
    /// are reset; else the next call does so.
    ///
    /// # Errors
    /// [`Error::Usage`]: the envs were built without a policy; given actions that are not in the space; a call that would lose
    /// an answer, as for [`VecEnv::step`]. [`Error::Fault`] of kind [`Policy`](crate::FaultKind::Policy): the policy cannot go
    /// on. Envs are not charged for it, and go on where they are. Further as [`VecEnv::step`], for faults of envs and their
    /// budgets; with [`OnFault::Mask`](crate::OnFault::Mask) an env that met a fault plays no more. [`Error::Interrupted`]:
    /// each env ends its turn after the step under way. After an error what was played is not returned.
    pub fn rollout(&mut self, acting: Acting<'_>, amount: Amount, keep: Keep) -> Result<Rollout, Error> {
        self.rollout_with(acting, amount, keep, &mut |_| {})
    }

    /// As [`VecEnv::rollout`], and tells how far it is, some times a second.
    ///
    /// # Errors
    /// As there.
    pub fn rollout_with(
        &mut self,
        acting: Acting<'_>,
        amount: Amount,
        keep: Keep,
        tell: &mut dyn FnMut(Done),
    ) -> Result<Rollout, Error> {
        self.begin_rollout()?;
        self.check_acting(acting)?;
        let given = match acting {
            Acting::Given(actions) => self.as_given(actions)?,
            Acting::Policy | Acting::Random => Vec::new(),
        };
        let given: Vec<&[u8]> = given.iter().map(|actions| &**actions).collect();
        let acting = if let Acting::Given(_) = acting { Acting::Given(&given) } else { acting };
        let envs = self.slots.len();
        let stride = self.terms.shape().strides.view.action;
        let mut playing: Vec<Playing> = (0..envs)
            .map(|env| {
                let left = match acting {
                    Acting::Given(actions) => Left::Steps((actions[env].len() / stride.max(1)) as u64),
                    _ => amount.share(env, envs),
                };
                Playing {
                    left,
                    taken: 0,
                    asked: Asked::Nothing,
                    numbers: Vec::new(),
                    returns: Spread::default(),
                    out: EnvRollout::default(),
                }
            })
            .collect();
        let mut error = None;
        loop {
            let mut under_way = Vec::new();
            for (env, part) in playing.iter_mut().enumerate() {
                if matches!(part.asked, Asked::Over) {
                    continue;
                }
                let mut gone_on = self.go_on(env, part, acting, keep, error.is_some());
                while gone_on.is_ok() && self.slots[env].is_to_be_repeated() {
                    gone_on = self.repeat_now(env).and_then(|()| self.go_on(env, part, acting, keep, error.is_some()));
                }
                if let Err(found) = gone_on {
                    error = Some(match error {
                        Some(before) => first([before, found].into_iter()).err().unwrap_or(Error::Interrupted),
                        None => found,
                    });
                    self.slots.iter().for_each(Slot::stop_playing);
                }
                if !matches!(part.asked, Asked::Over) {
                    under_way.push(env);
                }
            }
            self.slots.iter().for_each(Slot::tell);
            if under_way.is_empty() {
                break;
            }
            tell(Done {
                steps: playing.iter().map(|part| part.out.steps).sum(),
                episodes: playing.iter().map(|part| part.out.episodes.len() as u64).sum(),
                returns: playing.iter().fold(Spread::default(), |all, part| all.with(part.returns)),
            });
            if let Err(interrupted) = self.interrupt.check() {
                self.slots.iter().for_each(Slot::stop_playing);
                return Err(interrupted);
            }
            self.wait_any(&under_way, SLICE);
        }
        let adds = match acting {
            Acting::Policy => self.slots.first().map(|slot| slot.policy_adds().to_vec()).unwrap_or_default(),
            _ => Vec::new(),
        };
        self.reset_added()?;
        match error {
            Some(error) => Err(error),
            None => Ok(Rollout { adds, envs: playing.into_iter().map(|part| part.out).collect() }),
        }
    }

    /// Checks what can be checked before anything is played.
    fn check_acting(&mut self, acting: Acting<'_>) -> Result<(), Error> {
        match acting {
            Acting::Policy if self.terms.policy.is_none() => {
                Err(UsageError::new("these envs have no policy beside them")
                    .hint("give them one when they are made: `policy` of the builder, `make_vec(…, policy=…)`")
                    .into())
            }
            Acting::Policy => {
                if self.apart.is_none() && self.terms.policies_are_apart() {
                    self.apart = Some(Apart::start(&mut self.slots, &self.terms, &self.interrupt)?);
                }
                Ok(())
            }
            Acting::Random => {
                if self.random.is_none() {
                    let layout = self.terms.shape().spec.action_space.layout();
                    self.random = Some(Random::new(layout, self.slots.len(), self.first_env, self.seed)?);
                }
                Ok(())
            }
            Acting::Given(_) => Ok(()),
        }
    }

    /// Given actions as the envs are to get them: floats that are out of bounds by rounding are clipped.
    fn as_given<'a>(&self, actions: &[&'a [u8]]) -> Result<Vec<Cow<'a, [u8]>>, Error> {
        let shape = self.terms.shape();
        let (stride, envs) = (shape.strides.view.action, self.slots.len());
        if actions.len() != envs {
            let given = actions.len();
            return Err(UsageError::new(format!("given actions for {given} envs; there are {envs}")).into());
        }
        let mut given = Vec::with_capacity(envs);
        for (env, actions) in actions.iter().enumerate() {
            if stride == 0 || !actions.len().is_multiple_of(stride) {
                let bytes = actions.len();
                return Err(UsageError::new(format!("env {env}: {bytes} bytes of actions; one takes {stride}")).into());
            }
            let mut out = Cow::Borrowed(*actions);
            for (number, action) in actions.chunks_exact(stride).enumerate() {
                let checked = shape.action.as_action(action, shape.spec.actions_out_of_bounds);
                if let Some(clipped) = checked.map_err(|error| error.of(&format!("env {env}, action {number}: ")))? {
                    out.to_mut()[number * stride..][..stride].copy_from_slice(&clipped);
                }
            }
            given.push(out);
        }
        Ok(given)
    }

    /// Takes the result of what was under way in one env, and begins what is next.
    fn go_on(
        &mut self,
        env: usize,
        part: &mut Playing,
        acting: Acting<'_>,
        keep: Keep,
        ends: bool,
    ) -> Result<(), Error> {
        let VecEnv { slots, terms, batch, faults, random, apart, .. } = self;
        let slot = &mut slots[env];
        let mut apart = apart.as_mut().filter(|_| matches!(acting, Acting::Policy));
        if slot.is_busy() {
            let progress = slot.advance(Duration::ZERO, Spin::None, terms, batch, faults);
            slot.check_interrupted()?;
            if progress == Progress::Waiting {
                return Ok(());
            }
        }
        if let Asked::Part = part.asked {
            let taken = part.take(slot, terms, keep, matches!(acting, Acting::Given(_)));
            if let (Acting::Random, Some(random)) = (acting, random.as_mut()) {
                random.took(env, taken);
            }
            if apart.is_some() && !slot.must_be_reset() {
                slot.policy_sees();
            }
        }
        part.asked = Asked::Nothing;
        if let Some(fault) = batch.faults[env].take() {
            part.meets(*fault, keep);
        }
        if let Some(error) = slot.take_error() {
            part.asked = Asked::Over;
            return Err(error);
        }
        if slot.is_to_be_repeated() {
            return Ok(());
        }
        // An action that the policy was asked for is taken.
        let chooses = apart.as_ref().is_some_and(|apart| apart.is_choosing(env));
        if (ends && !chooses) || part.left.is_none() || slot.is_masked() {
            part.asked = Asked::Over;
            return Ok(());
        }
        let by_policy = matches!(acting, Acting::Policy) && apart.is_none();
        let mut chosen = None;
        if let Some(apart) = apart.as_mut().filter(|_| !slot.must_be_reset()) {
            match apart.choose(env, slot, terms) {
                Ok(None) => return Ok(()),
                Ok(decision) => chosen = decision,
                Err(error) => {
                    part.asked = Asked::Over;
                    return Err(error);
                }
            }
        }
        if slot.must_be_reset() {
            slot.begin_reset(None, None, terms, batch, faults);
        } else if by_policy && !slot.has_policy() {
            slot.begin_policy(terms, batch, faults);
        } else {
            let layout = slot.rollout_layout(by_policy, terms);
            let (mut steps, episodes) = match part.left {
                Left::Steps(left) => (left, u64::MAX),
                Left::Episodes(left) => (u64::MAX, left),
            };
            let episodes = episodes.min(slot.episodes_left(terms).unwrap_or(u64::MAX));
            if !layout.fits() || (!by_policy && layout.given_max() == 0) {
                part.asked = Asked::Over;
                return Err(UsageError::new("observations and actions of these envs are too large for a rollout")
                    .hint("`step` takes them of any size")
                    .into());
            }
            if !by_policy {
                steps = steps.min(layout.rows.min(layout.given_max()) as u64);
            }
            let mut drawn = Vec::new();
            let given: &[u8] = match (acting, random.as_mut()) {
                (Acting::Random, Some(random)) => {
                    // What a mask allows is known one step ahead.
                    let mask = batch.action_mask(env);
                    let mask = Some(mask).filter(|mask| !mask.is_empty());
                    steps = if mask.is_some() { 1 } else { steps };
                    random.draw(env, mask, usize::try_from(steps).unwrap_or(usize::MAX), &mut drawn);
                    &drawn
                }
                (Acting::Given(actions), _) => {
                    let stride = terms.shape().strides.view.action;
                    let count = usize::try_from(steps).unwrap_or(usize::MAX);
                    &actions[env][part.taken * stride..][..count * stride]
                }
                (Acting::Policy, _) => match chosen {
                    Some(Chosen { action, added }) => {
                        steps = 1;
                        (drawn, part.numbers) = (action, added);
                        &drawn
                    }
                    None => &[],
                },
                _ => &[],
            };
            part.begin(slot, terms, keep);
            let cut = |count: u64| u32::try_from(count).unwrap_or(u32::MAX);
            let batched = !matches!(acting, Acting::Policy) && slot.takes_batches(given.len(), terms);
            let order = Part { by_policy, batched, steps: cut(steps), episodes: cut(episodes) };
            part.asked = Asked::Part;
            slot.begin_part(order, given, terms, batch, faults);
        }
        Ok(())
    }

    /// Tells an instance again whose batch did not go as single steps may.
    pub(super) fn repeat_now(&mut self, env: usize) -> Result<(), Error> {
        let seat = self.slots[env].seat_beside();
        let repeated = self.repeat(env, seat);
        let new = match repeated {
            Ok(new) => Some(new),
            Err(Error::Interrupted) => return Err(Error::Interrupted),
            // It is not deterministic, or the system refuses: a new instance begins at the next reset.
            Err(error) => {
                self.slots[env].end_unrepeated(&self.terms, &mut self.faults, &error);
                None
            }
        };
        self.slots[env].move_to(None, new);
        Ok(())
    }

    /// With same-step autoreset an env whose episode is over is reset.
    fn reset_added(&mut self) -> Result<(), Error> {
        if !self.terms.autoreset.resets_at_once() {
            return Ok(());
        }
        let ended: Vec<usize> = (0..self.slots.len()).filter(|&env| self.slots[env].is_to_be_reset()).collect();
        for &env in &ended {
            self.slots[env].begin_added_reset(&self.terms, &mut self.batch, &mut self.faults);
        }
        self.collect(&ended)
    }
}

impl Amount {
    /// The share of one env: an even part, and for the first envs one more of the remainder.
    fn share(self, env: usize, envs: usize) -> Left {
        let (env, envs) = (env as u64, envs.max(1) as u64);
        let even = |total: u64| total / envs + u64::from(env < total % envs);
        match self {
            Amount::Steps(each) => Left::Steps(each),
            Amount::StepsTogether(total) => Left::Steps(even(total)),
            Amount::Episodes(total) => Left::Episodes(even(total)),
        }
    }
}

impl Playing {
    /// Notes the view from which the next turn goes on.
    fn begin(&mut self, slot: &Slot, terms: &Terms, keep: Keep) {
        if keep == Keep::Columns {
            let ViewLayout { observation, mask, .. } = terms.shape().strides.view;
            let view = slot.view();
            self.out.last_observation.clear();
            self.out.last_observation.extend_from_slice(&view.observation[..observation]);
            self.out.action_masks.extend_from_slice(&view.mask[..mask]);
        }
    }

    /// Takes what was played in a turn. Returns the number of actions that were taken, an action that met a fault included.
    /// `given`: that action counts as one of those given.
    fn take(&mut self, slot: &Slot, terms: &Terms, keep: Keep, given: bool) -> usize {
        let played = slot.rolled();
        let steps = played.rows.what.iter().filter(|row| matches!(row, Row::Step { .. })).count();
        let actions = steps + usize::from(played.unanswered);
        self.taken += actions;
        self.out.steps += steps as u64;
        self.out.episodes.extend(&played.episodes);
        played.episodes.iter().for_each(|episode| self.returns.add(episode.episode_return));
        match &mut self.left {
            Left::Steps(left) => *left = left.saturating_sub(if given { actions } else { steps } as u64),
            Left::Episodes(left) => *left = left.saturating_sub(played.episodes.len() as u64),
        }
        if keep == Keep::Columns {
            self.keep(slot, terms);
        }
        actions
    }

    fn keep(&mut self, slot: &Slot, terms: &Terms) {
        let layout = &terms.shape().strides.view;
        let rows = &slot.rolled().rows;
        let out = &mut self.out;
        let adds = if rows.what.is_empty() { 0 } else { rows.added.len() / rows.what.len() };
        // The mask of the last view is that of the next action, if there is one.
        for (row, what) in rows.what.iter().enumerate() {
            let observation = &rows.observations[row * layout.observation..][..layout.observation];
            let mask = &rows.masks[row * layout.mask..][..layout.mask];
            if let Row::Step { reward, terminated, truncated, time_limit } = *what {
                out.observations.extend_from_slice(&out.last_observation);
                out.actions.extend_from_slice(&rows.actions[row * layout.action..][..layout.action]);
                out.added.extend_from_slice(&rows.added[row * adds..][..adds]);
                out.added.append(&mut self.numbers);
                out.rewards.push(reward);
                out.terminated.push(terminated);
                out.truncated.push(truncated || time_limit);
                if terminated || truncated || time_limit {
                    out.final_observations.extend_from_slice(observation);
                }
            } else {
                // The mask after the end of an episode was for no action.
                out.action_masks.truncate(out.action_masks.len() - layout.mask);
            }
            out.last_observation.clear();
            out.last_observation.extend_from_slice(observation);
            out.action_masks.extend_from_slice(mask);
        }
        // The mask of the next turn's first action comes with that turn.
        out.action_masks.truncate(out.rewards.len() * layout.mask);
    }

    /// A fault has cut an episode off.
    fn meets(&mut self, fault: Fault, keep: Keep) {
        if keep == Keep::Columns
            && let (Some(terminated), Some(truncated)) = (self.out.terminated.last(), self.out.truncated.last_mut())
            && !*terminated
            && !*truncated
        {
            *truncated = true;
            self.out.final_observations.extend_from_slice(&self.out.last_observation);
        }
        self.out.faults.push(fault);
    }
}
