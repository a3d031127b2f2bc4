//! The fast path of the server port against the ordinary path: both give the same answer to any write, to the last
//! byte, and leave the same set behind.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use cluster_tests::http::Request;
use cluster_tests::node::{Node, delete, get, put};
use cluster_tests::text::{metric, now_us};
use cluster_tests::wait::{LIMIT, wait_until};
use fastrand::Rng;

use super::differential::play;

/// A second, in stamps.
const SECOND_US: u64 = 1_000_000;

/// The stamp of the first example of the Go vwatch, in March 2025, and its date.
const MARCH_US: u64 = 1_741_837_692_000_000;
const MARCH: &str = "Thu, 13 Mar 2025 03:48:12 GMT";

/// One of each limit of a write, so small that random writes reach it.
const FLAGS: [&str; 9] = [
    "--node-id=node",
    "--max-future=2h",
    "--data-limit-bytes=1KiB",
    "--name-limit-bytes=64",
    "--max-namespaces=4",
    "--max-namespace-bytes=2KiB",
    // nothing is dropped by its age while the test runs
    "--history-age=24h",
    "--history-versions=1",
    "--jitter-per-watch=0s",
];

/// What makes the fast path give a connection to the ordinary path, and changes nothing else.
fn ordinary(request: &Request) -> Request {
    request.clone().header("Trailer", "X-None")
}

/// The connections to the server port that have left its fast path, without those that asked for metrics or health.
fn handovers(node: &Node) -> f64 {
    let metrics = node.server().ask(&Request::new("GET", "/metrics")).expect(200);
    let of = |name: &str| metric(metrics.text(), name).unwrap_or(0.0);
    let answered = |status: u16| of(&format!("vwatch_answers_total{{port=\"server\",status=\"{status}\"}}"));
    // this one has left it, and is not answered yet
    of("vwatch_handovers_total{port=\"server\"}") - 1.0 - answered(200) - answered(503)
}

/// A connection of which the test reads each byte.
struct Raw(TcpStream);

impl Raw {
    fn open(to: SocketAddr) -> Self {
        let stream = TcpStream::connect(to).expect("a connection");
        stream.set_nodelay(true).expect("a socket");
        stream.set_read_timeout(Some(LIMIT)).expect("a socket");
        Self(stream)
    }

    fn ask(&mut self, request: &[u8]) -> Vec<u8> {
        // without it there is no answer
        let _ = self.0.write_all(request);
        self.answer()
    }

    /// All bytes of the next answer, interim answers too; none if the node has ended the connection before. A last
    /// answer is read to the end of the connection.
    fn answer(&mut self) -> Vec<u8> {
        let mut all = Vec::new();
        loop {
            let begin = all.len();
            while !all[begin..].ends_with(b"\r\n\r\n") {
                let mut byte = [0];
                match self.0.read(&mut byte) {
                    Err(e) if e.kind() == ErrorKind::WouldBlock => {
                        panic!("no answer: {}", all.escape_ascii())
                    }
                    Err(_) | Ok(0) => return all,
                    Ok(_) => all.push(byte[0]),
                }
            }
            let head = String::from_utf8(all[begin..].to_vec()).expect("a head in UTF-8");
            if head.starts_with("HTTP/1.1 1") {
                continue;
            }
            let field =
                |name: &str| head.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
            if field("Connection") == Some("close") {
                self.0.read_to_end(&mut all).unwrap_or_else(|e| panic!("{e}: {}", all.escape_ascii()));
            } else {
                let length = field("Content-Length").map_or(0, |length| length.parse().expect("a length"));
                let mut body = vec![0; length];
                self.0.read_exact(&mut body).expect("a body");
                all.append(&mut body);
            }
            return all;
        }
    }
}

