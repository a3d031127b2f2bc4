//! The reader's end of a connection, with TLS or without.

use std::io::{self, Read as _, Write as _};
use std::os::unix::net::UnixStream;

use crate::tls::testing::Client;

/// The reader's end of a connection.
pub(super) struct Wire {
    socket: UnixStream,
    tls: Option<Client>,
}

impl Wire {
    pub(super) fn new(socket: UnixStream, tls: Option<Client>) -> Self {
        Self { socket, tls }
    }

    /// Sends a request.
    pub(super) fn send(&mut self, bytes: &[u8]) {
        let sealed = self.tls.as_mut().map(|tls| tls.seal(bytes));
        (&self.socket).write_all(sealed.as_deref().unwrap_or(bytes)).expect("room for a head");
    }

    /// Reads once, so many bytes of the socket at most. Returns how many those were.
    pub(super) fn read(&mut self, room: usize, into: &mut Vec<u8>) -> io::Result<usize> {
        let mut buffer = [0; 4_096];
        let room = room.min(buffer.len());
        let count = (&self.socket).read(&mut buffer[..room])?;
        match &mut self.tls {
            Some(tls) => into.extend(tls.hear(&buffer[..count])),
            None => into.extend_from_slice(&buffer[..count]),
        }
        Ok(count)
    }
}
