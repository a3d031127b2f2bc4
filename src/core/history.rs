//! History: how many older records of a name a set keeps, and how far back.
//!
//! Two registers bound it, and both travel between nodes, so that sets which received the same records hold the same
//! ones. The [`Depth`] says how many records a name keeps, newest first. The compaction horizon is a stamp: older
//! records below it are gone, unless they are current.

use std::collections::BTreeMap;

use super::limits::{COMPACTION_STEP_US, MAX_HISTORY_VERSIONS};
use super::name::Name;
use super::record::Record;
use super::stamp::Stamp;

/// The register of how many records a name keeps. The later epoch wins; of one epoch the greater number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Depth {
    epoch: Stamp,
    versions: u8,
    least: u8,
}

impl Depth {
    /// The depth before any set is joined: nothing is cut, whatever depth the set will turn out to have.
    pub const UNKNOWN: Self =
        Self { epoch: Stamp::ZERO, versions: MAX_HISTORY_VERSIONS, least: MAX_HISTORY_VERSIONS };

    /// A depth of `versions` records, of 1 to [`MAX_HISTORY_VERSIONS`], that is set at `epoch`: [`Stamp::ZERO`] is that
    /// of a genesis.
    #[must_use]
    pub fn new(epoch: Stamp, versions: u8) -> Self {
        let versions = versions.clamp(1, MAX_HISTORY_VERSIONS);
        Self { epoch, versions, least: versions }
    }

    /// As it was received from a peer: `None` if it is not a depth.
    #[must_use]
    pub fn received(epoch: Stamp, versions: u8, least: u8) -> Option<Self> {
        let is_depth = 1 <= least && least <= versions && versions <= MAX_HISTORY_VERSIONS;
        is_depth.then_some(Self { epoch, versions, least })
    }

    /// When it was set; [`Stamp::ZERO`] if it is that of the genesis.
    #[must_use]
    pub fn epoch(self) -> Stamp {
        self.epoch
    }

    /// The number of records that a name keeps, its current one included.
    #[must_use]
    pub fn versions(self) -> u8 {
        self.versions
    }

    /// The least number that was ever in force: a record may be missing below that many greater ones.
    #[must_use]
    pub fn least(self) -> u8 {
        self.least
    }

    /// The number of records that this name keeps: those of the node's own namespaces keep one.
    #[must_use]
    pub fn versions_of(self, name: &Name) -> usize {
        if name.is_own() { 1 } else { usize::from(self.versions) }
    }

    /// The least number that this name ever kept, as [`Depth::least`].
    #[must_use]
    pub fn least_of(self, name: &Name) -> usize {
        if name.is_own() { 1 } else { usize::from(self.least) }
    }

    /// This depth, or that of another node if it is later. Of the depths of two geneses the own one stays: it changes
    /// with the genesis. The least of both counts in any case: writes that the other node pushed are reflected by as
    /// many greater records as it keeps.
    #[must_use]
    pub fn join(self, other: Self) -> Self {
        let (ours, theirs) = ((self.epoch, self.versions), (other.epoch, other.versions));
        let later = if ours >= theirs || other.epoch == Stamp::ZERO { self } else { other };
        Self { least: self.least.min(other.least), ..later }
    }

    /// This depth as the successor of `before`.
    #[must_use]
    pub fn after(self, before: Self) -> Self {
        Self { least: self.least.min(before.least), ..self }
    }
}

/// The time of which writes are lost: from a little before the set was last saved to where it was served again from
/// disks alone. What is stamped in it and is in no node is nowhere. So a reader that has seen such a stamp may go on
/// with what there is now. If a set was lost several times, it is the time from the first loss to the last.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lost {
    since: Stamp,
    until: Stamp,
}

impl Lost {
    /// Nothing is lost.
    pub const NOTHING: Self = Self { since: Stamp::ZERO, until: Stamp::ZERO };

    /// Writes stamped `since` then and before `until` may be lost: none, if the one is not before the other.
    #[must_use]
    pub fn new(since: Stamp, until: Stamp) -> Self {
        if since < until { Self { since, until } } else { Self::NOTHING }
    }

