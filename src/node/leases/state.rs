//! What the lock of leases guards.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use tokio::sync::oneshot;

use super::calls::{LeaseCall, Reply};
use super::members::Members;
use super::readers::Readers;
use super::tables::Tables;
use super::{CONFIRM_US, LeaseCensus, LeaseSettings};
use crate::core::lease::coordinator::{
    Acquired, Answer, BallotCall, CoordinatorConfig, Done, LAPSE_US, Output, VoterStanding,
};
use crate::core::lease::message::{
    Ballot, Decision, Ending, LeaseAsk, LeaseChange, LeaseRequest, LeaseResponse, LiveLease, Unanswered,
    Vote, VoteRefusal, VoterAnswer,
};
use crate::core::lease::queue::{Cancelled, Waiter};
use crate::core::lease::rules::LeaseRules;
use crate::core::lease::view::{Doubt, LeaseEvent, Verdict};
use crate::core::lease::voter::VoterConfig;
use crate::core::lease::{Coordinator, Lease, LeaseId, LeasePath, Token, View, Voter, VoterSet};
use crate::core::stamp::Now;
use crate::core::{Incarnation, Summary};
use crate::node::limits::{
    MAX_LEASE_CHANGES_PENDING, MAX_LEASE_CHECKS, MAX_LEASE_WAITERS, MAX_LEASE_WAITERS_OF_PATH,
    MAX_LEASES_A_MESSAGE,
};
use crate::wire::node_info::LeaseVoters;

/// With how many requests those whose clients are gone are looked for, at least.
const MIN_SWEEP: usize = 64;

/// The request of a client of this node.
pub(super) struct Client {
    sender: oneshot::Sender<Decision>,
    /// Tells it from the same request that came again.
    number: u64,
    /// As it was when the client came.
    ask: LeaseAsk,
    since_us: u64,
}

/// Changes for another node, one message at a time so that they arrive in order.
#[derive(Default)]
struct Outbox {
    pending: Vec<LeaseChange>,
    is_sending: bool,
}

pub(super) struct State {
    us: Incarnation,
    node: u64,
    voter: Option<Voter>,
    pub(super) coordinator: Coordinator,
    pub(super) view: View,
    members: Members,
    pub(super) doubts_its_clock: bool,
    clients: HashMap<LeaseId, Client>,
    /// Leases that clients of this node got, until they expire: their coordinator may ask again.
    taken: HashMap<LeaseId, u64>,
    /// Requests of other nodes whose calls wait for the decision.
    callers: HashMap<(LeaseId, u64), oneshot::Sender<Decision>>,
    requests: HashMap<u64, oneshot::Sender<Ending>>,
    /// With how many of them those whose clients are gone are forgotten.
    sweep_requests_at: usize,
    /// Leases about which the voters are asked for readers.
    asked: HashMap<u64, Doubt>,
    pub(super) readers: Readers,
    /// What the voters have said of them, by [`Verdict::LABELS`].
    verdicts: [u64; 3],
    next_request: u64,
    outboxes: BTreeMap<Incarnation, Outbox>,
    next_confirm_us: u64,
    /// When the loop of timers wakes next, µs.
    pub(super) armed_us: u64,
    tables: Tables,
    refused: [u64; 11],
    pub(super) is_leaving: bool,
    pub(super) calls: Vec<LeaseCall>,
}

