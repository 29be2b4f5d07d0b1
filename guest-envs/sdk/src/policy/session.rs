//! One policy and what surrounds it: its generator, and the size of its answers.

use std::cell::RefCell;

use super::{Decision, Policy, Spaces, raw, size_of};
use crate::session::{parse, schema_of};
use crate::{CreateError, NumpyRng};

/// A created policy.
pub(super) struct Session<P: Policy> {
    pub(super) policy: P,
    pub(super) extras: Vec<String>,
    rng: NumpyRng,
    action_bytes: usize,
}

impl<P: Policy> Session<P> {
    pub(super) fn create(config: &str, spaces: &Spaces, seed: u64) -> Result<Self, CreateError> {
        let config = parse(config).map_err(|message| CreateError::config("", message))?;
        let policy = P::create(config, spaces)?;
        let extras = policy.extras();
        Ok(Self { policy, extras, rng: NumpyRng::new(seed), action_bytes: size_of(&spaces.action) })
    }

    #[inline]
    pub(super) fn act(&mut self, observation: &[u8], mask: &[u8]) -> Result<Decision, String> {
        let mut decision = Decision::zeros(self.action_bytes, self.extras.len());
        self.policy.act(&mut self.rng, observation, mask, &mut decision)?;
        Ok(decision)
    }
}

/// The component's one policy: empty until `create`.
#[doc(hidden)]
#[expect(missing_debug_implementations, reason = "an author's policy need not be Debug")]
pub struct Slot<P: Policy>(RefCell<Option<Session<P>>>);

impl<P: Policy> Slot<P> {
    #[must_use]
    #[expect(clippy::new_without_default, reason = "made in a const block, where Default cannot be called")]
    pub const fn new() -> Self {
        Self(RefCell::new(None))
    }

    #[must_use]
    pub fn describe(version: &str) -> raw::Description {
        crate::export::print_panics();
        raw::Description {
            name: P::NAME.to_owned(),
            version: version.to_owned(),
            summary: P::SUMMARY.to_owned(),
            config_schema: schema_of::<P::Config>().to_string(),
            runtime: P::RUNTIME.to_owned(),
        }
    }

    #[expect(clippy::needless_pass_by_value, reason = "as the interface hands it over")]
    pub fn create(&self, config: &str, spaces: Spaces) -> Result<Vec<String>, CreateError> {
        crate::export::print_panics();
        // The host seeds the system's randomness from the env's seed.
        let seed = getrandom::u64().map_err(|error| CreateError::failed(format!("no randomness: {error}")))?;
        let session = Session::create(config, &spaces, seed)?;
        let extras = session.extras.clone();
        self.0.replace(Some(session));
        Ok(extras)
    }

    pub fn reset(&self) {
        self.with(|session| session.policy.reset());
    }

    #[inline]
    pub fn act(&self, observation: &[u8], mask: &[u8]) -> Result<raw::Decision, String> {
        let Decision { action, extras } = self.with(|session| session.act(observation, mask))?;
        Ok(raw::Decision { action, extras })
    }

    #[inline]
    fn with<R>(&self, call: impl FnOnce(&mut Session<P>) -> R) -> R {
        call(self.0.borrow_mut().as_mut().expect("`create` comes before everything but `describe`"))
    }
}
