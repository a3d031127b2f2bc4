//! The messages of leases between nodes. They are plain values; `wire::message` encodes them.

use std::sync::Arc;

use super::voters::VoterSetId;
use super::{Lease, LeaseId, LeasePath, Token};
use crate::core::Stamp;

/// A request to a voter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ballot {
    /// The set of voters for which it is asked.
    pub set: VoterSetId,
    /// Whether the coordinator knows no other set.
    pub alone: bool,
    /// What it is asked for.
    pub motion: Motion,
}

/// What a voter is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Motion {
    /// To vote for a lease.
    Grant {
        /// The lease.
        lease: Arc<Lease>,
        /// A lease that is not held any more, which this one replaces: its holder has just released it, or it is the
        /// last try for this one.
        instead_of: Option<(LeasePath, LeaseId, Token)>,
    },
    /// To keep a lease for another time to live.
    Renew {
        /// The lease.
        lease: Arc<Lease>,
        /// The time at the coordinator's wall clock, if it knows that the lease is live, and what it is. Otherwise only
        /// a voter that holds it keeps it.
        live_at: Option<Stamp>,
    },
    /// To forget a lease.
    Release {
        /// Its path.
        path: LeasePath,
        /// Its token.
        token: Token,
        /// Its id; `None` if only the token is known. Two coordinators may try the same token, of which one is granted.
        id: Option<LeaseId>,
    },
    /// Whether a lease with this token is on the path of a name, or above it.
    Check {
        /// The path: that of the name.
        path: LeasePath,
        /// The token.
        token: Token,
    },
}

/// The answer of a voter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Vote {
    /// It votes for the lease, or keeps it.
    Granted {
        /// Whether it has held the lease since that was known to be live, so that a coordinator that does not know its
        /// deadline may count the vote.
        firm: bool,
        /// The lease as the voter holds it, for a coordinator that does not know it.
        held: Option<Arc<Lease>>,
    },
    /// It has forgotten the lease, or there was none.
    Released,
    /// A lease with the token is there.
    Live {
        /// How long the voter still keeps it, µs.
        left_us: u64,
    },
    /// It does not.
    Refused(VoteRefusal),
}

/// The answer of a voter, and what it knows of its set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VoterAnswer {
    /// Its vote.
    pub vote: Vote,
    /// Whether the set for which it was asked decides alone, while the voters change.
    pub decides: bool,
}

/// Why a voter does not vote for a lease.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum VoteRefusal {
    /// It is not in that set of voters, or does not know it.
    OtherVoters,
    /// It has started not long ago, and may have voted for leases that it does not remember.
    Abstains {
        /// For how long, µs.
        left_us: u64,
    },
    /// Another process with its node id is live.
    Doubled,
    /// It does not trust its clock.
    ClockInDoubt,
    /// Another lease stands in the way.
    Held(Blocker),
    /// The token is not larger than those that it has seen.
    TokenTooLow {
        /// The largest that it has seen.
        seen: Token,
    },
    /// The token is too far ahead of its clock.
    TokenTooHigh,
    /// The time to live is longer than it may be.
    TtlTooLong,
    /// It remembers as many leases as it may.
    Full,
    /// It does not hold that lease.
    NotHeld,
    /// It is about to stop: the next process with its id counts from its own start for how long it abstains.
    Leaving,
}

impl VoteRefusal {
    /// All reasons as labels of metrics, in the order of [`VoteRefusal::index`].
    pub const LABELS: [&str; 11] = [
        "other_voters",
        "abstains",
        "doubled",
        "clock_in_doubt",
        "held",
        "token_too_low",
        "token_too_high",
        "ttl_too_long",
        "full",
        "not_held",
        "leaving",
    ];

    /// The place of the reason in [`VoteRefusal::LABELS`].
    #[must_use]
    pub const fn index(&self) -> usize {
        match self {
            Self::OtherVoters => 0,
            Self::Abstains { .. } => 1,
            Self::Doubled => 2,
            Self::ClockInDoubt => 3,
            Self::Held(_) => 4,
            Self::TokenTooLow { .. } => 5,
            Self::TokenTooHigh => 6,
            Self::TtlTooLong => 7,
            Self::Full => 8,
            Self::NotHeld => 9,
            Self::Leaving => 10,
        }
    }
}

/// A lease that stands in the way of another one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Blocker {
    /// Its path.
    pub path: LeasePath,
    /// Its id.
    pub id: LeaseId,
    /// The label of its holder.
    pub label: Arc<str>,
    /// Its token.
    pub token: Token,
    /// How long it lasts unless it is renewed, µs.
    pub left_us: u64,
}

/// A change of the leases that are held, as any node learns of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LeaseChange {
    /// A lease is held, or was renewed.
    Held {
        /// The lease.
        lease: Arc<Lease>,
        /// How long it lasts from now on, µs.
        left_us: u64,
    },
    /// A lease was released.
    Released {
        /// Its path.
        path: LeasePath,
        /// Its token.
        token: Token,
    },
}

/// A lease and how long it lasts from now on, µs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LiveLease {
    /// The lease.
    pub lease: Arc<Lease>,
    /// How long it lasts unless it is renewed, µs.
    pub left_us: u64,
}

