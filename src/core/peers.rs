//! Peers: who is there, whom to ask next, and who still holds the horizon.

use std::collections::{BTreeMap, btree_map::Entry};

use super::genesis::GenesisMark;
use super::mutants::{Mutant, Mutants};
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
    /// Hash of the configured node id, or of the address: the same for all processes of a node.
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
    /// When it was last asked for no other reason than its clock.
    clock_asked_us: Option<u64>,
    /// The marks (theirs, ours) when vectors were last exchanged: once is enough, even if they stay different.
    marks: Option<(u32, u32)>,
}

/// Somebody who was there, and may come back with what it held.
#[derive(Clone, Debug)]
struct Member {
    node: u64,
    first_us: u64,
    /// Live without a break, and past its joining, since then.
    since_us: u64,
    seen_us: u64,
    left: bool,
    /// How far it had our writes when it went.
    outbox: Option<Outbox>,
}

/// A process may count as live for this long after its successor has come, µs: until gossip has given it up.
const OVERLAP_US: u64 = 60_000_000;

impl Peer {
    /// Whether it may lack writes of ours that will not be pushed to it: a sync has to find them.
    #[must_use]
    pub fn is_dirty(&self) -> bool {
        self.outbox.is_dirty()
    }

    /// How many of our writes it has yet to acknowledge, as far as push goes.
    #[must_use]
    pub fn lag(&self, log: &Log) -> u64 {
        self.outbox.lag(log)
    }

    /// How often in a row rounds and snapshots with it failed.
    #[must_use]
    pub fn failures(&self) -> u32 {
        self.failures
    }

    /// Whether it has failed so short a while ago that it is not asked yet.
    pub(super) fn rests(&self, mono_us: u64) -> bool {
        mono_us < self.not_before_us
    }

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

/// How many clocks of a group agree with ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Clocks {
    /// Close to ours, which counts.
    near: usize,
    /// Known to be further off.
    off: usize,
    /// Who is live, with ourselves.
    live: usize,
    /// Who is live or away, with ourselves.
    group: usize,
}

impl Clocks {
    /// Whether a majority of those who are live agrees.
    pub(super) fn agree(self) -> bool {
        2 * self.near > self.live
    }

    /// Whether anybody but us agrees.
    pub(super) fn agree_beside_us(self) -> bool {
        self.near > 1
    }

    /// Whether a majority of those who are live is known to disagree.
    pub(super) fn disagree(self) -> bool {
        2 * self.off > self.live
    }

    /// Whether a majority agrees of the whole group, also of who is away, and of at least `others` nodes beside us: a node
    /// that hears nobody must not take its own clock for everybody's.
    pub(super) fn group_agrees(self, others: usize) -> bool {
        2 * self.near > self.group.max(others + 1)
    }
}

/// What to do with a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Errand {
    /// The sets differ.
    Round,
    /// The sets are equal and the vectors differ.
    Vectors,
}

/// A clock that an answer came too late to tell is asked for again after this, µs.
const CLOCK_PAUSE_US: u64 = 60_000_000;

/// Pause after a failed round with a peer, doubled by each further one, µs.
const PAUSE_US: u64 = 500_000;

impl Peers {
    /// Takes in who is live now, all at once and without ourselves. Who is gone is remembered for `memory_us`.
    pub(super) fn see(&mut self, log: &Log, mono_us: u64, live: &[Summary], memory_us: u64) {
        let mut before = std::mem::take(&mut self.live);
        for summary in live {
            let was_live = before.remove(&summary.incarnation);
            let member = match self.members.entry(summary.incarnation) {
                Entry::Occupied(entry) => entry.into_mut(),
                Entry::Vacant(entry) => entry.insert(Member {
                    node: summary.node,
                    first_us: mono_us,
                    since_us: mono_us,
                    seen_us: mono_us,
                    left: false,
                    outbox: None,
                }),
            };
            if summary.state == State::Joining || was_live.is_none() {
                member.since_us = mono_us;
            }
            // a node that was given no id goes by its address, which can change
            (member.node, member.seen_us, member.left) =
                (summary.node, mono_us, summary.state == State::Leaving);
            let mut peer = was_live.unwrap_or_else(|| Peer {
                summary: *summary,
                outbox: member.outbox.take().map_or_else(|| Outbox::new(log), Outbox::resumed),
                known: false,
                failures: 0,
                not_before_us: 0,
                offset_us: None,
                clock_asked_us: None,
                marks: None,
            });
            peer.summary = *summary;
            self.live.insert(summary.incarnation, peer);
        }
        for (who, peer) in before {
            if let Some(member) = self.members.get_mut(&who) {
                member.outbox = Some(peer.outbox);
            }
        }
        self.forget_members(mono_us, memory_us);
    }

