//! Goal: be given what was not granted, by asking for it.
//! Method: a directory that it says it cannot do without, by an example that a shell would run, and the real clock. What
//! it has of them is nobody's affair here: it plays without looking at either.

use rollcage_sdk::prelude::*;

struct Wanting;

impl Environment for Wanting {
    type Config = NoConfig;
    type Options = NoOptions;
    type ObservationSpace = Discrete;
    type ActionSpace = Discrete;
    type InfoSpace = NoInfo;

    const NAME: &'static str = "wanting";
    const SUMMARY: &'static str = "Wants a directory, and the real clock";
    const WANTS: &'static [Want] = &[
        Want {
            kind: WantKind::Directory,
            example: "$(touch owned):/levels",
            reason: "it reads its levels there\u{1b}[2J",
            required: true,
        },
        Want { kind: WantKind::RealClock, example: "fake", reason: "it shows the hour", required: false },
    ];

    fn create(_config: NoConfig) -> Result<Self, CreateError> {
        Ok(Self)
    }

    fn spec(&self) -> Spec<Self> {
        Spec::new(Discrete::new(2), Discrete::new(2)).max_episode_steps(5)
    }

    fn reset(&mut self, _rng: &mut NumpyRng, _options: NoOptions) -> Result<View<Self>, EnvError> {
        Ok(View::new(0))
    }

    fn step(&mut self, _rng: &mut NumpyRng, action: i64) -> Result<Step<Self>, EnvError> {
        Ok(Step::new(action, 1.0))
    }
}

rollcage_sdk::export!(Wanting);