/// A request for a lease, as the node that holds the client's request sends it to the coordinator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeaseAsk {
    /// The ticket: the same request has the same one when it is asked again.
    pub ticket: LeaseId,
    /// The number of the request at the node that holds it, for the answer.
    pub request: u64,
    /// The path.
    pub path: LeasePath,
    /// How many slots the path has, and how many of them are wanted; `None` for the path alone.
    pub slots: Option<(u16, u16)>,
    /// The time to live, µs.
    pub ttl_us: u64,
    /// The label of the holder.
    pub label: Arc<str>,
    /// How long the client has waited already, µs.
    pub age_us: u64,
    /// How long it still waits, µs.
    pub wait_us: u64,
}

/// A request about leases to another node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LeaseRequest {
    /// To a voter.
    Ballot(Ballot),
    /// To the coordinator: a client wants a lease.
    Acquire(LeaseAsk),
    /// To the coordinator: these clients still wait.
    Confirm(Vec<LeaseAsk>),
    /// To the coordinator: this client does not wait any more.
    Cancel {
        /// The path.
        path: LeasePath,
        /// The ticket.
        ticket: LeaseId,
        /// The number of the request at its node: a later one with the same ticket is not cancelled.
        request: u64,
        /// The token of the lease that no client took.
        granted: Option<Token>,
    },
    /// To the coordinator: a holder renews its lease.
    Renew(Arc<Lease>),
    /// To the coordinator: a holder gives its lease back.
    Release {
        /// The path.
        path: LeasePath,
        /// The token.
        token: Token,
    },
    /// To the node that holds a client's request: the coordinator has decided.
    Decided {
        /// The ticket.
        ticket: LeaseId,
        /// The number of the request there.
        request: u64,
        /// The lease, or why it is not granted.
        decision: Decision,
    },
    /// To all nodes: what has changed.
    Changes(Vec<LeaseChange>),
    /// To a voter: the leases that it remembers, after a key.
    Remembered {
        /// The key; empty for all.
        after: Vec<u8>,
    },
    /// Several requests for one exchange, in order. None of them goes [`Way::Alone`].
    Batch(Vec<LeaseRequest>),
}

impl LeaseRequest {
    /// How it goes to its node.
    #[must_use]
    pub const fn way(&self) -> Way {
        match self {
            Self::Ballot(_)
            | Self::Confirm(_)
            | Self::Cancel { .. }
            | Self::Decided { .. }
            | Self::Changes(_) => Way::Together,
            Self::Acquire(_) | Self::Release { .. } => Way::Either,
            Self::Renew(_) | Self::Remembered { .. } | Self::Batch(_) => Way::Alone,
        }
    }

    /// Whether it is for the coordinator of a path. A node that doubts its clock does not take such a request, for
    /// voters refuse its tokens: the node that asks coordinates in its place.
    #[must_use]
    pub const fn needs_coordinator(&self) -> bool {
        matches!(self, Self::Acquire(_) | Self::Confirm(_) | Self::Renew(_) | Self::Release { .. })
    }

    /// How many leases it may carry.
    #[must_use]
    pub fn leases(&self) -> usize {
        match self {
            // the lease, and the one that it takes the place of
            Self::Ballot(_) => 2,
            Self::Confirm(asks) => asks.len(),
            Self::Changes(changes) => changes.len(),
            Self::Batch(requests) => requests.iter().map(Self::leases).sum(),
            _ => 1,
        }
    }
}

/// How a request goes to its node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// With others in a batch: its answer waits for no other node, and is small.
    Together,
    /// In a batch, whose answer may only say that it waits; or alone, and then the answer waits.
    Either,
    /// Alone.
    Alone,
}

/// The answer to a [`LeaseRequest`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LeaseResponse {
    /// To a ballot.
    Vote(VoterAnswer),
    /// To a request for a lease.
    Decided(Decision),
    /// To a request for a lease that is not decided yet: the coordinator will say. To a release in a batch: the
    /// coordinator does not know the lease.
    Waits,
    /// To a renewal or a release.
    Ended(Ending),
    /// To a decision: whether a client still waits for it.
    Taken(bool),
    /// To what needs no answer.
    Noted,
    /// To the question what a voter remembers.
    Remembered {
        /// Leases by path.
        leases: Vec<LiveLease>,
        /// Whether there are more behind them.
        more: bool,
    },
    /// To a batch: the answers to its requests, in their order.
    Batch(Vec<LeaseResponse>),
}

/// How a request for a lease was decided.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// The lease.
    Granted(LiveLease),
    /// Why there is none.
    Denied(Denied),
}

/// How a request about a lease that there is has ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ending {
    /// It was renewed.
    Renewed(LiveLease),
    /// It is not live any more.
    Lost,
    /// It was released, or nothing holds its path.
    Released,
    /// Another lease holds its path.
    OtherHolds(Blocker),
    /// A majority of the voters holds it.
    Live,
    /// Too few voters have answered.
    NoMajority(Unanswered),
}

/// Why a lease is not granted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Denied {
    /// A lease stands in the way: the one that lasts longest, if it is known.
    Held(Option<Blocker>),
    /// Too few voters have voted.
    NoMajority(Unanswered),
    /// The coordinator has as many leases as it may.
    TooManyLeases,
    /// As many requests wait as may.
    TooManyWaiters,
}

/// How the voters answered that have not voted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Unanswered {
    /// How many voters there are.
    pub voters: u8,
    /// How many have answered, whatever they said.
    pub answered: u8,
    /// For how long at least one of them still abstains, µs; 0 if none does.
    pub abstains_for_us: u64,
    /// Why one of them does not vote: its place in [`VoteRefusal::LABELS`].
    pub reason: Option<u8>,
}
