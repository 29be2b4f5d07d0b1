//! The plumbing of [`export!`](crate::export!): all calls to the component come in here.
//!
//! On the path of a step: the host's call → **export** → session → the author's `step`, and back.

use std::cell::RefCell;
use std::io::Write;
use std::sync::Once;

use crate::raw::{Description, Transition, Transitions, View};
use crate::session::Session;
use crate::{CreateError, EnvError, Environment, Frame, RenderMode, raw};

/// The component's one env: empty until `create`.
#[expect(missing_debug_implementations, reason = "an author's env need not be Debug")]
pub struct Slot<E: Environment>(RefCell<Option<Session<E>>>);

impl<E: Environment> Slot<E> {
    #[must_use]
    #[expect(clippy::new_without_default, reason = "made in a const block, where Default cannot be called")]
    pub const fn new() -> Self {
        Self(RefCell::new(None))
    }

    #[must_use]
    pub fn describe(version: &str) -> Description {
        print_panics();
        crate::session::describe::<E>(version)
    }

    pub fn create(&self, config: &str) -> Result<raw::Spec, CreateError> {
        print_panics();
        let session = Session::create(config)?;
        let spec = session.describe_spec();
        self.0.replace(Some(session));
        Ok(spec)
    }

    pub fn reset(&self, seed: Option<u64>, options: Option<&str>) -> Result<View, EnvError> {
        self.with(|session| session.reset_bytes(seed, options))
    }

    #[inline]
    pub fn step(&self, action: &[u8]) -> Result<Transition, EnvError> {
        self.with(|session| session.step_bytes(action))
    }

    pub fn step_many(&self, actions: &[u8], count: u32) -> Transitions {
        self.with(|session| session.step_many(actions, count))
    }

    pub fn render(&self, mode: RenderMode) -> Result<Frame, EnvError> {
        self.with(|session| session.render(mode))
    }

    pub fn reseed(&self, seed: u64) -> Result<(), EnvError> {
        self.with(|session| session.reseed(seed))
    }

    pub fn call(&self, method: &str, arguments: &str) -> Result<String, EnvError> {
        self.with(|session| session.call(method, arguments))
    }

    pub fn get_attribute(&self, name: &str) -> Result<String, EnvError> {
        self.with(|session| session.get_attribute(name))
    }

    pub fn set_attribute(&self, name: &str, value: &str) -> Result<(), EnvError> {
        self.with(|session| session.set_attribute(name, value))
    }

    pub fn close(&self) {
        self.with(|session| session.env.close());
    }

    #[inline]
    fn with<R>(&self, call: impl FnOnce(&mut Session<E>) -> R) -> R {
        call(self.0.borrow_mut().as_mut().expect("`create` comes before everything but `describe`"))
    }
}

/// Makes a panic print its place and message, in Rust's own form, and nothing else.
///
/// Rust's own hook adds a note about `RUST_BACKTRACE`, which does nothing in a component: the host has the backtrace. An
/// env that sets a hook of its own, in `create` at the earliest, keeps it. The host finds the panic in the log by the
/// words `panicked at PLACE:` and a line break.
pub fn print_panics() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        std::panic::set_hook(Box::new(|panic| {
            let place = panic.location().map_or_else(|| "an unknown place".to_owned(), ToString::to_string);
            let message = panic.payload_as_str().unwrap_or("a value that is no text");
            // In one piece, and without an answer to an error: a panic in here would hide the one to be told.
            let _ = std::io::stderr().write_all(format!("panicked at {place}:\n{message}\n").as_bytes());
        }));
    });
}

/// Checks an env's `NAME` and `SUMMARY` while it compiles: the host would refuse the plugin.
#[track_caller]
pub const fn check_constants<E: Environment>() {
    check_texts(E::NAME, E::SUMMARY);
}

