//! Two or three replicas whose messages are carried by hand.

use super::*;
use crate::core::Namespace;
use crate::core::checkpoint::Hold;
use crate::core::join::LONGEST_WAIT_US;
use crate::core::limits::MAX_SESSION_US;
use crate::core::message::{Reply, SyncResponse};
use crate::core::mutants::Mutants;
use crate::core::peers::Peer;
use crate::core::store::Change;
use crate::core::sync::Round;
use crate::core::testing::name;
use crate::core::vector::Vector;
use crate::core::version::Version;

const MS: u64 = 1_000;

pub(super) struct Node {
    pub(super) store: Store<()>,
    pub(super) replica: Replica,
}

pub(super) fn now(us: u64) -> Now {
    Now { wall: Stamp::from_micros(1_000_000_000 + us).unwrap(), mono_us: us }
}

pub(super) fn node(incarnation: u64, alone: bool) -> Node {
    let key = [incarnation as u8; 16];
    let genesis = if alone {
        Genesis { provisional: false, started: now(0).wall, key, versions: 1 }
    } else {
        Genesis::none(key)
    };
    let store = Store::simulated(genesis, Incarnation(incarnation), 4, Mutants::NONE);
    let config = Config { alone, ..Config::new(incarnation, 0) };
    Node { store, replica: Replica::new(config, now(0)) }
}

impl Node {
    fn write(&mut self, at: u64, text: &str) -> Vec<Call> {
        let version = Version::of_data(text.as_bytes());
        self.store.write(now(at).wall, &name(text), &Change::Put { version: &version, data: b"" }, None);
        self.pump(at)
    }

    /// The requests to send since the last call.
    pub(super) fn calls(&mut self) -> Vec<Call> {
        self.store.take_effects().calls
    }

    fn pump(&mut self, at: u64) -> Vec<Call> {
        self.replica.pump(&mut self.store, now(at));
        self.calls()
    }

    pub(super) fn see(&mut self, at: u64, others: &[&Node]) {
        let live: Vec<Summary> = others.iter().map(|other| other.replica.summary(&other.store)).collect();
        let statuses: Vec<SeedStatus> =
            others.iter().map(|other| SeedStatus::Answers(other.store.incarnation())).collect();
        self.replica.see(&mut self.store, now(at), &live, &statuses);
    }

    pub(super) fn tick(&mut self, at: u64) -> Vec<Call> {
        self.tick_by(now(at))
    }

    pub(super) fn tick_by(&mut self, clock: Now) -> Vec<Call> {
        self.replica.tick(&mut self.store, clock, 7);
        self.calls()
    }

    fn request(&mut self, at: u64, request: &Request) -> Response {
        self.replica.request(&mut self.store, now(at), request)
    }

    fn response(&mut self, at: u64, id: u64, response: Response) -> Vec<Call> {
        self.replica.response(&mut self.store, now(at), 7, id, response);
        self.calls()
    }

    fn failed(&mut self, at: u64, id: u64) -> Vec<Call> {
        self.replica.failed(&mut self.store, now(at), id);
        self.calls()
    }

    fn has(&self, text: &str) -> bool {
        self.store.get(&name(text)).is_some()
    }
}

/// Carries calls to a peer and the responses back, until there are no more.
pub(super) fn carry(at: u64, from: &mut Node, to: &mut Node, calls: Vec<Call>) {
    let mut calls = VecDeque::from(calls);
    while let Some(call) = calls.pop_front() {
        assert_eq!(call.to, to.store.incarnation());
        let response = to.request(at, &call.request);
        calls.extend(from.response(at, call.id, response));
    }
}

/// Lets a call fail, and all calls that follow from it.
fn fail(from: &mut Node, at: u64, call: Call) {
    let mut calls = vec![call];
    while let Some(call) = calls.pop() {
        calls.extend(from.failed(at, call.id));
    }
}

