//! Rejects messages that are not HTTP/1.1, with a line of text.
//!
//! The library answers a request that is not HTTP by itself: by a bare status line with `Content-Length: 0`, after
//! which it closes the connection. This stream is below the library, recognizes that answer by its form, and sends one
//! with a text instead.
//!
//! A message that the library would accept and should not ([`Framing`]) never reaches it. Instead of such a head the
//! library reads one that it rejects, and instead of such a body an error. So it sends the answers before it in their
//! order.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::metrics::{Limit, Metrics, Port};
use crate::node::in_flight::{Account, Full, Reservation};
use crate::node::limits::{MAX_BUFFER_BYTES, MAX_FIELDS, RETRY_AFTER_S};
use crate::wire::error_code::ErrorCode;
use crate::wire::framing::{Fault, Framing, Problem};

/// The bytes that the library reads instead of a rejected head. Its parser rejects a NUL at any place of a head, as
/// soon as the head seems complete.
const NO_HEAD: &[u8] = b"\0\r\n\r\n";

/// A stream that adds a text to bare errors of the library.
pub(crate) struct ErrorBodyStream<S> {
    stream: S,
    port: Port,
    metrics: Arc<Metrics>,
    /// The answer that is being sent instead of a bare error.
    instead: Option<Instead>,
    /// The last write was partial: the next one continues it, and may be in the middle of a body.
    continuing: bool,
    /// The framing of the bytes that were read.
    framing: Framing,
    /// The account of the connection, for its bytes in flight.
    account: Account,
    /// The bytes of an incomplete head, which the library keeps.
    head: Option<Reservation>,
    /// The reason why nothing more is read.
    refused: Option<Refused>,
}

/// The fault that ends the connection.
enum Refused {
    /// A problem in a head, or that there is no room for a head; and how much of [`NO_HEAD`] was read in its place.
    Head { why: Why, read: usize },
    /// A problem in a body.
    Body(Problem),
}

#[derive(Clone, Copy)]
enum Why {
    Problem(Problem),
    Full(Full),
}

struct Instead {
    bytes: Vec<u8>,
    sent: usize,
    /// Length of the library's answer, which is reported as written.
    replaces: usize,
}

impl<S> ErrorBodyStream<S> {
    pub(crate) fn new(stream: S, port: Port, metrics: Arc<Metrics>, account: Account) -> Self {
        Self {
            stream,
            port,
            metrics,
            instead: None,
            continuing: false,
            framing: Framing::default(),
            account,
            head: None,
            refused: None,
        }
    }

    /// The answer to send instead, if `bytes` are a bare error and nothing else.
    ///
    /// The node's own refusals have a text, so none of them is one. A body is not one either, whatever its bytes are:
    /// the library writes it together with its head, and the continuation of a write is not checked.
    fn instead_of(&self, bytes: &[u8]) -> Option<Instead> {
        if self.continuing {
            return None;
        }
        let (status, head) = bare_refusal(bytes)?;
        let why = match self.refused {
            Some(Refused::Head { why, .. }) if status == 400 => Some(why),
            _ => None,
        };
        let (status, line) = match why {
            Some(Why::Problem(problem)) if problem.status() == 501 => (501, "501 Not Implemented"),
            Some(Why::Full(_)) => (503, "503 Service Unavailable"),
            _ => (status, "400 Bad Request"),
        };
        let text = match (why, status) {
            (Some(Why::Problem(problem)), _) => format!("{problem}\n"),
            (Some(Why::Full(full)), _) => {
                self.metrics.hit(full.limit());
                format!("{full}\n")
            }
            (None, 431) => {
                self.metrics.hit(Limit::HeadBytes);
                format!(
                    "request head too large: over {MAX_BUFFER_BYTES} bytes or {MAX_FIELDS} fields: send less\n"
                )
            }
            (None, 414) => "request target too long: it is over the limit: shorten it\n".to_owned(),
            _ => {
                "bad request: not a message of HTTP/1.1: check its first line, its fields and their lengths\n"
                    .to_owned()
            }
        };
        let retry = if status == 503 { format!("Retry-After: {RETRY_AFTER_S}\r\n") } else { String::new() };
        let code = match status {
            414 => ErrorCode::NameTooLong,
            431 => ErrorCode::HeadTooLarge,
            501 => ErrorCode::NotImplemented,
            503 => ErrorCode::Busy,
            _ => ErrorCode::BadRequest,
        };
        let (code, length) = (code.as_str(), text.len());
        let fields = format!(
            "\r\nContent-Type: text/plain; charset=utf-8\r\n{retry}X-Vwatch-Error: {code}\r\n\
             Content-Length: {length}\r\n"
        );
        let answer = head.replacen(NO_BODY, &fields, 1).replacen("400 Bad Request", line, 1) + &text;
        self.metrics.answered(self.port, status);
        Some(Instead { bytes: answer.into_bytes(), sent: 0, replaces: bytes.len() })
    }
}

