//! The past of a name, and how much of it a node keeps.

use cluster_tests::http::{Request, Response};
use cluster_tests::node::{Node, delete, get, put};
use cluster_tests::text::{assert_refusal, http_date, now_us, rfc3339};
use cluster_tests::wait::{LIMIT, wait_until};
use serde_json::{Value, json};

const MINUTE_US: u64 = 60_000_000;

/// A minute of the past, so that compaction may take it: whole, and `minutes` ago.
fn minutes_ago(minutes: u64) -> u64 {
    (now_us() / MINUTE_US - minutes) * MINUTE_US
}

fn history(node: &Node, target: &str) -> Response {
    node.client().ask(&Request::new("GET", &format!("/v1/history/{target}")))
}

fn compact(node: &Node, query: &str) -> Response {
    node.server().ask(&Request::new("POST", &format!("/v1/compact{query}")))
}

fn depth(node: &Node, query: &str) -> Response {
    node.server().ask(&Request::new("PUT", &format!("/v1/history-depth{query}")))
}

/// The revisions of a history, as it lists them.
#[track_caller]
fn revisions(node: &Node, name: &str) -> Vec<u64> {
    let page = history(node, name).expect(200).json();
    let versions = page["versions"].as_array().expect("a list");
    versions.iter().map(|version| version["revision"].as_u64().expect("µs")).collect()
}

/// Demands an error with this status and code.
#[track_caller]
fn assert_code(answer: &Response, status: u16, code: &str) {
    assert_refusal(answer, status);
    assert_eq!(answer.header("X-Vwatch-Error"), Some(code), "{answer:?}");
    // no cache keeps an answer about a name
    if ["not-found", "revision-unknown", "compacted", "deleted"].contains(&code) {
        assert_eq!(answer.header("Cache-Control"), Some("no-store"), "{answer:?}");
    }
}

/// Demands a value of the past: all headers of a read but those of the wait.
#[track_caller]
fn assert_past(answer: &Response, version: &str, data: &str, revision: u64) {
    assert_eq!((answer.status, answer.text()), (200, data), "{answer:?}");
    assert_eq!((answer.version(), answer.last_sync()), (Some(version), Some(revision)), "{answer:?}");
    assert_eq!(answer.header("Last-Modified"), Some(http_date(revision).as_str()));
    assert_eq!(answer.header("Cache-Control"), Some("no-store"));
    assert_eq!(answer.header("Content-Type"), Some("application/octet-stream"));
    assert_eq!(answer.header("Server-Timing"), None);
}

/// v1, v2, a delete and v1 again, a second apart. Returns their revisions.
#[track_caller]
fn four(node: &Node, name: &str) -> [u64; 4] {
    let last = minutes_ago(5);
    let stamps = [4, 3, 2, 1].map(|ago| last - ago * 1_000_000);
    node.put(&format!("{name}?version=v1&modified={}", stamps[0]), "one").expect(204);
    node.put(&format!("{name}?version=v2&modified={}", stamps[1]), "two").expect(204);
    node.delete(&format!("{name}?modified={}", stamps[2])).expect(204);
    node.put(&format!("{name}?version=v1&modified={}", stamps[3]), "one").expect(204);
    stamps
}

