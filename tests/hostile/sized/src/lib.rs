//! Not hostile: observations of any size, for measuring what their bytes cost.
//! Method: the action is added to each byte, so that no two observations are equal; episodes have a thousand steps.

use rollcage_sdk::prelude::*;

rollcage_sdk::config! {
    /// How large it is.
    pub struct Config {
        /// Bytes of an observation.
        #[schemars(range(min = 1, max = 2_097_152))]
        pub bytes: u32 = 4,
    }
}

struct Sized {
    observation: Vec<u8>,
    steps: u32,
}

impl Environment for Sized {
    type Config = Config;
    type Options = NoOptions;
    type ObservationSpace = BoxSpace<Vec<u8>>;
    type ActionSpace = Discrete;
    type InfoSpace = NoInfo;

    const NAME: &'static str = "sized";
    const SUMMARY: &'static str = "Observations of any size";

    fn create(config: Config) -> Result<Self, CreateError> {
        Ok(Self { observation: vec![0; config.bytes as usize], steps: 0 })
    }

    fn spec(&self) -> Spec<Self> {
        let bytes = u32::try_from(self.observation.len()).unwrap_or(u32::MAX);
        Spec::new(BoxSpace::shaped(&[bytes], 0, u8::MAX), Discrete::new(2))
    }

    fn reset(&mut self, _rng: &mut NumpyRng, _options: NoOptions) -> Result<View<Self>, EnvError> {
        self.steps = 0;
        Ok(View::new(self.observation.clone()))
    }

    fn step(&mut self, _rng: &mut NumpyRng, action: i64) -> Result<Step<Self>, EnvError> {
        self.steps += 1;
        let more = u8::from(action == 1) + 1;
        self.observation.iter_mut().for_each(|byte| *byte = byte.wrapping_add(more));
        Ok(Step::new(self.observation.clone(), 1.0).terminated(self.steps == 1000))
    }
}

rollcage_sdk::export!(Sized);
