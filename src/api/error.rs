//! Refusals. Each has one line of text, `what is wrong: what was received: what to do`, a code and a status.

use std::fmt::Display;

use axum::body::Body;
use axum::http::header::{CONTENT_TYPE, HeaderName, HeaderValue, RETRY_AFTER};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use hyper::body::Bytes;

use crate::core::NameError;
use crate::metrics::{Limit, Metrics};
use crate::node::limits::RETRY_AFTER_S;
use crate::wire::error_code::ErrorCode;
use crate::wire::headers::X_VWATCH_ERROR;

const ERROR: HeaderName = HeaderName::from_static(X_VWATCH_ERROR);

/// The answer to a request that is rejected. The request has changed nothing.
#[derive(Debug)]
pub(crate) struct Refusal {
    code: ErrorCode,
    text: String,
    /// Boxed, so that a `Result` with a refusal in it stays small.
    headers: Box<HeaderMap>,
}

impl Refusal {
    /// A refusal with its code, which sets the status, and its line of text. With a status of 502 to 504 it has
    /// `Retry-After`, if the same request may succeed later.
    pub(crate) fn new(code: ErrorCode, text: impl Display) -> Self {
        let mut text = text.to_string();
        // a quoted text from outside must not make a second line
        text.retain(|c| !c.is_control());
        let refusal = Self { code, text, headers: Box::default() };
        match code.status() {
            502..=504 if code != ErrorCode::UpstreamUnusable => {
                refusal.with(RETRY_AFTER, HeaderValue::from_static(RETRY_AFTER_S))
            }
            _ => refusal,
        }
    }

    /// A malformed request.
    pub(crate) fn bad_request(text: impl Display) -> Self {
        Self::new(ErrorCode::BadRequest, text)
    }

    /// A malformed parameter.
    pub(crate) fn bad_parameter(text: impl Display) -> Self {
        Self::new(ErrorCode::BadParameter, text)
    }

    /// A malformed name, or one that is too long.
    pub(crate) fn name(error: &NameError, metrics: &Metrics) -> Self {
        let code = match error {
            NameError::TooLong { .. } => {
                metrics.hit(Limit::NameBytes);
                ErrorCode::NameTooLong
            }
            _ => ErrorCode::BadName,
        };
        Self::new(code, error)
    }

    /// Whether the same request may succeed later.
    pub(crate) fn is_temporary(&self) -> bool {
        self.code.status() == 503
    }

    /// The code.
    pub(crate) fn code(&self) -> ErrorCode {
        self.code
    }

    /// The line of text.
    pub(crate) fn text(&self) -> &str {
        &self.text
    }

    /// Adds a header.
    #[must_use]
    pub(crate) fn with(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.insert(name, value);
        self
    }

    /// Adds headers.
    #[must_use]
    pub(crate) fn with_all(mut self, headers: HeaderMap) -> Self {
        self.headers.extend(headers);
        self
    }
}

impl Refusal {
    /// The answer, with its body as bytes.
    pub(crate) fn into_bytes(self) -> Response<Bytes> {
        let mut response = Response::new(Bytes::from(self.text + "\n"));
        *response.status_mut() =
            StatusCode::from_u16(self.code.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        *response.headers_mut() = *self.headers;
        response.headers_mut().insert(ERROR, HeaderValue::from_static(self.code.as_str()));
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
        response
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        self.into_bytes().map(Body::from)
    }
}
