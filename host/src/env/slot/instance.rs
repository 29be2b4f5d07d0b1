//! Instances of an env: their start, the wait until they are ready, restarts within the budgets, and their end.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use super::fault::{end_of, guest_fault, name_of};
use super::{CopiedFrom, Phase, Slot, Terms};
use crate::env::batch::{Batch, View};
use crate::env::template::{Asked, COPY_TIMEOUT};
use crate::env::terms::Start;
use crate::error::{Error, UsageError};
use crate::fault::FaultKind;
use crate::limits::deadline;
use crate::outside::broker::{self, Rights};
use crate::process::child::{Child, Exit, Heard, SharedSlab};
use crate::process::start::{self, Introduction};
use crate::record::capture;
use crate::spec::{SPEC_BYTES_MAX, Spec};
use crate::wire::job::{ActsFor, CaptureMode, Job};
use crate::wire::slab::Lie;
use crate::wire::slab::host::HostSlab;
use crate::wire::slab::layout::Strides;
use crate::wire::talk::{FromWorker, GuestFault};

/// The parts of the outside that belong to one instance alone.
struct OwnOutside {
    broker: Option<OwnedFd>,
    capture: Option<OwnedFd>,
    capture_at: u64,
}

impl OwnOutside {
    /// Descriptors of broker and capture. Each keeps its position: `place` stands in for a missing descriptor.
    fn descriptors<'a>(&'a self, place: BorrowedFd<'a>) -> [BorrowedFd<'a>; 2] {
        [&self.broker, &self.capture].map(|descriptor| descriptor.as_ref().map_or(place, AsFd::as_fd))
    }
}

impl Slot {
    /// Starts the next instance number, first taking its own ports and starting its own services, if it has any.
    pub(super) fn start_instance(&mut self, terms: &Terms) -> Result<(), Error> {
        self.instance += u32::from(self.started);
        self.started = true;
        self.fresh = true;
        self.ended = true;
        self.played = 0;
        self.ready_at = None;
        self.events.begin_instance();
        self.policy = None;
        if terms.beside.is_kept() { self.begin_keeping(terms) } else { self.start_worker(terms, Duration::ZERO) }
    }

    /// Starts the worker of an instance: as a copy of a worker that is ready to be copied, or by an exec of its own. The
    /// instance stays queued while the worker to be copied is not ready.
    pub(super) fn start_worker(&mut self, terms: &Terms, patience: Duration) -> Result<(), Error> {
        if self.seat.is_some() {
            return self.take_seat(terms);
        }
        self.phase = Phase::Queued { kept: true };
        match terms.start {
            Start::Spawn => self.spawn_worker(terms),
            Start::ForkAfterCreate => self.start_as_copy_of_created(terms),
            Start::Best | Start::Fork | Start::ForkAfterImport => match terms.stock.template.copy(terms, patience) {
                Asked::Coming(child, number) => self.give_job(child, number, terms),
                Asked::NotYet => Ok(()),
                Asked::Nobody => self.spawn_worker(terms),
            },
        }
    }

    /// Goes on with an instance that is queued.
    fn start_queued(&mut self, kept: bool, patience: Duration, terms: &Terms) -> Started {
        if self.interrupted {
            // Tell the caller of the interrupt before trying again.
            return Started::NotYet;
        }
        let started = if kept { self.start_worker(terms, patience) } else { self.begin_keeping(terms) };
        match started {
            Ok(()) if matches!(self.phase, Phase::Queued { .. }) => Started::NotYet,
            Ok(()) => Started::Kept,
            Err(error) => Started::Refused(error),
        }
    }

    /// Starts the worker of a queued instance, with one wait of at most a slice. Returns whether the instance has left the
    /// queue.
    pub(crate) fn leave_queue(&mut self, patience: Duration, terms: &Terms) -> Result<bool, Error> {
        if matches!(self.phase, Phase::Joining { .. }) {
            return self.leave_queue_seated(patience, terms);
        }
        let Phase::Queued { kept } = self.phase else { return Ok(true) };
        match self.start_queued(kept, patience, terms) {
            Started::Refused(error) => Err(error),
            _ => {
                self.check_interrupted()?;
                Ok(!matches!(self.phase, Phase::Queued { .. }))
            }
        }
    }

