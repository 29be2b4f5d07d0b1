//! Copies: envs that start as one, live branches, write-back, snapshots. What goes on is compared to the bit; what is killed
//! is killed for real; what is dropped leaves nothing.

use std::collections::BTreeSet;
use std::io::Write;
use std::process::Command;
use std::time::{Duration, Instant};

use rand_chacha::ChaCha12Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use rollcage::env::policy::{Policy, PolicyName};
use rollcage::record::writer::Record;
use rollcage::replay::folder::Rollout;
use rollcage::replay::how::Replaying;
use rollcage::replay::rerun::watch;
use rollcage::{
    Access, Autoreset, Backend, Error, FaultKind, Grant, Limits, OnFault, ResetSome, Snapshot, Start, TimeLimit, VecEnv,
};
use rollcage_tests::{
    Process, Rollcage, Scratch, alone, builder, discrete, eventually, fixture, fixture_path, is_root, program, shipped,
};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;

use crate::digest::SHIPPED;

const MODES: [Autoreset; 3] = [Autoreset::NextStep, Autoreset::SameStep, Autoreset::Disabled];

/// Takes steps by a random policy, resetting by hand where nobody else does. The actions follow from the seed alone.
fn play(envs: &mut VecEnv, steps: usize, seed: u64) {
    let mut policies = policy(envs, seed);
    for _ in 0..steps {
        step(envs, &mut policies);
    }
}

fn policy(envs: &VecEnv, seed: u64) -> Policy {
    // Every env draws the same.
    Policy::new(&PolicyName::parse("random").unwrap(), &envs.spec().action_space, 1, seed).unwrap()
}

fn step(envs: &mut VecEnv, policy: &mut Policy) {
    let ended: Vec<bool> = (0..envs.len()).map(|env| !envs.takes_action(env)).collect();
    let stride = envs.spec().action_space.stride();
    let mut action = vec![0; stride];
    let mask = envs.last().action_mask(0);
    policy.act(0, (!mask.is_empty()).then_some(mask), &mut action).unwrap();
    match envs.step(&action.repeat(envs.len())) {
        Ok(_) => {}
        Err(Error::Usage(_)) => {
            envs.reset_some(&ResetSome { mask: Some(&ended), ..ResetSome::default() }).unwrap();
        }
        Err(error) => panic!("{error}"),
    }
}

/// What an env sees and what happened to it.
fn state(envs: &VecEnv, env: usize) -> (Vec<u8>, String) {
    (envs.last().observation(env).to_vec(), envs.digests()[env].to_string())
}

fn kill(pid: u32) {
    let _ = kill_process(Pid::from_raw(i32::try_from(pid).unwrap()).unwrap(), Signal::KILL);
}

// ── Starts ──────────────────────────────────────────────────────────────────────────────────────────────────────────

#[test]
fn envs_start_as_copies_of_what_instantiated_nothing() {
    let mut digests = BTreeSet::new();
    for (start, by) in [
        (Start::Best, Start::Fork),
        (Start::Fork, Start::Fork),
        (Start::ForkAfterCreate, Start::ForkAfterCreate),
        (Start::Spawn, Start::Spawn),
    ] {
        let mut envs = shipped("cartpole").envs(4).seed(3).start(start).build().unwrap();
        envs.reset(None).unwrap();
        play(&mut envs, 300, 5);
        assert_eq!(envs.started_by(0), Some(by));
        assert_eq!(envs.template_pid().is_some(), by == Start::Fork);
        let pids: BTreeSet<u32> = (0..4).map(|env| envs.pid(env).unwrap()).collect();
        assert_eq!(pids.len(), 4);
        assert!(!pids.contains(&envs.template_pid().unwrap_or(0)));
        // Each is this process's own child, whoever it is a copy of.
        assert!(pids.iter().all(|pid| Process(*pid).parent() == Some(std::process::id())));
        digests.insert(envs.digest().to_string());
    }
    assert_eq!(digests.len(), 1);
}

/// Stopped, it takes orders and copies nothing: no env waits for it for longer than for the first word of a copy, and none meets a
/// fault by it.
#[test]
fn a_stopped_template_process_is_replaced_and_its_env_spawned() {
    let mut envs = shipped("cartpole").envs(3).seed(3).start(Start::Fork).build().unwrap();
    envs.reset(None).unwrap();
    let first = envs.template_pid().unwrap();
    let pid = |pid: u32| Pid::from_raw(i32::try_from(pid).unwrap()).unwrap();
    kill_process(pid(first), Signal::STOP).unwrap();
    for env in [1, 2] {
        kill(envs.pid(env).unwrap());
        eventually("the env is gone", 5, || envs.pid(env).is_none());
    }
    let began = Instant::now();
    let batch = envs.step(&discrete(&[0, 0, 0])).unwrap();
    assert!(batch.faults[1].is_some() && batch.faults[2].is_some());
    let batch = envs.step(&discrete(&[0, 0, 0])).unwrap();
    assert_eq!(batch.was_reset, [false, true, true]);
    assert!(began.elapsed() < Limits::default().start_timeout, "{:?}", began.elapsed());
    for env in [1, 2] {
        assert_eq!((envs.started_by(env), envs.instance(env)), (Some(Start::Spawn), Some(1)));
    }
    assert_eq!(envs.faults().total(), 2, "two were killed, and nothing else happened");
    eventually("it was ended", 5, || !Process(first).exists());
    // The next start makes another.
    kill(envs.pid(0).unwrap());
    eventually("the env is gone", 5, || envs.pid(0).is_none());
    envs.step(&discrete(&[0, 0, 0])).unwrap();
    assert!(envs.step(&discrete(&[0, 0, 0])).unwrap().was_reset[0]);
    assert_eq!(envs.started_by(0), Some(Start::Fork));
    assert_ne!(envs.template_pid(), Some(first));
}

