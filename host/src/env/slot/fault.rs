//! Faults of an env: how they are found, their kinds, and what follows them (the table of `docs/faults.md`).

use std::time::{Duration, Instant};

use super::{Op, Phase, ResetOp, Slot, Terms};
use crate::env::batch::Batch;
use crate::fault::{BACKTRACE_FRAMES_MAX, Fault, FaultKind, FaultLog, MESSAGE_BYTES_MAX, OnFault};
use crate::process::child::Exit;
use crate::process::start;
use crate::wire::slab::{Command, Lie};
use crate::wire::talk::{FromWorker, GuestFault};

impl Slot {
    /// Handles a fault in a request that is under way.
    pub(super) fn met_fault(
        &mut self,
        kind: FaultKind,
        message: String,
        backtrace: Vec<String>,
        terms: &Terms,
        batch: &mut Batch,
        faults: &mut FaultLog,
    ) {
        // A worker that ended in the reset's half of command 3 has answered the step.
        if matches!(self.op, Some(Op::Step(Command::StepThenReset)))
            && let Some(slab) = self.slab()
            && slab.half_answered()
            && matches!(slab.answered(), Ok(false))
        {
            let claim = slab.claim();
            if let Phase::Busy(busy) = std::mem::replace(&mut self.phase, Phase::Idle)
                && let Ok(answer) = claim.check(&busy.request)
            {
                // This is a claim like all others. If the step's half is invalid, it counts as unanswered, and the step met
                // the fault.
                let _ = self.step_answered(&answer, &busy, terms, batch);
            }
        }
        let (kind, message, backtrace) = match self.op.clone() {
            // Which step of a batch it was is found by single steps.
            Some(Op::Play(part)) if part.batched && self.child.is_some() && kind != FaultKind::Protocol => {
                self.salvage((kind, message, backtrace), false, terms, batch);
                return self.must_be_repeated();
            }
            Some(Op::Play(part)) => self.salvage((kind, message, backtrace), part.by_policy, terms, batch),
            Some(Op::MakePolicy) if kind == FaultKind::StepTimeout => {
                let limit = terms.limits.start_timeout.as_secs_f64();
                (FaultKind::Policy, format!("the policy was not made within {limit} s"), backtrace)
            }
            _ => (kind, message, backtrace),
        };
        self.keep_digest_of_added_reset(batch);
        if matches!(self.op, Some(Op::Reset(_))) && !self.ended {
            // The reset has ended the episode, so the fault belongs to the next episode.
            self.end_episode();
        }
        let fault = self.make_fault(kind, message, backtrace, terms, faults);
        match self.op.take() {
            Some(Op::Step(_)) => self.end_step_by_fault(fault, terms, batch),
            Some(Op::StepMany(_)) => {
                self.steps.truncated = true;
                self.steps.fault = Some(Box::new(fault.clone()));
                self.end_step_by_fault(fault, terms, batch);
                // A batch of steps never goes on with a reset.
                self.op = None;
            }
            Some(Op::MakePolicy | Op::Play(_)) if kind == FaultKind::Policy => self.end_by_policy(fault),
            Some(Op::MakePolicy | Op::Play(_)) => {
                self.rolled.unanswered = true;
                self.end_step_by_fault(fault, terms, batch);
                // What follows is the caller's to ask for.
                self.op = None;
            }
            // No caller waits for the answer: the next step reports the fault.
            Some(Op::Converse(_)) => self.pending = Some(fault),
            op @ (Some(Op::Reset(_) | Op::Start) | None) => {
                self.op = op;
                self.reset_met_fault(fault, terms, batch);
            }
        }
    }

    /// Keeps the digests from before a fault in a reset that same-step autoreset added to a step.
    pub(super) fn keep_digest_of_added_reset(&mut self, batch: &Batch) {
        if batch.has_final[self.row()] && self.before_added_reset.is_none() {
            self.before_added_reset = Some(self.as_of_now());
        }
    }

    /// Fills in the result of a `step` whose action was not answered: the episode is truncated at its last step.
    pub(super) fn end_step_by_fault(&mut self, fault: Fault, terms: &Terms, batch: &mut Batch) {
        let row = self.row();
        batch.rewards[row] = 0.0;
        batch.terminated[row] = false;
        batch.truncated[row] = true;
        batch.was_reset[row] = false;
        batch.faults[row] = Some(Box::new(fault.clone()));
        self.op = None;
        if terms.autoreset.resets_at_once() {
            // The last observation is the episode's final one, whatever follows.
            batch.keep_final(row);
        }
        match terms.on_fault {
            OnFault::Raise => self.error = Some(fault.into()),
            OnFault::Mask => {
                self.masked = true;
                batch.masked[row] = true;
            }
            OnFault::Restart => {
                // Started now, so that the new instance comes up while the other envs go on.
                self.restart(terms, batch);
                if self.error.is_none() && terms.autoreset.resets_at_once() {
                    self.op = Some(Op::Reset(ResetOp { seed: None, options: self.reset_options.take(), asked: false }));
                }
            }
        }
    }

