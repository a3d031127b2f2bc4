//! A reader with a feed, and what must hold of its view.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::checks::History;
use super::feed_collector::Collected;
use super::random::Random;
use crate::core::feed::{Changed, Cursor, Event as Told, Feed, Kinds, Mode, Scope, Subscription};
use crate::core::namespace::Namespace;
use crate::core::set::{Cell, Set};
use crate::core::{Dot, Kind, Name, Record, Stamp, Vector};

/// A reader, and what it knows.
#[derive(Debug)]
pub(super) struct Watcher {
    pub(super) number: u64,
    pub(super) subscription: Arc<Subscription>,
    /// Whether its names are those of mirrors: plain ones.
    pub(super) is_plain: bool,
    /// Whether its view begins with what comes, and not with what is there.
    pub(super) begins_now: bool,
    pub(super) state: State,
    /// The state as it was stored: what is left after a crash.
    pub(super) stored: State,
    pub(super) connection: Option<Connection>,
}

/// What a reader stores together.
#[derive(Clone, Debug, Default)]
pub(super) struct State {
    pub(super) cursor: Option<Cursor>,
    /// Of a reader of the newest states.
    pub(super) view: BTreeMap<Name, Record>,
    /// Of a reader of every record.
    pub(super) collected: Collected,
}

#[derive(Debug)]
pub(super) struct Connection {
    pub(super) slot: usize,
    pub(super) life: u32,
    pub(super) feed: Feed,
    /// The last record of each name that was told, since it began or was reset.
    pub(super) last: BTreeMap<Name, Record>,
    /// The writes that were told, since it began or was reset.
    told: BTreeSet<Dot>,
    /// At a mirror: how many views of the mirror were complete when it was told last.
    views: u32,
}

impl Connection {
    pub(super) fn new(slot: usize, life: u32, feed: Feed) -> Self {
        Self { slot, life, feed, last: BTreeMap::new(), told: BTreeSet::new(), views: 0 }
    }

    /// Of a node with this set, a connection tells each write once, until the view begins empty again. To a reader of
    /// every record a write that was dropped since is told again if it comes again. That cannot be of a write that is
    /// held, unless the depth was changed: then it may have come back. A mirror tells once more what it told while its
    /// view was not complete.
    pub(super) fn hear(&mut self, told: &[Told], set: &Set, views: u32) -> Result<(), String> {
        if std::mem::replace(&mut self.views, views) != views {
            self.told.clear();
        }
        let is_all = self.feed.subscription().mode == Mode::All;
        let may_return = is_all && set.depth().epoch() > Stamp::ZERO;
        for event in told {
            match event {
                Told::Reset(_) => self.told.clear(),
                Told::Changed(Changed { record, .. }) => {
                    let is_twice = !self.told.insert(record.dot());
                    let mut held = set.history(record.name()).iter().map(Cell::record);
                    let may_come_again = may_return || is_all && !held.any(|held| held.order(record).is_eq());
                    if is_twice && !may_come_again {
                        return Err(format!("{record:?} is told twice"));
                    }
                }
                Told::Synced | Told::Compacted(_) | Told::Ahead { .. } => {}
            }
        }
        Ok(())
    }
}

impl Watcher {
    pub(super) fn new(random: &mut Random, mode: Mode) -> Self {
        let namespace = |text: &[u8]| Namespace::new(text).unwrap_or(Namespace::PLAIN);
        let all_of = |text: &[u8]| Scope::new(&namespace(text), [], [&b""[..]]);
        let (scope, is_plain) = match random.below(10) {
            0..3 => (Scope::new(&Namespace::PLAIN, [], [&b"repo/1"[..], b"repo/3"]), true),
            3 => (all_of(b"other"), false),
            4 => (all_of(b".own"), false),
            // in a log, what stands is nothing that a reader asks for
            5 | 6 if mode == Mode::All => (all_of(b"log.sim"), false),
            _ => (Scope::all(), true),
        };
        let dots = mode == Mode::All && random.chance(5_000);
        let number = random.below(1_000);
        Self {
            number,
            begins_now: number.is_multiple_of(4),
            subscription: Arc::new(Subscription { scope, mode, kinds: Kinds::ALL, dots }),
            is_plain,
            state: State::default(),
            stored: State::default(),
            connection: None,
        }
    }

    /// The view begins with what comes to a node with this set. What the node holds counts as told. `claimed` is all
    /// that its vector ever claimed.
    pub(super) fn begin_now(&mut self, set: &Set, claimed: &Vector) {
        let names = (0..set.stretches()).flat_map(|i| set.stretch(i)).map(Record::name);
        let in_scope: BTreeSet<&Name> = names.filter(|name| self.subscription.scope.has(name)).collect();
        let held = in_scope.into_iter().flat_map(|name| set.history(name)).map(Cell::record);
        match self.subscription.mode {
            Mode::All => self.state.collected.begin_now(held, claimed),
            // the last record of a name is the current one
            Mode::Latest => {
                self.state.view = held.map(|record| (record.name().clone(), record.clone())).collect();
            }
        }
    }

