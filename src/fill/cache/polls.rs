//! The way to the loop that asks, and the budget.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use crate::fill::names::Entry;
use crate::fill::pace::Budget;

/// The names that are to be asked for, and the budget.
#[derive(Debug)]
pub(in crate::fill) struct Polls {
    sender: UnboundedSender<Arc<Entry>>,
    pub(super) receiver: Mutex<Option<UnboundedReceiver<Arc<Entry>>>>,
    spent: Mutex<Spent>,
    rate: usize,
}

#[derive(Debug)]
struct Spent {
    budget: Budget,
    second: Instant,
    count: usize,
}

impl Polls {
    pub(in crate::fill) fn new(rate: usize) -> Self {
        let (sender, receiver) = unbounded_channel();
        let spent = Spent { budget: Budget::new(rate), second: Instant::now(), count: 0 };
        Self { sender, receiver: Mutex::new(Some(receiver)), spent: Mutex::new(spent), rate }
    }

    /// Asks for a name as soon as the budget allows it, before those that are merely due.
    pub(in crate::fill) fn now(&self, entry: Arc<Entry>) {
        let mut polled = entry.polled();
        if polled.in_flight {
            polled.again = true;
            return;
        }
        if std::mem::replace(&mut polled.is_urgent, true) {
            return;
        }
        polled.queued += 1;
        drop(polled);
        // without a loop the process is ending
        let _ = self.sender.send(entry);
    }

    /// Somebody says that a name has changed.
    pub(in crate::fill) fn look(&self, entry: Arc<Entry>) {
        entry.polled().look = Some(0);
        self.now(entry);
    }

    /// Requests that may still be sent in this second.
    pub(in crate::fill) fn left(&self) -> usize {
        let spent = self.spent.lock().unwrap_or_else(PoisonError::into_inner);
        if spent.second.elapsed() < Duration::from_secs(1) {
            self.rate.saturating_sub(spent.count)
        } else {
            self.rate
        }
    }

    pub(super) fn next(&self, now: Instant) -> Instant {
        self.spent.lock().unwrap_or_else(PoisonError::into_inner).budget.next(now)
    }

    pub(super) fn spend(&self) {
        let now = Instant::now();
        let mut spent = self.spent.lock().unwrap_or_else(PoisonError::into_inner);
        spent.budget.spend(now);
        if now - spent.second >= Duration::from_secs(1) {
            (spent.second, spent.count) = (now, 0);
        }
        spent.count += 1;
    }
}
