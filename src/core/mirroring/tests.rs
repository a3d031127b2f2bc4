use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use proptest::prelude::*;

use super::*;
use crate::core::feed::{Budget, Changed, Compacted, Cursor, Event, Feed, Scope, Start, Subscription};
use crate::core::mutants::Mutants;
use crate::core::set::Cell;
use crate::core::store::{Change, Parking};
use crate::core::testing::{at, name, version};
use crate::core::{Dot, Genesis, Kind};

const GENESIS: Genesis = Genesis { provisional: false, started: Stamp::ZERO, key: [3; 16], versions: 8 };

fn leader(incarnation: u64, key: u8) -> Store<u8> {
    let genesis = Genesis { key: [key; 16], ..GENESIS };
    let mut store = Store::simulated(genesis, Incarnation(incarnation), 2, Mutants::NONE);
    store.keep_changes();
    store
}

/// The store of a mirror, with a key of its own.
fn store() -> Store<u8> {
    leader(99, 9)
}

fn put(store: &mut Store<u8>, text: &str, micros: u64) {
    let version = version(&format!("v{micros}"));
    store.write(at(micros), &name(text), &Change::Put { version: &version, data: b"d" }, Some(at(micros)));
}

fn delete(store: &mut Store<u8>, text: &str, micros: u64) {
    store.write(at(micros), &name(text), &Change::Delete, Some(at(micros)));
}

/// What a mirror is told of an event.
fn told(event: Event) -> Told {
    match event {
        Event::Reset(_) => Told::Reset,
        Event::Changed(Changed { record, .. }) => Told::Record(record),
        Event::Synced => Told::Synced,
        Event::Compacted(Compacted::Dots(ranges)) => Told::Gap(ranges),
        Event::Compacted(_) => Told::Lost,
        Event::Ahead { .. } => Told::Ahead,
    }
}

/// A mirror, and the cursor with which it goes on.
struct Mirrored {
    store: Store<u8>,
    mirroring: Mirroring,
    cursor: Option<Cursor>,
    /// How often it began again.
    again: usize,
}

impl Mirrored {
    fn new() -> Self {
        let store = store();
        Self { mirroring: Mirroring::begin(&store), store, cursor: None, again: 0 }
    }

    fn open(&self, leader: &Store<u8>, reflected: Stamp) -> Feed {
        let start = match &self.cursor {
            None => Start::Oldest,
            Some(cursor) if Feed::ahead_by(leader, cursor) > 0 => Start::Ahead(cursor),
            Some(cursor) => Start::Cursor(cursor),
        };
        let subscription = Subscription { dots: true, ..Subscription::all(Scope::all()) };
        Feed::open(leader, reflected, Arc::new(subscription), start)
    }

    /// Takes at most so many parts of a leader. Returns whether it has all.
    fn follow(&mut self, leader: &Store<u8>, reflected: Stamp, names: usize, parts: usize) -> bool {
        let mut feed = self.open(leader, reflected);
        for _ in 0..parts {
            let slice = feed.next(leader, reflected, Budget { names, bytes: usize::MAX });
            let cursor = feed.cursor(leader);
            let tail = Tail {
                set: cursor.set,
                vector: cursor.vector.clone(),
                reflected: cursor.reflected,
                registers: leader.registers(),
            };
            let mut events: VecDeque<Told> = slice.events.into_iter().map(told).collect();
            let step = loop {
                match self.mirroring.apply(&mut self.store, at(1), &mut events, &tail) {
                    Step::More => {}
                    step => break step,
                }
            };
            if step == Step::BeginAgain {
                (self.cursor, self.again) = (None, self.again + 1);
                self.mirroring = Mirroring::begin(&self.store);
                feed = self.open(leader, reflected);
                continue;
            }
            self.cursor = Some(cursor);
            if !slice.more && self.mirroring.is_complete() {
                return true;
            }
        }
        false
    }

    fn follow_to_the_end(&mut self, leader: &Store<u8>, reflected: Stamp) {
        assert!(self.follow(leader, reflected, 3, 200), "the end is reached");
    }
}

