//! Values with an end: the index of their ends, and that they count as tombstones once the GC horizon has passed these.

use std::ops::Bound;

use super::{Set, is_same_name};
use crate::core::mutants::Mutant;
use crate::core::name::Name;
use crate::core::record::{Kind, Record};
use crate::core::stamp::Stamp;

impl Set {
    /// The number of names whose current record is a value with an end.
    #[must_use]
    pub fn expiring(&self) -> usize {
        self.ends.len()
    }

    /// The names whose current record is a value that has ended at a time, by their ends, after one of them if it is
    /// given.
    pub fn ended<'a>(
        &'a self,
        now: Stamp,
        after: Option<&'a (Stamp, Name)>,
    ) -> impl Iterator<Item = &'a (Stamp, Name)> + 'a {
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        self.ends.range((from, Bound::Unbounded)).take_while(move |(end, _)| *end <= now)
    }

    /// The first end after a time.
    #[must_use]
    pub fn next_end(&self, now: Stamp) -> Option<Stamp> {
        let (_, any) = self.ends.first()?;
        let later = self.ends.range((now, any.clone())..);
        later.map(|(end, _)| *end).find(|end| *end > now)
    }

    /// The current record of a name as readers get it at a time: of a value that has ended its tombstone.
    #[must_use]
    pub fn get_at(&self, now: Stamp, name: &Name) -> Option<Record> {
        self.get(name).map(|record| record.as_of(now))
    }

    /// The stamp that the GC horizon has to pass to remove a record with all below it: that of a tombstone, and the end
    /// of a value, which has ended by then at every node. `None` for any other value. It depends on the record only, so
    /// that all sets cut alike.
    pub(super) fn removed_above(&self, record: &Record) -> Option<Stamp> {
        match record.kind() {
            Kind::Tombstone => Some(record.last_sync()),
            Kind::Value if self.mutants.has(Mutant::EndsOutliveHorizon) => None,
            Kind::Value => record.end().map(|end| end.max(record.last_sync())),
        }
    }

    /// Whether the GC horizon removes a record with all below it.
    pub(super) fn is_forgotten(&self, record: &Record) -> bool {
        self.removed_above(record).is_some_and(|stamp| stamp < self.tombstones.horizon())
    }

    /// Whether a record is a value with an end that the GC horizon removes.
    pub(super) fn has_fallen(&self, record: &Record) -> bool {
        record.kind() == Kind::Value && self.is_forgotten(record)
    }

    /// What a record counts as for readers of the present: a value whose end the GC horizon has passed is its
    /// tombstone. It is none in the order: of one stamp, there may be a greater value.
    pub(in crate::core) fn counts_as(&self, record: &Record) -> Record {
        if self.has_fallen(record) { record.expiry(record.dot()) } else { record.clone() }
    }

    /// Removes the records of a name if its current one is a value whose end the GC horizon has passed, before
    /// [`Set::raise_horizon`] gets to it.
    pub(in crate::core) fn settle_name(&mut self, name: &Name) {
        if !self.ends.is_empty() && self.held(name).is_some_and(|held| self.has_fallen(held)) {
            let gone = self.drop_copy(name);
            self.cut.extend(gone);
        }
    }

    /// The index of ends follows the current record of a name.
    pub(super) fn replace_end(&mut self, previous: Option<&Record>, record: Option<&Record>) {
        let end = |record: &Record| record.end().filter(|_| record.kind() == Kind::Value);
        if let Some((record, end)) = previous.and_then(|record| Some((record, end(record)?))) {
            self.ends.remove(&(end, record.name().clone()));
        }
        if let Some((record, end)) = record.and_then(|record| Some((record, end(record)?))) {
            self.ends.insert((end, record.name().clone()));
        }
    }

    /// Of the records of a name that are left, and begin here, those that the GC horizon will remove are in the index
    /// by age: one that is gone may have shared the entry of another one.
    pub(super) fn index_again(&mut self, leaf_index: usize, start: usize) {
        let leaf = &self.leaves[leaf_index];
        let Some(first) = leaf.get(start) else { return };
        let left = leaf[start..].iter().take_while(|cell| is_same_name(first, cell));
        let entries: Vec<(Stamp, u64)> =
            left.filter_map(|cell| Some((self.removed_above(&cell.record)?, cell.position))).collect();
        for (stamp, position) in entries {
            self.tombstones.add(stamp, position);
        }
    }
}
