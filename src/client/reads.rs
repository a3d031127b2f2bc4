//! Reads, and waiting for a change.

use std::time::Duration;

use hyper::StatusCode;
use tokio::task::coop::consume_budget;
use tokio::time::{Instant, sleep};

use super::Client;
use super::backoff::Backoff;
use super::error::Error;
use super::transport::{Answer, Request};
use super::url::{parameter, with_query};
use super::value::{History, Value};
use super::writes::stamp;
use crate::wire::error_code::ErrorCode;
use crate::wire::headers::{X_LAST_SYNC, X_VWATCH_GENESIS, X_VWATCH_LOST_SINCE};

/// How long the nodes have to catch up with what the program has seen.
pub(super) const CATCH_UP: Duration = Duration::from_secs(10);
/// How long one node has, before the client asks another one.
const CATCH_UP_HERE: Duration = Duration::from_secs(1);
/// Longest wait of one request for a change: less than any node forbids.
const LONG_POLL: Duration = Duration::from_secs(25);

impl Client {
    /// Reads a name.
    ///
    /// ```no_run
    /// # async fn example(client: vwatch::client::Client) -> Result<(), vwatch::client::Error> {
    /// let value = client.get("repo/artifact:latest").await?;
    /// println!("{}: {} bytes", value.version, value.data.len());
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::Gone`] if it is deleted, [`Error::Behind`] if no node has what was seen before.
    pub async fn get(&self, name: &str) -> Result<Value, Error> {
        let name = self.place.full(name)?;
        if let Some(read) = self.get_here(&name) {
            // a program that reads in a loop lets others run
            consume_budget().await;
            return read;
        }
        let request = Request::get(self.place.path_of(&name));
        let until = Instant::now() + self.inner.timeout;
        Value::of(&self.read(&name, until, &request).await?)
    }

    /// Reads exactly this revision of a name, in µs since 1970.
    ///
    /// # Errors
    /// [`Error::NotFound`] if the name has no such revision, [`Error::Gone`] if it is a delete, [`Error::Compacted`] if
    /// it may have been dropped.
    pub async fn get_at(&self, name: &str, revision: u64) -> Result<Value, Error> {
        let path = self.place.path_of(&self.place.full(name)?);
        let target = with_query(&path, &[parameter("revision", &stamp(revision)?.to_string())]);
        let until = Instant::now() + self.inner.timeout;
        let mut missing = None;
        // a node may not have it yet
        for _ in 0..self.readers().await?.count() {
            let answer = self.readers().await?.send(&Request::get(target.clone()), until).await?;
            if answer.status.is_success() {
                let value = Value::of(&answer)?;
                // a node without histories answers what is present
                return if value.revision == revision { Ok(value) } else { Err(Error::NotFound) };
            }
            match Error::of(&answer) {
                Error::NotFound => self.readers().await?.leave(&answer.from),
                error => return Err(error),
            }
            missing = Some(Error::NotFound);
        }
        Err(missing.unwrap_or(Error::NotFound))
    }

    /// Reads the newest 100 versions that are kept of a name: as many as a set is told to keep, and more.
    ///
    /// # Errors
    /// [`Error::NotFound`] if none is kept, [`Error::Behind`] if no node has what was seen before.
    pub async fn history(&self, name: &str) -> Result<History, Error> {
        let name = &self.place.full(name)?;
        let target = with_query(&self.place.history_of(name), &[parameter("limit", "100")]);
        let until = Instant::now() + self.inner.timeout;
        let mut late = Late::new();
        loop {
            let answer = late.send(self, &Request::get(target.clone()), until).await?;
            let read =
                if answer.status.is_success() { History::of(&answer) } else { Err(Error::of(&answer)) };
            let newest = match &read {
                Ok(history) => history.entries.first().map(|entry| (entry.revision, entry.value.is_none())),
                Err(Error::NotFound) => None,
                Err(_) => return read,
            };
            match self.seen_if_newest(name, newest) {
                Ok(()) => return read,
                Err(seen) => {
                    late.again(self, &answer, newest.map(|(revision, _)| revision), seen, until).await?;
                }
            }
        }
    }

    /// Waits until a name has another version than `known`, and returns it; `None` waits until the name has a value.
    /// It waits for as long as that takes: to wait for less, drop the future.
    ///
    /// Versions may be left out if they come in quick succession: the one that is returned is the newest one.
    ///
    /// # Errors
    /// [`Error::NotFound`] and [`Error::Gone`] only if a version is `known`; [`Error::Behind`] if no node has what was
    /// seen before; [`Error::Unavailable`] if no node answers for the time limit of the client.
    pub async fn wait(&self, name: &str, known: Option<&str>) -> Result<Value, Error> {
        let name = &self.place.full(name)?;
        let target =
            with_query(&self.place.path_of(name), &[parameter("version", known.unwrap_or_default())]);
        // a node that is behind is to be left soon: it waits long once it has shown that it is not
        let mut park = CATCH_UP_HERE;
        let mut backoff = Backoff::default();
        loop {
            let asked = Instant::now();
            let until = asked + park + self.inner.timeout;
            let request = Request::get(target.clone()).parks_for(park);
            match self.read(name, until, &request).await {
                Ok(answer) => {
                    let value = Value::of(&answer)?;
                    if known != Some(value.version.as_str()) {
                        return Ok(value);
                    }
                }
                Err(Error::NotFound | Error::Gone { .. }) if known.is_none() => {}
                Err(error) => return Err(error),
            }
            if asked.elapsed() < park / 2 {
                // the node stops, or cannot let the request wait
                self.readers().await?.leave_first();
                sleep(backoff.next(None)).await;
            } else {
                backoff.reset();
            }
            park = LONG_POLL;
        }
    }

    /// Reads a record that is not older than what was seen of the name.
    async fn read(&self, name: &str, until: Instant, request: &Request) -> Result<Answer, Error> {
        let mut late = Late::new();
        loop {
            let seen = self.stamps().get(name);
            let mut sent = request.clone();
            if let Some(seen) = seen {
                sent = sent.header(X_LAST_SYNC, seen.to_string());
                // a node that is behind is to be left soon
                if !sent.is_parked() || late.has_begun() {
                    sent = sent.parks_for(CATCH_UP_HERE);
                }
            }
            let answer = late.send(self, &sent, until).await?;
            let has = answer.last_sync();
            let error = if answer.status.is_success() { None } else { Some(Error::of(&answer)) };
            let stamp = |header| answer.header(header).and_then(|text| text.parse::<u64>().ok());
            // what was seen is of an earlier set, or was lost with all nodes
            let is_void = |seen: u64| {
                stamp(X_VWATCH_GENESIS).is_some_and(|began| began > seen)
                    || stamp(X_VWATCH_LOST_SINCE).is_some_and(|since| since <= seen)
            };
            if let Some(seen) = seen.filter(|seen| is_void(*seen)) {
                self.stamps().forget_seen(name, seen);
            }
            let record = has.map(|has| (has, matches!(error, Some(Error::Gone { .. }))));
            let (behind, error) = match error {
                None | Some(Error::Gone { .. } | Error::NotFound) => {
                    (self.seen_if_newest(name, record).err(), error)
                }
                // the Go vwatch has no codes
                Some(Error::Rejected { code: Some(ErrorCode::WouldGoBack), .. } | Error::Conflict { .. }) => {
                    match self.seen_if_newest(name, record) {
                        // it has nothing of a name whose delete was seen
                        Ok(()) if record.is_none() => (None, Some(Error::NotFound)),
                        _ => (seen, error),
                    }
                }
                Some(_) => (None, error),
            };
            match (behind, error) {
                (Some(seen), _) => late.again(self, &answer, has, seen, until).await?,
                (None, None) if answer.status == StatusCode::OK => {
                    answer.check_stamp()?;
                    return Ok(answer);
                }
                (None, None) => return Err(super::value::unreadable(&answer, &answer.status)),
                (None, Some(error)) => return Err(error),
            }
        }
    }

    /// Records what a node has of a name: a revision, and whether that is a delete. To have nothing is not older than a
    /// delete, which nodes forget after a time.
    ///
    /// # Errors
    /// What was seen before, if that is newer.
    pub(super) fn seen_if_newest(&self, name: &str, has: Option<(u64, bool)>) -> Result<(), u64> {
        let mut stamps = self.stamps();
        let seen = stamps.get(name);
        let is_newest = match has {
            None => seen.is_none() || stamps.is_deleted(name),
            Some((revision, true)) => stamps.see_delete(name, revision),
            Some((revision, false)) => stamps.see(name, revision),
        };
        if is_newest { Ok(()) } else { Err(seen.unwrap_or_default()) }
    }
}

/// A request whose answers are older than what was seen.
pub(super) struct Late {
    /// When the first of them came.
    began: Option<Instant>,
    answers: usize,
    backoff: Backoff,
    /// What the last of them is an error of.
    behind: Option<Error>,
}

impl Late {
    pub(super) fn new() -> Self {
        Self { began: None, answers: 0, backoff: Backoff::default(), behind: None }
    }

    /// Sends the request.
    ///
    /// # Errors
    /// Those of a request. If nodes were behind and then none answers in time, that they were.
    pub(super) async fn send(
        &mut self,
        client: &Client,
        request: &Request,
        until: Instant,
    ) -> Result<Answer, Error> {
        let readers = client.readers().await?;
        match readers.send(request, until).await {
            // a node in this process that has ended is not only late
            Err(error @ Error::Unavailable { .. }) if readers.local().is_none() => {
                Err(self.behind.take().unwrap_or(error))
            }
            sent => sent,
        }
    }

    fn has_begun(&self) -> bool {
        self.began.is_some()
    }

    /// Goes on to another node, after a pause if all have been asked.
    ///
    /// # Errors
    /// If the nodes have had their time.
    pub(super) async fn again(
        &mut self,
        client: &Client,
        answer: &Answer,
        have: Option<u64>,
        seen: u64,
        until: Instant,
    ) -> Result<(), Error> {
        self.answers += 1;
        let pause = match self.answers % client.readers().await?.count() {
            0 => self.backoff.next(None),
            _ => Duration::ZERO,
        };
        let now = Instant::now();
        let began = *self.began.get_or_insert(now);
        let behind = Error::Behind { have, seen };
        if now + pause >= until || now + pause >= began + CATCH_UP {
            return Err(behind);
        }
        self.behind = Some(behind);
        client.readers().await?.leave(&answer.from);
        sleep(pause).await;
        Ok(())
    }
}
