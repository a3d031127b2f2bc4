//! The change ring: the last records that came to this process, in order, for readers that follow them.

use std::collections::{HashMap, VecDeque};

use super::limits::{MAX_RING_BYTES, MAX_RING_CHANGES};
use super::name::Name;
use super::record::{Incarnation, Record};

/// A ring of records in the order in which they came: those that the set kept, and those that it did not keep and that
/// its vector did not claim. Between them are gaps: writes that this process will never have. A position is that of an
/// entry since the start of the process; it means nothing at another process.
#[derive(Debug, Default)]
pub struct ChangeRing {
    /// The position of the first entry that is kept.
    first: u64,
    entries: VecDeque<Entry>,
    /// By name, the position of the last record that was current when it came.
    last: HashMap<Name, u64>,
    bytes: usize,
}

/// An entry of the ring.
#[derive(Debug)]
pub(super) enum Entry {
    /// A record.
    Record {
        record: Record,
        /// Whether it was the current one of its name when it came.
        is_current: bool,
        /// Whether a later entry of the name is in the ring that was current when it came.
        is_replaced: bool,
    },
    /// Writes that readers will not be told one by one.
    Gap(Gap),
}

/// Writes that a process will never have, although its vector claims them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Gap {
    /// These writes of these processes: ranges of sequence numbers, both ends included.
    Dots(Box<[(Incarnation, u64, u64)]>),
    /// Any writes of any names.
    Unknown,
}

impl ChangeRing {
    /// An empty ring that grows no more, so that no write waits for that.
    pub(super) fn reserved() -> Self {
        let entries = VecDeque::with_capacity(MAX_RING_CHANGES + 1);
        Self { entries, last: HashMap::with_capacity(MAX_RING_CHANGES + 1), ..Self::default() }
    }

    /// The position of the next entry.
    #[must_use]
    pub fn end(&self) -> u64 {
        self.first + self.entries.len() as u64
    }

    /// Whether all entries from a position on are kept.
    #[must_use]
    pub fn reaches(&self, position: u64) -> bool {
        (self.first..=self.end()).contains(&position)
    }

    /// How many entries are kept.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether no entry is kept.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The first record that is kept, if there is one: it says how far back the ring reaches.
    #[must_use]
    pub fn oldest(&self) -> Option<&Record> {
        self.entries.iter().find_map(|entry| match entry {
            Entry::Record { record, .. } => Some(record),
            Entry::Gap(_) => None,
        })
    }

    /// Adds a record that came. `is_current`: it became current, or is a tombstone that is newer than all that is kept
    /// of its name.
    pub(super) fn add(&mut self, record: &Record, is_current: bool) {
        if is_current {
            let position = self.end();
            if let Some(before) = self.last.insert(record.name().clone(), position)
                && let Some(Entry::Record { is_replaced, .. }) =
                    self.index(before).and_then(|index| self.entries.get_mut(index))
            {
                *is_replaced = true;
            }
        }
        self.bytes += record.cost();
        record.share();
        self.push(Entry::Record { record: record.clone(), is_current, is_replaced: false });
    }

    /// Adds a gap.
    pub(super) fn add_gap(&mut self, gap: Gap) {
        self.bytes += gap.cost();
        self.push(Entry::Gap(gap));
    }

    fn push(&mut self, entry: Entry) {
        self.entries.push_back(entry);
        while self.entries.len() > MAX_RING_CHANGES || self.bytes > MAX_RING_BYTES && self.entries.len() > 1 {
            self.drop_first();
        }
    }

    /// Drops all entries: readers that follow them have to scan.
    pub(super) fn clear(&mut self) {
        while !self.entries.is_empty() {
            self.drop_first();
        }
        // the next position is none that a reader can have reached
        self.first += 1;
    }

    fn drop_first(&mut self) {
        match self.entries.pop_front() {
            Some(Entry::Record { record, is_current, .. }) => {
                self.bytes -= record.cost();
                record.unshare();
                if is_current && self.last.get(record.name()) == Some(&self.first) {
                    self.last.remove(record.name());
                }
            }
            Some(Entry::Gap(gap)) => self.bytes -= gap.cost(),
            None => return,
        }
        self.first += 1;
    }

