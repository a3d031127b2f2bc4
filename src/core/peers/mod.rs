//! Peers: the live peers, the choice of the next one to sync with, and the members that still hold the horizon.
//!
//! - `summary`: the state of a node and of its set, as the node gossips them.
//! - `peer`: a live peer, and its rank among the peers to sync with.
//! - `members`: all members, also those that are away, and the anti-entropy passes over them.
//! - `clocks`: how many clocks of peers agree with ours.

mod clocks;
mod members;
mod peer;
mod summary;
#[cfg(test)]
mod tests;

pub(super) use clocks::Clocks;
pub use peer::{Peer, SyncTask};
pub use summary::{NodeState, Summary};

use super::mutants::Mutants;
use super::protocol::{ProtocolRange, ProtocolVersion};
use super::push::{Outbox, WriteLog};
use super::record::Incarnation;
use super::stamp::{Now, Stamp};
use members::Members;
use peer::{LivePeers, Turn};

/// All peers of a node, and the members that are away.
#[derive(Debug, Default)]
pub struct Peers {
    /// The versions of the protocol that this node speaks.
    spoken: ProtocolRange,
    live: LivePeers,
    members: Members,
    turn: u64,
}

impl Peers {
    /// No peers, of a node that speaks these versions of the protocol.
    #[must_use]
    pub(super) fn speaking(spoken: ProtocolRange) -> Self {
        Self { spoken, ..Self::default() }
    }

    /// Sets the live peers: all of them, without this node. A peer that is gone stays a member for `memory_us`.
    pub(super) fn see(&mut self, log: &WriteLog, mono_us: u64, live: &[Summary], memory_us: u64) {
        let mut before = std::mem::take(&mut self.live);
        for summary in live {
            let was_live = before.remove(&summary.incarnation);
            let outbox = self.members.see(mono_us, summary, was_live.is_some());
            // the versions that a process speaks never change
            let version = self.spoken.highest_common(summary.protocol);
            let new =
                || Peer::new(*summary, version, outbox.map_or_else(|| Outbox::new(log), Outbox::resumed));
            let mut peer = was_live.unwrap_or_else(new);
            peer.summary = *summary;
            self.live.insert(summary.incarnation, peer);
        }
        for (process, peer) in before {
            self.members.went(process, peer.outbox);
        }
        self.members.forget(mono_us, &self.live, memory_us);
    }

    /// The live peers.
    pub fn live(&self) -> impl Iterator<Item = &Peer> {
        self.live.values()
    }

    /// The live peers that this node can send requests to: those with a common version of the protocol.
    pub fn compatible(&self) -> impl Iterator<Item = &Peer> {
        self.live().filter(|peer| peer.version().is_some())
    }

    /// The highest version of the protocol that every live member speaks, this node included; `None` if there is none.
    /// A feature that needs a later version cannot be used yet.
    #[must_use]
    pub fn common_version(&self) -> Option<ProtocolVersion> {
        self.spoken.highest_of_all(self.live().map(|peer| peer.summary.protocol))
    }

    /// Whether a process is a member: live or away.
    #[must_use]
    pub fn remembers(&self, incarnation: Incarnation) -> bool {
        self.members.contains(incarnation)
    }

    /// The number of members that are away: they neither left nor were followed.
    #[must_use]
    pub fn away(&self) -> usize {
        self.members.len() - self.live.len()
    }

    /// The live peer of a process.
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

    /// Records which peers have a set equal to ours, and begins the next anti-entropy pass if the current one is
    /// complete. `ours` is our own summary.
    pub(super) fn update_pass(&mut self, mono_us: u64, ours: &Summary) {
        self.live
            .values_mut()
            .filter(|peer| peer.summary.same_set(ours))
            .for_each(|peer| peer.set_in_sync(mono_us));
        self.members.update_pass(mono_us, &self.live);
    }

    /// When the last complete anti-entropy pass began, µs of the node's monotonic clock; `None` before the first.
    #[must_use]
    pub fn last_pass_began_us(&self) -> Option<u64> {
        self.members.last_pass_began_us()
    }

    /// Whether no member holds the horizon. Each member is leaving, or it has been live and past its joining without a
    /// break for `settle_us` and was in sync since it came; and all members hold what any member held `spread_us` ago.
    ///
    /// A silent member may come back with old values: their tombstones must still be there. A member that has just come
    /// back, that is still taking a set over, or that is known by gossip alone has not seen the tombstones yet, however
    /// long it has been live. A process that left, or that was followed by a newer process of its node, is no member
    /// any more: the newer one began without records.
    pub(super) fn none_missing(
        &self,
        mono_us: u64,
        settle_us: u64,
        spread_us: u64,
        mutants: Mutants,
    ) -> bool {
        self.members.none_missing(mono_us, &self.live, settle_us, spread_us, mutants)
    }

