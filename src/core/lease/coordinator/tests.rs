//! A coordinator with real voters, whose messages take no time unless a test holds them back.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::super::changeover::Changeover;
use super::super::message::{Ballot, LeaseChange, Motion, Vote, VoteRefusal, VoterAnswer};
use super::super::testing::{SECOND_US, at, lease, path};
use super::super::voter::VoterConfig;
use super::super::{Voter, VoterSet};
use super::*;
use crate::core::Incarnation;

const TTL_US: u64 = 10 * SECOND_US;
const HERE: Incarnation = Incarnation(7);
const ELSEWHERE: Incarnation = Incarnation(8);

struct Group {
    coordinator: Coordinator,
    voters: BTreeMap<u64, Voter>,
    /// Ballots that have no vote yet, if they are held back.
    open: Vec<BallotCall>,
    holds_back: bool,
    now: Now,
    acquired: Vec<Answer>,
    done: Vec<Done>,
    changes: Vec<LeaseChange>,
}

impl Group {
    fn with(max_leases: usize, max_waiters_of_path: usize, max_waiters: usize) -> Self {
        Self::under(LeaseRules::default(), max_leases, max_waiters_of_path, max_waiters)
    }

    fn under(rules: LeaseRules, max_leases: usize, max_waiters_of_path: usize, max_waiters: usize) -> Self {
        let set = VoterSet::new([1, 2, 3], TTL_US).unwrap();
        let voter = |node| {
            let sets = vec![set.clone()];
            let (max_ttl_us, max_future_us) = (TTL_US, 60 * SECOND_US);
            let is_first = true;
            let max_leases = 100_000;
            let config = VoterConfig { node, sets, max_ttl_us, max_future_us, max_leases, is_first, rules };
            (node, Voter::new(config, at(0)))
        };
        let sets = vec![set.clone()];
        let config = CoordinatorConfig { sets, max_leases, max_waiters_of_path, max_waiters, salt: 5, rules };
        let mut coordinator = Coordinator::new(config);
        (1..=3).for_each(|node| coordinator.see(node, VoterStanding::Live));
        Self {
            coordinator,
            voters: (1..=3).map(voter).collect(),
            open: Vec::new(),
            holds_back: false,
            now: at(SECOND_US),
            acquired: Vec::new(),
            done: Vec::new(),
            changes: Vec::new(),
        }
    }

    fn new() -> Self {
        Self::with(1_000, 20_000, 20_000)
    }

    /// Takes what the coordinator puts out, and brings it the votes.
    fn pump(&mut self) {
        loop {
            let output = self.coordinator.take_output();
            if output.is_empty() && (self.open.is_empty() || self.holds_back) {
                return;
            }
            self.acquired.extend(output.acquired);
            self.done.extend(output.done.into_iter().map(|(_, done)| done));
            self.changes.extend(output.changes);
            self.open.extend(output.ballots);
            if !self.holds_back {
                for call in std::mem::take(&mut self.open) {
                    self.cast(&call);
                }
            }
        }
    }

    fn cast(&mut self, call: &BallotCall) {
        let no_change = Changeover::new(&[], 0, LeaseRules::default());
        let vote = self
            .voters
            .get_mut(&call.node)
            .map(|voter| voter.answer(self.now, false, &no_change, &call.ballot));
        self.coordinator.vote(self.now, call.round, call.set, call.node, vote);
    }

    /// Lets the ballots through that were held back.
    fn let_through(&mut self) {
        self.holds_back = false;
        self.pump();
    }

    fn pass(&mut self, us: u64) {
        self.now = Now { mono_us: self.now.mono_us + us, wall: at(self.now.mono_us + us - SECOND_US).wall };
        self.coordinator.tick(self.now);
        self.pump();
    }

    fn waiter(&self, ticket: u128, text: &str, wait_us: u64) -> Waiter {
        Waiter {
            ticket: LeaseId(ticket),
            path: path(text, false),
            slots: None,
            ttl_us: TTL_US,
            label: "holder".into(),
            from: HERE,
            request: ticket as u64,
            since_us: self.now.mono_us,
            until_us: self.now.mono_us + wait_us,
            lapses_us: self.now.mono_us + LAPSE_US,
            not_before_us: 0,
            tries: 0,
            tried: None,
        }
    }

