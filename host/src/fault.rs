//! Faults: what can go wrong with an env, as data. They have kinds with stable names and numbers, the env and the time,
//! and the policies for them.
//!
//! Knows nothing of processes or wasm: `worker/` and `env/slot/` find faults, this file names them.

use std::collections::VecDeque;
use std::fmt;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

/// Bytes of a fault's message. A guest's error text is cut to this; the log tail has its own bound.
pub const MESSAGE_BYTES_MAX: usize = 4 * 1024;

/// Frames of a wasm backtrace that are kept with a fault, innermost first. Deep recursion repeats itself; 64 show the
/// pattern.
pub const BACKTRACE_FRAMES_MAX: usize = 64;

/// The kind of a fault. The names are stable (`--json`, Parquet, Python), and the numbers enter the digest; new kinds
/// are added only at the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum FaultKind {
    /// A wasm trap without a kind of its own; a Rust guest's panic or runaway recursion.
    Trap = 1,
    /// The step's fuel budget is used up.
    Fuel = 2,
    /// A trap in a call in which a growth beyond the limit was refused; a cap on handles, tables or host-call memory; a
    /// refusal by the operating system.
    Memory = 3,
    /// The native stack overflowed. Not portable: its depth differs between machines.
    StackOverflow = 4,
    /// The worker did not become ready in time.
    StartTimeout = 5,
    /// A reset did not answer in time.
    ResetTimeout = 6,
    /// A step did not answer in time.
    StepTimeout = 7,
    /// The guest called exit, or the worker ended.
    Exited = 8,
    /// The worker died by a signal that the host did not send. SIGSYS comes from the seccomp filter.
    Signalled = 9,
    /// What the worker wrote breaks the protocol of the slab or the control socket.
    Protocol = 10,
    /// The guest's own error `failed`.
    GuestFailed = 11,
    /// The guest's own error `restart`: a quiet request for a new instance.
    GuestRestart = 12,
    /// `create` failed, or returned a spec that breaks the interface or does not fit.
    CreateFailed = 13,
    /// The file or its description is unusable. Never in a digest.
    Compile = 14,
    /// The guest's answer does not fit its own spec; the worker found this before it wrote.
    BadAnswer = 15,
    /// A render, call, attribute, reseed or branch did not answer in time.
    CallTimeout = 16,
    /// The keeper of the env's ports and services ended: another process may have the ports by now.
    KeeperLost = 17,
    /// Another env that shares this one's worker ended it. This env is not to blame.
    Sibling = 18,
    /// The policy beside the env cannot go on, or ended the worker. The env is not to blame. Never in a digest.
    Policy = 19,
    /// The machine that the env ran on is gone, with all that its instance had done: of runs over several hosts. Never in a
    /// digest.
    NodeLost = 20,
}

impl FaultKind {
    /// The stable name: `step_timeout`.
    pub fn name(self) -> &'static str {
        match self {
            FaultKind::Trap => "trap",
            FaultKind::Fuel => "fuel",
            FaultKind::Memory => "memory",
            FaultKind::StackOverflow => "stack_overflow",
            FaultKind::StartTimeout => "start_timeout",
            FaultKind::ResetTimeout => "reset_timeout",
            FaultKind::StepTimeout => "step_timeout",
            FaultKind::Exited => "exited",
            FaultKind::Signalled => "signalled",
            FaultKind::Protocol => "protocol",
            FaultKind::GuestFailed => "guest_failed",
            FaultKind::GuestRestart => "guest_restart",
            FaultKind::CreateFailed => "create_failed",
            FaultKind::Compile => "compile",
            FaultKind::BadAnswer => "bad_answer",
            FaultKind::CallTimeout => "call_timeout",
            FaultKind::KeeperLost => "keeper_lost",
            FaultKind::Sibling => "sibling",
            FaultKind::Policy => "policy",
            FaultKind::NodeLost => "node_lost",
        }
    }

    /// Every kind, in the order of their numbers.
    pub const ALL: [FaultKind; 20] = [
        FaultKind::Trap,
        FaultKind::Fuel,
        FaultKind::Memory,
        FaultKind::StackOverflow,
        FaultKind::StartTimeout,
        FaultKind::ResetTimeout,
        FaultKind::StepTimeout,
        FaultKind::Exited,
        FaultKind::Signalled,
        FaultKind::Protocol,
        FaultKind::GuestFailed,
        FaultKind::GuestRestart,
        FaultKind::CreateFailed,
        FaultKind::Compile,
        FaultKind::BadAnswer,
        FaultKind::CallTimeout,
        FaultKind::KeeperLost,
        FaultKind::Sibling,
        FaultKind::Policy,
        FaultKind::NodeLost,
    ];

    /// The kind of a stable name.
    pub fn named(name: &str) -> Option<FaultKind> {
        FaultKind::ALL.into_iter().find(|kind| kind.name() == name)
    }

    /// Whether the same events lead to this fault again on any machine. The other kinds depend on time, on the
    /// machine's stack, or on a process that somebody killed.
    pub fn is_reproducible(self) -> bool {
        matches!(
            self,
            FaultKind::Trap
                | FaultKind::Fuel
                | FaultKind::Memory
                | FaultKind::GuestFailed
                | FaultKind::GuestRestart
                | FaultKind::CreateFailed
                | FaultKind::BadAnswer
        )
    }

    /// The number that enters the digest.
    pub fn number(self) -> u8 {
        self as u8
    }
}

