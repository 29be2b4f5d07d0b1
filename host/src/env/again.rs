//! An instance told again: in a new worker it is told what it was told, and goes on there as the same instance. This is how a
//! policy comes to envs that run already, since code is loaded only before a worker's last filter.

use serde_json::Value;

use super::pack::{self, Seat};
use super::policy_plugin::{GivenPolicy, PolicyPlugin, PolicyWorker};
use super::slot::{PastEvent, Slot};
use super::stock::Stock;
use super::terms::Terms;
use super::vec_env::{ResetSome, VecEnv};
use crate::digest::CallKind;
use crate::error::{Error, UsageError};
use crate::plugin::Preparing;

impl VecEnv {
    /// Puts a policy beside envs that run already, in place of the one before. Each env goes on in its state and its instance,
    /// in a new worker in which its past is repeated: at once for an env that has just been made, and in the time of its steps
    /// for another. Where the envs have this policy already, nothing happens.
    ///
    /// # Errors
    /// [`Error::Usage`]: the plugin is no policy, or its config is wrong; the envs have branches; an env's past cannot be
    /// repeated, because it has sockets, services, real clocks, real randomness or a directory that may be written to, or because
    /// it was told more than [`Limits::snapshot_bytes`](crate::Limits::snapshot_bytes). [`Builder::policy`](crate::Builder::policy)
    /// has none of these limits. Further as [`VecEnv::restore`]. After an error the envs are as they were.
    pub fn set_policy(&mut self, policy: &PolicyPlugin) -> Result<(), Error> {
        self.begin_rollout()?;
        if self.terms.policy.as_ref().is_some_and(|given| given.is(policy)) {
            return Ok(());
        }
        let apart = self.terms.policy_worker == PolicyWorker::Own;
        if apart {
            self.check_is_not_recorded()?;
        } else {
            self.check_can_be_repeated()?;
        }
        self.terms.check_trust_of(policy.plugin(), self.len())?;
        let how = Preparing {
            engine: self.terms.prepared.engine,
            limits: &self.terms.limits,
            program: &self.terms.program,
            cage: &self.terms.cage,
            interrupt: &self.interrupt,
            observer: None,
        };
        let given = policy.prepare(self.terms.prepared.engine.backend, &how, self.terms.cache.as_ref())?;
        if apart {
            // The envs' own workers know nothing of it.
            self.terms_alone()?.policy = Some(given);
            self.apart = None;
            return Ok(());
        }
        let stock = Stock::new(self.len());
        let before = self.exchange(Some(given), stock)?;
        match self.repeat_all() {
            Ok(()) => Ok(()),
            Err(error) => {
                self.exchange(before.0, before.1)?;
                Err(error)
            }
        }
    }

    /// Exchanges the policy, and the processes that envs are started from.
    fn exchange(&mut self, policy: Option<GivenPolicy>, stock: Stock) -> Result<(Option<GivenPolicy>, Stock), Error> {
        let terms = self.terms_alone()?;
        Ok((std::mem::replace(&mut terms.policy, policy), std::mem::replace(&mut terms.stock, stock)))
    }

    /// The terms, if no branch has them too.
    fn terms_alone(&mut self) -> Result<&mut Terms, UsageError> {
        std::sync::Arc::get_mut(&mut self.terms).ok_or_else(|| {
            UsageError::new("the envs have branches, which share their processes")
                .hint("close the branches, or give the policy when the envs are made")
        })
    }

    fn check_is_not_recorded(&self) -> Result<(), UsageError> {
        match self.recording {
            Some(_) => refuse("are recorded: the recording names its policy at the beginning"),
            None => Ok(()),
        }
    }

