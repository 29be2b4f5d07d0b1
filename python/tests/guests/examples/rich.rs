//! The twin of `Rich` in `python/tests/rich.py`: everything that a vector env can return, from the same random numbers.

use rollcage_sdk::prelude::*;
use rollcage_sdk::serde_json::{Value, json};

rollcage_sdk::config! {
    /// What can be configured.
    struct Config {
        /// Steps after which an episode is cut off.
        pub length: i64 = 7,
    }
}

rollcage_sdk::config! {
    /// Reset options.
    struct Options {
        /// Where the count begins.
        pub start: i64 = 0,
    }
}

rollcage_sdk::dict! {
    struct Seen in SeenSpace {
        count: Discrete,
        place: BoxSpace<[f32; 3]>,
        bits: MultiBinary<[bool; 2]>,
    }
}

rollcage_sdk::info! {
    struct Facts in FactsSpace {
        /// In every answer.
        count: BoxSpace<i64>,
        /// After every odd step.
        odd: BoxSpace<[f64; 2]>,
    }
}

struct Env {
    length: i64,
    level: i64,
    start: i64,
    steps: i64,
    place: [f32; 3],
}

impl Environment for Env {
    type Config = Config;
    type Options = Options;
    type ObservationSpace = SeenSpace;
    type ActionSpace = MultiDiscrete<[i64; 2]>;
    type InfoSpace = FactsSpace;

    const NAME: &'static str = "rich";
    const SUMMARY: &'static str = "Everything that a vector env can return";
    const RENDER_MODES: &'static [RenderMode] = &[RenderMode::RgbArray];

    fn create(config: Config) -> Result<Self, CreateError> {
        eprintln!("created");
        Ok(Self { length: config.length, level: 1, start: 0, steps: 0, place: [0.0; 3] })
    }

    fn spec(&self) -> Spec<Self> {
        let seen =
            SeenSpace { count: Discrete::new(1000), place: BoxSpace::all(-10.0, 10.0), bits: MultiBinary::new() };
        Spec::with_info(
            seen,
            MultiDiscrete::new([3, 2]),
            FactsSpace { count: BoxSpace::default(), odd: BoxSpace::default() },
        )
    }

    fn reset(&mut self, rng: &mut NumpyRng, options: Options) -> Result<View<Self>, EnvError> {
        (self.start, self.steps) = (options.start, 0);
        self.place = [(); 3].map(|()| twins::unit(rng));
        Ok(View::new(self.seen()).info(self.facts()))
    }

    fn step(&mut self, rng: &mut NumpyRng, [push, bit]: [i64; 2]) -> Result<Step<Self>, EnvError> {
        self.steps += 1;
        self.place[0] = f32::from(i16::try_from(push).unwrap_or_default()) + twins::unit(rng);
        let reward = rng.random() * self.level as f64 + bit as f64;
        let ended = rng.random() < 0.1;
        let mut step =
            Step::new(self.seen(), reward).terminated(ended).truncated(self.steps >= self.length).info(self.facts());
        if self.steps % 3 == 0 {
            step = step.extra("note", "every third").extra("nested", json!({"steps": self.steps, "half": 0.5}));
        }
        Ok(step)
    }

    /// Two by two pixels of the count's colour.
    fn render(&self, _mode: RenderMode) -> Result<Frame, EnvError> {
        let shade = u8::try_from(self.steps % 256).unwrap_or_default();
        Ok(Canvas::new(2, 2, [shade, 0, 255]).into_frame())
    }

    /// `add(a=, b=)`: the sum.
    fn call(&mut self, method: &str, arguments: Value) -> Result<Value, EnvError> {
        match (method, arguments["a"].as_i64(), arguments["b"].as_i64()) {
            ("add", Some(a), Some(b)) => Ok(json!(a + b)),
            _ => Err(EnvError::unsupported(format!("no method `{method}`"))),
        }
    }

    fn get_attribute(&self, name: &str) -> Result<Value, EnvError> {
        match name {
            "level" => Ok(self.level.into()),
            "steps" => Ok(self.steps.into()),
            _ => Err(EnvError::unsupported(format!("no attribute `{name}`"))),
        }
    }

    fn set_attribute(&mut self, name: &str, value: Value) -> Result<(), EnvError> {
        match (name, value.as_i64()) {
            ("level", Some(level)) => self.level = level,
            _ => return Err(EnvError::unsupported(format!("no attribute `{name}`"))),
        }
        Ok(())
    }
}

impl Env {
    fn seen(&self) -> Seen {
        let count = self.start + self.steps;
        Seen { count, place: self.place, bits: [count % 2 == 1, count % 3 == 1] }
    }

    fn facts(&self) -> Facts {
        let odd = (self.steps % 2 == 1).then_some([self.steps as f64, 0.25]);
        Facts { count: Some(self.start + self.steps), odd }
    }
}

rollcage_sdk::export!(Env);
