//! Write a reinforcement-learning environment that [rollcage](https://github.com/rollcage/rollcage) runs.
//!
//! There is one trait, [`Environment`], and one macro, [`export!`]. The words are Gymnasium's: authors of a
//! `gymnasium.Env` know them.
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
//! [`space`] has Gymnasium's spaces, [`rng`] numpy's generator. [`config!`] declares a config, [`choices!`] the texts
//! that one of its keys allows, and [`mod@info`] the fields of `info`. [`assets`] reads the files inside the plugin.
//! [`draw`] is a canvas for `render`. [`classic`] has the parts that classic control shares, and [`toy_text`] those of
//! grid worlds. [`testing`] plays an env natively. [`raw`] is the interface itself, for guests that do without the SDK.
//! [`policy`] is for policies, which choose the actions of an env inside its worker.

// What `config!` writes names the crate as an author does; while rustdoc looks for examples, that is the built one.
#[cfg(not(doctest))]
extern crate self as rollcage_sdk;

use std::fmt;

use schemars::JsonSchema;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

pub mod assets;
pub mod classic;
#[doc(hidden)]
pub mod config;
pub mod draw;
mod element;
pub mod error;
#[doc(hidden)]
pub mod export;
pub mod info;
pub mod policy;
pub mod raw;
pub mod rng;
mod session;
pub mod space;
pub mod testing;
pub mod toy_text;

pub use config::ConfigValue;
pub use error::{ConfigError, CreateError, EnvError};
pub use info::{InfoFields, NoInfo, WithoutFields};
use raw::OutOfBounds;
pub use raw::{Frame, Image, RenderMode, WantKind};
pub use rng::NumpyRng;
pub use schemars;
pub use serde;
pub use serde_json;
pub use space::Space;

// The README's example is compiled with the others.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

/// Everything that the file of an env uses.
pub mod prelude {
    pub use crate::draw::Canvas;
    pub use crate::info::NoInfo;
    pub use crate::space::{BoxSpace, Discrete, F16, MultiBinary, MultiDiscrete, Space, Text};
    pub use crate::{CreateError, EnvError, Frame, Image, NumpyRng, RenderMode, Want, WantKind};
    pub use crate::{Environment, NoConfig, NoOptions, Spec, Step, View};
}

/// An observation of `E`.
pub type Observation<E> = <<E as Environment>::ObservationSpace as Space>::Value;
/// An action of `E`.
pub type Action<E> = <<E as Environment>::ActionSpace as Space>::Value;
/// The declared fields of `E`'s info.
pub type Info<E> = <<E as Environment>::InfoSpace as InfoFields>::Value;

