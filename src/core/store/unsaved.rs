//! What has changed since the last save: the names, each with all of its records as they are after the change.
//!
//! A save is of one moment: the records and what the set claims of them. So a change is noted under the lock under
//! which it happens, and a save takes all notes together with the vector and the registers ([`Store::take_unsaved`]).
//! Notes share the records, and their number is bounded: beyond that they are dropped, and the whole set has to be
//! saved.
//!
//! What the registers cut is noted when it is dropped. Until then it stays in what is saved, and the registers beside
//! it cut it when it is loaded.

use super::Store;
use crate::core::digest_trie::Digest;
use crate::core::name::Name;
use crate::core::record::Record;
use crate::core::set::Cell;
use crate::core::stamp::Now;

/// Most notes between two saves.
const MAX_NOTES: usize = 1 << 16;

/// Most bytes of the records in notes, counted as often as they are noted.
const MAX_NOTED_BYTES: usize = 64 << 20;

/// A name, and its records in [`Record::order`]; none if it is gone.
pub type Unsaved = (Name, Box<[Record]>);

/// The notes of a store. See the module.
#[derive(Debug, Default)]
pub(super) struct Notes {
    names: Vec<Unsaved>,
    bytes: usize,
    /// Whether there were too many.
    lost: bool,
    /// A name whose records are just being loaded as they were saved.
    loaded: Option<Name>,
}

/// What a save takes at one moment.
#[derive(Debug)]
pub struct Save {
    /// The names that have changed since the last save, in the order of the changes; a name may come again.
    pub names: Vec<Unsaved>,
    /// Whether more has changed than could be noted. Then `names` is empty, and all names have to be saved.
    pub lost: bool,
    /// The digest of the set; `None` if not all is dropped yet that the registers cut.
    pub digest: Option<Digest>,
}

impl<T> Store<T> {
    /// From now on notes what changes, for saves. What the set holds by now counts as not saved.
    pub fn note_changes(&mut self) {
        self.notes = Some(Notes { lost: self.set.root().count > 0, ..Notes::default() });
        self.set.keep_left();
    }

    /// Notes that all of the set has to be saved again.
    pub fn note_all(&mut self) {
        if self.notes.is_some() {
            self.notes = Some(Notes { lost: true, ..Notes::default() });
        }
    }

    /// Whether there is something to save.
    #[must_use]
    pub fn has_notes(&self) -> bool {
        self.notes.as_ref().is_some_and(|notes| notes.lost || !notes.names.is_empty())
    }

    /// How many changes are noted.
    #[must_use]
    pub fn noted(&self) -> usize {
        self.notes.as_ref().map_or(0, |notes| notes.names.len())
    }

    /// Takes the notes. From then on they begin again.
    pub fn take_unsaved(&mut self) -> Save {
        let notes = self.notes.as_mut().map(std::mem::take).unwrap_or_default();
        let digest = self.set.is_settled().then(|| self.set.root());
        Save { names: notes.names, lost: notes.lost, digest }
    }

    /// The names of a stretch of positions, each with all of its records: a part of a save of the whole set. See
    /// [`crate::core::Set::stretches`].
    #[must_use]
    pub fn unsaved_stretch(&self, index: usize) -> Vec<Unsaved> {
        let names = self.set.stretch(index).map(Record::name);
        names.map(|name| (name.clone(), self.records_of(name))).collect()
    }

    fn records_of(&self, name: &Name) -> Box<[Record]> {
        self.set.history(name).iter().map(Cell::record).cloned().collect()
    }

    /// The records of a name have changed.
    pub(super) fn note(&mut self, name: &Name) {
        if self.notes.as_ref().is_none_or(|notes| notes.lost || notes.loaded.as_ref() == Some(name)) {
            return;
        }
        let records = self.records_of(name);
        let Some(notes) = &mut self.notes else { return };
        notes.bytes += records.iter().map(Record::cost).sum::<usize>();
        notes.names.push((name.clone(), records));
        if notes.names.len() > MAX_NOTES || notes.bytes > MAX_NOTED_BYTES {
            *notes = Notes { lost: true, ..Notes::default() };
        }
    }

    fn set_loaded(&mut self, name: Option<Name>) {
        if let Some(notes) = &mut self.notes {
            notes.loaded = name;
        }
    }

    /// Notes the names of which the registers have cut records.
    pub(super) fn note_left(&mut self) {
        let mut names = self.set.take_left();
        names.dedup();
        names.iter().for_each(|name| self.note(name));
    }

    /// Records were removed by a merge, which is noted as a whole.
    pub(super) fn forget_left(&mut self) {
        drop(self.set.take_left());
    }

    /// Merges records that were saved by an earlier process, those of a name together. They are not noted, unless the
    /// store holds other records of the name by now.
    pub(in crate::core) fn merge_saved(&mut self, now: Now, records: &[Record]) {
        for of_name in records.chunk_by(|a, b| a.name() == b.name()) {
            let Some(name) = of_name.first().map(Record::name) else { continue };
            let is_known = !self.set.history(name).is_empty();
            self.set_loaded(Some(name.clone()));
            self.replicate(now.wall, of_name);
            self.set_loaded(None);
            // the registers may have cut it
            if is_known || self.set.history(name).len() != of_name.len() {
                self.note(name);
            }
        }
    }
}
