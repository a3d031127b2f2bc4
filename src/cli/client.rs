//! HTTP to nodes: what is asked and answered. How it travels is in the modules below.

mod asking;
mod link;
mod place;

use std::time::Duration;

use http_body_util::Full;
use hyper::body::Bytes;
use hyper::header::{CONTENT_TYPE, ETAG, HOST, HeaderMap, RETRY_AFTER, SERVER, USER_AGENT};
use hyper::{Method, StatusCode};

use super::failure::Failure;
use super::url::{Url, parameter};
use crate::core::{Stamp, Version};
use crate::wire::duration::GoDuration;
use crate::wire::etag::parse_tag;
use crate::wire::headers::X_VWATCH_NODE;
pub(super) use asking::Client;
use link::Trouble;

/// Longest wait that a `Retry-After` is obeyed for.
const MAX_RETRY_AFTER_S: u64 = 60;
/// Longest line of a refusal that is passed on.
const MAX_REFUSAL_CHARS: usize = 500;
/// What a node itself advises about a name that is not there.
pub(super) const NODES_ADVICE: &str = ": wait for it with ?version=";

/// What to ask of a node.
#[derive(Clone, Debug)]
pub(super) struct Request {
    method: Method,
    /// Path and query, percent-encoded.
    target: String,
    headers: Vec<(&'static str, String)>,
    body: Bytes,
    /// How long the node may take beyond what any answer may.
    park: Duration,
    /// That the node is told how long it may park.
    tells_park: bool,
    /// When a write was made, if not the node is to say.
    stamp: Option<Stamp>,
}

impl Request {
    fn new(method: Method, target: String, body: Bytes) -> Self {
        let (headers, park) = (Vec::new(), Duration::ZERO);
        Self { method, target, headers, body, park, tells_park: false, stamp: None }
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

    pub(super) fn header(mut self, name: &'static str, value: String) -> Self {
        self.headers.push((name, value));
        self
    }

    /// The node may take so long, without being told.
    pub(super) fn may_take(self, park: Duration) -> Self {
        Self { park, ..self }
    }

    /// The node is told to answer after this time at the latest.
    pub(super) fn parks_for(self, park: Duration) -> Self {
        Self { park, tells_park: true, ..self }
    }

    /// The write is of this time.
    pub(super) fn stamped(self, stamp: Option<Stamp>) -> Self {
        Self { stamp, ..self }
    }

    fn is_write(&self) -> bool {
        self.method != Method::GET
    }

    /// Path and query.
    fn target(&self) -> String {
        let mut target = self.target.clone();
        let park = self.tells_park.then(|| parameter("timeout", &GoDuration(self.park).to_string()));
        let stamp = self.stamp.map(|stamp| parameter("modified", &stamp.to_string()));
        for parameter in park.into_iter().chain(stamp) {
            target.push(if target.contains('?') { '&' } else { '?' });
            target.push_str(&parameter);
        }
        target
    }

    fn for_node(&self, url: &Url) -> Result<hyper::Request<Full<Bytes>>, Trouble> {
        let mut builder = hyper::Request::builder()
            .method(&self.method)
            .uri(format!("{}{}", url.base, self.target()))
            .header(HOST, &url.authority)
            .header(USER_AGENT, concat!("vwatch/", env!("CARGO_PKG_VERSION")));
        for (name, value) in &self.headers {
            builder = builder.header(*name, value);
        }
        builder.body(Full::new(self.body.clone())).map_err(|error| Trouble::Unsendable(error.to_string()))
    }
}

/// What was answered, whatever its status.
#[derive(Debug)]
pub(super) struct Answer {
    /// The URL that was asked.
    pub(super) from: String,
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
}

impl Answer {
    /// A header as text.
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| std::str::from_utf8(value.as_bytes()).ok())
    }

    /// The version out of the `ETag`.
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

    /// The line that says why a node refused, or `otherwise` when it says nothing. What is no node's line, such as the
    /// page of a proxy, is named and not repeated.
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

    /// Whether a refusal cannot be a node's: a node says why in one line of plain text, or says nothing.
    fn is_foreign(&self) -> bool {
        let text = self.body.trim_ascii_start();
        let is_plain = |value: &str| {
            let essence = value.split(';').next().unwrap_or_default().trim();
            essence.eq_ignore_ascii_case("text/plain")
        };
        // the last is what any server in Go says of a path that it does not have
        !text.is_empty() && self.header(CONTENT_TYPE.as_str()).is_some_and(|value| !is_plain(value))
            || text.starts_with(b"<")
            || text.starts_with(b"404 page not found")
    }

    /// What was found in place of a node.
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

    /// Whether a record stands behind it: all nodes, those in Go too, send `X-Last-Sync` with each one.
    ///
    /// # Errors
    /// What was found instead.
    pub(super) fn check_stamp(&self) -> Result<(), Failure> {
        if self.last_sync().is_some() {
            return Ok(());
        }
        Err(Failure::Failed(self.foreign("and without X-Last-Sync", "name a node")))
    }

    /// Whether it comes from a node, by what those say with `/healthz` and `/readyz`.
    ///
    /// # Errors
    /// What was found instead.
    pub(super) fn check_node(&self) -> Result<(), Failure> {
        if self.headers.contains_key(X_VWATCH_NODE) {
            return Ok(());
        }
        Err(Failure::Failed(self.foreign("and without X-Vwatch-Node", "name a node")))
    }

    /// Whether a refusal is a node's.
    ///
    /// # Errors
    /// What was found instead.
    pub(super) fn check_refusal(&self) -> Result<(), Failure> {
        if self.is_foreign() { Err(Failure::Failed(self.refusal(String::new))) } else { Ok(()) }
    }

    /// The answer about the record of `name` if it is a good one, else how the command ends.
    pub(super) fn of_record(self, name: &str) -> Result<Self, Failure> {
        let answer = self.or_refusal(name)?;
        answer.check_stamp()?;
        Ok(answer)
    }

    /// The answer if it is a good one, else how the command about `name` ends.
    pub(super) fn or_refusal(self, name: &str) -> Result<Self, Failure> {
        let status = self.status;
        if status.is_success() {
            return Ok(self);
        }
        self.check_refusal()?;
        let said = |otherwise: &str| self.refusal(|| format!("{name}: {otherwise}"));
        // the advice of a node is for those who speak HTTP: each command has its own in its place
        let missing = |otherwise: &str| Failure::Missing(said(&format!("{otherwise}{NODES_ADVICE}")));
        Err(match status {
            StatusCode::NOT_FOUND => missing("no such name"),
            StatusCode::GONE => missing("it is deleted"),
            StatusCode::CONFLICT => Failure::Lost(match self.version() {
                Some(version) => said(&format!("lost: a newer write stands: version {version}")),
                None => said("lost: a newer write stands"),
            }),
            _ => Failure::Failed(said(&format!("the node answers {status}"))),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Fake, answer};
    use super::*;

    #[tokio::test]
    async fn what_is_no_node_is_not_taken_for_one() {
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
                &[],
                "404 page not found\n",
                "answers 404 Not Found with 19 bytes of no type, and",
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
        // vwatch in Go has no more to say than this
        let fake = Fake::start(vec![answer("404 Not Found", &[], "")]);
        let found = fake.client().send(&Request::get("/".to_owned())).await.unwrap().of_record("n");
        assert!(matches!(found, Err(Failure::Missing(_))), "{found:?}");
    }
}
