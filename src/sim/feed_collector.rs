//! A reader with a feed of every record, and what must hold of what it was told.

use std::collections::{BTreeMap, BTreeSet};

use super::checks::History;
use crate::core::feed::{Compacted, Cursor, Event as Told, Subscription};
use crate::core::{Dot, Name, Record, Stamp, Store, Vector};

/// What a reader was told.
#[derive(Clone, Debug, Default)]
pub(super) struct Collected {
    received: BTreeMap<Name, Vec<Record>>,
    /// By name, which writes may be missing: those that a node claimed when it told a gap of the name.
    gaps: BTreeMap<Name, Vector>,
    /// As `gaps`, for all names.
    gaps_of_all: Vector,
    /// Writes that were told to be missing one by one, or that were gone when the reader began.
    missing: BTreeSet<Dot>,
    /// The records that were told on earlier connections.
    earlier: BTreeMap<Name, Vec<Record>>,
    /// Writes that were claimed at the last check, and the stamp below which all was reflected.
    checked: Vector,
    reflected: Stamp,
}

impl Collected {
    /// A connection has ended.
    pub(super) fn disconnected(&mut self) {
        self.earlier.clone_from(&self.received);
    }

    /// Takes in what a node tells between two cursors. Returns how many of it were told before.
    pub(super) fn hear<T>(
        &mut self,
        told: Vec<Told>,
        store: &Store<T>,
        subscription: &Subscription,
        history: &History,
        (before, after): (Option<&Cursor>, &Cursor),
    ) -> u64 {
        let (mut twice, mut is_synced, mut began) = (0, false, false);
        for event in told {
            match event {
                Told::Changed(changed) => {
                    let of_name = self.received.entry(changed.record.name().clone()).or_default();
                    if of_name.iter().any(|received| received.order(&changed.record).is_eq()) {
                        twice += 1;
                    } else {
                        of_name.push(changed.record);
                    }
                }
                Told::Compacted(Compacted::Names(names)) => {
                    for name in names {
                        self.gaps.entry(name).or_default().join(store.vector());
                    }
                }
                Told::Compacted(Compacted::Unknown) => self.gaps_of_all.join(store.vector()),
                Told::Compacted(Compacted::Dots(ranges)) => {
                    let dots = ranges.into_iter().flat_map(|(incarnation, first, last)| {
                        (first..=last).map(move |sequence| Dot { incarnation, sequence })
                    });
                    self.missing.extend(dots);
                }
                Told::Synced => is_synced = true,
                Told::Reset(_) => began = true,
                Told::Ahead { .. } => {}
            }
        }
        let began_at = if began { None } else { before.and_then(scanned_upto) };
        let done_upto = scanned_upto(after);
        if is_synced || done_upto.is_some() {
            self.excuse_what_was_gone(store, subscription, history, |name| {
                began_at.is_none_or(|first| first < name)
                    && (is_synced || done_upto.is_some_and(|last| name <= last))
            });
        }
        twice
    }

    /// Of the names that a scan of an empty view has done: writes that were gone when it did.
    fn excuse_what_was_gone<T>(
        &mut self,
        store: &Store<T>,
        subscription: &Subscription,
        history: &History,
        is_done: impl Fn(&[u8]) -> bool,
    ) {
        // a depth that was raised may bring records back that were gone
        let may_return = store.set().depth().epoch() > Stamp::ZERO;
        let is_held = |write: &Record| {
            let held = store.set().history(write.name());
            held.iter().any(|cell| cell.record().order(write).is_eq())
        };
        let of_scan = history.all().filter(|write| {
            store.vector().claims(write.dot())
                && is_done(write.name().as_bytes())
                && subscription.scope.has(write.name())
        });
        for write in of_scan {
            if !self.has(write) && (may_return || !is_held(write)) {
                self.missing.insert(write.dot());
            }
        }
    }

    fn has(&self, record: &Record) -> bool {
        self.received
            .get(record.name())
            .is_some_and(|of_name| of_name.iter().any(|received| received.order(record).is_eq()))
    }

    fn is_excused(&self, write: &Record) -> bool {
        let dot = write.dot();
        self.missing.contains(&dot)
            || self.gaps_of_all.claims(dot)
            || self.gaps.get(write.name()).is_some_and(|gap| gap.claims(dot))
    }

    /// Whether a write comes late: the reader was told a greater one of the name before, and that was reflected, or it
    /// was by another node.
    fn is_late(&self, write: &Record) -> bool {
        let is_greater = |told: &&Record| told.order(write).is_gt();
        let is_reflected =
            |told: &Record| self.checked.claims(told.dot()) || told.last_sync() < self.reflected;
        let received = self.received.get(write.name()).into_iter().flatten();
        let earlier = self.earlier.get(write.name()).into_iter().flatten();
        { received }.filter(is_greater).any(is_reflected) || { earlier }.any(|told| is_greater(&told))
    }

    /// Each write that the cursor claims was told, or lies in a gap that was told.
    pub(super) fn check(
        &mut self,
        cursor: &Cursor,
        subscription: &Subscription,
        history: &History,
    ) -> Result<(), String> {
        for (process, upto) in cursor.vector.iter() {
            for write in history.of(process, self.checked.get(process), upto) {
                let is_told =
                    !subscription.scope.has(write.name()) || self.has(write) || self.is_excused(write);
                // these are not told if gaps are told by names
                let is_left_out = !subscription.dots && (self.is_late(write) || history.is_backdated(write));
                if !is_told && !is_left_out {
                    let received = self.received.get(write.name());
                    return Err(format!("{cursor:?} claims {write:?}, was told {received:?}"));
                }
            }
        }
        self.checked.join(&cursor.vector);
        self.reflected = self.reflected.max(cursor.reflected);
        Ok(())
    }

    /// Whether the reader was told a record, or that it may be missing, or need not be told.
    pub(super) fn knows(&self, record: &Record) -> bool {
        self.has(record) || self.is_excused(record) || self.is_late(record)
    }
}

/// The last name that a scan of an empty view has done, as a cursor has it.
fn scanned_upto(cursor: &Cursor) -> Option<&[u8]> {
    cursor.scan.as_ref().filter(|scan| scan.from.is_some()).map(|scan| &*scan.after)
}
