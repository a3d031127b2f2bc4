//! Reads that are answered at once: the client port without parking.

use std::time::{Duration, Instant};

use cluster_tests::http::Request;
use cluster_tests::node::{Node, get, head};
use cluster_tests::text::{assert_refusal, http_date, metric, now_us, timing};

/// Longer than any test may take: a read that parks although it should not is seen by its own time.
const NEVER: &str = "timeout=1m";

/// Answered at once: far from a minute, on the slowest machine.
const AT_ONCE: Duration = Duration::from_secs(20);

#[test]
fn a_value_is_answered_with_its_record() {
    let node = Node::start();
    let written = node.put("repo/artifact:latest?version=v1", "3456").expect(204);

    let read = node.get("repo/artifact:latest").expect(200);

    assert_eq!(read.body, b"3456");
    assert_eq!(read.header("ETag"), Some("\"v1\""));
    assert_eq!(read.header("Content-Type"), Some("application/octet-stream"));
    assert_eq!(read.header("Content-Length"), Some("4"));
    assert_eq!(read.last_sync(), written.last_sync());
    let last_sync = read.last_sync().expect("a stamp");
    assert_eq!(read.header("Last-Modified"), Some(http_date(last_sync).as_str()));
    assert!(timing(&read).watch < AT_ONCE);
    assert!(read.header("X-Vwatch-Genesis").is_none(), "there was no older stamp: {read:?}");
}

#[test]
fn data_comes_back_as_it_was_written_whatever_its_bytes() {
    let node = Node::start();
    let every_byte: Vec<u8> = (0..=255).collect();
    node.put("bytes", &every_byte).expect(204);
    node.put("nothing?version=empty", "").expect(204);

    assert_eq!(node.get("bytes").expect(200).body, every_byte);
    let nothing = node.get("nothing").expect(200);
    assert_eq!((nothing.version(), nothing.body.len()), (Some("empty"), 0));
}

#[test]
fn what_was_never_seen_is_404() {
    let node = Node::start();
    let answer = node.get("never");
    assert_refusal(&answer, 404);
    assert!(answer.header("ETag").is_none() && answer.header("X-Last-Sync").is_none(), "{answer:?}");
}

#[test]
fn what_was_deleted_is_410_with_the_time_of_the_delete() {
    let node = Node::start();
    let written = node.put("gone?version=v1", "x").expect(204);
    node.delete("gone").expect(204);

    let answer = node.get("gone");

    assert_refusal(&answer, 410);
    let deleted = answer.last_sync().expect("a 410 carries X-Last-Sync");
    assert!(Some(deleted) > written.last_sync(), "a delete supersedes what its node has seen");
    assert_eq!(answer.header("Last-Modified"), Some(http_date(deleted).as_str()));
    assert!(answer.header("ETag").is_none(), "a tombstone has no version: {answer:?}");
}

#[test]
fn another_version_than_the_current_one_is_answered_at_once() {
    let node = Node::start();
    node.put("n?version=v2", "two").expect(204);
    let started = Instant::now();

    let by_parameter = node.get(&format!("n?version=v1&{NEVER}")).expect(200);
    assert_eq!((by_parameter.version(), by_parameter.text()), (Some("v2"), "two"));
    let by_header = node.client().ask(&get(&format!("n?{NEVER}")).header("ETag", "\"v1\"")).expect(200);
    assert_eq!(by_header.version(), Some("v2"));
    let by_list = node.client().ask(&get(&format!("n?{NEVER}")).header("If-None-Match", "\"v1\", W/\"v0\""));
    assert_eq!(by_list.expect(200).version(), Some("v2"));
    let absence = node.get(&format!("n?version=&{NEVER}")).expect(200);
    assert_eq!(absence.version(), Some("v2"), "the name exists: nothing to wait for");

    assert!(started.elapsed() < AT_ONCE);
}

#[test]
fn another_version_is_answered_at_once_also_where_there_is_nothing() {
    let node = Node::start();
    node.delete("gone").expect(204);
    let started = Instant::now();

    for (name, status) in [("never", 404), ("gone", 410)] {
        assert_refusal(&node.get(&format!("{name}?version=v1&{NEVER}")), status);
        let target = format!("{name}?{NEVER}");
        assert_refusal(&node.client().ask(&get(&target).header("ETag", "\"v1\"")), status);
        assert_refusal(&node.client().ask(&get(&target).header("If-None-Match", "\"v1\"")), status);
        assert_refusal(&node.client().ask(&get(&target).header("If-None-Match", "*")), status);
    }

    assert!(started.elapsed() < AT_ONCE);
}

/// vwatch takes the header with and without quotes.
#[test]
fn the_version_header_needs_no_quotes() {
    let node = Node::start();
    node.put("n?version=v1", "").expect(204);
    let ask = |tag: &str| node.client().ask(&get("n?timeout=0s").header("ETag", tag)).expect(200);
    assert_eq!(ask("v1").version(), Some("v1"));
    assert_eq!(ask("\"v1\"").version(), Some("v1"));
}

