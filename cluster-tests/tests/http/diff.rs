//! `POST /v1/versions`: "what do you have that I lack?", on the server port.

use std::collections::BTreeMap;

use cluster_tests::heavy::heavy;
use cluster_tests::http::{Request, Response};
use cluster_tests::node::Node;
use cluster_tests::text::{assert_refusal, rfc3339, rfc3339_us};
use serde_json::{Value, json};

fn post(node: &Node, kind: Option<&str>, body: impl AsRef<[u8]>) -> Response {
    let request = Request::new("POST", "/v1/versions").body(body);
    node.server().ask(&kind.into_iter().fold(request, |request, kind| request.header("Content-Type", kind)))
}

#[track_caller]
fn diff(node: &Node, versions: &Value) -> Vec<Value> {
    let set = json!({ "versions": versions, "peers": [] });
    let answer = post(node, Some("application/json"), set.to_string()).expect(200);
    assert_eq!(answer.header("Content-Type"), Some("application/json"));
    let Value::Array(records) = answer.json() else { panic!("not an array: {answer:?}") };
    records
}

fn names(records: &[Value]) -> Vec<&str> {
    let mut names: Vec<_> = records.iter().map(|record| record["name"].as_str().expect("a name")).collect();
    names.sort_unstable();
    names
}

fn theirs(name: &str, version: &str, last_sync: &str) -> Value {
    json!({ "name": name, "version": version, "data": "MQ==", "last-sync": last_sync })
}

#[test]
fn what_is_newer_here_or_missing_there_comes_back() {
    let node = Node::start();
    let stamp = node.put("newer-here?version=v2", "3456").expect(204).last_sync().expect("a stamp");
    for name in ["missing-there", "same", "newer-there"] {
        node.put(&format!("{name}?version=v1&modified={stamp}"), "x").expect(204);
    }

    let records = diff(
        &node,
        &json!([
            theirs("newer-here", "v1", &rfc3339(stamp - 1)),
            theirs("same", "v1", &rfc3339(stamp)),
            theirs("newer-there", "v2", &rfc3339(stamp + 1)),
            theirs("only-there", "v1", &rfc3339(stamp)),
        ]),
    );

    assert_eq!(names(&records), ["missing-there", "newer-here"]);
    let newer = records.iter().find(|record| record["name"] == "newer-here").expect("just seen");
    assert_eq!((&newer["version"], &newer["data"]), (&json!("v2"), &json!("MzQ1Ng==")));
    assert_eq!(rfc3339_us(newer["last-sync"].as_str().expect("RFC 3339")), stamp);
}

#[test]
fn nothing_is_stored() {
    let node = Node::start();
    let stamp = node.put("here?version=v1", "x").expect(204).last_sync().expect("a stamp");
    let later = rfc3339(stamp + 1);
    diff(&node, &json!([theirs("here", "v2", &later), theirs("there", "v1", &later)]));
    let read = node.get("here").expect(200);
    assert_eq!((read.version(), read.last_sync()), (Some("v1"), Some(stamp)));
    node.get("there").expect(404);
}

#[test]
fn stamps_are_compared_to_the_microsecond() {
    let node = Node::start();
    let stamp: u64 = 1_741_837_692_123_456;
    node.put(&format!("n?version=v2&modified={stamp}"), "x").expect(204);
    for (last_sync, comes) in [
        ("2025-03-13T03:48:12.123455Z", true),
        ("2025-03-13T03:48:12.123455999Z", true),
        ("2025-03-13T03:48:12.123456Z", false),
        ("2025-03-13T03:48:12.1234569Z", false),
        ("2025-03-13T05:48:12.123456+02:00", false),
        ("2025-03-13T05:48:12.123455+02:00", true),
        ("2025-03-12T22:48:12.123456-05:00", false),
        ("2025-03-13T03:48:12Z", true),
        ("2025-03-13T03:48:13Z", false),
        // the zero time of Go
        ("0001-01-01T00:00:00Z", true),
    ] {
        let records = diff(&node, &json!([theirs("n", "v1", last_sync)]));
        assert_eq!(records.len(), usize::from(comes), "{last_sync}");
    }
}

/// The Go vwatch would return nothing here: it knows no fresh stamps.
#[test]
fn a_fresh_stamp_on_the_same_version_is_newer_too() {
    let node = Node::start();
    let stamp = node.put("n?version=v1", "x").expect(204).last_sync().expect("a stamp");
    assert_eq!(names(&diff(&node, &json!([theirs("n", "v1", &rfc3339(stamp - 1))]))), ["n"]);
}

#[test]
fn tombstones_stay_here() {
    let node = Node::start();
    let stamp = node.put("gone?version=v1", "x").expect(204).last_sync().expect("a stamp");
    node.delete("gone").expect(204);
    node.delete("never").expect(204);
    assert_eq!(diff(&node, &json!([])), Vec::<Value>::new());
    assert_eq!(diff(&node, &json!([theirs("gone", "v1", &rfc3339(stamp))])), Vec::<Value>::new());
}

