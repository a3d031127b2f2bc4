//! Rules 1 to 7 of `docs/internals/replication.md`, one test each or more, and the round as a whole against the
//! simplest model.

use proptest::prelude::*;

use super::*;
use crate::core::digest_trie::Prefix;
use crate::core::genesis::Genesis;
use crate::core::history::{Depth, Lost, Registers};
use crate::core::limits::LIST_AT_MOST;
use crate::core::message::{Found, Listed, Listing, Reply, Sums, SyncRequest, SyncResponse, SyncStep};
use crate::core::mutants::Mutants;
use crate::core::peers::{NodeState, Peers, Summary, SyncTask};
use crate::core::protocol::ProtocolRange;
use crate::core::push::WriteLog;
use crate::core::record::{Dot, Incarnation, Kind};
use crate::core::stamp::Stamp;
use crate::core::store::{Change, Store};
use crate::core::testing::{at, name};
use crate::core::vector::Vector;
use crate::core::version::Version;

const GENESIS: Genesis = Genesis { provisional: false, started: Stamp::ZERO, key: [3; 16], versions: 1 };
const MIB: u32 = 1 << 20;

fn store(incarnation: u64) -> Store<()> {
    Store::simulated(GENESIS, Incarnation(incarnation), 4, Mutants::NONE)
}

fn put(store: &mut Store<()>, text: &str, micros: u64) {
    let version = Version::of_data(&micros.to_le_bytes());
    store.write(at(micros), &name(text), &Change::Put { version: &version, data: b"d" }, Some(at(micros)));
}

fn delete(store: &mut Store<()>, text: &str, micros: u64) {
    store.write(at(micros), &name(text), &Change::Delete, Some(at(micros)));
}

fn moment(micros: u64) -> Moment {
    Moment { now: at(micros), latest_horizon: Stamp::MAX, latest_compaction: Stamp::MAX }
}

fn filled(incarnation: u64, names: u64) -> Store<()> {
    let mut store = store(incarnation);
    (0..names).for_each(|i| put(&mut store, &format!("n{i}"), 10 + i));
    store
}

fn exchange(a: &mut Store<()>, b: &mut Store<()>, round: &mut Round) -> (SyncRequest, SyncResponse, Next) {
    let ask = round.ask(a);
    let answer = respond(b, true, moment(1_000_000_000), &ask);
    let next = round.answered(a, moment(1_000_000_000), 77, answer.clone());
    (ask, answer, next)
}

/// Runs a round to its end; calls `between` with the peer after each answer.
fn finish(
    a: &mut Store<()>,
    b: &mut Store<()>,
    mut round: Round,
    mut between: impl FnMut(&mut Store<()>, u32),
) -> RoundResult {
    for answers in 1..100_000 {
        match exchange(a, b, &mut round).2 {
            Next::Ask => between(b, answers),
            Next::Done(result) => return result,
            Next::Stop(why) => panic!("stopped: {why:?}"),
        }
    }
    panic!("no end");
}

fn sync(a: &mut Store<()>, b: &mut Store<()>, budget: u32) -> RoundResult {
    let round = Round::new(a, b.incarnation(), budget, 5);
    finish(a, b, round, |_, _| {})
}

fn summary(store: &Store<()>) -> Summary {
    Summary {
        incarnation: store.incarnation(),
        node: store.incarnation().0,
        region: 0,
        state: NodeState::Ready,
        genesis: Some(store.genesis().mark()),
        root: store.set().root(),
        registers: store.registers(),
        vector: store.vector().mark(),
        unproven: None,
        saved: None,
        protocol: ProtocolRange::IMPLEMENTED,
    }
}

