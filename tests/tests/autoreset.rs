//! What a `VecEnv` does with resets, episodes and ids: the three autoreset modes against Gymnasium's own `SyncVectorEnv`
//! (`dynamics/autoreset.py` says what its lines mean), and what Gymnasium has no word for.

use std::time::Duration;

use rollcage::space::{InfoLayout, info_layout};
use rollcage::{Autoreset, Batch, Builder, EpisodeEnd, Error, ResetSome, TimeLimit, UsageError, VecEnv};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use crate::dynamics::{Reference, Values, info_of, same_info};
use rollcage_tests::{builder, discrete, fixture, shipped};

const MODES: [Autoreset; 3] = [Autoreset::NextStep, Autoreset::SameStep, Autoreset::Disabled];

// ── Against Gymnasium ───────────────────────────────────────────────────────────────────────────────────────────────

#[test]
fn next_step_is_gymnasiums() {
    let seen = replay("next-step", Autoreset::NextStep);
    assert!(seen.resets > 100 && seen.finals == 0, "{seen:?}");
}

#[test]
fn same_step_is_gymnasiums() {
    let seen = replay("same-step", Autoreset::SameStep);
    assert!(seen.resets == 0 && seen.finals > 100, "{seen:?}");
}

#[test]
fn disabled_is_gymnasiums() {
    let seen = replay("disabled", Autoreset::Disabled);
    assert!(seen.resets == 0 && seen.finals == 0 && seen.masked > 100, "{seen:?}");
}

/// What was met in the runs of a mode.
#[derive(Debug, Default)]
struct Seen {
    runs: u32,
    steps: u64,
    /// Automatic resets in a step of their own.
    resets: u32,
    finals: u32,
    /// Rows that a masked reset left alone.
    masked: u32,
    terminated: u32,
    truncated: u32,
    /// Steps that ended an episode both ways.
    both: u32,
}

/// Plays every run of a mode again.
fn replay(name: &str, mode: Autoreset) -> Seen {
    let mut seen = Seen::default();
    let mut run: Option<Run> = None;
    for row in Reference::run("autoreset.py", &["--only", name]) {
        if row.get("run").is_some() {
            assert_eq!(row["mode"], name);
            seen.runs += 1;
            run = Some(Run::begin(&row, mode));
            continue;
        }
        let run = run.as_mut().unwrap();
        match row.get("reset") {
            Some(reset) => run.reset(reset, &row, &mut seen),
            None => run.step(&row, &mut seen),
        }
        assert_eq!(run.envs.faults().total(), 0, "{row}");
    }
    assert_eq!((seen.runs, seen.steps), (4, 1_600));
    assert!(seen.terminated > 0 && seen.truncated > 0 && seen.both > 0, "{seen:?}");
    seen
}

struct Run {
    name: String,
    envs: VecEnv,
    observations: Values,
    infos: InfoLayout,
    begun: bool,
}

impl Run {
    fn begin(header: &Value, mode: Autoreset) -> Run {
        let limit = header["max_episode_steps"].as_u64().unwrap().try_into().unwrap();
        let envs = shipped(header["plugin"].as_str().unwrap())
            .config(&header["config"])
            .unwrap()
            .envs(header["envs"].as_u64().unwrap().try_into().unwrap())
            .seed(header["seed"].as_u64().unwrap())
            .max_episode_steps(limit)
            .autoreset(mode)
            .build()
            .unwrap();
        assert_eq!(envs.max_episode_steps(), Some(limit));
        let name = header["run"].as_str().unwrap().to_owned();
        let observations = Values::of(&envs.spec().observation_space);
        let infos = info_layout(&envs.spec().info_fields).unwrap();
        Run { name, envs, observations, infos, begun: false }
    }

    fn reset(&mut self, reset: &Value, row: &Value, seen: &mut Seen) {
        let before = self.envs.last().clone();
        let mask: Option<Vec<bool>> = reset["mask"].as_array().map(|mask| mask.iter().map(flag).collect());
        let seeds: Option<Vec<Option<u64>>> =
            reset["seeds"].as_array().map(|all| all.iter().map(Value::as_u64).collect());
        let options = Some(&reset["options"]).filter(|options| !options.is_null());
        match (reset["seed"].as_u64(), &mask) {
            // The builder's seed is that of the first reset.
            (Some(_), None) if !self.begun => self.envs.reset(None).unwrap(),
            (None, Some(_)) => {
                let some = ResetSome { mask: mask.as_deref(), seeds: seeds.as_deref(), options };
                self.envs.reset_some(&some).unwrap()
            }
            (seed, None) => self.envs.reset(seed).unwrap(),
            other => panic!("a reset that the script does not make: {other:?}"),
        };
        self.begun = true;
        self.check_views(row);
        let batch = self.envs.last();
        for env in 0..self.envs.len() {
            if mask.as_ref().is_none_or(|mask| mask[env]) {
                let flags = (batch.rewards[env], batch.terminated[env], batch.truncated[env], batch.was_reset[env]);
                assert_eq!(flags, (0.0, false, false, true), "{}, env {env}: {row}", self.name);
                assert!(!batch.has_final[env] && batch.episodes[env].is_none(), "{}, env {env}: {row}", self.name);
            } else {
                seen.masked += 1;
                assert_eq!(rows(batch, env), rows(&before, env), "{}, env {env}: {row}", self.name);
            }
        }
    }

