//! Taxi: fetch a passenger at one of four places and bring them to another.
//!
//! Gymnasium's `Taxi-v4`, draw for draw.
//!
//! | action |            |   | observation (Discrete 500)                            | reward                       |
//! |--------|------------|---|-------------------------------------------------------|------------------------------|
//! | 0      | south      |   | `((row * 5 + column) * 5 + passenger) * 4 + goal`     | -1 a step                    |
//! | 1      | north      |   | passenger, goal: 0 red, 1 green, 2 yellow, 3 blue     | 20 for bringing them         |
//! | 2      | east       |   | passenger: 4 in the taxi                              | -10 for a pick-up or         |
//! | 3      | west       |   | info: `prob`, the probability of the transition       | drop-off where there is none |
//! | 4      | pick up    |   | action mask: what changes anything; the rest is taken |                              |
//! | 5      | drop off   |   | all the same                                          |                              |

use rollcage_sdk::draw::{Color, corners, turned};
use rollcage_sdk::prelude::*;
use rollcage_sdk::toy_text::{Board, Chance, ChanceSpace, INK, colored, slip};

const SOUTH: i64 = 0;
const NORTH: i64 = 1;
const EAST: i64 = 2;
const WEST: i64 = 3;
const PICK_UP: i64 = 4;
const DROP_OFF: i64 = 5;
const ACTIONS: i64 = 6;

/// The map: `|` is a wall, `:` is open.
const MAP: [&str; 7] =
    ["+---------+", "|R: | : :G|", "| : | : : |", "| : : : : |", "| | : | : |", "|Y| : |B: |", "+---------+"];
const ROWS: usize = 5;
const COLUMNS: usize = 5;
/// The places red, green, yellow and blue, by row and column.
const PLACES: [(usize, usize); 4] = [(0, 0), (0, 4), (4, 0), (4, 3)];
/// The passenger's place while in the taxi.
const IN_TAXI: usize = 4;

rollcage_sdk::config! {
    /// What can be configured.
    pub struct Config {
        /// Whether rain may carry the taxi to either side of where it means to go.
        pub is_rainy: bool = false,
        /// Whether the passenger may want to go elsewhere once the taxi has moved with them.
        pub fickle_passenger: bool = false,
        /// In rain, the probability of going where the taxi means to; the rest is shared by the two sides.
        #[schemars(range(min = 0.0, max = 1.0))]
        pub rainy_probability: f64 = 0.8,
        /// The probability that a fickle passenger changes their mind, once in an episode.
        #[schemars(range(min = 0.0, max = 1.0))]
        pub fickle_probability: f64 = 0.3,
    }
}

/// The env.
#[derive(Clone, Debug)]
pub struct Taxi {
    config: Config,
    state: State,
    /// Whether the passenger will change their mind when the taxi next moves with them.
    fickle: bool,
    last_action: Option<i64>,
    /// The direction in which the taxi last drove, for the picture.
    heading: i64,
}

impl Environment for Taxi {
    type Config = Config;
    type Options = NoOptions;
    type ObservationSpace = Discrete;
    type ActionSpace = Discrete;
    type InfoSpace = ChanceSpace;