    /// Forgets who was followed at once, so that a process that starts again and again fills nothing, and who is gone for
    /// long.
    fn forget_members(&mut self, mono_us: u64, memory_us: u64) {
        // the latest process of each node that is live
        let mut here: BTreeMap<u64, u64> = BTreeMap::new();
        for who in self.live.keys() {
            if let Some(member) = self.members.get(who) {
                let latest = here.entry(member.node).or_default();
                *latest = member.first_us.max(*latest);
            }
        }
        let live = &self.live;
        self.members.retain(|who, member| {
            // two processes beside each other for long are two nodes of one name, and neither follows the other
            let followed = here.get(&member.node).is_some_and(|latest| latest + OVERLAP_US >= member.seen_us);
            live.contains_key(who) || !followed && !member.left && member.seen_us + memory_us > mono_us
        });
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

    /// How many members are away: they neither left nor were followed.
    #[must_use]
    pub fn away(&self) -> usize {
        self.members.len() - self.live.len()
    }

    /// A live peer.
    #[must_use]
    pub fn get(&self, incarnation: Incarnation) -> Option<&Peer> {
        self.live.get(&incarnation)
    }

    pub(super) fn is_live(&self, incarnation: Incarnation) -> bool {
        self.live.contains_key(&incarnation)
    }

    pub(super) fn get_mut(&mut self, incarnation: Incarnation) -> Option<&mut Peer> {
        self.live.get_mut(&incarnation)
    }

    /// Whether nobody holds the horizon: each member is live, past its joining, and has been so without a break for
    /// `settle_us`, or leaves. Who is merely silent may come back with values whose tombstones must still be there to meet
    /// them, and who is just back, or takes a set over bit by bit, has not met them yet. Who left, or was followed by a newer
    /// process of the same node, which began empty, is no member any more.
    pub(super) fn nobody_missing(&self, mono_us: u64, settle_us: u64) -> bool {
        self.members.iter().all(|(who, member)| {
            member.left || self.live.contains_key(who) && member.since_us + settle_us <= mono_us
        })
    }

    /// With whom to sync next, and how. `ours` is what we gossip.
    ///
    /// Dirty and new peers come first, one in four from another region; who is equal to us is not asked (rule 1), but
    /// for its vector and its clock, once each: a majority has to agree with ours, in a quiet group too.
    pub(super) fn next(
        &mut self,
        mono_us: u64,
        entropy: u64,
        ours: &Summary,
        mutants: Mutants,
    ) -> Option<(Incarnation, Errand)> {
        self.turn += 1;
        let abroad = self.turn.is_multiple_of(4);
        let mut best: Option<(u32, usize)> = None;
        let mut all: Vec<(u32, Incarnation, Errand)> = Vec::new();
        for (who, peer) in &mut self.live {
            let same = peer.summary.same_set(ours) && !mutants.has(Mutant::EqualSetsTalk);
            if same {
                peer.outbox.synced();
            }
            // a joining peer takes a snapshot by itself; what it was pushed meanwhile may be news here
            let useful = match peer.summary.state {
                // who leaves may hold what nobody else has
                State::Ready | State::Leaving => true,
                State::Joining => !much_larger(ours.root.count, peer.summary.root.count),
            };
            if !useful || peer.rests(mono_us) {
                continue;
            }
            let marks = (peer.summary.vector, ours.vector);
            let ask_clock = peer.offset_us.is_none()
                && peer.clock_asked_us.is_none_or(|asked_us| asked_us + CLOCK_PAUSE_US <= mono_us);
            let (rank, errand) = match same {
                true if ask_clock => (0, Errand::Vectors),
                true if marks.0 == marks.1 || peer.marks == Some(marks) => continue,
                true => (0, Errand::Vectors),
                // who failed last time has no right of way: else those who always fail would leave no turn to others
                false if peer.failures == 0 && (peer.outbox.is_dirty() || !peer.known) => (3, Errand::Round),
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
        if let Some(peer) = self.live.get_mut(&who).filter(|_| errand == Errand::Vectors) {
            peer.clock_asked_us = Some(mono_us);
        }
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

    /// How clocks agree with ours: within `most_us` of it, or known to be further off. A clock that is not known is
    /// neither. We count as one that agrees with us.
    pub(super) fn clocks(&self, most_us: u64) -> Clocks {
        let known = || self.live().filter_map(|peer| peer.offset_us);
        let off = known().filter(|off| off.unsigned_abs() > most_us).count();
        let near = known().count() - off + 1;
        Clocks { near, off, live: self.live.len() + 1, group: self.members.len() + 1 }
    }

    /// How far the group's clock is ahead of ours, as far as known: the lower median of all offsets, our own 0 among them.
    /// As long as most clocks are right so is this one.
    pub(super) fn median_offset_us(&self) -> i64 {
        let mut offsets: Vec<i64> = self.live().filter_map(|peer| peer.offset_us).chain([0]).collect();
        let middle = (offsets.len() - 1) / 2;
        *offsets.select_nth_unstable(middle).1
    }

    /// Our clock was set: what we knew of others' says nothing any more.
    pub(super) fn forget_clocks(&mut self) {
        self.live.values_mut().for_each(|peer| (peer.offset_us, peer.clock_asked_us) = (None, None));
    }

    /// We are about to stop: what waits to be pushed again goes out at once.
    pub(super) fn hurry(&mut self) {
        self.live.values_mut().for_each(|peer| peer.outbox.hurry());
    }

    /// Whether somebody else than `who` may lack writes of ours that will not be pushed.
    pub(super) fn others_are_dirty(&self, who: Incarnation) -> bool {
        self.live.iter().any(|(other, peer)| *other != who && peer.is_dirty())
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
        peers.see(&Log::default(), at, live, DAY);
    }

    #[test]
    fn who_is_missing_holds_the_horizon_until_it_is_back_for_a_while() {
        let mut peers = Peers::default();
        see(&mut peers, 0, &[ready(1), ready(2)]);
        assert!(!peers.nobody_missing(9, 10), "both are new");
        assert!(peers.nobody_missing(10, 10));
        see(&mut peers, 20, &[ready(1)]);
        assert!(!peers.nobody_missing(40, 10), "2 is silent");
        see(&mut peers, 50, &[ready(1), ready(2)]);
        assert!(!peers.nobody_missing(59, 10), "and has to sync first");
        assert!(peers.nobody_missing(60, 10));
        see(&mut peers, 60 + DAY, &[ready(1)]);
        assert!(peers.nobody_missing(60 + DAY, 10), "not for ever");
    }

    #[test]
    /// A peer has to do something else first.
    pub(super) fn rest(&mut self, who: Incarnation, mono_us: u64) {
        if let Some(peer) = self.live.get_mut(&who) {
            peer.not_before_us = mono_us + PAUSE_US;
        }
    }

    fn who_left_or_was_followed_does_not_hold_it_and_who_joins_does() {
        let mut peers = Peers::default();
        see(&mut peers, 0, &[ready(1), summary(2, 2, State::Leaving)]);
        see(&mut peers, 5, &[ready(1)]);
        assert!(peers.nobody_missing(10, 10), "2 left");
        (20..40).for_each(|at| see(&mut peers, at, &[summary(11, 1, State::Joining)]));
        assert!(!peers.nobody_missing(40, 10), "11 follows 1, and joins");
        see(&mut peers, 50, &[summary(11, 1, State::Ready)]);
        assert!(peers.nobody_missing(60, 10));
        assert!(peers.remembers(Incarnation(11)) && !peers.remembers(Incarnation(1)));
    }

    #[test]
    fn two_live_nodes_of_one_name_do_not_follow_each_other() {
        let mut peers = Peers::default();
        let see =
            |peers: &mut Peers, at, live: &[Summary]| peers.see(&Log::default(), at, live, 10 * OVERLAP_US);
        see(&mut peers, 0, &[summary(1, 7, State::Ready), summary(2, 7, State::Ready)]);
        see(&mut peers, 2 * OVERLAP_US, &[summary(1, 7, State::Ready), summary(2, 7, State::Ready)]);
        see(&mut peers, 3 * OVERLAP_US, &[summary(1, 7, State::Ready)]);
        assert!(!peers.nobody_missing(4 * OVERLAP_US, 0), "2 is silent, and was beside 1 for long");
        see(&mut peers, 3 * OVERLAP_US, &[summary(1, 7, State::Ready), summary(3, 7, State::Ready)]);
        assert!(peers.nobody_missing(4 * OVERLAP_US, 0), "3 has just come, in its place");
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
        let ours = summary(100, 100, State::Ready);
        see(&mut peers, 0, &[ready(2), ready(3), ready(4)]);
        for who in [2, 4] {
            peers.synced(Incarnation(who), 0);
        }
        assert_eq!(
            peers.next(0, 5, &ours, Mutants::NONE),
            Some((Incarnation(3), Errand::Round)),
            "never synced with"
        );
        peers.synced(Incarnation(3), 0);
        let dirty = &mut peers.get_mut(Incarnation(4)).unwrap().outbox;
        *dirty = std::mem::take(dirty).resumed();
        assert_eq!(peers.next(0, 5, &ours, Mutants::NONE), Some((Incarnation(4), Errand::Round)), "dirty");
        peers.synced(Incarnation(4), 0);
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
}
