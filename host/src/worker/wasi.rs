//! What a guest sees of the world: virtual clocks, seeded randomness, a log, and otherwise what it was granted.
//!
//! The contract is `docs/guest.md`'s: no arguments, no environment variables, no directories but granted ones, stdin
//! at its end, stdout and stderr to the log. The engine's WASI crate brings the resource tables, stream and pollable
//! types; what *happens* in a call is here, and synchronous: the crate's own synchronous shims start a runtime with
//! threads at the first blocking call and really sleep under a virtual clock, and a worker has one thread.
//!
//! Granted directories are `worker/directories`, granted sockets `worker/sockets`.

use std::future::Future;
use std::os::fd::OwnedFd;
use std::pin::pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use rand::rngs::SysRng;
use rand_chacha::ChaCha12Rng;
use rand_chacha::rand_core::{Rng, SeedableRng, TryRng};
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::thread::{ClockId, NanosleepRelativeResult};
use wasmtime::component::{HasData, HasSelf, Linker, Resource, ResourceTable};
use wasmtime_wasi::p2::bindings::cli::terminal_input::TerminalInput;
use wasmtime_wasi::p2::bindings::cli::terminal_output::TerminalOutput;
use wasmtime_wasi::p2::bindings::{cli, clocks, filesystem::preopens, random, sync};
use wasmtime_wasi::p2::pipe::ClosedInputStream;
use wasmtime_wasi::sockets::WasiSocketsCtx;
use wasmtime_wasi_io::async_trait;
use wasmtime_wasi_io::bindings::wasi::io as asynchronous;
use wasmtime_wasi_io::poll::{DynPollable, Pollable, subscribe};
use wasmtime_wasi_io::streams::{DynInputStream, DynOutputStream, OutputStream, StreamError, StreamResult};

use super::capture::{self, Capture};
use super::directories::{Directories, Preopen};
use super::sockets::Sockets;
use crate::cage::wasm::{MemoryLimiter, RANDOM_BYTES_MAX, WRITE_BYTES_MAX, resource_table};
use crate::wire::job::GrantedSockets;

/// What the wall clock shows at the instance's start: 2000-01-01T00:00:00Z, in seconds since 1970.
const WALL_CLOCK_START_SECONDS: u64 = 946_684_800;

/// What a reading adds to the clocks. A clock that stands still is an endless loop for somebody.
const READING_NS: u64 = 1_000;

/// The resolution of the machine's clocks: what every Linux with high-resolution timers answers. To ask would be one more
/// system call that a worker may make.
const REAL_RESOLUTION_NS: u64 = 1;

/// What of the world outside a guest is given. The default is nothing.
#[derive(Default)]
pub(crate) struct Outside {
    /// Directories, in the order that the guest finds them in.
    pub(crate) directories: Vec<Preopen>,
    /// The machine's clocks in place of virtual ones.
    pub(crate) real_clock: bool,
    /// The kernel's randomness in place of the seeded stream.
    pub(crate) real_random: bool,
    /// How much of sockets there is, and the broker's own; none where what came over them is served.
    pub(crate) sockets: Option<(Option<OwnedFd>, GrantedSockets)>,
    /// Where what comes in is written down, or served from.
    pub(super) capture: Capture,
}

/// The store's data: everything of one guest that is not wasm.
pub(crate) struct Guest {
    /// Bounds memories and tables; the store asks it.
    pub(crate) limiter: MemoryLimiter,
    pub(super) table: ResourceTable,
    pub(super) directories: Directories,
    clock: Arc<Clock>,
    random: Random,
    log: SharedLog,
    capture: Capture,
    pub(super) sockets: Sockets,
    // The crate's own, which `instance-network` wants a view of. As it is made when nothing is granted: no address.
    pub(super) unused_sockets: WasiSocketsCtx,
}

/// A point of virtual time and of the random stream, to go back to. What is real has none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Mark {
    clock: Option<ClockMark>,
    random: Option<RandomMark>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct ClockMark {
    now: u64,
    step_began: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct RandomMark {
    key: [u8; 32],
    position: u128,
}

impl Guest {
    /// A guest's world at the instance's start. `key` is the random stream's, see [`key_create`].
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
            unused_sockets: WasiSocketsCtx::default(),
        }
    }

    /// Moves virtual clocks to a step's beginning: now, or `clock_step` after the beginning of the step before, whichever
    /// is later.
    pub(crate) fn begin_step(&mut self, clock_step: Duration) {
        self.clock.begin_step(u64::try_from(clock_step.as_nanos()).unwrap_or(u64::MAX));
    }

    /// The end of a call: see [`Capture::end_call`].
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

    /// Why nothing that comes in can be trusted any more, if that is so: see [`Capture::failure`].
    pub(crate) fn capture_failure(&self) -> Option<String> {
        self.capture.failure()
    }

    /// Begins a new random stream.
    pub(crate) fn rekey(&mut self, key: [u8; 32]) {
        self.random.rekey(key);
    }

    /// Where clocks and random stream are.
    pub(crate) fn mark(&self) -> Mark {
        Mark { clock: self.clock.mark(), random: self.random.mark() }
    }

    /// Goes back to a mark, after a call that is no event of the rollout: a replay does not make it. What the call did to
    /// a granted directory stays done.
    pub(crate) fn rewind(&mut self, mark: &Mark) {
        if let Some(mark) = &mark.clock {
            self.clock.rewind(mark);
        }
        if let Some(mark) = &mark.random {
            self.random.rewind(mark);
        }
    }
}