    fn acquire(&mut self, waiter: Waiter) {
        self.coordinator.acquire(self.now, waiter);
        self.pump();
    }

    fn ask(&mut self, ticket: u128, text: &str, wait_us: u64) {
        let waiter = self.waiter(ticket, text, wait_us);
        self.acquire(waiter);
    }

    /// The lease that a request was granted last.
    fn lease(&self, ticket: u128) -> Option<Lease> {
        let found = self.acquired.iter().rev().find(|answer| answer.ticket == LeaseId(ticket));
        found.and_then(|answer| answer.result.as_ref().ok()).map(|acquired| Lease::clone(&acquired.lease))
    }

    fn denied(&self, ticket: u128) -> Option<&Denied> {
        let found = self.acquired.iter().rev().find(|answer| answer.ticket == LeaseId(ticket));
        found.and_then(|answer| answer.result.as_ref().err())
    }

    /// The node says that the client of a request is gone, by the number that [`Group::waiter`] gives it.
    fn cancel(&mut self, ticket: u128, from: Incarnation, granted: Option<Token>) {
        let gone = Cancelled { ticket: LeaseId(ticket), from, request: ticket as u64, granted };
        self.coordinator.cancel(self.now, &path("a", false), gone);
    }

    fn release(&mut self, lease: &Lease) {
        self.coordinator.release(self.now, 1, &lease.path, lease.token);
        self.pump();
    }

    fn voters_hold(&self) -> usize {
        self.voters.values().map(Voter::len).max().unwrap_or(0)
    }
}

#[test]
fn a_lease_is_handed_over_without_a_poll() {
    let mut group = Group::new();
    group.ask(1, "a", 0);
    group.ask(2, "a", 60 * SECOND_US);
    let first = group.lease(1).unwrap();
    assert!(group.lease(2).is_none());
    group.release(&first);
    let second = group.lease(2).expect("no time has passed");
    assert!(second.token > first.token);
    assert_eq!(group.voters_hold(), 1, "one ballot has ended the old one and granted the new one");
    assert!(matches!(group.changes[1], LeaseChange::Released { token, .. } if token == first.token));
}

#[test]
fn of_32_impatient_requests_on_one_name_one_is_granted() {
    let mut group = Group::new();
    group.holds_back = true;
    (1..=32).for_each(|ticket| group.ask(ticket, "a", 0));
    assert!(group.acquired.is_empty(), "the round under way decides");
    group.let_through();
    assert_eq!(group.acquired.len(), 32);
    assert!(group.lease(1).is_some());
    assert!((2..=32).all(|ticket| matches!(group.denied(ticket), Some(Denied::Held(Some(_))))));
    assert_eq!(group.coordinator.waiting(), 0);
}

#[test]
fn a_request_that_is_asked_again_gets_the_lease_that_it_has() {
    let mut group = Group::new();
    group.holds_back = true;
    group.ask(1, "a", 0);
    let again = Waiter { from: ELSEWHERE, request: 44, ..group.waiter(1, "a", 0) };
    group.acquire(again.clone());
    group.let_through();
    assert_eq!(group.acquired.len(), 1);
    assert_eq!(
        (group.acquired[0].to, group.acquired[0].request),
        (ELSEWHERE, 44),
        "the node that asked last is answered"
    );
    let first = group.lease(1).unwrap();
    group.acquire(again);
    assert_eq!(group.acquired.len(), 2);
    assert_eq!(group.lease(1).unwrap(), first);
    assert_ne!(first.id, LeaseId(1), "another coordinator grants another lease");
}

#[test]
fn a_client_that_is_gone_ends_its_request_in_each_state() {
    let mut group = Group::new();
    group.ask(1, "a", 0);
    group.ask(2, "a", 60 * SECOND_US);
    // it waits
    group.cancel(2, ELSEWHERE, None);
    assert_eq!(group.coordinator.waiting(), 1, "it is asked for at another node");
    group.cancel(2, HERE, None);
    assert_eq!(group.coordinator.waiting(), 0);
    // it is held
    let token = group.lease(1).unwrap().token;
    group.cancel(1, HERE, None);
    group.cancel(1, HERE, Some(token.next()));
    assert_eq!(group.coordinator.held(), 1, "the answer is under way, or it is another lease");
    group.cancel(1, HERE, Some(token));
    group.pump();
    assert_eq!((group.coordinator.held(), group.voters_hold()), (0, 0));
    // it is asked for
    group.holds_back = true;
    group.ask(3, "a", 0);
    group.cancel(3, HERE, None);
    group.let_through();
    assert_eq!((group.coordinator.held(), group.voters_hold()), (0, 0));
    assert!(group.lease(3).is_none());
    // its client has asked again since, and may hold it
    group.ask(4, "a", 0);
    group.ask(4, "a", 0);
    let token = group.lease(4).unwrap().token;
    group.cancel(4, HERE, Some(token));
    assert_eq!(group.coordinator.held(), 1);
}

