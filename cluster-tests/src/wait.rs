//! Waiting for a condition, never for a while.

use std::fmt::Debug;
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
pub fn wait_for<T>(what: &str, limit: Duration, probe: impl FnMut() -> Option<T>) -> T {
    probe_until(limit, probe).unwrap_or_else(|| panic!("waited {limit:?} in vain for {what}"))
}

/// Waits until a condition holds.
///
/// # Panics
/// After `limit`, naming `what` was waited for.
#[track_caller]
pub fn wait_until(what: &str, limit: Duration, mut holds: impl FnMut() -> bool) {
    wait_for(what, limit, || holds().then_some(()));
}

/// Reads a value until it is as awaited.
///
/// # Panics
/// After `limit`, with the value as it was then.
#[track_caller]
pub fn wait_for_value<T: Debug>(limit: Duration, mut read: impl FnMut() -> T, awaited: impl Fn(&T) -> bool) {
    let mut last = None;
    let found = probe_until(limit, || awaited(last.insert(read())).then_some(()));
    assert!(found.is_some(), "waited {limit:?} in vain, the last value is {last:?}");
}

/// What `probe` returns within `limit`.
fn probe_until<T>(limit: Duration, mut probe: impl FnMut() -> Option<T>) -> Option<T> {
    let started = Instant::now();
    let mut pause = FIRST_PAUSE;
    loop {
        // the clock is read first, so that the last probe comes after the limit and not before it
        let late = started.elapsed() > limit;
        let found = probe();
        if found.is_some() || late {
            return found;
        }
        std::thread::sleep(pause);
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}
