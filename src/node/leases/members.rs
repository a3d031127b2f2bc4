//! The live members, as far as leases are concerned.

use std::collections::{BTreeMap, BTreeSet};

use crate::core::lease::VoterSet;
use crate::core::lease::abstention_us;
use crate::core::lease::changeover::Changeover;
use crate::core::lease::coordinator::VoterStanding;
use crate::core::lease::rules::LeaseRules;
use crate::core::lease::voters::VoterSetId;
use crate::core::rendezvous;
use crate::core::{Incarnation, NodeState, Summary};
use crate::wire::node_info::LeaseVoters;

/// The live members, and which voters are two processes at once.
#[derive(Debug)]
pub(super) struct Members {
    us: Incarnation,
    node: u64,
    voters: Vec<u64>,
    /// The live processes of each voter, this one included.
    processes: BTreeMap<u64, BTreeSet<Incarnation>>,
    /// Until when a voter counts as two processes, µs.
    doubled_until_us: BTreeMap<u64, u64>,
    live: BTreeSet<Incarnation>,
    /// Those that can coordinate: the ready ones and this one, in order.
    ready: Vec<u64>,
    abstention_us: u64,
    /// The ids of the sets of this node.
    sets: Vec<u64>,
    /// How many live members have other sets.
    with_other_voters: usize,
    changeover: Changeover,
}

impl Members {
    pub(super) fn new(us: Incarnation, node: u64, sets: &[VoterSet], max_ttl_us: u64) -> Self {
        let mut voters: Vec<u64> = sets.iter().flat_map(|set| set.nodes().iter().copied()).collect();
        voters.sort_unstable();
        voters.dedup();
        let mut members = Self {
            us,
            node,
            voters,
            processes: BTreeMap::new(),
            doubled_until_us: BTreeMap::new(),
            live: BTreeSet::new(),
            ready: vec![us.0],
            abstention_us: abstention_us(max_ttl_us),
            sets: sets.iter().map(|set| set.id().0).collect(),
            with_other_voters: 0,
            changeover: Changeover::new(sets, max_ttl_us, LeaseRules::default()),
        };
        members.see(0, &[], &[]);
        members
    }

    /// Takes the live members without this process. Returns the processes that are new.
    pub(super) fn see(&mut self, now_us: u64, live: &[Summary], voters: &[LeaseVoters]) -> Vec<Incarnation> {
        // while the voters change, two nodes have at least one set in common
        let is_other = |theirs: &&LeaseVoters| {
            let mut sets = theirs.iter().filter(|id| **id != 0).peekable();
            !self.sets.is_empty() && sets.peek().is_some() && !sets.any(|id| self.sets.contains(id))
        };
        self.with_other_voters = voters.iter().filter(is_other).count();
        for theirs in voters {
            self.changeover.see(now_us, theirs.iter().filter(|id| **id != 0).map(|id| VoterSetId(*id)));
        }
        self.processes.clear();
        let ours = (self.node, self.us);
        // a process that leaves votes no more
        let staying = live.iter().filter(|summary| summary.state != NodeState::Leaving);
        let all = staying.map(|summary| (summary.node, summary.incarnation)).chain([ours]);
        for (node, process) in all.filter(|(node, _)| self.voters.binary_search(node).is_ok()) {
            self.processes.entry(node).or_default().insert(process);
        }
        for (node, processes) in &self.processes {
            if processes.len() > 1 {
                self.doubled_until_us.insert(*node, now_us + self.abstention_us);
            }
        }
        let now_live: BTreeSet<Incarnation> = live.iter().map(|summary| summary.incarnation).collect();
        let new = now_live.difference(&self.live).copied().collect();
        self.live = now_live;
        let ready = live.iter().filter(|summary| summary.state == NodeState::Ready);
        self.ready = ready.map(|summary| summary.incarnation.0).chain([self.us.0]).collect();
        self.ready.sort_unstable();
        new
    }

    /// Whether two processes have had the id of a voter, and neither has been gone for long enough.
    pub(super) fn is_doubled(&self, now_us: u64, node: u64) -> bool {
        self.doubled_until_us.get(&node).is_some_and(|until_us| now_us < *until_us)
    }

    /// How many voters are two processes, or were not long ago.
    pub(super) fn doubled(&self, now_us: u64) -> usize {
        self.voters.iter().filter(|node| self.is_doubled(now_us, **node)).count()
    }

    /// How many live members have other voters than this node. Two nodes that ask different voters could both grant a
    /// lease.
    pub(super) fn with_other_voters(&self) -> usize {
        self.with_other_voters
    }

    /// What is known of a change of the voters.
    pub(super) fn changeover(&self) -> &Changeover {
        &self.changeover
    }

    /// All voters, and what is known of each.
    pub(super) fn standings(&self, now_us: u64) -> impl Iterator<Item = (u64, VoterStanding)> + '_ {
        self.voters.iter().map(move |node| {
            let standing = match self.processes.get(node) {
                _ if self.with_other_voters > 0 => VoterStanding::Gone,
                None => VoterStanding::Gone,
                Some(_) if self.is_doubled(now_us, *node) => VoterStanding::Doubled,
                Some(_) => VoterStanding::Live,
            };
            (*node, standing)
        })
    }

    /// The process of a voter.
    pub(super) fn process_of(&self, node: u64) -> Option<Incarnation> {
        self.processes.get(&node)?.first().copied()
    }

    /// The process that coordinates the leases with a first segment.
    pub(super) fn coordinator_of(&self, first_segment: &[u8]) -> Incarnation {
        rendezvous::owner(first_segment, &self.ready).map_or(self.us, Incarnation)
    }

    /// The live processes, without this one.
    pub(super) fn live(&self) -> &BTreeSet<Incarnation> {
        &self.live
    }

    /// The voter that a process is.
    pub(super) fn voter_of(&self, process: Incarnation) -> Option<u64> {
        self.processes.iter().find(|(_, processes)| processes.contains(&process)).map(|(node, _)| *node)
    }

    /// The voters among the processes that are new.
    pub(super) fn has_voter(&self, process: Incarnation) -> bool {
        self.processes.values().any(|processes| processes.contains(&process))
    }
}