/// An answer without what differs between two nodes: its date, and stamps that the node has made. Stamps that the
/// request named are among `known`.
fn lasting(answer: &[u8], known: &[u64]) -> String {
    let text: String = answer.iter().copied().map(char::from).collect();
    let is_own =
        |stamp: &str| stamp.parse().is_ok_and(|stamp: u64| stamp > SECOND_US && !known.contains(&stamp));
    let has_own =
        text.split(|c: char| !c.is_ascii_digit()).any(|digits| digits.len() == 16 && is_own(digits));
    let mut lines = Vec::new();
    for line in text.split("\r\n") {
        lines.push(match line.split_once(": ") {
            Some(("Date", _)) => "Date".to_owned(),
            // it has the time until then
            Some(("stamp in the future", _)) => "stamp in the future".to_owned(),
            Some(("Last-Modified", _)) if has_own => "Last-Modified".to_owned(),
            _ => line
                .split_inclusive(|c: char| !c.is_ascii_digit())
                .map(|part| {
                    let digits = part.trim_end_matches(|c: char| !c.is_ascii_digit());
                    if digits.len() == 16 && is_own(digits) {
                        part.replace(digits, "own")
                    } else {
                        part.to_owned()
                    }
                })
                .collect(),
        });
    }
    lines.join("\r\n")
}

/// Stamps that requests name: long ago, and ahead of the clock.
fn stamps() -> Vec<u64> {
    let ahead = now_us() / SECOND_US * SECOND_US + 3_600 * SECOND_US;
    [MARCH_US, ahead].into_iter().flat_map(|first| (0..8).map(move |i| first + i * SECOND_US)).collect()
}

/// The same writes, one after the other: to a fast path, to a fast path that gives each one to the ordinary path, and
/// to a node without a fast path.
struct Trio {
    nodes: [Node; 3],
    connections: [Raw; 3],
    known: Vec<u64>,
    asked: usize,
}

impl Trio {
    fn start(event_loops: usize) -> Self {
        let nodes =
            [event_loops, event_loops, 0].map(|event_loops| Node::with_event_loops(event_loops, &FLAGS));
        let connections = Self::connect(&nodes);
        Self { nodes, connections, known: stamps(), asked: 0 }
    }

    fn connect(nodes: &[Node; 3]) -> [Raw; 3] {
        [0, 1, 2].map(|i| Raw::open(nodes[i].server_addr()))
    }

    fn reconnect(&mut self) {
        self.connections = Self::connect(&self.nodes);
    }

    /// Sends a request three times, and compares the answers. Returns that of the fast path.
    fn ask(&mut self, request: &Request) -> String {
        let sent = [request.bytes(), ordinary(request).bytes(), request.bytes()];
        let mut answers = (0..).zip(&sent).map(|(i, bytes)| self.connections[i].ask(bytes));
        let answers: [Vec<u8>; 3] = std::array::from_fn(|_| answers.next().expect("three"));
        let [fast, given, alone] = answers.map(|answer| lasting(&answer, &self.known));
        assert_eq!(fast, alone, "request {}: {request:?}", self.asked);
        assert_eq!(given, alone, "request {}, given to the ordinary path: {request:?}", self.asked);
        self.asked += 1;
        if alone.is_empty() || alone.contains("\r\nConnection: close\r\n") {
            self.reconnect();
        }
        fast
    }

    /// The sets are the same.
    fn compare_sets(&self) {
        for prefix in ["/v1/versions?prefix=", "/v1/ns/a/versions?prefix=", "/v1/ns/b.c/versions?prefix="] {
            let list = |node: &Node| {
                let listed = node.client().ask(&Request::new("GET", prefix)).expect(200);
                let mut listed = listed.json();
                let versions = listed["versions"].as_array_mut().expect("a list");
                versions
                    .iter()
                    .map(|one| format!("{} {} {}", one["name"], one["version"], one["data"]))
                    .collect::<Vec<_>>()
            };
            let [fast, given, alone] = [0, 1, 2].map(|i| list(&self.nodes[i]));
            assert_eq!(fast, alone, "{prefix}");
            assert_eq!(given, alone, "{prefix}");
        }
    }
}