#[test]
fn rule_1_equal_sets_exchange_nothing_or_their_vectors_once() {
    let (mut a, mut b) = (store(1), store(2));
    put(&mut a, "x", 10);
    let round = Round::new(&a, b.incarnation(), MIB, 0);
    finish(&mut a, &mut b, round, |_, _| {});
    assert_eq!(a.set().root(), b.set().root());
    // b holds the writes of a, and cannot know that these are all
    assert_eq!(b.vector().get(a.incarnation()), 0);
    let mut peers = Peers::default();
    peers.see(&WriteLog::default(), 0, &[summary(&b)], 1_000);
    assert_eq!(peers.next(0, 0, &summary(&a), Mutants::NONE), Some((b.incarnation(), SyncTask::Vectors)));
    let mut round = Round::vectors(&a, b.incarnation(), MIB);
    let (_, answer, next) = exchange(&mut a, &mut b, &mut round);
    assert!(matches!((answer.reply, next), (Reply::Equal(_), Next::Done(_))));
    assert_eq!(b.vector(), a.vector());
    peers.see(&WriteLog::default(), 0, &[summary(&b)], 1_000);
    assert_eq!(peers.next(0, 0, &summary(&a), Mutants::NONE), None, "no further task");
    // vectors are joined only if the roots are equal
    put(&mut a, "y", 11);
    let mut round = Round::vectors(&a, b.incarnation(), MIB);
    let (_, _, next) = exchange(&mut a, &mut b, &mut round);
    assert_eq!((next, b.vector().get(a.incarnation())), (Next::Ask, 1), "a normal round instead");
    assert_eq!(finish(&mut a, &mut b, round, |_, _| {}).differences, 1);
}

#[test]
fn rule_2_the_larger_horizon_first_on_both_sides() {
    for larger_at_b in [true, false] {
        let (mut a, mut b) = (store(1), store(2));
        for store in [&mut a, &mut b] {
            put(store, "old", 5);
            delete(store, "old", 20);
            put(store, "kept", 30);
        }
        let ahead = if larger_at_b { &mut b } else { &mut a };
        assert_eq!(ahead.raise_horizon(at(25), usize::MAX), 1);
        let mut round = Round::new(&a, b.incarnation(), MIB, 0);
        let (_, answer, _) = exchange(&mut a, &mut b, &mut round);
        assert_eq!(matches!(answer.reply, Reply::RegistersFirst), larger_at_b, "nothing is compared before");
        if larger_at_b {
            finish(&mut a, &mut b, round, |_, _| {});
        }
        assert_eq!((a.set().horizon(), b.set().horizon()), (at(25), at(25)));
        assert_eq!((a.set().tombstones(), b.set().tombstones()), (0, 0));
        assert_eq!(a.set().root(), b.set().root());
    }
}

#[test]
fn rule_3_an_answer_has_at_least_one_item_whatever_the_budget() {
    let (mut a, mut b) = (filled(1, 40), store(2));
    (40..90).for_each(|i| put(&mut b, &format!("n{i}"), 10 + i));
    let mut round = Round::new(&a, b.incarnation(), 0, 9);
    for _ in 0..1_000 {
        let (ask, answer, next) = exchange(&mut a, &mut b, &mut round);
        if let (SyncStep::Go { wants, compare, .. }, Reply::Found(found)) = (&ask.step, &answer.reply) {
            assert!(wants.is_empty() || found.given >= 1, "{found:?}");
            assert!(compare.is_empty() || found.covered + found.given >= 1, "{found:?}");
            assert!(found.records.len() <= 1, "and not more than one");
        }
        if matches!(next, Next::Done(_)) {
            assert_eq!(a.set().root(), b.set().root());
            return assert_eq!(a.set().root().count, 90);
        }
        assert_eq!(next, Next::Ask);
    }
    panic!("no end");
}

