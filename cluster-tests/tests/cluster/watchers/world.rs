//! What the tests of watchers with handlers share: a log at a node, programs that watch it, and what they were told.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use cluster_tests::wait::LIMIT;
use vwatch::client::{
    Client, Event, HandlerResult, InMemory, Manager, Position, Scope, Watcher, WatcherOptions,
};

use super::Here;

/// A node with a log of events, all of one type.
pub(super) struct World {
    pub(super) here: Here,
    pub(super) log: Client,
    pub(super) store: InMemory,
    pub(super) manager: Manager,
}

impl World {
    /// A log without events.
    pub(super) async fn new() -> Self {
        Self::at(Here::start().await)
    }

    /// The log of a node.
    pub(super) fn at(here: Here) -> Self {
        let log = here.client().namespace("log.test").expect("a namespace");
        let store = InMemory::new();
        let manager = Manager::new(&log, store.clone());
        Self { here, log, store, manager }
    }

    /// A log with so many events, and their revisions.
    pub(super) async fn with(events: usize) -> (Self, Vec<u64>) {
        let world = Self::new().await;
        let revisions = world.store(events).await;
        (world, revisions)
    }

    /// Adds events.
    pub(super) async fn store(&self, events: usize) -> Vec<u64> {
        let mut revisions = Vec::new();
        for number in 0..events {
            let stored = self.log.store_event("e", number.to_string()).await.expect("an event");
            revisions.push(stored.revision);
        }
        revisions
    }

    /// A manager of another run of the program, with the same checkpoints.
    pub(super) fn other_run(&self) -> Manager {
        Manager::new(&self.log, self.store.clone())
    }
}

/// All events of the log.
pub(super) fn all() -> Scope {
    Scope::prefix("")
}

/// A watcher that handles one event at a time, and writes no checkpoint by itself.
pub(super) fn one_by_one() -> WatcherOptions {
    let poll = Duration::from_millis(500);
    let pause = Duration::from_millis(1);
    WatcherOptions::new().batch(1).long_poll(poll).backoff(pause, pause).checkpoint_every(None)
}

/// What a handler was given.
#[derive(Clone, Debug, Default)]
pub(super) struct Seen(Arc<Mutex<Vec<Event>>>);

impl Seen {
    pub(super) fn note(&self, event: Event) {
        self.0.lock().expect("no panic").push(event);
    }

    /// A handler that succeeds.
    pub(super) fn handler(
        &self,
    ) -> impl Fn(Event) -> std::future::Ready<HandlerResult> + Send + Sync + 'static {
        let seen = self.clone();
        move |event| {
            seen.note(event);
            std::future::ready(Ok(()))
        }
    }

    pub(super) fn events(&self) -> Vec<Event> {
        self.0.lock().expect("no panic").clone()
    }

    pub(super) fn revisions(&self) -> Vec<u64> {
        let revision = |event: &Event| match event {
            Event::Added(entry) | Event::Updated(entry) => entry.revision,
            Event::Deleted { revision, .. } => *revision,
            other => panic!("{other:?}"),
        };
        self.events().iter().map(revision).collect()
    }

    /// Waits for exactly these revisions.
    pub(super) async fn become_revisions(&self, revisions: &[u64]) {
        eventually(&format!("{revisions:?}"), || self.revisions().len() >= revisions.len()).await;
        assert_eq!(self.revisions(), revisions);
    }
}

/// Waits until a condition holds.
pub(super) async fn eventually(what: &str, holds: impl Fn() -> bool) {
    let began = Instant::now();
    while !holds() {
        assert!(began.elapsed() < LIMIT, "waited in vain for {what}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

/// Waits until a watcher has read all that there is, and handled it.
pub(super) async fn is_through(watcher: &Watcher) {
    eventually("the watcher to be through", || {
        let stats = watcher.stats();
        stats.lag_events == Some(0) && matches!(stats.next, Position::Cursor(_))
    })
    .await;
}
