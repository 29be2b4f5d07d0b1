//! Envs that share a worker: the same answers as alone, one process, and whose fault it is when that process ends. The tables of
//! faults and digests run over this gear too.

use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use rollcage::record::writer::Record;
use rollcage::{
    Autoreset, Batch, Budget, Builder, EnvsPerWorker, Error, FaultKind, Limits, OnFault, Plugin, RenderMode, ResetSome,
    Snapshot, Start, VecEnv, Walls,
};
use rollcage_tests::lies::PackLie;
use rollcage_tests::{Process, Rollcage, Scratch, alone, builder, discrete, eventually, fixture, shipped};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;

// ── The same tests over this gear ───────────────────────────────────────────────────────────────────────────────────

/// Runs tests of other modules with eight envs to a worker, but for those that are about processes, copies or time.
fn over_packed(filters: &[&str]) {
    let about_processes = [
        "packed::",
        // One slow env keeps the answers of all its worker's.
        "autoreset::recv_whose_time_is_over_loses_nothing",
    ];
    let output = Command::new(std::env::current_exe().unwrap())
        .args(filters)
        .args(about_processes.iter().flat_map(|name| ["--skip", name]))
        .env("ROLLCAGE_TEST_ENVS_PER_WORKER", "8")
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && !said.contains(" 0 passed"), "{said}{errors}");
}

#[test]
fn hostile_guests_over_packed() {
    over_packed(&["faults::"]);
}

#[test]
fn digests_modes_and_recordings_over_packed() {
    over_packed(&["digest::", "autoreset::", "rollouts::every_shipped", "actions::", "directories::"]);
}

// ── The same answers ────────────────────────────────────────────────────────────────────────────────────────────────

/// What a run shows: every batch, and the digests.
fn shown(mut envs: VecEnv, steps: usize) -> (Vec<Batch>, Vec<rollcage::Digest>) {
    let stride = envs.spec().action_space.stride();
    let mut batches = vec![envs.reset(None).unwrap().clone()];
    let space = envs.spec().action_space.clone();
    for step in 0..steps {
        let mut actions = vec![0; envs.len() * stride];
        for (env, action) in actions.chunks_exact_mut(stride).enumerate() {
            space.from_json(&json!((step * 7 + env * 3) % 2), action).unwrap();
        }
        batches.push(envs.step(&actions).unwrap().clone());
    }
    assert_eq!(envs.faults().total(), 0);
    (batches, envs.digests())
}

#[test]
fn the_answers_are_those_of_envs_alone() {
    for mode in [Autoreset::NextStep, Autoreset::SameStep] {
        for plugin in ["cartpole", "frozenlake", "blackjack"] {
            let of = |each: EnvsPerWorker| {
                shown(shipped(plugin).envs(7).seed(3).autoreset(mode).envs_per_worker(each).build().unwrap(), 150)
            };
            let lockstep = of(1.into());
            for each in [EnvsPerWorker::Exactly(2), EnvsPerWorker::Exactly(7), EnvsPerWorker::Auto] {
                assert_eq!(of(each), lockstep, "{plugin} {mode:?} {each:?}");
            }
        }
    }
}

fn packed(plugin: Plugin, envs: usize, each: usize) -> Builder {
    builder(plugin).envs(envs).envs_per_worker(each)
}

fn echoes(envs: usize, each: usize) -> VecEnv {
    let mut envs = packed(fixture("echo"), envs, each).build().unwrap();
    envs.reset(None).unwrap();
    envs
}

/// The number that an echo has answered with.
fn answers(batch: &Batch) -> Vec<i64> {
    (0..batch.len()).map(|row| i64::from_le_bytes(batch.observation(row)[..8].try_into().unwrap())).collect()
}

