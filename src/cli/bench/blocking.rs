//! A blocking connection, for writes in a thread of their own, and for requests beside the load.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use super::super::failure::Failure;
use super::super::stop::Interrupt;
use super::CHECK_EVERY;
use super::channel::{Channel, is_pause};
use super::exchange::{self, RawAnswer};
use super::target::Target;
use crate::wire::duration::GoDuration;

/// Default time for an answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);

/// Time for the answer to a probe, before anything is measured.
const PROBE_TIMEOUT: Duration = Duration::from_secs(2);

/// A connection that was unused for this long is replaced: nodes close silent connections.
const STALE: Duration = Duration::from_secs(5);

/// Largest answer that is read, in bytes: more than any page of metrics.
const MAX_HTTP_ANSWER_BYTES: usize = 16 << 20;

/// A kept connection.
pub(super) struct Blocking {
    stream: Channel<TcpStream>,
    pub(super) target: Target,
    interrupt: Interrupt,
    /// Time for an answer, and for the node to read a request.
    patience: Duration,
    read: Vec<u8>,
    /// Bytes of `read` that belong to answers which were returned.
    taken: usize,
    used: Instant,
}

impl Blocking {
    /// Connects to a node that answers.
    ///
    /// # Errors
    /// If the node cannot be reached or is silent, which is not the same as slow under load. Or a signal.
    pub(super) fn open(target: Target, interrupt: &Interrupt) -> Result<Self, Failure> {
        let mut connection = Self::open_with(target, interrupt, PROBE_TIMEOUT)?;
        connection.send(&exchange::get(&connection.target.url, "/healthz"))?;
        let is_last = connection.answer()?.is_last;
        connection.patience = ANSWER_TIMEOUT;
        if is_last {
            connection.reopen()?;
        }
        Ok(connection)
    }

    /// Connects to a node, with a time for each answer.
    pub(super) fn open_with(
        target: Target,
        interrupt: &Interrupt,
        patience: Duration,
    ) -> Result<Self, Failure> {
        interrupt.check()?;
        let stream = target.connect()?;
        let set = stream.set_timeouts(CHECK_EVERY);
        set.map_err(|error| Failure::Failed(format!("cannot reach {}: {error}", target.url)))?;
        let (interrupt, read) = (interrupt.clone(), Vec::new());
        Ok(Self { stream, target, interrupt, patience, read, taken: 0, used: Instant::now() })
    }

    fn reopen(&mut self) -> Result<(), Failure> {
        *self = Self::open_with(self.target.clone(), &self.interrupt, self.patience)?;
        Ok(())
    }

    /// Replaces the connection if the node may have closed it.
    pub(super) fn refresh(&mut self) -> Result<(), Failure> {
        if self.used.elapsed() > STALE || self.stream.is_closed() { self.reopen() } else { Ok(()) }
    }

    pub(super) fn send(&mut self, requests: &[u8]) -> Result<(), Failure> {
        self.refresh()?;
        self.used = Instant::now();
        let mut sent = 0;
        while sent < requests.len() {
            match self.stream.write(&requests[sent..]) {
                Ok(taken) => sent += taken,
                Err(error) if is_pause(&error) => self.wait_on("takes no requests")?,
                Err(error) => {
                    return Err(Failure::Failed(format!("cannot write to {}: {error}", self.target.url)));
                }
            }
        }
        Ok(())
    }

    /// Checks whether to continue to wait: no signal has come, and the time is not over.
    fn wait_on(&self, what: &str) -> Result<(), Failure> {
        self.interrupt.check()?;
        if self.used.elapsed() < self.patience {
            return Ok(());
        }
        let (url, patience) = (&self.target.url, GoDuration(self.patience));
        Err(Failure::Failed(format!("{url} {what} for {patience}: is the node well?")))
    }

    /// The next answer.
    pub(super) fn answer(&mut self) -> Result<RawAnswer<'_>, Failure> {
        self.read.drain(..self.taken);
        self.taken = 0;
        let failed = |why: &str| Failure::Failed(format!("no answer from {}: {why}", self.target.url));
        self.used = Instant::now();
        let mut piece = [0; 16 * 1024];
        loop {
            if let Some(answer) = exchange::read(&self.read).map_err(|why| failed(&why))? {
                self.taken = answer.bytes;
                break;
            }
            if self.read.len() > MAX_HTTP_ANSWER_BYTES {
                return Err(failed("it does not end"));
            }
            match self.stream.read(&mut piece) {
                Ok(0) => return Err(failed("it hung up")),
                Ok(got) => self.read.extend_from_slice(&piece[..got]),
                Err(error) if is_pause(&error) => self.wait_on("does not answer")?,
                Err(error) => return Err(failed(&error.to_string())),
            }
        }
        exchange::read(&self.read).ok().flatten().ok_or_else(|| failed("it cannot be read"))
    }

    /// The next answer, which must be a success.
    pub(super) fn good_answer(&mut self) -> Result<RawAnswer<'_>, Failure> {
        let url = self.target.url.clone();
        let answer = self.answer()?;
        if (200..300).contains(&answer.status) {
            return Ok(answer);
        }
        let said = String::from_utf8_lossy(answer.body).trim().to_owned();
        // the line of the node has advice for users of HTTP
        let advice = if answer.status == 401 { ": give --token-file or VWATCH_TOKEN" } else { "" };
        Err(Failure::Failed(format!("{url} answers {}: {said}{advice}", answer.status)))
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
