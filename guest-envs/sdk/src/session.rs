//! One env and what surrounds it on either side of the border: its spaces, its generator, and where it is in an
//! episode.
//!
//! On the path of a step: the host's call → export → **session** → the author's `step`, and back.
//! Knows the interface's types and the bytes of values; knows nothing of how the component is entered.

use std::hash::{BuildHasher, RandomState};

use schemars::JsonSchema;
use schemars::generate::SchemaSettings;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use crate::info::tree_of;
use crate::raw;
use crate::space::{self, Mask, Writer};
use crate::{Action, CreateError, EnvError, Environment, Frame, Info, InfoFields, NumpyRng, Observation, RenderMode};
use crate::{ActionMask, Space, Spec, Step, View};

/// The most choices that an action mask may list. Each takes a byte with every step: larger spaces are not masked.
const MASK_CHOICES_MAX: u64 = 1 << 20;

/// A created env.
pub(crate) struct Session<E: Environment> {
    pub(crate) env: E,
    pub(crate) spec: Spec<E>,
    observation_bytes: usize,
    pub(crate) action_bytes: usize,
    mask_bytes: usize,
    /// The mask of the last answer; empty unless masked.
    mask: Vec<u8>,
    /// The generator; `None` until the first seed.
    rng: Option<NumpyRng>,
    episode: Episode,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Episode {
    NeverBegan,
    Running,
    Ended,
}

/// The description of an env; see [`Environment`]'s constants.
pub(crate) fn describe<E: Environment>(version: &str) -> raw::Description {
    let want = |want: &crate::Want| raw::Want {
        kind: want.kind,
        example: want.example.to_owned(),
        reason: want.reason.to_owned(),
        required: want.required,
    };
    raw::Description {
        name: E::NAME.to_owned(),
        version: version.to_owned(),
        summary: E::SUMMARY.to_owned(),
        config_schema: schema_of::<E::Config>().to_string(),
        render_modes: E::RENDER_MODES.to_vec(),
        render_fps: E::RENDER_FPS,
        wants: E::WANTS.iter().map(want).collect(),
        runtime: String::new(),
        warm_up: false,
    }
}

/// The schema of the config, without references and closed against unknown keys.
pub(crate) fn schema_of<C: JsonSchema>() -> Value {
    let settings = SchemaSettings::draft2020_12().with(|settings| settings.inline_subschemas = true);
    let mut schema = settings.into_generator().into_root_schema_for::<C>();
    schema.insert("additionalProperties".to_owned(), Value::Bool(false));
    schema.to_value()
}

impl<E: Environment> Session<E> {
    pub(crate) fn create(config: &str) -> Result<Self, CreateError> {
        let config = parse(config).map_err(|message| CreateError::config("", message))?;
        let env = E::create(config)?;
        let spec = env.spec();
        let choices = if spec.mask != ActionMask::None { spec.action_space.choices() } else { 0 };
        if choices > MASK_CHOICES_MAX {
            return Err(CreateError::failed(format!(
                "an action mask of {choices} choices: {MASK_CHOICES_MAX} at most"
            )));
        }
        Ok(Self {
            observation_bytes: space::size_of(&spec.observation_space),
            action_bytes: space::size_of(&spec.action_space),
            mask_bytes: usize::try_from(choices).expect("bounded above"),
            mask: Vec::new(),
            rng: None,
            episode: Episode::NeverBegan,
            env,
            spec,
        })
    }

    /// The spec in the interface's terms.
    pub(crate) fn describe_spec(&self) -> raw::Spec {
        raw::Spec {
            observation_space: tree_of(&self.spec.observation_space),
            action_space: tree_of(&self.spec.action_space),
            action_masked: self.spec.mask != ActionMask::None,
            actions_out_of_bounds: self.spec.outside,
            info_fields: self.spec.info_space.describe(),
            max_episode_steps: self.spec.max_episode_steps,
            reward_threshold: self.spec.reward_threshold,
        }
    }

    /// Resets, and asks for the mask.
    pub(crate) fn reset(&mut self, seed: Option<u64>, options: Option<&str>) -> Result<View<E>, EnvError> {
        let view = self.reset_unmasked(seed, options)?;
        self.update_mask()?;
        Ok(view)
    }

