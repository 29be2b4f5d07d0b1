//! What the hostile guests share: a well-behaved env, the moment at which it stops being one, and a way to change its
//! answers behind the SDK's back.
//!
//! The env counts. Its action space is Discrete(2), its observation a Box of two int64: steps taken in this episode, and
//! the last action (-1 after a reset), so that an answer that belongs to another action shows. Every step is worth 1.

use std::fmt;

use rollcage_sdk::prelude::*;
use rollcage_sdk::serde_json::Value;
use schemars::JsonSchema;
use serde::Deserialize;
use serde::de::DeserializeOwned;

pub mod tamper;

pub use rollcage_sdk;

// There is no null in TOML, in which the table of expectations is written: -1 stands for never and for all.
/// When to misbehave, and how long an episode is: the config keys that every mischief has.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(default)]
pub struct When {
    /// The call to misbehave in.
    pub in_call: Call,
    /// In a step: which one of the episode, counted from 0. -1: never, whatever the call.
    #[schemars(range(min = -1))]
    pub at: i64,
    /// In a step or reset: which episode of the instance, counted from 0. -1: every one.
    #[schemars(range(min = -1))]
    pub episode: i64,
    /// Only while this is the last seed that a reset brought. An env is first reset with another seed in every instance,
    /// so this picks one of them.
    pub only_seed: Option<u64>,
    /// Steps after which an episode terminates. -1: it never does.
    #[schemars(range(min = -1))]
    pub length: i64,
}

impl Default for When {
    fn default() -> Self {
        Self { in_call: Call::Step, at: 3, episode: 0, only_seed: None, length: 8 }
    }
}

/// A function of the interface.
#[derive(Clone, Copy, Debug, Deserialize, serde::Serialize, JsonSchema, PartialEq, Eq)]
#[serde(rename_all = "kebab-case")]
pub enum Call {
    Create,
    Reset,
    Step,
    Render,
    Reseed,
    Call,
    GetAttribute,
    SetAttribute,
    Close,
}

/// Where an env is among its episodes and steps, and whether it is time.
#[derive(Clone, Debug)]
pub struct Schedule {
    when: When,
    /// Episodes begun, so the present one is this less 1.
    episodes: i64,
    /// Steps answered in the present episode.
    pub steps: i64,
    seed_fits: bool,
}

impl Schedule {
    pub fn new(when: When) -> Self {
        Self { when, episodes: 0, steps: 0, seed_fits: when.only_seed.is_none() }
    }

    /// Notes that an episode begins; `rng` as the SDK hands it over.
    pub fn begin_episode(&mut self, rng: &NumpyRng) {
        // The SDK keeps the seed to itself. Nothing draws from the generator here, so that it still is where its seed put
        // it, also at a reset that came without one.
        let first = |mut rng: NumpyRng| rng.next_u64();
        self.seed_fits = self.when.only_seed.is_none_or(|seed| first(NumpyRng::new(seed)) == first(rng.clone()));
        self.episodes += 1;
        self.steps = 0;
    }

    /// Whether it is time to misbehave in `call`; in a step, before it is counted.
    pub fn is_due(&self, call: Call) -> bool {
        let When { in_call, at, episode, .. } = self.when;
        let this_episode = episode == -1 || episode == self.episodes - 1;
        let this_time = match call {
            Call::Step => this_episode && at == self.steps,
            Call::Reset => this_episode,
            // There was no reset yet that could have brought the seed.
            Call::Create => return in_call == call && at != -1,
            _ => true,
        };
        in_call == call && at != -1 && this_time && self.seed_fits
    }

    /// Counts a step; true if it ends the episode.
    pub fn count_step(&mut self) -> bool {
        self.steps += 1;
        self.steps == self.when.length
    }
}