fn name(random: &mut Rng) -> String {
    let long = "l".repeat(random.usize(60..70));
    let names = [
        "n",
        "m",
        "a/b",
        "a%20b/%C3%A9",
        "a+b",
        "a//b/../c",
        "~!$&'()*+,;=:@",
        "%41",
        "%zz",
        "%",
        "%00",
        "%ff",
        "",
        "/",
        "a%2Fb",
        &long,
    ];
    let name = names[random.usize(..names.len())];
    match random.u8(..8) {
        0 => format!("/v1/ns/a/versions/{name}"),
        1 => format!("/v1/ns/b%2Ec/versions/{name}"),
        2 => {
            let namespaces = ["", "c", "d", "e", "f", ".own", "%zz", "a%2Fb", "A B", "versions"];
            format!("/v1/ns/{}/versions/{name}", namespaces[random.usize(..namespaces.len())])
                .replace(' ', "%20")
        }
        _ => format!("/v1/versions/{name}"),
    }
}

fn query(random: &mut Rng, known: &[u64]) -> String {
    let stamp = known[random.usize(..known.len())];
    let long = "v".repeat(random.usize(250..260));
    let version =
        ["v1", "v2", "%22v1%22", "sha256%3A5", "a+b", "", "%zz", "%C3%A9", &*long][random.usize(..9)];
    let parameters = [
        format!("version={version}"),
        format!("version={version}"),
        format!("version={version}"),
        format!("modified={stamp}"),
        format!("modified={stamp}"),
        "modified=x".to_owned(),
        format!("modified={}", now_us() + 100_000 * SECOND_US),
        "source=node".to_owned(),
        "source=other".to_owned(),
        "verison=v1".to_owned(),
        "v%65rsion=v1".to_owned(),
        "Modified=5".to_owned(),
        "more=1".to_owned(),
        String::new(),
    ];
    let count = random.usize(..4);
    let chosen: Vec<&str> = (0..count).map(|_| &*parameters[random.usize(..parameters.len())]).collect();
    if chosen.is_empty() { String::new() } else { format!("?{}", chosen.join("&")) }
}

/// A random write. A tame one has nothing that the fast path declines.
fn write(random: &mut Rng, known: &[u64], is_tame: bool) -> Request {
    let stamp = known[random.usize(..known.len())];
    let target = if is_tame {
        let name = ["n", "m", "a/b", "a%20b/%C3%A9", "a+b"][random.usize(..5)];
        let below = ["/v1/versions/", "/v1/versions/", "/v1/ns/a/versions/"][random.usize(..3)];
        let version = ["v1", "v2", "v3"][random.usize(..3)];
        let query = [
            String::new(),
            format!("?version={version}"),
            format!("?version={version}&modified={stamp}"),
            format!("?modified={stamp}"),
        ];
        format!("{below}{name}{}", query[random.usize(..4)])
    } else {
        format!("{}{}", name(random), query(random, known))
    };
    let verb = ["PUT", "PUT", "PUT", "PUT", "DELETE"][random.usize(..5)];
    let mut request = Request::new(verb, &target);
    let fields = [
        ("User-Agent", "writer"),
        ("Accept", "*/*"),
        ("Content-Type", "text/plain"),
        ("ETag", "\"v1\""),
        ("ETag", "v2"),
        ("Last-Modified", MARCH),
        ("X-Last-Sync", "5"),
        ("Connection", "keep-alive"),
        ("Connection", "Upgrade, HTTP2-Settings"),
        ("Upgrade", "h2c"),
        ("Connection", "close"),
        ("Last-Modified", "yesterday"),
        ("ETag", "\"a b\""),
        ("ETag", ""),
        ("If-Match", "*"),
        ("If-None-Match", "\"v1\""),
        ("If-Unmodified-Since", MARCH),
        ("Host", "another"),
        ("Connection", "x"),
        ("Content-Encoding", "gzip"),
        ("Range", "bytes=0-1"),
    ];
    let most = if is_tame { 10 } else { fields.len() };
    for _ in 0..random.u8(..4) {
        let (field, value) = fields[random.usize(..most)];
        request = request.header(field, value);
    }
    let length =
        [0, 0, 1, 64, 1_000, 1_024, 1_025, 5_000, 9_000][random.usize(..if is_tame { 6 } else { 9 })];
    let data = vec![b'a' + random.u8(..2); length];
    match (verb, random.u8(..10)) {
        ("DELETE", _) | (_, 0) => request,
        (_, 1) if !is_tame => {
            request.chunks([&data[..length / 2], &data[length / 2..]].into_iter().filter(|c| !c.is_empty()))
        }
        _ => request.body(data),
    }
}

