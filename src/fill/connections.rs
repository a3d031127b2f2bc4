//! Connections to upstreams that are kept between requests.
//!
//! HTTP/1.1 ties an answer to its request by nothing but their order. One byte too many — a body after `HEAD`, 204 or 304,
//! a byte beyond `Content-Length`, an answer that no request asked for — moves every later answer of that connection to
//! the wrong request, and no check on arrival excludes it: the byte may come after the next request was sent. Hence one
//! rule: **a connection carries the requests of one purpose only**, that is of one name and one method, for its whole
//! life. What is not asked for can then only be taken for an answer about the same name. Beyond that, a byte that comes
//! while no request is under way closes the connection at once.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use http_body_util::Empty;
use hyper::Method;
use hyper::body::Bytes;
use hyper::client::conn::http1::SendRequest;
use tokio::time::Instant;

use crate::core::Name;

/// A connection that is not used is kept for less time than servers keep theirs.
const KEEP_IDLE: Duration = Duration::from_secs(25);

/// Sends requests on one connection.
pub(super) type Sender = SendRequest<Empty<Bytes>>;

/// What a request is for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Purpose {
    /// A name: what its answer says stays with it.
    Name(Name),
    /// The upstream itself.
    Upstream,
    /// A token. Such a connection is not kept: the next token is for another scope.
    Token,
}

/// The one use that a connection has.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct ConnectionKey {
    /// Scheme and authority, with an address in place of a host where it was resolved here.
    pub(super) base: String,
    /// The place of the origin in the settings, which decides the name in TLS; `None` elsewhere.
    pub(super) origin: Option<usize>,
    pub(super) method: Method,
    pub(super) purpose: Purpose,
}

/// Connections without a request under way.
#[derive(Debug)]
pub(super) struct ConnectionPool {
    most: usize,
    idle: Mutex<HashMap<ConnectionKey, (Sender, Instant)>>,
}

impl ConnectionPool {
    /// None yet, and so many at most.
    pub(super) fn new(most: usize) -> Self {
        Self { most, idle: Mutex::default() }
    }

    fn idle(&self) -> MutexGuard<'_, HashMap<ConnectionKey, (Sender, Instant)>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The connection of this use, if there is one that the upstream has neither closed nor sent anything on.
    pub(super) async fn take(&self, key: &ConnectionKey) -> Option<Sender> {
        let (mut sender, kept) = self.idle().remove(key)?;
        // ready is told by the connection's task once it has seen the end of the last answer and nothing behind it
        (kept.elapsed() < KEEP_IDLE && sender.ready().await.is_ok()).then_some(sender)
    }

    /// Keeps a connection whose last answer was read to its end. One for which there is no room is closed: names are asked
    /// for in turns, so that the one that was kept longest is the one that is needed next.
    fn keep(&self, key: ConnectionKey, sender: Sender) {
        if key.purpose == Purpose::Token || sender.is_closed() {
            return;
        }
        let now = Instant::now();
        let mut idle = self.idle();
        if idle.len() >= self.most && !idle.contains_key(&key) {
            idle.retain(|_, (sender, kept)| !sender.is_closed() && now - *kept < KEEP_IDLE);
        }
        if idle.len() < self.most {
            idle.insert(key, (sender, now));
        }
    }

    /// Closes the connections that were not used for long.
    pub(super) fn close_idle(&self) {
        self.idle().retain(|_, (sender, kept)| !sender.is_closed() && kept.elapsed() < KEEP_IDLE);
    }
}

/// A connection with a request under way. Unless it is given back it is closed when this is dropped.
#[derive(Debug)]
pub(super) struct ActiveConnection {
    pub(super) sender: Sender,
    pub(super) key: ConnectionKey,
    pub(super) pool: Arc<ConnectionPool>,
}

impl ActiveConnection {
    /// The answer was read to its end.
    pub(super) fn give_back(self) {
        self.pool.keep(self.key, self.sender);
    }
}