#[test]
fn any_other_content_type_is_read_as_json() {
    let node = Node::start();
    node.put("n?version=v1", "x").expect(204);
    for kind in [
        None,
        Some("application/json; charset=utf-8"),
        Some("text/plain"),
        Some("application/x-www-form-urlencoded"),
        Some("nonsense"),
    ] {
        let answer = post(&node, kind, r#"{"versions":[],"peers":[]}"#).expect(200);
        assert_eq!(answer.header("Content-Type"), Some("application/json"), "{kind:?}");
        assert_eq!(answer.json()[0]["name"], "n", "{kind:?}");
    }
}

#[test]
fn what_go_writes_for_empty_lists_and_data_is_read() {
    let node = Node::start();
    node.put("n?version=v1", "x").expect(204);
    for body in [
        r#"{"versions":null,"peers":null}"#,
        r#"{"versions":[]}"#,
        "{}",
        r#"{"versions":[{"name":"m","version":"v","data":null,"last-sync":"2025-03-13T03:48:12Z"}],"peers":[]}"#,
        r#"{"versions":[],"peers":["http://127.0.0.2:8008"]}"#,
        r#"{"versions":[],"peers":[],"later":{"unknown":[1]}}"#,
    ] {
        let answer = post(&node, Some("application/json"), body).expect(200);
        assert_eq!(answer.json()[0]["name"], "n", "{body}");
    }
}

#[test]
fn an_empty_node_answers_an_empty_array() {
    assert_eq!(diff(&Node::start(), &json!([])), Vec::<Value>::new());
}

#[test]
fn an_answer_has_at_most_so_many_bytes_and_rounds_get_everything() {
    let node = Node::with(&["--replicate-limit-bytes", "3500"]);
    let data = vec![b'x'; 1000];
    for i in 0..10 {
        node.put(&format!("n{i}?version=v1"), &data).expect(204);
    }
    let mut have = BTreeMap::new();
    for round in 0.. {
        assert!(round <= 10, "no progress: {:?}", have.keys());
        let records = diff(&node, &Value::Array(have.values().cloned().collect()));
        if records.is_empty() {
            break;
        }
        assert!(records.len() <= 3, "{} records of 1,000 bytes in 3,500", records.len());
        for record in records {
            let name = record["name"].as_str().expect("a name").to_owned();
            assert!(have.insert(name, record).is_none(), "a record that was there");
        }
    }
    assert_eq!(have.len(), 10);
}

#[test]
fn an_answer_has_at_least_one_record_whatever_the_limit() {
    let node = Node::with(&["--replicate-limit-bytes", "1"]);
    node.put("a?version=v1", vec![b'x'; 1000]).expect(204);
    let stamp = node.put("b?version=v1", vec![b'x'; 1000]).expect(204).last_sync().expect("a stamp");
    assert_eq!(diff(&node, &json!([])).len(), 1, "missing there");
    let older = rfc3339(stamp - 1_000_000);
    let behind = json!([theirs("a", "v0", &older), theirs("b", "v0", &older)]);
    assert_eq!(diff(&node, &behind).len(), 1, "newer here");
}

#[test]
fn gob_is_refused_with_the_names_of_what_is_not() {
    let node = Node::start();
    let answer = post(&node, Some("application/octet-stream"), b"\x0f\xff\x81\x03\x01");
    assert_refusal(&answer, 415);
    for kind in ["application/json", "application/x-bincode"] {
        assert!(answer.text().contains(kind), "{kind} is not in {:?}", answer.text());
    }
}

#[test]
fn a_push_is_refused_where_there_are_no_peers() {
    let node = Node::start();
    assert_refusal(&post(&node, Some("application/x-bincode"), b"\x00\x01"), 404);
}

/// Bodies that do not arrive do not block the requests of others.
#[test]
fn slow_senders_do_not_block_the_others() {
    let node = Node::start();
    node.put("n?version=v1", "one").expect(204);
    // more than may be compared, or wait for it, at the same time
    let slow: Vec<_> = (0..40)
        .map(|_| {
            let mut connection = node.server();
            connection
                .send_bytes(b"POST /v1/versions HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\n{");
            connection
        })
        .collect();
    for _ in 0..20 {
        assert_eq!(names(&diff(&node, &json!([]))), ["n"]);
    }
    drop(slow);
}

/// Answers that are not taken do not block the requests of others.
#[test]
fn slow_takers_do_not_block_the_others() {
    const NAMES: usize = 5;
    let _heavy = heavy();
    let node = Node::with(&["--data-limit-bytes", "1MiB", "--replicate-limit-bytes", "64MiB"]);
    // an answer of 7 MB: the buffers of a connection take 4 MiB by the node, and 128 KiB by a client that reads nothing
    for i in 0..NAMES {
        node.put(&format!("n{i}?version=v1"), vec![b'x'; 1 << 20]).expect(204);
    }
    let stalled: Vec<_> = (0..4)
        .map(|_| {
            let mut connection = node.server();
            connection.send(&Request::new("POST", "/v1/versions").body("{\"versions\":[]}"));
            connection
        })
        .collect();
    for one in &stalled {
        assert_eq!(one.status_ahead(), 200);
    }
    assert_eq!(diff(&node, &json!([])).len(), NAMES);
}
