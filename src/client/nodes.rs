//! The nodes of one port: which to use, and their idle connections.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use hyper::StatusCode;
use tokio::time::{Instant, sleep_until};

use super::error::Error;
use super::local::Here;
use super::transport::{Answer, Connection, Health, Order, Request, Requester, SendError};
use super::url::Url;

/// Most idle connections. Programs with more requests at a time open and close the others.
const MAX_IDLE: usize = 32;

/// What is said if no node was asked.
pub(super) const RESTING: &str = "each node has failed a moment ago, and is left for a while";

/// The nodes of one port.
#[derive(Debug)]
pub(super) struct Nodes {
    health: Arc<Health>,
    /// Connections without a request, the last used one at the end.
    idle: Mutex<Vec<Connection>>,
    /// The one node, if it is in this process.
    here: Option<Here>,
}

impl Nodes {
    /// The nodes at these URLs, at least one.
    pub(super) fn new(urls: Vec<Url>) -> Self {
        Self { health: Arc::new(Health::new(urls)), idle: Mutex::default(), here: None }
    }

    /// A node in this process, of which answers have this URL.
    pub(super) fn here(here: Here, url: Url) -> Self {
        Self { here: Some(here), ..Self::new(vec![url]) }
    }

    /// The node, if it is in this process.
    pub(super) fn local(&self) -> Option<&Here> {
        self.here.as_ref()
    }

    /// Number of nodes.
    pub(super) fn count(&self) -> usize {
        self.health.count()
    }

    /// Lets the next request use another node than this one.
    pub(super) fn leave(&self, from: &str) {
        if let Ok(url) = Url::parse(from) {
            self.health.leave(&url);
        }
    }

    /// Leaves a node for a while, because it has ended a stream without a reason.
    pub(super) fn fails(&self, from: &str) {
        if let Ok(url) = Url::parse(from) {
            self.health.fails(&url, None);
        }
    }

    /// Lets the next request use another node than it would now.
    pub(super) fn leave_first(&self) {
        self.health.leave_first();
    }

    /// Sends a request to the nodes, one after the other, until one answers with another status than 503, or the time
    /// is over. A node that does not answer, or has asked for it, is left for a while. A write without an answer is
    /// repeated only as the same write, with the same stamp.
    ///
    /// # Errors
    /// If no node answers in time, or the result of a write is unknown.
    pub(super) async fn send(&self, request: &Request, until: Instant) -> Result<Answer, Error> {
        if let Some(here) = &self.here {
            return here.send(request, until).await;
        }
        let mut request = request.clone();
        let mut doubt = None;
        let mut last = None;
        loop {
            let now = Instant::now();
            let urls = match self.health.order(now) {
                Order::Now(urls) if now < until => urls,
                Order::Later(at) if at < until => {
                    sleep_until(at).await;
                    continue;
                }
                Order::Now(_) => return Err(doubt.unwrap_or_else(|| unavailable(last, None))),
                Order::Later(at) => return Err(doubt.unwrap_or_else(|| unavailable(last, Some(at - now)))),
            };
            let mut requester = self.requester(urls, until - now);
            let sent = requester.send(&request).await;
            self.keep(requester);
            match sent {
                Ok(answer) if answer.status == StatusCode::SERVICE_UNAVAILABLE => {
                    last = Some(Error::of(&answer));
                }
                Ok(answer) => {
                    let decides = answer.status.is_success() || answer.status == StatusCode::CONFLICT;
                    return match doubt {
                        Some(doubt) if !decides => Err(doubt),
                        _ => Ok(answer),
                    };
                }
                Err(SendError::InDoubt { errors, stamp: Some(stamp) }) => {
                    request = request.stamped(Some(stamp));
                    doubt = Some(SendError::InDoubt { errors, stamp: Some(stamp) }.into());
                }
                Err(error @ SendError::NoAnswer { .. }) => last = Some(error.into()),
                Err(error) => return Err(error.into()),
            }
        }
    }

    #[cfg(test)]
    pub(super) fn idle_connections(&self) -> usize {
        self.idle.lock().unwrap().len()
    }

    fn requester(&self, urls: Vec<Url>, within: Duration) -> Requester {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        idle.retain(|connection| !connection.is_closed());
        // one for the request, and one for the probes beside it
        let [kept, probed] = [(); 2].map(|()| {
            let at = idle.iter().rposition(|connection| connection.is_to(&urls[0]));
            at.map(|at| idle.remove(at))
        });
        Requester::sharing(urls, Arc::clone(&self.health), kept, probed).within(within)
    }

    fn keep(&self, requester: Requester) {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        idle.extend(requester.into_connections());
        let surplus = idle.len().saturating_sub(MAX_IDLE);
        idle.drain(..surplus);
    }
}

/// The error when the time is over. `rest` is how long the first node is still to be left.
fn unavailable(last: Option<Error>, rest: Option<Duration>) -> Error {
    match last {
        Some(Error::Unavailable { retry_after, message }) => {
            Error::Unavailable { retry_after: retry_after.and(rest).or(retry_after), message }
        }
        Some(error) => error,
        None => Error::Unavailable { retry_after: rest, message: RESTING.to_owned() },
    }
}
