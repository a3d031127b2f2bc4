//! The writes of a run, found by what readers were told.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::claims;
use crate::promises::cursor::Vector;
use crate::promises::history::{Changed, Dot, History, Rank, Write};

/// The writes of a name.
#[derive(Debug, Default)]
pub(super) struct OfName<'a> {
    /// Those that were acknowledged.
    pub ranked: BTreeMap<Rank, &'a Write>,
    /// Of those: two writes that are one record, because two nodes gave the same stamp to the same version.
    pub twins: BTreeSet<Rank>,
    /// Those of which nothing is known.
    pub unknown: Vec<&'a Write>,
}

/// How long after a request a node may have taken it in at most, by any of the clocks, µs: it may have stood still.
const LATE: u64 = 15_000_000;

impl OfName<'_> {
    /// How many writes of which nothing is known may have a stamp between two.
    pub(super) fn unknown_between(&self, from: u64, to: u64) -> usize {
        let may_be = |write: &&&Write| {
            write.issued.saturating_add(LATE) > from && write.issued < to.saturating_add(LATE)
        };
        self.unknown.iter().filter(may_be).count()
    }
}

/// All writes.
#[derive(Debug)]
pub(super) struct Index<'a> {
    pub history: &'a History,
    pub by_dot: HashMap<Dot, &'a Write>,
    /// When the first write was sent.
    pub began: u64,
    by_name: HashMap<&'a str, OfName<'a>>,
    /// Of each process, by the time of the acknowledgement, the greatest number so far.
    acknowledged: HashMap<u64, Vec<(u64, u64)>>,
}

impl<'a> Index<'a> {
    pub(super) fn new(history: &'a History) -> Self {
        let mut by_name: HashMap<&str, OfName<'_>> = HashMap::new();
        let mut acknowledged: HashMap<u64, Vec<(u64, u64)>> = HashMap::new();
        let mut by_dot = HashMap::new();
        for write in &history.writes {
            let of_name = by_name.entry(&write.name).or_default();
            let Some(rank) = write.rank() else {
                of_name.unknown.push(write);
                continue;
            };
            match of_name.ranked.entry(rank) {
                Entry::Vacant(place) => drop(place.insert(write)),
                Entry::Occupied(mut place) => {
                    of_name.twins.insert(place.key().clone());
                    if write.issued < place.get().issued {
                        place.insert(write);
                    }
                }
            }
            if let (Some(dot), Some((answered, _))) = (write.dot, write.acknowledged) {
                by_dot.insert(dot, write);
                acknowledged.entry(dot.0).or_default().push((answered, dot.1));
            }
        }
        for list in acknowledged.values_mut() {
            list.sort_unstable();
            let mut greatest = 0;
            for (_, number) in list {
                greatest = greatest.max(*number);
                *number = greatest;
            }
        }
        let began = history.writes.iter().map(|write| write.issued).min().unwrap_or(0);
        Self { history, by_dot, began, by_name, acknowledged }
    }

    pub(super) fn of(&self, name: &str) -> Option<&OfName<'a>> {
        self.by_name.get(name)
    }

    /// What stands for an event in cursors, if that is known.
    pub(super) fn dot(&self, changed: &Changed) -> Option<Dot> {
        let (writes, rank) = (self.of(&changed.name)?, changed.rank());
        let write = writes.ranked.get(&rank)?;
        write.dot.filter(|_| !writes.twins.contains(&rank))
    }

    /// Whether a vector claims a record; true if it is not known what stands for it.
    pub(super) fn is_claimed(&self, name: &str, rank: &Rank, vector: &Vector) -> bool {
        let Some(writes) = self.of(name).filter(|writes| !writes.twins.contains(rank)) else { return true };
        writes.ranked.get(rank).and_then(|write| write.dot).is_none_or(|dot| claims(vector, dot))
    }

    /// How many of its writes a process had acknowledged before a time.
    pub(super) fn acknowledged(&self, process: u64, before: u64) -> u64 {
        let Some(list) = self.acknowledged.get(&process) else { return 0 };
        let count = list.partition_point(|(answered, _)| *answered < before);
        count.checked_sub(1).map_or(0, |last| list[last].1)
    }
}
