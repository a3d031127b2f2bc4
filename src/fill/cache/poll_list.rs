//! The names that are to be polled at once, and the rate of all polls.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use crate::fill::entries::Entry;
use crate::fill::rate_limiter::RateLimiter;

/// The channel of names to the loop in [`super::schedule()`], and the rate of its requests.
#[derive(Debug)]
pub(in crate::fill) struct PollList {
    sender: UnboundedSender<Arc<Entry>>,
    /// Taken by the loop when it starts.
    pub(super) receiver: Mutex<Option<UnboundedReceiver<Arc<Entry>>>>,
    spent: Mutex<Spent>,
    rate: usize,
}

/// The requests that were sent.
#[derive(Debug)]
struct Spent {
    limiter: RateLimiter,
    /// When the present second began.
    second: Instant,
    /// Requests since then.
    count: usize,
}

impl PollList {
    /// An empty list; at most `rate` requests a second.
    pub(in crate::fill) fn new(rate: usize) -> Self {
        let (sender, receiver) = unbounded_channel();
        let spent = Spent { limiter: RateLimiter::new(rate), second: Instant::now(), count: 0 };
        Self { sender, receiver: Mutex::new(Some(receiver)), spent: Mutex::new(spent), rate }
    }

    /// Polls a name as soon as the rate allows it, before names that are merely due.
    pub(in crate::fill) fn request_now(&self, entry: Arc<Entry>) {
        let mut state = entry.poll_state();
        if state.in_flight {
            state.again = true;
            return;
        }
        if std::mem::replace(&mut state.is_urgent, true) {
            return;
        }
        state.queued += 1;
        drop(state);
        // without the loop the process is ending
        let _ = self.sender.send(entry);
    }

    /// Polls a name that was reported as changed at once, and again while the change does not show.
    pub(in crate::fill) fn check_change(&self, entry: Arc<Entry>) {
        entry.poll_state().check = Some(0);
        self.request_now(entry);
    }

    /// Requests that may still be sent in this second.
    pub(in crate::fill) fn budget_left(&self) -> usize {
        let spent = self.spent.lock().unwrap_or_else(PoisonError::into_inner);
        if spent.second.elapsed() < Duration::from_secs(1) {
            self.rate.saturating_sub(spent.count)
        } else {
            self.rate
        }
    }

    /// When the next request may be sent; never before `now`.
    pub(super) fn next_slot(&self, now: Instant) -> Instant {
        self.spent.lock().unwrap_or_else(PoisonError::into_inner).limiter.next_slot(now)
    }

    /// Counts a request.
    pub(super) fn spend(&self) {
        let now = Instant::now();
        let mut spent = self.spent.lock().unwrap_or_else(PoisonError::into_inner);
        spent.limiter.spend(now);
        if now - spent.second >= Duration::from_secs(1) {
            (spent.second, spent.count) = (now, 0);
        }
        spent.count += 1;
    }
}
