//! A coordinator: asks the voters for leases, counts their votes, and lets the next one have what is free.
//!
//! All leases with one first segment have one coordinator as long as all nodes see the same members. That spares
//! conflicts and makes a fair queue; two coordinators at once cost retries, and never grant a lease twice.

mod operation;
mod output;
mod round;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::hash::Hasher;
use std::sync::Arc;

use siphasher::sip::SipHasher24;

use super::message::{Blocker, Denied, LeaseChange, Vote};
use super::queue::{Cancelled, Queue, Waiter};
use super::rules::{LeaseMutant, LeaseRules};
use super::table::{EntryRef, Table};
use super::voters::VoterSet;
use super::{Lease, LeaseId, LeasePath, Slots, Token};
use crate::core::Stamp;
use crate::core::stamp::Now;
pub use output::{Acquired, Answer, BallotCall, Done, Output};
use round::{Purpose, Round};

/// How long a round may take, µs: a voter that is not reached by then has not voted.
pub const ROUND_US: u64 = 1_000_000;

/// The longest pause between two tries for a lease that another coordinator's lease or request was in the way of, µs.
const RETRY_US: u64 = 250_000;

/// How often a request that does not wait is tried for if no lease is known to stand in its way.
const TRIES: u32 = 4;

/// How long an entry of the queue lasts unless its node confirms it, µs.
pub const LAPSE_US: u64 = 15_000_000;

/// The settings of a coordinator.
#[derive(Clone, Debug)]
pub struct CoordinatorConfig {
    /// The sets of voters: one, or two while the set changes, the new one first. It needs a majority of each, or of one
    /// whose voters say that it decides alone.
    pub sets: Vec<VoterSet>,
    /// Most leases that it keeps.
    pub max_leases: usize,
    /// Most requests that wait for one path.
    pub max_waiters_of_path: usize,
    /// Most requests that wait.
    pub max_waiters: usize,
    /// What no other process has, for the ids of its leases.
    pub salt: u64,
    /// The rules.
    pub rules: LeaseRules,
}

/// What is known of a voter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VoterStanding {
    /// It is a live member.
    Live,
    /// Two processes have its id, or had until not long ago: neither counts.
    Doubled,
    /// It is no live member.
    Gone,
}

/// What a timer is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Timer {
    /// The end of a round.
    Round(u64),
    /// Another try for the first of a line, or the end of a waiter's patience.
    Waiter(LeaseId),
}

/// A coordinator. Every node that accepts writes has one.
#[derive(Debug)]
pub struct Coordinator {
    config: CoordinatorConfig,
    voters: BTreeMap<u64, VoterStanding>,
    /// The leases that it has granted or renewed, until their deadlines.
    /// Each with whether its request was asked again since.
    held: Table<bool>,
    /// The leases that rounds are about.
    in_round: Table<u64>,
    rounds: HashMap<u64, Round>,
    next_round: u64,
    /// The tokens of the rounds that were granted before all voters had answered, until the round would have ended.
    granted: HashMap<u64, Token>,
    queue: Queue,
    /// Requests that do not wait, and are behind a round that is under way.
    undecided: Vec<(LeaseId, LeasePath)>,
    /// Paths whose waiters are to be served, and the lease that was just released there.
    to_serve: VecDeque<(LeasePath, Option<Arc<Lease>>)>,
    is_serving: bool,
    timers: BTreeSet<(u64, Timer)>,
    /// The largest token that it has seen.
    highest: Token,
    output: Output,
}

impl Coordinator {
    /// A coordinator without leases.
    #[must_use]
    pub fn new(config: CoordinatorConfig) -> Self {
        let nodes = config.sets.iter().flat_map(VoterSet::nodes);
        Self {
            voters: nodes.map(|node| (*node, VoterStanding::Gone)).collect(),
            held: Table::default(),
            in_round: Table::default(),
            rounds: HashMap::new(),
            next_round: 0,
            granted: HashMap::new(),
            queue: Queue::new(config.rules),
            undecided: Vec::new(),
            to_serve: VecDeque::new(),
            is_serving: false,
            timers: BTreeSet::new(),
            highest: Token::default(),
            output: Output::default(),
            config,
        }
    }

    /// Sets what is known of a voter.
    pub fn see(&mut self, node: u64, standing: VoterStanding) {
        if let Some(known) = self.voters.get_mut(&node) {
            *known = standing;
        }
    }

    /// What is to be sent and answered since the last time.
    pub fn take_output(&mut self) -> Output {
        std::mem::take(&mut self.output)
    }

    /// How many leases it has granted that are held.
    #[must_use]
    pub fn held(&self) -> usize {
        self.held.len()
    }

