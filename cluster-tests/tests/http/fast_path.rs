//! The fast path against the ordinary path: both give the same answer to any request, however its bytes arrive.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use cluster_tests::heavy::heavy;
use cluster_tests::http::{Connection, Request, Response};
use cluster_tests::node::{Node, get, head, put};
use cluster_tests::text::{metric, now_us};
use cluster_tests::tls::{Certificates, TlsClient};
use cluster_tests::wait::{LIMIT, wait_until};

/// What makes the fast path give a connection to the ordinary path, and changes nothing else.
fn ordinary(request: &Request) -> Request {
    request.clone().header("Trailer", "X-None")
}

/// A request of Java's client.
fn java(request: Request) -> Request {
    request
        .header("Connection", "Upgrade, HTTP2-Settings")
        .header("HTTP2-Settings", "AAEAAEAAAAIAAAAAAAMAAAAAAAQBAAAAAAUAAEAAAAYABgAA")
        .header("Upgrade", "h2c")
}

/// An answer without what differs from one time to the next: names in their case and order, values, body.
fn lasting(answer: &Response) -> (u16, Vec<(String, String)>, Vec<u8>) {
    let form = |value: &str| -> String {
        // 2.671s, 0s and 12ms are of one form
        let parts: Vec<&str> =
            value.split(", ").map(|part| part.split('=').next().unwrap_or_default()).collect();
        parts.join(", ")
    };
    let headers = answer.headers.iter().map(|(name, value)| {
        let value = match name.as_str() {
            "Date" => String::new(),
            "Server-Timing" => form(value),
            _ => value.clone(),
        };
        (name.clone(), value)
    });
    (answer.status, headers.collect(), answer.body.clone())
}

fn handovers(node: &Node) -> f64 {
    let metrics = node.server().ask(&Request::new("GET", "/metrics")).expect(200);
    metric(metrics.text(), "vwatch_handovers_total{port=\"client\"}").expect("the metric")
}

/// How a node of these tests is set up.
#[derive(Clone, Copy)]
struct Setup {
    event_loops: usize,
    /// Its readers speak TLS.
    is_tls: bool,
}

impl Setup {
    fn node(self, flags: &[&str]) -> Node {
        if !self.is_tls {
            return Node::with_event_loops(self.event_loops, flags);
        }
        let made = Certificates::make(&["localhost"]);
        let (certificate, key) = (made.path("server-cert.pem"), made.path("server-key.pem"));
        let tls = ["--tls-client-port-cert", &certificate, "--tls-client-port-key", &key, "--tls-transition"];
        let node = Node::with_event_loops(self.event_loops, &[flags, &tls].concat());
        node.with_tls(TlsClient::trusting(&[&made]))
    }
}

fn filled(setup: Setup, flags: &[&str]) -> Node {
    let node = setup.node(flags);
    node.put("n?version=v1", "one").expect(204);
    node.put("empty?version=v1", "").expect(204);
    node.put("full?version=v1", vec![b'x'; 4096]).expect(204);
    node.put("a%20b/%C3%A9?version=v1", "escaped").expect(204);
    node.put("gone?version=v1", "").expect(204);
    node.delete("gone").expect(204);
    node
}

