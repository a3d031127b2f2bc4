use super::*;
use crate::core::condition::KnownVersion;
use crate::core::feed::Scope;
use crate::core::testing::{at, name, version};

const GENESIS: Genesis = Genesis { provisional: false, started: Stamp::ZERO, key: [3; 16], versions: 1 };

fn moment(micros: u64) -> Moment {
    Moment { now: at(micros), latest_horizon: Stamp::MAX, latest_compaction: Stamp::MAX }
}

fn store() -> Store<u32> {
    Store::new(GENESIS, Incarnation(1), usize::MAX)
}

fn put(store: &mut Store<u32>, now: u64, v: &str, given: Option<u64>) -> Written {
    let version = version(v);
    store.write(at(now), &name("n"), &Change::Put { version: &version, data: b"d" }, given.map(at))
}

fn delete(store: &mut Store<u32>, now: u64, given: Option<u64>) -> Written {
    store.write(at(now), &name("n"), &Change::Delete, given.map(at))
}

fn done(written: Written) -> Record {
    match written {
        Written::Done { current } => current,
        other => panic!("not done: {other:?}"),
    }
}

/// The number of waiters that are due since the last call.
fn due(store: &mut Store<u32>) -> usize {
    store.take_effects().due.iter().map(Vec::len).sum()
}

#[test]
fn a_write_without_a_stamp_supersedes_what_the_node_has_seen() {
    let mut store = store();
    done(put(&mut store, 10, "ahead", Some(1_000)));
    let current = done(put(&mut store, 20, "b", None));
    assert_eq!((current.version(), current.last_sync()), ("b", at(1_001)));
    let current = done(delete(&mut store, 20, None));
    assert_eq!((current.kind(), current.last_sync()), (Kind::Tombstone, at(1_002)));
}

/// Without the rule, a set that a clock an hour ahead began would give each name a stamp an hour ahead.
#[test]
fn the_first_write_dates_a_set_back_that_began_in_the_future() {
    const HOUR: u64 = 3_600_000_000;
    let genesis = Genesis { started: at(HOUR), ..GENESIS };
    let mut store: Store<u32> = Store::new(genesis, Incarnation(1), usize::MAX);
    done(put(&mut store, 10, "a", Some(5)));
    assert_eq!(store.genesis(), genesis, "the stamp of a client is no sign of our clock");
    let current = done(put(&mut store, 20, "b", None));
    assert_eq!((current.last_sync(), store.genesis().started), (at(21), at(20)));
    // a difference between the clocks of two nodes is none
    let genesis = Genesis { started: at(HOUR), ..GENESIS };
    let mut store: Store<u32> = Store::new(genesis, Incarnation(1), usize::MAX);
    let current = done(put(&mut store, HOUR - MAX_STAMP_LEAD_US + 1, "b", None));
    assert_eq!((current.last_sync(), store.genesis()), (at(HOUR + 1), genesis));
}

#[test]
fn a_retry_is_harmless_and_an_older_write_loses() {
    let mut store = store();
    done(put(&mut store, 10, "a", Some(100)));
    let current = done(put(&mut store, 10, "a", Some(50)));
    assert_eq!(current.last_sync(), at(100), "it stands already, with a newer stamp");
    assert!(
        matches!(put(&mut store, 10, "b", Some(50)), Written::Lost { current } if current.version() == "a")
    );
    assert!(matches!(delete(&mut store, 10, Some(50)), Written::Lost { .. }));
    done(delete(&mut store, 10, Some(200)));
    let current = done(delete(&mut store, 10, Some(150)));
    assert_eq!(current.last_sync(), at(200), "deleted already, later");
    assert!(matches!(put(&mut store, 10, "b", Some(150)), Written::Lost { .. }));
}