/// Each of them once.
fn corpus(known: &[u64]) -> Vec<Request> {
    let mut all = vec![
        put("n?version=v1").body("one"),
        // the same once more, and other data
        put("n?version=v1").body("one"),
        put("n?version=v1").body("two"),
        put("n").body("two"),
        put("n"),
        delete("n"),
        delete("n"),
        delete("never"),
        put(&format!("old?modified={MARCH_US}&version=a")).body("1"),
        put(&format!("old?modified={}&version=b", MARCH_US - 1)).body("2"),
        put(&format!("old?modified={MARCH_US}&version=c")).body("3"),
        put("old?version=d").header("Last-Modified", MARCH).body("4"),
        put(&format!("old?modified={MARCH_US}")).header("Last-Modified", MARCH).body("4"),
        put(&format!("old?modified={}", known[1])).header("Last-Modified", MARCH).body("4"),
        delete(&format!("old?modified={MARCH_US}")),
        delete(&format!("long-ago?modified={}", 5)),
        put("n").body(vec![b'x'; 1024]),
        put("n").body(vec![b'x'; 1025]),
        put("n").body(vec![b'x'; 8 * 1024]),
        put("n").body(vec![b'x'; 100_000]),
        put("n").header("Connection", "close").body("x"),
        put("n").header("Connection", "Keep-Alive, Close, TE").header("TE", "trailers").body("x"),
        put("n").header("Expect", "100-continue").body("x"),
        put("n").header("X", b"\xff\xfe").body("x"),
        put("n").header("Cookie", "x".repeat(6_000)).body("x"),
        put("n").header("Cookie", "x".repeat(10_000)).body("x"),
        put("n").header("Connection", "Upgrade, HTTP2-Settings").header("Upgrade", "h2c").body("x"),
        put("n?source=node").body("x"),
        put("n?source=node&version=%zz"),
        put("/").body("x"),
        put(&"x".repeat(64)).body("x"),
        put(&"x".repeat(65)).body("x"),
        put(&"%41".repeat(64)).body("x"),
        put(&"x".repeat(9_000)).body("x"),
        delete("n").body(""),
        Request::new("GET", "/v1/versions/n"),
        Request::new("POST", "/v1/versions/n").body("x"),
        Request::new("PATCH", "/v1/versions/n").body("x"),
        Request::new("PUT", "/v1/versions").body("x"),
        Request::new("PUT", "/v1/ns").body("x"),
        Request::new("PUT", "/v1/ns/a/versions").body("x"),
        Request::new("PUT", "/v1/checkpoints/c").body("x"),
        Request::new("POST", "/v1/versions").body("no set"),
        Request::new("GET", "/no/such/path"),
    ];
    // as many namespaces as there may be, and one more
    for namespace in ["a", "b.c", "c", "d", "e"] {
        all.push(Request::new("PUT", &format!("/v1/ns/{namespace}/versions/n?version=1")).body("x"));
    }
    // until the namespace is full
    for i in 0..4 {
        all.push(Request::new("PUT", &format!("/v1/ns/a/versions/big{i}")).body(vec![b'y'; 700]));
    }
    all
}