#[test]
fn every_call_reaches_its_own_env() {
    let mut envs = echoes(5, 3);
    assert_eq!(answers(envs.step(&discrete(&[10, 11, 12, 13, 14])).unwrap()), [10, 11, 12, 13, 14]);
    // Some envs, in any order.
    let batch = envs.step_some(&discrete(&[40, 20]), &[4, 2]).unwrap();
    assert_eq!(answers(batch), [10, 11, 20, 13, 40]);
    // Sent and received; a whole worker may come at once, and the rest later.
    envs.send(&discrete(&[1, 2, 3, 4]), &[0, 1, 2, 4]).unwrap();
    let mut left = vec![0, 1, 2, 4];
    while !left.is_empty() {
        let (ids, batch) = envs.recv(1, Some(Duration::from_secs(10))).unwrap();
        assert!(!ids.is_empty() && ids.iter().all(|id| left.contains(id)), "{ids:?} of {left:?}");
        for (id, answer) in ids.iter().zip(answers(&batch)) {
            assert_eq!(answer, [1, 2, 3, 0, 4][*id]);
        }
        left.retain(|id| !ids.contains(id));
    }
    let steps = envs.step_many(1, &discrete(&[7, 8, 9])).unwrap();
    assert_eq!((steps.taken, steps.observations.len() / 3), (3, envs.spec().observation_space.stride()));
    let mask = [false, true, false, true, false];
    let batch = envs.reset_some(&ResetSome { mask: Some(&mask), ..ResetSome::default() }).unwrap();
    assert_eq!(answers(batch), [1, -1, 3, -1, 4]);

    let mut envs = packed(fixture("attributes"), 3, 3).build().unwrap();
    envs.reset(None).unwrap();
    let mut pictures = shipped("cartpole").envs(3).envs_per_worker(3).build().unwrap();
    pictures.reset(Some(5)).unwrap();
    pictures.step(&discrete(&[0, 1, 1])).unwrap();
    let mut single = shipped("cartpole").envs(3).envs_per_worker(1).build().unwrap();
    single.reset(Some(5)).unwrap();
    single.step(&discrete(&[0, 1, 1])).unwrap();
    for env in 0..3 {
        let of = |envs: &mut VecEnv| envs.render(env, RenderMode::RgbArray).unwrap();
        assert_eq!(of(&mut pictures), of(&mut single), "env {env}");
    }
    assert_ne!(pictures.render(0, RenderMode::RgbArray).unwrap(), pictures.render(1, RenderMode::RgbArray).unwrap());
}

#[test]
fn configs_and_logs_are_each_envs_own() {
    let config = |env: usize| json!({ "sutton_barto_reward": env == 1 });
    let mut envs = shipped("cartpole").envs(3).config_with(config).envs_per_worker(3).build().unwrap();
    envs.reset(None).unwrap();
    assert_eq!(envs.step(&discrete(&[0, 0, 0])).unwrap().rewards, [1.0, 0.0, 1.0]);

    // Env 1 logs without end and is ended for it; what it said is not in the others' logs.
    let limits = Limits::default().call_timeouts(Duration::from_millis(500));
    let config = |env: usize| json!({ "at": if env == 1 { 1 } else { -1 } });
    let envs = packed(fixture("logs"), 3, 3).limits(limits).config_with(config);
    let mut envs = envs.build().unwrap();
    envs.reset(None).unwrap();
    let actions = vec![0; 3 * envs.spec().action_space.stride()];
    for _ in 0..3 {
        envs.step(&actions).unwrap();
    }
    let fault = envs.faults().first().iter().find(|fault| fault.env == 1).unwrap();
    assert_eq!(fault.kind, FaultKind::StepTimeout);
    assert!(fault.log.len() > 1000 && fault.log_dropped_bytes > 0, "{} {}", fault.log.len(), fault.log_dropped_bytes);
    for env in [0, 2] {
        assert_eq!(envs.log(env).unwrap().text(), "", "env {env}");
    }
}

/// Instances that are ended after so many episodes are made anew in their place.
#[test]
fn recycled_instances_are_those_of_envs_alone() {
    let of = |each: usize| {
        let envs = shipped("frozenlake").envs(3).seed(4).recycle_after(2).envs_per_worker(each).build().unwrap();
        let pid = envs.pid(0);
        let (batches, digests, after) = {
            let mut envs = envs;
            envs.reset(None).unwrap();
            for step in 0..120 {
                envs.step(&discrete(&[step % 4, (step + 1) % 4, 2])).unwrap();
            }
            let instances = [0, 1, 2].map(|env| envs.instance(env).unwrap());
            (instances, envs.digests(), envs.pid(0))
        };
        (batches, digests, pid == after)
    };
    let (instances, digests, _) = of(1);
    assert!(instances.iter().all(|instance| *instance >= 2), "{instances:?}");
    assert_eq!(of(3), (instances, digests, true));
}

// ── Processes ───────────────────────────────────────────────────────────────────────────────────────────────────────

