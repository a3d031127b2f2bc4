//! What answers are made of: the headers of a record, its data, and large bodies that hold a place.

use axum::body::Body;
use axum::http::HeaderMap;
use axum::http::header::{CONTENT_TYPE, ETAG, HeaderName, HeaderValue, LAST_MODIFIED};
use axum::response::{IntoResponse, Response};
use hyper::body::Bytes;

use crate::core::{Kind, Record};
use crate::node::limits::SHORT_LIST_BYTES;
use crate::wire::date::http_date;
use crate::wire::headers::X_LAST_SYNC;

pub(super) const LAST_SYNC: HeaderName = HeaderName::from_static(X_LAST_SYNC);

/// `ETag`, `Last-Modified` and `X-Last-Sync` of what there is; a tombstone has no version.
pub(super) fn stamps(record: Option<&Record>) -> HeaderMap {
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
    headers
}

/// A number as a header value.
pub(super) fn number(number: u64) -> HeaderValue {
    HeaderValue::from(number)
}

/// A record's data as the bytes of a body, without a copy.
pub(super) fn data(record: &Record) -> Bytes {
    Bytes::from_owner(Data(record.clone()))
}

struct Data(Record);

impl AsRef<[u8]> for Data {
    fn as_ref(&self) -> &[u8] {
        self.0.data()
    }
}

/// A JSON answer. Unless it is short, it holds its place until it is sent, or its reader is gone.
pub(super) fn json_in_place<P: Send + Sync + 'static>(json: Vec<u8>, place: P) -> Response {
    struct InPlace<P> {
        json: Vec<u8>,
        _place: P,
    }
    impl<P> AsRef<[u8]> for InPlace<P> {
        fn as_ref(&self) -> &[u8] {
            &self.json
        }
    }
    // a short one is no more than any other answer, and whoever does not read it takes the place of nobody
    let body = match json.len() {
        ..=SHORT_LIST_BYTES => Body::from(json),
        _ => Body::from(Bytes::from_owner(InPlace { json, _place: place })),
    };
    ([(CONTENT_TYPE, "application/json")], body).into_response()
}
