//! A node in the same process: requests to it are calls, without sockets.
//!
//! The client knows it by a trait, so that the library needs no crates of a server. What has no way of its own here is
//! a [`Request`] as for any other node, and comes back as an [`Answer`].

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;
use http_body_util::Full;
use hyper::{Response, StatusCode};
use tokio::task::coop::consume_budget;
use tokio::time::{Instant, sleep, timeout_at};

use super::backoff::Backoff;
use super::error::Error;
use super::transport::{Answer, LocalStream, Request, Source, Unsendable};
use super::url::Url;
use super::value::{Value, Written};
use crate::wire::error_code::ErrorCode;

/// A node in this process.
pub(crate) trait LocalNode: fmt::Debug + Send + Sync {
    /// What the node has of a plain name. `None` if a request has to decide.
    fn get(&self, name: &str) -> Option<LocalRecord>;

    /// Writes a plain name, with a version that is made of the data. `None` if nothing was written, and a request has
    /// to say why.
    fn put(&self, name: &str, data: &[u8]) -> Option<Written>;

    /// The answer to a request to a port. `None` if the node has ended. With `is_stream` the answer may be one that
    /// goes on.
    fn send(&self, port: LocalPort, request: LocalRequest, is_stream: bool) -> Answering<'_>;
}

/// A request as it would be sent.
pub(crate) type LocalRequest = hyper::Request<Full<Bytes>>;

/// An answer that is awaited.
pub(crate) type Answering<'a> = Pin<Box<dyn Future<Output = Option<LocalAnswer>> + Send + 'a>>;

/// Which paths a request is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LocalPort {
    /// Those of the client port.
    Client,
    /// Those of the server port.
    Server,
}

/// What a node has of a name.
#[derive(Debug)]
pub(crate) enum LocalRecord {
    /// A value.
    Value(Value),
    /// A delete with this revision.
    Deleted(u64),
    /// Nothing.
    Missing,
}

/// An answer of a node in this process.
#[derive(Debug)]
pub(crate) enum LocalAnswer {
    /// A whole answer.
    Whole(Response<Bytes>),
    /// One that goes on.
    Stream(Box<dyn LocalStream>),
}

/// A port of a node in this process, as a client uses it.
#[derive(Debug)]
pub(super) struct Here {
    node: Arc<dyn LocalNode>,
    port: LocalPort,
    url: Url,
}

impl Here {
    /// A port of a node. The URL stands for it in requests and in messages, and no connection is made to it.
    pub(super) fn new(node: &Arc<dyn LocalNode>, port: LocalPort, url: Url) -> Self {
        Self { node: Arc::clone(node), port, url }
    }

    /// The node.
    pub(super) fn node(&self) -> &dyn LocalNode {
        &*self.node
    }

    /// Sends a request. While the node is not ready, or busy, it is sent again until the time is over.
    pub(super) async fn send(&self, request: &Request, until: Instant) -> Result<Answer, Error> {
        // answers may all be there at once: a program that asks in a loop lets others run
        consume_budget().await;
        let mut backoff = Backoff::default();
        loop {
            let message =
                request.for_node(&self.url).map_err(|Unsendable(message)| Error::Unsendable { message })?;
            let sent = timeout_at(until, self.node.send(self.port, message, request.is_stream())).await;
            let answer = match sent {
                Ok(Some(answer)) => self.answer(answer),
                Ok(None) => return Err(unavailable("the embedded node has ended")),
                Err(_) if request.is_write() => {
                    let message = "no answer of the embedded node in time".to_owned();
                    return Err(Error::Unknown { revision: request.revision(), message });
                }
                Err(_) => return Err(unavailable("no answer of the embedded node in time")),
            };
            if answer.status != StatusCode::SERVICE_UNAVAILABLE {
                return Ok(answer);
            }
            let error = Error::of(&answer);
            let pause = backoff.next(None);
            // a node that stops does not come back
            if answer.error_code() == Some(ErrorCode::Stopping) || Instant::now() + pause >= until {
                return Err(error);
            }
            sleep(pause).await;
        }
    }

    fn answer(&self, answer: LocalAnswer) -> Answer {
        let from = self.url.to_string();
        match answer {
            LocalAnswer::Whole(response) => {
                let (head, body) = response.into_parts();
                Answer { from, status: head.status, headers: head.headers, body, lines: None }
            }
            LocalAnswer::Stream(stream) => Answer {
                lines: Some(Source::Local { from: from.clone(), stream }),
                from,
                status: StatusCode::OK,
                headers: Default::default(),
                body: Bytes::new(),
            },
        }
    }
}

fn unavailable(message: &str) -> Error {
    Error::Unavailable { retry_after: None, message: message.to_owned() }
}
