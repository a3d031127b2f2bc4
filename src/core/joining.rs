//! How a node comes to its set: takes part in one that is there, or begins one.

use super::peers::{Peers, State};
use super::record::Incarnation;

/// How long a node looks for others before it begins a set, µs.
pub const LOOK_US: u64 = 5_000_000;

/// How long it waits for the one whose turn it is to begin, µs.
pub const LONG_LOOK_US: u64 = 2 * LOOK_US;

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

/// Decides it.
///
/// `others` is how many addresses discovery knows beside our own, `refused` how many of these answered and would not
/// have us (wrong secret, wrong clock): that is not silence, and whoever is refused stays joining.
///
/// A cold start needs everybody to answer, and to hold nothing: two empty nodes that see only each other while the third
/// one, which holds the set, is cut off, must not take each other's emptiness for the truth; and who was pushed records
/// while it joined has heard of a set. Of several joiners the one with the lowest incarnation goes first.
#[must_use]
pub fn step(
    us: Incarnation,
    empty: bool,
    peers: &Peers,
    others: usize,
    refused: usize,
    looked_us: u64,
    entropy: u64,
) -> Step {
    let ready = |provisional: bool| {
        peers.live().map(|peer| &peer.summary).filter(move |summary| {
            summary.state == State::Ready && summary.genesis.is_some_and(|g| g.provisional == provisional)
        })
    };
    for provisional in [false, true] {
        let count = ready(provisional).count();
        if count > 0 {
            let pick = (entropy % count as u64) as usize;
            return ready(provisional)
                .nth(pick)
                .map_or(Step::Wait, |summary| Step::Join(summary.incarnation));
        }
    }
    let joining = || peers.live().map(|peer| &peer.summary).filter(|summary| summary.state == State::Joining);
    let first = joining().all(|summary| us < summary.incarnation);
    let all = joining().count() >= others;
    let nothing = empty && joining().all(|summary| summary.root.count == 0);
    match looked_us {
        _ if refused > 0 => Step::Wait,
        ..LOOK_US => Step::Wait,
        // one of them begins and the others join it: sets begun at once would have to be healed
        ..LONG_LOOK_US if !first => Step::Wait,
        _ if first && all && nothing => Step::ColdStart,
        _ => Step::ServeAlone,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::genesis::GenesisMark;
    use crate::core::peers::Summary;
    use crate::core::push::Log;
    use crate::core::stamp::Stamp;
    use crate::core::trie::Digest;

    const US: Incarnation = Incarnation(5);

    fn peers(states: &[(u64, State, Option<bool>)]) -> Peers {
        let summaries: Vec<Summary> = states
            .iter()
            .map(|(who, state, provisional)| Summary {
                incarnation: Incarnation(*who),
                node: *who,
                region: 0,
                state: *state,
                genesis: provisional.map(|provisional| GenesisMark {
                    provisional,
                    started: Stamp::ZERO,
                    key_id: 0,
                }),
                root: Digest::default(),
                horizon: Stamp::ZERO,
                vector: 0,
            })
            .collect();
        let mut peers = Peers::default();
        peers.see(&Log::default(), 0, &summaries);
        peers
    }

    fn decide(others: usize, refused: usize, looked_us: u64, states: &[(u64, State, Option<bool>)]) -> Step {
        step(US, true, &peers(states), others, refused, looked_us, 0)
    }

    #[test]
    fn a_set_that_is_there_is_joined_at_once_a_real_one_first() {
        let there =
            [(1, State::Ready, Some(true)), (2, State::Ready, Some(false)), (3, State::Joining, None)];
        assert_eq!(decide(3, 0, 0, &there), Step::Join(Incarnation(2)));
        assert_eq!(decide(3, 0, 0, &there[..1]), Step::Join(Incarnation(1)));
    }

    #[test]
    fn a_cold_start_needs_everybody_and_one_of_them_begins() {
        let all = [(7, State::Joining, None), (9, State::Joining, None)];
        assert_eq!(decide(2, 0, LOOK_US - 1, &all), Step::Wait);
        assert_eq!(decide(2, 0, LOOK_US, &all), Step::ColdStart);
        assert_eq!(
            decide(2, 0, LOOK_US, &[(3, State::Joining, None), all[0]]),
            Step::Wait,
            "it is not our turn"
        );
        assert_eq!(decide(3, 0, LOOK_US, &all), Step::ServeAlone, "one is silent, and may hold the set");
        assert_eq!(decide(0, 0, LOOK_US, &[]), Step::ColdStart, "nobody else anywhere");
    }

    #[test]
    fn who_holds_records_has_heard_of_a_set() {
        let all = [(7, State::Joining, None), (9, State::Joining, None)];
        assert_eq!(step(US, false, &peers(&all), 2, 0, LOOK_US, 0), Step::ServeAlone);
    }

    #[test]
    fn who_waits_for_the_first_does_not_wait_for_ever() {
        let all = [(3, State::Joining, None), (7, State::Joining, None)];
        assert_eq!(decide(2, 0, LONG_LOOK_US - 1, &all), Step::Wait);
        assert_eq!(decide(2, 0, LONG_LOOK_US, &all), Step::ServeAlone);
    }

    #[test]
    fn silence_is_not_refusal() {
        assert_eq!(decide(2, 0, LOOK_US, &[]), Step::ServeAlone);
        assert_eq!(decide(2, 1, 10 * LOOK_US, &[]), Step::Wait);
    }
}
