//! `vwatch bench stream`: the time until all streams are told of a write.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use clap::{Args, ValueEnum};

use super::super::args;
use super::super::failure::{Failure, tell};
use super::super::nodes::Nodes;
use super::super::output::{Output, print};
use super::super::stop::Interrupt;
use super::blocking::Blocking;
use super::deliveries::{Deliveries, Dues};
use super::figures::Figures;
use super::listeners::Listeners;
use super::names::Names;
use super::numbered_writer::{self, Written};
use super::server::Process;
use super::setup::Setup;
use super::target::Target;
use crate::client::url::{parameter, with_query};
use crate::wire::duration;
use crate::wire::watch_form::StreamForm;

/// Time for all streams to begin.
const BEGINNING: Duration = Duration::from_secs(60);

/// Most writes of a run.
const MOST_WRITES: f64 = 10_000_000.0;

/// Most pairs of a stream and a name: each has a counter.
const MOST_PAIRS: u64 = 50_000_000;

/// Time between two messages of progress, and between two checks whether anything is lost.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Open streams at a prefix, write, and measure each delivery
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  vwatch bench stream                                      100 streams, 100 writes a second for 10s
  vwatch bench stream --streams 2000 --form sse            as a browser reads them
  vwatch bench stream --streams 1 --rate 0 --mode all --names 10000
                                                           every version, as fast as the node takes writes
  vwatch bench stream -w json | jq .delivery_ms.p99
  vwatch bench stream --server-url http://10.0.0.7:8008 \\
      --client-url http://10.0.0.8:8080,http://10.0.0.9:8080
                                                           streams at two nodes, writes at a third one

All streams have one prefix, which begins empty: each write is to be delivered to each stream. The writes go to the names \
in turn. delivery_ms has one time for each stream and each write that it was told, from when the write was due by the \
schedule, so that a stall at any place shows. last_ms has one time for each write that all streams were told: until \
the last of them was. With --rate 0 a write is due when it is sent, so that such a run shows the throughput, and hides \
stalls of the writer.

With --mode latest a stream may be told a newer version of a name in the place of one that it was not told yet: that \
version is superseded. A version that a stream was not told, nor a newer one, is lost, and so is with --mode all each \
one that it was not told. Lost versions, and streams that ended: exit code 1.")]
pub(super) struct Stream {
    /// Number of streams
    #[arg(long, value_name = "COUNT", default_value = "100", value_parser = args::count)]
    streams: u64,
    /// Number of names under the prefix
    #[arg(long, value_name = "COUNT", default_value = "100", value_parser = args::count)]
    names: u64,
    /// Writes a second; 0 is as fast as the node takes them, 64 at a time
    #[arg(long, value_name = "COUNT", default_value = "100")]
    rate: u64,
    /// Duration of the writes
    #[arg(long, value_name = "DURATION", default_value = "10s", value_parser = duration::parse)]
    duration: Duration,
    /// Form of the streams: ndjson or sse
    #[arg(long, value_name = "FORM", default_value = "ndjson", hide_possible_values = true)]
    form: Form,
    /// latest: the newest state of each name; all: every version
    #[arg(long, value_name = "MODE", default_value = "latest", hide_possible_values = true)]
    mode: Mode,
    /// Bytes of data of each write
    #[arg(long, value_name = "BYTES", default_value = "64")]
    size: usize,
    /// Time for the last deliveries after the last write; what does not come within it is lost
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

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Form {
    Ndjson,
    Sse,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Mode {
    Latest,
    All,
}

impl Form {
    const fn as_str(self) -> &'static str {
        if matches!(self, Self::Ndjson) { "ndjson" } else { "sse" }
    }

    const fn wire(self) -> StreamForm {
        if matches!(self, Self::Ndjson) { StreamForm::Lines } else { StreamForm::EventStream }
    }
}

impl Mode {
    const fn as_str(self) -> &'static str {
        if matches!(self, Self::Latest) { "latest" } else { "all" }
    }
}

/// The measured values, beside the counts of the streams.
struct Measured {
    connected_after: Duration,
    memory: Option<(u64, u64)>,
    processor_time: Option<Duration>,
    written: Written,
}

