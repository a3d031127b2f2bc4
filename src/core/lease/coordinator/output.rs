//! What a step of a coordinator asks its node to do.

use std::sync::Arc;

use super::super::message::{Ballot, Blocker, Denied, LeaseChange, Unanswered};
use super::super::{Lease, LeaseId};
use crate::core::Incarnation;

/// What is to be done after a step.
#[derive(Debug, Default)]
pub struct Output {
    /// Ballots to send to voters.
    pub ballots: Vec<BallotCall>,
    /// Answers to requests for leases.
    pub acquired: Vec<Answer>,
    /// Answers to other requests, by their numbers.
    pub done: Vec<(u64, Done)>,
    /// What all nodes should know.
    pub changes: Vec<LeaseChange>,
}

impl Output {
    /// Whether there is nothing to do.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.ballots.is_empty() && self.acquired.is_empty() && self.done.is_empty() && self.changes.is_empty()
    }
}

/// The answer to a request for a lease.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The ticket.
    pub ticket: LeaseId,
    /// The node that holds the client's request.
    pub to: Incarnation,
    /// The number of the request there. A later request with the same ticket takes no answer to an earlier one: its
    /// client counts what is left of the lease from when it sent its own.
    pub request: u64,
    /// The lease, or why there is none.
    pub result: Result<Acquired, Denied>,
}

/// A ballot for a voter.
#[derive(Clone, Debug)]
pub struct BallotCall {
    /// The round, to be given with the vote.
    pub round: u64,
    /// The place of the set of voters in the configuration, to be given with the vote.
    pub set: usize,
    /// The hash of the voter's node id.
    pub node: u64,
    /// The ballot.
    pub ballot: Ballot,
}

/// A lease that was granted.
#[derive(Clone, Debug)]
pub struct Acquired {
    /// The lease.
    pub lease: Arc<Lease>,
    /// Its deadline, by the clock of the coordinator that also runs while the machine sleeps, µs.
    pub deadline_us: u64,
}

/// The answer to a request about a lease that there is.
#[derive(Clone, Debug)]
pub enum Done {
    /// It was renewed.
    Renewed(Acquired),
    /// It is not live any more. Of a check: a majority does not hold it.
    Lost,
    /// It was released, or nothing holds its path.
    Released,
    /// Another lease holds its path.
    OtherHolds(Blocker),
    /// A majority holds a lease with the token.
    Live {
        /// For how long a majority still holds it, µs.
        left_us: u64,
    },
    /// Too few voters have answered. Of a check: neither a majority that holds such a lease nor one that does not.
    NoMajority(Unanswered),
}
