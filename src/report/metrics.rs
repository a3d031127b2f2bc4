//! The metrics of the node, as text for Prometheus.

use std::sync::atomic::{AtomicU64, Ordering};

use prometheus_client::encoding::text::{encode_eof, encode_registry};
use prometheus_client::metrics::counter::Counter;

use super::Sources;
use super::history_limit::strictest;
use crate::cluster::consistency::agreement;
use crate::cluster::observer::Observer;
use crate::core::Store;
use crate::core::lease::message::VoteRefusal;
use crate::core::lease::view::Verdict;
use crate::membership::stats::{Dropped, Stats};
use crate::metrics::cluster::{ByLabel, BytesLabels, ClusterMetrics, DirectionLabel, KeyLabel, StateLabel};
use crate::metrics::feeds::FeedMetrics;
use crate::metrics::labels::{PortLabel, ReasonLabel, gauge};
use crate::metrics::leases::{LeaseMetrics, ResultLabel};
use crate::metrics::process::Vitals;
use crate::metrics::tls::TlsMetrics;
use crate::metrics::{Metrics, Port};
use crate::node::clock;
use crate::node::leases::LeaseCensus;
use crate::node::replication::ClusterCensus;
use crate::node::store::Readiness;
use crate::wire::exposition::{Form, to_text};

const READINESS: [(Readiness, &str); 3] = [
    (Readiness::Joining, "joining"),
    (Readiness::Ready, "ready"),
    (Readiness::ClockInDoubt, "clock_in_doubt"),
];

/// The text of all metrics. `vitals` are the figures of the process.
#[must_use]
pub fn encode(sources: &Sources<'_>, vitals: Vitals, form: Form) -> String {
    let (m, store) = (sources.metrics, sources.store);
    m.process.set(vitals);
    read(&m.cluster, sources);
    let census = store.census();
    m.values.set(gauge(census.values));
    m.tombstones.set(gauge(census.tombstones));
    m.expiring.set(gauge(census.expiring));
    set(&m.expired, census.expired);
    m.set_bytes.set(gauge(census.bytes));
    m.history_bytes.set(gauge(census.older_bytes));
    m.history_least_limit.set(i64::try_from(strictest(sources).max_bytes).unwrap_or(i64::MAX));
    m.namespaces.set(gauge(census.namespaces));
    m.history_versions.set(i64::from(census.registers.depth.versions()));
    m.compaction_horizon.set(census.registers.compaction_horizon.micros() as f64 / 1e6);
    m.parked.set(gauge(census.parked));
    m.feeds.parked.set(gauge(census.parked_feeds));
    m.feeds.streams.set(gauge(sources.streams.open()));
    m.feeds.stream_kept.set(gauge(sources.streams.kept_bytes()));
    m.feeds.ring_reach.set(census.ring_reach_us as f64 / 1e6);
    m.feeds.ring_entries.set(gauge(census.ring_entries));
    read_checkpoints(&m.feeds, sources);
    read_leases(&m.leases, &sources.leases.census());
    m.access.sessions.set(gauge(sources.sessions));
    m.watched_names.set(gauge(census.watched_names));
    for (port, in_flight) in
        [(Port::Client, sources.client_in_flight), (Port::Server, sources.server_in_flight)]
    {
        m.in_flight.get_or_create(&PortLabel { port }).set(gauge(in_flight.used()));
        m.in_flight_limit.get_or_create(&PortLabel { port }).set(gauge(in_flight.most()));
    }
    let counters = store.fanout().counters();
    m.pending.set(i64::try_from(counters.pending.load(Ordering::Relaxed)).unwrap_or(i64::MAX));
    set(&m.wakes, counters.woken.load(Ordering::Relaxed));
    set(&m.stalls, sources.stalls);
    for (reason, lines) in
        [("unread", sources.dropped_lines.unread), ("repeated", sources.dropped_lines.repeated)]
    {
        set(&m.log_dropped.get_or_create(&ReasonLabel { reason }), lines);
    }
    read_tls(&m.tls, sources);
    read_disk(m, sources);
    let mut text = String::new();
    // writing into a String does not fail
    let _ = encode_registry(&mut text, &m.registry)
        .and_then(|()| encode_registry(&mut text, &m.process.registry))
        .and_then(|()| encode_eof(&mut text));
    match form {
        Form::OpenMetrics => text,
        Form::Text => to_text(&text),
    }
}