pub(super) fn run(args: &Stream, interrupt: &Interrupt) -> Result<(), Failure> {
    check(args)?;
    let streams = usize::try_from(args.streams).unwrap_or(usize::MAX);
    let mut setup = Setup::new(&args.nodes, (streams, "streams"), args.pid, args.names, interrupt)?;
    let measured = setup.write_names(args.size, interrupt).and_then(|()| {
        let Setup { readers, writer, names, process, .. } = &setup;
        measure(args, readers.clone(), writer, names, *process, interrupt)
    });
    let Setup { names, writer, process, .. } = setup;
    names.delete(&writer);
    let (measured, listeners) = measured?;
    print(figures(args, &measured, &listeners, process).printed(args.output.format).as_bytes())?;
    judge(args, &measured, &listeners)
}

fn check(args: &Stream) -> Result<(), Failure> {
    let refused = |line: String| Err(Failure::Usage(line));
    let pairs = args.streams.saturating_mul(args.names);
    if pairs > MOST_PAIRS {
        return refused(format!(
            "bad --names: {} names for {} streams are {pairs} counters: got more than {MOST_PAIRS}: give fewer",
            args.names, args.streams
        ));
    }
    let writes = args.rate as f64 * args.duration.as_secs_f64();
    if args.rate > 0 && !(1.0..=MOST_WRITES).contains(&writes) {
        return refused(format!(
            "bad --rate: {} a second for {:?} are {writes:.0} writes: give 1 to {MOST_WRITES} in all",
            args.rate, args.duration
        ));
    }
    if args.duration.is_zero() {
        return refused("bad --duration: it is zero: got 0s: give some seconds".to_owned());
    }
    Ok(())
}

/// Opens the streams, writes, and waits for the deliveries.
fn measure(
    args: &Stream,
    readers: Vec<Target>,
    writer: &Target,
    names: &Names,
    process: Option<Process>,
    interrupt: &Interrupt,
) -> Result<(Measured, Listeners), Failure> {
    let streams = usize::try_from(args.streams).unwrap_or(usize::MAX);
    let prefix = names.0[0].rfind('/').map_or("", |slash| &names.0[0][..=slash]);
    let query =
        [parameter("prefix", prefix), parameter("since", "now"), parameter("mode", args.mode.as_str())];
    // it is the beginning only once the streams have begun
    let dues =
        |begins| Dues::new(begins, (args.rate > 0).then(|| Duration::from_secs(1).div_f64(args.rate as f64)));
    let none = Deliveries::new(dues(Instant::now()), streams, names.0.len());
    let memory_before = process.and_then(Process::memory);
    let mut listeners =
        Listeners::new(readers, with_query("/v1/watch", &query), args.form.wire(), streams, none, interrupt)?;
    let started = Instant::now();
    listeners
        .begin(started + BEGINNING, |begun| tell(&format!("{begun} of {streams} streams have begun")))?;
    let connected_after = started.elapsed();
    if listeners.listening() < streams {
        let why = listeners.tally.trouble.take().unwrap_or_else(|| "it takes too long".to_owned());
        let begun = listeners.listening();
        return Err(Failure::Failed(format!("only {begun} of {streams} streams have begun: {why}")));
    }
    tell(&format!("{streams} streams have begun after {connected_after:.2?}"));
    let memory = process.and_then(Process::memory).zip(memory_before);
    listeners.tally.bytes = 0;

    let ran_before = process.and_then(Process::processor_time);
    let dues = dues(Instant::now());
    listeners.deliveries = Deliveries::new(dues.clone(), streams, names.0.len());
    let over = Arc::new(AtomicBool::new(false));
    let writing = thread::spawn({
        let (names, writer, interrupt, over) =
            (names.clone(), writer.clone(), interrupt.clone(), Arc::clone(&over));
        let most = match args.rate {
            0 => MOST_WRITES,
            rate => (rate as f64 * args.duration.as_secs_f64()).round(),
        };
        // a node that falls behind the schedule is to take all of it
        let until = dues.begins + args.duration + if args.rate > 0 { args.give_up } else { Duration::ZERO };
        let size = args.size;
        move || {
            let to = Blocking::open(writer, &interrupt)?;
            numbered_writer::write(&names, to, &dues, size, (most as u32, until), &over)
        }
    });
    let mut looked = Instant::now();
    while !writing.is_finished() {
        let turned = listeners.turn(Instant::now() + LOOK_EVERY);
        if let Err(failure) = turned {
            over.store(true, Ordering::Relaxed);
            let _ = writing.join();
            return Err(failure);
        }
        if looked.elapsed() >= LOOK_EVERY {
            looked = Instant::now();
            let deliveries = &listeners.deliveries;
            tell(&format!(
                "{} deliveries, p99 {} ms",
                deliveries.delivered,
                deliveries.times.percentile_ms(99.0)
            ));
        }
    }
    let written = writing.join().map_err(|_| Failure::Failed("the writer has failed".to_owned()))??;
    let until = Instant::now() + args.give_up;
    while missing(args, &listeners, written.count) > 0 && listeners.listening() > 0 && Instant::now() < until
    {
        listeners.turn(until)?;
    }
    let processor_time = process.and_then(Process::processor_time).zip(ran_before);
    let processor_time = processor_time.map(|(after, before)| after.saturating_sub(before));
    Ok((Measured { connected_after, memory, processor_time, written }, listeners))
}

