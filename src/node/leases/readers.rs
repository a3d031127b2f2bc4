//! The readers of lease events of a node, each with what it has not taken yet.
//!
//! An index by the first segment of paths finds the readers that a lease concerns, so that an event costs nothing for
//! the others. What waits for a reader is bounded: one that falls behind begins again with what is held.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::Arc;

use tokio::sync::Notify;

use crate::core::lease::concern::Segment;
use crate::core::lease::view::{LeaseEvent, Page};
use crate::core::lease::{Concern, Lease, LeasePath, View};
use crate::node::limits::{LEASE_EVENTS_A_WRITE, MAX_LEASE_EVENTS_WAITING};

/// Wakes the task of a reader.
pub(super) type Wake = Arc<Notify>;

/// What a reader of lease events is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LeaseNews {
    /// It begins again: what it was told of leases so far is void.
    Reset,
    /// A lease is held, and until when by the clock that also runs while the machine sleeps, µs.
    Held(Arc<Lease>, u64),
    /// What was held at the beginning is told.
    Synced,
    /// A lease is held now; as [`LeaseNews::Held`].
    Acquired(Arc<Lease>, u64),
    /// Its holder gave it back.
    Released(Arc<Lease>),
    /// It has ended without a release that the node has heard of.
    Expired(Arc<Lease>),
}

/// How much of what is held a reader was told.
#[derive(Debug, PartialEq, Eq)]
enum Told {
    Nothing,
    /// What lies above its scope, and in it up to this key.
    Until(Vec<u8>),
    All,
}

#[derive(Debug)]
struct Reader {
    concern: Concern,
    told: Told,
    waiting: VecDeque<LeaseNews>,
    /// It has missed something.
    is_behind: bool,
    wake: Wake,
}

/// The readers.
#[derive(Debug, Default)]
pub(super) struct Readers {
    readers: HashMap<u64, Reader>,
    next: u64,
    by_segment: BTreeMap<Segment, BTreeSet<u64>>,
    resets: u64,
}

impl Reader {
    /// Whether it was told what was held on a path: later pages tell what stands then.
    fn was_told_of(&self, path: &LeasePath) -> bool {
        match &self.told {
            Told::Nothing => false,
            Told::Until(key) => !self.concern.is_within(path.key()) || path.key() <= &key[..],
            Told::All => true,
        }
    }

    fn add(&mut self, news: LeaseNews) {
        if self.is_behind {
            return;
        }
        if self.waiting.len() >= MAX_LEASE_EVENTS_WAITING {
            return self.fall_behind();
        }
        self.waiting.push_back(news);
        self.wake.notify_one();
    }

    fn fall_behind(&mut self) {
        self.is_behind = true;
        self.waiting = VecDeque::new();
        self.wake.notify_one();
    }
}

