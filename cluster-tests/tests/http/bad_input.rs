//! Bad input over real sockets: each has its status and its one line, and changes nothing.

use std::io::ErrorKind;
use std::time::{Duration, Instant};

use cluster_tests::heavy::{heavy, most_open_files};
use cluster_tests::http::{Connection, Request, Response};
use cluster_tests::node::{Node, delete, get, put};
use cluster_tests::text::{assert_refusal, http_date, now_us};
use cluster_tests::wait::{LIMIT, wait_for, wait_until};

const HOUR_US: u64 = 3_600_000_000;

/// A node that holds something, and what it held before bad input came.
struct Target {
    node: Node,
    before: State,
}

#[derive(Debug, PartialEq)]
struct State {
    list: String,
    value: (u16, String, Option<u64>),
    gone: (u16, Option<u64>),
    never: u16,
}

impl Target {
    fn start() -> Self {
        Self::with(&[])
    }

    fn with(flags: &[&str]) -> Self {
        let node = Node::with(flags);
        node.put("n?version=v1", "before").expect(204);
        node.delete("gone").expect(204);
        let before = Self::state(&node);
        Self { node, before }
    }

    fn state(node: &Node) -> State {
        let list = node.client().ask(&Request::new("GET", "/v1/versions")).expect(200);
        let value = node.get("n");
        let gone = node.get("gone");
        State {
            list: list.text().to_owned(),
            value: (value.status, value.text().to_owned(), value.last_sync()),
            gone: (gone.status, gone.last_sync()),
            never: node.get("never").status,
        }
    }

    #[track_caller]
    fn unchanged(&self) {
        assert_eq!(Self::state(&self.node), self.before);
        assert_eq!(self.node.parked(), 0, "no reader is left");
    }

    /// The client port refuses.
    #[track_caller]
    fn reader(&self, request: &Request, status: u16) -> Response {
        self.refuses(self.node.client(), &request.bytes(), status)
    }

    /// The server port refuses.
    #[track_caller]
    fn writer(&self, request: &Request, status: u16) -> Response {
        self.refuses(self.node.server(), &request.bytes(), status)
    }

    #[track_caller]
    fn refuses(&self, mut connection: Connection, bytes: &[u8], status: u16) -> Response {
        // a server may close the connection before it has read everything
        let sent = connection.try_send_bytes(bytes);
        let shown = String::from_utf8_lossy(&bytes[..bytes.len().min(300)]).into_owned();
        let answer = connection.try_answer(LIMIT);
        let answer = answer.unwrap_or_else(|e| panic!("{shown:?} ({sent:?}) got no answer: {e}"));
        assert_eq!(answer.status, status, "{shown:?}: {answer:?}");
        assert_refusal(&answer, status);
        self.unchanged();
        answer
    }
}

// names

#[test]
fn names_that_are_none() {
    let target = Target::start();
    let long = "n".repeat(513);
    let very_long = "n".repeat(8000);
    for (name, status) in [
        ("", 400),
        ("%00", 400),
        ("a%0Ab", 400),
        ("a%0D%0AX-Evil:%201", 400),
        ("a%1Fb", 400),
        ("a%7Fb", 400),
        ("a%C2%85b", 400),
        ("%zz", 400),
        ("%4", 400),
        ("a%", 400),
        ("a%%41", 400),
        ("%4g", 400),
        ("%ff", 400),
        ("a%C3", 400),
        ("a%C3%28", 400),
        ("%ED%A0%80", 400),
        ("%C0%AF", 400),
        (&long, 414),
        (&very_long, 414),
    ] {
        target.reader(&get(name), status);
        target.reader(&get(&format!("{name}?version=&timeout=1m")), status);
        target.writer(&put(&format!("{name}?version=v")).body("x"), status);
        target.writer(&delete(name), status);
    }
}

// stamps

#[test]
fn stamps_that_are_none() {
    let target = Target::start();
    let ahead = (now_us() + HOUR_US).to_string();
    for stamp in [
        "",
        "abc",
        "-1",
        "+1",
        "1.5",
        "1e15",
        "0x10",
        "%201",
        "1%20",
        "2025-03-13T03:48:12Z",
        "99999999999999999999999",
        "253402300800000000",
        "18446744073709551615",
        &ahead,
    ] {
        target.writer(&put(&format!("n?version=v2&modified={stamp}")).body("x"), 400);
        target.writer(&put(&format!("never?version=v2&modified={stamp}")).body("x"), 400);
        target.writer(&delete(&format!("n?modified={stamp}")), 400);
        target.writer(&delete(&format!("never?modified={stamp}")), 400);
    }
}

