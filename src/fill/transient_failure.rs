//! Failures of a request for a name that may pass.

use std::fmt;

use hyper::StatusCode;

use super::fill_error::FillError;

/// How a request for a name failed in a way that may pass.
#[derive(Debug)]
pub(super) enum TransientFailure<'a> {
    /// There was no connection. Has the reason.
    NoConnection(&'a str),
    /// There was a connection and no answer. Has the reason.
    NoAnswer(&'a str),
    /// The answer was a 5xx.
    ServerError(StatusCode),
}

impl TransientFailure<'_> {
    /// The error for readers of the name.
    pub(super) fn fill_error(&self) -> FillError {
        match self {
            Self::NoConnection(_) | Self::NoAnswer(_) => self.closed_reason(),
            Self::ServerError(_) => FillError::Failing(self.to_string().into()),
        }
    }

    /// The error for readers of other names while the address is closed because of this failure.
    pub(super) fn closed_reason(&self) -> FillError {
        match self {
            Self::NoConnection(why) | Self::NoAnswer(why) => {
                FillError::Unavailable(format!("the upstream does not answer: {why}").into())
            }
            Self::ServerError(_) => FillError::Failing(format!("{self}, for several names").into()),
        }
    }
}

impl fmt::Display for TransientFailure<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoConnection(why) | Self::NoAnswer(why) => f.write_str(why),
            Self::ServerError(status) => write!(f, "it answers {status}"),
        }
    }
}
