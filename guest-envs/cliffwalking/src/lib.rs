//! CliffWalking: go from one end of a cliff to the other without falling off.
//!
//! Gymnasium's `CliffWalking-v1`, slip for slip; with `is_slippery = true` its `CliffWalkingSlippery-v1`.
//!
//! | action |       |   | observation                            | reward                                |
//! |--------|-------|---|----------------------------------------|---------------------------------------|
//! | 0      | up    |   | `row * 12 + column` (Discrete 48)      | -1 a step                             |
//! | 1      | right |   | info: `prob`, the probability of the   | -100 for a fall, which leads back to  |
//! | 2      | down  |   | transition that was taken              | the start                             |
//! | 3      | left  |   |                                        |                                       |

use rollcage_sdk::draw::Color;
use rollcage_sdk::prelude::*;
use rollcage_sdk::toy_text::{Board, Chance, ChanceSpace, INK, slip};

const UP: i64 = 0;
const RIGHT: i64 = 1;
const DOWN: i64 = 2;
const ACTIONS: i64 = 4;

const ROWS: usize = 4;
const COLUMNS: usize = 12;
/// The start, by row and column.
const START: (usize, usize) = (ROWS - 1, 0);
/// The goal, by row and column. The cliff is between it and the start.
const GOAL: (usize, usize) = (ROWS - 1, COLUMNS - 1);

rollcage_sdk::config! {
    /// What can be configured.
    pub struct Config {
        /// Whether a step goes to either side of where it was meant to, as often as there.
        pub is_slippery: bool = false,
    }
}

/// The env.
#[derive(Clone, Debug)]
pub struct CliffWalking {
    config: Config,
    row: usize,
    column: usize,
}

impl Environment for CliffWalking {
    type Config = Config;
    type Options = NoOptions;
    type ObservationSpace = Discrete;
    type ActionSpace = Discrete;
    type InfoSpace = ChanceSpace;

    const NAME: &'static str = "cliffwalking";
    const SUMMARY: &'static str = "Walk along a cliff without falling off (Gymnasium's CliffWalking-v1)";
    const RENDER_MODES: &'static [RenderMode] = &[RenderMode::RgbArray, RenderMode::Ansi];
    const RENDER_FPS: u32 = 4;

    fn create(config: Config) -> Result<Self, CreateError> {
        Ok(Self { config, row: 0, column: 0 })
    }

    fn spec(&self) -> Spec<Self> {
        Spec::with_info(Discrete::new(number((ROWS, 0))), Discrete::new(ACTIONS), ChanceSpace::default())
    }

    fn reset(&mut self, rng: &mut NumpyRng, _options: NoOptions) -> Result<View<Self>, EnvError> {
        // There is one start, but a number is drawn all the same, as in Gymnasium.
        rng.categorical(&[1.0]);
        (self.row, self.column) = START;
        Ok(View::new(self.observation()).info(Chance::of(1.0)))
    }

    fn step(&mut self, rng: &mut NumpyRng, action: i64) -> Result<Step<Self>, EnvError> {
        let slips = self.config.is_slippery.then_some([1.0 / 3.0; 3]);
        let (direction, prob) = slip(rng, action, ACTIONS, slips);
        let (row, column) = (self.row, self.column);
        let place = match direction {
            UP => (row.saturating_sub(1), column),
            RIGHT => (row, (column + 1).min(COLUMNS - 1)),
            DOWN => ((row + 1).min(ROWS - 1), column),
            _ => (row, column.saturating_sub(1)),
        };
        let fallen = is_cliff(place);
        (self.row, self.column) = if fallen { START } else { place };
        let step = Step::new(self.observation(), if fallen { -100.0 } else { -1.0 });
        Ok(step.terminated(place == GOAL).info(Chance::of(prob)))
    }

    /// Draws as text what Gymnasium prints; as a picture of 768 by 256 pixels the grass, the cliff, start, goal and
    /// walker.
    fn render(&self, mode: RenderMode) -> Result<Frame, EnvError> {
        Ok(if mode == RenderMode::Ansi { Frame::Text(self.text()) } else { self.picture() })
    }
}

impl CliffWalking {
    fn observation(&self) -> i64 {
        number((self.row, self.column))
    }

