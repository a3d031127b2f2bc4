use super::*;
use crate::core::Name;
use crate::core::genesis::Genesis;
use crate::core::mutants::Mutants;
use crate::core::namespace::Namespace;
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
    Scope::new(
        &Namespace::PLAIN,
        names.iter().map(|name| name.as_bytes()),
        prefixes.iter().map(|prefix| prefix.as_bytes()),
    )
}

/// A feed of the newest states.
fn open(store: &Store<()>, reflected: Stamp, scope: Scope, cursor: Option<&Cursor>) -> Feed {
    Feed::open(store, reflected, latest(scope), cursor.map_or(Start::Oldest, Start::Cursor))
}

/// A feed of every record.
fn open_all(store: &Store<()>, reflected: Stamp, cursor: Option<&Cursor>) -> Feed {
    Feed::open(store, reflected, every(Scope::all()), cursor.map_or(Start::Oldest, Start::Cursor))
}

/// One step; with a budget of 100 names and more, all steps.
fn next(feed: &mut Feed, store: &Store<()>, reflected: Stamp, names: usize) -> Slice {
    let mut all = feed.next(store, reflected, Budget { names, bytes: usize::MAX });
    while all.more && names >= 100 {
        let slice = feed.next(store, reflected, Budget { names, bytes: usize::MAX });
        all.events.extend(slice.events);
        all.more = slice.more;
    }
    all
}

