//! Which name is polled next. Time is handed in.
//!
//! A name is in one of three places: among the urgent names, because readers wait for it; among the due names, with the
//! time of its next poll; or, once that has come, among the ready names, which wait for the rate.

use std::cmp::{Ordering, Reverse};
use std::collections::{BinaryHeap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::fill::entries::Entry;

/// Most places that are searched for a name that has not failed.
const MAX_SEARCHED: usize = 256;

/// A name and the time of its next poll.
#[derive(Debug)]
struct DueEntry {
    at: Instant,
    queued: u64,
    entry: Arc<Entry>,
}

impl PartialEq for DueEntry {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for DueEntry {}

impl PartialOrd for DueEntry {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for DueEntry {
    fn cmp(&self, other: &Self) -> Ordering {
        self.at.cmp(&other.at)
    }
}

/// The names that wait for a poll.
#[derive(Debug, Default)]
pub(super) struct PollQueue {
    urgent: VecDeque<Arc<Entry>>,
    due: BinaryHeap<Reverse<DueEntry>>,
    /// Each name with its `queued` number.
    ready: VecDeque<(Arc<Entry>, u64)>,
}

impl PollQueue {
    /// Adds a name that readers wait for, after [`super::poll_list::PollList::request_now`] has marked it.
    pub(super) fn push_urgent(&mut self, entry: Arc<Entry>) {
        self.urgent.push_back(entry);
    }

    /// The names that readers wait for.
    pub(super) fn urgent(&self) -> &VecDeque<Arc<Entry>> {
        &self.urgent
    }

    /// Whether a name is urgent or ready.
    pub(super) fn has_ready(&self) -> bool {
        !self.urgent.is_empty() || !self.ready.is_empty()
    }

    /// Whether a name that has not failed is among the first urgent or ready ones.
    pub(super) fn has_fresh(&self) -> bool {
        self.urgent.iter().take(MAX_SEARCHED).any(|entry| is_fresh(entry))
            || self.ready.iter().take(MAX_SEARCHED).any(|(entry, _)| is_fresh(entry))
    }

    /// Whether the name that [`Self::take`] would return has not failed.
    pub(super) fn is_next_fresh(&mut self) -> bool {
        self.drop_outdated();
        let next = self.urgent.front().or_else(|| self.ready.front().map(|(entry, _)| entry));
        next.is_some_and(|entry| is_fresh(entry))
    }

    /// Takes the first name that has not failed, like [`Self::take`].
    pub(super) fn take_fresh(&mut self) -> Option<Arc<Entry>> {
        if let Some(at) = self.urgent.iter().take(MAX_SEARCHED).position(|entry| is_fresh(entry)) {
            let entry = self.urgent.remove(at)?;
            self.urgent.push_front(entry);
        } else {
            let at = self.ready.iter().take(MAX_SEARCHED).position(|(entry, _)| is_fresh(entry))?;
            let (entry, queued) = self.ready.remove(at)?;
            if is_current(&entry, queued) {
                entry.poll_state().is_urgent = true;
                self.urgent.push_front(entry);
            }
        }
        self.take()
    }

    /// When the next name is due.
    pub(super) fn next_due(&self) -> Option<Instant> {
        self.due.peek().map(|Reverse(due)| due.at)
    }

    /// Takes a name that is due. The caller makes it ready or puts it back.
    pub(super) fn pop_due(&mut self, now: Instant) -> Option<Arc<Entry>> {
        while self.next_due().is_some_and(|at| at <= now) {
            let Reverse(DueEntry { queued, entry, .. }) = self.due.pop()?;
            if is_current(&entry, queued) {
                return Some(entry);
            }
        }
        None
    }

    /// Makes a name ready: it is polled as soon as the rate allows it.
    pub(super) fn make_ready(&mut self, entry: Arc<Entry>) {
        let queued = entry.poll_state().queued;
        self.ready.push_back((entry, queued));
    }

    /// Takes the next name, and marks it as in flight until it is put back.
    pub(super) fn take(&mut self) -> Option<Arc<Entry>> {
        self.drop_outdated();
        let entry = self.urgent.pop_front().or_else(|| self.ready.pop_front().map(|(entry, _)| entry))?;
        let mut state = entry.poll_state();
        state.in_flight = true;
        state.is_urgent = false;
        drop(state);
        Some(entry)
    }

    /// Drops outdated places before the next name.
    fn drop_outdated(&mut self) {
        while self.urgent.front().is_some_and(|entry| entry.poll_state().in_flight) {
            self.urgent.pop_front();
        }
        while self.urgent.is_empty()
            && self.ready.front().is_some_and(|(entry, queued)| !is_current(entry, *queued))
        {
            self.ready.pop_front();
        }
    }

    /// Returns a name that was taken and cannot be polled now. It is taken next.
    pub(super) fn give_back(&mut self, entry: Arc<Entry>) {
        let mut state = entry.poll_state();
        state.in_flight = false;
        state.is_urgent = true;
        state.again = false;
        drop(state);
        self.urgent.push_front(entry);
    }

    /// Ends a poll. The name is due again after `pause`; without one its entry is removed.
    pub(super) fn finish(&mut self, entry: Arc<Entry>, pause: Option<Duration>, now: Instant) {
        if let Some(pause) = pause {
            self.put_back(entry, now + pause);
        }
    }

    /// Makes a name due at `at`, or urgent if it was requested while it was in flight.
    pub(super) fn put_back(&mut self, entry: Arc<Entry>, at: Instant) {
        let mut state = entry.poll_state();
        state.in_flight = false;
        state.queued += 1;
        state.is_urgent = std::mem::take(&mut state.again);
        let (queued, is_urgent) = (state.queued, state.is_urgent);
        drop(state);
        if is_urgent {
            self.urgent.push_back(entry);
        } else {
            self.due.push(Reverse(DueEntry { at, queued, entry }));
        }
    }
}

/// Whether the last poll of a name did not fail.
fn is_fresh(entry: &Entry) -> bool {
    entry.poll_state().failures == 0
}

/// Whether a place with this `queued` number is not outdated.
fn is_current(entry: &Entry, queued: u64) -> bool {
    let state = entry.poll_state();
    !state.in_flight && state.queued == queued
}

#[cfg(test)]
mod tests {
    use super::super::poll_list::PollList;
    use super::*;
    use crate::core::Name;
    use crate::fill::entries::{Entries, Lookup};

    const SECOND: Duration = Duration::from_secs(1);

    fn entry(text: &str) -> Arc<Entry> {
        let entries = Entries::new(1, Duration::ZERO);
        let name = Name::new(text.as_bytes(), 512).unwrap();
        match entries.find_or_add(&name, false, || Ok::<_, ()>("/x".to_owned()), || ()).unwrap() {
            Lookup::New(entry) => entry,
            other => panic!("{other:?}"),
        }
    }

    /// The names that are taken, in order, after all names that are due by then were made ready.
    fn taken(queue: &mut PollQueue, now: Instant) -> Vec<String> {
        while let Some(entry) = queue.pop_due(now) {
            queue.make_ready(entry);
        }
        std::iter::from_fn(|| queue.take()).map(|entry| entry.name.as_str().to_owned()).collect()
    }

    #[test]
    fn urgent_names_go_first_and_the_others_in_the_order_of_their_times() {
        let now = Instant::now();
        let mut queue = PollQueue::default();
        for (name, after) in [("late", 3), ("early", 1), ("middle", 2), ("not yet", 9)] {
            queue.put_back(entry(name), now + SECOND * after);
        }
        assert_eq!(queue.next_due(), Some(now + SECOND));
        assert!(queue.pop_due(now).is_none() && !queue.has_ready());
        queue.push_urgent(entry("urgent"));
        assert_eq!(taken(&mut queue, now + SECOND * 3), ["urgent", "early", "middle", "late"]);
        assert_eq!(queue.next_due(), Some(now + SECOND * 9));
    }

    #[test]
    fn a_name_is_polled_once_wherever_it_was() {
        let (now, list) = (Instant::now(), PollList::new(1));
        let mut queue = PollQueue::default();
        let (due, ready) = (entry("due"), entry("ready"));
        queue.put_back(Arc::clone(&due), now + SECOND);
        queue.put_back(Arc::clone(&ready), now);
        let ripe = queue.pop_due(now).unwrap();
        queue.make_ready(ripe);
        for entry in [&due, &ready] {
            list.request_now(Arc::clone(entry));
            assert!(entry.poll_state().is_urgent);
            queue.push_urgent(Arc::clone(entry));
        }
        assert_eq!(taken(&mut queue, now + SECOND * 2), ["due", "ready"]);
    }

    #[test]
    fn a_name_that_is_requested_while_in_flight_is_polled_again_at_once() {
        let (now, list) = (Instant::now(), PollList::new(1));
        let mut queue = PollQueue::default();
        queue.push_urgent(entry("n"));
        let flying = queue.take().unwrap();
        list.request_now(Arc::clone(&flying));
        assert!(queue.take().is_none());
        queue.finish(flying, Some(SECOND * 60), now);
        let flying = queue.take().expect("at once");
        queue.finish(flying, None, now);
        assert!(queue.take().is_none() && queue.next_due().is_none(), "the entry is removed");
    }

    #[test]
    fn a_name_that_is_given_back_is_taken_next() {
        let now = Instant::now();
        let mut queue = PollQueue::default();
        queue.push_urgent(entry("first"));
        queue.push_urgent(entry("second"));
        let first = queue.take().unwrap();
        queue.give_back(first);
        assert_eq!(taken(&mut queue, now), ["first", "second"]);
    }

    #[test]
    fn the_next_name_is_found_behind_outdated_places() {
        let failed = entry("failed");
        failed.poll_state().failures = 1;
        let fresh = entry("fresh");
        let mut queue = PollQueue::default();
        assert!(!queue.is_next_fresh());
        queue.push_urgent(Arc::clone(&fresh));
        assert!(queue.is_next_fresh());
        queue.make_ready(failed);
        fresh.poll_state().in_flight = true;
        assert!(!queue.is_next_fresh());
        assert_eq!(queue.take().unwrap().name.as_str(), "failed");
    }

    #[test]
    fn names_that_have_not_failed_are_found_behind_those_that_have() {
        let now = Instant::now();
        let failed = |text: &str| {
            let entry = entry(text);
            entry.poll_state().failures = 1;
            entry
        };
        let mut queue = PollQueue::default();
        queue.push_urgent(failed("bad"));
        queue.make_ready(failed("worse"));
        assert!(!queue.has_fresh() && queue.take_fresh().is_none());
        queue.make_ready(entry("second"));
        queue.push_urgent(entry("first"));
        assert!(!queue.is_next_fresh(), "the next one has failed");
        for name in ["first", "second"] {
            assert!(queue.has_fresh());
            assert_eq!(queue.take_fresh().unwrap().name.as_str(), name);
        }
        assert!(!queue.has_fresh());
        assert_eq!(taken(&mut queue, now), ["bad", "worse"], "they keep their places");
    }
}