impl fmt::Display for FaultKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A fault: which env, when, what and why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fault {
    /// The env's index.
    pub env: u32,
    /// The env's instance number: 0, then one more with every restart.
    pub instance: u32,
    /// The env's episode, from 0.
    pub episode: u64,
    /// The step of the episode that failed, from 0; in a reset or a start 0.
    pub step: u32,
    /// The kind of the fault.
    pub kind: FaultKind,
    /// What happened, in one or a few lines; at most [`MESSAGE_BYTES_MAX`]. It contains text of the guest: escape it
    /// before it reaches a terminal.
    pub message: String,
    /// The newest output of the guest; at most [`LOG_BYTES_MAX`](crate::process::child::LOG_BYTES_MAX).
    pub log: String,
    /// Bytes of older log that were dropped.
    pub log_dropped_bytes: u64,
    /// Wasm frames, innermost first; at most [`BACKTRACE_FRAMES_MAX`]. Only for a trap.
    pub backtrace: Vec<String>,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Fault { env, instance, episode, step, kind, message, .. } = self;
        write!(f, "env {env} (instance {instance}), episode {episode}, step {step}: {kind}: {message}")
    }
}

impl std::error::Error for Fault {}

/// The policy for faults.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OnFault {
    /// The episode is truncated, and a new instance is started within the budgets.
    #[default]
    Restart,
    /// The call fails, once the answers of all other envs are in.
    Raise,
    /// The episode is truncated, and the env is not stepped until it is reset.
    Mask,
}

/// How often an env may be restarted: within a window, and in total.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Budget {
    /// Restarts within [`Budget::window`].
    pub in_window: u32,
    /// The window's length.
    pub window: Duration,
    /// Restarts in all.
    pub in_all: u32,
}

impl Default for Budget {
    fn default() -> Budget {
        Budget { in_window: 10, window: Duration::from_secs(60), in_all: 100 }
    }
}

/// Fruitless instances of one env in a row after which its budget is spent. Each may take a whole timeout, so that the
/// number in a window would never be reached. If the third instance fails like the first two, the tenth would too.
pub const FRUITLESS_MAX: u32 = 3;

/// The restarts of one env, counted against a budget.
#[derive(Clone, Debug, Default)]
pub(crate) struct Restarts {
    recent: VecDeque<Instant>,
    total: u32,
    /// The number of fruitless instances in a row, and when the last of them ended.
    fruitless: Option<(u32, Instant)>,
}

impl Restarts {
    /// Notes that an instance has ended by a fault; `fruitless` if it achieved nothing before.
    pub(crate) fn note(&mut self, fruitless: bool, now: Instant) {
        let before = self.fruitless.map_or(0, |(count, _)| count);
        self.fruitless = fruitless.then_some((before.saturating_add(1), now));
    }

    /// Spends one restart.
    ///
    /// # Errors
    /// The limit of the budget that is used up.
    pub(crate) fn spend(&mut self, budget: &Budget, now: Instant) -> Result<(), String> {
        let Budget { in_window, window, in_all } = *budget;
        while self.recent.front().is_some_and(|then| now.duration_since(*then) >= window) {
            self.recent.pop_front();
        }
        if let Some((count @ FRUITLESS_MAX.., last)) = self.fruitless
            && now.duration_since(last) < window
        {
            return Err(format!("{count} instances in a row came to nothing"));
        }
        if self.total >= in_all || self.recent.len() >= in_window as usize {
            return Err(format!("{in_window} in {} s, {in_all} in all", window.as_secs()));
        }
        self.recent.push_back(now);
        self.total += 1;
        Ok(())
    }
}