#[test]
fn a_client_that_hangs_up_and_asks_again_at_the_same_node_waits_on() {
    let mut group = Group::new();
    group.ask(1, "a", 0);
    group.ask(2, "a", 60 * SECOND_US);
    let again = |group: &Group, request| Waiter { request, ..group.waiter(2, "a", 90 * SECOND_US) };
    // what the node says of the first request comes after the second one, and confirms it
    let second = again(&group, 40);
    group.acquire(second);
    group.cancel(2, HERE, None);
    let overtaken = again(&group, 2);
    group.acquire(overtaken);
    assert_eq!(group.coordinator.waiting(), 1);
    group.pass(70 * SECOND_US / 10);
    let first = group.lease(1).unwrap();
    group.release(&first);
    let answer = group.acquired.last().unwrap();
    assert!(answer.result.is_ok());
    assert_eq!((answer.ticket, answer.request), (LeaseId(2), 40), "the request that still waits is answered");
    // also where a round is under way
    group.holds_back = true;
    group.ask(3, "b", 0);
    let again = Waiter { request: 41, ..group.waiter(3, "b", 0) };
    group.acquire(again);
    group.cancel(3, HERE, None);
    group.let_through();
    assert!(group.lease(3).is_some());
}

#[test]
fn a_request_that_is_asked_again_waits_for_as_long_as_it_says_then() {
    let mut group = Group::new();
    group.ask(1, "a", 0);
    group.ask(2, "a", SECOND_US);
    group.pass(SECOND_US / 2);
    let again = Waiter { request: 40, ..group.waiter(2, "a", 3 * SECOND_US) };
    group.acquire(again);
    group.pass(SECOND_US);
    assert!(group.denied(2).is_none(), "it waits for 3 s");
    group.pass(5 * SECOND_US / 2);
    assert!(group.denied(2).is_some());
}

#[test]
fn those_that_wait_for_one_name_are_served_in_their_order() {
    let mut group = Group::new();
    group.ask(0, "a", 0);
    const WAITERS: u128 = 10_000;
    for ticket in 1..=WAITERS {
        let mut waiter = group.waiter(ticket, "a", 3_600 * SECOND_US);
        // they come in another order than they have waited
        waiter.since_us = 1 + (ticket as u64 * 7_919) % 10_007;
        group.acquire(waiter);
    }
    assert_eq!(group.coordinator.waiting_for(&path("a", false)), WAITERS as usize);
    let mut order = Vec::new();
    let mut lease = group.lease(0).unwrap();
    for _ in 0..WAITERS {
        group.release(&lease);
        let Answer { ticket, result: Ok(acquired), .. } = group.acquired.pop().unwrap() else {
            panic!("denied")
        };
        lease = Lease::clone(&acquired.lease);
        order.push((ticket.0 as u64 * 7_919) % 10_007);
    }
    assert!(order.is_sorted(), "first come, first served");
    assert_eq!(group.coordinator.waiting(), 0);
}

#[test]
fn many_that_wait_below_a_prefix_are_served_together() {
    let mut group = Group::with(10_000, 10, 10_000);
    let mut prefix = group.waiter(0, "a", 0);
    prefix.path = path("a", true);
    group.acquire(prefix);
    (1..=5_000).for_each(|ticket| group.ask(ticket, &format!("a/{ticket}"), 60 * SECOND_US));
    let lease = group.lease(0).unwrap();
    group.release(&lease);
    // all but one may meet the old lease at a voter, and try again soon
    group.pass(SECOND_US);
    assert_eq!(group.coordinator.held(), 5_000);
}

