//! `NanAndInfEnv` of `test_vec_check_nan.py`: NaN after a positive action, infinity after a negative one.

use rollcage_sdk::prelude::*;

struct Env;

impl Environment for Env {
    type Config = NoConfig;
    type Options = NoOptions;
    type ObservationSpace = BoxSpace<[f64; 1]>;
    type ActionSpace = BoxSpace<[f64; 1]>;
    type InfoSpace = NoInfo;

    const NAME: &'static str = "nan-and-inf";
    const SUMMARY: &'static str = "Observes NaN and infinity";

    fn create(_config: NoConfig) -> Result<Self, CreateError> {
        Ok(Self)
    }

    fn spec(&self) -> Spec<Self> {
        let all = || BoxSpace::all(f64::NEG_INFINITY, f64::INFINITY);
        Spec::new(all(), all())
    }

    fn reset(&mut self, _rng: &mut NumpyRng, _options: NoOptions) -> Result<View<Self>, EnvError> {
        Ok(View::new([0.0]))
    }

    fn step(&mut self, _rng: &mut NumpyRng, [action]: [f64; 1]) -> Result<Step<Self>, EnvError> {
        let observation = match action {
            action if action > 0.0 => f64::NAN,
            action if action < 0.0 => f64::INFINITY,
            _ => 0.0,
        };
        Ok(Step::new([observation], 0.0))
    }
}

rollcage_sdk::export!(Env);
