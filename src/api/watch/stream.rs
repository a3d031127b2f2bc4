//! The forms of a watch that go on, by the ordinary path: what there is to tell, and then what comes, until the reader
//! leaves.
//!
//! Nothing is queued for a reader. The next bytes are made when the connection takes them, from where its feed stands.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::Body;
use axum::response::Response;
use hyper::body::{Bytes, Frame};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Instant, sleep, sleep_until, timeout_at};

use super::batch::NAMES_PER_LOCK;
use super::group::join;
use super::lease_events::lease_event;
use super::opening::{is_ahead, open};
use super::request::Asked;
use super::{Granted, Reader, fill, frames};
use crate::access::Caller;
use crate::api::connection::Patience;
use crate::api::error::Refusal;
use crate::api::guard::token_ended;
use crate::api::list::place as scan_place;
use crate::api::read::too_many;
use crate::api::state::Node;
use crate::core::Name;
use crate::core::feed::{Budget, Event, Subscription};
use crate::metrics::Limit;
use crate::node::clock;
use crate::node::feeds::{Next, NodeFeed, Place};
use crate::node::leases::LeaseReader;
use crate::node::limits::{CATCH_UP_TIME, STREAM_WRITE_BYTES};
use crate::node::stream_groups::{GroupKey, Member, Taken};
use crate::node::streams::StreamPlace;
use crate::wire::error_code::ErrorCode;
use crate::wire::leases::LeaseEventJson;
use crate::wire::stream::Encoding;
use crate::wire::watch::Since;
use crate::wire::watch_form::StreamForm;

/// How long a stream waits for a place or for room before it looks again.
const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// Takes a place among the watches that go on.
pub(super) fn enter(node: &Node) -> Result<StreamPlace, Refusal> {
    node.streams.enter().ok_or_else(|| {
        node.metrics.hit(Limit::Watchers);
        let most = node.streams.most();
        let advice = "use another node, or retry later";
        Refusal::new(
            ErrorCode::TooManyWatchers,
            format_args!("too many watchers: {most} watches go on here: {advice}"),
        )
    })
}

/// Begins a stream.
pub(super) async fn begin(
    node: &Arc<Node>,
    form: StreamForm,
    asked: Asked,
    reader: Reader,
) -> Result<Response, Refusal> {
    let place = enter(node)?;
    let Asked { caller, names, subscription, since, data, heartbeat, limit, timeout, leases } = asked;
    // before what is held is looked up, so that nothing is missed
    let leases = leases.then(|| node.leases.watch(&subscription.scope));
    let tells_dots = subscription.dots;
    let granted = node.access.tokens.is_some().then(|| {
        let last_words = {
            let (node, subscription) = (Arc::clone(node), Arc::clone(&subscription));
            async move {
                Granted::new(&node, caller, &subscription).ended().await;
                let refusal = token_ended(&node);
                let encoding = Encoding { form, data, is_chunked: false, tells_dots };
                Bytes::from(encoding.error(refusal.code(), refusal.text()))
            }
        };
        Box::pin(last_words) as LastWords
    });
    let now = Instant::now();
    let mut scan = None;
    let encoding = Encoding { form, data, is_chunked: false, tells_dots };
    let group = (limit.is_none() && leases.is_none()).then(|| {
        let (subscription, names) = (Arc::clone(&subscription), names.clone());
        Arc::new(GroupKey { subscription, names, encoding, heartbeat })
    });
    let state = if is_ahead(node, &since) {
        State::Opening(subscription, since)
    } else {
        let feed = open(node, subscription, &since, now, &reader.disconnect).await?;
        if feed.is_scanning() {
            scan = Some(scan_place(node, &node.stream_scans)?);
        }
        State::Begun(feed)
    };
    let stream = Stream {
        node: Arc::clone(node),
        _patience: reader.disconnect.wait_for_slow_readers(),
        reader,
        caller,
        _place: place,
        names,
        encoding,
        heartbeat,
        next_heartbeat: now + heartbeat,
        until: timeout.map(|timeout| now + timeout),
        left: limit,
        state,
        scan,
        group,
        leases,
        may_tell_leases: true,
    };
    let body = StreamBody { next: Some(Box::pin(stream.next())), granted };
    Ok(Response::new(Body::new(body)))
}

/// What a reader gets that is to come back: `EventSource` gives up for good on any status other than 200.
pub(super) fn try_later(node: &Node, form: StreamForm, refusal: Refusal) -> Result<Response, Refusal> {
    if form != StreamForm::EventStream {
        return Err(refusal);
    }
    let encoding = Encoding { form, data: Default::default(), is_chunked: false, tells_dots: false };
    Ok(Response::new(Body::from(encoding.farewell(refusal.text(), node.streams.retry()))))
}

