//! What is asked of a replay, and what comes of it.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use super::compare::Difference;
use super::damage::Damage;
use crate::cage::Wall;
use crate::cage::engine::Backend;
use crate::digest::Digest;
use crate::error::{Error, UsageError};
use crate::outside::grant::{Grants, Protected};
use crate::plugin::CompileObserver;
use crate::plugin::cache::Cache;

/// How a recording is run again.
#[derive(Default)]
pub struct Replaying {
    /// By which engine; none: the recorded one.
    pub backend: Option<Backend>,
    /// The first episode of each env that is compared; those before it are run.
    pub from: u64,
    /// The `rollcage` program, as [`Builder::worker`] has it.
    pub worker: Option<PathBuf>,
    /// Where compiled plugins are kept.
    pub cache: Option<Cache>,
    /// As [`Builder::when_compiling`](crate::Builder::when_compiling) has it.
    pub compile_observer: Option<CompileObserver>,
    /// Directories, which are never taken from a recording: somebody else's paths are not ours.
    pub grants: Grants,
    /// Paths that no grant may reach.
    pub protected: Vec<Protected>,
    /// Refuses to run where a wall of the sandbox does not stand: a recording's plugin is a stranger's.
    pub require_sandbox: bool,
    /// Envs that [`watch`] shows can be branched: also those of a run with sockets, since what came in is served. A branch goes
    /// on as far as it asks for what was recorded.
    pub branching: bool,
    /// Raised, it ends the replay by [`Error::Interrupted`].
    pub interrupt: Arc<AtomicBool>,
}

/// What came of it.
#[derive(Clone, Debug)]
pub struct Replayed {
    /// Steps that were taken again.
    pub steps: u64,
    /// The run's digest, as it came out now.
    pub digest: Digest,
    /// Each env's.
    pub digests: Vec<Digest>,
    /// The recording is a prefix: its run did not finish.
    pub prefix: bool,
    /// Faults that were taken as they were recorded.
    pub believed: u64,
    /// The walls that did not stand around env 0, and why.
    pub missing_walls: Vec<(Wall, String)>,
    /// The first difference, in the recording's order.
    pub difference: Option<Difference>,
}

/// Why there is no result.
#[derive(Debug, thiserror::Error)]
pub enum ReplayError {
    /// The recording.
    #[error(transparent)]
    Damage(#[from] Damage),
    /// The host, the plugin, an interrupt.
    #[error(transparent)]
    Host(#[from] Error),
}

impl From<UsageError> for ReplayError {
    fn from(error: UsageError) -> ReplayError {
        ReplayError::Host(error.into())
    }
}
