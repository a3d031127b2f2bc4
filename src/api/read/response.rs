//! The responses to a read.

use axum::http::header::{
    AGE, CACHE_CONTROL, CONNECTION, CONTENT_TYPE, HeaderName, HeaderValue, VIA, WARNING,
};
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use hyper::body::Bytes;

use crate::api::error::Refusal;
use crate::api::headers::{data, number, stamps};
use crate::api::params::shown;
use crate::api::state::Node;
use crate::core::{Kind, LimitReached, Name, Record, Stamp};
use crate::fill::NameStatus;
use crate::metrics::Limit;
use crate::wire::error_code::ErrorCode;
use crate::wire::headers::{SERVER_TIMING, X_VWATCH_GENESIS};
use crate::wire::timing::Timing;

const TIMING: HeaderName = HeaderName::from_static(SERVER_TIMING);
const GENESIS: HeaderName = HeaderName::from_static(X_VWATCH_GENESIS);

/// How a read ended.
#[derive(Debug)]
pub(crate) struct ReadResult<'a> {
    /// What was read.
    pub(crate) name: &'a Name,
    /// What there is.
    pub(crate) record: Option<&'a Record>,
    /// The newest stamp that the reader has seen.
    pub(crate) seen: Option<Stamp>,
    /// The stamp that it showed says nothing, for it is older than the set.
    pub(crate) predates_genesis: bool,
    /// It has the body already, and asked not to get it again.
    pub(crate) unchanged: bool,
    /// How long it took.
    pub(crate) timing: Timing,
}

/// The response to a read that ended so.
///
/// # Errors
/// The refusal, where there is no value to answer with.
pub(super) fn response(node: &Node, result: &ReadResult<'_>) -> Result<Response<Bytes>, Refusal> {
    let ReadResult { name, record, .. } = *result;
    let mut headers = stamps(record);
    // a cache may keep a response with a Last-Modified for a tenth of its age (RFC 9111, 4.2.2), and hide a change
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    provenance(node, name, record, &mut headers);
    if result.predates_genesis {
        headers.insert(GENESIS, number(node.store.genesis().started.micros()));
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

/// Says of what comes from an upstream through whom it came, and how old it may be where that no longer confirms it.
fn provenance(node: &Node, name: &Name, record: Option<&Record>, headers: &mut HeaderMap) {
    let Some(filler) = &node.fill else { return };
    let Some(provenance) = filler.provenance(name) else { return };
    headers.insert(VIA, HeaderValue::try_from(provenance.via).expect("tokens"));
    if let (Some(age_s), Some(_)) = (provenance.stale_for_s, record) {
        headers.insert(AGE, number(age_s));
        headers.insert(WARNING, HeaderValue::from_static("110 - \"Response is Stale\""));
    }
}

/// The refusal where an upstream has not said that there is nothing.
fn not_filled(node: &Node, name: &Name) -> Option<Refusal> {
    let filler = node.fill.as_ref()?;
    let got = shown(name.as_bytes());
    Some(match filler.status(name) {
        NameStatus::Unknown => return None,
        NameStatus::Waiting(why) => Refusal::new(
            ErrorCode::NotKnownYet,
            format_args!("not known yet: {got}: {why}: ask again, or with a longer timeout"),
        ),
        NameStatus::Failing(why) => Refusal::new(
            ErrorCode::UpstreamFails,
            format_args!("the upstream fails: {got}: {why}: ask again"),
        ),
        NameStatus::Unusable(why) => Refusal::new(
            ErrorCode::UpstreamUnusable,
            format_args!("the upstream does not say: {got}: {why}: look at the upstream"),
        ),
        NameStatus::NoPath(why) => Refusal::new(
            ErrorCode::BadName,
            format_args!("a name that cannot be asked for upstream: {got}: {why}: use another name"),
        ),
        NameStatus::Full => Refusal::new(
            ErrorCode::TooManyNames,
            format_args!("too many names: {got} is one more than --fill-max-names: ask another node"),
        ),
    })
}

/// 404 or 410 where there is no value; `None` where there is one.
pub(super) fn missing(record: Option<&Record>, name: &Name) -> Option<Refusal> {
    match record {
        None => Some(not_found(name)),
        Some(record) if record.kind() == Kind::Tombstone => {
            let got = shown(name.as_bytes());
            Some(Refusal::new(ErrorCode::Deleted, format_args!("deleted: {got}: wait for it with ?version=")))
        }
        Some(_) => None,
    }
}

fn not_found(name: &Name) -> Refusal {
    let got = shown(name.as_bytes());
    Refusal::new(ErrorCode::NotFound, format_args!("not found: {got}: wait for it with ?version="))
}

/// 503: there is something to wait for, and no place to do so.
pub(super) fn too_many(node: &Node, name: &Name, limit: LimitReached) -> Refusal {
    const ADVICE: &str = "ask another node, or again later, or with ?timeout=0s";
    match limit {
        LimitReached::Total(most) => {
            node.metrics.hit(Limit::Watchers);
            Refusal::new(
                ErrorCode::TooManyWatchers,
                format_args!("too many watchers: {most} are parked here: {ADVICE}"),
            )
        }
        LimitReached::PerName(most) => {
            node.metrics.hit(Limit::WatchersOfAName);
            let got = shown(name.as_bytes());
            Refusal::new(
                ErrorCode::TooManyWatchers,
                format_args!("too many watchers of {got}: {most} are parked: {ADVICE}"),
            )
        }
    }
}

/// For a reader that has closed its connection: no reader sees the response, but the connection ends.
pub(super) fn hung_up() -> Refusal {
    Refusal::new(
        ErrorCode::ConnectionClosed,
        "hung up: the connection was closed while the answer was waited for",
    )
    .with(CONNECTION, HeaderValue::from_static("close"))
}

/// 409: the reader has seen newer than what we hold, even after waiting.
fn behind(record: Option<&Record>, seen: Stamp) -> Refusal {
    let held = record.map_or_else(|| "nothing".to_owned(), |r| format!("{} µs", r.last_sync()));
    Refusal::new(
        ErrorCode::WouldGoBack,
        format_args!(
            "would go back in time: you have seen {seen} µs, this node holds {held}: ask another node or again"
        ),
    )
}
