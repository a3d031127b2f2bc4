//! The promises of a watch on real processes with faults: `cargo run --release -p cluster-tests --bin feeds -- --runs
//! 20 --seconds 60 --nodes 5`.

use std::process::ExitCode;
use std::time::Duration;

use cluster_tests::long_runs::{read_options, refuse, run_seeds};
use cluster_tests::promises::{Run, run};

/// The option without a number.
const STREAMS: &str = "--streams";

const USAGE: &str = "\
feeds [--runs N]       so many runs, each with the next seed: a line for each, and a summary [20]
      [--seconds N]    for how long faults happen in each [60]
      [--nodes N]      processes, at least 3; 0 is 3 to 5, by the seed [0]
      [--seed N]       the first seed [1]
      [--streams]      readers are told by streams most of the time, through proxies with faults";

fn main() -> ExitCode {
    let by_streams = std::env::args().any(|word| word == STREAMS);
    let (mut runs, mut seconds, mut nodes, mut first) = (20, 60, 0, 1);
    let mut options =
        [("--runs", &mut runs), ("--seconds", &mut seconds), ("--nodes", &mut nodes), ("--seed", &mut first)];
    if let Err(error) = read_options(USAGE, &[STREAMS], &mut options) {
        return refuse(&error);
    }
    if nodes != 0 && !(3..=100).contains(&nodes) {
        return refuse(&format!("--nodes: {nodes} is not 3 to 100"));
    }
    run_seeds(first, runs, |seed| {
        let nodes = if nodes == 0 { [3, 4, 5][(seed % 3) as usize] } else { nodes };
        let nodes = usize::try_from(nodes).unwrap_or(100);
        let report = run(Run { seed, nodes, time: Duration::from_secs(seconds), by_streams });
        println!("seed {seed}: {nodes} nodes, {report}");
        report.violations.is_empty()
    })
}