/// A node that is ready, and a node that has joined its set.
pub(super) fn pair() -> (Node, Node) {
    let (mut a, mut b) = (node(1, true), node(2, false));
    a.write(0, "first");
    b.see(0, &[&a]);
    let calls = b.tick(0);
    carry(0, &mut b, &mut a, calls);
    assert_eq!(b.replica.state(), NodeState::Ready);
    a.see(0, &[&b]);
    b.see(0, &[&a]);
    (a, b)
}

#[test]
fn a_node_without_peers_is_ready_at_once() {
    assert_eq!(node(1, true).replica.state(), NodeState::Ready);
    assert_eq!(node(1, false).replica.state(), NodeState::Joining);
}

#[test]
fn joining_takes_the_set_its_genesis_and_its_vector() {
    let (a, b) = pair();
    assert!(b.has("first"));
    assert_eq!(b.store.genesis(), a.store.genesis());
    assert_eq!(b.store.vector(), a.store.vector());
    assert_eq!(b.replica.counts().snapshots, 1);
}

#[test]
fn a_write_is_pushed_at_once_and_moves_the_vector() {
    let (mut a, mut b) = pair();
    // the batch has the earlier write too, because the log still has it
    let calls = a.write(MS, "second");
    assert_eq!(calls.len(), 1);
    assert!(a.write(MS, "third").is_empty(), "one batch is under way");
    carry(MS, &mut a, &mut b, calls);
    assert!(b.has("second") && b.has("third"), "the next one has both");
    assert_eq!(b.store.vector(), a.store.vector());
}

#[test]
fn a_lost_push_is_repaired_by_sync() {
    let (mut a, mut b) = pair();
    for call in a.write(MS, "lost") {
        assert!(a.failed(2 * MS, call.id).is_empty());
    }
    assert!(!b.has("lost"));
    a.see(3 * MS, &[&b]);
    // the write is not pushed again at once, but a sync is due
    let calls = a.tick(100 * MS);
    assert!(matches!(calls[..], [Call { request: Request::Sync(_), .. }]), "{calls:?}");
    carry(100 * MS, &mut a, &mut b, calls);
    assert!(b.has("lost"));
    assert_eq!((a.replica.counts().rounds, a.replica.counts().differences), (1, 1));
}

#[test]
fn equal_sets_are_silent() {
    let (mut a, mut b) = pair();
    for at in (1..100).map(|i| i * 100 * MS) {
        a.see(at, &[&b]);
        b.see(at, &[&a]);
        // the first batch of the log, which b has not acknowledged, and nothing after it
        let calls = a.tick(at);
        assert!(calls.is_empty() || at == 100 * MS, "{calls:?}");
        carry(at, &mut a, &mut b, calls);
        assert!(b.tick(at).is_empty());
    }
}

#[test]
fn a_node_waits_as_long_for_a_set_that_appears_late() {
    let (a, mut b) = (node(1, true), node(2, false));
    b.see(0, &[]);
    b.replica.others = vec![SeedStatus::Refuses(RefusalCause::Clock); 2];
    assert!(b.tick(LONGEST_WAIT_US).is_empty(), "a node that members refuse for its clock begins no set");
    assert_eq!(b.replica.state(), NodeState::Joining);

    let (found, step) = (10 * LONGEST_WAIT_US, 10 * MS);
    b.see(found, &[&a]);
    let mut at = found;
    while b.replica.state() == NodeState::Joining {
        for call in b.tick(at) {
            fail(&mut b, at, call);
        }
        at += step;
    }
    let waited_us = at - step - found;
    assert!((LONGEST_WAIT_US..LONGEST_WAIT_US + MAX_SESSION_US).contains(&waited_us), "{waited_us} µs");
}

