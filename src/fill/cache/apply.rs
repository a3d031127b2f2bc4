//! What an answer changes here.

use std::sync::Arc;
use std::time::Duration;

use super::retry::pause_of_name;
use super::serve_record;
use crate::core::store::Change;
use crate::core::{Kind, Record, Stamp, Version};
use crate::fill::Shared;
use crate::fill::address::Address;
use crate::fill::backoff::{random, spread};
use crate::fill::change_detector::{Decision, Observation};
use crate::fill::entries::Entry;
use crate::fill::fill_error::FillError;
use crate::fill::host::{ACCEPTS_NO_WRITES, SET_IS_FULL, WriteResult};
use crate::fill::metrics::RequestOutcome;

/// After a notification of a change the node polls again after these pauses while the change does not show: a registry
/// notifies of a push just before the tag moves, and a cache in front of an upstream may lag.
const CHECK_AGAIN: [Duration; 3] =
    [Duration::from_millis(100), Duration::from_millis(400), Duration::from_secs(2)];

/// Applies an observation. Returns the time to the next poll; `None` if the entry is removed.
pub(super) fn apply(
    shared: &Arc<Shared>,
    entry: &Arc<Entry>,
    address: &Address,
    observed: &Observation,
    modified: Option<Stamp>,
) -> Option<Duration> {
    let count = |outcome| shared.metrics.count_request(shared.label(address), outcome);
    let held = shared.host.record(&entry.name);
    let held_version = held.as_ref().filter(|held| held.kind() == Kind::Value);
    let held_version = held_version.and_then(|held| Version::new(held.version_bytes()).ok());
    let (before, decision) = {
        let detector = &mut entry.poll_state().detector;
        (detector.clone(), detector.observe(observed.clone(), held_version.as_ref()))
    };
    let is_absent = *observed == Observation::Absent;
    // before a write, which wakes readers: they are told whether their record may be old
    shared.entries.confirm(entry);
    let outcome = match decision {
        Decision::Write => match write(shared, entry, address, observed, held.as_ref(), modified) {
            WriteResult::Done => RequestOutcome::Changed,
            rejected => {
                // the poller forgets the answer, so that the same answer is a change again, and comes in full
                let failures = {
                    let mut state = entry.poll_state();
                    (state.detector, state.last) = (before, None);
                    (rejected == WriteResult::Full).then(|| state.record_failure())
                };
                let expiry = shared.settings.expiry;
                if let Some(failures) = failures {
                    count(RequestOutcome::Bad);
                    return Some(pause_of_name(expiry, failures));
                }
                count(RequestOutcome::Unchanged);
                return Some(spread(expiry, random()));
            }
        },
        Decision::Flap => {
            shared.metrics.flaps.inc();
            if let Some(more) = shared.log_limiter.admit("flap") {
                tracing::warn!(
                    upstream = %shared.label(address),
                    name = %entry.name,
                    more,
                    "the upstream goes back to an earlier version: its replicas may disagree: the node accepts it once it \
                     stays"
                );
            }
            RequestOutcome::Unchanged
        }
        Decision::Keep | Decision::Confirm if is_absent => RequestOutcome::Unknown,
        Decision::Keep | Decision::Confirm => RequestOutcome::Unchanged,
    };
    count(outcome);
    let is_awaited = shared.is_awaited(entry);
    shared.release_readers(entry);
    if is_absent
        && held.is_none()
        && !is_awaited
        && shared.entries.release(entry, true, || shared.is_read(entry))
    {
        return None;
    }
    let pause = spread(shared.settings.expiry, random());
    Some(pause_of_check(entry, decision != Decision::Keep).map_or(pause, |check| check.min(pause)))
}

/// The time to the next check for a change that was reported, if it does not show yet.
fn pause_of_check(entry: &Entry, shows: bool) -> Option<Duration> {
    let mut state = entry.poll_state();
    let next = state.check.take().filter(|_| !shows)?;
    let pause = CHECK_AGAIN.get(next).copied()?;
    state.check = Some(next + 1);
    Some(pause)
}

/// Writes a change. If the node cannot, readers get the reason.
fn write(
    shared: &Shared,
    entry: &Entry,
    address: &Address,
    observed: &Observation,
    held: Option<&Record>,
    modified: Option<Stamp>,
) -> WriteResult {
    let result = match observed {
        Observation::Version(version) => {
            let stamp = stamp(held.map(Record::last_sync), modified, shared.host.latest_stamp());
            shared.host.write(&entry.name, &Change::Put { version, data: b"" }, stamp)
        }
        Observation::Absent => shared.host.write(&entry.name, &Change::Delete, None),
    };
    match result {
        WriteResult::Done => {}
        // the next poll compares with the newer record
        WriteResult::Older => shared.release_readers(entry),
        WriteResult::Full => shared.record_unusable(entry, address, SET_IS_FULL),
        WriteResult::NotNow => {
            entry.set_error(Some(FillError::Unavailable(ACCEPTS_NO_WRITES.into())));
            serve_record(shared, entry);
        }
    }
    result
}

/// The stamp of a change: the time that the upstream names, if it is newer than the record and not in the future, else
/// the stamp after the record's. `None` is the node's clock: the upstream names no time, or one in the future.
fn stamp(held: Option<Stamp>, modified: Option<Stamp>, latest: Stamp) -> Option<Stamp> {
    let modified = modified.filter(|modified| *modified <= latest)?;
    Some(match held {
        Some(held) if modified <= held => held.next(),
        _ => modified,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::testing::at;

    #[test]
    fn stamps_of_changes() {
        assert_eq!(stamp(None, None, at(100)), None, "the node's clock");
        assert_eq!(stamp(None, Some(at(50)), at(100)), Some(at(50)));
        assert_eq!(stamp(Some(at(40)), Some(at(50)), at(100)), Some(at(50)));
        assert_eq!(stamp(Some(at(50)), Some(at(50)), at(100)), Some(at(51)));
        assert_eq!(stamp(Some(at(60)), Some(at(50)), at(100)), Some(at(61)));
        assert_eq!(
            stamp(Some(at(60)), Some(at(101)), at(100)),
            None,
            "the node ignores a time in the future"
        );
    }
}
