//! Which writes a set holds, by their dots: so that a node can count the writes of a process that it does not hold,
//! name them, and find those that it holds.

use std::collections::{BTreeMap, HashMap};

use super::record::{Dot, Incarnation};

/// Sequence numbers in a chunk.
const CHUNK: u64 = 64;

/// The dots of all records of a set. Each has a *place*: the first 16 bits of the position of its record.
///
/// The sequence numbers of a process are dense, so 64 of them share a chunk: a bit for each, and the places of those
/// that are held. A chunk that is full takes 3 bytes a dot.
#[derive(Debug, Default)]
pub(super) struct DotIndex {
    by_process: HashMap<Incarnation, BTreeMap<u64, Chunk>>,
}

#[derive(Debug, Default)]
struct Chunk {
    held: u64,
    /// Of each held dot, in order.
    places: Vec<u16>,
}

/// The bits of a chunk that lie after a sequence number.
fn bits_after(chunk: u64, after: u64) -> u64 {
    let first = chunk * CHUNK;
    match (after + 1).checked_sub(first) {
        None | Some(0) => u64::MAX,
        Some(skip) if skip >= CHUNK => 0,
        Some(skip) => u64::MAX << skip,
    }
}

fn split(sequence: u64) -> (u64, u32) {
    (sequence / CHUNK, (sequence % CHUNK) as u32)
}

impl Chunk {
    fn index(&self, bit: u32) -> usize {
        (self.held & ((1 << bit) - 1)).count_ones() as usize
    }
}

impl DotIndex {
    /// Adds a dot. The sequence number 0 is no dot.
    pub(super) fn add(&mut self, dot: Dot, place: u16) {
        if dot.sequence == 0 {
            return;
        }
        let (chunk, bit) = split(dot.sequence);
        let chunk = self.by_process.entry(dot.incarnation).or_default().entry(chunk).or_default();
        let at = chunk.index(bit);
        if chunk.held & (1 << bit) != 0 {
            chunk.places[at] = place;
        } else {
            chunk.held |= 1 << bit;
            chunk.places.insert(at, place);
        }
    }

    /// Removes a dot.
    pub(super) fn remove(&mut self, dot: Dot) {
        let (number, bit) = split(dot.sequence);
        let Some(chunks) = self.by_process.get_mut(&dot.incarnation) else { return };
        let Some(chunk) = chunks.get_mut(&number).filter(|chunk| chunk.held & (1 << bit) != 0) else {
            return;
        };
        chunk.places.remove(chunk.index(bit));
        chunk.held &= !(1 << bit);
        if chunk.held == 0 {
            chunks.remove(&number);
            if chunks.is_empty() {
                self.by_process.remove(&dot.incarnation);
            }
        } else if chunk.places.len() <= chunk.places.capacity() / 4 {
            chunk.places.shrink_to_fit();
        }
    }

    /// Removes all dots.
    pub(super) fn clear(&mut self) {
        self.by_process.clear();
    }

    /// Whether a dot is held.
    #[cfg(test)]
    fn has(&self, dot: Dot) -> bool {
        let (chunk, bit) = split(dot.sequence);
        let chunks = self.by_process.get(&dot.incarnation);
        chunks.and_then(|chunks| chunks.get(&chunk)).is_some_and(|chunk| chunk.held & (1 << bit) != 0)
    }

    /// The number of held dots of a process after a sequence number, up to and including another one.
    pub(super) fn count(&self, process: Incarnation, after: u64, upto: u64) -> u64 {
        if after >= upto {
            return 0;
        }
        let chunks = self.by_process.get(&process).into_iter();
        let chunks = chunks.flat_map(|chunks| chunks.range((after + 1) / CHUNK..=upto / CHUNK));
        let held = chunks.map(|(chunk, Chunk { held, .. })| {
            let beyond = bits_after(*chunk, upto);
            u64::from((held & bits_after(*chunk, after) & !beyond).count_ones())
        });
        held.sum()
    }

