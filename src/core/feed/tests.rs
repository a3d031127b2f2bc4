use super::*;
use crate::core::Name;
use crate::core::genesis::Genesis;
use crate::core::mutants::Mutants;
use crate::core::record::Incarnation;
use crate::core::store::Change;
use crate::core::testing::{at, name, version};

const GENESIS: Genesis = Genesis { provisional: false, started: Stamp::ZERO, key: [3; 16], versions: 8 };

fn store(incarnation: u64) -> Store<()> {
    let mut store = Store::simulated(GENESIS, Incarnation(incarnation), 2, Mutants::NONE);
    store.keep_changes();
    store
}

fn put(store: &mut Store<()>, text: &str, micros: u64) {
    let version = version(&format!("v{micros}"));
    store.write(at(micros), &name(text), &Change::Put { version: &version, data: b"" }, Some(at(micros)));
}

fn delete(store: &mut Store<()>, text: &str, micros: u64) {
    store.write(at(micros), &name(text), &Change::Delete, Some(at(micros)));
}

/// Names and stamps of the events; `!` for a reset, `-` before a delete, `=` for the end of a snapshot, `?` for missing
/// records.
fn told(slice: &Slice) -> Vec<String> {
    let text = |event: &Event| match event {
        Event::Reset(_) => "!".to_owned(),
        Event::Changed(Changed { record, .. }) => {
            let sign = if record.kind() == Kind::Tombstone { "-" } else { "" };
            format!("{sign}{}@{}", record.name(), record.last_sync().micros())
        }
        Event::Synced => "=".to_owned(),
        Event::Compacted(Compacted::Unknown) => "?".to_owned(),
        Event::Compacted(Compacted::Names(names)) => {
            format!("?{}", names.iter().map(Name::as_str).collect::<Vec<_>>().join(","))
        }
        Event::Compacted(Compacted::Dots(dots)) => {
            let dots = dots.iter().map(|(process, a, b)| format!("{}:{a}-{b}", process.0));
            format!("?{}", dots.collect::<Vec<_>>().join(","))
        }
        Event::Ahead { writes } => format!("+{writes}"),
    };
    slice.events.iter().map(text).collect()
}

fn latest(scope: Scope) -> Arc<Subscription> {
    Arc::new(Subscription::latest(scope))
}

fn every(scope: Scope) -> Arc<Subscription> {
    Arc::new(Subscription::all(scope))
}

fn scope(names: &[&str], prefixes: &[&str]) -> Scope {
    Scope::new(b"", names.iter().map(|name| name.as_bytes()), prefixes.iter().map(|prefix| prefix.as_bytes()))
}

/// A feed of the newest states.
fn open(store: &Store<()>, reflected: Stamp, scope: Scope, cursor: Option<&Cursor>) -> Feed {
    Feed::open(store, reflected, latest(scope), cursor.map_or(Start::Oldest, Start::Cursor))
}

/// A feed of every record.
fn open_all(store: &Store<()>, reflected: Stamp, cursor: Option<&Cursor>) -> Feed {
    Feed::open(store, reflected, every(Scope::all()), cursor.map_or(Start::Oldest, Start::Cursor))
}

fn next(feed: &mut Feed, store: &Store<()>, reflected: Stamp, names: usize) -> Slice {
    feed.next(store, reflected, Budget { names, bytes: usize::MAX })
}

#[test]
fn a_feed_tells_all_then_what_changes() {
    let mut store = store(1);
    put(&mut store, "p/a", 1);
    put(&mut store, "q", 2);
    put(&mut store, "p/b", 3);
    delete(&mut store, "p/b", 4);
    let scope = scope(&[], &["p/"]);
    let mut feed = open(&store, Stamp::ZERO, scope.clone(), None);
    let slice = next(&mut feed, &store, Stamp::ZERO, 100);
    assert_eq!(
        (told(&slice), slice.more),
        (vec!["p/a@1".to_owned(), "=".to_owned()], false),
        "an empty view needs no delete"
    );
    put(&mut store, "p/a", 5);
    put(&mut store, "q", 6);
    put(&mut store, "p/a", 7);
    delete(&mut store, "p/c", 8);
    assert_eq!(
        told(&next(&mut feed, &store, Stamp::ZERO, 100)),
        ["p/a@7", "-p/c@8"],
        "the newest of each name"
    );
    assert!(told(&next(&mut feed, &store, Stamp::ZERO, 100)).is_empty());
    let mut now = Feed::open(&store, Stamp::ZERO, latest(scope), Start::Now);
    put(&mut store, "p/a", 9);
    assert_eq!(told(&next(&mut now, &store, Stamp::ZERO, 100)), ["p/a@9"]);
}

