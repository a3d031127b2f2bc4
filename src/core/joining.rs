//! How a node comes to its set: takes part in one that is there, or begins one.

use super::genesis::GenesisMark;
use super::mutants::{Mutant, Mutants};
use super::peers::{NodeState, Peer, Peers};
use super::record::Incarnation;

/// How long a node looks for others before it begins a set, µs.
pub const LOOK_US: u64 = 5_000_000;

/// How long it waits where an address refuses, and at least as many answer, µs. Who refuses is then more likely to be
/// the one that is wrong, or of another cluster.
pub const LONG_LOOK_US: u64 = 2 * LOOK_US;

/// How long it waits where more addresses refuse than answer, or for a set that is there and cannot be had, µs. Time to
/// set a clock right or to hand out a secret; but an address that another cluster has taken refuses for ever.
pub const PATIENCE_US: u64 = 120_000_000;

/// What came of talking to an address that discovery names, beside our own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Contact {
    /// Nothing.
    Silent,
    /// A node is there and will not have us. That is not silence, for a while.
    Refuses(RefusalCause),
    /// This process answers there.
    Answers(Incarnation),
}

/// Why an address refuses us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RefusalCause {
    /// Another secret, or something that cannot be read: it may be of another cluster.
    Unproven,
    /// A member, which shows the secret: our clock or its own is wrong.
    Clock,
    /// A member, which shows the secret: it and we speak no common version of the protocol.
    Version,
}

impl RefusalCause {
    /// Whether the node that refuses has shown the secret of the cluster.
    fn is_of_member(self) -> bool {
        self != Self::Unproven
    }
}

/// What a joining node should do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Wait for others to show up.
    Wait,
    /// Take over the set of this peer.
    Join(Incarnation),
    /// Begin a set: nobody else is there, or all others are as new as we are.
    ColdStart,
    /// Serve alone, for now: others should be there and are silent, and the set may live on with them.
    ServeAlone,
}

/// A joining node, as far as [`step`] has to know it.
#[derive(Clone, Copy, Debug)]
pub struct Joiner {
    /// Which process it is.
    pub us: Incarnation,
    /// Whether it holds nothing: who was pushed records while it joined has heard of a set.
    pub empty: bool,
    /// For how long it has looked for others, µs.
    pub looked_us: u64,
    /// For how long requests for a set have got no answer, µs; 0 before the first one.
    pub unanswered_us: u64,
    /// The monotonic clock, µs.
    pub mono_us: u64,
}

/// Decides it. `others` is every address that discovery names beside our own.
///
/// A cold start needs every address to answer, and to hold nothing: two empty nodes that see only each other while the
/// third one, which holds the set, is cut off, must not take each other's emptiness for the truth. Processes are not
/// counted: one that was just restarted still shows up beside its successor. Of several joiners the one with the lowest
/// incarnation goes first. Who refuses us is waited for with a bound, `look_us`, and so is a set that cannot be had:
/// from then on both count as silence, which never leads to a cold start.
#[must_use]
pub fn step(joiner: Joiner, peers: &Peers, others: &[Contact], entropy: u64, mutants: Mutants) -> Step {
    let is_out_of_reach = joiner.unanswered_us >= PATIENCE_US && !mutants.has(Mutant::OutOfReachForEver);
    match whom_to_join(peers, joiner.mono_us, entropy) {
        Choice::Nobody => {}
        Choice::One(peer) if !is_out_of_reach || peer.failures() < TRIES => {
            return Step::Join(peer.summary.incarnation);
        }
        Choice::Later if !is_out_of_reach => return Step::Wait,
        Choice::One(_) | Choice::Later => return Step::ServeAlone,
    }
    let Some(look_us) = look_us(others, mutants) else { return Step::Wait };
    let joining =
        || peers.asked().map(|peer| &peer.summary).filter(|summary| summary.state == NodeState::Joining);
    let first = joining().all(|summary| joiner.us < summary.incarnation);
    let all = if mutants.has(Mutant::CountProcesses) {
        joining().count() >= others.len()
    } else {
        others.iter().all(|contact| {
            matches!(contact, Contact::Answers(who)
                if peers.get(*who).is_some_and(|peer| peer.summary.state == NodeState::Joining))
        })
    };
    let nothing = joiner.empty && joining().all(|summary| summary.root.count == 0);
    if joiner.looked_us < look_us {
        Step::Wait
    } else if first && all && nothing {
        Step::ColdStart
    } else if first || joiner.looked_us >= look_us + LOOK_US {
        Step::ServeAlone
    } else {
        // one of them begins and the others join it: sets begun at once would have to be healed
        Step::Wait
    }
}

