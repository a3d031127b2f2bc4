//! Errors of a request to one address, and to a list of them.

use std::fmt;

use crate::core::Stamp;

/// Why there is no answer.
#[derive(Debug)]
pub(super) enum ExchangeError {
    /// The request cannot be sent over HTTP.
    Unsendable(String),
    /// There was no connection: the node did nothing.
    Unconnected(String),
    /// The same, and the reason says what to do: another host, or another scheme or authority of TLS.
    Unsuitable(String),
    /// The address answers nothing: the node did nothing, and a later request may be answered.
    Silent(String),
    /// The request was sent, and there is no whole answer: the node may have done it.
    Unanswered(String),
}

/// Why HTTP cannot carry a request.
#[derive(Debug)]
pub(crate) struct Unsendable(pub(crate) String);

impl From<Unsendable> for ExchangeError {
    fn from(Unsendable(why): Unsendable) -> Self {
        Self::Unsendable(why)
    }
}

impl fmt::Display for ExchangeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (Self::Unsendable(why)
        | Self::Unconnected(why)
        | Self::Unsuitable(why)
        | Self::Silent(why)
        | Self::Unanswered(why)) = self;
        f.write_str(why)
    }
}

/// Why a request has no answer of any node of the list.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum SendError {
    /// HTTP cannot carry the request.
    Unsendable(String),
    /// No node answered.
    NoAnswer {
        /// What happened at each address.
        errors: Vec<String>,
        /// The request was a write, and none was sent.
        is_write: bool,
        /// All of them say what to do.
        is_explained: bool,
    },
    /// A write was sent, and its result is unknown.
    InDoubt {
        /// What happened at each address.
        errors: Vec<String>,
        /// The stamp of the write. With it the write can be repeated; `None` if the node was to give it.
        stamp: Option<Stamp>,
    },
}

impl fmt::Display for SendError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unsendable(why) => f.write_str(why),
            Self::NoAnswer { errors, .. } | Self::InDoubt { errors, .. } => f.write_str(&errors.join("; ")),
        }
    }
}

/// Why an answer cannot be from a node, in one line.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct NotANode(pub(crate) String);
