//! The store of a node, behind one lock: the set, the stamps and dots of its writes, and the parked waiters.
//!
//! Each method is one step under that lock. Two things that must happen together are one method: a read checks the
//! version and parks the reader ([`Store::read`]), a write merges the record and takes the waiters ([`Store::write`]).
//!
//! The effects of a step outside of the store (waiters to wake, requests to peers, changes to report) are gathered in
//! [`Effects`], which the shell takes ([`Store::take_effects`]).

use std::collections::HashSet;

use super::change_ring::{ChangeRing, Gap};
use super::checkpoint::Checkpoints;
use super::condition::{Condition, Evaluation};
use super::effects::{Effects, SetChange};
use super::event::event_name;
use super::feed::cursor::set_id;
use super::feed::scope::Scope;
use super::genesis::Genesis;
use super::history::{Depth, Moment, Registers};
use super::limits::{
    HORIZON_SLICE, LIST_AT_MOST, MAX_BATCH_DOTS, MAX_GAP_DOTS, MAX_STAMP_LEAD_US, MUTANT_GUARD_US,
};
use super::message::Call;
use super::mutants::{Mutant, Mutants};
use super::name::{Name, NameError};
use super::namespace::Namespace;
use super::namespaces::NamespaceLimits;
use super::push::{Ack, Batch, WriteLog};
use super::record::{Dot, Incarnation, Kind, Record};
use super::scope_index::ScopeIndex;
use super::set::{Merge, Set};
use super::stamp::{Stamp, StampSource};
use super::vector::Vector;
use super::version::Version;
use super::waiters::{Interest, LimitReached, Ticket, WaiterLimits, Waiters};

/// The part of the limit of a set by which older records that are too young to be dropped may exceed it.
const YOUNG_PART: usize = 4;

/// The store of a node. `T` identifies a waiter to the caller.
#[derive(Debug)]
pub struct Store<T> {
    genesis: Genesis,
    set: Set,
    max_set_bytes: usize,
    namespace_limits: NamespaceLimits,
    /// How far before the current time the stamp of a delete may be, µs.
    delete_within_us: u64,
    /// How far behind the clock the compaction horizon stays, µs.
    compaction_lag_us: u64,
    incarnation: Incarnation,
    list_at_most: u64,
    /// The writes of this process; its sequence is that of the last dot that was given.
    log: WriteLog,
    vector: Vector,
    mutants: Mutants,
    stamps: StampSource,
    waiters: Waiters<T>,
    /// Readers of feeds that have no news.
    feed_readers: ScopeIndex<T>,
    waiter_limits: WaiterLimits,
    /// Names that wait for the upstream's first answer.
    expected: HashSet<Name>,
    draining: bool,
    /// The effects of the steps since the last call of [`Store::take_effects`].
    effects: Effects<T>,
    /// The last changes, for feeds. Empty until the node has joined a set.
    changes: ChangeRing,
    keeps_changes: bool,
    checkpoints: Checkpoints,
    /// Whether the set is a part of another one that lies elsewhere, so that its cursors are good here only.
    is_partial: bool,
    /// The end of the ring when a copy was dropped the last time; 0 if none was.
    dropped_at: u64,
    /// The end of the ring when a record came the last time that the vector claimed already.
    came_back_at: u64,
    /// Whether changes of the set go into `effects`.
    reports_changes: bool,
}

/// A write of a client.
#[derive(Debug)]
pub enum Change<'a> {
    /// A version and data.
    Put {
        /// The version.
        version: &'a Version,
        /// The data.
        data: &'a [u8],
    },
    /// A delete.
    Delete,
}

/// The result of a write.
#[derive(Debug)]
pub enum Written {
    /// The name has the version and data of the write, or is deleted, by this write or already before it.
    Done {
        /// The record that stands.
        current: Record,
    },
    /// A newer record stands. Nothing was changed.
    Lost {
        /// The record that stands.
        current: Record,
    },
    /// The stamp of the delete is so old that its tombstone might be forgotten before all nodes have received it, or the
    /// write is one into a log and lies below the compaction horizon. Nothing was changed.
    TooOld {
        /// The least stamp that such a write may have now.
        oldest: Stamp,
    },
    /// The set has no room for the record. Nothing was changed.
    Full {
        /// The size of the set, in bytes.
        bytes: usize,
        /// The largest size that it may have, in bytes.
        limit: usize,
    },
    /// The namespace of the name has no room for the record. Nothing was changed.
    NamespaceFull {
        /// Bytes of the current records of the namespace.
        bytes: usize,
        /// The most that they may have.
        limit: usize,
    },
    /// The write would begin a namespace, and there are too many. Nothing was changed.
    TooManyNamespaces {
        /// The most that there may be.
        limit: usize,
    },
}

/// The result of a read.
#[derive(Debug)]
pub enum Read {
    /// The record that stands, a value or a tombstone; `None` if there is none.
    Answer(Option<Record>),
    /// The reader is parked.
    Parked {
        /// Identifies the waiter. The caller must give it to [`Store::leave`] in the end.
        ticket: Ticket,
        /// What the reader waits for.
        interest: Interest,
        /// The record that stands.
        held: Option<Record>,
    },
    /// The reader would have to wait, but the node is about to stop and parks no readers.
    Draining,
    /// The reader would have to wait, but a limit on waiters is reached.
    LimitReached(LimitReached),
}

/// Whether a reader of a feed is parked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Parking {
    /// It is. The caller must give the ticket to [`Store::leave_feed`] in the end.
    Parked(Ticket),
    /// The node is about to stop and parks no readers.
    Draining,
    /// A limit on waiters is reached.
    LimitReached(LimitReached),
}

impl<T> Store<T> {
    /// An empty store of a new process.
    #[must_use]
    pub fn new(genesis: Genesis, incarnation: Incarnation, max_set_bytes: usize) -> Self {
        Self::with_set(genesis, incarnation, max_set_bytes, Set::new(genesis.key), Mutants::NONE)
    }

    /// As [`Store::new`], with fewer leaves and perhaps a mutant: the store of a simulated node.
    #[cfg(any(test, feature = "sim"))]
    #[must_use]
    pub fn simulated(genesis: Genesis, incarnation: Incarnation, leaf_bits: u32, mutants: Mutants) -> Self {
        let set = Set::with_mutants(genesis.key, leaf_bits, mutants);
        Self::with_set(genesis, incarnation, usize::MAX, set, mutants)
    }

    /// Lists stretches of at most this many records, so that a sync cuts small sets as often as large ones.
    #[cfg(any(test, feature = "sim"))]
    #[must_use]
    pub fn listing_at_most(self, list_at_most: u64) -> Self {
        Self { list_at_most, ..self }
    }

    /// Holds at most this many bytes.
    #[cfg(test)]
    pub(super) fn holding_at_most(self, max_set_bytes: usize) -> Self {
        Self { max_set_bytes, ..self }
    }

    /// From now on reports each change of the set in [`Effects::changes`]. By default changes are not reported, and
    /// cost nothing extra.
    pub fn report_changes(&mut self) {
        self.reports_changes = true;
    }

