//! The metrics of the node. Counters grow where the event happens; gauges are set when metrics are reported.

pub mod access;
pub mod cluster;
mod disk;
pub mod feeds;
pub mod labels;
pub mod latency;
pub(crate) mod leases;
pub mod process;
pub mod tls;

use std::sync::atomic::AtomicU64;
use std::time::Duration;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::{Registry, Unit};

use crate::core::WaiterLimits;
use access::AccessMetrics;
use cluster::ClusterMetrics;
use disk::DiskMetrics;
use feeds::FeedMetrics;
use labels::{AnswerLabels, BuildLabels, CallLabels, LimitLabel, OfLabel, PortLabel, ReasonLabel, gauge};
pub use labels::{Limit, PeerRefusal, Port};
use latency::LatencyMetrics;
use leases::LeaseMetrics;
use process::ProcessMetrics;
use tls::TlsMetrics;

/// Statuses of the most frequent answers.
const COMMON: [(Port, u16); 3] = [(Port::Client, 200), (Port::Server, 204), (Port::Client, 304)];

/// All metrics. Counters grow where the event happens; gauges are set when metrics are scraped.
#[derive(Debug)]
pub struct Metrics {
    pub(crate) registry: Registry,
    answers: Family<AnswerLabels, Counter>,
    /// The counters of the most frequent answers, so that these need no search in a table.
    common_answers: [(Port, u16, Counter); COMMON.len()],
    refusals: Family<LimitLabel, Counter>,
    connections: Family<PortLabel, Gauge>,
    pub(crate) in_flight: Family<PortLabel, Gauge>,
    pub(crate) in_flight_limit: Family<PortLabel, Gauge>,
    handovers: Family<PortLabel, Counter>,
    pub(crate) log_dropped: Family<ReasonLabel, Counter>,
    pub(crate) stalls: Counter,
    ignored_parameters: Counter,
    peer_refusals: Family<ReasonLabel, Counter>,
    calls: Family<CallLabels, Counter>,
    call_seconds: Family<CallLabels, Counter<f64, AtomicU64>>,
    pub(crate) wakes: Counter,
    pub(crate) pending: Gauge,
    pub(crate) parked: Gauge,
    pub(crate) watched_names: Gauge,
    pub(crate) values: Gauge,
    pub(crate) tombstones: Gauge,
    pub(crate) expiring: Gauge,
    pub(crate) expired: Counter,
    pub(crate) set_bytes: Gauge,
    pub(crate) history_bytes: Gauge,
    pub(crate) history_least_limit: Gauge,
    pub(crate) namespaces: Gauge,
    pub(crate) history_versions: Gauge,
    pub(crate) compaction_horizon: Gauge<f64, AtomicU64>,
    /// Those of access.
    pub access: AccessMetrics,
    /// Those of feeds.
    pub feeds: FeedMetrics,
    /// How long wakes and writes take.
    pub latency: LatencyMetrics,
    pub(crate) leases: LeaseMetrics,
    pub(crate) cluster: ClusterMetrics,
    pub(crate) process: ProcessMetrics,
    pub(crate) tls: TlsMetrics,
    pub(crate) disk: DiskMetrics,
}

