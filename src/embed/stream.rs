//! A watch of a client in this process: its feed is read by the task of the program, when the program asks.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::time::{Instant, Sleep, sleep_until};

use super::event::{Received, received};
use crate::api::state::Node;
use crate::api::watch::InProcess;
use crate::client::transport::{LocalStream, Next, ReceivedBatch};
use crate::core::feed::Budget;
use crate::node::feeds::{Advanced, NodeFeed};
use crate::node::limits::{RECORDS_PER_LOCK, STREAM_WRITE_BYTES};
use crate::node::streams::StreamPlace;
use crate::watch::{Bell, Waiter};
use crate::wire::cursor;
use crate::wire::error_code::ErrorCode;
use crate::wire::watch::DataForm;

/// What one step under the lock looks at.
const BUDGET: Budget = Budget { names: RECORDS_PER_LOCK / 4, bytes: STREAM_WRITE_BYTES };

/// A watch that goes on. Nothing is queued for it.
pub(super) struct Stream {
    node: Arc<Node>,
    feed: NodeFeed,
    data: DataForm,
    bell: Arc<Bell>,
    waiter: Waiter,
    is_parked: bool,
    /// Nothing was told yet.
    is_first: bool,
    heartbeat: Duration,
    told: Instant,
    /// The next sign of life, or an earlier time.
    alarm: Option<Pin<Box<Sleep>>>,
    _place: StreamPlace,
}

impl Stream {
    pub(super) fn new(node: &Arc<Node>, begun: InProcess) -> Self {
        let InProcess { feed, data, heartbeat, place } = begun;
        let bell = Arc::<Bell>::default();
        Self {
            node: Arc::clone(node),
            feed,
            data,
            waiter: Waiter::Bell(Arc::clone(&bell)),
            bell,
            is_parked: false,
            is_first: true,
            heartbeat,
            told: Instant::now(),
            alarm: None,
            _place: place,
        }
    }

    /// Whether a sign of life is due: it keeps the cursor of a quiet watch current.
    fn poll_due(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            let due = self.told + self.heartbeat;
            let alarm = self.alarm.get_or_insert_with(|| Box::pin(sleep_until(due)));
            ready!(alarm.as_mut().poll(cx));
            // it was set before the last write
            let is_due = due <= Instant::now();
            alarm.as_mut().reset(if is_due { Instant::now() + self.heartbeat } else { due });
            if is_due {
                return Poll::Ready(());
            }
        }
    }
}

impl fmt::Debug for Stream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stream").field("is_parked", &self.is_parked).finish_non_exhaustive()
    }
}

impl LocalStream for Stream {
    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Next> {
        // a program that always finds news lets others run
        let coop = ready!(tokio::task::coop::poll_proceed(cx));
        let mut is_due = false;
        loop {
            if self.is_parked && self.bell.poll_rung(cx).is_pending() {
                ready!(self.poll_due(cx));
                is_due = true;
            }
            let is_ending = !self.node.is_serving();
            let Advanced { slice, place, is_parked } = self.feed.advance(BUDGET, Some(&self.waiter));
            self.is_parked = is_parked;
            let is_told = !slice.events.is_empty() || self.is_first || is_due;
            if is_told && !(is_ending && slice.events.is_empty() && !slice.more) {
                coop.made_progress();
                slice.events.iter().for_each(|event| self.node.metrics.feeds.told(event));
                (self.is_first, self.told) = (false, Instant::now());
                let Received { puts, events } = received(&slice.events, self.data);
                return Poll::Ready(Next::Write(ReceivedBatch {
                    puts,
                    events,
                    cursor: cursor::encode(&place.cursor),
                    more: false,
                    behind: place.behind,
                    now: None,
                }));
            }
            if slice.more {
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            if is_ending {
                return Poll::Ready(Next::End);
            }
            if !is_parked {
                return Poll::Ready(Next::Refused {
                    is_temporary: true,
                    code: Some(ErrorCode::TooManyWatchers),
                    why: "too many watchers are parked at the embedded node".to_owned(),
                });
            }
        }
    }
}
