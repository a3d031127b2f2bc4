//! The storm of a world: writes, reads and faults.

use super::checks::Seen;
use super::plan::SECOND_US;
use super::world::{Event, Process, World};
use crate::core::limits::{LEAST_LIFE_US, LIFE_PART_OF_GRACE};
use crate::core::record::Kind;
use crate::core::store::{Change, Stamping, Written};
use crate::core::{Condition, Evaluation, KnownVersion, Name, Namespace, NodeState, Record, Stamp, Version};

impl World {
    fn ready(&self) -> Vec<usize> {
        let ready = self.processes.iter().enumerate().filter(|(_, process)| {
            process.as_ref().is_some_and(|process| process.replica.state() == NodeState::Ready)
        });
        ready.map(|(slot, _)| slot).collect()
    }

    fn some_name(&mut self) -> Name {
        // a fifth of all goes to three hot names
        let among = if self.random.chance(2_000) { 3.min(self.plan.names) } else { self.plan.names };
        let number = self.random.below(among);
        let namespace = Namespace::new(match number % 8 {
            5 => b"other",
            6 => b"log.sim",
            7 => b".own",
            _ => b"",
        });
        let name = format!("repo/{number}");
        namespace.unwrap_or(Namespace::PLAIN).key(name.as_bytes(), usize::MAX).expect("a good name")
    }

    /// Makes one write or a burst, at a ready node, and schedules the next.
    pub(super) fn write_some(&mut self) {
        if !self.stormy {
            return;
        }
        let ready = self.ready();
        if !ready.is_empty() {
            let slot = ready[self.random.index(ready.len())];
            if self.random.chance(50) {
                for _ in 0..self.plan.burst {
                    self.work.burst += u64::from(self.write(slot));
                }
            } else if self.random.chance(300) && ready.len() > 1 {
                self.write_a_tie(&ready);
            } else {
                self.write(slot);
            }
        }
        let us = self.random.below(2 * self.plan.write_every_us);
        self.after(us, Event::Write);
    }

    /// Makes one write at a node; returns whether it was accepted.
    fn write(&mut self, slot: usize) -> bool {
        let name = self.some_name();
        let deleted = self.random.chance(1_800);
        let given = if self.random.chance(1_500) {
            Some(self.random.around(1_900_000))
        } else if self.random.chance(if deleted { 1_000 } else { 100 }) {
            Some(-self.random.around(self.plan.grace_us as i64).abs())
        } else {
            None
        };
        let version = format!("v{}", self.random.below(1 << 20));
        let size = if self.random.chance(200) { 3_000 } else { self.random.below(200) };
        let data = vec![self.random.bits() as u8; size as usize];
        let lasts_us = if deleted { None } else { self.some_life(&name, given.unwrap_or(0)) };
        self.accept_until(slot, &name, (!deleted).then_some((&version, &data)), given, lasts_us)
    }

    /// How long a value lasts, if it ends: not in a log or in the node's own namespace, and not before it is written.
    fn some_life(&mut self, name: &Name, ahead: i64) -> Option<u64> {
        if self.plan.ending == 0
            || name.is_log()
            || name.is_own()
            || !self.end_random.chance(self.plan.ending)
        {
            return None;
        }
        let longest_us = self.plan.grace_us / u64::from(LIFE_PART_OF_GRACE);
        let us = self.end_random.within(LEAST_LIFE_US, longest_us);
        (us.saturating_add_signed(ahead) > 0).then_some(us)
    }

    /// Two clients name the same stamp at two nodes, with different versions or data.
    fn write_a_tie(&mut self, ready: &[usize]) {
        let name = self.some_name();
        let (a, b) = (ready[self.random.index(ready.len())], ready[self.random.index(ready.len())]);
        let Some(process) = self.processes[a].as_ref() else { return };
        let stamp = process.clock.now(self.now_us).wall.micros() as i64;
        let lives = [(); 2].map(|()| self.some_life(&name, 0));
        // now and then they differ in their ends only
        let is_same = lives[0].is_some() && self.end_random.chance(5_000);
        for (slot, data, lasts_us) in
            [(a, vec![1], lives[0]), (b, vec![if is_same { 1 } else { 2 }], lives[1])]
        {
            let version = if self.random.chance(5_000) { "tie".to_owned() } else { format!("tie{slot}") };
            let Some(process) = self.processes[slot].as_ref() else { continue };
            let ahead = stamp - process.clock.now(self.now_us).wall.micros() as i64;
            let version = if is_same { "tie".to_owned() } else { version };
            self.accept_until(slot, &name, Some((&version, &data)), Some(ahead), lasts_us);
        }
    }

