//! One env as the host keeps it: its running instance, the request under way, and the answers. It is a state machine in the
//! host's own memory; the slab holds no state that the host relies on.
//!
//! [`Slot::advance`] goes as far as it can without waiting (or after one bounded wait), so that a caller can look at many
//! envs in turn. Faults are found and made in `fault.rs`, and nowhere else.

mod converse;
mod copied;
mod events;
pub(super) mod fault;
mod instance;
pub(super) mod rollout;
mod seated;
mod services;
mod turn;

use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use serde_json::Value;

pub(super) use super::autoreset::Turn;
use super::batch::{Batch, Steps, View};
use super::oddity::Oddities;
use super::pack::Seat;
use super::terms::Start;
use crate::cage::{Standing, Walls};
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

pub(crate) use rollout::{Part, Played};

use events::{AsOf, Events};
use instance::Started;
use rollout::MadePolicy;
pub(crate) use services::{count_envs, keep_the_run, lost_keeper_of_the_run};
use turn::Look;

use super::terms::Terms;

/// The state of the worker.
enum Phase {
    /// No worker: killed and reaped.
    Down,
    /// The keeper was asked for ports or services; there is no worker yet.
    Keeping { deadline: Instant },
    /// The worker starts as soon as there is a process to copy. If `kept` is false, the keeper starts first, since its start
    /// was interrupted.
    Queued { kept: bool },
    /// The worker was spawned, or another process was asked for it as a copy; `Ready` has not come.
    Starting { deadline: Instant, introduction: Introduction, copied_from: Option<CopiedFrom> },
    /// The worker that the env shares with others is starting.
    Joining { deadline: Instant },
    /// That worker was asked to make the instance.
    Creating(Busy),
    /// The last answer is accepted.
    Idle,
    /// A turn is published.
    Busy(Busy),
    /// The worker says goodbye, and the next instance follows.
    Closing { deadline: Instant },
}

/// A template process that was asked for a copy.
#[derive(Clone, Copy, Debug)]
struct CopiedFrom {
    number: u32,
    /// The deadline for the copy's first word.
    until: Instant,
}

struct Busy {
    request: Request,
    deadline: Instant,
    /// In a batch: how many steps the worker said it had taken, when the deadline was last moved.
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

/// The caller's request to the env.
#[derive(Clone, Debug)]
enum Op {
    /// Become ready: the first start.
    Start,
    Step(Command),
    StepMany(u32),
    /// Make the policy beside the env.
    MakePolicy,
    /// Play by itself.
    Play(Part),
    Reset(ResetOp),
    /// A message whose caller stopped waiting; its answer is still to come.
    Converse(ToWorker),
}

#[derive(Clone, Debug)]
struct ResetOp {
    seed: Option<u64>,
    options: Option<String>,
    /// Whether an instance was already asked for this reset. If that instance met a fault, the next instance begins from the
    /// seed of its own number.
    asked: bool,
}

/// The progress of an env.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Progress {
    Done,
    Waiting,
}

