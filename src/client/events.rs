//! The events of a watch, which goes on at another node when its node fails.

#[cfg(test)]
mod forms;
#[cfg(test)]
pub(super) mod tests;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use tokio::time::{Instant, sleep, sleep_until, timeout_at};

use super::backoff::Backoff;
use super::error::Error;
use super::kept_cursor::KeptCursor;
use super::reads::CATCH_UP;
use super::told::{ResetReason, Told};
use super::transport::{Next, NotANode, ReceivedBatch, ReceivedPut, Writes};
use super::value::Entry;
use super::watch::{Form, Watch};
use crate::wire::error_code::ErrorCode;

/// A node that shows no sign of life for so long is left: three heartbeats.
pub(super) const PATIENCE: Duration = Duration::from_secs(3);
/// A stream that has lasted so long makes up for those that failed before it.
pub(super) const HEALTHY: Duration = Duration::from_secs(10);
/// Most names that are noted because of a newer state that is to come.
const MAX_OWED: usize = 1000;
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
    /// [In parts](Watch::sync_in_parts): all that stands follows. If it comes again before [`Event::SyncEnd`], the
    /// parts so far are void.
    SyncBegin,
    /// In parts: a name that stands.
    Standing(Entry),
    /// In parts: that was all. What was not in it does not exist any more. With [all
    /// versions](Watch::all_versions): what the node has kept until now was told.
    SyncEnd,
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
    /// Only with [all versions](Watch::all_versions): some are missing, because they are not kept any more.
    Compacted {
        /// The names that have missing versions; `None` if it can be any name.
        names: Option<Vec<String>>,
    },
    /// Only with all versions: the program has been told of writes that no node has. They are lost, unless their node
    /// comes back.
    Ahead {
        /// Their number.
        writes: u64,
    },
    /// Only with all versions: what is kept is told from the oldest one on again.
    Reset {
        /// Why.
        reason: ResetReason,
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
    /// What stands, until all of it was told.
    snapshot: Option<Snapshot>,
    /// How many nodes, one after the other, have said that the cursor is ahead of them.
    behind: usize,
    /// Since when no node had all that the program has seen, when it told all that stands.
    late_since: Option<Instant>,
    backoff: Backoff,
    /// Since when the present stream tells something.
    healthy_since: Option<Instant>,
    pause_until: Option<Instant>,
    /// Since when a stream is asked for, also over calls that were dropped.
    opening_since: Option<Instant>,
    /// When to begin with all that stands again.
    resync_at: Option<Instant>,
    /// The full names of which a newer state is to come, and since when.
    owed: BTreeMap<String, Instant>,
    /// Since when streams fail, and why the last one did.
    failing: Option<(Instant, String)>,
    /// The present stream has told all that its node had.
    told_all: bool,
    kept: Option<KeptCursor>,
    /// Whether a node is followed, and has told all that it had.
    is_current: Arc<AtomicBool>,
}

/// What stands, as far as it was told, by full names.
#[derive(Debug, Default)]
struct Snapshot {
    /// Empty in parts.
    entries: BTreeMap<String, Entry>,
    bytes: usize,
    /// In parts: the program was told that it begins.
    has_begun: bool,
    /// The names of which the program has seen a newer state.
    behind: BTreeSet<String>,
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
        let mut events = Self {
            snapshot: (since.is_none() && !watch.has_all_versions).then(Snapshot::default),
            resume: since.clone(),
            cursor: since,
            stream: None,
            queue: VecDeque::new(),
            behind: 0,
            late_since: None,
            backoff: watch.backoff.clone(),
            healthy_since: None,
            pause_until: None,
            opening_since: None,
            resync_at: None,
            owed: BTreeMap::new(),
            failing: None,
            told_all: false,
            kept: watch.cursor_file.clone().map(KeptCursor::new),
            is_current: Arc::default(),
            watch,
        };
        if events.resume.is_some() {
            events.resync_at = events.next_resync();
        }
        events
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
    /// [`Error::Unavailable`] if no node answers, or no stream lasts, for the time limit of the client,
    /// [`Error::SyncTooLarge`], [`Error::File`] of a [cursor file](Watch::cursor_file), and any
    /// other error if the nodes reject the watch. A further call tries again where the watch was.
    pub async fn next(&mut self) -> Result<Event, Error> {
        loop {
            if let Some(event) = self.step().await? {
                return Ok(event);
            }
        }
    }

