//! How a node that has others begins: where it is, who they may be, and the start of its group.

use std::net::{IpAddr, SocketAddr, TcpListener, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

use super::group::{Errands, Group};
use super::start::{StartError, system};
use super::{Node, clock};
use crate::config::Config;
use crate::core::Stamp;
use crate::core::replica::Config as ReplicaConfig;
use crate::membership::discovery::Discovery;
use crate::membership::facts::{Identity, hash};
use crate::membership::{self, GOSSIP_EVERY, Membership, Settings, advertise};
use crate::replication::PROTOCOL;
use crate::replication::client::PeerClient;

/// How long the start waits for the first answer of discovery: only to find out by which address peers reach this node.
const FIRST_ANSWER: Duration = Duration::from_secs(2);

/// Ports that are tried for TCP and UDP together when the system chooses.
const PORTS_TRIED: usize = 50;

/// What is known of the surroundings before the group starts.
pub(super) struct Neighbourhood {
    socket: UdpSocket,
    discovery: Discovery,
    /// Where peers gossip to.
    gossip: SocketAddr,
    /// `host:port` where peers send requests.
    server: String,
    listen: IpAddr,
}

/// Gossip has the number of the server port. Where the system chooses that, one is looked for that is free for both.
pub(super) fn bind_both(
    mut listen: impl FnMut() -> Result<TcpListener, StartError>,
    port_is_open: bool,
) -> Result<(TcpListener, UdpSocket), StartError> {
    let mut tried = 0;
    loop {
        let server = listen()?;
        let address = server.local_addr().map_err(|e| system("addresses", e))?;
        match membership::bind(address) {
            Ok(socket) => return Ok((server, socket)),
            Err(error)
                if error.kind() == std::io::ErrorKind::AddrInUse && port_is_open && tried < PORTS_TRIED =>
            {
                tried += 1;
            }
            Err(error) => {
                return Err(StartError::Gossip(format!(
                    "cannot gossip on {address} (UDP): {error}: free the port, or choose another --listen-server"
                )));
            }
        }
    }
}

impl Neighbourhood {
    /// Looks around.
    pub(super) async fn find(config: &Config, socket: UdpSocket) -> Result<Self, StartError> {
        let cluster = &config.cluster;
        let listen = socket.local_addr().map_err(|e| system("addresses", e))?;
        let discovery = Discovery::start(&cluster.replicate_with, cluster.resolve_interval, &cluster.dns);
        let mut found = discovery.found();
        // without an answer it goes on: the address is then that of the way to anywhere
        let answered = found.wait_for(|found| found.unanswered() == 0);
        let _ = tokio::time::timeout(FIRST_ANSWER, answered).await;
        let peers = Arc::clone(&discovery.found().borrow().addresses);
        let by_itself = advertise::address(listen, &peers);
        let (gossip, server) = match &cluster.advertise_server {
            None => (by_itself, by_itself.to_string()),
            Some(at) => {
                let resolved = tokio::net::lookup_host((at.host.as_str(), at.port)).await;
                let first = resolved.ok().and_then(|mut all| all.next());
                if first.is_none() {
                    tracing::warn!(
                        "--advertise-server {at} is not known by name here: gossip says {by_itself}"
                    );
                }
                (first.unwrap_or(by_itself), at.to_string())
            }
        };
        Ok(Self { socket, discovery, gossip, server, listen: listen.ip() })
    }

    /// Starts the group.
    pub(super) async fn join(
        self,
        node: &Arc<Node>,
        started: Stamp,
        errands: Errands,
    ) -> Result<(), StartError> {
        let Some(peering) = &node.peering else { return Ok(()) };
        let cluster = &node.config.cluster;
        let summary = node.store.summary();
        let identity = Identity {
            incarnation: peering.us,
            node: summary.node,
            name: node.config.node_id.clone(),
            region: cluster.region.clone(),
            server: self.server,
            protocol: PROTOCOL,
        };
        let us = (identity.clone(), self.gossip);
        let settings = Settings {
            cluster_id: cluster.cluster_id.clone(),
            keyring: Arc::clone(&peering.keyring),
            socket: self.socket,
            advertise: self.gossip,
            identity,
            started_us: started.micros(),
            clock: Arc::new(clock::now),
            every: GOSSIP_EVERY,
            summary,
        };
        let membership = Membership::start(settings, self.discovery.found())
            .await
            .map_err(|error| StartError::Gossip(error.to_string()))?;
        let client = PeerClient::new(Arc::clone(&peering.keyring), peering.us, self.listen, clock::now);
        let group = Arc::new(Group::start(
            node.store.clone(),
            Arc::clone(&node.metrics),
            us,
            membership,
            self.discovery,
            client,
            errands,
        ));
        tokio::spawn({
            let group = Arc::clone(&group);
            async move { group.tick().await }
        });
        tokio::spawn({
            let group = Arc::clone(&group);
            async move {
                let why = group.broken().await;
                tracing::error!("gossip has ended, so this node is dead to others: {why}");
                std::process::exit(1);
            }
        });
        let _ = node.group.set(group);
        Ok(())
    }
}

/// How the replica is set up. A node that was given no id goes by its address: whoever starts there next follows it.
pub(super) fn replica_config(config: &Config, neighbourhood: Option<&Neighbourhood>) -> ReplicaConfig {
    let us = |duration: Duration| u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
    let node = match neighbourhood {
        Some(neighbourhood) if config.node_id_is_random => hash(&neighbourhood.server),
        _ => hash(&config.node_id),
    };
    let grace_us = us(config.tombstone_grace);
    let defaults = ReplicaConfig::new(node, hash(&config.cluster.region));
    let sync_us = us(config.cluster.replicate_interval);
    ReplicaConfig {
        alone: neighbourhood.is_none(),
        grace_us,
        horizon_step_us: defaults.horizon_step_us.min(grace_us / 4).max(1),
        horizon_cap_us: defaults.horizon_cap_us.max(grace_us),
        sync_us,
        sync_slow_us: 10 * sync_us,
        max_future_us: us(config.max_future),
        ..defaults
    }
}