/// Links everything a plugin may import. Each interface by name; a directory, socket or name is denied inside, since
/// Rust's, C's and Python's libraries import all of these whether they use them or not.
///
/// # Errors
///
/// Only if an interface were linked twice.
pub(crate) fn link(linker: &mut Linker<Guest>) -> wasmtime::Result<()> {
    type Own = HasSelf<Guest>;
    let own: fn(&mut Guest) -> &mut Guest = |guest| guest;

    asynchronous::error::add_to_linker::<Guest, Table>(linker, |guest| &mut guest.table)?;
    sync::io::poll::add_to_linker::<Guest, Own>(linker, own)?;
    sync::io::streams::add_to_linker::<Guest, Own>(linker, own)?;

    clocks::monotonic_clock::add_to_linker::<Guest, Own>(linker, own)?;
    clocks::wall_clock::add_to_linker::<Guest, Own>(linker, own)?;

    random::random::add_to_linker::<Guest, Own>(linker, own)?;
    random::insecure::add_to_linker::<Guest, Own>(linker, own)?;
    random::insecure_seed::add_to_linker::<Guest, Own>(linker, own)?;

    cli::environment::add_to_linker::<Guest, Own>(linker, own)?;
    cli::exit::add_to_linker::<Guest, Own>(linker, own)?;
    cli::stdin::add_to_linker::<Guest, Own>(linker, own)?;
    cli::stdout::add_to_linker::<Guest, Own>(linker, own)?;
    cli::stderr::add_to_linker::<Guest, Own>(linker, own)?;
    cli::terminal_input::add_to_linker::<Guest, Own>(linker, own)?;
    cli::terminal_output::add_to_linker::<Guest, Own>(linker, own)?;
    cli::terminal_stdin::add_to_linker::<Guest, Own>(linker, own)?;
    cli::terminal_stdout::add_to_linker::<Guest, Own>(linker, own)?;
    cli::terminal_stderr::add_to_linker::<Guest, Own>(linker, own)?;

    // A guest gets no descriptor from anywhere but the preopens, so with none granted no function of `types` can be
    // called but those that look into an error.
    preopens::add_to_linker::<Guest, Own>(linker, own)?;
    sync::filesystem::types::add_to_linker::<Guest, Own>(linker, own)?;

    super::sockets::link(linker)?;
    Ok(())
}

/// Gives the crate's interfaces that need nothing but the table what they need.
struct Table;

impl HasData for Table {
    type Data<'a> = &'a mut ResourceTable;
}

// Waiting.

/// "No such instant" in the clock's words: 584 years after the start.
const NEVER: u64 = u64::MAX;

/// Time of one instance, in nanoseconds since its start.
#[derive(Debug)]
pub(super) struct Clock {
    time: Time,
    /// The earliest deadline that the wait in progress has met; [`NEVER`] if none.
    wanted: AtomicU64,
    /// The descriptors that the wait in progress has met, and what of them is waited for. None in place of one: what came
    /// over it is served.
    descriptors: Mutex<Vec<(Option<Arc<OwnedFd>>, PollFlags)>>,
    capture: Capture,
}

/// Atomics only because pollables must be `Send`.
#[derive(Debug)]
enum Time {
    /// Goes on by readings, waits and steps.
    Virtual {
        now: AtomicU64,
        /// When the latest step began; [`NEVER`] before the first.
        step_began: AtomicU64,
    },
    /// The machine's, which nobody here moves.
    Real { start: Instant },
}

impl Default for Time {
    fn default() -> Time {
        Time::Virtual { now: AtomicU64::new(0), step_began: AtomicU64::new(NEVER) }
    }
}

impl Time {
    fn real() -> Time {
        Time::Real { start: Instant::now() }
    }
}

impl Clock {
    fn of(time: Time, capture: Capture) -> Clock {
        Clock { time, wanted: AtomicU64::new(NEVER), descriptors: Mutex::default(), capture }
    }

    /// The wait in progress is to end when this descriptor is ready too.
    pub(super) fn wait_for(&self, descriptor: Option<&Arc<OwnedFd>>, events: PollFlags) {
        self.descriptors.lock().unwrap_or_else(PoisonError::into_inner).push((descriptor.map(Arc::clone), events));
    }