#[test]
fn a_cursor_goes_on_at_the_same_process_by_its_position_and_elsewhere_by_its_vector() {
    let (mut a, mut b) = (store(1), store(2));
    for (text, micros) in [("x", 1), ("y", 2), ("z", 3)] {
        put(&mut a, text, micros);
    }
    let mut feed = open(&a, Stamp::ZERO, Scope::all(), None);
    assert_eq!(told(&next(&mut feed, &a, Stamp::ZERO, 100)), ["x@1", "y@2", "z@3", "="]);
    let cursor = feed.cursor(&a);
    put(&mut a, "y", 4);
    let mut again = open(&a, Stamp::ZERO, Scope::all(), Some(&cursor));
    assert_eq!(told(&next(&mut again, &a, Stamp::ZERO, 100)), ["y@4"]);
    // the other node has all of it
    let batch = a.log().batch(a.set(), a.incarnation(), 0).unwrap();
    let moment = crate::core::history::Moment {
        now: at(9),
        latest_horizon: Stamp::MAX,
        latest_compaction: Stamp::MAX,
    };
    b.take(moment, &batch);
    put(&mut b, "w", 5);
    let mut elsewhere = open(&b, Stamp::ZERO, Scope::all(), Some(&cursor));
    assert_eq!(
        told(&next(&mut elsewhere, &b, Stamp::ZERO, 100)),
        ["w@5", "y@4"],
        "by name, and only the news"
    );
    let mut back = open(&a, Stamp::ZERO, Scope::all(), Some(&elsewhere.cursor(&b)));
    assert!(told(&next(&mut back, &a, Stamp::ZERO, 100)).is_empty());
}

#[test]
fn a_scan_is_cut_into_slices_and_goes_on_elsewhere() {
    let (mut a, mut b) = (store(1), store(2));
    for (text, micros) in [("a", 1), ("b", 2), ("c", 3), ("d", 4)] {
        put(&mut a, text, micros);
    }
    let batch = a.log().batch(a.set(), a.incarnation(), 0).unwrap();
    b.replicate(at(9), &batch.records);
    let mut feed = open(&a, Stamp::ZERO, Scope::all(), None);
    let slice = next(&mut feed, &a, Stamp::ZERO, 2);
    assert_eq!((told(&slice), slice.more), (vec!["a@1".to_owned(), "b@2".to_owned()], true));
    put(&mut a, "a", 5);
    let cursor = feed.cursor(&a);
    assert!(cursor.vector.is_empty() && cursor.scan.is_some());
    // b has the records, and its vector claims none of them: all of a is told again there, once
    let mut elsewhere = open(&b, Stamp::ZERO, Scope::all(), Some(&cursor));
    let slice = next(&mut elsewhere, &b, Stamp::ZERO, 100);
    assert_eq!(told(&slice), ["c@3", "d@4", "=", "a@1", "b@2", "c@3", "d@4"]);
    assert!(!slice.more);
    // and where it began, it follows what changed meanwhile
    let mut here = open(&a, Stamp::ZERO, Scope::all(), Some(&cursor));
    assert_eq!(told(&next(&mut here, &a, Stamp::ZERO, 100)), ["c@3", "d@4", "=", "a@5"]);
}

