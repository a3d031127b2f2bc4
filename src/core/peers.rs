//! Peers: who is there, whom to ask next, and who still holds the horizon.

use std::collections::{BTreeMap, BTreeSet};

use super::genesis::GenesisMark;
use super::push::{Log, Outbox};
use super::record::Incarnation;
use super::replica::Now;
use super::stamp::Stamp;
use super::sync::much_larger;
use super::trie::Digest;

/// Where a node is between its start and its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum State {
    /// It has no complete set yet: it takes pushes and sync, and refuses reads and writes.
    Joining,
    /// It answers.
    Ready,
    /// It is about to stop.
    Leaving,
}

/// What a node gossips of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Summary {
    /// Which process it is.
    pub incarnation: Incarnation,
    /// Hash of the configured node id: the same for all processes of a node.
    pub node: u64,
    /// Hash of the region's name.
    pub region: u64,
    /// Where it is between start and end.
    pub state: State,
    /// Its set; `None` while it has joined none.
    pub genesis: Option<GenesisMark>,
    /// Digest of all of its records.
    pub root: Digest,
    /// Its horizon.
    pub horizon: Stamp,
    /// [`super::Vector::mark`] of its vector.
    pub vector: u32,
}

impl Summary {
    /// Rule 1: whether the two sets are the same, as far as gossip tells. The horizons need not be: the larger one is
    /// taken over from gossip, and equal sets stay equal by that.
    #[must_use]
    pub fn same_set(&self, other: &Self) -> bool {
        self.genesis == other.genesis && self.root == other.root
    }
}

/// A live peer.
#[derive(Clone, Debug)]
pub struct Peer {
    /// What it last said of itself.
    pub summary: Summary,
    pub(super) outbox: Outbox,
    /// Whether a round with it was ever complete.
    known: bool,
    /// Rounds with it that failed since the last one that did not.
    failures: u32,
    /// No round before this, µs of the node's monotonic clock.
    not_before_us: u64,
    /// How far its clock is ahead of ours, µs, as of the last answer that came soon enough to tell.
    offset_us: Option<i64>,
    /// The marks (theirs, ours) when vectors were last exchanged: once is enough, even if they stay different.
    marks: Option<(u32, u32)>,
}

/// Somebody who was there, and may come back with what it held.
#[derive(Clone, Copy, Debug)]
struct Member {
    node: u64,
    /// Live without a break, and past its joining, since then.
    since_us: u64,
    seen_us: u64,
    left: bool,
}

impl Peer {
    /// How far its clock is ahead of ours, µs, if it is known.
    #[must_use]
    pub fn offset_us(&self) -> Option<i64> {
        self.offset_us
    }
}

/// All peers of a node, and who was there before.
#[derive(Debug, Default)]
pub struct Peers {
    live: BTreeMap<Incarnation, Peer>,
    members: BTreeMap<Incarnation, Member>,
    turn: u64,
}

/// What to do with a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Errand {
    /// The sets differ.
    Round,
    /// The sets are equal and the vectors differ.
    Vectors,
}

/// Pause after a failed round with a peer, doubled by each further one, µs.
const PAUSE_US: u64 = 500_000;

impl Peers {
    /// Takes in who is live now, all at once and without ourselves.
    pub(super) fn see(&mut self, log: &Log, mono_us: u64, live: &[Summary]) {
        let mut before = std::mem::take(&mut self.live);
        for summary in live {
            let since_us = match self.members.get(&summary.incarnation) {
                Some(member)
                    if summary.state != State::Joining && before.contains_key(&summary.incarnation) =>
                {
                    member.since_us
                }
                _ => mono_us,
            };
            let mut peer = before.remove(&summary.incarnation).unwrap_or_else(|| Peer {
                summary: *summary,
                outbox: Outbox::new(log),
                known: false,
                failures: 0,
                not_before_us: 0,
                offset_us: None,
                marks: None,
            });
            peer.summary = *summary;
            self.live.insert(summary.incarnation, peer);
            let left = summary.state == State::Leaving;
            let member = Member { node: summary.node, since_us, seen_us: mono_us, left };
            self.members.insert(summary.incarnation, member);
        }
    }

    /// The live peers.
    pub fn live(&self) -> impl Iterator<Item = &Peer> {
        self.live.values()
    }

    /// Whether a process is a member, or was one not long ago and nobody followed it.
    #[must_use]
    pub fn remembers(&self, incarnation: Incarnation) -> bool {
        self.members.contains_key(&incarnation)
    }

    pub(super) fn is_live(&self, incarnation: Incarnation) -> bool {
        self.live.contains_key(&incarnation)
    }

    pub(super) fn get_mut(&mut self, incarnation: Incarnation) -> Option<&mut Peer> {
        self.live.get_mut(&incarnation)
    }

