//! Push: the process that accepts a write sends it to every live peer at once, and sends it again if a peer lacks it.
//!
//! There is one log of our writes for all peers, and a position in it for each peer; a batch has each record once. So a
//! write costs the same however many peers there are, and a slow or dead peer costs no memory. Received records are not
//! passed on.

use std::collections::{HashSet, VecDeque};

use super::history::{Depth, Registers};
use super::limits::{MAX_BATCH_BYTES, MAX_LOG_BYTES};
use super::mutants::Mutant;
use super::name::Name;
use super::record::{Incarnation, Record};
use super::set::{Cell, Set};
use super::stamp::Stamp;

/// A batch of the writes of one process.
///
/// It has, for each dot within (`after`, `upto`], a *cover*: the write itself, if the set may still keep it, and all
/// records of the name that the set keeps above it. So a receiver that has all writes up to `after`, and merges these
/// records, has all writes up to `upto`. Without the records above it, an older write would come back at a receiver
/// that has forgotten the tombstone above it.
#[derive(Clone, Debug)]
pub struct Batch {
    /// The process that accepted the writes.
    pub from: Incarnation,
    /// The sequence number before the first write.
    pub after: u64,
    /// The sequence number of the last write.
    pub upto: u64,
    /// The registers of the set from which it was made.
    pub registers: Registers,
    /// The records of the names of these writes.
    pub records: Vec<Record>,
}

/// The acknowledgement of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ack {
    /// The process that received the batch.
    pub from: Incarnation,
    /// The sequence number up to which it has all of our writes.
    pub have: u64,
    /// Its wall clock.
    pub now: Stamp,
}

/// The log: our writes by sequence number.
///
/// A name that was written twice is in the log twice, so that a batch that ends between the two writes has the name
/// too. With a history, also the first of the two writes reaches the peers, although the set may not keep it any more.
#[derive(Debug, Default)]
pub struct WriteLog {
    /// Writes up to this sequence number are forgotten: peers that lack them need a sync.
    floor: u64,
    /// Write `floor + 1 + index`.
    writes: VecDeque<Write>,
    bytes: usize,
}

/// A write in the log.
#[derive(Debug)]
enum Write {
    /// Its name and stamp: without a history the current record stands for it, and the record itself is not kept.
    Named(Name, Stamp),
    /// The whole of it.
    Whole(Record),
}

impl Write {
    fn name(&self) -> &Name {
        match self {
            Self::Named(name, _) => name,
            Self::Whole(record) => record.name(),
        }
    }

    /// Whether a record of its name is at least as great.
    fn is_covered_by(&self, record: &Record) -> bool {
        match self {
            Self::Named(_, last_sync) => record.last_sync() >= *last_sync,
            Self::Whole(write) => record.order(write).is_ge(),
        }
    }
}

impl WriteLog {
    /// The sequence number of our last write.
    #[must_use]
    pub fn sequence(&self) -> u64 {
        self.floor + self.writes.len() as u64
    }

    /// The sequence number up to which writes are forgotten.
    #[must_use]
    pub fn floor(&self) -> u64 {
        self.floor
    }

    /// Adds our next write. With a history the record stays here, also when the set no longer keeps it.
    pub(super) fn add(&mut self, record: &Record, depth: Depth) {
        self.writes.push_back(match depth.versions() {
            1 => Write::Named(record.name().clone(), record.last_sync()),
            _ => {
                record.share();
                Write::Whole(record.clone())
            }
        });
        self.bytes += record.cost();
        while self.bytes > MAX_LOG_BYTES && self.writes.len() > 1 {
            self.forget_one();
        }
    }

    /// Forgets writes up to a sequence number.
    pub(super) fn forget(&mut self, upto: u64) {
        while self.floor < upto && !self.writes.is_empty() {
            self.forget_one();
        }
    }

    fn forget_one(&mut self) {
        // the average size is good enough: the sizes of single writes are not kept
        self.bytes -= self.bytes / self.writes.len().max(1);
        if let Some(Write::Whole(record)) = self.writes.pop_front() {
            record.unshare();
        }
        self.floor += 1;
    }

