//! The node's part in leases: drives a coordinator, a voter and a view under a lock of their own.
//!
//! A step takes the lock for a few microseconds and sends nothing. What it asks for, the calls to other nodes, goes
//! through a channel to a loop of the cluster, which returns the answers.

mod calls;
mod members;
mod readers;
mod state;
mod tables;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, mpsc, oneshot};
use tokio::time::timeout;

use crate::config::Config;
use crate::core::feed::Scope;
use crate::core::lease::coordinator::ROUND_US;
use crate::core::lease::message::{
    Blocker, Decision, Denied, Ending, LeaseAsk, LeaseRequest, LeaseResponse, LiveLease, Unanswered,
};
use crate::core::lease::{Concern, Lease, LeaseId, LeasePath, Token, VoterSet};
use crate::core::stamp::Now;
use crate::core::{Incarnation, Name, Summary};
use crate::node::clock;
use crate::node::store::{Readiness, SharedStore};
use crate::wire::node_info::{LeaseVoters, hash};
pub use calls::{LeaseCall, Reply};
pub use readers::LeaseNews;
use readers::Wake;
use state::State;

/// How long the node that holds a client's request waits beyond the client's patience for the coordinator, before it
/// answers that there is no majority.
const SLACK: Duration = Duration::from_micros(4 * ROUND_US);

/// How long a coordinator lets another node's request wait for the decision, before it says that it will call. The
/// node takes it for unreachable after four times as long, and then coordinates the request itself.
const DECIDE: Duration = Duration::from_micros(ROUND_US / 2);

/// Most requests of a batch, or their results, for which one step holds the lock.
const REQUESTS_A_STEP: usize = 32;

/// How often waiting requests are confirmed at their coordinators.
pub const CONFIRM_US: u64 = 5_000_000;

/// What the settings say about leases.
#[derive(Clone, Debug)]
pub struct LeaseSettings {
    /// The sets of voters; empty if there are none.
    pub sets: Vec<VoterSet>,
    /// The hash of this node's id, if it has one of its own.
    pub node: u64,
    /// The longest time to live, µs.
    pub max_ttl_us: u64,
    /// How far ahead of a voter's clock a token may be, µs.
    pub max_future_us: u64,
    /// Most leases.
    pub max_leases: usize,
    /// Whether no voter has voted before in this cluster.
    pub is_first: bool,
}

impl LeaseSettings {
    /// The settings of a node.
    #[must_use]
    pub fn of(config: &Config) -> Self {
        Self {
            sets: config.lease.sets(&config.node_id, config.cluster.is_alone()),
            node: hash(&config.node_id),
            max_ttl_us: config.lease.max_ttl_us(),
            max_future_us: u64::try_from(config.max_future.as_micros()).unwrap_or(u64::MAX),
            max_leases: config.lease.max_leases,
            is_first: config.lease.is_first,
        }
    }
}

/// The leases of a node. Cheap to clone.
#[derive(Clone)]
pub struct Leases {
    shared: Arc<Shared>,
}

struct Shared {
    state: Mutex<State>,
    /// Leases in the view: while there are none, a write looks no further.
    in_view: AtomicUsize,
    calls: mpsc::UnboundedSender<Vec<LeaseCall>>,
    /// Something is due earlier than the loop of timers knows.
    earlier: Notify,
    store: SharedStore,
    settings: LeaseSettings,
}

/// What stands in the way of a write.
#[derive(Clone, Debug)]
pub enum Cover {
    /// Nothing.
    None,
    /// The lease whose token the writer shows.
    Own,
    /// Another lease.
    Other(Blocker),
}

