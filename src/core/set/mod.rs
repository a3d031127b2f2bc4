//! The set: all records that a node holds, the newest ones per name.
//!
//! Records lie in leaves of a fixed trie over their positions, the keyed hashes of their names. So no table ever grows
//! during a write, however many names there are. Writers do not know the key, so they cannot collect names in one leaf.
//! A walk over the whole set can stop anywhere and continue from there. All records of a name are side by side in one
//! leaf, the current one last: an older record costs a cell, and a name without older records costs nothing more. A
//! second index, by name, serves prefix lists; it changes only when a name gets or loses its value. A third one, by
//! dot, serves feeds.
//!
//! What is kept of a name is its *normal form* ([`Set::merge`]): a cut from below that depends only on the records and
//! on the registers, so that sets which received the same records hold the same ones, in whatever order they came.

mod dots;
mod ends;
mod level;

use std::cmp::Ordering;
use std::collections::BTreeSet;
use std::hash::Hasher;
use std::ops::{Bound, Range};

use siphasher::sip::SipHasher24;

use super::digest_trie::{Difference, Digest, DigestTrie, Prefix, item_with};
use super::dot_index::DotIndex;
use super::evicted::Evicted;
use super::history::{Depth, Lost, OlderBytes, Registers};
use super::limits::MAX_HISTORY_PAYLOAD_BYTES;
use super::mutants::{Mutant, Mutants};
use super::name::Name;
use super::namespace::Namespace;
use super::namespaces::{NamespaceUse, Namespaces};
use super::record::{Kind, Record};
use super::retired::Retired;
use super::stamp::Stamp;
use super::tombstones::Tombstones;
use dots::place;
pub use level::{Delimiter, DelimiterError, LevelItem};

/// 65,536 leaves: 15 names in each at a million, and 3 MiB for an empty node.
const LEAF_BITS: u32 = 16;

/// The number of records by which a full leaf grows. Doubling would waste a quarter of the memory, and leaves are
/// short.
const LEAF_GROWTH: usize = 4;

/// All records that a node holds, the newest of each name; values and tombstones.
///
/// Invariant: once [`Set::is_settled`], of each name it holds the normal form of all records that were merged into it,
/// except for tombstones below the GC horizon and the records below them, which are gone. Its digest is that of exactly
/// the records that it holds.
#[derive(Debug)]
pub struct Set {
    key: [u8; 16],
    leaf_bits: u32,
    leaves: Box<[Leaf]>,
    digest: DigestTrie,
    mutants: Mutants,
    /// Names whose current record is a value.
    names: BTreeSet<Name>,
    /// Names whose current record is a tombstone.
    deleted: BTreeSet<Name>,
    tombstones: Tombstones,
    depth: Depth,
    compaction_horizon: Stamp,
    lost: Lost,
    /// The leaf from which on names are still to be cut to the registers; `None` if all are.
    unsettled: Option<usize>,
    older: OlderBytes,
    /// By leaf, a stamp that no older record in it is below. Empty as long as there is none.
    oldest: Vec<Stamp>,
    bytes: usize,
    namespaces: Namespaces,
    /// The names whose current record is a value with an end, by their ends.
    ends: BTreeSet<(Stamp, Name)>,
    /// Records that were current until a horizon removed them: of logs, and values that have ended.
    cut: Vec<Record>,
    /// The names of all records that were removed since they were last taken, if they are taken.
    left: Option<Vec<Name>>,
    retired: Retired,
    /// The dots of all records: see [`dots`].
    dots: DotIndex,
    /// The names of the last records that were dropped, by dot.
    evicted: Evicted,
}

/// Records of one stretch of positions, in order of (position, name, [`Record::order`]).
type Leaf = Vec<Cell>;

/// A record with its position and its item, so that removing it from the digest needs no hashing.
#[derive(Clone, Debug)]
pub struct Cell {
    item: u128,
    position: u64,
    record: Record,
}

impl Cell {
    /// Keyed hash of the record without its dot.
    #[must_use]
    pub fn item(&self) -> u128 {
        self.item
    }

    /// Keyed hash of the name.
    #[must_use]
    pub fn position(&self) -> u64 {
        self.position
    }

    /// The record.
    #[must_use]
    pub fn record(&self) -> &Record {
        &self.record
    }
}

