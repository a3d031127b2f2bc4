//! What is remembered of a name that is polled.

use hyper::header::HeaderValue;

use super::left::Left;
use crate::core::Version;
use crate::fill::judge::Judge;
use crate::fill::token::Challenge;

/// What the poller remembers of a name.
#[derive(Debug, Default)]
pub(in crate::fill) struct Polled {
    pub(super) judge: Judge,
    /// The last entity tag as it was sent, and what it says.
    pub(super) last: Option<(HeaderValue, Version)>,
    /// The upstream wants to be asked by `GET`.
    pub(super) by_get: bool,
    /// What it wants to see.
    pub(super) challenge: Option<Challenge>,
    /// Whether it is left to another member.
    pub(in crate::fill) left: Left,
    pub(super) failures: u32,
    /// Which address is asked.
    pub(super) turn: usize,
    /// Counts up with each time that it is queued anew; what is queued with another number is over.
    pub(super) queued: u64,
    pub(super) in_flight: bool,
    /// On its way to those that are asked for first.
    pub(super) is_urgent: bool,
    /// Asked for again while it was in flight.
    pub(super) again: bool,
    /// Somebody said that it has changed: the next of `LOOK_AGAIN` while that does not show.
    pub(super) look: Option<usize>,
}