fn all_paths_give_the_same_answers(event_loops: usize) {
    let mut trio = Trio::start(event_loops);
    let mut statuses = Vec::new();
    for request in corpus(&trio.known) {
        trio.reconnect();
        let answer = trio.ask(&request);
        statuses.push(answer["HTTP/1.1 ".len()..][..3].to_owned());
    }
    for status in ["200", "204", "400", "404", "405", "409", "413", "507"] {
        assert!(statuses.iter().any(|got| got == status), "none of {status}: {statuses:?}");
    }
    for seed in 0..150 {
        let mut random = Rng::with_seed(seed);
        let is_tame = random.bool();
        trio.reconnect();
        for _ in 0..random.u8(1..8) {
            let request = write(&mut random, &trio.known, is_tame);
            trio.ask(&request);
        }
    }
    trio.compare_sets();
    let [fast, given] = [0, 1].map(|i| handovers(&trio.nodes[i]));
    assert!(fast < 0.8 * given, "the fast path gave {fast} connections of {given} to the ordinary path");
    let answered = |node: &Node| {
        let page = node.server().ask(&Request::new("GET", "/metrics")).expect(200);
        let of = |name: &str| metric(page.text(), name);
        let limits = ["name_bytes", "data_bytes", "namespaces", "namespace_bytes"]
            .map(|limit| of(&format!("vwatch_limit_hits_total{{limit=\"{limit}\"}}")));
        let statuses = [204, 400, 405, 409, 413, 507]
            .map(|status| of(&format!("vwatch_answers_total{{port=\"server\",status=\"{status}\"}}")));
        (limits, statuses, of("vwatch_ignored_parameters_total"))
    };
    let [fast, given, alone] = [0, 1, 2].map(|i| answered(&trio.nodes[i]));
    assert_eq!(fast, alone, "counts of limits, answers and parameters");
    assert_eq!(given, alone, "counts of limits, answers and parameters");
    assert!(alone.0.iter().chain(&alone.1).all(|count| count.is_some_and(|count| count > 0.0)), "{alone:?}");
}

