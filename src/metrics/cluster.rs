//! What is counted of the group: read where it is kept whenever somebody asks for it.

use std::sync::atomic::{AtomicU64, Ordering};

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::{Registry, Unit};

use crate::api::state::Node;
use crate::cluster::Group;
use crate::membership::stats::{Dropped, Stats};
use crate::metrics::gauge;
use crate::node::store::{GroupCensus, Standing};
use crate::report::cluster::agreement;

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct StateLabel {
    state: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByLabel {
    by: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ReasonLabel {
    reason: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct KeyLabel {
    key: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct BytesLabels {
    kind: &'static str,
    direction: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct DirectionLabel {
    direction: &'static str,
}

const STANDINGS: [(Standing, &str); 3] = [
    (Standing::Joining, "joining"),
    (Standing::Ready, "ready"),
    (Standing::DoubtsItsClock, "clock_in_doubt"),
];

/// All that is counted of the group.
#[derive(Debug, Default)]
pub(crate) struct GroupMetrics {
    standing: Family<StateLabel, Gauge>,
    members: Family<StateLabel, Gauge>,
    nodes: Family<ByLabel, Gauge>,
    agrees: Gauge,
    lag: Gauge,
    dirty: Gauge,
    skew: Gauge<f64, AtomicU64>,
    rounds: Counter,
    requests: Counter,
    vectors: Counter,
    snapshots: Counter,
    too_different: Counter,
    failures: Counter,
    differences: Counter,
    old_differences: Counter,
    wrong_horizons: Counter,
    clock_steps: Family<DirectionLabel, Counter>,
    bytes: Family<BytesLabels, Counter>,
    datagrams: Family<DirectionLabel, Counter>,
    dropped: Family<ReasonLabel, Counter>,
    send_errors: Counter,
    addresses: Gauge,
    left_off: Gauge,
    unanswered: Gauge,
    discovery_age: Gauge<f64, AtomicU64>,
    seal_key: Family<KeyLabel, Gauge>,
    /// Of peers that ask us.
    asked_in: AtomicU64,
    answered_out: AtomicU64,
}

impl GroupMetrics {
    /// All at zero.
    pub(crate) fn register(r: &mut Registry) -> Self {
        let all = Self::default();
        r.register(
            "standing",
            "1 of how the node stands: joining, ready or clock_in_doubt",
            all.standing.clone(),
        );
        r.register("members", "Other nodes, by what gossip says of them", all.members.clone());
        r.register("cluster_nodes", "Nodes, this one among them, by three ways to count", all.nodes.clone());
        r.register("cluster_agrees", "1 if the three ways come to the same nodes", all.agrees.clone());
        r.register(
            "peer_lag_writes",
            "Most writes of ours that a peer has yet to acknowledge",
            all.lag.clone(),
        );
        r.register("peers_dirty", "Peers that a sync has to bring up to date", all.dirty.clone());
        r.register_with_unit(
            "clock_offset",
            "How far the clock of the peer that is furthest off is from ours",
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
            "What went between nodes, by kind and direction",
            Unit::Bytes,
            all.bytes.clone(),
        );
        r.register("gossip_datagrams", "Datagrams of gossip, dropped ones too", all.datagrams.clone());
        r.register("gossip_dropped", "Datagrams that were dropped, by reason", all.dropped.clone());
        r.register("gossip_send_errors", "Datagrams that could not be sent", all.send_errors.clone());
        r.register("discovery_addresses", "Addresses that --replicate-with came to", all.addresses.clone());
        r.register("discovery_left_off", "Addresses that were too many", all.left_off.clone());
        r.register("discovery_unanswered", "Names that were never resolved", all.unanswered.clone());
        r.register_with_unit(
            "discovery_age",
            "Age of the oldest answer among those that --replicate-with names by name",
            Unit::Seconds,
            all.discovery_age.clone(),
        );
        r.register("seal_key", "1 of the id of the key that this node seals with", all.seal_key.clone());
        all
    }

    fn register_sync(&self, r: &mut Registry) {
        r.register("sync_rounds", "Rounds with a peer that were complete", self.rounds.clone());
        r.register("sync_requests", "Requests of rounds", self.requests.clone());
        r.register("sync_vectors", "Exchanges of vectors between equal sets", self.vectors.clone());
        r.register("sync_snapshots", "Snapshots that were complete", self.snapshots.clone());
        r.register(
            "sync_too_different",
            "Rounds that found so much that a snapshot was taken instead",
            self.too_different.clone(),
        );
        r.register("sync_failures", "Rounds and snapshots that were not complete", self.failures.clone());
        r.register("sync_differences", "Differences that rounds found", self.differences.clone());
        r.register(
            "sync_old_differences",
            "Differences that a push should have brought long before: replication is healthy while it stands still",
            self.old_differences.clone(),
        );
        r.register(
            "sync_wrong_horizons",
            "Horizons of others that were no honest ones: a clock is wrong somewhere",
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

    /// Reads everything.
    pub(crate) fn read(&self, node: &Node) {
        let census = node.store.group_census();
        for (standing, state) in STANDINGS {
            self.standing.get_or_create(&StateLabel { state }).set((census.standing == standing).into());
        }
        self.read_sync(&census);
        self.read_peers(&census);
        self.seal_key.clear();
        if let Some(key) = node.seal_key() {
            self.seal_key.get_or_create(&KeyLabel { key: key.to_string() }).set(1);
        }
        match node.group.get() {
            Some(group) => self.read_group(group, &census),
            None => self.count_nodes(1, 1, 1, true),
        }
    }

    fn read_sync(&self, census: &GroupCensus) {
        let counts = census.counts;
        for (counter, count) in [
            (&self.rounds, counts.rounds),
            (&self.requests, counts.requests),
            (&self.vectors, counts.vectors),
            (&self.snapshots, counts.snapshots),
            (&self.too_different, counts.too_different),
            (&self.failures, counts.failures),
            (&self.differences, counts.differences),
            (&self.old_differences, counts.old_differences),
            (&self.wrong_horizons, counts.wrong_horizons),
        ] {
            set(counter, count);
        }
        for (direction, count) in [("forward", counts.clock_steps.forward), ("back", counts.clock_steps.back)]
        {
            set(&self.clock_steps.get_or_create(&DirectionLabel { direction }), count);
        }
    }

    fn read_peers(&self, census: &GroupCensus) {
        let peers = &census.peers;
        let lag = peers.iter().map(|peer| peer.lag).max().unwrap_or(0);
        self.lag.set(i64::try_from(lag).unwrap_or(i64::MAX));
        self.dirty.set(gauge(peers.iter().filter(|peer| peer.dirty).count()));
        let skew = peers.iter().filter_map(|peer| peer.offset_us).map(i64::unsigned_abs).max();
        // nothing known is not the same as nothing wrong
        self.skew.set(skew.map_or(f64::NAN, |skew| skew as f64 / 1e6));
    }

    fn read_group(&self, group: &Group, census: &GroupCensus) {
        let (view, found, agreement) = (group.view(), group.found(), agreement(group));
        for (state, count) in [
            ("live", view.live.len()),
            ("dead", view.missing(group.us().0.node).count()),
            ("unreadable", view.unreadable.len()),
            ("away", census.away),
        ] {
            self.members.get_or_create(&StateLabel { state }).set(gauge(count));
        }
        self.count_nodes(agreement.dns, agreement.gossip, agreement.data, agreement.agree);
        self.addresses.set(gauge(found.addresses.len()));
        self.left_off.set(gauge(found.left_off));
        self.unanswered.set(gauge(found.unanswered()));
        self.discovery_age.set(found.age().as_secs_f64());
        let traffic = group.client().traffic();
        for (kind, direction, count) in [
            ("request", "out", traffic.out.load(Ordering::Relaxed)),
            ("answer", "in", traffic.back.load(Ordering::Relaxed)),
            ("request", "in", self.asked_in.load(Ordering::Relaxed)),
            ("answer", "out", self.answered_out.load(Ordering::Relaxed)),
        ] {
            set(&self.bytes.get_or_create(&BytesLabels { kind, direction }), count);
        }
        self.read_gossip(group.membership().stats());
    }

    fn count_nodes(&self, dns: usize, gossip: usize, data: usize, agree: bool) {
        for (by, count) in [("dns", dns), ("gossip", gossip), ("data", data)] {
            self.nodes.get_or_create(&ByLabel { by }).set(gauge(count));
        }
        self.agrees.set(agree.into());
    }

    fn read_gossip(&self, stats: &Stats) {
        let load = |count: &AtomicU64| count.load(Ordering::Relaxed);
        for (direction, datagrams, bytes) in [
            ("in", load(&stats.datagrams_in), load(&stats.bytes_in)),
            ("out", load(&stats.datagrams_out), load(&stats.bytes_out)),
        ] {
            set(&self.datagrams.get_or_create(&DirectionLabel { direction }), datagrams);
            set(&self.bytes.get_or_create(&BytesLabels { kind: "gossip", direction }), bytes);
        }
        for why in Dropped::ALL {
            set(&self.dropped.get_or_create(&ReasonLabel { reason: why.as_str() }), stats.dropped(why));
        }
        set(&self.send_errors, load(&stats.send_errors));
    }
}

fn set(counter: &Counter, count: u64) {
    counter.inner().store(count, Ordering::Relaxed);
}
