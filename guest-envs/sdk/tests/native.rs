//! The mistakes that the native harness finds, and the places that it names.

use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Once;

use rollcage_sdk::prelude::*;
use rollcage_sdk::testing::Native;

thread_local! {
    /// Message, file and line of this thread's last panic.
    static PANIC: RefCell<(String, String, u32)> = const { RefCell::new((String::new(), String::new(), 0)) };
}

/// Runs what must panic: the message, and the place in this file.
fn panic_of<T>(call: impl FnOnce() -> T) -> (String, u32) {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            let place = panic.location().expect("a place");
            let message = panic.payload_as_str().unwrap_or_default().to_owned();
            PANIC.set((message, place.file().to_owned(), place.line()));
            before(panic);
        }));
    });
    assert!(catch_unwind(AssertUnwindSafe(call)).is_err(), "no panic");
    let (message, file, line) = PANIC.take();
    assert_eq!(file, file!(), "{message}");
    (message, line)
}

/// The message of a panic that must have its place on the line of the call.
macro_rules! mistake {
    ($call:expr) => {{
        let (message, line) = panic_of(|| $call);
        assert_eq!(line, line!(), "{message}");
        message
    }};
}

rollcage_sdk::choices! {
    /// What is wrong from the third step on, or at the second reset.
    #[derive(Default)]
    enum What {
        #[default]
        Nothing = "nothing",
        ObservationNan = "observation nan",
        ObservationHigh = "observation high",
        ObservationLong = "observation long",
        InfoHigh = "info high",
        RewardNan = "reward nan",
        RewardInfinite = "reward infinite",
        MaskShort = "mask short",
        MaskClosed = "mask closed",
        MaskClosedAtEnd = "mask closed at end",
        Refuses = "refuses",
        NeedsReset = "needs reset",
        Failed = "failed",
        NoPicture = "no picture",
        Text = "text",
        PictureShort = "picture short",
        PictureGrows = "picture grows",
    }
}

rollcage_sdk::config! {
    struct Config {
        what: What = What::Nothing,
    }
}

rollcage_sdk::info! {
    struct Facts in FactsSpace {
        share: BoxSpace<f64>,
    }
}

/// Two choices of three and two options, and one mistake.
struct Wrong {
    what: What,
    resets: u32,
    steps: u32,
}

impl Wrong {
    fn now(&self, what: What) -> bool {
        self.what == what && (self.steps >= 3 || self.resets >= 2)
    }

    fn observation(&self) -> Vec<f32> {
        if self.now(What::ObservationNan) {
            vec![0.0, f32::NAN]
        } else if self.now(What::ObservationHigh) {
            vec![1.5, 0.0]
        } else if self.now(What::ObservationLong) {
            vec![0.0; 3]
        } else {
            vec![0.0; 2]
        }
    }

    fn facts(&self) -> Facts {
        Facts { share: Some(if self.now(What::InfoHigh) { 2.0 } else { 0.5 }) }
    }
}

impl Environment for Wrong {
    type Config = Config;
    type Options = NoOptions;
    type ObservationSpace = BoxSpace<Vec<f32>>;
    type ActionSpace = (Discrete, Discrete);
    type InfoSpace = FactsSpace;

    const NAME: &'static str = "wrong";
    const SUMMARY: &'static str = "Makes one mistake";
    const RENDER_MODES: &'static [RenderMode] = &[RenderMode::RgbArray];

    fn create(config: Config) -> Result<Self, CreateError> {
        Ok(Self { what: config.what, resets: 0, steps: 0 })
    }

    fn spec(&self) -> Spec<Self> {
        let space = BoxSpace::<Vec<f32>>::shaped(&[2], -1.0, 1.0);
        let info = FactsSpace { share: BoxSpace::all(0.0, 1.0) };
        Spec::with_info(space, (Discrete::new(3), Discrete::new(2)), info).masked()
    }

