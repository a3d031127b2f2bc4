//! The ordinary path of a connection: an HTTP library that reads everything, and the service that answers.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::Body;
use axum::response::Response;
use hyper::Request;
use hyper::body::{Bytes, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};

use super::turn_away::{Scope, health_only};
use crate::api::Service;
use crate::api::connection::HangUp;
use crate::api::state::Node;
use crate::http::acceptor::OpenGuard;
use crate::http::connection_limit::Place;
use crate::http::error_body::Spoken;
use crate::http::http2;
use crate::http::write_timeout::Impatient;
use crate::metrics::{Limit, Port};
use crate::node::in_flight::Account;
use crate::node::lifecycle::Phase;
use crate::node::limits::MAX_BUFFER_BYTES;

/// At the end a connection without a request that is being answered has this long to go.
pub(crate) const CLOSING_TIME: Duration = Duration::from_millis(500);

/// So many of these times it may pause in taking an answer.
pub(crate) const MAX_PAUSES: u32 = 3;

/// How long one that has its last answer may take to end as well.
pub(crate) const LAST_WORDS_TIME: Duration = Duration::from_secs(1);

/// Serves connections by the ordinary path. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Ordinary {
    /// Answers requests.
    pub(crate) service: Service,
    /// Which of them.
    pub(crate) scope: Scope,
    /// The port of the connections.
    pub(crate) port: Port,
    /// The node that they are to.
    pub(crate) node: Arc<Node>,
    /// Held while a connection is open.
    pub(crate) _open: OpenGuard,
}

/// A connection that comes from the front, which does not go on with it.
#[derive(Debug)]
pub(crate) struct Handover {
    /// The connection.
    pub(crate) stream: std::net::TcpStream,
    /// Its place.
    pub(crate) place: Place,
    /// What was read of it and is not answered.
    pub(crate) read: Vec<u8>,
    /// What it has yet to be sent before anything else.
    pub(crate) unsent: Unsent,
}

/// The rest of an answer that a connection did not take at once.
#[derive(Debug, Default)]
pub(crate) struct Unsent {
    /// Its beginning.
    pub(crate) bytes: Vec<u8>,
    /// What follows.
    pub(crate) body: Bytes,
    /// It is the last answer.
    pub(crate) is_last: bool,
}

impl Ordinary {
    /// The response to a request.
    pub(super) fn respond(
        &self,
        request: Request<Incoming>,
    ) -> impl Future<Output = Response> + Send + use<> {
        let (service, scope) = (self.service.clone(), self.scope);
        async move {
            match scope {
                Scope::All => service.respond(request).await,
                Scope::Health => health_only(service, request).await,
            }
        }
    }

    /// Serves a connection that was just accepted.
    pub(crate) async fn serve(self, stream: TcpStream, place: Place) {
        self.serve_from(stream, Vec::new()).await;
        drop(place);
    }

    /// Goes on with a connection from the front.
    pub(crate) async fn go_on(self, handover: Handover) {
        let Handover { stream, place, read, unsent } = handover;
        let Ok(mut stream) = TcpStream::from_std(stream) else { return };
        match timeout(self.node.config.idle_timeout, send(&mut stream, &unsent)).await {
            Ok(Ok(())) if unsent.is_last => {
                let _ = timeout(LAST_WORDS_TIME, end(&mut stream)).await;
            }
            Ok(Ok(())) => self.serve_from(stream, read).await,
            Ok(Err(error)) => tracing::debug!(%error, "connection ended early"),
            Err(_) => self.node.metrics.hit(Limit::WriteTime),
        }
        drop(place);
    }

    /// Serves a connection of which this was read already.
    pub(crate) async fn serve_from(self, stream: TcpStream, mut read: Vec<u8>) {
        let (mut stream, hang_up) =
            Impatient::new(stream, self.node.config.idle_timeout, Arc::clone(&self.node.metrics));
        let closing = async {
            self.node.lifecycle.reached(Phase::Closing).await;
            sleep(CLOSING_TIME).await;
        };
        let is_http2 = tokio::select! {
            is_http2 = timeout(self.node.config.idle_timeout, http2::begins(&mut stream, &mut read)) => is_http2,
            () = closing => return,
        };
        let Ok(is_http2) = is_http2 else { return self.node.metrics.hit(Limit::IdleTime) };
        let stream = Resumed { stream, read, at: 0 };
        if is_http2 {
            // apart, so that its size is not that of every connection
            Box::pin(self.serve_http2(stream, hang_up)).await;
        } else {
            self.serve_http1(stream, hang_up).await;
        }
    }

