//! The shipped envs against Gymnasium's own: same seeds, same actions, step by step. `dynamics/reference.py` plays them and
//! says what its lines mean.

use std::io::{BufRead, BufReader};
use std::process::{Child, ChildStdout, Command, Stdio};

use rollcage::space::{InfoLayout, Layout, LeafKind, info_layout};
use rollcage::{Autoreset, Dtype, EpisodeEnd, Frame, RenderMode, ResetSome, Space, VecEnv};
use serde_json::{Map, Value};

use rollcage_tests::{gymnasium, root, shipped};

/// How far an element of a float `Box` may be from Gymnasium's: sine and cosine are another library's there.
const TOLERANCE: f64 = 1e-6;

/// Steps of every run.
const STEPS: u64 = 2_000;

#[test]
fn cartpole_is_gymnasiums() {
    let played = replay("cartpole", 9);
    assert!(played.terminated > 0 && played.options > 0, "{played:?}");
}

#[test]
fn mountaincar_is_gymnasiums() {
    let played = replay("mountaincar", 6);
    assert!(played.terminated > 0 && played.truncated > 0 && played.options > 0, "{played:?}");
}

#[test]
fn mountaincar_continuous_is_gymnasiums() {
    let played = replay("mountaincar-continuous", 6);
    assert!(played.terminated > 0 && played.truncated > 0 && played.options > 0, "{played:?}");
}

#[test]
fn acrobot_is_gymnasiums() {
    let played = replay("acrobot", 6);
    assert!(played.terminated > 0 && played.truncated > 0 && played.options > 0, "{played:?}");
}

#[test]
fn pendulum_is_gymnasiums() {
    let played = replay("pendulum", 7);
    assert!(played.truncated > 0 && played.options > 0, "{played:?}");
}

#[test]
fn frozenlake_is_gymnasiums() {
    let played = replay("frozenlake", 12);
    assert!(played.terminated > 0 && played.truncated > 0 && played.pictures > played.steps, "{played:?}");
}

#[test]
fn taxi_is_gymnasiums() {
    let played = replay("taxi", 10);
    assert!(played.terminated > 0 && played.truncated > 0 && played.options > 0, "{played:?}");
    assert!(played.pictures > played.steps && played.masks > played.steps, "{played:?}");
}

#[test]
fn cliffwalking_is_gymnasiums() {
    let played = replay("cliffwalking", 5);
    assert!(played.pictures > played.steps && played.options > 0, "{played:?}");
}

#[test]
fn blackjack_is_gymnasiums() {
    let played = replay("blackjack", 7);
    assert!(played.terminated > 0 && played.options > 0, "{played:?}");
}

#[test]
fn a_difference_is_found() {
    let space = Space::Box { dtype: Dtype::Float32, shape: vec![1], low: vec![0; 4], high: vec![0; 4] };
    let one = |number: f32| [number.to_le_bytes(), [0; 4]].concat();
    let equal = |number, expected: Value| Values::of(&space).check(&one(number), &expected).is_ok();
    assert!(equal(0.5, [0.500_000_9].into()) && !equal(0.5, [0.500_001_1].into()));
    assert!(!equal(f32::NAN, [0.5].into()) && !equal(0.5, Value::from([0.5, 0.5])) && !equal(0.5, Value::Null));
    let discrete = Values::of(&Space::Discrete { n: 4, start: 0 });
    let two = 2i64.to_le_bytes();
    assert!(discrete.check(&two, &2.into()).is_ok());
    assert!(discrete.check(&two, &1.into()).is_err() && discrete.check(&two, &2.5.into()).is_err());
}

/// What was met in the runs of a plugin, so that a test can say that it met all it is there for.
#[derive(Debug, Default)]
struct Played {
    steps: u64,
    terminated: u64,
    truncated: u64,
    options: u64,
    pictures: u64,
    masks: u64,
}

/// Plays every run of a plugin again.
fn replay(plugin: &str, runs: usize) -> Played {
    let mut played = Played::default();
    let mut replayed = Vec::new();
    let mut run: Option<Run> = None;
    for row in Reference::run("reference.py", &["--only", plugin, "--steps", &STEPS.to_string()]) {
        if row.get("run").is_some() {
            replayed.extend(run.take().map(Run::end));
            assert_eq!(row["plugin"], plugin);
            run = Some(Run::begin(&row));
        } else {
            run.as_mut().unwrap().row(&row, &mut played);
        }
    }
    replayed.extend(run.map(Run::end));
    let all = replayed.len();
    replayed.sort();
    replayed.dedup();
    assert_eq!((replayed.len(), all), (runs, runs), "runs, each with a name of its own: {replayed:?}");
    assert_eq!(played.steps, STEPS * runs as u64);
    played
}

