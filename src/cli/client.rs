//! HTTP client for nodes: requests and answers. The modules below send them.

mod address;
mod attempt;
mod connection;
mod error;
mod lines;
mod liveness;
mod requester;

use std::time::Duration;

use http_body_util::Full;
use hyper::body::Bytes;
use hyper::header::{ACCEPT, CONTENT_TYPE, ETAG, HOST, HeaderMap, RETRY_AFTER, SERVER, USER_AGENT};
use hyper::{Method, StatusCode};
use serde::de::DeserializeOwned;

use super::args::quoted;
use super::failure::Failure;
use super::url::{Url, parameter};
use crate::core::{Stamp, Version};
use crate::wire::duration::GoDuration;
use crate::wire::error_code::ErrorCode;
use crate::wire::etag::parse_tag;
use crate::wire::headers::{X_VWATCH_ERROR, X_VWATCH_NODE};
use crate::wire::watch_form::StreamForm;
use error::ExchangeError;
pub(super) use lines::{LineError, Lines};
pub(super) use requester::Client;

/// Longest `Retry-After` that the client obeys, in seconds.
const MAX_RETRY_AFTER_S: u64 = 60;
/// Longest line of an error answer that the client prints, in characters.
const MAX_REFUSAL_CHARS: usize = 500;

/// A request to a node.
#[derive(Clone, Debug)]
pub(super) struct Request {
    method: Method,
    /// Path and query, percent-encoded.
    target: String,
    headers: Vec<(&'static str, String)>,
    body: Bytes,
    /// How long the node may take beyond the time for any answer.
    park: Duration,
    /// Whether the request has the parameter `timeout`.
    sends_park: bool,
    /// The stamp of a write; `None` if the node gives it.
    stamp: Option<Stamp>,
    /// Whether twice is as once although it is no `GET`, so that it can be sent again.
    is_setting: bool,
    /// Whether it adds an event. Twice is not as once, and the node gives the stamp.
    is_event: bool,
    /// Whether the answer may be lines that go on.
    is_stream: bool,
}

impl Request {
    fn new(method: Method, target: String, body: Bytes) -> Self {
        let (headers, park) = (Vec::new(), Duration::ZERO);
        Self {
            method,
            target,
            headers,
            body,
            park,
            sends_park: false,
            stamp: None,
            is_setting: false,
            is_event: false,
            is_stream: false,
        }
    }

    pub(super) fn get(target: String) -> Self {
        Self::new(Method::GET, target, Bytes::new())
    }

    pub(super) fn put(target: String, body: Vec<u8>) -> Self {
        Self::new(Method::PUT, target, body.into())
    }

    pub(super) fn delete(target: String) -> Self {
        Self::new(Method::DELETE, target, Bytes::new())
    }

    /// A request that changes a setting of the set. Twice is as once, so it is sent again like a read.
    pub(super) fn setting(method: Method, target: String) -> Self {
        Self { is_setting: true, ..Self::new(method, target, Bytes::new()) }
    }

    /// It with a body.
    pub(super) fn with_body(self, body: Vec<u8>) -> Self {
        Self { body: body.into(), ..self }
    }

    /// A request that adds an event.
    pub(super) fn event(target: String, data: Vec<u8>) -> Self {
        Self { is_event: true, ..Self::new(Method::POST, target, data.into()) }
    }

    /// A question with a JSON body. It changes nothing, so it is sent again like a read.
    pub(super) fn question(target: String, body: Vec<u8>) -> Self {
        let question = Self { is_setting: true, ..Self::new(Method::POST, target, body.into()) };
        question.header("content-type", "application/json".to_owned())
    }

    /// Asks for an answer of lines that goes on. It is in [`Answer::lines`], if the node gives one.
    pub(super) fn streaming(self) -> Self {
        let stream = Self { is_stream: true, ..self };
        stream.header(ACCEPT.as_str(), StreamForm::Lines.media_type().to_owned())
    }

    pub(super) fn header(mut self, name: &'static str, value: String) -> Self {
        self.headers.push((name, value));
        self
    }

    /// Lets the node take this long, without the parameter `timeout`.
    pub(super) fn may_take(self, park: Duration) -> Self {
        Self { park, ..self }
    }

    /// Lets the node park the request for this long, by the parameter `timeout`.
    pub(super) fn parks_for(self, park: Duration) -> Self {
        Self { park, sends_park: true, ..self }
    }

