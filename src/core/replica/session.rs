//! The session of a replica: the one round or snapshot that is under way, and the next one.

use super::{Call, Config, Counts, Incarnation, Now, Replica, Request, Store};
use crate::core::limits::MAX_SESSION_US;
use crate::core::message::{SyncRequest, SyncResponse};
use crate::core::peers::{Peer, SyncTask};
use crate::core::protocol::ProtocolVersion;
use crate::core::sync::{Next, Round, RoundResult, Snapshot, SnapshotNext, Stop, much_larger};

/// How often in a row a request without an answer is repeated. A repeated request has no further effect.
pub(super) const RETRIES: u32 = 2;

/// A peer that does not answer for this long, µs, loses its turn: a peer that hangs must not keep others waiting.
const HANGS_US: u64 = 5_000_000;

/// A round may take this long, µs, while other peers need repair. The records that it has merged stay.
const ROUND_US: u64 = 30_000_000;

/// Least budget of an answer, in bytes, however slow the link is: a link needs more than 20 kB/s.
const LEAST_BUDGET: u32 = 64 << 10;

/// The session of a replica. See the module.
#[derive(Debug)]
pub(super) struct Session {
    kind: Kind,
    since_us: u64,
    /// The version of the protocol that both sides speak.
    version: ProtocolVersion,
    /// The number of calls in a row without a response.
    silences: u32,
    /// When the last request was sent.
    asked: Option<Now>,
    /// When the first request since the last answer was sent, µs of the monotonic clock.
    unanswered_since_us: Option<u64>,
    /// A snapshot whose peer is gone, to be resumed.
    parked: Option<Snapshot>,
    /// Most bytes of a request or an answer. It is halved after each answer that does not come in time, and doubled
    /// after each one that does: an answer that is too large for the link never arrives, however often it is requested.
    budget: u32,
}

#[derive(Debug)]
enum Kind {
    Idle,
    /// With the id of the call that is under way.
    Round(u64, Round),
    Snapshot(u64, Snapshot),
}

impl Session {
    pub(super) fn new(budget: u32, version: ProtocolVersion) -> Self {
        Self {
            kind: Kind::Idle,
            since_us: 0,
            version,
            silences: 0,
            asked: None,
            unanswered_since_us: None,
            parked: None,
            budget,
        }
    }

    /// For how long requests have got no answer, µs; 0 if the last one got an answer, and before the first request.
    pub(super) fn unanswered_us(&self, now: Now) -> u64 {
        now.mono_us - self.unanswered_since_us.unwrap_or(now.mono_us)
    }

    pub(super) fn is_idle(&self) -> bool {
        matches!(self.kind, Kind::Idle)
    }
}

impl Replica {
    pub(super) fn start_sync<T>(&mut self, store: &mut Store<T>, now: Now, entropy: u64) {
        self.sync_at_us =
            now.mono_us + self.interval_us - self.interval_us / 8 + entropy % (self.interval_us / 4).max(1);
        let ours = self.summary(store);
        let Some((peer, task)) = self.peers.next(now.mono_us, entropy >> 8, &ours, store.mutants()) else {
            return;
        };
        // a snapshot continues where it stopped, unless most of its records have come in other ways
        let far = |peer: &Peer| much_larger(peer.summary.root.count, ours.root.count);
        self.session.parked.take_if(|_| !self.peers.get(peer).is_some_and(far));
        if self.session.parked.is_some() {
            return self.start_snapshot(store, now, peer);
        }
        let round = match task {
            SyncTask::Round => Round::new(store, peer, self.session.budget, entropy >> 16),
            SyncTask::Vectors => Round::vectors(store, peer, self.session.budget),
        };
        self.open(now, peer);
        self.go_on(store, now, round);
    }

    /// Starts a round with a peer.
    pub(super) fn compare_with<T>(
        &mut self,
        store: &mut Store<T>,
        now: Now,
        peer: Incarnation,
        entropy: u64,
    ) {
        let round = Round::new(store, peer, self.session.budget, entropy >> 16);
        self.open(now, peer);
        self.go_on(store, now, round);
    }

