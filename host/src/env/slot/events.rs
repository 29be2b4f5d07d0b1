//! What happens to an env is entered here: into its digest, and into the journal of a run that is recorded. Nowhere else,
//! so that the one knows what the other does.

use std::path::PathBuf;
use std::sync::Arc;

use super::Busy;

use super::Op;

use super::Phase;

use super::Slot;
use crate::digest::{CallKind, Digest, InstanceDigest, StepFlags, ViewParts};
use crate::fault::FaultKind;
use crate::record::history::EnvEnd;
use crate::record::journal::{Asked, FaultMet, Journal, PastInstance, Said, What};
use crate::wire::slab::Command;
use crate::wire::talk::ToWorker;

/// Where events go.
pub(super) struct Events {
    /// Of the running instance.
    pub(super) digest: InstanceDigest,
    pub(super) journal: Option<Journal>,
    /// What the running instance was told, for snapshots.
    past: Past,
}

/// Which instances an env had at some time: those that had ended are only added to.
#[derive(Clone, Copy)]
pub(super) struct AsOf {
    /// How many had ended.
    pub(super) finished: usize,
    /// The running one, and its digest then.
    pub(super) running: Option<(u32, Digest)>,
}

impl AsOf {
    /// The same of a copy of the running instance, which has another number and stands after others that had ended.
    pub(super) fn of_copy(self, finished: usize, instance: u32) -> AsOf {
        AsOf { finished, running: self.running.map(|(_, digest)| (instance, digest)) }
    }
}

/// What an instance was told since it began: all that it takes to come to the same state again. What it was told before it was
/// copied is shared with its copies.
#[derive(Clone, Default)]
pub(crate) struct Past {
    /// Before the last copy.
    before: Option<Arc<Earlier>>,
    /// Since then.
    since: Vec<PastEvent>,
    bytes: usize,
    /// It took more room than it may have, and is gone.
    pub(crate) is_lost: bool,
}

/// A part of a past that copies share, and the part before it.
struct Earlier {
    before: Option<Arc<Earlier>>,
    events: Vec<PastEvent>,
}

impl Drop for Earlier {
    /// One part after another: a past with many copies in it would exhaust the stack otherwise.
    fn drop(&mut self) {
        let mut next = self.before.take();
        while let Some(mut earlier) = next.and_then(Arc::into_inner) {
            next = earlier.before.take();
        }
    }
}

/// One thing that an instance was told and answered.
#[derive(Clone)]
pub(crate) enum PastEvent {
    /// A reset.
    Reset { seed: Option<u64>, options: Option<Box<str>> },
    /// Steps in a row: their actions.
    Steps { count: u64, actions: Vec<u8> },
    /// A call, an attribute, a reseed.
    Said { kind: CallKind, name: String, arguments: Vec<u8> },
}

impl Past {
    /// Room for one more; all is given up where there is none.
    fn takes(&mut self, bytes: usize, most: usize) -> bool {
        self.bytes += bytes;
        if self.bytes > most && !self.is_lost {
            (self.before, self.since, self.is_lost) = (None, Vec::new(), true);
        }
        !self.is_lost
    }

    fn add(&mut self, event: PastEvent, bytes: usize, most: usize) {
        if self.takes(bytes + std::mem::size_of::<PastEvent>(), most) {
            self.since.push(event);
        }
    }

    fn step(&mut self, action: &[u8], most: usize) {
        if !matches!(self.since.last(), Some(PastEvent::Steps { .. })) {
            self.add(PastEvent::Steps { count: 0, actions: Vec::new() }, 0, most);
        }
        if self.takes(action.len(), most)
            && let Some(PastEvent::Steps { count, actions }) = self.since.last_mut()
        {
            *count += 1;
            actions.extend_from_slice(action);
        }
    }
}

