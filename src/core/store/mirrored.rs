//! What a store does that is a mirror of another set: see [`crate::core::mirroring`].

use std::collections::HashSet;

use super::Store;
use crate::core::change_ring::Gap;
use crate::core::claims::Claims;
use crate::core::effects::SetChange;
use crate::core::limits::HORIZON_SLICE;
use crate::core::mutants::Mutant;
use crate::core::name::Name;
use crate::core::record::{Incarnation, Record};
use crate::core::set::Cell;
use crate::core::stamp::Stamp;
use crate::core::vector::Vector;
use crate::core::{Genesis, Registers};

/// Where the records of a store come from, as far as cursors are concerned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Origin {
    /// The set is that of this node and its group.
    Own,
    /// The set is a part of another one that lies elsewhere, without the dots of its records: cursors are good at this
    /// process only.
    Part,
    /// The set is a copy of another one, with the dots of its records: cursors are good there, too.
    Mirror {
        /// What stands for that set in cursors.
        set: u64,
        /// The stamp below which the copy reflects every delete.
        reflected: Stamp,
    },
}

impl<T> Store<T> {
    /// The set is from now on a part of another one that lies elsewhere: cursors are good at this process only.
    pub fn be_partial(&mut self) {
        self.origin = Origin::Part;
    }

    /// Whether cursors are good at this process only.
    #[must_use]
    pub fn is_partial(&self) -> bool {
        self.origin == Origin::Part
    }

    /// What stands in cursors for the set of which this one is a mirror. `None` if it is none, or has no view of that
    /// set yet.
    #[must_use]
    pub fn mirrored_set(&self) -> Option<u64> {
        match self.origin {
            Origin::Mirror { set, .. } => Some(set),
            Origin::Own | Origin::Part => None,
        }
    }

    /// The stamp below which a mirror reflects every delete. `None` if the set is no mirror.
    pub(in crate::core) fn mirrored_reflected(&self) -> Option<Stamp> {
        match self.origin {
            Origin::Mirror { reflected, .. } => Some(reflected),
            Origin::Own | Origin::Part => None,
        }
    }

    /// Whether a view of this set is one of another set than the records that the mirror holds, or some of them.
    pub(in crate::core) fn is_other_set(&self, set: u64) -> bool {
        self.is_mixed || self.mirrored_set() != Some(set)
    }

    /// The mirror reflects what this vector of the set claims, and each delete below a stamp. None of the writes has a
    /// stamp above `latest`. With `retaken`, a view that began empty is complete, and what was replaced before is not
    /// known.
    pub(in crate::core) fn mirror(
        &mut self,
        set: u64,
        vector: &Vector,
        reflected: Stamp,
        latest: Stamp,
        retaken: bool,
    ) {
        let before = match self.origin {
            Origin::Mirror { set: before, reflected } if before == set && !self.is_mixed => Some(reflected),
            _ => None,
        };
        if before.is_none() {
            // of another set, a claim says nothing
            self.claims = Claims::default();
            self.retaken = Vector::default();
        }
        // what is missing is told by the leader: here it may be outside of what is mirrored
        self.claims.join(vector, latest);
        if retaken {
            if before.is_some() {
                self.retaken = self.vector().clone();
            }
            // readers that follow the changes look at the names again
            self.clear_changes();
        }
        let reflected = before.map_or(reflected, |before| before.max(reflected));
        self.origin = Origin::Mirror { set, reflected };
        self.is_mixed = false;
    }

    /// Adopts the registers of the set that is mirrored. The depth of its genesis becomes that of this one. Those of
    /// another set take the place of ours.
    pub(in crate::core) fn mirror_registers(&mut self, set: u64, registers: Registers) {
        let is_other_set = self.registers_of != Some(set);
        let ours = self.set.depth();
        let is_genesis = registers.depth.epoch() == Stamp::ZERO;
        if is_genesis && (is_other_set || ours.epoch() == Stamp::ZERO) && registers.depth != ours {
            let versions = registers.depth.versions();
            self.genesis = Genesis { versions, ..self.genesis };
            if !is_other_set {
                self.set.set_depth(registers.depth.after(ours));
            }
        }
        if is_other_set {
            self.set.replace_registers(registers);
            self.registers_of = Some(set);
        }
        self.adopt_registers(registers, HORIZON_SLICE);
    }

    /// Merges all records that a view which began empty has of one name, in [`Record::order`]. With `is_other_set`, the
    /// records that are held of it are of another set, and these take their place.
    pub(in crate::core) fn mirror_name(&mut self, records: &[Record], is_other_set: bool) {
        let records: Vec<&Record> = records.iter().collect();
        let Some(name) = records.first().map(|record| record.name()) else { return };
        self.is_mixed |= is_other_set && self.mirrored_set().is_some();
        let before = self.set.get(name).cloned();
        let is_same = |current: &Record| before.as_ref().is_some_and(|before| before.order(current).is_eq());
        let replaces = is_other_set && before.is_some() && !records.last().is_some_and(|last| is_same(last));
        if !replaces {
            return self.merge_all(&records);
        }
        self.set.drop_copy(name);
        self.set.merge_all(&records);
        match (self.set.get(name).cloned(), before) {
            (Some(current), before) => {
                self.changed(&current, before);
                self.add_change(&current, true);
            }
            (None, Some(before)) => self.is_gone(before),
            (None, None) => {}
        }
    }

    /// A name has no record any more, without a delete: its readers read again, and find nothing.
    fn is_gone(&mut self, previous: Record) {
        self.waiters.take_cut(previous.name(), &mut self.effects.due);
        if self.reports_changes {
            self.effects.changes.push(SetChange::Dropped { previous });
        }
    }

    /// The writes of these ranges will not come.
    pub(in crate::core) fn mirror_gap(&mut self, ranges: Vec<(Incarnation, u64, u64)>) {
        if let Some(gap) = Gap::of(ranges) {
            self.add_gap(gap);
        }
    }

    /// Any writes may have come and gone that readers were not told.
    pub(in crate::core) fn mirror_lost(&mut self) {
        self.add_gap(Gap::Unknown);
    }

    /// Drops names that a complete view does not have: those after a name that are not `told` and of which the view
    /// speaks for the newest record, or all of another set. It looks at `at_most` names. Returns the last one that it
    /// looked at; `None` at the end.
    ///
    /// A view speaks for what it claims, and for all that lies below the GC horizon: a node has that, or has forgotten
    /// it. Its vector may lack a write of that time, because it has left the process out, or because the write came
    /// after a scan began.
    pub(in crate::core) fn drop_untold(
        &mut self,
        told: &HashSet<Name>,
        view: Option<&Vector>,
        after: Option<&Name>,
        at_most: usize,
    ) -> Option<Name> {
        let names = self.set.names_from(b"", after.map(Name::as_bytes), |_| true);
        let looked: Vec<Name> = names.take(at_most).cloned().collect();
        let last = looked.last().filter(|_| looked.len() == at_most).cloned();
        let horizon = self.set.horizon();
        let is_old =
            |newest: &Record| newest.last_sync() < horizon && !self.mutants.has(Mutant::MirrorKeepsLeftOut);
        let is_claimed = |name: &Name| {
            let newest = self.set.held_history(name).last().map(Cell::record);
            newest.is_some_and(|newest| view.is_none_or(|view| view.claims(newest.dot()) || is_old(newest)))
        };
        let gone: Vec<Name> =
            looked.into_iter().filter(|name| !told.contains(name) && is_claimed(name)).collect();
        for name in &gone {
            if let Some(previous) = self.set.drop_copy(name) {
                self.is_gone(previous);
            }
        }
        last
    }
}
