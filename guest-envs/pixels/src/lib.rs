//! Pixels: balls fall, a paddle catches them, and the agent sees the screen alone.
//!
//! An example of image observations, of the size that Atari agents have been given since V. Mnih et al., "Human-level
//! control through deep reinforcement learning" (2015): four grey frames of 84 by 84, the newest last. They
//! show a ball's direction, which no single frame shows.
//!
//! | action |            |   | observation (u8, shape (84, 84, 4))    | ends the episode       |
//! |--------|------------|---|----------------------------------------|------------------------|
//! | 0      | stay       |   | row, column, frame: 0 nothing, 255     | after `balls` balls,   |
//! | 1      | go left    |   | the ball, 128 the paddle               | caught or missed       |
//! | 2      | go right   |   | info: `caught`, `missed`               |                        |

use rollcage_sdk::draw::Color;
use rollcage_sdk::prelude::*;

const SIDE: usize = 84;
const FRAMES: usize = 4;
const BALL: usize = 4;
const PADDLE_WIDTH: usize = 14;
const PADDLE_HEIGHT: usize = 3;
/// The speed of the paddle, in pixels a step.
const PADDLE_SPEED: usize = 3;
/// The speeds at which a ball falls, in pixels a step.
const FALL: [usize; 3] = [2, 3, 4];
/// The greatest sideways speed of a ball, in pixels a step.
const DRIFT: i64 = 2;
/// The row at which the paddle catches.
const FLOOR: usize = SIDE - PADDLE_HEIGHT;
const GREY_BALL: u8 = 255;
const GREY_PADDLE: u8 = 128;

type Screen = [[[u8; FRAMES]; SIDE]; SIDE];

rollcage_sdk::config! {
    /// What can be configured.
    pub struct Config {
        /// How many balls fall in an episode.
        #[schemars(range(min = 1, max = 1000))]
        pub balls: u16 = 10,
    }
}

rollcage_sdk::info! {
    /// What a step tells beside the observation.
    pub struct Score in ScoreSpace {
        /// Balls of this episode that the paddle caught.
        caught: Discrete,
        /// Balls of this episode that it missed.
        missed: Discrete,
    }
}

/// The env.
#[derive(Clone, Debug)]
pub struct Pixels {
    balls: i64,
    caught: i64,
    missed: i64,
    /// The paddle's left end.
    paddle: usize,
    ball: Ball,
    screen: Box<Screen>,
}

impl Environment for Pixels {
    type Config = Config;
    type Options = NoOptions;
    type ObservationSpace = BoxSpace<Screen>;
    type ActionSpace = Discrete;
    type InfoSpace = ScoreSpace;

    const NAME: &'static str = "pixels";
    const SUMMARY: &'static str = "Catch falling balls by sight: four grey frames of 84 by 84";
    const RENDER_MODES: &'static [RenderMode] = &[RenderMode::RgbArray];
    const RENDER_FPS: u32 = 30;

    fn create(config: Config) -> Result<Self, CreateError> {
        Ok(Self {
            balls: config.balls.into(),
            caught: 0,
            missed: 0,
            paddle: 0,
            ball: Ball::default(),
            screen: Box::new([[[0; FRAMES]; SIDE]; SIDE]),
        })
    }

    fn spec(&self) -> Spec<Self> {
        let counts = Discrete::new(self.balls + 1);
        let score = ScoreSpace { caught: counts, missed: counts };
        Spec::with_info(BoxSpace::all(0, 255), Discrete::new(3), score).max_episode_steps(1000)
    }

    fn reset(&mut self, rng: &mut NumpyRng, _options: NoOptions) -> Result<View<Self>, EnvError> {
        (self.caught, self.missed) = (0, 0);
        self.paddle = (SIDE - PADDLE_WIDTH) / 2;
        self.ball = Ball::drop(rng);
        // The past of a first frame is the frame itself.
        (0..FRAMES).for_each(|_| self.show());
        Ok(View::new(*self.screen).info(self.score()))
    }

    fn step(&mut self, rng: &mut NumpyRng, action: i64) -> Result<Step<Self>, EnvError> {
        self.paddle = match action {
            1 => self.paddle.saturating_sub(PADDLE_SPEED),
            2 => (self.paddle + PADDLE_SPEED).min(SIDE - PADDLE_WIDTH),
            _ => self.paddle,
        };
        self.ball.fall();
        let mut reward = 0.0;
        if self.ball.row + BALL >= FLOOR {
            let caught = self.ball.column + BALL > self.paddle && self.ball.column < self.paddle + PADDLE_WIDTH;
            reward = if caught { 1.0 } else { -1.0 };
            self.caught += i64::from(caught);
            self.missed += i64::from(!caught);
            self.ball = Ball::drop(rng);
        }
        self.show();
        let over = self.caught + self.missed >= self.balls;
        Ok(Step::new(*self.screen, reward).terminated(over).info(self.score()))
    }

    /// Draws the newest frame, five times as large, in colour: 420 by 420 pixels.
    fn render(&self, _mode: RenderMode) -> Result<Frame, EnvError> {
        const SCALE: f64 = 5.0;
        const BACKGROUND: Color = [24, 28, 44];

        let mut canvas = Canvas::new(420, 420, BACKGROUND);
        let at = |column: usize, row: usize| (pixels(column) * SCALE, pixels(row) * SCALE);
        canvas.rounded(at(self.paddle, FLOOR), at(PADDLE_WIDTH, PADDLE_HEIGHT), 6.0, [120, 200, 150]);
        let (left, top) = at(self.ball.column, self.ball.row);
        let radius = pixels(BALL) * SCALE / 2.0;
        canvas.disc((left + radius, top + radius), radius, [250, 200, 90]);
        canvas.text(&format!("{} : {}", self.caught, self.missed), (10.0, 10.0), 14.0, [200, 205, 220]);
        Ok(canvas.into_frame())
    }
}