#[test]
fn a_history_has_each_version_and_delete_newest_first() {
    let node = Node::start();
    let [first, second, third, fourth] = four(&node, "a/b");
    let answer = history(&node, "a/b").expect(200);
    assert_eq!(answer.header("Content-Type"), Some("application/json"));
    assert_eq!(answer.header("Cache-Control"), Some("no-store"));
    let entry = |version: &str, data: &str, revision: u64| {
        json!({"type": "put", "version": version, "data": data,
               "revision": revision, "last-sync": rfc3339(revision)})
    };
    let expected = json!({
        "versions": [
            entry("v1", "b25l", fourth),
            {"type": "delete", "revision": third, "last-sync": rfc3339(third)},
            entry("v2", "dHdv", second),
            entry("v1", "b25l", first),
        ],
        "complete": true,
    });
    assert_eq!(answer.json(), expected);
    // a write that loses is not in the history, nor one that is not accepted
    assert_code(&node.put(&format!("a/b?version=v9&modified={}", fourth - 1), "x"), 409, "older");
    assert_code(&node.put("a/b?version=v1", "other data"), 409, "contradicts");
    assert_eq!(history(&node, "a/b").expect(200).json(), expected);
    // the same version again, with a newer stamp, is an entry like any other
    let again = node.put("a/b?version=v1", "one").expect(204).last_sync().expect("a stamp");
    assert_eq!(revisions(&node, "a/b"), [again, fourth, third, second, first]);
}

#[test]
fn a_history_comes_in_pages() {
    let node = Node::start();
    let [first, second, third, fourth] = four(&node, "n");
    let page = |query: &str| {
        let page = history(&node, &format!("n?{query}")).expect(200).json();
        let versions = page["versions"].as_array().expect("a list");
        let revisions: Vec<_> =
            versions.iter().map(|version| version["revision"].as_u64().expect("µs")).collect();
        (revisions, page["complete"].as_bool().expect("a bool"))
    };
    assert_eq!(page("limit=2"), (vec![fourth, third], false));
    assert_eq!(page(&format!("limit=2&before={third}")), (vec![second, first], true));
    assert_eq!(page(&format!("limit=1&before={}", third + 1)), (vec![third], false));
    assert_eq!(page("limit=4"), (vec![fourth, third, second, first], true));
    assert_eq!(page("limit=100"), (vec![fourth, third, second, first], true));
    assert_eq!(page(&format!("before={first}")), (vec![], true));
    assert_code(&history(&node, "other"), 404, "not-found");
}

#[test]
fn the_past_is_read_by_revision_and_by_time() {
    let node = Node::start();
    let [first, second, third, fourth] = four(&node, "n");
    let read = |query: String| {
        let answer = node.get(&format!("n?{query}"));
        let other = node.client().ask(&Request::new("GET", &format!("/version/n?{query}")));
        assert_eq!((answer.status, &answer.body), (other.status, &other.body), "{query}");
        answer
    };
    assert_past(&read(format!("revision={first}")), "v1", "one", first);
    assert_past(&read(format!("revision={second}")), "v2", "two", second);
    assert_past(&read(format!("revision={fourth}")), "v1", "one", fourth);
    assert_code(&read(format!("revision={}", first + 1)), 404, "revision-unknown");
    assert_code(&read("revision=1".to_owned()), 404, "revision-unknown");
    assert_code(&read(format!("revision={}", fourth + 1)), 404, "revision-unknown");
    for query in [format!("revision={third}"), format!("at={third}"), format!("at={}", fourth - 1)] {
        let gone = read(query);
        assert_code(&gone, 410, "deleted");
        assert_eq!((gone.last_sync(), gone.version()), (Some(third), None));
    }
    assert_past(&read(format!("at={first}")), "v1", "one", first);
    assert_past(&read(format!("at={}", second - 1)), "v1", "one", first);
    assert_past(&read(format!("at={}", rfc3339(second))), "v2", "two", second);
    assert_past(&read(format!("at={}", rfc3339(third - 1))), "v2", "two", second);
    assert_past(&read(format!("at={}", now_us())), "v1", "one", fourth);
    assert_code(&read(format!("at={}", first - 1)), 404, "not-found");
    assert_code(&read("at=1970-01-01T00:00:00Z".to_owned()), 404, "not-found");
    // a name that was never written
    assert_code(&node.get("other?revision=1"), 404, "revision-unknown");
    assert_code(&node.get(&format!("other?at={}", now_us())), 404, "not-found");
    // HEAD is the same without the body
    let head =
        node.client().ask(&Request::new("HEAD", &format!("/v1/versions/n?revision={second}"))).expect(200);
    assert_eq!((head.version(), head.header("Content-Length"), head.body.len()), (Some("v2"), Some("3"), 0));
    // and the present is what it was
    assert_eq!(node.get("n").expect(200).last_sync(), Some(fourth));
    assert_eq!(node.parked(), 0);
}