    fn step(&mut self, row: &Value, seen: &mut Seen) {
        let actions: Vec<i64> = each(row, "actions").map(|action| action.as_i64().unwrap()).collect();
        self.envs.step(&discrete(&actions)).unwrap();
        self.check_views(row);
        let batch = self.envs.last();
        assert_eq!(
            batch.rewards,
            each(row, "rewards").map(|reward| reward.as_f64().unwrap()).collect::<Vec<_>>(),
            "{row}"
        );
        assert_eq!(batch.terminated, each(row, "terminated").map(flag).collect::<Vec<_>>(), "{row}");
        assert_eq!(batch.truncated, each(row, "truncated").map(flag).collect::<Vec<_>>(), "{row}");
        assert_eq!(batch.was_reset, each(row, "resets").map(flag).collect::<Vec<_>>(), "{row}");
        let episode = |episode: &Value| {
            let length = u32::try_from(episode["length"].as_u64()?).ok()?;
            Some(EpisodeEnd { episode_return: episode["return"].as_f64()?, length })
        };
        assert_eq!(batch.episodes, each(row, "episodes").map(episode).collect::<Vec<_>>(), "{row}");
        for (env, expected) in each(row, "final_observations").enumerate() {
            let place = format!("{}, env {env}: {row}", self.name);
            assert_eq!(batch.has_final[env], !expected.is_null(), "{place}");
            assert_eq!(batch.final_info(env).is_some(), !row["final_infos"][env].is_null(), "{place}");
            if let (Some(bytes), Some(info)) = (batch.final_observation(env), batch.final_info(env)) {
                self.observations.check(bytes, expected).unwrap_or_else(|what| panic!("{place}: {what}"));
                let info = info_of(&self.infos, info, &batch.final_infos_extra[env]);
                assert!(same_info(&info, &row["final_infos"][env]), "{place}: the final info is {info:?}");
                seen.finals += 1;
            }
            seen.resets += u32::from(batch.was_reset[env]);
            seen.terminated += u32::from(batch.terminated[env]);
            seen.truncated += u32::from(batch.truncated[env]);
            seen.both += u32::from(batch.terminated[env] && batch.truncated[env]);
        }
        seen.steps += 1;
    }

    /// Observations and infos of a row; an info of null is one that Gymnasium does not give.
    fn check_views(&self, row: &Value) {
        let batch = self.envs.last();
        assert_eq!(batch.env_ids, [0, 1, 2]);
        for (env, (observation, info)) in each(row, "observations").zip(each(row, "infos")).enumerate() {
            let place = format!("{}, env {env}: {row}", self.name);
            self.observations
                .check(batch.observation(env), observation)
                .unwrap_or_else(|what| panic!("{place}: {what}"));
            let given = info_of(&self.infos, batch.info(env), &batch.infos_extra[env]);
            assert!(info.is_null() || same_info(&given, info), "{place}: the info is {given:?}");
        }
    }
}

fn each<'a>(row: &'a Value, key: &str) -> impl Iterator<Item = &'a Value> {
    row[key].as_array().unwrap().iter()
}

fn flag(value: &Value) -> bool {
    value.as_bool().unwrap()
}

// ── Time limit, return and length ───────────────────────────────────────────────────────────────────────────────────

