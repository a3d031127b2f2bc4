//! Push: what this process wrote goes to every live peer at once, and is repaired by the one who wrote it.
//!
//! There is one log of our dots for all peers, and a place in it for each peer; batches are coalesced by name. So a write costs
//! the same however many peers there are, and a slow or dead peer costs no memory. Received records are not passed on.

use std::collections::{HashSet, VecDeque};

use super::limits::{MAX_BATCH_BYTES, MAX_LOG_BYTES};
use super::name::Name;
use super::record::{Incarnation, Record};
use super::set::Set;
use super::stamp::Stamp;

/// Some of a process's writes.
///
/// For each of its dots within (`after`, `upto`] the **current** record of that name, once, whoever wrote it: at least as
/// great as the write, so that who has all up to `after` and merges these has all up to `upto`.
#[derive(Clone, Debug)]
pub struct Batch {
    /// Whose writes.
    pub from: Incarnation,
    /// Sequence before the first.
    pub after: u64,
    /// Sequence of the last.
    pub upto: u64,
    /// Their names' records.
    pub records: Vec<Record>,
}

/// What a peer says to a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ack {
    /// Who says it.
    pub from: Incarnation,
    /// Sequence up to which it has all of our writes.
    pub have: u64,
    /// Its clock.
    pub now: Stamp,
}

/// The names of our writes by their sequence.
///
/// A name that was written twice is in it twice: its first write is covered by any batch that has it, wherever that
/// batch ends. It is the batch that has each name once.
#[derive(Debug, Default)]
pub struct Log {
    /// Dots up to this one are forgotten: who lacks them needs a sync.
    floor: u64,
    /// The name of dot `floor + 1 + index`.
    names: VecDeque<Name>,
    bytes: usize,
}

impl Log {
    /// Sequence of our last write.
    #[must_use]
    pub fn sequence(&self) -> u64 {
        self.floor + self.names.len() as u64
    }

    /// Dots up to this one are forgotten.
    #[must_use]
    pub fn floor(&self) -> u64 {
        self.floor
    }

    /// Takes in our next write, of a record that counts for so many bytes.
    pub(super) fn add(&mut self, name: &Name, bytes: usize) {
        self.names.push_back(name.clone());
        self.bytes += bytes.max(1);
        while self.bytes > MAX_LOG_BYTES && self.names.len() > 1 {
            self.forget_one();
        }
    }

    /// Forgets dots up to a sequence.
    pub(super) fn forget(&mut self, upto: u64) {
        while self.floor < upto && !self.names.is_empty() {
            self.forget_one();
        }
    }

    fn forget_one(&mut self) {
        // an average will do: the sizes of single writes are not kept
        self.bytes -= self.bytes / self.names.len().max(1);
        self.names.pop_front();
        self.floor += 1;
    }

    /// The batch after a sequence, of at most [`MAX_BATCH_BYTES`], yet of one record at least. `None` if all is said.
    ///
    /// What is forgotten cannot be said any more: then `after` is the floor. Nor can a tombstone that the horizon took,
    /// which a receiver would claim to have: then `after` is its dot.
    #[must_use]
    pub fn batch(&self, set: &Set, from: Incarnation, after: u64) -> Option<Batch> {
        let after = after.max(self.floor);
        let mut batch = Batch { from, after, upto: after, records: Vec::new() };
        let mut named = HashSet::new();
        let mut bytes = 0;
        let skip = usize::try_from(after - self.floor).unwrap_or(usize::MAX);
        for name in self.names.iter().skip(skip) {
            match set.get(name) {
                Some(_) if named.contains(name) => {}
                Some(record) => {
                    bytes += Set::cost(record);
                    if bytes > MAX_BATCH_BYTES && !batch.records.is_empty() {
                        break;
                    }
                    named.insert(name);
                    batch.records.push(record.clone());
                }
                None if batch.upto > batch.after => break,
                None => batch.after += 1,
            }
            batch.upto += 1;
        }
        (batch.upto > batch.after).then_some(batch)
    }
}

/// How far one peer is with our log.
///
/// Invariant: at most one batch is under way to a peer, and the next one waits for its ack, gathering meanwhile.
#[derive(Clone, Debug, Default)]
pub struct Outbox {
    /// The peer has all up to here, or will get it from a sync.
    place: u64,
    in_flight: bool,
    dirty: bool,
    failures: u32,
    /// No batch before this, µs of the node's monotonic clock.
    not_before_us: u64,
}

