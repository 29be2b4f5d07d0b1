//! FrozenLake: cross a frozen lake from start to goal, around the holes, on ice that carries you where it likes.
//!
//! Gymnasium's `FrozenLake-v1`, slip for slip; with `map_name = "8x8"` its `FrozenLake8x8-v1`.
//!
//! | action |       |   | observation                          | ends the episode |
//! |--------|-------|---|--------------------------------------|------------------|
//! | 0      | left  |   | `row * columns + column` (Discrete)  | at a hole or goal |
//! | 1      | down  |   |                                      |                  |
//! | 2      | right |   | info: `prob`, the probability of the |                  |
//! | 3      | up    |   | transition that was taken            |                  |

use rollcage_sdk::draw::Color;
use rollcage_sdk::prelude::*;
use rollcage_sdk::toy_text::{Board, Chance, ChanceSpace, INK, colored, slip};

const LEFT: i64 = 0;
const DOWN: i64 = 1;
const RIGHT: i64 = 2;
const UP: i64 = 3;
const ACTIONS: i64 = 4;

const MAP_4X4: [&str; 4] = ["SFFF", "FHFH", "FFFH", "HFFG"];
#[rustfmt::skip]
const MAP_8X8: [&str; 8] = [
    "SFFFFFFF",
    "FFFFFFFF",
    "FFFHFFFF",
    "FFFFFHFF",
    "FFFHFFFF",
    "FHHFFFHF",
    "FHFFHFHF",
    "FFFHFFFG",
];

rollcage_sdk::config! {
    /// What can be configured.
    pub struct Config {
        /// A map that comes with the env; `8x8` has 200 steps instead of 100. Without effect if `desc` is given.
        pub map_name: Option<MapName> = Some(MapName::Small),
        /// A map of your own, a text per row: S start, F frozen, H hole, G goal.
        pub desc: Option<Vec<String>> = None,
        /// Whether the ice may carry you to either side of where you meant to go.
        pub is_slippery: bool = true,
        /// On slippery ice, the probability of going where you meant to; the rest is shared by the two sides.
        #[schemars(range(min = 0.0, max = 1.0))]
        pub success_rate: f64 = 1.0 / 3.0,
        /// The rewards for reaching the goal, a hole, and ice.
        pub reward_schedule: [f64; 3] = [1.0, 0.0, 0.0],
    }
}

rollcage_sdk::choices! {
    /// A map that comes with the env.
    pub enum MapName {
        /// Four tiles a side.
        Small = "4x4",
        /// Eight tiles a side.
        Large = "8x8",
    }
}

/// The env.
#[derive(Clone, Debug)]
pub struct FrozenLake {
    config: Config,
    map: Map,
    max_episode_steps: u32,
    reward_threshold: f64,
    /// The probability of each tile that an episode begins there.
    start: Vec<f64>,
    row: usize,
    column: usize,
    last_action: Option<i64>,
}

impl Environment for FrozenLake {
    type Config = Config;
    type Options = NoOptions;
    type ObservationSpace = Discrete;
    type ActionSpace = Discrete;
    type InfoSpace = ChanceSpace;