#[test]
fn a_time_limit_of_ones_own_replaces_the_envs() {
    for mode in MODES {
        let mut envs = echo(json!({"length": 7})).max_episode_steps(5).autoreset(mode).build().unwrap();
        assert_eq!((envs.max_episode_steps(), envs.spec().max_episode_steps), (Some(5), None));
        for episode in 0..3 {
            if episode == 0 || mode == Autoreset::Disabled {
                envs.reset(None).unwrap();
            }
            for step in 1..=5 {
                let batch = envs.step(&discrete(&[step])).unwrap();
                assert_eq!((batch.terminated[0], batch.truncated[0]), (false, step == 5), "{mode:?}, step {step}");
                // The actions are the rewards.
                let end = EpisodeEnd { episode_return: 15.0, length: 5 };
                assert_eq!(batch.episodes[0], (step == 5).then_some(end), "{mode:?}, step {step}");
            }
            if mode == Autoreset::NextStep {
                let batch = envs.step(&discrete(&[9])).unwrap();
                assert!(batch.was_reset[0] && batch.rewards[0] == 0.0 && batch.episodes[0].is_none());
            }
        }
        // A limit that is longer than the env's episodes has no say.
        let mut envs = echo(json!({"length": 2})).max_episode_steps(3).autoreset(mode).build().unwrap();
        envs.reset(None).unwrap();
        envs.step(&discrete(&[1])).unwrap();
        let batch = envs.step(&discrete(&[1])).unwrap();
        assert_eq!((batch.terminated[0], batch.truncated[0]), (true, false), "{mode:?}");
    }
    // And it can be none.
    let mut pendulum = shipped("pendulum").time_limit(TimeLimit::Off).build().unwrap();
    assert_eq!((pendulum.max_episode_steps(), pendulum.spec().max_episode_steps), (None, Some(200)));
    pendulum.reset(None).unwrap();
    for _ in 0..250 {
        let batch = pendulum.step(&[0; 8]).unwrap();
        assert_eq!((batch.terminated[0], batch.truncated[0]), (false, false));
    }
    let mut cartpole = shipped("cartpole").max_episode_steps(600).build().unwrap();
    assert_eq!((cartpole.max_episode_steps(), cartpole.spec().max_episode_steps), (Some(600), Some(500)));
    cartpole.reset(None).unwrap();
    assert_eq!(
        usage(shipped("cartpole").max_episode_steps(0).build()).message,
        "a time limit of 0 steps; an episode has at least one"
    );
}

#[test]
fn an_explicit_reset_begins_return_and_length_anew() {
    let mut envs = echo(json!({"length": 3})).build().unwrap();
    envs.reset(None).unwrap();
    envs.step(&discrete(&[100])).unwrap();
    envs.step(&discrete(&[200])).unwrap();
    assert_eq!(envs.reset(None).unwrap().episodes[0], None);
    for action in [1, 2, 3] {
        envs.step(&discrete(&[action])).unwrap();
    }
    assert_eq!(envs.last().episodes[0], Some(EpisodeEnd { episode_return: 6.0, length: 3 }));
}

// ── Options of the next reset ───────────────────────────────────────────────────────────────────────────────────────

#[test]
fn options_that_were_set_reach_the_next_reset_once() {
    for mode in MODES {
        let mut envs = options().envs(2).autoreset(mode).build().unwrap();
        let starts = |envs: &VecEnv| [0, 1].map(|env| integers(envs.last().observation(env))[0]);
        envs.set_reset_options(1, Some(&json!({"start": 7}))).unwrap();
        envs.reset(None).unwrap();
        assert_eq!(starts(&envs), [0, 7], "{mode:?}: an explicit reset without options of its own");
        // Episodes have three steps. The options are set in the middle of one, and wait for its end.
        let mut seen = Vec::new();
        for episode in 0..3 {
            for step in 0..3 {
                if (episode, step) == (0, 1) {
                    envs.set_reset_options(0, Some(&json!({"start": 40}))).unwrap();
                    envs.set_reset_options(0, Some(&json!({"start": 50}))).unwrap();
                }
                envs.step(&discrete(&[0, 0])).unwrap();
                assert_eq!(envs.last().terminated, [step == 2; 2], "{mode:?}, episode {episode}, step {step}");
            }
            match mode {
                Autoreset::NextStep => envs.step(&discrete(&[0, 0])).map(drop).unwrap(),
                Autoreset::SameStep => {}
                Autoreset::Disabled => envs.reset(None).map(drop).unwrap(),
            }
            seen.push(starts(&envs));
        }
        assert_eq!(seen, [[50, 0], [0, 0], [0, 0]], "{mode:?}");
    }
}

#[test]
fn options_set_while_an_answer_is_on_its_way_wait_for_the_reset_after_it() {
    for mode in [Autoreset::NextStep, Autoreset::SameStep] {
        let mut envs = options().autoreset(mode).build().unwrap();
        envs.reset(None).unwrap();
        // The third step ends the episode; in next-step mode the fourth resets. That turn is the one on its way.
        let turn = if mode == Autoreset::SameStep { 3 } else { 4 };
        for _ in 1..turn {
            envs.step(&discrete(&[0])).unwrap();
        }
        envs.set_reset_options(0, Some(&json!({"start": 20}))).unwrap();
        envs.send(&discrete(&[0]), &[0]).unwrap();
        envs.set_reset_options(0, Some(&json!({"start": 30}))).unwrap();
        let start = |batch: &Batch| integers(batch.observation(0))[0];
        assert_eq!(start(&envs.recv(1, None).unwrap().1), 20, "{mode:?}");
        let starts: Vec<i64> = (0..2 * turn).map(|_| start(envs.step(&discrete(&[0])).unwrap())).collect();
        assert_eq!(starts[turn - 1], 30, "{mode:?}: {starts:?}");
        assert_eq!(starts[2 * turn - 1], 0, "{mode:?}: {starts:?}");
    }
}

