//! Opens the feed of a watch.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::api::connection::Disconnect;
use crate::api::error::Refusal;
use crate::api::read::hung_up;
use crate::api::state::Node;
use crate::core::feed::{Cursor, Feed, Start, Subscription};
use crate::metrics::Limit;
use crate::metrics::feeds::Begun;
use crate::node::feeds::NodeFeed;
use crate::node::limits::CATCH_UP_TIME;
use crate::wire::error_code::ErrorCode;
use crate::wire::watch::Since;

/// The first and the longest pause between two looks whether this node has caught up with a cursor.
const FIRST_LOOK: Duration = Duration::from_millis(2);
const LAST_LOOK: Duration = Duration::from_millis(50);

/// Opens the feed. A reader whose cursor is ahead waits for this node to catch up.
pub(super) async fn open(
    node: &Node,
    subscription: Arc<Subscription>,
    since: &Since,
    until: Instant,
    disconnect: &Disconnect,
) -> Result<NodeFeed, Refusal> {
    let start = match since {
        Since::Oldest => Start::Oldest,
        Since::Now => Start::Now,
        Since::From(stamp) => Start::From(*stamp),
        Since::Cursor(cursor) if has_caught_up(node, cursor, until, disconnect).await? => {
            Start::Cursor(cursor)
        }
        Since::Cursor(cursor) => Start::Ahead(cursor),
    };
    Ok(begin(node, subscription, start))
}

/// Begins the feed of a stream without a wait. `None` if its cursor is ahead of this node.
pub(crate) fn begin_now(node: &Node, subscription: &Arc<Subscription>, since: &Since) -> Option<NodeFeed> {
    let start = match since {
        Since::Oldest => Start::Oldest,
        Since::Now => Start::Now,
        Since::From(stamp) => Start::From(*stamp),
        Since::Cursor(cursor) if !is_ahead_of(node, cursor) => Start::Cursor(cursor),
        Since::Cursor(_) => return None,
    };
    Some(begin(node, Arc::clone(subscription), start))
}

fn begin(node: &Node, subscription: Arc<Subscription>, start: Start<'_>) -> NodeFeed {
    let begun = match start {
        Start::Oldest => Begun::Oldest,
        Start::Now => Begun::Now,
        Start::From(_) => Begun::Stamp,
        Start::Cursor(_) | Start::Ahead(_) => Begun::Cursor,
    };
    let feed = NodeFeed::open(&node.replicator, subscription, start);
    let begun = if begun == Begun::Cursor && feed.is_scanning() { Begun::CursorByScan } else { begun };
    node.metrics.feeds.begun(begun);
    feed
}

/// Whether a reader begins with a cursor that claims writes which the node does not know.
pub(super) fn is_ahead(node: &Node, since: &Since) -> bool {
    matches!(since, Since::Cursor(cursor) if is_ahead_of(node, cursor))
}

fn is_ahead_of(node: &Node, cursor: &Cursor) -> bool {
    node.store.with(|store| Feed::ahead_by(store, cursor)) > 0
}

/// Waits until the node has all writes that a cursor claims, for a while. Returns whether it has.
async fn has_caught_up(
    node: &Node,
    cursor: &Cursor,
    until: Instant,
    disconnect: &Disconnect,
) -> Result<bool, Refusal> {
    let is_ahead = || is_ahead_of(node, cursor);
    if !is_ahead() {
        return Ok(true);
    }
    let _place = node.readers_ahead.try_acquire().map_err(|_| {
        node.metrics.hit(Limit::ReadersAhead);
        Refusal::new(
            ErrorCode::Busy,
            "busy: other readers wait for this node to catch up with their cursors: retry, or use another node",
        )
    })?;
    let until = until.min(Instant::now() + CATCH_UP_TIME);
    let mut pause = FIRST_LOOK;
    while Instant::now() < until && node.is_serving() {
        tokio::select! {
            () = sleep(pause.min(until - Instant::now())) => {}
            () = disconnect.happened() => return Err(hung_up()),
        }
        if !is_ahead() {
            return Ok(true);
        }
        pause = (2 * pause).min(LAST_LOOK);
    }
    Ok(false)
}