    /// Gives a write its stamp.
    pub(super) fn stamped(self, stamp: Option<Stamp>) -> Self {
        Self { stamp, ..self }
    }

    /// Whether it writes a record.
    fn is_write(&self) -> bool {
        self.method != Method::GET && !self.is_setting
    }

    /// Path and query.
    fn target(&self) -> String {
        let mut target = self.target.clone();
        let park = self.sends_park.then(|| parameter("timeout", &GoDuration(self.park).to_string()));
        let stamp = self.stamp.map(|stamp| parameter("modified", &stamp.to_string()));
        for parameter in park.into_iter().chain(stamp) {
            target.push(if target.contains('?') { '&' } else { '?' });
            target.push_str(&parameter);
        }
        target
    }

    /// The request for a node.
    ///
    /// # Errors
    /// If HTTP cannot carry it.
    fn for_node(&self, url: &Url) -> Result<hyper::Request<Full<Bytes>>, ExchangeError> {
        let mut builder = hyper::Request::builder()
            .method(&self.method)
            .uri(format!("{}{}", url.base, self.target()))
            .header(HOST, &url.authority)
            .header(USER_AGENT, concat!("vwatch/", env!("CARGO_PKG_VERSION")));
        for (name, value) in &self.headers {
            builder = builder.header(*name, value);
        }
        builder
            .body(Full::new(self.body.clone()))
            .map_err(|error| ExchangeError::Unsendable(error.to_string()))
    }
}

/// An answer with any status.
#[derive(Debug)]
pub(super) struct Answer {
    /// The URL that the request went to.
    pub(super) from: String,
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
    /// The lines of an answer that goes on. Its body is empty then.
    pub(super) lines: Option<Lines>,
}

impl Answer {
    /// A header as text.
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| std::str::from_utf8(value.as_bytes()).ok())
    }

    /// The body as JSON.
    ///
    /// # Errors
    /// If the body is not the JSON of a `T`: the other end may be no vwatch node.
    pub(super) fn json<T: DeserializeOwned>(&self) -> Result<T, Failure> {
        serde_json::from_slice(&self.body).map_err(|error| {
            Failure::Failed(format!(
                "the answer of {} cannot be read: {error}: is it a vwatch node?",
                self.from
            ))
        })
    }

    /// The version in the `ETag`.
    pub(super) fn version(&self) -> Option<Version> {
        parse_tag(self.headers.get(ETAG)?.as_bytes(), true).ok().flatten()
    }

    /// The version as it is printed.
    pub(super) fn shown_version(&self) -> String {
        self.version().map_or_else(String::new, |version| version.to_string())
    }

    /// `X-Last-Sync` in µs since 1970.
    pub(super) fn last_sync(&self) -> Option<u64> {
        self.header("x-last-sync")?.parse().ok()
    }

    /// `Retry-After` in its form of seconds, bounded.
    pub(super) fn retry_after(&self) -> Option<Duration> {
        let seconds: u64 = self.header(RETRY_AFTER.as_str())?.parse().ok()?;
        Some(Duration::from_secs(seconds.min(MAX_RETRY_AFTER_S)))
    }

    /// The line with the reason of a rejection, or `otherwise` if there is none. A body that is not
    /// from a node, such as the page of a proxy, is described and not repeated.
    pub(super) fn refusal(&self, otherwise: impl FnOnce() -> String) -> String {
        if self.is_foreign() {
            return self.foreign("and not with the line of a vwatch node", "see what stands in between");
        }
        let text = String::from_utf8_lossy(&self.body);
        match text.lines().map(str::trim).find(|line| !line.is_empty()) {
            Some(line) => line.chars().take(MAX_REFUSAL_CHARS).collect(),
            None => otherwise(),
        }
    }

    /// The code of an error; `None` from a server without codes, such as the Go vwatch, and for a code of a newer
    /// version.
    pub(super) fn error_code(&self) -> Option<ErrorCode> {
        ErrorCode::parse(self.header(X_VWATCH_ERROR)?)
    }

    /// Whether there is no value under the name of the request. A node answers with a code, and the Go vwatch with
    /// a status without a body.
    pub(super) fn has_no_value(&self) -> bool {
        match self.error_code() {
            Some(code) => matches!(code, ErrorCode::NotFound | ErrorCode::Deleted),
            None => self.body.is_empty() && matches!(self.status, StatusCode::NOT_FOUND | StatusCode::GONE),
        }
    }

    /// Whether an error answer cannot be from a node. A node sends a code with each error. The Go vwatch sends one line
    /// of plain text, and 404 without a body and a type of it, which distinguishes it from other servers in Go.
    fn is_foreign(&self) -> bool {
        let text = self.body.trim_ascii_start();
        if text.is_empty() || self.headers.contains_key(X_VWATCH_ERROR) {
            return false;
        }
        let is_plain = |value: &str| is_of_type(value, "text/plain");
        let is_missing = matches!(self.status, StatusCode::NOT_FOUND | StatusCode::GONE);
        self.header(CONTENT_TYPE.as_str()).is_some_and(|value| is_missing || !is_plain(value))
            || text.starts_with(b"<")
    }

    /// The message for an answer that is no stream.
    pub(super) fn no_stream(&self) -> String {
        let kind = self.header(CONTENT_TYPE.as_str()).unwrap_or("no type");
        let line = format!(
            "no stream: {} answers {} with {kind} in the place of {}: is it a node of an older version, or a proxy?",
            self.from,
            self.status,
            StreamForm::Lines.media_type(),
        );
        line.chars().take(MAX_REFUSAL_CHARS).collect()
    }

    /// The message for an answer that is not from a node.
    fn foreign(&self, why: &str, advice: &str) -> String {
        let what = match self.header(CONTENT_TYPE.as_str()) {
            Some(kind) => format!("with {kind}"),
            None if self.body.is_empty() => "with nothing".to_owned(),
            None => format!("with {} bytes of no type", self.body.len()),
        };
        let server = self.header(SERVER.as_str()).map(|server| format!(" of {server}")).unwrap_or_default();
        let Self { from, status, .. } = self;
        let line = format!("not a vwatch node: {from} answers {status} {what}{server}, {why}: {advice}");
        line.chars().take(MAX_REFUSAL_CHARS).collect()
    }

    /// Checks that the answer is about a record: every node, also the Go vwatch, sends `X-Last-Sync` with one.
    ///
    /// # Errors
    /// If the answer is not from a node.
    pub(super) fn check_stamp(&self) -> Result<(), Failure> {
        if self.last_sync().is_some() {
            return Ok(());
        }
        Err(Failure::Failed(self.foreign("and without X-Last-Sync", "name a node")))
    }

    /// Checks that the answer to `/healthz` or `/readyz` comes from a node.
    ///
    /// # Errors
    /// If the answer is not from a node.
    pub(super) fn check_node(&self) -> Result<(), Failure> {
        if self.headers.contains_key(X_VWATCH_NODE) {
            return Ok(());
        }
        Err(Failure::Failed(self.foreign("and without X-Vwatch-Node", "name a node")))
    }

    /// Checks that an error answer comes from a node.
    ///
    /// # Errors
    /// If the answer is not from a node.
    pub(super) fn check_refusal(&self) -> Result<(), Failure> {
        if self.is_foreign() { Err(Failure::Failed(self.refusal(String::new))) } else { Ok(()) }
    }

    /// The answer about the record of `name`.
    ///
    /// # Errors
    /// If the status is no success, or the answer is not from a node.
    pub(super) fn of_record(self, name: &str) -> Result<Self, Failure> {
        let answer = self.or_refusal(name)?;
        answer.check_stamp()?;
        Ok(answer)
    }

    /// The answer to a command about `name`.
    ///
    /// # Errors
    /// If the status is no success. The code of the answer decides the kind of failure; if it has none, its status
    /// does.
    pub(super) fn or_refusal(self, name: &str) -> Result<Self, Failure> {
        if self.status.is_success() {
            return Ok(self);
        }
        self.check_refusal()?;
        let line = |otherwise: &str| self.refusal(|| format!("{name}: {otherwise}"));
        let lost = || match self.version() {
            Some(version) => Failure::Lost(line(&format!("lost: a newer write stands: version {version}"))),
            None => Failure::Lost(line("lost: a newer write stands")),
        };
        let failed = || Failure::Failed(line(&format!("the node answers {}", self.status)));
        Err(match self.error_code() {
            // the line of the node has advice for users of HTTP: each command has its own
            Some(ErrorCode::NotFound) => Failure::Missing(format!("not found: {name:?}")),
            Some(ErrorCode::Deleted) => Failure::Missing(format!("deleted: {name:?}")),
            Some(ErrorCode::RevisionUnknown) => Failure::Missing(format!(
                "no such revision: {name:?}: see those that are kept: vwatch history {}",
                quoted(name)
            )),
            Some(ErrorCode::Compacted) => Failure::Missing(format!(
                "compacted: {name:?}: what there may have been then is not kept any more: see what is kept: \
                 vwatch history {}",
                quoted(name)
            )),
            Some(ErrorCode::Older | ErrorCode::Contradicts) => lost(),
            Some(_) => failed(),
            None => match self.status {
                StatusCode::NOT_FOUND => Failure::Missing(line("no such name")),
                StatusCode::GONE => Failure::Missing(line("it is deleted")),
                StatusCode::CONFLICT => lost(),
                _ => failed(),
            },
        })
    }
}

