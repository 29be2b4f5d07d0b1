//! An env that uses all that the interface has: every kind of space on both sides, masks, info, options, attributes.

use std::panic::{AssertUnwindSafe, catch_unwind};

use rollcage_sdk::prelude::*;
use rollcage_sdk::raw::SpaceNode;
use rollcage_sdk::serde_json::{Value, json};
use rollcage_sdk::testing::Native;
use schemars::JsonSchema;
use serde::Deserialize;

rollcage_sdk::dict! {
    /// What the rover sees.
    pub struct Sight in SightSpace {
        camera: BoxSpace<Vec<u8>>,
        lamps: MultiBinary<[bool; 3]>,
        place: PlaceSpace,
        radio: Text as "last message",
    }
}

rollcage_sdk::dict! {
    /// Where it is.
    pub struct Place in PlaceSpace {
        cell: Discrete,
        height: BoxSpace<f32>,
    }
}

rollcage_sdk::dict! {
    /// What it is told.
    pub struct Order in OrderSpace {
        go: Discrete,
        say: Text,
        tools: (MultiDiscrete<[i64; 2]>, MultiBinary<[bool; 2]>),
    }
}

rollcage_sdk::info! {
    /// What is known beside.
    pub struct Log in LogSpace {
        odometer: BoxSpace<f64>,
        place: PlaceSpace as "last place",
    }
}

#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
struct Config {
    /// A lower end.
    #[schemars(range(min = -5, max = 5))]
    shift: i64,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Options {
    cell: Option<i64>,
}

struct Rover {
    config: Config,
    cell: i64,
    steps: u32,
    noise: f64,
}

impl Rover {
    fn place(&self) -> Place {
        Place { cell: self.cell, height: 0.5 }
    }

    fn sight(&self) -> Sight {
        let radio = format!("step {}", self.steps);
        Sight { camera: vec![7; 12], lamps: [true, false, true], place: self.place(), radio }
    }
}

impl Environment for Rover {
    type Config = Config;
    type Options = Options;
    type ObservationSpace = SightSpace;
    type ActionSpace = OrderSpace;
    type InfoSpace = LogSpace;

    const NAME: &'static str = "rover";
    const SUMMARY: &'static str = "Everything at once";
    const WANTS: &'static [Want] =
        &[Want { kind: WantKind::Udp, example: "{host}:{port}", reason: "to phone home", required: false }];

    fn create(config: Config) -> Result<Self, CreateError> {
        if config.shift == 4 {
            return Err(CreateError::config("shift", "4 is reserved"));
        }
        Ok(Self { config, cell: 0, steps: 0, noise: 0.0 })
    }

    fn spec(&self) -> Spec<Self> {
        let place = PlaceSpace {
            cell: Discrete::new(6).starting_at(self.config.shift),
            height: BoxSpace::all(0.0, f32::INFINITY),
        };
        let sight = SightSpace {
            camera: BoxSpace::<Vec<u8>>::shaped(&[2, 2, 3], 0, 255),
            lamps: MultiBinary::new(),
            place: place.clone(),
            radio: Text::new(8).min_length(0).any_character(),
        };
        let order = OrderSpace {
            go: Discrete::new(3).starting_at(self.config.shift),
            say: Text::new(3),
            tools: (MultiDiscrete::new([2, 2]), MultiBinary::new()),
        };
        Spec::with_info(sight, order, LogSpace { odometer: BoxSpace::default(), place }).masked()
    }

    fn reset(&mut self, rng: &mut NumpyRng, options: Options) -> Result<View<Self>, EnvError> {
        self.cell = options.cell.unwrap_or(self.config.shift);
        self.steps = 0;
        self.noise = rng.random();
        Ok(View::new(self.sight()).extra("weather", "dust").extra("moons", 2))
    }

    fn step(&mut self, rng: &mut NumpyRng, order: Order) -> Result<Step<Self>, EnvError> {
        if order.say == "no" {
            return Err(EnvError::invalid_action("too rude"));
        }
        self.cell = order.go;
        self.steps += 1;
        self.noise = rng.random();
        let info = Log { odometer: Some(self.steps.into()), place: (self.steps > 1).then(|| self.place()) };
        Ok(Step::new(self.sight(), self.noise).truncated(self.steps == 3).info(info))
    }

    fn action_mask(&self) -> Vec<bool> {
        let mut mask = vec![true; 7];
        mask[usize::from(self.steps == 1)] = false;
        mask
    }