#[test]
fn a_request_without_an_answer_is_repeated_twice() {
    let (mut a, mut b) = pair();
    let call = a.write(MS, "lost").remove(0);
    a.failed(MS, call.id);
    a.see(MS, &[&b]);
    let mut calls = a.tick(100 * MS);
    for _ in 0..session::RETRIES {
        calls = a.failed(200 * MS, calls[0].id);
        assert_eq!(calls.len(), 1);
    }
    let last = calls[0].clone();
    assert!(a.failed(300 * MS, last.id).is_empty());
    assert_eq!(a.replica.counts().failures, 1);
    // a late answer belongs to no session
    let response = b.request(300 * MS, &last.request);
    assert!(a.response(300 * MS, last.id, response).is_empty());
}

#[test]
fn a_clock_that_was_set_is_doubted_until_a_majority_agrees() {
    let (mut a, mut b) = pair();
    let calls = a.tick(100 * MS);
    carry(100 * MS, &mut a, &mut b, calls);
    assert!(!a.replica.doubts_its_clock());
    let set = |us: u64| Now { wall: Stamp::from_micros(9_000_000_000 + us).unwrap(), mono_us: us };
    a.tick_by(set(200 * MS));
    assert!(a.replica.doubts_its_clock());
    // the clock is set back, and b agrees
    a.tick(300 * MS);
    assert!(a.replica.doubts_its_clock(), "no peer has shown its clock yet");
    let calls = a.write(400 * MS, "second");
    carry(400 * MS, &mut a, &mut b, calls);
    a.tick(500 * MS);
    assert!(!a.replica.doubts_its_clock());
}

/// The time of [`now`], with a wall clock that is `us` µs ahead.
fn ahead(at: u64, us: u64) -> Now {
    Now { wall: Stamp::from_micros(now(at).wall.micros() + us).unwrap(), ..now(at) }
}

const HOUR: u64 = 3_600_000 * MS;

#[test]
fn a_write_detects_that_the_clock_was_just_set() {
    let (mut a, mut b) = pair();
    let calls = a.tick(100 * MS);
    carry(100 * MS, &mut a, &mut b, calls);
    assert!(a.replica.may_stamp(&a.store, now(150 * MS)));
    assert!(!a.replica.may_stamp(&a.store, ahead(160 * MS, HOUR)), "before any tick");
    assert!(!a.replica.may_stamp(&a.store, ahead(170 * MS, HOUR)) && a.replica.doubts_its_clock());
    let small = ahead(170 * MS, HOUR - 300 * MS);
    assert!(!a.replica.may_stamp(&a.store, small));
    let steps = a.replica.counts().clock_steps;
    assert_eq!((steps.forward, steps.back), (1, 0), "a correction by NTP is no step");
}

#[test]
fn a_node_without_peers_trusts_its_clock_once_it_is_back_or_steady() {
    let mut a = node(1, true);
    let may = |a: &mut Node, at: u64, us: u64| {
        a.tick_by(ahead(at, us));
        a.replica.may_stamp(&a.store, ahead(at, us))
    };
    assert!(may(&mut a, 100 * MS, 0));
    assert!(!may(&mut a, 200 * MS, HOUR));
    assert!(!may(&mut a, 1_200 * MS, HOUR), "for a second");
    assert!(may(&mut a, 1_300 * MS, 0), "it is back");
    assert!(!may(&mut a, 2_000 * MS, HOUR));
    assert!(!may(&mut a, 6_999 * MS, HOUR));
    assert!(
        may(&mut a, 7_000 * MS, HOUR),
        "a node must not reject writes for ever because its clock was set right"
    );
    assert!(!may(&mut a, 7_100 * MS, 0), "it was set again");
    assert!(may(&mut a, 12_100 * MS, 0));
    let steps = a.replica.counts().clock_steps;
    assert_eq!((steps.forward, steps.back, steps.last_us), (2, 2, -(HOUR as i64)));
}

