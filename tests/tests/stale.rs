//! Stale answers: a call that was interrupted or timed out, then further calls of every kind, in every mode. Each answer
//! belongs to its action, however late it comes; what is under way is finished first, or ended at its deadline.
//!
//! A worker is made slow by stopping it, so that nothing here depends on how fast the machine is.

use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use rollcage::{Autoreset, Batch, Error, FaultKind, Limits, ResetSome, UsageError, UsageKind, VecEnv};
use rollcage_tests::{Process, builder, discrete, eventually, fixture};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;

const MODES: [Autoreset; 3] = [Autoreset::NextStep, Autoreset::SameStep, Autoreset::Disabled];

const ENVS: usize = 3;

/// The env whose worker is stopped.
const SLOW: usize = 1;

/// Three echoes, reset; episodes of `length` steps.
fn echoes(mode: Autoreset, length: i64) -> Echoes {
    let limits = Limits::default().call_timeouts(Duration::from_secs(60));
    let config = json!({ "length": length });
    let builder = builder(fixture("echo")).envs(ENVS).seed(10).limits(limits).autoreset(mode);
    let mut envs = builder.config(&config).unwrap().build().unwrap();
    envs.reset(None).unwrap();
    Echoes { envs, next: 0 }
}

struct Echoes {
    envs: VecEnv,
    /// The last action given out: no two are the same.
    next: i64,
}

/// What an echo's observation says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Echo {
    /// -1 after a reset.
    action: i64,
    total: i64,
    episode: i64,
    step: i64,
}

fn echo(observation: &[u8]) -> Echo {
    let numbers: Vec<i64> = observation.chunks(8).map(|bytes| i64::from_le_bytes(bytes.try_into().unwrap())).collect();
    Echo { action: numbers[0], total: numbers[1], episode: numbers[2], step: numbers[3] }
}

impl Echoes {
    fn signal(&self, signal: Signal) {
        let pid = self.envs.pid(SLOW).unwrap();
        kill_process(Pid::from_raw(pid.try_into().unwrap()).unwrap(), signal).unwrap();
        if signal == Signal::STOP {
            eventually("the worker stands still", 5, || Process(pid).state() == Some('T'));
        }
    }

    /// `count` actions that were never used before.
    fn fresh(&mut self, count: usize) -> Vec<i64> {
        let actions = (self.next + 1..).take(count).collect();
        self.next += i64::try_from(count).unwrap();
        actions
    }

    fn seen(&self, env: usize) -> Echo {
        echo(self.envs.last().observation(env))
    }

    /// Makes a call that is interrupted since the worker of env 1 stands still.
    fn interrupt(&mut self, call: impl FnOnce(&mut VecEnv) -> Result<(), Error>) {
        self.signal(Signal::STOP);
        let flag = self.envs.interrupt_flag();
        let raised = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(30));
            flag.store(true, Relaxed);
        });
        let began = Instant::now();
        let interrupted = call(&mut self.envs);
        assert!(matches!(interrupted, Err(Error::Interrupted)), "{interrupted:?}");
        assert!(began.elapsed() < Duration::from_secs(10));
        raised.join().unwrap();
        assert!(self.envs.is_busy(SLOW));
        self.envs.interrupt_flag().store(false, Relaxed);
    }

    /// Steps all envs; each answers this call's action, after `total` steps in all.
    fn step_answers_itself(&mut self, total: [i64; ENVS]) {
        let actions = self.fresh(ENVS);
        let batch = self.envs.step(&discrete(&actions)).unwrap().clone();
        answers(&batch, &actions, total);
    }
}

/// Row *i* answers action *i*, and is its env's step number `total[i]`.
fn answers(batch: &Batch, actions: &[i64], total: [i64; ENVS]) {
    for (row, action) in actions.iter().enumerate() {
        let seen = echo(batch.observation(row));
        assert_eq!((seen.action, seen.total), (*action, total[row]), "row {row}");
        #[expect(clippy::cast_precision_loss, reason = "actions are below 1000")]
        let reward = *action as f64;
        assert_eq!(batch.rewards[row].to_bits(), reward.to_bits(), "row {row}");
        assert!(batch.faults[row].is_none() && !batch.was_reset[row], "row {row}");
    }
}

