//! The ordinary path of a connection: an HTTP library that reads everything, and the service that answers.

use std::io;
use std::sync::Arc;

use hyper::body::Bytes;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};

use super::closing::end;
use super::connection_limit::Permit;
use super::responder::{CLOSING_TIME, LAST_WORDS_TIME, Responder};
use super::resumed::Resumed;
use super::tls::Begun;
use super::transport::Transport;
use super::write_timeout::WriteTimeout;
use super::{http1, http2, tls};
use crate::api::connection::Disconnect;
use crate::metrics::Limit;
use crate::metrics::tls::TlsFailure;
use crate::node::lifecycle::Phase;

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

/// Serves a connection that was just accepted.
pub(super) async fn serve(responder: Responder, stream: TcpStream, permit: Permit) {
    serve_new(responder, stream).await;
    drop(permit);
}

/// Serves a connection that was just accepted, with TLS if its port speaks it.
pub(super) async fn serve_new(responder: Responder, stream: TcpStream) {
    let responder = responder.of_connection(&stream);
    match responder.node.tls.of(responder.port).cloned() {
        // apart, so that its size is not that of every connection
        Some(tls) => match Box::pin(tls::begin(&responder, &tls, stream)).await {
            Some(Begun::Plain(stream)) => serve_from(responder, stream, Vec::new()).await,
            Some(Begun::Tls { stream, disconnect, lacks_certificate }) => {
                let responder = if lacks_certificate { responder.without_certificate() } else { responder };
                serve_transport(responder, stream, disconnect, Vec::new()).await;
            }
            None => {}
        },
        None => serve_from(responder, stream, Vec::new()).await,
    }
}

/// Serves a connection from the fast path.
pub(super) async fn resume(responder: Responder, handover: Handover) {
    let Handover { stream, permit, read, unsent } = handover;
    let Ok(mut stream) = TcpStream::from_std(stream) else { return };
    match timeout(responder.node.config.idle_timeout, send(&mut stream, &unsent)).await {
        Ok(Ok(())) if unsent.is_last => {
            let _ = timeout(LAST_WORDS_TIME, end(&mut stream)).await;
        }
        Ok(Ok(())) => serve_from(responder.of_connection(&stream), stream, read).await,
        Ok(Err(error)) => tracing::debug!(%error, "connection ended early"),
        Err(_) => responder.node.metrics.hit(Limit::WriteTime),
    }
    drop(permit);
}

/// Serves a connection without TLS. `read` are the bytes that were read already.
pub(super) async fn serve_from(responder: Responder, stream: TcpStream, read: Vec<u8>) {
    let (stream, disconnect) =
        WriteTimeout::new(stream, responder.node.config.idle_timeout, Arc::clone(&responder.node.metrics));
    serve_transport(responder, Transport::Plain(stream), disconnect, read).await;
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

/// Sends the rest of an answer and, if more follows, waits until the socket is writable. The runtime does not know yet
/// that a new socket is writable. The library ends some connections without waiting for that (a request with `Upgrade`,
/// or a body that is not read), and their answer would be lost.
async fn send(stream: &mut TcpStream, unsent: &Unsent) -> io::Result<()> {
    stream.write_all(&unsent.bytes).await?;
    stream.write_all(&unsent.body).await?;
    if unsent.is_last { Ok(()) } else { stream.writable().await }
}
