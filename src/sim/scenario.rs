//! Scenarios: worlds with an event that would hardly ever happen by chance.

use std::cmp::Reverse;

use super::clock::Clock;
use super::plan::{SECOND_US, name};
use super::world::{Process, World};
use crate::core::digest_trie::item;
use crate::core::record::{Dot, Kind, Record};
use crate::core::{Name, NodeState, Version};

impl World {
    pub(super) fn pass(&mut self, us: u64) {
        self.run_until(self.now_us + us);
    }

    /// A value is deleted while one node is cut off, and another node is restarted after that. The cut lasts a little
    /// longer than the grace, yet the first node does not bring the value back: the nodes that saw it before still keep
    /// the tombstone for it, and the restarted node has not been up for long enough to forget a delete.
    pub(super) fn missing(&mut self) {
        self.delete_behind_a_cut();
        self.pass(6 * SECOND_US);
        self.kill(1);
        self.faults.restarts += 1;
        self.start(1);
        self.pass(self.plan.grace_us);
    }

    /// Node 3 is cut off for a little longer than the grace, with a value that is then deleted.
    fn delete_behind_a_cut(&mut self) {
        let (name, value) = (name("deleted"), ("v".to_owned(), Vec::new()));
        self.accept(0, &name, Some((&value.0, &value.1)), None);
        self.pass(2 * SECOND_US);
        self.cut_off(3, self.plan.grace_us + 4 * SECOND_US);
        self.pass(SECOND_US / 10);
        self.accept(0, &name, None, None);
    }

    /// As [`World::missing`], and when the node is back, only its gossip gets through for a while: it is live, and does
    /// not have the delete.
    pub(super) fn aloof(&mut self) {
        self.delete_behind_a_cut();
        self.aloof[3] = true;
        self.pass(self.plan.grace_us + 20 * SECOND_US);
        self.aloof[3] = false;
    }

    /// A value is deleted while only gossip gets through to node 3 and from it, for longer than the grace.
    pub(super) fn mute(&mut self) {
        let (name, value) = (name("deleted"), ("v".to_owned(), Vec::new()));
        self.accept(0, &name, Some((&value.0, &value.1)), None);
        self.pass(2 * SECOND_US);
        self.aloof[3] = true;
        self.pass(SECOND_US / 10);
        self.accept(0, &name, None, None);
        self.pass(self.plan.grace_us + 20 * SECOND_US);
        self.aloof[3] = false;
    }

    /// Node 0 is heard by no other node when it accepts a write and tells it to all readers with feeds. Then it ends,
    /// and the write with it: a reader whose cursor claims it must not keep it.
    pub(super) fn lost(&mut self) {
        let (name, value) = (name("lost"), ("v".to_owned(), Vec::new()));
        self.aloof[0] = true;
        self.accept(0, &name, Some((&value.0, &value.1)), None);
        self.tell_all(0);
        self.kill(0);
        self.aloof[0] = false;
        self.pass(SECOND_US);
        self.start(0);
        self.pass(10 * SECOND_US);
        // before a horizon moves, by which readers would begin again in any case
        self.finish_watchers();
    }

    /// Readers with feeds are told a value. Right after that a client deletes it, with a stamp from almost half a grace
    /// ago. The readers come back when all nodes have forgotten the delete: their cursors must not say that they
    /// reflect every delete from before they left.
    pub(super) fn backdated(&mut self) {
        let early_us = -(self.plan.grace_us as i64 / 2) + SECOND_US as i64;
        let (name, value) = (name("deleted"), ("v".to_owned(), Vec::new()));
        self.pass(self.plan.grace_us + 5 * SECOND_US);
        self.accept(0, &name, Some((&value.0, &value.1)), Some(early_us));
        self.pass(3 * SECOND_US);
        self.tell_all(1);
        self.accept(0, &name, None, Some(early_us));
        self.pass(self.plan.grace_us / 2 + 5 * SECOND_US);
        self.finish_watchers();
    }

    /// Readers with feeds were told a value that is deleted after they left. They come back in time, and are told of
    /// another name first. Then the delete is forgotten, before they are told of it: at the end of their scan the value
    /// must be gone from their views.
    pub(super) fn overtaken(&mut self) {
        let value = ("v".to_owned(), Vec::new());
        self.pass(self.plan.grace_us);
        self.accept(0, &name("deleted"), Some((&value.0, &value.1)), None);
        self.pass(3 * SECOND_US);
        self.tell_all(1);
        self.accept(0, &name("another"), Some((&value.0, &value.1)), None);
        self.accept(0, &name("deleted"), None, None);
        self.pass(3 * SECOND_US);
        // they look for two writes, and are told of one name
        self.tell_some(2, 3);
        self.pass(self.plan.grace_us + 5 * SECOND_US);
        self.finish_watchers();
    }

