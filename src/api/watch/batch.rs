//! The batch form of a watch: what there is to tell, as one JSON answer, at once or when something comes.

use std::sync::Arc;

use axum::body::Body;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use tokio::time::{Instant, timeout_at};

use super::Reader;
use super::opening::open;
use super::request::Asked;
use crate::api::error::Refusal;
use crate::api::headers::{counted, json_in_place};
use crate::api::list::{AtWork, at_work, place};
use crate::api::read::{hung_up, too_many};
use crate::api::state::Node;
use crate::core::feed::{Budget, Event};
use crate::metrics::latency::Path;
use crate::node::clock;
use crate::node::feeds::{Next, NodeFeed, Place};
use crate::node::limits::{MAX_BATCH_ANSWER_BYTES, RECORDS_PER_LOCK};
use crate::watch::Wake;
use crate::wire::cursor;
use crate::wire::error_code::ErrorCode;
use crate::wire::events::{Batch, cost};
use crate::wire::watch::{DEFAULT_BATCH_EVENTS, DataForm};

/// Most names or changes that are looked at in one step under the lock: each costs about a microsecond if no cache has
/// it.
pub(super) const NAMES_PER_LOCK: usize = RECORDS_PER_LOCK / 4;

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
    let Asked { caller: _, names: _, subscription, since, data, heartbeat: _, limit, timeout, leases: _ } =
        asked;
    let timeout = timeout.unwrap_or(node.config.block_for);
    let limit = limit.unwrap_or(DEFAULT_BATCH_EVENTS);
    let until = Instant::now() + timeout;
    let mut feed = open(node, subscription, &since, until, &reader.disconnect).await?;
    // a cursor may be long, and a parked reader needs it no more
    drop(since);
    let mut told = Told { events: Vec::new(), bytes: 0, data, limit, more: false };
    let mut work: Option<AtWork<'_>> = None;
    let mut has_scanned = false;
    let mut is_over = timeout.is_zero();
    let mut changed = None;
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
                changed = match wake {
                    Ok(Wake::Changed { at }) => Some(at),
                    Ok(Wake::Drain) | Err(_) => None,
                };
                is_over = changed.is_none();
            }
            Next::Draining => break,
            Next::LimitReached(limit) => return Err(too_many(node, "a name or prefix", limit)),
        }
    }
    let answer = send(node, &feed, told, reader, work, has_scanned)?;
    if let Some(at) = changed {
        node.metrics.latency.woken(Path::Ordinary, at.elapsed(), 1);
    }
    Ok(answer)
}

fn send(
    node: &Arc<Node>,
    feed: &NodeFeed,
    told: Told,
    reader: &Reader,
    work: Option<AtWork<'_>>,
    has_scanned: bool,
) -> Result<Response, Refusal> {
    let Place { cursor, behind, .. } = feed.place();
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