#[test]
fn rule_4_a_stretch_is_done_only_if_the_answer_covers_it() {
    let (mut a, mut b) = (filled(1, 300), filled(2, 300));
    (300..400).for_each(|i| put(&mut b, &format!("n{i}"), 10 + i));
    let mut round = Round::new(&a, b.incarnation(), 500, 9);
    let (ask, answer, next) = exchange(&mut a, &mut b, &mut round);
    let (SyncStep::Open(compare), Reply::Found(found)) = (&ask.step, &answer.reply) else {
        panic!("{ask:?}")
    };
    let covered = usize::try_from(found.covered).unwrap();
    assert!(covered > 0 && covered < 256, "the budget ends it early: {covered}");
    assert_eq!((compare[0].sums.len(), next), (256, Next::Ask));
    let Sums::Children { first, .. } = compare[0].sums else { panic!() };
    let SyncStep::Go { compare, .. } = round.ask(&a).step else { panic!() };
    let Sums::Children { first: next, sums } = &compare[0].sums else { panic!() };
    assert_eq!(
        (*next, sums.len()),
        (first.wrapping_add(covered as u8), 256 - covered),
        "it goes on from there"
    );
    finish(&mut a, &mut b, round, |_, _| {});
    assert_eq!(a.set().root(), b.set().root());
}

#[test]
fn rule_5_rounds_start_at_random_places() {
    let (a, b) = (filled(1, 300), store(2));
    let first = |entropy| match Round::new(&a, b.incarnation(), MIB, entropy).ask(&a).step {
        SyncStep::Open(compare) => match compare[0].sums {
            Sums::Children { first, .. } => first,
            Sums::Whole(_) => panic!("it is too large for that"),
        },
        _ => panic!("a round opens"),
    };
    let firsts: std::collections::BTreeSet<u8> =
        (0..1_000u64).map(|i| first(i.wrapping_mul(0x9e37))).collect();
    assert!(firsts.len() > 200, "{} of 256 places", firsts.len());
}

#[test]
fn rule_6_an_empty_node_takes_a_snapshot_and_resumes_it_elsewhere() {
    let (mut a, mut b, mut c) = (store(1), filled(2, 400), store(3));
    assert!(much_larger(b.set().root().count, a.set().root().count));
    sync(&mut b, &mut c, MIB);
    let vectors = Round::vectors(&c, b.incarnation(), MIB);
    finish(&mut c, &mut b, vectors, |_, _| {});
    put(&mut b, "only b has it", 5_000);
    put(&mut c, "only c has it", 6_000);
    let mut round = Round::new(&a, b.incarnation(), MIB, 0);
    assert_eq!(exchange(&mut a, &mut b, &mut round).2, Next::Stop(Stop::TakeSnapshot));

    let mut snapshot = Snapshot::new(b.incarnation(), 2_000);
    let mut joined = false;
    for _ in 0..5 {
        let answer = respond(&mut b, true, moment(0), &snapshot.ask(&a, joined));
        assert_eq!(snapshot.answered(&mut a, joined, moment(0), answer), SnapshotNext::Ask);
        joined = true;
    }
    let taken = a.set().root().count;
    assert!(taken > 5 && taken < 400);
    assert!(a.vector().is_empty(), "nothing is claimed before the end");
    // b is gone; the snapshot continues with c where it stopped
    let mut snapshot = snapshot.resume(c.incarnation(), 1 << 20);
    let mut last = None;
    loop {
        let answer = respond(&mut c, true, moment(0), &snapshot.ask(&a, true));
        let Reply::Snapshot { records, upto, .. } = &answer.reply else { panic!() };
        let positions: Vec<u64> = records.iter().map(|r| a.set().position(r.name())).collect();
        assert!(positions.is_sorted() && positions.iter().all(|p| Some(*p) > last && p <= upto));
        last = Some(*upto);
        match snapshot.answered(&mut a, true, moment(0), answer) {
            SnapshotNext::Ask => {}
            SnapshotNext::Done { received } => break assert!(received >= 400),
            SnapshotNext::Stop(why) => panic!("{why:?}"),
        }
    }
    // the lesser vector: of b's writes those that c had at the start of its part, and no writes of c, since b had none
    assert_eq!((a.vector().get(b.incarnation()), a.vector().get(c.incarnation())), (400, 0));
}