    /// Resets, with options of the env's own type. The mask is still that of the answer before.
    pub(crate) fn reset_unmasked(&mut self, seed: Option<u64>, options: Option<&str>) -> Result<View<E>, EnvError> {
        let options = options.map(parse).transpose().map_err(EnvError::InvalidOptions)?.unwrap_or_default();
        // The generator is replaced only when the env has accepted: a refused reset changes nothing.
        let mut rng = match seed {
            Some(seed) => NumpyRng::new(seed),
            None => self.rng.take().unwrap_or_else(unseeded),
        };
        let before = seed.is_none().then(|| rng.clone());
        let view = match self.env.reset(&mut rng, options) {
            Ok(view) => view,
            Err(error) => {
                self.rng = before.or(self.rng.take());
                return Err(error);
            }
        };
        self.rng = Some(rng);
        self.episode = Episode::Running;
        Ok(view)
    }

    pub(crate) fn reset_bytes(&mut self, seed: Option<u64>, options: Option<&str>) -> Result<raw::View, EnvError> {
        let View { observation, info, extra } = self.reset(seed, options)?;
        self.encode(&observation, &info, extra.as_deref())
    }

    /// Takes a step, and asks for the mask.
    #[inline]
    pub(crate) fn step(&mut self, action: Action<E>) -> Result<Step<E>, EnvError> {
        self.may_take(&action)?;
        let step = self.take(action)?;
        self.update_mask()?;
        Ok(step)
    }

    /// Refuses an action outside an episode, or one that the mask forbids.
    #[inline]
    pub(crate) fn may_take(&self, action: &Action<E>) -> Result<(), EnvError> {
        self.needs_running()?;
        if self.spec.mask == ActionMask::Rule && !self.spec.action_space.allows(action, &mut Mask(&self.mask)) {
            return Err(EnvError::invalid_action("the action mask does not allow it"));
        }
        Ok(())
    }

    /// Takes a step with an action that [may be taken](Self::may_take). The mask is still that of the answer before.
    #[inline]
    pub(crate) fn take(&mut self, action: Action<E>) -> Result<Step<E>, EnvError> {
        let Some(rng) = self.rng.as_mut().filter(|_| self.episode == Episode::Running) else {
            return Err(EnvError::NeedsReset);
        };
        let step = self.env.step(rng, action)?;
        if step.terminated || step.truncated {
            self.episode = Episode::Ended;
        }
        Ok(step)
    }

    /// As [`step_bytes`](Self::step_bytes), with the observation behind others.
    #[inline]
    fn step_into(&mut self, action: &[u8], observations: &mut space::Writer) -> Result<raw::Transition, EnvError> {
        self.needs_running()?;
        let action = space::decode_action(&self.spec.action_space, action, self.spec.outside)
            .map_err(|mismatch| EnvError::InvalidAction(mismatch.to_string()))?;
        let Step { observation, reward, terminated, truncated, info, extra } = self.step(action)?;
        space::append(&self.spec.observation_space, &observation, observations)
            .map_err(|mismatch| EnvError::Failed(format!("observation: {mismatch}")))?;
        let view = self.encode_beside(Vec::new(), &info, extra.as_deref())?;
        Ok(raw::Transition { view, reward, terminated, truncated })
    }

    #[inline]
    pub(crate) fn step_bytes(&mut self, action: &[u8]) -> Result<raw::Transition, EnvError> {
        self.needs_running()?;
        let action = space::decode_action(&self.spec.action_space, action, self.spec.outside)
            .map_err(|mismatch| EnvError::InvalidAction(mismatch.to_string()))?;
        let Step { observation, reward, terminated, truncated, info, extra } = self.step(action)?;
        let view = self.encode(&observation, &info, extra.as_deref())?;
        Ok(raw::Transition { view, reward, terminated, truncated })
    }

