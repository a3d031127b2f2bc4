//! The parts of answers: the headers of a record, its data, and other bodies, which are counted until they are sent.

use axum::body::Body;
use axum::http::HeaderMap;
use axum::http::header::{CONTENT_TYPE, ETAG, HeaderName, HeaderValue, LAST_MODIFIED};
use axum::response::{IntoResponse, Response};
use hyper::body::Bytes;

use crate::api::error::Refusal;
use crate::api::state::Node;
use crate::core::{Kind, Record};
use crate::node::in_flight::{Account, Full};
use crate::node::limits::SHORT_LIST_BYTES;
use crate::wire::date::http_date;
use crate::wire::error_code::ErrorCode;
use crate::wire::headers::{X_LAST_SYNC, X_VWATCH_EXPIRES};

pub(crate) const LAST_SYNC: HeaderName = HeaderName::from_static(X_LAST_SYNC);
pub(crate) const EXPIRES: HeaderName = HeaderName::from_static(X_VWATCH_EXPIRES);

/// `ETag`, `Last-Modified`, `X-Last-Sync` and `X-Vwatch-Expires` of a record; a tombstone has no `ETag`.
pub(crate) fn stamps(record: Option<&Record>) -> HeaderMap {
    let mut headers = HeaderMap::with_capacity(8);
    let Some(record) = record else { return headers };
    if record.kind() == Kind::Value {
        let mut quoted = Vec::with_capacity(record.version_bytes().len() + 2);
        quoted.push(b'"');
        quoted.extend_from_slice(record.version_bytes());
        quoted.push(b'"');
        headers.insert(
            ETAG,
            HeaderValue::from_maybe_shared(Bytes::from(quoted)).expect("a version is made of etagc"),
        );
    }
    let date = http_date(record.last_sync()).to_string();
    headers.insert(LAST_MODIFIED, HeaderValue::try_from(date).expect("a date is ASCII"));
    headers.insert(LAST_SYNC, number(record.last_sync().micros()));
    if let Some(end) = record.end() {
        headers.insert(EXPIRES, number(end.micros()));
    }
    headers
}

/// The content type without its parameters, in small letters; empty if there is none.
pub(crate) fn media_type(headers: &HeaderMap) -> String {
    let text = headers.get(CONTENT_TYPE).and_then(|v| v.to_str().ok()).unwrap_or_default();
    text.split(';').next().unwrap_or_default().trim().to_ascii_lowercase()
}

/// A number as a header value.
pub(crate) fn number(number: u64) -> HeaderValue {
    HeaderValue::from(number)
}

/// A record's data as the bytes of a body, without a copy.
pub(crate) fn data(record: &Record) -> Bytes {
    Bytes::from_owner(Data(record.clone()))
}

struct Data(Record);

impl AsRef<[u8]> for Data {
    fn as_ref(&self) -> &[u8] {
        self.0.data()
    }
}

/// A JSON answer. A long one takes a place, and holds it until it is sent or its reader is gone. So readers that take
/// long answers slowly do not keep others from short ones.
pub(crate) fn json_in_place<P: Send + Sync + 'static>(
    node: &Node,
    account: &Account,
    json: Vec<u8>,
    place: impl FnOnce() -> Result<P, Refusal>,
) -> Result<Response, Refusal> {
    let place = if json.len() > SHORT_LIST_BYTES { Some(place()?) } else { None };
    let body = counted(node, account, json, place)?;
    Ok(([(CONTENT_TYPE, "application/json")], body).into_response())
}

/// A body that is made for one answer. It is counted, and keeps `place`, until it is sent.
pub(crate) fn counted<P: Send + Sync + 'static>(
    node: &Node,
    account: &Account,
    body: Vec<u8>,
    place: P,
) -> Result<Body, Refusal> {
    let held = account.hold(body.len()).map_err(|full| too_much_in_flight(node, full))?;
    Ok(Body::from(held.keep_with(body, place)))
}

/// 503: a limit of bytes in flight is reached.
pub(crate) fn too_much_in_flight(node: &Node, full: Full) -> Refusal {
    node.metrics.hit(full.limit());
    Refusal::new(ErrorCode::Busy, full)
}
