//! One env as the host keeps it: which instance runs, what was asked of it, what it said. A state machine of the host's
//! own memory; the slab holds no state that the host relies on.
//!
//! [`Slot::advance`] goes as far as it can without waiting (or after one bounded wait), so that a caller can look at many
//! envs in turn. Faults are made here and nowhere else; what they lead to is `faults.md`'s table.

use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::Ordering::Acquire;
use std::time::{Duration, Instant};

use crate::autoreset::{Autoreset, Turn};
use crate::batch::{Batch, EpisodeEnd, Steps, Strides, View};
use crate::child::{Child, Exit, Heard, LogTail};
use crate::control::{EnvError, EnvJob, FromWorker, GuestFault, Job, Reply, ToWorker};
use crate::digest::{self, CallKind, Digest, InstanceDigest, StepFlags, ViewParts};
use crate::error::{Error, UsageError};
use crate::fault::{BACKTRACE_FRAMES_MAX, Fault, FaultKind, FaultLog, MESSAGE_BYTES_MAX, OnFault, Restarts};
use crate::limits::Limits;
use crate::plugin::Prepared;
use crate::slab::{
    Answer, BULK_BYTES_MAX, Command, HostSlab, JSON_BYTES_MAX, Lie, Request, Status, Which, request_flags,
};
use crate::space::Layout;
use crate::spec::{SPEC_BYTES_MAX, Spec};
use crate::start;
use crate::wait::{self, Spin};

/// How long the explanation of a refusal or fault may be on its way: it was sent before the answer, so only the
/// watcher's look is missing.
const EXPLANATION_TIMEOUT: Duration = Duration::from_secs(2);

/// What all envs of a `VecEnv` have in common.
pub(crate) struct Terms {
    pub(crate) prepared: Prepared,
    pub(crate) program: std::path::PathBuf,
    pub(crate) limits: Limits,
    pub(crate) autoreset: Autoreset,
    pub(crate) on_fault: OnFault,
    pub(crate) time_limit: Option<u32>,
    /// Microseconds a worker spins after its answer.
    pub(crate) spin_us: u32,
    /// What the first worker's `create` returned; none before it.
    pub(crate) shape: Option<Shape>,
}

/// A spec, and what follows from it.
pub(crate) struct Shape {
    pub(crate) spec: Spec,
    pub(crate) strides: Strides,
    pub(crate) observation: Layout,
    pub(crate) action: Layout,
}

impl Terms {
    fn shape(&self) -> &Shape {
        self.shape.as_ref().expect("envs are asked nothing before the first spec is there")
    }

    pub(crate) fn time_limit(&self) -> Option<u32> {
        self.time_limit.or_else(|| self.shape.as_ref().and_then(|shape| shape.spec.max_episode_steps))
    }
}

/// Where the worker stands.
enum Phase {
    /// No worker: killed and reaped.
    Down,
    /// Spawned; `Ready` has not come.
    Starting { deadline: Instant, greeted: bool },
    /// The last answer is accepted.
    Idle,
    /// A turn is published.
    Busy(Busy),
}

struct Busy {
    request: Request,
    deadline: Instant,
    /// Of a batch: steps the worker says it has taken, when the deadline was last moved.
    heartbeat: u32,
    limit_flag: bool,
    seed: Option<u64>,
    options: Option<String>,
}

/// What the caller wants of the env.
#[derive(Clone, Debug)]
enum Op {
    /// Become ready: the first start.
    Start,
    Step(Command),
    StepMany(u32),
    Reset(ResetOp),
}

#[derive(Clone, Debug)]
struct ResetOp {
    seed: Option<u64>,
    options: Option<String>,
}

/// How far an env is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Progress {
    Done,
    Waiting,
}

/// One env.
pub(crate) struct Slot {
    index: u32,
    config: Arc<str>,
    base_seed: u64,
    phase: Phase,
    child: Option<Child>,
    /// The number of the instance that runs, or ran last.
    instance: u32,
    started: bool,
    /// The running instance has not been reset yet: its first reset passes a seed.
    fresh: bool,
    /// The episode is over, or there was none yet.
    ended: bool,
    episode: u64,
    step: u32,
    episode_return: f64,
    op: Option<Op>,
    action: Vec<u8>,
    reset_options: Option<String>,
    /// A fault that happened while no step or reset was under way; the next one reports it.
    pending: Option<Fault>,
    masked: bool,
    error: Option<Error>,
    restarts: Restarts,
    digest: InstanceDigest,
    finished: Vec<(u32, Digest)>,
    /// The env's digest before a fault in a reset that same-step autoreset added to a step: like the reset itself, it
    /// enters with what follows it, since no other mode has it after a run's last step.
    before_added_reset: Option<Digest>,
    log: LogTail,
    view: View,
    steps: Steps,
    /// What the first env's `create` returned, until it is everybody's shape.
    first_spec: Option<Spec>,
    /// Whether the caller sent something and has not received its answer.
    pub(crate) in_flight: bool,
}

impl Slot {
    pub(crate) fn new(index: u32, config: Arc<str>, base_seed: u64) -> Slot {
        Slot {
            index,
            config,
            base_seed,
            phase: Phase::Down,
            child: None,
            instance: 0,
            started: false,
            fresh: true,
            ended: true,
            episode: 0,
            step: 0,
            episode_return: 0.0,
            op: None,
            action: Vec::new(),
            reset_options: None,
            pending: None,
            masked: false,
            error: None,
            restarts: Restarts::default(),
            digest: InstanceDigest::new(),
            finished: Vec::new(),
            before_added_reset: None,
            log: LogTail::default(),
            view: View::default(),
            steps: Steps::default(),
            first_spec: None,
            in_flight: false,
        }
    }

    // ── What the caller asks ────────────────────────────────────────────────────────────────────────────────────

    /// Starts the first instance, without waiting for it.
    pub(crate) fn begin_start(&mut self, terms: &Terms) -> Result<(), Error> {
        self.start_instance(terms)?;
        self.op = Some(Op::Start);
        Ok(())
    }

    /// Whether a `step` would run its action: it is looked at then, and ignored else.
    pub(crate) fn takes_action(&self, terms: &Terms) -> bool {
        !self.masked && self.pending.is_none() && matches!(terms.autoreset.turn(self.ended), Turn::Step(_))
    }

