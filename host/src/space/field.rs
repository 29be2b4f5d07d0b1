//! A declared field of infos: a name and a space.

use serde::{Deserialize, Serialize};

use crate::space::Space;

/// A field that `info` may carry.
#[derive(Clone, Debug, PartialEq)]
pub struct InfoField {
    /// Gymnasium's key.
    pub name: String,
    /// The space of its values.
    pub space: Space,
}

/// What becomes of an action with a finite float outside the bounds of its `Box`. NaN and infinities outside are
/// refused in either case.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OutOfBounds {
    /// It is a usage error; but what is out by no more than rounding is set to the bound.
    #[default]
    Refuse,
    /// The env is given it as it is.
    Pass,
}

impl OutOfBounds {
    /// `refuse` or `pass`.
    pub fn name(self) -> &'static str {
        match self {
            OutOfBounds::Refuse => "refuse",
            OutOfBounds::Pass => "pass",
        }
    }
}