/// The counts of the leases of a node.
#[derive(Clone, Debug, Default)]
pub struct LeaseCensus {
    /// Leases that it has granted as a coordinator, and that are held.
    pub granted: usize,
    /// Requests that wait at it as a coordinator.
    pub waiting: usize,
    /// Leases that it knows to be held anywhere.
    pub known: usize,
    /// Leases that it remembers as a voter; `None` if it is none.
    pub remembered: Option<usize>,
    /// For how long it still abstains as a voter.
    pub abstains_for: Duration,
    /// Refused votes, by reason.
    pub refused: [u64; 11],
    /// Streams that are told lease events.
    pub readers: usize,
    /// How often such a stream began again.
    pub resets: u64,
    /// Leases that have run out here, and about which the voters have not said yet whether they are over.
    pub overdue: usize,
    /// What the voters have said of such leases, by [`crate::core::lease::view::Verdict::LABELS`].
    pub verdicts: [u64; 3],
    /// How many voters there are.
    pub voters: usize,
    /// How many of them are live members, and one process each.
    pub live_voters: usize,
    /// How many of them are two processes, or were not long ago: these do not count.
    pub doubled_voters: usize,
    /// How many live members have other voters than this node: then no node votes.
    pub with_other_voters: usize,
}

impl Leases {
    /// The leases of a process, and its calls to other nodes.
    #[must_use]
    pub fn new(
        settings: LeaseSettings,
        us: Incarnation,
        store: SharedStore,
    ) -> (Self, mpsc::UnboundedReceiver<Vec<LeaseCall>>) {
        let (calls, outgoing) = mpsc::unbounded_channel();
        let state = State::new(&settings, us, clock::with_sleep());
        let shared = Shared {
            state: Mutex::new(state),
            in_view: AtomicUsize::new(0),
            calls,
            earlier: Notify::new(),
            store,
            settings,
        };
        (Self { shared: Arc::new(shared) }, outgoing)
    }