#[test]
fn workers_are_as_many_as_they_should_be() {
    alone("packed::workers_are_as_many_as_they_should_be", || {
        for (envs, each, sizes) in [(8, 4, vec![4, 4]), (7, 3, vec![2, 2, 3]), (3, 9, vec![3])] {
            let run = echoes(envs, each);
            let mut pids: Vec<u32> = (0..envs).map(|env| run.pid(env).unwrap()).collect();
            let sharing: Vec<usize> = pids.chunk_by(|one, other| one == other).map(<[u32]>::len).collect();
            assert_eq!(sharing, sizes, "{envs} envs, {each} to a worker");
            pids.dedup();
            assert_eq!(Process::own().envs().len(), pids.len());
            let title = Process(pids[0]).title();
            assert!(title.contains(&format!("envs 0-{}", sizes[0] - 1)), "{title}");
            assert_eq!(run.walls(), echoes(2, 1).walls());
            drop(run);
            eventually("the workers are gone", 10, || Process::own().envs().is_empty());
        }
        let cores = std::thread::available_parallelism().unwrap().get();
        let run = shipped("cartpole").envs(4 * cores).envs_per_worker(EnvsPerWorker::Auto).build().unwrap();
        let mut pids: Vec<u32> = (0..4 * cores).map(|env| run.pid(env).unwrap()).collect();
        pids.dedup();
        assert_eq!(pids.len(), cores);
    });
}

fn signal(pid: u32, signal: Signal) {
    kill_process(Pid::from_raw(pid.try_into().unwrap()).unwrap(), signal).unwrap();
}

#[test]
fn a_killed_worker_is_started_again_with_all_its_envs() {
    for autoreset in [Autoreset::NextStep, Autoreset::SameStep] {
        let mut envs = packed(fixture("echo"), 4, 2).autoreset(autoreset).build().unwrap();
        envs.reset(None).unwrap();
        envs.step(&discrete(&[1, 2, 3, 4])).unwrap();
        let (first, other) = (envs.pid(0).unwrap(), envs.pid(2).unwrap());
        signal(first, Signal::KILL);
        eventually("it is noticed", 10, || envs.pid(0).is_none());
        let batch = envs.step(&discrete(&[5, 6, 7, 8])).unwrap();
        // Nobody was being asked, so the end is each env's own.
        let kinds: Vec<_> = batch.faults.iter().map(|fault| fault.as_ref().map(|fault| fault.kind)).collect();
        let signalled = Some(FaultKind::Signalled);
        assert_eq!(kinds, [signalled, signalled, None, None]);
        assert_eq!(answers(batch)[2..], [7, 8]);
        envs.step(&discrete(&[0; 4])).unwrap();
        assert_eq!(answers(envs.step(&discrete(&[5, 6, 7, 8])).unwrap()), [5, 6, 7, 8]);
        assert_eq!((envs.pid(2), envs.pid(0) == envs.pid(1)), (Some(other), true));
        assert_ne!(envs.pid(0), Some(first));
        assert_eq!([0, 1, 2, 3].map(|env| envs.instance(env).unwrap()), [1, 1, 0, 0]);
    }
}

/// A guest's own fault leaves the process, the siblings and their instances as they are.
#[test]
fn a_trap_of_one_env_leaves_its_siblings() {
    let config = |env: usize| json!({ "at": if env == 1 { 2 } else { -1 } });
    let mut envs = packed(fixture("trap"), 3, 3).config_with(config).build().unwrap();
    let mut peace = packed(fixture("trap"), 3, 3).config(&json!({ "at": -1 })).unwrap().build().unwrap();
    let pid = envs.pid(0).unwrap();
    let actions = vec![0; 3 * envs.spec().action_space.stride()];
    for run in [&mut envs, &mut peace] {
        run.reset(None).unwrap();
        for _ in 0..12 {
            run.step(&actions).unwrap();
        }
    }
    assert!(envs.faults().total() >= 2 && envs.faults().first().iter().all(|fault| fault.env == 1));
    assert!(envs.instance(1).unwrap() >= 2);
    assert_eq!([0, 1, 2].map(|env| envs.pid(env)), [Some(pid); 3]);
    assert_eq!([envs.digests()[0], envs.digests()[2]], [peace.digests()[0], peace.digests()[2]]);
}

