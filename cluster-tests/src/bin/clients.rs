//! The client library at nodes that fail: `cargo run --release -p cluster-tests --bin clients -- --runs 20 --seconds
//! 60`.

use std::process::ExitCode;
use std::time::Duration;

use cluster_tests::clients::{Run, run};
use cluster_tests::long_runs::{read_options, refuse, run_seeds};

const USAGE: &str = "\
clients [--runs N]       so many runs, each with the next seed: a line for each, and a summary [20]
        [--seconds N]    for how long faults happen in each [60]
        [--seed N]       the first seed [1]";

fn main() -> ExitCode {
    let (mut runs, mut seconds, mut first) = (20, 60, 1);
    let mut options = [("--runs", &mut runs), ("--seconds", &mut seconds), ("--seed", &mut first)];
    if let Err(error) = read_options(USAGE, &[], &mut options) {
        return refuse(&error);
    }
    run_seeds(first, runs, |seed| {
        let report = run(Run { seed, time: Duration::from_secs(seconds), begins_again: true });
        println!("seed {seed}: {report}");
        report.violations.iter().for_each(|violation| println!("  {violation}"));
        report.violations.is_empty()
    })
}
