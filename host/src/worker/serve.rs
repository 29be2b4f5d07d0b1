//! On the path of a step: vec_env → slab → wait → **worker/serve** → worker/instance → slab.
//! This file knows turns and their answers, and nothing of wasm. It waits on one thing: the slab's turn.
//!
//! Everything that it writes was checked against the spec: the host would count a wrong length or value as a lie.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use rustix::net::RecvFlags;

use super::answer::{CallError, Frame, Transition, View};
use super::instance::{CreateFailure, Instance};
use super::policy::PolicyCode;
use super::rollout::Acting;
use super::wasi::streams::{Log, LogPipe, OwnLog};
use super::{Control, hello, refused, say};
use crate::cage::copy::{self, Side};
use crate::cage::{Standing, process};
use crate::fault::FaultKind;
use crate::space::{InfoLayout, Layout};
use crate::spec::Spec;
use crate::wire::job::EnvJob;
use crate::wire::packet::{self, Received};
use crate::wire::slab::layout::{ViewLayout, Which};
use crate::wire::slab::worker::{ColumnBytes, ViewBytes, WorkerSlab};
use crate::wire::slab::{Answer, Command, INFO_EXTRA_BYTES_MAX, Lie, Request, Status, request_flags};
use crate::wire::talk::{EnvError, FromWorker, GuestFault, Reply, ToWorker};
use crate::wire::wait::{self, Spin};

/// The longest sleep of a worker. The kernel ends the worker when the host dies, so this matters only if a wake is lost.
pub(super) const SLEEP: Duration = Duration::from_secs(1);

/// How the host's messages reach an env, and the env's messages the host.
#[derive(Clone, Copy)]
pub(super) enum Line {
    /// Over the control socket: the worker's only env.
    Control(Control),
    /// In the slab, beside the turn: one env among several.
    Slab,
}

/// A running env: its instance and its slab.
pub(super) struct Served {
    pub(super) slab: WorkerSlab,
    line: Line,
    pub(super) instance: Instance,
    pub(super) spec: Spec,
    pub(super) layout: ViewLayout,
    pub(super) observation: Layout,
    pub(super) action_space: Layout,
    pub(super) info: InfoLayout,
    pub(super) action: Vec<u8>,
    /// The policy that may choose its actions.
    pub(super) acting: Acting,
    /// The time between two steps on a guest's clock.
    pub(super) clock_step: Duration,
    /// The encoded spec, which a copy sends as its own. Below, the active sandbox layers.
    encoded: Vec<u8>,
    standing: Standing,
    /// How long the guest's imports took in this process.
    imports: Duration,
}

/// Turns an instance into an env that answers its turns, until its end.
pub(super) fn serve(
    control: Control,
    job: &EnvJob,
    slab: WorkerSlab,
    mut instance: Instance,
    policy: Option<Arc<PolicyCode>>,
    standing: Standing,
    imports: Duration,
) -> io::Result<()> {
    let spec = match instance.create(&job.config) {
        Ok(spec) => spec,
        Err(CreateFailure::Config(errors)) => return say(control, &FromWorker::ConfigRefused(errors)),
        Err(CreateFailure::Fault(fault)) => return say(control, &FromWorker::Fault(fault)),
    };
    match Served::new(slab, Line::Control(control), instance, spec, standing, imports) {
        Ok(served) => served.with_policy(policy, job.clock_step).run(),
        Err(what) => say(control, &FromWorker::Fault(refused(FaultKind::CreateFailed, what))),
    }
}

/// The reason why a turn is not answered as asked.
pub(super) enum Unanswered {
    /// The guest refuses, and keeps running.
    Refused(EnvError),
    /// The instance has ended.
    Fault(GuestFault),
    /// The policy cannot go on, and the env keeps running.
    Policy(GuestFault),
    /// A batch did not go as single steps may, and the instance has ended.
    PlaySteps(String),
    /// The host broke the protocol: a bug, since the host is trusted.
    Host(String),
    /// This process is a copy: the original answers the request.
    Copied,
    /// The guest has said goodbye.
    Closed,
}

/// Whether an env can be asked again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum After {
    GoesOn,
    /// It said goodbye, or met a fault.
    Ended,
}