    /// The effects of the steps since the last call, for the shell to carry out.
    #[must_use]
    pub fn take_effects(&mut self) -> Effects<T> {
        std::mem::take(&mut self.effects)
    }

    fn with_set(
        genesis: Genesis,
        incarnation: Incarnation,
        max_set_bytes: usize,
        set: Set,
        mutants: Mutants,
    ) -> Self {
        Self {
            genesis,
            set: set.with_depth(Depth::new(Stamp::ZERO, genesis.versions)),
            max_set_bytes,
            namespace_limits: NamespaceLimits::NONE,
            delete_within_us: u64::MAX,
            compaction_lag_us: u64::MAX,
            incarnation,
            list_at_most: LIST_AT_MOST,
            log: WriteLog::default(),
            vector: Vector::default(),
            mutants,
            stamps: match mutants.has(Mutant::StampsCarried) {
                true => StampSource::without_limit(),
                false => StampSource::default(),
            },
            waiters: Waiters::default(),
            feed_readers: ScopeIndex::new(genesis.key),
            waiter_limits: WaiterLimits::UNBOUNDED,
            expected: HashSet::new(),
            draining: false,
            effects: Effects::default(),
            reports_changes: false,
            changes: ChangeRing::default(),
            keeps_changes: false,
            checkpoints: Checkpoints::default(),
            is_partial: false,
            dropped_at: 0,
            came_back_at: 0,
        }
    }

    /// Tombstones live for `grace_us`: rejects deletes that would have less than half of it left.
    #[must_use]
    pub fn with_grace(self, grace_us: u64) -> Self {
        Self { delete_within_us: grace_us / 2, ..self }
    }

    /// Lets older records make room in a full set, as far as the compaction horizon may rise: to `lag_us` before the clock.
    #[must_use]
    pub fn compacting_behind(self, lag_us: u64) -> Self {
        Self { compaction_lag_us: lag_us, ..self }
    }

    /// Sets the limits on namespaces of clients. What is held already stays.
    pub fn limit_namespaces(&mut self, limits: NamespaceLimits) {
        self.namespace_limits = limits;
    }

    /// The genesis of the set.
    #[must_use]
    pub fn genesis(&self) -> Genesis {
        self.genesis
    }

    /// Id of this process.
    #[must_use]
    pub fn incarnation(&self) -> Incarnation {
        self.incarnation
    }

    /// The writes of this process, to be pushed.
    #[must_use]
    pub fn log(&self) -> &WriteLog {
        &self.log
    }

    /// The version vector of the set.
    #[must_use]
    pub fn vector(&self) -> &Vector {
        &self.vector
    }

    pub(super) fn mutants(&self) -> Mutants {
        self.mutants
    }

    /// The set.
    #[must_use]
    pub fn set(&self) -> &Set {
        &self.set
    }

    /// The parked waiters.
    #[must_use]
    pub fn waiters(&self) -> &Waiters<T> {
        &self.waiters
    }

    /// See [`Set::release_retired`].
    pub fn release_retired(&mut self, checks: usize) {
        self.set.release_retired(checks);
    }

    /// The record of a name; `None` if the set holds none.
    #[must_use]
    pub fn get(&self, name: &Name) -> Option<Record> {
        self.set.get(name).cloned()
    }

    /// The record that contradicts a client's write: the same version with other data. Such a write would change what
    /// readers get without waking the readers that know the version. A merge must not reject records, so it cannot
    /// check this.
    #[must_use]
    pub fn contradiction(&self, name: &Name, change: &Change<'_>) -> Option<&Record> {
        let Change::Put { version, data } = *change else { return None };
        self.set.get(name).filter(|held| held.contradicts(version, data))
    }

    /// Writes for a client. `given` is the client's stamp, already guarded. Without one the node gives its own stamp,
    /// above that of the record that it holds of the name, and after the genesis, so that no reader's stamp counts as
    /// one of an earlier set.
    pub fn write(&mut self, now: Stamp, name: &Name, change: &Change<'_>, given: Option<Stamp>) -> Written {
        if given.is_none() {
            self.date_genesis_back(now);
        }
        let held = self.set.get(name);
        let after_genesis = now.max(self.genesis.started.next());
        let last_sync = given.unwrap_or_else(|| self.stamps.give(after_genesis, held.map(Record::last_sync)));
        let dot = Dot { incarnation: self.incarnation, sequence: self.log.sequence() + 1 };
        // all records of a name share its bytes
        let shared = held.map_or(name, Record::name).clone();
        let record = match *change {
            Change::Put { version, data } => Record::value(shared, version, data, last_sync, dot),
            Change::Delete => Record::tombstone(shared, last_sync, dot),
        };
        if let Some(current) = held.filter(|held| held.order(&record).is_ge()).cloned() {
            // what loses is no part of the history
            let is_retry = current.reads_as(&record);
            return if is_retry { Written::Done { current } } else { Written::Lost { current } };
        }
        let oldest = self.oldest_delete(now);
        if record.kind() == Kind::Tombstone && last_sync < oldest {
            return Written::TooOld { oldest };
        }
        // it would be gone at once
        if record.name().is_log() && last_sync < self.set.compaction_horizon() {
            return Written::TooOld { oldest: self.set.compaction_horizon() };
        }
        if let Some(full) = self.is_beyond_namespace(&record, held) {
            return full;
        }
        // what the record replaces is looked up only where it matters
        if self.set.bytes() + record.cost() > self.max_set_bytes {
            let growth = self.set.growth(&record);
            if growth > 0 && !self.makes_room(now, growth) && !self.fits_without_older(&record, growth) {
                return Written::Full { bytes: self.set.bytes(), limit: self.max_set_bytes };
            }
        }
        self.merge(&record);
        // only accepted writes get a dot, so that sequences have no holes
        self.log.add(&record, self.set.depth());
        self.vector.raise(self.incarnation, dot.sequence);
        Written::Done { current: record }
    }

    /// Adds an event to a log, under a name of its stamp and its dot; see [`event_name`]. `limit_bytes` is the limit of the
    /// name.
    ///
    /// # Errors
    /// If the name would be too long, or the type is no beginning of a name. Nothing was changed.
    pub fn append(
        &mut self,
        now: Stamp,
        log: &Namespace,
        kind: &[u8],
        change: &Change<'_>,
        limit_bytes: usize,
    ) -> Result<Written, NameError> {
        self.date_genesis_back(now);
        let stamp = self.stamps.give(now.max(self.genesis.started.next()), None);
        let dot = Dot { incarnation: self.incarnation, sequence: self.log.sequence() + 1 };
        let name = event_name(log, kind, stamp, dot, limit_bytes)?;
        Ok(self.write(now, &name, change, Some(stamp)))
    }

