//! A set that is made from the changes of another one alone: it checks the invariant of [`super::effects`].

use std::collections::BTreeMap;

use super::effects::SetChange;
use super::history::Registers;
use super::name::Name;
use super::record::{Kind, Record};
use super::set::Set;
use super::stamp::Stamp;

/// The records that stand in a set, by its changes. It begins empty, as the set does.
#[derive(Debug, Default)]
pub struct Replayed {
    records: BTreeMap<Name, Record>,
    /// The latest horizon of the set: a tombstone or a value with an end below it may be missing in the set.
    horizon: Stamp,
    /// The latest compaction horizon of the set: a record of a log below it may be missing in the set.
    compaction: Stamp,
}

/// A difference between the changes and the set.
pub type Difference = String;

impl Replayed {
    /// Applies the changes of a step; `registers` are those after it.
    ///
    /// # Errors
    /// If the previous record of a change is not the one that stands here.
    pub fn apply(&mut self, changes: Vec<SetChange>, registers: Registers) -> Result<(), Difference> {
        self.horizon = self.horizon.max(registers.gc_horizon);
        self.compaction = self.compaction.max(registers.compaction_horizon);
        for change in changes {
            let (name, record, previous) = match change {
                SetChange::Merged { record, previous } => (record.name().clone(), Some(record), previous),
                SetChange::Dropped { previous } => (previous.name().clone(), None, Some(previous)),
            };
            let held = match record.clone() {
                Some(record) => self.records.insert(name, record),
                None => self.records.remove(&name),
            };
            if !self.agree(previous.as_ref(), held.as_ref(), self.compaction) {
                return Err(format!(
                    "{record:?} is reported in the place of {previous:?}, and {held:?} stood there"
                ));
            }
        }
        Ok(())
    }

    /// Compares the record of one name.
    ///
    /// # Errors
    /// If the set holds another record.
    pub fn check(&self, set: &Set, name: &Name) -> Result<(), Difference> {
        let (stands, held) = (set.get(name), self.records.get(name));
        // the horizon may have risen since the last changes
        if self.agree(stands, held, self.compaction.max(set.compaction_horizon())) {
            return Ok(());
        }
        Err(format!("{stands:?} stands, and {held:?} by the changes"))
    }

    /// Compares the records of all names.
    ///
    /// # Errors
    /// If the set holds another record of any name.
    pub fn check_all(&self, set: &Set) -> Result<(), Difference> {
        let standing = (0..set.stretches()).flat_map(|index| set.stretch(index)).map(Record::name);
        standing.chain(self.records.keys()).try_for_each(|name| self.check(set, name))
    }

    /// Whether the record of the set is the one that is held here, or the set has forgotten a tombstone, a value with
    /// an end or a record of a log that is held here.
    fn agree(&self, stands: Option<&Record>, held: Option<&Record>, compaction: Stamp) -> bool {
        match (stands, held) {
            (None, None) => true,
            (Some(stands), Some(held)) => stands.address() == held.address(),
            (None, Some(held)) => {
                let ends = |held: &Record| held.kind() == Kind::Tombstone || held.end().is_some();
                let from = held.end().filter(|_| held.kind() == Kind::Value).unwrap_or_default();
                ends(held) && held.last_sync().max(from) < self.horizon
                    || held.name().is_log() && held.last_sync() < compaction
            }
            (Some(_), None) => false,
        }
    }
}
