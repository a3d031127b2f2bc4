//! A stream of lease events: when it is told of each lease that has expired.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, ErrorKind, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use super::CHECK_EVERY;
use super::channel::Channel;
use super::exchange;
use super::target::Target;
use crate::cli::failure::Failure;
use crate::cli::stop::Interrupt;
use crate::client::url::{parameter, with_query};

/// Time for the stream to begin.
const BEGINNING: Duration = Duration::from_secs(10);

/// Longest line, in bytes: more than any event of a lease.
const MAX_LINE_BYTES: usize = 64 * 1024;

/// A stream that tells lease events of one prefix.
pub(super) struct Expiries {
    lines: BufReader<Channel<TcpStream>>,
    line: Vec<u8>,
    target: Target,
}

impl Expiries {
    /// Opens the stream, and waits until it has told what is held.
    pub(super) fn open(target: &Target, base: &str, interrupt: &Interrupt) -> Result<Self, Failure> {
        let mut stream = target.connect()?;
        let query = [
            parameter("prefix", &format!("{base}/")),
            parameter("since", "now"),
            parameter("leases", "true"),
        ];
        let (url, path) = (&target.url, with_query("/v1/watch", &query));
        let request = exchange::watch(url, &path, "application/x-ndjson");
        let sent = stream.set_timeouts(CHECK_EVERY).and_then(|()| stream.write_all(&request));
        sent.map_err(|error| Failure::Failed(format!("cannot reach {url}: {error}")))?;
        let mut stream = Self { lines: BufReader::new(stream), line: Vec::new(), target: target.clone() };
        let until = Instant::now() + BEGINNING;
        while !stream.next(until, interrupt)?.starts_with(b"{\"type\":\"leases-synced\"") {
            if stream.line.starts_with(b"HTTP/1.1 ") && !stream.line.starts_with(b"HTTP/1.1 200") {
                return Err(stream.failed(String::from_utf8_lossy(&stream.line).trim()));
            }
        }
        Ok(stream)
    }

    /// Waits until so many leases have expired, at most for a time. Returns when each path was told.
    pub(super) fn wait_for(
        mut self,
        count: usize,
        patience: Duration,
        interrupt: &Interrupt,
    ) -> Result<HashMap<String, Instant>, Failure> {
        let until = Instant::now() + patience;
        let mut told = HashMap::new();
        while told.len() < count {
            if let Some(path) = expired(self.next(until, interrupt)?) {
                told.insert(path, Instant::now());
            }
        }
        Ok(told)
    }

    /// The next line: of the head, of an event, or the length of a chunk.
    fn next(&mut self, until: Instant, interrupt: &Interrupt) -> Result<&[u8], Failure> {
        self.line.clear();
        loop {
            interrupt.check()?;
            match self.lines.read_until(b'\n', &mut self.line) {
                Ok(0) => return Err(self.failed("it hung up")),
                Ok(_) if self.line.ends_with(b"\n") => return Ok(&self.line),
                Err(error) if !is_pause(&error) => return Err(self.failed(&error.to_string())),
                _ => {}
            }
            if self.line.len() > MAX_LINE_BYTES {
                return Err(self.failed("a line without an end"));
            }
            if Instant::now() > until {
                return Err(self.failed("its stream does not tell all that has expired"));
            }
        }
    }

    fn failed(&self, why: &str) -> Failure {
        Failure::Failed(format!("no lease events from {}: {why}", self.target.url))
    }
}

fn is_pause(error: &std::io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted)
}

/// The path of the lease that has expired, of a line that says that.
fn expired(line: &[u8]) -> Option<String> {
    let event = line.strip_prefix(b"{\"type\":\"expired\",")?;
    let path = event.strip_prefix(b"\"path\":\"")?;
    let end = path.iter().position(|byte| *byte == b'"')?;
    String::from_utf8(path[..end].to_vec()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_end_is_counted() {
        let line = br#"{"type":"expired","path":"bench/1","prefix":false,"holder":"","token":7}"#;
        assert_eq!(expired(line).as_deref(), Some("bench/1"));
        for other in
            [&br#"{"type":"released","path":"bench/1"}"#[..], b"5a\r\n", b"{\"type\":\"leases-synced\"}"]
        {
            assert_eq!(expired(other), None);
        }
    }
}
