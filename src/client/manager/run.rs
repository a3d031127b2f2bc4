//! The task of a watcher.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::time::{Instant, sleep};

use super::options::{Kind, WatcherOptions};
use super::position::Position;
use super::shared::{REFRESH, Shared, WatcherState};
use crate::client::backoff::Backoff;
use crate::client::batches::{Batch, BatchChange, Batches};
use crate::client::error::Error;
use crate::client::{Event, ResetReason};

/// Handles events until the watcher is to stop.
pub(super) async fn run(shared: Arc<Shared>) {
    // also if the handler panics
    let _ended = Ended(Arc::clone(&shared));
    let WatcherOptions { batch, first_backoff, max_backoff, checkpoint_every, .. } = shared.options;
    let mut batches = Batches::new(shared.watch.clone(), batch);
    let mut backoff = Backoff::new(first_backoff, max_backoff);
    let mut saved_at = Instant::now();
    while !shared.is_stopping() {
        let since = shared.progress().stats.next.clone();
        let told = match shared.until_stop(batches.next(&since.to_string(), shared.options.poll)).await {
            None => break,
            Some(Ok(told)) => told,
            // a node does not take it any more: all that is kept comes again
            Some(Err(Error::BadCursor)) => {
                if !shared.handle(Event::Reset { reason: ResetReason::Refused }).await {
                    break;
                }
                shared.handled(Position::Oldest, None);
                continue;
            }
            Some(Err(error)) => {
                shared.note(&error);
                shared.until_stop(sleep(backoff.next(None))).await;
                continue;
            }
        };
        backoff.reset();
        shared.listened(&told);
        let Batch { changes, cursor, behind, .. } = told;
        if !shared.handle_all(changes).await {
            break;
        }
        shared.handled(Position::Cursor(cursor), behind);
        if checkpoint_every.is_some_and(|period| saved_at.elapsed() >= period) {
            shared.save_next().await;
            saved_at = Instant::now();
        }
    }
    if checkpoint_every.is_some() {
        shared.save_next().await;
    }
}

/// The end of the task.
struct Ended(Arc<Shared>);

impl Drop for Ended {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.note(&"the handler has panicked");
        }
        self.0.phase.send_modify(|phase| phase.state = WatcherState::Stopped);
    }
}

impl Shared {
    /// The result of work; `None` if the watcher is to stop before.
    async fn until_stop<T>(&self, work: impl Future<Output = T>) -> Option<T> {
        let mut stop = std::pin::pin!(self.stop.notified());
        stop.as_mut().enable();
        if self.is_stopping() {
            return None;
        }
        tokio::select! {
            biased;
            () = stop => None,
            done = work => Some(done),
        }
    }

    fn note(&self, error: &dyn std::fmt::Display) {
        self.progress().stats.last_error = Some(error.to_string());
        tracing::warn!(target: "vwatch::client", watcher = self.id, "{error}");
    }

    fn listened(&self, told: &Batch) {
        let mut progress = self.progress();
        let stats = &mut progress.stats;
        stats.last_listened_at = Some(wall_clock());
        let first = told.changes.iter().find_map(|change| revision(&change.event));
        stats.lag_events = told.behind.map(|behind| behind.saturating_add(told.changes.len() as u64));
        let age = told.now.zip(first).map(|(now, first)| now.saturating_sub(first));
        stats.lag = Duration::from_micros(age.unwrap_or_default());
    }

    /// All events before this position are handled.
    fn handled(&self, next: Position, behind: Option<u64>) {
        let stats = &mut self.progress().stats;
        stats.next = next;
        stats.lag_events = behind;
        if behind == Some(0) {
            stats.lag = Duration::ZERO;
        }
    }

    /// Handles events in turn. Returns whether all are handled; if not, the watcher is to stop.
    async fn handle_all(&self, changes: Vec<BatchChange>) -> bool {
        for BatchChange { event, created } in changes {
            if is_wanted(&self.options, &event, created) && !self.handle(event).await {
                return false;
            }
        }
        true
    }

    /// Handles an event, as often as it takes.
    async fn handle(&self, event: Event) -> bool {
        let Some(handler) = self.handler.get() else { return false };
        let mut backoff = Backoff::new(self.options.first_backoff, self.options.max_backoff);
        let mut attempts = 0;
        loop {
            if self.is_stopping() {
                return false;
            }
            let handled = handler.handle(event.clone()).await;
            attempts += 1;
            let Err(error) = handled else {
                let stats = &mut self.progress().stats;
                stats.processed += 1;
                stats.last_processed = revision(&event).or(stats.last_processed);
                stats.last_processed_at = Some(wall_clock());
                return true;
            };
            self.progress().stats.handler_failures += 1;
            self.note(&error);
            if self.options.attempts().is_some_and(|most| attempts >= most) {
                self.progress().stats.skipped += 1;
                return true;
            }
            // the checkpoint may not expire while the event is tried again and again
            if self.options.checkpoint_every.is_some() && self.progress().saved_at.is_some_and(is_old) {
                self.save_next().await;
            }
            self.until_stop(sleep(backoff.next(None))).await;
        }
    }

    /// Writes the checkpoint. If the store fails, the next one is written later.
    async fn save_next(&self) {
        if self.options.is_ephemeral {
            return;
        }
        let next = self.progress().stats.next.clone();
        // a watcher without a checkpoint begins there
        if next == Position::Oldest && self.progress().known == 0 {
            return;
        }
        let saved = self.save(&next).await;
        if let Err(error) = &saved {
            self.note(error);
        }
        self.progress().save_error = saved.err();
    }
}

/// Whether the handler is to get an event. What says that changes are missing concerns it always.
fn is_wanted(options: &WatcherOptions, event: &Event, created: Option<bool>) -> bool {
    match event {
        Event::Deleted { .. } => options.has(Some(Kind::Delete)),
        Event::Added(_) | Event::Updated(_) => {
            options.has(created.map(|created| if created { Kind::Create } else { Kind::Update }))
        }
        _ => true,
    }
}

fn is_old(saved_at: Instant) -> bool {
    saved_at.elapsed() > REFRESH
}

fn revision(event: &Event) -> Option<u64> {
    match event {
        Event::Added(entry) | Event::Updated(entry) => Some(entry.revision),
        Event::Deleted { revision, .. } => Some(*revision),
        _ => None,
    }
}

#[allow(clippy::disallowed_methods, reason = "a client has no clock of a node")]
fn wall_clock() -> SystemTime {
    SystemTime::now()
}
