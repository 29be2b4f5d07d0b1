//! Goal: tell which files came inside the plugin, and read them as asked.
//! Method: `call` makes one call of the interface `assets` and returns its answer; every observation is the number of files,
//! and the size of `level` (-1: there is none).
//!
//! | method | arguments                    | result                                        |
//! |--------|------------------------------|-----------------------------------------------|
//! | `list` |                              | all paths                                     |
//! | `size` | {"path"}                     | bytes, or null                                |
//! | `read` | {"path", "offset", "length"} | the bytes as text, or null                    |
//! | `length` | {"path"}                   | bytes that reading the whole file gave, or null |

use rollcage_sdk::assets;
use rollcage_sdk::prelude::*;
use rollcage_sdk::serde_json::{Value, json};

struct Carries;

impl Environment for Carries {
    type Config = NoConfig;
    type Options = NoOptions;
    type ObservationSpace = BoxSpace<[i64; 2]>;
    type ActionSpace = Discrete;
    type InfoSpace = NoInfo;

    const NAME: &'static str = "carries";
    const SUMMARY: &'static str = "Tells what assets it has";

    fn create(_config: NoConfig) -> Result<Self, CreateError> {
        Ok(Self)
    }

    fn spec(&self) -> Spec<Self> {
        Spec::new(BoxSpace::default(), Discrete::new(2))
    }

    fn reset(&mut self, _rng: &mut NumpyRng, _options: NoOptions) -> Result<View<Self>, EnvError> {
        Ok(View::new(observation()))
    }

    fn step(&mut self, _rng: &mut NumpyRng, _action: i64) -> Result<Step<Self>, EnvError> {
        Ok(Step::new(observation(), 0.0))
    }

    fn call(&mut self, method: &str, arguments: Value) -> Result<Value, EnvError> {
        let path = arguments.get("path").and_then(Value::as_str).unwrap_or_default();
        let number = |key: &str| arguments.get(key).and_then(Value::as_u64).unwrap_or(0);
        Ok(match method {
            "list" => json!(assets::list()),
            "size" => json!(assets::size(path)),
            "read" => {
                let length = u32::try_from(number("length")).unwrap_or(u32::MAX);
                let bytes = assets::read_at(path, number("offset"), length);
                json!(bytes.ok().map(|bytes| String::from_utf8_lossy(&bytes).into_owned()))
            }
            "length" => json!(assets::read(path).ok().map(|bytes| bytes.len())),
            _ => return Err(EnvError::unsupported(format!("no method `{method}`"))),
        })
    }
}

fn observation() -> [i64; 2] {
    let number = |number: Option<u64>| number.and_then(|number| i64::try_from(number).ok()).unwrap_or(-1);
    [number(u64::try_from(assets::list().len()).ok()), number(assets::size("level"))]
}

rollcage_sdk::export!(Carries);