#[test]
fn rule_7_the_vector_of_the_start_is_joined_at_the_end() {
    let (mut a, mut b) = (filled(1, 300), filled(2, 300));
    (300..400).for_each(|i| put(&mut b, &format!("n{i}"), 10 + i));
    let at_start = b.vector().get(b.incarnation());
    let round = Round::new(&a, b.incarnation(), 300, 9);
    // b writes while the round runs, also in stretches that are done
    let mut later = 0;
    finish(&mut a, &mut b, round, |b, answers| {
        if answers < 50 {
            later += 1;
            put(b, &format!("later{answers}"), 10_000 + u64::from(answers));
        }
    });
    assert!(later > 10);
    assert_eq!(a.vector().get(b.incarnation()), at_start, "neither less nor more");
}

#[test]
fn a_vector_is_not_joined_before_the_end() {
    let (mut a, mut b) = (filled(1, 300), filled(2, 399));
    let mut round = Round::new(&a, b.incarnation(), 300, 9);
    while exchange(&mut a, &mut b, &mut round).2 == Next::Ask {
        assert_eq!(a.vector().get(b.incarnation()), 0);
    }
    assert_eq!(a.vector().get(b.incarnation()), 399);
}

#[test]
fn a_round_is_with_one_process() {
    let (mut a, mut b) = (filled(1, 300), filled(2, 399));
    let mut round = Round::new(&a, b.incarnation(), 300, 9);
    assert_eq!(exchange(&mut a, &mut b, &mut round).2, Next::Ask);
    let mut restarted = store(3);
    assert_eq!(exchange(&mut a, &mut restarted, &mut round).2, Next::Stop(Stop::Gone));
    assert_eq!(a.vector().get(b.incarnation()), 0);
}

#[test]
fn the_older_genesis_wins_on_both_sides() {
    for older_asks in [true, false] {
        let later = Genesis { provisional: false, started: at(9), key: [8; 16], versions: 1 };
        let (mut a, mut b) = (filled(1, 10), store(2));
        b.adopt(later);
        put(&mut b, "theirs", 50);
        let (asks, answers) = if older_asks { (&mut a, &mut b) } else { (&mut b, &mut a) };
        let mut round = Round::new(asks, answers.incarnation(), MIB, 0);
        let first = exchange(asks, answers, &mut round).2;
        if !older_asks {
            assert_eq!(first, Next::Stop(Stop::OtherGenesis), "digests under two keys are never compared");
            round = Round::new(asks, answers.incarnation(), MIB, 0);
        }
        finish(asks, answers, round, |_, _| {});
        assert_eq!((a.genesis(), b.genesis()), (GENESIS, GENESIS));
        assert_eq!(a.set().root(), b.set().root());
        assert_eq!(a.set().root().count, 11, "both sides keep their records");
    }
}

#[test]
fn a_round_with_a_peer_that_makes_no_progress_stops() {
    let mut a = filled(1, 300);
    let mut round = Round::new(&a, Incarnation(2), MIB, 0);
    for answers in 0..100 {
        round.ask(&a);
        let reply = Reply::Found(Found { vector: Some(Vector::default()), count: 300, ..Found::default() });
        let (from, now, registers) = (Incarnation(2), at(1), a.registers());
        let answer = SyncResponse { from, now, genesis: Some(GENESIS), registers, unproven: None, reply };
        match round.answered(&mut a, moment(1), 0, answer) {
            Next::Ask => {}
            next => return assert_eq!((next, answers > 1), (Next::Stop(Stop::Nonsense), true)),
        }
    }
    panic!("it makes requests for ever");
}

