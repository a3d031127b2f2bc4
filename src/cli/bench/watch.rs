//! `vwatch bench watch`: the time until all watchers get a write.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use clap::Args;

use super::super::args;
use super::super::failure::{Failure, tell};
use super::super::nodes::Nodes;
use super::super::output::{Output, print};
use super::super::stop::Interrupt;
use super::CHECK_EVERY;
use super::blocking::Blocking;
use super::crowd::Crowd;
use super::figures::{Figures, median_ms};
use super::names::Names;
use super::server::Process;
use super::setup::Setup;
use super::wakes::{Schedule, Wakes};
use super::writer::{self, Writes, quiet};
use crate::wire::duration;

/// Time for all watchers to connect and park at the start.
const PARKING: Duration = Duration::from_secs(60);

/// Time between two checks whether all watchers are parked.
const ASK_EVERY: Duration = Duration::from_millis(20);

/// Least time between two writes. Faster writes would measure how the node merges writes, not wakes.
const SHORTEST_EVERY: Duration = Duration::from_millis(1);

/// Time for the writer's node to count parked watchers. Watchers that it does not count then are at another node.
const COUNTED_WITHIN: Duration = Duration::from_secs(2);

/// Time between two messages of progress.
const TELL_EVERY: Duration = Duration::from_secs(1);

/// After the last write, a watcher that got an error or lost its connection retries after this time.
const ASK_AGAIN: Duration = Duration::from_millis(100);

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

At several nodes at the same time, such as followers of one leader:
  vwatch bench watch --watchers 90000 --server-url http://10.0.0.7:8008 \
      --client-url http://10.0.0.8:8080,http://10.0.0.9:8080

A wake is measured from when its write was due, not from when it was sent: so a stall at any place shows. \
A woken watcher parks again after all were woken, or when the next write is due. A version that was overtaken by \
the next one before a watcher saw it counts as superseded; its time runs until the watcher sees the newer \
one. So wake_ms has one time for each watcher and each write, woken and superseded together; woken alone \
is the number of answers.

last_wake_ms is the median over the writes of the time until the last watcher got it. A write that a watcher never \
got is incomplete, and counts as the longest; the median is null if half of the writes are incomplete.

The node spreads wakes by --jitter-per-watch. To see its fastest wakes, start it with --jitter-per-watch 0s.

A lost, early or stale wake: exit code 1.")]
pub(super) struct Watch {
    /// Number of watchers
    #[arg(long, value_name = "COUNT", default_value = "1000", value_parser = args::count)]
    watchers: u64,
    /// Number of names for the watchers; each write goes to all names
    #[arg(long, value_name = "COUNT", default_value = "1", value_parser = args::count)]
    names: u64,
    /// Number of writes
    #[arg(long, value_name = "COUNT", default_value = "6", value_parser = args::count)]
    writes: u64,
    /// Number of the first writes that are not counted
    #[arg(long, value_name = "COUNT", default_value = "1")]
    warm_up: u64,
    /// Time from one write to the next
    #[arg(long, value_name = "DURATION", default_value = "2s", value_parser = duration::parse)]
    every: Duration,
    /// Bytes of data of each write
    #[arg(long, value_name = "BYTES", default_value = "64")]
    size: usize,
    /// How long each request of a watcher may be parked
    #[arg(long, value_name = "DURATION", default_value = "60s", value_parser = duration::parse)]
    timeout: Duration,
    /// A watcher that does not get the last write within this time counts as lost, for any reason
    #[arg(long, value_name = "DURATION", default_value = "30s", value_parser = duration::parse)]
    give_up: Duration,
    /// Process of the node, if its port does not identify it
    #[arg(long, value_name = "PID")]
    pid: Option<u32>,
    #[command(flatten)]
    output: Output,
    #[command(flatten)]
    nodes: Nodes,
}

/// The result of one write.
struct Round {
    processor_time: Option<Duration>,
    wakes: u64,
}

pub(super) fn run(args: &Watch, interrupt: &Interrupt) -> Result<(), Failure> {
    check(args)?;
    let watchers = usize::try_from(args.watchers).unwrap_or(usize::MAX);
    let mut setup = Setup::new(&args.nodes, (watchers, "watchers"), args.pid, args.names, interrupt)?;
    let mut crowd =
        Crowd::new(setup.readers.clone(), setup.names.0.clone(), watchers, args.timeout, interrupt)?;
    let measured = setup
        .write_names(args.size, interrupt)
        .and_then(|()| measure(args, &mut crowd, &mut setup.control, &setup.names, setup.process, interrupt));
    let Setup { names, writer, process, .. } = setup;
    names.delete(&writer);
    let measured = measured?;
    let lost = crowd.behind(measured.schedule.writes) as u64;
    let wakes = crowd.wakes.take().unwrap_or_else(|| Wakes::new(measured.schedule, watchers));
    print(figures(args, &measured, &crowd, &wakes, lost, process).printed(args.output.format).as_bytes())?;
    judge(&crowd, lost)
}