/// What a proxy may read in another way, or is not for the fast path: the answers to the bytes are those of a node
/// without one, and the end of the connection too.
fn bytes_that_are_unusual_are_answered_as_by_the_ordinary_path(event_loops: usize) {
    let flags = ["--node-id=node"];
    let nodes = [event_loops, 0].map(|event_loops| Node::with_event_loops(event_loops, &flags));
    let line = "PUT /v1/versions/n?version=1&modified=1741837692000000 HTTP/1.1\r\n";
    let host = "Host: localhost\r\n";
    let spaces = " ".repeat(200);
    let cases = [
        format!("{line}\r\n"),
        format!("{line}Host: a b\r\nContent-Length: 1\r\n\r\nx"),
        format!("{line}Host: h/\r\nContent-Length: 1\r\n\r\nx"),
        format!("{line}{host}{host}Content-Length: 1\r\n\r\nx"),
        format!("{line}{host}Content-Length: 1\r\nContent-Length: 1\r\n\r\nx"),
        format!("{line}{host}Content-Length: 1\r\nContent-Length: 2\r\n\r\nx"),
        format!("{line}{host}Content-Length: 1, 1\r\n\r\nx"),
        format!("{line}{host}Content-Length: +1\r\n\r\nx"),
        format!("{line}{host}Content-Length: 01\r\n\r\nx"),
        format!("{line}{host}Content-Length: \r\n\r\nx"),
        format!("{line}{host}Content-Length: 99999999999999999999\r\n\r\nx"),
        format!("{line}{host}Content-Length:{spaces}1\r\n\r\nx"),
        format!("{line}{host}Content-Length: 1{spaces}\r\n\r\nx"),
        format!("{line}{host}Content-Length : 1\r\n\r\nx"),
        format!("{line}{host}Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n"),
        format!("{line}{host}Transfer-Encoding: chunked\r\nContent-Length: 1\r\n\r\n1\r\nx\r\n0\r\n\r\n"),
        format!("{line}{host}Transfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n"),
        format!("{line}{host}Transfer-Encoding: gzip, chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n"),
        format!("{line}{host}Transfer-Encoding: identity\r\nContent-Length: 1\r\n\r\nx"),
        format!("{line}{host}X: y\nContent-Length: 1\r\n\r\nx"),
        format!("{line}{host}Content-Length: 1\n\r\nx"),
        format!("{line}{host}Content-Length: 1\r\n\nx"),
        format!("{line}{host}X: y\r\n folded\r\nContent-Length: 1\r\n\r\nx"),
        format!("{line}{host}Content-Length: 1\0\r\n\r\nx"),
        format!("\r\n{line}{host}Content-Length: 1\r\n\r\nx"),
        format!("{}{host}Content-Length: 1\r\n\r\nx", line.replace("1.1", "1.0")),
        format!("{}{host}Content-Length: 1\r\n\r\nx", line.replace("1.1", "2.0")),
        format!("{}{host}Content-Length: 1\r\n\r\nx", line.replace("PUT ", "PUT http://h")),
        format!("{}{host}Content-Length: 1\r\n\r\nx", line.replace("PUT ", "put ")),
        format!("{}{host}Content-Length: 1\r\n\r\nx", line.replace("PUT ", "PUT  ")),
        format!("{}{host}Content-Length: 1\r\n\r\nx", line.replace("/n?", "/n#?")),
        format!("{}{host}Content-Length: 1\r\n\r\nx", line.replace("/n?", "/é?")),
        format!("{line}{host}Content-Length: 2\r\n\r\nx"),
        format!("{line}{host}Content-Length: 0\r\n\r\nx"),
        format!("{line}{host}{}Content-Length: 1\r\n\r\nx", "X: y\r\n".repeat(50)),
        format!("{line}{host}{}Content-Length: 1\r\n\r\nx", "X: y\r\n".repeat(120)),
        format!("DELETE /v1/versions/n HTTP/1.1\r\n{host}Content-Length: 1\r\n\r\nx"),
        "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_owned(),
        "\0".to_owned(),
        "PUT".to_owned(),
    ];
    let patience = [200, 2_000, 10_000].map(Duration::from_millis);
    let normal = |(bytes, ended): (Vec<u8>, bool)| (lasting(&bytes, &[MARCH_US]), ended);
    for bytes in cases {
        let pieces = [(bytes.clone().into_bytes(), Duration::ZERO)];
        let agree = patience.iter().any(|patience| {
            let [fast, alone] = [0, 1].map(|i| normal(play(nodes[i].server_addr(), &pieces, *patience)));
            fast == alone
        });
        assert!(agree, "{}", bytes.escape_debug());
    }
}

/// A write in pieces, several writes in one piece, a write and the beginning of the next.
fn however_it_is_cut_the_answers_are_the_same(event_loops: usize) {
    let nodes = [event_loops, 0].map(|event_loops| Node::with_event_loops(event_loops, &FLAGS));
    let asked = |seed: u64| {
        let stamp = |i| MARCH_US + (10 * seed + i) * SECOND_US;
        [
            put(&format!("n?version=a{seed}&modified={}", stamp(1))).body("one"),
            put(&format!("n?version=b{seed}&modified={}", stamp(2)))
                .body("PUT /v1/versions/n HTTP/1.1\r\n\r\n"),
            put(&format!("n?version=c{seed}&modified={MARCH_US}")).body("old"),
            delete(&format!("n?modified={}", stamp(3))),
            put(&format!("n?version=d{seed}&modified={}", stamp(4))),
            put("n?version=%zz").body("one"),
        ]
    };
    for seed in 0..40 {
        let mut random = Rng::with_seed(seed);
        let requests = asked(seed);
        let mut alone = Raw::open(nodes[1].server_addr());
        let known: Vec<u64> = (0..500).map(|i| MARCH_US + i * SECOND_US).collect();
        let expected: Vec<_> = requests.iter().map(|one| lasting(&alone.ask(&one.bytes()), &known)).collect();
        let bytes: Vec<u8> = requests.iter().flat_map(Request::bytes).collect();
        let mut writer = Raw::open(nodes[0].server_addr());
        let mut rest = &bytes[..];
        while !rest.is_empty() {
            let most = if random.bool() { 30 } else { 400 };
            let (piece, after) = rest.split_at(random.usize(1..=most).min(rest.len()));
            writer.0.write_all(piece).expect("an open connection");
            if random.u8(..) < 60 {
                std::thread::sleep(Duration::from_millis(random.u64(1..4)));
            }
            rest = after;
        }
        for expected in &expected {
            assert_eq!(&lasting(&writer.answer(), &known), expected, "seed {seed}");
        }
    }
}