/// Pause after a failed batch, doubled by each further one, µs.
const RETRY_US: u64 = 250_000;

impl Outbox {
    /// For a peer that has just appeared: it gets what the log still has.
    #[must_use]
    pub fn new(log: &Log) -> Self {
        Self { place: log.floor(), dirty: log.floor() > 0, ..Self::default() }
    }

    /// Whether the peer may lack writes that will not be pushed to it: a sync has to find them.
    #[must_use]
    pub fn is_dirty(&self) -> bool {
        self.dirty
    }

    /// The next batch, if there is something to say and none is under way.
    pub(super) fn next(&mut self, log: &Log, set: &Set, from: Incarnation, mono_us: u64) -> Option<Batch> {
        if self.in_flight || self.place >= log.sequence() || mono_us < self.not_before_us {
            return None;
        }
        if self.place < log.floor() {
            self.dirty = true;
            self.place = log.floor();
        }
        let batch = log.batch(set, from, self.place)?;
        self.in_flight = true;
        Some(batch)
    }

    /// The peer took a batch.
    pub(super) fn acked(&mut self, log: &Log, upto: u64, have: u64) {
        self.in_flight = false;
        self.failures = 0;
        self.not_before_us = 0;
        // what it lacks is repaired from the log, one round trip later; what the log forgot, by a sync
        self.place = if have >= log.floor() {
            have.min(log.sequence())
        } else {
            self.dirty = true;
            upto
        };
    }

    /// A batch got no answer: it may or may not have been taken.
    pub(super) fn failed(&mut self, mono_us: u64) {
        self.in_flight = false;
        self.dirty = true;
        self.not_before_us = mono_us + (RETRY_US << self.failures.min(5));
        self.failures += 1;
    }

