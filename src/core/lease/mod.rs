//! Leases: locks that expire, on a name or on everything below it, granted by a majority of fixed voters.
//!
//! Nothing of a lease is on disk, in the set or in gossip. A [`Voter`] remembers for which leases it has voted, a
//! [`Coordinator`] asks the voters, and a [`View`] is what any node knows of the leases that are held. All three are
//! state machines without clocks or sockets: the node and the simulator drive the same ones.
//!
//! What is promised, and why it holds, is in `docs/internals/leases.md`. Sources of the idea: Trencséni and others,
//! "PaxosLease: Diskless Paxos for Leases" (2012), and Redis' "Redlock" with delayed restarts; the token of each grant
//! is a fencing token as Kleppmann asks for ("How to do distributed locking", 2016).

pub mod changeover;
pub mod concern;
pub mod coordinator;
pub mod message;
pub mod path;
pub mod queue;
pub mod rules;
pub mod slots;
pub mod table;
pub mod view;
pub mod voter;
pub mod voters;

use std::fmt;
use std::sync::Arc;

pub use concern::Concern;
pub use coordinator::Coordinator;
pub use path::{LeasePath, LeasePathError};
pub use slots::Slots;
pub use table::{Entry, EntryRef, Table};
pub use view::View;
pub use voter::Voter;
pub use voters::{VoterSet, VoterSetError};

use super::stamp::Stamp;

/// Shortest time to live, µs.
pub const MIN_TTL_US: u64 = 1_000_000;

/// Longest label of a holder, in bytes.
pub const MAX_LABEL_BYTES: usize = 256;

/// The part of the time to live, in 1/1000, by which a deadline is earlier than the end of the voters' entries: clocks
/// that run within 1 % of real time never let a holder outlast its voters.
pub const DRIFT_MARGIN: u64 = 25;

/// A pause beyond the longest time to live for which a voter abstains, µs: messages that were under way have arrived.
const SETTLE_US: u64 = 1_000_000;

/// For how long a voter abstains after a start, µs.
#[must_use]
pub const fn abstention_us(max_ttl_us: u64) -> u64 {
    max_ttl_us + max_ttl_us / 1000 * DRIFT_MARGIN + SETTLE_US
}

/// The id of a lease: made by one coordinator for one request. With the token it proves that a request is the holder's.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LeaseId(pub u128);

impl fmt::Debug for LeaseId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

/// The fencing token of a grant, µs since 1970: larger than that of each earlier grant that it conflicts with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Token(pub Stamp);

impl Token {
    /// The number.
    #[must_use]
    pub const fn micros(self) -> u64 {
        self.0.micros()
    }

    /// The next one.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0.next())
    }
}

/// A lease that is asked for or held.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lease {
    /// What it covers.
    pub path: LeasePath,
    /// Its id.
    pub id: LeaseId,
    /// Its token.
    pub token: Token,
    /// How long it lasts from a vote or a renewal on, µs.
    pub ttl_us: u64,
    /// The slots of the path that it takes; `None` if it takes the path alone.
    pub slots: Option<Slots>,
    /// The label of its holder.
    pub label: Arc<str>,
}

impl Lease {
    /// Whether this and another one may not be held at the same time: their paths overlap, and they do not share them
    /// by slots.
    #[must_use]
    pub fn conflicts_with(&self, other: &Self) -> bool {
        overlap(&self.path, self.slots.as_ref(), &other.path, other.slots.as_ref())
    }

    /// The deadline of a holder whose votes were sent at this moment: a clock of its node that also runs while the
    /// machine sleeps, µs.
    #[must_use]
    pub const fn deadline_us(&self, sent_us: u64) -> u64 {
        sent_us + self.ttl_us - self.ttl_us / 1000 * DRIFT_MARGIN
    }
}

/// The lease with a time to live, µs; the same memory if it has that one.
fn lasting(lease: &Arc<Lease>, ttl_us: u64) -> Arc<Lease> {
    match lease.ttl_us == ttl_us {
        true => Arc::clone(lease),
        false => Arc::new(Lease { ttl_us, ..Lease::clone(lease) }),
    }
}

/// A label. All empty ones share their memory.
#[must_use]
pub fn shared_label(text: &str) -> Arc<str> {
    if text.is_empty() { Arc::default() } else { text.into() }
}

/// Whether two claims may not be held at the same time.
fn overlap(path: &LeasePath, slots: Option<&Slots>, other: &LeasePath, others: Option<&Slots>) -> bool {
    if !path.overlaps(other) {
        return false;
    }
    match (slots, others) {
        (Some(slots), Some(others)) if path == other => slots.conflict_with(others),
        _ => true,
    }
}

#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
