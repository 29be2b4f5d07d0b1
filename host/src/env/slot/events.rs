//! The only place where the events of an env are entered: into its digest, and into the journal of a recorded run. So digest
//! and journal have the same events.

use std::path::PathBuf;
use std::sync::Arc;

use super::{Busy, Op, Phase, Slot};
use crate::digest::{CallKind, Digest, InstanceDigest, StepFlags, ViewParts};
use crate::fault::FaultKind;
use crate::record::history::EnvEnd;
use crate::record::journal::{Asked, FaultMet, Journal, PastInstance, Said, What};
use crate::wire::slab::Command;
use crate::wire::talk::ToWorker;

/// The destinations of an env's events: digest, journal and past.
pub(super) struct Events {
    /// The digest of the running instance.
    pub(super) digest: InstanceDigest,
    pub(super) journal: Option<Journal>,
    /// The past of the running instance, for snapshots.
    past: Past,
}

/// The instances that an env had at some time, as a count: the list of ended instances only ever grows.
#[derive(Clone, Copy)]
pub(super) struct AsOf {
    /// The number of instances that had ended.
    pub(super) finished: usize,
    /// The running instance, and its digest then.
    pub(super) running: Option<(u32, Digest)>,
}

impl AsOf {
    /// The same for a copy of the running instance. The copy has another number and comes after other ended instances.
    pub(super) fn of_copy(self, finished: usize, instance: u32) -> AsOf {
        AsOf { finished, running: self.running.map(|(_, digest)| (instance, digest)) }
    }
}

/// Everything that an instance was told since it began, which suffices to reach the same state again. The part before a copy
/// was made is shared with the copy.
#[derive(Clone, Default)]
pub(crate) struct Past {
    /// Events before the last copy.
    before: Option<Arc<Earlier>>,
    /// Events since the last copy.
    since: Vec<Told>,
    bytes: usize,
    /// Whether the past outgrew its room and was given up.
    pub(crate) is_lost: bool,
}

/// A part of a past that copies share, and the part before it.
struct Earlier {
    before: Option<Arc<Earlier>>,
    events: Vec<Told>,
}

/// An event as it is kept.
#[derive(Clone)]
enum Told {
    Run(Run),
    Event(PastEvent),
}

/// Steps, and the plain resets between them, as most of a past is: a byte for an action that is a small number, and eight for a
/// reset.
#[derive(Clone, Default)]
struct Run {
    count: u64,
    /// Bytes of an action. Where it is 8 and each action is a number below 256, one byte of each is kept.
    stride: usize,
    is_narrow: bool,
    actions: Vec<u8>,
    /// After how many of the steps a reset followed, without seed and options.
    resets: Vec<u64>,
}

impl Run {
    fn begin(action: &[u8]) -> Run {
        Run { stride: action.len(), is_narrow: is_narrow(action), ..Run::default() }
    }

    /// Adds a step. Returns the bytes that it takes.
    fn step(&mut self, action: &[u8]) -> usize {
        let before = self.actions.len();
        if self.is_narrow && !is_narrow(action) {
            self.actions = self.wide();
            self.is_narrow = false;
        }
        self.actions.extend_from_slice(if self.is_narrow { &action[..1] } else { action });
        self.count += 1;
        self.actions.len() - before
    }

    /// Every action in its full size.
    fn wide(&self) -> Vec<u8> {
        if !self.is_narrow {
            return self.actions.clone();
        }
        self.actions.iter().flat_map(|byte| u64::from(*byte).to_le_bytes()).collect()
    }

    /// The events that these were.
    fn events(&self) -> Vec<PastEvent> {
        let actions = self.wide();
        let mut events = Vec::with_capacity(2 * self.resets.len() + 1);
        let mut at = 0;
        for end in self.resets.iter().copied().chain([self.count]) {
            if end > at {
                let part = |number: u64| usize::try_from(number).unwrap_or(usize::MAX).saturating_mul(self.stride);
                let actions = actions.get(part(at)..part(end)).unwrap_or_default().to_vec();
                events.push(PastEvent::Steps { count: end - at, actions });
            }
            events.push(PastEvent::Reset { seed: None, options: None });
            at = end;
        }
        // Behind the last steps there was none.
        events.pop();
        events
    }
}

/// Whether one byte says which action it is.
fn is_narrow(action: &[u8]) -> bool {
    action.len() == 8 && action[1..].iter().all(|byte| *byte == 0)
}

impl Drop for Earlier {
    /// Drops the parts one after another: dropping a past with many copies by recursion would exhaust the stack.
    fn drop(&mut self) {
        let mut next = self.before.take();
        while let Some(mut earlier) = next.and_then(Arc::into_inner) {
            next = earlier.before.take();
        }
    }
}

/// One request that an instance answered.
#[derive(Clone)]
pub(crate) enum PastEvent {
    /// A reset.
    Reset { seed: Option<u64>, options: Option<Box<str>> },
    /// Steps in a row: their actions.
    Steps { count: u64, actions: Vec<u8> },
    /// A call, an attribute or a reseed.
    Said { kind: CallKind, name: String, arguments: Vec<u8> },
}

