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

impl From<std::io::Error> for CreateError {
    fn from(error: std::io::Error) -> Self {
        Self::failed(error.to_string())
    }
}

impl From<std::io::Error> for EnvError {
    fn from(error: std::io::Error) -> Self {
        Self::failed(error.to_string())
    }
}
