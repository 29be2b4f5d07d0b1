//! An env in a worker that it shares with others: its start, and the wait for its answers.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::fault::{lied, limit_of, name_of, nobody, timed_out};
use super::instance::Started;
use super::turn::Look;
use super::{Busy, Phase, Slot, Terms};
use crate::env::pack::{Introduced, Life, Seat};
use crate::env::terms::Start;
use crate::error::Error;
use crate::fault::FaultKind;
use crate::limits::deadline;
use crate::wire::slab::{Command, Lie, Request, Status};
use crate::wire::talk::{FromWorker, ToWorker};
use crate::wire::wait::{self, Spin};

/// Spinning for one env of many pays only where this thread has a core to itself.
fn spin_of(spin: Spin) -> Spin {
    if matches!(spin, Spin::Busy(_)) { spin } else { Spin::None }
}

impl Slot {
    /// Gives the env a place in a worker that it shares.
    pub(crate) fn sit(&mut self, seat: Seat) {
        self.seat = Some(seat);
    }

    /// A place in the same worker for another env, if this one shares its worker.
    pub(crate) fn seat_beside(&self) -> Option<Seat> {
        self.seat.as_ref().and_then(|seat| seat.beside(self.env))
    }

    /// Whether two envs share a worker.
    pub(crate) fn shares_worker_with(&self, other: &Slot) -> bool {
        matches!((&self.seat, &other.seat), (Some(one), Some(two)) if one.is_beside(two))
    }

    pub(super) fn life(&self) -> Option<&Arc<Life>> {
        self.seat.as_ref().and_then(Seat::life)
    }

    /// Tells the worker of the turns of all its envs, if the env shares it. Envs with workers of their own have told them.
    pub(crate) fn tell(&self) {
        if let Some(life) = self.life() {
            life.tell();
        }
    }

    /// Whether an instance is on its way.
    pub(super) fn is_coming_up(&self) -> bool {
        matches!(
            self.phase,
            Phase::Keeping { .. }
                | Phase::Queued { .. }
                | Phase::Starting { .. }
                | Phase::Joining { .. }
                | Phase::Creating(_)
        )
    }

    /// Takes the env's place for an instance; the worker starts if none runs.
    pub(super) fn take_seat(&mut self, terms: &Terms) -> Result<(), Error> {
        if let Some(seat) = &mut self.seat {
            seat.take(terms)?;
        }
        self.phase = Phase::Joining { deadline: deadline(terms.limits.start_timeout) };
        self.started_by = Some(Start::Spawn);
        Ok(())
    }

    /// Asks for the first instance as soon as its worker is there, so that all workers make theirs at the same time.
    pub(super) fn leave_queue_seated(&mut self, patience: Duration, terms: &Terms) -> Result<bool, Error> {
        let Phase::Joining { deadline } = self.phase else { return Ok(true) };
        match self.hear_joined(deadline, patience, terms) {
            Started::NotYet => Ok(false),
            Started::Refused(error) => Err(error),
            // A fault is looked at again in the env's own turn.
            _ => Ok(true),
        }
    }

    /// Listens to the worker of an instance that is to be made in it, then asks for the instance.
    pub(super) fn hear_joined(&mut self, until: Instant, patience: Duration, terms: &Terms) -> Started {
        let Some(life) = self.life().map(Arc::clone) else { return Started::fault(FaultKind::Exited, "no worker") };
        match life.introduced(patience, terms, self.is_first_here()) {
            Introduced::NotYet if Instant::now() >= until => {
                let (kind, message, backtrace) = timed_out(Command::Create, limit_of(Command::Create, terms));
                Started::Fault(kind, message, backtrace)
            }
            Introduced::NotYet => Started::NotYet,
            Introduced::Refused(error) => Started::Refused(error.into()),
            Introduced::Fault((kind, message, backtrace)) => Started::Fault(kind, message, backtrace),
            Introduced::Ready(standing) => {
                self.standing = Some(standing);
                self.ask_to_create(terms)
            }
        }
    }