#[test]
fn dates_that_are_none() {
    let target = Target::start();
    let ahead = http_date(now_us() + HOUR_US);
    for date in [
        "abc",
        "1741837692000000",
        "2025-03-13T03:48:12Z",
        "Thu, 32 Mar 2025 03:48:12 GMT",
        "Thu, 13 Mar 2025",
        &ahead,
    ] {
        for name in ["n", "never"] {
            target.writer(&put(&format!("{name}?version=v2")).header("Last-Modified", date).body("x"), 400);
        }
    }
}

#[test]
fn two_stamps_that_disagree() {
    let target = Target::start();
    let now = now_us();
    for other in [now - HOUR_US, now + 1, 0] {
        let request = put(&format!("n?version=v2&modified={other}"))
            .header("Last-Modified", http_date(now - 2 * HOUR_US));
        target.writer(&request.body("x"), 400);
    }
}

#[test]
fn last_syncs_that_are_none() {
    let target = Target::start();
    for stamp in
        ["abc", "-1", "1.5", "99999999999999999999999", "253402300800000000", "Thu, 13 Mar 2025 03:48:12 GMT"]
    {
        for name in ["n", "n?version=v1&timeout=1m", "n?version=v0"] {
            target.reader(&get(name).header("X-Last-Sync", stamp), 400);
        }
        // as vwatch has it, the existence is checked first
        target.reader(&get("never?timeout=1m").header("X-Last-Sync", stamp), 404);
        target.reader(&get("gone?timeout=1m").header("X-Last-Sync", stamp), 410);
    }
}

// timeouts

#[test]
fn timeouts_that_are_none() {
    let target = Target::start();
    for timeout in [
        "10",
        "-1s",
        "1h",
        "abc",
        "",
        "61s",
        "1m1ms",
        "s",
        "1d",
        "1%20s",
        "1s1",
        "99999999999999999999s",
        "1..5s",
        "%ff",
    ] {
        for name in ["n", "n?version=v1", "never?version=", "gone"] {
            let join = if name.contains('?') { '&' } else { '?' };
            target.reader(&get(&format!("{name}{join}timeout={timeout}")), 400);
        }
    }
}

// versions

#[test]
fn versions_that_cannot_stand_in_an_etag() {
    let target = Target::start();
    let long = "v".repeat(300);
    for version in [
        "a%22b",
        "%22",
        "a%0d%0aX-Evil:%201",
        "a%0ab",
        "%0d",
        "a%20b",
        "%20",
        "a%00b",
        "a%7fb",
        "a%09b",
        "%ff",
        "%zz",
        &long,
    ] {
        target.writer(&put(&format!("n?version={version}")).body("x"), 400);
        target.writer(&put(&format!("never?version={version}")).body("x"), 400);
        // a quote around a version is taken off, as vwatch does, and so a lone one is an empty version
        if version != "%22" {
            target.reader(&get(&format!("n?version={version}&timeout=1m")), 400);
        }
    }
    for tag in
        [&b"\"a\"b\""[..], b"\"a b\"", b"a b", b"\"a\tb\"", b"\"\xff\"", format!("\"{long}\"").as_bytes()]
    {
        target.writer(&put("n").header("ETag", tag).body("x"), 400);
        target.reader(&get("n?timeout=1m").header("ETag", tag), 400);
    }
}

#[test]
fn lists_of_versions_that_are_none() {
    let target = Target::start();
    let long = format!("\"{}\"", "v".repeat(300));
    for list in ["\"a\" \"b\"", "\"a\"b", "w/\"v1\"", "\"a b\"", "\"v1\", \"a b\"", &long] {
        target.reader(&get("n?timeout=1m").header("If-None-Match", list), 400);
    }
}

// repeated and conflicting

