//! The last bytes that a group of streams was told, shared by all of its readers. A reader is a mark in them.

use std::collections::VecDeque;
use std::io::IoSlice;
use std::sync::Arc;

use hyper::body::Bytes;

use crate::core::feed::Feed;

/// Most chunks of one system call.
pub const CHUNKS_PER_WRITE: usize = 8;

/// What a chunk costs beside its bytes: the feed before it, with its vector.
const CHUNK_COST: usize = 1_024;

/// What all readers of a group are told next.
pub struct Chunk {
    /// Its bytes.
    pub bytes: Bytes,
    /// The end of each event. The last one ends behind the cursor.
    pub ends: Vec<u32>,
    /// See [`crate::core::feed::Slice::positions`]. None if it is told as a whole.
    pub positions: Vec<u64>,
    /// The position of the ring before it; `None` if the feed was not in the ring.
    pub start: Option<u64>,
    /// The same behind it.
    pub end: Option<u64>,
    /// The feed before it.
    pub before: Arc<Feed>,
}

/// Where a reader is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mark {
    /// The number of a chunk.
    pub chunk: u64,
    /// How many bytes of it were sent.
    pub offset: u32,
}

/// The chunks that are kept: those that a reader has not taken yet.
#[derive(Default)]
pub struct Chunks {
    kept: VecDeque<Chunk>,
    /// The number of the first one.
    first: u64,
    bytes: usize,
}

/// What a reader needs that no longer shares the chunks.
pub struct Cut {
    /// The rest of the frame that was begun.
    pub rest: Vec<u8>,
    /// The feed behind that frame.
    pub feed: Feed,
}

impl Chunks {
    /// What is kept costs about so many bytes.
    pub fn cost(&self) -> usize {
        self.bytes + self.kept.len() * CHUNK_COST
    }

    /// Where a reader is that was told all.
    pub fn end(&self) -> Mark {
        Mark { chunk: self.first + self.kept.len() as u64, offset: 0 }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.kept.is_empty()
    }

    /// The number of the first chunk.
    pub fn first(&self) -> u64 {
        self.first
    }

    /// Whether the bytes behind a mark are still kept.
    pub fn has(&self, mark: Mark) -> bool {
        mark.chunk >= self.first
    }

    /// Adds a chunk.
    pub fn push(&mut self, chunk: Chunk) {
        self.bytes += chunk.bytes.len();
        self.kept.push_back(chunk);
    }

    /// Drops the first chunk.
    pub fn drop_first(&mut self) {
        if let Some(chunk) = self.kept.pop_front() {
            self.bytes -= chunk.bytes.len();
            self.first += 1;
        }
    }

    /// Drops all chunks.
    pub fn clear(&mut self) {
        self.first += self.kept.len() as u64;
        self.kept.clear();
        self.bytes = 0;
    }

    fn from(&self, mark: Mark) -> impl Iterator<Item = &Chunk> {
        let skip =
            usize::try_from(mark.chunk.saturating_sub(self.first)).unwrap_or(usize::MAX).min(self.kept.len());
        self.kept.range(skip..)
    }

    /// The next bytes of a reader. Returns how many slices they are, and their number.
    pub fn slices<'a>(&'a self, mark: Mark, slices: &mut [IoSlice<'a>; CHUNKS_PER_WRITE]) -> (usize, usize) {
        let (mut count, mut bytes) = (0, 0);
        let mut offset = mark.offset as usize;
        for (slice, chunk) in slices.iter_mut().zip(self.from(mark)) {
            let rest = chunk.bytes.get(std::mem::take(&mut offset)..).unwrap_or_default();
            *slice = IoSlice::new(rest);
            bytes += rest.len();
            count += 1;
        }
        (count, bytes)
    }

    /// The next bytes of a reader, some `most` of them and at least one event, and its mark behind them. `None` if
    /// there are none yet, or no longer.
    pub fn next(&self, mark: Mark, most: usize) -> Option<(Bytes, Mark)> {
        let chunk = self.has(mark).then(|| self.from(mark).next())??;
        let begin = mark.offset as usize;
        let is_whole = chunk.positions.is_empty() || chunk.bytes.len() <= begin + most;
        let end = match is_whole {
            true => chunk.bytes.len(),
            false => {
                let first = chunk.ends.partition_point(|end| *end <= mark.offset);
                let behind = chunk.ends.partition_point(|end| *end as usize <= begin + most);
                chunk
                    .ends
                    .get(behind.saturating_sub(1).max(first))
                    .map_or(chunk.bytes.len(), |end| *end as usize)
            }
        };
        // a part by itself, so that a reader that holds it does not hold all
        let bytes = match (begin, end) == (0, chunk.bytes.len()) {
            true => chunk.bytes.clone(),
            false => Bytes::copy_from_slice(&chunk.bytes[begin..end]),
        };
        Some((bytes, self.after(mark, end - begin)))
    }

