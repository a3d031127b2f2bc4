//! The replica: decides when a node pushes, with which peer it syncs, when it is ready, and when it moves the horizon.
//!
//! It is driven from outside: each method is one step under the lock of the [`Store`], gets the time and randomness,
//! and leaves the requests to send in the store's [`super::Effects`]. The shell sends each [`Call`] to its peer,
//! returns the response under the same id, or reports that there was none, and calls [`Replica::tick`] about every 100
//! ms.

mod expiry;
mod horizon;
mod restore;
mod session;
#[cfg(test)]
mod tests;
mod types;

use std::collections::{BTreeMap, VecDeque};

pub use types::{ClockSteps, Compaction, Config, Counts, HeldBy};

use super::genesis::{Genesis, GenesisMark};
use super::history::Depth;
use super::join::{JoinDecision, Joiner, RefusalCause, SEARCH_US, SeedStatus, decide, is_whole_cluster};
use super::limits::{HORIZON_SLICE, LEAST_GRACE_US};
use super::message::{Call, Request, Response};
use super::mutants::Mutant;
use super::peers::{NodeState, Peers, Summary};
use super::record::Incarnation;
use super::stamp::{Now, Stamp};
use super::store::Store;
use super::sync::{Moment, respond};
use expiry::Expiry;
use restore::{Restoring, Revived};
use session::Session;

/// The replica of a node. See the module.
#[derive(Debug)]
pub struct Replica {
    config: Config,
    /// Whether the node has a set. Before that the genesis of its store is [`Genesis::none`].
    joined: bool,
    leaving: bool,
    /// Whether it may not join yet.
    held: bool,
    peers: Peers,
    started: Now,
    session: Session,
    next_id: u64,
    /// The pushes under way by call: the peer, the last sequence number, and when it was sent.
    pushes: BTreeMap<u64, (Incarnation, u64, Now)>,
    clock: ClockWatch,
    sync_at_us: u64,
    interval_us: u64,
    /// (time, our last sequence number then), every second, to forget writes by their age.
    written: VecDeque<(u64, u64)>,
    others: Vec<SeedStatus>,
    /// Since when the provisional set has been the set of the whole cluster, µs of the monotonic clock.
    whole_since_us: Option<u64>,
    /// The set that the node is in, and since when, µs of the monotonic clock.
    in_set: Option<GenesisMark>,
    in_set_since_us: u64,
    expiry: Expiry,
    restoring: Restoring,
    /// What this node serves from its disk, until it is told what was lost.
    revived: Option<Revived>,
    waits_for_clock: bool,
    /// The key and the reflected stamp of the set that was loaded.
    reflects_from: Option<([u8; 16], Stamp)>,
    counts: Counts,
}

/// What the replica knows of the node's own clock.
#[derive(Clone, Copy, Debug)]
struct ClockWatch {
    last: Now,
    /// Whether the clock was set, and has not been trusted since.
    stepped: bool,
    /// The time of the last step, or of the start.
    steady: Now,
    /// The sum of all steps since the clock was last trusted, µs.
    away_us: i64,
}

impl Replica {
    /// The replica of a process that has just started. In a cluster the genesis of its store is [`Genesis::none`]; if
    /// the node is alone, it is a real one.
    #[must_use]
    pub fn new(config: Config, now: Now) -> Self {
        Self {
            config,
            joined: config.alone && !config.mirrors,
            leaving: false,
            held: false,
            peers: Peers::speaking(config.protocol),
            started: now,
            session: Session::new(config.budget, config.protocol.newest()),
            next_id: 1,
            pushes: BTreeMap::new(),
            clock: ClockWatch { last: now, stepped: false, steady: now, away_us: 0 },
            sync_at_us: now.mono_us,
            interval_us: config.sync_us,
            written: VecDeque::new(),
            others: Vec::new(),
            whole_since_us: None,
            in_set: None,
            in_set_since_us: now.mono_us,
            expiry: Expiry::default(),
            restoring: Restoring::default(),
            revived: None,
            waits_for_clock: false,
            reflects_from: None,
            counts: Counts::default(),
        }
    }