impl From<CallError> for Unanswered {
    fn from(error: CallError) -> Unanswered {
        match error {
            CallError::Env(error) => Unanswered::Refused(error),
            CallError::Fault(fault) => Unanswered::Fault(fault),
        }
    }
}

impl From<GuestFault> for Unanswered {
    fn from(fault: GuestFault) -> Unanswered {
        Unanswered::Fault(fault)
    }
}

impl From<Lie> for Unanswered {
    fn from(lie: Lie) -> Unanswered {
        Unanswered::Host(lie.0)
    }
}

impl Served {
    /// Computes the layouts and limits that follow from the spec.
    ///
    /// # Errors
    /// The limit of the slab that the spec breaks.
    pub(super) fn new(
        slab: WorkerSlab,
        line: Line,
        instance: Instance,
        spec: Spec,
        standing: Standing,
        imports: Duration,
    ) -> Result<Served, String> {
        let encoded = spec.encode()?;
        let layout = ViewLayout::of(&spec)?;
        let info = crate::space::info_layout(&spec.info_fields)?;
        Ok(Served {
            slab,
            line,
            instance,
            observation: spec.observation_space.layout(),
            action_space: spec.action_space.layout(),
            info,
            action: vec![0; layout.action],
            layout,
            spec,
            acting: Acting::default(),
            clock_step: Duration::ZERO,
            encoded,
            standing,
            imports,
        })
    }

    /// Gives it what policies are made of, and the time of a step on their clocks.
    pub(super) fn with_policy(self, code: Option<Arc<PolicyCode>>, clock_step: Duration) -> Served {
        Served { acting: Acting::of(code), clock_step, ..self }
    }

    /// The log of a guest in this worker: the env's own.
    pub(super) fn log(&self) -> Box<dyn Log> {
        match self.slab.log() {
            Some(own) => Box::new(OwnLog { own, through: false }),
            None => Box::new(LogPipe),
        }
    }

    /// The env's part of the slab.
    #[inline]
    pub(super) fn slab(&mut self) -> &mut WorkerSlab {
        &mut self.slab
    }

    /// Reports that the env is ready.
    pub(super) fn say_ready(&self) -> io::Result<()> {
        if !self.slab.write_bulk(0, &self.encoded) {
            return Err(io::Error::other("the spec does not fit the bulk area"));
        }
        let bulk_len = u32::try_from(self.encoded.len()).unwrap_or(u32::MAX);
        let imports_us = u32::try_from(self.imports.as_micros()).unwrap_or(u32::MAX);
        self.say(&FromWorker::Ready { bulk_len, imports_us })
    }

    /// Reports that the env is ready, then answers turns until the end.
    fn run(mut self) -> io::Result<()> {
        self.say_ready()?;
        loop {
            let request = wait_for_turn(&mut self.slab)?;
            if self.take_turn(&request)? == After::Ended {
                return Ok(());
            }
        }
    }

    /// Answers one turn.
    ///
    /// # Errors
    /// The host broke the protocol, or is gone.
    #[inline]
    pub(super) fn take_turn(&mut self, request: &Request) -> io::Result<After> {
        match self.answer(request) {
            Ok(answer) => self.publish(&answer),
            Err((answer, Unanswered::Refused(error))) => {
                self.say(&FromWorker::Refused(error))?;
                self.publish(&Answer { status: Status::Refused, ..answer });
            }
            Err((answer, Unanswered::Fault(fault))) => {
                self.say(&FromWorker::Fault(fault))?;
                self.publish(&Answer { status: Status::Fault, ..answer });
                return Ok(After::Ended);
            }
            Err((answer, Unanswered::PlaySteps(why))) => {
                self.say(&FromWorker::PlaySteps(why))?;
                self.publish(&Answer { status: Status::Fault, ..answer });
                return Ok(After::Ended);
            }
            Err((answer, Unanswered::Policy(fault))) => {
                self.say(&FromWorker::PolicyFailed(fault))?;
                self.publish(&Answer { status: Status::Refused, ..answer });
            }
            Err((_, Unanswered::Host(what))) => return Err(io::Error::other(what)),
            // The copy's own first turn is still to come.
            Err((_, Unanswered::Copied)) => {}
            Err((_, Unanswered::Closed)) => {
                self.publish(&Answer::NOTHING);
                if let Line::Control(_) = self.line {
                    // The memory goes with the process.
                    process::exit(0);
                }
                return Ok(After::Ended);
            }
        }
        Ok(After::GoesOn)
    }