/// Each env has its own memory limit, and all may use theirs at once.
#[test]
fn every_env_may_use_all_its_memory() {
    const ENVS: usize = 6;
    let limits = Limits { memory_bytes: 48 << 20, ..Limits::default() };
    // In step 1 each takes what it can, which is a fault of its own; before that the others have taken theirs.
    let mut envs = packed(fixture("memory"), ENVS, ENVS)
        .limits(limits)
        .config_with(|_| json!({ "at": 1 }))
        .on_fault(OnFault::Mask)
        .build()
        .unwrap();
    let pid = envs.pid(0);
    envs.reset(None).unwrap();
    let actions = vec![0; ENVS * envs.spec().action_space.stride()];
    envs.step(&actions).unwrap();
    envs.step(&actions).unwrap();
    let kinds: Vec<_> = envs.faults().first().iter().map(|fault| (fault.env, fault.kind)).collect();
    let expected: Vec<_> = (0u32..).take(ENVS).map(|env| (env, FaultKind::Memory)).collect();
    assert_eq!(kinds, expected);
    envs.reset(None).unwrap();
    assert_eq!(envs.pid(0), pid);
}

#[test]
fn kill_storms_leave_nothing_behind() {
    alone("packed::kill_storms_leave_nothing_behind", || {
        let restarts = Budget { in_window: 100_000, in_all: 100_000, ..Budget::default() };
        let patience = Duration::from_millis(400);
        let limits = Limits { restarts, start_timeout: 5 * patience, ..Limits::default().call_timeouts(patience) };
        let run = packed(fixture("echo"), 6, 3).limits(limits).config(&json!({ "length": 5 })).unwrap();
        let mut envs = run.build().unwrap();
        envs.reset(None).unwrap();
        let mut action = 0;
        let mut play = |envs: &mut VecEnv| {
            action = (action + 1) % 1000;
            let batch = envs.step(&discrete(&[action; 6])).unwrap();
            for (row, answered) in answers(batch).into_iter().enumerate() {
                match &batch.faults[row] {
                    Some(_) => {}
                    None if batch.was_reset[row] => assert_eq!(answered, -1),
                    None => assert_eq!(answered, action, "row {row}"),
                }
            }
        };
        for round in 0..40_u64 {
            let env = usize::try_from(round % 6).unwrap();
            let Some(pid) = envs.pid(env) else {
                play(&mut envs);
                continue;
            };
            let how = if round % 8 == 7 { Signal::STOP } else { Signal::KILL };
            let struck = Arc::new(AtomicBool::new(false));
            let done = Arc::clone(&struck);
            let striker = std::thread::spawn(move || {
                std::thread::sleep(Duration::from_micros(round * 137 % 1500));
                let _ = kill_process(Pid::from_raw(pid.try_into().unwrap()).unwrap(), how);
                done.store(true, Relaxed);
            });
            let began = Instant::now();
            while !struck.load(Relaxed) {
                play(&mut envs);
            }
            striker.join().unwrap();
            assert!(began.elapsed() < 30 * patience, "round {round}: {:?}", began.elapsed());
        }
        for _ in 0..12 {
            play(&mut envs);
        }
        let before = envs.faults().total();
        for _ in 0..20 {
            play(&mut envs);
        }
        assert_eq!(envs.faults().total(), before);
        assert!(before > 60, "{before}");
        let mut workers: Vec<Process> = (0..6).map(|env| Process(envs.pid(env).unwrap())).collect();
        workers.dedup();
        assert_eq!(workers.len(), 2);
        drop(envs);
        eventually("no worker is left", 10, || Process::own().children().is_empty());
        let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
        assert_eq!(maps.lines().filter(|line| line.contains("rollcage-slab")).count(), 0);
    });
}

// ── A worker that lies ──────────────────────────────────────────────────────────────────────────────────────────────

