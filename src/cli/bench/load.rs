//! `vwatch bench put` and `vwatch bench get`: requests at a steady rate, or as fast as the node answers.

use std::collections::VecDeque;
use std::io::{ErrorKind, Read, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use clap::Args;
use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token, Waker};

use super::super::args;
use super::super::failure::{Failure, tell};
use super::super::nodes::Nodes;
use super::super::output::{Output, print};
use super::super::stop::Interrupt;
use super::blocking::Blocking;
use super::channel::Channel;
use super::figures::{Figures, Times};
use super::names::Names;
use super::server::Process;
use super::target::{Target, make_room};
use super::{exchange, process};
use crate::client::url::path_of;
use crate::wire::duration;

/// Precision of the times of requests. Sleeps of the system are not much more precise.
const PACE: Duration = Duration::from_micros(100);

/// Most requests a second: more than one thread can send.
const MOST_RATE: u64 = 1_000_000;

/// Longest wait for answers after the last request.
const GIVE_UP: Duration = Duration::from_secs(10);

/// A connection that ends this soon, without any answer, did not end because it was silent. It is not replaced, so that
/// a server which closes each connection at once does not get new ones at that rate.
const AT_ONCE: Duration = Duration::from_millis(100);

/// A request on a connection that was silent for this long may cross with its close. The client cannot know which came
/// first, so it sends the request once more.
const SILENT: Duration = Duration::from_millis(500);

/// Measure writes
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES_PUT)]
pub(super) struct Put {
    #[command(flatten)]
    load: Load,
    #[command(flatten)]
    output: Output,
    #[command(flatten)]
    nodes: Nodes,
}

/// Measure reads
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES_GET)]
pub(super) struct Get {
    #[command(flatten)]
    load: Load,
    #[command(flatten)]
    output: Output,
    #[command(flatten)]
    nodes: Nodes,
}

const EXAMPLES_PUT: &str = "\
Examples:
  vwatch bench put                             1,000 a second for 10s
  vwatch bench put --rate 20000 --names 10000
  vwatch bench put --rate 0 --connections 64   as fast as the node answers

With --rate 0 a request is due when the one before is answered: such a run shows the throughput, and hides stalls.";

const EXAMPLES_GET: &str = "\
Examples:
  vwatch bench get                             1,000 a second for 10s
  vwatch bench get --rate 50000 --connections 64
  vwatch bench get --rate 0 --connections 64   as fast as the node answers

With --rate 0 a request is due when the one before is answered: such a run shows the throughput, and hides stalls.";

#[derive(Debug, Args)]
struct Load {
    /// Requests a second, at most 1000000; 0 is as fast as the node answers
    #[arg(long, value_name = "COUNT", default_value = "1000")]
    rate: u64,
    /// Duration of the run
    #[arg(long, value_name = "DURATION", default_value = "10s", value_parser = duration::parse)]
    duration: Duration,
    /// Number of connections
    #[arg(long, value_name = "COUNT", default_value = "16", value_parser = args::count)]
    connections: u64,
    /// Number of names, in turn
    #[arg(long, value_name = "COUNT", default_value = "100", value_parser = args::count)]
    names: u64,
    /// Bytes of data of each name
    #[arg(long, value_name = "BYTES", default_value = "64")]
    size: usize,
    /// Process of the node, if its port does not identify it
    #[arg(long, value_name = "PID")]
    pid: Option<u32>,
}

pub(super) fn put(args: &Put, interrupt: &Interrupt) -> Result<(), Failure> {
    let target = Target::of(args.nodes.writer_urls(false)?, "server-url")?;
    let control = Blocking::open(target.clone(), interrupt)?;
    let data = vec![b'.'; args.load.size];
    let request = |url: &_, name: &str, number: u64| {
        exchange::put(url, &format!("{}?version={number}", path_of(name)), &data)
    };
    run("put", &args.load, &args.output, &target, control, interrupt, request)
}

pub(super) fn get(args: &Get, interrupt: &Interrupt) -> Result<(), Failure> {
    let target = Target::of(args.nodes.reader_urls()?, "client-url")?;
    let control = Blocking::open(Target::of(args.nodes.writer_urls(true)?, "server-url")?, interrupt)?;
    let request = |url: &_, name: &str, _| exchange::get(url, &path_of(name));
    run("get", &args.load, &args.output, &target, control, interrupt, request)
}

