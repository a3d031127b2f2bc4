//! Checkpoints: where readers are, and what a compaction leaves for them.

use cluster_tests::feed::{all, batch};
use cluster_tests::http::{Request, Response};
use cluster_tests::node::{Node, put};
use cluster_tests::text::{assert_refusal, now_us, rfc3339, rfc3339_us};
use cluster_tests::wait::{LIMIT, wait_until};
use serde_json::{Value, json};

const MINUTE_US: u64 = 60_000_000;
const PLAIN: &str = "/v1/checkpoints";

fn server(node: &Node, method: &str, target: &str, body: &str) -> Response {
    node.server().ask(&Request::new(method, target).body(body))
}

fn set(node: &Node, id: &str, since: &str) -> Response {
    server(node, "PUT", &format!("{PLAIN}/{id}"), since)
}

fn read(node: &Node, id: &str) -> Response {
    node.server().ask(&Request::new("GET", &format!("{PLAIN}/{id}")))
}

fn listed(node: &Node, target: &str) -> Vec<Value> {
    let page = node.server().ask(&Request::new("GET", target)).expect(200).json();
    page["checkpoints"].as_array().expect("a list").clone()
}

fn ids(node: &Node, target: &str) -> Vec<String> {
    listed(node, target).iter().map(|one| one["id"].as_str().expect("an id").to_owned()).collect()
}

fn compact(node: &Node, before: u64) -> Value {
    server(node, "POST", &format!("/v1/compact?before={before}"), "").expect(200).json()
}

/// A cursor of a watch of every name.
fn cursor(node: &Node) -> String {
    all(node, "prefix=&mode=all&since=now&timeout=0s").1
}

/// Demands an error with this status and code.
#[track_caller]
fn assert_code(answer: &Response, status: u16, code: &str) {
    assert_refusal(answer, status);
    assert_eq!(answer.header("X-Vwatch-Error"), Some(code), "{answer:?}");
}

#[test]
fn a_checkpoint_is_given_as_it_was_sent() {
    let node = Node::start();
    assert_code(&read(&node, "r"), 404, "not-found");
    let cursor = cursor(&node);
    for since in [&cursor[..], "oldest", "at:1700000000000000", "after:2025-03-13T03:48:12Z"] {
        let written = set(&node, "r", &format!(" {since}\n")).expect(204);
        let got = read(&node, "r").expect(200);
        assert_eq!((got.text(), got.last_sync()), (since, written.last_sync()));
        assert!(written.last_sync().is_some() && written.version().is_none(), "{written:?}");
        assert_eq!(got.header("Last-Modified"), written.header("Last-Modified"));
        assert_eq!(got.header("Content-Type"), Some("text/plain; charset=utf-8"));
        assert_eq!(got.header("Cache-Control"), Some("no-store"));
        assert_eq!((got.header("X-Vwatch-Expired"), got.header("ETag")), (None, None));
        let head = node.server().ask(&Request::new("HEAD", &format!("{PLAIN}/r")));
        assert_eq!((head.status, head.last_sync()), (200, got.last_sync()));
    }
    // it is a place to go on from
    set(&node, "r", &cursor).expect(204);
    node.put("n?version=v1", "").expect(204);
    let since = read(&node, "r").expect(200);
    let told = batch(&node, &format!("prefix=&mode=all&since={}", since.text())).told();
    assert_eq!(told, ["n=v1"]);
    server(&node, "DELETE", &format!("{PLAIN}/r"), "").expect(204);
    assert_code(&read(&node, "r"), 404, "not-found");
    assert_code(&server(&node, "DELETE", &format!("{PLAIN}/r"), ""), 404, "not-found");
    set(&node, "r", "oldest").expect(204);
    assert_eq!(read(&node, "r").expect(200).text(), "oldest");
}

