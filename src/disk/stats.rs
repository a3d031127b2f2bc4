//! What the thread of a disk has done, for metrics and readiness.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

/// The counters of a disk.
#[derive(Debug, Default)]
pub struct DiskStats {
    /// Commits.
    pub commits: AtomicU64,
    /// Names in them.
    pub names: AtomicU64,
    /// Commits that failed.
    pub failures: AtomicU64,
    /// Saves of the whole set, because more had changed than could be noted.
    pub scans: AtomicU64,
    /// Sets that were set aside.
    pub set_asides: AtomicU64,
    /// Names that were loaded.
    pub loaded: AtomicU64,
    /// Bytes of the files.
    pub bytes: AtomicU64,
    /// When the last commit was made, µs since 1970; 0 before the first.
    pub last_commit_us: AtomicU64,
    /// How long the last commit took, µs.
    pub commit_us: AtomicU64,
    /// Whether the disk is fit for use.
    failing: AtomicBool,
    why: Mutex<String>,
}

impl DiskStats {
    /// Why nothing is saved at present; `None` if all is well.
    #[must_use]
    pub fn failing(&self) -> Option<String> {
        let is_failing = self.failing.load(Ordering::Acquire);
        is_failing.then(|| self.why.lock().unwrap_or_else(PoisonError::into_inner).clone())
    }

    pub(super) fn fail(&self, why: &str) {
        why.clone_into(&mut self.why.lock().unwrap_or_else(PoisonError::into_inner));
        self.failing.store(true, Ordering::Release);
    }

    pub(super) fn recover(&self) -> bool {
        self.failing.swap(false, Ordering::AcqRel)
    }
}