#[test]
fn a_timeout_of_nothing_never_parks() {
    let node = Node::with(&["--block-for", "1m"]);
    let written = node.put("n?version=v1", "data").expect(204);
    node.delete("gone").expect(204);
    let started = Instant::now();

    let same = node.get("n?version=v1&timeout=0s").expect(200);
    assert_eq!(
        (same.version(), same.text()),
        (Some("v1"), "data"),
        "the same version and body, as vwatch does"
    );
    assert_eq!(same.last_sync(), written.last_sync());
    let unchanged = node.client().ask(&get("n?timeout=0s").header("If-None-Match", "\"v1\"")).expect(304);
    assert_eq!(unchanged.version(), Some("v1"));
    assert_refusal(&node.get("never?version=&timeout=0s"), 404);
    assert_refusal(&node.get("gone?version=&timeout=0s"), 410);
    let ahead = (now_us() + 60_000_000).to_string();
    let stale = node.client().ask(&get("n?timeout=0s").header("X-Last-Sync", ahead));
    assert_refusal(&stale, 409);

    assert!(started.elapsed() < AT_ONCE);
}

#[test]
fn the_timeout_is_checked_before_the_existence() {
    let node = Node::start();
    node.delete("gone").expect(204);
    assert_refusal(&node.get("never?timeout=abc"), 400);
    assert_refusal(&node.get("gone?timeout=abc"), 400);
}

#[test]
fn the_longest_timeout_is_a_minute_or_block_for() {
    let short = Node::with(&["--block-for", "1s"]);
    short.get("never?timeout=1m").expect(404);
    short.get("never?timeout=60s").expect(404);
    assert_refusal(&short.get("never?timeout=61s"), 400);
    assert_refusal(&short.get("never?timeout=1m0.001s"), 400);

    let long = Node::with(&["--block-for", "2m"]);
    long.get("never?timeout=2m").expect(404);
    assert_refusal(&long.get("never?timeout=2m1s"), 400);
}

#[test]
fn timeouts_are_written_as_go_writes_durations() {
    let node = Node::start();
    for timeout in ["10s", "1m0s", "250ms", "1.5s", "0", "0.5m", "100us", "1s500ms"] {
        node.get(&format!("never?timeout={timeout}")).expect(404);
    }
}

#[test]
fn head_is_get_without_the_body() {
    let node = Node::start();
    node.put("n?version=v1", "12345").expect(204);
    node.delete("gone").expect(204);
    let mut connection = node.client();

    for (name, status) in [("n", 200), ("gone", 410), ("never", 404)] {
        let full = connection.ask(&get(name)).expect(status);
        let bare = connection.ask(&head(name)).expect(status);
        assert!(bare.body.is_empty());
        for header in ["ETag", "Last-Modified", "X-Last-Sync", "Content-Type", "Content-Length"] {
            assert_eq!(bare.header(header), full.header(header), "{header} of {name}");
        }
    }
    assert_eq!(connection.ask(&head("n?version=v1&timeout=0s")).expect(200).version(), Some("v1"));
}

#[test]
fn a_stamp_that_is_reached_holds_nothing_back() {
    let node = Node::start();
    let written = node.put("n?version=v1", "x").expect(204).last_sync().expect("a stamp");
    let started = Instant::now();
    for seen in [written, written - 1] {
        let target = format!("n?{NEVER}");
        let read = node.client().ask(&get(&target).header("X-Last-Sync", seen.to_string())).expect(200);
        assert_eq!(read.last_sync(), Some(written));
    }
    assert!(started.elapsed() < AT_ONCE);
}

#[test]
fn a_stamp_from_before_this_set_is_ignored_and_the_answer_has_the_genesis() {
    let before = now_us();
    let node = Node::start();
    let ready = now_us();
    node.put("n?version=v1", "x").expect(204);
    node.delete("gone").expect(204);
    let started = Instant::now();

    for (target, status) in [
        ("n", 200),
        ("n?version=v0", 200),
        ("n?version=v1&timeout=0s", 200),
        ("never", 404),
        ("never?version=v1", 404),
        ("gone", 410),
    ] {
        let answer = node.client().ask(&get(target).header("X-Last-Sync", "1741837692000000")).expect(status);
        let genesis = answer.header("X-Vwatch-Genesis").unwrap_or_else(|| panic!("{target}: {answer:?}"));
        let genesis: u64 = genesis.parse().expect("µs since 1970");
        assert!((before..=ready).contains(&genesis), "{before} {genesis} {ready}");
    }

    // the last microsecond before it counts as before it; nothing held and the first one after it is a 409
    let answer = node.client().ask(&get("never?timeout=0s").header("X-Last-Sync", "1"));
    let genesis: u64 = answer.header("X-Vwatch-Genesis").expect("ignored").parse().expect("µs");
    let ask =
        |stamp: u64| node.client().ask(&get("never?timeout=0s").header("X-Last-Sync", stamp.to_string()));
    assert_refusal(&ask(genesis - 1), 404);
    let after = ask(genesis + 1);
    assert_refusal(&after, 409);
    assert!(after.header("X-Vwatch-Genesis").is_none(), "not ignored: {after:?}");
    assert!(started.elapsed() < AT_ONCE);
}

