//! From a write at a leader to a watcher: at the leader itself, and one, two and three followers down, in turns. And
//! 10,000 watchers of one name on a follower.
//!
//! `cargo xtask bench fill`, best in a network of its own: `unshare -n bash -c 'ip link set lo up; …'`.

use std::time::{Duration, Instant};

use cluster_tests::http::Connection;
use cluster_tests::node::{Node, get, put};
use cluster_tests::wait::wait_until;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

const WRITES: usize = 500;
const WATCHERS: usize = 10_000;

fn main() {
    // a harness that only lists tests
    if std::env::args().any(|argument| argument == "--test" || argument == "--list") {
        return;
    }
    let limit = getrlimit(Resource::Nofile);
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum });
    let mut nodes = vec![Node::start()];
    for _ in 0..3 {
        let url = format!("http://{}", nodes[nodes.len() - 1].client_addr());
        nodes.push(Node::with(&["--fill-from", &url]));
    }
    latency(&nodes);
    crowd(&nodes[0], &nodes[1]);
}

fn latency(nodes: &[Node]) {
    let mut server = nodes[0].server();
    server.ask(&put("n?version=v0").body("data")).expect(204);
    let mut watchers: Vec<Connection> = nodes.iter().map(Node::client).collect();
    for watcher in &mut watchers {
        watcher.ask(&get("n")).expect(200);
    }
    let mut took = vec![Vec::with_capacity(WRITES); nodes.len()];
    for i in 1..=WRITES {
        for tier in 0..nodes.len() {
            let (before, after) = (format!("v{i}.{tier}"), format!("v{i}.{}", tier + 1));
            if tier == 0 {
                server.ask(&put(&format!("n?version={before}")).body("data")).expect(204);
            }
            // all tiers have it before the next one is written
            for watcher in &mut watchers {
                while watcher.ask(&get("n?timeout=0s")).version() != Some(&before) {
                    std::thread::sleep(Duration::from_micros(200));
                }
            }
            let watcher = &mut watchers[tier];
            watcher.send(&get(&format!("n?version={before}&timeout=1m")));
            // parked, and so are the followers
            std::thread::sleep(Duration::from_millis(2));
            let started = Instant::now();
            server.send(&put(&format!("n?version={after}")).body("data"));
            assert_eq!(watcher.answer().expect(200).version(), Some(after.as_str()));
            took[tier].push(started.elapsed());
            server.answer().expect(204);
        }
    }
    println!("| tiers down | p50 | p90 | p99 | most |\n|---|---|---|---|---|");
    for (tier, took) in took.iter_mut().enumerate() {
        took.sort_unstable();
        let at = |share: f64| took[((took.len() - 1) as f64 * share) as usize];
        println!("| {tier} | {:.2?} | {:.2?} | {:.2?} | {:.2?} |", at(0.5), at(0.9), at(0.99), at(1.0));
    }
}

fn crowd(leader: &Node, follower: &Node) {
    leader.put("crowd?version=v1", "").expect(204);
    follower.get("crowd").expect(200);
    let mut watchers: Vec<_> =
        (0..WATCHERS).map(|_| follower.watch(&get("crowd?version=v1&timeout=1m"))).collect();
    wait_until("all to be parked", Duration::from_secs(60), || follower.parked() >= WATCHERS);
    // of this name and of the other one
    let parked = leader.parked();
    let started = Instant::now();
    leader.put("crowd?version=v2", "").expect(204);
    for watcher in &mut watchers {
        assert_eq!(watcher.answer().expect(200).version(), Some("v2"));
    }
    println!(
        "{WATCHERS} watchers of one of two names on a follower: {parked} requests parked at the leader, all told after {:.0?}",
        started.elapsed()
    );
}
