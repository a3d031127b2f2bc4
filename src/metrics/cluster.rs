//! Metrics of the cluster.

use std::sync::atomic::{AtomicU64, Ordering};

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::{Registry, Unit};

use super::labels::ReasonLabel;

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct StateLabel {
    pub(crate) state: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct ByLabel {
    pub(crate) by: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct KeyLabel {
    pub(crate) key: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct BytesLabels {
    pub(crate) kind: &'static str,
    pub(crate) direction: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct DirectionLabel {
    pub(crate) direction: &'static str,
}

/// The counters and gauges of the cluster.
#[derive(Debug, Default)]
pub(crate) struct ClusterMetrics {
    pub(crate) readiness: Family<StateLabel, Gauge>,
    pub(crate) members: Family<StateLabel, Gauge>,
    pub(crate) nodes: Family<ByLabel, Gauge>,
    pub(crate) agrees: Gauge,
    pub(crate) lag: Gauge,
    pub(crate) needs_repair: Gauge,
    pub(crate) skew: Gauge<f64, AtomicU64>,
    pub(crate) rounds: Counter,
    pub(crate) requests: Counter,
    pub(crate) vectors: Counter,
    pub(crate) snapshots: Counter,
    pub(crate) too_different: Counter,
    pub(crate) failures: Counter,
    pub(crate) differences: Counter,
    pub(crate) old_differences: Counter,
    pub(crate) wrong_horizons: Counter,
    pub(crate) clock_steps: Family<DirectionLabel, Counter>,
    pub(crate) bytes: Family<BytesLabels, Counter>,
    pub(crate) datagrams: Family<DirectionLabel, Counter>,
    pub(crate) dropped: Family<ReasonLabel, Counter>,
    pub(crate) send_errors: Counter,
    pub(crate) addresses: Gauge,
    pub(crate) left_off: Gauge,
    pub(crate) unanswered: Gauge,
    pub(crate) discovery_age: Gauge<f64, AtomicU64>,
    pub(crate) seal_key: Family<KeyLabel, Gauge>,
    /// Bytes of requests of peers.
    pub(crate) asked_in: AtomicU64,
    pub(crate) answered_out: AtomicU64,
}

impl ClusterMetrics {
    /// All at zero.
    pub(crate) fn register(r: &mut Registry) -> Self {
        let all = Self::default();
        r.register(
            "standing",
            "1 for the readiness of the node: joining, ready or clock_in_doubt",
            all.readiness.clone(),
        );
        r.register("members", "Other nodes, by their state in gossip", all.members.clone());
        r.register("cluster_nodes", "Nodes, this one among them, by three ways to count", all.nodes.clone());
        r.register("cluster_agrees", "1 if the three ways find the same nodes", all.agrees.clone());
        r.register(
            "peer_lag_writes",
            "Most writes of this node that one peer has not acknowledged",
            all.lag.clone(),
        );
        r.register("peers_dirty", "Peers that a sync has to bring up to date", all.needs_repair.clone());
        r.register_with_unit(
            "clock_offset",
            "Largest difference between the clock of a peer and that of this node",
            Unit::Seconds,
            all.skew.clone(),
        );
        r.register(
            "clock_steps",
            "Times that the wall clock of this node was set, by direction: forward or back",
            all.clock_steps.clone(),
        );
        all.register_sync(r);
        r.register_with_unit(
            "replication",
            "Traffic between nodes, by kind and direction",
            Unit::Bytes,
            all.bytes.clone(),
        );
        r.register("gossip_datagrams", "Datagrams of gossip, with dropped ones", all.datagrams.clone());
        r.register("gossip_dropped", "Datagrams that were dropped, by reason", all.dropped.clone());
        r.register("gossip_send_errors", "Datagrams that could not be sent", all.send_errors.clone());
        r.register(
            "discovery_addresses",
            "Addresses that --replicate-with resolves to",
            all.addresses.clone(),
        );
        r.register("discovery_left_off", "Addresses over the limit, which are ignored", all.left_off.clone());
        r.register("discovery_unanswered", "Names that were never resolved", all.unanswered.clone());
        r.register_with_unit(
            "discovery_age",
            "Age of the oldest answer for a host name in --replicate-with",
            Unit::Seconds,
            all.discovery_age.clone(),
        );
        r.register("seal_key", "1 for the id of the key that seals messages", all.seal_key.clone());
        all
    }

    fn register_sync(&self, r: &mut Registry) {
        r.register("sync_rounds", "Complete rounds with a peer", self.rounds.clone());
        r.register("sync_requests", "Requests of rounds", self.requests.clone());
        r.register("sync_vectors", "Exchanges of vectors between equal sets", self.vectors.clone());
        r.register("sync_snapshots", "Complete snapshots", self.snapshots.clone());
        r.register(
            "sync_too_different",
            "Rounds that found so many differences that a snapshot followed",
            self.too_different.clone(),
        );
        r.register("sync_failures", "Incomplete rounds and snapshots", self.failures.clone());
        r.register("sync_differences", "Differences that rounds found", self.differences.clone());
        r.register(
            "sync_old_differences",
            "Differences that a push should have brought long before: replication is healthy while this does not grow",
            self.old_differences.clone(),
        );
        r.register(
            "sync_wrong_horizons",
            "Horizons of peers that were rejected: a clock is wrong",
            self.wrong_horizons.clone(),
        );
    }

    /// Counts a request of a peer, by the bytes of its body.
    pub(crate) fn was_asked(&self, bytes: usize) {
        self.asked_in.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// Counts an answer to a peer, by the bytes of its body.
    pub(crate) fn has_answered(&self, bytes: usize) {
        self.answered_out.fetch_add(bytes as u64, Ordering::Relaxed);
    }
}
