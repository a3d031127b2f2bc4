//! A node's part in the group: when to push, with whom to sync, when to be ready, when to move the horizon.
//!
//! Driven from outside: each method is one step under the lock that guards the [`Store`], is handed the time and
//! randomness, and returns the requests that are to be sent. Who drives it sends each [`Call`] to its peer and brings
//! back the response, or that there was none, under the same id; and calls [`Replica::tick`] every 100 ms or so.

#[cfg(test)]
mod tests;
mod types;

use std::collections::{BTreeMap, VecDeque};

pub use types::{Call, Config, Counts, Effects, Now, Request, Response};

use super::genesis::Genesis;
use super::joining::{Step, step};
use super::limits::MAX_VECTOR;
use super::mutants::Mutant;
use super::peers::{Errand, Peers, State, Summary};
use super::record::Incarnation;
use super::stamp::Stamp;
use super::store::{Due, Store};
use super::sync::{Answer, Ask, Next, Outcome, Round, Snapshot, SnapshotNext, Stop, respond};
use super::tombstones::horizon_in_steps;

/// See the module.
#[derive(Debug)]
pub struct Replica {
    config: Config,
    state: State,
    peers: Peers,
    started: Now,
    session: Session,
    /// Calls of this session that got no response since the last one that did.
    silences: u32,
    /// A snapshot whose peer is gone, to be resumed.
    parked: Option<Snapshot>,
    next_id: u64,
    /// By call: to whom, up to where, and when.
    pushes: BTreeMap<u64, (Incarnation, u64, Now)>,
    /// When we last looked at our clock, and whether it was set and nobody has agreed with it since.
    last: Now,
    stepped: bool,
    /// When the request of the session was sent.
    asked: Now,
    sync_at_us: u64,
    interval_us: u64,
    /// (when, our last sequence then), every second, to forget writes by their age.
    written: VecDeque<(u64, u64)>,
    /// Addresses beside our own, and how many refuse us.
    others: (usize, usize),
    counts: Counts,
}

#[derive(Debug)]
enum Session {
    Idle,
    Round(u64, Round),
    Snapshot(u64, Snapshot),
}

/// How often in a row a request of a round is asked again when it gets no answer: it changes nothing to ask twice.
const RETRIES: u32 = 2;

impl Replica {
    /// Of a process that has just started.
    #[must_use]
    pub fn new(config: Config, now: Now) -> Self {
        Self {
            config,
            state: if config.alone { State::Ready } else { State::Joining },
            peers: Peers::default(),
            started: now,
            session: Session::Idle,
            silences: 0,
            parked: None,
            next_id: 1,
            pushes: BTreeMap::new(),
            last: now,
            stepped: false,
            asked: now,
            sync_at_us: now.mono_us,
            interval_us: config.sync_us,
            written: VecDeque::new(),
            others: (0, 0),
            counts: Counts::default(),
        }
    }

    /// Where it is between start and end.
    #[must_use]
    pub fn state(&self) -> State {
        self.state
    }

    /// Whom it knows.
    #[must_use]
    pub fn peers(&self) -> &Peers {
        &self.peers
    }

    /// What it counted.
    #[must_use]
    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// Whether our clock is so far from those of a majority that we should not stamp writes: by more than four fifths of
    /// what we take from clients; or was set, and no majority has agreed since.
    #[must_use]
    pub fn doubts_its_clock(&self) -> bool {
        let (near, off) = self.peers.clocks(self.clock_bound_us());
        off || self.stepped && !near
    }

    fn clock_bound_us(&self) -> u64 {
        self.config.max_future_us / 5 * 4
    }

    /// Notices when the wall clock goes another way than the monotonic one: it was set, or the machine slept.
    fn watch_clock(&mut self, now: Now) {
        let went_us = now.wall.micros().abs_diff(self.last.wall.micros());
        let passed_us = now.mono_us.saturating_sub(self.last.mono_us);
        let back = now.wall < self.last.wall;
        if back || went_us.abs_diff(passed_us) > self.clock_bound_us() / 4 {
            self.stepped = true;
            self.peers.forget_clocks();
        } else if self.stepped && self.peers.clocks(self.clock_bound_us()).0 {
            self.stepped = false;
        }
        self.last = now;
    }

    /// It is about to stop, and says so.
    pub fn leave(&mut self) {
        self.state = State::Leaving;
    }

    fn joined(&self) -> bool {
        self.state != State::Joining
    }