/// One env.
pub(crate) struct Slot {
    /// Its place among the envs of this `VecEnv`.
    index: u32,
    /// The number by which it is known: in a run over several hosts, its number in that run.
    env: u32,
    /// The number of its first instance here.
    first_instance: u32,
    config: CompleteConfig,
    /// The config as it was given, if it has leases in it. Ports are put in when they are taken.
    config_with_leases: Option<Value>,
    base_seed: u64,
    phase: Phase,
    /// The worker, if it is the env's own.
    child: Option<Child>,
    /// The env's place in the worker that it shares with others.
    seat: Option<Seat>,
    /// The process that holds the env's ports and runs its services.
    keeper: Option<Keeper>,
    /// The env's ports.
    ports: Vec<(LeaseSpec, u16)>,
    /// Services of the running instance that have ended by themselves.
    ended_services: Vec<String>,
    /// Episodes that the running instance has played.
    played: u64,
    /// Whether an instance was ended while an answer was entered. The operation under way then goes on with the next
    /// instance.
    recycled: bool,
    /// The worker's registration with the broker, if it may have sockets.
    registration: Option<broker::Registration>,
    refusals: broker::Refusals,
    handed: broker::Handed,
    /// The file of captured input from outside, if input is captured.
    capture: Option<PathBuf>,
    /// The active sandbox layers of the running worker, or of the last worker if none runs.
    standing: Option<Standing>,
    /// The number of the running instance, or of the last.
    instance: u32,
    started: bool,
    /// Whether the running instance still awaits its first reset, which passes a seed.
    fresh: bool,
    /// Whether the episode is over, or none has begun.
    ended: bool,
    episode: u64,
    step: u32,
    episode_return: f64,
    op: Option<Op>,
    action: Vec<u8>,
    reset_options: Option<String>,
    /// A fault that happened while no step or reset was under way; the next step or reset reports it.
    pending: Option<Fault>,
    masked: bool,
    error: Option<Error>,
    restarts: Restarts,
    /// Whether the last fault was another env's doing.
    blameless: bool,
    /// The time at which the running instance became ready.
    ready_at: Option<Instant>,
    events: Events,
    /// Bytes of one action.
    action_stride: usize,
    finished: Vec<(u32, Digest)>,
    /// The instances' digests before a fault in a reset that same-step autoreset added to a step. Reset and fault enter the
    /// env's digest only with the event that follows them, since in no other mode would they come after a run's last step.
    before_added_reset: Option<AsOf>,
    log: LogTail,
    /// Odd answers so far, and the number of all answers.
    oddities: Oddities,
    answers: u64,
    view: View,
    steps: Steps,
    /// The policy in the running worker.
    policy: Option<MadePolicy>,
    /// Whether the instance is to be told again in another worker; and whether it is asked by single steps alone.
    repeats: bool,
    only_steps: bool,
    /// What was played in the last turn in which the worker played by itself.
    rolled: Played,
    /// The time limit that this env's `create` returned. Configs differ between envs, and so may the limit.
    own_time_limit: Option<u32>,
    /// The most bytes of events that are kept for snapshots.
    past_bytes: usize,
    started_by: Option<Start>,
    /// How long the running instance took for imports that it shares with no other.
    imports: Duration,
    /// The spec that the first env's `create` returned, until it becomes the shape of all envs.
    first_spec: Option<Spec>,
    /// Whether the caller sent something and has not received its answer.
    pub(crate) in_flight: bool,
    /// The interrupt of this slot's waits. `interrupted` is true while the caller has not been told of an interrupted wait.
    interrupt: Interrupt,
    interrupted: bool,
}

impl Slot {
    pub(crate) fn new(index: u32, config: CompleteConfig, config_with_leases: Option<Value>, base_seed: u64) -> Slot {
        Slot {
            index,
            env: index,
            first_instance: 0,
            config,
            config_with_leases,
            base_seed,
            phase: Phase::Down,
            child: None,
            seat: None,
            keeper: None,
            ports: Vec::new(),
            ended_services: Vec::new(),
            played: 0,
            recycled: false,
            registration: None,
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
            blameless: false,
            ready_at: None,
            events: Events::new(),
            action_stride: 0,
            finished: Vec::new(),
            before_added_reset: None,
            log: LogTail::default(),
            oddities: Oddities::default(),
            answers: 0,
            view: View::default(),
            steps: Steps::default(),
            policy: None,
            repeats: false,
            only_steps: false,
            rolled: Played::default(),
            own_time_limit: None,
            past_bytes: 0,
            started_by: None,
            imports: Duration::ZERO,
            first_spec: None,
            in_flight: false,
            interrupt: Interrupt::default(),
            interrupted: false,
        }
    }

    /// Counts envs and instances from these numbers, as a part of a run over several hosts.
    pub(crate) fn count_from(&mut self, first_env: u32, first_instance: u32) {
        self.env = first_env + self.index;
        (self.first_instance, self.instance) = (first_instance, first_instance);
    }

    /// The number of its first instance here.
    pub(crate) fn first_instance(&self) -> u32 {
        self.first_instance
    }

    /// Whether no instance of the env was started here before the present one.
    fn is_first_here(&self) -> bool {
        self.instance == self.first_instance
    }

    /// Replaces the interrupt of this slot's waits.
    pub(crate) fn set_interrupt(&mut self, interrupt: &Interrupt) {
        self.interrupt = interrupt.clone();
    }