/// What may follow an interrupted call, each returning answers of its own.
#[derive(Clone, Copy, Debug)]
enum After {
    Step,
    StepSome,
    Reset,
    StepMany,
    SendRecv,
    Call,
}

const AFTER: [After; 6] = [After::Step, After::StepSome, After::Reset, After::StepMany, After::SendRecv, After::Call];

/// Makes the call, whose first step is number `total + 1` of each env, and checks that it returns its own answers.
fn follow_up(echoes: &mut Echoes, after: After, total: [i64; ENVS]) {
    let one_more = total.map(|steps| steps + 1);
    let mut now = one_more;
    match after {
        After::Step => echoes.step_answers_itself(one_more),
        After::StepSome => {
            let actions = echoes.fresh(1);
            let batch = echoes.envs.step_some(&discrete(&actions), &[SLOW]).unwrap().clone();
            let seen = echo(batch.observation(SLOW));
            assert_eq!((seen.action, seen.total), (actions[0], one_more[SLOW]));
            now = total;
            now[SLOW] += 1;
        }
        After::Reset => {
            let batch = echoes.envs.reset(None).unwrap().clone();
            for (row, total) in total.into_iter().enumerate() {
                let seen = echo(batch.observation(row));
                assert_eq!((seen.action, seen.total, seen.step), (-1, total, 0));
                assert!(batch.was_reset[row]);
            }
            now = total;
        }
        After::StepMany => {
            let actions = echoes.fresh(5);
            let steps = echoes.envs.step_many(SLOW, &discrete(&actions)).unwrap();
            assert_eq!(steps.taken, 5);
            for (index, (observation, action)) in steps.observations.chunks(40).zip(&actions).enumerate() {
                let seen = echo(observation);
                let number = total[SLOW] + 1 + i64::try_from(index).unwrap();
                assert_eq!((seen.action, seen.total), (*action, number));
            }
            now = total;
            now[SLOW] += 5;
        }
        After::SendRecv => {
            let actions = echoes.fresh(ENVS);
            echoes.envs.send(&discrete(&actions), &[0, 1, 2]).unwrap();
            let (ids, batch) = echoes.envs.recv(ENVS, None).unwrap();
            assert_eq!(ids, [0, 1, 2]);
            answers(&batch, &actions, one_more);
        }
        After::Call => {
            // The env has no such method: it answers, and the answer is this call's.
            let error = echoes.envs.call(SLOW, "nothing-like-it", &json!({})).unwrap_err();
            assert!(matches!(&error, Error::Usage(_)), "{error:?}");
            now = total;
        }
    }
    echoes.step_answers_itself(now.map(|steps| steps + 1));
    assert_eq!(echoes.envs.faults().total(), 0);
    assert_eq!(echoes.envs.instance(SLOW), Some(0));
}

// ── Interrupted, then finished ──────────────────────────────────────────────────────────────────────────────────────

#[test]
fn after_an_interrupted_step_each_answer_belongs_to_its_action() {
    for (mode, after) in MODES.iter().flat_map(|mode| AFTER.map(|after| (*mode, after))) {
        let mut echoes = echoes(mode, -1);
        let actions = echoes.fresh(ENVS);
        echoes.interrupt(|envs| envs.step(&discrete(&actions)).map(drop));
        echoes.signal(Signal::CONT);
        // The interrupted step was taken by every env.
        follow_up(&mut echoes, after, [1; ENVS]);
    }
}

#[test]
fn after_an_interrupted_reset_each_answer_belongs_to_its_action() {
    for (mode, after) in MODES.iter().flat_map(|mode| AFTER.map(|after| (*mode, after))) {
        let mut echoes = echoes(mode, -1);
        echoes.step_answers_itself([1; ENVS]);
        echoes.interrupt(|envs| envs.reset(Some(5)).map(drop));
        echoes.signal(Signal::CONT);
        follow_up(&mut echoes, after, [1; ENVS]);
        // It was reset, from that seed, and by nobody else.
        let episode = if matches!(after, After::Reset) { 2 } else { 1 };
        assert_eq!(echoes.seen(SLOW).episode, episode, "{mode:?}, {after:?}");
    }
}