#[test]
fn names_are_taken_as_sent() {
    let node = Node::start();
    let names = [
        "a/b",
        "a//b",
        "a/../b",
        "a/./b",
        "a/b/",
        "/a/b",
        "../b",
        ".",
        "..",
        "a%20b",
        "a+b",
        "a%2Bc",
        "%C3%A9/%E6%97%A5",
    ];
    for (i, name) in names.iter().enumerate() {
        node.put(&format!("{name}?version=v{i}"), name).expect(204);
    }
    for (i, name) in names.iter().enumerate() {
        let read = node.get(name).expect(200);
        assert_eq!((read.version(), read.text()), (Some(format!("v{i}").as_str()), *name), "one name each");
    }
    // the same name in another spelling
    for (other, name) in [
        ("a%2Fb", "a/b"),
        ("%61/b", "a/b"),
        ("a%2f%2fb", "a//b"),
        ("a%2Bb", "a+b"),
        ("%c3%a9/%e6%97%a5", "%C3%A9/%E6%97%A5"),
    ] {
        assert_eq!(node.get(other).expect(200).text(), name);
    }
    node.put("what%3Fversion=x?version=v1", "").expect(204);
    assert_eq!(node.get("what%3Fversion=x").expect(200).version(), Some("v1"));
}

#[test]
fn a_slash_too_many_is_not_redirected() {
    let node = Node::start();
    node.put("/x?version=v1", "").expect(204);
    assert_eq!(node.get("/x").expect(200).version(), Some("v1"));
    assert_refusal(&node.get("x"), 404);
    assert_refusal(&node.client().ask(&Request::new("GET", "//v1/versions/x")), 404);
}

#[test]
fn a_connection_serves_one_read_after_another() {
    let node = Node::start();
    let mut server = node.server();
    let mut client = node.client();
    for i in 0..20 {
        server.ask(&cluster_tests::node::put(&format!("n?version=v{i}")).body(i.to_string())).expect(204);
        let read = client.ask(&get("n")).expect(200);
        assert_eq!((read.version(), read.text()), (Some(format!("v{i}").as_str()), i.to_string().as_str()));
        client.ask(&get("never")).expect(404);
    }
}

/// Without the error, a read that should wait would be answered at once, and repeated at once.
#[test]
fn a_parameter_with_a_typo_is_refused_and_any_other_one_is_counted() {
    let node = Node::start();
    node.put("n?version=v1", "3456").expect(204);
    let list = |query: &str| Request::new("GET", &format!("/v1/versions?{query}"));
    for (request, typed, meant) in [
        (get("n?verison=v1&timeout=1m"), "verison", "version"),
        (head("n?versio=v1"), "", ""),
        (get("n?version=v1&tiemout=1m"), "tiemout", "timeout"),
        (get("n?Version=v1"), "Version", "version"),
        (get("n?v%65rsoin=v1"), "versoin", "version"),
        (list("limt=5"), "limt", "limit"),
        (list("prefix=a&keys_only"), "keys_only", "keys-only"),
    ] {
        let answer = node.client().ask(&request).expect(400);
        assert_eq!(
            answer.text(),
            match typed {
                "" => String::new(),
                _ => format!("unknown parameter: \"{typed}\": write {meant}\n"),
            }
        );
    }
    for (request, meant) in [
        (Request::new("PUT", "/v1/versions/n?modifed=1"), "modified"),
        (Request::new("DELETE", "/v1/versions/n?modifed=1"), "modified"),
        (Request::new("GET", "/v1/watchers?after_=a"), "after"),
        (Request::new("PUT", "/v1/logging?levl=INFO"), "level"),
    ] {
        let answer = node.server().ask(&request).expect(400);
        assert!(answer.text().ends_with(&format!(": write {meant}\n")), "{answer:?}");
    }
    assert_eq!(node.get("n").expect(200).version(), Some("v1"), "nothing was written");

    let ignored = || {
        let metrics = node.server().ask(&Request::new("GET", "/metrics?x=1")).expect(200);
        metric(metrics.text(), "vwatch_ignored_parameters_total").expect("the metric")
    };
    let before = ignored();
    node.get("n?_=1&client=x&timeout=0s").expect(200);
    node.client().ask(&Request::new("GET", "/healthz?x=1")).expect(200);
    // with the one of the question itself
    assert_eq!(ignored(), before + 4.0);
}

#[test]
fn only_a_node_sends_its_node_id() {
    let node = Node::with(&["--node-id", "näme"]);
    for path in ["/healthz", "/readyz"] {
        for mut port in [node.client(), node.server()] {
            assert_eq!(
                port.ask(&Request::new("GET", path)).expect(200).header("X-Vwatch-Node"),
                Some("näme")
            );
        }
    }
}
