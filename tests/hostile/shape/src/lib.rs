//! Goal: answers of the wrong length, or with values that the guest's own spec forbids: in the observation, the action
//! mask and the info. And a few answers that are odd and allowed.
//! Method: the SDK's bytes are changed on their way out.

use mischief::rollcage_sdk::prelude::*;
use mischief::rollcage_sdk::raw;
use mischief::{Call, Schedule, When, tamper};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

#[derive(Debug, Deserialize, JsonSchema)]
struct Config {
    #[serde(flatten)]
    when: When,
    #[serde(flatten)]
    details: Details,
}

#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(default)]
struct Details {
    /// What is wrong with the answer.
    what: What,
}

impl Default for Details {
    fn default() -> Self {
        Self { what: What::ObservationShort }
    }
}

#[derive(Clone, Copy, Debug, Deserialize, Serialize, JsonSchema, PartialEq, Eq)]
#[serde(rename_all = "kebab-case")]
enum What {
    ObservationEmpty,
    ObservationShort,
    ObservationLong,
    /// 16 MiB.
    ObservationHuge,
    /// A Discrete below its least.
    ChoiceLow,
    /// A Discrete beyond its greatest.
    ChoiceHigh,
    /// A MultiDiscrete's second element.
    PairHigh,
    /// A MultiBinary's third bit is 2.
    BitTwo,
    /// A boolean Box is 2.
    FlagTwo,
    /// A Text that says to be longer than its room.
    WordRoom,
    /// A Text of more characters than it may have, within its room.
    WordLong,
    WordEmpty,
    WordCharset,
    WordUtf8,
    /// Something after a Text's end.
    WordRest,
    MaskEmpty,
    MaskShort,
    MaskLong,
    MaskTwo,
    InfoEmpty,
    InfoShort,
    InfoLong,
    /// A presence byte that is 2.
    InfoPresence,
    /// An absent field that is not zeros.
    InfoAbsent,
    /// A present field's value outside its space.
    InfoValue,
    /// Allowed: any f64 is a reward.
    RewardNan,
    /// Allowed.
    RewardInfinite,
    /// Allowed: a Box carries any bytes of its dtype.
    BoxNan,
    /// Allowed: ended in both ways.
    BothEnds,
    /// Allowed: as in Gymnasium, the first choice stands for none.
    MaskNone,
}

rollcage_sdk::dict! {
    struct Sight in SightSpace {
        choice: Discrete,
        pair: MultiDiscrete<[i64; 2]>,
        bits: MultiBinary<[bool; 3]>,
        flag: BoxSpace<bool>,
        word: Text,
        number: BoxSpace<f32>,
    }
}

// Where the leaves stand in the bytes.
const CHOICE: usize = 0;
const PAIR: usize = 8;
const BITS: usize = 24;
const FLAG: usize = 27;
const WORD: usize = 28;
const NUMBER: usize = WORD + 4 + 4 * 8;

rollcage_sdk::info! {
    struct Facts in FactsSpace {
        tiles: Discrete,
        note: Text,
    }
}

/// Where the fields stand in the bytes, after a byte of presence for each.
const TILES: usize = 8;

struct Shape {
    what: What,
    schedule: Schedule,
    action: i64,
}

impl Environment for Shape {
    type Config = Config;
    type Options = NoOptions;
    type ObservationSpace = SightSpace;
    type ActionSpace = Discrete;
    type InfoSpace = FactsSpace;

    const NAME: &'static str = "shape";
    const SUMMARY: &'static str = "Answers what its own spec forbids";

    fn create(Config { when, details }: Config) -> Result<Self, CreateError> {
        Ok(Self { what: details.what, schedule: Schedule::new(when), action: 0 })
    }

    fn spec(&self) -> Spec<Self> {
        let observation = SightSpace {
            choice: Discrete::new(3),
            pair: MultiDiscrete::new([2, 4]).starting_at([0, 10]),
            bits: MultiBinary::new(),
            flag: BoxSpace::default(),
            word: Text::new(8),
            number: BoxSpace::all(-1.0, 1.0),
        };
        let info = FactsSpace { tiles: Discrete::new(64), note: Text::new(4).min_length(0) };
        Spec::with_info(observation, Discrete::new(2), info).masked()
    }