    /// Tries a reset that met a fault again in a new instance. The operation stays under way.
    pub(super) fn reset_met_fault(&mut self, fault: Fault, terms: &Terms, batch: &mut Batch) {
        let row = self.row();
        batch.faults[row] = Some(Box::new(fault.clone()));
        if let Some(Op::Reset(reset)) = &mut self.op
            && reset.asked
        {
            // The new instance begins from the seed of its number, because the caller's seed led to this fault.
            reset.seed = None;
        }
        // Before the first spec there is nothing to mask: an env that never started is tried again.
        match terms.on_fault {
            OnFault::Raise => self.give_up(fault.into()),
            OnFault::Mask if !matches!(self.op, Some(Op::Start)) => {
                self.op = None;
                self.masked = true;
                batch.masked[row] = true;
            }
            OnFault::Mask | OnFault::Restart => self.restart(terms, batch),
        }
    }

    /// Ends the instance and returns the fault. When this returns, the process is killed and reaped, and the log is complete.
    pub(super) fn make_fault(
        &mut self,
        kind: FaultKind,
        message: String,
        backtrace: Vec<String>,
        terms: &Terms,
        faults: &mut FaultLog,
    ) -> Fault {
        // A fault of an env without its keeper may follow from that loss: a server may be gone, or belong to another process.
        let (kind, message) = match self.hear_what_ended() {
            Some(lost) if message.is_empty() => (FaultKind::KeeperLost, lost),
            Some(lost) => (FaultKind::KeeperLost, format!("{lost}; {kind}: {message}")),
            None => (kind, message),
        };
        self.blameless = matches!(kind, FaultKind::Sibling | FaultKind::Policy);
        if !self.blameless {
            self.restarts.note(self.came_to_nothing(kind, terms), Instant::now());
        }
        let message = std::mem::take(&mut self.ended_services)
            .into_iter()
            .chain(self.refusals.take_of_names())
            .fold(message, |message, ended| format!("{message} ({ended})"));
        let mut fault = self.bare_fault(kind, message);
        fault.backtrace = backtrace;
        let log = match (&self.seat, &self.child) {
            (Some(seat), _) => {
                if ends_a_shared_worker(kind) {
                    seat.fell(self.env, &(kind, fault.message.clone(), Vec::new()));
                }
                Some(seat.log())
            }
            (None, Some(child)) => {
                child.kill();
                child.wait_dead();
                Some(child.log())
            }
            (None, None) => None,
        };
        if let Some(log) = log {
            fault.log = log.text();
            fault.log_dropped_bytes = log.dropped();
        }
        if kind == FaultKind::Trap
            && let Some(said) = panic_in(&fault.log)
        {
            fault.message = fault.message.replacen(UNREACHABLE, &said, 1);
        }
        self.enter_fault(kind, &fault.message, fault.step);
        self.stop();
        if !self.ended {
            self.end_episode();
        }
        faults.push(fault.clone());
        fault
    }

    /// Whether an instance that ends by this fault was useless, so that the next instance is likely useless too. True if it
    /// left a request unanswered for longer than it had worked, and finished no episode; or if `create` or its first reset
    /// met a fault that will happen again.
    fn came_to_nothing(&self, kind: FaultKind, terms: &Terms) -> bool {
        let limits = &terms.limits;
        let waited = match kind {
            FaultKind::StartTimeout => limits.start_timeout,
            FaultKind::ResetTimeout => limits.reset_timeout,
            FaultKind::StepTimeout => limits.step_timeout,
            FaultKind::CallTimeout => limits.call_timeout,
            FaultKind::GuestRestart => return false,
            kind => {
                // An instance that talks to others may find a working peer at the next start.
                let alone = !terms.granted.is_captured() && !terms.beside.is_kept();
                return self.fresh && alone && kind.is_reproducible();
            }
        };
        let worked = self.ready_at.map_or(Duration::ZERO, |ready| ready.elapsed().saturating_sub(waited));
        self.played == 0 && worked < waited
    }

    pub(super) fn bare_fault(&self, kind: FaultKind, mut message: String) -> Fault {
        crate::text::cut(&mut message, MESSAGE_BYTES_MAX);
        Fault {
            env: self.env,
            instance: self.instance,
            episode: self.episode,
            step: if self.ended { 0 } else { self.step },
            kind,
            message,
            log: String::new(),
            log_dropped_bytes: 0,
            backtrace: Vec::new(),
        }
    }

    /// Ends the episode, either by itself or because the caller asks for another.
    pub(super) fn end_episode(&mut self) {
        self.ended = true;
        self.played += 1;
        self.episode += 1;
        self.step = 0;
        self.episode_return = 0.0;
    }
}

