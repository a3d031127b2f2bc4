//! TLS of a port: what a new connection begins with, and the handshake.

use std::io;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::closing::end;
use super::responder::{LAST_WORDS_TIME, Responder};
use crate::metrics::Limit;
use crate::metrics::tls::TlsFailure;
use crate::node::lifecycle::Phase;
use crate::tls::{ServerTls, Session};
use crate::wire::error_code::ErrorCode;

/// Longest time from the first byte of a connection to the end of its handshake; less if `--idle-timeout` is.
const MAX_HANDSHAKE_TIME: Duration = Duration::from_secs(10);

/// The first byte of a connection with TLS: a record of the handshake.
pub(super) const HANDSHAKE: u8 = 0x16;

/// Bytes of a handshake that are read at once.
const HANDSHAKE_READ_BYTES: usize = 2 * 1024;

/// The text for a request without TLS.
const USE_HTTPS: &str = "this port speaks TLS: got a request without it: use https://\n";

/// A connection that goes on with requests.
pub(super) enum Begun {
    /// Without TLS, while the port takes that too.
    Plain(TcpStream),
    /// With TLS.
    Tls {
        /// Its socket.
        stream: TcpStream,
        /// The session over it.
        session: Box<Session>,
        /// The port needs a certificate of the client, which has shown none.
        lacks_certificate: bool,
    },
}

/// Waits for the beginning of a connection of a port with TLS, and for the end of the handshake. `None` if there are no
/// requests to serve: the failure is counted, and the client has its answer, if there is one for it.
pub(super) async fn begin(responder: &Responder, tls: &ServerTls, mut stream: TcpStream) -> Option<Begun> {
    let node = &responder.node;
    let (port, metrics) = (responder.port, &node.metrics);
    let fail = |why| metrics.tls.failed(port, why);
    let patience = MAX_HANDSHAKE_TIME.min(node.config.idle_timeout);
    let beginning = async {
        let mut first = [0];
        match stream.peek(&mut first).await {
            Ok(1) => Some(first[0]),
            _ => None,
        }
    };
    let first = tokio::select! {
        first = timeout(patience, beginning) => first,
        () = node.lifecycle.reached(Phase::Closing) => return None,
    };
    match first {
        Err(_) => {
            metrics.hit(Limit::IdleTime);
            fail(TlsFailure::Slow);
            return None;
        }
        // a port scanner, or the probe of a load balancer
        Ok(None) => {
            fail(TlsFailure::Closed);
            return None;
        }
        Ok(Some(HANDSHAKE)) => {}
        Ok(Some(_)) if tls.takes_plain() => return Some(Begun::Plain(stream)),
        Ok(Some(first)) => {
            fail(TlsFailure::PlainRequest);
            if first.is_ascii_alphabetic() {
                let _ = timeout(LAST_WORDS_TIME, use_https(stream)).await;
            }
            return None;
        }
    }
    let shaken = tokio::select! {
        shaken = timeout(patience, shake_hands(&mut stream, tls)) => shaken,
        () = node.lifecycle.reached(Phase::Closing) => return None,
    };
    match shaken {
        Err(_) => {
            metrics.hit(Limit::IdleTime);
            fail(TlsFailure::Slow);
            None
        }
        Ok(Err(error)) => {
            tracing::debug!(%error, "no TLS with a client");
            fail(match error.kind() {
                io::ErrorKind::InvalidData => TlsFailure::Handshake,
                _ => TlsFailure::Closed,
            });
            None
        }
        Ok(Ok(session)) => {
            metrics.tls.agreed(port);
            let lacks_certificate = tls.needs_certificate() && !session.has_certificate();
            Some(Begun::Tls { stream, session, lacks_certificate })
        }
    }
}

/// Reads and writes until both sides have agreed. The session may have decrypted the beginning of a request by then.
async fn shake_hands(stream: &mut TcpStream, tls: &ServerTls) -> io::Result<Box<Session>> {
    let mut session = Box::new(tls.session().map_err(io::Error::other)?);
    let mut bytes = [0; HANDSHAKE_READ_BYTES];
    while session.is_handshaking() {
        let read = stream.read(&mut bytes).await?;
        if read == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let received = session.receive(&mut bytes[..read]);
        // also if it failed: the last words say why
        let sent = stream.write_all(session.unsent()).await;
        session.sent(session.unsent().len());
        received.and(sent)?;
    }
    Ok(session)
}

async fn use_https(mut stream: TcpStream) -> io::Result<()> {
    let answer = format!(
        "HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain; charset=utf-8\r\nX-Vwatch-Error: {}\r\n\
         Connection: close\r\nContent-Length: {}\r\n\r\n{USE_HTTPS}",
        ErrorCode::UseHttps.as_str(),
        USE_HTTPS.len()
    );
    stream.write_all(answer.as_bytes()).await?;
    end(&mut stream).await
}