#[test]
fn after_an_interrupted_batch_each_answer_belongs_to_its_action() {
    for (mode, after) in MODES.iter().flat_map(|mode| AFTER.map(|after| (*mode, after))) {
        let mut echoes = echoes(mode, -1);
        let actions = echoes.fresh(7);
        echoes.interrupt(|envs| envs.step_many(SLOW, &discrete(&actions)).map(drop));
        echoes.signal(Signal::CONT);
        follow_up(&mut echoes, after, [0, 7, 0]);
    }
}

#[test]
fn after_a_recv_that_timed_out_each_answer_belongs_to_its_action() {
    for mode in MODES {
        for again in 0..3 {
            let mut echoes = echoes(mode, -1);
            let actions = echoes.fresh(ENVS);
            echoes.signal(Signal::STOP);
            echoes.envs.send(&discrete(&actions), &[0, 1, 2]).unwrap();
            let actions_of_slow = actions[SLOW];
            let (ids, batch) = echoes.envs.recv(ENVS, Some(Duration::from_secs(1))).unwrap();
            assert_eq!(ids, [0, 2]);
            let seen: Vec<i64> = (0..2).map(|row| echo(batch.observation(row)).action).collect();
            assert_eq!(seen, [actions[0], actions[2]]);
            // The others go on meanwhile.
            let more = echoes.fresh(2);
            echoes.envs.send(&discrete(&more), &[0, 2]).unwrap();
            let (ids, batch) = echoes.envs.recv(2, None).unwrap();
            assert_eq!(ids, [0, 2]);
            assert_eq!((0..2).map(|row| echo(batch.observation(row)).action).collect::<Vec<_>>(), more);
            // Who is in flight takes no further action; nothing is sent then.
            let error = echoes.envs.send(&discrete(&echoes_two()), &[0, SLOW]).unwrap_err();
            let Error::Usage(error) = error else { panic!("{error:?}") };
            assert!(error.message.contains("env 1 is in flight"), "{error}");
            assert!(matches!(echoes.envs.render(SLOW, rollcage::RenderMode::Ansi), Err(Error::Usage(_))));
            assert!(!echoes.envs.is_busy(0));
            echoes.signal(Signal::CONT);
            match again {
                // Its answer is still its action's.
                0 => {
                    let (ids, batch) = echoes.envs.recv(1, None).unwrap();
                    assert_eq!((ids, batch.len()), (vec![SLOW], 1));
                    let seen = echo(batch.observation(0));
                    assert_eq!((seen.action, seen.total), (actions[SLOW], 1));
                    let nothing = echoes.envs.recv(1, Some(Duration::from_secs(1))).unwrap();
                    assert!(nothing.0.is_empty() && nothing.1.is_empty());
                    follow_up(&mut echoes, After::SendRecv, [2, 1, 2]);
                }
                // A step of all would lose it.
                1 => {
                    let actions = discrete(&echoes.fresh(ENVS));
                    let refused = usage(echoes.envs.step(&actions));
                    assert_eq!((refused.kind, &*refused.message), (UsageKind::AlreadyPending, "env 1 is in flight"));
                    let refused = usage(echoes.envs.step_many(SLOW, &discrete(&[1, 2])));
                    assert_eq!(refused.kind, UsageKind::AlreadyPending);
                    // Others may be stepped and reset: it stays in flight, and its answer its own.
                    let others = ResetSome { mask: Some(&[true, false, true]), ..ResetSome::default() };
                    echoes.envs.reset_some(&others).unwrap();
                    let more = echoes.fresh(2);
                    echoes.envs.step_some(&discrete(&more), &[0, 2]).unwrap();
                    let (ids, batch) = echoes.envs.recv(1, None).unwrap();
                    assert_eq!((ids, echo(batch.observation(0)).action), (vec![SLOW], actions_of_slow));
                    follow_up(&mut echoes, After::Step, [3, 1, 3]);
                }
                // A reset gives it up.
                _ => follow_up(&mut echoes, After::Reset, [2, 1, 2]),
            }
        }
    }
}

fn usage<T: std::fmt::Debug>(result: Result<T, Error>) -> UsageError {
    match result {
        Err(Error::Usage(error)) => error,
        other => panic!("{other:?}"),
    }
}

fn echoes_two() -> [i64; 2] {
    [998, 999]
}

