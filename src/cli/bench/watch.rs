//! `vwatch bench watch`: how soon all know of a write.

use std::thread;
use std::time::{Duration, Instant};

use clap::Args;

use super::super::args;
use super::super::failure::{Failure, tell};
use super::super::nodes::Nodes;
use super::super::output::{Output, print};
use super::super::url::{parameter, path_of, with_query};
use super::blocking::Blocking;
use super::crowd::{Crowd, Schedule};
use super::exchange;
use super::figures::{Figures, Times, median_ms};
use super::server::Process;
use super::target::{Target, make_room};
use super::{Names, process};
use crate::wire::duration::{self, GoDuration};

/// How long all may take to connect and park at first.
const PARKING: Duration = Duration::from_secs(60);

/// How often the node is asked whether all are parked.
const ASK_EVERY: Duration = Duration::from_millis(20);

/// Before a write is due, nobody disturbs the node for so long, or for half of the time between two writes.
const QUIET: Duration = Duration::from_millis(100);

/// Writes that follow each other faster measure how writes are merged, not wakes.
const SHORTEST_EVERY: Duration = Duration::from_millis(1);

/// The writer's node counts parked watchers soon after they asked, or they are parked at another node.
const COUNTED_WITHIN: Duration = Duration::from_secs(2);

/// How often progress is told.
const TELL_EVERY: Duration = Duration::from_secs(1);

/// How long what is written at one node may take to stand at another.
const ELSEWHERE_WITHIN: GoDuration = GoDuration(Duration::from_secs(20));

/// Park watchers, write, and measure each wake
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  vwatch bench watch --watchers 18000
  vwatch bench watch --watchers 1000 --names 50 --every 500ms --writes 100
  vwatch bench watch -w json | jq .wake_ms.p99
  vwatch bench watch --client-url http://10.0.0.7:8080 --server-url http://10.0.0.7:8008

From one node to another, a round every 20 ms:
  vwatch bench watch --watchers 1 --every 20ms --writes 5000 \
      --server-url http://10.0.0.7:8008 --client-url http://10.0.0.8:8080

A wake is measured from when its write was due, not from when it was made: a stall shows, wherever it is. Who was woken
parks again once all were, or when the next write is due. A version that was overtaken by the next one before a watcher
saw it counts as superseded; its time runs until the watcher sees the newer one.

The node spreads wakes on purpose, by --jitter-per-watch. To see what it can do, start it with --jitter-per-watch 0s.

A lost, early or stale wake: exit code 1.")]
pub(super) struct Watch {
    /// How many watchers to park
    #[arg(long, value_name = "COUNT", default_value = "1000", value_parser = args::count)]
    watchers: u64,
    /// Over how many names to spread them; each write is one to each name
    #[arg(long, value_name = "COUNT", default_value = "1", value_parser = args::count)]
    names: u64,
    /// How often to write
    #[arg(long, value_name = "COUNT", default_value = "6", value_parser = args::count)]
    writes: u64,
    /// How many of the first writes are not counted
    #[arg(long, value_name = "COUNT", default_value = "1")]
    warm_up: u64,
    /// From one write to the next
    #[arg(long, value_name = "DURATION", default_value = "2s", value_parser = duration::parse)]
    every: Duration,
    /// Bytes of data in each write
    #[arg(long, value_name = "BYTES", default_value = "64")]
    size: usize,
    /// How long a watcher asks to be parked before it asks again
    #[arg(long, value_name = "DURATION", default_value = "60s", value_parser = duration::parse)]
    timeout: Duration,
    /// After the last write, a watcher that is not woken for so long is lost
    #[arg(long, value_name = "DURATION", default_value = "30s", value_parser = duration::parse)]
    give_up: Duration,
    /// The node's process, where it cannot be found by its port
    #[arg(long, value_name = "PID")]
    pid: Option<u32>,
    #[command(flatten)]
    output: Output,
    #[command(flatten)]
    nodes: Nodes,
}

/// What one write came to.
struct Round {
    last_wake: Option<Duration>,
    processor_time: Option<Duration>,
    wakes: u64,
}