#[test]
fn an_answer_about_a_time_says_when_it_is_final() {
    let node = Node::with(&["--tombstone-grace", "10s"]);
    let stamp = minutes_ago(5);
    node.put(&format!("n?version=v1&modified={stamp}"), "one").expect(204);
    let is_final =
        |query: &str| node.get(&format!("n?{query}")).expect(200).header("X-Vwatch-Final").is_some();
    wait_until("an answer about the past to be final", LIMIT, || is_final(&format!("at={stamp}")));
    let answer = node.get(&format!("n?at={stamp}"));
    assert_eq!(answer.header("X-Vwatch-Final"), Some("true"));
    assert!(!is_final(&format!("at={}", now_us())), "a write may still come there");
    assert!(!is_final(&format!("revision={stamp}")), "a revision never changes anyway");
    assert_eq!(node.get("n").expect(200).header("X-Vwatch-Final"), None);
}

#[test]
fn a_read_of_the_past_does_not_wait() {
    let node = Node::start();
    let [first, ..] = four(&node, "n");
    for past in [format!("revision={first}"), format!("at={first}"), "at=1".to_owned()] {
        for present in ["version=v1", "version=", "timeout=0s"] {
            assert_code(&node.get(&format!("n?{past}&{present}")), 400, "bad-parameter");
        }
        for (name, value) in [("ETag", "\"v1\""), ("If-None-Match", "*"), ("X-Last-Sync", "1")] {
            let request = get(&format!("n?{past}")).header(name, value);
            assert_code(&node.client().ask(&request), 400, "bad-parameter");
        }
    }
    assert_code(&node.get(&format!("n?revision={first}&at={first}")), 400, "bad-parameter");
    assert_eq!(node.parked(), 0);
}

#[test]
fn a_bad_value_of_a_parameter_is_an_error_that_names_it() {
    let node = Node::start();
    node.put("n?version=v1", "one").expect(204);
    const NO_STAMPS: [&str; 9] =
        ["", "x", "-1", "+1", "1.5", "1e9", "99999999999999999999", "%00", "2026-11-28T12:00:00Z"];
    for text in NO_STAMPS {
        let answers = [node.get(&format!("n?revision={text}")), history(&node, &format!("n?before={text}"))];
        answers.iter().for_each(|answer| assert_code(answer, 400, "bad-parameter"));
    }
    const NO_TIMES: [&str; 10] = [
        "x",
        "-1",
        "1.5",
        "-5m",
        "yesterday",
        "99999999999999999999",
        "2026-13-01T00:00:00Z",
        "2026-11-28",
        "12:00",
        "%00",
    ];
    for text in NO_TIMES.into_iter().chain(["", "5m", "now"]) {
        assert_code(&node.get(&format!("n?at={text}")), 400, "bad-parameter");
    }
    for text in NO_TIMES.into_iter().chain([""]) {
        assert_code(&compact(&node, &format!("?before={text}")), 400, "bad-parameter");
    }
    assert_code(&compact(&node, ""), 400, "bad-parameter");
    let later = now_us() + 60 * MINUTE_US;
    for text in [later.to_string(), rfc3339(later)] {
        assert_code(&compact(&node, &format!("?before={text}")), 400, "future-stamp");
    }
    for text in ["", "0", "101", "-1", "1.5", "x", "99999999999999999999", "%00"] {
        assert_code(&history(&node, &format!("n?limit={text}")), 400, "bad-parameter");
    }
    for text in ["", "0", "65", "256", "-1", "1.5", "x", "99999999999999999999", "%00"] {
        assert_code(&depth(&node, &format!("?versions={text}")), 400, "bad-parameter");
    }
    assert_code(&depth(&node, ""), 400, "bad-parameter");
    // twice, and with a typo
    for target in ["n?revision=1&revision=1", "n?at=1&at=2", "n?revison=1", "n?AT=1"] {
        assert_code(&node.get(target), 400, "bad-parameter");
    }
    for target in ["n?limit=1&limit=1", "n?before=1&before=1", "n?limits=1", "n?befor=1"] {
        assert_code(&history(&node, target), 400, "bad-parameter");
    }
    for query in ["?before=1&before=1", "?befor=1"] {
        assert_code(&compact(&node, query), 400, "bad-parameter");
    }
    for query in ["?versions=1&versions=1", "?version=1"] {
        assert_code(&depth(&node, query), 400, "bad-parameter");
    }
    assert_code(&history(&node, ""), 404, "no-such-path");
    assert_code(&history(&node, "%ff"), 400, "bad-name");
    // nothing of this changed anything
    assert_eq!(revisions(&node, "n").len(), 1);
    assert_eq!(node.cluster()["node"]["set"]["history_versions"], 8);
    assert_eq!(node.cluster()["node"]["set"]["compaction_horizon"], 0);
}