    /// What is to be gossiped of it.
    #[must_use]
    pub fn summary<T>(&self, store: &Store<T>) -> Summary {
        Summary {
            incarnation: store.incarnation(),
            node: self.config.node,
            region: self.config.region,
            state: self.state,
            genesis: self.joined().then(|| store.genesis().mark()),
            root: store.set().root(),
            horizon: store.set().horizon(),
            vector: store.vector().mark(),
        }
    }

    /// Who is live now, without ourselves; how many other addresses there are, and how many of them refuse us.
    pub fn see<T>(
        &mut self,
        store: &mut Store<T>,
        now: Now,
        live: &[Summary],
        others: usize,
        refused: usize,
    ) {
        self.others = (others, refused);
        self.peers.see(store.log(), now.mono_us, live);
        if !store.mutants().has(Mutant::NoHorizonExchange) {
            let largest = live.iter().map(|summary| summary.horizon).max();
            store.raise_horizon(largest.unwrap_or(Stamp::ZERO), usize::MAX);
        }
    }

    /// Does what is due.
    pub fn tick<T>(&mut self, store: &mut Store<T>, now: Now, entropy: u64) -> Vec<Call> {
        let mut calls = Vec::new();
        self.watch_clock(now);
        self.forget_old_writes(store, now);
        if self.state == State::Joining {
            self.join(store, now, entropy, &mut calls);
        } else {
            self.move_horizon(store, now);
            if matches!(self.session, Session::Idle) && now.mono_us >= self.sync_at_us {
                self.start_sync(store, now, entropy, &mut calls);
            }
        }
        if store.vector().len() > MAX_VECTOR / 2 {
            store.prune_vector(|incarnation| self.peers.remembers(incarnation));
        }
        calls.append(&mut self.pump(store, now));
        calls
    }

    /// Pushes what was written: to be called after each write too.
    pub fn pump<T>(&mut self, store: &Store<T>, now: Now) -> Vec<Call> {
        let mut calls = Vec::new();
        for (to, peer) in self.peers.live_mut() {
            let batch = peer.outbox.next(store.log(), store.set(), store.incarnation(), now.mono_us);
            if let Some(batch) = batch {
                let id = self.next_id;
                self.next_id += 1;
                self.pushes.insert(id, (to, batch.upto, now));
                calls.push(Call { id, to, request: Request::Push(batch) });
            }
        }
        calls
    }

    /// Answers a peer.
    pub fn request<T>(&mut self, store: &mut Store<T>, now: Now, request: &Request) -> (Response, Due<T>) {
        match request {
            Request::Push(batch) => {
                let (ack, due) = store.take(now.wall, batch);
                (Response::Push(ack), due)
            }
            Request::Sync(ask) => {
                let (answer, due) = respond(store, self.joined(), now.wall, ask);
                (Response::Sync(answer), due)
            }
        }
    }

    /// Takes in the response to a call.
    pub fn response<T>(
        &mut self,
        store: &mut Store<T>,
        now: Now,
        entropy: u64,
        id: u64,
        response: Response,
    ) -> Effects<T> {
        let mut effects = Effects::default();
        match response {
            Response::Push(ack) => {
                if let Some((to, upto, sent)) = self.pushes.remove(&id)
                    && let Some(peer) = self.peers.get_mut(to)
                {
                    // another process at the same address knows nothing of what was sent to this one
                    let have = if ack.from == to { ack.have } else { 0 };
                    peer.outbox.acked(store.log(), upto, have);
                    self.peers.clock(ack.from, ack.now, sent, now, self.config.max_future_us / 4);
                    effects.calls = self.pump(store, now);
                }
            }
            Response::Sync(answer) => self.sync_answered(store, now, entropy, id, answer, &mut effects),
        }
        effects
    }

    /// A call got no response.
    pub fn failed<T>(&mut self, store: &Store<T>, now: Now, id: u64) -> Vec<Call> {
        let mut calls = Vec::new();
        if let Some((to, ..)) = self.pushes.remove(&id) {
            if let Some(peer) = self.peers.get_mut(to) {
                peer.outbox.failed(now.mono_us);
            }
            return calls;
        }
        let again = self.silences < RETRIES;
        match std::mem::replace(&mut self.session, Session::Idle) {
            Session::Round(of, mut round) if of == id => {
                if again && self.peers.is_live(round.peer()) {
                    self.silences += 1;
                    let ask = round.ask(store);
                    let id = self.call(now, round.peer(), ask, &mut calls);
                    self.session = Session::Round(id, round);
                } else {
                    self.stopped(now, round.peer());
                }
            }
            Session::Snapshot(of, snapshot) if of == id => {
                if again && self.peers.is_live(snapshot.peer()) {
                    self.silences += 1;
                    let id = self.call(now, snapshot.peer(), snapshot.ask(store, self.joined()), &mut calls);
                    self.session = Session::Snapshot(id, snapshot);
                } else {
                    self.stopped(now, snapshot.peer());
                    self.parked = Some(snapshot);
                }
            }
            other => self.session = other,
        }
        calls
    }

