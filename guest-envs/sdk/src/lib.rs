//! Write a reinforcement-learning environment that [rollcage](https://github.com/rollcage/rollcage) runs.
//!
//! One trait, [`Environment`], and one macro, [`export!`]. The words are Gymnasium's: whoever has written a
//! `gymnasium.Env` knows them.
//!
//! ```
//! use rollcage_sdk::prelude::*;
//!
//! /// Guess a number from 0 to 9.
//! struct Guess {
//!     secret: i64,
//! }
//!
//! impl Environment for Guess {
//!     type Config = NoConfig;
//!     type Options = NoOptions;
//!     type ObservationSpace = Discrete;
//!     type ActionSpace = Discrete;
//!     type InfoSpace = NoInfo;
//!
//!     const NAME: &'static str = "guess";
//!     const SUMMARY: &'static str = "Guess a number from 0 to 9";
//!
//!     fn create(_config: NoConfig) -> Result<Self, CreateError> {
//!         Ok(Self { secret: 0 })
//!     }
//!
//!     fn spec(&self) -> Spec<Self> {
//!         Spec::new(Discrete::new(3), Discrete::new(10)).max_episode_steps(20)
//!     }
//!
//!     fn reset(&mut self, rng: &mut NumpyRng, _options: NoOptions) -> Result<View<Self>, EnvError> {
//!         self.secret = rng.integers(0, 10);
//!         Ok(View::new(0))
//!     }
//!
//!     fn step(&mut self, _rng: &mut NumpyRng, action: i64) -> Result<Step<Self>, EnvError> {
//!         let hit = action == self.secret;
//!         let hint = if action < self.secret { 1 } else { 2 };
//!         Ok(Step::new(if hit { 0 } else { hint }, f64::from(hit)).terminated(hit))
//!     }
//! }
//!
//! rollcage_sdk::export!(Guess);
//!
//! // On the author's own machine:
//! let mut env = rollcage_sdk::testing::Native::<Guess>::new("{}").unwrap();
//! env.reset(Some(7), None).unwrap();
//! assert!(env.step(9).is_ok());
//! ```
//!
//! # Layout
//!
//! [`space`] holds Gymnasium's spaces, [`rng`] numpy's generator, [`config!`] declares what can be configured, [`info`]
//! what `info` may carry, [`draw`] is a canvas for `render`, [`classic`] what classic control shares,
//! [`toy_text`] what grid worlds do, [`testing`] a way to
//! play an env natively, [`raw`] the interface itself for who wants no help.

// What `config!` writes names the crate as an author does; while rustdoc looks for examples, that is the built one.
#[cfg(not(doctest))]
extern crate self as rollcage_sdk;

use std::fmt;

use schemars::JsonSchema;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

pub mod classic;
mod config;
pub mod draw;
mod element;
pub mod error;
#[doc(hidden)]
pub mod export;
pub mod info;
pub mod raw;
pub mod rng;
mod session;
pub mod space;
pub mod testing;
pub mod toy_text;

pub use error::{ConfigError, CreateError, EnvError};
pub use info::{InfoFields, NoInfo};
use raw::OutOfBounds;
pub use raw::{Frame, Image, RenderMode, WantKind};
pub use rng::NumpyRng;
pub use schemars;
pub use serde;
pub use serde_json;
pub use space::Space;

/// Everything that an env's file names.
pub mod prelude {
    pub use crate::draw::Canvas;
    pub use crate::info::NoInfo;
    pub use crate::space::{BoxSpace, Discrete, F16, MultiBinary, MultiDiscrete, Space, Text};
    pub use crate::{CreateError, EnvError, Frame, Image, NumpyRng, RenderMode, Want, WantKind};
    pub use crate::{Environment, NoConfig, NoOptions, Spec, Step, View};
}

/// What `E` observes.
pub type Observation<E> = <<E as Environment>::ObservationSpace as Space>::Value;
/// What `E` is told to do.
pub type Action<E> = <<E as Environment>::ActionSpace as Space>::Value;
/// The declared fields of `E`'s info.
pub type Info<E> = <<E as Environment>::InfoSpace as InfoFields>::Value;