impl Past {
    /// Makes room for one more event. Without room, the whole past is given up.
    fn takes(&mut self, bytes: usize, most: usize) -> bool {
        self.bytes += bytes;
        if self.bytes > most && !self.is_lost {
            (self.before, self.since, self.is_lost) = (None, Vec::new(), true);
        }
        !self.is_lost
    }

    fn add(&mut self, event: PastEvent, bytes: usize, most: usize) {
        if let (PastEvent::Reset { seed: None, options: None }, Some(Told::Run(_))) = (&event, self.since.last()) {
            if self.takes(size_of::<u64>(), most)
                && let Some(Told::Run(run)) = self.since.last_mut()
            {
                run.resets.push(run.count);
            }
        } else if self.takes(bytes + size_of::<Told>(), most) {
            self.since.push(Told::Event(event));
        }
    }

    fn step(&mut self, action: &[u8], most: usize) {
        if self.is_lost {
            return;
        }
        let goes_on = matches!(self.since.last(), Some(Told::Run(run)) if run.stride == action.len());
        if !goes_on && self.takes(size_of::<Told>(), most) {
            self.since.push(Told::Run(Run::begin(action)));
        }
        let Some(Told::Run(run)) = self.since.last_mut() else { return };
        let bytes = run.step(action);
        self.takes(bytes, most);
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

    /// All events of the past, in order. Steps in a row are one event, whatever copies were made between them.
    pub(crate) fn events(&self) -> Vec<PastEvent> {
        let mut parts = vec![&self.since];
        let mut earlier = self.before.as_deref();
        while let Some(part) = earlier {
            parts.push(&part.events);
            earlier = part.before.as_deref();
        }
        let mut events: Vec<PastEvent> = Vec::new();
        let told = parts.into_iter().rev().flatten();
        for event in told.flat_map(|told| match told {
            Told::Run(run) => run.events(),
            Told::Event(event) => vec![event.clone()],
        }) {
            match (events.last_mut(), event) {
                (Some(PastEvent::Steps { count, actions }), PastEvent::Steps { count: more, actions: added }) => {
                    *count += more;
                    actions.extend_from_slice(&added);
                }
                (_, event) => events.push(event),
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

    /// Whether the past has room for so many bytes of actions and the resets between them.
    pub(super) fn past_has_room(&self, bytes: usize, most: usize) -> bool {
        !self.past.is_lost && self.past.bytes + bytes + bytes / 2 <= most
    }

    /// Begins another instance, with an empty past.
    pub(super) fn begin_instance(&mut self) {
        self.digest = InstanceDigest::new();
        self.past = Past::default();
    }

    /// The same digest and past, without a journal.
    pub(super) fn without_journal(&mut self) -> Events {
        Events { digest: self.digest.clone(), journal: None, past: self.past.share() }
    }

    /// Replaces this instance's events by those of another instance.
    pub(super) fn become_that(&mut self, other: Events) {
        (self.digest, self.past) = (other.digest, other.past);
    }

    /// Tells the journal, if there is one. `what` is called only then.
    fn tell(&self, of: (u32, u32), added: bool, action: &[u8], view: ViewParts<'_>, what: impl FnOnce() -> What) {
        if let Some(journal) = &self.journal {
            journal.enter(of, added, what(), action, view);
        }
    }
}

const NO_VIEW: ViewParts<'static> = ViewParts { observation: &[], mask: &[], info: &[], extra: &[] };

impl Slot {
    /// The env and instance of new events, and whether these belong to a reset that same-step autoreset added.
    fn now(&self) -> ((u32, u32), bool) {
        ((self.index, self.instance), self.before_added_reset.is_some())
    }

    /// Enters a reset that answered with the slot's present view.
    pub(super) fn enter_reset(&mut self, seed: Option<u64>, options: Option<&str>) {
        let view = std::mem::take(&mut self.view);
        self.enter_reset_of(seed, options, view.parts());
        self.view = view;
    }

    /// Enters a reset that answered with this view.
    pub(super) fn enter_reset_of(&mut self, seed: Option<u64>, options: Option<&str>, view: ViewParts<'_>) {
        let (of, added) = self.now();
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

    /// Enters a step that answered with this view.
    pub(super) fn enter_step(&mut self, action: &[u8], reward: f64, flags: StepFlags, view: ViewParts<'_>) {
        let (of, added) = self.now();
        self.events.digest.step(action, reward, flags, view);
        self.events.past.step(action, self.past_bytes);
        self.events.tell(of, added, action, view, || What::Step { reward, flags });
    }

    /// As [`Slot::enter_step`], with the slot's present view.
    pub(super) fn enter_own_step(&mut self, reward: f64, flags: StepFlags) {
        let (view, action) = (std::mem::take(&mut self.view), std::mem::take(&mut self.action));
        self.enter_step(&action, reward, flags, view.parts());
        (self.view, self.action) = (view, action);
    }

    /// Enters an answered message, if it can have changed the env.
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
            | ToWorker::Create(_)
            | ToWorker::MakePolicy { .. }
            | ToWorker::Rollout(_)
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

    /// Enters a fault, which ends the instance.
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

    /// Enters the planned end of an instance.
    pub(super) fn enter_recycled(&mut self) {
        let (of, added) = self.now();
        self.events.digest.recycled();
        self.events.tell(of, added, &[], NO_VIEW, || What::Recycled);
    }

    /// The request that is under way.
    fn asked(&self) -> Asked {
        let busy = match &self.phase {
            Phase::Starting { .. }
            | Phase::Queued { .. }
            | Phase::Keeping { .. }
            | Phase::Joining { .. }
            | Phase::Creating(_) => return Asked::Start,
            Phase::Busy(busy) => Some(busy),
            Phase::Idle | Phase::Closing { .. } | Phase::Down => None,
        };
        match &self.op {
            Some(Op::Step(_) | Op::StepMany(_) | Op::Play(_)) => Asked::Step,
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
                ToWorker::ResetOptions(_)
                | ToWorker::Create(_)
                | ToWorker::MakePolicy { .. }
                | ToWorker::Rollout(_)
                | ToWorker::Copy
                | ToWorker::Close => Asked::Nothing,
            },
            Some(Op::Start) => Asked::Start,
            Some(Op::MakePolicy) | None => Asked::Nothing,
        }
    }

    /// The action that got no answer: in a batch, the first action after those that were answered.
    pub(super) fn asked_action(&self) -> &[u8] {
        let number = match self.op {
            Some(Op::StepMany(_)) => self.steps.taken as usize,
            _ => 0,
        };
        let stride = self.action_stride.max(1);
        self.action.get(number * stride..(number + 1) * stride).unwrap_or_default()
    }

    /// Each instance so far and its digest, from which the env's digest is made.
    pub(crate) fn instances(&self) -> Vec<(u32, Digest)> {
        let before = self.before_added_reset.unwrap_or_else(|| self.as_of_now());
        self.finished.iter().take(before.finished).copied().chain(before.running).collect()
    }

    /// The present instances. No list is copied, since this is called after every episode.
    pub(super) fn as_of_now(&self) -> AsOf {
        let running = !matches!(self.phase, Phase::Down);
        let running = running.then(|| (self.instance, self.events.digest.digest()));
        AsOf { finished: self.finished.len(), running }
    }

    /// What the running instance was told, and the digest of its answers.
    pub(crate) fn past(&self) -> (&Past, Digest) {
        (&self.events.past, self.events.digest.digest())
    }

    /// The env's final state, for the end of a recording.
    pub(crate) fn recorded_end(&self) -> EnvEnd {
        EnvEnd { instances: self.instances(), follows: self.before_added_reset.is_none() }
    }

    /// Begins as the instance and episode that are repeated.
    pub(crate) fn begin_at(&mut self, again: &PastInstance) {
        (self.instance, self.episode) = (again.instance, again.episode);
        self.capture = again.captured.as_ref().map(|(_, file)| file.clone());
        self.set_journal(again.journal.clone());
    }

    /// Stops writing events to the journal.
    pub(crate) fn end_journal(&mut self) {
        self.events.journal = None;
    }

    /// Sets the file for captured input from outside.
    pub(crate) fn capture_to(&mut self, file: PathBuf) {
        self.capture = Some(file);
    }

    /// Sets the journal that events go to from now on.
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
    fn small_actions_and_plain_resets_take_few_bytes_and_come_back_as_they_were() {
        let mut past = Past::default();
        let action = |number: i64| number.to_le_bytes();
        past.add(PastEvent::Reset { seed: Some(7), options: None }, 0, MOST);
        let before = past.bytes;
        for number in [1, 0, 255] {
            past.step(&action(number), MOST);
        }
        past.add(PastEvent::Reset { seed: None, options: None }, 0, MOST);
        past.add(PastEvent::Reset { seed: None, options: None }, 0, MOST);
        past.step(&action(3), MOST);
        assert_eq!(past.bytes - before, size_of::<Told>() + 4 + 16);
        let short = |numbers: &[i64]| {
            let bytes: Vec<u8> = numbers.iter().flat_map(|number| action(*number)).collect();
            format!("{} steps {bytes:?}", numbers.len())
        };
        let first = vec!["reset".to_owned(), short(&[1, 0, 255]), "reset".to_owned(), "reset".to_owned()];
        assert_eq!(told(&past), [first.clone(), vec![short(&[3])]].concat());
        // A number that does not fit a byte.
        past.step(&action(-1), MOST);
        past.step(&action(256), MOST);
        assert_eq!(told(&past), [first, vec![short(&[3, -1, 256])]].concat());
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
