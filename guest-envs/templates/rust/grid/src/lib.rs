//! A maze from a file: find the key, then the door. Moves that lead into a wall are masked.

use rollcage_sdk::assets;
use rollcage_sdk::draw::Color;
use rollcage_sdk::prelude::*;
use rollcage_sdk::toy_text::Board;

/// The level. It travels inside the plugin: `assets` in Cargo.toml names it.
const LEVEL: &str = "levels/first.txt";

/// Up, right, down, left: rows and columns.
const MOVES: [[isize; 2]; 4] = [[-1, 0], [0, 1], [1, 0], [0, -1]];

/// A row and a column.
type Place = [usize; 2];

rollcage_sdk::config! {
    /// What can be configured.
    pub struct Config {
        /// How many cells the agent sees in every direction.
        #[schemars(range(min = 1, max = 9))]
        pub fog: u8 = 2,
        /// Probability that a move is another open one.
        #[schemars(range(min = 0.0, max = 1.0))]
        pub slip: f64 = 0.05,
    }
}

rollcage_sdk::dict! {
    /// What the agent sees.
    pub struct Sight in SightSpace {
        /// The cells around the agent, row by row: 0 wall, 1 floor, 2 key, 3 door.
        view: BoxSpace<Vec<u8>>,
        /// The agent's row and column.
        place: MultiDiscrete<[i64; 2]>,
        /// 1 once the key is found.
        has_key: Discrete,
    }
}

rollcage_sdk::info! {
    /// What a step tells beside the observation.
    pub struct Hint in HintSpace {
        /// Rows and columns to the key, and then to the door.
        distance: BoxSpace<i64>,
    }
}

/// The env.
pub struct MyEnv {
    config: Config,
    cells: Vec<Vec<char>>,
    /// The places where an episode may begin.
    starts: Vec<Place>,
    key: Place,
    door: Place,
    place: Place,
    has_key: bool,
}

impl Environment for MyEnv {
    type Config = Config;
    type Options = NoOptions;
    type ObservationSpace = SightSpace;
    type ActionSpace = Discrete;
    type InfoSpace = HintSpace;

    const NAME: &'static str = "my-env";
    const SUMMARY: &'static str = "@SUMMARY@";
    const RENDER_MODES: &'static [RenderMode] = &[RenderMode::RgbArray, RenderMode::Ansi];
    const RENDER_FPS: u32 = 8;

    fn create(config: Config) -> Result<Self, CreateError> {
        let text = assets::read_to_string(LEVEL)?;
        let cells: Vec<Vec<char>> = text.lines().map(|line| line.chars().collect()).collect();
        let (mut starts, mut key, mut door) = (Vec::new(), None, None);
        for (row, line) in cells.iter().enumerate() {
            for (column, cell) in line.iter().enumerate() {
                match cell {
                    '.' | 's' => starts.push([row, column]),
                    'k' => key = Some([row, column]),
                    'd' => door = Some([row, column]),
                    _ => {}
                }
            }
        }
        let wrong = |what: &str| CreateError::failed(format!("{LEVEL}: {what}"));
        let (Some(key), Some(door), Some(&place)) = (key, door, starts.first()) else {
            return Err(wrong("a level has floor (.), a key (k) and a door (d)"));
        };
        if cells.iter().any(|line| line.len() != cells[0].len()) {
            return Err(wrong("all lines of a level have the same length"));
        }
        Ok(Self {
            config,
            cells,
            starts,
            key,
            door,
            place,
            has_key: false,
        })
    }

    fn spec(&self) -> Spec<Self> {
        let (rows, columns) = (self.cells.len() as i64, self.cells[0].len() as i64);
        let side = 2 * u32::from(self.config.fog) + 1;
        let sight = SightSpace {
            view: BoxSpace::shaped(&[side, side], 0, 3),
            place: MultiDiscrete::new([rows, columns]),
            has_key: Discrete::new(2),
        };
        let distance = BoxSpace::all(0, 1000);
        // The mask is advice: a closed move is taken, and leads nowhere. `masked` makes it a rule.
        Spec::with_info(sight, Discrete::new(4), HintSpace { distance })
            .advised()
            .max_episode_steps(500)
    }

