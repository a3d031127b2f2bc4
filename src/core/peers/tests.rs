//! Peers that come and go, and the choice of the next one to sync with.

use super::members::OVERLAP_US;
use super::*;
use crate::core::digest_trie::Digest;

const DAY: u64 = 1_000;

fn summary(process: u64, node: u64, state: NodeState) -> Summary {
    Summary {
        incarnation: Incarnation(process),
        node,
        region: node % 2,
        state,
        genesis: None,
        root: Digest { sum: u128::from(process), count: 1 },
        registers: crate::core::Registers::NONE,
        vector: 0,
        unproven: None,
        saved: None,
        protocol: ProtocolRange::IMPLEMENTED,
    }
}

fn ready(process: u64) -> Summary {
    summary(process, process, NodeState::Ready)
}

fn see(peers: &mut Peers, at: u64, live: &[Summary]) {
    peers.see(&WriteLog::default(), at, live, DAY);
}

fn sync(peers: &mut Peers, at: u64, processes: &[u64]) {
    processes.iter().for_each(|process| peers.synced(Incarnation(*process), 0, at));
}

/// Whether no member is missing, if the anti-entropy passes were complete.
fn none_missing(peers: &mut Peers, at: u64) -> bool {
    peers.members.all_hold_since(at);
    peers.none_missing(at, 10, 0, Mutants::NONE)
}

#[test]
fn after_two_passes_all_members_hold_what_any_member_held() {
    let mut peers = Peers::default();
    let ours = summary(100, 100, NodeState::Ready);
    let spread = |peers: &mut Peers, at: u64, for_us: u64| {
        peers.update_pass(at, &ours);
        peers.none_missing(at, 10, for_us, Mutants::NONE)
    };
    see(&mut peers, 0, &[ready(1), ready(2)]);
    sync(&mut peers, 20, &[1]);
    assert!(!spread(&mut peers, 20, 100), "2 was not in sync");
    sync(&mut peers, 30, &[2]);
    assert!(!spread(&mut peers, 31, 100), "1 may lack what only 2 held");
    sync(&mut peers, 35, &[1]);
    assert!(!spread(&mut peers, 40, 100), "2 may lack what 1 held: it was in sync before that");
    sync(&mut peers, 45, &[2]);
    assert!(spread(&mut peers, 50, 50), "all hold what any held at 0");
    assert!(!spread(&mut peers, 51, 50), "and nothing newer");
    assert!(!spread(&mut peers, 82, 50));
    // an equal set counts as a round; here both sets are seen to be equal at once
    let equal = [1, 2].map(|process| Summary { root: ours.root, ..ready(process) });
    see(&mut peers, 90, &equal);
    assert!(!spread(&mut peers, 90, 5), "all hold what any held at 31");
    assert!(!spread(&mut peers, 91, 5), "at 50");
    assert!(spread(&mut peers, 92, 5), "at 90");
}

#[test]
fn a_missing_member_holds_the_horizon_until_it_has_been_back_for_a_while() {
    let mut peers = Peers::default();
    see(&mut peers, 0, &[ready(1), ready(2)]);
    sync(&mut peers, 0, &[1, 2]);
    assert!(!none_missing(&mut peers, 9), "both are new");
    assert!(none_missing(&mut peers, 10));
    see(&mut peers, 20, &[ready(1)]);
    assert!(!none_missing(&mut peers, 40), "2 is silent");
    see(&mut peers, 50, &[ready(1), ready(2)]);
    assert!(!none_missing(&mut peers, 70), "it is back, and has to sync first");
    sync(&mut peers, 50, &[2]);
    assert!(!none_missing(&mut peers, 59) && none_missing(&mut peers, 60));
    see(&mut peers, 60 + DAY, &[ready(1)]);
    assert!(none_missing(&mut peers, 60 + DAY), "not for ever");
}

