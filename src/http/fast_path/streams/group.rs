//! A group: the streams of one event loop with the same scope and form. They have one feed, and their bytes are made
//! once.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::api::state::Node;
use crate::api::watch::{Made, make_chunk};
use crate::node::chunks::{Chunks, Mark};
use crate::node::feeds::NodeFeed;
use crate::node::stream_groups::GroupKey;
use crate::watch::Waiter;
use crate::watch::pace::Pace;

/// A walk over the readers of a group, to tell each what it was not told yet.
pub(super) struct Round {
    /// The index of the next reader.
    pub(super) at: usize,
    /// The number of readers that had their turn, and that of all when it began. Readers that leave change neither.
    pub(super) turns: usize,
    pub(super) size: usize,
    /// When it began.
    pub(super) started: Instant,
    /// When the first change that it tells was made, if a change has begun it.
    pub(super) since: Option<Instant>,
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
    /// What of their cost the node counts.
    pub(super) counted: usize,
    pub(super) round: Option<Round>,
    /// Readers that have caught up, and join it behind the round.
    pub(super) joining: Vec<u32>,
    /// When the first change was made that the next round tells.
    pub(super) since: Option<Instant>,
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
            since: None,
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
        let readers = self.members.len();
        let Made { chunk, more, is_parked } =
            make_chunk(node, &self.key, &mut self.feed, &self.waiter, readers, is_heartbeat);
        (self.is_pending, self.is_parked) = (more, is_parked);
        let is_made = chunk.is_some();
        chunk.into_iter().for_each(|chunk| self.chunks.push(chunk));
        is_made
    }

    /// Where a reader with this feed goes on in the chunks; `None` if it is behind the group, or before its chunks.
    pub(super) fn locate(&self, feed: &NodeFeed) -> Option<Mark> {
        self.locate_since(self.feed.shared_position(), feed)
    }

    /// The same, of a group all of whose chunks since that position are kept.
    pub(super) fn locate_since(&self, since: Option<u64>, feed: &NodeFeed) -> Option<Mark> {
        self.chunks.find(feed.shared_position()?, since, self.feed.shared_position())
    }

    /// Begins a round, for a change of this time if one has begun it.
    pub(super) fn begin_round(&mut self, now: Instant, since: Option<Instant>) {
        self.round = Some(Round { at: 0, turns: 0, size: self.members.len(), started: now, since });
    }
}

impl Round {
    /// When the next reader has its turn.
    pub(super) fn next_turn(&self, pace: Pace) -> Instant {
        self.started + pace.delay(self.turns, self.size)
    }
}
