//! What an answer changes here.

use std::sync::Arc;
use std::time::Duration;

use super::poll::{more_failures, pause_of};
use super::serve_what_is_held;
use crate::core::store::Change;
use crate::core::{Kind, Record, Stamp, Version};
use crate::fill::judge::{Said, Verdict};
use crate::fill::metrics::Outcome;
use crate::fill::names::{Entry, Trouble};
use crate::fill::pace::{random, spread};
use crate::fill::upstream::Address;
use crate::fill::{Kept, SET_IS_FULL, Shared, TAKES_NO_WRITES, is_awaited, is_read};

/// Who is told of a change asks again after these pauses while it does not show: a registry tells of a push just before
/// the tag moves, and what stands in front of an upstream may lag.
const LOOK_AGAIN: [Duration; 3] =
    [Duration::from_millis(100), Duration::from_millis(400), Duration::from_secs(2)];

/// Takes in what was said.
pub(super) fn take_in(
    shared: &Arc<Shared>,
    entry: &Arc<Entry>,
    address: &Address,
    said: &Said,
    modified: Option<Stamp>,
) -> Option<Duration> {
    let count = |outcome| shared.metrics.count(shared.label(address), outcome);
    let held = shared.keeper.held(&entry.name);
    let held_version = held.as_ref().filter(|held| held.kind() == Kind::Value);
    let held_version = held_version.and_then(|held| Version::new(held.version_bytes()).ok());
    let (before, verdict) = {
        let judge = &mut entry.polled().judge;
        (judge.clone(), judge.judge(said.clone(), held_version.as_ref()))
    };
    let is_nothing = *said == Said::Nothing;
    let outcome = match verdict {
        Verdict::Write => match write(shared, entry, address, said, held.as_ref(), modified) {
            Kept::Done => Outcome::Changed,
            refused => {
                // as if it had not been said, and to be said in full: so that it is news when it is said again
                let mut polled = entry.polled();
                (polled.judge, polled.last) = (before, None);
                drop(polled);
                let expiry = shared.settings.expiry;
                if refused == Kept::Full {
                    count(Outcome::Bad);
                    return Some(pause_of(expiry, more_failures(entry)));
                }
                count(Outcome::Unchanged);
                return Some(spread(expiry, random()));
            }
        },
        Verdict::Flap => {
            shared.metrics.flaps.inc();
            if let Some(more) = shared.may_complain("flap") {
                tracing::warn!(
                    upstream = %shared.label(address),
                    name = %entry.name,
                    more,
                    "the upstream goes back to an earlier version: its replicas may disagree: it is believed once it stays"
                );
            }
            Outcome::Unchanged
        }
        Verdict::Keep | Verdict::AskAgain if is_nothing => Outcome::Unknown,
        Verdict::Keep | Verdict::AskAgain => Outcome::Unchanged,
    };
    count(outcome);
    shared.names.confirm(entry);
    let is_awaited = is_awaited(shared, entry);
    shared.told(entry);
    if is_nothing
        && held.is_none()
        && !is_awaited
        && shared.names.let_go(entry, true, || is_read(shared, entry))
    {
        return None;
    }
    let pause = spread(shared.settings.expiry, random());
    Some(pause_of_look(entry, verdict != Verdict::Keep).map_or(pause, |look| look.min(pause)))
}

/// When to look again for a change that somebody has told of, if it does not show yet.
fn pause_of_look(entry: &Entry, shows: bool) -> Option<Duration> {
    let mut polled = entry.polled();
    let next = polled.look.take().filter(|_| !shows)?;
    let pause = LOOK_AGAIN.get(next).copied()?;
    polled.look = Some(next + 1);
    Some(pause)
}

/// Writes what is new. If that cannot be, those who wait are told why.
fn write(
    shared: &Shared,
    entry: &Entry,
    address: &Address,
    said: &Said,
    held: Option<&Record>,
    modified: Option<Stamp>,
) -> Kept {
    let kept = match said {
        Said::Version(version) => {
            let stamp = stamp(held.map(Record::last_sync), modified, shared.keeper.latest());
            shared.keeper.write(&entry.name, &Change::Put { version, data: b"" }, stamp)
        }
        Said::Nothing => shared.keeper.write(&entry.name, &Change::Delete, None),
    };
    match kept {
        Kept::Done => {}
        // what stands is asked about again
        Kept::Older => shared.told(entry),
        Kept::Full => shared.useless(entry, address, SET_IS_FULL),
        Kept::NotNow => {
            entry.set_trouble(Some(Trouble::CutOff(TAKES_NO_WRITES.into())));
            serve_what_is_held(shared, entry);
        }
    }
    kept
}

/// The stamp of what is new: the time that the upstream names, if it is newer than what is held and not in the future;
/// else right after what is held. `None` leaves it to the node's clock.
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
    fn stamps_of_what_is_new() {
        assert_eq!(stamp(None, None, at(100)), None, "the node's clock");
        assert_eq!(stamp(None, Some(at(50)), at(100)), Some(at(50)));
        assert_eq!(stamp(Some(at(40)), Some(at(50)), at(100)), Some(at(50)));
        assert_eq!(stamp(Some(at(50)), Some(at(50)), at(100)), Some(at(51)));
        assert_eq!(stamp(Some(at(60)), Some(at(50)), at(100)), Some(at(61)));
        assert_eq!(
            stamp(Some(at(60)), Some(at(101)), at(100)),
            None,
            "a clock in the future is not believed"
        );
    }
}
