//! Calls about leases to other nodes.

use crate::core::Incarnation;
use crate::core::lease::message::LeaseRequest;
use crate::core::lease::{LeaseId, LeasePath, Token};

/// A call to another node. Its answer is handed to [`super::Leases::returned`].
#[derive(Debug)]
pub struct LeaseCall {
    /// The process.
    pub to: Incarnation,
    /// The request.
    pub request: LeaseRequest,
    /// What the answer is for.
    pub reply: Reply,
}

/// What the answer to a call is for.
#[derive(Debug)]
pub enum Reply {
    /// A vote.
    Vote {
        /// The round.
        round: u64,
        /// The place of the set of voters.
        set: usize,
        /// The voter.
        node: u64,
    },
    /// The decision about a request of a client of this node: its ticket and its number.
    Asked(LeaseId, u64),
    /// The end of a request about a lease that there is, with the request itself.
    Ended(u64, Box<LeaseRequest>),
    /// Whether a decision was taken by this node, which holds the client's request.
    Decided {
        /// The path.
        path: LeasePath,
        /// The ticket.
        ticket: LeaseId,
        /// The number of the request at the node.
        request: u64,
        /// The node.
        to: Incarnation,
        /// The token of the lease.
        token: Token,
    },
    /// The changes have arrived.
    Changes(Incarnation),
    /// What a voter remembers.
    Remembered(Incarnation),
    /// Nothing.
    None,
}
