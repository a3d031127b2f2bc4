//! The start of a node that has peers: its own address, the addresses of others, and the start of its cluster.

use std::io;
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

use super::address_monitor::AddressMonitor;
use super::{Cluster, Local, OutgoingQueues};
use crate::config::Config;
use crate::config::fill::Strategy;
use crate::core::protocol::ProtocolRange;
use crate::core::replica::Config as ReplicaConfig;
use crate::core::{Incarnation, Stamp};
use crate::membership::advertise::{self, Advertised};
use crate::membership::discovery::Discovery;
use crate::membership::{self, GOSSIP_EVERY, Membership, Settings};
use crate::metrics::Metrics;
use crate::node::clock;
use crate::node::replication::Replicator;
use crate::replication::client::PeerClient;
use crate::seal::Keyring;
use crate::tls::PeerTls;
use crate::wire::node_info::{Identity, hash};

/// Ports that are tried for TCP and UDP together when the system chooses.
const PORTS_TRIED: usize = 50;

/// Why a node cannot take part in a cluster.
#[derive(Debug)]
pub enum BootstrapError {
    /// The gossip port cannot be opened, or gossip cannot start. Has one line with the advice.
    Gossip(String),
    /// The system does not return the address of a socket.
    Addresses(io::Error),
}

/// The state of a node before its cluster starts.
pub(crate) struct Bootstrap {
    socket: UdpSocket,
    discovery: Discovery,
    /// The address to which peers gossip.
    gossip: SocketAddr,
    /// `host:port` where peers send requests.
    server: String,
    listen: SocketAddr,
    /// Whether the node found its address by itself, so that it may change.
    found: bool,
}

/// Binds the server port for TCP and for UDP: gossip has the same number. If the system chooses the port, tries others
/// until one is free for both. `setting` is the name of the setting with the port, for errors.
///
/// # Errors
/// If no port is free for both.
pub(crate) fn bind_both<E: From<BootstrapError>>(
    mut listen: impl FnMut() -> Result<TcpListener, E>,
    port_is_open: bool,
    setting: &str,
) -> Result<(TcpListener, UdpSocket), E> {
    let mut tried = 0;
    loop {
        let server = listen()?;
        let address = server.local_addr().map_err(BootstrapError::Addresses)?;
        match membership::bind(address) {
            Ok(socket) => return Ok((server, socket)),
            Err(error) if error.kind() == io::ErrorKind::AddrInUse && port_is_open && tried < PORTS_TRIED => {
                tried += 1;
            }
            Err(error) => {
                return Err(E::from(BootstrapError::Gossip(format!(
                    "cannot gossip on {address} (UDP): {error}: free the port, or choose another {setting}"
                ))));
            }
        }
    }
}

impl Bootstrap {
    /// Starts discovery and finds the address of this node.
    ///
    /// # Errors
    /// If the system does not return the addresses of its sockets.
    pub(crate) async fn find(config: &Config, socket: UdpSocket) -> Result<Self, BootstrapError> {
        let cluster = &config.cluster;
        let listen = socket.local_addr().map_err(BootstrapError::Addresses)?;
        let discovery = Discovery::start(&cluster.replicate_with, cluster.resolve_interval, &cluster.dns);
        let configured = cluster.advertise_server.as_ref();
        let find = |configured| advertise::find(listen, configured, discovery.found());
        let at = match find(configured.map(|at| (at.host.as_str(), at.port))).await {
            Ok(at) => at,
            Err(error) => {
                let by_itself = find(None).await.map_err(BootstrapError::Addresses)?;
                let server = configured.map_or_else(String::new, ToString::to_string);
                tracing::warn!(
                    "--advertise-server {server} cannot be resolved here: {error}: gossip advertises {}",
                    by_itself.gossip
                );
                Advertised { gossip: by_itself.gossip, server }
            }
        };
        let Advertised { gossip, server } = at;
        Ok(Self { socket, discovery, gossip, server, listen, found: configured.is_none() })
    }

