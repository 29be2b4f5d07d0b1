//! Rollouts in the worker: what is played there is what the same steps give one by one, in every gear and mode; and a policy
//! that misbehaves ends the rollout, and nothing else.

use std::time::{Duration, Instant};

use rollcage::env::policy::{Policy, PolicyName};
use rollcage::rollout::{Acting, Amount, Keep, PolicyPlugin, PolicyWorker, Rollout};
use rollcage::{
    Autoreset, Backend, Builder, Digest, Error, Fault, FaultKind, Limits, OnFault, ResetSome, Start, VecEnv,
};
use rollcage_tests::{Rollcage, Scratch, builder, discrete, fixture, fixture_path, shipped};
use serde_json::json;

/// The steps of a random rollout, asked for one by one.
fn one_by_one(envs: &mut VecEnv, steps: u64) {
    let mut policy = Policy::new(&PolicyName::Random, &envs.spec().action_space, envs.len(), envs.seed()).unwrap();
    let stride = envs.spec().action_space.stride();
    let mut left = vec![steps; envs.len()];
    envs.reset(None).unwrap();
    loop {
        let playing: Vec<usize> = (0..envs.len()).filter(|&env| left[env] > 0).collect();
        if playing.is_empty() {
            return;
        }
        let ended: Vec<bool> = (0..envs.len()).map(|env| left[env] > 0 && !envs.takes_action(env)).collect();
        if ended.contains(&true) {
            envs.reset_some(&ResetSome { mask: Some(&ended), ..ResetSome::default() }).unwrap();
        }
        let mut actions = vec![0; playing.len() * stride];
        for (action, &env) in actions.chunks_exact_mut(stride).zip(&playing) {
            let mask = envs.last().action_mask(env).to_vec();
            policy.act(env, Some(&*mask).filter(|mask| !mask.is_empty()), action).unwrap();
        }
        envs.step_some(&actions, &playing).unwrap();
        for &env in &playing {
            // An action that met a fault is drawn, and is no step.
            left[env] -= u64::from(envs.last().faults[env].is_none());
        }
    }
}

#[test]
fn random_rollouts_are_the_same_steps_one_by_one() {
    for plugin in ["cartpole", "frozenlake", "taxi", "blackjack", "pendulum", "acrobot"] {
        for mode in [Autoreset::NextStep, Autoreset::SameStep, Autoreset::Disabled] {
            let of = |each: usize| shipped(plugin).envs(3).seed(5).autoreset(mode).envs_per_worker(each);
            let mut alone = of(1).build().unwrap();
            one_by_one(&mut alone, 700);
            for each in [1, 3] {
                let mut envs = of(each).build().unwrap();
                // In uneven pieces: where a turn or a call ends changes nothing.
                for steps in [1, 250, 0, 449] {
                    let played = envs.rollout(Acting::Random, Amount::Steps(steps), Keep::Columns).unwrap();
                    assert!(played.envs.iter().all(|env| env.steps == steps && env.rewards.len() as u64 == steps));
                }
                assert_eq!(envs.digests(), alone.digests(), "{plugin} {mode:?} {each}");
            }
        }
    }
}

#[test]
fn every_start_and_backend_plays_the_same() {
    let digests = |build: &dyn Fn(Builder) -> Builder| {
        let mut envs = build(shipped("cartpole").envs(4).seed(11)).policy(drawn()).build().unwrap();
        let played = envs.rollout(Acting::Policy, Amount::Steps(2_000), Keep::Columns).unwrap();
        (envs.digests(), columns(&played))
    };
    let first = digests(&|builder| builder);
    for build in [
        (&|builder: Builder| builder.start(Start::Spawn)) as &dyn Fn(Builder) -> Builder,
        &|builder| builder.backend(Backend::Pulley),
        &|builder| builder.backend(Backend::Baseline),
        &|builder| builder.envs_per_worker(2),
        &|builder| builder.policy_worker(PolicyWorker::Own),
        &|builder| builder.policy_worker(PolicyWorker::Own).envs_per_worker(4).backend(Backend::Pulley),
        &|builder| builder.policy_worker(PolicyWorker::Own).start(Start::Spawn),
        &|builder| builder.envs_per_worker(4).backend(Backend::Pulley),
        &|builder| builder.limits(Limits { fuel_per_step: Some(1 << 24), ..Limits::default() }),
    ] {
        assert_eq!(digests(build), first);
    }
}