#[test]
fn those_behind_one_that_gives_up_are_served() {
    let mut group = Group::new();
    group.ask(1, "a/x", 0);
    let mut prefix = group.waiter(2, "a", SECOND_US);
    prefix.path = path("a", true);
    group.acquire(prefix);
    group.ask(3, "a/y", 9 * SECOND_US);
    assert!(group.lease(3).is_none(), "the prefix came first");
    group.pass(SECOND_US);
    assert!(matches!(group.denied(2), Some(Denied::Held(Some(_)))));
    assert!(group.lease(3).is_some());
}

#[test]
fn limits_are_answered() {
    let mut group = Group::with(2, 2, 3);
    group.ask(1, "a", 0);
    group.ask(2, "a", 60 * SECOND_US);
    group.ask(3, "a", 60 * SECOND_US);
    group.ask(4, "a", 60 * SECOND_US);
    assert_eq!(group.denied(4), Some(&Denied::TooManyWaiters), "of one path");
    group.ask(5, "b", 0);
    group.ask(6, "c", 0);
    assert_eq!(group.denied(6), Some(&Denied::TooManyLeases));
}

#[test]
fn without_a_majority_none_is_granted_and_it_is_said_how_many_answered() {
    let mut group = Group::new();
    group.voters.retain(|node, _| *node == 1);
    group.ask(1, "a", 0);
    let Some(Denied::NoMajority(unanswered)) = group.denied(1) else { panic!() };
    assert_eq!((unanswered.voters, unanswered.answered), (3, 1));
    assert_eq!(group.voters_hold(), 0, "it is released where it was voted for");
    let lease = Lease { path: path("a", false), ..super::super::testing::lease("a", 1, 1) };
    group.coordinator.renew(group.now, 1, Arc::new(lease.clone()));
    group.coordinator.check(group.now, 2, &lease.path, lease.token);
    group.coordinator.release(group.now, 3, &lease.path, lease.token);
    group.pump();
    assert_eq!(group.done.len(), 3);
    assert!(group.done.iter().all(|done| matches!(done, Done::NoMajority(_))));
    (2..=3).for_each(|node| group.coordinator.see(node, VoterStanding::Gone));
    group.ask(2, "b", 0);
    assert!(matches!(group.denied(2), Some(Denied::NoMajority(_))));
}

#[test]
fn a_round_ends_in_time_and_a_late_majority_counts_for_nothing() {
    let mut group = Group::new();
    group.holds_back = true;
    group.ask(1, "a", 0);
    assert!(group.acquired.is_empty());
    group.pass(ROUND_US);
    assert!(matches!(group.denied(1), Some(Denied::NoMajority(_))));
    group.let_through();
    assert_eq!((group.coordinator.held(), group.voters_hold()), (0, 0));
    assert_eq!(group.acquired.len(), 1);
}

#[test]
fn a_renewal_counts_only_before_the_deadline() {
    let mut group = Group::new();
    group.ask(1, "a", 0);
    let lease = group.lease(1).unwrap();
    let deadline_us = group.coordinator.get(&lease.path, lease.id).unwrap().expires_us;
    assert_eq!(deadline_us, lease.deadline_us(group.now.mono_us));
    group.pass(TTL_US / 2);
    group.coordinator.renew(group.now, 1, Arc::new(Lease { ttl_us: SECOND_US, ..lease.clone() }));
    group.pump();
    let Some(Done::Renewed(acquired)) = group.done.pop() else { panic!() };
    assert_eq!(acquired.deadline_us, deadline_us, "a shorter one takes nothing away");
    group.holds_back = true;
    group.pass(deadline_us - group.now.mono_us - 1);
    group.coordinator.renew(group.now, 2, Arc::new(lease.clone()));
    group.pass(1);
    group.let_through();
    assert!(matches!(group.done.pop(), Some(Done::Lost)));
    assert_eq!(group.coordinator.held(), 0);
}

#[test]
fn a_late_renewal_that_counted_would_revive_a_lease() {
    for (rules, is_revived) in
        [(LeaseRules::default(), false), (LeaseRules::without(LeaseMutant::LateRenewalCounts), true)]
    {
        let mut group = Group::under(rules, 10, 10, 10);
        group.ask(1, "a", 0);
        let first = group.lease(1).unwrap();
        group.pass(TTL_US * 97 / 100);
        group.holds_back = true;
        group.coordinator.renew(group.now, 1, Arc::new(first.clone()));
        group.pump();
        let late = std::mem::take(&mut group.open);
        group.holds_back = false;
        group.pass(TTL_US * 4 / 100);
        group.ask(2, "a", 0);
        let second = group.lease(2).expect("the first one has expired");
        group.release(&second);
        group.done.clear();
        late.iter().for_each(|call| group.cast(call));
        group.pump();
        assert_eq!(matches!(group.done[..], [Done::Renewed(_)]), is_revived, "{:?}", group.done);
    }
}

