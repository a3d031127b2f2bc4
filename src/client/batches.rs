//! The changes of a watch, batch by batch.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::backoff::Backoff;
use super::error::Error;
use super::events::Event;
use super::told::{ResetReason, Told};
use super::transport::{Answer, ReceivedBatch};
use super::watch::{Form, Watch};

/// Reads batches of a watch of all versions.
#[derive(Debug)]
pub(super) struct Batches {
    watch: Watch,
    limit: usize,
    /// How many nodes, one after the other, have said that the cursor is ahead of them.
    behind: usize,
    backoff: Backoff,
}

/// Changes, and the cursor after them.
#[derive(Debug)]
pub(super) struct Batch {
    pub(super) changes: Vec<BatchChange>,
    pub(super) cursor: String,
    /// How many changes of the node lie behind the cursor, if the node knows.
    pub(super) behind: Option<u64>,
    /// The clock of the node in µs since 1970, if it told it.
    pub(super) now: Option<u64>,
}

/// A change as a batch has it.
#[derive(Debug)]
pub(super) struct BatchChange {
    pub(super) event: Event,
    /// Of a value: whether it is the first one, if the node knows.
    pub(super) created: Option<bool>,
}

impl Batches {
    /// Batches of at most so many changes.
    pub(super) fn new(watch: Watch, limit: usize) -> Self {
        Self { watch: watch.all_versions(), limit, behind: 0, backoff: Backoff::default() }
    }

    /// The next batch after a position. It may be empty, at the latest after `timeout`.
    pub(super) async fn next(&mut self, since: &str, timeout: Duration) -> Result<Batch, Error> {
        let client = self.watch.client.clone();
        loop {
            let asked = Instant::now();
            let form = Form::Batch { limit: self.limit, timeout };
            let request = self.watch.request(Some(since), form);
            let until = asked + timeout + client.inner.timeout;
            let readers = client.readers().await?;
            let answer = readers.send(&request, until).await?;
            if !answer.status.is_success() {
                return Err(Error::of(&answer));
            }
            let batch = self.read(&answer)?;
            let is_ahead = batch.changes.iter().any(|change| matches!(change.event, Event::Ahead { .. }));
            self.behind = if is_ahead { self.behind + 1 } else { 0 };
            if is_ahead && self.behind < readers.count() {
                // another node may have what this one lacks
                readers.leave(&answer.from);
                continue;
            }
            if batch.changes.is_empty() && batch.cursor == since && asked.elapsed() < timeout / 2 {
                // the node stops, or cannot let the request wait
                readers.leave(&answer.from);
                sleep(self.backoff.next(None)).await;
            } else {
                self.backoff.reset();
            }
            return Ok(batch);
        }
    }

    fn read(&self, answer: &Answer) -> Result<Batch, Error> {
        let ReceivedBatch { events, cursor, behind, now, .. } = answer.json()?;
        let client = &self.watch.client;
        let relative = |name| client.place.relative(name);
        let mut changes = Vec::new();
        for event in events {
            let mut created = None;
            let event = match Told::read(event, &answer.from)? {
                Told::Put { mut entry, created: is_created } => {
                    client.stamps().see(&entry.name, entry.revision);
                    entry.name = relative(entry.name);
                    created = is_created;
                    if is_created == Some(true) { Event::Added(entry) } else { Event::Updated(entry) }
                }
                Told::Delete { name, revision } => {
                    client.stamps().see_delete(&name, revision);
                    Event::Deleted { name: relative(name), revision }
                }
                Told::Reset(reason) => {
                    if reason == ResetReason::NewSet {
                        client.stamps().forget_set();
                    }
                    Event::Reset { reason }
                }
                Told::Compacted(names) => {
                    Event::Compacted { names: names.map(|names| names.into_iter().map(relative).collect()) }
                }
                Told::Ahead { writes } => Event::Ahead { writes },
                Told::Synced | Told::Other => continue,
            };
            changes.push(BatchChange { event, created });
        }
        Ok(Batch { changes, cursor, behind, now })
    }
}