/// Requests that are answered at once, or after their short timeout.
fn corpus() -> Vec<Request> {
    let mut all = Vec::new();
    let ahead = (now_us() + 3_600_000_000).to_string();
    let past = (now_us() - 1_000).to_string();
    for name in ["n", "empty", "full", "a%20b/%C3%A9", "a+b", "gone", "never", ""] {
        for query in [
            "?timeout=20ms",
            "?timeout=0s",
            "?version=v1&timeout=20ms",
            "?version=%22v1%22&timeout=20ms",
            "?version=&timeout=20ms",
            "?version=v0&timeout=1m",
            "?timeout=20ms&x=%zz&y",
            "?timeout=20ms&&",
            "?timeout=20ms&v%65rsion=v0",
            "?timeout=20ms&verison=v0",
            "?Version=v0",
            "?version=a%20b&timeout=20ms",
            "?timeout=abc",
            "?version=v1&version=v1",
        ] {
            all.push(get(&format!("{name}{query}")));
            all.push(head(&format!("{name}{query}")));
        }
        let plain = || get(&format!("{name}?timeout=20ms"));
        for tag in ["\"v1\"", "v1", "W/\"v1\"", "\"\"", "*", "\"v0\", \"v1\"", "\"v0\"", "\"a b\"", ""] {
            all.push(plain().header("If-None-Match", tag));
            all.push(plain().header("ETag", tag));
            all.push(head(&format!("{name}?timeout=20ms")).header("If-None-Match", tag));
        }
        for stamp in ["0", "17", &past, &ahead, "-1", "1e3", "99999999999999999999"] {
            all.push(plain().header("X-Last-Sync", stamp));
            all.push(get(&format!("{name}?version=v1&timeout=20ms")).header("X-Last-Sync", stamp));
        }
    }
    let n = || get("n?timeout=20ms");
    all.extend([
        n().header("ETag", "a").header("ETag", "a"),
        n().header("X-Last-Sync", "1").header("x-last-sync", "1"),
        n().header("If-None-Match", "a").header("If-None-Match", "\"v1\""),
        n().header("Connection", "keep-alive"),
        n().header("Connection", "close"),
        n().header("Connection", "Keep-Alive, Close, TE").header("TE", "deflate, gzip;q=0.3"),
        n().header("Connection", "close").header("Connection", "keep-alive"),
        n().header("Connection", "x"),
        n().header("Keep-Alive", "timeout=5, max=1").header("Proxy-Connection", "keep-alive"),
        n().header("Content-Length", "0"),
        n().header("Content-Length", "00"),
        n().header("Content-Length", "0").header("Content-Length", "0"),
        java(n()),
        java(get("never")),
        head("full?timeout=20ms").header("Connection", "close"),
        get("n?version=v1&timeout=20ms").header("Connection", "close"),
        get("never").header("Connection", "close"),
        n().header("Accept", "*/*").header("User-Agent", "x").header("Cookie", "y=z"),
        n().header("X", b"\xff\xfe"),
        n().body(""),
        n().body("abc"),
        Request::new("GET", "/v1/versions"),
        Request::new("GET", "/v1/versionsn"),
        Request::new("GET", "/healthz"),
        Request::new("PUT", "/v1/versions/n"),
        Request::new("GET", "/v1/versions/n?a=\"b\"&timeout=20ms"),
        Request::new("GET", "/v1/versions/%zz"),
        Request::new("GET", &format!("/v1/versions/{}", "x".repeat(600))),
        Request::new("GET", &format!("/v1/versions/{}", "x".repeat(9_000))),
    ]);
    all
}

fn both_paths_give_the_same_answers(setup: Setup) {
    for flags in [&[][..], &["--jitter-per-watch", "0s"]] {
        let node = filled(setup, flags);
        let mut taken = 0;
        for request in corpus() {
            let before = handovers(&node);
            let fast = node.client().ask(&request);
            taken += u32::from(handovers(&node) <= before);
            let ordinary = node.client().ask(&ordinary(&request));
            assert_eq!(lasting(&fast), lasting(&ordinary), "{request:?}");
        }
        assert!(taken > 200, "the fast path took only {taken}");
    }
}

fn both_paths_give_the_same_wakes(setup: Setup) {
    let node = filled(setup, &["--data-limit-bytes", "1MiB"]);
    let data = [Vec::new(), vec![b'x'; 100], vec![b'y'; 16 * 1024 + 1], vec![b'z'; 1 << 20]];
    for (round, data) in data.iter().enumerate() {
        let v = format!("{round}");
        let written = node.put(&format!("w?version={v}"), "").expect(204).last_sync().expect("a stamp");
        // four rounds, each after the one before, are less than a second ahead
        let ahead = written + 200_000;
        let requests = [
            get(&format!("w?version={v}&timeout=1m")),
            head(&format!("w?version={v}&timeout=1m")),
            get("w?timeout=1m").header("If-None-Match", &v),
            get("w?timeout=1m").header("If-None-Match", format!("\"x\", \"{v}\"")),
            get("w?timeout=1m").header("If-None-Match", "*"),
            get("w?timeout=1m").header("X-Last-Sync", ahead.to_string()),
            get(&format!("created-{v}?version=&timeout=1m")),
            get(&format!("w?version={v}&timeout=1m")).header("Connection", "close"),
            java(get(&format!("w?version={v}&timeout=1m"))),
        ];
        let parked = |form: fn(&Request) -> Request| -> Vec<Connection> {
            requests.iter().map(|request| node.watch(&form(request))).collect()
        };
        let (by_fast_path, by_ordinary) = (parked(Request::clone), parked(ordinary));
        node.wait_parked(2 * requests.len());
        for name in ["w".to_owned(), format!("created-{v}")] {
            node.put(&format!("{name}?version={v}-new&modified={ahead}"), data).expect(204);
        }
        for ((mut fast, mut ordinary), request) in by_fast_path.into_iter().zip(by_ordinary).zip(&requests) {
            let (fast, ordinary) = (fast.answer(), ordinary.answer());
            assert_eq!(lasting(&fast), lasting(&ordinary), "{request:?}");
            assert!(matches!(fast.status, 200 | 304), "{fast:?}");
        }
    }
    for request in [get("w?version=3-new"), get("w").header("If-None-Match", "*")] {
        let (mut fast, mut ordinary) = (node.watch(&request), node.watch(&ordinary(&request)));
        node.wait_parked(2);
        node.delete("w").expect(204);
        assert_eq!(lasting(&fast.answer().expect(410)), lasting(&ordinary.answer().expect(410)));
        node.put("w?version=3-new", "").expect(204);
    }
}

