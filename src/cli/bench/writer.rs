//! The writer of `vwatch bench watch`, in a thread of its own: it writes on time, whatever the watchers do.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use super::CHECK_EVERY;
use super::blocking::Blocking;
use super::figures::Times;
use super::names::Names;
use super::wakes::Schedule;
use crate::cli::failure::Failure;

/// No other requests go to the node for this long before a write, or for half of the time between two writes.
const QUIET: Duration = Duration::from_millis(100);

/// How long no other requests go to the node before a write.
pub(super) fn quiet(every: Duration) -> Duration {
    QUIET.min(every / 2)
}

/// The results of the writes.
pub(super) struct Writes {
    /// The times from when a write was due to its answer.
    pub(super) times: Times,
    /// The largest delay of a write.
    pub(super) behind: Duration,
}

/// Writes by the schedule, until its end or until `over` is set.
pub(super) fn write(
    names: &Names,
    mut connection: Blocking,
    schedule: Schedule,
    size: usize,
    over: &AtomicBool,
) -> Result<Writes, Failure> {
    let mut writes = Writes { times: Times::default(), behind: Duration::ZERO };
    let quiet = quiet(schedule.every);
    for version in 1..=schedule.writes {
        let due = schedule.due(version);
        let requests = names.puts(&connection.target.url, version, size);
        sleep_until(due.checked_sub(quiet).unwrap_or(due), over);
        connection.refresh()?;
        sleep_until(due, over);
        if over.load(Ordering::Relaxed) {
            break;
        }
        let late = due.elapsed();
        connection.send(&requests)?;
        let is_counted = version > schedule.warm_up;
        for _ in &names.0 {
            connection.good_answer()?;
            if is_counted {
                writes.times.record(due.elapsed());
            }
        }
        if is_counted {
            writes.behind = writes.behind.max(late);
        }
    }
    Ok(writes)
}

fn sleep_until(at: Instant, over: &AtomicBool) {
    loop {
        let left = at.saturating_duration_since(Instant::now());
        if left.is_zero() || over.load(Ordering::Relaxed) {
            return;
        }
        thread::sleep(left.min(CHECK_EVERY));
    }
}
