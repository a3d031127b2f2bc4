//! Effects: what a step of the core asks the node to do.
//!
//! A step under the node's lock decides and changes the store; it sends no request, wakes no reader and calls no
//! listener. It writes all of that into the [`Effects`] of its [`super::Store`]. The shell (the node, or the simulator)
//! takes them at the end of the step ([`super::Store::take_effects`]) and carries them out after it has released the
//! lock.
//!
//! # Changes
//!
//! **Invariant.** [`Effects::changes`], applied in their order to the records that stood, give the records that stand.
//! A listener that starts with the set as it is when [`super::Store::report_changes`] is called, and then applies each
//! change ([`SetChange::Merged`]: put the record in the place of the previous one; [`SetChange::Dropped`]: remove it),
//! holds the same record of each name as the set does. The previous record of a change is the record that the listener
//! holds at that point.
//!
//! The only difference is a tombstone that the set has forgotten: it is below the horizon, the listener may still
//! hold it, and the next change of that name then has no previous record. Forgetting a tombstone is no change that a
//! reader sees: the name has no value before and after it, and no waiter is woken. A listener that wants to forget it
//! too uses [`super::Set::horizon`]. A tombstone below the horizon that arrives later, and removes an older value, is a
//! change like any other delete, although the set does not keep it.
//!
//! A record may take the place of one that reads the same, with a newer stamp. A listener that reports to readers
//! compares the two itself ([`Record::reads_as`]).
//!
//! The set changes in two places only, and both report: a merge (client writes, copies from an upstream, pushes, both
//! sides of a sync round, snapshots) and the dropping of a copy. What does not change a record reports nothing: a merge
//! that loses, a horizon that moves, and another genesis, which moves records to other positions and keeps them all.
//!
//! The order of changes is the order of the steps under the lock. A shell that passes changes on to a listener does so
//! before it releases the lock, or numbers them there.
//!
//! A change shares the records' memory and copies no data. As long as it is held it keeps the previous record in
//! memory, and [`super::Set::retired_bytes`] may not count that record: a listener counts what it keeps.

use super::message::Call;
use super::name::Name;
use super::record::Record;
use super::saved::DiskTask;
use super::waiters::Due;

/// The effects of one or more steps, in the order of the steps. See the module.
#[derive(Debug)]
pub struct Effects<T> {
    /// Lists of waiters to wake.
    pub due: Due<T>,
    /// Requests to send to peers.
    pub calls: Vec<Call>,
    /// Tasks for the disk of the node. Empty without a saved set.
    pub disk: Vec<DiskTask>,
    /// The changes of the set. Empty unless the store reports changes ([`super::Store::report_changes`]).
    pub changes: Vec<SetChange>,
}

/// One change of the set.
#[derive(Clone, Debug)]
pub enum SetChange {
    /// A record took its place in the set, or is a tombstone below the horizon that removed a value.
    Merged {
        /// The record that stands now.
        record: Record,
        /// The record of the same name that stood before; `None` if the set held none.
        previous: Option<Record>,
    },
    /// The node dropped its copy of a record. This is no delete: the name may have a value elsewhere, and the node
    /// reads it again when it needs it.
    Dropped {
        /// The record that stood before.
        previous: Record,
    },
}

impl SetChange {
    /// The name whose record changed.
    #[must_use]
    pub fn name(&self) -> &Name {
        match self {
            Self::Merged { record, .. } => record.name(),
            Self::Dropped { previous } => previous.name(),
        }
    }
}

impl<T> Default for Effects<T> {
    fn default() -> Self {
        Self { due: Due::new(), calls: Vec::new(), disk: Vec::new(), changes: Vec::new() }
    }
}

impl<T> Effects<T> {
    /// Whether there are no effects.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.due.is_empty() && self.calls.is_empty() && self.disk.is_empty() && self.changes.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::core::genesis::Genesis;
    use crate::core::history::Registers;
    use crate::core::mutants::Mutants;
    use crate::core::push::Batch;
    use crate::core::record::{Dot, Incarnation};
    use crate::core::replayed::{Difference, Replayed};
    use crate::core::stamp::Stamp;
    use crate::core::store::{Change, Stamping, Store};
    use crate::core::sync::{Moment, Next, Round, Snapshot, SnapshotNext, respond};
    use crate::core::testing::{self, at, version};

    const GENESIS: Genesis = Genesis { provisional: false, started: Stamp::ZERO, key: [3; 16], versions: 1 };

    fn name(n: u8) -> Name {
        testing::name(&format!("n{n}"))
    }

    fn moment(micros: u64) -> Moment {
        Moment { now: at(micros), latest_horizon: Stamp::MAX, latest_compaction: Stamp::MAX }
    }

    fn store(incarnation: u64) -> Store<()> {
        Store::simulated(GENESIS, Incarnation(incarnation), 2, Mutants::NONE)
    }

    fn value(n: u8, micros: u64) -> Record {
        let dot = Dot { incarnation: Incarnation(9), sequence: micros };
        Record::value(name(n), &version("v"), b"d", at(micros), dot)
    }