    /// The mark of a reader that has taken so many bytes more.
    pub fn after(&self, mut mark: Mark, mut taken: usize) -> Mark {
        for chunk in self.from(mark) {
            let rest = chunk.bytes.len() - mark.offset as usize;
            if taken < rest {
                // a chunk is far below 4 GiB
                mark.offset += u32::try_from(taken).unwrap_or(u32::MAX);
                break;
            }
            taken -= rest;
            mark = Mark { chunk: mark.chunk + 1, offset: 0 };
        }
        mark
    }

    /// The mark of a reader that was told all entries of the ring before this position, which is not behind the last
    /// chunk. `None` if that is within a chunk that is told as a whole, or before all of them.
    pub fn locate(&self, position: u64) -> Option<Mark> {
        let mut mark = self.end();
        for chunk in self.kept.iter().rev() {
            if chunk.end? <= position {
                return Some(mark);
            }
            mark.chunk -= 1;
            if chunk.start? <= position {
                let told = chunk.positions.partition_point(|behind| *behind <= position);
                let is_whole = chunk.positions.is_empty() && !chunk.ends.is_empty();
                if is_whole && chunk.start != Some(position) {
                    return None;
                }
                let offset = told.checked_sub(1).and_then(|last| chunk.ends.get(last)).copied();
                mark.offset = offset.unwrap_or(0);
                let is_told = mark.offset > 0 && mark.offset as usize == chunk.bytes.len();
                return Some(if is_told { Mark { chunk: mark.chunk + 1, offset: 0 } } else { mark });
            }
        }
        self.kept.is_empty().then_some(mark)
    }

    /// The mark of a reader at this position, of a group that stands at `end`, all of whose chunks since another
    /// position are kept. `None` if the reader is ahead of the group, or before its chunks.
    pub fn find(&self, position: u64, since: Option<u64>, end: Option<u64>) -> Option<Mark> {
        let is_reached = end.is_some_and(|end| end >= position);
        let is_there = !self.is_empty() || since.is_some_and(|since| since <= position);
        (is_reached && is_there).then(|| self.locate(position)).flatten()
    }

    /// The feed of a reader between two events, and its position, if that is another one. `last` is the feed behind the
    /// last chunk. `None` if the bytes there are no longer kept.
    pub fn feed_at(&self, mark: Mark, last: &Arc<Feed>) -> Option<(Arc<Feed>, Option<u64>)> {
        let Some(chunk) = self.has(mark).then(|| self.from(mark).next())? else {
            return Some((Arc::clone(last), None));
        };
        let told = chunk.ends.partition_point(|end| *end <= mark.offset);
        let position = told.checked_sub(1).and_then(|last| chunk.positions.get(last)).copied();
        (mark.offset == 0 || position.is_some()).then(|| (Arc::clone(&chunk.before), position))
    }