#[test]
fn an_interrupted_recv_loses_nothing() {
    let mut echoes = echoes(Autoreset::NextStep, -1);
    let actions = echoes.fresh(ENVS);
    echoes.interrupt(|envs| {
        envs.send(&discrete(&actions), &[0, 1, 2])?;
        envs.recv(ENVS, None).map(drop)
    });
    echoes.signal(Signal::CONT);
    let (ids, batch) = echoes.envs.recv(ENVS, None).unwrap();
    assert_eq!(ids, [0, 1, 2]);
    answers(&batch, &actions, [1; ENVS]);
    follow_up(&mut echoes, After::SendRecv, [1; ENVS]);
}

#[test]
fn interrupted_again_and_again_a_step_is_taken_once() {
    let mut echoes = echoes(Autoreset::NextStep, -1);
    let actions = echoes.fresh(ENVS);
    echoes.interrupt(|envs| envs.step(&discrete(&actions)).map(drop));
    for _ in 0..3 {
        // What is asked while the first step is still under way is never sent.
        let actions = echoes.fresh(ENVS);
        echoes.interrupt(|envs| envs.step(&discrete(&actions)).map(drop));
        let actions = echoes.fresh(2);
        echoes.interrupt(|envs| envs.step_many(SLOW, &discrete(&actions)).map(drop));
        echoes.interrupt(|envs| envs.reset(None).map(drop));
        echoes.interrupt(|envs| envs.call(SLOW, "any", &json!({})).map(drop));
    }
    echoes.signal(Signal::CONT);
    follow_up(&mut echoes, After::Step, [1; ENVS]);
    assert_eq!(echoes.seen(SLOW).episode, 0);
}

// ── Where an episode ends meanwhile ─────────────────────────────────────────────────────────────────────────────────

#[test]
fn an_interrupted_step_that_ends_an_episode_is_followed_as_its_mode_says() {
    for mode in MODES {
        let mut echoes = echoes(mode, 2);
        echoes.step_answers_itself([1; ENVS]);
        let actions = echoes.fresh(ENVS);
        echoes.interrupt(|envs| envs.step(&discrete(&actions)).map(drop));
        echoes.signal(Signal::CONT);
        let actions = echoes.fresh(ENVS);
        match mode {
            Autoreset::NextStep => {
                // This step resets, whatever its actions.
                let batch = echoes.envs.step(&discrete(&actions)).unwrap();
                assert_eq!(batch.was_reset, [true; ENVS]);
                assert!((0..ENVS).all(|row| echo(batch.observation(row)).action == -1));
            }
            Autoreset::SameStep => {
                // The reset was part of the interrupted step.
                let batch = echoes.envs.step(&discrete(&actions)).unwrap().clone();
                answers(&batch, &actions, [3; ENVS]);
                assert!((0..ENVS).all(|row| echo(batch.observation(row)).step == 1));
                continue;
            }
            Autoreset::Disabled => {
                assert!(matches!(echoes.envs.step(&discrete(&actions)), Err(Error::Usage(_))));
                echoes.envs.reset(None).unwrap();
            }
        }
        echoes.step_answers_itself([3; ENVS]);
        assert!((0..ENVS).all(|env| echoes.seen(env).episode == 1));
    }
}

// ── Past the deadline ───────────────────────────────────────────────────────────────────────────────────────────────

/// One env of three never answers its third step, and has a second for it.
fn hanging(mode: Autoreset) -> Echoes {
    let limits = Limits::default().call_timeouts(Duration::from_secs(1));
    let builder = builder(fixture("echo")).envs(ENVS).limits(limits).autoreset(mode);
    let config = |index| json!({ "hang_at": if index == SLOW { 2 } else { -1 } });
    let mut envs = builder.config_with(config).build().unwrap();
    envs.reset(None).unwrap();
    let mut echoes = Echoes { envs, next: 0 };
    echoes.step_answers_itself([1; ENVS]);
    echoes.step_answers_itself([2; ENVS]);
    echoes
}