/// Faults of a whole run, in the order in which they were found: the first ones in full, the others counted.
#[derive(Clone, Debug, Default)]
pub struct FaultLog {
    first: Vec<Fault>,
    total: u64,
}

/// Faults of a run that are kept in full. Otherwise the faults of an env that never works would fill memory. The count
/// goes on.
pub const FAULTS_KEPT_MAX: usize = 1_000;

impl FaultLog {
    pub(crate) fn push(&mut self, mut fault: Fault) {
        self.total += 1;
        if self.first.len() < FAULTS_KEPT_MAX {
            if self.first.len() >= 16 {
                // Nobody reads more than sixteen logs of 64 KiB.
                fault.log = String::new();
            }
            self.first.push(fault);
        }
    }

    /// The first faults, at most [`FAULTS_KEPT_MAX`]; the log tail of the first sixteen.
    pub fn first(&self) -> &[Fault] {
        &self.first
    }

    /// The number of all faults.
    pub fn total(&self) -> u64 {
        self.total
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_names_are_those_of_the_contract() {
        let all = [
            (FaultKind::Trap, 1, "trap"),
            (FaultKind::Fuel, 2, "fuel"),
            (FaultKind::Memory, 3, "memory"),
            (FaultKind::StackOverflow, 4, "stack_overflow"),
            (FaultKind::StartTimeout, 5, "start_timeout"),
            (FaultKind::ResetTimeout, 6, "reset_timeout"),
            (FaultKind::StepTimeout, 7, "step_timeout"),
            (FaultKind::Exited, 8, "exited"),
            (FaultKind::Signalled, 9, "signalled"),
            (FaultKind::Protocol, 10, "protocol"),
            (FaultKind::GuestFailed, 11, "guest_failed"),
            (FaultKind::GuestRestart, 12, "guest_restart"),
            (FaultKind::CreateFailed, 13, "create_failed"),
            (FaultKind::Compile, 14, "compile"),
            (FaultKind::BadAnswer, 15, "bad_answer"),
            (FaultKind::CallTimeout, 16, "call_timeout"),
            (FaultKind::KeeperLost, 17, "keeper_lost"),
            (FaultKind::Sibling, 18, "sibling"),
            (FaultKind::Policy, 19, "policy"),
            (FaultKind::NodeLost, 20, "node_lost"),
        ];
        for (kind, number, name) in all {
            assert_eq!((kind.number(), kind.name()), (number, name));
            assert_eq!(serde_json::to_value(kind).ok(), Some(name.into()));
        }
    }

    #[test]
    fn both_budgets_bind() {
        let budget = Budget { in_window: 2, window: Duration::from_secs(10), in_all: 3 };
        let mut restarts = Restarts::default();
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let spent: Vec<bool> =
            [0, 1, 2, 10, 30].into_iter().map(|seconds| restarts.spend(&budget, at(seconds)).is_ok()).collect();
        assert_eq!(spent, [true, true, false, true, false]);
    }

    #[test]
    fn three_in_a_row_that_come_to_nothing_spend_it_however_long_they_take() {
        let budget = Budget { in_window: 10, window: Duration::from_secs(60), in_all: 100 };
        let mut restarts = Restarts::default();
        let start = Instant::now();
        let mut end = |fruitless, seconds| {
            let now = start + Duration::from_secs(seconds);
            restarts.note(fruitless, now);
            restarts.spend(&budget, now).is_ok()
        };
        // An hour each. An instance that is not fruitless ends the series.
        let ends = [true, true, false, true, true, true].into_iter().zip((0..).step_by(3600));
        assert_eq!(
            ends.map(|(fruitless, at)| end(fruitless, at)).collect::<Vec<_>>(),
            [true, true, true, true, true, false]
        );
        // Later one more restart may be tried, and only one.
        let spent = |at: u64, restarts: &mut Restarts| restarts.spend(&budget, start + Duration::from_secs(at));
        assert_eq!(spent(5 * 3600 + 59, &mut restarts), Err("3 instances in a row came to nothing".to_owned()));
        assert_eq!(spent(5 * 3600 + 60, &mut restarts), Ok(()));
        restarts.note(true, start + Duration::from_secs(6 * 3600));
        assert_eq!(spent(6 * 3600, &mut restarts), Err("4 instances in a row came to nothing".to_owned()));
    }
}
