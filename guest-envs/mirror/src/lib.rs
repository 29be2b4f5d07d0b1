//! Mirror: an env that reports what it sees of the world, and does nothing else.
//!
//! Envs of one run that were started alike see the same, except for values that depend on their seeds.
//!
//! `call("see")` returns an object; `call("see", {"directories": ["/levels"]})` looks into these directories too.
//!
//! | key           | what                                                                                        |
//! |---------------|---------------------------------------------------------------------------------------------|
//! | `config`      | the config, defaults filled in                                                              |
//! | `arguments`   | the program's arguments                                                                     |
//! | `variables`   | the environment variables                                                                   |
//! | `current_dir` | outcome: the working directory                                                              |
//! | `directories` | for `/`, `.` and those asked for, an outcome: the names in it, in order                     |
//! | `stdin`       | outcome: bytes until its end                                                                |
//! | `wall_ms`     | the wall clock: ms since 1970                                                               |
//! | `elapsed_us`  | the monotonic clock: µs since the env was created                                           |
//! | `hash`        | a hash with keys that the standard library draws at its first one, as a text: not every reader of JSON has 64 bits |
//! | `draw`        | what the env's generator drew at the last reset, from 0 to 999,999; null before             |
//! | `steps`       | of this episode                                                                             |
//!
//! An outcome is `{"ok": …}`, or `{"error": …}` with the kind of error that Rust makes of it.

use std::collections::BTreeMap;
use std::hash::{BuildHasher, RandomState};
use std::io::Read;
use std::time::{Instant, SystemTime};

use rollcage_sdk::prelude::*;
use rollcage_sdk::serde_json::{Map, Value, json};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Steps of an episode.
const LENGTH: i64 = 10;
/// The bound of a draw, which is below it.
const DRAWS: i64 = 1_000_000;

/// What can be configured: nothing of it has an effect.
#[derive(Clone, Debug, Default, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Any text.
    pub note: String,
    /// A port, or none.
    pub port: Option<u16>,
    /// Any number.
    pub number: f64,
}

/// The env.
#[derive(Debug)]
pub struct Mirror {
    config: Config,
    created: Instant,
    steps: i64,
    draw: Option<i64>,
}

impl Environment for Mirror {
    type Config = Config;
    type Options = NoOptions;
    type ObservationSpace = Discrete;
    type ActionSpace = Discrete;
    type InfoSpace = NoInfo;

    const NAME: &'static str = "mirror";
    const SUMMARY: &'static str = "Tell what an env sees of the world";

    fn create(config: Config) -> Result<Self, CreateError> {
        Ok(Self { config, created: Instant::now(), steps: 0, draw: None })
    }

    fn spec(&self) -> Spec<Self> {
        Spec::new(Discrete::new(LENGTH + 1), Discrete::new(2))
    }

    fn reset(&mut self, rng: &mut NumpyRng, _options: NoOptions) -> Result<View<Self>, EnvError> {
        (self.steps, self.draw) = (0, Some(rng.integers(0, DRAWS)));
        Ok(View::new(self.steps))
    }

    fn step(&mut self, _rng: &mut NumpyRng, _action: i64) -> Result<Step<Self>, EnvError> {
        self.steps += 1;
        Ok(Step::new(self.steps, 1.0).terminated(self.steps == LENGTH))
    }

