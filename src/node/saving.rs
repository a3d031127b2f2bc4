//! The store as the thread of the disk sees it ([`crate::disk::Source`]).

use super::clock;
use super::replication::Replicator;
use crate::core::store::Unsaved;
use crate::core::{Name, Record, SavedSet, Stamp};
use crate::disk::{Capture, Source};

impl Source for Replicator {
    fn capture(&self) -> Option<Capture> {
        self.advance(|replica, store, now| {
            if !replica.is_joined() {
                return None;
            }
            let set = SavedSet {
                genesis: store.genesis(),
                vector: store.vector().clone(),
                registers: store.registers(),
                reflected: replica.reflected_to_save(store, now),
                committed: now.wall,
                names: store.set().root().count,
            };
            Some(Capture { save: store.take_unsaved(), set })
        })
    }

    fn stretches(&self) -> usize {
        self.with(|_, store, _| store.set().stretches())
    }

    fn stretch(&self, index: usize) -> Vec<Unsaved> {
        self.with(|_, store, _| store.unsaved_stretch(index))
    }

    fn holds(&self, name: &Name) -> bool {
        self.with(|_, store, _| !store.set().history(name).is_empty())
    }

    fn load(&self, records: &[Record]) -> bool {
        self.load_saved(records)
    }

    fn loaded(&self) {
        self.has_loaded();
    }

    fn cannot_load(&self) {
        self.cannot_load_saved();
    }

    fn now(&self) -> Stamp {
        clock::now()
    }
}
