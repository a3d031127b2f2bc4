//! The bytes of a connection to a node, with TLS or without.

use std::io;

use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;
use tokio_util::either::Either;

use super::address::NodeAddress;
use crate::tls::advice;

/// The bytes of a connection to a node: as they are, or encrypted.
pub(super) type Socket = Either<TcpStream, Box<TlsStream<TcpStream>>>;

/// Why there is no connection, for humans.
pub(super) enum NoSocket {
    /// The address does not accept it.
    Unreachable(String),
    /// It does, and there is no TLS with it: the reason says what to do.
    NoTls(String),
}

/// Connects, and speaks TLS if the URL is `https://`.
///
/// # Errors
/// If there is no connection.
pub(super) async fn connect(address: &NodeAddress) -> Result<Socket, NoSocket> {
    let stream = TcpStream::connect(address.socket).await.map_err(|error| {
        NoSocket::Unreachable(match error.kind() {
            io::ErrorKind::ConnectionRefused => "connection refused".to_owned(),
            _ => error.to_string(),
        })
    })?;
    // a request is one small write: waiting to fill a packet only adds delay
    let _ = stream.set_nodelay(true);
    let url = &address.url;
    if !url.is_https {
        return Ok(Either::Left(stream));
    }
    let tls = url.tls.as_ref().ok_or_else(|| NoSocket::NoTls(no_settings()))?;
    match tls.connect(&url.host, stream).await {
        Ok(stream) => Ok(Either::Right(Box::new(stream))),
        Err(error) => Err(NoSocket::NoTls(refused(&error))),
    }
}

fn no_settings() -> String {
    "it speaks TLS, and this client was made for none: name it with https://".to_owned()
}

/// Why there is no TLS with a node that accepts connections.
fn refused(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe => {
            "it closes the connection instead of speaking TLS: if this port speaks none, use http://"
                .to_owned()
        }
        _ => advice(error).unwrap_or_else(|| format!("no TLS with it: {error}")),
    }
}
