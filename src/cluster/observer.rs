//! What this node knows of other nodes: by gossip, discovery, probes and requests.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use tokio::sync::watch;

use super::peer_health::{Health, PeerHealth};
use super::prober::Probes;
use crate::core::Incarnation;
use crate::core::protocol::ProtocolRange;
use crate::membership::discovery::DiscoveryState;
use crate::membership::{Home, Membership, View};
use crate::replication::client::{CallError, PeerClient, Presence};
use crate::wire::node_info::Identity;

/// The sources of what this node knows of other nodes. Cheap to clone.
#[derive(Clone)]
pub struct Observer {
    pub(super) membership: Arc<Membership>,
    pub(super) view: watch::Receiver<Arc<View>>,
    pub(super) found: watch::Receiver<DiscoveryState>,
    pub(super) client: PeerClient,
    pub(super) probes: Arc<Probes>,
    pub(super) health: Arc<PeerHealth>,
    /// The versions of the peer protocol that this node speaks.
    pub(super) protocol: ProtocolRange,
    /// This node as it was at its start, and the address of its gossip port.
    pub(super) us: (Identity, SocketAddr),
}

impl Observer {
    /// The members, as gossip sees them.
    #[must_use]
    pub fn view(&self) -> Arc<View> {
        Arc::clone(&self.view.borrow())
    }

    /// Whether this is an address of a live member, or one that discovery named.
    #[must_use]
    pub fn is_of_peer(&self, ip: IpAddr) -> bool {
        let view = self.view.borrow();
        let gossips = view.live.iter().any(|member| member.gossip.ip().to_canonical() == ip);
        gossips || view.addresses.states.keys().any(|address| address.ip().to_canonical() == ip)
    }

    /// The last answers of DNS.
    #[must_use]
    pub fn found(&self) -> DiscoveryState {
        self.found.borrow().clone()
    }

    /// Gossip, and its counters.
    #[must_use]
    pub fn membership(&self) -> &Membership {
        &self.membership
    }

    /// The client for requests to peers, with its counters.
    #[must_use]
    pub fn client(&self) -> &PeerClient {
        &self.client
    }

    /// The last result of a request to each silent address.
    #[must_use]
    pub fn probes(&self) -> BTreeMap<SocketAddr, Result<Presence, CallError>> {
        self.probes.all()
    }

    /// The health of each peer to which requests went.
    #[must_use]
    pub fn health(&self) -> BTreeMap<Incarnation, Health> {
        self.health.health()
    }

    /// The versions of the peer protocol that this node speaks.
    #[must_use]
    pub fn protocol(&self) -> ProtocolRange {
        self.protocol
    }

    /// The gossiped identity of the node, and the address to which peers gossip.
    #[must_use]
    pub fn us(&self) -> (Identity, SocketAddr) {
        let (identity, gossip) = &self.us;
        let Home { server, node } = self.membership.home();
        (Identity { server, node, ..identity.clone() }, *gossip)
    }
}
