//! The bytes of a connection to a node: as they are, or encrypted.

use std::io::{self, ErrorKind, Read, Write};
use std::net::TcpStream as StdTcpStream;
use std::time::Duration;

use mio::net::TcpStream;
use rustls::ClientConnection;

use crate::client::url::Url;
use crate::tls::advice;

/// A socket, blocking or not, with TLS if the URL of its node is `https://`.
///
/// With TLS a write takes all bytes, and sends what the socket takes: the next read or flush sends the rest. A short
/// read has emptied the socket only without TLS.
pub(super) struct Channel<S> {
    socket: S,
    tls: Option<Box<ClientConnection>>,
}

impl Channel<StdTcpStream> {
    /// A blocking connection, once both sides have agreed on TLS.
    pub(super) fn blocking(mut socket: StdTcpStream, url: &Url) -> io::Result<Self> {
        let mut tls = connection(url)?;
        if let Some(tls) = &mut tls {
            while tls.is_handshaking() {
                tls.complete_io(&mut socket).map_err(explained)?;
            }
        }
        Ok(Self { socket, tls })
    }

    /// How long a read and a write may block.
    pub(super) fn set_timeouts(&self, time: Duration) -> io::Result<()> {
        self.socket.set_read_timeout(Some(time))?;
        self.socket.set_write_timeout(Some(time))
    }

    /// The same for an event loop.
    pub(super) fn into_nonblocking(self) -> io::Result<Channel<TcpStream>> {
        self.socket.set_nonblocking(true)?;
        Ok(Channel { socket: TcpStream::from_std(self.socket), tls: self.tls })
    }

    /// Whether the node has closed the connection. The connection waits again behind that.
    pub(super) fn is_closed(&mut self) -> bool {
        let looked = self.socket.set_nonblocking(true).and_then(|()| match &mut self.tls {
            None => self.socket.peek(&mut [0]),
            // the node sends more than answers, and the end of TLS comes before that of the socket
            Some(tls) => match receive(tls, &mut self.socket) {
                Ok(got) if tls.process_new_packets().is_ok_and(|state| !state.peer_has_closed()) => Ok(got),
                Ok(_) => Ok(0),
                Err(error) => Err(error),
            },
        });
        let waits = self.socket.set_nonblocking(false);
        waits.is_err() || matches!(looked, Ok(0)) || looked.is_err_and(|error| !is_pause(&error))
    }
}

impl Channel<TcpStream> {
    /// A connection that is being opened.
    pub(super) fn begun(socket: TcpStream, url: &Url) -> io::Result<Self> {
        Ok(Self { socket, tls: connection(url)? })
    }

    /// The error of the socket, if it has one.
    pub(super) fn take_error(&self) -> Option<io::Error> {
        self.socket.take_error().unwrap_or_else(Some)
    }

    /// The socket, for an event loop.
    pub(super) fn socket(&mut self) -> &mut TcpStream {
        &mut self.socket
    }

    /// Goes on with the handshake. Returns whether requests can be sent.
    pub(super) fn is_open(&mut self) -> io::Result<bool> {
        match self.socket.peer_addr() {
            Err(error) if error.kind() == ErrorKind::NotConnected => return Ok(false),
            other => other?,
        };
        let Self { socket, tls } = self;
        let Some(tls) = tls else { return Ok(true) };
        loop {
            send(tls, socket)?;
            if !tls.is_handshaking() {
                return Ok(true);
            }
            match receive(tls, socket) {
                Ok(0) => return Err(hung_up()),
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(false),
                Err(error) => return Err(error),
            }
        }
    }
}

impl<S> Channel<S> {
    /// Whether it speaks TLS.
    pub(super) fn is_tls(&self) -> bool {
        self.tls.is_some()
    }
}

impl<S: Read + Write> Read for Channel<S> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let Self { socket, tls } = self;
        let Some(tls) = tls else { return socket.read(buffer) };
        loop {
            send(tls, socket)?;
            match tls.reader().read(buffer) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                // an end without the one of TLS is an end too: the answers say themselves how long they are
                Err(error) if error.kind() == ErrorKind::UnexpectedEof => return Ok(0),
                done => return done,
            }
            if receive(tls, socket)? == 0 {
                return Ok(0);
            }
        }
    }
}

impl<S: Read + Write> Write for Channel<S> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let Self { socket, tls } = self;
        let Some(tls) = tls else { return socket.write(bytes) };
        let taken = tls.writer().write(bytes)?;
        send(tls, socket)?;
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        match &mut self.tls {
            Some(tls) => send(tls, &mut self.socket),
            None => Ok(()),
        }
    }
}

/// TLS with a node, before its first byte.
fn connection(url: &Url) -> io::Result<Option<Box<ClientConnection>>> {
    let Some(tls) = url.tls.as_ref().filter(|_| url.is_https) else { return Ok(None) };
    let mut connection = tls.connection(&url.host)?;
    // a write has to take a whole request, or many of them
    connection.set_buffer_limit(None);
    Ok(Some(Box::new(connection)))
}

/// Sends what the socket takes.
fn send(tls: &mut ClientConnection, socket: &mut impl Write) -> io::Result<()> {
    while tls.wants_write() {
        match tls.write_tls(socket) {
            Ok(_) => {}
            Err(error) if is_pause(&error) => return Ok(()),
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Takes what the socket has, and decrypts it. Returns the number of bytes, 0 at the end.
fn receive(tls: &mut ClientConnection, socket: &mut impl Read) -> io::Result<usize> {
    let got = tls.read_tls(socket)?;
    tls.process_new_packets().map_err(|error| explained(io::Error::new(ErrorKind::InvalidData, error)))?;
    Ok(got)
}

fn hung_up() -> io::Error {
    io::Error::new(
        ErrorKind::UnexpectedEof,
        "it closes the connection instead of speaking TLS: if this port speaks none, use http://",
    )
}

/// An error of TLS in words.
fn explained(error: io::Error) -> io::Error {
    match advice(&error) {
        Some(text) => io::Error::new(error.kind(), text),
        None if error.kind() == ErrorKind::UnexpectedEof => hung_up(),
        None => error,
    }
}

/// Whether a call ended because of its timeout or a signal.
pub(super) fn is_pause(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted)
}
