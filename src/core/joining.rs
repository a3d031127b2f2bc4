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
/// A cold start needs everybody to answer: two empty nodes that see only each other while the third one, which holds
/// the set, is cut off, must not take each other's emptiness for the truth.
#[must_use]
pub fn step(
    us: Incarnation,
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
    let joining = || peers.live().filter(|peer| peer.summary.state == State::Joining);
    let first = joining().all(|peer| us < peer.summary.incarnation);
    let all = joining().count() >= others;
    match looked_us {
        _ if refused > 0 => Step::Wait,
        ..LOOK_US => Step::Wait,
        // one of them begins and the others join it: two sets begun at once would have to be healed
        ..LONG_LOOK_US if all && !first => Step::Wait,
        _ if all => Step::ColdStart,
        _ => Step::ServeAlone,
    }
}