/// On a kept connection, one after the other, the fast path stays.
fn a_writer_stays_on_the_fast_path(event_loops: usize) {
    let node = Node::with_event_loops(event_loops, &[]);
    let mut writer = node.server();
    let java = |request: Request| {
        request
            .header("Connection", "Upgrade, HTTP2-Settings")
            .header("HTTP2-Settings", "AAEAAEAA")
            .header("Upgrade", "h2c")
    };
    for round in 0..30 {
        let mut watcher = node.watch(&get(&format!("r{round}?version=&timeout=1m")));
        node.wait_parked(1);
        writer.ask(&put(&format!("r{round}?version=v1")).body("data")).expect(204);
        assert_eq!(watcher.answer().expect(200).version(), Some("v1"));
        writer
            .ask(&java(put(&format!("r{round}")).header("Content-Type", "text/plain").body("more")))
            .expect(204);
        writer.ask(&put(&format!("r{round}?modified={MARCH_US}")).body("old")).expect(409);
        writer.ask(&delete(&format!("r{round}"))).expect(204);
        writer.ask(&Request::new("PUT", &format!("/v1/ns/a/versions/r{round}")).body("data")).expect(204);
    }
    let last = writer.ask(&put("last").header("Connection", "close").body("x")).expect(204);
    assert!(last.says_close());
    wait_until("the end of the connection", LIMIT, || writer.hung_up());
    assert!(handovers(&node) <= 0.0, "nothing was unusual");
    writer = node.server();
    writer.ask(&ordinary(&put("other").body("x"))).expect(204);
    assert!(handovers(&node) >= 1.0, "that was unusual");
}

/// Writes that are sent without waiting for the answers are answered in order, wherever the reads of the node cut them.
fn a_writer_that_does_not_wait_stays_on_the_fast_path(event_loops: usize) {
    const WRITES: usize = 3_000;
    let node = Node::with_event_loops(event_loops, &[]);
    let mut random = Rng::with_seed(7);
    let mut writer = Raw::open(node.server_addr());
    let mut sender = writer.0.try_clone().expect("a socket");
    let bodies = (0..WRITES).map(|_| vec![b'x'; random.usize(..300)]);
    let bytes: Vec<u8> = (0..WRITES)
        .zip(bodies)
        .flat_map(|(i, body)| put(&format!("n{}?version=v{i}", i % 10)).body(body).bytes())
        .collect();
    let sending = std::thread::spawn(move || sender.write_all(&bytes));
    for i in 0..WRITES {
        let answer = String::from_utf8(writer.answer()).expect("a head");
        assert!(answer.starts_with("HTTP/1.1 204 "), "{i}: {answer}");
        assert!(answer.contains(&format!("\r\nEtag: \"v{i}\"\r\n")), "{i}: {answer}");
    }
    sending.join().expect("no panic").expect("an open connection");
    assert!(handovers(&node) <= 0.0, "the fast path took all");
    assert_eq!(node.metric("vwatch_answers_total{port=\"server\",status=\"204\"}"), WRITES as f64);
    // the beginning of a write is not lost where the next bytes show another request
    let other = put("m?version=2").body("y");
    let two = [put("m?version=1").body("x").bytes(), ordinary(&other).bytes()].concat();
    let (begin, end) = two.split_at(two.len() - 20);
    for part in [begin, end] {
        writer.0.write_all(part).expect("an open connection");
        assert!(writer.answer().starts_with(b"HTTP/1.1 204 "));
    }
    assert!(handovers(&node) >= 1.0, "that was no write");
}