    /// How many requests wait.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.queue.len()
    }

    /// Whether a request waits.
    #[must_use]
    pub fn waits(&self, ticket: LeaseId) -> bool {
        self.queue.get(ticket).is_some()
    }

    /// How many requests wait for exactly this path.
    #[must_use]
    pub fn waiting_for(&self, path: &LeasePath) -> usize {
        self.queue.len_of(path)
    }

    /// The lease that it keeps with an id, and its deadline.
    #[must_use]
    pub fn get(&self, path: &LeasePath, id: LeaseId) -> Option<EntryRef<'_, bool>> {
        self.held.get(path, id)
    }

    /// Whether a request waits, or is asked for.
    #[cfg(any(test, feature = "sim"))]
    #[must_use]
    pub fn has(&self, path: &LeasePath, ticket: LeaseId) -> bool {
        self.queue.get(ticket).is_some() || self.in_round.get(path, self.id_of(ticket)).is_some()
    }

    /// The id that the lease of a request has here.
    #[cfg(any(test, feature = "sim"))]
    #[must_use]
    pub fn lease_id(&self, ticket: LeaseId) -> LeaseId {
        self.id_of(ticket)
    }

    /// When it has something to do by itself, by the clock that also runs while the machine sleeps, µs.
    #[must_use]
    pub fn due_us(&self) -> Option<u64> {
        let timer = self.timers.first().map(|(due_us, _)| *due_us);
        timer.into_iter().chain(self.held.next_expiry_us()).min()
    }

    /// A request for a lease. The same ticket again confirms that its client still waits, or gets the lease that it
    /// has.
    pub fn acquire(&mut self, now: Now, waiter: Waiter) {
        self.tick(now);
        let id = self.id_of(waiter.ticket);
        if let Some(entry) = self.held.get(&waiter.path, id) {
            let acquired = Acquired { lease: entry.lease.clone(), deadline_us: entry.expires_us };
            if let Some(is_asked_again) = self.held.note_mut(&waiter.path, id) {
                *is_asked_again = true;
            }
            self.answer(&waiter, Ok(acquired));
            return;
        }
        if let Some(known) = self.queue.get_mut(waiter.ticket) {
            return known.is_asked_again(&waiter);
        }
        if let Some(round) = self.in_round.get(&waiter.path, id).map(|entry| *entry.note) {
            self.confirm(round, &waiter);
            return;
        }
        if self.held.len() + self.rounds.len() >= self.config.max_leases {
            return self.deny(&waiter, Denied::TooManyLeases);
        }
        let is_full = self.queue.len() >= self.config.max_waiters
            || self.queue.len_of(&waiter.path) >= self.config.max_waiters_of_path;
        if is_full {
            return self.deny(&waiter, Denied::TooManyWaiters);
        }
        let (ticket, path) = (waiter.ticket, waiter.path.clone());
        self.enter(waiter);
        self.serve(now, &path);
        self.answer_the_impatient(now, ticket);
    }

    fn enter(&mut self, waiter: Waiter) {
        self.timers.insert((waiter.until_us.min(waiter.lapses_us), Timer::Waiter(waiter.ticket)));
        self.queue.enter(waiter);
    }

    /// Denies a request that does not wait any more and is behind a lease or another request.
    fn answer_the_impatient(&mut self, now: Now, ticket: LeaseId) {
        let Some(waiter) = self.queue.get_mut(ticket).cloned() else { return };
        if waiter.until_us > now.mono_us || waiter.not_before_us > now.mono_us {
            return;
        }
        // a round that is under way decides first
        if self.in_round.conflicts(&waiter.path, None).next().is_some() && !self.is_held(&waiter) {
            self.undecided.push((ticket, waiter.path));
            return;
        }
        if let Some(waiter) = self.queue.remove(ticket) {
            let denied = Denied::Held(self.blocker(now, &waiter));
            self.deny(&waiter, denied);
            // those behind it may not have to wait for what it waited for
            self.serve(now, &waiter.path);
        }
    }

    /// The client of a request at a node is gone. With the token that the node was told, its lease is released.
    ///
    /// Not if the client asked again, or after the grant: then it may hold the lease, or wait for the answer to its
    /// later request. Without a token only a request that waits ends: the answer to one that was granted is under way.
    pub fn cancel(&mut self, now: Now, path: &LeasePath, gone: Cancelled) {
        self.tick(now);
        let Cancelled { ticket, granted, .. } = gone;
        let any = self.config.rules.lack(LeaseMutant::RetriedIsCancelled);
        if let Some(waiter) = self.queue.get(ticket).cloned() {
            if any || gone.is(&waiter) {
                self.queue.remove(ticket);
                self.serve(now, &waiter.path);
            }
        } else if let Some(round) = self.in_round.get(path, self.id_of(ticket)).map(|entry| *entry.note) {
            if any || self.request_of(round).is_some_and(|waiter| gone.is(waiter)) {
                self.abandon(now, round);
            }
        } else if let Some(entry) = self.held.get(path, self.id_of(ticket))
            && (any || !*entry.note && granted == Some(entry.lease.token))
        {
            let token = entry.lease.token;
            self.drop_lease(now, path, token);
        }
    }

    /// A lease has ended elsewhere: what was in the way of these may be gone.
    pub fn is_free(&mut self, now: Now, path: &LeasePath) {
        let tickets: Vec<LeaseId> = self.queue.first_of(path).iter().map(|waiter| waiter.ticket).collect();
        for ticket in tickets {
            if let Some(waiter) = self.queue.get_mut(ticket) {
                waiter.not_before_us = 0;
            }
        }
        self.serve(now, path);
    }

    /// Does what is due by now.
    pub fn tick(&mut self, now: Now) {
        while let Some(entry) = self.held.pop_expired(now.mono_us) {
            self.serve(now, &entry.lease.path);
        }
        while let Some((due_us, timer)) = self.timers.first().copied()
            && due_us <= now.mono_us
        {
            self.timers.pop_first();
            match timer {
                Timer::Round(round) => self.time_out(now, round),
                Timer::Waiter(ticket) => self.look_at(now, ticket),
            }
        }
    }

    /// Looks after a waiter whose timer has run out.
    fn look_at(&mut self, now: Now, ticket: LeaseId) {
        let Some(waiter) = self.queue.get_mut(ticket).cloned() else { return };
        if waiter.lapses_us <= now.mono_us {
            if let Some(waiter) = self.queue.remove(ticket) {
                self.serve(now, &waiter.path);
            }
            return;
        }
        if waiter.not_before_us <= now.mono_us {
            self.serve(now, &waiter.path);
        }
        if waiter.until_us <= now.mono_us {
            return self.answer_the_impatient(now, ticket);
        }
        if let Some(waiter) = self.queue.get_mut(ticket) {
            let retry_us = Some(waiter.not_before_us).filter(|retry_us| *retry_us > now.mono_us);
            let due_us = retry_us
                .into_iter()
                .chain([waiter.until_us, waiter.lapses_us])
                .min()
                .unwrap_or(waiter.until_us);
            self.timers.insert((due_us, Timer::Waiter(ticket)));
        }
    }

    /// Begins rounds for the waiters that a path concerns and nothing that is known stands in the way of.
    fn serve(&mut self, now: Now, path: &LeasePath) {
        self.serve_instead(now, path, None);
    }

    /// As [`Coordinator::serve`], where a holder has just released a lease: the first that gets it takes it over.
    ///
    /// A round that cannot even begin ends at once, and then its path is served again: in a loop, since many can.
    fn serve_instead(&mut self, now: Now, path: &LeasePath, instead_of: Option<Arc<Lease>>) {
        self.to_serve.push_back((path.clone(), instead_of));
        if self.is_serving {
            return;
        }
        self.is_serving = true;
        while let Some((path, mut instead_of)) = self.to_serve.pop_front() {
            while self.serve_lines(now, &path, &mut instead_of) {}
            let undecided = std::mem::take(&mut self.undecided);
            for (ticket, of) in undecided {
                match of.overlaps(&path) {
                    true => self.answer_the_impatient(now, ticket),
                    false => self.undecided.push((ticket, of)),
                }
            }
        }
        self.is_serving = false;
    }

    /// Begins a round for the first of each line that a path concerns, where one can begin. Whether one has.
    fn serve_lines(&mut self, now: Now, path: &LeasePath, instead_of: &mut Option<Arc<Lease>>) -> bool {
        let first: Vec<LeaseId> = self.queue.first_of(path).iter().map(|waiter| waiter.ticket).collect();
        let mut has_begun = false;
        for ticket in first {
            let Some(slots) = self.may_begin(now, ticket) else { continue };
            let Some(waiter) = self.queue.remove(ticket) else { continue };
            let takes_over = instead_of.take().filter(|lease| lease.path.overlaps(&waiter.path));
            self.begin(now, Purpose::Acquire(waiter), slots, takes_over.as_deref());
            has_begun = true;
        }
        has_begun
    }

    /// The slots with which a round can begin for a waiter, `Some(None)` for the path alone; `None` if it cannot begin.
    #[allow(clippy::option_option, reason = "a lease without slots is not one that has to wait")]
    fn may_begin(&self, now: Now, ticket: LeaseId) -> Option<Option<Slots>> {
        let waiter = self.queue.get(ticket)?;
        let is_due = waiter.not_before_us <= now.mono_us;
        let is_first = is_due && !self.queue.has_before(waiter) && !self.is_held(waiter);
        let slots = if is_first { self.free_slots(waiter) } else { None }?;
        self.is_undecided(waiter, slots.as_ref()).then_some(slots)
    }

    /// The slots that a waiter can have; `Some(None)` for the path alone. `None` if too few are free.
    #[allow(clippy::option_option, reason = "a lease without slots is not one that has to wait for them")]
    fn free_slots(&self, waiter: &Waiter) -> Option<Option<Slots>> {
        let Some((of, claim)) = waiter.slots else { return Some(None) };
        let held = self.held.on(&waiter.path).map(|entry| entry.lease.slots.as_ref());
        let asked = self.in_round.on(&waiter.path).map(|entry| entry.lease.slots.as_ref());
        Slots::choose(of, claim, held.chain(asked)).map(Some)
    }

    /// Whether no round for something that conflicts is under way.
    fn is_undecided(&self, waiter: &Waiter, slots: Option<&Slots>) -> bool {
        self.in_round.conflicts(&waiter.path, slots).next().is_none()
    }

    /// Whether a lease that this coordinator has granted stands in the way.
    fn is_held(&self, waiter: &Waiter) -> bool {
        match waiter.slots {
            None => self.held.conflicts(&waiter.path, None).next().is_some(),
            Some((of, claim)) => {
                let here = |entry: &EntryRef<'_, bool>| entry.lease.path == waiter.path;
                self.held.conflicts(&waiter.path, None).any(|entry| !here(&entry))
                    || Slots::choose(of, claim, self.held.on(&waiter.path).map(|e| e.lease.slots.as_ref()))
                        .is_none()
            }
        }
    }

    /// The lease or request that is in the way of one.
    fn blocker(&self, now: Now, waiter: &Waiter) -> Option<Blocker> {
        let entry = self.held.conflicts(&waiter.path, None).max_by_key(|entry| entry.expires_us)?;
        Some(Blocker {
            path: entry.lease.path.clone(),
            id: entry.lease.id,
            label: entry.lease.label.clone(),
            token: entry.lease.token,
            left_us: entry.expires_us.saturating_sub(now.mono_us),
        })
    }

    fn deny(&mut self, waiter: &Waiter, denied: Denied) {
        self.answer(waiter, Err(denied));
    }

    fn answer(&mut self, waiter: &Waiter, result: Result<Acquired, Denied>) {
        let Waiter { ticket, from: to, request, .. } = *waiter;
        self.output.acquired.push(Answer { ticket, to, request, result });
    }

    /// The id of the lease that a request gets here. At another coordinator it gets another one: both may choose the
    /// same token, and what one of them gives up must not end what the other one grants.
    pub(super) fn id_of(&self, ticket: LeaseId) -> LeaseId {
        if self.config.rules.lack(LeaseMutant::TicketsCompared) {
            return ticket;
        }
        let half = |of: u8| {
            let mut hash = SipHasher24::new_with_keys(self.config.salt, u64::from(of));
            hash.write(&ticket.0.to_le_bytes());
            u128::from(hash.finish())
        };
        LeaseId(half(0) << 64 | half(1))
    }

    /// A new token, larger than all that were seen.
    fn next_token(&mut self, wall: Stamp) -> Token {
        self.highest = self.highest.next().max(Token(wall));
        self.highest
    }

    /// Forgets a lease that its holder gives back, and lets the next one have it.
    fn drop_lease(&mut self, now: Now, path: &LeasePath, token: Token) -> bool {
        let id = self.held.on(path).find(|entry| entry.lease.token == token).map(|entry| entry.lease.id);
        let Some(entry) = id.and_then(|id| self.held.remove(path, id)) else { return false };
        self.output.changes.push(LeaseChange::Released { path: path.clone(), token });
        let rounds = self.rounds.len();
        self.serve_instead(now, path, Some(entry.lease));
        if self.rounds.len() == rounds {
            // none takes it over
            self.release_at_voters(path, token, id);
        }
        true
    }
}

/// A pause of up to `most_us`, µs, that differs from try to try and from request to request.
fn jitter_us(ticket: LeaseId, tries: u32, most_us: u64) -> u64 {
    // the ticket is random
    let mixed = (ticket.0 as u64 ^ u64::from(tries)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    ((mixed >> 32) * most_us) >> 32
}

/// How long the longest of the blockers still lasts, µs.
fn longest(blockers: &[Blocker]) -> Option<&Blocker> {
    blockers.iter().max_by_key(|blocker| blocker.left_us)
}

/// Whether a vote is for the lease.
fn is_granted(vote: &Vote) -> bool {
    matches!(vote, Vote::Granted { .. })
}