/// The measured values, beside the counts of the watchers.
struct Measured {
    schedule: Schedule,
    asked_after: Duration,
    parked_after: Option<Duration>,
    memory: Option<(u64, u64)>,
    rounds: Vec<Round>,
    writes: Writes,
}

fn measure(
    args: &Watch,
    crowd: &mut Crowd,
    control: &mut Blocking,
    names: &Names,
    process: Option<Process>,
    interrupt: &Interrupt,
) -> Result<Measured, Failure> {
    let watchers = crowd.watchers();
    let memory_before = process.and_then(Process::memory);
    let over = Arc::new(AtomicBool::new(false));
    let others = control.metric(PARKED);
    let started = Instant::now();
    crowd.park(started + PARKING, |parked| {
        tell(&format!("{parked} of {watchers} watchers have sent their requests"));
    })?;
    let asked_after = started.elapsed();
    let mut field = Field { crowd, control, others, over: &over };
    field.wait_parked(Instant::now() + COUNTED_WITHIN)?;
    if others.is_some() && field.control.metric(PARKED) <= others {
        tell("they are parked at another node than the writer's, so that their number is unknown");
        field.others = None;
    }
    field.wait_parked(started + PARKING)?;
    let parked_after = started.elapsed();
    let memory = process.and_then(Process::memory).zip(memory_before);
    tell(&format!("{} watchers parked after {parked_after:.2?}", field.crowd.asking()));
    if field.crowd.asking() < watchers {
        let why = field.crowd.tally.trouble.take().unwrap_or_else(|| "it takes too long".to_owned());
        let parked = field.crowd.asking();
        return Err(Failure::Failed(format!("only {parked} of {watchers} watchers could be parked: {why}")));
    }

    let schedule = Schedule {
        begins: Instant::now(),
        every: args.every,
        warm_up: u32::try_from(args.warm_up).unwrap_or(u32::MAX),
        writes: u32::try_from(args.writes + args.warm_up).unwrap_or(u32::MAX),
    };
    field.crowd.wakes = Some(Wakes::new(schedule, watchers));
    let writing = thread::spawn({
        let (names, target, size) = (names.clone(), field.control.target.clone(), args.size);
        let (over, interrupt) = (Arc::clone(&over), interrupt.clone());
        move || {
            let written = Blocking::open(target, &interrupt)
                .and_then(|to| writer::write(&names, to, schedule, size, &over));
            if written.is_err() {
                over.store(true, Ordering::Relaxed);
            }
            written
        }
    });
    let rounds = field.rounds(args, &schedule, process);
    over.store(true, Ordering::Relaxed);
    let writes = writing.join().map_err(|_| Failure::Failed("the writer has failed".to_owned()))??;
    let parked_after = field.others.map(|_| parked_after);
    Ok(Measured { schedule, asked_after, parked_after, memory, rounds: rounds?, writes })
}

fn figures(
    args: &Watch,
    measured: &Measured,
    crowd: &Crowd,
    wakes: &Wakes,
    lost: u64,
    process: Option<Process>,
) -> Figures {
    let ms = |time: Duration| time.as_secs_f64() * 1e3;
    let lasts = wakes.lasts();
    let mut figures = Figures::default();
    figures.text("of", "watch");
    figures.count("watchers", args.watchers);
    figures.count("names", args.names);
    figures.count("writes", args.writes);
    figures.number("connect_ms", ms(measured.asked_after));
    figures.number("parked_ms", measured.parked_after.map(ms));
    figures.times("wake_ms", &wakes.times);
    figures.number("last_wake_ms", median_ms(&lasts));
    figures.times("put_ms", &measured.writes.times);
    figures.number("writer_behind_ms", ms(measured.writes.behind));
    let tally = &crowd.tally;
    for (name, count) in [
        ("woken", wakes.woken),
        ("lost", lost),
        ("incomplete", lasts.iter().filter(|last| last.is_none()).count() as u64),
        ("stale", tally.stale),
        ("early", tally.early),
        ("superseded", wakes.superseded),
        ("timeouts", tally.timeouts),
        ("refused", tally.refused),
        ("dropped", tally.dropped),
    ] {
        figures.count(name, count);
    }
    if let Some(process) = process {
        figures.count("server.pid", process.pid().into());
        let wakes: u64 = measured.rounds.iter().map(|round| round.wakes).sum();
        let ran: Option<Duration> = measured.rounds.iter().map(|round| round.processor_time).sum();
        let per_wakes = ran.filter(|_| wakes > 0).map(|ran| ms(ran) * 1e4 / wakes as f64);
        figures.number("server.cpu_ms_per_10k_wakes", per_wakes);
        let grown = measured.memory.map(|(after, before)| after.saturating_sub(before) as f64);
        figures.number("server.bytes_per_watcher", grown.map(|bytes| bytes / args.watchers as f64));
        figures.number("server.memory_bytes", process.memory().map(|bytes| bytes as f64));
    }
    figures
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
        return refused("bad --timeout: no watcher would park: got 0s: give some seconds".to_owned());
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
        return Err(Failure::Failed(format!(
            "{lost} watchers lost, {stale} stale and {early} early wakes{}",
            because()
        )));
    }
    if tally.refused + tally.dropped > 0 {
        let (refused, dropped) = (tally.refused, tally.dropped);
        tell(&format!("{refused} requests refused, {dropped} connections dropped{}", because()));
    }
    Ok(())
}