    /// Waits in real time, until a descriptor is ready or the clock's distance to `due` has passed; a virtual clock goes
    /// on by that distance then, and stands still else.
    fn wait_for_descriptors(
        &self,
        descriptors: &[(Option<Arc<OwnedFd>>, PollFlags)],
        due: u64,
    ) -> wasmtime::Result<()> {
        let distance = Duration::from_nanos(due.saturating_sub(self.now()));
        let timeout: Option<Timespec> = if due == NEVER { None } else { Some(distance.try_into()?) };
        let poll = || {
            let fds = descriptors.iter().filter_map(|(fd, events)| Some(PollFd::new(&**fd.as_ref()?, *events)));
            match rustix::event::poll(&mut fds.collect::<Vec<_>>(), timeout.as_ref()) {
                Ok(0) => Ok(true),
                Ok(_) | Err(rustix::io::Errno::INTR) => Ok(false),
                Err(error) => Err(format!("the system does not wait: {error}")),
            }
        };
        let timed_out = self.capture.pass(capture::Outside::Wait, &due.to_le_bytes(), poll, || Ok(false));
        if timed_out.map_err(wasmtime::Error::msg)?
            && let Time::Virtual { now, .. } = &self.time
        {
            now.store(due, Ordering::Relaxed);
        }
        Ok(())
    }

    fn now(&self) -> u64 {
        match &self.time {
            Time::Virtual { now, .. } => now.load(Ordering::Relaxed),
            // Both clocks are read by the vDSO, without a system call, wherever the machine has a usable counter.
            Time::Real { start } => {
                let now = || u64::try_from(start.elapsed().as_nanos()).unwrap_or(NEVER);
                self.capture.pass(capture::Outside::Clock, &[], now, || NEVER)
            }
        }
    }

    /// A reading by the guest: the time, which then goes on a little.
    fn read(&self) -> u64 {
        let read = self.now();
        if let Time::Virtual { now, .. } = &self.time {
            now.store(read.saturating_add(READING_NS), Ordering::Relaxed);
        }
        read
    }

    /// A reading of the wall clock, since 1970.
    fn read_wall(&self) -> Duration {
        match &self.time {
            Time::Virtual { .. } => Duration::from_secs(WALL_CLOCK_START_SECONDS) + Duration::from_nanos(self.read()),
            // The interface cannot say a time before 1970.
            Time::Real { .. } => {
                let now = || SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
                self.capture.pass(capture::Outside::WallClock, &[], now, Duration::default)
            }
        }
    }

    fn resolution_ns(&self) -> u64 {
        match &self.time {
            Time::Virtual { .. } => READING_NS,
            Time::Real { .. } => REAL_RESOLUTION_NS,
        }
    }

    fn begin_step(&self, clock_step_ns: u64) {
        let Time::Virtual { now, step_began } = &self.time else { return };
        let (at, before) = (now.load(Ordering::Relaxed), step_began.load(Ordering::Relaxed));
        let begin = if before == NEVER { at } else { at.max(before.saturating_add(clock_step_ns)) };
        now.store(begin, Ordering::Relaxed);
        step_began.store(begin, Ordering::Relaxed);
    }

    /// Lets the time until `due` pass: at once if it is virtual, asleep if it is real, and then perhaps not all of it.
    fn wait_until(&self, due: u64) -> wasmtime::Result<()> {
        match &self.time {
            Time::Virtual { now, .. } => now.store(due, Ordering::Relaxed),
            // What is served needs no time.
            Time::Real { .. } if self.capture.is_served() => {}
            Time::Real { .. } => {
                let rest = Duration::from_nanos(due.saturating_sub(self.now()));
                // By its own name and not std's, which is free to choose among three system calls: the filter allows this
                // one, clock_nanosleep(CLOCK_MONOTONIC, 0), and only to a worker with this grant. A sleep longer than the
                // call's deadline ends by it, with the worker.
                let sleep = rustix::thread::clock_nanosleep_relative(ClockId::Monotonic, &rest.try_into()?);
                if let NanosleepRelativeResult::Err(error) = sleep {
                    return Err(wasmtime::Error::msg(format!("the system does not sleep: {error}")));
                }
            }
        }
        Ok(())
    }

    fn mark(&self) -> Option<ClockMark> {
        let Time::Virtual { now, step_began } = &self.time else { return None };
        Some(ClockMark { now: now.load(Ordering::Relaxed), step_began: step_began.load(Ordering::Relaxed) })
    }

    fn rewind(&self, mark: &ClockMark) {
        if let Time::Virtual { now, step_began } = &self.time {
            now.store(mark.now, Ordering::Relaxed);
            step_began.store(mark.step_began, Ordering::Relaxed);
        }
    }
}

/// A timer: ready when the clock has reached it. Never, if it lies beyond what the clock can show.
struct Timer {
    clock: Arc<Clock>,
    due: Option<u64>,
}

#[async_trait]
impl Pollable for Timer {
    async fn ready(&mut self) {
        std::future::poll_fn(|_| {
            let Some(due) = self.due else { return Poll::Pending };
            if self.clock.now() >= due {
                return Poll::Ready(());
            }
            self.clock.wanted.fetch_min(due, Ordering::Relaxed);
            Poll::Pending
        })
        .await;
    }
}