/// One way to misbehave.
pub trait Mischief: 'static {
    /// Config keys beside those of [`When`]; [`Nothing`] if there are none. With `#[serde(default)]`.
    type Details: DeserializeOwned + JsonSchema + fmt::Debug;

    const NAME: &'static str;
    const SUMMARY: &'static str;

    /// Misbehaves, in one of many ways: does not return; returns an error; or returns after it has arranged for the answer
    /// to be [tampered](tamper) with.
    fn strike(details: &Self::Details) -> Result<(), EnvError>;

    /// A picture of the present state.
    fn picture(_details: &Self::Details, mode: RenderMode, [steps, action]: [i64; 2]) -> Frame {
        match mode {
            RenderMode::Ansi => Frame::Text(format!("step {steps}, action {action}\n")),
            RenderMode::RgbArray => Canvas::new(4, 2, [u8::try_from(steps).unwrap_or(u8::MAX); 3]).into_frame(),
        }
    }
}

/// No config keys.
#[derive(Clone, Copy, Debug, Default, Deserialize, JsonSchema)]
pub struct Nothing {}

#[derive(Debug, Deserialize, JsonSchema)]
pub struct Config<D> {
    #[serde(flatten)]
    when: When,
    #[serde(flatten)]
    details: D,
}

/// The env that counts, until its mischief is due.
pub struct Imp<M: Mischief> {
    details: M::Details,
    schedule: Schedule,
    action: i64,
}

impl<M: Mischief> Imp<M> {
    fn strike_if_due(&self, call: Call) -> Result<(), EnvError> {
        if self.schedule.is_due(call) { M::strike(&self.details) } else { Ok(()) }
    }

    fn observation(&self) -> [i64; 2] {
        [self.schedule.steps, self.action]
    }
}

impl<M: Mischief> Environment for Imp<M> {
    type Config = Config<M::Details>;
    type Options = NoOptions;
    type ObservationSpace = BoxSpace<[i64; 2]>;
    type ActionSpace = Discrete;
    type InfoSpace = NoInfo;

    const NAME: &'static str = M::NAME;
    const SUMMARY: &'static str = M::SUMMARY;
    const RENDER_MODES: &'static [RenderMode] = &[RenderMode::RgbArray, RenderMode::Ansi];

    fn create(Config { when, details }: Self::Config) -> Result<Self, CreateError> {
        let imp = Self { details, schedule: Schedule::new(when), action: -1 };
        match imp.strike_if_due(Call::Create) {
            Ok(()) => Ok(imp),
            Err(error) => Err(CreateError::failed(format!("{error:?}"))),
        }
    }

    fn spec(&self) -> Spec<Self> {
        Spec::new(BoxSpace::default(), Discrete::new(2))
    }

    fn reset(&mut self, rng: &mut NumpyRng, _options: NoOptions) -> Result<View<Self>, EnvError> {
        self.schedule.begin_episode(rng);
        self.action = -1;
        self.strike_if_due(Call::Reset)?;
        Ok(View::new(self.observation()))
    }

    fn step(&mut self, _rng: &mut NumpyRng, action: i64) -> Result<Step<Self>, EnvError> {
        self.strike_if_due(Call::Step)?;
        self.action = action;
        let ended = self.schedule.count_step();
        Ok(Step::new(self.observation(), 1.0).terminated(ended))
    }

    fn render(&self, mode: RenderMode) -> Result<Frame, EnvError> {
        self.strike_if_due(Call::Render)?;
        Ok(M::picture(&self.details, mode, self.observation()))
    }

    fn reseed(&mut self, _rng: &mut NumpyRng) -> Result<(), EnvError> {
        self.strike_if_due(Call::Reseed)
    }

    /// Every method returns its arguments.
    fn call(&mut self, _method: &str, arguments: Value) -> Result<Value, EnvError> {
        self.strike_if_due(Call::Call)?;
        Ok(arguments)
    }

    /// Every attribute is the number of steps.
    fn get_attribute(&self, _name: &str) -> Result<Value, EnvError> {
        self.strike_if_due(Call::GetAttribute)?;
        Ok(self.schedule.steps.into())
    }

