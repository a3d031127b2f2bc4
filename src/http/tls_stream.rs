//! A connection with TLS for the HTTP library. It keeps no buffer while it waits.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::tls::{MAX_UNSENT_BYTES, RECORD_BYTES, Session};

/// Bytes that are read from the socket at once.
const READ_BYTES: usize = 16 * 1024;

/// A socket, and the session over it.
#[derive(Debug)]
pub(super) struct TlsStream<S> {
    socket: S,
    session: Box<Session>,
}

impl<S: AsyncRead + AsyncWrite + Unpin> TlsStream<S> {
    /// Goes on with a session after its handshake.
    pub(super) fn new(socket: S, session: Box<Session>) -> Self {
        Self { socket, session }
    }

    /// Sends what is encrypted.
    fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.session.unsent().is_empty() {
            match ready!(Pin::new(&mut self.socket).poll_write(cx, self.session.unsent()))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                sent => self.session.sent(sent),
            }
        }
        Poll::Ready(Ok(()))
    }

    /// Encrypts bytes, if the socket has taken enough of what was encrypted before.
    fn poll_encrypt(
        &mut self,
        cx: &mut Context<'_>,
        encrypt: impl FnOnce(&mut Session) -> io::Result<usize>,
    ) -> Poll<io::Result<usize>> {
        if self.session.unsent().len() >= MAX_UNSENT_BYTES - RECORD_BYTES {
            ready!(self.poll_send(cx))?;
        }
        let taken = encrypt(&mut self.session)?;
        // what the socket does not take goes with the next bytes, or with a flush
        match self.poll_send(cx) {
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            _ => Poll::Ready(Ok(taken)),
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for TlsStream<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        loop {
            if !this.session.plain().is_empty() {
                let taken = this.session.take(buf.initialize_unfilled());
                buf.advance(taken);
                return Poll::Ready(Ok(()));
            }
            if this.session.is_ended() || buf.remaining() == 0 {
                return Poll::Ready(Ok(()));
            }
            let mut bytes = [0; READ_BYTES];
            let mut read = ReadBuf::new(&mut bytes);
            ready!(Pin::new(&mut this.socket).poll_read(cx, &mut read))?;
            if read.filled().is_empty() {
                // an HTTP message says itself where it ends, so this is no attack on it (RFC 9112 §9.8)
                return Poll::Ready(Ok(()));
            }
            let received = this.session.receive(read.filled_mut());
            // an answer to what was received, or the reason why it is not TLS
            if !this.session.unsent().is_empty() {
                let _ = this.poll_send(cx)?;
                if this.session.unsent().len() > MAX_UNSENT_BYTES + RECORD_BYTES {
                    // a client that asks for answers of the protocol and takes none
                    return Poll::Ready(Err(io::ErrorKind::InvalidData.into()));
                }
            }
            received?;
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for TlsStream<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let piece = &buf[..buf.len().min(RECORD_BYTES)];
        self.poll_encrypt(cx, |session| session.write(piece).map(|()| piece.len()))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.poll_encrypt(cx, |session| write_record(session, bufs))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_send(cx))?;
        Pin::new(&mut self.socket).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.session.close();
        ready!(self.poll_send(cx))?;
        Pin::new(&mut self.socket).poll_shutdown(cx)
    }
}

/// Encrypts the beginning of these bytes: one record. Returns how many it took.
pub(super) fn write_record(session: &mut Session, bufs: &[IoSlice<'_>]) -> io::Result<usize> {
    let first = bufs.iter().find(|buf| !buf.is_empty());
    match first {
        None => Ok(0),
        Some(first)
            if first.len() >= RECORD_BYTES
                || bufs.iter().all(|buf| buf.is_empty() || std::ptr::eq(buf, first)) =>
        {
            let piece = &first[..first.len().min(RECORD_BYTES)];
            session.write(piece).map(|()| piece.len())
        }
        Some(_) => {
            let mut piece = Vec::new();
            for buf in bufs {
                let room = RECORD_BYTES - piece.len();
                piece.extend_from_slice(&buf[..buf.len().min(room)]);
            }
            session.write(&piece).map(|()| piece.len())
        }
    }
}
