//! A small blocking HTTP/1.1 client for tests: it sends exactly the given bytes, well-formed or not, and
//! reads one whole answer, every read with a deadline.

use std::collections::VecDeque;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::tls::TlsStream;
use crate::wait::{LIMIT, wait_until};

/// A request, well-formed unless its parts are not.
#[derive(Clone, Debug)]
pub struct Request {
    method: String,
    target: String,
    host: String,
    headers: Vec<(String, Vec<u8>)>,
    body: Body,
}

#[derive(Clone, Debug)]
enum Body {
    None,
    Sized(Vec<u8>),
    Chunked(Vec<Vec<u8>>),
}

impl Request {
    /// A request of `target` as it stands: nothing is encoded.
    #[must_use]
    pub fn new(method: &str, target: &str) -> Self {
        let host = "localhost".to_owned();
        Self { method: method.into(), target: target.into(), host, headers: Vec::new(), body: Body::None }
    }

    /// With another `Host`.
    #[must_use]
    pub fn host(self, host: &str) -> Self {
        Self { host: host.to_owned(), ..self }
    }

    /// With a token.
    #[must_use]
    pub fn token(self, secret: &str) -> Self {
        self.header("Authorization", format!("Bearer {secret}"))
    }

    /// Adds a header, also one that is there already.
    #[must_use]
    pub fn header(mut self, name: &str, value: impl AsRef<[u8]>) -> Self {
        self.headers.push((name.into(), value.as_ref().into()));
        self
    }

    /// A body with `Content-Length`.
    #[must_use]
    pub fn body(mut self, body: impl AsRef<[u8]>) -> Self {
        self.body = Body::Sized(body.as_ref().into());
        self
    }

    /// A body in chunks.
    #[must_use]
    pub fn chunks<'a>(mut self, chunks: impl IntoIterator<Item = &'a [u8]>) -> Self {
        self.body = Body::Chunked(chunks.into_iter().map(Into::into).collect());
        self
    }

    /// The bytes that go over the wire.
    #[must_use]
    pub fn bytes(&self) -> Vec<u8> {
        let mut bytes =
            format!("{} {} HTTP/1.1\r\nHost: {}\r\n", self.method, self.target, self.host).into_bytes();
        for (name, value) in &self.headers {
            bytes.extend_from_slice(name.as_bytes());
            bytes.extend_from_slice(b": ");
            bytes.extend_from_slice(value);
            bytes.extend_from_slice(b"\r\n");
        }
        match &self.body {
            Body::None => bytes.extend_from_slice(b"\r\n"),
            Body::Sized(body) => {
                bytes.extend_from_slice(format!("Content-Length: {}\r\n\r\n", body.len()).as_bytes());
                bytes.extend_from_slice(body);
            }
            Body::Chunked(chunks) => {
                bytes.extend_from_slice(b"Transfer-Encoding: chunked\r\n\r\n");
                for chunk in chunks {
                    bytes.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
                    bytes.extend_from_slice(chunk);
                    bytes.extend_from_slice(b"\r\n");
                }
                bytes.extend_from_slice(b"0\r\n\r\n");
            }
        }
        bytes
    }
}

/// An answer, read to its end.
#[derive(Clone, Debug)]
pub struct Response {
    /// The status code.
    pub status: u16,
    /// Names and values in the order in which they came.
    pub headers: Vec<(String, String)>,
    /// The body, without the framing.
    pub body: Vec<u8>,
}