#[test]
fn another_coordinator_renews_and_releases_what_the_voters_hold() {
    let mut group = Group::new();
    group.ask(1, "s", 0);
    let lease = group.lease(1).unwrap();
    let sets = group.coordinator.config.sets.clone();
    let config = CoordinatorConfig { sets, salt: 6, ..group.coordinator.config.clone() };
    let mut other = Coordinator::new(config);
    (1..=3).for_each(|node| other.see(node, VoterStanding::Live));
    let mut first = std::mem::replace(&mut group.coordinator, other);
    group.coordinator.renew(group.now, 1, Arc::new(Lease { label: "".into(), ..lease.clone() }));
    group.pump();
    let Some(Done::Renewed(acquired)) = group.done.pop() else { panic!() };
    assert_eq!(*acquired.lease, lease, "as the voters hold it");
    // the same request there is another lease, and this one is in its way
    group.ask(1, "s", 0);
    assert!(matches!(group.denied(1), Some(Denied::Held(Some(_)))));
    assert_eq!(group.coordinator.held(), 1);
    // a third one does not know it, and tells all nodes of its release
    let sets = group.coordinator.config.sets.clone();
    let mut third = Coordinator::new(CoordinatorConfig { sets, salt: 7, ..group.coordinator.config.clone() });
    (1..=3).for_each(|node| third.see(node, VoterStanding::Live));
    group.coordinator = third;
    group.changes.clear();
    group.release(&lease);
    assert!(matches!(group.done.pop(), Some(Done::Released)));
    assert!(matches!(group.changes[..], [LeaseChange::Released { .. }]));
    assert_eq!(first.held(), 1);
    first.was_released(group.now, &lease.path, lease.token);
    assert_eq!(first.held(), 0);
}

#[test]
fn a_release_and_a_check_say_what_the_voters_know() {
    let mut group = Group::new();
    group.ask(1, "a", 0);
    let lease = group.lease(1).unwrap();
    group.coordinator.check(group.now, 1, &path("a", false), lease.token);
    group.coordinator.check(group.now, 2, &path("a", false), lease.token.next());
    group.coordinator.release(group.now, 3, &lease.path, lease.token.next());
    group.pump();
    assert!(
        matches!(group.done[..], [Done::Live { .. }, Done::Lost, Done::OtherHolds(_)]),
        "{:?}",
        group.done
    );
    group.release(&lease);
    group.release(&lease);
    assert!(matches!(group.done[3..], [Done::Released, Done::Released]), "nothing holds it");
}

#[test]
fn slots_are_shared_and_a_larger_claim_waits_in_front() {
    let mut group = Group::new();
    let with = |group: &Group, ticket, claim, wait_us| Waiter {
        slots: Some((3, claim)),
        ..group.waiter(ticket, "s", wait_us)
    };
    for (ticket, claim, wait_us) in [(1, 1, 0), (2, 1, 0), (3, 2, 60), (4, 1, 60)] {
        let waiter = with(&group, ticket, claim, wait_us * SECOND_US);
        group.acquire(waiter);
    }
    assert!(group.lease(1).is_some() && group.lease(2).is_some());
    assert!(group.lease(3).is_none() && group.lease(4).is_none(), "one slot is free, and two come first");
    let first = group.lease(1).unwrap();
    group.release(&first);
    assert_eq!(group.lease(3).unwrap().slots.unwrap().taken(), [0, 2]);
    assert!(group.lease(4).is_none());
    group.ask(5, "s", 0);
    assert!(matches!(group.denied(5), Some(Denied::Held(_))), "not the path alone");
}

