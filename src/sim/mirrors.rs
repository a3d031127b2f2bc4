//! Mirrors of the group: they follow its nodes, or each other, by streams, and readers with feeds roam to them.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use super::checks::{Copied, History};
use super::clock::Clock;
use super::gossip::Table;
use super::world::{Event, Mirror, Process, World, latest_horizon, process_at};
use crate::core::feed::{Budget, Feed, Scope, Start, Subscription};
use crate::core::genesis::Genesis;
use crate::core::mirroring::{Mirroring, Step, Told};
use crate::core::record::{Incarnation, Record};
use crate::core::replica::{Config, Replica};
use crate::core::set::{Cell, Set};
use crate::core::store::Store;
use crate::core::{Name, NodeState, Stamp, Vector};
use crate::wire::cursor;
use crate::wire::mirror_line::{MirrorLine, parse_line};
use crate::wire::stream::{self, Encoding};
use crate::wire::watch::DataForm;
use crate::wire::watch_form::StreamForm;

/// The promise of [`crate::core::mirroring`].
const EQUAL: &str = "a mirror equals its group";

impl World {
    /// A mirror starts, without records.
    pub(super) fn start_mirror(&mut self, index: usize) {
        let random = &mut self.mirror_random;
        self.lives += 1;
        let clock = Clock { offset_us: random.around(self.plan.clock_off_us), drift_ppm: 0 };
        let incarnation = Incarnation(random.bits());
        let mut key = [0; 16];
        key[..8].copy_from_slice(&random.bits().to_le_bytes());
        let now = clock.now(self.now_us);
        let genesis =
            Genesis { provisional: false, started: now.wall, key, versions: self.plan.history_versions };
        let config = Config {
            alone: true,
            mirrors: true,
            grace_us: self.plan.grace_us,
            history_versions: self.plan.history_versions,
            ..Config::new(index as u64, 0)
        };
        let mut store = Store::simulated(genesis, incarnation, self.plan.leaf_bits, self.plan.mutants())
            .with_grace(self.plan.grace_us);
        store.report_changes();
        store.keep_changes();
        let place = self.plan.nodes + index;
        self.homes.insert(incarnation, place);
        self.trace.line(self.now_us, format_args!("m{place} starts as {:016x}", incarnation.0));
        self.mirrors[index] = Some(Mirror {
            mirroring: Mirroring::begin(&store),
            process: Process {
                life: self.lives,
                ready_us: None,
                replica: Replica::new(config, now),
                store,
                clock,
                table: Table::new(place),
                outstanding: Default::default(),
                witness: Default::default(),
            },
            cursor: None,
            stream: None,
            part: None,
            set: None,
            view_of: None,
            is_retaken: false,
            views: 0,
            is_growing: true,
        });
    }

    /// A mirror is restarted, or loses its stream, or goes on.
    pub(super) fn mirror_some(&mut self, index: usize) {
        if !self.stormy {
            return;
        }
        match self.mirror_random.below(100) {
            0..2 => self.start_mirror(index),
            2..12 => {
                if let Some(mirror) = &mut self.mirrors[index] {
                    mirror.stream = None;
                }
            }
            _ => {
                self.mirror(index);
            }
        }
        let us = self.mirror_random.below(2 * self.plan.mirror_every_us);
        self.after(us, Event::Mirror { index });
    }

    /// A mirror takes the next part of what its leader tells, or applies a slice of the one that it has. Returns
    /// whether it has all.
    fn mirror(&mut self, index: usize) -> bool {
        let Some(mut mirror) = self.mirrors[index].take() else { return false };
        let is_more = mirror.part.is_some() || self.hear_leader(&mut mirror, index);
        let is_applied = mirror.part.is_some() && self.apply_part(&mut mirror, index);
        let has_all = !is_more && is_applied && mirror.mirroring.is_complete();
        self.mirrors[index] = Some(mirror);
        has_all
    }

