//! Connections to upstreams that are kept between requests.
//!
//! HTTP/1.1 ties an answer to its request by their order only. One extra byte moves every later answer of the
//! connection to the wrong request: a body after `HEAD`, 204 or 304, a byte beyond `Content-Length`, an answer without
//! a request. No check on arrival excludes it, because the byte may come after the next request was sent. Hence one
//! rule: **a connection carries the requests of one purpose only**, which is one name and one method, for its whole
//! life. An unrequested answer can then only be mistaken for an answer about the same name. In addition, a byte that
//! comes while no request is under way closes the connection at once.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use http_body_util::{Either, Empty, Full};
use hyper::Method;
use hyper::body::Bytes;
use hyper::client::conn::http1::SendRequest;
use tokio::time::Instant;

use crate::core::Name;

/// How long an unused connection is kept: less than servers keep theirs.
const KEEP_IDLE: Duration = Duration::from_secs(25);

/// Sends requests on one connection.
pub(super) type Sender = SendRequest<Either<Empty<Bytes>, Full<Bytes>>>;

/// What a request is for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum RequestPurpose {
    /// A name.
    Name(Name),
    /// The upstream itself.
    Upstream,
    /// A token. Such a connection is not kept: the next token is for another scope.
    Token,
}

/// The only use of a connection.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct ConnectionKey {
    /// Scheme and authority, with an address in place of a host name that this node has resolved.
    pub(super) base: String,
    /// Index of the origin in `--fill-from`, which decides the host name in TLS; `None` for other origins.
    pub(super) origin: Option<usize>,
    pub(super) method: Method,
    pub(super) purpose: RequestPurpose,
}

/// Connections without a request under way.
#[derive(Debug)]
pub(super) struct ConnectionPool {
    most: usize,
    idle: Mutex<HashMap<ConnectionKey, (Sender, Instant)>>,
}

impl ConnectionPool {
    /// No connections, and at most `most`.
    pub(super) fn new(most: usize) -> Self {
        Self { most, idle: Mutex::default() }
    }

    fn idle(&self) -> MutexGuard<'_, HashMap<ConnectionKey, (Sender, Instant)>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes the connection of this use, if there is one which the upstream has not closed and has not sent anything
    /// on.
    pub(super) async fn take(&self, key: &ConnectionKey) -> Option<Sender> {
        let (mut sender, kept) = self.idle().remove(key)?;
        // the connection's task signals ready when it has read the last answer to its end, and nothing follows
        (kept.elapsed() < KEEP_IDLE && sender.ready().await.is_ok()).then_some(sender)
    }

    /// Keeps a connection whose last answer was read to its end. Without room it is closed: the node polls the names in
    /// turn, so the oldest kept connection is the one that it needs next.
    fn keep(&self, key: ConnectionKey, sender: Sender) {
        if key.purpose == RequestPurpose::Token || sender.is_closed() {
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

    /// Closes the connections that were unused for too long.
    pub(super) fn close_idle(&self) {
        self.idle().retain(|_, (sender, kept)| !sender.is_closed() && kept.elapsed() < KEEP_IDLE);
    }
}

/// A connection with a request under way. It is closed on drop, unless it was given back.
#[derive(Debug)]
pub(super) struct ActiveConnection {
    pub(super) sender: Sender,
    pub(super) key: ConnectionKey,
    pub(super) pool: Arc<ConnectionPool>,
}

impl ActiveConnection {
    /// Keeps the connection after its answer was read to its end.
    pub(super) fn give_back(self) {
        self.pool.keep(self.key, self.sender);
    }
}