/// All records that are kept, by name.
fn kept(store: &Store<u8>) -> Vec<(String, Vec<(u64, Kind)>)> {
    let names = store.set().names_from(b"", None, |_| true);
    let of = |name: &Name| store.set().history(name).iter().map(Cell::record).cloned().collect::<Vec<_>>();
    names
        .map(|name| {
            let records =
                of(name).iter().map(|record| (record.last_sync().micros(), record.kind())).collect();
            (name.as_str().to_owned(), records)
        })
        .collect()
}

/// What a reader of the newest states is told after a cursor.
fn after(store: &Store<u8>, cursor: &Cursor, subscription: Subscription) -> Vec<String> {
    let mut feed = Feed::open(store, Stamp::ZERO, Arc::new(subscription), Start::Cursor(cursor));
    let mut all = Vec::new();
    loop {
        let slice = feed.next(store, Stamp::ZERO, Budget { names: 100, bytes: usize::MAX });
        all.extend(slice.events.into_iter().map(|event| format!("{:?}", told(event))));
        if !slice.more {
            return all;
        }
    }
}

/// The names with a value, each with its stamp.
fn values(store: &Store<u8>) -> Vec<(String, u64)> {
    let current = |(name, records): (String, Vec<(u64, Kind)>)| Some((name, *records.last()?));
    let all = kept(store).into_iter().filter_map(current);
    all.filter(|(_, (_, kind))| *kind == Kind::Value).map(|(name, (micros, _))| (name, micros)).collect()
}

#[test]
fn a_cursor_of_the_leader_is_good_at_the_mirror_and_back() {
    for subscription in [Subscription::latest(Scope::all()), Subscription::all(Scope::all())] {
        let mut leader = leader(1, 1);
        let mut mirror = Mirrored::new();
        put(&mut leader, "a", 1);
        put(&mut leader, "b", 2);
        delete(&mut leader, "a", 3);
        mirror.follow_to_the_end(&leader, Stamp::ZERO);
        let at_end = |store: &Store<u8>| {
            let mut feed = Feed::open(store, Stamp::ZERO, Arc::new(subscription.clone()), Start::Now);
            feed.next(store, Stamp::ZERO, Budget { names: 1, bytes: 1 });
            feed.cursor(store)
        };
        let (of_leader, of_mirror) = (at_end(&leader), at_end(&mirror.store));
        assert_eq!((of_leader.set, &of_leader.vector), (of_mirror.set, &of_mirror.vector));
        put(&mut leader, "b", 4);
        put(&mut leader, "c", 5);
        delete(&mut leader, "c", 6);
        mirror.follow_to_the_end(&leader, Stamp::ZERO);
        let expected = after(&leader, &of_leader, subscription.clone());
        assert!(expected.len() >= 2, "{expected:?}");
        for (store, cursor) in
            [(&leader, &of_mirror), (&mirror.store, &of_leader), (&mirror.store, &of_mirror)]
        {
            let mut told = after(store, cursor, subscription.clone());
            told.sort();
            let mut expected = expected.clone();
            expected.sort();
            assert_eq!(told, expected);
        }
    }
}

/// A mirror that was away while a delete was forgotten begins again, and drops the name.
#[test]
fn a_name_whose_delete_is_forgotten_is_dropped() {
    let mut leader = leader(1, 1);
    let mut mirror = Mirrored::new();
    ["a", "b", "c"].iter().zip(1..).for_each(|(text, micros)| put(&mut leader, text, micros));
    mirror.follow_to_the_end(&leader, at(3));
    let waits = mirror.store.park_feed(&Scope::all(), &7);
    assert!(matches!(waits, Parking::Parked(_)));
    drop(mirror.store.take_effects());
    delete(&mut leader, "b", 10);
    leader.raise_horizon(at(20), 100);
    leader.clear_changes();
    put(&mut leader, "d", 30);
    mirror.follow_to_the_end(&leader, at(20));
    assert_eq!(mirror.again, 1);
    assert_eq!(kept(&mirror.store), kept(&leader));
    assert!(mirror.store.get(&name("b")).is_none() && mirror.store.set().horizon() == at(20));
    assert!(!mirror.store.take_effects().due.is_empty(), "its readers look again");
    // one that was told the name before has to drop it too
    let before = Cursor {
        set: mirror.store.set_id(),
        subscription: Subscription::latest(Scope::all()).hash(),
        vector: Vector::default(),
        reflected: at(3),
        at: None,
        scan: None,
    };
    let told = after(&mirror.store, &before, Subscription::latest(Scope::all()));
    assert!(told.iter().any(|told| told == "Reset"), "{told:?}");
}

