//! Plays a policy on the author's own machine, without wasm and without the host: for `cargo test`.

use super::session::Session;
use super::{Decision, Policy, Spaces, leaves, size_of};
use crate::info::tree_of;
use crate::raw::SpaceNode;
use crate::{CreateError, Space, space};

/// The spaces of an env without masks.
pub fn spaces(observation: &impl Space, action: &impl Space) -> Spaces {
    Spaces { observation: tree_of(observation), action: tree_of(action), action_masked: false }
}

/// The bytes of a value, as the host sends it.
///
/// # Panics
///
/// If the value is not in the space.
#[track_caller]
pub fn bytes_of<S: Space>(space: &S, value: &S::Value) -> Vec<u8> {
    space::encode(space, value, 0).unwrap_or_else(|mismatch| panic!("{mismatch}"))
}

/// A policy in this process.
///
/// The config is the JSON that the host would send; defaults are the `Config`'s own. The generator is seeded by the test.
/// An answer that the host would not take is a panic: a choice that is not in its Discrete or that the mask closes, a
/// number of a Box that is NaN. Bounds of a Box are left to the host.
#[expect(missing_debug_implementations, reason = "an author's policy need not be Debug")]
pub struct Native<P: Policy> {
    session: Session<P>,
    spaces: Spaces,
}

impl<P: Policy> Native<P> {
    /// Creates the policy that `config`, a JSON object, describes.
    ///
    /// # Errors
    ///
    /// An error of [`Policy::create`]; a config that does not fit its type.
    pub fn new(config: &str, spaces: Spaces, seed: u64) -> Result<Self, CreateError> {
        Ok(Self { session: Session::create(config, &spaces, seed)?, spaces })
    }

    /// A decision of zeros, as [`Policy::act`] gets it.
    #[must_use]
    pub fn decision(spaces: &Spaces, extras: usize) -> Decision {
        Decision::zeros(size_of(&spaces.action), extras)
    }

    /// The names of the extras.
    #[must_use]
    pub fn extras(&self) -> &[String] {
        &self.session.extras
    }

    /// Begins an episode.
    pub fn reset(&mut self) {
        self.session.policy.reset();
    }

    /// Asks for an action. `mask` is empty, unless the spaces have masks.
    ///
    /// # Errors
    ///
    /// An error of [`Policy::act`].
    ///
    /// # Panics
    ///
    /// If the host would not take the answer.
    #[track_caller]
    pub fn act(&mut self, observation: &[u8], mask: &[u8]) -> Result<Decision, String> {
        let decision = self.session.act(observation, mask)?;
        if let Err(mistake) = self.check(&decision, mask) {
            panic!("{}: {mistake}", P::NAME);
        }
        Ok(decision)
    }

    fn check(&self, decision: &Decision, mut mask: &[u8]) -> Result<(), String> {
        for leaf in leaves(&self.spaces.action) {
            let bytes = &decision.action()[leaf.at..leaf.at + leaf.bytes];
            let choices: Vec<(u64, i64)> = match leaf.node {
                SpaceNode::Discrete(node) => vec![(node.n, node.start)],
                SpaceNode::MultiDiscrete(node) => {
                    let starts = node.start.iter().copied().chain(std::iter::repeat(0));
                    node.nvec.iter().copied().zip(starts).collect()
                }
                SpaceNode::Box(node) if node.dtype == crate::raw::Dtype::Float32 => {
                    let numbers = bytes.as_chunks().0.iter().map(|bytes| f32::from_le_bytes(*bytes));
                    if let Some(number) = numbers.into_iter().find(|number| number.is_nan()) {
                        return Err(format!("the action has {number} in it"));
                    }
                    continue;
                }
                _ => continue,
            };
            for ((n, start), bytes) in choices.into_iter().zip(bytes.as_chunks().0) {
                let chosen = i64::from_le_bytes(*bytes);
                let index = chosen.checked_sub(start).and_then(|index| u64::try_from(index).ok());
                let Some(index) = index.filter(|&index| index < n) else {
                    return Err(format!("{chosen} is not one of the {n} choices from {start} on"));
                };
                if self.spaces.action_masked {
                    let (open, rest) = mask
                        .split_at_checked(usize::try_from(n).unwrap_or(usize::MAX))
                        .ok_or("the mask has fewer choices than the action space: that is the test's mistake")?;
                    mask = rest;
                    if open.get(usize::try_from(index).unwrap_or(usize::MAX)) != Some(&1) && open.contains(&1) {
                        return Err(format!("the action mask does not allow {chosen}"));
                    }
                }
            }
        }
        Ok(())
    }

    /// The policy itself.
    #[must_use]
    pub fn policy(&self) -> &P {
        &self.session.policy
    }

    /// The JSON Schema of the config.
    #[must_use]
    pub fn config_schema() -> serde_json::Value {
        crate::session::schema_of::<P::Config>()
    }
}