/// While the node stops, writes get the refusal, on new connections and on a kept one; an idle one does not delay the
/// end.
fn a_stop_answers_writes_as_the_ordinary_path_does(event_loops: usize) {
    for event_loops in [event_loops, 0] {
        let mut node = Node::with_event_loops(event_loops, &["--shutdown-grace", "20s"]);
        let mut idle = node.server();
        let mut writer = node.server();
        writer.ask(&put("n?version=v1").body("x")).expect(204);
        let second = put("n?version=v2").body("x").bytes();
        let (begin, end) = second.split_at(second.len() / 2);
        let mut partial = Raw::open(node.server_addr());
        let first = partial.ask(&[&put("n?version=v1").body("x").bytes()[..], begin].concat());
        assert!(first.starts_with(b"HTTP/1.1 204 "));
        // each has its time, so the node is draining for a while
        let watchers: Vec<_> = (0..500).map(|_| node.watch(&get("n?version=v1&timeout=1m"))).collect();
        node.wait_parked(watchers.len());
        node.terminate();
        wait_until("the node to stop", LIMIT, || !node.is_ready());
        for writer in [&mut writer, &mut node.server()] {
            let answer = writer.ask(&put("n?version=v1").body("x")).expect(503);
            assert!(answer.says_close() && answer.text().starts_with("stopping: "), "{answer:?}");
            assert_eq!(answer.header("X-Vwatch-Error"), Some("stopping"));
            wait_until("the end of the connection", LIMIT, || writer.hung_up());
        }
        // a write that was begun before is answered as well
        let answer = lasting(&partial.ask(end), &[]);
        assert!(answer.starts_with("HTTP/1.1 503 ") && answer.contains("stopping: "), "{answer}");
        drop(watchers);
        assert_eq!(node.wait_exit(LIMIT).code(), Some(0), "it ends in order");
        assert!(idle.hung_up(), "an idle connection does not delay the end");
    }
}

/// A connection that sends nothing is closed, and counted as such.
fn a_silent_writer_is_closed(event_loops: usize) {
    let node = Node::with_event_loops(event_loops, &["--idle-timeout", "1s"]);
    let mut silent = node.server();
    let mut writer = node.server();
    writer.ask(&put("n?version=v1").body("x")).expect(204);
    wait_until("the end of the silent one", LIMIT, || silent.hung_up());
    wait_until("the end of the writer", LIMIT, || writer.hung_up());
    assert!(node.metric("vwatch_limit_hits_total{limit=\"idle_time\"}") >= 2.0);
}

/// Each of them with one event loop, as on two processors, and with four, of which the first one only accepts.
macro_rules! with_one_event_loop_and_with_four {
    ($($test:ident,)*) => {
        mod one_event_loop {
            $(#[test] fn $test() { super::$test(1); })*
        }
        mod four_event_loops {
            $(#[test] fn $test() { super::$test(4); })*
        }
    };
}

with_one_event_loop_and_with_four! {
    all_paths_give_the_same_answers,
    bytes_that_are_unusual_are_answered_as_by_the_ordinary_path,
    however_it_is_cut_the_answers_are_the_same,
    a_writer_stays_on_the_fast_path,
    a_writer_that_does_not_wait_stays_on_the_fast_path,
    a_stop_answers_writes_as_the_ordinary_path_does,
    a_silent_writer_is_closed,
}
