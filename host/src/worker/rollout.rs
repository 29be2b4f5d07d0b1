//! A turn in which the worker plays by itself: the policy chooses, the env steps, episodes end and begin again. Each event is
//! a row in the slab (`wire/slab/rollout.rs`), and the host enters the rows as if it had asked for each.
//!
//! This file knows who acts when. It knows nothing of how a policy chooses.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::answer::{Transitions, View};
use super::policy::{PolicyCode, PolicyInstance, of};
use super::serve::{GoesOn, Served, Unanswered, bad_answer, bytes_of};
use crate::wire::slab::layout::Which;
use crate::wire::slab::rollout::{RolloutLayout, Row};
use crate::wire::slab::worker::ViewBytes;
use crate::wire::slab::{Answer, INFO_EXTRA_BYTES_MAX, Request};
use crate::wire::talk::{ActingAs, FromWorker, GuestFault, Order, ToWorker};

/// Steps of the first batch of a turn, and the most of one. A batch has the time of one step, so it is short.
const BATCH_STEPS_FIRST: u32 = 32;
const BATCH_STEPS_MAX: u32 = 2048;

/// The time that a batch may take before it becomes shorter: a turn can be stopped between two.
const BATCH_TIME: Duration = Duration::from_millis(2);

/// Bytes of text that a step is expected to have at most. More of it is for single steps.
const TEXT_BYTES_USUAL: usize = 256;

/// The policy of an env, and what it is made of.
#[derive(Default)]
pub(super) struct Acting {
    code: Option<Arc<PolicyCode>>,
    instance: Option<PolicyInstance>,
}

impl Acting {
    /// A policy that is made when it is first asked for.
    pub(super) fn of(code: Option<Arc<PolicyCode>>) -> Acting {
        Acting { code, instance: None }
    }
}

impl Served {
    /// Plays as the message says.
    pub(super) fn rollout(&mut self, request: &Request) -> Result<Answer, (Answer, Unanswered)> {
        let none = |error: Unanswered| (Answer::NOTHING, error);
        let order = match self.receive().map_err(none)?.0 {
            ToWorker::Rollout(order) => order,
            ToWorker::MakePolicy { key, config } => {
                let names = self.make_policy(key, &config).map_err(none)?;
                self.say(&FromWorker::PolicyMade(names)).map_err(|error| none(Unanswered::Host(error.to_string())))?;
                return Ok(Answer::NOTHING);
            }
            other => return Err(none(Unanswered::Host(format!("{other:?} in place of what to play")))),
        };
        let mut taken = 0;
        let mut view = self.last_view();
        let played = self.play(&order, &mut view, &mut taken);
        self.slab.write_view(&self.layout, Which::View, bytes_of(&view));
        // A row that the claim could not hold was never written: the layout bounds them.
        let answer = Answer { taken: u32::try_from(taken).unwrap_or(u32::MAX).min(request.count), ..Answer::NOTHING };
        match played {
            Ok(()) => Ok(answer),
            Err(unanswered) => Err((answer, unanswered)),
        }
    }

    /// Makes the policy, in place of the one before. Returns the names of the numbers that it adds.
    fn make_policy(&mut self, key: [u8; 32], config: &str) -> Result<Vec<String>, Unanswered> {
        // The memory of the one before is given back first.
        self.acting.instance = None;
        let Some(code) = self.acting.code.clone() else {
            return Err(Unanswered::Host("a policy is to act where none was given".to_owned()));
        };
        let made = PolicyInstance::create(&code, &self.spec, key, config, self.clock_step, self.log());
        let policy = made.map_err(|fault| Unanswered::Policy(of("`create`", fault)))?;
        let names = policy.names().to_vec();
        self.acting.instance = Some(policy);
        Ok(names)
    }