/// A reader of an expected name waits for the upstream's answer, whatever the set holds, and then reads again with
/// the same condition.
#[test]
fn a_reader_waits_for_an_expected_name_and_keeps_its_condition() {
    let mut store = store();
    done(put(&mut store, 10, "a", Some(100)));
    store.expect(&name("n"));
    let knows_a = Condition { known: KnownVersion::AnyOf(vec![version("a")]), at_least: None };
    for condition in [knows_a.clone(), Condition { known: KnownVersion::Unspecified, at_least: None }] {
        let read = store.read(at(1), &name("n"), &condition, Some(|| 7));
        let Read::Parked { interest, held, .. } = read else { panic!("{read:?}") };
        assert_eq!(interest, Interest::Upstream);
        assert_eq!(condition.clone().after_waiting(interest, held.as_ref()), condition);
    }
    let in_a_hurry = store.read(at(1), &name("n"), &knows_a, None::<fn() -> u32>);
    assert!(matches!(in_a_hurry, Read::Answer(Some(held)) if held.version() == "a"));
    store.end_expectation(&name("n"));
    assert_eq!(due(&mut store), 2);
    store.end_expectation(&name("n"));
    assert_eq!((due(&mut store), store.expected()), (0, 0));
    assert!(matches!(
        store.read(at(1), &name("n"), &knows_a, Some(|| 7)),
        Read::Parked { interest: Interest::Changed, .. }
    ));
}

#[test]
fn a_version_that_stands_keeps_its_data() {
    let mut store = store();
    done(put(&mut store, 10, "a", Some(100)));
    let asked = |store: &Store<u32>, v: &str, data: &[u8]| {
        let version = version(v);
        store.contradiction(&name("n"), &Change::Put { version: &version, data }).is_some()
    };
    assert!(asked(&store, "a", b"other") && asked(&store, "a", b""), "whatever the stamp");
    assert!(!asked(&store, "a", b"d"), "a retry");
    assert!(!asked(&store, "b", b"other"), "another version");
    assert!(store.contradiction(&name("n"), &Change::Delete).is_none());
    done(delete(&mut store, 10, Some(200)));
    assert!(!asked(&store, "a", b"other"), "deleted");
}

#[test]
fn dots_have_no_holes() {
    let mut store = store();
    assert_eq!(done(put(&mut store, 10, "a", Some(100))).dot().sequence, 1);
    assert!(matches!(put(&mut store, 10, "b", Some(50)), Written::Lost { .. }));
    assert_eq!(done(put(&mut store, 10, "c", None)).dot().sequence, 2);
}

#[test]
fn a_full_set_accepts_writes_that_do_not_grow_it() {
    let first = Record::value(name("n"), &version("a"), b"d", at(1), Dot::default());
    let mut store: Store<u32> = Store::new(GENESIS, Incarnation(1), first.cost());
    done(put(&mut store, 1, "a", None));
    assert!(matches!(put(&mut store, 2, "longer", None), Written::Full { .. }));
    assert_eq!(store.get(&name("n")).unwrap().version(), "a", "nothing changed");
    done(put(&mut store, 3, "b", None));
    assert!(matches!(store.write(at(4), &name("m"), &Change::Delete, None), Written::Full { .. }));
    done(delete(&mut store, 5, None));
}

#[test]
fn a_record_that_only_the_log_holds_is_not_retired_memory() {
    let genesis = Genesis { versions: 2, ..GENESIS };
    let mut store: Store<u32> = Store::new(genesis, Incarnation(1), usize::MAX);
    done(put(&mut store, 1, "a", None));
    let answer = store.get(&name("n"));
    let cost = answer.as_ref().map_or(0, Record::cost);
    for micros in 2..9 {
        done(put(&mut store, micros, "v", None));
    }
    assert_eq!(store.set().retired_bytes(), cost, "of those that the set does not keep, an answer holds one");
    drop(answer);
    store.release_retired(usize::MAX);
    assert_eq!(store.set().retired_bytes(), 0);
    let (batch, all) = (store.log().batch(store.set(), store.incarnation(), 0), store.log().sequence());
    assert_eq!(batch.map(|batch| batch.records.len()), Some(8), "the log has each of them");
    store.forget_writes(all);
    assert_eq!(store.set().retired_bytes(), 0);
}