    const NAME: &'static str = "taxi";
    const SUMMARY: &'static str = "Fetch a passenger and bring them where they want to go (Gymnasium's Taxi-v4)";
    const RENDER_MODES: &'static [RenderMode] = &[RenderMode::RgbArray, RenderMode::Ansi];
    const RENDER_FPS: u32 = 4;

    fn create(config: Config) -> Result<Self, CreateError> {
        Ok(Self { config, state: State::default(), fickle: false, last_action: None, heading: SOUTH })
    }

    fn spec(&self) -> Spec<Self> {
        Spec::with_info(Discrete::new(State::COUNT), Discrete::new(ACTIONS), ChanceSpace::default())
            .advised()
            .max_episode_steps(200)
            .reward_threshold(8.0)
    }

    fn reset(&mut self, rng: &mut NumpyRng, _options: NoOptions) -> Result<View<Self>, EnvError> {
        let states = || (0..State::COUNT).map(State::of);
        let starts = states().filter(|state| state.is_start()).map(|_| 1.0).sum::<f64>();
        let weights: Vec<f64> = states().map(|state| if state.is_start() { 1.0 / starts } else { 0.0 }).collect();
        self.state = State::of(i64::try_from(rng.categorical(&weights)).expect("one of 500"));
        self.fickle = self.config.fickle_passenger && rng.random() < self.config.fickle_probability;
        (self.last_action, self.heading) = (None, SOUTH);
        Ok(View::new(self.state.number()).info(Chance::of(1.0)))
    }

    fn step(&mut self, rng: &mut NumpyRng, action: i64) -> Result<Step<Self>, EnvError> {
        let before = self.state;
        let (state, prob, reward, terminated) = match action {
            PICK_UP => before.pick_up(rng),
            DROP_OFF => before.drop_off(rng),
            _ => self.drive(rng, action),
        };
        self.state = state;
        let moved = (state.row, state.column) != (before.row, before.column);
        if self.fickle && before.passenger == IN_TAXI && moved {
            self.fickle = false;
            let others: Vec<usize> = (0..PLACES.len()).filter(|&place| place != before.goal).collect();
            self.state.goal = others[rng.choice(others.len())];
        }
        self.last_action = Some(action);
        if action < PICK_UP {
            self.heading = action;
        }
        let info = Chance::of(prob);
        Ok(Step::new(self.state.number(), reward).terminated(terminated).info(info))
    }

    fn action_mask(&self) -> Vec<bool> {
        let State { passenger, .. } = self.state;
        let place = self.state.place();
        (0..ACTIONS)
            .map(|action| match action {
                PICK_UP => passenger != IN_TAXI && place == Some(passenger),
                DROP_OFF => passenger == IN_TAXI && place.is_some(),
                _ => self.state.neighbour(action) != (self.state.row, self.state.column),
            })
            .collect()
    }

    /// Draws as text what Gymnasium prints; as a picture of 440 by 440 pixels the roads, walls, places, passenger, goal
    /// and taxi.
    fn render(&self, mode: RenderMode) -> Result<Frame, EnvError> {
        Ok(if mode == RenderMode::Ansi { Frame::Text(self.text()) } else { self.picture() })
    }
}

impl Taxi {
    /// Takes one step on the road. Rain may turn it aside where the road is open.
    fn drive(&self, rng: &mut NumpyRng, action: i64) -> (State, f64, f64, bool) {
        let state = self.state;
        let (direction, prob) = if self.config.is_rainy {
            let (straight, aside) = (self.config.rainy_probability, (1.0 - self.config.rainy_probability) / 2.0);
            let blocked = state.neighbour(action) == (state.row, state.column);
            let [left, right] = match action {
                SOUTH => [EAST, WEST],
                NORTH => [WEST, EAST],
                EAST => [NORTH, SOUTH],
                _ => [SOUTH, NORTH],
            };
            let ways = [(action, straight), (left, aside), (right, aside)];
            let (direction, prob) = ways[rng.categorical(&ways.map(|(_, prob)| prob))];
            // Who stands before a wall is not carried aside either.
            (if blocked { action } else { direction }, prob)
        } else {
            slip(rng, action, ACTIONS, None)
        };
        let (row, column) = state.neighbour(direction);
        (State { row, column, ..state }, prob, -1.0, false)
    }

    fn text(&self) -> String {
        const NAMES: [&str; 6] = ["South", "North", "East", "West", "Pickup", "Dropoff"];

        let mut map: Vec<Vec<String>> = MAP.iter().map(|row| row.chars().map(String::from).collect()).collect();
        let mut color = |(row, column): (usize, usize), codes: &str, empty: &str| {
            let cell = &mut map[1 + row][2 * column + 1];
            *cell = colored(if cell == " " { empty } else { cell }, codes);
        };
        let taxi = (self.state.row, self.state.column);
        match PLACES.get(self.state.passenger) {
            Some(&waiting) => {
                color(taxi, "43", " ");
                color(waiting, "34;1", " ");
            }
            None => color(taxi, "42", "_"),
        }
        color(PLACES[self.state.goal], "35", " ");
        let mut text = map.iter().map(|row| row.concat() + "\n").collect::<String>();
        match self.last_action.and_then(|action| usize::try_from(action).ok()) {
            Some(action) => text.push_str(&format!("  ({})\n", NAMES[action])),
            None => text.push('\n'),
        }
        text
    }

