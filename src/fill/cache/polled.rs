//! What is remembered of a name that is polled.

use hyper::header::HeaderValue;

use super::ask::Place;
use super::left::Left;
use crate::config::fill::Origin;
use crate::core::Version;
use crate::fill::judge::Judge;
use crate::fill::token::Wants;

/// What the poller remembers of a name.
#[derive(Debug, Default)]
pub(in crate::fill) struct Polled {
    pub(super) judge: Judge,
    /// The last answer with a version.
    pub(super) last: Option<Last>,
    /// `GET` answers where `HEAD` does not.
    pub(super) by_get: bool,
    /// What was last said is that there is nothing: `HEAD` would have to be confirmed.
    pub(super) is_nothing: bool,
    /// What the upstream wants to see.
    wants: Option<Wants>,
    /// What the place wants to see to which the upstream redirected last.
    wanted_elsewhere: Option<(Origin, Wants)>,
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

/// A version, and how it is asked whether that still stands.
#[derive(Clone, Debug)]
pub(super) struct Last {
    /// The entity tag as it was sent, if there was one.
    pub(super) tag: Option<HeaderValue>,
    pub(super) version: Version,
}

impl Polled {
    /// Whether `HEAD` is worth asking.
    pub(super) fn takes_head(&self) -> bool {
        !self.by_get && !self.is_nothing
    }

    /// What a place wants to see, as far as it has said so.
    pub(super) fn wants(&self, place: &Place) -> Option<Wants> {
        match place {
            Place::Upstream => self.wants.clone(),
            Place::Elsewhere(there) => {
                let known = self.wanted_elsewhere.as_ref().filter(|(origin, _)| origin.is_same_origin(there));
                known.map(|(_, wants)| wants.clone())
            }
        }
    }

    /// A place has said what it wants to see.
    pub(super) fn set_wants(&mut self, place: &Place, wants: Wants) {
        match place {
            Place::Upstream => self.wants = Some(wants),
            Place::Elsewhere(there) => self.wanted_elsewhere = Some((there.clone(), wants)),
        }
    }
}