#[test]
fn the_list_says_what_each_holds_and_until_when() {
    let node = Node::with(&["--checkpoint-expiry", "1h"]);
    assert_eq!(listed(&node, PLAIN), [] as [Value; 0]);
    let at = now_us() - 30 * MINUTE_US;
    let other = Node::start();
    for (id, since) in [
        ("c", "oldest".to_owned()),
        ("a", format!("at:{at}")),
        ("b", format!("after:{at}")),
        ("b.other", cursor(&other)),
        ("b-cursor", cursor(&node)),
    ] {
        set(&node, id, &since).expect(204);
    }
    server(&node, "PUT", "/v1/ns/team/checkpoints/t", "oldest").expect(204);
    assert_eq!(ids(&node, PLAIN), ["a", "b", "b-cursor", "b.other", "c"]);
    assert_eq!(ids(&node, "/v1/checkpoints?prefix=b&limit=2&after=b"), ["b-cursor", "b.other"]);
    assert_eq!(ids(&node, "/v1/ns/team/checkpoints"), ["t"]);
    assert_eq!(ids(&node, "/v1/ns/other/checkpoints"), [] as [&str; 0]);
    let all = listed(&node, PLAIN);
    let written = read(&node, "a").expect(200).last_sync().expect("a stamp");
    let expected = json!({
        "id": "a", "since": format!("at:{at}"), "holds": at, "holds_time": rfc3339(at),
        "written": rfc3339(written), "expires": rfc3339(written + 60 * MINUTE_US),
        "expired": false, "other_set": false,
    });
    assert_eq!(all[0], expected);
    assert_eq!((&all[1]["holds"], &all[4]["holds"]), (&json!(at + 1), &Value::Null));
    assert_eq!((&all[3]["holds"], &all[3]["other_set"]), (&Value::Null, &json!(true)));
    assert_eq!(all[2]["other_set"], false);
    assert!(all[2]["holds"].is_u64(), "{all:?}");

    let page = node.server().ask(&Request::new("GET", "/v1/ns/team/checkpoints?limit=1")).expect(200);
    assert_eq!(page.header("Link"), None);
    let page = node.server().ask(&Request::new("GET", "/v1/checkpoints?limit=1&prefix=b")).expect(200);
    let link = page.header("Link").expect("more").to_owned();
    let next = link.strip_prefix('<').and_then(|link| link.split_once('>')).expect("a target").0;
    assert_eq!(ids(&node, next), ["b-cursor"]);
}

