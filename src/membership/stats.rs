//! What the gossip socket counts.

use std::sync::atomic::{AtomicU64, Ordering};

use super::datagram::Refusal;
use crate::seal::OpenError;

/// Why a datagram was dropped without an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Dropped {
    /// Not a frame.
    Malformed,
    /// Sealed, and we have no secret; or not sealed, and we have one.
    OtherMode,
    /// Sealed with another secret, or for another cluster.
    UnknownKey,
    /// The seal does not fit.
    Forged,
    /// Too old, or a clock is off.
    Stale,
    /// It was here before.
    Replayed,
    /// More senders than can be remembered.
    TooManySenders,
    /// Sealed by a member, and nothing that gossip understands.
    Undecodable,
    /// More than gossip takes in.
    Overflow,
    /// By our own incarnation, and not by us: a copy of this process runs elsewhere.
    Twin,
    /// To the inner socket on loopback, by somebody else on this machine.
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

    /// A word for metrics.
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

    /// What an operator may do about it.
    #[must_use]
    pub const fn advice(self) -> &'static str {
        match self {
            Self::Malformed => "something else sends to this port",
            Self::OtherMode => "give all nodes a cluster secret, or none",
            Self::UnknownKey => {
                "compare --cluster-id and the secrets of both nodes, and the key ids that they log"
            }
            Self::Forged => "somebody tries keys, or the network damages datagrams",
            Self::Stale => "compare the clocks of both nodes; or somebody sends what was overheard",
            Self::Replayed => "somebody sends again what was overheard, or the network doubles datagrams",
            Self::TooManySenders => "processes start too often",
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
    /// Datagrams that came, dropped ones too.
    pub datagrams_in: AtomicU64,
    /// Their bytes.
    pub bytes_in: AtomicU64,
    /// Datagrams that were sent.
    pub datagrams_out: AtomicU64,
    /// Their bytes.
    pub bytes_out: AtomicU64,
    /// Datagrams that the system did not take, or that were too large.
    pub send_errors: AtomicU64,
    dropped: [AtomicU64; Dropped::ALL.len()],
    /// Values of members that could not be read.
    pub unreadable: AtomicU64,
}

impl Stats {
    /// How many were dropped for a reason.
    #[must_use]
    pub fn dropped(&self, why: Dropped) -> u64 {
        self.dropped[why as usize].load(Ordering::Relaxed)
    }

    /// How many were dropped.
    #[must_use]
    pub fn all_dropped(&self) -> u64 {
        Dropped::ALL.into_iter().map(|why| self.dropped(why)).sum()
    }

    /// Counts one; returns how many there were before.
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
