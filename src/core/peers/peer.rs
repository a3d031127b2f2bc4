//! A live peer: which of our writes it has, when it was last in sync with us, and its rank among the peers to sync
//! with.

use std::collections::BTreeMap;

use super::clocks::PeerClock;
use super::summary::{NodeState, Summary};
use crate::core::mutants::{Mutant, Mutants};
use crate::core::protocol::ProtocolVersion;
use crate::core::push::{Outbox, WriteLog};
use crate::core::record::Incarnation;
use crate::core::sync::much_larger;

/// The live peers by their processes.
pub(super) type LivePeers = BTreeMap<Incarnation, Peer>;

/// Pause after a failed round with a peer, µs. Each further failure doubles it, up to 16 times this.
const PAUSE_US: u64 = 500_000;

/// A live peer.
#[derive(Clone, Debug)]
pub struct Peer {
    /// The summary that it last gossiped.
    pub summary: Summary,
    /// The highest version of the protocol that both nodes speak; `None` if they have none in common.
    version: Option<ProtocolVersion>,
    pub(in crate::core) outbox: Outbox,
    pub(super) clock: PeerClock,
    /// When the two sets were last in sync, µs of the node's monotonic clock: when the last complete round began, or
    /// when gossip last showed a set equal to ours. `None` if neither has happened since the peer came.
    last_in_sync_us: Option<u64>,
    /// The number of failed rounds and snapshots since the last complete one.
    failures: u32,
    /// No round before this, µs of the node's monotonic clock.
    not_before_us: u64,
    /// The marks (theirs, ours) of the last exchange of vectors: one exchange is enough, even if the marks stay
    /// different.
    marks: Option<(u32, u32)>,
}

/// A task of sync with a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SyncTask {
    /// A round: the sets differ.
    Round,
    /// An exchange of vectors and clocks: the sets are equal.
    Vectors,
}

/// The turn for which a peer is chosen.
#[derive(Clone, Copy)]
pub(super) struct Turn<'a> {
    /// The node's monotonic clock, µs.
    pub(super) mono_us: u64,
    /// Our own summary.
    pub(super) ours: &'a Summary,
    /// Whether peers of another region go before peers of our region.
    pub(super) abroad: bool,
    /// When the current anti-entropy pass began, µs of the node's monotonic clock.
    pub(super) pass_since_us: u64,
    pub(super) mutants: Mutants,
}

impl Peer {
    /// A peer that has just come. `version` is the common version of the protocol; `outbox` says which of our writes
    /// the peer has.
    pub(super) fn new(summary: Summary, version: Option<ProtocolVersion>, outbox: Outbox) -> Self {
        let (clock, last_in_sync_us, failures, not_before_us, marks) =
            (PeerClock::default(), None, 0, 0, None);
        Self { summary, version, outbox, clock, last_in_sync_us, failures, not_before_us, marks }
    }

    /// The version of the protocol of requests to the peer: the highest that both nodes speak. If it is `None`, this
    /// node sends it no requests; the peer is a member like others.
    #[must_use]
    pub fn version(&self) -> Option<ProtocolVersion> {
        self.version
    }

    /// Whether the peer may lack writes of ours that no push will bring: a sync is due.
    #[must_use]
    pub fn needs_repair(&self) -> bool {
        self.outbox.needs_repair()
    }

    /// The number of our writes that the peer has not acknowledged to a push.
    #[must_use]
    pub fn lag(&self, log: &WriteLog) -> u64 {
        self.outbox.lag(log)
    }

    /// The number of rounds and snapshots with the peer that failed in a row.
    #[must_use]
    pub fn failures(&self) -> u32 {
        self.failures
    }

    /// Whether the peer has a pause, after a failure or because it is busy: no round with it yet.
    pub(in crate::core) fn rests(&self, mono_us: u64) -> bool {
        mono_us < self.not_before_us
    }

    /// How far the peer's clock is ahead of ours, µs; `None` while it is not known.
    #[must_use]
    pub fn offset_us(&self) -> Option<i64> {
        self.clock.offset_us()
    }

    /// When the two sets were last in sync, µs of the node's monotonic clock; `None` if not since the peer came.
    pub(super) fn last_in_sync_us(&self) -> Option<u64> {
        self.last_in_sync_us
    }

    /// Records that the peer's set is equal to ours now.
    pub(super) fn set_in_sync(&mut self, mono_us: u64) {
        self.last_in_sync_us = Some(mono_us);
    }

    /// Records that a round which began at `began_us` is complete: each node has what the other had. `ours` is the mark
    /// of our vector.
    pub(super) fn synced(&mut self, ours: u32, began_us: u64) {
        self.last_in_sync_us = self.last_in_sync_us.max(Some(began_us));
        self.failures = 0;
        self.outbox.synced();
        self.marks = Some((self.summary.vector, ours));
    }

    /// Records that the peer is busy: it gets a pause.
    pub(super) fn rest(&mut self, mono_us: u64) {
        self.not_before_us = mono_us + PAUSE_US;
    }

    /// Records that a round failed: the peer gets a pause.
    pub(super) fn failed(&mut self, mono_us: u64) {
        self.not_before_us = mono_us + (PAUSE_US << self.failures.min(4));
        self.failures += 1;
    }

    /// Whether the peer's set is equal to ours, so that there is nothing to compare (rule 1).
    pub(super) fn is_same(&self, turn: &Turn<'_>) -> bool {
        self.summary.same_set(turn.ours) && !turn.mutants.has(Mutant::EqualSetsCompared)
    }

    /// The rank of the peer in a turn, and its task: the peer with the highest rank has the turn. `None` if there is no
    /// task now.
    ///
    /// | rank | task |
    /// |---|---|
    /// | 5 | a round with a peer that needs repair or is new, if the last round with it has not failed |
    /// | 3, 4 | a round with a peer of another region, in each fourth turn; 4 if it was not in sync in this pass |
    /// | 1, 2 | any other round; 2 if the peer was not in sync in this pass |
    /// | 0 | the sets are equal: an exchange of vectors and clocks |
    pub(super) fn rank(&self, turn: &Turn<'_>) -> Option<(u32, SyncTask)> {
        // a joining peer takes a snapshot by itself; it may hold pushed records that are news here
        let useful = match self.summary.state {
            // a leaving node may hold records that no other node has
            NodeState::Ready | NodeState::Leaving => true,
            NodeState::Joining => !much_larger(turn.ours.root.count, self.summary.root.count),
        };
        if !useful || self.version.is_none() || self.rests(turn.mono_us) {
            return None;
        }
        if self.is_same(turn) {
            let marks = (self.summary.vector, turn.ours.vector);
            let differ = marks.0 != marks.1 && self.marks != Some(marks);
            // a set that is equal to a proven one is proven
            let proves = turn.ours.unproven.is_some() && self.summary.unproven.is_none();
            let asks = differ || proves || self.clock.is_wanted(turn.mono_us);
            return asks.then_some((0, SyncTask::Vectors));
        }
        // a peer that failed last time has no priority: else peers that always fail would leave no turn to others
        let has_not_failed = self.failures == 0;
        if has_not_failed && (self.needs_repair() || self.last_in_sync_us.is_none()) {
            return Some((5, SyncTask::Round));
        }
        let far = turn.abroad && self.summary.region != turn.ours.region;
        let due = has_not_failed && self.last_in_sync_us < Some(turn.pass_since_us);
        Some((1 + 2 * u32::from(far) + u32::from(due), SyncTask::Round))
    }
}
