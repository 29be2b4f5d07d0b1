//! One env as the host keeps it: which instance runs, what was asked of it, what it said. A state machine of the host's
//! own memory; the slab holds no state that the host relies on.
//!
//! [`Slot::advance`] goes as far as it can without waiting (or after one bounded wait), so that a caller can look at many
//! envs in turn. Faults are found and made in `ill`, and nowhere else.

mod converse;
mod copied;
mod events;
mod fault;
mod instance;
mod services;
mod turn;

use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use serde_json::Value;

pub(super) use super::autoreset::Turn;
use super::batch::{Batch, Steps, View};
use super::terms::Start;
use crate::cage::{Standing, Wall, Walls};
use crate::digest::{self, Digest};
use crate::error::{Error, UsageError};
use crate::fault::{Fault, FaultLog, Restarts};
use crate::interrupt::Interrupt;
use crate::outside::broker::{self, Refused};
use crate::outside::service::Keeper;
use crate::plugin::config::CompleteConfig;
use crate::process::child::{Child, LogTail};
use crate::process::start::Introduction;
use crate::spec::Spec;
use crate::wire::lease::LeaseSpec;
use crate::wire::slab::host::HostSlab;
use crate::wire::slab::{Command, Request};
use crate::wire::talk::ToWorker;
use crate::wire::wait::{self, Spin};

pub(crate) use events::PastEvent;

use events::{AsOf, Events};
use instance::Started;
pub(crate) use services::{keep_the_run, lost_keeper_of_the_run};
use turn::Look;

use super::terms::Terms;

/// Where the worker stands.
enum Phase {
    /// No worker: killed and reaped.
    Down,
    /// The keeper was asked for ports or services; no worker yet.
    Keeping { deadline: Instant },
    /// Its worker is to be started as soon as there is somebody to copy; or its keeper, where that was interrupted.
    Queued { kept: bool },
    /// Spawned, or asked of another as its copy; `Ready` has not come.
    Starting { deadline: Instant, introduction: Introduction, copied_from: Option<CopiedFrom> },
    /// The last answer is accepted.
    Idle,
    /// A turn is published.
    Busy(Busy),
    /// It says goodbye, and the next instance follows.
    Closing { deadline: Instant },
}

/// A template process that was asked for a copy.
#[derive(Clone, Copy, Debug)]
struct CopiedFrom {
    number: u32,
    /// Until when the copy must have said its first word.
    until: Instant,
}

struct Busy {
    request: Request,
    deadline: Instant,
    /// Of a batch: how many steps the worker said it had taken, when the deadline was last moved.
    heartbeat: u32,
    /// How often the deadline was moved: at most once for each step.
    moved: u32,
    limit_flag: bool,
    seed: Option<u64>,
    options: Option<String>,
}

impl Busy {
    fn new(request: Request, deadline: Instant) -> Busy {
        Busy { request, deadline, heartbeat: 0, moved: 0, limit_flag: false, seed: None, options: None }
    }
}

/// What the caller wants of the env.
#[derive(Clone, Debug)]
enum Op {
    /// Become ready: the first start.
    Start,
    Step(Command),
    StepMany(u32),
    Reset(ResetOp),
    /// An answer is on its way that its caller did not wait for.
    Converse(ToWorker),
}