/// How long a node looks for others that may have a set, µs; `None` as long as all stays as it is.
///
/// Whoever is refused may be the one that is wrong: the more so, the fewer answer. A node that members refuse, more of
/// them than answer, waits as long as that is so. They show the secret, so that no other cluster can keep a node from
/// its start by that. Refused for its clock it would take no writes anyhow. Refused for its version it would begin a
/// set beside that of the members, which it can never take over.
fn look_us(others: &[Contact], mutants: Mutants) -> Option<u64> {
    let count = |of: fn(&Contact) -> bool| others.iter().filter(|contact| of(contact)).count();
    let answer = count(|contact| matches!(contact, Contact::Answers(_)));
    let refuse = count(|contact| matches!(contact, Contact::Refuses(_)));
    let members_refuse = count(|contact| matches!(contact, Contact::Refuses(why) if why.is_of_member()));
    match refuse {
        0 => Some(LOOK_US),
        _ if members_refuse > answer || mutants.has(Mutant::RefusalsForEver) => None,
        _ if answer >= refuse => Some(LONG_LOOK_US),
        _ => Some(PATIENCE_US),
    }
}

#[derive(Clone, Copy, Debug)]
enum Choice<'a> {
    /// Nobody has a set.
    Nobody,
    /// Somebody has, who failed just now.
    Later,
    One(&'a Peer),
}

/// A peer that failed so often in a row to hand over its set stands behind those whose set is worth less.
const TRIES: u32 = 2;

/// Somebody whose set is there: a real one first, one of somebody who is about to stop last, and of those alike whoever
/// failed least. A peer that hangs must not keep a node from the others' sets.
fn whom_to_join(peers: &Peers, mono_us: u64, entropy: u64) -> Choice<'_> {
    let worth = |state: NodeState, provisional: bool| match (state, provisional) {
        (NodeState::Ready, false) => Some(0),
        (NodeState::Ready, true) => Some(1),
        (NodeState::Leaving, false) => Some(2),
        (NodeState::Leaving, true) => Some(3),
        (NodeState::Joining, _) => None,
    };
    let ranked = || {
        peers.asked().filter_map(move |peer| {
            let worth = worth(peer.summary.state, peer.summary.genesis?.provisional)?;
            Some(((peer.failures() / TRIES, worth, peer.failures()), peer))
        })
    };
    let Some(best) = ranked().filter(|(_, peer)| !peer.rests(mono_us)).map(|(rank, _)| rank).min() else {
        return if ranked().next().is_some() { Choice::Later } else { Choice::Nobody };
    };
    let of_best = || ranked().filter(|(rank, peer)| *rank == best && !peer.rests(mono_us));
    let pick = usize::try_from(entropy % of_best().count().max(1) as u64).unwrap_or(0);
    of_best().nth(pick).map_or(Choice::Nobody, |(_, peer)| Choice::One(peer))
}

