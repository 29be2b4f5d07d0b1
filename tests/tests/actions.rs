//! Actions at the edge of what is one: out of their bounds by rounding or by more, not finite.

use rollcage::rollout::folder::Rollout;
use rollcage::rollout::record::Record;
use rollcage::rollout::replay::{Replaying, replay};
use rollcage::{Autoreset, Builder, Error, OutOfBounds, Snapshot, UsageError, VecEnv};
use rollcage_tests::{Rollcage, Scratch, builder, cache, fixture, fixture_path, program, shipped};
use serde_json::json;

/// The bounds of the guest `bounds`.
const LOW: [f32; 2] = [-0.4, 0.1];
const HIGH: [f32; 2] = [0.3, 0.7];

/// The unit in the last place of both elements' larger bounds, 0.4 and 0.7.
const ULPS: [f32; 2] = [f32::EPSILON / 4.0, f32::EPSILON / 2.0];

/// Envs whose observation is the action as it came.
fn bounds(pass: bool) -> Builder {
    builder(fixture("bounds")).config(&json!({ "pass": pass })).unwrap().seed(3).max_episode_steps(1000)
}

fn bytes(numbers: &[f32]) -> Vec<u8> {
    numbers.iter().flat_map(|number| number.to_le_bytes()).collect()
}

#[track_caller]
fn usage<T>(result: Result<T, Error>) -> UsageError {
    match result.err() {
        Some(Error::Usage(error)) => error,
        other => panic!("no usage error: {other:?}"),
    }
}

/// What trainers' unscaling gives: 0.30000004 for a bound of 0.3.
#[test]
fn an_action_outside_by_rounding_is_its_bound() {
    let (mut envs, mut twin) = (bounds(false).build().unwrap(), bounds(false).build().unwrap());
    envs.reset(None).unwrap();
    twin.reset(None).unwrap();
    assert_eq!(envs.spec().actions_out_of_bounds, OutOfBounds::Refuse);
    for ulps in 1u8..=4 {
        let by = ULPS.map(|ulp| ulp * f32::from(ulps));
        for (action, bound) in [
            ([HIGH[0] + by[0], HIGH[1] + by[1]], HIGH),
            ([LOW[0] - by[0], LOW[1] - by[1]], LOW),
            ([0.0, HIGH[1] + by[1]], [0.0, HIGH[1]]),
        ] {
            assert_ne!(action, bound);
            let seen = envs.step(&bytes(&action)).unwrap().observation(0).to_vec();
            assert_eq!(seen, bytes(&bound), "{action:?}");
            twin.step(&bytes(&bound)).unwrap();
        }
        assert_eq!(envs.digest(), twin.digest(), "what is hashed is what was sent");
    }
    let beyond = [HIGH[0] + 5.0 * ULPS[0], 0.5];
    let before = envs.digest();
    let error = usage(envs.step(&bytes(&beyond)).map(drop));
    let expected = format!("env 0: action element [0] is {}, allowed is -0.4 to 0.3", beyond[0]);
    assert_eq!(error.message, expected);
    assert!(error.hints.concat().contains("ClipAction"), "{:?}", error.hints);
    assert_eq!(envs.digest(), before);
}

#[test]
fn every_way_to_step_clips_what_rounding_left_outside() {
    let over = bytes(&[HIGH[0] + ULPS[0], LOW[1] - ULPS[1]]);
    let clipped = bytes(&[HIGH[0], LOW[1]]);
    let mut envs = bounds(false).envs(2).autoreset(Autoreset::Disabled).build().unwrap();
    envs.reset(None).unwrap();
    let inside = bytes(&[0.0, 0.5]);
    assert_eq!(envs.step_some(&over, &[1]).unwrap().observation(1), clipped);
    envs.send(&[&inside[..], &over].concat(), &[0, 1]).unwrap();
    let (_, batch) = envs.recv(2, None).unwrap();
    assert_eq!((batch.observation(0), batch.observation(1)), (&inside[..], &clipped[..]));
    envs.step_async(&[&over[..], &inside].concat()).unwrap();
    let batch = envs.step_wait().unwrap();
    assert_eq!((batch.observation(0), batch.observation(1)), (&clipped[..], &inside[..]));
    let steps = envs.step_many(0, &[&over[..], &inside, &over].concat()).unwrap();
    assert_eq!(steps.observations, [&clipped[..], &inside, &clipped].concat());
    let error = usage(envs.step_many(0, &bytes(&[0.0, 0.5, 0.0, 0.9])));
    assert!(error.message.starts_with("env 0, action 1: element [1] is 0.9"), "{error}");
}

