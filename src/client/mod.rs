//! The client library: how a program reads and writes the names of a cluster, waits for changes, and watches many.
//!
//! Nothing here starts a node: the feature `client` needs no crates of a server. The command line is its first user.
//!
//! ```no_run
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! use vwatch::client::{Client, Error};
//!
//! let client = Client::builder()
//!     .nodes(["http://10.0.0.1:8080", "http://10.0.0.2:8080"])
//!     .servers(["http://10.0.0.1:8008", "http://10.0.0.2:8008"])
//!     .build()?;
//! client.put("repo/artifact:latest", "3456").await?;
//! let mut known = match client.get("repo/artifact:latest").await {
//!     Ok(value) => Some(value.version),
//!     Err(Error::NotFound | Error::Gone { .. }) => None,
//!     Err(error) => return Err(error.into()),
//! };
//! loop {
//!     let value = client.wait("repo/artifact:latest", known.as_deref()).await?;
//!     println!("it is now {:?}", value.data);
//!     known = Some(value.version);
//! }
//! # }
//! ```
#![cfg_attr(
    not(feature = "node"),
    allow(dead_code, unused_imports, reason = "the command line uses the rest")
)]

pub(crate) mod backoff;
mod batches;
mod builder;
mod cache;
mod cache_file;
pub(crate) mod clock;
mod error;
mod events;
pub(crate) mod files;
mod in_process;
mod kept_cursor;
pub(crate) mod lease;
mod list;
pub(crate) mod local;
mod manager;
mod name_path;
mod nodes;
pub(crate) mod place;
pub(crate) mod ports;
mod reads;
mod stamps;
mod stream;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
pub(crate) mod token;
mod told;
pub(crate) mod transport;
pub(crate) mod url;
pub(crate) mod value;
mod watch;
mod writes;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::OnceCell;

pub use builder::{BuildError, Builder};
pub use bytes::Bytes;
pub use cache::Cache;
pub use error::Error;
pub use events::{Event, Events};
pub use lease::{Lease, LeaseEvent, LeaseEvents, LeaseGuard, LeaseInfo, LeaseLoss, LeaseRequest};
pub use list::{Level, List};
pub use manager::{
    Checkpoint, CheckpointStore, Codec, HandlerError, HandlerResult, InFiles, InGroup, InMemory, Json, Kind,
    Manager, NoPosition, Position, Raw, RetryStrategy, StoreFuture, Watcher, WatcherError, WatcherOptions,
    WatcherState, WatcherStats, decoding,
};
pub use name_path::NamePath;
pub use stream::EventStream;
pub use told::ResetReason;
pub use value::{Entry, History, HistoryEntry, LevelItem, StoredEvent, Value, Written};

pub use watch::{Scope, Watch};

use nodes::Nodes;
use place::Place;
use ports::client_ports;
use stamps::{SeenNames, Stamps};
use url::Url;

/// Most names whose newest revision the client keeps.
const MAX_STAMPS: usize = 100_000;
/// Time for all servers together to answer where their client ports are.
const LOOKUP_TIME: Duration = Duration::from_secs(3);

/// A client for the nodes of a cluster. Clones share everything, and any number of requests may be under way.
///
/// **Nodes.** A request goes to the node that answered last. One that does not answer, or answers nothing for two
/// seconds, is left for a random while, and one that asks for it with `Retry-After` for as long; the request goes on to
/// the next node. With one node only its answer counts, for up to 10 s.
///
/// **Never back in time.** The client keeps the newest revision that the program has seen of each name, whichever node
/// told it, and by which request. An answer that is older is not returned: the client waits for the node to catch up,
/// and asks others, for 10 s; then the error is [`Error::Behind`]. This holds for the 100,000 names that were used
/// last. After the whole cluster has begun a new set, a read of a name forgets what was seen of it in the old one, and
/// a watch all of it.
///
/// **Cancellation.** Drop the future. A write that was sent by then may be done.
///
/// The client begins no task in the background, except for a [`Cache`], a [`LeaseGuard`] and a [`Watcher`] that is
/// started; each connection that is no stream has one as long as it is open.
#[derive(Clone, Debug)]
pub struct Client {
    inner: Arc<Inner>,
    place: Arc<Place>,
    /// The token of the lease under which it writes.
    lease: Option<u64>,
    /// How long after a write its value ends.
    expires: Option<Duration>,
}

#[derive(Debug)]
struct Inner {
    /// The client ports, for reads; empty until they are asked of the servers.
    readers: OnceCell<Nodes>,
    /// The server ports, for writes.
    writers: Option<Nodes>,
    /// The same for leases: nodes without a majority of the voters still take writes, and are not to be left.
    leases: Option<Nodes>,
    servers: Vec<Url>,
    timeout: Duration,
    stamps: Mutex<Stamps>,
}

impl Client {
    /// Makes a client.
    pub fn builder() -> Builder {
        Builder::new()
    }

    fn with(nodes: Vec<Url>, servers: Vec<Url>, timeout: Duration) -> Self {
        let readers = OnceCell::new_with((!nodes.is_empty()).then(|| Nodes::new(nodes)));
        let of_servers = || (!servers.is_empty()).then(|| Nodes::new(servers.clone()));
        let (writers, leases) = (of_servers(), of_servers());
        let stamps = Mutex::new(Stamps::new(MAX_STAMPS));
        let inner = Arc::new(Inner { readers, writers, leases, servers, timeout, stamps });
        Self { inner, place: Arc::default(), lease: None, expires: None }
    }

    /// The client ports.
    async fn readers(&self) -> Result<&Nodes, Error> {
        let Inner { readers, servers, timeout, .. } = &*self.inner;
        let find = async || {
            let found = client_ports(servers.clone(), LOOKUP_TIME.min(*timeout)).await;
            found.map(Nodes::new).map_err(|error| Error::Unavailable {
                retry_after: None,
                message: format!("the client ports of the nodes are not known: {error}"),
            })
        };
        readers.get_or_try_init(find).await
    }

    /// Forgets what was seen of a name: the next read accepts what the node has. It is how a program goes on after
    /// [`Error::Behind`].
    pub fn forget(&self, name: &str) {
        self.stamps().forget(&self.place.full_prefix(name));
    }

    /// What was seen of the full names of this client's namespace.
    fn stamps(&self) -> SeenNames<'_> {
        // each change of the stamps is whole
        let stamps = self.inner.stamps.lock().unwrap_or_else(PoisonError::into_inner);
        SeenNames::new(stamps, &self.place)
    }
}
