//! The settings of a replay, and its results.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use super::compare::Difference;
use super::damage::Damage;
use crate::cage::engine::Backend;
use crate::cage::{Level, Wall};
use crate::digest::{Digest, run_digest};
use crate::error::{Error, UsageError};
use crate::outside::grant::{Grants, Protected};
use crate::outside::trust::Trust;
use crate::plugin::CompileObserver;
use crate::plugin::cache::Cache;

/// The settings of a replay.
#[derive(Clone, Default)]
pub struct Replaying {
    /// The engine of the replay; none: the recorded engine.
    pub backend: Option<Backend>,
    /// The first episode of each env to be compared. Earlier episodes are run but not compared.
    pub from: u64,
    /// The `rollcage` program, as in [`Builder::worker`](crate::Builder::worker).
    pub worker: Option<PathBuf>,
    /// The cache for compiled plugins.
    pub cache: Option<Cache>,
    /// The observer of compiling, as in [`Builder::when_compiling`](crate::Builder::when_compiling).
    pub compile_observer: Option<CompileObserver>,
    /// Granted directories. They are never taken from a recording, because its paths are untrusted.
    pub grants: Grants,
    /// Paths that no grant may reach.
    pub protected: Vec<Protected>,
    /// What the operator allows.
    pub trust: Trust,
    /// The level of the sandbox without which nothing is run, because a recording's plugin is untrusted.
    pub require_sandbox: Option<Level>,
    /// Whether the envs that [`watch`](super::rerun::watch) shows can be branched. This includes envs with sockets, since their input is served
    /// from the recording. A branch goes on as long as it asks only for input that was recorded.
    pub branching: bool,
    /// The interrupt flag: raised, it ends the replay with [`Error::Interrupted`].
    pub interrupt: Arc<AtomicBool>,
}

/// The results of a replay.
#[derive(Clone, Debug)]
pub struct Replayed {
    /// The number of steps that were repeated.
    pub steps: u64,
    /// The run's digest, as replayed.
    pub digest: Digest,
    /// The digest of each env.
    pub digests: Vec<Digest>,
    /// Whether the recording is a prefix: its run did not finish.
    pub prefix: bool,
    /// The number of faults that were taken as recorded.
    pub believed: u64,
    /// The sandbox layers that were not active around env 0, each with the reason.
    pub missing_walls: Vec<(Wall, String)>,
    /// The first difference, in the recording's order.
    pub difference: Option<Difference>,
}

impl Replayed {
    /// The results of the parts of a run, in the order of their envs, as those of one.
    pub fn joined(parts: impl IntoIterator<Item = Replayed>) -> Replayed {
        let mut parts = parts.into_iter();
        let none = || Replayed {
            steps: 0,
            digest: run_digest(&[]),
            digests: Vec::new(),
            prefix: false,
            believed: 0,
            missing_walls: Vec::new(),
            difference: None,
        };
        let first = parts.next().unwrap_or_else(none);
        parts.fold(first, |mut all, part| {
            all.digests.extend(part.digests);
            Replayed {
                steps: all.steps + part.steps,
                digest: run_digest(&all.digests),
                digests: all.digests,
                prefix: all.prefix || part.prefix,
                believed: all.believed + part.believed,
                missing_walls: all.missing_walls,
                difference: all.difference.or(part.difference),
            }
        })
    }
}

/// The reason why there is no result.
#[derive(Debug, thiserror::Error)]
pub enum ReplayError {
    /// The recording is damaged.
    #[error(transparent)]
    Damage(#[from] Damage),
    /// The host or the plugin failed, or an interrupt came.
    #[error(transparent)]
    Host(#[from] Error),
}

impl From<UsageError> for ReplayError {
    fn from(error: UsageError) -> ReplayError {
        ReplayError::Host(error.into())
    }
}