    /// Tells the host, before the answer to a turn.
    pub(super) fn say(&self, message: &FromWorker) -> io::Result<()> {
        match self.line {
            Line::Control(control) => say(control, message),
            Line::Slab => self.slab.write_message(message),
        }
    }

    fn publish(&self, answer: &Answer) {
        publish(&self.slab, answer);
    }

    /// Answers one turn. An error comes with the part that was answered before it: steps of a batch, or the step of command
    /// 3.
    fn answer(&mut self, request: &Request) -> Result<Answer, (Answer, Unanswered)> {
        let done = |error| (Answer::NOTHING, error);
        match request.command {
            Command::Reset => self.reset(request).map_err(done),
            Command::Step => self.step(request).map_err(done),
            Command::StepThenReset => self.step_then_reset(request),
            Command::StepMany => self.step_many(request),
            Command::Message => self.converse().map_err(done),
            Command::Rollout => self.rollout(request),
            Command::Create => Err((Answer::NOTHING, Unanswered::Host("a running env was to be made".to_owned()))),
        }
    }

    fn reset(&mut self, request: &Request) -> Result<Answer, Unanswered> {
        let options = self.reset_options(request)?;
        let seed = (request.flags & request_flags::SEED != 0).then_some(request.seed);
        let view = self.instance.reset(seed, options.as_deref())?;
        self.check(&view, GoesOn::Yes)?;
        self.write(Which::View, &view);
        Ok(Answer { extra_len: view.info_extra.len(), ..Answer::NOTHING })
    }

    fn step(&mut self, request: &Request) -> Result<Answer, Unanswered> {
        let transition = self.take_step(1, 0, is_last(request))?;
        self.write(Which::View, &transition.view);
        Ok(Answer { extra_len: transition.view.info_extra.len(), ..stepped(&transition) })
    }

    /// Runs command 3: the step and, if it ends the episode, the reset in the same turn.
    fn step_then_reset(&mut self, request: &Request) -> Result<Answer, (Answer, Unanswered)> {
        // Read in any case, because the message was sent with the turn.
        let options = self.reset_options(request).map_err(|error| (Answer::NOTHING, error))?;
        let last = is_last(request);
        let transition = self.take_step(1, 0, last).map_err(|error| (Answer::NOTHING, error))?;
        let answer = stepped(&transition);
        if !(answer.terminated || answer.truncated || last) {
            self.write(Which::View, &transition.view);
            return Ok(Answer { extra_len: transition.view.info_extra.len(), ..answer });
        }
        self.write(Which::Final, &transition.view);
        let half = Answer { reset: true, final_extra_len: transition.view.info_extra.len(), ..answer };
        self.slab.publish_half(&half);
        let reset = self.instance.reset(None, options.as_deref()).map_err(Unanswered::from);
        let view = reset.map_err(|error| (half, error))?;
        self.check(&view, GoesOn::Yes).map_err(|fault| (half, fault.into()))?;
        self.write(Which::View, &view);
        Ok(Answer { extra_len: view.info_extra.len(), ..half })
    }

    /// Runs command 4 as a loop over the guest's `step`, so that clock, fuel and faults are per step and a fault names its
    /// step.
    fn step_many(&mut self, request: &Request) -> Result<Answer, (Answer, Unanswered)> {
        let mut answer = Answer::NOTHING;
        let mut texts = 0;
        let count = request.count as usize;
        let mut last_view = None;
        for index in 0..count {
            if index > 0 && !self.slab.has_room_for_text(&self.layout, count, texts) {
                // Fewer steps than asked, and the episode goes on: the host asks for the rest.
                break;
            }
            let last = is_last(request) && index + 1 == count;
            let transition = self.take_step(count, index, last).map_err(|error| (answer, error))?;
            let Transition { view, reward, .. } = &transition;
            let step = ColumnBytes { view: bytes_of(view), reward: *reward, extra: view.info_extra.as_bytes() };
            self.slab.write_column(&self.layout, count, index, step, &mut texts);
            answer = Answer { taken: answer.taken + 1, ..stepped(&transition) };
            self.slab.write_heartbeat(answer.taken);
            last_view = Some(transition.view);
            if answer.terminated || answer.truncated {
                break;
            }
        }
        if let Some(view) = last_view {
            // A policy that acts next looks at it.
            self.slab.write_view(&self.layout, Which::View, bytes_of(&view));
        }
        Ok(answer)
    }

