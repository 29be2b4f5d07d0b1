//! The guest's clocks, virtual unless the machine's clocks were granted, and waits on them.

use std::future::Future;
use std::os::fd::OwnedFd;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant, SystemTime};

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::thread::{ClockId, NanosleepRelativeResult};
use wasmtime::component::Resource;
use wasmtime_wasi::p2::bindings::{clocks, sync};
use wasmtime_wasi_io::async_trait;
use wasmtime_wasi_io::bindings::wasi::io as asynchronous;
use wasmtime_wasi_io::poll::{DynPollable, Pollable, subscribe};

use super::guest::Guest;
use crate::worker::wasi::capture::{self, Capture};

/// The time of the wall clock at the instance's start: 2000-01-01T00:00:00Z, in seconds since 1970.
pub(super) const WALL_CLOCK_START_SECONDS: u64 = 946_684_800;

/// The time that a reading adds to the clocks. Some guests would loop endlessly on a clock that stands still.
pub(super) const READING_NS: u64 = 1_000;

/// The resolution of the machine's clocks, as every Linux with high-resolution timers reports it. Asking would require
/// allowing a worker one more system call.
pub(super) const REAL_RESOLUTION_NS: u64 = 1;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ClockMark {
    now: u64,
    step_began: u64,
}

/// "No such instant" in clock time: 584 years after the start.
pub(super) const NEVER: u64 = u64::MAX;

/// Time of one instance, in nanoseconds since its start.
#[derive(Debug)]
pub(super) struct Clock {
    time: Time,
    /// The earliest deadline that the wait in progress has met; [`NEVER`] if none.
    wanted: AtomicU64,
    /// The descriptors that the wait in progress has met, and the events waited for. None in place of a descriptor: its input
    /// is served.
    descriptors: Mutex<Vec<(Option<Arc<OwnedFd>>, PollFlags)>>,
    capture: Capture,
    /// Whether the guest has asked for the time since [`Clock::forget_asking`].
    asked: AtomicBool,
}

/// The time source. Atomics are used only because pollables must be `Send`.
#[derive(Debug)]
pub(super) enum Time {
    /// Virtual time, which advances by readings, waits and steps.
    Virtual {
        now: AtomicU64,
        /// The time at which the latest step began; [`NEVER`] before the first.
        step_began: AtomicU64,
    },
    /// The machine's time, which the worker cannot set.
    Real { start: Instant },
}

impl Default for Time {
    fn default() -> Time {
        Time::Virtual { now: AtomicU64::new(0), step_began: AtomicU64::new(NEVER) }
    }
}

impl Time {
    pub(super) fn real() -> Time {
        Time::Real { start: Instant::now() }
    }
}

impl Clock {
    pub(super) fn of(time: Time, capture: Capture) -> Clock {
        Clock {
            time,
            wanted: AtomicU64::new(NEVER),
            descriptors: Mutex::default(),
            capture,
            asked: AtomicBool::new(false),
        }
    }

    /// Adds a descriptor that also ends the wait in progress when it is ready.
    pub(super) fn wait_for(&self, descriptor: Option<&Arc<OwnedFd>>, events: PollFlags) {
        self.descriptors.lock().unwrap_or_else(PoisonError::into_inner).push((descriptor.map(Arc::clone), events));
    }

