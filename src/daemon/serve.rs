//! Serves the ports of a node, and ends the process if one of them, or its part in the cluster, fails.

use std::io;
use std::sync::Arc;

use tokio::sync::mpsc;

use super::error::StartError;
use super::logging;
use super::sockets::{Bound, Sockets};
use super::watchdog::Watchdog;
use crate::api;
use crate::api::state::Node;
use crate::http::acceptor::Acceptor;
use crate::http::fast_path::MAX_WRITE_LOOPS;
use crate::http::responder::OpenGuard;
use crate::metrics::Port;
use crate::node::limits::SERVER_CONNECTIONS_OF_PEERS;

/// Serves both ports. The client port has so many event loops of its fast path, and the server port as many up to its
/// own limit; with 0 the ordinary path serves both. The returned channel ends when all connections have ended.
///
/// # Errors
/// If the system has no thread for the watchdog.
pub(super) fn serve(
    node: &Arc<Node>,
    sockets: Sockets,
    event_loops: usize,
) -> Result<mpsc::Receiver<()>, StartError> {
    // each connection drops its clone at its end, so that the node can wait for the last one
    let (open, all_closed) = mpsc::channel::<()>(1);
    let Sockets { client, server, gossip: _ } = sockets;
    // on the server port all but plain writes need the workers
    let by_workers = [Some(&server), (event_loops == 0).then_some(&client)];
    let watchdog = Watchdog {
        pulse: Arc::clone(&node.pulse),
        lifecycle: Arc::clone(&node.lifecycle),
        shutdown_grace: node.config.shutdown_grace,
        ports: by_workers.into_iter().flatten().filter_map(|port| port.listener.try_clone().ok()).collect(),
    };
    watchdog.start(node.store.clone()).map_err(|cause| StartError::system("a thread", cause))?;
    let kept_for_peers = match node.cluster {
        Some(_) => SERVER_CONNECTIONS_OF_PEERS.min(server.max_connections / 4),
        None => 0,
    };
    let server = acceptor(node, Port::Server, server);
    start(server, event_loops.min(MAX_WRITE_LOOPS), kept_for_peers, open.clone());
    start(acceptor(node, Port::Client, client), event_loops, 0, open);
    if node.cluster.is_some() {
        tokio::spawn(end_with_cluster(Arc::clone(node)));
    }
    Ok(all_closed)
}

/// Serves a port with so many event loops, of which the last `kept` places are for peers.
fn start(acceptor: Acceptor, event_loops: usize, kept: usize, open: OpenGuard) {
    let port = acceptor.port;
    match event_loops {
        0 => drop(tokio::spawn(end_with(acceptor.run(kept, open), port))),
        _ => drop(tokio::spawn(end_with(acceptor.run_fast_path(event_loops, kept, open), port))),
    }
}

fn acceptor(node: &Arc<Node>, port: Port, bound: Bound) -> Acceptor {
    let Bound { listener, max_connections } = bound;
    let at = listener.local_addr().map_or_else(|_| "?".into(), |address| address.to_string());
    tracing::info!(
        text = api::paths(port),
        "Listening for {} traffic at {at}, {max_connections} connections at most:",
        port.as_str(),
    );
    Acceptor { port, listener, max_connections, node: Arc::clone(node) }
}

/// Ends the process if a port cannot be served at all: then a supervisor starts another one.
async fn end_with(serving: impl Future<Output = io::Result<()>>, port: Port) {
    if let Err(error) = serving.await {
        tracing::error!(port = port.as_str(), %error, "the port cannot be served");
        logging::exit();
    }
}

/// Ends the process if its part in the cluster fails: a node that accepts writes and does not push them is worse than
/// none.
async fn end_with_cluster(node: Arc<Node>) {
    if let Some(cluster) = &node.cluster {
        let why = cluster.broken().await;
        tracing::error!("this node can no longer take part in its cluster, and ends: {why}");
        logging::exit();
    }
}
