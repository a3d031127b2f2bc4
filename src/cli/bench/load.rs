//! `vwatch bench put` and `vwatch bench get`: requests at a steady rate, or as fast as they are answered.

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
use super::super::url::path_of;
use super::blocking::Blocking;
use super::figures::{Figures, Times};
use super::names::Names;
use super::server::Process;
use super::target::{Target, make_room};
use super::{exchange, process};
use crate::wire::duration;

/// How finely requests are sent at their time; the system's own sleeps are not much finer.
const PACE: Duration = Duration::from_micros(100);

/// Most requests a second: more than one thread can send.
const MOST_RATE: u64 = 1_000_000;

/// Longest wait for answers behind the last request.
const GIVE_UP: Duration = Duration::from_secs(10);

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
  vwatch bench put --rate 0 --connections 64   as fast as they are answered

With --rate 0 nothing is due but what was answered before: such a run says how much, and hides what a stall holds up.";

const EXAMPLES_GET: &str = "\
Examples:
  vwatch bench get                             1,000 a second for 10s
  vwatch bench get --rate 50000 --connections 64
  vwatch bench get --rate 0 --connections 64   as fast as they are answered

With --rate 0 nothing is due but what was answered before: such a run says how much, and hides what a stall holds up.";

#[derive(Debug, Args)]
struct Load {
    /// Requests a second, at most 1000000; 0 is as fast as they are answered
    #[arg(long, value_name = "COUNT", default_value = "1000")]
    rate: u64,
    /// For how long
    #[arg(long, value_name = "DURATION", default_value = "10s", value_parser = duration::parse)]
    duration: Duration,
    /// Over how many connections
    #[arg(long, value_name = "COUNT", default_value = "16", value_parser = args::count)]
    connections: u64,
    /// To how many names, in turn
    #[arg(long, value_name = "COUNT", default_value = "100", value_parser = args::count)]
    names: u64,
    /// Bytes of data of each name
    #[arg(long, value_name = "BYTES", default_value = "64")]
    size: usize,
    /// The node's process, where it cannot be found by its port
    #[arg(long, value_name = "PID")]
    pid: Option<u32>,
}

pub(super) fn put(args: &Put) -> Result<(), Failure> {
    let target = Target::of(args.nodes.writer_urls()?, "server-url")?;
    let control = Blocking::open(target.clone())?;
    let data = vec![b'.'; args.load.size];
    let request = |url: &_, name: &str, number: u64| {
        exchange::put(url, &format!("{}?version={number}", path_of(name)), &data)
    };
    run("put", &args.load, &args.output, &target, control, request)
}

pub(super) fn get(args: &Get) -> Result<(), Failure> {
    let target = Target::of(args.nodes.reader_urls()?, "client-url")?;
    let control = Blocking::open(Target::of(args.nodes.writer_urls()?, "server-url")?)?;
    let request = |url: &_, name: &str, _| exchange::get(url, &path_of(name));
    run("get", &args.load, &args.output, &target, control, request)
}

fn run(
    of: &str,
    load: &Load,
    output: &Output,
    target: &Target,
    mut control: Blocking,
    request: impl Fn(&super::super::url::Url, &str, u64) -> Vec<u8>,
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
        let mut lines = Lines::open(target, connections)?;
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

/// What became of the requests.
#[derive(Default)]
struct Came {
    times: Times,
    refused: u64,
    lost: u64,
    trouble: Option<String>,
    took: Duration,
}

/// The connections, each with at most one request under way.
struct Lines {
    poll: Poll,
    lines: Vec<Line>,
    idle: VecDeque<usize>,
    scratch: Box<[u8]>,
}

struct Line {
    stream: TcpStream,
    read: Vec<u8>,
    unsent: Vec<u8>,
    /// When what is under way was due.
    due: Option<Instant>,
}

/// Marks the events of the pacer; connections are marked by their number.
const PACER: Token = Token(usize::MAX);

impl Lines {
    fn open(target: &Target, connections: usize) -> Result<Self, Failure> {
        let poll = Poll::new().map_err(system)?;
        let mut lines = Vec::new();
        for number in 0..connections {
            let stream = target.connect()?;
            stream.set_nonblocking(true).map_err(system)?;
            let mut stream = TcpStream::from_std(stream);
            let interest = Interest::READABLE | Interest::WRITABLE;
            poll.registry().register(&mut stream, Token(number), interest).map_err(system)?;
            lines.push(Line { stream, read: Vec::new(), unsent: Vec::new(), due: None });
        }
        Ok(Self { poll, lines, idle: (0..connections).collect(), scratch: vec![0; 64 * 1024].into() })
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
            while let Some(&line) = self.idle.front() {
                let due = if load.rate == 0 { Instant::now() } else { due_at(sent) };
                if due >= end || due > Instant::now() {
                    break;
                }
                self.idle.pop_front();
                self.send(line, due, request(sent), &mut came);
                sent += 1;
            }
            let now = Instant::now();
            let is_all = now >= end && (load.rate == 0 || due_at(sent) >= end);
            let is_quiet = self.lines.iter().all(|line| line.due.is_none());
            // without an idle line, a quiet one is broken
            if is_quiet && (is_all || self.idle.is_empty()) || now >= end + GIVE_UP {
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
        // what was due and could not even be sent, and what was never answered
        let unsent = if load.rate > 0 { due_in_all.saturating_sub(sent) } else { 0 };
        came.lost += unsent + self.lines.iter().filter(|line| line.due.is_some()).count() as u64;
        Ok(came)
    }

    fn send(&mut self, number: usize, due: Instant, request: Vec<u8>, came: &mut Came) {
        let line = &mut self.lines[number];
        line.due = Some(due);
        line.unsent = request;
        self.flush(number, came);
    }

    fn flush(&mut self, number: usize, came: &mut Came) {
        let line = &mut self.lines[number];
        while !line.unsent.is_empty() {
            match line.stream.write(&line.unsent) {
                Ok(sent) => drop(line.unsent.drain(..sent)),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return came.lose(line, &error.to_string()),
            }
        }
    }

    fn on_event(&mut self, number: usize, came: &mut Came) {
        self.flush(number, came);
        loop {
            let line = &mut self.lines[number];
            match line.stream.read(&mut self.scratch) {
                Ok(0) => return came.lose(line, "the node hung up"),
                Ok(got) => line.read.extend_from_slice(&self.scratch[..got]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => return came.lose(line, &error.to_string()),
            }
            match exchange::read(&line.read) {
                Ok(None) => {}
                Err(why) => return came.lose(line, &why),
                Ok(Some(answer)) => {
                    if !(200..300).contains(&answer.status) {
                        came.refused += 1;
                        let said = String::from_utf8_lossy(answer.body);
                        came.trouble = Some(format!("{}: {}", answer.status, said.trim()));
                    }
                    line.read.clear();
                    if let Some(due) = line.due.take() {
                        came.times.record(due.elapsed());
                        self.idle.push_back(number);
                    }
                }
            }
        }
    }
}

impl Came {
    /// A line that is broken is not used again; what was under way on it is lost.
    fn lose(&mut self, line: &mut Line, why: &str) {
        self.lost += u64::from(line.due.take().is_some());
        self.trouble = Some(why.to_owned());
        line.unsent.clear();
    }
}

/// A thread that makes the loop look at the clock often enough: the system's poll itself counts in ms.
struct Pacer {
    stop: Arc<AtomicBool>,
}

impl Pacer {
    /// Wakes the loop whenever something is due: first at once, and then each a while after the one before.
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
    Failure::Failed(format!("cannot wait for sockets: {error}: look at the limits of this system"))
}
