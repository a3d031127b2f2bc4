//! Very many watchers in one thread. Each is a connection that parks, is woken, and parks again.

use std::io::{self, ErrorKind, Read, Write};
use std::time::{Duration, Instant};

use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};

use super::CHECK_EVERY;
use super::channel::Channel;
use super::exchange;
use super::target::Target;
use super::wakes::Wakes;
use crate::cli::failure::Failure;
use crate::cli::stop::Interrupt;
use crate::client::url::{parameter, path_of, with_query};
use crate::wire::duration::GoDuration;

/// Most connections that are being opened at the same time.
const CONNECTING: usize = 512;

/// The counts of all watchers.
#[derive(Default)]
pub(super) struct Tally {
    /// Answers with a newer version, also in the warm-up.
    pub(super) woken: u64,
    /// Answers with the known version, before the timeout.
    pub(super) early: u64,
    /// Answers with an older version.
    pub(super) stale: u64,
    /// Answers with the known version, after the timeout.
    pub(super) timeouts: u64,
    /// 503, and other errors.
    pub(super) refused: u64,
    /// Connections that ended.
    pub(super) dropped: u64,
    /// The reason of the last error or lost connection.
    pub(super) trouble: Option<String>,
}

struct Watcher {
    stream: Option<Channel<TcpStream>>,
    name: u32,
    /// The newest version so far.
    knows: u32,
    state: WatcherState,
    read: Vec<u8>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum WatcherState {
    /// Without a connection.
    Gone,
    Connecting,
    /// It has an answer and may send the next request.
    Ready,
    /// It waits for an answer since this time.
    Asked(Instant),
}

/// All watchers.
pub(super) struct Crowd {
    poll: Poll,
    targets: Vec<Target>,
    names: Vec<String>,
    timeout: Duration,
    watchers: Vec<Watcher>,
    connecting: usize,
    asking: usize,
    scratch: Box<[u8]>,
    interrupt: Interrupt,
    pub(super) tally: Tally,
    /// The wakes by version; `None` before the first write.
    pub(super) wakes: Option<Wakes>,
}

fn broken(what: &str) -> impl Fn(io::Error) -> Failure + '_ {
    move |error| Failure::Failed(format!("cannot {what}: {error}: check the limits of this system"))
}

impl Crowd {
    /// Watchers without connections, spread over the names, and those of a name over the nodes. All know version 0.
    /// There is at least one node and one name.
    pub(super) fn new(
        targets: Vec<Target>,
        names: Vec<String>,
        watchers: usize,
        timeout: Duration,
        interrupt: &Interrupt,
    ) -> Result<Self, Failure> {
        let watcher = |number: usize| Watcher {
            stream: None,
            name: u32::try_from(number % names.len()).unwrap_or(0),
            knows: 0,
            state: WatcherState::Gone,
            read: Vec::new(),
        };
        let watchers = (0..watchers).map(watcher).collect();
        Ok(Self {
            poll: Poll::new().map_err(broken("wait for sockets"))?,
            targets,
            names,
            timeout,
            watchers,
            connecting: 0,
            asking: 0,
            scratch: vec![0; 64 * 1024].into(),
            interrupt: interrupt.clone(),
            tally: Tally::default(),
            wakes: None,
        })
    }

    /// Index of the node of a watcher.
    fn at(&self, number: usize) -> usize {
        number / self.names.len() % self.targets.len()
    }

    /// Number of watchers.
    pub(super) fn watchers(&self) -> usize {
        self.watchers.len()
    }

    /// Number of watchers that wait for an answer.
    pub(super) fn asking(&self) -> usize {
        self.asking
    }

    /// Number of watchers that have not seen `version`, in any state.
    pub(super) fn behind(&self, version: u32) -> usize {
        self.watchers.iter().filter(|watcher| watcher.knows < version).count()
    }

    /// Connects watchers and sends their requests, until all wait for an answer or until `until`. Calls `progress` from
    /// time to time.
    pub(super) fn park(&mut self, until: Instant, mut progress: impl FnMut(usize)) -> Result<(), Failure> {
        for number in 0..self.watchers.len() {
            if self.watchers[number].state == WatcherState::Ready {
                self.ask(number);
            }
        }
        let mut next = 0;
        let mut told = Instant::now();
        loop {
            while self.connecting < CONNECTING && next < self.watchers.len() {
                if self.watchers[next].state == WatcherState::Gone {
                    self.connect(next)?;
                }
                next += 1;
            }
            if self.connecting == 0 || Instant::now() >= until {
                return Ok(());
            }
            self.turn(until.min(Instant::now() + Duration::from_secs(1)))?;
            if told.elapsed() >= Duration::from_secs(1) {
                told = Instant::now();
                progress(self.asking());
            }
        }
    }

    fn connect(&mut self, number: usize) -> Result<(), Failure> {
        let target = &self.targets[self.at(number)];
        let url = &target.url;
        let cannot =
            |error: io::Error| Failure::Failed(format!("cannot connect watcher {number} to {url}: {error}"));
        let mut stream = target.begin(number).map_err(cannot)?;
        let interest = Interest::READABLE | Interest::WRITABLE;
        self.poll
            .registry()
            .register(stream.socket(), Token(number), interest)
            .map_err(broken("watch a socket"))?;
        let watcher = &mut self.watchers[number];
        watcher.stream = Some(stream);
        watcher.state = WatcherState::Connecting;
        watcher.read.clear();
        self.connecting += 1;
        Ok(())
    }

