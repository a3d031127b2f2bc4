//! `GET | HEAD | POST /v1/watch`: what changes of many names, from a cursor on that is good at any node.

mod batch;
mod group;
mod in_process;
mod lease_events;
mod opening;
mod request;
mod stream;

pub(crate) use group::{Made, make_chunk};
pub(crate) use in_process::{InProcess, in_process};
pub(crate) use opening::begin_now;
use request::Asked;

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::State;
use axum::http::header::{ACCEPT, CACHE_CONTROL, CONTENT_TYPE, HeaderName, HeaderValue, VIA};
use axum::http::{HeaderMap, Method, Request};
use axum::response::Response;
use hyper::body::Bytes;

use super::connection::{Disconnect, OwnLists};
use super::error::Refusal;
use super::guard::{caller_in, token_ended};
use super::params::{self, namespace_path, shown};
use super::readiness::may_read;
use super::state::Node;
use crate::access::{Caller, Need, Verb};
use crate::core::Name;
use crate::core::feed::{Event, Subscription};
use crate::metrics::Port;
use crate::node::feeds::Place;
use crate::node::in_flight::Account;
use crate::wire::cursor;
use crate::wire::error_code::ErrorCode;
use crate::wire::head::StreamHead;
use crate::wire::headers::X_VWATCH_PARTIAL;
use crate::wire::stream::{Encoding, Frames, Tail};
use crate::wire::watch::{PARAMETERS, Since};
use crate::wire::watch_form::{StreamForm, WatchForm};

/// An answer is for one reader and one moment, and a proxy must not gather several before it passes them on.
const NO_STORE: HeaderValue = HeaderValue::from_static("no-store, no-transform");
const PARTIAL: HeaderName = HeaderName::from_static(X_VWATCH_PARTIAL);
const BUFFERING: HeaderName = HeaderName::from_static("x-accel-buffering");

/// The media type of a body, and of the batch form.
const JSON: &str = WatchForm::Batch.media_type();

/// Handles a watch. The path may have a namespace.
pub(super) async fn watch(
    State(node): State<Arc<Node>>,
    request: Request<Body>,
) -> Result<Response, Refusal> {
    let form = accepted(request.headers())?;
    match (answer(&node, form, request).await, form) {
        (Ok(response), form) => Ok(with_headers(&node, form, response)),
        (Err(refusal), WatchForm::Stream(form)) if refusal.is_temporary() => {
            stream::try_later(&node, form, refusal)
                .map(|response| with_headers(&node, WatchForm::Stream(form), response))
        }
        (Err(refusal), _) => Err(refusal),
    }
}

async fn answer(node: &Arc<Node>, form: WatchForm, request: Request<Body>) -> Result<Response, Refusal> {
    may_read(node)?;
    let namespace = namespace_path(request.uri().path())?.namespace;
    let (parts, body) = request.into_parts();
    let account = params::account(&parts.extensions);
    let caller = caller_in(&parts.extensions);
    let asked = request::read(node, caller, &namespace, &parts, body, &account).await?;
    if parts.method == Method::HEAD {
        return Ok(Response::new(Body::empty()));
    }
    let reader = Reader {
        disconnect: parts.extensions.get().cloned().unwrap_or_default(),
        own: parts.extensions.get().cloned(),
        account,
    };
    // the head is not needed while the reader is parked
    drop(parts);
    fill(node, &asked.names);
    match form {
        WatchForm::Batch if asked.subscription.dots => Err(no_stream("dots")),
        // they are of now, and outside the cursor: a reader that asks again and again would miss some
        WatchForm::Batch if asked.leases => Err(no_stream("leases")),
        WatchForm::Batch => {
            let granted = Granted::new(node, caller, &asked.subscription);
            tokio::select! {
                biased;
                answer = batch::answer(node, asked, &reader) => answer,
                () = granted.ended() => Err(token_ended(node)),
            }
        }
        WatchForm::Stream(form) => stream::begin(node, form, asked, reader).await,
    }
}

/// 400 for what only a stream tells.
fn no_stream(parameter: &str) -> Refusal {
    Refusal::bad_parameter(format_args!(
        "{parameter}=true without a stream: accept text/event-stream or application/x-ndjson"
    ))
}