/// Whatever a taken-over worker writes is a fault of its own envs within their deadline; the envs of another worker go on.
#[test]
fn a_shared_worker_that_lies_is_found_out() {
    let ended = [FaultKind::Exited, FaultKind::Signalled, FaultKind::Sibling];
    for lie in PackLie::ALL {
        let limits = Limits::default().call_timeouts(Duration::from_millis(700));
        let config = move |env: usize| json!({ "spins": if env == 1 { lie.number() } else { 0 } });
        let plugin = fixture("echo");
        let run = packed(plugin, 6, 3).worker(env!("CARGO_BIN_EXE_pack_liar")).walls(Walls::NONE).limits(limits);
        let mut envs = run.config_with(config).build().unwrap();
        envs.reset(None).unwrap();
        for action in 1..3 {
            assert_eq!(answers(envs.step(&discrete(&[action; 6])).unwrap()), [action; 6], "{lie:?}");
        }
        let began = Instant::now();
        let batch = envs.step(&discrete(&[9; 6])).unwrap();
        // Each of the four rows may take its time twice.
        assert!(began.elapsed() < Duration::from_secs(30), "{lie:?}: {:?}", began.elapsed());
        assert_eq!(answers(batch)[3..], [9; 3], "{lie:?}");
        assert!(batch.faults[3..].iter().all(Option::is_none), "{lie:?}");
        let kind = batch.faults[1].as_ref().map(|fault| fault.kind);
        match lie {
            PackLie::None => assert_eq!((kind, answers(batch)), (None, vec![9; 6])),
            PackLie::LogFar => {
                let fault = batch.faults[1].as_ref().unwrap();
                assert_eq!(
                    (fault.kind, fault.log.len(), fault.log_dropped_bytes),
                    (FaultKind::Trap, 64 << 10, 134_464)
                );
                assert_eq!((&batch.faults[0], &batch.faults[2]), (&None, &None), "the worker goes on");
            }
            PackLie::BeatsForever | PackLie::AtBeyond => assert_eq!(kind, Some(FaultKind::StepTimeout), "{lie:?}"),
            PackLie::Exits | PackLie::BlamesAnother => {
                assert!(kind.is_some_and(|kind| ended.contains(&kind)), "{lie:?}")
            }
            PackLie::HangsUp => assert!(kind.is_some(), "{lie:?}"),
            _ => assert_eq!(kind, Some(FaultKind::Protocol), "{lie:?}: {:?}", batch.faults[1]),
        }
        let said = batch.faults[1].as_ref().map(|fault| fault.message.len()).unwrap_or_default();
        assert!(said < 5000, "{lie:?}");
        // And they are started again; those that had answered learn of it in their next step.
        envs.step(&discrete(&[1; 6])).unwrap();
        envs.step(&discrete(&[1; 6])).unwrap();
        assert_eq!(answers(envs.step(&discrete(&[2; 6])).unwrap()), [2; 6], "{lie:?}");
    }
}

// ── Snapshots, recordings ───────────────────────────────────────────────────────────────────────────────────────────

#[test]
fn a_restored_env_is_told_again_in_its_worker() {
    let mut envs = shipped("blackjack").envs(3).seed(2).envs_per_worker(3).build().unwrap();
    envs.reset(None).unwrap();
    let play = |envs: &mut VecEnv, steps: usize| {
        for step in 0..steps {
            envs.step(&discrete(&[(step % 2) as i64, 1, 0])).unwrap();
        }
    };
    play(&mut envs, 40);
    let snapshot = envs.snapshot(1).unwrap();
    let view = envs.last().observation(1).to_vec();
    let pid = envs.pid(0);
    let before = envs.digests();
    play(&mut envs, 25);
    let then = envs.last().clone();
    let batch = envs.restore(1, &snapshot).unwrap();
    assert_eq!((batch.observation(1), batch.observation(0)), (&view[..], then.observation(0)));
    assert_eq!([0, 1, 2].map(|env| envs.pid(env)), [pid; 3]);
    // Again and again: the place beside is free again.
    for _ in 0..5 {
        envs.restore(0, &snapshot).unwrap();
    }
    play(&mut envs, 10);
    assert_eq!(envs.faults().total(), 0);
    // A restore that fails changes nothing: what was told again beside the envs is dropped, and they go on.
    let mut forged: serde_json::Value = serde_json::from_slice(&snapshot.to_bytes()).unwrap();
    (forged["digest"], forged["hash"]) = (json!("0".repeat(64)), json!(""));
    forged["hash"] = json!(blake3::hash(forged.to_string().as_bytes()).to_string());
    let forged: Snapshot = serde_json::from_value(forged).unwrap();
    let before_it = envs.digests();
    for env in [0, 1, 2, 1] {
        let said = refusal(envs.restore(env, &forged).map(drop));
        assert!(said.contains("does not come out as it was"), "{said}");
    }
    assert_eq!((envs.digests(), [0, 1, 2].map(|env| envs.pid(env))), (before_it, [pid; 3]));
    play(&mut envs, 10);
    assert_eq!(envs.faults().total(), 0);
    // A snapshot is that of an env alone.
    let mut single = shipped("blackjack").envs(3).seed(2).envs_per_worker(1).build().unwrap();
    single.reset(None).unwrap();
    play(&mut single, 40);
    assert_eq!(single.snapshot(1).unwrap(), snapshot);
    assert_eq!(single.digests(), before);
    single.restore(2, &snapshot).unwrap();
    assert_eq!(single.last().observation(2), &view[..]);
}

