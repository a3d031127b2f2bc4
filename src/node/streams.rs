//! The watches that go on, counted.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use super::limits::{MAX_GROUP_BYTES, MAX_GROUPS_BYTES};

/// Least time after which a reader comes back.
const LEAST_RETRY: Duration = Duration::from_millis(500);

/// Longest time after which a reader comes back.
const LONGEST_RETRY: Duration = Duration::from_secs(30);

/// Readers that come back to a node in a second: a resume takes some 20 µs.
const RETRIES_PER_SECOND: u64 = 5_000;

/// The streams of a node, and their limit.
#[derive(Debug)]
pub struct Streams {
    open: AtomicUsize,
    most: usize,
    kept_bytes: AtomicUsize,
}

/// The place of a stream, given back when it is dropped.
#[derive(Debug)]
pub struct StreamPlace(Arc<Streams>);

impl Streams {
    /// At most so many.
    #[must_use]
    pub fn new(most: usize) -> Arc<Self> {
        Arc::new(Self { open: AtomicUsize::new(0), most, kept_bytes: AtomicUsize::new(0) })
    }

    /// The number of streams.
    #[must_use]
    pub fn open(&self) -> usize {
        self.open.load(Ordering::Relaxed)
    }

    /// The limit.
    #[must_use]
    pub fn most(&self) -> usize {
        self.most
    }

    /// What groups of streams keep for readers that have not taken it, in bytes, about.
    #[must_use]
    pub fn kept_bytes(&self) -> usize {
        self.kept_bytes.load(Ordering::Relaxed)
    }

    /// A group keeps `now` bytes in the place of `before`.
    pub fn keep_instead(&self, before: usize, now: usize) {
        self.kept_bytes.fetch_add(now, Ordering::Relaxed);
        self.kept_bytes.fetch_sub(before, Ordering::Relaxed);
    }

    /// Most bytes that a group may keep that keeps `own` now.
    #[must_use]
    pub fn most_to_keep(&self, own: usize) -> usize {
        match self.kept_bytes().saturating_sub(own) >= MAX_GROUPS_BYTES {
            true => 0,
            false => MAX_GROUP_BYTES,
        }
    }

    /// A place for one more; `None` if there is none.
    #[must_use]
    pub fn enter(self: &Arc<Self>) -> Option<StreamPlace> {
        let add = |open: usize| (open < self.most).then_some(open + 1);
        let entered = self.open.fetch_update(Ordering::Relaxed, Ordering::Relaxed, add);
        entered.is_ok().then(|| StreamPlace(Arc::clone(self)))
    }

    /// After which time a reader of a stream that the node ends should come back: at random, so that all of them
    /// together come evenly.
    #[must_use]
    pub fn retry(&self) -> Duration {
        let spread = Duration::from_millis(self.open() as u64 * 1_000 / RETRIES_PER_SECOND);
        let spread = spread.clamp(LEAST_RETRY, LONGEST_RETRY);
        let random = getrandom::u32().unwrap_or(u32::MAX / 2);
        LEAST_RETRY + spread.mul_f64(f64::from(random) / f64::from(u32::MAX))
    }
}

impl Drop for StreamPlace {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_counted_and_given_back() {
        let streams = Streams::new(2);
        let one = streams.enter().expect("a place");
        let two = streams.enter();
        assert!(two.is_some() && streams.enter().is_none());
        assert_eq!(streams.open(), 2);
        drop(one);
        assert_eq!(streams.open(), 1);
        assert!(streams.enter().is_some());
    }

    #[test]
    fn what_all_groups_keep_bounds_each() {
        let streams = Streams::new(1);
        streams.keep_instead(0, 3 * MAX_GROUP_BYTES);
        streams.keep_instead(3 * MAX_GROUP_BYTES, MAX_GROUP_BYTES);
        assert_eq!((streams.kept_bytes(), streams.most_to_keep(0)), (MAX_GROUP_BYTES, MAX_GROUP_BYTES));
        streams.keep_instead(0, MAX_GROUPS_BYTES);
        assert_eq!(streams.most_to_keep(MAX_GROUP_BYTES), 0);
        assert_eq!(streams.most_to_keep(MAX_GROUPS_BYTES), MAX_GROUP_BYTES, "the others keep little");
    }

    #[test]
    fn the_more_readers_the_later_they_come_back() {
        let streams = Streams::new(usize::MAX);
        let longest = |streams: &Arc<Streams>| (0..100).map(|_| streams.retry()).max().expect("some");
        assert!(longest(&streams) <= 2 * LEAST_RETRY);
        let places: Vec<_> = (0..50_000).filter_map(|_| streams.enter()).collect();
        assert!((0..100).all(|_| streams.retry() >= LEAST_RETRY));
        assert!(longest(&streams) > Duration::from_secs(5), "{:?}", longest(&streams));
        drop(places);
    }
}