#[test]
fn an_answer_about_other_stretches_is_nonsense() {
    let mut a = filled(1, 300);
    for listed in [false, true] {
        let mut round = Round::new(&a, Incarnation(2), MIB, 0);
        round.ask(&a);
        let mut found =
            Found { vector: Some(Vector::default()), count: 300, covered: 256, ..Found::default() };
        if listed {
            found.listed.push(Listing { prefix: Prefix::ALL, items: Vec::new() });
        } else {
            found.differ.push(Prefix::ALL);
        }
        let (from, now, registers) = (Incarnation(2), at(1), a.registers());
        let answer = SyncResponse {
            from,
            now,
            genesis: Some(GENESIS),
            registers,
            unproven: None,
            reply: Reply::Found(found),
        };
        assert_eq!(round.answered(&mut a, moment(1), 0, answer), Next::Stop(Stop::Nonsense));
    }
}

fn steps() -> impl Strategy<Value = Vec<(u16, u64, bool)>> {
    prop::collection::vec((0u16..400, 0u64..50, any::<bool>()), 0..400)
}

proptest! {
    /// Whatever two sets hold, under whatever budget, a round leaves both with the join.
    #[test]
    fn a_round_leaves_both_with_the_join(
        (ours, theirs) in (steps(), steps()),
        budget in prop_oneof![Just(0), 1u32..3_000, Just(MIB)],
        (horizon_a, horizon_b) in (0u64..30, 0u64..30),
        entropy in any::<u64>(),
    ) {
        let (mut a, mut b, mut both) = (store(1), store(2), store(9));
        for (store, steps) in [(&mut a, &ours), (&mut b, &theirs)] {
            for (n, micros, gone) in steps {
                let text = format!("n{n}");
                if *gone { delete(store, &text, *micros) } else { put(store, &text, *micros) }
            }
        }
        let union: Vec<Record> =
            [&a, &b].iter().flat_map(|s| (0..s.set().stretches()).flat_map(|i| s.set().stretch(i)).cloned()).collect();
        a.raise_horizon(at(horizon_a), usize::MAX);
        b.raise_horizon(at(horizon_b), usize::MAX);
        // if one side has forgotten a delete below its horizon, and the other holds an older value, the value stands
        let left: Vec<Record> =
            [&a, &b].iter().flat_map(|s| (0..s.set().stretches()).flat_map(|i| s.set().stretch(i)).cloned()).collect();
        prop_assert!(left.len() <= union.len());
        both.raise_horizon(at(horizon_a.max(horizon_b)), usize::MAX);
        let horizon = both.set().horizon();
        for record in left.iter().filter(|r| r.kind() == Kind::Value || r.last_sync() >= horizon) {
            both.merge(record);
        }
        let mut round = Round::new(&a, b.incarnation(), budget, entropy);
        let mut done = false;
        for _ in 0..20_000 {
            match exchange(&mut a, &mut b, &mut round).2 {
                Next::Ask => {}
                Next::Done(_) => { done = true; break }
                Next::Stop(Stop::TakeSnapshot) => return Ok(()),
                Next::Stop(why) => prop_assert!(false, "{why:?}"),
            }
        }
        prop_assert!(done);
        prop_assert_eq!(a.set().root(), both.set().root());
        prop_assert_eq!(b.set().root(), both.set().root());
    }
}

/// A set with a history, of these records, that has these registers.
fn deep(incarnation: u64, steps: &[(u16, u64, bool)], registers: Registers) -> Store<()> {
    let mut store = store(incarnation);
    store.adopt_registers(Registers { depth: registers.depth, ..Registers::NONE }, usize::MAX);
    for (sequence, (n, micros, gone)) in steps.iter().enumerate() {
        let (name, dot) = (
            name(&format!("n{n}")),
            Dot { incarnation: Incarnation(incarnation), sequence: sequence as u64 },
        );
        let version = Version::of_data(&[incarnation as u8 & u8::from(micros.is_multiple_of(3))]);
        // nodes may have the same write with another end
        let end = (micros % 4 == 1).then(|| at(micros + 5 + incarnation % 2));
        let value = || Record::value_until(name.clone(), &version, b"d", at(*micros), dot, end);
        store.merge(&if *gone { Record::tombstone(name.clone(), at(*micros), dot) } else { value() });
    }
    store.adopt_registers(registers, usize::MAX);
    store
}

