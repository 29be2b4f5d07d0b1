//! Workers that are killed and stopped at random while they play: no hang, no zombie, no lost env, nothing left in the host.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use rollcage::{Autoreset, Budget, Builder, FaultKind, Limits, VecEnv};
use rollcage_tests::{Process, alone, builder, discrete, eventually, fixture};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;

const ENVS: usize = 4;

/// Killed or stopped workers in all, over the three modes.
const ROUNDS: usize = 200;

/// What a stopped worker costs: long enough for a step and a reset on a busy machine.
const PATIENCE: Duration = Duration::from_millis(800);

/// The same throws in every run.
struct Dice(u64);

impl Dice {
    /// A number from 0 to `sides - 1`.
    fn throw(&mut self, sides: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % sides
    }
}

/// Echoes with short episodes and restarts without end.
fn echoes(mode: Autoreset) -> Builder {
    // Nor does it count that instances in a row come to nothing: strokes may meet one env three times before it has played.
    let restarts = Budget { in_window: 100_000, in_all: 100_000, window: Duration::from_millis(1) };
    // A worker that is stopped while it starts costs this much.
    let limits = Limits { restarts, start_timeout: 5 * PATIENCE, ..Limits::default().call_timeouts(PATIENCE) };
    builder(fixture("echo")).envs(ENVS).limits(limits).autoreset(mode).config(&json!({ "length": 5 })).unwrap()
}

/// What the process holds: descriptors, and mapped slabs.
fn held() -> (usize, usize) {
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
    let slabs = maps.lines().filter(|line| line.contains("rollcage-slab")).count();
    (std::fs::read_dir("/proc/self/fd").unwrap().count(), slabs)
}

/// One step of all envs, resetting ended ones where nobody else does. Every row is a fault's, a reset's, or answers its
/// action.
fn play(envs: &mut VecEnv, mode: Autoreset, action: i64) {
    if mode == Autoreset::Disabled {
        let last = envs.last();
        let mask: Vec<bool> = (0..ENVS).map(|row| last.terminated[row] || last.truncated[row]).collect();
        if mask.contains(&true) {
            let reset = rollcage::ResetSome { mask: Some(&mask), ..rollcage::ResetSome::default() };
            envs.reset_some(&reset).unwrap();
        }
    }
    let batch = envs.step(&discrete(&[action; ENVS])).unwrap();
    for row in 0..ENVS {
        let answered =
            i64::from_le_bytes(batch.final_observation(row).unwrap_or(batch.observation(row))[..8].try_into().unwrap());
        if let Some(fault) = &batch.faults[row] {
            // A stopped worker is a timeout, a killed one a signal, whenever it happened.
            let kinds =
                [FaultKind::Signalled, FaultKind::StepTimeout, FaultKind::ResetTimeout, FaultKind::StartTimeout];
            assert!(kinds.contains(&fault.kind), "{fault}");
        } else if batch.was_reset[row] {
            assert_eq!((answered, batch.rewards[row].to_bits()), (-1, 0));
        } else {
            assert_eq!(answered, action, "row {row}");
        }
    }
}

fn rounds(mode: Autoreset, rounds: usize, dice: &mut Dice) {
    let mut envs = echoes(mode).build().unwrap();
    envs.reset(None).unwrap();
    let mut action = 0;
    let mut round = 0;
    // Three timeouts in a row spend any budget, so no env is stopped twice in a row.
    let mut stopped = [false; ENVS];
    while round < rounds {
        action = (action + 1) % 1000;
        let env = usize::try_from(dice.throw(ENVS as u64)).unwrap();
        let stops = dice.throw(8) == 0 && !stopped[env];
        let delay = Duration::from_micros(dice.throw(1500));
        let Some(pid) = envs.pid(env) else {
            // It is down, or just dying: that shows in the next step.
            play(&mut envs, mode, action);
            continue;
        };
        stopped[env] = stops;
        let signal = if stops { Signal::STOP } else { Signal::KILL };
        // Another thread strikes while this one is in its step, or just before or after.
        let struck = Arc::new(AtomicBool::new(false));
        let done = Arc::clone(&struck);
        let striker = std::thread::spawn(move || {
            let began = Instant::now();
            while began.elapsed() < delay {
                std::hint::spin_loop();
            }
            // It may have died of an earlier stroke, and its id is not given away before it is reaped.
            let _ = kill_process(Pid::from_raw(pid.try_into().unwrap()).unwrap(), signal);
            done.store(true, Relaxed);
        });
        let began = Instant::now();
        while !struck.load(Relaxed) {
            play(&mut envs, mode, action);
        }
        striker.join().unwrap();
        assert!(began.elapsed() < 30 * PATIENCE, "round {round}: {:?}", began.elapsed());
        round += 1;
    }
    // Nobody is lost: what the last stroke left is told, and then all play on.
    for _ in 0..8 {
        action = (action + 1) % 1000;
        play(&mut envs, mode, action);
    }
    let before = envs.faults().total();
    for _ in 0..20 {
        action = (action + 1) % 1000;
        play(&mut envs, mode, action);
    }
    assert_eq!(envs.faults().total(), before);
    let restarts: u64 = (0..ENVS).map(|env| u64::from(envs.instance(env).unwrap())).sum();
    assert_eq!(restarts, envs.faults().total(), "an instance for each fault");
    // Two strokes may hit the same worker before it is noticed; most are faults of their own.
    assert!(restarts > rounds as u64 / 2, "{restarts} of {rounds}");
    let workers: Vec<Process> = (0..ENVS).map(|env| Process(envs.pid(env).unwrap())).collect();
    assert_eq!(Process(std::process::id()).envs(), sorted(&workers));
}

fn sorted(workers: &[Process]) -> Vec<Process> {
    let mut workers = workers.to_vec();
    workers.sort();
    workers
}

#[test]
fn random_kills_leave_nothing_behind() {
    // In a process of its own, since it counts what the process holds.
    alone("kills::random_kills_leave_nothing_behind", || {
        // The watcher thread and its descriptors come with the first worker, and stay.
        drop(echoes(Autoreset::NextStep).build().unwrap());
        eventually("the first workers are gone", 10, || Process(std::process::id()).children().is_empty());
        let before = held();
        assert_eq!(before.1, 0);
        let mut dice = Dice(0x5eed);
        let modes = [Autoreset::NextStep, Autoreset::SameStep, Autoreset::Disabled];
        for (index, mode) in modes.into_iter().enumerate() {
            rounds(mode, ROUNDS / 3 + usize::from(index < ROUNDS % 3), &mut dice);
        }
        // No child is left, neither dead nor alive, and no descriptor or mapping of any of them.
        eventually("no worker is left", 10, || Process(std::process::id()).children().is_empty());
        eventually("all is given back", 10, || held() == before);
    });
}
