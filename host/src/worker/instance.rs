//! STEP 5: one env in one store: create, reset, step, and the rest of the interface.
//!
//! On the path of a step: vec_env → slab → wait → worker/serve → **worker/instance** → slab.
//! This file knows the guest's functions, its clock and fuel, and the names of traps. It knows nothing of slabs, sockets or
//! time. Whether an observation is in its space is checked in `serve`, which has the layouts.

use std::time::Duration;

use super::answer::{CallError, Frame, Transition, Transitions, View, guest_fault};
use super::bindings::{CreateError, Exports, Pre};
use super::running::{FUEL_UNBOUNDED, Running};
use crate::fault::{FaultKind, MESSAGE_BYTES_MAX};
use crate::json;
use crate::spec::{Description, RenderMode, Spec};
use crate::text::cut;
use crate::wire::slab::layout::ViewLayout;
use crate::wire::slab::{INFO_EXTRA_BYTES_MAX, JSON_BYTES_MAX};
use crate::wire::talk::{EnvError, GuestFault};
use crate::worker::load::Loaded;
use crate::worker::wasi::guest::{Mark, Outside};
use crate::worker::wasi::random::{key_create, key_reseed, key_reset};
use crate::worker::wasi::streams::Log;

/// Config errors kept of one `create`: a person reads only the first few.
const CONFIG_ERRORS_MAX: usize = 32;

/// Bytes of each path and message of these errors: 32 of them fit one control message.
const CONFIG_ERROR_BYTES_MAX: usize = 512;

/// Declared info fields. Gymnasium's envs have a handful; each field is looked at in every step.
const INFO_FIELDS_MAX: usize = 256;

/// Bytes of an info field's name.
const INFO_NAME_BYTES_MAX: usize = 128;

/// The settings of an instance, beside its code.
#[derive(Clone, Debug)]
pub(crate) struct InstanceSettings {
    /// Bytes of all linear memories together.
    pub(crate) memory_bytes: u64,
    /// The fuel of each step; it counts only with code that was compiled for fuel.
    pub(crate) fuel_per_step: Option<u64>,
    /// The time between the beginnings of two steps on the guest's clock.
    pub(crate) clock_step: Duration,
    /// SHA-256 of the plugin's file, a part of the first random key.
    pub(crate) plugin_sha256: [u8; 32],
}

/// The reason why there is no env.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum CreateFailure {
    /// The config is wrong in ways that the schema cannot express: dotted paths and messages.
    Config(Vec<(String, String)>),
    /// All other reasons.
    Fault(GuestFault),
}

/// One env.
///
/// After a fault it must not be called again: the guest's memory is as the trap left it.
pub(crate) struct Instance {
    running: Running<Exports>,
    settings: InstanceSettings,
}

impl Instance {
    /// Instantiates the component: the guest's first instructions run here.
    ///
    /// # Errors
    ///
    /// A fault of kind `memory`, `trap` or `stack_overflow`: a limit was reached, or the guest's start trapped.
    pub(crate) fn new(
        loaded: &Loaded,
        settings: &InstanceSettings,
        outside: Outside,
        log: Box<dyn Log>,
    ) -> Result<Instance, GuestFault> {
        let key = key_create(&settings.plugin_sha256, "");
        let running = Running::new(loaded, settings.memory_bytes, key, outside, log, Pre::instantiate)?;
        Ok(Instance { running, settings: settings.clone() })
    }

    /// Asks the plugin to describe itself. Works without `create`.
    ///
    /// # Errors
    ///
    /// The guest's fault. The content of the description is not checked here.
    pub(crate) fn describe(&mut self) -> Result<Description, GuestFault> {
        self.running.call(FUEL_UNBOUNDED, |exports, store| exports.describe(store))
    }