/// Observations, actions, rewards, what the policy added, and ends.
type Columns = (Vec<u8>, Vec<u8>, Vec<f64>, Vec<u32>, Vec<bool>);

/// What was played, as numbers that can be compared.
fn columns(played: &Rollout) -> Vec<Columns> {
    let bits = |numbers: &[f32]| numbers.iter().map(|number| number.to_bits()).collect();
    let of = |env: &rollcage::rollout::EnvRollout| {
        (env.observations.clone(), env.actions.clone(), env.rewards.clone(), bits(&env.added), env.terminated.clone())
    };
    played.envs.iter().map(of).collect()
}

#[test]
fn given_actions_are_taken_in_order_and_end_the_rollout() {
    let mut envs = shipped("cartpole").envs(2).seed(1).build().unwrap();
    let (long, short) = (discrete(&[0, 1].repeat(300)), discrete(&[1; 30]));
    let played = envs.rollout(Acting::Given(&[&long, &short]), Amount::Steps(9), Keep::Columns).unwrap();
    assert_eq!([&played.envs[0].actions, &played.envs[1].actions], [&long, &short]);
    assert_eq!([played.envs[0].steps, played.envs[1].steps], [600, 30]);
    let ends = played.envs[1].terminated.iter().filter(|ended| **ended).count();
    assert!(ends >= 2 && played.envs[1].episodes.len() == ends);
    assert_eq!(played.envs[1].final_observations.len(), ends * 16);
    // The loop that a trainer would write.
    let mut alone = shipped("cartpole").envs(1).seed(1).build().unwrap();
    alone.reset(None).unwrap();
    let mut seen = Vec::new();
    for action in long.chunks(8) {
        if !alone.takes_action(0) {
            alone.reset(None).unwrap();
        }
        seen.extend_from_slice(alone.last().observation(0));
        alone.step(action).unwrap();
    }
    assert_eq!(played.envs[0].observations, seen);
    assert_eq!(played.envs[0].last_observation, alone.last().observation(0));
    assert_eq!(envs.digests()[0], alone.digests()[0]);
    let wrong = envs.rollout(Acting::Given(&[&discrete(&[0, 2]), &[]]), Amount::Steps(1), Keep::Columns);
    assert!(wrong.unwrap_err().to_string().contains("env 0, action 1: "));
    let wrong = envs.rollout(Acting::Given(&[&[]]), Amount::Steps(1), Keep::Columns);
    assert!(wrong.unwrap_err().to_string().contains("for 1 envs"));
}

// ── Policies ────────────────────────────────────────────────────────────────────────────────────────────────────────

fn drawn() -> PolicyPlugin {
    PolicyPlugin::new(fixture("policy-drawn"))
}

fn rogue(how: &str, after: u64) -> PolicyPlugin {
    PolicyPlugin::new(fixture("policy-rogue")).config(&json!({"how": how, "after": after})).unwrap()
}

#[test]
fn a_policy_sees_what_the_env_answers() {
    let balance = PolicyPlugin::new(fixture("policy-balance"));
    let mut envs = shipped("cartpole").envs(2).seed(3).policy(balance).build().unwrap();
    let played = envs.rollout(Acting::Policy, Amount::Episodes(5), Keep::Columns).unwrap();
    assert_eq!(played.adds, ["value"]);
    assert_eq!(played.envs.iter().map(|env| env.episodes.len()).collect::<Vec<_>>(), [3, 2]);
    for env in &played.envs {
        let rows = env.observations.chunks_exact(16).zip(env.actions.chunks_exact(8)).zip(&env.added);
        for ((observation, action), added) in rows {
            let number = |at: usize| f32::from_le_bytes(observation[at..at + 4].try_into().unwrap());
            assert_eq!(i64::from_le_bytes(action.try_into().unwrap()), i64::from(number(8) + 0.5 * number(12) > 0.0));
            assert_eq!(*added, number(8));
        }
    }
    let returns: Vec<f64> = played.episodes().map(|episode| episode.episode_return).collect();
    assert!(returns.iter().all(|value| *value > 150.0), "it plays well: {returns:?}");
    let kept = envs.rollout(Acting::Policy, Amount::Episodes(4), Keep::Returns).unwrap();
    assert!(kept.envs.iter().all(|env| env.rewards.is_empty()) && kept.episodes().count() == 4);
}

#[test]
fn a_policy_is_reset_with_each_episode_and_where_it_takes_over() {
    for worker in [PolicyWorker::Env, PolicyWorker::Own] {
        is_reset_with_each_episode(worker);
    }
}

