//! The nodes of a world of leases, and what they send each other.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::super::plan::SECOND_US;
use super::super::random::Random;
use super::super::trace::Trace;
use super::checks::Checks;
use super::clock::Clock;
use super::plan::{LeasePlan, NODES};
use super::report::LeaseReport;
use super::request::{Answer, Ask, Client, Step, Wish};
use crate::core::Incarnation;
use crate::core::lease::abstention_us;
use crate::core::lease::changeover::Changeover;
use crate::core::lease::coordinator::{
    Acquired, Answer as Given, BallotCall, CoordinatorConfig, Done, LAPSE_US, VoterStanding,
};
use crate::core::lease::message::Denied;
use crate::core::lease::message::{Ballot, LeaseChange, Motion, Vote, VoterAnswer};
use crate::core::lease::queue::{Cancelled, Waiter};
use crate::core::lease::view::{Doubt, LeaseEvent, Verdict};
use crate::core::lease::voter::VoterConfig;
use crate::core::lease::voters::VoterSetId;
use crate::core::lease::{Coordinator, Lease, LeaseId, LeasePath, Token, View, Voter, VoterSet};

/// The place of a second process with the id of a voter.
pub(super) const TWIN: usize = NODES;

/// A member of which nothing is heard for so long is dead.
pub(super) const DEAD_US: u64 = 2 * SECOND_US;

pub(super) const GOSSIP_US: u64 = SECOND_US / 2;

/// Most overdue leases about which a process asks at the same time.
const CHECKS: usize = 64;

/// A request of a client at a node.
#[derive(Debug)]
struct Request {
    client: usize,
    attempt: u64,
    wish: Wish,
    /// By the node's clock, and in true time.
    since_us: u64,
    until_us: u64,
    came_us: u64,
    coordinator: u64,
}

/// A process.
#[derive(Debug)]
pub(super) struct Process {
    pub(super) place: usize,
    /// The node whose id it has.
    pub(super) node: usize,
    pub(super) clock: Clock,
    pub(super) coordinator: Coordinator,
    pub(super) voter: Option<Voter>,
    pub(super) view: View,
    /// When each process was last heard of, in true time: all processes are as slow to notice.
    heard: BTreeMap<u64, u64>,
    doubled_until_us: [u64; NODES],
    sets: Vec<VoterSetId>,
    changeover: Changeover,
    requests: BTreeMap<u64, Request>,
    /// Renewals and releases that clients have asked this node for.
    asks: BTreeMap<u64, (usize, u64)>,
    /// Those that other nodes have asked this coordinator for.
    calls: BTreeMap<u64, (u64, u64)>,
    /// Leases about which it asks the voters, before its view tells that they have expired.
    doubts: BTreeMap<u64, Doubt>,
    next: u64,
    tick_us: u64,
}

/// A message between processes.
#[derive(Debug)]
pub(super) enum Message {
    Ballot { from: u64, call: BallotCall },
    Vote { round: u64, set: usize, node: u64, answer: Option<VoterAnswer> },
    Enter { from: u64, request: u64, wish: Wish, age_us: u64, left_us: u64 },
    Cancel { path: LeasePath, gone: Cancelled },
    Renew { from: u64, request: u64, lease: Arc<Lease> },
    Release { from: u64, request: u64, path: LeasePath, token: Token },
    Acquired { from: u64, ticket: LeaseId, request: u64, result: Result<(Arc<Lease>, u64), Denied> },
    Done { request: u64, answer: Answer },
    Change(LeaseChange),
}

/// Something that happens.
#[derive(Debug)]
pub(super) enum Event {
    Deliver { to: u64, message: Message },
    Tick { process: u64 },
    Gossip,
    Enter { process: u64, request: u64 },
    Overdue { process: u64, request: u64 },
    Ask { process: u64, client: usize, attempt: u64, ask: Ask },
    Answer { client: usize, attempt: u64, answer: Answer },
    HangUp { process: u64, client: usize, attempt: u64 },
    Client { client: usize, step: Step },
    Fault,
    Mend { number: u64 },
    Start { node: usize },
    Restart { node: usize },
    Configure { node: usize, step: u8 },
    Twin,
    EndOfTwin,
    Heal,
    Calm,
    Drain,
    Probe { at: usize },
    End,
}