impl Past {
    /// The same past for a copy, in time that does not grow with it.
    fn share(&mut self) -> Past {
        if !self.since.is_empty() {
            let (before, events) = (self.before.take(), std::mem::take(&mut self.since));
            self.before = Some(Arc::new(Earlier { before, events }));
        }
        self.clone()
    }

    /// All of it, in order; steps in a row are one event, whatever copies were made between them.
    pub(crate) fn events(&self) -> Vec<PastEvent> {
        let mut parts = vec![&self.since];
        let mut earlier = self.before.as_deref();
        while let Some(part) = earlier {
            parts.push(&part.events);
            earlier = part.before.as_deref();
        }
        let mut events: Vec<PastEvent> = Vec::new();
        for event in parts.into_iter().rev().flatten() {
            match (events.last_mut(), event) {
                (Some(PastEvent::Steps { count, actions }), PastEvent::Steps { count: more, actions: added }) => {
                    *count += more;
                    actions.extend_from_slice(added);
                }
                _ => events.push(event.clone()),
            }
        }
        events
    }
}

impl Default for Events {
    fn default() -> Events {
        Events::new()
    }
}

impl Events {
    pub(super) fn new() -> Events {
        Events { digest: InstanceDigest::new(), journal: None, past: Past::default() }
    }

    /// Another instance, to which nothing has happened.
    pub(super) fn begin_instance(&mut self) {
        self.digest = InstanceDigest::new();
        self.past = Past::default();
    }

    /// The same past, and nobody who is told what follows.
    pub(super) fn without_journal(&mut self) -> Events {
        Events { digest: self.digest.clone(), journal: None, past: self.past.share() }
    }

    /// What happened to another instance is what happened to this one.
    pub(super) fn become_that(&mut self, other: Events) {
        (self.digest, self.past) = (other.digest, other.past);
    }

    /// Tells the journal, if there is one. What it is told is put together only then.
    fn tell(&self, of: (u32, u32), added: bool, action: &[u8], view: ViewParts<'_>, what: impl FnOnce() -> What) {
        if let Some(journal) = &self.journal {
            journal.enter(of, added, what(), action, view);
        }
    }
}

const NO_VIEW: ViewParts<'static> = ViewParts { observation: &[], mask: &[], info: &[], extra: &[] };

impl Slot {
    /// Who events are of, and whether they belong to a reset that same-step autoreset added.
    fn now(&self) -> ((u32, u32), bool) {
        ((self.index, self.instance), self.before_added_reset.is_some())
    }

    /// A reset that answered with the view that is there.
    pub(super) fn enter_reset(&mut self, seed: Option<u64>, options: Option<&str>) {
        let (of, added) = self.now();
        let view = self.view.parts();
        self.events.digest.reset(seed, options.unwrap_or(""), view);
        let options_kept = options.map(Box::from);
        self.events.past.add(
            PastEvent::Reset { seed, options: options_kept },
            options.map_or(0, str::len),
            self.past_bytes,
        );
        let episode = self.episode;
        self.events.tell(of, added, &[], view, || What::Reset { episode, seed, options: options.map(Box::from) });
    }

    /// A step that answered with this view; `number` is which of a batch it was.
    pub(super) fn enter_step(
        &mut self,
        number: usize,
        stride: usize,
        reward: f64,
        flags: StepFlags,
        view: ViewParts<'_>,
    ) {
        let (of, added) = self.now();
        let action = &self.action[number * stride..][..stride];
        self.events.digest.step(action, reward, flags, view);
        self.events.past.step(action, self.past_bytes);
        self.events.tell(of, added, action, view, || What::Step { reward, flags });
    }

    /// As [`Slot::enter_step`], with the view that is there.
    pub(super) fn enter_own_step(&mut self, reward: f64, flags: StepFlags) {
        let view = std::mem::take(&mut self.view);
        self.enter_step(0, self.action.len(), reward, flags, view.parts());
        self.view = view;
    }