#[test]
fn each_path_is_on_one_port_and_takes_one_method() {
    // the page reads histories on the server port
    let node = Node::with(&["--page", "off"]);
    node.put("n?version=v1", "one").expect(204);
    for (target, is_client, allowed) in [
        ("/v1/history/n", true, "GET"),
        ("/v1/compact?before=now", false, "POST"),
        ("/v1/history-depth?versions=1", false, "PUT"),
    ] {
        let (own, other) = match is_client {
            true => (node.client_addr(), node.server_addr()),
            false => (node.server_addr(), node.client_addr()),
        };
        let ask = |port, method: &str| {
            cluster_tests::http::Connection::open(port).ask(&Request::new(method, target))
        };
        for method in ["GET", "PUT", "POST", "DELETE", "PATCH"] {
            assert_code(&ask(other, method), 404, "no-such-path");
            if method != allowed {
                let refused = ask(own, method);
                assert_code(&refused, 405, "method-not-allowed");
                let allow = refused.header("Allow").unwrap_or_default();
                assert!(allow.split(',').any(|one| one.trim() == allowed), "{target}: {allow}");
            }
        }
    }
    assert_eq!(node.cluster()["node"]["set"]["history_versions"], 8);
}

/// An answer without what depends on the time of the request.
fn timeless(answer: &Response) -> (u16, Vec<(String, String)>, Vec<u8>) {
    let depends = |name: &str| {
        ["date", "server-timing", "x-vwatch-genesis"].contains(&name.to_ascii_lowercase().as_str())
    };
    let headers = answer.headers.iter().filter(|(name, _)| !depends(name)).cloned().collect();
    (answer.status, headers, answer.body.clone())
}

