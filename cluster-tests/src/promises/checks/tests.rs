//! Each promise with a history that keeps it, and one that breaks it.

use super::*;
use crate::promises::cursor::Cursor;
use crate::promises::history::{Start, Subscription, Write, rank};

/// Two processes.
const P: u64 = 70;
const Q: u64 = 80;

/// A process of three writes of `n`, and a reader of both modes at it: a history that keeps all promises.
fn good(mode: Mode) -> History {
    let writes = vec![put("n", 1, (P, 1)), put("n", 2, (P, 2)), delete("n", 3, (P, 3)), put("m", 4, (P, 4))];
    let told = |number: u64| match number {
        3 => told_delete("n", 3),
        4 => told_put("m", 4),
        number => told_put("n", number),
    };
    let batches = vec![
        batch(None, 10, &[(P, 1)], vec![told(1), Event::Synced]),
        batch(Some(0), 20, &[(P, 2)], vec![told(2)]),
        batch(Some(1), 30, &[(P, 4)], vec![told(3), told(4)]),
        batch(Some(2), 40, &[(P, 4)], vec![]),
    ];
    let keep = |name: &str, ranks: &[Rank]| (name.to_owned(), ranks.iter().cloned().collect());
    History {
        writes,
        readers: vec![Reader { subscription: subscription(mode), batches }],
        depth: 2,
        grace: 1_000_000_000,
        stands: [("m".to_owned(), rank(4, Some("v4")))].into(),
        kept: [keep("n", &[rank(2, Some("v2")), rank(3, None)]), keep("m", &[rank(4, Some("v4"))])].into(),
        living: [P].into(),
        ..History::default()
    }
}

fn subscription(mode: Mode) -> Subscription {
    Subscription {
        mode,
        start: Start::Oldest,
        names: vec!["m".into()],
        prefixes: vec!["n".into()],
        types: None,
    }
}

/// Write `number` of a history, at that time, acknowledged a moment later.
fn write(name: &str, number: u64, version: Option<String>, dot: (u64, u64)) -> Write {
    let issued = [0, 5, 15, 24, 25].get(number as usize).copied().unwrap_or(38);
    let acknowledged = Some((issued + 1, number));
    Write { name: name.into(), version, issued, acknowledged, dot: Some(dot) }
}

fn put(name: &str, number: u64, dot: (u64, u64)) -> Write {
    write(name, number, Some(format!("v{number}")), dot)
}

fn delete(name: &str, number: u64, dot: (u64, u64)) -> Write {
    write(name, number, None, dot)
}

fn told_put(name: &str, revision: u64) -> Event {
    let version = Some(format!("v{revision}"));
    let data = version.clone();
    Event::Changed(Changed { name: name.into(), version, data, revision, ..Changed::default() })
}

fn told_delete(name: &str, revision: u64) -> Event {
    Event::Changed(Changed { name: name.into(), revision, ..Changed::default() })
}

/// An answer of process `P` at a time.
fn batch(parent: Option<usize>, answered: u64, vector: &[(u64, u64)], events: Vec<Event>) -> Batch {
    let cursor = Cursor { vector: vector.iter().copied().collect(), process: Some(P), scanned: None };
    Batch { parent, node: 0, asked: answered - 3, answered, events, more: false, draining: false, cursor }
}

fn broken(history: &History) -> Vec<Promise> {
    judge(history).1.iter().map(|violation| violation.promise).collect()
}

/// A history that is spoilt breaks exactly these promises.
#[track_caller]
fn breaks(mode: Mode, expected: &[Promise], spoil: impl FnOnce(&mut History)) {
    let mut history = good(mode);
    spoil(&mut history);
    let found: BTreeSet<_> = broken(&history).into_iter().collect();
    assert_eq!(found, expected.iter().copied().collect(), "{:?}", judge(&history).1);
}

fn batches(history: &mut History) -> &mut Vec<Batch> {
    &mut history.readers[0].batches
}

fn changed(event: &mut Event) -> &mut Changed {
    match event {
        Event::Changed(changed) => changed,
        _ => panic!("{event:?}"),
    }
}

#[test]
fn a_good_history_breaks_none() {
    for mode in [Mode::Latest, Mode::All] {
        let history = good(mode);
        let (counts, violations) = judge(&history);
        assert!(violations.is_empty(), "{violations:?}");
        assert_eq!((counts.batches, counts.events, counts.claims, counts.resumes), (4, 4, 4, 0));
    }
}

