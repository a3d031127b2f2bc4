//! Start-up and shut-down, each in the order in which it is written here.

pub mod fd_limit;
pub mod logging;
pub mod signals;
pub mod watchdog;

use std::fmt;
use std::io;
use std::net::UdpSocket;
use std::sync::Arc;

use tokio::sync::mpsc;
use tokio::time::{Instant, timeout_at};

use crate::api;
use crate::api::state::Peering;
use crate::api::state::{Listens, Node};
use crate::cluster::bootstrap::{Neighbourhood, bind_both, replica_config};
use crate::cluster::{Errands, tick_alone};
use crate::config::Config;
use crate::config::fill::{Fill, Strategy};
use crate::core::{Genesis, Incarnation, Stamp};
use crate::daemon::signals::{BLOCK_VARIABLE, Signals};
use crate::daemon::watchdog::Watchdog;
use crate::http::acceptor::Server;
use crate::http::fast_path;
use crate::http::listener::{ListenError, listen};
use crate::metrics::{Metrics, Port};
use crate::node::lifecycle::Phase;
use crate::node::limits::{
    DRAIN_PER_WATCHER, MAX_SERVER_CONNECTIONS, PEER_DESCRIPTORS, RESERVED_DESCRIPTORS,
    SERVER_CONNECTIONS_OF_PEERS,
};
use crate::node::store::SharedStore;
use crate::node::{clock, fill_adapter};
use crate::watch::fanout::Fanout;
use crate::watch::pace::Pace;

/// Why a node did not start, or did not go on: one line that says what to do.
#[derive(Debug)]
pub enum StartError {
    /// A port cannot be listened on.
    Listen(ListenError),
    /// Gossip cannot be had.
    Gossip(String),
    /// The upstream cannot be used as it is set up.
    Fill(String),
    /// The clock was set wrong on purpose, and not in a way that can be understood.
    Clock(String),
    /// The system gives no entropy, threads or signals.
    System {
        /// What was asked of it.
        what: &'static str,
        /// What it said.
        cause: String,
    },
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Listen(error) => error.fmt(f),
            Self::Gossip(error) | Self::Clock(error) => f.write_str(error),
            Self::Fill(line) => f.write_str(line),
            Self::System { what, cause } => {
                write!(f, "cannot get {what} from the system: {cause}: look at its limits")
            }
        }
    }
}

impl std::error::Error for StartError {}