fn is_reset_with_each_episode(worker: PolicyWorker) {
    let episodic = PolicyPlugin::new(fixture("policy-episodic"));
    let mut envs = shipped("cartpole").envs(1).seed(3).policy(episodic).policy_worker(worker).build().unwrap();
    let pieces = [5, 200, 300];
    let mut counts = Vec::new();
    let mut ends = Vec::new();
    for steps in pieces {
        let played = envs.rollout(Acting::Policy, Amount::Steps(steps), Keep::Columns).unwrap();
        counts.extend(played.envs[0].added.chunks(2).map(|pair| pair[0]));
        ends.extend(played.envs[0].terminated.iter().zip(&played.envs[0].truncated).map(|(one, other)| *one || *other));
    }
    let mut expected = 0.0;
    for (count, ended) in counts.iter().zip(&ends) {
        assert_eq!(*count, expected);
        expected = if *ended { 0.0 } else { expected + 1.0 };
    }
    assert!(ends.iter().filter(|ended| **ended).count() > 5);
    // A step of another's: the policy has not seen the episode from its beginning.
    envs.reset(None).unwrap();
    envs.rollout(Acting::Policy, Amount::Steps(3), Keep::Columns).unwrap();
    envs.step(&discrete(&[0])).unwrap();
    let played = envs.rollout(Acting::Policy, Amount::Steps(2), Keep::Columns).unwrap();
    assert_eq!([played.envs[0].added[0], played.envs[0].added[2]], [0.0, 1.0]);
}

#[test]
fn a_policy_draws_from_its_envs_seed() {
    for worker in [PolicyWorker::Env, PolicyWorker::Own] {
        draws_from_its_envs_seed(worker);
    }
}

fn draws_from_its_envs_seed(worker: PolicyWorker) {
    let of = |seed: u64| shipped("cartpole").seed(seed).policy(drawn()).policy_worker(worker);
    let actions = |seed: u64, envs: usize| {
        let mut envs = of(seed).envs(envs).build().unwrap();
        let played = envs.rollout(Acting::Policy, Amount::Steps(100), Keep::Columns).unwrap();
        played.envs.iter().map(|env| env.actions.clone()).collect::<Vec<_>>()
    };
    let four = actions(7, 4);
    assert_eq!(four, actions(7, 4));
    assert_eq!(four[2], actions(9, 1)[0], "env i has seed + i, however many there are");
    assert!((1..4).all(|env| four[env] != four[0]));
    // A reset with a seed makes the policy anew.
    let mut envs = of(1).build().unwrap();
    envs.rollout(Acting::Policy, Amount::Steps(10), Keep::Columns).unwrap();
    envs.reset(Some(7)).unwrap();
    let played = envs.rollout(Acting::Policy, Amount::Steps(100), Keep::Columns).unwrap();
    assert_eq!(played.envs[0].actions, four[0]);
}

#[test]
fn masks_reach_a_policy_and_its_actions_keep_to_them() {
    let mut envs = shipped("taxi").envs(2).seed(3).policy(drawn()).build().unwrap();
    if !envs.spec().action_masked {
        envs = builder(fixture("masked")).envs(2).seed(3).policy(drawn()).build().unwrap();
    }
    let played = envs.rollout(Acting::Policy, Amount::Steps(300), Keep::Columns).unwrap();
    let mask = envs.spec().action_space.mask_len().unwrap();
    for env in &played.envs {
        assert_eq!(env.action_masks.len(), 300 * mask);
        for (action, mask) in env.actions.chunks_exact(8).zip(env.action_masks.chunks_exact(mask)) {
            let action = usize::try_from(i64::from_le_bytes(action.try_into().unwrap())).unwrap();
            assert!(mask[action] == 1 || mask.iter().all(|open| *open == 0));
        }
    }
}

/// The policy's fault, and what the envs do afterwards.
fn fault_of(how: &str, after: u64, build: impl Fn(Builder) -> Builder) -> (Fault, VecEnv) {
    // Only a hang is waited for; a busy machine may take its time for the rest.
    let (step, start) = if how.starts_with("hang") { (600, 3_000) } else { (20_000, 60_000) };
    let (step_timeout, start_timeout) = (Duration::from_millis(step), Duration::from_millis(start));
    let limits = Limits { step_timeout, start_timeout, ..Limits::default() };
    let builder = build(shipped("cartpole").envs(3).seed(5).limits(limits)).policy(rogue(how, after));
    let mut envs = builder.build().unwrap();
    match envs.rollout(Acting::Policy, Amount::Steps(50), Keep::Columns) {
        Err(Error::Fault(fault)) => (*fault, envs),
        other => panic!("{how}: {other:?}"),
    }
}