/// Checks a `NAME` and a `SUMMARY`, of an env or of a policy.
#[track_caller]
pub const fn check_texts(name: &str, summary: &str) {
    let name = name.as_bytes();
    assert!(!name.is_empty(), "`NAME` is empty: give the env a name, as in `cartpole`");
    assert!(name.len() <= NAME_BYTES_MAX, "`NAME` is longer than 64 characters");
    let mut at = 0;
    while at < name.len() {
        let allowed = name[at].is_ascii_lowercase() || name[at].is_ascii_digit() || name[at] == b'-';
        assert!(allowed, "`NAME` must have lower-case letters, digits and hyphens only, as in `mountain-car`");
        at += 1;
    }
    let summary = summary.as_bytes();
    let (mut at, mut characters) = (0, 0);
    while at < summary.len() {
        assert!(summary[at] != b'\n', "`SUMMARY` must be one line");
        // All but the bytes with which a character of UTF-8 goes on.
        if summary[at] & 0xc0 != 0x80 {
            characters += 1;
        }
        at += 1;
    }
    assert!(characters <= SUMMARY_CHARACTERS_MAX, "`SUMMARY` is longer than 200 characters");
}

/// Bytes of a name, by the interface.
const NAME_BYTES_MAX: usize = 64;

/// Characters of a summary, by the interface.
const SUMMARY_CHARACTERS_MAX: usize = 200;

/// Makes the crate a plugin: its component's env is the [`Environment`](crate::Environment) named.
///
/// Use it once per crate. The crate's `Cargo.toml` says `crate-type = ["cdylib", "rlib"]`. The plugin's version is the
/// crate's. An env whose [`NAME`](crate::Environment::NAME) or [`SUMMARY`](crate::Environment::SUMMARY) breaks the
/// interface's rules does not compile.
#[macro_export]
macro_rules! export {
    ($env:ty) => {
        // Off wasm there is nothing to export, but a type that is no Environment is an error all the same.
        const _: $crate::export::Slot<$env> = $crate::export::Slot::new();
        const _: () = $crate::export::check_constants::<$env>();
        #[cfg(target_arch = "wasm32")]
        $crate::__export_component!($env);
    };
}

#[doc(hidden)]
#[macro_export]
macro_rules! __export_component {
    ($env:ty) => {
        const _: () = {
            use $crate::raw;

            ::std::thread_local! {
                static ENV: $crate::export::Slot<$env> = const { $crate::export::Slot::new() };
            }

            struct Plugin;

            impl raw::Guest for Plugin {
                fn describe() -> raw::Description {
                    $crate::export::Slot::<$env>::describe(::std::env!("CARGO_PKG_VERSION"))
                }

                fn create(config: ::std::string::String) -> ::std::result::Result<raw::Spec, raw::CreateError> {
                    ENV.with(|env| env.create(&config))
                }

                fn reset(
                    seed: ::std::option::Option<u64>,
                    options: ::std::option::Option<::std::string::String>,
                ) -> ::std::result::Result<raw::View, raw::EnvError> {
                    ENV.with(|env| env.reset(seed, options.as_deref()))
                }

                fn step(action: ::std::vec::Vec<u8>) -> ::std::result::Result<raw::Transition, raw::EnvError> {
                    ENV.with(|env| env.step(&action))
                }

                fn step_many(actions: ::std::vec::Vec<u8>, count: u32) -> raw::Transitions {
                    ENV.with(|env| env.step_many(&actions, count))
                }

                fn render(mode: raw::RenderMode) -> ::std::result::Result<raw::Frame, raw::EnvError> {
                    ENV.with(|env| env.render(mode))
                }

                fn reseed(seed: u64) -> ::std::result::Result<(), raw::EnvError> {
                    ENV.with(|env| env.reseed(seed))
                }

                fn call(
                    method: ::std::string::String,
                    arguments: ::std::string::String,
                ) -> ::std::result::Result<::std::string::String, raw::EnvError> {
                    ENV.with(|env| env.call(&method, &arguments))
                }

                fn get_attribute(
                    name: ::std::string::String,
                ) -> ::std::result::Result<::std::string::String, raw::EnvError> {
                    ENV.with(|env| env.get_attribute(&name))
                }

                fn set_attribute(
                    name: ::std::string::String,
                    value: ::std::string::String,
                ) -> ::std::result::Result<(), raw::EnvError> {
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