    /// Readers with feeds scan three names. When they were told of the second one, two of its versions come back, which
    /// all nodes except one had dropped. They must be told, or not be claimed.
    pub(super) fn returned(&mut self) {
        let value = ("v".to_owned(), Vec::new());
        let write = |world: &mut Self, text: &str| {
            world.accept(0, &name(text), Some((&value.0, &value.1)), None);
            world.pass(SECOND_US / 10);
        };
        write(self, "first");
        self.pass(3 * SECOND_US);
        self.tell_all(1);
        ["a", "b", "b", "b", "c"].iter().for_each(|text| write(self, text));
        self.pass(3 * SECOND_US);
        self.cut_off(3, 6 * SECOND_US);
        self.set_depth(0, 1);
        self.pass(2 * SECOND_US);
        self.set_depth(0, 3);
        self.pass(2 * SECOND_US);
        // they look for three writes, and are told of two names
        self.tell_some(2, 5);
        self.pass(8 * SECOND_US);
        self.tell_all(2);
    }

    /// A value ends while no node knows the time, and is known to be too old to be deleted when all know it again: the
    /// horizon has to remove it. Another one is renewed at a node that is cut off. At last two clients make the same
    /// write with different ends, each write reaches one other node, and the nodes that took them end: what is left is
    /// repaired by a sync.
    pub(super) fn ended(&mut self) {
        const HOUR_US: i64 = 3_600_000_000;
        let value = ("v".to_owned(), Vec::new());
        let write = |world: &mut Self, slot, text: &str, ahead, lasts: u64| {
            world.accept_until(slot, &name(text), Some((&value.0, &value.1)), ahead, Some(lasts * SECOND_US))
        };
        write(self, 0, "doubted", None, 10);
        self.pass(2 * SECOND_US);
        for (slot, hours) in [1, -1, 2, -2].into_iter().enumerate() {
            self.set_clock(slot, hours * HOUR_US);
        }
        self.pass(self.plan.grace_us / 2);
        for slot in 0..4 {
            self.set_clock(slot, 0);
        }
        self.pass(10 * SECOND_US);
        for slot in 0..4 {
            self.read(slot, 0, &name("doubted"));
        }
        write(self, 0, "renewed", None, 2);
        self.pass(SECOND_US / 2);
        self.cut_off(3, 5 * SECOND_US);
        self.pass(SECOND_US / 2);
        write(self, 3, "renewed", None, 14);
        self.pass(7 * SECOND_US);
        let stands = |process: &Process| {
            let now = process.clock.now(self.now_us).wall;
            process.store.get_at(now, &name("renewed")).is_some_and(|held| held.kind() == Kind::Value)
        };
        if let Some(slot) = self.processes.iter().position(|process| !process.as_ref().is_some_and(stands)) {
            self.broken("a renewal is not lost", format!("n{slot} lacks it"));
        }
        // 0 and 2 see each other, and 1 and 3
        let pairs = [(0, 1), (0, 3), (2, 1), (2, 3)];
        let cuts = pairs.into_iter().flat_map(|(a, b)| [(a, b), (b, a)]).collect();
        self.cut("halves", cuts, 60 * SECOND_US);
        write(self, 0, "twice", Some(0), 14);
        let stamp = self.processes[0].as_ref().and_then(|process| process.store.get(&name("twice")));
        if let (Some(written), Some(process)) = (stamp, self.processes[1].as_ref()) {
            let now = process.clock.now(self.now_us).wall.micros().cast_signed();
            write(self, 1, "twice", Some(written.last_sync().micros().cast_signed() - now), 15);
        }
        self.pass(SECOND_US);
        self.kill(0);
        self.kill(1);
    }

    /// Each half begins a set and takes writes; then they find each other.
    pub(super) fn split(&mut self) {
        let data = Vec::new();
        self.accept(0, &name("even"), Some((&"v".to_owned(), &data)), None);
        self.accept(1, &name("odd"), Some((&"v".to_owned(), &data)), None);
        self.pass(2 * SECOND_US);
    }

    /// A node starts with a clock a year ahead, and hears no other node for longer than a grace. When it is connected,
    /// no node adopts its horizon.
    pub(super) fn lonely(&mut self) {
        const YEAR_US: i64 = 365 * 24 * 3600 * 1_000_000;
        let grace_us = self.plan.grace_us;
        self.kill(2);
        self.cut_off(2, grace_us + 15 * SECOND_US);
        self.start(2);
        self.set_clock(2, YEAR_US);
        self.pass(grace_us + 12 * SECOND_US);
        let (name, value) = (name("deleted"), ("v".to_owned(), Vec::new()));
        self.accept(0, &name, Some((&value.0, &value.1)), None);
        self.accept(0, &name, None, None);
        self.pass(10 * SECOND_US);
        self.set_clock(2, 0);
        self.pass(5 * SECOND_US);
    }