    fn reset(&mut self, _rng: &mut NumpyRng, _options: NoOptions) -> Result<View<Self>, EnvError> {
        (self.resets, self.steps) = (self.resets + 1, 0);
        match self.now(What::Refuses) {
            true => Err(EnvError::invalid_options("a bad day")),
            false => Ok(View::new(self.observation()).info(self.facts())),
        }
    }

    fn step(&mut self, _rng: &mut NumpyRng, _action: (i64, i64)) -> Result<Step<Self>, EnvError> {
        self.steps += 1;
        if self.now(What::Refuses) {
            return Err(EnvError::invalid_action("not today"));
        } else if self.now(What::NeedsReset) {
            return Err(EnvError::NeedsReset);
        } else if self.now(What::Failed) {
            return Err(EnvError::failed("the simulator is gone"));
        }
        let reward = match self.what {
            What::RewardNan if self.steps == 3 => f64::NAN,
            What::RewardInfinite if self.steps == 3 => f64::NEG_INFINITY,
            _ => 1.0,
        };
        let ends = self.now(What::MaskClosedAtEnd);
        Ok(Step::new(self.observation(), reward).info(self.facts()).terminated(ends))
    }

    fn action_mask(&self) -> Vec<bool> {
        if self.now(What::MaskShort) {
            vec![true; 4]
        } else if self.now(What::MaskClosed) {
            vec![true, true, true, false, false]
        } else if self.now(What::MaskClosedAtEnd) {
            vec![false; 5]
        } else {
            vec![false, true, true, true, true]
        }
    }

    fn render(&self, _mode: RenderMode) -> Result<Frame, EnvError> {
        let side = if self.now(What::PictureGrows) { 3 } else { 2 };
        let Frame::Rgb(mut image) = Canvas::new(side, 2, [0; 3]).into_frame() else { panic!("pixels") };
        match self.what {
            What::NoPicture => return Err(EnvError::unsupported("no picture")),
            What::Text => return Ok(Frame::Text(String::new())),
            What::PictureShort => image.pixels.truncate(11),
            _ => {}
        }
        Ok(Frame::Rgb(image))
    }
}

