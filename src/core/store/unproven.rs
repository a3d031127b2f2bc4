//! Sets that come from a disk, and may lack deletes that the cluster has forgotten.

use super::Store;
use crate::core::checkpoint::Checkpoints;
use crate::core::genesis::Genesis;
use crate::core::mutants::Mutant;
use crate::core::record::Record;
use crate::core::saved::DiskTask;
use crate::core::set::Cell;
use crate::core::stamp::Stamp;

impl<T> Store<T> {
    /// The reflected stamp that the set was loaded with, while it is *unproven*: no node has confirmed since then that
    /// the cluster has forgotten no delete that the set lacks. A node that takes an unproven set over inherits the
    /// stamp. `None` if the set is proven, as each set is that did not come from a disk.
    #[must_use]
    pub fn unproven(&self) -> Option<Stamp> {
        self.unproven
    }

    /// Adds a task for the disk of the node to the effects.
    pub(in crate::core) fn ask_disk(&mut self, task: DiskTask) {
        self.effects.disk.push(task);
    }

    /// The set is a loaded one, with this reflected stamp.
    pub(in crate::core) fn set_unproven(&mut self, reflected: Stamp) {
        self.unproven = Some(reflected);
    }

    /// The set is proven: nothing that is of this set is elsewhere, or a proven one is equal.
    pub(in crate::core) fn set_proven(&mut self) {
        self.unproven = None;
    }

    /// A complete round compared the set with that of a peer, which is unproven with this stamp, or proven. The horizon
    /// of the peer did not exceed our stamp, else ours had been set aside: so all of ours is proven by a proven one.
    pub(in crate::core) fn compared_with(&mut self, theirs: Option<Stamp>) {
        if theirs.is_none() || self.mutants.has(Mutant::ProvenByUnproven) {
            self.unproven = None;
        }
    }

    /// The set was taken over from peers, with this least stamp of those that are unproven.
    pub(in crate::core) fn copied_from(&mut self, theirs: Option<Stamp>) {
        self.unproven = match (self.unproven, theirs) {
            _ if self.mutants.has(Mutant::UnprovenNotInherited) => None,
            (Some(ours), Some(theirs)) => Some(ours.min(theirs)),
            (_, theirs) => theirs,
        };
    }

    /// Adopts the genesis of a peer whose set is unproven with this stamp, or proven. In another set ours is as proven
    /// as that one.
    pub(in crate::core) fn adopt_of_peer(&mut self, genesis: Genesis, unproven: Option<Stamp>) {
        if genesis.key != self.genesis.key {
            self.unproven = unproven.filter(|_| !self.mutants.has(Mutant::UnprovenNotInherited));
        }
        self.adopt(genesis);
    }

    /// Whether this process claims its own writes. It does not any more if it has dropped what had taken the place of
    /// one, which may be nowhere else: then no reader may rely on it.
    #[must_use]
    pub fn vouches(&self) -> bool {
        self.vouches
    }

    /// Claims all writes of this process, of which none has a later stamp.
    pub(super) fn claim_own(&mut self, latest: Stamp) {
        if self.vouches {
            self.claims.raise(self.incarnation, self.log.sequence(), latest);
        }
    }

    /// Drops what may lack a forgotten delete: all records but those stamped `from` this stamp on, and those of this
    /// process. The vector claims these at most, and readers of feeds begin again. The set is proven, and incomplete.
    pub(in crate::core) fn drop_unproven(&mut self, from: Stamp) {
        let stays =
            |record: &Record| record.last_sync() >= from || record.dot().incarnation == self.incarnation;
        let records = || self.set.cells(0, u64::MAX).map(Cell::record);
        let kept: Vec<Record> = records().filter(|record| stays(record)).cloned().collect();
        let mut names: Vec<_> = records().filter(|record| !stays(record)).map(|r| r.name().clone()).collect();
        names.dedup();
        for name in names {
            self.forget_copy(&name);
            // they read again: what they wait for may never come back
            self.waiters.take_cut(&name, &mut self.effects.due);
        }
        self.checkpoints = Checkpoints::default();
        let checkpoints = kept.iter().filter(|record| self.set.get(record.name()).is_some());
        checkpoints.for_each(|record| self.checkpoints.changed(record));
        self.claims.clear();
        self.forget_writes(self.log.sequence());
        self.clear_changes();
        self.unproven = None;
        for record in &kept {
            self.merge(record);
        }
        // what has taken the place of a write of this process has a stamp that is as late
        self.vouches &= self.own_least >= from;
        self.claim_own(Stamp::MAX);
    }
}