#[test]
fn headers_that_come_twice() {
    let target = Target::start();
    let now = now_us();
    let twice = |request: Request, name: &str, values: [String; 2]| {
        values.iter().fold(request, |request, value| request.header(name, value))
    };
    let stamps = [[now - 1, now - 2], [now - 1, now - 1]];
    for values in [["\"v1\"", "\"v2\""], ["\"v1\"", "\"v1\""]] {
        let values = values.map(str::to_owned);
        target.writer(&twice(put("n"), "ETag", values.clone()).body("x"), 400);
        target.reader(&twice(get("n?timeout=1m"), "ETag", values), 400);
    }
    for values in stamps {
        target.reader(&twice(get("n"), "X-Last-Sync", values.map(|stamp| stamp.to_string())), 400);
        target.writer(&twice(put("n?version=v2"), "Last-Modified", values.map(http_date)).body("x"), 400);
    }
}

#[test]
fn parameters_that_come_twice() {
    let target = Target::start();
    let stamp = now_us() - 1;
    for query in [
        "version=v1&version=v2",
        "version=v2&version=v2",
        "timeout=1s&timeout=2s",
        "version=v1&timeout=1m&version=v0",
    ] {
        target.reader(&get(&format!("n?{query}")), 400);
    }
    for query in [
        format!("version=v1&modified={stamp}&modified=1"),
        "version=v1&version=v2".into(),
        "version=v2&source=a&source=b".into(),
    ] {
        target.writer(&put(&format!("n?{query}")).body("x"), 400);
    }
    target.writer(&delete(&format!("n?modified={stamp}&modified=1")), 400);
    for query in ["prefix=a&prefix=b", "limit=1&limit=2", "after=a&after=b"] {
        target.reader(&Request::new("GET", &format!("/v1/versions?{query}")), 400);
    }
    target.writer(&Request::new("PUT", "/v1/logging?level=INFO&level=DEBUG"), 400);
}

// bodies

#[test]
fn bodies_that_are_declared_too_large() {
    let target = Target::start();
    for name in ["n", "never"] {
        for length in [4097, 1_000_000] {
            target.writer(&put(&format!("{name}?version=v2")).body(vec![b'x'; length]), 413);
        }
        // a sender of Expect: 100-continue gets its answer before it sends the body
        for length in ["4097", "9223372036854775807"] {
            let head = format!(
                "PUT /v1/versions/{name}?version=v2 HTTP/1.1\r\nHost: localhost\r\nContent-Length: {length}\r\n\
                 Expect: 100-continue\r\n\r\n"
            );
            target.refuses(target.node.server(), head.as_bytes(), 413);
        }
    }
}

#[test]
fn bodies_that_are_declared_too_large_and_never_come() {
    let target = Target::with(&["--idle-timeout", "1s"]);
    let head = "PUT /v1/versions/n?version=v2 HTTP/1.1\r\nHost: localhost\r\nContent-Length: 4097\r\n\r\n";
    target.refuses(target.node.server(), head.as_bytes(), 413);
}

#[test]
fn bodies_that_turn_out_too_large() {
    let target = Target::start();
    let piece = [b'x'; 1000];
    for name in ["n", "never"] {
        target.writer(&put(&format!("{name}?version=v2")).chunks(vec![&piece[..]; 5]), 413);
        // without an end
        let mut endless = put(&format!("{name}?version=v2")).chunks(vec![&piece[..]; 5]).bytes();
        endless.truncate(endless.len() - 5);
        target.refuses(target.node.server(), &endless, 413);
    }
}

#[test]
fn bodies_that_end_too_early() {
    let target = Target::start();
    for name in ["n", "never"] {
        let head = format!("PUT /v1/versions/{name}?version=v2 HTTP/1.1\r\nHost: localhost\r\n");
        for rest in [
            "Content-Length: 10\r\n\r\nhalf",
            "Content-Length: 10\r\n\r\n",
            "Transfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n",
            "Transfer-Encoding: chunked\r\n\r\n4\r\nha",
            "Transfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n0\r\n",
            "Transfer-Encoding: chunked\r\n\r\n",
        ] {
            let mut connection = target.node.server();
            connection.send_bytes(format!("{head}{rest}").as_bytes());
            connection.half_close();
            let answer =
                connection.try_answer(LIMIT).unwrap_or_else(|e| panic!("{rest:?} got no answer: {e}"));
            assert_refusal(&answer, 400);
            target.unchanged();
        }
    }
}