    /// The refusal of a write that is beyond a limit on namespaces. Older records do not count: a write that replaces a
    /// record by one that is not larger always fits, and so a delete does.
    fn is_beyond_namespace(&self, record: &Record, held: Option<&Record>) -> Option<Written> {
        let NamespaceLimits { namespaces, bytes: limit } = self.namespace_limits;
        let name = record.name();
        if name.namespace().is_empty() || name.is_own() {
            return None;
        }
        let Some(usage) = self.set.namespace_use(name) else {
            let is_full = self.set.namespaces() >= namespaces;
            return if is_full {
                Some(Written::TooManyNamespaces { limit: namespaces })
            } else {
                (record.cost() > limit).then_some(Written::NamespaceFull { bytes: 0, limit })
            };
        };
        let (bytes, replaced) = (usage.current_bytes(), held.map_or(0, Record::cost));
        let is_full =
            record.cost() > replaced && bytes.saturating_sub(replaced).saturating_add(record.cost()) > limit;
        is_full.then_some(Written::NamespaceFull { bytes, limit })
    }

    /// Whether the set may grow by so many bytes. If it is full, older records make room: the compaction horizon rises as
    /// far as it is needed and may.
    fn makes_room(&mut self, now: Stamp, growth: usize) -> bool {
        let lacks =
            |set: &Set| (set.bytes() + growth).saturating_sub(set.doomed_bytes() + self.max_set_bytes);
        let missing = lacks(&self.set);
        if missing == 0 {
            return true;
        }
        let Some(horizon) = self.set.horizon_that_frees(self.set.doomed_bytes() + missing) else {
            return false;
        };
        if horizon > now.before(self.compaction_lag_us) {
            return false;
        }
        self.set.raise_compaction_horizon(horizon);
        lacks(&self.set) == 0
    }

    /// Whether a record fits into a full set whose older records are too young to be dropped: the current records are
    /// within the limit with it, and all records within the limit and a quarter. Without this, a full set would reject a
    /// write that only replaces a value, and the delete that is to make room.
    fn fits_without_older(&self, record: &Record, growth: usize) -> bool {
        let set = &self.set;
        if record.name().is_log() {
            // its records are no current ones in this account
            return false;
        }
        let replaced = set.get(record.name()).map_or(0, Record::cost);
        let current = (set.bytes() - set.older_bytes()).saturating_sub(replaced) + record.cost();
        let most = self.max_set_bytes + self.max_set_bytes / YOUNG_PART;
        let all = (set.bytes() + growth).saturating_sub(set.doomed_bytes());
        (record.cost() <= replaced || current <= self.max_set_bytes) && all <= most
    }

    /// Sets the start of the genesis to now if it is later than now: the clock of its node was wrong, and all stamps
    /// would be later than that start. The older genesis wins, so other nodes adopt it.
    fn date_genesis_back(&mut self, now: Stamp) {
        let Genesis { started, .. } = self.genesis;
        let is_ahead = started < Stamp::MAX && started.next().before(MAX_STAMP_LEAD_US) > now;
        if is_ahead && !self.mutants.has(Mutant::GenesisKept) {
            self.genesis.started = now;
        }
    }

    /// The least stamp that a delete may have: a tombstone just above the horizon would be forgotten at the horizon's
    /// next step, and a peer that has not received it would bring the value back.
    fn oldest_delete(&self, now: Stamp) -> Stamp {
        let horizon = self.set.horizon();
        if self.mutants.has(Mutant::DeleteAtHorizon) {
            horizon
        } else {
            horizon.max(now.before(self.delete_within_us))
        }
    }

    /// Merges a record of a client or a peer. The waiters of the change are due.
    pub fn merge(&mut self, record: &Record) -> Merge {
        let merge = self.set.merge(record);
        match &merge {
            Merge::Newer { previous } => {
                self.changed(record, previous.clone());
                self.add_change(record, true);
            }
            // a reader may have what this node has forgotten
            Merge::Forgotten => self.add_change(record, true),
            Merge::Older(_) => self.add_change(record, false),
            // readers are told of it all the same
            Merge::Cut(_) if !self.vector.claims(record.dot()) => {
                if !self.mutants.has(Mutant::RingOfKept) {
                    self.add_change(record, false);
                }
            }
            Merge::Cut(_) | Merge::Held(_) => {}
        }
        self.report_expired();
        merge
    }

    /// The compaction horizon has removed names of logs: their waiters are due, and read again.
    fn report_expired(&mut self) {
        for previous in self.set.take_expired() {
            self.waiters.take_expired(previous.name(), &mut self.effects.due);
            if self.reports_changes {
                self.effects.changes.push(SetChange::Dropped { previous });
            }
        }
    }

    /// The current record of a name has changed.
    fn changed(&mut self, record: &Record, previous: Option<Record>) {
        self.waiters.take(previous.as_ref(), record, &mut self.effects.due);
        self.checkpoints.changed(record);
        if self.reports_changes {
            self.effects.changes.push(SetChange::Merged { record: record.clone(), previous });
        }
    }

    fn add_change(&mut self, record: &Record, is_current: bool) {
        if self.keeps_changes {
            let position = self.changes.end();
            self.changes.add(record, is_current);
            self.feed_readers.take(record.name().as_bytes(), position, &mut self.effects.due);
            if self.vector.claims(record.dot()) && !self.mutants.has(Mutant::ReturnUnnoticed) {
                self.came_back_at = self.changes.end();
            }
        }
    }

    fn add_gap(&mut self, gap: Gap) {
        if self.keeps_changes && !self.mutants.has(Mutant::GapsUntold) {
            let position = self.changes.end();
            self.changes.add_gap(gap);
            // of which names it is, is not known
            self.feed_readers.take_all(position, &mut self.effects.due);
        }
    }

    fn clear_changes(&mut self) {
        self.changes.clear();
        // none of them can follow over it
        self.feed_readers.take_all(0, &mut self.effects.due);
    }

    /// From now on keeps the last changes, for feeds: the node has joined a set. Until then, all of the set is news.
    pub fn keep_changes(&mut self) {
        self.keeps_changes = true;
    }

    /// The set is from now on a part of another one that lies elsewhere: cursors are good at this process only.
    pub fn be_partial(&mut self) {
        self.is_partial = true;
    }

    /// What stands for the set in cursors.
    #[must_use]
    pub fn set_id(&self) -> u64 {
        let id = set_id(self.genesis);
        if self.is_partial { id ^ self.incarnation.0 } else { id }
    }

    /// Whether cursors are good at this process only.
    #[must_use]
    pub fn is_partial(&self) -> bool {
        self.is_partial
    }

    /// The end of the ring when a copy was dropped the last time, 0 if none was: a cursor of an earlier position may lack
    /// what was dropped.
    pub(super) fn dropped_at(&self) -> u64 {
        self.dropped_at
    }

    /// The end of the ring when a record came the last time that the vector claimed already: it was dropped, and came back
    /// when more records were kept.
    pub(super) fn came_back_at(&self) -> u64 {
        self.came_back_at
    }

    /// The stamp from which on records are held back by checkpoints that were written since another stamp, and the
    /// checkpoint that holds the most: see [`super::checkpoint`].
    #[must_use]
    pub fn held_back(&self, since: Stamp) -> Option<(Stamp, &Name)> {
        self.checkpoints.least(self.set_id(), since)
    }