    fn check_can_be_repeated(&self) -> Result<(), UsageError> {
        let granted = &self.terms.granted;
        if granted.writes() {
            return refuse("may write to a directory");
        }
        if !self.terms.can_be_repeated() {
            return refuse("have sockets, services, real clocks or real randomness");
        }
        self.check_is_not_recorded()?;
        if self.slots.iter().any(|slot| slot.pid().is_some() && slot.past().0.is_lost) {
            return refuse("have played too long for their past to be kept");
        }
        Ok(())
    }

    /// Repeats every running instance in a new worker, then puts the new workers in the places of the old.
    fn repeat_all(&mut self) -> Result<(), Error> {
        let each = self.terms.each;
        let mut seats = (each > 1).then(|| pack::seats(self.len(), each, self.terms.cores).into_iter());
        let mut made = Vec::with_capacity(self.len());
        for index in 0..self.len() {
            let seat = seats.as_mut().and_then(Iterator::next);
            if self.slots[index].pid().is_none() {
                made.push((seat, None));
                continue;
            }
            made.push((None, Some(self.repeat(index, seat)?)));
        }
        for (slot, (seat, new)) in self.slots.iter_mut().zip(made) {
            slot.move_to(seat, new);
        }
        Ok(())
    }

    /// Repeats the past of one env's instance in a new worker, or in a place beside the envs of its worker.
    ///
    /// # Errors
    /// As [`VecEnv::restore`].
    pub(super) fn repeat(&self, index: usize, seat: Option<Seat>) -> Result<Slot, Error> {
        let old = &self.slots[index];
        let (past, digest) = old.past();
        let events = past.events();
        let mut slot = Slot::new(0, old.config().clone(), None, old.base_seed());
        if let Some(seat) = seat {
            slot.sit(seat);
        }
        slot.begin_start(&self.terms)?;
        let mut again = self.beside(vec![slot]);
        again.come_up()?;
        for event in &events {
            again.tell_past(event)?;
            if let Some(fault) = again.faults.first().first() {
                return Err(fault.clone().into());
            }
        }
        let comes_out = again.slots[0].past().1 == digest;
        match again.leave_only() {
            Some(slot) if comes_out => Ok(slot),
            _ => Err(UsageError::new(format!("env {index} does not come out as it was when its past is repeated"))
                .hint("its plugin is not deterministic")
                .into()),
        }
    }

    /// Repeats one request of the past to its only env.
    ///
    /// # Errors
    /// The past is no past of this env. A fault is the env's.
    pub(crate) fn tell_past(&mut self, event: &PastEvent) -> Result<(), Error> {
        let json = |text: &[u8]| {
            serde_json::from_slice::<Value>(text).map_err(|error| UsageError::new(format!("its past: {error}")))
        };
        match event {
            PastEvent::Reset { seed, options } => {
                let options = options.as_deref().map(|options| json(options.as_bytes())).transpose()?;
                let reset = ResetSome { seeds: Some(&[*seed]), options: options.as_ref(), ..ResetSome::default() };
                self.reset_some(&reset).map(drop)
            }
            PastEvent::Steps { count, actions } => {
                let steps = self.step_many(0, actions)?;
                if u64::from(steps.taken) == *count || steps.fault.is_some() {
                    return Ok(());
                }
                let message =
                    format!("the past does not come out as it was: {} of {count} steps were taken", steps.taken);
                Err(UsageError::new(message).into())
            }
            PastEvent::Said { kind, name, arguments } => match kind {
                CallKind::Call => self.call(0, name, &json(arguments)?).map(drop),
                CallKind::SetAttribute => self.set_attribute(0, name, &json(arguments)?),
                CallKind::Reseed => {
                    let seed = arguments.as_slice().try_into().map_or(0, u64::from_le_bytes);
                    self.reseed(0, seed)
                }
            },
        }
    }
}

fn refuse(what: &str) -> Result<(), UsageError> {
    Err(UsageError::new(format!("a policy cannot be put beside running envs that {what}"))
        .hint("give it when they are made: `policy` of the builder, `make_vec(…, policy=…)`, `--policy`"))
}
