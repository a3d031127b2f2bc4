//! The counters of the gossip socket.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::seal::OpenError;
use crate::wire::datagram::Refusal;

/// Why a datagram was dropped without an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Dropped {
    /// It is no frame.
    Malformed,
    /// It is sealed, and this node has no secret; or it is not sealed, and this node has one.
    OtherMode,
    /// It is sealed with another secret, or for another cluster.
    UnknownKey,
    /// Its seal is not valid.
    Forged,
    /// It is too old, or a clock is wrong.
    Stale,
    /// It was received before.
    Replayed,
    /// There are more senders than the node can remember.
    TooManySenders,
    /// A member sealed it, and gossip cannot decode it.
    Undecodable,
    /// Gossip is too slow to process it.
    Overflow,
    /// It has our own incarnation, and this process did not send it: a copy of this process runs elsewhere.
    Twin,
    /// Another program on this machine sent it to the inner socket on loopback.
    Stray,
}

impl Dropped {
    /// All reasons.
    pub const ALL: [Self; 11] = [
        Self::Malformed,
        Self::OtherMode,
        Self::UnknownKey,
        Self::Forged,
        Self::Stale,
        Self::Replayed,
        Self::TooManySenders,
        Self::Undecodable,
        Self::Overflow,
        Self::Twin,
        Self::Stray,
    ];

    /// The value of the label `reason` of metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Malformed => "malformed",
            Self::OtherMode => "other_mode",
            Self::UnknownKey => "unknown_key",
            Self::Forged => "forged",
            Self::Stale => "stale",
            Self::Replayed => "replayed",
            Self::TooManySenders => "too_many_senders",
            Self::Undecodable => "undecodable",
            Self::Overflow => "overflow",
            Self::Twin => "twin",
            Self::Stray => "stray",
        }
    }

    /// A hint to the operator: the cause, or what to do.
    #[must_use]
    pub const fn advice(self) -> &'static str {
        match self {
            Self::Malformed => "another program sends to this port",
            Self::OtherMode => "give all nodes a cluster secret, or none",
            Self::UnknownKey => {
                "compare --cluster-id and the secrets of both nodes, and the key ids that they log"
            }
            Self::Forged => "an attacker tries keys, or the network damages datagrams",
            Self::Stale => "compare the clocks of both nodes; or an attacker sends captured datagrams",
            Self::Replayed => {
                "an attacker sends captured datagrams again, or the network duplicates datagrams"
            }
            Self::TooManySenders => "processes of the cluster start too often",
            Self::Undecodable => "compare the versions of both nodes",
            Self::Overflow => "this machine is too slow for its gossip",
            Self::Twin => "a copy of this process runs elsewhere: restart one of them",
            Self::Stray => "a program on this machine sends to a port that is not its own",
        }
    }
}

impl From<OpenError> for Dropped {
    fn from(error: OpenError) -> Self {
        match error {
            OpenError::Malformed => Self::Malformed,
            OpenError::OtherMode => Self::OtherMode,
            OpenError::UnknownKey => Self::UnknownKey,
            OpenError::Forged => Self::Forged,
        }
    }
}

impl From<Refusal> for Dropped {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Stale => Self::Stale,
            Refusal::Replayed => Self::Replayed,
            Refusal::TooManySenders => Self::TooManySenders,
        }
    }
}

/// Counters since the start.
#[derive(Debug, Default)]
pub struct Stats {
    /// Received datagrams, with dropped ones.
    pub datagrams_in: AtomicU64,
    /// Bytes of received datagrams.
    pub bytes_in: AtomicU64,
    /// Sent datagrams.
    pub datagrams_out: AtomicU64,
    /// Bytes of sent datagrams.
    pub bytes_out: AtomicU64,
    /// Datagrams that could not be sent.
    pub send_errors: AtomicU64,
    dropped: [AtomicU64; Dropped::ALL.len()],
    /// Values of members that could not be read.
    pub unreadable: AtomicU64,
}

impl Stats {
    /// The number of datagrams that were dropped for a reason.
    #[must_use]
    pub fn dropped(&self, why: Dropped) -> u64 {
        self.dropped[why as usize].load(Ordering::Relaxed)
    }

    /// The number of dropped datagrams.
    #[must_use]
    pub fn all_dropped(&self) -> u64 {
        Dropped::ALL.into_iter().map(|why| self.dropped(why)).sum()
    }

    /// Counts a dropped datagram; returns the count before.
    pub(super) fn drop_one(&self, why: Dropped) -> u64 {
        self.dropped[why as usize].fetch_add(1, Ordering::Relaxed)
    }

    pub(super) fn came(&self, bytes: usize) {
        self.datagrams_in.fetch_add(1, Ordering::Relaxed);
        self.bytes_in.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    pub(super) fn sent(&self, bytes: usize) {
        self.datagrams_out.fetch_add(1, Ordering::Relaxed);
        self.bytes_out.fetch_add(bytes as u64, Ordering::Relaxed);
    }
}