#[test]
fn a_node_without_peers_lowers_a_horizon_that_a_wrong_clock_raised() {
    let mut a = node(1, true);
    let grace = a.replica.config.grace_us;
    let late = [0, 100, 200, 300].map(|ms| grace + 8_000 * MS + ms * MS);
    for at in [0, MS, 7_000 * MS].into_iter().chain(late) {
        a.tick_by(ahead(at, if at == 0 { 0 } else { 3 * grace }));
    }
    let right = now(grace + 9_100 * MS);
    assert!(a.store.set().horizon() > right.wall);
    a.tick_by(right);
    assert!(a.store.set().horizon() > right.wall, "not while the clock is in doubt");
    let later = now(grace + 20_000 * MS);
    a.tick_by(later);
    assert_eq!(a.store.set().horizon(), later.wall.before(grace));
    let deleted = a.store.write(later.wall, &name("n"), &Change::Delete, None);
    assert!(matches!(deleted, crate::core::store::Written::Done { .. }), "{deleted:?}");
}

#[test]
fn a_later_answer_replaces_the_known_clock() {
    let (mut a, mut b) = pair();
    let calls = a.tick(100 * MS);
    carry(100 * MS, &mut a, &mut b, calls);
    let process = b.store.incarnation();
    let offset = |a: &Node| a.replica.peers().get(process).and_then(Peer::offset_us);
    assert_eq!(offset(&a), Some(0));
    let ahead = Stamp::from_micros(now(60_000 * MS).wall.micros() + 3_000_000).unwrap();
    a.replica.heard_clock(process, ahead, now(60_000 * MS), now(60_000 * MS));
    assert_eq!(offset(&a), Some(3_000_000));
    let late = now(90_000 * MS);
    a.replica.heard_clock(process, late.wall, now(80_000 * MS), late);
    assert_eq!(offset(&a), Some(3_000_000), "an answer that took ten seconds is ignored");
}

#[test]
fn a_leaving_node_shows_its_state_and_takes_part_until_the_end() {
    let (mut a, mut b) = pair();
    b.replica.leave();
    assert_eq!(b.replica.summary(&b.store).state, NodeState::Leaving);
    let calls = a.write(MS, "late");
    carry(MS, &mut a, &mut b, calls);
    assert!(b.has("late"));
}

#[test]
fn a_node_that_leaves_before_it_has_joined_begins_no_set() {
    let mut a = node(1, false);
    a.replica.leave();
    for at in 0..200 {
        a.see(at * 100 * MS, &[]);
        assert!(a.tick(at * 100 * MS).is_empty());
    }
    let summary = a.replica.summary(&a.store);
    assert_eq!((summary.state, summary.genesis), (NodeState::Leaving, None));
}

#[test]
fn a_provisional_set_becomes_real_once_all_nodes_are_in_it() {
    let (mut a, mut b) = (node(1, false), node(2, false));
    let silent = |a: &mut Node, at| a.replica.see(&mut a.store, now(at), &[], &[SeedStatus::Silent]);
    for at in (0..=120).map(|i| i * 100 * MS) {
        silent(&mut a, at);
        a.tick(at);
    }
    assert!(
        a.replica.state() == NodeState::Ready && a.store.genesis().provisional,
        "the other one may hold the set"
    );
    let start = 13_000 * MS;
    b.see(start, &[&a]);
    let calls = b.tick(start);
    carry(start, &mut b, &mut a, calls);
    assert!(b.replica.state() == NodeState::Ready && b.store.genesis().provisional);
    let mut when = None;
    for at in (0..100).map(|i| start + i * 100 * MS) {
        a.see(at, &[&b]);
        let calls = a.tick(at);
        carry(at, &mut a, &mut b, calls);
        when = when.or((!a.store.genesis().provisional).then_some(at));
    }
    assert!(when.is_some_and(|at| at >= start + SEARCH_US), "only after a while: {when:?}");
    assert_eq!(a.store.genesis(), b.store.genesis(), "the other node adopts it");
}