    /// Passes a write to a node, as its HTTP interface does. `ahead` is a client's stamp, relative to the node's clock.
    pub(super) fn accept(
        &mut self,
        slot: usize,
        name: &Name,
        value: Option<(&String, &Vec<u8>)>,
        ahead: Option<i64>,
    ) -> bool {
        self.accept_until(slot, name, value, ahead, None)
    }

    /// As [`World::accept`], of a value that ends so long after its stamp.
    pub(super) fn accept_until(
        &mut self,
        slot: usize,
        name: &Name,
        value: Option<(&String, &Vec<u8>)>,
        ahead: Option<i64>,
        lasts_us: Option<u64>,
    ) -> bool {
        let (now_us, guard_us) = (self.now_us, self.plan.max_future_us);
        let Some(process) = self.processes[slot].as_mut() else { return false };
        let now = process.clock.now(now_us);
        if process.replica.doubts_its_clock() || !process.replica.may_stamp(&process.store, now) {
            self.work.doubted += 1;
            return false;
        }
        let given = ahead.map(|ahead| now.wall.micros().saturating_add_signed(ahead));
        let given = given.and_then(|micros| Stamp::from_micros(micros).ok());
        // a value that a client stamps below the horizon may be older than a delete that all nodes forgot on purpose:
        // the store accepts it; that is no fault, so it is left out here
        let forgotten = |stamp: Stamp| stamp < process.store.set().horizon();
        if given.is_some_and(|stamp| stamp.guard(now.wall, guard_us).is_err() || forgotten(stamp)) {
            self.work.refused += 1;
            return false;
        }
        let version = value.map(|(v, _)| Version::new(v.as_bytes()).expect("a good version"));
        let change = match (&version, value) {
            (Some(version), Some((_, data))) => Change::Put { version, data },
            _ => Change::Delete,
        };
        let before = process.store.get(name);
        let dots = process.store.log().sequence();
        let stamping = Stamping { lasts_us, ..Stamping::of(given) };
        let written = process.store.write_stamped(now.wall, name, &change, stamping);
        let accepted = process.store.log().sequence() > dots;
        let (Written::Done { current }, true) = (&written, accepted) else {
            self.work.refused += 1;
            return false;
        };
        self.trace.line(now_us, format_args!("n{slot} writes {}", Brief(current)));
        self.work.ending += u64::from(current.end().is_some());
        self.work.deletes += u64::from(current.kind() == Kind::Tombstone);
        let again = before.as_ref().is_some_and(|before| before.kind() == Kind::Tombstone);
        self.work.recreations += u64::from(again && current.kind() == Kind::Value);
        self.work.stamped += u64::from(given.is_some());
        process.replica.pump(&mut process.store, now);
        if current.last_sync() < now.wall.before(self.plan.grace_us / 2) {
            self.history.backdated(current);
        }
        let accepted = self.history.accepted(current, before.as_ref(), given.is_some(), now.wall);
        if let Err((rule, detail)) = accepted {
            self.broken(rule, format!("n{slot}: {detail}"));
        }
        self.carry_out(slot);
        self.look(slot, std::slice::from_ref(name));
        true
    }

    /// A reader reads a name at any ready node, with the stamp that it has seen; schedules the next read.
    pub(super) fn read_some(&mut self) {
        if !self.stormy || self.readers.is_empty() {
            return;
        }
        let ready = self.ready();
        if !ready.is_empty() {
            let (slot, reader) =
                (ready[self.random.index(ready.len())], self.random.index(self.readers.len()));
            let name = self.some_name();
            self.read(slot, reader, &name);
        }
        let us = self.random.below(self.plan.write_every_us);
        self.after(us, Event::Read);
    }