    /// The error of a call in which a wait of this env was interrupted. The operation under way goes on with the next call.
    pub(crate) fn check_interrupted(&mut self) -> Result<(), Error> {
        if std::mem::take(&mut self.interrupted) { Err(Error::Interrupted) } else { Ok(()) }
    }

    /// Keeps the instances' past for snapshots, up to this many bytes.
    pub(crate) fn keep_past(&mut self, bytes: usize) {
        self.past_bytes = bytes;
    }

    /// Starts the first instance, without waiting for it.
    pub(crate) fn begin_start(&mut self, terms: &Terms) -> Result<(), Error> {
        self.start_instance(terms)?;
        self.op = Some(Op::Start);
        Ok(())
    }

    /// Whether a `step` would run its action. Only then is the action checked; otherwise it is ignored.
    pub(crate) fn takes_action(&self, terms: &Terms) -> bool {
        !self.masked && self.pending.is_none() && matches!(terms.autoreset.turn(self.ended), Turn::Step(_))
    }

    /// The reason why this env cannot be stepped, found before any env is stepped.
    pub(crate) fn refuses_step(&self, terms: &Terms) -> Option<UsageError> {
        if self.masked || self.pending.is_some() {
            return None;
        }
        let index = self.env;
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

    /// Begins a step: publishes it, unless the env cannot take it.
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
                // If the instance ends with this episode, it is not asked to reset in the same turn.
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

    /// Begins the reset that same-step autoreset adds at the end of an episode.
    pub(crate) fn begin_added_reset(&mut self, terms: &Terms, batch: &mut Batch, faults: &mut FaultLog) {
        batch.begin_row(self.row());
        self.before_added_reset = Some(self.as_of_now());
        self.recycle_if_due(terms);
        self.op = Some(Op::Reset(ResetOp { seed: None, options: self.reset_options.take(), asked: false }));
        self.advance(Duration::ZERO, Spin::None, terms, batch, faults);
    }

    /// Whether it must be reset before it can be stepped.
    pub(crate) fn must_be_reset(&self) -> bool {
        self.ended || self.pending.is_some()
    }

    /// Whether its episode is over, and nothing else is wrong with it.
    pub(crate) fn is_to_be_reset(&self) -> bool {
        self.ended && !self.masked && self.pending.is_none() && self.error.is_none() && !self.fresh
    }

    /// Episodes that the running instance plays before it is ended at a reset.
    pub(crate) fn episodes_left(&self, terms: &Terms) -> Option<u64> {
        terms.recycle_after.map(|most| most.saturating_sub(self.played).max(1))
    }

    /// The view that the env last answered with.
    pub(crate) fn view(&self) -> &View {
        &self.view
    }

    /// Begins a batch of steps of this env only. `actions` holds `count` values.
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

    /// The results of the last batch of steps.
    pub(crate) fn take_steps(&mut self) -> Steps {
        std::mem::take(&mut self.steps)
    }

    /// Continues the operation under way: without waiting if `patience` is zero, else with one wait of at most a slice.
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
                Phase::Keeping { .. }
                | Phase::Queued { .. }
                | Phase::Starting { .. }
                | Phase::Joining { .. }
                | Phase::Creating(_) => match self.hear(patience, terms) {
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
                },
                Phase::Idle => {
                    let op = op.clone();
                    self.publish(op, terms, batch, faults);
                    // The next state is looked at in the env's own turn, so that faults of one step are found in the order of
                    // the envs, whichever env is quicker.
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

    /// The word of the slab to sleep on, while a turn is under way.
    pub(crate) fn watched(&self) -> Option<wait::Watched<'_>> {
        if !matches!(self.phase, Phase::Busy(_) | Phase::Creating(_)) {
            return None;
        }
        if let Some(life) = self.life() {
            return life.memory().watched();
        }
        let slab = self.slab()?;
        Some(wait::Watched { word: slab.done_word(), last: slab.unanswered(), sleeps: slab.host_sleeps() })
    }

    /// As [`Slot::watched`], of the env that was asked last of many. None for a shared worker: it answers its envs in their
    /// order, and the answers of one worker are taken while the next still works.
    pub(crate) fn watched_last(&self) -> Option<wait::Watched<'_>> {
        if self.seat.is_some() { None } else { self.watched() }
    }

