//! The state that all requests of a node share.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use tokio::sync::Semaphore;

use crate::access::Access;
use crate::cluster::Cluster;
use crate::config::Config;
use crate::core::Incarnation;
use crate::core::protocol::ProtocolRange;
use crate::fill::Filler;
use crate::metrics::{Metrics, Port};
use crate::node::in_flight::InFlight;
use crate::node::leases::Leases;
use crate::node::lifecycle::{Lifecycle, Phase};
use crate::node::limits::{
    MAX_LEASE_REQUESTS_AT_ONCE, MAX_LISTS_AT_ONCE, MAX_LISTS_AT_WORK, MAX_PEER_REQUESTS_AT_ONCE,
    MAX_READERS_AHEAD, MAX_SCANS_AT_ONCE, MAX_STREAM_SCANS, MAX_VERSION_SET_ANSWERS, MAX_VERSION_SETS,
    MAX_VERSION_SETS_AT_WORK,
};
use crate::node::log_control::LogControl;
use crate::node::pulse::Pulse;
use crate::node::reads::Reads;
use crate::node::replication::Replicator;
use crate::node::store::{Readiness, SharedStore};
use crate::node::stream_groups::StreamGroups;
use crate::node::streams::Streams;
use crate::node::tls::NodeTls;
use crate::node::watched_files::WatchedFiles;
use crate::report::{Listens, Sources};
use crate::seal::Keyring;

/// The state that a node needs to answer peers.
pub struct Peering {
    /// The keys that prove that a request is from a peer.
    pub keyring: Arc<Keyring>,
    /// This process.
    pub us: Incarnation,
    /// The versions of the peer protocol that it speaks.
    pub protocol: ProtocolRange,
    /// Places for requests that are answered at the same time, held until the answer is sent.
    pub places: Arc<Semaphore>,
    /// The same for requests about leases, which may wait for votes.
    pub lease_places: Arc<Semaphore>,
    /// The secrets are being read again.
    pub(crate) reloading: Arc<AtomicBool>,
}

impl Peering {
    pub(crate) fn new(keyring: Arc<Keyring>, us: Incarnation, protocol: ProtocolRange) -> Self {
        let places = Arc::new(Semaphore::new(MAX_PEER_REQUESTS_AT_ONCE));
        let lease_places = Arc::new(Semaphore::new(MAX_LEASE_REQUESTS_AT_ONCE));
        Self { keyring, us, protocol, places, lease_places, reloading: Arc::default() }
    }
}

/// The state that all requests of a node share.
pub struct Node {
    /// Its configuration.
    pub config: Config,
    /// Its records and readers.
    pub store: SharedStore,
    /// Its part in replication.
    pub replicator: Replicator,
    /// Its leases.
    pub leases: Leases,
    /// Its reads.
    pub reads: Reads,
    /// Its filler, if it has an upstream.
    pub fill: Option<Filler>,
    /// Its metrics.
    pub metrics: Arc<Metrics>,
    /// The state to answer peers; `None` if it has none.
    pub peering: Option<Peering>,
    /// Its part in the cluster; `None` if it is alone.
    pub cluster: Option<Cluster>,
    /// What it checks before it handles a request.
    pub access: Access,
    /// Where it listens.
    pub listens: Listens,
    /// The log of the process.
    pub log: LogControl,
    /// TLS of its ports, and to other nodes.
    pub tls: NodeTls,
    /// The files that it reads again.
    pub files: Arc<WatchedFiles>,
    /// Where it is between start and end.
    pub lifecycle: Arc<Lifecycle>,
    /// Whether its parts go on.
    pub pulse: Arc<Pulse>,
    /// Places for version sets that have arrived, held until they are compared.
    pub version_sets: Semaphore,
    /// Places for version sets that are being compared.
    pub version_sets_at_work: Semaphore,
    /// Places for long answers to version sets, held until the answer is sent.
    pub version_set_answers: Arc<Semaphore>,
    /// Places for lists that are made.
    pub lists_at_work: Semaphore,
    /// Places for long lists of names, held until the list is sent.
    pub lists: Arc<Semaphore>,
    /// Places for long answers to watches that were made by a scan, held until the answer is sent.
    pub scans: Arc<Semaphore>,
    /// The watches that go on.
    pub streams: Arc<Streams>,
    /// The groups of those of the ordinary path.
    pub stream_groups: Arc<StreamGroups>,
    /// Places for streams that scan the set.
    pub stream_scans: Arc<Semaphore>,
    /// Places for readers whose cursor is ahead of this node.
    pub readers_ahead: Semaphore,
    /// Places for long lists of watchers, apart from those of names: readers must not keep an operator from listing
    /// watchers.
    pub watcher_lists: Arc<Semaphore>,
    /// The bytes in flight of the client port.
    client_in_flight: Arc<InFlight>,
    /// The bytes in flight of the server port.
    server_in_flight: Arc<InFlight>,
}