pub(super) fn run(args: &Watch) -> Result<(), Failure> {
    check(args)?;
    let reader = Target::of(args.nodes.reader_urls()?, "client-url")?;
    let writer = Target::of(args.nodes.writer_urls()?, "server-url")?;
    let watchers = usize::try_from(args.watchers).unwrap_or(usize::MAX);
    make_room(watchers, "watchers")?;
    let process = process(args.pid, &reader)?;
    let mut control = Blocking::open(writer)?;
    let names = Names::new(args.names)?;
    names.write(&mut control, 0, args.size)?;
    names.wait_at(&mut Blocking::open(reader.clone())?)?;

    let mut crowd = Crowd::new(reader, names.0.clone(), watchers, args.timeout)?;
    let memory_before = process.and_then(Process::memory);
    let mut others = control.metric(PARKED);
    let started = Instant::now();
    crowd.park(None, started + PARKING, |parked| tell(&format!("{parked} of {watchers} watchers asked")))?;
    let asked_after = started.elapsed();
    wait_parked(&mut crowd, &mut control, others, None, Instant::now() + COUNTED_WITHIN)?;
    if others.is_some() && control.metric(PARKED) <= others {
        tell("they are parked at another node than the writer's, which does not say how many they are");
        others = None;
    }
    wait_parked(&mut crowd, &mut control, others, None, started + PARKING)?;
    let parked_after = started.elapsed();
    let memory = process.and_then(Process::memory);
    tell(&format!("{} watchers parked after {parked_after:.2?}", crowd.asking()));
    if crowd.asking() < watchers {
        let why = crowd.tally.trouble.take().unwrap_or_else(|| "it takes too long".to_owned());
        let parked = crowd.asking();
        names.delete(&mut control);
        return Err(Failure::Failed(format!("only {parked} of {watchers} watchers could be parked: {why}")));
    }

    let schedule = Schedule {
        begins: Instant::now(),
        every: args.every,
        writes: u32::try_from(args.writes + args.warm_up).unwrap_or(u32::MAX),
    };
    let writing = thread::spawn({
        let (names, target, size) = (names.clone(), control.target.clone(), args.size);
        move || write(&names, Blocking::open(target)?, schedule, size)
    });
    let rounds = rounds(args, &mut crowd, &mut control, others, &schedule, process);
    let writes = writing.join().map_err(|_| Failure::Failed("the writer broke down".to_owned()))??;
    let rounds = rounds?;
    names.delete(&mut control);

    let mut figures = Figures::default();
    figures.text("of", "watch");
    figures.count("watchers", args.watchers);
    figures.count("names", args.names);
    figures.count("writes", args.writes);
    figures.number("connect_ms", asked_after.as_secs_f64() * 1e3);
    figures.number("parked_ms", others.map(|_| parked_after.as_secs_f64() * 1e3));
    figures.times("wake_ms", &crowd.tally.times);
    let lasts: Vec<_> = rounds.iter().filter_map(|round| round.last_wake).collect();
    figures.number("last_wake_ms", median_ms(&lasts));
    figures.times("put_ms", &writes.times);
    figures.number("writer_behind_ms", writes.behind.as_secs_f64() * 1e3);
    let lost = crowd.behind(schedule.writes) as u64;
    let tally = &crowd.tally;
    for (name, count) in [
        ("woken", tally.times.count()),
        ("lost", lost),
        ("stale", tally.stale),
        ("early", tally.early),
        ("superseded", tally.superseded),
        ("timeouts", tally.timeouts),
        ("refused", tally.refused),
        ("dropped", tally.dropped),
    ] {
        figures.count(name, count);
    }
    if let Some(process) = process {
        figures.count("server.pid", process.pid().into());
        let wakes: u64 = rounds.iter().map(|round| round.wakes).sum();
        let ran: Option<Duration> = rounds.iter().map(|round| round.processor_time).sum();
        let per_wakes = ran.filter(|_| wakes > 0).map(|ran| ran.as_secs_f64() * 1e3 * 1e4 / wakes as f64);
        figures.number("server.cpu_ms_per_10k_wakes", per_wakes);
        let grown = memory.zip(memory_before).map(|(after, before)| after.saturating_sub(before) as f64);
        figures.number("server.bytes_per_watcher", grown.map(|bytes| bytes / watchers as f64));
        figures.number("server.memory_bytes", process.memory().map(|bytes| bytes as f64));
    }
    print(figures.printed(args.output.format).as_bytes())?;
    judge(&crowd, lost)
}