    /// The next peer to sync with, and the task; `None` if there is no task now. `ours` is our own summary.
    ///
    /// Peers that need repair and new peers come first. Each fourth turn prefers a peer of another region. Among equals
    /// come first the peers that were not in sync in this anti-entropy pass. If the sets are equal, there is no round
    /// (rule 1): the node only asks for the vector and the clock, once each, because also in a quiet cluster a majority
    /// of clocks has to agree with ours. See [`Peer::rank`].
    pub(super) fn next(
        &mut self,
        mono_us: u64,
        entropy: u64,
        ours: &Summary,
        mutants: Mutants,
    ) -> Option<(Incarnation, SyncTask)> {
        self.turn += 1;
        let (abroad, pass_since_us) = (self.turn.is_multiple_of(4), self.members.pass_since_us());
        let turn = Turn { mono_us, ours, abroad, pass_since_us, mutants };
        self.live.values_mut().filter(|peer| peer.is_same(&turn)).for_each(|peer| peer.outbox.synced());
        let ranked = self.live.iter().filter_map(|(process, peer)| Some((*process, peer.rank(&turn)?)));
        let ranked: Vec<(Incarnation, (u32, SyncTask))> = ranked.collect();
        let top = ranked.iter().map(|(_, (rank, _))| *rank).max()?;
        let best: Vec<_> = ranked.into_iter().filter(|(_, (rank, _))| *rank == top).collect();
        let (process, (_, task)) = best[(entropy % best.len() as u64) as usize];
        if let Some(peer) = self.live.get_mut(&process).filter(|_| task == SyncTask::Vectors) {
            peer.clock.asked(mono_us);
        }
        Some((process, task))
    }

    /// Records the clock that a peer showed in an answer to a request. The request was sent at `sent`, the answer came
    /// at `now`. An answer that took longer than `within_us` is ignored.
    pub(super) fn clock(&mut self, process: Incarnation, theirs: Stamp, sent: Now, now: Now, within_us: u64) {
        if let Some(peer) = self.live.get_mut(&process) {
            peer.clock.heard(theirs, sent, now, within_us);
        }
    }

    /// The number of clocks that are within `most_us` of ours, and of those that are known to be further off.
    pub(super) fn clocks(&self, most_us: u64) -> Clocks {
        let known = self.live().filter_map(Peer::offset_us);
        Clocks::count(known, most_us, self.live.len(), self.members.len())
    }

    /// How far the clock of the cluster is ahead of ours, µs, by the clocks that are known.
    pub(super) fn median_offset_us(&self) -> i64 {
        clocks::median_us(self.live().filter_map(Peer::offset_us))
    }

    /// Forgets the clocks of peers, which are known relative to ours: our clock was set.
    pub(super) fn forget_clocks(&mut self) {
        self.live.values_mut().for_each(|peer| peer.clock = clocks::PeerClock::default());
    }

    /// Ends the pauses before pushes, since this node is about to stop.
    pub(super) fn hurry(&mut self) {
        self.live.values_mut().for_each(|peer| peer.outbox.hurry());
    }

    /// Whether any peer other than `process` needs repair.
    pub(super) fn others_need_repair(&self, process: Incarnation) -> bool {
        self.live
            .iter()
            .any(|(other, peer)| *other != process && peer.version().is_some() && peer.needs_repair())
    }

    /// Records that a round with a peer which began at `began_us` is complete; `ours` is the mark of our vector.
    pub(super) fn synced(&mut self, process: Incarnation, ours: u32, began_us: u64) {
        if let Some(peer) = self.live.get_mut(&process) {
            peer.synced(ours, began_us);
        }
    }

    /// Records that a peer is busy.
    pub(super) fn rest(&mut self, process: Incarnation, mono_us: u64) {
        if let Some(peer) = self.live.get_mut(&process) {
            peer.rest(mono_us);
        }
    }

    /// Records that a round with a peer failed.
    pub(super) fn failed(&mut self, process: Incarnation, mono_us: u64) {
        if let Some(peer) = self.live.get_mut(&process) {
            peer.failed(mono_us);
        }
    }
}