/// A head in pieces, several heads in one piece, a head and the beginning of the next.
fn however_it_is_cut_the_answers_are_the_same(setup: Setup) {
    let node = filled(setup, &[]);
    let asked = [
        get("n"),
        get("never"),
        get("n?timeout=abc"),
        get("n?version=v1&timeout=20ms"),
        get("full").header("If-None-Match", "x"),
    ];
    let expected: Vec<_> = asked.iter().map(|request| lasting(&node.client().ask(request))).collect();
    let bytes: Vec<u8> = asked.iter().flat_map(Request::bytes).collect();
    for seed in 0..40 {
        let mut random = fastrand::Rng::with_seed(seed);
        let mut client = node.client();
        let mut rest = &bytes[..];
        while !rest.is_empty() {
            let most = if random.bool() { 30 } else { 400 };
            let (piece, after) = rest.split_at(random.usize(1..=most).min(rest.len()));
            client.send_bytes(piece);
            if random.u8(..) < 60 {
                std::thread::sleep(Duration::from_millis(random.u64(1..4)));
            }
            rest = after;
        }
        for expected in &expected {
            assert_eq!(&lasting(&client.answer()), expected, "seed {seed}");
        }
        assert!(!client.has_news(), "seed {seed}: one answer for each request");
    }
}

/// On a kept connection, one after the other, the fast path stays.
fn a_connection_stays_on_the_fast_path(setup: Setup) {
    let node = filled(setup, &[]);
    let before = handovers(&node);
    let mut client = node.client();
    for round in 0..50 {
        client.send(&get(&format!("r{round}?version=&timeout=1m")));
        node.wait_parked(1);
        node.put(&format!("r{round}?version=v1"), "").expect(204);
        assert_eq!(client.answer().expect(200).version(), Some("v1"));
        client.ask(&get("never")).expect(404);
    }
    assert!(handovers(&node) <= before, "nothing was unusual");
}

fn what_only_offers_something_does_not_leave_the_fast_path(setup: Setup) {
    let node = filled(setup, &[]);
    let before = handovers(&node);
    let mut client = node.client();
    let fields = [
        ("Keep-Alive", "300"),
        ("TE", "trailers"),
        ("Connection", "keep-alive, TE"),
        ("Content-Length", "0"),
    ];
    for (name, value) in fields {
        client.ask(&get("n").header(name, value)).expect(200);
        client.ask(&java(get("n?version=v1&timeout=20ms"))).expect(200);
    }
    let last = client.ask(&get("n?version=v1&timeout=20ms").header("Connection", "close")).expect(200);
    assert!(last.says_close());
    wait_until("the end of the connection", LIMIT, || client.hung_up());
    assert!(handovers(&node) <= before, "nothing was unusual");
}

