//! The events of a watch, which goes on at another node when its node fails.

#[cfg(test)]
pub(super) mod tests;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde::Deserialize;
use serde_json::{Map, Value as Json};
use tokio::time::{Instant, sleep_until};

use super::backoff::Backoff;
use super::error::Error;
use super::reads::CATCH_UP;
use super::transport::{Next, NotANode, ReceivedBatch, Writes};
use super::value::{Entry, unreadable_of};
use super::watch::Watch;
use crate::wire::error_code::ErrorCode;

/// A node that shows no sign of life for so long is left: three heartbeats.
const PATIENCE: Duration = Duration::from_secs(3);
/// The bytes of an entry beside its texts and its data.
const ENTRY_BYTES: usize = 128;

/// What a watch tells.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// All that stands at a node, in order of name: at the beginning, and where a node cannot go on from what the
    /// program has. What is not in it does not exist any more, as far as that node knows; what it has not heard of yet
    /// is told as soon as it has. A node that has a name in an older state than the program has seen is left for
    /// another one, for 10 s.
    Sync {
        /// The names.
        entries: Vec<Entry>,
    },
    /// A name has a value, and had none before.
    Added(Entry),
    /// A name has another value, or one of which the node does not know whether it is the first one.
    Updated(Entry),
    /// A name is deleted.
    Deleted {
        /// The name.
        name: String,
        /// The revision of the delete, in µs since 1970.
        revision: u64,
    },
}

/// The events of a [`Watch`]. When its node ends the stream, fails, freezes or goes away, it resumes at another node
/// after the last write that was taken: no change is missed, and one may be told again. A change that is older than
/// what the program has seen of its name is left out.
///
/// It has the events of one write of the node, and reads no further before they are taken. The node keeps nothing for
/// it: of a name that changes often, a slow program gets only the newest value.
#[derive(Debug)]
pub struct Events {
    watch: Watch,
    /// Where the next stream begins.
    resume: Option<String>,
    /// Where another program would begin.
    cursor: Option<String>,
    stream: Option<Writes>,
    queue: VecDeque<Event>,
    /// What stands, as far as it was told.
    snapshot: Option<Snapshot>,
    /// How many nodes, one after the other, have said that the cursor is ahead of them.
    behind: usize,
    /// Since when no node had all that the program has seen, when it told all that stands.
    late_since: Option<Instant>,
    backoff: Backoff,
    pause_until: Option<Instant>,
    /// Since when a stream is asked for, also over calls that were dropped.
    opening_since: Option<Instant>,
}

#[derive(Debug, Default)]
struct Snapshot {
    entries: BTreeMap<String, Entry>,
    bytes: usize,
    /// The names of which the program has seen a newer state.
    behind: BTreeSet<String>,
}

#[derive(Deserialize)]
struct Put {
    name: String,
    version: String,
    revision: u64,
    #[serde(default)]
    data: Option<String>,
    #[serde(default)]
    created: Option<bool>,
}

#[derive(Deserialize)]
struct Delete {
    name: String,
    revision: u64,
}

impl Watch {
    /// Begins with the first call of [`Events::next`].
    #[must_use]
    pub fn start(self) -> Events {
        Events::new(self)
    }
}

impl Events {
    fn new(watch: Watch) -> Self {
        let since = watch.since.clone();
        Self {
            snapshot: since.is_none().then(Snapshot::default),
            resume: since.clone(),
            cursor: since,
            stream: None,
            queue: VecDeque::new(),
            behind: 0,
            late_since: None,
            backoff: Backoff::default(),
            pause_until: None,
            opening_since: None,
            watch,
        }
    }

    /// A cursor after the events that the program has handled: all but the one that [`next`](Self::next) has returned
    /// last, and the rest of its write. `None` until the first write is handled. Every node takes it, for the same
    /// scope.
    #[must_use]
    pub fn cursor(&self) -> Option<&str> {
        self.cursor.as_deref()
    }

    /// The next event. It waits for as long as that takes. The future may be dropped: nothing is lost.
    ///
    /// # Errors
    /// [`Error::Unavailable`] if no node answers for the time limit of the client, [`Error::SyncTooLarge`], and any
    /// other error if the nodes reject the watch. A further call tries again where the watch was.
    pub async fn next(&mut self) -> Result<Event, Error> {
        loop {
            if let Some(event) = self.step().await? {
                return Ok(event);
            }
        }
    }