#[test]
fn bodies_whose_sender_vanishes() {
    let target = Target::start();
    for rest in ["Content-Length: 10\r\n\r\nhalf", "Transfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n"] {
        let mut connection = target.node.server();
        connection.send_bytes(
            format!("PUT /v1/versions/n?version=v2 HTTP/1.1\r\nHost: localhost\r\n{rest}").as_bytes(),
        );
    }
    // served in turn: by now the node has seen both go
    target.node.put("sentinel?version=v", "").expect(204);
    target.node.delete("sentinel").expect(204);
    target.unchanged();
}

#[test]
fn chunks_that_are_none() {
    let target = Target::start();
    let head =
        "PUT /v1/versions/n?version=v2 HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n";
    for chunk in [
        "zz\r\nhalf\r\n0\r\n\r\n",
        "-1\r\nx\r\n0\r\n\r\n",
        "4\r\nhalfway\r\n0\r\n\r\n",
        "fffffffffffffffff\r\nx",
        "+1\r\nx\r\n0\r\n\r\n",
        "0x1\r\nx\r\n0\r\n\r\n",
    ] {
        target.refuses(target.node.server(), format!("{head}{chunk}").as_bytes(), 400);
    }
}

// JSON

#[track_caller]
fn post_is_refused(target: &Target, body: impl AsRef<[u8]>, status: u16) {
    target.writer(
        &Request::new("POST", "/v1/versions").header("Content-Type", "application/json").body(body),
        status,
    );
}

#[test]
fn json_that_is_broken_or_of_other_types() {
    let target = Target::start();
    let record = |member: &str, value: &str| {
        let good = [
            ("name", "\"m\""),
            ("version", "\"v\""),
            ("data", "\"MQ==\""),
            ("last-sync", "\"2025-03-13T03:48:12Z\""),
        ];
        let members =
            good.map(|(key, good)| format!("\"{key}\":{}", if key == member { value } else { good }));
        format!("{{\"versions\":[{{{}}}],\"peers\":[]}}", members.join(","))
    };
    let sane = Request::new("POST", "/v1/versions").body(record("", ""));
    target.node.server().ask(&sane).expect(200);

    let long = format!("\"{}\"", "n".repeat(5000));
    let records = [
        record("name", "1"),
        record("name", "null"),
        record("name", "\"\""),
        record("name", "\"a\\nb\""),
        record("name", "\"a\\u0000b\""),
        record("name", "\"\\ud800\""),
        record("name", &long),
        record("version", "{}"),
        record("version", "7"),
        record("data", "\"!!!\""),
        record("data", "\"MQ\""),
        record("data", "\"M===\""),
        record("data", "12"),
        record("data", "[49]"),
        record("last-sync", "1741837692"),
        record("last-sync", "\"yesterday\""),
        record("last-sync", "\"2025-03-13\""),
        record("last-sync", "\"2025-13-13T03:48:12Z\""),
        record("last-sync", "\"\""),
        record("last-sync", "\"2025-03-13T03:48:12\""),
    ];
    for body in &records {
        post_is_refused(&target, body, 400);
    }
    for body in [
        "",
        " ",
        "not json",
        "{\"versions\":[",
        "{\"versions\":5}",
        "{\"versions\":[5]}",
        "{\"versions\":\"\"}",
        "[]",
        "5",
        "null,",
        "{\"versions\":[]",
        "{'versions':[]}",
        "{\"versions\":[],}",
        "\u{feff}",
    ] {
        post_is_refused(&target, body, 400);
    }
    post_is_refused(&target, b"{\"versions\":[],\"peers\":[\"\xff\"]}", 400);
}

#[test]
fn json_that_is_deep() {
    let target = Target::start();
    let deep = "[".repeat(100_000);
    post_is_refused(&target, &deep, 400);
    post_is_refused(&target, format!("{{\"versions\":{deep}"), 400);
    post_is_refused(&target, format!("{{\"peers\":{deep}"), 400);
    post_is_refused(&target, format!("{{\"versions\":[],\"peers\":[],\"x\":{deep}"), 400);
    post_is_refused(&target, "{\"a\":".repeat(100_000), 400);
}

