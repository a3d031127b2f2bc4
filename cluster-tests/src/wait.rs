//! Waiting for a condition, never for a while.

use std::time::{Duration, Instant};

/// How long a test waits for what must come: far more than it takes, for machines that are busy with other things.
pub const LIMIT: Duration = Duration::from_secs(30);

const FIRST_PAUSE: Duration = Duration::from_millis(1);
const LONGEST_PAUSE: Duration = Duration::from_millis(20);

/// Repeats `probe` until it returns a value.
///
/// # Panics
/// After `limit`, naming `what` was waited for.
#[track_caller]
pub fn wait_for<T>(what: &str, limit: Duration, mut probe: impl FnMut() -> Option<T>) -> T {
    let started = Instant::now();
    let mut pause = FIRST_PAUSE;
    loop {
        // the clock is read first, so that the last probe comes after the limit and not before it
        let late = started.elapsed() > limit;
        if let Some(found) = probe() {
            return found;
        }
        assert!(!late, "waited {limit:?} in vain for {what}");
        std::thread::sleep(pause);
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

/// Waits until a condition holds.
///
/// # Panics
/// After `limit`, naming `what` was waited for.
#[track_caller]
pub fn wait_until(what: &str, limit: Duration, mut holds: impl FnMut() -> bool) {
    wait_for(what, limit, || holds().then_some(()));
}
