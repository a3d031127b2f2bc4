//! Stamps of readers that do not count.

use crate::api::state::Node;
use crate::core::{Name, Record, Stamp};

/// Why the stamp that a reader has shown does not count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum IgnoredStamp {
    /// It is older than the genesis of this set.
    FromBeforeGenesis,
    /// It may be of a write that no node has any more, and this node has nothing as new.
    OfLostWrite {
        /// Since when writes may be lost.
        since: Stamp,
    },
}

impl IgnoredStamp {
    /// Whether a stamp that a reader shows for a name does not count.
    pub(super) fn of(node: &Node, name: &Name, stamp: Stamp) -> Option<Self> {
        if node.store.genesis().is_after(stamp) {
            return Some(Self::FromBeforeGenesis);
        }
        // a follower knows it name by name: it may lag behind its upstream with others
        let follower = node.fill.as_ref().filter(|filler| !filler.is_mirror() && name.namespace().is_empty());
        let lost = follower.map_or_else(|| node.store.lost(), |filler| filler.lost(name));
        let is_lost = || node.store.get(name).as_ref().map(Record::last_sync).is_none_or(|held| held < stamp);
        (lost.covers(stamp) && is_lost()).then_some(Self::OfLostWrite { since: lost.since() })
    }
}
