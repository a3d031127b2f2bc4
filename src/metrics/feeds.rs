//! Metrics of feeds: how they begin, and what readers are told beside changes.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::{Registry, Unit};

use super::cluster::StateLabel;
use super::labels::ReasonLabel;
use crate::core::feed::{Compacted, Event, ResetReason};

/// How a feed begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Begun {
    /// With all that is kept.
    Oldest,
    /// With what comes.
    Now,
    /// With the records from a stamp on.
    Stamp,
    /// After a cursor, with the last changes of this node.
    Cursor,
    /// After a cursor that these do not reach: by a scan of the set.
    CursorByScan,
}

impl Begun {
    const ALL: [Self; 5] = [Self::Oldest, Self::Now, Self::Stamp, Self::Cursor, Self::CursorByScan];

    const fn as_str(self) -> &'static str {
        match self {
            Self::Oldest => "oldest",
            Self::Now => "now",
            Self::Stamp => "stamp",
            Self::Cursor => "cursor",
            Self::CursorByScan => "cursor_by_scan",
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct FromLabel {
    from: &'static str,
}

/// The metrics of feeds.
#[derive(Debug, Default)]
pub struct FeedMetrics {
    begun: Family<FromLabel, Counter>,
    interruptions: Family<ReasonLabel, Counter>,
    pub(crate) parked: Gauge,
    pub(crate) streams: Gauge,
    pub(crate) stream_kept: Gauge,
    pub(crate) ring_reach: Gauge<f64, std::sync::atomic::AtomicU64>,
    pub(crate) ring_entries: Gauge,
    pub(crate) checkpoints: Family<StateLabel, Gauge>,
    pub(crate) checkpoint_hold: Gauge<f64, std::sync::atomic::AtomicU64>,
}

/// Why a reader is told that it may lack something.
const REASONS: [&str; 7] = [
    "reset_genesis",
    "reset_horizon",
    "reset_ahead",
    "compacted_names",
    "compacted_dots",
    "compacted_unknown",
    "ahead",
];

impl FeedMetrics {
    pub(super) fn register(registry: &mut Registry) -> Self {
        let metrics = Self::default();
        registry.register(
            "feeds_begun",
            "Watches of names and prefixes that began, by where",
            metrics.begun.clone(),
        );
        registry.register(
            "feed_interruptions",
            "Times that a watch told its reader that it begins again or lacks versions, by reason",
            metrics.interruptions.clone(),
        );
        registry.register(
            "parked_feeds",
            "Watches of names and prefixes that wait for a change",
            metrics.parked.clone(),
        );
        registry.register(
            "streams",
            "Watches of names and prefixes that go on, whether they wait for a change or not",
            metrics.streams.clone(),
        );
        registry.register_with_unit(
            "stream_kept",
            "What groups of watches that go on keep for readers that have not taken it, about",
            Unit::Bytes,
            metrics.stream_kept.clone(),
        );
        registry.register_with_unit(
            "change_ring_reach",
            "Age of the oldest change from which a watch goes on without a scan",
            Unit::Seconds,
            metrics.ring_reach.clone(),
        );
        registry.register(
            "change_ring_entries",
            "Changes from which a watch goes on without a scan",
            metrics.ring_entries.clone(),
        );
        registry.register(
            "checkpoints",
            "Checkpoints of readers, by whether a compaction waits for them",
            metrics.checkpoints.clone(),
        );
        registry.register_with_unit(
            "checkpoint_hold",
            "How far behind now a checkpoint holds the compaction horizon back",
            Unit::Seconds,
            metrics.checkpoint_hold.clone(),
        );
        for from in Begun::ALL {
            drop(metrics.begun.get_or_create(&FromLabel { from: from.as_str() }));
        }
        for reason in REASONS {
            drop(metrics.interruptions.get_or_create(&ReasonLabel { reason }));
        }
        metrics
    }

    /// The feeds that began so far, by where.
    pub fn all_begun(&self) -> impl Iterator<Item = (&'static str, u64)> {
        Begun::ALL.iter().map(|begun| {
            let from = begun.as_str();
            (from, self.begun.get_or_create(&FromLabel { from }).get())
        })
    }

    /// How often readers were told so far that they begin again or lack versions, by reason.
    pub fn all_interruptions(&self) -> impl Iterator<Item = (&'static str, u64)> {
        REASONS
            .iter()
            .map(|&reason| (reason, self.interruptions.get_or_create(&ReasonLabel { reason }).get()))
    }

    /// Counts a feed that begins.
    pub fn begun(&self, begun: Begun) {
        self.begun.get_or_create(&FromLabel { from: begun.as_str() }).inc();
    }

    /// Counts an event that a reader is told, if it is no change.
    pub fn told(&self, event: &Event) {
        self.told_to(event, 1);
    }

    /// Counts an event that so many readers are told, if it is no change.
    pub fn told_to(&self, event: &Event, readers: usize) {
        let reason = match event {
            Event::Changed(_) | Event::Synced => return,
            Event::Reset(ResetReason::OtherSet) => "reset_genesis",
            Event::Reset(ResetReason::Compacted) => "reset_horizon",
            Event::Reset(ResetReason::Ahead) => "reset_ahead",
            Event::Compacted(Compacted::Names(_)) => "compacted_names",
            Event::Compacted(Compacted::Dots(_)) => "compacted_dots",
            Event::Compacted(Compacted::Unknown) => "compacted_unknown",
            Event::Ahead { .. } => "ahead",
        };
        self.interruptions.get_or_create(&ReasonLabel { reason }).inc_by(readers as u64);
    }
}