    /// As [`next`](Self::next). `None` is a sign that a node is followed, and that there is no event.
    pub(super) async fn step(&mut self) -> Result<Option<Event>, Error> {
        loop {
            if let Some(event) = self.queue.pop_front() {
                return Ok(Some(event));
            }
            // another program would not have what is not told yet
            if self.snapshot.is_none() {
                self.cursor.clone_from(&self.resume);
            }
            if let Some(until) = self.pause_until {
                sleep_until(until).await;
                self.pause_until = None;
            }
            let Some(stream) = &mut self.stream else {
                self.open().await?;
                continue;
            };
            let is_first = stream.writes == 0;
            match stream.next(PATIENCE).await {
                Next::Write(batch) => {
                    let is_good = !is_first || !batch.events.is_empty();
                    let from = stream.from().to_owned();
                    if let Err(error) = self.take(batch, &from).await {
                        self.leave(false).await?;
                        return Err(error);
                    }
                    if self.snapshot.is_none() && self.stream.is_some() {
                        if is_good {
                            self.backoff.reset();
                        }
                        if self.queue.is_empty() {
                            return Ok(None);
                        }
                    }
                }
                Next::End => self.leave(false).await?,
                Next::Lost(_) => self.leave(true).await?,
                Next::Refused { is_temporary: true, .. } => self.leave(true).await?,
                Next::Refused { code, why, .. } => {
                    self.leave(false).await?;
                    let status = code.map_or(0, ErrorCode::status);
                    return Err(Error::Rejected { status, code, message: why });
                }
                Next::Garbled(why) => {
                    self.leave(true).await?;
                    return Err(NotANode(why).into());
                }
            }
        }
    }

    /// Begins a stream.
    async fn open(&mut self) -> Result<(), Error> {
        let client = self.watch.client.clone();
        let readers = match client.readers().await {
            Ok(readers) => readers,
            Err(error) => {
                self.pause_until = Some(Instant::now() + self.backoff.next(None));
                return Err(error);
            }
        };
        // calls that are dropped each time do not stay at a node that does not answer
        let began = *self.opening_since.get_or_insert_with(Instant::now);
        if began.elapsed() > PATIENCE {
            readers.leave_first();
            self.opening_since = Some(Instant::now());
        }
        let request = self.watch.request(self.resume.as_deref());
        let sent = readers.send(&request, Instant::now() + client.inner.timeout).await;
        self.opening_since = None;
        if sent.is_err() {
            // for a program that calls again at once
            self.pause_until = Some(Instant::now() + self.backoff.next(None));
        }
        let mut answer = sent?;
        if let Some(lines) = answer.lines.take() {
            self.stream = Some(Writes::new(lines));
            return Ok(());
        }
        readers.leave(&answer.from);
        self.pause_until = Some(Instant::now() + self.backoff.next(None));
        if answer.status.is_success() {
            return Err(NotANode(answer.no_stream()).into());
        }
        match Error::of(&answer) {
            Error::BadCursor if self.resume.is_some() => {
                self.begin_again();
                Ok(())
            }
            error => Err(error),
        }
    }

    /// Leaves the present stream for the next node, after a pause.
    async fn leave(&mut self, is_failure: bool) -> Result<(), Error> {
        let Some(stream) = self.stream.take() else { return Ok(()) };
        self.pause_until = Some(Instant::now() + self.backoff.next(None));
        let readers = self.watch.client.readers().await?;
        match is_failure {
            true => readers.fails(stream.from()),
            false => readers.leave(stream.from()),
        }
        Ok(())
    }

    /// Begins with all that stands.
    fn begin_again(&mut self) {
        self.resume = None;
        self.snapshot = Some(Snapshot::default());
    }