fn run(
    of: &str,
    load: &Load,
    output: &Output,
    target: &Target,
    mut control: Blocking,
    interrupt: &Interrupt,
    request: impl Fn(&crate::client::url::Url, &str, u64) -> Vec<u8>,
) -> Result<(), Failure> {
    if load.duration.is_zero() {
        return Err(Failure::Usage("bad --duration: it is zero: got 0s: give some seconds".to_owned()));
    }
    if load.rate > MOST_RATE {
        let rate = load.rate;
        return Err(Failure::Usage(format!(
            "bad --rate: more than can be sent: got {rate}: give at most {MOST_RATE}, or 0"
        )));
    }
    let connections = usize::try_from(load.connections).unwrap_or(usize::MAX);
    make_room(connections, "connections")?;
    let process = process(load.pid, target)?;
    let names = Names::new(load.names)?;
    let came = names.write(&mut control, 0, load.size).and_then(|()| {
        let mut lines = Lines::open(target, connections, interrupt)?;
        let ran_before = process.and_then(Process::processor_time);
        let came = lines.drive(load, |number| {
            let name = &names.0[usize::try_from(number % load.names).unwrap_or(0)];
            request(&target.url, name, number)
        })?;
        Ok((came, process.and_then(Process::processor_time).zip(ran_before)))
    });
    names.delete(&control.target);
    let (came, ran) = came?;

    let mut figures = Figures::default();
    figures.text("of", of);
    figures.text("schedule", if load.rate == 0 { "as fast as answered" } else { "steady" });
    figures.count("connections", load.connections);
    figures.count("answered", came.times.count());
    figures.number("per_second", came.times.count() as f64 / came.took.as_secs_f64());
    figures.times("ms", &came.times);
    figures.number("behind_ms", (load.rate > 0).then_some(came.behind.as_secs_f64() * 1e3));
    figures.count("refused", came.refused);
    figures.count("lost", came.lost);
    if let Some(process) = process {
        figures.count("server.pid", process.pid().into());
        let each = ran.map(|(after, before)| after.saturating_sub(before).as_secs_f64() * 1e6);
        figures.number("server.cpu_us_each", each.map(|us| us / came.times.count().max(1) as f64));
        figures.number("server.memory_bytes", process.memory().map(|bytes| bytes as f64));
    }
    print(figures.printed(output.format).as_bytes())?;
    if came.lost + came.refused > 0 {
        let Came { lost, refused, trouble, .. } = came;
        let why = trouble.map_or(String::new(), |why| format!(" ({why})"));
        return Err(Failure::Failed(format!("{lost} requests without an answer, {refused} refused{why}")));
    }
    Ok(())
}

/// The results of the requests.
#[derive(Default)]
struct Came {
    times: Times,
    refused: u64,
    lost: u64,
    trouble: Option<String>,
    took: Duration,
    /// The largest delay of a request for which a connection was free in time.
    behind: Duration,
}

/// The connections, each with at most one request under way.
struct Lines {
    target: Target,
    interrupt: Interrupt,
    poll: Poll,
    lines: Vec<Line>,
    idle: VecDeque<usize>,
    scratch: Box<[u8]>,
}

struct Line {
    stream: Channel<TcpStream>,
    read: Vec<u8>,
    /// The request under way, and how many bytes of it are sent.
    request: Vec<u8>,
    sent: usize,
    /// When the request under way was due.
    due: Option<Instant>,
    /// The request may be sent once more.
    may_repeat: bool,
    /// Since when no request is under way; `None` if one is.
    free_since: Instant,
    /// The connection is being opened.
    connecting: bool,
    /// When the connection was opened; `None` after its first answer.
    unused_since: Option<Instant>,
}

/// The token of events of the pacer. The token of a connection is its number.
const PACER: Token = Token(usize::MAX);

const INTEREST: Interest = Interest::READABLE.add(Interest::WRITABLE);