/// What clients without histories know does not depend on how much a node keeps.
#[test]
fn reads_lists_and_long_polls_are_the_same_with_and_without_histories() {
    let nodes = ["1", "8"].map(|versions| Node::with(&["--history-versions", versions]));
    let start = minutes_ago(5);
    let writes: Vec<Request> = (0..60)
        .map(|i: u64| {
            let target = format!("n{}?modified={}", i % 5, start + i / 2 * 2);
            match i % 7 {
                3 => delete(&target),
                _ => put(&format!("{target}&version=v{}", i % 11)).body(format!("data {}", i % 11)),
            }
        })
        .collect();
    let both = |request: &Request| {
        let answers = [0, 1].map(|at: usize| timeless(&nodes[at].client().ask(request)));
        assert_eq!(answers[0], answers[1], "{request:?}");
        answers[0].clone()
    };
    let tag = |answer: &(u16, Vec<(String, String)>, Vec<u8>)| {
        let tag = answer.1.iter().find(|(name, _)| name.eq_ignore_ascii_case("etag"));
        tag.map_or(String::new(), |(_, tag)| tag.trim_matches('"').to_owned())
    };
    let park = |known: &str| {
        let request = get(&format!("n0?version={known}&timeout=1m"));
        let parked = [0, 1].map(|at: usize| nodes[at].watch(&request));
        nodes.iter().for_each(|node| node.wait_parked(1));
        parked
    };
    let (mut known, mut wakes) = (String::new(), 0);
    let mut parked = park(&known);
    for write in &writes {
        let answers = [0, 1].map(|at: usize| timeless(&nodes[at].server().ask(write)));
        assert_eq!(answers[0], answers[1], "{write:?}");
        let version = tag(&both(&get("n0")));
        if version != known {
            known = version;
            let woken = parked.map(|mut watcher| timeless(&watcher.answer()));
            assert_eq!(woken[0], woken[1], "{write:?}");
            assert_eq!(tag(&woken[0]), known);
            wakes += 1;
            parked = park(&known);
        }
    }
    assert!(wakes > 5, "{wakes}");
    let reads = (0..6).map(|i| get(&format!("n{i}")));
    let known = (0..6).map(|i| get(&format!("n{i}?version=v1&timeout=0s")));
    let matched = (0..6)
        .map(|i| get(&format!("n{i}?timeout=0s")).header("If-None-Match", "*").header("X-Last-Sync", "1"));
    let heads = (0..6).map(|i| Request::new("HEAD", &format!("/v1/versions/n{i}")));
    let lists = ["", "?keys-only", "?limit=2", "?prefix=n1", "?after=n1&limit=1"]
        .map(|query| Request::new("GET", &format!("/v1/versions{query}")));
    for request in reads.chain(known).chain(matched).chain(heads).chain(lists) {
        both(&request);
    }
    // and the histories differ
    assert_eq!(revisions(&nodes[0], "n1").len(), 1);
    assert_eq!(revisions(&nodes[1], "n1").len(), 8);
}

#[test]
fn a_name_keeps_as_many_versions_as_the_set_says() {
    let node = Node::with(&["--history-versions", "3"]);
    let first = minutes_ago(5);
    let stamps: Vec<u64> = (0..5).map(|i| first + i).collect();
    for (i, stamp) in stamps.iter().enumerate() {
        node.put(&format!("n?version=v{i}&modified={stamp}"), "x").expect(204);
    }
    assert_eq!(revisions(&node, "n"), [stamps[4], stamps[3], stamps[2]]);
    assert_eq!(history(&node, "n").json()["complete"], false);
    for query in [format!("revision={}", stamps[1]), format!("at={}", stamps[1]), "at=1".to_owned()] {
        assert_code(&node.get(&format!("n?{query}")), 410, "compacted");
    }
    // less shows less at once, more brings nothing back that is dropped
    let two_older = node.metric("vwatch_history_bytes");
    let answer = depth(&node, "?versions=2").expect(200);
    assert_eq!(answer.header("Content-Type"), Some("application/json"));
    let answer = answer.json();
    assert_eq!((&answer["versions"], &answer["least"]), (&json!(2), &json!(2)));
    assert!(answer["epoch"].as_u64().expect("µs").abs_diff(now_us()) < MINUTE_US);
    assert_eq!(node.metric("vwatch_history_versions"), 2.0);
    assert_eq!(revisions(&node, "n"), [stamps[4], stamps[3]]);
    assert_code(&node.get(&format!("n?revision={}", stamps[2])), 410, "compacted");
    // nothing shows it any more, and a little later it is gone
    wait_until("the third version to go", LIMIT, || node.metric("vwatch_history_bytes") < two_older);
    let answer = depth(&node, "?versions=64").expect(200).json();
    assert_eq!((&answer["versions"], &answer["least"]), (&json!(64), &json!(2)));
    assert_eq!(node.cluster()["node"]["set"]["history_versions"], 64);
    assert_eq!(revisions(&node, "n"), [stamps[4], stamps[3]]);
    assert_code(&node.get(&format!("n?revision={}", stamps[2])), 410, "compacted");
    for i in 0..70 {
        node.put(&format!("n?version=w{i}"), "x").expect(204);
    }
    assert_eq!(revisions(&node, "n").len(), 64);
}