    /// Whether an operation is under way.
    pub(crate) fn is_busy(&self) -> bool {
        self.op.is_some()
    }

    /// Takes the error that ended this env's last operation.
    pub(crate) fn take_error(&mut self) -> Option<Error> {
        self.error.take()
    }

    // ── State ───────────────────────────────────────────────────────────────────────────────────────────────────

    fn row(&self) -> usize {
        self.index as usize
    }

    fn slab(&self) -> Option<&HostSlab> {
        slab_of(self.seat.as_ref(), self.child.as_ref())
    }

    /// The worker's process, if one was started for the running instance.
    fn process(&self) -> Option<&Child> {
        match &self.seat {
            Some(seat) => seat.life().map(|life| life.child()),
            None => self.child.as_ref(),
        }
    }

    /// The process id of the worker, if one runs.
    pub(crate) fn pid(&self) -> Option<u32> {
        self.process().filter(|child| !child.is_dead()).and_then(Child::pid)
    }

    /// The active sandbox layers of its worker, once a worker was ready.
    pub(crate) fn walls(&self) -> Option<Walls> {
        self.standing.as_ref().map(|standing| standing.walls)
    }

    /// The sandbox around its worker, once a worker was ready.
    pub(crate) fn standing(&self) -> Option<&Standing> {
        self.standing.as_ref()
    }

    /// The number by which it is known.
    pub(crate) fn env(&self) -> u32 {
        self.env
    }

    /// The number of the running instance, or of the last.
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

    /// How the running instance, or the last, was started. A branch counts as started like the env that it copies.
    pub(crate) fn started_by(&self) -> Option<Start> {
        self.started_by
    }

    /// Lets the next step reach the guest although the episode is over: for a check of what the guest says then.
    pub(crate) fn forget_the_end(&mut self) {
        self.ended = false;
    }

    pub(crate) fn oddities(&self) -> &Oddities {
        &self.oddities
    }

    pub(crate) fn imports(&self) -> Duration {
        self.imports
    }

    /// The seed from which the first seeds of its instances are derived.
    pub(crate) fn base_seed(&self) -> u64 {
        self.base_seed
    }

    /// Whether its next step will report a fault.
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

    /// Sets options for the next reset, also an automatic one.
    pub(crate) fn set_reset_options(&mut self, options: Option<String>) {
        self.reset_options = options;
    }

    /// The digest of all events so far.
    pub(crate) fn digest(&self) -> Digest {
        digest::env_digest(self.instances().into_iter())
    }

    /// The newest part of the guest's output, over all instances.
    pub(crate) fn log(&self) -> LogTail {
        let mut log = self.log.clone();
        match (&self.seat, &self.child) {
            (Some(seat), _) => log.append(&seat.log()),
            (None, Some(child)) => log.append(&child.log()),
            (None, None) => {}
        }
        log
    }

    /// The network requests that were refused, over all instances.
    pub(crate) fn refused(&self) -> Vec<Refused> {
        self.refusals.list()
    }

    /// Hands over an open connection for the env's next connect to that peer.
    pub(crate) fn hand_over(&self, peer: SocketAddr, connection: OwnedFd) {
        self.handed.add(peer, connection);
    }

    /// The env's config: that of the running instance, or the checked config before the first.
    pub(crate) fn config(&self) -> &CompleteConfig {
        &self.config
    }

    /// The output of its services.
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
        match (&self.seat, &self.child) {
            (Some(seat), _) => seat.kill(),
            (None, Some(child)) => child.kill(),
            (None, None) => {}
        }
        if let Some(keeper) = &self.keeper {
            keeper.ask_end();
        }
    }

    /// Ends the worker: killed and reaped when this returns.
    pub(crate) fn close(&mut self) {
        if self.process().is_some() {
            self.stop();
        }
        // The worker ends with its last seat.
        self.seat = None;
        // When this returns, the services have ended and the ports are free.
        self.keeper = None;
        self.op = None;
    }
}

/// The slab of an env that has this seat in a shared worker, or this worker of its own.
fn slab_of<'a>(seat: Option<&'a Seat>, child: Option<&'a Child>) -> Option<&'a HostSlab> {
    match seat {
        Some(seat) => seat.slab(),
        None => child.and_then(Child::slab),
    }
}
