//! The request of a mirror.

use hyper::header::{ACCEPT, CONTENT_TYPE, HeaderValue};
use hyper::{Method, StatusCode};
use serde_json::json;

use super::{End, HEARTBEAT};
use crate::fill::address::Address;
use crate::fill::connections::RequestPurpose;
use crate::fill::http::{self, Body, OutgoingRequest, Recipient, RequestError};
use crate::fill::source_headers::read_source_headers;
use crate::fill::watch::ANSWER_TIME;
use crate::fill::{Shared, limit};
use crate::wire::duration::GoDuration;
use crate::wire::headers::{X_VWATCH_ERROR, X_VWATCH_PARTIAL};
use crate::wire::uri::encode_parameter;
use crate::wire::watch_form::StreamForm;

/// Longest query: with a longer cursor the request is sent as a body.
const MAX_QUERY_BYTES: usize = 3_500;

const PATH: &str = "/v1/watch";

/// Opens the stream from a cursor on, or from the oldest record.
pub(super) async fn open(shared: &Shared, address: &Address, cursor: Option<&str>) -> Result<Body, End> {
    let since = cursor.unwrap_or("oldest");
    let query = query(&shared.settings.prefixes, since);
    let (method, target, body) = if query.len() <= MAX_QUERY_BYTES {
        (Method::GET, format!("{PATH}?{query}"), None)
    } else {
        (Method::POST, PATH.to_owned(), Some(body(&shared.settings.prefixes, since)))
    };
    let mut headers = shared.headers();
    headers.insert(ACCEPT, HeaderValue::from_static(StreamForm::Lines.media_type()));
    if body.is_some() {
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    }
    let outgoing = OutgoingRequest {
        to: Recipient::Origin(address.origin),
        purpose: RequestPurpose::Upstream,
        method,
        uri: &shared.upstream.uri(address, &target),
        host: Some(&shared.upstream.origin(address).authority()),
        headers: &headers,
        body,
    };
    let deadline = tokio::time::Instant::now() + ANSWER_TIME;
    let (parts, body) = shared.http.send(outgoing, deadline).await.map_err(End::Failed)?;
    read_source_headers(shared, address, &parts.headers).map_err(End::Failed)?;
    let code =
        parts.headers.get(X_VWATCH_ERROR).and_then(|code| code.to_str().ok()).unwrap_or_default().to_owned();
    let kind = http::header_text(&parts.headers, &CONTENT_TYPE).unwrap_or_default();
    if parts.headers.contains_key(X_VWATCH_PARTIAL) {
        let why = "it has a part of its upstream's names: FILL_MIRROR needs a leader, or a mirror of one";
        return Err(End::Failed(RequestError::Unusable(why.to_owned())));
    }
    match parts.status {
        StatusCode::OK if kind == StreamForm::Lines.media_type() => return Ok(body),
        StatusCode::BAD_REQUEST if matches!(&*code, "bad-cursor" | "other-scope") && cursor.is_some() => {
            return Err(End::BeginAgain(format!("the leader does not take the mirror's cursor: {code}")));
        }
        _ => {}
    }
    let text =
        http::read_body(body, 1 << 10, tokio::time::Instant::now() + ANSWER_TIME).await.unwrap_or_default();
    let text = http::shorten(String::from_utf8_lossy(&text).trim());
    if let Some(pause) = limit(shared, parts.status, &parts.headers) {
        return Err(End::Later(pause, format!("it answers {}: {text}", parts.status)));
    }
    if !code.is_empty() {
        // a vwatch says why
        return Err(End::Failed(RequestError::Unusable(format!("it answers {}: {text}", parts.status))));
    }
    let why = format!("it answers {} with {}: {text}", parts.status, http::shorten(kind));
    Err(End::Failed(RequestError::Unusable(format!(
        "{why}: FILL_MIRROR needs a vwatch with streams there: FILL_WATCH is for any other vwatch"
    ))))
}

fn query(prefixes: &[String], since: &str) -> String {
    let prefixes = prefixes.iter().map(|prefix| format!("prefix={}&", encode_parameter(prefix)));
    let heartbeat = GoDuration(HEARTBEAT);
    prefixes.collect::<String>() + &format!("since={since}&mode=all&dots=true&heartbeat={heartbeat}")
}

fn body(prefixes: &[String], since: &str) -> String {
    let heartbeat = GoDuration(HEARTBEAT).to_string();
    json!({"prefixes": prefixes, "since": since, "mode": "all", "dots": true, "heartbeat": heartbeat})
        .to_string()
}
