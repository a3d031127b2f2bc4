//! Readers with feeds: they follow all names or some of them, lose their connections, crash, and go on at other nodes.

use std::collections::BTreeMap;

use super::feed_reader::{Connection, Watcher};
use super::world::{Event, World};
use crate::core::feed::{Event as Told, Feed};
use crate::core::{Kind, NodeState, Record};

/// The promises of [`crate::core::feed`].
const HONEST: &str = "honest cursors";
const NEVER_BACK: &str = "a feed never goes back";
const COMPLETE: &str = "complete feeds";

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
                .and_then(|(process, _)| self.homes.get(&process));
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
            let is_value = |record: &&Record| record.kind() == Kind::Value;
            let standing = (0..set.stretches()).flat_map(|index| set.stretch(index)).filter(is_value);
            let lacks = { standing }.filter(|record| watcher.scope.has(record.name())).find(|record| {
                let held = watcher.view.get(record.name());
                held.is_none_or(|held| held.order(record).is_ne() && !is_lost(held))
            });
            // of a log the end of a record is not told
            let is_told = |held: &&Record| held.kind() == Kind::Value && !held.name().is_log();
            let values = watcher.view.values().filter(is_told).filter(|held| !is_lost(held));
            let too_much =
                { values }.find(|held| set.get(held.name()).is_none_or(|record| record.order(held).is_ne()));
            if lacks.is_some() || too_much.is_some() {
                let detail = format!("a view lacks {lacks:?}, or has {too_much:?}");
                return self.broken(COMPLETE, detail);
            }
        }
    }
}
