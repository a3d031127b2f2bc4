//! The past of a name: what a set can say of it, and what it cannot know any more.

use super::limits::MAX_HISTORY_PAYLOAD_BYTES;
use super::name::Name;
use super::record::Record;
use super::set::{Cell, Set};
use super::stamp::Stamp;

/// The answer to a question about the past of a name.
#[derive(Clone, Copy, Debug)]
pub enum Past<'a> {
    /// This record.
    Record(&'a Record),
    /// None that is kept. There may have been one.
    Cut,
    /// None, as far as the node knows.
    Nothing,
}

/// The record of a name with exactly this stamp. Of two records with one stamp the greater one, but rather the value
/// than the delete that its end has brought.
#[must_use]
pub fn revision<'a>(set: &'a Set, name: &Name, stamp: Stamp) -> Past<'a> {
    let history = set.history(name);
    let mut of_stamp =
        history.iter().rev().map(Cell::record).filter(|record| record.last_sync() == stamp).peekable();
    let greatest = of_stamp.peek().copied();
    let found = of_stamp.find(|record| !record.is_expiry()).or(greatest);
    found.map_or_else(|| without(set, name, history, stamp), Past::Record)
}

/// The record of a name that was current at this stamp: the greatest one that is not later. The delete of a value that
/// has ended is as late as the end is. A value may have ended at the stamp without a delete: see [`Record::as_of`].
#[must_use]
pub fn as_of<'a>(set: &'a Set, name: &Name, stamp: Stamp) -> Past<'a> {
    let history = set.history(name);
    let until = history.iter().rev().map(Cell::record).filter(|record| record.last_sync() <= stamp);
    let (mut found, mut came_later) = (None, None);
    for record in until {
        if record.is_expiry() && record.end().is_some_and(|end| end > stamp) {
            came_later = Some(record.last_sync());
        } else {
            found = Some(record);
            break;
        }
    }
    if came_later.is_some_and(|value| found.is_none_or(|found| found.last_sync() < value)) {
        // the value that stood then is not kept
        return Past::Cut;
    }
    match found {
        Some(record) => Past::Record(record),
        // what was current until now may have been cut
        None if name.is_log() && set.compaction_horizon() > Stamp::ZERO => Past::Cut,
        None => without(set, name, history, stamp),
    }
}

/// Whether a name has all of its records in its history, as far as the node knows: nothing of it can have been cut. A
/// client can stamp a record before the start of the set, so any horizon may have cut one.
#[must_use]
pub fn is_complete(set: &Set, history: &[Cell]) -> bool {
    let oldest = history.first().map(Cell::record);
    oldest.is_some_and(|oldest| !may_be_cut(set, oldest.name(), history, Stamp::ZERO))
}

/// The answer where no record fits.
fn without<'a>(set: &Set, name: &Name, history: &[Cell], stamp: Stamp) -> Past<'a> {
    let is_below = history.first().is_none_or(|oldest| stamp < oldest.record().last_sync());
    if is_below && may_be_cut(set, name, history, stamp) { Past::Cut } else { Past::Nothing }
}

/// Whether a record of a name with this stamp may have been cut: the name has as many records as are kept, or the stamp
/// lies below a horizon.
fn may_be_cut(set: &Set, name: &Name, history: &[Cell], stamp: Stamp) -> bool {
    stamp < set.horizon().max(set.compaction_horizon())
        || last_of_full(history, set.depth().least_of(name)).is_some()
}

