//! Simulated disks: what a process saves, and what its successor does with it.

use super::checks::Witness;
use super::plan::{SECOND_US, name};
use super::saved::{BACKUPS, Disk, Saved};
use super::world::{Event, Process, World};
use crate::core::effects::SetChange;
use crate::core::mutants::Mutant;
use crate::core::record::Record;
use crate::core::saved::{DiskTask, SavedSet};
use crate::core::vector::Vector;
use crate::core::{Kind, Registers, Stamp};

impl World {
    /// Whether nodes have disks.
    fn has_disks(&self) -> bool {
        self.plan.save_every_us > 0
    }

    /// A process saves what it has, and schedules the next time.
    pub(super) fn save(&mut self, slot: usize, life: u32) {
        if self.processes[slot].as_ref().is_none_or(|process| process.life != life) {
            return;
        }
        self.save_now(slot);
        let us = 1 + self.disk_random.below(2 * self.plan.save_every_us);
        self.after(us, Event::Save { slot, life });
    }

    /// A process saves what it has, if it has joined a set.
    pub(super) fn save_now(&mut self, slot: usize) {
        let mutants = self.plan.mutants();
        let Some(process) = self.processes[slot].as_mut() else { return };
        if !process.replica.is_joined() {
            return;
        }
        let now = process.clock.now(self.now_us);
        let store = &process.store;
        let mut set = SavedSet {
            genesis: store.genesis(),
            vector: store.vector().clone(),
            registers: store.registers(),
            reflected: process.replica.reflected_to_save(store, now),
            committed: now.wall,
            names: store.set().root().count,
        };
        let disk = &mut self.disks[slot];
        if self.disk_random.chance(500)
            && let Some(before) = &disk.saved
        {
            if disk.backups.len() >= BACKUPS {
                disk.backups.remove(0);
            }
            disk.backups.push(before.clone());
        }
        let mut names = disk.saved.take().map(|saved| saved.names).unwrap_or_default();
        let save = process.store.take_unsaved();
        let mut changed = save.names;
        if save.lost {
            names.clear();
            changed =
                (0..process.store.set().stretches()).flat_map(|i| process.store.unsaved_stretch(i)).collect();
        }
        if mutants.has(Mutant::SavedWithoutHorizon) {
            set.registers.gc_horizon = Stamp::ZERO;
        }
        if mutants.has(Mutant::SavedVectorLate) {
            std::mem::swap(&mut changed, &mut disk.late);
        }
        if mutants.has(Mutant::SaveLosesChanges) {
            let random = &mut self.disk_random;
            changed.retain(|_| !random.chance(1_000));
        }
        for (name, records) in changed {
            match records.is_empty() {
                true => drop(names.remove(&name)),
                false => drop(names.insert(name, records)),
            }
        }
        let saved = Saved { set, names };
        // it takes as long as all other work of a save
        let is_checked =
            self.plan.mutant.is_none() && saved.names.len() <= 150 && self.faults.saves.is_multiple_of(10);
        let differs =
            is_checked && save.digest.is_some_and(|digest| digest != saved.digest(self.plan.leaf_bits));
        disk.saved = Some(saved);
        if differs {
            self.broken("what is saved is what is held", format!("n{slot} has saved another set"));
        }
        self.faults.saves += 1;
    }

    /// A process starts with the disk of its predecessor: now and then with a backup of it, or with an empty one.
    pub(super) fn start_with_disk(&mut self, slot: usize, life: u32) {
        if !self.has_disks() {
            return;
        }
        if let Some(process) = self.processes[slot].as_mut() {
            process.store.note_changes();
        }
        let disk = &mut self.disks[slot];
        match self.disk_random.below(100) {
            0..8 => *disk = Disk::default(),
            8..20 if !disk.backups.is_empty() => {
                let index = self.disk_random.index(disk.backups.len());
                disk.saved = Some(disk.backups[index].clone());
                self.faults.backups += 1;
            }
            _ => {}
        }
        self.restore(slot);
        let us = self.disk_random.below(2 * self.plan.save_every_us);
        self.after(us, Event::Save { slot, life });
    }

    fn restore(&mut self, slot: usize) {
        let (Some(saved), Some(process)) = (&self.disks[slot].saved, self.processes[slot].as_mut()) else {
            return;
        };
        let set = &saved.set;
        self.trace.line(
            self.now_us,
            format_args!(
                "n{slot} has {} names on its disk: saved at {}, reflects {}, {:?}",
                saved.names.len(),
                set.committed,
                set.reflected,
                set.registers
            ),
        );
        process.replica.restore(&process.store, set.clone());
        self.faults.restored += 1;
    }