/// Runs one of the crate's asynchronous functions to its end on this thread.
///
/// What is not ready is a timer or a descriptor. With timers alone the clock jumps to the earliest one that the future has
/// asked about, or a real clock is waited for, which makes that one ready, so each round gets on. With a descriptor among
/// them it is waited in real time, for the earliest timer's distance at most. A wait that nothing ends is a trap.
fn drive<F: Future>(clock: &Clock, future: F) -> wasmtime::Result<F::Output> {
    let mut future = pin!(future);
    let mut context = Context::from_waker(Waker::noop());
    loop {
        if let Some(failure) = clock.capture.failure() {
            return Err(wasmtime::Error::msg(failure));
        }
        clock.wanted.store(NEVER, Ordering::Relaxed);
        let output = future.as_mut().poll(&mut context);
        let descriptors = std::mem::take(&mut *clock.descriptors.lock().unwrap_or_else(PoisonError::into_inner));
        if let Poll::Ready(output) = output {
            return Ok(output);
        }
        match (clock.wanted.load(Ordering::Relaxed), descriptors.is_empty()) {
            (NEVER, true) => {
                return Err(wasmtime::Error::msg("the guest waits for nothing: no timer or stream ends this wait"));
            }
            (due, true) => clock.wait_until(due)?,
            (due, false) => clock.wait_for_descriptors(&descriptors, due)?,
        }
    }
}

impl sync::io::poll::Host for Guest {
    fn poll(&mut self, pollables: Vec<Resource<DynPollable>>) -> wasmtime::Result<Vec<u32>> {
        // Asking is a reading: a loop around an always ready stream would stop the clock otherwise.
        self.clock.read();
        let Guest { table, clock, .. } = self;
        drive(clock, asynchronous::poll::Host::poll(table, pollables))?
    }
}

impl sync::io::poll::HostPollable for Guest {
    fn ready(&mut self, pollable: Resource<DynPollable>) -> wasmtime::Result<bool> {
        self.clock.read();
        let Guest { table, clock, .. } = self;
        drive(clock, asynchronous::poll::HostPollable::ready(table, pollable))?
    }

    fn block(&mut self, pollable: Resource<DynPollable>) -> wasmtime::Result<()> {
        let Guest { table, clock, .. } = self;
        drive(clock, asynchronous::poll::HostPollable::block(table, pollable))?
    }

    fn drop(&mut self, pollable: Resource<DynPollable>) -> wasmtime::Result<()> {
        asynchronous::poll::HostPollable::drop(&mut self.table, pollable)
    }
}

// Clocks.

impl clocks::monotonic_clock::Host for Guest {
    fn now(&mut self) -> wasmtime::Result<u64> {
        Ok(self.clock.read())
    }

    fn resolution(&mut self) -> wasmtime::Result<u64> {
        Ok(self.clock.resolution_ns())
    }

    fn subscribe_instant(&mut self, when: u64) -> wasmtime::Result<Resource<DynPollable>> {
        self.timer(Some(when))
    }

    fn subscribe_duration(&mut self, duration: u64) -> wasmtime::Result<Resource<DynPollable>> {
        self.timer(self.clock.now().checked_add(duration))
    }
}

impl clocks::wall_clock::Host for Guest {
    fn now(&mut self) -> wasmtime::Result<clocks::wall_clock::Datetime> {
        Ok(datetime(self.clock.read_wall()))
    }

    fn resolution(&mut self) -> wasmtime::Result<clocks::wall_clock::Datetime> {
        Ok(datetime(Duration::from_nanos(self.clock.resolution_ns())))
    }
}

fn datetime(duration: Duration) -> clocks::wall_clock::Datetime {
    clocks::wall_clock::Datetime { seconds: duration.as_secs(), nanoseconds: duration.subsec_nanos() }
}

impl Guest {
    fn timer(&mut self, due: Option<u64>) -> wasmtime::Result<Resource<DynPollable>> {
        let timer = Timer { clock: Arc::clone(&self.clock), due: due.filter(|&due| due != NEVER) };
        let timer = self.table.push(timer)?;
        subscribe(&mut self.table, timer)
    }
}

// Randomness.

/// What everything of `wasi:random` draws from, in call order.
enum Random {
    /// One stream from one key.
    Seeded { key: [u8; 32], stream: Box<ChaCha12Rng> },
    /// The kernel's, by getrandom(2). No seed reaches it.
    Kernel(Capture),
}

impl Random {
    fn seeded(key: [u8; 32]) -> Random {
        Random::Seeded { key, stream: Box::new(ChaCha12Rng::from_seed(key)) }
    }

    fn rekey(&mut self, key: [u8; 32]) {
        if matches!(self, Random::Seeded { .. }) {
            *self = Random::seeded(key);
        }
    }

    fn bytes(&mut self, length: u64) -> wasmtime::Result<Vec<u8>> {
        let length = usize::try_from(length.min(RANDOM_BYTES_MAX + 1))?;
        if length as u64 > RANDOM_BYTES_MAX {
            return Err(wasmtime::Error::msg(format!(
                "the guest asked for more than {RANDOM_BYTES_MAX} random bytes at once"
            )));
        }
        match self {
            Random::Seeded { stream, .. } => {
                let mut bytes = vec![0; length];
                stream.fill_bytes(&mut bytes);
                Ok(bytes)
            }
            Random::Kernel(capture) => {
                let draw = || {
                    let mut bytes = vec![0; length];
                    SysRng.try_fill_bytes(&mut bytes).map(|()| bytes).map_err(|error| error.to_string())
                };
                let sent = (length as u64).to_le_bytes();
                let drawn = capture.pass(capture::Outside::Random, &sent, draw, || Ok(vec![0; length]));
                let bytes = drawn.map_err(no_randomness)?;
                // A recording is anybody's.
                if bytes.len() == length { Ok(bytes) } else { Err(no_randomness("the recording has another length")) }
            }
        }
    }

