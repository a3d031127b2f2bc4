//! What a set knows by dots: which of the writes that a vector claims it does not hold, and which of those that it
//! holds a vector does not claim. Feeds ask for this.

use super::{Cell, Set};
use crate::core::name::Name;
use crate::core::record::{Dot, Incarnation, Record};
use crate::core::vector::Vector;

/// The place of a record in the index of dots: with 16 bits of leaves, its leaf.
pub(super) fn place(position: u64) -> u16 {
    (position >> 48) as u16
}

impl Set {
    /// Whether [`Set::missing`] has any: told by counts, and not dot by dot.
    pub(in crate::core) fn lacks(&self, claimed: &Vector, upto: &Vector) -> bool {
        let is_missing = |(process, upto)| {
            let after = claimed.get(process);
            after < upto && self.dots.count(process, after, upto) < upto - after
        };
        upto.iter().any(is_missing)
    }

    /// The writes that a vector claims, another one does not claim, and that are not held: ranges of sequence numbers,
    /// both ends included.
    pub(in crate::core) fn missing<'a>(
        &'a self,
        claimed: &'a Vector,
        upto: &'a Vector,
    ) -> impl Iterator<Item = (Incarnation, u64, u64)> + 'a {
        upto.iter().flat_map(move |(process, upto)| {
            self.missing_of(process, claimed.get(process), upto).map(move |(a, b)| (process, a, b))
        })
    }

    /// The writes of a process after a sequence number, up to another one, that are not held.
    pub(in crate::core) fn missing_of(
        &self,
        process: Incarnation,
        after: u64,
        upto: u64,
    ) -> impl Iterator<Item = (u64, u64)> {
        self.dots.missing(process, after, upto)
    }

    /// Whether the record of a write is held.
    pub(in crate::core) fn has_dot(&self, dot: Dot) -> bool {
        let Dot { incarnation, sequence } = dot;
        sequence > 0 && self.dots.count(incarnation, sequence - 1, sequence) > 0
    }

    /// The name of a write that is not held: known for the last ones that were dropped.
    pub(in crate::core) fn evicted(&self, dot: Dot) -> Option<&Name> {
        self.evicted.name(dot)
    }

    /// The number of held records that a vector does not claim.
    pub(in crate::core) fn unclaimed(&self, claimed: &Vector) -> u64 {
        self.dots
            .processes()
            .map(|process| self.dots.count(process, claimed.get(process), u64::MAX - 1))
            .sum()
    }

    /// The held records that a vector does not claim: their dots, and for [`Set::find`] their places.
    pub(in crate::core) fn unclaimed_dots(&self, claimed: &Vector) -> Vec<(Dot, u16)> {
        let dots = self.dots.processes().flat_map(|incarnation| {
            let held = self.dots.held(incarnation, claimed.get(incarnation));
            held.map(move |(sequence, place)| (Dot { incarnation, sequence }, place))
        });
        dots.collect()
    }

    /// The record with a dot.
    pub(in crate::core) fn find(&self, dot: Dot, place: u16) -> Option<&Record> {
        let first = u64::from(place) << 48;
        let mut cells = self.cells(first, first | u64::MAX >> 16);
        cells.find(|cell| cell.record.dot() == dot).map(Cell::record)
    }
}