    /// Waits in real time, until a descriptor is ready or the clock's distance to `due` has passed. In the second case a
    /// virtual clock advances by that distance; otherwise it stands still.
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
        let timed_out = self.capture.pass(capture::Input::Wait, &due.to_le_bytes(), poll, || Ok(false));
        if timed_out.map_err(wasmtime::Error::msg)?
            && let Time::Virtual { now, .. } = &self.time
        {
            now.store(due, Ordering::Relaxed);
        }
        Ok(())
    }

    pub(super) fn now(&self) -> u64 {
        self.asked.store(true, Ordering::Relaxed);
        match &self.time {
            Time::Virtual { now, .. } => now.load(Ordering::Relaxed),
            // The vDSO reads both clocks, without a system call, wherever the machine has a usable counter.
            Time::Real { start } => {
                let now = || u64::try_from(start.elapsed().as_nanos()).unwrap_or(NEVER);
                self.capture.pass(capture::Input::Clock, &[], now, || NEVER)
            }
        }
    }

    /// Reads the clock for the guest. A virtual clock then advances a little.
    pub(super) fn read(&self) -> u64 {
        let read = self.now();
        if let Time::Virtual { now, .. } = &self.time {
            now.store(read.saturating_add(READING_NS), Ordering::Relaxed);
        }
        read
    }

    /// Reads the wall clock, as time since 1970.
    fn read_wall(&self) -> Duration {
        match &self.time {
            Time::Virtual { .. } => Duration::from_secs(WALL_CLOCK_START_SECONDS) + Duration::from_nanos(self.read()),
            // The interface cannot express a time before 1970.
            Time::Real { .. } => {
                let now = || SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
                self.capture.pass(capture::Input::WallClock, &[], now, Duration::default)
            }
        }
    }

    fn resolution_ns(&self) -> u64 {
        match &self.time {
            Time::Virtual { .. } => READING_NS,
            Time::Real { .. } => REAL_RESOLUTION_NS,
        }
    }

    /// Begins to watch whether the guest asks for the time.
    pub(super) fn forget_asking(&self) {
        self.asked.store(false, Ordering::Relaxed);
    }

    pub(super) fn was_asked(&self) -> bool {
        self.asked.load(Ordering::Relaxed)
    }

    pub(super) fn begin_step(&self, clock_step_ns: u64) {
        let Time::Virtual { now, step_began } = &self.time else { return };
        let (at, before) = (now.load(Ordering::Relaxed), step_began.load(Ordering::Relaxed));
        let begin = if before == NEVER { at } else { at.max(before.saturating_add(clock_step_ns)) };
        now.store(begin, Ordering::Relaxed);
        step_began.store(begin, Ordering::Relaxed);
    }

    /// Lets the time until `due` pass: at once if the time is virtual, asleep if it is real, and then perhaps only in part.
    pub(super) fn wait_until(&self, due: u64) -> wasmtime::Result<()> {
        match &self.time {
            Time::Virtual { now, .. } => now.store(due, Ordering::Relaxed),
            // Served input needs no waiting.
            Time::Real { .. } if self.capture.is_served() => {}
            Time::Real { .. } => {
                let rest = Duration::from_nanos(due.saturating_sub(self.now()));
                // Called directly and not through std, which may choose among three system calls. The filter allows only this
                // one, clock_nanosleep(CLOCK_MONOTONIC, 0), and only to a worker with this grant. If a sleep is longer than
                // the call's deadline, the host ends the worker at the deadline.
                let sleep = rustix::thread::clock_nanosleep_relative(ClockId::Monotonic, &rest.try_into()?);
                if let NanosleepRelativeResult::Err(error) = sleep {
                    return Err(wasmtime::Error::msg(format!("the system does not sleep: {error}")));
                }
            }
        }
        Ok(())
    }

    pub(super) fn mark(&self) -> Option<ClockMark> {
        let Time::Virtual { now, step_began } = &self.time else { return None };
        Some(ClockMark { now: now.load(Ordering::Relaxed), step_began: step_began.load(Ordering::Relaxed) })
    }

    pub(super) fn rewind(&self, mark: &ClockMark) {
        if let Time::Virtual { now, step_began } = &self.time {
            now.store(mark.now, Ordering::Relaxed);
            step_began.store(mark.step_began, Ordering::Relaxed);
        }
    }
}

/// A timer: ready when the clock has reached its time. It is never ready if its time lies beyond the clock's range.
pub(super) struct Timer {
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
/// The function waits only for timers or descriptors. With timers alone, the clock jumps to the earliest timer that the
/// future has asked about, or a real clock is waited for. That makes the timer ready, so each round makes progress. With a
/// descriptor among them the wait is in real time, for the earliest timer's distance at most. A wait that nothing can end is
/// a trap.
pub(super) fn drive<F: Future>(clock: &Clock, future: F) -> wasmtime::Result<F::Output> {
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
        // A poll counts as a reading: otherwise a loop around an always ready stream would stop the clock.
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

pub(super) fn datetime(duration: Duration) -> clocks::wall_clock::Datetime {
    clocks::wall_clock::Datetime { seconds: duration.as_secs(), nanoseconds: duration.subsec_nanos() }
}

impl Guest {
    fn timer(&mut self, due: Option<u64>) -> wasmtime::Result<Resource<DynPollable>> {
        let timer = Timer { clock: Arc::clone(&self.clock), due: due.filter(|&due| due != NEVER) };
        let timer = self.table.push(timer)?;
        subscribe(&mut self.table, timer)
    }
}