/// A record that comes while a feed scans, for a name that is still to be told, is in the scan and in the ring.
#[test]
fn what_a_scan_tells_ahead_is_not_told_again() {
    for mode in [Mode::Latest, Mode::All] {
        let mut store = store(1);
        ["a", "b", "c"].iter().zip(1..).for_each(|(text, micros)| put(&mut store, text, micros));
        let subscription = Subscription { mode, ..Subscription::all(Scope::all()) };
        let mut feed = Feed::open(&store, Stamp::ZERO, Arc::new(subscription), Start::Oldest);
        assert_eq!(told(&next(&mut feed, &store, Stamp::ZERO, 1)), ["a@1"]);
        put(&mut store, "a", 4);
        put(&mut store, "c", 5);
        let mut rest = told(&next(&mut feed, &store, Stamp::ZERO, 2));
        assert!(feed.position().is_some() && feed.shared_position().is_none(), "it was told an entry ahead");
        rest.extend(told(&next(&mut feed, &store, Stamp::ZERO, 100)));
        assert_eq!(feed.shared_position(), Some(store.changes().end()));
        rest.sort();
        let older = if mode == Mode::All { &["c@3"][..] } else { &[] };
        let mut expected = [&["=", "a@4", "b@2", "c@5"], older].concat();
        expected.sort_unstable();
        assert_eq!(rest, expected, "{mode:?}");
        assert!(feed.told_ahead.is_empty());
        put(&mut store, "c", 6);
        assert_eq!(told(&next(&mut feed, &store, Stamp::ZERO, 100)), ["c@6"]);
    }
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
    // b has the records, and its vector claims none of them: it scans again from the first name
    let mut elsewhere = open(&b, Stamp::ZERO, Scope::all(), Some(&cursor));
    let slice = next(&mut elsewhere, &b, Stamp::ZERO, 100);
    assert_eq!(told(&slice), ["c@3", "d@4", "=", "a@1", "b@2"]);
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

/// The horizon passes a delete while the scan is on its way: the end of the scan decides.
#[test]
fn a_delete_that_is_forgotten_during_a_scan_resets_the_view() {
    let mut a = store(1);
    for text in ["a", "b", "z"] {
        put(&mut a, text, 1);
    }
    let mut feed = open(&a, at(10), Scope::all(), None);
    next(&mut feed, &a, at(10), 100);
    let cursor = feed.cursor(&a);
    for (subscription, expected) in [
        (latest(Scope::all()), vec!["b@14", "!", "a@13", "b@14", "="]),
        (every(Scope::all()), vec!["b@14", "?"]),
    ] {
        let mut b = store(2);
        sync(&a, &mut b);
        delete(&mut b, "z", 12);
        put(&mut b, "a", 13);
        put(&mut b, "b", 14);
        let cursor = Cursor { subscription: subscription.hash(), ..cursor.clone() };
        let mut elsewhere = Feed::open(&b, at(10), subscription, Start::Cursor(&cursor));
        assert_eq!(told(&next(&mut elsewhere, &b, at(10), 4)), ["a@13"]);
        b.raise_horizon(at(13), usize::MAX);
        assert_eq!(told_in_slices(&mut elsewhere, &b, at(13)), expected);
    }
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
    assert!(told(&next(&mut feed, &store, at(100), 100)).is_empty(), "once, and never what it deleted");
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

/// All that a feed tells now, a few names at a time.
fn told_in_slices(feed: &mut Feed, store: &Store<()>, reflected: Stamp) -> Vec<String> {
    let mut all = Vec::new();
    loop {
        let slice = next(feed, store, reflected, 3);
        all.extend(told(&slice));
        if !slice.more {
            return all;
        }
    }
}

const MOMENT: crate::core::history::Moment = crate::core::history::Moment {
    now: Stamp::ZERO,
    latest_horizon: Stamp::MAX,
    latest_compaction: Stamp::MAX,
};

/// Gives `to` all writes of `from` that are in its log.
fn push(from: &Store<()>, to: &mut Store<()>) {
    while let Some(batch) =
        from.log().batch(from.set(), from.incarnation(), to.vector().get(from.incarnation()))
    {
        to.take(MOMENT, &batch);
    }
}

/// Gives `to` all that `from` holds and claims, as a sync does at its end.
fn sync(from: &Store<()>, to: &mut Store<()>) {
    let records: Vec<Record> = from.set().cells(0, u64::MAX).map(|cell| cell.record().clone()).collect();
    to.adopt_registers(from.registers(), usize::MAX);
    to.replicate(Stamp::ZERO, &records);
    to.join_vector(from.vector(), Stamp::ZERO);
}

#[test]
fn every_record_is_told_in_the_order_of_the_node() {
    let mut store = store(1);
    put(&mut store, "a", 1);
    put(&mut store, "b", 2);
    put(&mut store, "a", 3);
    delete(&mut store, "b", 4);
    let mut feed = open_all(&store, Stamp::ZERO, None);
    assert_eq!(told_in_slices(&mut feed, &store, Stamp::ZERO), ["a@1", "a@3", "b@2", "-b@4", "="], "by name");
    put(&mut store, "b", 6);
    put(&mut store, "a", 7);
    put(&mut store, "b", 8);
    // one that comes late, and one that is not kept any more when it comes
    store.merge(&Record::tombstone(
        name("b"),
        at(5),
        crate::core::Dot { incarnation: Incarnation(9), sequence: 7 },
    ));
    assert_eq!(told_in_slices(&mut feed, &store, Stamp::ZERO), ["b@6", "a@7", "b@8", "-b@5"]);
    let cursor = feed.cursor(&store);
    for micros in 9..20 {
        put(&mut store, "a", micros);
    }
    let mut again = open_all(&store, Stamp::ZERO, Some(&cursor));
    let expected: Vec<String> = (9..20).map(|micros| format!("a@{micros}")).collect();
    assert_eq!(told_in_slices(&mut again, &store, Stamp::ZERO), expected, "from the ring, also what is gone");
}

#[test]
fn an_event_says_what_the_record_did() {
    let mut store = store(1);
    let said = |slice: Slice| {
        let all = slice.events.into_iter().filter_map(|event| match event {
            Event::Changed(changed) => {
                Some((changed.created, changed.is_current, changed.is_refresh, changed.is_initial))
            }
            _ => None,
        });
        all.collect::<Vec<_>>()
    };
    put(&mut store, "a", 1);
    put(&mut store, "a", 2);
    let same = version("v2");
    store.write(at(3), &name("a"), &Change::Put { version: &same, data: b"" }, Some(at(3)));
    let mut feed = open_all(&store, Stamp::ZERO, None);
    let first = said(next(&mut feed, &store, Stamp::ZERO, 10));
    assert_eq!(
        first,
        [
            (Some(true), false, false, true),
            (Some(false), false, false, true),
            (Some(false), true, true, true)
        ]
    );
    delete(&mut store, "a", 4);
    put(&mut store, "a", 5);
    let live = said(next(&mut feed, &store, Stamp::ZERO, 10));
    assert_eq!(live, [(Some(false), false, false, false), (Some(true), true, false, false)]);
    for micros in 6..20 {
        put(&mut store, "a", micros);
    }
    let unknown = said(next(&mut feed, &store, Stamp::ZERO, 100));
    assert_eq!((unknown[0], unknown[6]), ((None, false, false, false), (None, false, false, false)));
    assert_eq!(unknown[13], (Some(false), true, false, false));
}

#[test]
fn kinds_select_events() {
    let mut store = store(1);
    let kinds = Kinds { create: true, update: false, delete: false };
    let subscription = Arc::new(Subscription { kinds, ..Subscription::all(Scope::all()) });
    let mut feed = Feed::open(&store, Stamp::ZERO, subscription, Start::Now);
    put(&mut store, "a", 1);
    put(&mut store, "a", 2);
    delete(&mut store, "a", 3);
    put(&mut store, "a", 4);
    assert_eq!(told(&next(&mut feed, &store, Stamp::ZERO, 10)), ["a@1", "a@4"]);
}

#[test]
fn a_feed_from_a_stamp_on_tells_what_is_kept_since_then() {
    let mut store = store(1);
    for micros in 1..=12 {
        put(&mut store, if micros % 3 == 0 { "b" } else { "a" }, micros);
    }
    let mut feed = Feed::open(&store, Stamp::ZERO, every(Scope::all()), Start::From(at(6)));
    assert_eq!(
        told_in_slices(&mut feed, &store, Stamp::ZERO),
        ["a@7", "a@8", "a@10", "a@11", "b@6", "b@9", "b@12", "="]
    );
    put(&mut store, "a", 13);
    assert_eq!(told_in_slices(&mut feed, &store, Stamp::ZERO), ["a@13"]);
    let mut feed = Feed::open(&store, Stamp::ZERO, every(scope(&["a"], &[])), Start::From(at(1)));
    assert_eq!(told_in_slices(&mut feed, &store, Stamp::ZERO)[8..], ["?a", "="], "eight are kept");
}

/// A reader that was away is told which names it missed records of, wherever it comes back.
#[test]
fn missing_records_are_told_by_their_names() {
    let (mut a, mut b) = (store(1), store(2));
    put(&mut a, "busy", 1);
    put(&mut a, "few", 2);
    put(&mut a, "quiet", 3);
    sync(&a, &mut b);
    let mut feed = open_all(&a, at(3), None);
    told_in_slices(&mut feed, &a, at(3));
    let cursor = feed.cursor(&a);
    for micros in 4..24 {
        put(&mut a, "busy", micros);
    }
    put(&mut a, "few", 24);
    // eight that are new, and none is missing
    (25..33).for_each(|micros| put(&mut a, "full", micros));
    let kept =
        |from: u64, upto: u64, name: &str| (from..upto).map(|t| format!("{name}@{t}")).collect::<Vec<_>>();
    let mut expected = kept(16, 24, "busy");
    expected.push("few@24".to_owned());
    expected.extend(kept(25, 33, "full"));
    // where they were dropped their names are known
    let elsewhere = Cursor { at: None, ..cursor.clone() };
    let mut here = open_all(&a, at(3), Some(&elsewhere));
    let slice = next(&mut here, &a, at(3), 1_000);
    let mut with_gap = expected.clone();
    with_gap.push("?busy".to_owned());
    assert_eq!(told(&slice), with_gap);
    // elsewhere each name that has as many records as are kept may have lost one
    sync(&a, &mut b);
    let mut there = open_all(&b, at(3), Some(&cursor));
    expected.push("?busy,full".to_owned());
    assert_eq!(told(&next(&mut there, &b, at(3), 1_000)), expected);
    // a reader of other names is told of none
    let others = every(scope(&["few", "quiet"], &[]));
    let cursor = Cursor { subscription: others.hash(), ..cursor };
    let mut there = Feed::open(&b, at(3), others, Start::Cursor(&cursor));
    assert_eq!(told_in_slices(&mut there, &b, at(3)), ["few@24"]);
}

/// The same for a reader that is connected while its node is told what others have dropped.
#[test]
fn a_gap_reaches_readers_that_are_connected() {
    let (mut a, mut b) = (store(1), store(2));
    let mut of_all = open_all(&b, Stamp::ZERO, None);
    let mut of_quiet = Feed::open(&b, Stamp::ZERO, every(scope(&[], &["quiet/"])), Start::Now);
    let mut by_dots = Feed::open(
        &b,
        Stamp::ZERO,
        Arc::new(Subscription { dots: true, ..Subscription::all(Scope::all()) }),
        Start::Now,
    );
    told_in_slices(&mut of_all, &b, Stamp::ZERO);
    (1..=10).for_each(|micros| put(&mut a, "busy", micros));
    put(&mut a, "quiet/a", 11);
    sync(&a, &mut b);
    let told_all = told_in_slices(&mut of_all, &b, Stamp::ZERO);
    assert_eq!(
        (told_all[0].as_str(), told_all.last().unwrap().as_str(), told_all.len()),
        ("busy@3", "?busy", 10)
    );
    assert_eq!(told_in_slices(&mut of_quiet, &b, Stamp::ZERO), ["quiet/a@11"]);
    assert_eq!(told_in_slices(&mut by_dots, &b, Stamp::ZERO).last().unwrap(), "?1:1-2");
}

/// Ten writes a millisecond to a hundred names, and readers of other names that change nodes: no gap, no reset.
#[test]
fn a_busy_prefix_does_not_alarm_readers_of_another_one() {
    let (mut a, mut b) = (store(1), store(2));
    for name in 0..20 {
        put(&mut a, &format!("quiet/{name}"), 1);
    }
    sync(&a, &mut b);
    let subscription = every(scope(&[], &["quiet/"]));
    let mut feed = Feed::open(&a, at(1), Arc::clone(&subscription), Start::Oldest);
    let mut events = told_in_slices(&mut feed, &a, at(1));
    let mut cursor = feed.cursor(&a);
    let mut micros = 1_000;
    for turn in 0..40 {
        let (here, there) = if turn % 2 == 0 { (&mut a, &mut b) } else { (&mut b, &mut a) };
        for write in 0..1_000 {
            micros += 100;
            put(here, &format!("busy/{}", write % 100), micros);
        }
        // more often than as many versions are kept of each
        if turn % 4 == 0 {
            micros += 100;
            put(here, &format!("quiet/{}", turn % 20), micros);
        }
        if turn % 3 == 0 {
            sync(here, there);
        } else {
            push(here, there);
        }
        let mut feed = Feed::open(there, at(micros - 500), Arc::clone(&subscription), Start::Cursor(&cursor));
        events.extend(told_in_slices(&mut feed, there, at(micros - 500)));
        cursor = feed.cursor(there);
    }
    assert_eq!(events.len(), 20 + 1 + 10, "{events:?}");
    assert!(!events.iter().any(|event| event.starts_with(['?', '!', '+'])), "{events:?}");
}

/// A record that was dropped comes back when more are kept, after a scan has passed its name.
#[test]
fn a_record_that_comes_back_during_a_scan_is_told() {
    let (mut a, mut b) = (store(1), store(2));
    b.set_depth(crate::core::Depth::new(at(1), 1));
    put(&mut a, "x", 1);
    let first = a.get(&name("x")).unwrap();
    put(&mut a, "x", 2);
    put(&mut a, "y", 3);
    for record in a.set().cells(0, u64::MAX).map(|cell| cell.record().clone()).collect::<Vec<_>>() {
        b.merge(&record);
    }
    b.join_vector(a.vector(), Stamp::ZERO);
    let subscription = Arc::new(Subscription { dots: true, ..Subscription::all(Scope::all()) });
    let mut feed = Feed::open(&b, Stamp::ZERO, Arc::clone(&subscription), Start::Now);
    let cursor = Cursor { vector: Vector::default(), at: None, ..feed.cursor(&b) };
    feed = Feed::open(&b, Stamp::ZERO, subscription, Start::Cursor(&cursor));
    let mut all = Vec::new();
    while all.is_empty() {
        all = told(&next(&mut feed, &b, Stamp::ZERO, 1));
    }
    assert_eq!(all, ["x@2"]);
    b.set_depth(crate::core::Depth::new(at(50), 8));
    assert!(matches!(b.merge(&first), crate::core::set::Merge::Older(_)));
    assert_eq!(told_in_slices(&mut feed, &b, Stamp::ZERO), ["y@3", "x@1"]);
}

/// A few changes among many names are found by their dots.
#[test]
fn a_few_changes_are_not_searched_among_all_names() {
    let mut store = store(1);
    for name in 0..5_000 {
        put(&mut store, &format!("n{name}"), 1);
    }
    let mut feed = open(&store, at(1), Scope::all(), None);
    while next(&mut feed, &store, at(1), 1_000).more {}
    let cursor = Cursor { at: None, ..feed.cursor(&store) };
    for name in [7, 70, 700] {
        put(&mut store, &format!("n{name}"), 2);
    }
    for subscription in [latest(Scope::all()), every(Scope::all())] {
        let mut again = Feed::open(&store, at(1), subscription, Start::Cursor(&cursor));
        let slice = next(&mut again, &store, at(1), 10);
        assert_eq!(
            (told(&slice), slice.more),
            (["n7@2", "n70@2", "n700@2"].map(str::to_owned).to_vec(), false)
        );
    }
}

#[test]
fn a_cursor_that_is_ahead_says_so_to_a_reader_of_every_record() {
    let (mut a, mut b) = (store(1), store(2));
    put(&mut a, "x", 1);
    put(&mut a, "x", 2);
    sync(&a, &mut b);
    put(&mut a, "x", 3);
    put(&mut a, "y", 4);
    let mut feed = open_all(&a, Stamp::ZERO, None);
    told_in_slices(&mut feed, &a, Stamp::ZERO);
    let cursor = feed.cursor(&a);
    assert_eq!(Feed::ahead_by(&b, &cursor), 2);
    let mut there = Feed::open(&b, Stamp::ZERO, every(Scope::all()), Start::Ahead(&cursor));
    assert_eq!(told_in_slices(&mut there, &b, Stamp::ZERO), ["+2"]);
    assert_eq!(Feed::ahead_by(&b, &there.cursor(&b)), 0);
    push(&a, &mut b);
    assert_eq!(
        told_in_slices(&mut there, &b, Stamp::ZERO),
        ["x@3", "y@4"],
        "they were not lost, and come twice"
    );
}

#[test]
fn a_set_in_parts_has_cursors_of_its_own_and_says_that_copies_were_dropped() {
    let (mut a, mut b) = (store(1), store(2));
    a.be_partial();
    b.be_partial();
    put(&mut a, "x", 1);
    let mut feed = open_all(&a, at(9), None);
    told_in_slices(&mut feed, &a, at(9));
    let cursor = feed.cursor(&a);
    assert_eq!(cursor.reflected, Stamp::ZERO, "it reflects what lies below its horizon");
    let mut there = open_all(&b, at(9), Some(&cursor));
    assert_eq!(told_in_slices(&mut there, &b, at(9)), ["!", "="]);
    a.forget_copy(&name("x"));
    assert_eq!(told_in_slices(&mut feed, &a, at(9)), ["?"]);
    let mut again = open_all(&a, at(9), Some(&Cursor { at: None, ..cursor }));
    assert_eq!(told_in_slices(&mut again, &a, at(9)), ["?"]);
    let mut again = open_all(&a, at(9), Some(&feed.cursor(&a)));
    assert!(told_in_slices(&mut again, &a, at(9)).is_empty(), "it was told");
}

/// With more versions kept again, an older record can come back, and the one behind it not.
#[test]
fn a_value_is_called_created_only_if_nothing_was_dropped_before_it() {
    use crate::core::testing::{name, version};
    let record = |micros, kind| {
        let dot = Dot { incarnation: Incarnation(9), sequence: micros };
        match kind {
            Kind::Value => Record::value(name("a"), &version(&format!("v{micros}")), b"d", at(micros), dot),
            Kind::Tombstone => Record::tombstone(name("a"), at(micros), dot),
        }
    };
    let mut set = Set::with_leaf_bits([1; 16], 2);
    set.set_depth(crate::core::Depth::new(Stamp::ZERO, 2));
    for micros in [20, 40, 50] {
        set.merge(&record(micros, Kind::Value));
    }
    set.set_depth(crate::core::Depth::new(at(1), 8).after(set.depth()));
    set.merge(&record(10, Kind::Tombstone));
    set.merge(&record(30, Kind::Value));
    let created = |micros| {
        let record = record(micros, Kind::Value);
        changed(&set, &record, set.history(record.name()), false).created
    };
    assert_eq!(set.history(&name("a")).len(), 4, "20 was dropped");
    assert_eq!([30, 40, 50].map(created), [None, None, Some(false)]);
}