/// Whether a provisional set is all that there is: every address that discovery names is ready in this very set, and of
/// those who were ever seen nobody is away. Then nobody is left who could hold an older one.
#[must_use]
pub fn is_whole_cluster(set: GenesisMark, peers: &Peers, others: &[Contact]) -> bool {
    let within = |who: &Incarnation| {
        peers
            .get(*who)
            .is_some_and(|peer| peer.summary.state == NodeState::Ready && peer.summary.genesis == Some(set))
    };
    !others.is_empty()
        && others.iter().all(|contact| matches!(contact, Contact::Answers(who) if within(who)))
        && peers.live().all(|peer| peer.summary.genesis == Some(set))
        && peers.away() == 0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::digest_trie::Digest;
    use crate::core::peers::Summary;
    use crate::core::protocol::ProtocolRange;
    use crate::core::push::Log;
    use crate::core::stamp::Stamp;

    const US: Incarnation = Incarnation(5);
    const JOINING: NodeState = NodeState::Joining;

    fn mark(provisional: bool) -> GenesisMark {
        GenesisMark { provisional, started: Stamp::ZERO, key_id: 0 }
    }

    fn peers(states: &[(u64, NodeState, Option<bool>)]) -> Peers {
        let summaries: Vec<Summary> = states
            .iter()
            .map(|(who, state, provisional)| Summary {
                incarnation: Incarnation(*who),
                node: *who,
                region: 0,
                state: *state,
                genesis: provisional.map(mark),
                root: Digest::default(),
                horizon: Stamp::ZERO,
                vector: 0,
                protocol: ProtocolRange::IMPLEMENTED,
            })
            .collect();
        let mut peers = Peers::default();
        peers.see(&Log::default(), 0, &summaries, 1_000);
        peers
    }

    fn answers(who: &[u64]) -> Vec<Contact> {
        who.iter().map(|who| Contact::Answers(Incarnation(*who))).collect()
    }

    fn decide(others: &[Contact], looked_us: u64, states: &[(u64, NodeState, Option<bool>)]) -> Step {
        let joiner = Joiner { us: US, empty: true, looked_us, unanswered_us: looked_us, mono_us: 0 };
        step(joiner, &peers(states), others, 0, Mutants::NONE)
    }

    fn join_after(peers: &Peers, mono_us: u64, unanswered_us: u64) -> Step {
        let joiner = Joiner { us: US, empty: true, looked_us: unanswered_us, unanswered_us, mono_us };
        step(joiner, peers, &[], 0, Mutants::NONE)
    }

    #[test]
    fn a_set_that_is_there_is_joined_at_once_a_real_one_first() {
        let there = [
            (9, NodeState::Leaving, Some(false)),
            (1, NodeState::Ready, Some(true)),
            (2, NodeState::Ready, Some(false)),
            (3, JOINING, None),
        ];
        let silent = [Contact::Silent; 4];
        assert_eq!(decide(&silent, 0, &there), Step::Join(Incarnation(2)));
        assert_eq!(decide(&silent, 0, &there[..2]), Step::Join(Incarnation(1)));
        assert_eq!(
            decide(&silent, 0, &there[..1]),
            Step::Join(Incarnation(9)),
            "what leaves may be the last"
        );
    }

    #[test]
    fn who_fails_stands_behind_and_rests() {
        let mut all = peers(&[
            (1, NodeState::Ready, Some(false)),
            (2, NodeState::Ready, Some(true)),
            (3, JOINING, None),
        ]);
        let join = |all: &Peers, mono_us: u64| join_after(all, mono_us, LONG_LOOK_US);
        assert_eq!(join(&all, 0), Step::Join(Incarnation(1)));
        all.failed(Incarnation(1), 0);
        assert_eq!(join(&all, 0), Step::Join(Incarnation(2)), "it rests");
        let later = 100_000_000;
        assert_eq!(join(&all, later), Step::Join(Incarnation(1)), "once may be chance");
        all.failed(Incarnation(1), later);
        assert_eq!(join(&all, 2 * later), Step::Join(Incarnation(2)), "twice is not");
        (0..4).for_each(|_| all.failed(Incarnation(2), 2 * later));
        assert_eq!(join(&all, 3 * later), Step::Join(Incarnation(1)), "it failed less");
        all.failed(Incarnation(1), 3 * later);
        all.failed(Incarnation(2), 3 * later);
        assert_eq!(join(&all, 3 * later), Step::Wait, "a set is there: none is begun");
        assert_eq!(join_after(&all, 3 * later, PATIENCE_US - 1), Step::Wait);
        assert_eq!(join_after(&all, 3 * later, PATIENCE_US), Step::ServeAlone, "but not for ever");
    }

    #[test]
    fn a_cold_start_needs_everybody_and_one_of_them_begins() {
        let all = [(7, JOINING, None), (9, JOINING, None)];
        assert_eq!(decide(&answers(&[7, 9]), LOOK_US - 1, &all), Step::Wait);
        assert_eq!(decide(&answers(&[7, 9]), LOOK_US, &all), Step::ColdStart);
        let first = [(3, JOINING, None), all[0]];
        assert_eq!(decide(&answers(&[3, 7]), LOOK_US, &first), Step::Wait, "it is not our turn");
        let silent = [answers(&[7, 9]), vec![Contact::Silent]].concat();
        assert_eq!(decide(&silent, LOOK_US, &all), Step::ServeAlone, "one is silent, and may hold the set");
        assert_eq!(decide(&[], LOOK_US, &[]), Step::ColdStart, "nobody else anywhere");
    }

    #[test]
    fn a_process_and_its_successor_are_one_address() {
        // 8 was restarted as 9 and still counts as live; the other address is silent
        let all = [(8, JOINING, None), (9, JOINING, None)];
        assert_eq!(decide(&[answers(&[9])[0], Contact::Silent], LOOK_US, &all), Step::ServeAlone);
        assert_eq!(decide(&answers(&[9]), LOOK_US, &all), Step::ColdStart);
    }

    #[test]
    fn who_holds_records_has_heard_of_a_set() {
        let all = peers(&[(7, JOINING, None), (9, JOINING, None)]);
        let joiner = Joiner { us: US, empty: false, looked_us: LOOK_US, unanswered_us: LOOK_US, mono_us: 0 };
        assert_eq!(step(joiner, &all, &answers(&[7, 9]), 0, Mutants::NONE), Step::ServeAlone);
    }

    #[test]
    fn who_waits_for_the_first_does_not_wait_for_ever() {
        let all = [(3, JOINING, None), (7, JOINING, None)];
        assert_eq!(decide(&answers(&[3, 7]), LONG_LOOK_US - 1, &all), Step::Wait);
        assert_eq!(decide(&answers(&[3, 7]), LONG_LOOK_US, &all), Step::ServeAlone);
    }

    const REFUSES: Contact = Contact::Refuses(RefusalCause::Unproven);
    const REFUSES_CLOCK: Contact = Contact::Refuses(RefusalCause::Clock);
    const REFUSES_VERSION: Contact = Contact::Refuses(RefusalCause::Version);

    #[test]
    fn a_refusal_is_not_silence_and_is_not_waited_for_without_an_end() {
        assert_eq!(decide(&[Contact::Silent; 2], LOOK_US, &[]), Step::ServeAlone);
        let refused = [Contact::Silent, REFUSES];
        assert_eq!(decide(&refused, PATIENCE_US - 1, &[]), Step::Wait);
        assert_eq!(decide(&refused, PATIENCE_US, &[]), Step::ServeAlone, "and never a cold start");
    }

    #[test]
    fn who_refuses_beside_as_many_who_answer_keeps_nobody_from_its_start() {
        let all = [(7, JOINING, None), (9, JOINING, None)];
        let others = [answers(&[7, 9]), vec![REFUSES]].concat();
        assert_eq!(decide(&others, LONG_LOOK_US - 1, &all), Step::Wait);
        assert_eq!(decide(&others, LONG_LOOK_US, &all), Step::ServeAlone, "and never a cold start");
        let first = [(3, JOINING, None), all[0]];
        let others = [answers(&[3, 7]), vec![REFUSES_CLOCK]].concat();
        assert_eq!(decide(&others, LONG_LOOK_US + LOOK_US - 1, &first), Step::Wait, "it is not our turn");
        assert_eq!(decide(&others, LONG_LOOK_US + LOOK_US, &first), Step::ServeAlone);
        let outnumbered = [answers(&[7]), vec![REFUSES; 2]].concat();
        assert_eq!(decide(&outnumbered, PATIENCE_US - 1, &all[..1]), Step::Wait, "we may be wrong");
    }

    #[test]
    fn whom_members_refuse_for_its_clock_begins_nothing() {
        assert_eq!(decide(&[REFUSES_CLOCK, Contact::Silent], 10 * PATIENCE_US, &[]), Step::Wait);
        let others = [answers(&[7]), vec![REFUSES_CLOCK; 2]].concat();
        assert_eq!(decide(&others, 10 * PATIENCE_US, &[(7, JOINING, None)]), Step::Wait);
        assert_eq!(decide(&others, 0, &[(7, NodeState::Ready, Some(true))]), Step::Join(Incarnation(7)));
    }

    #[test]
    fn a_node_without_a_common_version_begins_nothing_beside_the_set_of_the_members() {
        let theirs = ProtocolRange::only(9);
        let summary = |state, genesis: Option<bool>| Summary {
            protocol: theirs,
            ..peers(&[(7, state, genesis)]).get(Incarnation(7)).unwrap().summary
        };
        let others = [REFUSES_VERSION, Contact::Silent];
        for summary in [summary(NodeState::Ready, Some(false)), summary(JOINING, None)] {
            let mut apart = Peers::default();
            apart.see(&Log::default(), 0, &[summary], 1_000);
            for looked_us in [0, LOOK_US, 10 * PATIENCE_US] {
                let joiner =
                    Joiner { us: US, empty: true, looked_us, unanswered_us: looked_us, mono_us: looked_us };
                assert_eq!(step(joiner, &apart, &others, 0, Mutants::NONE), Step::Wait);
            }
        }
        let both = [answers(&[3]), vec![REFUSES_VERSION]].concat();
        let joining = [(3, JOINING, None)];
        assert_eq!(decide(&both, LONG_LOOK_US + LOOK_US, &joining), Step::ServeAlone, "as many answer");
    }

    #[test]
    fn a_provisional_set_is_real_once_everybody_is_in_it() {
        let both = [(7, NodeState::Ready, Some(true)), (9, NodeState::Ready, Some(true))];
        assert!(is_whole_cluster(mark(true), &peers(&both), &answers(&[7, 9])));
        assert!(!is_whole_cluster(
            mark(true),
            &peers(&both),
            &[answers(&[7, 9]), vec![Contact::Silent]].concat()
        ));
        assert!(
            !is_whole_cluster(mark(true), &peers(&both), &[]),
            "an empty answer of discovery proves nothing"
        );
        let other = [both[0], (9, NodeState::Ready, Some(false))];
        assert!(!is_whole_cluster(mark(true), &peers(&other), &answers(&[7, 9])));
        let mut away = peers(&both);
        away.see(&Log::default(), 10, &[away.get(Incarnation(7)).unwrap().summary], 1_000);
        assert!(!is_whole_cluster(mark(true), &away, &answers(&[7])), "9 may come back with an older set");
    }
}
