//! The writer of `vwatch bench stream`, in a thread of its own: writes with numbers, at a rate or as fast as the node
//! takes them.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use super::blocking::Blocking;
use super::deliveries::Dues;
use super::exchange;
use super::figures::Times;
use super::names::Names;
use crate::cli::failure::Failure;
use crate::client::url::path_of;

/// Most writes under way at the same time.
const IN_FLIGHT: u32 = 64;

/// Longest sleep, so that the end of a run is noticed.
const SLEEP: Duration = Duration::from_millis(20);

/// The results of the writes.
pub(super) struct Written {
    pub(super) count: u32,
    /// The times from when a write was due to its answer; of writes without a schedule, from when it was sent.
    pub(super) times: Times,
    /// The largest delay of a write that had a schedule and could be sent at once.
    pub(super) behind: Duration,
}

/// Writes `most` times, or until `until`, or until `over` is set.
///
/// # Errors
/// If the node rejects a write, or does not answer.
pub(super) fn write(
    names: &Names,
    mut to: Blocking,
    dues: &Dues,
    size: usize,
    (most, until): (u32, Instant),
    over: &AtomicBool,
) -> Result<Written, Failure> {
    let data = vec![b'.'; size];
    let url = to.target.url.clone();
    let put = |number: u32| {
        let name = &names.0[number as usize % names.0.len()];
        exchange::put(&url, &format!("{}?version={number}", path_of(name)), &data)
    };
    let mut written = Written { count: 0, times: Times::default(), behind: Duration::ZERO };
    let mut under_way: VecDeque<Instant> = VecDeque::new();
    loop {
        let is_over = written.count >= most || Instant::now() >= until || over.load(Ordering::Relaxed);
        let busy = u32::try_from(under_way.len()).unwrap_or(IN_FLIGHT);
        // several are sent together
        let free = if busy > IN_FLIGHT / 2 { 0 } else { IN_FLIGHT - busy };
        let mut requests = Vec::new();
        for _ in 0..if is_over { 0 } else { free.min(most - written.count) } {
            let (number, now) = (written.count + 1, Instant::now());
            let due = dues.scheduled(number).unwrap_or(now);
            if due > now {
                break;
            }
            if under_way.is_empty() {
                written.behind = written.behind.max(now - due);
            }
            dues.send(now);
            under_way.push_back(due);
            written.count = number;
            requests.extend(put(number));
        }
        if !requests.is_empty() {
            to.send(&requests)?;
        }
        if let Some(due) = under_way.pop_front() {
            to.good_answer()?;
            written.times.record(due.elapsed());
        } else if is_over {
            return Ok(written);
        } else if let Some(due) = dues.scheduled(written.count + 1) {
            thread::sleep(due.saturating_duration_since(Instant::now()).min(SLEEP));
        }
    }
}
