//! Very many streams in one thread. Each counts what it is told.

use std::io::{self, BufRead, ErrorKind, Read, Write};
use std::time::{Duration, Instant};

use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};

use super::CHECK_EVERY;
use super::channel::Channel;
use super::deliveries::Deliveries;
use super::exchange;
use super::target::Target;
use crate::cli::failure::Failure;
use crate::cli::stop::Interrupt;
use crate::wire::watch_form::StreamForm;

/// Most connections that are being opened at the same time.
const CONNECTING: usize = 512;

/// Longest line that is kept until its end comes, in bytes: more than an event with the largest data.
const MAX_LINE_BYTES: usize = 4 << 20;

/// The counts of all streams, beside deliveries.
#[derive(Default)]
pub(super) struct StreamTally {
    /// Bytes that came, heads and frames included.
    pub(super) bytes: u64,
    /// Events that say that a stream begins again, or that versions are missing.
    pub(super) gaps: u64,
    /// Requests that were rejected.
    pub(super) refused: u64,
    /// Streams that ended.
    pub(super) dropped: u64,
    /// The reason of the last of these.
    pub(super) trouble: Option<String>,
}

struct Listener {
    stream: Option<Channel<TcpStream>>,
    state: ListenerState,
    /// A line without its end.
    line: Vec<u8>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum ListenerState {
    Gone,
    Connecting,
    /// It waits for the head, and then for the first line.
    Begun,
    Listening,
}

/// All streams.
pub(super) struct Listeners {
    poll: Poll,
    targets: Vec<Target>,
    /// Path and query.
    target: String,
    form: StreamForm,
    listeners: Vec<Listener>,
    connecting: usize,
    listening: usize,
    scratch: Box<[u8]>,
    interrupt: Interrupt,
    pub(super) tally: StreamTally,
    pub(super) deliveries: Deliveries,
}

/// What a line says.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Line {
    /// A put of the name with this number, and of this version.
    Put(usize, u32),
    /// There are versions that are not told, or a new snapshot.
    Gap,
    /// The stream cannot go on.
    Error,
    /// The stream ends.
    End,
    Other,
}

fn broken(error: impl std::fmt::Display) -> Failure {
    Failure::Failed(format!("cannot wait for sockets: {error}: check the limits of this system"))
}

impl Listeners {
    /// So many streams without connections, spread over the nodes, of which there is at least one.
    pub(super) fn new(
        targets: Vec<Target>,
        target: String,
        form: StreamForm,
        streams: usize,
        deliveries: Deliveries,
        interrupt: &Interrupt,
    ) -> Result<Self, Failure> {
        let listener = |_| Listener { stream: None, state: ListenerState::Gone, line: Vec::new() };
        Ok(Self {
            poll: Poll::new().map_err(broken)?,
            targets,
            target,
            form,
            listeners: (0..streams).map(listener).collect(),
            connecting: 0,
            listening: 0,
            scratch: vec![0; 64 * 1024].into(),
            interrupt: interrupt.clone(),
            tally: StreamTally::default(),
            deliveries,
        })
    }

    /// Number of streams that have begun and not ended.
    pub(super) fn listening(&self) -> usize {
        self.listening
    }

    /// Connects all, and waits until each has its first line, at most until `until`. Calls `progress` from time to
    /// time.
    ///
    /// # Errors
    /// If a connection cannot be tried, there was a signal, or the system cannot wait for sockets.
    pub(super) fn begin(&mut self, until: Instant, mut progress: impl FnMut(usize)) -> Result<(), Failure> {
        let (mut next, mut told) = (0, Instant::now());
        while self.listening + usize::try_from(self.tally.dropped).unwrap_or(0) < self.listeners.len()
            && Instant::now() < until
        {
            while self.connecting < CONNECTING && next < self.listeners.len() {
                self.connect(next)?;
                next += 1;
            }
            self.turn(until)?;
            if told.elapsed() >= Duration::from_secs(1) {
                told = Instant::now();
                progress(self.listening);
            }
        }
        Ok(())
    }