    /// The result of a start. If it was interrupted, the start is queued again for the next call.
    pub(super) fn or_interrupted(&mut self, started: Result<(), Error>, kept: bool) -> Result<(), Error> {
        if matches!(started, Err(Error::Interrupted)) {
            (self.phase, self.interrupted) = (Phase::Queued { kept }, true);
            return Ok(());
        }
        started
    }

    /// Starts the worker of an instance by an exec.
    pub(super) fn spawn_worker(&mut self, terms: &Terms) -> Result<(), Error> {
        let (slab, slab_fd) = HostSlab::create().map_err(Error::system("making a slab"))?;
        let outside = self.open_outside(terms)?;
        let code = terms.prepared.code.as_fd();
        let descriptors: Vec<BorrowedFd<'_>> = [slab_fd.as_fd(), code]
            .into_iter()
            .chain(outside.descriptors(code))
            .chain([terms.prepared.assets()])
            .chain(terms.policy_files())
            .chain(terms.directories.iter().map(AsFd::as_fd))
            .collect();
        let title = self.title(terms);
        let job = self.job(&title, &slab, outside.capture_at, terms)?;
        let child =
            start::worker(&terms.program, &title, Some(SharedSlab::Own(slab)), terms.log(), &job, &descriptors)?;
        self.await_ready(child, None, terms);
        self.started_by = Some(Start::Spawn);
        Ok(())
    }

    /// Tells a copy of the template process which env it is.
    fn give_job(&mut self, child: Child, number: u32, terms: &Terms) -> Result<(), Error> {
        let outside = self.open_outside(terms)?;
        let code = terms.prepared.code.as_fd();
        let descriptors: Vec<BorrowedFd<'_>> = [code].into_iter().chain(outside.descriptors(code)).collect();
        let title = self.title(terms);
        let slab = child.slab().ok_or_else(|| UsageError::new("a copy came without a slab"))?;
        let job = self.job(&title, slab, outside.capture_at, terms)?;
        // A worker that has ended already is reported in another way.
        let _ = child.send(&job, &descriptors);
        let until = Instant::now() + COPY_TIMEOUT.min(terms.limits.start_timeout);
        self.await_ready(child, Some(CopiedFrom { number, until }), terms);
        self.started_by = Some(if terms.imports_first() { Start::ForkAfterImport } else { Start::Fork });
        Ok(())
    }

    /// The title of its worker.
    fn title(&self, terms: &Terms) -> String {
        let what = if terms.acts_for.is_some() { "policy of env" } else { "env" };
        format!("{what} {}", self.env)
    }

    /// The job of its worker.
    fn job(&self, title: &str, slab: &HostSlab, capture_at: u64, terms: &Terms) -> Result<Job, Error> {
        let mut job = terms.job(title, self.config.canonical.clone(), capture_at);
        if let Some(spec) = &terms.acts_for {
            let spec_len = u32::try_from(spec.len()).ok().filter(|_| slab.write_bulk(spec));
            let spec_len =
                spec_len.ok_or_else(|| UsageError::new("the spec of these envs is too large for a policy"))?;
            job.acts_for = Some(ActsFor { spec_len, key: self.policy_key() });
        }
        Ok(Job::Env(job))
    }

    pub(super) fn await_ready(&mut self, child: Child, copied_from: Option<CopiedFrom>, terms: &Terms) {
        self.child = Some(child);
        let deadline = deadline(terms.limits.start_timeout);
        self.phase = Phase::Starting { deadline, introduction: Introduction::default(), copied_from };
    }

    /// Opens the parts of the outside that belong to this instance alone.
    fn open_outside(&mut self, terms: &Terms) -> Result<OwnOutside, Error> {
        let broker = match terms.granted.talks() {
            false => None,
            true => {
                let rights = Rights {
                    handed: self.handed.clone(),
                    names: terms.names.clone(),
                    count_max: terms.limits.sockets as usize,
                    ..terms.beside.rights_for(&self.scene(terms))?
                };
                let registered = broker::register(rights, self.refusals.clone());
                let (registration, theirs) = registered.map_err(Error::system("starting the broker"))?;
                self.registration = Some(registration);
                Some(theirs)
            }
        };
        let capture = match (terms.granted.capture, &self.capture) {
            (Some(CaptureMode::Write), Some(path)) => {
                Some(capture::begin_instance(path, self.instance).map(|file| (file, 0)))
            }
            (Some(CaptureMode::Serve), Some(path)) => Some(capture::of_instance(path, self.instance)),
            _ => None,
        };
        let capture = capture.transpose().map_err(Error::system("opening what came in from outside"))?;
        let (capture, capture_at) = capture.map_or((None, 0), |(file, at)| (Some(file), at));
        Ok(OwnOutside { broker, capture, capture_at })
    }