    /// Takes a write of a stream.
    async fn take(&mut self, batch: ReceivedBatch, from: &str) -> Result<(), Error> {
        let is_news = !batch.events.is_empty();
        for event in batch.events {
            match event.get("type").and_then(Json::as_str).unwrap_or_default() {
                "put" => {
                    let put: Put = parsed(event, from)?;
                    let is_added = put.created == Some(true);
                    let data = put.data.map(|data| STANDARD.decode(data).map(Bytes::from)).transpose();
                    let entry = Entry {
                        data: data.map_err(|error| unreadable_of(from, &error))?,
                        name: put.name,
                        version: put.version,
                        revision: put.revision,
                    };
                    self.put(entry, is_added)?;
                }
                "delete" => {
                    let Delete { name, revision } = parsed(event, from)?;
                    let is_news = self.watch.client.stamps().see_delete(&name, revision);
                    match &mut self.snapshot {
                        Some(snapshot) => {
                            snapshot.remove(&name);
                            if !is_news {
                                snapshot.behind.insert(name);
                            }
                        }
                        None if is_news => self.queue.push_back(Event::Deleted { name, revision }),
                        None => {}
                    }
                }
                "synced" => {
                    if let Some(snapshot) = self.snapshot.take() {
                        if !snapshot.behind.is_empty() {
                            if self.nodes_have_time() {
                                self.begin_again();
                                return self.leave(false).await;
                            }
                            self.accept(&snapshot);
                        }
                        self.late_since = None;
                        self.queue
                            .push_back(Event::Sync { entries: snapshot.entries.into_values().collect() });
                    }
                }
                "reset" => {
                    let reason = event.get("reason").and_then(Json::as_str);
                    let is_ahead = reason == Some("ahead");
                    if reason == Some("genesis") {
                        // stamps of another set say nothing of this one
                        self.watch.client.stamps().forget_all(|_| true);
                    }
                    self.behind += usize::from(is_ahead);
                    // another node may have what this one lacks; if none does, it is lost
                    if is_ahead && self.behind < self.watch.client.readers().await?.count() {
                        return self.leave(false).await;
                    }
                    self.snapshot = Some(Snapshot::default());
                }
                // of a newer version
                _ => {}
            }
        }
        // a node that the cursor is ahead of shows signs of life before it says so
        if is_news {
            self.behind = 0;
        }
        self.resume = Some(batch.cursor);
        Ok(())
    }

    fn put(&mut self, entry: Entry, is_added: bool) -> Result<(), Error> {
        let is_news = self.sees(&entry.name, entry.revision);
        match &mut self.snapshot {
            Some(snapshot) => {
                match is_news {
                    true => drop(snapshot.behind.remove(&entry.name)),
                    false => drop(snapshot.behind.insert(entry.name.clone())),
                }
                snapshot.insert(entry);
                if snapshot.bytes > self.watch.max_sync_bytes {
                    self.begin_again();
                    return Err(Error::SyncTooLarge);
                }
            }
            None if !is_news => {}
            None if is_added => self.queue.push_back(Event::Added(entry)),
            None => self.queue.push_back(Event::Updated(entry)),
        }
        Ok(())
    }

    /// Whether the nodes may still catch up with what the program has seen.
    fn nodes_have_time(&mut self) -> bool {
        self.late_since.get_or_insert_with(Instant::now).elapsed() < CATCH_UP
    }

    /// Takes what a node has for what is newest: what was seen before is lost.
    fn accept(&self, snapshot: &Snapshot) {
        let mut stamps = self.watch.client.stamps();
        stamps.forget_all(|name| self.watch.scope.has(name));
        for entry in snapshot.entries.values() {
            stamps.see(&entry.name, entry.revision);
        }
    }

    /// Whether nothing newer was seen of a name.
    fn sees(&self, name: &str, revision: u64) -> bool {
        self.watch.client.stamps().see(name, revision)
    }
}

impl Snapshot {
    fn insert(&mut self, entry: Entry) {
        self.remove(&entry.name);
        self.bytes += bytes_of(&entry);
        self.entries.insert(entry.name.clone(), entry);
    }

    fn remove(&mut self, name: &str) {
        if let Some(entry) = self.entries.remove(name) {
            self.bytes -= bytes_of(&entry);
        }
    }
}

fn bytes_of(entry: &Entry) -> usize {
    let data = entry.data.as_ref().map_or(0, Bytes::len);
    2 * entry.name.len() + entry.version.len() + data + ENTRY_BYTES
}

fn parsed<T: for<'a> Deserialize<'a>>(event: Map<String, Json>, from: &str) -> Result<T, Error> {
    serde_json::from_value(Json::Object(event)).map_err(|error| unreadable_of(from, &error))
}
