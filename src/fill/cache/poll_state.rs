//! The state of a name's polls.

use hyper::header::HeaderValue;

use super::destination::Destination;
use super::ownership::Ownership;
use crate::config::origin::Origin;
use crate::core::Version;
use crate::fill::change_detector::ChangeDetector;
use crate::fill::token::RequiredAuth;

/// What the poller remembers of a name.
#[derive(Debug, Default)]
pub(in crate::fill) struct PollState {
    pub(super) detector: ChangeDetector,
    /// The last answer with a version.
    pub(super) last: Option<LastVersion>,
    /// `GET` answers where `HEAD` does not.
    pub(super) by_get: bool,
    /// The last answer was that there is no such name: after that only `GET` counts.
    pub(super) is_absent: bool,
    /// The credentials that the upstream requires.
    required_auth: Option<RequiredAuth>,
    /// The last redirect target, and the credentials that it requires.
    redirect_auth: Option<(Origin, RequiredAuth)>,
    /// Whether another member polls the name.
    pub(in crate::fill) ownership: Ownership,
    /// Polls in a row that failed.
    pub(super) failures: u32,
    /// How many addresses to skip.
    pub(super) turn: usize,
    /// Counts each time that the name is queued. A place in the queue with another number is outdated.
    pub(super) queued: u64,
    pub(super) in_flight: bool,
    /// The name is on its way to the urgent names of the queue.
    pub(super) is_urgent: bool,
    /// The name was requested again while it was in flight.
    pub(super) again: bool,
    /// The name was reported as changed: the index of the next pause of [`super::apply`] while the change does not
    /// show.
    pub(super) check: Option<usize>,
}

/// A version, and the entity tag for the next conditional request.
#[derive(Clone, Debug)]
pub(super) struct LastVersion {
    /// The entity tag as the upstream sent it, if it did.
    pub(super) tag: Option<HeaderValue>,
    pub(super) version: Version,
}

impl PollState {
    /// Whether the next poll begins with `HEAD`.
    pub(super) fn uses_head(&self) -> bool {
        !self.by_get && !self.is_absent
    }

    /// Records a failed poll. Returns the number of failures in a row.
    pub(super) fn record_failure(&mut self) -> u32 {
        self.failures = self.failures.saturating_add(1);
        self.turn = self.turn.wrapping_add(1);
        self.failures
    }

    /// The credentials that a destination requires, if it has answered so.
    pub(super) fn required_auth(&self, destination: &Destination) -> Option<RequiredAuth> {
        match destination {
            Destination::Upstream => self.required_auth.clone(),
            Destination::Redirected(there) => {
                let known = self.redirect_auth.as_ref().filter(|(origin, _)| origin.is_same_origin(there));
                known.map(|(_, required)| required.clone())
            }
        }
    }

    /// Records the credentials that a destination requires.
    pub(super) fn set_required_auth(&mut self, destination: &Destination, required: RequiredAuth) {
        match destination {
            Destination::Upstream => self.required_auth = Some(required),
            Destination::Redirected(there) => self.redirect_auth = Some((there.clone(), required)),
        }
    }
}
