//! Turns the bytes of an observation into the numbers that a model takes.

use rollcage_sdk::policy::{leaves, read};
use rollcage_sdk::raw::{Dtype, Space, SpaceNode};
use rollcage_sdk::space::{Element, F16};

use crate::metadata::Observation;

/// The inputs of a model: for each, the leaves that it is made of.
#[derive(Debug)]
pub(crate) struct Sight {
    inputs: Vec<Vec<Part>>,
}

/// A leaf of the observation.
#[derive(Debug)]
struct Part {
    at: usize,
    /// Elements in the bytes.
    count: usize,
    kind: Kind,
    /// Numbers in the model's input.
    numbers: usize,
}

#[derive(Debug)]
enum Kind {
    Box(Dtype),
    /// Each choice's first value, as a number.
    Numbers(Vec<i64>),
    /// Each choice's first value and its options.
    OneHot(Vec<(i64, usize)>),
    Bits,
}

impl Sight {
    /// A model with one input gets all leaves, one after the other; one with several gets the leaf that each is named by.
    pub(crate) fn new(space: &Space, names: &[&str], observation: Observation) -> Result<Self, String> {
        let mut parts = Vec::new();
        for leaf in leaves(space) {
            let kind = match leaf.node {
                SpaceNode::Box(node) => Kind::Box(node.dtype),
                SpaceNode::Discrete(node) => choices(observation, &[node.n], &[node.start])?,
                SpaceNode::MultiDiscrete(node) => choices(observation, &node.nvec, &node.start)?,
                SpaceNode::MultiBinary(_) => Kind::Bits,
                _ => return Err(format!("{} is a Text, and a model takes numbers", named(&leaf.path))),
            };
            let count = leaf.bytes / kind.size();
            let numbers = match &kind {
                Kind::OneHot(choices) => choices.iter().map(|(_, options)| options).sum(),
                _ => count,
            };
            parts.push((leaf.path, Part { at: leaf.at, count, kind, numbers }));
        }
        if names.is_empty() {
            return Err("it has no input".to_owned());
        }
        if let [_] = names {
            return Ok(Self { inputs: vec![parts.into_iter().map(|(_, part)| part).collect()] });
        }
        let mut inputs = Vec::new();
        for &name in names {
            let Some(position) = parts.iter().position(|(path, _)| path == name) else {
                let paths: Vec<String> = parts.iter().map(|(path, _)| format!("`{path}`")).collect();
                let paths = if paths.is_empty() { "none".to_owned() } else { paths.join(", ") };
                return Err(format!("it has an input `{name}`, and the observation has no part of this name: {paths}"));
            };
            inputs.push(vec![parts.swap_remove(position).1]);
        }
        match parts.first() {
            None => Ok(Self { inputs }),
            Some((path, _)) => Err(format!("it has no input for {}", named(path))),
        }
    }

    /// The numbers that each input takes.
    pub(crate) fn sizes(&self) -> Vec<usize> {
        self.inputs.iter().map(|parts| parts.iter().map(|part| part.numbers).sum()).collect()
    }

    /// Writes the numbers of an input.
    pub(crate) fn write(&self, input: usize, observation: &[u8], mut to: &mut [f32]) {
        for part in &self.inputs[input] {
            let (own, rest) = std::mem::take(&mut to).split_at_mut(part.numbers);
            part.write(observation, own);
            to = rest;
        }
    }
}

fn named(path: &str) -> String {
    if path.is_empty() { "the observation".to_owned() } else { format!("the observation's `{path}`") }
}

fn choices(observation: Observation, options: &[u64], starts: &[i64]) -> Result<Kind, String> {
    const OPTIONS_MAX: u64 = 1 << 24;
    let start = |index: usize| starts.get(index).copied().unwrap_or(0);
    match observation {
        Observation::Numbers => Ok(Kind::Numbers((0..options.len()).map(start).collect())),
        Observation::OneHot if options.iter().fold(0_u64, |sum, &n| sum.saturating_add(n)) > OPTIONS_MAX => {
            Err("the observation has too many choices for one number each".to_owned())
        }
        Observation::OneHot => {
            let one = |(index, &n): (usize, &u64)| (start(index), usize::try_from(n).unwrap_or(usize::MAX));
            Ok(Kind::OneHot(options.iter().enumerate().map(one).collect()))
        }
    }
}

impl Kind {
    /// The bytes of an element.
    fn size(&self) -> usize {
        match self {
            Self::Box(Dtype::Boolean | Dtype::Int8 | Dtype::Uint8) | Self::Bits => 1,
            Self::Box(Dtype::Int16 | Dtype::Uint16 | Dtype::Float16) => 2,
            Self::Box(Dtype::Int32 | Dtype::Uint32 | Dtype::Float32) => 4,
            Self::Box(Dtype::Int64 | Dtype::Uint64 | Dtype::Float64) | Self::Numbers(_) | Self::OneHot(_) => 8,
        }
    }
}

impl Part {
    #[expect(clippy::cast_possible_truncation, reason = "models take single precision")]
    fn write(&self, value: &[u8], to: &mut [f32]) {
        match &self.kind {
            Kind::Box(Dtype::Float32) => read(value, self.at, to),
            Kind::Box(Dtype::Uint8 | Dtype::Boolean) | Kind::Bits => {
                to.iter_mut().zip(&value[self.at..]).for_each(|(to, &byte)| *to = byte.into());
            }
            Kind::Box(Dtype::Int8) => self.convert(value, to, |number: i8| number.into()),
            Kind::Box(Dtype::Int16) => self.convert(value, to, |number: i16| number.into()),
            Kind::Box(Dtype::Int32) => self.convert(value, to, |number: i32| number as f32),
            Kind::Box(Dtype::Int64) => self.convert(value, to, |number: i64| number as f32),
            Kind::Box(Dtype::Uint16) => self.convert(value, to, |number: u16| number.into()),
            Kind::Box(Dtype::Uint32) => self.convert(value, to, |number: u32| number as f32),
            Kind::Box(Dtype::Uint64) => self.convert(value, to, |number: u64| number as f32),
            Kind::Box(Dtype::Float16) => self.convert(value, to, F16::to_f32),
            Kind::Box(Dtype::Float64) => self.convert(value, to, |number: f64| number as f32),
            Kind::Numbers(starts) => {
                for (index, (to, start)) in to.iter_mut().zip(starts).enumerate() {
                    *to = (element::<i64>(value, self.at, index) - start) as f32;
                }
            }
            Kind::OneHot(choices) => {
                to.fill(0.0);
                let mut first = 0;
                for (index, &(start, options)) in choices.iter().enumerate() {
                    let choice = element::<i64>(value, self.at, index) - start;
                    if let Some(to) = usize::try_from(choice).ok().and_then(|choice| to.get_mut(first + choice)) {
                        *to = 1.0;
                    }
                    first += options;
                }
            }
        }
    }

    fn convert<T: Element>(&self, value: &[u8], to: &mut [f32], convert: impl Fn(T) -> f32) {
        for (index, to) in to.iter_mut().enumerate().take(self.count) {
            *to = convert(element(value, self.at, index));
        }
    }
}

#[inline]
fn element<T: Element>(value: &[u8], at: usize, index: usize) -> T {
    let mut element = [T::ZERO];
    read(value, at + index * size_of::<T>(), &mut element);
    element[0]
}