    fn u64(&mut self) -> wasmtime::Result<u64> {
        match self {
            Random::Seeded { stream, .. } => Ok(stream.next_u64()),
            Random::Kernel(_) => {
                let bytes = self.bytes(8)?;
                Ok(u64::from_le_bytes(std::array::from_fn(|index| bytes[index])))
            }
        }
    }

    fn mark(&self) -> Option<RandomMark> {
        let Random::Seeded { key, stream } = self else { return None };
        Some(RandomMark { key: *key, position: stream.get_word_pos() })
    }

    fn rewind(&mut self, mark: &RandomMark) {
        let Random::Seeded { key, stream } = self else { return };
        if *key != mark.key {
            *key = mark.key;
            **stream = ChaCha12Rng::from_seed(mark.key);
        }
        if stream.get_word_pos() != mark.position {
            stream.set_word_pos(mark.position);
        }
    }
}

fn no_randomness(error: impl std::fmt::Display) -> wasmtime::Error {
    wasmtime::Error::msg(format!("the system gives no randomness: {error}"))
}

/// The random stream's key from the instance's start to its first seed. `config` as RFC 8785 JSON, empty before
/// there is one (`describe`).
pub(crate) fn key_create(plugin_sha256: &[u8; 32], config: &str) -> [u8; 32] {
    key(&[b"rollcage-create\x01", plugin_sha256, config.as_bytes()])
}

/// The random stream's key after `reset(seed)`.
pub(crate) fn key_reset(seed: u64) -> [u8; 32] {
    key(&[b"rollcage-random\x01", &seed.to_le_bytes()])
}

/// The random stream's key after `reseed(seed)`.
pub(crate) fn key_reseed(seed: u64) -> [u8; 32] {
    key(&[b"rollcage-reseed\x01", &seed.to_le_bytes()])
}

fn key(parts: &[&[u8]]) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new();
    for part in parts {
        hasher.update(part);
    }
    hasher.finalize().into()
}

impl random::random::Host for Guest {
    fn get_random_bytes(&mut self, length: u64) -> wasmtime::Result<Vec<u8>> {
        self.random.bytes(length)
    }

    fn get_random_u64(&mut self) -> wasmtime::Result<u64> {
        self.random.u64()
    }
}

impl random::insecure::Host for Guest {
    fn get_insecure_random_bytes(&mut self, length: u64) -> wasmtime::Result<Vec<u8>> {
        self.random.bytes(length)
    }

    fn get_insecure_random_u64(&mut self) -> wasmtime::Result<u64> {
        self.random.u64()
    }
}

impl random::insecure_seed::Host for Guest {
    fn insecure_seed(&mut self) -> wasmtime::Result<(u64, u64)> {
        Ok((self.random.u64()?, self.random.u64()?))
    }
}

// Streams.

/// Where a guest's stdout and stderr go, as they come.
pub(crate) trait Log: Send {
    /// Takes all of it, or loses what it cannot take: a guest must not see the difference.
    fn write(&mut self, bytes: &[u8]);
}

/// The log pipe, descriptor 2: raw writes, which wait while the pipe is full.
pub(crate) struct LogPipe;

impl Log for LogPipe {
    fn write(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            match rustix::io::write(std::io::stderr(), bytes) {
                Ok(written) => bytes = bytes.get(written..).unwrap_or_default(),
                Err(rustix::io::Errno::INTR) => {}
                // The host is gone or has closed the log; the worker's other end will tell.
                Err(_) => return,
            }
        }
    }
}

type SharedLog = Arc<Mutex<Box<dyn Log>>>;

/// A stream into the log. Nothing is kept back, so there is nothing to flush.
struct LogStream(SharedLog);

#[async_trait]
impl Pollable for LogStream {
    async fn ready(&mut self) {}
}

impl OutputStream for LogStream {
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        if bytes.len() > WRITE_BYTES_MAX {
            return Err(StreamError::trap("the guest wrote more to a stream than it allowed"));
        }
        self.0.lock().unwrap_or_else(PoisonError::into_inner).write(&bytes);
        Ok(())
    }

    fn flush(&mut self) -> StreamResult<()> {
        Ok(())
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        Ok(WRITE_BYTES_MAX)
    }
}

impl sync::io::streams::Host for Guest {
    fn convert_stream_error(&mut self, error: StreamError) -> wasmtime::Result<sync::io::streams::StreamError> {
        Ok(asynchronous::streams::Host::convert_stream_error(&mut self.table, error)?.into())
    }
}

