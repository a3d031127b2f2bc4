//! The parts of a node that a report reads.

use std::net::SocketAddr;

use crate::cluster::Cluster;
use crate::config::Config;
use crate::core::Incarnation;
use crate::fill::Filler;
use crate::metrics::Metrics;
use crate::node::in_flight::InFlight;
use crate::node::leases::Leases;
use crate::node::log_control::DroppedLines;
use crate::node::replication::Replicator;
use crate::node::store::SharedStore;
use crate::node::streams::Streams;
use crate::node::tls::NodeTls;
use crate::node::watched_files::WatchedFiles;
use crate::seal::{KeyId, Keyring};

/// Where a node listens. A node inside a program may lack a port.
#[derive(Clone, Copy, Debug)]
pub struct Listens {
    /// For readers.
    pub client: Option<SocketAddr>,
    /// For writers and peers.
    pub server: Option<SocketAddr>,
}

/// The parts of a node on which it reports.
pub struct Sources<'a> {
    /// Its configuration.
    pub config: &'a Config,
    /// Its records and readers.
    pub store: &'a SharedStore,
    /// Its part in replication.
    pub replicator: &'a Replicator,
    /// Its leases.
    pub leases: &'a Leases,
    /// Its filler, if it has an upstream.
    pub fill: Option<&'a Filler>,
    /// Its cluster, unless it is alone.
    pub cluster: Option<&'a Cluster>,
    /// Its keys, unless it is alone.
    pub keyring: Option<&'a Keyring>,
    /// Its counters.
    pub metrics: &'a Metrics,
    /// Its ports.
    pub listens: Listens,
    /// The bytes in flight of the client port.
    pub client_in_flight: &'a InFlight,
    /// The bytes in flight of the server port.
    pub server_in_flight: &'a InFlight,
    /// The watches that go on.
    pub streams: &'a Streams,
    /// Times that a part of it stood still.
    pub stalls: u64,
    /// Lines that its log lost.
    pub dropped_lines: DroppedLines,
    /// Its TLS.
    pub tls: &'a NodeTls,
    /// Sessions of browsers.
    pub sessions: usize,
    /// The files that it reads again.
    pub files: &'a WatchedFiles,
}

impl Sources<'_> {
    /// The key that seals now, if the cluster has a secret.
    pub(super) fn seal_key(&self) -> Option<KeyId> {
        let keyring = self.keyring?;
        keyring.is_sealed().then(|| keyring.sealing_key())
    }
}

/// The id of a process, as reports show it.
pub(super) fn hex(id: Incarnation) -> String {
    format!("{:016x}", id.0)
}