    /// A whole round of sync with the peer, begun by us, is done: it has all that we had.
    pub(super) fn synced(&mut self) {
        self.dirty = false;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::record::Dot;
    use crate::core::version::Version;

    const US: Incarnation = Incarnation(7);

    fn name(text: &str) -> Name {
        Name::new(text.as_bytes(), 512).unwrap()
    }

    fn write(log: &mut Log, set: &mut Set, text: &str) {
        let dot = Dot { incarnation: US, sequence: log.sequence() + 1 };
        let at = Stamp::from_micros(dot.sequence).unwrap();
        let record = Record::value(name(text), &Version::of_data(b"d"), b"d", at, dot);
        set.merge(&record);
        log.add(record.name(), Set::cost(&record));
    }

    fn names(batch: &Batch) -> Vec<&str> {
        batch.records.iter().map(|r| r.name().as_str()).collect()
    }

    fn filled(texts: &[&str]) -> (Log, Set) {
        let (mut log, mut set) = (Log::default(), Set::with_leaf_bits([1; 16], 2));
        texts.iter().for_each(|text| write(&mut log, &mut set, text));
        (log, set)
    }

    #[test]
    fn a_batch_has_each_name_once_and_its_current_record() {
        let (log, mut set) = filled(&["a", "b", "a", "c"]);
        let theirs = Record::tombstone(name("b"), Stamp::from_micros(99).unwrap(), Dot::default());
        set.merge(&theirs);
        let batch = log.batch(&set, US, 0).unwrap();
        assert_eq!((batch.after, batch.upto), (0, 4));
        assert_eq!(names(&batch), ["a", "b", "c"]);
        assert_eq!(batch.records[1].last_sync(), theirs.last_sync(), "overtaken by another's write");
        assert_eq!(names(&log.batch(&set, US, 3).unwrap()), ["c"]);
        assert!(log.batch(&set, US, 4).is_none());
    }

    #[test]
    fn a_batch_claims_no_tombstone_that_is_forgotten() {
        let (mut log, mut set) = filled(&["a"]);
        let dot = Dot { incarnation: US, sequence: 2 };
        set.merge(&Record::tombstone(name("b"), Stamp::from_micros(2).unwrap(), dot));
        log.add(&name("b"), 1);
        write(&mut log, &mut set, "c");
        set.raise_horizon(Stamp::from_micros(3).unwrap(), usize::MAX);
        let batch = log.batch(&set, US, 0).unwrap();
        assert_eq!((batch.after, batch.upto), (0, 1));
        let batch = log.batch(&set, US, 1).unwrap();
        assert_eq!(
            (batch.after, batch.upto),
            (2, 3),
            "who has 1 does not connect, and asks for the rest by sync"
        );
    }

    #[test]
    fn a_batch_is_bounded_and_never_empty() {
        let (mut log, mut set) = (Log::default(), Set::with_leaf_bits([1; 16], 2));
        for text in ["a", "b"] {
            let dot = Dot { incarnation: US, sequence: log.sequence() + 1 };
            let data = vec![0; MAX_BATCH_BYTES];
            let record = Record::value(name(text), &Version::of_data(&data), &data, Stamp::ZERO, dot);
            set.merge(&record);
            log.add(record.name(), Set::cost(&record));
        }
        let first = log.batch(&set, US, 0).unwrap();
        assert_eq!((names(&first), first.upto), (vec!["a"], 1));
        assert_eq!(names(&log.batch(&set, US, 1).unwrap()), ["b"]);
    }

    #[test]
    fn a_name_that_is_written_again_is_covered_wherever_the_batch_ends() {
        let (mut log, mut set) = filled(&["a"]);
        let data = vec![0; MAX_BATCH_BYTES];
        let dot = Dot { incarnation: US, sequence: 2 };
        let big = Record::value(name("b"), &Version::of_data(&data), &data, Stamp::ZERO, dot);
        set.merge(&big);
        log.add(big.name(), Set::cost(&big));
        write(&mut log, &mut set, "a");
        let batch = log.batch(&set, US, 0).unwrap();
        assert_eq!((names(&batch), batch.upto), (vec!["a"], 1), "claims 1, so it has the name of 1");
    }

    #[test]
    fn one_batch_is_under_way_and_the_next_gathers() {
        let (mut log, mut set) = filled(&["a"]);
        let mut outbox = Outbox::new(&log);
        assert!(outbox.next(&log, &set, US, 0).is_some());
        write(&mut log, &mut set, "b");
        write(&mut log, &mut set, "c");
        assert!(outbox.next(&log, &set, US, 0).is_none());
        outbox.acked(&log, 1, 1);
        assert_eq!(names(&outbox.next(&log, &set, US, 0).unwrap()), ["b", "c"]);
    }

    #[test]
    fn a_gap_is_repaired_from_the_log_and_by_sync_where_it_forgot() {
        let (mut log, set) = filled(&["a", "b", "c"]);
        let mut outbox = Outbox { place: 2, ..Outbox::default() };
        assert_eq!(outbox.next(&log, &set, US, 0).unwrap().after, 2);
        outbox.acked(&log, 3, 1);
        assert_eq!(names(&outbox.next(&log, &set, US, 0).unwrap()), ["b", "c"]);
        log.forget(2);
        outbox.acked(&log, 3, 1);
        assert!(outbox.is_dirty());
        assert!(outbox.next(&log, &set, US, 0).is_none(), "no repair for ever of what is gone");
    }

    #[test]
    fn a_failure_makes_dirty_and_waits_longer_each_time() {
        let (log, set) = filled(&["a"]);
        let mut outbox = Outbox::new(&log);
        assert!(outbox.next(&log, &set, US, 0).is_some());
        outbox.failed(0);
        assert!(outbox.is_dirty());
        assert!(outbox.next(&log, &set, US, RETRY_US - 1).is_none());
        assert!(outbox.next(&log, &set, US, RETRY_US).is_some());
        outbox.failed(RETRY_US);
        assert!(outbox.next(&log, &set, US, 3 * RETRY_US - 1).is_none());
        assert!(outbox.next(&log, &set, US, 3 * RETRY_US).is_some());
        outbox.acked(&log, 1, 1);
        outbox.synced();
        assert!(!outbox.is_dirty());
    }

    #[test]
    fn the_log_is_bounded_in_bytes() {
        let mut log = Log::default();
        for i in 0..100 {
            log.add(&name(&format!("n{i}")), MAX_LOG_BYTES / 10);
        }
        assert_eq!(log.sequence(), 100);
        assert!(log.floor() >= 89 && log.names.len() <= 11, "{}", log.floor());
    }
}
