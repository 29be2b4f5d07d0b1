//! Goal: every kind of space and every dtype in one observation, every kind of space in one action, declared info that is
//! there in one step and not in the next, undeclared info now and then, and masks on more than one leaf.
//! Method: the numbers follow from the number of steps, and the action comes back as a part of the observation.

use rollcage_sdk::prelude::*;
use rollcage_sdk::serde_json::json;
use schemars::JsonSchema;
use serde::Deserialize;

#[derive(Clone, Copy, Debug, Default, Deserialize, JsonSchema)]
#[serde(default)]
struct Config {
    /// Whether there is an action mask.
    masked: bool,
}

rollcage_sdk::dict! {
    /// One of each. The keys are not sorted: the order is the author's.
    #[derive(PartialEq)]
    struct Act in ActSpace {
        which: Discrete,
        levers: MultiDiscrete<[[i64; 2]; 2]>,
        bits: MultiBinary<[[bool; 3]; 2]>,
        say: Text as "say what",
        push: BoxSpace<[f32; 2]>,
        pair: (Discrete, BoxSpace<i8>),
    }
}

rollcage_sdk::dict! {
    /// One Box of each dtype.
    struct Numbers in NumbersSpace {
        boolean: BoxSpace<[bool; 3]>,
        int8: BoxSpace<[i8; 3]>,
        int16: BoxSpace<[i16; 3]>,
        int32: BoxSpace<[i32; 3]>,
        int64: BoxSpace<[i64; 3]>,
        uint8: BoxSpace<[u8; 3]>,
        uint16: BoxSpace<[u16; 3]>,
        uint32: BoxSpace<[u32; 3]>,
        uint64: BoxSpace<[u64; 3]>,
        float16: BoxSpace<[F16; 3]>,
        float32: BoxSpace<[f32; 3]>,
        float64: BoxSpace<[f64; 3]>,
    }
}

rollcage_sdk::dict! {
    struct Sight in SightSpace {
        act: ActSpace,
        numbers: NumbersSpace,
        image: BoxSpace<[[[u8; 3]; 4]; 2]>,
        scalar: BoxSpace<f64>,
        steps: Discrete,
        word: Text,
        mixed: (Text, (MultiBinary<[bool; 5]>, Discrete), BoxSpace<[i16; 1]>),
    }
}

rollcage_sdk::info! {
    struct Facts in FactsSpace {
        /// In every answer.
        always: BoxSpace<i64>,
        /// After every odd step.
        odd: Text as "odd one",
        /// Never.
        never: Discrete,
        /// After every third step.
        third: (Discrete, MultiBinary<[bool; 2]>),
    }
}

struct Spaces {
    masked: bool,
    steps: i64,
    act: Act,
}

impl Environment for Spaces {
    type Config = Config;
    type Options = NoOptions;
    type ObservationSpace = SightSpace;
    type ActionSpace = ActSpace;
    type InfoSpace = FactsSpace;

    const NAME: &'static str = "spaces";
    const SUMMARY: &'static str = "Every kind of space, and every action back";

    fn create(Config { masked }: Config) -> Result<Self, CreateError> {
        Ok(Self { masked, steps: 0, act: first_act() })
    }

    fn spec(&self) -> Spec<Self> {
        let numbers = NumbersSpace {
            boolean: BoxSpace::default(),
            int8: BoxSpace::default(),
            int16: BoxSpace::default(),
            int32: BoxSpace::default(),
            int64: BoxSpace::default(),
            uint8: BoxSpace::default(),
            uint16: BoxSpace::default(),
            uint32: BoxSpace::default(),
            uint64: BoxSpace::default(),
            float16: BoxSpace::default(),
            float32: BoxSpace::default(),
            float64: BoxSpace::default(),
        };
        let sight = SightSpace {
            act: act_space(),
            numbers,
            image: BoxSpace::all(0, 255),
            scalar: BoxSpace::new(-1.0, 1.0),
            steps: Discrete::new(1 << 40),
            word: Text::new(8).min_length(0).any_character(),
            mixed: (
                Text::new(3).charset("abc"),
                (MultiBinary::new(), Discrete::new(5).starting_at(-2)),
                BoxSpace::default(),
            ),
        };
        let facts = FactsSpace {
            always: BoxSpace::default(),
            odd: Text::new(12),
            never: Discrete::new(7).starting_at(3),
            third: (Discrete::new(3), MultiBinary::new()),
        };
        let spec = Spec::with_info(sight, act_space(), facts).max_episode_steps(50).reward_threshold(25.0);
        if self.masked { spec.masked() } else { spec }
    }

