//! The library's two errors, by who must act. A [`UsageError`] is for the operator or author who wrote something wrong.
//! A [`Fault`](crate::fault::Fault) needs nobody here, because an env caused it.

use std::io;
use std::path::{Path, PathBuf};

use crate::fault::Fault;

/// An error in what somebody typed: what cannot be done, and what to do instead.
///
/// The message is a lower-case fragment that fits after `error: `; each hint is printed on a line of its own.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct UsageError {
    /// What is wrong: the path, the given value, the allowed values.
    pub message: String,
    /// What to do about it, one line each.
    pub hints: Vec<String>,
    /// The kind, for callers that tell some errors apart.
    pub kind: UsageKind,
}

/// The usage errors that callers of the library tell apart.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum UsageKind {
    /// None of the following.
    #[default]
    Plain,
    /// An env has no such method, attribute or render mode.
    Unsupported,
    /// The second half of a step was asked for, but no step was begun.
    NoAsyncCall,
    /// A call is under way and its answer not yet received; this call would lose the answer.
    AlreadyPending,
}

impl UsageError {
    /// An error without a hint.
    pub fn new(message: impl Into<String>) -> UsageError {
        UsageError { message: message.into(), hints: Vec::new(), kind: UsageKind::Plain }
    }

    /// Sets the kind, by which callers tell errors apart.
    #[must_use]
    pub(crate) fn of_kind(mut self, kind: UsageKind) -> UsageError {
        self.kind = kind;
        self
    }

    /// Puts the subject of the error before its message.
    #[must_use]
    pub fn of(self, what: &str) -> UsageError {
        UsageError { message: format!("{what}{}", self.message), ..self }
    }

    /// Adds a hint: a line that says what to do.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> UsageError {
        self.hints.push(hint.into());
        self
    }
}

/// The errors of the library's calls.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The caller, the config or the plugin file is wrong; nothing was changed.
    #[error(transparent)]
    Usage(#[from] UsageError),
    /// An env had a fault that the policy does not absorb.
    #[error("{0}")]
    Fault(Box<Fault>),
    /// The caller's own interrupt flag was raised while the call waited. Nothing is lost: the next call first finishes
    /// the work under way.
    #[error("interrupted")]
    Interrupted,
    /// The operating system refused something that the host itself needed.
    #[error("{what}: {answer}")]
    System {
        /// What the host tried to do.
        what: &'static str,
        /// The system's answer.
        answer: std::sync::Arc<std::io::Error>,
    },
}

impl Error {
    /// Wraps an operating-system error with what the host was doing.
    pub(crate) fn system(what: &'static str) -> impl FnOnce(std::io::Error) -> Error {
        move |answer| Error::System { what, answer: std::sync::Arc::new(answer) }
    }

    /// The number of the system's error (`ENOSPC` is 28) and the file that it is about, each if there is one: for
    /// callers that report them separately.
    pub fn errno_and_file(&self) -> (Option<i32>, Option<&Path>) {
        let Error::System { answer, .. } = self else { return (None, None) };
        let file = below(answer).find_map(|error| error.downcast_ref::<OfFile>()).map(|of_file| of_file.path.as_path());
        (errno(answer), file)
    }
}

/// The number of the system's error, found beneath the wrappers of the libraries that it passed through.
fn errno(answer: &io::Error) -> Option<i32> {
    let own = |error: &(dyn std::error::Error + 'static)| error.downcast_ref::<io::Error>()?.raw_os_error();
    answer.raw_os_error().or_else(|| below(answer).find_map(own))
}

/// The errors that an error wraps, layer by layer. (An `io::Error` does not list its inner error among its sources.)
fn below(error: &io::Error) -> impl Iterator<Item = &(dyn std::error::Error + 'static)> {
    fn held(error: &io::Error) -> Option<&(dyn std::error::Error + 'static)> {
        error.get_ref().map(|held| held as _)
    }
    std::iter::successors(held(error), |error| match error.downcast_ref::<io::Error>() {
        Some(own) if own.get_ref().is_some() => held(own),
        _ => error.source(),
    })
}

/// The system's error about a file.
#[derive(Debug, thiserror::Error)]
#[error("`{}`: {answer}", crate::text::escape_line(&path.to_string_lossy()))]
struct OfFile {
    path: PathBuf,
    #[source]
    answer: io::Error,
}

/// Wraps an operating-system error with the file that it is about. Keeps the system's kind of error.
pub(crate) fn of_file(path: &Path) -> impl FnOnce(io::Error) -> io::Error {
    move |answer| {
        let answer = errno(&answer).map_or(answer, io::Error::from_raw_os_error);
        io::Error::new(answer.kind(), OfFile { path: path.to_owned(), answer })
    }
}

impl From<Fault> for Error {
    fn from(fault: Fault) -> Error {
        Error::Fault(Box::new(fault))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_disk_has_its_number_and_its_file() {
        let full = || io::Error::from_raw_os_error(28);
        let file = Path::new("/srv/a/part.parquet");
        let wrapped = || of_file(file)(full());
        // The error as a library passes it on.
        let through = || io::Error::other(wrapped());
        for (answer, expected) in [
            (full(), (Some(28), None)),
            (wrapped(), (Some(28), Some(file))),
            (through(), (Some(28), Some(file))),
            (of_file(file)(io::Error::other(full())), (Some(28), Some(file))),
            (io::Error::other("no"), (None, None)),
        ] {
            assert_eq!(Error::system("writing")(answer).errno_and_file(), expected);
        }
        let error = Error::system("writing a recording")(wrapped());
        assert_eq!(
            error.to_string(),
            "writing a recording: `/srv/a/part.parquet`: No space left on device (os error 28)"
        );
        assert_eq!(wrapped().kind(), full().kind());
        assert_eq!(Error::Interrupted.errno_and_file(), (None, None));
    }
}
