//! Clients that behave badly for an hour: nothing may be lost, and nothing left behind.
//!
//! `storm [--minutes 60] [--clients 10000]`. Prints memory and descriptors of the node behind each cycle; exits with a
//! panic with the fault.

use std::time::{Duration, Instant};

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let option = |name: &str, default: f64| {
        let at = arguments.iter().position(|argument| argument == name);
        let text = at.and_then(|at| arguments.get(at + 1));
        text.map_or(default, |text| {
            text.parse().unwrap_or_else(|_| panic!("{name} takes a number: got {text}"))
        })
    };
    let minutes = option("--minutes", 60.0);
    let clients = option("--clients", 10_000.0) as usize;
    let started = Instant::now();
    let report = cluster_tests::storm::run(clients, Duration::from_secs_f64(minutes * 60.0), |report| {
        let (kb, files) = report.samples.last().copied().unwrap_or_default();
        let minutes = started.elapsed().as_secs_f64() / 60.0;
        println!(
            "{minutes:.1} minutes, cycle {}: {} woken, {} hung up, {kb} kB, {files} files",
            report.cycles, report.woken, report.hung_up
        );
    });
    println!(
        "done: {} cycles, {} woken, none lost; memory and files after the first cycles and at the end: {:?}",
        report.cycles,
        report.woken,
        report.growth()
    );
}