    /// Why this env cannot be stepped at all; found out before any env is.
    pub(crate) fn refuses_step(&self, terms: &Terms) -> Option<UsageError> {
        if self.masked || self.pending.is_some() {
            return None;
        }
        let index = self.index;
        if !self.started || (self.fresh && self.episode == 0 && self.finished.is_empty()) {
            return Some(UsageError::new(format!("env {index} must be reset before its first step")));
        }
        match terms.autoreset.turn(self.ended) {
            Turn::Refuse => Some(
                UsageError::new(format!("env {index} cannot be stepped: its episode is over"))
                    .hint("with autoreset disabled the caller resets ended envs, by a mask"),
            ),
            _ => None,
        }
    }

    /// Begins a step: publishes it, if the env takes one.
    pub(crate) fn begin_step(&mut self, action: &[u8], terms: &Terms, batch: &mut Batch, faults: &mut FaultLog) {
        let row = self.row();
        batch.begin_row(row);
        self.before_added_reset = None;
        if self.masked {
            batch.masked[row] = true;
            return;
        }
        if let Some(fault) = self.pending.take() {
            self.end_step_by_fault(fault, terms, batch);
            return;
        }
        match terms.autoreset.turn(self.ended) {
            Turn::Step(command) => {
                self.action.clear();
                self.action.extend_from_slice(action);
                self.op = Some(Op::Step(command));
            }
            Turn::Reset | Turn::Refuse => {
                self.op = Some(Op::Reset(ResetOp { seed: None, options: self.reset_options.take() }));
            }
        }
        self.advance(Duration::ZERO, Spin::None, terms, batch, faults);
    }

    /// Begins an explicit reset.
    pub(crate) fn begin_reset(
        &mut self,
        seed: Option<u64>,
        options: Option<String>,
        terms: &Terms,
        batch: &mut Batch,
        faults: &mut FaultLog,
    ) {
        let row = self.row();
        batch.begin_row(row);
        self.before_added_reset = None;
        self.masked = false;
        self.error = None;
        if let Some(fault) = self.pending.take() {
            batch.faults[row] = Some(Box::new(fault));
        }
        if let Some(seed) = seed {
            self.base_seed = seed;
        }
        if !self.ended {
            self.end_episode();
        }
        let options = options.or_else(|| self.reset_options.take());
        self.op = Some(Op::Reset(ResetOp { seed, options }));
        self.advance(Duration::ZERO, Spin::None, terms, batch, faults);
    }

    /// Begins a batch of steps of this env alone. `actions` holds `count` values.
    pub(crate) fn begin_step_many(
        &mut self,
        actions: &[u8],
        count: u32,
        terms: &Terms,
        batch: &mut Batch,
        faults: &mut FaultLog,
    ) {
        let row = self.row();
        batch.begin_row(row);
        self.before_added_reset = None;
        self.steps = Steps::default();
        if let Some(fault) = self.pending.take() {
            self.steps.truncated = true;
            self.steps.fault = Some(Box::new(fault.clone()));
            self.end_step_by_fault(fault, terms, batch);
            return;
        }
        self.action.clear();
        self.action.extend_from_slice(actions);
        self.op = Some(Op::StepMany(count));
        self.advance(Duration::ZERO, Spin::None, terms, batch, faults);
    }

    /// What the last batch of steps gave.
    pub(crate) fn take_steps(&mut self) -> Steps {
        std::mem::take(&mut self.steps)
    }

    /// Goes on with what was asked: without waiting if `patience` is zero, else with one wait of at most a slice.
    pub(crate) fn advance(
        &mut self,
        patience: Duration,
        spin: Spin,
        terms: &Terms,
        batch: &mut Batch,
        faults: &mut FaultLog,
    ) -> Progress {
        while let Some(op) = &self.op {
            match &self.phase {
                Phase::Down => self.restart(terms, batch),
                Phase::Starting { .. } => match self.hear_start(patience, terms) {
                    Started::NotYet => return Progress::Waiting,
                    Started::Ready => {
                        self.phase = Phase::Idle;
                        if matches!(self.op, Some(Op::Start)) {
                            self.op = None;
                        }
                    }
                    Started::Refused(error) => {
                        self.stop();
                        self.give_up(error);
                    }
                    Started::Fault(kind, message, backtrace) => {
                        self.keep_digest_of_added_reset(batch);
                        let fault = self.make_fault(kind, message, backtrace, faults);
                        self.reset_met_fault(fault, terms, batch);
                    }
                },
                Phase::Idle => {
                    let op = op.clone();
                    self.publish(op, terms, batch, faults);
                }
                Phase::Busy(_) => match self.look(patience, spin, terms) {
                    Look::Working => return Progress::Waiting,
                    Look::Answer(answer) => self.accept(answer, terms, batch, faults),
                    Look::Fault(kind, message, backtrace) => {
                        self.met_fault(kind, message, backtrace, terms, batch, faults)
                    }
                },
            }
        }
        Progress::Done
    }