    /// The state of the node between start and end.
    #[must_use]
    pub fn state(&self) -> NodeState {
        match (self.leaving, self.joined) {
            (true, _) => NodeState::Leaving,
            (false, true) => NodeState::Ready,
            (false, false) => NodeState::Joining,
        }
    }

    /// Whether the node has a set, and so answers reads.
    #[must_use]
    pub fn is_joined(&self) -> bool {
        self.joined
    }

    /// The peers.
    #[must_use]
    pub fn peers(&self) -> &Peers {
        &self.peers
    }

    /// The counters.
    #[must_use]
    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// Sets whether a node that joins has to wait: until it has learned something else, for a bounded time.
    pub fn hold(&mut self, held: bool) {
        self.held = held;
    }

    /// The node is about to stop: its state is leaving from now on.
    pub fn leave(&mut self) {
        self.leaving = true;
        self.peers.hurry();
    }

    /// Records the clock of a peer that came with an answer to another request than a call of the replica. The request
    /// was sent at `sent`, the answer came at `now`.
    pub fn heard_clock(&mut self, process: Incarnation, theirs: Stamp, sent: Now, now: Now) {
        self.peers.clock(process, theirs, sent, now, self.clock_bound_us() / 4);
    }

    /// The state of the node and of its set, for gossip.
    #[must_use]
    pub fn summary<T>(&self, store: &Store<T>) -> Summary {
        Summary {
            incarnation: store.incarnation(),
            node: self.config.node,
            region: self.config.region,
            state: self.state(),
            genesis: self.joined.then(|| store.genesis().mark()),
            root: store.set().root(),
            registers: store.registers(),
            vector: store.vector().mark(),
            unproven: store.unproven().filter(|_| self.joined),
            saved: self.saved().map(|saved| saved.mark),
            protocol: self.config.protocol,
        }
    }

    /// Sets the live members, without this node, and the status of each address of discovery that is not our own.
    pub fn see<T>(&mut self, store: &mut Store<T>, now: Now, live: &[Summary], others: &[SeedStatus]) {
        let mutants = store.mutants();
        if mutants.has(Mutant::ApartIsNoMember) {
            let ours = self.config.protocol;
            let speaks = |summary: &&Summary| ours.highest_common(summary.protocol).is_some();
            let live: Vec<Summary> = live.iter().filter(speaks).copied().collect();
            self.peers.see(store.log(), now.mono_us, &live, self.config.horizon_cap_us);
        } else {
            self.peers.see(store.log(), now.mono_us, live, self.config.horizon_cap_us);
        }
        // a member may have a set although this node cannot send requests to it
        let apart = |process| self.peers.get(process).is_some_and(|peer| peer.version().is_none());
        self.others.clear();
        self.others.extend(others.iter().map(|status| match status {
            SeedStatus::Answers(process) if apart(*process) && !mutants.has(Mutant::ApartIsNotWaitedFor) => {
                SeedStatus::Refuses(RefusalCause::Version)
            }
            status => *status,
        }));
        self.check_members(store, now);
        if !store.mutants().has(Mutant::NoHorizonExchange) {
            let moment = self.moment(store, now);
            let ours = store.unproven().map(|_| store.genesis().mark().key_id);
            // an unproven set adopts nothing of a set that may not be its own
            let counts =
                |set: Option<GenesisMark>| ours.is_none_or(|ours| set.is_some_and(|set| set.key_id == ours));
            for registers in
                live.iter().filter(|summary| counts(summary.genesis)).map(|summary| summary.registers)
            {
                if moment.refuses(&registers, &store.registers()) {
                    self.counts.wrong_horizons += 1;
                } else {
                    store.adopt_registers(registers, 0);
                }
            }
            store.adopt_registers(store.registers(), HORIZON_SLICE);
        }
    }

