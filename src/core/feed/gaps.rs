//! Gaps: writes that a reader will not be told one by one, and the names that may have them.

use std::cell::OnceCell;
use std::collections::BTreeSet;

use super::event::{Compacted, Event};
use super::scope::Scope;
use crate::core::change_ring::Gap;
use crate::core::history::Depth;
use crate::core::limits::MAX_GAP_NAMES;
use crate::core::mutants::Mutant;
use crate::core::name::Name;
use crate::core::past::last_of_full;
use crate::core::record::{Dot, Incarnation, Record};
use crate::core::set::{Cell, Set};
use crate::core::stamp::Stamp;
use crate::core::store::Store;
use crate::core::vector::Vector;

/// Most writes of a gap whose names are looked up.
const MAX_LOOKUPS: u64 = 1024;

/// The gaps of one step.
#[derive(Debug, Default)]
pub(super) struct Gaps {
    is_unknown: bool,
    names: BTreeSet<Name>,
    dots: Vec<(Incarnation, u64, u64)>,
}

impl Gaps {
    /// Any names of the scope.
    pub(super) fn add_unknown(&mut self) {
        self.is_unknown = true;
    }

    /// The name of these records.
    pub(super) fn add_name(&mut self, history: &[Cell]) {
        self.names.extend(history.last().map(|cell| cell.record().name().clone()));
    }

    /// The writes of a gap that a vector does not claim, as dots.
    pub(super) fn add(&mut self, gap: &Gap, claimed: &Vector) {
        match gap {
            Gap::Unknown => self.is_unknown = true,
            Gap::Dots(ranges) => self.dots.extend(unclaimed(ranges, claimed)),
        }
    }

    /// These writes, as dots.
    pub(super) fn add_dots(&mut self, dots: impl IntoIterator<Item = (Incarnation, u64, u64)>) {
        self.dots.extend(dots);
    }

    /// The names of a gap within the scope, if all of them are known. Else nothing is added, and it returns false.
    pub(super) fn add_known(&mut self, set: &Set, gap: &Gap, claimed: &Vector, scope: &Scope) -> bool {
        let Gap::Dots(ranges) = gap else { return false };
        match names(set, unclaimed(ranges, claimed)) {
            Some(names) => {
                self.names.extend(names.into_iter().filter(|name| scope.has(name)));
                true
            }
            None => false,
        }
    }

    /// Adds the events of these gaps.
    pub(super) fn tell(self, events: &mut Vec<Event>) {
        let Self { is_unknown, names, dots } = self;
        if is_unknown {
            events.push(Event::Compacted(Compacted::Unknown));
        } else if !dots.is_empty() {
            events.push(Event::Compacted(Compacted::Dots(dots)));
        } else {
            let names: Vec<Name> = names.into_iter().collect();
            let parts = names.chunks(MAX_GAP_NAMES).map(<[Name]>::to_vec);
            events.extend(parts.map(|names| Event::Compacted(Compacted::Names(names))));
        }
    }
}

fn unclaimed(
    ranges: &[(Incarnation, u64, u64)],
    claimed: &Vector,
) -> impl Iterator<Item = (Incarnation, u64, u64)> {
    ranges.iter().filter_map(move |(process, first, last)| {
        let first = (*first).max(claimed.get(*process) + 1);
        (first <= *last).then_some((*process, first, *last))
    })
}

/// The names of writes that are not held: `None` if one of them is not known, or if there are too many.
fn names(set: &Set, ranges: impl Iterator<Item = (Incarnation, u64, u64)>) -> Option<BTreeSet<Name>> {
    let mut left = MAX_LOOKUPS;
    let mut names = BTreeSet::new();
    for (incarnation, first, last) in ranges {
        left = left.checked_sub(last - first + 1)?;
        for sequence in first..=last {
            names.insert(set.evicted(Dot { incarnation, sequence })?.clone());
        }
    }
    Some(names)
}

/// Which names may have records that a reader missed. By the honesty of the set's vector, a write that it claims and
/// does not hold has as many greater records of its name as are kept, or lies below a horizon. If the reader has the
/// least of these, then what it missed lies below that.
pub(super) struct Suspicion<'a> {
    set: &'a Set,
    /// What the reader was told.
    claimed: &'a Vector,
    /// The stamp below which the reader was told every delete.
    reflected: Stamp,
    /// What the node claims.
    upto: &'a Vector,
    depth: Depth,
    /// Whether the present depth was in force since then.
    is_later: bool,
    missing: OnceCell<Missing>,
}

/// The names of the writes that the set lacks.
enum Missing {
    None,
    Names(BTreeSet<Name>),
    Unknown,
}

impl<'a> Suspicion<'a> {
    /// For a reader with this vector and this reflected stamp.
    pub(super) fn new<T>(store: &'a Store<T>, claimed: &'a Vector, reflected: Stamp) -> Self {
        let set = store.set();
        let depth = set.depth();
        // writes from before another depth was in force may have been cut to that one
        let is_later = reflected.before(store.half_grace_us()) > depth.epoch() && depth.epoch() > Stamp::ZERO;
        Self { set, claimed, reflected, upto: store.vector(), depth, is_later, missing: OnceCell::new() }
    }

    /// Whether records may have been compacted since then.
    fn is_cut(&self) -> bool {
        self.reflected < self.set.compaction_horizon()
    }

    /// Whether the reader may miss records of names that are gone: deleted ones, whose tombstones are forgotten, and
    /// those of logs, of which the compaction horizon removes all records.
    pub(super) fn is_on_all(&self, scope: &Scope) -> bool {
        self.reflected < self.set.horizon()
            || scope.is_log() && self.is_cut() && self.set.lacks(self.claimed, self.upto)
    }

    /// With so many records a name may have lost one.
    fn versions(&self, name: &Name) -> usize {
        if self.is_later { self.depth.versions_of(name) } else { self.depth.least_of(name) }
    }

    /// Whether the reader may miss a record of the name whose records these are.
    pub(super) fn is_on(&self, history: &[Cell]) -> bool {
        let Some(oldest) = history.first().map(Cell::record) else { return false };
        let is_news = |record: &Record| !self.claimed.claims(record.dot());
        let may_be_replaced = || {
            let last = last_of_full(history, self.versions(oldest.name()));
            let last = match self.set.mutants().has(Mutant::SuspectByOldest) {
                true => last.map(|_| oldest),
                false => last,
            };
            last.is_some_and(is_news)
        };
        (self.is_cut() && is_news(oldest) || may_be_replaced())
            && match self.missing() {
                Missing::None => false,
                Missing::Names(names) => names.contains(oldest.name()),
                Missing::Unknown => true,
            }
    }

    fn missing(&self) -> &Missing {
        self.missing.get_or_init(|| {
            let Self { set, claimed, upto, .. } = self;
            match set.lacks(claimed, upto) {
                false => Missing::None,
                true => names(set, set.missing(claimed, upto)).map_or(Missing::Unknown, Missing::Names),
            }
        })
    }
}

/// Whether records of a name from a stamp on may have been dropped.
pub(super) fn may_lack_since(set: &Set, history: &[Cell], from: Stamp) -> bool {
    let is_later = |record: &Record| record.last_sync() > from;
    let Some(oldest) = history.first().map(Cell::record) else { return false };
    let versions = set.depth().least_of(oldest.name());
    from < set.compaction_horizon() && is_later(oldest)
        || last_of_full(history, versions).is_some_and(is_later)
}