    /// Creates the env. `config` is valid, complete, canonical JSON; the random stream begins anew from it.
    ///
    /// # Errors
    ///
    /// The guest refuses the config, or a fault; of kind `create_failed` if the spec breaks the interface or does not
    /// fit a slab.
    pub(crate) fn create(&mut self, config: &str) -> Result<Spec, CreateFailure> {
        self.running.guest_mut().rekey(key_create(&self.settings.plugin_sha256, config));
        let answer =
            self.running.call(FUEL_UNBOUNDED, |e, store| e.create(store, config)).map_err(CreateFailure::Fault)?;
        self.running.guest().end_call(true);
        let failed = |reason: String| CreateFailure::Fault(guest_fault(FaultKind::CreateFailed, reason));
        match answer {
            Ok(spec) => check_spec(&spec).map_err(failed).map(|()| spec),
            Err(CreateError::Spec(reason)) => Err(failed(reason)),
            Err(CreateError::Failed(reason)) => Err(failed(reason)),
            Err(CreateError::Config(mut errors)) => {
                errors.truncate(CONFIG_ERRORS_MAX);
                for (path, message) in &mut errors {
                    cut(path, CONFIG_ERROR_BYTES_MAX);
                    cut(message, CONFIG_ERROR_BYTES_MAX);
                }
                Err(CreateFailure::Config(errors))
            }
        }
    }

    /// Begins an episode. A seed starts the random stream anew; without a seed the stream goes on.
    ///
    /// # Errors
    ///
    /// The guest refuses the options, or a fault.
    pub(crate) fn reset(&mut self, seed: Option<u64>, options: Option<&str>) -> Result<View, CallError> {
        let mark = self.running.guest().mark();
        if let Some(seed) = seed {
            self.running.guest_mut().rekey(key_reset(seed));
        }
        let answer = self.running.call(FUEL_UNBOUNDED, |exports, store| exports.reset(store, seed, options))?;
        check_view(self.after_call(mark, answer)?)
    }

    /// Takes one step, with the clock moved to the step's beginning and with the step's own fuel.
    ///
    /// # Errors
    ///
    /// The guest refuses the action, or a fault.
    pub(crate) fn step(&mut self, action: &[u8]) -> Result<Transition, CallError> {
        let mark = self.running.guest().mark();
        self.running.guest_mut().begin_step(self.settings.clock_step);
        let fuel = self.settings.fuel_per_step.unwrap_or(FUEL_UNBOUNDED);
        let answer = self.running.call(fuel, |exports, store| exports.step(store, action))?;
        let transition = self.after_call(mark, answer)?;
        Ok(Transition { view: check_view(transition.view)?, ..transition })
    }

    /// Runs the guest's own loop over its steps, in one call. None: the guest asked for the time, which passes between steps
    /// and not within the loop, so that its answers may be others than those of single steps. Lists are not checked.
    ///
    /// # Errors
    ///
    /// A fault.
    pub(crate) fn step_many(&mut self, actions: &[u8], count: u32) -> Result<Option<Transitions>, GuestFault> {
        let clock_step = self.settings.clock_step;
        self.running.guest_mut().begin_step(clock_step);
        self.running.guest().watch_clock();
        let steps = self.running.call(FUEL_UNBOUNDED, |exports, store| exports.step_many(store, actions, count))?;
        self.running.guest().end_call(true);
        if self.running.guest().asked_the_clock() {
            return Ok(None);
        }
        // The clock goes on as if each step had begun.
        for _ in 1..steps.taken.min(count) {
            self.running.guest_mut().begin_step(clock_step);
        }
        Ok(Some(steps))
    }

    /// Tells the instance that this process is a copy of the env's: captured input is not recorded from now on.
    pub(crate) fn is_a_copy(&self) {
        self.running.guest().mute_capture();
    }

