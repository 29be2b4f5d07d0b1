//! The kinds of damage to a recording.

use crate::error::UsageError;

/// The reason why a recording cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Damage {
    /// The recording cannot be used: not a recording, of another format, not readable.
    #[error(transparent)]
    Unusable(#[from] UsageError),
    /// A file's content differs from what the recording says.
    #[error("{0}")]
    Mismatch(String),
}