    /// A message that answered, if it can have changed the env.
    pub(super) fn enter_said(&mut self, message: &ToWorker, result: &[u8]) {
        let (kind, name, arguments, result) = match message {
            ToWorker::Call { method, arguments } => (CallKind::Call, method, arguments.as_bytes().to_vec(), result),
            ToWorker::SetAttribute { name, value } => {
                (CallKind::SetAttribute, name, value.as_bytes().to_vec(), &[] as &[u8])
            }
            ToWorker::Reseed(seed) => (CallKind::Reseed, &String::new(), seed.to_le_bytes().to_vec(), &[] as &[u8]),
            ToWorker::Render(_)
            | ToWorker::GetAttribute(_)
            | ToWorker::ResetOptions(_)
            | ToWorker::Copy
            | ToWorker::Close => {
                return;
            }
        };
        self.before_added_reset = None;
        let (of, added) = self.now();
        self.events.digest.call(kind, name, &arguments, result);
        let said = PastEvent::Said { kind, name: name.clone(), arguments: arguments.clone() };
        self.events.past.add(said, name.len() + arguments.len(), self.past_bytes);
        let said = || Said { kind, name: name.clone(), arguments, result: result.to_vec() };
        self.events.tell(of, added, &[], NO_VIEW, || What::Call(Box::new(said())));
    }

    /// A fault, which ends the instance.
    pub(super) fn enter_fault(&mut self, kind: FaultKind, message: &str, step: u32) {
        let (of, added) = self.now();
        let asked = self.asked();
        self.events.digest.fault(kind);
        let action = match asked {
            Asked::Step => self.asked_action(),
            _ => &[],
        };
        let episode = self.episode;
        let met = || FaultMet { kind, episode, step, message: message.to_owned(), asked };
        self.events.tell(of, added, action, NO_VIEW, || What::Fault(Box::new(met())));
    }

    /// The planned end of an instance.
    pub(super) fn enter_recycled(&mut self) {
        let (of, added) = self.now();
        self.events.digest.recycled();
        self.events.tell(of, added, &[], NO_VIEW, || What::Recycled);
    }

    /// What the env is being asked for.
    fn asked(&self) -> Asked {
        let busy = match &self.phase {
            Phase::Starting { .. } | Phase::Queued { .. } | Phase::Keeping { .. } => return Asked::Start,
            Phase::Busy(busy) => Some(busy),
            Phase::Idle | Phase::Closing { .. } | Phase::Down => None,
        };
        match &self.op {
            Some(Op::Step(_) | Op::StepMany(_)) => Asked::Step,
            Some(Op::Reset(reset)) => match busy {
                Some(Busy { request, seed, options, .. }) if request.command == Command::Reset => {
                    Asked::Reset { seed: *seed, options: options.clone() }
                }
                _ => Asked::Reset { seed: reset.seed, options: reset.options.clone() },
            },
            Some(Op::Converse(message)) => match message.clone() {
                ToWorker::Render(mode) => Asked::Render { mode },
                ToWorker::Call { method, arguments } => Asked::Call { name: method, arguments },
                ToWorker::GetAttribute(name) => Asked::GetAttribute { name },
                ToWorker::SetAttribute { name, value } => Asked::SetAttribute { name, value },
                ToWorker::Reseed(seed) => Asked::Reseed { seed },
                ToWorker::ResetOptions(_) | ToWorker::Copy | ToWorker::Close => Asked::Nothing,
            },
            Some(Op::Start) => Asked::Start,
            None => Asked::Nothing,
        }
    }

    /// The action that did not answer: of a batch, the one after those that did.
    pub(super) fn asked_action(&self) -> &[u8] {
        let number = match self.op {
            Some(Op::StepMany(_)) => self.steps.taken as usize,
            _ => 0,
        };
        let stride = self.action_stride.max(1);
        self.action.get(number * stride..(number + 1) * stride).unwrap_or_default()
    }