impl State {
    pub(super) fn new(settings: &LeaseSettings, us: Incarnation, now: Now) -> Self {
        let rules = LeaseRules::default();
        let is_voter = settings.sets.iter().any(|set: &VoterSet| set.has(settings.node));
        let voter = is_voter.then(|| {
            let config = VoterConfig {
                node: settings.node,
                sets: settings.sets.clone(),
                max_ttl_us: settings.max_ttl_us,
                max_future_us: settings.max_future_us,
                max_leases: settings.max_leases,
                is_first: settings.is_first,
                rules,
            };
            Voter::new(config, now)
        });
        let coordinator = Coordinator::new(CoordinatorConfig {
            sets: settings.sets.clone(),
            max_leases: settings.max_leases,
            max_waiters_of_path: MAX_LEASE_WAITERS_OF_PATH,
            max_waiters: MAX_LEASE_WAITERS,
            rules,
            salt: us.0,
        });
        let mut state = Self {
            us,
            node: settings.node,
            voter,
            coordinator,
            view: View::default(),
            members: Members::new(us, settings.node, &settings.sets, settings.max_ttl_us),
            doubts_its_clock: false,
            clients: HashMap::new(),
            taken: HashMap::new(),
            callers: HashMap::new(),
            requests: HashMap::new(),
            sweep_requests_at: MIN_SWEEP,
            asked: HashMap::new(),
            readers: Readers::default(),
            verdicts: [0; 3],
            next_request: 0,
            outboxes: BTreeMap::new(),
            next_confirm_us: now.mono_us + CONFIRM_US,
            armed_us: 0,
            tables: Tables::new(settings.node, &settings.sets),
            refused: [0; 11],
            is_leaving: false,
            calls: Vec::new(),
        };
        state.see_voters(now);
        state
    }

    fn see_voters(&mut self, now: Now) {
        for (node, standing) in self.members.standings(now.mono_us) {
            self.coordinator.see(node, standing);
        }
    }

    pub(super) fn see(&mut self, now: Now, live: &[Summary], voters: &[LeaseVoters]) {
        let new = self.members.see(now.mono_us, live, voters);
        self.see_voters(now);
        self.outboxes.retain(|process, _| self.members.live().contains(process));
        // what was granted before this node knew the others
        for process in new.into_iter().filter(|process| self.members.has_voter(*process)) {
            self.tables.asks(now.mono_us);
            let request = LeaseRequest::Remembered { after: Vec::new() };
            self.calls.push(LeaseCall { to: process, request, reply: Reply::Remembered(process) });
        }
    }

    pub(super) fn tick(&mut self, now: Now) {
        // a voter that was two processes may be one again
        self.see_voters(now);
        self.coordinator.tick(now);
        let mut events = Vec::new();
        let readers = &self.readers;
        self.view.expire(now.mono_us, |path| readers.are_told(path), &mut events);
        self.notice(now, &events);
        self.ask_about_overdue(now);
        if self.next_confirm_us <= now.mono_us {
            self.next_confirm_us = now.mono_us + CONFIRM_US;
            self.taken.retain(|_, until_us| *until_us > now.mono_us);
            self.confirm(now);
        }
    }

    /// Whether a node that joins has to wait for what the voters remember.
    pub(super) fn awaits_tables(&mut self, now: Now) -> bool {
        self.tables.are_awaited(now.mono_us)
    }

    /// When something is due by itself, µs.
    pub(super) fn due_us(&self) -> u64 {
        let confirm_us = (!self.clients.is_empty()).then_some(self.next_confirm_us);
        let ask_us = self.view.next_ask_us().filter(|_| self.asked.len() < MAX_LEASE_CHECKS);
        let due = [self.coordinator.due_us(), self.view.next_expiry_us(), ask_us, confirm_us];
        due.into_iter().flatten().min().unwrap_or(self.next_confirm_us)
    }

    /// The other process that coordinates the leases on a path; `None` if this one does.
    pub(super) fn other_coordinator_of(&self, path: &LeasePath) -> Option<Incarnation> {
        Some(self.members.coordinator_of(path.first_segment())).filter(|process| *process != self.us)
    }

