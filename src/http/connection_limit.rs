//! The connection limit of a port: permits for its connections.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use prometheus_client::metrics::gauge::Gauge;

/// The places of one port.
#[derive(Debug)]
pub(crate) struct ConnectionLimit {
    most: usize,
    taken: AtomicUsize,
    gauge: Gauge,
}

/// The place of one connection, given back when this is dropped.
#[derive(Debug)]
pub(crate) struct Permit(Arc<ConnectionLimit>);

impl ConnectionLimit {
    /// So many free places. `gauge` has the number of taken ones.
    pub(crate) fn new(most: usize, gauge: Gauge) -> Arc<Self> {
        Arc::new(Self { most, taken: AtomicUsize::new(0), gauge })
    }

    /// Takes a place, if one is free.
    pub(crate) fn take(self: &Arc<Self>) -> Option<Permit> {
        self.take_but(0)
    }

    /// Takes a place, if more than `kept` are free.
    pub(crate) fn take_but(self: &Arc<Self>, kept: usize) -> Option<Permit> {
        let more = |taken| (taken < self.most.saturating_sub(kept)).then_some(taken + 1);
        self.taken.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).ok()?;
        self.gauge.inc();
        Some(Permit(Arc::clone(self)))
    }
}

impl Drop for Permit {
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
        let limit = ConnectionLimit::new(2, gauge.clone());
        assert!(limit.take_but(2).is_none() && limit.take_but(3).is_none());
        let first = limit.take_but(1);
        assert!(limit.take_but(1).is_none());
        let second = limit.take();
        assert!(first.is_some() && second.is_some() && limit.take().is_none());
        assert_eq!(gauge.get(), 2);
        drop(first);
        assert!(limit.take().is_some());
    }
}
