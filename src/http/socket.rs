//! The socket of a connection, with the session over it if it speaks TLS.

use std::io::{self, ErrorKind, IoSlice, Read as _, Write as _};
use std::net::Shutdown;

use mio::net::TcpStream;

use crate::http::tls_stream::write_record;
use crate::tls::{MAX_UNSENT_BYTES, Session};

/// The socket of a connection, for a moment.
pub(crate) struct Socket<'a> {
    /// The socket.
    pub(crate) stream: &'a mut TcpStream,
    /// The session over it.
    pub(crate) session: Option<&'a mut Session>,
}

/// What was read from a connection.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Received {
    /// So many bytes, and whether the socket may have more, of which there is no other event.
    Bytes(usize, bool),
    /// Nothing that a request consists of, and whether the socket may have more, of which there is no other event.
    Nothing(bool),
    /// The end.
    End,
}

impl Socket<'_> {
    /// Reads once. `sealed` is used for encrypted bytes.
    ///
    /// # Errors
    /// Those of the system; [`ErrorKind::InvalidData`] if it is not TLS.
    pub(crate) fn read(&mut self, into: &mut [u8], sealed: &mut [u8]) -> io::Result<Received> {
        let Some(session) = self.session.as_deref_mut() else {
            return Ok(match read(self.stream, into)? {
                None => Received::Nothing(false),
                Some(0) => Received::End,
                // a buffer that is full is noticed by the parser
                Some(bytes) => Received::Bytes(bytes, false),
            });
        };
        // what is left of an earlier read says nothing of the socket
        let mut more = !session.plain().is_empty();
        if session.plain().is_empty() {
            if session.is_ended() {
                return Ok(Received::End);
            }
            match read(self.stream, sealed)? {
                None => return Ok(Received::Nothing(false)),
                Some(0) => return Ok(Received::End),
                Some(bytes) => {
                    more = bytes == sealed.len();
                    let received = session.receive(&mut sealed[..bytes]);
                    self.answer_of_protocol();
                    received?;
                }
            }
        }
        let Some(session) = self.session.as_deref_mut() else { return Ok(Received::End) };
        Ok(match session.take(into) {
            0 if session.is_ended() => Received::End,
            0 => Received::Nothing(more),
            bytes => Received::Bytes(bytes, more || !session.plain().is_empty()),
        })
    }

    /// Sends what the protocol itself has to say, as far as the socket takes it; the rest goes with the next answer.
    fn answer_of_protocol(&mut self) {
        // a socket that fails is noticed by the next read
        let _ = self.flush();
    }

    /// Writes bytes, as many as the socket takes. Over TLS it may have taken bytes that are not sent yet: see
    /// [`Self::flush`].
    ///
    /// # Errors
    /// Those of the system; [`ErrorKind::WouldBlock`] if it took none.
    pub(crate) fn write(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        let Some(session) = self.session.as_deref_mut() else {
            return loop {
                let written = match slices {
                    [one] => self.stream.write(one),
                    _ => self.stream.write_vectored(slices),
                };
                match written {
                    Err(error) if error.kind() == ErrorKind::Interrupted => {}
                    other => break other,
                }
            };
        };
        if !flush(self.stream, session)? {
            return Err(ErrorKind::WouldBlock.into());
        }
        let mut rest = [IoSlice::new(&[]); MAX_SLICES];
        let rest = &mut rest[..slices.len().min(MAX_SLICES)];
        rest.copy_from_slice(&slices[..rest.len()]);
        let mut rest = rest;
        let mut taken = 0;
        loop {
            let bytes = write_record(session, rest)?;
            taken += bytes;
            IoSlice::advance_slices(&mut rest, bytes);
            if bytes == 0 || !flush(self.stream, session)? {
                return Ok(taken);
            }
        }
    }

    /// Whether the socket has taken all that was written.
    ///
    /// # Errors
    /// Those of the system.
    pub(crate) fn flush(&mut self) -> io::Result<bool> {
        match self.session.as_deref_mut() {
            Some(session) => flush(self.stream, session),
            None => Ok(true),
        }
    }

    /// Whether the beginning of a record has come without its end.
    pub(crate) fn has_partial_record(&self) -> bool {
        self.session.as_ref().is_some_and(|session| session.has_partial_record())
    }

    /// Whether the client has said that it sends nothing more.
    pub(crate) fn has_ended(&self) -> bool {
        self.session.as_ref().is_some_and(|session| session.is_ended())
    }

    /// Says the last words of the protocol, if the socket takes them.
    pub(crate) fn say_farewell(&mut self) {
        if let Some(session) = self.session.as_deref_mut() {
            session.close();
            let _ = flush(self.stream, session);
        }
    }

    /// Ends the direction of the answers.
    pub(crate) fn shut_down(&mut self) {
        self.say_farewell();
        let _ = self.stream.shutdown(Shutdown::Write);
    }
}

/// Most pieces of an answer that are written at once.
const MAX_SLICES: usize = crate::node::chunks::CHUNKS_PER_WRITE;

/// Sends what is encrypted. Whether the socket took all of it.
fn flush(stream: &mut TcpStream, session: &mut Session) -> io::Result<bool> {
    while !session.unsent().is_empty() {
        match stream.write(session.unsent()) {
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                // more than an answer: a client asks for answers of the protocol and takes none
                return match session.unsent().len() > 2 * MAX_UNSENT_BYTES {
                    true => Err(ErrorKind::InvalidData.into()),
                    false => Ok(false),
                };
            }
            Err(error) => return Err(error),
            Ok(sent) => session.sent(sent),
        }
    }
    Ok(true)
}

/// Reads once. `None` if there is nothing yet.
fn read(stream: &mut TcpStream, into: &mut [u8]) -> io::Result<Option<usize>> {
    loop {
        match stream.read(into) {
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(None),
            other => return other.map(Some),
        }
    }
}
