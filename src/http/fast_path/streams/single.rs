//! A reader that goes on by itself: it begins, resumes, or is far behind its group.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::OwnedSemaphorePermit;

use crate::access::Caller;
use crate::api::state::Node;
use crate::api::watch;
use crate::core::feed::{Budget, Event};
use crate::node::chunks::Cut;
use crate::node::feeds::{Advanced, NodeFeed, Place};
use crate::node::limits::{RECORDS_PER_LOCK, SINGLE_WRITE_BYTES};
use crate::node::replication::Replicator;
use crate::node::stream_groups::GroupKey;
use crate::node::streams::StreamPlace;

/// Names or entries of the ring that one step under the lock looks at.
const NAMES_PER_LOCK: usize = RECORDS_PER_LOCK / 4;

/// A reader that goes on by itself.
pub(in crate::http::fast_path) struct Single {
    pub(super) key: Arc<GroupKey>,
    pub(super) feed: NodeFeed,
    /// Bytes that are sent first, and how many of them were.
    pub(super) rest: Vec<u8>,
    pub(super) sent: usize,
    /// Its socket takes no more at the moment.
    pub(super) is_blocked: bool,
    /// It was told where it is, at least once.
    pub(super) is_greeted: bool,
    /// When a sign of life is due, since the start of the event loop.
    pub(super) heartbeat_at: Duration,
    /// Held while it scans.
    pub(super) scan: Option<OwnedSemaphorePermit>,
    pub(super) place: StreamPlace,
    /// To which the scope is granted.
    pub(super) caller: Caller,
}

impl Single {
    /// A reader that leaves its group, with what it needs of its chunks.
    pub(super) fn leaving(
        replicator: &Replicator,
        key: Arc<GroupKey>,
        cut: Cut,
        heartbeat_at: Duration,
        place: StreamPlace,
        caller: Caller,
    ) -> Self {
        let Cut { rest, feed } = cut;
        let feed = NodeFeed::of(replicator, feed);
        let (is_blocked, is_greeted) = (true, true);
        Self { key, feed, rest, sent: 0, is_blocked, is_greeted, heartbeat_at, scan: None, place, caller }
    }

    /// Whether its socket takes no more at the moment.
    pub(in crate::http::fast_path) fn is_blocked(&self) -> bool {
        self.is_blocked
    }

    /// The bytes that are sent next.
    pub(super) fn unsent(&self) -> &[u8] {
        self.rest.get(self.sent..).unwrap_or_default()
    }

    /// Makes the bytes of a sign of life, without a look at the feed.
    pub(super) fn show_life(&mut self, node: &Node) {
        let place = self.feed.place();
        self.add(node, &[], &place);
    }

    fn add(&mut self, node: &Node, events: &[Event], place: &Place) {
        let frames = watch::frames(node, self.key.encoding, events, place);
        if self.unsent().is_empty() {
            (self.rest, self.sent) = (frames.bytes, 0);
        } else {
            self.rest.extend_from_slice(&frames.bytes);
        }
    }

    /// Makes the next bytes behind those that are not sent, if there are some. Returns whether there is more to tell
    /// now.
    pub(super) fn make(&mut self, node: &Node, is_heartbeat: bool) -> bool {
        let budget = Budget { names: NAMES_PER_LOCK, bytes: SINGLE_WRITE_BYTES };
        let Advanced { slice, place, .. } = self.feed.advance(budget, None);
        if !self.feed.is_scanning() {
            self.scan = None;
        }
        if slice.events.is_empty() && !is_heartbeat && (self.is_greeted || slice.more) {
            return slice.more;
        }
        slice.events.iter().for_each(|event| node.metrics.feeds.told(event));
        self.is_greeted = true;
        self.add(node, &slice.events, &place);
        slice.more
    }
}