#[test]
fn a_policy_that_misbehaves_ends_the_rollout_and_nothing_else() {
    for (how, said) in [
        ("panic", "the guilty policy was here"),
        ("panic-create", "the policy's create was here"),
        ("memory", "memory"),
        ("outside", "its action is not allowed"),
        ("short", "its action has 0 bytes"),
        ("long", "its action has 16 bytes"),
        ("huge", "its action has 16777216 bytes"),
        ("extras-none", "it adds 0 numbers"),
        ("extras-more", "it adds 2 numbers"),
        ("names-many", "it adds 65 numbers"),
        ("names-long", "a name of 1 to 128 bytes"),
        ("names-empty", "a name of 1 to 128 bytes"),
        ("names-double", "twice"),
        ("error", "this policy does not want to"),
        ("error-long", "no, no, "),
        ("refuse", "this policy plays nothing"),
        ("refuse-config", "it is never the time"),
        ("exit", "exit"),
    ] {
        for (each, worker) in
            [(1, PolicyWorker::Env), (3, PolicyWorker::Env), (1, PolicyWorker::Own), (3, PolicyWorker::Own)]
        {
            let (fault, mut envs) = fault_of(how, 3, |builder| builder.envs_per_worker(each).policy_worker(worker));
            assert_eq!(fault.kind, FaultKind::Policy, "{how}: {fault}");
            let whole = format!("{}\n{}", fault.message, fault.log);
            assert!(whole.contains(said), "{how}: {whole}");
            assert!(fault.message.len() <= 4200, "{how}");
            // No env is charged: each goes on in its first instance, where it is.
            assert_eq!(envs.faults().total(), 0, "{how}");
            let digests = envs.digests();
            if !envs.takes_action(0) {
                envs.reset(None).unwrap();
            }
            envs.step(&discrete(&[0, 1, 0])).unwrap();
            assert!((0..3).all(|env| envs.instance(env) == Some(0)), "{how}");
            assert_ne!(envs.digests(), digests);
        }
    }
}

#[test]
fn a_masked_action_of_a_policy_is_refused_and_odd_numbers_are_numbers() {
    for worker in [PolicyWorker::Env, PolicyWorker::Own] {
        let of = |plugin: &str, how: &str, after: u64| {
            shipped(plugin).seed(5).policy(rogue(how, after)).policy_worker(worker).build().unwrap()
        };
        match of("taxi", "masked", 3).rollout(Acting::Policy, Amount::Steps(50), Keep::Columns) {
            Err(Error::Fault(fault)) => assert!(fault.message.contains("which is masked"), "{fault}"),
            other => panic!("{other:?}"),
        }
        for (how, number) in [("extras-nan", f32::NAN), ("extras-infinite", f32::INFINITY)] {
            let mut envs = of("cartpole", how, 1);
            let played = envs.rollout(Acting::Policy, Amount::Steps(2), Keep::Columns).unwrap();
            assert_eq!(played.envs[0].added.iter().map(|one| one.to_bits()).collect::<Vec<_>>(), [0, number.to_bits()]);
        }
    }
    // Ten megabytes of output: the newest part is kept.
    let mut envs = shipped("cartpole").seed(5).policy(rogue("log", 1)).build().unwrap();
    envs.rollout(Acting::Policy, Amount::Steps(2), Keep::Columns).unwrap();
    assert!(envs.log(0).unwrap().text().len() <= 65_536);
}

#[test]
fn a_policy_that_hangs_is_named_and_costs_no_env_anything() {
    for (how, each) in [("hang", 1), ("hang-create", 1), ("hang-reset", 1), ("hang", 3)] {
        let begun = Instant::now();
        let (fault, mut envs) = fault_of(how, 3, |builder| builder.envs_per_worker(each));
        assert_eq!(fault.kind, FaultKind::Policy, "{how}: {fault}");
        assert!(begun.elapsed() < Duration::from_secs(40), "{how}");
        // The process is gone, and the next instances play; the digest of what was played before stands.
        let stepped = envs.reset(None).map(|_| ()).and_then(|()| envs.step(&discrete(&[0, 1, 0])).map(drop));
        stepped.unwrap();
        assert!(
            envs.faults()
                .first()
                .iter()
                .all(|fault| { fault.kind == FaultKind::Policy || fault.kind == FaultKind::Sibling })
        );
    }
}

