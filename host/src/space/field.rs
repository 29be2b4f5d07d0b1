//! A declared field of infos: a name and a space.

use serde::{Deserialize, Serialize};

use crate::space::Space;

/// A field that `info` may carry.
#[derive(Clone, Debug, PartialEq)]
pub struct InfoField {
    /// The name: Gymnasium's key.
    pub name: String,
    /// The space of its values.
    pub space: Space,
}

/// How to treat an action with a finite float outside the bounds of its `Box`. NaN and infinities outside the bounds
/// are refused in both cases.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OutOfBounds {
    /// The action is a usage error; but a float that rounding alone put outside is set to the bound.
    #[default]
    Refuse,
    /// The env gets the action unchanged.
    Pass,
}

impl OutOfBounds {
    /// The name: `refuse` or `pass`.
    pub fn name(self) -> &'static str {
        match self {
            OutOfBounds::Refuse => "refuse",
            OutOfBounds::Pass => "pass",
        }
    }
}
