//! A live peer: how far it has our writes, when it was last in sync with us, and whether it is its turn.

use std::collections::BTreeMap;

use super::clocks::PeerClock;
use super::summary::{NodeState, Summary};
use crate::core::mutants::{Mutant, Mutants};
use crate::core::protocol::ProtocolVersion;
use crate::core::push::{Log, Outbox};
use crate::core::record::Incarnation;
use crate::core::sync::much_larger;

/// The live peers by their processes.
pub(super) type LivePeers = BTreeMap<Incarnation, Peer>;

/// Pause after a failed round with a peer, doubled by each further one, µs.
const PAUSE_US: u64 = 500_000;

/// A live peer.
#[derive(Clone, Debug)]
pub struct Peer {
    /// What it last said of itself.
    pub summary: Summary,
    /// The highest version of the protocol that both speak.
    version: Option<ProtocolVersion>,
    pub(in crate::core) outbox: Outbox,
    pub(super) clock: PeerClock,
    /// When the last exchange after which each held what the other did began, µs of the node's monotonic clock: a round
    /// that was complete, or the sight of a set that is the same as ours. `None` if there was none since it came.
    met_us: Option<u64>,
    /// Rounds with it that failed since the last one that did not.
    failures: u32,
    /// No round before this, µs of the node's monotonic clock.
    not_before_us: u64,
    /// The marks (theirs, ours) when vectors were last exchanged: once is enough, even if they stay different.
    marks: Option<(u32, u32)>,
}

/// What to do with a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Errand {
    /// The sets differ.
    Round,
    /// The sets are equal and the vectors differ.
    Vectors,
}

/// The turn for which a peer is chosen.
#[derive(Clone, Copy)]
pub(super) struct Turn<'a> {
    /// The node's monotonic clock, µs.
    pub(super) mono_us: u64,
    /// What we gossip.
    pub(super) ours: &'a Summary,
    /// Whether peers of another region go before those of ours.
    pub(super) abroad: bool,
    /// When the sweep under way began, µs of the node's monotonic clock.
    pub(super) sweep_since_us: u64,
    pub(super) mutants: Mutants,
}

impl Peer {
    /// A peer that has just come, and has our writes as far as the outbox says. `version` is the common one of the
    /// protocol.
    pub(super) fn new(summary: Summary, version: Option<ProtocolVersion>, outbox: Outbox) -> Self {
        let (clock, met_us, failures, not_before_us, marks) = (PeerClock::default(), None, 0, 0, None);
        Self { summary, version, outbox, clock, met_us, failures, not_before_us, marks }
    }

    /// The version of the protocol in which it is asked: the highest that both speak. Without one it is not asked at
    /// all: it is a member like others, and nothing can be had from it.
    #[must_use]
    pub fn version(&self) -> Option<ProtocolVersion> {
        self.version
    }

    /// Whether it may lack writes of ours that will not be pushed to it: a sync has to find them.
    #[must_use]
    pub fn is_dirty(&self) -> bool {
        self.outbox.is_dirty()
    }

    /// How many of our writes it has yet to acknowledge, as far as push goes.
    #[must_use]
    pub fn lag(&self, log: &Log) -> u64 {
        self.outbox.lag(log)
    }

    /// How often in a row rounds and snapshots with it failed.
    #[must_use]
    pub fn failures(&self) -> u32 {
        self.failures
    }

    /// Whether it has failed so short a while ago that it is not asked yet.
    pub(in crate::core) fn rests(&self, mono_us: u64) -> bool {
        mono_us < self.not_before_us
    }

    /// How far its clock is ahead of ours, µs, if it is known.
    #[must_use]
    pub fn offset_us(&self) -> Option<i64> {
        self.clock.offset_us()
    }

    /// When the last exchange began after which each held what the other did, µs of the node's monotonic clock.
    pub(super) fn met_us(&self) -> Option<u64> {
        self.met_us
    }

    /// Its set is the same as ours now.
    pub(super) fn is_met(&mut self, mono_us: u64) {
        self.met_us = Some(mono_us);
    }

    /// A round with it that began at `met_us` is complete: each has all that the other had. `ours` is our vector's
    /// mark.
    pub(super) fn synced(&mut self, ours: u32, met_us: u64) {
        self.met_us = self.met_us.max(Some(met_us));
        self.failures = 0;
        self.outbox.synced();
        self.marks = Some((self.summary.vector, ours));
    }

    /// It has to do something else first.
    pub(super) fn rest(&mut self, mono_us: u64) {
        self.not_before_us = mono_us + PAUSE_US;
    }

    /// A round with it failed.
    pub(super) fn failed(&mut self, mono_us: u64) {
        self.not_before_us = mono_us + (PAUSE_US << self.failures.min(4));
        self.failures += 1;
    }

    /// Whether its set is the same as ours, so that there is nothing to compare (rule 1).
    pub(super) fn is_same(&self, turn: &Turn<'_>) -> bool {
        self.summary.same_set(turn.ours) && !turn.mutants.has(Mutant::EqualSetsTalk)
    }

    /// What to do with it in a turn, and how much that is preferred to other peers: the highest rank has the turn.
    /// `None` if there is nothing to do with it now.
    ///
    /// | rank | |
    /// |---|---|
    /// | 5 | a round with a peer that is dirty or new, and has not failed last time |
    /// | 3, 4 | a round with a peer of another region, in each fourth turn; 4 if it was not met in this sweep |
    /// | 1, 2 | any other round; 2 if it was not met in this sweep |
    /// | 0 | the sets are equal: its vector or its clock is asked for |
    pub(super) fn rank(&self, turn: &Turn<'_>) -> Option<(u32, Errand)> {
        // a joining peer takes a snapshot by itself; what it was pushed meanwhile may be news here
        let useful = match self.summary.state {
            // a node that leaves may hold what no other has
            NodeState::Ready | NodeState::Leaving => true,
            NodeState::Joining => !much_larger(turn.ours.root.count, self.summary.root.count),
        };
        if !useful || self.version.is_none() || self.rests(turn.mono_us) {
            return None;
        }
        if self.is_same(turn) {
            let marks = (self.summary.vector, turn.ours.vector);
            let differ = marks.0 != marks.1 && self.marks != Some(marks);
            return (differ || self.clock.is_wanted(turn.mono_us)).then_some((0, Errand::Vectors));
        }
        // a peer that failed last time has no right of way: else those that always fail would leave no turn to others
        let has_not_failed = self.failures == 0;
        if has_not_failed && (self.is_dirty() || self.met_us.is_none()) {
            return Some((5, Errand::Round));
        }
        let far = turn.abroad && self.summary.region != turn.ours.region;
        let due = has_not_failed && self.met_us < Some(turn.sweep_since_us);
        Some((1 + 2 * u32::from(far) + u32::from(due), Errand::Round))
    }
}
