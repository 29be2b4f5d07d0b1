//! Running a recording again, and comparing. Each instance of each env is a `VecEnv` of its own, whose events make rows as
//! they did when they were recorded. Two rows are compared bit for bit.
//!
//! If a fault depends on time or on an outside party, the replay does not wait for it. It takes the fault as recorded, and
//! compares everything before it.

use std::num::NonZero;
use std::time::Duration;

use serde_json::Value;

use super::compare::Difference;
use super::damage::Damage;
use super::env_again::{EnvAgain, Part, Stage};
use super::folder::Rollout;
use super::how::{ReplayError, Replayed, Replaying};
use super::snapshot::Snapshot;
use crate::digest::{Digest, run_digest};
use crate::env::vec_env::VecEnv;
use crate::error::UsageError;
use crate::plugin::Plugin;
use crate::record::history::Totals;
use crate::record::manifest::{InstanceEnd, Manifest, files_are_missing, instances_are_missing, totals_json};
use crate::record::writer;

/// The longest that a step may take because its recording says so.
pub(super) const PATIENCE_MAX: Duration = Duration::from_secs(3600);

/// Steps that are taken in one turn.
pub(super) const BATCH_STEPS: usize = 1024;

/// Runs a recording again and compares every row. `progress` is told how many steps were taken.
///
/// # Errors
/// The recording cannot be read, the plugin cannot be run, a directory of the recorded run is not granted, or an interrupt. A
/// difference in the results is not an error: [`Replayed::difference`].
pub fn replay(
    rollout: &Rollout,
    plugin: &Plugin,
    how: &Replaying,
    mut progress: impl FnMut(u64),
) -> Result<Replayed, ReplayError> {
    let manifest = rollout.manifest();
    let stage = Stage::new(rollout, plugin, how)?;
    let mut envs: Vec<EnvAgain<'_>> = manifest.env_numbers().map(|env| EnvAgain::new(env, &stage)).collect();
    let cores = std::thread::available_parallelism().map_or(1, NonZero::get);
    let mut difference = None;
    let mut begun = 0;
    for rows in rollout.rows() {
        let rows = rows?;
        let mut of_env: Vec<Vec<usize>> = vec![Vec::new(); envs.len()];
        for index in 0..rows.len() {
            let env = rows.row(index).env;
            let own = manifest.place_of(env).and_then(|at| of_env.get_mut(at)).ok_or_else(|| {
                let std::ops::Range { start, end } = manifest.env_numbers();
                let what = format!("recording: a row of env {env}; the envs are {start} to {}", end.saturating_sub(1));
                Damage::Unusable(UsageError::new(what))
            })?;
            own.push(index);
        }
        let work: Vec<(&mut EnvAgain<'_>, Vec<usize>)> = envs.iter_mut().zip(of_env).collect();
        in_parallel(work, cores, |(env, indices)| env.take(&rows, &indices, begun))?;
        begun += rows.len() as u64;
        difference = first_difference(&envs);
        progress(envs.iter().map(|env| env.history.totals.steps).sum());
        if difference.is_some() {
            break;
        }
    }
    if difference.is_none() {
        let work: Vec<&mut EnvAgain<'_>> = envs.iter_mut().collect();
        in_parallel(work, cores, |env| env.finish(begun))?;
        difference = first_difference(&envs);
    }
    let digests: Vec<Digest> = envs.iter_mut().map(EnvAgain::env_digest).collect();
    let digest = run_digest(&digests);
    let prefix = !rollout.is_complete();
    if difference.is_none() && !prefix {
        difference = different_digest(manifest, digest, &digests).or_else(|| different_manifest(manifest, &envs));
    }
    let steps = envs.iter().map(|env| env.history.totals.steps).sum();
    let believed = envs.iter().map(|env| env.believed).sum();
    let missing_walls = envs.first_mut().map(|env| std::mem::take(&mut env.missing_walls)).unwrap_or_default();
    Ok(Replayed { steps, digest, digests, prefix, believed, missing_walls, difference })
}

/// Plays one env of a recording up to the end of an episode and shows the caller each state of that episode: after its reset
/// (false), and after each step (true).
///
/// # Errors
/// As [`replay`]; and where there is no such episode.
pub fn watch(
    rollout: &Rollout,
    plugin: &Plugin,
    how: &Replaying,
    (env, episode): (u32, u64),
    mut show: impl FnMut(&mut VecEnv, bool),
) -> Result<(), ReplayError> {
    let stage = Stage::new(rollout, plugin, how)?;
    let mut again = EnvAgain::new(env, &stage);
    let mut seen = false;
    for rows in rollout.rows() {
        let rows = rows?;
        for index in 0..rows.len() {
            let row = rows.row(index);
            if row.env != env {
                continue;
            }
            if row.episode > episode {
                return Ok(());
            }
            let shown = row.episode == episode;
            seen |= shown;
            let has_action = row.outcome.is_some();
            let first = row.step == 0;
            if shown && first && has_action {
                // Replay only the reset, so that its state can be shown.
                again.do_rows(&rows, &[index], Part::Reset)?;
                if let Some(envs) = &mut again.running {
                    show(envs, false);
                }
                again.do_rows(&rows, &[index], Part::Rest)?;
            } else {
                again.do_rows(&rows, &[index], Part::Whole)?;
            }
            if shown
                && has_action
                && let Some(envs) = &mut again.running
            {
                show(envs, true);
            }
        }
    }
    if seen {
        return Ok(());
    }
    Err(UsageError::new(format!("the recording has no episode {episode} of env {env}")).into())
}

/// Plays one env of a recording up to step number `until` of that env, counted over all its episodes. Compares the steps, and
/// takes a [`Snapshot`] of the state there. `until` none: plays to the env's last step.
///
/// # Errors
/// As [`replay`]; and where the env has fewer steps, was ended there by a fault, or cannot be a snapshot
/// ([`VecEnv::snapshot`]).
pub fn snapshot_at(
    rollout: &Rollout,
    plugin: &Plugin,
    how: &Replaying,
    env: u32,
    until: Option<u64>,
) -> Result<Result<Snapshot, Difference>, ReplayError> {
    let mut stage = Stage::new(rollout, plugin, how)?;
    // Bounded by the recording, whose size was accepted already.
    stage.limits.snapshot_bytes = usize::MAX;
    let mut again = EnvAgain::new(env, &stage);
    let (mut steps, mut begun) = (0, 0);
    for rows in rollout.rows() {
        let rows = rows?;
        let left = |steps: u64| until.is_none_or(|until| steps < until);
        let mut indices = Vec::new();
        for index in (0..rows.len()).filter(|&index| rows.row(index).env == env) {
            if !left(steps) {
                break;
            }
            indices.push(index);
            steps += u64::from(rows.row(index).outcome.is_some());
        }
        again.take(&rows, &indices, begun)?;
        begun += rows.len() as u64;
        if let Some((_, difference)) = again.difference {
            return Ok(Err(difference));
        }
        if !left(steps) {
            break;
        }
    }
    again.release();
    again.compare();
    if let Some((_, difference)) = again.difference {
        return Ok(Err(difference));
    }
    if until.is_some_and(|until| steps < until) {
        return Err(UsageError::new(format!("the recording has {steps} steps of env {env}")).into());
    }
    match &mut again.running {
        Some(envs) => Ok(Ok(envs.snapshot(0)?)),
        None => Err(UsageError::new(format!("env {env} has no running instance there")).into()),
    }
}

/// Runs `work` on every item, on as many threads as there are cores. Returns the first error in the order of the items.
pub(super) fn in_parallel<T: Send, E: Send>(
    items: Vec<T>,
    threads: usize,
    work: impl Fn(T) -> Result<(), E> + Sync,
) -> Result<(), E> {
    let mut items: Vec<Option<T>> = items.into_iter().map(Some).collect();
    let share = items.len().div_ceil(threads.max(1)).max(1);
    std::thread::scope(|scope| {
        let work = &work;
        let threads: Vec<_> = items
            .chunks_mut(share)
            .map(|chunk| scope.spawn(move || chunk.iter_mut().filter_map(Option::take).try_for_each(work)))
            .collect();
        threads.into_iter().try_for_each(|thread| match thread.join() {
            Ok(done) => done,
            Err(panic) => std::panic::resume_unwind(panic),
        })
    })
}

fn first_difference(envs: &[EnvAgain<'_>]) -> Option<Difference> {
    let found = envs.iter().filter_map(|env| env.difference.as_ref());
    found.min_by_key(|(at, difference)| (*at, difference.env)).map(|(_, difference)| difference.clone())
}

/// The difference in digests. All rows are equal, so the digests are too, unless the manifest says otherwise.
fn different_digest(manifest: &Manifest, digest: Digest, digests: &[Digest]) -> Option<Difference> {
    let got: Vec<String> = digests.iter().map(ToString::to_string).collect();
    let env = got.iter().zip(&manifest.digests).position(|(got, recorded)| got != recorded);
    let (env, field, recorded, got) = match env {
        Some(env) => (env, "digests", Value::from(manifest.digests[env].clone()), Value::from(got[env].clone())),
        None if manifest.digest.as_deref() != Some(&digest.to_string()) || got.len() != manifest.digests.len() => {
            (0, "digest", manifest.digest.clone().into(), digest.to_string().into())
        }
        None => return None,
    };
    let env = manifest.first_env.saturating_add(u32::try_from(env).unwrap_or(u32::MAX));
    Some(Difference { env, episode: 0, step: 0, field: field.to_owned(), recorded, got })
}

/// The first difference in the rest of the manifest: sums, how instances ended, why it is not portable. All of it follows
/// from the replayed steps, except the messages of faults.
fn different_manifest(manifest: &Manifest, envs: &[EnvAgain<'_>]) -> Option<Difference> {
    let json = |value: serde_json::Result<Value>| value.unwrap_or_default();
    let instances = |ends: &[InstanceEnd]| {
        let mut ends = ends.to_vec();
        ends.iter_mut().filter_map(|end| end.fault.as_mut()).for_each(|fault| fault.message.clear());
        ends
    };
    let ended = instances(&envs.iter().flat_map(EnvAgain::ends).collect::<Vec<_>>());
    let recorded = instances(&manifest.instances);
    let at = recorded.iter().zip(&ended).position(|(recorded, got)| recorded != got);
    let at = at.or((recorded.len() != ended.len()).then_some(recorded.len().min(ended.len())));
    let one = |ends: &[InstanceEnd]| at.and_then(|at| ends.get(at)).map(|end| json(serde_json::to_value(end)));

    let totals = totals_json(&Totals::of(envs.iter().map(|env| env.history.totals)));
    let mut not_portable: Vec<String> = instances_are_missing(manifest.first_instance).into_iter().collect();
    not_portable.extend(manifest.grants.iter().filter_map(|grant| files_are_missing(grant)));
    not_portable.extend(envs.iter().flat_map(|env| writer::not_portable(&env.history)));
    let portable = (manifest.portable, &manifest.not_portable);
    [
        ("instances", one(&recorded).into(), one(&ended).into()),
        ("totals", manifest.totals.clone().into(), totals),
        ("not_portable", json(serde_json::to_value(portable)), {
            json(serde_json::to_value((not_portable.is_empty(), &not_portable)))
        }),
    ]
    .into_iter()
    .find(|(_, recorded, got): &(&str, Value, Value)| recorded != got)
    .map(|(field, recorded, got)| Difference {
        env: manifest.first_env,
        episode: 0,
        step: 0,
        field: field.to_owned(),
        recorded,
        got,
    })
}
