//! What goes into a replica and what comes out of it.

use super::super::limits::{HORIZON_STEP_US, MAX_ANSWER_BYTES};
use super::super::protocol::ProtocolRange;

const SECOND_US: u64 = 1_000_000;

/// What a replica is told at its start.
#[derive(Clone, Copy, Debug)]
pub struct Config {
    /// Hash of the configured node id.
    pub node: u64,
    /// Hash of the region's name.
    pub region: u64,
    /// Whether it replicates with nobody: then it begins a set at once.
    pub alone: bool,
    /// How long tombstones live, µs.
    pub grace_us: u64,
    /// The horizon moves by multiples of this, µs.
    pub horizon_step_us: u64,
    /// However long somebody is missing, tombstones do not live longer than this, µs.
    pub horizon_cap_us: u64,
    /// Who comes or comes back holds the horizon for this long: time to sync, µs.
    pub settle_us: u64,
    /// From the end of a round to the next one, µs.
    pub sync_us: u64,
    /// The same when rounds find nothing but what is on its way, µs.
    pub sync_slow_us: u64,
    /// Most bytes in a request or answer of a round.
    pub budget: u32,
    /// For how long a write is pushed, µs.
    pub push_us: u64,
    /// How far ahead of its clock the node takes a client's stamp, µs. A clock that is off by most of it is not trusted.
    pub max_future_us: u64,
    /// The versions of the peer protocol that it speaks.
    pub protocol: ProtocolRange,
}

impl Config {
    /// As nodes run, in a group: only who and where it is differs.
    #[must_use]
    pub fn new(node: u64, region: u64) -> Self {
        Self {
            node,
            region,
            alone: false,
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
        }
    }
}

/// How often the wall clock was set.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ClockSteps {
    /// To a later time.
    pub forward: u64,
    /// To an earlier time.
    pub back: u64,
    /// How far it was set the last time, µs.
    pub last_us: i64,
}

impl ClockSteps {
    pub(super) fn add(&mut self, step_us: i64) {
        *if step_us > 0 { &mut self.forward } else { &mut self.back } += 1;
        self.last_us = step_us;
    }
}

/// What a replica counts.
#[derive(Clone, Copy, Debug, Default)]
pub struct Counts {
    /// Rounds that were complete.
    pub rounds: u64,
    /// Exchanges of vectors.
    pub vectors: u64,
    /// Snapshots that were complete.
    pub snapshots: u64,
    /// Rounds that found so much that a snapshot was taken instead.
    pub too_different: u64,
    /// Rounds and snapshots that were not.
    pub failures: u64,
    /// Differences that rounds found.
    pub differences: u64,
    /// Those of them that a push should have brought: the number that says whether replication is healthy.
    pub old_differences: u64,
    /// Requests of rounds.
    pub requests: u64,
    /// Horizons, in gossip and answers, that were no honest ones: a clock is wrong somewhere.
    pub wrong_horizons: u64,
    /// Of our own clock.
    pub clock_steps: ClockSteps,
}
