//! Intervals and chance for the loops of the cluster.

use std::time::Duration;

use tokio::time::MissedTickBehavior;

/// Ticks that are this far apart at least: one that is late delays those behind it.
pub(super) fn ticks(every: Duration) -> tokio::time::Interval {
    let mut ticks = tokio::time::interval(every);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks
}

/// A random number, to choose the next peer and the place to begin. 0 if the system has no entropy, without which the node would
/// not have started.
pub(super) fn entropy() -> u64 {
    getrandom::u64().unwrap_or(0)
}
