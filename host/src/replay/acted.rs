//! Who chose the actions of a recording: the policy that it names acts again, beside the same envs from the same seeds, and its
//! actions are compared with the recorded ones, byte by byte.

use std::num::NonZero;

use super::env_again::Stage;
use super::folder::Rollout;
use super::how::{ReplayError, Replaying};
use super::rerun::in_parallel;
use crate::env::rollout::{Acting, Amount, Keep, PolicyPlugin};
use crate::error::UsageError;
use crate::fault::OnFault;
use crate::plugin::Plugin;

/// Steps that are played before they are compared.
const PIECE_STEPS: u64 = 1 << 16;

/// An action that the policy did not choose.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OtherAction {
    /// The env.
    pub env: u32,
    /// Which of its steps, counted from 0 over all episodes.
    pub step: u64,
}

/// Lets the recording's policy act again, and compares the actions. None: it chose every one. `policy` is its file, with the
/// config and the limits of the manifest.
///
/// # Errors
/// The recording names no policy, or another; it has grants or captured input; further as
/// [`replay`](super::rerun::replay).
pub fn chosen_by(
    rollout: &Rollout,
    plugin: &Plugin,
    policy: &Plugin,
    how: &Replaying,
) -> Result<Option<OtherAction>, ReplayError> {
    let manifest = rollout.manifest();
    let Some(named) = &manifest.policy else {
        return Err(UsageError::new("the recording names no policy: its actions came from the program that ran it")
            .hint("`rollcage run --policy FILE.wasm|FILE.onnx --record DIR` makes one that does")
            .into());
    };
    if named.sha256 != policy.sha256_hex() {
        let (name, found) = (crate::text::escape_line(&named.name), policy.sha256_hex());
        let wanted = crate::text::escape_line(&named.sha256);
        return Err(UsageError::new(format!(
            "policy `{}`: its sha256 is {found}; the recording names `{name}` with {wanted}",
            policy.name()
        ))
        .into());
    }
    if !manifest.grants.is_empty() || !manifest.captured.is_empty() {
        return Err(UsageError::new("the recorded envs had grants, which the policy's actions may depend on").into());
    }
    let mut policy = PolicyPlugin::new(policy.clone()).config(&named.config)?.memory_bytes(named.memory_bytes);
    if let Some(fuel) = named.fuel {
        policy = policy.fuel(fuel);
    }
    let stage = Stage::new(rollout, plugin, how)?;
    let mut recorded: Vec<Vec<u8>> = vec![Vec::new(); manifest.envs as usize];
    for rows in rollout.rows() {
        let rows = rows?;
        for index in 0..rows.len() {
            let row = rows.row(index);
            if let (Some(action), Some(_), Some(of)) =
                (row.action, row.outcome, manifest.place_of(row.env).and_then(|at| recorded.get_mut(at)))
            {
                of.extend_from_slice(action);
            }
        }
    }
    let stride = rollout.spec().action_space.stride().max(1);
    let cores = std::thread::available_parallelism().map_or(1, NonZero::get);
    let mut others: Vec<(u32, &[u8], Option<u64>)> =
        (manifest.first_env..).zip(&recorded).map(|(env, actions)| (env, actions.as_slice(), None)).collect();
    in_parallel(others.iter_mut().collect(), cores, |(env, actions, other)| {
        let mut envs = stage.builder(*env)?.on_fault(OnFault::Restart).policy(policy.clone()).build()?;
        let mut at = 0_u64;
        for piece in actions.chunks(stride * usize::try_from(PIECE_STEPS).unwrap_or(usize::MAX)) {
            let steps = (piece.len() / stride) as u64;
            let played = envs.rollout(Acting::Policy, Amount::Steps(steps), Keep::Columns)?;
            let got = played.envs.first().map_or(&[][..], |env| &env.actions);
            let same =
                got.chunks_exact(stride).zip(piece.chunks_exact(stride)).take_while(|(one, two)| one == two).count();
            if same as u64 != steps {
                *other = Some(at + same as u64);
                break;
            }
            at += steps;
        }
        Ok::<_, ReplayError>(())
    })?;
    Ok(others.into_iter().find_map(|(env, _, other)| other.map(|step| OtherAction { env, step })))
}