    const NAME: &'static str = "frozenlake";
    const SUMMARY: &'static str = "Cross a frozen lake without falling into a hole (Gymnasium's FrozenLake-v1)";
    const RENDER_MODES: &'static [RenderMode] = &[RenderMode::RgbArray, RenderMode::Ansi];
    const RENDER_FPS: u32 = 4;

    fn create(config: Config) -> Result<Self, CreateError> {
        // The limits are the registry's: those of FrozenLake8x8-v1 for its map, else those of FrozenLake-v1.
        let (map, max_episode_steps, reward_threshold) = match (&config.desc, config.map_name) {
            (Some(desc), _) => (Map::parse(desc)?, 100, 0.70),
            (None, Some(MapName::Small)) => (Map::parse(&MAP_4X4)?, 100, 0.70),
            (None, Some(MapName::Large)) => (Map::parse(&MAP_8X8)?, 200, 0.85),
            (None, None) => {
                let message = "give `map_name` or `desc`: a map drawn at random would be another in every env";
                return Err(CreateError::config("map_name", message));
            }
        };
        let starts = map.tiles.iter().map(|&tile| f64::from(u8::from(tile == b'S')));
        let count: f64 = starts.clone().sum();
        let start = starts.map(|is_start| is_start / count).collect();
        Ok(Self { config, map, max_episode_steps, reward_threshold, start, row: 0, column: 0, last_action: None })
    }

    fn spec(&self) -> Spec<Self> {
        let tiles = Discrete::new(i64::try_from(self.map.tiles.len()).expect("a map that fits memory"));
        Spec::with_info(tiles, Discrete::new(ACTIONS), ChanceSpace::default())
            .max_episode_steps(self.max_episode_steps)
            .reward_threshold(self.reward_threshold)
    }

    fn reset(&mut self, rng: &mut NumpyRng, _options: NoOptions) -> Result<View<Self>, EnvError> {
        let tile = rng.categorical(&self.start);
        (self.row, self.column) = (tile / self.map.columns, tile % self.map.columns);
        self.last_action = None;
        Ok(View::new(self.observation()).info(Chance::of(1.0)))
    }

    fn step(&mut self, rng: &mut NumpyRng, action: i64) -> Result<Step<Self>, EnvError> {
        let success = self.config.success_rate;
        let aside = (1.0 - success) / 2.0;
        let slips = self.config.is_slippery.then_some([aside, success, aside]);
        let (direction, prob) = slip(rng, action, ACTIONS, slips);
        (self.row, self.column) = self.map.neighbour(self.row, self.column, direction);
        self.last_action = Some(action);

        let [goal, hole, ice] = self.config.reward_schedule;
        let (reward, terminated) = match self.map.tile(self.row, self.column) {
            b'G' => (goal, true),
            b'H' => (hole, true),
            _ => (ice, false),
        };
        Ok(Step::new(self.observation(), reward).terminated(terminated).info(Chance::of(prob)))
    }

    /// Draws as text what Gymnasium prints; as a picture of 64 pixels a tile (fewer for large maps) the ice, holes,
    /// start, goal and walker.
    fn render(&self, mode: RenderMode) -> Result<Frame, EnvError> {
        Ok(if mode == RenderMode::Ansi { Frame::Text(self.text()) } else { self.picture() })
    }
}

impl FrozenLake {
    fn observation(&self) -> i64 {
        i64::try_from(self.row * self.map.columns + self.column).expect("a map that fits memory")
    }

    fn text(&self) -> String {
        const RED_GROUND: &str = "41";
        const ACTION_NAMES: [&str; 4] = ["Left", "Down", "Right", "Up"];

        let mut text = match self.last_action.and_then(|action| usize::try_from(action).ok()) {
            Some(action) => format!("  ({})\n", ACTION_NAMES[action]),
            None => "\n".to_owned(),
        };
        for (row, tiles) in self.map.tiles.chunks(self.map.columns).enumerate() {
            for (column, &tile) in tiles.iter().enumerate() {
                let tile = char::from(tile);
                match (row, column) == (self.row, self.column) {
                    true => text.push_str(&colored(tile.encode_utf8(&mut [0; 4]), RED_GROUND)),
                    false => text.push(tile),
                }
            }
            text.push('\n');
        }
        text
    }