    /// Does all that is due at `now`.
    pub fn tick<T>(&mut self, store: &mut Store<T>, now: Now, entropy: u64) {
        self.watch_clock(store, now);
        self.forget_old_writes(store, now);
        if self.config.mirrors {
            // its leader decides
        } else if self.joined {
            self.move_horizon(store, now);
            self.make_real(store, now);
            self.tell_loss(store, now);
            if self.session.is_idle() && now.mono_us >= self.sync_at_us && store.set().is_settled() {
                self.start_sync(store, now, entropy);
            }
        } else {
            self.join(store, now, entropy);
        }
        self.expire(store, now);
        self.watch_set(store, now);
        self.compact_by_age_and_bytes(store, now);
        // the rest of what the registers cut
        store.adopt_registers(store.registers(), HORIZON_SLICE);
        self.end_long_session(now);
        self.make_room_in_vector(store);
        self.pump(store, now);
    }

    /// Sends pushes that are due. The caller also calls it after each write.
    pub fn pump<T>(&mut self, store: &mut Store<T>, now: Now) {
        let live: Vec<Incarnation> = self.peers.compatible().map(|peer| peer.summary.incarnation).collect();
        live.into_iter().for_each(|to| self.pump_to(store, now, to));
    }

    fn pump_to<T>(&mut self, store: &mut Store<T>, now: Now, to: Incarnation) {
        let (id, Some(peer)) = (self.next_id, self.peers.get_mut(to)) else { return };
        let Some(version) = peer.version() else { return };
        let batch = peer.outbox.next(store.log(), store.set(), store.incarnation(), now.mono_us, id);
        let Some(batch) = batch else { return };
        self.next_id += 1;
        self.pushes.insert(id, (to, batch.upto, now));
        store.call(Call { id, to, version, request: Request::Push(batch) });
    }

    /// Notices that the node is in another set.
    fn watch_set<T>(&mut self, store: &Store<T>, now: Now) {
        let set = self.joined.then(|| GenesisMark { provisional: false, ..store.genesis().mark() });
        if set != self.in_set {
            (self.in_set, self.in_set_since_us) = (set, now.mono_us);
        }
    }

    /// Answers a request of a peer.
    pub fn request<T>(&mut self, store: &mut Store<T>, now: Now, request: &Request) -> Response {
        self.check_request(store, now, request);
        match request {
            Request::Push(batch) => Response::Push(store.take(self.moment(store, now), batch)),
            // until it has joined, what it has saved is neither compared nor mixed with anything else
            Request::Sync(_) if self.saved().is_some() => Response::Sync(self.joining_answer(store, now)),
            Request::Sync(ask) => {
                let moment = self.moment(store, now);
                Response::Sync(respond(store, self.joined, moment, ask))
            }
        }
    }

    /// Applies the response to a call.
    pub fn response<T>(&mut self, store: &mut Store<T>, now: Now, entropy: u64, id: u64, response: Response) {
        // a response of another kind is no response
        if self.pushes.contains_key(&id) != matches!(response, Response::Push(_)) {
            return self.failed(store, now, id);
        }
        if self.check_response(store, now, &response) {
            return;
        }
        match response {
            Response::Push(ack) => {
                if let Some((to, upto, sent)) = self.pushes.remove(&id) {
                    if let Some(peer) = self.peers.get_mut(to) {
                        // another process at the same address does not have what this one received
                        let have = if ack.from == to { ack.have } else { 0 };
                        peer.outbox.acked(store.log(), id, upto, have);
                    }
                    self.peers.clock(ack.from, ack.now, sent, now, self.clock_bound_us() / 4);
                    self.pump_to(store, now, to);
                }
            }
            Response::Sync(answer) => self.sync_answered(store, now, entropy, id, answer),
        }
    }

