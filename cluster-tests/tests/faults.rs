//! Random faults on processes: see `cluster_tests::faults` for what must hold of names, and `cluster_tests::promises`
//! for what must hold of watches.
//!
//! The seed is printed; `VWATCH_FAULTS_SEED=<seed> cargo test -p cluster-tests --test faults` draws the same faults
//! again, though not at the same microsecond. `cargo run --release -p cluster-tests --bin faults` is the long run.

use std::time::Duration;

use cluster_tests::clients;
use cluster_tests::faults::{Run, run};
use cluster_tests::heavy::heavy;
use cluster_tests::promises::{self, Streamed};

/// Runs, and seconds of each, unless `VWATCH_FAULTS_SECONDS` says how long: then there are five. CI has a minute for
/// each.
const RUNS: (u64, u64) = (2, 15);

#[test]
fn random_faults_break_no_promise() {
    let _heavy = heavy();
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

/// `VWATCH_FEEDS_SECONDS`, `VWATCH_FEEDS_RUNS` and `VWATCH_FEEDS_SEED` say how long, how often and from which seed on;
/// `cargo run --release -p cluster-tests --bin feeds` is the long run.
#[test]
fn watches_keep_their_promises_while_nodes_fail() {
    watches_keep_their_promises(false);
}

/// The same for streams, `--bin feeds -- --streams`.
#[test]
fn watches_by_streams_keep_their_promises_while_nodes_fail() {
    let streamed = watches_keep_their_promises(true);
    let Streamed { streams, cursors, stalled, broken, by_bytes } = streamed;
    assert!(streams > 0 && cursors > 0 && stalled + broken + by_bytes > 0, "{streamed}");
}

/// Programs with the client library: `VWATCH_CLIENTS_SEED=<seed>` draws the same faults again, and
/// `cargo run --release -p cluster-tests --bin clients` is the long run.
#[test]
fn programs_have_what_the_nodes_have_after_faults() {
    let _heavy = heavy();
    let seed = std::env::var("VWATCH_CLIENTS_SEED")
        .map_or_else(|_| fastrand::u64(..1 << 32), |seed| seed.parse().expect("a number"));
    println!("VWATCH_CLIENTS_SEED={seed}");
    let report = clients::run(clients::Run { seed, time: Duration::from_secs(8), begins_again: true });
    println!("{report}");
    assert_eq!(report.violations, [""; 0]);
}

fn watches_keep_their_promises(by_streams: bool) -> Streamed {
    let _heavy = heavy();
    let number = |name: &str| std::env::var(name).ok().map(|text| text.parse::<u64>().expect("a number"));
    let seconds = number("VWATCH_FEEDS_SECONDS").unwrap_or(4);
    let runs = number("VWATCH_FEEDS_RUNS").unwrap_or(1);
    let first = number("VWATCH_FEEDS_SEED").unwrap_or_else(|| fastrand::u64(..1 << 32));
    let mut streamed = Streamed::default();
    for seed in first..first + runs {
        println!("VWATCH_FEEDS_SEED={seed}");
        let nodes = [3, 4, 5][(seed % 3) as usize];
        let time = Duration::from_secs(seconds);
        let report = promises::run(promises::Run { seed, nodes, time, by_streams });
        println!("{report}");
        assert!(report.violations.is_empty(), "{:#?}", report.violations);
        // that all this was put to the test
        let counts = &report.counts;
        let put_to_test = [counts.events, counts.claims, counts.resumes, report.acknowledged];
        assert!(put_to_test.iter().all(|count| *count > 0), "{report}");
        streamed = report.streamed;
    }
    streamed
}