/// What the policy breaks is its own process, so not even a hang costs the env its instance.
#[test]
fn a_policy_in_a_process_of_its_own_ends_nothing_else() {
    for how in ["hang", "hang-create", "hang-reset", "exit"] {
        let (fault, mut envs) = fault_of(how, 3, |builder| builder.policy_worker(PolicyWorker::Own));
        assert_eq!(fault.kind, FaultKind::Policy, "{how}: {fault}");
        let digests = envs.digests();
        envs.reset(None).unwrap();
        envs.step(&discrete(&[0, 1, 0])).unwrap();
        assert!((0..3).all(|env| envs.instance(env) == Some(0)), "{how}");
        assert_eq!(envs.faults().total(), 0, "{how}");
        assert_ne!(envs.digests(), digests);
        // Another policy takes its place, and no env is started anew for it.
        let pids: Vec<_> = (0..3).map(|env| envs.pid(env)).collect();
        envs.set_policy(&drawn()).unwrap();
        let played = envs.rollout(Acting::Policy, Amount::Steps(5), Keep::Columns).unwrap();
        assert!(played.envs.iter().all(|env| env.steps == 5), "{how}");
        assert_eq!((0..3).map(|env| envs.pid(env)).collect::<Vec<_>>(), pids, "{how}");
    }
}

/// Processes of this test's own program whose title says that they run a policy.
fn policies_that_run() -> Vec<u32> {
    let own = std::process::id().to_string();
    let is_policy = |pid: &u32| {
        let of = |file: &str| std::fs::read_to_string(format!("/proc/{pid}/{file}")).unwrap_or_default();
        let parent = of("stat").rsplit_once(')').and_then(|(_, rest)| rest.split(' ').nth(2).map(str::to_owned));
        of("cmdline").contains("policy of env") && parent.as_deref() == Some(&*own)
    };
    let numbers =
        std::fs::read_dir("/proc").unwrap().filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    numbers.filter(is_policy).collect()
}

#[test]
fn a_policys_process_that_is_killed_costs_the_rollout_alone() {
    let of = |worker| shipped("cartpole").envs(2).seed(5).policy(drawn()).policy_worker(worker).start(Start::Spawn);
    let mut envs = of(PolicyWorker::Own).build().unwrap();
    envs.rollout(Acting::Policy, Amount::Steps(20), Keep::Returns).unwrap();
    let policies = policies_that_run();
    assert_eq!(policies.len(), 2, "one for each env");
    std::process::Command::new("kill").args(["-9", &policies[0].to_string()]).status().unwrap();
    match envs.rollout(Acting::Policy, Amount::Steps(20), Keep::Columns) {
        Err(Error::Fault(fault)) => assert!(fault.message.contains("its worker: "), "{fault}"),
        other => panic!("{other:?}"),
    }
    envs.rollout(Acting::Policy, Amount::Steps(20), Keep::Columns).unwrap();
    assert_eq!((envs.instance(0), envs.faults().total()), (Some(0), 0));
    drop(envs);
    assert!(policies_that_run().is_empty(), "they end with their envs");
    // The next instance of an env, by whatever it came, has the same policy in both places.
    let restarted = |worker| {
        let mut envs = of(worker).recycle_after(2).build().unwrap();
        let played = envs.rollout(Acting::Policy, Amount::Episodes(11), Keep::Columns).unwrap();
        (columns(&played), envs.digests())
    };
    assert_eq!(restarted(PolicyWorker::Own), restarted(PolicyWorker::Env));
}

#[test]
fn a_policy_has_nothing_of_the_outside() {
    for worker in [PolicyWorker::Env, PolicyWorker::Own] {
        let of = |seed: u64, how: &str| {
            shipped("cartpole").seed(seed).policy(rogue(how, 0)).policy_worker(worker).build().unwrap()
        };
        let played = of(5, "look").rollout(Acting::Policy, Amount::Steps(1), Keep::Columns).unwrap();
        assert_eq!(played.envs[0].added, [0.0; 8]);
        let clocks = |seed: u64| {
            of(seed, "clock").rollout(Acting::Policy, Amount::Steps(20), Keep::Columns).unwrap().envs[0].added.clone()
        };
        assert_eq!(clocks(1), clocks(2), "its clocks are virtual");
    }
}