    fn text(&self) -> String {
        let letter = |place| match place {
            _ if place == (self.row, self.column) => "x",
            GOAL => "T",
            _ if is_cliff(place) => "C",
            _ => "o",
        };
        let row = |row| (0..COLUMNS).map(|column| letter((row, column))).collect::<Vec<_>>().join("  ") + "\n";
        (0..ROWS).map(row).collect::<String>() + "\n"
    }

    fn picture(&self) -> Frame {
        const GRASS: Color = [198, 216, 156];
        const EDGES: Color = [176, 196, 132];
        const ROCK: [Color; 3] = [[170, 124, 78], [134, 94, 58], [92, 64, 44]];

        let mut board = Board::new((ROWS, COLUMNS), 64, GRASS, EDGES);
        for column in 1..COLUMNS - 1 {
            // The rock falls away in three shades.
            for (color, depth) in ROCK.into_iter().zip([0.0, 0.45, 0.8]) {
                let from = board.at((START.0, column), (0.0, depth));
                let size = (board.side(), board.side() * (1.0 - depth));
                board.canvas().rectangle(from, size, color);
            }
            let crack = [(0.3, 0.0), (0.42, 0.2), (0.34, 0.42)].map(|within| board.at((START.0, column), within));
            board.canvas().line(&crack, 2.0, ROCK[1]);
        }
        let edge = [(1, 0.0), (COLUMNS - 1, 0.0)].map(|(column, y)| board.at((START.0, column), (0.0, y)));
        board.canvas().line(&edge, 3.0, INK);
        board.letter(START, "S", INK);
        board.letter(GOAL, "G", INK);
        board.flag(GOAL);
        board.figure((self.row, self.column));
        board.into_frame()
    }
}

fn is_cliff((row, column): (usize, usize)) -> bool {
    row == START.0 && column > START.1 && column < GOAL.1
}

/// The number of a place, row by row.
fn number((row, column): (usize, usize)) -> i64 {
    i64::try_from(row * COLUMNS + column).expect("at most 48")
}

rollcage_sdk::export!(CliffWalking);

#[cfg(test)]
mod tests {
    use super::*;
    use rollcage_sdk::testing::Native;

    #[test]
    fn along_the_edge_to_the_goal() {
        let mut env = Native::<CliffWalking>::new("{}").expect("the defaults");
        assert_eq!(env.reset(Some(0), None).expect("a reset").observation, 36);
        let way = [UP].into_iter().chain([RIGHT; 11]).chain([DOWN]);
        let steps: Vec<_> = way.map(|action| env.step(action).expect("a step")).collect();
        assert!(steps.iter().all(|step| step.reward == -1.0));
        let last = steps.last().expect("thirteen steps");
        assert_eq!((steps.len(), last.observation, last.terminated), (13, 47, true));
    }

    #[test]
    fn a_fall_leads_back_to_the_start() {
        let mut env = Native::<CliffWalking>::new("{}").expect("the defaults");
        env.reset(Some(0), None).expect("a reset");
        let step = env.step(RIGHT).expect("a step");
        assert_eq!((step.observation, step.reward, step.terminated), (36, -100.0, false));
        assert_eq!(env.spec().max_episode_steps, None);
    }

    #[test]
    fn the_text_is_gymnasiums() {
        let mut env = Native::<CliffWalking>::new("{}").expect("the defaults");
        env.reset(Some(0), None).expect("a reset");
        let row = ["o"; 12].join("  ");
        let last = ["x", "C", "C", "C", "C", "C", "C", "C", "C", "C", "C", "T"].join("  ");
        let text = format!("{row}\n{row}\n{row}\n{last}\n\n");
        assert_eq!(env.render(RenderMode::Ansi), Ok(Frame::Text(text)));
    }

    #[test]
    fn the_picture_has_somebody_at_the_start() {
        let mut env = Native::<CliffWalking>::new("{}").expect("the defaults");
        env.reset(Some(0), None).expect("a reset");
        let Ok(Frame::Rgb(image)) = env.render(RenderMode::RgbArray) else { panic!("no picture") };
        assert_eq!((image.width, image.height), (768, 256));
        let pixel = |x: usize, y: usize| &image.pixels[(y * 768 + x) * 3..][..3];
        assert_eq!(pixel(32, 192 + 22), [238, 205, 176], "a face");
        assert_eq!(pixel(32, 22), [198, 216, 156], "grass");
    }
}