    /// Tells the coordinators that the clients of this node still wait.
    fn confirm(&mut self, now: Now) {
        let mut remote: BTreeMap<Incarnation, Vec<LeaseAsk>> = BTreeMap::new();
        for client in self.clients.values() {
            let waited_us = now.mono_us.saturating_sub(client.since_us);
            let ask = LeaseAsk {
                age_us: client.ask.age_us + waited_us,
                wait_us: client.ask.wait_us.saturating_sub(waited_us),
                ..client.ask.clone()
            };
            let coordinator = self.members.coordinator_of(ask.path.first_segment());
            if coordinator != self.us && self.coordinator.waits(ask.ticket) {
                // it could not be reached, or doubts its clock: perhaps it takes the request now
                let reply = Reply::Asked(ask.ticket, ask.request);
                self.calls.push(LeaseCall { to: coordinator, request: LeaseRequest::Acquire(ask), reply });
                continue;
            }
            remote.entry(coordinator).or_default().push(ask);
        }
        for (coordinator, asks) in remote {
            if coordinator == self.us {
                asks.into_iter().for_each(|ask| self.coordinate(now, self.us, ask, None));
                continue;
            }
            for part in asks.chunks(MAX_LEASES_A_MESSAGE) {
                let request = LeaseRequest::Confirm(part.to_vec());
                self.calls.push(LeaseCall { to: coordinator, request, reply: Reply::None });
            }
        }
    }

    /// A client of this node asks for a lease.
    /// Returns the number of the request.
    pub(super) fn acquire(&mut self, now: Now, mut ask: LeaseAsk, sender: oneshot::Sender<Decision>) -> u64 {
        let number = self.next_request;
        self.next_request += 1;
        ask.request = number;
        let coordinator = self.members.coordinator_of(ask.path.first_segment());
        let client = Client { sender, number, ask: ask.clone(), since_us: now.mono_us };
        self.clients.insert(ask.ticket, client);
        if coordinator == self.us {
            self.coordinate(now, self.us, ask, None);
        } else {
            let reply = Reply::Asked(ask.ticket, number);
            self.calls.push(LeaseCall { to: coordinator, request: LeaseRequest::Acquire(ask), reply });
        }
        number
    }

    /// Coordinates a request that a node holds; `caller` waits for the decision.
    pub(super) fn coordinate(
        &mut self,
        now: Now,
        from: Incarnation,
        ask: LeaseAsk,
        caller: Option<oneshot::Sender<Decision>>,
    ) {
        if let Some(caller) = caller {
            self.callers.insert((ask.ticket, ask.request), caller);
        }
        let LeaseAsk { ticket, request, path, slots, ttl_us, label, age_us, wait_us } = ask;
        self.coordinator.acquire(
            now,
            Waiter {
                ticket,
                path,
                slots,
                ttl_us,
                label,
                from,
                request,
                tried: None,
                since_us: now.mono_us.saturating_sub(age_us),
                until_us: now.mono_us.saturating_add(wait_us),
                lapses_us: now.mono_us + LAPSE_US,
                not_before_us: 0,
                tries: 0,
            },
        );
    }

    /// The call about a request does not wait any more.
    pub(super) fn forget_call(&mut self, ticket: LeaseId, request: u64) {
        self.callers.remove(&(ticket, request));
    }

    /// The client of a request is gone.
    pub(super) fn give_up(&mut self, now: Now, path: &LeasePath, ticket: LeaseId, number: u64) {
        if self.clients.get(&ticket).is_none_or(|client| client.number != number) {
            return;
        }
        self.clients.remove(&ticket);
        let coordinator = self.members.coordinator_of(path.first_segment());
        if coordinator == self.us {
            let gone = Cancelled { ticket, from: self.us, request: number, granted: None };
            return self.coordinator.cancel(now, path, gone);
        }
        let request = LeaseRequest::Cancel { path: path.clone(), ticket, request: number, granted: None };
        self.calls.push(LeaseCall { to: coordinator, request, reply: Reply::None });
    }

    /// The decision about a request of a client of this node. Returns whether a client takes it, has taken it before,
    /// or has asked again meanwhile: then it gets an answer of its own.
    pub(super) fn decide(&mut self, now: Now, ticket: LeaseId, request: u64, decision: Decision) -> bool {
        let until_us = match &decision {
            Decision::Granted(live) => Some(now.mono_us + live.lease.ttl_us),
            Decision::Denied(_) => None,
        };
        match self.clients.get(&ticket) {
            None => return self.taken.contains_key(&ticket),
            Some(client) if client.number != request => return true,
            Some(_) => {}
        }
        let sent = self.clients.remove(&ticket).is_some_and(|client| client.sender.send(decision).is_ok());
        if let Some(until_us) = until_us.filter(|_| sent) {
            self.taken.insert(ticket, until_us);
        }
        sent
    }

