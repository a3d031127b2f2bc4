//! Copies of a leader's records into the node's set.

use crate::core::store::Change;
use crate::core::{Kind, Record, Stamp};
use crate::fill::Shared;
use crate::fill::entries::Entry;
use crate::fill::host::{SET_IS_FULL, WriteResult};

/// A copy that is stamped further ahead of this node's clock is logged. The node gives it up when no address has it any
/// more: one wrong clock must not lock a name. The limit is wide, because the two clocks may differ.
const MAX_AHEAD_US: u64 = 300_000_000;

/// Why the node does not hold a copy.
#[derive(Debug)]
pub(super) enum CopyError {
    /// The set has no room for it. Has the reason for readers.
    Unusable(String),
    /// The node accepts no writes now.
    NotNow,
}

/// Copies a change, with the end that its value has at the leader. `held` is the record that the node holds. Returns
/// whether readers see a difference.
///
/// # Errors
/// If the node does not hold the change afterwards.
pub(super) fn copy(
    shared: &Shared,
    entry: &Entry,
    held: Option<&Record>,
    change: &Change<'_>,
    stamp: Stamp,
    end: Option<Stamp>,
) -> Result<bool, CopyError> {
    if is_far_ahead(shared, stamp) {
        shared.metrics.ahead.inc();
        if let Some(more) = shared.log_limiter.admit("ahead") {
            tracing::warn!(
                name = %entry.name,
                more,
                "the upstream stamps with {stamp} µs, far ahead of this node's clock: the node copies it: check both clocks"
            );
        }
    }
    let is_same = held.is_some_and(|held| match change {
        Change::Put { version, .. } => held.is_version(version),
        Change::Delete => held.kind() == Kind::Tombstone,
    });
    if is_same && held.is_some_and(|held| held.last_sync() >= stamp) {
        return Ok(false);
    }
    match shared.host.copy(&entry.name, change, stamp, end) {
        WriteResult::Done => Ok(!is_same),
        WriteResult::Older => Ok(false),
        WriteResult::Full => Err(CopyError::Unusable(SET_IS_FULL.to_owned())),
        WriteResult::NotNow => Err(CopyError::NotNow),
    }
}

/// Whether a stamp is more than [`MAX_AHEAD_US`] ahead of the node's clock.
pub(super) fn is_far_ahead(shared: &Shared, stamp: Stamp) -> bool {
    stamp.guard(shared.host.now(), MAX_AHEAD_US).is_err()
}