    fn get_attribute(&self, name: &str) -> Result<Value, EnvError> {
        match name {
            "steps" => Ok(json!(self.steps)),
            _ => Err(EnvError::unsupported(format!("no attribute `{name}`"))),
        }
    }
}

rollcage_sdk::export!(Rover);

fn order(go: i64) -> Order {
    Order { go, say: "hi".to_owned(), tools: ([0, 1], [true, false]) }
}

#[test]
fn an_episode_of_everything() {
    let mut env = Native::<Rover>::new(r#"{"shift": 1}"#).expect("a config");
    let first = env.reset(Some(7), None).expect("a reset");
    assert_eq!(first.extra.map(|extra| Value::from(*extra)), Some(json!({"weather": "dust", "moons": 2})));
    assert_eq!(first.info.odometer, None);
    assert_eq!(env.action_mask(), [false, true, true, true, true, true, true]);

    let masked = EnvError::invalid_action("the action mask does not allow it");
    assert_eq!(env.step(order(1)).expect_err("refused"), masked);
    assert_eq!(env.step(order(0)).expect_err("refused"), EnvError::invalid_action("`go`: 0 is not from 1 to 3"));
    let mut long = order(2);
    long.say = "four".to_owned();
    let refused = EnvError::invalid_action("`say`: 4 characters where 1 to 3 are allowed");
    assert_eq!(env.step(long).expect_err("refused"), refused);
    let mut wrench = order(2);
    wrench.tools.0 = [0, 2];
    assert_eq!(
        env.step(wrench).expect_err("refused"),
        EnvError::invalid_action("`tools`: `0`: `1`: 2 is not from 0 to 1")
    );
    let mut rude = order(2);
    rude.say = "no".to_owned();
    // It is in its space, and its mask has it open: the host would end the instance.
    let refused = catch_unwind(AssertUnwindSafe(|| env.step(rude))).expect_err("a mistake of the env");
    let message = refused.downcast_ref::<String>().expect("a text");
    assert!(message.starts_with("rover, at step 1 since the reset: the env refuses the action Order {"), "{message}");
    assert!(message.ends_with(": invalid action: too rude"), "{message}");

    let step = env.step(order(2)).expect("a step");
    assert_eq!((step.observation.place.cell, step.observation.radio.as_str()), (2, "step 1"));
    assert_eq!((step.info.odometer, step.info.place.is_none()), (Some(1.0), true));
    assert_eq!(env.action_mask()[..3], [true, false, true]);
    let mut rng = NumpyRng::new(7);
    rng.random();
    assert_eq!(step.reward, rng.random(), "the generator of the reset goes on");

    env.reseed(11).expect("a seed");
    assert_eq!(env.step(order(1)).expect("a step").reward, NumpyRng::new(11).random());
    assert!(env.step(order(2)).expect("a step").truncated);
    assert_eq!(env.step(order(2)).expect_err("refused"), EnvError::NeedsReset);
    assert_eq!(env.reset(None, Some(r#"{"cell": 3}"#)).expect("a reset").observation.place.cell, 3);
}

#[test]
fn refusals_are_typed() {
    let reserved = Native::<Rover>::new(r#"{"shift": 4}"#).err();
    assert_eq!(reserved, Some(CreateError::config("shift", "4 is reserved")));
    let unknown = Native::<Rover>::new(r#"{"shft": 4}"#).err();
    assert_eq!(unknown, Some(CreateError::config("", "unknown field `shft`, expected `shift`")));
    let mut env = Native::<Rover>::new("{}").expect("the defaults");
    let options = env.reset(None, Some(r#"{"cel": 1}"#)).expect_err("refused");
    assert_eq!(options, EnvError::invalid_options("unknown field `cel`, expected `cell`"));
    assert_eq!(env.step(order(1)).expect_err("refused"), EnvError::NeedsReset);
    assert!(env.env().get_attribute("steps").is_ok());
    assert!(matches!(env.env().get_attribute("stps"), Err(EnvError::Unsupported(_))));
}

#[test]
fn the_spec_is_a_tree() {
    let spec = Native::<Rover>::new("{}").expect("the defaults").spec();
    let kinds = |space: &rollcage_sdk::raw::Space| -> Vec<&str> {
        space
            .nodes
            .iter()
            .map(|node| match node {
                SpaceNode::Box(_) => "box",
                SpaceNode::Discrete(_) => "discrete",
                SpaceNode::MultiDiscrete(_) => "multi-discrete",
                SpaceNode::MultiBinary(_) => "multi-binary",
                SpaceNode::Text(_) => "text",
                SpaceNode::Dict(_) => "dict",
                SpaceNode::Tuple(_) => "tuple",
            })
            .collect()
    };
    assert_eq!(kinds(&spec.observation_space), ["dict", "box", "multi-binary", "dict", "discrete", "box", "text"]);
    assert_eq!(kinds(&spec.action_space), ["dict", "discrete", "text", "tuple", "multi-discrete", "multi-binary"]);
    assert!(spec.action_masked);
    let names: Vec<_> = spec.info_fields.iter().map(|field| field.name.as_str()).collect();
    assert_eq!(names, ["odometer", "last place"]);
    let schema = Native::<Rover>::config_schema();
    let shift = json!({"type": "integer", "format": "int64", "description": "A lower end.",
                       "minimum": -5, "maximum": 5, "default": 0});
    assert_eq!(schema["properties"]["shift"], shift);
}