    /// Expects the end of a request about a lease that there is. Returns its number.
    pub(super) fn expect(&mut self, sender: oneshot::Sender<Ending>) -> u64 {
        if self.requests.len() >= self.sweep_requests_at {
            self.requests.retain(|_, sender| !sender.is_closed());
            self.sweep_requests_at = (2 * self.requests.len()).max(MIN_SWEEP);
        }
        let number = self.next_request;
        self.next_request += 1;
        self.requests.insert(number, sender);
        number
    }

    pub(super) fn renew(&mut self, now: Now, number: u64, lease: Arc<Lease>) {
        match self.members.coordinator_of(lease.path.first_segment()) {
            coordinator if coordinator == self.us => self.coordinator.renew(now, number, lease),
            coordinator => self.forward(coordinator, number, LeaseRequest::Renew(lease)),
        }
    }

    pub(super) fn release(&mut self, now: Now, number: u64, path: LeasePath, token: Token) {
        match self.members.coordinator_of(path.first_segment()) {
            coordinator if coordinator == self.us => self.coordinator.release(now, number, &path, token),
            coordinator => self.forward(coordinator, number, LeaseRequest::Release { path, token }),
        }
    }

    fn forward(&mut self, to: Incarnation, number: u64, request: LeaseRequest) {
        let reply = Reply::Ended(number, Box::new(request.clone()));
        self.calls.push(LeaseCall { to, request, reply });
    }

    /// The vote of this node.
    pub(super) fn vote(&mut self, now: Now, ballot: &Ballot) -> VoterAnswer {
        let is_doubled = self.members.is_doubled(now.mono_us, self.node);
        let refused = |refusal| VoterAnswer { vote: Vote::Refused(refusal), decides: false };
        let answer = match &mut self.voter {
            None => refused(VoteRefusal::OtherVoters),
            Some(_) if self.members.with_other_voters() > 0 => refused(VoteRefusal::OtherVoters),
            Some(_) if self.is_leaving => refused(VoteRefusal::Leaving),
            Some(_) if self.doubts_its_clock => refused(VoteRefusal::ClockInDoubt),
            Some(voter) => voter.answer(now, is_doubled, self.members.changeover(), ballot),
        };
        if let Vote::Refused(refusal) = &answer.vote {
            self.refused[refusal.index()] += 1;
        }
        answer
    }

    /// Answers a request of a batch of another node.
    pub(super) fn answer(&mut self, now: Now, from: Incarnation, request: LeaseRequest) -> LeaseResponse {
        if request.needs_coordinator() && self.doubts_its_clock {
            return LeaseResponse::Noted;
        }
        match request {
            LeaseRequest::Ballot(ballot) => LeaseResponse::Vote(self.vote(now, &ballot)),
            LeaseRequest::Confirm(asks) => {
                asks.into_iter().for_each(|ask| self.coordinate(now, from, ask, None));
                LeaseResponse::Noted
            }
            LeaseRequest::Cancel { path, ticket, request, granted } => {
                self.coordinator.cancel(now, &path, Cancelled { ticket, from, request, granted });
                LeaseResponse::Noted
            }
            LeaseRequest::Decided { ticket, request, decision } => {
                LeaseResponse::Taken(self.decide(now, ticket, request, decision))
            }
            LeaseRequest::Changes(changes) => {
                self.hear(now, &changes);
                LeaseResponse::Noted
            }
            LeaseRequest::Acquire(ask) => {
                self.coordinate(now, from, ask, None);
                LeaseResponse::Waits
            }
            LeaseRequest::Release { path, token } => match self.coordinator.release_held(now, &path, token) {
                true => LeaseResponse::Ended(Ending::Released),
                false => LeaseResponse::Waits,
            },
            // no node sends these in a batch
            LeaseRequest::Renew(_) | LeaseRequest::Remembered { .. } | LeaseRequest::Batch(_) => {
                LeaseResponse::Noted
            }
        }
    }