/// A seeded world of leases.
#[derive(Debug)]
pub struct LeaseWorld {
    pub(super) plan: LeasePlan,
    pub(super) random: Random,
    /// For what becomes of checks of overdue leases: they change nothing else in a world.
    checks_random: Random,
    pub(super) now_us: u64,
    pub(super) events: BTreeMap<(u64, u64), Event>,
    sequence: u64,
    pub(super) processes: BTreeMap<u64, Process>,
    pub(super) live: [Option<u64>; NODES + 1],
    pub(super) clocks: Vec<Clock>,
    /// The voters that each node is told of.
    pub(super) sets: [Vec<Vec<usize>>; NODES],
    pub(super) cut: [[bool; NODES + 1]; NODES + 1],
    pub(super) cut_number: u64,
    pub(super) slow_place: Option<usize>,
    pub(super) is_stormy: bool,
    pub(super) has_clients: bool,
    /// From when on each request must be answered.
    pub(super) strict_us: u64,
    pub(super) clients: Vec<Client>,
    pub(super) checks: Checks,
    pub(super) report: LeaseReport,
    pub(super) trace: Option<Trace>,
    next_incarnation: u64,
}

impl Process {
    /// Asks the voters about leases that have run out in its view.
    fn ask_about_overdue(&mut self, now: crate::core::stamp::Now) {
        for doubt in self.view.to_ask(now.mono_us, CHECKS, |_| true) {
            let call = self.next;
            self.next += 1;
            self.coordinator.check(now, call, &doubt.path, doubt.token);
            self.doubts.insert(call, doubt);
        }
    }
}

impl LeaseWorld {
    /// The world of a plan; `keep` is whether its trace is kept.
    #[must_use]
    pub fn new(plan: LeasePlan, keep: bool) -> Self {
        let mut random = Random::new(plan.seed, 3);
        let clocks = (0..=NODES).map(|_| Clock::draw(&plan, &mut random)).collect();
        let clients = (0..=plan.clients).map(|_| Client::new(Clock::draw(&plan, &mut random))).collect();
        let report = LeaseReport { seed: plan.seed, scenario: plan.scenario, ..LeaseReport::default() };
        let sets = std::array::from_fn(|_| vec![plan.voters.clone()]);
        Self {
            random,
            checks_random: Random::new(plan.seed, 4),
            now_us: 0,
            events: BTreeMap::new(),
            sequence: 0,
            processes: BTreeMap::new(),
            live: [None; NODES + 1],
            clocks,
            sets,
            cut: Default::default(),
            cut_number: 0,
            slow_place: None,
            is_stormy: true,
            has_clients: true,
            strict_us: u64::MAX,
            clients,
            checks: Checks::default(),
            report,
            trace: keep.then(|| Trace::new(true)),
            next_incarnation: 1,
            plan,
        }
    }

    /// Its trace, if it was kept.
    #[must_use]
    pub fn trace(&self) -> Option<&str> {
        self.trace.as_ref().and_then(Trace::text)
    }

    pub(super) fn say(&mut self, what: std::fmt::Arguments<'_>) {
        if let Some(trace) = &mut self.trace {
            trace.line(self.now_us, what);
        }
    }

    pub(super) fn after(&mut self, us: u64, event: Event) {
        self.sequence += 1;
        self.events.insert((self.now_us + us, self.sequence), event);
    }

