//! What an answer of a polled upstream says.

use std::time::Duration;

use hyper::StatusCode;
use hyper::header::{ETAG, LAST_MODIFIED, RETRY_AFTER};
use hyper::http::response::Parts;

use crate::core::Stamp;
use crate::fill::http::{self, Failure};
use crate::fill::judge::Said;
use crate::fill::names::Entry;
use crate::fill::{Shared, retry_after};
use crate::wire::date::parse_http_date;
use crate::wire::etag::parse_tag;

/// What an answer is about.
#[derive(Debug)]
pub(super) enum Answer {
    /// What there is, and since when.
    Said(Said, Option<Stamp>),
    Limited(Option<Duration>),
    Refused(StatusCode),
    Error(StatusCode),
}

pub(super) fn understand(shared: &Shared, entry: &Entry, parts: &Parts) -> Result<Answer, Failure> {
    let head = &parts.headers;
    let bad = |why: &str| Failure::Bad(why.to_owned());
    Ok(match parts.status {
        StatusCode::OK => {
            let tag = head.get(ETAG).ok_or_else(|| bad("it has no ETag"))?;
            let version =
                parse_tag(tag.as_bytes(), true).map_err(|e| Failure::Bad(format!("its ETag: {e}")))?;
            let version = version.ok_or_else(|| bad("its ETag is empty"))?;
            entry.polled().last = Some((tag.clone(), version.clone()));
            let modified = http::text(head, &LAST_MODIFIED).and_then(parse_http_date);
            Answer::Said(Said::Version(version), modified)
        }
        StatusCode::NOT_MODIFIED => {
            let last = entry.polled().last.clone();
            let (_, version) = last.ok_or_else(|| bad("it answers 304 although nothing was known"))?;
            Answer::Said(Said::Version(version), None)
        }
        StatusCode::NOT_FOUND | StatusCode::GONE => {
            entry.polled().last = None;
            Answer::Said(Said::Nothing, None)
        }
        StatusCode::TOO_MANY_REQUESTS => Answer::Limited(retry_after(shared, head)),
        StatusCode::SERVICE_UNAVAILABLE if head.contains_key(RETRY_AFTER) => {
            Answer::Limited(retry_after(shared, head))
        }
        status if status.is_server_error() => Answer::Error(status),
        status => Answer::Refused(status),
    })
}