    /// The leases that this voter remembers, after a key.
    pub(super) fn remembered(&self, now: Now, after: &[u8]) -> LeaseResponse {
        let all = self.voter.iter().flat_map(|voter| voter.after(after));
        let live = all.filter(|entry| entry.expires_us > now.mono_us);
        let mut leases: Vec<LiveLease> = Vec::new();
        let mut more = false;
        for entry in live {
            // the leases of a path go together, since the next question begins behind the path
            let is_full = leases.len() >= MAX_LEASES_A_MESSAGE;
            if is_full && leases.last().is_some_and(|last| last.lease.path.key() != entry.lease.path.key()) {
                more = true;
                break;
            }
            leases.push(LiveLease { lease: entry.lease.clone(), left_us: entry.expires_us - now.mono_us });
        }
        LeaseResponse::Remembered { leases, more }
    }

    /// Takes changes that another node tells.
    pub(super) fn hear(&mut self, now: Now, changes: &[LeaseChange]) {
        for change in changes {
            if let LeaseChange::Released { path, token } = change {
                self.coordinator.was_released(now, path, *token);
            }
        }
        self.apply(now, changes);
    }

    /// Takes changes of leases into the view.
    fn apply(&mut self, now: Now, changes: &[LeaseChange]) {
        let mut events = Vec::new();
        changes.iter().for_each(|change| self.view.apply(now.mono_us, change, &mut events));
        self.notice(now, &events);
    }

    /// Tells readers, and lets those go on that a lease was in the way of.
    fn notice(&mut self, now: Now, events: &[LeaseEvent]) {
        self.readers.tell(&self.view, events);
        if self.coordinator.waiting() == 0 {
            return;
        }
        for event in events {
            match event {
                LeaseEvent::Released(lease) | LeaseEvent::Expired(lease) | LeaseEvent::Overdue(lease) => {
                    self.coordinator.is_free(now, &lease.path);
                }
                LeaseEvent::Acquired(_) | LeaseEvent::Revived(_) => {}
            }
        }
    }

    /// Asks the voters whether leases that have run out here are live.
    fn ask_about_overdue(&mut self, now: Now) {
        let room = MAX_LEASE_CHECKS.saturating_sub(self.asked.len());
        let readers = &self.readers;
        for doubt in self.view.to_ask(now.mono_us, room, |path| readers.are_told(path)) {
            let number = self.next_request;
            self.next_request += 1;
            self.coordinator.check(now, number, &doubt.path, doubt.token);
            self.asked.insert(number, doubt);
        }
    }

    /// What the voters have said of a lease that had run out here.
    fn was_checked(&mut self, now: Now, doubt: &Doubt, done: &Done) {
        let verdict = match done {
            Done::Live { left_us } => Verdict::Live(*left_us),
            Done::Lost => Verdict::Over,
            _ => Verdict::Unclear,
        };
        self.verdicts[verdict.index()] += 1;
        let mut events = Vec::new();
        self.view.hear(now.mono_us, doubt, verdict, &mut events);
        self.notice(now, &events);
    }