    fn forget_old_writes<T>(&mut self, store: &mut Store<T>, now: Now) {
        if self.written.back().is_none_or(|(at, _)| at + 1_000_000 <= now.mono_us) {
            self.written.push_back((now.mono_us, store.log().sequence()));
        }
        while let Some((at, sequence)) = self.written.front().copied()
            && at + self.config.push_us <= now.mono_us
        {
            store.forget_writes(sequence);
            self.written.pop_front();
        }
    }

    fn join<T>(&mut self, store: &mut Store<T>, now: Now, entropy: u64, calls: &mut Vec<Call>) {
        if !matches!(self.session, Session::Idle) {
            return;
        }
        let looked_us = now.mono_us - self.started.mono_us;
        if store.mutants().has(Mutant::EmptyJoinersReady)
            && self.peers.live().any(|peer| peer.summary.state == State::Joining)
        {
            return self.begin(store, false);
        }
        let empty = store.set().root().count == 0;
        match step(store.incarnation(), empty, &self.peers, self.others.0, self.others.1, looked_us, entropy)
        {
            Step::Wait => {}
            Step::Join(_) if now.mono_us < self.sync_at_us => {}
            Step::Join(peer) => self.start_snapshot(store, now, peer, calls),
            Step::ColdStart => self.begin(store, false),
            Step::ServeAlone => self.begin(store, true),
        }
    }

    /// Begins a set. The store was made with a random key, which now becomes that of the set.
    ///
    /// It counts from the start of this process and not from now: what a reader saw while we were looking for others may
    /// be of a set that lives, and is not to be taken for older than this one.
    fn begin<T>(&mut self, store: &mut Store<T>, provisional: bool) {
        store.adopt(Genesis { provisional, started: self.started.wall, key: store.genesis().key });
        self.state = State::Ready;
    }

    fn move_horizon<T>(&mut self, store: &mut Store<T>, now: Now) {
        let up_us = now.mono_us - self.started.mono_us;
        let early = store.mutants().has(Mutant::RestartedMovesHorizon);
        // one clock that is a year ahead must not make all forget their tombstones
        let trusted = !self.stepped && self.peers.clocks(self.clock_bound_us()).0;
        if up_us < self.config.grace_us && !early || !trusted && !store.mutants().has(Mutant::TrustAnyClock) {
            return;
        }
        let Config { grace_us, horizon_cap_us, settle_us, horizon_step_us: step_us, .. } = self.config;
        let settle_us = if store.mutants().has(Mutant::ReturnedHoldsNothing) { 0 } else { settle_us };
        let held = !self.peers.nobody_missing(now.mono_us, horizon_cap_us, settle_us);
        let age_us = if held { horizon_cap_us } else { grace_us };
        let started = if early { Stamp::ZERO } else { before(now.wall, up_us) };
        if let Some(horizon) = horizon_in_steps(now.wall, started, age_us, step_us) {
            store.raise_horizon(horizon, usize::MAX);
        }
    }

    fn start_sync<T>(&mut self, store: &mut Store<T>, now: Now, entropy: u64, calls: &mut Vec<Call>) {
        self.silences = 0;
        self.sync_at_us =
            now.mono_us + self.interval_us - self.interval_us / 8 + entropy % (self.interval_us / 4);
        let ours = self.summary(store);
        let Some((peer, errand)) = self.peers.next(now.mono_us, entropy >> 8, &ours) else { return };
        if self.parked.is_some() {
            return self.start_snapshot(store, now, peer, calls);
        }
        let mut round = match errand {
            Errand::Round => Round::new(store, peer, self.config.budget, entropy >> 16),
            Errand::Vectors => Round::vectors(store, peer, self.config.budget),
        };
        let ask = round.ask(store);
        let id = self.call(now, peer, ask, calls);
        self.session = Session::Round(id, round);
    }