/// Versions that are lost so far.
fn missing(args: &Stream, listeners: &Listeners, writes: u32) -> u64 {
    match args.mode {
        Mode::All => listeners.deliveries.untold(writes),
        // with nothing untold nothing is lost, and to see that is cheaper
        Mode::Latest if listeners.deliveries.untold(writes) == 0 => 0,
        Mode::Latest => listeners.deliveries.lost(writes),
    }
}

fn figures(args: &Stream, measured: &Measured, listeners: &Listeners, process: Option<Process>) -> Figures {
    let ms = |time: Duration| time.as_secs_f64() * 1e3;
    let (tally, deliveries) = (&listeners.tally, &listeners.deliveries);
    let written = &measured.written;
    let lost = missing(args, listeners, written.count);
    let lasts = deliveries.lasts();
    let mut figures = Figures::default();
    figures.text("of", "stream");
    figures.text("schedule", if args.rate == 0 { "as fast as answered" } else { "steady" });
    figures.text("form", args.form.as_str());
    figures.text("mode", args.mode.as_str());
    figures.count("streams", args.streams);
    figures.count("names", args.names);
    figures.count("writes", written.count.into());
    figures.number("connect_ms", ms(measured.connected_after));
    figures.times("delivery_ms", &deliveries.times);
    figures.times("last_ms", &lasts);
    figures.times("put_ms", &written.times);
    figures.number("writer_behind_ms", (args.rate > 0).then_some(ms(written.behind)));
    figures.count("delivered", deliveries.delivered);
    let took = deliveries.latest.map(|latest| latest.saturating_duration_since(deliveries.begins()));
    let per_second = |count: u64| took.map(|took| count as f64 / took.as_secs_f64().max(1e-6));
    figures.number("per_second", per_second(deliveries.delivered));
    figures.number("writes_per_second", per_second(written.count.into()));
    let each = (deliveries.delivered > 0).then(|| tally.bytes as f64 / deliveries.delivered as f64);
    figures.number("bytes_each", each);
    for (name, count) in [
        ("told_to_all", lasts.count()),
        ("lost", lost),
        ("superseded", deliveries.untold(written.count) - lost.min(deliveries.untold(written.count))),
        ("repeated", deliveries.repeated),
        ("gaps", tally.gaps),
        ("dropped", tally.dropped),
    ] {
        figures.count(name, count);
    }
    if let Some(process) = process {
        figures.count("server.pid", process.pid().into());
        let ran = measured.processor_time.filter(|_| deliveries.delivered > 0);
        let per_deliveries = ran.map(|ran| ms(ran) * 1e4 / deliveries.delivered as f64);
        figures.number("server.cpu_ms_per_10k_deliveries", per_deliveries);
        let grown = measured.memory.map(|(after, before)| after.saturating_sub(before) as f64);
        figures.number("server.bytes_per_stream", grown.map(|bytes| bytes / args.streams as f64));
        figures.number("server.memory_bytes", process.memory().map(|bytes| bytes as f64));
    }
    figures
}

fn judge(args: &Stream, measured: &Measured, listeners: &Listeners) -> Result<(), Failure> {
    let tally = &listeners.tally;
    let lost = missing(args, listeners, measured.written.count);
    if lost + tally.dropped == 0 {
        return Ok(());
    }
    let because = tally.trouble.as_ref().map_or(String::new(), |why| format!(" ({why})"));
    let dropped = tally.dropped;
    Err(Failure::Failed(format!("{lost} deliveries lost, {dropped} streams ended{because}")))
}