#[test]
fn options_that_were_set_can_be_taken_back() {
    let mut envs = options().build().unwrap();
    envs.set_reset_options(0, Some(&json!({"start": 7}))).unwrap();
    envs.set_reset_options(0, None).unwrap();
    assert_eq!(integers(envs.reset(None).unwrap().observation(0))[0], 0);
    // A reset's own options come before those that were set.
    envs.set_reset_options(0, Some(&json!({"start": 7}))).unwrap();
    let own = json!({"start": 3});
    let batch = envs.reset_some(&ResetSome { options: Some(&own), ..ResetSome::default() }).unwrap();
    assert_eq!(integers(batch.observation(0))[0], 3);
}

#[test]
fn options_that_are_none_are_refused() {
    let mut envs = options().build().unwrap();
    envs.reset(None).unwrap();
    let digest = envs.digest();
    let long = json!({"start": "0".repeat(60 << 10)});
    for wrong in [json!(3), json!([1]), json!("start"), Value::Null, long] {
        usage(envs.set_reset_options(0, Some(&wrong)));
        usage(envs.reset_some(&ResetSome { options: Some(&wrong), ..ResetSome::default() }).map(drop));
    }
    usage(envs.set_reset_options(1, None));
    assert_eq!(envs.digest(), digest);
}

#[test]
fn a_reset_that_the_env_refuses_changes_nothing() {
    for mode in MODES {
        let mut envs = options().autoreset(mode).build().unwrap();
        let mut twin = options().autoreset(mode).build().unwrap();
        envs.reset(None).unwrap();
        twin.reset(None).unwrap();
        for step in 0..3 {
            for (refused, message) in [
                (json!({"start": -1}), "`start` is -1, which is less than 0"),
                (json!({"begin": 1}), "unknown field `begin`"),
            ] {
                for seed in [None, Some(9)] {
                    let reset = ResetSome { options: Some(&refused), seeds: Some(&[seed]), mask: None };
                    let error = usage(envs.reset_some(&reset).map(drop));
                    assert!(error.message.contains(message), "{mode:?}: {error}");
                }
            }
            // The episode goes on as if nothing had been asked.
            let expected = rows(twin.step(&discrete(&[0])).unwrap(), 0);
            assert_eq!(rows(envs.step(&discrete(&[0])).unwrap(), 0), expected, "{mode:?}, step {step}");
        }
        assert_eq!(envs.last().episodes[0], Some(EpisodeEnd { episode_return: 3.0, length: 3 }), "{mode:?}");
        assert_eq!((envs.digests(), envs.faults().total()), (twin.digests(), 0), "{mode:?}");
    }
}

#[test]
fn what_many_envs_refuse_is_told_once() {
    let mut envs = options().envs(3).build().unwrap();
    envs.reset(None).unwrap();
    let refused = json!({"start": -1});
    for _ in 0..2 {
        let error = usage(envs.reset_some(&ResetSome { options: Some(&refused), ..ResetSome::default() }).map(drop));
        assert!(error.message.starts_with("env 0, step 0: "), "{error}");
    }
    // The next call is not told of the others' refusals.
    assert_eq!(envs.step(&discrete(&[0; 3])).unwrap().rewards, [1.0; 3]);
}

#[test]
fn an_automatic_reset_that_the_env_refuses_is_made_up_for() {
    for mode in [Autoreset::NextStep, Autoreset::SameStep] {
        let mut envs = options().envs(2).autoreset(mode).build().unwrap();
        envs.reset(None).unwrap();
        envs.set_reset_options(0, Some(&json!({"start": -1}))).unwrap();
        let both = discrete(&[0, 0]);
        envs.step(&both).unwrap();
        envs.step(&both).unwrap();
        if mode == Autoreset::NextStep {
            envs.step(&both).unwrap();
        }
        let error = usage(envs.step(&both).map(drop));
        assert!(error.message.contains("`start` is -1"), "{mode:?}: {error}");
        // The other env was not held up, and this one is reset by its next step.
        let other = envs.last();
        assert_eq!(
            (integers(other.observation(1))[1], other.terminated[1]),
            (0, mode == Autoreset::SameStep),
            "{mode:?}"
        );
        let batch = envs.step(&both).unwrap();
        assert_eq!((batch.was_reset[0], integers(batch.observation(0))[..2].to_vec()), (true, vec![0, 0]), "{mode:?}");
        assert_eq!(envs.step(&both).unwrap().rewards, [1.0, 1.0], "{mode:?}");
        assert_eq!(envs.faults().total(), 0);
    }
}

