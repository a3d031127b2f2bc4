//! `GET | HEAD | POST /v1/watch`: what changes of many names, from a cursor on that is good at any node.

mod batch;
mod request;

use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::http::header::{ACCEPT, CACHE_CONTROL, CONTENT_TYPE, HeaderName, HeaderValue};
use axum::http::{HeaderMap, Method, Request};
use axum::response::Response;

use super::error::Refusal;
use super::params::{self, namespace_path, shown};
use super::readiness::may_read;
use super::state::Node;
use crate::wire::error_code::ErrorCode;
use crate::wire::headers::X_VWATCH_PARTIAL;
use crate::wire::list::elements;

/// An answer is for one reader and one moment, and a proxy must not gather several before it passes them on.
const NO_STORE: HeaderValue = HeaderValue::from_static("no-store, no-transform");
const PARTIAL: HeaderName = HeaderName::from_static(X_VWATCH_PARTIAL);
const BUFFERING: HeaderName = HeaderName::from_static("x-accel-buffering");

const JSON: &str = "application/json";

/// Handles a watch. The path may have a namespace.
pub(super) async fn watch(
    State(node): State<Arc<Node>>,
    request: Request<Body>,
) -> Result<Response, Refusal> {
    may_read(&node)?;
    let namespace = namespace_path(request.uri().path())?.namespace;
    accepts_json(request.headers())?;
    let (parts, body) = request.into_parts();
    let account = params::account(&parts.extensions);
    let asked = request::read(&node, &namespace, &parts, body, &account).await?;
    if parts.method == Method::HEAD {
        let mut response = Response::new(Body::empty());
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(JSON));
        return Ok(with_headers(&node, response));
    }
    let reader = batch::Reader {
        disconnect: parts.extensions.get().cloned().unwrap_or_default(),
        own: parts.extensions.get().cloned(),
        account,
    };
    // a parked request does not need its own buffers
    drop(parts);
    let response = batch::answer(&node, asked, &reader).await?;
    Ok(with_headers(&node, response))
}

fn with_headers(node: &Node, mut response: Response) -> Response {
    if node.fill.is_some() {
        response.headers_mut().insert(PARTIAL, HeaderValue::from_static("true"));
    }
    response.headers_mut().insert(CACHE_CONTROL, NO_STORE);
    response.headers_mut().insert(BUFFERING, HeaderValue::from_static("no"));
    response
}

/// Rejects a request that accepts no JSON. Without `Accept` it accepts anything (RFC 9110, 12.5.1).
fn accepts_json(headers: &HeaderMap) -> Result<(), Refusal> {
    let all = || headers.get_all(ACCEPT).iter().flat_map(|line| elements(line.as_bytes()));
    let accepts = |element: &[u8]| {
        let mut parts = element.split(|byte| *byte == b';').map(<[u8]>::trim_ascii);
        let range = parts.next().unwrap_or_default();
        let is_json = [&b"application/json"[..], b"application/*", b"*/*"]
            .into_iter()
            .any(|known| range.eq_ignore_ascii_case(known));
        // a weight of zero means never
        let is_refused = |weight: &[u8]| {
            weight.strip_prefix(b"q=").is_some_and(|q| q.iter().all(|byte| matches!(byte, b'0' | b'.')))
        };
        is_json && !parts.any(is_refused)
    };
    let mut some = all().peekable();
    if some.peek().is_none() || some.any(accepts) {
        return Ok(());
    }
    let got = all().map(String::from_utf8_lossy).collect::<Vec<_>>().join(", ");
    let got = shown(got.as_bytes());
    Err(Refusal::new(
        ErrorCode::NotAcceptable,
        format_args!("no such form: {got} is accepted: this path answers in {JSON}: accept it"),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_is_accepted_unless_only_other_forms_are() {
        let accepts = |lines: &[&'static str]| {
            let mut headers = HeaderMap::new();
            for line in lines {
                headers.append(ACCEPT, HeaderValue::from_static(line));
            }
            accepts_json(&headers).is_ok()
        };
        for lines in [
            &[][..],
            &[""],
            &["*/*"],
            &["application/*"],
            &["Application/JSON; charset=utf-8"],
            &["text/html, application/json;q=0.1"],
            &["text/html", "*/*;q=0.8"],
        ] {
            assert!(accepts(lines), "{lines:?}");
        }
        for lines in [
            &["text/html"][..],
            &["text/event-stream"],
            &["application/x-ndjson"],
            &["application/json;q=0"],
            &["*/*; q=0.000", "text/*"],
        ] {
            assert!(!accepts(lines), "{lines:?}");
        }
    }
}
