//! What is wrong with a recording.

use crate::error::UsageError;

/// What is wrong with a recording.
#[derive(Debug, thiserror::Error)]
pub enum Damage {
    /// It cannot be used: not a recording, of another format, not readable.
    #[error(transparent)]
    Unusable(#[from] UsageError),
    /// A file is not what the recording says it is.
    #[error("{0}")]
    Mismatch(String),
}
