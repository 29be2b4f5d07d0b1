//! Every limit that an operator can set, and what the limit bounds.

use std::time::{Duration, Instant};

use crate::fault::Budget;

/// Limits of an env, and of how long the host waits for it.
#[derive(Clone, Debug, PartialEq)]
pub struct Limits {
    /// The time from starting a worker to its `Ready`: exec, loading the code, instantiating, `create`. It is generous,
    /// because a simulator may have to start in `create`; a worker without a simulator takes milliseconds.
    pub start_timeout: Duration,
    /// The time of one `reset`.
    pub reset_timeout: Duration,
    /// The time of one `step`, or of each step of a batch.
    pub step_timeout: Duration,
    /// The time of one `render`, `call`, attribute or `reseed`.
    pub call_timeout: Duration,
    /// The time of the guest's `close` at an orderly end. After it the worker is killed, which does not count as a
    /// fault.
    pub close_timeout: Duration,
    /// Bytes of linear memory of one env. A growth beyond it gives the guest its own `-1`, on every machine alike.
    /// Memory that the engine itself allocates for the instance is not included (tables, handles: they have their own
    /// caps).
    pub memory_bytes: u64,
    /// Fuel of one step. If none, fuel is not counted, which is a little faster. Only time bounds resets and calls.
    pub fuel_per_step: Option<u64>,
    /// The time between two steps on the guest's virtual clock.
    pub clock_step: Duration,
    /// The processor time for compiling one plugin, in whole seconds: a loaded machine does not change what compiles. A
    /// megabyte of wasm takes about a second, a Python interpreter with numpy about 25. The wall time is bounded too, by
    /// ten times as much.
    pub compile_timeout: Duration,
    /// Bytes of memory that a compile process may have: Cranelift takes some hundred times the size of a function.
    pub compile_bytes: u64,
    /// Bytes of compiled code: this bounds how much of the cache an untrusted plugin can fill.
    pub code_bytes: u64,
    /// Bytes of a plugin's file.
    pub plugin_bytes: u64,
    /// Granted sockets that one env may have open at once.
    pub sockets: u32,
    /// Bytes that one instance sends and receives over all its sockets. The worker counts them. The limit is generous:
    /// it is against a guest that fills a disk or a link somewhere else.
    pub socket_bytes: u64,
    /// Restarts of one env after faults.
    pub restarts: Budget,
    /// Bytes of an instance's inputs (actions, options, calls) that are kept for snapshots, from its beginning on. An
    /// instance with more has no snapshot. The default holds some 700,000 random steps of CartPole; 0 keeps none.
    pub snapshot_bytes: usize,
}

/// Bytes of memory that an untrusted file (a recording, a snapshot) may ask for on behalf of an env: what 32-bit wasm
/// can address.
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

/// How many times its processor time a compilation may take by the clock on the wall: on a machine that is so loaded
/// nobody waits longer.
pub(crate) const COMPILE_WALL_TIMES: u32 = 10;

/// The time after this timeout, or the latest that the clock can hold: a timeout may have any length.
pub(crate) fn deadline(timeout: Duration) -> Instant {
    /// Thirty years, which a clock can add.
    const LONGEST: Duration = Duration::from_secs(30 * 365 * 24 * 3600);
    Instant::now() + timeout.min(LONGEST)
}

/// The sum of the times.
pub(crate) fn together(times: impl Iterator<Item = Duration>) -> Duration {
    times.fold(Duration::ZERO, Duration::saturating_add)
}

impl Limits {
    /// Sets every timeout to a time that no debugging session reaches.
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
