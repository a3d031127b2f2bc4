//! Peers that come and go, and which one has the turn.

use super::members::OVERLAP_US;
use super::*;
use crate::core::digest_trie::Digest;

const DAY: u64 = 1_000;

fn summary(who: u64, node: u64, state: NodeState) -> Summary {
    Summary {
        incarnation: Incarnation(who),
        node,
        region: node % 2,
        state,
        genesis: None,
        root: Digest { sum: u128::from(who), count: 1 },
        horizon: Stamp::ZERO,
        vector: 0,
        protocol: ProtocolRange::IMPLEMENTED,
    }
}

fn ready(who: u64) -> Summary {
    summary(who, who, NodeState::Ready)
}

fn see(peers: &mut Peers, at: u64, live: &[Summary]) {
    peers.see(&Log::default(), at, live, DAY);
}

fn meet(peers: &mut Peers, at: u64, who: &[u64]) {
    who.iter().for_each(|who| peers.synced(Incarnation(*who), 0, at));
}

/// As far as members go, and not sweeps.
fn nobody_missing(peers: &mut Peers, at: u64) -> bool {
    peers.members.all_hold_what_was(at);
    peers.nobody_missing(at, 10, 0, Mutants::NONE)
}

#[test]
fn what_anybody_held_is_everybodys_after_two_sweeps() {
    let mut peers = Peers::default();
    let ours = summary(100, 100, NodeState::Ready);
    let spread = |peers: &mut Peers, at: u64, for_us: u64| {
        peers.sweep(at, &ours);
        peers.nobody_missing(at, 10, for_us, Mutants::NONE)
    };
    see(&mut peers, 0, &[ready(1), ready(2)]);
    meet(&mut peers, 20, &[1]);
    assert!(!spread(&mut peers, 20, 100), "2 was not met");
    meet(&mut peers, 30, &[2]);
    assert!(!spread(&mut peers, 31, 100), "1 may not have what was 2's alone");
    meet(&mut peers, 35, &[1]);
    assert!(!spread(&mut peers, 40, 100), "nor may 2 have what was 1's: it was met before that");
    meet(&mut peers, 45, &[2]);
    assert!(spread(&mut peers, 50, 50), "what was there at 0");
    assert!(!spread(&mut peers, 51, 50), "and no more");
    assert!(!spread(&mut peers, 82, 50));
    // an equal set is as good as a round, and both are seen at once
    let equal = [1, 2].map(|who| Summary { root: ours.root, ..ready(who) });
    see(&mut peers, 90, &equal);
    assert!(!spread(&mut peers, 90, 5), "at 31, this one says");
    assert!(!spread(&mut peers, 91, 5), "at 50");
    assert!(spread(&mut peers, 92, 5), "at 90");
}

#[test]
fn who_is_missing_holds_the_horizon_until_it_is_back_for_a_while() {
    let mut peers = Peers::default();
    see(&mut peers, 0, &[ready(1), ready(2)]);
    meet(&mut peers, 0, &[1, 2]);
    assert!(!nobody_missing(&mut peers, 9), "both are new");
    assert!(nobody_missing(&mut peers, 10));
    see(&mut peers, 20, &[ready(1)]);
    assert!(!nobody_missing(&mut peers, 40), "2 is silent");
    see(&mut peers, 50, &[ready(1), ready(2)]);
    assert!(!nobody_missing(&mut peers, 70), "and has to sync first, however long it is there");
    meet(&mut peers, 50, &[2]);
    assert!(!nobody_missing(&mut peers, 59) && nobody_missing(&mut peers, 60));
    see(&mut peers, 60 + DAY, &[ready(1)]);
    assert!(nobody_missing(&mut peers, 60 + DAY), "not for ever");
}