/// The result of a merge.
#[derive(Debug)]
pub enum Merge {
    /// The record is the greatest one and is current now, or was an old tombstone that removed all records of the name.
    Newer {
        /// The record that was current before.
        previous: Option<Record>,
    },
    /// The record is kept below the current one, which is given here.
    Older(Record),
    /// The set holds the same record, under this dot or another one.
    Held(Record),
    /// The record is not kept: it is older than what the registers leave. It may be an old tombstone that removed
    /// records below the current one, which is given here.
    Cut(Record),
    /// A tombstone below the GC horizon, or a record of a log below the compaction horizon, and the set has no record
    /// of the name.
    Forgotten,
}

impl Set {
    /// An empty set whose positions are hashed under `key`: that of the genesis.
    #[must_use]
    pub fn new(key: [u8; 16]) -> Self {
        Self::with_leaf_bits(key, LEAF_BITS)
    }

    /// As [`Set::new`], with 2 to the power of `leaf_bits` leaves: fewer leaves for sets that are known to be small.
    ///
    /// # Panics
    /// If `leaf_bits` is not within 1 to 24.
    #[must_use]
    pub fn with_leaf_bits(key: [u8; 16], leaf_bits: u32) -> Self {
        Self::with_mutants(key, leaf_bits, Mutants::NONE)
    }

    /// As [`Set::with_leaf_bits`], with a mutant.
    pub(super) fn with_mutants(key: [u8; 16], leaf_bits: u32, mutants: Mutants) -> Self {
        assert!((1..=24).contains(&leaf_bits), "1 to 24 leaf bits, not {leaf_bits}");
        Self {
            key,
            leaf_bits,
            leaves: vec![Leaf::new(); 1 << leaf_bits].into_boxed_slice(),
            digest: DigestTrie::new(leaf_bits as u8, mutants),
            mutants,
            names: BTreeSet::new(),
            deleted: BTreeSet::new(),
            tombstones: Tombstones::default(),
            depth: Depth::new(Stamp::ZERO, 1),
            compaction_horizon: Stamp::ZERO,
            lost: Lost::NOTHING,
            unsettled: None,
            older: OlderBytes::default(),
            oldest: Vec::new(),
            bytes: 0,
            namespaces: Namespaces::default(),
            ends: BTreeSet::new(),
            cut: Vec::new(),
            left: None,
            retired: Retired::default(),
            dots: DotIndex::default(),
            evicted: Evicted::default(),
        }
    }

    /// The registers: what the set has dropped on purpose, and what it has lost.
    #[must_use]
    pub fn registers(&self) -> Registers {
        let gc_horizon = self.tombstones.horizon();
        let Self { compaction_horizon, depth, lost, .. } = *self;
        Registers { gc_horizon, compaction_horizon, depth, lost }
    }

    /// Joins the time of which writes are lost with that of the set.
    pub(super) fn add_loss(&mut self, lost: Lost) {
        self.lost = self.lost.join(lost);
    }

    /// The rules that are removed, in a simulated node.
    pub(super) fn mutants(&self) -> Mutants {
        self.mutants
    }

    /// This set with another depth, before it holds anything.
    pub(super) fn with_depth(self, depth: Depth) -> Self {
        Self { depth, ..self }
    }

    /// The number of names with a value.
    #[must_use]
    pub fn values(&self) -> usize {
        self.names.len()
    }

    /// How many names have a tombstone as their current record.
    #[must_use]
    pub fn tombstones(&self) -> usize {
        usize::try_from(self.root().count).unwrap_or(usize::MAX) - self.values()
    }

    /// The size of the set, in bytes: the sum of [`Record::cost`].
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Bytes of all records that the compaction horizon may remove: those that are not current, and all records in
    /// logs; each by its [`Record::cost`]. [`Set::bytes`] has them too.
    #[must_use]
    pub fn older_bytes(&self) -> usize {
        self.older.total()
    }

    /// The bytes of older records that the compaction horizon cuts and that are still there, about.
    #[must_use]
    pub fn doomed_bytes(&self) -> usize {
        self.older.below(self.compaction_horizon)
    }

    /// The least compaction horizon below which older records take at least so many bytes, in whole steps; `None` if
    /// all of them take less.
    #[must_use]
    pub fn horizon_that_frees(&self, bytes: usize) -> Option<Stamp> {
        self.older.horizon_that_frees(bytes)
    }

    /// The number of namespaces with a record, without the plain one and the node's own.
    #[must_use]
    pub fn namespaces(&self) -> usize {
        self.namespaces.len()
    }

    /// What the namespace of a name holds; `None` if nothing, and if the name is a plain one.
    #[must_use]
    pub fn namespace_use(&self, name: &Name) -> Option<NamespaceUse> {
        self.namespaces.of(name)
    }

