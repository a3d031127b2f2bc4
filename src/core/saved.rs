//! The set that an earlier process of a node left on its disk, and what the node may do with it.
//!
//! What is loaded is like the cursor of a reader that was away: it has a genesis, a vector, and a reflected stamp. It
//! may lack deletes that the cluster has forgotten meanwhile, and then it would bring deleted values back. The
//! reflected stamp decides: every delete stamped below it is reflected in the saved set, so a delete that is missing
//! was stamped later, and is still known to a cluster whose horizon has not passed that stamp. The time of the last
//! save does not decide: an isolated node saves too, and lacks the deletes of the others.

use super::genesis::{Genesis, GenesisMark};
use super::history::Registers;
use super::stamp::Stamp;
use super::vector::Vector;

/// What is known of a saved set without its records. All of it is of one moment, and of the moment of the records.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SavedSet {
    /// The genesis of the set.
    pub genesis: Genesis,
    /// The vector: what it claims, the saved records reflect.
    pub vector: Vector,
    /// The registers.
    pub registers: Registers,
    /// The reflected stamp: see [`super::Replica::reflected`].
    pub reflected: Stamp,
    /// When it was saved, by the clock of the node; of a set that is not complete, when it last was.
    pub committed: Stamp,
    /// The number of names.
    pub names: u64,
}

/// The part of a saved set that a joining node gossips, so that those that start together agree on one of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SavedMark {
    /// The set.
    pub set: GenesisMark,
    /// As [`SavedSet::reflected`].
    pub reflected: Stamp,
    /// As [`SavedSet::committed`].
    pub committed: Stamp,
    /// As [`SavedSet::names`].
    pub names: u64,
}

impl SavedSet {
    /// The part that is gossiped.
    #[must_use]
    pub fn mark(&self) -> SavedMark {
        SavedMark {
            set: self.genesis.mark(),
            reflected: self.reflected,
            committed: self.committed,
            names: self.names,
        }
    }
}

/// A task of the shell for the disk of a node, in the order in which they are due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DiskTask {
    /// Hand the saved records to [`super::Replica::load`], and then call [`super::Replica::loaded`].
    Load,
    /// Keep the saved set beside the one of this node, for the operator, and load no more of it: this node goes on
    /// without it. What the store holds is saved from now on.
    SetAside(AsideCause),
}

/// Why a saved set is set aside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AsideCause {
    /// The cluster may have forgotten deletes that the saved set lacks.
    Outdated,
    /// The cluster serves another set.
    OtherSet,
    /// By the clocks of the cluster, or by that of this node while others have the set, it is of a time that has not
    /// come yet.
    Future,
    /// It cannot be read.
    Unreadable,
}