impl Response {
    /// The value of a header, whatever the case of its name, if it is there.
    ///
    /// # Panics
    /// If it is there twice: no header of this protocol is.
    #[must_use]
    #[track_caller]
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut found = self.headers.iter().filter(|(n, _)| n.eq_ignore_ascii_case(name));
        let value = found.next().map(|(_, v)| v.as_str());
        assert!(found.next().is_none(), "{name} twice: {self:?}");
        value
    }

    /// The body as text.
    ///
    /// # Panics
    /// If it is not UTF-8.
    #[must_use]
    #[track_caller]
    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.body).expect("a body in UTF-8")
    }

    /// The body as JSON.
    ///
    /// # Panics
    /// If it is not.
    #[must_use]
    #[track_caller]
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|e| panic!("{e}: {self:?}"))
    }

    /// The version of the `ETag`, which must be a strong one in quotes.
    ///
    /// # Panics
    /// If it is not.
    #[must_use]
    #[track_caller]
    pub fn version(&self) -> Option<&str> {
        let tag = self.header("ETag")?;
        let version = tag.strip_prefix('"').and_then(|tag| tag.strip_suffix('"'));
        Some(version.unwrap_or_else(|| panic!("no strong tag in quotes: {self:?}")))
    }

    /// `X-Last-Sync`, µs since 1970.
    ///
    /// # Panics
    /// If it is not a number.
    #[must_use]
    #[track_caller]
    pub fn last_sync(&self) -> Option<u64> {
        self.header("X-Last-Sync").map(|v| v.parse().unwrap_or_else(|_| panic!("no number: {self:?}")))
    }

    /// Whether the connection ends with the answer.
    #[must_use]
    pub fn says_close(&self) -> bool {
        self.header("Connection").is_some_and(|v| v.eq_ignore_ascii_case("close"))
    }

    /// Demands a status, and hands the answer on.
    ///
    /// # Panics
    /// If it is another one.
    #[track_caller]
    pub fn expect(self, status: u16) -> Self {
        assert_eq!(self.status, status, "{self:?}");
        self
    }
}

/// One connection, kept alive for as many requests as are sent on it.
#[derive(Debug)]
pub struct Connection {
    stream: Stream,
    /// Read, and not yet part of an answer.
    buffer: Vec<u8>,
    /// For each request that was sent and is not answered, whether its answer has no body, whatever its head has.
    outstanding: VecDeque<bool>,
}

impl Connection {
    /// Connects.
    ///
    /// # Panics
    /// If no program listens.
    #[must_use]
    #[track_caller]
    pub fn open(address: SocketAddr) -> Self {
        Self::try_open(address).unwrap_or_else(|e| panic!("no connection to {address}: {e}"))
    }

    /// Connects, if a program listens.
    ///
    /// # Errors
    /// The error of the system.
    pub fn try_open(address: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect_timeout(&address, LIMIT)?;
        stream.set_nodelay(true)?;
        stream.set_write_timeout(Some(LIMIT))?;
        Ok(Self::on(Stream::Plain(stream)))
    }

    /// Goes on with a connection that speaks TLS.
    ///
    /// # Panics
    /// If the system has no descriptor left.
    #[must_use]
    pub fn over_tls(stream: TlsStream) -> Self {
        let socket = stream.sock.try_clone().expect("a descriptor");
        Self::on(Stream::Tls { tls: Box::new(Mutex::new(stream)), socket })
    }

    fn on(stream: Stream) -> Self {
        Self { stream, buffer: Vec::new(), outstanding: VecDeque::new() }
    }

    /// Sends a request and reads its answer.
    ///
    /// # Panics
    /// If there is none within [`LIMIT`].
    #[track_caller]
    pub fn ask(&mut self, request: &Request) -> Response {
        self.send(request);
        self.answer()
    }

    /// Sends a request.
    ///
    /// # Panics
    /// If the connection is gone.
    #[track_caller]
    pub fn send(&mut self, request: &Request) {
        self.send_bytes(&request.bytes());
        self.outstanding.push_back(request.method == "HEAD");
    }

    /// Sends bytes as they are.
    ///
    /// # Panics
    /// If the connection is gone.
    #[track_caller]
    pub fn send_bytes(&mut self, bytes: &[u8]) {
        self.try_send_bytes(bytes).unwrap_or_else(|e| panic!("not sent: {e}"));
    }

