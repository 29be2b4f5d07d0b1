//! Goal: the least policy there is, and one whose actions a test knows beforehand.
//! Method: the first choice that is open of every Discrete and MultiDiscrete, zeros for all else; or the action that the
//! config names.

use rollcage_sdk::policy::prelude::*;
use rollcage_sdk::raw::SpaceNode;

rollcage_sdk::config! {
    /// What can be configured.
    pub struct Config {
        /// The action to take, for an action space that is one Discrete; -1: the first that is open.
        #[schemars(range(min = -1))]
        pub action: i64 = -1,
    }
}

struct Steady {
    /// What to answer where no choice is masked.
    action: Vec<u8>,
    /// Where each choice stands: its byte, its options, and the first of them.
    choices: Vec<(usize, usize, i64)>,
    fixed: bool,
}

impl Policy for Steady {
    type Config = Config;

    const NAME: &'static str = "steady";
    const SUMMARY: &'static str = "Always the same action";

    fn create(config: Config, spaces: &Spaces) -> Result<Self, CreateError> {
        let mut steady = Self { action: vec![0; policy::size_of(&spaces.action)], choices: Vec::new(), fixed: false };
        for leaf in policy::leaves(&spaces.action) {
            let mut choice = |at: usize, n: u64, start: i64| {
                steady.action[at..at + 8].copy_from_slice(&start.to_le_bytes());
                steady.choices.push((at, usize::try_from(n).unwrap_or(usize::MAX), start));
            };
            match leaf.node {
                SpaceNode::Discrete(node) => choice(leaf.at, node.n, node.start),
                SpaceNode::MultiDiscrete(node) => {
                    for (index, &n) in node.nvec.iter().enumerate() {
                        choice(leaf.at + 8 * index, n, node.start.get(index).copied().unwrap_or(0));
                    }
                }
                _ => {}
            }
        }
        if config.action != -1 {
            if !matches!(*spaces.action.nodes, [SpaceNode::Discrete(_)]) {
                return Err(CreateError::config("action", "the action space is not one Discrete"));
            }
            steady.action.copy_from_slice(&config.action.to_le_bytes());
            steady.fixed = true;
        }
        Ok(steady)
    }

    fn act(
        &mut self,
        _rng: &mut NumpyRng,
        _observation: &[u8],
        mut mask: &[u8],
        decision: &mut Decision,
    ) -> Result<(), String> {
        decision.action_mut().copy_from_slice(&self.action);
        if self.fixed || mask.is_empty() {
            return Ok(());
        }
        for &(at, options, start) in &self.choices {
            let (of_this, rest) = mask.split_at(options);
            mask = rest;
            let open = of_this.iter().position(|&open| open == 1).unwrap_or(0);
            decision.write(at, &[start + i64::try_from(open).unwrap_or(0)]);
        }
        Ok(())
    }
}

rollcage_sdk::export_policy!(Steady);
