//! Refusals: one line of text each, `what is wrong: what was got: what to do`, with the right status.

use std::fmt::Display;

use axum::body::Body;
use axum::http::header::{CONTENT_TYPE, HeaderName, HeaderValue, RETRY_AFTER};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use hyper::body::Bytes;

use crate::core::NameError;
use crate::metrics::{Limit, Metrics};
use crate::node::limits::RETRY_AFTER_S;

/// A request that is not done, why, and what its sender can do. Nothing was changed.
#[derive(Debug)]
pub(super) struct Refusal {
    status: StatusCode,
    text: String,
    /// Boxed, so that a `Result` with a refusal in it stays small.
    headers: Box<HeaderMap>,
}

impl Refusal {
    /// A refusal with its one line.
    pub(super) fn new(status: StatusCode, text: impl Display) -> Self {
        let mut text = text.to_string();
        // what is quoted from outside must not make a second line of it
        text.retain(|c| !c.is_control());
        Self { status, text, headers: Box::default() }
    }

    /// 400.
    pub(super) fn bad_request(text: impl Display) -> Self {
        Self::new(StatusCode::BAD_REQUEST, text)
    }

    /// 503 with `Retry-After`: another node, or this one later, will do it.
    pub(super) fn unavailable(text: impl Display) -> Self {
        let refusal = Self::new(StatusCode::SERVICE_UNAVAILABLE, text);
        refusal.with(RETRY_AFTER, HeaderValue::from_static(RETRY_AFTER_S))
    }

    /// A name that is none: 414 if it is too long, else 400.
    pub(super) fn name(error: &NameError, metrics: &Metrics) -> Self {
        let status = match error {
            NameError::TooLong { .. } => {
                metrics.hit(Limit::NameBytes);
                StatusCode::URI_TOO_LONG
            }
            _ => StatusCode::BAD_REQUEST,
        };
        Self::new(status, error)
    }

    /// Adds a header.
    #[must_use]
    pub(super) fn with(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.insert(name, value);
        self
    }

    /// Adds headers.
    #[must_use]
    pub(super) fn with_all(mut self, headers: HeaderMap) -> Self {
        self.headers.extend(headers);
        self
    }
}

impl Refusal {
    /// The answer, with its body as bytes.
    pub(super) fn into_bytes(self) -> Response<Bytes> {
        let mut response = Response::new(Bytes::from(self.text + "\n"));
        *response.status_mut() = self.status;
        *response.headers_mut() = *self.headers;
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
        response
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        self.into_bytes().map(Body::from)
    }
}
