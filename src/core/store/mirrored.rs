//! What a store does that is a mirror of another set: see [`crate::core::mirroring`].

use std::collections::HashSet;

use super::Store;
use crate::core::change_ring::Gap;
use crate::core::claims::Claims;
use crate::core::effects::SetChange;
use crate::core::history::Depth;
use crate::core::limits::HORIZON_SLICE;
use crate::core::name::Name;
use crate::core::record::{Incarnation, Record};
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

    /// The mirror reflects what this vector of the set claims, and each delete below a stamp. None of the writes has a
    /// stamp above `latest`.
    pub(in crate::core) fn mirror(&mut self, set: u64, vector: &Vector, reflected: Stamp, latest: Stamp) {
        let before = match self.origin {
            Origin::Mirror { set: before, reflected } if before == set => Some(reflected),
            _ => None,
        };
        if before.is_none() {
            // of another set, a claim says nothing
            self.claims = Claims::default();
            self.clear_changes();
        }
        // what is missing is told by the leader: here it may be outside of what is mirrored
        self.claims.join(vector, latest);
        let reflected = before.map_or(reflected, |before| before.max(reflected));
        self.origin = Origin::Mirror { set, reflected };
    }

    /// Adopts the registers of the set that is mirrored. The depth of its genesis becomes that of this one.
    pub(in crate::core) fn mirror_registers(&mut self, registers: Registers) {
        let ours = self.set.depth();
        if registers.depth.epoch() == Stamp::ZERO && registers.depth.versions() != ours.versions() {
            self.genesis = Genesis { versions: registers.depth.versions(), ..self.genesis };
            self.set.set_depth(Depth::new(Stamp::ZERO, registers.depth.versions()).after(registers.depth));
        }
        self.adopt_registers(registers, HORIZON_SLICE);
    }

    /// Merges all records that a view which began empty has of one name, in [`Record::order`]. With `is_other_set`, the
    /// records that are held of it are of another set, and these take their place.
    pub(in crate::core) fn mirror_name(&mut self, records: &[Record], is_other_set: bool) {
        let records: Vec<&Record> = records.iter().collect();
        let Some(name) = records.first().map(|record| record.name()) else { return };
        let before = self.set.get(name).cloned();
        let is_same = |current: &Record| before.as_ref().is_some_and(|before| before.order(current).is_eq());
        let replaces = is_other_set && before.is_some() && !records.last().is_some_and(|last| is_same(last));
        if !replaces {
            return self.merge_all(&records);
        }
        self.set.drop_copy(name);
        self.set.merge_all(&records);
        let Some(current) = self.set.get(name).cloned() else { return };
        self.changed(&current, before);
        self.add_change(&current, true);
    }

    /// The writes of these ranges will not come.
    pub(in crate::core) fn mirror_gap(&mut self, ranges: Vec<(Incarnation, u64, u64)>) {
        if let Some(gap) = Gap::of(ranges) {
            self.add_gap(gap);
        }
    }

    /// Drops names that a complete view does not have: those after a name that are not `told` and of which the newest
    /// record is claimed by the view, or all of another set. It looks at `at_most` names. Returns the last one that it
    /// looked at; `None` at the end.
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
        let is_claimed = |name: &Name| {
            let newest = self.set.held_history(name).last();
            newest.is_some_and(|newest| view.is_none_or(|view| view.claims(newest.record().dot())))
        };
        let gone: Vec<Name> =
            looked.into_iter().filter(|name| !told.contains(name) && is_claimed(name)).collect();
        for name in &gone {
            let Some(previous) = self.set.drop_copy(name) else { continue };
            // they read again, and find nothing
            self.waiters.take_expired(name, &mut self.effects.due);
            if self.reports_changes {
                self.effects.changes.push(SetChange::Dropped { previous });
            }
        }
        if !gone.is_empty() && self.keeps_changes {
            // readers that follow the changes have to look at the names again
            self.clear_changes();
            self.dropped_at = self.changes.end();
        }
        last
    }
}