fn read(m: &ClusterMetrics, sources: &Sources<'_>) {
    let census = sources.replicator.census();
    for (readiness, state) in READINESS {
        m.readiness.get_or_create(&StateLabel { state }).set((census.readiness == readiness).into());
    }
    read_sync(m, &census);
    read_peers(m, &census);
    m.seal_key.clear();
    if let Some(key) = sources.seal_key() {
        m.seal_key.get_or_create(&KeyLabel { key: key.to_string() }).set(1);
    }
    match sources.cluster {
        Some(cluster) => read_cluster(m, cluster.observer(), &census),
        None => count_nodes(m, 1, 1, 1, true),
    }
}

fn read_leases(m: &LeaseMetrics, census: &LeaseCensus) {
    let remembered = census.remembered.unwrap_or(0);
    for (state, count) in [
        ("granted", census.granted),
        ("remembered", remembered),
        ("known", census.known),
        ("overdue", census.overdue),
    ] {
        m.leases.get_or_create(&StateLabel { state }).set(gauge(count));
    }
    m.waiters.set(gauge(census.waiting));
    for (state, count) in
        [("set", census.voters), ("live", census.live_voters), ("doubled", census.doubled_voters)]
    {
        m.voters.get_or_create(&StateLabel { state }).set(gauge(count));
    }
    m.other_voters.set(gauge(census.with_other_voters));
    m.abstention.set(census.abstains_for.as_secs_f64());
    for (reason, count) in VoteRefusal::LABELS.into_iter().zip(census.refused) {
        set(&m.refused.get_or_create(&ReasonLabel { reason }), count);
    }
    m.watches.set(gauge(census.readers));
    set(&m.resets, census.resets);
    for (result, count) in Verdict::LABELS.into_iter().zip(census.verdicts) {
        set(&m.checks.get_or_create(&ResultLabel { result }), count);
    }
}

fn read_tls(m: &TlsMetrics, sources: &Sources<'_>) {
    let now = i64::try_from(clock::now().micros() / 1_000_000).unwrap_or(i64::MAX);
    for port in [Port::Client, Port::Server] {
        if let Some(end) = sources.tls.of(port).and_then(|tls| tls.not_after()) {
            m.expires_in(port, i64::try_from(end).unwrap_or(i64::MAX).saturating_sub(now));
        }
    }
    let failures = sources.files.failures();
    for of in sources.files.names() {
        m.reload_failed(of, failures.iter().any(|(name, _)| *name == of));
    }
}

fn read_disk(m: &Metrics, sources: &Sources<'_>) {
    let Some(disk) = sources.store.disk() else { return };
    let (m, stats) = (&m.disk, disk.stats());
    let of = |figure: &AtomicU64| figure.load(Ordering::Relaxed);
    for (counter, count) in [
        (&m.commits, &stats.commits),
        (&m.names, &stats.names),
        (&m.failures, &stats.failures),
        (&m.scans, &stats.scans),
        (&m.set_asides, &stats.set_asides),
    ] {
        set(counter, of(count));
    }
    m.failing.set(stats.failing().is_some().into());
    m.unsaved.set(gauge(sources.store.with(Store::noted)));
    m.bytes.set(i64::try_from(of(&stats.bytes)).unwrap_or(i64::MAX));
    m.last_commit.set(of(&stats.last_commit_us) as f64 / 1e6);
    m.commit_time.set(of(&stats.commit_us) as f64 / 1e6);
}

fn read_checkpoints(m: &FeedMetrics, sources: &Sources<'_>) {
    let census = sources.replicator.checkpoints(sources.config.checkpoint_expiry);
    for (state, count) in [("live", census.live), ("expired", census.expired)] {
        m.checkpoints.get_or_create(&StateLabel { state }).set(gauge(count));
    }
    let held_us =
        census.holder.map_or(0, |holder| clock::now().micros().saturating_sub(holder.from.micros()));
    m.checkpoint_hold.set(held_us as f64 / 1e6);
}