    /// Takes step number `index` of `count`, and checks it. `last`: the time limit ends the episode with it.
    fn take_step(&mut self, count: usize, index: usize, last: bool) -> Result<Transition, Unanswered> {
        self.slab.read_action(&self.layout, count, index, &mut self.action);
        let transition = self.instance.step(&self.action)?;
        let ends = last || transition.terminated || transition.truncated;
        self.check(&transition.view, if ends { GoesOn::No } else { GoesOn::Yes })?;
        Ok(transition)
    }

    /// Runs command 5: render, call, attributes, reseed, close.
    fn converse(&mut self) -> Result<Answer, Unanswered> {
        let (message, descriptors) = self.receive()?;
        let (reply, bytes) = match message {
            ToWorker::Copy => {
                self.copy(descriptors)?;
                text(String::new())
            }
            ToWorker::Render(mode) => match self.instance.render(mode)? {
                Frame::Rgb { width, height, pixels } => (Reply::Rgb { width, height }, pixels),
                Frame::Text(text) => (Reply::Text, text.into_bytes()),
            },
            ToWorker::Call { method, arguments } => text(self.instance.call(&method, &arguments)?),
            ToWorker::GetAttribute(name) => text(self.instance.get_attribute(&name)?),
            ToWorker::SetAttribute { name, value } => {
                self.instance.set_attribute(&name, &value)?;
                text(String::new())
            }
            ToWorker::Reseed(seed) => {
                self.instance.reseed(seed)?;
                text(String::new())
            }
            ToWorker::Close => {
                // This is a guest's last call; its result is at most in the log.
                let _ = self.instance.close();
                return Err(Unanswered::Closed);
            }
            ToWorker::Create(_) => return Err(Unanswered::Host("a running env was to be made".to_owned())),
            ToWorker::Rollout(_) | ToWorker::MakePolicy { .. } => {
                return Err(Unanswered::Host("a rollout without its command".to_owned()));
            }
            ToWorker::ResetOptions(_) => return Err(Unanswered::Host("reset options without a reset".to_owned())),
        };
        if !self.slab.write_bulk(0, &bytes) {
            return Err(bad_answer(format!("an answer of {} bytes does not fit the slab", bytes.len())).into());
        }
        self.say(&FromWorker::Answered(reply)).map_err(|error| Unanswered::Host(error.to_string()))?;
        Ok(Answer { extra_len: bytes.len(), ..Answer::NOTHING })
    }

    fn reset_options(&mut self, request: &Request) -> Result<Option<String>, Unanswered> {
        if request.flags & request_flags::MESSAGE == 0 {
            return Ok(None);
        }
        match self.receive()?.0 {
            ToWorker::ResetOptions(options) => Ok(Some(options)),
            other => Err(Unanswered::Host(format!("{other:?} in place of reset options"))),
        }
    }

    /// Makes a copy of this env in its present state. In the copy this returns [`Unanswered::Copied`].
    fn copy(&mut self, descriptors: Vec<OwnedFd>) -> Result<(), Unanswered> {
        let host = |error: io::Error| Unanswered::Host(error.to_string());
        let Line::Control(own_control) = self.line else {
            return Err(Unanswered::Refused(EnvError::Unsupported(
                "an env that shares its worker is not copied".to_owned(),
            )));
        };
        let [control, log, slab] = copy::descriptors_of_a_copy(descriptors).map_err(host)?;
        let refused = |error| Unanswered::Refused(EnvError::Unsupported(format!("the system makes no copy: {error}")));
        match copy::copy().map_err(refused)? {
            Side::Original => Ok(()),
            Side::Copy => {
                copy::become_the_copy(control, log).map_err(host)?;
                let view = self.last_view();
                self.slab.replace(slab).map_err(host)?;
                self.slab.write_view(&self.layout, Which::View, bytes_of(&view));
                self.instance.is_a_copy();
                hello(own_control).map_err(host)?;
                say(own_control, &FromWorker::Locked(self.standing.clone())).map_err(host)?;
                self.say_ready().map_err(host)?;
                Err(Unanswered::Copied)
            }
        }
    }