    fn connect(&mut self, number: usize) -> Result<(), Failure> {
        let target = &self.targets[number % self.targets.len()];
        let cannot = |error: io::Error| {
            Failure::Failed(format!("cannot connect stream {number} to {}: {error}", target.url))
        };
        let mut stream = target.begin(number).map_err(cannot)?;
        let interest = Interest::READABLE | Interest::WRITABLE;
        self.poll.registry().register(stream.socket(), Token(number), interest).map_err(broken)?;
        let listener = &mut self.listeners[number];
        listener.stream = Some(stream);
        listener.state = ListenerState::Connecting;
        self.connecting += 1;
        Ok(())
    }

    /// Reads what has come, until `until` or for a short time.
    ///
    /// # Errors
    /// If there was a signal, or the system cannot wait for sockets.
    pub(super) fn turn(&mut self, until: Instant) -> Result<(), Failure> {
        self.interrupt.check()?;
        let mut events = Events::with_capacity(4096);
        let left = until.saturating_duration_since(Instant::now()).min(CHECK_EVERY);
        match self.poll.poll(&mut events, Some(left)) {
            Err(error) if error.kind() != ErrorKind::Interrupted => return Err(broken(error)),
            _ => {}
        }
        for event in &events {
            let Token(number) = event.token();
            match self.listeners[number].state {
                ListenerState::Connecting => self.go_on(number),
                // with TLS there may be bytes that the socket did not take
                _ => self.flush(number),
            }
            if event.is_readable() && self.listeners[number].state != ListenerState::Connecting {
                self.receive(number);
            }
        }
        Ok(())
    }

    /// Asks for the stream, once the connection is open.
    fn go_on(&mut self, number: usize) {
        let url = &self.targets[number % self.targets.len()].url;
        let request = exchange::watch(url, &self.target, self.form.media_type());
        let Some(stream) = &mut self.listeners[number].stream else { return };
        let is_open = stream.take_error().map_or_else(|| stream.is_open(), Err);
        let sent = match is_open {
            Ok(false) => return,
            Ok(true) => stream.write(&request),
            Err(error) => Err(error),
        };
        match sent {
            // a socket without unsent bytes takes a whole request
            Ok(sent) if sent == request.len() => {
                self.connecting -= 1;
                self.listeners[number].state = ListenerState::Begun;
            }
            Ok(_) => self.lose(number, "a request was not taken"),
            Err(error) => self.lose(number, &error.to_string()),
        }
    }

    fn flush(&mut self, number: usize) {
        let Some(stream) = &mut self.listeners[number].stream else { return };
        if let Err(error) = stream.flush() {
            self.lose(number, &error.to_string());
        }
    }

    fn lose(&mut self, number: usize, why: &str) {
        let listener = &mut self.listeners[number];
        match std::mem::replace(&mut listener.state, ListenerState::Gone) {
            ListenerState::Gone => return,
            ListenerState::Connecting => self.connecting -= 1,
            ListenerState::Begun => {}
            ListenerState::Listening => self.listening -= 1,
        }
        listener.stream = None;
        listener.line = Vec::new();
        self.tally.dropped += 1;
        self.tally.trouble = Some(why.to_owned());
    }

