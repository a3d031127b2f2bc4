//! The pause before the next request.

use std::time::Duration;

/// Exponential backoff with full jitter: clients that lost the same node at the same time must not return at the same
/// time.
#[derive(Clone, Debug)]
pub(crate) struct Backoff {
    first: Duration,
    most: Duration,
    failures: u32,
}

impl Default for Backoff {
    fn default() -> Self {
        Self::new(Duration::from_millis(100), Duration::from_secs(5))
    }
}

impl Backoff {
    /// A backoff whose pauses have this bound at first, and at most.
    pub(crate) fn new(first: Duration, most: Duration) -> Self {
        Self { first: first.min(most), most, failures: 0 }
    }

    /// Resets the pause after a success.
    pub(crate) fn reset(&mut self) {
        self.failures = 0;
    }

    /// The next pause: random, up to the first bound (100 ms), which is doubled each time, up to the last one (5 s). It
    /// is added to the pause that a node requested.
    pub(crate) fn next(&mut self, retry_after: Option<Duration>) -> Duration {
        // without entropy the pause is not random
        let random = getrandom::u64().unwrap_or(u64::MAX);
        self.next_with(retry_after, random)
    }

    fn next_with(&mut self, retry_after: Option<Duration>, random: u64) -> Duration {
        let most = self.first.saturating_mul(1 << self.failures.min(20)).min(self.most);
        self.failures = self.failures.saturating_add(1);
        let share = random as f64 / u64::MAX as f64;
        retry_after.unwrap_or_default() + most.mul_f64(share)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grows_to_its_bound_and_begins_again() {
        let mut backoff = Backoff::default();
        let most: Vec<_> = (0..8).map(|_| backoff.next_with(None, u64::MAX).as_millis()).collect();
        assert_eq!(most, [100, 200, 400, 800, 1600, 3200, 5000, 5000]);
        backoff.reset();
        assert_eq!(backoff.next_with(None, u64::MAX).as_millis(), 100);
    }

    #[test]
    fn is_anything_up_to_the_bound_added_to_the_pause_of_the_node() {
        let mut backoff = Backoff::default();
        assert_eq!(backoff.next_with(None, 0), Duration::ZERO);
        let wait = backoff.next_with(Some(Duration::from_secs(7)), u64::MAX / 2);
        assert_eq!(wait.as_millis(), 7_100);
        for _ in 0..100 {
            assert!(backoff.next(None) <= backoff.most);
        }
    }
}