    fn picture(&self) -> Frame {
        const COLORS: [Color; 4] = [[205, 96, 90], [148, 184, 102], [232, 196, 84], [112, 146, 204]];

        let mut board = Board::new((ROWS, COLUMNS), 88, [232, 231, 226], [212, 209, 202]);
        for ((place, letter), color) in PLACES.into_iter().zip(["R", "G", "Y", "B"]).zip(COLORS) {
            board.tile(place, 0.06, color);
            board.letter(place, letter, [255; 3]);
        }
        for row in 0..ROWS {
            for column in 0..COLUMNS - 1 {
                if !is_open(row, 2 * column + 2) {
                    let [from, to] = [(1.0, 0.0), (1.0, 1.0)].map(|within| board.at((row, column), within));
                    board.canvas().line(&[from, to], 7.0, INK);
                }
            }
        }
        let goal = PLACES[self.state.goal];
        let frame = [(0.06, 0.06), (0.94, 0.06), (0.94, 0.94), (0.06, 0.94), (0.06, 0.06)];
        let frame = frame.map(|within| board.at(goal, within));
        board.canvas().line(&frame, 5.0, INK);
        board.flag(goal);
        if let Some(&waiting) = PLACES.get(self.state.passenger) {
            board.figure(waiting);
        }
        self.draw_car(&mut board);
        board.into_frame()
    }

    /// Draws the car from above, its front in its direction. The lamp on its roof is green while somebody is in it.
    fn draw_car(&self, board: &mut Board) {
        const BODY: Color = [244, 190, 66];
        const GLASS: Color = [176, 214, 230];

        let angle = std::f64::consts::FRAC_PI_2
            * match self.heading {
                EAST => 0.0,
                SOUTH => 1.0,
                WEST => 2.0,
                _ => 3.0,
            };
        let (middle, side) = (board.at((self.state.row, self.state.column), (0.5, 0.5)), board.side());
        let mut part = |from: (f64, f64), to: (f64, f64), color: Color| {
            let corners = corners(from.0, from.1, to.0, to.1).map(|(x, y)| (x * side, y * side));
            board.canvas().polygon(&turned(corners, angle, middle), color);
        };
        for (x, y) in [(-0.24, -0.23), (-0.24, 0.17), (0.12, -0.23), (0.12, 0.17)] {
            part((x, y), (x + 0.13, y + 0.06), INK);
        }
        part((-0.36, -0.2), (0.36, 0.2), BODY);
        part((0.08, -0.16), (0.2, 0.16), GLASS);
        part((-0.27, -0.15), (-0.19, 0.15), GLASS);
        part((0.32, -0.17), (0.36, -0.08), [255, 250, 220]);
        part((0.32, 0.08), (0.36, 0.17), [255, 250, 220]);
        let lamp = if self.state.passenger == IN_TAXI { [92, 176, 96] } else { INK };
        part((-0.1, -0.08), (0.0, 0.08), lamp);
    }
}

/// The state: the places of taxi, passenger and goal.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct State {
    row: usize,
    column: usize,
    /// The number of a place, or [`IN_TAXI`].
    passenger: usize,
    /// The number of a place.
    goal: usize,
}

impl State {
    const COUNT: i64 = 500;

    fn number(self) -> i64 {
        let number =
            ((self.row * COLUMNS + self.column) * (PLACES.len() + 1) + self.passenger) * PLACES.len() + self.goal;
        i64::try_from(number).expect("below 500")
    }

    fn of(number: i64) -> Self {
        let number = usize::try_from(number).expect("from 0 to 499");
        let (rest, goal) = (number / PLACES.len(), number % PLACES.len());
        let (rest, passenger) = (rest / (PLACES.len() + 1), rest % (PLACES.len() + 1));
        Self { row: rest / COLUMNS, column: rest % COLUMNS, passenger, goal }
    }

    fn is_start(self) -> bool {
        self.passenger != IN_TAXI && self.passenger != self.goal
    }

    /// The number of the place at which the taxi is.
    fn place(self) -> Option<usize> {
        PLACES.iter().position(|&place| place == (self.row, self.column))
    }

    /// The next field in a direction; the same field, if there is a wall.
    fn neighbour(self, direction: i64) -> (usize, usize) {
        let State { row, column, .. } = self;
        match direction {
            SOUTH => ((row + 1).min(ROWS - 1), column),
            NORTH => (row.saturating_sub(1), column),
            EAST if is_open(row, 2 * column + 2) => (row, column + 1),
            WEST if is_open(row, 2 * column) => (row, column - 1),
            _ => (row, column),
        }
    }

    fn pick_up(self, rng: &mut NumpyRng) -> (Self, f64, f64, bool) {
        rng.categorical(&[1.0]);
        match self.place() {
            Some(place) if place == self.passenger => (Self { passenger: IN_TAXI, ..self }, 1.0, -1.0, false),
            _ => (self, 1.0, -10.0, false),
        }
    }

