//! The handle of a node inside a program.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::time::sleep;

use super::local::{Local, Shared, cut_off};
use super::runtime::OwnRuntime;
use crate::api::state::Node;
use crate::assembly::stop;
use crate::client::Client;
use crate::client::local::LocalNode;
use crate::config::{ConfigError, SecretSource};
use crate::node::watched_files::Look;
use crate::report::Listens;

/// Interval of the look whether the node is ready.
const LOOK_AGAIN: Duration = Duration::from_millis(5);

/// A node that serves.
pub(super) struct Started {
    pub(super) node: Arc<Node>,
    pub(super) listens: Listens,
    /// Ends when all connections have ended.
    pub(super) all_closed: mpsc::Receiver<()>,
    pub(super) failed: watch::Receiver<Option<String>>,
}

/// A node that runs inside this program.
///
/// [`shutdown`](Self::shutdown) stops it in order, as SIGTERM stops the program `vwatch`. If the handle is dropped, the
/// node ends at once instead: its ports close, its connections break off, its threads end soon after, other nodes learn
/// of it by its silence, and writes that no other node has are lost. In both cases clients of this node then get
/// [`Error::Unavailable`](crate::client::Error::Unavailable).
pub struct Handle {
    runtime: OwnRuntime,
    shared: Arc<Shared>,
    listens: Listens,
    all_closed: Option<mpsc::Receiver<()>>,
    failed: watch::Receiver<Option<String>>,
    client: Client,
}

impl Handle {
    pub(super) fn new(runtime: OwnRuntime, started: Started, shared: Arc<Shared>, timeout: Duration) -> Self {
        let Started { node: _, listens, all_closed, failed } = started;
        let local: Arc<dyn LocalNode> = Arc::new(Local::of(&shared));
        let client = Client::local(&local, timeout);
        Self { runtime, shared, listens, all_closed: Some(all_closed), failed, client }
    }

    /// A client of this node, without sockets. It is the same as any [`Client`]: what the program has seen of a name
    /// does not go back, also if the node has not heard yet of what the program has read elsewhere. All of them share
    /// what they know of that. Its requests need a runtime of tokio with time.
    #[must_use]
    pub fn client(&self) -> Client {
        self.client.clone()
    }

    /// The address of the client port; `None` if it has none.
    #[must_use]
    pub fn client_address(&self) -> Option<SocketAddr> {
        self.listens.client
    }

    /// The address of the server port; `None` if it has none.
    #[must_use]
    pub fn server_address(&self) -> Option<SocketAddr> {
        self.listens.server
    }

    /// The name of the node.
    #[must_use]
    pub fn node_id(&self) -> &str {
        &self.shared.node.config.node_id
    }

    /// Whether the node has a complete set, and does not stop.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.shared.node.is_ready()
    }

    /// Waits until the node has a complete set: that of its group, if there is one. A node that is alone has it at
    /// once. One that [fails](Self::failed) never has it: then this ends too. It needs a runtime of tokio with time.
    pub async fn ready(&self) {
        while !self.is_ready() && self.failed.borrow().is_none() {
            sleep(LOOK_AGAIN).await;
        }
    }

    /// Waits until the node fails by itself, and returns the reason: a port cannot be served any more, or gossip has
    /// ended. The node has stopped then, and the handle is of use for [`shutdown`](Self::shutdown) only.
    pub async fn failed(&self) -> String {
        let mut failed = self.failed.clone();
        match failed.wait_for(Option::is_some).await {
            Ok(why) => why.clone().unwrap_or_default(),
            // a node that ends on purpose does not fail
            Err(_) => std::future::pending().await,
        }
    }

    /// Reads [`cluster_secret_file`](super::Config::cluster_secret_file) again, as SIGHUP lets the program `vwatch` do:
    /// so a group gets a new secret while it runs.
    ///
    /// # Errors
    /// If there is no such file, it is still being read, or it has no usable secrets. Then they stay as they are.
    pub async fn reload_secrets(&self) -> Result<(), ConfigError> {
        let wrong = |why: &str| Err(ConfigError::new(format!("cluster_secret_file: {why}")));
        let node = &self.shared.node;
        let (Some(peering), SecretSource::File(path, _)) = (&node.peering, &node.config.cluster.secret)
        else {
            return wrong("got none: set it, to read it again");
        };
        if peering.reloading.swap(true, Ordering::Relaxed) {
            return wrong("it is still being read: is it a pipe?");
        }
        let (keyring, reloading, path) =
            (Arc::clone(&peering.keyring), Arc::clone(&peering.reloading), path.clone());
        let reading = self.runtime.spawn_blocking(move || {
            let read = keyring.reload(&path);
            reloading.store(false, Ordering::Relaxed);
            read
        });
        match reading.await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(error)) => wrong(&error.to_string()),
            Err(error) => wrong(&error.to_string()),
        }
    }

    /// Reads the files of certificates again now. The node does so by itself within ten seconds after they have
    /// changed.
    ///
    /// # Errors
    /// If files are unusable, or still being read. Then the node keeps what it had of them.
    pub async fn reload_files(&self) -> Result<(), ConfigError> {
        let files = Arc::clone(&self.shared.node.files);
        let wrong = |why: &str| Err(ConfigError::new(why.to_owned()));
        match self.runtime.spawn_blocking(move || files.look(true)).await {
            Ok(Look::Taken | Look::NoFiles) => Ok(()),
            Ok(Look::Busy) => wrong("the files are still being read: is one of them a pipe?"),
            Ok(Look::Failed(lines)) => wrong(&lines.join("; ")),
            Err(error) => wrong(&error.to_string()),
        }
    }

    /// Stops the node in order: it tells the others that it leaves, gives them its last writes, answers readers that
    /// wait, and waits for answers under way, within [`shutdown_grace`](super::Config::shutdown_grace). Then its ports
    /// can be opened again, and none of its threads and tasks is left, except for connections that are still open when
    /// the time is over. A watch that the program keeps holds the set until it is dropped or asked for an event. If the
    /// future is dropped, the node ends at once.
    pub async fn shutdown(mut self) {
        let Some(mut all_closed) = self.all_closed.take() else { return };
        let node = Arc::clone(&self.shared.node);
        let stopping = self.runtime.spawn(async move { stop(&node, &mut all_closed).await });
        // it fails only if it panics, and then the node ends all the same
        let _ = stopping.await;
        cut_off(&self.shared.node);
        self.runtime.end().await;
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        cut_off(&self.shared.node);
    }
}

impl fmt::Debug for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Handle")
            .field("node_id", &self.node_id())
            .field("client_address", &self.listens.client)
            .field("server_address", &self.listens.server)
            .finish_non_exhaustive()
    }
}