    fn picture(&self) -> Frame {
        const ICE: Color = [201, 224, 243];
        const EDGES: Color = [174, 202, 230];
        const WATER: Color = [84, 132, 188];
        const WAVES: Color = [124, 168, 214];

        let rows = self.map.tiles.len() / self.map.columns;
        let mut board = Board::new((rows, self.map.columns), 64, ICE, EDGES);
        for place in (0..rows).flat_map(|row| (0..self.map.columns).map(move |column| (row, column))) {
            match self.map.tile(place.0, place.1) {
                b'H' => {
                    board.tile(place, 0.12, WATER);
                    for (x, y) in [(0.25, 0.4), (0.5, 0.68)] {
                        let wave = [(x, y), (x + 0.22, y)].map(|within| board.at(place, within));
                        board.canvas().line(&wave, 3.0, WAVES);
                    }
                }
                b'S' => board.letter(place, "S", INK),
                b'G' => {
                    board.letter(place, "G", INK);
                    board.flag(place);
                }
                _ => {}
            }
        }
        board.figure((self.row, self.column));
        board.into_frame()
    }
}

/// The lake, row by row.
#[derive(Clone, Debug)]
struct Map {
    columns: usize,
    tiles: Vec<u8>,
}

impl Map {
    fn parse(rows: &[impl AsRef<str>]) -> Result<Self, CreateError> {
        let columns = rows.first().map_or(0, |row| row.as_ref().len());
        if columns == 0 {
            return Err(CreateError::config("desc", "a map has at least one tile"));
        }
        let mut tiles = Vec::new();
        for (index, row) in rows.iter().map(AsRef::as_ref).enumerate() {
            let refused = |message| Err(CreateError::config(format!("desc.{index}"), message));
            if let Some(letter) = row.chars().find(|letter| !"SFHG".contains(*letter)) {
                return refused(format!("expected the letters S, F, H and G, got {letter:?}"));
            }
            if row.len() != columns {
                return refused(format!("expected {columns} tiles, as in the first row, got {}", row.len()));
            }
            tiles.extend_from_slice(row.as_bytes());
        }
        match tiles.contains(&b'S') {
            true => Ok(Self { columns, tiles }),
            false => Err(CreateError::config("desc", "a map has at least one start, S")),
        }
    }

    fn tile(&self, row: usize, column: usize) -> u8 {
        self.tiles[row * self.columns + column]
    }

    /// The next tile in a direction, or the same tile at the shore.
    fn neighbour(&self, row: usize, column: usize, direction: i64) -> (usize, usize) {
        let rows = self.tiles.len() / self.columns;
        match direction {
            LEFT => (row, column.saturating_sub(1)),
            DOWN => ((row + 1).min(rows - 1), column),
            RIGHT => (row, (column + 1).min(self.columns - 1)),
            UP => (row.saturating_sub(1), column),
            _ => unreachable!("an action was checked to be one of four"),
        }
    }
}

rollcage_sdk::export!(FrozenLake);

#[cfg(test)]
mod tests {
    use super::*;
    use rollcage_sdk::testing::Native;

    fn refusal(config: &str) -> (String, String) {
        let Err(CreateError::Config(errors)) = Native::<FrozenLake>::new(config) else { panic!("{config}: accepted") };
        (errors[0].path.clone(), errors[0].message.clone())
    }

