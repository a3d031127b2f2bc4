//! Values that end: what a node says of them until then, and from then on.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use cluster_tests::feed::batch;
use cluster_tests::http::{Request, Response};
use cluster_tests::node::{Node, get, head, put};
use cluster_tests::text::{assert_refusal, metric, now_us};
use cluster_tests::wait::{LIMIT, wait_for, wait_until};
use serde_json::json;

const SECOND_US: u64 = 1_000_000;

/// How long the values of these tests last: long enough for a slow machine.
const LIFE_US: u64 = 4 * SECOND_US;

fn expires(answer: &Response) -> Option<u64> {
    answer.header("X-Vwatch-Expires").map(|text| text.parse().expect("µs"))
}

/// Waits until a name is gone, and returns the answer.
#[track_caller]
fn wait_gone(node: &Node, name: &str) -> Response {
    wait_for(&format!("{name} to be gone"), LIMIT, || {
        let answer = node.get(&format!("{name}?timeout=0s"));
        (answer.status == 410).then_some(answer)
    })
}

#[test]
fn a_value_is_there_until_its_end_and_deleted_with_its_own_stamp() {
    let node = Node::start();
    let written = node.put("n?version=v1&expires=4s", "one").expect(204);
    let stamp = written.last_sync().expect("a stamp");
    assert_eq!(expires(&written), Some(stamp + LIFE_US));
    for request in [get("n"), head("n"), get("n?version=v1&timeout=0s")] {
        let answer = node.client().ask(&request).expect(200);
        assert_eq!((expires(&answer), answer.last_sync()), (Some(stamp + LIFE_US), Some(stamp)));
    }
    assert_eq!(node.metric("vwatch_expiring_names"), 1.0);
    // a reader that waits for another version is told of the end
    let gone = node.get("n?version=v1&timeout=30s").expect(410);
    assert!(now_us() >= stamp + LIFE_US);
    assert_eq!((gone.header("X-Vwatch-Error"), gone.last_sync()), (Some("deleted"), Some(stamp)));
    assert_eq!(wait_gone(&node, "n").last_sync(), Some(stamp));
    assert_eq!((node.metric("vwatch_expiring_names"), node.metric("vwatch_expired_total")), (0.0, 1.0));
    // the past is what it was
    let history = node.client().ask(&Request::new("GET", "/v1/history/n")).expect(200).json();
    let versions = history["versions"].as_array().expect("a list");
    let told = |at: usize| {
        let entry = &versions[at];
        [&entry["type"], &entry["revision"], &entry["expires"], &entry["expired"]].map(Clone::clone)
    };
    let end = json!(stamp + LIFE_US);
    assert_eq!(told(0), [json!("delete"), json!(stamp), end.clone(), json!(true)]);
    assert_eq!(told(1), [json!("put"), json!(stamp), end, json!(null)]);
    let past = |query: String| node.get(&format!("n?{query}"));
    assert_eq!(past(format!("revision={stamp}")).expect(200).version(), Some("v1"));
    assert_eq!(past(format!("at={}", stamp + LIFE_US - 1)).expect(200).version(), Some("v1"));
    assert_refusal(&past(format!("at={}", stamp + LIFE_US)), 410);
    // and the name can have a value again
    let again = node.put("n?version=v1", "one").expect(204);
    assert!(again.last_sync() > Some(stamp) && expires(&again).is_none());
}

#[test]
fn a_renewal_moves_the_end_and_a_write_without_one_removes_it() {
    let node = Node::start();
    let put = |target: &str| node.put(target, "x").expect(204).last_sync().expect("a stamp");
    put("kept?expires=4s");
    let kept = put("kept");
    let first = put("renewed?expires=4s");
    let mut renewed = first;
    wait_until("the first end to pass", LIMIT, || {
        renewed = put("renewed?expires=4s");
        std::thread::sleep(Duration::from_millis(50));
        renewed > first + LIFE_US + SECOND_US
    });
    let answer = node.get("renewed?timeout=0s").expect(200);
    assert_eq!((answer.last_sync(), expires(&answer)), (Some(renewed), Some(renewed + LIFE_US)));
    assert_eq!(wait_gone(&node, "renewed").last_sync(), Some(renewed));
    assert_eq!(node.get("kept").expect(200).last_sync(), Some(kept));
    // it reads as deleted before the node's turn deletes it
    wait_until("its delete", LIMIT, || node.metric("vwatch_expired_total") > 0.0);
    assert_eq!(node.metric("vwatch_expired_total"), 1.0, "no renewed value was deleted");
}

