//! A connection to one address of a node.

use std::error::Error;
use std::fmt;
use std::time::Duration;

use http_body_util::{BodyExt, Full, Limited};
use hyper::StatusCode;
use hyper::body::Bytes;
use hyper::client::conn::http1::{self, SendRequest};
use hyper::header::{CONNECTION, CONTENT_TYPE};
use hyper_util::rt::TokioIo;
use tokio::sync::oneshot;
use tokio::time::timeout;

use super::address::NodeAddress;
use super::answer::{Answer, is_of_type};
use super::driver::Driver;
use super::error::ExchangeError;
use super::lines::Lines;
use super::request::Request;
use super::socket::{self, NoSocket};
use super::stream::HearsOut;
use super::writes::Source;
use crate::client::url::Url;
use crate::tls::advice;
use crate::wire::duration::GoDuration;
use crate::wire::watch_form::StreamForm;

/// Largest answer that the client reads, in bytes: more than any page of names has, and small enough for the memory.
const MAX_BODY_BYTES: usize = 64 << 20;

/// A connection without a request under way.
#[derive(Debug)]
pub(crate) struct Connection {
    pub(super) address: NodeAddress,
    sender: SendRequest<Full<Bytes>>,
    /// Takes the driver from its task.
    taker: Option<oneshot::Sender<oneshot::Sender<Driver>>>,
}

impl Connection {
    /// Connects to an address, and speaks TLS if its URL is `https://`.
    ///
    /// # Errors
    /// If there is no connection within the time.
    pub(super) async fn connect(address: &NodeAddress, within: Duration) -> Result<Self, ExchangeError> {
        let refused =
            |why: &dyn fmt::Display| ExchangeError::Unconnected(format!("cannot reach {address}: {why}"));
        let stream = match timeout(within, socket::connect(address)).await {
            Ok(Ok(stream)) => stream,
            Ok(Err(NoSocket::Unreachable(why))) => return Err(refused(&why)),
            Ok(Err(NoSocket::NoTls(why))) => {
                return Err(ExchangeError::Unsuitable(format!("cannot reach {address}: {why}")));
            }
            Err(_) => {
                return Err(ExchangeError::Silent(format!(
                    "cannot reach {address}: no connection within {}",
                    shown(within)
                )));
            }
        };
        let (sender, connection) =
            http1::handshake(TokioIo::new(HearsOut::new(stream))).await.map_err(|error| refused(&error))?;
        // the task ends with the connection
        let (taker, taken) = oneshot::channel();
        tokio::spawn(Driver::new(connection).drive(taken));
        Ok(Self { address: address.clone(), sender, taker: Some(taker) })
    }

    /// Whether the node has closed the connection.
    pub(crate) fn is_closed(&self) -> bool {
        self.sender.is_closed()
    }

    /// Whether it leads to this URL.
    pub(crate) fn is_to(&self, url: &Url) -> bool {
        self.address.url == *url
    }

    /// The connection, if it can be used again after this answer.
    pub(super) fn after(self, answer: &Answer) -> Option<Self> {
        let is_last = answer.header(CONNECTION.as_str()).is_some_and(|v| v.eq_ignore_ascii_case("close"));
        Some(self).filter(|connection| !is_last && answer.lines.is_none() && !connection.is_closed())
    }

    /// Sends a probe, which a node answers at once.
    ///
    /// # Errors
    /// If there is no whole answer.
    pub(super) async fn probe(&mut self) -> Result<Answer, ExchangeError> {
        self.exchange(&Request::get("/healthz".to_owned())).await
    }

    /// Sends a request and reads its answer. Of an answer that goes on it reads the head.
    ///
    /// # Errors
    /// If there is no whole answer.
    pub(super) async fn exchange(&mut self, request: &Request) -> Result<Answer, ExchangeError> {
        let url = &self.address.url;
        let broken = |error: &(dyn Error + 'static)| {
            let why = advice(error).unwrap_or_else(|| error.to_string());
            format!("no whole answer from {url}: {why}")
        };
        let message = request.for_node(url)?;
        self.sender.ready().await.map_err(|error| ExchangeError::Unconnected(broken(&error)))?;
        let response = match self.sender.try_send_request(message).await {
            Ok(response) => response,
            Err(mut error) => {
                // a message that comes back was never sent
                let unsent = error.take_message().is_some();
                let why = broken(&error.into_error());
                return Err(if unsent {
                    ExchangeError::Unconnected(why)
                } else {
                    ExchangeError::Unanswered(why)
                });
            }
        };
        let (head, body) = response.into_parts();
        let from = url.to_string();
        let kind = head.headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let is_lines = head.status == StatusCode::OK && is_of_type(kind, StreamForm::Lines.media_type());
        if request.is_stream && is_lines {
            let driver = self.take_driver().await;
            let lines = Some(Source::Lines(Lines::new(from.clone(), body, driver)));
            return Ok(Answer {
                from,
                status: head.status,
                headers: head.headers,
                body: Bytes::new(),
                lines,
            });
        }
        let body = Limited::new(body, MAX_BODY_BYTES).collect().await;
        let body = body.map_err(|error| ExchangeError::Unanswered(broken(&*error)))?.to_bytes();
        Ok(Answer { from, status: head.status, headers: head.headers, body, lines: None })
    }
}

impl Connection {
    /// The driver, if the connection has not ended.
    async fn take_driver(&mut self) -> Option<Driver> {
        let (taker, driver) = oneshot::channel();
        self.taker.take()?.send(taker).ok()?;
        driver.await.ok()
    }
}

/// A duration for messages: in ms below 1 s, else in tenths of a second.
pub(super) fn shown(time: Duration) -> String {
    let coarse = if time < Duration::from_secs(1) { time.as_millis() } else { time.as_millis() / 100 * 100 };
    GoDuration(Duration::from_millis(u64::try_from(coarse).unwrap_or(u64::MAX))).to_string()
}
