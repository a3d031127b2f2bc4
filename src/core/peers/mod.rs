//! Peers: which are live, with which one to sync next, and which members still hold the horizon.
//!
//! - `summary`: what each node gossips of itself.
//! - `peer`: a live peer, and its rank when one is chosen to sync with.
//! - `members`: also those that are away, and the anti-entropy sweeps over all of them.
//! - `clocks`: how the clocks of peers agree with ours.

mod clocks;
mod members;
mod peer;
mod summary;
#[cfg(test)]
mod tests;

pub(super) use clocks::Clocks;
pub use peer::{Errand, Peer};
pub use summary::{NodeState, Summary};

use super::mutants::Mutants;
use super::protocol::{ProtocolRange, ProtocolVersion};
use super::push::{Log, Outbox};
use super::record::Incarnation;
use super::stamp::{Now, Stamp};
use members::Members;
use peer::{LivePeers, Turn};

/// All peers of a node, and who was there before.
#[derive(Debug, Default)]
pub struct Peers {
    /// The versions of the protocol that we speak.
    spoken: ProtocolRange,
    live: LivePeers,
    members: Members,
    turn: u64,
}

impl Peers {
    /// None yet, of a node that speaks these versions of the protocol.
    #[must_use]
    pub(super) fn speaking(spoken: ProtocolRange) -> Self {
        Self { spoken, ..Self::default() }
    }

    /// Takes in which peers are live now, all at once and without ourselves. One that is gone is remembered for
    /// `memory_us`.
    pub(super) fn see(&mut self, log: &Log, mono_us: u64, live: &[Summary], memory_us: u64) {
        let mut before = std::mem::take(&mut self.live);
        for summary in live {
            let was_live = before.remove(&summary.incarnation);
            let outbox = self.members.see(mono_us, summary, was_live.is_some());
            // a process never changes what it speaks
            let version = self.spoken.highest_common(summary.protocol);
            let new =
                || Peer::new(*summary, version, outbox.map_or_else(|| Outbox::new(log), Outbox::resumed));
            let mut peer = was_live.unwrap_or_else(new);
            peer.summary = *summary;
            self.live.insert(summary.incarnation, peer);
        }
        for (who, peer) in before {
            self.members.went(who, peer.outbox);
        }
        self.members.forget(mono_us, &self.live, memory_us);
    }

    /// The live peers.
    pub fn live(&self) -> impl Iterator<Item = &Peer> {
        self.live.values()
    }

    /// The live peers that can be asked: those with a common version of the protocol.
    pub fn asked(&self) -> impl Iterator<Item = &Peer> {
        self.live().filter(|peer| peer.version().is_some())
    }

    /// The highest version of the protocol that every live member speaks, this node included; `None` if there is none.
    /// What needs a later version cannot be used yet.
    #[must_use]
    pub fn common_version(&self) -> Option<ProtocolVersion> {
        self.spoken.highest_of_all(self.live().map(|peer| peer.summary.protocol))
    }

