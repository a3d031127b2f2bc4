//! Which name is asked for next.

use std::cmp::{Ordering, Reverse};
use std::collections::{BinaryHeap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::fill::names::Entry;

/// A name and when it is due.
#[derive(Debug)]
struct Due {
    at: Instant,
    queued: u64,
    entry: Arc<Entry>,
}

impl PartialEq for Due {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Due {}

impl PartialOrd for Due {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Due {
    fn cmp(&self, other: &Self) -> Ordering {
        self.at.cmp(&other.at)
    }
}

#[derive(Debug, Default)]
pub(super) struct Queue {
    /// Names that readers wait for.
    pub(super) urgent: VecDeque<Arc<Entry>>,
    due: BinaryHeap<Reverse<Due>>,
}

impl Queue {
    pub(super) fn next(&self, now: Instant) -> Option<Instant> {
        if self.urgent.is_empty() { self.due.peek().map(|Reverse(due)| due.at) } else { Some(now) }
    }

    /// The next one, if it is still to be asked for.
    pub(super) fn take(&mut self) -> Option<Arc<Entry>> {
        let (entry, queued) = match self.urgent.pop_front() {
            Some(entry) => {
                let queued = entry.polled().queued;
                (entry, queued)
            }
            None => self.due.pop().map(|Reverse(due)| (due.entry, due.queued))?,
        };
        let mut polled = entry.polled();
        if polled.in_flight || polled.queued != queued {
            return None;
        }
        polled.in_flight = true;
        polled.is_urgent = false;
        drop(polled);
        Some(entry)
    }

    /// A request is over; the name is due again after a pause, if anybody has a use for it.
    pub(super) fn answered(&mut self, entry: Arc<Entry>, pause: Option<Duration>) {
        if let Some(pause) = pause {
            self.put_back(entry, pause);
        }
    }

    /// The name is due again after a pause.
    pub(super) fn put_back(&mut self, entry: Arc<Entry>, pause: Duration) {
        let mut polled = entry.polled();
        polled.in_flight = false;
        polled.queued += 1;
        let queued = polled.queued;
        let again = std::mem::take(&mut polled.again);
        drop(polled);
        if again {
            entry.polled().is_urgent = true;
            self.urgent.push_back(entry);
        } else {
            self.due.push(Reverse(Due { at: Instant::now() + pause, queued, entry }));
        }
    }
}
