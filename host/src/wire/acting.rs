//! What host and worker agree on for a policy in a process of its own. It is asked as an env is, by the same turns: its
//! actions are the observations and masks of the env for which it acts, and its observations are decisions, which is to say an
//! action of that env and the numbers that the policy adds. A reset begins an episode, and its `info-extra` has the names of
//! the numbers.

use serde::{Deserialize, Serialize};

use super::slab::layout::ViewLayout;
use super::slab::rollout::ADDED_MAX;
use crate::space::{Dtype, OutOfBounds, Space};
use crate::spec::Spec;

/// Bytes of a number that a policy adds to an action.
const NUMBER: usize = size_of::<f32>();

/// The `info-extra` of a policy's reset.
#[derive(Debug, Serialize, Deserialize)]
pub struct Names {
    /// The names of the numbers that it adds to each action.
    pub adds: Vec<String>,
}

/// The spec of a policy that acts for an env with this layout and adds so many numbers.
pub fn spec(env: &ViewLayout, adds: usize) -> Spec {
    Spec {
        observation_space: bytes(env.action + adds * NUMBER),
        action_space: bytes(env.observation + env.mask),
        action_masked: false,
        actions_out_of_bounds: OutOfBounds::Refuse,
        info_fields: Vec::new(),
        max_episode_steps: None,
        reward_threshold: None,
    }
}

/// How many numbers a policy with this spec adds. None: no policy for such an env has this spec.
pub fn adds(env: &ViewLayout, of_policy: &Spec) -> Option<usize> {
    let Space::Box { shape, .. } = &of_policy.observation_space else { return None };
    let bytes = usize::try_from(*shape.first()?).ok()?;
    let numbers = bytes.checked_sub(env.action)? / NUMBER;
    (numbers <= ADDED_MAX && *of_policy == spec(env, numbers)).then_some(numbers)
}

/// An observation and its mask, as a policy's action of so many bytes.
pub fn question(observation: &[u8], mask: &[u8], stride: usize, out: &mut Vec<u8>) {
    out.clear();
    out.extend_from_slice(observation);
    out.extend_from_slice(mask);
    out.resize(stride, 0);
}

/// The observation and its mask in a policy's action.
pub fn asked<'a>(env: &ViewLayout, question: &'a [u8]) -> (&'a [u8], &'a [u8]) {
    let (observation, mask) = question.split_at(env.observation);
    (observation, &mask[..env.mask])
}

/// An action and the numbers added to it, as a policy's observation of so many bytes.
pub fn decision(action: &[u8], added: &[f32], stride: usize, out: &mut Vec<u8>) {
    out.clear();
    out.extend_from_slice(action);
    out.extend(added.iter().flat_map(|number| number.to_le_bytes()));
    out.resize(stride, 0);
}

/// The action and the numbers in a policy's observation.
pub fn decided<'a>(env: &ViewLayout, adds: usize, decision: &'a [u8]) -> (&'a [u8], impl Iterator<Item = f32> + 'a) {
    let (action, numbers) = decision.split_at(env.action);
    let numbers = numbers.chunks_exact(NUMBER).take(adds);
    (action, numbers.map(|bytes| f32::from_le_bytes(bytes.try_into().unwrap_or_default())))
}

/// Any so many bytes; at least one, since a space of nothing is none.
fn bytes(count: usize) -> Space {
    let count = u32::try_from(count.max(1)).unwrap_or(u32::MAX);
    Space::Box { dtype: Dtype::Uint8, shape: vec![count], low: vec![0], high: vec![u8::MAX] }
}