fn registers() -> impl Strategy<Value = Registers> {
    let lost = (0u64..30, 0u64..30).prop_map(|(since, until)| Lost::new(at(since), at(until)));
    (0u64..30, 0u64..30, 1u64..9, 1u8..6, lost).prop_map(|(gc, compaction, epoch, versions, lost)| {
        Registers {
            gc_horizon: at(gc),
            compaction_horizon: at(compaction),
            // the epoch is set once
            depth: Depth::new(at(epoch * 10 + u64::from(versions)), versions),
            lost,
        }
    })
}

fn records(store: &Store<()>) -> Vec<Record> {
    store.set().cells(0, u64::MAX).map(|cell| cell.record().clone()).collect()
}

proptest! {
    /// The same with histories: both sides adopt the larger registers, and then hold the normal form of what both held.
    #[test]
    fn a_round_leaves_both_with_the_join_of_their_histories(
        (ours, theirs) in (
            prop::collection::vec((0u16..40, 0u64..50, any::<bool>()), 0..300),
            prop::collection::vec((0u16..40, 0u64..50, any::<bool>()), 0..300),
        ),
        budget in prop_oneof![Just(0), 1u32..3_000, Just(MIB)],
        (registers_a, registers_b) in (registers(), registers()),
        list_at_most in prop_oneof![Just(1u64), Just(4), Just(LIST_AT_MOST)],
        entropy in any::<u64>(),
    ) {
        let (mut a, mut b) = (deep(1, &ours, registers_a), deep(2, &theirs, registers_b));
        (a, b) = (a.listing_at_most(list_at_most), b.listing_at_most(list_at_most));
        let joined = a.registers().join(b.registers());
        let mut both = deep(9, &[], joined);
        let mut left = [deep(1, &ours, registers_a), deep(2, &theirs, registers_b)];
        for store in &mut left {
            prop_assert!(store.adopt_registers(joined, usize::MAX));
        }
        both.replicate(at(1), &left.iter().flat_map(records).collect::<Vec<_>>());
        let mut round = Round::new(&a, b.incarnation(), budget, entropy);
        let mut done = None;
        for _ in 0..20_000 {
            match exchange(&mut a, &mut b, &mut round).2 {
                Next::Ask => {}
                Next::Done(result) => { done = Some(result); break }
                Next::Stop(Stop::TakeSnapshot) => return Ok(()),
                Next::Stop(why) => prop_assert!(false, "{why:?}"),
            }
        }
        prop_assert!(done.is_some());
        prop_assert_eq!((a.registers(), b.registers()), (joined, joined));
        prop_assert_eq!(a.set().root(), both.set().root());
        prop_assert_eq!(b.set().root(), both.set().root());
    }
}

/// A record that is missing in the middle of a long history is sent alone.
#[test]
fn one_older_record_costs_one_record() {
    let registers = Registers { depth: Depth::new(at(1), 8), ..Registers::NONE };
    let steps: Vec<_> = (0..8).map(|micros| (1, 10 + micros, false)).collect();
    let without: Vec<_> = steps.iter().copied().filter(|(_, micros, _)| *micros != 13).collect();
    for (ours, theirs) in [(&steps, &without), (&without, &steps)] {
        // one id, so that equal records are equal in their version too
        let (mut a, mut b) = (deep(1, ours, registers), deep(1, theirs, registers));
        let result = sync(&mut a, &mut b, MIB);
        assert_eq!((result.differences, result.received + result.sent), (1, 1), "{result:?}");
        assert_eq!(a.set().root(), b.set().root());
    }
}

