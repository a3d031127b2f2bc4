//! When a set began, and the key that its digest is made with.

use std::fmt;

use super::stamp::Stamp;

/// The start of a set: made at a cold start, shared by all nodes that hold the set. Where two meet, the older wins,
/// which is the lesser one in this order.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Genesis {
    /// When it was made. A stamp from before it says nothing about this set.
    pub started: Stamp,
    /// Random key of positions and items, so that writers cannot aim at a place of the digest.
    pub key: [u8; 16],
}

impl fmt::Debug for Genesis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // the key stays out of logs: who knows it can aim
        f.debug_struct("Genesis").field("started", &self.started).finish_non_exhaustive()
    }
}
