//! Members: the processes that are live, and those that were and may come back with what they held.
//!
//! A node forgets a delete only when no member can bring the deleted value back. So it follows here which members are
//! away, which have just come, and how far its anti-entropy sweeps have got with all of them.

use std::collections::{BTreeMap, btree_map::Entry};

use super::peer::{LivePeers, Peer};
use super::summary::{NodeState, Summary};
use crate::core::mutants::{Mutant, Mutants};
use crate::core::push::Outbox;
use crate::core::record::Incarnation;

/// A process may count as live for this long after its successor has come, µs: until gossip has given it up.
pub(super) const OVERLAP_US: u64 = 60_000_000;

/// A process that is live, or was and may come back with what it held.
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

/// How far it is sure that all members hold the same. A sweep is complete when each member was met since it began. What
/// any member held at its beginning is ours then, and held by all at the end of the next one.
#[derive(Debug, Default)]
struct Sweeps {
    /// When the one under way began, µs of the node's monotonic clock.
    since_us: u64,
    /// When the last complete one began.
    ours_us: Option<u64>,
    /// What any member held then, all members hold.
    all_us: Option<u64>,
}

/// All members of the cluster, without ourselves, and the sweeps over them.
#[derive(Debug, Default)]
pub(super) struct Members {
    all: BTreeMap<Incarnation, Member>,
    sweeps: Sweeps,
}

impl Members {
    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.all.len()
    }

    /// Whether a process is one of them.
    pub(super) fn contains(&self, incarnation: Incarnation) -> bool {
        self.all.contains_key(&incarnation)
    }

    /// Takes in that a process is live; `was_live` says whether it was so before. Returns how far it had our writes
    /// when it went, if it comes back.
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
        // a node that was given no id goes by its address, which can change
        (member.node, member.seen_us, member.left) =
            (summary.node, mono_us, summary.state == NodeState::Leaving);
        if was_live { None } else { member.outbox.take() }
    }

    /// A process is live no more, and had our writes so far.
    pub(super) fn went(&mut self, who: Incarnation, outbox: Outbox) {
        if let Some(member) = self.all.get_mut(&who) {
            member.outbox = Some(outbox);
        }
    }

    /// Forgets a member that was followed at once, so that a process that starts again and again fills nothing, and one
    /// that has been gone for `memory_us`.
    pub(super) fn forget(&mut self, mono_us: u64, live: &LivePeers, memory_us: u64) {
        // the latest process of each node that is live
        let mut here: BTreeMap<u64, u64> = BTreeMap::new();
        for who in live.keys() {
            if let Some(member) = self.all.get(who) {
                let latest = here.entry(member.node).or_default();
                *latest = member.first_us.max(*latest);
            }
        }
        self.all.retain(|who, member| {
            // two processes beside each other for long are two nodes of one name, and neither follows the other
            let followed = here.get(&member.node).is_some_and(|latest| latest + OVERLAP_US >= member.seen_us);
            live.contains_key(who) || !followed && !member.left && member.seen_us + memory_us > mono_us
        });
    }

    /// When the sweep under way began, µs of the node's monotonic clock.
    pub(super) fn sweep_since_us(&self) -> u64 {
        self.sweeps.since_us
    }

    /// Notices when a sweep is complete.
    pub(super) fn sweep(&mut self, mono_us: u64, live: &LivePeers) {
        let since_us = self.sweeps.since_us;
        let met = |who| live.get(who).and_then(Peer::met_us).is_some_and(|at| at >= since_us);
        if self.all.iter().all(|(who, member)| member.left || met(who)) {
            self.sweeps = Sweeps { since_us: mono_us, ours_us: Some(since_us), all_us: self.sweeps.ours_us };
        }
    }

    /// All members hold what any of them held at that time.
    #[cfg(test)]
    pub(super) fn all_hold_what_was(&mut self, at_us: u64) {
        self.sweeps.all_us = Some(at_us);
    }

    /// See [`super::Peers::nobody_missing`].
    pub(super) fn nobody_missing(
        &self,
        mono_us: u64,
        live: &LivePeers,
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
        let met = |peer: &Peer| peer.met_us().is_some() || unmet;
        is_spread
            && self.all.iter().all(|(who, member)| {
                member.left || live.get(who).is_some_and(met) && member.since_us + settle_us <= mono_us
            })
    }
}