/// Our horizon rises between a request and its answer. The answer brings a record that lies below a tombstone which we
/// named in the request and have just dropped.
#[test]
fn an_answer_under_other_registers_does_not_count() {
    let registers = Registers { depth: Depth::new(at(1), 8), ..Registers::NONE };
    let mut a = deep(1, &[(1, 20, true), (1, 31, false)], registers);
    let mut b = deep(2, &[(1, 10, false), (1, 20, true), (1, 31, false)], registers);
    let mut round = Round::new(&a, b.incarnation(), MIB, 0);
    assert_eq!(exchange(&mut a, &mut b, &mut round).2, Next::Ask, "it lists the name");
    let answer = respond(&mut b, true, moment(100), &round.ask(&a));
    let Reply::Found(found) = &answer.reply else { panic!("{answer:?}") };
    assert!(found.records.iter().any(|record| record.last_sync() == at(10)));
    a.raise_horizon(at(25), usize::MAX);
    assert_eq!(round.answered(&mut a, moment(100), 0, answer), Next::Ask, "once more");
    let stamps = |store: &Store<()>| records(store).iter().map(Record::last_sync).collect::<Vec<_>>();
    assert_eq!(stamps(&a), [at(31)], "what was deleted does not come back");
    while exchange(&mut a, &mut b, &mut round).2 == Next::Ask {}
    assert_eq!((stamps(&a), stamps(&b)), (vec![at(31)], vec![at(31)]));
}

#[test]
fn a_larger_set_goes_down_through_its_children() {
    let (mut a, mut b) = (filled(1, 20_000), filled(2, 20_000));
    assert!(a.set().root().count > 100 * LIST_AT_MOST);
    assert_eq!(a.set().root(), b.set().root(), "the same writes, dots aside");
    put(&mut b, "one more", 50_000);
    let result = sync(&mut a, &mut b, MIB);
    assert_eq!((result.differences, result.received, result.sent, result.requests), (1, 1, 0, 2));
    assert_eq!(a.set().root(), b.set().root());
    assert_eq!(
        a.set().get(&name("one more")).unwrap().dot(),
        Dot { incarnation: Incarnation(2), sequence: 20_001 }
    );
}

/// The next step of a round after an answer to its first request, which compares the 256 children of all positions.
fn judged(found: impl FnOnce(&[Prefix]) -> Found) -> Next {
    let mut a = filled(1, 300);
    let mut round = Round::new(&a, Incarnation(2), MIB, 0);
    let SyncStep::Open(compare) = round.ask(&a).step else { panic!("a round opens") };
    let Sums::Children { first, .. } = compare[0].sums else { panic!("it is too large for a whole") };
    let asked: Vec<Prefix> = (0..=255u8).filter_map(|i| Prefix::ALL.child(first.wrapping_add(i))).collect();
    let found = Found { vector: Some(Vector::default()), count: 300, ..found(&asked) };
    let (from, now, registers) = (Incarnation(2), at(1), a.registers());
    let answer = SyncResponse {
        from,
        now,
        genesis: Some(GENESIS),
        registers,
        unproven: None,
        reply: Reply::Found(found),
    };
    round.answered(&mut a, moment(1), 0, answer)
}

fn listing_of(prefix: Prefix, items: u64) -> Listing {
    let item = |i| Listed { position: prefix.first() + i, newest: at(1), sum: i };
    Listing { prefix, items: (0..items).map(item).collect() }
}

