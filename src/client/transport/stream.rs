//! A connection that still reads after the other side has stopped reading.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// A node rejects a request that is too large before it has read all of it, and closes the connection. Writing fails
/// then, while the answer has arrived. So the rest of the request is dropped without an error, and reading decides the
/// result.
pub(crate) struct HearsOut<S> {
    inner: S,
    is_deaf: bool,
}

impl<S> HearsOut<S> {
    pub(crate) fn new(inner: S) -> Self {
        Self { inner, is_deaf: false }
    }

    fn written(&mut self, done: io::Result<usize>, all: usize) -> usize {
        done.unwrap_or_else(|_| {
            self.is_deaf = true;
            all
        })
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for HearsOut<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_read(cx, buf)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for HearsOut<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        if self.is_deaf {
            return Poll::Ready(Ok(buf.len()));
        }
        let done = ready!(Pin::new(&mut self.inner).poll_write(cx, buf));
        Poll::Ready(Ok(self.written(done, buf.len())))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let all = bufs.iter().map(|buf| buf.len()).sum();
        if self.is_deaf {
            return Poll::Ready(Ok(all));
        }
        let done = ready!(Pin::new(&mut self.inner).poll_write_vectored(cx, bufs));
        Poll::Ready(Ok(self.written(done, all)))
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.is_deaf {
            return Poll::Ready(Ok(()));
        }
        // with TLS the bytes are written only here
        self.is_deaf = ready!(Pin::new(&mut self.inner).poll_flush(cx)).is_err();
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use http_body_util::{BodyExt, Full};
    use hyper::body::Bytes;
    use hyper::client::conn::http1;
    use hyper_util::rt::TokioIo;

    use super::*;

    /// The other side has answered and closed by the time that the second write is tried.
    struct Closed {
        answer: &'static [u8],
        is_written: bool,
        is_closed: bool,
        reader: Option<Waker>,
    }

    impl AsyncRead for Closed {
        fn poll_read(
            mut self: Pin<&mut Self>,
            cx: &mut Context<'_>,
            buf: &mut ReadBuf<'_>,
        ) -> Poll<io::Result<()>> {
            if !self.is_closed {
                self.reader = Some(cx.waker().clone());
                return Poll::Pending;
            }
            buf.put_slice(std::mem::take(&mut self.answer));
            Poll::Ready(Ok(()))
        }
    }

    impl AsyncWrite for Closed {
        fn poll_write(mut self: Pin<&mut Self>, _: &mut Context<'_>, _: &[u8]) -> Poll<io::Result<usize>> {
            if !std::mem::replace(&mut self.is_written, true) {
                return Poll::Ready(Ok(1));
            }
            self.is_closed = true;
            self.reader.take().into_iter().for_each(Waker::wake);
            Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()))
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    #[tokio::test]
    async fn an_answer_is_read_though_writing_failed() {
        let answer = b"HTTP/1.1 413 Payload Too Large\r\nContent-Length: 3\r\n\r\nwhy";
        let closed = Closed { answer, is_written: false, is_closed: false, reader: None };
        let io = TokioIo::new(HearsOut::new(closed));
        let (mut sender, connection) = http1::handshake(io).await.unwrap();
        tokio::spawn(connection);
        let body = Full::new(Bytes::from(vec![b'x'; 1 << 20]));
        let response =
            sender.send_request(hyper::Request::put("/n").header("host", "h").body(body).unwrap()).await;
        let (head, body) = response.unwrap().into_parts();
        assert_eq!(head.status, 413);
        assert_eq!(&body.collect().await.unwrap().to_bytes()[..], b"why");
    }
}
