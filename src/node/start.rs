//! Start-up and shut-down, each in the order in which it is written here.

use std::fmt;
use std::io;
use std::sync::Arc;

use axum::response::Response;
use hyper::Request;
use hyper::body::Incoming;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout_at};

use super::lifecycle::Phase;
use super::limits::{
    DRAIN_PER_WATCHER, MAX_SERVER_CONNECTIONS, RESERVED_DESCRIPTORS, SWEEP_EVERY, SWEEP_PAUSE, SWEEP_SLICE,
};
use super::listener::{ListenError, listen};
use super::metrics::{Metrics, Port};
use super::reads::Reads;
use super::server::Server;
use super::store::SharedStore;
use super::{Node, clock, fills, logging};
use crate::config::Config;
use crate::config::fill::{Fill, Strategy};
use crate::core::tombstones::horizon_at;
use crate::core::{Genesis, Incarnation, Stamp};
use crate::watch::fanout::Fanout;
use crate::watch::pace::Pace;

/// Why a node did not start, or did not go on: one line that says what to do.
#[derive(Debug)]
pub enum StartError {
    /// A port cannot be listened on.
    Listen(ListenError),
    /// The upstream cannot be used as it is set up.
    Fill(String),
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
            Self::Fill(line) => f.write_str(line),
            Self::System { what, cause } => {
                write!(f, "cannot get {what} from the system: {cause}: look at its limits")
            }
        }
    }
}

impl std::error::Error for StartError {}

/// Runs a node until SIGTERM or SIGINT, and stops it in an orderly way. `service` makes what answers on a
/// port, and `paths` says what that is. `reads` makes what the front asks.
///
/// # Errors
/// If it cannot start; nothing is left running then.
pub fn run<S, F, A>(
    config: Config,
    paths: fn(Port) -> &'static str,
    service: S,
    reads: fn(Arc<Node>) -> Arc<dyn Reads>,
) -> Result<(), StartError>
where
    S: Fn(Arc<Node>, Port) -> F,
    F: Fn(Request<Incoming>) -> A + Clone + Send + Sync + 'static,
    A: Future<Output = Response> + Send + 'static,
{
    logging::start(config.log_level, config.log_format);
    let descriptors = raise_descriptor_limit();
    let client = listen(&config.listen_client, "--listen-client").map_err(StartError::Listen)?;
    let server = listen(&config.listen_server, "--listen-server").map_err(StartError::Listen)?;
    let max_server_connections = MAX_SERVER_CONNECTIONS.min(descriptors / 4);
    let for_fills = config.fill.as_ref().map_or(0, Fill::connections).min(descriptors / 4);
    let kept_back = max_server_connections + for_fills + RESERVED_DESCRIPTORS;
    let left = descriptors.saturating_sub(kept_back).max(1);
    let max_client_connections = config.max_connections.unwrap_or(left).min(left);
    if let Some(wanted) = config.max_connections.filter(|&wanted| wanted > left) {
        tracing::warn!(
            "--max-connections {wanted} is more than open files allow: {left} it is; raise ulimit -n"
        );
    }

    let runtime =
        tokio::runtime::Builder::new_multi_thread().enable_all().build().map_err(|e| system("threads", e))?;
    runtime.block_on(async {
        let mut signals = Signals::new().map_err(|e| system("signal handlers", e))?;
        let (fanout, ring_bells) = Fanout::new();
        let started = clock::now();
        // a follower's set is a copy of its upstream's, which says when it began
        let is_follower = config.fill.as_ref().is_some_and(|fill| fill.strategy == Strategy::Watch);
        let started = if is_follower { Stamp::ZERO } else { started };
        let genesis = Genesis { provisional: false, started, key: random()? };
        let incarnation = Incarnation(u64::from_le_bytes(random()?));
        let pace = Pace { per_watcher: config.jitter_per_watch, longest: config.block_for };
        let store = SharedStore::new(genesis, incarnation, config.max_set_bytes, fanout, pace);
        let mut metrics = Metrics::new(config.max_set_bytes, max_client_connections, max_server_connections);
        let filler = fills::filler(&config, &store, &mut metrics).map_err(StartError::Fill)?;
        let node = Arc::new(Node::new(config, store, filler, metrics));

        tracing::info!("Configuration of Server:\n{}", node.config.pretty());
        tokio::spawn(ring_bells);
        if let Some(filler) = &node.fill {
            filler.start();
        }
        tokio::spawn(forget_deletes(Arc::clone(&node)));
        // dropped by each connection as it ends, so that their end can be awaited
        let (open, mut all_closed) = mpsc::channel::<()>(1);
        for (port, listener, max_connections) in
            [(Port::Server, server, max_server_connections), (Port::Client, client, max_client_connections)]
        {
            let at = listener.local_addr().map_or_else(|_| "?".into(), |a| a.to_string());
            tracing::info!(
                "Listening for {} traffic at {at}, {max_connections} connections at most:\n{}",
                port.as_str(),
                paths(port)
            );
            let server = Server {
                port,
                listener,
                max_connections,
                idle_timeout: node.config.idle_timeout,
                metrics: Arc::clone(&node.metrics),
                lifecycle: Arc::clone(&node.lifecycle),
            };
            let answer = service(Arc::clone(&node), port);
            match port {
                Port::Server => drop(tokio::spawn(end_with(server.run(answer, open.clone()), port))),
                Port::Client => {
                    let reads = reads(Arc::clone(&node));
                    let serving = server.run_front(
                        answer,
                        reads,
                        node.store.clone(),
                        !node.config.jitter_per_watch.is_zero(),
                        open.clone(),
                    );
                    tokio::spawn(end_with(serving, port));
                }
            }
        }
        drop(open);

        let signal = signals.next().await;
        tracing::info!("{signal}: stopping within {:?}", node.config.shutdown_grace);
        tokio::select! {
            () = stop(&node, &mut all_closed) => {}
            signal = signals.next() => tracing::warn!("{signal} again: stopping at once"),
        }
        Ok(())
    })
}

