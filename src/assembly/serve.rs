//! Serves the ports of a node, and reports if one of them, or its part in the cluster, fails.

use std::fmt;
use std::io;
use std::sync::Arc;

use tokio::sync::mpsc;

use super::sockets::{Bound, Sockets};
use crate::api;
use crate::api::state::Node;
use crate::http::acceptor::Acceptor;
use crate::http::fast_path::MAX_WRITE_LOOPS;
use crate::http::responder::OpenGuard;
use crate::metrics::Port;
use crate::node::limits::SERVER_CONNECTIONS_OF_PEERS;

/// Why a node cannot go on.
#[derive(Debug)]
pub(crate) enum Failure {
    /// A port cannot be served at all.
    Port(Port, io::Error),
    /// Gossip or a loop of the cluster has ended: a node that accepts writes and does not push them is worse than none.
    Cluster(String),
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Port(port, error) => write!(f, "the {} port cannot be served: {error}", port.as_str()),
            Self::Cluster(why) => write!(f, "this node can no longer take part in its cluster: {why}"),
        }
    }
}

/// What is done if a node fails.
pub(crate) type OnFailure = Arc<dyn Fn(Failure) + Send + Sync>;

/// Serves the ports. The client port has so many event loops of its fast path, and the server port as many up to its
/// own limit; with 0 the ordinary path serves both. The returned channel ends when all connections have ended.
pub(crate) fn serve(
    node: &Arc<Node>,
    sockets: Sockets,
    event_loops: usize,
    on_failure: &OnFailure,
) -> mpsc::Receiver<()> {
    // each connection drops its clone at its end, so that the node can wait for the last one
    let (open, all_closed) = mpsc::channel::<()>(1);
    let Sockets { client, server, gossip: _ } = sockets;
    if let Some(server) = server {
        let kept_for_peers = match node.cluster {
            Some(_) => SERVER_CONNECTIONS_OF_PEERS.min(server.max_connections / 4),
            None => 0,
        };
        let server = acceptor(node, Port::Server, server);
        start(server, event_loops.min(MAX_WRITE_LOOPS), kept_for_peers, open.clone(), on_failure);
    }
    if let Some(client) = client {
        start(acceptor(node, Port::Client, client), event_loops, 0, open, on_failure);
    }
    if node.cluster.is_some() {
        tokio::spawn(watch_cluster(Arc::clone(node), Arc::clone(on_failure)));
    }
    all_closed
}

/// Serves a port with so many event loops, of which the last `kept` places are for peers.
fn start(acceptor: Acceptor, event_loops: usize, kept: usize, open: OpenGuard, on_failure: &OnFailure) {
    let (port, on_failure) = (acceptor.port, Arc::clone(on_failure));
    match event_loops {
        0 => drop(tokio::spawn(watch_port(acceptor.run(kept, open), port, on_failure))),
        _ => {
            let serving = acceptor.run_fast_path(event_loops, kept, open);
            drop(tokio::spawn(watch_port(serving, port, on_failure)));
        }
    }
}

fn acceptor(node: &Arc<Node>, port: Port, bound: Bound) -> Acceptor {
    let Bound { listener, max_connections } = bound;
    let at = listener.local_addr().map_or_else(|_| "?".into(), |address| address.to_string());
    tracing::info!(
        text = api::paths(port, node.config.access.page),
        "Listening for {} traffic at {at}{}, {max_connections} connections at most:",
        port.as_str(),
        match node.tls.of(port) {
            Some(tls) if tls.takes_plain() => " with TLS or without",
            Some(_) => " with TLS",
            None => "",
        },
    );
    Acceptor { port, listener, max_connections, node: Arc::clone(node) }
}

async fn watch_port(serving: impl Future<Output = io::Result<()>>, port: Port, on_failure: OnFailure) {
    if let Err(error) = serving.await {
        on_failure(Failure::Port(port, error));
    }
}

async fn watch_cluster(node: Arc<Node>, on_failure: OnFailure) {
    if let Some(cluster) = &node.cluster {
        on_failure(Failure::Cluster(cluster.broken().await));
    }
}