    fn start_snapshot<T>(&mut self, store: &Store<T>, now: Now, peer: Incarnation, calls: &mut Vec<Call>) {
        self.silences = 0;
        let snapshot = match self.parked.take() {
            Some(parked) => parked.resume(peer),
            None => Snapshot::new(peer, self.config.budget),
        };
        let id = self.call(now, peer, snapshot.ask(store, self.joined()), calls);
        self.session = Session::Snapshot(id, snapshot);
    }

    fn call(&mut self, now: Now, to: Incarnation, ask: Ask, calls: &mut Vec<Call>) -> u64 {
        self.asked = now;
        let id = self.next_id;
        self.next_id += 1;
        calls.push(Call { id, to, request: Request::Sync(ask) });
        id
    }

    fn sync_answered<T>(
        &mut self,
        store: &mut Store<T>,
        now: Now,
        entropy: u64,
        id: u64,
        answer: Answer,
        effects: &mut Effects<T>,
    ) {
        let silences = std::mem::take(&mut self.silences);
        let session_id = match &self.session {
            Session::Idle => None,
            Session::Round(of, _) | Session::Snapshot(of, _) => Some(*of),
        };
        if session_id == Some(id) {
            self.peers.clock(answer.from, answer.now, self.asked, now, self.config.max_future_us / 4);
        }
        match std::mem::replace(&mut self.session, Session::Idle) {
            Session::Round(of, mut round) if of == id => {
                let (next, mut due) = round.answered(store, now.wall, entropy, answer);
                effects.due.append(&mut due);
                match next {
                    Next::Ask => {
                        let ask = round.ask(store);
                        let id = self.call(now, round.peer(), ask, &mut effects.calls);
                        self.session = Session::Round(id, round);
                    }
                    Next::Done(outcome) => self.done(store, now, round.peer(), outcome),
                    Next::Stop(Stop::TakeSnapshot) => {
                        self.start_snapshot(store, now, round.peer(), &mut effects.calls);
                    }
                    // the other genesis is ours by now, or the next round will tell them
                    Next::Stop(Stop::OtherGenesis) => self.sync_at_us = now.mono_us,
                    Next::Stop(_) => self.stopped(now, round.peer()),
                }
            }
            Session::Snapshot(of, mut snapshot) if of == id => {
                let (next, mut due) = snapshot.answered(store, self.joined(), now.wall, answer);
                effects.due.append(&mut due);
                match next {
                    SnapshotNext::Ask => {
                        // its genesis counts from the first answer on, for the digest only
                        let ask = snapshot.ask(store, self.joined());
                        let id = self.call(now, snapshot.peer(), ask, &mut effects.calls);
                        self.session = Session::Snapshot(id, snapshot);
                    }
                    SnapshotNext::Done { .. } => {
                        self.counts.snapshots += 1;
                        if self.state == State::Joining {
                            self.state = State::Ready;
                        }
                        self.sync_at_us = now.mono_us;
                    }
                    SnapshotNext::Stop(_) => {
                        self.stopped(now, snapshot.peer());
                        self.parked = self.joined().then_some(snapshot);
                    }
                }
            }
            other => (self.session, self.silences) = (other, silences),
        }
    }

    fn done<T>(&mut self, store: &Store<T>, now: Now, peer: Incarnation, outcome: Outcome) {
        self.peers.synced(peer, store.vector().mark());
        if outcome.differences == 0 && outcome.requests == 1 {
            self.counts.vectors += 1;
        } else {
            self.counts.rounds += 1;
        }
        self.counts.differences += outcome.differences;
        self.counts.old_differences += outcome.old_differences;
        self.counts.requests += u64::from(outcome.requests);
        // what is young is on its way anyhow: looking for it costs more than it brings
        self.interval_us = match (outcome.differences, outcome.old_differences) {
            (1.., 0) => (self.interval_us * 2).min(self.config.sync_slow_us),
            _ => self.config.sync_us,
        };
        self.sync_at_us = self.sync_at_us.max(now.mono_us + self.interval_us / 2);
    }

    fn stopped(&mut self, now: Now, peer: Incarnation) {
        self.counts.failures += 1;
        self.peers.failed(peer, now.mono_us);
        self.sync_at_us = now.mono_us + self.config.sync_us / 4;
    }
}

fn before(now: Stamp, us: u64) -> Stamp {
    Stamp::from_micros(now.micros().saturating_sub(us)).unwrap_or(Stamp::ZERO)
}
