//! The world: processes, the messages under way between them, and the next events.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap, VecDeque};

use super::checks::{History, Reader, Violation, Witness};
use super::clock::{Clock, true_time};
use super::feed_reader::Watcher;
use super::gossip::{Heartbeat, Table};
use super::network::Network;
use super::plan::{Plan, SECOND_US, Scenario};
use super::random::Random;
use super::report::{Faults, Report, Traffic, Work};
use super::saved::Disk;
use super::trace::Trace;
use crate::core::feed::{Feed, Mode};
use crate::core::genesis::Genesis;
use crate::core::limits::EXPIRY_TURN_US;
use crate::core::mirroring::{Mirroring, Tail, Told};
use crate::core::protocol::ProtocolVersion;
use crate::core::record::{Incarnation, Kind, Record};
use crate::core::replica::{Config, Replica};
use crate::core::set::Cell;
use crate::core::store::Store;
use crate::core::{Name, NodeState, Stamp};

/// The interval of the ticks of a node, µs.
pub(super) const TICK_US: u64 = 100_000;

/// A world.
pub struct World {
    pub(super) plan: Plan,
    pub(super) now_us: u64,
    queue: BinaryHeap<Reverse<(u64, u64)>>,
    events: BTreeMap<u64, Event>,
    next_event: u64,
    pub(super) processes: Vec<Option<Process>>,
    pub(super) network: Network,
    /// By address, whether the node has another secret: it refuses all others, and they refuse it.
    pub(super) refused: Vec<bool>,
    /// The address of a node of another cluster, if there is one.
    pub(super) stranger: Option<usize>,
    /// By address, whether gossip passes, and no call.
    pub(super) aloof: Vec<bool>,
    pub(super) random: Random,
    pub(super) lives: u32,
    pub(super) homes: BTreeMap<Incarnation, usize>,
    pub(super) history: History,
    pub(super) readers: Vec<Reader>,
    pub(super) watchers: Vec<Watcher>,
    pub(super) watch_random: Random,
    pub(super) mirrors: Vec<Option<Mirror>>,
    pub(super) mirror_random: Random,
    pub(super) end_random: Random,
    pub(super) disks: Vec<Disk>,
    pub(super) disk_random: Random,
    pub(super) traffic: BTreeMap<&'static str, Traffic>,
    pub(super) faults: Faults,
    pub(super) work: Work,
    pub(super) trace: Trace,
    pub(super) violation: Option<Violation>,
    ended: Totals,
    pub(super) stormy: bool,
    quiet: bool,
    /// The genesis of each set that was begun.
    pub(super) geneses: BTreeSet<Genesis>,
    /// Stretches that answers cut further, and answers that did not cover the whole request.
    pub(super) found: (u64, u64),
}

/// A mirror, and the stream that it follows.
pub(super) struct Mirror {
    pub(super) process: Process,
    pub(super) mirroring: Mirroring,
    /// Where it goes on, as it was told.
    pub(super) cursor: Option<String>,
    /// The place of its leader, which process that is, and its feed.
    pub(super) stream: Option<(usize, u32, Feed)>,
    /// What is applied, a slice at a time, and the cursor behind it.
    pub(super) part: Option<(VecDeque<Told>, Tail, String)>,
    /// The set of its vector.
    pub(super) set: Option<u64>,
    /// The set of its view.
    pub(super) view_of: Option<u64>,
    /// Its view began again.
    pub(super) is_retaken: bool,
    /// How often a view that began empty became complete, and whether one grows.
    pub(super) views: u32,
    pub(super) is_growing: bool,
}

/// The process at a place: of a node, or behind these of a mirror. A mirror that replaces a set by another one is left
/// out: what it claims then is of the set that is gone.
pub(super) fn process_at<'a>(
    processes: &'a [Option<Process>],
    mirrors: &'a [Option<Mirror>],
    place: usize,
) -> Option<&'a Process> {
    let Some(mirror) = place.checked_sub(processes.len()) else { return processes[place].as_ref() };
    let mirror = mirrors.get(mirror)?.as_ref()?;
    let mirrored = mirror.process.store.mirrored_set();
    (mirrored.is_none() || mirror.view_of == mirrored).then_some(&mirror.process)
}

