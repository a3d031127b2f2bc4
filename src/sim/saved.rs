//! What is on a simulated disk.

use std::collections::BTreeMap;

use crate::core::set::Set;
use crate::core::store::Unsaved;
use crate::core::{Digest, Name, Record, SavedSet};

/// Backups of a disk that are kept.
pub(super) const BACKUPS: usize = 8;

/// The disk of a node.
#[derive(Debug, Default)]
pub(super) struct Disk {
    /// What was saved last.
    pub(super) saved: Option<Saved>,
    /// Some of what was saved before, the oldest first.
    pub(super) backups: Vec<Saved>,
    /// Changes that a mutant saves too late.
    pub(super) late: Vec<Unsaved>,
}

/// The records of a set by their names, and all that belongs to it, of one moment.
#[derive(Clone, Debug)]
pub(super) struct Saved {
    pub(super) set: SavedSet,
    pub(super) names: BTreeMap<Name, Box<[Record]>>,
}

impl Saved {
    /// All records, those of a name together.
    pub(super) fn records(&self) -> Vec<Record> {
        self.names.values().flatten().cloned().collect()
    }

    /// The digest of the records, once the registers have cut them.
    pub(super) fn digest(&self, leaf_bits: u32) -> Digest {
        let mut set = Set::with_leaf_bits(self.set.genesis.key, leaf_bits);
        set.set_depth(self.set.registers.depth);
        set.raise_compaction_horizon(self.set.registers.compaction_horizon);
        set.raise_horizon(self.set.registers.gc_horizon, 0);
        self.records().iter().for_each(|record| drop(set.merge(record)));
        set.root()
    }
}