/// A reinforcement-learning environment.
///
/// The instance *is* the env: a run of eight has eight instances, in eight processes, that share nothing.
///
/// The SDK keeps the generator and the episode: it seeds `rng` as Gymnasium does, refuses a step before the first reset
/// or after an episode's end, and checks every action (and the action mask) before [`step`](Self::step) sees it. The host
/// counts the time limit.
pub trait Environment: Sized + 'static {
    /// What can be configured: [`NoConfig`], what [`config!`] declares, or a struct of the author's own that derives
    /// `serde::Deserialize` and `schemars::JsonSchema`, with `#[serde(default, deny_unknown_fields)]`. Its doc comments, ranges and defaults are what `rollcage inspect` shows
    /// and what a config is checked against before [`create`](Self::create).
    type Config: DeserializeOwned + JsonSchema;

    /// The options that [`reset`](Self::reset) understands, `Default` where none are given: [`NoOptions`], what [`config!`]
    /// declares, or a struct that derives `serde::Deserialize` with `#[serde(default, deny_unknown_fields)]`.
    type Options: DeserializeOwned + Default;

    /// The observation space's type.
    type ObservationSpace: Space;

    /// The action space's type.
    type ActionSpace: Space;

    /// The fields that `info` may carry: [`NoInfo`], or what [`info!`] declares.
    type InfoSpace: InfoFields;

    /// Lower-case letters, digits and hyphens, at most 64: `cartpole`.
    const NAME: &'static str;

    /// One line, at most 200 characters.
    const SUMMARY: &'static str;

    /// What [`render`](Self::render) can do.
    const RENDER_MODES: &'static [RenderMode] = &[];

    /// Frames a second at which an episode plays in real time; 0 where there is no such thing.
    const RENDER_FPS: u32 = 0;

    /// What the env would use of the world outside. Asking grants nothing.
    const WANTS: &'static [Want] = &[];

    /// Makes the env that `config` describes. Nothing is drawn here: there is no seed yet.
    ///
    /// # Errors
    ///
    /// [`CreateError::config`] for what the schema cannot say; [`CreateError::failed`] where something outside is
    /// missing.
    fn create(config: Self::Config) -> Result<Self, CreateError>;

    /// The spaces and limits that the config led to. Asked once, right after [`create`](Self::create).
    fn spec(&self) -> Spec<Self>;

    /// Begins an episode.
    ///
    /// `rng` has just been seeded if the reset came with a seed, and goes on from where it was if not (which is what
    /// automatic resets do). Draw everything from it.
    ///
    /// # Errors
    ///
    /// [`EnvError::invalid_options`] leaves the env (and the generator) as it was.
    fn reset(&mut self, rng: &mut NumpyRng, options: Self::Options) -> Result<View<Self>, EnvError>;

    /// One step. `action` is in the action space (but for the bounds of finite floats, where they
    /// [pass](Spec::out_of_bounds_passes)), and the mask, if there is one, allows it.
    ///
    /// # Errors
    ///
    /// [`EnvError::restart`] asks for a new instance, [`EnvError::failed`] says that this one cannot go on;
    /// [`EnvError::invalid_action`] leaves the env as it was.
    fn step(&mut self, rng: &mut NumpyRng, action: Action<Self>) -> Result<Step<Self>, EnvError>;

    /// Which choices are open now, asked after every reset and step of an env whose spec is [`masked`](Spec::masked) or
    /// [`advised`](Spec::advised): one `bool` per choice, for every Discrete leaf of the action space (n) and MultiDiscrete leaf (sum of nvec), in
    /// order.
    fn action_mask(&self) -> Vec<bool> {
        Vec::new()
    }

    /// A picture of the present state, in one of [`RENDER_MODES`](Self::RENDER_MODES); not asked before the first reset.
    ///
    /// # Errors
    ///
    /// [`EnvError::unsupported`], if nothing is overridden.
    fn render(&self, mode: RenderMode) -> Result<Frame, EnvError> {
        Err(EnvError::unsupported(format!("{} has no render mode {mode:?}", Self::NAME)))
    }

    /// Called after `rng` was given a new seed in the middle of an episode, so that branches differ from here on: for an
    /// env that keeps random state of its own.
    ///
    /// # Errors
    ///
    /// [`EnvError::unsupported`] where there is no way to do this.
    fn reseed(&mut self, _rng: &mut NumpyRng) -> Result<(), EnvError> {
        Ok(())
    }

    /// A method of the author's own.
    ///
    /// # Errors
    ///
    /// [`EnvError::unsupported`] for a method that there is not.
    fn call(&mut self, method: &str, _arguments: Value) -> Result<Value, EnvError> {
        Err(EnvError::unsupported(format!("{} has no method `{method}`", Self::NAME)))
    }

    /// An attribute of the author's own.
    ///
    /// # Errors
    ///
    /// [`EnvError::unsupported`] for an attribute that there is not.
    fn get_attribute(&self, name: &str) -> Result<Value, EnvError> {
        Err(EnvError::unsupported(format!("{} has no attribute `{name}`", Self::NAME)))
    }

    /// Sets an attribute of the author's own.
    ///
    /// # Errors
    ///
    /// [`EnvError::unsupported`] for an attribute that there is not, or that cannot be set.
    fn set_attribute(&mut self, name: &str, _value: Value) -> Result<(), EnvError> {
        Err(EnvError::unsupported(format!("{} has no attribute `{name}` that can be set", Self::NAME)))
    }

    /// The last call of an orderly end: say goodbye to a simulator. Not made after a fault.
    fn close(&mut self) {}
}