#[test]
fn a_waiter_that_its_node_does_not_confirm_lapses() {
    let mut group = Group::new();
    group.ask(1, "a", 0);
    group.ask(2, "a", 60 * SECOND_US);
    group.ask(3, "a", 60 * SECOND_US);
    let lease = group.lease(1).unwrap();
    for _ in 0..3 {
        group.pass(5 * SECOND_US);
        group.coordinator.renew(group.now, 1, Arc::new(lease.clone()));
        let again = group.waiter(3, "a", 60 * SECOND_US);
        group.acquire(again);
    }
    group.pass(1);
    assert_eq!(group.coordinator.waiting(), 1);
    group.release(&lease);
    assert!(group.lease(3).is_some());
}

#[test]
fn a_ticket_is_in_the_queue_once() {
    let mut group = Group::new();
    group.holds_back = true;
    group.ask(1, "a", 60 * SECOND_US);
    group.ask(1, "b", 60 * SECOND_US);
    group.let_through();
    (1..=3).for_each(|node| group.coordinator.see(node, VoterStanding::Gone));
    group.pass(90 * SECOND_US);
    assert_eq!(group.coordinator.waiting(), 0);
}

#[test]
fn a_grant_that_overtakes_the_release_before_it_is_tried_again() {
    let mut group = Group::new();
    group.ask(1, "a", 0);
    let first = group.lease(1).unwrap();
    group.holds_back = true;
    group.release(&first);
    group.ask(2, "a", 0);
    let (releases, grants): (Vec<_>, Vec<_>) = std::mem::take(&mut group.open)
        .into_iter()
        .partition(|call| matches!(call.ballot.motion, Motion::Release { .. }));
    assert_eq!((releases.len(), grants.len()), (3, 3));
    grants.iter().chain(&releases).for_each(|call| group.cast(call));
    group.let_through();
    assert!(group.lease(2).is_none() && group.denied(2).is_none());
    group.pass(SECOND_US / 10);
    assert!(group.lease(2).is_some(), "{:?}", group.denied(2));
    // what is held is denied at once
    group.ask(3, "a", 0);
    assert!(group.denied(3).is_some());
}

#[test]
fn a_voter_that_holds_what_has_ended_is_told() {
    for slots in [None, Some((3, 2))] {
        let mut group = Group::new();
        let wants = |group: &Group, ticket| Waiter { slots, ..group.waiter(ticket, "a", 0) };
        group.acquire(wants(&group, 1));
        let first = group.lease(1).unwrap();
        // a renewal comes to one voter after the release
        group.holds_back = true;
        group.coordinator.renew(group.now, 7, Arc::new(first.clone()));
        group.pump();
        let late = group.open.iter().find(|call| call.node == 3).cloned().unwrap();
        group.open.clear();
        group.let_through();
        group.release(&first);
        let no_change = Changeover::new(&[], 0, LeaseRules::default());
        let now = group.now;
        let held =
            |group: &Group| group.voters[&3].after(b"").map(|entry| entry.lease.id).collect::<Vec<_>>();
        group.voters.get_mut(&3).unwrap().vote(now, false, &no_change, &late.ballot);
        assert_eq!(held(&group), [first.id]);
        // the voter refuses after two others have decided
        group.acquire(wants(&group, 2));
        let second = group.lease(2).unwrap();
        assert!(held(&group).is_empty(), "it forgets the first one, {slots:?}");
        group.coordinator.renew(group.now, 8, Arc::new(second.clone()));
        group.pump();
        assert_eq!(held(&group), [second.id]);
        group.pass(2 * ROUND_US);
        assert!(group.coordinator.granted.is_empty(), "no round is remembered for ever");
    }
}

#[test]
fn what_is_cleared_away_is_named_by_its_id() {
    let mut group = Group::new();
    let no_change = Changeover::new(&[], 0, LeaseRules::default());
    // another coordinator tried a prefix, with the token of a lease on its name
    let mut tried = lease("a", 9, 10);
    tried.path = path("a", true);
    let ballot = Ballot {
        set: VoterSet::new([1, 2, 3], TTL_US).unwrap().id(),
        alone: true,
        motion: Motion::Grant { lease: Arc::new(tried.clone()), instead_of: None },
    };
    let now = group.now;
    group.voters.get_mut(&3).unwrap().vote(now, false, &no_change, &ballot);
    let live = lease("a", 8, 10);
    let ballot =
        Ballot { motion: Motion::Grant { lease: Arc::new(live.clone()), instead_of: None }, ..ballot };
    for node in [1, 2] {
        group.voters.get_mut(&node).unwrap().vote(now, false, &no_change, &ballot);
    }
    group.ask(1, "a/b", 0);
    assert!(group.lease(1).is_some());
    let has = |node: u64, id| group.voters[&node].after(b"").any(|entry| entry.lease.id == id);
    assert!(!has(3, tried.id), "the try is forgotten");
    assert!(has(1, live.id) && has(2, live.id), "and not the lease with its token");
}

