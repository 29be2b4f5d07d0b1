//! How the run of a plugin ends that nobody vouches for: a value, within its deadline, that a process of rollcage gave and
//! did not die of.

use std::time::{Duration, Instant};

use rollcage::{Backend, Digest, Error, FaultKind, Limits, OnFault, Plugin, VecEnv};

use crate::program;

/// Beyond what the limits allow: starting processes on a busy machine.
const SLACK: Duration = Duration::from_secs(10);

/// How a plugin's run ended.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// Before any env: the message.
    Refused(String),
    /// In the start, a reset or a step.
    Fault {
        /// What kind.
        kind: FaultKind,
        /// In which step.
        step: u32,
        /// Of what went before; none if the start failed.
        digest: Option<Digest>,
    },
    /// Not before the last step.
    Ran(Digest),
}

impl Outcome {
    /// How deep the stack is differs between backends: so may everything from there on.
    pub fn is_portable(&self) -> bool {
        match self {
            Outcome::Refused(message) => !message.contains("stack_overflow"),
            Outcome::Fault { kind, .. } => *kind != FaultKind::StackOverflow,
            Outcome::Ran(_) => true,
        }
    }

    /// 0 refused, 1 a fault, 2 ran: to be counted.
    pub fn class(&self) -> usize {
        match self {
            Outcome::Refused(_) => 0,
            Outcome::Fault { .. } => 1,
            Outcome::Ran(_) => 2,
        }
    }
}

/// What is a value, and yet a mistake of rollcage's or its engine's: a process that panicked, crashed or lied, although its
/// guest has no way to ask for that.
fn is_accident(error: &Error) -> bool {
    match error {
        Error::Usage(error) => [
            "killed by signal",
            "ended with status",
            "ended (",
            "broke the protocol",
            "unexpected answer",
            "and claims",
        ]
        .iter()
        .any(|part| error.message.contains(part)),
        Error::Fault(fault) => {
            matches!(fault.kind, FaultKind::Signalled | FaultKind::Exited | FaultKind::Protocol)
        }
        _ => false,
    }
}

/// Little patience, and fuel.
pub fn limits() -> Limits {
    Limits {
        start_timeout: Duration::from_secs(3),
        close_timeout: Duration::from_millis(200),
        compile_timeout: Duration::from_secs(30),
        fuel_per_step: Some(1_000_000),
        ..Limits::default().call_timeouts(Duration::from_secs(1))
    }
}

/// Compiles, describes, starts, resets and steps a plugin until its first fault, with all actions 0.
///
/// # Errors
/// What is no outcome: an error that is nobody's, or one that came too late; and the end of a process that should not have
/// come to it.
pub fn play(plugin: &Plugin, backend: Backend, steps: u32) -> Result<Outcome, String> {
    let limits = limits();
    let within = |what: &str, began: Instant, limit: Duration| {
        let took = began.elapsed();
        if took > limit + SLACK { Err(format!("{what} took {took:?}; its limit is {limit:?}")) } else { Ok(()) }
    };
    let outcome = |error: Error, digest: Option<Digest>| match error {
        error if is_accident(&error) => Err(format!("an accident: {error:?}")),
        Error::Usage(error) => Ok(Outcome::Refused(error.message)),
        Error::Fault(fault) => Ok(Outcome::Fault { kind: fault.kind, step: fault.step, digest }),
        other => Err(format!("no outcome: {other:?}")),
    };
    let builder = VecEnv::builder(plugin.clone()).worker(program()).backend(backend);
    let builder = builder.limits(limits.clone()).on_fault(OnFault::Raise);
    let began = Instant::now();
    let assembled = builder.assemble();
    within("preparing", began, limits.compile_timeout + limits.start_timeout)?;
    let mut envs = match assembled {
        Ok(envs) => envs,
        Err(error) => return outcome(error, None),
    };
    let began = Instant::now();
    let started = envs.start();
    within("starting", began, limits.start_timeout)?;
    if let Err(error) = started {
        return outcome(error, None);
    }
    for number in 0..=steps {
        let began = Instant::now();
        let done = if number == 0 { envs.reset(None).map(drop) } else { envs.step(&[0; 8]).map(drop) };
        within("a call", began, limits.step_timeout)?;
        if let Err(error) = done {
            let digest = envs.digest();
            return outcome(error, Some(digest));
        }
    }
    Ok(Outcome::Ran(envs.digest()))
}
