//! Rate limiter of requests to an upstream. Time is handed in.

use std::time::{Duration, Instant};

/// How much a late caller may catch up with: the interval after a late slot counts from at most this long ago.
const CATCH_UP: Duration = Duration::from_millis(5);

/// Slots for requests at an even rate. Unused slots are not saved up.
#[derive(Debug)]
pub(super) struct RateLimiter {
    interval: Duration,
    next: Option<Instant>,
}

impl RateLimiter {
    /// A limiter of `per_second` requests a second, at least 1.
    pub(super) fn new(per_second: usize) -> Self {
        let per_second = u32::try_from(per_second).unwrap_or(u32::MAX).max(1);
        Self { interval: Duration::from_secs(1) / per_second, next: None }
    }

    /// When the next request may be sent; never before `now`.
    pub(super) fn next_slot(&self, now: Instant) -> Instant {
        self.next.map_or(now, |next| next.max(now))
    }

    /// Uses a slot for a request that is sent now.
    pub(super) fn spend(&mut self, now: Instant) {
        let from = self.next.map_or(now, |next| next.max(now.checked_sub(CATCH_UP).unwrap_or(now)));
        self.next = Some(from + self.interval);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn slots_are_even_from_the_start() {
        let start = Instant::now();
        let mut limiter = RateLimiter::new(100);
        let mut now = start;
        for _ in 0..500 {
            now = limiter.next_slot(now);
            limiter.spend(now);
        }
        let took = now - start;
        assert!(took >= SECOND * 499 / 100 && took < SECOND * 5, "{took:?}");
        // unused slots are not saved up
        now += SECOND * 60;
        for _ in 0..3 {
            now = limiter.next_slot(now);
            limiter.spend(now);
        }
        assert!(limiter.next_slot(now) > now);
    }

    proptest! {
        #[test]
        fn never_more_than_the_rate(rate in 1_usize..5_000, lateness in prop::collection::vec(0_u64..3_000, 1..200)) {
            let start = Instant::now();
            let mut limiter = RateLimiter::new(rate);
            let mut now = start;
            let count = lateness.len();
            for late in lateness {
                now = limiter.next_slot(now) + Duration::from_micros(late);
                limiter.spend(now);
            }
            let least = (SECOND / rate as u32) * (count as u32 - 1);
            prop_assert!(now - start + CATCH_UP >= least);
        }
    }
}
