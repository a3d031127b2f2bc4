//! The ordinary path of a connection: an HTTP library that reads everything, and the service that answers.

use std::io;
use std::sync::Arc;

use hyper::body::Bytes;
use tokio::io::{AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};

use super::closing::end;
use super::connection_limit::Permit;
use super::responder::{CLOSING_TIME, LAST_WORDS_TIME, Responder};
use super::resumed::Resumed;
use super::tls::Begun;
use super::tls_stream::TlsStream;
use super::transport::Transport;
use super::write_timeout::WriteTimeout;
use super::{http1, http2, tls};
use crate::api::connection::Disconnect;
use crate::metrics::Limit;
use crate::metrics::tls::TlsFailure;
use crate::node::lifecycle::Phase;
use crate::tls::Session;

/// A connection that the fast path has handed over.
#[derive(Debug)]
pub(crate) struct Handover {
    /// The connection.
    pub(crate) stream: std::net::TcpStream,
    /// Its permit.
    pub(crate) permit: Permit,
    /// Bytes that were read and are not answered.
    pub(crate) read: Vec<u8>,
    /// The rest of an answer that is sent first.
    pub(crate) unsent: Unsent,
    /// The session, if it speaks TLS.
    pub(crate) session: Option<Box<Session>>,
}

/// The rest of an answer that a connection did not take at once.
#[derive(Debug, Default)]
pub(crate) struct Unsent {
    /// Its beginning.
    pub(crate) bytes: Vec<u8>,
    /// The rest.
    pub(crate) body: Bytes,
    /// It is the last answer.
    pub(crate) is_last: bool,
}

/// Passes a connection to the fast path, after its handshake if it has a session.
pub(super) type Enter = Arc<dyn Fn(TcpStream, Permit, Option<Box<Session>>) + Send + Sync>;

/// Serves a connection that was just accepted. The fast path gets it after its handshake, if the port has one.
pub(super) async fn serve(responder: Responder, stream: TcpStream, permit: Permit, fast_path: Option<Enter>) {
    let Some(begun) = begin(&responder, stream).await else { return drop(permit) };
    match (begun, fast_path) {
        (Begun::Plain(stream), Some(enter)) => enter(stream, permit, None),
        (Begun::Tls { stream, session, lacks_certificate: false }, Some(enter)) if !session.is_http2() => {
            enter(stream, permit, Some(session));
        }
        (begun, _) => {
            serve_begun(responder, begun).await;
            drop(permit);
        }
    }
}

/// Serves a connection that was just accepted, on the ordinary path.
pub(super) async fn serve_new(responder: Responder, stream: TcpStream) {
    if let Some(begun) = begin(&responder, stream).await {
        serve_begun(responder, begun).await;
    }
}

/// Waits for the handshake of a port that speaks TLS.
async fn begin(responder: &Responder, stream: TcpStream) -> Option<Begun> {
    match responder.node.tls.of(responder.port).cloned() {
        // apart, so that its size is not that of every connection
        Some(tls) => Box::pin(tls::begin(responder, &tls, stream)).await,
        None => Some(Begun::Plain(stream)),
    }
}

async fn serve_begun(responder: Responder, begun: Begun) {
    match begun {
        Begun::Plain(stream) => serve_from(responder.of_connection(&stream), stream, Vec::new()).await,
        Begun::Tls { stream, session, lacks_certificate } => {
            let responder = responder.of_connection(&stream);
            let responder = if lacks_certificate { responder.without_certificate() } else { responder };
            let (stream, disconnect) = timed(&responder, stream);
            serve_transport(
                responder,
                Transport::Right(TlsStream::new(stream, session)),
                disconnect,
                Vec::new(),
            )
            .await;
        }
    }
}

fn timed(responder: &Responder, stream: TcpStream) -> (WriteTimeout, Disconnect) {
    WriteTimeout::new(stream, responder.node.config.idle_timeout, Arc::clone(&responder.node.metrics))
}

