//! `vwatch bench lease`: pairs of acquire and release, memory of leases, and how late their end is told.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use clap::Args;

use super::super::args;
use super::super::failure::{Failure, tell};
use super::super::nodes::Nodes;
use super::super::output::{Output, print};
use super::super::stop::Interrupt;
use super::clients::Clients;
use super::exchange::{self, RawAnswer};
use super::expiries::Expiries;
use super::figures::{Figures, Times};
use super::process_of;
use super::server::Process;
use super::target::{Target, make_room};
use crate::client::url::{Url, path_of};
use crate::wire::duration::{self, GoDuration};

/// The time to live of leases that are held beside the load.
const HELD_TTL: Duration = Duration::from_secs(60);

/// The longest run beside leases that are held.
const MOST_BESIDE: Duration = Duration::from_secs(20);

/// How long a client waits for a path that another one holds.
const WAIT: Duration = Duration::from_secs(60);

/// Most leases that are held or left to expire.
const MOST_LEASES: u64 = 10_000_000;

/// Measure leases: acquire and release
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  vwatch bench lease                       32 clients, each with a path of its own, for 10s
  vwatch bench lease --clients 1
  vwatch bench lease --one-path            32 clients take turns with one path
  vwatch bench lease --held 100000         beside so many leases; bytes of each
  vwatch bench lease --expire 200 --ttl 3s
                                           how late the end of 200 leases is told to a stream
  vwatch bench lease --server-url http://10.0.0.7:8008,http://10.0.0.8:8008
                                           clients at two nodes

Each client acquires a lease, releases it as soon as it has it, and begins again: a pair. A request is due when the one \
before is answered, so a run shows the throughput, and hides stalls. acquire_ms and release_ms have one time for each \
request; with --one-path acquire_ms includes the time until the client has its turn. late_ms has one time for each \
lease that has expired, from when its ttl had passed since it was asked for. A client whose request is refused stops: \
exit code 1.

The paths are below bench/. After a signal leases remain until they expire.")]
pub(super) struct Lease {
    /// Number of clients
    #[arg(long, value_name = "COUNT", default_value = "32", value_parser = args::count)]
    clients: u64,
    /// Duration of the run
    #[arg(long, value_name = "DURATION", default_value = "10s", value_parser = duration::parse)]
    duration: Duration,
    /// All clients want the same path, and wait for it
    #[arg(long)]
    one_path: bool,
    /// Time to live of the leases
    #[arg(long, value_name = "DURATION", default_value = "10s", value_parser = duration::parse)]
    ttl: Duration,
    /// Number of leases that are held meanwhile, for at most 60s
    #[arg(long, value_name = "COUNT", default_value = "0")]
    held: u64,
    /// Number of leases that are left to expire at the end
    #[arg(long, value_name = "COUNT", default_value = "0")]
    expire: u64,
    /// Process of the node, if its port does not identify it
    #[arg(long, value_name = "PID")]
    pid: Option<u32>,
    #[command(flatten)]
    output: Output,
    #[command(flatten)]
    nodes: Nodes,
}

/// The requests of one kind of all clients.
#[derive(Default)]
struct Tally {
    acquire: Times,
    release: Times,
    refused: u64,
    trouble: Option<String>,
    last: Option<Instant>,
}

/// A lease that a client has.
struct Held {
    path: String,
    token: u64,
}

/// What a client waits for, and since when.
enum Doing {
    Nothing,
    Acquire(String, Instant),
    Release(Instant),
}