    /// Renders the present state. This is not an event: clock and random stream are then set back.
    ///
    /// # Errors
    ///
    /// The guest has no such mode, or a fault.
    pub(crate) fn render(&mut self, mode: RenderMode) -> Result<Frame, CallError> {
        let mark = self.running.guest().mark();
        self.running.guest().set_aside(true);
        let answer = self.running.call(FUEL_UNBOUNDED, |exports, store| exports.render(store, mode))?;
        self.running.guest().set_aside(false);
        self.running.guest_mut().rewind(&mark);
        let frame = check_frame(answer?)?;
        match (mode, &frame) {
            (RenderMode::RgbArray, Frame::Rgb { .. }) | (RenderMode::Ansi, Frame::Text(_)) => Ok(frame),
            (RenderMode::RgbArray, Frame::Text(_)) => {
                Err(bad_answer("it rendered text where pixels were asked for".to_owned()))
            }
            (RenderMode::Ansi, Frame::Rgb { .. }) => {
                Err(bad_answer("it rendered pixels where text was asked for".to_owned()))
            }
        }
    }

    /// Starts new random streams for the future.
    ///
    /// # Errors
    ///
    /// The guest cannot be reseeded, or a fault.
    pub(crate) fn reseed(&mut self, seed: u64) -> Result<(), CallError> {
        let mark = self.running.guest().mark();
        self.running.guest_mut().rekey(key_reseed(seed));
        let answer = self.running.call(FUEL_UNBOUNDED, |exports, store| exports.reseed(store, seed))?;
        self.after_call(mark, answer)
    }

    /// Calls the author's own method. Arguments and result are JSON.
    ///
    /// # Errors
    ///
    /// The guest has no such method, or a fault.
    pub(crate) fn call(&mut self, method: &str, arguments: &str) -> Result<String, CallError> {
        let mark = self.running.guest().mark();
        let answer = self.running.call(FUEL_UNBOUNDED, |exports, store| exports.call(store, method, arguments))?;
        let result = self.after_call(mark, answer)?;
        check_json("the result of a call", &result)?;
        Ok(result)
    }

    /// Reads an attribute, JSON. This is not an event: clock and random stream are then set back.
    ///
    /// # Errors
    ///
    /// The guest has no such attribute, or a fault.
    pub(crate) fn get_attribute(&mut self, name: &str) -> Result<String, CallError> {
        let mark = self.running.guest().mark();
        self.running.guest().set_aside(true);
        let answer = self.running.call(FUEL_UNBOUNDED, |exports, store| exports.get_attribute(store, name))?;
        self.running.guest().set_aside(false);
        self.running.guest_mut().rewind(&mark);
        let value = answer?;
        check_json("an attribute", &value)?;
        Ok(value)
    }

    /// Writes an attribute, JSON.
    ///
    /// # Errors
    ///
    /// The guest has no such attribute, or a fault.
    pub(crate) fn set_attribute(&mut self, name: &str, value: &str) -> Result<(), CallError> {
        let mark = self.running.guest().mark();
        let answer = self.running.call(FUEL_UNBOUNDED, |exports, store| exports.set_attribute(store, name, value))?;
        self.after_call(mark, answer)
    }

    /// Makes the last call of an orderly end.
    ///
    /// # Errors
    ///
    /// The guest's fault, for the log: the instance ends either way.
    pub(crate) fn close(&mut self) -> Result<(), GuestFault> {
        // A goodbye is not an event: the recording may have its checksums already.
        self.running.guest().set_aside(true);
        self.running.call(FUEL_UNBOUNDED, |exports, store| exports.close(store))
    }

    /// Ends a call. A call that the env refused counts as not having happened: a rollout does not record it and a replay does
    /// not make it. So its clock readings and random draws are taken back.
    fn after_call<T>(&mut self, mark: Mark, answer: Result<T, CallError>) -> Result<T, CallError> {
        self.running.guest().end_call(!matches!(answer, Err(CallError::Env(_))));
        answer.map_err(|error| match error {
            CallError::Env(error) => {
                self.running.guest_mut().rewind(&mark);
                CallError::Env(cut_env_error(error))
            }
            fault @ CallError::Fault(_) => fault,
        })
    }
}

fn cut_env_error(mut error: EnvError) -> EnvError {
    match &mut error {
        EnvError::InvalidAction(text) | EnvError::InvalidOptions(text) | EnvError::Unsupported(text) => {
            cut(text, MESSAGE_BYTES_MAX);
        }
        EnvError::NeedsReset => {}
    }
    error
}

