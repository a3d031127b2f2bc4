//! Floods of what costs a server most, one kind after the other, with the latency of an ordinary reader and writer and
//! the memory of the node.
//!
//! `floods [--seconds 20]`, for each kind. Prints a table; ends with a panic if an ordinary request is not answered.

use std::time::Duration;

use cluster_tests::floods::{Figures, HEAD, ORDINARY, at, run};
use cluster_tests::long_runs::{read_options, refuse};

const USAGE: &str = "floods [--seconds SECONDS]: so long for each kind, 20 unless told";

fn main() -> std::process::ExitCode {
    let mut seconds = 20;
    if let Err(error) = read_options(USAGE, &[], &mut [("--seconds", &mut seconds)]) {
        return refuse(&error);
    }
    println!("{HEAD}");
    let all = run(Duration::from_secs(seconds), |figures| println!("{}", figures.line()));
    let ordinary = all.iter().find(|figures| figures.flood == ORDINARY).map_or(Duration::ZERO, p99);
    let slowest = all.iter().max_by_key(|figures| p99(figures));
    if let Some(slowest) = slowest {
        let ratio = p99(slowest).as_secs_f64() / ordinary.as_secs_f64();
        println!("the p99 of GET is at most {ratio:.2} times that beside {ORDINARY}: {}", slowest.flood);
    }
    std::process::ExitCode::SUCCESS
}

fn p99(figures: &Figures) -> Duration {
    at(&figures.reads, 99)
}
