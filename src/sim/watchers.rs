//! Readers with feeds: they follow all names or some of them, lose their connections, crash, and go on at other nodes.

use std::collections::BTreeMap;

use super::checks::History;
use super::random::Random;
use super::world::{Event, World};
use crate::core::feed::{Cursor, Event as Told, Feed, Scope};
use crate::core::{Kind, Name, NodeState, Record};

/// A reader and its view.
#[derive(Debug)]
pub(super) struct Watcher {
    number: u64,
    scope: Scope,
    view: BTreeMap<Name, Record>,
    cursor: Option<Cursor>,
    /// View and cursor as they were stored together: what is left after a crash.
    stored: (BTreeMap<Name, Record>, Option<Cursor>),
    connection: Option<Connection>,
}

#[derive(Debug)]
struct Connection {
    slot: usize,
    life: u32,
    feed: Feed,
    /// The last record of each name that was told, since it began or was reset.
    last: BTreeMap<Name, Record>,
}

/// The promises of [`crate::core::feed`].
const HONEST: &str = "honest cursors";
const NEVER_BACK: &str = "a feed never goes back";
const COMPLETE: &str = "complete feeds";

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
    fn hear(&mut self, told: Vec<Told>) -> Result<(), String> {
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
    fn check(&self, history: &History) -> Result<(), String> {
        let Some(cursor) = self.cursor.as_ref().filter(|cursor| cursor.scan.is_none()) else { return Ok(()) };
        let claimed = |write: &Record| cursor.vector.claims(write.dot());
        for write in history.all().filter(|write| claimed(write) && self.scope.has(write.name())) {
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

impl World {
    /// A watcher connects, or is told more, or is cut off, or crashes.
    pub(super) fn watch_some(&mut self) {
        if !self.stormy || self.watchers.is_empty() {
            return;
        }
        let index = self.watch_random.index(self.watchers.len());
        let mut watcher = self.watchers.swap_remove(index);
        match self.watch_random.below(100) {
            0..8 => watcher.connection = None,
            8..12 => {
                watcher.connection = None;
                (watcher.view, watcher.cursor) = watcher.stored.clone();
            }
            _ => {
                let at_most = self.watch_random.within(1, 40) as usize;
                self.tell(&mut watcher, at_most);
            }
        }
        self.watchers.push(watcher);
        let us = self.watch_random.below(2 * self.plan.watch_every_us);
        self.after(us, Event::Watch);
    }

    /// Tells a watcher at most about so many names, at the node that it is connected to, or else at any ready one. Returns
    /// whether there is no more to tell now.
    fn tell(&mut self, watcher: &mut Watcher, at_most: usize) -> bool {
        let is_ready = |world: &Self, slot: usize, life: Option<u32>| {
            world.processes[slot].as_ref().is_some_and(|process| {
                process.replica.state() == NodeState::Ready && life.is_none_or(|life| life == process.life)
            })
        };
        if let Some(Connection { slot, life, .. }) = watcher.connection
            && !is_ready(self, slot, Some(life))
        {
            watcher.connection = None;
        }
        if watcher.connection.is_none() {
            let ready: Vec<usize> = (0..self.plan.nodes).filter(|slot| is_ready(self, *slot, None)).collect();
            if ready.is_empty() {
                return false;
            }
            // now and then the process that it was at
            let same = watcher
                .cursor
                .as_ref()
                .and_then(|cursor| cursor.at)
                .and_then(|(who, _)| self.homes.get(&who));
            let same = same.copied().filter(|slot| ready.contains(slot) && self.watch_random.chance(4_000));
            let slot = same.unwrap_or(ready[self.watch_random.index(ready.len())]);
            let Some(process) = self.processes[slot].as_ref() else { return false };
            let reflected = process.replica.reflected(&process.store, process.clock.now(self.now_us));
            let (store, scope) = (&process.store, watcher.scope.clone());
            let is_ahead = watcher.cursor.as_ref().is_some_and(|cursor| Feed::is_ahead(store, cursor));
            // it waits for a while, and does not know whether the node will ever get there
            if is_ahead && self.stormy && self.watch_random.chance(7_000) {
                return false;
            }
            let feed = match is_ahead {
                true => Feed::behind(store, reflected, scope),
                false => Feed::resume(store, reflected, scope, watcher.cursor.as_ref()),
            };
            watcher.connection = Some(Connection { slot, life: process.life, feed, last: BTreeMap::new() });
            self.work.resumes += 1;
        }
        let Some(connection) = &mut watcher.connection else { return false };
        let Some(process) = self.processes[connection.slot].as_ref() else { return false };
        let reflected = process.replica.reflected(&process.store, process.clock.now(self.now_us));
        let slice = connection.feed.next(&process.store, reflected, at_most);
        watcher.cursor = Some(connection.feed.cursor(&process.store));
        let slot = connection.slot;
        let (number, events, after) = (watcher.number, slice.events.len(), &watcher.cursor);
        self.trace.line(
            self.now_us,
            format_args!("w{number} is told {events} events by n{slot}, and has {after:?}"),
        );
        self.work.resets +=
            slice.events.iter().filter(|event| matches!(event, Told::Reset(_))).count() as u64;
        self.work.told += slice.events.len() as u64;
        let heard = watcher.hear(slice.events).map_err(|detail| (NEVER_BACK, detail));
        // it takes as long as there are writes
        let checked = if slice.more && self.watch_random.chance(8_000) {
            Ok(())
        } else {
            watcher.check(&self.history).map_err(|detail| (HONEST, detail))
        };
        if let Err((rule, detail)) = heard.and(checked) {
            self.broken(rule, format!("told by n{slot}: {detail}"));
        }
        if self.watch_random.chance(3_000) {
            watcher.stored = (watcher.view.clone(), watcher.cursor.clone());
        }
        !slice.more
    }

    /// At the end, when all nodes agree, each watcher resumes at some node, and its view is that of all nodes.
    pub(super) fn finish_watchers(&mut self) {
        for mut watcher in std::mem::take(&mut self.watchers) {
            watcher.connection = None;
            let mut slices = 0;
            while !self.tell(&mut watcher, 1_000) {
                slices += 1;
                if slices > 10_000 || self.violation.is_some() {
                    return self.broken(COMPLETE, "a feed has no end".to_owned());
                }
            }
            let Some(process) = self.processes.iter().flatten().next() else { return };
            let set = process.store.set();
            // a write that was told by a process which then died before it pushed it, or said that it has told it, is lost
            let is_lost = |held: &Record| !process.store.vector().claims(held.dot());
            let lacks =
                set.list(b"", None).filter(|record| watcher.scope.has(record.name())).find(|record| {
                    let held = watcher.view.get(record.name());
                    held.is_none_or(|held| held.order(record).is_ne() && !is_lost(held))
                });
            let values = watcher.view.values().filter(|held| held.kind() == Kind::Value && !is_lost(held));
            let too_much =
                { values }.find(|held| set.get(held.name()).is_none_or(|record| record.order(held).is_ne()));
            if lacks.is_some() || too_much.is_some() {
                let detail = format!("a view lacks {lacks:?}, or has {too_much:?}");
                return self.broken(COMPLETE, detail);
            }
        }
    }
}