    /// Keeps what a node has saved as its only backup.
    fn keep_backup(&mut self, slot: usize) {
        self.save_now(slot);
        let disk = &mut self.disks[slot];
        disk.backups = disk.saved.iter().cloned().collect();
    }

    /// Starts a process with its disk as it is.
    fn start_restored(&mut self, slot: usize) {
        let disk = std::mem::take(&mut self.disks[slot]);
        self.start(slot);
        self.disks[slot] = disk;
        self.restore(slot);
    }

    /// Starts a process with the backup of its disk.
    fn start_with_backup(&mut self, slot: usize) {
        self.disks[slot].saved = self.disks[slot].backups.first().cloned();
        self.start_restored(slot);
    }

    /// Starts a process with an empty disk.
    fn start_empty(&mut self, slot: usize) {
        self.disks[slot] = Disk::default();
        self.start(slot);
    }

    /// Node 3 is cut off for longer than deletes are remembered, and saves what it has all the time. A name that it
    /// holds is deleted meanwhile. Then it is restarted: when it saved is not what it reflects.
    pub(super) fn outdated(&mut self) {
        self.write_value(0, "deleted");
        self.pass(5 * SECOND_US);
        let cut_us = 9 * self.plan.grace_us;
        self.cut_off(3, cut_us);
        self.pass(SECOND_US);
        self.accept(0, &name("deleted"), None, None);
        self.pass(cut_us - 2 * SECOND_US);
        self.save_now(3);
        self.kill(3);
        self.pass(2 * SECOND_US);
        self.start_restored(3);
        self.pass(5 * SECOND_US);
        self.expect_gone("deleted");
    }

    /// Nodes 2 and 3 begin again behind a cut: node 3 with an old backup, which it serves alone in the end, and node 2
    /// empty, which takes it over. A name in the backup was deleted, and the others have forgotten that. When the cut
    /// is mended neither brings it back, and what was written behind the cut stays.
    pub(super) fn revived(&mut self) {
        self.write_value(0, "deleted");
        self.pass(5 * SECOND_US);
        self.keep_backup(3);
        let backups = std::mem::take(&mut self.disks[3].backups);
        self.leave(3);
        self.accept(0, &name("deleted"), None, None);
        self.pass(3 * self.plan.grace_us);
        self.leave(2);
        self.pass(SECOND_US);
        let pairs = [0, 1].into_iter().flat_map(|a| [2, 3].map(|b| (a, b)));
        let cuts = pairs.flat_map(|(a, b)| [(a, b), (b, a)]).collect();
        let grace_us = self.plan.grace_us;
        self.cut("halves", cuts, 30 * SECOND_US + 3 * grace_us);
        self.disks[3].backups = backups;
        self.start_with_backup(3);
        self.start_empty(2);
        self.pass(25 * SECOND_US);
        self.expect_ready(&[2, 3]);
        // a write of each node that the other one deletes, in time to be forgotten beyond the cut
        for (at, by) in [(2, 3), (3, 2)] {
            let text = format!("deleted since at {by}");
            self.write_value(at, &text);
            self.pass(2 * SECOND_US);
            self.accept(by, &name(&text), None, None);
        }
        self.pass(3 * grace_us - 4 * SECOND_US);
        self.write_value(2, "since at 2");
        self.write_value(3, "since at 3");
        self.pass(15 * SECOND_US);
        for text in ["deleted", "deleted since at 2", "deleted since at 3"] {
            self.expect_gone(text);
        }
        for text in ["since at 2", "since at 3"] {
            self.expect_value(text);
        }
    }

    /// All nodes end and begin another set without their disks; then one of them starts with the disk of the first set,
    /// which is older. The set that is served stays.
    pub(super) fn rivals(&mut self) {
        self.write_value(0, "of the first set");
        self.pass(5 * SECOND_US);
        self.keep_backup(3);
        let backups = std::mem::take(&mut self.disks[3].backups);
        self.kill_all();
        self.pass(30 * SECOND_US);
        (0..4).for_each(|slot| self.start_empty(slot));
        self.pass(15 * SECOND_US);
        self.expect_ready(&[0, 1, 2, 3]);
        let served = self.processes[0].as_ref().map(|process| process.store.genesis().key);
        self.write_value(1, "of the second set");
        self.pass(3 * SECOND_US);
        self.kill(3);
        self.pass(10 * SECOND_US);
        self.disks[3].backups = backups;
        self.start_with_backup(3);
        self.pass(20 * SECOND_US);
        self.expect_value("of the second set");
        let stays = |process: &Process| Some(process.store.genesis().key) == served;
        if !self.processes.iter().flatten().all(stays) {
            self.broken("a served set wins", "the saved one is served".to_owned());
        }
    }