impl Metrics {
    /// All metrics at zero. The limits do not change while the node runs.
    #[must_use]
    pub fn new(
        max_set_bytes: usize,
        max_history_bytes: usize,
        max_client_connections: usize,
        max_server_connections: usize,
    ) -> Self {
        let mut registry = Registry::with_prefix("vwatch");
        let limits: Family<PortLabel, Gauge> = Family::default();
        for (port, limit) in [(Port::Client, max_client_connections), (Port::Server, max_server_connections)]
        {
            limits.get_or_create(&PortLabel { port }).set(gauge(limit));
        }
        registry.register("connections_limit", "Connections that a port holds at most", limits);
        let set_bytes_limit: Gauge = Gauge::default();
        set_bytes_limit.set(gauge(max_set_bytes));
        registry.register_with_unit(
            "set_limit",
            "Bytes that all records may take together",
            Unit::Bytes,
            set_bytes_limit,
        );
        let history_bytes_limit: Gauge = Gauge::default();
        history_bytes_limit.set(gauge(max_history_bytes));
        registry.register_with_unit(
            "history_limit",
            "Bytes that the records may take that a compaction may drop",
            Unit::Bytes,
            history_bytes_limit,
        );
        let answers: Family<AnswerLabels, Counter> = Family::default();
        let common =
            |(port, status)| (port, status, answers.get_or_create_owned(&AnswerLabels { port, status }));
        let common_answers = COMMON.map(common);
        let cluster = ClusterMetrics::register(&mut registry);
        let access = AccessMetrics::register(&mut registry);
        let feeds = FeedMetrics::register(&mut registry);
        let latency = LatencyMetrics::register(&mut registry);
        let leases = LeaseMetrics::register(&mut registry);
        let tls = TlsMetrics::register(&mut registry);
        let disk = DiskMetrics::register(&mut registry);
        let mut metrics = Self {
            registry,
            answers,
            common_answers,
            refusals: Family::default(),
            connections: Family::default(),
            in_flight: Family::default(),
            in_flight_limit: Family::default(),
            handovers: Family::default(),
            log_dropped: Family::default(),
            stalls: Counter::default(),
            ignored_parameters: Counter::default(),
            peer_refusals: Family::default(),
            calls: Family::default(),
            call_seconds: Family::default(),
            wakes: Counter::default(),
            pending: Gauge::default(),
            parked: Gauge::default(),
            watched_names: Gauge::default(),
            values: Gauge::default(),
            tombstones: Gauge::default(),
            expiring: Gauge::default(),
            expired: Counter::default(),
            set_bytes: Gauge::default(),
            history_bytes: Gauge::default(),
            history_least_limit: Gauge::default(),
            namespaces: Gauge::default(),
            history_versions: Gauge::default(),
            compaction_horizon: Gauge::default(),
            access,
            feeds,
            latency,
            leases,
            cluster,
            process: ProcessMetrics::new(),
            tls,
            disk,
        };
        metrics.register();
        metrics
    }

    /// Adds what the program is built from. `commit` is that of its source, if it is known.
    #[must_use]
    pub fn with_build(mut self, commit: Option<&'static str>) -> Self {
        let build: Family<BuildLabels, Gauge> = Family::default();
        let commit = commit.filter(|commit| !commit.is_empty()).unwrap_or("unknown");
        build.get_or_create(&BuildLabels { version: env!("CARGO_PKG_VERSION"), commit }).set(1);
        self.registry.register(
            "build_info",
            "The version of the program, and the commit of its source",
            build,
        );
        self
    }

    /// Adds the limits of parked readers.
    #[must_use]
    pub fn with_watcher_limits(mut self, most: WaiterLimits) -> Self {
        let limits: Family<OfLabel, Gauge> = Family::default();
        for (of, limit) in [("all", most.total), ("a_name", most.per_name)] {
            limits.get_or_create(&OfLabel { of }).set(gauge(limit));
        }
        self.registry.register(
            "parked_watchers_limit",
            "Readers that may be parked at the same time",
            limits,
        );
        self
    }