/// Checks the rules for a spec beyond its spaces, which `Space::from_nodes` has checked.
fn check_spec(spec: &Spec) -> Result<(), String> {
    if spec.info_fields.len() > INFO_FIELDS_MAX {
        return Err(format!("{} info fields, the limit is {INFO_FIELDS_MAX}", spec.info_fields.len()));
    }
    for (index, field) in spec.info_fields.iter().enumerate() {
        let length = field.name.len();
        if length == 0 || length > INFO_NAME_BYTES_MAX {
            return Err(format!("info field {index}: a name has 1 to {INFO_NAME_BYTES_MAX} bytes, this one {length}"));
        }
        if spec.info_fields.iter().take(index).any(|earlier| earlier.name == field.name) {
            return Err(format!("info field `{}` is declared twice", field.name));
        }
    }
    if spec.max_episode_steps == Some(0) {
        return Err("max-episode-steps is 0; leave it out for no limit".to_owned());
    }
    if spec.reward_threshold.is_some_and(|threshold| !threshold.is_finite()) {
        return Err("reward-threshold is not finite; leave it out for none".to_owned());
    }
    ViewLayout::of(spec).map(|_| ())
}

fn check_view(view: View) -> Result<View, CallError> {
    if view.info_extra.is_empty() {
        return Ok(view);
    }
    let length = view.info_extra.len();
    if length > INFO_EXTRA_BYTES_MAX {
        return Err(bad_answer(format!("info-extra has {length} bytes, the limit is {INFO_EXTRA_BYTES_MAX}")));
    }
    json::check_object("info-extra", &view.info_extra).map_err(bad_answer)?;
    Ok(view)
}

fn check_frame(frame: Frame) -> Result<Frame, CallError> {
    let Frame::Rgb { width, height, ref pixels } = frame else { return Ok(frame) };
    let pixel_count = u64::from(width) * u64::from(height);
    if pixel_count == 0 {
        return Err(bad_answer(format!("a frame of {width} x {height} pixels; each is at least 1")));
    }
    if pixel_count.checked_mul(3) != Some(pixels.len() as u64) {
        return Err(bad_answer(format!("a frame of {width} x {height} pixels has {} bytes", pixels.len())));
    }
    Ok(frame)
}

/// Checks that a text is JSON that the host accepts.
fn check_json(what: &str, text: &str) -> Result<(), CallError> {
    if text.len() > JSON_BYTES_MAX {
        return Err(bad_answer(format!("{what} has {} bytes; the limit is {JSON_BYTES_MAX}", text.len())));
    }
    json::check(what, text).map_err(bad_answer)
}