    /// Opens a stream, if there is none, and reads its next part. Returns whether there is more.
    fn hear_leader(&mut self, mirror: &mut Mirror, index: usize) -> bool {
        let is_ready = |world: &Self, place: usize| {
            process_at(&world.processes, &world.mirrors, place)
                .is_some_and(|process| process.replica.state() == NodeState::Ready)
        };
        if mirror.stream.is_none() {
            // now and then another mirror
            let is_other_mirror = self.mirror_random.chance(2_000) && self.stormy;
            let places = self.plan.nodes + if is_other_mirror { self.mirrors.len() } else { 0 };
            let ready: Vec<usize> = (0..places).filter(|place| is_ready(self, *place)).collect();
            if ready.is_empty() {
                return true;
            }
            let reached = mirror.cursor.as_deref().map(|text| cursor::decode(text).expect("its own cursor"));
            // now and then the process that it was at
            let same = reached.as_ref().and_then(|cursor| self.homes.get(&cursor.at?.0)).copied();
            let same = same.filter(|place| ready.contains(place) && self.mirror_random.chance(5_000));
            let place = same.unwrap_or(ready[self.mirror_random.index(ready.len())]);
            let Some(leader) = process_at(&self.processes, &self.mirrors, place) else { return true };
            let is_ahead = reached.as_ref().is_some_and(|cursor| Feed::ahead_by(&leader.store, cursor) > 0);
            // the leader waits for a while until it has what the cursor claims
            if is_ahead && self.stormy && self.mirror_random.chance(7_000) {
                return true;
            }
            let start = reached.as_ref().map_or(Start::Oldest, |cursor| match is_ahead {
                true => Start::Ahead(cursor),
                false => Start::Cursor(cursor),
            });
            let reflected = leader.replica.reflected(&leader.store, leader.clock.now(self.now_us));
            let subscription = Subscription { dots: true, ..Subscription::all(Scope::all()) };
            let feed = Feed::open(&leader.store, reflected, Arc::new(subscription), start);
            mirror.stream = Some((place, leader.life, feed));
        }
        let names = self.mirror_random.within(1, 60) as usize;
        let Some((place, life, feed)) = &mut mirror.stream else { return true };
        let leader = process_at(&self.processes, &self.mirrors, *place);
        let Some(leader) = leader.filter(|leader| leader.life == *life && is_ready(self, *place)) else {
            mirror.stream = None;
            return true;
        };
        let reflected = leader.replica.reflected(&leader.store, leader.clock.now(self.now_us));
        let slice = feed.next(&leader.store, reflected, Budget { names, bytes: usize::MAX });
        let encoding =
            Encoding { form: StreamForm::Lines, data: DataForm::Base64, is_chunked: false, tells_dots: true };
        let tail = stream::Tail {
            cursor: &cursor::encode(&feed.cursor(&leader.store)),
            behind: feed.behind(&leader.store),
            registers: leader.store.registers(),
            cut_off: Duration::ZERO,
            is_provisional: leader.store.genesis().provisional,
        };
        let frames = encoding.frames(&slice.events, tail).expect("JSON");
        let mut told = VecDeque::new();
        for line in frames.bytes.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
            match parse_line(line).expect("a leader sends what a mirror can read") {
                MirrorLine::Told(one) => told.push_back(one),
                MirrorLine::Progress { cursor, tail, is_provisional, .. } => {
                    let mirrored = mirror.process.store.mirrored_set();
                    if is_provisional && mirrored.is_some_and(|mirrored| mirrored != tail.set) {
                        mirror.stream = None;
                        return true;
                    }
                    self.trace.line(
                        self.now_us,
                        format_args!("m{index} is told {} by n{place}, {:?}", told.len(), tail.vector),
                    );
                    mirror.part = Some((std::mem::take(&mut told), tail, cursor));
                }
                MirrorLine::Other | MirrorLine::Error(_) => {}
            }
        }
        slice.more
    }

    /// Applies a slice of a part. Returns whether it was the last one.
    fn apply_part(&mut self, mirror: &mut Mirror, index: usize) -> bool {
        let Some((told, tail, cursor)) = &mut mirror.part else { return true };
        let Process { store, replica, clock, witness, .. } = &mut mirror.process;
        let now = clock.now(self.now_us);
        // also a first view that did not become complete
        let begins_again = told.iter().any(|told| matches!(told, Told::Reset));
        let has_some = store.set().values() + store.set().tombstones() > 0;
        mirror.is_retaken |= store.mirrored_set().is_some() && !mirror.mirroring.is_complete();
        mirror.is_retaken |= begins_again && has_some;
        mirror.view_of = Some(tail.set);
        mirror.is_growing |= !mirror.mirroring.is_complete();
        let step = mirror.mirroring.apply(store, now.wall, told, tail);
        if step == Step::Done && mirror.mirroring.is_complete() {
            mirror.views += u32::from(std::mem::take(&mut mirror.is_growing));
        }
        match step {
            Step::More => {}
            Step::Done => {
                if mirror.mirroring.is_complete() {
                    replica.has_mirrored(store);
                }
                mirror.cursor = Some(std::mem::take(cursor));
                mirror.part = None;
            }
            Step::BeginAgain => {
                self.trace.line(self.now_us, format_args!("m{index} begins again"));
                self.work.begun_again += 1;
                mirror.mirroring = Mirroring::begin(store);
                (mirror.cursor, mirror.stream, mirror.part) = (None, None, None);
            }
        }
        let changes = store.take_effects().changes;
        let mut looked = witness.changed(changes, store.set().registers());
        if step == Step::Done && mirror.mirroring.is_complete() {
            self.work.mirrored += 1;
            if mirror.set != store.mirrored_set() {
                mirror.set = store.mirrored_set();
                witness.forget_vector();
            }
            let mut known = Vector::default();
            self.processes.iter().flatten().for_each(|process| known.join(process.store.vector()));
            let copied = Copied { scope: Scope::all(), known, is_retaken: mirror.is_retaken };
            let (history, set) = (&self.history, store.set());
            looked =
                looked.and_then(|()| witness.look_at_vector(history, set, store.vector(), Some(&copied)));
            let latest = latest_horizon(self.now_us, &self.plan);
            looked = looked.and_then(|()| witness.look_at_horizon(set, latest));
        }
        if let Err((rule, detail)) = looked {
            self.broken(rule, format!("m{index}: {detail}"));
        }
        step == Step::Done
    }

    /// At the end, when all nodes agree, each mirror gets what they have.
    pub(super) fn finish_mirrors(&mut self) {
        for index in 0..self.mirrors.len() {
            let Some(mirror) = &mut self.mirrors[index] else { continue };
            mirror.stream = None;
            let mut parts = 0;
            while !self.mirror(index) {
                parts += 1;
                if parts > 10_000 || self.violation.is_some() {
                    return self.broken(EQUAL, format!("m{index} has no end"));
                }
            }
            let Some(mirror) = &mut self.mirrors[index] else { continue };
            while !mirror.process.store.settle(1_000) {}
            let Some(process) = self.processes.iter().flatten().next() else { return };
            if let Err(detail) = equal(&self.history, &process.store, mirror) {
                return self.broken(EQUAL, format!("m{index}: {detail}"));
            }
        }
    }
}

