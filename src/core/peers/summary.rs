//! The state of a node and of its set, as the node gossips them.

use crate::core::digest_trie::Digest;
use crate::core::genesis::GenesisMark;
use crate::core::history::Registers;
use crate::core::protocol::ProtocolRange;
use crate::core::record::Incarnation;
use crate::core::saved::SavedMark;
use crate::core::stamp::Stamp;

/// The stage of a node between its start and its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum NodeState {
    /// It has no complete set yet: it takes part in push and sync, and rejects reads and writes.
    Joining,
    /// It answers reads and writes.
    Ready,
    /// It is about to stop.
    Leaving,
}

/// The state of a node and of its set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Summary {
    /// Id of the process.
    pub incarnation: Incarnation,
    /// Hash of the configured node id, or of the address: the same for all processes of a node.
    pub node: u64,
    /// Hash of the region's name.
    pub region: u64,
    /// Its stage between start and end.
    pub state: NodeState,
    /// The genesis of its set; `None` while it has joined no set.
    pub genesis: Option<GenesisMark>,
    /// Digest of all its records.
    pub root: Digest,
    /// The registers of its set.
    pub registers: Registers,
    /// [`crate::core::Vector::mark`] of its vector.
    pub vector: u32,
    /// The reflected stamp of its set, if that is unproven: see [`crate::core::Store::unproven`].
    pub unproven: Option<Stamp>,
    /// What it has on its disk, while it has joined no set and has not decided what to do with it.
    pub saved: Option<SavedMark>,
    /// The versions of the peer protocol that it speaks. They do not change while the process runs.
    pub protocol: ProtocolRange,
}

impl Summary {
    /// Rule 1: whether the two sets are equal, by genesis and digest. The horizons may differ: each node adopts the
    /// larger horizon from gossip, and equal sets stay equal by that.
    #[must_use]
    pub fn same_set(&self, other: &Self) -> bool {
        self.genesis == other.genesis && self.root == other.root
    }
}
