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
    /// When the last exchange after which each held what the other did began, µs of the node's monotonic clock: a round
    /// that was complete, or the sight of a set that is the same as ours. `None` if there was none since it came.
    met_us: Option<u64>,
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
    sweeps: Sweeps,
}

/// How far it is sure that everybody holds the same. A sweep is complete when each member was met since it began. What
/// anybody held at its beginning is ours then, and everybody's at the end of the next one.
#[derive(Debug, Default)]
struct Sweeps {
    /// When the one under way began, µs of the node's monotonic clock.
    since_us: u64,
    /// When the last complete one began.
    ours_us: Option<u64>,
    /// What anybody held then, everybody holds.
    all_us: Option<u64>,
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

/// Before all others.
const RIGHT_OF_WAY: u32 = 5;

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
                met_us: None,
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

    /// Notices whose set is the same as ours, and when a sweep is complete. `ours` is what we gossip.
    pub(super) fn sweep(&mut self, mono_us: u64, ours: &Summary) {
        for peer in self.live.values_mut().filter(|peer| peer.summary.same_set(ours)) {
            peer.met_us = Some(mono_us);
        }
        let since_us = self.sweeps.since_us;
        let met = |who| self.live.get(who).and_then(|peer| peer.met_us).is_some_and(|at| at >= since_us);
        if self.members.iter().all(|(who, member)| member.left || met(who)) {
            self.sweeps = Sweeps { since_us: mono_us, ours_us: Some(since_us), all_us: self.sweeps.ours_us };
        }
    }

    /// Whether nobody holds the horizon: each member is live, past its joining, has been so without a break for `settle_us`,
    /// and was met since it came, or leaves; and what anybody held `spread_us` ago, everybody holds. Who is merely silent may
    /// come back with values whose tombstones must still be there to meet them. Who is just back, or takes a set over bit by
    /// bit, or is heard of by gossip alone, has not met them yet, however long it is there. Who left, or was followed by a
    /// newer process of the same node, which began empty, is no member any more.
    pub(super) fn nobody_missing(
        &self,
        mono_us: u64,
        settle_us: u64,
        spread_us: u64,
        mutants: Mutants,
    ) -> bool {
        let any = mutants.has(Mutant::ReturnedHoldsNothing);
        let unmet = any || mutants.has(Mutant::UnmetHoldsNothing);
        let settle_us = if any { 0 } else { settle_us };
        let is_spread = self.sweeps.all_us.is_some_and(|at| at + spread_us >= mono_us)
            || unmet
            || mutants.has(Mutant::OnceMetIsEnough);
        let met = |peer: &Peer| peer.met_us.is_some() || unmet;
        is_spread
            && self.members.iter().all(|(who, member)| {
                member.left || self.live.get(who).is_some_and(met) && member.since_us + settle_us <= mono_us
            })
    }

    /// With whom to sync next, and how. `ours` is what we gossip.
    ///
    /// Dirty and new peers come first, one in four from another region, and of those alike who was not met in the sweep under
    /// way; who is equal to us is not asked (rule 1), but for its vector and its clock, once each: a majority has to agree with
    /// ours, in a quiet group too.
    pub(super) fn next(
        &mut self,
        mono_us: u64,
        entropy: u64,
        ours: &Summary,
        mutants: Mutants,
    ) -> Option<(Incarnation, Errand)> {
        self.turn += 1;
        let abroad = self.turn.is_multiple_of(4);
        let since_us = self.sweeps.since_us;
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
                false if peer.failures == 0 && (peer.outbox.is_dirty() || peer.met_us.is_none()) => {
                    (RIGHT_OF_WAY, Errand::Round)
                }
                false => {
                    let far = abroad && peer.summary.region != ours.region;
                    let due = peer.failures == 0 && peer.met_us < Some(since_us);
                    (1 + 2 * u32::from(far) + u32::from(due), Errand::Round)
                }
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

    /// How far the group's clock is ahead of ours, as far as known: the median of all offsets, our own 0 among them, and of
    /// two in the middle the later one. So it takes a majority to say that something is not in the past yet: half of the
    /// clocks being behind, or the only other one that is known, must not keep a node apart.
    pub(super) fn median_offset_us(&self) -> i64 {
        let mut offsets: Vec<i64> = self.live().filter_map(|peer| peer.offset_us).chain([0]).collect();
        let middle = offsets.len() / 2;
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

    /// A round with a peer that began at `met_us` is complete: each has all that the other had.
    pub(super) fn synced(&mut self, who: Incarnation, ours: u32, met_us: u64) {
        if let Some(peer) = self.live.get_mut(&who) {
            peer.met_us = peer.met_us.max(Some(met_us));
            peer.failures = 0;
            peer.outbox.synced();
            peer.marks = Some((peer.summary.vector, ours));
        }
    }

    /// A peer has to do something else first.
    pub(super) fn rest(&mut self, who: Incarnation, mono_us: u64) {
        if let Some(peer) = self.live.get_mut(&who) {
            peer.not_before_us = mono_us + PAUSE_US;
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

    fn meet(peers: &mut Peers, at: u64, who: &[u64]) {
        who.iter().for_each(|who| peers.synced(Incarnation(*who), 0, at));
    }

    /// As far as members go, and not sweeps.
    fn nobody_missing(peers: &mut Peers, at: u64) -> bool {
        peers.sweeps.all_us = Some(at);
        peers.nobody_missing(at, 10, 0, Mutants::NONE)
    }

    #[test]
    fn what_anybody_held_is_everybodys_after_two_sweeps() {
        let mut peers = Peers::default();
        let ours = summary(100, 100, State::Ready);
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
        see(&mut peers, 0, &[ready(1), summary(2, 2, State::Leaving)]);
        meet(&mut peers, 0, &[1]);
        see(&mut peers, 5, &[ready(1)]);
        assert!(nobody_missing(&mut peers, 10), "2 left");
        (20..40).for_each(|at| see(&mut peers, at, &[summary(11, 1, State::Joining)]));
        meet(&mut peers, 40, &[11]);
        assert!(!nobody_missing(&mut peers, 40), "11 follows 1, and joins");
        see(&mut peers, 50, &[summary(11, 1, State::Ready)]);
        assert!(nobody_missing(&mut peers, 60));
        assert!(peers.remembers(Incarnation(11)) && !peers.remembers(Incarnation(1)));
    }

    #[test]
    fn two_live_nodes_of_one_name_do_not_follow_each_other() {
        let mut peers = Peers::default();
        let see =
            |peers: &mut Peers, at, live: &[Summary]| peers.see(&Log::default(), at, live, 10 * OVERLAP_US);
        see(&mut peers, 0, &[summary(1, 7, State::Ready), summary(2, 7, State::Ready)]);
        see(&mut peers, 2 * OVERLAP_US, &[summary(1, 7, State::Ready), summary(2, 7, State::Ready)]);
        meet(&mut peers, 0, &[1, 2]);
        see(&mut peers, 3 * OVERLAP_US, &[summary(1, 7, State::Ready)]);
        assert!(!nobody_missing(&mut peers, 4 * OVERLAP_US), "2 is silent, and was beside 1 for long");
        see(&mut peers, 3 * OVERLAP_US, &[summary(1, 7, State::Ready), summary(3, 7, State::Ready)]);
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
        let ours = summary(100, 100, State::Ready);
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
}