/// The same of an env that was created and is copied.
#[test]
fn a_stopped_template_is_replaced() {
    let limits = Limits { call_timeout: Duration::from_secs(2), ..Limits::default() };
    let made = shipped("cartpole").envs(2).seed(3).limits(limits).start(Start::ForkAfterCreate);
    let mut envs = made.build().unwrap();
    envs.reset(None).unwrap();
    let own: Vec<u32> = (0..2).map(|env| envs.pid(env).unwrap()).collect();
    let is_template = |process: &Process| process.title().starts_with("env ") && !own.contains(&process.0);
    let template = Process::own().children().into_iter().find(is_template).unwrap();
    kill_process(Pid::from_raw(i32::try_from(template.0).unwrap()).unwrap(), Signal::STOP).unwrap();
    kill(envs.pid(1).unwrap());
    eventually("the env is gone", 5, || envs.pid(1).is_none());
    envs.step(&discrete(&[0, 0])).unwrap();
    assert!(envs.step(&discrete(&[0, 0])).unwrap().was_reset[1]);
    assert_eq!((envs.started_by(1), envs.instance(1)), (Some(Start::ForkAfterCreate), Some(1)));
    assert_eq!(envs.faults().total(), 1);
}

/// The same tests over the other start: by default envs start by fork.
fn over_spawn(filters: &[&str]) {
    let mut command = Command::new(std::env::current_exe().unwrap());
    let output = command
        .args(filters)
        .args(["--skip", "copies::"])
        .env("ROLLCAGE_TEST_START", "spawn")
        .stdin(std::process::Stdio::null())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success() && !said.contains(" 0 passed"),
        "{said}{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

#[test]
fn hostile_guests_over_spawn() {
    over_spawn(&["faults::rows_of", "faults::seven_honest_envs", "faults::a_fault_in_a_step"]);
}

#[test]
fn processes_probes_and_digests_over_spawn() {
    over_spawn(&["isolation::", "digest::", "protocol::"]);
}

#[test]
fn configs_differ_unless_envs_are_copied_after_create() {
    let config = |env: usize| json!({ "sutton_barto_reward": env == 1 });
    let mut envs = shipped("cartpole").envs(2).config_with(config).start(Start::Fork).build().unwrap();
    envs.reset(None).unwrap();
    assert_eq!(envs.step(&discrete(&[0, 0])).unwrap().rewards, [1.0, 0.0]);
    let error = shipped("cartpole").envs(2).config_with(config).start(Start::ForkAfterCreate).build().err().unwrap();
    assert!(error.to_string().contains("another config"), "{error}");
}

/// Whichever way they start, `describe` is called once in each instance before `create`, at the same time and with the same
/// random stream; by default envs begin as copies of an instance in which that was done.
#[test]
fn what_describe_does_is_there_before_create() {
    let mut seen = BTreeSet::new();
    for (start, by) in [
        (Start::Best, Start::ForkAfterImport),
        (Start::ForkAfterImport, Start::ForkAfterImport),
        (Start::Fork, Start::Fork),
        (Start::ForkAfterCreate, Start::ForkAfterCreate),
        (Start::Spawn, Start::Spawn),
    ] {
        for branching in [true, false] {
            let made = builder(fixture("warms")).envs(3).seed(3).start(start).branching(branching);
            let mut envs = made.build().unwrap();
            envs.reset(None).unwrap();
            assert_eq!(envs.started_by(2), Some(by));
            let observation = envs.last().observation(1).to_vec();
            let numbers: Vec<u64> =
                observation.chunks(8).map(|bytes| u64::from_le_bytes(bytes.try_into().unwrap())).collect();
            assert_eq!(numbers[0], 1, "{start}: calls of `describe`");
            assert_eq!(envs.last().observation(0), observation, "siblings are alike");
            play(&mut envs, 50, 5);
            if branching {
                let mut branch = envs.branch(1, 1).unwrap();
                let action = discrete(&[1]);
                branch.step(&action).unwrap();
            }
            // A restart too is a copy, and knows nothing of what came before.
            kill(envs.pid(0).unwrap());
            eventually("the env is gone", 5, || envs.pid(0).is_none());
            envs.step(&discrete(&[0, 0, 0])).unwrap();
            envs.step(&discrete(&[0, 0, 0])).unwrap();
            assert_eq!(envs.last().observation(0), observation, "{start}");
            seen.insert((numbers, envs.digests()[1].to_string()));
        }
    }
    assert_eq!(seen.len(), 1, "{seen:?}");
    let asked = builder(fixture("warms")).prepare().unwrap();
    assert_eq!((asked.description().runtime.as_str(), asked.description().warm_up), ("a table of 24 MiB", true));
}

/// What belongs to one env is not shared by imports.
#[test]
fn envs_with_an_outside_of_their_own_import_for_themselves() {
    let folder = Scratch::new("copies-import");
    let directory = |access| Grant::Dir { host: folder.folder().to_owned(), guest: "/data".to_owned(), access };
    for (grant, by) in [
        (Grant::RealClock, Start::Fork),
        (Grant::RealRandom, Start::Fork),
        ("tcp-connect=127.0.0.1:9".parse().unwrap(), Start::Fork),
        (directory(Access::ReadWrite), Start::Fork),
        (directory(Access::ReadOnly), Start::ForkAfterImport),
    ] {
        let mut envs = builder(fixture("warms")).envs(2).grant(grant.clone()).build().unwrap();
        envs.reset(None).unwrap();
        assert_eq!(envs.started_by(0), Some(by), "{grant}");
        if by == Start::Fork {
            let error = builder(fixture("warms")).grant(grant).start(Start::ForkAfterImport).build().err().unwrap();
            let Error::Usage(error) = error else { panic!("{error}") };
            assert!(error.message.starts_with("start `fork-after-import`: envs with"), "{error}");
        }
    }
    let error = shipped("cartpole").start(Start::ForkAfterImport).build().err().unwrap();
    assert!(error.to_string().contains("imports nothing before `create`"), "{error}");
}

/// 24 MiB that `describe` fills are in memory once.
#[test]
fn what_describe_makes_is_in_memory_once() {
    if !is_root() {
        return;
    }
    let pss = |start: Start| -> u64 {
        let mut envs = builder(fixture("warms")).envs(8).start(start).build().unwrap();
        envs.reset(None).unwrap();
        play(&mut envs, 20, 1);
        (0..8).map(|env| memory(envs.pid(env).unwrap(), "Pss:")).sum::<u64>() / 8
    };
    let (fork, after) = (pss(Start::Fork), pss(Start::ForkAfterImport));
    assert!(fork > 24 << 10, "{fork} KiB each by fork");
    assert!(after < 8 << 10, "{after} KiB each by fork after import");
}

/// 24 MiB that `create` fills are in memory once, and in an env's own from its first write on.
#[test]
fn what_create_loads_is_in_memory_once() {
    if !is_root() {
        return;
    }
    let pss = |start: Start| -> u64 {
        let config = json!({ "table_mib": 24 });
        let made = builder(fixture("table")).config(&config).unwrap().envs(8).start(start);
        let mut envs = made.build().unwrap();
        envs.reset(None).unwrap();
        play(&mut envs, 20, 1);
        (0..8).map(|env| memory(envs.pid(env).unwrap(), "Pss:")).sum::<u64>() / 8
    };
    let (fork, after) = (pss(Start::Fork), pss(Start::ForkAfterCreate));
    assert!(fork > 24 << 10, "{fork} KiB each by fork");
    assert!(after < 8 << 10, "{after} KiB each by fork after create");
}

/// A field of a process's memory, KiB.
fn memory(pid: u32, field: &str) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix(field)).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