/// What one config makes of an env: its spaces and limits.
#[expect(missing_debug_implementations, reason = "an author's spaces need not be Debug")]
pub struct Spec<E: Environment> {
    pub(crate) observation_space: E::ObservationSpace,
    pub(crate) action_space: E::ActionSpace,
    pub(crate) info_space: E::InfoSpace,
    pub(crate) mask: ActionMask,
    pub(crate) outside: OutOfBounds,
    pub(crate) max_episode_steps: Option<u32>,
    pub(crate) reward_threshold: Option<f64>,
}

impl<E: Environment<InfoSpace = NoInfo>> Spec<E> {
    /// The spaces of an env whose info has no declared fields.
    #[must_use]
    pub fn new(observation_space: E::ObservationSpace, action_space: E::ActionSpace) -> Self {
        Self::with_info(observation_space, action_space, NoInfo)
    }
}

impl<E: Environment> Spec<E> {
    /// The spaces of an env, those of its info's fields among them.
    #[must_use]
    pub fn with_info(
        observation_space: E::ObservationSpace,
        action_space: E::ActionSpace,
        info_space: E::InfoSpace,
    ) -> Self {
        Self {
            observation_space,
            action_space,
            info_space,
            mask: ActionMask::None,
            outside: OutOfBounds::Refuse,
            max_episode_steps: None,
            reward_threshold: None,
        }
    }

    /// The usual time limit. The host counts and truncates; the env does not.
    #[must_use]
    pub fn max_episode_steps(self, steps: u32) -> Self {
        Self { max_episode_steps: Some(steps), ..self }
    }

    /// The mean return at which the task counts as solved.
    #[must_use]
    pub fn reward_threshold(self, threshold: f64) -> Self {
        Self { reward_threshold: Some(threshold), ..self }
    }

    /// Actions with floats outside the bounds of their Box are taken, as by Gymnasium's envs that clip by themselves:
    /// [`Environment::step`] sees them as they are, if they are finite. Without it they are refused, and what is
    /// outside by rounding alone is set to the bound before it comes here.
    #[must_use]
    pub fn out_of_bounds_passes(self) -> Self {
        Self { outside: OutOfBounds::Pass, ..self }
    }

    /// Not every action is open in every state: [`Environment::action_mask`] says which, and the others are refused.
    #[must_use]
    pub fn masked(self) -> Self {
        Self { mask: ActionMask::Rule, ..self }
    }

    /// Not every action is worth taking in every state: [`Environment::action_mask`] says which, for policies that look
    /// at it, and the others are taken all the same.
    #[must_use]
    pub fn advised(self) -> Self {
        Self { mask: ActionMask::Advice, ..self }
    }
}

