//! Assembles a node of its parts, in the order in which they need each other, and starts its loops.

use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;

use super::disk::Disk;
use super::error::StartError;
use super::sockets::Sockets;
use crate::access::web::Web;
use crate::access::{Access, Tokens, parse_tokens};
use crate::api::state::{Node, Parts, Peering};
use crate::cluster::OutgoingQueues;
use crate::cluster::bootstrap::{Bootstrap, Newcomer, replica_config};
use crate::cluster::ticker::tick_alone;
use crate::config::fill::Strategy;
use crate::config::{AccessConfig, Config};
use crate::core::protocol::ProtocolRange;
use crate::core::{Genesis, Incarnation, Stamp};
use crate::metrics::Metrics;
use crate::node::leases::{LeaseSettings, Leases};
use crate::node::log_control::LogControl;
use crate::node::replication::Replicator;
use crate::node::store::SharedStore;
use crate::node::tls::NodeTls;
use crate::node::watched_files::WatchedFiles;
use crate::node::{clock, fill_adapter};
use crate::report::Listens;
use crate::watch::fanout::Fanout;
use crate::watch::pace::Pace;

/// A node that replicates, fills and wakes, and does not serve yet. It speaks the versions of `protocol` with its
/// peers. `commit` is that of the source of the program, if it is known. Its tasks run in the runtime of the caller,
/// and end with that.
///
/// # Errors
/// If a part cannot start.
pub(crate) async fn assemble(
    mut config: Config,
    protocol: ProtocolRange,
    sockets: &mut Sockets,
    log: LogControl,
    commit: Option<&'static str>,
) -> Result<Arc<Node>, StartError> {
    let listens = sockets.listens()?;
    let disk = Disk::open(&mut config)?;
    let started = clock::now();
    let incarnation = Incarnation(u64::from_le_bytes(random()?));
    let tls = NodeTls::new(&config.tls, &config.cluster).map_err(StartError::Tls)?;
    let files = Arc::new(WatchedFiles::default());
    tls.watch(&config.tls, &files);
    let bootstrap = find_others(&config, sockets.gossip.take()).await?;

    let (fanout, ring_bells) = Fanout::new();
    let replica = replica_config(&config, bootstrap.as_ref(), protocol);
    let pace = Pace { per_watcher: config.jitter_per_watch, longest: config.block_for };
    let (store, calls) =
        SharedStore::new(random()?, incarnation, config.max_set_bytes, replica, fanout, pace);
    // a follower's set is a copy of its upstream's, from which it gets the genesis
    let strategy = config.fill.as_ref().map(|fill| fill.strategy);
    if matches!(strategy, Some(Strategy::Watch | Strategy::Mirror)) {
        store.adopt(Genesis { started: Stamp::ZERO, ..store.genesis() });
    }
    store.update(|store| {
        store.limit_waiters(config.waiter_limits);
        store.limit_namespaces(config.namespace_limits);
        if strategy.is_some_and(|strategy| strategy != Strategy::Mirror) {
            store.be_partial();
        }
    });
    let replicator = Replicator::new(store.clone());
    if let Some(disk) = disk {
        disk.start(&config, &store, &replicator)?;
    }
    let (leases, lease_calls) = Leases::new(LeaseSettings::of(&config), incarnation, store.clone());
    tokio::spawn(ring_bells);

    let (fill, interests) = fill_adapter::filler(&config, &store, &replicator).map_err(StartError::Fill)?;
    let (max_client, max_server) = sockets.max_connections();
    let mut metrics = Metrics::new(config.max_set_bytes, config.max_history_bytes, max_client, max_server)
        .with_build(commit)
        .with_watcher_limits(config.waiter_limits);
    if let Some(filler) = &fill {
        metrics.add(|registry| filler.register(registry));
    }
    let metrics = Arc::new(metrics);

    let peering =
        bootstrap.is_some().then(|| Peering::new(Arc::new(config.cluster.keyring()), incarnation, protocol));
    let cluster = match bootstrap.zip(peering.as_ref()) {
        Some((bootstrap, peering)) => {
            let newcomer = Newcomer {
                config: &config,
                replicator: &replicator,
                metrics: &metrics,
                keyring: &peering.keyring,
                incarnation,
                started,
                tls: tls.peers().cloned(),
            };
            let leases = leases.clone();
            let outgoing = OutgoingQueues { calls, leases, lease_calls, interests, filler: fill.clone() };
            Some(bootstrap.join(newcomer, outgoing).await?)
        }
        None => {
            tokio::spawn(tick_alone(replicator.clone()));
            tokio::spawn(leases.clone().run());
            None
        }
    };
    if let Some(filler) = &fill {
        filler.start();
    }
    let access = access_of(&config, listens, &files);
    tokio::spawn(Arc::clone(&files).watch());
    let parts = Parts {
        config,
        store,
        replicator,
        leases,
        fill,
        metrics,
        peering,
        cluster,
        access,
        listens,
        log,
        tls,
        files,
    };
    Ok(Arc::new(Node::new(parts)))
}

/// The checks of requests. They begin with the tokens that the configuration has read.
fn access_of(config: &Config, listens: Listens, files: &WatchedFiles) -> Access {
    let AccessConfig { cors_origins, allowed_hosts, tokens, page: _ } = &config.access;
    let tokens = tokens.as_ref().map(|(path, entries)| {
        let tokens = Arc::new(Tokens::new(entries.clone(), clock::now));
        tokio::spawn(Arc::clone(&tokens).watch_ends());
        let replaced = Arc::clone(&tokens);
        let take = move |contents: &[Vec<u8>]| {
            let text = std::str::from_utf8(contents.first().map_or(&[], Vec::as_slice));
            let text = text.map_err(|_| "it is not UTF-8: write it as TOML".to_owned())?;
            let entries = parse_tokens(text).map_err(|error| error.to_string())?;
            // most likely the file is just being written
            if entries.is_empty() && replaced.len() > 0 {
                return Err("it has no tokens: keep one, if only anonymous without grants".to_owned());
            }
            replaced.replace(entries);
            tracing::info!(tokens = replaced.len(), "these tokens count from now on");
            Ok(())
        };
        files.add("tokens", vec![path.clone()], Box::new(take));
        tokens
    });
    let is_local =
        |port: Option<SocketAddr>| port.is_some_and(|address| address.ip().to_canonical().is_loopback());
    let on_loopback = [listens.client, listens.server].map(is_local);
    Access::new(Web::new(cors_origins.clone(), allowed_hosts.clone()), tokens, on_loopback)
}

async fn find_others(config: &Config, gossip: Option<UdpSocket>) -> Result<Option<Bootstrap>, StartError> {
    match gossip {
        Some(socket) => Ok(Some(Bootstrap::find(config, socket).await?)),
        None => Ok(None),
    }
}

fn random<const N: usize>() -> Result<[u8; N], StartError> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(|cause| StartError::system("random numbers", cause))?;
    Ok(bytes)
}