/// Drives a stream's function; a wait that nothing ends is a trap as in `poll`.
fn drive_stream<T>(clock: &Clock, future: impl Future<Output = StreamResult<T>>) -> StreamResult<T> {
    drive(clock, future).map_err(StreamError::Trap)?
}

impl sync::io::streams::HostInputStream for Guest {
    fn drop(&mut self, stream: Resource<DynInputStream>) -> wasmtime::Result<()> {
        let Guest { table, clock, .. } = self;
        drive(clock, asynchronous::streams::HostInputStream::drop(table, stream))?
    }

    fn read(&mut self, stream: Resource<DynInputStream>, length: u64) -> StreamResult<Vec<u8>> {
        asynchronous::streams::HostInputStream::read(&mut self.table, stream, length)
    }

    fn blocking_read(&mut self, stream: Resource<DynInputStream>, length: u64) -> StreamResult<Vec<u8>> {
        let Guest { table, clock, .. } = self;
        drive_stream(clock, asynchronous::streams::HostInputStream::blocking_read(table, stream, length))
    }

    fn skip(&mut self, stream: Resource<DynInputStream>, length: u64) -> StreamResult<u64> {
        asynchronous::streams::HostInputStream::skip(&mut self.table, stream, length)
    }

    fn blocking_skip(&mut self, stream: Resource<DynInputStream>, length: u64) -> StreamResult<u64> {
        let Guest { table, clock, .. } = self;
        drive_stream(clock, asynchronous::streams::HostInputStream::blocking_skip(table, stream, length))
    }

    fn subscribe(&mut self, stream: Resource<DynInputStream>) -> wasmtime::Result<Resource<DynPollable>> {
        asynchronous::streams::HostInputStream::subscribe(&mut self.table, stream)
    }
}

impl sync::io::streams::HostOutputStream for Guest {
    fn drop(&mut self, stream: Resource<DynOutputStream>) -> wasmtime::Result<()> {
        let Guest { table, clock, .. } = self;
        drive(clock, asynchronous::streams::HostOutputStream::drop(table, stream))?
    }

    fn check_write(&mut self, stream: Resource<DynOutputStream>) -> StreamResult<u64> {
        asynchronous::streams::HostOutputStream::check_write(&mut self.table, stream)
    }

    fn write(&mut self, stream: Resource<DynOutputStream>, bytes: Vec<u8>) -> StreamResult<()> {
        asynchronous::streams::HostOutputStream::write(&mut self.table, stream, bytes)
    }

    fn blocking_write_and_flush(&mut self, stream: Resource<DynOutputStream>, bytes: Vec<u8>) -> StreamResult<()> {
        let Guest { table, clock, .. } = self;
        drive_stream(clock, asynchronous::streams::HostOutputStream::blocking_write_and_flush(table, stream, bytes))
    }

    fn blocking_write_zeroes_and_flush(&mut self, stream: Resource<DynOutputStream>, length: u64) -> StreamResult<()> {
        let Guest { table, clock, .. } = self;
        let zeroes = asynchronous::streams::HostOutputStream::blocking_write_zeroes_and_flush(table, stream, length);
        drive_stream(clock, zeroes)
    }

    fn write_zeroes(&mut self, stream: Resource<DynOutputStream>, length: u64) -> StreamResult<()> {
        asynchronous::streams::HostOutputStream::write_zeroes(&mut self.table, stream, length)
    }

    fn flush(&mut self, stream: Resource<DynOutputStream>) -> StreamResult<()> {
        asynchronous::streams::HostOutputStream::flush(&mut self.table, stream)
    }

    fn blocking_flush(&mut self, stream: Resource<DynOutputStream>) -> StreamResult<()> {
        let Guest { table, clock, .. } = self;
        drive_stream(clock, asynchronous::streams::HostOutputStream::blocking_flush(table, stream))
    }

    fn splice(
        &mut self,
        target: Resource<DynOutputStream>,
        source: Resource<DynInputStream>,
        length: u64,
    ) -> StreamResult<u64> {
        asynchronous::streams::HostOutputStream::splice(&mut self.table, target, source, length)
    }

    fn blocking_splice(
        &mut self,
        target: Resource<DynOutputStream>,
        source: Resource<DynInputStream>,
        length: u64,
    ) -> StreamResult<u64> {
        let Guest { table, clock, .. } = self;
        drive_stream(clock, asynchronous::streams::HostOutputStream::blocking_splice(table, target, source, length))
    }

    fn subscribe(&mut self, stream: Resource<DynOutputStream>) -> wasmtime::Result<Resource<DynPollable>> {
        asynchronous::streams::HostOutputStream::subscribe(&mut self.table, stream)
    }
}

// The command line that there is none of.

/// The guest called exit. WASI 0.2 says only whether all was well; a number other than 0 is lost on the way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Exit {
    /// `exit(0)`.
    #[error("the guest called exit with success")]
    Success,
    /// Any other status.
    #[error("the guest called exit with failure")]
    Failure,
    /// By the newer function that carries the number.
    #[error("the guest called exit with status {0}")]
    Code(u8),
}

