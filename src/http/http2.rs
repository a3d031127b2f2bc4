//! HTTP/2 for clients that use it from the first byte on ("prior knowledge", RFC 9113 §3.3). One connection carries
//! many requests, also parked ones. It ends for the same reasons as one of HTTP/1.1: silence, responses that the client
//! does not take, and the end of the node.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::body::Body;
use hyper::Request;
use hyper::body::{Bytes, Frame, Incoming, SizeHint};
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite};
use tokio::time::{Instant, interval, sleep};

use super::responder::{CLOSING_TIME, MAX_PAUSES, Responder};
use crate::api::connection::{Disconnect, OwnLists};
use crate::metrics::Limit;
use crate::node::in_flight::{Account, keep_until_sent};
use crate::node::lifecycle::Phase;
use crate::node::limits::{HTTP2_SEND_BYTES, MAX_BUFFER_BYTES, MAX_STREAMS, http2_window};

/// The first bytes of a connection of HTTP/2.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Checks for silence and stalls within the longest time that one may last.
const LOOKS: u32 = 4;

/// Whether a connection begins with the preface of HTTP/2. Reads no more bytes than it needs, after those of `read`.
pub(crate) async fn begins(stream: &mut (impl AsyncRead + Unpin), read: &mut Vec<u8>) -> bool {
    let mut piece = [0; PREFACE.len()];
    while read.len() < PREFACE.len() && PREFACE.starts_with(read) {
        let missing = PREFACE.len() - read.len();
        match stream.read(&mut piece[..missing]).await {
            Ok(0) | Err(_) => return false,
            Ok(got) => read.extend_from_slice(&piece[..got]),
        }
    }
    read.starts_with(PREFACE)
}

/// Serves a connection of HTTP/2.
pub(super) async fn serve<S>(responder: Responder, stream: S, client: Disconnect)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let node = Arc::clone(&responder.node);
    let (port, idle_timeout, lifecycle) = (responder.port, node.config.idle_timeout, &node.lifecycle);
    let account = Account::new(Arc::clone(node.in_flight(port)));
    let streams = Arc::new(Streams::new());
    let begun = Arc::clone(&streams);
    let own_lists = OwnLists::new();
    let handler = responder.clone();
    let service = service_fn(move |mut request: Request<Incoming>| {
        let mut stream = begun.begin();
        request.extensions_mut().insert(own_lists.clone());
        request.extensions_mut().insert(account.clone());
        let response = handler.respond(request);
        async move {
            let response = response.await;
            stream.is_answered();
            Ok::<_, std::convert::Infallible>(response.map(|body| Sending { body, stream: Arc::new(stream) }))
        }
    });
    let http = http2::Builder::new(TokioExecutor::new())
        .max_concurrent_streams(MAX_STREAMS)
        // as with HTTP/1.1: the node rejects a head over its limit with a text, and the library only a far longer one
        .max_header_list_size(u32::try_from(MAX_BUFFER_BYTES).unwrap_or(u32::MAX))
        .initial_stream_window_size(http2_window(port))
        .initial_connection_window_size(http2_window(port))
        .max_send_buf_size(HTTP2_SEND_BYTES)
        .serve_connection(TokioIo::new(stream), service);
    let mut http = std::pin::pin!(http);
    let mut look = interval(idle_timeout / LOOKS);
    let (mut is_leaving, mut is_silent) = (false, false);
    // ends a connection that has to end, unless a request is still being answered
    let mut patience = std::pin::pin!(sleep(Duration::MAX));
    let (mut sent, mut pauses) = (0, 0);
    loop {
        tokio::select! {
            ended = http.as_mut() => {
                if let Err(error) = ended {
                    tracing::debug!(%error, "connection ended early");
                }
                break;
            }
            // the next request of the client goes to another node
            () = lifecycle.reached(Phase::Draining), if !is_leaving => {
                http.as_mut().graceful_shutdown();
                is_leaving = true;
            }
            () = lifecycle.reached(Phase::Closing), if patience.deadline() > Instant::now() + CLOSING_TIME => {
                patience.as_mut().reset(Instant::now() + CLOSING_TIME);
            }
            () = patience.as_mut() => {
                pauses = if client.sent() > sent { 0 } else { pauses + 1 };
                sent = client.sent();
                let takes = !streams.are_taken() && pauses <= MAX_PAUSES;
                if takes || !streams.are_answered() {
                    patience.as_mut().reset(Instant::now() + CLOSING_TIME);
                    continue;
                }
                break;
            }
            _ = look.tick() => match streams.look(idle_timeout) {
                Look::Silent if !is_silent => {
                    is_silent = true;
                    node.metrics.hit(Limit::IdleTime);
                    http.as_mut().graceful_shutdown();
                    is_leaving = true;
                    patience.as_mut().reset(Instant::now() + CLOSING_TIME);
                }
                Look::Stalled => {
                    node.metrics.hit(Limit::WriteTime);
                    break;
                }
                Look::Fine | Look::Silent => {}
            }
        }
    }
}

