//! Plays an env on the author's own machine, without wasm and without the host: for `cargo test`.

use std::cell::Cell;

use crate::session::{Session, name_of, schema_of};
use crate::space::{self, Mismatch};
use crate::{Action, CreateError, EnvError, Environment, Frame, Info, Observation, RenderMode, Space, Step, View};

/// An env in this process, behind the same checks as in a component, and under the rules of `rollcage check` that hold
/// for a single env.
///
/// Configs and options are the JSON that the host would send; defaults are the `Config`'s own. Every action and every
/// answer is turned into bytes and back, so a value that cannot be sent is found here. The time limit is not counted,
/// and an action that is out of bounds by rounding is not clipped: the host does both.
///
/// A mistake of the env is a panic that says what is wrong and at which step since the reset. The panic's place is the
/// line of the test. These are mistakes:
///
/// * an observation or a field of info that is not in its space: NaN, a number out of bounds, a wrong length;
/// * a reward that is NaN or infinite;
/// * a mask of a wrong length, or one that leaves no action open while the episode goes on;
/// * [`EnvError::InvalidAction`] for an action that the mask leaves open, and any other refusal of a step;
/// * a refusal of a reset without options;
/// * a declared render mode that the env cannot draw, a picture of the wrong mode or with a wrong number of bytes, and
///   pictures of different sizes.
///
/// A refused action is an error, not a panic, so that a test can expect it.
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
pub struct Native<E: Environment> {
    session: Session<E>,
    /// Steps since the last reset; `None` before the first.
    steps: Option<u64>,
    /// Width and height of the first picture.
    picture: Cell<Option<(u32, u32)>>,
}

impl<E: Environment> Native<E> {
    /// Creates the env that `config`, a JSON object, describes.
    ///
    /// # Errors
    ///
    /// An error of [`Environment::create`]; a config that does not fit its type.
    #[track_caller]
    pub fn new(config: &str) -> Result<Self, CreateError> {
        Ok(Self { session: Session::create(config)?, steps: None, picture: Cell::new(None) })
    }