#[test]
fn json_that_is_huge() {
    let target = Target::start();
    let length = 16 * 1024 * 1024 + 1;
    let declared = format!(
        "POST /v1/versions HTTP/1.1\r\nHost: localhost\r\nContent-Length: {length}\r\nExpect: 100-continue\r\n\r\n"
    );
    target.refuses(target.node.server(), declared.as_bytes(), 413);
    let piece = vec![b' '; 1024 * 1024];
    target.writer(&Request::new("POST", "/v1/versions").chunks(vec![&piece[..]; 17]), 413);
}

// heads

#[test]
fn heads_that_are_too_large() {
    let target = Target::start();
    let filler = "x".repeat(17 * 1024);
    target.reader(&get("n").header("X-Filler", &filler), 431);
    target.reader(&get("n?version=v1&timeout=1m").header("X-Filler", &filler), 431);
    target.writer(&put("n?version=v2").header("X-Filler", &filler).body("x"), 431);
    target.writer(&delete("n").header("X-Filler", &filler), 431);
}

#[test]
fn heads_up_to_the_limit_are_taken() {
    let target = Target::start();
    let filler = "x".repeat(12 * 1024);
    target.node.client().ask(&get("n").header("X-Filler", &filler)).expect(200);
    target.unchanged();
}

/// What is so far from HTTP that no handler sees it: the port, what is sent, and the status.
type NotHttp = (fn(&Node) -> Connection, String, u16);