impl Lines {
    fn open(target: &Target, connections: usize, interrupt: &Interrupt) -> Result<Self, Failure> {
        let poll = Poll::new().map_err(system)?;
        let mut lines = Vec::new();
        for number in 0..connections {
            interrupt.check()?;
            let mut stream = target.connect()?.into_nonblocking().map_err(system)?;
            poll.registry().register(stream.socket(), Token(number), INTEREST).map_err(system)?;
            lines.push(Line {
                stream,
                read: Vec::new(),
                request: Vec::new(),
                sent: 0,
                due: None,
                may_repeat: false,
                free_since: Instant::now(),
                connecting: false,
                unused_since: Some(Instant::now()),
            });
        }
        let idle = (0..connections).collect();
        let (target, interrupt) = (target.clone(), interrupt.clone());
        Ok(Self { target, interrupt, poll, lines, idle, scratch: vec![0; 64 * 1024].into() })
    }

    fn drive(&mut self, load: &Load, request: impl Fn(u64) -> Vec<u8>) -> Result<Came, Failure> {
        let mut came = Came::default();
        let mut events = Events::with_capacity(1024);
        let begins = Instant::now();
        let end = begins + load.duration;
        let each = Duration::from_secs(1).div_f64(load.rate.max(1) as f64);
        let due_at = move |number: u64| begins + each.mul_f64(number as f64);
        let due_in_all = (load.duration.as_secs_f64() / each.as_secs_f64()).ceil() as u64;
        let pacer = Pacer::start(&self.poll, (load.rate > 0).then_some((begins, each)))?;
        let mut sent = 0;
        let mut told = begins;
        loop {
            self.interrupt.check()?;
            while let Some(&line) = self.idle.front() {
                let now = Instant::now();
                let due = if load.rate == 0 { now } else { due_at(sent) };
                if due >= end || due > now {
                    break;
                }
                self.idle.pop_front();
                // the first one in the queue was free first: if it was not free in time, none was
                if self.lines[line].free_since <= due {
                    came.behind = came.behind.max(now - due);
                }
                self.send(line, due, request(sent));
                sent += 1;
            }
            let now = Instant::now();
            let is_all = now >= end && (load.rate == 0 || due_at(sent) >= end);
            let is_quiet = self.lines.iter().all(|line| line.due.is_none());
            // a line that is neither busy, nor idle, nor being opened is broken
            let is_broken = || self.idle.is_empty() && self.lines.iter().all(|line| !line.connecting);
            if is_quiet && (is_all || is_broken()) || now >= end + GIVE_UP {
                break;
            }
            self.poll.poll(&mut events, Some(Duration::from_millis(100))).or_else(interrupted)?;
            for event in &events {
                if event.token() != PACER {
                    self.on_event(event.token().0, &mut came);
                }
            }
            if told.elapsed() >= Duration::from_secs(1) {
                told = Instant::now();
                let (answered, p99) = (came.times.count(), came.times.percentile_ms(99.0));
                tell(&format!("{:.0?}: {answered} answered, p99 {p99} ms", begins.elapsed()));
            }
        }
        drop(pacer);
        came.took = begins.elapsed();
        // requests that were due and not sent, and requests without an answer
        let unsent = if load.rate > 0 { due_in_all.saturating_sub(sent) } else { 0 };
        came.lost += unsent + self.lines.iter().filter(|line| line.due.is_some()).count() as u64;
        Ok(came)
    }

    fn send(&mut self, number: usize, due: Instant, request: Vec<u8>) {
        let line = &mut self.lines[number];
        line.due = Some(due);
        line.request = request;
        line.sent = 0;
        line.may_repeat = line.free_since.elapsed() >= SILENT;
        self.flush(number);
    }

    fn flush(&mut self, number: usize) {
        let line = &mut self.lines[number];
        while line.sent < line.request.len() {
            match line.stream.write(&line.request[line.sent..]) {
                Ok(sent) => line.sent += sent,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                // the end is read too, after the answers before it
                Err(_) => return line.sent = line.request.len(),
            }
        }
    }

