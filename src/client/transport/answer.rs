//! An answer of a node.

use std::time::Duration;

use hyper::StatusCode;
use hyper::body::Bytes;
use hyper::header::{CONTENT_TYPE, ETAG, HeaderMap, LINK, RETRY_AFTER, SERVER};
use serde::de::DeserializeOwned;

use super::error::NotANode;
use super::writes::Source;
use crate::core::Version;
use crate::wire::error_code::ErrorCode;
use crate::wire::etag::parse_tag;
use crate::wire::headers::{X_VWATCH_ERROR, X_VWATCH_EXPIRES, X_VWATCH_NODE, X_VWATCH_PORT};
use crate::wire::watch_form::StreamForm;

/// Longest `Retry-After` that the client obeys, in seconds.
const MAX_RETRY_AFTER_S: u64 = 60;
/// Longest line of an error answer that the client passes on, in characters.
const MAX_REFUSAL_CHARS: usize = 500;

/// An answer with any status.
#[derive(Debug)]
pub(crate) struct Answer {
    /// The URL that the request went to.
    pub(crate) from: String,
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
    /// The rest of an answer that goes on. Its body is empty then.
    pub(crate) lines: Option<Source>,
}

impl Answer {
    /// A header as text.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| std::str::from_utf8(value.as_bytes()).ok())
    }

    /// The body as JSON.
    ///
    /// # Errors
    /// If the body is not the JSON of a `T`: the other end may be no vwatch node.
    pub(crate) fn json<T: DeserializeOwned>(&self) -> Result<T, NotANode> {
        serde_json::from_slice(&self.body).map_err(|error| {
            NotANode(format!("the answer of {} cannot be read: {error}: is it a vwatch node?", self.from))
        })
    }

    /// The version in the `ETag`.
    pub(crate) fn version(&self) -> Option<Version> {
        parse_tag(self.headers.get(ETAG)?.as_bytes(), true).ok().flatten()
    }

    /// The version as it is printed.
    pub(crate) fn shown_version(&self) -> String {
        self.version().map_or_else(String::new, |version| version.to_string())
    }

    /// `X-Last-Sync` in µs since 1970.
    pub(crate) fn last_sync(&self) -> Option<u64> {
        self.header("x-last-sync")?.parse().ok()
    }

    /// `X-Vwatch-Expires` in µs since 1970.
    pub(crate) fn expires(&self) -> Option<u64> {
        self.header(X_VWATCH_EXPIRES)?.parse().ok()
    }

    /// `Retry-After` in its form of seconds, bounded.
    pub(crate) fn retry_after(&self) -> Option<Duration> {
        let seconds: u64 = self.header(RETRY_AFTER.as_str())?.parse().ok()?;
        Some(Duration::from_secs(seconds.min(MAX_RETRY_AFTER_S)))
    }

    /// The query of the next page of a list. The path of the link is ignored, so that a proxy may move it.
    pub(crate) fn next_query(&self) -> Option<String> {
        let link = self.header(LINK.as_str())?;
        // targets have no brackets, because these are percent-encoded; they may have commas
        link.split('<').skip(1).find_map(|one| {
            let (target, parameters) = one.split_once('>')?;
            let is_next =
                parameters.split([';', ',']).any(|p| matches!(p.trim(), "rel=\"next\"" | "rel=next"));
            target.split_once('?').filter(|_| is_next).map(|(_, query)| query.to_owned())
        })
    }

    /// The line with the reason of a rejection, or `otherwise` if there is none. A body that is not
    /// from a node, such as the page of a proxy, is described and not repeated.
    pub(crate) fn refusal(&self, otherwise: impl FnOnce() -> String) -> String {
        if self.is_foreign() {
            return self.foreign("and not with the line of a vwatch node", "see what stands in between");
        }
        // the line of the node has advice for users of HTTP, and does not know its URL
        let from = &self.from;
        match self.error_code() {
            Some(ErrorCode::NoToken) => {
                return format!(
                    "no token: {from} wants one: give --token-file or VWATCH_TOKEN (a program: Builder::token)"
                );
            }
            Some(ErrorCode::UnknownToken) => {
                return format!(
                    "unknown token: {from} does not know it, or it has ended: see vwatch token check, or ask for another"
                );
            }
            Some(code @ (ErrorCode::MethodNotAllowed | ErrorCode::NoSuchPath)) => {
                if let Some(line) = self.wrong_port(code == ErrorCode::NoSuchPath) {
                    return line;
                }
            }
            Some(ErrorCode::UseHttps) => {
                let address = from.strip_prefix("http://").unwrap_or(from);
                return format!("no TLS: {from} speaks it: use https://{address}");
            }
            _ => {}
        }
        let text = String::from_utf8_lossy(&self.body);
        match text.lines().map(str::trim).find(|line| !line.is_empty()) {
            Some(line) => line.chars().take(MAX_REFUSAL_CHARS).collect(),
            None => otherwise(),
        }
    }

    /// The line for an answer of a port that has no such method or path. It is most likely the other one of the two; a
    /// path may also be one of a newer version.
    fn wrong_port(&self, is_path: bool) -> Option<String> {
        let from = &self.from;
        let (does, other) = match self.header(X_VWATCH_PORT)? {
            "client" => ("is the client port of a node, which reads", "server"),
            "server" => ("is the server port of a node, which writes", "client"),
            _ => return None,
        };
        let or = if is_path { ", or upgrade the node" } else { "" };
        Some(format!("wrong port: {from} {does}: name the {other} port (--{other}-url){or}"))
    }

    /// The code of an error; `None` from a server without codes, such as the Go vwatch, and for a code of a newer
    /// version.
    pub(crate) fn error_code(&self) -> Option<ErrorCode> {
        ErrorCode::parse(self.header(X_VWATCH_ERROR)?)
    }

    /// Whether there is no value under the name of the request. A node answers with a code, and the Go vwatch with
    /// a status without a body.
    pub(crate) fn has_no_value(&self) -> bool {
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
    pub(crate) fn no_stream(&self) -> String {
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
    pub(crate) fn check_stamp(&self) -> Result<(), NotANode> {
        if self.last_sync().is_some() {
            return Ok(());
        }
        Err(NotANode(self.foreign("and without X-Last-Sync", "name a node")))
    }

    /// Checks that the answer to `/healthz` or `/readyz` comes from a node.
    ///
    /// # Errors
    /// If the answer is not from a node.
    pub(crate) fn check_node(&self) -> Result<(), NotANode> {
        if self.headers.contains_key(X_VWATCH_NODE) {
            return Ok(());
        }
        Err(NotANode(self.foreign("and without X-Vwatch-Node", "name a node")))
    }

    /// Checks that an error answer comes from a node.
    ///
    /// # Errors
    /// If the answer is not from a node.
    pub(crate) fn check_refusal(&self) -> Result<(), NotANode> {
        if self.is_foreign() { Err(NotANode(self.refusal(String::new))) } else { Ok(()) }
    }
}

/// Whether the value of a `Content-Type` names this type, whatever its parameters.
pub(super) fn is_of_type(value: &str, media_type: &str) -> bool {
    value.split(';').next().unwrap_or_default().trim().eq_ignore_ascii_case(media_type)
}
