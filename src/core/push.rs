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
pub struct WriteLog {
    /// Dots up to this one are forgotten: who lacks them needs a sync.
    floor: u64,
    /// Name and stamp of dot `floor + 1 + index`.
    writes: VecDeque<(Name, Stamp)>,
    bytes: usize,
}

impl WriteLog {
    /// Sequence of our last write.
    #[must_use]
    pub fn sequence(&self) -> u64 {
        self.floor + self.writes.len() as u64
    }

    /// Dots up to this one are forgotten.
    #[must_use]
    pub fn floor(&self) -> u64 {
        self.floor
    }

    /// Takes in our next write, of a record that counts for so many bytes.
    pub(super) fn add(&mut self, name: &Name, last_sync: Stamp, bytes: usize) {
        self.writes.push_back((name.clone(), last_sync));
        self.bytes += bytes.max(1);
        while self.bytes > MAX_LOG_BYTES && self.writes.len() > 1 {
            self.forget_one();
        }
    }

    /// Forgets dots up to a sequence.
    pub(super) fn forget(&mut self, upto: u64) {
        while self.floor < upto && !self.writes.is_empty() {
            self.forget_one();
        }
    }

    fn forget_one(&mut self) {
        // an average will do: the sizes of single writes are not kept
        self.bytes -= self.bytes / self.writes.len().max(1);
        self.writes.pop_front();
        self.floor += 1;
    }

