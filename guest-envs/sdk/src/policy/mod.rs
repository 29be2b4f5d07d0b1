//! Write a policy that rollcage runs inside an env's own worker.
//!
//! There is one trait, [`Policy`], and one macro, [`export_policy!`](crate::export_policy!). A policy is a plugin of its
//! own: a crate exports an env or a policy.
//!
//! ```
//! use rollcage_sdk::policy::prelude::*;
//!
//! rollcage_sdk::config! {
//!     /// What can be configured.
//!     pub struct Config {
//!         /// How much the speed of the fall counts.
//!         pub foresight: f32 = 0.5,
//!     }
//! }
//!
//! /// Pushes the cart of CartPole towards the side to which the pole falls.
//! struct Balance {
//!     foresight: f32,
//! }
//!
//! impl Policy for Balance {
//!     type Config = Config;
//!
//!     const NAME: &'static str = "balance";
//!     const SUMMARY: &'static str = "Pushes towards the side to which the pole falls";
//!
//!     fn create(config: Config, spaces: &Spaces) -> Result<Self, CreateError> {
//!         if policy::size_of(&spaces.observation) != 16 {
//!             return Err(CreateError::failed("the observation is not CartPole's"));
//!         }
//!         Ok(Self { foresight: config.foresight })
//!     }
//!
//!     fn act(
//!         &mut self,
//!         _rng: &mut NumpyRng,
//!         observation: &[u8],
//!         _mask: &[u8],
//!         decision: &mut Decision,
//!     ) -> Result<(), String> {
//!         let [_, _, angle, speed] = policy::array::<f32, 4>(observation);
//!         decision.choose(i64::from(angle + self.foresight * speed > 0.0));
//!         Ok(())
//!     }
//! }
//!
//! rollcage_sdk::export_policy!(Balance);
//!
//! // On the author's own machine:
//! use rollcage_sdk::policy::testing::{Native, bytes_of, spaces};
//! use rollcage_sdk::space::{BoxSpace, Discrete};
//!
//! let sight = BoxSpace::<[f32; 4]>::default();
//! let mut policy = Native::<Balance>::new("{}", spaces(&sight, &Discrete::new(2)), 7).unwrap();
//! policy.reset();
//! let decision = policy.act(&bytes_of(&sight, &[0.0, 0.0, 0.1, 0.0]), &[]).unwrap();
//! assert_eq!(decision.action(), 1_i64.to_le_bytes());
//! ```
//!
//! Observations and actions are bytes, laid out as `wit/0.1.0/types.wit` says: [`array`] and [`read`] turn bytes into
//! numbers, [`leaves`] says what stands where.

mod layout;
pub mod raw;
mod session;
pub mod testing;

use schemars::JsonSchema;
use serde::de::DeserializeOwned;

pub use self::layout::{Leaf, leaves, size_of};
pub use self::raw::Spaces;
#[doc(hidden)]
pub use self::session::Slot;
use crate::space::Element;
use crate::{CreateError, NumpyRng};

/// Everything that the file of a policy uses.
pub mod prelude {
    pub use crate::policy::{self, Decision, Policy, Spaces};
    pub use crate::{CreateError, NoConfig, NumpyRng};
}

/// A policy: it chooses the actions of one env.
///
/// The instance *is* the policy of that env: a run of eight envs has eight instances, which share nothing. A policy is
/// given nothing of the outside.
pub trait Policy: Sized + 'static {
    /// The config, as [`Environment::Config`](crate::Environment::Config): [`NoConfig`](crate::NoConfig), a struct of
    /// [`config!`](crate::config!), or a struct of the author's own.
    type Config: DeserializeOwned + JsonSchema;

    /// The policy's name: lower-case letters, digits and hyphens, at most 64.
    const NAME: &'static str;

    /// A summary of the policy: one line, at most 200 characters.
    const SUMMARY: &'static str;

    /// What the policy runs on, such as an inference library and its version: one line, at most 200 characters; empty if
    /// there is nothing to say.
    const RUNTIME: &'static str = "";

    /// Makes the policy of an env with these spaces.
    ///
    /// # Errors
    ///
    /// [`CreateError::config`] for mistakes that the schema cannot express; [`CreateError::failed`] where the policy does
    /// not fit the spaces, or a file inside the plugin is missing.
    fn create(config: Self::Config, spaces: &Spaces) -> Result<Self, CreateError>;

    /// The names of the numbers that the policy adds to each action, such as `log_prob`: at most 64, each of 1 to 128
    /// bytes. Called once, right after [`create`](Self::create).
    fn extras(&self) -> Vec<String> {
        Vec::new()
    }

    /// Begins an episode: forgets what was remembered of the one before. The generator goes on. Also called where the
    /// policy takes over an episode that it has not seen from its beginning.
    fn reset(&mut self) {}

    /// Chooses an action. `observation` is one value of the observation space, as bytes. `mask` has a byte (0 or 1) for
    /// each choice of the action space; it is empty unless the env has masks.
    ///
    /// `decision` comes with an action of zeros and with extras of 0: write into it. Draw every random number from `rng`,
    /// which was seeded once, before the first call.
    ///
    /// # Errors
    ///
    /// A text that says why there is no action. It is a fault of the policy.
    fn act(
        &mut self,
        rng: &mut NumpyRng,
        observation: &[u8],
        mask: &[u8],
        decision: &mut Decision,
    ) -> Result<(), String>;
}