impl Readers {
    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.readers.len()
    }

    /// How often a reader has begun again.
    pub(super) fn resets(&self) -> u64 {
        self.resets
    }

    /// A reader comes. Its number, and what wakes it.
    pub(super) fn enter(&mut self, concern: Concern) -> (u64, Wake) {
        let number = self.next;
        self.next += 1;
        for segment in concern.segments() {
            self.by_segment.entry(segment).or_default().insert(number);
        }
        let wake = Wake::default();
        let reader = Reader {
            concern,
            told: Told::Nothing,
            waiting: VecDeque::new(),
            is_behind: false,
            wake: Arc::clone(&wake),
        };
        self.readers.insert(number, reader);
        (number, wake)
    }

    /// A reader goes.
    pub(super) fn leave(&mut self, number: u64) {
        let Some(reader) = self.readers.remove(&number) else { return };
        for segment in reader.concern.segments() {
            if let Some(numbers) = self.by_segment.get_mut(&segment) {
                numbers.remove(&number);
                if numbers.is_empty() {
                    self.by_segment.remove(&segment);
                }
            }
        }
    }

    /// The readers that a lease on a path may concern.
    fn near(&self, path: &LeasePath) -> Vec<u64> {
        if self.readers.is_empty() {
            return Vec::new();
        }
        if path.is_whole() {
            return self.readers.keys().copied().collect();
        }
        let of_segment = Segment::One(path.first_segment().into());
        let of_any = Segment::Any(path.namespace_key().into());
        let both = [of_segment, of_any].map(|segment| self.by_segment.get(&segment));
        let mut numbers: Vec<u64> = both.into_iter().flatten().flatten().copied().collect();
        numbers.sort_unstable();
        numbers.dedup();
        numbers
    }

    /// Whether a lease on a path concerns a reader.
    pub(super) fn are_told(&self, path: &LeasePath) -> bool {
        self.near(path).iter().any(|number| self.readers[number].concern.has(path))
    }

    /// Adds what has happened to what waits for the readers that it concerns.
    pub(super) fn tell(&mut self, view: &View, events: &[LeaseEvent]) {
        if self.readers.is_empty() {
            return;
        }
        for event in events {
            let (LeaseEvent::Acquired(lease)
            | LeaseEvent::Released(lease)
            | LeaseEvent::Expired(lease)
            | LeaseEvent::Revived(lease)) = event
            else {
                continue;
            };
            let mut news = None;
            for number in self.near(&lease.path) {
                let Some(reader) = self.readers.get_mut(&number) else { continue };
                if !reader.concern.has(&lease.path) || !reader.was_told_of(&lease.path) {
                    continue;
                }
                let known = news.get_or_insert_with(|| news_of(view, event));
                match known {
                    Some(news) => reader.add(news.clone()),
                    None => reader.fall_behind(),
                }
            }
        }
    }

    /// What a reader is told now.
    pub(super) fn take(&mut self, number: u64, view: &View) -> Vec<LeaseNews> {
        let Some(reader) = self.readers.get_mut(&number) else { return Vec::new() };
        let mut news = Vec::new();
        if reader.is_behind {
            reader.is_behind = false;
            reader.told = Told::Nothing;
            self.resets += 1;
            news.push(LeaseNews::Reset);
        }
        let part = reader.waiting.len().min(LEASE_EVENTS_A_WRITE);
        news.extend(reader.waiting.drain(..part));
        if reader.waiting.is_empty() {
            // a burst is over
            reader.waiting.shrink_to(LEASE_EVENTS_A_WRITE);
            let after = match &reader.told {
                Told::All => return news,
                Told::Nothing => None,
                Told::Until(key) => Some(&key[..]),
            };
            let Page { leases, next } = view.concerning(&reader.concern, after, LEASE_EVENTS_A_WRITE);
            news.extend(leases.into_iter().map(|(lease, expires_us)| LeaseNews::Held(lease, expires_us)));
            reader.told = match next {
                Some(key) => Told::Until(key),
                None => {
                    news.push(LeaseNews::Synced);
                    Told::All
                }
            };
        }
        if !reader.waiting.is_empty() || reader.told != Told::All {
            reader.wake.notify_one();
        }
        news
    }
}

/// What a reader is told of an event; `None` if it has to begin again.
fn news_of(view: &View, event: &LeaseEvent) -> Option<LeaseNews> {
    match event {
        LeaseEvent::Acquired(lease) => {
            let expires_us = view.get(0, &lease.path, lease.id).map_or(0, |entry| entry.expires_us);
            Some(LeaseNews::Acquired(Arc::clone(lease), expires_us))
        }
        LeaseEvent::Released(lease) => Some(LeaseNews::Released(Arc::clone(lease))),
        LeaseEvent::Expired(lease) => Some(LeaseNews::Expired(Arc::clone(lease))),
        LeaseEvent::Overdue(_) | LeaseEvent::Revived(_) => None,
    }
}

#[cfg(test)]
mod tests;
