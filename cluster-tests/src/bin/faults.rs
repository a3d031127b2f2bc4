//! Random faults on real processes: `cargo run --release -p cluster-tests --bin faults -- --runs 50 --seconds 60
//! --nodes 5`.

use std::process::ExitCode;
use std::time::Duration;

use cluster_tests::faults::{Run, run};
use cluster_tests::long_runs::{read_options, refuse, run_seeds};

const USAGE: &str = "\
faults [--runs N]       so many runs, each with the next seed: a line for each, and a summary [50]
       [--seconds N]    for how long faults happen in each [60]
       [--nodes N]      processes, at least 3 [5]
       [--seed N]       the first seed [1]";

fn main() -> ExitCode {
    let (mut runs, mut seconds, mut nodes, mut first) = (50, 60, 5, 1);
    let mut options =
        [("--runs", &mut runs), ("--seconds", &mut seconds), ("--nodes", &mut nodes), ("--seed", &mut first)];
    if let Err(error) = read_options(USAGE, &[], &mut options) {
        return refuse(&error);
    }
    let Some(nodes) = usize::try_from(nodes).ok().filter(|nodes| (3..=100).contains(nodes)) else {
        return refuse(&format!("--nodes: {nodes} is not 3 to 100"));
    };
    run_seeds(first, runs, |seed| {
        println!("seed {seed}: {}", run(Run { seed, nodes, time: Duration::from_secs(seconds) }));
        true
    })
}
