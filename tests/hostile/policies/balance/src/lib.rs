//! Goal: a policy that plays CartPole well, and whose answers tell what it was given.
//! Method: pushes towards the side to which the pole falls. Its one extra, `value`, is the angle of the observation.

use rollcage_sdk::policy::prelude::*;

struct Balance;

impl Policy for Balance {
    type Config = NoConfig;

    const NAME: &'static str = "balance";
    const SUMMARY: &'static str = "Pushes the cart towards the side to which the pole falls";

    fn create(_config: NoConfig, spaces: &Spaces) -> Result<Self, CreateError> {
        match (policy::size_of(&spaces.observation), policy::size_of(&spaces.action)) {
            (16, 8) => Ok(Self),
            _ => Err(CreateError::failed("the spaces are not CartPole's")),
        }
    }

    fn extras(&self) -> Vec<String> {
        vec!["value".to_owned()]
    }

    fn act(
        &mut self,
        _rng: &mut NumpyRng,
        observation: &[u8],
        _mask: &[u8],
        decision: &mut Decision,
    ) -> Result<(), String> {
        let [_, _, theta, theta_dot] = policy::array::<f32, 4>(observation);
        decision.choose(i64::from(theta + 0.5 * theta_dot > 0.0));
        decision.extras_mut()[0] = theta;
        Ok(())
    }
}

rollcage_sdk::export_policy!(Balance);
