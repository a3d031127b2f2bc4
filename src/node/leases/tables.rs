//! What a node that joins has learned of the leases that were granted before it came.

use std::collections::BTreeSet;

use crate::core::lease::VoterSet;

/// How long a node that joins waits for the tables of voters, µs.
const PATIENCE_US: u64 = 2_000_000;

/// The voters that have told all that they remember.
#[derive(Debug)]
pub(super) struct Tables {
    /// The nodes of each set without this one, which remembers nothing from before its start, and how many of them must
    /// have told for that no lease with a majority is missed.
    sets: Vec<(Vec<u64>, usize)>,
    told: BTreeSet<u64>,
    asked_us: Option<u64>,
    is_over: bool,
}

impl Tables {
    pub(super) fn new(node: u64, sets: &[VoterSet]) -> Self {
        let of_set = |set: &VoterSet| {
            let needed = set.nodes().len() - set.majority() + 1;
            let others = set.nodes().iter().copied().filter(|other| *other != node).collect::<Vec<u64>>();
            let needed = needed.min(others.len());
            (others, needed)
        };
        Self {
            sets: sets.iter().map(of_set).collect(),
            told: BTreeSet::new(),
            asked_us: None,
            is_over: false,
        }
    }

    /// A voter is asked.
    pub(super) fn asks(&mut self, now_us: u64) {
        self.asked_us.get_or_insert(now_us);
    }

    /// A voter has told all.
    pub(super) fn has(&mut self, node: u64) {
        self.told.insert(node);
    }

    /// Whether a node that joins has to wait. Before it has seen a voter it does not: it has not found the others yet.
    pub(super) fn are_awaited(&mut self, now_us: u64) -> bool {
        let Some(asked_us) = self.asked_us.filter(|_| !self.is_over) else { return false };
        let has_told = |node: &&u64| self.told.contains(node);
        let has_all =
            self.sets.iter().all(|(others, needed)| others.iter().filter(has_told).count() >= *needed);
        let is_late = now_us >= asked_us + PATIENCE_US;
        if is_late && !has_all {
            tracing::warn!(
                "too few voters have told their leases: this node may accept writes under a lease until that is renewed"
            );
        }
        self.is_over = has_all || is_late;
        !self.is_over
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tables(node: u64, voters: &[u64]) -> Tables {
        Tables::new(node, &[VoterSet::new(voters.iter().copied(), 1).unwrap()])
    }

    #[test]
    fn a_node_waits_for_those_of_which_each_majority_has_one() {
        for (node, voters, needed) in [
            (9, &[1][..], 1),
            (9, &[1, 2, 3], 2),
            (1, &[1, 2, 3], 2),
            (9, &[1, 2, 3, 4, 5], 3),
            (1, &[1, 2, 3, 4, 5], 3),
        ] {
            let mut tables = tables(node, voters);
            assert!(!tables.are_awaited(0), "no voter is seen yet");
            tables.asks(5);
            for other in voters.iter().filter(|other| **other != node).take(needed) {
                assert!(tables.are_awaited(5), "{voters:?} at {node}");
                tables.has(*other);
                tables.has(*other);
            }
            assert!(!tables.are_awaited(5), "{voters:?} at {node}");
        }
    }

    #[test]
    fn it_does_not_wait_for_long() {
        let mut late = tables(9, &[1, 2, 3]);
        late.asks(5);
        late.asks(1_000_000);
        late.has(1);
        assert!(late.are_awaited(4 + PATIENCE_US));
        assert!(!late.are_awaited(5 + PATIENCE_US));
        // a lone voter, and a node without voters
        for (node, voters) in [(1, &[1][..]), (9, &[])] {
            let sets = voters.iter().map(|voter| VoterSet::new([*voter], 1).unwrap()).collect::<Vec<_>>();
            let mut tables = Tables::new(node, &sets);
            tables.asks(5);
            assert!(!tables.are_awaited(5));
        }
    }
}
