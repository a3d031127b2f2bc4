//! Why there is no node.

use std::fmt;

use crate::assembly::StartError;
use crate::config::ConfigError;

/// Why a node did not start. Its text is one line with the advice. Nothing of the node is left.
#[derive(Debug)]
#[non_exhaustive]
pub enum EmbedError {
    /// A setting is invalid, or two exclude each other.
    Config(ConfigError),
    /// The node cannot start, such as if a port is in use.
    Start(StartError),
}

impl From<ConfigError> for EmbedError {
    fn from(error: ConfigError) -> Self {
        Self::Config(error)
    }
}

impl From<StartError> for EmbedError {
    fn from(error: StartError) -> Self {
        Self::Start(error)
    }
}

impl fmt::Display for EmbedError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Config(error) => error.fmt(f),
            Self::Start(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for EmbedError {}