#[test]
fn what_is_no_checkpoint_is_refused_and_changes_nothing() {
    let node = Node::start();
    set(&node, "r", "oldest").expect(204);
    let cursor = cursor(&node);
    let damaged = format!("{}x", &cursor[..cursor.len() - 1]);
    let future = format!("at:{}", now_us() + MINUTE_US);
    for (body, code) in [
        ("", "bad-cursor"),
        ("  \n", "bad-cursor"),
        ("now", "bad-cursor"),
        ("latest", "bad-cursor"),
        ("c1.", "bad-cursor"),
        (&damaged, "bad-cursor"),
        (&cursor[..20], "bad-cursor"),
        (&format!("{cursor} {cursor}"), "bad-cursor"),
        ("at:", "bad-cursor"),
        ("at:now", "bad-cursor"),
        ("after:-1", "bad-cursor"),
        ("at:1h", "bad-cursor"),
        ("1700000000000000", "bad-cursor"),
        ("c1.\u{1b}[2J", "bad-cursor"),
        (&future, "future-stamp"),
        ("after:2099-01-01T00:00:00Z", "future-stamp"),
    ] {
        assert_code(&set(&node, "r", body), 400, code);
        assert_code(&set(&node, "new", body), 400, code);
    }
    let invalid = Request::new("PUT", &format!("{PLAIN}/r")).body(b"at:\xff");
    assert_code(&node.server().ask(&invalid), 400, "bad-cursor");
    let said = set(&node, "r", "now");
    assert!(said.text().contains("since=now"), "{}", said.text());
    assert_code(&set(&node, "r", &"x".repeat(16 * 1024 + 1)), 413, "too-large");
    assert_code(&set(&node, "r", &"x".repeat(16 * 1024)), 400, "bad-cursor");
    assert_eq!(node.metric("vwatch_limit_hits_total{limit=\"checkpoint_bytes\"}"), 1.0);

    let longest = "x".repeat(128);
    set(&node, &longest, "oldest").expect(204);
    for id in ["", "A", "a_b", "a/b", "a%2Fb", "%C3%A9", "%ff", "a%01", "a%20", "%zz", &"x".repeat(129)] {
        for method in ["PUT", "GET", "DELETE"] {
            let answer = server(&node, method, &format!("{PLAIN}/{id}"), "oldest");
            assert_code(&answer, 400, "bad-name");
        }
    }
    for namespace in [".checkpoints", "A", ""] {
        for below in ["checkpoints", "checkpoints/r"] {
            let answer = server(&node, "GET", &format!("/v1/ns/{namespace}/{below}"), "");
            assert_code(&answer, 400, "bad-namespace");
        }
    }
    for (query, code) in [
        ("modified=1700000000000000", "bad-parameter"),
        ("version=v1", "bad-parameter"),
        ("vresion=v1", "bad-parameter"),
    ] {
        assert_code(&set(&node, &format!("r?{query}"), "oldest"), 400, code);
    }
    for (header, code) in [
        ("ETag", "bad-parameter"),
        ("Last-Modified", "bad-parameter"),
        ("If-Match", "conditional-write"),
        ("If-None-Match", "conditional-write"),
    ] {
        for method in ["PUT", "DELETE"] {
            let request = Request::new(method, &format!("{PLAIN}/r")).header(header, "*").body("oldest");
            assert_code(&node.server().ask(&request), 400, code);
        }
    }
    for query in ["limit=0", "limit=x", "prefix=a&prefix=b", "perfix=a", "after=%ff"] {
        let answer = node.server().ask(&Request::new("GET", &format!("{PLAIN}?{query}")));
        assert_code(&answer, 400, "bad-parameter");
    }
    assert_code(&server(&node, "POST", &format!("{PLAIN}/r"), "oldest"), 405, "method-not-allowed");
    assert_code(&server(&node, "PUT", PLAIN, "oldest"), 405, "method-not-allowed");
    assert_code(&node.client().ask(&Request::new("GET", PLAIN)), 404, "no-such-path");
    assert_eq!(ids(&node, PLAIN), ["r", &longest]);
    assert_eq!(read(&node, "r").expect(200).text(), "oldest");
}

#[test]
fn a_node_accepts_a_thousand() {
    let node = Node::with(&["--data-limit-bytes", "1"]);
    let mut connection = node.server();
    let mut set = |target: &str| connection.ask(&Request::new("PUT", target).body("oldest"));
    for i in 0..1_000 {
        // those of all namespaces count
        let namespace = if i % 2 == 0 { "/v1" } else { "/v1/ns/team" };
        set(&format!("{namespace}/checkpoints/c{i:04}")).expect(204);
    }
    assert_code(&set("/v1/checkpoints/one-more"), 507, "too-many-checkpoints");
    assert_code(&set("/v1/ns/team/checkpoints/one-more"), 507, "too-many-checkpoints");
    assert_eq!(node.metric("vwatch_limit_hits_total{limit=\"checkpoints\"}"), 2.0);
    assert_eq!(node.metric("vwatch_checkpoints{state=\"live\"}"), 1_000.0);
    set("/v1/checkpoints/c0000").expect(204);
    server(&node, "DELETE", "/v1/checkpoints/c0000", "").expect(204);
    set("/v1/checkpoints/one-more").expect(204);
    assert_code(&set("/v1/checkpoints/c0000"), 507, "too-many-checkpoints");
    assert_eq!(ids(&node, PLAIN).len(), 500);
}