#[test]
fn restarts_come_from_it_too_and_it_is_replaced_when_it_dies() {
    let mut envs = shipped("cartpole").envs(3).seed(3).start(Start::Fork).build().unwrap();
    envs.reset(None).unwrap();
    let first = envs.template_pid().unwrap();
    for (round, expected) in [(0, true), (1, false), (2, true)] {
        if !expected {
            kill(first);
            eventually("the template process is gone", 5, || envs.template_pid().is_none());
        }
        kill(envs.pid(1).unwrap());
        eventually("the env is gone", 5, || envs.pid(1).is_none());
        let batch = envs.step(&discrete(&[0, 0, 0])).unwrap();
        assert_eq!(batch.faults.iter().map(Option::is_some).collect::<Vec<_>>(), [false, true, false], "{round}");
        envs.step(&discrete(&[0, 0, 0])).unwrap();
        assert_eq!(envs.started_by(1), Some(Start::Fork));
        assert_eq!(envs.template_pid() == Some(first), round == 0);
    }
    assert_eq!(envs.faults().total(), 3);
}

// ── Branches ────────────────────────────────────────────────────────────────────────────────────────────────────────

#[test]
fn branches_go_on_as_their_parent_and_as_a_fresh_env() {
    for plugin in SHIPPED {
        for mode in MODES {
            let make = || {
                let mut envs = shipped(plugin).seed(11).autoreset(mode).build().unwrap();
                envs.reset(None).unwrap();
                envs
            };
            let (mut parent, mut fresh) = (make(), make());
            let (mut own, mut others) = (policy(&parent, 2), policy(&parent, 2));
            for _ in 0..120 {
                step(&mut parent, &mut own);
                step(&mut fresh, &mut others);
            }
            let stood = state(&parent, 0);
            let mut branches = parent.branch(0, 3).unwrap();
            assert_eq!((branches.len(), state(&branches, 2)), (3, stood.clone()), "{plugin} {mode:?}");
            // Nobody sees another's steps: these go first, and elsewhere.
            play(&mut branches, 60, 77);
            assert_eq!(state(&parent, 0), stood, "{plugin} {mode:?}");
            let mut second = parent.branch(0, 2).unwrap();
            let mut same = policy(&parent, 8);
            let mut again = policy(&parent, 8);
            let mut third = policy(&parent, 8);
            for _ in 0..60 {
                step(&mut parent, &mut same);
                step(&mut second, &mut again);
                step(&mut fresh, &mut third);
            }
            assert_eq!(state(&parent, 0), state(&fresh, 0), "{plugin} {mode:?}");
            assert_eq!(state(&second, 0), state(&parent, 0), "{plugin} {mode:?}");
            assert_eq!(state(&second, 1), state(&parent, 0), "{plugin} {mode:?}");
            assert_eq!(parent.faults().total() + second.faults().total() + branches.faults().total(), 0);
        }
    }
}

