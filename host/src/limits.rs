//! Every limit that an operator can set, and what it bounds.

use std::time::{Duration, Instant};

use crate::fault::Budget;

/// Limits of an env and of the host's patience with it.
#[derive(Clone, Debug, PartialEq)]
pub struct Limits {
    /// From starting a worker to its `Ready`: exec, loading the code, instantiating, `create`. Generous, because a
    /// simulator may have to come up in `create`; a worker without one takes milliseconds.
    pub start_timeout: Duration,
    /// One `reset`.
    pub reset_timeout: Duration,
    /// One `step`, or the steps of one batch each.
    pub step_timeout: Duration,
    /// One `render`, `call`, attribute or `reseed`.
    pub call_timeout: Duration,
    /// The guest's `close` at an orderly end; then the worker is killed, which is no fault.
    pub close_timeout: Duration,
    /// Bytes of linear memory of one env. A growth beyond it is the guest's own `-1`, on every machine alike. Does not
    /// cover what the engine itself allocates for the instance (tables, handles: bounded by caps of their own).
    pub memory_bytes: u64,
    /// Fuel of one step; none: not counted, which is a little faster. Resets and calls are bounded by time alone.
    pub fuel_per_step: Option<u64>,
    /// How far apart two steps begin on the guest's virtual clock.
    pub clock_step: Duration,
    /// Compiling one plugin, wall time. A megabyte of wasm takes about a second.
    pub compile_timeout: Duration,
    /// Bytes of memory a compile process may have: Cranelift takes some hundred times the size of a function.
    pub compile_bytes: u64,
    /// Bytes of compiled code: what a stranger's plugin can fill of the cache.
    pub code_bytes: u64,
    /// Bytes of a plugin's file.
    pub plugin_bytes: u64,
    /// Sockets that one env has open at once, of those that it was granted.
    pub sockets: u32,
    /// Bytes that one instance sends and receives over them, together. Counted by the worker: generous, against a guest
    /// that fills a disk or a link somewhere else.
    pub socket_bytes: u64,
    /// Restarts of one env after faults.
    pub restarts: Budget,
    /// Bytes of what one instance was told (actions, options, calls) that are kept for snapshots, from its beginning on. Where
    /// there is more, it has no snapshot. 131,000 of CartPole's steps; 0: none are kept.
    pub snapshot_bytes: usize,
}

/// Bytes of memory that a stranger's file (a recording, a snapshot) may ask for on behalf of an env: what wasm of 32 bits can
/// address.
pub(crate) const STRANGERS_MEMORY_BYTES_MAX: u64 = 4 << 30;

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            start_timeout: Duration::from_secs(30),
            reset_timeout: Duration::from_secs(10),
            step_timeout: Duration::from_secs(10),
            call_timeout: Duration::from_secs(10),
            close_timeout: Duration::from_secs(2),
            memory_bytes: 256 << 20,
            fuel_per_step: None,
            clock_step: Duration::from_millis(20),
            compile_timeout: Duration::from_secs(120),
            compile_bytes: 4 << 30,
            code_bytes: 1 << 30,
            plugin_bytes: 256 << 20,
            sockets: 8,
            socket_bytes: 1 << 40,
            restarts: Budget::default(),
            snapshot_bytes: 1 << 20,
        }
    }
}

/// So long from now, or as far as the clock goes on: a timeout may be any.
pub(crate) fn deadline(timeout: Duration) -> Instant {
    /// Thirty years, which a clock can add.
    const LONGEST: Duration = Duration::from_secs(30 * 365 * 24 * 3600);
    Instant::now() + timeout.min(LONGEST)
}

/// All of them together.
pub(crate) fn together(times: impl Iterator<Item = Duration>) -> Duration {
    times.fold(Duration::ZERO, Duration::saturating_add)
}

impl Limits {
    /// Sets every timeout to one that no debugging session meets.
    pub fn patient(mut self) -> Limits {
        /// Thirty days.
        const PATIENCE: Duration = Duration::from_secs(30 * 24 * 3600);
        self.start_timeout = PATIENCE;
        self.compile_timeout = PATIENCE;
        self.close_timeout = PATIENCE;
        self.call_timeouts(PATIENCE)
    }

    /// Sets the three timeouts of a call into the env (`--step-timeout`): reset, step, call.
    pub fn call_timeouts(mut self, timeout: Duration) -> Limits {
        self.reset_timeout = timeout;
        self.step_timeout = timeout;
        self.call_timeout = timeout;
        self
    }
}