    /// The number of checkpoints that were written since a stamp, and the least recently written one of the others.
    #[must_use]
    pub fn count_checkpoints(&self, since: Stamp) -> (usize, Option<&Name>) {
        self.checkpoints.count(since)
    }

    /// How many checkpoints there are, expired ones too.
    #[must_use]
    pub fn checkpoints_held(&self) -> usize {
        self.checkpoints.len()
    }

    /// Half of the time for which tombstones live, µs.
    pub(super) fn half_grace_us(&self) -> u64 {
        self.delete_within_us
    }

    /// The last changes.
    #[must_use]
    pub fn changes(&self) -> &ChangeRing {
        &self.changes
    }

    /// Merges the records of a message of a peer: those of one name as one ([`Set::merge_all`]).
    pub(super) fn replicate(&mut self, now: Stamp, records: &[Record]) {
        let reported = self.effects.changes.len();
        let refused = |record: &&Record| {
            self.mutants.has(Mutant::RefuseFuture) && record.last_sync().guard(now, MUTANT_GUARD_US).is_err()
        };
        let mut records: Vec<&Record> = records.iter().filter(|record| !refused(record)).collect();
        records.sort_by(|a, b| a.name().cmp(b.name()));
        for of_name in records.chunk_by(|a, b| a.name() == b.name()) {
            match of_name {
                [record] => drop(self.merge(record)),
                records => self.merge_all(records),
            }
        }
        if self.mutants.has(Mutant::ReplicatedUnreported) {
            self.effects.changes.truncate(reported);
        }
    }

    /// Merges records of one name as one. The waiters that the change of the current record concerns are due.
    fn merge_all(&mut self, records: &[&Record]) {
        let Some(name) = records.first().map(|record| record.name()) else { return };
        let previous = self.set.get(name).cloned();
        let held = self.set.history(name);
        let is_held = |record: &Record| held.iter().any(|cell| cell.record().order(record).is_eq());
        let mut news: Vec<&Record> = records.iter().copied().filter(|record| !is_held(record)).collect();
        news.sort_by(|a, b| a.order(b));
        news.dedup_by(|a, b| a.order(b).is_eq());
        self.set.merge_all(records);
        self.report_expired();
        let current = match self.set.get(name) {
            Some(current) => {
                let is_new = previous.as_ref().is_none_or(|p| p.address() != current.address());
                is_new.then(|| current.clone())
            }
            // a tombstone below the horizon has removed all, or all that came
            None => news.last().map(|tombstone| (*tombstone).clone()),
        };
        if let Some(current) = &current
            && (previous.is_some() || self.set.get(name).is_some())
        {
            self.changed(current, previous);
        }
        if self.keeps_changes {
            self.add_news(&news, current.as_ref());
        }
    }

    /// Adds records of one name to the changes, in [`Record::order`], that were not held before they were merged as one:
    /// those that are kept, and those that are news although they are not.
    fn add_news(&mut self, news: &[&Record], current: Option<&Record>) {
        for record in news {
            let is_current = current.is_some_and(|current| current.order(record).is_eq());
            let history = self.set.history(record.name());
            let is_kept = history.iter().any(|cell| cell.record().order(record).is_eq());
            let is_news = !self.vector.claims(record.dot()) && !self.mutants.has(Mutant::RingOfKept);
            if is_current || is_kept || is_news {
                self.add_change(record, is_current);
            }
        }
    }

    /// Merges a batch of a peer's writes. The vector accepts the batch if it connects, else the vector waits for a
    /// sync. Registers that no correct clock allows are not adopted, and then the vector does not accept the batch.
    pub fn take(&mut self, at: Moment, batch: &Batch) -> Ack {
        let refused = at.refuses(&batch.registers, &self.registers());
        if !refused && !self.mutants.has(Mutant::PushWithoutRegisters) {
            self.adopt_registers(batch.registers, HORIZON_SLICE);
        }
        self.replicate(at.now, &batch.records);
        let connects = self.vector.get(batch.from) >= batch.after || self.mutants.has(Mutant::SkipGaps);
        let span = batch.upto.saturating_sub(batch.after);
        let most = span.saturating_mul(u64::from(batch.registers.depth.versions()) + 1);
        let sound = span > 0 && span <= MAX_BATCH_DOTS && batch.records.len() as u64 <= most;
        // only this process gives dots with its own id
        if connects && sound && !refused && batch.from != self.incarnation {
            self.advance(batch.from, batch.upto, &batch.records);
        }
        Ack { from: self.incarnation, have: self.vector.get(batch.from), now: at.now }
    }

    /// Adds a request to a peer to the effects.
    pub(super) fn call(&mut self, call: Call) {
        self.effects.calls.push(call);
    }

    /// Joins the vector of another set. All records that the other set held at that vector must be merged into ours
    /// before.
    pub(super) fn join_vector(&mut self, other: &Vector) {
        let before = self.keeps_changes.then(|| self.vector.clone());
        self.vector.join(other);
        let Some(before) = before else { return };
        let claimed: u64 = self.vector.iter().map(|(process, upto)| upto - before.get(process)).sum();
        if claimed > MAX_GAP_DOTS {
            self.clear_changes();
        } else if let Some(gap) = Gap::of(self.set.missing(&before, &self.vector).collect()) {
            self.add_gap(gap);
        }
    }

    /// Raises a component of the vector with a message that carried some of the writes. The writes that the set does not
    /// hold and that did not come are a gap.
    fn advance(&mut self, process: Incarnation, upto: u64, carried: &[Record]) {
        let before = self.vector.get(process);
        self.vector.raise(process, upto);
        if !self.keeps_changes || self.vector.get(process) <= before {
            return;
        }
        let mut missing = self.set.missing_of(process, before, upto).peekable();
        if missing.peek().is_none() {
            return;
        }
        let carried = carried.iter().map(Record::dot).filter(|dot| dot.incarnation == process);
        let carried: HashSet<u64> = carried.map(|dot| dot.sequence).collect();
        let mut ranges: Vec<(Incarnation, u64, u64)> = Vec::new();
        for sequence in missing.flat_map(|(a, b)| a..=b).filter(|sequence| !carried.contains(sequence)) {
            match ranges.last_mut() {
                Some((_, _, end)) if *end + 1 == sequence => *end = sequence,
                _ => ranges.push((process, sequence, sequence)),
            }
        }
        if let Some(gap) = Gap::of(ranges) {
            self.add_gap(gap);
        }
    }

    /// Makes room in the vector: removes all processes except this one and those for which `keep` is true.
    pub fn prune_vector(&mut self, mut keep: impl FnMut(Incarnation) -> bool) {
        let us = self.incarnation;
        self.vector.retain(|incarnation| incarnation == us || keep(incarnation));
    }

    /// Forgets our writes up to a sequence in the log: peers that lack them need a sync.
    pub fn forget_writes(&mut self, upto: u64) {
        self.log.forget(upto);
    }