    /// The namespaces with a record that begin with `prefix`, in order, after `after` if that is given; without the
    /// plain one and the node's own.
    pub fn each_namespace(
        &self,
        prefix: &str,
        after: Option<&str>,
    ) -> impl Iterator<Item = (Namespace, NamespaceUse)> + use<'_> {
        self.namespaces.iter(prefix, after)
    }

    /// How many records a name keeps.
    #[must_use]
    pub fn depth(&self) -> Depth {
        self.depth
    }

    /// Older records below this are gone, and in logs all records.
    #[must_use]
    pub fn compaction_horizon(&self) -> Stamp {
        self.compaction_horizon
    }

    /// Tombstones older than this are gone.
    #[must_use]
    pub fn horizon(&self) -> Stamp {
        self.tombstones.horizon()
    }

    /// The cost, in bytes, of records that do not stand any more and are still held. It may be late, and is never too
    /// low.
    #[must_use]
    pub fn retired_bytes(&self) -> usize {
        self.retired.bytes()
    }

    /// Checks up to `checks` of those records, and releases those that nothing else holds.
    pub fn release_retired(&mut self, checks: usize) {
        self.retired.release(checks);
    }

    /// The current record of a name, value or tombstone.
    #[must_use]
    pub fn get(&self, name: &Name) -> Option<&Record> {
        // the set may not be settled yet
        self.held(name).filter(|record| !self.is_cut(record))
    }

    /// As [`Set::get`], and also a record that a horizon is about to remove: one of a log, or a value that has ended.
    fn held(&self, name: &Name) -> Option<&Record> {
        let position = self.position(name);
        let leaf = &self.leaves[self.leaf_of(position)];
        let end = leaf.partition_point(|cell| cell.position <= position);
        match leaf[..end].last() {
            Some(cell) if cell.position == position && cell.record.name() == name => Some(&cell.record),
            // two names share the position
            Some(cell) if cell.position == position => {
                leaf[run(leaf, position, name)].last().map(|cell| &cell.record)
            }
            _ => None,
        }
    }

    /// Whether a horizon removes a record although it is current and no tombstone.
    fn is_cut(&self, record: &Record) -> bool {
        self.is_cut_from_log(record) || self.has_fallen(record)
    }

    /// Whether the compaction horizon removes a record although it is current: in a log.
    fn is_cut_from_log(&self, record: &Record) -> bool {
        record.last_sync() < self.compaction_horizon && record.name().is_log()
    }

    /// The records that a horizon has removed since the last call although they were current and no tombstones.
    pub(super) fn take_cut(&mut self) -> Vec<Record> {
        std::mem::take(&mut self.cut)
    }

    /// From now on keeps the names of records that are removed, for [`Set::take_left`].
    pub(super) fn keep_left(&mut self) {
        self.left = Some(Vec::new());
    }

    /// The names of the records that were removed since the last call, whatever the cause.
    pub(super) fn take_left(&mut self) -> Vec<Name> {
        self.left.as_mut().map(std::mem::take).unwrap_or_default()
    }

    /// The records of a name that the registers leave, in [`Record::order`]: the current one is the last.
    #[must_use]
    pub fn history(&self, name: &Name) -> &[Cell] {
        self.left_of(self.held_history(name))
    }

    /// Of the records of a name that are held, those that the registers leave: the set may not be settled yet.
    pub(super) fn left_of<'a>(&self, held: &'a [Cell]) -> &'a [Cell] {
        let kept = self.kept(held.iter().rev().map(Cell::record));
        &held[held.len() - kept..]
    }

    /// The records of a name that are held, in [`Record::order`], also those that the registers cut and that
    /// [`Set::settle`] has not reached yet: those whose dots are held.
    pub(super) fn held_history(&self, name: &Name) -> &[Cell] {
        let position = self.position(name);
        let leaf = &self.leaves[self.leaf_of(position)];
        &leaf[run(leaf, position, name)]
    }

    /// Takes a record in: `set[name] = normal form of (set[name] and the record)`.
    ///
    /// The normal form cuts from below, in this order: the greatest record that the GC horizon removes and all records
    /// below it: a tombstone below it, or a value whose end lies below it; all but the newest [`Depth::versions_of`]
    /// the name, and what lies below 1 MiB of payload; of the rest, what lies below the compaction horizon, except the
    /// current record, and in a log that too. Each cut removes the lower part of a total order, so the normal form of a
    /// union does not depend on the order in which its parts come.
    ///
    /// Never rejects a record for its stamp: a replica that did would diverge.
    pub fn merge(&mut self, record: &Record) -> Merge {
        let position = self.position(record.name());
        let leaf_index = self.leaf_of(position);
        let leaf = &self.leaves[leaf_index];
        let cells = run(leaf, position, record.name());
        let held = &leaf[cells.clone()];
        let above = held.iter().rev().take_while(|cell| cell.record.order(record).is_gt()).count();
        if let Some(current) = held.last().map(Cell::record) {
            let undecided = above == 0
                && self.mutants.has(Mutant::TiesUndecided)
                && current.last_sync() == record.last_sync();
            let below = &held[..held.len() - above];
            let undecided = undecided
                || self.mutants.has(Mutant::EndsUndecided)
                    && held.iter().any(|cell| cell.record.is_same_but_for_the_end(record));
            if undecided || below.last().is_some_and(|cell| cell.record.order(record).is_eq()) {
                return Merge::Held(current.clone());
            }
        }
        let greatest_first = || held.iter().rev().map(Cell::record);
        let union = greatest_first().take(above).chain([record]).chain(greatest_first().skip(above));
        let mut kept = self.kept(union);
        if self.mutants.has(Mutant::LogTakesTheCut) && self.is_cut_from_log(record) {
            kept = kept.max(above + 1);
        }
        if kept <= above {
            // the record itself is cut, and what it brings below a horizon
            let forgets_late = above > 0;
            let cut = cells.start..cells.end - kept;
            let gone = self.remove(leaf_index, cut);
            self.evicted.add(record.dot(), record.name());
            if kept == 0 && self.is_cut_from_log(record) {
                self.cut.extend(gone);
                return Merge::Forgotten;
            }
            return match self.leaves[leaf_index].get(cells.start) {
                Some(_) if kept > 0 => {
                    Merge::Cut(self.leaves[leaf_index][cells.start + kept - 1].record.clone())
                }
                // what was current is a tombstone that is forgotten only now
                _ if forgets_late || gone.is_none() => Merge::Forgotten,
                _ => Merge::Newer { previous: gone },
            };
        }
        let cut = cells.len() + 1 - kept;
        let cell = Cell { item: self.item(record), position, record: record.clone() };
        let previous = self.insert(leaf_index, cells, above, cut, cell);
        match previous {
            Some(current) if above > 0 => Merge::Older(current),
            previous => Merge::Newer { previous },
        }
    }

    /// Takes in all records of one name that a message has, as one: the result is the normal form of their union. One
    /// after the other, a tombstone below the GC horizon would be forgotten before a record that it deletes comes.
    pub fn merge_all(&mut self, records: &[&Record]) {
        let newest =
            records.iter().filter(|record| self.is_forgotten(record)).max_by(|a, b| a.order(b)).copied();
        if let Some(tombstone) = newest {
            self.merge(tombstone);
        }
        let is_above = |record: &&Record| newest.is_none_or(|tombstone| record.order(tombstone).is_gt());
        let mut rest: Vec<&Record> = records.iter().copied().filter(is_above).collect();
        // the greatest first, so that no other record is current in between
        rest.sort_by(|a, b| b.order(a));
        for record in rest {
            self.merge(record);
        }
    }

    /// By how many bytes the set grows if a record becomes the current one of its name; 0 if it does not grow.
    #[must_use]
    pub fn growth(&self, record: &Record) -> usize {
        let held = self.history(record.name());
        let union = [record].into_iter().chain(held.iter().rev().map(Cell::record));
        let cut = (held.len() + 1).saturating_sub(self.kept(union)).min(held.len());
        record.cost().saturating_sub(held[..cut].iter().map(|cell| cell.record.cost()).sum())
    }

    /// How many records of a name are kept in the normal form: the first so many of these, which come greatest first.
    fn kept<'a>(&self, records: impl Iterator<Item = &'a Record>) -> usize {
        let (mut kept, mut payload) = (0, 0);
        for record in records {
            let forgotten =
                self.is_forgotten(record) && (kept == 0 || !self.mutants.has(Mutant::ForgetsCurrentOnly));
            let older = kept > 0
                && (kept >= self.depth.versions_of(record.name())
                    || payload >= MAX_HISTORY_PAYLOAD_BYTES
                    || record.last_sync() < self.compaction_horizon);
            if forgotten || older || self.is_cut_from_log(record) {
                break;
            }
            payload += record.payload_bytes();
            kept += 1;
        }
        kept
    }

    /// Puts a cell below the `above` greatest of the records of its name, which are `cells`, and cuts the lowest `cut`
    /// of these. Returns the record that was current.
    fn insert(
        &mut self,
        leaf_index: usize,
        cells: Range<usize>,
        above: usize,
        cut: usize,
        cell: Cell,
    ) -> Option<Record> {
        let record = cell.record.clone();
        let position = cell.position;
        let mut difference = Difference::of_names(i32::from(cells.is_empty()));
        self.digest.put(&mut difference, cell.item);
        // before any record goes, so that the namespace stays
        self.namespaces.add(&record);
        let mut leaf = std::mem::take(&mut self.leaves[leaf_index]);
        let at = cells.end - above;
        let was_cut = cut == cells.len();
        let start = cells.start;
        let mut was_indexed = false;
        let previous = if cut == 0 {
            let previous = leaf[cells].last().map(|cell| cell.record.clone());
            grow(&mut leaf);
            leaf.insert(at, cell);
            previous
        } else {
            for cell in leaf.drain(cells.start..cells.start + cut - 1) {
                let gone = self.forget(cell, false, &mut difference);
                was_indexed |= self.removed_above(&gone).is_some();
            }
            // the last one that is cut makes room, so that no leaf grows for a record that takes another's place
            let (at, end) = (at + 1 - cut, cells.end + 1 - cut);
            leaf[cells.start..at].rotate_left(1);
            let last = std::mem::replace(&mut leaf[at - 1], cell);
            let last = self.forget(last, was_cut, &mut difference);
            was_indexed |= self.removed_above(&last).is_some();
            if was_cut {
                Some(last)
            } else {
                let current = if above > 0 { end - 1 } else { end - 2 };
                Some(leaf[current].record.clone())
            }
        };
        self.leaves[leaf_index] = leaf;
        self.digest.change(position, difference);
        self.bytes += record.cost();
        self.dots.add(record.dot(), place(position));
        if was_indexed {
            self.index_again(leaf_index, start);
        }
        if let Some(stamp) = self.removed_above(&record) {
            self.tombstones.add(stamp, position);
        }
        if above > 0 {
            self.namespaces.add_older(&record);
            self.count_older(leaf_index, &record);
            return previous;
        }
        // in a log also the current record is one that the horizon may remove
        let is_log = record.name().is_log();
        if is_log {
            self.count_older(leaf_index, &record);
        }
        if let Some(current) = previous.as_ref().filter(|_| !was_cut) {
            self.namespaces.add_older(current);
            if !is_log {
                self.count_older(leaf_index, current);
            }
        }
        self.replace_end(previous.as_ref(), Some(&record));
        let was_value = previous.as_ref().is_some_and(|previous| previous.kind() == Kind::Value);
        match record.kind() {
            Kind::Value if !was_value => {
                self.deleted.remove(record.name());
                self.add_name(record.name());
            }
            Kind::Tombstone if was_value || previous.is_none() => {
                self.remove_name(record.name());
                self.deleted.insert(record.name().clone());
            }
            _ => {}
        }
        previous
    }

    /// Removes the lowest records of a name: those at these places of a leaf. Returns the greatest of them.
    fn remove(&mut self, leaf_index: usize, cells: Range<usize>) -> Option<Record> {
        if cells.is_empty() {
            return None;
        }
        let mut leaf = std::mem::take(&mut self.leaves[leaf_index]);
        let is_all = is_last(&leaf, cells.end - 1);
        let position = leaf[cells.start].position;
        let mut difference = Difference::of_names(-i32::from(is_all));
        let mut greatest = None;
        let (start, last) = (cells.start, cells.len() - 1);
        for (index, cell) in leaf.drain(cells).enumerate() {
            greatest = Some(self.forget(cell, is_all && index == last, &mut difference));
        }
        self.leaves[leaf_index] = leaf;
        self.digest.change(position, difference);
        match &greatest {
            Some(record) if is_all => {
                self.remove_name(record.name());
                self.deleted.remove(record.name());
                self.replace_end(Some(record), None);
            }
            _ => self.index_again(leaf_index, start),
        }
        greatest
    }

    fn add_name(&mut self, name: &Name) {
        self.names.insert(name.clone());
        self.namespaces.add_name(name);
    }

    fn remove_name(&mut self, name: &Name) {
        if self.names.remove(name) {
            self.namespaces.remove_name(name);
        }
    }

    /// The compaction horizon may remove a record of a leaf from now on.
    fn count_older(&mut self, leaf_index: usize, record: &Record) {
        self.older.add(record);
        if self.oldest.is_empty() {
            self.oldest = vec![Stamp::MAX; self.leaves.len()];
        }
        self.oldest[leaf_index] = self.oldest[leaf_index].min(record.last_sync());
    }

    /// Takes a record that has left its leaf off the books, and gives it back.
    fn forget(&mut self, cell: Cell, was_current: bool, difference: &mut Difference) -> Record {
        let Cell { item, position, record } = cell;
        self.digest.take(difference, item);
        self.bytes -= record.cost();
        if let Some(left) = &mut self.left {
            left.push(record.name().clone());
        }
        self.dots.remove(record.dot());
        self.evicted.add(record.dot(), record.name());
        self.namespaces.remove(&record, was_current);
        if !was_current || record.name().is_log() {
            self.older.remove(&record);
        }
        if let Some(stamp) = self.removed_above(&record) {
            self.tombstones.remove(stamp, position);
        }
        self.retired.add(&record);
        record
    }

    /// Drops all records of a name as if they had never been there. Only for a copy that no peer replicates: what is
    /// dropped here would come back from a peer. Returns the record that was current, if there was one.
    pub fn drop_copy(&mut self, name: &Name) -> Option<Record> {
        let position = self.position(name);
        let leaf_index = self.leaf_of(position);
        let cells = run(&self.leaves[leaf_index], position, name);
        self.remove(leaf_index, cells)
    }

    /// Sets the depth. Names are cut to it when they are touched, and the rest by [`Set::settle`].
    pub fn set_depth(&mut self, depth: Depth) {
        if depth.versions() < self.depth.versions() && self.older.total() > 0 {
            self.unsettled = Some(0);
            // every leaf has to be looked at
            self.oldest.fill(Stamp::ZERO);
        }
        self.depth = depth;
    }

    /// Takes over the registers of another set, whose records take the place of those here.
    pub(super) fn replace_registers(&mut self, registers: Registers) {
        self.tombstones.lower(registers.gc_horizon);
        self.compaction_horizon = registers.compaction_horizon;
        self.lost = registers.lost;
        self.set_depth(registers.depth);
    }

    /// Moves the compaction horizon, never back. Names are cut to it when they are touched, and the rest by
    /// [`Set::settle`].
    pub fn raise_compaction_horizon(&mut self, horizon: Stamp) {
        if horizon > self.compaction_horizon {
            self.compaction_horizon = horizon;
            if self.older.total() > 0 {
                self.unsettled = Some(0);
            }
        }
    }

    /// Cuts names to the depth and the compaction horizon, up to the end of a leaf after `at_most` records. Returns
    /// whether all names are cut. A leaf without older records below the horizon counts as one record.
    pub fn settle(&mut self, at_most: usize) -> bool {
        let mut looked = 0;
        while let Some(leaf_index) = self.unsettled {
            if looked >= at_most {
                return false;
            }
            self.unsettled = Some(leaf_index + 1).filter(|next| *next < self.leaves.len());
            looked += 1;
            if self
                .oldest
                .get(leaf_index)
                .is_none_or(|oldest| *oldest >= self.compaction_horizon && *oldest > Stamp::ZERO)
            {
                continue;
            }
            let mut oldest = Stamp::MAX;
            let mut end = self.leaves[leaf_index].len();
            looked += end;
            // from the last to the first, so that a cut does not move what is still to be looked at
            while end > 0 {
                let leaf = &self.leaves[leaf_index];
                let cells = run_that_ends(leaf, end);
                let kept = self.kept(leaf[cells.clone()].iter().rev().map(Cell::record));
                end = cells.start;
                let kept = cells.end - kept..cells.end;
                let is_log = leaf[cells.start].record.name().is_log();
                if kept.len() > usize::from(!is_log) {
                    oldest = oldest.min(leaf[kept.start].record.last_sync());
                }
                let gone = self.remove(leaf_index, cells.start..kept.start);
                if kept.is_empty() {
                    let gone = gone.filter(|gone| self.is_cut(gone));
                    self.cut.extend(gone);
                }
            }
            self.oldest[leaf_index] = oldest;
        }
        true
    }

    /// Lowers the horizon, after a wrong clock has moved it into the future. Only for a set that is not replicated: a
    /// peer would forget deletes that this node keeps.
    pub fn lower_horizon(&mut self, horizon: Stamp) {
        self.tombstones.lower(horizon);
    }

    /// Moves the GC horizon, never back, and drops tombstones and values with an end below it with all records below
    /// them, at most `at_most`.
    ///
    /// Returns the number of those that were dropped; fewer than `at_most` means that none is left below the horizon.
    pub fn raise_horizon(&mut self, horizon: Stamp, at_most: usize) -> usize {
        self.tombstones.raise(horizon);
        for dropped in 0..at_most {
            let Some((stamp, position)) = self.tombstones.first_below_horizon() else { return dropped };
            let leaf_index = self.leaf_of(position);
            let leaf = &self.leaves[leaf_index];
            // two names may share a position and a stamp: any one of them is due; of one name the greatest
            let due = leaf.iter().rposition(|cell| {
                cell.position == position && self.removed_above(&cell.record) == Some(stamp)
            });
            // it is gone in any case, so that no fault of the index makes this loop for ever
            self.tombstones.remove(stamp, position);
            if let Some(at) = due {
                let cells = run(leaf, position, leaf[at].record.name());
                let start = if self.mutants.has(Mutant::ForgetsTombstoneAlone) { at } else { cells.start };
                if !self.mutants.has(Mutant::ForgetsCurrentOnly) || at + 1 == cells.end {
                    let is_all = start == cells.start && at + 1 == cells.end;
                    let gone = self.remove(leaf_index, start..at + 1);
                    self.cut.extend(gone.filter(|gone| is_all && gone.kind() == Kind::Value));
                }
            }
        }
        at_most
    }

    /// Whether nothing is left that the registers cut: no tombstone below the GC horizon, no name deeper than the
    /// depth, no older record below the compaction horizon.
    #[must_use]
    pub fn is_settled(&self) -> bool {
        self.tombstones.first_below_horizon().is_none() && self.unsettled.is_none()
    }

    /// Values of a namespace whose names begin with `prefix`, in order of their names, after the name `after` if one is
    /// given. Also those that a horizon is about to remove: to pass over them could take long. And those that have
    /// ended.
    pub fn list(
        &self,
        namespace: &Namespace,
        prefix: &[u8],
        after: Option<&[u8]>,
    ) -> impl Iterator<Item = &Record> + use<'_> {
        namespace.select(&self.names, prefix, after).filter_map(|name| self.held(name))
    }

    /// The names from `start` on that have a record, if only a tombstone, in order, after the name `after` if one is
    /// given, as long as `has` holds.
    pub(super) fn names_from<'a>(
        &'a self,
        start: &'a [u8],
        after: Option<&[u8]>,
        has: impl Fn(&[u8]) -> bool + 'a,
    ) -> impl Iterator<Item = &'a Name> + 'a {
        let start = match after {
            Some(after) if after >= start => Bound::Excluded(after),
            _ => Bound::Included(start),
        };
        let mut values = self.names.range::<[u8], _>((start, Bound::Unbounded)).peekable();
        let mut deleted = self.deleted.range::<[u8], _>((start, Bound::Unbounded)).peekable();
        let in_order = std::iter::from_fn(move || match (values.peek(), deleted.peek()) {
            (Some(value), Some(gone)) if gone < value => deleted.next(),
            (Some(_), _) => values.next(),
            (None, _) => deleted.next(),
        });
        in_order.take_while(move |name| has(name.as_bytes()))
    }

    /// The number of stretches for [`Set::stretch`].
    #[must_use]
    pub fn stretches(&self) -> usize {
        self.leaves.len()
    }

    /// The current records of one of the [`Set::stretches`] of positions, so that a walk over the set can be cut into
    /// slices.
    pub fn stretch(&self, index: usize) -> impl Iterator<Item = &Record> {
        let leaf = self.leaves.get(index).map_or(&[][..], Vec::as_slice);
        leaf.iter().enumerate().filter(|(at, _)| is_last(leaf, *at)).map(|(_, cell)| &cell.record)
    }

    /// The digest of all records.
    #[must_use]
    pub fn root(&self) -> Digest {
        self.digest.root()
    }

    /// The digest of a stretch of positions. It takes O(1) at every eighth bit down to the leaves, at most 128 sums
    /// between them, and the records of one leaf below the leaves.
    #[must_use]
    pub fn digest(&self, prefix: Prefix) -> Digest {
        self.digest.digest(prefix).unwrap_or_else(|| {
            let mut before: Option<&Cell> = None;
            self.cells(prefix.first(), prefix.last()).fold(Digest::default(), |all, cell| {
                let is_new = before.is_none_or(|before| !is_same_name(before, cell));
                before = Some(cell);
                self.digest.add(all, Digest { sum: cell.item, count: u64::from(is_new) })
            })
        })
    }

    /// All records with positions from `first` to `last`, both included, in order of (position, name,
    /// [`Record::order`]).
    pub fn cells(&self, first: u64, last: u64) -> impl Iterator<Item = &Cell> {
        let leaves = &self.leaves[self.leaf_of(first)..=self.leaf_of(last.max(first))];
        let start = leaves.first().map_or(0, |leaf| leaf.partition_point(|cell| cell.position < first));
        leaves
            .iter()
            .enumerate()
            .flat_map(move |(i, leaf)| if i == 0 { &leaf[start..] } else { leaf })
            .take_while(move |cell| cell.position <= last)
    }

    /// Changes the key, and so all positions and the digest: O(n). The index by name does not change.
    pub fn rekey(&mut self, key: [u8; 16]) {
        self.key = key;
        self.digest = DigestTrie::new(self.leaf_bits as u8, self.mutants);
        self.tombstones.clear();
        self.dots.clear();
        let empty = vec![Leaf::new(); self.leaves.len()].into_boxed_slice();
        for leaf in std::mem::replace(&mut self.leaves, empty) {
            let last: Vec<bool> = (0..leaf.len()).map(|at| is_last(&leaf, at)).collect();
            for (mut cell, is_last) in leaf.into_iter().zip(last) {
                (cell.item, cell.position) = (self.item(&cell.record), self.position(cell.record.name()));
                let mut difference = Difference::of_names(i32::from(is_last));
                self.digest.put(&mut difference, cell.item);
                self.digest.change(cell.position, difference);
                self.dots.add(cell.record.dot(), place(cell.position));
                if let Some(stamp) = self.removed_above(&cell.record) {
                    self.tombstones.add(stamp, cell.position);
                }
                let at = self.leaf_of(cell.position);
                grow(&mut self.leaves[at]);
                self.leaves[at].push(cell);
            }
        }
        // one sort for each leaf, and not a search for each record
        for leaf in &mut self.leaves {
            leaf.sort_unstable_by(|a, b| {
                order(a, b.position, b.record.name()).then_with(|| a.record.order(&b.record))
            });
        }
        // records are in other leaves now
        self.oldest.fill(Stamp::ZERO);
        self.unsettled = self.unsettled.map(|_| 0);
    }

    /// The position of a name: its keyed 64-bit hash (SipHash-2-4).
    #[must_use]
    pub fn position(&self, name: &Name) -> u64 {
        let mut hasher = SipHasher24::new_with_key(&self.key);
        hasher.write(name.as_bytes());
        hasher.finish()
    }

    /// The item of a record.
    fn item(&self, record: &Record) -> u128 {
        item_with(&self.key, record, !self.mutants.has(Mutant::DigestWithoutEnd))
    }

    fn leaf_of(&self, position: u64) -> usize {
        usize::try_from(position >> (64 - self.leaf_bits)).expect("24 bits fit")
    }
}