    fn receive(&mut self, number: usize) {
        let mut scratch = std::mem::take(&mut self.scratch);
        while let Some(stream) = &mut self.listeners[number].stream {
            let is_tls = stream.is_tls();
            match stream.read(&mut scratch) {
                Ok(0) => self.lose(number, "the node hung up"),
                Ok(got) => {
                    self.tally.bytes += got as u64;
                    self.hear(number, &scratch[..got]);
                    // then a short read has emptied the socket
                    if got < scratch.len() && !is_tls {
                        break;
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => self.lose(number, &error.to_string()),
            }
        }
        self.scratch = scratch;
    }

    /// Takes the lines out of what has come, heads and the lengths of chunks included.
    fn hear(&mut self, number: usize, mut bytes: &[u8]) {
        let now = Instant::now();
        let mut kept = std::mem::take(&mut self.listeners[number].line);
        while let Some((line, rest)) = first_line(bytes) {
            if kept.is_empty() {
                self.take(number, line, now);
            } else {
                kept.extend_from_slice(line);
                self.take(number, &kept, now);
                kept.clear();
            }
            bytes = rest;
        }
        if kept.len() + bytes.len() > MAX_LINE_BYTES {
            return self.lose(number, "a line without an end");
        }
        kept.extend_from_slice(bytes);
        if self.listeners[number].state != ListenerState::Gone {
            self.listeners[number].line = kept;
        }
    }

    fn take(&mut self, number: usize, line: &[u8], now: Instant) {
        match self.listeners[number].state {
            ListenerState::Gone | ListenerState::Connecting => return,
            ListenerState::Begun => {
                if let Some(status) = line.strip_prefix(b"HTTP/1.1 ")
                    && !status.starts_with(b"200")
                {
                    self.tally.refused += 1;
                    let said = String::from_utf8_lossy(status).trim().to_owned();
                    return self.lose(number, &said);
                }
                if is_event(line) {
                    self.listeners[number].state = ListenerState::Listening;
                    self.listening += 1;
                }
            }
            ListenerState::Listening => {}
        }
        match read(line) {
            Line::Put(name, version) => self.deliveries.hear(number, name, version, now),
            Line::Gap => self.tally.gaps += 1,
            Line::Error => self.lose(number, &String::from_utf8_lossy(line)),
            Line::End => self.lose(number, "the node ended the stream"),
            Line::Other => {}
        }
    }
}

/// The first line without its line feed, and what follows; `None` if it has no end yet.
fn first_line(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    // the search of the system is many times faster than one byte by byte
    let taken = (&mut &*bytes).skip_until(b'\n').ok()?;
    let (line, rest) = bytes.split_at(taken);
    Some((line.strip_suffix(b"\n")?, rest))
}

fn content(line: &[u8]) -> &[u8] {
    line.strip_prefix(b"data: ").unwrap_or(line)
}

fn is_event(line: &[u8]) -> bool {
    content(line).starts_with(b"{\"type\":\"")
}

/// Reads a line of a stream. The members of an event come in the order of this program.
pub(super) fn read(line: &[u8]) -> Line {
    if line == b"0\r" {
        return Line::End;
    }
    let Some(event) = content(line).strip_prefix(b"{\"type\":\"") else { return Line::Other };
    let Some(put) = event.strip_prefix(b"put\",\"name\":\"") else {
        return match event.first() {
            Some(b'r' | b'c' | b'a') => Line::Gap,
            Some(b'e') => Line::Error,
            _ => Line::Other,
        };
    };
    named(put).map_or(Line::Other, |(name, version)| Line::Put(name, version))
}

/// Name and version of a put, from its name on.
fn named(put: &[u8]) -> Option<(usize, u32)> {
    let end = put.iter().position(|byte| *byte == b'"')?;
    let name = std::str::from_utf8(&put[..end]).ok()?.rsplit('/').next()?.parse().ok()?;
    let version = put[end..].strip_prefix(b"\",\"version\":\"")?;
    let digits = version.iter().take_while(|byte| byte.is_ascii_digit()).count();
    Some((name, std::str::from_utf8(&version[..digits]).ok()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_has_an_end() {
        assert_eq!(first_line(b"a\nb\nc"), Some((&b"a"[..], &b"b\nc"[..])));
        assert_eq!(first_line(b"\n"), Some((&b""[..], &b""[..])));
        assert_eq!((first_line(b"c"), first_line(b"")), (None, None));
    }

    #[test]
    fn lines_of_both_forms_are_read() {
        let put = r#"{"type":"put","name":"bench/0a/17","version":"345","revision":1}"#;
        for (line, expected) in [
            (put, Line::Put(17, 345)),
            (&format!("data: {put}"), Line::Put(17, 345)),
            (r#"{"type":"put","name":"other","version":"345"}"#, Line::Other),
            (r#"{"type":"progress","cursor":"c1.x"}"#, Line::Other),
            (r#"data: {"type":"synced"}"#, Line::Other),
            (r#"{"type":"reset","reason":"horizon"}"#, Line::Gap),
            (r#"{"type":"compacted"}"#, Line::Gap),
            (r#"data: {"type":"error","code":"busy"}"#, Line::Error),
            ("id: c1.x", Line::Other),
            ("1a0\r", Line::Other),
            ("0\r", Line::End),
            ("", Line::Other),
        ] {
            assert_eq!(read(line.as_bytes()), expected, "{line}");
        }
    }
}
