//! What a caller may know of its envs without asking them.

use std::time::Duration;

use super::VecEnv;
use crate::cage::{Level, Wall, Walls};
use crate::digest::{Digest, run_digest};
use crate::env::oddity::{Oddities, Oddity};
use crate::env::slot::Slot;
use crate::env::terms::Start;
use crate::fault::FaultLog;
use crate::outside::grant::{Grants, Refused};
use crate::outside::service::Keeper;
use crate::plugin::Prepared;
use crate::plugin::config::CompleteConfig;
use crate::spec::Spec;
use crate::wire::lease::LeaseSpec;

impl VecEnv {
    /// The number of envs.
    pub fn len(&self) -> usize {
        self.slots.len()
    }

    /// Never: there is at least one env.
    pub fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    /// Spaces, masks, info fields, time limit: the same for all envs.
    ///
    /// # Panics
    /// After [`Builder::assemble`](super::builder::Builder::assemble), before [`VecEnv::start`] has succeeded: the spec comes from the workers.
    pub fn spec(&self) -> &Spec {
        &self.shape().spec
    }

    /// The plugin, as compiled and described.
    pub fn prepared(&self) -> &Prepared {
        &self.terms.prepared
    }

    /// The active sandbox layers around every env; none before an env has started.
    pub fn walls(&self) -> Walls {
        self.slots.iter().filter_map(Slot::walls).reduce(Walls::and).unwrap_or(Walls::EMPTY)
    }

    /// The requested sandbox layers that are not active, each with the reason, as the first env's worker found it.
    pub fn missing_walls(&self) -> Vec<(Wall, String)> {
        let Some(standing) = self.slots.first().and_then(Slot::standing) else { return Vec::new() };
        let mut missing = standing.missing.clone();
        // What holds instead is another thing where the filter lets a worker name paths.
        let confined = self.terms.directories.is_empty() || standing.confines_directories();
        for (_, why) in missing.iter_mut().filter(|(wall, _)| *wall == Wall::Landlock) {
            why.push_str(if confined {
                "; what is missing of it, seccomp alone stops"
            } else {
                "; a directory is granted, and a plugin that breaks out of wasm can reach other files: \
                 `--require-sandbox=full` refuses that"
            });
        }
        missing
    }

    /// The level of the sandbox that the first env has.
    pub fn level(&self) -> Option<Level> {
        let standing = self.slots.first().and_then(Slot::standing)?;
        Level::reached(standing, !self.terms.directories.is_empty())
    }

    /// The time limit in force, in steps; none: the envs' own ends are the only ones.
    pub fn max_episode_steps(&self) -> Option<u32> {
        self.terms.time_limit.over(self.spec().max_episode_steps)
    }

    /// An env's config: valid, defaults filled in.
    pub fn config_of(&self, env: usize) -> Option<&CompleteConfig> {
        self.slots.get(env).map(Slot::config)
    }

    /// An env's ports: each lease with the first port of its block, those of the run first. Empty before [`VecEnv::start`].
    pub fn ports(&self, env: usize) -> Vec<(LeaseSpec, u16)> {
        let own = self.slots.get(env).map(Slot::ports).unwrap_or_default();
        self.terms.shared.iter().chain(own).cloned().collect()
    }

    /// The process id of an env's lease holder, which holds its ports and runs its services, if it has one.
    pub fn keeper_pid(&self, env: usize) -> Option<u32> {
        self.slots.get(env).and_then(Slot::keeper_pid)
    }

    /// The newest output of an env's services, each line with the service's name before it. Not escaped.
    pub fn services_log(&self, env: usize) -> Option<String> {
        self.slots.get(env).and_then(Slot::services_log)
    }

    /// The newest output of the services that all envs share. Not escaped.
    pub fn run_services_log(&self) -> Option<String> {
        self.keeper.as_ref().map(Keeper::log)
    }

    /// The folder of the recording.
    pub fn recording(&self) -> Option<&std::path::Path> {
        self.recording.as_ref().map(|(recording, _)| recording.folder())
    }

    /// The grants in force, the same for every env: directories by the guest's names, then the rest. The path of a directory
    /// is its real path, links followed.
    pub fn grants(&self) -> &Grants {
        &self.grants
    }

    /// The builder's seed.
    pub fn seed(&self) -> u64 {
        self.seed
    }

    /// The number of the first env here ([`Builder::first_env`](crate::Builder::first_env)).
    pub fn first_env(&self) -> u32 {
        self.first_env
    }

    /// Faults so far.
    pub fn faults(&self) -> &FaultLog {
        &self.faults
    }

    /// Odd answers so far, by kind: rewards that are no finite numbers, observations outside their space. No fault is made of them.
    pub fn oddities(&self) -> Vec<Oddity> {
        Oddities::of_all(self.slots.iter().map(|slot| (slot.env(), slot.oddities())))
    }

    /// The most envs that one worker has: 1, unless envs share workers ([`Builder::envs_per_worker`](crate::Builder::envs_per_worker)).
    pub fn envs_per_worker(&self) -> usize {
        self.terms.each
    }

    /// How the running instance of an env, or the last, was started; none before the first.
    pub fn started_by(&self, env: usize) -> Option<Start> {
        self.slots.get(env).and_then(Slot::started_by)
    }

    /// The time that the slowest env took for the imports of its guest, and the reason why envs do not share them. None if they
    /// do, or if the plugin imports nothing before `create`.
    pub fn own_imports(&self) -> Option<(Duration, &'static str)> {
        let longest = self.slots.iter().map(Slot::imports).max().filter(|time| !time.is_zero())?;
        Some((longest, self.terms.why_imports_are_own()))
    }

    /// The process id of the template process that envs are copied from, if it runs. The template process is not an env.
    pub fn template_pid(&self) -> Option<u32> {
        self.terms.stock.template.pid()
    }

    /// The process id of an env's worker, if one runs.
    pub fn pid(&self, env: usize) -> Option<u32> {
        self.slots.get(env).and_then(Slot::pid)
    }

    /// Whether an env has an operation under way that a call stopped waiting for.
    pub fn is_busy(&self, env: usize) -> bool {
        self.slots.get(env).is_some_and(Slot::is_busy)
    }

    /// Whether an env is masked after a fault: not stepped until it is reset.
    pub fn is_masked(&self, env: usize) -> bool {
        self.slots.get(env).is_some_and(Slot::is_masked)
    }

    /// How often an env has been started: its instance number, from 0.
    pub fn instance(&self, env: usize) -> Option<u32> {
        self.slots.get(env).map(Slot::instance)
    }

    /// Whether an env's next step runs its action: false where the step will reset the env, or the env is masked.
    pub fn takes_action(&self, env: usize) -> bool {
        self.slots.get(env).is_some_and(|slot| slot.takes_action(&self.terms))
    }

    /// The network requests of an env that were refused: the first 32 different ones.
    pub fn refused(&self, env: usize) -> Vec<Refused> {
        self.slots.get(env).map(Slot::refused).unwrap_or_default()
    }

    /// The newest output of an env's guest, and how many bytes were dropped before it. Not escaped.
    pub fn log(&self, env: usize) -> Option<crate::process::child::LogTail> {
        self.slots.get(env).map(Slot::log)
    }

    /// The digest of each env so far (`docs/digest.md`).
    pub fn digests(&self) -> Vec<Digest> {
        self.slots.iter().map(Slot::digest).collect()
    }

    /// The digest of the run so far.
    pub fn digest(&self) -> Digest {
        run_digest(&self.digests())
    }
}
