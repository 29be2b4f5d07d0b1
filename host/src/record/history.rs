//! Events → rows. A row is open until the action after its view has an outcome, or the episode is over; then the row is
//! complete. A complete row is held until the next event: if that is a reset, the caller gave up the episode at this
//! row. Recording and replay both make their rows here, so that replay compares with the rows that a recording would
//! hold.

use std::sync::Arc;

use serde_json::{Value, json};

use super::journal::{Asked, Event, FaultMet, Page, Said, What};
use super::rows::{Outcome, Row, RowShape, Rows};
use crate::digest::{CallKind, Digest, Edge, InstanceDigest, ViewParts};
use crate::fault::FaultKind;
use crate::spread::Spread;

/// What is kept of an instance for the end of the recording.
#[derive(Clone, Debug, Default)]
pub(crate) struct InstanceNote {
    pub(crate) instance: u32,
    pub(crate) fault: Option<FaultMet>,
    /// Calls on the instance before its first reset, if it never had one.
    pub(crate) calls: Vec<Value>,
}

/// Sums over finished episodes.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Totals {
    pub(crate) steps: u64,
    pub(crate) episodes: u64,
    pub(crate) faults: u64,
    pub(crate) returns: Spread,
    pub(crate) lengths: Spread,
}

/// The history of one env as it goes on.
pub(crate) struct History {
    env: u32,
    instance: Option<u32>,
    digest: InstanceDigest<Edge>,
    open: Option<Open>,
    /// The number of the episode that the next answered reset begins. Episodes are numbered within the env, from 0.
    next_episode: u64,
    /// The previous row, if it did not end the episode.
    held: Option<Held>,
    /// A pushed row, kept to reuse its memory.
    spare: Option<Held>,
    episode_return: f64,
    /// Events of a reset that same-step autoreset added, until another event follows.
    tentative: Vec<Tentative>,
    /// Calls on an instance before its first reset.
    loose: Vec<Value>,
    pub(crate) notes: Vec<InstanceNote>,
    /// The digests of the instances that have ended.
    ended: Vec<(u32, Digest)>,
    pub(crate) totals: Totals,
}

/// An open row: it has its view.
#[derive(Default)]
struct Open {
    episode: u64,
    step: u32,
    observation: Vec<u8>,
    mask: Vec<u8>,
    info: Vec<u8>,
    extra: Vec<u8>,
    seed: Option<u64>,
    options: Option<Box<str>>,
    calls: Vec<Value>,
    /// True for a reset that no event has followed yet.
    fresh: bool,
}

/// A complete row: its view, its action, and the outcome.
#[derive(Default)]
struct Held {
    row: Open,
    instance: u32,
    action: Vec<u8>,
    reward: f64,
    terminated: bool,
    truncated: bool,
    /// The instance's digest after the action, once another event of the instance has followed.
    digest: Option<InstanceDigest<Edge>>,
}

struct Tentative {
    event: Event,
    action: Vec<u8>,
    view: [Vec<u8>; 4],
}

impl Open {
    fn view(&self) -> ViewParts<'_> {
        ViewParts { observation: &self.observation, mask: &self.mask, info: &self.info, extra: &self.extra }
    }

    fn set_view(&mut self, view: ViewParts<'_>) {
        for (own, given) in [
            (&mut self.observation, view.observation),
            (&mut self.mask, view.mask),
            (&mut self.info, view.info),
            (&mut self.extra, view.extra),
        ] {
            own.clear();
            own.extend_from_slice(given);
        }
    }
}

impl History {
    pub(crate) fn new(env: u32) -> History {
        History {
            env,
            instance: None,
            digest: InstanceDigest::new(),
            open: None,
            next_episode: 0,
            held: None,
            spare: None,
            episode_return: 0.0,
            tentative: Vec::new(),
            loose: Vec::new(),
            notes: Vec::new(),
            ended: Vec::new(),
            totals: Totals::default(),
        }
    }

    /// Enters an event; rows that it completes are pushed.
    pub(crate) fn enter(&mut self, event: &Event, action: &[u8], view: ViewParts<'_>, rows: &mut Rows) {
        if event.added {
            let view = [view.observation, view.mask, view.info, view.extra].map(<[u8]>::to_vec);
            self.tentative.push(Tentative { event: event.clone(), action: action.to_vec(), view });
            return;
        }
        self.commit(rows);
        self.apply(event, action, view, rows);
    }

    /// Another event has followed the tentative ones: they count.
    fn commit(&mut self, rows: &mut Rows) {
        for Tentative { event, action, view: [observation, mask, info, extra] } in std::mem::take(&mut self.tentative) {
            let view = ViewParts { observation: &observation, mask: &mask, info: &info, extra: &extra };
            self.apply(&event, &action, view, rows);
        }
    }