/// Compares a mirror with a node of its group. What the mirror has of writes that were lost with their process stays
/// there, deletes too. After a view that began again, so do older records of a name of which the group has forgotten a
/// delete; and with another depth, other older records may have come back.
fn equal(history: &History, node: &Store<()>, mirror: &Mirror) -> Result<(), String> {
    let (ours, theirs) = (node.set(), mirror.process.store.set());
    let has_older = mirror.is_retaken || ours.depth().epoch() > Stamp::ZERO;
    let names = |set: &Set| {
        let of_names = (0..set.stretches()).flat_map(|index| set.stretch(index)).map(Record::name);
        of_names.filter(|name| Scope::all().has(name)).cloned().collect::<BTreeSet<Name>>()
    };
    let order = |(ours, theirs): (&Record, &Record)| ours.order(theirs).is_eq();
    for name in &names(ours) | &names(theirs) {
        let records = |set: &Set| set.history(&name).iter().map(Cell::record).cloned().collect::<Vec<_>>();
        let (here, there) = (records(ours), records(theirs));
        let is_same = match has_older {
            true => here.last().zip(there.last()).is_some_and(order),
            false => here.len() == there.len() && here.iter().zip(&there).all(order),
        };
        let is_lost = |record: &Record| !node.vector().claims(record.dot());
        if !is_same && !there.iter().any(is_lost) && !history.deletes(&name).any(is_lost) {
            return Err(format!("of {name} it has {there:?}, and not {here:?}"));
        }
    }
    Ok(())
}