#[test]
fn an_answer_has_each_stretch_once_in_order_and_only_stretches_that_it_covers() {
    let differ = |differ: Vec<Prefix>, covered| Found { differ, covered, ..Found::default() };
    assert_eq!(judged(|asked| differ(vec![asked[0], asked[7]], 256)), Next::Ask);
    assert_eq!(judged(|asked| differ(vec![asked[7], asked[7]], 256)), Next::Stop(Stop::Nonsense));
    assert_eq!(judged(|asked| differ(vec![asked[7], asked[0]], 256)), Next::Stop(Stop::Nonsense));
    assert_eq!(judged(|asked| differ(vec![asked[7]], 7)), Next::Stop(Stop::Nonsense));
    let listed = |listed: Vec<Listing>| Found { listed, covered: 256, ..Found::default() };
    assert_eq!(judged(|asked| listed(vec![listing_of(asked[3], 5)])), Next::Ask);
    let twice = |asked: &[Prefix]| listed(vec![listing_of(asked[3], 5), listing_of(asked[3], 5)]);
    assert_eq!(judged(twice), Next::Stop(Stop::Nonsense));
    let both = |asked: &[Prefix]| Found { differ: vec![asked[3]], ..listed(vec![listing_of(asked[3], 5)]) };
    assert_eq!(judged(both), Next::Stop(Stop::Nonsense));
}

#[test]
fn a_listing_is_short_or_its_stretch_cannot_be_cut() {
    let listed = |items| {
        move |asked: &[Prefix]| Found {
            listed: vec![listing_of(asked[3], items)],
            covered: 256,
            ..Found::default()
        }
    };
    assert_eq!(judged(listed(LIST_AT_MOST)), Next::Ask);
    assert_eq!(judged(listed(LIST_AT_MOST + 1)), Next::Stop(Stop::Nonsense));
}

/// If clocks are set back to before a horizon that both nodes have, the horizon is no reason to reject an answer.
#[test]
fn a_horizon_that_is_ours_already_is_accepted() {
    let (mut a, mut b) = (filled(1, 20), filled(2, 25));
    let early = Moment { now: at(100), latest_horizon: at(100), latest_compaction: at(100) };
    for store in [&mut a, &mut b] {
        store.raise_horizon(at(5_000), usize::MAX);
    }
    let mut round = Round::new(&a, b.incarnation(), MIB, 0);
    for _ in 0..10 {
        let answer = respond(&mut b, true, early, &round.ask(&a));
        match round.answered(&mut a, early, 0, answer) {
            Next::Ask => {}
            next => {
                assert!(matches!(next, Next::Done(_)), "{next:?}");
                return assert_eq!(a.set().root(), b.set().root());
            }
        }
    }
    panic!("no end");
}

#[test]
fn a_peer_that_first_drops_tombstones_has_not_failed() {
    let (mut a, mut b) = (filled(1, 20), filled(2, 20));
    (0..10).for_each(|i| delete(&mut b, &format!("n{i}"), 1_000));
    for store in [&mut a, &mut b] {
        // b has yet to forget
        store.raise_horizon(at(5_000), 0);
    }
    let registers = a.registers();
    let mut round = Round::new(&a, b.incarnation(), MIB, 0);
    round.ask(&a);
    let settling = |now| SyncResponse {
        from: Incarnation(2),
        now,
        genesis: Some(GENESIS),
        registers,
        unproven: None,
        reply: Reply::RegistersFirst,
    };
    assert_eq!(round.answered(&mut a, moment(1), 0, settling(at(1))), Next::Stop(Stop::Settling));
    let mut snapshot = Snapshot::new(Incarnation(2), MIB);
    let next = snapshot.answered(&mut a, true, moment(1), settling(at(1)));
    assert_eq!(next, SnapshotNext::Stop(Stop::Settling));
}

#[test]
fn an_answer_that_the_sets_are_equal_needs_a_request_for_it() {
    let mut a = filled(1, 300);
    let mut round = Round::new(&a, Incarnation(2), MIB, 0);
    round.ask(&a);
    let (mut vector, before) = (Vector::default(), a.vector().clone());
    vector.raise(Incarnation(2), 1_000);
    let answer = SyncResponse {
        from: Incarnation(2),
        now: at(1),
        genesis: Some(GENESIS),
        registers: a.registers(),
        unproven: None,
        reply: Reply::Equal(vector),
    };
    assert_eq!(round.answered(&mut a, moment(1), 0, answer), Next::Stop(Stop::Nonsense));
    assert_eq!(*a.vector(), before, "nothing is claimed");
}