/// A leader that has not received a write yet does not take it from the mirror.
#[test]
fn what_another_leader_lacks_stays() {
    let (mut first, second) = (leader(1, 1), leader(2, 1));
    let mut mirror = Mirrored::new();
    put(&mut first, "a", 1);
    mirror.follow_to_the_end(&first, Stamp::ZERO);
    let vector = mirror.store.vector().clone();
    // with its cursor, and with an empty view
    mirror.follow_to_the_end(&second, Stamp::ZERO);
    assert_eq!((kept(&mirror.store), mirror.store.vector()), (kept(&first), &vector));
    (mirror.cursor, mirror.mirroring) = (None, Mirroring::begin(&mirror.store));
    mirror.follow_to_the_end(&second, Stamp::ZERO);
    assert_eq!((kept(&mirror.store), mirror.store.vector()), (kept(&first), &vector));
}

/// A leader may have left a process out of its vector whose writes all lie below the horizon: what it does not have of
/// them is gone. Above the horizon it may be behind.
#[test]
fn what_a_leader_no_longer_claims_is_dropped_below_the_horizon() {
    let (mut first, mut second) = (leader(1, 1), leader(2, 1));
    let mut mirror = Mirrored::new();
    put(&mut first, "gone", 1);
    put(&mut first, "new", 30);
    mirror.follow_to_the_end(&first, Stamp::ZERO);
    put(&mut second, "b", 2);
    second.raise_horizon(at(20), 100);
    (mirror.cursor, mirror.mirroring) = (None, Mirroring::begin(&mirror.store));
    mirror.follow_to_the_end(&second, at(20));
    let names: Vec<String> = kept(&mirror.store).into_iter().map(|(name, _)| name).collect();
    assert_eq!(names.iter().collect::<BTreeSet<_>>(), BTreeSet::from([&"b".to_owned(), &"new".to_owned()]));
}

/// Another set takes the place of the first one, name by name, and readers keep the rest until it is complete.
#[test]
fn another_set_replaces_the_first_one() {
    let mut first = leader(1, 1);
    let mut mirror = Mirrored::new();
    for text in ["a", "b", "c"] {
        put(&mut first, text, 100);
        put(&mut first, text, 101);
    }
    mirror.follow_to_the_end(&first, Stamp::ZERO);
    let (before, cursor) = (mirror.store.set_id(), mirror.cursor.clone().unwrap());
    let mut second = leader(2, 2);
    // older by its stamp, and all the same the present one
    put(&mut second, "b", 50);
    put(&mut second, "d", 51);
    assert!(!mirror.follow(&second, Stamp::ZERO, 1, 1), "a part");
    assert_eq!(mirror.store.get(&name("a")).unwrap().last_sync(), at(101));
    assert_eq!(mirror.store.set_id(), before);
    mirror.follow_to_the_end(&second, Stamp::ZERO);
    assert_eq!(kept(&mirror.store), kept(&second));
    assert_eq!((mirror.store.set_id(), mirror.store.vector()), (second.set_id(), second.vector()));
    let told = after(&mirror.store, &cursor, Subscription::all(Scope::all()));
    assert_eq!(told[0], "Reset");
}

#[test]
fn a_new_mirror_claims_nothing_until_it_is_complete() {
    let mut leader = leader(1, 1);
    (1..9).for_each(|micros| put(&mut leader, &format!("n{micros}"), micros));
    let mut mirror = Mirrored::new();
    while !mirror.follow(&leader, Stamp::ZERO, 1, 1) {
        assert_eq!((mirror.store.vector().len(), mirror.store.mirrored_set()), (0, None));
    }
    assert_eq!(
        (mirror.store.vector(), mirror.store.mirrored_set()),
        (leader.vector(), Some(leader.set_id()))
    );
}