pub(super) fn run(args: &Lease, interrupt: &Interrupt) -> Result<(), Failure> {
    check(args)?;
    let targets = Target::each(args.nodes.writer_urls(args.expire > 0)?, "server-url")?;
    let count = usize::try_from(args.clients).unwrap_or(usize::MAX);
    make_room(count, "clients")?;
    let process = process_of(&targets, args.pid)?;
    let run = getrandom::u32()
        .map_err(|error| Failure::Failed(format!("no random numbers from the system: {error}")))?;
    let base = format!("bench/{run:08x}");
    let mut clients = Clients::connect(&targets, count, interrupt)?;
    let mut figures = Figures::default();
    figures.text("of", "lease");
    figures.text("paths", if args.one_path { "one" } else { "each its own" });
    figures.count("clients", args.clients);

    let memory_before = process.and_then(Process::memory);
    let mut tally = Tally::default();
    let began = Instant::now();
    let held = acquire_all(&mut clients, &format!("{base}/held"), args.held, HELD_TTL, &mut tally)?;
    let took = began.elapsed();
    let grown = process.and_then(Process::memory).zip(memory_before);
    if args.held > 0 {
        figures.count("held.count", held.len() as u64);
        figures.number("held.per_second", held.len() as f64 / took.as_secs_f64());
    }

    let ran_before = process.and_then(Process::processor_time);
    let began = Instant::now();
    take_turns(args, &mut clients, &base, &mut tally)?;
    let took = tally.last.map_or(began.elapsed(), |last| last - began);
    let ran = process.and_then(Process::processor_time).zip(ran_before);
    let memory = process.and_then(Process::memory);
    let pairs = tally.release.count();
    figures.count("pairs", pairs);
    figures.number("per_second", pairs as f64 / took.as_secs_f64());
    figures.times("acquire_ms", &tally.acquire);
    figures.times("release_ms", &tally.release);

    if args.expire > 0 {
        expire(args, &mut clients, &base, &mut tally, &mut figures, interrupt)?;
    }
    release_all(&mut clients, held, &mut tally)?;
    figures.count("refused", tally.refused);
    if let Some(process) = process {
        figures.count("server.pid", process.pid().into());
        let each = ran.map(|(after, before)| after.saturating_sub(before).as_secs_f64() * 1e6);
        figures.number("server.cpu_us_each", each.map(|us| us / pairs.max(1) as f64));
        if args.held > 0 {
            let grown = grown.map(|(after, before)| after.saturating_sub(before) as f64);
            figures.number("server.bytes_per_lease", grown.map(|bytes| bytes / args.held as f64));
        }
        figures.number("server.memory_bytes", memory.map(|bytes| bytes as f64));
    }
    print(figures.printed(args.output.format).as_bytes())?;
    if tally.refused > 0 {
        let why = tally.trouble.map_or(String::new(), |why| format!(" ({why})"));
        return Err(Failure::Failed(format!("{} requests refused{why}", tally.refused)));
    }
    Ok(())
}

fn check(args: &Lease) -> Result<(), Failure> {
    let refused = |line: String| Err(Failure::Usage(line));
    if args.duration.is_zero() {
        return refused("bad --duration: it is zero: got 0s: give some seconds".to_owned());
    }
    if args.held > 0 && args.duration > MOST_BESIDE {
        let (got, most) = (GoDuration(args.duration), GoDuration(MOST_BESIDE));
        return refused(format!(
            "bad --duration: the leases of --held expire: got {got}: give at most {most}"
        ));
    }
    for (flag, count) in [("held", args.held), ("expire", args.expire)] {
        if count > MOST_LEASES {
            return refused(format!("bad --{flag}: too many: got {count}: give at most {MOST_LEASES}"));
        }
    }
    Ok(())
}

/// Each client acquires a lease and releases it, again and again.
fn take_turns(args: &Lease, clients: &mut Clients, base: &str, tally: &mut Tally) -> Result<(), Failure> {
    let mut doing: Vec<Doing> = (0..args.clients).map(|_| Doing::Nothing).collect();
    let end = Instant::now() + args.duration;
    let wait = if args.one_path { WAIT } else { Duration::ZERO };
    let path = |number: usize| match args.one_path {
        true => format!("{base}/one"),
        false => format!("{base}/{number}"),
    };
    let mut told = Instant::now();
    clients.run(end + WAIT + args.ttl, |number, target, answer| {
        let now = Instant::now();
        if told.elapsed() >= Duration::from_secs(1) {
            told = now;
            tell(&format!("{} pairs", tally.release.count()));
        }
        match (std::mem::replace(&mut doing[number], Doing::Nothing), answer) {
            (Doing::Acquire(path, since), Some(answer)) => {
                let token = tally.granted(&answer)?;
                tally.acquire.record(now - since);
                doing[number] = Doing::Release(now);
                return Some(release(&target.url, &Held { path, token }));
            }
            (Doing::Release(since), Some(answer)) => {
                tally.good(&answer)?;
                tally.release.record(now - since);
                tally.last = Some(now);
            }
            _ => {}
        }
        if now >= end {
            return None;
        }
        let path = path(number);
        let request = acquire(&target.url, &path, args.ttl, wait);
        doing[number] = Doing::Acquire(path, now);
        Some(request)
    })
}

/// Acquires leases that all are held at the end.
fn acquire_all(
    clients: &mut Clients,
    base: &str,
    count: u64,
    ttl: Duration,
    tally: &mut Tally,
) -> Result<Vec<(Held, Instant)>, Failure> {
    let mut held = Vec::new();
    let mut asked: Vec<Option<(String, Instant)>> = Vec::new();
    let mut next = 0;
    clients.run(Instant::now() + ttl, |number, target, answer| {
        asked.resize_with(asked.len().max(number + 1), || None);
        if let (Some((path, since)), Some(answer)) = (asked[number].take(), answer) {
            held.push((Held { path, token: tally.granted(&answer)? }, since));
        }
        if next == count {
            return None;
        }
        let path = format!("{base}/{next}");
        next += 1;
        let request = acquire(&target.url, &path, ttl, Duration::ZERO);
        asked[number] = Some((path, Instant::now()));
        Some(request)
    })?;
    Ok(held)
}