#[test]
fn a_mask_or_seeds_of_another_length_are_refused() {
    let mut envs = echo(json!({})).envs(2).build().unwrap();
    envs.reset(None).unwrap();
    envs.step(&discrete(&[1, 2])).unwrap();
    let (digest, before) = (envs.digest(), envs.last().clone());
    for mask in [&[][..], &[true], &[true; 3]] {
        let error = usage(envs.reset_some(&ResetSome { mask: Some(mask), ..ResetSome::default() }).map(drop));
        assert_eq!(error.message, format!("a reset's mask and seeds: {} entries for 2 envs", mask.len()));
        let seeds = vec![Some(1); mask.len()];
        usage(envs.reset_some(&ResetSome { seeds: Some(&seeds), ..ResetSome::default() }).map(drop));
    }
    usage(envs.reset(Some(u64::MAX)).map(drop));
    assert_eq!((envs.digest(), envs.last()), (digest, &before));
    envs.reset(Some(u64::MAX - 1)).unwrap();
    // The last seed is one that an env of its own has too.
    let mut other = echo(json!({})).seed(u64::MAX).build().unwrap();
    assert_eq!(other.reset(None).unwrap().observation(0)[32..], envs.last().observation(1)[32..]);
    assert!(matches!(echo(json!({})).envs(2).seed(u64::MAX).build(), Err(Error::Usage(_))));
}

// ── The same steps by other calls ───────────────────────────────────────────────────────────────────────────────────

#[test]
fn send_and_recv_are_step() {
    for mode in [Autoreset::NextStep, Autoreset::SameStep] {
        let made = || echo(json!({"length": 4})).envs(4).seed(3).autoreset(mode).build().unwrap();
        let (mut plain, mut parted) = (made(), made());
        plain.reset(None).unwrap();
        parted.reset(None).unwrap();
        for step in 0..60 {
            let actions = [step, step + 100, step + 200, step + 300];
            plain.step(&discrete(&actions)).unwrap();
            // In two halves, out of order, and received together or one after the other.
            let order: [usize; 4] = if step % 2 == 0 { [2, 0, 3, 1] } else { [3, 2, 1, 0] };
            let (one, two) = order.split_at(2);
            let chosen = |ids: &[usize]| discrete(&ids.iter().map(|&id| actions[id]).collect::<Vec<_>>());
            let mut got = Vec::new();
            let mut receive = |envs: &mut VecEnv, count: usize| {
                while got.len() < count {
                    let (ids, batch) = envs.recv(1, None).unwrap();
                    assert!(!ids.is_empty() && ids.is_sorted(), "{ids:?}");
                    assert_eq!(batch.env_ids, ids.iter().map(|&id| u32::try_from(id).unwrap()).collect::<Vec<_>>());
                    assert_eq!(batch.len(), ids.len());
                    got.extend(ids.iter().enumerate().map(|(row, &id)| (id, rows(&batch, row))));
                }
            };
            parted.send(&chosen(one), one).unwrap();
            if step % 3 == 0 {
                receive(&mut parted, 2);
            }
            parted.send(&chosen(two), two).unwrap();
            receive(&mut parted, 4);
            got.sort_by_key(|(id, _)| *id);
            let expected: Vec<_> = (0..4).map(|env| (env, rows(plain.last(), env))).collect();
            assert_eq!(got, expected, "{mode:?}, step {step}");
        }
        assert_eq!(plain.digests(), parted.digests(), "{mode:?}");
        assert_eq!(parted.recv(4, None).unwrap().0, [0usize; 0], "nothing flies, nothing is waited for");
    }
}

#[test]
fn recv_waits_for_as_many_as_it_is_told() {
    let mut envs = echo(json!({})).envs(3).build().unwrap();
    envs.reset(None).unwrap();
    envs.send(&discrete(&[1, 2, 3]), &[0, 1, 2]).unwrap();
    // All that fly, where more are asked for.
    let (ids, batch) = envs.recv(usize::MAX, None).unwrap();
    assert_eq!((ids, batch.rewards), (vec![0, 1, 2], vec![1.0, 2.0, 3.0]));
    assert!(envs.recv(0, Some(Duration::ZERO)).unwrap().0.is_empty());
}

#[test]
fn recv_whose_time_is_over_loses_nothing() {
    let mut envs = echo(json!({})).envs(2).build().unwrap();
    envs.reset(None).unwrap();
    let worker = Pid::from_raw(envs.pid(1).unwrap().cast_signed()).unwrap();
    kill_process(worker, Signal::STOP).unwrap();
    envs.send(&discrete(&[5, 6]), &[0, 1]).unwrap();
    let (ids, batch) = envs.recv(1, None).unwrap();
    assert_eq!((ids, batch.rewards), (vec![0], vec![5.0]));
    for timeout in [0, 1, 50] {
        assert!(envs.recv(1, Some(Duration::from_millis(timeout))).unwrap().0.is_empty());
    }
    assert_eq!(usage(envs.send(&discrete(&[7]), &[1])).message, "env 1 is in flight");
    kill_process(worker, Signal::CONT).unwrap();
    let (ids, batch) = envs.recv(1, None).unwrap();
    assert_eq!((ids, integers(batch.observation(0))[0], batch.rewards), (vec![1], 6, vec![6.0]));
}

