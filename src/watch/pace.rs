//! The pace of a fan-out: the pause between two wakes, so that the watchers do not all come back at once.

use std::time::Duration;

/// The pace of fan-outs: a pause for each watcher, with a bound for the whole fan-out.
///
/// With 10 µs each, a single watcher does not wait, and 100,000 are spread over a second. The Go vwatch draws a random
/// delay for each watcher; if there are many, its cap makes the delays of most of them the same.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// Pause between two watchers.
    pub per_watcher: Duration,
    /// Longest time from the first to the last watcher.
    pub longest: Duration,
}

impl Pace {
    /// No pauses.
    pub const NONE: Self = Self { per_watcher: Duration::ZERO, longest: Duration::ZERO };

    /// The pace that wakes no watcher later than either of the two.
    #[must_use]
    pub fn faster(self, other: Self) -> Self {
        Self {
            per_watcher: self.per_watcher.min(other.per_watcher),
            longest: self.longest.min(other.longest),
        }
    }

    /// The time from the start of the fan-out to the wake of watcher `index` of `count`. It rises with `index`, from
    /// zero.
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
    fn a_single_watcher_does_not_wait_and_many_are_spread() {
        assert_eq!(PACE.delay(0, 1), Duration::ZERO);
        assert_eq!(PACE.delay(99_999, 100_000), Duration::from_micros(999_990));
        assert_eq!(PACE.delay(50_000, 100_000), Duration::from_micros(500_000));
    }

    #[test]
    fn the_spread_is_bounded_and_even() {
        let count = 4_000_001;
        assert_eq!(PACE.delay(0, count), Duration::ZERO);
        assert_eq!(PACE.delay(2_000_000, count), Duration::from_secs(5));
        assert_eq!(PACE.delay(4_000_000, count), Duration::from_secs(10));
    }

    #[test]
    fn without_a_pace_there_is_no_delay() {
        assert_eq!(Pace::NONE.delay(99, 100), Duration::ZERO);
        assert_eq!(Pace { longest: Duration::ZERO, ..PACE }.delay(99, 100), Duration::ZERO);
    }
}