    /// All nodes end at once while they take writes, and start again at different times: node 2 with an old backup, and
    /// node 3 without its disk. What any other disk had is there again.
    pub(super) fn outage(&mut self) {
        for i in 0..60 {
            let slot = self.disk_random.index(4);
            let text = format!("name/{}", i % 25);
            match self.disk_random.chance(2_000) {
                true => _ = self.accept(slot, &name(&text), None, None),
                false => self.write_value(slot, &text),
            }
            self.pass(SECOND_US / 4);
            if i == 20 {
                self.keep_backup(2);
            }
        }
        let backups: Vec<_> = self.disks[2].backups.first().cloned().into_iter().collect();
        self.kill_all();
        let written: Vec<Record> = self.history.all().cloned().collect();
        let mut saved = Vector::default();
        for disk in &self.disks[..2] {
            disk.saved.iter().for_each(|saved_set| saved.join(&saved_set.set.vector));
        }
        self.pass(10 * SECOND_US);
        // these may lack deletes that another one has forgotten
        let saved_sets = || {
            [&self.disks[0], &self.disks[1]]
                .into_iter()
                .filter_map(|disk| disk.saved.as_ref())
                .chain(&backups)
        };
        let horizon = saved_sets().map(|saved| saved.set.registers.gc_horizon).max();
        let outdated = saved_sets().filter(|saved| Some(saved.set.reflected) < horizon).count() as u64;
        self.disks[2].backups = backups.clone();
        let set_aside = self.faults.set_aside;
        let mut order = [0, 1, 2, 3];
        (1..4).for_each(|i| order.swap(i, self.disk_random.index(i + 1)));
        for slot in order {
            match slot {
                2 => self.start_with_backup(2),
                3 => self.start_empty(3),
                slot => self.start_restored(slot),
            }
            let us = self.disk_random.below(3 * SECOND_US);
            self.pass_with_losses(us, &saved);
        }
        self.pass_with_losses(60 * SECOND_US, &saved);
        self.expect_ready(&[0, 1, 2, 3]);
        self.expect_no_reader_waits(&written);
        if self.faults.set_aside - set_aside > outdated {
            let detail = format!("{} nodes set theirs aside", self.faults.set_aside - set_aside);
            return self.broken("what is whole is proven", detail);
        }
        let unproven = |process: &Process| process.store.unproven().is_some();
        if let Some(slot) = self.processes.iter().flatten().position(unproven) {
            return self.broken("what is whole is proven", format!("n{slot} is not"));
        }
        for slot in 0..4 {
            let Some(process) = self.processes[slot].as_ref() else { continue };
            let lost = saved.iter().find_map(|(process_id, upto)| {
                let writes = self.history.of(process_id, 0, upto);
                writes.iter().find(|write| !self.history.reflected(process.store.set(), write)).cloned()
            });
            if let Some(lost) = lost {
                return self.broken("what was saved stays", format!("n{slot} lacks {lost:?}"));
            }
        }
        self.write_value(0, "after it");
    }

    /// Time passes, and no node says of a write that a disk has that it is lost while it lacks the write.
    fn pass_with_losses(&mut self, us: u64, saved: &Vector) {
        for _ in 0..=us / (SECOND_US / 4) {
            self.pass(SECOND_US / 4);
            for (slot, process) in self.processes.iter().enumerate() {
                let Some(process) = process else { continue };
                let (set, lost) = (process.store.set(), process.store.registers().lost);
                let is_wrong =
                    |write: &&Record| lost.covers(write.last_sync()) && !self.history.reflected(set, write);
                let wrong = saved.iter().find_map(|(process_id, upto)| {
                    self.history.of(process_id, 0, upto).iter().find(is_wrong).cloned()
                });
                if let Some(write) = wrong {
                    return self.broken("what is held is not lost", format!("n{slot}: {write:?}"));
                }
            }
        }
    }

