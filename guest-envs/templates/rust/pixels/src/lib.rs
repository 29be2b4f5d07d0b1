//! A ball falls, and a bat catches it: what the agent sees is the picture.

use rollcage_sdk::prelude::*;

/// Pixels of a side.
const SIDE: usize = 84;

/// A grey picture: rows, columns, and one channel.
type Picture = [[[u8; 1]; SIDE]; SIDE];

rollcage_sdk::config! {
    /// What can be configured.
    pub struct Config {
        /// Balls of an episode.
        #[schemars(range(min = 1, max = 100))]
        pub balls: u8 = 10,
        /// Width of the bat in pixels.
        #[schemars(range(min = 4, max = 40))]
        pub bat: u8 = 12,
    }
}

/// The env.
pub struct MyEnv {
    balls: u8,
    bat: usize,
    /// The balls that are left.
    left: u8,
    /// The bat's first column.
    place: usize,
    /// The ball's first column and row.
    x: usize,
    y: usize,
    /// Where the ball drifts: 0 left, 1 nowhere, 2 right.
    drift: usize,
}

impl Environment for MyEnv {
    type Config = Config;
    type Options = NoOptions;
    type ObservationSpace = BoxSpace<Picture>;
    type ActionSpace = Discrete;
    type InfoSpace = NoInfo;

    const NAME: &'static str = "my-env";
    const SUMMARY: &'static str = "@SUMMARY@";
    const RENDER_MODES: &'static [RenderMode] = &[RenderMode::RgbArray];
    const RENDER_FPS: u32 = 30;

    fn create(config: Config) -> Result<Self, CreateError> {
        let Config { balls, bat } = config;
        Ok(Self {
            balls,
            bat: bat.into(),
            left: balls,
            place: 0,
            x: 0,
            y: 0,
            drift: 1,
        })
    }

    fn spec(&self) -> Spec<Self> {
        Spec::new(BoxSpace::all(0, 255), Discrete::new(3))
    }

    fn reset(&mut self, rng: &mut NumpyRng, _options: NoOptions) -> Result<View<Self>, EnvError> {
        (self.left, self.place) = (self.balls, (SIDE - self.bat) / 2);
        self.drop_ball(rng);
        Ok(View::new(self.picture()))
    }

    fn step(&mut self, rng: &mut NumpyRng, action: i64) -> Result<Step<Self>, EnvError> {
        self.place = match action {
            0 => self.place.saturating_sub(3),
            2 => (self.place + 3).min(SIDE - self.bat),
            _ => self.place,
        };
        self.x = (self.x + self.drift).saturating_sub(1).min(SIDE - 2);
        self.y += 4;
        let mut reward = 0.0;
        if self.y >= SIDE - 4 {
            let caught = self.x + 1 >= self.place && self.x <= self.place + self.bat;
            reward = if caught { 1.0 } else { -1.0 };
            self.left -= 1;
            self.drop_ball(rng);
        }
        Ok(Step::new(self.picture(), reward).terminated(self.left == 0))
    }

    fn render(&self, _mode: RenderMode) -> Result<Frame, EnvError> {
        let picture = self.picture();
        let rgb = picture.as_flattened().iter().flat_map(|&[grey]| [grey; 3]);
        let (width, height) = (SIDE as u32, SIDE as u32);
        let pixels = rgb.collect();
        Ok(Frame::Rgb(Image {
            width,
            height,
            pixels,
        }))
    }
}

impl MyEnv {
    fn drop_ball(&mut self, rng: &mut NumpyRng) {
        (self.x, self.y) = (rng.choice(SIDE - 1), 0);
        self.drift = rng.choice(3);
    }

    fn picture(&self) -> Picture {
        let mut picture = [[[0]; SIDE]; SIDE];
        for row in &mut picture[self.y..self.y + 2] {
            row[self.x..self.x + 2].fill([255]);
        }
        for row in &mut picture[SIDE - 3..] {
            row[self.place..self.place + self.bat].fill([160]);
        }
        picture
    }
}

rollcage_sdk::export!(MyEnv);