#[test]
fn lists_and_watches_say_when_a_value_ends_and_that_it_has() {
    let node = Node::start();
    let stamp = node.put("a/ends?version=v1&expires=4s", "x").expect(204).last_sync().expect("a stamp");
    node.put("a/stays?version=v1", "x").expect(204);
    let list = |query: &str| {
        let page = node.client().ask(&Request::new("GET", &format!("/v1/versions?prefix=a/{query}")));
        page.expect(200).json()["versions"].as_array().expect("a list").clone()
    };
    let first = batch(&node, "prefix=a/&timeout=0s");
    if now_us() < stamp + LIFE_US {
        let listed = list("");
        assert_eq!((&listed[0]["expires"], &listed[1]["expires"]), (&json!(stamp + LIFE_US), &json!(null)));
    }
    assert_eq!(first.events()[0]["expires"], json!(stamp + LIFE_US));
    assert_eq!(first.events()[1]["expires"], json!(null));
    let mut cursor = first.cursor().to_owned();
    let event = wait_for("the delete", LIMIT, || {
        let next = batch(&node, &format!("prefix=a/&since={cursor}&timeout=1s"));
        cursor = next.cursor().to_owned();
        next.events().first().cloned()
    });
    assert_eq!(
        (&event["type"], &event["name"], &event["revision"]),
        (&json!("delete"), &json!("a/ends"), &json!(stamp))
    );
    assert_eq!((&event["expired"], &event["expires"]), (&json!(true), &json!(stamp + LIFE_US)));
    for query in ["", "&delimiter=/", "&limit=1"] {
        let names: Vec<_> = list(query).iter().map(|listed| listed["name"].clone()).collect();
        assert_eq!(names, ["a/stays"], "{query}");
    }
    node.delete("a/stays").expect(204);
    let next = batch(&node, &format!("prefix=a/&since={cursor}&timeout=10s"));
    assert_eq!(next.events()[0]["expired"], json!(null), "a client's delete is none of an end");
}

#[test]
fn a_bad_end_is_refused_in_words() {
    let node = Node::with(&["--tombstone-grace", "40s"]);
    let refused = |target: &str| {
        let answer = node.put(target, "x");
        assert_refusal(&answer, 400);
        assert_eq!(answer.header("X-Vwatch-Error"), Some("bad-parameter"), "{target}");
        answer.text().to_owned()
    };
    for bad in ["999ms", "10001ms", "0s"] {
        let text = refused(&format!("n?expires={bad}"));
        assert!(text.contains("send 1s to 10s, a quarter of --tombstone-grace"), "{text}");
    }
    for bad in ["", "1", "-5s", "soon"] {
        let text = refused(&format!("n?expires={bad}"));
        assert!(text.contains("send one such as 10s or 1h"), "{text}");
    }
    let past = now_us() - 5 * SECOND_US;
    let text = refused(&format!("n?expires=5s&modified={past}"));
    assert!(text.contains("which is past"), "{text}");
    node.put(&format!("n?expires=10s&modified={past}"), "x").expect(204);
    let log = node.server().ask(&Request::new("PUT", "/v1/ns/log.a/versions/n?expires=5s").body("x"));
    assert_refusal(&log, 400);
    assert!(log.text().contains("a log keeps its events"), "{}", log.text());
    assert_refusal(&node.delete("n?expires=5s"), 400);
    assert!(node.put("n?expire=5s", "x").text().contains("write expires"));
}

#[test]
fn one_stamp_has_one_end() {
    let node = Node::start();
    let stamp = now_us() - SECOND_US;
    node.put(&format!("n?version=v&modified={stamp}&expires=60s"), "x").expect(204);
    let retried = node.put(&format!("n?version=v&modified={stamp}&expires=60s"), "x").expect(204);
    assert_eq!(expires(&retried), Some(stamp + 60 * SECOND_US), "a retry is harmless");
    for other in ["", "&expires=50s"] {
        node.put(&format!("n?version=v&modified={stamp}{other}"), "x").expect(409);
    }
    let longer = node.put(&format!("n?version=v&modified={stamp}&expires=70s"), "x").expect(204);
    assert_eq!(expires(&longer), Some(stamp + 70 * SECOND_US), "the later end is the greater record");
}

/// The fast path keeps answers: none of them may outlive its value.
#[test]
fn the_fast_path_shows_no_value_after_its_end() {
    let node = Node::start();
    let before = handovers(&node);
    let mut connection = TcpStream::connect(node.client_addr()).expect("a connection");
    let mut ask = || {
        let before = now_us();
        connection
            .write_all(b"GET /v1/versions/n?timeout=0s HTTP/1.1\r\nHost: localhost\r\n\r\n")
            .expect("sent");
        let mut bytes = [0; 2048];
        let read = connection.read(&mut bytes).expect("an answer");
        let status: u16 = String::from_utf8_lossy(&bytes[9..12]).parse().expect("a status");
        assert!(read > 12);
        (before, status)
    };
    let mut writer = node.server();
    for round in 0..3 {
        let written = writer.ask(&put("n?expires=2s").body(format!("{round}"))).expect(204);
        let end = written.last_sync().expect("a stamp") + 2 * SECOND_US;
        let (mut before_end, mut after_end) = (0, 0);
        while after_end < 50 {
            let (asked, status) = ask();
            if asked >= end {
                assert_eq!(status, 410, "asked {} µs after the end", asked - end);
                after_end += 1;
            } else {
                before_end += u32::from(status == 200);
            }
        }
        assert!(before_end > 0, "it was there");
    }
    assert_eq!(handovers(&node), before, "all of it was the fast path");
}

/// Connections that the fast path has given to the ordinary path.
fn handovers(node: &Node) -> f64 {
    let metrics = node.server().ask(&Request::new("GET", "/metrics")).expect(200);
    metric(metrics.text(), "vwatch_handovers_total{port=\"client\"}").expect("the metric")
}
