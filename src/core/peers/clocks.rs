//! The clocks of peers, as far as they are known, and how many of them agree with ours.

use crate::core::stamp::{Now, Stamp};

/// A clock that an answer came too late to tell is asked for again after this, µs.
const PAUSE_US: u64 = 60_000_000;

/// The clock of one peer.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct PeerClock {
    /// How far it is ahead of ours, µs, as of the last answer that came soon enough to tell.
    offset_us: Option<i64>,
    /// When it was last asked for by itself, µs of the node's monotonic clock.
    asked_us: Option<u64>,
}

impl PeerClock {
    /// How far it is ahead of ours, µs, if it is known.
    pub(super) fn offset_us(&self) -> Option<i64> {
        self.offset_us
    }

    /// The peer showed it in an answer to a request that was sent at `sent`; the answer came at `now`. The truth lies
    /// within half of that time: an answer that took longer than `within_us` says nothing.
    pub(super) fn heard(&mut self, theirs: Stamp, sent: Now, now: Now, within_us: u64) {
        let took_us = now.mono_us.saturating_sub(sent.mono_us);
        if took_us <= within_us {
            let ours = now.wall.micros().saturating_sub(took_us / 2);
            self.offset_us = Some(theirs.micros().cast_signed() - ours.cast_signed());
        }
    }

    /// Whether it is not known, and was not asked for a short while ago.
    pub(super) fn is_wanted(&self, mono_us: u64) -> bool {
        self.offset_us.is_none() && self.asked_us.is_none_or(|asked_us| asked_us + PAUSE_US <= mono_us)
    }

    /// It is asked for by itself.
    pub(super) fn asked(&mut self, mono_us: u64) {
        self.asked_us = Some(mono_us);
    }
}

/// How many clocks of a cluster agree with ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::core) struct Clocks {
    /// Clocks close to ours, which counts.
    near: usize,
    /// Clocks that are known to be further off.
    off: usize,
    /// Live nodes, with ourselves.
    live: usize,
    /// Nodes that are live or away, with ourselves.
    group: usize,
}

impl Clocks {
    /// Counts the known offsets of `live` peers: within `most_us` of ours, or further off. A clock that is not known is
    /// neither. `members` are live or away. We count as one that agrees with us.
    pub(super) fn count(
        known_us: impl Iterator<Item = i64>,
        most_us: u64,
        live: usize,
        members: usize,
    ) -> Self {
        let (near, off): (Vec<i64>, Vec<i64>) = known_us.partition(|off| off.unsigned_abs() <= most_us);
        Self { near: near.len() + 1, off: off.len(), live: live + 1, group: members + 1 }
    }

    /// Whether a majority of the live nodes agrees.
    pub(in crate::core) fn agree(self) -> bool {
        2 * self.near > self.live
    }

    /// Whether any node beside us agrees.
    pub(in crate::core) fn agree_beside_us(self) -> bool {
        self.near > 1
    }

    /// Whether a majority of the live nodes is known to disagree.
    pub(in crate::core) fn disagree(self) -> bool {
        2 * self.off > self.live
    }

    /// Whether a majority agrees of the whole cluster, also of the members that are away, and of at least `others` nodes
    /// beside us: a node that hears no other must not take its own clock for that of all.
    pub(in crate::core) fn group_agrees(self, others: usize) -> bool {
        2 * self.near > self.group.max(others + 1)
    }
}

/// How far the cluster's clock is ahead of ours, µs, as far as known: the median of all offsets, our own 0 among them, and
/// of two in the middle the later one. So it takes a majority to say that something is not in the past yet: half of the
/// clocks being behind, or the only other one that is known, must not keep a node apart.
pub(super) fn median_us(known_us: impl Iterator<Item = i64>) -> i64 {
    let mut offsets: Vec<i64> = known_us.chain([0]).collect();
    let middle = offsets.len() / 2;
    *offsets.select_nth_unstable(middle).1
}