    /// Every attribute can be set, to no effect.
    fn set_attribute(&mut self, _name: &str, _value: Value) -> Result<(), EnvError> {
        self.strike_if_due(Call::SetAttribute)
    }

    fn close(&mut self) {
        // There is nobody to tell.
        let _ = self.strike_if_due(Call::Close);
    }
}

/// Makes the crate a plugin, as the SDK's own `export!` does, with [`tamper`] between the SDK and the host.
///
/// `export!(Trap)` for a [`Mischief`], `export!(env Shape)` for an env of the crate's own; behind either `, describe = F`
/// with an `fn(&mut Description)` that may change the description, or never return.
#[macro_export]
macro_rules! export {
    ($mischief:ident) => { $crate::export!($mischief, describe = |_| ()); };
    ($mischief:ident, describe = $describe:expr) => { $crate::export!(env $crate::Imp<$mischief>, describe = $describe); };
    (env $env:ty) => { $crate::export!(env $env, describe = |_| ()); };
    (env $env:ty, describe = $describe:expr) => {
        const _: () = {
            use $crate::rollcage_sdk::{export::Slot, raw};
            use $crate::tamper;

            ::std::thread_local! {
                static ENV: Slot<$env> = const { Slot::new() };
            }

            struct Plugin;

            impl raw::Guest for Plugin {
                fn describe() -> raw::Description {
                    let mut description = Slot::<$env>::describe(::std::env!("CARGO_PKG_VERSION"));
                    let change: fn(&mut raw::Description) = $describe;
                    change(&mut description);
                    description
                }

                fn create(config: String) -> Result<raw::Spec, raw::CreateError> {
                    ENV.with(|env| env.create(&config)).map(tamper::apply_to_spec)
                }

                fn reset(seed: Option<u64>, options: Option<String>) -> Result<raw::View, raw::EnvError> {
                    ENV.with(|env| env.reset(seed, options.as_deref())).map(tamper::apply_to_view)
                }

                fn step(action: Vec<u8>) -> Result<raw::Transition, raw::EnvError> {
                    let step = ENV.with(|env| env.step(&action))?;
                    let terminated = tamper::apply_to_end(step.terminated);
                    Ok(raw::Transition { view: tamper::apply_to_view(step.view), terminated, ..step })
                }

                fn step_many(actions: Vec<u8>, count: u32) -> raw::Transitions {
                    ENV.with(|env| env.step_many(&actions, count))
                }

                fn render(mode: raw::RenderMode) -> Result<raw::Frame, raw::EnvError> {
                    ENV.with(|env| env.render(mode))
                }

                fn reseed(seed: u64) -> Result<(), raw::EnvError> {
                    ENV.with(|env| env.reseed(seed))
                }

                fn call(method: String, arguments: String) -> Result<String, raw::EnvError> {
                    ENV.with(|env| env.call(&method, &arguments)).map(tamper::apply_to_text)
                }

                fn get_attribute(name: String) -> Result<String, raw::EnvError> {
                    ENV.with(|env| env.get_attribute(&name)).map(tamper::apply_to_text)
                }

                fn set_attribute(name: String, value: String) -> Result<(), raw::EnvError> {
                    ENV.with(|env| env.set_attribute(&name, &value))
                }

                fn close() {
                    ENV.with(|env| env.close());
                }
            }

            raw::export!(Plugin with_types_in raw);
        };
    };
}

/// Makes the crate a plugin that behaves but for its config schema, which is this text.
#[macro_export]
macro_rules! export_schema {
    ($name:literal, $summary:literal, $schema:expr) => {
        struct Schema;

        impl $crate::Mischief for Schema {
            type Details = $crate::Nothing;

            const NAME: &'static str = $name;
            const SUMMARY: &'static str = $summary;

            fn strike(_: &$crate::Nothing) -> Result<(), $crate::rollcage_sdk::EnvError> {
                Ok(())
            }
        }

        $crate::export!(
            Schema,
            describe = |description| description.config_schema = ::std::convert::Into::into($schema)
        );
    };
}
