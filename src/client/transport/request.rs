//! A request to a node.

use std::time::Duration;

use http_body_util::Full;
use hyper::Method;
use hyper::body::Bytes;
use hyper::header::{ACCEPT, AUTHORIZATION, HOST, USER_AGENT};
use tokio::time::Instant;

use super::error::Unsendable;
use crate::client::url::{Url, parameter};
use crate::core::Stamp;
use crate::wire::duration::GoDuration;
use crate::wire::watch_form::StreamForm;

/// A request to a node.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    method: Method,
    /// Path and query, percent-encoded.
    target: String,
    headers: Vec<(&'static str, String)>,
    body: Bytes,
    /// How long the node may take beyond the time for any answer.
    pub(super) park: Duration,
    /// Whether the request has the parameter `timeout`.
    pub(super) sends_park: bool,
    /// Until when the node may hold it, by the parameter `wait`: what is left of the time is sent with each try.
    waits_until: Option<Instant>,
    /// The stamp of a write; `None` if the node gives it.
    pub(super) stamp: Option<Stamp>,
    /// Whether twice is as once although it is no `GET`, so that it can be sent again.
    is_setting: bool,
    /// Whether it adds an event. Twice is not as once, and the node gives the stamp.
    pub(super) is_event: bool,
    /// Whether the answer may be lines that go on.
    pub(super) is_stream: bool,
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
            waits_until: None,
            stamp: None,
            is_setting: false,
            is_event: false,
            is_stream: false,
        }
    }

    pub(crate) fn get(target: String) -> Self {
        Self::new(Method::GET, target, Bytes::new())
    }

    pub(crate) fn put(target: String, body: impl Into<Bytes>) -> Self {
        Self::new(Method::PUT, target, body.into())
    }

    pub(crate) fn delete(target: String) -> Self {
        Self::new(Method::DELETE, target, Bytes::new())
    }

    /// A request that changes a setting of the set. Twice is as once, so it is sent again like a read.
    pub(crate) fn setting(method: Method, target: String) -> Self {
        Self { is_setting: true, ..Self::new(method, target, Bytes::new()) }
    }

    /// The request with a body.
    pub(crate) fn with_body(self, body: Vec<u8>) -> Self {
        Self { body: body.into(), ..self }
    }

    /// A request that adds an event.
    pub(crate) fn event(target: String, data: impl Into<Bytes>) -> Self {
        Self { is_event: true, ..Self::new(Method::POST, target, data.into()) }
    }

    /// A question with a JSON body. It changes nothing, so it is sent again like a read.
    pub(crate) fn question(target: String, body: Vec<u8>) -> Self {
        let question = Self { is_setting: true, ..Self::new(Method::POST, target, body.into()) };
        question.header("content-type", "application/json".to_owned())
    }

    /// Asks for an answer of lines that goes on. It is in [`Answer::lines`], if the node gives one.
    pub(crate) fn streaming(self) -> Self {
        let stream = Self { is_stream: true, ..self };
        stream.header(ACCEPT.as_str(), StreamForm::Lines.media_type().to_owned())
    }

    pub(crate) fn header(mut self, name: &'static str, value: String) -> Self {
        self.headers.push((name, value));
        self
    }

    /// Lets the node take this long, without the parameter `timeout`.
    pub(crate) fn may_take(self, park: Duration) -> Self {
        Self { park, ..self }
    }

    /// Lets the node park the request for this long, by the parameter `timeout`.
    pub(crate) fn parks_for(self, park: Duration) -> Self {
        Self { park, sends_park: true, ..self }
    }

    /// Lets the node hold the request until then, by the parameter `wait`.
    pub(crate) fn waits_until(self, until: Instant) -> Self {
        Self { waits_until: Some(until), ..self }
    }

    /// The request as it is sent now: the node may take less of the time that it waits.
    pub(super) fn now(mut self) -> Self {
        if let Some(left) = self.wait_left() {
            self.park = left;
        }
        self
    }

    /// How long the node may still hold it, in whole ms.
    fn wait_left(&self) -> Option<Duration> {
        let left = self.waits_until?.saturating_duration_since(Instant::now());
        Some(Duration::from_millis(u64::try_from(left.as_millis()).unwrap_or(u64::MAX)))
    }

    /// Whether it deletes.
    pub(crate) fn is_delete(&self) -> bool {
        self.method == Method::DELETE
    }

    /// Whether the node may park it.
    pub(crate) fn is_parked(&self) -> bool {
        self.sends_park
    }

    /// Gives a write its stamp.
    pub(crate) fn stamped(self, stamp: Option<Stamp>) -> Self {
        Self { stamp, ..self }
    }

    /// Whether it writes a record.
    pub(crate) fn is_write(&self) -> bool {
        self.method != Method::GET && !self.is_setting
    }

    /// Whether the answer may be one that goes on.
    pub(crate) fn is_stream(&self) -> bool {
        self.is_stream
    }

    /// The revision of a write, if the node is not to give it.
    pub(crate) fn revision(&self) -> Option<u64> {
        self.stamp.map(Stamp::micros)
    }

    /// Path and query.
    fn target(&self) -> String {
        let mut target = self.target.clone();
        let park = self.sends_park.then(|| parameter("timeout", &GoDuration(self.park).to_string()));
        let stamp = self.stamp.map(|stamp| parameter("modified", &stamp.to_string()));
        let wait = self.wait_left().filter(|left| !left.is_zero());
        let wait = wait.map(|left| parameter("wait", &GoDuration(left).to_string()));
        for parameter in park.into_iter().chain(stamp).chain(wait) {
            target.push(if target.contains('?') { '&' } else { '?' });
            target.push_str(&parameter);
        }
        target
    }

    /// The request for a node.
    ///
    /// # Errors
    /// Why HTTP cannot carry it.
    pub(crate) fn for_node(&self, url: &Url) -> Result<hyper::Request<Full<Bytes>>, Unsendable> {
        let mut builder = hyper::Request::builder()
            .method(&self.method)
            .uri(format!("{}{}", url.base, self.target()))
            .header(HOST, &url.authority)
            .header(USER_AGENT, concat!("vwatch/", env!("CARGO_PKG_VERSION")));
        if let Some(token) = &url.token {
            builder = builder.header(AUTHORIZATION, token.header());
        }
        for (name, value) in &self.headers {
            builder = builder.header(*name, value);
        }
        builder.body(Full::new(self.body.clone())).map_err(|error| Unsendable(error.to_string()))
    }
}