    fn gone(n: u8, micros: u64) -> Record {
        Record::tombstone(name(n), at(micros), Dot { incarnation: Incarnation(9), sequence: micros })
    }

    /// The stamps of the records that changes put in the place of others, and of those others.
    fn stamps(store: &mut Store<()>) -> Vec<(Option<u64>, Option<u64>)> {
        let micros = |record: &Record| record.last_sync().micros();
        let changes = store.take_effects().changes.into_iter().map(|change| match change {
            SetChange::Merged { record, previous } => (Some(micros(&record)), previous.as_ref().map(micros)),
            SetChange::Dropped { previous } => (None, Some(micros(&previous))),
        });
        changes.collect()
    }

    #[test]
    fn each_kind_of_change_is_reported() {
        let mut store = store(1);
        store.report_changes();
        let put = Change::Put { version: &version("v"), data: b"d" };
        store.write(at(5), &name(1), &put, Some(at(5)));
        store.write(at(5), &name(1), &put, Some(at(4)));
        store.write(at(6), &name(1), &Change::Delete, Some(at(6)));
        assert_eq!(
            stamps(&mut store),
            [(Some(5), None), (Some(6), Some(5))],
            "the older write changes nothing"
        );
        store.write(at(6), &name(1), &Change::Delete, Some(at(6)));
        assert_eq!(stamps(&mut store), [], "a retry is the same write");

        let batch = Batch {
            from: Incarnation(9),
            after: 0,
            upto: 2,
            registers: Registers::NONE,
            records: vec![value(1, 7), value(2, 8)],
        };
        store.take(moment(9), &batch);
        store.take(moment(9), &batch);
        assert_eq!(stamps(&mut store), [(Some(7), Some(6)), (Some(8), None)]);

        store.forget_copy(&name(1));
        store.forget_copy(&name(1));
        assert_eq!(stamps(&mut store), [(None, Some(7))]);

        store.merge(&gone(3, 9));
        assert_eq!(stamps(&mut store), [(Some(9), None)]);
        store.adopt(Genesis { key: [4; 16], ..GENESIS });
        assert_eq!(stamps(&mut store), [], "each record stays");
        assert_eq!(store.raise_horizon(at(20), usize::MAX), 1);
        assert_eq!(stamps(&mut store), [], "a forgotten tombstone is no change");

        // a tombstone below the horizon: the set does not keep it, and the value is removed
        store.merge(&gone(2, 15));
        assert!(store.get(&name(2)).is_none());
        assert_eq!(stamps(&mut store), [(Some(15), Some(8))]);
        store.merge(&gone(2, 16));
        assert_eq!(stamps(&mut store), [], "there is nothing to remove");
    }

    #[test]
    fn a_store_without_a_listener_reports_nothing() {
        let mut store = store(1);
        store.merge(&value(1, 5));
        store.merge(&gone(1, 6));
        store.forget_copy(&name(1));
        assert!(store.take_effects().is_empty());
    }

    #[test]
    fn a_replayed_set_detects_changes_that_are_not_reported() {
        let mut store = store(1);
        store.report_changes();
        let mut replayed = Replayed::default();
        let mut follow = |store: &mut Store<()>, keeps: fn(&SetChange) -> bool| {
            let changes = store.take_effects().changes.into_iter().filter(keeps).collect();
            replayed.apply(changes, store.registers())?;
            replayed.check_all(store.set())
        };
        store.merge(&value(1, 5));
        assert_eq!(follow(&mut store, |_| true), Ok(()));
        store.merge(&value(2, 6));
        assert!(follow(&mut store, |_| false).is_err(), "a value");
        store.forget_copy(&name(2));
        assert!(follow(&mut store, |_| true).is_err(), "a value that is dropped, and was not known");
        store.forget_copy(&name(1));
        assert!(follow(&mut store, |_| false).is_err(), "a copy that was dropped");
        store.merge(&gone(1, 7));
        assert!(follow(&mut store, |_| true).is_err(), "and the record that stood before");
    }

    #[derive(Clone, Debug)]
    enum Step {
        /// A client writes at the first or the second node.
        Write {
            second: bool,
            n: u8,
            gone: bool,
            now: u64,
            given: Option<u64>,
            lasts: Option<u64>,
        },
        /// A node deletes what has ended.
        Expire {
            second: bool,
            now: u64,
        },
        /// The first node merges a record of a third one.
        Merge {
            n: u8,
            gone: bool,
            micros: u64,
        },
        /// The second node pushes its writes to the first.
        Push,
        /// The first node starts a round with the second; `budget` bounds requests and answers, in bytes.
        Round {
            budget: u32,
        },
        /// The first node takes `parts` parts of a snapshot of the second.
        Snapshot {
            parts: u8,
            budget: u32,
        },
        /// The first node raises its horizon, and drops at most `at_most` tombstones.
        Raise {
            micros: u64,
            at_most: usize,
        },
        /// The first node lowers its horizon.
        Lower {
            micros: u64,
        },
        Drop {
            n: u8,
            always: bool,
        },
        Adopt {
            second: bool,
            started: u64,
            key: u8,
        },
    }