    /// Adopts another genesis. The records and the vector stay; the digest is computed again, O(n).
    pub fn adopt(&mut self, genesis: Genesis) {
        if genesis.key != self.genesis.key {
            self.clear_changes();
            self.set.rekey(genesis.key);
        }
        let depth = self.set.depth();
        if depth.epoch() == Stamp::ZERO {
            self.set.set_depth(Depth::new(Stamp::ZERO, genesis.versions).after(depth));
        }
        self.genesis = genesis;
    }

    /// Reads a name, or parks the reader. Both are one step, so that no change comes between the check and the parking.
    ///
    /// `waiter` makes the waiter; with `None` the reader is never parked, and gets the answer of a timeout.
    pub fn read(
        &mut self,
        now: Stamp,
        name: &Name,
        condition: &Condition,
        waiter: Option<impl FnOnce() -> T>,
    ) -> Read {
        let held = self.set.get(name);
        let evaluation = if self.expected.is_empty() || !self.expected.contains(name) {
            condition.evaluate(held)
        } else {
            Evaluation::Wait(Interest::Upstream)
        };
        match (evaluation, waiter) {
            (Evaluation::Wait(_), Some(_)) if self.draining => Read::Draining,
            (Evaluation::Wait(_), Some(_)) if self.is_full_of_waiters() => {
                Read::LimitReached(LimitReached::Total(self.waiter_limits.total))
            }
            (Evaluation::Wait(interest), Some(waiter)) => {
                let held = held.cloned();
                match self.waiters.join(now, name, interest, waiter()) {
                    Ok(ticket) => Read::Parked { ticket, interest, held },
                    Err(limit) => Read::LimitReached(limit),
                }
            }
            (Evaluation::Answer, _) | (Evaluation::Wait(_), None) => Read::Answer(held.cloned()),
        }
    }

    /// Sets the limits on waiters.
    pub fn limit_waiters(&mut self, most: WaiterLimits) {
        self.waiters.limit(most);
        self.feed_readers.limit(most.per_name);
        self.waiter_limits = most;
    }

    /// Drops the copy of a name without waiters, if the set is more than half full; see [`Set::drop_copy`]. The node
    /// asks the upstream again when the name is read. While there is room the copy stays, because the upstream may be
    /// gone by then.
    pub fn drop_copy(&mut self, name: &Name) {
        if self.set.bytes() > self.max_set_bytes / 2 && !self.waiters.has(name) {
            self.forget_copy(name);
        }
    }

    /// Marks a name as expected: until [`Store::end_expectation`], readers that have time wait for the upstream's
    /// answer, whatever the set holds. The caller bounds the number of these names.
    pub fn expect(&mut self, name: &Name) {
        self.expected.insert(name.clone());
    }

    /// Ends that a name is expected: the upstream has answered, or the node has stopped to ask it. The waiters for the
    /// answer are due, and read again.
    pub fn end_expectation(&mut self, name: &Name) {
        if self.expected.remove(name) {
            self.waiters.take_upstream(name, &mut self.effects.due);
        }
    }

    /// The number of expected names.
    #[must_use]
    pub fn expected(&self) -> usize {
        self.expected.len()
    }

    /// Removes a waiter; see [`Waiters::leave`].
    pub fn leave(&mut self, ticket: Ticket) {
        self.waiters.leave(ticket);
    }

    /// From now on parks no readers; all parked waiters are due, to be sent away.
    pub fn drain(&mut self) {
        self.draining = true;
        self.waiters.take_all(&mut self.effects.due);
        self.feed_readers.take_all(self.changes.end(), &mut self.effects.due);
    }

    /// Parks a reader of a feed until the change of a name in its scope, or until changes are dropped that it has not
    /// seen. The caller has checked, in the same step, that the feed has no news. It counts as a waiter, and as one on
    /// each of the names and prefixes of its scope.
    #[must_use]
    pub fn park_feed(&mut self, scope: &Scope, reader: &T) -> Parking
    where
        T: Clone,
    {
        if self.draining {
            return Parking::Draining;
        }
        if self.is_full_of_waiters() {
            return Parking::LimitReached(LimitReached::Total(self.waiter_limits.total));
        }
        match self.feed_readers.park(scope, reader) {
            Ok(ticket) => Parking::Parked(ticket),
            Err(limit) => Parking::LimitReached(limit),
        }
    }

    /// Removes a reader of a feed. Returns the position up to which no change since it was parked concerns it; see
    /// [`super::feed::Feed::skip_to`].
    pub fn leave_feed(&mut self, ticket: Ticket) -> u64 {
        self.feed_readers.leave(ticket, self.changes.end())
    }

    /// The number of parked readers of feeds.
    #[must_use]
    pub fn parked_feeds(&self) -> usize {
        self.feed_readers.parked()
    }

    fn is_full_of_waiters(&self) -> bool {
        self.waiters.parked() + self.feed_readers.parked() >= self.waiter_limits.total
    }

    /// Lowers the horizon; see [`Set::lower_horizon`].
    pub(super) fn lower_horizon(&mut self, horizon: Stamp) {
        self.set.lower_horizon(horizon);
    }

    /// Drops the copy of a name whose source is gone; see [`Set::drop_copy`]. Readers parked on it wait for the next
    /// copy.
    pub fn forget_copy(&mut self, name: &Name) {
        let Some(previous) = self.set.drop_copy(name) else { return };
        self.add_gap(Gap::Unknown);
        self.dropped_at = self.changes.end();
        if self.reports_changes {
            self.effects.changes.push(SetChange::Dropped { previous });
        }
    }

    /// The registers of the set.
    #[must_use]
    pub fn registers(&self) -> Registers {
        self.set.registers()
    }

    /// Adopts the registers of a peer where they are larger, and drops what they cut: at most `at_most` tombstones, and
    /// the rest of about as many records. Returns whether nothing is left to be dropped.
    pub(super) fn adopt_registers(&mut self, registers: Registers, at_most: usize) -> bool {
        let joined = self.registers().join(registers);
        if joined.depth != self.set.depth() {
            self.set.set_depth(joined.depth);
        }
        self.set.raise_compaction_horizon(joined.compaction_horizon);
        let dropped = self.set.raise_horizon(joined.gc_horizon, at_most);
        self.settle(at_most) && dropped < at_most
    }

    /// Drops a part of what the registers cut; see [`Set::settle`]. Returns whether nothing is left.
    pub fn settle(&mut self, at_most: usize) -> bool {
        let is_done = self.set.settle(at_most);
        self.report_expired();
        is_done
    }

    /// Sets how many records a name keeps from now on.
    pub(super) fn set_depth(&mut self, depth: Depth) {
        self.set.set_depth(depth);
    }

    /// Raises the compaction horizon; see [`Set::raise_compaction_horizon`].
    pub(super) fn raise_compaction_horizon(&mut self, horizon: Stamp) {
        self.set.raise_compaction_horizon(horizon);
    }

    /// Raises the horizon and drops at most `at_most` tombstones; see [`Set::raise_horizon`].
    pub fn raise_horizon(&mut self, horizon: Stamp, at_most: usize) -> usize {
        self.set.raise_horizon(horizon, at_most)
    }

