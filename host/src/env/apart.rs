//! Policies in processes of their own. To the host they are envs that are asked by turns (`wire/acting.rs`): a rollout asks a
//! policy for an action and its env for a step, and so on. This file knows in which order, and nothing of steps.

use std::sync::Arc;
use std::time::Duration;

use super::autoreset::{Autoreset, TimeLimit};
use super::builder::Builder;
use super::slot::Slot;
use super::terms::{Start, Terms};
use super::vec_env::VecEnv;
use crate::cage::Required;
use crate::error::{Error, UsageError};
use crate::fault::{Fault, FaultKind, OnFault};
use crate::interrupt::Interrupt;
use crate::limits::Limits;
use crate::wire::acting::{self, Names};
use crate::wire::job::Cage;
use crate::wire::wait::Spin;

/// The policies of some envs: policy *i* acts for env *i*.
pub(super) struct Apart {
    asked: Box<VecEnv>,
    states: Vec<State>,
    /// For each policy the key of the random stream with which it was started.
    keys: Vec<[u8; 32]>,
    /// How many numbers each adds to an action.
    adds: usize,
    question: Vec<u8>,
}

/// What a policy did last, or does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// It does not run, or acts for another instance.
    Unmade,
    Starting,
    Resetting,
    Ready,
    Choosing,
}

/// What a policy chose.
pub(super) struct Chosen {
    pub(super) action: Vec<u8>,
    pub(super) added: Vec<f32>,
}

impl Apart {
    /// Starts the policies of these envs, all at once, and waits for them.
    ///
    /// # Errors
    /// A policy's fault, named as its env's; an interrupt.
    pub(super) fn start(slots: &mut [Slot], terms: &Terms, interrupt: &Interrupt) -> Result<Apart, Error> {
        let Some(policy) = &terms.policy else { return Err(UsageError::new("these envs have no policy").into()) };
        let limits = Limits {
            memory_bytes: policy.memory_bytes,
            fuel_per_step: policy.fuel,
            // An episode of the policy begins in the time of a step, as beside the env.
            reset_timeout: terms.limits.step_timeout,
            snapshot_bytes: 0,
            ..terms.limits.clone()
        };
        let builder = Builder::new(policy.prepared.plugin.clone())
            .prepared(policy.prepared.clone())
            .envs(slots.len())
            .config(&policy.config.value)?
            .limits(limits)
            .autoreset(Autoreset::Disabled)
            .time_limit(TimeLimit::Off)
            .on_fault(OnFault::Raise)
            .backend(policy.prepared.engine.backend)
            .worker(terms.program.clone())
            .cage(Cage { required: Required::walls(terms.cage.required.walls), ..terms.cage })
            .start(if terms.start == Start::Spawn { Start::Spawn } else { Start::Best })
            .branching(false);
        let mut asked = if terms.debug { builder.debug() } else { builder }.assemble()?;
        asked.set_interrupt(interrupt);
        let spec = terms.shape().spec.encode().map_err(UsageError::new)?;
        let own = Arc::get_mut(&mut asked.terms);
        own.ok_or_else(|| UsageError::new("the policies were started before"))?.acts_for = Some(spec);
        asked.slots.iter_mut().zip(&*slots).for_each(|(policy, env)| policy.act_for(env));
        asked.start().map_err(|error| named(error, slots, terms))?;
        let adds = acting::adds(&terms.shape().strides.view, asked.spec()).ok_or_else(|| {
            let message = "the policy cannot go on: its worker answers with a spec that no policy of this env has";
            slots[0].policy_fault(message.to_owned(), Vec::new(), (String::new(), 0))
        })?;
        let keys = slots.iter().map(Slot::policy_key).collect();
        slots.iter_mut().for_each(Slot::forget_policy);
        Ok(Apart {
            states: vec![State::Starting; slots.len()],
            keys,
            adds,
            asked: Box::new(asked),
            question: Vec::new(),
        })
    }

    /// Whether a policy was asked for an action that was not taken yet.
    pub(super) fn is_choosing(&self, env: usize) -> bool {
        self.states[env] == State::Choosing
    }

    /// The policies' slots, for waits.
    pub(super) fn slots(&self) -> &[Slot] {
        &self.asked.slots
    }

