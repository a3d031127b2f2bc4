//! When each version was due, and when those who wait for it heard of it.

use std::time::{Duration, Instant};

use super::figures::Times;

/// When versions are written: the first one a while after the beginning, and each a while after the one before.
#[derive(Clone, Copy, Debug)]
pub(super) struct Schedule {
    pub(super) begins: Instant,
    pub(super) every: Duration,
    /// How many of the first ones are not counted.
    pub(super) warm_up: u32,
    /// All of them, with those of the warm-up.
    pub(super) writes: u32,
}

impl Schedule {
    /// When a version is to be written.
    pub(super) fn due(&self, version: u32) -> Instant {
        self.begins + self.every * version
    }
}

/// Who heard of what, by version: so that it is counted for each version, and not for each look at the sockets.
pub(super) struct Wakes {
    schedule: Schedule,
    watchers: usize,
    versions: Vec<Heard>,
    /// From when a write was due to when a watcher knew of it or of a newer one: a sample of each watcher for each.
    pub(super) times: Times,
    /// Answers with something newer than was known.
    pub(super) woken: u64,
    /// Versions that a watcher did not see, since a newer one was there already.
    pub(super) superseded: u64,
}

#[derive(Clone, Default)]
struct Heard {
    watchers: usize,
    latest: Option<Instant>,
}

impl Wakes {
    /// Nobody has heard of anything.
    pub(super) fn new(schedule: Schedule, watchers: usize) -> Self {
        Self {
            schedule,
            watchers,
            versions: vec![Heard::default(); schedule.writes as usize],
            times: Times::default(),
            woken: 0,
            superseded: 0,
        }
    }

    /// A watcher that knew one version is told of a newer one.
    pub(super) fn hear(&mut self, knew: u32, version: u32, now: Instant) {
        let Self { schedule, versions, .. } = self;
        let version = version.min(schedule.writes);
        for missed in knew + 1..=version {
            let heard = &mut versions[missed as usize - 1];
            heard.watchers += 1;
            heard.latest = heard.latest.max(Some(now));
            if missed > schedule.warm_up {
                self.times.record(now.saturating_duration_since(schedule.due(missed)));
                self.superseded += u64::from(missed < version);
            }
        }
        self.woken += u64::from(version > schedule.warm_up);
    }

    /// When the last watcher knew of a version, from when that was due. `None` while not all do.
    pub(super) fn last(&self, version: u32) -> Option<Duration> {
        let heard = self.versions.get((version as usize).checked_sub(1)?)?;
        let latest = heard.latest.filter(|_| heard.watchers == self.watchers)?;
        Some(latest.saturating_duration_since(self.schedule.due(version)))
    }

    /// The same of all versions that are counted.
    pub(super) fn lasts(&self) -> Vec<Option<Duration>> {
        (self.schedule.warm_up + 1..=self.schedule.writes).map(|version| self.last(version)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EVERY: Duration = Duration::from_millis(10);

    fn wakes(watchers: usize, warm_up: u32, writes: u32) -> Wakes {
        Wakes::new(Schedule { begins: Instant::now(), every: EVERY, warm_up, writes }, watchers)
    }

    #[test]
    fn whoever_skips_versions_is_counted_for_each_of_them() {
        let mut wakes = wakes(1, 1, 101);
        let stalled = wakes.schedule.due(101);
        wakes.hear(0, 1, wakes.schedule.due(1));
        wakes.hear(1, 101, stalled);
        assert_eq!((wakes.times.count(), wakes.woken, wakes.superseded), (100, 1, 99));
        assert!((490.0..510.0).contains(&wakes.times.percentile_ms(50.0)));
        assert!(wakes.times.longest_ms() >= 990.0);
        let lasts: Vec<_> = (0..100).rev().map(|behind| Some(EVERY * behind)).collect();
        assert_eq!(wakes.lasts(), lasts);
    }

    #[test]
    fn the_warm_up_is_in_no_figure() {
        let mut wakes = wakes(2, 3, 5);
        wakes.hear(0, 2, wakes.schedule.due(2));
        wakes.hear(2, 3, wakes.schedule.due(3));
        assert_eq!((wakes.times.count(), wakes.woken, wakes.superseded), (0, 0, 0));
        wakes.hear(3, 5, wakes.schedule.due(5));
        wakes.hear(0, 5, wakes.schedule.due(5));
        assert_eq!((wakes.times.count(), wakes.woken, wakes.superseded), (4, 2, 2));
        assert_eq!(wakes.lasts(), [Some(EVERY), Some(Duration::ZERO)]);
    }

    #[test]
    fn a_version_that_somebody_did_not_hear_of_has_no_last() {
        let mut wakes = wakes(2, 0, 2);
        wakes.hear(0, 2, wakes.schedule.due(2));
        wakes.hear(0, 1, wakes.schedule.due(4));
        assert_eq!(wakes.lasts(), [Some(3 * EVERY), None]);
        // what the schedule does not have is not of this run
        wakes.hear(1, u32::MAX, wakes.schedule.due(3));
        assert_eq!(wakes.lasts(), [Some(3 * EVERY), Some(EVERY)]);
        assert_eq!((wakes.last(0), wakes.last(3)), (None, None));
    }
}