/// A run on its way: one env, which is reset as the reference says and never by itself.
struct Run {
    name: String,
    envs: VecEnv,
    observations: Values,
    infos: InfoLayout,
    reward_tolerance: f64,
    steps: u64,
    left: u64,
    episode: EpisodeEnd,
}

impl Run {
    fn begin(header: &Value) -> Run {
        let name = header["run"].as_str().unwrap().to_owned();
        let builder = shipped(header["plugin"].as_str().unwrap()).config(&header["config"]).unwrap();
        let envs = builder.autoreset(Autoreset::Disabled).build().unwrap();
        let spec = envs.spec();
        assert_eq!(spec.observation_space.to_string(), of_numpy(&header["observation_space"]), "{name}");
        assert_eq!(spec.action_space.to_string(), of_numpy(&header["action_space"]), "{name}");
        assert_eq!(spec.max_episode_steps.map(u64::from), header["max_episode_steps"].as_u64(), "{name}");
        assert_eq!(spec.reward_threshold, header["reward_threshold"].as_f64(), "{name}");
        Run {
            // Pendulum alone pays by its angle, of which the sine in it leaves the last bit open.
            reward_tolerance: if header["plugin"] == "pendulum" { TOLERANCE } else { 0.0 },
            observations: Values::of(&spec.observation_space),
            infos: info_layout(&spec.info_fields).unwrap(),
            steps: 0,
            left: header["steps"].as_u64().unwrap(),
            episode: EpisodeEnd { episode_return: 0.0, length: 0 },
            name,
            envs,
        }
    }

    fn row(&mut self, row: &Value, played: &mut Played) {
        match row.get("reset") {
            Some(reset) => self.reset(reset, played),
            None => self.step(row, played),
        }
        let place = format!("{}, after {} steps: {row}", self.name, self.steps);
        let batch = self.envs.last();
        assert!(batch.faults[0].is_none(), "{place}: {:?}", batch.faults[0]);
        self.observations
            .check(batch.observation(0), &row["observation"])
            .unwrap_or_else(|what| panic!("{place}: {what}"));
        let info = info_of(&self.infos, batch.info(0), &batch.infos_extra[0]);
        let mut expected = row["info"].clone();
        // Gymnasium's mask is in info, ours is declared.
        let mask = expected.as_object_mut().and_then(|info| info.remove("action_mask"));
        assert_eq!(
            Value::from(batch.action_mask(0)),
            mask.clone().unwrap_or_else(|| Value::Array(Vec::new())),
            "{place}"
        );
        played.masks += u64::from(mask.is_some());
        assert!(same_info(&info, &expected), "{place}: info is {info:?}");
        if let Some(text) = row.get("ansi") {
            played.pictures += 1;
            let frame = self.envs.render(0, RenderMode::Ansi).unwrap();
            assert_eq!(Some(&frame), text.as_str().map(|text| Frame::Text(text.to_owned())).as_ref(), "{place}");
        }
    }

    fn reset(&mut self, reset: &Value, played: &mut Played) {
        let seeds = [reset["seed"].as_u64()];
        let options = Some(&reset["options"]).filter(|options| !options.is_null());
        played.options += u64::from(options.is_some());
        let batch = self.envs.reset_some(&ResetSome { seeds: Some(&seeds), options, ..ResetSome::default() }).unwrap();
        assert_eq!(
            (batch.rewards[0], batch.terminated[0], batch.truncated[0], batch.was_reset[0]),
            (0.0, false, false, true)
        );
        self.episode = EpisodeEnd { episode_return: 0.0, length: 0 };
    }

    fn step(&mut self, row: &Value, played: &mut Played) {
        let space = &self.envs.spec().action_space;
        let mut action = vec![0; space.stride()];
        space.from_json(&row["action"], &mut action).unwrap();
        let batch = self.envs.step(&action).unwrap();
        let place = format!("{}, step {}: {row}", self.name, self.steps);
        let flags = (batch.terminated[0], batch.truncated[0]);
        let far = (batch.rewards[0] - row["reward"].as_f64().unwrap()).abs();
        assert!(far <= self.reward_tolerance, "{place}: the reward is {}", batch.rewards[0]);
        assert_eq!(
            (Some(flags.0), Some(flags.1)),
            (row["terminated"].as_bool(), row["truncated"].as_bool()),
            "{place}"
        );
        assert!(!batch.was_reset[0] && !batch.has_final[0], "{place}");
        self.episode.episode_return += batch.rewards[0];
        self.episode.length += 1;
        assert_eq!(batch.episodes[0], (flags.0 || flags.1).then_some(self.episode), "{place}");
        self.steps += 1;
        self.left -= 1;
        played.steps += 1;
        played.terminated += u64::from(flags.0);
        played.truncated += u64::from(flags.1);
    }