    /// Plays, counting the rows that are whole.
    fn play(&mut self, order: &Order, view: &mut View, taken: &mut usize) -> Result<(), Unanswered> {
        let added = match order.acting {
            ActingAs::Given { .. } => 0,
            ActingAs::Policy { .. } => self.acting.instance.as_ref().map_or(0, |policy| policy.names().len()),
        };
        let layout = RolloutLayout::of(self.layout, added);
        self.slab.begin_rollout();
        if let ActingAs::Policy { takes_over: true } = order.acting {
            self.policy(|policy| policy.reset().map_err(|fault| of("`reset`", fault)))?;
        }
        if let ActingAs::Given { batched: true } = order.acting {
            return self.play_batches(order, &layout, view, taken);
        }
        let mut options = order.options.as_deref();
        let (mut texts, mut step, mut episodes) = (0, order.elapsed, 0);
        for number in 0..order.steps {
            // A step and the reset after it find room, or neither is begun.
            if *taken + 2 > layout.rows || !layout.has_room_for_text(texts + view.info_extra.len()) {
                break;
            }
            let numbers = self.choose(order, number as usize, *taken, &view.observation, &view.action_mask)?;
            self.slab.asks_env(&layout, *taken, &self.action, &numbers);
            let transition = self.instance.step(&self.action)?;
            step += 1;
            let time_limit = order.limit.is_some_and(|limit| step >= limit);
            let ends = time_limit || transition.terminated || transition.truncated;
            self.check(&transition.view, if ends { GoesOn::No } else { GoesOn::Yes })?;
            let row = Row::Step {
                reward: transition.reward,
                terminated: transition.terminated,
                truncated: transition.truncated,
                time_limit,
            };
            *view = transition.view;
            self.slab.write_row(&layout, *taken, row, bytes_of(view), view.info_extra.as_bytes(), &mut texts);
            *taken += 1;
            episodes += u32::from(ends);
            if self.slab.is_stopped() || number + 1 == order.steps || ends && episodes >= order.episodes {
                break;
            }
            if !ends {
                continue;
            }
            if !layout.has_room_for_text(texts) {
                break;
            }
            self.slab.asks_env(&layout, *taken, &self.action, &numbers);
            *view = self.begin_again(&layout, options.take(), *taken, &mut texts)?;
            step = 0;
            *taken += 1;
            if let ActingAs::Policy { .. } = order.acting {
                self.slab.asks_policy(*taken);
                self.policy(|policy| policy.reset().map_err(|fault| of("`reset`", fault)))?;
            }
        }
        Ok(())
    }

    /// Resets the env after its episode, and writes the row of the reset.
    fn begin_again(
        &mut self,
        layout: &RolloutLayout,
        options: Option<&str>,
        row: usize,
        texts: &mut usize,
    ) -> Result<View, Unanswered> {
        let begun = self.instance.reset(None, options)?;
        self.check(&begun, GoesOn::Yes)?;
        self.slab.write_row(layout, row, Row::Reset, bytes_of(&begun), begun.info_extra.as_bytes(), texts);
        Ok(begun)
    }

    /// Plays given actions by the guest's own loop. A call has as many of them as take about [`BATCH_TIME`].
    fn play_batches(
        &mut self,
        order: &Order,
        layout: &RolloutLayout,
        view: &mut View,
        taken: &mut usize,
    ) -> Result<(), Unanswered> {
        let mut options = order.options.as_deref();
        let (mut texts, mut step, mut episodes, mut number) = (0, order.elapsed, 0, 0_u32);
        let mut batch = BATCH_STEPS_FIRST;
        let mut actions = Vec::new();
        while number < order.steps {
            let left = order.limit.map_or(u32::MAX, |limit| limit.saturating_sub(step).max(1));
            // The last row is kept for a reset.
            let room = u32::try_from(layout.rows.saturating_sub(*taken + 1)).unwrap_or(u32::MAX);
            let count = batch.min(order.steps - number).min(left).min(room);
            if count == 0 || !layout.has_room_for_text(texts + count as usize * TEXT_BYTES_USUAL) {
                break;
            }
            actions.resize(count as usize * self.layout.action, 0);
            self.slab.read_many_given(number as usize, self.layout.action, &mut actions);
            self.slab.asks_env_many(layout, *taken, &actions);
            let begun = Instant::now();
            let steps = match self.instance.step_many(&actions, count) {
                Ok(Some(steps)) => steps,
                Ok(None) => return Err(Unanswered::PlaySteps("the env reads the clock within its loop".to_owned())),
                Err(fault) => return Err(Unanswered::PlaySteps(format!("{}: {}", fault.kind, fault.message))),
            };
            batch = match begun.elapsed() {
                took if took > BATCH_TIME => (batch / 2).max(1),
                // What lies behind the end of the episode was copied in vain.
                _ if steps.taken < count => (batch / 2 + steps.taken).max(BATCH_STEPS_FIRST).min(batch),
                took if took < BATCH_TIME / 2 => batch.saturating_mul(2).min(BATCH_STEPS_MAX),
                _ => batch,
            };
            let ends = self.check_batch(&steps, count).map_err(Unanswered::PlaySteps)?;
            for index in 0..steps.taken as usize {
                let last = index + 1 == steps.taken as usize;
                step += 1;
                let row = Row::Step {
                    reward: steps.rewards[index],
                    terminated: last && steps.terminated,
                    truncated: last && steps.truncated,
                    time_limit: order.limit.is_some_and(|limit| step >= limit),
                };
                let text = steps.infos_extra.get(index).map_or(&[][..], |text| text.as_bytes());
                if !layout.has_room_for_text(texts + text.len()) {
                    return Err(Unanswered::PlaySteps("its texts fill the room".to_owned()));
                }
                let part = ViewBytes {
                    observation: &steps.observations[index * self.layout.observation..][..self.layout.observation],
                    mask: &[],
                    info: &steps.infos[index * self.layout.info..][..self.layout.info],
                };
                self.slab.write_row(layout, *taken + index, row, part, text, &mut texts);
                if last {
                    *view = View {
                        observation: part.observation.to_vec(),
                        action_mask: Vec::new(),
                        info: part.info.to_vec(),
                        info_extra: String::from_utf8_lossy(text).into_owned(),
                    };
                }
            }
            *taken += steps.taken as usize;
            number += steps.taken;
            let ends = ends || order.limit.is_some_and(|limit| step >= limit);
            episodes += u32::from(ends);
            if self.slab.is_stopped() || number >= order.steps || ends && episodes >= order.episodes {
                break;
            }
            if ends {
                self.slab.asks_env_many(layout, *taken, &[]);
                *view = self.begin_again(layout, options.take(), *taken, &mut texts)?;
                step = 0;
                *taken += 1;
            }
        }
        Ok(())
    }