/// The depth is that of the set.
#[test]
fn a_mirror_keeps_as_many_versions_as_its_leader() {
    let genesis = Genesis { versions: 3, ..GENESIS };
    let mut leader: Store<u8> = Store::simulated(genesis, Incarnation(1), 2, Mutants::NONE);
    leader.keep_changes();
    let mut mirror = Mirrored::new();
    (1..9).for_each(|micros| put(&mut leader, "n", micros));
    mirror.follow_to_the_end(&leader, Stamp::ZERO);
    (9..12).for_each(|micros| put(&mut leader, "n", micros));
    mirror.follow_to_the_end(&leader, Stamp::ZERO);
    assert_eq!(mirror.store.set().depth(), leader.set().depth());
    assert_eq!(kept(&mirror.store), kept(&leader));
}

/// A mirror is in the middle of its leader's changes, and has dropped one again. A reader begins, and is not told it.
#[test]
fn what_came_and_went_before_it_was_claimed_is_a_gap() {
    let genesis = Genesis { versions: 2, ..GENESIS };
    let mut leader: Store<u8> = Store::simulated(genesis, Incarnation(1), 2, Mutants::NONE);
    leader.keep_changes();
    let mut mirror = Mirrored::new();
    put(&mut leader, "m", 1);
    mirror.follow_to_the_end(&leader, Stamp::ZERO);
    (2..5).for_each(|micros| put(&mut leader, "n", micros));
    put(&mut leader, "x", 5);
    assert!(!mirror.follow(&leader, Stamp::ZERO, 1, 3), "all but the last one");
    let subscription = Arc::new(Subscription::all(Scope::all()));
    let mut feed = Feed::open(&mirror.store, Stamp::ZERO, subscription, Start::Oldest);
    let budget = Budget { names: 100, bytes: usize::MAX };
    let mut told = Vec::new();
    let mut take = |mirror: &Mirrored| loop {
        let slice = feed.next(&mirror.store, Stamp::ZERO, budget);
        told.extend(slice.events);
        if !slice.more {
            break feed.cursor(&mirror.store).vector;
        }
    };
    assert!(!take(&mirror).claims(Dot { incarnation: Incarnation(1), sequence: 2 }));
    mirror.follow_to_the_end(&leader, Stamp::ZERO);
    assert!(take(&mirror).claims(Dot { incarnation: Incarnation(1), sequence: 5 }));
    let gaps: Vec<&Event> = told.iter().filter(|event| matches!(event, Event::Compacted(_))).collect();
    assert!(
        matches!(&gaps[..], [Event::Compacted(Compacted::Names(names))] if *names == [name("n")]),
        "{told:?}"
    );
}

/// The same with more writes than a mirror remembers: then any may be missing, and that is said where they are claimed.
#[test]
fn more_than_is_remembered_is_a_gap_of_unknown_names() {
    let mut leader = leader(1, 1);
    let mut mirror = Mirrored::new();
    put(&mut leader, "m", 1);
    mirror.follow_to_the_end(&leader, Stamp::ZERO);
    let writes = MAX_UNCLAIMED as u64 + 4_000;
    (2..writes).for_each(|micros| put(&mut leader, "n", micros));
    assert!(!mirror.follow(&leader, Stamp::ZERO, 6_000, 3), "it is in the middle of them");
    let subscription = Arc::new(Subscription::all(Scope::all()));
    let mut feed = Feed::open(&mirror.store, Stamp::ZERO, subscription, Start::Oldest);
    let budget = Budget { names: 100_000, bytes: usize::MAX };
    while feed.next(&mirror.store, Stamp::ZERO, budget).more {}
    assert!(mirror.follow(&leader, Stamp::ZERO, 6_000, 10));
    let mut told = Vec::new();
    loop {
        let slice = feed.next(&mirror.store, Stamp::ZERO, budget);
        told.extend(slice.events);
        if !slice.more {
            break;
        }
    }
    let is_unknown = |event: &Event| matches!(event, Event::Compacted(Compacted::Unknown));
    assert_eq!(told.iter().filter(|event| is_unknown(event)).count(), 1);
}

#[derive(Clone, Debug)]
enum Op {
    Put(u8),
    Delete(u8),
    /// The mirror takes so many parts, of so many names.
    Follow(usize, usize),
    /// The mirror is away while the leader forgets what it changed.
    ClearRing,
    Forget,
    /// The mirror begins again, as after a gap that it cannot place.
    Again,
}