    /// A client deletes with a stamp from almost a grace ago, while one node does not receive it for a few seconds: too
    /// short a time to count as missing, and long enough for the horizon to pass the delete.
    pub(super) fn late(&mut self) {
        let grace_us = self.plan.grace_us as i64;
        let (name, value) = (name("deleted"), ("v".to_owned(), Vec::new()));
        self.pass(self.plan.grace_us);
        self.accept(0, &name, Some((&value.0, &value.1)), Some(1_200_000 - grace_us));
        self.pass(SECOND_US / 10);
        self.cut_off(3, 3 * SECOND_US);
        self.accept(0, &name, None, Some(1_800_000 - grace_us));
        self.pass(8 * SECOND_US);
    }

    /// One node holds the set and is not heard, all others are restarted, and one of them twice: its two processes must
    /// not count as two addresses.
    pub(super) fn twins(&mut self) {
        let (name, value) = (name("read"), ("v".to_owned(), Vec::new()));
        self.accept(2, &name, Some((&value.0, &value.1)), None);
        self.pass(SECOND_US);
        self.read(2, 0, &name);
        self.cut_off(2, 14 * SECOND_US);
        for slot in [0, 1, 3] {
            self.kill(slot);
            self.start(slot);
        }
        self.pass(3 * SECOND_US);
        self.kill(1);
        self.start(1);
        for _ in 0..8 {
            self.pass(SECOND_US);
            self.read(0, 0, &name);
            self.read(3, 0, &name);
        }
        self.pass(8 * SECOND_US);
    }

    /// A clock an hour ahead stamps at most a name that is written then, and only once the node trusts that clock.
    pub(super) fn wrong(&mut self) {
        const HOUR_US: i64 = 3_600_000_000;
        let value = ("v".to_owned(), Vec::new());
        let write = |world: &mut Self, text: &str, expected: bool| {
            if world.accept(0, &name(text), Some((&value.0, &value.1)), None) != expected {
                let said = if expected { "refused" } else { "taken" };
                world.broken("doubt has its time", format!("a write of {text} is {said}"));
            }
        };
        write(self, "a", true);
        self.set_clock(0, HOUR_US);
        write(self, "at once", false);
        self.pass(SECOND_US);
        write(self, "in that second", false);
        self.set_clock(0, 0);
        self.pass(SECOND_US / 2);
        write(self, "a", true);
        self.set_clock(0, HOUR_US);
        self.pass(10 * SECOND_US);
        write(self, "dragged", true);
        self.set_clock(0, 0);
        self.pass(10 * SECOND_US);
        for text in ["a", "dragged", "b"] {
            write(self, text, true);
        }
        self.kill(0);
        self.start_with(0, Clock { offset_us: HOUR_US, drift_ppm: 0 });
        self.pass(SECOND_US);
        self.set_clock(0, 0);
        self.pass(10 * SECOND_US);
        write(self, "a", true);
        self.pass(SECOND_US);
    }

    /// Each node must be ready by now: no wait is without an end.
    pub(super) fn expect_ready(&mut self, slots: &[usize]) {
        for slot in slots {
            let state = self.processes[*slot].as_ref().map(|process| process.replica.state());
            if state != Some(NodeState::Ready) {
                self.broken("joining has an end", format!("n{slot} is {state:?}"));
            }
        }
    }

    /// No node waits for the stranger without an end. A node with a wrong secret begins a set in the end that shows no
    /// reader less than it has seen; it joins the real set once its secret is right.
    pub(super) fn stranger(&mut self) {
        let (name, value) = (name("read"), ("v".to_owned(), Vec::new()));
        self.pass(10 * SECOND_US);
        self.expect_ready(&[0, 1, 2]);
        self.accept(0, &name, Some((&value.0, &value.1)), None);
        self.pass(SECOND_US);
        self.read(0, 0, &name);
        self.kill(2);
        self.refused[2] = true;
        self.start(2);
        self.pass(135 * SECOND_US);
        self.expect_ready(&[2]);
        self.read(2, 0, &name);
        self.accept(2, &name, None, None);
        self.read(0, 0, &name);
        self.refused[2] = false;
        self.pass(10 * SECOND_US);
        self.read(2, 0, &name);
    }

    /// Nodes wait for a set that they cannot get, but not without an end. Once they can get it, that set stays.
    pub(super) fn unreachable(&mut self) {
        let (name, value) = (name("read"), ("v".to_owned(), Vec::new()));
        self.accept(0, &name, Some((&value.0, &value.1)), None);
        self.pass(2 * SECOND_US);
        self.read(0, 0, &name);
        self.aloof[0] = true;
        for slot in [1, 2, 3] {
            self.kill(slot);
            self.start(slot);
        }
        for _ in 0..14 {
            self.pass(10 * SECOND_US);
            (0..4).for_each(|slot| self.read(slot, 0, &name));
        }
        self.expect_ready(&[0, 1, 2, 3]);
        self.aloof[0] = false;
        for _ in 0..10 {
            self.pass(SECOND_US);
            (0..4).for_each(|slot| self.read(slot, 0, &name));
        }
    }

