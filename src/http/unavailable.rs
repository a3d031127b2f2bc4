//! Responses of 503 that are written without the HTTP library.

use std::io::{self, IoSlice, Read};

use super::socket::Socket;
use crate::node::limits::RETRY_AFTER_S;
use crate::wire::error_code::ErrorCode;

/// The text for connections over the limit.
pub(crate) const TOO_MANY_CONNECTIONS: &str =
    "too many connections: this node is at its limit: use another node, or retry later\n";

/// A response of 503 with this code and text, after which the connection is closed.
pub(crate) fn unavailable(code: ErrorCode, text: &str) -> String {
    format!(
        "HTTP/1.1 503 Service Unavailable\r\nContent-Type: text/plain; charset=utf-8\r\nRetry-After: {RETRY_AFTER_S}\r\n\
         X-Vwatch-Error: {}\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{text}",
        code.as_str(),
        text.len()
    )
}

/// Rejects a connection with 503 without waiting: a new connection takes that at once. Reads the bytes of its request:
/// a close with unread bytes would reset the connection before the answer arrives.
pub(crate) fn reject_at_once(mut socket: Socket<'_>, code: ErrorCode, text: &str) -> io::Result<()> {
    socket.write(&[IoSlice::new(unavailable(code, text).as_bytes())])?;
    socket.shut_down();
    let mut scratch = [0; 4096];
    socket.stream.read(&mut scratch).map(drop)
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn a_connection_that_cannot_be_polled_gets_503_and_no_reset() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut client = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        client.write_all(b"GET /v1/versions/n HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
        let (stream, _) = listener.accept().unwrap();
        // the request has arrived
        stream.peek(&mut [0]).unwrap();
        stream.set_nonblocking(true).unwrap();
        let mut stream = mio::net::TcpStream::from_std(stream);
        let socket = Socket { stream: &mut stream, session: None };
        reject_at_once(socket, ErrorCode::TooManyConnections, TOO_MANY_CONNECTIONS).unwrap();
        drop(stream);
        let mut told = String::new();
        client.read_to_string(&mut told).unwrap();
        assert_eq!(told, unavailable(ErrorCode::TooManyConnections, TOO_MANY_CONNECTIONS));
    }
}