#[test]
fn a_horizon_that_is_not_in_the_past_is_not_adopted() {
    let (mut a, mut b) = pair();
    b.store.raise_horizon(now(60_000 * MS).wall, usize::MAX);
    a.see(MS, &[&b]);
    assert_eq!(a.store.set().horizon(), Stamp::ZERO);
    a.write(MS, "more");
    let calls: Vec<Call> =
        a.tick(2_000 * MS).into_iter().filter(|call| matches!(call.request, Request::Sync(_))).collect();
    assert_eq!(calls.len(), 1);
    carry(2_000 * MS, &mut a, &mut b, calls);
    assert_eq!((a.store.set().horizon(), a.replica.counts().failures), (Stamp::ZERO, 1));
    let ask = Round::new(&b.store, a.store.incarnation(), 1_000, 0).ask(&b.store);
    let answer = a.request(3_000 * MS, &Request::Sync(ask));
    assert!(matches!(answer, Response::Sync(SyncResponse { reply: Reply::WrongHorizon, .. })));
    assert!(a.replica.counts().wrong_horizons >= 2);
}

fn asked(calls: &[Call]) -> Vec<u64> {
    calls.iter().filter(|call| matches!(call.request, Request::Sync(_))).map(|call| call.id).collect()
}

#[test]
fn a_peer_that_hangs_loses_its_turn_and_gets_a_smaller_budget() {
    let (mut a, mut b) = pair();
    a.write(MS, "more");
    a.see(MS, &[&b]);
    let first = a.tick(100 * MS);
    assert_eq!(asked(&first).len(), 1);
    let budget = |calls: &[Call]| {
        calls.iter().find_map(|call| match &call.request {
            Request::Sync(ask) => Some(ask.budget),
            Request::Push(_) => None,
        })
    };
    let whole = budget(&first).unwrap();
    assert!(asked(&a.tick(4_900 * MS)).is_empty());
    assert_eq!(a.replica.counts().failures, 0);
    assert!(asked(&a.tick(5_200 * MS)).is_empty());
    assert_eq!(a.replica.counts().failures, 1);
    // a late answer belongs to no session
    for call in first.iter().filter(|call| asked(&first).contains(&call.id)) {
        let late = b.request(5_300 * MS, &call.request);
        assert!(asked(&a.response(5_300 * MS, call.id, late)).is_empty());
    }
    let again = a.tick(7_000 * MS);
    assert_eq!(budget(&again), Some(whole / 2), "another turn, with a smaller budget");
    carry(7_000 * MS, &mut a, &mut b, again);
    a.write(7_100 * MS, "and more");
    a.see(7_100 * MS, &[&b]);
    assert_eq!(budget(&a.tick(20_000 * MS)), Some(whole), "the budget grows again once answers come in time");
}

#[test]
fn a_leaving_node_pushes_at_once_and_its_peers_sync_with_it() {
    let (mut a, mut b) = pair();
    for call in a.write(MS, "last") {
        a.failed(2 * MS, call.id);
    }
    assert!(a.pump(3 * MS).is_empty(), "not again at once");
    a.replica.leave();
    let calls = a.pump(3 * MS);
    assert!(!calls.is_empty(), "at once when it leaves");
    b.see(4 * MS, &[&a]);
    let asked_for = b.tick(2_000 * MS);
    assert_eq!(asked(&asked_for).len(), 1, "its set differs, and no other node may have these records");
    carry(2_000 * MS, &mut b, &mut a, asked_for);
    assert!(b.has("last"));
}

/// The answer to a push is an acknowledgement. Any other answer counts as none, and the push is repeated.
#[test]
fn an_answer_of_another_kind_counts_as_none() {
    let (mut a, mut b) = pair();
    let calls = a.write(MS, "second");
    let ask = Round::new(&a.store, b.store.incarnation(), 1_000, 0).ask(&a.store);
    let answer = b.request(MS, &Request::Sync(ask));
    assert!(a.response(MS, calls[0].id, answer).is_empty());
    let again = (2..100).find_map(|i| {
        let calls = a.tick(i * 100 * MS);
        calls.into_iter().find(|call| matches!(call.request, Request::Push(_)))
    });
    carry(10_000 * MS, &mut a, &mut b, vec![again.expect("it is pushed again")]);
    assert!(b.has("second"));
}