#[test]
fn branches_of_branches_after_thousands_of_steps_under_either_start_and_engine() {
    for (start, backend) in
        [(Start::Fork, Backend::Native), (Start::Spawn, Backend::Native), (Start::Fork, Backend::Pulley)]
    {
        let mut root = shipped("blackjack").seed(4).start(start).backend(backend).build().unwrap();
        root.reset(None).unwrap();
        play(&mut root, 3_000, 1);
        let mut line = vec![root];
        for generation in 0..5 {
            let mut next = line.last_mut().unwrap().branch(0, 1).unwrap();
            // The ones before may be gone: a copy does not live by its original.
            if generation == 3 {
                line.clear();
            }
            play(&mut next, 50, generation);
            line.push(next);
        }
        let mut fresh = shipped("blackjack").seed(4).backend(backend).build().unwrap();
        fresh.reset(None).unwrap();
        play(&mut fresh, 3_000, 1);
        (0..5).for_each(|generation| play(&mut fresh, 50, generation));
        assert_eq!(state(line.last().unwrap(), 0), state(&fresh, 0), "{start} {backend:?}");
    }
}

#[test]
fn branches_draw_what_the_env_would_or_are_reseeded() {
    let mut envs = shipped("frozenlake").seed(9).build().unwrap();
    envs.reset(None).unwrap();
    envs.step(&discrete(&[2])).unwrap();
    let futures = |mut branches: VecEnv| -> BTreeSet<Vec<u8>> {
        let mut seen = vec![Vec::new(); branches.len()];
        for _ in 0..30 {
            let stride = branches.spec().observation_space.stride();
            let batch = branches.step(&discrete(&vec![1; seen.len()])).unwrap();
            for (env, seen) in seen.iter_mut().enumerate() {
                seen.extend_from_slice(&batch.observation(env)[..stride]);
            }
        }
        seen.into_iter().collect()
    };
    let alike = envs.branch(0, 6).unwrap();
    assert_eq!(futures(alike).len(), 1);
    let seeds: Vec<u64> = (0..12).collect();
    let unlike = envs.branch_reseeded(0, &seeds).unwrap();
    assert!(futures(unlike).len() > 4);
    // The same seeds, the same futures.
    let mut one = envs.branch_reseeded(0, &[5]).unwrap();
    let mut two = envs.branch_reseeded(0, &[5]).unwrap();
    play(&mut one, 40, 3);
    play(&mut two, 40, 3);
    assert_eq!(state(&one, 0), state(&two, 0));
}

#[test]
fn branches_are_behind_the_same_walls() {
    let mut envs = shipped("cartpole").build().unwrap();
    envs.reset(None).unwrap();
    let branches = envs.branch(0, 2).unwrap();
    let (original, copy) = (Process(envs.pid(0).unwrap()), Process(branches.pid(1).unwrap()));
    for field in ["Threads", "NoNewPrivs", "Seccomp", "CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"] {
        assert_eq!(original.status(field), copy.status(field), "{field}");
    }
    assert_eq!(copy.parent(), Some(std::process::id()));
    assert_eq!(branches.walls(), envs.walls());
    if is_root() {
        // Its own socket, log and slab, and nothing else of the original's but the code.
        let targets = |process: Process| process.descriptors();
        let (one, two) = (targets(original), targets(copy));
        assert_eq!(one.len(), two.len(), "{one:?} {two:?}");
        for number in [2, 3] {
            let of = |all: &[(i32, String)]| all.iter().find(|(own, _)| *own == number).unwrap().1.clone();
            assert_ne!(of(&one), of(&two), "descriptor {number}");
        }
        let slab = |process: Process| {
            let maps = std::fs::read_to_string(format!("/proc/{}/maps", process.0)).unwrap();
            let lines: Vec<String> =
                maps.lines().filter(|line| line.contains("rollcage-slab")).map(str::to_owned).collect();
            assert_eq!(lines.len(), 1, "{lines:?}");
            lines[0].split_whitespace().nth(4).unwrap().to_owned()
        };
        assert_ne!(slab(original), slab(copy));
    }
}

