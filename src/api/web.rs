//! What browsers are told, and which of their requests are rejected: see [`crate::access::web`].

use axum::body::Body;
use axum::http::header::{
    ACCESS_CONTROL_ALLOW_CREDENTIALS, ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS,
    ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE,
    ACCESS_CONTROL_REQUEST_METHOD, HOST, HeaderMap, HeaderName, HeaderValue, ORIGIN, VARY,
    X_CONTENT_TYPE_OPTIONS,
};
use axum::http::request::Parts;
use axum::http::{Method, Request, StatusCode, Uri};
use axum::response::Response;

use crate::access::web::FromWhere;
use crate::api::error::Refusal;
use crate::api::params::shown;
use crate::api::state::Node;
use crate::metrics::Port;
use crate::wire::error_code::ErrorCode;

/// The header by which an answer says which sites may make it part of their pages.
pub(super) const RESOURCE_POLICY: HeaderName = HeaderName::from_static("cross-origin-resource-policy");

const FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// The request headers that a page may set: all that the interface knows.
const REQUEST_HEADERS: HeaderValue = HeaderValue::from_static(
    "Authorization, Content-Type, ETag, If-None-Match, Last-Event-ID, Last-Modified, X-Last-Sync, X-Vwatch-Lease",
);

/// The headers of answers that a page may read, beside those that it always may.
const ANSWER_HEADERS: HeaderValue = HeaderValue::from_static(
    "ETag, Link, Location, Retry-After, Server-Timing, X-Last-Sync, X-Vwatch-Error, X-Vwatch-Expired, \
     X-Vwatch-Expires, X-Vwatch-Final, X-Vwatch-Genesis, X-Vwatch-Lost-Since, X-Vwatch-Node, X-Vwatch-Partial, \
     X-Vwatch-Port",
);

const METHODS_OF_CLIENTS: HeaderValue = HeaderValue::from_static("GET, HEAD, POST");
const METHODS_OF_SERVERS: HeaderValue = HeaderValue::from_static("GET, HEAD, POST, PUT, DELETE");

/// How long a browser remembers the answer to a preflight, in seconds: an hour.
const MAX_AGE: HeaderValue = HeaderValue::from_static("3600");

/// Rejects what no page of another site may do.
pub(super) fn check(node: &Node, port: Port, parts: &Parts) -> Result<(), Refusal> {
    let field = |name: &HeaderName| parts.headers.get(name).map(HeaderValue::as_bytes);
    let host = host(&parts.headers, &parts.uri);
    let is_health = matches!(parts.uri.path(), "/healthz" | "/readyz");
    if !is_health && node.access.checks_hosts(port) && !node.access.web.is_known_host(host) {
        node.metrics.access.unknown_host();
        return Err(Refusal::new(
            ErrorCode::UnknownHost,
            format_args!(
                "unknown host: {} is no name of this node, which listens on loopback: use its address or localhost, \
                 or start it with --allowed-host",
                shown(host)
            ),
        ));
    }
    if matches!(parts.method, Method::GET | Method::HEAD) {
        return Ok(());
    }
    if from_where(&parts.headers, &parts.uri).is_some_and(|from| node.access.web.may_change(from)) {
        return Ok(());
    }
    node.metrics.access.cross_site();
    let origin = field(&ORIGIN).map_or_else(|| "another site".to_owned(), shown);
    Err(Refusal::new(
        ErrorCode::CrossSite,
        format_args!(
            "cross-site: a page of {origin} may not send {} here: start the node with --cors-origin to let it",
            parts.method
        ),
    ))
}

/// The host of a request: that of the target, if there is one.
fn host<'a>(headers: &'a HeaderMap, uri: &'a Uri) -> &'a [u8] {
    let target = uri.authority().map(|authority| authority.as_str().as_bytes());
    target.or_else(|| headers.get(HOST).map(HeaderValue::as_bytes)).unwrap_or_default()
}

/// What a browser tells of a request. `None` if it has several origins, which no browser sends.
fn from_where<'a>(headers: &'a HeaderMap, uri: &'a Uri) -> Option<FromWhere<'a>> {
    let mut origins = headers.get_all(ORIGIN).iter();
    let origin = origins.next().map(HeaderValue::as_bytes);
    let fetch_site = headers.get(FETCH_SITE).map(HeaderValue::as_bytes);
    origins.next().is_none().then(|| FromWhere { origin, fetch_site, host: host(headers, uri) })
}

/// Keeps the answer to a request of a browser with a session from being run as a script, and from being part of another
/// site's page: values are what writers made of them.
pub(super) fn protect(headers: &mut HeaderMap) {
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(RESOURCE_POLICY, HeaderValue::from_static("same-origin"));
}

/// Rejects a request of another page than the node's own, whatever its method: 403.
pub(super) fn check_own(node: &Node, request: &Request<Body>) -> Result<(), Refusal> {
    if from_where(request.headers(), request.uri()).is_some_and(|from| from.is_own()) {
        return Ok(());
    }
    node.metrics.access.cross_site();
    Err(Refusal::new(
        ErrorCode::CrossSite,
        "cross-site: a page of another site may not use the session of a browser: send Authorization: Bearer TOKEN",
    ))
}

/// The answer to the question of a browser whether a page may send a request. `None` if the request is no such
/// question, or is one of a page that may not.
pub(super) fn preflight(node: &Node, port: Port, parts: &Parts) -> Option<Response> {
    if parts.method != Method::OPTIONS || !parts.headers.contains_key(ACCESS_CONTROL_REQUEST_METHOD) {
        return None;
    }
    node.access.web.allowed_origin(parts.headers.get(ORIGIN)?.as_bytes())?;
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::NO_CONTENT;
    let methods = match port {
        Port::Client => METHODS_OF_CLIENTS,
        Port::Server => METHODS_OF_SERVERS,
    };
    let headers = response.headers_mut();
    headers.insert(ACCESS_CONTROL_ALLOW_METHODS, methods);
    headers.insert(ACCESS_CONTROL_ALLOW_HEADERS, REQUEST_HEADERS);
    headers.insert(ACCESS_CONTROL_MAX_AGE, MAX_AGE);
    Some(response)
}

/// Lets a page of this origin read the answer, if it may.
pub(super) fn add_headers(node: &Node, origin: Option<&HeaderValue>, headers: &mut HeaderMap) {
    const WITH_CREDENTIALS: HeaderValue = HeaderValue::from_static("true");
    const BY_ORIGIN: HeaderValue = HeaderValue::from_static("Origin");
    if !node.access.web.has_origins() {
        return;
    }
    // a cache must not give the answer for one origin to another one
    headers.append(VARY, BY_ORIGIN);
    let Some(allowed) = origin.and_then(|origin| node.access.web.allowed_origin(origin.as_bytes())) else {
        return;
    };
    let Ok(allowed) = HeaderValue::from_bytes(allowed) else { return };
    if allowed != "*" {
        headers.insert(ACCESS_CONTROL_ALLOW_CREDENTIALS, WITH_CREDENTIALS);
    }
    headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, allowed);
    headers.insert(ACCESS_CONTROL_EXPOSE_HEADERS, ANSWER_HEADERS);
}