impl Pixels {
    fn score(&self) -> Score {
        Score { caught: Some(self.caught), missed: Some(self.missed) }
    }

    /// Moves every pixel's frames up by one, and draws the newest.
    fn show(&mut self) {
        for pixel in self.screen.as_flattened_mut() {
            let [_, second, third, fourth] = *pixel;
            *pixel = [second, third, fourth, 0];
        }
        self.fill(FLOOR, self.paddle, PADDLE_HEIGHT, PADDLE_WIDTH, GREY_PADDLE);
        self.fill(self.ball.row, self.ball.column, BALL, BALL, GREY_BALL);
    }

    fn fill(&mut self, row: usize, column: usize, height: usize, width: usize, grey: u8) {
        for pixels in &mut self.screen[row..row + height] {
            for pixel in &mut pixels[column..column + width] {
                pixel[FRAMES - 1] = grey;
            }
        }
    }
}

/// The ball: its upper left pixel, and its speed in pixels a step.
#[derive(Clone, Copy, Debug, Default)]
struct Ball {
    row: usize,
    column: usize,
    fall: usize,
    drift: i64,
}

impl Ball {
    fn drop(rng: &mut NumpyRng) -> Self {
        Self {
            row: 0,
            column: rng.choice(SIDE - BALL + 1),
            fall: FALL[rng.choice(FALL.len())],
            drift: rng.integers(-DRIFT, DRIFT + 1),
        }
    }

    /// Moves the ball: the sides throw it back, and the floor holds it.
    fn fall(&mut self) {
        self.row = (self.row + self.fall).min(SIDE - BALL);
        let last = SIDE - BALL;
        self.column = match self.column.checked_add_signed(isize::try_from(self.drift).unwrap_or(0)) {
            Some(column) if column <= last => column,
            beyond => {
                self.drift = -self.drift;
                if beyond.is_some() { last } else { 0 }
            }
        };
    }
}

/// Turns a count of pixels into a coordinate.
#[expect(clippy::cast_precision_loss, reason = "a screen is small")]
fn pixels(count: usize) -> f64 {
    count as f64
}

rollcage_sdk::export!(Pixels);

#[cfg(test)]
mod tests {
    use super::*;
    use rollcage_sdk::testing::Native;

    /// The place of a grey in the newest frame: row and column of its first pixel.
    fn find(screen: &Screen, grey: u8) -> Option<(usize, usize)> {
        (0..SIDE * SIDE).map(|at| (at / SIDE, at % SIDE)).find(|&(row, column)| screen[row][column][FRAMES - 1] == grey)
    }

    #[test]
    fn who_follows_the_ball_catches_it() {
        let mut env = Native::<Pixels>::new(r#"{"balls": 20}"#).expect("a config");
        let mut screen = env.reset(Some(5), None).expect("a reset").observation;
        let (mut sum, mut steps) = (0.0, 0);
        let last = loop {
            let (ball, paddle) =
                (find(&screen, GREY_BALL).expect("a ball").1, find(&screen, GREY_PADDLE).expect("it").1);
            let action = match (ball + BALL / 2).cmp(&(paddle + PADDLE_WIDTH / 2)) {
                std::cmp::Ordering::Less => 1,
                std::cmp::Ordering::Equal => 0,
                std::cmp::Ordering::Greater => 2,
            };
            let step = env.step(action).expect("a step");
            (sum, steps, screen) = (sum + step.reward, steps + 1, step.observation);
            if step.terminated {
                break step.info;
            }
        };
        assert_eq!(last.caught.zip(last.missed).map(|(caught, missed)| caught + missed), Some(20));
        assert!(sum >= 16.0, "{sum} in {steps} steps: {last:?}");
    }

    #[test]
    fn four_frames_are_the_last_four() {
        let mut env = Native::<Pixels>::new("{}").expect("the defaults");
        let mut frames: Vec<Screen> = vec![env.reset(Some(1), None).expect("a reset").observation];
        frames.extend((0..6).map(|action| env.step(action % 3).expect("a step").observation));
        assert!(frames[0].as_flattened().iter().all(|pixel| pixel.iter().all(|grey| *grey == pixel[0])));
        for (at, pair) in frames.windows(2).enumerate() {
            let moved =
                pair[0].as_flattened().iter().zip(pair[1].as_flattened()).all(|(old, new)| old[1..] == new[..3]);
            assert!(moved, "step {at}");
            assert_ne!(pair[0], pair[1], "step {at}");
        }
    }

    #[test]
    fn doing_nothing_misses_most() {
        let mut env = Native::<Pixels>::new(r#"{"balls": 50}"#).expect("a config");
        env.reset(Some(2), None).expect("a reset");
        let last = (0..).map(|_| env.step(0).expect("a step")).find(|step| step.terminated).expect("an end").info;
        assert!(last.missed > last.caught, "{last:?}");
    }

    #[test]
    fn the_picture_is_the_screen_in_colour() {
        let mut env = Native::<Pixels>::new("{}").expect("the defaults");
        env.reset(Some(3), None).expect("a reset");
        let Ok(Frame::Rgb(image)) = env.render(RenderMode::RgbArray) else { panic!("no picture") };
        assert_eq!((image.width, image.height), (420, 420));
        assert_eq!(image.pixels[(412 * 420 + 210) * 3..][..3], [120, 200, 150], "the paddle in the middle");
    }
}