    fn call(&mut self, method: &str, arguments: Value) -> Result<Value, EnvError> {
        if method != "see" {
            return Err(EnvError::unsupported(format!("{} has no method `{method}`", Self::NAME)));
        }
        let more: Vec<&str> = match arguments.get("directories") {
            None => Vec::new(),
            Some(paths) => Deserialize::deserialize(paths)
                .map_err(|_| EnvError::unsupported("see: `directories` is a list of texts"))?,
        };
        let directories: Map<String, Value> =
            ["/", "."].into_iter().chain(more).map(|path| (path.to_owned(), outcome(list(path)))).collect();
        // Names that are no Unicode are shown with a mark in the place of what they have instead.
        let variables: BTreeMap<_, _> = std::env::vars_os()
            .map(|(name, value)| (name.to_string_lossy().into_owned(), value.to_string_lossy().into_owned()))
            .collect();
        let arguments: Vec<_> = std::env::args_os().map(|text| text.to_string_lossy().into_owned()).collect();
        let current_dir = std::env::current_dir().map(|path| path.to_string_lossy().into_owned());
        // Times that do not fit have left every calendar.
        let wall = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        Ok(json!({
            "config": self.config,
            "arguments": arguments,
            "variables": variables,
            "current_dir": outcome(current_dir),
            "directories": directories,
            "stdin": outcome(std::io::stdin().read_to_end(&mut Vec::new())),
            "wall_ms": u64::try_from(wall.as_millis()).unwrap_or(u64::MAX),
            "elapsed_us": u64::try_from(self.created.elapsed().as_micros()).unwrap_or(u64::MAX),
            "hash": RandomState::new().hash_one(0).to_string(),
            "draw": self.draw,
            "steps": self.steps,
        }))
    }
}

/// The names in a directory, in order.
fn list(path: &str) -> std::io::Result<Vec<String>> {
    let names = std::fs::read_dir(path)?.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()));
    let mut names: Vec<String> = names.collect::<std::io::Result<_>>()?;
    names.sort();
    Ok(names)
}

/// The outcome of a call, as JSON.
fn outcome<T: Into<Value>>(result: std::io::Result<T>) -> Value {
    match result {
        Ok(value) => json!({ "ok": value.into() }),
        Err(error) => json!({ "error": format!("{:?}", error.kind()) }),
    }
}

rollcage_sdk::export!(Mirror);

#[cfg(test)]
mod tests {
    use super::*;
    use rollcage_sdk::testing::Native;

    #[test]
    fn an_episode_has_ten_steps() {
        let mut env = Native::<Mirror>::new("{}").expect("the defaults");
        assert_eq!(env.reset(Some(0), None).expect("a reset").observation, 0);
        let ends: Vec<_> = (0..LENGTH).map(|_| env.step(1).expect("a step").terminated).collect();
        assert_eq!(ends.iter().position(|end| *end), Some(9));
        assert_eq!(env.step(0).map(|step| step.reward), Err(EnvError::NeedsReset));
    }

    #[test]
    fn what_is_seen_is_told() {
        let config = Config { note: "a note".to_owned(), port: Some(6200), number: 0.5 };
        let mut mirror = Mirror::create(config).expect("an env");
        let here = env!("CARGO_MANIFEST_DIR");
        let seen = mirror.call("see", json!({ "directories": [here, "/no such directory"] })).expect("a picture");
        assert_eq!(seen["config"], json!({ "note": "a note", "port": 6200, "number": 0.5 }));
        assert_eq!((&seen["draw"], &seen["steps"]), (&Value::Null, &json!(0)));
        assert_eq!(seen["directories"][here]["ok"][0], "Cargo.toml");
        assert_eq!(seen["directories"]["/no such directory"], json!({ "error": "NotFound" }));
        let keys: Vec<_> = seen.as_object().expect("an object").keys().map(String::as_str).collect();
        assert_eq!(keys.len(), 11, "{keys:?}");

        mirror.reset(&mut NumpyRng::new(7), NoOptions {}).expect("a reset");
        let drawn = NumpyRng::new(7).integers(0, DRAWS);
        assert_eq!(mirror.call("see", json!({})).expect("a picture")["draw"], drawn);
    }

    #[test]
    fn what_is_not_understood_is_refused() {
        let mut mirror = Mirror::create(Config::default()).expect("an env");
        let refusal = |result: Result<Value, EnvError>| format!("{:?}", result.expect_err("refused"));
        let texts = refusal(mirror.call("see", json!({ "directories": ["/", 3] })));
        assert!(texts.contains("see: `directories` is a list of texts"), "{texts}");
        let method = refusal(mirror.call("hear", json!({})));
        assert!(method.contains("mirror has no method `hear`"), "{method}");
    }
}