    fn index(&self, position: u64) -> Option<usize> {
        usize::try_from(position.checked_sub(self.first)?).ok()
    }

    /// The entries from a position on.
    pub(super) fn from(&self, position: u64) -> impl Iterator<Item = &Entry> {
        let skip = self.index(position).unwrap_or(usize::MAX).min(self.entries.len());
        self.entries.range(skip..)
    }
}

impl Gap {
    /// The writes that a vector lacks of those that another one claims, as [`super::Set::missing`] has them.
    pub(super) fn of(ranges: Vec<(Incarnation, u64, u64)>) -> Option<Self> {
        (!ranges.is_empty()).then(|| Self::Dots(ranges.into()))
    }

    fn cost(&self) -> usize {
        match self {
            Self::Dots(ranges) => size_of_val(&**ranges),
            Self::Unknown => 0,
        }
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

    /// The stamps from a position on, and whether a later one of the name follows; 0 for a gap.
    fn stamps(ring: &ChangeRing, position: u64) -> Vec<(u64, bool)> {
        let said = ring.from(position).map(|entry| match entry {
            Entry::Record { record, is_replaced, .. } => (record.last_sync().micros(), *is_replaced),
            Entry::Gap(_) => (0, false),
        });
        said.collect()
    }

    #[test]
    fn entries_are_in_order_and_say_whether_a_later_one_follows() {
        let mut ring = ChangeRing::default();
        for (text, micros) in [("a", 1), ("b", 2), ("a", 4)] {
            ring.add(&record(text, micros, b""), true);
        }
        ring.add(&record("a", 3, b""), false);
        assert_eq!(stamps(&ring, 0), [(1, true), (2, false), (4, false), (3, false)]);
        assert_eq!(stamps(&ring, 2), [(4, false), (3, false)]);
        assert_eq!((stamps(&ring, 4), ring.end()), (vec![], 4));
        ring.add_gap(Gap::Unknown);
        assert_eq!(stamps(&ring, 4), [(0, false)]);
        assert_eq!(ring.oldest().map(Record::last_sync), Some(at(1)));
        assert!(ring.reaches(0) && ring.reaches(5) && !ring.reaches(6));
        ring.clear();
        assert!((0..=5).all(|position| !ring.reaches(position)), "no reader can follow over it");
        assert!(ring.reaches(ring.end()) && stamps(&ring, 0).is_empty() && ring.oldest().is_none());
    }

    #[test]
    fn the_ring_is_bounded_in_entries_and_in_bytes() {
        let mut ring = ChangeRing::default();
        for micros in 0..=MAX_RING_CHANGES as u64 {
            ring.add(&record(&format!("n{}", micros % 7), micros, b""), true);
        }
        assert_eq!((ring.entries.len(), ring.first, ring.last.len()), (MAX_RING_CHANGES, 1, 7));
        assert!(!ring.reaches(0) && ring.reaches(1));
        let large = vec![0; 1 << 20];
        for micros in 0..100 {
            ring.add(&record(&format!("large-{micros}"), micros, &large), true);
        }
        assert!(ring.bytes <= MAX_RING_BYTES && ring.entries.len() < 64 && ring.last.len() < 64);
        ring.add_gap(Gap::of(vec![(Incarnation(1), 2, 3); 1 << 22]).expect("a gap"));
        assert!(ring.entries.len() == 1, "a gap counts too");
        ring.clear();
        assert_eq!((ring.bytes, ring.last.len()), (0, 0));
    }

    /// What only the ring holds does not count as held by an answer.
    #[test]
    fn the_ring_is_no_holder() {
        let mut ring = ChangeRing::default();
        let one = record("a", 1, b"");
        ring.add(&one, true);
        ring.add(&one, false);
        assert_eq!(one.holders(), 1);
        ring.clear();
        assert_eq!(one.holders(), 1);
    }
}