    fn end(self) -> String {
        assert_eq!(self.left, 0, "{}: the reference took fewer steps than it said", self.name);
        assert_eq!(self.envs.faults().total(), 0, "{}", self.name);
        self.name
    }
}

// ── What `autoreset` needs too ──────────────────────────────────────────────────────────────────────────────────────

/// The lines of a script of `dynamics/`, as a Python with the real Gymnasium prints them.
pub(crate) struct Reference {
    child: Child,
    lines: std::io::Lines<BufReader<ChildStdout>>,
}

impl Reference {
    pub(crate) fn run(script: &str, arguments: &[&str]) -> Reference {
        let mut command = Command::new(gymnasium());
        // Nothing is written beside the sources.
        command.arg("-B").arg(root().join("tests/dynamics").join(script)).args(arguments);
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Reference { child, lines }
    }
}

impl Iterator for Reference {
    type Item = Value;

    fn next(&mut self) -> Option<Value> {
        match self.lines.next() {
            Some(line) => Some(serde_json::from_str(&line.unwrap()).unwrap()),
            None => {
                let status = self.child.wait().unwrap();
                assert!(status.success(), "the script ended with {status}");
                None
            }
        }
    }
}

impl Drop for Reference {
    fn drop(&mut self) {
        // A test that failed in the middle leaves nobody behind; one that did not has waited already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Values of a space, read from their bytes alone: as a list of numbers, with how exact they must be.
pub(crate) struct Values {
    layout: Layout,
}

impl Values {
    pub(crate) fn of(space: &Space) -> Values {
        Values { layout: space.layout() }
    }

    /// Whether `bytes` are the value that the reference wrote as `expected`.
    pub(crate) fn check(&self, bytes: &[u8], expected: &Value) -> Result<(), String> {
        let expected = numbers(expected)?;
        let given = self.read(bytes);
        let near = |(&(given, tolerance), expected): (&(f64, f64), &f64)| (given - expected).abs() <= tolerance;
        match given.len() == expected.len() && given.iter().zip(&expected).all(near) {
            true => Ok(()),
            false => Err(format!("the observation is {given:?} (with tolerances), not {expected:?}")),
        }
    }

    /// The numbers of a value, and how far each may be from the reference's.
    fn read(&self, bytes: &[u8]) -> Vec<(f64, f64)> {
        assert_eq!(bytes.len(), self.layout.stride);
        let leaves = self.layout.leaves.iter().map(|leaf| (&leaf.kind, leaf.bytes(bytes)));
        leaves.flat_map(|(kind, bytes)| read_leaf(kind, bytes)).collect()
    }
}

#[expect(clippy::cast_precision_loss, reason = "the envs' integers are small")]
fn read_leaf(kind: &LeafKind, bytes: &[u8]) -> Vec<(f64, f64)> {
    match kind {
        LeafKind::Box { dtype: Dtype::Float32, .. } => {
            let (elements, rest) = bytes.as_chunks();
            assert!(rest.is_empty());
            elements.iter().map(|&element| (f32::from_le_bytes(element).into(), TOLERANCE)).collect()
        }
        LeafKind::Discrete { .. } => vec![(i64::from_le_bytes(bytes.try_into().unwrap()) as f64, 0.0)],
        other => panic!("no shipped env has such a leaf: {other:?}"),
    }
}

/// The numbers in nested lists.
fn numbers(value: &Value) -> Result<Vec<f64>, String> {
    match value {
        Value::Array(values) => {
            let nested: Vec<Vec<f64>> = values.iter().map(numbers).collect::<Result<_, _>>()?;
            Ok(nested.concat())
        }
        value => value.as_f64().map(|number| vec![number]).ok_or_else(|| format!("expected numbers, got {value}")),
    }
}

/// Declared fields and the rest, as the one dictionary that Gymnasium has.
pub(crate) fn info_of(layout: &InfoLayout, info: &[u8], extra: &str) -> Map<String, Value> {
    let mut all = layout.to_json(info);
    if !extra.is_empty() {
        let extra: Map<String, Value> = serde_json::from_str(extra).unwrap();
        all.extend(extra);
    }
    all
}

/// Whether an info is the reference's, number for number. Gymnasium writes some floats as integers.
pub(crate) fn same_info(given: &Map<String, Value>, expected: &Value) -> bool {
    let expected = expected.as_object().unwrap();
    given.len() == expected.len()
        && given.iter().all(|(key, value)| match expected.get(key) {
            Some(expected) if value.is_number() => value.as_f64() == expected.as_f64(),
            Some(expected) => value == expected,
            None => false,
        })
}

/// numpy lines elements up in columns of equal width, our `Display` does not: the padding goes.
fn of_numpy(repr: &Value) -> String {
    let words: Vec<&str> = repr.as_str().unwrap().split_whitespace().collect();
    words.join(" ").replace("[ ", "[")
}
