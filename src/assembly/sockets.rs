//! The ports of a node, and how many connections each may hold.

use std::net::{SocketAddr, TcpListener, UdpSocket};

use super::error::StartError;
use crate::cluster::bootstrap::bind_both;
use crate::config::Config;
use crate::config::fill::FillConfig;
use crate::http::listener::listen;
#[cfg(feature = "node")]
use crate::metrics::Port;
use crate::node::limits::{MAX_SERVER_CONNECTIONS, PEER_DESCRIPTORS, RESERVED_DESCRIPTORS};
#[cfg(feature = "node")]
use crate::node::tls::NodeTls;
use crate::report::Listens;

/// The ports that a node is to have. Each has the name of its setting, for errors.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ports {
    /// For readers.
    pub(crate) client: Option<&'static str>,
    /// For writers and peers.
    pub(crate) server: Option<&'static str>,
}

/// A listening socket, and the connections that it may hold.
pub(crate) struct Bound {
    pub(super) listener: TcpListener,
    pub(super) max_connections: usize,
}

/// The sockets of a node.
pub(crate) struct Sockets {
    pub(super) client: Option<Bound>,
    pub(super) server: Option<Bound>,
    /// For gossip, unless the node is alone.
    pub(super) gossip: Option<UdpSocket>,
}

impl Sockets {
    /// Binds the ports, and divides the files that the process may have open. A node that has peers needs its server
    /// port.
    ///
    /// # Errors
    /// The first port that cannot be bound.
    pub(crate) fn bind(config: &Config, ports: Ports, descriptors: usize) -> Result<Self, StartError> {
        let client = ports.client.map(|setting| listen(&config.listen_client, setting));
        let client = client.transpose().map_err(StartError::Listen)?;
        let (server, gossip) = bind_for_peers(config, ports.server)?;
        let max_server = if server.is_some() { MAX_SERVER_CONNECTIONS.min(descriptors / 4) } else { 0 };
        let max_client = max_client_connections(config, descriptors, max_server);
        Ok(Self {
            client: client.map(|listener| Bound { listener, max_connections: max_client }),
            server: server.map(|listener| Bound { listener, max_connections: max_server }),
            gossip,
        })
    }

    /// The addresses of the two ports.
    ///
    /// # Errors
    /// If the system does not return them.
    pub(crate) fn listens(&self) -> Result<Listens, StartError> {
        Ok(Listens { client: address(self.client.as_ref())?, server: address(self.server.as_ref())? })
    }

    /// Most connections of the two ports.
    pub(super) fn max_connections(&self) -> (usize, usize) {
        let most = |bound: &Option<Bound>| bound.as_ref().map_or(0, |bound| bound.max_connections);
        (most(&self.client), most(&self.server))
    }

    /// The listeners of the ports that need the workers of the runtime, where the client port has so many event loops:
    /// on the server port all but plain writes need them, and all connections with TLS do. A port that speaks nothing
    /// else is left out: an answer in plain text would be no answer there.
    #[cfg(feature = "node")]
    pub(crate) fn by_workers(&self, event_loops: usize, tls: &NodeTls) -> Vec<TcpListener> {
        let is_plain = |port| tls.of(port).is_none_or(|tls| tls.takes_plain());
        let client = self.client.as_ref().filter(|_| event_loops == 0 || tls.of(Port::Client).is_some());
        let ports = [(Port::Server, self.server.as_ref()), (Port::Client, client)];
        let ports = ports.into_iter().filter(|&(port, _)| is_plain(port)).filter_map(|(_, bound)| bound);
        ports.filter_map(|port| port.listener.try_clone().ok()).collect()
    }
}

fn address(bound: Option<&Bound>) -> Result<Option<SocketAddr>, StartError> {
    let address = bound.map(|bound| bound.listener.local_addr()).transpose();
    address.map_err(|cause| StartError::system("addresses", cause))
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

/// The server port, if it has a name, and with it the gossip port, unless the node is alone.
fn bind_for_peers(
    config: &Config,
    setting: Option<&'static str>,
) -> Result<(Option<TcpListener>, Option<UdpSocket>), StartError> {
    let Some(setting) = setting else { return Ok((None, None)) };
    let server = || listen(&config.listen_server, setting).map_err(StartError::Listen);
    if config.cluster.is_alone() {
        return Ok((Some(server()?), None));
    }
    let (server, gossip) = bind_both(server, config.listen_server.ends_with(":0"), setting)?;
    Ok((Some(server), Some(gossip)))
}