impl<S> ErrorBodyStream<S> {
    /// Checks the new bytes of `buf`, and removes those that are rejected.
    fn check(&mut self, buf: &mut ReadBuf<'_>, before: usize) {
        let read = buf.filled().len() - before;
        let (passed, refused) = match self.framing.check(&buf.filled()[before..]) {
            Ok(()) => match self.hold_head() {
                Ok(()) => return,
                Err(full) => {
                    let passed = read.saturating_sub(self.framing.head_bytes());
                    (passed, Refused::Head { why: Why::Full(full), read: 0 })
                }
            },
            Err(Fault { passed, problem, is_in_head: true }) => {
                (passed, Refused::Head { why: Why::Problem(problem), read: 0 })
            }
            Err(Fault { passed, problem, is_in_head: false }) => (passed, Refused::Body(problem)),
        };
        buf.set_filled(before + passed);
        self.head = None;
        self.refused = Some(refused);
    }

    /// Counts the bytes of a head while it is incomplete.
    fn hold_head(&mut self) -> Result<(), Full> {
        let bytes = self.framing.head_bytes();
        // the last bytes end one head and begin another
        if self.head.as_ref().is_some_and(|held| held.bytes() > bytes) || bytes == 0 {
            self.head = None;
        }
        match &mut self.head {
            _ if bytes == 0 => Ok(()),
            Some(held) => held.grow(bytes - held.bytes()),
            None => {
                self.head = Some(self.account.hold(bytes)?);
                Ok(())
            }
        }
    }
}

impl Refused {
    /// Reads the replacement of a rejected head.
    fn read(&mut self, buf: &mut ReadBuf<'_>) -> io::Result<()> {
        match self {
            Self::Body(problem) => Err(io::Error::new(io::ErrorKind::InvalidData, *problem)),
            Self::Head { read, .. } => {
                let rest = &NO_HEAD[*read..];
                let taken = rest.len().min(buf.remaining());
                buf.put_slice(&rest[..taken]);
                *read += taken;
                Ok(())
            }
        }
    }
}

/// The header of an answer of the library without a text.
const NO_BODY: &str = "\r\nContent-Length: 0\r\n";

/// The status and head of an answer of 4xx without a body and without further bytes.
fn bare_refusal(bytes: &[u8]) -> Option<(u16, &str)> {
    // a head of the library's own has four lines
    if bytes.len() > 256 || !bytes.starts_with(b"HTTP/1.1 4") {
        return None;
    }
    let head = std::str::from_utf8(bytes).ok()?;
    let is_bare = head.find("\r\n\r\n") == Some(head.len() - 4) && head.contains(NO_BODY);
    let status = head.get(9..12)?.parse().ok()?;
    is_bare.then_some((status, head))
}

impl<S: AsyncRead + Unpin> AsyncRead for ErrorBodyStream<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let before = buf.filled().len();
        if this.refused.is_none() {
            ready!(Pin::new(&mut this.stream).poll_read(cx, buf))?;
            this.check(buf, before);
        }
        match &mut this.refused {
            Some(refused) if buf.filled().len() == before => Poll::Ready(refused.read(buf)),
            _ => Poll::Ready(Ok(())),
        }
    }
}

impl<S: AsyncWrite + Unpin> ErrorBodyStream<S> {
    /// Sends the answer that replaces a bare error, and reports the error as written.
    fn poll_instead(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let Some(instead) = &mut self.instead else { return Poll::Ready(Ok(0)) };
        while instead.sent < instead.bytes.len() {
            let written = ready!(Pin::new(&mut self.stream).poll_write(cx, &instead.bytes[instead.sent..]))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            instead.sent += written;
        }
        let replaced = instead.replaces;
        self.instead = None;
        Poll::Ready(Ok(replaced))
    }

