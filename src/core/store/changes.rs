//! What feeds follow: the ring of changes, the gaps in it, and the readers that are parked until there is news.
//!
//! A record enters the ring as it is merged. A gap enters it in the step in which the vector rises over writes that the
//! set does not hold, so the vector and the end of the ring are always of one moment.

use std::collections::HashSet;

use super::mirrored::Origin;
use super::{Parking, Store};
use crate::core::change_ring::{ChangeRing, Gap};
use crate::core::feed::cursor::set_id;
use crate::core::feed::scope::Scope;
use crate::core::limits::MAX_GAP_DOTS;
use crate::core::mutants::Mutant;
use crate::core::record::{Incarnation, Record};
use crate::core::stamp::Stamp;
use crate::core::vector::Vector;
use crate::core::waiters::{LimitReached, Ticket};

impl<T> Store<T> {
    /// From now on keeps the last changes, for feeds: the node has joined a set. Until then, all of the set is news.
    pub fn keep_changes(&mut self) {
        if !self.keeps_changes {
            self.changes = ChangeRing::reserved();
        }
        self.keeps_changes = true;
    }

    /// The last changes.
    #[must_use]
    pub fn changes(&self) -> &ChangeRing {
        &self.changes
    }

    pub(super) fn add_change(&mut self, record: &Record, is_current: bool) {
        if self.keeps_changes {
            let position = self.changes.end();
            self.changes.add(record, is_current);
            self.feed_readers.take(record.name().as_bytes(), position, &mut self.effects.due);
            if self.vector().claims(record.dot()) {
                self.came_back_at = self.changes.end();
            }
        }
    }

    /// Adds records of one name to the changes, in [`Record::order`], that were not held before they were merged as
    /// one: those that are kept, and those that are news although they are not.
    pub(super) fn add_news(&mut self, news: &[&Record], current: Option<&Record>) {
        for record in news {
            let is_current = current.is_some_and(|current| current.order(record).is_eq());
            let history = self.set.history(record.name());
            let is_kept = history.iter().any(|cell| cell.record().order(record).is_eq());
            let is_news = !self.vector().claims(record.dot()) && !self.mutants.has(Mutant::RingOfKept);
            if is_current || is_kept || is_news {
                self.add_change(record, is_current);
            }
        }
    }

    pub(super) fn add_gap(&mut self, gap: Gap) {
        if self.keeps_changes && !self.mutants.has(Mutant::GapsUntold) {
            let position = self.changes.end();
            self.changes.add_gap(gap);
            // of which names it is, is not known
            self.feed_readers.take_all(position, &mut self.effects.due);
        }
    }

    pub(in crate::core) fn clear_changes(&mut self) {
        self.changes.clear();
        // none of them can follow over it
        self.feed_readers.take_all(0, &mut self.effects.due);
    }

    /// Joins the vector of another set. All records that the other set held at that vector must be merged into ours
    /// before. None of the writes that are new has a stamp above `now` and a lead.
    pub(in crate::core) fn join_vector(&mut self, other: &Vector, now: Stamp) {
        let before = self.keeps_changes.then(|| self.vector().clone());
        self.claims.join(other, now);
        let Some(before) = before else { return };
        let claimed: u64 = self.vector().iter().map(|(process, upto)| upto - before.get(process)).sum();
        if claimed > MAX_GAP_DOTS {
            self.clear_changes();
        } else if let Some(gap) = Gap::of(self.set.missing(&before, self.vector()).collect()) {
            self.add_gap(gap);
        }
    }

    /// Raises a component of the vector with a message that carried some of the writes. The writes that the set does
    /// not hold and that did not come are a gap.
    pub(super) fn advance(&mut self, process: Incarnation, upto: u64, carried: &[Record], now: Stamp) {
        let before = self.vector().get(process);
        let latest = carried.iter().map(Record::last_sync).max().unwrap_or_default().max(now);
        self.claims.raise(process, upto, latest);
        if !self.keeps_changes || self.vector().get(process) <= before {
            return;
        }
        let mut missing = self.set.missing_of(process, before, upto).peekable();
        if missing.peek().is_none() {
            return;
        }
        let carried = carried.iter().map(Record::dot).filter(|dot| dot.incarnation == process);
        let carried: HashSet<u64> = carried.map(|dot| dot.sequence).collect();
        let mut ranges: Vec<(Incarnation, u64, u64)> = Vec::new();
        for sequence in missing.flat_map(|(a, b)| a..=b).filter(|sequence| !carried.contains(sequence)) {
            match ranges.last_mut() {
                Some((_, _, end)) if *end + 1 == sequence => *end = sequence,
                _ => ranges.push((process, sequence, sequence)),
            }
        }
        if let Some(gap) = Gap::of(ranges) {
            self.add_gap(gap);
        }
    }

    /// The end of the ring when a record came the last time that the vector claimed already: it was dropped, and came
    /// back when more records were kept.
    pub(in crate::core) fn came_back_at(&self) -> u64 {
        self.came_back_at
    }

    /// Whether copies were dropped since a position of the ring, or a mirror took all names over since a reader had
    /// this vector: the reader may lack what was dropped.
    pub(in crate::core) fn has_dropped_since(&self, position: u64, claimed: &Vector) -> bool {
        match self.mirrored_set() {
            Some(_) => self.retaken.iter().any(|(process, upto)| claimed.get(process) < upto),
            None => position < self.dropped_at,
        }
    }

    /// What stands for the set in cursors.
    #[must_use]
    pub fn set_id(&self) -> u64 {
        let id = set_id(self.genesis);
        match self.origin {
            Origin::Own => id,
            Origin::Part => id ^ self.incarnation.0,
            Origin::Mirror { set, .. } => set,
        }
    }

    /// Parks a reader of a feed until the change of a name in its scope, or until changes are dropped that it has not
    /// seen. The caller has checked, in the same step, that the feed has no news. It counts as a waiter, and as one on
    /// each of the names and prefixes of its scope.
    #[must_use]
    pub fn park_feed(&mut self, scope: &Scope, reader: &T) -> Parking
    where
        T: Clone,
    {
        if self.draining {
            return Parking::Draining;
        }
        if self.is_full_of_waiters() {
            return Parking::LimitReached(LimitReached::Total(self.waiter_limits.total));
        }
        match self.feed_readers.park(scope, reader) {
            Ok(ticket) => Parking::Parked(ticket),
            Err(limit) => Parking::LimitReached(limit),
        }
    }

    /// Removes a reader of a feed. Returns the position up to which no change since it was parked concerns it; see
    /// [`crate::core::feed::Feed::skip_to`].
    pub fn leave_feed(&mut self, ticket: Ticket) -> u64 {
        self.feed_readers.leave(ticket, self.changes.end())
    }

    /// The number of parked readers of feeds.
    #[must_use]
    pub fn parked_feeds(&self) -> usize {
        self.feed_readers.parked()
    }
}