    fn step() -> impl Strategy<Value = Step> {
        let (n, micros, budget) = (0u8..6, 0u64..60, prop_oneof![Just(0u32), 100u32..2_000]);
        prop_oneof![
            6 => (any::<bool>(), n.clone(), any::<bool>(), micros.clone(), prop::option::of(micros.clone()),
                prop::option::of(0u64..20))
                .prop_map(|(second, n, gone, now, given, lasts)| Step::Write { second, n, gone, now, given, lasts }),
            2 => (any::<bool>(), micros.clone()).prop_map(|(second, now)| Step::Expire { second, now }),
            4 => (n.clone(), any::<bool>(), micros.clone())
                .prop_map(|(n, gone, micros)| Step::Merge { n, gone, micros }),
            1 => Just(Step::Push),
            2 => budget.clone().prop_map(|budget| Step::Round { budget }),
            1 => (1u8..9, budget).prop_map(|(parts, budget)| Step::Snapshot { parts, budget }),
            2 => (micros.clone(), 0usize..4).prop_map(|(micros, at_most)| Step::Raise { micros, at_most }),
            1 => micros.clone().prop_map(|micros| Step::Lower { micros }),
            2 => (n, any::<bool>()).prop_map(|(n, always)| Step::Drop { n, always }),
            1 => (any::<bool>(), micros, any::<u8>())
                .prop_map(|(second, started, key)| Step::Adopt { second, started, key }),
        ]
    }

    /// Two nodes, and the replayed set of each.
    struct Pair {
        nodes: [Store<()>; 2],
        replayed_sets: [Replayed; 2],
    }

    impl Pair {
        fn check(&mut self) -> Result<(), Difference> {
            for (store, replayed) in self.nodes.iter_mut().zip(&mut self.replayed_sets) {
                replayed.apply(store.take_effects().changes, store.registers())?;
                replayed.check_all(store.set())?;
            }
            Ok(())
        }

        fn take(&mut self, step: &Step) -> Result<(), Difference> {
            let at_60 = moment(60);
            let [a, b] = &mut self.nodes;
            match *step {
                Step::Write { second, n, gone, now, given, lasts } => {
                    let version = version(&format!("v{now}"));
                    let put = Change::Put { version: &version, data: b"d" };
                    let change = if gone { Change::Delete } else { put };
                    let at_node = if second { b } else { a };
                    let stamping = Stamping { lasts_us: lasts, ..Stamping::of(given.map(at)) };
                    at_node.write_stamped(at(now), &name(n), &change, stamping);
                }
                Step::Expire { second, now } => {
                    let at_node = if second { b } else { a };
                    for n in 0..6 {
                        at_node.expire(at(now), &name(n));
                    }
                }
                Step::Merge { n, gone: true, micros } => drop(a.merge(&gone(n, micros))),
                Step::Merge { n, gone: false, micros } => drop(a.merge(&value(n, micros))),
                Step::Push => {
                    let batch = b.log().batch(b.set(), b.incarnation(), a.vector().get(b.incarnation()));
                    if let Some(batch) = batch {
                        a.take(moment(60), &batch);
                    }
                }
                Step::Round { budget } => {
                    let mut round = Round::new(a, b.incarnation(), budget, 5);
                    loop {
                        let [a, b] = &mut self.nodes;
                        let answer = respond(b, true, at_60, &round.ask(a));
                        let next = round.answered(a, at_60, 5, answer);
                        self.check()?;
                        if next != Next::Ask {
                            return Ok(());
                        }
                    }
                }
                Step::Snapshot { parts, budget } => {
                    let mut snapshot = Snapshot::new(b.incarnation(), budget);
                    for _ in 0..parts {
                        let [a, b] = &mut self.nodes;
                        let answer = respond(b, true, at_60, &snapshot.ask(a, true));
                        let next = snapshot.answered(a, true, at_60, answer);
                        self.check()?;
                        if next != SnapshotNext::Ask {
                            return Ok(());
                        }
                    }
                }
                Step::Raise { micros, at_most } => drop(a.raise_horizon(at(micros), at_most)),
                Step::Lower { micros } => a.lower_horizon(at(micros)),
                Step::Drop { n, always: true } => a.forget_copy(&name(n)),
                Step::Drop { n, always: false } => a.drop_copy(&name(n)),
                Step::Adopt { second, started, key } => {
                    let at_node = if second { b } else { a };
                    at_node.adopt(Genesis {
                        provisional: false,
                        started: at(started),
                        key: [key; 16],
                        versions: 1,
                    });
                }
            }
            Ok(())
        }
    }

    proptest! {
        /// After any steps: the changes of each step lead from the set before it to the set after it.
        #[test]
        fn the_changes_give_the_set(steps in prop::collection::vec(step(), 0..80)) {
            let new = |incarnation| {
                let mut store = store(incarnation).holding_at_most(700);
                store.report_changes();
                store
            };
            let mut pair = Pair { nodes: [new(1), new(2)], replayed_sets: Default::default() };
            for step in &steps {
                prop_assert_eq!(pair.take(step).and_then(|()| pair.check()), Ok(()), "{:?}", step);
            }
        }
    }
}
