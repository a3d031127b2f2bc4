//! Responses as bytes, in the form of the ordinary path, built once for all readers that get the same.

use std::fmt::Write as _;
use std::io::{self, Write as _};
use std::time::Duration;

use axum::http::StatusCode;
use axum::http::header::{CONTENT_LENGTH, HeaderName, HeaderValue, TRANSFER_ENCODING};
use axum::response::Response;
use hyper::body::Bytes;

use crate::core::{Record, Stamp};
use crate::wire::date::http_date;
use crate::wire::head::Form;
use crate::wire::headers::SERVER_TIMING;
use crate::wire::timing::Timing;

/// A body of up to this size is sent in one write with its head.
const COPIED_BYTES: usize = 16 * 1024;

/// A response without its date and timing.
pub(super) struct CachedResponse {
    /// The status.
    pub(super) status: u16,
    before_timing: Vec<u8>,
    has_timing: bool,
    after_timing: Vec<u8>,
    /// The body, if there is one to send.
    pub(super) body: Bytes,
}

impl CachedResponse {
    /// The bytes of a response. With `is_last` the connection closes after it.
    pub(super) fn new(response: Response<Bytes>, is_head: bool, is_last: bool) -> Self {
        let status = response.status();
        let mut response = Self::of(response);
        let length = HeaderValue::from(response.body.len());
        // without a body the library writes its own length after all fields, and none where there never is a body
        let has_none = matches!(status, StatusCode::NOT_MODIFIED | StatusCode::NO_CONTENT);
        let early = !has_none && (is_head || !response.body.is_empty());
        let late = !has_none && !early;
        for (due, name, value) in [
            (early, CONTENT_LENGTH, &length),
            (is_last, axum::http::header::CONNECTION, &HeaderValue::from_static("close")),
            (late, CONTENT_LENGTH, &length),
        ] {
            if due {
                response.field(&name, value);
            }
        }
        if is_head {
            response.body = Bytes::new();
        }
        response
    }

    /// The status line and the fields of a response, and its body.
    fn of(response: Response<Bytes>) -> Self {
        let (parts, body) = response.into_parts();
        let status = parts.status;
        let mut response = Self {
            status: status.as_u16(),
            before_timing: Vec::with_capacity(512),
            has_timing: false,
            after_timing: Vec::new(),
            body,
        };
        let reason = status.canonical_reason().unwrap_or("<none>");
        let _ = write!(response.before_timing, "HTTP/1.1 {} {reason}\r\n", status.as_u16());
        for (name, value) in &parts.headers {
            if name == SERVER_TIMING {
                response.has_timing = true;
            } else {
                response.field(name, value);
            }
        }
        response
    }

    /// The head of a response whose body is sent in chunks, without an end that is known.
    pub(super) fn without_length(response: Response<Bytes>) -> Self {
        let mut response = Self::of(response);
        response.field(&TRANSFER_ENCODING, &HeaderValue::from_static("chunked"));
        response
    }

    fn field(&mut self, name: &HeaderName, value: &HeaderValue) {
        let bytes = if self.has_timing { &mut self.after_timing } else { &mut self.before_timing };
        title_case(bytes, name.as_str());
        bytes.extend_from_slice(b": ");
        bytes.extend_from_slice(value.as_bytes());
        bytes.extend_from_slice(b"\r\n");
    }

    /// Writes the head and a small body. A large body is sent after it.
    pub(super) fn fill(&self, bytes: &mut Vec<u8>, timing: Timing, time_headers: &mut TimeHeaders) {
        bytes.clear();
        bytes.extend_from_slice(&self.before_timing);
        if self.has_timing {
            title_case(bytes, SERVER_TIMING);
            bytes.extend_from_slice(b": ");
            bytes.extend_from_slice(time_headers.timing(timing).as_bytes());
            bytes.extend_from_slice(b"\r\n");
        }
        bytes.extend_from_slice(&self.after_timing);
        bytes.extend_from_slice(b"Date: ");
        bytes.extend_from_slice(time_headers.date.as_bytes());
        bytes.extend_from_slice(b"\r\n\r\n");
        if self.is_copied() {
            bytes.extend_from_slice(&self.body);
        }
    }

    /// Whether the body is small enough to be sent with the head.
    pub(super) fn is_copied(&self) -> bool {
        self.body.len() <= COPIED_BYTES
    }
}

fn title_case(bytes: &mut Vec<u8>, name: &str) {
    let mut begins = true;
    for byte in name.bytes() {
        bytes.push(if begins { byte.to_ascii_uppercase() } else { byte });
        begins = byte == b'-';
    }
}

/// The cached responses of the last values.
#[derive(Default)]
pub(super) struct ResponseCache(Vec<(Record, Form, CachedResponse)>);