/// Serves a connection from the fast path.
pub(super) async fn resume(responder: Responder, handover: Handover) {
    let Handover { stream, permit, read, unsent, session } = handover;
    let Ok(stream) = TcpStream::from_std(stream) else { return };
    let responder = responder.of_connection(&stream);
    match session {
        None => resume_on(responder, stream, unsent, read).await,
        // apart, so that its size is not that of every connection
        Some(session) => Box::pin(resume_session(responder, stream, session, unsent, read)).await,
    }
    drop(permit);
}

async fn resume_on(responder: Responder, mut stream: TcpStream, unsent: Unsent, read: Vec<u8>) {
    // The runtime does not know yet that a new socket is writable. The library ends some connections without waiting
    // for that (a request with `Upgrade`, or a body that is not read), and their answer would be lost.
    let sending = async {
        send(&mut stream, &unsent).await?;
        if unsent.is_last { Ok(()) } else { stream.writable().await }
    };
    if was_sent(&responder, sending).await {
        match unsent.is_last {
            true => drop(timeout(LAST_WORDS_TIME, end(&mut stream)).await),
            false => serve_from(responder, stream, read).await,
        }
    }
}

async fn resume_session(
    responder: Responder,
    stream: TcpStream,
    session: Box<Session>,
    unsent: Unsent,
    read: Vec<u8>,
) {
    // as without TLS
    if !was_sent(&responder, stream.writable()).await {
        return;
    }
    let (stream, disconnect) = timed(&responder, stream);
    let mut stream = TlsStream::new(stream, session);
    if was_sent(&responder, send(&mut stream, &unsent)).await {
        match unsent.is_last {
            true => drop(timeout(LAST_WORDS_TIME, end(&mut stream)).await),
            false => serve_transport(responder, Transport::Right(stream), disconnect, read).await,
        }
    }
}

/// Whether the client has taken what is sent, in time.
async fn was_sent(responder: &Responder, sending: impl Future<Output = io::Result<()>>) -> bool {
    match timeout(responder.node.config.idle_timeout, sending).await {
        Ok(Ok(())) => return true,
        Ok(Err(error)) => tracing::debug!(%error, "connection ended early"),
        Err(_) => responder.node.metrics.hit(Limit::WriteTime),
    }
    false
}

/// Serves a connection without TLS. `read` are the bytes that were read already.
pub(super) async fn serve_from(responder: Responder, stream: TcpStream, read: Vec<u8>) {
    let (stream, disconnect) = timed(&responder, stream);
    serve_transport(responder, Transport::Left(stream), disconnect, read).await;
}

/// Serves the requests of a connection. `read` are the bytes that were read already.
pub(super) async fn serve_transport(
    responder: Responder,
    mut stream: Transport,
    disconnect: Disconnect,
    mut read: Vec<u8>,
) {
    let closing = async {
        responder.node.lifecycle.reached(Phase::Closing).await;
        sleep(CLOSING_TIME).await;
    };
    let is_http2 = tokio::select! {
        is_http2 = timeout(responder.node.config.idle_timeout, http2::begins(&mut stream, &mut read)) => is_http2,
        () = closing => return,
    };
    let Ok(is_http2) = is_http2 else { return responder.node.metrics.hit(Limit::IdleTime) };
    if read.first() == Some(&tls::HANDSHAKE) {
        return responder.node.metrics.tls.failed(responder.port, TlsFailure::PlainPort);
    }
    let stream = Resumed { stream, read, at: 0 };
    if is_http2 {
        // apart, so that its size is not that of every connection
        Box::pin(http2::serve(responder, stream, disconnect)).await;
    } else {
        http1::serve(responder, stream, disconnect).await;
    }
}

/// Sends the rest of an answer.
async fn send(stream: &mut (impl AsyncWrite + Unpin), unsent: &Unsent) -> io::Result<()> {
    stream.write_all(&unsent.bytes).await?;
    stream.write_all(&unsent.body).await?;
    stream.flush().await
}