fn release_all(clients: &mut Clients, held: Vec<(Held, Instant)>, tally: &mut Tally) -> Result<(), Failure> {
    let mut held: VecDeque<Held> = held.into_iter().map(|(held, _)| held).collect();
    clients.run(Instant::now() + HELD_TTL, |_, target, answer| {
        if let Some(answer) = answer {
            tally.good(&answer)?;
        }
        Some(release(&target.url, &held.pop_front()?))
    })
}

/// Lets leases expire, and measures how late a stream is told of each.
fn expire(
    args: &Lease,
    clients: &mut Clients,
    base: &str,
    tally: &mut Tally,
    figures: &mut Figures,
    interrupt: &Interrupt,
) -> Result<(), Failure> {
    let base = format!("{base}/expire");
    let reader = Target::of(args.nodes.reader_urls()?, "client-url")?;
    let stream = Expiries::open(&reader, &base, interrupt)?;
    let held = acquire_all(clients, &base, args.expire, args.ttl, tally)?;
    tell(&format!("{} leases are left to expire", held.len()));
    let told = stream.wait_for(held.len(), args.ttl * 2 + WAIT, interrupt)?;
    let (mut late, mut early) = (Times::default(), 0);
    for (held, since) in &held {
        let Some(at) = told.get(&held.path) else { continue };
        match at.checked_duration_since(*since + args.ttl) {
            Some(by) => late.record(by),
            None => early += 1,
        }
    }
    figures.count("expired", told.len() as u64);
    figures.count("early", early);
    figures.times("late_ms", &late);
    Ok(())
}

impl Tally {
    /// The token of a lease that was granted.
    fn granted(&mut self, answer: &RawAnswer<'_>) -> Option<u64> {
        self.good(answer)?;
        let token = token(answer.body);
        if token.is_none() {
            self.refuse("an answer without a token".to_owned());
        }
        token
    }

    fn good(&mut self, answer: &RawAnswer<'_>) -> Option<()> {
        if (200..300).contains(&answer.status) {
            return Some(());
        }
        let said = String::from_utf8_lossy(answer.body);
        self.refuse(format!("{}: {}", answer.status, said.trim()));
        None
    }

    fn refuse(&mut self, why: String) {
        self.refused += 1;
        self.trouble = Some(why);
    }
}

/// The token in the JSON of a lease.
fn token(body: &[u8]) -> Option<u64> {
    const KEY: &[u8] = b"\"token\":";
    let at = body.windows(KEY.len()).position(|window| window == KEY)? + KEY.len();
    let digits = body[at..].iter().take_while(|byte| byte.is_ascii_digit()).count();
    std::str::from_utf8(&body[at..at + digits]).ok()?.parse().ok()
}

/// The path of the request about a lease.
fn lease_path(path: &str) -> String {
    path_of(path).replacen("/v1/versions/", "/v1/leases/", 1)
}

fn acquire(url: &Url, path: &str, ttl: Duration, wait: Duration) -> Vec<u8> {
    let (ttl, wait_for) = (GoDuration(ttl), GoDuration(wait));
    let path = lease_path(path);
    let target = match wait.is_zero() {
        true => format!("{path}?ttl={ttl}"),
        false => format!("{path}?ttl={ttl}&wait={wait_for}"),
    };
    exchange::put(url, &target, &[])
}

fn release(url: &Url, held: &Held) -> Vec<u8> {
    exchange::delete(url, &format!("{}?token={}", lease_path(&held.path), held.token))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_token() {
        let json =
            br#"{"path":"a","prefix":false,"holder":"","id":"00","token":1795997204401803,"ttl_ms":1}"#;
        assert_eq!(token(json), Some(1_795_997_204_401_803));
        assert_eq!((token(b"{}"), token(b"\"token\":")), (None, None));
    }

    #[test]
    fn a_request_names_the_lease() {
        let url = Url::parse("http://127.0.0.1:8008").unwrap();
        let request = String::from_utf8(acquire(&url, "bench/1", Duration::from_secs(3), WAIT)).unwrap();
        assert!(request.starts_with("PUT /v1/leases/bench/1?ttl=3s&wait=1m0s HTTP/1.1\r\n"), "{request}");
        let held = Held { path: "bench/1".to_owned(), token: 7 };
        let request = String::from_utf8(release(&url, &held)).unwrap();
        assert!(request.starts_with("DELETE /v1/leases/bench/1?token=7 HTTP/1.1\r\n"), "{request}");
    }
}