    /// Starts a new instance after a fault, within the budgets; or gives up.
    pub(super) fn restart(&mut self, terms: &Terms, batch: &mut Batch) {
        if !self.started {
            // The system refused the first start itself.
            if let Err(error) = self.start_instance(terms) {
                self.give_up(error);
            }
            return;
        }
        // A restart for another env's fault is charged to nobody.
        if !self.blameless
            && let Err(spent) = self.restarts.spend(&terms.limits.restarts, Instant::now())
        {
            let last = batch.faults[self.row()].as_deref().cloned();
            let mut fault = last.unwrap_or_else(|| self.bare_fault(FaultKind::Exited, "no instance runs".to_owned()));
            fault.message = format!("{} (the restart budget is spent: {spent})", fault.message);
            self.give_up(fault.into());
            return;
        }
        if let Err(error) = self.start_instance(terms) {
            self.give_up(error);
        }
    }

    /// Listens to the process that a starting instance waits for: its keeper or its worker.
    pub(super) fn hear(&mut self, patience: Duration, terms: &Terms) -> Started {
        match self.phase {
            Phase::Keeping { deadline } => self.hear_keeper(deadline, patience, terms),
            Phase::Queued { kept } => self.start_queued(kept, patience, terms),
            Phase::Joining { deadline } => self.hear_joined(deadline, patience, terms),
            Phase::Creating(_) => self.hear_created(patience, terms),
            _ => self.hear_start(patience, terms),
        }
    }