    /// A loss from outside; `None` if there is none like that.
    #[must_use]
    pub fn received(since: Stamp, until: Stamp) -> Option<Self> {
        let lost = Self { since, until };
        (since < until || lost == Self::NOTHING).then_some(lost)
    }

    /// Where the time begins.
    #[must_use]
    pub fn since(self) -> Stamp {
        self.since
    }

    /// Where the time ends.
    #[must_use]
    pub fn until(self) -> Stamp {
        self.until
    }

    /// Whether a write with this stamp may be lost.
    #[must_use]
    pub fn covers(self, stamp: Stamp) -> bool {
        self.since <= stamp && stamp < self.until
    }

    /// The time from the beginning of the one to the end of the other.
    #[must_use]
    pub fn join(self, other: Self) -> Self {
        match (self, other) {
            (Self::NOTHING, only) | (only, Self::NOTHING) => only,
            _ => Self { since: self.since.min(other.since), until: self.until.max(other.until) },
        }
    }
}

/// The registers of a set: what it has dropped on purpose, and what it has lost. Sets are compared only under equal
/// registers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Registers {
    /// Tombstones below this are gone, with all records below them.
    pub gc_horizon: Stamp,
    /// Older records below this are gone, and in logs all records.
    pub compaction_horizon: Stamp,
    /// How many records a name keeps.
    pub depth: Depth,
    /// Of which time writes are lost.
    pub lost: Lost,
}

impl Registers {
    /// The registers of a set that has dropped nothing.
    pub const NONE: Self = Self {
        gc_horizon: Stamp::ZERO,
        compaction_horizon: Stamp::ZERO,
        depth: Depth::UNKNOWN,
        lost: Lost::NOTHING,
    };

    /// The registers of two sets that meet.
    #[must_use]
    pub fn join(self, other: Self) -> Self {
        Self {
            gc_horizon: self.gc_horizon.max(other.gc_horizon),
            compaction_horizon: self.compaction_horizon.max(other.compaction_horizon),
            depth: self.depth.join(other.depth),
            lost: self.lost.join(other.lost),
        }
    }
}

/// The time at which the message of a peer is taken in, and what registers are honest then.
#[derive(Clone, Copy, Debug)]
pub struct Moment {
    /// Our wall clock.
    pub now: Stamp,
    /// The latest honest horizon: a later one comes from a wrong clock, and would make a whole cluster forget its
    /// deletes.
    pub latest_horizon: Stamp,
    /// The latest honest compaction horizon.
    pub latest_compaction: Stamp,
}

impl Moment {
    /// Whether to reject registers. Horizons that are not above ours change nothing, and are always accepted.
    pub(in crate::core) fn refuses(&self, registers: &Registers, ours: &Registers) -> bool {
        registers.gc_horizon > self.latest_horizon.max(ours.gc_horizon)
            || registers.compaction_horizon > self.latest_compaction.max(ours.compaction_horizon)
    }
}

/// The bytes of all older records, and of those in logs, by the step of their stamp, so that a horizon can be chosen by
/// the bytes that it frees.
#[derive(Debug, Default)]
pub(super) struct OlderBytes {
    by_step: BTreeMap<u64, usize>,
    total: usize,
}

impl OlderBytes {
    fn step(record: &Record) -> u64 {
        record.last_sync().micros() / COMPACTION_STEP_US
    }

    /// A record is older from now on.
    pub(super) fn add(&mut self, record: &Record) {
        *self.by_step.entry(Self::step(record)).or_default() += record.cost();
        self.total += record.cost();
    }

    /// An older record is gone.
    pub(super) fn remove(&mut self, record: &Record) {
        let step = Self::step(record);
        let Some(bytes) = self.by_step.get_mut(&step) else { return };
        *bytes -= record.cost();
        if *bytes == 0 {
            self.by_step.remove(&step);
        }
        self.total -= record.cost();
    }

    /// The bytes of all older records.
    pub(super) fn total(&self) -> usize {
        self.total
    }