#[test]
fn a_renewal_of_an_earlier_lease_of_a_request_does_not_end_its_round() {
    let mut group = Group::new();
    group.ask(1, "a", 0);
    let first = group.lease(1).unwrap();
    group.pass(2 * TTL_US);
    // the request comes again, and then a renewal of what it once got
    group.holds_back = true;
    group.ask(1, "a", 60 * SECOND_US);
    group.coordinator.renew(group.now, 7, Arc::new(first));
    group.pump();
    let is_renewal = |call: &BallotCall| matches!(call.ballot.motion, Motion::Renew { .. });
    let (renewals, grants): (Vec<_>, Vec<_>) =
        std::mem::take(&mut group.open).into_iter().partition(is_renewal);
    assert_eq!((renewals.len(), grants.len()), (3, 3));
    renewals.iter().for_each(|call| group.cast(call));
    group.ask(2, "a", 60 * SECOND_US);
    assert!(group.open.is_empty(), "the second one waits for the round of the first");
    grants.iter().for_each(|call| group.cast(call));
    group.let_through();
    assert!(group.lease(1).is_some_and(|lease| lease.token > Token::default()) && group.lease(2).is_none());
}

#[test]
fn a_ballot_of_a_takeover_names_the_lease_that_was_released() {
    let mut group = Group::new();
    group.ask(1, "a", 0);
    group.ask(2, "a", 60 * SECOND_US);
    let first = group.lease(1).unwrap();
    group.holds_back = true;
    group.release(&first);
    let named = group.open.iter().all(|call| match &call.ballot.motion {
        Motion::Grant { instead_of: Some((path, id, token)), .. } => {
            (path, id, token) == (&first.path, &first.id, &first.token)
        }
        _ => false,
    });
    assert!(named && group.open.len() == 3);
    let call = group.open[0].clone();
    // a vote counts once, and only that of a voter that was asked
    for _ in 0..3 {
        group.coordinator.vote(
            group.now,
            call.round,
            call.set,
            call.node,
            Some(VoterAnswer { vote: Vote::Granted { firm: true, held: None }, decides: true }),
        );
        group.coordinator.vote(
            group.now,
            call.round,
            call.set,
            99,
            Some(VoterAnswer { vote: Vote::Granted { firm: true, held: None }, decides: true }),
        );
    }
    assert!(group.coordinator.take_output().acquired.is_empty());
}

#[test]
fn a_check_is_decided_by_a_majority_that_knows() {
    let live = |left_us| Some(Vote::Live { left_us });
    let unknown = || Some(Vote::Refused(VoteRefusal::NotHeld));
    let abstains = || Some(Vote::Refused(VoteRefusal::Abstains { left_us: 1 }));
    let check = |votes: [Option<Vote>; 3]| -> Option<Done> {
        let mut group = Group::new();
        let lease = lease("a", 1, 10);
        group.coordinator.check(group.now, 1, &lease.path, lease.token);
        let ballots = group.coordinator.take_output().ballots;
        for (call, vote) in ballots.iter().zip(votes) {
            let answer = vote.map(|vote| VoterAnswer { vote, decides: true });
            group.coordinator.vote(group.now, call.round, call.set, call.node, answer);
        }
        group.coordinator.take_output().done.pop().map(|(_, done)| done)
    };
    assert!(matches!(check([live(50), unknown(), live(30)]), Some(Done::Live { left_us: 30 })));
    assert!(
        matches!(check([live(30), live(50), live(70)]), Some(Done::Live { left_us: 30 })),
        "the first two"
    );
    assert!(matches!(check([unknown(), live(50), unknown()]), Some(Done::Lost)));
    assert!(matches!(check([abstains(), abstains(), live(50)]), Some(Done::NoMajority(_))));
    assert!(matches!(check([unknown(), abstains(), live(50)]), Some(Done::NoMajority(_))));
    assert!(matches!(check([unknown(), None, None]), Some(Done::NoMajority(_))));
}
