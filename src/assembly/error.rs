//! Why a node did not start.

use std::fmt;

use crate::cluster::bootstrap::BootstrapError;
use crate::http::listener::ListenError;

/// Why a node did not start, or did not go on. Its text is one line with the advice.
#[derive(Debug)]
pub enum StartError {
    /// The node cannot listen on a port.
    Listen(ListenError),
    /// The node cannot take part in its cluster.
    Gossip(String),
    /// The upstream cannot be used as it is set up.
    Fill(String),
    /// TLS cannot be set up.
    Tls(String),
    /// The directory of the node cannot be used.
    Disk(String),
    /// A variable that is for tests only has a value that cannot be parsed.
    TestVariable(String),
    /// The system gives no entropy, threads or signals.
    System {
        /// What was requested of it.
        what: &'static str,
        /// Its answer.
        cause: String,
    },
}

impl StartError {
    /// The error for a system that did not give `what`.
    pub(crate) fn system(what: &'static str, cause: impl fmt::Display) -> Self {
        Self::System { what, cause: cause.to_string() }
    }
}

impl From<BootstrapError> for StartError {
    fn from(error: BootstrapError) -> Self {
        match error {
            BootstrapError::Gossip(line) => Self::Gossip(line),
            BootstrapError::Addresses(cause) => Self::system("addresses", cause),
        }
    }
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Listen(error) => error.fmt(f),
            Self::Gossip(line)
            | Self::TestVariable(line)
            | Self::Fill(line)
            | Self::Tls(line)
            | Self::Disk(line) => f.write_str(line),
            Self::System { what, cause } => {
                write!(f, "cannot get {what} from the system: {cause}: check its limits")
            }
        }
    }
}

impl std::error::Error for StartError {}
