//! How a watcher of a manager works.

use std::time::Duration;

use super::handler::{BoxedHandler, HandlerResult};
use super::position::Position;
use crate::client::Event;

/// A kind of change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A name has a value, and had none before. A value of which the node does not know that is of both kinds.
    Create,
    /// A name has another value.
    Update,
    /// A name is deleted.
    Delete,
}

/// What becomes of an event that its handler fails to handle.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RetryStrategy {
    /// It is tried again until it succeeds, whatever [`WatcherOptions::max_retries`] says. The events after it wait.
    #[default]
    Block,
    /// After [`WatcherOptions::max_retries`] attempts it is left out, and counts as skipped.
    Skip,
}

/// How a [`Watcher`](super::Watcher) works: see [`Manager::create`](super::Manager::create).
#[derive(Debug)]
#[must_use]
pub struct WatcherOptions {
    pub(super) start: Position,
    pub(super) kinds: Option<Vec<Kind>>,
    pub(super) has_data: bool,
    pub(super) batch: usize,
    pub(super) poll: Duration,
    pub(super) first_backoff: Duration,
    pub(super) max_backoff: Duration,
    pub(super) max_retries: u32,
    pub(super) strategy: RetryStrategy,
    pub(super) is_ephemeral: bool,
    pub(super) checkpoint_every: Option<Duration>,
    pub(super) handler: Option<BoxedHandler>,
    pub(super) starts: bool,
}

impl Default for WatcherOptions {
    fn default() -> Self {
        Self {
            start: Position::Oldest,
            kinds: None,
            has_data: true,
            batch: 100,
            poll: Duration::from_secs(10),
            first_backoff: Duration::from_millis(200),
            max_backoff: Duration::from_secs(180),
            max_retries: 3,
            strategy: RetryStrategy::Block,
            is_ephemeral: false,
            checkpoint_every: Some(Duration::from_secs(10)),
            handler: None,
            starts: false,
        }
    }
}

impl WatcherOptions {
    /// The defaults: from the oldest version that is kept, all kinds of changes, with checkpoints, [blocking] at an
    /// event that fails.
    ///
    /// [blocking]: RetryStrategy::Block
    pub fn new() -> Self {
        Self::default()
    }

    /// Where the watcher begins, if it has no checkpoint ([`Position::Oldest`]).
    pub fn start_at(self, start: Position) -> Self {
        Self { start, ..self }
    }

    /// Only these kinds of changes. What says that changes are missing is told all the same.
    pub fn only(self, kinds: impl IntoIterator<Item = Kind>) -> Self {
        Self { kinds: Some(kinds.into_iter().collect()), ..self }
    }

    /// Without the data of the names.
    pub fn without_data(self) -> Self {
        Self { has_data: false, ..self }
    }

    /// Most events of one request, 1 to 10,000 (100). A checkpoint stands between two requests: so this is also about
    /// how many events are told again after a crash.
    pub fn batch(self, events: usize) -> Self {
        Self { batch: events.clamp(1, 10_000), ..self }
    }

    /// How long a node may hold a request while there is nothing to tell, 100 ms to 60 s (10 s).
    pub fn long_poll(self, timeout: Duration) -> Self {
        Self { poll: timeout.clamp(Duration::from_millis(100), Duration::from_secs(60)), ..self }
    }

    /// The longest pause after a failure, of a node or of the handler: at first, and at most (200 ms and 3 minutes).
    /// Each pause is random up to a bound, which doubles.
    pub fn backoff(self, first: Duration, most: Duration) -> Self {
        Self { first_backoff: first, max_backoff: most, ..self }
    }

    /// With [`RetryStrategy::Skip`]: how often an event is tried in all (3). It is tried once at least.
    pub fn max_retries(self, attempts: u32) -> Self {
        Self { max_retries: attempts, ..self }
    }

    /// What becomes of an event that fails.
    pub fn retry(self, strategy: RetryStrategy) -> Self {
        Self { strategy, ..self }
    }

    /// Without checkpoints: each run begins where the options say.
    pub fn ephemeral(self) -> Self {
        Self { is_ephemeral: true, ..self }
    }

    /// How often the checkpoint is written while there are events (10 s), and when the watcher stops. `None`: only by
    /// [`Watcher::checkpoint`](super::Watcher::checkpoint).
    pub fn checkpoint_every(self, period: Option<Duration>) -> Self {
        Self { checkpoint_every: period, ..self }
    }

    /// The handler, as by [`Watcher::set_handler`](super::Watcher::set_handler).
    pub fn handler<F, R>(self, handler: F) -> Self
    where
        F: Fn(Event) -> R + Send + Sync + 'static,
        R: Future<Output = HandlerResult> + Send + 'static,
    {
        Self { handler: Some(BoxedHandler::new(handler)), ..self }
    }

    /// Starts the watcher when it is made. It needs a [`handler`](Self::handler).
    pub fn auto_start(self) -> Self {
        Self { starts: true, ..self }
    }

    /// Whether the handler is to get changes of this kind; `None` of a value that may be the first one, or not.
    pub(super) fn has(&self, kind: Option<Kind>) -> bool {
        self.kinds.as_ref().is_none_or(|kinds| match kind {
            Some(kind) => kinds.contains(&kind),
            None => kinds.iter().any(|kind| *kind != Kind::Delete),
        })
    }

    /// How often an event may be tried; `None` without end.
    pub(super) fn attempts(&self) -> Option<u32> {
        (self.strategy == RetryStrategy::Skip).then(|| self.max_retries.max(1))
    }
}
