//! The one place that reads the wall clock.

use std::time::{SystemTime, UNIX_EPOCH};

use crate::core::Stamp;

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