    #[test]
    fn bad_maps_are_refused_by_name() {
        for (config, path, message) in [
            (
                r#"{"map_name": null}"#,
                "map_name",
                "give `map_name` or `desc`: a map drawn at random would be another in every env",
            ),
            (r#"{"desc": []}"#, "desc", "a map has at least one tile"),
            (r#"{"desc": [""]}"#, "desc", "a map has at least one tile"),
            (r#"{"desc": ["FG"]}"#, "desc", "a map has at least one start, S"),
            (r#"{"desc": ["SF", "FFG"]}"#, "desc.1", "expected 2 tiles, as in the first row, got 3"),
            (r#"{"desc": ["SF", "FX"]}"#, "desc.1", "expected the letters S, F, H and G, got 'X'"),
            (r#"{"desc": ["SF", "é"]}"#, "desc.1", "expected the letters S, F, H and G, got 'é'"),
        ] {
            assert_eq!(refusal(config), (path.to_owned(), message.to_owned()), "{config}");
        }
    }

    #[test]
    fn limits_are_the_registrys() {
        for (config, tiles, steps, threshold) in [
            ("{}", 16, 100, 0.70),
            (r#"{"map_name": "8x8"}"#, 64, 200, 0.85),
            (r#"{"map_name": "8x8", "desc": ["SFG"]}"#, 3, 100, 0.70),
            (r#"{"map_name": null, "desc": ["SFG"]}"#, 3, 100, 0.70),
        ] {
            let env = Native::<FrozenLake>::new(config).expect(config);
            let spec = env.spec();
            assert_eq!(env.env().map.tiles.len(), tiles, "{config}");
            assert_eq!((spec.max_episode_steps, spec.reward_threshold), (Some(steps), Some(threshold)), "{config}");
        }
    }

    #[test]
    fn firm_ice_carries_to_the_goal() {
        let mut env = Native::<FrozenLake>::new(r#"{"is_slippery": false}"#).expect("a config");
        env.reset(Some(0), None).expect("a reset");
        let way = [DOWN, DOWN, RIGHT, RIGHT, DOWN, RIGHT];
        let steps: Vec<_> = way.map(|action| env.step(action).expect("a step")).into();
        let seen: Vec<_> = steps.iter().map(|step| step.observation).collect();
        assert_eq!(seen, [4, 8, 9, 10, 14, 15]);
        let last = steps.last().expect("six steps");
        assert_eq!((last.reward, last.terminated, last.info.prob), (1.0, true, Some(1.0)));
        assert_eq!(env.step(LEFT).map(|step| step.reward), Err(EnvError::NeedsReset));
    }

    #[test]
    fn the_text_is_gymnasiums() {
        let mut env = Native::<FrozenLake>::new(r#"{"is_slippery": false}"#).expect("a config");
        env.reset(Some(0), None).expect("a reset");
        let text = |env: &Native<FrozenLake>| match env.render(RenderMode::Ansi) {
            Ok(Frame::Text(text)) => text,
            other => panic!("{other:?}"),
        };
        assert_eq!(text(&env), "\n\x1b[41mS\x1b[0mFFF\nFHFH\nFFFH\nHFFG\n");
        env.step(RIGHT).expect("a step");
        assert_eq!(text(&env), "  (Right)\nS\x1b[41mF\x1b[0mFF\nFHFH\nFFFH\nHFFG\n");
    }

    #[test]
    fn the_picture_has_holes_and_somebody() {
        let mut env = Native::<FrozenLake>::new("{}").expect("the defaults");
        env.reset(Some(0), None).expect("a reset");
        let Ok(Frame::Rgb(image)) = env.render(RenderMode::RgbArray) else { panic!("no picture") };
        assert_eq!((image.width, image.height), (256, 256));
        let pixel = |x: usize, y: usize| &image.pixels[(y * 256 + x) * 3..][..3];
        assert_eq!(pixel(32, 22), [238, 205, 176], "a face at the start");
        assert_eq!((pixel(96, 76), pixel(160, 32)), (&[84, 132, 188][..], &[201, 224, 243][..]), "water, ice");
    }

    #[test]
    fn the_schema_names_maps_ranges_and_defaults() {
        let schema = Native::<FrozenLake>::config_schema();
        assert_eq!(schema["additionalProperties"], false);
        let property = |name: &str| schema["properties"][name].clone();
        assert_eq!(property("map_name")["default"], "4x4");
        assert_eq!(property("success_rate")["maximum"], 1.0);
        assert_eq!(property("reward_schedule")["default"], rollcage_sdk::serde_json::json!([1.0, 0.0, 0.0]));
        assert!(property("desc")["description"].as_str().expect("a doc").starts_with("A map of your own"));
        assert!(!schema.to_string().contains("$ref"), "{schema:#}");
    }
}