    /// Takes in what it is told.
    pub(super) fn hear(&mut self, told: Vec<Told>) -> Result<(), String> {
        for event in told {
            let record = match event {
                Told::Reset(_) => {
                    self.state.view.clear();
                    if let Some(connection) = &mut self.connection {
                        connection.last.clear();
                    }
                    continue;
                }
                Told::Changed(changed) => changed.record,
                Told::Synced | Told::Compacted(_) | Told::Ahead { .. } => continue,
            };
            if let Some(connection) = &mut self.connection {
                let before = connection.last.insert(record.name().clone(), record.clone());
                if let Some(before) = before.filter(|before| before.order(&record).is_gt()) {
                    return Err(format!("{record:?} after {before:?}"));
                }
            }
            // a node that is behind may tell what is older
            if self.state.view.get(record.name()).is_none_or(|held| held.order(&record).is_lt()) {
                self.state.view.insert(record.name().clone(), record);
            }
        }
        Ok(())
    }

    /// The scan of a view that began empty has done these names at a node with this set. It tells no delete, because
    /// the view needs none. A delete that the node holds, and goes on to hold, counts as told.
    pub(super) fn pass(&mut self, set: &Set, is_done: impl Fn(&Name) -> bool) {
        let scope = &self.subscription.scope;
        let is_delete = |record: &&Record| {
            record.kind() == Kind::Tombstone
                && record.last_sync() >= set.horizon()
                && is_done(record.name())
                && scope.has(record.name())
        };
        for gone in (0..set.stretches()).flat_map(|index| set.stretch(index)).filter(is_delete) {
            self.state.view.entry(gone.name().clone()).or_insert_with(|| gone.clone());
        }
    }

    /// Honesty: of each write that the cursor claims the view has at least that, or nothing and the name was deleted
    /// below a horizon, of which `horizon` is the latest that is allowed.
    pub(super) fn check(&self, history: &History, horizon: Stamp) -> Result<(), String> {
        let Some(cursor) = self.state.cursor.as_ref().filter(|cursor| cursor.scan.is_none()) else {
            return Ok(());
        };
        let claimed = |write: &Record| cursor.vector.claims(write.dot());
        let in_scope = |write: &&Record| self.subscription.scope.has(write.name());
        for write in history.all().filter(|write| claimed(write)).filter(in_scope) {
            let fine = match self.state.view.get(write.name()) {
                Some(held) => held.order(write).is_ge(),
                None => history.is_removed(write, horizon),
            };
            if !fine {
                let held = self.state.view.get(write.name());
                return Err(format!("{cursor:?} claims {write:?}, was told {held:?}"));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::record::Incarnation;
    use crate::core::testing::{at, name, version};

    /// Writes of a name by two processes: a value at 5 and one at 7 by the first, deletes at 6 and 8 by the other.
    fn writes() -> [Record; 4] {
        let dot = |process, sequence| Dot { incarnation: Incarnation(process), sequence };
        let value = |micros, dot| Record::value(name("x"), &version("v"), b"", at(micros), dot);
        let delete = |micros, dot| Record::tombstone(name("x"), at(micros), dot);
        [value(5, dot(1, 1)), delete(6, dot(2, 1)), value(7, dot(1, 2)), delete(8, dot(2, 2))]
    }

    /// What the check says of a reader whose cursor claims so many writes of the first process, and whose scan has done
    /// these names at a node that holds the delete at 6.
    fn checked(claimed: u64, horizon: Stamp, is_done: impl Fn(&Name) -> bool) -> Result<(), String> {
        let (mut history, mut set) = (History::default(), Set::new([0; 16]));
        for write in writes() {
            history.accepted(&write, None, true, at(9)).unwrap();
        }
        writes()[..2].iter().for_each(|write| {
            set.merge(write);
        });
        let mut reader = Watcher::new(&mut Random::new(1, 1), Mode::Latest);
        reader.subscription = Arc::new(Subscription::latest(Scope::all()));
        let mut vector = Vector::default();
        vector.raise(Incarnation(1), claimed);
        let subscription = reader.subscription.hash();
        reader.state.cursor =
            Some(Cursor { set: 0, subscription, vector, reflected: Stamp::ZERO, at: None, scan: None });
        reader.pass(&set, is_done);
        reader.check(&history, horizon)
    }

    #[test]
    fn a_delete_that_a_scan_has_passed_counts_as_told_and_no_other_one() {
        checked(1, Stamp::ZERO, |_| true).unwrap();
        assert!(
            checked(1, Stamp::ZERO, |_| false).is_err(),
            "the node held the value when the scan was there"
        );
        assert!(checked(2, Stamp::ZERO, |_| true).is_err(), "the delete at 8 was not there");
        checked(2, at(9), |_| false).unwrap();
        assert!(checked(2, at(8), |_| false).is_err(), "no node has forgotten the delete at 8");
    }
}
