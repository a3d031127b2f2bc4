//! One connection that is waited for: for writes that have a thread of their own, and for what is asked beside the load.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use super::super::failure::Failure;
use super::exchange::{self, Answer};
use super::target::Target;

const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);

/// A connection that was not used for so long is made anew: nodes close those that are silent.
const STALE: Duration = Duration::from_secs(5);

/// Largest answer that is read: any page of metrics.
const MAX_ANSWER_BYTES: usize = 16 << 20;

/// A kept connection.
pub(super) struct Blocking {
    stream: TcpStream,
    pub(super) target: Target,
    read: Vec<u8>,
    /// Of what was read, so much was answered.
    taken: usize,
    used: Instant,
}

impl Blocking {
    pub(super) fn open(target: Target) -> Result<Self, Failure> {
        let stream = target.connect()?;
        let set = stream.set_read_timeout(Some(ANSWER_TIMEOUT));
        set.map_err(|error| Failure::Failed(format!("cannot reach {}: {error}", target.url)))?;
        Ok(Self { stream, target, read: Vec::new(), taken: 0, used: Instant::now() })
    }

    /// Makes the connection anew if it may be closed by now.
    pub(super) fn refresh(&mut self) -> Result<(), Failure> {
        if self.used.elapsed() > STALE {
            *self = Self::open(self.target.clone())?;
        }
        Ok(())
    }

    pub(super) fn send(&mut self, requests: &[u8]) -> Result<(), Failure> {
        self.refresh()?;
        self.used = Instant::now();
        let sent = self.stream.write_all(requests);
        sent.map_err(|error| Failure::Failed(format!("cannot write to {}: {error}", self.target.url)))
    }

    /// The next answer.
    pub(super) fn answer(&mut self) -> Result<Answer<'_>, Failure> {
        self.read.drain(..self.taken);
        self.taken = 0;
        let failed = |why: &str| Failure::Failed(format!("no answer from {}: {why}", self.target.url));
        let mut piece = [0; 16 * 1024];
        loop {
            if let Some(answer) = exchange::read(&self.read).map_err(|why| failed(&why))? {
                self.taken = answer.bytes;
                break;
            }
            if self.read.len() > MAX_ANSWER_BYTES {
                return Err(failed("it does not end"));
            }
            match self.stream.read(&mut piece) {
                Ok(0) => return Err(failed("it hung up")),
                Ok(got) => self.read.extend_from_slice(&piece[..got]),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(failed(&error.to_string())),
            }
        }
        exchange::read(&self.read).ok().flatten().ok_or_else(|| failed("it cannot be read"))
    }

    /// The next answer, which must be a good one.
    pub(super) fn good_answer(&mut self) -> Result<Answer<'_>, Failure> {
        let url = self.target.url.clone();
        let answer = self.answer()?;
        if (200..300).contains(&answer.status) {
            return Ok(answer);
        }
        let said = String::from_utf8_lossy(answer.body).trim().to_owned();
        Err(Failure::Failed(format!("{url} answers {}: {said}", answer.status)))
    }

    /// The value of a metric without labels, if the node has it.
    pub(super) fn metric(&mut self, name: &str) -> Option<u64> {
        self.send(&exchange::get(&self.target.url, "/metrics")).ok()?;
        let answer = self.good_answer().ok()?;
        let page = std::str::from_utf8(answer.body).ok()?;
        let value = page.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '))?;
        value.parse().ok()
    }
}
