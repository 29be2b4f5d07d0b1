//! `CustomGymEnv` of Stable-Baselines3's `test_vec_envs.py`, over whatever space: random observations, random rewards, four
//! steps an episode, attributes that anybody may set.

pub mod goals;
pub mod image;

use rollcage_sdk::prelude::*;
use rollcage_sdk::serde_json::{Map, Value, json};
use rollcage_sdk::space::ValueOf;
use serde::Deserialize;

/// The space of a custom env's observations and actions.
pub trait Kind: 'static {
    /// The space's type.
    type Space: Space;
    /// The plugin's name.
    const NAME: &'static str;
    /// The space.
    fn space() -> Self::Space;
    /// A value drawn from it.
    fn draw(rng: &mut NumpyRng) -> ValueOf<Self::Space>;
}

/// Reset options of any kind.
#[derive(Default, Deserialize)]
#[serde(transparent)]
pub struct AnyOptions(pub Map<String, Value>);

/// The env.
pub struct Custom<K> {
    attributes: Map<String, Value>,
    kind: std::marker::PhantomData<K>,
}

impl<K: Kind> Environment for Custom<K> {
    type Config = NoConfig;
    type Options = AnyOptions;
    type ObservationSpace = K::Space;
    type ActionSpace = K::Space;
    type InfoSpace = NoInfo;

    const NAME: &'static str = K::NAME;
    const SUMMARY: &'static str = "Random observations, random rewards, four steps an episode";
    const RENDER_MODES: &'static [RenderMode] = &[RenderMode::RgbArray];

    fn create(_config: NoConfig) -> Result<Self, CreateError> {
        let mut attributes = Map::new();
        attributes.insert("current_step".to_owned(), 0.into());
        attributes.insert("current_options".to_owned(), Value::Null);
        Ok(Self { attributes, kind: std::marker::PhantomData })
    }

    fn spec(&self) -> Spec<Self> {
        Spec::new(K::space(), K::space())
    }

    fn reset(&mut self, rng: &mut NumpyRng, AnyOptions(options): AnyOptions) -> Result<View<Self>, EnvError> {
        self.attributes.insert("current_step".to_owned(), 0.into());
        let options = if options.is_empty() { Value::Null } else { options.into() };
        self.attributes.insert("current_options".to_owned(), options);
        Ok(View::new(K::draw(rng)))
    }

    fn step(&mut self, rng: &mut NumpyRng, _action: ValueOf<K::Space>) -> Result<Step<Self>, EnvError> {
        let step = self.attributes["current_step"].as_i64().unwrap_or_default() + 1;
        self.attributes.insert("current_step".to_owned(), step.into());
        let reward = rng.random();
        Ok(Step::new(K::draw(rng), reward).truncated(step >= 4))
    }

    fn render(&self, _mode: RenderMode) -> Result<Frame, EnvError> {
        Ok(Canvas::new(4, 4, [0; 3]).into_frame())
    }

    /// `custom_method(dim_0=1, dim_1=1)`: ones of that shape.
    fn call(&mut self, method: &str, arguments: Value) -> Result<Value, EnvError> {
        if method != "custom_method" {
            return Err(EnvError::unsupported(format!("no method `{method}`")));
        }
        let size = |index: usize, name: &str| {
            let given = arguments["args"].get(index).or_else(|| arguments.get(name));
            given.and_then(Value::as_u64).unwrap_or(1)
        };
        let row: Vec<f64> = (0..size(1, "dim_1")).map(|_| 1.0).collect();
        Ok(json!((0..size(0, "dim_0")).map(|_| row.clone()).collect::<Vec<_>>()))
    }

    fn get_attribute(&self, name: &str) -> Result<Value, EnvError> {
        self.attributes.get(name).cloned().ok_or_else(|| EnvError::unsupported(format!("no attribute `{name}`")))
    }

    fn set_attribute(&mut self, name: &str, value: Value) -> Result<(), EnvError> {
        self.attributes.insert(name.to_owned(), value);
        Ok(())
    }
}

/// A number of a Box from 0 to 1.
pub fn unit(rng: &mut NumpyRng) -> f32 {
    #[expect(clippy::cast_possible_truncation, reason = "rounding is what is meant")]
    let number = rng.random() as f32;
    number
}

/// A byte.
pub fn byte(rng: &mut NumpyRng) -> u8 {
    u8::try_from(rng.integers(0, 256)).unwrap_or_default()
}

/// A bit.
pub fn bit(rng: &mut NumpyRng) -> bool {
    rng.integers(0, 2) == 1
}

/// Four numbers from -20 to 20.
pub fn goal(rng: &mut NumpyRng) -> [f32; 4] {
    [(); 4].map(|()| unit(rng) * 40.0 - 20.0)
}
