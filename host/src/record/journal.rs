//! On the path of a recorded step: events are gathered in pages, in the order in which they enter the digest, for the
//! thread that makes rows of them. Knows bytes in an order; knows nothing of files.

use std::path::PathBuf;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::{Acquire, Release};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crossbeam_channel::Sender;
use serde::{Deserialize, Serialize};

use crate::digest::{CallKind, StepFlags, ViewParts};
use crate::fault::FaultKind;
use crate::spec::RenderMode;

/// Bytes of values after which a page is handed on. A page may exceed it by one picture.
const PAGE_BYTES: usize = 256 << 10;

/// Events after which a page is handed on.
const PAGE_EVENTS: usize = 1024;

/// An event: something that happened to an instance.
#[derive(Clone, Debug)]
pub(crate) enum What {
    /// An answered reset; the bytes are its view.
    Reset { episode: u64, seed: Option<u64>, options: Option<Box<str>> },
    /// An answered step; the bytes are its action and view.
    Step { reward: f64, flags: StepFlags },
    /// An answered call, attribute or reseed.
    Call(Box<Said>),
    /// A fault; the bytes are the action of the failed step, if there was one.
    Fault(Box<FaultMet>),
    /// The end of an instance that the host ended on request.
    Recycled,
}

/// A call on an env and its result.
#[derive(Clone, Debug)]
pub(crate) struct Said {
    pub(crate) kind: CallKind,
    pub(crate) name: String,
    pub(crate) arguments: Vec<u8>,
    pub(crate) result: Vec<u8>,
}

/// The end of an instance by a fault.
#[derive(Clone, Debug)]
pub(crate) struct FaultMet {
    pub(crate) kind: FaultKind,
    pub(crate) episode: u64,
    pub(crate) step: u32,
    pub(crate) message: String,
    pub(crate) asked: Asked,
}

/// What was asked of an env when it met a fault.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "what", rename_all = "snake_case", deny_unknown_fields)]
pub(crate) enum Asked {
    /// Nothing, or unknown.
    Nothing,
    /// The start of the instance.
    Start,
    /// A step; its action is in the row of the fault.
    Step,
    /// A reset.
    Reset { seed: Option<u64>, options: Option<String> },
    /// A picture.
    Render { mode: RenderMode },
    /// A method of the author's own; arguments are JSON.
    Call { name: String, arguments: String },
    /// An attribute.
    GetAttribute { name: String },
    /// A new value for an attribute, JSON.
    SetAttribute { name: String, value: String },
    /// New random streams.
    Reseed { seed: u64 },
}

/// An event as a page stores it.
#[derive(Clone, Debug)]
pub(crate) struct Event {
    pub(crate) env: u32,
    pub(crate) instance: u32,
    /// True if the event belongs to a reset that same-step autoreset added to a step: it counts once another event
    /// follows.
    pub(crate) added: bool,
    pub(crate) what: What,
    /// Bytes of its action, observation, mask, info and info-extra, which follow one another in the page.
    lengths: [u32; 5],
}

/// A page: events in their order, and their bytes.
#[derive(Default)]
pub(crate) struct Page {
    events: Vec<Event>,
    bytes: Vec<u8>,
}

impl Page {
    fn push(&mut self, event: Event, action: &[u8], view: ViewParts<'_>) {
        let parts = [action, view.observation, view.mask, view.info, view.extra];
        let lengths = parts.map(|part| u32::try_from(part.len()).unwrap_or(u32::MAX));
        parts.iter().for_each(|part| self.bytes.extend_from_slice(part));
        self.events.push(Event { lengths, ..event });
    }

    fn is_full(&self) -> bool {
        self.bytes.len() >= PAGE_BYTES || self.events.len() >= PAGE_EVENTS
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.events.is_empty()
    }

    /// Iterates over the events, each with its action and its view.
    pub(crate) fn events(&self) -> impl Iterator<Item = (&Event, &[u8], ViewParts<'_>)> {
        let mut rest = self.bytes.as_slice();
        self.events.iter().map(move |event| {
            let [action, observation, mask, info, extra] = event.lengths.map(|length| {
                let (part, after) = rest.split_at(length as usize);
                rest = after;
                part
            });
            (event, action, ViewParts { observation, mask, info, extra })
        })
    }
}

/// The journal that envs write their events into. All envs of a run share one journal, so that their events are in one
/// order.
#[derive(Clone)]
pub(crate) struct Journal {
    shared: Arc<Shared>,
}

struct Shared {
    page: Mutex<Page>,
    /// The channel for full pages. If none, pages are taken by [`Journal::take`].
    full: Option<Sender<Page>>,
    /// True once the receiver of pages is gone.
    ended: AtomicBool,
}

impl Journal {
    /// Makes a journal that sends its full pages away. If the receiver is slower, the host waits.
    pub(crate) fn to(full: Sender<Page>) -> Journal {
        Journal::with(Some(full))
    }

    /// Makes a journal whose pages are taken by [`Journal::take`].
    pub(crate) fn kept() -> Journal {
        Journal::with(None)
    }

    fn with(full: Option<Sender<Page>>) -> Journal {
        Journal { shared: Arc::new(Shared { page: Mutex::default(), full, ended: AtomicBool::new(false) }) }
    }

    fn page(&self) -> MutexGuard<'_, Page> {
        self.shared.page.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Enters an event.
    pub(crate) fn enter(
        &self,
        (env, instance): (u32, u32),
        added: bool,
        what: What,
        action: &[u8],
        view: ViewParts<'_>,
    ) {
        let mut page = self.page();
        page.push(Event { env, instance, added, what, lengths: [0; 5] }, action, view);
        if page.is_full()
            && let Some(full) = &self.shared.full
            // Sent under the lock, so that pages arrive in the order of their events.
            && full.send(std::mem::take(&mut page)).is_err()
        {
            self.shared.ended.store(true, Release);
        }
    }

    /// Takes the page as far as it is written. `before` is called under the lock, while nothing can be added to the
    /// pages already sent.
    ///
    /// None if another thread holds the lock, and perhaps waits for the caller.
    pub(crate) fn try_take(&self, before: impl FnOnce()) -> Option<Page> {
        let mut page = match self.shared.page.try_lock() {
            Ok(page) => page,
            Err(std::sync::TryLockError::Poisoned(page)) => page.into_inner(),
            Err(std::sync::TryLockError::WouldBlock) => return None,
        };
        before();
        Some(std::mem::take(&mut page))
    }

    /// Takes the page as far as it is written.
    pub(crate) fn take(&self) -> Page {
        std::mem::take(&mut self.page())
    }

    /// Sends the rest.
    pub(crate) fn flush(&self) {
        let mut page = self.page();
        if let Some(full) = &self.shared.full
            && !page.is_empty()
        {
            // A receiver that is gone reports its reason elsewhere.
            let _ = full.send(std::mem::take(&mut page));
        }
    }

    /// Whether the receiver of pages is gone.
    pub(crate) fn has_ended(&self) -> bool {
        self.shared.ended.load(Acquire)
    }
}

/// Where an env that runs again begins.
#[derive(Clone)]
pub(crate) struct PastInstance {
    pub(crate) instance: u32,
    pub(crate) episode: u64,
    pub(crate) journal: Journal,
    /// The captured kinds of input by their names in the manifest, and the file from which they are served.
    pub(crate) captured: Option<(Vec<String>, PathBuf)>,
}