    pub(crate) fn step_many(&mut self, actions: &[u8], count: u32) -> raw::Transitions {
        let mut taken = raw::Transitions {
            taken: 0,
            observations: Vec::new(),
            action_masks: Vec::new(),
            infos: Vec::new(),
            infos_extra: Vec::new(),
            rewards: Vec::new(),
            terminated: false,
            truncated: false,
            error: None,
        };
        let given = actions.len();
        if Some(given) != self.action_bytes.checked_mul(count as usize) {
            let message = format!("{given} bytes for {count} actions of {} bytes", self.action_bytes);
            taken.error = Some(EnvError::InvalidAction(message));
            return taken;
        }
        let mut observations =
            space::Writer::with_capacity(self.observation_bytes.saturating_mul(count.min(64) as usize));
        for index in 0..count as usize {
            let action = &actions[index * self.action_bytes..(index + 1) * self.action_bytes];
            let before = observations.len();
            let step = match self.step_into(action, &mut observations) {
                Ok(step) => step,
                Err(error) => {
                    observations.truncate(before);
                    taken.error = Some(error);
                    break;
                }
            };
            taken.taken += 1;
            taken.action_masks.extend(step.view.action_mask);
            taken.infos.extend(step.view.info);
            taken.infos_extra.push(step.view.info_extra);
            taken.rewards.push(step.reward);
            (taken.terminated, taken.truncated) = (step.terminated, step.truncated);
            if self.episode == Episode::Ended {
                break;
            }
        }
        taken.observations = observations.into_bytes();
        if taken.infos_extra.iter().all(String::is_empty) {
            taken.infos_extra.clear();
        }
        taken
    }

    pub(crate) fn render(&self, mode: RenderMode) -> Result<Frame, EnvError> {
        if !E::RENDER_MODES.contains(&mode) {
            return Err(EnvError::unsupported(format!("{} has no render mode `{}`", E::NAME, name_of(mode))));
        }
        match self.episode {
            Episode::NeverBegan => Err(EnvError::NeedsReset),
            Episode::Running | Episode::Ended => self.env.render(mode),
        }
    }

    pub(crate) fn reseed(&mut self, seed: u64) -> Result<(), EnvError> {
        let mut rng = NumpyRng::new(seed);
        self.env.reseed(&mut rng)?;
        self.rng = Some(rng);
        Ok(())
    }

    pub(crate) fn call(&mut self, method: &str, arguments: &str) -> Result<String, EnvError> {
        let arguments = parse(arguments).map_err(|message| EnvError::unsupported(format!("arguments: {message}")))?;
        self.env.call(method, arguments).map(|result| result.to_string())
    }

    pub(crate) fn get_attribute(&self, name: &str) -> Result<String, EnvError> {
        self.env.get_attribute(name).map(|value| value.to_string())
    }

    pub(crate) fn set_attribute(&mut self, name: &str, value: &str) -> Result<(), EnvError> {
        let value = parse(value).map_err(|message| EnvError::unsupported(format!("value: {message}")))?;
        self.env.set_attribute(name, value)
    }

    /// Refuses an action before the first reset or after an episode's end.
    #[inline]
    pub(crate) fn needs_running(&self) -> Result<(), EnvError> {
        if self.episode == Episode::Running { Ok(()) } else { Err(EnvError::NeedsReset) }
    }

    /// The mask of the last answer.
    pub(crate) fn mask(&self) -> &[u8] {
        &self.mask
    }

    /// Checks what `rollcage check` checks of an answer whose mask has been asked for: the values are in their spaces, and
    /// while the episode goes on, the mask leaves an action open.
    pub(crate) fn check(&self, observation: &Observation<E>, info: &Info<E>) -> Result<(), String> {
        space::check(&self.spec.observation_space, observation)
            .map_err(|mismatch| format!("the observation is not in its space: {mismatch}"))?;
        self.spec.info_space.check(info).map_err(|mismatch| format!("the info is not in its space: {mismatch}"))?;
        match self.spec.mask != ActionMask::None && self.episode == Episode::Running {
            true => self.check_open(),
            false => Ok(()),
        }
    }

    /// Checks that the mask leaves an option of every choice open.
    fn check_open(&self) -> Result<(), String> {
        // A mask has the leaves' order, and so have the nodes of the tree.
        let options = tree_of(&self.spec.action_space).nodes.into_iter().flat_map(|node| match node {
            raw::SpaceNode::Discrete(node) => vec![node.n],
            raw::SpaceNode::MultiDiscrete(node) => node.nvec,
            _ => Vec::new(),
        });
        let mut start = 0;
        for n in options {
            let end = start + usize::try_from(n).expect("a mask is bounded");
            if self.mask[start..end].iter().all(|&byte| byte == 0) {
                let (last, of) = (end - 1, self.mask.len());
                return Err(format!(
                    "the action mask leaves no action open while the episode goes on: {start} to {last} of its {of} \
                     choices are all false"
                ));
            }
            start = end;
        }
        Ok(())
    }

