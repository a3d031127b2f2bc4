//! The one place that reads the wall clock.

use std::sync::LazyLock;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use crate::core::Stamp;
use crate::core::replica::Now;

/// Now, as a stamp. A clock before 1970 reads as 1970, one beyond 9999 as 9999.
#[must_use]
#[allow(clippy::disallowed_methods, reason = "this is the one place")]
pub fn now() -> Stamp {
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since_epoch.as_micros())
        .ok()
        .and_then(|us| Stamp::from_micros(us).ok())
        .unwrap_or(Stamp::MAX)
}

/// Now, by the wall clock and by the one that only goes forward.
#[must_use]
pub fn both() -> Now {
    static START: LazyLock<Instant> = LazyLock::new(Instant::now);
    let mono_us = u64::try_from(START.elapsed().as_micros()).unwrap_or(u64::MAX);
    Now { wall: now(), mono_us }
}
