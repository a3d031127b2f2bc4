//! Watchers whose events a handler of the program handles, one after the other, each at least once; with checkpoints,
//! so that a program that starts again goes on where it was.

mod checkpoints;
mod handler;
mod options;
mod position;
mod run;
mod shared;
mod watcher;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::task::JoinSet;

pub use checkpoints::{Checkpoint, CheckpointStore, InFiles, InGroup, InMemory, StoreFuture};
pub use handler::{Codec, HandlerError, HandlerResult, Json, Raw, decoding};
pub use options::{Kind, RetryStrategy, WatcherOptions};
pub use position::{NoPosition, Position};
pub use shared::{WatcherState, WatcherStats};
pub use watcher::Watcher;

use super::error::Error;
use super::{Client, Scope};

/// How long [`Manager::stop`] waits for the handlers.
const STOP_TIME: Duration = Duration::from_secs(30);

/// Why a [`Manager`] or a [`Watcher`] does not do what it is told.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum WatcherError {
    /// The manager has a watcher with this id.
    Exists,
    /// A watcher needs a handler before it starts.
    NoHandler,
    /// The watcher has a handler.
    HandlerSet,
    /// The watcher runs, or is about to stop.
    Running,
    /// An [ephemeral](WatcherOptions::ephemeral) watcher has no checkpoints.
    Ephemeral,
    /// The handler is still at work when the time is over. The watcher stops when it is done.
    StillAtWork,
    /// The nodes, or the store of the checkpoints.
    Failed(Error),
}

impl fmt::Display for WatcherError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Exists => "there is a watcher with this id",
            Self::NoHandler => "the watcher has no handler",
            Self::HandlerSet => "the watcher has a handler",
            Self::Running => "the watcher runs",
            Self::Ephemeral => "an ephemeral watcher has no checkpoints",
            Self::StillAtWork => "the handler is still at work",
            Self::Failed(error) => return error.fmt(f),
        })
    }
}

impl std::error::Error for WatcherError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Failed(error) => Some(error),
            _ => None,
        }
    }
}

impl From<Error> for WatcherError {
    fn from(error: Error) -> Self {
        Self::Failed(error)
    }
}

/// The watchers of a program, each with an id. Clones share them.
///
/// ```no_run
/// # async fn example(client: vwatch::client::Client) -> Result<(), vwatch::client::WatcherError> {
/// use vwatch::client::{Event, InGroup, Manager, Scope, WatcherOptions};
///
/// let manager = Manager::new(&client, InGroup::new(&client));
/// let indexer = manager.create("indexer", Scope::prefix("docs/"), WatcherOptions::new()).await?;
/// indexer.set_handler(|event| async move {
///     match event {
///         Event::Added(entry) | Event::Updated(entry) => println!("index {} {}", entry.name, entry.version),
///         Event::Deleted { name, .. } => println!("remove {name}"),
///         // versions are missing: look at all of it
///         _ => println!("index again"),
///     }
///     Ok(())
/// })?;
/// indexer.start()?;
/// # manager.stop().await?;
/// # Ok(())
/// # }
/// ```
///
/// # Promises
/// - The handler gets the events of its scope one after the other, in the order in which a node learned of them: every
///   version that is kept, as with [`all_versions`](super::Watch::all_versions). What is missing is told too.
/// - It gets each at least once. A checkpoint is a position before which all events are handled; after a crash the
///   events after it come again.
/// - A checkpoint counts more than the position in the options.
/// - One process at a time is to use an id. If a second one writes its checkpoint, the newest write stands, and both
///   notice: [`WatcherStats::rivals`] counts.
#[derive(Clone, Debug)]
pub struct Manager {
    client: Client,
    store: Arc<dyn CheckpointStore>,
    watchers: Arc<Mutex<BTreeMap<String, Option<Watcher>>>>,
    /// How often all were told to stop.
    stops: Arc<AtomicU64>,
}

impl Manager {
    /// A manager without watchers, whose checkpoints are in this store.
    pub fn new(client: &Client, store: impl CheckpointStore) -> Self {
        Self {
            client: client.clone(),
            store: Arc::new(store),
            watchers: Arc::default(),
            stops: Arc::default(),
        }
    }

