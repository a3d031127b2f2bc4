//! Groups that keep one version of a name, and eight: what they say of the present is the same to the last byte.
//!
//! Every write has a stamp of its client, so that two groups can be equal. What is random or a time in an answer is
//! left out: `Date`, the start of the set, how long a request took, since when a watcher waits, the order of a
//! comparison.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use cluster_tests::heavy::heavy;
use cluster_tests::http::{Connection, Request};
use cluster_tests::node::{Node, delete, get, head, put};
use cluster_tests::text::{now_us, rfc3339};
use cluster_tests::wait::{LIMIT, wait_until};
use fastrand::Rng;
use serde_json::json;

use super::differential::{lasting, play};

/// The number of requests to each group, unless `VWATCH_DEPTHS` sets it.
const REQUESTS: u64 = 3_000;

const NODES: usize = 2;

const NAMES: [&str; 8] = ["a", "a/1", "a/2", "b", "b%20c/%C3%A9", "hot", "hot", "never"];

fn group(depth: &str) -> Vec<Node> {
    let flags = ["--history-versions", depth, "--block-for", "30s", "--jitter-per-watch", "0s"];
    Node::group(NODES, &flags)
}

/// What the groups have in common.
struct World {
    rng: Rng,
    /// The stamp of the next write, µs.
    stamp: u64,
    /// The stamp of the newest write of each name.
    newest: [u64; NAMES.len()],
    versions: u64,
    /// The node that took the last write, and its name, until the others have it.
    ahead: Option<(usize, usize)>,
}

/// A request, and to which node and port it goes.
struct Step {
    node: usize,
    is_write: bool,
    request: Request,
}

impl World {
    fn version(&mut self) -> String {
        format!("v{}", self.rng.u64(self.versions.saturating_sub(6)..=self.versions))
    }

    /// A stamp near the newest one of a name: before it, the same, or after it.
    fn shown(&mut self, name: usize) -> String {
        (self.newest[name] + self.rng.u64(..3)).saturating_sub(1).to_string()
    }

    fn write(&mut self, node: usize, name: usize) -> Step {
        self.stamp += self.rng.u64(1..5_000);
        // some lose, some are ties
        let stamp = match self.rng.u8(..10) {
            0 => self.newest[name],
            1 => self.newest[name].saturating_sub(1_000).max(self.stamp - 1_000_000),
            _ => self.stamp,
        };
        let text = NAMES[name];
        let request = if self.rng.u8(..5) == 0 {
            delete(&format!("{text}?modified={stamp}"))
        } else {
            self.versions += 1;
            let version = match self.rng.u8(..6) {
                0 => self.version(),
                _ => format!("v{}", self.versions),
            };
            let data = if self.rng.u8(..8) == 0 { "other".to_owned() } else { version.clone() };
            put(&format!("{text}?version={version}&modified={stamp}")).body(data)
        };
        self.newest[name] = self.newest[name].max(stamp);
        Step { node, is_write: true, request }
    }

    fn read(&mut self, node: usize, name: usize) -> Step {
        let (text, version, stamp) = (NAMES[name], self.version(), self.shown(name));
        let request = match self.rng.u8(..12) {
            0 => get(&format!("{text}?timeout=0s")).header("X-Last-Sync", stamp),
            1 => get(&format!("{text}?timeout=0s&version={version}")),
            2 => get(&format!("{text}?timeout=0s&version=")),
            3 => get(&format!("{text}?timeout=0s")).header("If-None-Match", format!("\"{version}\", \"v1\"")),
            4 => get(&format!("{text}?timeout=0s")).header("If-None-Match", "*"),
            5 => head(text),
            6 => Request::new("GET", "/v1/versions"),
            7 => Request::new(
                "GET",
                &format!("/v1/versions?prefix={}&limit=2", ["a", "a/", "hot", "x"][self.rng.usize(..4)]),
            ),
            8 => Request::new("GET", &format!("/v1/versions?after={text}&keys-only")),
            9 => return self.comparison(node),
            _ => get(text),
        };
        Step { node, is_write: false, request }
    }

    /// A version set with some names, older and newer than here.
    fn comparison(&mut self, node: usize) -> Step {
        let mut theirs = Vec::new();
        for (name, text) in NAMES.iter().enumerate() {
            let stamp = (self.newest[name] + self.rng.u64(..3)).max(self.stamp - 1_000_000);
            let (version, stamp) = (self.version(), rfc3339(stamp));
            if self.rng.bool() {
                theirs.push(json!({"name": text, "version": version, "data": null, "last-sync": stamp}));
            }
        }
        let body = json!({"versions": theirs, "peers": []}).to_string();
        let request =
            Request::new("POST", "/v1/versions").header("Content-Type", "application/json").body(body);
        Step { node, is_write: true, request }
    }
}

fn address(nodes: &[Node], step: &Step) -> SocketAddr {
    let node = &nodes[step.node];
    if step.is_write { node.server_addr() } else { node.client_addr() }
}

/// All that a node answers, without what differs from one time to the next.
fn said(nodes: &[Node], step: &Step) -> String {
    let request = step.request.clone().header("Connection", "close").bytes();
    let (bytes, ended) = play(address(nodes, step), &[(request, Duration::ZERO)], LIMIT);
    assert!(ended, "no end of the answer to {:?}", step.request);
    let said = lasting(&bytes);
    // a comparison answers in the order of the digest, and each set has a digest of its own
    match said.split_once("\r\n\r\n[") {
        Some((head, list)) => {
            let mut rows: Vec<_> = list.trim_end_matches(']').split_inclusive('}').collect();
            rows.iter_mut().for_each(|row| *row = row.trim_start_matches(','));
            rows.sort_unstable();
            format!("{head}\r\n\r\n[{}]", rows.join(","))
        }
        None => said,
    }
}

