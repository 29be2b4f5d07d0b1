//! What happened, as one number: computed here a second time, from what the caller sees and the contract alone; and the
//! same however an env is played.

use rollcage::{Autoreset, Batch, Builder, Digest, Fault, FaultKind, ResetSome, VecEnv};
use serde_json::{Value, json};

use rollcage_tests::{Rollcage, builder, fixture, fixture_path, root, shipped};

const MODES: [Autoreset; 3] = [Autoreset::NextStep, Autoreset::SameStep, Autoreset::Disabled];
/// What ships and needs nobody to talk to.
pub(crate) const SHIPPED: [&str; 11] = [
    "cartpole",
    "frozenlake",
    "blackjack",
    "acrobot",
    "cliffwalking",
    "mountaincar",
    "mountaincar-continuous",
    "mirror",
    "pendulum",
    "pixels",
    "taxi",
];

// ── Computed a second time ──────────────────────────────────────────────────────────────────────────────────────────

#[test]
fn shipped_envs_have_the_digests_of_the_contract() {
    for mode in MODES {
        let mut cartpole = Scripted::new(shipped("cartpole").max_episode_steps(15), mode);
        cartpole.options = Some(json!({"low": -0.01, "high": 0.02}));
        assert!(cartpole.play(300) > 40, "{mode:?}");
        Scripted::new(shipped("frozenlake").max_episode_steps(6), mode).play(300);
        Scripted::new(shipped("blackjack"), mode).play(300);
    }
}

#[test]
fn masks_are_in_the_digest() {
    for mode in MODES {
        let mut masked = Scripted::new(builder(fixture("masked")), mode);
        assert!(masked.play(100) > 10 && !masked.envs.last().action_mask(0).is_empty());
    }
}

#[test]
fn every_part_of_a_view_is_in_the_digest() {
    let made = builder(fixture("spaces")).config(&json!({"masked": true})).unwrap();
    let mut envs = made.seed(6).max_episode_steps(7).build().unwrap();
    let space = envs.spec().action_space.layout();
    let mut events = Events::default();
    envs.reset(None).unwrap();
    events.reset(Some(6), "", &view(envs.last(), 0));
    let mut extras = 0;
    for _ in 0..30 {
        let mut action = vec![0; space.stride];
        space.zero(Some(envs.last().action_mask(0)), &mut action);
        let batch = envs.step(&action).unwrap();
        assert!(!batch.action_mask(0).is_empty() && !batch.info(0).is_empty() && batch.faults[0].is_none());
        extras += u32::from(!batch.infos_extra[0].is_empty());
        match batch.was_reset[0] {
            true => events.reset(None, "", &view(batch, 0)),
            false => events.step(&action, 0.5, u8::from(batch.truncated[0]) << 2, &view(batch, 0)),
        }
        let expected = env_digest(&[events.digest()]);
        assert_eq!(envs.digests(), [expected]);
    }
    assert!(extras >= 4, "{extras} infos with what nobody declared");
}

#[test]
fn every_instance_is_in_the_digest() {
    for mode in MODES {
        // Env i in the episode i of each of its instances: so some meet it at once, some after resets of both kinds.
        let config = |env: usize| json!({"episode": env, "length": 5});
        let mut traps = Scripted::new(builder(fixture("trap")).config_with(config), mode);
        traps.play(30);
        let instances: Vec<usize> = traps.instances.iter().map(Vec::len).collect();
        assert!(instances.iter().all(|&count| count > 1) && instances[0] > 4, "{mode:?}: {instances:?}");
    }
}

#[test]
fn a_digest_can_be_asked_for_at_any_time() {
    let mut envs = Scripted::new(shipped("cartpole"), Autoreset::NextStep);
    for _ in 0..40 {
        envs.play(1);
    }
}