#[test]
fn some_steps_at_once_are_steps_one_by_one() {
    let made = || shipped("cartpole").envs(2).seed(5).max_episode_steps(18).build().unwrap();
    let (mut plain, mut batched) = (made(), made());
    plain.reset(None).unwrap();
    batched.reset(None).unwrap();
    // Env 1 takes batches of all lengths, env 0 its steps by the side; episodes end within batches, by fall and by limit.
    let mut coin = 1u32;
    let mut flip = || {
        coin = coin.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        i64::from(coin >> 31)
    };
    let actions: Vec<i64> = (0..600).map(|_| flip()).collect();
    let (mut at, mut falls, mut limits) = (0, 0, 0);
    for size in (1..=40).cycle() {
        let wanted = &actions[at..(at + size).min(actions.len())];
        if wanted.is_empty() {
            break;
        }
        let steps = batched.step_many(1, &discrete(wanted)).unwrap();
        let taken = steps.taken as usize;
        assert!(taken > 0 && steps.fault.is_none());
        assert_eq!((steps.observations.len(), steps.rewards.len()), (16 * taken, taken));
        for (index, &action) in wanted[..taken].iter().enumerate() {
            let batch = plain.step_some(&discrete(&[action]), &[1]).unwrap();
            assert_eq!(steps.observations[16 * index..][..16], *batch.observation(1));
            assert_eq!(steps.rewards[index], batch.rewards[1]);
            let last = index + 1 == taken;
            let (terminated, truncated) = (last && steps.terminated, last && steps.truncated);
            assert_eq!((batch.terminated[1], batch.truncated[1]), (terminated, truncated), "action {}", at + index);
            assert_eq!(batch.episodes[1], steps.episode.filter(|_| last), "action {}", at + index);
        }
        at += taken;
        assert!(taken == wanted.len() || steps.terminated || steps.truncated);
        falls += u32::from(steps.terminated);
        limits += u32::from(steps.truncated);
        if steps.terminated || steps.truncated {
            let error = usage(batched.step_many(1, &discrete(&[0])));
            assert!(error.message.contains("its episode is over"), "{error}");
            for envs in [&mut plain, &mut batched] {
                // Next-step: the action is not run.
                assert!(envs.step_some(&discrete(&[0]), &[1]).unwrap().was_reset[1]);
            }
        }
        for envs in [&mut plain, &mut batched] {
            envs.step_some(&discrete(&[1]), &[0]).unwrap();
        }
    }
    assert!(at == actions.len() && falls > 5 && limits > 5, "{at} steps, {falls} falls, {limits} limits");
    assert_eq!(plain.digests(), batched.digests());
}

#[test]
fn some_steps_at_once_end_with_their_episode() {
    for mode in MODES {
        let mut envs = echo(json!({"length": 6})).max_episode_steps(4).autoreset(mode).build().unwrap();
        envs.reset(None).unwrap();
        let steps = envs.step_many(0, &discrete(&[1, 2, 3, 4, 5, 6])).unwrap();
        assert_eq!((steps.taken, steps.terminated, steps.truncated), (4, false, true), "{mode:?}");
        assert_eq!(steps.episode, Some(EpisodeEnd { episode_return: 10.0, length: 4 }), "{mode:?}");
        // It never resets by itself, not even in same-step mode: the next step does, or the caller.
        match mode {
            Autoreset::Disabled => assert!(usage(envs.step(&discrete(&[0])).map(drop)).message.contains("over")),
            _ => assert!(envs.step(&discrete(&[0])).unwrap().was_reset[0], "{mode:?}"),
        }
    }
}

#[test]
fn after_some_steps_at_once_the_last_view_is_that_of_the_last_of_them() {
    // Masks change with every step: who chooses the next action needs the one that holds now.
    let mut envs = builder(fixture("masked")).build().unwrap();
    envs.reset(None).unwrap();
    envs.step_many(0, &discrete(&[1, 1, 2])).unwrap();
    assert_eq!(integers(envs.last().observation(0)), [3, 2]);
    assert_eq!(envs.last().action_mask(0), [1, 0, 0, 1]);
    // Where a step meets a fault, its row shows what the env gave last.
    let mut envs = builder(fixture("trap")).build().unwrap();
    envs.reset(None).unwrap();
    envs.step_many(0, &discrete(&[0, 0, 1])).unwrap();
    let batch = envs.step(&discrete(&[0])).unwrap();
    assert_eq!((batch.truncated[0], batch.faults[0].is_some()), (true, true));
    assert_eq!(integers(batch.observation(0)), [3, 1]);
}

