//! When a name is polled again after a failure. Pure.

use std::time::Duration;

use crate::fill::backoff::{backoff, random, spread};

/// The first pause after a failure that the upstream may be to blame for.
pub(super) const FIRST_PAUSE: Duration = Duration::from_millis(100);

/// A name that only fails is polled at least this often.
const LONGEST_PAUSE: Duration = Duration::from_secs(300);

/// The pause after `failures` failures in a row that concern the name and not the upstream.
pub(super) fn pause_of_name(expiry: Duration, failures: u32) -> Duration {
    spread(expiry, random()).max(backoff(expiry, LONGEST_PAUSE, failures, random()))
}

/// How long an upstream that is at a limit is paused: at least as long as it requests. If it names no time, or one that
/// has passed, the pause grows with each failure.
pub(super) fn pause_at_limit(
    requested: Option<Duration>,
    expiry: Duration,
    failures: u32,
    random: u64,
) -> Duration {
    backoff(expiry, LONGEST_PAUSE, failures, random).max(requested.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_without_a_time_to_come_is_kept_longer_each_time() {
        let expiry = Duration::from_secs(1);
        for requested in [None, Some(Duration::ZERO)] {
            let pauses =
                [1, 2, 3, 30].map(|failures| pause_at_limit(requested, expiry, failures, u64::MAX).as_secs());
            assert_eq!(pauses, [1, 2, 4, 300], "{requested:?}");
        }
        assert_eq!(pause_at_limit(Some(expiry * 9), expiry, 2, u64::MAX), expiry * 9);
    }
}
