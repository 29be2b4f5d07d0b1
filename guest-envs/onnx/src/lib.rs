//! Plays a model in the ONNX format: the policy that `rollcage` ships under the name `onnx`.
//!
//! The model is the file `model.onnx` inside the plugin. Its metadata says how its outputs become an action; a model
//! without metadata has one input and one output. `docs/policies.md` is the page for users.
//!
//! On the path of an action: bytes → `sight` → `program` → `head` → bytes. `proto` and `plan` run once.

mod head;
mod metadata;
mod plan;
mod program;
mod proto;
mod sight;

use rollcage_sdk::assets;
use rollcage_sdk::policy::prelude::*;

use crate::head::Head;
use crate::metadata::{Bounds, Distribution, Metadata, Observation};
use crate::plan::Planned;
use crate::proto::Model;
use crate::sight::Sight;

/// The model's path inside the plugin.
pub const MODEL: &str = "model.onnx";

rollcage_sdk::config! {
    /// What can be configured.
    pub struct Config {
        /// Whether the most likely action is taken, and none drawn. Without it, the model says so.
        pub deterministic: Option<bool> = None,
    }
}

/// The policy.
#[derive(Debug)]
pub struct Onnx {
    planned: Planned,
    sight: Sight,
    head: Head,
    /// Buffers of the outputs.
    policy: usize,
    log_std: Option<usize>,
    value: Option<usize>,
    is_deterministic: bool,
    /// Whether the numbers are logits of a known kind.
    has_log_prob: bool,
    /// Whether the value is the greatest of the values of the choices.
    is_q: bool,
}

impl Onnx {
    /// Makes the policy of a model's bytes.
    ///
    /// # Errors
    ///
    /// The model cannot be read, has an operator that is not known, or does not fit the spaces.
    pub fn new(model: &[u8], config: &Config, spaces: &Spaces) -> Result<Self, String> {
        Self::of(Model::read(model)?, config, spaces)
    }

    fn of(model: Model, config: &Config, spaces: &Spaces) -> Result<Self, String> {
        let metadata = Metadata::of(&model.metadata)?;
        let names: Vec<&str> = model.graph.inputs.iter().map(|input| &*input.name).collect();
        let observation = metadata.as_ref().map_or(Observation::Numbers, |metadata| metadata.observation);
        let sight = Sight::new(&spaces.observation, &names, observation)?;
        let planned = Planned::new(model, &sight.sizes())?;

        let distribution = match &metadata {
            Some(metadata) => metadata.distribution,
            None => Head::usual(&spaces.action)?,
        };
        let bounds = metadata.as_ref().map_or(Bounds::Clip, |metadata| metadata.bounds);
        let head = Head::new(&spaces.action, distribution, bounds)?;
        let output = |name: &str, numbers: usize| {
            let output = planned.outputs.iter().find(|output| output.name == name);
            let buffer =
                output.ok_or_else(|| format!("its metadata names the output `{name}`, which it has not"))?.buffer;
            match planned.program.buffers[buffer].len() {
                len if len == numbers => Ok(buffer),
                len => Err(format!("its output `{name}` has {len} numbers where {numbers} are expected")),
            }
        };
        let named = |name: &Option<String>, numbers| name.as_ref().map(|name| output(name, numbers)).transpose();
        let (policy, log_std, value) = match &metadata {
            Some(Metadata { policy, log_std, value, .. }) => {
                (output(policy, head.numbers())?, named(log_std, head.numbers())?, named(value, 1)?)
            }
            None => match &*planned.outputs {
                [only] => (output(&only.name, head.numbers())?, None, None),
                outputs => {
                    return Err(format!(
                        "it has {} outputs and no metadata `{}` that says what they are",
                        outputs.len(),
                        metadata::KEY
                    ));
                }
            },
        };
        let by_model = metadata.as_ref().is_none_or(|metadata| metadata.deterministic);
        let is_deterministic = config.deterministic.unwrap_or(by_model);
        if !is_deterministic && metadata.is_none() {
            let key = metadata::KEY;
            return Err(format!("it has no metadata `{key}` that says what its output is, so no action can be drawn"));
        }
        let has_log_prob = metadata.is_some() && head.has_log_prob();
        let is_q = distribution == Distribution::QValues;
        Ok(Self { planned, sight, head, policy, log_std, value, is_deterministic, has_log_prob, is_q })
    }

    /// Runs the model, and returns its outputs with their names.
    pub fn run(&mut self, observation: &[u8]) -> impl Iterator<Item = (&str, &[f32])> {
        for (input, &buffer) in self.planned.inputs.iter().enumerate() {
            self.sight.write(input, observation, &mut self.planned.program.buffers[buffer]);
        }
        self.planned.program.run();
        let buffers = &self.planned.program.buffers;
        self.planned.outputs.iter().map(|output| (&*output.name, &*buffers[output.buffer]))
    }
}

impl Policy for Onnx {
    type Config = Config;

    const NAME: &'static str = "onnx";
    const SUMMARY: &'static str = "Plays a model in the ONNX format, the file model.onnx inside the plugin";

    fn create(config: Config, spaces: &Spaces) -> Result<Self, CreateError> {
        // The file's bytes are gone before the program is made: memory that was once taken is never given back.
        let model = assets::read(MODEL).map(|bytes| Model::read(&bytes))?;
        let policy = model.and_then(|model| Self::of(model, &config, spaces));
        policy.map_err(|error| CreateError::failed(format!("{MODEL}: {error}")))
    }

    fn extras(&self) -> Vec<String> {
        let mut names = Vec::new();
        if self.has_log_prob {
            names.push("log_prob".to_owned());
        }
        if self.value.is_some() || self.is_q {
            names.push("value".to_owned());
        }
        names
    }

    #[expect(clippy::cast_possible_truncation, reason = "extras are of single precision")]
    fn act(
        &mut self,
        rng: &mut NumpyRng,
        observation: &[u8],
        mask: &[u8],
        decision: &mut Decision,
    ) -> Result<(), String> {
        drop(self.run(observation));
        let buffers = &self.planned.program.buffers;
        let numbers = &buffers[self.policy];
        let log_std = self.log_std.map_or(&[] as &[f32], |log_std| &buffers[log_std]);
        let rng = (!self.is_deterministic && !self.is_q).then_some(rng);
        let log_prob = self.head.decide(numbers, log_std, rng, mask, decision)?;
        let mut extras = decision.extras_mut().iter_mut();
        if self.has_log_prob
            && let Some(extra) = extras.next()
        {
            *extra = log_prob as f32;
        }
        if let Some(extra) = extras.next() {
            *extra = match self.value {
                Some(value) => buffers[value][0],
                None => greatest_open(numbers, mask),
            };
        }
        Ok(())
    }
}

/// The greatest number of an open choice.
fn greatest_open(numbers: &[f32], mask: &[u8]) -> f32 {
    let open = numbers.iter().enumerate().filter(|(choice, _)| mask.get(*choice) != Some(&0));
    let greatest = open.map(|(_, &number)| number).fold(f32::NEG_INFINITY, f32::max);
    if greatest == f32::NEG_INFINITY { numbers[0] } else { greatest }
}

rollcage_sdk::export_policy!(Onnx);
