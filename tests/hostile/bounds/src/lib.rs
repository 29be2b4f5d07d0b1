//! Goal: continuous actions at and beyond the bounds of their space, where trainers' arithmetic takes them.
//! Method: bounds that are no float's own value, and uneven. The observation is the last action as it came; the reward falls with
//! the distance from a target within.

use rollcage_sdk::prelude::*;

const TARGET: [f32; 2] = [0.2, 0.3];

rollcage_sdk::config! {
    /// What can be configured.
    pub struct Config {
        /// Whether actions out of bounds are taken.
        pub pass: bool = false,
    }
}

struct Bounds {
    pass: bool,
}

impl Environment for Bounds {
    type Config = Config;
    type Options = NoOptions;
    type ObservationSpace = BoxSpace<[f32; 2]>;
    type ActionSpace = BoxSpace<[f32; 2]>;
    type InfoSpace = NoInfo;

    const NAME: &'static str = "bounds";
    const SUMMARY: &'static str = "Sees its actions as they come";

    fn create(Config { pass }: Config) -> Result<Self, CreateError> {
        Ok(Self { pass })
    }

    fn spec(&self) -> Spec<Self> {
        let spec = Spec::new(BoxSpace::default(), BoxSpace::new([-0.4, 0.1], [0.3, 0.7])).max_episode_steps(10);
        if self.pass { spec.out_of_bounds_passes() } else { spec }
    }

    fn reset(&mut self, _rng: &mut NumpyRng, _options: NoOptions) -> Result<View<Self>, EnvError> {
        Ok(View::new([0.0; 2]))
    }

    fn step(&mut self, _rng: &mut NumpyRng, action: [f32; 2]) -> Result<Step<Self>, EnvError> {
        let away = (action[0] - TARGET[0]).hypot(action[1] - TARGET[1]);
        Ok(Step::new(action, -f64::from(away)))
    }
}

rollcage_sdk::export!(Bounds);
