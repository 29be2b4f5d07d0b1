//! Goal: no env at all, or one whose spec breaks the interface's rules or does not fit.
//! Method: `create` refuses, or its spec is changed on its way out.

use mischief::rollcage_sdk::prelude::*;
use mischief::rollcage_sdk::raw::{self, Dtype, SpaceNode};
use mischief::rollcage_sdk::{ConfigError, raw::Space};
use mischief::tamper;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(default)]
struct Config {
    /// How to fail.
    what: What,
}

impl Default for Config {
    fn default() -> Self {
        Self { what: What::Failed }
    }
}

#[derive(Clone, Copy, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
enum What {
    /// Does not.
    Nothing,
    /// The error `failed`.
    Failed,
    /// The error `config`, for one key.
    Config,
    /// The error `config`, for a thousand keys.
    ConfigMany,
    /// The error `config`, without a word.
    ConfigNone,
    /// No nodes.
    NodesNone,
    /// 2,000 nodes.
    NodesMany,
    /// Tuples in Tuples, 17 deep.
    NodesDeep,
    /// A child that does not exist.
    ChildUnknown,
    /// A child that stands before its parent.
    ChildCyclic,
    /// A child of two parents.
    ChildShared,
    /// A node that is nobody's child.
    Orphan,
    /// A Dict of one key and two children.
    KeysFew,
    /// A Dict with a key twice.
    KeysTwice,
    /// A Dict key that would clear a terminal.
    KeysControl,
    /// A Tuple without children.
    TupleEmpty,
    BoxLowAboveHigh,
    BoxBoundsShort,
    BoxBoundNan,
    BoxShapeZero,
    /// A shape whose product is 2^40 bytes.
    BoxTooLarge,
    /// An observation that may be, but twice does not fit.
    ObservationTooLarge,
    /// 4 MiB.
    ActionTooLarge,
    DiscreteNone,
    /// Choices beyond the last i64.
    DiscreteBeyond,
    NvecShort,
    TextCharsetTwice,
    TextMinAboveMax,
    /// A mask of 2^40 choices.
    MaskTooLarge,
    InfoTwice,
    InfoUnnamed,
    /// 2,000 info fields.
    InfoMany,
    StepsZero,
    ThresholdNan,
}

struct CreateFail;

impl Environment for CreateFail {
    type Config = Config;
    type Options = NoOptions;
    type ObservationSpace = Discrete;
    type ActionSpace = Discrete;
    type InfoSpace = NoInfo;

    const NAME: &'static str = "create-fail";
    const SUMMARY: &'static str = "Refuses to be created, or returns an impossible spec";

    fn create(Config { what }: Config) -> Result<Self, CreateError> {
        match what {
            What::Failed => return Err(CreateError::failed("the simulator is not installed")),
            What::Config => return Err(CreateError::config("what", "is `config`, which is not supported today")),
            What::ConfigMany => {
                let error = |n| ConfigError { path: format!("list[{n}]"), message: "is one of too many".to_owned() };
                return Err(CreateError::Config((0..1000).map(error).collect()));
            }
            What::ConfigNone => return Err(CreateError::Config(Vec::new())),
            _ => {}
        }
        tamper::spec(move |spec| change(what, spec));
        Ok(Self)
    }

    fn spec(&self) -> Spec<Self> {
        Spec::new(Discrete::new(2), Discrete::new(2))
    }

    fn reset(&mut self, _rng: &mut NumpyRng, _options: NoOptions) -> Result<View<Self>, EnvError> {
        Ok(View::new(0))
    }

    fn step(&mut self, _rng: &mut NumpyRng, action: i64) -> Result<Step<Self>, EnvError> {
        Ok(Step::new(action, 1.0))
    }
}