    fn apply(&mut self, event: &Event, action: &[u8], view: ViewParts<'_>, rows: &mut Rows) {
        match (&event.what, &mut self.held) {
            // This event says nothing of the step before it.
            (What::Call(_), Some(held)) if Some(event.instance) == self.instance => {
                held.digest.get_or_insert_with(|| self.digest.clone());
            }
            (What::Reset { .. } | What::Recycled, _) => self.release(true, rows),
            (What::Fault(fault), _) => self.release(matches!(fault.asked, Asked::Reset { .. }), rows),
            (What::Step { .. } | What::Call(_), _) => self.release(false, rows),
        }
        self.begin_instance(event.instance, rows);
        match &event.what {
            What::Reset { episode, seed, options } => {
                self.close_row(None, None, rows);
                self.digest.reset(*seed, options.as_deref().unwrap_or(""), view);
                let mut open = Open {
                    episode: *episode,
                    step: 0,
                    observation: Vec::new(),
                    mask: Vec::new(),
                    info: Vec::new(),
                    extra: Vec::new(),
                    seed: *seed,
                    options: options.clone(),
                    calls: std::mem::take(&mut self.loose),
                    fresh: true,
                };
                open.set_view(view);
                self.open = Some(open);
                self.next_episode = episode + 1;
                self.episode_return = 0.0;
            }
            What::Step { reward, flags } => {
                self.digest.step(action, *reward, *flags, view);
                let Some(open) = &mut self.open else { return };
                let mut held = self.spare.take().unwrap_or_default();
                std::mem::swap(open, &mut held.row);
                open.set_view(view);
                (open.episode, open.step) = (held.row.episode, held.row.step + 1);
                (open.seed, open.options, open.fresh) = (None, None, false);
                held.action.clear();
                held.action.extend_from_slice(action);
                (held.instance, held.reward, held.digest) = (event.instance, *reward, None);
                (held.terminated, held.truncated) = (flags.terminated, flags.truncated || flags.time_limit);
                self.totals.steps += 1;
                self.episode_return += reward;
                let ended = held.terminated || held.truncated;
                self.held = Some(held);
                if ended {
                    self.release(false, rows);
                }
            }
            What::Call(said) => {
                self.digest.call(said.kind, &said.name, &said.arguments, &said.result);
                let mut call = call_json(said);
                match &mut self.open {
                    Some(open) => {
                        open.fresh = false;
                        open.calls.push(call);
                    }
                    None => {
                        call["before_reset"] = true.into();
                        self.loose.push(call);
                    }
                }
            }
            What::Fault(fault) => {
                self.digest.fault(fault.kind);
                self.totals.faults += 1;
                let action = matches!(fault.asked, Asked::Step).then_some(action);
                self.close_row(action, Some(fault.kind), rows);
                self.end_instance(Some((**fault).clone()));
            }
            What::Recycled => {
                self.digest.recycled();
                self.close_row(None, None, rows);
                self.end_instance(None);
            }
        }
    }

    /// Pushes the held row. `cut`: the caller gave up the episode at this row, which is marked as by Gymnasium's
    /// `TimeLimit`.
    pub(crate) fn release(&mut self, cut: bool, rows: &mut Rows) {
        let Some(mut held) = self.held.take() else { return };
        let Held { reward, terminated, .. } = held;
        let truncated = held.truncated || (cut && !terminated);
        let outcome = Outcome { reward, terminated, truncated, digest: Digest([0; 32]) };
        push(self.env, held.instance, &mut held.row, Some(&held.action), Some(outcome), None, rows);
        let digest = held.digest.as_mut().unwrap_or(&mut self.digest);
        rows.owe_digest(|edges| digest.owe(edges));
        if terminated || truncated {
            self.totals.returns.add(self.episode_return);
            self.totals.lengths.add(f64::from(held.row.step + 1));
            self.totals.episodes += 1;
        }
        self.spare = Some(held);
    }

    fn begin_instance(&mut self, instance: u32, rows: &mut Rows) {
        if self.instance == Some(instance) {
            return;
        }
        if self.instance.is_some() {
            // The instance ended without an event of its own, as does an instance that never had one.
            self.close_row(None, None, rows);
            self.end_instance(None);
        }
        self.instance = Some(instance);
    }

    fn end_instance(&mut self, fault: Option<FaultMet>) {
        let Some(instance) = self.instance.take() else { return };
        self.ended.push((instance, self.digest.digest()));
        self.digest = InstanceDigest::new();
        let calls = std::mem::take(&mut self.loose);
        if fault.is_some() || !calls.is_empty() {
            self.notes.push(InstanceNote { instance, fault, calls });
        }
    }

