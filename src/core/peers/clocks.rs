//! The known clocks of peers, and how many of them agree with ours.

use crate::core::stamp::{Now, Stamp};

/// If the answer about a clock took too long, the node asks for the clock again after this time, µs.
const PAUSE_US: u64 = 60_000_000;

/// The clock of one peer.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct PeerClock {
    /// How far it is ahead of ours, µs, by the last answer that came soon enough.
    offset_us: Option<i64>,
    /// When the node last sent a request for the clock alone, µs of the node's monotonic clock.
    asked_us: Option<u64>,
}

impl PeerClock {
    /// How far it is ahead of ours, µs; `None` while it is not known.
    pub(super) fn offset_us(&self) -> Option<i64> {
        self.offset_us
    }

    /// Records the clock `theirs` of an answer. The request was sent at `sent`, the answer came at `now`. The error is
    /// at most half of that time; an answer that took longer than `within_us` is ignored.
    pub(super) fn heard(&mut self, theirs: Stamp, sent: Now, now: Now, within_us: u64) {
        let took_us = now.mono_us.saturating_sub(sent.mono_us);
        if took_us <= within_us {
            let ours = now.wall.micros().saturating_sub(took_us / 2);
            self.offset_us = Some(theirs.micros().cast_signed() - ours.cast_signed());
        }
    }

    /// Whether the clock is not known, and the last request for it is old enough.
    pub(super) fn is_wanted(&self, mono_us: u64) -> bool {
        self.offset_us.is_none() && self.asked_us.is_none_or(|asked_us| asked_us + PAUSE_US <= mono_us)
    }

    /// Records that the node sends a request for the clock.
    pub(super) fn asked(&mut self, mono_us: u64) {
        self.asked_us = Some(mono_us);
    }
}

/// The numbers of clocks of a cluster that agree with ours, and that do not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::core) struct Clocks {
    /// Clocks close to ours, with ours.
    near: usize,
    /// Clocks that are known to be further off.
    off: usize,
    /// Live nodes, with this node.
    live: usize,
    /// Nodes that are live or away, with this node.
    cluster: usize,
}

impl Clocks {
    /// Counts the known offsets of `live` peers: within `most_us` of ours, or further off. A clock that is not known
    /// counts as neither. `members` is the number of members, live or away. This node's clock counts as one that
    /// agrees.
    pub(super) fn count(
        known_us: impl Iterator<Item = i64>,
        most_us: u64,
        live: usize,
        members: usize,
    ) -> Self {
        let (near, off): (Vec<i64>, Vec<i64>) = known_us.partition(|off| off.unsigned_abs() <= most_us);
        Self { near: near.len() + 1, off: off.len(), live: live + 1, cluster: members + 1 }
    }

    /// Whether the clocks of a majority of the live nodes agree.
    pub(in crate::core) fn agree(self) -> bool {
        2 * self.near > self.live
    }

    /// Whether the clock of any other node agrees.
    pub(in crate::core) fn agree_beside_us(self) -> bool {
        self.near > 1
    }

    /// Whether the clocks of a majority of the live nodes are known to disagree.
    pub(in crate::core) fn disagree(self) -> bool {
        2 * self.off > self.live
    }

    /// Whether the clocks of a majority of the whole cluster agree. Members that are away count, and the cluster counts
    /// as at least `others` nodes and this one: a node that hears no other node must not trust its own clock alone.
    pub(in crate::core) fn cluster_agrees(self, others: usize) -> bool {
        2 * self.near > self.cluster.max(others + 1)
    }
}

/// How far the clock of the cluster is ahead of ours, µs: the median of all known offsets and of our own offset 0; of
/// two in the middle, the later one. So only a majority of clocks can show that a time is not in the past yet: if half
/// of the clocks, or the only other known clock, are behind, they must not keep a node apart.
pub(super) fn median_us(known_us: impl Iterator<Item = i64>) -> i64 {
    let mut offsets: Vec<i64> = known_us.chain([0]).collect();
    let middle = offsets.len() / 2;
    *offsets.select_nth_unstable(middle).1
}