impl ResponseCache {
    /// The number of cached values.
    const MOST: usize = 8;

    /// The cached response for `record`. `make` builds it if there is none.
    pub(super) fn of(
        &mut self,
        record: &Record,
        form: Form,
        make: impl FnOnce() -> CachedResponse,
    ) -> &CachedResponse {
        // a cached record keeps its address, so no other record can have it
        let same = |kept: &Record| std::ptr::eq(kept.version_bytes(), record.version_bytes());
        let at = match self.0.iter().position(|(kept, its, _)| *its == form && same(kept)) {
            Some(at) => at,
            None => {
                if self.0.len() == Self::MOST {
                    self.0.remove(0);
                }
                self.0.push((record.clone(), form, make()));
                self.0.len() - 1
            }
        };
        &self.0[at].2
    }

    /// Drops all responses, so that the cache holds no records that are not read.
    pub(super) fn clear(&mut self) {
        self.0.clear();
    }
}

/// The parts of a response that change with time. Each is formatted only when it has changed: the date once a second,
/// and the timing in whole ms, which most consecutive answers of a fan-out have in common.
#[derive(Default)]
pub(super) struct TimeHeaders {
    second: u64,
    date: String,
    timing_ms: (Option<u64>, u64),
    timing: String,
}

impl TimeHeaders {
    /// Sets the date.
    pub(super) fn set(&mut self, now: Stamp) {
        let second = now.micros() / 1_000_000;
        if second != self.second || self.date.is_empty() {
            self.second = second;
            self.date.clear();
            let _ = write!(self.date, "{}", http_date(now));
        }
    }

    /// The date.
    pub(super) fn date(&self) -> &str {
        &self.date
    }

    /// Writes the date of a stamp. That of a new record is mostly the present one.
    pub(super) fn write_date(&self, bytes: &mut Vec<u8>, stamp: Stamp) {
        if stamp.micros() / 1_000_000 == self.second && !self.date.is_empty() {
            bytes.extend_from_slice(self.date.as_bytes());
        } else {
            let _ = io::Write::write_fmt(bytes, format_args!("{}", http_date(stamp)));
        }
    }

    fn timing(&mut self, timing: Timing) -> &str {
        let ms = |duration: Duration| u64::try_from((duration.as_micros() + 500) / 1_000).unwrap_or(u64::MAX);
        let rounded = (timing.jitter.map(ms), ms(timing.watch));
        if rounded != self.timing_ms || self.timing.is_empty() {
            self.timing_ms = rounded;
            self.timing.clear();
            let _ = write!(self.timing, "{timing}");
        }
        &self.timing
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(response: &CachedResponse, watch_ms: u64, time_headers: &mut TimeHeaders) -> String {
        let timing = Timing { jitter: None, watch: Duration::from_millis(watch_ms) };
        let mut bytes = Vec::new();
        response.fill(&mut bytes, timing, time_headers);
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn date_and_timing_are_those_of_the_moment() {
        let mut time_headers = TimeHeaders::default();
        time_headers.set(Stamp::from_micros(1_741_837_692_999_999).unwrap());
        let mut response = Response::new(Bytes::from_static(b"data"));
        response.headers_mut().insert("etag", HeaderValue::from_static("\"v\""));
        response.headers_mut().insert(SERVER_TIMING, HeaderValue::from_static("not this"));
        response.headers_mut().insert("content-type", HeaderValue::from_static("a/b"));
        let response = CachedResponse::new(response, false, false);
        let expected = "HTTP/1.1 200 OK\r\nEtag: \"v\"\r\nServer-Timing: watch;dur=7ms\r\nContent-Type: a/b\r\n\
                        Content-Length: 4\r\nDate: Thu, 13 Mar 2025 03:48:12 GMT\r\n\r\ndata";
        assert_eq!(bytes(&response, 7, &mut time_headers), expected);
        assert_eq!(bytes(&response, 7, &mut time_headers), expected);
        time_headers.set(Stamp::from_micros(1_741_837_693_000_000).unwrap());
        let later = expected.replace("=7ms", "=1.008s").replace(":12 GMT", ":13 GMT");
        assert_eq!(bytes(&response, 1_008, &mut time_headers), later);
    }

    #[test]
    fn a_rounded_timing_stands_for_all_that_round_to_it() {
        let mut time_headers = TimeHeaders::default();
        for nanos in (0..5_000_000).step_by(499_999).chain([1_499_999, 1_500_000, 2_499_999]) {
            let timing = Timing { jitter: Some(Duration::ZERO), watch: Duration::from_nanos(nanos) };
            assert_eq!(time_headers.timing(timing), timing.to_string(), "{nanos}");
        }
    }
}
