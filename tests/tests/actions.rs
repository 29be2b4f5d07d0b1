//! Actions at the edge of what is one: out of their bounds by rounding or by more, not finite; and who is at fault for one that
//! the env refuses.

use rollcage::record::writer::Record;
use rollcage::replay::folder::Rollout;
use rollcage::replay::how::Replaying;
use rollcage::replay::rerun::replay;
use rollcage::{Autoreset, Builder, Error, FaultKind, OnFault, OutOfBounds, ResetSome, Snapshot, UsageError, VecEnv};
use rollcage_tests::{Rollcage, Scratch, builder, cache, discrete, fixture, fixture_path, program, shipped};
use serde_json::{Value, json};

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

// ── Who is at fault for a refusal ───────────────────────────────────────────────────────────────────────────────────

/// Of four choices, the number of the step and the one after it are open.
/// One policy chooses for all envs, so that what becomes of its actions is the same in all.
#[test]
fn envs_that_differ_in_what_becomes_of_actions_out_of_bounds_are_refused() {
    let config = |env: usize| json!({ "pass": env == 1 });
    let error = usage(builder(fixture("bounds")).config_with(config).envs(2).build());
    assert!(error.message.contains("actions out of bounds: refuse and pass"), "{}", error.message);
}

fn masked(config: Value) -> Builder {
    builder(fixture("masked")).config(&config).unwrap().seed(3)
}

/// A refusal that cannot be true ended the whole run as the operator's error, under every policy.
#[test]
fn an_env_that_refuses_a_right_step_does_not_end_everybodys_run() {
    let refuses = |config: Value| {
        let config = move |env: usize| if env == 1 { config.clone() } else { json!({ "at": -1 }) };
        builder(fixture("refuses")).config_with(config).envs(3)
    };
    for (error, says) in [
        ("needs-reset", "it refuses a step in the middle of an episode: the env must be reset first"),
        (
            "invalid-options",
            "it refuses a step, for what no step is refused: the env refuses the reset options: not these",
        ),
        ("unsupported", "it refuses a step, for what no step is refused: the env does not support this: not here"),
    ] {
        let mut envs = refuses(json!({ "error": error, "at": 1 })).build().unwrap();
        envs.reset(None).unwrap();
        envs.step(&discrete(&[1; 3])).unwrap();
        let batch = envs.step(&discrete(&[1; 3])).unwrap();
        let fault = batch.faults[1].as_deref().unwrap();
        assert_eq!((fault.kind, fault.step, fault.message.as_str()), (FaultKind::BadAnswer, 1, says));
        assert_eq!((&batch.rewards, &batch.truncated), (&vec![1.0, 0.0, 1.0], &vec![false, true, false]));
        // It goes on, and so do the others.
        let batch = envs.step(&discrete(&[1; 3])).unwrap();
        assert_eq!((&batch.was_reset, &batch.rewards), (&vec![false, true, false], &vec![1.0, 0.0, 1.0]));
        assert_eq!(envs.instance(1), Some(1));
    }
    // In a batch of steps it is the fault of its step; what was taken before it stands.
    let mut envs = refuses(json!({ "at": 2 })).build().unwrap();
    envs.reset(None).unwrap();
    let steps = envs.step_many(1, &discrete(&[1; 4])).unwrap();
    assert_eq!((steps.taken, steps.fault.unwrap().step), (2, 2));
    // Under `mask` and `raise` it is what every fault is.
    for policy in [OnFault::Mask, OnFault::Raise] {
        let mut envs = refuses(json!({ "at": 0 })).on_fault(policy).build().unwrap();
        envs.reset(None).unwrap();
        let stepped = envs.step(&discrete(&[1; 3])).map(drop);
        assert_eq!(matches!(stepped, Err(Error::Fault(_))), policy == OnFault::Raise);
        assert_eq!((envs.last().rewards[0], envs.last().masked[1]), (1.0, policy == OnFault::Mask));
    }
}

