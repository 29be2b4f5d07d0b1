//! Runs a model over recorded observations and prints its outputs: for comparisons with the trainer's own.
//!
//!     evaluate MODEL SPACES OBSERVATIONS
//!
//! `SPACES` is a JSON file, see `Described`; `OBSERVATIONS` has the bytes of one observation after the other. Writes one
//! line of JSON for each: the outputs by name, the action's bytes, and the extras. Then the mean time of an action, to the
//! standard error.

use std::collections::BTreeMap;
use std::io::Write;
use std::time::Instant;

use onnx_policy::{Config, Onnx};
use rollcage_sdk::NumpyRng;
use rollcage_sdk::policy::testing::Native;
use rollcage_sdk::policy::{Policy, Spaces, size_of};
use rollcage_sdk::raw::{BoxSpace, DiscreteSpace, Dtype, MultiBinarySpace, MultiDiscreteSpace, Space, SpaceNode};
use serde::Deserialize;

#[derive(Deserialize)]
struct Described {
    observation: Leaf,
    action: Leaf,
    #[serde(default)]
    deterministic: Option<bool>,
    #[serde(default)]
    seed: u64,
}

#[derive(Deserialize)]
#[serde(tag = "type", rename_all = "lowercase")]
enum Leaf {
    Box { dtype: String, shape: Vec<u32>, low: f64, high: f64 },
    Discrete { n: u64 },
    MultiDiscrete { nvec: Vec<u64> },
    MultiBinary { n: u32 },
}

impl Leaf {
    #[expect(clippy::cast_possible_truncation, reason = "bounds of single precision and of bytes")]
    fn space(self) -> Space {
        let node = match self {
            Self::Box { dtype, shape, low, high } => {
                let bound = |bound: f64| match &*dtype {
                    "float32" => (bound as f32).to_le_bytes().to_vec(),
                    "float64" => bound.to_le_bytes().to_vec(),
                    _ => vec![bound as u8],
                };
                let (low, high) = (bound(low), bound(high));
                let dtype = match &*dtype {
                    "float32" => Dtype::Float32,
                    "float64" => Dtype::Float64,
                    _ => Dtype::Uint8,
                };
                SpaceNode::Box(BoxSpace { dtype, shape, low, high })
            }
            Self::Discrete { n } => SpaceNode::Discrete(DiscreteSpace { n, start: 0 }),
            Self::MultiDiscrete { nvec } => {
                let shape = vec![u32::try_from(nvec.len()).expect("few")];
                SpaceNode::MultiDiscrete(MultiDiscreteSpace { shape, nvec, start: Vec::new() })
            }
            Self::MultiBinary { n } => SpaceNode::MultiBinary(MultiBinarySpace { shape: vec![n] }),
        };
        Space { nodes: vec![node] }
    }
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [model, described, observations] = &*arguments else { panic!("evaluate MODEL SPACES OBSERVATIONS") };
    let file = |path: &str| std::fs::read(path).unwrap_or_else(|error| panic!("{path}: {error}"));
    let described: Described = serde_json::from_slice(&file(described)).expect("the spaces");
    let (deterministic, seed) = (described.deterministic, described.seed);
    let spaces =
        Spaces { observation: described.observation.space(), action: described.action.space(), action_masked: false };
    let mut policy = match Onnx::new(&file(model), &Config { deterministic }, &spaces) {
        Ok(policy) => policy,
        Err(error) => {
            eprintln!("{error}");
            std::process::exit(1)
        }
    };
    let names = policy.extras();
    let bytes = size_of(&spaces.observation);
    let observations = file(observations);
    let mut rng = NumpyRng::new(seed);
    let mut out = std::io::BufWriter::new(std::io::stdout().lock());
    let (mut took, mut count) = (std::time::Duration::ZERO, 0_u32);
    for observation in observations.chunks_exact(bytes) {
        let mut decision = Native::<Onnx>::decision(&spaces, names.len());
        let began = Instant::now();
        policy.act(&mut rng, observation, &[], &mut decision).unwrap_or_else(|error| panic!("{error}"));
        took += began.elapsed();
        count += 1;
        let outputs: BTreeMap<&str, &[f32]> = policy.run(observation).collect();
        let extras: BTreeMap<&String, &f32> = names.iter().zip(decision.extras()).collect();
        let line = serde_json::json!({"outputs": outputs, "action": decision.action(), "extras": extras});
        writeln!(out, "{line}").expect("written");
    }
    out.flush().expect("written");
    eprintln!("{} ns an action", took.as_nanos() / u128::from(count.max(1)));
}
