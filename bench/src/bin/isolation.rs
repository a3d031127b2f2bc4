//! What a fan-out does to others: a lone watcher of another name, and a writer of another name, while very many
//! watchers are woken. Beside it, as the control, the same on a second node that has no fan-out, at the same time on
//! the same machine.
//!
//! `isolation [WATCHERS [ROUNDS]]`, 18000 and 20 unless told. Exits with 1 if the 99th percentile of either is more
//! than twice that of the control, or its median more than 5 ms above. The control shares the processors with the
//! fan-out, which shows in its 99th percentile; its median is that of a node at rest.

use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use cluster_tests::http::Connection;
use cluster_tests::node::{Node, get, put};
use cluster_tests::wait::LIMIT;

/// From one probe to the next.
const PAUSE: Duration = Duration::from_millis(1);

/// So far above the control's may a median be, in ms.
const MOST_ABOVE_MS: f64 = 5.0;

/// Probes of one node, each a write to a name that one reader is parked on.
struct Probe {
    reader: Connection,
    writer: Connection,
    version: u64,
    wakes: Vec<Duration>,
    writes: Vec<Duration>,
}

impl Probe {
    fn new(node: &Node) -> Self {
        node.put("lone?version=0", "").expect(204);
        Self {
            reader: node.client(),
            writer: node.server(),
            version: 0,
            wakes: Vec::new(),
            writes: Vec::new(),
        }
    }

    /// Parks, writes, and takes both times. The reader has a thread of its own, as it would.
    fn run(&mut self) {
        let Self { reader, writer, version, .. } = self;
        reader.send(&get(&format!("lone?version={version}&timeout=1m")));
        *version += 1;
        thread::sleep(PAUSE);
        let started = Instant::now();
        let (woken, written) = thread::scope(|scope| {
            let woken = scope.spawn(|| {
                reader.answer().expect(200);
                started.elapsed()
            });
            writer.ask(&put(&format!("lone?version={version}")).body("")).expect(204);
            let written = started.elapsed();
            (woken.join().expect("an answer"), written)
        });
        self.wakes.push(woken);
        self.writes.push(written);
    }
}

fn percentile_ms(times: &mut [Duration], percent: usize) -> f64 {
    times.sort_unstable();
    times.get((times.len() * percent / 100).min(times.len() - 1)).map_or(0.0, |time| time.as_secs_f64() * 1e3)
}

fn main() -> ExitCode {
    let numbers: Vec<usize> = std::env::args().skip(1).filter_map(|text| text.parse().ok()).collect();
    let (watchers, rounds) = (numbers.first().map_or(18_000, |n| *n), numbers.get(1).map_or(20, |n| *n));
    let (busy, idle) = (Node::with(&["--jitter-per-watch", "0s"]), Node::with(&["--jitter-per-watch", "0s"]));
    let mut crowd: Vec<Connection> = (0..watchers).map(|_| busy.client()).collect();
    let mut probes = [Probe::new(&busy), Probe::new(&idle)];
    busy.put("crowd?version=0", "").expect(204);
    let mut writer = busy.server();
    for round in 1..=rounds {
        for watcher in &mut crowd {
            watcher.send(&get(&format!("crowd?version={}&timeout=1m", round - 1)));
        }
        busy.wait_parked(watchers);
        let is_over = AtomicBool::new(false);
        thread::scope(|scope| {
            scope.spawn(|| {
                writer.ask(&put(&format!("crowd?version={round}")).body(".".repeat(64))).expect(204);
                for watcher in &mut crowd {
                    watcher.try_answer(LIMIT).expect("a wake").expect(200);
                }
                is_over.store(true, Ordering::Relaxed);
            });
            while !is_over.load(Ordering::Relaxed) {
                probes.iter_mut().for_each(Probe::run);
            }
        });
        eprintln!("round {round} of {rounds}: {} probes", probes[0].wakes.len());
    }
    let mut is_fine = true;
    let [beside, control] = &mut probes;
    for (what, beside, control) in [
        ("lone wake", &mut beside.wakes, &mut control.wakes),
        ("other PUT", &mut beside.writes, &mut control.writes),
    ] {
        let count = beside.len();
        let [b50, b99] = [50, 99].map(|percent| percentile_ms(beside, percent));
        let [c50, c99] = [50, 99].map(|percent| percentile_ms(control, percent));
        let (above, ratio) = (b50 - c50, b99 / c99);
        println!(
            "{what}: p50 {b50:.2} ms, p99 {b99:.2} ms; control {c50:.2} and {c99:.2}; p50 {above:+.2} ms, p99 {ratio:.2} times; {count} probes"
        );
        is_fine &= ratio <= 2.0 && above <= MOST_ABOVE_MS;
    }
    if is_fine { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