    fn register(&mut self) {
        let r = &mut self.registry;
        r.register("answers", "Requests answered, by port and status", self.answers.clone());
        r.register("limit_hits", "Times that a limit was reached, by limit", self.refusals.clone());
        r.register("connections", "Open connections, by port", self.connections.clone());
        r.register_with_unit(
            "in_flight",
            "Bytes held only for requests and answers under way, by port",
            Unit::Bytes,
            self.in_flight.clone(),
        );
        r.register_with_unit(
            "in_flight_limit",
            "Bytes that may be held for requests and answers under way, by port",
            Unit::Bytes,
            self.in_flight_limit.clone(),
        );
        r.register(
            "handovers",
            "Connections that moved from the fast path to the ordinary path, by port",
            self.handovers.clone(),
        );
        r.register(
            "log_dropped",
            "Lines of the log that were not written, by reason: standard error was not read, or the same place had logged too much",
            self.log_dropped.clone(),
        );
        r.register("stalls", "Times that a part of the node stood still for 5 s", self.stalls.clone());
        r.register(
            "ignored_parameters",
            "Parameters of requests that their path does not know, and that were ignored",
            self.ignored_parameters.clone(),
        );
        r.register(
            "peer_refusals",
            "Rejected requests on the path of peers, by reason",
            self.peer_refusals.clone(),
        );
        r.register("peer_calls", "Requests to peers, by kind and outcome", self.calls.clone());
        r.register_with_unit(
            "peer_calls_time",
            "Time that requests to peers took, by kind and outcome",
            Unit::Seconds,
            self.call_seconds.clone(),
        );
        for port in [Port::Client, Port::Server] {
            drop(self.handovers.get_or_create(&PortLabel { port }));
        }
        for refusal in PeerRefusal::ALL {
            drop(self.peer_refusals.get_or_create(&ReasonLabel { reason: refusal.as_str() }));
        }
        r.register("wakes", "Parked readers that were woken by a change", self.wakes.clone());
        r.register(
            "wakes_pending",
            "Parked readers with a change that they have not received yet",
            self.pending.clone(),
        );
        r.register("parked_watchers", "Readers that wait for a change", self.parked.clone());
        r.register("watched_names", "Names with parked readers", self.watched_names.clone());
        r.register("set_values", "Names that have a value", self.values.clone());
        r.register(
            "set_tombstones",
            "Names that were deleted and are still remembered",
            self.tombstones.clone(),
        );
        r.register("expiring_names", "Names whose value has an end", self.expiring.clone());
        r.register(
            "expired",
            "Deletes that this node has written because a value had ended",
            self.expired.clone(),
        );
        r.register_with_unit("set", "Bytes of all records", Unit::Bytes, self.set_bytes.clone());
        r.register_with_unit(
            "history",
            "Bytes of the records that are not current",
            Unit::Bytes,
            self.history_bytes.clone(),
        );
        r.register_with_unit(
            "history_least_limit",
            "The least limit of the records that a compaction may drop, of all live nodes",
            Unit::Bytes,
            self.history_least_limit.clone(),
        );
        r.register("namespaces", "Namespaces with a record, the node's own apart", self.namespaces.clone());
        r.register("history_versions", "Records that a name keeps", self.history_versions.clone());
        r.register_with_unit(
            "compaction_horizon",
            "Older records below this are dropped, Unix time",
            Unit::Seconds,
            self.compaction_horizon.clone(),
        );
        // a limit that was never hit shows as 0, not as missing
        for limit in Limit::ALL {
            drop(self.refusals.get_or_create(&LimitLabel { limit: limit.as_str() }));
        }
    }

    /// Adds the metrics of another part of the node.
    pub fn add(&mut self, register: impl FnOnce(&mut Registry)) {
        register(&mut self.registry);
    }

    /// Counts an answer.
    pub fn answered(&self, port: Port, status: u16) {
        match self.common_answers.iter().find(|(p, s, _)| (*p, *s) == (port, status)) {
            Some((.., counter)) => counter.inc(),
            None => self.answers.get_or_create(&AnswerLabels { port, status }).inc(),
        };
    }

    /// Counts a connection that moved from the fast path of a port to its ordinary path.
    pub fn handed_over(&self, port: Port) {
        self.handovers.get_or_create(&PortLabel { port }).inc();
    }

    /// Counts parameters of a request that were ignored.
    pub fn ignored_parameters(&self, count: u64) {
        self.ignored_parameters.inc_by(count);
    }

    /// Counts a rejected request of a peer.
    pub fn peer_refused(&self, why: PeerRefusal) {
        self.peer_refusals.get_or_create(&ReasonLabel { reason: why.as_str() }).inc();
    }

    /// Counts a request to a peer, and how long it took.
    pub fn called(&self, kind: &'static str, outcome: &'static str, took: Duration) {
        let labels = CallLabels { kind, outcome };
        self.calls.get_or_create(&labels).inc();
        self.call_seconds.get_or_create(&labels).inc_by(took.as_secs_f64());
    }

    /// Counts a request of a peer, by the bytes of its body.
    pub fn was_asked(&self, bytes: usize) {
        self.cluster.was_asked(bytes);
    }

    /// Counts an answer to a peer, by the bytes of its body.
    pub fn has_answered(&self, bytes: usize) {
        self.cluster.has_answered(bytes);
    }

    /// Counts that a limit was reached.
    pub fn hit(&self, limit: Limit) {
        self.refusals.get_or_create(&LimitLabel { limit: limit.as_str() }).inc();
    }

    /// The gauge of a port's open connections.
    #[must_use]
    pub fn connections(&self, port: Port) -> Gauge {
        self.connections.get_or_create_owned(&PortLabel { port })
    }
}