// ── What is refused ─────────────────────────────────────────────────────────────────────────────────────────────────

#[test]
fn with_autoreset_disabled_an_ended_env_is_not_stepped() {
    // Env 0 ends after one step, env 1 does not.
    let config = |env: usize| json!({"length": if env == 0 { 1 } else { -1 }});
    let mut envs = builder(fixture("echo")).config_with(config).envs(2).autoreset(Autoreset::Disabled).build().unwrap();
    envs.reset(None).unwrap();
    assert!(envs.step(&discrete(&[3, 4])).unwrap().terminated[0]);
    let (digests, before) = (envs.digests(), envs.last().clone());
    let error = usage(envs.step(&discrete(&[5, 6])).map(drop));
    assert_eq!(error.message, "env 0 cannot be stepped: its episode is over");
    assert_eq!(error.hints, ["with autoreset disabled the caller resets ended envs, by a mask"]);
    for refused in [envs.step_some(&discrete(&[6, 5]), &[1, 0]).map(drop), envs.send(&discrete(&[5]), &[0])] {
        assert_eq!(usage(refused).message, error.message);
    }
    usage(envs.step_many(0, &discrete(&[1])));
    assert_eq!((envs.digests(), envs.last()), (digests, &before), "env 1 was not stepped either");
    assert!(!envs.takes_action(0) && envs.takes_action(1));
    // The other goes on; and so does this one, once it is reset.
    assert_eq!(envs.step_some(&discrete(&[6]), &[1]).unwrap().rewards[1], 6.0);
    envs.reset_some(&ResetSome { mask: Some(&[true, false]), ..ResetSome::default() }).unwrap();
    let batch = envs.step(&discrete(&[7, 8])).unwrap();
    assert_eq!(
        (integers(batch.observation(0))[..2].to_vec(), integers(batch.observation(1))[..2].to_vec()),
        (vec![7, 2], vec![8, 3])
    );
}

#[test]
fn a_step_before_the_first_reset_is_refused() {
    for mode in MODES {
        let mut envs = echo(json!({})).envs(2).autoreset(mode).build().unwrap();
        let error = usage(envs.step(&discrete(&[0, 0])).map(drop));
        assert_eq!(error.message, "env 0 must be reset before its first step", "{mode:?}");
        usage(envs.step_many(0, &discrete(&[0])));
        usage(envs.send(&discrete(&[0]), &[1]));
        envs.reset_some(&ResetSome { mask: Some(&[true, false]), ..ResetSome::default() }).unwrap();
        assert_eq!(envs.step_some(&discrete(&[9]), &[0]).unwrap().rewards[0], 9.0, "{mode:?}");
        let error = usage(envs.step(&discrete(&[0, 0])).map(drop));
        assert_eq!(error.message, "env 1 must be reset before its first step", "{mode:?}");
    }
}

/// What is wrong with a call is found before anything is stepped.
#[test]
fn wrong_ids_and_actions_step_nothing() {
    for mode in MODES {
        let mut envs = shipped("cartpole").envs(3).autoreset(mode).build().unwrap();
        envs.reset(None).unwrap();
        envs.step(&discrete(&[0, 1, 0])).unwrap();
        let (digests, before) = (envs.digests(), envs.last().clone());
        let good = discrete(&[0, 1, 0]);
        let steps: [(&[u8], &str); 6] = [
            (&good[..23], "23 bytes of actions; 3 envs take 24"),
            (&good[..16], "16 bytes of actions; 3 envs take 24"),
            (&[], "0 bytes of actions; 3 envs take 24"),
            (&discrete(&[0, 1, 0, 0]), "32 bytes of actions; 3 envs take 24"),
            (&discrete(&[0, 1, 2]), "env 2: action 2, allowed is 0 to 1"),
            (&discrete(&[0, -1, 2]), "env 1: action -1, allowed is 0 to 1"),
        ];
        for (actions, message) in steps {
            assert_eq!(usage(envs.step(actions).map(drop)).message, message, "{mode:?}");
        }
        let some: [(&[i64], &[usize], &str); 6] = [
            (&[0, 1], &[0, 3], "env 3 does not exist; there are 3"),
            (&[0], &[usize::MAX], "env 18446744073709551615 does not exist; there are 3"),
            (&[0, 1], &[2, 2], "env 2 is named twice"),
            (&[0, 1], &[1], "16 bytes of actions; 1 envs take 8"),
            (&[], &[1], "0 bytes of actions; 1 envs take 8"),
            (&[1, 7], &[2, 0], "env 0: action 7, allowed is 0 to 1"),
        ];
        for (actions, ids, message) in some {
            assert_eq!(usage(envs.step_some(&discrete(actions), ids).map(drop)).message, message, "{mode:?}");
            assert_eq!(usage(envs.send(&discrete(actions), ids)).message, message, "{mode:?}");
        }
        let many: [(usize, &[u8], &str); 3] = [
            (3, &discrete(&[0]), "env 3 does not exist; there are 3"),
            (0, &good[..9], "9 bytes of actions; one takes 8"),
            (1, &discrete(&[0, 1, 2, 0]), "env 1, action 2: 2, allowed is 0 to 1"),
        ];
        for (env, actions, message) in many {
            assert_eq!(usage(envs.step_many(env, actions)).message, message, "{mode:?}");
        }
        usage(envs.get_attribute(3, "x"));
        assert!(envs.recv(3, None).unwrap().0.is_empty(), "{mode:?}: something was sent");
        assert_eq!((envs.digests(), envs.last()), (digests.clone(), &before), "{mode:?}: something was stepped");
        assert_eq!(envs.faults().total(), 0);
        // Nothing at all is no mistake.
        envs.step_some(&[], &[]).unwrap();
        envs.send(&[], &[]).unwrap();
        assert_eq!(envs.step_many(0, &[]).unwrap().taken, 0);
        assert_eq!(envs.digests(), digests);
    }
}

