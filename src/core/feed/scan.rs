//! Scans: what the set holds of the names of a feed, in order of the names.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

use super::event::{Event, ResetReason};
use super::gaps::{Suspicion, may_lack_since};
use super::scope::{Mode, Scope};
use super::{Feed, MAX_TOLD_AHEAD, Phase, Scanning, Step};
use crate::core::limits::{MAX_DOT_SCAN, MAX_GAP_RANGES};
use crate::core::mutants::Mutant;
use crate::core::name::Name;
use crate::core::record::{Dot, Kind, Record};
use crate::core::set::Cell;
use crate::core::stamp::Stamp;
use crate::core::store::Store;
use crate::core::vector::Vector;

/// A walk over the names of a scope, in order.
#[derive(Clone, Debug)]
pub(super) struct Walk {
    /// The last name that is done.
    after: Option<Box<[u8]>>,
    lookup: Lookup,
}

#[derive(Clone, Debug)]
enum Lookup {
    /// Each name of the scope.
    EachName,
    /// The names of these records. Some are found.
    Dots { pending: Vec<(Dot, u16)>, found: BTreeSet<Name> },
    /// These names.
    Names(VecDeque<Name>),
}

impl Walk {
    /// A walk over the names after one. If it is only for the names with a record that a vector lacks, then it looks up
    /// these records, as long as they are few.
    pub(super) fn new<T>(
        store: &Store<T>,
        scope: &Scope,
        lacks: Option<&Vector>,
        after: Option<Box<[u8]>>,
    ) -> Self {
        let has_prefixes = scope.prefixes().next().is_some();
        let lacks = lacks.filter(|_| has_prefixes);
        let lookup = match lacks.filter(|claimed| store.set().unclaimed(claimed) <= MAX_DOT_SCAN) {
            Some(claimed) => {
                let pending = store.set().unclaimed_dots(claimed);
                Lookup::Dots { pending, found: BTreeSet::new() }
            }
            None => Lookup::EachName,
        };
        Self { after, lookup }
    }

    /// The last name that is done.
    pub(super) fn after(&self) -> Option<&[u8]> {
        self.after.as_deref()
    }

    /// Goes on within the budget of a step, and hands each name's records to `visit`. Returns whether all names are
    /// done.
    pub(super) fn go<'a, T>(
        &mut self,
        step: &mut Step<'a, T>,
        scope: &Scope,
        mut visit: impl FnMut(&mut Step<'a, T>, &'a [Cell]),
    ) -> bool {
        let store = step.store;
        if let Lookup::Dots { pending, found } = &mut self.lookup {
            let mut is_lost = false;
            while let Some((dot, place)) = pending.pop() {
                if step.is_spent() {
                    pending.push((dot, place));
                    return false;
                }
                step.looked_at_one();
                // one that was dropped meanwhile is one that the reader may miss
                let name =
                    store.set().find(dot, place).map(Record::name).or_else(|| store.set().evicted(dot));
                is_lost |= name.is_none();
                found.extend(name.filter(|name| scope.has(name)).cloned());
            }
            if is_lost {
                self.lookup = Lookup::EachName;
            }
        }
        if let Lookup::Dots { found, .. } = &mut self.lookup {
            let after = self.after.as_deref();
            let is_left = |name: &Name| after.is_none_or(|after| name.as_bytes() > after);
            self.lookup = Lookup::Names(std::mem::take(found).into_iter().filter(is_left).collect());
        }
        if let Lookup::Names(names) = &mut self.lookup {
            while let Some(name) = names.front() {
                if step.is_spent() {
                    return false;
                }
                step.looked_at_one();
                visit(step, store.set().held_history(name));
                self.after = Some(name.as_bytes().into());
                names.pop_front();
            }
            return true;
        }
        let mut last: Option<&Name> = None;
        let mut is_done = true;
        'parts: for part in scope.parts() {
            let names = store.set().names_from(&part.start, self.after.as_deref(), |name| part.has(name));
            for name in names {
                if step.is_spent() {
                    is_done = false;
                    break 'parts;
                }
                step.looked_at_one();
                visit(step, store.set().held_history(name));
                last = Some(name);
            }
        }
        if let Some(name) = last {
            self.after = Some(name.as_bytes().into());
        }
        is_done
    }
}