#[test]
fn reliable_misses_an_event_that_was_not_told() {
    breaks(Mode::All, &[Promise::Reliable], |history| batches(history)[1].events.clear());
    // what is newer makes up for it where only the newest state counts
    breaks(Mode::Latest, &[Promise::Reliable], |history| batches(history)[1].events.clear());
    breaks(Mode::Latest, &[], |history| {
        batches(history).remove(1);
        batches(history)[1].parent = Some(0);
        batches(history)[2].parent = Some(1);
    });
    // a gap that names the name, or that is of unknown names, is no silent one
    for names in [Some(vec!["n".to_owned()]), None] {
        breaks(Mode::All, &[], |history| batches(history)[1].events = vec![Event::Compacted(names)]);
    }
    breaks(Mode::All, &[Promise::Reliable], |history| {
        batches(history)[1].events = vec![Event::Compacted(Some(vec!["m".to_owned()]))];
    });
}

#[test]
fn a_gap_that_was_told_before_a_write_does_not_have_it() {
    breaks(Mode::All, &[Promise::Reliable], |history| {
        batches(history)[0].events.push(Event::Compacted(None));
        batches(history)[2].events.remove(0);
    });
}

#[test]
fn resumable_misses_an_event_at_another_node() {
    let elsewhere = |history: &mut History| {
        for batch in &mut batches(history)[1..] {
            (batch.node, batch.cursor.process) = (1, Some(Q));
        }
    };
    for mode in [Mode::Latest, Mode::All] {
        breaks(mode, &[], elsewhere);
        breaks(mode, &[Promise::Resumable], |history| {
            elsewhere(history);
            batches(history)[1].events.clear();
        });
    }
}

#[test]
fn a_return_to_an_older_cursor_is_told_again() {
    let back = |history: &mut History| {
        batches(history)[2].parent = Some(0);
        batches(history)[2].events.insert(0, told_put("n", 2));
    };
    breaks(Mode::All, &[], back);
    let mut history = good(Mode::All);
    back(&mut history);
    let (counts, _) = judge(&history);
    assert_eq!((counts.crashes, counts.events), (1, 5));
    // the view that it lost does not count
    breaks(Mode::All, &[Promise::Resumable], |history| batches(history)[2].parent = Some(0));
}

#[test]
fn what_comes_late_below_what_a_reader_has_may_be_dropped() {
    let late = |history: &mut History| {
        // three greater records of the name, and this write arrives when none of the readers lacks them
        history.writes.push(Write { dot: Some((Q, 1)), ..put("n", 1, (Q, 1)) });
        history.writes.last_mut().expect("it").acknowledged = Some((6, 0));
        batches(history)[3].cursor.vector.insert(Q, 1);
    };
    breaks(Mode::All, &[], late);
    let mut history = good(Mode::All);
    late(&mut history);
    assert_eq!(judge(&history).0.late, 1);
    // but not if it is above all that the reader had
    breaks(Mode::All, &[Promise::Reliable], |history| {
        late(history);
        history.writes.last_mut().expect("it").acknowledged = Some((6, 9));
    });
    // or if fewer than the nodes keep are above it
    breaks(Mode::All, &[Promise::Reliable], |history| {
        late(history);
        history.depth = 8;
    });
}

/// A reader of deletes is not told the values, and its cursor may claim them together with a delete that came late.
#[test]
fn what_comes_late_below_what_a_reader_did_not_ask_for_may_be_dropped() {
    let deletes = |history: &mut History| {
        history.writes.insert(0, Write { issued: 12, ..delete("n", 0, (Q, 1)) });
        history.readers[0].subscription.types = Some("delete");
        for batch in batches(history) {
            batch.events.retain(|event| *event == told_delete("n", 3));
        }
        batches(history)[1].cursor.vector.insert(Q, 1);
        batches(history)[2].cursor.vector.insert(Q, 1);
        batches(history)[3].cursor.vector.insert(Q, 1);
        batches(history)[0].cursor.vector.insert(P, 0);
        batches(history)[0].more = true;
    };
    breaks(Mode::All, &[], deletes);
    breaks(Mode::All, &[Promise::Reliable], |history| {
        deletes(history);
        history.depth = 8;
    });
    // those that it did ask for do not count before they were claimed
    breaks(Mode::All, &[Promise::Reliable], |history| {
        deletes(history);
        let greater = history.writes.iter_mut().filter(|write| write.name == "n" && write.dot < Some((Q, 1)));
        greater.for_each(|write| write.version = None);
        let told = [1, 2].map(|number| told_delete("n", number));
        batches(history)[1].events = told.to_vec();
        history.kept.get_mut("n").expect("it").retain(|(stamp, ..)| *stamp == 3);
    });
}

