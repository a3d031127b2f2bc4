//! Histograms of how long wakes and writes take.
//!
//! Event loops observe them, so an observation takes no lock and allocates nothing: it finds its bucket among a few
//! bounds and adds to two counters. One observation may stand for many readers or writes.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use prometheus_client::encoding::{
    EncodeLabelSet, EncodeLabelValue, EncodeMetric, LabelValueEncoder, MetricEncoder, NoLabelSet,
};
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::{MetricType, TypedMetric};
use prometheus_client::registry::{Registry, Unit};

/// The upper bounds of the buckets, in µs: a write on the fast path takes some 10 µs, and the wakes of one change are
/// spread over `--block-for` at most, 10 s.
const BOUNDS_US: [u64; 18] = [
    25, 50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000,
    2_500_000, 5_000_000, 10_000_000,
];

/// How a request was served.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Path {
    /// By an event loop of the fast path.
    Fast,
    /// By a task of the ordinary path.
    Ordinary,
}

impl EncodeLabelValue for Path {
    fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> fmt::Result {
        let name = match self {
            Self::Fast => "fast",
            Self::Ordinary => "ordinary",
        };
        EncodeLabelValue::encode(&name, encoder)
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct PathLabel {
    path: Path,
}

/// The histograms of latencies.
#[derive(Debug)]
pub struct LatencyMetrics {
    wakes: ByPath,
    writes: ByPath,
}

impl LatencyMetrics {
    pub(super) fn register(registry: &mut Registry) -> Self {
        let wakes = ByPath::register(
            registry,
            "wake_latency",
            "Time from a change to the answers of the readers that it wakes, the pauses between them included",
        );
        let writes = ByPath::register(
            registry,
            "write_latency",
            "Time from a write that was read to its answer, with the checks of tokens and leases",
        );
        Self { wakes, writes }
    }

    /// Counts so many readers that were answered together, this long after their change.
    pub fn woken(&self, path: Path, took: Duration, readers: usize) {
        self.wakes.of(path).observe(took, readers);
    }

    /// Counts so many writes that were answered together, this long after they were read.
    pub fn written(&self, path: Path, took: Duration, writes: usize) {
        self.writes.of(path).observe(took, writes);
    }
}

/// A histogram for each path, so that an observation needs no search in a table.
#[derive(Debug)]
struct ByPath {
    fast: Histogram,
    ordinary: Histogram,
}

impl ByPath {
    fn register(registry: &mut Registry, name: &str, help: &str) -> Self {
        let family: Family<PathLabel, Histogram> = Family::default();
        let of = |path| family.get_or_create_owned(&PathLabel { path });
        let by_path = Self { fast: of(Path::Fast), ordinary: of(Path::Ordinary) };
        registry.register_with_unit(name, help, Unit::Seconds, family);
        by_path
    }

    fn of(&self, path: Path) -> &Histogram {
        match path {
            Path::Fast => &self.fast,
            Path::Ordinary => &self.ordinary,
        }
    }
}

/// A histogram of times. Cheap to clone; clones share their counts.
#[derive(Clone, Debug, Default)]
struct Histogram(Arc<Counts>);

#[derive(Debug, Default)]
struct Counts {
    /// The observations of each bucket, and last those above all bounds.
    buckets: [AtomicU64; BOUNDS_US.len() + 1],
    /// The sum of all times, in µs: it lasts for thousands of years of 100,000 readers.
    sum_us: AtomicU64,
}

impl Histogram {
    fn observe(&self, took: Duration, count: usize) {
        let nanos = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        let at = BOUNDS_US.partition_point(|bound| bound * 1_000 < nanos);
        let count = count as u64;
        // rounded as a whole, so that many short times do not vanish
        let sum_us = nanos.saturating_mul(count).saturating_add(500) / 1_000;
        self.0.buckets[at].fetch_add(count, Ordering::Relaxed);
        self.0.sum_us.fetch_add(sum_us, Ordering::Relaxed);
    }
}

impl EncodeMetric for Histogram {
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> fmt::Result {
        let bounds = BOUNDS_US.iter().map(|bound| *bound as f64 / 1e6).chain([f64::INFINITY]);
        let counts = self.0.buckets.iter().map(|bucket| bucket.load(Ordering::Relaxed));
        let buckets: Vec<(f64, u64)> = bounds.zip(counts).collect();
        // of these counts, so that the last bucket has it whatever is observed meanwhile
        let count = buckets.iter().map(|(_, count)| count).sum();
        let sum = self.0.sum_us.load(Ordering::Relaxed) as f64 / 1e6;
        encoder.encode_histogram::<NoLabelSet>(sum, count, &buckets, None)
    }

    fn metric_type(&self) -> MetricType {
        Self::TYPE
    }
}

impl TypedMetric for Histogram {
    const TYPE: MetricType = MetricType::Histogram;
}

#[cfg(test)]
mod tests {
    use prometheus_client::encoding::text::encode;

    use super::*;

    fn page(registry: &Registry) -> String {
        let mut text = String::new();
        encode(&mut text, registry).expect("a text");
        text
    }

    #[test]
    fn each_observation_is_in_its_bucket_and_in_those_above_it() {
        let mut registry = Registry::default();
        let latency = LatencyMetrics::register(&mut registry);
        let micros = Duration::from_micros;
        latency.woken(Path::Fast, micros(25), 1);
        latency.woken(Path::Fast, micros(25) + Duration::from_nanos(1), 64);
        latency.woken(Path::Fast, Duration::from_secs(11), 2);
        latency.woken(Path::Fast, Duration::MAX, 0);
        let page = page(&registry);
        for (bound, count) in [
            ("0.000025", 1),
            ("0.00005", 65),
            ("0.0001", 65),
            ("0.001", 65),
            ("1.0", 65),
            ("10.0", 65),
            ("+Inf", 67),
        ] {
            let line = format!("wake_latency_seconds_bucket{{le=\"{bound}\",path=\"fast\"}} {count}\n");
            assert!(page.contains(&line), "{line} in {page}");
        }
        assert!(page.contains("wake_latency_seconds_count{path=\"fast\"} 67\n"), "{page}");
        assert!(page.contains("wake_latency_seconds_sum{path=\"fast\"} 22.001625\n"), "{page}");
        assert!(page.contains("wake_latency_seconds_count{path=\"ordinary\"} 0\n"), "{page}");
        assert!(page.contains("write_latency_seconds_count{path=\"fast\"} 0\n"), "{page}");
    }

    #[test]
    fn times_below_a_microsecond_do_not_vanish_from_the_sum() {
        let histogram = Histogram::default();
        for _ in 0..10 {
            histogram.observe(Duration::from_nanos(600), 1);
        }
        histogram.observe(Duration::from_nanos(100), 1_000);
        assert_eq!(histogram.0.sum_us.load(Ordering::Relaxed), 110);
    }
}