fn ops() -> impl Strategy<Value = Vec<Op>> {
    let op = prop_oneof![
        6 => (0_u8..8).prop_map(Op::Put),
        3 => (0_u8..8).prop_map(Op::Delete),
        4 => (1_usize..4, 1_usize..4).prop_map(|(names, parts)| Op::Follow(names, parts)),
        1 => Just(Op::ClearRing),
        1 => Just(Op::Forget),
        1 => Just(Op::Again),
    ];
    prop::collection::vec(op, 0..60)
}

/// A reader of a mirror.
struct Reader {
    feed: Feed,
    /// The names with a value, by what it was told.
    view: BTreeMap<String, u64>,
    told: BTreeSet<u64>,
    /// It was told that it begins again, or that something is missing.
    is_warned: bool,
}

impl Reader {
    fn open(mirror: &Store<u8>, subscription: Subscription) -> Self {
        let feed = Feed::open(mirror, Stamp::ZERO, Arc::new(subscription), Start::Oldest);
        Self { feed, view: BTreeMap::new(), told: BTreeSet::new(), is_warned: false }
    }

    /// Takes a step, or all.
    fn read(&mut self, mirror: &Store<u8>, to_the_end: bool) {
        loop {
            let slice = self.feed.next(mirror, Stamp::ZERO, Budget { names: 3, bytes: usize::MAX });
            for event in slice.events {
                match told(event) {
                    Told::Record(record) => {
                        let (name, micros) = (record.name().as_str().to_owned(), record.last_sync().micros());
                        self.told.insert(micros);
                        match record.kind() {
                            Kind::Value => self.view.insert(name, micros),
                            Kind::Tombstone => self.view.remove(&name),
                        };
                    }
                    Told::Reset => {
                        self.view.clear();
                        self.is_warned = true;
                    }
                    Told::Lost | Told::Ahead | Told::Gap(_) => self.is_warned = true,
                    Told::Synced => {}
                }
            }
            if !slice.more || !to_the_end {
                return;
            }
        }
    }
}

/// A live reader of a mirror, and a mirror of it, learn of a name that is gone, whenever they look.
#[test]
fn readers_of_a_mirror_drop_what_is_gone() {
    for steps in [1, 2, 3, 100] {
        let mut leader = leader(1, 1);
        let (mut mirror, mut second) = (Mirrored::new(), Mirrored::new());
        ["a", "b", "c", "d"].iter().zip(1..).for_each(|(text, micros)| put(&mut leader, text, micros));
        mirror.follow_to_the_end(&leader, at(3));
        second.follow_to_the_end(&mirror.store, at(3));
        let mut latest = Reader::open(&mirror.store, Subscription::latest(Scope::all()));
        let mut every = Reader::open(&mirror.store, Subscription::all(Scope::all()));
        for reader in [&mut latest, &mut every] {
            reader.read(&mirror.store, true);
        }
        delete(&mut leader, "b", 10);
        leader.raise_horizon(at(20), 100);
        leader.clear_changes();
        put(&mut leader, "c", 30);
        put(&mut leader, "c", 31);
        // a feed that is opened again looks up the writes that it lacks from the beginning: all of them at once
        while !mirror.follow(&leader, at(20), 5, steps) {
            for reader in [&mut latest, &mut every] {
                reader.read(&mirror.store, false);
            }
            second.follow(&mirror.store, Stamp::ZERO, 1, 1);
        }
        for reader in [&mut latest, &mut every] {
            reader.read(&mirror.store, true);
        }
        second.follow_to_the_end(&mirror.store, Stamp::ZERO);
        let view = |reader: &Reader| reader.view.keys().cloned().collect::<Vec<_>>();
        assert_eq!(view(&latest), ["a", "c", "d"], "{steps}");
        assert!(every.is_warned, "it is not told of the delete");
        assert_eq!(values(&second.store), values(&leader));
    }
}

/// A view of another set that is not taken to its end leaves nothing behind.
#[test]
fn a_part_of_another_set_is_taken_back() {
    let (mut first, mut second) = (leader(1, 1), leader(2, 2));
    let mut mirror = Mirrored::new();
    put(&mut first, "x", 50);
    put(&mut first, "z", 51);
    mirror.follow_to_the_end(&first, Stamp::ZERO);
    for (text, micros) in [("w", 99), ("x", 100), ("y", 101), ("z", 102)] {
        put(&mut second, text, micros);
    }
    assert!(!mirror.follow(&second, Stamp::ZERO, 3, 1));
    assert_eq!(mirror.store.get(&name("x")).unwrap().last_sync(), at(100));
    mirror.follow_to_the_end(&first, Stamp::ZERO);
    assert_eq!((kept(&mirror.store), mirror.store.set_id()), (kept(&first), first.set_id()));
}

