//! Cursors: what a reader was told, so that any node of the set can go on.

use crate::core::genesis::Genesis;
use crate::core::record::Incarnation;
use crate::core::stamp::Stamp;
use crate::core::vector::Vector;

/// What a reader was told, so that any node of the set can go on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cursor {
    /// The set: the id of its key.
    pub set: u64,
    /// What the feed is about: [`super::Subscription::hash`].
    pub subscription: u64,
    /// The writes that the view reflects.
    pub vector: Vector,
    /// The stamp below which the view reflects every delete.
    pub reflected: Stamp,
    /// The position in the ring of the process that emitted the cursor.
    pub at: Option<(Incarnation, u64)>,
    /// A scan that is not complete.
    pub scan: Option<Scan>,
}

/// A part of a scan, as a cursor carries it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scan {
    /// The least vector of the nodes that scanned, each at the start of its part.
    pub vector: Vector,
    /// The least reflected stamp of them.
    pub reflected: Stamp,
    /// The last name that is done, as a key. Empty before the first one.
    pub after: Box<[u8]>,
    /// `None` if the scan tells what the cursor lacks. Else the view began empty, and the scan tells the records from
    /// this stamp on: [`Stamp::ZERO`] for all of them.
    pub from: Option<Stamp>,
}

/// What stands for a set in a cursor.
#[must_use]
pub fn set_id(genesis: Genesis) -> u64 {
    genesis.mark().key_id
}
