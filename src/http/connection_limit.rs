//! Places of a port: how many connections it holds at most, and how many it holds now.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use prometheus_client::metrics::gauge::Gauge;

/// The places of one port.
#[derive(Debug)]
pub(crate) struct Places {
    most: usize,
    taken: AtomicUsize,
    gauge: Gauge,
}

/// The place of one connection, given back when this is dropped.
#[derive(Debug)]
pub(crate) struct Place(Arc<Places>);

impl Places {
    /// So many places, none of them taken; `gauge` shows how many are.
    pub(crate) fn new(most: usize, gauge: Gauge) -> Arc<Self> {
        Arc::new(Self { most, taken: AtomicUsize::new(0), gauge })
    }

    /// Takes a place, if there is one.
    pub(crate) fn take(self: &Arc<Self>) -> Option<Place> {
        self.take_but(0)
    }

    /// Takes a place, if there is one beside the last `kept`.
    pub(crate) fn take_but(self: &Arc<Self>, kept: usize) -> Option<Place> {
        let more = |taken| (taken < self.most.saturating_sub(kept)).then_some(taken + 1);
        self.taken.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).ok()?;
        self.gauge.inc();
        Some(Place(Arc::clone(self)))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.taken.fetch_sub(1, Ordering::Relaxed);
        self.0.gauge.dec();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_many_as_there_are_and_each_comes_back() {
        let gauge = Gauge::default();
        let places = Places::new(2, gauge.clone());
        assert!(places.take_but(2).is_none() && places.take_but(3).is_none());
        let first = places.take_but(1);
        assert!(places.take_but(1).is_none());
        let second = places.take();
        assert!(first.is_some() && second.is_some() && places.take().is_none());
        assert_eq!(gauge.get(), 2);
        drop(first);
        assert!(places.take().is_some());
    }
}
