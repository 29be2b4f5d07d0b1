//! One run over several hosts: each has a share of its envs, and everything has the run's numbers.

use std::path::Path;

use rollcage::record::writer::Record;
use rollcage::rollout::{Acting, Amount, Keep};
use rollcage::{Builder, Digest, FaultKind, OnFault, run_digest};
use rollcage_tests::{Rollcage, Scratch, shipped};
use serde_json::{Value, json};

/// Shares of 7 envs that are not even, one of them of a single env.
const SHARES: [(u32, usize); 3] = [(0, 3), (3, 3), (6, 1)];

/// Plays a random rollout in each share. Returns the digests of all envs.
fn played(make: impl Fn() -> Builder, shares: &[(u32, usize)], folder: Option<&Path>) -> Vec<Digest> {
    let share = |(first, envs): (u32, usize)| {
        let mut builder = make().envs(envs).first_env(first).seed(7);
        if let Some(folder) = folder {
            let folder = folder.join(format!("from-{first}"));
            builder = builder.record(Record { folder, embed_plugin: false });
        }
        let mut envs = builder.build().unwrap();
        assert_eq!(envs.first_env(), first);
        envs.reset(Some(7)).unwrap();
        envs.rollout(Acting::Random, Amount::Steps(150), Keep::Returns).unwrap();
        envs.finish_recording().unwrap();
        envs.digests()
    };
    shares.iter().copied().flat_map(share).collect()
}

#[test]
fn an_envs_digest_is_the_same_on_whichever_host_it_is() {
    for name in ["cartpole", "blackjack", "taxi"] {
        let whole = played(|| shipped(name), &[(0, 7)], None);
        let shares = played(|| shipped(name), &SHARES, None);
        assert_eq!(whole, shares, "{name}");
        assert_eq!(run_digest(&whole), run_digest(&shares));
        assert!(whole.windows(2).all(|pair| pair[0] != pair[1]), "{name}: envs have seeds of their own");
    }
    // By single steps, and with the first seed of each env that no reset names.
    let step = |first, many| {
        let mut envs = shipped("cartpole").envs(many).first_env(first).seed(11).build().unwrap();
        envs.reset(None).unwrap();
        for turn in 0..60_i64 {
            let actions = (0..i64::from(first) + i64::try_from(many).unwrap()).map(|env| (env + turn) % 2);
            let actions: Vec<i64> = actions.skip(first as usize).collect();
            envs.step(&rollcage_tests::discrete(&actions)).unwrap();
        }
        envs.digests()
    };
    let shares: Vec<Digest> = SHARES.into_iter().flat_map(|(first, many)| step(first, many)).collect();
    assert_eq!(step(0, 7), shares);
}

#[test]
fn configs_faults_and_odd_answers_have_the_runs_numbers() {
    let config = |env: usize| json!({ "sutton_barto_reward": env == 4 });
    let made = shipped("cartpole").config_with(config).envs(3).first_env(3).on_fault(OnFault::Mask);
    let mut envs = made.build().unwrap();
    let reward = |env| envs.config_of(env).unwrap().value["sutton_barto_reward"].clone();
    assert_eq!([reward(0), reward(1), reward(2)], [json!(false), json!(true), json!(false)]);
    envs.reset(None).unwrap();
    kill(envs.pid(1).unwrap());
    let action = vec![0; envs.spec().action_space.stride() * 3];
    rollcage_tests::eventually("the fault", 10, || {
        envs.step(&action).unwrap();
        envs.last().faults.iter().any(Option::is_some)
    });
    let faults = &envs.last().faults;
    assert!(faults[0].is_none() && faults[2].is_none());
    let fault = faults[1].as_ref().unwrap();
    assert_eq!((fault.env, fault.kind), (4, FaultKind::Signalled), "{fault}");
    assert!(envs.step(&action).unwrap().masked[1]);
    envs.reset(Some(3)).unwrap();
    assert!(envs.last().was_reset.iter().all(|reset| *reset));
}

