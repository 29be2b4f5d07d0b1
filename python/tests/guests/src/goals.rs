//! Envs with goals: `BitFlippingEnv` of Stable-Baselines3, and the method that `HerReplayBuffer` asks for.

use rollcage_sdk::prelude::*;
use rollcage_sdk::serde_json::Value;
use rollcage_sdk::space::ValueOf;

/// `compute_reward(achieved_goals, desired_goals, infos)`: 0 for each goal that was achieved, -1 for each that was not.
///
/// # Errors
///
/// Another method, or arguments that are not two lists of one length.
pub fn call(name: &str, method: &str, arguments: &Value) -> Result<Value, EnvError> {
    if method != "compute_reward" {
        return Err(EnvError::unsupported(format!("{name} has no method `{method}`")));
    }
    let goals = |place: usize| arguments["args"][place].as_array();
    match (goals(0), goals(1)) {
        (Some(achieved), Some(desired)) if achieved.len() == desired.len() => {
            Ok(achieved.iter().zip(desired).map(|(one, other)| if one == other { 0.0 } else { -1.0 }).collect())
        }
        _ => Err(EnvError::failed("compute_reward takes as many achieved goals as desired ones")),
    }
}

rollcage_sdk::dict! {
    pub struct Seen in SeenSpace {
        observation: MultiBinary<Vec<bool>>,
        achieved_goal: MultiBinary<Vec<bool>>,
        desired_goal: MultiBinary<Vec<bool>>,
    }
}

rollcage_sdk::info! {
    pub struct Facts in FactsSpace {
        is_success: BoxSpace<bool>,
    }
}

rollcage_sdk::config! {
    /// What can be configured.
    pub struct Config {
        /// How many bits.
        pub n_bits: u32 = 10,
        /// Steps of an episode; 0 for as many as there are bits.
        pub max_steps: u32 = 0,
    }
}

/// The space of its actions.
pub trait Kind: 'static {
    /// The space's type.
    type Space: Space;
    /// The plugin's name.
    const NAME: &'static str;
    /// The space, for so many bits.
    fn space(bits: u32) -> Self::Space;
    /// Whether an action flips a bit.
    fn flips(action: &ValueOf<Self::Space>, bit: usize) -> bool;
}

/// Flips bits until they are all set.
pub struct BitFlipping<K> {
    config: Config,
    bits: Vec<bool>,
    step: u32,
    kind: std::marker::PhantomData<K>,
}

impl<K: Kind> Environment for BitFlipping<K> {
    type Config = Config;
    type Options = NoOptions;
    type ObservationSpace = SeenSpace;
    type ActionSpace = K::Space;
    type InfoSpace = FactsSpace;

    const NAME: &'static str = K::NAME;
    const SUMMARY: &'static str = "Flip bits until they are all set";

    fn create(mut config: Config) -> Result<Self, CreateError> {
        if config.n_bits == 0 {
            return Err(CreateError::config("n_bits", "at least 1"));
        }
        if config.max_steps == 0 {
            config.max_steps = config.n_bits;
        }
        Ok(Self { config, bits: Vec::new(), step: 0, kind: std::marker::PhantomData })
    }

    fn spec(&self) -> Spec<Self> {
        let bits = || MultiBinary::shaped(&[self.config.n_bits]);
        let seen = SeenSpace { observation: bits(), achieved_goal: bits(), desired_goal: bits() };
        Spec::with_info(seen, K::space(self.config.n_bits), FactsSpace { is_success: BoxSpace::all(false, true) })
    }

    fn reset(&mut self, rng: &mut NumpyRng, _options: NoOptions) -> Result<View<Self>, EnvError> {
        self.step = 0;
        self.bits = (0..self.config.n_bits).map(|_| crate::bit(rng)).collect();
        Ok(View::new(self.seen()))
    }

    fn step(&mut self, _rng: &mut NumpyRng, action: ValueOf<K::Space>) -> Result<Step<Self>, EnvError> {
        for (place, bit) in self.bits.iter_mut().enumerate() {
            *bit ^= K::flips(&action, place);
        }
        self.step += 1;
        let done = self.bits.iter().all(|&bit| bit);
        let step = Step::new(self.seen(), if done { 0.0 } else { -1.0 });
        let over = self.step >= self.config.max_steps;
        Ok(step.terminated(done).truncated(over).info(Facts { is_success: Some(done) }))
    }

    fn call(&mut self, method: &str, arguments: Value) -> Result<Value, EnvError> {
        call(Self::NAME, method, &arguments)
    }
}

impl<K> BitFlipping<K> {
    fn seen(&self) -> Seen {
        Seen {
            observation: self.bits.clone(),
            achieved_goal: self.bits.clone(),
            desired_goal: vec![true; self.bits.len()],
        }
    }
}
