//! The ports of a node, and how many connections each may hold.

use std::net::{TcpListener, UdpSocket};

use super::error::StartError;
use super::fd_limit;
use crate::cluster::bootstrap::bind_both;
use crate::config::Config;
use crate::config::fill::FillConfig;
use crate::http::listener::listen;
use crate::node::limits::{MAX_SERVER_CONNECTIONS, PEER_DESCRIPTORS, RESERVED_DESCRIPTORS};
use crate::report::Listens;

/// A listening socket, and the connections that it may hold.
pub(super) struct Bound {
    pub(super) listener: TcpListener,
    pub(super) max_connections: usize,
}

/// The sockets of a node.
pub(super) struct Sockets {
    pub(super) client: Bound,
    pub(super) server: Bound,
    /// For gossip, unless the node is alone.
    pub(super) gossip: Option<UdpSocket>,
}

impl Sockets {
    /// Binds all ports, and divides the files that the process may have open.
    ///
    /// # Errors
    /// The first port that cannot be bound.
    pub(super) fn bind(config: &Config) -> Result<Self, StartError> {
        let descriptors = fd_limit::raise_limit();
        let client = listen(&config.listen_client, "--listen-client").map_err(StartError::Listen)?;
        let (server, gossip) = bind_for_peers(config)?;
        let max_server = MAX_SERVER_CONNECTIONS.min(descriptors / 4);
        let max_client = max_client_connections(config, descriptors, max_server);
        Ok(Self {
            client: Bound { listener: client, max_connections: max_client },
            server: Bound { listener: server, max_connections: max_server },
            gossip,
        })
    }

    /// The addresses of the two ports.
    ///
    /// # Errors
    /// If the system does not return them.
    pub(super) fn listens(&self) -> Result<Listens, StartError> {
        let address = |bound: &Bound| {
            bound.listener.local_addr().map_err(|cause| StartError::system("addresses", cause))
        };
        Ok(Listens { client: address(&self.client)?, server: address(&self.server)? })
    }
}

/// The descriptors that are left for readers.
fn max_client_connections(config: &Config, descriptors: usize, max_server: usize) -> usize {
    let for_fills = config.fill.as_ref().map_or(0, FillConfig::connections).min(descriptors / 4);
    let for_peers = if config.cluster.is_alone() { 0 } else { PEER_DESCRIPTORS.min(descriptors / 4) };
    let kept_back = max_server + for_fills + for_peers + RESERVED_DESCRIPTORS;
    let left = descriptors.saturating_sub(kept_back).max(1);
    if let Some(wanted) = config.max_connections.filter(|&wanted| wanted > left) {
        tracing::warn!(
            "--max-connections {wanted} is more than open files allow: {left} it is; raise ulimit -n"
        );
    }
    config.max_connections.unwrap_or(left).min(left)
}

/// The server port, and with it the gossip port, unless the node is alone.
fn bind_for_peers(config: &Config) -> Result<(TcpListener, Option<UdpSocket>), StartError> {
    let server = || listen(&config.listen_server, "--listen-server").map_err(StartError::Listen);
    if config.cluster.is_alone() {
        return Ok((server()?, None));
    }
    let (server, gossip) = bind_both(server, config.listen_server.ends_with(":0"))?;
    Ok((server, Some(gossip)))
}