    /// Whether a process is a member, or was one not long ago and no other followed it.
    #[must_use]
    pub fn remembers(&self, incarnation: Incarnation) -> bool {
        self.members.contains(incarnation)
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

    /// Notices which sets are the same as ours, and when a sweep is complete. `ours` is what we gossip.
    pub(super) fn sweep(&mut self, mono_us: u64, ours: &Summary) {
        self.live
            .values_mut()
            .filter(|peer| peer.summary.same_set(ours))
            .for_each(|peer| peer.is_met(mono_us));
        self.members.sweep(mono_us, &self.live);
    }

    /// Whether no member holds the horizon: each one is live, past its joining, has been so without a break for
    /// `settle_us`, and was met since it came, or leaves; and what any member held `spread_us` ago, all hold. A member
    /// that is merely silent may come back with values whose tombstones must still be there to meet them. One that is
    /// just back, or takes a set over bit by bit, or is heard of by gossip alone, has not met them yet, however long it
    /// is there. A process that left, or was followed by a newer one of the same node, which began empty, is no member
    /// any more.
    pub(super) fn nobody_missing(
        &self,
        mono_us: u64,
        settle_us: u64,
        spread_us: u64,
        mutants: Mutants,
    ) -> bool {
        self.members.nobody_missing(mono_us, &self.live, settle_us, spread_us, mutants)
    }

    /// With which peer to sync next, and how. `ours` is what we gossip.
    ///
    /// Dirty and new peers come first, one in four from another region, and of those alike one that was not met in the
    /// sweep under way; a peer that is equal to us is not asked (rule 1), except for its vector and its clock, once
    /// each: a majority has to agree with ours, in a quiet cluster too. See [`Peer::rank`].
    pub(super) fn next(
        &mut self,
        mono_us: u64,
        entropy: u64,
        ours: &Summary,
        mutants: Mutants,
    ) -> Option<(Incarnation, Errand)> {
        self.turn += 1;
        let (abroad, sweep_since_us) = (self.turn.is_multiple_of(4), self.members.sweep_since_us());
        let turn = Turn { mono_us, ours, abroad, sweep_since_us, mutants };
        self.live.values_mut().filter(|peer| peer.is_same(&turn)).for_each(|peer| peer.outbox.synced());
        let ranked = self.live.iter().filter_map(|(who, peer)| Some((*who, peer.rank(&turn)?)));
        let ranked: Vec<(Incarnation, (u32, Errand))> = ranked.collect();
        let top = ranked.iter().map(|(_, (rank, _))| *rank).max()?;
        let best: Vec<_> = ranked.into_iter().filter(|(_, (rank, _))| *rank == top).collect();
        let (who, (_, errand)) = best[(entropy % best.len() as u64) as usize];
        if let Some(peer) = self.live.get_mut(&who).filter(|_| errand == Errand::Vectors) {
            peer.clock.asked(mono_us);
        }
        Some((who, errand))
    }

    /// A peer showed its clock in an answer to what was sent at `sent` and came back at `now`. An answer that took
    /// longer than `within_us` says nothing.
    pub(super) fn clock(&mut self, who: Incarnation, theirs: Stamp, sent: Now, now: Now, within_us: u64) {
        if let Some(peer) = self.live.get_mut(&who) {
            peer.clock.heard(theirs, sent, now, within_us);
        }
    }

    /// How clocks agree with ours: within `most_us` of it, or known to be further off.
    pub(super) fn clocks(&self, most_us: u64) -> Clocks {
        let known = self.live().filter_map(Peer::offset_us);
        Clocks::count(known, most_us, self.live.len(), self.members.len())
    }

    /// How far the cluster's clock is ahead of ours, µs, as far as known.
    pub(super) fn median_offset_us(&self) -> i64 {
        clocks::median_us(self.live().filter_map(Peer::offset_us))
    }

    /// Our clock was set: what we knew of others' says nothing any more.
    pub(super) fn forget_clocks(&mut self) {
        self.live.values_mut().for_each(|peer| peer.clock = clocks::PeerClock::default());
    }

    /// We are about to stop: what waits to be pushed again goes out at once.
    pub(super) fn hurry(&mut self) {
        self.live.values_mut().for_each(|peer| peer.outbox.hurry());
    }

    /// Whether another peer than `who` may lack writes of ours that will not be pushed.
    pub(super) fn others_are_dirty(&self, who: Incarnation) -> bool {
        self.live.iter().any(|(other, peer)| *other != who && peer.version().is_some() && peer.is_dirty())
    }

    /// A round with a peer that began at `met_us` is complete; `ours` is our vector's mark.
    pub(super) fn synced(&mut self, who: Incarnation, ours: u32, met_us: u64) {
        if let Some(peer) = self.live.get_mut(&who) {
            peer.synced(ours, met_us);
        }
    }

    /// A peer has to do something else first.
    pub(super) fn rest(&mut self, who: Incarnation, mono_us: u64) {
        if let Some(peer) = self.live.get_mut(&who) {
            peer.rest(mono_us);
        }
    }

    /// A round with a peer failed.
    pub(super) fn failed(&mut self, who: Incarnation, mono_us: u64) {
        if let Some(peer) = self.live.get_mut(&who) {
            peer.failed(mono_us);
        }
    }
}
