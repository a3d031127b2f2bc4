//! What watches of the client library cost a program: events of one watch, and a thousand watches.
//!
//! `cargo xtask bench clients`. The figures beside the client of etcd are in `docs/benchmarks`.

use std::time::{Duration, Instant};

use cluster_tests::node::Node;
use tokio::task::JoinSet;
use vwatch::client::{Client, Event, Events, Scope};

const NAMES: usize = 12_500;
/// As many as a name keeps.
const VERSIONS: usize = 8;
const WRITERS: usize = 16;
const WATCHES: usize = 1000;
const CHANGES: usize = 100;

/// A number of `/proc/self/status`, in KiB.
fn status(key: &str) -> u64 {
    let text = std::fs::read_to_string("/proc/self/status").expect("Linux");
    let line = text.lines().find(|line| line.starts_with(key)).expect("the line");
    line.split_whitespace().nth(1).and_then(|number| number.parse().ok()).expect("a number")
}

/// The time of the processor that this process has used.
fn used() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).expect("less than a second"))
}

fn per(time: Duration, count: usize) -> f64 {
    time.as_secs_f64() * 1e6 / count as f64
}

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() {
    let node = Node::start();
    let (reader, server) = (node.client_addr().to_string(), node.server_addr().to_string());
    let client = Client::builder().nodes([reader]).servers([server]).build().expect("a client");
    let began = Instant::now();
    let mut writers = JoinSet::new();
    for writer in 0..WRITERS {
        let client = client.clone();
        writers.spawn(async move {
            for version in 0..VERSIONS {
                for name in (writer..NAMES).step_by(WRITERS) {
                    client.put(&format!("c/{name:05}"), format!("{version:064}")).await.expect("a write");
                }
            }
        });
    }
    writers.join_all().await;
    let took = began.elapsed();
    println!(
        "{} writes of {WRITERS} tasks: {:.0} a second",
        NAMES * VERSIONS,
        (NAMES * VERSIONS) as f64 / took.as_secs_f64()
    );
    for _ in 0..3 {
        let (began, before) = (Instant::now(), used());
        let mut events = client.watch(Scope::prefix("c/")).all_versions().start();
        let mut told = 0;
        while !matches!(events.next().await.expect("an event"), Event::SyncEnd) {
            told += 1;
        }
        let (took, cpu) = (began.elapsed(), used() - before);
        println!(
            "one watch: {told} events, {:.0} a second, {:.2} us of CPU each",
            told as f64 / took.as_secs_f64(),
            per(cpu, told)
        );
    }
    let before = status("VmRSS");
    let mut watches: Vec<Events> = Vec::new();
    for _ in 0..WATCHES {
        let mut events = client.watch(Scope::name("c/00001")).start();
        events.next().await.expect("what stands");
        watches.push(events);
    }
    println!("{WATCHES} watches: {:.1} KiB each", (status("VmRSS") - before) as f64 / WATCHES as f64);
    let mut followers = JoinSet::new();
    for mut events in watches {
        followers.spawn(async move {
            let mut told = 0;
            while !matches!(events.next().await, Ok(Event::Updated(entry)) if entry.version == "last") {
                told += 1;
            }
            told + 1
        });
    }
    let (idle, before) = (Duration::from_secs(10), used());
    tokio::time::sleep(idle).await;
    println!(
        "{WATCHES} idle watches: {:.1} ms of CPU a second",
        (used() - before).as_secs_f64() * 1e3 / idle.as_secs_f64()
    );
    let before = used();
    for change in 1..CHANGES {
        client.put("c/00001", change.to_string()).await.expect("a write");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    client.put_version("c/00001", "last", "").await.expect("a write");
    let told: usize = followers.join_all().await.into_iter().sum();
    println!(
        "{CHANGES} changes to {WATCHES} watches: {told} events, {:.2} us of CPU each",
        per(used() - before, told)
    );
}