    /// Lets everything happen.
    pub fn run(&mut self) -> LeaseReport {
        self.begin();
        while let Some(((at_us, _), event)) = self.events.pop_first() {
            self.now_us = at_us;
            if matches!(event, Event::End) {
                self.end();
                break;
            }
            self.happen(event);
        }
        let mut report = std::mem::take(&mut self.report);
        report.grants = self.checks.grants() as u64;
        report.violations = std::mem::take(&mut self.checks.violations);
        report
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Deliver { to, message } => self.deliver(to, message),
            Event::Tick { process } => self.tick(process),
            Event::Gossip => self.gossip(),
            Event::Enter { process, request } => self.enter(process, request),
            Event::Overdue { process, request } => self.overdue(process, request),
            Event::Ask { process, client, attempt, ask } => self.asked(process, client, attempt, ask),
            Event::Answer { client, attempt, answer } => self.answered(client, attempt, answer),
            Event::HangUp { process, client, attempt } => self.hung_up(process, client, attempt),
            Event::Client { client, step } => self.step(client, step),
            event => self.turn(&event),
        }
    }

    /// Starts a process with the id of a node, at a place.
    pub(super) fn start(&mut self, place: usize, node: usize, is_first: bool) {
        if self.live[place].is_some() {
            return;
        }
        let clock = self.clocks[place];
        let now = clock.now(self.now_us);
        let id = self.next_incarnation;
        self.next_incarnation += 1;
        let max_ttl_us = self.plan.max_ttl_us;
        let sets: Vec<VoterSet> = self.sets[node]
            .iter()
            .map(|nodes| VoterSet::new(nodes.iter().map(|node| *node as u64), max_ttl_us).expect("1, 3 or 5"))
            .collect();
        let rules = self.plan.rules;
        let is_voter = sets.iter().any(|set| set.has(node as u64));
        let config = VoterConfig {
            node: node as u64,
            sets: sets.clone(),
            max_ttl_us,
            max_future_us: 60 * SECOND_US,
            max_leases: 1_000,
            is_first,
            rules,
        };
        let coordinator = CoordinatorConfig {
            sets: sets.clone(),
            max_leases: 1_000,
            max_waiters_of_path: 1_000,
            max_waiters: 1_000,
            salt: id,
            rules,
        };
        let process = Process {
            place,
            node,
            clock,
            coordinator: Coordinator::new(coordinator),
            voter: is_voter.then(|| Voter::new(config, now)),
            view: View::simulated(rules),
            heard: BTreeMap::new(),
            doubled_until_us: [0; NODES],
            changeover: Changeover::new(&sets, max_ttl_us, rules),
            sets: sets.iter().map(VoterSet::id).collect(),
            requests: BTreeMap::new(),
            asks: BTreeMap::new(),
            calls: BTreeMap::new(),
            doubts: BTreeMap::new(),
            next: 0,
            tick_us: u64::MAX,
        };
        self.processes.insert(id, process);
        self.live[place] = Some(id);
        let sets = self.sets[node].clone();
        self.say(format_args!("process {id} of n{node} starts at {place} with {sets:?}"));
        self.hear(id);
    }

    pub(super) fn kill(&mut self, place: usize) -> bool {
        let Some(id) = self.live[place].take() else { return false };
        self.processes.remove(&id);
        self.checks.forget(id);
        self.say(format_args!("process {id} at {place} ends"));
        true
    }

    fn gossip(&mut self) {
        let ids: Vec<u64> = self.processes.keys().copied().collect();
        ids.into_iter().for_each(|id| self.hear(id));
        self.after(GOSSIP_US, Event::Gossip);
    }

    /// A process hears of all that it can reach, and sets what its coordinator knows of voters.
    fn hear(&mut self, id: u64) {
        let now_us = self.now_us;
        let Some(place) = self.processes.get(&id).map(|process| process.place) else { return };
        let reached: Vec<(u64, usize)> = self
            .processes
            .iter()
            // gossip about a second process takes other ways than ballots, as long as there are any
            .filter(|(_, other)| self.live[TWIN].is_some() || !self.cut[place][other.place])
            .map(|(id, other)| (*id, other.place))
            .collect();
        let sets: BTreeMap<u64, Vec<VoterSetId>> =
            self.processes.iter().map(|(id, p)| (*id, p.sets.clone())).collect();
        let places: BTreeMap<u64, usize> = self.processes.iter().map(|(id, p)| (*id, p.node)).collect();
        let abstention_us = 2 * abstention_us(self.plan.max_ttl_us);
        let Some(process) = self.processes.get_mut(&id) else { return };
        for (other, _) in &reached {
            process.heard.insert(*other, now_us);
        }
        // a process that follows another one at its place says so
        process.heard.retain(|other, heard_us| places.contains_key(other) && *heard_us + DEAD_US > now_us);
        for node in 0..NODES {
            let lives = process.heard.keys().filter(|other| places[other] == node).count();
            if lives > 1 {
                process.doubled_until_us[node] = now_us + abstention_us;
            }
            let standing = match lives {
                _ if process.doubled_until_us[node] > now_us => VoterStanding::Doubled,
                0 => VoterStanding::Gone,
                _ => VoterStanding::Live,
            };
            process.coordinator.see(node as u64, standing);
        }
        let mono_us = process.clock.now(now_us).mono_us;
        for other in process.heard.keys() {
            process.changeover.see(mono_us, sets[other].iter().copied());
        }
    }

    /// The process of a node to which another one talks.
    fn process_of(&self, from: u64, node: usize) -> Option<u64> {
        let process = self.processes.get(&from)?;
        let of_node = |id: &&u64| self.processes.get(id).is_some_and(|other| other.node == node);
        let lives: Vec<u64> = process.heard.keys().filter(of_node).copied().collect();
        (!lives.is_empty()).then(|| lives[from as usize % lives.len()])
    }

    /// The node that coordinates leases on a path, as a process sees it.
    fn coordinator_of(&mut self, from: u64, path: &LeasePath) -> Option<u64> {
        let is_stray = self.is_stormy && self.random.chance(self.plan.strays);
        let any = self.random.bits();
        let lives = self.plan.coordinators.iter().filter_map(|node| self.process_of(from, *node));
        if is_stray {
            let lives: Vec<u64> = lives.collect();
            return lives.get(any as usize % lives.len().max(1)).copied();
        }
        let key = path.first_segment().iter().fold(7u64, |sum, byte| sum * 31 + u64::from(*byte));
        lives.max_by_key(|id| {
            let node = self.processes[id].node as u64;
            (key ^ (node + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15)).wrapping_mul(0xda94_2042_e4dd_58b5)
        })
    }

    /// How long a message takes.
    pub(super) fn delay_us(&mut self, places: &[usize]) -> u64 {
        let (low, high) = self.plan.delay_us;
        let us = self.random.within(low, high);
        if !self.is_stormy {
            return us;
        }
        let slow = self.slow_place.is_some_and(|slow| places.contains(&slow));
        match () {
            () if self.random.chance(self.plan.late) => {
                self.report.late += 1;
                self.random.below(self.plan.late_us)
            }
            () if slow || self.random.chance(self.plan.slow) => self.random.below(self.plan.slow_us),
            () => us,
        }
    }

    /// Sends a message to a process, if it comes through.
    fn send(&mut self, from: u64, to: u64, message: Message) -> bool {
        let (Some(a), Some(b)) = (self.processes.get(&from), self.processes.get(&to)) else { return false };
        let (a, b) = (a.place, b.place);
        let kind = match &message {
            Message::Ballot { call, .. } if matches!(call.ballot.motion, Motion::Renew { .. }) => Some(0),
            Message::Vote { .. } => Some(1),
            Message::Acquired { .. } => Some(2),
            _ => None,
        };
        let is_slow =
            self.is_stormy && kind.is_some_and(|kind| self.random.chance(self.plan.slow_kinds[kind]));
        let us = match () {
            () if a == b => 1,
            () if is_slow => self.random.within(SECOND_US / 20, 19 * SECOND_US / 20) << self.random.below(2),
            () => self.delay_us(&[a, b]),
        };
        if a != b && self.cut[a][b] {
            self.report.cut += 1;
            return false;
        }
        if a != b && self.is_stormy && self.random.chance(self.plan.loss) {
            self.report.lost += 1;
            return true;
        }
        self.after(us, Event::Deliver { to, message });
        true
    }

    fn deliver(&mut self, to: u64, message: Message) {
        let Some(process) = self.processes.get_mut(&to) else { return };
        let now = process.clock.now(self.now_us);
        match message {
            Message::Ballot { from, call } => return self.vote(to, from, &call),
            Message::Vote { round, set, node, answer } => {
                process.coordinator.vote(now, round, set, node, answer);
            }
            Message::Enter { from, request, wish, age_us, left_us } => {
                let waiter = Waiter {
                    ticket: wish.ticket,
                    path: wish.path,
                    slots: wish.slots,
                    ttl_us: wish.ttl_us,
                    label: wish.label.into(),
                    from: Incarnation(from),
                    request,
                    since_us: now.mono_us.saturating_sub(age_us),
                    until_us: now.mono_us + left_us,
                    lapses_us: now.mono_us + LAPSE_US,
                    not_before_us: 0,
                    tries: 0,
                    tried: None,
                };
                let id = process.coordinator.lease_id(waiter.ticket);
                self.checks.enters(now.mono_us, (to, waiter.ticket), id, &waiter);
                process.coordinator.acquire(now, waiter);
            }
            Message::Cancel { path, gone } => {
                process.coordinator.cancel(now, &path, gone);
                if !process.coordinator.has(&path, gone.ticket) {
                    self.checks.leaves((to, gone.ticket));
                }
                self.report.cancels += 1;
            }
            Message::Renew { from, request, lease } => {
                let call = process.next;
                process.next += 1;
                process.calls.insert(call, (from, request));
                process.coordinator.renew(now, call, lease);
            }
            Message::Release { from, request, path, token } => {
                let call = process.next;
                process.next += 1;
                process.calls.insert(call, (from, request));
                process.coordinator.release(now, call, &path, token);
            }
            Message::Acquired { from, ticket, request, result } => {
                return self.acquired(to, from, ticket, request, result);
            }
            Message::Done { request, answer } => {
                if let Some((client, attempt)) = process.asks.remove(&request) {
                    self.answer(to, client, attempt, answer);
                }
                return;
            }
            Message::Change(change) => return self.changed(to, &change),
        }
        self.carry_out(to);
    }

    fn vote(&mut self, to: u64, from: u64, call: &BallotCall) {
        let Some(process) = self.processes.get_mut(&to) else { return };
        let now = process.clock.now(self.now_us);
        let is_doubled = process.doubled_until_us[process.node] > self.now_us;
        let BallotCall { round, set, node, ballot: Ballot { motion, .. } } = call;
        let answer = match &mut process.voter {
            Some(voter) => voter.answer(now, is_doubled, &process.changeover, &call.ballot),
            None => return,
        };
        match (motion, &answer.vote) {
            (Motion::Release { path, token, id }, Vote::Released) => {
                self.checks.heard_release(to, path, *token, *id);
            }
            // a renewal that the release has overtaken
            (Motion::Renew { lease, .. }, Vote::Granted { .. }) => self.checks.renewed(to, lease),
            (Motion::Grant { lease, .. }, Vote::Granted { .. }) => self.checks.voted(self.now_us, to, lease),
            _ => {}
        }
        self.say(format_args!("voter {to}: {motion:?} of {from}: {answer:?}"));
        let reply = Message::Vote { round: *round, set: *set, node: *node, answer: Some(answer) };
        match motion {
            Motion::Check { .. } => drop(self.apart(|world| world.send(to, from, reply))),
            _ => drop(self.send(to, from, reply)),
        }
    }

    fn changed(&mut self, to: u64, change: &LeaseChange) {
        let Some(process) = self.processes.get_mut(&to) else { return };
        let now = process.clock.now(self.now_us);
        let mut events = Vec::new();
        process.view.expire(now.mono_us, |_| true, &mut events);
        process.ask_about_overdue(now);
        let mut changed = Vec::new();
        process.view.apply(now.mono_us, change, &mut changed);
        if let LeaseChange::Released { path, token } = change {
            process.coordinator.was_released(now, path, *token);
        }
        self.tell(to, &events, true);
        self.tell(to, &changed, false);
        self.carry_out(to);
    }

    /// A view tells something. `is_by_time`: not because a later lease has come.
    fn tell(&mut self, id: u64, events: &[LeaseEvent], is_by_time: bool) {
        for event in events {
            match event {
                LeaseEvent::Overdue(_) => {}
                LeaseEvent::Revived(_) => self.report.views_reset += 1,
                _ => self.report.events += 1,
            }
            self.checks.tells(self.now_us, id, event, is_by_time);
        }
    }

    /// Does something of which the chances are apart from those of all else.
    fn apart<R>(&mut self, act: impl FnOnce(&mut Self) -> R) -> R {
        std::mem::swap(&mut self.random, &mut self.checks_random);
        let result = act(self);
        std::mem::swap(&mut self.random, &mut self.checks_random);
        result
    }

    fn tick(&mut self, id: u64) {
        let Some(process) = self.processes.get_mut(&id) else { return };
        if process.tick_us > self.now_us {
            return;
        }
        process.tick_us = u64::MAX;
        let now = process.clock.now(self.now_us);
        process.coordinator.tick(now);
        let mut events = Vec::new();
        process.view.expire(now.mono_us, |_| true, &mut events);
        process.ask_about_overdue(now);
        self.tell(id, &events, true);
        self.carry_out(id);
    }

    /// Does what a coordinator wants.
    fn carry_out(&mut self, id: u64) {
        let Some(process) = self.processes.get_mut(&id) else { return };
        let (now, output) = (process.clock.now(self.now_us), process.coordinator.take_output());
        for call in output.ballots {
            if let Motion::Grant { lease, .. } = &call.ballot.motion {
                self.checks.asks(now.mono_us, id, lease.id);
            }
            match call.ballot.motion {
                Motion::Check { .. } => self.apart(|world| world.cast(id, call)),
                _ => self.cast(id, call),
            }
        }
        for Given { ticket, to, request, result } in output.acquired {
            self.say(format_args!("coordinator {id} answers {:x} at {}: {result:?}", ticket.0, to.0));
            let result = match result {
                Ok(Acquired { lease, deadline_us }) => {
                    if self.checks.granted(self.now_us, &lease) {
                        self.checks.served(now.mono_us, (id, ticket));
                    }
                    self.checks.leaves((id, ticket));
                    Ok((lease, deadline_us.saturating_sub(now.mono_us)))
                }
                Err(denied) => {
                    self.checks.leaves((id, ticket));
                    Err(denied)
                }
            };
            self.send(id, to.0, Message::Acquired { from: id, ticket, request, result });
        }
        for (call, done) in output.done {
            let Some(process) = self.processes.get_mut(&id) else { return };
            if let Some(doubt) = process.doubts.remove(&call) {
                let verdict = match done {
                    Done::Live { left_us } => Verdict::Live(left_us),
                    Done::Lost => Verdict::Over,
                    _ => Verdict::Unclear,
                };
                let mut events = Vec::new();
                process.view.hear(now.mono_us, &doubt, verdict, &mut events);
                match verdict {
                    Verdict::Live(_) => self.report.found_live += 1,
                    Verdict::Over => self.report.found_over += 1,
                    Verdict::Unclear => self.report.unclear += 1,
                }
                self.tell(id, &events, true);
                continue;
            }
            let Some((to, request)) = process.calls.remove(&call) else { continue };
            let answer = match done {
                Done::Renewed(Acquired { lease, deadline_us }) => Answer::Renewed {
                    lease,
                    left_us: deadline_us.saturating_sub(now.mono_us),
                    decided_us: self.now_us,
                },
                Done::Lost | Done::OtherHolds(_) => Answer::Lost,
                Done::Released | Done::Live { .. } => Answer::Released,
                Done::NoMajority(_) => Answer::NoMajority,
            };
            self.say(format_args!("coordinator {id} answers {answer:?} to {to}"));
            self.send(id, to, Message::Done { request, answer });
        }
        for change in output.changes {
            let all: Vec<u64> = self.processes.keys().copied().collect();
            for to in all {
                self.send(id, to, Message::Change(change.clone()));
            }
        }
        self.schedule(id);
    }

    /// Sends a ballot to a voter.
    fn cast(&mut self, id: u64, call: BallotCall) {
        let to = self.process_of(id, call.node as usize);
        let (round, set, node) = (call.round, call.set, call.node);
        let is_sent = to.is_some_and(|to| self.send(id, to, Message::Ballot { from: id, call }));
        // a connection that is refused, or one that is silent
        if !is_sent && self.random.chance(5_000) {
            let us = self.delay_us(&[]);
            let message = Message::Vote { round, set, node, answer: None };
            self.after(us, Event::Deliver { to: id, message });
        }
    }

    fn schedule(&mut self, id: u64) {
        let Some(process) = self.processes.get_mut(&id) else { return };
        let of_view = process.view.next_expiry_us().into_iter().chain(process.view.next_ask_us());
        let due = of_view.chain(process.coordinator.due_us()).min();
        let Some(due_us) = due.map(|due_us| process.clock.when(due_us).max(self.now_us)) else { return };
        if due_us < process.tick_us {
            process.tick_us = due_us;
            self.after(due_us - self.now_us, Event::Tick { process: id });
        }
    }

    fn asked(&mut self, id: u64, client: usize, attempt: u64, ask: Ask) {
        let now_us = self.now_us;
        let Some(process) = self.processes.get_mut(&id) else { return };
        let request = process.next;
        process.next += 1;
        let since_us = process.clock.now(now_us).mono_us;
        let (path, message) = match ask {
            Ask::Acquire(wish) => {
                let until_us = since_us + wish.wait_us;
                let overdue_us = process.clock.when(until_us) - now_us + 3 * SECOND_US;
                let coordinator = 0;
                let came_us = now_us;
                let entry = Request { client, attempt, wish, since_us, until_us, came_us, coordinator };
                process.requests.insert(request, entry);
                self.after(overdue_us, Event::Overdue { process: id, request });
                return self.enter(id, request);
            }
            Ask::Renew(lease) => (lease.path.clone(), Message::Renew { from: id, request, lease }),
            Ask::Release(path, token) => (path.clone(), Message::Release { from: id, request, path, token }),
        };
        process.asks.insert(request, (client, attempt));
        if let Some(to) = self.coordinator_of(id, &path) {
            self.send(id, to, message);
        }
    }

    /// Has a request of a client wait at the coordinator, or confirms that it does.
    fn enter(&mut self, id: u64, request: u64) {
        let Some(process) = self.processes.get(&id) else { return };
        let Some(waiting) = process.requests.get(&request) else { return };
        let now = process.clock.now(self.now_us);
        let (wish, until_us) = (waiting.wish.clone(), waiting.until_us);
        let age_us = now.mono_us - waiting.since_us;
        let to = self.coordinator_of(id, &wish.path);
        let left_us = until_us.saturating_sub(now.mono_us);
        if let Some(to) = to {
            self.send(id, to, Message::Enter { from: id, request, wish, age_us, left_us });
            if let Some(waiting) = self.processes.get_mut(&id).and_then(|p| p.requests.get_mut(&request)) {
                waiting.coordinator = to;
            }
        }
        if left_us > 0 {
            self.after(5 * SECOND_US, Event::Enter { process: id, request });
        }
    }

    fn overdue(&mut self, id: u64, request: u64) {
        let now_us = self.now_us;
        let Some(process) = self.processes.get_mut(&id) else { return };
        let Some(waiting) = process.requests.remove(&request) else { return };
        self.report.overdue += 1;
        if waiting.came_us >= self.strict_us.saturating_add(SECOND_US) {
            let detail = format!("{:?} of client {} at process {id}", waiting.wish, waiting.client);
            self.checks.broken(now_us, "each request is answered", format_args!("{detail}"));
        }
        self.answer(id, waiting.client, waiting.attempt, Answer::Denied);
    }

    /// The coordinator's answer comes to the node that holds the client's request.
    fn acquired(
        &mut self,
        id: u64,
        from: u64,
        ticket: LeaseId,
        request: u64,
        result: Result<(Arc<Lease>, u64), Denied>,
    ) {
        let Some(process) = self.processes.get_mut(&id) else { return };
        // not by the ticket: a later request may have the same one
        let waiting = process.requests.remove(&request);
        match (waiting, result) {
            (Some(waiting), Ok((lease, left_us))) => {
                self.answer(id, waiting.client, waiting.attempt, Answer::Granted { lease, left_us });
            }
            (Some(waiting), Err(_)) => {
                self.answer(id, waiting.client, waiting.attempt, Answer::Denied);
            }
            // its client is gone
            (None, Ok((lease, _))) => {
                let granted = Some(lease.token);
                let gone = Cancelled { ticket, from: Incarnation(id), request, granted };
                self.send(id, from, Message::Cancel { path: lease.path.clone(), gone });
            }
            (None, Err(_)) => {}
        }
    }

    /// A node notices that its client is gone.
    fn hung_up(&mut self, id: u64, client: usize, attempt: u64) {
        let Some(process) = self.processes.get_mut(&id) else { return };
        let is_such =
            |(_, waiting): &(&u64, &Request)| waiting.client == client && waiting.attempt == attempt;
        let Some(request) = process.requests.iter().find(is_such).map(|(request, _)| *request) else {
            return;
        };
        let Some(gone) = process.requests.remove(&request) else { return };
        let still = process.requests.values().any(|waiting| waiting.wish.ticket == gone.wish.ticket);
        if !still {
            let Wish { path, ticket, .. } = gone.wish;
            let cancelled = Cancelled { ticket, from: Incarnation(id), request, granted: None };
            self.send(id, gone.coordinator, Message::Cancel { path, gone: cancelled });
        }
    }

    fn answer(&mut self, from: u64, client: usize, attempt: u64, answer: Answer) {
        let Some(place) = self.processes.get(&from).map(|process| process.place) else { return };
        let us = self.delay_us(&[place]);
        self.after(us, Event::Answer { client, attempt, answer });
    }

    /// Whether nothing is left of any lease.
    pub(super) fn end(&mut self) {
        let now_us = self.now_us;
        for (id, process) in &mut self.processes {
            let now = process.clock.now(now_us);
            let (held, waiting) = (process.coordinator.held(), process.coordinator.waiting());
            let mut events = Vec::new();
            process.view.expire(now.mono_us, |_| false, &mut events);
            let seen = process.view.len() + process.view.overdue();
            if held + waiting + seen > 0 {
                let detail = format!("process {id}: {held} held, {waiting} wait, {seen} in its view");
                self.checks.broken(now_us, "nothing is left", format_args!("{detail}"));
            }
        }
        if self.plan.scenario.keeps_leases() && self.report.lost_leases > 0 {
            let lost = self.report.lost_leases;
            self.checks.broken(
                now_us,
                "a holder that renews keeps its lease",
                format_args!("{lost} lost theirs"),
            );
        }
    }
}
