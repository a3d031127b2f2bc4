//! How a node that has others begins: where it is, who they may be, and the start of its group.

use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

use crate::api::state::Node;
use crate::cluster::address_monitor::Survey;
use crate::cluster::{Errands, Group, Whereabouts};
use crate::config::Config;
use crate::core::Stamp;
use crate::core::replica::Config as ReplicaConfig;
use crate::daemon::{StartError, system};
use crate::membership::advertise::{self, Advertised};
use crate::membership::discovery::Discovery;
use crate::membership::facts::{Identity, hash};
use crate::membership::{self, GOSSIP_EVERY, Membership, Settings};
use crate::node::clock;
use crate::replication::PROTOCOL;
use crate::replication::client::PeerClient;

/// Ports that are tried for TCP and UDP together when the system chooses.
const PORTS_TRIED: usize = 50;

/// What is known of the surroundings before the group starts.
pub(crate) struct Neighbourhood {
    socket: UdpSocket,
    discovery: Discovery,
    /// Where peers gossip to.
    gossip: SocketAddr,
    /// `host:port` where peers send requests.
    server: String,
    listen: SocketAddr,
    /// Whether that was found by itself, and may change.
    found: bool,
}

/// Gossip has the number of the server port. Where the system chooses that, one is looked for that is free for both.
pub(crate) fn bind_both(
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
    pub(crate) async fn find(config: &Config, socket: UdpSocket) -> Result<Self, StartError> {
        let cluster = &config.cluster;
        let listen = socket.local_addr().map_err(|e| system("addresses", e))?;
        let discovery = Discovery::start(&cluster.replicate_with, cluster.resolve_interval, &cluster.dns);
        let told = cluster.advertise_server.as_ref();
        let find = |told| advertise::find(listen, told, discovery.found());
        let at = match find(told.map(|at| (at.host.as_str(), at.port))).await {
            Ok(at) => at,
            Err(error) => {
                let by_itself = find(None).await.map_err(|e| system("addresses", e))?;
                let told = told.map_or_else(String::new, ToString::to_string);
                tracing::warn!(
                    "--advertise-server {told} cannot be resolved here: {error}: gossip says {}",
                    by_itself.gossip
                );
                Advertised { gossip: by_itself.gossip, server: told }
            }
        };
        let Advertised { gossip, server } = at;
        Ok(Self { socket, discovery, gossip, server, listen, found: told.is_none() })
    }

    /// Starts the group.
    pub(crate) async fn join(
        self,
        node: &Arc<Node>,
        started: Stamp,
        errands: Errands,
    ) -> Result<(), StartError> {
        let Some(peering) = &node.peering else { return Ok(()) };
        let cluster = &node.config.cluster;
        let summary = node.store.summary();
        let name = &node.config.node_id;
        let identity = Identity {
            node: summary.node,
            ..Identity::new(peering.us, name, &cluster.region, &self.server, PROTOCOL)
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
        let client = PeerClient::new(Arc::clone(&peering.keyring), peering.us, self.listen.ip(), clock::now);
        let goes_by = (!node.config.node_id_is_random).then_some(summary.node);
        let survey = (self.found && self.listen.ip().is_unspecified()).then_some(Survey {
            listen: self.listen,
            advertised: self.gossip,
            node: goes_by,
        });
        let group = Arc::new(Group::start(
            node.store.clone(),
            Arc::clone(&node.metrics),
            Whereabouts { us, survey },
            membership,
            self.discovery,
            client,
            errands,
        ));
        group.start_ticking();
        group.end_process_if_broken();
        let _ = node.group.set(group);
        Ok(())
    }
}

/// How the replica is set up. A node that was given no id goes by its address: whoever starts there next follows it.
pub(crate) fn replica_config(config: &Config, neighbourhood: Option<&Neighbourhood>) -> ReplicaConfig {
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
