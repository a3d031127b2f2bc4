//! The socket of a connection for the HTTP library. The code that waits for its end shares it, and it has a timeout for
//! a reader that does not take its answer.

use std::io::{self, IoSlice};
use std::net::Shutdown;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::net::tcp::OwnedReadHalf;
use tokio::time::{Sleep, sleep};

use crate::api::connection::{ConnectionShared, Disconnect};
use crate::metrics::{Limit, Metrics};

/// A socket that fails a write if the other side has not taken all bytes for `patience`.
///
/// Reads use its own half: there tokio saves a system call after a short read.
pub(crate) struct WriteTimeout {
    read: OwnedReadHalf,
    shared: Arc<ConnectionShared>,
    patience: Duration,
    /// Counts the timeouts.
    metrics: Arc<Metrics>,
    /// Runs while the other side has not taken all bytes.
    deadline: Option<Pin<Box<Sleep>>>,
}

impl WriteTimeout {
    /// The socket, shared with the check for a disconnect.
    pub(crate) fn new(stream: TcpStream, patience: Duration, metrics: Arc<Metrics>) -> (Self, Disconnect) {
        let (read, write) = stream.into_split();
        let shared = Arc::new(ConnectionShared {
            write,
            sent: AtomicU64::new(0),
            is_full: AtomicBool::new(false),
            patient: AtomicUsize::new(0),
        });
        let disconnect = Disconnect::of(Arc::clone(&shared));
        (Self { read, shared, patience, metrics, deadline: None }, disconnect)
    }

    fn poll_try_write(
        &mut self,
        cx: &mut Context<'_>,
        offered: usize,
        write: impl Fn(&TcpStream) -> io::Result<usize>,
    ) -> Poll<io::Result<usize>> {
        let stream: &TcpStream = self.shared.write.as_ref();
        let written = loop {
            match stream.poll_write_ready(cx) {
                Poll::Ready(ready) => ready?,
                Poll::Pending => break 0,
            }
            match write(stream) {
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
                Err(e) => return Poll::Ready(Err(e)),
                Ok(written) => break written,
            }
        };
        self.shared.sent.fetch_add(written as u64, Ordering::Relaxed);
        self.shared.is_full.store(written < offered, Ordering::Relaxed);
        if written == offered || self.shared.patient.load(Ordering::Relaxed) > 0 {
            self.deadline = None;
            if written == 0 && offered > 0 {
                return Poll::Pending;
            }
            return Poll::Ready(Ok(written));
        }
        let patience = self.patience;
        let deadline = self.deadline.get_or_insert_with(|| Box::pin(sleep(patience)));
        if deadline.as_mut().poll(cx).is_ready() {
            self.metrics.hit(Limit::WriteTime);
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        if written > 0 { Poll::Ready(Ok(written)) } else { Poll::Pending }
    }
}

impl AsyncRead for WriteTimeout {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.read).poll_read(cx, buf)
    }
}

impl AsyncWrite for WriteTimeout {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_try_write(cx, buf.len(), |stream| stream.try_write(buf))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let offered = bufs.iter().map(|buf| buf.len()).sum();
        self.poll_try_write(cx, offered, |stream| stream.try_write_vectored(bufs))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        // the half is shared, so it cannot do it
        let stream: &TcpStream = self.shared.write.as_ref();
        Poll::Ready(SockRef::from(stream).shutdown(Shutdown::Write))
    }
}
