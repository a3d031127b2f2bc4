//! The settings of a replica, and its counters.

use super::super::Name;
use super::super::limits::{HORIZON_STEP_US, MAX_ANSWER_BYTES, MAX_VECTOR};
use super::super::protocol::ProtocolRange;
use super::super::stamp::Stamp;

const SECOND_US: u64 = 1_000_000;

/// The settings of a replica.
#[derive(Clone, Copy, Debug)]
pub struct Config {
    /// Hash of the configured node id.
    pub node: u64,
    /// Hash of the region's name.
    pub region: u64,
    /// Whether the node has no peers: then it begins a set at once.
    pub alone: bool,
    /// Whether the set of the node is a mirror of another one. Then the node has no peers, joins when the mirror is
    /// complete, and all that is decided about the set is decided there.
    pub mirrors: bool,
    /// How long tombstones live, µs.
    pub grace_us: u64,
    /// The horizon moves by multiples of this, µs.
    pub horizon_step_us: u64,
    /// The longest life of a tombstone while a member is missing, µs.
    pub horizon_cap_us: u64,
    /// How long a member that comes, or comes back, holds the horizon: time to sync, µs.
    pub settle_us: u64,
    /// The pause between two rounds, µs.
    pub sync_us: u64,
    /// The longest pause while rounds find only differences that pushes will bring too, µs.
    pub sync_slow_us: u64,
    /// Most bytes in a request or answer of a round.
    pub budget: u32,
    /// For how long a write stays in the log for pushes, µs.
    pub push_us: u64,
    /// How far ahead of the node's clock a client's stamp may be, µs. A clock that is off by more than four fifths of
    /// it is not trusted.
    pub max_future_us: u64,
    /// The versions of the peer protocol that the node speaks.
    pub protocol: ProtocolRange,
    /// How many records of a name a set keeps that this node begins.
    pub history_versions: u8,
    /// Older records than this are compacted, µs; 0 keeps them.
    pub history_age_us: u64,
    /// With more processes in its vector, a node leaves out those that are gone for long.
    pub vector_room: usize,
    /// A checkpoint that was not written for this long holds nothing back, µs.
    pub checkpoint_expiry_us: u64,
    /// Most bytes of older records: beyond it they are compacted.
    pub max_history_bytes: usize,
    /// How long a node with a saved set waits for all addresses before it serves that set alone, µs.
    pub cold_start_wait_us: u64,
}

/// How far below the earliest stamp of a client's write the compaction horizon stays, µs: the time that a write takes.
const COMPACTION_MARGIN_US: u64 = 1_000_000;

impl Config {
    /// How far behind the clock the compaction horizon stays, µs: no client's write can come below it any more, except
    /// one that the client stamps in the past.
    #[must_use]
    pub fn compaction_lag_us(&self) -> u64 {
        self.max_future_us + COMPACTION_MARGIN_US
    }

    /// The default settings of a node of a cluster.
    #[must_use]
    pub fn new(node: u64, region: u64) -> Self {
        Self {
            node,
            region,
            alone: false,
            mirrors: false,
            grace_us: 24 * 3600 * SECOND_US,
            horizon_step_us: HORIZON_STEP_US,
            horizon_cap_us: 7 * 24 * 3600 * SECOND_US,
            settle_us: 60 * SECOND_US,
            sync_us: SECOND_US,
            sync_slow_us: 10 * SECOND_US,
            budget: MAX_ANSWER_BYTES as u32,
            push_us: 60 * SECOND_US,
            max_future_us: 2 * SECOND_US,
            protocol: ProtocolRange::IMPLEMENTED,
            history_versions: 1,
            history_age_us: 0,
            vector_room: MAX_VECTOR / 2,
            checkpoint_expiry_us: 24 * 3600 * SECOND_US,
            max_history_bytes: usize::MAX,
            cold_start_wait_us: 60 * SECOND_US,
        }
    }
}

/// The steps of the wall clock: how often it was set.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ClockSteps {
    /// To a later time.
    pub forward: u64,
    /// To an earlier time.
    pub back: u64,
    /// The size of the last step, µs.
    pub last_us: i64,
}

impl ClockSteps {
    pub(super) fn add(&mut self, step_us: i64) {
        *if step_us > 0 { &mut self.forward } else { &mut self.back } += 1;
        self.last_us = step_us;
    }
}

/// The counters of a replica.
#[derive(Clone, Copy, Debug, Default)]
pub struct Counts {
    /// Complete rounds.
    pub rounds: u64,
    /// Exchanges of vectors.
    pub vectors: u64,
    /// Complete snapshots.
    pub snapshots: u64,
    /// Rounds that were replaced by a snapshot, because the sets were too different.
    pub too_different: u64,
    /// Failed rounds and snapshots.
    pub failures: u64,
    /// Differences that rounds found.
    pub differences: u64,
    /// Differences that a push should have brought. If this number rises, replication is not healthy.
    pub old_differences: u64,
    /// Requests of rounds.
    pub requests: u64,
    /// Horizons in gossip and answers that no correct clock gives: a clock is wrong.
    pub wrong_horizons: u64,
    /// Deletes that this node has written because a value had ended.
    pub expired: u64,
    /// Steps of our own clock.
    pub clock_steps: ClockSteps,
}

/// The result of a compaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Compaction {
    /// Where the compaction horizon stands now.
    pub horizon: Stamp,
    /// What held it back, if it lies below what was asked for.
    pub held_by: Option<HeldBy>,
}

/// What holds the compaction horizon back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HeldBy {
    /// The clock: later writes may still come.
    Clock,
    /// A reader's checkpoint, by its name in the set.
    Checkpoint(Name),
}