    /// Makes a watcher. If all are stopped meanwhile, it is not started. Its place is settled now: its checkpoint, if
    /// there is one, and else the position in the options. A position in the future becomes [`Position::Now`], with a
    /// warning.
    ///
    /// # Errors
    /// [`WatcherError::Exists`], [`WatcherError::NoHandler`] if it is to start without one, and
    /// [`WatcherError::Failed`] if the store or the nodes do not answer, or the checkpoint is one of another scope
    /// ([`Error::BadCursor`]).
    pub async fn create(
        &self,
        id: &str,
        scope: Scope,
        options: WatcherOptions,
    ) -> Result<Watcher, WatcherError> {
        if options.starts && options.handler.is_none() {
            return Err(WatcherError::NoHandler);
        }
        let mut reserved = Reserved::new(self, id)?;
        let (starts, stops) = (options.starts, self.stops.load(Ordering::SeqCst));
        let watcher = Watcher::create(&self.client, Arc::clone(&self.store), id, scope, options).await?;
        reserved.keep(watcher.clone());
        // one that all are stopped beside stays idle
        if starts && self.stops.load(Ordering::SeqCst) == stops {
            watcher.start()?;
            if self.stops.load(Ordering::SeqCst) != stops {
                watcher.stop_within(STOP_TIME).await?;
            }
        }
        Ok(watcher)
    }

    /// The watcher with this id.
    #[must_use]
    pub fn lookup(&self, id: &str) -> Option<Watcher> {
        self.watchers().get(id).cloned().flatten()
    }

    /// Stops a watcher, within 30 s, and forgets it: its id is free then. The checkpoint stays.
    ///
    /// # Errors
    /// As [`stop_within`](Self::stop_within): then it is not forgotten.
    pub async fn remove(&self, id: &str) -> Result<(), WatcherError> {
        if let Some(watcher) = self.lookup(id) {
            watcher.stop_within(STOP_TIME).await?;
            let mut watchers = self.watchers();
            // another task may have made a new one
            if watchers.get(id).is_some_and(|found| found.as_ref().is_some_and(|found| found.is(&watcher))) {
                watchers.remove(id);
            }
        }
        Ok(())
    }

    /// Stops all watchers at the same time, within 30 s.
    ///
    /// # Errors
    /// As [`stop_within`](Self::stop_within).
    pub async fn stop(&self) -> Result<(), WatcherError> {
        self.stop_within(STOP_TIME).await
    }

    /// Stops all watchers at the same time: none begins with another event, and checkpoints are written.
    ///
    /// # Errors
    /// [`WatcherError::StillAtWork`] if a handler is still at work when the time is over, [`WatcherError::Failed`] if a
    /// checkpoint could not be written. All others have stopped.
    pub async fn stop_within(&self, time: Duration) -> Result<(), WatcherError> {
        self.stops.fetch_add(1, Ordering::SeqCst);
        let watchers: Vec<Watcher> = self.watchers().values().flatten().cloned().collect();
        let mut stops = JoinSet::new();
        for watcher in watchers {
            stops.spawn(async move { watcher.stop_within(time).await });
        }
        stops.join_all().await.into_iter().collect()
    }

    fn watchers(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, Option<Watcher>>> {
        // each change is whole
        self.watchers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// An id while its watcher is made.
struct Reserved<'a> {
    manager: &'a Manager,
    id: &'a str,
    is_kept: bool,
}

impl<'a> Reserved<'a> {
    fn new(manager: &'a Manager, id: &'a str) -> Result<Self, WatcherError> {
        let mut watchers = manager.watchers();
        if watchers.contains_key(id) {
            return Err(WatcherError::Exists);
        }
        watchers.insert(id.to_owned(), None);
        drop(watchers);
        Ok(Self { manager, id, is_kept: false })
    }

    fn keep(&mut self, watcher: Watcher) {
        self.manager.watchers().insert(self.id.to_owned(), Some(watcher));
        self.is_kept = true;
    }
}

impl Drop for Reserved<'_> {
    fn drop(&mut self) {
        if !self.is_kept {
            self.manager.watchers().remove(self.id);
        }
    }
}