    /// The result of a call.
    pub(super) fn returned(&mut self, now: Now, reply: Reply, response: Option<LeaseResponse>) {
        match (reply, response) {
            (Reply::Vote { round, set, node }, response) => {
                let vote = match response {
                    Some(LeaseResponse::Vote(vote)) => Some(vote),
                    _ => None,
                };
                self.coordinator.vote(now, round, set, node, vote);
            }
            (Reply::Asked(ticket, request), Some(LeaseResponse::Decided(Decision::Granted(live)))) => {
                let (path, token) = (live.lease.path.clone(), live.lease.token);
                if !self.decide(now, ticket, request, Decision::Granted(live)) {
                    self.cancel_at(path, ticket, request, token);
                }
            }
            (Reply::Asked(ticket, request), Some(LeaseResponse::Decided(denied))) => {
                let _ = self.decide(now, ticket, request, denied);
            }
            (Reply::Asked(..), Some(LeaseResponse::Waits)) => {}
            (Reply::Asked(ticket, request), _) => self.has_no_coordinator(now, ticket, request),
            (Reply::Ended(number, _), Some(LeaseResponse::Ended(ending))) => self.end(number, ending),
            // the coordinator cannot be reached, or does not know the lease: this node asks the voters in its place
            (Reply::Ended(number, request), _) => match *request {
                LeaseRequest::Renew(lease) => self.coordinator.renew(now, number, lease),
                LeaseRequest::Release { path, token } => self.coordinator.release(now, number, &path, token),
                _ => self.end(number, Ending::NoMajority(Unanswered::default())),
            },
            // without an answer the client may have the lease: then it lasts until its end
            (Reply::Decided { path, ticket, request, to, token }, Some(LeaseResponse::Taken(false))) => {
                let gone = Cancelled { ticket, from: to, request, granted: Some(token) };
                self.coordinator.cancel(now, &path, gone);
            }
            (Reply::Changes(to), _) => {
                if let Some(outbox) = self.outboxes.get_mut(&to) {
                    outbox.is_sending = false;
                }
                self.send_changes(to);
            }
            (Reply::Remembered(from), Some(LeaseResponse::Remembered { leases, more })) => {
                let after = leases.last().map(|last| last.lease.path.key().to_vec());
                let held = leases
                    .into_iter()
                    .map(|live| LeaseChange::Held { lease: live.lease, left_us: live.left_us });
                let held: Vec<LeaseChange> = held.collect();
                self.apply(now, &held);
                if !more && let Some(node) = self.members.voter_of(from) {
                    self.tables.has(node);
                }
                if let Some(after) = after.filter(|_| more) {
                    let request = LeaseRequest::Remembered { after };
                    self.calls.push(LeaseCall { to: from, request, reply: Reply::Remembered(from) });
                }
            }
            (Reply::Decided { .. } | Reply::Remembered(_) | Reply::None, _) => {}
        }
    }

    fn cancel_at(&mut self, path: LeasePath, ticket: LeaseId, request: u64, token: Token) {
        let to = self.members.coordinator_of(path.first_segment());
        let request = LeaseRequest::Cancel { path, ticket, request, granted: Some(token) };
        self.calls.push(LeaseCall { to, request, reply: Reply::None });
    }

    /// The coordinator cannot be reached: this node coordinates in its place. The voters decide in any case.
    fn has_no_coordinator(&mut self, now: Now, ticket: LeaseId, request: u64) {
        let Some(client) = self.clients.get(&ticket).filter(|client| client.number == request) else {
            return;
        };
        let waited_us = now.mono_us.saturating_sub(client.since_us);
        let ask = LeaseAsk {
            age_us: client.ask.age_us + waited_us,
            wait_us: client.ask.wait_us.saturating_sub(waited_us),
            ..client.ask.clone()
        };
        self.coordinate(now, self.us, ask, None);
    }

    fn end(&mut self, number: u64, ending: Ending) {
        if let Some(sender) = self.requests.remove(&number) {
            // its client may be gone
            let _ = sender.send(ending);
        }
    }

    /// Carries out what the coordinator asks for, until it asks for nothing more.
    pub(super) fn settle(&mut self, now: Now) {
        loop {
            let output = self.coordinator.take_output();
            if output.is_empty() {
                return;
            }
            let Output { ballots, acquired, done, changes } = output;
            for call in ballots {
                self.cast(now, call);
            }
            for answer in acquired {
                self.has_decided(now, answer);
            }
            for (number, done) in done {
                match self.asked.remove(&number) {
                    Some(doubt) => self.was_checked(now, &doubt, &done),
                    None => self.end(number, ending_of(now, done)),
                }
            }
            if !changes.is_empty() {
                self.apply(now, &changes);
                self.tell(&changes);
            }
        }
    }

    fn cast(&mut self, now: Now, call: BallotCall) {
        let BallotCall { round, set, node, ballot } = call;
        if node == self.node {
            let vote = self.vote(now, &ballot);
            return self.coordinator.vote(now, round, set, node, Some(vote));
        }
        match self.members.process_of(node) {
            Some(to) => self.calls.push(LeaseCall {
                to,
                request: LeaseRequest::Ballot(ballot),
                reply: Reply::Vote { round, set, node },
            }),
            None => self.coordinator.vote(now, round, set, node, None),
        }
    }

