//! What is watched, and how.

use serde_json::json;

use super::Client;
use super::transport::Request;
use super::url::{parameter, with_query};

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
    pub(super) scope: Scope,
    pub(super) since: Option<String>,
    has_data: bool,
    pub(super) max_sync_bytes: usize,
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
        Watch { client: self.clone(), scope, since: None, has_data: true, max_sync_bytes: 256 << 20 }
    }
}

impl Watch {
    /// Begins after a cursor, which [`Events::cursor`](super::Events::cursor) has returned before, perhaps in another
    /// process. Then there is no [`Event::Sync`](super::Event::Sync) at the beginning, unless no node accepts the cursor
    /// any more.
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

    /// The request for a stream from a cursor on.
    pub(super) fn request(&self, since: Option<&str>) -> Request {
        let Scope { names, prefixes } = &self.scope;
        let mut parameters: Vec<String> = names.iter().map(|name| parameter("name", name)).collect();
        parameters.extend(prefixes.iter().map(|prefix| parameter("prefix", prefix)));
        parameters.extend(since.map(|since| parameter("since", since)));
        parameters.push(parameter("heartbeat", HEARTBEAT));
        if !self.has_data {
            parameters.push(parameter("data", "none"));
        }
        let target = with_query("/v1/watch", &parameters);
        if target.len() <= MAX_TARGET_BYTES {
            return Request::get(target).streaming();
        }
        let mut body = json!({"names": names, "prefixes": prefixes, "heartbeat": HEARTBEAT});
        if let Some(since) = since {
            body["since"] = since.into();
        }
        if !self.has_data {
            body["data"] = "none".into();
        }
        Request::question("/v1/watch".to_owned(), body.to_string().into_bytes()).streaming()
    }
}
