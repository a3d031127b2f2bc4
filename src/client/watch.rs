//! What is watched, and how.

use std::path::PathBuf;
use std::time::Duration;

use serde_json::{Value as Json, json};

use super::Client;
use super::backoff::Backoff;
use super::place::Place;
use super::transport::Request;
use super::url::{parameter, with_query};
use crate::wire::duration::GoDuration;

/// Longest target of a request, in bytes, that every node and most proxies take. A longer one is sent as a body.
const MAX_TARGET_BYTES: usize = 4096;
/// How often a node shows that it lives.
const HEARTBEAT: &str = "1s";

/// The names that a watch is about: 64 names and prefixes at most.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Scope {
    names: Vec<String>,
    prefixes: Vec<String>,
}

impl Scope {
    /// One name.
    #[must_use]
    pub fn name(name: &str) -> Self {
        Self::default().and_name(name)
    }

    /// All names that begin with this. An empty prefix is every name.
    #[must_use]
    pub fn prefix(prefix: &str) -> Self {
        Self::default().and_prefix(prefix)
    }

    /// `path`, and all names beneath it: those that begin with `path/`.
    #[must_use]
    pub fn tree(path: &str) -> Self {
        Self::name(path).and_prefix(&format!("{path}/"))
    }

    /// The same with full names.
    fn within(self, place: &Place) -> Self {
        let full = |texts: Vec<String>| texts.iter().map(|text| place.full_prefix(text)).collect();
        Self { names: full(self.names), prefixes: full(self.prefixes) }
    }

    pub(super) fn has(&self, name: &str) -> bool {
        let Self { names, prefixes } = self;
        names.iter().any(|one| one == name) || prefixes.iter().any(|prefix| name.starts_with(prefix))
    }

    /// These names, and another one.
    #[must_use]
    pub fn and_name(mut self, name: &str) -> Self {
        self.names.push(name.to_owned());
        self
    }

    /// These names, and those that begin with this.
    #[must_use]
    pub fn and_prefix(mut self, prefix: &str) -> Self {
        self.prefixes.push(prefix.to_owned());
        self
    }
}

/// A watch that has not begun: see [`Client::watch`].
#[derive(Clone, Debug)]
#[must_use]
pub struct Watch {
    pub(super) client: Client,
    /// With full names.
    pub(super) scope: Scope,
    pub(super) since: Option<String>,
    pub(super) has_data: bool,
    pub(super) max_sync_bytes: usize,
    pub(super) is_in_parts: bool,
    pub(super) has_all_versions: bool,
    /// Whether the nodes tell what happens to leases.
    pub(super) has_leases: bool,
    pub(super) resync_period: Option<Duration>,
    pub(super) backoff: Backoff,
    pub(super) cursor_file: Option<PathBuf>,
    pub(super) cache_file: Option<PathBuf>,
}

/// A request for changes: a stream, or one answer.
#[derive(Clone, Copy, Debug)]
pub(super) enum Form {
    Stream,
    /// An answer with at most `limit` events, after at most `timeout`.
    Batch {
        limit: usize,
        timeout: Duration,
    },
}

impl Client {
    /// Watches names: first all that stands, then each change. It holds one cursor and nothing for each name.
    ///
    /// ```no_run
    /// # async fn example(client: vwatch::client::Client) -> Result<(), vwatch::client::Error> {
    /// use std::collections::HashMap;
    /// use vwatch::client::{Error, Event, Scope};
    ///
    /// let mut routes = HashMap::new();
    /// let mut events = client.watch(Scope::prefix("routes/")).start();
    /// loop {
    ///     match events.next().await {
    ///         Ok(Event::Sync { entries }) => {
    ///             routes = entries.into_iter().map(|entry| (entry.name, entry.data)).collect();
    ///         }
    ///         Ok(Event::Added(entry) | Event::Updated(entry)) => {
    ///             routes.insert(entry.name, entry.data);
    ///         }
    ///         Ok(Event::Deleted { name, .. }) => {
    ///             routes.remove(&name);
    ///         }
    ///         Ok(_) => {}
    ///         // the next call tries again, and goes on where it was
    ///         Err(Error::Unavailable { message, .. }) => eprintln!("no node answers: {message}"),
    ///         Err(error) => return Err(error),
    ///     }
    /// }
    /// # }
    /// ```
    pub fn watch(&self, scope: Scope) -> Watch {
        Watch {
            client: self.clone(),
            scope: scope.within(&self.place),
            since: None,
            has_data: true,
            max_sync_bytes: 256 << 20,
            is_in_parts: false,
            has_all_versions: false,
            has_leases: false,
            resync_period: None,
            backoff: Backoff::default(),
            cursor_file: None,
            cache_file: None,
        }
    }
}

impl Watch {
    /// Begins after a cursor, which [`Events::cursor`](super::Events::cursor) has returned before, perhaps in another
    /// process. Then there is no [`Event::Sync`](super::Event::Sync) at the beginning, unless no node accepts the
    /// cursor any more.
    pub fn since(self, cursor: impl Into<String>) -> Self {
        Self { since: Some(cursor.into()), ..self }
    }