    /// Whether the env may refuse this action: it has no mask, its mask closes the action, or the action is out of bounds.
    pub(crate) fn may_refuse(&self, action: &Action<E>) -> bool {
        let space = &self.spec.action_space;
        self.spec.mask == ActionMask::None
            || !space.allows(action, &mut Mask(&self.mask))
            || space::check(space, action).is_err()
    }

    /// Asks the env for its mask.
    #[inline]
    pub(crate) fn update_mask(&mut self) -> Result<(), EnvError> {
        if self.spec.mask == ActionMask::None {
            return Ok(());
        }
        let mask = self.env.action_mask();
        if mask.len() != self.mask_bytes {
            let message = format!("an action mask of {} choices where the space has {}", mask.len(), self.mask_bytes);
            return Err(EnvError::Failed(message));
        }
        self.mask = mask.into_iter().map(u8::from).collect();
        Ok(())
    }

    #[inline]
    fn encode(
        &self,
        observation: &Observation<E>,
        info: &Info<E>,
        extra: Option<&Map<String, Value>>,
    ) -> Result<raw::View, EnvError> {
        let observation = space::encode(&self.spec.observation_space, observation, self.observation_bytes)
            .map_err(|mismatch| EnvError::Failed(format!("observation: {mismatch}")))?;
        self.encode_beside(observation, info, extra)
    }

    /// A view of an observation's bytes.
    #[inline]
    fn encode_beside(
        &self,
        observation: Vec<u8>,
        info: &Info<E>,
        extra: Option<&Map<String, Value>>,
    ) -> Result<raw::View, EnvError> {
        let mut writer = Writer::with_capacity(0);
        self.spec
            .info_space
            .write(info, &mut writer)
            .map_err(|mismatch| EnvError::Failed(format!("info: {mismatch}")))?;
        writer.align_composite();
        let info_extra =
            extra.map_or_else(String::new, |map| serde_json::to_string(map).expect("JSON has string keys"));
        Ok(raw::View { observation, action_mask: self.mask.clone(), info: writer.bytes, info_extra })
    }
}

/// The interface's name of a render mode.
pub(crate) fn name_of(mode: RenderMode) -> &'static str {
    match mode {
        RenderMode::RgbArray => "rgb-array",
        RenderMode::Ansi => "ansi",
    }
}

/// A generator for a first reset that came without a seed: from the system's randomness, as Gymnasium's is.
fn unseeded() -> NumpyRng {
    NumpyRng::new(RandomState::new().hash_one(()))
}