    /// Starts gossip and the loops of the cluster.
    pub(crate) async fn join(
        self,
        newcomer: Newcomer<'_>,
        outgoing: OutgoingQueues,
    ) -> Result<Cluster, BootstrapError> {
        let Newcomer { config, replicator, metrics, keyring, incarnation, started, tls } = newcomer;
        let cluster = &config.cluster;
        let summary = replicator.summary();
        let name = &config.node_id;
        let identity = Identity {
            node: summary.node,
            speaks_tls: config.tls.server_port.is_some(),
            ..Identity::new(incarnation, name, &cluster.region, &self.server)
        };
        let us = (identity.clone(), self.gossip);
        let settings = Settings {
            cluster_id: cluster.cluster_id.clone(),
            keyring: Arc::clone(keyring),
            socket: self.socket,
            advertise: self.gossip,
            identity,
            max_history_bytes: config.max_history_bytes as u64,
            lease_voters: config.lease.ids(&config.node_id, cluster.is_alone()),
            started_us: started.micros(),
            clock: Arc::new(clock::now),
            every: GOSSIP_EVERY,
            summary,
        };
        let membership = Membership::start(settings, self.discovery.found())
            .await
            .map_err(|error| BootstrapError::Gossip(error.to_string()))?;
        let client =
            PeerClient::with_tls(Arc::clone(keyring), incarnation, self.listen.ip(), clock::now, tls);
        let goes_by = (!config.node_id_is_random).then_some(summary.node);
        let monitor = (self.found && self.listen.ip().is_unspecified()).then_some(AddressMonitor {
            listen: self.listen,
            advertised: self.gossip,
            node: goes_by,
        });
        Ok(Cluster::start(
            replicator.clone(),
            Arc::clone(metrics),
            Local { us, monitor },
            membership,
            self.discovery,
            client,
            outgoing,
        ))
    }
}

/// A node that joins the cluster.
pub(crate) struct Newcomer<'a> {
    pub(crate) config: &'a Config,
    pub(crate) replicator: &'a Replicator,
    pub(crate) metrics: &'a Arc<Metrics>,
    pub(crate) keyring: &'a Arc<Keyring>,
    pub(crate) incarnation: Incarnation,
    /// The start of the process.
    pub(crate) started: Stamp,
    /// What it needs to speak TLS to others; `None` if it does not.
    pub(crate) tls: Option<PeerTls>,
}

/// The configuration of the replica. A node without `--node-id` has its address as its id: the next node at that
/// address follows it.
pub(crate) fn replica_config(
    config: &Config,
    bootstrap: Option<&Bootstrap>,
    protocol: ProtocolRange,
) -> ReplicaConfig {
    let us = |duration: Duration| u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
    let node = match bootstrap {
        Some(bootstrap) if config.node_id_is_random => hash(&bootstrap.server),
        _ => hash(&config.node_id),
    };
    let grace_us = us(config.tombstone_grace);
    let defaults = ReplicaConfig::new(node, hash(&config.cluster.region));
    let sync_us = us(config.cluster.replicate_interval);
    ReplicaConfig {
        alone: bootstrap.is_none(),
        mirrors: config.fill.as_ref().is_some_and(|fill| fill.strategy == Strategy::Mirror),
        grace_us,
        horizon_step_us: defaults.horizon_step_us.min(grace_us / 4).max(1),
        horizon_cap_us: defaults.horizon_cap_us.max(grace_us),
        sync_us,
        sync_slow_us: 10 * sync_us,
        max_future_us: us(config.max_future),
        protocol,
        history_versions: config.history_versions,
        history_age_us: us(config.history_age),
        checkpoint_expiry_us: us(config.checkpoint_expiry),
        max_history_bytes: config.max_history_bytes,
        cold_start_wait_us: us(config.disk.cold_start_wait),
        ..defaults
    }
}