    /// Listens to a worker that is starting.
    pub(super) fn hear_start(&mut self, patience: Duration, terms: &Terms) -> Started {
        if self.has_lost_its_keeper() {
            return Started::fault(FaultKind::KeeperLost, "");
        }
        let Phase::Starting { deadline, introduction, copied_from } = &mut self.phase else { return Started::NotYet };
        let Some(child) = &self.child else { return Started::fault(FaultKind::Exited, "no worker") };
        let mut patience = patience.min(deadline.saturating_duration_since(Instant::now()));
        loop {
            let heard = match child.listen(patience) {
                Heard::Message(message) => match introduction.hear(message, &terms.program, &terms.cage) {
                    Err(error) => return Started::Refused(error.into()),
                    Ok(None) => {
                        patience = patience.min(deadline.saturating_duration_since(Instant::now()));
                        continue;
                    }
                    Ok(Some(message)) => Heard::Message(message),
                },
                other => other,
            };
            match heard {
                Heard::Message(FromWorker::Ready { bulk_len, imports_us }) => {
                    let Some(standing) = introduction.standing() else {
                        return Started::fault(FaultKind::Protocol, "it did not say which walls stand");
                    };
                    // The host checks from outside, since the worker itself might claim anything.
                    if let Err(what) = child.check_status(standing.walls) {
                        return Started::fault(FaultKind::Protocol, &what);
                    }
                    self.standing = Some(standing.clone());
                    self.imports = Duration::from_micros(u64::from(imports_us));
                    return self.check_spec(bulk_len as usize, terms);
                }
                Heard::Message(FromWorker::ConfigRefused(errors)) => return self.config_refused(&errors, terms),
                Heard::Message(FromWorker::Fault(fault)) => return Started::of_guest(fault, terms),
                Heard::Message(other) => {
                    return Started::fault(FaultKind::Protocol, &format!("it starts with {}", name_of(&other)));
                }
                Heard::Lie(lie) => return Started::fault(FaultKind::Protocol, &lie),
                // The copy was never made: the process to be copied is gone.
                Heard::Dead(Exit::Unknown) if copied_from.is_some() && !introduction.greeted() => {
                    return self.spawn_in_place(terms);
                }
                // The copy will never be made: the process to be copied has stopped.
                Heard::Nothing
                    if !introduction.greeted()
                        && copied_from.is_some_and(|CopiedFrom { until, .. }| Instant::now() >= until) =>
                {
                    if let Some(CopiedFrom { number, .. }) = *copied_from {
                        terms.stock.template.end_one(number);
                    }
                    return self.spawn_in_place(terms);
                }
                Heard::Dead(exit) => {
                    if !introduction.greeted() && self.is_first_here() && matches!(exit, Exit::Code(_)) {
                        return Started::Refused(start::not_a_worker(&terms.program, child, exit).into());
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

    /// The result of a start whose `create` refused the config.
    pub(super) fn config_refused(&mut self, errors: &[(String, String)], terms: &Terms) -> Started {
        let error = config_error(errors, terms.prepared.plugin.name());
        let error = UsageError { message: terms.with_lacking_directory(error.message), ..error };
        if self.is_first_here() {
            let error = self.refusals.take_of_names().into_iter().fold(error, UsageError::hint);
            return Started::Refused(error.into());
        }
        Started::fault(FaultKind::CreateFailed, &error.message)
    }

    /// Spawns a worker that did not come as a copy. This is neither a fault nor a restart.
    fn spawn_in_place(&mut self, terms: &Terms) -> Started {
        match self.spawn_worker(terms) {
            Ok(()) => Started::NotYet,
            Err(error) => Started::Refused(error),
        }
    }

    /// Reads the spec of a worker that is ready.
    pub(super) fn check_spec(&mut self, len: usize, terms: &Terms) -> Started {
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
        self.own_time_limit = spec.max_episode_steps;
        match &terms.shape {
            Some(shape) => {
                if let Some(difference) = shape.spec.first_difference(&spec) {
                    let (env, first) = (self.env, self.env - self.index);
                    if self.is_first_here() {
                        let error =
                            UsageError::new(format!("envs {first} and {env} have different spaces: {difference}"))
                                .hint("one `VecEnv` steps envs of one shape; run configs of other shapes apart");
                        return Started::Refused(error.into());
                    }
                    let message = format!("`create` returned another spec than before: {difference}");
                    return Started::fault(FaultKind::CreateFailed, &message);
                }
                self.set_shape(&shape.strides);
            }
            None => self.first_spec = Some(spec),
        }
        Started::Ready
    }

    /// Takes the spec of the first env, for the terms of all envs.
    pub(crate) fn take_first_spec(&mut self) -> Option<Spec> {
        self.first_spec.take()
    }

    /// Makes room for views of this shape.
    pub(crate) fn set_shape(&mut self, strides: &Strides) {
        if self.fresh {
            self.view = View::sized(&strides.view);
        }
        self.action_stride = strides.view.action;
    }

    /// Ends the worker permanently, without a fault.
    pub(super) fn stop(&mut self) {
        self.end_worker();
        self.registration = None;
        if self.started {
            self.finished.push((self.instance, self.events.digest.digest()));
            self.events.begin_instance();
        }
        self.phase = Phase::Down;
    }

    /// Kills the worker and keeps what it logged. The instance may go on in another worker.
    pub(super) fn end_worker(&mut self) {
        if let Some(child) = self.child.take() {
            child.kill();
            child.wait_dead();
            self.log.append(&child.log());
        }
        if let Some(seat) = &mut self.seat {
            self.log.append(&seat.leave(self.env));
        }
    }

    pub(super) fn give_up(&mut self, error: Error) {
        self.op = None;
        self.error = Some(error);
    }
}

/// The result of listening to a starting worker.
pub(super) enum Started {
    NotYet,
    /// Ports and services are ready, or more of them are waited for.
    Kept,
    Ready,
    /// The caller made the error, not the env.
    Refused(Error),
    Fault(FaultKind, String, Vec<String>),
}

impl Started {
    /// A fault of the guest, in its own words.
    pub(super) fn of_guest(fault: GuestFault, terms: &Terms) -> Started {
        let (kind, message, backtrace) = guest_fault(fault);
        Started::Fault(kind, terms.with_lacking_directory(message), backtrace)
    }

    pub(super) fn fault(kind: FaultKind, message: &str) -> Started {
        Started::Fault(kind, message.to_owned(), Vec::new())
    }
}

/// The message for the operator from a config error of `create`.
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
    error.hint(format!("`rollcage inspect {}` lists every key", crate::text::argument(plugin)))
}