    /// Writes the open row as the last of its episode.
    fn close_row(&mut self, action: Option<&[u8]>, fault: Option<FaultKind>, rows: &mut Rows) {
        if let (Some(open), Some(instance)) = (self.open.take(), self.instance) {
            push(self.env, instance, &mut { open }, action, None, fault, rows);
        }
    }

    /// Ends the history. The last row is written, unless it is a reset that no event followed. Tentative events count
    /// if `follows`. Returns the digests of the instances that had events.
    pub(crate) fn finish(&mut self, follows: bool, rows: &mut Rows) -> Vec<(u32, Digest)> {
        if follows {
            self.commit(rows);
        }
        self.release(false, rows);
        self.tentative.clear();
        if self.open.as_ref().is_some_and(|open| open.fresh) {
            self.open = None;
        }
        self.close_row(None, None, rows);
        self.end_instance(None);
        std::mem::take(&mut self.ended)
    }

    /// The number of the next episode.
    pub(crate) fn next_episode(&self) -> u64 {
        self.next_episode
    }

    /// The env of this history.
    pub(crate) fn env(&self) -> u32 {
        self.env
    }

    /// The instance that has had an event and has not ended yet.
    pub(crate) fn instance(&self) -> Option<u32> {
        self.instance
    }
}

fn push(
    env: u32,
    instance: u32,
    open: &mut Open,
    action: Option<&[u8]>,
    outcome: Option<Outcome>,
    fault: Option<FaultKind>,
    rows: &mut Rows,
) {
    let calls = std::mem::take(&mut open.calls);
    let calls = (!calls.is_empty()).then(|| Value::from(calls).to_string());
    rows.push(&Row {
        env,
        instance,
        episode: open.episode,
        step: open.step,
        view: open.view(),
        action,
        outcome,
        seed: open.seed,
        options: open.options.as_deref(),
        fault,
        calls: calls.as_deref(),
    });
}

fn call_json(said: &Said) -> Value {
    let text = |bytes: &[u8]| serde_json::from_slice(bytes).unwrap_or(Value::Null);
    match said.kind {
        CallKind::Call => json!({
            "what": "call", "name": said.name, "arguments": text(&said.arguments), "result": text(&said.result),
        }),
        CallKind::SetAttribute => json!({
            "what": "set_attribute", "name": said.name, "arguments": text(&said.arguments), "result": null,
        }),
        CallKind::Reseed => {
            let seed = said.arguments.as_slice().try_into().map_or(0, u64::from_le_bytes);
            json!({ "what": "reseed", "name": "", "arguments": seed, "result": null })
        }
    }
}

/// The histories of all envs of a recording.
pub(crate) struct Histories {
    pub(crate) envs: Vec<History>,
    pub(crate) rows: Rows,
}

impl Histories {
    /// Histories of so many envs, from this number on.
    pub(crate) fn new(first_env: u32, envs: usize, shape: Arc<RowShape>) -> Histories {
        Histories { envs: (first_env..).take(envs).map(History::new).collect(), rows: Rows::new(shape) }
    }

    /// Enters a page's events. `after` is called after each event and says whether the rows so far are to be taken
    /// away.
    pub(crate) fn enter<E>(&mut self, page: &Page, mut after: impl FnMut(&mut Rows) -> Result<(), E>) -> Result<(), E> {
        for (event, action, view) in page.events() {
            if let Some(history) = self.envs.get_mut(event.env as usize) {
                history.enter(event, action, view, &mut self.rows);
                after(&mut self.rows)?;
            }
        }
        Ok(())
    }

    /// The sum of all envs' totals.
    pub(crate) fn totals(&self) -> Totals {
        Totals::of(self.envs.iter().map(|env| env.totals))
    }
}

impl Totals {
    /// The sum of many envs' totals.
    pub(crate) fn of(envs: impl Iterator<Item = Totals>) -> Totals {
        envs.fold(Totals::default(), |mut all, one| {
            (all.returns, all.lengths) = (all.returns.with(one.returns), all.lengths.with(one.lengths));
            all.steps += one.steps;
            all.episodes += one.episodes;
            all.faults += one.faults;
            all
        })
    }
}

/// The final state of an env when its recording ends.
pub(crate) struct EnvEnd {
    /// The env's instances and their digests.
    pub(crate) instances: Vec<(u32, Digest)>,
    /// True if another event followed the reset that same-step autoreset added. Otherwise rows of that reset are
    /// dropped.
    pub(crate) follows: bool,
}
