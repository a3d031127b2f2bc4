//! The sets of nodes that vote on leases.

use std::fmt;

use siphasher::sip::SipHasher24;
use std::hash::Hasher;

/// The nodes that vote. It is fixed: a majority of the nodes that one sees would let both sides of a split grant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VoterSet {
    id: VoterSetId,
    /// The hashes of their node ids, in order.
    nodes: Box<[u64]>,
}

/// Identifies a set of voters and the longest time to live that they know of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct VoterSetId(pub u64);

/// Why a list of voters is not accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VoterSetError {
    /// There are not 1, 3 or 5.
    Count(usize),
    /// One is named twice.
    Twice,
}

impl fmt::Display for VoterSetError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Count(count) => write!(f, "{count} voters: name 1, 3 or 5 of the nodes"),
            Self::Twice => f.write_str("a voter is named twice: name each once"),
        }
    }
}

impl std::error::Error for VoterSetError {}

impl VoterSet {
    /// The set of nodes with these hashes of their ids. `max_ttl_us` is the longest time to live, which all voters have
    /// to agree on: they abstain for that long after a start.
    ///
    /// # Errors
    /// If there are not 1, 3 or 5, or one is there twice.
    pub fn new(nodes: impl IntoIterator<Item = u64>, max_ttl_us: u64) -> Result<Self, VoterSetError> {
        let mut nodes: Vec<u64> = nodes.into_iter().collect();
        nodes.sort_unstable();
        if !matches!(nodes.len(), 1 | 3 | 5) {
            return Err(VoterSetError::Count(nodes.len()));
        }
        if nodes.windows(2).any(|pair| pair[0] == pair[1]) {
            return Err(VoterSetError::Twice);
        }
        let mut hash = SipHasher24::new();
        hash.write_u64(max_ttl_us);
        nodes.iter().for_each(|node| hash.write_u64(*node));
        Ok(Self { id: VoterSetId(hash.finish()), nodes: nodes.into() })
    }

    /// Its id.
    #[must_use]
    pub fn id(&self) -> VoterSetId {
        self.id
    }

    /// Its nodes.
    #[must_use]
    pub fn nodes(&self) -> &[u64] {
        &self.nodes
    }

    /// Whether a node is in it.
    #[must_use]
    pub fn has(&self, node: u64) -> bool {
        self.nodes.binary_search(&node).is_ok()
    }

    /// How many votes are a majority.
    #[must_use]
    pub fn majority(&self) -> usize {
        self.nodes.len() / 2 + 1
    }

    /// How many of these nodes are in it.
    #[must_use]
    pub fn count<'a>(&self, of: impl IntoIterator<Item = &'a u64>) -> usize {
        of.into_iter().filter(|node| self.has(**node)).count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_has_one_three_or_five_nodes_in_any_order() {
        let set = |nodes: &[u64]| VoterSet::new(nodes.iter().copied(), 60);
        for count in [0, 2, 4, 6] {
            let nodes: Vec<u64> = (0..count).collect();
            assert_eq!(set(&nodes), Err(VoterSetError::Count(nodes.len())));
        }
        assert_eq!(set(&[1, 2, 1]), Err(VoterSetError::Twice));
        assert_eq!(set(&[1, 2, 3]), set(&[3, 1, 2]));
        assert_ne!(set(&[1, 2, 3]).unwrap().id(), set(&[1, 2, 4]).unwrap().id());
        assert_ne!(VoterSet::new([1], 60).unwrap().id(), VoterSet::new([1], 61).unwrap().id());
        let majorities = [&[1][..], &[1, 2, 3], &[1, 2, 3, 4, 5]].map(|nodes| set(nodes).unwrap().majority());
        assert_eq!(majorities, [1, 2, 3]);
    }
}
