//! Errors that an env may return, by who must act. The variants are the interface's own.

pub use crate::raw::{ConfigError, CreateError, EnvError};

impl CreateError {
    /// An error for the config at `path` (dotted, `""` for the whole), which the schema could not forbid.
    ///
    /// `message` is lower case without a full stop: it reads after a colon.
    pub fn config(path: impl Into<String>, message: impl Into<String>) -> Self {
        Self::Config(vec![ConfigError { path: path.into(), message: message.into() }])
    }

    /// An error where a thing of the outside was missing: a simulator, a file. The host's fault policy decides what
    /// follows.
    pub fn failed(message: impl Into<String>) -> Self {
        Self::Failed(message.into())
    }
}

impl EnvError {
    /// An error for an action that this env cannot take now. The env must be unchanged.
    pub fn invalid_action(message: impl Into<String>) -> Self {
        Self::InvalidAction(message.into())
    }

    /// An error for reset options that the env does not understand. The env must be unchanged.
    pub fn invalid_options(message: impl Into<String>) -> Self {
        Self::InvalidOptions(message.into())
    }

    /// An error for a method, attribute or mode that the env does not have.
    pub fn unsupported(message: impl Into<String>) -> Self {
        Self::Unsupported(message.into())
    }

    /// A request for a new instance in place of this one, without a message, within the host's budget of restarts.
    pub fn restart(message: impl Into<String>) -> Self {
        Self::Restart(message.into())
    }

    /// An error after which the env cannot go on.
    pub fn failed(message: impl Into<String>) -> Self {
        Self::Failed(message.into())
    }
}

/// The words of an error, for a message of the env's own: `Connection refused`, without the number that `Display` adds.
///
/// The number is WASI's, not Linux's: a reader who looks it up on their machine finds another error.
///
/// ```
/// use rollcage_sdk::error::words;
///
/// let error = std::fs::read("no such file").unwrap_err();
/// assert_eq!(error.to_string(), "No such file or directory (os error 2)"); // in a component `(os error 44)`
/// assert_eq!(words(&error), "No such file or directory");
/// ```
#[must_use]
pub fn words(error: &std::io::Error) -> String {
    let text = error.to_string();
    let number = |rest: &str| rest.strip_suffix(')').is_some_and(|number| number.parse::<i32>().is_ok());
    match text.rsplit_once(" (os error ") {
        Some((words, rest)) if number(rest) => words.to_owned(),
        _ => text,
    }
}

impl From<std::io::Error> for CreateError {
    fn from(error: std::io::Error) -> Self {
        Self::failed(words(&error))
    }
}

impl From<std::io::Error> for EnvError {
    fn from(error: std::io::Error) -> Self {
        Self::failed(words(&error))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Error, ErrorKind};

    #[test]
    fn errors_of_the_system_lose_their_numbers() {
        for (error, expected) in [
            (Error::from_raw_os_error(2), "No such file or directory"),
            (Error::new(ErrorKind::NotFound, Error::from_raw_os_error(2)), "No such file or directory"),
            (Error::from(ErrorKind::UnexpectedEof), "unexpected end of file"),
            (Error::other("odd (os error 44) place"), "odd (os error 44) place"),
            (Error::other("odd (os error x)"), "odd (os error x)"),
        ] {
            assert_eq!(words(&error), expected);
            let again = || Error::other(error.to_string());
            assert_eq!(EnvError::from(again()), EnvError::failed(expected));
            assert_eq!(CreateError::from(again()), CreateError::failed(expected));
        }
    }
}
