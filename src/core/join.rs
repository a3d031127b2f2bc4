//! Joining: how a new process gets its set. It takes over the set of a peer, or begins a set.

use std::cmp::Reverse;

use super::genesis::GenesisMark;
use super::mutants::{Mutant, Mutants};
use super::peers::{NodeState, Peer, Peers};
use super::record::Incarnation;
use super::saved::SavedMark;
use super::stamp::Stamp;

/// How long a node searches for other nodes before it begins a set, µs.
pub const SEARCH_US: u64 = 5_000_000;

/// How long it searches if addresses refuse, and at least as many answer, µs. Then it is more likely that the refusing
/// nodes are wrong, or are of another cluster.
pub const LONG_SEARCH_US: u64 = 2 * SEARCH_US;

/// How long it searches if more addresses refuse than answer, and how long it waits for a set that it cannot get, µs.
/// That is time to set a clock right or to distribute a secret; but an address that belongs to another cluster by now
/// refuses for ever.
pub const LONGEST_WAIT_US: u64 = 120_000_000;

/// The result of requests to an address of discovery that is not our own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SeedStatus {
    /// No answer.
    Silent,
    /// A node answers and refuses us. For a bounded time that does not count as silence.
    Refuses(RefusalCause),
    /// This process answers.
    Answers(Incarnation),
}

/// Why an address refuses us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RefusalCause {
    /// The answer has another secret, or cannot be read: the node may be of another cluster.
    Unproven,
    /// The node is a member, by its secret, and the two clocks differ: ours or its own is wrong.
    Clock,
    /// The node is a member, by its secret, and the two nodes have no common version of the protocol.
    Version,
}

impl RefusalCause {
    /// Whether the node that refuses has shown the secret of the cluster.
    fn is_of_member(self) -> bool {
        self != Self::Unproven
    }
}

/// The next step of a joining node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JoinDecision {
    /// Wait for other nodes.
    Wait,
    /// Take over the set of this peer.
    Join(Incarnation),
    /// Begin a set: there are no other nodes, or all others are as new as this one.
    ColdStart,
    /// Begin a provisional set: other nodes are silent, and the set may live on with them.
    ServeAlone,
}

/// What [`decide`] needs to know of the joining node.
#[derive(Clone, Copy, Debug)]
pub struct Joiner {
    /// Id of its process.
    pub us: Incarnation,
    /// Whether it holds no records: if a peer has pushed records to it, there is a set.
    pub empty: bool,
    /// For how long it has searched for other nodes, µs.
    pub searched_us: u64,
    /// For how long requests for a set have got no answer, µs; 0 before the first one.
    pub unanswered_us: u64,
    /// The monotonic clock, µs.
    pub mono_us: u64,
    /// What it has on its disk.
    pub saved: Option<Saved>,
    /// How long a node with a saved set waits for all addresses before it serves that set alone, µs.
    pub cold_start_wait_us: u64,
}

/// What the joining node has on its disk.
#[derive(Clone, Copy, Debug)]
pub struct Saved {
    /// The part that it gossips.
    pub mark: SavedMark,
    /// The GC horizon of the set.
    pub horizon: Stamp,
}