fn a_parked_reader_that_closes_its_side_is_dropped(setup: Setup) {
    let node = filled(setup, &[]);
    for form in [Request::clone as fn(&Request) -> Request, ordinary] {
        let mut watcher = node.watch(&form(&get("n?version=v1&timeout=1m")));
        node.wait_parked(1);
        watcher.half_close();
        node.wait_parked(0);
        wait_until("the end of the connection", LIMIT, || watcher.hung_up());

        // all in one packet, the end with it
        let mut watcher = node.client();
        watcher.send_bytes(&form(&get("n?version=v1&timeout=1m")).bytes());
        watcher.half_close();
        wait_until("the end of the connection", LIMIT, || watcher.hung_up());
        node.wait_parked(0);
    }
}

/// Bytes behind a parked request do not hide that its client is gone.
fn a_disconnect_behind_more_bytes_ends_the_parked_read_too(setup: Setup) {
    let node = filled(setup, &[]);
    for form in [Request::clone as fn(&Request) -> Request, ordinary] {
        let mut client = node.watch(&form(&get("n?version=v1&timeout=1m")));
        node.wait_parked(1);
        client.send(&get("never"));
        std::thread::sleep(Duration::from_millis(20));
        assert_eq!(node.parked(), 1);
        drop(client);
        node.wait_parked(0);
    }
}

/// What lies unread behind the last request does not reset the connection under its answer.
fn the_last_answer_comes_whole_whatever_was_sent_behind_its_request(setup: Setup) {
    let node = filled(setup, &[]);
    let last = get("n?version=v1&timeout=1m").header("Connection", "close");
    for round in 2..12 {
        let version = format!("v{round}");
        let request = get(&format!("n?version=v{}&timeout=1m", round - 1)).header("Connection", "close");
        let mut stream = TcpStream::connect(node.client_addr()).expect("a connection");
        stream.write_all(&request.bytes()).expect("a request");
        node.wait_parked(1);
        stream.write_all(&last.bytes()).expect("another request");
        node.put(&format!("n?version={version}"), "").expect(204);
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).expect("the end in order, without a reset");
        let text = String::from_utf8_lossy(&answer);
        assert!(text.starts_with("HTTP/1.1 200 OK\r\n") && text.contains(&version), "{text}");
        // Linux shows an answer that it has although a reset came behind it; but then nothing can be written any more
        for _ in 0..3 {
            stream.write_all(b"x").expect("no reset");
        }
    }
    wait_until("no open connection", LIMIT, || node.connections("client") == 0);
}

/// A reader that takes nothing for a while delays no other, and gets its whole answer in the end.
fn a_slow_reader_gets_its_answer_and_delays_no_other(setup: Setup) {
    let node = filled(setup, &["--data-limit-bytes", "1MiB"]);
    node.put("big?version=v1", "").expect(204);
    let mut slow: Vec<_> = (0..20).map(|_| node.watch(&get("big?version=v1&timeout=1m"))).collect();
    let mut other = node.watch(&get("n?version=v1&timeout=1m"));
    node.wait_parked(21);
    let data: Vec<u8> = (0..1 << 20).map(|i: u32| (i % 251) as u8).collect();
    node.put("big?version=v2", &data).expect(204);
    node.put("n?version=v2", "").expect(204);
    assert_eq!(other.answer().expect(200).version(), Some("v2"));
    for connection in &mut slow {
        assert!(connection.answer().expect(200).body == data);
        assert_eq!(connection.ask(&get("n")).expect(200).version(), Some("v2"));
    }
}

/// All watchers are in the timer wheel at the same time, and each has a thread of its own: a test that waits for one
/// after the other does not see when the later answers arrive.
fn a_timeout_is_never_early_and_always_comes(setup: Setup) {
    let node = filled(setup, &[]);
    let watchers: Vec<_> = (0..50)
        .map(|i| {
            let timeout = Duration::from_millis(10_000 + 7 * i);
            let mut connection = node.client();
            let asked = Instant::now();
            connection.send(&get(&format!("n?version=v1&timeout={}ms", timeout.as_millis())));
            (connection, asked, timeout)
        })
        .collect();
    std::thread::scope(|scope| {
        for (mut connection, asked, timeout) in watchers {
            scope.spawn(move || {
                connection.answer().expect(200);
                assert!(asked.elapsed() >= timeout, "{:?} after {timeout:?}", asked.elapsed());
            });
        }
        node.wait_parked(50);
    });
    node.wait_parked(0);
}