/// The answer of a policy: an action, and a number for each name of [`Policy::extras`].
#[derive(Clone, Debug, PartialEq)]
pub struct Decision {
    action: Vec<u8>,
    extras: Vec<f32>,
}

impl Decision {
    /// A decision of zeros.
    #[inline]
    fn zeros(action_bytes: usize, extras: usize) -> Self {
        Self { action: vec![0; action_bytes], extras: vec![0.0; extras] }
    }

    /// The bytes of the action.
    #[inline]
    #[must_use]
    pub fn action(&self) -> &[u8] {
        &self.action
    }

    /// The bytes of the action, to write into.
    #[inline]
    pub fn action_mut(&mut self) -> &mut [u8] {
        &mut self.action
    }

    /// Sets an action whose space is one Discrete. `choice` counts from the space's `start`, which it includes.
    ///
    /// # Panics
    ///
    /// If an action has fewer than eight bytes, so that its space is no Discrete.
    #[inline]
    #[track_caller]
    pub fn choose(&mut self, choice: i64) {
        self.action[..8].copy_from_slice(&choice.to_le_bytes());
    }

    /// Writes elements into the action, from the byte `at` on: 0 for an action that is one Box.
    ///
    /// # Panics
    ///
    /// If the elements go beyond the action's end.
    #[inline]
    #[track_caller]
    pub fn write<T: Element>(&mut self, at: usize, elements: &[T]) {
        T::put(elements, &mut self.action[at..at + size_of_val(elements)]);
    }

    /// The extras, in the order of their names.
    #[inline]
    #[must_use]
    pub fn extras(&self) -> &[f32] {
        &self.extras
    }

    /// The extras, to write into.
    #[inline]
    pub fn extras_mut(&mut self) -> &mut [f32] {
        &mut self.extras
    }
}

/// Reads the first `N` elements of a value that is one Box.
///
/// # Panics
///
/// If the value has fewer elements.
#[inline]
#[must_use]
#[track_caller]
pub fn array<T: Element, const N: usize>(value: &[u8]) -> [T; N] {
    let mut elements = [T::ZERO; N];
    read(value, 0, &mut elements);
    elements
}

/// Fills `elements` from a value, from the byte `at` on: 0 for a value that is one Box.
///
/// # Panics
///
/// If the value ends before the elements do.
#[inline]
#[track_caller]
pub fn read<T: Element>(value: &[u8], at: usize, elements: &mut [T]) {
    // The host sends values of the space alone, so that a boolean is 0 or 1.
    T::read(&value[at..at + size_of_val(elements)], elements);
}

/// Draws one of `n` choices, from 0 on: each that the mask leaves open is equally likely. An empty mask leaves all of
/// them open; a mask that closes all of them leaves the first.
///
/// # Panics
///
/// If `n` is 0.
#[track_caller]
pub fn draw_choice(rng: &mut NumpyRng, n: usize, mask: &[u8]) -> usize {
    if mask.is_empty() {
        return rng.choice(n);
    }
    let open = || (0..n).filter(|&choice| mask.get(choice) == Some(&1));
    match open().count() {
        0 => 0,
        count => open().nth(rng.choice(count)).unwrap_or(0),
    }
}

/// Makes the crate a policy: its component's policy is the [`Policy`] named.
///
/// Use it once per crate, and not beside [`export!`](crate::export!). The crate's `Cargo.toml` says
/// `crate-type = ["cdylib", "rlib"]`. The plugin's version is the crate's.
#[macro_export]
macro_rules! export_policy {
    ($policy:ty) => {
        // Off wasm there is nothing to export, but a type that is no Policy is an error all the same.
        const _: $crate::policy::Slot<$policy> = $crate::policy::Slot::new();
        const _: () = $crate::export::check_texts(
            <$policy as $crate::policy::Policy>::NAME,
            <$policy as $crate::policy::Policy>::SUMMARY,
        );
        #[cfg(target_arch = "wasm32")]
        $crate::__export_policy_component!($policy);
    };
}

#[doc(hidden)]
#[macro_export]
macro_rules! __export_policy_component {
    ($policy:ty) => {
        const _: () = {
            use $crate::policy::raw;

            ::std::thread_local! {
                static POLICY: $crate::policy::Slot<$policy> = const { $crate::policy::Slot::new() };
            }

            struct Plugin;

            impl raw::Guest for Plugin {
                fn describe() -> raw::Description {
                    $crate::policy::Slot::<$policy>::describe(::std::env!("CARGO_PKG_VERSION"))
                }

                fn create(
                    config: ::std::string::String,
                    spaces: raw::Spaces,
                ) -> ::std::result::Result<::std::vec::Vec<::std::string::String>, raw::CreateError> {
                    POLICY.with(|policy| policy.create(&config, spaces))
                }

                fn reset() {
                    POLICY.with(|policy| policy.reset());
                }

                fn act(
                    observation: ::std::vec::Vec<u8>,
                    mask: ::std::vec::Vec<u8>,
                ) -> ::std::result::Result<raw::Decision, ::std::string::String> {
                    POLICY.with(|policy| policy.act(&observation, &mask))
                }
            }

    raw::export!(Plugin with_types_in raw);
        };
    };
}
