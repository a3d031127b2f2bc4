//! Clients that behave badly, for the given time: they disconnect while they are woken, never read, and come back all
//! at once. Those that behave well must be woken by every write, and nothing may be left behind.

use std::thread;
use std::time::{Duration, Instant};

use fastrand::Rng;

use crate::http::{Connection, Request};
use crate::node::{Node, get, put};
use crate::wait::{LIMIT, wait_until};

/// Names that clients wait for.
const NAMES: usize = 20;

/// Clients of each cycle that request much and read nothing.
const STALLED: usize = 20;

/// What a node may have grown beyond the first cycles: allocators keep some of what was given back.
const SLACK_KB: u64 = 8 * 1024;

/// Cycles after which a node is as large as it gets.
const WARM_UP: usize = 3;

/// What a storm came to.
#[derive(Debug)]
pub struct Report {
    /// Storms.
    pub cycles: usize,
    /// Wakes that came as they should.
    pub woken: usize,
    /// Clients that hung up while they were woken.
    pub hung_up: usize,
    /// Memory in kB and descriptors of the node behind each cycle, with no client there.
    pub samples: Vec<(u64, usize)>,
}

impl Report {
    /// Memory and descriptors after the first cycles, and at the end.
    #[must_use]
    pub fn growth(&self) -> Option<[(u64, usize); 2]> {
        let warm = self.samples.iter().take(WARM_UP).max()?;
        Some([*warm, *self.samples.last()?])
    }
}

/// Storms for so long, with so many clients; `progress` is called for each cycle.
///
/// # Panics
/// If a watcher is lost, a connection or a parked reader is left behind, or memory or descriptors grow.
pub fn run(clients: usize, time: Duration, mut progress: impl FnMut(&Report)) -> Report {
    let flags = ["--jitter-per-watch", "0s", "--idle-timeout", "20s", "--data-limit-bytes", "1MiB"];
    let node = Node::with(&flags);
    let mut random = Rng::with_seed(7);
    let mut report = Report { cycles: 0, woken: 0, hung_up: 0, samples: Vec::new() };
    let started = Instant::now();
    node.put("big?version=0", vec![b'x'; 1 << 20]).expect(204);
    while started.elapsed() < time || report.cycles <= WARM_UP {
        cycle(&node, clients, &mut random, &mut report);
        report.cycles += 1;
        wait_until("no parked reader", LIMIT, || node.parked() == 0);
        wait_until("no connection left", LIMIT, || node.connections("client") == 0);
        report.samples.push((resident_kb(node.pid()), descriptors(node.pid())));
        progress(&report);
    }
    if let Some([(warm_kb, warm_files), (kb, files)]) = report.growth() {
        assert!(kb <= warm_kb + SLACK_KB, "memory grew from {warm_kb} to {kb} kB: {:?}", report.samples);
        assert!(
            files <= warm_files + 5,
            "descriptors grew from {warm_files} to {files}: {:?}",
            report.samples
        );
    }
    report
}

/// All connect and park; they are woken while a third of them hangs up; the rest parks again and is woken again; and
/// all go at once.
fn cycle(node: &Node, clients: usize, random: &mut Rng, report: &mut Report) {
    let base = report.cycles * 2;
    write_all(node, base);
    let stalled: Vec<_> = (0..STALLED)
        .map(|_| {
            let mut connection = node.client();
            for _ in 0..8 {
                let _ = connection.try_send_bytes(&get("big").bytes());
            }
            connection
        })
        .collect();
    let mut watchers: Vec<_> = (0..clients)
        .map(|_| {
            let name = random.usize(0..NAMES);
            let usual = random.usize(0..50) > 0;
            (node.watch(&watch(name, base, usual)), name, usual)
        })
        .collect();
    node.wait_parked(clients);
    random.shuffle(&mut watchers);
    let gone = watchers.split_off(clients - clients / 3);
    report.hung_up += gone.len();
    let patience = Duration::from_micros(random.u64(0..200));
    thread::scope(|scope| {
        scope.spawn(move || {
            for connection in gone {
                drop(connection);
                thread::sleep(patience / 50);
            }
        });
        write_all(node, base + 1);
    });
    for (connection, name, usual) in &mut watchers {
        hear(connection, base + 1);
        report.woken += 1;
        connection.send(&watch(*name, base + 1, *usual));
    }
    node.wait_parked(watchers.len());
    write_all(node, base + 2);
    for (connection, ..) in &mut watchers {
        hear(connection, base + 2);
        report.woken += 1;
    }
    // all at once, with those that took nothing
    drop((stalled, watchers));
}

fn watch(name: usize, version: usize, usual: bool) -> Request {
    let request = get(&format!("n{name}?version={version}&timeout=1m"));
    // some by the ordinary path
    if usual { request } else { request.header("Trailer", "X-None") }
}

fn write_all(node: &Node, version: usize) {
    let mut server = node.server();
    for name in 0..NAMES {
        server.ask(&put(&format!("n{name}?version={version}")).body("")).expect(204);
    }
}

fn hear(connection: &mut Connection, version: usize) {
    let answer =
        connection.try_answer(LIMIT).unwrap_or_else(|e| panic!("a watcher is lost: {e}")).expect(200);
    assert_eq!(answer.version(), Some(version.to_string().as_str()), "{answer:?}");
}

/// The memory that a process has in use, KiB.
///
/// # Panics
/// If it is gone.
#[must_use]
pub fn resident_kb(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("Linux");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("a resident set");
    line.trim().trim_end_matches(" kB").parse().expect("a number")
}

fn descriptors(pid: u32) -> usize {
    std::fs::read_dir(format!("/proc/{pid}/fd")).expect("our own child").count()
}
