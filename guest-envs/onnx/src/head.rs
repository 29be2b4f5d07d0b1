//! Turns the numbers of a model into an action: the most likely one, or one that is drawn.
//!
//! Probabilities are in double precision; `docs/policies.md` has the formulas.

use std::f64::consts::{PI, TAU};

use rollcage_sdk::NumpyRng;
use rollcage_sdk::policy::{Decision, Leaf, leaves};
use rollcage_sdk::raw::{BoxSpace, Dtype, Space, SpaceNode};

use crate::metadata::{Bounds, Distribution};

/// How an action is made from an output.
#[derive(Debug)]
pub(crate) enum Head {
    /// One choice or several, each of its own logits.
    Choices {
        choices: Vec<Choice>,
        has_log_prob: bool,
    },
    /// Bits, at a byte of the action.
    Bits {
        at: usize,
        count: usize,
    },
    Numbers {
        boxed: Boxed,
        noise: Noise,
    },
}

#[derive(Debug)]
pub(crate) struct Choice {
    at: usize,
    start: i64,
    options: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Noise {
    None,
    Gaussian,
    Squashed,
}

/// A Box of floats.
#[derive(Debug)]
pub(crate) struct Boxed {
    at: usize,
    is_double: bool,
    low: Vec<f64>,
    high: Vec<f64>,
    bounds: Bounds,
}

impl Head {
    /// `has_log_prob`: whether the numbers are logits, and not values or of an unknown kind.
    pub(crate) fn new(space: &Space, distribution: Distribution, bounds: Bounds) -> Result<Self, String> {
        let leaves = leaves(space);
        let [leaf] = &*leaves else {
            return Err(format!("the action space has {} parts, and a model gives one", leaves.len()));
        };
        let has_log_prob = distribution != Distribution::QValues;
        match (distribution, leaf.node) {
            (Distribution::Categorical | Distribution::QValues, SpaceNode::Discrete(node)) => {
                let choice = Choice::new(leaf.at, node.start, node.n)?;
                Ok(Self::Choices { choices: vec![choice], has_log_prob })
            }
            (Distribution::MultiCategorical, SpaceNode::MultiDiscrete(node)) => {
                let start = |index: usize| node.start.get(index).copied().unwrap_or(0);
                let one = |(index, &n): (usize, &u64)| Choice::new(leaf.at + 8 * index, start(index), n);
                let choices = node.nvec.iter().enumerate().map(one).collect::<Result<_, _>>()?;
                Ok(Self::Choices { choices, has_log_prob })
            }
            (Distribution::Bernoulli, SpaceNode::MultiBinary(_)) => Ok(Self::Bits { at: leaf.at, count: leaf.bytes }),
            (Distribution::Gaussian, SpaceNode::Box(node)) => Self::boxed(leaf, node, bounds, Noise::Gaussian),
            (Distribution::SquashedGaussian, SpaceNode::Box(node)) => Self::boxed(leaf, node, bounds, Noise::Squashed),
            (Distribution::Deterministic, SpaceNode::Box(node)) => Self::boxed(leaf, node, bounds, Noise::None),
            (distribution, node) => {
                let name = distribution.name();
                Err(format!("its distribution is `{name}`, and the action space is a {}", kind_of(node)))
            }
        }
    }

    /// The distribution of a model that does not say it.
    pub(crate) fn usual(space: &Space) -> Result<Distribution, String> {
        match leaves(space).first().map(|leaf| leaf.node) {
            Some(SpaceNode::Discrete(_)) => Ok(Distribution::Categorical),
            Some(SpaceNode::MultiDiscrete(_)) => Ok(Distribution::MultiCategorical),
            Some(SpaceNode::MultiBinary(_)) => Ok(Distribution::Bernoulli),
            Some(SpaceNode::Box(_)) => Ok(Distribution::Deterministic),
            _ => Err("the action space is a Text, and a model gives numbers".to_owned()),
        }
    }

    fn boxed(leaf: &Leaf<'_>, node: &BoxSpace, bounds: Bounds, noise: Noise) -> Result<Self, String> {
        let is_double = match node.dtype {
            Dtype::Float32 => false,
            Dtype::Float64 => true,
            dtype => return Err(format!("the action space is a Box of {dtype:?}, and a model gives floats")),
        };
        let size = if is_double { 8 } else { 4 };
        let count = leaf.bytes / size;
        let each = |bytes: &[u8]| -> Vec<f64> {
            let numbers: Vec<f64> = match is_double {
                true => bytes.as_chunks().0.iter().map(|bytes| f64::from_le_bytes(*bytes)).collect(),
                false => bytes.as_chunks().0.iter().map(|bytes| f32::from_le_bytes(*bytes).into()).collect(),
            };
            if let [same] = *numbers { vec![same; count] } else { numbers }
        };
        let (low, high) = (each(&node.low), each(&node.high));
        let is_bounded = low.iter().chain(&high).all(|bound| bound.is_finite());
        if bounds == Bounds::Unscale && !is_bounded {
            return Err("its actions are to be scaled to the bounds, and the action space has none".to_owned());
        }
        Ok(Self::Numbers { boxed: Boxed { at: leaf.at, is_double, low, high, bounds }, noise })
    }

    /// The numbers that the output `policy` must have.
    pub(crate) fn numbers(&self) -> usize {
        match self {
            Self::Choices { choices, .. } => choices.iter().map(|choice| choice.options).sum(),
            Self::Bits { count, .. } => *count,
            Self::Numbers { boxed, .. } => boxed.low.len(),
        }
    }

    /// Whether an action has a log-probability.
    pub(crate) fn has_log_prob(&self) -> bool {
        match self {
            Self::Choices { has_log_prob, .. } => *has_log_prob,
            Self::Bits { .. } => true,
            Self::Numbers { noise, .. } => *noise != Noise::None,
        }
    }