    /// The settings.
    #[must_use]
    pub fn settings(&self) -> &LeaseSettings {
        &self.shared.settings
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.shared.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether this node has reason to doubt its clock. It takes no lock.
    fn doubts_its_clock(&self) -> bool {
        self.shared.store.readiness() == Readiness::ClockInDoubt
    }

    /// Does a step under the lock, and sends what it asks for.
    fn step<R>(&self, step: impl FnOnce(&mut State, Now) -> R) -> R {
        let now = clock::with_sleep();
        let mut state = self.lock();
        let result = self.step_of(&mut state, now, step);
        let is_earlier = state.due_us() < state.armed_us;
        drop(state);
        if is_earlier {
            self.shared.earlier.notify_one();
        }
        result
    }

    fn step_of<R>(&self, state: &mut State, now: Now, step: impl FnOnce(&mut State, Now) -> R) -> R {
        state.doubts_its_clock = self.doubts_its_clock();
        let result = step(state, now);
        state.settle(now);
        self.shared.in_view.store(state.view.len(), Ordering::Relaxed);
        let calls = std::mem::take(&mut state.calls);
        if !calls.is_empty() {
            // Under the lock, for ballots must not overtake those with smaller tokens. Without the loop of a cluster
            // there is no other node to call.
            let _ = self.shared.calls.send(calls);
        }
        result
    }

    /// Runs what is due by itself: expiries, retries, and the confirmation of waiting requests.
    pub async fn run(self) {
        loop {
            let due_us = {
                let mut state = self.lock();
                self.step_of(&mut state, clock::with_sleep(), State::tick);
                // what the step led to is due too, and a step after this one knows when the loop wakes
                state.armed_us = state.due_us();
                state.armed_us
            };
            let pause_us = due_us.saturating_sub(clock::with_sleep().mono_us);
            tokio::select! {
                () = tokio::time::sleep(Duration::from_micros(pause_us)) => {}
                () = self.shared.earlier.notified() => {}
            }
        }
    }

    /// Takes the live members, without this node, and the ids of the sets of voters of those that say them.
    pub fn see(&self, live: &[Summary], voters: &[LeaseVoters]) {
        self.step(|state, now| state.see(now, live, voters));
    }

    /// Whether a node that joins has to wait for what the voters remember: a write that it accepts before may be under
    /// a lease. Not for longer than 2 s after it first saw a voter.
    #[must_use]
    pub fn awaits_tables(&self) -> bool {
        self.step(State::awaits_tables)
    }

    /// The node is about to stop: it votes no more.
    pub fn depart(&self) {
        self.step(|state, _| state.is_leaving = true);
    }

    /// Asks for a lease, for a client of this node. If the future is dropped, the client is gone: the lease is released
    /// if it was granted.
    pub async fn acquire(&self, ask: LeaseAsk) -> Decision {
        let patience = Duration::from_micros(ask.wait_us) + SLACK;
        let (path, ticket) = (ask.path.clone(), ask.ticket);
        let (sender, decided) = oneshot::channel();
        let number = self.step(|state, now| state.acquire(now, ask, sender));
        let mut gone = Gone { leases: self, path, ticket, number, is_decided: false };
        let Ok(Ok(decision)) = timeout(patience, decided).await else {
            // the coordinator is out of reach, or the same request came again and has taken this one's place
            return Decision::Denied(Denied::NoMajority(Unanswered::default()));
        };
        gone.is_decided = true;
        decision
    }

    /// Renews a lease.
    pub async fn renew(&self, lease: Arc<Lease>) -> Ending {
        self.operate(|state, now, number| state.renew(now, number, lease)).await
    }

    /// Releases a lease.
    pub async fn release(&self, path: LeasePath, token: Token) -> Ending {
        self.operate(|state, now, number| state.release(now, number, path, token)).await
    }

    /// Asks the voters whether a lease with a token covers a path.
    pub async fn check(&self, path: &LeasePath, token: Token) -> Ending {
        self.operate(|state, now, number| state.coordinator.check(now, number, path, token)).await
    }

    async fn operate(&self, begin: impl FnOnce(&mut State, Now, u64)) -> Ending {
        let (sender, ended) = oneshot::channel();
        self.step(|state, now| {
            let number = state.expect(sender);
            begin(state, now, number);
        });
        match timeout(SLACK, ended).await {
            Ok(Ok(ending)) => ending,
            Ok(Err(_)) | Err(_) => Ending::NoMajority(Unanswered::default()),
        }
    }

    /// Answers a request of another node.
    pub async fn answer(&self, from: Incarnation, request: LeaseRequest) -> LeaseResponse {
        if request.needs_coordinator() && self.doubts_its_clock() {
            return LeaseResponse::Noted;
        }
        match request {
            LeaseRequest::Acquire(ask) => self.coordinate(from, ask).await,
            LeaseRequest::Renew(lease) => LeaseResponse::Ended(
                self.operate(|state, now, number| state.coordinator.renew(now, number, lease)).await,
            ),
            LeaseRequest::Release { path, token } => LeaseResponse::Ended(
                self.operate(|state, now, number| state.coordinator.release(now, number, &path, token)).await,
            ),
            LeaseRequest::Remembered { after } => self.step(|state, now| state.remembered(now, &after)),
            LeaseRequest::Batch(requests) => LeaseResponse::Batch(self.answer_all(from, requests)),
            prompt => self.step(|state, now| state.answer(now, from, prompt)),
        }
    }

    /// Answers the requests of a batch, some under the lock at a time.
    fn answer_all(&self, from: Incarnation, requests: Vec<LeaseRequest>) -> Vec<LeaseResponse> {
        let mut responses = Vec::with_capacity(requests.len());
        let mut requests = requests.into_iter().peekable();
        while requests.peek().is_some() {
            self.step(|state, now| {
                let some = requests.by_ref().take(REQUESTS_A_STEP);
                responses.extend(some.map(|request| state.answer(now, from, request)));
            });
        }
        responses
    }

    /// Coordinates a request that another node holds.
    async fn coordinate(&self, from: Incarnation, ask: LeaseAsk) -> LeaseResponse {
        let (ticket, request) = (ask.ticket, ask.request);
        let (sender, mut decided) = oneshot::channel();
        self.step(|state, now| state.coordinate(now, from, ask, Some(sender)));
        if let Ok(Ok(decision)) = timeout(DECIDE, &mut decided).await {
            return LeaseResponse::Decided(decision);
        }
        self.lock().forget_call(ticket, request);
        // decided between the two
        decided.try_recv().map_or(LeaseResponse::Waits, LeaseResponse::Decided)
    }

    /// The results of calls: each the answer of the other node, or none.
    pub fn returned(&self, results: Vec<(Reply, Option<LeaseResponse>)>) {
        let mut results = results.into_iter().peekable();
        while results.peek().is_some() {
            self.step(|state, now| {
                for (reply, response) in results.by_ref().take(REQUESTS_A_STEP) {
                    state.returned(now, reply, response);
                }
            });
        }
    }

    /// What stands in the way of a write to a name, with the token that the writer shows.
    #[must_use]
    pub fn cover(&self, name: &Name, token: Option<Token>) -> Cover {
        if self.shared.in_view.load(Ordering::Relaxed) == 0 {
            return Cover::None;
        }
        let now_us = clock::with_sleep().mono_us;
        let state = self.lock();
        match state.view.covering(now_us, name, token) {
            None => Cover::None,
            Some(entry) if Some(entry.lease.token) == token => Cover::Own,
            Some(entry) => Cover::Other(Blocker {
                path: entry.lease.path.clone(),
                id: entry.lease.id,
                label: Arc::clone(&entry.lease.label),
                token: entry.lease.token,
                left_us: entry.expires_us.saturating_sub(now_us),
            }),
        }
    }

    /// Whether no lease is known anywhere, without the lock.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.shared.in_view.load(Ordering::Relaxed) == 0
    }