    /// Watches without the data of the names.
    pub fn without_data(self) -> Self {
        Self { has_data: false, ..self }
    }

    /// Most bytes of names, versions and data of a [`Event::Sync`](super::Event::Sync) (256 MiB). Beyond them the error
    /// is [`Error::SyncTooLarge`](super::Error::SyncTooLarge).
    pub fn max_sync_bytes(self, bytes: usize) -> Self {
        Self { max_sync_bytes: bytes, ..self }
    }

    /// Tells all that stands in parts, so that it may be of any size: [`Event::SyncBegin`](super::Event::SyncBegin), an
    /// [`Event::Standing`](super::Event::Standing) for each name, and [`Event::SyncEnd`](super::Event::SyncEnd), in the
    /// place of one [`Event::Sync`](super::Event::Sync).
    pub fn sync_in_parts(self) -> Self {
        Self { is_in_parts: true, ..self }
    }

    /// Tells every version that the nodes keep of each name, and not only the newest one: from the oldest one on,
    /// unless the watch begins [`since`](Self::since) somewhere else. What a node does not keep any more is told as
    /// [`Event::Compacted`](super::Event::Compacted). There is no [`Event::Sync`](super::Event::Sync): a
    /// [`Event::SyncEnd`](super::Event::SyncEnd) tells that what was there has been told.
    ///
    /// The order is the one in which a node learned of the versions. One that comes late has a lower revision than one
    /// that was told before.
    pub fn all_versions(self) -> Self {
        Self { has_all_versions: true, ..self }
    }

    /// Begins with all that stands again after each such time, for programs that do not trust their own copy. The
    /// default is never: a watch misses nothing.
    pub fn resync_period(self, period: Duration) -> Self {
        Self { resync_period: Some(period), ..self }
    }

    /// Keeps the cursor in a file, so that the next run goes on where this one ends: without a
    /// [`Event::Sync`](super::Event::Sync), unless no node accepts the cursor any more. It is for programs that keep
    /// what the events have told them themselves; a [`Cache`](super::Cache) has [`cache_file`](Self::cache_file).
    ///
    /// The file is written at most once a second, and by [`Events::save_cursor`](super::Events::save_cursor): after a
    /// crash the events of the last second, and of the present write, are told again.
    pub fn cursor_file(self, path: impl Into<PathBuf>) -> Self {
        Self { cursor_file: Some(path.into()), ..self }
    }

    /// Keeps what a [`Cache`](super::Cache) has in a file, so that a program that starts while no node answers begins
    /// with what it had last: see [`Cache::is_stale`](super::Cache::is_stale).
    ///
    /// The file is written at most once in ten seconds, and by [`Cache::stop`](super::Cache::stop).
    pub fn cache_file(self, path: impl Into<PathBuf>) -> Self {
        Self { cache_file: Some(path.into()), ..self }
    }

    /// The longest pause before the next attempt, at first and at most (100 ms and 5 s): it is random up to a bound,
    /// which doubles with each failure, and begins again after ten seconds without one.
    pub fn backoff(self, first: Duration, most: Duration) -> Self {
        Self { backoff: Backoff::new(first, most), ..self }
    }

    /// The nodes tell what happens to leases, too.
    pub(super) fn with_leases(self) -> Self {
        Self { has_leases: true, ..self }
    }

    /// A text that tells what is watched from what other watches do.
    pub(super) fn identity(&self) -> String {
        let Scope { names, prefixes } = &self.scope;
        let is_whole = self.since.is_none();
        let watch = json!([self.client.place.watch(), names, prefixes, self.has_data, is_whole]);
        watch.to_string()
    }

    /// The request for what comes after a cursor, and whether it is sent with its time limit.
    pub(super) fn request(&self, since: Option<&str>, form: Form) -> Request {
        let Scope { names, prefixes } = &self.scope;
        let path = self.client.place.watch();
        let mut parameters: Vec<String> = names.iter().map(|name| parameter("name", name)).collect();
        parameters.extend(prefixes.iter().map(|prefix| parameter("prefix", prefix)));
        let mut body = json!({"names": names, "prefixes": prefixes});
        let mut add = |key: &str, value: Json| {
            let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            parameters.push(parameter(key, &text));
            body[key] = value;
        };
        if let Some(since) = since {
            add("since", since.into());
        }
        if self.has_all_versions {
            add("mode", "all".into());
        }
        if !self.has_data {
            add("data", "none".into());
        }
        if self.has_leases {
            add("leases", true.into());
        }
        match form {
            Form::Stream => add("heartbeat", HEARTBEAT.into()),
            Form::Batch { limit, timeout } => {
                add("limit", limit.into());
                add("timeout", GoDuration(timeout).to_string().into());
            }
        }
        let target = with_query(&path, &parameters);
        let request = match target.len() <= MAX_TARGET_BYTES {
            true => Request::get(target),
            false => Request::question(path, body.to_string().into_bytes()),
        };
        match form {
            Form::Stream => request.streaming(),
            Form::Batch { timeout, .. } => request.may_take(timeout),
        }
    }
}