#[test]
fn a_compaction_drops_older_versions_and_never_the_present_one() {
    let node = Node::start();
    let [first, second, third, fourth] = four(&node, "n");
    node.put(&format!("old?version=v1&modified={first}"), "x").expect(204);
    node.put(&format!("gone?version=v1&modified={first}"), "x").expect(204);
    node.delete(&format!("gone?modified={second}")).expect(204);
    let mut parked = node.watch(&get("n?version=v1&timeout=1m"));
    node.wait_parked(1);
    let compacted = compact(&node, &format!("?before={}", rfc3339(third))).expect(200);
    assert_eq!(compacted.header("Content-Type"), Some("application/json"));
    assert_eq!(compacted.json(), json!({"horizon": third, "asked": third, "held_by": null}));
    wait_until("older versions to go", LIMIT, || revisions(&node, "n") == [fourth, third]);
    assert_eq!(history(&node, "n").json()["complete"], false);
    assert_eq!((revisions(&node, "old"), revisions(&node, "gone")), (vec![first], vec![second]));
    for query in [format!("revision={first}"), format!("at={second}"), format!("at={}", third - 1)] {
        assert_code(&node.get(&format!("n?{query}")), 410, "compacted");
    }
    assert_code(&node.get(&format!("n?at={third}")), 410, "deleted");
    assert_code(&node.get(&format!("n?revision={}", third + 1)), 404, "revision-unknown");
    // it only rises
    let again = compact(&node, "?before=1h").expect(200).json();
    assert_eq!((&again["horizon"], &again["held_by"]), (&json!(third), &Value::Null));
    // up to the clock, with what a client may still write
    let now = now_us();
    let answer = compact(&node, "?before=now").expect(200).json();
    let horizon = answer["horizon"].as_u64().expect("µs");
    assert_eq!(answer["held_by"], "clock");
    assert!(horizon < answer["asked"].as_u64().expect("µs"), "{answer}");
    assert!((now - 10 * 1_000_000..now_us()).contains(&horizon), "{horizon} at {now}");
    assert_eq!(node.cluster()["node"]["set"]["compaction_horizon"], horizon);
    wait_until("all older versions to go", LIMIT, || node.metric("vwatch_history_bytes") == 0.0);
    assert_eq!(revisions(&node, "n"), [fourth]);
    assert_past(&node.get(&format!("n?revision={fourth}")), "v1", "one", fourth);
    // a name of which nothing is known may have been compacted
    assert_code(&node.get("never?at=1"), 410, "compacted");
    assert_code(&history(&node, "never"), 404, "not-found");
    // the reader of the present noticed nothing
    assert!(!parked.has_news());
    node.put("n?version=v3", "three").expect(204);
    assert_eq!(parked.answer().expect(200).version(), Some("v3"));
}

#[test]
fn an_age_bounds_the_histories() {
    let node = Node::with(&["--history-age", "10m"]);
    let now = minutes_ago(0);
    let stamps = [30, 20, 5, 1].map(|minutes| now - minutes * MINUTE_US);
    for stamp in stamps {
        node.put(&format!("n?version=v{stamp}&modified={stamp}"), "x").expect(204);
    }
    wait_until("what is too old to go", LIMIT, || revisions(&node, "n") == [stamps[3], stamps[2]]);
    assert_code(&node.get(&format!("n?revision={}", stamps[0])), 410, "compacted");
}

