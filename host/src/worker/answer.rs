//! The answers of a guest's functions, as the bindings of every version pass them on.

use crate::fault::{FaultKind, MESSAGE_BYTES_MAX};
use crate::text::cut;
use crate::wire::talk::{EnvError, GuestFault};

/// The part that every reset and step returns beside reward and flags. The guest chose the three lists freely: their lengths
/// and values have not been checked against the spec.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct View {
    /// One value of the observation space.
    pub(crate) observation: Vec<u8>,
    /// Empty unless the env masks actions.
    pub(crate) action_mask: Vec<u8>,
    /// Empty if no info fields are declared.
    pub(crate) info: Vec<u8>,
    /// Empty, or a checked JSON object of at most [`INFO_EXTRA_BYTES_MAX`](crate::wire::slab::INFO_EXTRA_BYTES_MAX).
    pub(crate) info_extra: String,
}

/// The result of a step.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Transition {
    /// The state after the step.
    pub(crate) view: View,
    /// The reward: any `f64`.
    pub(crate) reward: f64,
    /// Whether the task's rules ended the episode.
    pub(crate) terminated: bool,
    /// Whether the env ended the episode by a rule of its own.
    pub(crate) truncated: bool,
}

/// The result of the guest's own loop over steps.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Transitions {
    pub(crate) taken: u32,
    pub(crate) observations: Vec<u8>,
    pub(crate) action_masks: Vec<u8>,
    pub(crate) infos: Vec<u8>,
    pub(crate) infos_extra: Vec<String>,
    pub(crate) rewards: Vec<f64>,
    pub(crate) terminated: bool,
    pub(crate) truncated: bool,
    pub(crate) error: Option<CallError>,
}

/// A picture of an env.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Frame {
    /// Rows from the top, R G B, `height * width * 3` bytes: checked.
    Rgb {
        /// Pixels, at least 1.
        width: u32,
        /// Pixels, at least 1.
        height: u32,
        /// The bytes.
        pixels: Vec<u8>,
    },
    /// Text.
    Text(String),
}

/// The reason why a call gave no answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum CallError {
    /// The env refuses the call, keeps running, and is unchanged.
    Env(EnvError),
    /// The instance has ended: it must not be called again.
    Fault(GuestFault),
}

impl From<GuestFault> for CallError {
    fn from(fault: GuestFault) -> CallError {
        CallError::Fault(fault)
    }
}

/// A fault without a backtrace, its message cut to size.
pub(crate) fn guest_fault(kind: FaultKind, mut message: String) -> GuestFault {
    cut(&mut message, MESSAGE_BYTES_MAX);
    GuestFault { kind, message, backtrace: Vec::new() }
}