#[test]
fn readers_of_names_do_not_see_checkpoints() {
    let node = Node::start();
    let cursors = ["latest", "all"].map(|mode| all(&node, &format!("prefix=&mode={mode}&since=now")).1);
    node.put("n?version=v1", "").expect(204);
    for (target, id) in [("/v1/checkpoints", "one"), ("/v1/ns/team/checkpoints", "two")] {
        server(&node, "PUT", &format!("{target}/{id}"), "oldest").expect(204);
        server(&node, "PUT", &format!("{target}/gone"), "oldest").expect(204);
        server(&node, "DELETE", &format!("{target}/gone"), "").expect(204);
    }
    let page = |target: &str| node.client().ask(&Request::new("GET", target)).expect(200);
    let names = page("/v1/versions").json();
    assert_eq!(names["versions"].as_array().map(Vec::len), Some(1), "{names}");
    assert_eq!(page("/v1/ns").json(), json!({"namespaces": []}));
    assert_eq!(page("/v1/ns/team/versions").json()["versions"], json!([]));
    for (mode, cursor) in ["latest", "all"].iter().zip(&cursors) {
        assert_eq!(all(&node, &format!("prefix=&mode={mode}&since={cursor}&timeout=0s")).0, ["n=v1"]);
        assert_eq!(all(&node, &format!("prefix=&mode={mode}&since=oldest")).0, ["n=v1", "synced"]);
    }
    let set = node.server().ask(&Request::new("POST", "/v1/versions").body(r#"{"versions":[],"peers":[]}"#));
    assert_eq!(set.expect(200).json().as_array().map(Vec::len), Some(1));
    for namespace in [".checkpoints", "%2echeckpoints"] {
        for resource in ["versions", "versions/%2Fone", "watch?prefix=", "history/%2Fone"] {
            let answer = node.client().ask(&Request::new("GET", &format!("/v1/ns/{namespace}/{resource}")));
            assert_code(&answer, 400, "bad-namespace");
        }
        let answer = server(&node, "PUT", &format!("/v1/ns/{namespace}/versions/%2Fone"), "oldest");
        assert_code(&answer, 400, "bad-namespace");
    }
    assert_eq!((node.metric("vwatch_set_values"), node.metric("vwatch_namespaces")), (1.0, 0.0));
    assert_eq!(node.cluster()["node"]["values"], 1);
    assert_eq!(node.metric("vwatch_checkpoints{state=\"live\"}"), 2.0);
}

/// Versions of a name from 40 to 31 minutes ago. Returns their stamps.
fn ten(node: &Node) -> Vec<u64> {
    let start = (now_us() / MINUTE_US - 40) * MINUTE_US;
    let stamps: Vec<u64> = (0..10).map(|i| start + i * MINUTE_US).collect();
    for (i, stamp) in stamps.iter().enumerate() {
        node.put(&format!("n?version=v{i}&modified={stamp}"), "data").expect(204);
    }
    stamps
}

fn versions(node: &Node) -> usize {
    let history = node.client().ask(&Request::new("GET", "/v1/history/n")).expect(200).json();
    history["versions"].as_array().map_or(0, Vec::len)
}

#[test]
fn a_compaction_waits_for_the_checkpoint_that_needs_the_most() {
    let node = Node::with(&["--history-versions", "20"]);
    let stamps = ten(&node);
    set(&node, "near", &format!("at:{}", stamps[8])).expect(204);
    server(&node, "PUT", "/v1/ns/team/checkpoints/far", &format!("at:{}", stamps[3])).expect(204);
    set(&node, "none", "oldest").expect(204);
    let asked = stamps[9] + MINUTE_US;
    let first = compact(&node, asked);
    assert_eq!(first, json!({"horizon": stamps[3], "asked": asked, "held_by": "checkpoint far of team"}));
    wait_until("what is not held back to go", LIMIT, || versions(&node) == 7);
    let history = &node.cluster()["history"];
    assert_eq!(
        (&history["versions"], &history["least"], &history["compaction_horizon"], &history["checkpoints"]),
        (&json!(20), &json!(20), &json!(stamps[3]), &json!(3))
    );
    let holder = &history["held_by"];
    assert_eq!(
        (&holder["checkpoint"], &holder["namespace"], &holder["from"]),
        (&json!("far"), &json!("team"), &json!(stamps[3]))
    );
    let written = listed(&node, "/v1/ns/team/checkpoints")[0]["written"].as_str().map(rfc3339_us);
    assert_eq!(holder["written"].as_u64(), written);
    assert_eq!(holder["expires"].as_u64(), written.map(|us| us + 24 * 60 * MINUTE_US));
    let held_s = node.metric("vwatch_checkpoint_hold_seconds");
    assert!((held_s - (now_us() - stamps[3]) as f64 / 1e6).abs() < 60.0, "{held_s}");

    server(&node, "DELETE", "/v1/ns/team/checkpoints/far", "").expect(204);
    assert_eq!(
        compact(&node, asked),
        json!({"horizon": stamps[8], "asked": asked, "held_by": "checkpoint near"})
    );
    wait_until("what is not held back to go", LIMIT, || versions(&node) == 2);
    // a reader that has gone on writes its checkpoint again
    set(&node, "near", &format!("after:{}", stamps[9])).expect(204);
    assert_eq!(compact(&node, stamps[9])["held_by"], Value::Null);
    wait_until("the older ones to go", LIMIT, || versions(&node) == 1);
}

#[test]
fn an_expired_checkpoint_is_kept_and_holds_nothing_back() {
    let node = Node::with(&["--checkpoint-expiry", "8s"]);
    let stamps = ten(&node);
    set(&node, "r", &format!("at:{}", stamps[0])).expect(204);
    let asked = stamps[9];
    let first = compact(&node, asked);
    assert_eq!((&first["held_by"], &first["horizon"]), (&json!("checkpoint r"), &json!(stamps[0])));
    wait_until("it to expire", LIMIT, || node.metric("vwatch_checkpoints{state=\"expired\"}") == 1.0);
    let one = &listed(&node, PLAIN)[0];
    assert_eq!((&one["expired"], &one["holds"]), (&json!(true), &Value::Null));
    let got = read(&node, "r").expect(200);
    assert_eq!((got.header("X-Vwatch-Expired"), got.text()), (Some("true"), &*format!("at:{}", stamps[0])));
    let history = node.cluster()["history"].clone();
    assert_eq!((&history["held_by"], &history["expired_checkpoints"]), (&Value::Null, &json!(1)));
    assert_eq!(node.metric("vwatch_checkpoint_hold_seconds"), 0.0);
    assert_eq!(compact(&node, asked), json!({"horizon": asked, "asked": asked, "held_by": null}));
    // written again it holds what is left
    set(&node, "r", &format!("at:{asked}")).expect(204);
    assert_eq!(read(&node, "r").expect(200).header("X-Vwatch-Expired"), None);
}

#[test]
fn a_lack_of_memory_waits_for_no_checkpoint() {
    let node = Node::with(&["--max-history-bytes", "20000"]);
    set(&node, "r", "at:1").expect(204);
    let start = (now_us() / MINUTE_US - 40) * MINUTE_US;
    let mut server = node.server();
    let data = vec![b'x'; 4000];
    for i in 0..8 {
        let stamp = start + i * MINUTE_US;
        for name in ["a", "b"] {
            server.ask(&put(&format!("{name}?version=v{i}&modified={stamp}")).body(&data)).expect(204);
        }
    }
    wait_until("the oldest to go", LIMIT, || node.metric("vwatch_history_bytes") <= 20_000.0);
    let history = node.cluster()["history"].clone();
    assert_eq!((&history["max_bytes"], &history["held_by"]["checkpoint"]), (&json!(20_000), &json!("r")));
    assert!(history["compaction_horizon"].as_u64() > Some(start), "{history}");
}

#[test]
fn a_follower_has_no_checkpoints_of_its_own() {
    let leader = Node::start();
    let follower = Node::with(&["--fill-from", &format!("http://{}", leader.client_addr())]);
    for method in ["PUT", "DELETE"] {
        let answer = server(&follower, method, &format!("{PLAIN}/r"), "oldest");
        assert_code(&answer, 405, "method-not-allowed");
        assert_eq!(answer.header("Allow"), Some("GET, HEAD"));
    }
    assert_code(&read(&follower, "r"), 404, "not-found");
    assert_eq!(ids(&follower, PLAIN), [] as [&str; 0]);
}