#[test]
fn who_left_or_was_followed_does_not_hold_it_and_who_joins_does() {
    let mut peers = Peers::default();
    see(&mut peers, 0, &[ready(1), summary(2, 2, NodeState::Leaving)]);
    meet(&mut peers, 0, &[1]);
    see(&mut peers, 5, &[ready(1)]);
    assert!(nobody_missing(&mut peers, 10), "2 left");
    (20..40).for_each(|at| see(&mut peers, at, &[summary(11, 1, NodeState::Joining)]));
    meet(&mut peers, 40, &[11]);
    assert!(!nobody_missing(&mut peers, 40), "11 follows 1, and joins");
    see(&mut peers, 50, &[summary(11, 1, NodeState::Ready)]);
    assert!(nobody_missing(&mut peers, 60));
    assert!(peers.remembers(Incarnation(11)) && !peers.remembers(Incarnation(1)));
}

#[test]
fn two_live_nodes_of_one_name_do_not_follow_each_other() {
    let mut peers = Peers::default();
    let see = |peers: &mut Peers, at, live: &[Summary]| peers.see(&Log::default(), at, live, 10 * OVERLAP_US);
    see(&mut peers, 0, &[summary(1, 7, NodeState::Ready), summary(2, 7, NodeState::Ready)]);
    see(&mut peers, 2 * OVERLAP_US, &[summary(1, 7, NodeState::Ready), summary(2, 7, NodeState::Ready)]);
    meet(&mut peers, 0, &[1, 2]);
    see(&mut peers, 3 * OVERLAP_US, &[summary(1, 7, NodeState::Ready)]);
    assert!(!nobody_missing(&mut peers, 4 * OVERLAP_US), "2 is silent, and was beside 1 for long");
    see(&mut peers, 3 * OVERLAP_US, &[summary(1, 7, NodeState::Ready), summary(3, 7, NodeState::Ready)]);
    meet(&mut peers, 3 * OVERLAP_US, &[3]);
    assert!(nobody_missing(&mut peers, 4 * OVERLAP_US), "3 has just come, in its place");
}

#[test]
fn who_comes_back_goes_on_where_it_was() {
    let mut peers = Peers::default();
    see(&mut peers, 0, &[ready(1)]);
    see(&mut peers, 1, &[]);
    assert_eq!((peers.away(), peers.get(Incarnation(1)).is_none()), (1, true));
    see(&mut peers, 2, &[ready(1)]);
    let peer = peers.get(Incarnation(1)).unwrap();
    assert!(peer.outbox.is_dirty(), "what it missed meanwhile is not known");
    assert_eq!(peers.away(), 0);
}

#[test]
fn dirty_and_new_ones_first_then_one_in_four_from_abroad() {
    let mut peers = Peers::default();
    let ours = summary(100, 100, NodeState::Ready);
    see(&mut peers, 0, &[ready(2), ready(3), ready(4)]);
    for who in [2, 4] {
        peers.synced(Incarnation(who), 0, 0);
    }
    assert_eq!(
        peers.next(0, 5, &ours, Mutants::NONE),
        Some((Incarnation(3), Errand::Round)),
        "never synced with"
    );
    peers.synced(Incarnation(3), 0, 0);
    let dirty = &mut peers.get_mut(Incarnation(4)).unwrap().outbox;
    *dirty = std::mem::take(dirty).resumed();
    assert_eq!(peers.next(0, 5, &ours, Mutants::NONE), Some((Incarnation(4), Errand::Round)), "dirty");
    peers.synced(Incarnation(4), 0, 0);
    let abroad = (0..40)
        .filter(|i| peers.next(0, *i, &ours, Mutants::NONE).is_some_and(|(who, _)| who.0 == 3))
        .count();
    assert!((10..30).contains(&abroad), "{abroad} of 40: each fourth, and some by chance");
    peers.failed(Incarnation(3), 0);
    assert!(
        (0..40).all(|i| peers.next(0, i, &ours, Mutants::NONE).is_none_or(|(who, _)| who.0 != 3)),
        "it has a pause"
    );
}

