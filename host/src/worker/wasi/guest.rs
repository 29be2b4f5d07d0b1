//! A guest's world: the data that the host keeps for one instance beside its memory.

use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use wasmtime::component::ResourceTable;
use wasmtime_wasi::sockets::WasiSocketsCtx;

use super::clock::{Clock, ClockMark, Time};
use super::random::{Random, RandomMark};
use super::streams::{Log, SharedLog};
use crate::cage::wasm::{MemoryLimiter, resource_table};
use crate::wire::job::GrantedSockets;
use crate::worker::assets::Assets;
use crate::worker::wasi::capture::Capture;
use crate::worker::wasi::line::Sockets;
use crate::worker::wasi::preopens::{Directories, Preopen};

/// What a guest is given beside its code: parts of the outside, and its plugin's files. None by default.
#[derive(Default)]
pub(crate) struct Outside {
    /// Directories, in the order in which the guest sees them.
    pub(crate) directories: Vec<Preopen>,
    /// Whether the guest has the machine's clocks instead of virtual clocks.
    pub(crate) real_clock: bool,
    /// Whether the guest has the kernel's randomness instead of the seeded stream.
    pub(crate) real_random: bool,
    /// The broker's socket and the bounds for sockets. The socket is none where its input is served.
    pub(crate) sockets: Option<(Option<OwnedFd>, GrantedSockets)>,
    /// The capture that writes or serves input from outside.
    pub(crate) capture: Capture,
    /// The files inside the plugin.
    pub(crate) assets: Arc<Assets>,
}

/// The store's data: everything of one guest except its wasm.
pub(crate) struct Guest {
    /// The bound on memories and tables, which the store asks.
    pub(crate) limiter: MemoryLimiter,
    pub(super) table: ResourceTable,
    pub(super) directories: Directories,
    pub(super) clock: Arc<Clock>,
    pub(super) random: Random,
    pub(super) log: SharedLog,
    capture: Capture,
    pub(in crate::worker) assets: Arc<Assets>,
    pub(super) sockets: Sockets,
    // The crate's own context, because `instance-network` needs a view of it. It is as if nothing were granted: no address.
    pub(super) unused_sockets: WasiSocketsCtx,
}

/// A point of virtual time and of the random stream, to go back to. Real clocks and randomness have no such point.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Mark {
    clock: Option<ClockMark>,
    random: Option<RandomMark>,
}

impl Guest {
    /// A guest's world at the instance's start. `key` is the key of the random stream, see [`key_create`](super::random::key_create).
    pub(crate) fn new(limiter: MemoryLimiter, key: [u8; 32], outside: Outside, log: Box<dyn Log>) -> Guest {
        let capture = outside.capture;
        let time = if outside.real_clock { Time::real() } else { Time::default() };
        let clock = Arc::new(Clock::of(time, capture.clone()));
        Guest {
            limiter,
            table: resource_table(),
            directories: Directories::new(outside.directories),
            sockets: Sockets::new(outside.sockets, &clock, &capture),
            clock,
            random: if outside.real_random { Random::Kernel(capture.clone()) } else { Random::seeded(key) },
            log: Arc::new(Mutex::new(log)),
            capture,
            assets: outside.assets,
            unused_sockets: WasiSocketsCtx::default(),
        }
    }

    /// Moves virtual clocks to a step's beginning: now, or `clock_step` after the beginning of the step before, whichever
    /// is later.
    pub(crate) fn begin_step(&mut self, clock_step: Duration) {
        self.clock.begin_step(u64::try_from(clock_step.as_nanos()).unwrap_or(u64::MAX));
    }

    /// Begins to watch whether the guest asks for the time.
    pub(crate) fn watch_clock(&self) {
        self.clock.forget_asking();
    }

    /// Whether it has asked since.
    pub(crate) fn asked_the_clock(&self) -> bool {
        self.clock.was_asked()
    }

    /// Ends a call: see [`Capture::end_call`].
    pub(crate) fn end_call(&self, happened: bool) {
        self.capture.end_call(happened);
    }

    /// See [`Capture::mute`].
    pub(crate) fn mute_capture(&self) {
        self.capture.mute();
    }

    /// See [`Capture::set_aside`].
    pub(crate) fn set_aside(&self, aside: bool) {
        self.capture.set_aside(aside);
    }

    /// The reason why no further input can be trusted, if there is one: see [`Capture::failure`].
    pub(crate) fn capture_failure(&self) -> Option<String> {
        self.capture.failure()
    }

    /// Begins a new random stream.
    pub(crate) fn rekey(&mut self, key: [u8; 32]) {
        self.random.rekey(key);
    }

    /// The present point of clocks and random stream.
    pub(crate) fn mark(&self) -> Mark {
        Mark { clock: self.clock.mark(), random: self.random.mark() }
    }

    /// Goes back to a mark, after a call that is not an event of the rollout and that a replay does not make. The call's
    /// changes to a granted directory remain.
    pub(crate) fn rewind(&mut self, mark: &Mark) {
        if let Some(mark) = &mark.clock {
            self.clock.rewind(mark);
        }
        if let Some(mark) = &mark.random {
            self.random.rewind(mark);
        }
    }
}