/// Makes room for one more record.
fn grow(leaf: &mut Leaf) {
    if leaf.len() == leaf.capacity() {
        leaf.reserve_exact(LEAF_GROWTH.max(leaf.len() / 8));
    }
}

/// The order of the records in a leaf.
fn order(cell: &Cell, position: u64, name: &Name) -> Ordering {
    cell.position.cmp(&position).then_with(|| cell.record.name().cmp(name))
}

/// Where the records of a name are in its leaf, or where they belong.
fn run(leaf: &Leaf, position: u64, name: &Name) -> Range<usize> {
    let end = leaf.partition_point(|cell| order(cell, position, name).is_le());
    let of_name = |cell: &&Cell| cell.position == position && cell.record.name() == name;
    end - leaf[..end].iter().rev().take_while(of_name).count()..end
}

/// The records of the name whose last record is the one before `end`.
fn run_that_ends(leaf: &Leaf, end: usize) -> Range<usize> {
    let last = &leaf[end - 1];
    end - leaf[..end].iter().rev().take_while(|cell| is_same_name(last, cell)).count()..end
}

/// Whether a record is the last one, and so the current one, of its name.
fn is_last(leaf: &[Cell], at: usize) -> bool {
    leaf.get(at + 1).is_none_or(|next| !is_same_name(&leaf[at], next))
}

fn is_same_name(a: &Cell, b: &Cell) -> bool {
    a.position == b.position && a.record.name() == b.record.name()
}

#[cfg(test)]
mod tests;