    /// Records whether a write of `offered` bytes was complete.
    fn taken(&mut self, offered: usize, taken: &Poll<io::Result<usize>>) {
        self.continuing = !matches!(taken, Poll::Ready(Ok(n)) if *n == offered);
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for ErrorBodyStream<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let this = &mut *self;
        if this.instead.is_none() {
            this.instead = this.instead_of(buf);
        }
        if this.instead.is_some() {
            return this.poll_instead(cx);
        }
        let taken = Pin::new(&mut this.stream).poll_write(cx, buf);
        this.taken(buf.len(), &taken);
        taken
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = &mut *self;
        let mut with_bytes = bufs.iter().filter(|buf| !buf.is_empty());
        if let (None, Some(only), None) = (&this.instead, with_bytes.next(), with_bytes.next()) {
            this.instead = this.instead_of(only);
        }
        if this.instead.is_some() {
            return this.poll_instead(cx);
        }
        let taken = Pin::new(&mut this.stream).poll_write_vectored(cx, bufs);
        this.taken(bufs.iter().map(|buf| buf.len()).sum(), &taken);
        taken
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;
    use crate::node::in_flight::InFlight;
    use crate::node::limits::MIN_IN_FLIGHT_BYTES;

    fn answer<S>(stream: S, retired: usize) -> ErrorBodyStream<S> {
        let port = InFlight::new(0, move |_| retired);
        ErrorBodyStream::new(stream, Port::Client, Arc::new(Metrics::new(1, 1, 1, 1)), Account::new(port))
    }

    async fn through(bytes: &[u8]) -> String {
        // smaller than what is sent, so that it goes in several writes
        let (near, mut far) = tokio::io::duplex(16);
        let mut answer = answer(near, 0);
        let bytes = bytes.to_vec();
        let write = tokio::spawn(async move { answer.write_all(&bytes).await });
        let mut got = String::new();
        far.read_to_string(&mut got).await.unwrap();
        write.await.unwrap().unwrap();
        got
    }

    const DATE: &str = "Date: Sat, 21 Nov 2026 03:34:43 GMT";

    #[tokio::test]
    async fn a_bare_refusal_gets_a_text() {
        let bare = format!(
            "HTTP/1.1 431 Request Header Fields Too Large\r\nConnection: close\r\nContent-Length: 0\r\n{DATE}\r\n\r\n"
        );
        let got = through(bare.as_bytes()).await;
        let (head, text) = got.split_once("\r\n\r\n").unwrap();
        assert!(
            head.starts_with("HTTP/1.1 431 ") && head.contains("Connection: close") && head.ends_with(DATE),
            "{head}"
        );
        assert!(head.contains(&format!("\r\nContent-Length: {}\r\n", text.len())), "{got}");
        assert!(text.starts_with("request head too large: ") && text.ends_with('\n'), "{text}");
    }

    /// What a library would read of these bytes.
    async fn read(bytes: &[u8], retired: usize) -> (Vec<u8>, usize) {
        let mut answer = answer(bytes, retired);
        // all of it at once
        let mut got = Vec::with_capacity(4096);
        let _ = answer.read_to_end(&mut got).await;
        (got, answer.head.map_or(0, |head| head.bytes()))
    }

    const GOOD: &[u8] = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n";

    #[tokio::test]
    async fn a_head_that_is_not_whole_counts_until_it_is() {
        assert_eq!(read(GOOD, 0).await, (GOOD.to_vec(), 0));
        let half = &GOOD[..20];
        assert_eq!(read(half, 0).await, (half.to_vec(), 20));
        let more = [GOOD, half].concat();
        assert_eq!(read(&more, 0).await, (more.clone(), 20));
        // where there is no room for it, the good one before it is read all the same
        assert_eq!(read(&more, MIN_IN_FLIGHT_BYTES).await, ([GOOD, NO_HEAD].concat(), 0));
    }

    #[tokio::test]
    async fn what_is_ambiguous_is_not_read() {
        let bad = b"GET / HTTP/1.1\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n";
        let read_of_bad = &bad[..bad.len() - b"Transfer-Encoding: chunked\r\n\r\n".len()];
        assert_eq!(read(&[GOOD, bad].concat(), 0).await.0, [GOOD, read_of_bad, NO_HEAD].concat());
        let head = b"PUT / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n";
        assert_eq!(read(&[head, &b"X: y\nZ: z\r\n\r\n"[..]].concat(), 0).await.0, head);
    }

    /// Data may look like a refusal, and a socket may be full just before it.
    #[tokio::test]
    async fn the_rest_of_a_body_is_never_taken_for_a_refusal() {
        let fake =
            format!("HTTP/1.1 400 Bad Request\r\nConnection: close\r\nContent-Length: 0\r\n{DATE}\r\n\r\n");
        let mut answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", fake.len());
        while answer.len() % 16 != 0 {
            answer.insert(9, '0');
        }
        answer.push_str(&fake);
        assert_eq!(through(answer.as_bytes()).await, answer);
    }

    #[tokio::test]
    async fn everything_else_goes_through_as_it_is() {
        for bytes in [
            format!("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n{DATE}\r\n\r\n"),
            format!("HTTP/1.1 404 Not Found\r\nContent-Length: 3\r\n{DATE}\r\n\r\nno\n"),
            format!("HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n{DATE}\r\n\r\nmore"),
            "HTTP/1.1 4".into(),
            String::new(),
        ] {
            assert_eq!(through(bytes.as_bytes()).await, bytes);
        }
    }
}
