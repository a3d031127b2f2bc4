//! Random faults on five processes, see `cluster_tests::faults` for what must hold.
//!
//! The seed is printed; `VWATCH_FAULTS_SEED=<seed> cargo test -p cluster-tests --test faults` draws the same faults again, though
//! not at the same microsecond. `cargo run --release -p cluster-tests --bin faults` is the long run.

use std::time::Duration;

use cluster_tests::faults::{Run, run};

/// Runs, and seconds of each, unless `VWATCH_FAULTS_SECONDS` says how long: then there are five. CI has a minute for each.
const RUNS: (u64, u64) = (2, 15);

#[test]
fn random_faults_break_no_promise() {
    let (runs, seconds) = match std::env::var("VWATCH_FAULTS_SECONDS") {
        Ok(seconds) => (5, seconds.parse().expect("a number")),
        Err(_) => RUNS,
    };
    let seeds = match std::env::var("VWATCH_FAULTS_SEED") {
        Ok(seed) => vec![seed.parse().expect("a number")],
        Err(_) => (1..runs).chain([fastrand::u64(..)]).collect(),
    };
    for seed in seeds {
        println!("VWATCH_FAULTS_SEED={seed}");
        println!("{}", run(Run { seed, nodes: 5, time: Duration::from_secs(seconds) }));
    }
}