#[test]
fn older_records_make_room_in_a_full_set() {
    const MINUTE: u64 = 60_000_000;
    let cost = Record::value(name("n"), &version("a"), b"d", at(1), Dot::default()).cost();
    let full = |lag_us| {
        let genesis = Genesis { versions: 8, ..GENESIS };
        let mut store: Store<u32> = Store::new(genesis, Incarnation(1), 5 * cost).compacting_behind(lag_us);
        for minute in 1..=5 {
            done(put(&mut store, minute * MINUTE, "v", None));
        }
        assert_eq!((store.set().bytes(), store.set().older_bytes()), (5 * cost, 4 * cost));
        store
    };
    let change = Change::Put { version: &version("a"), data: b"d" };
    let mut store = full(MINUTE);
    done(store.write(at(9 * MINUTE), &name("m"), &change, None));
    assert_eq!(store.set().compaction_horizon(), at(2 * MINUTE), "no more than it needs");
    assert_eq!(store.set().history(&name("n")).len(), 4);
    assert!(store.settle(usize::MAX));
    assert_eq!(store.set().bytes(), 5 * cost);
    // a horizon may not come too close: then there is a quarter more
    for lag_us in [8 * MINUTE, u64::MAX] {
        let mut store = full(lag_us);
        done(store.write(at(9 * MINUTE), &name("m"), &change, None));
        assert_eq!((store.set().compaction_horizon(), store.set().bytes()), (Stamp::ZERO, 6 * cost));
        let written = store.write(at(9 * MINUTE), &name("l"), &change, None);
        assert!(matches!(written, Written::Full { .. }), "{written:?}");
    }
}

#[test]
fn a_full_set_with_young_histories_accepts_what_replaces_or_deletes() {
    let data = [b'd'; 1000];
    let cost = Record::value(name("n"), &version("a"), &data, at(1), Dot::default()).cost();
    let genesis = Genesis { versions: 8, ..GENESIS };
    let mut store: Store<u32> = Store::new(genesis, Incarnation(1), 20 * cost).compacting_behind(u64::MAX);
    let put = |store: &mut Store<u32>, of: &str, v: &str| {
        store.write(at(1), &name(of), &Change::Put { version: &version(v), data: &data }, None)
    };
    for of in ('a'..='t').map(String::from) {
        done(put(&mut store, &of, "v"));
    }
    assert!(matches!(put(&mut store, "z", "v"), Written::Full { .. }));
    done(put(&mut store, "a", "w"));
    done(store.write(at(2), &name("a"), &Change::Delete, None));
    done(store.write(at(2), &name("b"), &Change::Delete, None));
    done(put(&mut store, "z", "v"));
    // its memory has a bound all the same
    let is_full = |v: char| matches!(put(&mut store, "c", &v.to_string()), Written::Full { .. });
    assert!(('0'..='9').any(is_full));
    assert!(store.set().bytes() <= 25 * cost, "{}", store.set().bytes());
}

fn put_in(store: &mut Store<u32>, namespace: &str, text: &str, data: &[u8]) -> Written {
    let name = Namespace::new(namespace.as_bytes()).unwrap().key(text.as_bytes(), 9).unwrap();
    store.write(at(1), &name, &Change::Put { version: &version("v"), data }, None)
}

#[test]
fn namespaces_have_limits() {
    let limits = NamespaceLimits { namespaces: 2, bytes: 1_000 };
    let mut store = Store::new(Genesis { versions: 8, ..GENESIS }, Incarnation(1), usize::MAX);
    store.limit_namespaces(limits);
    done(put_in(&mut store, "a", "n", b""));
    done(put_in(&mut store, ".own", "n", b""));
    done(put_in(&mut store, "b", "n", b""));
    assert!(matches!(put_in(&mut store, "c", "n", b""), Written::TooManyNamespaces { limit: 2 }));
    done(put(&mut store, 1, "plain", None));
    assert!(matches!(put_in(&mut store, "a", "m", &[0; 800]), Written::NamespaceFull { limit: 1_000, .. }));
    done(put_in(&mut store, "a", "m", &[0; 500]));
    assert!(matches!(put_in(&mut store, "a", "l", &[0; 200]), Written::NamespaceFull { .. }));
    // older records do not count
    for size in (300..=500).rev() {
        done(put_in(&mut store, "a", "m", &vec![0; size]));
    }
    let name = Namespace::new(b"a").unwrap().key(b"m", 9).unwrap();
    done(store.write(at(2), &name, &Change::Delete, None));
    done(put_in(&mut store, "a", "l", &[0; 200]));
    // a peer's records are taken in any case
    let name = Namespace::new(b"c").unwrap().key(b"m", 9).unwrap();
    store.merge(&Record::value(name, &version("v"), &[0; 2_000], at(1), Dot::default()));
    assert_eq!(store.set().namespaces(), 3);
}