/// A stream that the fast path begins.
pub(crate) struct StreamAsked {
    /// To which all of it is granted.
    pub(crate) caller: Caller,
    pub(crate) subscription: Arc<Subscription>,
    /// The names that are watched by themselves.
    pub(crate) names: Vec<Name>,
    pub(crate) since: Since,
    pub(crate) encoding: Encoding,
    pub(crate) heartbeat: Duration,
}

/// The stream that a head asks for. `None` if the ordinary path has to answer.
pub(crate) fn parse_stream(node: &Node, head: &StreamHead<'_>) -> Option<StreamAsked> {
    let WatchForm::Stream(form) = WatchForm::accepted(head.accept.into_iter())? else { return None };
    may_read(node).ok()?;
    let namespace = namespace_path(head.path).ok().filter(|path| path.rest == "/watch")?.namespace;
    if !params::has_only(head.query, &PARAMETERS) {
        return None;
    }
    let caller = node.access.plain_sender(Port::Client, &head.sender)?;
    let asked =
        request::of_head(node, caller, &namespace, head.query, head.last_event_id.unwrap_or_default())
            .ok()?;
    let Asked {
        caller,
        names,
        subscription,
        since,
        data,
        heartbeat,
        limit: None,
        timeout: None,
        leases: false,
    } = asked
    else {
        return None;
    };
    let encoding = Encoding { form, data, is_chunked: true, tells_dots: subscription.dots };
    Some(StreamAsked { caller, subscription, names, since, encoding, heartbeat })
}

/// The head of the answer with a stream.
pub(crate) fn stream_head(node: &Node, form: StreamForm) -> Response<Bytes> {
    with_headers(node, WatchForm::Stream(form), Response::new(Bytes::new()))
}

/// The bytes of events of a stream, and of the place of its feed behind them.
pub(crate) fn frames(node: &Node, encoding: Encoding, events: &[Event], place: &Place) -> Frames {
    let Place { cursor, behind, registers, is_provisional } = place;
    let tail = Tail {
        cursor: &cursor::encode(cursor),
        behind: *behind,
        registers: *registers,
        cut_off: node.cut_off(),
        is_provisional: *is_provisional,
    };
    // it fails for no event; a reader without these bytes would resume from the cursor before them
    encoding.frames(events, tail).unwrap_or_default()
}

/// What a watch was granted.
struct Granted {
    node: Arc<Node>,
    caller: Caller,
    subscription: Arc<Subscription>,
}

impl Granted {
    fn new(node: &Arc<Node>, caller: Caller, subscription: &Arc<Subscription>) -> Self {
        Self { node: Arc::clone(node), caller, subscription: Arc::clone(subscription) }
    }

    /// Waits until that is so no more.
    async fn ended(self) {
        match &self.node.access.tokens {
            Some(tokens) => {
                tokens.ended(self.caller, Verb::Read, Need::Scope(&self.subscription.scope)).await;
            }
            None => std::future::pending().await,
        }
    }
}

/// The reader of an answer.
struct Reader {
    disconnect: Disconnect,
    own: Option<OwnLists>,
    account: Account,
}

/// Fills the names that are watched by themselves.
pub(crate) fn fill(node: &Node, names: &[Name]) {
    if let Some(filler) = &node.fill {
        names.iter().for_each(|name| filler.register_read(name, false));
    }
}

fn with_headers<B>(node: &Node, form: WatchForm, mut response: Response<B>) -> Response<B> {
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(form.media_type()));
    if let Some(filler) = &node.fill {
        // a mirror of this node looks whether it would mirror itself
        response.headers_mut().insert(VIA, HeaderValue::try_from(filler.via()).expect("tokens"));
        if !filler.is_mirror() {
            response.headers_mut().insert(PARTIAL, HeaderValue::from_static("true"));
        }
    }
    response.headers_mut().insert(CACHE_CONTROL, NO_STORE);
    response.headers_mut().insert(BUFFERING, HeaderValue::from_static("no"));
    response
}

/// The form of the answer.
fn accepted(headers: &HeaderMap) -> Result<WatchForm, Refusal> {
    let lines = || headers.get_all(ACCEPT).iter().map(HeaderValue::as_bytes);
    WatchForm::accepted(lines()).ok_or_else(|| {
        let got = lines().map(String::from_utf8_lossy).collect::<Vec<_>>().join(", ");
        let got = shown(got.as_bytes());
        Refusal::new(
            ErrorCode::NotAcceptable,
            format_args!(
                "no such form: {got} is accepted: accept application/json, text/event-stream or application/x-ndjson"
            ),
        )
    })
}