/// What one reader takes for a body and another one for a request, and the status that it gets.
const AMBIGUOUS: [(&str, u16); 23] = [
    ("Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
    ("Transfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n0\r\n\r\n", 400),
    ("Transfer-Encoding: chunked\r\nX: y\r\ncontent-length:4\r\n\r\n0\r\n\r\n", 400),
    ("Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", 501),
    ("Transfer-Encoding: identity, Chunked\r\n\r\n0\r\n\r\n", 501),
    ("Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n", 400),
    ("Transfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n", 400),
    ("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
    ("Transfer-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
    ("Transfer-Encoding: identity\r\n\r\n", 400),
    ("Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n", 400),
    ("Transfer-Encoding:\r\n chunked\r\n\r\n0\r\n\r\n", 400),
    ("Content-Length: 1\r\nContent-Length: 1\r\n\r\nx", 400),
    ("Content-Length: 1, 1\r\n\r\nx", 400),
    ("Content-Length: 1\r\n X: y\r\n\r\nx", 400),
    ("X: y\nContent-Length: 1\r\n\r\nx", 400),
    ("Content-Length: 1\n\nx", 400),
    ("Content-Length: 1\r\n\nx", 400),
    ("Transfer-Encoding: chunked\r\n\r\n1\nx\r\n0\r\n\r\n", 400),
    ("Transfer-Encoding: chunked\r\n\r\n1\r\nx\n0\r\n\r\n", 400),
    ("Transfer-Encoding: chunked\r\n\r\n1;a\nb\r\nx\r\n0\r\n\r\n", 400),
    (
        "Transfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\nX: y\nGET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n",
        400,
    ),
    ("Transfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\nX: y\nZ: y\r\n\r\n", 400),
];

/// Values of `Host` that name no host.
const NO_HOSTS: [&str; 11] = [
    "a b",
    "a, b",
    "a/b",
    "user@x",
    "x:80:80",
    "x:port",
    "x:65536",
    "::1",
    "[::1",
    "http://x",
    "\u{e9}.example",
];

fn not_http() -> Vec<NotHttp> {
    let put = "PUT /v1/versions/n?version=v2 HTTP/1.1\r\nHost: localhost\r\n";
    let get = "GET /v1/versions/n HTTP/1.1\r\n";
    let mut cases: Vec<NotHttp> = Vec::new();
    for lengths in
        ["1\r\nContent-Length: 2", "1, 2", "abc", "-1", "1.5", "", "0x10", "+1", "99999999999999999999999"]
    {
        cases.push((Node::server, format!("{put}Content-Length: {lengths}\r\n\r\nxy"), 400));
    }
    for head in [
        "nonsense\r\n\r\n".to_owned(),
        "GET\r\n\r\n".to_owned(),
        "GET /v1/versions/a b HTTP/1.1\r\nHost: localhost\r\n\r\n".to_owned(),
        format!("{get}no colon\r\n\r\n"),
        format!("{get}Host : x\r\n\r\n"),
        format!("{get}ETag: \"a\u{1}b\"\r\n\r\n"),
    ] {
        cases.push((Node::client, head.clone(), 400));
        cases.push((Node::server, head, 400));
    }
    for (rest, status) in AMBIGUOUS {
        cases.push((Node::server, format!("{put}{rest}"), status));
    }
    // too many header fields, and more than the node ever reads
    let many: String = (0..1500).map(|i| format!("X-{i}: 1\r\n")).collect();
    cases.push((Node::client, format!("{get}{many}\r\n"), 431));
    cases.push((Node::client, format!("{get}X-Filler: {}", "x".repeat(70 * 1024)), 431));
    cases
}

#[test]
fn what_is_not_http_is_refused_and_the_connection_closed() {
    let target = Target::start();
    for (connect, bytes, status) in not_http() {
        let mut connection = connect(&target.node);
        // a server may close the connection before it has read everything
        let sent = connection.try_send_bytes(bytes.as_bytes());
        let shown = &bytes[..bytes.len().min(100)];
        let answer = connection.try_answer(LIMIT).unwrap_or_else(|e| panic!("{shown:?} ({sent:?}): {e}"));
        assert_eq!(answer.status, status, "{shown:?}: {answer:?}");
        wait_until("the end of the connection", LIMIT, || connection.hung_up());
    }
    target.unchanged();
}

#[test]
fn what_is_not_http_is_refused_with_a_sentence_too() {
    let target = Target::start();
    for (connect, bytes, status) in not_http() {
        target.refuses(connect(&target.node), bytes.as_bytes(), status);
    }
}

/// A head that comes a byte at a time.
#[test]
fn a_slow_head_is_cut_off_while_others_are_served() {
    let target = Target::with(&["--idle-timeout", "1s"]);
    let node = &target.node;
    let head = "GET /v1/versions/n HTTP/1.1\r\nX-Slow: ".bytes().chain(std::iter::repeat(b'x'));
    let mut slow = [node.client(), node.server()];
    let started = Instant::now();
    let mut served = 0;
    let mut cut_off = [false; 2];
    for byte in head {
        for (connection, cut_off) in slow.iter_mut().zip(&mut cut_off) {
            // the first write after a hang-up still goes through; hung_up sees it too
            *cut_off = *cut_off || connection.try_send_bytes(&[byte]).is_err() || connection.hung_up();
        }
        if cut_off == [true; 2] {
            break;
        }
        assert!(started.elapsed() < LIMIT, "still open after {:?}", started.elapsed());
        node.get("n").expect(200);
        node.put("other?version=v", "x").expect(204);
        served += 1;
        std::thread::sleep(Duration::from_millis(100));
    }
    assert!(started.elapsed() >= Duration::from_millis(900), "cut off after {:?}", started.elapsed());
    assert!(served > 1, "others were served meanwhile");
    node.delete("other").expect(204);
    target.unchanged();
}

#[test]
fn an_idle_connection_is_closed_and_a_parked_one_is_not() {
    let target = Target::with(&["--idle-timeout", "1s"]);
    let node = &target.node;
    let mut watcher = node.watch(&get("n?version=v1&timeout=1m"));
    node.wait_parked(1);
    let mut idle = [node.client(), node.server()];
    idle[0].ask(&get("n")).expect(200);
    idle[1].ask(&Request::new("GET", "/healthz")).expect(200);
    for connection in &mut idle {
        wait_until("the end of an idle connection", LIMIT, || connection.hung_up());
    }
    assert_eq!(node.parked(), 1);
    assert!(!watcher.has_news(), "a parked reader is not idle");
    node.put("n?version=v2", "").expect(204);
    assert_eq!(watcher.answer().expect(200).version(), Some("v2"));
}

// many at once

#[test]
fn pipelined_requests_are_answered_in_order() {
    let target = Target::start();
    let mut client = target.node.client();
    let asked = ["n", "never", "gone", "n?timeout=abc", "n?version=v0"];
    let all: Vec<u8> = asked.iter().flat_map(|name| get(name).bytes()).collect();
    client.send_bytes(&all);
    let statuses: Vec<u16> = asked.iter().map(|_| client.answer().status).collect();
    assert_eq!(statuses, [200, 404, 410, 400, 200]);
    target.unchanged();

    let mut server = target.node.server();
    let puts: Vec<u8> =
        (0..10).flat_map(|i| put(&format!("p?version=v{i}")).body(i.to_string()).bytes()).collect();
    server.send_bytes(&puts);
    for i in 0..10 {
        assert_eq!(server.answer().expect(204).version(), Some(format!("v{i}").as_str()));
    }
    assert_eq!(target.node.get("p").expect(200).text(), "9");
}

#[test]
fn what_is_pipelined_behind_a_parked_read_waits_its_turn() {
    let node = Node::start();
    node.put("n?version=v1", "one").expect(204);
    node.put("m?version=v1", "other").expect(204);
    let mut client = node.client();
    client.send_bytes(
        &[get("n?version=v1&timeout=1m").bytes(), get("m").bytes(), get("never").bytes()].concat(),
    );
    node.wait_parked(1);
    assert!(!client.has_news(), "the second answer must not come before the first");

    node.put("n?version=v2", "two").expect(204);

    assert_eq!(client.answer().expect(200).text(), "two");
    assert_eq!(client.answer().expect(200).text(), "other");
    client.answer().expect(404);
}

#[test]
fn one_connection_too_many_gets_503() {
    let node = Node::with(&["--max-connections", "10"]);
    let served = |connection: &mut Connection| {
        connection.try_send_bytes(&get("never").bytes()).is_ok()
            && connection.try_answer(LIMIT).is_ok_and(|answer| answer.status == 404)
    };
    // the harness's own may still be on their way out
    let mut kept: Vec<_> = (0..10)
        .map(|_| {
            wait_for("a place", LIMIT, || {
                let mut connection = node.client();
                served(&mut connection).then_some(connection)
            })
        })
        .collect();

    let answer = node.client().ask(&get("never"));
    assert_refusal(&answer, 503);
    assert!(answer.header("Retry-After").is_some_and(|after| after.parse::<u32>().is_ok()), "{answer:?}");
    node.put("n?version=v1", "").expect(204);
    assert!(kept.iter_mut().all(served), "a connection with a place keeps it");
    // health checks need no place: otherwise a full node would be restarted
    for target in ["/healthz", "/readyz"] {
        for request in [Request::new("GET", target), Request::new("HEAD", target)] {
            let mut connection = node.client();
            assert!(connection.ask(&request).expect(200).says_close());
            wait_until("the end of the connection", LIMIT, || connection.hung_up());
        }
    }

    kept.pop();
    wait_until("the place that is free again", LIMIT, || served(&mut node.client()));
}

/// The number of silent connections; this process and the node have one descriptor for each.
const SILENT: usize = 10_000;

#[test]
fn ten_thousand_silent_connections_delay_no_reader() {
    let _heavy = heavy();
    // the other half of the open files is for the tests beside this one
    let count = SILENT.min(most_open_files() / 2);
    if count < SILENT {
        println!("only {count} connections of {SILENT}: `ulimit -Hn` allows no more");
    }
    let node = Node::with(&["--idle-timeout", "8s"]);
    node.put("n?version=v0", "").expect(204);
    let idle_before = open_files(node.pid());
    let mut silent = Vec::with_capacity(count);
    while silent.len() < count {
        // few to the server port: it takes fewer, for its users are few
        let address = if silent.len() % 20 == 0 { node.server_addr() } else { node.client_addr() };
        let connection = Connection::try_open(address);
        silent.push(connection.unwrap_or_else(|e| panic!("connection {}: {e}", silent.len())));
    }
    let most = wait_most_open(&node, idle_before + count);

    let mut watcher = node.watch(&get("n?version=v0&timeout=1m"));
    node.wait_parked(1);
    for i in 1..=20 {
        node.put(&format!("n?version=v{i}"), "x").expect(204);
        assert_eq!(node.get("n").expect(200).version(), Some(format!("v{i}").as_str()));
    }
    assert_ne!(watcher.answer().expect(200).version(), Some("v0"), "woken by one of them");
    assert!(most >= idle_before + count / 2, "{most} of {count} were open at once");

    wait_until("the end of all silent connections", LIMIT * 2, || silent.iter_mut().all(Connection::hung_up));
    node.get("n").expect(200);
    wait_until("their places to be free", LIMIT, || open_files(node.pid()) < idle_before + 100);
}

/// Waits until the node has so many files open, and returns the most: on a slow machine the first ones
/// are closed before the last ones are there.
fn wait_most_open(node: &Node, expected: usize) -> usize {
    let mut most = 0;
    let started = Instant::now();
    loop {
        let open = open_files(node.pid());
        most = most.max(open);
        if most >= expected || open < most || started.elapsed() > LIMIT {
            return most;
        }
    }
}

/// How many files, sockets among them, a process has open.
fn open_files(pid: u32) -> usize {
    match std::fs::read_dir(format!("/proc/{pid}/fd")) {
        Ok(files) => files.count(),
        Err(e) if e.kind() == ErrorKind::NotFound => panic!("no such process, or no /proc: {e}"),
        Err(e) => panic!("{e}"),
    }
}

/// As many signs as a request line takes: each once cost a call, and all of them the process.
#[test]
fn timeouts_of_nothing_but_signs() {
    let target = Target::start();
    for sign in ["-", "%2B"] {
        let timeout = sign.repeat(16_000 / sign.len());
        target.reader(&get(&format!("n?timeout={timeout}")), 400);
    }
}

/// HTTP/1.1 requires one `Host`.
#[test]
fn hosts_that_are_missing_or_many() {
    let target = Target::start();
    for hosts in ["", "Host: localhost\r\nHost: 127.0.0.1\r\n"] {
        let head = format!("GET /v1/versions/n HTTP/1.1\r\n{hosts}\r\n");
        target.refuses(target.node.client(), head.as_bytes(), 400);
    }
}

#[test]
fn hosts_that_are_none() {
    let target = Target::start();
    for host in NO_HOSTS {
        let read = format!("GET /v1/versions/n HTTP/1.1\r\nHost: {host}\r\n\r\n");
        target.refuses(target.node.client(), read.as_bytes(), 400);
        let delete = format!("DELETE /v1/versions/n HTTP/1.1\r\nHost: {host}\r\n\r\n");
        target.refuses(target.node.server(), delete.as_bytes(), 400);
    }
    let absolute = "GET http://user@x/v1/versions/n HTTP/1.1\r\nHost: localhost\r\n\r\n";
    target.refuses(target.node.client(), absolute.as_bytes(), 400);
    for host in ["", "x", "x:", "[::1]:80", "a_b:8080"] {
        let read = format!("GET /v1/versions/n HTTP/1.1\r\nHost: {host}\r\n\r\n");
        let mut connection = target.node.client();
        connection.send_bytes(read.as_bytes());
        connection.answer().expect(200);
    }
}

/// On a kept connection each request is checked, and those before it are answered; also on the client port, by the fast
/// path and by the ordinary one.
#[test]
fn what_is_ambiguous_is_refused_behind_good_requests_too() {
    let target = Target::start();
    let smuggled = "GET /v1/versions/n HTTP/1.1\r\nHost: localhost\r\n\r\n";
    for (rest, status) in AMBIGUOUS {
        let bad = format!("PUT /v1/versions/n?version=v2 HTTP/1.1\r\nHost: localhost\r\n{rest}{smuggled}");
        for (together, connect) in
            [(false, Node::client as fn(&Node) -> Connection), (true, Node::client), (true, Node::server)]
        {
            let mut connection = connect(&target.node);
            let good = Request::new("GET", "/healthz").bytes();
            let read = get("n?version=v0").bytes();
            let first = if together { [good, bad.clone().into_bytes()].concat() } else { read };
            connection.send_bytes(&first);
            connection.answer().expect(200);
            if !together {
                connection.send_bytes(bad.as_bytes());
            }
            let answer = connection.answer();
            // this port takes no such request, whatever its body is
            assert!(answer.status == status || answer.status == 405, "{rest:?}: {answer:?}");
            wait_until("the end of the connection", LIMIT, || connection.hung_up());
            target.unchanged();
        }
    }
}

#[test]
fn more_tags_than_may_be_known() {
    let target = Target::start();
    let tags = (0..65).map(|i| format!("\"v{i}\"")).collect::<Vec<_>>().join(",");
    target.reader(&get("n").header("If-None-Match", tags), 400);
}
