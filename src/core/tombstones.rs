//! Where deletes are forgotten: tombstones by age, and the horizon below which they are gone on purpose.

use std::collections::BTreeSet;

use super::limits::HORIZON_STEP_US;
use super::stamp::Stamp;

/// The places of all tombstones of a set, oldest first, and the set's horizon.
#[derive(Debug, Default)]
pub(super) struct Tombstones {
    horizon: Stamp,
    by_age: BTreeSet<(Stamp, u64)>,
}

impl Tombstones {
    pub(super) fn horizon(&self) -> Stamp {
        self.horizon
    }

    pub(super) fn len(&self) -> usize {
        self.by_age.len()
    }

    pub(super) fn add(&mut self, last_sync: Stamp, position: u64) {
        self.by_age.insert((last_sync, position));
    }

    pub(super) fn remove(&mut self, last_sync: Stamp, position: u64) {
        self.by_age.remove(&(last_sync, position));
    }

    /// Forgets all places, and keeps the horizon.
    pub(super) fn clear(&mut self) {
        self.by_age.clear();
    }

    /// Moves the horizon, never back.
    pub(super) fn raise(&mut self, horizon: Stamp) {
        self.horizon = self.horizon.max(horizon);
    }

    /// Moves the horizon back.
    pub(super) fn lower(&mut self, horizon: Stamp) {
        self.horizon = self.horizon.min(horizon);
    }

    /// The oldest tombstone that lies below the horizon.
    pub(super) fn first_below_horizon(&self) -> Option<(Stamp, u64)> {
        self.by_age.first().copied().filter(|(last_sync, _)| *last_sync < self.horizon)
    }
}

/// Where the horizon of a node may stand at `now`: a full grace in the past, in steps of a minute.
///
/// `None` until the node itself has been up for a full grace: before that it may not have heard of a delete that
/// another node still has to pass on.
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
    fn it_never_moves_back() {
        let mut tombstones = Tombstones::default();
        tombstones.raise(at(10));
        tombstones.raise(at(5));
        assert_eq!(tombstones.horizon(), at(10));
    }
}