#[test]
fn readers_of_a_name_that_leaves_a_log_are_woken() {
    let mut store = store();
    store.report_changes();
    let current = done(put_in(&mut store, "log.a", "n", b""));
    let knows = Condition { known: KnownVersion::Current, at_least: None };
    assert!(matches!(store.read(at(1), current.name(), &knows, Some(|| 7)), Read::Parked { .. }));
    store.raise_compaction_horizon(at(1_000));
    assert!(store.get(current.name()).is_none() && due(&mut store) == 0);
    assert!(store.settle(usize::MAX));
    let Effects { due, changes, .. } = store.take_effects();
    assert_eq!((due.len(), store.waiters().names()), (1, 0));
    assert!(matches!(&changes[..], [SetChange::Dropped { .. }]));
    let change = Change::Put { version: &version("v"), data: b"" };
    let late = store.write(at(2_000), current.name(), &change, Some(at(999)));
    assert!(matches!(late, Written::TooOld { oldest } if oldest == at(1_000)), "it would be gone at once");
    done(store.write(at(2_000), current.name(), &change, Some(at(1_000))));
}

#[test]
fn a_log_makes_room_in_a_full_set() {
    const MINUTE: u64 = 60_000_000;
    let event = |store: &mut Store<u32>, minute: u64, lag: u64| {
        let name = Namespace::new(b"log.a").unwrap().key(format!("{minute:04}").as_bytes(), 9).unwrap();
        store.compaction_lag_us = lag;
        store.write(at(minute * MINUTE), &name, &Change::Put { version: &version("v"), data: b"" }, None)
    };
    let mut store: Store<u32> = Store::new(GENESIS, Incarnation(1), usize::MAX);
    let cost = done(event(&mut store, 1, MINUTE)).cost();
    store.max_set_bytes = 5 * cost;
    (2..=5).for_each(|minute| drop(done(event(&mut store, minute, MINUTE))));
    assert!(matches!(event(&mut store, 6, u64::MAX), Written::Full { .. }), "all are too young");
    done(event(&mut store, 7, MINUTE));
    assert_eq!(store.set().compaction_horizon(), at(2 * MINUTE));
    assert!(store.settle(usize::MAX));
    assert_eq!((store.set().values(), store.set().bytes()), (5, 5 * cost));
}

#[test]
fn a_copy_without_waiters_is_dropped_if_room_is_scarce() {
    let record = Record::value(name("n"), &version("a"), b"d", at(1), Dot::default());
    for (most, drops) in [(record.cost(), true), (3 * record.cost(), false)] {
        let mut store: Store<u32> = Store::new(GENESIS, Incarnation(1), most);
        done(put(&mut store, 1, "a", None));
        store.drop_copy(&name("n"));
        assert_eq!(store.get(&name("n")).is_none(), drops, "{most} bytes");
    }
    let mut store: Store<u32> = Store::new(GENESIS, Incarnation(1), record.cost());
    done(put(&mut store, 1, "a", None));
    let knows = Condition { known: KnownVersion::Current, at_least: None };
    assert!(matches!(store.read(at(1), &name("n"), &knows, Some(|| 7)), Read::Parked { .. }));
    store.drop_copy(&name("n"));
    assert!(store.get(&name("n")).is_some(), "a reader waits for it");
}

#[test]
fn a_delete_that_would_soon_be_forgotten_is_rejected() {
    let mut store = store().with_grace(1_000);
    assert!(matches!(
        delete(&mut store, 10_000, Some(9_499)),
        Written::TooOld { oldest } if oldest == at(9_500)
    ));
    done(put(&mut store, 10_000, "a", Some(9_000)));
    done(delete(&mut store, 10_000, Some(9_500)));
}

#[test]
fn a_delete_below_the_horizon_is_rejected() {
    let mut store = store();
    store.raise_horizon(at(1_000), usize::MAX);
    assert!(matches!(delete(&mut store, 2_000, Some(999)), Written::TooOld { .. }));
    done(put(&mut store, 2_000, "a", None));
    assert!(matches!(delete(&mut store, 2_000, Some(999)), Written::Lost { .. }), "newer stands");
    done(delete(&mut store, 3_000, None));
    done(delete(&mut store, 3_000, Some(999)));
}