    pub(super) fn live_mut(&mut self) -> impl Iterator<Item = (Incarnation, &mut Peer)> {
        self.live.iter_mut().map(|(incarnation, peer)| (*incarnation, peer))
    }

    /// Whether nobody holds the horizon: of all members seen within `memory_us`, each is live, past its joining, and has
    /// been so without a break for `settle_us`, said that it leaves, or was followed by a newer process of the same node, which began
    /// empty. Who is merely silent may come back with values whose tombstones must still be there to meet them, and who
    /// is just back, or takes a set over bit by bit, has not met them yet.
    pub(super) fn nobody_missing(&mut self, mono_us: u64, memory_us: u64, settle_us: u64) -> bool {
        let live = &self.live;
        let here: BTreeSet<u64> = live.values().map(|peer| peer.summary.node).collect();
        // who was followed is forgotten at once, so that a process that starts again and again fills nothing
        self.members.retain(|who, member| {
            live.contains_key(who) || member.seen_us + memory_us > mono_us && !here.contains(&member.node)
        });
        self.members.iter().all(|(who, member)| match self.live.contains_key(who) {
            _ if member.left => true,
            true => member.since_us + settle_us <= mono_us,
            false => false,
        })
    }

    /// With whom to sync next, and how. `ours` is what we gossip.
    ///
    /// Dirty and new peers come first, one in four from another region; who is equal to us is not asked (rule 1), but
    /// for its vector, once.
    pub(super) fn next(
        &mut self,
        mono_us: u64,
        entropy: u64,
        ours: &Summary,
    ) -> Option<(Incarnation, Errand)> {
        self.turn += 1;
        let abroad = self.turn.is_multiple_of(4);
        let mut best: Option<(u32, usize)> = None;
        let mut all: Vec<(u32, Incarnation, Errand)> = Vec::new();
        for (who, peer) in &mut self.live {
            let same = peer.summary.same_set(ours);
            if same {
                peer.outbox.synced();
            }
            // a joining peer takes a snapshot by itself; what it was pushed meanwhile may be news here
            let useful = match peer.summary.state {
                State::Ready => true,
                State::Joining => !much_larger(ours.root.count, peer.summary.root.count),
                State::Leaving => false,
            };
            if !useful || mono_us < peer.not_before_us {
                continue;
            }
            let marks = (peer.summary.vector, ours.vector);
            let (rank, errand) = match same {
                true if marks.0 == marks.1 || peer.marks == Some(marks) => continue,
                true => (0, Errand::Vectors),
                false if peer.outbox.is_dirty() || !peer.known => (3, Errand::Round),
                false if abroad && peer.summary.region != ours.region => (2, Errand::Round),
                false => (1, Errand::Round),
            };
            all.push((rank, *who, errand));
            best = match best {
                Some((top, count)) if top == rank => Some((top, count + 1)),
                Some((top, count)) if top > rank => Some((top, count)),
                _ => Some((rank, 1)),
            };
        }
        let (rank, count) = best?;
        let pick = (entropy % count as u64) as usize;
        let (_, who, errand) = all.into_iter().filter(|(r, ..)| *r == rank).nth(pick)?;
        Some((who, errand))
    }

    /// A peer showed its clock in an answer to what was sent at `sent` and came back at `now`. The truth lies within half
    /// of that time: an answer that took longer than `within_us` says nothing.
    pub(super) fn clock(&mut self, who: Incarnation, theirs: Stamp, sent: Now, now: Now, within_us: u64) {
        let took_us = now.mono_us.saturating_sub(sent.mono_us);
        if let Some(peer) = self.live.get_mut(&who).filter(|_| took_us <= within_us) {
            let ours = now.wall.micros().saturating_sub(took_us / 2);
            peer.offset_us = Some(theirs.micros().cast_signed() - ours.cast_signed());
        }
    }

    /// Of the group, in which we count as one that agrees with us: how many clocks are within `most_us` of ours, and how
    /// many are known to be further off, each as whether that is a majority. A clock that is not known is neither.
    pub(super) fn clocks(&self, most_us: u64) -> (bool, bool) {
        let known = || self.live().filter_map(|peer| peer.offset_us);
        let off = known().filter(|off| off.unsigned_abs() > most_us).count();
        let near = known().count() - off + 1;
        let majority = |count: usize| 2 * count > self.live.len() + 1;
        (majority(near), majority(off))
    }

    /// Our clock was set: what we knew of others' says nothing any more.
    pub(super) fn forget_clocks(&mut self) {
        self.live.values_mut().for_each(|peer| peer.offset_us = None);
    }

