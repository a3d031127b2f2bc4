//! The responses to a read.

use axum::http::header::{
    AGE, CACHE_CONTROL, CONNECTION, CONTENT_TYPE, HeaderName, HeaderValue, VIA, WARNING,
};
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use hyper::body::Bytes;

use super::ignored::IgnoredStamp;
use crate::api::error::Refusal;
use crate::api::headers::{data, number, stamps};
use crate::api::params::shown;
use crate::api::state::Node;
use crate::core::{Kind, LimitReached, Name, Record, Stamp};
use crate::fill::{Filler, NameStatus};
use crate::metrics::Limit;
use crate::wire::error_code::ErrorCode;
use crate::wire::headers::{SERVER_TIMING, X_VWATCH_GENESIS, X_VWATCH_LOST_SINCE};
use crate::wire::timing::Timing;

const TIMING: HeaderName = HeaderName::from_static(SERVER_TIMING);
const GENESIS: HeaderName = HeaderName::from_static(X_VWATCH_GENESIS);
const LOST_SINCE: HeaderName = HeaderName::from_static(X_VWATCH_LOST_SINCE);

/// The result of a read.
#[derive(Debug)]
pub(crate) struct ReadResult<'a> {
    /// The name.
    pub(crate) name: &'a Name,
    /// The record, if there is one.
    pub(crate) record: Option<&'a Record>,
    /// The newest stamp that the reader has seen.
    pub(crate) seen: Option<Stamp>,
    /// The reader has shown a stamp that is ignored.
    pub(crate) ignored: Option<IgnoredStamp>,
    /// The reader has the body already, and wants 304.
    pub(crate) unchanged: bool,
    /// The times of the read.
    pub(crate) timing: Timing,
}

/// The response to a read.
///
/// # Errors
/// The refusal, if there is no value.
pub(super) fn response(node: &Node, result: &ReadResult<'_>) -> Result<Response<Bytes>, Refusal> {
    let ReadResult { name, record, .. } = *result;
    let mut headers = stamps(record);
    // a cache may keep a response with a Last-Modified for a tenth of its age (RFC 9111, 4.2.2), and hide a change
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    provenance(node, name, record, &mut headers);
    match result.ignored {
        Some(IgnoredStamp::FromBeforeGenesis) => {
            headers.insert(GENESIS, number(node.store.genesis().started.micros()));
        }
        Some(IgnoredStamp::OfLostWrite { since }) => {
            headers.insert(LOST_SINCE, number(since.micros()));
        }
        None => {}
    }
    if let Some(seen) = result.seen
        && record.is_none_or(|r| r.last_sync() < seen)
    {
        return Err(behind(record, seen).with_all(headers));
    }
    let Some(record) = record.filter(|r| r.kind() == Kind::Value) else {
        let refusal = missing(record, name).unwrap_or_else(|| not_found(name));
        let refusal = if record.is_none() { not_filled(node, name).unwrap_or(refusal) } else { refusal };
        return Err(refusal.with_all(headers));
    };
    let timing = result.timing.to_string();
    headers.insert(TIMING, HeaderValue::try_from(timing).expect("digits and units"));
    let mut response = Response::new(Bytes::new());
    if result.unchanged {
        *response.status_mut() = StatusCode::NOT_MODIFIED;
    } else {
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
        *response.body_mut() = data(record);
    }
    *response.headers_mut() = headers;
    Ok(response)
}

/// What fills a name: only plain names come from an upstream.
fn filler_of<'a>(node: &'a Node, name: &Name) -> Option<&'a Filler> {
    node.fill.as_ref().filter(|_| name.namespace().is_empty())
}

/// Adds the path of a record of an upstream, and its age if the upstream no longer confirms it.
fn provenance(node: &Node, name: &Name, record: Option<&Record>, headers: &mut HeaderMap) {
    let Some(filler) = filler_of(node, name) else { return };
    let Some(provenance) = filler.provenance(name) else { return };
    headers.insert(VIA, HeaderValue::try_from(provenance.via).expect("tokens"));
    if let (Some(age_s), Some(_)) = (provenance.stale_for_s, record) {
        headers.insert(AGE, number(age_s));
        headers.insert(WARNING, HeaderValue::from_static("110 - \"Response is Stale\""));
    }
}

/// The refusal if the upstream has not answered that there is no such name.
fn not_filled(node: &Node, name: &Name) -> Option<Refusal> {
    let filler = filler_of(node, name)?;
    let got = shown(name.bare());
    Some(match filler.status(name) {
        NameStatus::Unknown => return None,
        NameStatus::Waiting(why) => Refusal::new(
            ErrorCode::NotKnownYet,
            format_args!("not known yet: {got}: {why}: retry, or use a longer timeout"),
        ),
        NameStatus::Failing(why) => {
            Refusal::new(ErrorCode::UpstreamFails, format_args!("the upstream fails: {got}: {why}: retry"))
        }
        NameStatus::Unusable(why) => Refusal::new(
            ErrorCode::UpstreamUnusable,
            format_args!("the answer of the upstream cannot be used: {got}: {why}: check the upstream"),
        ),
        NameStatus::NoPath(why) => Refusal::new(
            ErrorCode::BadName,
            format_args!("a name without a path at the upstream: {got}: {why}: use another name"),
        ),
        NameStatus::Full => Refusal::new(
            ErrorCode::TooManyNames,
            format_args!("too many names: {got} is one more than --fill-max-names: use another node"),
        ),
    })
}

/// 404 or 410 if there is no value; `None` if there is one.
pub(super) fn missing(record: Option<&Record>, name: &Name) -> Option<Refusal> {
    match record {
        None => Some(not_found(name)),
        Some(record) if record.kind() == Kind::Tombstone => {
            let got = shown(name.bare());
            Some(Refusal::new(ErrorCode::Deleted, format_args!("deleted: {got}: wait for it with ?version=")))
        }
        Some(_) => None,
    }
}

fn not_found(name: &Name) -> Refusal {
    let got = shown(name.bare());
    Refusal::new(ErrorCode::NotFound, format_args!("not found: {got}: wait for it with ?version="))
}

/// 503: a reader of `watched` would have to wait, and a limit of parked readers is reached.
pub(in crate::api) fn too_many(node: &Node, watched: &str, limit: LimitReached) -> Refusal {
    const ADVICE: &str = "use another node, retry later, or use timeout=0s";
    let (limit, what) = match limit {
        LimitReached::Total(most) => (Limit::Watchers, format!(": {most} are parked here")),
        LimitReached::PerName(most) => (Limit::WatchersOfAName, format!(" of {watched}: {most} are parked")),
    };
    node.metrics.hit(limit);
    Refusal::new(ErrorCode::TooManyWatchers, format_args!("too many watchers{what}: {ADVICE}"))
}

/// For a reader that has closed its connection: no reader sees the response, but the connection ends.
pub(in crate::api) fn hung_up() -> Refusal {
    Refusal::new(
        ErrorCode::ConnectionClosed,
        "disconnected: the client closed the connection while it waited for the answer",
    )
    .with(CONNECTION, HeaderValue::from_static("close"))
}

/// 409: the reader has seen a newer record than this node holds, also after the wait.
fn behind(record: Option<&Record>, seen: Stamp) -> Refusal {
    let held = record.map_or_else(|| "nothing".to_owned(), |r| format!("{} µs", r.last_sync()));
    Refusal::new(
        ErrorCode::WouldGoBack,
        format_args!(
            "would go back in time: you have seen {seen} µs, this node holds {held}: use another node, or retry"
        ),
    )
}