    fn drop_off(self, rng: &mut NumpyRng) -> (Self, f64, f64, bool) {
        rng.categorical(&[1.0]);
        match self.place() {
            Some(place) if self.passenger == IN_TAXI => {
                let there = place == self.goal;
                (Self { passenger: place, ..self }, 1.0, if there { 20.0 } else { -1.0 }, there)
            }
            _ => (self, 1.0, -10.0, false),
        }
    }
}

/// Whether a row of the map has no wall at a column of its text.
fn is_open(row: usize, at: usize) -> bool {
    MAP[1 + row].as_bytes()[at] == b':'
}

rollcage_sdk::export!(Taxi);

#[cfg(test)]
mod tests {
    use super::*;
    use rollcage_sdk::testing::Native;

    fn at(row: usize, column: usize, passenger: usize, goal: usize) -> Taxi {
        let mut taxi = Taxi::create(Config::default()).expect("the defaults");
        taxi.state = State { row, column, passenger, goal };
        taxi
    }

    #[test]
    fn numbers_are_states() {
        assert!((0..State::COUNT).all(|number| State::of(number).number() == number));
        // The example of Gymnasium's documentation: row 3, column 1, passenger at 2, goal 0.
        assert_eq!(State { row: 3, column: 1, passenger: 2, goal: 0 }.number(), 328);
        assert_eq!((0..State::COUNT).filter(|&number| State::of(number).is_start()).count(), 300);
    }

    #[test]
    fn a_ride_pays_twenty() {
        let mut taxi = at(4, 0, 2, 0);
        let mut rng = NumpyRng::new(0);
        let rewards: Vec<_> = [DROP_OFF, PICK_UP, NORTH, NORTH, NORTH, NORTH, DROP_OFF]
            .map(|action| taxi.step(&mut rng, action).map(|step| (step.reward, step.terminated)).expect("a step"))
            .into();
        let way = (-1.0, false);
        assert_eq!(rewards, [(-10.0, false), way, way, way, way, way, (20.0, true)]);
    }

    #[test]
    fn the_mask_names_what_changes_something() {
        let mask = |taxi: Taxi| taxi.action_mask();
        assert_eq!(mask(at(0, 0, 0, 1)), [true, false, true, false, true, false]);
        assert_eq!(mask(at(4, 0, 4, 1)), [false, true, false, false, false, true]);
        assert_eq!(mask(at(2, 2, 1, 0)), [true, true, true, true, false, false]);
        // What it leaves out is taken all the same.
        let mut env = Native::<Taxi>::new("{}").expect("the defaults");
        env.reset(Some(0), None).expect("a reset");
        let useless = env.action_mask().iter().rposition(|open| !open).expect("a useless action");
        assert!(env.step(i64::try_from(useless).expect("few")).is_ok());
    }

    #[test]
    fn rain_carries_nobody_through_walls() {
        let config = r#"{"is_rainy": true, "rainy_probability": 0.0}"#;
        let mut env = Native::<Taxi>::new(config).expect("a config");
        env.reset(Some(1), None).expect("a reset");
        for step in 0..2000 {
            let before = env.env().state;
            let info = env.step(step % 4).expect("a step").info;
            let after = env.env().state;
            let beside = (SOUTH..=WEST).any(|way| before.neighbour(way) == (after.row, after.column));
            assert!(beside || before == after, "{before:?} {after:?}");
            assert_eq!(info.prob, Some(0.5));
        }
        assert!(Native::<Taxi>::new(r#"{"rainy_probability": "wet"}"#).is_err());
    }

    #[test]
    fn the_picture_has_a_taxi() {
        let mut env = Native::<Taxi>::new("{}").expect("the defaults");
        env.reset(Some(1), None).expect("a reset");
        let State { row, column, .. } = env.env().state;
        let Ok(Frame::Rgb(image)) = env.render(RenderMode::RgbArray) else { panic!("no picture") };
        assert_eq!((image.width, image.height), (440, 440));
        // Behind the windscreen, whichever way it faces.
        let (x, y) = (column * 88 + 44, row * 88 + 44);
        let body = [244, 190, 66];
        let near = [(15, 0), (0, 8), (3, 15), (0, 20)];
        assert!(near.iter().any(|(dx, dy)| image.pixels[((y + dy) * 440 + x + dx) * 3..][..3] == body));
    }
}
