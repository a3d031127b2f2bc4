//! A reader with a feed of every record, and what must hold of what it was told.

use std::collections::{BTreeMap, BTreeSet};

use super::checks::History;
use crate::core::feed::{Compacted, Cursor, Event as Told, Subscription};
use crate::core::set::Set;
use crate::core::{Dot, Name, Record, Stamp, Vector};

/// What a reader was told.
#[derive(Clone, Debug, Default)]
pub(super) struct Collected {
    received: BTreeMap<Name, Vec<Record>>,
    /// By name, which writes may be missing: those that a node had ever claimed when it told a gap of the name. If it
    /// had left out their process by then, what it had dropped was gone all the same.
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
    /// The view begins with what comes to a node that holds these records, and that ever claimed so many.
    pub(super) fn begin_now<'a>(&mut self, held: impl Iterator<Item = &'a Record>, claimed: &Vector) {
        for record in held {
            self.received.entry(record.name().clone()).or_default().push(record.clone());
        }
        self.gaps_of_all.join(claimed);
    }

    /// A connection has ended.
    pub(super) fn disconnected(&mut self) {
        self.earlier.clone_from(&self.received);
    }

    /// Takes in what a node with this set tells between two cursors. `claimed` is all that its vector ever claimed.
    /// Returns how many of it were told before.
    pub(super) fn hear(
        &mut self,
        told: Vec<Told>,
        (set, claimed): (&Set, &Vector),
        subscription: &Subscription,
        history: &History,
        (before, after): (Option<&Cursor>, &Cursor),
    ) -> u64 {
        let mut twice = 0;
        let done = scanned(&told, before, after);
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
                        self.gaps.entry(name).or_default().join(claimed);
                    }
                }
                Told::Compacted(Compacted::Unknown) => self.gaps_of_all.join(claimed),
                Told::Compacted(Compacted::Dots(ranges)) => {
                    let dots = ranges.into_iter().flat_map(|(incarnation, first, last)| {
                        (first..=last).map(move |sequence| Dot { incarnation, sequence })
                    });
                    self.missing.extend(dots);
                }
                Told::Synced | Told::Reset(_) | Told::Ahead { .. } => {}
            }
        }
        if let Some(is_done) = done {
            self.excuse_what_was_gone((set, claimed), subscription, history, is_done);
        }
        twice
    }

    /// Of the names that a scan of an empty view has done: writes that were gone when it did.
    fn excuse_what_was_gone(
        &mut self,
        (set, claimed): (&Set, &Vector),
        subscription: &Subscription,
        history: &History,
        is_done: impl Fn(&Name) -> bool,
    ) {
        // a depth that was raised may bring records back that were gone
        let may_return = set.depth().epoch() > Stamp::ZERO;
        let is_held = |write: &Record| {
            let held = set.history(write.name());
            held.iter().any(|cell| cell.record().order(write).is_eq())
        };
        let of_scan = history.all().filter(|write| {
            claimed.claims(write.dot()) && is_done(write.name()) && subscription.scope.has(write.name())
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

/// Which names the scan of an empty view has done between two cursors, with these events; `None` if there was no such
/// scan.
pub(super) fn scanned<'a>(
    told: &[Told],
    before: Option<&'a Cursor>,
    after: &'a Cursor,
) -> Option<impl Fn(&Name) -> bool + use<'a>> {
    let is_synced = told.iter().any(|event| matches!(event, Told::Synced));
    let is_reset = told.iter().any(|event| matches!(event, Told::Reset(_)));
    let began_at = if is_reset { None } else { before.and_then(scanned_upto) };
    let done_upto = scanned_upto(after);
    (is_synced || done_upto.is_some()).then_some(move |name: &Name| {
        began_at.is_none_or(|first| first < name.as_bytes())
            && (is_synced || done_upto.is_some_and(|last| name.as_bytes() <= last))
    })
}

/// The last name that a scan of an empty view has done, as a cursor has it.
fn scanned_upto(cursor: &Cursor) -> Option<&[u8]> {
    cursor.scan.as_ref().filter(|scan| scan.from.is_some()).map(|scan| &*scan.after)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::feed::Scope;
    use crate::core::record::Incarnation;
    use crate::core::testing::{at, name, version};
    use crate::sim::checks::Witness;

    const AWAY: Incarnation = Incarnation(1);

    /// The check of a reader with this cursor, after a node told it these events. The node claimed a write of `AWAY`,
    /// dropped it, and left `AWAY` out of its vector.
    fn told(events: Vec<Told>, cursor: &Cursor, subscription: &Subscription) -> Result<(), String> {
        let (mut history, mut set, mut witness) = (History::default(), Set::new([0; 16]), Witness::default());
        let dot = Dot { incarnation: AWAY, sequence: 1 };
        let write = Record::value(name("gone"), &version("v"), b"", at(5), dot);
        history.accepted(&write, None, true, at(5)).unwrap();
        set.merge(&write);
        for vector in [&cursor.vector, &Vector::default()] {
            witness.look_at_vector(&history, &set, vector, None).unwrap();
        }
        let node = (&Set::new([0; 16]), witness.claimed());
        let mut collected = Collected::default();
        collected.hear(events, node, subscription, &history, (None, cursor));
        collected.check(cursor, subscription, &history)
    }

    #[test]
    fn a_node_speaks_for_processes_that_it_left_out() {
        let subscription = Subscription::all(Scope::all());
        let mut vector = Vector::default();
        vector.raise(AWAY, 1);
        let subscribed = subscription.hash();
        let cursor =
            Cursor { set: 0, subscription: subscribed, vector, reflected: at(1), at: None, scan: None };
        let told = |events| told(events, &cursor, &subscription);
        assert!(told(Vec::new()).is_err());
        assert!(told(vec![Told::Compacted(Compacted::Names(vec![name("other")]))]).is_err());
        told(vec![Told::Compacted(Compacted::Names(vec![name("gone")]))]).unwrap();
        told(vec![Told::Compacted(Compacted::Unknown)]).unwrap();
        told(vec![Told::Synced]).unwrap();
    }
}