const PARKED: &str = "vwatch_parked_watchers";

fn check(args: &Watch) -> Result<(), Failure> {
    let refused = |line: String| Err(Failure::Usage(line));
    if args.names > args.watchers {
        let (names, watchers) = (args.names, args.watchers);
        return refused(format!("bad --names: more than watchers: got {names} for {watchers}: give fewer"));
    }
    if args.every < SHORTEST_EVERY {
        return refused(format!(
            "bad --every: too short to park in: got {:?}: give at least 1ms",
            args.every
        ));
    }
    if args.timeout.is_zero() {
        return refused("bad --timeout: nobody would park: got 0s: give some seconds".to_owned());
    }
    if args.writes + args.warm_up > 1_000_000 {
        return refused(format!("bad --writes: too many: got {}: give at most 1000000", args.writes));
    }
    Ok(())
}

fn judge(crowd: &Crowd, lost: u64) -> Result<(), Failure> {
    let tally = &crowd.tally;
    let because = || tally.trouble.as_ref().map_or(String::new(), |why| format!(" ({why})"));
    if lost + tally.stale + tally.early > 0 {
        let (stale, early) = (tally.stale, tally.early);
        return Err(Failure::Failed(format!("{lost} watchers lost, {stale} stale and {early} early wakes")));
    }
    if tally.refused + tally.dropped > 0 {
        let (refused, dropped) = (tally.refused, tally.dropped);
        tell(&format!("{refused} requests refused, {dropped} connections dropped{}", because()));
    }
    Ok(())
}

/// Waits until the node says that all who ask are parked, where it says that at all.
fn wait_parked(
    crowd: &mut Crowd,
    control: &mut Blocking,
    others: Option<u64>,
    schedule: Option<&Schedule>,
    until: Instant,
) -> Result<(), Failure> {
    loop {
        let parked = others.and_then(|others| Some(control.metric(PARKED)?.saturating_sub(others)));
        if parked.is_none_or(|parked| parked >= crowd.asking() as u64) || Instant::now() + ASK_EVERY >= until
        {
            return Ok(());
        }
        crowd.turn(schedule, Instant::now() + ASK_EVERY)?;
    }
}

fn quiet(every: Duration) -> Duration {
    QUIET.min(every / 2)
}

/// Waits for each write to be known to all, and lets them park again.
fn rounds(
    args: &Watch,
    crowd: &mut Crowd,
    control: &mut Blocking,
    others: Option<u64>,
    schedule: &Schedule,
    process: Option<Process>,
) -> Result<Vec<Round>, Failure> {
    let warm_up = u32::try_from(args.warm_up).unwrap_or(u32::MAX);
    let quiet = quiet(args.every);
    let mut rounds = Vec::new();
    let mut told: Option<Instant> = None;
    for version in 1..=schedule.writes {
        let due = schedule.due(version);
        if version == warm_up + 1 {
            crowd.tally.times = Times::default();
        }
        crowd.park(Some(schedule), due, |_| {})?;
        wait_parked(crowd, control, others, Some(schedule), due.checked_sub(quiet).unwrap_or(due))?;
        let ran_before = process.and_then(Process::processor_time);
        let woken_before = crowd.tally.woken;
        let end = if version == schedule.writes { due + args.give_up } else { schedule.due(version + 1) };
        let last_wake = wait_woken(crowd, schedule, version, end)?;
        let ran = process.and_then(Process::processor_time).zip(ran_before);
        let wakes = crowd.tally.woken - woken_before;
        let round = Round {
            last_wake,
            processor_time: ran.map(|(after, before)| after.saturating_sub(before)),
            wakes,
        };
        let last =
            last_wake.map_or_else(|| "not all".to_owned(), |last| format!("the last after {last:.1?}"));
        let note = if version <= warm_up { " (not counted)" } else { "" };
        if version == schedule.writes || told.is_none_or(|told| told.elapsed() >= TELL_EVERY) {
            told = Some(Instant::now());
            tell(&format!("write {version} of {}: {wakes} woken, {last}{note}", schedule.writes));
        }
        if version > warm_up {
            rounds.push(round);
        }
    }
    Ok(rounds)
}