/// The next step of a joining node. `others` has the status of every address of discovery that is not our own.
///
/// A cold start needs an answer from every address, and no records at any. If two empty nodes see only each other, the
/// third node, which holds the set, may be cut off: they must not begin a new set as if there were none. The rule
/// counts addresses, not processes: a process that was just restarted still shows up beside its successor. Of several
/// joining nodes the one with the lowest incarnation goes first. The node waits for a bounded time (`search_us`) for
/// nodes that refuse it, and for a set that it cannot get: from then on both count as silence, which never leads to a
/// cold start.
///
/// If nodes have saved sets on their disks, one of these nodes goes first and serves what it has, and the
/// others take over from it what they lack. A set that is served wins over one that is only saved, whatever their ages:
/// but not one that a node began alone, without any data, while the saved one was on its way.
#[must_use]
pub fn decide(
    joiner: Joiner,
    peers: &Peers,
    others: &[SeedStatus],
    entropy: u64,
    mutants: Mutants,
) -> JoinDecision {
    let is_out_of_reach = joiner.unanswered_us >= LONGEST_WAIT_US && !mutants.has(Mutant::OutOfReachForEver);
    match choose_peer(peers, &joiner, entropy, mutants) {
        Choice::NoSet => {}
        Choice::One(peer) if !is_out_of_reach || peer.failures() < TRIES => {
            return JoinDecision::Join(peer.summary.incarnation);
        }
        Choice::Later if !is_out_of_reach => return JoinDecision::Wait,
        Choice::One(_) | Choice::Later => return JoinDecision::ServeAlone,
    }
    if let Some(saved) = joiner.saved {
        return decide_with_saved(&joiner, saved, peers, others, mutants);
    }
    let Some(search_us) = search_us(others, mutants) else { return JoinDecision::Wait };
    let saved_elsewhere = peers.compatible().any(|peer| peer.summary.saved.is_some());
    if saved_elsewhere {
        // a set that it begins must not win over the saved one
        let waits = joiner.searched_us < joiner.cold_start_wait_us + LONGEST_WAIT_US;
        return if waits { JoinDecision::Wait } else { JoinDecision::ServeAlone };
    }
    let joining =
        || peers.compatible().map(|peer| &peer.summary).filter(|summary| summary.state == NodeState::Joining);
    let first = joining().all(|summary| joiner.us < summary.incarnation);
    let all = if mutants.has(Mutant::CountProcesses) {
        joining().count() >= others.len()
    } else {
        others.iter().all(|status| {
            matches!(status, SeedStatus::Answers(process)
                if peers.get(*process).is_some_and(|peer| peer.summary.state == NodeState::Joining))
        })
    };
    let nothing = joiner.empty && joining().all(|summary| summary.root.count == 0);
    if joiner.searched_us < search_us {
        JoinDecision::Wait
    } else if first && all && nothing {
        JoinDecision::ColdStart
    } else if first || joiner.searched_us >= search_us + SEARCH_US {
        JoinDecision::ServeAlone
    } else {
        // one node begins and the others join it: two sets that begin at once would have to be merged
        JoinDecision::Wait
    }
}

/// The next step of a node with a saved set, while no peer serves a set that it could join. It serves its set alone
/// after a bounded time: then the set counts as provisional, so that any other one wins over it.
fn decide_with_saved(
    joiner: &Joiner,
    saved: Saved,
    peers: &Peers,
    others: &[SeedStatus],
    mutants: Mutants,
) -> JoinDecision {
    let is_no_rival = |process: &Incarnation| {
        peers.get(*process).is_some_and(|peer| worth(peer, joiner.saved.as_ref(), mutants).is_none())
    };
    let all =
        others.iter().all(|status| matches!(status, SeedStatus::Answers(process) if is_no_rival(process)));
    let Some(search_us) = search_us(others, mutants) else { return JoinDecision::Wait };
    let rivals = peers.compatible().filter(|peer| peer.summary.state == NodeState::Joining);
    let rivals: Vec<_> =
        rivals.filter_map(|peer| Some((peer.summary.saved?, peer.summary.incarnation))).collect();
    let first = leads((saved.mark, joiner.us), &rivals);
    let alone_us = search_us.max(joiner.cold_start_wait_us) + if first { 0 } else { SEARCH_US };
    if first && all && joiner.searched_us >= search_us {
        JoinDecision::ColdStart
    } else if joiner.searched_us >= alone_us {
        JoinDecision::ServeAlone
    } else {
        JoinDecision::Wait
    }
}

