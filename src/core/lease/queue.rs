//! The requests that wait for leases at a coordinator: first come, first served among those that conflict.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use super::rules::{LeaseMutant, LeaseRules};
use super::table::Table;
use super::{Lease, LeaseId, LeasePath, Slots, Token};
use crate::core::Incarnation;

/// A request for a lease.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Waiter {
    /// Its ticket: the same request has the same one when it is asked again.
    pub ticket: LeaseId,
    /// The path.
    pub path: LeasePath,
    /// How many slots the path has, and how many of them are wanted; `None` for the path alone.
    pub slots: Option<(u16, u16)>,
    /// The time to live, µs.
    pub ttl_us: u64,
    /// The label of the holder.
    pub label: std::sync::Arc<str>,
    /// The node that holds the client's request.
    pub from: Incarnation,
    /// The number of the request at that node, for the answer.
    pub request: u64,
    /// When the client came, by the clock of the coordinator, µs.
    pub since_us: u64,
    /// Until when the client waits, µs.
    pub until_us: u64,
    /// When it is forgotten unless its node confirms it, µs.
    pub lapses_us: u64,
    /// When to try for it again at the earliest, µs.
    pub not_before_us: u64,
    /// How often it was tried for.
    pub tries: u32,
    /// The token of the last try, of which voters may not have forgotten the lease yet.
    pub tried: Option<Token>,
}

/// The waiters of one path and number of slots, the first one first.
type Line = VecDeque<Waiter>;

/// The waiters of a coordinator.
#[derive(Debug, Default)]
pub struct Queue {
    /// By path; the id of a line is made of its kind.
    lines: Table<Line>,
    /// Where each one is: its path, its line, and when it came.
    tickets: HashMap<LeaseId, (LeasePath, LeaseId, u64)>,
    rules: LeaseRules,
}

/// The id of the line for a number of slots.
fn line_id(slots: Option<(u16, u16)>, path: &LeasePath) -> LeaseId {
    let of = slots.map_or(0, |(of, _)| u128::from(of));
    LeaseId(of << 1 | u128::from(path.is_prefix()))
}

/// The place of a waiter in a line.
fn place(line: &Line, since_us: u64, ticket: LeaseId) -> usize {
    line.partition_point(|other| (other.since_us, other.ticket) < (since_us, ticket))
}

impl Queue {
    pub(super) fn new(rules: LeaseRules) -> Self {
        Self { rules, ..Self::default() }
    }

    /// How many wait.
    #[must_use]
    pub fn len(&self) -> usize {
        self.tickets.len()
    }

    /// Whether none waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.tickets.is_empty()
    }

    /// How many wait for exactly this path.
    #[must_use]
    pub fn len_of(&self, path: &LeasePath) -> usize {
        self.lines.on(path).map(|line| line.note.len()).sum()
    }

    /// Adds one behind those that came before it, in the place of one with its ticket.
    pub fn enter(&mut self, waiter: Waiter) {
        self.remove(waiter.ticket);
        let id = line_id(waiter.slots, &waiter.path);
        self.tickets.insert(waiter.ticket, (waiter.path.clone(), id, waiter.since_us));
        if self.lines.note_mut(&waiter.path, id).is_none() {
            let line = Lease {
                path: waiter.path.clone(),
                id,
                token: Token::default(),
                ttl_us: 0,
                slots: None,
                label: "".into(),
            };
            self.lines.insert(Arc::new(line), u64::MAX, Line::new());
        }
        if let Some(line) = self.lines.note_mut(&waiter.path, id) {
            let at = place(line, waiter.since_us, waiter.ticket);
            line.insert(at, waiter);
        }
    }

    /// A waiter.
    #[must_use]
    pub fn get(&self, ticket: LeaseId) -> Option<&Waiter> {
        let (path, id, since_us) = self.tickets.get(&ticket)?;
        let line = self.lines.get(path, *id)?.note;
        line.get(place(line, *since_us, ticket))
    }

    /// A waiter, to change when it lapses or is tried for.
    pub fn get_mut(&mut self, ticket: LeaseId) -> Option<&mut Waiter> {
        let (path, id, since_us) = self.tickets.get(&ticket)?;
        let line = self.lines.note_mut(path, *id)?;
        let at = place(line, *since_us, ticket);
        line.get_mut(at)
    }

    /// Removes one.
    pub fn remove(&mut self, ticket: LeaseId) -> Option<Waiter> {
        let (path, id, since_us) = self.tickets.remove(&ticket)?;
        let line = self.lines.note_mut(&path, id)?;
        let waiter = line.remove(place(line, since_us, ticket));
        if line.is_empty() {
            self.lines.remove(&path, id);
        }
        waiter
    }

    /// The first of each line that conflicts with a path, the longest waiting first.
    #[must_use]
    pub fn first_of<'a>(&'a self, path: &'a LeasePath) -> Vec<&'a Waiter> {
        let mut first: Vec<&Waiter> =
            self.lines.conflicts(path, None).filter_map(|line| self.first_in(line.note)).collect();
        first.sort_by_key(|waiter| (waiter.since_us, waiter.ticket));
        first
    }

    fn first_in<'a>(&self, line: &'a Line) -> Option<&'a Waiter> {
        if self.rules.lack(LeaseMutant::LastComeFirstServed) { line.back() } else { line.front() }
    }

    /// Whether one that came before conflicts with this one.
    #[must_use]
    pub fn has_before(&self, waiter: &Waiter) -> bool {
        if self.rules.lack(LeaseMutant::LastComeFirstServed) {
            return false;
        }
        let rank = (waiter.since_us, waiter.ticket);
        let first = self.lines.conflicts(&waiter.path, None).filter_map(|line| line.note.front());
        first.into_iter().any(|other| (other.since_us, other.ticket) < rank)
    }

    /// All that wait.
    pub fn iter(&self) -> impl Iterator<Item = &Waiter> {
        self.lines.iter().flat_map(|line| line.note)
    }
}

/// A request whose client is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cancelled {
    /// Its ticket.
    pub ticket: LeaseId,
    /// The node that held it.
    pub from: Incarnation,
    /// Its number at that node.
    pub request: u64,
    /// The token of the lease that no client took.
    pub granted: Option<Token>,
}

impl Cancelled {
    /// Whether it is this request, and not one with the same ticket at another node, or a later one: the client may
    /// have asked again, and messages overtake each other.
    pub(super) fn is(&self, waiter: &Waiter) -> bool {
        waiter.from == self.from && waiter.request <= self.request
    }
}

impl Waiter {
    /// The same request has come again, perhaps at another node. One that was overtaken is not taken for a later one.
    pub(super) fn is_asked_again(&mut self, again: &Self) {
        if again.from != self.from || again.request >= self.request {
            (self.from, self.request) = (again.from, again.request);
        }
        self.until_us = self.until_us.max(again.until_us);
        self.lapses_us = again.lapses_us;
    }

    /// The lease that it gets with an id, a token and these slots.
    #[must_use]
    pub fn lease(&self, id: LeaseId, token: Token, slots: Option<Slots>) -> Lease {
        Lease { path: self.path.clone(), id, token, ttl_us: self.ttl_us, slots, label: self.label.clone() }
    }
}