    pub(super) fn read(&mut self, slot: usize, reader: usize, name: &Name) {
        let ready = |process: &&Process| process.replica.state() == NodeState::Ready;
        let Some(process) = self.processes[slot].as_ref().filter(ready) else { return };
        let shown = self.readers[reader].seen.get(name).copied();
        let genesis = process.store.genesis();
        // a stamp from before the set is of an earlier set
        let at_least = shown.map(|seen| seen.stamp).filter(|stamp| !genesis.is_after(*stamp));
        let now = process.clock.now(self.now_us).wall;
        let held = process.store.get_at(now, name);
        let held = held.as_ref();
        let condition = Condition { known: KnownVersion::Unspecified, at_least };
        if condition.evaluate(held) != Evaluation::Answer {
            self.work.held_back += 1;
            return;
        }
        self.work.reads += 1;
        if let Some(ended) =
            held.filter(|held| held.kind() == Kind::Value && held.end().is_some_and(|end| end <= now))
        {
            let detail = format!("n{slot} answers {ended:?} at {now}");
            return self.broken("no read after the end", detail);
        }
        let answered = held.map(Record::last_sync);
        if let Some(shown) = shown
            && answered < Some(shown.stamp)
            // the promise does not cover a client's stamp from before the start of the set
            && shown.genesis.started <= shown.stamp
            // nor one that is above the start only where a wrong clock has dated that back, and not here yet
            && !(shown.genesis.key == genesis.key && genesis.is_after(shown.stamp))
        {
            // allowed only if the set that the reader saw is gone: no process of that time or of that set has it
            let lives = self.processes.iter().flatten().any(|process| {
                (process.ready_us.is_some_and(|us| us <= shown.at_us)
                    || process.store.genesis().key == shown.genesis.key)
                    && process.replica.state() == NodeState::Ready
                    && process.store.set().get(name).is_some_and(|held| held.last_sync() >= shown.stamp)
            });
            if lives {
                let detail = format!(
                    "n{slot} in {genesis:?} answers {answered:?} for {name} to a reader that saw {shown:?}"
                );
                return self.broken("never back in time", detail);
            }
        }
        match answered {
            Some(stamp) => {
                let seen = Seen { stamp, at_us: self.now_us, genesis };
                self.readers[reader].seen.insert(name.clone(), seen)
            }
            None => self.readers[reader].seen.remove(name),
        };
    }

    /// A node compacts, or sets how many records a name keeps.
    pub(super) fn move_registers(&mut self) {
        if !self.stormy {
            return;
        }
        let slot = self.random.index(self.plan.nodes);
        let (versions, age_us) = (self.random.within(1, 6) as u8, self.random.below(30 * SECOND_US));
        let compacts = self.random.chance(6_000);
        if let Some(process) = self.processes[slot].as_mut()
            && process.replica.is_joined()
        {
            let now = process.clock.now(self.now_us);
            if compacts {
                process.replica.compact(&mut process.store, now, now.wall.before(age_us));
                self.work.compactions += 1;
            } else if self.plan.depth_changes {
                process.replica.set_history_depth(&mut process.store, now, versions);
                self.work.depths += 1;
            }
            let registers = process.store.registers();
            self.trace.line(self.now_us, format_args!("n{slot} has {registers:?}"));
            self.carry_out(slot);
        }
        let us = self.random.below(2 * self.plan.registers_every_us);
        self.after(us, Event::Registers);
    }

    /// A node sets how many records a name keeps.
    pub(super) fn set_depth(&mut self, slot: usize, versions: u8) {
        let Some(process) = self.processes[slot].as_mut() else { return };
        let now = process.clock.now(self.now_us);
        process.replica.set_history_depth(&mut process.store, now, versions);
        self.work.depths += 1;
        self.carry_out(slot);
    }