#[test]
fn a_joining_member_holds_the_horizon_and_one_that_left_or_was_followed_does_not() {
    let mut peers = Peers::default();
    see(&mut peers, 0, &[ready(1), summary(2, 2, NodeState::Leaving)]);
    sync(&mut peers, 0, &[1]);
    see(&mut peers, 5, &[ready(1)]);
    assert!(none_missing(&mut peers, 10), "2 left");
    (20..40).for_each(|at| see(&mut peers, at, &[summary(11, 1, NodeState::Joining)]));
    sync(&mut peers, 40, &[11]);
    assert!(!none_missing(&mut peers, 40), "11 follows 1, and joins");
    see(&mut peers, 50, &[summary(11, 1, NodeState::Ready)]);
    assert!(none_missing(&mut peers, 60));
    assert!(peers.remembers(Incarnation(11)) && !peers.remembers(Incarnation(1)));
}

#[test]
fn two_live_nodes_with_one_id_do_not_follow_each_other() {
    let mut peers = Peers::default();
    let see =
        |peers: &mut Peers, at, live: &[Summary]| peers.see(&WriteLog::default(), at, live, 10 * OVERLAP_US);
    see(&mut peers, 0, &[summary(1, 7, NodeState::Ready), summary(2, 7, NodeState::Ready)]);
    see(&mut peers, 2 * OVERLAP_US, &[summary(1, 7, NodeState::Ready), summary(2, 7, NodeState::Ready)]);
    sync(&mut peers, 0, &[1, 2]);
    see(&mut peers, 3 * OVERLAP_US, &[summary(1, 7, NodeState::Ready)]);
    assert!(!none_missing(&mut peers, 4 * OVERLAP_US), "2 is silent, and was live beside 1 for long");
    see(&mut peers, 3 * OVERLAP_US, &[summary(1, 7, NodeState::Ready), summary(3, 7, NodeState::Ready)]);
    sync(&mut peers, 3 * OVERLAP_US, &[3]);
    assert!(none_missing(&mut peers, 4 * OVERLAP_US), "3 has just come, in its place");
}

#[test]
fn a_peer_that_comes_back_continues_where_it_was() {
    let mut peers = Peers::default();
    see(&mut peers, 0, &[ready(1)]);
    see(&mut peers, 1, &[]);
    assert_eq!((peers.away(), peers.get(Incarnation(1)).is_none()), (1, true));
    see(&mut peers, 2, &[ready(1)]);
    let peer = peers.get(Incarnation(1)).unwrap();
    assert!(peer.outbox.needs_repair(), "what it missed meanwhile is not known");
    assert_eq!(peers.away(), 0);
}

#[test]
fn new_peers_and_those_that_need_repair_come_first_then_each_fourth_from_another_region() {
    let mut peers = Peers::default();
    let ours = summary(100, 100, NodeState::Ready);
    see(&mut peers, 0, &[ready(2), ready(3), ready(4)]);
    for process in [2, 4] {
        peers.synced(Incarnation(process), 0, 0);
    }
    assert_eq!(
        peers.next(0, 5, &ours, Mutants::NONE),
        Some((Incarnation(3), SyncTask::Round)),
        "never synced with"
    );
    peers.synced(Incarnation(3), 0, 0);
    let outbox = &mut peers.get_mut(Incarnation(4)).unwrap().outbox;
    *outbox = std::mem::take(outbox).resumed();
    assert_eq!(
        peers.next(0, 5, &ours, Mutants::NONE),
        Some((Incarnation(4), SyncTask::Round)),
        "it needs repair"
    );
    peers.synced(Incarnation(4), 0, 0);
    let abroad = (0..40)
        .filter(|i| peers.next(0, *i, &ours, Mutants::NONE).is_some_and(|(process, _)| process.0 == 3))
        .count();
    assert!((10..30).contains(&abroad), "{abroad} of 40: each fourth, and some by chance");
    peers.failed(Incarnation(3), 0);
    assert!(
        (0..40).all(|i| peers.next(0, i, &ours, Mutants::NONE).is_none_or(|(process, _)| process.0 != 3)),
        "it has a pause"
    );
}