/// Of a name with as many records as are kept, the last one of these, from the newest on: what was dropped for them
/// lies below it. Further records may have come back when more were kept.
pub(super) fn last_of_full(history: &[Cell], versions: usize) -> Option<&Record> {
    let mut payload = 0;
    history.iter().rev().map(Cell::record).enumerate().find_map(|(at, record)| {
        payload += record.payload_bytes();
        (at + 1 >= versions || payload >= MAX_HISTORY_PAYLOAD_BYTES).then_some(record)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::history::Depth;
    use crate::core::namespace::Namespace;
    use crate::core::record::Dot;
    use crate::core::testing::{at, name, version};

    fn is_complete_of(set: &Set, text: &str) -> bool {
        is_complete(set, set.history(&name(text)))
    }

    fn set(versions: u8, stamps: &[u64]) -> Set {
        let mut set = Set::with_leaf_bits([1; 16], 2);
        set.set_depth(Depth::new(Stamp::ZERO, versions));
        for micros in stamps {
            let dot = Dot::default();
            set.merge(&Record::value(name("n"), &version(&format!("v{micros}")), b"d", at(*micros), dot));
        }
        set
    }

    /// The stamp of the record; `None` for nothing; -1 for what is cut.
    fn said(past: Past<'_>) -> Option<i64> {
        match past {
            Past::Record(record) => Some(record.last_sync().micros().cast_signed()),
            Past::Cut => Some(-1),
            Past::Nothing => None,
        }
    }

    #[test]
    fn a_revision_is_exactly_that_one() {
        let kept = set(8, &[10, 20, 30]);
        let said = |stamp| said(revision(&kept, &name("n"), at(stamp)));
        assert_eq!([10, 15, 20, 30, 31, 5].map(said), [Some(10), None, Some(20), Some(30), None, None]);
    }

    #[test]
    fn as_of_a_time_is_the_newest_until_then() {
        let kept = set(8, &[10, 20, 30]);
        let said = |stamp| said(as_of(&kept, &name("n"), at(stamp)));
        assert_eq!([9, 10, 19, 20, 99].map(said), [None, Some(10), Some(10), Some(20), Some(30)]);
    }

    #[test]
    fn before_its_end_a_value_stood_although_its_delete_has_the_same_stamp() {
        let mut kept = set(8, &[10]);
        let dot = Dot::default();
        let ends = Record::value_until(name("n"), &version("v"), b"d", at(20), dot, Some(at(30)));
        kept.merge(&ends);
        let is_value = |past: Past<'_>| match past {
            Past::Record(record) => Some((record.last_sync().micros(), !record.is_expiry())),
            Past::Cut | Past::Nothing => None,
        };
        kept.merge(&ends.expiry(dot));
        let said = |set: &Set, stamp| is_value(as_of(set, &name("n"), at(stamp)));
        assert_eq!(
            [19, 20, 29].map(|stamp| said(&kept, stamp)),
            [Some((10, true)), Some((20, true)), Some((20, true))]
        );
        assert_eq!([30, 99].map(|stamp| said(&kept, stamp)), [Some((20, false)); 2]);
        assert_eq!(is_value(revision(&kept, &name("n"), at(20))), Some((20, true)));
        kept = set(1, &[10]);
        kept.merge(&ends.expiry(dot));
        assert_eq!([20, 29, 30].map(|stamp| said(&kept, stamp)), [None, None, Some((20, false))]);
        assert_eq!(
            is_value(revision(&kept, &name("n"), at(20))),
            Some((20, false)),
            "all that is left of it"
        );
    }

    #[test]
    fn what_may_have_been_cut_is_not_called_nothing() {
        let mut kept = set(2, &[10, 20, 30]);
        let ask = |set: &Set, stamp| {
            (said(revision(set, &name("n"), at(stamp))), said(as_of(set, &name("n"), at(stamp))))
        };
        assert_eq!(ask(&kept, 10), (Some(-1), Some(-1)), "two are kept");
        assert_eq!(ask(&kept, 25), (None, Some(20)), "between two that are kept there was none");
        assert!(!is_complete_of(&kept, "n"));
        kept = set(8, &[20, 30]);
        assert_eq!(ask(&kept, 10), (None, None));
        assert!(is_complete_of(&kept, "n"));
        kept.raise_compaction_horizon(at(15));
        assert_eq!(ask(&kept, 10), (Some(-1), Some(-1)));
        assert_eq!(ask(&kept, 16), (None, None));
        assert!(!is_complete_of(&kept, "n"), "one from before 15 may have been cut");
        let unknown = |set: &Set| said(as_of(set, &name("m"), at(10)));
        assert_eq!(unknown(&kept), Some(-1), "its tombstone may be forgotten");
        assert_eq!(unknown(&set(8, &[])), None);
        assert!(!is_complete_of(&set(8, &[]), "m"));
    }

    #[test]
    fn a_log_says_what_may_have_been_cut_although_it_was_current() {
        let log = Namespace::new(b"log.a").unwrap().key(b"n", 9).unwrap();
        let mut kept = set(8, &[]);
        assert_eq!(said(as_of(&kept, &log, at(99))), None);
        kept.merge(&Record::value(log.clone(), &version("v"), b"d", at(10), Dot::default()));
        assert_eq!(said(as_of(&kept, &log, at(99))), Some(10));
        kept.raise_compaction_horizon(at(20));
        assert_eq!(said(as_of(&kept, &log, at(99))), Some(-1), "the one of 10 is not kept");
        assert_eq!(said(revision(&kept, &log, at(10))), Some(-1));
        assert_eq!(said(revision(&kept, &log, at(30))), None);
        kept.merge(&Record::value(log.clone(), &version("v"), b"d", at(30), Dot::default()));
        assert_eq!(
            (said(as_of(&kept, &log, at(99))), is_complete(&kept, kept.history(&log))),
            (Some(30), false)
        );
    }

    #[test]
    fn a_name_of_the_nodes_own_may_always_have_had_another_record() {
        let own = Namespace::new(b".own").unwrap().key(b"n", 9).unwrap();
        let mut kept = set(8, &[]);
        kept.merge(&Record::value(own.clone(), &version("v"), b"d", at(10), Dot::default()));
        assert_eq!(
            (said(revision(&kept, &own, at(5))), is_complete(&kept, kept.history(&own))),
            (Some(-1), false)
        );
    }
}