    fn reset(&mut self, rng: &mut NumpyRng, _options: NoOptions) -> Result<View<Self>, EnvError> {
        self.schedule.begin_episode(rng);
        self.action = 0;
        if self.schedule.is_due(Call::Reset) {
            self.lie();
        }
        Ok(View::new(self.sight()).info(self.facts()))
    }

    fn step(&mut self, _rng: &mut NumpyRng, action: i64) -> Result<Step<Self>, EnvError> {
        self.action = action;
        let lies = self.schedule.is_due(Call::Step);
        let ended = self.schedule.count_step();
        let step = Step::new(self.sight(), 1.0).info(self.facts()).terminated(ended);
        if !lies {
            return Ok(step);
        }
        self.lie();
        Ok(match self.what {
            What::RewardNan => Step { reward: f64::NAN, ..step },
            What::RewardInfinite => Step { reward: f64::NEG_INFINITY, ..step },
            What::BothEnds => step.terminated(true).truncated(true),
            _ => step,
        })
    }

    fn action_mask(&self) -> Vec<bool> {
        vec![true, true]
    }
}

impl Shape {
    fn sight(&self) -> Sight {
        let steps = self.schedule.steps;
        Sight {
            choice: steps.rem_euclid(3),
            pair: [self.action, 10 + steps.rem_euclid(4)],
            bits: [steps & 1 == 1, steps & 2 == 2, steps & 4 == 4],
            flag: self.action == 1,
            word: format!("step{}", steps.rem_euclid(1000)),
            number: 0.5,
        }
    }

    /// `note` is absent.
    fn facts(&self) -> Facts {
        Facts { tiles: Some(self.schedule.steps.rem_euclid(64)), note: None }
    }

    fn lie(&self) {
        let what = self.what;
        tamper::view(move |view| change(what, view));
    }
}

fn change(what: What, raw::View { observation, action_mask, info, .. }: &mut raw::View) {
    let mut put = |at: usize, bytes: &[u8]| observation[at..at + bytes.len()].copy_from_slice(bytes);
    let mut put_word = |text: &[u8]| {
        put(WORD, &[0; 36]);
        put(WORD, &u32::try_from(text.len()).expect("a short text").to_le_bytes());
        put(WORD + 4, text);
    };
    match what {
        What::ObservationEmpty => observation.clear(),
        What::ObservationShort => observation.truncate(observation.len() - 1),
        What::ObservationLong => observation.push(0),
        What::ObservationHuge => observation.resize(16 << 20, 0),
        What::ChoiceLow => put(CHOICE, &(-1_i64).to_le_bytes()),
        What::ChoiceHigh => put(CHOICE, &3_i64.to_le_bytes()),
        What::PairHigh => put(PAIR + 8, &14_i64.to_le_bytes()),
        What::BitTwo => put(BITS + 2, &[2]),
        What::FlagTwo => put(FLAG, &[2]),
        What::WordRoom => put(WORD, &u32::MAX.to_le_bytes()),
        What::WordLong => put_word(b"ninechars"),
        What::WordEmpty => put_word(b""),
        What::WordCharset => put_word(b"no good"),
        What::WordUtf8 => put_word(b"ab\xffcd"),
        What::WordRest => put(WORD + 4 + 31, &[1]),
        What::BoxNan => put(NUMBER, &f32::NAN.to_le_bytes()),
        What::MaskEmpty => action_mask.clear(),
        What::MaskShort => action_mask.truncate(1),
        What::MaskLong => action_mask.push(1),
        What::MaskTwo => action_mask[1] = 2,
        What::MaskNone => action_mask.fill(0),
        What::InfoEmpty => info.clear(),
        What::InfoShort => info.truncate(info.len() - 1),
        What::InfoLong => info.push(0),
        What::InfoPresence => info[0] = 2,
        // The first byte of the text, after its length.
        What::InfoAbsent => info[TILES + 8 + 4] = 1,
        What::InfoValue => info[TILES..TILES + 8].copy_from_slice(&64_i64.to_le_bytes()),
        What::RewardNan | What::RewardInfinite | What::BothEnds => {}
    }
}

mischief::export!(env Shape);
