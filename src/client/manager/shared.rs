//! What the handles and the task of a watcher share.

use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, SystemTime};

use tokio::sync::{Notify, watch};
use tokio::time::Instant;

use super::checkpoints::CheckpointStore;
use super::handler::BoxedHandler;
use super::options::WatcherOptions;
use super::position::Position;
use crate::client::error::Error;
use crate::client::watch::Watch;

/// A checkpoint that does not change is written again so often: it expires at the nodes (`--checkpoint-expiry`, 24 h).
pub(super) const REFRESH: Duration = Duration::from_secs(3600);

/// What a [`Watcher`](super::Watcher) does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum WatcherState {
    /// It was not started.
    #[default]
    Idle,
    /// It handles events, or waits for some.
    Running,
    /// It is about to stop: its handler is at work, or its checkpoint is being written.
    Stopping,
    /// It was stopped, and can be started again.
    Stopped,
}

/// What a [`Watcher`](super::Watcher) has done.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct WatcherStats {
    /// What it does.
    pub state: WatcherState,
    /// Where it goes on: after the last batch whose events are all handled.
    pub next: Position,
    /// Where its next start begins: its checkpoint, or the position that it was made with.
    pub checkpoint: Position,
    /// The revision of the last event that was handled, in µs since 1970.
    pub last_processed: Option<u64>,
    /// When that was.
    pub last_processed_at: Option<SystemTime>,
    /// When a node has answered last.
    pub last_listened_at: Option<SystemTime>,
    /// Number of events that were handled.
    pub processed: u64,
    /// Number of events that were skipped.
    pub skipped: u64,
    /// Number of attempts of the handler that failed.
    pub handler_failures: u64,
    /// How many changes of its node it has not handled, as of the last answer; `None` if the node did not know. Changes
    /// of other names count too.
    pub lag_events: Option<u64>,
    /// How old the first event was that it has not handled, as of the last answer, by the clock of the node.
    pub lag: Duration,
    /// How often a checkpoint stood that another process has written under this id since this one began.
    pub rivals: u64,
    /// The last failure, for humans: of the handler, the nodes or the store.
    pub last_error: Option<String>,
}

/// What the handles and the task share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) id: String,
    pub(super) watch: Watch,
    pub(super) options: WatcherOptions,
    pub(super) store: Arc<dyn CheckpointStore>,
    pub(super) handler: OnceLock<BoxedHandler>,
    pub(super) phase: watch::Sender<Phase>,
    /// Held by what stops and starts it again.
    pub(super) control: tokio::sync::Mutex<()>,
    /// How often it was told to stop.
    pub(super) stops: AtomicU64,
    pub(super) stop: Notify,
    pub(super) progress: Mutex<Progress>,
    /// One checkpoint is written at a time.
    pub(super) saving: tokio::sync::Mutex<()>,
}

/// The state, and the number of the run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Phase {
    pub(super) state: WatcherState,
    pub(super) run: u64,
}

#[derive(Debug)]
pub(super) struct Progress {
    pub(super) stats: WatcherStats,
    /// The revision of the last checkpoint of this process, or of the one that it began with.
    pub(super) known: u64,
    /// When that was written.
    pub(super) saved_at: Option<Instant>,
    /// What this process has tried to write last.
    pub(super) tried: Option<Position>,
    /// Why the last checkpoint was not written.
    pub(super) save_error: Option<Error>,
}

impl Shared {
    pub(super) fn progress(&self) -> MutexGuard<'_, Progress> {
        // each change is whole
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells the task to stop.
    pub(super) fn stop(&self) {
        self.phase.send_if_modified(|phase| {
            phase.state = match phase.state {
                WatcherState::Idle => WatcherState::Stopped,
                WatcherState::Running => WatcherState::Stopping,
                WatcherState::Stopping | WatcherState::Stopped => return false,
            };
            true
        });
        self.stop.notify_waiters();
    }

    pub(super) fn is_stopping(&self) -> bool {
        self.phase.borrow().state != WatcherState::Running
    }

    /// Writes a checkpoint, if it is a new one, or might expire. The newest write stands: one of another process is
    /// noticed and replaced.
    pub(super) async fn save(&self, position: &Position) -> Result<(), Error> {
        let _one = self.saving.lock().await;
        let is_fresh = self.progress().saved_at.is_some_and(|at| at.elapsed() < REFRESH);
        if is_fresh && self.progress().stats.checkpoint == *position {
            return Ok(());
        }
        let before = self.store.load(&self.id).await?;
        let (known, tried) = {
            let progress = self.progress();
            (progress.known, progress.tried.clone())
        };
        // a write of this process may have no answer
        if before.is_some_and(|found| found.revision > known && Some(found.position) != tried) {
            self.progress().stats.rivals += 1;
            tracing::warn!(
                target: "vwatch::client",
                watcher = self.id,
                "another process has written the checkpoint of this watcher: use one process for each id"
            );
        }
        self.progress().tried = Some(position.clone());
        let revision = self.store.save(&self.id, position).await?;
        let mut progress = self.progress();
        progress.known = revision.max(known);
        progress.saved_at = Some(Instant::now());
        progress.stats.checkpoint = position.clone();
        Ok(())
    }
}