#[test]
fn what_cannot_be_copied_says_why() {
    let usage = |error: Error| match error {
        Error::Usage(error) => error.message,
        other => panic!("{other:?}"),
    };
    let mut envs = shipped("cartpole").envs(2).build().unwrap();
    envs.reset(None).unwrap();
    assert!(usage(envs.branch(7, 1).err().unwrap()).contains("env 7 does not exist"));
    assert!(usage(envs.branch(0, 0).err().unwrap()).contains("0 branches"));
    envs.send(&discrete(&[0]), &[0]).unwrap();
    assert!(usage(envs.branch(0, 1).err().unwrap()).contains("in flight"));
    envs.recv(1, None).unwrap();

    // A dead one.
    kill(envs.pid(1).unwrap());
    match envs.branch(1, 1).err().unwrap() {
        Error::Fault(fault) => assert_eq!((fault.env, fault.kind), (1, FaultKind::Signalled)),
        other => panic!("{other:?}"),
    }
    assert_eq!(envs.branch(0, 1).unwrap().len(), 1);

    let grant = "tcp-connect=127.0.0.1:9".parse().unwrap();
    let mut talker = builder(fixture("talker")).grant(grant).build().unwrap();
    talker.reset(None).unwrap();
    assert!(usage(talker.branch(0, 1).err().unwrap()).contains("connections"));
    let mut kept = shipped("cartpole").branching(false).build().unwrap();
    kept.reset(None).unwrap();
    assert!(usage(kept.branch(0, 1).err().unwrap()).contains("started without that"));
    assert_eq!(kept.started_by(0), Some(Start::Fork));

    let scratch = Scratch::new("copies-recorded");
    let record = Record { folder: scratch.folder().join("run"), embed_plugin: false };
    let mut recorded = shipped("cartpole").envs(2).record(record).build().unwrap();
    recorded.reset(None).unwrap();
    let snapshot = recorded.snapshot(0).unwrap();
    assert!(usage(recorded.write_back(0, &[1]).err().unwrap()).contains("recorded"));
    assert!(usage(recorded.restore(1, &snapshot).err().unwrap()).contains("recorded"));
    // A branch is none of the recording's.
    let mut branch = recorded.branch(0, 1).unwrap();
    play(&mut branch, 20, 1);
    recorded.step(&discrete(&[0, 1])).unwrap();
    recorded.finish_recording().unwrap();
    recorded.write_back(0, &[1]).unwrap();
    drop(recorded);
    let folder = scratch.folder().join("run");
    assert_eq!(Rollcage::run(["replay".as_ref(), folder.as_os_str()]).status, Some(0));
}

/// Connections cannot be copied, but what came over them can be served to many.
#[test]
fn an_env_that_is_replayed_from_its_capture_can_be_branched() {
    let scratch = Scratch::new("copies-served");
    let folder = scratch.folder().join("run");
    let zeros = |envs: &mut VecEnv| {
        let action = vec![0; envs.spec().action_space.stride()];
        envs.step(&action).map(|batch| batch.observation(0).to_vec()).unwrap()
    };
    let grants = ["clock=real", "random=real"].map(|grant| grant.parse::<Grant>().unwrap());
    let made = builder(fixture("numbers")).seed(4).grants(grants.into_iter().collect());
    let mut envs = made.record(Record { folder: folder.clone(), embed_plugin: true }).build().unwrap();
    envs.reset(None).unwrap();
    let seen: Vec<Vec<u8>> = (0..20).map(|_| zeros(&mut envs)).collect();
    drop(envs);

    let rollout = Rollout::open(&folder).unwrap();
    let how = Replaying {
        worker: Some(program()),
        cache: Some(rollcage_tests::cache()),
        branching: true,
        ..Replaying::default()
    };
    let mut branches = Vec::new();
    let show = |envs: &mut VecEnv, _stepped: bool| branches.push(envs.branch(0, 1).unwrap());
    watch(&rollout, &fixture("numbers"), &how, (0, 0), show).unwrap();
    // After the reset, and after each step: each goes on by itself, over what is still to come.
    assert_eq!(branches.len(), 21);
    for (after, branch) in branches.iter_mut().enumerate().rev() {
        for expected in &seen[after..] {
            assert_eq!(zeros(branch), *expected, "after {after}");
        }
    }
}

#[test]
fn a_thousand_branches_leave_nothing() {
    alone("copies::a_thousand_branches_leave_nothing", || {
        let mut envs = shipped("cartpole").seed(1).build().unwrap();
        envs.reset(None).unwrap();
        drop(envs.branch(0, 4).unwrap());
        let count = || (Process::own().children().len(), Process::own().descriptors().len());
        let (before, resident) = (count(), own_memory());
        for round in 0..125 {
            let mut branches = envs.branch(0, 8).unwrap();
            if round % 5 == 0 {
                play(&mut branches, 3, round);
            }
        }
        eventually("all are gone", 10, || count() == before);
        assert!(own_memory() < resident + (16 << 10), "{} KiB, {resident} before", own_memory());
        envs.step(&discrete(&[1])).unwrap();
        drop(envs);
        eventually("the rest too", 10, || Process::own().children().is_empty());
    });
}

fn own_memory() -> u64 {
    memory(std::process::id(), "Rss:")
}