    /// Most records of a stretch that a sync lists and does not cut further.
    pub(super) fn list_at_most(&self) -> u64 {
        self.list_at_most
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::condition::KnownVersion;
    use crate::core::testing::{at, name, version};

    const GENESIS: Genesis = Genesis { provisional: false, started: Stamp::ZERO, key: [3; 16], versions: 1 };

    fn moment(micros: u64) -> Moment {
        Moment { now: at(micros), latest_horizon: Stamp::MAX, latest_compaction: Stamp::MAX }
    }

    fn store() -> Store<u32> {
        Store::new(GENESIS, Incarnation(1), usize::MAX)
    }

    fn put(store: &mut Store<u32>, now: u64, v: &str, given: Option<u64>) -> Written {
        let version = version(v);
        store.write(at(now), &name("n"), &Change::Put { version: &version, data: b"d" }, given.map(at))
    }

    fn delete(store: &mut Store<u32>, now: u64, given: Option<u64>) -> Written {
        store.write(at(now), &name("n"), &Change::Delete, given.map(at))
    }

    fn done(written: Written) -> Record {
        match written {
            Written::Done { current } => current,
            other => panic!("not done: {other:?}"),
        }
    }

    /// The number of waiters that are due since the last call.
    fn due(store: &mut Store<u32>) -> usize {
        store.take_effects().due.iter().map(Vec::len).sum()
    }

    #[test]
    fn a_write_without_a_stamp_supersedes_what_the_node_has_seen() {
        let mut store = store();
        done(put(&mut store, 10, "ahead", Some(1_000)));
        let current = done(put(&mut store, 20, "b", None));
        assert_eq!((current.version(), current.last_sync()), ("b", at(1_001)));
        let current = done(delete(&mut store, 20, None));
        assert_eq!((current.kind(), current.last_sync()), (Kind::Tombstone, at(1_002)));
    }

    /// Without the rule, a set that a clock an hour ahead began would give each name a stamp an hour ahead.
    #[test]
    fn the_first_write_dates_a_set_back_that_began_in_the_future() {
        const HOUR: u64 = 3_600_000_000;
        let genesis = Genesis { started: at(HOUR), ..GENESIS };
        let mut store: Store<u32> = Store::new(genesis, Incarnation(1), usize::MAX);
        done(put(&mut store, 10, "a", Some(5)));
        assert_eq!(store.genesis(), genesis, "the stamp of a client is no sign of our clock");
        let current = done(put(&mut store, 20, "b", None));
        assert_eq!((current.last_sync(), store.genesis().started), (at(21), at(20)));
        // a difference between the clocks of two nodes is none
        let genesis = Genesis { started: at(HOUR), ..GENESIS };
        let mut store: Store<u32> = Store::new(genesis, Incarnation(1), usize::MAX);
        let current = done(put(&mut store, HOUR - MAX_STAMP_LEAD_US + 1, "b", None));
        assert_eq!((current.last_sync(), store.genesis()), (at(HOUR + 1), genesis));
    }

    #[test]
    fn a_retry_is_harmless_and_an_older_write_loses() {
        let mut store = store();
        done(put(&mut store, 10, "a", Some(100)));
        let current = done(put(&mut store, 10, "a", Some(50)));
        assert_eq!(current.last_sync(), at(100), "it stands already, with a newer stamp");
        assert!(
            matches!(put(&mut store, 10, "b", Some(50)), Written::Lost { current } if current.version() == "a")
        );
        assert!(matches!(delete(&mut store, 10, Some(50)), Written::Lost { .. }));
        done(delete(&mut store, 10, Some(200)));
        let current = done(delete(&mut store, 10, Some(150)));
        assert_eq!(current.last_sync(), at(200), "deleted already, later");
        assert!(matches!(put(&mut store, 10, "b", Some(150)), Written::Lost { .. }));
    }

    /// A reader of an expected name waits for the upstream's answer, whatever the set holds, and then reads again with
    /// the same condition.
    #[test]
    fn a_reader_waits_for_an_expected_name_and_keeps_its_condition() {
        let mut store = store();
        done(put(&mut store, 10, "a", Some(100)));
        store.expect(&name("n"));
        let knows_a = Condition { known: KnownVersion::AnyOf(vec![version("a")]), at_least: None };
        for condition in [knows_a.clone(), Condition { known: KnownVersion::Unspecified, at_least: None }] {
            let read = store.read(at(1), &name("n"), &condition, Some(|| 7));
            let Read::Parked { interest, held, .. } = read else { panic!("{read:?}") };
            assert_eq!(interest, Interest::Upstream);
            assert_eq!(condition.clone().after_waiting(interest, held.as_ref()), condition);
        }
        let in_a_hurry = store.read(at(1), &name("n"), &knows_a, None::<fn() -> u32>);
        assert!(matches!(in_a_hurry, Read::Answer(Some(held)) if held.version() == "a"));
        store.end_expectation(&name("n"));
        assert_eq!(due(&mut store), 2);
        store.end_expectation(&name("n"));
        assert_eq!((due(&mut store), store.expected()), (0, 0));
        assert!(matches!(
            store.read(at(1), &name("n"), &knows_a, Some(|| 7)),
            Read::Parked { interest: Interest::Changed, .. }
        ));
    }

    #[test]
    fn a_version_that_stands_keeps_its_data() {
        let mut store = store();
        done(put(&mut store, 10, "a", Some(100)));
        let asked = |store: &Store<u32>, v: &str, data: &[u8]| {
            let version = version(v);
            store.contradiction(&name("n"), &Change::Put { version: &version, data }).is_some()
        };
        assert!(asked(&store, "a", b"other") && asked(&store, "a", b""), "whatever the stamp");
        assert!(!asked(&store, "a", b"d"), "a retry");
        assert!(!asked(&store, "b", b"other"), "another version");
        assert!(store.contradiction(&name("n"), &Change::Delete).is_none());
        done(delete(&mut store, 10, Some(200)));
        assert!(!asked(&store, "a", b"other"), "deleted");
    }

    #[test]
    fn dots_have_no_holes() {
        let mut store = store();
        assert_eq!(done(put(&mut store, 10, "a", Some(100))).dot().sequence, 1);
        assert!(matches!(put(&mut store, 10, "b", Some(50)), Written::Lost { .. }));
        assert_eq!(done(put(&mut store, 10, "c", None)).dot().sequence, 2);
    }

    #[test]
    fn a_full_set_accepts_writes_that_do_not_grow_it() {
        let first = Record::value(name("n"), &version("a"), b"d", at(1), Dot::default());
        let mut store: Store<u32> = Store::new(GENESIS, Incarnation(1), first.cost());
        done(put(&mut store, 1, "a", None));
        assert!(matches!(put(&mut store, 2, "longer", None), Written::Full { .. }));
        assert_eq!(store.get(&name("n")).unwrap().version(), "a", "nothing changed");
        done(put(&mut store, 3, "b", None));
        assert!(matches!(store.write(at(4), &name("m"), &Change::Delete, None), Written::Full { .. }));
        done(delete(&mut store, 5, None));
    }

    #[test]
    fn a_record_that_only_the_log_holds_is_not_retired_memory() {
        let genesis = Genesis { versions: 2, ..GENESIS };
        let mut store: Store<u32> = Store::new(genesis, Incarnation(1), usize::MAX);
        done(put(&mut store, 1, "a", None));
        let answer = store.get(&name("n"));
        let cost = answer.as_ref().map_or(0, Record::cost);
        for micros in 2..9 {
            done(put(&mut store, micros, "v", None));
        }
        assert_eq!(
            store.set().retired_bytes(),
            cost,
            "of those that the set does not keep, an answer holds one"
        );
        drop(answer);
        store.release_retired(usize::MAX);
        assert_eq!(store.set().retired_bytes(), 0);
        let (batch, all) = (store.log().batch(store.set(), store.incarnation(), 0), store.log().sequence());
        assert_eq!(batch.map(|batch| batch.records.len()), Some(8), "the log has each of them");
        store.forget_writes(all);
        assert_eq!(store.set().retired_bytes(), 0);
    }

    #[test]
    fn older_records_make_room_in_a_full_set() {
        const MINUTE: u64 = 60_000_000;
        let cost = Record::value(name("n"), &version("a"), b"d", at(1), Dot::default()).cost();
        let full = |lag_us| {
            let genesis = Genesis { versions: 8, ..GENESIS };
            let mut store: Store<u32> =
                Store::new(genesis, Incarnation(1), 5 * cost).compacting_behind(lag_us);
            for minute in 1..=5 {
                done(put(&mut store, minute * MINUTE, "v", None));
            }
            assert_eq!((store.set().bytes(), store.set().older_bytes()), (5 * cost, 4 * cost));
            store
        };
        let change = Change::Put { version: &version("a"), data: b"d" };
        let mut store = full(MINUTE);
        done(store.write(at(9 * MINUTE), &name("m"), &change, None));
        assert_eq!(store.set().compaction_horizon(), at(2 * MINUTE), "no more than it needs");
        assert_eq!(store.set().history(&name("n")).len(), 4);
        assert!(store.settle(usize::MAX));
        assert_eq!(store.set().bytes(), 5 * cost);
        // a horizon may not come too close: then there is a quarter more
        for lag_us in [8 * MINUTE, u64::MAX] {
            let mut store = full(lag_us);
            done(store.write(at(9 * MINUTE), &name("m"), &change, None));
            assert_eq!((store.set().compaction_horizon(), store.set().bytes()), (Stamp::ZERO, 6 * cost));
            let written = store.write(at(9 * MINUTE), &name("l"), &change, None);
            assert!(matches!(written, Written::Full { .. }), "{written:?}");
        }
    }

    #[test]
    fn a_full_set_with_young_histories_accepts_what_replaces_or_deletes() {
        let data = [b'd'; 1000];
        let cost = Record::value(name("n"), &version("a"), &data, at(1), Dot::default()).cost();
        let genesis = Genesis { versions: 8, ..GENESIS };
        let mut store: Store<u32> =
            Store::new(genesis, Incarnation(1), 20 * cost).compacting_behind(u64::MAX);
        let put = |store: &mut Store<u32>, of: &str, v: &str| {
            store.write(at(1), &name(of), &Change::Put { version: &version(v), data: &data }, None)
        };
        for of in ('a'..='t').map(String::from) {
            done(put(&mut store, &of, "v"));
        }
        assert!(matches!(put(&mut store, "z", "v"), Written::Full { .. }));
        done(put(&mut store, "a", "w"));
        done(store.write(at(2), &name("a"), &Change::Delete, None));
        done(store.write(at(2), &name("b"), &Change::Delete, None));
        done(put(&mut store, "z", "v"));
        // its memory has a bound all the same
        let is_full = |v: char| matches!(put(&mut store, "c", &v.to_string()), Written::Full { .. });
        assert!(('0'..='9').any(is_full));
        assert!(store.set().bytes() <= 25 * cost, "{}", store.set().bytes());
    }

    fn put_in(store: &mut Store<u32>, namespace: &str, text: &str, data: &[u8]) -> Written {
        let name = Namespace::new(namespace.as_bytes()).unwrap().key(text.as_bytes(), 9).unwrap();
        store.write(at(1), &name, &Change::Put { version: &version("v"), data }, None)
    }

    #[test]
    fn namespaces_have_limits() {
        let limits = NamespaceLimits { namespaces: 2, bytes: 1_000 };
        let mut store = Store::new(Genesis { versions: 8, ..GENESIS }, Incarnation(1), usize::MAX);
        store.limit_namespaces(limits);
        done(put_in(&mut store, "a", "n", b""));
        done(put_in(&mut store, ".own", "n", b""));
        done(put_in(&mut store, "b", "n", b""));
        assert!(matches!(put_in(&mut store, "c", "n", b""), Written::TooManyNamespaces { limit: 2 }));
        done(put(&mut store, 1, "plain", None));
        assert!(matches!(
            put_in(&mut store, "a", "m", &[0; 800]),
            Written::NamespaceFull { limit: 1_000, .. }
        ));
        done(put_in(&mut store, "a", "m", &[0; 500]));
        assert!(matches!(put_in(&mut store, "a", "l", &[0; 200]), Written::NamespaceFull { .. }));
        // older records do not count
        for size in (300..=500).rev() {
            done(put_in(&mut store, "a", "m", &vec![0; size]));
        }
        let name = Namespace::new(b"a").unwrap().key(b"m", 9).unwrap();
        done(store.write(at(2), &name, &Change::Delete, None));
        done(put_in(&mut store, "a", "l", &[0; 200]));
        // a peer's records are taken in any case
        let name = Namespace::new(b"c").unwrap().key(b"m", 9).unwrap();
        store.merge(&Record::value(name, &version("v"), &[0; 2_000], at(1), Dot::default()));
        assert_eq!(store.set().namespaces(), 3);
    }

    #[test]
    fn readers_of_a_name_that_leaves_a_log_are_woken() {
        let mut store = store();
        store.report_changes();
        let current = done(put_in(&mut store, "log.a", "n", b""));
        let knows = Condition { known: KnownVersion::Current, at_least: None };
        assert!(matches!(store.read(at(1), current.name(), &knows, Some(|| 7)), Read::Parked { .. }));
        store.raise_compaction_horizon(at(1_000));
        assert!(store.get(current.name()).is_none() && due(&mut store) == 0);
        assert!(store.settle(usize::MAX));
        let Effects { due, changes, .. } = store.take_effects();
        assert_eq!((due.len(), store.waiters().names()), (1, 0));
        assert!(matches!(&changes[..], [SetChange::Dropped { .. }]));
        let change = Change::Put { version: &version("v"), data: b"" };
        let late = store.write(at(2_000), current.name(), &change, Some(at(999)));
        assert!(
            matches!(late, Written::TooOld { oldest } if oldest == at(1_000)),
            "it would be gone at once"
        );
        done(store.write(at(2_000), current.name(), &change, Some(at(1_000))));
    }

    #[test]
    fn a_log_makes_room_in_a_full_set() {
        const MINUTE: u64 = 60_000_000;
        let event = |store: &mut Store<u32>, minute: u64, lag: u64| {
            let name = Namespace::new(b"log.a").unwrap().key(format!("{minute:04}").as_bytes(), 9).unwrap();
            store.compaction_lag_us = lag;
            store.write(at(minute * MINUTE), &name, &Change::Put { version: &version("v"), data: b"" }, None)
        };
        let mut store: Store<u32> = Store::new(GENESIS, Incarnation(1), usize::MAX);
        let cost = done(event(&mut store, 1, MINUTE)).cost();
        store.max_set_bytes = 5 * cost;
        (2..=5).for_each(|minute| drop(done(event(&mut store, minute, MINUTE))));
        assert!(matches!(event(&mut store, 6, u64::MAX), Written::Full { .. }), "all are too young");
        done(event(&mut store, 7, MINUTE));
        assert_eq!(store.set().compaction_horizon(), at(2 * MINUTE));
        assert!(store.settle(usize::MAX));
        assert_eq!((store.set().values(), store.set().bytes()), (5, 5 * cost));
    }

    #[test]
    fn a_copy_without_waiters_is_dropped_if_room_is_scarce() {
        let record = Record::value(name("n"), &version("a"), b"d", at(1), Dot::default());
        for (most, drops) in [(record.cost(), true), (3 * record.cost(), false)] {
            let mut store: Store<u32> = Store::new(GENESIS, Incarnation(1), most);
            done(put(&mut store, 1, "a", None));
            store.drop_copy(&name("n"));
            assert_eq!(store.get(&name("n")).is_none(), drops, "{most} bytes");
        }
        let mut store: Store<u32> = Store::new(GENESIS, Incarnation(1), record.cost());
        done(put(&mut store, 1, "a", None));
        let knows = Condition { known: KnownVersion::Current, at_least: None };
        assert!(matches!(store.read(at(1), &name("n"), &knows, Some(|| 7)), Read::Parked { .. }));
        store.drop_copy(&name("n"));
        assert!(store.get(&name("n")).is_some(), "a reader waits for it");
    }

    #[test]
    fn a_delete_that_would_soon_be_forgotten_is_rejected() {
        let mut store = store().with_grace(1_000);
        assert!(matches!(
            delete(&mut store, 10_000, Some(9_499)),
            Written::TooOld { oldest } if oldest == at(9_500)
        ));
        done(put(&mut store, 10_000, "a", Some(9_000)));
        done(delete(&mut store, 10_000, Some(9_500)));
    }

    #[test]
    fn a_delete_below_the_horizon_is_rejected() {
        let mut store = store();
        store.raise_horizon(at(1_000), usize::MAX);
        assert!(matches!(delete(&mut store, 2_000, Some(999)), Written::TooOld { .. }));
        done(put(&mut store, 2_000, "a", None));
        assert!(matches!(delete(&mut store, 2_000, Some(999)), Written::Lost { .. }), "newer stands");
        done(delete(&mut store, 3_000, None));
        done(delete(&mut store, 3_000, Some(999)));
    }

    #[test]
    fn a_batch_that_claims_too_much_moves_no_vector() {
        let mut store = store();
        let (from, registers) = (Incarnation(2), store.registers());
        let dot = Dot { incarnation: from, sequence: 1 };
        let record = Record::value(name("n"), &version("a"), b"", at(5), dot);
        for (after, upto, records) in [
            (1, 1, vec![]),
            (2, 1, vec![]),
            (0, u64::MAX, vec![record.clone()]),
            (0, MAX_BATCH_DOTS + 1, vec![]),
            (0, 1, vec![record.clone(), record.clone(), record.clone()]),
        ] {
            let ack = store.take(moment(9), &Batch { from, after, upto, registers, records });
            assert_eq!(ack.have, 0, "{after} to {upto}");
        }
        let held = store.get(&name("n"));
        assert!(held.is_some_and(|held| held.order(&record).is_eq()), "the record itself is merged");
        let ack = store.take(moment(9), &Batch { from, after: 0, upto: 1, registers, records: vec![record] });
        assert_eq!(ack.have, 1);
    }

    #[test]
    fn a_reader_parks_on_what_it_knows_and_is_due_at_the_next_write() {
        let mut store = store();
        done(put(&mut store, 10, "a", None));
        let knows = Condition { known: KnownVersion::AnyOf(vec![version("a")]), at_least: None };
        assert!(matches!(store.read(at(1), &name("n"), &knows, None::<fn() -> u32>), Read::Answer(Some(_))));
        assert!(matches!(store.read(at(1), &name("n"), &knows, Some(|| 7)), Read::Parked { .. }));
        done(put(&mut store, 11, "a", None));
        assert_eq!(due(&mut store), 0, "a new stamp wakes no reader");
        done(put(&mut store, 12, "b", None));
        assert_eq!(due(&mut store), 1);
        assert!(
            matches!(store.read(at(1), &name("n"), &knows, Some(|| 8)), Read::Answer(Some(r)) if r.version() == "b")
        );
    }

    #[test]
    fn a_reader_of_a_feed_is_due_at_a_change_in_its_scope() {
        let mut store = store();
        store.keep_changes();
        store.limit_waiters(WaiterLimits { total: 2, per_name: 9 });
        let scope = Scope::new(&Namespace::PLAIN, [], [&b"n"[..]]);
        let other = Scope::new(&Namespace::PLAIN, [&b"m"[..]], []);
        let Parking::Parked(ticket) = store.park_feed(&scope, &7) else { panic!("there is room") };
        assert!(matches!(store.park_feed(&other, &8), Parking::Parked(_)));
        let full = LimitReached::Total(2);
        assert_eq!(store.park_feed(&scope, &9), Parking::LimitReached(full));
        let knows = Condition { known: KnownVersion::Absence, at_least: None };
        assert!(
            matches!(store.read(at(1), &name("x"), &knows, Some(|| 9)), Read::LimitReached(limit) if limit == full)
        );
        done(put(&mut store, 10, "a", None));
        assert_eq!((due(&mut store), store.parked_feeds()), (1, 2));
        store.leave_feed(ticket);
        assert!(matches!(store.park_feed(&scope, &7), Parking::Parked(_)));
        store.adopt(Genesis { key: [4; 16], ..GENESIS });
        assert_eq!(due(&mut store), 2, "they cannot follow over it");
        store.drain();
        assert_eq!(store.park_feed(&scope, &7), Parking::Draining);
    }

    #[test]
    fn a_draining_store_answers_and_parks_no_readers() {
        let mut store = store();
        done(put(&mut store, 10, "a", None));
        let knows = Condition { known: KnownVersion::Current, at_least: None };
        assert!(matches!(store.read(at(1), &name("n"), &knows, Some(|| 7)), Read::Parked { .. }));
        store.drain();
        assert_eq!(due(&mut store), 1);
        assert!(matches!(store.read(at(1), &name("n"), &knows, Some(|| 8)), Read::Draining));
        let unspecified = Condition { known: KnownVersion::Unspecified, at_least: None };
        assert!(matches!(store.read(at(1), &name("n"), &unspecified, Some(|| 9)), Read::Answer(Some(_))));
    }
}