/// Whether a fault of one env shows that the whole process cannot go on: the host found it, and no guest can have said it.
fn ends_a_shared_worker(kind: FaultKind) -> bool {
    matches!(
        kind,
        FaultKind::StartTimeout
            | FaultKind::ResetTimeout
            | FaultKind::StepTimeout
            | FaultKind::CallTimeout
            | FaultKind::Protocol
            | FaultKind::Policy
    )
}

/// A fault before its env is known: kind, message, backtrace.
pub(in crate::env) type FaultFound = (FaultKind, String, Vec<String>);

pub(in crate::env) fn nobody() -> FaultFound {
    (FaultKind::Exited, "no worker runs".to_owned(), Vec::new())
}

pub(in crate::env) fn lied(Lie(what): Lie) -> FaultFound {
    (FaultKind::Protocol, format!("the worker broke the protocol: {what}"), Vec::new())
}

pub(in crate::env) fn end_of(exit: Exit) -> FaultFound {
    let kind = match exit {
        Exit::Signal(_) | Exit::OutOfMemory => FaultKind::Signalled,
        Exit::Code(_) | Exit::Unknown => FaultKind::Exited,
    };
    (kind, format!("the worker {}", start::describe_exit(exit)), Vec::new())
}

/// A fault in the worker's own words. A worker may claim only what a guest can do. The host observes all other faults itself.
pub(in crate::env) fn guest_fault(fault: GuestFault) -> FaultFound {
    let GuestFault { kind, message, mut backtrace } = fault;
    let claimable = matches!(
        kind,
        FaultKind::Trap
            | FaultKind::Fuel
            | FaultKind::Memory
            | FaultKind::StackOverflow
            | FaultKind::Exited
            | FaultKind::GuestFailed
            | FaultKind::GuestRestart
            | FaultKind::CreateFailed
            | FaultKind::BadAnswer
    );
    if !claimable {
        return lied(Lie(format!("it reports a fault of kind {kind}, which is the host's to find")));
    }
    backtrace.truncate(BACKTRACE_FRAMES_MAX);
    for frame in &mut backtrace {
        crate::text::cut(frame, 512);
    }
    (kind, message, backtrace)
}

/// The time that a request may take.
pub(super) fn limit_of(command: Command, terms: &Terms) -> Duration {
    match command {
        Command::Reset => terms.limits.reset_timeout,
        Command::Step | Command::StepThenReset | Command::StepMany | Command::Rollout => terms.limits.step_timeout,
        Command::Message => terms.limits.call_timeout,
        Command::Create => terms.limits.start_timeout,
    }
}

/// A request that was not answered in time.
pub(in crate::env) fn timed_out(command: Command, limit: Duration) -> FaultFound {
    let (kind, what) = match command {
        Command::Create => {
            let message = format!("it was not ready within {} s", limit.as_secs_f64());
            return (FaultKind::StartTimeout, message, Vec::new());
        }
        Command::Reset => (FaultKind::ResetTimeout, "the reset"),
        Command::Step | Command::StepThenReset | Command::StepMany | Command::Rollout => {
            (FaultKind::StepTimeout, "the step")
        }
        Command::Message => (FaultKind::CallTimeout, "the call"),
    };
    (kind, format!("{what} did not answer within {} s", limit.as_secs_f64()), Vec::new())
}

/// The engine's words for the trap in which a Rust guest's panic ends.
const UNREACHABLE: &str = "wasm trap: wasm `unreachable` instruction executed";

/// Bytes of a panic's own words in a fault's message.
const PANIC_BYTES_MAX: usize = 1024;

/// What a Rust guest's last panic said, and where, from the lines that Rust prints: `panicked at src/lib.rs:12:5: …`.
fn panic_in(log: &str) -> Option<String> {
    let (_, said) = log.rsplit_once("panicked at ")?;
    let (place, text) = said.split_once(":\n")?;
    let text = text.split("\nnote: run with `RUST_BACKTRACE").next().unwrap_or(text).trim();
    let mut said = format!("panicked at {place}: {text}");
    crate::text::cut(&mut said, PANIC_BYTES_MAX);
    Some(said)
}

pub(in crate::env) fn name_of(message: &FromWorker) -> &'static str {
    match message {
        FromWorker::Hello { .. } => "`hello`",
        FromWorker::Locked(_) => "`locked`",
        FromWorker::Ready { .. } => "`ready`",
        FromWorker::Compiled { .. } => "`compiled`",
        FromWorker::NotCompiled(_) => "`not compiled`",
        FromWorker::ConfigRefused(_) => "`config refused`",
        FromWorker::Refused(_) => "`refused`",
        FromWorker::Fault(_) => "`fault`",
        FromWorker::Answered(_) => "`answered`",
        FromWorker::PolicyMade(_) => "`policy made`",
        FromWorker::PolicyFailed(_) => "`policy failed`",
        FromWorker::PlaySteps(_) => "`play steps`",
        FromWorker::Keeper(_) => "what a keeper says",
    }
}
