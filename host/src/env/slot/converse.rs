//! Conversations with an env outside its resets and steps: render, call, attributes, reseed, goodbye.

use std::os::fd::BorrowedFd;
use std::time::{Duration, Instant};

use super::fault::{FaultFound, guest_fault, lied, nobody};
use super::turn::Look;
use super::{Busy, Op, Phase, Progress, Slot, Terms};
use crate::env::batch::Batch;
use crate::error::{Error, UsageError, UsageKind};
use crate::fault::FaultLog;
use crate::interrupt::Interrupt;
use crate::json;
use crate::limits::deadline;
use crate::spec::RenderMode;
use crate::wire::slab::{Answer, BULK_BYTES_MAX, Command, JSON_BYTES_MAX, Lie, Request, Status};
use crate::wire::talk::{EnvError, FromWorker, Reply, ToWorker};
use crate::wire::wait::{self, Spin};

impl Slot {
    /// Sends a message and waits for its answer from the bulk area. The env must not be busy. If an interrupt ends the wait,
    /// the answer is entered into the digest when it comes, and is returned to no caller.
    pub(crate) fn converse(
        &mut self,
        message: &ToWorker,
        descriptors: &[BorrowedFd<'_>],
        terms: &Terms,
        batch: &mut Batch,
        faults: &mut FaultLog,
    ) -> Result<(Reply, Vec<u8>), Error> {
        let env = self.env;
        let usage = |what: &str| UsageError::new(format!("env {env}: {what}"));
        // Wait for an instance that is still starting after a fault.
        while self.is_coming_up() {
            self.op = Some(Op::Start);
            let progress = self.advance(wait::SLICE, Spin::None, terms, batch, faults);
            self.check_interrupted()?;
            if progress == Progress::Waiting {
                self.interrupt.check()?;
            }
            if let Some(error) = self.take_error() {
                return Err(error);
            }
        }
        if let Some(fault) = &self.pending {
            return Err(fault.clone().into());
        }
        if !matches!(self.phase, Phase::Idle) {
            return Err(usage("it has no running instance after a fault; reset it first").into());
        }
        let request = Request::with_message(Command::Message);
        let asked = match self.has_lost_its_keeper() {
            true => Err(Slot::keeper_lost()),
            false => self.ask(message, descriptors, request, terms.limits.call_timeout),
        };
        let fault = match asked {
            Err(fault) => fault,
            Ok(()) => loop {
                match self.look(wait::SLICE, Spin::None, terms) {
                    Look::Working if self.interrupt.is_raised() => {
                        self.op = Some(Op::Converse(message.clone()));
                        return Err(Error::Interrupted);
                    }
                    Look::Working => {}
                    Look::Fault(kind, message, backtrace) => break (kind, message, backtrace),
                    Look::Answer(answer) => match self.reply(&answer, message) {
                        Ok(Ok(reply)) => {
                            self.phase = Phase::Idle;
                            return Ok(reply);
                        }
                        Ok(Err(refused)) => {
                            self.phase = Phase::Idle;
                            let error = usage(&crate::text::escape_line(&refused.to_string()));
                            let kind = match refused {
                                EnvError::Unsupported(_) => UsageKind::Unsupported,
                                _ => UsageKind::Plain,
                            };
                            return Err(error.of_kind(kind).into());
                        }
                        Err(fault) => break fault,
                    },
                }
            },
        };
        self.op = Some(Op::Converse(message.clone()));
        let fault = self.make_fault(fault.0, fault.1, fault.2, terms, faults);
        self.op = None;
        self.pending = Some(fault.clone());
        Err(fault.into())
    }

    /// Sends a message and publishes its turn.
    pub(super) fn ask(
        &mut self,
        message: &ToWorker,
        descriptors: &[BorrowedFd<'_>],
        request: Request,
        limit: Duration,
    ) -> Result<(), FaultFound> {
        match self.send(message, descriptors) {
            None => return Err(nobody()),
            Some(Err(error)) => return Err(self.unsent(&error, deadline(limit))),
            Some(Ok(())) => {}
        }
        self.phase = Phase::Busy(Busy::new(request, self.latest(limit)));
        if let Some(slab) = self.slab() {
            self.publish_turn(slab, &request, limit);
        }
        Ok(())
    }

    /// Reads the answer to a message: its shape from the control socket, its bytes from the bulk area. An answer that changes
    /// the env is entered into the digest.
    pub(super) fn reply(
        &mut self,
        answer: &Answer,
        message: &ToWorker,
    ) -> Result<Result<(Reply, Vec<u8>), EnvError>, FaultFound> {
        let bytes_max = if matches!(message, ToWorker::Render(_)) { BULK_BYTES_MAX } else { JSON_BYTES_MAX };
        match (answer.status, self.explanation()?) {
            (Status::Ok, FromWorker::Answered(reply)) => {
                if answer.extra_len > bytes_max {
                    let bytes = answer.extra_len;
                    return Err(lied(Lie(format!("an answer of {bytes} bytes; the limit is {bytes_max}"))));
                }
                let slab = self.slab().ok_or_else(nobody)?;
                let bytes = slab.read_bulk(0, answer.extra_len).map_err(lied)?;
                check_said(message, reply, &bytes).map_err(|what| lied(Lie(what)))?;
                self.enter_said(message, &bytes);
                Ok(Ok((reply, bytes)))
            }
            (Status::Refused, FromWorker::Refused(error)) => Ok(Err(error)),
            (Status::Fault, FromWorker::Fault(fault)) => Err(guest_fault(fault)),
            (status, _) => Err(lied(Lie(format!("status {status:?} with another explanation")))),
        }
    }

    /// Asks an idle worker to say goodbye, without waiting. Returns whether a goodbye can be waited for.
    pub(crate) fn begin_close(&mut self, deadline: Instant) -> bool {
        let request = Request::with_message(Command::Message);
        matches!(self.phase, Phase::Idle)
            && self.process().is_some_and(|child| !child.is_dead())
            && self.ask(&ToWorker::Close, &[], request, deadline.saturating_duration_since(Instant::now())).is_ok()
    }

    /// Waits for the goodbye, until the deadline or an interrupt.
    pub(crate) fn wait_closed(&self, deadline: Instant, interrupt: &Interrupt) -> Result<(), Error> {
        while !self.has_closed(deadline, wait::SLICE) {
            interrupt.check()?;
        }
        Ok(())
    }

    /// Whether the goodbye was said or is no longer waited for: one look, with one wait in it if `patience` allows.
    pub(super) fn has_closed(&self, deadline: Instant, patience: Duration) -> bool {
        let (Some(child), Some(slab)) = (self.process(), self.slab()) else { return true };
        let watched = match self.life() {
            Some(life) => {
                life.tell();
                life.memory().watched()
            }
            None => Some(wait::Watched { word: slab.done_word(), last: slab.unanswered(), sleeps: slab.host_sleeps() }),
        };
        let waits = || !child.is_dead() && matches!(slab.answered(), Ok(false)) && Instant::now() < deadline;
        if waits()
            && !patience.is_zero()
            && let Some(watched) = watched
        {
            wait::wait(watched.word, watched.last, watched.sleeps, Spin::None, patience.min(wait::SLICE));
        }
        !waits()
    }
}

/// Checks that an answer is of the requested form: a picture in its mode, JSON, or a text.
fn check_said(message: &ToWorker, reply: Reply, bytes: &[u8]) -> Result<(), String> {
    let text = || std::str::from_utf8(bytes).map_err(|_| format!("{} bytes that are no text", bytes.len()));
    match (message, reply) {
        (ToWorker::Render(RenderMode::RgbArray), Reply::Rgb { width, height }) => {
            let pixels = u64::from(width) * u64::from(height);
            (width > 0 && height > 0 && pixels.checked_mul(3) == Some(bytes.len() as u64))
                .then_some(())
                .ok_or_else(|| format!("{} bytes that are no {reply:?}", bytes.len()))
        }
        (ToWorker::Call { .. } | ToWorker::GetAttribute(_), Reply::Text) => json::check("its answer", text()?),
        (ToWorker::Render(RenderMode::RgbArray), Reply::Text) | (_, Reply::Rgb { .. }) => {
            Err(format!("{reply:?}, which nobody asked for"))
        }
        (_, Reply::Text) => text().map(drop),
    }
}