#[test]
fn a_fault_of_the_env_is_the_envs_whoever_acts() {
    // The guest traps at its fifth step, in the loop and in the worker alike.
    let build = || builder(fixture("trap")).envs(2).seed(1).on_fault(OnFault::Restart);
    let stride = |envs: &VecEnv| envs.spec().action_space.stride();
    let mut envs = build().policy(PolicyPlugin::new(fixture("policy-steady"))).build().unwrap();
    let played = envs.rollout(Acting::Policy, Amount::Steps(7), Keep::Columns);
    let mut alone = build().build().unwrap();
    alone.reset(None).unwrap();
    let zeros = vec![0; 2 * stride(&alone)];
    for _ in 0..20 {
        let _ = alone.step(&zeros);
    }
    assert!(alone.faults().total() > 0);
    match played {
        Ok(played) => assert!(played.envs.iter().any(|env| !env.faults.is_empty())),
        Err(Error::Fault(fault)) => assert_ne!(fault.kind, FaultKind::Policy),
        Err(other) => panic!("{other}"),
    }
    assert_eq!(envs.faults().first()[0].kind, alone.faults().first()[0].kind);
    assert_eq!(envs.faults().first()[0].step, alone.faults().first()[0].step);
}

#[test]
fn an_interrupt_ends_the_turns_within_a_step() {
    for worker in [PolicyWorker::Env, PolicyWorker::Own] {
        an_interrupt_ends_turns(worker);
    }
}

fn an_interrupt_ends_turns(worker: PolicyWorker) {
    let mut envs = shipped("cartpole").envs(2).seed(1).policy(drawn()).policy_worker(worker).build().unwrap();
    let flag = envs.interrupt_flag();
    let raised = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(200));
        flag.store(true, std::sync::atomic::Ordering::Relaxed);
        Instant::now()
    });
    let result = envs.rollout(Acting::Policy, Amount::Steps(u64::MAX), Keep::Returns);
    let took = raised.join().unwrap().elapsed();
    assert!(matches!(result, Err(Error::Interrupted)), "{result:?}");
    assert!(took < Duration::from_secs(5), "{took:?}");
    // What is under way is finished by the next call, and the envs go on.
    envs.interrupt_flag().store(false, std::sync::atomic::Ordering::Relaxed);
    envs.rollout(Acting::Policy, Amount::Steps(5), Keep::Returns).unwrap();
    assert_eq!(envs.faults().total(), 0);
}

#[test]
fn wrong_files_are_told_apart() {
    let error = shipped("cartpole").policy(PolicyPlugin::new(fixture("echo"))).build().err().unwrap();
    assert!(error.to_string().contains("it is an env, not a policy"), "{error}");
    let error = builder(fixture("policy-steady")).build().err().unwrap();
    assert!(error.to_string().contains("it is a policy, not an env"), "{error}");
    let mut envs = shipped("cartpole").build().unwrap();
    let error = envs.rollout(Acting::Policy, Amount::Steps(1), Keep::Columns).unwrap_err();
    assert!(error.to_string().contains("no policy beside them"), "{error}");
    let policy = PolicyPlugin::new(fixture("policy-steady")).config(&json!({"acton": 1})).unwrap();
    let error = shipped("cartpole").policy(policy).build().err().unwrap();
    assert!(error.to_string().contains("acton"), "{error}");
}

#[test]
fn a_copy_of_an_env_has_a_copy_of_its_policy() {
    let mut envs = shipped("cartpole").seed(4).policy(drawn()).build().unwrap();
    envs.rollout(Acting::Policy, Amount::Steps(7), Keep::Columns).unwrap();
    let mut copies = envs.branch(0, 2).unwrap();
    let actions = |envs: &mut VecEnv| {
        let played = envs.rollout(Acting::Policy, Amount::Steps(60), Keep::Columns).unwrap();
        played.envs.iter().map(|env| env.actions.clone()).collect::<Vec<_>>()
    };
    let original = actions(&mut envs);
    let copied = actions(&mut copies);
    assert_eq!(copied, [original[0].clone(), original[0].clone()]);
    drop(copies);
    let digest: Vec<Digest> = envs.digests();
    assert_eq!(digest.len(), 1);
}