fn read_sync(m: &ClusterMetrics, census: &ClusterCensus) {
    let counts = census.counts;
    for (counter, count) in [
        (&m.rounds, counts.rounds),
        (&m.requests, counts.requests),
        (&m.vectors, counts.vectors),
        (&m.snapshots, counts.snapshots),
        (&m.too_different, counts.too_different),
        (&m.failures, counts.failures),
        (&m.differences, counts.differences),
        (&m.old_differences, counts.old_differences),
        (&m.wrong_horizons, counts.wrong_horizons),
    ] {
        set(counter, count);
    }
    for (direction, count) in [("forward", counts.clock_steps.forward), ("back", counts.clock_steps.back)] {
        set(&m.clock_steps.get_or_create(&DirectionLabel { direction }), count);
    }
}

fn read_peers(m: &ClusterMetrics, census: &ClusterCensus) {
    let peers = &census.peers;
    let lag = peers.iter().map(|peer| peer.lag).max().unwrap_or(0);
    m.lag.set(i64::try_from(lag).unwrap_or(i64::MAX));
    m.needs_repair.set(gauge(peers.iter().filter(|peer| peer.needs_repair).count()));
    let skew = peers.iter().filter_map(|peer| peer.offset_us).map(i64::unsigned_abs).max();
    // an unknown offset is not an offset of 0
    m.skew.set(skew.map_or(f64::NAN, |skew| skew as f64 / 1e6));
}

fn read_cluster(m: &ClusterMetrics, observer: &Observer, census: &ClusterCensus) {
    let (view, found, agreement) = (observer.view(), observer.found(), agreement(observer));
    for (state, count) in [
        ("live", view.live.len()),
        ("dead", view.missing(observer.us().0.node).count()),
        ("unreadable", view.unreadable.len()),
        ("away", census.away),
    ] {
        m.members.get_or_create(&StateLabel { state }).set(gauge(count));
    }
    count_nodes(m, agreement.dns, agreement.gossip, agreement.data, agreement.agree);
    m.addresses.set(gauge(found.addresses.len()));
    m.left_off.set(gauge(found.left_off));
    m.unanswered.set(gauge(found.unanswered()));
    m.discovery_age.set(found.age().as_secs_f64());
    let traffic = observer.client().traffic();
    for (kind, direction, count) in [
        ("request", "out", traffic.out.load(Ordering::Relaxed)),
        ("answer", "in", traffic.back.load(Ordering::Relaxed)),
        ("request", "in", m.asked_in.load(Ordering::Relaxed)),
        ("answer", "out", m.answered_out.load(Ordering::Relaxed)),
    ] {
        set(&m.bytes.get_or_create(&BytesLabels { kind, direction }), count);
    }
    read_gossip(m, observer.membership().stats());
}

fn count_nodes(m: &ClusterMetrics, dns: usize, gossip: usize, data: usize, agree: bool) {
    for (by, count) in [("dns", dns), ("gossip", gossip), ("data", data)] {
        m.nodes.get_or_create(&ByLabel { by }).set(gauge(count));
    }
    m.agrees.set(agree.into());
}

fn read_gossip(m: &ClusterMetrics, stats: &Stats) {
    let load = |count: &AtomicU64| count.load(Ordering::Relaxed);
    for (direction, datagrams, bytes) in [
        ("in", load(&stats.datagrams_in), load(&stats.bytes_in)),
        ("out", load(&stats.datagrams_out), load(&stats.bytes_out)),
    ] {
        set(&m.datagrams.get_or_create(&DirectionLabel { direction }), datagrams);
        set(&m.bytes.get_or_create(&BytesLabels { kind: "gossip", direction }), bytes);
    }
    for why in Dropped::ALL {
        set(&m.dropped.get_or_create(&ReasonLabel { reason: why.as_str() }), stats.dropped(why));
    }
    set(&m.send_errors, load(&stats.send_errors));
}

fn set(counter: &Counter, count: u64) {
    counter.inner().store(count, Ordering::Relaxed);
}