#[test]
fn a_majority_decides_about_clocks() {
    let mut peers = Peers::default();
    see(&mut peers, 0, &[ready(1), ready(2), ready(3)]);
    let now = |us: u64| Now { wall: Stamp::from_micros(1_000_000 + us).unwrap(), mono_us: us };
    let show = |peers: &mut Peers, process: u64, ahead: u64| {
        let theirs = Stamp::from_micros(1_000_050 + ahead).unwrap();
        peers.clock(Incarnation(process), theirs, now(0), now(100), 1_000);
    };
    let clocks = |peers: &Peers| (peers.clocks(10).agree(), peers.clocks(10).disagree());
    assert_eq!(clocks(&peers), (false, false), "nothing is known");
    show(&mut peers, 1, 0);
    assert_eq!(peers.live().next().unwrap().offset_us(), Some(0), "half of the round trip is taken off");
    show(&mut peers, 2, 5);
    assert_eq!(clocks(&peers), (true, false));
    assert!(peers.clocks(10).cluster_agrees(3) && !peers.clocks(10).cluster_agrees(5));
    assert_eq!(peers.median_offset_us(), 0);
    for process in [1, 2, 3] {
        show(&mut peers, process, 5_000);
    }
    assert_eq!(clocks(&peers), (false, true));
    assert_eq!(peers.median_offset_us(), 5_000);
    // one clock that is behind is not the clock of the cluster, as long as no other clock is known
    let mut two = Peers::default();
    see(&mut two, 0, &[ready(1), ready(2)]);
    let behind = Stamp::from_micros(10_050).unwrap();
    two.clock(Incarnation(1), behind, now(0), now(100), 1_000);
    assert_eq!(two.median_offset_us(), 0);
    show(&mut two, 2, 0);
    assert_eq!(two.median_offset_us(), 0);
    // nor is our own clock, if it is behind, alone or as one of two of four
    let mut us = Peers::default();
    see(&mut us, 0, &[ready(1), ready(2), ready(3)]);
    show(&mut us, 1, 5_000);
    assert_eq!(us.median_offset_us(), 5_000);
    show(&mut us, 2, 5_000);
    show(&mut us, 3, 4_000);
    assert_eq!(us.median_offset_us(), 5_000);
    let mut alone = Peers::default();
    assert!(alone.clocks(10).cluster_agrees(0) && !alone.clocks(10).cluster_agrees(1));
    see(&mut alone, 0, &[ready(1)]);
    see(&mut alone, 1, &[]);
    assert!(alone.clocks(10).agree() && !alone.clocks(10).cluster_agrees(0), "1 is away, and counts");
    peers.forget_clocks();
    assert_eq!(clocks(&peers), (false, false));
    peers.clock(Incarnation(1), now(0).wall, now(0), now(2_000), 1_000);
    assert_eq!(peers.live().next().unwrap().offset_us(), None, "the answer took too long");
}

#[test]
fn a_peer_without_a_common_version_is_a_member_that_is_not_asked() {
    let range = |oldest, newest| ProtocolRange::new(oldest, newest).unwrap();
    let of = |process, protocol| Summary { protocol, ..ready(process) };
    let mut peers = Peers::speaking(range(1, 2));
    assert_eq!(peers.common_version(), Some(2), "ours");
    see(&mut peers, 0, &[of(1, range(3, 3)), of(2, range(1, 1)), of(3, range(2, 4))]);
    let version = |process| peers.get(Incarnation(process)).unwrap().version();
    assert_eq!([version(1), version(2), version(3)], [None, Some(1), Some(2)]);
    assert_eq!(peers.compatible().count(), 2);
    assert_eq!(peers.common_version(), None);
    let ours = Summary { protocol: range(1, 2), ..summary(100, 100, NodeState::Ready) };
    assert!(
        (0..40).all(|i| peers.next(0, i, &ours, Mutants::NONE).is_some_and(|(process, _)| process.0 != 1)),
        "it is not asked"
    );
    assert_eq!(peers.away(), 0, "it is live");
    sync(&mut peers, 0, &[2, 3]);
    assert!(!none_missing(&mut peers, 10), "it was never in sync with us");
    see(&mut peers, 20, &[of(2, range(1, 1)), of(3, range(2, 4)), of(4, range(1, 2))]);
    assert_eq!(peers.common_version(), None, "although each speaks with us");
    see(&mut peers, 30, &[of(3, range(2, 4)), of(4, range(1, 2))]);
    assert_eq!(peers.common_version(), Some(2));
}
