//! The store of a node, behind one lock: the set, the stamps and dots of its writes, and the parked waiters.
//!
//! Each method is one step under that lock. Two things that must happen together are one method: a read checks the
//! version and parks the reader ([`Store::read`]), a write merges the record and takes the waiters ([`Store::write`]).
//!
//! The effects of a step outside of the store (waiters to wake, requests to peers, changes to report) are gathered in
//! [`Effects`], which the shell takes ([`Store::take_effects`]).

mod changes;
mod mirrored;
mod unproven;
mod unsaved;

use std::collections::HashSet;

use mirrored::Origin;
use unsaved::Notes;
pub use unsaved::{Save, Unsaved};

use super::change_ring::{ChangeRing, Gap};
use super::checkpoint::Checkpoints;
use super::claims::Claims;
use super::condition::{Condition, Evaluation};
use super::effects::{Effects, SetChange};
use super::event_name::event_name;
use super::genesis::Genesis;
use super::history::{Depth, Lost, Moment, Registers};
use super::limits::{HORIZON_SLICE, LIST_AT_MOST, MAX_BATCH_DOTS, MAX_STAMP_LEAD_US, MUTANT_GUARD_US};
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
use super::waiters::{Due, Interest, LimitReached, Ticket, WaiterLimits, Waiters};

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
    claims: Claims,
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
    origin: Origin,
    /// The end of the ring when a copy was dropped the last time; 0 if none was.
    dropped_at: u64,
    /// The vector of a mirror when it had taken all names over again: what was replaced before is not known.
    retaken: Vector,
    /// Whether a mirror holds records of another set than the one that it claims.
    is_mixed: bool,
    /// The set of which a mirror has the registers.
    registers_of: Option<u64>,
    /// The end of the ring when a record came the last time that the vector claimed already.
    came_back_at: u64,
    /// See [`Store::unproven`].
    unproven: Option<Stamp>,
    /// No write of this process has a stamp below it.
    own_least: Stamp,
    /// See [`Store::vouches`].
    vouches: bool,
    /// See [`Store::note_changes`].
    notes: Option<Notes>,
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

/// How a write gets its stamp.
#[derive(Clone, Copy, Debug, Default)]
pub struct Stamping {
    /// The stamp that the writer names.
    pub given: Option<Stamp>,
    /// A stamp that the one which the node gives is above: the token of a lease.
    pub least: Stamp,
    /// How long after its stamp the value ends, µs; of a delete, when the value ended that it deletes.
    pub lasts_us: Option<u64>,
}