/// A stream that is sent.
struct Stream {
    node: Arc<Node>,
    reader: Reader,
    /// To which all of it is granted.
    caller: Caller,
    _place: StreamPlace,
    _patience: Option<Patience>,
    names: Vec<Name>,
    encoding: Encoding,
    heartbeat: Duration,
    next_heartbeat: Instant,
    until: Option<Instant>,
    /// The events that are still told.
    left: Option<usize>,
    state: State,
    /// Held while it scans.
    scan: Option<OwnedSemaphorePermit>,
    /// Its group, if it tells no number of events and nothing of leases.
    group: Option<Arc<GroupKey>>,
    /// What happens to leases, if it tells that.
    leases: Option<LeaseReader>,
    /// The feed and the leases are looked at in turns, so that neither waits for the other.
    may_tell_leases: bool,
}

enum State {
    Opening(Arc<Subscription>, Since),
    /// Nothing was sent yet.
    Begun(NodeFeed),
    Going(NodeFeed),
    /// It has caught up, and shares the bytes of its group.
    Shared(Box<Member>),
    Ended,
}

/// What is done after a look at the feed.
enum Step {
    Send(Vec<Event>, Place),
    Share(Member),
    Wait,
    End(&'static str),
    Refuse(Refusal),
    /// The reader is gone.
    Leave,
}

/// What becomes of a stream.
enum Outcome {
    Send(Bytes),
    /// It goes on in another state.
    Changed,
    /// The reader is gone.
    Left,
}

impl Stream {
    /// The next bytes, and the stream from there on. `None` at its end.
    async fn next(mut self) -> Option<(Bytes, Self)> {
        let bytes = loop {
            let outcome = match std::mem::replace(&mut self.state, State::Ended) {
                State::Ended => return None,
                State::Opening(subscription, since) => {
                    let until = self.until.unwrap_or_else(|| Instant::now() + CATCH_UP_TIME);
                    match open(&self.node, subscription, &since, until, &self.reader.disconnect).await {
                        Ok(feed) => self.go_on(feed, true).await,
                        Err(refusal) => Outcome::Send(self.refused(&refusal).into()),
                    }
                }
                State::Begun(feed) => self.go_on(feed, true).await,
                State::Going(feed) => self.go_on(feed, false).await,
                State::Shared(member) => self.share(member).await,
            };
            match outcome {
                Outcome::Send(bytes) => break bytes,
                Outcome::Changed => {}
                Outcome::Left => return None,
            }
        };
        // a reader that takes nothing holds no place
        self.scan = None;
        let held = loop {
            match self.reader.account.hold(bytes.len()) {
                Ok(held) => break held,
                // there is room again when other readers have taken their bytes
                Err(_) => sleep(LOOK_AGAIN).await,
            }
        };
        Some((held.keep_with(bytes, ()), self))
    }

    /// Goes on with a feed of its own.
    async fn go_on(&mut self, mut feed: NodeFeed, is_first: bool) -> Outcome {
        loop {
            if let Some(bytes) = self.of_leases() {
                self.state = if is_first { State::Begun(feed) } else { State::Going(feed) };
                return Outcome::Send(bytes.into());
            }
            match self.step(&mut feed, is_first).await {
                Step::Wait => {}
                Step::Share(member) => {
                    self.state = State::Shared(Box::new(member));
                    return Outcome::Changed;
                }
                Step::Send(events, place) => {
                    let bytes = self.encode(&events, &place);
                    let is_over = self.left == Some(0) || self.is_over();
                    self.state = if is_over { State::Ended } else { State::Going(feed) };
                    return Outcome::Send(bytes.into());
                }
                Step::End(why) => {
                    let mut bytes = self.encode(&[], &feed.place());
                    bytes.extend_from_slice(&self.encoding.farewell(why, self.node.streams.retry()));
                    return Outcome::Send(bytes.into());
                }
                Step::Refuse(refusal) => return Outcome::Send(self.refused(&refusal).into()),
                Step::Leave => return Outcome::Left,
            }
        }
    }

    /// Goes on with the bytes of its group.
    async fn share(&mut self, mut member: Box<Member>) -> Outcome {
        loop {
            match member.take() {
                Taken::Bytes(bytes) => {
                    self.next_heartbeat = Instant::now() + self.heartbeat;
                    self.state = match self.is_over() {
                        true => State::Going(member.leave()),
                        false => State::Shared(member),
                    };
                    return Outcome::Send(bytes);
                }
                Taken::Nothing if !self.is_over() && Instant::now() < self.next_heartbeat + LOOK_AGAIN => {}
                _ => {
                    self.state = State::Going(member.leave());
                    return Outcome::Changed;
                }
            }
            // a sign of life of the group comes sooner, unless this reader has just joined
            let alone = self.next_heartbeat + LOOK_AGAIN;
            let until = self.until.map_or(alone, |until| until.min(alone));
            tokio::select! {
                () = member.wait() => {}
                () = sleep_until(until) => {}
                () = self.reader.disconnect.happened() => return Outcome::Left,
            }
        }
    }

    fn is_over(&self) -> bool {
        self.until.is_some_and(|until| until <= Instant::now())
    }