    /// Sends bytes as they are, if the other side still takes them.
    ///
    /// # Errors
    /// The error of the system.
    pub fn try_send_bytes(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes)?;
        self.stream.flush()
    }

    /// Closes the sending side. Answers can still be read.
    ///
    /// # Panics
    /// If the connection is gone.
    #[track_caller]
    pub fn half_close(&mut self) {
        if let Stream::Tls { tls, .. } = &mut self.stream {
            let tls = locked(tls);
            tls.conn.send_close_notify();
            tls.flush().expect("an open connection");
        }
        self.stream.socket().shutdown(Shutdown::Write).expect("an open connection");
    }

    /// Reads the next answer.
    ///
    /// # Panics
    /// If there is none within [`LIMIT`].
    #[track_caller]
    pub fn answer(&mut self) -> Response {
        self.try_answer(LIMIT).unwrap_or_else(|e| panic!("no answer: {e}"))
    }

    /// Reads the next answer, if there is one within `limit`. Interim answers (1xx) are skipped.
    ///
    /// # Errors
    /// The error of the system; [`ErrorKind::UnexpectedEof`] where the other side hung up, [`ErrorKind::InvalidData`]
    /// where what came is not HTTP, [`ErrorKind::TimedOut`] after the limit.
    pub fn try_answer(&mut self, limit: Duration) -> io::Result<Response> {
        let deadline = Instant::now() + limit;
        loop {
            let (status, headers) = self.read_head(deadline)?;
            if (100..200).contains(&status) {
                continue;
            }
            let bodiless = self.outstanding.pop_front().unwrap_or(false) || matches!(status, 204 | 304);
            let mut response = Response { status, headers, body: Vec::new() };
            if bodiless {
                return Ok(response);
            }
            let chunked =
                response.header("Transfer-Encoding").is_some_and(|v| v.eq_ignore_ascii_case("chunked"));
            response.body = match response.header("Content-Length") {
                _ if chunked => self.read_chunks(deadline)?,
                Some(length) => {
                    let length = length.parse().map_err(|_| invalid("Content-Length"))?;
                    self.take(length, deadline)?
                }
                None => self.read_to_end(deadline)?,
            };
            return Ok(response);
        }
    }

    /// Whether something is there to be read: an answer, or the end of the connection.
    ///
    /// # Panics
    /// If the socket cannot be asked.
    #[must_use]
    pub fn has_news(&self) -> bool {
        !self.buffer.is_empty() || self.is_readable()
    }

    /// The status of the answer that has begun to come, which stays where it is: none of it is read.
    ///
    /// # Panics
    /// If there is none within [`LIMIT`].
    #[must_use]
    #[track_caller]
    pub fn status_ahead(&self) -> u16 {
        assert!(self.buffer.is_empty(), "it was read already");
        let mut start = [0; "HTTP/1.1 200".len()];
        let whole = start.len();
        wait_until("the start of an answer", LIMIT, || {
            self.is_readable() && self.stream.socket().peek(&mut start).expect("an open connection") == whole
        });
        let status = std::str::from_utf8(&start[whole - 3..]).ok().and_then(|digits| digits.parse().ok());
        status.unwrap_or_else(|| panic!("not an answer: {start:?}"))
    }

    /// Takes at most so many bytes of what has come, and keeps them for [`Connection::answer`].
    ///
    /// # Panics
    /// If the socket cannot be read.
    pub fn receive(&mut self, most: usize) {
        if self.is_readable() {
            let before = self.buffer.len();
            self.buffer.resize(before + most, 0);
            let read = self.stream.read(&mut self.buffer[before..]).expect("an open connection");
            self.buffer.truncate(before + read);
        }
    }

    fn is_readable(&self) -> bool {
        self.stream.socket().set_nonblocking(true).expect("a socket");
        let peeked = match &self.stream {
            Stream::Plain(stream) => stream.peek(&mut [0]),
            Stream::Tls { tls, .. } => peek_tls(&mut tls.lock().unwrap_or_else(PoisonError::into_inner)),
        };
        self.stream.socket().set_nonblocking(false).expect("a socket");
        !matches!(peeked, Err(e) if e.kind() == ErrorKind::WouldBlock)
    }

    /// Whether the other side has closed the connection; bytes before that are kept for [`Connection::answer`].
    pub fn hung_up(&mut self) -> bool {
        while self.is_readable() {
            match self.fill(Instant::now() + LIMIT) {
                Ok(0) => return true,
                Ok(_) => {}
                Err(e) => return e.kind() != ErrorKind::TimedOut,
            }
        }
        false
    }

    fn read_head(&mut self, deadline: Instant) -> io::Result<(u16, Vec<(String, String)>)> {
        let end = loop {
            if let Some(at) = self.buffer.windows(4).position(|four| four == b"\r\n\r\n") {
                break at;
            }
            self.fill_or_end(deadline)?;
        };
        let head = String::from_utf8(self.buffer[..end].to_vec()).map_err(|_| invalid("a head in UTF-8"))?;
        self.buffer.drain(..end + 4);
        let mut lines = head.split("\r\n");
        let status_line = lines.next().unwrap_or_default();
        let status = status_line
            .strip_prefix("HTTP/1.1 ")
            .or_else(|| status_line.strip_prefix("HTTP/1.0 "))
            .and_then(|rest| rest.get(..3))
            .and_then(|code| code.parse().ok())
            .ok_or_else(|| invalid(status_line))?;
        let headers = lines
            .map(|line| {
                let (name, value) = line.split_once(':').ok_or_else(|| invalid(line))?;
                Ok((name.to_owned(), value.trim().to_owned()))
            })
            .collect::<io::Result<_>>()?;
        Ok((status, headers))
    }

    fn read_chunks(&mut self, deadline: Instant) -> io::Result<Vec<u8>> {
        let mut body = Vec::new();
        loop {
            let line = self.take_line(deadline)?;
            let digits = line.split(';').next().unwrap_or_default().trim();
            let length = usize::from_str_radix(digits, 16).map_err(|_| invalid(&line))?;
            if length == 0 {
                while !self.take_line(deadline)?.is_empty() {}
                return Ok(body);
            }
            body.extend_from_slice(&self.take(length, deadline)?);
            self.take(2, deadline)?;
        }
    }

    fn read_to_end(&mut self, deadline: Instant) -> io::Result<Vec<u8>> {
        while self.fill(deadline)? > 0 {}
        Ok(std::mem::take(&mut self.buffer))
    }

    fn take_line(&mut self, deadline: Instant) -> io::Result<String> {
        let end = loop {
            if let Some(at) = self.buffer.windows(2).position(|two| two == b"\r\n") {
                break at;
            }
            self.fill_or_end(deadline)?;
        };
        let line = self.take(end + 2, deadline)?;
        String::from_utf8(line[..end].to_vec()).map_err(|_| invalid("a line in UTF-8"))
    }

    fn take(&mut self, length: usize, deadline: Instant) -> io::Result<Vec<u8>> {
        while self.buffer.len() < length {
            self.fill_or_end(deadline)?;
        }
        Ok(self.buffer.drain(..length).collect())
    }

    fn fill_or_end(&mut self, deadline: Instant) -> io::Result<()> {
        match self.fill(deadline)? {
            0 => Err(io::Error::new(
                ErrorKind::UnexpectedEof,
                format!(
                    "hung up after {} bytes: {:?}",
                    self.buffer.len(),
                    String::from_utf8_lossy(&self.buffer[..self.buffer.len().min(500)])
                ),
            )),
            _ => Ok(()),
        }
    }

    /// One read; 0 where the other side hung up.
    fn fill(&mut self, deadline: Instant) -> io::Result<usize> {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(ErrorKind::TimedOut.into());
        }
        self.stream.socket().set_read_timeout(Some(left))?;
        let mut piece = [0; 16 * 1024];
        let got = match self.stream.read(&mut piece) {
            Err(e) if e.kind() == ErrorKind::WouldBlock => return Err(ErrorKind::TimedOut.into()),
            read => read?,
        };
        self.buffer.extend_from_slice(&piece[..got]);
        Ok(got)
    }
}