impl Stamping {
    /// The stamp that the writer names, if it names one, and no more.
    #[must_use]
    pub fn of(given: Option<Stamp>) -> Self {
        Self { given, ..Self::default() }
    }
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
    /// The stamp of the delete is so old that its tombstone might be forgotten before all nodes have received it, or
    /// the write is one into a log and lies below the compaction horizon. Nothing was changed.
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
            claims: Claims::default(),
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
            origin: Origin::Own,
            dropped_at: 0,
            retaken: Vector::default(),
            is_mixed: false,
            registers_of: None,
            came_back_at: 0,
            unproven: None,
            own_least: Stamp::MAX,
            vouches: true,
            notes: None,
        }
    }

    /// Tombstones live for `grace_us`: rejects deletes that would have less than half of it left.
    #[must_use]
    pub fn with_grace(self, grace_us: u64) -> Self {
        Self { delete_within_us: grace_us / 2, ..self }
    }

    /// Lets older records make room in a full set, as far as the compaction horizon may rise: to `lag_us` before the
    /// clock.
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
        self.claims.vector()
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

    /// The record of a name as readers get it at a time: of a value that has ended its tombstone.
    #[must_use]
    pub fn get_at(&self, now: Stamp, name: &Name) -> Option<Record> {
        self.set.get_at(now, name)
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
        self.write_stamped(now, name, change, Stamping::of(given))
    }

    /// As [`Store::write`], with a least stamp.
    pub fn write_stamped(
        &mut self,
        now: Stamp,
        name: &Name,
        change: &Change<'_>,
        stamping: Stamping,
    ) -> Written {
        let Stamping { given, least, lasts_us } = stamping;
        if given.is_none() {
            self.date_genesis_back(now);
        }
        let held = self.set.get(name);
        let after_genesis = now.max(self.genesis.started.next());
        let last_sync = given.unwrap_or_else(|| {
            // it moves the stamps of this name only, as the one of its record does
            let stored = held.map(Record::last_sync);
            let above = if least == Stamp::ZERO { stored } else { stored.max(Some(least)) };
            self.stamps.give(after_genesis, above)
        });
        let dot = self.next_dot();
        // all records of a name share its bytes
        let shared = held.map_or(name, Record::name).clone();
        let end = lasts_us.map(|us| last_sync.after(us));
        let record = match *change {
            Change::Put { version, data } => Record::value_until(shared, version, data, last_sync, dot, end),
            Change::Delete => Record::tombstone_of(shared, last_sync, dot, end),
        };
        self.accept(now, record)
    }

    /// Deletes a name whose value has ended, with the stamp of the value: so a renewal wins, whether this node has seen
    /// it or not, and all nodes write the same. Nothing is done if another record is current by now. Returns whether it
    /// was deleted.
    pub(super) fn expire(&mut self, now: Stamp, name: &Name) -> bool {
        let Some(held) = self.set.get(name).filter(|held| held.has_ended(now)) else { return false };
        let mut record = held.expiry(self.next_dot());
        if self.mutants.has(Mutant::ExpiryStampedNow) {
            record = Record::tombstone_of(name.clone(), now, record.dot(), record.end());
        }
        matches!(self.accept(now, record), Written::Done { .. })
    }

    /// Takes in a record of this node, with its next dot.
    fn accept(&mut self, now: Stamp, record: Record) -> Written {
        let last_sync = record.last_sync();
        let held = self.set.get(record.name());
        if let Some(current) = held.filter(|held| held.order(&record).is_ge()).cloned() {
            // what loses is no part of the history
            // a write of the same stamp does not change when the value ends
            let is_other_end = record.kind() == Kind::Value
                && current.last_sync() == last_sync
                && current.end() != record.end();
            let is_retry = current.reads_as(&record) && !is_other_end;
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
        self.own_least = self.own_least.min(last_sync);
        self.merge(&record);
        // only accepted writes get a dot, so that sequences have no holes
        self.log.add(&record, self.set.depth());
        self.claim_own(last_sync.max(now));
        Written::Done { current: record }
    }

    /// The dot of the next write that is accepted.
    fn next_dot(&self) -> Dot {
        Dot { incarnation: self.incarnation, sequence: self.log.sequence() + 1 }
    }

    /// Adds an event to a log, under a name of its stamp and its dot; see [`event_name`]. `limit_bytes` is the limit of
    /// the name.
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
        let dot = self.next_dot();
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

    /// Whether the set may grow by so many bytes. If it is full, older records make room: the compaction horizon rises
    /// as far as it is needed and may.
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
    /// within the limit with it, and all records within the limit and a quarter. Without this, a full set would reject
    /// a write that only replaces a value, and the delete that is to make room.
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
        self.set.settle_name(record.name());
        self.report_cut();
        let merge = self.set.merge(record);
        self.forget_left();
        match &merge {
            Merge::Newer { previous } => {
                self.changed(&self.set.counts_as(record), previous.clone());
                self.add_change(record, true);
            }
            // a reader may have what this node has forgotten
            Merge::Forgotten => self.add_change(record, true),
            Merge::Older(_) => self.add_change(record, false),
            // readers are told of it all the same
            Merge::Cut(_) if !self.vector().claims(record.dot()) => {
                if !self.mutants.has(Mutant::RingOfKept) {
                    self.add_change(record, false);
                }
            }
            Merge::Cut(_) | Merge::Held(_) => {}
        }
        // also what is cut may have removed older records
        if !matches!(merge, Merge::Held(_)) {
            self.note(record.name());
        }
        self.report_cut();
        merge
    }

    /// A horizon has removed names of logs, or values that have ended: their waiters are due, and read again.
    fn report_cut(&mut self) {
        self.note_left();
        for previous in self.set.take_cut() {
            self.waiters.take_cut(previous.name(), &mut self.effects.due);
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
        self.set.settle_name(name);
        self.report_cut();
        let previous = self.set.get(name).cloned();
        let held = self.set.history(name);
        let is_held = |record: &Record| held.iter().any(|cell| cell.record().order(record).is_eq());
        let mut news: Vec<&Record> = records.iter().copied().filter(|record| !is_held(record)).collect();
        news.sort_by(|a, b| a.order(b));
        news.dedup_by(|a, b| a.order(b).is_eq());
        self.set.merge_all(records);
        self.forget_left();
        self.report_cut();
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
            self.changed(&self.set.counts_as(current), previous);
        }
        if !news.is_empty() {
            self.note(name);
        }
        if self.keeps_changes {
            self.add_news(&news, current.as_ref());
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
        let connects = self.vector().get(batch.from) >= batch.after || self.mutants.has(Mutant::SkipGaps);
        let span = batch.upto.saturating_sub(batch.after);
        let most = span.saturating_mul(u64::from(batch.registers.depth.versions()) + 1);
        let sound = span > 0 && span <= MAX_BATCH_DOTS && batch.records.len() as u64 <= most;
        // only this process gives dots with its own id
        if connects && sound && !refused && batch.from != self.incarnation {
            self.advance(batch.from, batch.upto, &batch.records, at.now);
        }
        Ack { from: self.incarnation, have: self.vector().get(batch.from), now: at.now }
    }

    /// Adds a request to a peer to the effects.
    pub(super) fn call(&mut self, call: Call) {
        self.effects.calls.push(call);
    }

    /// Makes room in the vector: leaves out the processes except this one for which `keep` is false, if all that they
    /// wrote lies below the horizon by more than `lead_us`, the most by which a stamp may exceed the time of its write.
    pub(super) fn prune_vector(&mut self, lead_us: u64, mut keep: impl FnMut(Incarnation) -> bool) {
        let us = self.incarnation;
        let horizon = match self.mutants.has(Mutant::PruneByMembership) {
            true => Stamp::MAX,
            false => self.set.horizon().before(lead_us),
        };
        self.claims.forget(horizon, |incarnation| incarnation == us || keep(incarnation));
    }

    /// Whether the vector claims a write, or claimed it before it left its process out.
    #[must_use]
    pub fn has_claimed(&self, process: Incarnation, sequence: u64) -> bool {
        self.vector().get(process) >= sequence || self.claims.has_forgotten(process, sequence)
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
        // a value that has ended reads as deleted
        let held = self.set.get(name);
        let ended = held.filter(|held| held.has_ended(now)).map(|held| held.as_of(now));
        let held = ended.as_ref().or(held);
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

    /// From now on parks no readers; all parked waiters are due, to be sent away. Returns those of feeds, of which one
    /// may tell very many readers after it.
    #[must_use]
    pub fn drain(&mut self) -> Due<T> {
        self.draining = true;
        self.waiters.take_all(&mut self.effects.due);
        let mut feeds = Vec::new();
        self.feed_readers.take_all(self.changes.end(), &mut feeds);
        feeds
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
        self.note(name);
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
        if joined.depth != self.set.depth() && !self.mutants.has(Mutant::DepthPerNode) {
            self.set.set_depth(joined.depth);
        }
        self.set.raise_compaction_horizon(joined.compaction_horizon);
        self.set.add_loss(joined.lost);
        let dropped = self.set.raise_horizon(joined.gc_horizon, at_most);
        self.settle(at_most) && dropped < at_most
    }

    /// Drops a part of what the registers cut; see [`Set::settle`]. Returns whether nothing is left.
    pub fn settle(&mut self, at_most: usize) -> bool {
        let is_done = self.set.settle(at_most);
        self.report_cut();
        is_done
    }

    /// Writes of this time are lost.
    pub(super) fn add_loss(&mut self, lost: Lost) {
        self.set.add_loss(lost);
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
        let dropped = self.set.raise_horizon(horizon, at_most);
        self.report_cut();
        dropped
    }

    /// Most records of a stretch that a sync lists and does not cut further.
    pub(super) fn list_at_most(&self) -> u64 {
        self.list_at_most
    }
}

#[cfg(test)]
mod tests;
