//! `BitFlippingEnv` of Stable-Baselines3, with its defaults: flip ten bits, one a step, until they are all set.

use rollcage_sdk::prelude::*;

rollcage_sdk::dict! {
    struct Seen in SeenSpace {
        observation: MultiBinary<[bool; 10]>,
        achieved_goal: MultiBinary<[bool; 10]>,
        desired_goal: MultiBinary<[bool; 10]>,
    }
}

rollcage_sdk::info! {
    struct Facts in FactsSpace {
        is_success: BoxSpace<bool>,
    }
}

struct Env {
    bits: [bool; 10],
    step: u32,
}

impl Environment for Env {
    type Config = NoConfig;
    type Options = NoOptions;
    type ObservationSpace = SeenSpace;
    type ActionSpace = Discrete;
    type InfoSpace = FactsSpace;

    const NAME: &'static str = "bit-flipping";
    const SUMMARY: &'static str = "Flip bits until they are all set";

    fn create(_config: NoConfig) -> Result<Self, CreateError> {
        Ok(Self { bits: [false; 10], step: 0 })
    }

    fn spec(&self) -> Spec<Self> {
        let seen = SeenSpace {
            observation: MultiBinary::new(),
            achieved_goal: MultiBinary::new(),
            desired_goal: MultiBinary::new(),
        };
        Spec::with_info(seen, Discrete::new(10), FactsSpace { is_success: BoxSpace::all(false, true) })
    }

    fn reset(&mut self, rng: &mut NumpyRng, _options: NoOptions) -> Result<View<Self>, EnvError> {
        self.step = 0;
        self.bits = [(); 10].map(|()| twins::bit(rng));
        Ok(View::new(self.seen()))
    }

    fn step(&mut self, _rng: &mut NumpyRng, action: i64) -> Result<Step<Self>, EnvError> {
        let bit = &mut self.bits[usize::try_from(action).unwrap_or_default()];
        *bit = !*bit;
        self.step += 1;
        let done = self.bits == [true; 10];
        let step = Step::new(self.seen(), if done { 0.0 } else { -1.0 });
        Ok(step.terminated(done).truncated(self.step >= 10).info(Facts { is_success: Some(done) }))
    }
}

impl Env {
    fn seen(&self) -> Seen {
        Seen { observation: self.bits, achieved_goal: self.bits, desired_goal: [true; 10] }
    }
}

rollcage_sdk::export!(Env);