/// Runs a node until SIGTERM or SIGINT, and stops it in an orderly way.
///
/// # Errors
/// If it cannot start; nothing is left running then.
pub fn run(config: Config) -> Result<(), StartError> {
    logging::start(config.log_level, config.log_format).map_err(|e| system("threads", e))?;
    if let Some(offset) = clock::offset_from_environment().map_err(StartError::Clock)? {
        let variable = clock::OFFSET_VARIABLE;
        tracing::warn!(
            "{variable} is for tests only: the clock of this node is off by {offset} on purpose: unset it"
        );
    }
    if std::env::var_os(BLOCK_VARIABLE).is_some() {
        tracing::warn!("{BLOCK_VARIABLE} is for tests only: SIGHUP makes this node stand still: unset it");
    }
    let descriptors = fd_limit::raise_limit();
    let client = listen(&config.listen_client, "--listen-client").map_err(StartError::Listen)?;
    let (server, gossip) = listen_for_peers(&config)?;
    let max_server_connections = MAX_SERVER_CONNECTIONS.min(descriptors / 4);
    let for_fills = config.fill.as_ref().map_or(0, Fill::connections).min(descriptors / 4);
    let for_peers = if config.cluster.is_alone() { 0 } else { PEER_DESCRIPTORS.min(descriptors / 4) };
    let kept_back = max_server_connections + for_fills + for_peers + RESERVED_DESCRIPTORS;
    let left = descriptors.saturating_sub(kept_back).max(1);
    let max_client_connections = config.max_connections.unwrap_or(left).min(left);
    if let Some(wanted) = config.max_connections.filter(|&wanted| wanted > left) {
        tracing::warn!(
            "--max-connections {wanted} is more than open files allow: {left} it is; raise ulimit -n"
        );
    }

    let runtime =
        tokio::runtime::Builder::new_multi_thread().enable_all().build().map_err(|e| system("threads", e))?;
    let ended = runtime.block_on(async {
        let mut signals = Signals::new().map_err(|e| system("signal handlers", e))?;
        let (fanout, ring_bells) = Fanout::new();
        let started = clock::now();
        let incarnation = Incarnation(u64::from_le_bytes(random()?));
        let alone = config.cluster.is_alone();
        let neighbourhood = match gossip {
            Some(socket) => Some(Neighbourhood::find(&config, socket).await?),
            None => None,
        };
        let replica = replica_config(&config, neighbourhood.as_ref());
        let pace = Pace { per_watcher: config.jitter_per_watch, longest: config.block_for };
        let (store, calls) =
            SharedStore::new(random()?, incarnation, config.max_set_bytes, replica, fanout, pace);
        // a follower's set is a copy of its upstream's, which says when it began
        if config.fill.as_ref().is_some_and(|fill| fill.strategy == Strategy::Watch) {
            store.adopt(Genesis { started: Stamp::ZERO, ..store.genesis() });
        }
        store.limit_waiters(config.most_waiters);
        let mut metrics = Metrics::new(config.max_set_bytes, max_client_connections, max_server_connections)
            .with_watcher_limits(config.most_waiters);
        let (filler, interests) =
            fill_adapter::filler(&config, &store, &mut metrics).map_err(StartError::Fill)?;
        let peering = (!alone).then(|| Peering::new(Arc::new(config.cluster.keyring()), incarnation));
        let node = Arc::new(Node::new(config, store, filler, metrics, peering));

        tracing::info!(text = %node.config.pretty(), "Configuration of Server:");
        tokio::spawn(ring_bells);
        match neighbourhood {
            Some(neighbourhood) => neighbourhood.join(&node, started, Errands { calls, interests }).await?,
            None => drop(tokio::spawn(tick_alone(node.store.clone()))),
        }
        if let Some(filler) = &node.fill {
            filler.start();
        }
        if let (Ok(client), Ok(server)) = (client.local_addr(), server.local_addr()) {
            let _ = node.listens.set(Listens { client, server });
        }
        // dropped by each connection as it ends, so that their end can be awaited
        let (open, mut all_closed) = mpsc::channel::<()>(1);
        let lanes = fast_path::lanes();
        let by_workers = [Some(&server), (lanes == 0).then_some(&client)];
        let watchdog = Watchdog {
            pulse: Arc::clone(&node.pulse),
            lifecycle: Arc::clone(&node.lifecycle),
            shutdown_grace: node.config.shutdown_grace,
            ports: by_workers.into_iter().flatten().filter_map(|port| port.try_clone().ok()).collect(),
        };
        watchdog.start(node.store.clone()).map_err(|e| system("a thread", e))?;
        for (port, listener, max_connections) in
            [(Port::Server, server, max_server_connections), (Port::Client, client, max_client_connections)]
        {
            let at = listener.local_addr().map_or_else(|_| "?".into(), |a| a.to_string());
            tracing::info!(
                text = api::paths(port),
                "Listening for {} traffic at {at}, {max_connections} connections at most:",
                port.as_str(),
            );
            let server = Server { port, listener, max_connections, node: Arc::clone(&node) };
            match port {
                Port::Server => {
                    let kept = if alone { 0 } else { SERVER_CONNECTIONS_OF_PEERS.min(max_connections / 4) };
                    tokio::spawn(end_with(server.run(kept, open.clone()), port));
                }
                Port::Client if lanes == 0 => drop(tokio::spawn(end_with(server.run(0, open.clone()), port))),
                Port::Client => drop(tokio::spawn(end_with(server.run_front(lanes, open.clone()), port))),
            }
        }
        drop(open);

        let signal = signals.next(&node).await;
        tracing::info!("{signal}: stopping within {:?}", node.config.shutdown_grace);
        tokio::select! {
            () = stop(&node, &mut all_closed) => {}
            signal = signals.next(&node) => tracing::warn!("{signal} again: stopping at once"),
        }
        Ok(())
    });
    // dropped, it would wait for a name that the system resolves for minutes
    runtime.shutdown_background();
    logging::flush();
    ended
}

/// Says no to new work, sends the parked home in turn so that they move to other nodes without a storm, and waits for
/// the answers that are under way.
async fn stop(node: &Node, all_closed: &mut mpsc::Receiver<()>) {
    let deadline = Instant::now() + node.config.shutdown_grace;
    node.lifecycle.advance(Phase::Draining);
    let orderly = async {
        let group = node.group.get();
        if let Some(group) = group {
            group.depart().await;
        }
        let pace = Pace { per_watcher: DRAIN_PER_WATCHER, longest: node.config.shutdown_grace / 2 };
        let waiting = node.store.drain(pace);
        tokio::time::sleep(pace.delay(waiting.saturating_sub(1), waiting)).await;
        if let Some(group) = group {
            group.hand_over(deadline - node.config.shutdown_grace / 5).await;
            group.end().await;
        }
        node.lifecycle.advance(Phase::Closing);
        all_closed.recv().await;
        waiting
    };
    match timeout_at(deadline, orderly).await {
        Ok(waiting) => tracing::info!("stopped: {waiting} waiting readers were answered"),
        Err(_) => tracing::warn!("connections were still open after the grace: closing them as they are"),
    }
}

/// A port that cannot be served at all ends the process: a supervisor then sees it, and starts another one.
async fn end_with(serving: impl Future<Output = io::Result<()>>, port: Port) {
    if let Err(error) = serving.await {
        tracing::error!(port = port.as_str(), %error, "the port cannot be served");
        logging::exit();
    }
}

/// The server port, and with it the gossip port, if there may be others.
fn listen_for_peers(config: &Config) -> Result<(std::net::TcpListener, Option<UdpSocket>), StartError> {
    let server = || listen(&config.listen_server, "--listen-server").map_err(StartError::Listen);
    if config.cluster.is_alone() {
        return Ok((server()?, None));
    }
    let (server, gossip) = bind_both(server, config.listen_server.ends_with(":0"))?;
    Ok((server, Some(gossip)))
}

fn random<const N: usize>() -> Result<[u8; N], StartError> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(|e| system("random numbers", e))?;
    Ok(bytes)
}

pub(crate) fn system(what: &'static str, cause: impl fmt::Display) -> StartError {
    StartError::System { what, cause: cause.to_string() }
}
