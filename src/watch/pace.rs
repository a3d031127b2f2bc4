//! How far apart the waiters of one fan-out are woken, so that they do not all come back at once.

use std::time::Duration;

/// The pace of fan-outs: so much time for each watcher, but never more than so much for all.
///
/// With 10 µs each, one watcher waits for nothing and 100,000 are spread over a second. vwatch draws a random delay
/// for each instead, which its cap makes the same for most where there are many.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// Time between two watchers.
    pub per_watcher: Duration,
    /// Longest time from the first to the last.
    pub longest: Duration,
}

impl Pace {
    /// Nobody waits.
    pub const NONE: Self = Self { per_watcher: Duration::ZERO, longest: Duration::ZERO };

    /// A pace at which nobody is woken later than at either.
    #[must_use]
    pub fn faster(self, other: Self) -> Self {
        Self {
            per_watcher: self.per_watcher.min(other.per_watcher),
            longest: self.longest.min(other.longest),
        }
    }

    /// How long after the start the watcher `index` of `count` is woken. Rises with `index`, from zero for the first.
    #[must_use]
    pub fn delay(&self, index: usize, count: usize) -> Duration {
        if self.longest.is_zero() || self.per_watcher.is_zero() {
            return Duration::ZERO;
        }
        let last = count.saturating_sub(1).max(1) as u128;
        let span = (self.per_watcher.as_nanos() * last).min(self.longest.as_nanos());
        let delay_ns = span * (index as u128).min(last) / last;
        Duration::from_nanos(u64::try_from(delay_ns).unwrap_or(u64::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PACE: Pace = Pace { per_watcher: Duration::from_micros(10), longest: Duration::from_secs(10) };

    #[test]
    fn one_waits_for_nothing_and_many_are_spread() {
        assert_eq!(PACE.delay(0, 1), Duration::ZERO);
        assert_eq!(PACE.delay(99_999, 100_000), Duration::from_micros(999_990));
        assert_eq!(PACE.delay(50_000, 100_000), Duration::from_micros(500_000));
    }

    #[test]
    fn the_spread_has_an_end_and_stays_even() {
        let count = 4_000_001;
        assert_eq!(PACE.delay(0, count), Duration::ZERO);
        assert_eq!(PACE.delay(2_000_000, count), Duration::from_secs(5));
        assert_eq!(PACE.delay(4_000_000, count), Duration::from_secs(10));
    }

    #[test]
    fn no_pace_no_delay() {
        assert_eq!(Pace::NONE.delay(99, 100), Duration::ZERO);
        assert_eq!(Pace { longest: Duration::ZERO, ..PACE }.delay(99, 100), Duration::ZERO);
    }
}