#[test]
fn branches_die_with_the_host() {
    const HOST: &str = "ROLLCAGE_TEST_BRANCHING_HOST";
    if std::env::var_os(HOST).is_some() {
        let mut envs = shipped("cartpole").envs(2).build().unwrap();
        envs.reset(None).unwrap();
        let mut branches = envs.branch(0, 3).unwrap();
        let further = branches.branch(1, 2).unwrap();
        let all = [&envs, &branches, &further];
        let pids = all.iter().flat_map(|envs| (0..envs.len()).filter_map(|env| envs.pid(env)));
        let pids: Vec<String> = pids.chain(envs.template_pid()).map(|pid| pid.to_string()).collect();
        writeln!(std::io::stdout(), "pids {}", pids.join(" ")).unwrap();
        std::thread::sleep(Duration::from_secs(60));
        return;
    }
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "copies::branches_die_with_the_host", "--nocapture"]).env(HOST, "1");
    let mut host = command.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::null()).spawn().unwrap();
    let lines = std::io::BufRead::lines(std::io::BufReader::new(host.stdout.take().unwrap()));
    let line = lines.map_while(Result::ok).find_map(|line| Some(line.split_once("pids ")?.1.to_owned())).unwrap();
    let pids: Vec<Process> = line.split(' ').map(|pid| Process(pid.parse().unwrap())).collect();
    assert!(pids.len() == 8 && pids.iter().all(|process| process.exists()), "{line}");
    host.kill().unwrap();
    host.wait().unwrap();
    eventually("every copy is gone", 10, || {
        pids.iter().all(|process| !process.exists() || process.state() == Some('Z'))
    });
}

#[test]
fn whoever_is_killed_the_rest_goes_on() {
    alone("copies::whoever_is_killed_the_rest_goes_on", || {
        let mut rng = ChaCha12Rng::seed_from_u64(5);
        let mut envs =
            shipped("cartpole").envs(4).seed(2).limits(generous()).on_fault(OnFault::Restart).build().unwrap();
        envs.reset(None).unwrap();
        let mut branches = envs.branch(0, 4).unwrap();
        let until = Instant::now() + Duration::from_secs(8);
        let (mut kills, mut made) = (0, 0);
        while Instant::now() < until {
            // Somebody, at a random moment: the template process, a parent, a branch; also while copies are being made.
            let all = [&envs, &branches];
            let mut pids: Vec<u32> =
                all.iter().flat_map(|envs| (0..envs.len()).filter_map(|env| envs.pid(env))).collect();
            pids.extend(envs.template_pid());
            let victim = pids[usize::try_from(rng.next_u64()).unwrap_or(0) % pids.len()];
            let delay = Duration::from_micros(rng.next_u64() % 3_000);
            let killer = std::thread::spawn(move || {
                std::thread::sleep(delay);
                kill(victim);
            });
            kills += 1;
            play(&mut envs, 5, rng.next_u64());
            play(&mut branches, 5, rng.next_u64());
            match envs.branch(usize::try_from(rng.next_u64() % 4).unwrap(), 3) {
                Ok(new) => {
                    branches = new;
                    made += 1;
                }
                Err(Error::Fault(_) | Error::Usage(_)) => {}
                Err(error) => panic!("{error}"),
            }
            killer.join().unwrap();
        }
        assert!(kills > 20 && made > 5, "{kills} kills, {made} branchings");
        play(&mut envs, 50, 1);
        drop((envs, branches));
        // Copies that were killed before they said a word are found within a second.
        eventually("nobody is left", 10, || Process::own().children().is_empty());
    });
}

fn generous() -> Limits {
    let restarts = rollcage::Budget { in_window: 10_000, window: Duration::from_secs(60), in_all: 10_000 };
    Limits { restarts, ..Limits::default() }
}

// ── Write-back ──────────────────────────────────────────────────────────────────────────────────────────────────────

#[test]
fn an_env_becomes_a_copy_of_another() {
    for mode in MODES {
        let mut envs = shipped("cartpole").envs(3).seed(20).autoreset(mode).build().unwrap();
        envs.reset(None).unwrap();
        play(&mut envs, 7, 1);
        let before: Vec<_> = (0..3).map(|env| state(&envs, env)).collect();
        let batch = envs.write_back(2, &[0]).unwrap();
        assert_eq!(batch.observation(0), batch.observation(2));
        assert_eq!((state(&envs, 1), state(&envs, 2)), (before[1].clone(), before[2].clone()));
        assert_eq!((envs.instance(0), envs.instance(1)), (Some(1), Some(0)));
        // Both go on alike, from then on each for itself.
        for _ in 0..40 {
            let ended: Vec<bool> = (0..3).map(|env| !envs.takes_action(env)).collect();
            if mode == Autoreset::Disabled && ended.contains(&true) {
                envs.reset_some(&ResetSome { mask: Some(&ended), ..ResetSome::default() }).unwrap();
            }
            let batch = envs.step(&discrete(&[1, 0, 1])).unwrap();
            assert_eq!(batch.observation(0), batch.observation(2), "{mode:?}");
            assert_eq!(batch.episodes[0], batch.episodes[2], "{mode:?}");
        }
        // From a branch, to many.
        let mut branch = envs.branch(1, 2).unwrap();
        play(&mut branch, 3, 9);
        let wanted = branch.last().observation(1).to_vec();
        let batch = envs.write_back_from(&mut branch, 1, &[0, 2]).unwrap();
        assert_eq!((batch.observation(0), batch.observation(2)), (&wanted[..], &wanted[..]));
        assert_eq!(branch.last().observation(1), wanted);
        play(&mut envs, 10, 4);
        assert_eq!(envs.faults().total(), 0);
        let mut stranger = shipped("cartpole").build().unwrap();
        stranger.reset(None).unwrap();
        let error = envs.write_back_from(&mut stranger, 0, &[1]).err().unwrap();
        assert!(error.to_string().contains("not of these envs"), "{error}");
    }
}