    fn on_event(&mut self, number: usize, came: &mut Came) {
        if self.lines[number].connecting && !self.is_connected(number, came) {
            return;
        }
        self.flush(number);
        loop {
            let line = &mut self.lines[number];
            match line.stream.read(&mut self.scratch) {
                Ok(0) => return self.end(number, "the node hung up", came),
                Ok(got) => line.read.extend_from_slice(&self.scratch[..got]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => return self.end(number, &error.to_string(), came),
            }
            match exchange::read(&line.read) {
                Ok(None) => {}
                Err(why) => return self.end(number, &why, came),
                Ok(Some(answer)) => {
                    if !(200..300).contains(&answer.status) {
                        came.refused += 1;
                        let said = String::from_utf8_lossy(answer.body);
                        came.trouble = Some(format!("{}: {}", answer.status, said.trim()));
                    }
                    let is_last = answer.is_last;
                    line.read.clear();
                    line.request.clear();
                    line.unused_since = None;
                    if let Some(due) = line.due.take() {
                        came.times.record(due.elapsed());
                        line.free_since = Instant::now();
                        self.idle.push_back(number);
                    }
                    if is_last {
                        return self.end(number, "the node closed the connection", came);
                    }
                }
            }
        }
    }

    /// Handles the end of a line. Without a request under way it is reopened before its next use: nodes close silent
    /// connections, and nothing is lost. A request under way is lost, and its line is not used again.
    fn end(&mut self, number: usize, why: &str, came: &mut Came) {
        // the lines that were silent for longest end first, and are first in the queue
        if let Some(at) = self.idle.iter().position(|&idle| idle == number) {
            self.idle.remove(at);
        }
        let line = &mut self.lines[number];
        let ended_at_once = line.unused_since.is_some_and(|since| since.elapsed() < AT_ONCE);
        let goes_on = match line.due {
            Some(_) => std::mem::take(&mut line.may_repeat) && line.read.is_empty(),
            None => !line.connecting && !ended_at_once,
        };
        let why = match goes_on.then(|| self.reconnect(number)) {
            Some(Ok(())) => return,
            Some(Err(error)) => error.to_string(),
            None => why.to_owned(),
        };
        let line = &mut self.lines[number];
        came.lost += u64::from(line.due.take().is_some());
        came.trouble = Some(why);
        line.connecting = false;
        line.request.clear();
        // else its events would come again, and it would end twice
        let _ = self.poll.registry().deregister(line.stream.socket());
    }

    fn reconnect(&mut self, number: usize) -> std::io::Result<()> {
        let mut stream = self.target.begin(number)?;
        self.poll.registry().register(stream.socket(), Token(number), INTEREST)?;
        let line = &mut self.lines[number];
        line.stream = stream;
        line.read.clear();
        line.sent = 0;
        line.connecting = true;
        Ok(())
    }

    /// Returns whether a line that was being opened is open now. Then it is idle, or its waiting request is sent.
    fn is_connected(&mut self, number: usize, came: &mut Came) -> bool {
        let line = &mut self.lines[number];
        match line.stream.take_error().map_or_else(|| line.stream.is_open(), Err) {
            Ok(true) => {
                line.connecting = false;
                line.free_since = Instant::now();
                line.unused_since = Some(line.free_since);
                if line.due.is_none() {
                    self.idle.push_back(number);
                }
                true
            }
            // the event is of the earlier connection, or early
            Ok(false) => false,
            Err(error) => {
                self.end(number, &error.to_string(), came);
                false
            }
        }
    }
}

/// A thread that wakes the loop often enough to send requests in time: the poll of the system counts in ms.
struct Pacer {
    stop: Arc<AtomicBool>,
}

impl Pacer {
    /// Wakes the loop whenever a request is due: first at once, and then at a fixed interval.
    fn start(poll: &Poll, schedule: Option<(Instant, Duration)>) -> Result<Self, Failure> {
        let stop = Arc::new(AtomicBool::new(false));
        let Some((begins, each)) = schedule else { return Ok(Self { stop }) };
        let waker = Waker::new(poll.registry(), PACER).map_err(system)?;
        let stopped = Arc::clone(&stop);
        let each = each.max(PACE).as_secs_f64();
        thread::spawn(move || {
            while !stopped.load(Ordering::Relaxed) {
                let passed = begins.elapsed().as_secs_f64();
                thread::sleep(Duration::from_secs_f64(each - passed % each));
                if waker.wake().is_err() {
                    return;
                }
            }
        });
        Ok(Self { stop })
    }
}

impl Drop for Pacer {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

fn interrupted(error: std::io::Error) -> Result<(), Failure> {
    if error.kind() == ErrorKind::Interrupted { Ok(()) } else { Err(system(error)) }
}

fn system(error: impl std::fmt::Display) -> Failure {
    Failure::Failed(format!("cannot wait for sockets: {error}: check the limits of this system"))
}
