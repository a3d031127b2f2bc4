//! What leases cost a node that votes, coordinates and knows them: time and memory, counted by the allocator, of
//! 100,000 leases and of 10,000 requests that wait for one path; and what is one too many.

use std::alloc::System;
use std::sync::Arc;
use std::time::Instant;

use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};
use vwatch::core::lease::changeover::Changeover;
use vwatch::core::lease::coordinator::{CoordinatorConfig, LAPSE_US, Output, VoterStanding};
use vwatch::core::lease::message::Denied;
use vwatch::core::lease::queue::Waiter;
use vwatch::core::lease::rules::LeaseRules;
use vwatch::core::lease::voter::VoterConfig;
use vwatch::core::lease::{Coordinator, LeaseId, LeasePath, Token, View, Voter, VoterSet};
use vwatch::core::stamp::Now;
use vwatch::core::{Incarnation, Namespace, Stamp};
use vwatch::node::limits::{MAX_LEASE_WAITERS, MAX_LEASE_WAITERS_OF_PATH};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// The default of `--max-leases`.
const LEASES: usize = 100_000;

const TTL_US: u64 = 60_000_000;

/// The only voter of its cluster.
const NODE: u64 = 1;

/// The parts of a node.
struct Node {
    coordinator: Coordinator,
    voter: Voter,
    view: View,
    changeover: Changeover,
    now: Now,
    granted: Vec<(LeaseId, Token)>,
    denied: Vec<Denied>,
}

impl Node {
    fn new() -> Self {
        let now = Now { wall: Stamp::from_micros(1 << 50).expect("a stamp"), mono_us: 1 };
        let sets = vec![VoterSet::new([NODE], TTL_US).expect("a set")];
        let rules = LeaseRules::default();
        let mut coordinator = Coordinator::new(CoordinatorConfig {
            sets: sets.clone(),
            max_leases: LEASES,
            max_waiters_of_path: MAX_LEASE_WAITERS_OF_PATH,
            max_waiters: MAX_LEASE_WAITERS,
            salt: 1,
            rules,
        });
        coordinator.see(NODE, VoterStanding::Live);
        let changeover = Changeover::new(&sets, TTL_US, rules);
        let voter = Voter::new(
            VoterConfig {
                node: NODE,
                sets,
                max_ttl_us: TTL_US,
                max_future_us: TTL_US,
                max_leases: LEASES,
                is_first: true,
                rules,
            },
            now,
        );
        let (granted, denied) = (Vec::new(), Vec::new());
        Self { coordinator, voter, view: View::default(), changeover, now, granted, denied }
    }

    fn acquire(&mut self, path: &str, ticket: usize, waits: bool) {
        self.now.mono_us += 1;
        let path = LeasePath::new(&Namespace::PLAIN, path.as_bytes(), false, 512).expect("a path");
        let until_us = if waits { self.now.mono_us + TTL_US } else { self.now.mono_us };
        let waiter = Waiter {
            ticket: LeaseId(ticket as u128 + 1),
            path,
            slots: None,
            ttl_us: TTL_US,
            label: Arc::default(),
            from: Incarnation(1),
            request: 0,
            tried: None,
            since_us: self.now.mono_us,
            until_us,
            lapses_us: self.now.mono_us + LAPSE_US,
            not_before_us: 0,
            tries: 0,
        };
        self.coordinator.acquire(self.now, waiter);
        self.settle();
    }

    fn release(&mut self, path: &str, token: Token) {
        self.now.mono_us += 1;
        let path = LeasePath::new(&Namespace::PLAIN, path.as_bytes(), false, 512).expect("a path");
        self.coordinator.release(self.now, 0, &path, token);
        self.settle();
    }

    /// Carries out what the coordinator asks for.
    fn settle(&mut self) {
        loop {
            let output = self.coordinator.take_output();
            if output.is_empty() {
                return;
            }
            let Output { ballots, acquired, changes, .. } = output;
            for call in ballots {
                let vote = self.voter.answer(self.now, false, &self.changeover, &call.ballot);
                self.coordinator.vote(self.now, call.round, call.set, call.node, Some(vote));
            }
            for answer in acquired {
                match answer.result {
                    Ok(acquired) => self.granted.push((answer.ticket, acquired.lease.token)),
                    Err(denied) => self.denied.push(denied),
                }
            }
            let mut events = Vec::new();
            changes.iter().for_each(|change| self.view.apply(self.now.mono_us, change, &mut events));
        }
    }
}

/// How many bytes are allocated after `make` that were not before.
fn bytes(make: impl FnOnce()) -> f64 {
    let region = Region::new(ALLOCATOR);
    make();
    let change = region.change();
    change.bytes_allocated as f64 - change.bytes_deallocated as f64
}

fn main() {
    let mut node = Node::new();
    node.granted.reserve(LEASES);
    let path = |number: usize| format!("jobs/{number:06}");
    let began = Instant::now();
    let held = bytes(|| (0..LEASES).for_each(|number| node.acquire(&path(number), number, false)));
    let each = began.elapsed().as_nanos() as f64 / LEASES as f64;
    assert_eq!(node.granted.len(), LEASES, "all are granted");
    // the timers of the rounds are over
    let timers = bytes(|| {
        node.now.mono_us += 2_000_000;
        node.coordinator.tick(node.now);
    });
    println!("{LEASES} leases: {each:.0} ns to acquire one, {:.0} B each", (held + timers) / LEASES as f64);
    node.acquire("one-more", LEASES, false);
    println!("one more: {:?}", node.denied.pop().expect("a denial"));
    let granted = std::mem::take(&mut node.granted);
    let began = Instant::now();
    granted.iter().enumerate().for_each(|(number, (_, token))| node.release(&path(number), *token));
    println!("{:.0} ns to release one", began.elapsed().as_nanos() as f64 / LEASES as f64);
    drop(granted);

    for count in [32, MAX_LEASE_WAITERS_OF_PATH] {
        let mut node = Node::new();
        node.acquire("one", 0, true);
        let waiting = bytes(|| (1..=count).for_each(|ticket| node.acquire("one", ticket, true)));
        if count == MAX_LEASE_WAITERS_OF_PATH {
            node.acquire("one", count + 1, true);
            println!("one more: {:?}", node.denied.pop().expect("a denial"));
        }
        let began = Instant::now();
        for ticket in 0..=count {
            let (_, token) = node.granted[ticket];
            node.release("one", token);
        }
        assert!(node.granted.iter().map(|(ticket, _)| ticket.0).eq(1..=count as u128 + 1), "in their order");
        let each = began.elapsed().as_nanos() as f64 / count as f64;
        println!("{count} wait for one path: {each:.0} ns a hand-over, {:.0} B each", waiting / count as f64);
    }
}