impl Feed {
    /// Goes on with a scan.
    pub(super) fn scan_on<T>(&mut self, step: &mut Step<'_, T>) {
        let Phase::Scan(scanning) = &mut self.phase else { return };
        self.is_settled = false;
        let store = step.store;
        let subscription = Arc::clone(&self.subscription);
        let (mode, kinds, claimed, from) =
            (subscription.mode, subscription.kinds, &self.vector, scanning.from);
        let suspicion = Suspicion::new(store, claimed, self.reflected);
        if store.mutants().has(Mutant::FeedResetsAtStart)
            && (mode, from, scanning.walk.after()) == (Mode::Latest, None, None)
            && suspicion.is_on_all(&subscription.scope)
        {
            return self.reset(step);
        }
        let tells_gaps = mode == Mode::All && !store.mutants().has(Mutant::FeedHidesGaps);
        let (captured, told_ahead) = (&scanning.vector, &mut self.told_ahead);
        let remembers = !store.mutants().has(Mutant::FeedForgetsToldAhead);
        let is_done = scanning.walk.go(step, &subscription.scope, |step, held| {
            let skipped = if mode == Mode::All { 0 } else { held.len().saturating_sub(1) };
            for record in held[skipped..].iter().map(Cell::record) {
                let is_news = match from {
                    // an empty view needs no delete
                    Some(Stamp::ZERO) => mode == Mode::All || record.kind() == Kind::Value,
                    Some(from) => record.last_sync() >= from,
                    None => !claimed.claims(record.dot()),
                };
                if is_news && !told_ahead.contains(&record.dot()) {
                    let is_ahead = !captured.claims(record.dot());
                    if is_ahead && told_ahead.len() < MAX_TOLD_AHEAD && remembers {
                        told_ahead.insert(record.dot());
                    }
                    step.tell(record, store.set().left_of(held), from.is_some(), kinds);
                }
            }
            // a suspicion costs look-ups
            let is_gap = || match from {
                Some(Stamp::ZERO) => false,
                Some(from) => may_lack_since(store.set(), held, from),
                None => !subscription.dots && suspicion.is_on(held),
            };
            if tells_gaps && is_gap() {
                step.gaps.add_name(held);
            }
        });
        if is_done {
            self.end_scan(step);
        }
    }

    /// All names of a scan are done.
    fn end_scan<T>(&mut self, step: &mut Step<'_, T>) {
        let Phase::Scan(scanning) = &mut self.phase else { return };
        let Scanning { vector, reflected, position, from, .. } = &mut **scanning;
        let (mut vector, reflected0, position, from) = (std::mem::take(vector), *reflected, *position, *from);
        let (store, reflected) = (step.store, step.reflected);
        let (mutants, set) = (store.mutants(), store.set());
        // a step ends with a scan, so that its cursor is emitted
        step.left.names = 0;
        let scope = &self.subscription.scope;
        let is_gap = match from {
            Some(Stamp::ZERO) => false,
            Some(from) => from < set.horizon() || scope.is_log() && from < set.compaction_horizon(),
            None => Suspicion::new(store, &self.vector, self.reflected).is_on_all(scope),
        };
        if is_gap && !mutants.has(Mutant::FeedForgetsDeletes) {
            match self.subscription.mode {
                Mode::All => step.gaps.add_unknown(),
                Mode::Latest if from.is_none() && !mutants.has(Mutant::FeedResetsAtStart) => {
                    return self.reset(step);
                }
                Mode::Latest => {}
            }
        }
        if self.subscription.dots && self.subscription.mode == Mode::All && from.is_none() {
            let upto = if mutants.has(Mutant::FeedGapsAtStart) { &vector } else { store.vector() };
            if !mutants.has(Mutant::FeedHidesGaps) {
                let missing: Vec<_> = set.missing(&self.vector, upto).take(MAX_GAP_RANGES + 1).collect();
                match missing.len() {
                    // a mirror that lacks so much takes all over again
                    ..=MAX_GAP_RANGES => step.gaps.add_dots(missing),
                    _ => step.gaps.add_unknown(),
                }
            }
        }
        if mutants.has(Mutant::FeedVectorAtEnd) {
            vector = store.vector().clone();
        }
        // records that came back since then, because more are kept now, were not there when their names were told: the
        // replay tells those that the reader lacks
        let came_back = position.is_some_and(|position| position < store.came_back_at())
            && !mutants.has(Mutant::FeedForgetsReturned);
        if from.is_some() {
            // what was claimed before says nothing of this view
            if !mutants.has(Mutant::FeedResetJoins) {
                self.vector = Vector::default();
            }
            self.vector.join(&vector);
            self.reflected = reflected0;
            std::mem::take(&mut step.gaps).tell(&mut step.events);
            step.events.push(Event::Synced);
        } else if !came_back {
            self.vector.join(&vector);
            self.reflected = self.reflected.max(reflected0);
        }
        self.phase = match position {
            _ if mutants.has(Mutant::FeedPositionAfter) => Phase::Live { position: store.changes().end() },
            Some(position) => Phase::Live { position },
            None => self.scan(store, reflected, None),
        };
    }

    /// The reader may have a name whose delete is forgotten: its view begins empty.
    fn reset<T>(&mut self, step: &mut Step<'_, T>) {
        step.events.push(Event::Reset(ResetReason::Compacted));
        self.scan_afresh(step.store, step.reflected, Stamp::ZERO);
    }
}
