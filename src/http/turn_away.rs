//! Connections for which there is no place: they are told so, and still hear how the node is.

use std::io;
use std::sync::Arc;

use axum::body::Body;
use axum::http::header::{CONNECTION, CONTENT_TYPE, RETRY_AFTER};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use hyper::Request;
use hyper::body::Incoming;
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::time::timeout;

use super::connection::{LAST_WORDS_TIME, Ordinary};
use crate::api::Service;
use crate::metrics::Limit;
use crate::node::limits::RETRY_AFTER_S;

/// Connections over the limit that are heard at the same time; further ones are closed without a word.
const MAX_TURNED_AWAY_AT_ONCE: usize = 64;

/// What is answered to whoever asks, for who asks may end the node by what it hears: a full port is no reason to restart it.
const HEALTH: [&str; 2] = ["/healthz", "/readyz"];

/// What the others are told.
pub(crate) const NO_PLACE: &str =
    "too many connections: this node is at its limit: try another node, or again later\n";

/// Which requests are answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scope {
    /// All of them.
    All,
    /// Health checks only; all others with 503. Each response is the last one of its connection.
    Health,
}

/// Answers connections over the limit.
pub(crate) struct Doorman {
    ordinary: Ordinary,
    at_once: Arc<Semaphore>,
}

impl Doorman {
    /// Answers health checks by `ordinary`.
    pub(crate) fn new(ordinary: Ordinary) -> Self {
        let ordinary = Ordinary { scope: Scope::Health, ..ordinary };
        Self { ordinary, at_once: Arc::new(Semaphore::new(MAX_TURNED_AWAY_AT_ONCE)) }
    }

    /// Answers one request, beside the caller, if that comes soon.
    pub(crate) fn turn_away(&self, stream: impl FnOnce() -> io::Result<TcpStream>) {
        self.ordinary.node.metrics.hit(Limit::Connections);
        if let Ok(permit) = Arc::clone(&self.at_once).try_acquire_owned()
            && let Ok(stream) = stream()
        {
            let serving = self.ordinary.clone().serve_from(stream, Vec::new());
            tokio::spawn(async move {
                let _ = timeout(LAST_WORDS_TIME, serving).await;
                drop(permit);
            });
        }
    }
}

/// The response to a request on a connection over the limit.
pub(super) async fn health_only(service: Service, request: Request<Incoming>) -> Response {
    let mut response = match HEALTH.contains(&request.uri().path()) {
        true => service.respond(request).await,
        false => refusal(),
    };
    response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    response
}

fn refusal() -> Response {
    let headers = [(CONTENT_TYPE, "text/plain; charset=utf-8"), (RETRY_AFTER, RETRY_AFTER_S)];
    (StatusCode::SERVICE_UNAVAILABLE, headers, Body::from(NO_PLACE)).into_response()
}

/// An answer of 503 with this text, after which the connection is closed.
pub(crate) fn unavailable(text: &str) -> String {
    format!(
        "HTTP/1.1 503 Service Unavailable\r\nContent-Type: text/plain; charset=utf-8\r\nRetry-After: {RETRY_AFTER_S}\r\n\
         Connection: close\r\nContent-Length: {}\r\n\r\n{text}",
        text.len()
    )
}
