//! A reader of `/v1/watch` in the forms that go on.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::http::Request;
use crate::wait::LIMIT;

/// The media types of the forms.
pub const FORMS: [&str; 2] = ["text/event-stream", "application/x-ndjson"];

/// Which part of the node serves a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Path {
    /// The fast path.
    Fast,
    /// The ordinary path: the request asks for a time after which the stream ends, which only that path knows.
    Ordinary,
}

/// Both paths.
pub const PATHS: [Path; 2] = [Path::Fast, Path::Ordinary];

/// A stream.
#[derive(Debug)]
pub struct Stream {
    socket: TcpStream,
    /// The head of the answer.
    pub head: String,
    is_event_stream: bool,
    raw: Vec<u8>,
    text: Vec<u8>,
    is_over: bool,
    /// The length of an answer that does not go on.
    length: Option<usize>,
    /// The newest cursor.
    pub cursor: String,
    /// Comments and other lines of an event stream that are no events.
    pub asides: Vec<String>,
}

/// The request of a stream.
#[must_use]
pub fn request(form: &str, path: Path, query: &str) -> Request {
    let until = if path == Path::Ordinary { "&timeout=60s" } else { "" };
    Request::new("GET", &format!("/v1/watch?{query}{until}")).header("Accept", form)
}

impl Stream {
    /// Begins a stream.
    ///
    /// # Panics
    /// If the answer is none.
    #[track_caller]
    pub fn open(node: SocketAddr, request: &Request) -> Self {
        let mut socket = TcpStream::connect(node).expect("a connection");
        socket.write_all(&request.bytes()).expect("a request");
        Self::of(socket, Vec::new())
    }

    /// A stream of which the request was sent, and so many bytes of the answer were read.
    ///
    /// # Panics
    /// If the answer is none.
    #[must_use]
    #[track_caller]
    pub fn of(socket: TcpStream, raw: Vec<u8>) -> Self {
        Self::try_of(socket, raw, LIMIT).unwrap_or_else(|other| panic!("no stream: {other}"))
    }

    /// The same, if the answer begins in time and is one.
    ///
    /// # Errors
    /// What came instead: the head of another answer, or a part of one.
    ///
    /// # Panics
    /// If what came is no text.
    pub fn try_of(socket: TcpStream, raw: Vec<u8>, limit: Duration) -> Result<Self, String> {
        let mut stream = Self {
            socket,
            head: String::new(),
            is_event_stream: false,
            raw,
            text: Vec::new(),
            is_over: false,
            length: None,
            cursor: String::new(),
            asides: Vec::new(),
        };
        let until = Instant::now() + limit;
        let end = loop {
            if let Some(at) = stream.raw.windows(4).position(|four| four == b"\r\n\r\n") {
                break at + 4;
            }
            if !stream.receive(until) {
                return Err(String::from_utf8_lossy(&stream.raw).into_owned());
            }
        };
        stream.head = String::from_utf8(stream.raw.drain(..end).collect()).expect("ASCII");
        if !stream.head.starts_with("HTTP/1.1 200 OK\r\n") {
            return Err(stream.head);
        }
        let length = stream.head.lines().find_map(|line| line.strip_prefix("Content-Length: "));
        stream.length = length.and_then(|length| length.parse().ok());
        stream.is_event_stream = stream.head.contains("text/event-stream");
        Ok(stream)
    }