    /// What there is to tell of leases, if it is their turn.
    fn of_leases(&mut self) -> Option<Vec<u8>> {
        let leases = self.leases.as_mut()?;
        if !std::mem::replace(&mut self.may_tell_leases, true) {
            return None;
        }
        let news = leases.take();
        if news.is_empty() {
            return None;
        }
        self.may_tell_leases = false;
        let now_us = clock::with_sleep().mono_us;
        let told = news.iter().filter_map(|news| lease_event(&self.node, self.caller, news, now_us));
        let events: Vec<LeaseEventJson> = told.collect();
        if events.is_empty() {
            return None;
        }
        // it fails for no event
        self.encoding.leases(&events).ok()
    }

    /// Looks at the feed once, and waits if it has no news.
    async fn step(&mut self, feed: &mut NodeFeed, is_first: bool) -> Step {
        let is_due = Instant::now() >= self.next_heartbeat;
        let is_ending = !self.node.is_serving() && !is_first;
        let is_over = self.is_over();
        if !feed.is_scanning() {
            self.scan = None;
        } else if self.scan.is_none() {
            match Arc::clone(&self.node.stream_scans).try_acquire_owned() {
                Ok(place) => self.scan = Some(place),
                Err(_) if is_ending => return Step::End("this node is about to end"),
                Err(_) if is_due || is_over => return Step::Send(Vec::new(), feed.place()),
                // a stream that began is not ended for it
                Err(_) => {
                    return tokio::select! {
                        () = sleep(LOOK_AGAIN) => Step::Wait,
                        () = self.reader.disconnect.happened() => Step::Leave,
                    };
                }
            }
        }
        let names = self.left.unwrap_or(usize::MAX).clamp(1, NAMES_PER_LOCK);
        let budget = Budget { names, bytes: STREAM_WRITE_BYTES };
        let may_park = !(is_first || is_due || is_over || is_ending);
        if let Some(group) = self.group.as_ref().filter(|_| may_park)
            && let Some(member) = join(&self.node, group, feed)
        {
            return Step::Share(member);
        }
        match feed.next(budget, may_park) {
            Next::Slice(slice) if slice.events.is_empty() && !slice.more && is_ending => {
                Step::End("this node is about to end")
            }
            Next::Slice(slice) if slice.events.is_empty() && slice.more && !is_due && !is_over => {
                tokio::task::yield_now().await;
                Step::Wait
            }
            Next::Slice(slice) => Step::Send(slice.events, feed.place()),
            Next::Parked(mut woken) => {
                let until = self.until.map_or(self.next_heartbeat, |until| until.min(self.next_heartbeat));
                let of_leases = async {
                    match &self.leases {
                        Some(leases) => leases.wait().await,
                        None => std::future::pending().await,
                    }
                };
                tokio::select! {
                    _ = timeout_at(until, woken.wait()) => Step::Wait,
                    () = of_leases => Step::Wait,
                    () = self.reader.disconnect.happened() => Step::Leave,
                }
            }
            Next::Draining => Step::End("this node is about to end"),
            Next::LimitReached(limit) => Step::Refuse(too_many(&self.node, "a name or prefix", limit)),
        }
    }

    fn encode(&mut self, events: &[Event], place: &Place) -> Vec<u8> {
        events.iter().for_each(|event| self.node.metrics.feeds.told(event));
        self.left = self.left.map(|left| left.saturating_sub(events.len()));
        self.next_heartbeat = Instant::now() + self.heartbeat;
        fill(&self.node, &self.names);
        frames(&self.node, self.encoding, events, place).bytes
    }

    /// The last bytes of a stream that cannot go on.
    fn refused(&self, refusal: &Refusal) -> Vec<u8> {
        let mut bytes = self.encoding.error(refusal.code(), refusal.text());
        bytes.extend_from_slice(&self.encoding.farewell(refusal.text(), self.node.streams.retry()));
        bytes
    }
}

/// The body of a stream: its next bytes, when the connection takes them.
struct StreamBody {
    next: Option<NextBytes>,
    /// Ends, with its last bytes, when the token of the reader grants it no more; `None` if it needs none.
    granted: Option<LastWords>,
}

type LastWords = Pin<Box<dyn Future<Output = Bytes> + Send>>;

type NextBytes = Pin<Box<dyn Future<Output = Option<(Bytes, Stream)>> + Send>>;

impl hyper::body::Body for StreamBody {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        if self.next.is_some()
            && let Some(granted) = &mut self.granted
            && let Poll::Ready(bytes) = granted.as_mut().poll(cx)
        {
            (self.next, self.granted) = (None, None);
            return Poll::Ready(Some(Ok(Frame::data(bytes))));
        }
        let Some(next) = &mut self.next else { return Poll::Ready(None) };
        match next.as_mut().poll(cx) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(None) => {
                self.next = None;
                Poll::Ready(None)
            }
            Poll::Ready(Some((bytes, stream))) => {
                self.next = Some(Box::pin(stream.next()));
                Poll::Ready(Some(Ok(Frame::data(bytes))))
            }
        }
    }
}