fn change(what: What, spec: &mut raw::Spec) {
    let leaf = || discrete(2, 0);
    let named = |name: String| raw::InfoField { name, space: Space { nodes: vec![leaf()] } };
    match what {
        What::Nothing | What::Failed | What::Config | What::ConfigMany | What::ConfigNone => {}
        What::InfoTwice => spec.info_fields = vec![named("tiles".to_owned()), named("tiles".to_owned())],
        What::InfoUnnamed => spec.info_fields = vec![named(String::new())],
        What::InfoMany => spec.info_fields = (0..2000).map(|n| named(format!("field{n}"))).collect(),
        What::StepsZero => spec.max_episode_steps = Some(0),
        What::ThresholdNan => spec.reward_threshold = Some(f64::NAN),
        What::MaskTooLarge => {
            spec.action_space.nodes = vec![discrete(1 << 40, 0)];
            spec.action_masked = true;
        }
        What::ActionTooLarge => spec.action_space.nodes = vec![bytes(&[4 << 20], &[0], &[255])],
        What::ObservationTooLarge => spec.observation_space.nodes = vec![bytes(&[16 << 20], &[0], &[255])],
        What::BoxTooLarge => spec.observation_space.nodes = vec![bytes(&[1 << 20, 1 << 20], &[0], &[255])],
        What::NodesNone => spec.observation_space.nodes = Vec::new(),
        What::NodesMany => {
            let root = tuple((1..2000).collect());
            spec.observation_space.nodes = std::iter::once(root).chain((1..2000).map(|_| leaf())).collect();
        }
        What::NodesDeep => {
            spec.observation_space.nodes = (1..17).map(|child| tuple(vec![child])).chain([leaf()]).collect();
        }
        What::ChildUnknown => spec.observation_space.nodes = vec![tuple(vec![1, 7]), leaf()],
        What::ChildCyclic => spec.observation_space.nodes = vec![tuple(vec![1]), tuple(vec![0])],
        What::ChildShared => spec.observation_space.nodes = vec![tuple(vec![1, 2]), tuple(vec![2]), leaf()],
        What::Orphan => spec.observation_space.nodes = vec![tuple(vec![1]), leaf(), leaf()],
        What::KeysFew => spec.observation_space.nodes = vec![dict(&["a"], vec![1, 2]), leaf(), leaf()],
        What::KeysTwice => spec.observation_space.nodes = vec![dict(&["a", "a"], vec![1, 2]), leaf(), leaf()],
        What::KeysControl => spec.observation_space.nodes = vec![dict(&["\u{1b}[2J"], vec![1]), leaf()],
        What::TupleEmpty => spec.observation_space.nodes = vec![tuple(Vec::new())],
        What::BoxLowAboveHigh => spec.observation_space.nodes = vec![bytes(&[2], &[0, 9], &[255, 8])],
        What::BoxBoundsShort => spec.observation_space.nodes = vec![bytes(&[4], &[0, 0, 0], &[255])],
        What::BoxBoundNan => {
            let (low, high) = (f32::NAN.to_le_bytes().to_vec(), 1_f32.to_le_bytes().to_vec());
            let space = raw::BoxSpace { dtype: Dtype::Float32, shape: Vec::new(), low, high };
            spec.observation_space.nodes = vec![SpaceNode::Box(space)];
        }
        What::BoxShapeZero => spec.observation_space.nodes = vec![bytes(&[4, 0], &[0], &[255])],
        What::DiscreteNone => spec.observation_space.nodes = vec![discrete(0, 0)],
        What::DiscreteBeyond => spec.observation_space.nodes = vec![discrete(2, i64::MAX)],
        What::NvecShort => {
            let space = raw::MultiDiscreteSpace { shape: vec![3], nvec: vec![2, 2], start: Vec::new() };
            spec.observation_space.nodes = vec![SpaceNode::MultiDiscrete(space)];
        }
        What::TextCharsetTwice => spec.observation_space.nodes = vec![text(1, 4, "aba")],
        What::TextMinAboveMax => spec.observation_space.nodes = vec![text(5, 4, "ab")],
    }
}

fn discrete(n: u64, start: i64) -> SpaceNode {
    SpaceNode::Discrete(raw::DiscreteSpace { n, start })
}

fn tuple(children: Vec<u32>) -> SpaceNode {
    SpaceNode::Tuple(raw::TupleSpace { children })
}

fn dict(keys: &[&str], children: Vec<u32>) -> SpaceNode {
    SpaceNode::Dict(raw::DictSpace { keys: keys.iter().map(|&key| key.to_owned()).collect(), children })
}

fn bytes(shape: &[u32], low: &[u8], high: &[u8]) -> SpaceNode {
    let (shape, low, high) = (shape.to_vec(), low.to_vec(), high.to_vec());
    SpaceNode::Box(raw::BoxSpace { dtype: Dtype::Uint8, shape, low, high })
}

fn text(min_length: u32, max_length: u32, charset: &str) -> SpaceNode {
    SpaceNode::Text(raw::TextSpace { min_length, max_length, charset: Some(charset.to_owned()) })
}

mischief::export!(env CreateFail);