/// Whether a node with a saved set goes before all others that have one, if none is served. The set that most of them
/// saved wins, so that one disk of another cluster does not decide for all; of two that as many saved, the one that was
/// saved last. Of the nodes that saved that set goes first the one that reflects most deletes: another one may lack
/// some that the first one has forgotten, and never the other way.
fn leads((ours, us): (SavedMark, Incarnation), others: &[(SavedMark, Incarnation)]) -> bool {
    let all = || others.iter().map(|(mark, _)| mark).chain([&ours]);
    let worth = |key_id: u64| {
        let of_set = || all().filter(|mark| mark.set.key_id == key_id);
        (of_set().count(), of_set().map(|mark| mark.committed).max(), key_id)
    };
    let is_best = all().all(|mark| worth(mark.set.key_id) <= worth(ours.set.key_id));
    let rank = |mark: &SavedMark, process| (mark.reflected, mark.names, Reverse(process));
    let of_set = others.iter().filter(|(mark, _)| mark.set.key_id == ours.set.key_id);
    is_best && { of_set }.all(|(mark, process)| rank(&ours, us) > rank(mark, *process))
}

/// How long a node searches for other nodes that may have a set, µs; `None` if there is no limit while all stays as it
/// is.
///
/// A node that is refused may itself be wrong; that is more likely if few nodes answer. If more members refuse it than
/// nodes answer, it waits as long as that is so. Members have shown the secret, so another cluster cannot keep a node
/// from starting in this way. A node that is refused for its clock would accept no writes anyhow. A node that is
/// refused for its version would begin a set beside the set of the members, which it could never take over.
fn search_us(others: &[SeedStatus], mutants: Mutants) -> Option<u64> {
    let count = |of: fn(&SeedStatus) -> bool| others.iter().filter(|status| of(status)).count();
    let answer = count(|status| matches!(status, SeedStatus::Answers(_)));
    let refuse = count(|status| matches!(status, SeedStatus::Refuses(_)));
    let members_refuse = count(|status| matches!(status, SeedStatus::Refuses(why) if why.is_of_member()));
    match refuse {
        0 => Some(SEARCH_US),
        _ if members_refuse > answer || mutants.has(Mutant::RefusalsForEver) => None,
        _ if answer >= refuse => Some(LONG_SEARCH_US),
        _ => Some(LONGEST_WAIT_US),
    }
}

#[derive(Clone, Copy, Debug)]
enum Choice<'a> {
    /// No peer has a set.
    NoSet,
    /// A peer has a set, and failed just now.
    Later,
    /// This peer has a set.
    One(&'a Peer),
}

/// A peer from which this many transfers in a row have failed comes after peers with a less preferred set.
const TRIES: u32 = 2;

/// The rank of the set that a peer serves, the best one first: real sets before provisional ones, leaving peers last.
/// `None` if it serves none, or none that a node with this saved set joins: a set that began without data while all
/// data was on disks, or a loaded one that the saved one outdates.
fn worth(peer: &Peer, saved: Option<&Saved>, mutants: Mutants) -> Option<u8> {
    let (set, unproven) = (peer.summary.genesis?, peer.summary.unproven);
    if let Some(Saved { mark, horizon }) = saved {
        let is_other = set.key_id != mark.set.key_id;
        let is_outdated = unproven.is_some_and(|reflected| reflected < *horizon);
        let is_older = is_other && mark.set < set && mutants.has(Mutant::OlderSavedWins);
        if is_other && set.provisional && unproven.is_none() || !is_other && is_outdated || is_older {
            return None;
        }
    }
    match (peer.summary.state, set.provisional) {
        (NodeState::Ready, false) => Some(0),
        (NodeState::Ready, true) => Some(1),
        (NodeState::Leaving, false) => Some(2),
        (NodeState::Leaving, true) => Some(3),
        (NodeState::Joining, _) => None,
    }
}

/// Chooses a peer with a set: the best one, and among equals the peer that failed least. A peer that hangs must not
/// keep a node from the sets of others.
fn choose_peer<'a>(peers: &'a Peers, joiner: &Joiner, entropy: u64, mutants: Mutants) -> Choice<'a> {
    let (mono_us, saved) = (joiner.mono_us, joiner.saved);
    let ranked = || {
        peers.compatible().filter_map(|peer| {
            let worth = worth(peer, saved.as_ref(), mutants)?;
            Some(((peer.failures() / TRIES, worth, peer.failures()), peer))
        })
    };
    let Some(best) = ranked().filter(|(_, peer)| !peer.rests(mono_us)).map(|(rank, _)| rank).min() else {
        return if ranked().next().is_some() { Choice::Later } else { Choice::NoSet };
    };
    let of_best = || ranked().filter(|(rank, peer)| *rank == best && !peer.rests(mono_us));
    let pick = usize::try_from(entropy % of_best().count().max(1) as u64).unwrap_or(0);
    of_best().nth(pick).map_or(Choice::NoSet, |(_, peer)| Choice::One(peer))
}

