//! How a node comes to its set: takes part in one that is there, or begins one.

use super::genesis::GenesisMark;
use super::mutants::{Mutant, Mutants};
use super::peers::{Peers, State};
use super::record::Incarnation;

/// How long a node looks for others before it begins a set, µs.
pub const LOOK_US: u64 = 5_000_000;

/// How long it waits for the one whose turn it is to begin, µs.
pub const LONG_LOOK_US: u64 = 2 * LOOK_US;

/// What came of talking to an address that discovery names, beside our own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Contact {
    /// Nothing.
    Silent,
    /// Somebody is there and will not have us: another secret, another version. That is not silence.
    Refuses {
        /// It has our secret, and our clock or its own is wrong.
        clock: bool,
    },
    /// This process answers there.
    Answers(Incarnation),
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
    /// The monotonic clock, µs.
    pub mono_us: u64,
}

/// Decides it. `others` is every address that discovery names beside our own.
///
/// A cold start needs every address to answer, and to hold nothing: two empty nodes that see only each other while the
/// third one, which holds the set, is cut off, must not take each other's emptiness for the truth. Processes are not
/// counted: one that was just restarted still shows up beside its successor. Of several joiners the one with the lowest
/// incarnation goes first. Whoever is refused stays joining.
#[must_use]
pub fn step(joiner: Joiner, peers: &Peers, others: &[Contact], entropy: u64, mutants: Mutants) -> Step {
    match whom_to_join(peers, joiner.mono_us, entropy) {
        Choice::Nobody => {}
        Choice::Later => return Step::Wait,
        Choice::One(peer) => return Step::Join(peer),
    }
    let joining = || peers.live().map(|peer| &peer.summary).filter(|summary| summary.state == State::Joining);
    let first = joining().all(|summary| joiner.us < summary.incarnation);
    let all = if mutants.has(Mutant::CountProcesses) {
        joining().count() >= others.len()
    } else {
        others.iter().all(|contact| {
            matches!(contact, Contact::Answers(who)
                if peers.get(*who).is_some_and(|peer| peer.summary.state == State::Joining))
        })
    };
    let nothing = joiner.empty && joining().all(|summary| summary.root.count == 0);
    match joiner.looked_us {
        _ if others.iter().any(|contact| matches!(contact, Contact::Refuses { .. })) => Step::Wait,
        ..LOOK_US => Step::Wait,
        // one of them begins and the others join it: sets begun at once would have to be healed
        ..LONG_LOOK_US if !first => Step::Wait,
        _ if first && all && nothing => Step::ColdStart,
        _ => Step::ServeAlone,
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Choice {
    /// Nobody has a set.
    Nobody,
    /// Somebody has, who failed just now.
    Later,
    One(Incarnation),
}

/// A peer that failed so often in a row to hand over its set stands behind those whose set is worth less.
const TRIES: u32 = 2;

/// Somebody whose set is there: a real one first, one of somebody who is about to stop last, and of those alike whoever
/// failed least. A peer that hangs must not keep a node from the others' sets.
fn whom_to_join(peers: &Peers, mono_us: u64, entropy: u64) -> Choice {
    let worth = |state: State, provisional: bool| match (state, provisional) {
        (State::Ready, false) => Some(0),
        (State::Ready, true) => Some(1),
        (State::Leaving, false) => Some(2),
        (State::Leaving, true) => Some(3),
        (State::Joining, _) => None,
    };
    let ranked = || {
        peers.live().filter_map(move |peer| {
            let worth = worth(peer.summary.state, peer.summary.genesis?.provisional)?;
            Some(((peer.failures() / TRIES, worth, peer.failures()), peer))
        })
    };
    let Some(best) = ranked().filter(|(_, peer)| !peer.rests(mono_us)).map(|(rank, _)| rank).min() else {
        return if ranked().next().is_some() { Choice::Later } else { Choice::Nobody };
    };
    let of_best = || ranked().filter(|(rank, peer)| *rank == best && !peer.rests(mono_us));
    let pick = usize::try_from(entropy % of_best().count().max(1) as u64).unwrap_or(0);
    of_best().nth(pick).map_or(Choice::Nobody, |(_, peer)| Choice::One(peer.summary.incarnation))
}

/// Whether a provisional set is all that there is: every address that discovery names is ready in this very set, and of
/// those who were ever seen nobody is away. Then nobody is left who could hold an older one.
#[must_use]
pub fn is_whole_group(set: GenesisMark, peers: &Peers, others: &[Contact]) -> bool {
    let within = |who: &Incarnation| {
        peers
            .get(*who)
            .is_some_and(|peer| peer.summary.state == State::Ready && peer.summary.genesis == Some(set))
    };
    !others.is_empty()
        && others.iter().all(|contact| matches!(contact, Contact::Answers(who) if within(who)))
        && peers.live().all(|peer| peer.summary.genesis == Some(set))
        && peers.away() == 0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::peers::Summary;
    use crate::core::push::Log;
    use crate::core::stamp::Stamp;
    use crate::core::trie::Digest;

    const US: Incarnation = Incarnation(5);
    const JOINING: State = State::Joining;

    fn mark(provisional: bool) -> GenesisMark {
        GenesisMark { provisional, started: Stamp::ZERO, key_id: 0 }
    }

    fn peers(states: &[(u64, State, Option<bool>)]) -> Peers {
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
            })
            .collect();
        let mut peers = Peers::default();
        peers.see(&Log::default(), 0, &summaries, 1_000);
        peers
    }

    fn answers(who: &[u64]) -> Vec<Contact> {
        who.iter().map(|who| Contact::Answers(Incarnation(*who))).collect()
    }

    fn decide(others: &[Contact], looked_us: u64, states: &[(u64, State, Option<bool>)]) -> Step {
        step(Joiner { us: US, empty: true, looked_us, mono_us: 0 }, &peers(states), others, 0, Mutants::NONE)
    }

    #[test]
    fn a_set_that_is_there_is_joined_at_once_a_real_one_first() {
        let there = [
            (9, State::Leaving, Some(false)),
            (1, State::Ready, Some(true)),
            (2, State::Ready, Some(false)),
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
        let mut all =
            peers(&[(1, State::Ready, Some(false)), (2, State::Ready, Some(true)), (3, JOINING, None)]);
        let join = |all: &Peers, mono_us: u64| {
            let joiner = Joiner { us: US, empty: true, looked_us: LONG_LOOK_US, mono_us };
            step(joiner, all, &[], 0, Mutants::NONE)
        };
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
        let joiner = Joiner { us: US, empty: false, looked_us: LOOK_US, mono_us: 0 };
        assert_eq!(step(joiner, &all, &answers(&[7, 9]), 0, Mutants::NONE), Step::ServeAlone);
    }

    #[test]
    fn who_waits_for_the_first_does_not_wait_for_ever() {
        let all = [(3, JOINING, None), (7, JOINING, None)];
        assert_eq!(decide(&answers(&[3, 7]), LONG_LOOK_US - 1, &all), Step::Wait);
        assert_eq!(decide(&answers(&[3, 7]), LONG_LOOK_US, &all), Step::ServeAlone);
    }

    #[test]
    fn silence_is_not_refusal() {
        assert_eq!(decide(&[Contact::Silent; 2], LOOK_US, &[]), Step::ServeAlone);
        assert_eq!(
            decide(&[Contact::Silent, Contact::Refuses { clock: false }], 10 * LOOK_US, &[]),
            Step::Wait
        );
    }

    #[test]
    fn a_provisional_set_is_real_once_everybody_is_in_it() {
        let both = [(7, State::Ready, Some(true)), (9, State::Ready, Some(true))];
        assert!(is_whole_group(mark(true), &peers(&both), &answers(&[7, 9])));
        assert!(!is_whole_group(
            mark(true),
            &peers(&both),
            &[answers(&[7, 9]), vec![Contact::Silent]].concat()
        ));
        assert!(
            !is_whole_group(mark(true), &peers(&both), &[]),
            "an empty answer of discovery proves nothing"
        );
        let other = [both[0], (9, State::Ready, Some(false))];
        assert!(!is_whole_group(mark(true), &peers(&other), &answers(&[7, 9])));
        let mut away = peers(&both);
        away.see(&Log::default(), 10, &[away.get(Incarnation(7)).unwrap().summary], 1_000);
        assert!(!is_whole_group(mark(true), &away, &answers(&[7])), "9 may come back with an older set");
    }
}