    fn ask(&mut self, number: usize) {
        let url = &self.targets[self.at(number)].url;
        let watcher = &mut self.watchers[number];
        let path = path_of(&self.names[watcher.name as usize]);
        let timeout = GoDuration(self.timeout).to_string();
        let known = [parameter("version", &watcher.knows.to_string()), parameter("timeout", &timeout)];
        let request = exchange::get(url, &with_query(&path, &known));
        // taken before the request is sent: the node counts from its arrival
        let now = Instant::now();
        let sent = watcher.stream.as_mut().map(|stream| stream.write(&request));
        match sent {
            // a socket without unsent bytes takes a whole request
            Some(Ok(sent)) if sent == request.len() => {
                watcher.state = WatcherState::Asked(now);
                self.asking += 1;
            }
            Some(Err(error)) => self.lose(number, &error.to_string()),
            _ => self.lose(number, "a request was not taken"),
        }
    }

    fn lose(&mut self, number: usize, why: &str) {
        let watcher = &mut self.watchers[number];
        match watcher.state {
            WatcherState::Connecting => self.connecting -= 1,
            WatcherState::Asked(_) => self.asking -= 1,
            WatcherState::Gone | WatcherState::Ready => {}
        }
        watcher.state = WatcherState::Gone;
        watcher.stream = None;
        self.tally.dropped += 1;
        self.tally.trouble = Some(why.to_owned());
    }

    /// Reads answers until `until`, until some have come, or for a short time.
    ///
    /// # Errors
    /// If there was a signal, or the system cannot wait for sockets.
    pub(super) fn turn(&mut self, until: Instant) -> Result<(), Failure> {
        self.interrupt.check()?;
        let mut events = Events::with_capacity(4096);
        let left = until.saturating_duration_since(Instant::now()).min(CHECK_EVERY);
        match self.poll.poll(&mut events, Some(left)) {
            Err(error) if error.kind() != ErrorKind::Interrupted => {
                return Err(broken("wait for sockets")(error));
            }
            _ => {}
        }
        for event in &events {
            let Token(number) = event.token();
            match self.watchers[number].state {
                WatcherState::Connecting => self.go_on(number),
                // with TLS there may be bytes that the socket did not take
                _ => self.flush(number),
            }
            if event.is_readable() && self.watchers[number].state != WatcherState::Connecting {
                self.receive(number);
            }
        }
        Ok(())
    }

    /// Asks, once the connection is open.
    fn go_on(&mut self, number: usize) {
        let Some(stream) = &mut self.watchers[number].stream else { return };
        match stream.take_error().map_or_else(|| stream.is_open(), Err) {
            Ok(false) => {}
            Ok(true) => {
                self.connecting -= 1;
                self.watchers[number].state = WatcherState::Ready;
                self.ask(number);
            }
            Err(error) => self.lose(number, &error.to_string()),
        }
    }

    fn flush(&mut self, number: usize) {
        let Some(stream) = &mut self.watchers[number].stream else { return };
        if let Err(error) = stream.flush() {
            self.lose(number, &error.to_string());
        }
    }

    fn receive(&mut self, number: usize) {
        loop {
            let watcher = &mut self.watchers[number];
            let Some(stream) = &mut watcher.stream else { return };
            let is_tls = stream.is_tls();
            match stream.read(&mut self.scratch) {
                Ok(0) => return self.lose(number, "the node hung up"),
                Ok(got) => {
                    watcher.read.extend_from_slice(&self.scratch[..got]);
                    self.hear(number);
                    // then a short read has emptied the socket
                    if got < self.scratch.len() && !is_tls {
                        return;
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return self.lose(number, &error.to_string()),
            }
        }
    }

    /// Counts an answer, if it is whole.
    fn hear(&mut self, number: usize) {
        let now = Instant::now();
        let Self { watchers, tally, timeout, wakes, asking, .. } = self;
        let watcher = &mut watchers[number];
        let answer = match exchange::read(&watcher.read) {
            Ok(None) => return,
            Ok(Some(answer)) => answer,
            Err(why) => return self.lose(number, &why),
        };
        let is_last = answer.is_last;
        let version = answer.version.and_then(|version| version.parse::<u32>().ok());
        let waited = match watcher.state {
            WatcherState::Asked(since) => {
                *asking -= 1;
                now - since
            }
            _ => Duration::ZERO,
        };
        let mut again = false;
        match version.filter(|_| answer.status == 200) {
            None => {
                tally.refused += 1;
                let said = String::from_utf8_lossy(answer.body);
                tally.trouble = Some(format!("{}: {}", answer.status, said.trim()));
            }
            Some(version) if version > watcher.knows => {
                tally.woken += 1;
                if let Some(wakes) = wakes {
                    wakes.hear(watcher.knows, version, now);
                }
                watcher.knows = version;
            }
            Some(version) => {
                again = true;
                match version == watcher.knows {
                    true if waited >= *timeout => tally.timeouts += 1,
                    true => tally.early += 1,
                    false => tally.stale += 1,
                }
            }
        }
        watcher.read.clear();
        watcher.state = WatcherState::Ready;
        if is_last {
            self.lose(number, "the node closed the connection");
        } else if again {
            self.ask(number);
        }
    }
}
