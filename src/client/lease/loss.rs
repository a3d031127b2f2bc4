//! Why a lease is over.

use std::fmt;

/// Why a lease is over.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum LeaseLoss {
    /// The nodes say that it is not live any more.
    Refused {
        /// Their reason, for humans.
        message: String,
    },
    /// No node has renewed it before its deadline.
    Expired {
        /// Why the last try failed, for humans.
        message: String,
    },
}

impl LeaseLoss {
    pub(super) fn expired(failure: Option<&str>) -> Self {
        Self::Expired { message: failure.unwrap_or("there was no time to renew it").to_owned() }
    }
}

impl fmt::Display for LeaseLoss {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused { message } => f.write_str(message),
            Self::Expired { message } => write!(f, "the lease was not renewed in time: {message}"),
        }
    }
}

impl std::error::Error for LeaseLoss {}
