//! The two errors of the library, by who must act: the operator or author who wrote something
//! ([`UsageError`]), or nobody here, because an env did it ([`Fault`](crate::fault::Fault)).

use std::io;
use std::path::{Path, PathBuf};

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

    /// The system's number for its answer (`ENOSPC` is 28), if it gave one, and the file that the answer is about, if it is
    /// about one: for callers that have a place for them.
    pub fn errno_and_file(&self) -> (Option<i32>, Option<&Path>) {
        let Error::System { answer, .. } = self else { return (None, None) };
        let file = below(answer).find_map(|error| error.downcast_ref::<OfFile>()).map(|of_file| of_file.path.as_path());
        (errno(answer), file)
    }
}

/// The system's number for its answer, through the words of the libraries that it passed through.
fn errno(answer: &io::Error) -> Option<i32> {
    let own = |error: &(dyn std::error::Error + 'static)| error.downcast_ref::<io::Error>()?.raw_os_error();
    answer.raw_os_error().or_else(|| below(answer).find_map(own))
}

/// What an error holds, and what that holds. (An `io::Error` does not count what it holds among its sources.)
fn below(error: &io::Error) -> impl Iterator<Item = &(dyn std::error::Error + 'static)> {
    fn held(error: &io::Error) -> Option<&(dyn std::error::Error + 'static)> {
        error.get_ref().map(|held| held as _)
    }
    std::iter::successors(held(error), |error| match error.downcast_ref::<io::Error>() {
        Some(own) if own.get_ref().is_some() => held(own),
        _ => error.source(),
    })
}

/// The system's answer about a file.
#[derive(Debug, thiserror::Error)]
#[error("`{}`: {answer}", crate::text::escape_line(&path.to_string_lossy()))]
struct OfFile {
    path: PathBuf,
    #[source]
    answer: io::Error,
}

/// Wraps an operating-system error with the file that it is about. The kind is the system's own.
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
        // As a library hands it on.
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
