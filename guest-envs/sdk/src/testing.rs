//! Plays an env on the author's own machine, without wasm and without the host: for `cargo test`.

use crate::session::{Session, config_schema};
use crate::space::{self, Mismatch};
use crate::{Action, CreateError, EnvError, Environment, Frame, RenderMode, Space, Step, View};

/// An env in this process, behind the same checks as in a component.
///
/// Configs and options are the JSON that the host would send; defaults are the `Config`'s own. Every action and every
/// answer is turned into bytes and back, so a value that cannot be sent is found here. The time limit is not counted,
/// and an action that is out of bounds by rounding is not clipped: the host does both.
///
/// ```
/// # use rollcage_sdk::prelude::*;
/// # struct Echo;
/// # impl Environment for Echo {
/// #     type Config = NoConfig;
/// #     type Options = NoOptions;
/// #     type ObservationSpace = Discrete;
/// #     type ActionSpace = Discrete;
/// #     type InfoSpace = NoInfo;
/// #     const NAME: &'static str = "echo";
/// #     const SUMMARY: &'static str = "";
/// #     fn create(_: NoConfig) -> Result<Self, CreateError> { Ok(Self) }
/// #     fn spec(&self) -> Spec<Self> { Spec::new(Discrete::new(4), Discrete::new(4)) }
/// #     fn reset(&mut self, _: &mut NumpyRng, _: NoOptions) -> Result<View<Self>, EnvError> { Ok(View::new(0)) }
/// #     fn step(&mut self, _: &mut NumpyRng, action: i64) -> Result<Step<Self>, EnvError> {
/// #         Ok(Step::new(action, 1.0))
/// #     }
/// # }
/// use rollcage_sdk::testing::Native;
///
/// let mut env = Native::<Echo>::new("{}")?;
/// assert_eq!(env.step(3).unwrap_err(), EnvError::NeedsReset);
/// assert_eq!(env.reset(Some(7), None).unwrap().observation, 0);
/// assert_eq!(env.step(3).unwrap().observation, 3);
/// assert_eq!(env.step(4).unwrap_err(), EnvError::invalid_action("4 is not from 0 to 3"));
/// # Ok::<(), CreateError>(())
/// ```
#[expect(missing_debug_implementations, reason = "an author's env need not be Debug")]
pub struct Native<E: Environment>(Session<E>);

impl<E: Environment> Native<E> {
    /// Creates the env that `config`, a JSON object, describes.
    ///
    /// # Errors
    ///
    /// An error of [`Environment::create`]; a config that does not fit its type.
    pub fn new(config: &str) -> Result<Self, CreateError> {
        Session::create(config).map(Self)
    }

    /// Begins an episode; `options` is a JSON object.
    ///
    /// # Errors
    ///
    /// An error of [`Environment::reset`]; options that do not fit their type.
    ///
    /// # Panics
    ///
    /// If the observation or info does not fit its space's shape.
    pub fn reset(&mut self, seed: Option<u64>, options: Option<&str>) -> Result<View<E>, EnvError> {
        let view = self.0.reset(seed, options)?;
        self.0.check(&view.observation, &view.info);
        Ok(view)
    }

    /// Takes one step.
    ///
    /// # Errors
    ///
    /// An error of [`Environment::step`]; [`EnvError::InvalidAction`] for an action that is not in the space, or
    /// masked; [`EnvError::NeedsReset`] before the first reset and after an episode's end.
    ///
    /// # Panics
    ///
    /// If the observation or info does not fit its space's shape.
    #[expect(clippy::needless_pass_by_value, reason = "as the trait takes it")]
    pub fn step(&mut self, action: Action<E>) -> Result<Step<E>, EnvError> {
        let spec = &self.0.spec;
        let action = space::encode(&spec.action_space, &action, 0)
            .and_then(|bytes| space::decode_action(&spec.action_space, &bytes, spec.outside))
            .map_err(|mismatch| EnvError::InvalidAction(mismatch.to_string()));
        // An ended episode is the first thing to say, as it is in a component.
        self.0.needs_running()?;
        let step = self.0.step(action?)?;
        self.0.check(&step.observation, &step.info);
        Ok(step)
    }

    /// Draws the present state.
    ///
    /// # Errors
    ///
    /// An error of [`Environment::render`]; [`EnvError::Unsupported`] for a mode that is not declared.
    pub fn render(&self, mode: RenderMode) -> Result<Frame, EnvError> {
        self.0.render(mode)
    }

    /// Begins new random streams for the rest of the episode.
    ///
    /// # Errors
    ///
    /// An error of [`Environment::reseed`].
    pub fn reseed(&mut self, seed: u64) -> Result<(), EnvError> {
        self.0.reseed(seed)
    }

    /// The last answer of [`Environment::action_mask`]; empty for an env without masks.
    #[must_use]
    pub fn action_mask(&self) -> Vec<bool> {
        self.0.mask().iter().map(|&byte| byte == 1).collect()
    }

    /// The env itself.
    #[must_use]
    pub fn env(&self) -> &E {
        &self.0.env
    }

    /// The spec of this env, in the interface's terms.
    #[must_use]
    pub fn spec(&self) -> crate::raw::Spec {
        self.0.describe_spec()
    }

    /// The JSON Schema of the config.
    #[must_use]
    pub fn config_schema() -> serde_json::Value {
        config_schema::<E>()
    }
}

/// Turns a value into bytes and back, as on the way between env and host.
///
/// # Errors
///
/// If it does not fit the space's shape, or is not in the space.
pub fn round_trip<S: Space>(space: &S, value: &S::Value) -> Result<S::Value, Mismatch> {
    space::decode(space, &space::encode(space, value, 0)?)
}
