//! `FakeImageEnv` of Stable-Baselines3: random pictures, ten steps an episode.

use rollcage_sdk::prelude::*;
use rollcage_sdk::space::ValueOf;

/// The space of its actions, which it does not look at.
pub trait Kind: 'static {
    /// The space's type.
    type Space: Space;
    /// The plugin's name.
    const NAME: &'static str;
    /// The space.
    fn space() -> Self::Space;
}

rollcage_sdk::config! {
    /// What can be configured.
    pub struct Config {
        /// Rows of a picture.
        pub screen_height: u32 = 84,
        /// Columns of a picture.
        pub screen_width: u32 = 84,
        /// Numbers of a pixel.
        pub n_channels: u32 = 1,
        /// Whether the channels are the first dimension.
        pub channel_first: bool = false,
    }
}

/// The env.
pub struct FakeImage<K> {
    shape: [u32; 3],
    step: u32,
    kind: std::marker::PhantomData<K>,
}

impl<K: Kind> Environment for FakeImage<K> {
    type Config = Config;
    type Options = NoOptions;
    type ObservationSpace = BoxSpace<Vec<u8>>;
    type ActionSpace = K::Space;
    type InfoSpace = NoInfo;

    const NAME: &'static str = K::NAME;
    const SUMMARY: &'static str = "Random pictures";

    fn create(config: Config) -> Result<Self, CreateError> {
        let Config { screen_height, screen_width, n_channels, channel_first } = config;
        let shape = if channel_first {
            [n_channels, screen_height, screen_width]
        } else {
            [screen_height, screen_width, n_channels]
        };
        Ok(Self { shape, step: 0, kind: std::marker::PhantomData })
    }

    fn spec(&self) -> Spec<Self> {
        Spec::new(BoxSpace::shaped(&self.shape, 0, 255), K::space())
    }

    fn reset(&mut self, rng: &mut NumpyRng, _options: NoOptions) -> Result<View<Self>, EnvError> {
        self.step = 0;
        Ok(View::new(self.picture(rng)))
    }

    fn step(&mut self, rng: &mut NumpyRng, _action: ValueOf<K::Space>) -> Result<Step<Self>, EnvError> {
        self.step += 1;
        Ok(Step::new(self.picture(rng), 0.0).truncated(self.step >= 10))
    }
}

impl<K> FakeImage<K> {
    fn picture(&self, rng: &mut NumpyRng) -> Vec<u8> {
        (0..self.shape.iter().product()).map(|_| crate::byte(rng)).collect()
    }
}