#[test]
fn a_view_that_begins_now_need_not_be_told_what_the_node_held() {
    for mode in [Mode::Latest, Mode::All] {
        let now = |history: &mut History| {
            history.readers[0].subscription.start = Start::Now;
            // the node had received both writes of `Q` out of order, and claims them later
            history.writes.push(Write { issued: 8, ..put("n", 0, (Q, 1)) });
            history.writes.push(Write { issued: 8, ..put("m", 0, (Q, 2)) });
            batches(history)[0].events.clear();
            for batch in &mut batches(history)[1..] {
                batch.cursor.vector.insert(Q, 2);
            }
        };
        breaks(mode, &[], now);
        // what was written later it is told
        breaks(mode, &[Promise::Reliable], |history| {
            now(history);
            history.writes.last_mut().expect("it").issued = 12;
        });
        // and all of it by another node
        breaks(mode, &[Promise::Resumable], |history| {
            now(history);
            for batch in &mut batches(history)[1..] {
                batch.cursor.process = Some(Q);
            }
        });
    }
}

#[test]
fn ordered_sees_a_view_that_goes_back() {
    breaks(Mode::Latest, &[Promise::Ordered], |history| {
        history.writes.push(Write { acknowledged: Some((11, 0)), ..put("n", 1, (Q, 1)) });
        let older = Changed { revision: 0, ..changed(&mut told_put("n", 1)).clone() };
        batches(history)[1].events.push(Event::Changed(older));
    });
}

#[test]
fn ordered_sees_writes_of_the_node_out_of_order() {
    breaks(Mode::All, &[Promise::Ordered], |history| batches(history)[2].events.reverse());
    breaks(Mode::All, &[], |history| {
        // what comes back has been told in order
        let again = batches(history)[2].events[0].clone();
        batches(history)[2].events.push(again);
    });
    breaks(Mode::All, &[], |history| {
        // at another node a repair may bring the later one first
        for batch in batches(history) {
            batch.cursor.process = Some(Q);
        }
        batches(history)[2].events.reverse();
    });
    breaks(Mode::All, &[Promise::Ordered], |history| {
        let all = batches(history);
        let mut events: Vec<Event> = all
            .iter()
            .flat_map(|batch| batch.events.clone())
            .filter(|event| *event != Event::Synced)
            .collect();
        for event in &mut events {
            changed(event).initial = true;
        }
        events.swap(0, 1);
        *all = vec![batch(None, 40, &[(P, 4)], events)];
    });
}

#[test]
fn unique_sees_an_event_twice() {
    for mode in [Mode::Latest, Mode::All] {
        let promises = [Promise::Unique];
        let promises = if mode == Mode::All { &promises[..] } else { &[Promise::Unique, Promise::Ordered] };
        breaks(mode, promises, |history| {
            let again = told_put("n", 2);
            // at another node
            batches(history)[3].cursor.process = Some(if mode == Mode::All { Q } else { P });
            batches(history)[3].events.push(again);
        });
    }
    breaks(Mode::Latest, &[Promise::Unique], |history| {
        let again = told_put("n", 2);
        batches(history)[1].events.push(again);
    });
}

#[test]
fn atomic_sees_a_name_in_two_answers_of_a_scan() {
    let scan = |first: &str, second: &str| {
        let (first, second) = (first.to_owned(), second.to_owned());
        move |history: &mut History| {
            let all = batches(history);
            let mut events: Vec<Event> = all
                .iter()
                .flat_map(|batch| batch.events.clone())
                .filter(|event| *event != Event::Synced)
                .collect();
            events.iter_mut().for_each(|event| changed(event).initial = true);
            // in order of names: m, then n
            events.rotate_right(1);
            let rest = events.split_off(if second.is_empty() { 1 } else { 2 });
            let mut one = batch(None, 40, &[], events);
            one.cursor.scanned = Some(first);
            one.more = true;
            *all = vec![one, batch(Some(0), 50, &[(P, 4)], rest)];
        }
    };
    breaks(Mode::All, &[], scan("m", ""));
    breaks(Mode::All, &[Promise::Atomic], scan("n", "n"));
    breaks(Mode::All, &[Promise::Atomic], scan("m", "n"));
}

