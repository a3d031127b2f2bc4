//! The batch form of a watch: what there is to tell, as one JSON answer, at once or when something comes.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use tokio::time::{Instant, sleep, timeout_at};

use super::request::Asked;
use crate::api::connection::{Disconnect, OwnLists};
use crate::api::error::Refusal;
use crate::api::headers::{counted, json_in_place};
use crate::api::list::{AtWork, at_work, place};
use crate::api::read::{hung_up, too_many};
use crate::api::state::Node;
use crate::core::feed::{Budget, Cursor, Event, Feed, Start, Subscription};
use crate::metrics::Limit;
use crate::metrics::feeds::Begun;
use crate::node::clock;
use crate::node::feeds::{Next, NodeFeed, Place};
use crate::node::in_flight::Account;
use crate::node::limits::{CATCH_UP_TIME, MAX_BATCH_ANSWER_BYTES, RECORDS_PER_LOCK};
use crate::watch::Wake;
use crate::wire::cursor;
use crate::wire::error_code::ErrorCode;
use crate::wire::events::{Batch, cost};
use crate::wire::watch::{DataForm, Since};

/// The first and the longest pause between two looks whether this node has caught up with a cursor.
const FIRST_LOOK: Duration = Duration::from_millis(2);
const LAST_LOOK: Duration = Duration::from_millis(50);

/// Most names or changes that are looked at in one step under the lock: each costs about a microsecond if no cache has
/// it.
const NAMES_PER_LOCK: usize = RECORDS_PER_LOCK / 4;

/// The reader of an answer.
pub(super) struct Reader {
    /// Whether it has gone.
    pub(super) disconnect: Disconnect,
    /// The places of its connection, if it has several requests under way.
    pub(super) own: Option<OwnLists>,
    /// The bytes that its connection holds.
    pub(super) account: Account,
}

/// The events of an answer that is made.
struct Told {
    events: Vec<Event>,
    bytes: usize,
    data: DataForm,
    limit: usize,
    /// There is more to tell now.
    more: bool,
}

impl Told {
    fn add(&mut self, events: Vec<Event>) {
        self.bytes += events.iter().map(|event| cost(event, self.data)).sum::<usize>();
        self.events.extend(events);
    }

    fn is_full(&self) -> bool {
        self.events.len() >= self.limit || self.bytes >= MAX_BATCH_ANSWER_BYTES
    }

    /// What the next slice may have.
    fn budget(&self) -> Budget {
        let left = MAX_BATCH_ANSWER_BYTES.saturating_sub(self.bytes);
        // data takes a third more as base64
        let bytes = if self.data == DataForm::None { MAX_BATCH_ANSWER_BYTES } else { left / 4 * 3 };
        Budget { names: self.limit.saturating_sub(self.events.len()).clamp(1, NAMES_PER_LOCK), bytes }
    }
}

/// Answers a watch: as soon as there is an event, and at the end of its time without one.
pub(super) async fn answer(node: &Arc<Node>, asked: Asked, reader: &Reader) -> Result<Response, Refusal> {
    let Asked { names, subscription, since, data, limit, timeout } = asked;
    if let Some(filler) = &node.fill {
        names.iter().for_each(|name| filler.register_read(name, false));
    }
    let until = Instant::now() + timeout;
    let mut feed = open(node, subscription, &since, until, &reader.disconnect).await?;
    // a cursor may be long, and a parked reader needs it no more
    drop(since);
    let mut told = Told { events: Vec::new(), bytes: 0, data, limit, more: false };
    let mut work: Option<AtWork<'_>> = None;
    let mut has_scanned = false;
    let mut is_over = timeout.is_zero();
    loop {
        if work.is_none() && feed.is_scanning() {
            has_scanned = true;
            work = Some(at_work(node, reader.own.as_ref()).await?);
        }
        let may_park = told.events.is_empty() && !is_over;
        match feed.next(told.budget(), may_park) {
            Next::Slice(slice) => {
                told.more = slice.more;
                told.add(slice.events);
                if !told.more || told.is_full() {
                    break;
                }
                tokio::task::yield_now().await;
            }
            Next::Parked(mut woken) => {
                work = None;
                told.more = false;
                let wake = tokio::select! {
                    wake = timeout_at(until, woken.wait()) => wake,
                    () = reader.disconnect.happened() => return Err(hung_up()),
                };
                // a last look, so that the cursor is of now
                is_over = !matches!(wake, Ok(Wake::Changed { .. }));
            }
            Next::Draining => break,
            Next::LimitReached(limit) => return Err(too_many(node, "a name or prefix", limit)),
        }
    }
    send(node, &feed, told, reader, work, has_scanned)
}

/// Opens the feed. A reader whose cursor is ahead waits for this node to catch up.
async fn open(
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
    let feed = NodeFeed::open(&node.replicator, subscription, start);
    node.metrics.feeds.begun(match since {
        Since::Oldest => Begun::Oldest,
        Since::Now => Begun::Now,
        Since::From(_) => Begun::Stamp,
        Since::Cursor(_) if feed.is_scanning() => Begun::CursorByScan,
        Since::Cursor(_) => Begun::Cursor,
    });
    Ok(feed)
}

/// Waits until the node has all writes that a cursor claims, for a while. Returns whether it has.
async fn has_caught_up(
    node: &Node,
    cursor: &Cursor,
    until: Instant,
    disconnect: &Disconnect,
) -> Result<bool, Refusal> {
    let is_ahead = || node.store.with(|store| Feed::ahead_by(store, cursor)) > 0;
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

fn send(
    node: &Arc<Node>,
    feed: &NodeFeed,
    told: Told,
    reader: &Reader,
    work: Option<AtWork<'_>>,
    has_scanned: bool,
) -> Result<Response, Refusal> {
    let Place { cursor, behind } = feed.place();
    let Told { events, data, more, .. } = told;
    let cursor = cursor::encode(&cursor);
    let batch = Batch { events: &events, data, cursor: &cursor, more, behind, now: clock::now() };
    let json = batch.to_json().map_err(|error| Refusal::new(ErrorCode::Internal, error))?;
    events.iter().for_each(|event| node.metrics.feeds.told(event));
    drop((events, work));
    let Reader { account, own, .. } = reader;
    if has_scanned {
        return json_in_place(node, account, json, || {
            let own = own.as_ref().map(|own| place(node, &own.sent)).transpose()?;
            Ok((place(node, &node.scans)?, own))
        });
    }
    let body: Body = counted(node, account, json, ())?;
    Ok(([(CONTENT_TYPE, super::JSON)], body).into_response())
}
