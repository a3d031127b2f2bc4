//! What a mirror knows of itself, for readers, for metrics and for `/readyz`.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// A mirror that was confirmed within this time is current: a leader shows life each second.
const FRESH: Duration = Duration::from_secs(3);

/// A mirror that lacks so few changes is current: under load, more come while it takes those.
const FEW: u64 = 1_000;

/// Stands for a number that is not known.
const UNKNOWN: u64 = u64::MAX;

/// The status of a mirror.
#[derive(Debug)]
pub(in crate::fill) struct MirrorStatus {
    started: Instant,
    is_complete: AtomicBool,
    /// When the last part of the stream was applied that left hardly anything behind, in ms since the start.
    current_ms: AtomicU64,
    behind: AtomicU64,
    parts: AtomicU64,
    streams_ended: AtomicU64,
}

impl Default for MirrorStatus {
    fn default() -> Self {
        Self {
            started: Instant::now(),
            is_complete: AtomicBool::new(false),
            current_ms: AtomicU64::new(0),
            behind: AtomicU64::new(UNKNOWN),
            parts: AtomicU64::new(0),
            streams_ended: AtomicU64::new(0),
        }
    }
}

impl MirrorStatus {
    /// A part was applied, with so many changes behind it, of a leader that has been cut off from its own one for so
    /// long.
    pub(super) fn applied(&self, is_complete: bool, behind: Option<u64>, cut_off: Duration) {
        self.parts.fetch_add(1, Ordering::Relaxed);
        self.is_complete.store(is_complete, Ordering::Relaxed);
        self.behind.store(behind.unwrap_or(UNKNOWN), Ordering::Relaxed);
        if is_complete && behind.is_some_and(|behind| behind <= FEW) {
            let current = self.started.elapsed().saturating_sub(cut_off);
            let ms = u64::try_from(current.as_millis()).unwrap_or(UNKNOWN);
            self.current_ms.store(ms, Ordering::Relaxed);
        }
    }

    /// The parts that were applied.
    pub(super) fn parts(&self) -> u64 {
        self.parts.load(Ordering::Relaxed)
    }

    /// A stream ended.
    pub(super) fn ended(&self) {
        self.streams_ended.fetch_add(1, Ordering::Relaxed);
    }

    /// The time since the mirror was current; since the start, if it was not yet.
    pub(in crate::fill) fn age(&self) -> Duration {
        let current = Duration::from_millis(self.current_ms.load(Ordering::Relaxed));
        self.started.elapsed().saturating_sub(current)
    }

    /// The age, unless the mirror is current.
    pub(in crate::fill) fn stale_for(&self) -> Option<Duration> {
        Some(self.age()).filter(|age| *age > FRESH)
    }

    /// The changes of the leader that the mirror does not have yet, if that is known.
    pub(in crate::fill) fn behind(&self) -> Option<u64> {
        Some(self.behind.load(Ordering::Relaxed)).filter(|behind| *behind != UNKNOWN)
    }

    /// The streams that ended.
    pub(in crate::fill) fn streams_ended(&self) -> u64 {
        self.streams_ended.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mirror_is_current_once_hardly_anything_is_left() {
        let status = MirrorStatus::default();
        assert_eq!(status.behind(), None);
        status.applied(true, Some(FEW + 1), Duration::ZERO);
        assert_eq!(
            (status.behind(), status.parts(), status.current_ms.load(Ordering::Relaxed)),
            (Some(FEW + 1), 1, 0)
        );
        status.applied(false, Some(0), Duration::ZERO);
        assert_eq!(status.current_ms.load(Ordering::Relaxed), 0, "the view is not whole");
        while status.started.elapsed() < Duration::from_millis(2) {
            std::hint::spin_loop();
        }
        status.applied(true, Some(0), Duration::ZERO);
        assert!(status.current_ms.load(Ordering::Relaxed) > 0 && status.age() < Duration::from_secs(600));
        // as old as what its leader has
        status.applied(true, Some(0), Duration::from_secs(3_600));
        assert_eq!(status.current_ms.load(Ordering::Relaxed), 0);
    }
}
