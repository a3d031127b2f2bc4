//! The promises of a watch on real processes with faults: `cargo run --release -p cluster-tests --bin feeds -- --runs
//! 20 --seconds 60 --nodes 5`.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use cluster_tests::promises::{Run, run};

const USAGE: &str = "\
feeds [--runs N]       so many runs, each with the next seed: a line for each, and a summary [20]
      [--seconds N]    for how long faults happen in each [60]
      [--nodes N]      processes, at least 3; 0 is 3 to 5, by the seed [0]
      [--seed N]       the first seed [1]
      [--streams]      readers are told by streams most of the time, through proxies with faults";

struct Args {
    runs: u64,
    seconds: u64,
    nodes: u64,
    seed: u64,
    streams: bool,
}

fn parse() -> Result<Args, String> {
    let mut args = Args { runs: 20, seconds: 60, nodes: 0, seed: 1, streams: false };
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        if word == "--streams" {
            args.streams = true;
            continue;
        }
        let place = match word.as_str() {
            "--runs" => &mut args.runs,
            "--seconds" => &mut args.seconds,
            "--nodes" => &mut args.nodes,
            "--seed" => &mut args.seed,
            _ => return Err(USAGE.to_owned()),
        };
        let text = words.next().ok_or(format!("{word} needs a number"))?;
        *place = text.parse().map_err(|_| format!("{word}: {text} is not a number"))?;
    }
    match args.nodes {
        0 | 3..=100 => Ok(args),
        nodes => Err(format!("--nodes: {nodes} is not 3 to 100")),
    }
}

fn main() -> ExitCode {
    let args = match parse() {
        Ok(args) => args,
        Err(error) => {
            eprintln!("{error}");
            return ExitCode::from(2);
        }
    };
    let started = Instant::now();
    let mut failed = Vec::new();
    for seed in args.seed..args.seed.saturating_add(args.runs) {
        let nodes = if args.nodes == 0 { [3, 4, 5][(seed % 3) as usize] } else { args.nodes };
        let nodes = usize::try_from(nodes).unwrap_or(100);
        let time = Duration::from_secs(args.seconds);
        // the panic itself prints the fault, with the logs of all nodes
        match std::panic::catch_unwind(|| run(Run { seed, nodes, time, by_streams: args.streams })) {
            Ok(report) => {
                println!("seed {seed}: {nodes} nodes, {report}");
                failed.extend((!report.violations.is_empty()).then_some(seed));
            }
            Err(_) => {
                println!("seed {seed}: FAILED");
                failed.push(seed);
            }
        }
    }
    let minutes = started.elapsed().as_secs_f64() / 60.0;
    println!("{} runs in {minutes:.1} min, failed: {failed:?}", args.runs);
    if failed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
