//! The two errors of the library, by who must act: the operator or author who wrote something
//! ([`UsageError`]), or nobody here, because an env did it ([`Fault`](crate::fault::Fault)).

use crate::fault::Fault;

/// Somebody typed something that cannot be done: what, and what to do instead.
///
/// The message is a lower-case fragment that fits after `error: `; hints are printed on lines of their own.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct UsageError {
    /// What is wrong: the path, what was given, what is allowed.
    pub message: String,
    /// What to do about it, a line each.
    pub hints: Vec<String>,
    /// What callers want to tell apart.
    pub kind: UsageKind,
}

/// What callers of the library want to tell apart among usage errors.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum UsageKind {
    /// Nothing of what follows.
    #[default]
    Plain,
    /// An env has no such method, attribute or render mode.
    Unsupported,
    /// The second half of a step was asked for, and none was begun.
    NoAsyncCall,
    /// Something is under way whose answer somebody is still to receive, and the call would lose it.
    AlreadyPending,
}

impl UsageError {
    /// An error without a hint.
    pub fn new(message: impl Into<String>) -> UsageError {
        UsageError { message: message.into(), hints: Vec::new(), kind: UsageKind::Plain }
    }

    /// Says which of the errors it is that callers tell apart.
    #[must_use]
    pub(crate) fn of_kind(mut self, kind: UsageKind) -> UsageError {
        self.kind = kind;
        self
    }

    /// Says before the message what it is of.
    #[must_use]
    pub(crate) fn of(self, what: &str) -> UsageError {
        UsageError { message: format!("{what}{}", self.message), ..self }
    }

    /// Adds a line that says what to do.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> UsageError {
        self.hints.push(hint.into());
        self
    }
}

/// What a call of the library can fail with.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The caller's, the config's or the plugin file's fault; nothing was changed.
    #[error(transparent)]
    Usage(#[from] UsageError),
    /// An env's fault that the policy does not absorb.
    #[error("{0}")]
    Fault(Box<Fault>),
    /// The caller's own interrupt flag was raised while the call waited. Nothing is lost: the next call first
    /// finishes what was under way.
    #[error("interrupted")]
    Interrupted,
    /// The operating system refused something the host itself needed.
    #[error("{what}: {answer}")]
    System {
        /// What the host tried to do.
        what: &'static str,
        /// The system's answer.
        answer: std::sync::Arc<std::io::Error>,
    },
}

impl Error {
    /// Wraps an operating-system error with what was being done.
    pub(crate) fn system(what: &'static str) -> impl FnOnce(std::io::Error) -> Error {
        move |answer| Error::System { what, answer: std::sync::Arc::new(answer) }
    }
}

impl From<Fault> for Error {
    fn from(fault: Fault) -> Error {
        Error::Fault(Box::new(fault))
    }
}