    /// Begins an episode; `options` is a JSON object.
    ///
    /// # Errors
    ///
    /// An error of [`Environment::reset`]; options that do not fit their type.
    ///
    /// # Panics
    ///
    /// If the env makes a [mistake](Self).
    #[track_caller]
    pub fn reset(&mut self, seed: Option<u64>, options: Option<&str>) -> Result<View<E>, EnvError> {
        let view = match self.session.reset_unmasked(seed, options) {
            Err(error @ (EnvError::InvalidOptions(_) | EnvError::Unsupported(_))) if options.is_some() => {
                return Err(error);
            }
            Err(error) if is_refusal(&error) => {
                self.blame(Some(0), &format!("the env refuses a reset without options: {}", said(&error)));
            }
            answer => answer?,
        };
        self.steps = Some(0);
        self.judge(&view.observation, &view.info);
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
    /// If the env makes a [mistake](Self).
    #[track_caller]
    #[expect(clippy::needless_pass_by_value, reason = "as the trait takes it")]
    pub fn step(&mut self, action: Action<E>) -> Result<Step<E>, EnvError> {
        // An ended episode is the first thing to say, as it is in a component.
        self.session.needs_running()?;
        let spec = &self.session.spec;
        let action = space::encode(&spec.action_space, &action, 0)
            .and_then(|bytes| space::decode_action(&spec.action_space, &bytes, spec.outside))
            .map_err(|mismatch| EnvError::InvalidAction(mismatch.to_string()))?;
        self.session.may_take(&action)?;
        let (shown, may_refuse) = (format!("{action:?}"), self.session.may_refuse(&action));
        let step = match self.session.take(action) {
            Err(error @ EnvError::InvalidAction(_)) if may_refuse => return Err(error),
            Err(error) if is_refusal(&error) => {
                let next = self.steps.map(|steps| steps + 1);
                let why = "which is in its space, and open in its mask if there is one";
                self.blame(next, &format!("the env refuses the action {shown}, {why}: {}", said(&error)));
            }
            answer => answer?,
        };
        self.steps = self.steps.map(|steps| steps + 1);
        if !step.reward.is_finite() {
            self.blame(self.steps, &format!("the reward is {:?}, which is no finite number", step.reward));
        }
        self.judge(&step.observation, &step.info);
        Ok(step)
    }

    /// Draws the present state.
    ///
    /// # Errors
    ///
    /// An error of [`Environment::render`]; [`EnvError::Unsupported`] for a mode that is not declared.
    ///
    /// # Panics
    ///
    /// If the env makes a [mistake](Self).
    #[track_caller]
    pub fn render(&self, mode: RenderMode) -> Result<Frame, EnvError> {
        let frame = match self.session.render(mode) {
            Err(EnvError::Unsupported(message)) if E::RENDER_MODES.contains(&mode) => self
                .blame(self.steps, &format!("the mode `{}` is declared and has no picture: {message}", name_of(mode))),
            answer => answer?,
        };
        if let Err(mistake) = self.check_frame(mode, &frame) {
            self.blame(self.steps, &mistake);
        }
        Ok(frame)
    }

    fn check_frame(&self, mode: RenderMode, frame: &Frame) -> Result<(), String> {
        let image = match (mode, frame) {
            (RenderMode::Ansi, Frame::Text(_)) => return Ok(()),
            (RenderMode::RgbArray, Frame::Rgb(image)) => image,
            (RenderMode::Ansi, Frame::Rgb(_)) => return Err("a picture of pixels for the mode `ansi`".to_owned()),
            (RenderMode::RgbArray, Frame::Text(_)) => return Err("a text for the mode `rgb-array`".to_owned()),
        };
        let (width, height, bytes) = (image.width, image.height, image.pixels.len());
        let expected = u64::from(width) * u64::from(height) * 3;
        if expected == 0 {
            return Err(format!("a picture of {width} by {height} pixels: it has none"));
        }
        if bytes as u64 != expected {
            return Err(format!("a picture of {width} by {height} pixels has {bytes} bytes instead of {expected}"));
        }
        match self.picture.replace(Some((width, height))) {
            Some(before) if before != (width, height) => Err(format!(
                "a picture of {width} by {height} pixels after one of {} by {}: all pictures have one size",
                before.0, before.1
            )),
            _ => Ok(()),
        }
    }

    /// Asks for the mask of an answer, and panics if the answer is a mistake.
    #[track_caller]
    fn judge(&mut self, observation: &Observation<E>, info: &Info<E>) {
        if let Err(EnvError::Failed(mistake)) = self.session.update_mask() {
            self.blame(self.steps, &mistake);
        }
        if let Err(mistake) = self.session.check(observation, info) {
            self.blame(self.steps, &mistake);
        }
    }

    #[track_caller]
    fn blame(&self, step: Option<u64>, mistake: &str) -> ! {
        let name = E::NAME;
        match step {
            None => panic!("{name}, before the first reset: {mistake}"),
            Some(0) => panic!("{name}, at the reset: {mistake}"),
            Some(step) => panic!("{name}, at step {step} since the reset: {mistake}"),
        }
    }

    /// Begins new random streams for the rest of the episode.
    ///
    /// # Errors
    ///
    /// An error of [`Environment::reseed`].
    pub fn reseed(&mut self, seed: u64) -> Result<(), EnvError> {
        self.session.reseed(seed)
    }

    /// The last answer of [`Environment::action_mask`]; empty for an env without masks.
    #[must_use]
    pub fn action_mask(&self) -> Vec<bool> {
        self.session.mask().iter().map(|&byte| byte == 1).collect()
    }

    /// The env itself.
    #[must_use]
    pub fn env(&self) -> &E {
        &self.session.env
    }

    /// The spec of this env, in the interface's terms.
    #[must_use]
    pub fn spec(&self) -> crate::raw::Spec {
        self.session.describe_spec()
    }

    /// The JSON Schema of the config.
    #[must_use]
    pub fn config_schema() -> serde_json::Value {
        schema_of::<E::Config>()
    }
}

/// Whether an error says that the caller is wrong. The others end the instance: an env may have reasons for them.
fn is_refusal(error: &EnvError) -> bool {
    !matches!(error, EnvError::Restart(_) | EnvError::Failed(_))
}

/// The kind and the message of an error.
fn said(error: &EnvError) -> String {
    match error {
        EnvError::NeedsReset => "it needs a reset".to_owned(),
        EnvError::InvalidAction(message) => format!("invalid action: {message}"),
        EnvError::InvalidOptions(message) => format!("invalid options: {message}"),
        EnvError::Unsupported(message) => format!("unsupported: {message}"),
        EnvError::Restart(message) | EnvError::Failed(message) => message.clone(),
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