    fn reset(&mut self, _rng: &mut NumpyRng, _options: NoOptions) -> Result<View<Self>, EnvError> {
        self.steps = 0;
        self.act = first_act();
        Ok(View::new(self.sight()).info(self.facts()))
    }

    fn step(&mut self, _rng: &mut NumpyRng, action: Act) -> Result<Step<Self>, EnvError> {
        self.steps += 1;
        self.act = action;
        let step = Step::new(self.sight(), 0.5).info(self.facts());
        // What nobody declared.
        Ok(match self.steps % 4 {
            0 => {
                step.extra("note", "every fourth").extra("nested", json!({"steps": self.steps, "list": [1, null, "x"]}))
            }
            _ => step,
        })
    }

    /// Of each choice all but one option, another one with every step.
    fn action_mask(&self) -> Vec<bool> {
        let but_one = |n: i64| (0..n).map(move |option| option != self.steps.rem_euclid(n));
        MASKED_CHOICES.into_iter().flat_map(but_one).collect()
    }
}

/// The Discrete and MultiDiscrete leaves of the action space, in order.
const MASKED_CHOICES: [i64; 6] = [4, 2, 3, 4, 5, 3];

fn act_space() -> ActSpace {
    let [which, a, b, c, d, pair] = MASKED_CHOICES;
    ActSpace {
        which: Discrete::new(which).starting_at(10),
        levers: MultiDiscrete::new([[a, b], [c, d]]).starting_at([[0, -1], [5, 0]]),
        bits: MultiBinary::new(),
        say: Text::new(6).min_length(0),
        push: BoxSpace::new([-1.0, 0.0], [1.0, f32::INFINITY]),
        pair: (Discrete::new(pair), BoxSpace::all(-100, 100)),
    }
}

/// What a reset shows as the last action.
fn first_act() -> Act {
    let bits = [[false; 3]; 2];
    Act { which: 10, levers: [[0, -1], [5, 0]], bits, say: String::new(), push: [0.0, 0.0], pair: (0, 0) }
}

impl Spaces {
    fn sight(&self) -> Sight {
        let steps = self.steps;
        let small = u8::try_from(steps.rem_euclid(100)).expect("below 100");
        let tiny = i8::try_from(small).expect("below 100");
        let (half, single) = (F16::from_f32(f32::from(small) / 4.0), f32::from(small) / 3.0);
        // The least, the greatest, and one that counts.
        let numbers = Numbers {
            boolean: [false, true, steps % 2 == 1],
            int8: [i8::MIN, i8::MAX, -tiny],
            int16: [i16::MIN, i16::MAX, -i16::from(small)],
            int32: [i32::MIN, i32::MAX, -i32::from(small)],
            int64: [i64::MIN, i64::MAX, -steps],
            uint8: [u8::MIN, u8::MAX, small],
            uint16: [u16::MIN, u16::MAX, small.into()],
            uint32: [u32::MIN, u32::MAX, small.into()],
            uint64: [u64::MIN, u64::MAX, small.into()],
            float16: [F16::from_f32(-65504.0), F16::from_f32(65504.0), half],
            float32: [f32::NEG_INFINITY, f32::MAX, single],
            float64: [f64::NEG_INFINITY, f64::MIN_POSITIVE, f64::from(small) / 3.0],
        };
        let pixel = |row: u8, column: u8| [small, row, column];
        let row = |row: u8| [pixel(row, 0), pixel(row, 1), pixel(row, 2), pixel(row, 3)];
        let bits = [1, 2, 4, 8, 16].map(|bit| small & bit != 0);
        Sight {
            act: self.act.clone(),
            numbers,
            image: [row(0), row(1)],
            scalar: f64::from(small) / 100.0,
            steps,
            // Two bytes, three bytes and four bytes in UTF-8.
            word: ["", "ä", "€uro", "𝄞 clef"][usize::from(small % 4)].to_owned(),
            mixed: (
                ["a", "ab", "cab"][usize::from(small % 3)].to_owned(),
                (bits, steps.rem_euclid(5) - 2),
                [small.into()],
            ),
        }
    }

    fn facts(&self) -> Facts {
        Facts {
            always: Some(self.steps),
            odd: (self.steps % 2 == 1).then(|| format!("step{}", self.steps)),
            never: None,
            third: (self.steps % 3 == 0).then(|| (self.steps.rem_euclid(3), [true, false])),
        }
    }
}

rollcage_sdk::export!(Spaces);