/// The list of watchers without the times.
fn watchers(nodes: &[Node], node: usize) -> String {
    let step = Step { node, is_write: true, request: Request::new("GET", "/v1/watchers") };
    let said = said(nodes, &step);
    // a time that ends in zeros is shorter
    let is_of_length = |line: &&str| !line.starts_with("Content-Length: ");
    let said = said.split("\r\n").filter(is_of_length).collect::<Vec<_>>().join("\r\n");
    let mut parts = said.split("\"since\":\"");
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |all, part| all + part.split_once('"').map_or("", |(_, rest)| rest))
}

/// What a node says of a name now. Two writes can have the same stamp, and then the version decides.
fn present_at(nodes: &[Node], node: usize, name: usize) -> (Option<u64>, Option<String>) {
    let answer = nodes[node].get(&format!("{}?timeout=0s", NAMES[name]));
    (answer.last_sync(), answer.version().map(str::to_owned))
}

#[test]
fn what_a_group_says_of_the_present_does_not_depend_on_how_much_it_keeps() {
    let _heavy = heavy();
    let requests = std::env::var("VWATCH_DEPTHS").map_or(REQUESTS, |text| text.parse().expect("a number"));
    let seed = std::env::var("VWATCH_DEPTHS_SEED")
        .map_or_else(|_| fastrand::u64(..), |text| text.parse().expect("a number"));
    println!("VWATCH_DEPTHS_SEED={seed}");
    let groups = [group("1"), group("8")];
    let began = now_us();
    let mut world = World {
        rng: Rng::with_seed(seed),
        stamp: began,
        newest: [began; NAMES.len()],
        versions: 1,
        ahead: None,
    };
    let (mut statuses, mut woken) = (BTreeMap::<String, u64>::new(), 0);
    for turn in 0..requests {
        let node = world.rng.usize(..NODES);
        // another node has the last write a moment later
        if let Some((at, name)) = world.ahead.filter(|(at, _)| *at != node) {
            for nodes in &groups {
                wait_until("the write at the other node", LIMIT, || {
                    present_at(nodes, node, name) == present_at(nodes, at, name)
                });
            }
            world.ahead = None;
        }
        let name = world.rng.usize(..NAMES.len() - 1);
        let kind = world.rng.u8(..20);
        // the last one is never written
        let name = if kind < 9 { name } else { world.rng.usize(..NAMES.len()) };
        let answers = if kind == 0 {
            woken += 1;
            woken_by(&groups, &mut world, node, name)
        } else {
            let step = if kind < 9 { world.write(node, name) } else { world.read(node, name) };
            if kind < 9 {
                world.ahead = Some((node, name));
            }
            groups.each_ref().map(|nodes| said(nodes, &step))
        };
        let [one, eight] = &answers;
        assert_eq!(one, eight, "request {turn}, VWATCH_DEPTHS_SEED={seed}");
        let status = one.split(' ').nth(1).unwrap_or_default();
        *statuses.entry(status.to_owned()).or_default() += 1;
    }
    println!("{requests} requests, {woken} of them parked and woken: {statuses:?}");
    for status in ["200", "204", "304", "404", "409", "410"] {
        assert!(statuses.contains_key(status), "no {status} of {statuses:?}");
    }
    // that there was a difference that could show
    let kept = |nodes: &[Node]| {
        let history = nodes[0].client().ask(&Request::new("GET", "/v1/history/hot")).expect(200);
        history.json()["versions"].as_array().map_or(0, Vec::len)
    };
    assert_eq!(groups.each_ref().map(|nodes| kept(nodes)), [1, 8]);
}

/// Readers that park until a write comes: what the list of watchers says meanwhile, what wakes them, and the answer to
/// the write.
fn woken_by(groups: &[Vec<Node>; 2], world: &mut World, node: usize, name: usize) -> [String; 2] {
    let text = NAMES[name];
    let known = groups[0][node].get(&format!("{text}?timeout=0s"));
    let known = known.version().unwrap_or_default().to_owned();
    let request = get(&format!("{text}?version={known}&timeout=20s")).header("Connection", "close");
    let parked = groups.each_ref().map(|nodes| {
        let mut connection = Connection::open(nodes[node].client_addr());
        connection.send(&request);
        nodes[node].wait_parked(1);
        connection
    });
    let listed = groups.each_ref().map(|nodes| watchers(nodes, node));
    assert_eq!(listed[0], listed[1]);
    world.stamp += 1;
    world.versions += 1;
    let (version, stamp) = (world.versions, world.stamp);
    world.newest[name] = stamp;
    world.ahead = Some((node, name));
    let request = put(&format!("{text}?version=v{version}&modified={stamp}")).body(format!("v{version}"));
    let write = Step { node, is_write: true, request };
    let written = groups.each_ref().map(|nodes| said(nodes, &write));
    let mut answers = parked.into_iter().zip(written).map(|(mut connection, written)| {
        let answer = connection.answer();
        let headers: String =
            answer.headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
        let woken = format!("HTTP/1.1 {} woken\r\n{headers}\r\n{}", answer.status, answer.text());
        lasting(woken.as_bytes()) + &written
    });
    [answers.next().expect("two"), answers.next().expect("two")]
}
