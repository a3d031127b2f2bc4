//! Errors of one request to one address.

use std::fmt;

/// Why there is no answer.
#[derive(Debug)]
pub(super) enum ExchangeError {
    /// The request cannot be sent over HTTP.
    Unsendable(String),
    /// There was no connection: the node did nothing.
    Unconnected(String),
    /// The address answers nothing: the node did nothing, and a later request may be answered.
    Silent(String),
    /// The request was sent, and there is no whole answer: the node may have done it.
    Unanswered(String),
}

impl fmt::Display for ExchangeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (Self::Unsendable(why) | Self::Unconnected(why) | Self::Silent(why) | Self::Unanswered(why)) =
            self;
        f.write_str(why)
    }
}