    /// The slab's word to sleep on, while a turn is under way.
    pub(crate) fn watched(&self) -> Option<wait::Watched<'_>> {
        match (&self.phase, self.slab()) {
            (Phase::Busy(_), Some(slab)) => {
                Some(wait::Watched { word: slab.done_word(), last: slab.unanswered(), sleeps: slab.host_sleeps() })
            }
            _ => None,
        }
    }

    /// Whether something is under way.
    pub(crate) fn is_busy(&self) -> bool {
        self.op.is_some()
    }

    /// The error that this env's last operation ended with.
    pub(crate) fn take_error(&mut self) -> Option<Error> {
        self.error.take()
    }

    // ── Conversations: render, call, attributes, reseed ─────────────────────────────────────────────────────────

    /// Sends a message and waits for its answer from the bulk area. The env must not be busy.
    pub(crate) fn converse(
        &mut self,
        message: &ToWorker,
        terms: &Terms,
        batch: &mut Batch,
        faults: &mut FaultLog,
    ) -> Result<(Reply, Vec<u8>), Error> {
        let bytes_max = if matches!(message, ToWorker::Render(_)) { BULK_BYTES_MAX } else { JSON_BYTES_MAX };
        let index = self.index;
        let usage = |what: &str| UsageError::new(format!("env {index}: {what}"));
        // An instance that is still coming up after a fault is waited for.
        while matches!(self.phase, Phase::Starting { .. }) {
            self.op = Some(Op::Start);
            self.advance(wait::SLICE, Spin::None, terms, batch, faults);
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
        let deadline = Instant::now() + terms.limits.call_timeout;
        let request =
            Request { command: Command::Message, count: 0, flags: request_flags::MESSAGE, seed: 0, spin_us: 0 };
        let fault = match self.ask(message, request, deadline) {
            Err(fault) => fault,
            Ok(()) => loop {
                match self.look(wait::SLICE, Spin::None, terms) {
                    Look::Working => {}
                    Look::Fault(kind, message, backtrace) => {
                        let kind = if kind == FaultKind::StepTimeout { FaultKind::CallTimeout } else { kind };
                        break (kind, message, backtrace);
                    }
                    Look::Answer(answer) => match self.reply(&answer, bytes_max) {
                        Ok(Ok(reply)) => {
                            self.phase = Phase::Idle;
                            return Ok(reply);
                        }
                        Ok(Err(refused)) => {
                            self.phase = Phase::Idle;
                            return Err(usage(&crate::text::escape_line(&refused.to_string())).into());
                        }
                        Err(fault) => break fault,
                    },
                }
            },
        };
        let fault = self.make_fault(fault.0, fault.1, fault.2, faults);
        self.pending = Some(fault.clone());
        Err(fault.into())
    }

    /// Sends a message and publishes its turn.
    fn ask(&mut self, message: &ToWorker, request: Request, deadline: Instant) -> Result<(), Ill> {
        let Some(child) = &self.child else { return Err(nobody()) };
        if let Err(error) = child.send(message, &[]) {
            return Err(match self.death() {
                Some(ill) => ill,
                None => (FaultKind::Protocol, format!("it does not read its control socket: {error}"), Vec::new()),
            });
        }
        self.phase =
            Phase::Busy(Busy { request, deadline, heartbeat: 0, limit_flag: false, seed: None, options: None });
        if let Some(slab) = self.slab()
            && slab.publish(&request)
        {
            wait::wake(slab.turn_word());
        }
        Ok(())
    }

    /// The answer to a message: its shape from the control socket, its bytes from the bulk area.
    fn reply(&mut self, answer: &Answer, bytes_max: usize) -> Result<Result<(Reply, Vec<u8>), EnvError>, Ill> {
        match (answer.status, self.explanation()?) {
            (Status::Ok, FromWorker::Answered(reply)) => {
                if answer.extra_len > bytes_max {
                    let bytes = answer.extra_len;
                    return Err(lied(Lie(format!("an answer of {bytes} bytes; the limit is {bytes_max}"))));
                }
                let slab = self.slab().ok_or_else(nobody)?;
                let bytes = slab.read_bulk(0, answer.extra_len).map_err(lied)?;
                let fits = match reply {
                    Reply::Rgb { width, height } => {
                        let pixels = u64::from(width) * u64::from(height);
                        width > 0 && height > 0 && pixels.checked_mul(3) == Some(bytes.len() as u64)
                    }
                    Reply::Text => std::str::from_utf8(&bytes).is_ok(),
                };
                if fits {
                    Ok(Ok((reply, bytes)))
                } else {
                    Err(lied(Lie(format!("{} bytes that are no {reply:?}", bytes.len()))))
                }
            }
            (Status::Refused, FromWorker::Refused(error)) => Ok(Err(error)),
            (Status::Fault, FromWorker::Fault(fault)) => Err(guest_fault(fault)),
            (status, _) => Err(lied(Lie(format!("status {status:?} with another explanation")))),
        }
    }

    /// Enters a call that answered into the digest.
    pub(crate) fn digest_call(&mut self, kind: CallKind, name: &str, arguments: &[u8], result: &[u8]) {
        self.before_added_reset = None;
        self.digest.call(kind, name, arguments, result);
    }

    // ── Instances ───────────────────────────────────────────────────────────────────────────────────────────────

    /// Starts a worker for the next instance number.
    fn start_instance(&mut self, terms: &Terms) -> Result<(), Error> {
        let (slab, slab_fd) = HostSlab::create().map_err(Error::system("making a slab"))?;
        if self.started {
            self.instance += 1;
        }
        let job = Job::Env(EnvJob {
            engine: terms.prepared.engine,
            interface: terms.prepared.description.interface.clone(),
            plugin_sha256: terms.prepared.plugin.sha256(),
            config: self.config.to_string(),
            memory_bytes: terms.limits.memory_bytes,
            fuel_per_step: terms.limits.fuel_per_step,
            clock_step: terms.limits.clock_step,
        });
        let descriptors = [slab_fd.as_fd(), terms.prepared.code.as_fd()];
        let child = start::worker(&terms.program, &format!("env {}", self.index), Some(slab), &job, &descriptors)?;
        self.child = Some(child);
        self.started = true;
        self.fresh = true;
        self.ended = true;
        self.digest = InstanceDigest::new();
        self.phase = Phase::Starting { deadline: Instant::now() + terms.limits.start_timeout, greeted: false };
        Ok(())
    }

    /// Starts a new instance after a fault, within the budgets; or gives up.
    fn restart(&mut self, terms: &Terms, batch: &mut Batch) {
        if !self.started {
            // The first start itself was refused by the system.
            if let Err(error) = self.start_instance(terms) {
                self.give_up(error);
            }
            return;
        }
        if !self.restarts.spend(&terms.limits.restarts, Instant::now()) {
            let budget = terms.limits.restarts;
            let last = batch.faults[self.row()].as_deref().cloned();
            let mut fault = last.unwrap_or_else(|| self.bare_fault(FaultKind::Exited, "no instance runs".to_owned()));
            fault.message = format!(
                "{} (the restart budget is spent: {} in {} s, {} in all)",
                fault.message,
                budget.in_window,
                budget.window.as_secs(),
                budget.in_all
            );
            self.give_up(fault.into());
            return;
        }
        if let Err(error) = self.start_instance(terms) {
            self.give_up(error);
        }
    }

    /// Listens to a worker that is starting.
    fn hear_start(&mut self, patience: Duration, terms: &Terms) -> Started {
        let Phase::Starting { deadline, greeted } = &mut self.phase else { return Started::NotYet };
        let Some(child) = &self.child else { return Started::fault(FaultKind::Exited, "no worker") };
        let mut patience = patience.min(deadline.saturating_duration_since(Instant::now()));
        loop {
            match child.listen(patience) {
                Heard::Message(hello) if !*greeted => {
                    if let Err(error) = start::check_hello(&hello, &terms.program) {
                        return Started::Refused(error.into());
                    }
                    *greeted = true;
                    patience = patience.min(deadline.saturating_duration_since(Instant::now()));
                }
                Heard::Message(FromWorker::Ready { bulk_len }) => return self.check_spec(bulk_len as usize, terms),
                Heard::Message(FromWorker::ConfigRefused(errors)) => {
                    let error = config_error(&errors, terms.prepared.description.name.as_str());
                    if self.instance == 0 {
                        return Started::Refused(error.into());
                    }
                    return Started::fault(FaultKind::CreateFailed, &error.message);
                }
                Heard::Message(FromWorker::Fault(fault)) => {
                    let (kind, message, backtrace) = guest_fault(fault);
                    return Started::Fault(kind, message, backtrace);
                }
                Heard::Message(other) => {
                    return Started::fault(FaultKind::Protocol, &format!("it starts with {}", name_of(&other)));
                }
                Heard::Lie(lie) => return Started::fault(FaultKind::Protocol, &lie),
                Heard::Dead(exit) => {
                    if !*greeted && self.instance == 0 && matches!(exit, Exit::Code(_)) {
                        return Started::Refused(start::not_a_worker(&terms.program).into());
                    }
                    let (kind, message, backtrace) = end_of(exit);
                    return Started::Fault(kind, message, backtrace);
                }
                Heard::Nothing if Instant::now() >= *deadline => {
                    let seconds = terms.limits.start_timeout.as_secs_f64();
                    let message = format!("it was not ready within {seconds} s");
                    return Started::fault(FaultKind::StartTimeout, &message);
                }
                Heard::Nothing => return Started::NotYet,
            }
        }
    }

    /// Reads the spec of a worker that says it is ready.
    fn check_spec(&mut self, len: usize, terms: &Terms) -> Started {
        if len > SPEC_BYTES_MAX {
            return Started::fault(FaultKind::Protocol, &format!("a spec of {len} bytes"));
        }
        let bytes = match self.slab().map(|slab| slab.read_bulk(0, len)) {
            Some(Ok(bytes)) => bytes,
            Some(Err(Lie(lie))) => return Started::fault(FaultKind::Protocol, &lie),
            None => return Started::fault(FaultKind::Exited, "no worker"),
        };
        let spec = match Spec::decode(&bytes) {
            Ok(spec) => spec,
            Err(what) => return Started::fault(FaultKind::Protocol, &format!("its spec: {what}")),
        };
        match &terms.shape {
            Some(shape) => {
                if let Some(difference) = shape.spec.first_difference(&spec) {
                    let index = self.index;
                    if self.instance == 0 {
                        let error = UsageError::new(format!("envs 0 and {index} have different spaces: {difference}"))
                            .hint("one `VecEnv` steps envs of one shape; run configs of other shapes apart");
                        return Started::Refused(error.into());
                    }
                    let message = format!("`create` returned another spec than before: {difference}");
                    return Started::fault(FaultKind::CreateFailed, &message);
                }
                self.view = View::sized(&shape.strides.view);
            }
            None => self.first_spec = Some(spec),
        }
        Started::Ready
    }

    /// The spec of the first env, for everybody's terms.
    pub(crate) fn take_first_spec(&mut self) -> Option<Spec> {
        self.first_spec.take()
    }

    /// Makes room for views of this shape.
    pub(crate) fn set_shape(&mut self, strides: &Strides) {
        self.view = View::sized(&strides.view);
    }

    /// Ends the worker for good, without a fault.
    fn stop(&mut self) {
        if let Some(child) = self.child.take() {
            child.kill();
            child.wait_dead();
            self.log.append(&child.log());
        }
        if self.started {
            self.finished.push((self.instance, self.digest.digest()));
            self.digest = InstanceDigest::new();
        }
        self.phase = Phase::Down;
    }

    fn give_up(&mut self, error: Error) {
        self.op = None;
        self.error = Some(error);
    }

    // ── Turns ───────────────────────────────────────────────────────────────────────────────────────────────────

    /// Publishes what is asked as the next turn.
    fn publish(&mut self, op: Op, terms: &Terms, batch: &mut Batch, faults: &mut FaultLog) {
        let left = terms.time_limit().map(|limit| limit.saturating_sub(self.step).max(1));
        let (command, count, timeout) = match &op {
            // Nothing to ask: it is ready.
            Op::Start => {
                self.op = None;
                return;
            }
            Op::Step(command) => (*command, 1, terms.limits.step_timeout),
            Op::StepMany(count) => (Command::StepMany, *count, terms.limits.step_timeout),
            Op::Reset(_) => (Command::Reset, 1, terms.limits.reset_timeout),
        };
        if self.child.as_ref().is_none_or(|child| child.shared.attention.load(Acquire))
            && let Some((kind, message, backtrace)) = self.death()
        {
            // It died, or lied, while nothing was asked of it.
            self.met_fault(kind, message, backtrace, terms, batch, faults);
            return;
        }
        let mut request = Request { command, count, flags: 0, seed: 0, spin_us: terms.spin_us };
        let mut seed = None;
        let mut options = None;
        match &op {
            Op::Reset(reset) => {
                // The host always passes a seed to the first reset of an instance.
                seed = match reset.seed {
                    None if self.fresh => Some(self.first_seed()),
                    seed => seed,
                };
                options = reset.options.clone();
            }
            Op::Step(Command::StepThenReset) => options = self.reset_options.clone(),
            _ => {}
        }
        if let Some(seed) = seed {
            request.flags |= request_flags::SEED;
            request.seed = seed;
        }
        let limit_flag = left.is_some_and(|left| left == count);
        if limit_flag && !matches!(op, Op::Reset(_)) {
            request.flags |= request_flags::LAST_STEP;
        }
        if let Some(options) = &options {
            request.flags |= request_flags::MESSAGE;
            let sent = self.child.as_ref().map(|child| child.send(&ToWorker::ResetOptions(options.clone()), &[]));
            if !matches!(sent, Some(Ok(()))) {
                let (kind, message, backtrace) = self.death().unwrap_or_else(|| {
                    (FaultKind::Protocol, "it does not read its control socket".to_owned(), Vec::new())
                });
                self.met_fault(kind, message, backtrace, terms, batch, faults);
                return;
            }
        }
        self.phase =
            Phase::Busy(Busy { request, deadline: Instant::now() + timeout, heartbeat: 0, limit_flag, seed, options });
        let Some(slab) = self.child.as_ref().and_then(Child::slab) else { return };
        if matches!(op, Op::Step(_) | Op::StepMany(_)) {
            let layout = &terms.shape().strides.view;
            for (index, action) in self.action.chunks_exact(layout.action.max(1)).enumerate() {
                slab.write_action(layout, index, action);
            }
        }
        if slab.publish(&request) {
            wait::wake(slab.turn_word());
        }
    }

    /// The seed of an instance's first reset.
    fn first_seed(&self) -> u64 {
        if self.instance == 0 {
            return self.base_seed;
        }
        let mut hasher = blake3::Hasher::new();
        hasher.update(b"rollcage-restart\x01");
        hasher.update(&self.base_seed.to_le_bytes());
        hasher.update(&self.instance.to_le_bytes());
        let hash = hasher.finalize();
        u64::from_le_bytes(std::array::from_fn(|index| hash.as_bytes()[index]))
    }

    /// One look at a busy worker, with one wait in it if `patience` allows.
    fn look(&mut self, patience: Duration, spin: Spin, terms: &Terms) -> Look {
        let Phase::Busy(Busy { request, deadline, heartbeat, .. }) = &self.phase else { return Look::Working };
        let (request, deadline, heartbeat) = (*request, *deadline, *heartbeat);
        let Some(child) = &self.child else { return Look::fault(nobody()) };
        let Some(slab) = child.slab() else { return Look::fault(nobody()) };
        let mut waited = patience.is_zero();
        loop {
            match slab.answered() {
                Err(lie) => return Look::fault(lied(lie)),
                Ok(true) => {
                    return match slab.claim().check(&request) {
                        Ok(answer) => Look::Answer(answer),
                        Err(lie) => Look::fault(lied(lie)),
                    };
                }
                Ok(false) => {}
            }
            if child.shared.attention.load(Acquire)
                && let Some(ill) = self.death()
            {
                return Look::fault(ill);
            }
            if waited {
                // The clock is read only when there was nothing else to see.
                let now = Instant::now();
                if now < deadline {
                    return Look::Working;
                }
                // A batch is judged step by step: a worker that goes on has another step's time.
                let Some(moved) = slab.heartbeat(heartbeat).filter(|taken| *taken <= request.count) else {
                    // An answer that came by now counts: a host that was stopped must not blame the env.
                    if matches!(slab.answered(), Ok(false)) {
                        return Look::fault(timed_out(&request, terms));
                    }
                    continue;
                };
                if let Phase::Busy(busy) = &mut self.phase {
                    busy.heartbeat = moved;
                    busy.deadline = now + terms.limits.step_timeout;
                }
                return Look::Working;
            }
            wait::wait(slab.done_word(), slab.unanswered(), slab.host_sleeps(), spin, patience.min(wait::SLICE));
            waited = true;
        }
    }

    /// Accepts an answer: copies it out, checks it, enters it into row and digest.
    fn accept(&mut self, answer: Answer, terms: &Terms, batch: &mut Batch, faults: &mut FaultLog) {
        let Phase::Busy(busy) = std::mem::replace(&mut self.phase, Phase::Idle) else { return };
        let accepted = match self.op.clone() {
            Some(Op::Step(_)) => self.accept_step(answer, &busy, terms, batch),
            Some(Op::StepMany(count)) => self.accept_steps(answer, count, &busy, terms),
            Some(Op::Reset(_)) => self.accept_reset(answer, &busy, terms, batch),
            Some(Op::Start) | None => Ok(()),
        };
        match accepted {
            Ok(()) => self.op = None,
            Err(Rejected::Ill((kind, message, backtrace))) => {
                self.phase = Phase::Busy(busy);
                self.met_fault(kind, message, backtrace, terms, batch, faults);
            }
            Err(Rejected::Refused(error)) => {
                let (index, step) = (self.index, self.step);
                let error = UsageError::new(format!("env {index}, step {step}: {}", text_of(&error)));
                self.give_up(error.into());
            }
        }
    }

    /// A step's answer; with a reset in the same turn, both.
    fn accept_step(&mut self, answer: Answer, busy: &Busy, terms: &Terms, batch: &mut Batch) -> Result<(), Rejected> {
        // A refusal or a fault in the reset's half leaves the step's half answered.
        let half = busy.request.command == Command::StepThenReset && self.slab().is_some_and(HostSlab::half_answered);
        if answer.status != Status::Ok && !half {
            return Err(self.rejection(answer.status)?);
        }
        self.step_answered(&answer, busy, terms, batch)?;
        if matches!(self.op, Some(Op::Reset(_))) {
            self.accept_reset(answer, busy, terms, batch)?;
        }
        Ok(())
    }

    /// Enters an answered step into row and digest. If a reset follows in the same turn, that is what is under way now.
    fn step_answered(&mut self, answer: &Answer, busy: &Busy, terms: &Terms, batch: &mut Batch) -> Result<(), Ill> {
        let row = self.row();
        self.read_view(answer, if answer.reset { Which::Final } else { Which::View }, terms)?;
        self.step += 1;
        self.episode_return += answer.reward;
        let Answer { terminated, truncated, reward, .. } = *answer;
        let flags = StepFlags { terminated, truncated, time_limit: busy.limit_flag };
        self.digest.step(&self.action, reward, flags, parts(&self.view));
        batch.set_view(row, &self.view);
        batch.rewards[row] = reward;
        batch.terminated[row] = terminated;
        batch.truncated[row] = truncated || busy.limit_flag;
        if terminated || truncated || busy.limit_flag {
            batch.episodes[row] = Some(EpisodeEnd { episode_return: self.episode_return, length: self.step });
            self.end_episode();
        }
        if answer.reset {
            batch.keep_final(row);
            self.op = Some(Op::Reset(ResetOp { seed: None, options: self.reset_options.take() }));
        }
        Ok(())
    }

    /// A reset's answer.
    fn accept_reset(&mut self, answer: Answer, busy: &Busy, terms: &Terms, batch: &mut Batch) -> Result<(), Rejected> {
        if answer.status != Status::Ok {
            return Err(self.rejection(answer.status)?);
        }
        self.read_view(&answer, Which::View, terms)?;
        let row = self.row();
        self.digest.reset(busy.seed, busy.options.as_deref().unwrap_or(""), parts(&self.view));
        batch.set_view(row, &self.view);
        // In same-step mode the row is the step's.
        batch.was_reset[row] = !batch.has_final[row];
        self.fresh = false;
        self.ended = false;
        self.step = 0;
        self.episode_return = 0.0;
        Ok(())
    }

    /// The answer to a batch of steps: what was taken stands, whatever came after it.
    fn accept_steps(&mut self, answer: Answer, count: u32, busy: &Busy, terms: &Terms) -> Result<(), Rejected> {
        let shape = terms.shape();
        let layout = shape.strides.view;
        let taken = answer.taken as usize;
        let slab = self.child.as_ref().and_then(Child::slab).ok_or_else(nobody)?;
        let columns = slab.read_columns(&layout, count as usize, taken).map_err(lied)?;
        let mut extras = Vec::with_capacity(taken);
        for (index, extra) in columns.extras.into_iter().enumerate() {
            let observation = &columns.observations[index * layout.observation..][..layout.observation];
            let mask = &columns.masks[index * layout.mask..][..layout.mask];
            let info = &columns.infos[index * layout.info..][..layout.info];
            shape.check(observation, mask, info).map_err(|what| lied(Lie(what)))?;
            extras.push(check_extra(extra)?);
        }
        let ended =
            (answer.terminated || answer.truncated || (busy.limit_flag && taken == count as usize)) && taken > 0;
        for index in 0..taken {
            let last = ended && index + 1 == taken;
            let flags = StepFlags {
                terminated: last && answer.terminated,
                truncated: last && answer.truncated,
                time_limit: last && busy.limit_flag && taken == count as usize,
            };
            let action = &self.action[index * layout.action..][..layout.action];
            let view = ViewParts {
                observation: &columns.observations[index * layout.observation..][..layout.observation],
                mask: &columns.masks[index * layout.mask..][..layout.mask],
                info: &columns.infos[index * layout.info..][..layout.info],
                extra: extras[index].as_bytes(),
            };
            self.digest.step(action, columns.rewards[index], flags, view);
            self.episode_return += columns.rewards[index];
        }
        self.step += answer.taken;
        self.steps = Steps {
            taken: answer.taken,
            observations: columns.observations,
            rewards: columns.rewards,
            action_masks: columns.masks,
            infos: columns.infos,
            infos_extra: extras,
            terminated: ended && answer.terminated,
            truncated: ended && (answer.truncated || (busy.limit_flag && taken == count as usize)),
            episode: None,
            fault: None,
        };
        if ended {
            self.steps.episode = Some(EpisodeEnd { episode_return: self.episode_return, length: self.step });
            self.end_episode();
        }
        match answer.status {
            Status::Ok => Ok(()),
            status => Err(self.rejection(status)?),
        }
    }

    /// Copies a view out of the slab and checks it.
    fn read_view(&mut self, answer: &Answer, which: Which, terms: &Terms) -> Result<(), Ill> {
        let shape = terms.shape();
        let slab = self.child.as_ref().and_then(Child::slab).ok_or_else(nobody)?;
        let view = &mut self.view;
        slab.read_view(&shape.strides.view, which, &mut view.observation, &mut view.mask, &mut view.info);
        shape.check(&view.observation, &view.mask, &view.info).map_err(|what| lied(Lie(what)))?;
        view.extra.clear();
        let len = match which {
            Which::View => answer.extra_len,
            Which::Final => answer.final_extra_len,
        };
        if len > 0 {
            view.extra = check_extra(slab.read_extra(answer, which).map_err(lied)?)?;
        }
        Ok(())
    }

    /// Why a turn was not answered as asked.
    fn rejection(&mut self, status: Status) -> Result<Rejected, Ill> {
        match (status, self.explanation()?) {
            (Status::Refused, FromWorker::Refused(error)) => Ok(Rejected::Refused(error)),
            (Status::Fault, FromWorker::Fault(fault)) => Ok(Rejected::Ill(guest_fault(fault))),
            (status, other) => Err(lied(Lie(format!("status {status:?}, explained by {}", name_of(&other))))),
        }
    }

    /// The message that explains an answer.
    fn explanation(&mut self) -> Result<FromWorker, Ill> {
        let Some(child) = &self.child else { return Err(nobody()) };
        let until = Instant::now() + EXPLANATION_TIMEOUT;
        loop {
            match child.listen(until.saturating_duration_since(Instant::now())) {
                Heard::Message(message) => return Ok(message),
                Heard::Lie(lie) => return Err(lied(Lie(lie))),
                Heard::Dead(exit) => return Err(end_of(exit)),
                Heard::Nothing if Instant::now() >= until => {
                    return Err(lied(Lie("an answer that needs an explanation has none".to_owned())));
                }
                Heard::Nothing => {}
            }
        }
    }

    /// Whether the worker has died or lied without being asked, and how. Messages that came before an end explain it.
    fn death(&self) -> Option<Ill> {
        let Some(child) = &self.child else { return Some(nobody()) };
        if !child.is_dead() && child.shared.lie.get().is_none() {
            return None;
        }
        loop {
            match child.listen(Duration::ZERO) {
                Heard::Message(FromWorker::Fault(fault)) => return Some(guest_fault(fault)),
                Heard::Message(_) => {}
                Heard::Lie(lie) => return Some(lied(Lie(lie))),
                Heard::Dead(exit) => {
                    // An answer published before death counts; the death is the next turn's.
                    let answered = matches!(self.phase, Phase::Busy(_))
                        && child.slab().is_some_and(|slab| matches!(slab.answered(), Ok(true)));
                    return (!answered).then(|| end_of(exit));
                }
                Heard::Nothing => {}
            }
        }
    }

    // ── Faults ──────────────────────────────────────────────────────────────────────────────────────────────────

    /// The env met a fault in what was asked of it.
    fn met_fault(
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
                // Claims like all others: a half that does not hold is no answer, and the step is what met the fault.
                let _ = self.step_answered(&answer, &busy, terms, batch);
            }
        }
        self.keep_digest_of_added_reset(batch);
        let fault = self.make_fault(kind, message, backtrace, faults);
        match self.op.take() {
            Some(Op::Step(_)) => self.end_step_by_fault(fault, terms, batch),
            Some(Op::StepMany(_)) => {
                self.steps.truncated = true;
                self.steps.fault = Some(Box::new(fault.clone()));
                self.end_step_by_fault(fault, terms, batch);
                // A batch of steps never goes on with a reset.
                self.op = None;
            }
            op @ (Some(Op::Reset(_) | Op::Start) | None) => {
                self.op = op;
                self.reset_met_fault(fault, terms, batch);
            }
        }
    }

    /// Before a fault in a reset that same-step autoreset added to a step.
    fn keep_digest_of_added_reset(&mut self, batch: &Batch) {
        if batch.has_final[self.row()] && self.before_added_reset.is_none() {
            self.before_added_reset = Some(self.digest());
        }
    }

    /// What a `step` returns when its action was not answered: the episode is truncated where it stood.
    fn end_step_by_fault(&mut self, fault: Fault, terms: &Terms, batch: &mut Batch) {
        let row = self.row();
        batch.rewards[row] = 0.0;
        batch.terminated[row] = false;
        batch.truncated[row] = true;
        batch.was_reset[row] = false;
        batch.faults[row] = Some(Box::new(fault.clone()));
        self.op = None;
        if !self.ended {
            self.end_episode();
        }
        match terms.on_fault {
            OnFault::Raise => self.error = Some(fault.into()),
            OnFault::Mask => {
                self.masked = true;
                batch.masked[row] = true;
            }
            OnFault::Restart => {
                // Started now, so that it comes up while the others go on.
                self.restart(terms, batch);
                if self.error.is_none() && terms.autoreset.resets_at_once() {
                    batch.keep_final(row);
                    self.op = Some(Op::Reset(ResetOp { seed: None, options: self.reset_options.take() }));
                }
            }
        }
    }

    /// A reset that met a fault is tried again in a new instance: what is under way stays under way.
    fn reset_met_fault(&mut self, fault: Fault, terms: &Terms, batch: &mut Batch) {
        let row = self.row();
        batch.faults[row] = Some(Box::new(fault.clone()));
        if let Some(Op::Reset(reset)) = &mut self.op {
            // The new instance begins from the seed that its number gives it.
            reset.seed = None;
        }
        // Before the first spec is there, there is nothing to mask: an env that never started is tried again.
        match terms.on_fault {
            OnFault::Raise => self.give_up(fault.into()),
            OnFault::Mask if terms.shape.is_some() => {
                self.op = None;
                self.masked = true;
                batch.masked[row] = true;
            }
            OnFault::Mask | OnFault::Restart => self.restart(terms, batch),
        }
    }

    /// Ends the instance and says why: the process is killed and reaped, and the log is whole, when this returns.
    fn make_fault(&mut self, kind: FaultKind, message: String, backtrace: Vec<String>, faults: &mut FaultLog) -> Fault {
        let mut fault = self.bare_fault(kind, message);
        fault.backtrace = backtrace;
        if let Some(child) = &self.child {
            child.kill();
            child.wait_dead();
            let log = child.log();
            fault.log = log.text();
            fault.log_dropped_bytes = log.dropped();
        }
        self.digest.fault(kind);
        self.stop();
        self.ended_by_fault();
        faults.push(fault.clone());
        fault
    }

    fn bare_fault(&self, kind: FaultKind, mut message: String) -> Fault {
        crate::text::cut(&mut message, MESSAGE_BYTES_MAX);
        Fault {
            env: self.index,
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

    /// The episode ends here, by itself or because the caller wants another.
    fn end_episode(&mut self) {
        self.ended = true;
        self.episode += 1;
        self.step = 0;
        self.episode_return = 0.0;
    }

    fn ended_by_fault(&mut self) {
        if !self.ended {
            self.end_episode();
        }
    }

    // ── What is known of it ─────────────────────────────────────────────────────────────────────────────────────

    fn row(&self) -> usize {
        self.index as usize
    }

    fn slab(&self) -> Option<&HostSlab> {
        self.child.as_ref().and_then(Child::slab)
    }

    /// The process id of the worker, if one runs.
    pub(crate) fn pid(&self) -> Option<u32> {
        self.child.as_ref().filter(|child| !child.is_dead()).map(Child::pid)
    }

    /// The number of the instance that runs, or ran last.
    pub(crate) fn instance(&self) -> u32 {
        self.instance
    }

    /// Whether its episode is over, so that it must be reset before an action counts again.
    pub(crate) fn is_ended(&self) -> bool {
        self.ended
    }

    /// Whether a fault waits to be reported by its next step.
    pub(crate) fn has_pending_fault(&self) -> bool {
        self.pending.is_some()
    }

    /// Whether it is masked after a fault.
    pub(crate) fn is_masked(&self) -> bool {
        self.masked
    }

    /// Steps left until the time limit.
    pub(crate) fn steps_left(&self, terms: &Terms) -> Option<u32> {
        terms.time_limit().map(|limit| limit.saturating_sub(self.step).max(1))
    }

    /// Options for the next reset, an automatic one too.
    pub(crate) fn set_reset_options(&mut self, options: Option<String>) {
        self.reset_options = options;
    }

    /// The digest of what happened so far.
    pub(crate) fn digest(&self) -> Digest {
        if let Some(before) = self.before_added_reset {
            return before;
        }
        let running = self.child.is_some().then(|| (self.instance, self.digest.digest()));
        digest::env_digest(self.finished.iter().copied().chain(running))
    }

    /// What the guest printed, over all instances; the newest of it.
    pub(crate) fn log(&self) -> LogTail {
        let mut log = self.log.clone();
        if let Some(child) = &self.child {
            log.append(&child.log());
        }
        log
    }

    /// Asks an idle worker to say goodbye, without waiting. Whether there is somebody to wait for.
    pub(crate) fn begin_close(&mut self, deadline: Instant) -> bool {
        let request =
            Request { command: Command::Message, count: 0, flags: request_flags::MESSAGE, seed: 0, spin_us: 0 };
        matches!(self.phase, Phase::Idle)
            && self.child.as_ref().is_some_and(|child| !child.is_dead())
            && self.ask(&ToWorker::Close, request, deadline).is_ok()
    }

    /// Waits for the goodbye, until the deadline.
    pub(crate) fn wait_closed(&self, deadline: Instant) {
        let (Some(child), Some(slab)) = (&self.child, self.slab()) else { return };
        while !child.is_dead() && matches!(slab.answered(), Ok(false)) && Instant::now() < deadline {
            wait::wait(slab.done_word(), slab.unanswered(), slab.host_sleeps(), Spin::None, wait::SLICE);
        }
    }

    /// Kills the worker without waiting for its end.
    pub(crate) fn kill(&self) {
        if let Some(child) = &self.child {
            child.kill();
        }
    }

    /// Ends the worker: killed and reaped when this returns.
    pub(crate) fn close(&mut self) {
        if self.child.is_some() {
            self.stop();
        }
        self.op = None;
    }
}

impl Shape {
    /// Checks a copied view against its spaces.
    fn check(&self, observation: &[u8], mask: &[u8], info: &[u8]) -> Result<(), String> {
        self.observation.check(observation).map_err(|what| format!("its observation: {what}"))?;
        if mask.iter().any(|&byte| byte > 1) {
            return Err("its action mask has a byte that is neither 0 nor 1".to_owned());
        }
        self.strides.info.check(info).map_err(|what| format!("its info: {what}"))
    }
}

/// A fault before it is known whose it is: kind, message, backtrace.
type Ill = (FaultKind, String, Vec<String>);

/// What one look at a busy worker showed.
enum Look {
    Working,
    Answer(Answer),
    Fault(FaultKind, String, Vec<String>),
}

impl Look {
    fn fault((kind, message, backtrace): Ill) -> Look {
        Look::Fault(kind, message, backtrace)
    }
}

/// What listening to a starting worker brought.
enum Started {
    NotYet,
    Ready,
    /// The caller's fault, not the env's.
    Refused(Error),
    Fault(FaultKind, String, Vec<String>),
}

impl Started {
    fn fault(kind: FaultKind, message: &str) -> Started {
        Started::Fault(kind, message.to_owned(), Vec::new())
    }
}

/// Why an answer was not accepted.
enum Rejected {
    /// The guest refuses; the env runs on.
    Refused(EnvError),
    /// A fault.
    Ill(Ill),
}

impl From<Ill> for Rejected {
    fn from(ill: Ill) -> Rejected {
        Rejected::Ill(ill)
    }
}

fn nobody() -> Ill {
    (FaultKind::Exited, "no worker runs".to_owned(), Vec::new())
}

fn lied(Lie(what): Lie) -> Ill {
    (FaultKind::Protocol, format!("the worker broke the protocol: {what}"), Vec::new())
}

fn end_of(exit: Exit) -> Ill {
    let kind = match exit {
        Exit::Signal(_) => FaultKind::Signalled,
        Exit::Code(_) | Exit::Unknown => FaultKind::Exited,
    };
    (kind, format!("the worker {}", start::describe_exit(exit)), Vec::new())
}

/// A fault in the worker's own words. Only what a guest can do is its to claim; the rest the host sees for itself.
fn guest_fault(fault: GuestFault) -> Ill {
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

fn timed_out(request: &Request, terms: &Terms) -> Ill {
    let (kind, what, limit) = match request.command {
        Command::Reset => (FaultKind::ResetTimeout, "the reset", terms.limits.reset_timeout),
        Command::Step | Command::StepThenReset | Command::StepMany => {
            (FaultKind::StepTimeout, "the step", terms.limits.step_timeout)
        }
        Command::Message => (FaultKind::CallTimeout, "the call", terms.limits.call_timeout),
    };
    (kind, format!("{what} did not answer within {} s", limit.as_secs_f64()), Vec::new())
}

/// What a config error of `create` says to the operator.
fn config_error(errors: &[(String, String)], plugin: &str) -> UsageError {
    let line = |(path, message): &(String, String)| {
        let (mut path, mut message) = (crate::text::escape_line(path), crate::text::escape_line(message));
        crate::text::cut(&mut path, 256);
        crate::text::cut(&mut message, 1024);
        match path.as_str() {
            "" => format!("config: {message}"),
            path => format!("config `{path}`: {message}"),
        }
    };
    let mut lines = errors.iter().take(5).map(line);
    let mut error = UsageError::new(lines.next().unwrap_or_else(|| "config: refused without a reason".to_owned()));
    for further in lines {
        error = error.hint(format!("also: {further}"));
    }
    error.hint(format!("`rollcage inspect {plugin}` lists every key"))
}

/// An `info-extra` as text: empty, or a JSON object.
fn check_extra(bytes: Vec<u8>) -> Result<String, Ill> {
    let text = String::from_utf8(bytes).map_err(|_| lied(Lie("an info-extra that is not UTF-8".to_owned())))?;
    if !text.is_empty() && !text.trim_start().starts_with('{') {
        return Err(lied(Lie("an info-extra that is no JSON object".to_owned())));
    }
    Ok(text)
}

fn parts(view: &View) -> ViewParts<'_> {
    ViewParts { observation: &view.observation, mask: &view.mask, info: &view.info, extra: view.extra.as_bytes() }
}

fn text_of(error: &EnvError) -> String {
    let mut text = crate::text::escape_line(&error.to_string());
    crate::text::cut(&mut text, MESSAGE_BYTES_MAX);
    text
}

fn name_of(message: &FromWorker) -> &'static str {
    match message {
        FromWorker::Hello { .. } => "`hello`",
        FromWorker::Ready { .. } => "`ready`",
        FromWorker::Compiled { .. } => "`compiled`",
        FromWorker::NotCompiled(_) => "`not compiled`",
        FromWorker::ConfigRefused(_) => "`config refused`",
        FromWorker::Refused(_) => "`refused`",
        FromWorker::Fault(_) => "`fault`",
        FromWorker::Answered(_) => "`answered`",
    }
}