    /// Writes the [cursor file](Watch::cursor_file), if there is one: to be called before the program ends, after it
    /// has handled the last event that it was given.
    ///
    /// # Errors
    /// [`Error::File`].
    pub async fn save_cursor(&mut self) -> Result<(), Error> {
        // the last event of a write is handled, others of it may not be
        let handled =
            if self.queue.is_empty() && self.snapshot.is_none() { &self.resume } else { &self.cursor };
        let Some(kept) = &mut self.kept else { return Ok(()) };
        kept.write(handled.as_deref()).await
    }

    /// Whether a node is followed, and has told all that it had: for other tasks.
    pub(super) fn currency(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.is_current)
    }

    /// Begins after a cursor, in the place of what the watch says.
    pub(super) fn begin_after(&mut self, cursor: String) {
        self.resume = Some(cursor);
        self.snapshot = None;
        self.resync_at = self.next_resync();
    }

    /// A cursor after all that was told, if nothing was told in part.
    pub(super) fn told_until(&self) -> Option<&str> {
        self.resume.as_deref().filter(|_| self.queue.is_empty() && self.snapshot.is_none())
    }

    /// The next event, if it has come with one that was returned before.
    pub(super) fn ready(&mut self) -> Option<Event> {
        self.queue.pop_front()
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
            if self.told_all && self.snapshot.is_none() {
                self.is_current.store(true, Ordering::Relaxed);
            }
            if let Some(kept) = &mut self.kept {
                match kept.read().await {
                    Ok(None) => kept.write_if_due(self.cursor.as_deref()).await?,
                    Ok(Some(cursor)) => {
                        self.begin_after(cursor);
                        continue;
                    }
                    Err(error) => {
                        // for a program that calls again at once
                        sleep(self.backoff.next(None)).await;
                        return Err(error);
                    }
                }
            }
            if self.owes_too_long() {
                self.stream = None;
                self.begin_again();
            }
            if let Some(error) = self.fails_too_long() {
                return Err(error);
            }
            if self.resync_at.is_some_and(|at| at <= Instant::now()) {
                self.stream = None;
                self.begin_again();
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
            let next = stream.next(PATIENCE);
            let next = match self.resync_at {
                Some(at) => timeout_at(at, next).await,
                None => Ok(next.await),
            };
            let Ok(next) = next else { continue };
            match next {
                Next::Write(batch) => {
                    let is_all = batch.behind == Some(0);
                    let is_good = !is_first || batch.len() > 0;
                    let from = stream.from().to_owned();
                    if let Err(error) = self.take(batch, &from).await {
                        self.leave(false).await?;
                        return Err(error);
                    }
                    // also within all that stands, which may take longer than the time limit
                    if is_good && self.stream.is_some() {
                        self.failing = None;
                    }
                    if self.snapshot.is_none() && self.stream.is_some() {
                        self.told_all |= is_all;
                        let is_healthy = self.healthy_since.is_some_and(|since| since.elapsed() > HEALTHY);
                        if is_healthy {
                            // it is not behind the cursor: it would have said so
                            self.behind = 0;
                        }
                        if is_good && is_healthy {
                            self.backoff.reset();
                        }
                        self.healthy_since.get_or_insert_with(Instant::now);
                        if self.queue.is_empty() {
                            return Ok(None);
                        }
                    }
                }
                // not asked for
                Next::Lease(_) => {}
                Next::End => self.leave(false).await?,
                Next::Lost(why) | Next::Refused { is_temporary: true, why, .. } => {
                    let since = self.failing.take().map_or_else(Instant::now, |(since, _)| since);
                    self.failing = Some((since, why));
                    self.leave(true).await?;
                }
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
        let request = self.watch.request(self.resume.as_deref(), Form::Stream);
        let began = Instant::now();
        let sent = readers.send(&request, began + client.inner.timeout).await;
        self.opening_since = None;
        // where all nodes were asked again and again, the pauses of each were enough
        if sent.is_err() && began.elapsed() < PATIENCE {
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
                if self.watch.has_all_versions {
                    self.queue.push_back(Event::Reset { reason: ResetReason::Refused });
                }
                Ok(())
            }
            error => Err(error),
        }
    }

    /// Leaves the present stream for the next node, after a pause.
    async fn leave(&mut self, is_failure: bool) -> Result<(), Error> {
        let Some(stream) = self.stream.take() else { return Ok(()) };
        self.healthy_since = None;
        self.is_not_current();
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
        self.resync_at = None;
        self.owed.clear();
        self.is_not_current();
        self.begin_snapshot();
    }

    fn is_not_current(&mut self) {
        self.told_all = false;
        self.is_current.store(false, Ordering::Relaxed);
    }

    /// When to begin with all that stands again, from now on.
    fn next_resync(&self) -> Option<Instant> {
        self.watch.resync_period.and_then(|period| Instant::now().checked_add(period))
    }

    /// A change was left out, because the program has seen a newer state of its name by another request. That state is
    /// to come here too.
    fn owe(&mut self, name: &str) {
        if self.owed.len() < MAX_OWED {
            self.owed.entry(name.to_owned()).or_insert_with(Instant::now);
        }
    }

    /// Whether what the program has seen elsewhere does not come: it may be lost, and what was left out stands.
    fn owes_too_long(&self) -> bool {
        self.owed.values().any(|since| since.elapsed() > CATCH_UP)
    }

    /// The error of streams that fail one after the other, for longer than the time limit of the client.
    fn fails_too_long(&mut self) -> Option<Error> {
        let (since, _) = self.failing.as_ref()?;
        if since.elapsed() < self.watch.client.inner.timeout {
            return None;
        }
        let (_, message) = self.failing.take()?;
        Some(Error::Unavailable { retry_after: None, message })
    }

    /// What is told next is all that stands.
    fn begin_snapshot(&mut self) {
        self.snapshot = (!self.watch.has_all_versions).then(Snapshot::default);
    }

    /// Takes a write of a stream.
    async fn take(&mut self, batch: ReceivedBatch, from: &str) -> Result<(), Error> {
        let is_news = batch.len() > 0;
        for ReceivedPut { name, version, revision, expires, data, is_added } in batch.puts {
            self.put(Entry { name, version, revision, expires, data }, is_added)?;
        }
        for event in batch.events {
            let has_left = match Told::read(event, from)? {
                Told::Put { entry, created } => {
                    self.put(entry, created == Some(true))?;
                    false
                }
                Told::Delete { name, revision } => {
                    self.delete(name, revision);
                    false
                }
                Told::Synced => self.synced().await?,
                Told::Reset(reason) => self.reset(reason).await?,
                Told::Ahead { writes } => {
                    let has_left = self.is_ahead().await?;
                    self.queue.push_back(Event::Ahead { writes });
                    has_left
                }
                Told::Compacted(names) => {
                    let place = &self.watch.client.place;
                    let relative =
                        |names: Vec<_>| names.into_iter().map(|name| place.relative(name)).collect();
                    self.queue.push_back(Event::Compacted { names: names.map(relative) });
                    false
                }
                Told::Other => false,
            };
            if has_left {
                // it has no cursor, and is told by the next node
                self.queue.clear();
                return Ok(());
            }
        }
        // a node that the cursor is ahead of shows signs of life before it says so
        if is_news {
            self.behind = 0;
        }
        self.resume = Some(batch.cursor);
        Ok(())
    }

    fn put(&mut self, mut entry: Entry, is_added: bool) -> Result<(), Error> {
        let is_news = self.watch.client.stamps().see(&entry.name, entry.revision);
        let Some(snapshot) = &mut self.snapshot else {
            match is_news {
                true => drop(self.owed.remove(&entry.name)),
                false => self.owe(&entry.name),
            }
            if is_news || self.watch.has_all_versions {
                entry.name = self.watch.client.place.relative(entry.name);
                self.queue.push_back(if is_added { Event::Added(entry) } else { Event::Updated(entry) });
            }
            return Ok(());
        };
        match is_news {
            true => drop(snapshot.behind.remove(&entry.name)),
            false => drop(snapshot.behind.insert(entry.name.clone())),
        }
        if self.watch.is_in_parts {
            entry.name = self.watch.client.place.relative(entry.name);
            self.part(Event::Standing(entry));
            return Ok(());
        }
        snapshot.insert(entry);
        if snapshot.bytes > self.watch.max_sync_bytes {
            self.begin_again();
            return Err(Error::SyncTooLarge);
        }
        Ok(())
    }

    fn delete(&mut self, name: String, revision: u64) {
        let is_news = self.watch.client.stamps().see_delete(&name, revision);
        let relative = |name| self.watch.client.place.relative(name);
        let Some(snapshot) = &mut self.snapshot else {
            match is_news {
                true => drop(self.owed.remove(&name)),
                false => self.owe(&name),
            }
            let relative = |name| self.watch.client.place.relative(name);
            if is_news || self.watch.has_all_versions {
                self.queue.push_back(Event::Deleted { name: relative(name), revision });
            }
            return;
        };
        snapshot.remove(&name);
        let event = Event::Deleted { name: relative(name.clone()), revision };
        if !is_news {
            snapshot.behind.insert(name);
        }
        if self.watch.is_in_parts {
            self.part(event);
        }
    }

    /// Tells a part of what stands.
    fn part(&mut self, event: Event) {
        if let Some(snapshot) = &mut self.snapshot
            && !std::mem::replace(&mut snapshot.has_begun, true)
        {
            self.queue.push_back(Event::SyncBegin);
        }
        self.queue.push_back(event);
    }

    /// All that stands was told. Returns whether the node is left, because it has less than the program has seen.
    async fn synced(&mut self) -> Result<bool, Error> {
        if self.watch.has_all_versions {
            self.queue.push_back(Event::SyncEnd);
            return Ok(false);
        }
        let has_less = self.snapshot.as_ref().is_some_and(|snapshot| !snapshot.behind.is_empty());
        if has_less && self.nodes_have_time() {
            self.begin_again();
            self.leave(false).await?;
            return Ok(true);
        }
        if self.watch.is_in_parts && self.snapshot.is_some() {
            self.part(Event::SyncEnd);
        }
        let Some(snapshot) = self.snapshot.take() else { return Ok(false) };
        if has_less {
            self.accept(&snapshot);
        }
        self.late_since = None;
        self.resync_at = self.next_resync();
        if !self.watch.is_in_parts {
            let place = &self.watch.client.place;
            let relative = |entry: Entry| Entry { name: place.relative(entry.name), ..entry };
            let entries = snapshot.entries.into_values().map(relative).collect();
            self.queue.push_back(Event::Sync { entries });
        }
        Ok(false)
    }

    /// The node begins with all that it has. Returns whether it is left, because another one may have more.
    async fn reset(&mut self, reason: ResetReason) -> Result<bool, Error> {
        if reason == ResetReason::NewSet {
            // stamps of another set say nothing of this one
            self.watch.client.stamps().forget_set();
        }
        if reason == ResetReason::Ahead && self.is_ahead().await? {
            return Ok(true);
        }
        self.begin_snapshot();
        if self.watch.has_all_versions {
            self.queue.push_back(Event::Reset { reason });
        }
        Ok(false)
    }

    /// The cursor is ahead of the node. Returns whether it is left: another node may have what this one lacks; if none
    /// does, it is lost.
    async fn is_ahead(&mut self) -> Result<bool, Error> {
        self.behind += 1;
        let is_left = self.behind < self.watch.client.readers().await?.count();
        if is_left {
            self.leave(false).await?;
        }
        Ok(is_left)
    }

    /// Whether the nodes may still catch up with what the program has seen.
    fn nodes_have_time(&mut self) -> bool {
        self.late_since.get_or_insert_with(Instant::now).elapsed() < CATCH_UP
    }

    /// Takes what a node has for what is newest: what was seen before is lost.
    fn accept(&self, snapshot: &Snapshot) {
        let mut stamps = self.watch.client.stamps();
        stamps.forget_those(|name| self.watch.scope.has(name));
        for entry in snapshot.entries.values() {
            stamps.see(&entry.name, entry.revision);
        }
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
