//! The policy beside an env: one instance, in a store of its own, which chooses the env's actions.
//!
//! It is given nothing of the outside. A fault of it is not the env's: it must not be called again, and the env goes on.

use std::sync::Arc;
use std::time::Duration;

use super::answer::guest_fault;
use super::assets::Assets;
use super::bindings::{CreateError, Decision, PolicyExports, Pre};
use super::load::Loaded;
use super::running::{FUEL_UNBOUNDED, Running};
use super::wasi::guest::Outside;
use super::wasi::streams::Log;
use crate::fault::FaultKind;
use crate::spec::{Description, Spec};
use crate::wire::job::PolicyJob;
use crate::wire::slab::rollout::ADDED_MAX;
use crate::wire::talk::GuestFault;

/// Bytes of the name of a number that a policy adds.
const NAME_BYTES_MAX: usize = 128;

/// What the policies of a worker are made of.
pub(super) struct PolicyCode {
    pub(super) job: PolicyJob,
    pub(super) loaded: Loaded,
    pub(super) assets: Arc<Assets>,
}

/// One policy.
pub(super) struct PolicyInstance {
    running: Running<PolicyExports>,
    fuel: u64,
    clock_step: Duration,
    /// The names of the numbers that it adds to each action.
    names: Vec<String>,
}

impl PolicyInstance {
    /// Makes the policy of an env with this spec.
    ///
    /// # Errors
    /// The policy's fault.
    pub(super) fn create(
        code: &PolicyCode,
        spec: &Spec,
        key: [u8; 32],
        config: &str,
        clock_step: Duration,
        log: Box<dyn Log>,
    ) -> Result<PolicyInstance, GuestFault> {
        let mut policy = PolicyInstance::bare(&code.loaded, &code.job, code.assets.clone(), key, clock_step, log)?;
        let made = policy.running.call(FUEL_UNBOUNDED, |exports, store| exports.create(store, config, spec))?;
        let failed = |what: String| guest_fault(FaultKind::CreateFailed, what);
        let names = made.map_err(|error| match error {
            CreateError::Failed(what) | CreateError::Spec(what) => failed(what),
            CreateError::Config(errors) => {
                let said: Vec<String> = errors
                    .into_iter()
                    .take(5)
                    .map(|(path, what)| if path.is_empty() { what } else { format!("config `{path}`: {what}") })
                    .collect();
                failed(said.join("; "))
            }
        })?;
        if names.len() > ADDED_MAX || names.iter().any(|name| name.is_empty() || name.len() > NAME_BYTES_MAX) {
            let count = names.len();
            return Err(failed(format!(
                "it adds {count} numbers; the limit is {ADDED_MAX}, each with a name of 1 to {NAME_BYTES_MAX} bytes"
            )));
        }
        if let Some(twice) = names.iter().enumerate().find_map(|(at, name)| names[..at].contains(name).then_some(name))
        {
            return Err(failed(format!("it names the number `{}` twice", crate::text::escape_line(twice))));
        }
        policy.names = names;
        Ok(policy)
    }

    /// An instance that was asked nothing.
    fn bare(
        loaded: &Loaded,
        job: &PolicyJob,
        assets: Arc<Assets>,
        key: [u8; 32],
        clock_step: Duration,
        log: Box<dyn Log>,
    ) -> Result<PolicyInstance, GuestFault> {
        let outside = Outside { assets, ..Outside::default() };
        let running = Running::new(loaded, job.memory_bytes, key, outside, log, Pre::instantiate_policy)?;
        Ok(PolicyInstance { running, fuel: job.fuel.unwrap_or(FUEL_UNBOUNDED), clock_step, names: Vec::new() })
    }

    /// The names of the numbers that it adds to each action.
    pub(super) fn names(&self) -> &[String] {
        &self.names
    }

    /// Begins an episode.
    pub(super) fn reset(&mut self) -> Result<(), GuestFault> {
        self.running.call(FUEL_UNBOUNDED, |exports, store| exports.reset(store))
    }

    /// Chooses an action, which is not checked here.
    #[inline]
    pub(super) fn act(&mut self, observation: &[u8], mask: &[u8]) -> Result<Decision, GuestFault> {
        self.running.guest_mut().begin_step(self.clock_step);
        let decision = self.running.call(self.fuel, |exports, store| exports.act(store, observation, mask))?;
        let decision = decision.map_err(|what| guest_fault(FaultKind::GuestFailed, what))?;
        if decision.added.len() != self.names.len() {
            let (given, wanted) = (decision.added.len(), self.names.len());
            return Err(guest_fault(
                FaultKind::BadAnswer,
                format!("it adds {given} numbers to an action; its `create` named {wanted}"),
            ));
        }
        Ok(decision)
    }
}

/// A fault with the function in which it happened.
pub(super) fn of(function: &str, fault: GuestFault) -> GuestFault {
    let GuestFault { kind, message, backtrace } = fault;
    let said = if kind == FaultKind::GuestFailed { message } else { format!("{kind}: {message}") };
    let mut message = format!("{function}: {said}");
    crate::text::cut(&mut message, crate::fault::MESSAGE_BYTES_MAX);
    GuestFault { kind, message, backtrace }
}

/// Asks a policy's code to describe itself.
///
/// # Errors
/// The policy's fault.
pub(super) fn describe(
    loaded: &Loaded,
    memory_bytes: u64,
    assets: Arc<Assets>,
    log: Box<dyn Log>,
) -> Result<Description, GuestFault> {
    let outside = Outside { assets, ..Outside::default() };
    let mut running = Running::new(loaded, memory_bytes, [0; 32], outside, log, Pre::instantiate_policy)?;
    running.call(FUEL_UNBOUNDED, |exports, store| exports.describe(store))
}