    /// Checks what the guest's own loop returned, and whether the episode has ended. What single steps would not answer so is
    /// for single steps to find.
    fn check_batch(&self, steps: &Transitions, count: u32) -> Result<bool, String> {
        let Transitions { taken, observations, action_masks, infos, infos_extra, rewards, .. } = steps;
        let taken = *taken as usize;
        let ends = steps.terminated || steps.truncated;
        let lengths = [
            (observations.len(), taken * self.layout.observation),
            (action_masks.len(), 0),
            (infos.len(), taken * self.layout.info),
            (rewards.len(), taken),
        ];
        if taken == 0 || taken > count as usize || lengths.iter().any(|(given, wanted)| given != wanted) {
            return Err("its loop returns lists of wrong lengths".to_owned());
        }
        if steps.error.is_some() || (taken < count as usize && !ends) {
            return Err("its loop ends early".to_owned());
        }
        if !infos_extra.is_empty() && infos_extra.len() != taken {
            return Err("its loop returns a wrong number of texts".to_owned());
        }
        for observation in observations.chunks_exact(self.layout.observation.max(1)) {
            self.observation.check(observation)?;
        }
        if self.layout.info > 0 {
            infos.chunks_exact(self.layout.info).try_for_each(|info| self.info.check(info))?;
        }
        for text in infos_extra.iter().filter(|text| !text.is_empty()) {
            if text.len() > INFO_EXTRA_BYTES_MAX {
                return Err("a text is too long".to_owned());
            }
            crate::json::check_object("info-extra", text)?;
        }
        Ok(ends)
    }

    /// Chooses the action of a row. Returns the numbers that the policy adds to it.
    #[inline]
    fn choose(
        &mut self,
        order: &Order,
        number: usize,
        row: usize,
        observation: &[u8],
        mask: &[u8],
    ) -> Result<Vec<f32>, Unanswered> {
        if let ActingAs::Given { .. } = order.acting {
            self.slab.read_given(number, &mut self.action);
            return Ok(Vec::new());
        }
        self.slab.asks_policy(row);
        let decision = self.policy(|policy| policy.act(observation, mask).map_err(|fault| of("`act`", fault)))?;
        let chosen = self.action_space.as_chosen(&decision.action, mask, self.spec.actions_out_of_bounds);
        match chosen {
            Ok(action) => self.action.copy_from_slice(&action),
            Err(what) => {
                self.acting.instance = None;
                return Err(Unanswered::Policy(of("`act`", bad_answer(format!("its action {what}")))));
            }
        }
        Ok(decision.added)
    }

    /// Asks the policy. After a fault it is gone.
    #[inline]
    fn policy<T>(&mut self, ask: impl FnOnce(&mut PolicyInstance) -> Result<T, GuestFault>) -> Result<T, Unanswered> {
        let Some(policy) = &mut self.acting.instance else {
            return Err(Unanswered::Host("a policy is to act that was not made".to_owned()));
        };
        ask(policy).map_err(|fault| {
            self.acting.instance = None;
            Unanswered::Policy(fault)
        })
    }
}