/// The state of the requests of one connection.
struct Streams(Mutex<State>);

struct State {
    /// Requests that are being answered, also parked ones.
    asked: usize,
    /// The times of the answers that the client has not taken yet, each by its own number.
    untaken: BTreeMap<u64, Instant>,
    next: u64,
    /// The time since which there is neither.
    silent_since: Instant,
}

enum Look {
    Fine,
    /// There was no request for too long.
    Silent,
    /// The client does not take an answer.
    Stalled,
}

impl Streams {
    fn new() -> Self {
        let now = Instant::now();
        Self(Mutex::new(State { asked: 0, untaken: BTreeMap::new(), next: 0, silent_since: now }))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn begin(self: &Arc<Self>) -> Stream {
        self.lock().asked += 1;
        Stream { streams: Arc::clone(self), answer: None }
    }

    fn are_answered(&self) -> bool {
        self.lock().asked == 0
    }

    fn are_taken(&self) -> bool {
        let state = self.lock();
        state.asked == 0 && state.untaken.is_empty()
    }

    fn look(&self, patience: Duration) -> Look {
        let state = self.lock();
        match state.untaken.first_key_value() {
            Some((_, since)) if since.elapsed() >= patience => Look::Stalled,
            None if state.asked == 0 && state.silent_since.elapsed() >= patience => Look::Silent,
            _ => Look::Fine,
        }
    }
}

/// One request, until its response is taken or dropped.
struct Stream {
    streams: Arc<Streams>,
    /// The number of its answer, once there is one.
    answer: Option<u64>,
}

impl Stream {
    fn is_answered(&mut self) {
        let mut state = self.streams.lock();
        state.asked -= 1;
        state.next += 1;
        let number = state.next;
        state.untaken.insert(number, Instant::now());
        self.answer = Some(number);
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        let mut state = self.streams.lock();
        match self.answer {
            Some(number) => drop(state.untaken.remove(&number)),
            None => state.asked -= 1,
        }
        state.silent_since = Instant::now();
    }
}

/// A body that counts as under way until the library has sent all of it. The library takes a piece as soon as the
/// client has room for a byte, so each piece counts too.
struct Sending {
    body: Body,
    stream: Arc<Stream>,
}

impl hyper::body::Body for Sending {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(cx));
        let stream = &self.stream;
        Poll::Ready(frame.map(|frame| {
            frame.map(|frame| frame.map_data(|bytes| keep_until_sent(bytes, Arc::clone(stream))))
        }))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn knows_the_preface_however_it_comes_and_loses_nothing() {
        for bytes in [
            PREFACE,
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\nmore",
            b"PUT / HTTP/1.1",
            b"PRI * HTTP/1.1\r\n",
            b"PRI",
            b"",
        ] {
            for cut in 0..=bytes.len() {
                let mut rest = &bytes[cut..];
                let mut read = bytes[..cut].to_vec();
                let found = begins(&mut rest, &mut read).await;
                assert_eq!(found, bytes.starts_with(PREFACE), "{bytes:?} cut at {cut}");
                assert_eq!([&read, rest].concat(), bytes);
                assert!(read.len() <= cut.max(PREFACE.len()));
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_parked_request_is_not_silence_and_an_untaken_answer_is_a_stall() {
        let streams = Arc::new(Streams::new());
        let second = Duration::from_secs(1);
        let pass = || tokio::time::advance(second);
        let mut parked = streams.begin();
        pass().await;
        assert!(matches!(streams.look(second), Look::Fine));
        parked.is_answered();
        assert!(matches!(streams.look(second), Look::Fine));
        let other = streams.begin();
        pass().await;
        assert!(matches!(streams.look(second), Look::Stalled), "whatever other requests there are");
        drop(parked);
        assert!(matches!(streams.look(second), Look::Fine));
        drop(other);
        assert!(matches!(streams.look(second), Look::Fine) && streams.are_answered());
        pass().await;
        assert!(matches!(streams.look(second), Look::Silent));
    }
}
