//! Metrics of filling.

use std::fmt;
use std::sync::{Arc, Weak};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric};
use prometheus_client::metrics::counter::{ConstCounter, Counter};
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Registry;

use super::Shared;
use super::host::OwnerAnswer;
use super::status::MirrorHealth;

/// The outcome of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum RequestOutcome {
    /// A new version, or a delete.
    Changed,
    /// Nothing new.
    Unchanged,
    /// The upstream does not know the name.
    Unknown,
    /// The leader has less than this node.
    Behind,
    /// 401 or 403.
    Denied,
    /// 429, or 503 with `Retry-After`.
    Limited,
    /// 5xx.
    Error,
    /// No answer.
    Unreachable,
    /// An unusable answer.
    Bad,
    /// A token was requested.
    Token,
    /// A redirect was followed.
    Redirect,
}

impl RequestOutcome {
    const ALL: [Self; 11] = [
        Self::Changed,
        Self::Unchanged,
        Self::Unknown,
        Self::Behind,
        Self::Denied,
        Self::Limited,
        Self::Error,
        Self::Unreachable,
        Self::Bad,
        Self::Token,
        Self::Redirect,
    ];

    const fn as_str(self) -> &'static str {
        match self {
            Self::Changed => "changed",
            Self::Unchanged => "unchanged",
            Self::Unknown => "unknown",
            Self::Behind => "behind",
            Self::Denied => "denied",
            Self::Limited => "limited",
            Self::Error => "error",
            Self::Unreachable => "unreachable",
            Self::Bad => "bad",
            Self::Token => "token",
            Self::Redirect => "redirect",
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RequestLabels {
    upstream: Arc<str>,
    outcome: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct UpstreamLabel {
    upstream: Arc<str>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct LoopLabel {
    r#loop: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct HeardLabel {
    heard: &'static str,
}

/// Counters of filling.
#[derive(Clone, Debug, Default)]
pub(super) struct FillMetrics {
    requests: Family<RequestLabels, Counter>,
    turns: Family<LoopLabel, Counter>,
    owners: Family<HeardLabel, Counter>,
    silent: Family<UpstreamLabel, Counter>,
    /// Answers that go back to an earlier version.
    pub(super) flaps: Counter,
    /// Copies with a stamp far ahead of this node's clock.
    pub(super) ahead: Counter,
    /// Reads of names without room for an entry.
    pub(super) refused: Counter,
}

impl FillMetrics {
    /// Counts a request.
    pub(super) fn count_request(&self, upstream: &Arc<str>, outcome: RequestOutcome) {
        let labels = RequestLabels { upstream: Arc::clone(upstream), outcome: outcome.as_str() };
        self.requests.get_or_create(&labels).inc();
    }

    /// Counts that an address answered nothing.
    pub(super) fn count_silence(&self, upstream: &Arc<str>) {
        self.silent.get_or_create(&UpstreamLabel { upstream: Arc::clone(upstream) }).inc();
    }

    /// Counts the answer of a name's owner.
    pub(super) fn count_owner_answer(&self, answer: OwnerAnswer) {
        let heard = match answer {
            OwnerAnswer::Filled => "filled",
            OwnerAnswer::NotFilled => "not_filled",
            OwnerAnswer::None => "nothing",
        };
        self.owners.get_or_create(&HeardLabel { heard }).inc();
    }

    /// Counts a turn of a background loop.
    pub(super) fn count_turn(&self, name: &'static str) {
        self.turns.get_or_create(&LoopLabel { r#loop: name }).inc();
    }

    pub(super) fn register(&self, registry: &mut Registry, shared: &Arc<Shared>) {
        for (upstream, outcome) in shared.labels.iter().flat_map(|u| RequestOutcome::ALL.map(|o| (u, o))) {
            // a series exists from the start, with the value 0
            let labels = RequestLabels { upstream: Arc::clone(upstream), outcome: outcome.as_str() };
            drop(self.requests.get_or_create(&labels));
        }
        for upstream in &shared.labels {
            drop(self.silent.get_or_create(&UpstreamLabel { upstream: Arc::clone(upstream) }));
        }
        registry.register(
            "fill_silent",
            "Times that an address answered nothing, not even a probe, by upstream",
            self.silent.clone(),
        );
        registry.register(
            "fill_requests",
            "Requests to upstreams, by upstream and outcome",
            self.requests.clone(),
        );
        registry.register("fill_loop_turns", "Turns of background loops of filling", self.turns.clone());
        registry.register(
            "fill_owners_told",
            "Reports to the owner of a name that the name has readers here, by the owner's answer",
            self.owners.clone(),
        );
        registry.register(
            "fill_flaps",
            "Answers that went back to an earlier version, as from replicas that disagree",
            self.flaps.clone(),
        );
        registry.register(
            "fill_stamps_ahead",
            "Copies with a stamp more than 5 minutes ahead of this node's clock",
            self.ahead.clone(),
        );
        registry.register(
            "fill_refused",
            "Reads of names for which --fill-max-names left no room",
            self.refused.clone(),
        );
        registry.register_collector(Box::new(Gauges(Arc::downgrade(shared))));
    }
}

/// Gauges that are read at each scrape.
#[derive(Debug)]
struct Gauges(Weak<Shared>);

impl Collector for Gauges {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let Some(shared) = self.0.upgrade() else { return Ok(()) };
        let health = shared.health();
        let mut gauge = |name: &str, help: &str, value: i64| {
            let gauge = ConstGauge::new(value);
            let metric = encoder.encode_descriptor(name, help, None, gauge.metric_type())?;
            gauge.encode(metric)
        };
        gauge("fill_names", "Entries that are filled", count(health.names))?;
        gauge("fill_names_limit", "Entries that are filled at most", count(health.max_names))?;
        gauge("fill_unknown_names", "Entries remembered as unknown to the upstream", count(health.unknown))?;
        gauge(
            "fill_expected_names",
            "Entries that wait for the first answer of the upstream",
            count(health.expected),
        )?;
        gauge("fill_tier", "Nodes between this one and the source", count(health.tier))?;
        if let Some(left) = health.budget_left {
            gauge("fill_budget_left", "Requests that may still be sent in this second", count(left))?;
        }
        if let Some(MirrorHealth { age, behind, streams_ended }) = health.mirror {
            gauge(
                "mirror_behind_changes",
                "Changes of the leader that the mirror does not have yet; -1 if their number is not known",
                behind.map_or(-1, |behind| i64::try_from(behind).unwrap_or(i64::MAX)),
            )?;
            let seconds = ConstGauge::new(age.as_secs_f64());
            let metric = encoder.encode_descriptor(
                "mirror_age_seconds",
                "Time since the mirror had all changes of its leader",
                None,
                seconds.metric_type(),
            )?;
            seconds.encode(metric)?;
            let counter = ConstCounter::new(streams_ended);
            let metric = encoder.encode_descriptor(
                "mirror_streams_ended",
                "Streams of leaders that ended",
                None,
                counter.metric_type(),
            )?;
            counter.encode(metric)?;
        }
        let mut age = encoder.encode_descriptor(
            "fill_age_seconds",
            "Time since the last usable answer, by upstream",
            None,
            ConstGauge::new(0.0).metric_type(),
        )?;
        for upstream in &health.upstreams {
            let label = UpstreamLabel { upstream: Arc::clone(&upstream.url) };
            ConstGauge::new(upstream.age.as_secs_f64()).encode(age.encode_family(&label)?)?;
        }
        let mut up = encoder.encode_descriptor(
            "fill_up",
            "Whether the upstream answers",
            None,
            ConstGauge::new(0_i64).metric_type(),
        )?;
        for upstream in &health.upstreams {
            let label = UpstreamLabel { upstream: Arc::clone(&upstream.url) };
            ConstGauge::new(i64::from(upstream.is_up)).encode(up.encode_family(&label)?)?;
        }
        Ok(())
    }
}

fn count(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}
