//! Goal: an env that is sound, or has one defect of those that authors plant: `rollcage check` must name each by its rule.
//! Method: a walk on a line with a noisy lamp, drawn from the generator; `defect` chooses what goes wrong, and `from` the step at
//! which it begins.

use std::cell::Cell;
use std::net::TcpStream;

use mischief::rollcage_sdk::prelude::*;
use mischief::rollcage_sdk::serde_json::Value;
use mischief::tamper;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Steps of an episode at most.
const LENGTH: i64 = 30;

/// What goes wrong.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Defect {
    /// Nothing.
    #[default]
    None,
    /// The lamp is brighter than its bound.
    ObservationOutside,
    /// The lamp is NaN.
    ObservationNan,
    /// An observation has a byte too few.
    ObservationShort,
    /// A reward is NaN.
    RewardNan,
    /// A reward is infinite.
    RewardInfinite,
    /// No action is open.
    MaskClosed,
    /// The mask has an entry too few.
    MaskShort,
    /// No episode ends.
    NeverEnds,
    /// The number of episodes shows in the lamp.
    ResetLeaks,
    /// The generator is one of the env's own, with a fixed seed.
    SeedIgnored,
    /// The machine's own randomness.
    OwnRandomness,
    /// `lamp` is not read.
    ConfigUnread,
    /// A `size` of 20 is refused, though the schema allows it.
    ConfigRefused,
    /// It connects to a server that it does not declare.
    WantUndeclared,
    /// There is no picture from a step on.
    PictureFails,
    /// A picture is wider in every step.
    PictureGrows,
    /// A picture takes a step.
    PictureSteps,
    /// The step after the end is answered.
    StepAfterEnd,
    /// A call that is refused moves the walker.
    RefusalMoves,
    /// Every step keeps two kilobytes.
    MemoryGrows,
    /// A step computes for a while.
    SlowStep,
    /// A step panics.
    Panics,
    /// `create` fails.
    CreateFails,
}

/// What can be configured.
#[derive(Clone, Copy, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// What goes wrong.
    pub defect: Defect,
    /// Where the walk ends.
    #[schemars(range(min = 5, max = 20))]
    pub size: i64,
    /// How bright the lamp is at most.
    #[schemars(range(min = 0.1, max = 1.0))]
    pub lamp: f32,
}

impl Default for Config {
    fn default() -> Self {
        Self { defect: Defect::None, size: 10, lamp: 0.5 }
    }
}

struct Flawed {
    config: Config,
    at: Cell<i64>,
    lamp: f32,
    steps: i64,
    episodes: i64,
    own: NumpyRng,
    kept: Vec<Vec<u8>>,
}

impl Environment for Flawed {
    type Config = Config;
    type Options = NoOptions;
    /// The position, and how bright the lamp is.
    type ObservationSpace = BoxSpace<[f32; 2]>;
    type ActionSpace = Discrete;
    type InfoSpace = NoInfo;

    const NAME: &'static str = "flawed";
    const SUMMARY: &'static str = "Walk along a line under a lamp, with a defect of your choice";
    const RENDER_MODES: &'static [RenderMode] = &[RenderMode::RgbArray, RenderMode::Ansi];
    const RENDER_FPS: u32 = 10;

    fn create(config: Config) -> Result<Self, CreateError> {
        if config.defect == Defect::CreateFails {
            return Err(CreateError::failed("the lamp is broken"));
        }
        if config.defect == Defect::ConfigRefused && config.size == 20 {
            return Err(CreateError::failed("20 is too far"));
        }
        Ok(Self { config, at: Cell::new(0), lamp: 0.0, steps: 0, episodes: 0, own: NumpyRng::new(7), kept: Vec::new() })
    }

    fn spec(&self) -> Spec<Self> {
        Spec::new(BoxSpace::new([-1.0, 0.0], [21.0, 1.0]), Discrete::new(3)).masked()
    }

    fn reset(&mut self, rng: &mut NumpyRng, _options: NoOptions) -> Result<View<Self>, EnvError> {
        self.episodes += 1;
        self.steps = 0;
        self.at.set(if self.is(Defect::SeedIgnored) {
            self.own = NumpyRng::new(7);
            0
        } else {
            rng.integers(0, 3)
        });
        if self.is(Defect::WantUndeclared) {
            // It does without.
            let _ = TcpStream::connect("203.0.113.7:3100");
        }
        self.shine(rng);
        Ok(View::new(self.observation()))
    }

