//! When each version was due, and when its watchers got it.

use std::time::{Duration, Instant};

use super::figures::Times;

/// The times of the writes: the first one after an interval from the start, and each after an interval from the one
/// before.
#[derive(Clone, Copy, Debug)]
pub(super) struct Schedule {
    pub(super) begins: Instant,
    pub(super) every: Duration,
    /// Number of writes at the start that are not counted.
    pub(super) warm_up: u32,
    /// Number of all writes, with those of the warm-up.
    pub(super) writes: u32,
}

impl Schedule {
    /// When a version is due.
    pub(super) fn due(&self, version: u32) -> Instant {
        self.begins + self.every * version
    }
}

/// The wakes of each version. They count for each version, and not for each read of the sockets.
pub(super) struct Wakes {
    schedule: Schedule,
    watchers: usize,
    versions: Vec<SeenVersion>,
    /// The time from when a write was due until a watcher got it or a newer one: a sample of each watcher for each
    /// write.
    pub(super) times: Times,
    /// Answers with a newer version.
    pub(super) woken: u64,
    /// Versions that a watcher did not get, because it got a newer one.
    pub(super) superseded: u64,
}

#[derive(Clone, Default)]
struct SeenVersion {
    watchers: usize,
    latest: Option<Instant>,
}

impl Wakes {
    /// No wakes so far.
    pub(super) fn new(schedule: Schedule, watchers: usize) -> Self {
        Self {
            schedule,
            watchers,
            versions: vec![SeenVersion::default(); schedule.writes as usize],
            times: Times::default(),
            woken: 0,
            superseded: 0,
        }
    }

    /// Records that a watcher which knew one version got a newer one.
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

    /// The time from when a version was due until the last watcher got it; `None` while not all have it.
    pub(super) fn last(&self, version: u32) -> Option<Duration> {
        let heard = self.versions.get((version as usize).checked_sub(1)?)?;
        let latest = heard.latest.filter(|_| heard.watchers == self.watchers)?;
        Some(latest.saturating_duration_since(self.schedule.due(version)))
    }

    /// The same for all counted versions.
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
    fn a_watcher_that_skips_versions_is_counted_for_each_of_them() {
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
    fn a_version_that_a_watcher_did_not_get_has_no_last_wake() {
        let mut wakes = wakes(2, 0, 2);
        wakes.hear(0, 2, wakes.schedule.due(2));
        wakes.hear(0, 1, wakes.schedule.due(4));
        assert_eq!(wakes.lasts(), [Some(3 * EVERY), None]);
        // a version that is not in the schedule is not of this run
        wakes.hear(1, u32::MAX, wakes.schedule.due(3));
        assert_eq!(wakes.lasts(), [Some(3 * EVERY), Some(EVERY)]);
        assert_eq!((wakes.last(0), wakes.last(3)), (None, None));
    }
}