    async fn serve_http1(self, stream: Resumed, hang_up: HangUp) {
        let account = Account::new(Arc::clone(self.node.in_flight(self.port)));
        let stream = Spoken::new(stream, self.port, Arc::clone(&self.node.metrics), account.clone());
        let answering = Arc::new(AtomicBool::new(false));
        let is_answering = Arc::clone(&answering);
        let client = hang_up.clone();
        let handler = self.clone();
        let service = service_fn(move |mut request: Request<Incoming>| {
            request.extensions_mut().insert(hang_up.clone());
            request.extensions_mut().insert(account.clone());
            answering.store(true, Ordering::Relaxed);
            let response = handler.respond(request);
            let answering = Arc::clone(&answering);
            async move {
                let response = response.await;
                answering.store(false, Ordering::Relaxed);
                Ok::<Response<Body>, std::convert::Infallible>(response)
            }
        });
        let http = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(self.node.config.idle_timeout)
            .max_buf_size(MAX_BUFFER_BYTES)
            // as Go writes them, for who compares them by eye or by a careless script
            .title_case_headers(true)
            .serve_connection(TokioIo::new(stream), service);
        let mut http = std::pin::pin!(http);
        let ended = tokio::select! {
            ended = http.as_mut() => ended,
            () = self.node.lifecycle.reached(Phase::Closing) => {
                http.as_mut().graceful_shutdown();
                let mut pauses = 0;
                loop {
                    let sent = client.sent();
                    match timeout(CLOSING_TIME, http.as_mut()).await {
                        Ok(ended) => break ended,
                        Err(_) if is_answering.load(Ordering::Relaxed) => {}
                        Err(_) if client.sent() > sent => pauses = 0,
                        Err(_) if client.is_full() && pauses < MAX_PAUSES => pauses += 1,
                        // half a head, or an answer that is not taken: neither is waited for
                        Err(_) => break Ok(()),
                    }
                }
            }
        };
        if let Err(error) = ended {
            if error.is_timeout() {
                self.node.metrics.hit(Limit::IdleTime);
            }
            // the other side hung up, was too slow or sent no HTTP: its business, and nothing to alarm anybody with
            tracing::debug!(%error, "connection ended early");
        }
    }
}

/// Sends what is left and, if more is to follow, waits until the socket takes it. One that the runtime has just got to know
/// is not known to be writable yet, and the library ends some connections (whose request has an `Upgrade`, or a body that
/// nobody waits for) without waiting for the socket: their answer would be lost.
async fn send(stream: &mut TcpStream, unsent: &Unsent) -> io::Result<()> {
    stream.write_all(&unsent.bytes).await?;
    stream.write_all(&unsent.body).await?;
    if unsent.is_last { Ok(()) } else { stream.writable().await }
}

/// Ends a connection behind its last answer, and waits until the other side has ended it too. What it sends is read, for
/// closing on unread bytes would reset the connection under the answer.
pub(crate) async fn end(stream: &mut TcpStream) -> io::Result<()> {
    stream.shutdown().await?;
    let mut scratch = [0; 1024];
    while stream.read(&mut scratch).await? > 0 {}
    Ok(())
}

/// A stream of which something was read already.
struct Resumed {
    stream: Impatient,
    read: Vec<u8>,
    at: usize,
}

impl AsyncRead for Resumed {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let rest = this.read.get(this.at..).unwrap_or_default();
        if rest.is_empty() {
            return Pin::new(&mut this.stream).poll_read(cx, buf);
        }
        let taken = rest.len().min(buf.remaining());
        buf.put_slice(&rest[..taken]);
        this.at += taken;
        if this.at == this.read.len() {
            this.read = Vec::new();
            this.at = 0;
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Resumed {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