#[test]
fn an_env_in_flight_is_not_sent_to() {
    let mut envs = echo(json!({})).envs(3).build().unwrap();
    envs.reset(None).unwrap();
    envs.send(&discrete(&[1, 2]), &[2, 0]).unwrap();
    let error = usage(envs.send(&discrete(&[3, 4]), &[1, 0]));
    assert_eq!(error.message, "env 0 is in flight");
    assert_eq!(error.hints, ["`recv` its answer before you ask something else of it"]);
    // Nothing of that call was sent: env 1 is free.
    envs.send(&discrete(&[5]), &[1]).unwrap();
    assert_eq!(usage(envs.call(2, "x", &Value::Null)).message, "env 2 is in flight");
    let (ids, batch) = envs.recv(3, None).unwrap();
    assert_eq!((ids, &batch.rewards), (vec![0, 1, 2], &vec![2.0, 5.0, 1.0]));
    assert_eq!((0..3).map(|env| integers(batch.observation(env))[1]).collect::<Vec<_>>(), [1; 3], "one step each");
}

#[test]
fn an_action_that_resets_is_not_looked_at() {
    let mut envs = echo(json!({"length": 1})).envs(2).build().unwrap();
    envs.reset(None).unwrap();
    envs.step(&discrete(&[0, 0])).unwrap();
    // Both would be outside the space, were they run. Their number still has to be right.
    usage(envs.step(&discrete(&[1000])).map(drop));
    let batch = envs.step(&discrete(&[1000, -5])).unwrap();
    assert_eq!(batch.was_reset, [true, true]);
    usage(envs.step(&discrete(&[0, 1000])).map(drop));
}

// ── Helpers ─────────────────────────────────────────────────────────────────────────────────────────────────────────

/// Envs whose observation is: action, steps of the instance, episode, step, a draw; and whose reward is the action.
fn echo(config: Value) -> Builder {
    builder(fixture("echo")).config(&config).unwrap()
}

/// Envs with episodes of three steps, whose observation is: where the count began, where it is, a draw.
fn options() -> Builder {
    builder(fixture("options"))
}

fn integers(observation: &[u8]) -> Vec<i64> {
    let (elements, rest) = observation.as_chunks();
    assert!(rest.is_empty());
    elements.iter().map(|&element| i64::from_le_bytes(element)).collect()
}

/// All that one row says, its number excepted.
#[derive(Debug, PartialEq)]
struct Row {
    observation: Vec<u8>,
    info: (Vec<u8>, String),
    mask: Vec<u8>,
    reward: f64,
    flags: [bool; 4],
    finals: (Option<Vec<u8>>, Option<Vec<u8>>),
    episode: Option<EpisodeEnd>,
}

fn rows(batch: &Batch, row: usize) -> Row {
    Row {
        observation: batch.observation(row).to_vec(),
        info: (batch.info(row).to_vec(), batch.infos_extra[row].clone()),
        mask: batch.action_mask(row).to_vec(),
        reward: batch.rewards[row],
        flags: [batch.terminated[row], batch.truncated[row], batch.was_reset[row], batch.masked[row]],
        finals: (batch.final_observation(row).map(<[u8]>::to_vec), batch.final_info(row).map(<[u8]>::to_vec)),
        episode: batch.episodes[row],
    }
}

/// The error of a call that must be refused as the caller's.
fn usage<T>(result: Result<T, Error>) -> UsageError {
    match result {
        Err(Error::Usage(error)) => error,
        Err(other) => panic!("expected a usage error, got {other:?}"),
        Ok(_) => panic!("expected a usage error"),
    }
}