// ── Snapshots ───────────────────────────────────────────────────────────────────────────────────────────────────────

#[test]
fn a_restored_snapshot_is_the_env() {
    for plugin in SHIPPED {
        for (mode, start) in [(MODES[0], Start::Fork), (MODES[1], Start::Spawn), (MODES[2], Start::Fork)] {
            let mut envs = shipped(plugin).seed(6).envs(2).autoreset(mode).start(start).build().unwrap();
            envs.reset(None).unwrap();
            play(&mut envs, 260, 3);
            let snapshot = envs.snapshot(1).unwrap();
            let bytes = snapshot.to_bytes();
            assert_eq!(Snapshot::from_bytes(&bytes).unwrap(), snapshot);
            let stood = envs.last().observation(1).to_vec();
            for backend in [Backend::Native, Backend::Pulley] {
                let mut other = shipped(plugin).seed(900).envs(2).autoreset(mode).backend(backend).build().unwrap();
                other.reset(None).unwrap();
                let untouched = state(&other, 1);
                let batch = other.restore(0, &snapshot).unwrap();
                assert_eq!(batch.observation(0), stood, "{plugin} {mode:?} {backend:?}");
                assert_eq!(state(&other, 1), untouched);
                assert_eq!(other.instance(0), Some(1));
                // And it goes on as the original does.
                let mut original = envs.branch(1, 1).unwrap();
                let mut copy = other.branch(0, 1).unwrap();
                play(&mut original, 60, 8);
                play(&mut copy, 60, 8);
                assert_eq!(state(&copy, 0), state(&original, 0), "{plugin} {mode:?} {backend:?}");
                // A snapshot of what was restored is that of the original.
                let again = other.snapshot(0).unwrap();
                assert_eq!((again.digest(), again.steps()), (snapshot.digest(), snapshot.steps()));
            }
        }
    }
}

#[test]
fn calls_attributes_and_options_are_in_a_snapshot() {
    let mut envs = builder(fixture("attributes")).seed(4).build().unwrap();
    envs.call(0, "add", &json!({"a": 1, "b": 2})).unwrap();
    envs.reset(None).unwrap();
    envs.step(&discrete(&[1])).unwrap();
    envs.set_attribute(0, "level", &json!(12)).unwrap();
    envs.reseed(0, u64::MAX).unwrap();
    envs.step(&discrete(&[1])).unwrap();
    let seeds = [Some(1 << 60)];
    envs.reset_some(&ResetSome { seeds: Some(&seeds), ..ResetSome::default() }).unwrap();
    let snapshot = envs.snapshot(0).unwrap();
    let mut other = builder(fixture("attributes")).build().unwrap();
    other.restore(0, &snapshot).unwrap();
    assert_eq!(other.get_attribute(0, "level").unwrap(), json!(12));
    assert_eq!(other.snapshot(0).unwrap().digest(), snapshot.digest());
    // It serialises as any value does.
    let text = serde_json::to_string(&snapshot).unwrap();
    assert_eq!(serde_json::from_str::<Snapshot>(&text).unwrap(), snapshot);
}

#[test]
fn a_changed_snapshot_is_refused() {
    let mut envs = shipped("cartpole").seed(6).build().unwrap();
    envs.reset(None).unwrap();
    play(&mut envs, 60, 3);
    let snapshot = envs.snapshot(0).unwrap();
    let bytes = snapshot.to_bytes();
    for at in 0..bytes.len() {
        for change in [1u8, 0x20, 0x80] {
            let mut changed = bytes.clone();
            changed[at] ^= change;
            assert!(Snapshot::from_bytes(&changed).is_err(), "byte {at}: {:?}", String::from_utf8_lossy(&changed));
        }
    }
    for changed in [&bytes[..bytes.len() - 1], &[&bytes[..], b" "].concat(), b"", b"{}"] {
        assert!(Snapshot::from_bytes(changed).is_err());
    }
    // Through serde too, wherever its text is kept.
    let text = String::from_utf8(bytes).unwrap().replacen("\"step\":", "\"step\": 1", 1);
    assert!(serde_json::from_str::<Snapshot>(&text).is_err());

    // What fits no other env is told.
    let refused = |mut other: VecEnv| {
        other.reset(None).unwrap();
        let before = state(&other, 0);
        let error = other.restore(0, &snapshot).err().unwrap().to_string();
        assert_eq!(state(&other, 0), before);
        assert_eq!(other.instance(0), Some(0));
        error
    };
    assert!(refused(shipped("frozenlake").build().unwrap()).contains("sha256"));
    assert!(refused(shipped("cartpole").max_episode_steps(9).build().unwrap()).contains("time limit"));
    let endless = refused(shipped("cartpole").time_limit(TimeLimit::Off).build().unwrap());
    assert!(endless.contains("its time limit is the env's own; theirs is none"), "{endless}");
    let fuel = Limits { fuel_per_step: Some(1 << 30), ..Limits::default() };
    assert!(refused(shipped("cartpole").limits(fuel).build().unwrap()).contains("fuel"));
}