/// Whether the value of a `Content-Type` names this type, whatever its parameters.
fn is_of_type(value: &str, media_type: &str) -> bool {
    value.split(';').next().unwrap_or_default().trim().eq_ignore_ascii_case(media_type)
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Fake, answer};
    use super::*;

    #[tokio::test]
    async fn an_answer_that_is_not_from_a_node_is_recognized() {
        let html = [("Content-Type", "text/html"), ("ETag", "\"5f\""), ("Server", "nginx")];
        for (status, headers, body, said) in [
            (
                "200 OK",
                &html[..],
                "<html>",
                "answers 200 OK with text/html of nginx, and without X-Last-Sync",
            ),
            ("204 No Content", &[], "", "answers 204 No Content with nothing, and without X-Last-Sync"),
            ("404 Not Found", &html, "<html>", "answers 404 Not Found with text/html of nginx, and not with"),
            ("409 Conflict", &[], "\n <html>", "answers 409 Conflict with 8 bytes of no type, and not with"),
            (
                "502 Bad Gateway",
                &html,
                "<html>",
                "answers 502 Bad Gateway with text/html of nginx, and not with",
            ),
            (
                "404 Not Found",
                &[("Content-Type", "text/plain; charset=utf-8"), ("X-Content-Type-Options", "nosniff")],
                "404 page not found\n",
                "answers 404 Not Found with text/plain; charset=utf-8, and",
            ),
        ] {
            let fake = Fake::start(vec![answer(status, headers, body)]);
            let found =
                fake.client().send(&Request::get("/".to_owned())).await.unwrap().of_record("n").unwrap_err();
            let Failure::Failed(line) = found else { panic!("{found:?} for {status}") };
            assert!(
                line.starts_with("not a vwatch node: http://127.0.0.1:") && line.contains(said),
                "{line}"
            );
        }
        // the Go vwatch answers no more than this
        let fake = Fake::start(vec![answer("404 Not Found", &[], "")]);
        let found = fake.client().send(&Request::get("/".to_owned())).await.unwrap().of_record("n");
        assert!(matches!(found, Err(Failure::Missing(_))), "{found:?}");
    }

    #[tokio::test]
    async fn the_code_of_an_error_decides_and_not_its_text() {
        let refused = async |status: &str, code: &str, body: &str| {
            let headers = [("Content-Type", "text/plain; charset=utf-8"), (X_VWATCH_ERROR, code)];
            let fake = Fake::start(vec![answer(status, &headers, body)]);
            let answer = fake.client().send(&Request::get("/".to_owned())).await.unwrap();
            (answer.has_no_value(), answer.or_refusal("n").unwrap_err())
        };
        let missing = |line: &str| (true, Failure::Missing(line.to_owned()));
        assert_eq!(refused("404 Not Found", "not-found", "any text\n").await, missing("not found: \"n\""));
        assert_eq!(refused("410 Gone", "deleted", "<odd text>\n").await, missing("deleted: \"n\""));
        let text = || "not found: \"n\"".to_owned();
        for (status, code, failure) in [
            ("404 Not Found", "no-such-path", Failure::Failed(text())),
            ("409 Conflict", "would-go-back", Failure::Failed(text())),
            ("409 Conflict", "older", Failure::Lost(text())),
            ("409 Conflict", "contradicts", Failure::Lost(text())),
            ("404 Not Found", "of-a-newer-version", Failure::Missing(text())),
            ("400 Bad Request", "of-a-newer-version", Failure::Failed(text())),
        ] {
            assert_eq!(refused(status, code, &text()).await, (false, failure), "{status} {code}");
        }
    }
}