/// The parts that a node is made of; see [`Node`].
pub(crate) struct Parts {
    pub(crate) config: Config,
    pub(crate) store: SharedStore,
    pub(crate) replicator: Replicator,
    pub(crate) leases: Leases,
    pub(crate) fill: Option<Filler>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) peering: Option<Peering>,
    pub(crate) cluster: Option<Cluster>,
    pub(crate) access: Access,
    pub(crate) listens: Listens,
    pub(crate) log: LogControl,
    pub(crate) tls: NodeTls,
    pub(crate) files: Arc<WatchedFiles>,
}

impl Node {
    pub(crate) fn new(parts: Parts) -> Self {
        let Parts {
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
        } = parts;
        let reads = Reads::new(store.clone(), fill.clone());
        let readers = store.clone();
        let streams = Streams::new(config.waiter_limits.total);
        let stream_groups =
            StreamGroups::new(store.clone(), replicator.clone(), Arc::clone(&streams), config.shutdown_grace);
        // values are read on the client port only
        let client_in_flight = InFlight::new(config.max_set_bytes, move |sweep| readers.retired_bytes(sweep));
        let server_in_flight = InFlight::new(config.max_set_bytes, |_| 0);
        Self {
            config,
            store,
            replicator,
            leases,
            reads,
            fill,
            metrics,
            peering,
            cluster,
            access,
            listens,
            log,
            tls,
            files,
            lifecycle: Arc::default(),
            pulse: Arc::default(),
            version_sets: Semaphore::new(MAX_VERSION_SETS),
            version_sets_at_work: Semaphore::new(MAX_VERSION_SETS_AT_WORK),
            version_set_answers: Arc::new(Semaphore::new(MAX_VERSION_SET_ANSWERS)),
            lists_at_work: Semaphore::new(MAX_LISTS_AT_WORK),
            lists: Arc::new(Semaphore::new(MAX_LISTS_AT_ONCE)),
            scans: Arc::new(Semaphore::new(MAX_SCANS_AT_ONCE)),
            streams,
            stream_groups,
            stream_scans: Arc::new(Semaphore::new(MAX_STREAM_SCANS)),
            readers_ahead: Semaphore::new(MAX_READERS_AHEAD),
            watcher_lists: Arc::new(Semaphore::new(MAX_LISTS_AT_ONCE)),
            client_in_flight,
            server_in_flight,
        }
    }

    /// The bytes in flight of a port.
    #[must_use]
    pub fn in_flight(&self, port: Port) -> &Arc<InFlight> {
        match port {
            Port::Client => &self.client_in_flight,
            Port::Server => &self.server_in_flight,
        }
    }

    /// The parts that a report reads.
    pub(super) fn sources(&self) -> Sources<'_> {
        Sources {
            config: &self.config,
            store: &self.store,
            replicator: &self.replicator,
            leases: &self.leases,
            fill: self.fill.as_ref(),
            cluster: self.cluster.as_ref(),
            keyring: self.peering.as_ref().map(|peering| &*peering.keyring),
            metrics: &self.metrics,
            listens: self.listens,
            client_in_flight: &self.client_in_flight,
            server_in_flight: &self.server_in_flight,
            streams: &self.streams,
            stalls: self.pulse.stalls(),
            dropped_lines: (self.log.dropped)(),
            tls: &self.tls,
            sessions: self.access.tokens.as_ref().map_or(0, |tokens| tokens.sessions()),
            files: &self.files,
        }
    }

    /// Whether it is not about to stop.
    #[must_use]
    pub fn is_serving(&self) -> bool {
        self.lifecycle.phase() == Phase::Serving
    }

    /// For how long a mirror has been cut off from its leader; zero if it is not, and if the node is none.
    #[must_use]
    pub fn cut_off(&self) -> Duration {
        self.fill.as_ref().and_then(Filler::mirror_stale_for).unwrap_or_default()
    }

    /// Whether it has a complete set.
    #[must_use]
    pub fn has_joined(&self) -> bool {
        self.store.readiness() != Readiness::Joining
    }

    /// Whether it answers reads.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.is_serving() && self.has_joined()
    }
}