    /// The sequence numbers of a process after one, up to and including another one, that are not held: as ranges, both
    /// ends included.
    pub(super) fn missing(
        &self,
        process: Incarnation,
        after: u64,
        upto: u64,
    ) -> impl Iterator<Item = (u64, u64)> {
        let mut held =
            self.held(process, after).map(|(sequence, _)| sequence).take_while(move |held| *held <= upto);
        let mut next = after + 1;
        std::iter::from_fn(move || {
            while next <= upto {
                let end = held.next().unwrap_or(upto + 1);
                let range = (next, end - 1);
                next = end + 1;
                if range.0 <= range.1 {
                    return Some(range);
                }
            }
            None
        })
    }

    /// The held dots of a process after a sequence number, with their places, in order.
    pub(super) fn held(&self, process: Incarnation, after: u64) -> impl Iterator<Item = (u64, u16)> {
        let chunks = self.by_process.get(&process).into_iter();
        let chunks = chunks.flat_map(move |chunks| chunks.range((after + 1) / CHUNK..));
        chunks.flat_map(move |(number, chunk)| {
            let wanted = bits_after(*number, after);
            let bits = (0..CHUNK as u32).filter(|bit| chunk.held & (1 << bit) != 0);
            let all = bits.zip(&chunk.places);
            let first = *number * CHUNK;
            all.filter(move |(bit, _)| wanted & (1 << bit) != 0)
                .map(move |(bit, place)| (first + u64::from(bit), *place))
        })
    }

    /// The processes with held dots.
    pub(super) fn processes(&self) -> impl Iterator<Item = Incarnation> {
        self.by_process.keys().copied()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    fn dot(process: u64, sequence: u64) -> Dot {
        Dot { incarnation: Incarnation(process), sequence }
    }

    #[test]
    fn zero_is_no_dot_and_unknown_dots_are_none() {
        let mut index = DotIndex::default();
        index.add(dot(1, 0), 7);
        index.remove(dot(1, 5));
        assert_eq!((index.count(Incarnation(1), 0, u64::MAX - 1), index.processes().count()), (0, 0));
        assert!(index.missing(Incarnation(1), 3, 5).eq([(4, 5)]));
    }

    proptest! {
        /// The index against a map.
        #[test]
        fn counts_and_finds_what_is_held(
            steps in prop::collection::vec((0u64..3, 1u64..300, any::<bool>(), any::<u16>()), 0..400),
            after in 0u64..310, upto in 0u64..310,
        ) {
            let (mut index, mut model) = (DotIndex::default(), BTreeMap::new());
            for (process, sequence, add, place) in steps {
                if add {
                    index.add(dot(process, sequence), place);
                    model.insert((process, sequence), place);
                } else {
                    index.remove(dot(process, sequence));
                    model.remove(&(process, sequence));
                }
            }
            let mut processes: Vec<_> = index.processes().map(|i| i.0).collect();
            processes.sort_unstable();
            let mut known: Vec<_> = model.keys().map(|(process, _)| *process).collect();
            known.dedup();
            prop_assert_eq!(processes, known);
            for process in 0..3 {
                let id = Incarnation(process);
                let all = model.range((process, 0)..=(process, u64::MAX)).map(|((_, s), place)| (*s, *place));
                let held: Vec<_> = all.filter(|(s, _)| *s > after).collect();
                prop_assert!(index.held(id, after).eq(held.iter().copied()));
                let within = held.iter().filter(|(s, _)| *s <= upto).count() as u64;
                prop_assert_eq!(index.count(id, after, upto), within);
                let missing: Vec<u64> = index.missing(id, after, upto).flat_map(|(a, b)| a..=b).collect();
                let lacks: Vec<u64> = (after + 1..=upto).filter(|s| !model.contains_key(&(process, *s))).collect();
                prop_assert_eq!(missing, lacks);
                prop_assert!((1..310).all(|s| index.has(dot(process, s)) == model.contains_key(&(process, s))));
            }
        }
    }
}