#[test]
fn a_recording_with_a_sibling_is_replayed_and_says_that_it_is_not_portable() {
    let scratch = Scratch::new("packed-sibling");
    let folder = scratch.folder().join("run");
    let limits = Limits::default().call_timeouts(Duration::from_millis(700));
    let config = |env: usize| json!({ "hang_at": if env == 1 { 4 } else { -1 } });
    let run = packed(fixture("echo"), 3, 3).limits(limits).config_with(config);
    let mut envs = run.record(Record { folder: folder.clone(), embed_plugin: true }).build().unwrap();
    envs.reset(None).unwrap();
    for action in 0..12 {
        envs.step(&discrete(&[action; 3])).unwrap();
    }
    let (digest, digests) = (envs.digest(), envs.digests());
    let siblings = envs.faults().first().iter().filter(|fault| fault.kind == FaultKind::Sibling).count();
    assert!(siblings >= 2, "{siblings}");
    envs.close();
    let (status, report) = Rollcage::json(["replay", folder.to_str().unwrap()]);
    assert_eq!((status, &report["result"]), (Some(0), &json!("identical")), "{report}");
    assert_eq!(report["digest"], digest.to_string());
    assert_eq!(report["digests"][0], digests[0].to_string());
    assert_eq!(report["portable"], false);
    let why = report["not_portable"].as_array().unwrap().iter().any(|why| why.as_str().unwrap().contains("sibling"));
    assert!(why, "{report}");
}

// ── Refused ─────────────────────────────────────────────────────────────────────────────────────────────────────────

fn refusal<T>(result: Result<T, Error>) -> String {
    match result {
        Err(Error::Usage(error)) => format!("{error} {:?}", error.hints),
        Err(other) => panic!("{other}"),
        Ok(_) => panic!("it is accepted"),
    }
}

#[test]
fn what_needs_a_process_of_its_own_is_refused_before_anything_starts() {
    alone("packed::what_needs_a_process_of_its_own_is_refused_before_anything_starts", || {
        let with = |grant: &str| packed(fixture("echo"), 2, 2).grant(grant.parse().unwrap()).build();
        for (grant, why) in [
            ("tcp-connect=127.0.0.1:9", "sockets"),
            ("clock=real", "the real clock"),
            ("lease=port:20100-20109", "ports and services"),
        ] {
            let said = refusal(with(grant));
            assert!(said.contains("envs that share a worker cannot have") && said.contains(why), "{grant}: {said}");
            assert!(said.contains("`--envs-per-worker 1`, `envs_per_worker=1`"), "{said}");
        }
        let said = refusal(packed(fixture("echo"), 2, 2).start(Start::ForkAfterCreate).build());
        assert!(said.contains("fork-after-create"), "{said}");
        let said = refusal(packed(fixture("echo"), 2, 0).build());
        assert!(said.contains("0 envs per worker"), "{said}");
        assert_eq!(Process::own().envs(), []);
        // `auto` means what is possible.
        let auto = builder(fixture("echo")).envs(4).envs_per_worker(EnvsPerWorker::Auto);
        let envs = auto.grant("tcp-connect=127.0.0.1:9".parse().unwrap()).build().unwrap();
        assert_ne!(envs.pid(0), envs.pid(1));
    });
    let mut envs = echoes(2, 2);
    let said = refusal(envs.branch(0, 1));
    assert!(said.contains("it shares its worker") && said.contains("restore"), "{said}");
    let said = refusal(envs.write_back(0, &[1]).map(drop));
    assert!(said.contains("it shares its worker"), "{said}");
}

#[test]
fn the_command_line_has_the_gear() {
    let run = |each: &str| {
        let arguments =
            ["run", "cartpole", "--envs", "6", "--episodes", "18", "--seed", "4", "--envs-per-worker", each];
        Rollcage::json(arguments)
    };
    let (_, lockstep) = run("1");
    for each in ["2", "6", "auto"] {
        let (status, report) = run(each);
        assert_eq!((status, &report["digests"]), (Some(0), &lockstep["digests"]), "{each}");
        assert!(report["envs_per_worker"].as_u64().unwrap() > 1 || each == "auto", "{each}");
    }
    let ran = Rollcage::run(["run", "cartpole", "--envs", "2", "--envs-per-worker", "many"]);
    assert_eq!(ran.status, Some(2));
    assert!(ran.stderr.contains("a number from 1 on, or `auto`"), "{}", ran.stderr);
}