/// One process.
pub(super) struct Process {
    pub(super) life: u32,
    /// When it became ready.
    pub(super) ready_us: Option<u64>,
    pub(super) store: Store<()>,
    pub(super) replica: Replica,
    pub(super) clock: Clock,
    pub(super) table: Table,
    /// By call, when it was made, and in which version of the protocol.
    pub(super) outstanding: BTreeMap<u64, (u64, ProtocolVersion)>,
    pub(super) witness: Witness,
}

#[derive(Clone, Copy, Default)]
struct Totals {
    rounds: u64,
    snapshots: u64,
    too_different: u64,
    vectors: u64,
    failures: u64,
    differences: (u64, u64),
}

pub(super) enum Event {
    Tick { slot: usize, life: u32 },
    Gossip { slot: usize, life: u32 },
    GossipArrives { to: usize, from: usize, heartbeats: Vec<Heartbeat>, reply: bool },
    Request { to: usize, from: usize, life: u32, id: u64, bytes: Vec<u8> },
    Response { to: usize, life: u32, id: u64, bytes: Vec<u8> },
    Start { slot: usize },
    Write,
    Registers,
    Watch,
    Mirror { index: usize },
    Read,
    Fault,
    Mend { cuts: Vec<(usize, usize)> },
    Quicken { slot: usize },
    Accept { slot: usize },
    Left { slot: usize, life: u32 },
    Save { slot: usize, life: u32 },
    Load { slot: usize, life: u32 },
    CheckAll,
}

impl World {
    /// A world that is about to begin. `keep` is whether to keep its trace as text.
    #[must_use]
    pub fn new(plan: Plan, keep: bool) -> Self {
        let network = Network::new(&plan);
        let random = Random::new(plan.seed, 3);
        let processes = (0..plan.nodes).map(|_| None).collect();
        let mut watch_random = Random::new(plan.seed, 7);
        let watchers = (0..plan.watchers)
            .map(|number| {
                let mode = if number % 2 == 0 { Mode::Latest } else { Mode::All };
                Watcher::new(&mut watch_random, mode)
            })
            .collect();
        let readers = (0..plan.readers).map(|_| Reader::default()).collect();
        Self {
            now_us: 0,
            queue: BinaryHeap::new(),
            events: BTreeMap::new(),
            next_event: 0,
            processes,
            refused: vec![false; plan.nodes],
            stranger: plan.stranger(),
            aloof: vec![false; plan.nodes],
            network,
            random,
            lives: 0,
            homes: BTreeMap::new(),
            history: History::default(),
            readers,
            watchers,
            watch_random,
            mirrors: (0..plan.mirrors).map(|_| None).collect(),
            mirror_random: Random::new(plan.seed, 9),
            end_random: Random::new(plan.seed, 11),
            disks: (0..plan.nodes).map(|_| Disk::default()).collect(),
            disk_random: Random::new(plan.seed, 13),
            traffic: BTreeMap::new(),
            faults: Faults::default(),
            work: Work::default(),
            trace: Trace::new(keep),
            violation: None,
            ended: Totals::default(),
            stormy: false,
            quiet: false,
            geneses: BTreeSet::new(),
            found: (0, 0),
            plan,
        }
    }

    pub(super) fn at(&mut self, at_us: u64, event: Event) {
        self.queue.push(Reverse((at_us, self.next_event)));
        self.events.insert(self.next_event, event);
        self.next_event += 1;
    }

    pub(super) fn after(&mut self, us: u64, event: Event) {
        self.at(self.now_us + us, event);
    }