    pub(super) fn receive(&self) -> Result<(ToWorker, Vec<OwnedFd>), Unanswered> {
        let lost = |what: String| Unanswered::Host(format!("no message came with the turn: {what}"));
        match self.line {
            Line::Control(control) => match packet::receive(control, RecvFlags::empty()) {
                Ok(Received::Message(message, descriptors)) => Ok((message, descriptors)),
                other => Err(lost(format!("{other:?}"))),
            },
            Line::Slab => {
                let message = self.slab.read_message().map_err(|error| lost(error.to_string()))?;
                Ok((message, Vec::new()))
            }
        }
    }

    /// Checks a view against the env's own spec.
    pub(super) fn check(&self, view: &View, goes_on: GoesOn) -> Result<(), GuestFault> {
        let lengths = [
            ("observation", view.observation.len(), self.layout.observation),
            ("action mask", view.action_mask.len(), self.layout.mask),
            ("info", view.info.len(), self.layout.info),
        ];
        for (what, given, wanted) in lengths {
            if given != wanted {
                return Err(bad_answer(format!("its {what} has {given} bytes where its spec says {wanted}")));
            }
        }
        self.observation.check(&view.observation).map_err(|what| bad_answer(format!("its observation: {what}")))?;
        if self.layout.mask > 0 {
            self.action_space
                .check_mask(&view.action_mask)
                .and_then(|()| match goes_on {
                    GoesOn::Yes => self.action_space.check_open(&view.action_mask),
                    GoesOn::No => Ok(()),
                })
                .map_err(|what| bad_answer(format!("its action mask: {what}")))?;
        }
        self.info.check(&view.info).map_err(|what| bad_answer(format!("its info: {what}")))?;
        if view.info_extra.len() > INFO_EXTRA_BYTES_MAX {
            let bytes = view.info_extra.len();
            return Err(bad_answer(format!("an info-extra of {bytes} bytes; the limit is {INFO_EXTRA_BYTES_MAX}")));
        }
        Ok(())
    }

    /// The view of the env as it stands, which every turn that changes the env leaves in the slab; without its info, which
    /// no policy sees.
    pub(super) fn last_view(&self) -> View {
        let mut view = View {
            observation: vec![0; self.layout.observation],
            action_mask: vec![0; self.layout.mask],
            info: vec![0; self.layout.info],
            info_extra: String::new(),
        };
        self.slab.read_view(&self.layout, &mut view.observation, &mut view.action_mask);
        view
    }

    fn write(&self, which: Which, view: &View) {
        self.slab.write_view(&self.layout, which, bytes_of(view));
        self.slab.write_extra(which, view.info_extra.as_bytes());
    }
}

/// Waits for the next turn: a short spin if the host says that spinning pays, then asleep.
pub(super) fn wait_for_turn(slab: &mut WorkerSlab) -> io::Result<Request> {
    loop {
        if let Some(request) = slab.take() {
            return request.map_err(|Lie(what)| io::Error::other(what));
        }
        let spin = Spin::for_us(slab.spin_us());
        wait::wait(slab.turn_word(), slab.idle(), slab.worker_sleeps(), spin, SLEEP);
    }
}

/// Publishes an answer, and wakes the host if it sleeps.
pub(super) fn publish(slab: &WorkerSlab, answer: &Answer) {
    if slab.publish(answer) {
        wait::wake(slab.done_word());
    }
}

/// Whether an episode goes on after a view: then an action must be open.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum GoesOn {
    Yes,
    No,
}

/// Whether the time limit ends the episode with the request's last step.
fn is_last(request: &Request) -> bool {
    request.flags & request_flags::LAST_STEP != 0
}

pub(super) fn bytes_of(view: &View) -> ViewBytes<'_> {
    ViewBytes { observation: &view.observation, mask: &view.action_mask, info: &view.info }
}

fn stepped(transition: &Transition) -> Answer {
    Answer {
        taken: 1,
        terminated: transition.terminated,
        truncated: transition.truncated,
        reward: transition.reward,
        ..Answer::NOTHING
    }
}

fn text(text: String) -> (Reply, Vec<u8>) {
    (Reply::Text, text.into_bytes())
}

pub(super) fn bad_answer(message: String) -> GuestFault {
    GuestFault { kind: FaultKind::BadAnswer, message, backtrace: Vec::new() }
}
