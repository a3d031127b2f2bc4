//! Intervals and random numbers for the loops of the cluster.

use std::time::Duration;

use tokio::time::MissedTickBehavior;

/// Ticks with at least this interval: a late tick delays those after it.
pub(super) fn ticks(every: Duration) -> tokio::time::Interval {
    let mut ticks = tokio::time::interval(every);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks
}

/// A random number, to choose the next peer and the place to begin. 0 if the system has no entropy; but a node does not
/// start without it.
pub(super) fn entropy() -> u64 {
    getrandom::u64().unwrap_or(0)
}