/// A reinforcement-learning environment.
///
/// The instance *is* the env: a run of eight envs has eight instances, in eight processes, that share nothing.
///
/// The SDK keeps the generator and the episode. It seeds `rng` as Gymnasium does, refuses a step before the first reset
/// or after an episode's end, and checks every action (and the action mask) before [`step`](Self::step) sees it. The
/// host counts the time limit.
pub trait Environment: Sized + 'static {
    /// The config: [`NoConfig`], a struct of [`config!`], or a struct of the author's own that derives
    /// `serde::Deserialize` and `schemars::JsonSchema`, with `#[serde(default, deny_unknown_fields)]`. A
    /// config is checked against it before [`create`](Self::create), and `rollcage inspect` shows its doc comments,
    /// ranges and defaults.
    type Config: DeserializeOwned + JsonSchema;

    /// The options of [`reset`](Self::reset), `Default` where none are given: [`NoOptions`], a struct of [`config!`],
    /// or a struct that derives `serde::Deserialize` with `#[serde(default, deny_unknown_fields)]`.
    type Options: DeserializeOwned + Default;

    /// The observation space's type.
    type ObservationSpace: Space;

    /// The action space's type.
    type ActionSpace: Space;

    /// The fields that `info` may carry: [`NoInfo`], or the spaces that [`info!`] declares.
    type InfoSpace: InfoFields;

    /// The env's name: lower-case letters, digits and hyphens, at most 64: `cartpole`.
    const NAME: &'static str;

    /// A summary of the env: one line, at most 200 characters.
    const SUMMARY: &'static str;

    /// The modes of [`render`](Self::render).
    const RENDER_MODES: &'static [RenderMode] = &[];

    /// The frames a second at which an episode plays in real time; 0 for no rate.
    const RENDER_FPS: u32 = 0;

    /// The things of the outside that the env would use. A want grants nothing.
    const WANTS: &'static [Want] = &[];

    /// Makes the env that `config` describes. It cannot draw random numbers: there is no seed yet.
    ///
    /// # Errors
    ///
    /// [`CreateError::config`] for mistakes that the schema cannot express; [`CreateError::failed`] where a thing of
    /// the outside is missing.
    fn create(config: Self::Config) -> Result<Self, CreateError>;

    /// The spaces and limits of this env. Called once, right after [`create`](Self::create).
    fn spec(&self) -> Spec<Self>;

    /// Begins an episode.
    ///
    /// If the reset has a seed, `rng` has just been seeded with it. If not, `rng` goes on, as in automatic resets. Draw
    /// every random number from `rng`.
    ///
    /// # Errors
    ///
    /// [`EnvError::invalid_options`] leaves the env (and the generator) unchanged.
    fn reset(&mut self, rng: &mut NumpyRng, options: Self::Options) -> Result<View<Self>, EnvError>;

    /// Takes one step. `action` is in the action space (except for the bounds of finite floats, where they
    /// [pass](Spec::out_of_bounds_passes)), and the mask, if there is one, allows it.
    ///
    /// # Errors
    ///
    /// [`EnvError::restart`] asks for a new instance, [`EnvError::failed`] says that this one cannot go on;
    /// [`EnvError::invalid_action`] leaves the env unchanged.
    fn step(&mut self, rng: &mut NumpyRng, action: Action<Self>) -> Result<Step<Self>, EnvError>;

    /// The action mask: one `bool` per choice, true if it is open now, for every Discrete leaf of the action space (n)
    /// and MultiDiscrete leaf (sum of nvec), in order. Called after every reset and step of an env whose spec is
    /// [`masked`](Spec::masked) or [`advised`](Spec::advised).
    fn action_mask(&self) -> Vec<bool> {
        Vec::new()
    }

    /// Draws the present state, in one of [`RENDER_MODES`](Self::RENDER_MODES). Not called before the first reset.
    ///
    /// # Errors
    ///
    /// [`EnvError::unsupported`], unless this method is overridden.
    fn render(&self, mode: RenderMode) -> Result<Frame, EnvError> {
        Err(EnvError::unsupported(format!("{} has no render mode {mode:?}", Self::NAME)))
    }

    /// Reseeds the random state that an env keeps beside `rng`. Called after `rng` was given a new seed in the middle
    /// of an episode, so that branches differ from then on.
    ///
    /// # Errors
    ///
    /// [`EnvError::unsupported`] where the env cannot do this.
    fn reseed(&mut self, _rng: &mut NumpyRng) -> Result<(), EnvError> {
        Ok(())
    }

    /// Calls a method of the author's own.
    ///
    /// # Errors
    ///
    /// [`EnvError::unsupported`] for an unknown method.
    fn call(&mut self, method: &str, _arguments: Value) -> Result<Value, EnvError> {
        Err(EnvError::unsupported(format!("{} has no method `{method}`", Self::NAME)))
    }

    /// Gets an attribute of the author's own.
    ///
    /// # Errors
    ///
    /// [`EnvError::unsupported`] for an unknown attribute.
    fn get_attribute(&self, name: &str) -> Result<Value, EnvError> {
        Err(EnvError::unsupported(format!("{} has no attribute `{name}`", Self::NAME)))
    }

    /// Sets an attribute of the author's own.
    ///
    /// # Errors
    ///
    /// [`EnvError::unsupported`] for an unknown attribute, or for one that cannot be set.
    fn set_attribute(&mut self, name: &str, _value: Value) -> Result<(), EnvError> {
        Err(EnvError::unsupported(format!("{} has no attribute `{name}` that can be set", Self::NAME)))
    }

    /// Ends the env in order: say goodbye to a simulator. Not called after a fault.
    fn close(&mut self) {}
}

/// The spec of an env with its config: its spaces and limits.
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

impl<E: Environment> Spec<E> {
    /// A spec of an env whose info has no declared fields: its `InfoSpace` is [`NoInfo`]. Other envs use
    /// [`with_info`](Self::with_info).
    #[must_use]
    pub fn new(observation_space: E::ObservationSpace, action_space: E::ActionSpace) -> Self
    where
        E::InfoSpace: WithoutFields,
    {
        Self::with_info(observation_space, action_space, WithoutFields::NONE)
    }