    /// What a reader in the first chunk needs to go on without it. `last` is the feed behind the last chunk.
    pub fn cut(&self, mark: Mark, last: &Feed) -> Option<Cut> {
        let mut from = self.has(mark).then(|| self.from(mark))?;
        let chunk = from.next()?;
        let Chunk { bytes, ends, .. } = chunk;
        if mark.offset == 0 {
            return Some(Cut { rest: Vec::new(), feed: Feed::clone(&chunk.before) });
        }
        let event = ends.partition_point(|end| *end <= mark.offset);
        let begun = event.checked_sub(1).map_or(0, |last| ends[last]);
        let (end, feed) = match chunk.positions.get(event) {
            // it stands between two frames
            Some(_) if begun == mark.offset => (begun, chunk.before.at(*chunk.positions.get(event - 1)?)),
            Some(position) => (ends[event], chunk.before.at(*position)),
            // told as a whole
            None => (u32::try_from(bytes.len()).ok()?, from.next().map_or(last, |next| &next.before).clone()),
        };
        let rest = bytes.get(mark.offset as usize..end as usize)?.to_vec();
        Some(Cut { rest, feed })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::core::feed::{Scope, Start, Subscription};
    use crate::core::mutants::Mutants;
    use crate::core::record::Incarnation;
    use crate::core::{Genesis, Stamp, Store};

    fn feed() -> Feed {
        let genesis = Genesis { provisional: false, started: Stamp::ZERO, key: [3; 16], versions: 8 };
        let store: Store<()> = Store::simulated(genesis, Incarnation(1), 2, Mutants::NONE);
        Feed::open(&store, Stamp::ZERO, Arc::new(Subscription::all(Scope::all())), Start::Now)
    }

    /// A chunk with events of this length, told at these positions.
    fn chunk(start: u64, end: u64, positions: &[u64], length: u32) -> Chunk {
        let count = u32::try_from(positions.len().max(1)).unwrap();
        let ends: Vec<u32> = (1..=count).map(|event| event * length).collect();
        let bytes: Bytes = (0..count * length).map(|at| b'a' + u8::try_from(at % 26).unwrap()).collect();
        let before = Arc::new(feed().at(start));
        Chunk { bytes, ends, positions: positions.to_vec(), start: Some(start), end: Some(end), before }
    }

    fn chunks() -> Chunks {
        let mut chunks = Chunks::default();
        chunks.push(chunk(10, 20, &[12, 15, 20], 5));
        chunks.push(chunk(20, 30, &[22, 28], 7));
        chunks
    }

    #[test]
    fn a_reader_goes_on_where_its_position_is() {
        let chunks = chunks();
        let mark = |chunk, offset| Some(Mark { chunk, offset });
        for (position, expected) in [
            (9, None),
            (10, mark(0, 0)),
            (11, mark(0, 0)),
            (12, mark(0, 5)),
            (15, mark(0, 10)),
            (20, mark(1, 0)),
            (27, mark(1, 7)),
            // it was told all of the chunk, and lacks entries of the ring that the chunk tells nothing of
            (28, mark(2, 0)),
            (30, mark(2, 0)),
            (31, mark(2, 0)),
        ] {
            assert_eq!(chunks.locate(position), expected, "{position}");
        }
        let mut whole = Chunks::default();
        whole.push(chunk(10, 20, &[], 9));
        assert_eq!((whole.locate(10), whole.locate(14), whole.locate(20)), (mark(0, 0), None, mark(1, 0)));
        assert_eq!(Chunks::default().locate(7), mark(0, 0));
    }

    #[test]
    fn bytes_are_taken_from_mark_to_mark() {
        let chunks = chunks();
        let all: Vec<u8> = chunks.kept.iter().flat_map(|chunk| chunk.bytes.to_vec()).collect();
        for first in 0..=all.len() {
            let mark = chunks.after(Mark { chunk: 0, offset: 0 }, first);
            let mut slices = [IoSlice::new(&[]); CHUNKS_PER_WRITE];
            let (count, bytes) = chunks.slices(mark, &mut slices);
            assert_eq!(bytes, all.len() - first);
            assert_eq!(
                slices[..count].iter().flat_map(|slice| slice.to_vec()).collect::<Vec<_>>(),
                all[first..]
            );
        }
        assert_eq!(chunks.after(Mark { chunk: 0, offset: 0 }, all.len()), chunks.end());
    }

    #[test]
    fn a_reader_takes_whole_events() {
        let chunks = chunks();
        let last = Arc::new(feed().at(30));
        let (mut mark, mut taken, mut feeds) = (Mark { chunk: 0, offset: 0 }, Vec::new(), Vec::new());
        while let Some((bytes, behind)) = chunks.next(mark, 11) {
            taken.push((mark.chunk, bytes.len()));
            let (feed, position) = chunks.feed_at(behind, &last).expect("a feed");
            feeds.push(position.or(feed.position()));
            mark = behind;
        }
        assert_eq!(taken, [(0, 10), (0, 5), (1, 7), (1, 7)]);
        assert_eq!(feeds, [15, 20, 22, 30].map(Some));
        assert_eq!(mark, chunks.end());
        assert_eq!(
            chunks.next(Mark { chunk: 0, offset: 0 }, 1).expect("one").0.len(),
            5,
            "at least one event"
        );
        let mut whole = Chunks::default();
        whole.push(chunk(10, 20, &[], 9));
        let (bytes, behind) = whole.next(Mark { chunk: 0, offset: 0 }, 1).expect("all");
        assert_eq!((bytes.len(), behind), (9, whole.end()));
        whole.drop_first();
        assert!(whole.next(Mark { chunk: 0, offset: 0 }, 1).is_none(), "its bytes are gone");
        assert!(whole.feed_at(Mark { chunk: 0, offset: 0 }, &last).is_none());
    }

    #[test]
    fn a_reader_that_is_cut_needs_the_rest_of_one_event() {
        let chunks = chunks();
        let last = feed().at(30);
        let cut = |chunk, offset| {
            let cut = chunks.cut(Mark { chunk, offset }, &last).expect("a cut");
            (String::from_utf8(cut.rest).unwrap(), cut.feed.position().unwrap())
        };
        assert_eq!(cut(0, 0), (String::new(), 10));
        assert_eq!(cut(0, 1), ("bcde".to_owned(), 12));
        assert_eq!(cut(0, 5), (String::new(), 12));
        assert_eq!(cut(0, 7), ("hij".to_owned(), 15));
        assert_eq!(cut(0, 14), ("o".to_owned(), 20));
        assert_eq!(cut(1, 13), ("n".to_owned(), 28));
        let mut whole = Chunks::default();
        whole.push(Chunk { end: None, ..chunk(10, 20, &[], 9) });
        let cut =
            |chunks: &Chunks| chunks.cut(Mark { chunk: 0, offset: 4 }, &last).map(|cut| cut.feed.position());
        assert_eq!(cut(&whole), Some(Some(30)), "behind the last chunk");
        whole.push(chunk(25, 30, &[30], 3));
        assert_eq!(cut(&whole), Some(Some(25)), "before the next one");
        whole.drop_first();
        assert_eq!(cut(&whole), None, "its bytes are gone");
    }

    #[test]
    fn what_is_dropped_is_no_longer_counted() {
        let mut chunks = chunks();
        let whole = chunks.cost();
        chunks.drop_first();
        assert!(chunks.cost() < whole && chunks.first() == 1);
        chunks.clear();
        assert_eq!((chunks.cost(), chunks.end()), (0, Mark { chunk: 2, offset: 0 }));
        assert!(!chunks.has(Mark { chunk: 1, offset: 3 }));
    }
}