#[test]
fn a_batch_that_claims_too_much_moves_no_vector() {
    let mut store = store();
    let (from, registers) = (Incarnation(2), store.registers());
    let dot = Dot { incarnation: from, sequence: 1 };
    let record = Record::value(name("n"), &version("a"), b"", at(5), dot);
    for (after, upto, records) in [
        (1, 1, vec![]),
        (2, 1, vec![]),
        (0, u64::MAX, vec![record.clone()]),
        (0, MAX_BATCH_DOTS + 1, vec![]),
        (0, 1, vec![record.clone(), record.clone(), record.clone()]),
    ] {
        let ack = store.take(moment(9), &Batch { from, after, upto, registers, records });
        assert_eq!(ack.have, 0, "{after} to {upto}");
    }
    let held = store.get(&name("n"));
    assert!(held.is_some_and(|held| held.order(&record).is_eq()), "the record itself is merged");
    let ack = store.take(moment(9), &Batch { from, after: 0, upto: 1, registers, records: vec![record] });
    assert_eq!(ack.have, 1);
}

#[test]
fn a_reader_parks_on_what_it_knows_and_is_due_at_the_next_write() {
    let mut store = store();
    done(put(&mut store, 10, "a", None));
    let knows = Condition { known: KnownVersion::AnyOf(vec![version("a")]), at_least: None };
    assert!(matches!(store.read(at(1), &name("n"), &knows, None::<fn() -> u32>), Read::Answer(Some(_))));
    assert!(matches!(store.read(at(1), &name("n"), &knows, Some(|| 7)), Read::Parked { .. }));
    done(put(&mut store, 11, "a", None));
    assert_eq!(due(&mut store), 0, "a new stamp wakes no reader");
    done(put(&mut store, 12, "b", None));
    assert_eq!(due(&mut store), 1);
    assert!(
        matches!(store.read(at(1), &name("n"), &knows, Some(|| 8)), Read::Answer(Some(r)) if r.version() == "b")
    );
}

#[test]
fn a_reader_of_a_feed_is_due_at_a_change_in_its_scope() {
    let mut store = store();
    store.keep_changes();
    store.limit_waiters(WaiterLimits { total: 2, per_name: 9 });
    let scope = Scope::new(&Namespace::PLAIN, [], [&b"n"[..]]);
    let other = Scope::new(&Namespace::PLAIN, [&b"m"[..]], []);
    let Parking::Parked(ticket) = store.park_feed(&scope, &7) else { panic!("there is room") };
    assert!(matches!(store.park_feed(&other, &8), Parking::Parked(_)));
    let full = LimitReached::Total(2);
    assert_eq!(store.park_feed(&scope, &9), Parking::LimitReached(full));
    let knows = Condition { known: KnownVersion::Absence, at_least: None };
    assert!(
        matches!(store.read(at(1), &name("x"), &knows, Some(|| 9)), Read::LimitReached(limit) if limit == full)
    );
    done(put(&mut store, 10, "a", None));
    assert_eq!((due(&mut store), store.parked_feeds()), (1, 2));
    store.leave_feed(ticket);
    assert!(matches!(store.park_feed(&scope, &7), Parking::Parked(_)));
    store.adopt(Genesis { key: [4; 16], ..GENESIS });
    assert_eq!(due(&mut store), 2, "they cannot follow over it");
    assert_eq!(store.drain().len(), 0, "none is parked");
    assert_eq!(store.park_feed(&scope, &7), Parking::Draining);
}

#[test]
fn a_draining_store_answers_and_parks_no_readers() {
    let mut store = store();
    done(put(&mut store, 10, "a", None));
    let knows = Condition { known: KnownVersion::Current, at_least: None };
    assert!(matches!(store.read(at(1), &name("n"), &knows, Some(|| 7)), Read::Parked { .. }));
    store.keep_changes();
    assert!(matches!(store.park_feed(&Scope::all(), &8), Parking::Parked(_)));
    let readers = |due: Due<u32>| due.concat().into_iter().map(|(_, reader)| reader).collect::<Vec<_>>();
    assert_eq!(readers(store.drain()), [8], "of feeds");
    assert_eq!(readers(store.take_effects().due), [7]);
    assert!(matches!(store.read(at(1), &name("n"), &knows, Some(|| 8)), Read::Draining));
    let unspecified = Condition { known: KnownVersion::Unspecified, at_least: None };
    assert!(matches!(store.read(at(1), &name("n"), &unspecified, Some(|| 9)), Read::Answer(Some(_))));
}