#[test]
fn a_snapshot_is_bounded_and_says_so() {
    let limits = Limits { snapshot_bytes: 600, ..Limits::default() };
    let mut envs = shipped("cartpole").seed(6).limits(limits).build().unwrap();
    envs.reset(None).unwrap();
    play(&mut envs, 100, 3);
    let small = envs.snapshot(0).unwrap();
    play(&mut envs, 600, 3);
    let error = envs.snapshot(0).err().unwrap().to_string();
    assert!(error.contains("600 bytes"), "{error}");
    // What was taken before stays good, also for this env.
    envs.restore(0, &small).unwrap();
    assert_eq!(envs.snapshot(0).unwrap().digest(), small.digest());
    let mut real = builder(fixture("numbers")).grant("clock=real".parse().unwrap()).build().unwrap();
    real.reset(None).unwrap();
    assert!(real.snapshot(0).err().unwrap().to_string().contains("real clocks"));
}

#[test]
fn snapshots_on_the_command_line() {
    let scratch = Scratch::new("copies-cli");
    let at = |name: &str| scratch.folder().join(name).display().to_string();
    let (recording, file) = (at("run"), at("there"));
    let arguments = ["run", "cartpole", "--envs", "2", "--steps", "400", "--seed", "7", "--record", &recording];
    assert_eq!(Rollcage::run(arguments).status, Some(0));
    let ran = Rollcage::run(["replay", &recording, "--env", "1", "--until", "150", "--snapshot", &file]);
    assert_eq!(ran.status, Some(0), "{ran:?}");
    assert!(ran.stdout.starts_with("snapshot: cartpole 0.1.0 after 150 steps, digest "), "{ran:?}");
    let (status, report) = Rollcage::json(["run", "--from", &file, "--envs", "3", "--steps", "90", "--seed", "1"]);
    assert_eq!((status, &report["steps"], &report["plugin"]), (Some(0), &json!(90), &json!("cartpole")), "{report}");
    let (_, again) =
        Rollcage::json(["run", "--from", &file, "--envs", "3", "--steps", "90", "--seed", "1", "--start", "spawn"]);
    assert_eq!((&again["digests"], &again["start"]), (&report["digests"], &json!("spawn")));
    // The library restores what the command line took.
    let snapshot = Snapshot::from_bytes(&std::fs::read(&file).unwrap()).unwrap();
    let mut envs = shipped("cartpole").build().unwrap();
    envs.restore(0, &snapshot).unwrap();
    assert_eq!(envs.snapshot(0).unwrap().digest(), snapshot.digest());

    // Without `--seed` it is the snapshot's, which is that of env 1; and it is said what returns count.
    let (_, drawn) = Rollcage::json(["run", "--from", &file, "--envs", "3", "--episodes", "3"]);
    assert_eq!(drawn["seed"], 8, "{drawn}");
    let begun = snapshot.episode_steps();
    assert_eq!(drawn["from"], json!({"steps": 150, "episode_steps": begun}));
    assert!(drawn["length"]["min"].as_f64() > Some(begun.into()), "{drawn}");
    let (_, again) = Rollcage::json(["run", "--from", &file, "--envs", "3", "--episodes", "3"]);
    assert_eq!((&again["digest"], &again["return"]), (&drawn["digest"], &drawn["return"]));
    let ran = Rollcage::run(["run", "--from", &file, "--episodes", "1"]);
    let line = "  from        a snapshot after 150 steps";
    assert!(ran.stdout.contains(line) && !ran.stderr.contains("was drawn"), "{ran:?}");
    assert!(begun == 0 || ran.stdout.contains("before it"), "{ran:?}");

    let ran = Rollcage::run(["run", "frozenlake", "--from", &file]);
    assert_eq!(ran.status, Some(2), "{ran:?}");
    assert!(ran.stderr.contains("the snapshot is of `cartpole`"), "{ran:?}");

    let ran = Rollcage::run(["replay", &recording, "--until", "9000", "--snapshot", &file]);
    assert_eq!(ran.status, Some(2), "{ran:?}");
    let mut bytes = std::fs::read(&file).unwrap();
    bytes[40] ^= 1;
    std::fs::write(&file, bytes).unwrap();
    let ran = Rollcage::run(["run", "--from", &file]);
    assert_eq!((ran.status, ran.stdout.as_str()), (Some(2), ""), "{ran:?}");
    let path = fixture_path("echo").display().to_string();
    assert_eq!(Rollcage::run(["run", &path, "--start", "sideways"]).status, Some(2));
}

/// Both examples of the README solve their task.
#[test]
fn the_searches_find_what_a_random_policy_does_not() {
    let example = |name: &str| {
        let program = rollcage_tests::target().join("release/examples").join(name);
        assert!(program.exists(), "{} is not built: run `cargo xtask test`", program.display());
        let output = Command::new(program).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    let said = example("tree_search");
    assert!(said.starts_with("random: 0 of 200 crossings; tree search: 1 of 1, in "), "{said}");
    let said = example("go_explore");
    assert!(said.starts_with("the flag, after "), "{said}");
}
