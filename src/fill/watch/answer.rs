//! What an answer of a leader means.

use std::borrow::Cow;
use std::time::Duration;

use hyper::StatusCode;
use hyper::body::Bytes;
use hyper::header::{
    CONTENT_ENCODING, CONTENT_LOCATION, CONTENT_TYPE, ETAG, HeaderMap, HeaderName, SERVER, WARNING,
};
use hyper::http::response::Parts;

use crate::core::limits::MAX_DATA_BYTES;
use crate::core::{Stamp, Version};
use crate::fill::http::{self, Body, RequestError, shorten};
use crate::fill::{Shared, limit};
use crate::wire::etag::parse_tag;
use crate::wire::headers::{X_LAST_SYNC, X_VWATCH_EXPIRES};
use crate::wire::list::elements;
use crate::wire::uri::decode;

pub(super) const LAST_SYNC: HeaderName = HeaderName::from_static(X_LAST_SYNC);
const EXPIRES: HeaderName = HeaderName::from_static(X_VWATCH_EXPIRES);

/// Time for an answer beyond the time that the request may be parked.
pub(in crate::fill) const ANSWER_TIME: Duration = Duration::from_secs(10);

/// The answer of a leader about a name.
#[derive(Debug)]
pub(super) enum LeaderAnswer {
    /// A record with a value, and perhaps with an end.
    Value { version: Version, stamp: Stamp, data: Bytes, end: Option<Stamp> },
    /// The record that the node holds stands. The stamp may be newer than its own, and then the end is another one.
    Unchanged(Option<Stamp>, Option<Stamp>),
    /// The name is deleted, at this time if the answer has it; or its value ended then.
    Deleted(Option<Stamp>, Option<Stamp>),
    /// The leader does not know the name.
    Unknown,
    /// The leader has less than this node.
    Behind,
    /// The leader is at a limit, and may request a pause.
    Limited(Option<Duration>),
    /// Any other status below 500.
    Rejected(StatusCode),
    /// A 5xx.
    ServerError(StatusCode),
}

/// Reads an answer about the name at `path`. Returns also whether the leader is cut off from its own upstream.
///
/// # Errors
/// If no vwatch sends such an answer, or its body does not arrive.
pub(super) async fn read(
    shared: &Shared,
    path: &str,
    parts: &Parts,
    body: Body,
) -> Result<(LeaderAnswer, bool), RequestError> {
    let head = &parts.headers;
    let mut warnings = head.get_all(&WARNING).iter().flat_map(|line| elements(line.as_bytes()));
    let is_stale = warnings.any(|warning| warning.starts_with(b"110 "));
    let stamp = || head.get(&LAST_SYNC).and_then(|value| Stamp::parse(value.as_bytes()).ok());
    // a leader that knows no ends sends none
    let end = head.get(&EXPIRES).and_then(|value| Stamp::parse(value.as_bytes()).ok());
    let answer = match parts.status {
        StatusCode::OK => {
            let (version, stamp) = value_of(head, path)?;
            let deadline = tokio::time::Instant::now() + ANSWER_TIME;
            let data = http::read_body(body, MAX_DATA_BYTES, deadline).await?;
            return Ok((LeaderAnswer::Value { version, stamp, data, end }, is_stale));
        }
        // a vwatch sends both with a stamp
        StatusCode::NOT_MODIFIED | StatusCode::GONE if !head.contains_key(&LAST_SYNC) => {
            return Err(not_vwatch(parts.status, head, "it has no X-Last-Sync"));
        }
        StatusCode::NOT_MODIFIED => LeaderAnswer::Unchanged(stamp(), end),
        StatusCode::GONE => LeaderAnswer::Deleted(stamp(), end),
        StatusCode::NOT_FOUND if !is_plain(head) => {
            return Err(not_vwatch(parts.status, head, "it is not in plain text"));
        }
        StatusCode::NOT_FOUND => LeaderAnswer::Unknown,
        StatusCode::CONFLICT => LeaderAnswer::Behind,
        status => match limit(shared, status, head) {
            Some(pause) => LeaderAnswer::Limited(pause),
            None if status.is_server_error() => LeaderAnswer::ServerError(status),
            None => LeaderAnswer::Rejected(status),
        },
    };
    http::discard(body).await;
    Ok((answer, is_stale))
}

/// Whether a `Content-Location` names a path. Both are compared decoded, and the location may have a prefix.
fn is_about(location: &str, path: &str) -> bool {
    let decoded = |text: &str| decode(text.split('?').next().unwrap_or_default()).ok().map(Cow::into_owned);
    let (location, path) = (decoded(location), decoded(path));
    location.zip(path).is_some_and(|(location, path)| location.ends_with(&path))
}

/// The version and stamp of a 200.
fn value_of(head: &HeaderMap, path: &str) -> Result<(Version, Stamp), RequestError> {
    let bad = |why: &str| RequestError::Unusable(why.to_owned());
    if head.contains_key(CONTENT_ENCODING) {
        return Err(bad("its data is compressed although the request did not allow that"));
    }
    if let Some(location) = http::header_text(head, &CONTENT_LOCATION)
        && !is_about(location, path)
    {
        return Err(RequestError::Unusable(format!("it is about another name: {}", shorten(location))));
    }
    let tag = head.get(ETAG).ok_or_else(|| not_vwatch(StatusCode::OK, head, "it has no ETag"))?;
    let version =
        parse_tag(tag.as_bytes(), true).map_err(|error| RequestError::Unusable(error.to_string()))?;
    let version = version.ok_or_else(|| bad("its ETag is empty"))?;
    let no_stamp = || not_vwatch(StatusCode::OK, head, "it has no X-Last-Sync");
    let stamp = head.get(&LAST_SYNC).ok_or_else(no_stamp)?;
    let stamp = Stamp::parse(stamp.as_bytes());
    Ok((version, stamp.map_err(|error| RequestError::Unusable(format!("its X-Last-Sync is {error}")))?))
}

/// Whether an answer has no type, or is plain text, like a vwatch's 404.
fn is_plain(head: &HeaderMap) -> bool {
    let essence = |value| str::split(value, ';').next().unwrap_or_default().trim().to_ascii_lowercase();
    http::header_text(head, &CONTENT_TYPE).map(essence).is_none_or(|essence| essence == "text/plain")
}

/// The error for an answer that no vwatch sends: it names the type and the server of the answer.
fn not_vwatch(status: StatusCode, head: &HeaderMap, why: &str) -> RequestError {
    let what = shorten(http::header_text(head, &CONTENT_TYPE).unwrap_or("no type"));
    let server = http::header_text(head, &SERVER).map(|server| format!(" from {}", shorten(server)));
    let server = server.unwrap_or_default();
    RequestError::Unusable(format!(
        "it answers {status} with {what}{server}, and {why}, so this is no vwatch: --fill-strategy FILL_CACHE is for \
         others"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_location_is_compared_decoded() {
        assert!(is_about("/v1/versions/a+b%2fc?x", "/v1/versions/a%2Bb/c"));
        assert!(is_about("http://leader/base/v1/versions/a", "/v1/versions/a?timeout=1s"));
        for other in ["/v1/versions/b", "/v1/versions/a b", "%", ""] {
            assert!(!is_about(other, "/v1/versions/a"), "{other}");
        }
    }
}
