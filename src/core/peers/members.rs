//! Members: the processes that are live, and those that are away and may come back with the records that they held.
//!
//! A node forgets a delete only when no member can bring the deleted value back. So this module keeps which members are
//! away, which have just come, and how far the anti-entropy passes have got with all of them.

use std::collections::{BTreeMap, btree_map::Entry};

use super::peer::{LivePeers, Peer};
use super::summary::{NodeState, Summary};
use crate::core::mutants::{Mutant, Mutants};
use crate::core::push::Outbox;
use crate::core::record::Incarnation;

/// A process may count as live for this long after its successor has come, µs: until gossip declares it dead.
pub(super) const OVERLAP_US: u64 = 60_000_000;

/// A process that is live, or is away and may come back with the records that it held.
#[derive(Clone, Debug)]
struct Member {
    node: u64,
    first_us: u64,
    /// Live without a break and past its joining since then, µs of the node's monotonic clock.
    since_us: u64,
    seen_us: u64,
    left: bool,
    /// Which of our writes it had when it went.
    outbox: Option<Outbox>,
}

/// The anti-entropy passes over all members. A pass is complete when this node was in sync with each member since the
/// pass began. Then this node holds what any member held at the start of the pass; at the end of the next pass all
/// members hold it.
#[derive(Debug, Default)]
struct AntiEntropyPasses {
    /// When the current pass began, µs of the node's monotonic clock.
    since_us: u64,
    /// When the last complete pass began: this node holds what any member held then.
    ours_us: Option<u64>,
    /// All members hold what any member held then.
    all_us: Option<u64>,
}

/// All members of the cluster without this node, and the anti-entropy passes over them.
#[derive(Debug, Default)]
pub(super) struct Members {
    all: BTreeMap<Incarnation, Member>,
    passes: AntiEntropyPasses,
}

impl Members {
    /// The number of members.
    pub(super) fn len(&self) -> usize {
        self.all.len()
    }

    /// Whether a process is a member.
    pub(super) fn contains(&self, incarnation: Incarnation) -> bool {
        self.all.contains_key(&incarnation)
    }

    /// Records that a process is live; `was_live` is whether it was live before. If the process comes back, returns
    /// which of our writes it had when it went.
    pub(super) fn see(&mut self, mono_us: u64, summary: &Summary, was_live: bool) -> Option<Outbox> {
        let member = match self.all.entry(summary.incarnation) {
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
        if summary.state == NodeState::Joining || !was_live {
            member.since_us = mono_us;
        }
        // a node without a configured id is identified by its address, which can change
        (member.node, member.seen_us, member.left) =
            (summary.node, mono_us, summary.state == NodeState::Leaving);
        if was_live { None } else { member.outbox.take() }
    }

    /// Records that a process is no longer live; `outbox` says which of our writes it had.
    pub(super) fn went(&mut self, process: Incarnation, outbox: Outbox) {
        if let Some(member) = self.all.get_mut(&process) {
            member.outbox = Some(outbox);
        }
    }

    /// Forgets members that were followed, at once, so that a node which restarts again and again fills no memory; and
    /// members that have been away for `memory_us`.
    pub(super) fn forget(&mut self, mono_us: u64, live: &LivePeers, memory_us: u64) {
        // the latest process of each node that is live
        let mut here: BTreeMap<u64, u64> = BTreeMap::new();
        for process in live.keys() {
            if let Some(member) = self.all.get(process) {
                let latest = here.entry(member.node).or_default();
                *latest = member.first_us.max(*latest);
            }
        }
        self.all.retain(|process, member| {
            // two processes that are live together for long are two nodes with one id, and neither follows the other
            let followed = here.get(&member.node).is_some_and(|latest| latest + OVERLAP_US >= member.seen_us);
            live.contains_key(process) || !followed && !member.left && member.seen_us + memory_us > mono_us
        });
    }

    /// When the current pass began, µs of the node's monotonic clock.
    pub(super) fn pass_since_us(&self) -> u64 {
        self.passes.since_us
    }

    /// When the last complete pass began, µs of the node's monotonic clock: what any member held then is here.
    pub(super) fn last_pass_began_us(&self) -> Option<u64> {
        self.passes.ours_us
    }

    /// Begins the next pass if the current one is complete.
    pub(super) fn update_pass(&mut self, mono_us: u64, live: &LivePeers) {
        let since_us = self.passes.since_us;
        let in_sync =
            |process| live.get(process).and_then(Peer::last_in_sync_us).is_some_and(|at| at >= since_us);
        if self.all.iter().all(|(process, member)| member.left || in_sync(process)) {
            self.passes =
                AntiEntropyPasses { since_us: mono_us, ours_us: Some(since_us), all_us: self.passes.ours_us };
        }
    }

    /// Sets that all members hold what any of them held at `at_us`.
    #[cfg(test)]
    pub(super) fn all_hold_since(&mut self, at_us: u64) {
        self.passes.all_us = Some(at_us);
    }

    /// See [`super::Peers::none_missing`].
    pub(super) fn none_missing(
        &self,
        mono_us: u64,
        live: &LivePeers,
        settle_us: u64,
        spread_us: u64,
        mutants: Mutants,
    ) -> bool {
        let any = mutants.has(Mutant::ReturnedHoldsNothing);
        let not_in_sync = any || mutants.has(Mutant::NotInSyncHoldsNothing);
        let settle_us = if any { 0 } else { settle_us };
        let is_spread = self.passes.all_us.is_some_and(|at| at + spread_us >= mono_us)
            || not_in_sync
            || mutants.has(Mutant::OnceInSyncIsEnough);
        let in_sync = |peer: &Peer| peer.last_in_sync_us().is_some() || not_in_sync;
        is_spread
            && self.all.iter().all(|(process, member)| {
                member.left
                    || live.get(process).is_some_and(in_sync) && member.since_us + settle_us <= mono_us
            })
    }
}