#[derive(Clone, Debug)]
struct ResetOp {
    seed: Option<u64>,
    options: Option<String>,
    /// An instance has been asked, and met a fault or is at it: the next one begins from the seed its number gives it.
    asked: bool,
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
    config: CompleteConfig,
    /// The config as it was given, if it has leases in it: their ports are put in when they are taken.
    template: Option<Value>,
    base_seed: u64,
    phase: Phase,
    child: Option<Child>,
    /// Holds the env's ports, and runs its services.
    keeper: Option<Keeper>,
    /// The env's ports.
    ports: Vec<(LeaseSpec, u16)>,
    /// Services of the running instance that have ended by themselves.
    ended_services: Vec<String>,
    /// Episodes that the running instance has played.
    played: u64,
    /// An instance was ended while an answer was entered: what is under way goes on with the next one.
    recycled: bool,
    /// The worker's place at the broker's, if it may have sockets.
    seat: Option<broker::Seat>,
    refusals: broker::Refusals,
    handed: broker::Handed,
    /// The file of what comes in from outside, if that is captured.
    capture: Option<PathBuf>,
    /// Which walls stand around its worker; of the one that ran last, if none runs.
    standing: Option<Standing>,
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
    /// When the running instance was ready.
    ready_at: Option<Instant>,
    events: Events,
    /// Bytes of one action.
    action_stride: usize,
    finished: Vec<(u32, Digest)>,
    /// The instances' digests before a fault in a reset that same-step autoreset added to a step: like the reset itself, it
    /// enters with what follows it, since no other mode has it after a run's last step.
    before_added_reset: Option<AsOf>,
    log: LogTail,
    view: View,
    steps: Steps,
    /// The time limit that this env's `create` returned: configs differ, and so may this.
    own_time_limit: Option<u32>,
    /// Bytes of events that are kept for snapshots.
    past_bytes: usize,
    started_by: Option<Start>,
    /// What the first env's `create` returned, until it is everybody's shape.
    first_spec: Option<Spec>,
    /// Whether the caller sent something and has not received its answer.
    pub(crate) in_flight: bool,
    /// What makes its waits return, and whether one has: the caller is still to be told.
    interrupt: Interrupt,
    interrupted: bool,
}

impl Slot {
    pub(crate) fn new(index: u32, config: CompleteConfig, template: Option<Value>, base_seed: u64) -> Slot {
        Slot {
            index,
            config,
            template,
            base_seed,
            phase: Phase::Down,
            child: None,
            keeper: None,
            ports: Vec::new(),
            ended_services: Vec::new(),
            played: 0,
            recycled: false,
            seat: None,
            refusals: broker::Refusals::default(),
            handed: broker::Handed::default(),
            capture: None,
            standing: None,
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
            ready_at: None,
            events: Events::new(),
            action_stride: 0,
            finished: Vec::new(),
            before_added_reset: None,
            log: LogTail::default(),
            view: View::default(),
            steps: Steps::default(),
            own_time_limit: None,
            past_bytes: 0,
            started_by: None,
            first_spec: None,
            in_flight: false,
            interrupt: Interrupt::default(),
            interrupted: false,
        }
    }

    /// What makes its waits return from now on.
    pub(crate) fn set_interrupt(&mut self, interrupt: &Interrupt) {
        self.interrupt = interrupt.clone();
    }

    /// The error of a call in which a wait of this env's was interrupted. What was under way goes on with the next one.
    pub(crate) fn check_interrupted(&mut self) -> Result<(), Error> {
        if std::mem::take(&mut self.interrupted) { Err(Error::Interrupted) } else { Ok(()) }
    }