    /// Ends the session: an answer that still comes is of none.
    pub(super) fn end_session(&mut self) {
        (self.session.kind, self.session.parked) = (Kind::Idle, None);
    }

    pub(super) fn start_snapshot<T>(&mut self, store: &mut Store<T>, now: Now, peer: Incarnation) {
        let snapshot = match self.session.parked.take() {
            Some(parked) => parked.resume(peer, self.session.budget),
            None => Snapshot::new(peer, self.session.budget),
        };
        self.open(now, peer);
        self.go_on_with_snapshot(store, now, snapshot);
    }

    fn open(&mut self, now: Now, with: Incarnation) {
        (self.session.silences, self.session.since_us) = (0, now.mono_us);
        // if the peer is gone by now, the session has its version already
        if let Some(version) = self.peers.get(with).and_then(Peer::version) {
            self.session.version = version;
        }
    }

    fn go_on<T>(&mut self, store: &mut Store<T>, now: Now, mut round: Round) {
        let (peer, ask) = (round.peer(), round.ask(store));
        self.session.kind = Kind::Round(self.call(store, now, peer, ask), round);
    }

    fn go_on_with_snapshot<T>(&mut self, store: &mut Store<T>, now: Now, snapshot: Snapshot) {
        // a peer's genesis counts from the first answer on, for the digest only
        let ask = snapshot.ask(store, self.joined);
        self.session.kind = Kind::Snapshot(self.call(store, now, snapshot.peer(), ask), snapshot);
    }

    fn call<T>(&mut self, store: &mut Store<T>, now: Now, to: Incarnation, ask: SyncRequest) -> u64 {
        self.session.asked = Some(now);
        self.session.unanswered_since_us.get_or_insert(now.mono_us);
        let id = self.next_id;
        self.next_id += 1;
        store.call(Call { id, to, version: self.session.version, request: Request::Sync(ask) });
        id
    }

    /// Takes the round or snapshot out of the session, if it waits for this call.
    fn take_session(&mut self, id: u64) -> Kind {
        match &self.session.kind {
            Kind::Round(of, _) | Kind::Snapshot(of, _) if *of == id => {
                std::mem::replace(&mut self.session.kind, Kind::Idle)
            }
            _ => Kind::Idle,
        }
    }

    pub(super) fn sync_answered<T>(
        &mut self,
        store: &mut Store<T>,
        now: Now,
        entropy: u64,
        id: u64,
        answer: SyncResponse,
    ) {
        let session = self.take_session(id);
        if let (Kind::Round(..) | Kind::Snapshot(..), Some(asked)) = (&session, self.session.asked) {
            (self.session.silences, self.session.unanswered_since_us) = (0, None);
            if now.mono_us < asked.mono_us + HANGS_US / 4 {
                self.session.budget = self.session.budget.saturating_mul(2).min(self.config.budget);
            }
            self.peers.clock(answer.from, answer.now, asked, now, self.clock_bound_us() / 4);
        }
        let moment = self.moment(store, now);
        match session {
            Kind::Idle => {}
            Kind::Round(_, mut round) => {
                match round.answered(store, moment, entropy, answer) {
                    Next::Ask => self.go_on(store, now, round),
                    Next::Done(result) => self.done(store, now, round.peer(), result),
                    Next::Stop(Stop::TakeSnapshot) => {
                        self.counts.too_different += 1;
                        self.start_snapshot(store, now, round.peer());
                    }
                    // we have adopted the other genesis by now, or the peer adopts ours in the next round
                    Next::Stop(Stop::OtherGenesis) => self.sync_at_us = now.mono_us,
                    Next::Stop(Stop::Settling) => self.settles(now, round.peer()),
                    Next::Stop(why) => self.stopped(now, round.peer(), Some(why)),
                }
            }
            Kind::Snapshot(_, mut snapshot) => match snapshot.answered(store, self.joined, moment, answer) {
                SnapshotNext::Ask => self.go_on_with_snapshot(store, now, snapshot),
                SnapshotNext::Done { .. } => {
                    self.counts.snapshots += 1;
                    self.has_joined(store);
                    self.sync_at_us = now.mono_us;
                }
                SnapshotNext::Stop(Stop::Settling) => {
                    self.settles(now, snapshot.peer());
                    self.session.parked = Some(snapshot);
                }
                SnapshotNext::Stop(why) => {
                    self.stopped(now, snapshot.peer(), Some(why));
                    self.session.parked = self.joined.then_some(snapshot);
                }
            },
        }
    }

