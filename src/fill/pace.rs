//! How often an upstream is asked: an even budget, and pauses after failures.

use std::time::{Duration, Instant};

/// Slots for requests, evenly spread: never more than the rate, never saved up.
#[derive(Debug)]
pub(super) struct Budget {
    interval: Duration,
    next: Option<Instant>,
}

/// What may be caught up with when the loop that takes slots comes late.
const CATCH_UP: Duration = Duration::from_millis(5);

impl Budget {
    /// So many requests a second.
    pub(super) fn new(per_second: usize) -> Self {
        let per_second = u32::try_from(per_second).unwrap_or(u32::MAX).max(1);
        Self { interval: Duration::from_secs(1) / per_second, next: None }
    }

    /// When the next request may be sent; never before `now`.
    pub(super) fn next(&self, now: Instant) -> Instant {
        self.next.map_or(now, |next| next.max(now))
    }

    /// A request is sent.
    pub(super) fn spend(&mut self, now: Instant) {
        let from = self.next.map_or(now, |next| next.max(now.checked_sub(CATCH_UP).unwrap_or(now)));
        self.next = Some(from + self.interval);
    }
}

/// A pause of up to `base` doubled for each failure after the first, `cap` at most, uniformly at random from zero ("full
/// jitter"), so that those who failed together do not come back together.
pub(super) fn backoff(base: Duration, cap: Duration, failures: u32, random: u64) -> Duration {
    let longest = base.saturating_mul(1 << failures.saturating_sub(1).min(20)).min(cap);
    portion(longest, random)
}

/// A uniformly random part of a time.
pub(super) fn portion(of: Duration, random: u64) -> Duration {
    let nanos = of.as_nanos() * u128::from(random) / u128::from(u64::MAX);
    Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
}

/// `of` with ± 10 %.
pub(super) fn spread(of: Duration, random: u64) -> Duration {
    of.mul_f64(0.9) + portion(of.mul_f64(0.2), random)
}

/// 64 random bits. Without entropy, which the node would not have started without, they are all the same.
pub(super) fn random() -> u64 {
    getrandom::u64().unwrap_or(u64::MAX / 2)
}

/// Whether an address is asked: after a failure it is left alone for a while, then one request tries it.
#[derive(Debug, Default)]
pub(super) struct Gate {
    failures: u32,
    closed_until: Option<Instant>,
    failed_at: Option<Instant>,
}

const GATE_BASE: Duration = Duration::from_millis(100);
const GATE_CAP: Duration = Duration::from_secs(5);

/// How long the one that tries a failed address has for it before the next one may.
const TRIAL: Duration = Duration::from_secs(5);

impl Gate {
    /// Lets a request through, or says when to come back.
    pub(super) fn admit(&mut self, now: Instant) -> Result<(), Instant> {
        match self.closed_until {
            Some(until) if until > now => Err(until),
            Some(_) if self.failures > 0 => {
                self.closed_until = Some(now + TRIAL);
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// A request that was sent at `sent` has failed. What was sent before the last failure says nothing new. Returns
    /// whether it was well before.
    pub(super) fn failed(&mut self, sent: Instant, now: Instant, random: u64) -> bool {
        if self.failed_at.is_some_and(|failed| sent < failed) {
            return false;
        }
        self.failures = self.failures.saturating_add(1);
        self.failed_at = Some(now);
        self.closed_until = Some(now + backoff(GATE_BASE, GATE_CAP, self.failures, random));
        self.failures == 1
    }

    /// The upstream wants to be left alone.
    pub(super) fn pause(&mut self, until: Instant) {
        self.closed_until = self.closed_until.max(Some(until));
    }

    /// A request was answered. Returns whether it had failed before.
    pub(super) fn succeeded(&mut self, now: Instant) -> bool {
        let had_failed = self.failures > 0;
        if had_failed || self.closed_until.is_some_and(|until| until <= now) {
            self.closed_until = None;
        }
        self.failures = 0;
        had_failed
    }

    /// Until when nobody is let through; `None` if somebody is.
    pub(super) fn closed(&self, now: Instant) -> Option<Instant> {
        self.closed_until.filter(|&until| until > now)
    }

    /// Whether the last request failed.
    pub(super) fn is_failing(&self) -> bool {
        self.failures > 0
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_budget_is_even_from_the_start() {
        let start = Instant::now();
        let mut budget = Budget::new(100);
        let mut now = start;
        for _ in 0..500 {
            now = budget.next(now);
            budget.spend(now);
        }
        let took = now - start;
        assert!(took >= SECOND * 499 / 100 && took < SECOND * 5, "{took:?}");
        // what was not used is not saved up
        now += SECOND * 60;
        for _ in 0..3 {
            now = budget.next(now);
            budget.spend(now);
        }
        assert!(budget.next(now) > now);
    }

    proptest! {
        #[test]
        fn never_more_than_the_rate(rate in 1_usize..5_000, lateness in prop::collection::vec(0_u64..3_000, 1..200)) {
            let start = Instant::now();
            let mut budget = Budget::new(rate);
            let mut now = start;
            let count = lateness.len();
            for late in lateness {
                now = budget.next(now) + Duration::from_micros(late);
                budget.spend(now);
            }
            let least = (SECOND / rate as u32) * (count as u32 - 1);
            prop_assert!(now - start + CATCH_UP >= least);
        }

        #[test]
        fn backoff_is_between_zero_and_its_cap(failures in 0_u32..100, random: u64) {
            let pause = backoff(GATE_BASE, GATE_CAP, failures, random);
            prop_assert!(pause <= GATE_CAP);
            prop_assert!(spread(SECOND * 10, random) >= SECOND * 9 && spread(SECOND * 10, random) <= SECOND * 11);
        }
    }

    #[test]
    fn a_gate_lets_one_try_and_opens_for_all() {
        let start = Instant::now();
        let mut gate = Gate::default();
        assert!(gate.admit(start).is_ok());
        assert!(gate.failed(start, start + SECOND, u64::MAX));
        assert!(!gate.failed(start, start + SECOND * 2, u64::MAX), "of the same failure");
        let closed_until = gate.admit(start + SECOND).unwrap_err();
        assert_eq!(closed_until, start + SECOND + GATE_BASE);
        assert!(gate.admit(closed_until).is_ok(), "one tries");
        assert!(gate.admit(closed_until).is_err(), "and nobody else");
        assert!(gate.succeeded(closed_until));
        assert!(gate.admit(closed_until).is_ok() && gate.admit(closed_until).is_ok());
        assert!(!gate.succeeded(closed_until));
    }

    #[test]
    fn a_pause_is_kept_whatever_else_is_answered() {
        let now = Instant::now();
        let mut gate = Gate::default();
        gate.pause(now + SECOND);
        gate.succeeded(now);
        assert_eq!(gate.admit(now), Err(now + SECOND));
        assert!(gate.admit(now + SECOND).is_ok());
    }
}