    /// Keeps what its instances are told, up to so many bytes, for snapshots.
    pub(crate) fn keep_past(&mut self, bytes: usize) {
        self.past_bytes = bytes;
    }

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
                // An instance that ends with its episode is not asked to reset in the same turn.
                let last = self.played + 1 >= terms.recycle_after.unwrap_or(u64::MAX);
                self.op = Some(Op::Step(if last { Command::Step } else { command }));
            }
            Turn::Reset | Turn::Refuse => {
                self.recycle_if_due(terms);
                self.op = Some(Op::Reset(ResetOp { seed: None, options: self.reset_options.take(), asked: false }));
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
        let options = options.or_else(|| self.reset_options.take());
        self.recycle_if_due(terms);
        self.op = Some(Op::Reset(ResetOp { seed, options, asked: false }));
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
                Phase::Keeping { .. } | Phase::Queued { .. } | Phase::Starting { .. } => {
                    match self.hear(patience, terms) {
                        Started::NotYet => return Progress::Waiting,
                        Started::Kept => {}
                        Started::Ready => {
                            self.phase = Phase::Idle;
                            self.ready_at = Some(Instant::now());
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
                            let fault = self.make_fault(kind, message, backtrace, terms, faults);
                            self.reset_met_fault(fault, terms, batch);
                        }
                    }
                }
                Phase::Idle => {
                    let op = op.clone();
                    self.publish(op, terms, batch, faults);
                    // What follows is looked at when its turn comes, so that faults of one step are found in the order of
                    // the envs, whoever is quicker.
                    if patience.is_zero() && matches!(self.phase, Phase::Busy(_)) {
                        return Progress::Waiting;
                    }
                }
                Phase::Closing { deadline } => {
                    if !self.has_closed(*deadline, patience) {
                        return Progress::Waiting;
                    }
                    self.start_next(terms);
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

    // ── What is known of it ─────────────────────────────────────────────────────────────────────────────────────

    fn row(&self) -> usize {
        self.index as usize
    }

    fn slab(&self) -> Option<&HostSlab> {
        self.child.as_ref().and_then(Child::slab)
    }

    /// The process id of the worker, if one runs.
    pub(crate) fn pid(&self) -> Option<u32> {
        self.child.as_ref().filter(|child| !child.is_dead()).and_then(Child::pid)
    }

    /// Which walls stand around its worker, once one was ready.
    pub(crate) fn walls(&self) -> Option<Walls> {
        self.standing.as_ref().map(|standing| standing.walls)
    }

    /// Which walls do not stand around its worker, and why.
    pub(crate) fn missing_walls(&self) -> &[(Wall, String)] {
        self.standing.as_ref().map_or(&[], |standing| &standing.missing)
    }

    /// The number of the instance that runs, or ran last.
    pub(crate) fn instance(&self) -> u32 {
        self.instance
    }

    /// Whether its episode is over, so that it must be reset before an action counts again.
    pub(crate) fn is_ended(&self) -> bool {
        self.ended
    }

    /// Steps of the present episode.
    pub(crate) fn step(&self) -> u32 {
        self.step
    }

    /// How the instance was started that runs, or ran last. A branch was started as what it is a copy of.
    pub(crate) fn started_by(&self) -> Option<Start> {
        self.started_by
    }

    /// The seed that its instances' first seeds come from.
    pub(crate) fn base_seed(&self) -> u64 {
        self.base_seed
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
        let limit = terms.time_limit.over(self.own_time_limit);
        limit.map(|limit| limit.saturating_sub(self.step).max(1))
    }

    /// Options for the next reset, an automatic one too.
    pub(crate) fn set_reset_options(&mut self, options: Option<String>) {
        self.reset_options = options;
    }

    /// The digest of what happened so far.
    pub(crate) fn digest(&self) -> Digest {
        digest::env_digest(self.instances().into_iter())
    }

    /// What the guest printed, over all instances; the newest of it.
    pub(crate) fn log(&self) -> LogTail {
        let mut log = self.log.clone();
        if let Some(child) = &self.child {
            log.append(&child.log());
        }
        log
    }

    /// What it asked of the network and did not get, over all instances.
    pub(crate) fn refused(&self) -> Vec<Refused> {
        self.refusals.list()
    }

    /// An open connection for its next connect to that peer.
    pub(crate) fn hand_over(&self, peer: SocketAddr, connection: OwnedFd) {
        self.handed.add(peer, connection);
    }

    /// The env's config: of the running instance, or as it was checked.
    pub(crate) fn config(&self) -> &CompleteConfig {
        &self.config
    }

    /// What its services printed.
    pub(crate) fn services_log(&self) -> Option<String> {
        self.keeper.as_ref().map(Keeper::log)
    }

    /// The process id of its keeper, if it has one.
    pub(crate) fn keeper_pid(&self) -> Option<u32> {
        self.keeper.as_ref().map(Keeper::pid)
    }

    /// Its ports.
    pub(crate) fn ports(&self) -> &[(LeaseSpec, u16)] {
        &self.ports
    }

    /// Kills the worker and tells its services to end, without waiting for either.
    pub(crate) fn kill(&self) {
        if let Some(child) = &self.child {
            child.kill();
        }
        if let Some(keeper) = &self.keeper {
            keeper.ask_end();
        }
    }

    /// Ends the worker: killed and reaped when this returns.
    pub(crate) fn close(&mut self) {
        if self.child.is_some() {
            self.stop();
        }
        // Its services are ended and its ports free when this returns.
        self.keeper = None;
        self.op = None;
    }
}