    fn reset(&mut self, rng: &mut NumpyRng, _options: NoOptions) -> Result<View<Self>, EnvError> {
        self.place = self.starts[rng.choice(self.starts.len())];
        self.has_key = false;
        Ok(View::new(self.sight()).info(self.hint()))
    }

    fn step(&mut self, rng: &mut NumpyRng, action: i64) -> Result<Step<Self>, EnvError> {
        let mut next = self.moved(MOVES[action as usize]);
        let mut open = MOVES.map(|by| self.moved(by)).to_vec();
        open.retain(|&place| self.at(place) != '#');
        if rng.random() < self.config.slip && !open.is_empty() {
            next = open[rng.choice(open.len())];
        }
        if open.contains(&next) {
            self.place = next;
        }
        let found = self.at(self.place) == 'k' && !self.has_key;
        self.has_key |= found;
        let done = self.at(self.place) == 'd' && self.has_key;
        let reward = if done {
            1.0
        } else if found {
            0.5
        } else {
            -0.01
        };
        let step = Step::new(self.sight(), reward).terminated(done);
        Ok(step.info(self.hint()))
    }

    fn action_mask(&self) -> Vec<bool> {
        let is_open = |by| self.at(self.moved(by)) != '#';
        MOVES.map(is_open).to_vec()
    }

    fn render(&self, mode: RenderMode) -> Result<Frame, EnvError> {
        let [row, column] = self.place;
        let mut shown = self.cells.clone();
        shown[row][column] = if self.has_key { 'A' } else { 'a' };
        if mode == RenderMode::Ansi {
            let lines: Vec<String> = shown.iter().map(|line| line.iter().collect()).collect();
            return Ok(Frame::Text(lines.join("\n")));
        }
        let size = (shown.len(), shown[0].len());
        let mut board = Board::new(size, 16, colour('.'), colour('.'));
        for (row, line) in shown.iter().enumerate() {
            for (column, &cell) in line.iter().enumerate() {
                board.tile((row, column), 0.0, colour(cell));
            }
        }
        Ok(board.into_frame())
    }
}

impl MyEnv {
    /// The cell at a place; outside the maze there is wall.
    fn at(&self, [row, column]: Place) -> char {
        let cell = self.cells.get(row).and_then(|line| line.get(column));
        cell.copied().unwrap_or('#')
    }

    /// The place so far from the agent's. Before 0 comes the greatest number: it is outside too.
    fn moved(&self, [down, right]: [isize; 2]) -> Place {
        let [row, column] = self.place;
        [
            row.wrapping_add_signed(down),
            column.wrapping_add_signed(right),
        ]
    }

    fn sight(&self) -> Sight {
        let mut view = Vec::new();
        let fog = isize::from(self.config.fog);
        for down in -fog..=fog {
            for right in -fog..=fog {
                view.push(match self.at(self.moved([down, right])) {
                    '#' => 0,
                    'k' => 2,
                    'd' => 3,
                    _ => 1,
                });
            }
        }
        let place = self.place.map(|number| number as i64);
        Sight {
            view,
            place,
            has_key: self.has_key.into(),
        }
    }

    fn hint(&self) -> Hint {
        let [row, column] = if self.has_key { self.door } else { self.key };
        let distance = row.abs_diff(self.place[0]) + column.abs_diff(self.place[1]);
        Hint {
            distance: Some(distance as i64),
        }
    }
}

/// The colour of a cell, and of the agent: `a` before it has the key, `A` with it.
fn colour(cell: char) -> Color {
    match cell {
        '#' => [60, 60, 60],
        'k' => [240, 200, 40],
        'd' => [150, 90, 40],
        'a' => [200, 50, 50],
        'A' => [40, 160, 60],
        _ => [230, 230, 230],
    }
}

rollcage_sdk::export!(MyEnv);