#[test]
fn a_vector_that_fills_up_leaves_out_what_is_gone_for_long() {
    const ROOM: u64 = 512;
    let full_of = |count: u64, sequence: u64| {
        let mut vector = Vector::default();
        (100..100 + count).for_each(|process| vector.raise(Incarnation(process), sequence));
        vector
    };
    let full = |count: u64| full_of(count, 1);
    let (mut a, b) = pair();
    // all that they wrote lies below the horizon
    let (early, late) = (Stamp::ZERO, now(MS).wall);
    a.store.raise_horizon(now(0).wall.before(SECOND), usize::MAX);
    a.store.join_vector(&full(ROOM), early);
    a.tick(MS);
    assert_eq!(a.store.vector().len(), 1, "the others were never members");
    a.store.join_vector(&full(ROOM), early);
    assert_eq!(a.store.vector().len(), 1, "a peer that still has them does not bring them back");

    let summary = |process: u64| Summary {
        incarnation: Incarnation(process),
        node: process,
        ..b.replica.summary(&b.store)
    };
    let seen: Vec<Summary> = (100..1_000).map(summary).collect();
    a.replica.see(&mut a.store, now(MS), &seen, &[]);
    a.replica.see(&mut a.store, now(2 * MS), &seen[..10], &[]);
    a.store.join_vector(&full_of(800, 2), early);
    a.tick(2 * MS);
    assert_eq!(a.store.vector().len(), 801, "they may come back");
    a.store.join_vector(&full_of(900, 2), early);
    a.tick(3 * MS);
    assert_eq!(a.store.vector().len(), 11, "room for new processes is more important");
    assert_eq!(a.store.vector().get(Incarnation(500)), 0, "the vector claims nothing of the others");
    assert!(a.store.has_claimed(Incarnation(500), 2), "and knows that it did");

    // those with later writes stay, whatever is lacking
    let mut a = pair().0;
    a.store.raise_horizon(now(0).wall.before(SECOND), usize::MAX);
    a.store.join_vector(&full(900), late);
    a.tick(MS);
    assert_eq!(a.store.vector().len(), 901);
}

const SECOND: u64 = 1_000 * MS;

/// A node without peers that keeps 8 records of a name.
fn with_history(config: Config) -> Node {
    let genesis = Genesis { provisional: false, started: now(0).wall, key: [1; 16], versions: 8 };
    let store = Store::simulated(genesis, Incarnation(1), 4, Mutants::NONE);
    Node { store, replica: Replica::new(Config { alone: true, ..config }, now(0)) }
}

#[test]
fn older_records_are_compacted_by_age_and_by_bytes() {
    let kept_after = |config: Config| {
        let mut node = with_history(config);
        for minute in 0..5 {
            for second in 0..60 {
                let at = (minute * 60 + second) * SECOND;
                node.tick(at);
                if second == 30 {
                    node.write(at, "n");
                }
            }
        }
        (node.store.set().history(&name("n")).len(), node.store.set().older_bytes())
    };
    let config = Config::new(1, 0);
    let (all, bytes) = kept_after(config);
    assert_eq!(all, 5, "nothing is compacted unless it is configured");
    let each = bytes / 4;
    assert_eq!(
        kept_after(Config { history_age_us: 150 * SECOND, ..config }).0,
        3,
        "by age, in steps of a minute"
    );
    assert_eq!(kept_after(Config { max_history_bytes: 2 * each, ..config }), (3, 2 * each));
    assert_eq!(kept_after(Config { max_history_bytes: 0, ..config }), (1, 0), "the current record stays");
}

