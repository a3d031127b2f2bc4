//! A watcher with a handler.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use tokio::sync::{Notify, watch};
use tokio::time::timeout;

use super::handler::{BoxedHandler, HandlerResult};
use super::options::WatcherOptions;
use super::position::Position;
use super::run::run;
use super::shared::{Phase, Progress, Shared, WatcherState, WatcherStats};
use super::{CheckpointStore, STOP_TIME, WatcherError};
use crate::client::batches::Batches;
use crate::client::error::Error;
use crate::client::{Client, Event, Scope, Watch};
use crate::core::Stamp;
use crate::wire::error_code::ErrorCode;

/// A watcher of a [`Manager`](super::Manager). Clones share it. It stops when the last clone and its manager are
/// dropped.
#[derive(Clone, Debug)]
pub struct Watcher(Arc<Owner>);

/// Ends the task with the last handle.
#[derive(Debug)]
struct Owner {
    shared: Arc<Shared>,
}

impl Drop for Owner {
    fn drop(&mut self) {
        self.shared.stop();
    }
}

impl Watcher {
    pub(super) async fn create(
        client: &Client,
        store: Arc<dyn CheckpointStore>,
        id: &str,
        scope: Scope,
        mut options: WatcherOptions,
    ) -> Result<Self, WatcherError> {
        let mut watch = client.watch(scope);
        if !options.has_data {
            watch = watch.without_data();
        }
        let kept = if options.is_ephemeral { None } else { store.load(id).await? };
        let known = kept.as_ref().map_or(0, |kept| kept.revision);
        let is_new = kept.is_none();
        let position = match kept {
            Some(kept) => accepted(&watch, kept.position).await?,
            None => settled(&watch, options.start.clone(), id).await?,
        };
        let is_settled = is_new && matches!(position, Position::Cursor(_));
        let handler = OnceLock::new();
        if let Some(given) = options.handler.take() {
            handler.get_or_init(|| given);
        }
        let stats = WatcherStats {
            state: WatcherState::Idle,
            next: position.clone(),
            checkpoint: position,
            last_processed: None,
            last_processed_at: None,
            last_listened_at: None,
            processed: 0,
            skipped: 0,
            handler_failures: 0,
            lag_events: None,
            lag: Duration::ZERO,
            rivals: 0,
            last_error: None,
        };
        let shared = Shared {
            id: id.to_owned(),
            watch,
            options,
            store,
            handler,
            phase: watch::Sender::new(Phase::default()),
            control: tokio::sync::Mutex::default(),
            stops: AtomicU64::new(0),
            stop: Notify::new(),
            progress: Mutex::new(Progress { stats, known, saved_at: None, tried: None, save_error: None }),
            saving: tokio::sync::Mutex::default(),
        };
        let watcher = Self(Arc::new(Owner { shared: Arc::new(shared) }));
        // after a crash before the first checkpoint, now would be a later one
        let options = &watcher.shared().options;
        if is_settled && !options.is_ephemeral && options.checkpoint_every.is_some() {
            let position = watcher.stats().next;
            watcher.save(position).await?;
        }
        Ok(watcher)
    }

