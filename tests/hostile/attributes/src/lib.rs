//! Goal: an author's own methods and attributes, a new seed in the middle of an episode, and a last word.
//! Method: each as small as can be. The observation is the level, steps, and a number drawn from 0 to 2^31 - 1.

use rollcage_sdk::prelude::*;
use rollcage_sdk::serde_json::{Value, json};

struct Attributes {
    level: i64,
    steps: i64,
    reseeds: i64,
    /// What the last reset or step drew.
    draw: i64,
}

impl Environment for Attributes {
    type Config = NoConfig;
    type Options = NoOptions;
    type ObservationSpace = BoxSpace<[i64; 3]>;
    type ActionSpace = Discrete;
    type InfoSpace = NoInfo;

    const NAME: &'static str = "attributes";
    const SUMMARY: &'static str = "Methods and attributes of its own";

    fn create(_config: NoConfig) -> Result<Self, CreateError> {
        Ok(Self { level: 1, steps: 0, reseeds: 0, draw: 0 })
    }

    fn spec(&self) -> Spec<Self> {
        Spec::new(BoxSpace::all(0, i64::MAX), Discrete::new(2))
    }

    fn reset(&mut self, rng: &mut NumpyRng, _options: NoOptions) -> Result<View<Self>, EnvError> {
        self.steps = 0;
        Ok(View::new(self.observation(rng)))
    }

    fn step(&mut self, rng: &mut NumpyRng, _action: i64) -> Result<Step<Self>, EnvError> {
        self.steps += 1;
        Ok(Step::new(self.observation(rng), 1.0))
    }

    fn reseed(&mut self, _rng: &mut NumpyRng) -> Result<(), EnvError> {
        self.reseeds += 1;
        Ok(())
    }

    /// `add` {"a", "b"}: the sum. `echo`: the arguments. `log` {"text"}: a line in the log. `raise`: an error.
    fn call(&mut self, method: &str, arguments: Value) -> Result<Value, EnvError> {
        match method {
            "add" => {
                let number = |key: &str| {
                    let wrong = || EnvError::unsupported(format!("add wants a number `{key}`"));
                    arguments.get(key).and_then(Value::as_f64).ok_or_else(wrong)
                };
                Ok(json!(number("a")? + number("b")?))
            }
            "echo" => Ok(arguments),
            "log" => {
                eprintln!("{}", arguments["text"].as_str().unwrap_or_default());
                Ok(Value::Null)
            }
            "raise" => Err(EnvError::failed("raised by request")),
            _ => Err(EnvError::unsupported(format!("no method `{method}`"))),
        }
    }

    /// `level`, `steps`, `reseeds`, `draw`.
    fn get_attribute(&self, name: &str) -> Result<Value, EnvError> {
        match name {
            "level" => Ok(self.level.into()),
            "steps" => Ok(self.steps.into()),
            "reseeds" => Ok(self.reseeds.into()),
            "draw" => Ok(self.draw.into()),
            _ => Err(EnvError::unsupported(format!("no attribute `{name}`"))),
        }
    }

    /// `level` alone, from 0 on.
    fn set_attribute(&mut self, name: &str, value: Value) -> Result<(), EnvError> {
        if name != "level" {
            return Err(EnvError::unsupported(format!("no attribute `{name}` that can be set")));
        }
        let level = value.as_i64().filter(|&level| level >= 0);
        self.level =
            level.ok_or_else(|| EnvError::unsupported(format!("level is a whole number from 0 on, not {value}")))?;
        Ok(())
    }

    fn close(&mut self) {
        eprintln!("goodbye after {} steps at level {}", self.steps, self.level);
    }
}

impl Attributes {
    fn observation(&mut self, rng: &mut NumpyRng) -> [i64; 3] {
        self.draw = rng.integers(0, 1 << 31);
        [self.level, self.steps, self.draw]
    }
}

rollcage_sdk::export!(Attributes);