    /// The batch after a sequence, of at most [`MAX_BATCH_BYTES`], yet of one record at least. `None` if all is said.
    ///
    /// What is forgotten cannot be said any more: then `after` is the floor. Nor can a tombstone that the horizon took,
    /// which a receiver would claim to have, whatever older value has come in its place: then `after` is its dot.
    #[must_use]
    pub fn batch(&self, set: &Set, from: Incarnation, after: u64) -> Option<Batch> {
        let after = after.max(self.floor);
        let mut batch = Batch { from, after, upto: after, records: Vec::new() };
        let mut named = HashSet::new();
        let mut bytes = 0;
        let skip = usize::try_from(after - self.floor).unwrap_or(usize::MAX);
        for (name, written) in self.writes.iter().skip(skip) {
            match set.get(name).filter(|record| record.last_sync() >= *written) {
                Some(_) if named.contains(name) => {}
                Some(record) => {
                    bytes += record.cost();
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
    /// The call that carries the batch under way.
    in_flight: Option<u64>,
    /// Where the peer said it was when it was last behind what it was sent.
    behind: Option<u64>,
    needs_repair: bool,
    failures: u32,
    /// No batch before this, µs of the node's monotonic clock.
    not_before_us: u64,
}

/// Pause after a failed batch, doubled by each further one, µs.
const RETRY_US: u64 = 250_000;

impl Outbox {
    /// For a peer that was gone for a while: what it had, it has still; whether the last batch came is not known.
    #[must_use]
    pub fn resumed(self) -> Self {
        Self { in_flight: None, needs_repair: true, failures: 0, not_before_us: 0, ..self }
    }

    /// For a peer that has just appeared: it gets what the log still has.
    #[must_use]
    pub fn new(log: &WriteLog) -> Self {
        Self { place: log.floor(), needs_repair: log.floor() > 0, ..Self::default() }
    }

    /// Whether the peer may lack writes that will not be pushed to it: a sync has to find them.
    #[must_use]
    pub fn needs_repair(&self) -> bool {
        self.needs_repair
    }

    /// How many writes were not acknowledged yet.
    #[must_use]
    pub fn lag(&self, log: &WriteLog) -> u64 {
        log.sequence().saturating_sub(self.place)
    }

    /// The next batch, if there is something to say and none is under way. It goes out as `call`.
    pub(super) fn next(
        &mut self,
        log: &WriteLog,
        set: &Set,
        from: Incarnation,
        mono_us: u64,
        call: u64,
    ) -> Option<Batch> {
        if self.in_flight.is_some() || self.place >= log.sequence() || mono_us < self.not_before_us {
            return None;
        }
        if self.place < log.floor() {
            self.needs_repair = true;
            self.place = log.floor();
        }
        let batch = log.batch(set, from, self.place);
        match batch {
            Some(_) => self.in_flight = Some(call),
            // all of the rest are tombstones that the horizon took
            None => (self.place, self.needs_repair) = (log.sequence(), true),
        }
        batch
    }

    /// The peer took a batch and says how far it has our writes. One of an earlier outbox of the peer says nothing.
    pub(super) fn acked(&mut self, log: &WriteLog, call: u64, upto: u64, have: u64) {
        if self.in_flight != Some(call) {
            return;
        }
        self.in_flight = None;
        self.failures = 0;
        self.not_before_us = 0;
        if have >= upto {
            (self.place, self.behind) = (have.min(log.sequence()), None);
        } else if have >= log.floor() && self.behind != Some(have) {
            // what it lacks is repaired from the log, one round trip later
            (self.place, self.behind) = (have, Some(have));
        } else {
            // what the log forgot, and what did not bring it further, is left to a sync
            (self.place, self.needs_repair) = (upto, true);
        }
    }

    /// A batch got no answer: it may or may not have been taken.
    pub(super) fn failed(&mut self, call: u64, mono_us: u64) {
        if self.in_flight != Some(call) {
            return;
        }
        self.in_flight = None;
        self.needs_repair = true;
        self.not_before_us = mono_us + (RETRY_US << self.failures.min(5));
        self.failures += 1;
    }

    /// What waits for its next try goes out at once.
    pub(super) fn hurry(&mut self) {
        self.not_before_us = 0;
    }

    /// A whole round of sync with the peer, begun by us, is done: it has all that we had.
    pub(super) fn synced(&mut self) {
        self.needs_repair = false;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::record::Dot;
    use crate::core::testing::name;
    use crate::core::version::Version;

    const US: Incarnation = Incarnation(7);

    fn write(log: &mut WriteLog, set: &mut Set, text: &str) {
        let dot = Dot { incarnation: US, sequence: log.sequence() + 1 };
        let at = Stamp::from_micros(dot.sequence).unwrap();
        let record = Record::value(name(text), &Version::of_data(b"d"), b"d", at, dot);
        set.merge(&record);
        log.add(record.name(), record.last_sync(), record.cost());
    }

    fn names(batch: &Batch) -> Vec<&str> {
        batch.records.iter().map(|r| r.name().as_str()).collect()
    }

    fn filled(texts: &[&str]) -> (WriteLog, Set) {
        let (mut log, mut set) = (WriteLog::default(), Set::with_leaf_bits([1; 16], 2));
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
        log.add(&name("b"), Stamp::from_micros(2).unwrap(), 1);
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
        let (mut log, mut set) = (WriteLog::default(), Set::with_leaf_bits([1; 16], 2));
        for text in ["a", "b"] {
            let dot = Dot { incarnation: US, sequence: log.sequence() + 1 };
            let data = vec![0; MAX_BATCH_BYTES];
            let record = Record::value(name(text), &Version::of_data(&data), &data, Stamp::ZERO, dot);
            set.merge(&record);
            log.add(record.name(), record.last_sync(), record.cost());
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
        log.add(big.name(), big.last_sync(), big.cost());
        write(&mut log, &mut set, "a");
        let batch = log.batch(&set, US, 0).unwrap();
        assert_eq!((names(&batch), batch.upto), (vec!["a"], 1), "claims 1, so it has the name of 1");
    }

    #[test]
    fn one_batch_is_under_way_and_the_next_gathers() {
        let (mut log, mut set) = filled(&["a"]);
        let mut outbox = Outbox::new(&log);
        assert!(outbox.next(&log, &set, US, 0, 1).is_some());
        write(&mut log, &mut set, "b");
        write(&mut log, &mut set, "c");
        assert!(outbox.next(&log, &set, US, 0, 2).is_none());
        outbox.acked(&log, 9, 1, 1);
        assert!(outbox.next(&log, &set, US, 0, 2).is_none(), "that was of another call");
        outbox.acked(&log, 1, 1, 1);
        assert_eq!(names(&outbox.next(&log, &set, US, 0, 2).unwrap()), ["b", "c"]);
    }

    #[test]
    fn a_gap_is_repaired_from_the_log_and_by_sync_where_it_forgot() {
        let (mut log, set) = filled(&["a", "b", "c"]);
        let mut outbox = Outbox { place: 2, ..Outbox::default() };
        assert_eq!(outbox.next(&log, &set, US, 0, 1).unwrap().after, 2);
        outbox.acked(&log, 1, 3, 1);
        assert_eq!(names(&outbox.next(&log, &set, US, 0, 2).unwrap()), ["b", "c"]);
        log.forget(2);
        outbox.acked(&log, 2, 3, 1);
        assert!(outbox.needs_repair());
        assert!(outbox.next(&log, &set, US, 0, 3).is_none(), "no repair for ever of what is gone");
    }

    #[test]
    fn a_peer_that_a_batch_brings_no_further_is_left_to_sync() {
        let (mut log, mut set) = filled(&["a", "b"]);
        let mut outbox = Outbox::new(&log);
        for call in [1, 2] {
            assert_eq!(outbox.next(&log, &set, US, 0, call).unwrap().after, 0, "once more from the log");
            outbox.acked(&log, call, 2, 0);
        }
        assert!(outbox.needs_repair());
        assert!(outbox.next(&log, &set, US, 0, 3).is_none(), "and not for ever");
        write(&mut log, &mut set, "c");
        assert_eq!(outbox.next(&log, &set, US, 0, 3).unwrap().after, 2, "what comes next goes out as ever");
    }

    #[test]
    fn a_log_of_forgotten_tombstones_is_passed_over() {
        let (mut log, mut set) = filled(&[]);
        let dot = Dot { incarnation: US, sequence: 1 };
        set.merge(&Record::tombstone(name("a"), Stamp::from_micros(2).unwrap(), dot));
        log.add(&name("a"), Stamp::from_micros(2).unwrap(), 1);
        set.raise_horizon(Stamp::from_micros(3).unwrap(), usize::MAX);
        let older = Record::value(name("a"), &Version::of_data(b"d"), b"d", Stamp::ZERO, Dot::default());
        set.merge(&older);
        let mut outbox = Outbox::new(&log);
        assert!(
            outbox.next(&log, &set, US, 0, 1).is_none(),
            "the older value does not stand for the tombstone"
        );
        assert!(outbox.needs_repair());
        assert_eq!(outbox.place, 1);
    }

    #[test]
    fn after_a_failure_the_peer_needs_repair_and_each_pause_is_longer() {
        let (log, set) = filled(&["a"]);
        let mut outbox = Outbox::new(&log);
        assert!(outbox.next(&log, &set, US, 0, 1).is_some());
        outbox.failed(1, 0);
        assert!(outbox.needs_repair());
        assert!(outbox.next(&log, &set, US, RETRY_US - 1, 2).is_none());
        assert!(outbox.next(&log, &set, US, RETRY_US, 2).is_some());
        outbox.failed(2, RETRY_US);
        assert!(outbox.next(&log, &set, US, 3 * RETRY_US - 1, 3).is_none());
        assert!(outbox.next(&log, &set, US, 3 * RETRY_US, 3).is_some());
        outbox.acked(&log, 3, 1, 1);
        outbox.synced();
        assert!(!outbox.needs_repair());
    }

    #[test]
    fn the_log_is_bounded_in_bytes() {
        let mut log = WriteLog::default();
        for i in 0..100 {
            log.add(&name(&format!("n{i}")), Stamp::ZERO, MAX_LOG_BYTES / 10);
        }
        assert_eq!(log.sequence(), 100);
        assert!(log.floor() >= 89 && log.writes.len() <= 11, "{}", log.floor());
    }
}
