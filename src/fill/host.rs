//! The node as the filler sees it.

use std::collections::VecDeque;

use crate::core::mirroring::{Mirroring, Step, Tail, Told};
use crate::core::store::Change;
use crate::core::{Name, Record, Stamp};

/// The operations of the node that the filler needs. None of them blocks.
pub trait Host: Send + Sync + 'static {
    /// The node's time.
    fn now(&self) -> Stamp;
    /// The newest stamp that a writer may give: a little ahead of the node's time.
    fn latest_stamp(&self) -> Stamp;
    /// The record that the node holds of a name.
    fn record(&self, name: &Name) -> Option<Record>;
    /// Writes a change and notifies its watchers. The stamp is `given`, or the node's own.
    fn write(&self, name: &Name, change: &Change<'_>, given: Option<Stamp>) -> WriteResult;
    /// Copies a change with its stamp and the end of its value, and notifies its watchers.
    fn copy(&self, name: &Name, change: &Change<'_>, stamp: Stamp, end: Option<Stamp>) -> WriteResult;
    /// Marks a name as expected: its readers wait for the upstream's first answer.
    fn expect(&self, name: &Name);
    /// Ends the wait of an expected name's readers: the record that the node holds now is the answer.
    fn release_readers(&self, name: &Name);
    /// How many names are expected.
    fn expected(&self) -> usize;
    /// Whether readers are parked on a name.
    fn is_watched(&self, name: &Name) -> bool;
    /// The incarnation of this node, and those of all ready members, this node included.
    fn members(&self) -> (u64, Vec<u64>);
    /// Reports to the owner of a name that readers use the name here, so that the owner keeps polling it. Its answer
    /// goes to [`super::Filler::record_owner_answer`]. Returns whether there was room for the report.
    fn report_interest(&self, owner: u64, name: &Name) -> bool;
    /// Drops the copy of a name without readers. At the next read the node requests it from the upstream again.
    fn drop_copy(&self, name: &Name);
    /// Forgets the copy of a name whose source set is gone. The next copy replaces it, even if its stamp is older.
    fn forget_copy(&self, name: &Name);
    /// Begins a mirror with an empty view.
    fn begin_mirror(&self) -> Mirroring;
    /// Whether the node is a mirror of another set than this one.
    fn mirrors_another_set(&self, set: u64) -> bool;
    /// Applies a slice of a part of what a leader told, and wakes the readers that wait for it.
    fn apply_mirrored(&self, mirroring: &mut Mirroring, told: &mut VecDeque<Told>, tail: &Tail) -> Step;
    /// Adopts the genesis of the set that this node copies.
    fn adopt_genesis(&self, started: Stamp);
}

/// The result of a write by the filler.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WriteResult {
    /// The node holds the change.
    Done,
    /// The node holds a newer record.
    Older,
    /// The set is full.
    Full,
    /// The node accepts no writes now: it is joining its cluster, or its clock is in doubt.
    NotNow,
}

/// The answer of a name's owner to a report that the name has readers elsewhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OwnerAnswer {
    /// The owner polls the name, and gets answers.
    Filled,
    /// The owner does not.
    NotFilled,
    /// The owner did not answer.
    None,
}

/// The reason for readers if the set has no room for a name.
pub(super) const SET_IS_FULL: &str = "this node's set is full: raise --max-set-bytes";

/// The reason for readers if the node accepts no writes.
pub(super) const ACCEPTS_NO_WRITES: &str = "this node accepts no writes for now: check its /readyz";
