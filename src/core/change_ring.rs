//! The change ring: the last changes of current records at this process, for readers that follow them.

use std::collections::{HashMap, VecDeque};

use super::limits::{MAX_RING_BYTES, MAX_RING_CHANGES};
use super::name::Name;
use super::record::Record;

/// A ring of records that each became current, in the order in which they did. A position is that of a change since
/// the start of the process; it means nothing at another process.
#[derive(Debug, Default)]
pub struct ChangeRing {
    /// The position of the first change that is kept.
    first: u64,
    changes: VecDeque<Change>,
    /// By name, the position of its last change.
    last: HashMap<Name, u64>,
    bytes: usize,
}

#[derive(Debug)]
struct Change {
    record: Record,
    /// A later change of the name is in the ring.
    is_replaced: bool,
}

impl ChangeRing {
    /// The position of the next change.
    #[must_use]
    pub fn end(&self) -> u64 {
        self.first + self.changes.len() as u64
    }

    /// Whether all changes from a position on are kept.
    #[must_use]
    pub fn reaches(&self, position: u64) -> bool {
        (self.first..=self.end()).contains(&position)
    }

    /// Adds a record that became current, or a tombstone that is newer than all that is kept of its name.
    pub(super) fn add(&mut self, record: &Record) {
        let position = self.end();
        if let Some(before) = self.last.insert(record.name().clone(), position)
            && let Some(change) = self.index(before).and_then(|index| self.changes.get_mut(index))
        {
            change.is_replaced = true;
        }
        self.bytes += record.cost();
        self.changes.push_back(Change { record: record.clone(), is_replaced: false });
        while self.changes.len() > MAX_RING_CHANGES || self.bytes > MAX_RING_BYTES && self.changes.len() > 1 {
            self.drop_first();
        }
    }

    /// Drops all changes: readers that follow them have to scan.
    pub(super) fn clear(&mut self) {
        // the next position is none that a reader can have reached
        *self = Self { first: self.end() + 1, ..Self::default() };
    }

    fn drop_first(&mut self) {
        let Some(change) = self.changes.pop_front() else { return };
        self.bytes -= change.record.cost();
        if self.last.get(change.record.name()) == Some(&self.first) {
            self.last.remove(change.record.name());
        }
        self.first += 1;
    }

    fn index(&self, position: u64) -> Option<usize> {
        usize::try_from(position.checked_sub(self.first)?).ok()
    }

    /// The changes from a position on, each with whether a later change of its name is in the ring.
    pub(super) fn from(&self, position: u64) -> impl Iterator<Item = (&Record, bool)> {
        let skip = self.index(position).unwrap_or(usize::MAX).min(self.changes.len());
        self.changes.range(skip..).map(|change| (&change.record, change.is_replaced))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::record::Dot;
    use crate::core::testing::{at, name, version};

    fn record(text: &str, micros: u64, data: &[u8]) -> Record {
        Record::value(name(text), &version("v"), data, at(micros), Dot::default())
    }

    fn stamps(ring: &ChangeRing, position: u64) -> Vec<(u64, bool)> {
        ring.from(position).map(|(record, replaced)| (record.last_sync().micros(), replaced)).collect()
    }

    #[test]
    fn changes_are_in_order_and_say_whether_a_later_one_follows() {
        let mut ring = ChangeRing::default();
        for (text, micros) in [("a", 1), ("b", 2), ("a", 3)] {
            ring.add(&record(text, micros, b""));
        }
        assert_eq!(stamps(&ring, 0), [(1, true), (2, false), (3, false)]);
        assert_eq!(stamps(&ring, 2), [(3, false)]);
        assert_eq!((stamps(&ring, 3), ring.end()), (vec![], 3));
        assert!(ring.reaches(0) && ring.reaches(3) && !ring.reaches(4));
        ring.clear();
        assert!((0..=3).all(|position| !ring.reaches(position)), "no reader can follow over it");
        assert!(ring.reaches(ring.end()) && stamps(&ring, 0).is_empty());
    }

    #[test]
    fn the_ring_is_bounded_in_changes_and_in_bytes() {
        let mut ring = ChangeRing::default();
        for micros in 0..=MAX_RING_CHANGES as u64 {
            ring.add(&record(&format!("n{}", micros % 7), micros, b""));
        }
        assert_eq!((ring.changes.len(), ring.first, ring.last.len()), (MAX_RING_CHANGES, 1, 7));
        assert!(!ring.reaches(0) && ring.reaches(1));
        let large = vec![0; 1 << 20];
        for micros in 0..100 {
            ring.add(&record(&format!("large-{micros}"), micros, &large));
        }
        assert!(ring.bytes <= MAX_RING_BYTES && ring.changes.len() < 64 && ring.last.len() < 64);
    }
}