    /// A round with a peer is complete: it has all that we had.
    pub(super) fn synced(&mut self, who: Incarnation, ours: u32) {
        if let Some(peer) = self.live.get_mut(&who) {
            peer.known = true;
            peer.failures = 0;
            peer.outbox.synced();
            peer.marks = Some((peer.summary.vector, ours));
        }
    }

    /// A round with a peer failed.
    pub(super) fn failed(&mut self, who: Incarnation, mono_us: u64) {
        if let Some(peer) = self.live.get_mut(&who) {
            peer.not_before_us = mono_us + (PAUSE_US << peer.failures.min(4));
            peer.failures += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: u64 = 1_000;

    fn summary(who: u64, node: u64, state: State) -> Summary {
        Summary {
            incarnation: Incarnation(who),
            node,
            region: node % 2,
            state,
            genesis: None,
            root: Digest { sum: u128::from(who), count: 1 },
            horizon: Stamp::ZERO,
            vector: 0,
        }
    }

    fn ready(who: u64) -> Summary {
        summary(who, who, State::Ready)
    }

    fn see(peers: &mut Peers, at: u64, live: &[Summary]) {
        peers.see(&Log::default(), at, live);
    }

    #[test]
    fn who_is_missing_holds_the_horizon_until_it_is_back_for_a_while() {
        let mut peers = Peers::default();
        see(&mut peers, 0, &[ready(1), ready(2)]);
        assert!(!peers.nobody_missing(9, DAY, 10), "both are new");
        assert!(peers.nobody_missing(10, DAY, 10));
        see(&mut peers, 20, &[ready(1)]);
        assert!(!peers.nobody_missing(40, DAY, 10), "2 is silent");
        see(&mut peers, 50, &[ready(1), ready(2)]);
        assert!(!peers.nobody_missing(59, DAY, 10), "and has to sync first");
        assert!(peers.nobody_missing(60, DAY, 10));
        see(&mut peers, 70, &[ready(1)]);
        assert!(peers.nobody_missing(50 + DAY, DAY, 10), "not for ever");
    }

    #[test]
    fn who_left_or_was_followed_does_not_hold_it_and_who_joins_does() {
        let mut peers = Peers::default();
        see(&mut peers, 0, &[ready(1), summary(2, 2, State::Leaving)]);
        see(&mut peers, 5, &[ready(1)]);
        assert!(peers.nobody_missing(10, DAY, 10), "2 left");
        (20..40).for_each(|at| see(&mut peers, at, &[summary(11, 1, State::Joining)]));
        assert!(!peers.nobody_missing(40, DAY, 10), "11 follows 1, and joins");
        see(&mut peers, 50, &[summary(11, 1, State::Ready)]);
        assert!(peers.nobody_missing(60, DAY, 10));
        assert!(peers.remembers(Incarnation(11)) && !peers.remembers(Incarnation(1)));
    }

    #[test]
    fn dirty_and_new_ones_first_then_one_in_four_from_abroad() {
        let mut peers = Peers::default();
        let ours = summary(100, 100, State::Ready);
        see(&mut peers, 0, &[ready(2), ready(3), ready(4)]);
        for who in [2, 4] {
            peers.synced(Incarnation(who), 0);
        }
        assert_eq!(peers.next(0, 5, &ours), Some((Incarnation(3), Errand::Round)), "never synced with");
        peers.synced(Incarnation(3), 0);
        peers.get_mut(Incarnation(4)).unwrap().outbox.failed(0);
        assert_eq!(peers.next(0, 5, &ours), Some((Incarnation(4), Errand::Round)), "dirty");
        peers.synced(Incarnation(4), 0);
        let abroad = (0..40).filter(|i| peers.next(0, *i, &ours).is_some_and(|(who, _)| who.0 == 3)).count();
        assert!((10..30).contains(&abroad), "{abroad} of 40: each fourth, and some by chance");
        peers.failed(Incarnation(3), 0);
        assert!((0..40).all(|i| peers.next(0, i, &ours).is_none_or(|(who, _)| who.0 != 3)), "it has a pause");
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
        assert_eq!(peers.clocks(10), (false, false), "nothing is known");
        show(&mut peers, 1, 0);
        assert_eq!(peers.live().next().unwrap().offset_us(), Some(0), "half of the round trip is taken off");
        show(&mut peers, 2, 5);
        assert_eq!(peers.clocks(10), (true, false));
        for who in [1, 2, 3] {
            show(&mut peers, who, 5_000);
        }
        assert_eq!(peers.clocks(10), (false, true));
        peers.forget_clocks();
        assert_eq!(peers.clocks(10), (false, false));
        peers.clock(Incarnation(1), now(0).wall, now(0), now(2_000), 1_000);
        assert_eq!(peers.live().next().unwrap().offset_us(), None, "it took too long to tell");
    }
}