    /// The batch after a sequence number: at most [`MAX_BATCH_BYTES`], but at least one record. `None` if there are no
    /// further writes.
    ///
    /// Forgotten writes cannot be sent: then `after` of the batch is the floor. Neither can a write whose tombstone was
    /// dropped below the horizon, because the receiver would claim to have it, while an older value may stand: then
    /// `after` is the sequence number of that write.
    #[must_use]
    pub fn batch(&self, set: &Set, from: Incarnation, after: u64) -> Option<Batch> {
        let after = after.max(self.floor);
        let mut batch = Batch { from, after, upto: after, registers: set.registers(), records: Vec::new() };
        let mut held = HashSet::new();
        let mut bytes = 0;
        let skip = usize::try_from(after - self.floor).unwrap_or(usize::MAX);
        for write in self.writes.iter().skip(skip) {
            let cover = cover(set, write);
            if cover.is_empty() {
                if batch.upto > batch.after {
                    break;
                }
                batch.after += 1;
            } else {
                let new = cover.iter().filter(|record| !held.contains(&record.address()));
                bytes += new.map(|record| record.cost()).sum::<usize>();
                if bytes > MAX_BATCH_BYTES && !batch.records.is_empty() {
                    break;
                }
                for record in cover {
                    if held.insert(record.address()) {
                        batch.records.push(record.clone());
                    }
                }
            }
            batch.upto += 1;
        }
        (batch.upto > batch.after).then_some(batch)
    }
}

/// The records that a receiver needs to have for a write, see [`Batch`]. None if neither the write nor a greater record
/// is kept.
fn cover<'a>(set: &'a Set, write: &'a Write) -> Vec<&'a Record> {
    let history = set.history(write.name());
    let above = history.iter().rev().map(Cell::record).take_while(|record| write.is_covered_by(record));
    let mut cover: Vec<&Record> = above.collect();
    let (mutants, versions) = (set.mutants(), set.depth().versions_of(write.name()));
    let Write::Whole(whole) = write else { return cover };
    let is_kept = cover.last().is_some_and(|record| record.order(whole).is_eq());
    if mutants.has(Mutant::PushOnlyTheCurrent) || mutants.has(Mutant::PushOnlyTheWrite) && !is_kept {
        cover.truncate(1);
    } else if mutants.has(Mutant::PushOnlyTheWrite) {
        cover.drain(..cover.len() - 1);
    } else if !is_kept && versions > 1 && cover.len() >= versions {
        // newer writes took its place, as they will at the receiver: its listeners are told of it all the same. What
        // was cut for another reason may lie below a tombstone that is forgotten, and would come back
        cover.push(whole);
    }
    cover
}

/// The state of pushes to one peer: which of our writes it has.
///
/// Invariant: at most one batch is under way to a peer. The next one waits for the ack, and has all writes until then.
#[derive(Clone, Debug, Default)]
pub struct Outbox {
    /// The peer has all writes up to this sequence number, or will get them from a sync.
    place: u64,
    /// The call of the batch under way.
    in_flight: Option<u64>,
    /// The sequence number of the last ack that was below the end of its batch.
    behind: Option<u64>,
    needs_repair: bool,
    failures: u32,
    /// No batch before this, µs of the node's monotonic clock.
    not_before_us: u64,
}

/// Pause after a failed batch, µs. Each further failure doubles it, up to 32 times this.
const RETRY_US: u64 = 250_000;

impl Outbox {
    /// The outbox of a peer that was away and is live again: it still has what it had. Whether it received the last
    /// batch is not known.
    #[must_use]
    pub fn resumed(self) -> Self {
        Self { in_flight: None, needs_repair: true, failures: 0, not_before_us: 0, ..self }
    }

    /// The outbox of a new peer: it gets the writes that the log still has.
    #[must_use]
    pub fn new(log: &WriteLog) -> Self {
        Self { place: log.floor(), needs_repair: log.floor() > 0, ..Self::default() }
    }

    /// Whether the peer may lack writes that no push will bring: a sync is due.
    #[must_use]
    pub fn needs_repair(&self) -> bool {
        self.needs_repair
    }

