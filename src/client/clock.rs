//! The wall clock of the client.

use std::time::{SystemTime, UNIX_EPOCH};

use crate::core::Stamp;

/// The present time.
#[allow(clippy::disallowed_methods, reason = "a client has no clock of a node")]
pub(crate) fn now() -> Stamp {
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let micros = u64::try_from(since_epoch.as_micros()).ok();
    micros.and_then(|micros| Stamp::from_micros(micros).ok()).unwrap_or(Stamp::MAX)
}