/// A request that arrives while its connection is parked is answered after the timeout, also by a node that nothing
/// else wakes.
fn a_request_behind_a_parked_read_is_answered_after_its_timeout(setup: Setup) {
    let node = filled(setup, &["--idle-timeout", "1m"]);
    let mut watcher = node.watch(&get("n?version=v1&timeout=5s"));
    node.wait_parked(1);
    watcher.send(&get("full"));
    watcher.answer().expect(200);
    assert_eq!(watcher.answer().expect(200).body.len(), 4096);
}

/// The version changes and returns before the turn of the second reader: it got no answer, and waits on.
fn a_reader_that_missed_nothing_stays_parked(setup: Setup) {
    let node = filled(setup, &["--jitter-per-watch", "5s"]);
    let mut watchers: Vec<_> = (0..2).map(|_| node.watch(&get("n?version=v1&timeout=1m"))).collect();
    node.wait_parked(2);
    let mut server = node.server();
    server.ask(&put("n?version=v2").body("")).expect(204);
    server.ask(&put("n?version=v1").body("")).expect(204);
    std::thread::sleep(Duration::from_secs(6));
    let told = watchers.iter().filter(|watcher| watcher.has_news()).count();
    assert!(told <= 1, "the second one knows what there is");
    node.wait_parked(2 - told);
    server.ask(&put("n?version=v3").body("")).expect(204);
    for watcher in &mut watchers {
        let answer = watcher.answer().expect(200);
        assert!(matches!(answer.version(), Some("v2" | "v3")), "{answer:?}");
    }
}

/// Storms of disconnects, timeouts, wakes and new requests: at the end no reader is parked and nothing is open.
fn a_storm_leaves_nothing_behind(setup: Setup) {
    let _heavy = heavy();
    let node = filled(setup, &["--jitter-per-watch", "100us"]);
    let mut server = node.server();
    let mut random = fastrand::Rng::with_seed(7);
    let mut watchers: Vec<Connection> = Vec::new();
    server.ask(&put("storm?version=0").body("")).expect(204);
    for round in 0..200u32 {
        for _ in 0..random.usize(0..20) {
            let request = match random.u8(0..4) {
                0 => get(&format!("storm?version={round}&timeout={}ms", random.u8(..))),
                1 => get(&format!("storm?version={round}")).header("Trailer", "X-None"),
                2 => get("storm?version=").header("X-Last-Sync", (now_us() + 500_000).to_string()),
                _ => get(&format!("storm?version={round}&timeout=1m")),
            };
            watchers.push(node.watch(&request));
        }
        random.shuffle(&mut watchers);
        watchers.truncate(random.usize(20..100));
        server.ask(&put(&format!("storm?version={}", round + 1)).body("")).expect(204);
    }
    drop(watchers);
    node.wait_parked(0);
    let open = || {
        let metrics = node.server().ask(&Request::new("GET", "/metrics")).expect(200);
        metric(metrics.text(), "vwatch_connections{port=\"client\"}")
    };
    wait_until("no open connection", LIMIT, || open() == Some(0.0));
}

/// Each of them with one event loop, as on two processors; with four, of which the first one only accepts; and over
/// TLS.
macro_rules! with_each_setup {
    ($($test:ident,)*) => {
        mod one_event_loop {
            $(#[test] fn $test() { super::$test(super::Setup { event_loops: 1, is_tls: false }); })*
        }
        mod four_event_loops {
            $(#[test] fn $test() { super::$test(super::Setup { event_loops: 4, is_tls: false }); })*
        }
        mod over_tls {
            $(#[test] fn $test() { super::$test(super::Setup { event_loops: 1, is_tls: true }); })*
        }
    };
}

with_each_setup! {
    both_paths_give_the_same_answers,
    both_paths_give_the_same_wakes,
    however_it_is_cut_the_answers_are_the_same,
    a_connection_stays_on_the_fast_path,
    what_only_offers_something_does_not_leave_the_fast_path,
    a_parked_reader_that_closes_its_side_is_dropped,
    a_disconnect_behind_more_bytes_ends_the_parked_read_too,
    the_last_answer_comes_whole_whatever_was_sent_behind_its_request,
    a_slow_reader_gets_its_answer_and_delays_no_other,
    a_timeout_is_never_early_and_always_comes,
    a_request_behind_a_parked_read_is_answered_after_its_timeout,
    a_reader_that_missed_nothing_stays_parked,
    a_storm_leaves_nothing_behind,
}