/// Says no to new work, sends the parked home in turn so that they move to other nodes without a storm, and waits for
/// the answers that are under way.
async fn stop(node: &Node, all_closed: &mut mpsc::Receiver<()>) {
    let deadline = Instant::now() + node.config.shutdown_grace;
    node.lifecycle.advance(Phase::Draining);
    let pace = Pace { per_watcher: DRAIN_PER_WATCHER, longest: node.config.shutdown_grace / 2 };
    let waiting = node.store.drain(pace);
    tokio::time::sleep(pace.delay(waiting.saturating_sub(1), waiting)).await;
    node.lifecycle.advance(Phase::Closing);
    if timeout_at(deadline, all_closed.recv()).await.is_err() {
        tracing::warn!("connections were still open after the grace: closing them as they are");
    } else {
        tracing::info!("stopped: {waiting} waiting readers were answered");
    }
}

/// Drops tombstones that are old enough, a slice at a time so that nobody waits for it.
async fn forget_deletes(node: Arc<Node>) {
    let started = clock::now();
    let grace_us = u64::try_from(node.config.tombstone_grace.as_micros()).unwrap_or(u64::MAX);
    let mut every = tokio::time::interval(SWEEP_EVERY);
    loop {
        every.tick().await;
        let Some(horizon) = horizon_at(clock::now(), started, grace_us) else { continue };
        while node.store.raise_horizon(horizon, SWEEP_SLICE) == SWEEP_SLICE {
            tokio::time::sleep(SWEEP_PAUSE).await;
        }
    }
}

/// A port that cannot be served at all ends the process: a supervisor then sees it, and starts another one.
async fn end_with(serving: impl Future<Output = io::Result<()>>, port: Port) {
    if let Err(error) = serving.await {
        tracing::error!(port = port.as_str(), %error, "the port cannot be served");
        std::process::exit(1);
    }
}

/// SIGTERM and SIGINT.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn new() -> io::Result<Self> {
        Ok(Self { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
    }

    async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }
}

/// Raises the soft limit of open files to the hard one, as Go does, and returns what it is now.
fn raise_descriptor_limit() -> usize {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    let current = if setrlimit(Resource::Nofile, raised).is_ok() { limit.maximum } else { limit.current };
    current.map_or(usize::MAX / 2, |n| usize::try_from(n).unwrap_or(usize::MAX / 2)).min(1 << 24)
}

fn random<const N: usize>() -> Result<[u8; N], StartError> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(|e| system("random numbers", e))?;
    Ok(bytes)
}

fn system(what: &'static str, cause: impl fmt::Display) -> StartError {
    StartError::System { what, cause: cause.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_descriptor_limit_is_at_least_what_it_was() {
        let before = getrlimit(Resource::Nofile).current.unwrap_or(0);
        assert!(raise_descriptor_limit() as u64 >= before.min(1 << 24));
    }
}