fn kill(pid: u32) {
    let pid = rustix::process::Pid::from_raw(i32::try_from(pid).unwrap()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
}

/// An env that goes on elsewhere is what it would be after a restart on its own host.
#[test]
fn an_env_begins_with_the_number_and_the_seed_of_its_next_instance() {
    let first_observation = |first_instance: u32, first_env: u32| {
        let made = shipped("cartpole").first_env(first_env).first_instance(first_instance).seed(5);
        let mut envs = made.build().unwrap();
        envs.reset(None).unwrap();
        assert_eq!(envs.instance(0), Some(first_instance));
        envs.last().observations.clone()
    };
    assert_ne!(first_observation(0, 2), first_observation(1, 2));
    assert_eq!(first_observation(1, 2), first_observation(1, 2));
    // Killed for real, the same env on its own host draws the same.
    let mut envs = shipped("cartpole").envs(3).seed(5).build().unwrap();
    envs.reset(None).unwrap();
    kill(envs.pid(2).unwrap());
    let actions = rollcage_tests::discrete(&[0, 0, 0]);
    rollcage_tests::eventually("the next instance", 10, || {
        envs.step(&actions).unwrap();
        envs.last().was_reset[2]
    });
    assert_eq!(envs.instance(2), Some(1));
    assert_eq!(envs.last().observation(2), first_observation(1, 2));
}

#[test]
fn recordings_of_several_hosts_are_replayed_as_one() {
    let scratch = Scratch::new("shares");
    let folder = scratch.folder().join("run");
    let digests = played(|| shipped("cartpole"), &SHARES, Some(&folder));
    let whole = played(|| shipped("cartpole"), &[(0, 7)], None);
    assert_eq!(digests, whole);
    let replay =
        |folder: &Path, more: &[&str]| Rollcage::json([&["replay", folder.to_str().unwrap()][..], more].concat());
    let (status, result) = replay(&folder, &[]);
    assert_eq!((status, &result["result"]), (Some(0), &json!("identical")), "{result}");
    assert_eq!(result["digest"], run_digest(&whole).to_string());
    let expected: Vec<Value> = whole.iter().map(|digest| digest.to_string().into()).collect();
    assert_eq!(result["digests"], Value::from(expected));
    assert_eq!(result["steps"], 7 * 150);

    // One of them alone, and what can be taken from it alone.
    let (status, result) = replay(&folder.join("from-3"), &["--backend", "pulley"]);
    assert_eq!((status, &result["result"]), (Some(0), &json!("identical")), "{result}");
    let snapshot = scratch.folder().join("five");
    let ran = Rollcage::run([
        "replay".as_ref(),
        folder.as_os_str(),
        "--env".as_ref(),
        "5".as_ref(),
        "--snapshot".as_ref(),
        snapshot.as_os_str(),
    ]);
    assert_eq!(ran.status, Some(0), "{}", ran.stderr);
    let ran = Rollcage::run(["verify".as_ref(), folder.as_os_str()]);
    assert!(
        ran.status == Some(2) && ran.stderr.contains("several hosts") && ran.stderr.contains("from-0"),
        "{}",
        ran.stderr
    );

    // A share that is missing is told, and one of another run refused.
    std::fs::rename(folder.join("from-3"), scratch.folder().join("elsewhere")).unwrap();
    let ran = Rollcage::run(["replay".as_ref(), folder.as_os_str()]);
    assert_eq!(ran.status, Some(0), "{}", ran.stderr);
    assert!(ran.stderr.contains("envs 3 to 5 of the run are not here"), "{}", ran.stderr);
    played(|| shipped("cartpole").max_episode_steps(9), &[(3, 3)], Some(&folder));
    let ran = Rollcage::run(["replay".as_ref(), folder.as_os_str()]);
    assert!(ran.status == Some(2) && ran.stderr.contains("no parts of one run"), "{}", ran.stderr);
}

/// What a lost host had written is a prefix, and what goes on elsewhere says that it is not the whole.
#[test]
fn a_recording_that_goes_on_after_a_loss_is_not_portable() {
    let scratch = Scratch::new("shares-lost");
    let folder = scratch.folder().join("run");
    let record = |name: &str, first_env, first_instance| {
        let record = Record { folder: folder.join(name), embed_plugin: false };
        let made =
            shipped("cartpole").envs(2).first_env(first_env).first_instance(first_instance).seed(3).record(record);
        let mut envs = made.build().unwrap();
        envs.reset(None).unwrap();
        envs.rollout(Acting::Random, Amount::Steps(40), Keep::Returns).unwrap();
        envs.finish_recording().unwrap();
    };
    record("envs-0", 0, 0);
    record("envs-2", 2, 0);
    record("envs-2-again", 2, 1);
    // As its host left it.
    let left = folder.join("envs-2");
    std::fs::remove_file(left.join("CHECKSUMS")).unwrap();
    let text = std::fs::read_to_string(left.join("rollout.json")).unwrap();
    assert!(text.contains("\"portable\": true"));
    std::fs::write(left.join("rollout.json"), text.replace("\"complete\": true", "\"complete\": false")).unwrap();

    let ran = Rollcage::run(["replay".as_ref(), folder.as_os_str(), "--json".as_ref()]);
    assert_eq!(ran.status, Some(0), "{}", ran.stderr);
    assert!(ran.stderr.contains("envs-2` is of a host that was lost"), "{}", ran.stderr);
    let result: Value = serde_json::from_str(&ran.stdout).unwrap();
    assert_eq!(
        (&result["result"], &result["portable"], &result["steps"]),
        (&json!("identical"), &json!(false), &json!(160))
    );
    let why = result["not_portable"].to_string();
    assert!(why.contains("the instances before number 1 were on a host that was lost"), "{why}");
}

#[test]
fn numbers_past_the_last_are_refused() {
    let made = shipped("cartpole").envs(2).first_env(u32::MAX - 1).build();
    assert!(made.err().unwrap().to_string().contains("numbers below"));
    let made = shipped("cartpole").envs(2).first_env(5).seed(u64::MAX - 5).build();
    assert!(made.err().unwrap().to_string().contains("env 6 is past 2^64 - 1"));
}
