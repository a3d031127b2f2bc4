//! `GET | HEAD /v1/versions/{name}`: what there is, now or once it differs from what the reader knows.

use std::fmt::Display;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::State;
use axum::http::header::{CONNECTION, CONTENT_TYPE, ETAG, HeaderName, HeaderValue, IF_NONE_MATCH};
use axum::http::{HeaderMap, Request, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use tokio::time::{Instant, timeout_at};

use super::answer::{LAST_SYNC, data, number, stamps};
use super::error::Refusal;
use super::operations::stopping;
use super::request::{self, header, query, shown};
use crate::core::{Kind, Known, Name, Question, Record, Stamp};
use crate::node::Node;
use crate::node::hang_up::HangUp;
use crate::node::store::Reading;
use crate::watch::Wake;
use crate::wire::duration::{self, GoDuration};
use crate::wire::etag::{parse_if_none_match, parse_tag};
use crate::wire::headers::{SERVER_TIMING, X_VWATCH_GENESIS};

const TIMING: HeaderName = HeaderName::from_static(SERVER_TIMING);
const GENESIS: HeaderName = HeaderName::from_static(X_VWATCH_GENESIS);

/// A timeout may always be this long, whatever `--block-for` says.
const LONGEST_TIMEOUT: Duration = Duration::from_secs(60);

/// Handles a read.
pub(super) async fn read(State(node): State<Arc<Node>>, request: Request<Body>) -> Result<Response, Refusal> {
    // the request's own buffers are not needed while it is parked, so they go before
    let read = Read::parse(&node, request.uri(), request.headers())?;
    let hang_up = request.extensions().get().cloned().unwrap_or_default();
    drop(request);
    read.answer(&node, &hang_up).await
}

/// A read, understood.
struct Read {
    name: Name,
    question: Question,
    /// The reader sent `If-None-Match`: it wants 304 where it would get the same body again.
    conditional: bool,
    /// The stamp that it showed is from before this set began.
    predates_genesis: bool,
    timeout: Duration,
}

impl Read {
    /// Checks what was asked, in vwatch's order: timeout, existence, version, `X-Last-Sync`.
    fn parse(node: &Node, uri: &Uri, headers: &HeaderMap) -> Result<Self, Refusal> {
        let name = request::name(node, uri)?;
        let timeout = timeout(node, uri)?;
        let rest = known(uri, headers).and_then(|k| last_sync(headers).map(|s| (k, s)));
        let ((known, conditional), at_least) = match rest {
            Ok(rest) => rest,
            Err(refusal) => {
                let held = node.store.get(&name);
                let missing = missing(held.as_ref(), &name).map(|m| m.with_all(stamps(held.as_ref())));
                return Err(missing.unwrap_or(refusal));
            }
        };
        let genesis = node.store.genesis().started;
        let predates_genesis = at_least.is_some_and(|stamp| stamp < genesis);
        let at_least = at_least.filter(|_| !predates_genesis);
        let question = Question { known, at_least };
        Ok(Self { name, question, conditional, predates_genesis, timeout })
    }

    async fn answer(self, node: &Node, hang_up: &HangUp) -> Result<Response, Refusal> {
        let Self { name, mut question, conditional, predates_genesis, timeout } = self;
        let at_least = question.at_least;
        let mut conditions = conditional.then(|| question.known.clone());
        let started = Instant::now();
        let mut timing = Timing { jitter: None, started };
        let record = loop {
            match node.store.read(&name, &question, !timeout.is_zero()) {
                Reading::Answer(record) => break record,
                Reading::Draining => return Err(stopping()),
                Reading::Parked(mut parked) => {
                    if timing.jitter.is_none() && conditions == Some(Known::Current) {
                        // "whatever is there" is what was there at the first look
                        conditions = Some(parked.then.known.clone());
                    }
                    timing.jitter = Some(Duration::ZERO);
                    let told = tokio::select! {
                        told = timeout_at(started + timeout, parked.rung()) => told,
                        () = hang_up.happened() => return Err(hung_up()),
                    };
                    match told {
                        Ok(Wake::Changed { at }) => {
                            timing.jitter = Some(at.elapsed());
                            question = parked.then.clone();
                        }
                        Ok(Wake::Drain) | Err(_) => break node.store.get(&name),
                    }
                }
            }
        };
        let record = record.as_ref();
        let mut headers = stamps(record);
        if predates_genesis {
            headers.insert(GENESIS, number(node.store.genesis().started.micros()));
        }
        if let Some(seen) = at_least
            && record.is_none_or(|r| r.last_sync() < seen)
        {
            return Err(behind(record, seen).with_all(headers));
        }
        let Some(record) = record.filter(|r| r.kind() == Kind::Value) else {
            let refusal = missing(record, &name).unwrap_or_else(|| not_found(&name));
            return Err(refusal.with_all(headers));
        };
        let jitter_is_on = !node.config.jitter_per_watch.is_zero();
        headers.insert(TIMING, timing.header(jitter_is_on));
        let unchanged = match conditions {
            // it was not parked, so that what is there is what was there
            Some(Known::Current) => true,
            Some(Known::AnyOf(versions)) => versions.iter().any(|v| record.is_version(v)),
            _ => false,
        };
        let mut response = if unchanged {
            StatusCode::NOT_MODIFIED.into_response()
        } else {
            headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
            Response::new(data(record))
        };
        *response.headers_mut() = headers;
        Ok(response)
    }
}

/// How long the reader was parked, and for how long its wake was held back.
struct Timing {
    /// `None` for a reader that was not parked.
    jitter: Option<Duration>,
    started: Instant,
}

impl Timing {
    /// `jitter;dur=0s, watch;dur=2.671s`; the first part only for who was parked, and where wakes are spread at all.
    fn header(&self, jitter_is_on: bool) -> HeaderValue {
        let watch = GoDuration::rounded_to_ms(self.started.elapsed());
        let text = match self.jitter {
            Some(jitter) if jitter_is_on => {
                format!("jitter;dur={}, watch;dur={watch}", GoDuration::rounded_to_ms(jitter))
            }
            _ => format!("watch;dur={watch}"),
        };
        HeaderValue::try_from(text).expect("digits and units")
    }
}

fn timeout(node: &Node, uri: &Uri) -> Result<Duration, Refusal> {
    let Some(text) = query(uri, "timeout")? else { return Ok(node.config.block_for) };
    let longest = node.config.block_for.max(LONGEST_TIMEOUT);
    let got = shown(text.as_bytes());
    let timeout = duration::parse(&text)
        .map_err(|e| Refusal::bad_request(format_args!("bad timeout: {got}: {e}: try something like 10s")))?;
    if timeout > longest {
        let longest = GoDuration(longest);
        return Err(Refusal::bad_request(format_args!(
            "bad timeout: {got} is too long: ask for at most {longest}"
        )));
    }
    Ok(timeout)
}

/// What the reader knows, and whether it said so by `If-None-Match`: that first, then `ETag`, then `?version=`.
fn known(uri: &Uri, headers: &HeaderMap) -> Result<(Known, bool), Refusal> {
    let bad = |what: &str, e: &dyn Display| Refusal::bad_request(format_args!("{what}: {e}"));
    if headers.contains_key(IF_NONE_MATCH) {
        let lines = headers.get_all(IF_NONE_MATCH).iter().map(HeaderValue::as_bytes);
        let known = parse_if_none_match(lines).map_err(|e| bad("If-None-Match", &e))?;
        return Ok((known, true));
    }
    let (what, tag) = match header(headers, &ETAG)? {
        Some(value) => ("ETag", Some(parse_tag(value.as_bytes(), true))),
        None => ("version", query(uri, "version")?.map(|text| parse_tag(text.as_bytes(), true))),
    };
    Ok(match tag.transpose().map_err(|e| bad(what, &e))? {
        Some(Some(version)) => (Known::AnyOf(vec![version]), false),
        Some(None) => (Known::Absence, false),
        None => (Known::Unsaid, false),
    })
}

fn last_sync(headers: &HeaderMap) -> Result<Option<Stamp>, Refusal> {
    header(headers, &LAST_SYNC)?.map(|value| request::stamp("X-Last-Sync", value.as_bytes())).transpose()
}

/// 404 or 410 where there is no value; `None` where there is one.
fn missing(record: Option<&Record>, name: &Name) -> Option<Refusal> {
    match record {
        None => Some(not_found(name)),
        Some(record) if record.kind() == Kind::Tombstone => {
            let got = shown(name.as_bytes());
            Some(Refusal::new(StatusCode::GONE, format_args!("deleted: {got}: wait for it with ?version=")))
        }
        Some(_) => None,
    }
}

fn not_found(name: &Name) -> Refusal {
    let got = shown(name.as_bytes());
    Refusal::new(StatusCode::NOT_FOUND, format_args!("not found: {got}: wait for it with ?version="))
}

/// For a reader that is not there any more: nobody sees it, but the connection ends.
fn hung_up() -> Refusal {
    Refusal::unavailable("hung up: the connection was closed while the answer was waited for")
        .with(CONNECTION, HeaderValue::from_static("close"))
}

/// 409: the reader has seen newer than what we hold, even after waiting.
fn behind(record: Option<&Record>, seen: Stamp) -> Refusal {
    let held = record.map_or_else(|| "nothing".to_owned(), |r| format!("{} µs", r.last_sync()));
    Refusal::new(
        StatusCode::CONFLICT,
        format_args!(
            "would go back in time: you have seen {seen} µs, this node holds {held}: ask another node or again"
        ),
    )
}