#[test]
fn a_policy_comes_to_envs_that_run_already() {
    for (each, mode) in [(1, Autoreset::NextStep), (2, Autoreset::NextStep), (1, Autoreset::SameStep)] {
        let of = || shipped("cartpole").envs(2).seed(6).autoreset(mode).envs_per_worker(each);
        let mut with = of().policy(drawn()).build().unwrap();
        let mut without = of().build().unwrap();
        let mut both = |play: &dyn Fn(&mut VecEnv) -> Vec<u8>| {
            let (one, other) = (play(&mut with), play(&mut without));
            assert_eq!(one, other);
            assert_eq!(with.digests(), without.digests());
        };
        let steps = |envs: &mut VecEnv| {
            envs.reset(None).unwrap();
            for step in 0..60 {
                envs.step(&discrete(&[step % 2, 1])).unwrap();
            }
            envs.last().observations.clone()
        };
        let rollout = |envs: &mut VecEnv| {
            envs.set_policy(&drawn()).unwrap();
            let pids = [envs.pid(0), envs.pid(1)];
            let played = envs.rollout(Acting::Policy, Amount::Steps(90), Keep::Columns).unwrap();
            envs.set_policy(&drawn()).unwrap();
            assert_eq!([envs.pid(0), envs.pid(1)], pids, "the same policy is there already");
            [played.envs[0].actions.clone(), played.envs[1].last_observation.clone()].concat()
        };
        both(&steps);
        both(&rollout);
        both(&steps);
        both(&rollout);
        assert!((0..2).all(|env| without.instance(env) == Some(0)));
        // Another config is another policy.
        let fixed =
            |action: i64| PolicyPlugin::new(fixture("policy-steady")).config(&json!({"action": action})).unwrap();
        for action in [1, 0] {
            without.set_policy(&fixed(action)).unwrap();
            let played = without.rollout(Acting::Policy, Amount::Steps(3), Keep::Columns).unwrap();
            assert_eq!(played.envs[0].actions, discrete(&[action; 3]));
        }
    }
    let mut envs = shipped("cartpole").build().unwrap();
    envs.reset(None).unwrap();
    let branch = envs.branch(0, 1).unwrap();
    let error = envs.set_policy(&drawn()).unwrap_err();
    assert!(error.to_string().contains("have branches"), "{error}");
    drop(branch);
    envs.set_policy(&drawn()).unwrap();
    let error = envs.set_policy(&PolicyPlugin::new(fixture("echo"))).unwrap_err();
    assert!(error.to_string().contains("not a policy"), "{error}");
    envs.rollout(Acting::Policy, Amount::Steps(3), Keep::Columns).unwrap();
}

/// Faults in the middle of a batch, clocks, randomness: whatever the guest's own loop makes of it, what comes out is what single
/// steps give, up to the fault and its step.
#[test]
fn a_batch_that_goes_wrong_is_run_again_by_single_steps() {
    let limits = || Limits { step_timeout: Duration::from_millis(700), ..Limits::default() };
    for name in
        ["trap", "panic", "fail", "restart", "exit", "loop", "memory", "stack", "wait", "random", "echo", "slow"]
    {
        // Late, but never near the deadline, whatever else the machine does.
        let config = if name == "slow" { json!({ "spins": 100_000_000 }) } else { json!({}) };
        let of = || {
            let envs = builder(fixture(name)).config(&config).unwrap();
            envs.envs(2).seed(5).limits(limits()).start(Start::Spawn)
        };
        let told = |envs: &VecEnv| {
            let faults = envs.faults().first().iter();
            let of = |fault: &Fault| (fault.env, fault.instance, fault.episode, fault.step, fault.kind.number());
            let mut told: Vec<_> = faults.map(of).collect();
            told.sort_unstable();
            told
        };
        let mut alone = of().build().unwrap();
        one_by_one(&mut alone, 9);
        let mut envs = of().build().unwrap();
        let played = envs.rollout(Acting::Random, Amount::Steps(9), Keep::Columns).unwrap();
        assert!(played.envs.iter().all(|env| env.steps == 9), "{name}");
        assert_eq!(told(&envs), told(&alone), "{name}");
        assert_eq!(envs.digests(), alone.digests(), "{name}");
    }
}

