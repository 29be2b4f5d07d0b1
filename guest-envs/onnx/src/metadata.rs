//! What a model says of itself: JSON under the key `rollcage` of its `metadata_props`.

use std::collections::HashMap;

use serde::Deserialize;

/// The key in the model's metadata.
pub(crate) const KEY: &str = "rollcage";

/// The version that is read.
const VERSION: u32 = 1;

/// How the model's outputs become an action.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub(crate) struct Metadata {
    version: u32,
    pub(crate) distribution: Distribution,
    /// The output with the logits, the means, or the action itself.
    pub(crate) policy: String,
    /// The output with the logarithms of the standard deviations, for the gaussian distributions.
    #[serde(default)]
    pub(crate) log_std: Option<String>,
    /// The output with the value.
    #[serde(default)]
    pub(crate) value: Option<String>,
    /// Whether the most likely action is taken, unless the config says otherwise.
    #[serde(default = "yes")]
    pub(crate) deterministic: bool,
    #[serde(default)]
    pub(crate) bounds: Bounds,
    #[serde(default)]
    pub(crate) observation: Observation,
}

fn yes() -> bool {
    true
}

#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Distribution {
    /// Logits of one Discrete.
    Categorical,
    /// Logits of a MultiDiscrete, side by side.
    MultiCategorical,
    /// Logits of the bits of a MultiBinary.
    Bernoulli,
    /// Means of a Box, with `log_std`.
    Gaussian,
    /// As `gaussian`, and then its hyperbolic tangent.
    SquashedGaussian,
    /// The action itself.
    Deterministic,
    /// Values of the choices of a Discrete, of which the greatest is taken.
    QValues,
}

impl Distribution {
    /// The name in the metadata.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Categorical => "categorical",
            Self::MultiCategorical => "multi_categorical",
            Self::Bernoulli => "bernoulli",
            Self::Gaussian => "gaussian",
            Self::SquashedGaussian => "squashed_gaussian",
            Self::Deterministic => "deterministic",
            Self::QValues => "q_values",
        }
    }
}

/// How a number becomes one within the bounds of a Box.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Bounds {
    /// It is set to the bound that it is beyond.
    #[default]
    Clip,
    /// -1 becomes the lower bound, and 1 the upper one.
    Unscale,
}

/// How an observation becomes numbers.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Observation {
    /// A choice is its number, counted from 0.
    #[default]
    Numbers,
    /// A choice is as many numbers as there are choices: 1 at its place, and 0 elsewhere.
    OneHot,
}

impl Metadata {
    /// The metadata of a model, if it has some.
    pub(crate) fn of(texts: &HashMap<String, String>) -> Result<Option<Self>, String> {
        #[derive(Deserialize)]
        struct Version {
            version: u32,
        }
        let Some(text) = texts.get(KEY) else { return Ok(None) };
        let wrong = |error: serde_json::Error| format!("its metadata `{KEY}`: {error}");
        let Version { version } = serde_json::from_str(text).map_err(wrong)?;
        if version != VERSION {
            return Err(format!("its metadata `{KEY}` has version {version}, and version {VERSION} is known"));
        }
        let metadata: Self = serde_json::from_str(text).map_err(wrong)?;
        let is_gaussian = matches!(metadata.distribution, Distribution::Gaussian | Distribution::SquashedGaussian);
        match (is_gaussian, &metadata.log_std) {
            (true, None) => Err(format!("its metadata `{KEY}` names no output `log_std`")),
            _ => Ok(Some(metadata)),
        }
    }
}