    /// Goes on towards the next action of an env that is in an episode, without waiting. None: the policy is at work.
    ///
    /// # Errors
    /// The policy's fault, after which it is made anew; an interrupt.
    pub(super) fn choose(&mut self, env: usize, slot: &mut Slot, terms: &Terms) -> Result<Option<Chosen>, Error> {
        let VecEnv { slots, terms: own, batch, faults, .. } = &mut *self.asked;
        let policy = &mut slots[env];
        let layout = &terms.shape().strides.view;
        loop {
            if policy.is_busy() {
                policy.advance(Duration::ZERO, Spin::None, own, batch, faults);
                policy.check_interrupted()?;
                if policy.is_busy() {
                    return Ok(None);
                }
            }
            if let Some(error) = policy.take_error() {
                self.states[env] = State::Unmade;
                return Err(as_the_policys(error, slot, terms));
            }
            self.states[env] = match self.states[env] {
                State::Unmade => {
                    policy.act_for(slot);
                    self.keys[env] = slot.policy_key();
                    policy.begin_start(own)?;
                    State::Starting
                }
                State::Starting => {
                    policy.begin_reset(None, None, own, batch, faults);
                    State::Resetting
                }
                // The env's next instance has another policy.
                _ if self.keys[env] != slot.policy_key() => State::Unmade,
                State::Resetting => {
                    if !slot.has_policy() {
                        let names = serde_json::from_str::<Names>(&policy.view().extra).ok();
                        let Some(names) = names.filter(|names| names.adds.len() == self.adds) else {
                            let message = "the policy cannot go on: its worker names other numbers than it adds";
                            self.states[env] = State::Unmade;
                            return Err(slot.policy_fault(message.to_owned(), Vec::new(), (String::new(), 0)));
                        };
                        slot.policy_is_made(&names.adds);
                    }
                    slot.policy_sees();
                    State::Ready
                }
                State::Ready if !slot.has_policy() => State::Unmade,
                State::Ready if !slot.policy_follows() => {
                    policy.begin_reset(None, None, own, batch, faults);
                    State::Resetting
                }
                State::Ready => {
                    let view = slot.view();
                    let (observation, mask) = (&view.observation[..layout.observation], &view.mask[..layout.mask]);
                    let stride = own.shape().strides.view.action;
                    acting::question(observation, mask, stride, &mut self.question);
                    policy.begin_step(&self.question, own, batch, faults);
                    State::Choosing
                }
                // The env went on otherwise since it was asked.
                State::Choosing if !slot.policy_follows() => State::Ready,
                State::Choosing => {
                    self.states[env] = State::Ready;
                    let (action, added) = acting::decided(layout, self.adds, &policy.view().observation);
                    let outside = terms.shape().spec.actions_out_of_bounds;
                    let chosen = terms.shape().action.as_chosen(action, &slot.view().mask[..layout.mask], outside);
                    return match chosen {
                        Ok(action) => Ok(Some(Chosen { action, added: added.collect() })),
                        Err(what) => {
                            self.states[env] = State::Unmade;
                            let message =
                                format!("the policy cannot go on: `act`: {}: its action {what}", FaultKind::BadAnswer);
                            let log = policy.log();
                            Err(slot.policy_fault(message, Vec::new(), (log.text(), log.dropped())))
                        }
                    };
                }
            };
        }
    }
}

/// An error of a policy's start, as a fault of the env for which it was to act.
fn named(error: Error, slots: &mut [Slot], terms: &Terms) -> Error {
    let env = match &error {
        Error::Fault(fault) => fault.env as usize,
        _ => 0,
    };
    match slots.get_mut(env) {
        Some(slot) => as_the_policys(error, slot, terms),
        None => error,
    }
}

/// A fault of a policy's worker, as the policy's.
fn as_the_policys(error: Error, slot: &mut Slot, terms: &Terms) -> Error {
    let Error::Fault(fault) = error else { return error };
    let Fault { kind, message, log, log_dropped_bytes, backtrace, .. } = *fault;
    let message = match kind {
        FaultKind::StepTimeout | FaultKind::ResetTimeout => {
            "the policy did not answer in the time of a step".to_owned()
        }
        FaultKind::StartTimeout => {
            format!("the policy was not made within {} s", terms.limits.start_timeout.as_secs_f64())
        }
        FaultKind::Exited | FaultKind::Signalled | FaultKind::Protocol => {
            format!("the policy cannot go on: its worker: {kind}: {message}")
        }
        _ => format!("the policy cannot go on: {message}"),
    };
    slot.policy_fault(message, backtrace, (log, log_dropped_bytes))
}
