//! `GET | POST | DELETE /v1/session`: what the sender may do, and a cookie in place of a token for the page.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::http::header::{AUTHORIZATION, CACHE_CONTROL, CONTENT_TYPE, HeaderMap, HeaderValue, SET_COOKIE};
use axum::http::{Request, StatusCode};
use axum::response::{IntoResponse, Response};
use serde::Serialize;

use crate::access::{Caller, Grant, GrantedNames, MAX_SESSION_TIME, Tokens};
use crate::api::cookie;
use crate::api::error::Refusal;
use crate::api::guard::{caller_of, no_token};
use crate::api::state::Node;
use crate::core::Stamp;
use crate::metrics::Port;
use crate::wire::error_code::ErrorCode;

const NO_STORE: HeaderValue = HeaderValue::from_static("no-store");

/// What a sender may do.
#[derive(Serialize)]
struct SessionJson {
    /// The port that answers: only the server port takes writes.
    port: &'static str,
    /// The name of the token; `None` if the node asks for none.
    token: Option<String>,
    /// When the session ends, or else the token, µs since 1970.
    ends: Option<u64>,
    /// The grants of the token; `None` if the sender may do everything.
    grants: Option<Vec<GrantJson>>,
}

#[derive(Serialize)]
struct GrantJson {
    verbs: Vec<&'static str>,
    /// `*` is all of them. Absent if the verbs are about the node.
    #[serde(skip_serializing_if = "Option::is_none")]
    namespace: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    prefix: Option<String>,
}

impl GrantJson {
    fn of(grant: &Grant) -> Self {
        let (namespace, prefix) = match &grant.names {
            None => (None, None),
            Some(GrantedNames::Everything) => (Some("*".to_owned()), Some(String::new())),
            Some(GrantedNames::Prefix(namespace, prefix)) => {
                (Some(namespace.as_str().to_owned()), Some(prefix.clone()))
            }
        };
        Self { verbs: grant.verbs.iter().map(|verb| verb.as_str()).collect(), namespace, prefix }
    }
}

fn of(tokens: Option<&Tokens>, port: Port, caller: Caller) -> Result<Response, Refusal> {
    let entry = tokens.and_then(|tokens| tokens.entry(caller));
    let json = match entry {
        None => SessionJson { port: port.as_str(), token: None, ends: None, grants: None },
        Some((entry, session_ends)) => SessionJson {
            port: port.as_str(),
            token: Some(entry.name),
            ends: [session_ends, entry.ends].into_iter().flatten().min().map(Stamp::micros),
            grants: Some(entry.grants.iter().map(GrantJson::of).collect()),
        },
    };
    let text = serde_json::to_string(&json).map_err(|e| Refusal::new(ErrorCode::Internal, e))? + "\n";
    let mut response = text.into_response();
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response.headers_mut().insert(CACHE_CONTROL, NO_STORE);
    Ok(response)
}

/// Handles `GET`: what the sender may do.
pub(super) async fn get(
    State(node): State<Arc<Node>>,
    port: Port,
    request: Request<Body>,
) -> Result<Response, Refusal> {
    of(node.access.tokens.as_deref(), port, caller_of(&request))
}

/// Handles `POST`: begins a session of the token that the request shows. A node without tokens has none.
pub(super) async fn post(
    State(node): State<Arc<Node>>,
    port: Port,
    request: Request<Body>,
) -> Result<Response, Refusal> {
    let Some(tokens) = node.access.tokens.as_deref() else {
        return of(None, port, Caller::TRUSTED);
    };
    // a session begins with a secret: neither with another session, nor with nothing
    if !request.headers().contains_key(AUTHORIZATION) {
        return Err(no_token(&node));
    }
    let (id, dropped) = tokens.begin_session(caller_of(&request)).ok_or_else(|| {
        Refusal::new(ErrorCode::Busy, "no session: this node has no number for another one: restart it")
    })?;
    (0..dropped).for_each(|_| node.metrics.access.dropped_session());
    let caller = tokens.session(id.as_bytes()).unwrap_or_else(|| caller_of(&request));
    let mut response = of(Some(tokens), port, caller)?;
    let name = cookie::name(&node, port);
    let own = cookie::set(name, &id, MAX_SESSION_TIME.as_secs());
    for cookie in own.into_iter().chain(cookie::forget_others(request.headers(), name)) {
        response.headers_mut().append(SET_COOKIE, cookie);
    }
    Ok(response)
}

/// Handles `DELETE`: ends the session of the cookie, and has the browser forget it.
pub(super) async fn delete(State(node): State<Arc<Node>>, port: Port, headers: HeaderMap) -> Response {
    let name = cookie::name(&node, port);
    if let Some((tokens, id)) = node.access.tokens.as_deref().zip(cookie::session(&headers, name)) {
        tokens.end_session(id);
    }
    let mut response = StatusCode::NO_CONTENT.into_response();
    response.headers_mut().insert(CACHE_CONTROL, NO_STORE);
    if let Some(cookie) = cookie::set(name, "", 0) {
        response.headers_mut().insert(SET_COOKIE, cookie);
    }
    response
}