    /// Makes one fault, and schedules the next.
    pub(super) fn fault(&mut self) {
        if !self.stormy {
            return;
        }
        let nodes = self.plan.nodes;
        let slot = self.random.index(nodes);
        let for_us = self.random.within(SECOND_US / 2, self.plan.fault_for_us);
        match self.random.below(100) {
            0..20 => {
                let side: Vec<bool> = (0..nodes).map(|_| self.random.chance(5_000)).collect();
                let all = (0..nodes).flat_map(|a| (0..nodes).map(move |b| (a, b)));
                let cuts = all.filter(|(a, b)| side[*a] != side[*b]).collect();
                self.faults.partitions += 1;
                self.cut("partition", cuts, for_us);
            }
            20..30 => {
                self.cut_off(slot, for_us);
            }
            30..45 => {
                let mute = self.random.chance(5_000);
                let others = (0..nodes).filter(|b| *b != slot);
                let cuts = others.map(|b| if mute { (slot, b) } else { (b, slot) }).collect();
                self.faults.one_way += 1;
                self.cut(if mute { "mute" } else { "deaf" }, cuts, for_us);
            }
            45..70 => {
                if self.kill(slot) {
                    self.faults.restarts += 1;
                    let us = self.random.below(self.plan.down_us);
                    self.after(us, Event::Start { slot });
                }
            }
            70..71 => {
                self.faults.outages += 1;
                for slot in 0..nodes {
                    self.kill(slot);
                    let us = self.random.below(self.plan.down_us);
                    self.after(us, Event::Start { slot });
                }
            }
            71..85 => {
                let far = self.random.chance(1_000);
                let off_us = self.random.around(if far { 3_600_000_000 } else { self.plan.clock_off_us });
                self.faults.far_clocks += u64::from(far && self.set_clock(slot, off_us));
            }
            85..88 => {
                self.faults.refusals += u64::from(!self.refused[slot]);
                self.refused[slot] = true;
                self.trace.line(self.now_us, format_args!("n{slot} has another secret"));
                self.after(for_us, Event::Accept { slot });
            }
            88..91 => {
                if let Some(process) = self.processes[slot].as_mut() {
                    process.replica.leave();
                    let life = process.life;
                    self.faults.leaves += 1;
                    self.trace.line(self.now_us, format_args!("n{slot} leaves"));
                    let us = self.random.within(SECOND_US / 2, 2 * SECOND_US);
                    self.after(us, Event::Left { slot, life });
                }
            }
            _ => {
                let us = self.random.within(100_000, 1_500_000);
                self.network.slow(slot, us);
                self.faults.slow += 1;
                self.trace.line(self.now_us, format_args!("n{slot} is slow by up to {us}"));
                self.after(for_us, Event::Quicken { slot });
            }
        }
        let us = self.random.below(2 * self.plan.fault_every_us);
        self.after(us, Event::Fault);
    }

    /// Ends a leaving process, if it has not been killed before.
    pub(super) fn left(&mut self, slot: usize, life: u32) {
        if self.processes[slot].as_ref().is_some_and(|process| process.life == life) && self.kill(slot) {
            let us = self.random.below(self.plan.down_us);
            self.after(us, Event::Start { slot });
        }
    }

    /// Sets the wall clock of a process to be off by `off_us`; returns whether there was a process.
    pub(super) fn set_clock(&mut self, slot: usize, off_us: i64) -> bool {
        let Some(process) = self.processes[slot].as_mut() else { return false };
        process.clock.offset_us = off_us;
        self.faults.clock_steps += 1;
        self.trace.line(self.now_us, format_args!("n{slot} sets its clock {off_us} off"));
        true
    }

    /// Gives each name a value, at any ready node.
    pub(super) fn prefill(&mut self) {
        let ready = self.ready();
        for i in 0..self.plan.names {
            let (version, data) = (format!("v{i}"), vec![0; self.random.below(100) as usize]);
            let name = Name::new(format!("repo/{i}").as_bytes(), usize::MAX).expect("a good name");
            if !ready.is_empty() {
                let slot = ready[self.random.index(ready.len())];
                self.accept(slot, &name, Some((&version, &data)), None);
            }
        }
    }

    /// Cuts all links of a node.
    pub(super) fn cut_off(&mut self, slot: usize, for_us: u64) {
        let others = (0..self.plan.nodes).filter(|other| *other != slot);
        let cuts = others.flat_map(|other| [(slot, other), (other, slot)]).collect();
        self.faults.partitions += 1;
        self.cut("alone", cuts, for_us);
    }

    pub(super) fn cut(&mut self, what: &str, cuts: Vec<(usize, usize)>, for_us: u64) {
        self.trace.line(self.now_us, format_args!("{what}: {} links cut for {for_us}: {cuts:?}", cuts.len()));
        cuts.iter().for_each(|(from, to)| self.network.cut(*from, *to));
        self.after(for_us, Event::Mend { cuts });
    }

    /// Ends all faults, writes and reads. Clocks stay as they are.
    pub(super) fn heal(&mut self) {
        self.stormy = false;
        self.network.set_faulty(false);
        self.network.mend_all();
        self.refused.fill(false);
        self.stranger = None;
        (0..self.plan.nodes).for_each(|slot| self.start(slot));
        self.trace.line(self.now_us, format_args!("all is well"));
    }
}

/// A record in a line of the trace.
struct Brief<'a>(&'a Record);

impl std::fmt::Display for Brief<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let record = self.0;
        let what = if record.kind() == Kind::Tombstone { "-" } else { record.version() };
        write!(f, "{} {what} {} {}", record.name(), record.last_sync(), record.dot().sequence)
    }
}