    /// Records that a call got no response.
    pub fn failed<T>(&mut self, store: &mut Store<T>, now: Now, id: u64) {
        match self.pushes.remove(&id) {
            Some((to, ..)) => {
                if let Some(peer) = self.peers.get_mut(to) {
                    peer.outbox.failed(id, now.mono_us);
                }
            }
            None => self.sync_unanswered(store, now, id),
        }
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

    fn join<T>(&mut self, store: &mut Store<T>, now: Now, entropy: u64) {
        if !self.session.is_idle() || self.leaving || self.held || self.is_loading() {
            return;
        }
        let mutants = store.mutants();
        if mutants.has(Mutant::EmptyJoinersReady)
            && self.peers.live().any(|peer| peer.summary.state == NodeState::Joining)
        {
            return self.begin(store, false);
        }
        let (us, empty) = (store.incarnation(), store.set().root().count == 0);
        let searched_us = now.mono_us - self.started.mono_us;
        let unanswered_us = self.session.unanswered_us(now);
        let (saved, cold_start_wait_us) = (self.saved(), self.config.cold_start_wait_us);
        let mono_us = now.mono_us;
        let joiner = Joiner { us, empty, searched_us, unanswered_us, mono_us, saved, cold_start_wait_us };
        let decision = match self.config.alone {
            true => JoinDecision::ColdStart,
            false => decide(joiner, &self.peers, &self.others, entropy, mutants),
        };
        if matches!(decision, JoinDecision::Join(_)) && now.mono_us < self.sync_at_us
            || self.join_with_saved(store, now, entropy, decision)
        {
            return;
        }
        match decision {
            JoinDecision::Wait => {}
            JoinDecision::Join(peer) => self.start_snapshot(store, now, peer),
            JoinDecision::ColdStart => self.begin(store, false),
            JoinDecision::ServeAlone => self.begin(store, true),
        }
    }

    /// Begins a set. The random key of the store becomes the key of the set.
    ///
    /// The set starts with this process and not now: a stamp that a reader saw while this node was searching for others
    /// may be of a set that lives, and must not count as older than this set.
    fn begin<T>(&mut self, store: &mut Store<T>, provisional: bool) {
        store.adopt(Genesis {
            provisional,
            started: self.started.wall,
            key: store.genesis().key,
            versions: self.config.history_versions,
        });
        self.has_joined(store);
    }

    /// The mirror of another set is complete: see [`Config::mirrors`].
    pub fn has_mirrored<T>(&mut self, store: &mut Store<T>) {
        if !self.joined {
            self.has_joined(store);
        }
    }

    /// The node has a set: it serves it, and follows its changes.
    pub(super) fn has_joined<T>(&mut self, store: &mut Store<T>) {
        self.joined = true;
        self.restoring = Restoring::Nothing;
        store.keep_changes();
    }

    /// Makes a provisional set a real one, once it has been the set of the whole cluster for [`SEARCH_US`]. Every node
    /// makes the same genesis of it.
    fn make_real<T>(&mut self, store: &mut Store<T>, now: Now) {
        let genesis = store.genesis();
        if !genesis.provisional || !is_whole_cluster(genesis.mark(), &self.peers, &self.others) {
            self.whole_since_us = None;
            return;
        }
        let since_us = *self.whole_since_us.get_or_insert(now.mono_us);
        if since_us + SEARCH_US <= now.mono_us {
            store.adopt(Genesis { provisional: false, ..genesis });
            store.set_proven();
        }
    }

    /// Removes processes that are gone from a vector that fills up, to make room for new ones.
    fn make_room_in_vector<T>(&self, store: &mut Store<T>) {
        // a stamp is ahead of its writer's clock by as much as a client's may be, and that is ahead of ours by less
        let lead_us = 2 * self.config.max_future_us;
        if store.vector().len() > self.config.vector_room {
            store.prune_vector(lead_us, |incarnation| self.peers.remembers(incarnation));
        }
        if store.vector().len() > self.config.vector_room / 4 * 7 {
            store.prune_vector(lead_us, |incarnation| self.peers.is_live(incarnation));
        }
    }
}