/// Waits until all have seen `version`; when the last one did, from when it was due.
fn wait_woken(
    crowd: &mut Crowd,
    schedule: &Schedule,
    version: u32,
    end: Instant,
) -> Result<Option<Duration>, Failure> {
    let mut left = crowd.behind(version);
    loop {
        if left == 0 {
            return Ok(Some(schedule.due(version).elapsed()));
        }
        if Instant::now() >= end {
            return Ok(None);
        }
        let woken = crowd.tally.woken + crowd.tally.dropped + crowd.tally.refused;
        crowd.turn(Some(schedule), end)?;
        let now_woken = crowd.tally.woken + crowd.tally.dropped + crowd.tally.refused;
        left = left.saturating_sub(usize::try_from(now_woken - woken).unwrap_or(0));
        if left == 0 {
            // who was dropped or was told of an older version was counted too
            left = crowd.behind(version);
        }
    }
}

struct Writes {
    /// From when a write was due to its answer.
    times: Times,
    /// How late the latest one was sent.
    behind: Duration,
}

fn write(
    names: &Names,
    mut connection: Blocking,
    schedule: Schedule,
    size: usize,
) -> Result<Writes, Failure> {
    let mut writes = Writes { times: Times::default(), behind: Duration::ZERO };
    let quiet = quiet(schedule.every);
    for version in 1..=schedule.writes {
        let due = schedule.due(version);
        let requests = names.puts(&connection.target.url, version, size);
        let sleep_until = |at: Instant| thread::sleep(at.saturating_duration_since(Instant::now()));
        sleep_until(due.checked_sub(quiet).unwrap_or(due));
        connection.refresh()?;
        sleep_until(due);
        writes.behind = writes.behind.max(due.elapsed());
        connection.send(&requests)?;
        for _ in &names.0 {
            connection.good_answer()?;
            writes.times.record(due.elapsed());
        }
    }
    Ok(writes)
}

impl Names {
    /// A version of each, and waits for it to stand.
    pub(super) fn write(&self, control: &mut Blocking, version: u32, size: usize) -> Result<(), Failure> {
        let url = control.target.url.clone();
        for names in self.0.chunks(PIPELINED) {
            control.send(&Names(names.to_vec()).puts(&url, version, size))?;
            for _ in names {
                control.good_answer()?;
            }
        }
        Ok(())
    }

    /// Waits until all of them stand at a node, which may be another than that of the writer.
    fn wait_at(&self, reader: &mut Blocking) -> Result<(), Failure> {
        let url = reader.target.url.clone();
        let known = [parameter("version", ""), parameter("timeout", &ELSEWHERE_WITHIN.to_string())];
        for names in self.0.chunks(PIPELINED) {
            let get = |name: &String| exchange::get(&url, &with_query(&path_of(name), &known));
            reader.send(&names.iter().flat_map(get).collect::<Vec<u8>>())?;
            for _ in names {
                if reader.answer()?.status == 404 {
                    return Err(Failure::Failed(format!(
                        "{url} does not get what was written: do --client-url and --server-url name one group?"
                    )));
                }
            }
        }
        Ok(())
    }

    fn puts(&self, url: &super::super::url::Url, version: u32, size: usize) -> Vec<u8> {
        let data = vec![b'.'; size];
        let put = |name: &String| exchange::put(url, &format!("{}?version={version}", path_of(name)), &data);
        self.0.iter().flat_map(put).collect()
    }

    /// Deletes all that was written, as far as that is possible.
    pub(super) fn delete(&self, control: &mut Blocking) {
        let url = control.target.url.clone();
        for names in self.0.chunks(PIPELINED) {
            let requests: Vec<u8> =
                names.iter().flat_map(|name| exchange::delete(&url, &path_of(name))).collect();
            if control.send(&requests).is_err() || names.iter().any(|_| control.answer().is_err()) {
                return tell("what was written could not be deleted");
            }
        }
    }
}

/// Writes that are sent before the first answer is read.
const PIPELINED: usize = 64;
