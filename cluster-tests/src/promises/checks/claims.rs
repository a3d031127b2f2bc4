//! [`Promise::Reliable`] and [`Promise::Resumable`]: what a cursor claims was told.

use std::ops::Bound;

use super::{Judge, Promise, State, claims};
use crate::promises::cursor::Vector;
use crate::promises::history::{Batch, Mode, Rank, Write};

/// How far two clocks of a run may differ, µs.
const CLOCKS_DIFFER: u64 = 2_000_000;

impl Judge<'_> {
    /// Judges each write that the cursor of an answer claims, and none before it.
    pub(super) fn claims(&mut self, at: usize, batch: &Batch, state: &State, connected: bool) {
        let subscription = &self.reader.subscription;
        let promise = if connected { Promise::Reliable } else { Promise::Resumable };
        for (process, to) in &batch.cursor.vector {
            let from = state.judged.get(process).copied().unwrap_or(0);
            for number in from + 1..=*to {
                let Some(write) = self.index.by_dot.get(&(*process, number)) else { continue };
                if !subscription.has(&write.name) || !subscription.wants(write.version.is_none()) {
                    continue;
                }
                self.counts.claims += 1;
                let Some(rank) = write.rank() else { continue };
                if state.began_now.is_some_and(|began| write.issued < began) {
                    // the process may have held it, and not the writes before it
                    continue;
                }
                let what = match subscription.mode {
                    // deletes and values are not told both: what is told is no view
                    Mode::Latest if subscription.types.is_some() => continue,
                    Mode::Latest => self.is_in_view(write, &rank, state),
                    Mode::All => self.was_told(write, &rank, batch, state),
                };
                if let Err(what) = what {
                    self.broken(promise, at, format!("{write:?} is claimed: {what}"));
                }
            }
        }
    }

    fn is_in_view(&self, write: &Write, rank: &Rank, state: &State) -> Result<(), String> {
        match state.view.get(&write.name) {
            Some(known) if known >= rank => Ok(()),
            Some(known) => Err(format!("the reader has {known:?}")),
            None if self.deletes_above(write, rank, u64::MAX) => Ok(()),
            None => Err("the reader has nothing of the name".to_owned()),
        }
    }

    /// Whether there may be a delete that is as great as a write, with a stamp of before a time.
    fn deletes_above(&self, write: &Write, rank: &Rank, before: u64) -> bool {
        self.index.of(&write.name).is_some_and(|writes| {
            let above = (Bound::Included(rank), Bound::Unbounded);
            writes.ranked.range(above).any(|((stamp, is_delete, _), _)| *is_delete && *stamp < before)
                || writes.unknown.iter().any(|unknown| unknown.version.is_none() && unknown.issued < before)
        })
    }

    /// In words, the writes of its name that are greater.
    fn greater(&self, write: &Write, rank: &Rank, batch: &Batch, state: &State) -> String {
        let above = (Bound::Excluded(rank), Bound::Unbounded);
        let writes = self.index.of(&write.name).into_iter().flat_map(|writes| writes.ranked.range(above));
        let in_words = |(rank, write): (&Rank, &&Write)| {
            let is_claimed = |vector: &Vector| write.dot.map(|dot| claims(vector, dot));
            let (before, now) = (is_claimed(&state.vector), is_claimed(&batch.cursor.vector));
            format!("{rank:?} issued {} claimed before {before:?} now {now:?}", write.issued)
        };
        writes.map(in_words).collect::<Vec<_>>().join("; ")
    }

    /// Told, in a gap, or of the writes that are left out.
    fn was_told(&mut self, write: &Write, rank: &Rank, batch: &Batch, state: &State) -> Result<(), String> {
        let told = state.told.get(&write.name);
        if told.is_some_and(|told| told.contains(rank)) {
            return Ok(());
        }
        let is_in_gap = state.gaps.iter().any(|(told_at, names)| {
            *told_at >= write.issued && names.as_ref().is_none_or(|names| names.contains(&write.name))
        });
        if is_in_gap {
            return Ok(());
        }
        let above = (Bound::Excluded(rank), Bound::Unbounded);
        let history = self.index.history;
        let greater = |is_counted: &dyn Fn(&Write) -> bool| {
            let writes = self.index.of(&write.name);
            writes.map_or(0, |writes| {
                let ranked = writes.ranked.range(above).filter(|(_, write)| is_counted(write)).count();
                ranked + writes.unknown_between(rank.0, u64::MAX)
            })
        };
        let compacted =
            history.compactions.iter().any(|(asked, horizon)| *asked <= batch.answered && rank.0 < *horizon);
        let forgotten = (batch.answered + CLOCKS_DIFFER).saturating_sub(history.grace);
        let is_cut = greater(&|_| true) >= history.depth
            || compacted && greater(&|_| true) > 0
            || self.deletes_above(write, rank, forgotten);
        if state.is_fresh && self.reader.subscription.types.is_none() {
            // a view that begins empty gets what is kept
            let above = told.map_or(0, |told| told.range(above).count());
            let is_cut = above >= history.depth
                || compacted && above > 0
                || self.deletes_above(write, rank, forgotten);
            return if is_cut { Ok(()) } else { Err(format!("of its name were told {told:?}")) };
        }
        if state.is_fresh && is_cut {
            return Ok(());
        }
        // it came late, below what the reader had or did not ask for, and was dropped: what it did not ask for was
        // claimed without a word
        let had_greater = greater(&|greater| {
            let is_wanted = self.reader.subscription.wants(greater.version.is_none());
            let claimed = if is_wanted { &state.vector } else { &batch.cursor.vector };
            greater.dot.is_none_or(|dot| claims(claimed, dot))
        }) > 0;
        if is_cut && had_greater {
            self.counts.late += 1;
            return Ok(());
        }
        Err(format!(
            "it was not told, nor is it in a gap of {:?}; of its name were told {told:?}, and the greater ones are {}",
            state.gaps,
            self.greater(write, rank, batch, state),
        ))
    }
}