#[test]
fn bytes_bound_the_histories() {
    const MOST: f64 = 40_000.0;
    let node = Node::with(&["--max-history-bytes", "40000"]);
    let data = vec![b'x'; 4000];
    let mut server = node.server();
    // a minute may pass meanwhile
    let start = minutes_ago(20);
    for minute in 0..8 {
        let stamp = start + minute * MINUTE_US;
        for name in 0..5 {
            server.ask(&put(&format!("n{name}?version=v{minute}&modified={stamp}")).body(&data)).expect(204);
        }
    }
    wait_until("the oldest to go", LIMIT, || node.metric("vwatch_history_bytes") <= MOST);
    assert!(node.metric("vwatch_history_bytes") > 0.0, "only the oldest go");
    for name in 0..5 {
        assert_eq!(node.get(&format!("n{name}")).expect(200).version(), Some("v7"));
        assert_eq!(
            node.get(&format!("n{name}?at={}", start + 6 * MINUTE_US)).expect(200).version(),
            Some("v6")
        );
        assert_code(&node.get(&format!("n{name}?at={start}")), 410, "compacted");
    }
}

#[test]
fn older_versions_make_room_in_a_full_set() {
    let node = Node::with(&["--max-set-bytes", "131072", "--max-history-bytes", "131072"]);
    let data = vec![b'x'; 4000];
    let mut server = node.server();
    // 80 records of 4,000 bytes, of which 10 are present
    let start = minutes_ago(20);
    for minute in 0..8 {
        let stamp = start + minute * MINUTE_US;
        for name in 0..10 {
            server.ask(&put(&format!("n{name}?version=v{minute}&modified={stamp}")).body(&data)).expect(204);
        }
    }
    assert!(node.metric("vwatch_set_bytes") <= 131_072.0);
    assert!(node.metric("vwatch_history_bytes") > 0.0);
    // new names take the place of all that is older
    for name in 10..25 {
        server.ask(&put(&format!("n{name}?version=v0")).body(&data)).expect(204);
    }
    assert_eq!(node.metric("vwatch_limit_hits_total{limit=\"set_bytes\"}"), 0.0);
    for name in 0..10 {
        assert_eq!(node.get(&format!("n{name}")).expect(200).version(), Some("v7"));
    }
    // and then the set is full
    let full = (25..100).map(|name| server.ask(&put(&format!("n{name}?version=v0")).body(&data)));
    let refused = full.into_iter().find(|answer| answer.status != 204).expect("100 of 4,000 do not fit");
    assert_code(&refused, 507, "set-full");
}

#[test]
fn versions_of_a_mebibyte_are_kept_as_far_as_one_message_goes() {
    const MIB: usize = 1 << 20;
    let node = Node::with(&["--data-limit-bytes", "1048576"]);
    let write = |name: &str, version: usize, bytes: usize| {
        let data = vec![b'a' + u8::try_from(version).expect("few"); bytes];
        node.put(&format!("{name}?version=v{version}"), data).expect(204).last_sync().expect("a stamp")
    };
    // above each of these stands 1 MiB already
    let whole: Vec<u64> = (0..3).map(|version| write("whole", version, MIB)).collect();
    assert_eq!(revisions(&node, "whole"), [whole[2]]);
    assert_code(&node.get(&format!("whole?revision={}", whole[1])), 410, "compacted");
    // and above the second of these a little less
    let less: Vec<u64> = (0..3).map(|version| write("less", version, MIB - 1000)).collect();
    let page = history(&node, "less").expect(200);
    assert!(page.body.len() > 2 * MIB, "{}", page.body.len());
    assert_eq!(revisions(&node, "less"), [less[2], less[1]]);
    assert_eq!(page.json()["complete"], false);
    let older = node.get(&format!("less?revision={}", less[1])).expect(200);
    assert_eq!((older.body.len(), older.body[0]), (MIB - 1000, b'b'));
    assert_code(&node.get(&format!("less?revision={}", less[0])), 410, "compacted");
    let halves: Vec<u64> = (0..4).map(|version| write("halves", version, MIB / 2)).collect();
    assert_eq!(revisions(&node, "halves"), [halves[3], halves[2]]);
}