/// The bytes of a connection.
#[derive(Debug)]
enum Stream {
    Plain(TcpStream),
    Tls {
        /// To ask whether something has come, a shared connection has to read it.
        tls: Box<Mutex<TlsStream>>,
        /// The same socket.
        socket: TcpStream,
    },
}

fn locked(tls: &mut Mutex<TlsStream>) -> &mut TlsStream {
    tls.get_mut().unwrap_or_else(PoisonError::into_inner)
}

impl Stream {
    fn socket(&self) -> &TcpStream {
        match self {
            Self::Plain(stream) => stream,
            Self::Tls { socket, .. } => socket,
        }
    }
}

impl Read for Stream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(stream) => stream.read(buffer),
            Self::Tls { tls, .. } => locked(tls).read(buffer),
        }
    }
}

impl Write for Stream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Plain(stream) => stream.write(bytes),
            Self::Tls { tls, .. } => locked(tls).write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Plain(stream) => stream.flush(),
            Self::Tls { tls, .. } => locked(tls).flush(),
        }
    }
}

/// How many bytes of an answer have come, which stay where they are. What TLS itself has sent is none.
fn peek_tls(stream: &mut TlsStream) -> io::Result<usize> {
    loop {
        let state = stream.conn.process_new_packets().map_err(io::Error::other)?;
        match state.plaintext_bytes_to_read() {
            0 if state.peer_has_closed() => return Ok(0),
            0 => {}
            bytes => return Ok(bytes),
        }
        if stream.conn.read_tls(&mut stream.sock)? == 0 {
            return Ok(0);
        }
    }
}

fn invalid(what: &str) -> io::Error {
    io::Error::new(ErrorKind::InvalidData, format!("not HTTP: {what:?}"))
}