    /// The bytes of older records in the steps below a horizon: those that it cuts and that are still there.
    pub(super) fn below(&self, horizon: Stamp) -> usize {
        self.by_step.range(..horizon.micros() / COMPACTION_STEP_US).map(|(_, bytes)| bytes).sum()
    }

    /// The least horizon below which older records take at least `bytes`; `None` if all of them take less.
    pub(super) fn horizon_that_frees(&self, bytes: usize) -> Option<Stamp> {
        let mut freed = 0;
        let step = self.by_step.iter().find_map(|(step, more)| {
            freed += more;
            (freed >= bytes).then_some(*step)
        })?;
        Stamp::from_micros((step + 1) * COMPACTION_STEP_US).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::record::Dot;
    use crate::core::testing::{at, name, version};

    #[test]
    fn the_later_epoch_wins_and_the_least_depth_is_remembered() {
        let (eight, two, four) = (Depth::new(at(0), 8), Depth::new(at(5), 2), Depth::new(at(9), 4));
        let all = eight.join(two).join(four);
        assert_eq!((all.epoch(), all.versions(), all.least()), (at(9), 4, 2));
        assert_eq!(all, four.join(eight).join(two), "in whatever order");
        assert_eq!(Depth::new(at(5), 3).join(two).versions(), 3, "a tie has a winner");
        assert_eq!((Depth::new(at(1), 0).versions(), Depth::new(at(1), 255).versions()), (1, 64));
    }

    #[test]
    fn losses_are_one_time_from_the_first_to_the_last() {
        let (early, late) = (Lost::new(at(2), at(5)), Lost::new(at(7), at(9)));
        let both = Lost::new(at(2), at(9));
        assert_eq!((early.join(late), late.join(early), both.join(late)), (both, both, both));
        assert_eq!((early.join(Lost::NOTHING), Lost::NOTHING.join(early)), (early, early));
        let covered = |lost: Lost| (0..10).filter(|micros| lost.covers(at(*micros))).collect::<Vec<_>>();
        assert_eq!((covered(early), covered(late)), (vec![2, 3, 4], vec![7, 8]));
        assert_eq!(Lost::new(at(5), at(5)), Lost::NOTHING);
        assert_eq!((covered(Lost::new(at(5), at(4))), covered(Lost::NOTHING)), (vec![], vec![]));
        let received = |since, until| Lost::received(at(since), at(until));
        assert_eq!((received(2, 5), received(0, 0)), (Some(early), Some(Lost::NOTHING)));
        assert_eq!((received(5, 5), received(5, 4)), (None, None));
    }

    #[test]
    fn what_is_no_depth_is_not_taken() {
        for (versions, least) in [(0, 0), (1, 0), (1, 2), (65, 1), (255, 255)] {
            assert_eq!(Depth::received(at(1), versions, least), None, "{versions} {least}");
        }
        assert_eq!(Depth::received(at(1), 8, 8), Some(Depth::new(at(1), 8)));
    }

    #[test]
    fn a_horizon_is_chosen_by_the_bytes_that_it_frees() {
        let record = |minute: u64| {
            let stamp = at(minute * COMPACTION_STEP_US + 7);
            Record::value(name("n"), &version("v"), b"d", stamp, Dot::default())
        };
        let cost = record(1).cost();
        let mut older = OlderBytes::default();
        assert_eq!(older.horizon_that_frees(1), None);
        for minute in [3, 1, 1, 9] {
            older.add(&record(minute));
        }
        let minute = |bytes| older.horizon_that_frees(bytes).map(|stamp| stamp.micros() / COMPACTION_STEP_US);
        assert_eq!([1, 2 * cost, 2 * cost + 1, 4 * cost].map(minute), [Some(2), Some(2), Some(4), Some(10)]);
        assert_eq!(minute(4 * cost + 1), None);
        older.remove(&record(1));
        assert_eq!(
            (older.total(), older.horizon_that_frees(2 * cost)),
            (3 * cost, Some(at(4 * COMPACTION_STEP_US)))
        );
    }
}