#[test]
fn a_view_that_may_lack_a_forgotten_delete_is_reset() {
    let (mut a, mut b) = (store(1), store(2));
    put(&mut a, "x", 1);
    put(&mut a, "y", 2);
    let mut feed = open(&a, at(1), Scope::all(), None);
    next(&mut feed, &a, at(1), 100);
    let cursor = feed.cursor(&a);
    assert_eq!(cursor.reflected, at(1));
    // b has had the delete of x, and forgotten it
    put(&mut b, "y", 2);
    b.raise_horizon(at(20), usize::MAX);
    let mut elsewhere = open(&b, at(20), Scope::all(), Some(&cursor));
    let slice = next(&mut elsewhere, &b, at(20), 100);
    assert_eq!(told(&slice), ["y@2", "!", "y@2", "="], "its own y has another dot");
    assert_eq!(elsewhere.cursor(&b).reflected, at(20));
    assert_eq!(elsewhere.cursor(&b).vector, *b.vector(), "what was claimed before says nothing of this view");
}

/// The scan has told the delete of a name, which is then forgotten: the older change of the name, which is still in the
/// ring, must not follow.
#[test]
fn a_replaced_change_is_not_told_after_its_delete_is_forgotten() {
    let mut store = store(1);
    put(&mut store, "other", 1);
    let mut feed = open(&store, Stamp::ZERO, scope(&["x"], &[]), None);
    next(&mut feed, &store, at(100), 100);
    let elsewhere = Cursor { at: None, ..feed.cursor(&store) };
    let mut feed = open(&store, at(100), scope(&["x"], &[]), Some(&elsewhere));
    put(&mut store, "x", 5);
    delete(&mut store, "x", 6);
    assert_eq!(told(&next(&mut feed, &store, at(100), 1)), ["-x@6"]);
    store.raise_horizon(at(50), usize::MAX);
    assert!(store.get(&name("x")).is_none());
    assert_eq!(told(&next(&mut feed, &store, at(100), 100)), ["-x@6"], "twice, and never what it deleted");
}

#[test]
fn a_cursor_that_is_ahead_is_noticed_and_begins_again() {
    let (mut a, mut b) = (store(1), store(2));
    put(&mut a, "lost", 5);
    put(&mut b, "kept", 4);
    let mut feed = open(&a, Stamp::ZERO, Scope::all(), None);
    next(&mut feed, &a, Stamp::ZERO, 100);
    let cursor = feed.cursor(&a);
    assert!(Feed::ahead_by(&b, &cursor) == 1 && Feed::ahead_by(&a, &cursor) == 0);
    let mut feed = Feed::open(&b, Stamp::ZERO, latest(Scope::all()), Start::Ahead(&cursor));
    assert_eq!(told(&next(&mut feed, &b, Stamp::ZERO, 100)), ["!", "kept@4", "="]);
    assert!(Feed::ahead_by(&b, &feed.cursor(&b)) == 0);
}

#[test]
fn a_cursor_of_another_set_begins_again() {
    let (mut a, mut b) = (store(1), store(2));
    put(&mut a, "x", 1);
    put(&mut b, "y", 1);
    b.adopt(Genesis { key: [9; 16], ..GENESIS });
    let mut feed = open(&a, Stamp::ZERO, Scope::all(), None);
    next(&mut feed, &a, Stamp::ZERO, 100);
    let mut again = open(&b, Stamp::ZERO, Scope::all(), Some(&feed.cursor(&a)));
    let slice = next(&mut again, &b, Stamp::ZERO, 100);
    assert_eq!(told(&slice), ["!", "y@1", "="]);
    // and a feed whose node takes over another set
    a.adopt(b.genesis());
    assert_eq!(told(&next(&mut feed, &a, Stamp::ZERO, 100)), ["!", "x@1", "="]);
}

#[test]
fn a_reader_that_the_ring_overtakes_scans() {
    let mut store = store(1);
    put(&mut store, "x", 1);
    let mut feed = open(&store, Stamp::ZERO, Scope::all(), None);
    next(&mut feed, &store, Stamp::ZERO, 100);
    put(&mut store, "y", 2);
    for micros in 0..crate::core::limits::MAX_RING_CHANGES as u64 {
        put(&mut store, "busy", 10 + micros);
    }
    let last = 9 + crate::core::limits::MAX_RING_CHANGES as u64;
    assert_eq!(told(&next(&mut feed, &store, Stamp::ZERO, 100)), [format!("busy@{last}"), "y@2".to_owned()]);
}
