//! A reader with a feed, and what must hold of its view.

use std::collections::BTreeMap;

use super::checks::History;
use super::random::Random;
use crate::core::feed::{Cursor, Event as Told, Feed, Scope};
use crate::core::{Name, Record};

/// A reader and its view.
#[derive(Debug)]
pub(super) struct Watcher {
    pub(super) number: u64,
    pub(super) scope: Scope,
    pub(super) view: BTreeMap<Name, Record>,
    pub(super) cursor: Option<Cursor>,
    /// View and cursor as they were stored together: what is left after a crash.
    pub(super) stored: (BTreeMap<Name, Record>, Option<Cursor>),
    pub(super) connection: Option<Connection>,
}

#[derive(Debug)]
pub(super) struct Connection {
    pub(super) slot: usize,
    pub(super) life: u32,
    pub(super) feed: Feed,
    /// The last record of each name that was told, since it began or was reset.
    pub(super) last: BTreeMap<Name, Record>,
}

impl Watcher {
    pub(super) fn new(random: &mut Random) -> Self {
        let some = || Scope::new([], [&b"repo/1"[..], b"repo/3"]);
        let scope = if random.chance(3_000) { some() } else { Scope::all() };
        Self {
            number: random.below(1_000),
            scope,
            view: BTreeMap::new(),
            cursor: None,
            stored: Default::default(),
            connection: None,
        }
    }

    /// Takes in what it is told.
    pub(super) fn hear(&mut self, told: Vec<Told>) -> Result<(), String> {
        for event in told {
            let record = match event {
                Told::Reset(_) => {
                    self.view.clear();
                    if let Some(connection) = &mut self.connection {
                        connection.last.clear();
                    }
                    continue;
                }
                Told::Changed(record) => record,
            };
            if let Some(connection) = &mut self.connection {
                let before = connection.last.insert(record.name().clone(), record.clone());
                if let Some(before) = before.filter(|before| before.order(&record).is_gt()) {
                    return Err(format!("{record:?} after {before:?}"));
                }
            }
            // a node that is behind may tell what is older
            if self.view.get(record.name()).is_none_or(|held| held.order(&record).is_lt()) {
                self.view.insert(record.name().clone(), record);
            }
        }
        Ok(())
    }

    /// Honesty: of each write that the cursor claims the view has at least that, or nothing and the name was deleted.
    pub(super) fn check(&self, history: &History) -> Result<(), String> {
        let Some(cursor) = self.cursor.as_ref().filter(|cursor| cursor.scan.is_none()) else { return Ok(()) };
        let claimed = |write: &Record| cursor.vector.claims(write.dot());
        // of a log the end of a record is not told
        let in_scope = |write: &&Record| self.scope.has(write.name()) && !write.name().is_log();
        for write in history.all().filter(|write| claimed(write)).filter(in_scope) {
            let fine = match self.view.get(write.name()) {
                Some(held) => held.order(write).is_ge(),
                // a delete that the view did not need may be one that the cursor does not claim
                None => history.deletes(write.name()).any(|gone| gone.order(write).is_ge()),
            };
            if !fine {
                let held = self.view.get(write.name());
                return Err(format!("{cursor:?} claims {write:?}, was told {held:?}"));
            }
        }
        Ok(())
    }
}