    /// The number of writes that the peer has not acknowledged.
    #[must_use]
    pub fn lag(&self, log: &WriteLog) -> u64 {
        log.sequence().saturating_sub(self.place)
    }

    /// The next batch, if there are further writes and no batch is under way. The caller sends it as `call`.
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
            // the remaining writes are tombstones that were dropped below the horizon
            None => (self.place, self.needs_repair) = (log.sequence(), true),
        }
        batch
    }

    /// Applies the ack of a batch that ends at `upto`: the peer has our writes up to `have`. The ack of any other call
    /// than the one under way is ignored.
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
            // missing writes are sent again from the log, one round trip later
            (self.place, self.behind) = (have, Some(have));
        } else {
            // writes that the log has forgotten, and a second batch that did not advance the peer, are left to a sync
            (self.place, self.needs_repair) = (upto, true);
        }
    }

    /// Records that a batch got no answer: the peer may or may not have received it.
    pub(super) fn failed(&mut self, call: u64, mono_us: u64) {
        if self.in_flight != Some(call) {
            return;
        }
        self.in_flight = None;
        self.needs_repair = true;
        self.not_before_us = mono_us + (RETRY_US << self.failures.min(5));
        self.failures += 1;
    }

    /// Ends the pause: the next batch may be sent at once.
    pub(super) fn hurry(&mut self) {
        self.not_before_us = 0;
    }

    /// Records that a round which we started is complete: the peer has all that we had.
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
        log.add(&record, set.depth());
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
        assert_eq!(batch.records[1].last_sync(), theirs.last_sync(), "a write of another process is newer");
        assert_eq!(names(&log.batch(&set, US, 3).unwrap()), ["c"]);
        assert!(log.batch(&set, US, 4).is_none());
    }

    #[test]
    fn a_batch_claims_no_tombstone_that_is_forgotten() {
        let (mut log, mut set) = filled(&["a"]);
        let dot = Dot { incarnation: US, sequence: 2 };
        let gone = Record::tombstone(name("b"), Stamp::from_micros(2).unwrap(), dot);
        set.merge(&gone);
        log.add(&gone, set.depth());
        write(&mut log, &mut set, "c");
        set.raise_horizon(Stamp::from_micros(3).unwrap(), usize::MAX);
        let batch = log.batch(&set, US, 0).unwrap();
        assert_eq!((batch.after, batch.upto), (0, 1));
        let batch = log.batch(&set, US, 1).unwrap();
        assert_eq!(
            (batch.after, batch.upto),
            (2, 3),
            "a peer that has 1 does not connect, and gets the rest by sync"
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
            log.add(&record, set.depth());
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
        log.add(&big, set.depth());
        write(&mut log, &mut set, "a");
        let batch = log.batch(&set, US, 0).unwrap();
        assert_eq!(
            (names(&batch), batch.upto),
            (vec!["a"], 1),
            "it claims write 1, so it has the name of write 1"
        );
    }

    #[test]
    fn one_batch_is_under_way_and_the_next_has_all_writes_until_then() {
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
    fn missing_writes_come_from_the_log_or_else_by_sync() {
        let (mut log, set) = filled(&["a", "b", "c"]);
        let mut outbox = Outbox { place: 2, ..Outbox::default() };
        assert_eq!(outbox.next(&log, &set, US, 0, 1).unwrap().after, 2);
        outbox.acked(&log, 1, 3, 1);
        assert_eq!(names(&outbox.next(&log, &set, US, 0, 2).unwrap()), ["b", "c"]);
        log.forget(2);
        outbox.acked(&log, 2, 3, 1);
        assert!(outbox.needs_repair());
        assert!(outbox.next(&log, &set, US, 0, 3).is_none(), "forgotten writes are not sent");
    }

    #[test]
    fn a_peer_that_a_batch_does_not_advance_is_left_to_sync() {
        let (mut log, mut set) = filled(&["a", "b"]);
        let mut outbox = Outbox::new(&log);
        for call in [1, 2] {
            assert_eq!(outbox.next(&log, &set, US, 0, call).unwrap().after, 0, "once more from the log");
            outbox.acked(&log, call, 2, 0);
        }
        assert!(outbox.needs_repair());
        assert!(outbox.next(&log, &set, US, 0, 3).is_none(), "not for ever");
        write(&mut log, &mut set, "c");
        assert_eq!(outbox.next(&log, &set, US, 0, 3).unwrap().after, 2, "later writes are pushed as usual");
    }

    #[test]
    fn a_log_of_forgotten_tombstones_is_skipped() {
        let (mut log, mut set) = filled(&[]);
        let dot = Dot { incarnation: US, sequence: 1 };
        let gone = Record::tombstone(name("a"), Stamp::from_micros(2).unwrap(), dot);
        set.merge(&gone);
        log.add(&gone, set.depth());
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
            let data = vec![0; MAX_LOG_BYTES / 10];
            let version = Version::of_data(&data);
            log.add(
                &Record::value(name(&format!("n{i}")), &version, &data, Stamp::ZERO, Dot::default()),
                Depth::new(Stamp::ZERO, 1),
            );
        }
        assert_eq!(log.sequence(), 100);
        assert!(log.floor() >= 89 && log.writes.len() <= 11, "{}", log.floor());
    }

    fn value(text: &str, micros: u64, sequence: u64) -> Record {
        let dot = Dot { incarnation: US, sequence };
        Record::value(name(text), &Version::of_data(b"d"), b"d", Stamp::from_micros(micros).unwrap(), dot)
    }

    fn stamps(batch: &Batch) -> Vec<u64> {
        batch.records.iter().map(|record| record.last_sync().micros()).collect()
    }

    /// A log of writes of one name with these stamps, and their set.
    fn written(versions: u8, stamps: impl IntoIterator<Item = u64>) -> (WriteLog, Set) {
        let (mut log, mut set) = (WriteLog::default(), Set::with_leaf_bits([1; 16], 2));
        set.set_depth(Depth::new(Stamp::ZERO, versions));
        for (micros, sequence) in stamps.into_iter().zip(1..) {
            let record = value("n", micros, sequence);
            set.merge(&record);
            log.add(&record, set.depth());
        }
        (log, set)
    }

    #[test]
    fn with_a_history_each_write_of_a_name_reaches_the_peers() {
        let (log, set) = written(2, 1..=5);
        let batch = log.batch(&set, US, 0).unwrap();
        assert_eq!((batch.after, batch.upto), (0, 5));
        let mut all = stamps(&batch);
        all.sort_unstable();
        assert_eq!(all, [1, 2, 3, 4, 5], "also those that newer ones have replaced, each once");
        assert_eq!(batch.registers.depth.versions(), 2);
        let (log, set) = written(1, 1..=5);
        assert_eq!(stamps(&log.batch(&set, US, 0).unwrap()), [5], "without one the current record is enough");
    }

    /// An older write comes with the tombstone above it, so that it does not come back where that is forgotten.
    #[test]
    fn a_write_comes_with_all_that_is_kept_above_it() {
        let (log, mut set) = written(8, [1]);
        let dot = Dot { incarnation: Incarnation(9), sequence: 1 };
        let gone = Record::tombstone(name("n"), Stamp::from_micros(2).unwrap(), dot);
        set.merge(&gone);
        set.merge(&value("n", 3, 0));
        let batch = log.batch(&set, US, 0).unwrap();
        assert_eq!(stamps(&batch), [3, 2, 1]);
        let mut receiver = Set::with_leaf_bits([1; 16], 2);
        receiver.set_depth(set.depth());
        receiver.raise_horizon(Stamp::from_micros(3).unwrap(), usize::MAX);
        receiver.merge_all(&batch.records.iter().collect::<Vec<_>>());
        assert_eq!(receiver.history(&name("n")).len(), 1, "what the tombstone deletes is not there");
    }

    #[test]
    fn a_write_that_a_horizon_cut_is_covered_by_what_is_kept() {
        let (log, mut set) = written(8, [1, 2, 3]);
        set.raise_compaction_horizon(Stamp::from_micros(3).unwrap());
        set.settle(usize::MAX);
        let batch = log.batch(&set, US, 0).unwrap();
        assert_eq!((stamps(&batch), batch.upto), (vec![3], 3));
    }
}
