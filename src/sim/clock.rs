//! The simulated clock of a node: wrong, too fast or too slow, and sometimes set.

use crate::core::stamp::Now;
use crate::core::stamp::Stamp;

/// The start of the world's time, µs since 1970.
const EPOCH_US: u64 = 1_800_000_000_000_000;

/// The time of a correct clock.
pub(super) fn true_time(world_us: u64) -> Stamp {
    Stamp::from_micros(EPOCH_US + world_us).unwrap_or(Stamp::MAX)
}

/// A clock with an offset and a drift.
#[derive(Clone, Copy, Debug)]
pub(super) struct Clock {
    pub(super) offset_us: i64,
    pub(super) drift_ppm: i64,
}

impl Clock {
    /// The time that this clock shows.
    pub(super) fn now(&self, world_us: u64) -> Now {
        // the monotonic clock drifts as the wall clock does, but is never set
        let mono_us = world_us + 1_000_000_000;
        let mono_us = mono_us.saturating_add_signed(mono_us as i64 / 1_000_000 * self.drift_ppm);
        let drift_us = world_us as i64 / 1_000_000 * self.drift_ppm;
        let wall = (EPOCH_US + world_us).saturating_add_signed(self.offset_us + drift_us);
        Now { wall: Stamp::from_micros(wall).unwrap_or(Stamp::MAX), mono_us }
    }
}