/// Turns JSON into a value. The error has no position, since the user wrote no text.
pub(crate) fn parse<T: DeserializeOwned>(json: &str) -> Result<T, String> {
    serde_json::from_str(json).map_err(|error| {
        let message = error.to_string();
        message.rsplit_once(" at line ").map_or(message.as_str(), |(message, _)| message).to_owned()
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::prelude::*;

    /// Counts to its action, in one-byte spaces so that padding shows; ends at 3, and tells of 2 in JSON.
    struct Count(u8);

    impl Environment for Count {
        type Config = NoConfig;
        type Options = NoOptions;
        type ObservationSpace = BoxSpace<u8>;
        type ActionSpace = BoxSpace<u8>;
        type InfoSpace = NoInfo;

        const NAME: &'static str = "count";
        const SUMMARY: &'static str = "";

        fn create(_config: NoConfig) -> Result<Self, CreateError> {
            Ok(Self(0))
        }

        fn spec(&self) -> Spec<Self> {
            Spec::new(BoxSpace::all(0, 9), BoxSpace::all(0, 9))
        }

        fn reset(&mut self, _rng: &mut NumpyRng, _options: NoOptions) -> Result<View<Self>, EnvError> {
            self.0 = 0;
            Ok(View::new(0))
        }

        fn step(&mut self, _rng: &mut NumpyRng, action: u8) -> Result<Step<Self>, EnvError> {
            self.0 += action;
            let step = Step::new(self.0, f64::from(action)).terminated(self.0 >= 3);
            Ok(if self.0 == 2 { step.extra("two", true) } else { step })
        }
    }

    /// Two choices, of which the mask leaves the first open.
    struct Choice<const ADVICE: bool>;

    impl<const ADVICE: bool> Environment for Choice<ADVICE> {
        type Config = NoConfig;
        type Options = NoOptions;
        type ObservationSpace = Discrete;
        type ActionSpace = Discrete;
        type InfoSpace = NoInfo;

        const NAME: &'static str = "choice";
        const SUMMARY: &'static str = "";

        fn create(_config: NoConfig) -> Result<Self, CreateError> {
            Ok(Self)
        }

        fn spec(&self) -> Spec<Self> {
            let spec = Spec::new(Discrete::new(2), Discrete::new(2));
            if ADVICE { spec.advised() } else { spec.masked() }
        }

        fn reset(&mut self, _rng: &mut NumpyRng, _options: NoOptions) -> Result<View<Self>, EnvError> {
            Ok(View::new(0))
        }

        fn step(&mut self, _rng: &mut NumpyRng, action: i64) -> Result<Step<Self>, EnvError> {
            Ok(Step::new(action, 0.0))
        }

        fn action_mask(&self) -> Vec<bool> {
            vec![true, false]
        }
    }

    #[test]
    fn a_mask_is_a_rule_or_advice() {
        let mut rule = Session::<Choice<false>>::create("{}").expect("a config");
        rule.reset(Some(0), None).expect("a reset");
        assert!(matches!(rule.step(1), Err(EnvError::InvalidAction(_))));
        assert!(rule.step(0).is_ok());

        let mut advice = Session::<Choice<true>>::create("{}").expect("a config");
        advice.reset(Some(0), None).expect("a reset");
        assert_eq!(advice.step(1).map(|step| step.observation), Ok(1));
        assert_eq!(advice.mask(), [1, 0]);
        assert!(advice.describe_spec().action_masked);
    }

    fn actions(of: &[u8]) -> Vec<u8> {
        of.iter().flat_map(|&action| [action, 0, 0, 0, 0, 0, 0, 0]).collect()
    }

    #[test]
    fn many_steps_are_as_many_single_ones() {
        let mut many = Session::<Count>::create("{}").expect("a config");
        assert_eq!(many.step_many(&actions(&[1]), 1).error, Some(EnvError::NeedsReset));
        many.reset_bytes(Some(0), None).expect("a reset");
        let taken = many.step_many(&actions(&[1, 1, 0, 1, 1]), 5);
        assert_eq!((taken.taken, taken.terminated, taken.error), (4, true, None), "up to the end of the episode");
        assert_eq!(taken.observations, actions(&[1, 2, 2, 3]));
        assert_eq!(taken.rewards, [1.0, 1.0, 0.0, 1.0]);
        assert_eq!(taken.infos_extra, ["", r#"{"two":true}"#, r#"{"two":true}"#, ""]);
        assert_eq!(many.step_many(&actions(&[1]), 1).error, Some(EnvError::NeedsReset));

        many.reset_bytes(None, None).expect("a reset");
        let taken = many.step_many(&actions(&[1, 10, 1]), 3);
        assert_eq!((taken.taken, taken.observations, taken.infos_extra), (1, actions(&[1]), Vec::new()));
        assert_eq!(taken.error, Some(EnvError::invalid_action("10 is not within 0 and 9")));
        assert_eq!(many.step_many(&actions(&[1]), 2).taken, 0, "too few bytes for two");
        assert_eq!(many.step_bytes(&actions(&[1])).expect("a step").view.observation, actions(&[2]));
    }

    #[test]
    fn actions_of_another_length_are_refused() {
        let mut session = Session::<Count>::create("{}").expect("a config");
        session.reset_bytes(Some(0), None).expect("a reset");
        for length in [0, 1, 7, 9, 16] {
            let refused = session.step_bytes(&vec![0; length]);
            assert!(matches!(refused, Err(EnvError::InvalidAction(_))), "{length}");
        }
    }

    #[test]
    fn what_there_is_not_is_unsupported() {
        let mut session = Session::<Count>::create("{}").expect("a config");
        session.reset_bytes(Some(0), None).expect("a reset");
        let refusals = [
            session.render(RenderMode::Ansi).err(),
            session.call("fly", "{}").err(),
            session.get_attribute("wings").err(),
            session.set_attribute("wings", "2").err(),
        ];
        assert_eq!(
            refusals.map(|error| format!("{error:?}")),
            [
                r#"Some(EnvError::Unsupported("count has no render mode `ansi`"))"#,
                r#"Some(EnvError::Unsupported("count has no method `fly`"))"#,
                r#"Some(EnvError::Unsupported("count has no attribute `wings`"))"#,
                r#"Some(EnvError::Unsupported("count has no attribute `wings` that can be set"))"#,
            ]
        );
    }
}
