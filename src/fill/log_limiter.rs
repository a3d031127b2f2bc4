//! Limits how often the same kind of message is logged.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Least time between two messages of the same kind.
const EVERY: Duration = Duration::from_secs(10);

/// The time of the last message of each kind, and how many were dropped since.
#[derive(Debug, Default)]
pub(super) struct LogLimiter(Mutex<HashMap<&'static str, (Instant, u64)>>);

impl LogLimiter {
    /// Whether to log a message of this kind now: `Some` with the number of messages dropped since the last one.
    pub(super) fn admit(&self, kind: &'static str) -> Option<u64> {
        let mut kinds = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        match kinds.get_mut(kind) {
            Some((last, more)) if now - *last < EVERY => {
                *more += 1;
                None
            }
            Some((last, more)) => {
                *last = now;
                Some(std::mem::take(more))
            }
            None => {
                kinds.insert(kind, (now, 0));
                Some(0)
            }
        }
    }
}
