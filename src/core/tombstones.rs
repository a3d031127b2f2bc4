//! Tombstones by age, and values with an end by that, and the GC horizon below which they are dropped on purpose.

use std::collections::BTreeSet;

use super::limits::HORIZON_STEP_US;
use super::stamp::Stamp;

/// The stamps and positions of all tombstones of a set, and the ends and positions of values with an end, oldest first,
/// and the horizon of the set. Records of one name may share an entry.
#[derive(Debug, Default)]
pub(super) struct Tombstones {
    horizon: Stamp,
    by_age: BTreeSet<(Stamp, u64)>,
}

impl Tombstones {
    pub(super) fn horizon(&self) -> Stamp {
        self.horizon
    }

    pub(super) fn add(&mut self, last_sync: Stamp, position: u64) {
        self.by_age.insert((last_sync, position));
    }

    pub(super) fn remove(&mut self, last_sync: Stamp, position: u64) {
        self.by_age.remove(&(last_sync, position));
    }

    /// Removes all tombstones, and keeps the horizon.
    pub(super) fn clear(&mut self) {
        self.by_age.clear();
    }

    /// Raises the horizon, never lowers it.
    pub(super) fn raise(&mut self, horizon: Stamp) {
        self.horizon = self.horizon.max(horizon);
    }

    /// Lowers the horizon.
    pub(super) fn lower(&mut self, horizon: Stamp) {
        self.horizon = self.horizon.min(horizon);
    }

    /// The oldest entry, if it is below the horizon.
    pub(super) fn first_below_horizon(&self) -> Option<(Stamp, u64)> {
        self.by_age.first().copied().filter(|(last_sync, _)| *last_sync < self.horizon)
    }
}

/// The horizon that a node may have at `now`: a full grace in the past, in steps of [`HORIZON_STEP_US`].
///
/// `None` until the node has been up for a full grace: before that it may lack a delete that another node has yet to
/// send it.
#[must_use]
pub fn horizon_at(now: Stamp, node_started: Stamp, grace_us: u64) -> Option<Stamp> {
    horizon_in_steps(now, node_started, grace_us, HORIZON_STEP_US)
}

/// As [`horizon_at`], in steps of `step_us`.
#[must_use]
pub fn horizon_in_steps(now: Stamp, node_started: Stamp, grace_us: u64, step_us: u64) -> Option<Stamp> {
    let uptime_us = now.micros().saturating_sub(node_started.micros());
    if uptime_us < grace_us {
        return None;
    }
    let micros = now.micros().saturating_sub(grace_us) / step_us.max(1) * step_us.max(1);
    Stamp::from_micros(micros).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::testing::at;

    #[test]
    fn the_horizon_waits_for_a_full_grace_of_uptime() {
        let (start, grace) = (at(1_000_000_000), 120_000_000);
        assert_eq!(horizon_at(at(1_119_999_999), start, grace), None);
        assert_eq!(horizon_at(at(1_120_000_000), start, grace), Some(at(960_000_000)));
    }

    #[test]
    fn the_horizon_moves_in_steps() {
        let one = horizon_at(at(10 * HORIZON_STEP_US + 1), Stamp::ZERO, HORIZON_STEP_US);
        let two = horizon_at(at(11 * HORIZON_STEP_US - 1), Stamp::ZERO, HORIZON_STEP_US);
        assert_eq!(one, two);
        assert_eq!(one, Some(at(9 * HORIZON_STEP_US)));
    }

    #[test]
    fn raise_never_lowers_the_horizon() {
        let mut tombstones = Tombstones::default();
        tombstones.raise(at(10));
        tombstones.raise(at(5));
        assert_eq!(tombstones.horizon(), at(10));
    }
}
