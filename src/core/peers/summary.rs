//! What a node gossips of itself, and what it knows of others by that.

use crate::core::genesis::GenesisMark;
use crate::core::protocol::ProtocolRange;
use crate::core::record::Incarnation;
use crate::core::stamp::Stamp;
use crate::core::trie::Digest;

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
    /// [`crate::core::Vector::mark`] of its vector.
    pub vector: u32,
    /// The versions of the peer protocol that it speaks. They do not change while the process runs.
    pub protocol: ProtocolRange,
}

impl Summary {
    /// Rule 1: whether the two sets are the same, as far as gossip tells. The horizons need not be: the larger one is
    /// taken over from gossip, and equal sets stay equal by that.
    #[must_use]
    pub fn same_set(&self, other: &Self) -> bool {
        self.genesis == other.genesis && self.root == other.root
    }
}
