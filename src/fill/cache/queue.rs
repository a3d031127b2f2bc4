//! Which name is asked for next. Time is handed in.
//!
//! A name lies in one of three places: among the urgent ones, that readers wait for; among those that are due some time;
//! and, once that has come, among those that are ready, which wait for their turn within the budget.

use std::cmp::{Ordering, Reverse};
use std::collections::{BinaryHeap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::fill::names::Entry;

/// Names that are looked at for one that has not failed, at most.
const FRESH_LOOKS: usize = 256;

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
    urgent: VecDeque<Arc<Entry>>,
    due: BinaryHeap<Reverse<Due>>,
    /// With the number that each was queued with.
    ready: VecDeque<(Arc<Entry>, u64)>,
}

impl Queue {
    /// Readers wait for a name, as [`super::Polls::now`] has noted.
    pub(super) fn urge(&mut self, entry: Arc<Entry>) {
        self.urgent.push_back(entry);
    }

    /// The names that readers wait for.
    pub(super) fn urgent(&self) -> &VecDeque<Arc<Entry>> {
        &self.urgent
    }

    /// Whether a name waits for its turn.
    pub(super) fn is_anything_ready(&self) -> bool {
        !self.urgent.is_empty() || !self.ready.is_empty()
    }

    /// Whether a name that has not failed waits for its turn, among the first ones.
    pub(super) fn is_any_fresh(&self) -> bool {
        self.urgent.iter().take(FRESH_LOOKS).any(|entry| is_fresh(entry))
            || self.ready.iter().take(FRESH_LOOKS).any(|(entry, _)| is_fresh(entry))
    }

    /// Whether the one that [`Self::take`] would give has not failed.
    pub(super) fn is_next_fresh(&mut self) -> bool {
        self.drop_stale();
        let next = self.urgent.front().or_else(|| self.ready.front().map(|(entry, _)| entry));
        next.is_some_and(|entry| is_fresh(entry))
    }

    /// Takes the first one that has not failed, as [`Self::take`].
    pub(super) fn take_fresh(&mut self) -> Option<Arc<Entry>> {
        if let Some(at) = self.urgent.iter().take(FRESH_LOOKS).position(|entry| is_fresh(entry)) {
            let entry = self.urgent.remove(at)?;
            self.urgent.push_front(entry);
        } else {
            let at = self.ready.iter().take(FRESH_LOOKS).position(|(entry, _)| is_fresh(entry))?;
            let (entry, queued) = self.ready.remove(at)?;
            if is_current(&entry, queued) {
                entry.polled().is_urgent = true;
                self.urgent.push_front(entry);
            }
        }
        self.take()
    }

    /// When the next name is due.
    pub(super) fn next_due(&self) -> Option<Instant> {
        self.due.peek().map(|Reverse(due)| due.at)
    }

    /// A name whose time has come; it is to be made ready or put back.
    pub(super) fn come_due(&mut self, now: Instant) -> Option<Arc<Entry>> {
        while self.next_due().is_some_and(|at| at <= now) {
            let Reverse(Due { queued, entry, .. }) = self.due.pop()?;
            if is_current(&entry, queued) {
                return Some(entry);
            }
        }
        None
    }

    /// A name is to be asked for as soon as the budget allows it.
    pub(super) fn make_ready(&mut self, entry: Arc<Entry>) {
        let queued = entry.polled().queued;
        self.ready.push_back((entry, queued));
    }

    /// The next one whose turn it is. From now on it is in flight, until it is put back.
    pub(super) fn take(&mut self) -> Option<Arc<Entry>> {
        self.drop_stale();
        let entry = self.urgent.pop_front().or_else(|| self.ready.pop_front().map(|(entry, _)| entry))?;
        let mut polled = entry.polled();
        polled.in_flight = true;
        polled.is_urgent = false;
        drop(polled);
        Some(entry)
    }

    /// Drops what lies before the next one and is not to be asked for any more.
    fn drop_stale(&mut self) {
        while self.urgent.front().is_some_and(|entry| entry.polled().in_flight) {
            self.urgent.pop_front();
        }
        while self.urgent.is_empty()
            && self.ready.front().is_some_and(|(entry, queued)| !is_current(entry, *queued))
        {
            self.ready.pop_front();
        }
    }

    /// A name that was taken cannot be asked for now: it is the next one that is taken.
    pub(super) fn give_back(&mut self, entry: Arc<Entry>) {
        let mut polled = entry.polled();
        polled.in_flight = false;
        polled.is_urgent = true;
        polled.again = false;
        drop(polled);
        self.urgent.push_front(entry);
    }

    /// A request is over; the name is due again after a pause, if anybody has a use for it.
    pub(super) fn answered(&mut self, entry: Arc<Entry>, pause: Option<Duration>, now: Instant) {
        if let Some(pause) = pause {
            self.put_back(entry, now + pause);
        }
    }

    /// The name is due again then; at once if it was asked for while it was in flight.
    pub(super) fn put_back(&mut self, entry: Arc<Entry>, at: Instant) {
        let mut polled = entry.polled();
        polled.in_flight = false;
        polled.queued += 1;
        polled.is_urgent = std::mem::take(&mut polled.again);
        let (queued, is_urgent) = (polled.queued, polled.is_urgent);
        drop(polled);
        if is_urgent {
            self.urgent.push_back(entry);
        } else {
            self.due.push(Reverse(Due { at, queued, entry }));
        }
    }
}

