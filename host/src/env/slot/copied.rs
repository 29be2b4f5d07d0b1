//! Live copies of an env: asked for, waited for, put in another env's place. This file knows slots. The worker and the
//! watcher make a copy's process.

use std::os::fd::AsFd;
use std::sync::PoisonError;

use super::instance::Started;
use super::{Op, Phase, Slot, Terms};
use crate::env::batch::Batch;
use crate::env::pack::Seat;
use crate::env::template;
use crate::env::terms::Start;
use crate::error::{Error, UsageError};
use crate::fault::FaultLog;
use crate::process::child::Child;
use crate::wire::talk::ToWorker;
use crate::wire::wait::SLICE;

impl Slot {
    /// Asks the worker for a copy of itself, and returns the process that is to come.
    ///
    /// # Errors
    /// As a call's: no instance runs, a fault, an interrupt; or the system cannot make a process.
    pub(crate) fn ask_for_copy(
        &mut self,
        terms: &Terms,
        batch: &mut Batch,
        faults: &mut FaultLog,
    ) -> Result<Child, Error> {
        let (child, descriptors) = template::announce(terms).map_err(Error::system("getting ready for a copy"))?;
        let descriptors = descriptors.each_ref().map(AsFd::as_fd);
        self.converse(&ToWorker::Copy, &descriptors, terms, batch, faults)?;
        Ok(child)
    }

    /// The slot of a copy of this env, as number `index`. The copy has this env's present state, and is its own first
    /// instance.
    pub(crate) fn of_copy(&mut self, index: u32, child: Child, terms: &Terms) -> Slot {
        let mut copy = Slot::new(index, self.config.clone(), self.config_with_leases.clone(), self.base_seed);
        copy.started = true;
        copy.keep_past(self.past_bytes);
        copy.events = self.events.without_journal();
        copy.before_added_reset = self.before_added_reset.map(|before| before.of_copy(0, 0));
        (copy.fresh, copy.ended, copy.played) = (self.fresh, self.ended, self.played);
        (copy.episode, copy.step, copy.episode_return) = (self.episode, self.step, self.episode_return);
        copy.policy.clone_from(&self.policy);
        copy.only_steps = self.only_steps;
        copy.reset_options.clone_from(&self.reset_options);
        copy.view.clone_from(&self.view);
        copy.standing.clone_from(&self.standing);
        (copy.action_stride, copy.own_time_limit) = (self.action_stride, self.own_time_limit);
        copy.await_ready(child, None, terms);
        copy.started_by = self.started_by;
        copy.op = Some(Op::Start);
        copy
    }

    /// Takes over another slot's state as this env's next instance. The worker that ran in this slot is stopped. No event is
    /// entered: being replaced is not an event of its instance.
    pub(crate) fn become_that(&mut self, mut other: Slot) {
        if self.process().is_some() {
            self.stop();
        }
        if !self.ended {
            self.episode += 1;
        }
        self.instance += u32::from(self.started);
        self.started = true;
        self.config = other.config.clone();
        self.phase = std::mem::replace(&mut other.phase, Phase::Down);
        self.child = other.child.take();
        self.seat = other.seat.take();
        if let Some(seat) = &mut self.seat {
            seat.stay();
        }
        self.started_by = other.started_by;
        self.standing.clone_from(&other.standing);
        (self.fresh, self.ended, self.played) = (other.fresh, other.ended, other.played);
        self.ready_at = other.ready_at;
        (self.step, self.episode_return) = (other.step, other.episode_return);
        self.policy = other.policy.take();
        self.reset_options.clone_from(&other.reset_options);
        self.view = std::mem::take(&mut other.view);
        self.events.become_that(std::mem::take(&mut other.events));
        let ended = self.finished.len();
        self.before_added_reset = other.before_added_reset.map(|before| before.of_copy(ended, self.instance));
        self.action_stride = other.action_stride;
        self.own_time_limit = other.own_time_limit;
        (self.op, self.pending, self.error) = (None, None, None);
        (self.masked, self.recycled, self.in_flight, self.interrupted) = (false, false, false, false);
    }

    /// Goes on in another worker, which was told the same: the same instance, with all that was counted and entered.
    pub(crate) fn move_to(&mut self, seat: Option<Seat>, new: Option<Slot>) {
        (self.policy, self.repeats) = (None, false);
        if let Some(seat) = seat {
            self.seat = Some(seat);
        }
        let Some(mut new) = new else { return };
        self.end_worker();
        (self.child, self.seat) = (new.child.take(), new.seat.take());
        self.phase = std::mem::replace(&mut new.phase, Phase::Down);
        (self.started_by, self.ready_at) = (new.started_by, new.ready_at);
        self.standing.clone_from(&new.standing);
    }

    /// Shows the present view in its row, and clears the row's other results.
    pub(crate) fn show(&self, batch: &mut Batch) {
        let row = self.row();
        batch.begin_row(row);
        batch.set_view(row, &self.view);
    }

    /// Starts the worker of an instance as a copy of the env that was created and is never stepped.
    pub(super) fn start_as_copy_of_created(&mut self, terms: &Terms) -> Result<(), Error> {
        let started = self.copy_created(terms);
        self.or_interrupted(started, true)
    }

    fn copy_created(&mut self, terms: &Terms) -> Result<(), Error> {
        let mut template = terms.stock.created.lock().unwrap_or_else(PoisonError::into_inner);
        let (mut batch, mut faults) = (Batch::zeros(1, &Default::default()), FaultLog::default());
        for last in [false, true] {
            let one = match &mut *template {
                Some(one) => one,
                None => {
                    let mut one = Slot::new(0, self.config.clone(), None, 0);
                    one.set_interrupt(&self.interrupt);
                    one.start_created(terms, &mut faults)?;
                    template.insert(Box::new(one))
                }
            };
            if one.config.canonical != self.config.canonical {
                let env = self.env;
                return Err(UsageError::new(format!(
                    "env {env} has another config than the env it is to be copied from"
                ))
                .hint("`fork-after-create` is for envs of one config; `fork` takes any")
                .into());
            }
            one.set_interrupt(&self.interrupt);
            match one.ask_for_copy(terms, &mut batch, &mut faults) {
                Ok(child) => {
                    self.await_ready(child, None, terms);
                    self.started_by = Some(Start::ForkAfterCreate);
                    return Ok(());
                }
                Err(Error::Interrupted) => {
                    // The answer on its way would be taken for the answer to the next request.
                    *template = None;
                    return Err(Error::Interrupted);
                }
                // The env was killed since the last start, for example: start another.
                Err(_) if !last => *template = None,
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Starts the env that is copied, and waits until it is created.
    fn start_created(&mut self, terms: &Terms, faults: &mut FaultLog) -> Result<(), Error> {
        self.started = true;
        self.spawn_worker(terms)?;
        self.op = Some(Op::Start);
        loop {
            match self.hear_start(SLICE, terms) {
                Started::NotYet | Started::Kept => self.interrupt.check()?,
                Started::Ready => {
                    (self.phase, self.op) = (Phase::Idle, None);
                    return Ok(());
                }
                Started::Refused(error) => return Err(error),
                Started::Fault(kind, message, backtrace) => {
                    return Err(self.make_fault(kind, message, backtrace, terms, faults).into());
                }
            }
        }
    }
}