impl cli::exit::Host for Guest {
    fn exit(&mut self, status: Result<(), ()>) -> wasmtime::Result<()> {
        Err(if status.is_ok() { Exit::Success } else { Exit::Failure }.into())
    }

    fn exit_with_code(&mut self, status: u8) -> wasmtime::Result<()> {
        Err(Exit::Code(status).into())
    }
}

impl cli::environment::Host for Guest {
    fn get_environment(&mut self) -> wasmtime::Result<Vec<(String, String)>> {
        Ok(Vec::new())
    }

    fn get_arguments(&mut self) -> wasmtime::Result<Vec<String>> {
        Ok(Vec::new())
    }

    fn initial_cwd(&mut self) -> wasmtime::Result<Option<String>> {
        Ok(None)
    }
}

impl cli::stdin::Host for Guest {
    fn get_stdin(&mut self) -> wasmtime::Result<Resource<DynInputStream>> {
        let stream: DynInputStream = Box::new(ClosedInputStream);
        Ok(self.table.push(stream)?)
    }
}

impl cli::stdout::Host for Guest {
    fn get_stdout(&mut self) -> wasmtime::Result<Resource<DynOutputStream>> {
        self.log_stream()
    }
}

impl cli::stderr::Host for Guest {
    fn get_stderr(&mut self) -> wasmtime::Result<Resource<DynOutputStream>> {
        self.log_stream()
    }
}

impl Guest {
    fn log_stream(&mut self) -> wasmtime::Result<Resource<DynOutputStream>> {
        let stream: DynOutputStream = Box::new(LogStream(Arc::clone(&self.log)));
        Ok(self.table.push(stream)?)
    }
}

impl cli::terminal_input::Host for Guest {}

impl cli::terminal_input::HostTerminalInput for Guest {
    fn drop(&mut self, terminal: Resource<TerminalInput>) -> wasmtime::Result<()> {
        self.table.delete(terminal)?;
        Ok(())
    }
}

impl cli::terminal_output::Host for Guest {}

impl cli::terminal_output::HostTerminalOutput for Guest {
    fn drop(&mut self, terminal: Resource<TerminalOutput>) -> wasmtime::Result<()> {
        self.table.delete(terminal)?;
        Ok(())
    }
}

impl cli::terminal_stdin::Host for Guest {
    fn get_terminal_stdin(&mut self) -> wasmtime::Result<Option<Resource<TerminalInput>>> {
        Ok(None)
    }
}

impl cli::terminal_stdout::Host for Guest {
    fn get_terminal_stdout(&mut self) -> wasmtime::Result<Option<Resource<TerminalOutput>>> {
        Ok(None)
    }
}