#[test]
fn a_recording_says_whose_actions_it_has() {
    let scratch = Scratch::new("acted");
    let folder = scratch.folder().join("played").display().to_string();
    let policy = |name: &str| fixture_path(&format!("policy-{name}")).display().to_string();
    let run = ["run", "cartpole", "--envs", "3", "--seed", "4", "--steps", "900", "--record", &folder];
    let (status, report) = Rollcage::json([&run[..], &["--policy", &policy("drawn")]].concat());
    assert_eq!((status, report["steps"].as_u64()), (Some(0), Some(900)), "{report}");
    let verify = |policy: &str| Rollcage::run(["verify", &folder, "--with-policy", policy]);
    let ran = verify(&policy("drawn"));
    assert_eq!(ran.status, Some(0), "{ran:?}");
    assert!(ran.stdout.contains("every action is what policy"), "{}", ran.stdout);
    let ran = verify(&policy("balance"));
    assert_eq!(ran.status, Some(2), "{ran:?}");
    assert!(ran.stderr.contains("the recording names `drawn`"), "{}", ran.stderr);
    // A recording whose actions are another's, although it names the policy.
    let other = scratch.folder().join("other").display().to_string();
    let record = rollcage::record::writer::Record { folder: other.clone().into(), embed_plugin: false };
    let mut envs = shipped("cartpole").envs(2).seed(4).policy(drawn()).record(record).build().unwrap();
    envs.rollout(Acting::Policy, Amount::Steps(40), Keep::Returns).unwrap();
    envs.rollout(Acting::Random, Amount::Steps(40), Keep::Returns).unwrap();
    envs.finish_recording().unwrap();
    let ran = Rollcage::run(["verify", &other, "--with-policy", &policy("drawn")]);
    assert_eq!(ran.status, Some(1), "{ran:?}");
    assert!(ran.stdout.contains("its action number 4"), "{}", ran.stdout);
    // One that names none.
    let random = scratch.folder().join("random").display().to_string();
    Rollcage::json(["run", "cartpole", "--steps", "50", "--record", &random]);
    let ran = Rollcage::run(["verify", &random, "--with-policy", &policy("drawn")]);
    assert_eq!(ran.status, Some(2), "{ran:?}");
    assert!(ran.stderr.contains("names no policy"), "{}", ran.stderr);
}

#[test]
fn what_was_played_can_be_taken_up_and_gone_on_with() {
    let mut envs = shipped("frozenlake").envs(2).seed(8).policy(drawn()).build().unwrap();
    envs.rollout(Acting::Policy, Amount::Steps(300), Keep::Returns).unwrap();
    envs.rollout(Acting::Random, Amount::Steps(300), Keep::Returns).unwrap();
    let snapshot = envs.snapshot(1).unwrap();
    let mut other = shipped("frozenlake").envs(1).seed(99).build().unwrap();
    other.restore(0, &snapshot).unwrap();
    let next = discrete(&[2; 40]);
    let one = envs.rollout(Acting::Given(&[&next, &next]), Amount::Steps(0), Keep::Columns).unwrap();
    let two = other.rollout(Acting::Given(&[&next]), Amount::Steps(0), Keep::Columns).unwrap();
    assert_eq!(one.envs[1].observations, two.envs[0].observations);
    assert_eq!(one.envs[1].rewards, two.envs[0].rewards);
}

/// A worker that is killed while it plays is that env's fault; the others' rollouts are as if nothing had been.
#[test]
fn a_killed_worker_costs_its_env_alone() {
    let of = || shipped("cartpole").envs(4).seed(2).policy(drawn());
    let mut calm = of().build().unwrap();
    calm.rollout(Acting::Policy, Amount::Steps(60_000), Keep::Returns).unwrap();
    for round in 0..5 {
        let mut envs = of().build().unwrap();
        envs.rollout(Acting::Policy, Amount::Steps(1), Keep::Returns).unwrap();
        let pid = rustix::process::Pid::from_raw(envs.pid(1).unwrap().cast_signed()).unwrap();
        let killer = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(5 + 7 * round));
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
        });
        let played = envs.rollout(Acting::Policy, Amount::Steps(59_999), Keep::Returns).unwrap();
        killer.join().unwrap();
        assert!(played.envs.iter().all(|env| env.steps == 59_999));
        let (digests, wanted) = (envs.digests(), calm.digests());
        for env in [0, 2, 3] {
            assert_eq!(digests[env], wanted[env], "round {round}, env {env}");
        }
        let faults = envs.faults().first();
        let kinds = [FaultKind::Signalled, FaultKind::Policy];
        assert!(faults.iter().all(|fault| fault.env == 1 && kinds.contains(&fault.kind)), "{faults:?}");
    }
}
