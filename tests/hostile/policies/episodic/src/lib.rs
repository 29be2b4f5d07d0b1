//! Goal: a reset that is missing, or one too many, shows in the actions.
//! Method: acts on the count of actions since its last reset: choice `count mod n` of a Discrete, masks apart. Its extras
//! are `count` and `resets`, which count from 0; `count` is -1 where there was no reset at all.

use rollcage_sdk::policy::prelude::*;
use rollcage_sdk::raw::SpaceNode;

struct Episodic {
    n: i64,
    start: i64,
    count: i16,
    resets: i16,
}

impl Policy for Episodic {
    type Config = NoConfig;

    const NAME: &'static str = "episodic";
    const SUMMARY: &'static str = "Counts its actions since its last reset";

    fn create(_config: NoConfig, spaces: &Spaces) -> Result<Self, CreateError> {
        match &*spaces.action.nodes {
            [SpaceNode::Discrete(node)] => {
                let n = i64::try_from(node.n).unwrap_or(i64::MAX);
                Ok(Self { n, start: node.start, count: 0, resets: 0 })
            }
            _ => Err(CreateError::failed("the action space is not one Discrete")),
        }
    }

    fn extras(&self) -> Vec<String> {
        vec!["count".to_owned(), "resets".to_owned()]
    }

    fn reset(&mut self) {
        self.count = 0;
        self.resets = self.resets.wrapping_add(1);
    }

    fn act(
        &mut self,
        _rng: &mut NumpyRng,
        _observation: &[u8],
        _mask: &[u8],
        decision: &mut Decision,
    ) -> Result<(), String> {
        decision.choose(self.start + i64::from(self.count).rem_euclid(self.n));
        let count = if self.resets == 0 { -1.0 } else { f32::from(self.count) };
        decision.extras_mut().copy_from_slice(&[count, f32::from(self.resets)]);
        self.count = self.count.wrapping_add(1);
        Ok(())
    }
}

rollcage_sdk::export_policy!(Episodic);