#[test]
fn a_compaction_stays_behind_the_clock_and_needs_one_that_is_trusted() {
    let mut node = with_history(Config::new(1, 0));
    let at = 100 * SECOND;
    (1..=100).for_each(|second| drop(node.tick(second * SECOND)));
    let lag_us = 3 * SECOND;
    let first = node.replica.compact(&mut node.store, now(at), Stamp::MAX).unwrap();
    assert_eq!((first.horizon, first.held_by), (now(at).wall.before(lag_us), Some(HeldBy::Clock)));
    let earlier = node.replica.compact(&mut node.store, now(at), now(0).wall).unwrap();
    assert_eq!((earlier.horizon, earlier.held_by), (first.horizon, None), "it never moves back");
    let set = Now { wall: now(at + 3_600 * SECOND).wall, mono_us: at + SECOND };
    node.tick_by(set);
    assert_eq!(node.replica.compact(&mut node.store, set, Stamp::MAX), None, "the clock was just set");
}

#[test]
fn a_compaction_waits_for_checkpoints_and_memory_does_not() {
    let config = Config { checkpoint_expiry_us: 60 * SECOND, ..Config::new(1, 0) };
    let mut node = with_history(config);
    let wall = |second: u64| now(second * SECOND).wall;
    let compact = |node: &mut Node, second: u64, before: u64| {
        node.replica.compact(&mut node.store, now(second * SECOND), wall(before)).unwrap()
    };
    let checkpoint = crate::core::checkpoint::checkpoint_name(&Namespace::PLAIN, "reader").unwrap();
    let hold = Hold::From(Some(node.store.set_id()), wall(20)).to_version();
    let put = Change::Put { version: &hold, data: b"" };
    node.store.write(wall(100), &checkpoint, &put, None);
    let held = Some(HeldBy::Checkpoint(checkpoint.clone()));
    let compacted = compact(&mut node, 100, 50);
    assert_eq!((compacted.horizon, compacted.held_by), (wall(20), held.clone()));
    assert_eq!(compact(&mut node, 159, 10), Compaction { horizon: wall(20), held_by: None });
    assert_eq!(compact(&mut node, 159, 30).held_by, held);
    // it has not been written for a minute
    assert_eq!(compact(&mut node, 161, 30), Compaction { horizon: wall(30), held_by: None });
    // another set's holds nothing back
    let other = Hold::From(Some(node.store.set_id() ^ 1), wall(20)).to_version();
    node.store.write(wall(170), &checkpoint, &Change::Put { version: &other, data: b"" }, None);
    assert_eq!(compact(&mut node, 170, 40).horizon, wall(40));
}

#[test]
fn the_reflected_stamp_lies_before_the_last_pass() {
    let grace_us = 20 * SECOND;
    let mut node = with_history(Config { grace_us, ..Config::new(1, 0) });
    assert_eq!(node.replica.reflected(&node.store, now(0)), Stamp::ZERO, "before the first pass");
    for second in 1..=10 {
        node.tick(second * SECOND);
    }
    let reflected = node.replica.reflected(&node.store, now(10 * SECOND + 300 * MS));
    let bound_us = node.replica.clock_bound_us();
    assert_eq!(reflected, now(9 * SECOND).wall.before(grace_us / 2).before(bound_us));
    // another set: what was known of the first one says nothing
    node.store.adopt(Genesis { started: Stamp::ZERO, key: [9; 16], ..node.store.genesis() });
    node.tick(11 * SECOND);
    assert_eq!(node.replica.reflected(&node.store, now(11 * SECOND)), Stamp::ZERO);
    node.tick(12 * SECOND);
    node.tick(13 * SECOND);
    assert!(node.replica.reflected(&node.store, now(13 * SECOND)) > Stamp::ZERO);
}

#[test]
fn a_depth_reaches_the_peers_with_the_next_push() {
    let (mut a, mut b) = pair();
    let depth = a.replica.set_history_depth(&mut a.store, now(SECOND), 4);
    assert_eq!((depth.versions(), depth.least()), (4, 1), "it was 1 before");
    for version in 2..6 {
        let calls = a.write(version * SECOND, "n");
        carry(version * SECOND, &mut a, &mut b, calls);
    }
    assert_eq!(b.store.set().depth(), depth);
    assert_eq!(b.store.set().history(&name("n")).len(), 4);
    assert_eq!(a.store.set().root(), b.store.set().root());
}