/// The state of the rounds.
struct Field<'a> {
    crowd: &'a mut Crowd,
    control: &'a mut Blocking,
    /// Number of watchers that were parked before, if the node returns it.
    others: Option<u64>,
    /// The writer has failed.
    over: &'a AtomicBool,
}

impl Field<'_> {
    fn is_over(&self) -> bool {
        self.over.load(Ordering::Relaxed)
    }

    /// Waits until the node reports that all watchers are parked, if it reports that and there is time for it.
    fn wait_parked(&mut self, until: Instant) -> Result<(), Failure> {
        loop {
            let Some(others) = self.others else { return Ok(()) };
            if Instant::now() + ASK_EVERY >= until || self.is_over() {
                return Ok(());
            }
            let Some(parked) = self.control.metric(PARKED) else { return Ok(()) };
            if parked.saturating_sub(others) >= self.crowd.asking() as u64 {
                return Ok(());
            }
            self.crowd.turn(Instant::now() + ASK_EVERY)?;
        }
    }

    /// Waits for each write to reach all watchers, and lets them park again. Ends early if the writer has failed.
    fn rounds(
        &mut self,
        args: &Watch,
        schedule: &Schedule,
        process: Option<Process>,
    ) -> Result<Vec<Round>, Failure> {
        let quiet = quiet(args.every);
        let mut rounds = Vec::new();
        let mut told: Option<Instant> = None;
        for version in 1..=schedule.writes {
            if self.is_over() {
                break;
            }
            let due = schedule.due(version);
            self.crowd.park(due, |_| {})?;
            self.wait_parked(due.checked_sub(quiet).unwrap_or(due))?;
            let ran_before = process.and_then(Process::processor_time);
            let woken_before = self.crowd.tally.woken;
            let is_last = version == schedule.writes;
            let end = if is_last { due + args.give_up } else { schedule.due(version + 1) };
            let mut last = self.wait_woken(version, due, end)?;
            while is_last && last.is_none() && Instant::now() < end && !self.is_over() {
                // a watcher with an error or a lost connection returns, like any reader
                self.crowd.turn(end.min(Instant::now() + ASK_AGAIN))?;
                self.crowd.park(end, |_| {})?;
                last = self.wait_woken(version, due, end)?;
            }
            let ran = process.and_then(Process::processor_time).zip(ran_before);
            let wakes = self.crowd.tally.woken - woken_before;
            let is_counted = version > schedule.warm_up;
            if is_last || told.is_none_or(|told| told.elapsed() >= TELL_EVERY) {
                told = Some(Instant::now());
                let last =
                    last.map_or_else(|| "not all".to_owned(), |last| format!("the last after {last:.1?}"));
                let note = if is_counted { "" } else { " (not counted)" };
                tell(&format!("write {version} of {}: {wakes} woken, {last}{note}", schedule.writes));
            }
            if is_counted {
                let processor_time = ran.map(|(after, before)| after.saturating_sub(before));
                rounds.push(Round { processor_time, wakes });
            }
        }
        Ok(rounds)
    }

    /// Waits until all watchers have `version`, or none waits for an answer although it is due. Returns when the last
    /// one got it.
    fn wait_woken(&mut self, version: u32, due: Instant, end: Instant) -> Result<Option<Duration>, Failure> {
        loop {
            let last = self.crowd.wakes.as_ref().and_then(|wakes| wakes.last(version));
            let now = Instant::now();
            let none_waits = self.crowd.asking() == 0 && now >= due;
            if last.is_some() || now >= end || none_waits || self.is_over() {
                return Ok(last);
            }
            self.crowd.turn(end.min(now + CHECK_EVERY))?;
        }
    }
}
