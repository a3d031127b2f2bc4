//! The metrics of the disk.

use std::sync::atomic::AtomicU64;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::{Registry, Unit};

/// The metrics of the disk. All are 0 without one.
#[derive(Debug, Default)]
pub(crate) struct DiskMetrics {
    /// Commits.
    pub(crate) commits: Counter,
    /// Names in them.
    pub(crate) names: Counter,
    /// Commits that failed.
    pub(crate) failures: Counter,
    /// Saves of the whole set.
    pub(crate) scans: Counter,
    /// Sets that were set aside.
    pub(crate) set_asides: Counter,
    /// 1 while nothing is saved.
    pub(crate) failing: Gauge,
    /// Changes that are not saved yet.
    pub(crate) unsaved: Gauge,
    /// Bytes of the files.
    pub(crate) bytes: Gauge,
    /// When the last commit was made, s since 1970.
    pub(crate) last_commit: Gauge<f64, AtomicU64>,
    /// How long it took, s.
    pub(crate) commit_time: Gauge<f64, AtomicU64>,
}

impl DiskMetrics {
    pub(super) fn register(registry: &mut Registry) -> Self {
        let m = Self::default();
        registry.register("disk_commits", "Commits to the disk", m.commits.clone());
        registry.register("disk_names", "Names that were saved with them", m.names.clone());
        registry.register("disk_failures", "Commits to the disk that failed", m.failures.clone());
        registry.register(
            "disk_scans",
            "Saves of the whole set, because more had changed than could be noted",
            m.scans.clone(),
        );
        registry.register("disk_set_asides", "Saved sets that were set aside", m.set_asides.clone());
        registry.register("disk_failing", "1 while nothing is saved", m.failing.clone());
        registry.register("disk_unsaved", "Changes that are not saved yet", m.unsaved.clone());
        registry.register_with_unit("disk_size", "Size of the saved set", Unit::Bytes, m.bytes.clone());
        registry.register_with_unit(
            "disk_last_commit_timestamp",
            "When the last commit was made, since 1970",
            Unit::Seconds,
            m.last_commit.clone(),
        );
        registry.register_with_unit(
            "disk_commit_duration",
            "How long the last commit took",
            Unit::Seconds,
            m.commit_time.clone(),
        );
        m
    }
}