/// What [`Environment::action_mask`] means to an env.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ActionMask {
    /// There is none.
    None,
    /// What it leaves out is taken all the same.
    Advice,
    /// What it leaves out is refused.
    Rule,
}

/// What a reset yields: Gymnasium's `observation, info`.
pub struct View<E: Environment> {
    /// The first observation of the episode.
    pub observation: Observation<E>,
    /// The declared fields of info.
    pub info: Info<E>,
    /// Info that no field was declared for; see [`extra`](Self::extra).
    pub extra: Option<Box<Map<String, Value>>>,
}

impl<E: Environment> View<E> {
    /// An observation with nothing in its info.
    #[inline]
    #[must_use]
    pub fn new(observation: Observation<E>) -> Self {
        Self { observation, info: Info::<E>::default(), extra: None }
    }

    /// Fills the declared fields of info.
    #[inline]
    #[must_use]
    pub fn info(self, info: Info<E>) -> Self {
        Self { info, ..self }
    }

    /// Adds to info what has no declared field. It travels as JSON, which is slower: for what is rare.
    #[must_use]
    pub fn extra(mut self, key: impl Into<String>, value: impl Into<Value>) -> Self {
        self.extra.get_or_insert_default().insert(key.into(), value.into());
        self
    }
}

/// What a step yields: Gymnasium's `observation, reward, terminated, truncated, info`.
pub struct Step<E: Environment> {
    /// What is seen after the step.
    pub observation: Observation<E>,
    /// What the step was worth.
    pub reward: f64,
    /// The task has come to an end.
    pub terminated: bool,
    /// The episode is broken off by a rule of the env's own; the time limit is the host's.
    pub truncated: bool,
    /// The declared fields of info.
    pub info: Info<E>,
    /// Info that no field was declared for; see [`extra`](Self::extra).
    pub extra: Option<Box<Map<String, Value>>>,
}

impl<E: Environment> Step<E> {
    /// A step after which the episode goes on, with nothing in its info.
    #[inline]
    #[must_use]
    pub fn new(observation: Observation<E>, reward: f64) -> Self {
        Self { observation, reward, terminated: false, truncated: false, info: Info::<E>::default(), extra: None }
    }

    /// Whether the task came to an end with this step.
    #[inline]
    #[must_use]
    pub fn terminated(self, terminated: bool) -> Self {
        Self { terminated, ..self }
    }

    /// Whether a rule of the env's own breaks the episode off here.
    #[inline]
    #[must_use]
    pub fn truncated(self, truncated: bool) -> Self {
        Self { truncated, ..self }
    }

    /// Fills the declared fields of info.
    #[inline]
    #[must_use]
    pub fn info(self, info: Info<E>) -> Self {
        Self { info, ..self }
    }

    /// Adds to info what has no declared field. It travels as JSON, which is slower: for what is rare.
    #[must_use]
    pub fn extra(mut self, key: impl Into<String>, value: impl Into<Value>) -> Self {
        self.extra.get_or_insert_default().insert(key.into(), value.into());
        self
    }
}

impl<E: Environment> fmt::Debug for View<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { observation, info, extra } = self;
        f.debug_struct("View").field("observation", observation).field("info", info).field("extra", extra).finish()
    }
}

impl<E: Environment> fmt::Debug for Step<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Step")
            .field("observation", &self.observation)
            .field("reward", &self.reward)
            .field("terminated", &self.terminated)
            .field("truncated", &self.truncated)
            .field("info", &self.info)
            .field("extra", &self.extra)
            .finish()
    }
}

/// Something outside that an env would use. Never granted by being asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Want {
    /// What kind of thing it is.
    pub kind: WantKind,
    /// What the operator writes after `--grant KIND=`, placeholders in braces.
    pub example: &'static str,
    /// One sentence for the operator.
    pub reason: &'static str,
    /// False: the env runs without it, with less.
    pub required: bool,
}

/// The config of an env that has nothing to configure.
#[derive(Clone, Copy, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NoConfig {}

/// The options of a reset that takes none.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NoOptions {}