    /// Each instance so far and its digest: what the env's digest is made of.
    pub(crate) fn instances(&self) -> Vec<(u32, Digest)> {
        let now;
        let before = match &self.before_added_reset {
            Some(before) => before,
            None => {
                now = self.as_of_now();
                &now
            }
        };
        self.finished.iter().take(before.finished).copied().chain(before.running).collect()
    }

    /// Which instances there are now: no list is copied, since this is asked after every episode.
    pub(super) fn as_of_now(&self) -> AsOf {
        let running = !matches!(self.phase, Phase::Down);
        let running = running.then(|| (self.instance, self.events.digest.digest()));
        AsOf { finished: self.finished.len(), running }
    }

    /// What the running instance was told, and the digest of what it answered.
    pub(crate) fn past(&self) -> (&Past, Digest) {
        (&self.events.past, self.events.digest.digest())
    }

    /// How it stands, for the end of a recording.
    pub(crate) fn recorded_end(&self) -> EnvEnd {
        EnvEnd { instances: self.instances(), follows: self.before_added_reset.is_none() }
    }

    /// Begins as the instance and episode that are done again.
    pub(crate) fn begin_at(&mut self, again: &PastInstance) {
        (self.instance, self.episode) = (again.instance, again.episode);
        self.capture = again.captured.as_ref().map(|(_, file)| file.clone());
        self.set_journal(again.journal.clone());
    }

    /// Events go nowhere any more.
    pub(crate) fn end_journal(&mut self) {
        self.events.journal = None;
    }

    /// What comes in from outside goes into this file.
    pub(crate) fn capture_to(&mut self, file: PathBuf) {
        self.capture = Some(file);
    }

    /// Events go here from now on.
    pub(crate) fn set_journal(&mut self, journal: Journal) {
        self.events.journal = Some(journal);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOST: usize = 1 << 20;

    fn said(name: &str) -> PastEvent {
        PastEvent::Said { kind: CallKind::Call, name: name.to_owned(), arguments: Vec::new() }
    }

    /// What a past is, in short: the actions of steps, the names of calls.
    fn told(past: &Past) -> Vec<String> {
        let short = |event: &PastEvent| match event {
            PastEvent::Reset { .. } => "reset".to_owned(),
            PastEvent::Steps { count, actions } => format!("{count} steps {actions:?}"),
            PastEvent::Said { name, .. } => name.clone(),
        };
        past.events().iter().map(short).collect()
    }

    #[test]
    fn copies_share_a_past_and_each_goes_on_with_its_own() {
        let mut past = Past::default();
        past.add(PastEvent::Reset { seed: None, options: None }, 0, MOST);
        past.step(&[1], MOST);
        let mut copy = past.share();
        past.step(&[2], MOST);
        copy.step(&[3], MOST);
        copy.add(said("hello"), 5, MOST);
        let of_copy = copy.share();
        copy.step(&[4], MOST);
        assert_eq!(told(&past), ["reset", "2 steps [1, 2]"]);
        assert_eq!(told(&copy), ["reset", "2 steps [1, 3]", "hello", "1 steps [4]"]);
        assert_eq!(told(&of_copy), ["reset", "2 steps [1, 3]", "hello"]);
        assert!(of_copy.since.is_empty(), "nothing is cloned of what was told before");
    }

    #[test]
    fn a_past_of_many_copies_is_dropped_without_recursion() {
        let mut past = Past::default();
        for _ in 0..1_000_000 {
            past.step(&[], MOST);
            drop(past.share());
            (past.bytes, past.is_lost) = (0, false);
        }
        assert_eq!(told(&past), ["1000000 steps []"]);
        drop(past);
    }

    #[test]
    fn a_past_that_is_too_long_is_given_up() {
        let mut past = Past::default();
        past.step(&[0; 64], 512);
        drop(past.share());
        past.step(&[0; 512], 512);
        assert!(past.is_lost && past.events().is_empty());
    }
}