#[test]
fn a_refused_action_that_the_mask_left_open_is_the_envs_fault_and_is_replayed_as_one() {
    let scratch = Scratch::new("actions-refused");
    let folder = scratch.folder().join("run");
    let record = Record { folder: folder.clone(), embed_plugin: false };
    let mut envs = masked(json!({ "refuse_from": 2 })).record(record).build().unwrap();
    envs.reset(None).unwrap();
    envs.step(&discrete(&[0])).unwrap();
    envs.step(&discrete(&[2])).unwrap();
    let batch = envs.step(&discrete(&[3])).unwrap();
    let fault = batch.faults[0].as_deref().unwrap();
    assert_eq!((fault.kind, fault.step), (FaultKind::BadAnswer, 2));
    assert!(fault.message.contains("open in its mask: the env refuses the action: not today"), "{fault}");
    envs.step(&discrete(&[0])).unwrap();
    envs.step(&discrete(&[1])).unwrap();
    let digests = envs.digests();
    envs.finish_recording().unwrap();
    let how = Replaying { worker: Some(program()), cache: Some(cache()), ..Replaying::default() };
    let replayed = replay(&Rollout::open(&folder).unwrap(), &fixture("masked"), &how, |_| ()).unwrap();
    assert_eq!((replayed.difference, replayed.believed, replayed.digests), (None, 0, digests));
}

#[test]
fn a_masked_action_is_the_callers_error_and_changes_nothing() {
    let mut envs = masked(json!({})).envs(3).build().unwrap();
    let mut twin = masked(json!({})).envs(3).build().unwrap();
    envs.reset(None).unwrap();
    twin.reset(None).unwrap();
    envs.step(&discrete(&[0, 1, 0])).unwrap();
    twin.step(&discrete(&[0, 1, 0])).unwrap();
    // Open are 1 and 2.
    let error = usage(envs.step(&discrete(&[1, 3, 2])).map(drop));
    assert_eq!(error.message, "env 1, step 1: action 3, which is masked");
    assert!(error.hints.concat().contains("MaskablePPO"), "{:?}", error.hints);
    // The others have stepped, and the env stands where it stood: with the action taken, all is as if nothing had been.
    assert_eq!(envs.last().rewards, [1.0, 0.0, 1.0]);
    envs.step_some(&discrete(&[2]), &[1]).unwrap();
    twin.step(&discrete(&[1, 2, 2])).unwrap();
    assert_eq!(envs.digests(), twin.digests());
    // In a batch, what was taken before it stands too.
    let error = usage(envs.step_many(0, &discrete(&[2, 3, 3])));
    assert_eq!(error.message, "env 0, step 4: action 3, which is masked");
    let steps = envs.step_many(0, &discrete(&[0])).unwrap();
    assert_eq!((steps.taken, envs.faults().total()), (1, 0));
    // Of advice the host says nothing: the env takes the action.
    let mut advised = masked(json!({ "advised": true })).build().unwrap();
    advised.reset(None).unwrap();
    assert_eq!(advised.step(&discrete(&[3])).unwrap().rewards, [1.0]);
}

/// Without a mask nobody but the env can tell which actions are right.
#[test]
fn a_refused_action_of_an_env_without_a_mask_stays_the_callers_error() {
    let mut envs = builder(fixture("refuses")).config(&json!({ "error": "invalid-action" })).unwrap().build().unwrap();
    envs.reset(None).unwrap();
    for _ in 0..3 {
        envs.step(&discrete(&[1])).unwrap();
    }
    let digest = envs.digest();
    let error = usage(envs.step(&discrete(&[1])).map(drop));
    assert_eq!(error.message, "env 0, step 3: the env refuses the action: not today");
    assert_eq!((envs.digest(), envs.faults().total()), (digest, 0));
}

/// A reset's options are the caller's; what is refused without any is the env's own.
#[test]
fn a_reset_that_is_refused_for_options_that_were_none_is_a_fault() {
    let config = |error: &str| json!({ "error": error, "in_call": "reset", "episode": 1 });
    for error in ["needs-reset", "invalid-action", "invalid-options", "unsupported"] {
        for mode in [Autoreset::NextStep, Autoreset::SameStep] {
            let builder = builder(fixture("refuses")).config(&config(error)).unwrap();
            let mut envs = builder.autoreset(mode).build().unwrap();
            envs.reset(None).unwrap();
            for _ in 0..9 {
                envs.step(&discrete(&[1])).unwrap();
            }
            let fault = &envs.faults().first()[0];
            assert_eq!((fault.kind, fault.episode, fault.step), (FaultKind::BadAnswer, 1, 0), "{error}: {fault}");
            assert_eq!((envs.instance(0), envs.faults().total()), (Some(1), 1), "{error} {mode:?}");
        }
    }
    let mut envs = builder(fixture("options")).build().unwrap();
    envs.reset(None).unwrap();
    let options = json!({ "start": -1 });
    usage(envs.reset_some(&ResetSome { options: Some(&options), ..ResetSome::default() }).map(drop));
    assert_eq!(envs.faults().total(), 0);
}