    fn ask_to_create(&mut self, terms: &Terms) -> Started {
        if let Some((kind, message, backtrace)) = self.death() {
            return Started::Fault(kind, message, backtrace);
        }
        let message = ToWorker::Create(self.config.canonical.clone());
        if let Some(Err(error)) = self.send(&message, &[]) {
            return Started::fault(FaultKind::CreateFailed, &format!("its config: {error}"));
        }
        let request = Request::with_message(Command::Create);
        let limit = limit_of(request.command, terms);
        let Some(slab) = self.slab() else { return Started::fault(FaultKind::Exited, "no worker") };
        self.publish_turn(slab, &request, limit);
        self.phase = Phase::Creating(Busy::new(request, self.latest(limit)));
        Started::Kept
    }

    /// Listens to a worker that was asked to make the instance.
    pub(super) fn hear_created(&mut self, patience: Duration, terms: &Terms) -> Started {
        let answer = match self.look_seated(patience, Spin::None, terms) {
            Look::Working => return Started::NotYet,
            Look::Fault(kind, message, backtrace) => return Started::Fault(kind, message, backtrace),
            Look::Answer(answer) => answer,
        };
        match (answer.status, self.explanation()) {
            (Status::Ok, Ok(FromWorker::Ready { bulk_len, imports_us })) => {
                self.imports = Duration::from_micros(u64::from(imports_us));
                self.check_spec(bulk_len as usize, terms)
            }
            (Status::Refused, Ok(FromWorker::ConfigRefused(errors))) => self.config_refused(&errors, terms),
            (Status::Fault, Ok(FromWorker::Fault(fault))) => Started::of_guest(fault, terms),
            (_, Ok(other)) => Started::fault(FaultKind::Protocol, &format!("it starts with {}", name_of(&other))),
            (_, Err((kind, message, backtrace))) => Started::Fault(kind, message, backtrace),
        }
    }

    /// The latest time for an answer. In a shared worker each env may take its whole time first, whatever the worker says
    /// that it does.
    pub(super) fn latest(&self, limit: Duration) -> Instant {
        deadline(self.life().map_or(limit, |life| limit.saturating_mul(2 * life.rows())))
    }

    /// One look at a busy worker that the env shares, with one wait in it if `patience` allows. The time of a request begins
    /// when the worker says that it begins with it.
    pub(super) fn look_seated(&mut self, patience: Duration, spin: Spin, terms: &Terms) -> Look {
        let (Phase::Busy(busy) | Phase::Creating(busy)) = &self.phase else { return Look::Working };
        let Some(seat) = &self.seat else { return Look::fault(nobody()) };
        let (Some(life), Some(slab)) = (seat.life(), seat.slab()) else { return Look::fault(nobody()) };
        life.tell();
        let mut waited = patience.is_zero();
        loop {
            let watched = life.memory().watched();
            match slab.answered() {
                Err(lie) => return Look::fault(lied(lie)),
                Ok(true) => {
                    return match slab.claim().check(&busy.request) {
                        Ok(answer) => Look::Answer(answer),
                        Err(lie) => Look::fault(lied(lie)),
                    };
                }
                Ok(false) => {}
            }
            if let Some(found) = seat.death() {
                return Look::fault(found);
            }
            let Some(watched) = watched else {
                return Look::fault(lied(Lie("it says that it has answered, and this env has no answer".to_owned())));
            };
            if waited {
                if let Some(found) = seat.overdue() {
                    return Look::fault(found);
                }
                if Instant::now() >= busy.deadline && matches!(slab.answered(), Ok(false)) {
                    let command = busy.request.command;
                    return Look::fault(timed_out(command, limit_of(command, terms)));
                }
                return Look::Working;
            }
            // With a core to itself, this thread takes each env's answer while the worker goes on with the next env.
            if !wait::spin_while(spin_of(spin), || matches!(slab.answered(), Ok(false))) {
                let spin = if matches!(spin, Spin::Yield(_)) { spin } else { Spin::None };
                wait::wait(watched.word, watched.last, watched.sleeps, spin, patience.min(wait::SLICE));
            }
            waited = true;
        }
    }
}