fn bad_answer(message: String) -> CallError {
    CallError::Fault(guest_fault(FaultKind::BadAnswer, message))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::json::JSON_DEPTH_MAX;
    use crate::space::{InfoField, Space};

    fn view(info_extra: &str) -> View {
        View { observation: Vec::new(), action_mask: Vec::new(), info: Vec::new(), info_extra: info_extra.to_owned() }
    }

    fn is_bad_answer<T: std::fmt::Debug>(result: Result<T, CallError>) -> bool {
        matches!(result, Err(CallError::Fault(GuestFault { kind: FaultKind::BadAnswer, .. })))
    }

    #[test]
    fn info_extra_is_empty_or_an_object() {
        let nested = |levels: usize| format!("{{\"a[\\\"[\": {}{}}}", "[".repeat(levels), "]".repeat(levels));
        for good in ["", "{}", " {\"a\": [1, 2.5, null]}", &nested(JSON_DEPTH_MAX - 1)] {
            assert_eq!(check_view(view(good)), Ok(view(good)));
        }
        let long = format!("{{\"a\": \"{}\"}}", "x".repeat(INFO_EXTRA_BYTES_MAX));
        for bad in [" ", "[]", "null", "{", "{} {}", "{\"a\": NaN}", &long, &nested(JSON_DEPTH_MAX), &nested(30_000)] {
            assert!(is_bad_answer(check_view(view(bad))), "{:.20}", bad);
        }
    }

    #[test]
    fn a_frame_has_the_bytes_of_its_size() {
        let frame = |width, height, bytes| Frame::Rgb { width, height, pixels: vec![0; bytes] };
        assert!(check_frame(frame(2, 3, 18)).is_ok());
        assert!(check_frame(Frame::Text(String::new())).is_ok());
        for bad in [frame(0, 3, 0), frame(3, 0, 0), frame(2, 3, 17), frame(u32::MAX, u32::MAX, 3)] {
            assert!(is_bad_answer(check_frame(bad)));
        }
    }

    #[test]
    fn a_spec_is_refused_in_words() {
        let field = |name: &str| InfoField { name: name.to_owned(), space: Space::Discrete { n: 2, start: 0 } };
        let good = Spec {
            observation_space: Space::Discrete { n: 16, start: 0 },
            action_space: Space::Discrete { n: 4, start: 0 },
            action_masked: true,
            actions_out_of_bounds: Default::default(),
            info_fields: vec![field("a"), field("b")],
            max_episode_steps: Some(1),
            reward_threshold: Some(0.5),
        };
        assert_eq!(check_spec(&good), Ok(()));
        let bad = [
            Spec { info_fields: vec![field("a"), field("a")], ..good.clone() },
            Spec { info_fields: vec![field("")], ..good.clone() },
            Spec { info_fields: vec![field(&"a".repeat(INFO_NAME_BYTES_MAX + 1))], ..good.clone() },
            Spec { max_episode_steps: Some(0), ..good.clone() },
            Spec { reward_threshold: Some(f64::NAN), ..good.clone() },
            Spec { action_space: Space::Discrete { n: u64::MAX >> 1, start: 0 }, ..good.clone() },
        ];
        for spec in bad {
            assert!(check_spec(&spec).is_err(), "{spec:?}");
        }
    }

    #[cfg(feature = "shipped")]
    mod guests {
        use std::os::fd::AsRawFd;

        use super::*;
        use crate::cage::engine::{Backend, EngineSettings};
        use crate::worker::compile::compile;
        use crate::worker::load::load;
        use crate::worker::wasi::streams::LogPipe;

        fn loaded(wasm: &[u8], engine: EngineSettings) -> Loaded {
            let compiled = compile(wasm, &engine).expect("compiled");
            let memfd = rustix::fs::memfd_create("code", rustix::fs::MemfdFlags::CLOEXEC).expect("a memfd");
            let written = rustix::io::write(&memfd, &compiled.code).expect("written");
            assert_eq!(written, compiled.code.len());
            let path = format!("/proc/self/fd/{}", memfd.as_raw_fd());
            load(&path, &engine, &compiled.interface).expect("loaded")
        }

        /// One env of a shipped plugin, with its defaults.
        fn instance(name: &str, loaded: &Loaded, fuel_per_step: Option<u64>) -> Instance {
            let config = match name {
                "cartpole" => r#"{"sutton_barto_reward":false}"#,
                "frozenlake" => r#"{"is_slippery":true,"map_name":"4x4"}"#,
                "blackjack" => r#"{"natural":false,"sab":true}"#,
                _ => "{}",
            };
            let settings = InstanceSettings {
                memory_bytes: 64 << 20,
                fuel_per_step,
                clock_step: Duration::from_millis(20),
                plugin_sha256: [0; 32],
            };
            let mut instance =
                Instance::new(loaded, &settings, Outside::default(), Box::new(LogPipe)).expect("an instance");
            instance.create(config).expect("an env");
            instance
        }

        /// The shipped plugins that run alone. The other plugins need a partner to talk to.
        fn plugins() -> impl Iterator<Item = &'static (&'static str, &'static [u8])> {
            crate::plugin::shipped::PLUGINS.iter().filter(|(name, _)| !matches!(*name, "go" | "short-kick"))
        }

        fn action(step: u32) -> [u8; 8] {
            u64::from(step / 3 % 2).to_le_bytes()
        }

        /// One episode, of at most 40 steps.
        fn episode(instance: &mut Instance) -> Vec<Transition> {
            let mut transitions = Vec::new();
            for step in 0..40 {
                let transition = instance.step(&action(step)).expect("a step");
                let ended = transition.terminated || transition.truncated;
                transitions.push(transition);
                if ended {
                    break;
                }
            }
            transitions
        }

        #[test]
        fn a_guests_own_loop_answers_as_ours() {
            for (name, wasm) in plugins() {
                let loaded = loaded(wasm, EngineSettings::default());
                let mut ours = instance(name, &loaded, None);
                let mut theirs = instance(name, &loaded, None);
                assert_eq!(ours.reset(Some(5), None), theirs.reset(Some(5), None));
                let steps = episode(&mut ours);
                let actions: Vec<u8> = (0..40).flat_map(action).collect();
                let batch = theirs.step_many(&actions, 40).expect("a batch").expect("no clock is read");

                let last = steps.last().expect("a step");
                assert_eq!(batch.taken as usize, steps.len(), "{name}");
                assert_eq!((batch.terminated, batch.truncated), (last.terminated, last.truncated), "{name}");
                assert_eq!(batch.error, None, "{name}");
                let rewards: Vec<f64> = steps.iter().map(|t| t.reward).collect();
                assert_eq!(batch.rewards, rewards, "{name}");
                let joined = |part: fn(&View) -> &Vec<u8>| -> Vec<u8> {
                    steps.iter().flat_map(|t| part(&t.view).iter().copied()).collect()
                };
                assert_eq!(batch.observations, joined(|v| &v.observation), "{name}");
                assert_eq!(batch.action_masks, joined(|v| &v.action_mask), "{name}");
                assert_eq!(batch.infos, joined(|v| &v.info), "{name}");
                assert!(
                    batch.infos_extra.iter().eq(steps.iter().map(|t| &t.view.info_extra).filter(|e| !e.is_empty()))
                );
            }
        }

        #[test]
        fn every_engine_gives_the_same_answers() {
            for (name, wasm) in plugins() {
                let play = |backend, fuel| {
                    let mut instance = instance(name, &loaded(wasm, EngineSettings { backend, fuel }), None);
                    let view = instance.reset(Some(5), None).expect("a reset");
                    (view, episode(&mut instance), instance.reset(None, None).expect("a reset"))
                };
                let native = play(Backend::Native, false);
                assert_eq!(native, play(Backend::Native, true), "{name}: native with fuel");
                assert_eq!(native, play(Backend::Pulley, false), "{name}: pulley");
                assert_eq!(native, play(Backend::Pulley, true), "{name}: pulley with fuel");
                assert_eq!(native, play(Backend::Baseline, false), "{name}: without AVX, FMA and BMI");
            }
        }

        #[test]
        fn every_backend_counts_the_same_fuel_and_a_step_without_enough_is_a_fault() {
            let (name, wasm) = crate::plugin::shipped::PLUGINS.first().expect("a shipped plugin");
            let least = |backend| {
                let loaded = loaded(wasm, EngineSettings { backend, fuel: true });
                let step = |fuel| {
                    let mut instance = instance(name, &loaded, Some(fuel));
                    instance.reset(Some(5), None).expect("resets are not counted");
                    instance.step(&action(0))
                };
                let fault = step(1).expect_err("a fault");
                assert!(matches!(fault, CallError::Fault(GuestFault { kind: FaultKind::Fuel, .. })), "{fault:?}");
                let (mut too_little, mut enough) = (1, 1 << 20);
                while enough - too_little > 1 {
                    let middle = (too_little + enough) / 2;
                    *(if step(middle).is_ok() { &mut enough } else { &mut too_little }) = middle;
                }
                enough
            };
            assert_eq!(least(Backend::Native), least(Backend::Pulley));
        }
    }
}