#[test]
fn an_interrupted_env_that_hangs_is_restarted_at_its_deadline() {
    for mode in MODES {
        for past in [false, true] {
            let mut echoes = hanging(mode);
            let actions = echoes.fresh(ENVS);
            let flag = echoes.envs.interrupt_flag();
            flag.store(true, Relaxed);
            let interrupted = echoes.envs.step(&discrete(&actions)).map(drop);
            assert!(matches!(interrupted, Err(Error::Interrupted)), "{interrupted:?}");
            flag.store(false, Relaxed);
            if past {
                std::thread::sleep(Duration::from_millis(1500));
            }
            // The next call finishes it first: the deadline is that of the interrupted step.
            let began = Instant::now();
            let actions = echoes.fresh(ENVS);
            let stepped = echoes.envs.step(&discrete(&actions)).cloned();
            assert!(began.elapsed() < Duration::from_secs(10));
            let faults = echoes.envs.faults();
            assert_eq!((faults.total(), faults.first()[0].kind), (1, FaultKind::StepTimeout), "{mode:?}");
            assert_eq!((faults.first()[0].env, faults.first()[0].step), (1, 2));
            match mode {
                Autoreset::NextStep => {
                    let batch = stepped.unwrap();
                    assert!(batch.was_reset[SLOW]);
                    assert_eq!(echo(batch.observation(SLOW)).action, -1);
                    assert_eq!([0, 2].map(|row| echo(batch.observation(row)).action), [actions[0], actions[2]]);
                    echoes.step_answers_itself([5, 1, 5]);
                }
                Autoreset::SameStep => {
                    answers(&stepped.unwrap(), &actions, [4, 1, 4]);
                    echoes.step_answers_itself([5, 2, 5]);
                }
                Autoreset::Disabled => {
                    let Err(Error::Usage(error)) = stepped else { panic!("{stepped:?}") };
                    assert!(error.message.contains("env 1"), "{error}");
                    let mask = [false, true, false];
                    echoes.envs.reset_some(&ResetSome { mask: Some(&mask), ..ResetSome::default() }).unwrap();
                    echoes.step_answers_itself([4, 1, 4]);
                }
            }
            assert_eq!(echoes.envs.instance(SLOW), Some(1), "{mode:?}");
        }
    }
}

#[test]
fn an_answer_that_came_while_the_host_slept_is_no_timeout() {
    // The deadline passes while nobody looks, and so does the answer: the env is not to blame.
    let limits = Limits::default().call_timeouts(Duration::from_millis(500));
    let mut envs = builder(fixture("echo")).limits(limits).build().unwrap();
    envs.reset(None).unwrap();
    for action in 1..=3 {
        envs.send(&discrete(&[action]), &[0]).unwrap();
        std::thread::sleep(Duration::from_millis(1200));
        let (ids, batch) = envs.recv(1, None).unwrap();
        assert_eq!((ids, echo(batch.observation(0)).action), (vec![0], action));
    }
    assert_eq!(envs.faults().total(), 0);
}

#[test]
fn an_env_in_flight_that_hangs_is_received_with_its_fault() {
    for mode in MODES {
        let mut echoes = hanging(mode);
        let actions = echoes.fresh(ENVS);
        echoes.envs.send(&discrete(&actions), &[0, 1, 2]).unwrap();
        let (mut got, mut fault) = (Vec::new(), None);
        let began = Instant::now();
        while got.len() < ENVS {
            assert!(began.elapsed() < Duration::from_secs(20), "only {got:?}");
            let (ids, batch) = echoes.envs.recv(1, Some(Duration::from_millis(100))).unwrap();
            for (row, id) in ids.into_iter().enumerate() {
                if id == SLOW {
                    fault.clone_from(&batch.faults[row]);
                    assert_eq!((batch.rewards[row], batch.truncated[row]), (0.0, true));
                } else {
                    assert_eq!(echo(batch.observation(row)).action, actions[id]);
                }
                got.push(id);
            }
        }
        let fault = fault.unwrap();
        assert_eq!((fault.kind, fault.step), (FaultKind::StepTimeout, 2), "{mode:?}");
    }
}

/// An env whose worker can be stopped while a call is under way.
fn attributes() -> VecEnv {
    let limits = Limits::default().call_timeouts(Duration::from_secs(60));
    let mut envs = builder(fixture("attributes")).seed(4).limits(limits).build().unwrap();
    envs.reset(None).unwrap();
    envs
}