#[test]
fn calls_enter_and_questions_do_not() {
    let mut envs = builder(fixture("attributes")).seed(4).build().unwrap();
    let mut events = Events::default();
    let check = |envs: &VecEnv, events: &Events| assert_eq!(envs.digests(), [env_digest(&[events.digest()])]);
    envs.reset(None).unwrap();
    events.reset(Some(4), "", &view(envs.last(), 0));
    check(&envs, &events);

    assert_eq!(envs.call(0, "add", &json!({"a": 1, "b": 2.5})).unwrap(), json!(3.5));
    events.call(1, "add", br#"{"a":1,"b":2.5}"#, b"3.5");
    check(&envs, &events);
    assert_eq!(
        envs.call(0, "echo", &json!({"text": "é", "list": [1, null]})).unwrap(),
        json!({"text": "é", "list": [1, null]})
    );
    let echoed = r#"{"text":"é","list":[1,null]}"#.as_bytes();
    // The guest's JSON, byte for byte: it may order keys otherwise than it was given them.
    let sorted = r#"{"list":[1,null],"text":"é"}"#.as_bytes();
    let fits = |result: &[u8]| {
        let mut events = events.clone();
        events.call(1, "echo", echoed, result);
        (envs.digests() == [env_digest(&[events.digest()])]).then_some(events)
    };
    events = fits(echoed).or_else(|| fits(sorted)).expect("the call of `echo` in the digest");

    envs.set_attribute(0, "level", &json!(12)).unwrap();
    events.call(2, "level", b"12", b"");
    check(&envs, &events);
    envs.reseed(0, 0x0102_0304_0506_0708).unwrap();
    events.call(3, "", &[8, 7, 6, 5, 4, 3, 2, 1], b"");
    check(&envs, &events);

    // What only asks, and what the env refused, has not happened.
    assert_eq!(envs.get_attribute(0, "level").unwrap(), json!(12));
    envs.call(0, "nothing of that name", &Value::Null).unwrap_err();
    envs.set_attribute(0, "level", &json!(-1)).unwrap_err();
    envs.reset_some(&ResetSome { options: Some(&json!({"unknown": 1})), ..ResetSome::default() }).unwrap_err();
    check(&envs, &events);

    envs.step(&1i64.to_le_bytes()).unwrap();
    events.step(&1i64.to_le_bytes(), 1.0, 0, &view(envs.last(), 0));
    check(&envs, &events);
}

#[test]
fn a_goodbye_changes_nothing() {
    let mut envs = shipped("cartpole").envs(2).build().unwrap();
    envs.reset(None).unwrap();
    envs.step(&[0; 16]).unwrap();
    let before = (envs.digests(), envs.digest());
    envs.say_goodbye();
    assert_eq!((envs.digests(), envs.digest()), before);
}

/// What makes two runs differ makes their digests differ.
#[test]
fn every_difference_shows() {
    let left = 0i64.to_le_bytes();
    let right = 1i64.to_le_bytes();
    let run = |seed: u64, options: Option<Value>, actions: &[[u8; 8]]| {
        let mut envs = shipped("cartpole").seed(seed).build().unwrap();
        envs.reset_some(&ResetSome { options: options.as_ref(), ..ResetSome::default() }).unwrap();
        for action in actions {
            envs.step(action).unwrap();
        }
        envs.digest()
    };
    let all = [
        run(0, None, &[left, left]),
        run(1, None, &[left, left]),
        run(0, None, &[left, right]),
        run(0, None, &[left]),
        run(0, None, &[]),
        // The same numbers, and yet something else was asked.
        run(0, Some(json!({})), &[left, left]),
        run(0, Some(json!({"low": -0.05})), &[left, left]),
        run(0, Some(json!({"low": -0.06})), &[left, left]),
    ];
    for (index, one) in all.iter().enumerate() {
        assert!(!all[..index].contains(one), "run {index} has the digest of another: {all:?}");
    }
    assert_eq!(run(0, None, &[left, left]), all[0]);
}

/// A run of three envs by a script of resets, options and actions, and what the contract makes of it.
struct Scripted {
    envs: VecEnv,
    mode: Autoreset,
    seeds: Vec<u64>,
    /// Per env, its instances.
    instances: Vec<Vec<Events>>,
    /// The running instance was not reset yet.
    fresh: Vec<bool>,
    /// Options for explicit and automatic resets, where the env knows any.
    options: Option<Value>,
    waiting: Vec<Option<Value>>,
    coin: u32,
    steps: u32,
    resets: u32,
}

const ENVS: usize = 3;

impl Scripted {
    fn new(builder: Builder, mode: Autoreset) -> Scripted {
        Scripted {
            envs: builder.envs(ENVS).seed(70).autoreset(mode).build().unwrap(),
            mode,
            seeds: vec![70, 71, 72],
            instances: vec![vec![Events::default()]; ENVS],
            fresh: vec![true; ENVS],
            options: None,
            waiting: vec![None; ENVS],
            coin: 1,
            steps: 0,
            resets: 0,
        }
    }

    /// Plays, and compares. Returns how many resets there were so far.
    fn play(&mut self, steps: u32) -> u32 {
        if self.steps == 0 {
            self.reset(&[true; ENVS], [None; ENVS], None);
        }
        for _ in 0..steps {
            self.steps += 1;
            if self.steps.is_multiple_of(29) {
                self.reset(&[true, false, true], [Some(1234), None, None], self.options.clone());
            }
            if self.steps % 23 == 7 && self.options.is_some() {
                self.envs.set_reset_options(1, self.options.as_ref()).unwrap();
                self.waiting[1] = self.options.clone();
            }
            if self.mode == Autoreset::Disabled {
                let ended: Vec<bool> = (0..ENVS).map(|env| !self.envs.takes_action(env)).collect();
                if ended.contains(&true) {
                    self.reset(&ended, [None; ENVS], None);
                }
            }
            self.step();
        }
        let expected: Vec<Digest> = self
            .instances
            .iter()
            .map(|instances| env_digest(&instances.iter().map(Events::digest).collect::<Vec<_>>()))
            .collect();
        assert_eq!(self.envs.digests(), expected, "{:?}, {} steps", self.mode, self.steps);
        assert_eq!(self.envs.digest(), run_digest(&expected));
        self.resets
    }

    fn reset(&mut self, mask: &[bool], seeds: [Option<u64>; ENVS], options: Option<Value>) {
        let reset = ResetSome { mask: Some(mask), seeds: Some(&seeds), options: options.as_ref() };
        self.envs.reset_some(&reset).unwrap();
        for env in (0..ENVS).filter(|&env| mask[env]) {
            self.seeds[env] = seeds[env].unwrap_or(self.seeds[env]);
            let options = options.clone().or_else(|| self.waiting[env].take());
            self.was_reset(env, seeds[env], options);
        }
    }

    /// A reset answered: the row shows its view.
    fn was_reset(&mut self, env: usize, seed: Option<u64>, options: Option<Value>) {
        self.resets += 1;
        let number = u32::try_from(self.instances[env].len() - 1).unwrap();
        let fresh = std::mem::take(&mut self.fresh[env]);
        let seed = seed.or(fresh.then(|| first_seed(self.seeds[env], number)));
        let options = options.map(|options| options.to_string()).unwrap_or_default();
        let view = view(self.envs.last(), env);
        self.instance(env).reset(seed, &options, &view);
    }

    fn step(&mut self) {
        let acts: Vec<bool> = (0..ENVS).map(|env| self.envs.takes_action(env)).collect();
        let actions: Vec<[u8; 8]> = (0..ENVS).map(|env| self.action(env)).collect();
        self.envs.step(&actions.concat()).unwrap();
        for env in 0..ENVS {
            let batch = self.envs.last();
            let fault = batch.faults[env].as_deref().map(|Fault { kind, .. }| *kind);
            let (reward, terminated, truncated) = (batch.rewards[env], batch.terminated[env], batch.truncated[env]);
            // None of these envs truncates by itself.
            let flags = u8::from(terminated) | u8::from(truncated) << 2;
            let shown = if batch.has_final[env] { final_view(batch, env) } else { view(batch, env) };
            match fault {
                _ if !acts[env] => {}
                Some(kind) => {
                    self.instance(env).fault(kind);
                    self.instances[env].push(Events::default());
                    self.fresh[env] = true;
                }
                None => self.instance(env).step(&actions[env], reward, flags, &shown),
            }
            let reset_too = self.mode == Autoreset::SameStep && (terminated || truncated);
            if !acts[env] || reset_too {
                let options = self.waiting[env].take();
                self.was_reset(env, None, options);
            }
        }
    }

    /// The last instance of an env.
    fn instance(&mut self, env: usize) -> &mut Events {
        self.instances[env].last_mut().unwrap()
    }

    /// One of the env's actions, an allowed one.
    fn action(&mut self, env: usize) -> [u8; 8] {
        let rollcage::Space::Discrete { n, start: 0 } = self.envs.spec().action_space else { panic!("another space") };
        let mask = self.envs.last().action_mask(env).to_vec();
        loop {
            self.coin = self.coin.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let action = u64::from(self.coin >> 16) % n;
            if mask.is_empty() || mask[usize::try_from(action).unwrap()] == 1 {
                return action.to_le_bytes();
            }
        }
    }
}

/// The events of one instance, byte by byte.
#[derive(Clone, Default)]
struct Events {
    bytes: Vec<u8>,
    /// Where the last event begins, if it is a reset that nothing followed yet.
    open_reset: Option<usize>,
}

impl Events {
    fn reset(&mut self, seed: Option<u64>, options: &str, view: &[u8]) {
        self.open_reset = Some(self.bytes.len());
        self.bytes.push(b'R');
        self.bytes.push(if seed.is_some() { 1 } else { 0 });
        self.bytes.extend(seed.unwrap_or(0).to_le_bytes());
        self.text(options.as_bytes());
        self.bytes.extend(view);
    }

    fn step(&mut self, action: &[u8], reward: f64, flags: u8, view: &[u8]) {
        self.open_reset = None;
        self.bytes.push(b'S');
        self.bytes.extend(action);
        self.bytes.extend(reward.to_bits().to_le_bytes());
        self.bytes.push(flags);
        self.bytes.extend(view);
    }

    fn call(&mut self, what: u8, name: &str, arguments: &[u8], result: &[u8]) {
        self.open_reset = None;
        self.bytes.extend([b'C', what]);
        self.text(name.as_bytes());
        self.text(arguments);
        self.text(result);
    }

    fn fault(&mut self, kind: FaultKind) {
        self.open_reset = None;
        assert_eq!(kind, FaultKind::Trap, "the only fault of these tests");
        self.bytes.extend([b'F', 1]);
    }

    fn text(&mut self, text: &[u8]) {
        self.bytes.extend(u32::try_from(text.len()).unwrap().to_le_bytes());
        self.bytes.extend(text);
    }

    fn digest(&self) -> [u8; 32] {
        let end = self.open_reset.unwrap_or(self.bytes.len());
        hash(&[b"rollcage-instance\x01", &self.bytes[..end]])
    }
}

/// Observation, mask, info, and the length and bytes of what else there is.
fn view(batch: &Batch, env: usize) -> Vec<u8> {
    let parts = [batch.observation(env), batch.action_mask(env), batch.info(env)].concat();
    with_extra(parts, &batch.infos_extra[env])
}

/// The view of the step that ended an episode, in same-step mode. None of these envs has both masks and other infos: the
/// final mask, which the caller is not given, follows from the observation.
fn final_view(batch: &Batch, env: usize) -> Vec<u8> {
    let observation = batch.final_observation(env).unwrap();
    let mut mask = batch.action_mask(env).to_vec();
    if !mask.is_empty() {
        // The fixture's rule: of its choices, `steps mod 4` and the one after it.
        let steps = usize::from(observation[0]);
        mask = (0..4).map(|choice| u8::from((choice + 4 - steps % 4) % 4 < 2)).collect();
    }
    with_extra([observation, &mask, batch.final_info(env).unwrap()].concat(), &batch.final_infos_extra[env])
}

fn with_extra(mut view: Vec<u8>, extra: &str) -> Vec<u8> {
    view.extend(u32::try_from(extra.len()).unwrap().to_le_bytes());
    view.extend(extra.as_bytes());
    view
}

/// The seed of an instance's first reset.
fn first_seed(base: u64, instance: u32) -> u64 {
    if instance == 0 {
        return base;
    }
    let hash = hash(&[b"rollcage-restart\x01", &base.to_le_bytes(), &instance.to_le_bytes()]);
    u64::from_le_bytes(hash[..8].try_into().unwrap())
}

fn env_digest(instances: &[[u8; 32]]) -> Digest {
    let mut bytes = b"rollcage-env\x01".to_vec();
    for (number, digest) in (0u32..).zip(instances) {
        bytes.extend(number.to_le_bytes());
        bytes.extend(digest);
    }
    Digest(hash(&[&bytes]))
}

fn run_digest(envs: &[Digest]) -> Digest {
    let mut bytes = b"rollcage-run\x01".to_vec();
    bytes.extend(u32::try_from(envs.len()).unwrap().to_le_bytes());
    envs.iter().for_each(|digest| bytes.extend(digest.0));
    Digest(hash(&[&bytes]))
}

fn hash(parts: &[&[u8]]) -> [u8; 32] {
    *blake3::hash(&parts.concat()).as_bytes()
}

// ── However it is played ────────────────────────────────────────────────────────────────────────────────────────────

/// Steps of each env.
const STEPS: usize = 1000;

#[test]
fn two_runs_have_one_digest() {
    for plugin in SHIPPED {
        let (one, two) = (run(plugin, 3, &[]), run(plugin, 3, &[]));
        assert_eq!(one, two, "{plugin}");
        assert_ne!(one[0], one[1], "{plugin}: envs have seeds of their own");
        assert_ne!(one, run(plugin, 3, &["--seed", "8"]), "{plugin}");
    }
}

#[test]
fn an_env_does_not_depend_on_how_many_there_are() {
    for plugin in SHIPPED {
        let [one, three, sixteen] = [1, 3, 16].map(|envs| run(plugin, envs, &[]));
        assert_eq!((one.len(), three.len(), sixteen.len()), (1, 3, 16));
        assert_eq!(one[0], three[0], "{plugin}");
        assert_eq!(three, sixteen[..3], "{plugin}");
        // Env 2 of seed 7 is env 0 of seed 9.
        assert_eq!(three[2..], run(plugin, 1, &["--seed", "9"]), "{plugin}");
    }
}

#[test]
fn an_env_does_not_depend_on_mode_or_engine() {
    for plugin in SHIPPED {
        let expected = run(plugin, 5, &[]);
        for further in [
            &["--autoreset", "next-step"][..],
            &["--autoreset", "same-step"],
            &["--autoreset", "disabled"],
            &["--backend", "pulley"],
            &["--fuel", "100000000"],
            &["--backend", "pulley", "--fuel", "100000000", "--autoreset", "same-step"],
        ] {
            assert_eq!(run(plugin, 5, further), expected, "{plugin} {further:?}");
        }
        // What does change an env's life shows.
        assert_ne!(run(plugin, 5, &["--max-episode-steps", "3"]), expected, "{plugin}");
    }
}

#[test]
fn a_fault_is_in_its_envs_digest_alone() {
    let trap = fixture_path("trap").display().to_string();
    let played = |envs: usize, only_seed: u64, mode: &str| {
        let only_seed = format!("only_seed={only_seed}");
        let steps = (STEPS * envs).to_string();
        let (status, report) = Rollcage::json(
            [
                &["run", &trap, "--envs", &envs.to_string(), "--steps", &steps, "--seed", "7", "--autoreset", mode][..],
                &["--config", "episode=2", "--config", &only_seed],
            ]
            .concat(),
        );
        assert_eq!((status, &report["steps"]), (Some(0), &json!(STEPS * envs)), "{report}");
        let faulty: Vec<&Value> = report["faults"].as_array().unwrap().iter().map(|fault| &fault["env"]).collect();
        (digests(&report), faulty.into_iter().map(|env| env.as_u64().unwrap()).collect::<Vec<_>>())
    };
    // `only_seed` picks env 1, in its first instance.
    let (three, faulty) = played(3, 8, "next-step");
    assert_eq!(faulty, [1]);
    for mode in ["next-step", "same-step", "disabled"] {
        assert_eq!(played(3, 8, mode), (three.clone(), vec![1]), "{mode}");
    }
    let (sixteen, faulty) = played(16, 8, "next-step");
    assert_eq!((&sixteen[..3], faulty), (&three[..], vec![1]));
    // The config is not in the digest; what came of it is.
    let (without, faulty) = played(3, 1_000_000, "next-step");
    assert_eq!(faulty, [0u64; 0]);
    assert_eq!((&without[0], &without[2]), (&three[0], &three[2]));
    assert_ne!(without[1], three[1]);
}

/// Digests are a promise to those who keep them. `ROLLCAGE_UPDATE=1` writes them anew, where an env was meant to change.
#[test]
fn digests_are_those_of_before() {
    let file = root().join("tests/dynamics/digests.json");
    let now: serde_json::Map<String, Value> =
        SHIPPED.map(|plugin| (plugin.to_owned(), json!(run(plugin, 5, &[])))).into_iter().collect();
    if std::env::var_os("ROLLCAGE_UPDATE").is_some() {
        std::fs::write(&file, serde_json::to_string_pretty(&now).unwrap() + "\n").unwrap();
    }
    let before: Value = serde_json::from_str(&std::fs::read_to_string(&file).unwrap()).unwrap();
    assert_eq!(Value::Object(now), before);
}

/// Plays `STEPS` steps of each of `envs` envs with the random policy; the digests of the envs.
fn run(plugin: &str, envs: usize, further: &[&str]) -> Vec<String> {
    let (envs_text, steps) = (envs.to_string(), (STEPS * envs).to_string());
    let mut arguments = vec!["run", plugin, "--envs", &envs_text, "--steps", &steps];
    if !further.contains(&"--seed") {
        arguments.extend(["--seed", "7"]);
    }
    arguments.extend(further);
    let (status, report) = Rollcage::json(&arguments);
    assert_eq!(
        (status, &report["incomplete"], &report["faults_total"]),
        (Some(0), &Value::Null, &json!(0)),
        "{report}"
    );
    assert_eq!(report["steps"], json!(STEPS * envs), "{report}");
    let digests = digests(&report);
    assert_eq!(digests.len(), envs, "{report}");
    digests
}

/// The digests of a report's envs, which the run's digest is made of.
fn digests(report: &Value) -> Vec<String> {
    let texts: Vec<String> =
        report["digests"].as_array().unwrap().iter().map(|digest| digest.as_str().unwrap().to_owned()).collect();
    let bytes: Vec<Digest> = texts.iter().map(|text| of_hex(text)).collect();
    assert_eq!(report["digest"], run_digest(&bytes).to_string(), "{report}");
    texts
}

fn of_hex(text: &str) -> Digest {
    assert!(text.len() == 64 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f')), "{text}");
    Digest(std::array::from_fn(|index| u8::from_str_radix(&text[2 * index..][..2], 16).unwrap()))
}