    /// Runs from the start through the storm until all nodes agree, the bound is over, or a promise is broken.
    pub fn run(&mut self) -> Report {
        self.trace.line(0, format_args!("{:?}", self.plan));
        for slot in 0..self.plan.nodes {
            let us = self.random.below(2_000_000);
            self.at(us, Event::Start { slot });
        }
        self.at(self.plan.calm_us + 1, Event::CheckAll);
        self.run_until(self.plan.calm_us);
        match self.plan.scenario {
            Scenario::Storm => self.storm(),
            Scenario::Missing => self.missing(),
            Scenario::Aloof => self.aloof(),
            Scenario::Mute => self.mute(),
            Scenario::Aimed => self.aimed(),
            Scenario::Split => self.split(),
            Scenario::Lonely => self.lonely(),
            Scenario::Late => self.late(),
            Scenario::Twins => self.twins(),
            Scenario::Wrong => self.wrong(),
            Scenario::Stranger => self.stranger(),
            Scenario::Unreachable => self.unreachable(),
            Scenario::Apart => self.apart(),
            Scenario::Forgetful => self.storm(),
            Scenario::Lost => self.lost(),
            Scenario::Backdated => self.backdated(),
            Scenario::Overtaken => self.overtaken(),
            Scenario::Returned => self.returned(),
            Scenario::Ended => self.ended(),
            Scenario::Outdated => self.outdated(),
            Scenario::Revived => self.revived(),
            Scenario::Rivals => self.rivals(),
            Scenario::Outage => self.outage(),
        }
        self.heal();
        let (healed_us, mut converged_us) = (self.now_us, None);
        while converged_us.is_none() && self.now_us < healed_us + self.plan.bound_us {
            self.run_until(self.now_us + TICK_US);
            if self.violation.is_some() {
                break;
            }
            if self.all_agree() {
                converged_us = Some(self.now_us - healed_us);
            }
        }
        if converged_us.is_some() {
            self.stay_quiet();
            self.finish_mirrors();
            self.finish_watchers();
        }
        self.check_all();
        self.report(converged_us)
    }

    /// Checks the end: once all nodes agree and the last deletes are forgotten, there is no traffic except gossip, and
    /// each node knows that it has all writes of each other one.
    fn stay_quiet(&mut self) {
        self.quiet = true;
        // a clock that was just set far ahead stamps deletes, until its node detects the step
        let records = self.processes.iter().flatten().flat_map(|p| p.store.set().cells(0, u64::MAX));
        let stamps = records.map(Cell::record).filter(|r| r.kind() == Kind::Tombstone).map(Record::last_sync);
        let ahead_us =
            stamps.max().map_or(0, |last| last.micros().saturating_sub(true_time(self.now_us).micros()));
        self.run_until(self.now_us + ahead_us + self.plan.grace_us + 20 * SECOND_US);
        let said = |world: &Self| {
            let asks_clock = |kind| matches!(kind, "sync vectors" | "sync equal" | "sync registers first");
            let spoken = || world.traffic.iter().filter(|(kind, _)| **kind != "gossip");
            let sum = |of_clocks: bool| {
                let these = spoken().filter(|(kind, _)| asks_clock(**kind) == of_clocks);
                these.map(|(_, traffic)| traffic.messages).sum::<u64>()
            };
            (sum(true), sum(false))
        };
        self.check_ends();
        let before = said(self);
        self.run_until(self.now_us + 20 * SECOND_US);
        let after = said(self);
        // each node asks each other one for an unknown clock, once a minute: two requests if a horizon comes in between
        let nodes = self.plan.nodes as u64;
        let silent = after.1 == before.1 && after.0 - before.0 <= 4 * nodes * (nodes - 1);
        let (complete, pairs) = self.vectors_complete();
        if !self.all_agree() {
            self.broken("all stays well", "they agreed, and then did not".to_owned());
        } else if complete < pairs {
            self.broken("complete vectors", format!("{complete} of {pairs} components"));
        } else if !silent {
            self.broken(
                "silence",
                format!("between equal sets, of clocks and else: {before:?}, then {after:?}"),
            );
        }
    }