#[test]
fn a_majority_decides_about_clocks() {
    let mut peers = Peers::default();
    see(&mut peers, 0, &[ready(1), ready(2), ready(3)]);
    let now = |us: u64| Now { wall: Stamp::from_micros(1_000_000 + us).unwrap(), mono_us: us };
    let show = |peers: &mut Peers, who: u64, ahead: u64| {
        let theirs = Stamp::from_micros(1_000_050 + ahead).unwrap();
        peers.clock(Incarnation(who), theirs, now(0), now(100), 1_000);
    };
    let clocks = |peers: &Peers| (peers.clocks(10).agree(), peers.clocks(10).disagree());
    assert_eq!(clocks(&peers), (false, false), "nothing is known");
    show(&mut peers, 1, 0);
    assert_eq!(peers.live().next().unwrap().offset_us(), Some(0), "half of the round trip is taken off");
    show(&mut peers, 2, 5);
    assert_eq!(clocks(&peers), (true, false));
    assert!(peers.clocks(10).group_agrees(3) && !peers.clocks(10).group_agrees(5));
    assert_eq!(peers.median_offset_us(), 0);
    for who in [1, 2, 3] {
        show(&mut peers, who, 5_000);
    }
    assert_eq!(clocks(&peers), (false, true));
    assert_eq!(peers.median_offset_us(), 5_000);
    // one clock that is behind, as long as no other is known, is not the group's
    let mut two = Peers::default();
    see(&mut two, 0, &[ready(1), ready(2)]);
    let behind = Stamp::from_micros(10_050).unwrap();
    two.clock(Incarnation(1), behind, now(0), now(100), 1_000);
    assert_eq!(two.median_offset_us(), 0);
    show(&mut two, 2, 0);
    assert_eq!(two.median_offset_us(), 0);
    // nor is ours, if it is the one that is behind, nor if it is one of two of four
    let mut us = Peers::default();
    see(&mut us, 0, &[ready(1), ready(2), ready(3)]);
    show(&mut us, 1, 5_000);
    assert_eq!(us.median_offset_us(), 5_000);
    show(&mut us, 2, 5_000);
    show(&mut us, 3, 4_000);
    assert_eq!(us.median_offset_us(), 5_000);
    let mut alone = Peers::default();
    assert!(alone.clocks(10).group_agrees(0) && !alone.clocks(10).group_agrees(1));
    see(&mut alone, 0, &[ready(1)]);
    see(&mut alone, 1, &[]);
    assert!(alone.clocks(10).agree() && !alone.clocks(10).group_agrees(0), "1 is away, and counts");
    peers.forget_clocks();
    assert_eq!(clocks(&peers), (false, false));
    peers.clock(Incarnation(1), now(0).wall, now(0), now(2_000), 1_000);
    assert_eq!(peers.live().next().unwrap().offset_us(), None, "it took too long to tell");
}

#[test]
fn a_peer_without_a_common_version_is_a_member_that_is_not_asked() {
    let range = |oldest, newest| ProtocolRange::new(oldest, newest).unwrap();
    let of = |who, protocol| Summary { protocol, ..ready(who) };
    let mut peers = Peers::speaking(range(1, 2));
    assert_eq!(peers.common_version(), Some(2), "ours");
    see(&mut peers, 0, &[of(1, range(3, 3)), of(2, range(1, 1)), of(3, range(2, 4))]);
    let version = |who| peers.get(Incarnation(who)).unwrap().version();
    assert_eq!([version(1), version(2), version(3)], [None, Some(1), Some(2)]);
    assert_eq!(peers.asked().count(), 2);
    assert_eq!(peers.common_version(), None);
    let ours = Summary { protocol: range(1, 2), ..summary(100, 100, NodeState::Ready) };
    assert!(
        (0..40).all(|i| peers.next(0, i, &ours, Mutants::NONE).is_some_and(|(who, _)| who.0 != 1)),
        "it is not asked"
    );
    assert_eq!(peers.away(), 0, "and yet it is there");
    meet(&mut peers, 0, &[2, 3]);
    assert!(!nobody_missing(&mut peers, 10), "what it holds has not met ours");
    see(&mut peers, 20, &[of(2, range(1, 1)), of(3, range(2, 4)), of(4, range(1, 2))]);
    assert_eq!(peers.common_version(), None, "although each speaks with us");
    see(&mut peers, 30, &[of(3, range(2, 4)), of(4, range(1, 2))]);
    assert_eq!(peers.common_version(), Some(2));
}