/// Whether a provisional set is the set of the whole cluster: every address of discovery is ready in this very set, and
/// no member is away. Then no node is left that could hold an older set.
#[must_use]
pub fn is_whole_cluster(set: GenesisMark, peers: &Peers, others: &[SeedStatus]) -> bool {
    let within = |process: &Incarnation| {
        peers
            .get(*process)
            .is_some_and(|peer| peer.summary.state == NodeState::Ready && peer.summary.genesis == Some(set))
    };
    !others.is_empty()
        && others.iter().all(|status| matches!(status, SeedStatus::Answers(process) if within(process)))
        && peers.live().all(|peer| peer.summary.genesis == Some(set))
        && peers.away() == 0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::digest_trie::Digest;
    use crate::core::peers::Summary;
    use crate::core::protocol::ProtocolRange;
    use crate::core::push::WriteLog;
    use crate::core::stamp::Stamp;

    const US: Incarnation = Incarnation(5);
    const JOINING: NodeState = NodeState::Joining;

    fn mark(provisional: bool) -> GenesisMark {
        GenesisMark { provisional, started: Stamp::ZERO, key_id: 0 }
    }

    fn peers(states: &[(u64, NodeState, Option<bool>)]) -> Peers {
        let summaries: Vec<Summary> = states
            .iter()
            .map(|(process, state, provisional)| Summary {
                incarnation: Incarnation(*process),
                node: *process,
                region: 0,
                state: *state,
                genesis: provisional.map(mark),
                unproven: None,
                saved: None,
                root: Digest::default(),
                registers: crate::core::Registers::NONE,
                vector: 0,
                protocol: ProtocolRange::IMPLEMENTED,
            })
            .collect();
        let mut peers = Peers::default();
        peers.see(&WriteLog::default(), 0, &summaries, 1_000);
        peers
    }

    fn answers(processes: &[u64]) -> Vec<SeedStatus> {
        processes.iter().map(|process| SeedStatus::Answers(Incarnation(*process))).collect()
    }

    fn joiner(searched_us: u64, unanswered_us: u64, mono_us: u64) -> Joiner {
        let cold_start_wait_us = 12 * SEARCH_US;
        Joiner { us: US, empty: true, searched_us, unanswered_us, mono_us, saved: None, cold_start_wait_us }
    }

    fn decision(
        others: &[SeedStatus],
        searched_us: u64,
        states: &[(u64, NodeState, Option<bool>)],
    ) -> JoinDecision {
        let joiner = joiner(searched_us, searched_us, 0);
        decide(joiner, &peers(states), others, 0, Mutants::NONE)
    }

    fn join_after(peers: &Peers, mono_us: u64, unanswered_us: u64) -> JoinDecision {
        let joiner = joiner(unanswered_us, unanswered_us, mono_us);
        decide(joiner, peers, &[], 0, Mutants::NONE)
    }

    #[test]
    fn a_node_joins_a_set_at_once_and_a_real_one_first() {
        let there = [
            (9, NodeState::Leaving, Some(false)),
            (1, NodeState::Ready, Some(true)),
            (2, NodeState::Ready, Some(false)),
            (3, JOINING, None),
        ];
        let silent = [SeedStatus::Silent; 4];
        assert_eq!(decision(&silent, 0, &there), JoinDecision::Join(Incarnation(2)));
        assert_eq!(decision(&silent, 0, &there[..2]), JoinDecision::Join(Incarnation(1)));
        assert_eq!(
            decision(&silent, 0, &there[..1]),
            JoinDecision::Join(Incarnation(9)),
            "a leaving peer may be the last with the set"
        );
    }

    #[test]
    fn a_peer_that_fails_has_a_pause_and_comes_after_others() {
        let mut all = peers(&[
            (1, NodeState::Ready, Some(false)),
            (2, NodeState::Ready, Some(true)),
            (3, JOINING, None),
        ]);
        let join = |all: &Peers, mono_us: u64| join_after(all, mono_us, LONG_SEARCH_US);
        assert_eq!(join(&all, 0), JoinDecision::Join(Incarnation(1)));
        all.failed(Incarnation(1), 0);
        assert_eq!(join(&all, 0), JoinDecision::Join(Incarnation(2)), "it has a pause");
        let later = 100_000_000;
        assert_eq!(join(&all, later), JoinDecision::Join(Incarnation(1)), "one failure may be chance");
        all.failed(Incarnation(1), later);
        assert_eq!(join(&all, 2 * later), JoinDecision::Join(Incarnation(2)), "two failures are not");
        (0..4).for_each(|_| all.failed(Incarnation(2), 2 * later));
        assert_eq!(join(&all, 3 * later), JoinDecision::Join(Incarnation(1)), "it failed less often");
        all.failed(Incarnation(1), 3 * later);
        all.failed(Incarnation(2), 3 * later);
        assert_eq!(join(&all, 3 * later), JoinDecision::Wait, "a set is there: none is begun");
        assert_eq!(join_after(&all, 3 * later, LONGEST_WAIT_US - 1), JoinDecision::Wait);
        assert_eq!(join_after(&all, 3 * later, LONGEST_WAIT_US), JoinDecision::ServeAlone, "not for ever");
    }

    #[test]
    fn a_cold_start_needs_all_addresses_and_one_node_begins() {
        let all = [(7, JOINING, None), (9, JOINING, None)];
        assert_eq!(decision(&answers(&[7, 9]), SEARCH_US - 1, &all), JoinDecision::Wait);
        assert_eq!(decision(&answers(&[7, 9]), SEARCH_US, &all), JoinDecision::ColdStart);
        let first = [(3, JOINING, None), all[0]];
        assert_eq!(decision(&answers(&[3, 7]), SEARCH_US, &first), JoinDecision::Wait, "it is not our turn");
        let silent = [answers(&[7, 9]), vec![SeedStatus::Silent]].concat();
        assert_eq!(
            decision(&silent, SEARCH_US, &all),
            JoinDecision::ServeAlone,
            "one address is silent, and may hold the set"
        );
        assert_eq!(decision(&[], SEARCH_US, &[]), JoinDecision::ColdStart, "there is no other node");
    }

    #[test]
    fn a_process_and_its_successor_are_one_address() {
        // 8 was restarted as 9 and still counts as live; the other address is silent
        let all = [(8, JOINING, None), (9, JOINING, None)];
        assert_eq!(
            decision(&[answers(&[9])[0], SeedStatus::Silent], SEARCH_US, &all),
            JoinDecision::ServeAlone
        );
        assert_eq!(decision(&answers(&[9]), SEARCH_US, &all), JoinDecision::ColdStart);
    }

    fn mark_of(set: u64, committed: u64, reflected: u64) -> SavedMark {
        let stamp = |us| Stamp::from_micros(us).unwrap();
        SavedMark {
            set: GenesisMark { key_id: set, ..mark(false) },
            reflected: stamp(reflected),
            committed: stamp(committed),
            names: 1,
        }
    }

    #[test]
    fn of_saved_sets_the_one_of_most_nodes_wins_and_of_its_nodes_the_one_that_reflects_most() {
        let node = |process: u64, mark: SavedMark| (mark, Incarnation(process));
        let all = [
            node(1, mark_of(7, 10, 3)),
            node(2, mark_of(7, 20, 2)),
            node(3, mark_of(8, 90, 9)),
            node(4, mark_of(7, 10, 3)),
        ];
        let first = |all: &[(SavedMark, Incarnation)]| {
            let leads = |at: &usize| {
                let others: Vec<_> =
                    all.iter().enumerate().filter(|(i, _)| i != at).map(|(_, one)| *one).collect();
                leads(all[*at], &others)
            };
            (0..all.len()).filter(leads).map(|at| all[at].1.0).collect::<Vec<_>>()
        };
        assert_eq!(first(&all), [1], "not the one that was saved last, and of two equal ones the lower");
        assert_eq!(first(&all[1..3]), [3], "of two sets of one node each the one that was saved last");
        assert_eq!(first(&all[2..3]), [3]);
    }

    #[test]
    fn a_node_with_a_saved_set_waits_for_all_and_then_serves_alone() {
        let saved = Saved { mark: mark_of(7, 10, 5), horizon: Stamp::ZERO };
        let decide = |us: u64, others: &[SeedStatus], peers: &Peers| {
            let joiner = Joiner { saved: Some(saved), ..joiner(us, 0, 0) };
            super::decide(joiner, peers, others, 0, Mutants::NONE)
        };
        let joining = peers(&[(7, JOINING, None), (9, JOINING, None)]);
        assert_eq!(decide(SEARCH_US, &answers(&[7, 9]), &joining), JoinDecision::ColdStart);
        let silent = [answers(&[7, 9]), vec![SeedStatus::Silent]].concat();
        assert_eq!(decide(12 * SEARCH_US - 1, &silent, &joining), JoinDecision::Wait);
        assert_eq!(decide(12 * SEARCH_US, &silent, &joining), JoinDecision::ServeAlone);
        // a set that is served wins, and one that a node began alone does not
        let served = peers(&[(7, NodeState::Ready, Some(false))]);
        assert_eq!(decide(0, &answers(&[7]), &served), JoinDecision::Join(Incarnation(7)));
        let alone = peers(&[(7, NodeState::Ready, Some(true))]);
        assert_eq!(decide(SEARCH_US, &answers(&[7]), &alone), JoinDecision::ColdStart);
        // a node without data waits for those that have some
        let mut waits = Peers::default();
        let with = Summary { saved: Some(saved.mark), ..joining.live().next().unwrap().summary };
        waits.see(&WriteLog::default(), 0, &[with], 1_000);
        let empty = |us: u64| super::decide(joiner(us, 0, 0), &waits, &answers(&[7]), 0, Mutants::NONE);
        assert_eq!(empty(20 * SEARCH_US), JoinDecision::Wait);
        assert_eq!(empty(12 * SEARCH_US + LONGEST_WAIT_US), JoinDecision::ServeAlone, "not for ever");
    }

    #[test]
    fn a_node_that_holds_records_makes_no_cold_start() {
        let all = peers(&[(7, JOINING, None), (9, JOINING, None)]);
        let joiner = Joiner { empty: false, ..joiner(SEARCH_US, SEARCH_US, 0) };
        assert_eq!(decide(joiner, &all, &answers(&[7, 9]), 0, Mutants::NONE), JoinDecision::ServeAlone);
    }

    #[test]
    fn a_node_does_not_wait_for_ever_for_the_one_that_goes_first() {
        let all = [(3, JOINING, None), (7, JOINING, None)];
        assert_eq!(decision(&answers(&[3, 7]), LONG_SEARCH_US - 1, &all), JoinDecision::Wait);
        assert_eq!(decision(&answers(&[3, 7]), LONG_SEARCH_US, &all), JoinDecision::ServeAlone);
    }

    const REFUSES: SeedStatus = SeedStatus::Refuses(RefusalCause::Unproven);
    const REFUSES_CLOCK: SeedStatus = SeedStatus::Refuses(RefusalCause::Clock);
    const REFUSES_VERSION: SeedStatus = SeedStatus::Refuses(RefusalCause::Version);

    #[test]
    fn a_refusal_is_not_silence_and_the_wait_for_it_ends() {
        assert_eq!(decision(&[SeedStatus::Silent; 2], SEARCH_US, &[]), JoinDecision::ServeAlone);
        let refused = [SeedStatus::Silent, REFUSES];
        assert_eq!(decision(&refused, LONGEST_WAIT_US - 1, &[]), JoinDecision::Wait);
        assert_eq!(
            decision(&refused, LONGEST_WAIT_US, &[]),
            JoinDecision::ServeAlone,
            "and never a cold start"
        );
    }

    #[test]
    fn refusals_beside_as_many_answers_keep_no_node_from_its_start() {
        let all = [(7, JOINING, None), (9, JOINING, None)];
        let others = [answers(&[7, 9]), vec![REFUSES]].concat();
        assert_eq!(decision(&others, LONG_SEARCH_US - 1, &all), JoinDecision::Wait);
        assert_eq!(
            decision(&others, LONG_SEARCH_US, &all),
            JoinDecision::ServeAlone,
            "and never a cold start"
        );
        let first = [(3, JOINING, None), all[0]];
        let others = [answers(&[3, 7]), vec![REFUSES_CLOCK]].concat();
        assert_eq!(
            decision(&others, LONG_SEARCH_US + SEARCH_US - 1, &first),
            JoinDecision::Wait,
            "it is not our turn"
        );
        assert_eq!(decision(&others, LONG_SEARCH_US + SEARCH_US, &first), JoinDecision::ServeAlone);
        let outnumbered = [answers(&[7]), vec![REFUSES; 2]].concat();
        assert_eq!(
            decision(&outnumbered, LONGEST_WAIT_US - 1, &all[..1]),
            JoinDecision::Wait,
            "we may be wrong"
        );
    }

    #[test]
    fn a_node_that_members_refuse_for_its_clock_begins_no_set() {
        assert_eq!(
            decision(&[REFUSES_CLOCK, SeedStatus::Silent], 10 * LONGEST_WAIT_US, &[]),
            JoinDecision::Wait
        );
        let others = [answers(&[7]), vec![REFUSES_CLOCK; 2]].concat();
        assert_eq!(decision(&others, 10 * LONGEST_WAIT_US, &[(7, JOINING, None)]), JoinDecision::Wait);
        assert_eq!(
            decision(&others, 0, &[(7, NodeState::Ready, Some(true))]),
            JoinDecision::Join(Incarnation(7))
        );
    }

    #[test]
    fn a_node_without_a_common_version_begins_no_set_beside_that_of_the_members() {
        let theirs = ProtocolRange::only(9);
        let summary = |state, genesis: Option<bool>| Summary {
            protocol: theirs,
            ..peers(&[(7, state, genesis)]).get(Incarnation(7)).unwrap().summary
        };
        let others = [REFUSES_VERSION, SeedStatus::Silent];
        for summary in [summary(NodeState::Ready, Some(false)), summary(JOINING, None)] {
            let mut apart = Peers::default();
            apart.see(&WriteLog::default(), 0, &[summary], 1_000);
            for searched_us in [0, SEARCH_US, 10 * LONGEST_WAIT_US] {
                let joiner = joiner(searched_us, searched_us, searched_us);
                assert_eq!(decide(joiner, &apart, &others, 0, Mutants::NONE), JoinDecision::Wait);
            }
        }
        let both = [answers(&[3]), vec![REFUSES_VERSION]].concat();
        let joining = [(3, JOINING, None)];
        assert_eq!(
            decision(&both, LONG_SEARCH_US + SEARCH_US, &joining),
            JoinDecision::ServeAlone,
            "as many answer as refuse"
        );
    }

    #[test]
    fn a_provisional_set_becomes_real_once_all_nodes_are_in_it() {
        let both = [(7, NodeState::Ready, Some(true)), (9, NodeState::Ready, Some(true))];
        assert!(is_whole_cluster(mark(true), &peers(&both), &answers(&[7, 9])));
        assert!(!is_whole_cluster(
            mark(true),
            &peers(&both),
            &[answers(&[7, 9]), vec![SeedStatus::Silent]].concat()
        ));
        assert!(
            !is_whole_cluster(mark(true), &peers(&both), &[]),
            "an empty answer of discovery proves nothing"
        );
        let other = [both[0], (9, NodeState::Ready, Some(false))];
        assert!(!is_whole_cluster(mark(true), &peers(&other), &answers(&[7, 9])));
        let mut away = peers(&both);
        away.see(&WriteLog::default(), 10, &[away.get(Incarnation(7)).unwrap().summary], 1_000);
        assert!(!is_whole_cluster(mark(true), &away, &answers(&[7])), "9 may come back with an older set");
    }
}