/// Whether the last request for a name did not fail.
fn is_fresh(entry: &Entry) -> bool {
    entry.polled().failures == 0
}

/// Whether a name that was queued with this number is still to be asked for.
fn is_current(entry: &Entry, queued: u64) -> bool {
    let polled = entry.polled();
    !polled.in_flight && polled.queued == queued
}

#[cfg(test)]
mod tests {
    use super::super::Polls;
    use super::*;
    use crate::core::Name;
    use crate::fill::names::{Names, Place};

    const SECOND: Duration = Duration::from_secs(1);

    fn entry(text: &str) -> Arc<Entry> {
        let names = Names::new(1, Duration::ZERO);
        let name = Name::new(text.as_bytes(), 512).unwrap();
        match names.ask(&name, false, || Ok::<_, ()>("/x".to_owned()), || ()).unwrap() {
            Place::New(entry) => entry,
            other => panic!("{other:?}"),
        }
    }

    /// What is taken, in order, once all that is due by then was made ready.
    fn taken(queue: &mut Queue, now: Instant) -> Vec<String> {
        while let Some(entry) = queue.come_due(now) {
            queue.make_ready(entry);
        }
        std::iter::from_fn(|| queue.take()).map(|entry| entry.name.as_str().to_owned()).collect()
    }

    #[test]
    fn those_whom_readers_wait_for_go_first_and_the_others_in_the_order_of_their_times() {
        let now = Instant::now();
        let mut queue = Queue::default();
        for (name, after) in [("late", 3), ("early", 1), ("middle", 2), ("not yet", 9)] {
            queue.put_back(entry(name), now + SECOND * after);
        }
        assert_eq!(queue.next_due(), Some(now + SECOND));
        assert!(queue.come_due(now).is_none() && !queue.is_anything_ready());
        queue.urge(entry("urgent"));
        assert_eq!(taken(&mut queue, now + SECOND * 3), ["urgent", "early", "middle", "late"]);
        assert_eq!(queue.next_due(), Some(now + SECOND * 9));
    }

    #[test]
    fn a_name_is_asked_for_once_wherever_it_lay() {
        let (now, polls) = (Instant::now(), Polls::new(1));
        let mut queue = Queue::default();
        let (due, ready) = (entry("due"), entry("ready"));
        queue.put_back(Arc::clone(&due), now + SECOND);
        queue.put_back(Arc::clone(&ready), now);
        let come = queue.come_due(now).unwrap();
        queue.make_ready(come);
        for entry in [&due, &ready] {
            polls.now(Arc::clone(entry));
            assert!(entry.polled().is_urgent);
            queue.urge(Arc::clone(entry));
        }
        assert_eq!(taken(&mut queue, now + SECOND * 2), ["due", "ready"]);
    }

    #[test]
    fn who_is_asked_for_while_in_flight_is_asked_for_again_at_once() {
        let (now, polls) = (Instant::now(), Polls::new(1));
        let mut queue = Queue::default();
        queue.urge(entry("n"));
        let flying = queue.take().unwrap();
        polls.now(Arc::clone(&flying));
        assert!(queue.take().is_none());
        queue.answered(flying, Some(SECOND * 60), now);
        let flying = queue.take().expect("at once");
        queue.answered(flying, None, now);
        assert!(queue.take().is_none() && queue.next_due().is_none(), "nobody has a use for it");
    }

    #[test]
    fn what_is_given_back_is_taken_next() {
        let now = Instant::now();
        let mut queue = Queue::default();
        queue.urge(entry("first"));
        queue.urge(entry("second"));
        let first = queue.take().unwrap();
        queue.give_back(first);
        assert_eq!(taken(&mut queue, now), ["first", "second"]);
    }

    #[test]
    fn the_next_one_is_told_apart_from_what_lies_before_it_and_is_not_asked_for_any_more() {
        let failed = entry("failed");
        failed.polled().failures = 1;
        let fresh = entry("fresh");
        let mut queue = Queue::default();
        assert!(!queue.is_next_fresh());
        queue.urge(Arc::clone(&fresh));
        assert!(queue.is_next_fresh());
        queue.make_ready(failed);
        fresh.polled().in_flight = true;
        assert!(!queue.is_next_fresh());
        assert_eq!(queue.take().unwrap().name.as_str(), "failed");
    }

    #[test]
    fn names_that_have_not_failed_are_found_behind_those_that_have() {
        let now = Instant::now();
        let failed = |text: &str| {
            let entry = entry(text);
            entry.polled().failures = 1;
            entry
        };
        let mut queue = Queue::default();
        queue.urge(failed("bad"));
        queue.make_ready(failed("worse"));
        assert!(!queue.is_any_fresh() && queue.take_fresh().is_none());
        queue.make_ready(entry("second"));
        queue.urge(entry("first"));
        assert!(!queue.is_next_fresh(), "the next one is bad");
        for name in ["first", "second"] {
            assert!(queue.is_any_fresh());
            assert_eq!(queue.take_fresh().unwrap().name.as_str(), name);
        }
        assert!(!queue.is_any_fresh());
        assert_eq!(taken(&mut queue, now), ["bad", "worse"], "they keep their places");
    }
}
