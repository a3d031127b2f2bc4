//! A group: the streams of one event loop with the same scope and form. They have one feed, and their bytes are made
//! once.

use std::collections::BTreeSet;
use std::hash::Hash;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::api::state::Node;
use crate::api::watch;
use crate::core::Name;
use crate::core::feed::{Budget, Event, Subscription};
use crate::http::fast_path::streams::chunks::{Chunk, Chunks, Mark};
use crate::node::feeds::{Advanced, NodeFeed};
use crate::node::limits::{RECORDS_PER_LOCK, STREAM_CHUNK_BYTES};
use crate::watch::Waiter;
use crate::watch::pace::Pace;
use crate::wire::stream::Encoding;

/// What streams of a group have in common.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct GroupKey {
    pub(super) subscription: Arc<Subscription>,
    /// The names that are watched by themselves, to be filled.
    pub(super) names: Vec<Name>,
    pub(super) encoding: Encoding,
    pub(super) heartbeat: Duration,
}

/// Most bytes of chunks that a group keeps for readers that take them slowly. A reader that is behind these goes on by
/// itself.
pub(super) const MAX_KEPT_BYTES: usize = 256 << 10;

/// Steps under the lock in one turn: about a millisecond, if no news is found.
const STEPS: usize = 4;

/// Entries of the ring that one step under the lock looks at.
const ENTRIES_PER_LOCK: usize = RECORDS_PER_LOCK / 2;

/// A walk over the readers of a group, to tell each what it was not told yet.
pub(super) struct Round {
    /// The index of the next reader.
    pub(super) at: usize,
    /// The number of readers that had their turn, and that of all when it began. Readers that leave change neither.
    pub(super) turns: usize,
    pub(super) size: usize,
    /// When it began.
    pub(super) started: Instant,
}

/// The streams of one event loop with the same scope and form.
pub(super) struct Group {
    pub(super) key: Arc<GroupKey>,
    pub(super) feed: NodeFeed,
    /// How the store wakes it.
    pub(super) waiter: Waiter,
    /// The places of its readers.
    pub(super) members: Vec<u32>,
    /// Those whose socket takes no more at the moment.
    pub(super) blocked: BTreeSet<u32>,
    pub(super) chunks: Chunks,
    /// What of their cost the event loop counts.
    pub(super) counted: usize,
    pub(super) round: Option<Round>,
    /// Readers that have caught up, and join it behind the round.
    pub(super) joining: Vec<u32>,
    /// There may be news.
    pub(super) is_pending: bool,
    /// It is parked in the store, or about to end: it need not look for news by itself.
    pub(super) is_parked: bool,
    /// It waits for its turn.
    pub(super) is_queued: bool,
    /// When a sign of life is due, since the start of the event loop.
    pub(super) heartbeat_at: Duration,
    /// The node is about to end: the pace of the last words.
    pub(super) ending: Option<Pace>,
}

impl Group {
    /// A group with one reader, whose feed it goes on with.
    pub(super) fn new(
        key: Arc<GroupKey>,
        feed: NodeFeed,
        waiter: Waiter,
        reader: u32,
        heartbeat_at: Duration,
    ) -> Self {
        Self {
            key,
            feed,
            waiter,
            members: vec![reader],
            blocked: BTreeSet::new(),
            chunks: Chunks::default(),
            counted: 0,
            round: None,
            joining: Vec::new(),
            is_pending: true,
            is_parked: false,
            is_queued: false,
            heartbeat_at,
            ending: None,
        }
    }

    /// Ends it: its readers are told what there is, and then the last words.
    pub(super) fn end(&mut self, pace: Pace) {
        self.ending = Some(pace);
        // those that had their turn have another one
        self.round = None;
        self.is_pending = true;
    }

    /// Makes the next chunk, if there is news or a sign of life is due. Returns whether it did.
    pub(super) fn produce(&mut self, node: &Node, is_heartbeat: bool) -> bool {
        let start = self.feed.position();
        let before = self.feed.feed().clone();
        let (mut events, mut positions, mut bytes) = (Vec::new(), Vec::new(), 0);
        let mut is_whole = start.is_none();
        let mut steps = 0;
        let place = loop {
            steps += 1;
            let budget = Budget { names: ENTRIES_PER_LOCK, bytes: STREAM_CHUNK_BYTES - bytes };
            let Advanced { slice, place, is_parked } = self.feed.advance(budget, Some(&self.waiter));
            self.is_parked = is_parked;
            is_whole |= slice.positions.len() != slice.events.len();
            bytes += slice.events.iter().map(cost).sum::<usize>();
            events.extend(slice.events);
            positions.extend(slice.positions);
            self.is_pending = slice.more;
            if !slice.more || bytes >= STREAM_CHUNK_BYTES || steps == STEPS {
                break place;
            }
        };
        if events.is_empty() && !is_heartbeat {
            return false;
        }
        if is_whole {
            positions.clear();
        }
        let readers = self.members.len().max(1);
        events.iter().for_each(|event| node.metrics.feeds.told_to(event, readers));
        let frames = watch::frames(node, self.key.encoding, &events, &place);
        // where it left the ring, no reader can join it within the chunk
        let start = start.filter(|_| !is_whole || events.is_empty() || self.feed.position().is_some());
        self.chunks.push(Chunk { frames, positions, start, end: self.feed.position(), before });
        true
    }

    /// Where a reader with this feed goes on in the chunks; `None` if it is behind the group, or before its chunks.
    pub(super) fn locate(&self, feed: &NodeFeed) -> Option<Mark> {
        self.locate_since(self.feed.position(), feed)
    }

    /// The same, of a group all of whose chunks since that position are kept.
    pub(super) fn locate_since(&self, since: Option<u64>, feed: &NodeFeed) -> Option<Mark> {
        let position = feed.position()?;
        let is_reached = self.feed.position().is_some_and(|end| end >= position);
        let is_there = !self.chunks.is_empty() || since.is_some_and(|since| since <= position);
        (is_reached && is_there).then(|| self.chunks.locate(position)).flatten()
    }

    /// Begins a round.
    pub(super) fn begin_round(&mut self, now: Instant) {
        self.round = Some(Round { at: 0, turns: 0, size: self.members.len(), started: now });
    }
}

impl Round {
    /// When the next reader has its turn.
    pub(super) fn next_turn(&self, pace: Pace) -> Instant {
        self.started + pace.delay(self.turns, self.size)
    }
}

fn cost(event: &Event) -> usize {
    match event {
        Event::Changed(changed) => changed.record.cost(),
        _ => 64,
    }
}