/// What an env takes out of bounds goes as it is: to the env, into the digest, the recording, the snapshot.
#[test]
fn an_action_out_of_bounds_passes_where_the_env_says_so() {
    let scratch = Scratch::new("actions-pass");
    let folder = scratch.folder().join("run");
    let record = Record { folder: folder.clone(), embed_plugin: false };
    let mut envs = bounds(true).record(record).build().unwrap();
    envs.reset(None).unwrap();
    let beyond = [[0.300_000_04, 0.7], [-2.5, 1e30], [f32::MAX, -f32::MAX]];
    for action in beyond {
        assert_eq!(envs.step(&bytes(&action)).unwrap().observation(0), bytes(&action), "{action:?}");
    }
    assert_eq!(envs.step_many(0, &bytes(&beyond.concat())).unwrap().observations, bytes(&beyond.concat()));
    let (digests, snapshot) = (envs.digests(), envs.snapshot(0).unwrap());
    envs.finish_recording().unwrap();

    let mut other = bounds(true).build().unwrap();
    other.reset(None).unwrap();
    other.restore(0, &Snapshot::from_bytes(&snapshot.to_bytes()).unwrap()).unwrap();
    assert_eq!(other.snapshot(0).unwrap().digest(), snapshot.digest());

    let rollout = Rollout::open(&folder).unwrap();
    assert_eq!(rollout.spec().actions_out_of_bounds, OutOfBounds::Pass);
    let how = Replaying { worker: Some(program()), cache: Some(cache()), ..Replaying::default() };
    let replayed = replay(&rollout, &fixture("bounds"), &how, |_| ()).unwrap();
    assert_eq!((replayed.difference, replayed.digests), (None, digests));
}

#[test]
fn an_action_that_is_not_finite_is_refused_always() {
    let refuse = |envs: &mut VecEnv, action: [f32; 2]| usage(envs.step(&bytes(&action)).map(drop));
    for pass in [false, true] {
        let mut envs = bounds(pass).build().unwrap();
        envs.reset(None).unwrap();
        for wrong in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            let error = refuse(&mut envs, [0.0, wrong]);
            assert!(error.message.contains("element [1] is "), "{error}");
            assert!(error.hints.is_empty(), "clipping does not help: {error:?}");
            usage(envs.step_many(0, &bytes(&[0.0, wrong])));
        }
    }
    let mut envs = shipped("pendulum").build().unwrap();
    envs.reset(None).unwrap();
    let torque = |torque: f32| [bytes(&[torque]), vec![0; 4]].concat();
    usage(envs.step(&torque(f32::NAN)).map(drop));
    envs.step(&torque(-2.031_782_4)).unwrap();
}

/// The command line has the same: a policy's file may go where the env allows it, and errs by rounding elsewhere.
#[test]
fn a_policy_file_goes_out_of_bounds_where_the_env_says_so() {
    let scratch = Scratch::new("actions-file");
    let plugin = fixture_path("bounds").display().to_string();
    let file = scratch.file("far.jsonl", "[[0.5, 9.0]]\n[[0.0, 0.5]]\n").display().to_string();
    let near = scratch.file("near.jsonl", "[[0.30000004, 0.1]]\n").display().to_string();
    let run = |policy: &str, pass: &str| {
        Rollcage::run(["run", &plugin, "--steps", "2", "--policy", policy, "--config", &format!("pass={pass}")])
    };
    assert_eq!(run(&file, "true").status, Some(0));
    assert_eq!(run(&near, "false").status, Some(0));
    let refused = run(&file, "false");
    assert_eq!(refused.status, Some(2));
    assert!(refused.stderr.contains("far.jsonl:1: env 0: element [0] is 0.5, allowed is -0.4 to 0.3"), "{refused:?}");
    let shown = Rollcage::run(["inspect", &plugin, "--config", "pass=true"]);
    assert!(shown.stdout.contains("numbers outside these bounds are given to the env as they are"), "{shown:?}");
}