    /// Brings a decision of the coordinator to the node that holds the client's request.
    fn has_decided(&mut self, now: Now, answer: Answer) {
        let Answer { ticket, to, request, result } = answer;
        let granted =
            result.as_ref().ok().map(|acquired| (acquired.lease.path.clone(), acquired.lease.token));
        let decision = match result {
            Ok(acquired) => Decision::Granted(live(now, acquired)),
            Err(denied) => Decision::Denied(denied),
        };
        let caller = self.callers.remove(&(ticket, request));
        if to == self.us {
            let is_taken = self.decide(now, ticket, request, decision);
            if let Some((path, token)) = granted.filter(|_| !is_taken) {
                let gone = Cancelled { ticket, from: self.us, request, granted: Some(token) };
                self.coordinator.cancel(now, &path, gone);
            }
            return;
        }
        let decision = match caller {
            None => decision,
            Some(caller) => match caller.send(decision) {
                Ok(()) => return,
                Err(decision) => decision,
            },
        };
        let reply =
            granted.map_or(Reply::None, |(path, token)| Reply::Decided { path, ticket, request, to, token });
        self.calls.push(LeaseCall {
            to,
            request: LeaseRequest::Decided { ticket, request, decision },
            reply,
        });
    }

    /// Queues changes for all other nodes.
    fn tell(&mut self, changes: &[LeaseChange]) {
        let all: Vec<Incarnation> = self.members.live().iter().copied().collect();
        for to in all {
            let outbox = self.outboxes.entry(to).or_default();
            // a node that takes none for so long learns of leases from their next renewals
            let room = MAX_LEASE_CHANGES_PENDING.saturating_sub(outbox.pending.len());
            outbox.pending.extend(changes.iter().take(room).cloned());
            self.send_changes(to);
        }
    }

    fn send_changes(&mut self, to: Incarnation) {
        let Some(outbox) = self.outboxes.get_mut(&to) else { return };
        if outbox.is_sending || outbox.pending.is_empty() {
            return;
        }
        outbox.is_sending = true;
        let part = outbox.pending.len().min(MAX_LEASES_A_MESSAGE);
        let changes = outbox.pending.drain(..part).collect();
        self.calls.push(LeaseCall { to, request: LeaseRequest::Changes(changes), reply: Reply::Changes(to) });
    }

    pub(super) fn census(&self, now: Now) -> LeaseCensus {
        let standings: Vec<VoterStanding> =
            self.members.standings(now.mono_us).map(|(_, standing)| standing).collect();
        LeaseCensus {
            granted: self.coordinator.held(),
            waiting: self.coordinator.waiting(),
            known: self.view.len(),
            remembered: self.voter.as_ref().map(Voter::len),
            abstains_for: std::time::Duration::from_micros(
                self.voter.as_ref().map_or(0, |voter| voter.abstains_for_us(now)),
            ),
            refused: self.refused,
            readers: self.readers.len(),
            resets: self.readers.resets(),
            overdue: self.view.overdue(),
            verdicts: self.verdicts,
            voters: standings.len(),
            with_other_voters: self.members.with_other_voters(),
            doubled_voters: self.members.doubled(now.mono_us),
            live_voters: standings.iter().filter(|standing| **standing == VoterStanding::Live).count(),
        }
    }
}

fn live(now: Now, acquired: Acquired) -> LiveLease {
    LiveLease { left_us: acquired.deadline_us.saturating_sub(now.mono_us), lease: acquired.lease }
}

fn ending_of(now: Now, done: Done) -> Ending {
    match done {
        Done::Renewed(acquired) => Ending::Renewed(live(now, acquired)),
        Done::Lost => Ending::Lost,
        Done::Released => Ending::Released,
        Done::OtherHolds(blocker) => Ending::OtherHolds(blocker),
        Done::Live { .. } => Ending::Live,
        Done::NoMajority(unanswered) => Ending::NoMajority(unanswered),
    }
}
