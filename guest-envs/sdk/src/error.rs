//! What an env may answer instead of a result, by who must act. The variants are the interface's own.

pub use crate::raw::{ConfigError, CreateError, EnvError};

impl CreateError {
    /// The config at `path` (dotted, `""` for the whole) says what the schema could not forbid.
    ///
    /// `message` is lower case without a full stop: it is read after a colon.
    pub fn config(path: impl Into<String>, message: impl Into<String>) -> Self {
        Self::Config(vec![ConfigError { path: path.into(), message: message.into() }])
    }

    /// Something outside was not there: a simulator, a file. The host's fault policy decides what follows.
    pub fn failed(message: impl Into<String>) -> Self {
        Self::Failed(message.into())
    }
}

impl EnvError {
    /// The action is not one that this env takes now. The env must be unchanged.
    pub fn invalid_action(message: impl Into<String>) -> Self {
        Self::InvalidAction(message.into())
    }

    /// The reset options are not understood. The env must be unchanged.
    pub fn invalid_options(message: impl Into<String>) -> Self {
        Self::InvalidOptions(message.into())
    }

    /// The env has no such method, attribute or mode.
    pub fn unsupported(message: impl Into<String>) -> Self {
        Self::Unsupported(message.into())
    }

    /// Asks for a new instance in place of this one: quietly, within the host's budget of restarts.
    pub fn restart(message: impl Into<String>) -> Self {
        Self::Restart(message.into())
    }

    /// The env cannot go on.
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