#[test]
fn bookmarkable_sees_a_cursor_that_claims_less() {
    breaks(Mode::All, &[Promise::Bookmarkable], |history| {
        batches(history)[3].cursor.vector.insert(P, 3);
        batches(history)[3].more = true;
        let last = batch(Some(3), 50, &[(P, 4)], vec![]);
        batches(history).push(last);
    });
    // acknowledged by the node before it was asked, and not in its newest cursor
    breaks(Mode::All, &[Promise::Bookmarkable], |history| {
        let asked = history.writes[1].acknowledged.expect("it").0 + 1;
        batches(history)[0].asked = asked;
    });
    breaks(Mode::All, &[], |history| {
        let asked = history.writes[1].acknowledged.expect("it").0 + 1;
        batches(history)[0].asked = asked;
        batches(history)[0].draining = true;
    });
}

#[test]
fn is_create_and_prev_kv_see_what_was_before() {
    // a node that did not know all that the cursor claims may not know what was before
    breaks(Mode::All, &[], |history| {
        changed(&mut batches(history)[1].events[0]).created = Some(true);
        batches(history)[1].events.insert(0, Event::Ahead);
    });
    breaks(Mode::All, &[], |history| changed(&mut batches(history)[1].events[0]).created = Some(false));
    breaks(Mode::All, &[Promise::IsCreate], |history| {
        changed(&mut batches(history)[1].events[0]).created = Some(true);
    });
    breaks(Mode::All, &[Promise::PrevKv], |history| {
        changed(&mut batches(history)[1].events[0]).refresh = true;
    });
}

#[test]
fn filter_sees_what_was_not_asked_for() {
    breaks(Mode::All, &[Promise::Filter], |history| {
        history.readers[0].subscription.types = Some("put");
    });
    breaks(Mode::All, &[Promise::Filter], |history| {
        history.writes.push(put("other", 3, (Q, 1)));
        batches(history)[3].events.push(told_put("other", 3));
    });
}

#[test]
fn match_sees_what_no_writer_wrote() {
    breaks(Mode::All, &[Promise::Match], |history| {
        changed(&mut batches(history)[1].events[0]).data = Some("other".into());
    });
    breaks(Mode::All, &[Promise::Match, Promise::Reliable], |history| {
        changed(&mut batches(history)[1].events[0]).revision = 7;
    });
    // a write of which nothing is known may be told
    breaks(Mode::All, &[], |history| {
        let unknown = Write { acknowledged: None, dot: None, ..put("n", 1, (P, 9)) };
        history.writes.push(Write { version: Some("v7".into()), ..unknown });
        batches(history)[1].events.push(told_put("n", 7));
    });
}

#[test]
fn converged_sees_a_reader_that_lacks_something_at_the_end() {
    for mode in [Mode::Latest, Mode::All] {
        // a write of a process that lives
        breaks(mode, &[Promise::Converged], |history| history.writes.push(put("other", 5, (P, 5))));
        // one that is kept, and of another process, which no cursor claims
        let kept = |history: &mut History| {
            history.writes.push(put("n", 6, (Q, 7)));
            history.kept.entry("n".into()).or_default().insert(rank(6, Some("v6")));
            history.stands.insert("n".into(), rank(6, Some("v6")));
        };
        breaks(mode, &[Promise::Converged], kept);
        let told = |history: &mut History| {
            kept(history);
            batches(history)[3].events.push(told_put("n", 6));
        };
        breaks(mode, &[], told);
        let mut history = good(mode);
        told(&mut history);
        assert_eq!(judge(&history).0.unclaimed, 1);
    }
}

#[test]
fn writes_that_no_cursor_claims_were_lost() {
    let mut history = good(Mode::All);
    history.writes.push(put("n", 6, (Q, 1)));
    let (counts, violations) = judge(&history);
    assert!(violations.is_empty(), "{violations:?}");
    assert_eq!(counts.lost, 1);
}

#[test]
fn a_record_of_two_writes_is_told_under_either() {
    // told by another process than the one whose write is claimed: another write gave the same record
    breaks(Mode::All, &[], |history| {
        history.writes.push(Write { acknowledged: Some((16, 2)), ..put("n", 2, (Q, 1)) });
        batches(history)[3].cursor.vector.insert(Q, 1);
        batches(history)[3].events.push(told_put("n", 2));
        batches(history)[3].cursor.process = Some(Q);
    });
}

#[test]
fn a_reset_begins_with_an_empty_view() {
    let reset = |history: &mut History| {
        let events = vec![Event::Reset("ahead".into()), told_put("m", 4), Event::Synced];
        batches(history)[3].events = events;
    };
    // the delete above the other writes is not told: the view has nothing of the name
    breaks(Mode::Latest, &[], reset);
    breaks(Mode::Latest, &[Promise::Reliable, Promise::Converged], |history| {
        reset(history);
        batches(history)[3].events.remove(1);
    });
}