    fn step(&mut self, rng: &mut NumpyRng, action: i64) -> Result<Step<Self>, EnvError> {
        self.steps += 1;
        self.at.set((self.at.get() + action - 1).clamp(0, 20));
        self.shine(rng);
        let mut reward = -0.1;
        if self.steps == 3 {
            match self.config.defect {
                Defect::RewardNan => reward = f64::NAN,
                Defect::RewardInfinite => reward = f64::INFINITY,
                Defect::ObservationShort => tamper::view(|view| {
                    view.observation.pop();
                }),
                Defect::MaskShort => tamper::view(|view| {
                    view.action_mask.pop();
                }),
                Defect::Panics => panic!("the walker fell"),
                _ => {}
            }
        }
        match self.config.defect {
            Defect::MemoryGrows => self.kept.push(vec![1; 2048]),
            Defect::SlowStep => {
                let begun =
                    (0..600_000_000_u64).fold(self.steps.cast_unsigned(), |sum, n| std::hint::black_box(sum ^ n));
                std::hint::black_box(begun);
            }
            _ => {}
        }
        let ended = (self.at.get() >= self.config.size || self.steps >= LENGTH) && !self.is(Defect::NeverEnds);
        if ended && self.is(Defect::StepAfterEnd) {
            tamper::end();
            return Ok(Step::new(self.observation(), reward));
        }
        Ok(Step::new(self.observation(), reward).terminated(ended))
    }

    fn action_mask(&self) -> Vec<bool> {
        let closed = self.is(Defect::MaskClosed) && self.steps == 4;
        vec![!closed; 3]
    }

    fn render(&self, mode: RenderMode) -> Result<Frame, EnvError> {
        if self.is(Defect::PictureFails) && self.steps >= 4 {
            return Err(EnvError::unsupported("the brush is dry"));
        }
        if self.is(Defect::PictureSteps) {
            self.at.set(self.at.get() + 1);
        }
        Ok(match mode {
            RenderMode::Ansi => Frame::Text(format!("{} of {}, lamp {}\n", self.at.get(), self.config.size, self.lamp)),
            RenderMode::RgbArray => {
                let wider = if self.is(Defect::PictureGrows) { u32::try_from(self.steps).unwrap_or(0) } else { 0 };
                let at = u8::try_from(self.at.get().clamp(0, 255)).unwrap_or(0);
                Canvas::new(16 + wider, 8, [at, 0, 0]).into_frame()
            }
        })
    }

    fn call(&mut self, method: &str, _arguments: Value) -> Result<Value, EnvError> {
        if self.is(Defect::RefusalMoves) {
            self.at.set(self.at.get() + 1);
        }
        Err(EnvError::unsupported(format!("there is no method {method}")))
    }
}

impl Flawed {
    fn is(&self, defect: Defect) -> bool {
        self.config.defect == defect
    }

    /// Draws how bright the lamp is now.
    fn shine(&mut self, rng: &mut NumpyRng) {
        let most = if self.is(Defect::ConfigUnread) { 0.5 } else { self.config.lamp };
        let drawn = match self.config.defect {
            Defect::SeedIgnored => self.own.random(),
            Defect::OwnRandomness => {
                use std::hash::{BuildHasher, RandomState};
                (RandomState::new().hash_one(self.steps) >> 11) as f64 / (1_u64 << 53) as f64
            }
            Defect::ResetLeaks => (rng.random() + self.episodes as f64 / 16.0) % 1.0,
            _ => rng.random(),
        };
        self.lamp = most * drawn as f32;
        if self.steps == 3 {
            match self.config.defect {
                Defect::ObservationOutside => self.lamp = 1.5,
                Defect::ObservationNan => self.lamp = f32::NAN,
                _ => {}
            }
        }
    }

    fn observation(&self) -> [f32; 2] {
        [self.at.get() as f32, self.lamp]
    }
}

mischief::export!(env Flawed);
