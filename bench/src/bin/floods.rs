//! Floods of what costs a server most, one kind after the other, with the latency of an ordinary reader and writer and
//! the memory of the node.
//!
//! `floods [--seconds 20] [--first 0] [--last 21]`, for each kind. Prints a table; ends with a panic if an ordinary
//! request is not answered.

use std::time::Duration;

use cluster_tests::floods::{COUNT, Figures, HEAD, ORDINARY, at, run};
use cluster_tests::long_runs::{read_options, refuse};

const USAGE: &str =
    "floods [--seconds SECONDS] [--first NUMBER] [--last NUMBER]: so long for each kind, 20 unless told";

fn main() -> std::process::ExitCode {
    let (mut seconds, mut first, mut last) = (20, 0, COUNT as u64 - 1);
    let mut options = [("--seconds", &mut seconds), ("--first", &mut first), ("--last", &mut last)];
    if let Err(error) = read_options(USAGE, &[], &mut options) {
        return refuse(&error);
    }
    if first > last || last >= COUNT as u64 {
        return refuse(&format!(
            "--first and --last: got {first} and {last}: the kinds are 0 to {}",
            COUNT - 1
        ));
    }
    println!("{HEAD}");
    let numbers = first as usize..last as usize + 1;
    let all = run(numbers, Duration::from_secs(seconds), |figures| println!("{}", figures.line()));
    let ordinary = all.iter().find(|figures| figures.flood == ORDINARY).map(p99);
    let slowest = all.iter().max_by_key(|figures| p99(figures));
    if let (Some(ordinary), Some(slowest)) = (ordinary, slowest) {
        let ratio = p99(slowest).as_secs_f64() / ordinary.as_secs_f64();
        println!("the p99 of GET is at most {ratio:.2} times that beside {ORDINARY}: {}", slowest.flood);
    }
    std::process::ExitCode::SUCCESS
}

fn p99(figures: &Figures) -> Duration {
    at(&figures.reads, 99)
}
