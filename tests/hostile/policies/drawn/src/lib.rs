//! Goal: actions that depend on the seed and on nothing else, so that equal runs show.
//! Method: draws one of the open choices of a Discrete by the SDK's generator. Its one extra, `draws`, counts the actions
//! since it was made.

use rollcage_sdk::policy::prelude::*;
use rollcage_sdk::raw::SpaceNode;

struct Drawn {
    n: usize,
    start: i64,
    draws: u16,
}

impl Policy for Drawn {
    type Config = NoConfig;

    const NAME: &'static str = "drawn";
    const SUMMARY: &'static str = "Draws its actions";

    fn create(_config: NoConfig, spaces: &Spaces) -> Result<Self, CreateError> {
        match &*spaces.action.nodes {
            [SpaceNode::Discrete(node)] => {
                Ok(Self { n: usize::try_from(node.n).unwrap_or(usize::MAX), start: node.start, draws: 0 })
            }
            _ => Err(CreateError::failed("the action space is not one Discrete")),
        }
    }

    fn extras(&self) -> Vec<String> {
        vec!["draws".to_owned()]
    }

    fn act(
        &mut self,
        rng: &mut NumpyRng,
        _observation: &[u8],
        mask: &[u8],
        decision: &mut Decision,
    ) -> Result<(), String> {
        let choice = policy::draw_choice(rng, self.n, mask);
        decision.choose(self.start + i64::try_from(choice).unwrap_or(0));
        self.draws = self.draws.wrapping_add(1);
        decision.extras_mut()[0] = f32::from(self.draws);
        Ok(())
    }
}

rollcage_sdk::export_policy!(Drawn);