    pub(super) fn sync_unanswered<T>(&mut self, store: &mut Store<T>, now: Now, id: u64) {
        let session = self.take_session(id);
        if matches!(session, Kind::Idle) {
            return;
        }
        let again = self.session.silences < RETRIES;
        self.session.silences += 1;
        match session {
            Kind::Idle => {}
            Kind::Round(_, round) if again && self.peers.is_live(round.peer()) => {
                self.go_on(store, now, round);
            }
            Kind::Round(_, round) => self.stopped(now, round.peer(), None),
            Kind::Snapshot(_, snapshot) if again && self.peers.is_live(snapshot.peer()) => {
                self.go_on_with_snapshot(store, now, snapshot);
            }
            Kind::Snapshot(_, snapshot) => {
                self.stopped(now, snapshot.peer(), None);
                self.session.parked = Some(snapshot);
            }
        }
    }

    /// Ends a session with a peer that does not answer or takes too long: the peer loses its turn. Received records
    /// stay merged. A late answer belongs to no session any more.
    pub(super) fn end_long_session(&mut self, now: Now) {
        let Session { kind, asked, since_us, budget, .. } = &mut self.session;
        let hangs = asked.is_some_and(|asked| now.mono_us >= asked.mono_us + HANGS_US);
        let ends = match kind {
            Kind::Idle => return,
            Kind::Round(_, round) => {
                now.mono_us >= *since_us + ROUND_US && self.peers.others_need_repair(round.peer())
            }
            Kind::Snapshot(..) => false,
        };
        if !(hangs || ends || now.mono_us >= *since_us + MAX_SESSION_US) {
            return;
        }
        if hangs {
            *budget = (*budget / 2).max(LEAST_BUDGET.min(self.config.budget));
        }
        match std::mem::replace(&mut self.session.kind, Kind::Idle) {
            Kind::Idle => {}
            Kind::Round(_, round) => self.stopped(now, round.peer(), None),
            Kind::Snapshot(_, snapshot) => {
                self.stopped(now, snapshot.peer(), None);
                self.session.parked = Some(snapshot);
            }
        }
    }

    fn done<T>(&mut self, store: &mut Store<T>, now: Now, peer: Incarnation, mut result: RoundResult) {
        if !self.joined {
            // what came while this node was away is no fault of a push
            result.old_differences = 0;
            self.has_joined(store);
        }
        let Config { sync_us, sync_slow_us, .. } = self.config;
        let Counts { rounds, vectors, differences, old_differences, requests, .. } = &mut self.counts;
        self.peers.synced(peer, store.vector().mark(), self.session.since_us);
        *if result.differences == 0 && result.requests == 1 { vectors } else { rounds } += 1;
        *differences += result.differences;
        *old_differences += result.old_differences;
        *requests += u64::from(result.requests);
        // pushes bring recent writes anyhow: a round for them costs more than it brings
        self.interval_us = match (result.differences, result.old_differences) {
            (1.., 0) => (self.interval_us * 2).min(sync_slow_us),
            _ => sync_us,
        };
        self.sync_at_us = self.sync_at_us.max(now.mono_us + self.interval_us / 2);
    }

    /// The peer first drops old tombstones, in slices, before it compares: that is no failure, and other peers have a
    /// turn.
    fn settles(&mut self, now: Now, peer: Incarnation) {
        self.peers.rest(peer, now.mono_us);
        self.sync_at_us = now.mono_us + self.config.sync_us / 4;
    }

    fn stopped(&mut self, now: Now, peer: Incarnation, why: Option<Stop>) {
        self.counts.failures += 1;
        self.counts.wrong_horizons += u64::from(why == Some(Stop::WrongHorizon));
        self.peers.failed(peer, now.mono_us);
        self.sync_at_us = now.mono_us + self.config.sync_us / 4;
    }
}
