//! A connection to one address, and whether anything answers there.

use std::fmt;
use std::io;
use std::time::Duration;

use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Bytes;
use hyper::client::conn::http1::{self, SendRequest};
use hyper::header::CONNECTION;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep_until, timeout};

use super::super::stream::HearsOut;
use super::place::Place;
use super::{Answer, Request};
use crate::core::liveness::{Liveness, Step};
use crate::wire::duration::GoDuration;

/// Largest answer that is read: beyond any page of names, and small enough to hold.
const MAX_BODY_BYTES: usize = 64 << 20;

/// Why there is no answer.
#[derive(Debug)]
pub(super) enum Trouble {
    /// The request cannot be put into HTTP.
    Unsendable(String),
    /// Not connected: surely nothing was done.
    Unconnected(String),
    /// The address says nothing to anything: surely nothing was done, and it may say more later.
    Silent(String),
    /// The request was sent, and there is no whole answer: what was asked may have been done.
    Unanswered(String),
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (Self::Unsendable(why) | Self::Unconnected(why) | Self::Silent(why) | Self::Unanswered(why)) =
            self;
        f.write_str(why)
    }
}

/// A connection that no request is under way on.
#[derive(Debug)]
pub(super) struct Link {
    pub(super) place: Place,
    sender: SendRequest<Full<Bytes>>,
}

impl Link {
    pub(super) async fn connect(place: &Place, within: Duration) -> Result<Self, Trouble> {
        let refused = |why: &dyn fmt::Display| Trouble::Unconnected(format!("cannot reach {place}: {why}"));
        let stream = match timeout(within, TcpStream::connect(place.address)).await {
            Ok(Ok(stream)) => stream,
            Ok(Err(error)) if error.kind() == io::ErrorKind::ConnectionRefused => {
                return Err(refused(&"connection refused"));
            }
            Ok(Err(error)) => return Err(refused(&error)),
            Err(_) => {
                return Err(Trouble::Silent(format!(
                    "cannot reach {place}: no connection within {}",
                    shown(within)
                )));
            }
        };
        // a request is one small write: waiting to fill a packet only adds delay
        let _ = stream.set_nodelay(true);
        let (sender, connection) =
            http1::handshake(TokioIo::new(HearsOut::new(stream))).await.map_err(|error| refused(&error))?;
        // ends by itself with the connection; what went wrong shows at the request
        tokio::spawn(connection);
        Ok(Self { place: place.clone(), sender })
    }

    pub(super) fn is_closed(&self) -> bool {
        self.sender.is_closed()
    }

    /// The link, if it can be used again after this answer.
    pub(super) fn after(self, answer: &Answer) -> Option<Self> {
        let is_last = answer.header(CONNECTION.as_str()).is_some_and(|v| v.eq_ignore_ascii_case("close"));
        Some(self).filter(|link| !is_last && !link.is_closed())
    }

    /// Asks whether there is a node that answers, which takes it no time.
    pub(super) async fn probe(&mut self) -> Result<Answer, Trouble> {
        self.exchange(&Request::get("/healthz".to_owned())).await
    }

    pub(super) async fn exchange(&mut self, request: &Request) -> Result<Answer, Trouble> {
        let url = &self.place.url;
        let broken = |error: &dyn fmt::Display| format!("no whole answer from {url}: {error}");
        let message = request.for_node(url)?;
        self.sender.ready().await.map_err(|error| Trouble::Unconnected(broken(&error)))?;
        let response = match self.sender.try_send_request(message).await {
            Ok(response) => response,
            Err(mut error) => {
                // what comes back was never sent
                let unsent = error.take_message().is_some();
                let why = broken(&error.into_error());
                return Err(if unsent { Trouble::Unconnected(why) } else { Trouble::Unanswered(why) });
            }
        };
        let (head, body) = response.into_parts();
        let body = Limited::new(body, MAX_BODY_BYTES).collect().await;
        let body = body.map_err(|error| Trouble::Unanswered(broken(&error)))?.to_bytes();
        Ok(Answer { from: url.to_string(), status: head.status, headers: head.headers, body })
    }
}

/// Comes back when an address says nothing any more, not even to probes. `within` is how long that may take to notice at
/// first; once there was an answer, its usual time. `kept` is the connection that the last probe was answered on: one for
/// each probe would cost the node more than all that waits there.
pub(super) async fn silence(place: &Place, within: Duration, kept: &mut Option<Link>) {
    let mut life = Liveness::hurried(std::time::Instant::now(), within);
    loop {
        match life.step(std::time::Instant::now()) {
            Step::Silent => return,
            Step::Wait(until) => sleep_until(Instant::from_std(until)).await,
            Step::Probe => {
                if timeout(life.probe_time(), answers(place, kept)).await == Ok(true) {
                    life = Liveness::new(std::time::Instant::now());
                }
            }
        }
    }
}

async fn answers(place: &Place, kept: &mut Option<Link>) -> bool {
    if let Some(mut link) = kept.take()
        && let Ok(answer) = link.probe().await
    {
        *kept = link.after(&answer);
        return true;
    }
    // the node may have closed it: only a fresh connection can tell
    let Ok(mut link) = Link::connect(place, Duration::MAX).await else { return false };
    let Ok(answer) = link.probe().await else { return false };
    *kept = link.after(&answer);
    true
}

/// A time as it is shown, without digits that say nothing.
pub(super) fn shown(time: Duration) -> String {
    let coarse = if time < Duration::from_secs(1) { time.as_millis() } else { time.as_millis() / 100 * 100 };
    GoDuration(Duration::from_millis(u64::try_from(coarse).unwrap_or(u64::MAX))).to_string()
}

#[cfg(test)]
mod tests {
    use super::super::super::testing::{Fake, answer};
    use super::super::place::Places;
    use super::*;

    #[tokio::test]
    async fn a_probe_goes_over_the_connection_of_the_last_one_unless_the_node_closed_it() {
        let node = Fake::without_probes(vec![
            answer("200 OK", &[], "ok\n"),
            answer("200 OK", &[("Connection", "close")], "ok\n"),
            answer("200 OK", &[], "ok\n"),
            String::new(),
            answer("503 Service Unavailable", &[], ""),
        ]);
        let place = Places::new(vec![node.url()]).current(Duration::MAX).await.unwrap();
        let mut kept = None;
        for (probes, connections) in [(1, 1), (2, 1), (3, 2), (5, 3)] {
            assert!(answers(&place, &mut kept).await, "probe {probes}");
            assert_eq!((node.seen().len(), node.connections()), (probes, connections));
        }
        // it is gone by now
        assert!(!answers(&place, &mut kept).await);
    }
}