    /// A node announces that it leaves, and ends.
    pub(super) fn leave(&mut self, slot: usize) {
        if let Some(process) = self.processes[slot].as_mut() {
            process.replica.leave();
            self.faults.leaves += 1;
        }
        self.pass(2 * SECOND_US);
        self.kill(slot);
    }

    /// Nodes 0, 1 and 4 speak version 1 of the protocol, node 3 version 2, and node 2 both. While node 2 is down, a
    /// value that node 3 holds too is deleted: the others keep the tombstone for it. And node 3 begins no set beside
    /// theirs when it is restarted.
    pub(super) fn apart(&mut self) {
        let (name, value) = (name("deleted"), ("v".to_owned(), Vec::new()));
        self.pass(10 * SECOND_US);
        self.expect_ready(&[0, 1, 2, 3, 4]);
        self.accept(0, &name, Some((&value.0, &value.1)), None);
        self.pass(5 * SECOND_US);
        if self.processes[3].as_ref().is_none_or(|process| process.store.get(&name).is_none()) {
            self.broken("a node that speaks with all joins them", "n3 lacks a value".to_owned());
        }
        self.leave(2);
        self.accept(0, &name, None, None);
        self.pass(self.plan.grace_us + 10 * SECOND_US);
        self.start(2);
        self.pass(10 * SECOND_US);
        self.leave(2);
        self.kill(3);
        self.start(3);
        self.pass(150 * SECOND_US);
        let state = self.processes[3].as_ref().map(|process| process.replica.state());
        if state != Some(NodeState::Joining) {
            self.broken("no set beside that of members", format!("n3 is {state:?}"));
        }
    }

    /// One node is cut off until its writes are no longer pushed. They change names whose items cancel out in an
    /// exclusive or, and do not change the count: only sums differ.
    pub(super) fn aimed(&mut self) {
        const NAMES: u64 = 160;
        for i in 0..NAMES {
            self.accept(0, &name_of(i), Some((&"a".to_owned(), &Vec::new())), Some(0));
        }
        self.pass(5 * SECOND_US);
        self.cut_off(0, 80 * SECOND_US);
        let Some(process) = self.processes[0].as_ref() else { return };
        let (key, now) = (process.store.genesis().key, process.clock.now(self.now_us).wall);
        let version = Version::new(b"b").expect("a good version");
        let change = |i: u64| {
            let held = process.store.get(&name_of(i))?;
            let next = Record::value(name_of(i), &version, &[], now, Dot::default());
            Some(item(&key, &held) ^ item(&key, &next))
        };
        let changes: Vec<u128> = (0..NAMES).filter_map(change).collect();
        let chosen = vanishing(&changes);
        for i in chosen {
            // at the very stamp for which it was computed
            self.accept(0, &name_of(i as u64), Some((&"b".to_owned(), &Vec::new())), Some(0));
        }
        self.pass(85 * SECOND_US);
    }
}

fn name_of(i: u64) -> Name {
    name(&format!("aimed/{i}"))
}

/// Some of the numbers, with an exclusive or of 0: among more than 128 numbers there always are some. Gaussian
/// elimination.
fn vanishing(numbers: &[u128]) -> Vec<usize> {
    // (number with this leading bit, the given numbers that it is made of)
    let mut basis: Vec<(u128, Vec<bool>)> = Vec::new();
    for (i, number) in numbers.iter().enumerate() {
        let (mut rest, mut made_of) = (*number, vec![false; numbers.len()]);
        made_of[i] = true;
        for (other, parts) in &basis {
            if rest ^ other < rest {
                rest ^= other;
                made_of.iter_mut().zip(parts).for_each(|(a, b)| *a ^= b);
            }
        }
        if rest == 0 {
            return (0..numbers.len()).filter(|i| made_of[*i]).collect();
        }
        basis.push((rest, made_of));
        basis.sort_by_key(|(number, _)| Reverse(*number));
    }
    Vec::new()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_chosen_numbers_cancel_out() {
        let mut random = super::super::random::Random::new(1, 9);
        let numbers: Vec<u128> =
            (0..129).map(|_| u128::from(random.bits()) << 64 | u128::from(random.bits())).collect();
        let chosen = vanishing(&numbers);
        assert!(!chosen.is_empty());
        assert_eq!(chosen.iter().fold(0, |all, i| all ^ numbers[*i]), 0);
    }
}