#[test]
fn an_interrupted_call_is_finished_by_the_next_and_enters_the_digest() {
    let level = json!(7);
    let (mut envs, mut other) = (attributes(), attributes());
    let pid = Pid::from_raw(envs.pid(0).unwrap().try_into().unwrap()).unwrap();
    kill_process(pid, Signal::STOP).unwrap();
    // Whoever handles signals elsewhere is asked while the call waits, and not once only.
    let began = Instant::now();
    let mut asked = 0;
    envs.interrupt_when(move || {
        asked += 1;
        asked == 3
    });
    let interrupted = envs.set_attribute(0, "level", &level);
    assert!(matches!(interrupted, Err(Error::Interrupted)), "{interrupted:?}");
    assert!(began.elapsed() < Duration::from_secs(10) && envs.is_busy(0));
    kill_process(pid, Signal::CONT).unwrap();
    // The answer was nobody's, and what it set is set: in the env, and in the digest.
    assert_eq!(envs.get_attribute(0, "level").unwrap(), level);
    other.set_attribute(0, "level", &level).unwrap();
    assert_eq!(envs.digest(), other.digest());
    let action = discrete(&[1]);
    assert_eq!(envs.step(&action).unwrap(), other.step(&action).unwrap());
    assert_eq!(envs.digest(), other.digest());
    assert_eq!(envs.faults().total(), 0);
}

#[test]
fn an_interrupted_call_that_never_answers_is_a_fault_of_the_next_step() {
    let mut envs = attributes();
    let pid = Pid::from_raw(envs.pid(0).unwrap().try_into().unwrap()).unwrap();
    kill_process(pid, Signal::STOP).unwrap();
    let flag = envs.interrupt_flag();
    flag.store(true, Relaxed);
    let interrupted = envs.get_attribute(0, "level");
    assert!(matches!(interrupted, Err(Error::Interrupted)), "{interrupted:?}");
    flag.store(false, Relaxed);
    kill_process(pid, Signal::KILL).unwrap();
    let batch = envs.step(&discrete(&[1])).unwrap();
    assert_eq!(batch.faults[0].as_ref().map(|fault| fault.kind), Some(FaultKind::Signalled));
    assert!(batch.truncated[0]);
    assert!(envs.step(&discrete(&[1])).unwrap().was_reset[0]);
}

#[test]
fn the_two_halves_of_a_step() {
    let mut echoes = echoes(Autoreset::NextStep, -1);
    let actions = echoes.fresh(ENVS);
    echoes.envs.step_async(&discrete(&actions)).unwrap();
    assert!((0..ENVS).all(|env| echoes.envs.is_busy(env)));
    answers(&echoes.envs.step_wait().unwrap().clone(), &actions, [1; ENVS]);
    // An interrupted wait may be taken up again.
    let actions = echoes.fresh(ENVS);
    echoes.signal(Signal::STOP);
    echoes.envs.step_async(&discrete(&actions)).unwrap();
    echoes.interrupt(|envs| envs.step_wait().map(drop));
    echoes.signal(Signal::CONT);
    answers(&echoes.envs.step_wait().unwrap().clone(), &actions, [2; ENVS]);
    // And it need not be.
    let actions = echoes.fresh(ENVS);
    echoes.signal(Signal::STOP);
    echoes.envs.step_async(&discrete(&actions)).unwrap();
    echoes.interrupt(|envs| envs.step_wait().map(drop));
    echoes.signal(Signal::CONT);
    echoes.step_answers_itself([4; ENVS]);
}

#[test]
fn a_wait_without_a_step_does_not_return_the_last_answer_again() {
    let mut echoes = echoes(Autoreset::NextStep, -1);
    assert_eq!(usage(echoes.envs.step_wait()).kind, UsageKind::NoAsyncCall);
    let actions = discrete(&echoes.fresh(ENVS));
    echoes.envs.step_async(&actions).unwrap();
    echoes.envs.step_wait().unwrap();
    assert_eq!(usage(echoes.envs.step_wait()).kind, UsageKind::NoAsyncCall);
    // Neither did refused actions begin one.
    usage(echoes.envs.step_async(&discrete(&[-1, 0, 0])));
    assert_eq!(usage(echoes.envs.step_wait()).kind, UsageKind::NoAsyncCall);
    echoes.step_answers_itself([2; ENVS]);
}