    /// Writes an action, and returns its log-probability. Without a generator it is the most likely one.
    pub(crate) fn decide(
        &self,
        numbers: &[f32],
        log_std: &[f32],
        mut rng: Option<&mut NumpyRng>,
        mut mask: &[u8],
        decision: &mut Decision,
    ) -> Result<f64, String> {
        if let Some(number) = numbers.iter().chain(log_std).find(|number| number.is_nan()) {
            return Err(format!("the model gives {number}"));
        }
        let mut log_prob = 0.0;
        match self {
            Self::Choices { choices, .. } => {
                let mut first = 0;
                for choice in choices {
                    let own = mask.get(..choice.options).unwrap_or_default();
                    mask = mask.get(choice.options..).unwrap_or_default();
                    let logits = &numbers[first..first + choice.options];
                    first += choice.options;
                    let (chosen, own_log_prob) = choose(logits, own, rng.as_deref_mut());
                    log_prob += own_log_prob;
                    decision.write(choice.at, &[choice.start.wrapping_add_unsigned(chosen as u64)]);
                }
            }
            Self::Bits { at, count } => {
                let bits = &mut decision.action_mut()[*at..*at + *count];
                for (bit, &logit) in bits.iter_mut().zip(numbers) {
                    let logit = f64::from(logit);
                    let is_set = match rng.as_deref_mut() {
                        Some(rng) => rng.random() < 1.0 / (1.0 + (-logit).exp()),
                        None => logit > 0.0,
                    };
                    *bit = is_set.into();
                    // The logarithm of the sigmoid.
                    let signed = if is_set { logit } else { -logit };
                    log_prob += signed.min(0.0) - (-signed.abs()).exp().ln_1p();
                }
            }
            Self::Numbers { boxed, noise } => {
                for (index, &mean) in numbers.iter().enumerate() {
                    let mut number = f64::from(mean);
                    if *noise != Noise::None {
                        let log_std = f64::from(log_std[index]);
                        let normal = rng.as_deref_mut().map_or(0.0, normal);
                        number += log_std.exp() * normal;
                        log_prob += -0.5 * normal * normal - log_std - 0.5 * TAU.ln();
                    }
                    if *noise == Noise::Squashed {
                        number = number.tanh();
                        log_prob -= (1.0 - number * number + 1e-6).ln();
                    }
                    boxed.write(index, number, decision);
                }
            }
        }
        Ok(log_prob)
    }
}

/// One of the open choices, and its log-probability.
fn choose(logits: &[f32], mask: &[u8], rng: Option<&mut NumpyRng>) -> (usize, f64) {
    // A mask that closes everything leaves the first choice open.
    let closes_all = !mask.is_empty() && mask.iter().all(|&open| open == 0);
    let is_open = |choice: usize| mask.is_empty() || if closes_all { choice == 0 } else { mask[choice] == 1 };
    let open = || logits.iter().enumerate().filter(|(choice, _)| is_open(*choice));
    let better = |best: Option<(usize, f32)>, (choice, &logit): (usize, &f32)| match best {
        Some((_, greatest)) if greatest >= logit => best,
        _ => Some((choice, logit)),
    };
    let (greatest_at, greatest) = open().fold(None, better).unwrap_or((0, 0.0));
    let weight = |logit: f32| (f64::from(logit) - f64::from(greatest)).exp();
    let sum: f64 = open().map(|(_, &logit)| weight(logit)).sum();
    let chosen = match rng {
        None => greatest_at,
        Some(rng) => {
            let draw = rng.random() * sum;
            let mut passed = 0.0;
            let beyond = |&(_, &logit): &(usize, &f32)| {
                passed += weight(logit);
                passed > draw
            };
            // Rounding may leave the sum at the draw: then it is the most likely.
            open().find(beyond).map_or(greatest_at, |(choice, _)| choice)
        }
    };
    (chosen, f64::from(logits[chosen]) - f64::from(greatest) - sum.ln())
}

/// Draws from the normal distribution, by Box and Muller's method: two draws for each number.
fn normal(rng: &mut NumpyRng) -> f64 {
    let (radius, angle) = (1.0 - rng.random(), rng.random());
    (-2.0 * radius.ln()).sqrt() * (2.0 * PI * angle).cos()
}

impl Choice {
    fn new(at: usize, start: i64, n: u64) -> Result<Self, String> {
        let options = usize::try_from(n).ok().filter(|&options| options <= 1 << 24);
        Ok(Self { at, start, options: options.ok_or("the action space has too many choices for a model")? })
    }
}

impl Boxed {
    #[expect(clippy::cast_possible_truncation, reason = "the space is of single precision")]
    fn write(&self, index: usize, number: f64, decision: &mut Decision) {
        let (low, high) = (self.low[index], self.high[index]);
        let number = match self.bounds {
            Bounds::Clip => number,
            Bounds::Unscale => low + 0.5 * (number + 1.0) * (high - low),
        };
        let number = number.max(low).min(high);
        match self.is_double {
            true => decision.write(self.at + 8 * index, &[number]),
            // Rounding may lead beyond a bound that is no float of single precision; bounds of the space are.
            false => decision.write(self.at + 4 * index, &[number as f32]),
        }
    }
}

fn kind_of(node: &SpaceNode) -> &'static str {
    match node {
        SpaceNode::Box(_) => "Box",
        SpaceNode::Discrete(_) => "Discrete",
        SpaceNode::MultiDiscrete(_) => "MultiDiscrete",
        SpaceNode::MultiBinary(_) => "MultiBinary",
        SpaceNode::Text(_) => "Text",
        SpaceNode::Dict(_) => "Dict",
        SpaceNode::Tuple(_) => "Tuple",
    }
}