/// An env after a reset and two steps.
fn env(what: What) -> Native<Wrong> {
    let mut env = Native::<Wrong>::new(&format!(r#"{{"what": "{}"}}"#, what.as_str())).expect("a config");
    env.reset(Some(1), None).expect("a reset");
    for _ in 0..2 {
        env.step((1, 0)).expect("a step");
    }
    env
}

#[test]
fn an_honest_env_passes() {
    let mut env = env(What::Nothing);
    env.step((2, 1)).expect("a step");
    env.render(RenderMode::RgbArray).expect("a picture");
    env.reset(None, None).expect("a reset");
    assert_eq!(env.step((0, 0)).expect_err("masked"), EnvError::invalid_action("the action mask does not allow it"));
    assert_eq!(env.step((3, 0)).expect_err("outside"), EnvError::invalid_action("`0`: 3 is not from 0 to 2"));
    assert!(matches!(env.render(RenderMode::Ansi), Err(EnvError::Unsupported(_))), "not declared");
    assert!(matches!(env.reset(None, Some(r#"{"x": 1}"#)), Err(EnvError::InvalidOptions(_))));
}

#[test]
fn mistakes_of_a_step_are_told_with_the_step() {
    for (what, expected) in [
        (What::ObservationNan, "the observation is not in its space: NaN is not within -1.0 and 1.0"),
        (What::ObservationHigh, "the observation is not in its space: 1.5 is not within -1.0 and 1.0"),
        (What::ObservationLong, "the observation is not in its space: 3 elements in a Box of shape [2], which has 2"),
        (What::InfoHigh, "the info is not in its space: `share`: 2.0 is not within 0.0 and 1.0"),
        (What::RewardNan, "the reward is NaN, which is no finite number"),
        (What::RewardInfinite, "the reward is -inf, which is no finite number"),
        (What::MaskShort, "an action mask of 4 choices where the space has 5"),
        (
            What::MaskClosed,
            "the action mask leaves no action open while the episode goes on: 3 to 4 of its 5 choices are all false",
        ),
        (
            What::Refuses,
            "the env refuses the action (1, 0), which is in its space, and open in its mask if there is one: invalid \
             action: not today",
        ),
        (
            What::NeedsReset,
            "the env refuses the action (1, 0), which is in its space, and open in its mask if there is one: it needs a \
             reset",
        ),
    ] {
        let mut env = env(what);
        assert_eq!(mistake!(env.step((1, 0))), format!("wrong, at step 3 since the reset: {expected}"));
    }
}

#[test]
fn mistakes_of_a_reset_are_told() {
    for (what, expected) in [
        (What::ObservationNan, "the observation is not in its space: NaN is not within -1.0 and 1.0"),
        (What::InfoHigh, "the info is not in its space: `share`: 2.0 is not within 0.0 and 1.0"),
        (What::MaskShort, "an action mask of 4 choices where the space has 5"),
        (What::Refuses, "the env refuses a reset without options: invalid options: a bad day"),
    ] {
        let mut env = env(what);
        assert_eq!(mistake!(env.reset(None, None)), format!("wrong, at the reset: {expected}"));
    }
}

#[test]
fn what_an_env_may_do_is_no_mistake() {
    assert!(env(What::MaskClosedAtEnd).step((1, 0)).expect("a step").terminated);
    assert_eq!(env(What::Failed).step((1, 0)).expect_err("an error"), EnvError::failed("the simulator is gone"));
}

#[test]
fn mistakes_of_a_picture_are_told() {
    for (what, expected) in [
        (What::NoPicture, "the mode `rgb-array` is declared and has no picture: no picture"),
        (What::Text, "a text for the mode `rgb-array`"),
        (What::PictureShort, "a picture of 2 by 2 pixels has 11 bytes instead of 12"),
    ] {
        let env = env(what);
        assert_eq!(mistake!(env.render(RenderMode::RgbArray)), format!("wrong, at step 2 since the reset: {expected}"));
    }
    let mut env = env(What::PictureGrows);
    env.render(RenderMode::RgbArray).expect("a picture");
    env.step((1, 0)).expect("a step");
    assert_eq!(
        mistake!(env.render(RenderMode::RgbArray)),
        "wrong, at step 3 since the reset: a picture of 3 by 2 pixels after one of 2 by 2: all pictures have one size"
    );
}

#[test]
fn spaces_that_cannot_be_made_name_the_authors_line() {
    assert_eq!(mistake!(Discrete::new(0)), "a Discrete has at least one choice");
    assert_eq!(mistake!(Discrete::new(2).starting_at(i64::MAX)), "a Discrete ends within 64 bits");
    assert!(mistake!(BoxSpace::new(vec![0_u8; 2], vec![1; 3])).contains("the bounds of a Box have one shape"));
    assert_eq!(mistake!(BoxSpace::<Vec<u8>>::all(0, 1)), "a Box of a Vec is made with `shaped`");
    assert_eq!(mistake!(BoxSpace::<Vec<u8>>::default()), "a Box of a Vec is made with `shaped`");
    assert!(mistake!(BoxSpace::<[u8; 4]>::all(0, 1).reshaped(&[3])).contains("cannot be reshaped"));
    assert!(mistake!(MultiDiscrete::new([2_i64, 0])).contains("at least one option"));
    assert!(mistake!(MultiDiscrete::new(vec![2]).starting_at(vec![0, 1])).contains("one shape"));
    assert!(mistake!(MultiDiscrete::new([2_i64; 4]).reshaped(&[3])).contains("cannot be reshaped"));
    assert_eq!(mistake!(MultiBinary::<Vec<bool>>::new()), "a MultiBinary of a Vec is made with `shaped`");
    assert_eq!(mistake!(Canvas::new(0, 2, [0; 3])), "a canvas of 0 by 2 pixels");
}