    /// Whether it has ended, by a last chunk or without one.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.is_over
    }

    /// The socket.
    #[must_use]
    pub fn socket(&self) -> &TcpStream {
        &self.socket
    }

    /// Reads more bytes, until a time. False if there were none, or the stream has ended.
    fn receive(&mut self, until: Instant) -> bool {
        let left = until.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
        self.socket.set_read_timeout(Some(left)).expect("a timeout");
        let mut buffer = [0; 1 << 16];
        match self.socket.read(&mut buffer) {
            Ok(0) => {
                self.is_over = true;
                false
            }
            Ok(read) => {
                self.raw.extend_from_slice(&buffer[..read]);
                true
            }
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => false,
            Err(_) => {
                self.is_over = true;
                false
            }
        }
    }

    /// Takes whole chunks out of what was read.
    fn unframe(&mut self) {
        if let Some(length) = self.length {
            self.text.append(&mut self.raw);
            self.is_over |= self.text.len() >= length;
            self.length = Some(length.saturating_sub(self.text.len()));
            return;
        }
        while let Some(line) = self.raw.windows(2).position(|two| two == b"\r\n") {
            let digits = std::str::from_utf8(&self.raw[..line]).expect("a length");
            let length = usize::from_str_radix(digits, 16).expect("a length");
            let end = line + 2 + length;
            if self.raw.len() < end + 2 {
                return;
            }
            assert_eq!(&self.raw[end..end + 2], b"\r\n");
            self.text.extend_from_slice(&self.raw[line + 2..end]);
            self.raw.drain(..end + 2);
            self.is_over |= length == 0;
        }
    }

    /// The next event, `progress` included. `None` at the end of the stream, or if there is none until that time.
    ///
    /// # Panics
    /// If what comes is no stream.
    pub fn next_until(&mut self, until: Instant) -> Option<Value> {
        loop {
            self.unframe();
            let separator: &[u8] = if self.is_event_stream { b"\n\n" } else { b"\n" };
            if let Some(at) = self.text.windows(separator.len()).position(|end| end == separator) {
                let text: Vec<u8> = self.text.drain(..at + separator.len()).collect();
                let text = String::from_utf8(text).expect("UTF-8");
                match self.event(&text) {
                    Some(event) => return Some(event),
                    None => continue,
                }
            }
            if self.is_over || !self.receive(until) {
                return None;
            }
        }
    }

    fn event(&mut self, text: &str) -> Option<Value> {
        let mut event = None;
        if !self.is_event_stream {
            event = Some(text);
        }
        for line in text.lines().filter(|_| self.is_event_stream) {
            if let Some(data) = line.strip_prefix("data: ") {
                event = Some(data);
            } else if let Some(id) = line.strip_prefix("id: ") {
                self.cursor = id.to_owned();
            } else if !line.is_empty() {
                self.asides.push(line.to_owned());
            }
        }
        let event: Value = serde_json::from_str(event?).expect("JSON");
        // an event stream has it as `id:`, which is all that an `EventSource` knows of it
        if let Some(cursor) = event["cursor"].as_str().filter(|_| !self.is_event_stream) {
            self.cursor = cursor.to_owned();
        }
        Some(event)
    }

    /// The next event that is no `progress`.
    ///
    /// # Panics
    /// If none comes.
    #[track_caller]
    pub fn event_to_come(&mut self) -> Value {
        let until = Instant::now() + LIMIT;
        loop {
            match self.next_until(until) {
                Some(event) if event["type"] == "progress" => {}
                Some(event) => return event,
                None => panic!("no event: {:?} {:?}", self.is_over, String::from_utf8_lossy(&self.text)),
            }
        }
    }

    /// The cursor behind the last event, which a form of lines tells in a line of its own.
    #[track_caller]
    pub fn cursor(&mut self) -> String {
        if !self.is_event_stream {
            let event = self.next_until(Instant::now() + LIMIT);
            assert!(event.as_ref().is_some_and(|event| event["type"] == "progress"), "{event:?}");
        }
        self.cursor.clone()
    }

    /// The next events that are no `progress`, a word each.
    #[track_caller]
    pub fn told(&mut self, count: usize) -> Vec<String> {
        (0..count).map(|_| word(&self.event_to_come())).collect()
    }

    /// All events up to the end of the stream.
    ///
    /// # Panics
    /// If it does not end.
    #[track_caller]
    pub fn to_the_end(&mut self) -> Vec<Value> {
        let until = Instant::now() + LIMIT;
        let events = std::iter::from_fn(|| self.next_until(until)).collect();
        assert!(self.is_over, "the stream goes on");
        events
    }
}

/// An event as a word: `name=version`, `-name` for a delete, and the type of all others.
#[must_use]
pub fn word(event: &Value) -> String {
    let text = |key: &str| event[key].as_str().unwrap_or_default().to_owned();
    match event["type"].as_str() {
        Some("put") => format!("{}={}", text("name"), text("version")),
        Some("delete") => format!("-{}", text("name")),
        Some("reset") => format!("reset:{}", text("reason")),
        _ => text("type"),
    }
}