proptest! {
    /// Whatever comes between its parts, in the end a mirror holds what its leader holds, and claims what it claims.
    #[test]
    fn a_mirror_becomes_what_its_leader_is(ops in ops()) {
        let mut leader = leader(1, 1);
        let (mut mirror, mut second) = (Mirrored::new(), Mirrored::new());
        let mut readers: Vec<Reader> = Vec::new();
        let mut written = BTreeSet::new();
        let mut now = 10;
        for op in ops {
            now += 1;
            match op {
                Op::Put(n) => {
                    put(&mut leader, &format!("n{n}"), now);
                    written.insert(now);
                }
                Op::Delete(n) => delete(&mut leader, &format!("n{n}"), now),
                Op::Follow(names, parts) => {
                    mirror.follow(&leader, at(now), names, parts);
                }
                Op::ClearRing => leader.clear_changes(),
                Op::Forget => drop(leader.raise_horizon(at(now - 5), 100)),
                Op::Again => {
                    (mirror.cursor, mirror.mirroring) = (None, Mirroring::begin(&mirror.store));
                }
            }
            if readers.is_empty() && mirror.store.mirrored_set().is_some() {
                let of = [Subscription::latest(Scope::all()), Subscription::all(Scope::all())];
                readers.extend(of.map(|subscription| Reader::open(&mirror.store, subscription)));
                written.retain(|micros| *micros == now);
            }
            readers.iter_mut().for_each(|reader| reader.read(&mirror.store, false));
            if mirror.store.mirrored_set().is_some() {
                second.follow(&mirror.store, Stamp::ZERO, 2, 1);
            }
            // what it claims, it has
            if mirror.mirroring.is_complete() && mirror.store.vector() == leader.vector() {
                prop_assert_eq!(values(&mirror.store), values(&leader));
            }
        }
        mirror.follow_to_the_end(&leader, at(now));
        let current = |store: &Store<u8>| -> Vec<(String, Option<(u64, Kind)>)> {
            kept(store).into_iter().map(|(name, records)| (name, records.last().copied())).collect()
        };
        prop_assert_eq!(current(&mirror.store), current(&leader));
        prop_assert_eq!(mirror.store.vector(), leader.vector());
        prop_assert_eq!(mirror.store.registers(), leader.registers());
        prop_assert_eq!(mirror.store.set_id(), leader.set_id());
        readers.iter_mut().for_each(|reader| reader.read(&mirror.store, true));
        if let [latest, every] = &readers[..] {
            prop_assert_eq!(latest.view.clone().into_iter().collect::<Vec<_>>(), values(&leader));
            let missing: Vec<&u64> = written.difference(&every.told).collect();
            prop_assert!(every.is_warned || missing.is_empty(), "{missing:?} were passed over in silence");
        }
        second.follow_to_the_end(&mirror.store, Stamp::ZERO);
        prop_assert_eq!(values(&second.store), values(&leader));
        prop_assert_eq!(second.store.vector(), leader.vector());
    }
}

/// A leader had a delete, and then an older value. The mirror is told both when the leader has forgotten the delete.
#[test]
fn a_value_that_came_behind_a_forgotten_delete_does_not_come_back() {
    for names in [1, 100] {
        let mut leader = leader(1, 1);
        let mut mirror = Mirrored::new();
        put(&mut leader, "a", 1);
        mirror.follow_to_the_end(&leader, at(1));
        delete(&mut leader, "a", 10);
        let dot = Dot { incarnation: Incarnation(7), sequence: 1 };
        leader.merge(&Record::value(name("a"), &version("late"), b"d", at(5), dot));
        put(&mut leader, "b", 11);
        leader.raise_horizon(at(20), 100);
        assert!(leader.get(&name("a")).is_none());
        assert!(mirror.follow(&leader, at(20), names, 200));
        assert_eq!((mirror.again, kept(&mirror.store)), (0, kept(&leader)));
        assert_eq!(mirror.store.registers(), leader.registers());
    }
}