    /// A spec of an env, with the spaces of its info's fields.
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

    /// Sets the usual time limit. The host counts and truncates; the env does not.
    #[must_use]
    pub fn max_episode_steps(self, steps: u32) -> Self {
        Self { max_episode_steps: Some(steps), ..self }
    }

    /// Sets the mean return at which the task counts as solved.
    #[must_use]
    pub fn reward_threshold(self, threshold: f64) -> Self {
        Self { reward_threshold: Some(threshold), ..self }
    }

    /// Passes actions with floats outside the bounds of their Box to the env, as to Gymnasium's envs that clip by
    /// themselves: [`Environment::step`] gets them unchanged, if they are finite. Without this, such actions are
    /// refused, and a float that is outside by rounding is set to the bound first.
    #[must_use]
    pub fn out_of_bounds_passes(self) -> Self {
        Self { outside: OutOfBounds::Pass, ..self }
    }

    /// Makes the action mask a rule: [`Environment::action_mask`] says which actions are open, and the others are
    /// refused.
    #[must_use]
    pub fn masked(self) -> Self {
        Self { mask: ActionMask::Rule, ..self }
    }

    /// Makes the action mask advice: [`Environment::action_mask`] says which actions are worth taking, for policies
    /// that look at it. The env takes the others all the same.
    #[must_use]
    pub fn advised(self) -> Self {
        Self { mask: ActionMask::Advice, ..self }
    }
}

/// The meaning of [`Environment::action_mask`] for an env.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ActionMask {
    /// The env has no mask.
    None,
    /// The mask is advice: closed actions are taken all the same.
    Advice,
    /// The mask is a rule: closed actions are refused.
    Rule,
}

/// The result of a reset: Gymnasium's `observation, info`.
pub struct View<E: Environment> {
    /// The first observation of the episode.
    pub observation: Observation<E>,
    /// The declared fields of info.
    pub info: Info<E>,
    /// Info without a declared field; see [`extra`](Self::extra).
    pub extra: Option<Box<Map<String, Value>>>,
}

impl<E: Environment> View<E> {
    /// A view with this observation and an empty info.
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

    /// Adds a key without a declared field to info. It travels as JSON, which is slower: use it for rare keys.
    #[must_use]
    pub fn extra(mut self, key: impl Into<String>, value: impl Into<Value>) -> Self {
        self.extra.get_or_insert_default().insert(key.into(), value.into());
        self
    }
}

/// The result of a step: Gymnasium's `observation, reward, terminated, truncated, info`.
pub struct Step<E: Environment> {
    /// The observation after the step.
    pub observation: Observation<E>,
    /// The reward of the step.
    pub reward: f64,
    /// Whether the task came to an end.
    pub terminated: bool,
    /// Whether a rule of the env's own cut the episode off; the time limit is the host's.
    pub truncated: bool,
    /// The declared fields of info.
    pub info: Info<E>,
    /// Info without a declared field; see [`extra`](Self::extra).
    pub extra: Option<Box<Map<String, Value>>>,
}

impl<E: Environment> Step<E> {
    /// A step after which the episode goes on, with an empty info.
    #[inline]
    #[must_use]
    pub fn new(observation: Observation<E>, reward: f64) -> Self {
        Self { observation, reward, terminated: false, truncated: false, info: Info::<E>::default(), extra: None }
    }

    /// Sets whether the task came to an end with this step.
    #[inline]
    #[must_use]
    pub fn terminated(self, terminated: bool) -> Self {
        Self { terminated, ..self }
    }

    /// Sets whether a rule of the env's own cuts the episode off here.
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

    /// Adds a key without a declared field to info. It travels as JSON, which is slower: use it for rare keys.
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

/// A thing of the outside that an env would use. A want grants nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Want {
    /// The kind of the thing.
    pub kind: WantKind,
    /// The text that the operator writes after `--grant KIND=`, with placeholders in braces.
    pub example: &'static str,
    /// The reason, one sentence for the operator.
    pub reason: &'static str,
    /// Whether the env cannot run without it.
    pub required: bool,
}

/// The config of an env without config keys.
#[derive(Clone, Copy, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NoConfig {}

/// The options of an env whose resets take none.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NoOptions {}