#[test]
fn a_second_step_async_does_not_drop_the_first_ones_answers() {
    let mut echoes = echoes(Autoreset::NextStep, -1);
    let snapshot = echoes.envs.snapshot(0).unwrap();
    let actions = echoes.fresh(ENVS);
    echoes.envs.step_async(&discrete(&actions)).unwrap();
    let other = discrete(&echoes.fresh(ENVS));
    let envs = &mut echoes.envs;
    let refused = [
        usage(envs.step_async(&other)),
        usage(envs.step(&other)),
        usage(envs.step_some(&other[..8], &[2])),
        usage(envs.step_many(2, &other)),
        usage(envs.send(&other[..8], &[2])),
        usage(envs.reset_some(&ResetSome { mask: Some(&[true, true, false]), ..ResetSome::default() })),
        usage(envs.write_back(0, &[2])),
        usage(envs.restore(2, &snapshot)),
    ];
    for error in refused {
        assert_eq!(error.kind, UsageKind::AlreadyPending, "{error}");
    }
    // What loses nothing may be asked meanwhile.
    usage(envs.call(SLOW, "nothing-like-it", &json!({})));
    assert!(envs.recv(1, None).unwrap().0.is_empty());
    answers(&envs.step_wait().unwrap().clone(), &actions, [1; ENVS]);
    echoes.step_answers_itself([2; ENVS]);
    // Who begins anew wants no answer any more.
    let actions = discrete(&echoes.fresh(ENVS));
    echoes.envs.step_async(&actions).unwrap();
    follow_up(&mut echoes, After::Reset, [3; ENVS]);
    assert_eq!(usage(echoes.envs.step_wait()).kind, UsageKind::NoAsyncCall);
}

#[test]
fn a_second_start_is_refused() {
    let mut envs = builder(fixture("echo")).envs(2).seed(3).build().unwrap();
    let pids = [0, 1].map(|env| envs.pid(env));
    let mut branches = envs.branch(0, 1).unwrap();
    assert_eq!(usage(envs.start()).message, "the envs were started before");
    assert_eq!(usage(branches.start()).message, "the envs were started before");
    assert_eq!([0, 1].map(|env| envs.pid(env)), pids);
    envs.reset(None).unwrap();
    envs.step(&discrete(&[1, 2])).unwrap();
    // Not either where the branches are all that is left.
    drop(envs);
    assert_eq!(usage(branches.start()).message, "the envs were started before");
}

#[test]
fn nothing_starts_a_worker_after_a_goodbye() {
    let mut envs = builder(fixture("echo")).envs(2).seed(3).build().unwrap();
    envs.reset(None).unwrap();
    let snapshot = envs.snapshot(0).unwrap();
    let mut branches = envs.branch(0, 1).unwrap();
    let action = discrete(&[1]);
    envs.step_async(&discrete(&[1, 2])).unwrap();
    let digest = envs.digest();
    envs.say_goodbye();
    let refused = [
        usage(envs.step_wait()),
        usage(envs.step(&discrete(&[1, 2]))),
        usage(envs.step_async(&discrete(&[1, 2]))),
        usage(envs.step_some(&action, &[0])),
        usage(envs.step_many(0, &action)),
        usage(envs.send(&action, &[0])),
        usage(envs.recv(1, None)),
        usage(envs.reset(None)),
        usage(envs.render(0, rollcage::RenderMode::Ansi)),
        usage(envs.call(0, "any", &json!({}))),
        usage(envs.get_attribute(0, "any")),
        usage(envs.set_attribute(0, "any", &json!(1))),
        usage(envs.reseed(0, 1)),
        usage(envs.set_reset_options(0, None)),
        usage(envs.branch(0, 1).map(drop)),
        usage(envs.snapshot(0).map(drop)),
        usage(envs.restore(0, &snapshot)),
        usage(envs.write_back(0, &[1])),
        usage(branches.write_back_from(&mut envs, 0, &[0])),
        usage(envs.start()),
    ];
    for (number, error) in refused.into_iter().enumerate() {
        assert_eq!(error.message, "the envs have ended", "call {number}");
    }
    assert_eq!([0, 1].map(|env| envs.pid(env)), [None; 2]);
    // What is known stays known, and the branches go on.
    assert_eq!((envs.len(), envs.digest()), (2, digest));
    branches.step(&action).unwrap();
}