    /// No node lets a reader wait that has seen any of these writes.
    fn expect_no_reader_waits(&mut self, written: &[Record]) {
        for (slot, process) in self.processes.iter().enumerate() {
            let Some(process) = process else { continue };
            let Registers { gc_horizon, lost, .. } = process.store.registers();
            let waits = |write: &&Record| {
                let (name, seen) = (write.name(), write.last_sync());
                process.store.get(name).is_none_or(|held| held.last_sync() < seen)
                    && !lost.covers(seen)
                    && !process.store.genesis().is_after(seen)
                    && !self.history.is_removed(write, gc_horizon)
            };
            if let Some(write) = written.iter().find(waits) {
                let detail = format!("n{slot} has lost {lost:?}, and a reader saw {write:?}");
                return self.broken("no reader waits for what is lost", detail);
            }
        }
    }

    fn kill_all(&mut self) {
        for slot in 0..self.processes.len() {
            self.kill(slot);
        }
    }

    fn write_value(&mut self, slot: usize, text: &str) {
        self.accept(slot, &name(text), Some((&"v".to_owned(), &Vec::new())), None);
    }

    /// No node has a value of this name.
    fn expect_gone(&mut self, text: &str) {
        self.expect(text, "a delete stays deleted", |record| {
            record.is_none_or(|r| r.kind() == Kind::Tombstone)
        });
    }

    /// Each node has a value of this name.
    fn expect_value(&mut self, text: &str) {
        self.expect(text, "a write is not lost", |record| record.is_some_and(|r| r.kind() == Kind::Value));
    }

    fn expect(&mut self, text: &str, rule: &'static str, is_right: impl Fn(Option<Record>) -> bool) {
        let held = |process: &Process| process.store.get(&name(text));
        let is_wrong = |process: &Option<Process>| process.as_ref().is_none_or(|p| !is_right(held(p)));
        if let Some(slot) = self.processes.iter().position(is_wrong) {
            let held = self.processes[slot].as_ref().map(held);
            self.broken(rule, format!("n{slot} has {held:?} of {text}"));
        }
    }

    /// Carries out the tasks of a process for its disk.
    pub(super) fn use_disk(&mut self, slot: usize, tasks: Vec<DiskTask>) {
        for task in tasks {
            let Some(process) = self.processes[slot].as_mut() else { return };
            self.trace.line(self.now_us, format_args!("n{slot}: {task:?}"));
            match task {
                DiskTask::Load => {
                    let life = process.life;
                    let us = 1 + self.disk_random.below(SECOND_US / 2);
                    self.after(us, Event::Load { slot, life });
                }
                DiskTask::SetAside(_) => {
                    self.disks[slot].saved = None;
                    // what it held before it joins again is no promise any more
                    let mut witness = Witness::default();
                    let standing = standing(process);
                    let registers = process.store.registers();
                    if let Err((rule, detail)) = witness.changed(standing, registers) {
                        self.broken(rule, format!("n{slot}: {detail}"));
                    } else if let Some(process) = self.processes[slot].as_mut() {
                        process.witness = witness;
                    }
                    self.faults.set_aside += 1;
                }
            }
        }
    }

    /// The records of a disk are loaded, in two parts.
    pub(super) fn load(&mut self, slot: usize, life: u32) {
        let (Some(saved), Some(process)) = (&self.disks[slot].saved, self.processes[slot].as_mut()) else {
            return;
        };
        if process.life != life {
            return;
        }
        let now = process.clock.now(self.now_us);
        let records = saved.records();
        // no name is in two parts
        let middle = records.len() / 2;
        let name = records.get(middle).map(Record::name);
        let end = records[middle..].iter().take_while(|record| Some(record.name()) == name).count();
        let (first, second) = records.split_at(middle + end);
        let goes_on = process.replica.load(&mut process.store, now, first)
            && process.replica.load(&mut process.store, now, second);
        if goes_on {
            process.replica.loaded(&mut process.store, now);
            self.faults.loaded += 1;
        }
        self.carry_out(slot);
    }
}

/// The changes that make the set of a process of an empty one.
fn standing(process: &Process) -> Vec<SetChange> {
    let set = process.store.set();
    let records = (0..set.stretches()).flat_map(|index| set.stretch(index));
    records.map(|record| SetChange::Merged { record: record.clone(), previous: None }).collect()
}
