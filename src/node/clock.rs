//! The only place that reads the wall clock.

use std::sync::LazyLock;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::core::Stamp;
use crate::core::stamp::Now;
use crate::wire::duration;

/// How often such a file is read.
const READ_EVERY: Duration = Duration::from_millis(5);

/// The two clocks are read again if that took longer than this, µs: the system may stop a thread between two
/// instructions.
const AT_ONCE_US: u64 = 20_000;

/// How often at most.
const LOOKS: usize = 8;

/// The offset that tests give to the clock, in µs.
static OFFSET_US: AtomicI64 = AtomicI64::new(0);

/// Sets the clock of this process wrong on purpose, for tests: by `+1h` or `-90s`, or after `@` by the content of a
/// file, which may change at any time.
///
/// # Errors
/// The text that is not a duration with its sign: this one, or that of the file.
pub fn set_offset(text: &str) -> Result<(), String> {
    let Some(path) = text.strip_prefix('@').map(str::to_owned) else {
        OFFSET_US.store(offset_us(text).ok_or_else(|| text.to_owned())?, Ordering::Relaxed);
        return Ok(());
    };
    let read = move || std::fs::read_to_string(&path).unwrap_or_default();
    let first = read();
    OFFSET_US.store(offset_us(first.trim()).ok_or(first)?, Ordering::Relaxed);
    // a thread of its own: threads that serve wait for no file
    std::thread::spawn(move || {
        loop {
            std::thread::sleep(READ_EVERY);
            if let Some(offset) = offset_us(read().trim()) {
                OFFSET_US.store(offset, Ordering::Relaxed);
            }
        }
    });
    Ok(())
}

fn offset_us(text: &str) -> Option<i64> {
    let (sign, length) = match text.split_at_checked(1)? {
        ("+", length) => (1, length),
        ("-", length) => (-1, length),
        _ => return None,
    };
    let us = i64::try_from(duration::parse(length).ok()?.as_micros()).ok()?;
    Some(sign * us)
}

/// Now, as a stamp. A clock before 1970 reads as 1970, one beyond 9999 as 9999.
#[must_use]
#[allow(clippy::disallowed_methods, reason = "this is the one place")]
pub fn now() -> Stamp {
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since_epoch.as_micros())
        .ok()
        .map(|us| us.saturating_add_signed(OFFSET_US.load(Ordering::Relaxed)))
        .and_then(|us| Stamp::from_micros(us).ok())
        .unwrap_or(Stamp::MAX)
}

/// Now by the wall clock, and by a monotonic clock that also runs while the machine sleeps: a lease goes on meanwhile.
#[must_use]
pub fn with_sleep() -> Now {
    #[cfg(target_os = "linux")]
    let mono_us = {
        let time = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
        let (seconds, nanoseconds) = (u64::try_from(time.tv_sec), u64::try_from(time.tv_nsec));
        seconds.unwrap_or(0) * 1_000_000 + nanoseconds.unwrap_or(0) / 1000
    };
    // the clock of the standard library stands still during sleep on some systems; there a lease is not for laptops
    #[cfg(not(target_os = "linux"))]
    let mono_us = both().mono_us;
    Now { wall: now(), mono_us }
}

/// Now by the wall clock and by the monotonic clock, at the same moment. A pause between the two reads would look like
/// a clock that was set.
#[must_use]
pub fn both() -> Now {
    static START: LazyLock<Instant> = LazyLock::new(Instant::now);
    let mono_us = || u64::try_from(START.elapsed().as_micros()).unwrap_or(u64::MAX);
    let mut before_us = mono_us();
    for _ in 0..LOOKS {
        let wall = now();
        let after_us = mono_us();
        if after_us.saturating_sub(before_us) <= AT_ONCE_US {
            return Now { wall, mono_us: before_us };
        }
        before_us = after_us;
    }
    Now { wall: now(), mono_us: before_us }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_offset_has_a_sign() {
        assert_eq!(offset_us("+1h"), Some(3_600_000_000));
        assert_eq!(offset_us("-90s"), Some(-90_000_000));
        for text in ["", "+", "1h", "+-1h", "--1h", "+soon", "é"] {
            assert_eq!(offset_us(text), None, "{text}");
        }
    }
}