    /// Its id.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.shared().id
    }

    /// Sets what handles its events, once.
    ///
    /// The handler gets one event at a time. If it fails, the event comes again after a pause, or is skipped: see
    /// [`RetryStrategy`](super::RetryStrategy).
    ///
    /// # Errors
    /// [`WatcherError::HandlerSet`].
    pub fn set_handler<F, R>(&self, handler: F) -> Result<(), WatcherError>
    where
        F: Fn(Event) -> R + Send + Sync + 'static,
        R: Future<Output = HandlerResult> + Send + 'static,
    {
        self.shared().handler.set(BoxedHandler::new(handler)).map_err(|_| WatcherError::HandlerSet)
    }

    /// Starts it, where its checkpoint is. It needs the runtime of tokio in which this is called.
    ///
    /// # Errors
    /// [`WatcherError::NoHandler`], and [`WatcherError::Running`] if it runs, or is about to stop or to
    /// [seek](Self::seek_to).
    ///
    /// # Panics
    /// Outside of a runtime of tokio.
    pub fn start(&self) -> Result<(), WatcherError> {
        let _one = self.shared().control.try_lock().map_err(|_| WatcherError::Running)?;
        self.begin()
    }

    fn begin(&self) -> Result<(), WatcherError> {
        let shared = self.shared();
        if shared.handler.get().is_none() {
            return Err(WatcherError::NoHandler);
        }
        let is_begun = shared.phase.send_if_modified(|phase| {
            let may_start = matches!(phase.state, WatcherState::Idle | WatcherState::Stopped);
            if may_start {
                *phase = Phase { state: WatcherState::Running, run: phase.run + 1 };
            }
            may_start
        });
        if !is_begun {
            return Err(WatcherError::Running);
        }
        {
            let stats = &mut shared.progress().stats;
            stats.next = stats.checkpoint.clone();
        }
        tokio::spawn(run(Arc::clone(shared)));
        Ok(())
    }

    /// Stops it within 30 s: as [`stop_within`](Self::stop_within).
    ///
    /// # Errors
    /// As [`stop_within`](Self::stop_within).
    pub async fn stop(&self) -> Result<(), WatcherError> {
        self.stop_within(STOP_TIME).await
    }

    /// Stops it: it begins with no other event, and writes its checkpoint. It may be called at any time, also by
    /// several tasks.
    ///
    /// # Errors
    /// [`WatcherError::StillAtWork`] if the handler is at work when the time is over: it stops when that is done.
    /// [`WatcherError::Failed`] if it has stopped and its checkpoint could not be written.
    pub async fn stop_within(&self, time: Duration) -> Result<(), WatcherError> {
        self.shared().stops.fetch_add(1, Ordering::SeqCst);
        self.halt(time).await
    }

    async fn halt(&self, time: Duration) -> Result<(), WatcherError> {
        let shared = self.shared();
        let mut phase = shared.phase.subscribe();
        let now = phase.borrow().run;
        shared.stop();
        // another task may start it again at once
        let stopped = phase.wait_for(|phase| phase.state == WatcherState::Stopped || phase.run > now);
        timeout(time, stopped).await.map_err(|_| WatcherError::StillAtWork)?.ok();
        shared.progress().save_error.take().map_or(Ok(()), |error| Err(error.into()))
    }

    /// Writes a checkpoint after the events that are handled: those of all batches but the last, if that is not done.
    ///
    /// # Errors
    /// [`WatcherError::Ephemeral`], and [`WatcherError::Failed`] if the store fails.
    pub async fn checkpoint(&self) -> Result<(), WatcherError> {
        if self.shared().options.is_ephemeral {
            return Err(WatcherError::Ephemeral);
        }
        let position = self.shared().progress().stats.next.clone();
        self.save(position).await
    }

    /// Writes a checkpoint, also if the caller is dropped: no later one may come before it.
    async fn save(&self, position: Position) -> Result<(), WatcherError> {
        let shared = Arc::clone(self.shared());
        let saved = tokio::spawn(async move { shared.save(&position).await }).await;
        // the task ends only with its runtime
        Ok(saved.unwrap_or_else(|error| Err(Error::File { message: error.to_string() }))?)
    }

    /// Goes to another position, which is its checkpoint then: it stops, and starts again if it was running and is not
    /// told to stop meanwhile. An ephemeral watcher begins there at its next starts too. If the future is dropped, it
    /// may stay stopped.
    ///
    /// # Errors
    /// [`WatcherError::StillAtWork`], as of [`stop`](Self::stop); [`WatcherError::Failed`] if the store fails, or the
    /// nodes do not answer or do not take the position: then it goes on where it was.
    pub async fn seek_to(&self, position: Position) -> Result<(), WatcherError> {
        let shared = self.shared();
        let _one = shared.control.lock().await;
        let position = match position {
            Position::Cursor(_) => accepted(&shared.watch, position).await?,
            position => settled(&shared.watch, position, &shared.id).await?,
        };
        let stops = shared.stops.load(Ordering::SeqCst);
        let was_running = shared.phase.borrow().state == WatcherState::Running;
        match self.halt(STOP_TIME).await {
            // its own checkpoint is replaced now
            Ok(()) | Err(WatcherError::Failed(_)) => {}
            Err(error) => return Err(error),
        }
        let saved = if shared.options.is_ephemeral { Ok(()) } else { self.save(position.clone()).await };
        if saved.is_ok() {
            let stats = &mut shared.progress().stats;
            (stats.checkpoint, stats.next) = (position.clone(), position);
        }
        if was_running && shared.stops.load(Ordering::SeqCst) == stops {
            self.begin()?;
            if shared.stops.load(Ordering::SeqCst) != stops {
                shared.stop();
            }
        }
        saved
    }

    /// What it does, and what it has done.
    #[must_use]
    pub fn stats(&self) -> WatcherStats {
        let shared = self.shared();
        let state = shared.phase.borrow().state;
        WatcherStats { state, ..shared.progress().stats.clone() }
    }

    /// Whether it is the same one.
    pub(super) fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    fn shared(&self) -> &Arc<Shared> {
        &self.0.shared
    }
}

/// The position, if the nodes accept it for this watch.
async fn accepted(watch: &Watch, position: Position) -> Result<Position, Error> {
    match look(watch, &position).await {
        // the nodes say so later, if it is wrong
        Ok(_) | Err(Error::Unavailable { .. }) => Ok(position),
        Err(error) => Err(error),
    }
}

/// The position from which on nothing is told that the program does not want: `now` is another one at each moment.
async fn settled(watch: &Watch, position: Position, id: &str) -> Result<Position, Error> {
    match position {
        Position::Now => Ok(Position::Cursor(look(watch, &Position::Now).await?)),
        Position::At(revision) | Position::After(revision) => match look_at(watch, &position, revision).await
        {
            Ok(()) => Ok(position),
            Err(Error::Rejected { code: Some(ErrorCode::FutureStamp), .. }) => {
                tracing::warn!(
                    target: "vwatch::client",
                    watcher = id,
                    %position,
                    "the position is in the future: the watcher begins now"
                );
                Ok(Position::Cursor(look(watch, &Position::Now).await?))
            }
            Err(error) => Err(error),
        },
        Position::Oldest | Position::Cursor(_) => Ok(position),
    }
}

/// Checks a position of a revision.
async fn look_at(watch: &Watch, position: &Position, revision: u64) -> Result<(), Error> {
    if revision > Stamp::MAX.micros() {
        let message = format!("no revision is as late as {revision}");
        return Err(Error::Rejected { status: 400, code: Some(ErrorCode::FutureStamp), message });
    }
    look(watch, position).await.map(drop)
}

/// The cursor after at most one event from a position on.
async fn look(watch: &Watch, position: &Position) -> Result<String, Error> {
    let batch = Batches::new(watch.clone(), 1).next(&position.to_string(), Duration::ZERO).await?;
    Ok(batch.cursor)
}
