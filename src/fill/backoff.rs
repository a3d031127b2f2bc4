//! Pauses after failures, with random parts.

use std::time::Duration;

/// A pause of up to `base`, doubled for each failure after the first, at most `cap`, uniformly at random from zero
/// ("full jitter"): names that failed together are not retried together.
pub(super) fn backoff(base: Duration, cap: Duration, failures: u32, random: u64) -> Duration {
    let longest = base.saturating_mul(1 << failures.saturating_sub(1).min(20)).min(cap);
    portion(longest, random)
}

/// The part of a duration that `random` selects, from none of it to all of it.
pub(super) fn portion(of: Duration, random: u64) -> Duration {
    let nanos = of.as_nanos() * u128::from(random) / u128::from(u64::MAX);
    Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
}

/// A duration ± 10 %.
pub(super) fn spread(of: Duration, random: u64) -> Duration {
    of.mul_f64(0.9) + portion(of.mul_f64(0.2), random)
}

/// 64 random bits. Without entropy they are constant; the node does not start without it.
pub(super) fn random() -> u64 {
    getrandom::u64().unwrap_or(u64::MAX / 2)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    proptest! {
        #[test]
        fn backoff_is_between_zero_and_its_cap(failures in 0_u32..100, random: u64) {
            let pause = backoff(SECOND / 10, SECOND * 5, failures, random);
            prop_assert!(pause <= SECOND * 5);
            prop_assert!(spread(SECOND * 10, random) >= SECOND * 9 && spread(SECOND * 10, random) <= SECOND * 11);
        }
    }
}