impl cli::terminal_stderr::Host for Guest {
    fn get_terminal_stderr(&mut self) -> wasmtime::Result<Option<Resource<TerminalOutput>>> {
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STEP: Duration = Duration::from_millis(20);

    struct Nowhere;

    impl Log for Nowhere {
        fn write(&mut self, _: &[u8]) {}
    }

    fn guest() -> Guest {
        guest_with(Outside::default())
    }

    fn guest_with(outside: Outside) -> Guest {
        Guest::new(MemoryLimiter::new(0), key_create(&[0; 32], ""), outside, Box::new(Nowhere))
    }

    #[test]
    fn each_reading_adds_a_microsecond_to_both_clocks() {
        let mut guest = guest();
        assert_eq!(clocks::monotonic_clock::Host::now(&mut guest).expect("a time"), 0);
        let wall = clocks::wall_clock::Host::now(&mut guest).expect("a time");
        assert_eq!((wall.seconds, wall.nanoseconds), (WALL_CLOCK_START_SECONDS, 1_000));
        assert_eq!(clocks::monotonic_clock::Host::now(&mut guest).expect("a time"), 2_000);
    }

    #[test]
    fn a_step_begins_twenty_milliseconds_after_the_one_before_or_now() {
        let mut guest = guest();
        guest.clock.read();
        guest.begin_step(STEP);
        assert_eq!(guest.clock.now(), 1_000);
        guest.begin_step(STEP);
        assert_eq!(guest.clock.now(), 20_001_000);
        guest.clock.wait_until(90_000_000).expect("no wait");
        guest.begin_step(STEP);
        assert_eq!(guest.clock.now(), 90_000_000);
    }

    #[test]
    fn a_wait_jumps_to_its_timer_and_a_poll_to_the_earliest() {
        let mut guest = guest();
        let hour = 3_600_000_000_000;
        let late = clocks::monotonic_clock::Host::subscribe_duration(&mut guest, hour).expect("a timer");
        let soon = clocks::monotonic_clock::Host::subscribe_duration(&mut guest, 5_000).expect("a timer");
        let late_again = Resource::new_borrow(late.rep());
        assert_eq!(sync::io::poll::Host::poll(&mut guest, vec![late, soon]).expect("indices"), [1]);
        assert_eq!(guest.clock.now(), 5_000);
        sync::io::poll::HostPollable::block(&mut guest, late_again).expect("no trap");
        assert_eq!(guest.clock.now(), hour);
    }

    #[test]
    fn a_wait_that_nothing_ends_is_an_error() {
        let mut guest = guest();
        let never = clocks::monotonic_clock::Host::subscribe_instant(&mut guest, u64::MAX).expect("a timer");
        let error = sync::io::poll::HostPollable::block(&mut guest, never).expect_err("an error");
        assert!(error.to_string().contains("waits for nothing"), "{error}");
    }

    #[test]
    fn random_streams_are_pinned() {
        // Computed from the contract by other implementations of BLAKE3 and ChaCha12.
        let first = |key| Random::seeded(key).u64().expect("a draw");
        assert_eq!(first(key_create(&[7; 32], "{}")), 0xb9e8_f9e8_00e3_f22e);
        assert_eq!(first(key_reset(42)), 0xbb87_a03a_b5b1_a79b);
        assert_eq!(first(key_reseed(42)), 0x4b3c_c02c_5bfc_4830);
    }

    #[test]
    fn all_of_random_draws_from_one_stream_and_a_rewind_takes_draws_back() {
        let mut guest = guest();
        let mark = guest.mark();
        let drawn: Vec<u64> = (0..4).map(|_| guest.random.u64().expect("a draw")).collect();
        guest.rewind(&mark);
        assert_eq!(random::random::Host::get_random_u64(&mut guest).expect("a draw"), drawn[0]);
        let seed = random::insecure_seed::Host::insecure_seed(&mut guest).expect("a draw");
        assert_eq!(seed, (drawn[1], drawn[2]));
        let bytes = random::insecure::Host::get_insecure_random_bytes(&mut guest, 8).expect("a draw");
        assert_eq!(bytes, drawn[3].to_le_bytes());

        let mark = guest.mark();
        guest.rekey(key_reset(1));
        guest.clock.read();
        guest.rewind(&mark);
        assert_eq!(guest.mark(), mark);
    }

    #[test]
    fn a_request_for_too_much_randomness_is_an_error() {
        let mut guest = guest();
        assert!(random::random::Host::get_random_bytes(&mut guest, RANDOM_BYTES_MAX).is_ok());
        assert!(random::random::Host::get_random_bytes(&mut guest, RANDOM_BYTES_MAX + 1).is_err());
        assert!(random::random::Host::get_random_bytes(&mut guest, u64::MAX).is_err());
    }

    #[test]
    fn a_real_clock_is_the_machines_and_nobody_moves_it() {
        let mut guest = guest_with(Outside { real_clock: true, ..Outside::default() });
        let mark = guest.mark();
        let millis = 1_000_000;
        let timer = clocks::monotonic_clock::Host::subscribe_duration(&mut guest, 30 * millis).expect("a timer");
        let later = clocks::monotonic_clock::Host::subscribe_duration(&mut guest, 3_600_000 * millis).expect("a timer");
        let began = Instant::now();
        assert_eq!(sync::io::poll::Host::poll(&mut guest, vec![later, timer]).expect("indices"), [1]);
        assert!(began.elapsed() >= Duration::from_millis(25), "{:?}", began.elapsed());
        let now = clocks::monotonic_clock::Host::now(&mut guest).expect("a time");
        assert!((30 * millis..60_000 * millis).contains(&now), "{now}");

        guest.begin_step(Duration::from_secs(3_600));
        guest.begin_step(Duration::from_secs(3_600));
        guest.rewind(&mark);
        let after = clocks::monotonic_clock::Host::now(&mut guest).expect("a time");
        assert!((now..60_000 * millis).contains(&after), "{after}");
        assert_eq!(clocks::monotonic_clock::Host::resolution(&mut guest).expect("a time"), 1);
        let wall = clocks::wall_clock::Host::now(&mut guest).expect("a time");
        let machine = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("after 1970");
        assert!(wall.seconds.abs_diff(machine.as_secs()) < 60, "{wall:?}");

        let never = clocks::monotonic_clock::Host::subscribe_instant(&mut guest, u64::MAX).expect("a timer");
        let error = sync::io::poll::HostPollable::block(&mut guest, never).expect_err("an error");
        assert!(error.to_string().contains("waits for nothing"), "{error}");
    }

    #[test]
    fn real_randomness_knows_no_seed() {
        let mut guest = guest_with(Outside { real_random: true, ..Outside::default() });
        let draw = |guest: &mut Guest| random::random::Host::get_random_u64(guest).expect("a draw");
        let (mark, first) = (guest.mark(), draw(&mut guest));
        guest.rewind(&mark);
        let second = draw(&mut guest);
        guest.rekey(key_create(&[0; 32], ""));
        let third = draw(&mut guest);
        assert!(first != second && second != third && third != first);
        assert_ne!(third, Random::seeded(key_create(&[0; 32], "")).u64().expect("a draw"));
        let bytes = random::random::Host::get_random_bytes(&mut guest, RANDOM_BYTES_MAX).expect("bytes");
        assert!(bytes.iter().any(|&byte| byte != 0) && bytes.len() as u64 == RANDOM_BYTES_MAX);
        assert!(random::random::Host::get_random_bytes(&mut guest, RANDOM_BYTES_MAX + 1).is_err());
    }
}
