//! Metrics of leases.

use std::sync::atomic::AtomicU64;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::{Registry, Unit};

use super::cluster::StateLabel;
use super::labels::ReasonLabel;

/// The metrics of leases, set when metrics are reported.
#[derive(Debug, Default)]
pub(crate) struct LeaseMetrics {
    pub(crate) leases: Family<StateLabel, Gauge>,
    pub(crate) waiters: Gauge,
    pub(crate) voters: Family<StateLabel, Gauge>,
    pub(crate) other_voters: Gauge,
    pub(crate) abstention: Gauge<f64, AtomicU64>,
    pub(crate) refused: Family<ReasonLabel, Counter>,
    pub(crate) watches: Gauge,
    pub(crate) resets: Counter,
    pub(crate) checks: Family<ResultLabel, Counter>,
}

/// What the voters have said of a lease that had run out.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct ResultLabel {
    pub(crate) result: &'static str,
}

impl LeaseMetrics {
    pub(super) fn register(registry: &mut Registry) -> Self {
        let metrics = Self::default();
        registry.register(
            "leases",
            "Leases, by what this node has to do with them: granted by it, remembered as a voter, known to be held, or run out and not \
             known to be over",
            metrics.leases.clone(),
        );
        registry.register(
            "lease_waiters",
            "Requests that wait for a lease at this node",
            metrics.waiters.clone(),
        );
        registry.register(
            "lease_voters",
            "Voters on leases: all that are set, those that are live and one process each, and those that are two processes",
            metrics.voters.clone(),
        );
        registry.register(
            "lease_other_voters",
            "Live members that have other voters on leases than this node: while there is one, this node does not vote",
            metrics.other_voters.clone(),
        );
        registry.register_with_unit(
            "lease_abstention",
            "For how long this node still abstains as a voter, because it started not long ago",
            Unit::Seconds,
            metrics.abstention.clone(),
        );
        registry.register(
            "lease_votes_refused",
            "Votes that this node has refused, by reason",
            metrics.refused.clone(),
        );
        registry.register(
            "lease_watches",
            "Streams that are told what happens to leases",
            metrics.watches.clone(),
        );
        registry.register(
            "lease_watch_resets",
            "Times that such a stream began again with what is held, because its reader had fallen behind or a lease came back",
            metrics.resets.clone(),
        );
        registry.register(
            "lease_checks",
            "Times that the voters were asked whether a lease that had run out here is over, by their answer",
            metrics.checks.clone(),
        );
        metrics
    }
}