    /// Checks that no value stands that has ended: a node has deleted it, or the horizon has.
    fn check_ends(&mut self) {
        let late_us = self.plan.nodes as u64 * EXPIRY_TURN_US + 5 * SECOND_US;
        for slot in 0..self.processes.len() {
            let Some(process) = self.processes[slot].as_ref() else { continue };
            let until = process.clock.now(self.now_us).wall.before(late_us);
            let ended = process.store.set().ended(until, None).next().cloned();
            if let Some((end, name)) = ended {
                return self
                    .broken("what has ended is gone", format!("n{slot} holds {name}, which ended at {end}"));
            }
        }
    }

    fn storm(&mut self) {
        if self.plan.prefilled {
            self.prefill();
        }
        self.stormy = true;
        self.network.set_faulty(true);
        self.after(1, Event::Write);
        self.after(1, Event::Read);
        if self.plan.scenario == Scenario::Storm {
            self.after(1, Event::Fault);
        }
        self.after(1, Event::Registers);
        self.after(1, Event::Watch);
        for index in 0..self.plan.mirrors {
            self.start_mirror(index);
            self.after(1, Event::Mirror { index });
        }
        self.run_until(self.plan.calm_us + self.plan.stormy_us);
    }

    /// Runs until a time, or until a promise is broken.
    pub fn run_until(&mut self, until_us: u64) {
        while self.violation.is_none()
            && let Some(Reverse((at_us, id))) = self.queue.peek().copied()
            && at_us <= until_us
        {
            self.queue.pop();
            self.now_us = at_us;
            if let Some(event) = self.events.remove(&id) {
                self.happen(event);
            }
        }
        self.now_us = self.now_us.max(until_us);
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Tick { slot, life } => self.tick(slot, life),
            Event::Gossip { slot, life } => self.gossip(slot, life),
            Event::GossipArrives { to, from, heartbeats, reply } => {
                self.receive_gossip(to, from, &heartbeats, reply);
            }
            Event::Request { to, from, life, id, bytes } => self.request(to, from, life, id, &bytes),
            Event::Response { to, life, id, bytes } => self.response(to, life, id, &bytes),
            Event::Start { slot } => self.start(slot),
            Event::Write => self.write_some(),
            Event::Registers => self.move_registers(),
            Event::Watch => self.watch_some(),
            Event::Mirror { index } => self.mirror_some(index),
            Event::Read => self.read_some(),
            Event::Fault => self.fault(),
            Event::Mend { cuts } => cuts.into_iter().for_each(|(from, to)| self.network.mend(from, to)),
            Event::Quicken { slot } => self.network.slow(slot, 0),
            Event::Accept { slot } => self.refused[slot] = false,
            Event::Left { slot, life } => self.left(slot, life),
            Event::Save { slot, life } => self.save(slot, life),
            Event::Load { slot, life } => self.load(slot, life),
            Event::CheckAll if self.quiet => {}
            Event::CheckAll => {
                self.check_all();
                // a full check takes longer the more there is
                let us = 3 * SECOND_US * (1 + self.plan.names / 150);
                self.after(us, Event::CheckAll);
            }
        }
    }

    /// Starts a process, with what is on its disk if it has one.
    pub(super) fn start(&mut self, slot: usize) {
        let clock = Clock {
            offset_us: self.random.around(self.plan.clock_off_us),
            drift_ppm: self.random.around(self.plan.drift_ppm),
        };
        self.start_with(slot, clock);
    }

    /// Starts a process with the given clock.
    pub(super) fn start_with(&mut self, slot: usize, clock: Clock) {
        if self.processes[slot].is_some() || self.stranger == Some(slot) {
            return;
        }
        self.lives += 1;
        let life = self.lives;
        let incarnation = Incarnation(self.random.bits());
        let mut key = [0; 16];
        key[..8].copy_from_slice(&self.random.bits().to_le_bytes());
        key[8..].copy_from_slice(&self.random.bits().to_le_bytes());
        self.faults.drifting += u64::from(clock.drift_ppm != 0);
        let started = clock.now(self.now_us).wall;
        let alone = self.plan.nodes == 1;
        let genesis = if alone {
            Genesis { provisional: false, started, key, versions: self.plan.history_versions }
        } else {
            Genesis::none(key)
        };
        let config = Config {
            node: slot as u64,
            region: self.plan.region(slot) as u64,
            alone,
            mirrors: false,
            grace_us: self.plan.grace_us,
            horizon_step_us: self.plan.horizon_step_us,
            horizon_cap_us: 7 * self.plan.grace_us,
            settle_us: 5 * self.plan.sync_us,
            sync_us: self.plan.sync_us,
            sync_slow_us: 10 * self.plan.sync_us,
            budget: self.plan.budget,
            push_us: 60_000_000,
            max_future_us: self.plan.max_future_us,
            protocol: self.plan.protocol(slot),
            history_versions: self.plan.history_versions,
            history_age_us: 0,
            checkpoint_expiry_us: self.plan.grace_us,
            vector_room: self.plan.vector_room,
            max_history_bytes: usize::MAX,
            cold_start_wait_us: self.plan.cold_start_wait_us,
        };
        self.homes.insert(incarnation, slot);
        let mut store = Store::simulated(genesis, incarnation, self.plan.leaf_bits, self.plan.mutants())
            .with_grace(self.plan.grace_us)
            .listing_at_most(self.plan.list_at_most);
        store.report_changes();
        if alone {
            store.keep_changes();
        }
        self.processes[slot] = Some(Process {
            life,
            ready_us: None,
            store,
            replica: Replica::new(config, clock.now(self.now_us)),
            clock,
            table: Table::new(slot),
            outstanding: BTreeMap::new(),
            witness: Witness::default(),
        });
        self.trace.line(self.now_us, format_args!("n{slot} starts as {:016x}", incarnation.0));
        let (tick, gossip) = (self.random.below(TICK_US), self.random.below(self.plan.gossip_us));
        self.after(tick, Event::Tick { slot, life });
        self.after(gossip, Event::Gossip { slot, life });
        self.start_with_disk(slot, life);
    }

    /// Ends a process; its memory is lost.
    pub(super) fn kill(&mut self, slot: usize) -> bool {
        let Some(process) = self.processes[slot].take() else { return false };
        self.ended.add(&process.replica);
        self.trace.line(self.now_us, format_args!("n{slot} is killed"));
        true
    }

    /// Checks a process that may have changed.
    pub(super) fn look(&mut self, slot: usize, names: &[Name]) {
        let Some(process) = self.processes[slot].as_mut() else { return };
        let (set, witness) = (process.store.set(), &mut process.witness);
        let latest = latest_horizon(self.now_us, &self.plan);
        let looked = names
            .iter()
            .try_for_each(|name| witness.look(&self.history, set, name))
            .and_then(|()| witness.look_at_vector(&self.history, set, process.store.vector(), None))
            .and_then(|()| witness.look_at_horizon(set, latest));
        if let Err((rule, detail)) = looked {
            self.broken(rule, format!("n{slot}: {detail}"));
        }
    }

    fn check_all(&mut self) {
        for slot in 0..self.processes.len() {
            let Some(process) = self.processes[slot].as_mut() else { continue };
            let (set, vector) = (process.store.set(), process.store.vector());
            let latest = latest_horizon(self.now_us, &self.plan);
            let looked = process.witness.look_at_all(&self.history, set, vector);
            let looked = looked.and_then(|()| process.witness.look_at_horizon(set, latest));
            if let Err((rule, detail)) = looked {
                self.broken(rule, format!("n{slot}: {detail}"));
            }
        }
    }

    pub(super) fn broken(&mut self, rule: &'static str, detail: String) {
        if self.violation.is_none() {
            self.trace.line(self.now_us, format_args!("BROKEN {rule}: {detail}"));
            self.violation = Some(Violation { rule, at_us: self.now_us, detail });
        }
    }

    /// Whether all nodes are ready and hold the same records. It compares the records, not their digests.
    #[must_use]
    pub fn all_agree(&self) -> bool {
        let mut processes = self.processes.iter();
        let Some(Some(first)) = processes.next() else { return false };
        let mut all = self.processes.iter();
        let ready = all.all(|p| p.as_ref().is_some_and(|p| p.replica.state() == NodeState::Ready));
        ready
            && self.processes.iter().flatten().all(|p| p.store.set().root() == first.store.set().root())
            && processes.flatten().all(|p| {
                let (a, b) = (first.store.set(), p.store.set());
                first.store.genesis() == p.store.genesis()
                    && a.root().count == b.root().count
                    && a.cells(0, u64::MAX).count() == b.cells(0, u64::MAX).count()
                    && a.cells(0, u64::MAX)
                        .map(Cell::record)
                        .all(|x| b.history(x.name()).iter().any(|y| x.order(y.record()).is_eq()))
            })
    }

    fn report(&mut self, converged_us: Option<u64>) -> Report {
        let mut totals = self.ended;
        self.processes.iter().flatten().for_each(|process| totals.add(&process.replica));
        self.work.writes = self.history.writes();
        let records = self.processes.iter().flatten().map(|p| p.store.set().root().count).max();
        Report {
            seed: self.plan.seed,
            nodes: self.plan.nodes,
            violation: self.violation.clone(),
            converged_us,
            bound_us: self.plan.bound_us,
            traffic: self.traffic.clone(),
            message_faults: self.network.message_faults,
            faults: self.faults,
            work: self.work,
            rounds: totals.rounds,
            snapshots: totals.snapshots,
            too_different: totals.too_different,
            vectors: totals.vectors,
            unfinished: totals.failures,
            differences: totals.differences,
            records: records.unwrap_or(0),
            vectors_complete: self.vectors_complete(),
            geneses: self.geneses.len(),
            deeper: self.found.0,
            partial: self.found.1,
            trace: (self.trace.hash(), self.trace.lines()),
        }
    }

    /// The number of pairs (node, process that wrote) in which the node's vector claims all writes, and the number of
    /// pairs. A component that was left out counts as what it was: a node may leave out a process whose clock is far
    /// behind while it does not see it, and that process need not write again.
    fn vectors_complete(&self) -> (u64, u64) {
        let mut complete = (0, 0);
        for writer in self.processes.iter().flatten().filter(|writer| writer.store.vouches()) {
            let (incarnation, sequence) = (writer.store.incarnation(), writer.store.log().sequence());
            for process in self.processes.iter().flatten() {
                let claims = match process.store.vector().get(incarnation) {
                    0 => process.store.has_claimed(incarnation, sequence),
                    claimed => claimed == sequence,
                };
                complete.0 += u64::from(claims);
                complete.1 += 1;
            }
        }
        complete
    }

    /// The trace so far.
    #[must_use]
    pub fn trace(&self) -> &Trace {
        &self.trace
    }
}

/// The latest horizon that is allowed: a grace in the past, plus the most that a majority of clocks may be off.
pub(super) fn latest_horizon(now_us: u64, plan: &Plan) -> Stamp {
    let slack_us = plan.clock_off_us.unsigned_abs() + 2 * plan.max_future_us;
    true_time(now_us + slack_us).before(plan.grace_us)
}

impl Totals {
    fn add(&mut self, replica: &Replica) {
        let counts = replica.counts();
        self.rounds += counts.rounds;
        self.snapshots += counts.snapshots;
        self.too_different += counts.too_different;
        self.vectors += counts.vectors;
        self.failures += counts.failures;
        self.differences.0 += counts.differences;
        self.differences.1 += counts.old_differences;
    }
}
