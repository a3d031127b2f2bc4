//! Readers with feeds: they follow all names or some of them, lose their connections, crash, and go on at other nodes.

use std::sync::Arc;

use super::feed_collector::scanned;
use super::feed_reader::{Connection, State, Watcher};
use super::world::{Event, World, latest_horizon, process_at};
use crate::core::feed::{Budget, Compacted, Event as Told, Feed, Mode, Start};
use crate::core::set::Cell;
use crate::core::{Kind, NodeState, Record};

/// The promises of [`crate::core::feed`].
const HONEST: &str = "honest cursors";
const NEVER_BACK: &str = "a feed never goes back";
const NOTHING_UNTOLD: &str = "nothing untold";
const COMPLETE: &str = "complete feeds";
const ONCE: &str = "told once";

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
                watcher.state = watcher.stored.clone();
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

    /// Tells a watcher at most about so many names, at the node that it is connected to, or else at any ready one.
    /// Returns whether there is no more to tell now.
    fn tell(&mut self, watcher: &mut Watcher, at_most: usize) -> bool {
        self.tell_at(watcher, at_most, None)
    }

    /// All watchers connect to a node, and are told all that it has.
    pub(super) fn tell_all(&mut self, slot: usize) {
        let mut watchers = std::mem::take(&mut self.watchers);
        for watcher in &mut watchers {
            watcher.connection = None;
            while !self.tell_at(watcher, 1_000, Some(slot)) && self.violation.is_none() {}
        }
        self.watchers = watchers;
    }

    /// All watchers connect to a node, and are told a part of what it has: at most about so many names.
    pub(super) fn tell_some(&mut self, slot: usize, at_most: usize) {
        let mut watchers = std::mem::take(&mut self.watchers);
        for watcher in &mut watchers {
            watcher.connection = None;
            self.tell_at(watcher, at_most, Some(slot));
        }
        self.watchers = watchers;
    }

    /// As [`World::tell`]. A watcher without a connection connects to this node, if one is given.
    fn tell_at(&mut self, watcher: &mut Watcher, at_most: usize, node: Option<usize>) -> bool {
        let is_ready = |world: &Self, slot: usize, life: Option<u32>| {
            process_at(&world.processes, &world.mirrors, slot).is_some_and(|process| {
                process.replica.state() == NodeState::Ready && life.is_none_or(|life| life == process.life)
            })
        };
        if let Some(Connection { slot, life, .. }) = watcher.connection
            && !is_ready(self, slot, Some(life))
        {
            watcher.connection = None;
        }
        if watcher.connection.is_none() {
            let mirrors = if watcher.is_plain && self.stormy { self.mirrors.len() } else { 0 };
            let slots = 0..self.plan.nodes + mirrors;
            let ready: Vec<usize> = slots.filter(|slot| is_ready(self, *slot, None)).collect();
            if ready.is_empty() {
                return false;
            }
            // now and then the process that it was at
            let same = watcher
                .state
                .cursor
                .as_ref()
                .and_then(|cursor| cursor.at)
                .and_then(|(process, _)| self.homes.get(&process));
            let same = same.copied().filter(|slot| ready.contains(slot) && self.watch_random.chance(4_000));
            let slot = node.or(same).unwrap_or(ready[self.watch_random.index(ready.len())]);
            let Some(process) = process_at(&self.processes, &self.mirrors, slot) else { return false };
            let reflected = process.replica.reflected(&process.store, process.clock.now(self.now_us));
            let store = &process.store;
            let is_ahead =
                watcher.state.cursor.as_ref().is_some_and(|cursor| Feed::ahead_by(store, cursor) > 0);
            // it waits for a while, and does not know whether the node will ever get there
            if is_ahead && self.stormy && self.watch_random.chance(7_000) {
                return false;
            }
            if watcher.begins_now && watcher.state.cursor.is_none() {
                watcher.begin_now(store.set(), process.witness.claimed());
            }
            let first = if watcher.begins_now { Start::Now } else { Start::Oldest };
            let start = watcher.state.cursor.as_ref().map_or(first, |cursor| match is_ahead {
                true => Start::Ahead(cursor),
                false => Start::Cursor(cursor),
            });
            let feed = Feed::open(store, reflected, Arc::clone(&watcher.subscription), start);
            watcher.state.collected.disconnected();
            watcher.connection = Some(Connection::new(slot, process.life, feed));
            self.work.resumes += 1;
        }
        let Some(connection) = &mut watcher.connection else { return false };
        let Some(process) = process_at(&self.processes, &self.mirrors, connection.slot) else { return false };
        let reflected = process.replica.reflected(&process.store, process.clock.now(self.now_us));
        let slice =
            connection.feed.next(&process.store, reflected, Budget { names: at_most, bytes: usize::MAX });
        let before = watcher.state.cursor.replace(connection.feed.cursor(&process.store));
        let slot = connection.slot;
        let (number, events, after) = (watcher.number, &slice.events, &watcher.state.cursor);
        self.trace.line(
            self.now_us,
            format_args!("w{number} is told {} events by n{slot}, and has {after:?}", events.len()),
        );
        for event in events {
            match event {
                Told::Reset(_) => self.work.resets += 1,
                Told::Compacted(Compacted::Unknown) => self.work.gaps_of_all += 1,
                Told::Compacted(_) => self.work.gaps += 1,
                Told::Changed(_) | Told::Synced | Told::Ahead { .. } => {}
            }
        }
        self.work.told += events.len() as u64;
        let mirror = slot.checked_sub(self.plan.nodes).and_then(|index| self.mirrors.get(index)?.as_ref());
        let views = mirror.map_or(0, |mirror| mirror.views);
        let once = connection.hear(events, process.store.set(), views).map_err(|detail| (ONCE, detail));
        let told = match watcher.subscription.mode {
            Mode::Latest => {
                let Some(after) = watcher.state.cursor.clone() else { return false };
                let done = scanned(&slice.events, before.as_ref(), &after);
                let heard = watcher.hear(slice.events).map_err(|detail| (NEVER_BACK, detail));
                if let Some(is_done) = done {
                    watcher.pass(process.store.set(), is_done);
                }
                // it takes as long as there are writes
                let is_left_out = slice.more && self.watch_random.chance(8_000);
                let horizon = latest_horizon(self.now_us, &self.plan);
                let checked = if is_left_out { Ok(()) } else { watcher.check(&self.history, horizon) };
                heard.and(checked.map_err(|detail| (HONEST, detail)))
            }
            Mode::All => {
                let Watcher { state: State { collected, cursor, .. }, subscription, .. } = watcher;
                let Some(cursor) = cursor else { return false };
                let cursors = (before.as_ref(), &*cursor);
                let node = (process.store.set(), process.witness.claimed());
                self.work.told_twice +=
                    collected.hear(slice.events, node, subscription, &self.history, cursors);
                let checked = collected.check(cursor, subscription, &self.history);
                checked.map_err(|detail| (NOTHING_UNTOLD, detail))
            }
        };
        if let Err((rule, detail)) = told.and(once) {
            self.broken(rule, format!("told by n{slot}: {detail}"));
        }
        if self.watch_random.chance(3_000) {
            watcher.stored = watcher.state.clone();
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
            if watcher.subscription.mode == Mode::All {
                let of_names = (0..set.stretches()).flat_map(|i| set.stretch(i)).map(Record::name);
                let in_scope = of_names.filter(|name| watcher.subscription.scope.has(name));
                let records = in_scope.flat_map(|name| set.history(name)).map(Cell::record);
                let unknown = { records }.find(|record| !watcher.state.collected.knows(record)).cloned();
                if let Some(unknown) = unknown {
                    return self
                        .broken(COMPLETE, format!("a reader of every record was not told {unknown:?}"));
                }
                continue;
            }
            // a write that was told by a process, or a delete because of which it told nothing, is lost if the process
            // then died before it pushed it, or said that it has told it
            let claimed = watcher.state.cursor.as_ref().map(|cursor| &cursor.vector);
            let is_lost = |held: &Record| {
                !process.store.vector().claims(held.dot())
                    && !claimed.is_some_and(|claimed| claimed.claims(held.dot()))
            };
            let is_value = |record: &&Record| record.kind() == Kind::Value;
            let standing = (0..set.stretches()).flat_map(|index| set.stretch(index)).filter(is_value);
            let scope = &watcher.subscription.scope;
            let lacks = { standing }.filter(|record| scope.has(record.name())).find(|record| {
                let held = watcher.state.view.get(record.name());
                held.is_none_or(|held| held.order(record).is_ne() && !is_lost(held))
            });
            // of a value that the horizon removes when it has ended a reader is told no delete: it knows the end
            let is_over = |held: &Record| held.end().is_some_and(|end| end < set.horizon());
            let values = watcher
                .state
                .view
                .values()
                .filter(|held| held.kind() == Kind::Value && !is_lost(held) && !is_over(held));
            let too_much =
                { values }.find(|held| set.get(held.name()).is_none_or(|record| record.order(held).is_ne()));
            if lacks.is_some() || too_much.is_some() {
                let detail = format!("a view lacks {lacks:?}, or has {too_much:?}");
                return self.broken(COMPLETE, detail);
            }
        }
    }
}
