//! The clocks of the client.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::core::Stamp;

/// The present time.
#[allow(clippy::disallowed_methods, reason = "a client has no clock of a node")]
pub(crate) fn now() -> Stamp {
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let micros = u64::try_from(since_epoch.as_micros()).ok();
    micros.and_then(|micros| Stamp::from_micros(micros).ok()).unwrap_or(Stamp::MAX)
}

/// The time since some moment in the past, by a clock that nothing sets. On Linux it also runs while the machine
/// sleeps, so that a lease does not outlive its deadline there; with the feature `client` alone, and on other systems,
/// it stands still meanwhile.
pub(crate) fn since_boot() -> Duration {
    #[cfg(all(feature = "embed", target_os = "linux"))]
    {
        let time = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
        let (seconds, nanos) = (u64::try_from(time.tv_sec), u32::try_from(time.tv_nsec));
        Duration::new(seconds.unwrap_or_default(), nanos.unwrap_or_default())
    }
    #[cfg(not(all(feature = "embed", target_os = "linux")))]
    {
        use std::sync::LazyLock;
        use std::time::Instant;

        static START: LazyLock<Instant> = LazyLock::new(Instant::now);
        START.elapsed()
    }
}