    /// The leases that this node knows, by path, after a key and as long as `take` is true, with how many wait for each
    /// path here.
    #[must_use]
    pub fn list(
        &self,
        after: &[u8],
        mut take: impl FnMut(&Lease) -> bool,
        most: usize,
    ) -> Vec<(LiveLease, usize)> {
        let now_us = clock::with_sleep().mono_us;
        let state = self.lock();
        let live = state.view.after(now_us, after).take_while(|entry| take(entry.lease)).take(most);
        live.map(|entry| {
            let left_us = entry.expires_us.saturating_sub(now_us);
            let waiting = state.coordinator.waiting_for(&entry.lease.path);
            (LiveLease { lease: entry.lease.clone(), left_us }, waiting)
        })
        .collect()
    }

    /// The leases that overlap with a path, as far as this node knows.
    #[must_use]
    pub fn overlapping(&self, path: &LeasePath) -> Vec<(LiveLease, usize)> {
        let now_us = clock::with_sleep().mono_us;
        let state = self.lock();
        let live = state.view.overlapping(now_us, path);
        live.map(|entry| {
            let left_us = entry.expires_us.saturating_sub(now_us);
            let waiting = state.coordinator.waiting_for(&entry.lease.path);
            (LiveLease { lease: entry.lease.clone(), left_us }, waiting)
        })
        .collect()
    }

    /// The other process that coordinates the leases on a path; `None` if this one does.
    #[must_use]
    pub fn coordinator_of(&self, path: &LeasePath) -> Option<Incarnation> {
        self.lock().other_coordinator_of(path)
    }

    /// Begins to tell a reader what happens to the leases that concern the names of a scope.
    #[must_use]
    pub fn watch(&self, scope: &Scope) -> LeaseReader {
        let (number, wake) = self.lock().readers.enter(Concern::of(scope));
        LeaseReader { leases: self.clone(), number, wake }
    }

    /// The counts.
    #[must_use]
    pub fn census(&self) -> LeaseCensus {
        let now = clock::with_sleep();
        self.lock().census(now)
    }
}

/// A reader of lease events. Dropping it ends that.
pub struct LeaseReader {
    leases: Leases,
    number: u64,
    wake: Wake,
}

impl LeaseReader {
    /// What there is to tell now: at first, and after [`LeaseNews::Reset`], what is held, in parts. Empty if there is
    /// nothing. A step under the lock of some microseconds.
    #[must_use]
    pub fn take(&mut self) -> Vec<LeaseNews> {
        let mut state = self.leases.lock();
        let State { readers, view, .. } = &mut *state;
        readers.take(self.number, view)
    }

    /// Waits until there is something.
    pub async fn wait(&self) {
        self.wake.notified().await;
    }
}

impl Drop for LeaseReader {
    fn drop(&mut self) {
        self.leases.lock().readers.leave(self.number);
    }
}

/// Cancels the request of a client that is gone.
struct Gone<'a> {
    leases: &'a Leases,
    path: LeasePath,
    ticket: LeaseId,
    number: u64,
    is_decided: bool,
}

impl Drop for Gone<'_> {
    fn drop(&mut self) {
        if !self.is_decided {
            let (path, ticket, number) = (self.path.clone(), self.ticket, self.number);
            self.leases.step(|state, now| state.give_up(now, &path, ticket, number));
        }
    }
}
