//! Watches of many names at one node, in batches.

use std::time::{Duration, Instant};

use cluster_tests::feed::{Batch, all, batch, watch};
use cluster_tests::http::{Connection, Request, Response};
use cluster_tests::node::{Node, delete, put};
use cluster_tests::text::{assert_refusal, now_us, rfc3339};
use cluster_tests::wait::LIMIT;
use serde_json::{Value, json};

/// Demands an error with this status and code.
#[track_caller]
fn assert_code(answer: &Response, status: u16, code: &str) {
    assert_refusal(answer, status);
    assert_eq!(answer.header("X-Vwatch-Error"), Some(code), "{answer:?}");
}

fn ask(node: &Node, query: &str) -> Response {
    node.client().ask(&watch(query))
}

fn post(body: impl AsRef<[u8]>) -> Request {
    Request::new("POST", "/v1/watch").header("Content-Type", "application/json").body(body)
}

/// Sends a watch, and waits until it is parked beside `others`.
#[track_caller]
fn parked(node: &Node, request: &Request, others: usize) -> Connection {
    let connection = node.watch(request);
    cluster_tests::wait::wait_until("a parked watch", LIMIT, || parked_feeds(node) == others + 1);
    connection
}

fn parked_feeds(node: &Node) -> usize {
    node.metric("vwatch_parked_feeds") as usize
}

fn write(node: &Node, names: &[&str]) {
    for name in names {
        node.put(&format!("{name}?version=v"), name).expect(204);
    }
}

#[test]
fn a_snapshot_has_what_stands_and_then_what_changes() {
    let node = Node::start();
    let first = node.put("a/1?version=v1", "3456").expect(204).last_sync().expect("a stamp");
    write(&node, &["a/2", "b/1", "c"]);
    node.delete("a/2").expect(204);
    let snapshot = batch(&node, "prefix=a/&name=c&name=never");
    assert_eq!(snapshot.told(), ["a/1=v1", "c=v", "synced"]);
    let expected = json!({
        "type": "put", "name": "a/1", "version": "v1", "revision": first, "last-sync": rfc3339(first),
        "data": "MzQ1Ng==", "created": true, "initial": true, "current": true, "refresh": false,
    });
    assert_eq!(snapshot.events()[0], expected);
    assert_eq!((snapshot.more(), &snapshot.0["behind"]), (false, &json!(0)));
    assert!(snapshot.0["now"].as_u64().is_some_and(|now| now.abs_diff(now_us()) < 60_000_000));

    let query = format!("prefix=a/&name=c&name=never&since={}", snapshot.cursor());
    assert_eq!(batch(&node, &format!("{query}&timeout=0s")).told(), Vec::<String>::new());
    let mut waiting = parked(&node, &watch(&format!("{query}&timeout=1m")), 0);
    write(&node, &["b/2"]);
    let deleted = node.delete("a/1").expect(204).last_sync().expect("a stamp");
    let woken = Batch::of(waiting.answer());
    assert_eq!(woken.told(), ["-a/1"], "and nothing of other names");
    let expected = json!({
        "type": "delete", "name": "a/1", "version": null, "revision": deleted, "last-sync": rfc3339(deleted),
        "data": null, "initial": false, "current": true, "refresh": false,
    });
    assert_eq!(woken.events()[0], expected);
    node.put("c?version=v2", "").expect(204);
    node.put("c?version=v3", "").expect(204);
    let (told, cursor) = all(&node, &query);
    assert_eq!(told, ["-a/1", "c=v3"], "the newest of each name since the cursor");
    // the same parts in another form are the same scope
    assert_eq!(
        batch(&node, &format!("name=never&name=c&prefix=a/&prefix=a/b&since={cursor}&timeout=0s")).told(),
        Vec::<String>::new()
    );
}

#[test]
fn an_empty_scope_answers_at_once_and_a_wait_ends_at_its_time() {
    let node = Node::start();
    let empty = batch(&node, "prefix=none/&timeout=1m");
    assert_eq!((empty.told(), empty.more()), (vec!["synced".to_owned()], false));
    let started = Instant::now();
    let query = format!("prefix=none/&since={}&timeout=200ms", empty.cursor());
    let idle = batch(&node, &query);
    assert!(started.elapsed() >= Duration::from_millis(200));
    assert_eq!((idle.events().len(), idle.more()), (0, false));
    let now = batch(&node, "prefix=&since=now&timeout=0s");
    assert!(now.events().is_empty());
    write(&node, &["n"]);
    assert_eq!(batch(&node, &format!("prefix=&since={}", now.cursor())).told(), ["n=v"]);
    // an empty place to begin is none
    assert_eq!(batch(&node, "prefix=&since=").told(), ["n=v", "synced"]);
}

#[test]
fn every_version_is_told_in_mode_all() {
    let node = Node::with(&["--history-versions=3"]);
    for version in ["v1", "v2", "v3", "v4"] {
        node.put(&format!("n?version={version}"), "").expect(204);
    }
    node.delete("n").expect(204);
    assert_eq!(all(&node, "name=n&mode=all&since=oldest").0, ["n=v3", "n=v4", "-n", "synced"]);
    let now = batch(&node, "name=n&mode=all&since=now&timeout=0s");
    let query = format!("name=n&mode=all&since={}", now.cursor());
    for version in ["w1", "w2", "w3", "w4", "w5"] {
        node.put(&format!("n?version={version}"), "").expect(204);
    }
    let (told, cursor) = all(&node, &query);
    assert_eq!(told, ["n=w1", "n=w2", "n=w3", "n=w4", "n=w5"], "from the ring, although the set keeps three");
    assert_eq!(batch(&node, &query).events()[0]["created"], Value::Null, "what stood before it is not kept");
    let old = now_us();
    node.put(&format!("n?version=w6&modified={old}"), "same").expect(204);
    node.put("n?version=w6", "same").expect(204);
    let again = batch(&node, &format!("name=n&mode=all&since={cursor}"));
    let refresh: Vec<_> = again.events().iter().map(|event| (&event["refresh"], &event["current"])).collect();
    assert_eq!(refresh, [(&json!(false), &json!(false)), (&json!(true), &json!(true))]);
}

#[test]
fn kinds_and_forms_are_chosen() {
    let node = Node::start();
    node.put("a?version=v1", "text\u{e9}").expect(204);
    node.put("b?version=v1", b"\xff\x00").expect(204);
    let now = batch(&node, "prefix=&since=now&timeout=0s&types=create");
    let both = batch(&node, "prefix=&since=now&timeout=0s&types=delete,update");
    node.put("a?version=v2", "").expect(204);
    node.put("c?version=v1", "").expect(204);
    node.delete("b").expect(204);
    assert_eq!(batch(&node, &format!("prefix=&types=create&since={}", now.cursor())).told(), ["c=v1"]);
    let told = batch(&node, &format!("prefix=&types=update,delete&since={}", both.cursor())).told();
    assert_eq!(told, ["a=v2", "-b"]);
    node.put("a?version=v3", "text\u{e9}").expect(204);
    node.put("b?version=v2", b"\xff\x00").expect(204);
    let data = |form: &str| {
        let events = batch(&node, &format!("prefix=&data={form}"));
        let of = |event: &Value| (event["data"].clone(), event["encoding"].clone());
        events.events().iter().take(2).map(of).collect::<Vec<_>>()
    };
    let none = Value::Null;
    assert_eq!(data("base64"), [(json!("dGV4dMOp"), none.clone()), (json!("/wA="), none.clone())]);
    assert_eq!(data("text"), [(json!("text\u{e9}"), none.clone()), (json!("/wA="), json!("base64"))]);
    assert_eq!(data("none"), [(none.clone(), none.clone()), (none.clone(), none)]);
}

#[test]
fn a_start_may_be_a_time() {
    let node = Node::start();
    let start = now_us() - 60_000_000;
    for (name, ago) in [("a", 0), ("b", 1), ("c", 2)] {
        node.put(&format!("{name}?version=v&modified={}", start + ago), "").expect(204);
    }
    let from = |since: &str| all(&node, &format!("prefix=&mode=all&since={since}")).0;
    assert_eq!(from(&format!("at:{}", start + 1)), ["b=v", "c=v", "synced"]);
    assert_eq!(from(&format!("after:{}", start + 1)), ["c=v", "synced"]);
    assert_eq!(from(&format!("at:{}", rfc3339(start + 2))), ["c=v", "synced"]);
    let future = ask(&node, &format!("prefix=&since=at:{}", now_us() + 60_000_000));
    assert_code(&future, 400, "future-stamp");
}

#[test]
fn a_batch_has_a_limit_and_goes_on_by_its_cursor() {
    let node = Node::with(&["--data-limit-bytes=1048576"]);
    let names: Vec<String> = (0..25).map(|i| format!("n{i:02}")).collect();
    write(&node, &names.iter().map(String::as_str).collect::<Vec<_>>());
    let mut told = Vec::new();
    let mut query = "prefix=n&limit=10".to_owned();
    let sizes: Vec<usize> = std::iter::from_fn(|| {
        let batch = batch(&node, &query);
        query = format!("prefix=n&limit=10&since={}", batch.cursor());
        told.extend(batch.told());
        (told.last().map(String::as_str) != Some("synced") || batch.events().len() > 1)
            .then(|| batch.events().len())
    })
    .take_while(|size| *size > 0)
    .collect();
    assert!(sizes.iter().all(|size| *size <= 11), "{sizes:?}");
    let mut expected: Vec<String> = names.iter().map(|name| format!("{name}=v")).collect();
    expected.push("synced".to_owned());
    assert_eq!(told, expected);
    // by bytes
    let large = vec![b'x'; 1 << 20];
    for name in ["l1", "l2", "l3", "l4", "l5", "l6"] {
        node.put(&format!("{name}?version=v"), &large).expect(204);
    }
    let first = batch(&node, "prefix=l");
    assert!(first.more() && (3..6).contains(&first.events().len()), "{:?}", first.told());
    assert_eq!(all(&node, "prefix=l").0.len(), 7);
    assert_eq!(batch(&node, "prefix=l&data=none").events().len(), 7, "data that is not sent does not count");
}

#[test]
fn a_list_leads_up_to_its_cursor() {
    let node = Node::start();
    write(&node, &["a/1", "a/2", "a/3", "b"]);
    let list = |target: &str| node.client().ask(&Request::new("GET", target)).expect(200);
    let plain = list("/v1/versions?prefix=a/&limit=2");
    assert!(plain.json().get("cursor").is_none() && !plain.header("Link").unwrap().contains("cursor"));
    for mode in ["latest", "all"] {
        let plain = list("/v1/versions?prefix=a/&limit=2");
        let first = list(&format!("/v1/versions?prefix=a/&limit=2&cursor={mode}"));
        let cursor = first.json()["cursor"].as_str().expect("a cursor").to_owned();
        let expected = format!(
            "{}{}",
            plain.text().strip_suffix('}').unwrap(),
            format_args!(",\"cursor\":\"{cursor}\"}}")
        );
        assert_eq!(first.text(), expected, "all else is as without it");
        node.put("a/1?version=w", "").expect(204);
        node.put("a/3?version=w", "").expect(204);
        let link = first.header("Link").expect("more").to_owned();
        let next = link.strip_prefix('<').and_then(|link| link.split_once('>')).expect("a target").0;
        let second = list(next);
        assert_eq!(second.json()["cursor"], cursor.as_str(), "the same in every page");
        assert_eq!(second.json()["versions"][0]["version"], "w");
        let (told, _) = all(&node, &format!("prefix=a/&mode={mode}&since={cursor}&timeout=0s"));
        assert_eq!(told, ["a/1=w", "a/3=w"]);
        write(&node, &["a/1", "a/3"]);
        let other =
            node.client().ask(&Request::new("GET", &format!("/v1/versions?prefix=b&cursor={cursor}")));
        assert_code(&other, 400, "other-scope");
    }
    for bad in ["x", "", "c1.AAAA", "All"] {
        let answer = node.client().ask(&Request::new("GET", &format!("/v1/versions?cursor={bad}")));
        assert_code(&answer, 400, "bad-cursor");
    }
}

#[test]
fn bad_input_is_refused_and_nothing_is_begun() {
    let node = Node::start();
    let cursor = batch(&node, "prefix=a").cursor().to_owned();
    let many = "name=n&".repeat(65);
    let parameter = [
        "",
        "x=1",
        "prefix=a&mode=some",
        "prefix=a&mode=latest&mode=all",
        "prefix=a&types=",
        "prefix=a&types=put,other",
        "prefix=a&data=hex",
        "prefix=a&limit=0",
        "prefix=a&limit=10001",
        "prefix=a&limit=many",
        "prefix=a&timeout=61m",
        "prefix=a&timeout=-1s",
        "prefix=a&timeout=5",
        "prefix=a&heartbeat=500ms",
        "prefix=a&heartbeat=61s",
        "prefix=a&dots=true",
        "prefix=a&since=at:yesterday",
        "prefix=a&since=after:",
        "prefix=a&timeuot=5s",
        "prefix=%ff",
        "name=%zz",
        "prefixes=a",
        &many,
        &format!("prefix={}", "p".repeat(4097)),
    ];
    for query in parameter {
        assert_code(&ask(&node, query), 400, "bad-parameter");
    }
    assert_code(&ask(&node, "name="), 400, "bad-name");
    assert_code(&ask(&node, &format!("name={}", "n".repeat(5000))), 414, "name-too-long");
    for since in ["x", "c1.", "c1.!!!", "c2.AAAA", &cursor[..cursor.len() - 3], &format!("{cursor}A")] {
        assert_code(&ask(&node, &format!("prefix=a&since={since}")), 400, "bad-cursor");
        let header = watch("prefix=a&since=now").header("Last-Event-ID", since);
        assert_code(&node.client().ask(&header), 400, "bad-cursor");
    }
    for other in ["prefix=b", "name=a", "prefix=a&prefix=b", "prefix=a&mode=all", "prefix=a&types=put"] {
        assert_code(&ask(&node, &format!("{other}&since={cursor}")), 400, "other-scope");
    }
    let long = "c1.".to_owned() + &"A".repeat(4200);
    assert_code(&ask(&node, &format!("prefix=a&since={long}")), 414, "use-post");
    assert_code(&node.client().ask(&watch("prefix=a").header("Last-Event-ID", &long)), 414, "use-post");
    let body = json!({"prefixes": ["a"], "since": long}).to_string();
    assert_code(&node.client().ask(&post(body)), 400, "bad-cursor");
    for accept in
        ["text/html", "application/json;q=0", "text/event-stream;q=0", "application/xml, text/*;q=0"]
    {
        assert_code(&node.client().ask(&watch("prefix=a").header("Accept", accept)), 406, "not-acceptable");
    }
    assert_code(&node.client().ask(&Request::new("PUT", "/v1/watch?prefix=a")), 405, "method-not-allowed");
    assert_eq!(parked_feeds(&node), 0);
    // the page watches on the server port
    let off = Node::with(&["--page", "off"]);
    assert_code(&off.server().ask(&watch("prefix=a")), 404, "no-such-path");
}

#[test]
fn a_body_asks_as_a_query_does() {
    let node = Node::start();
    write(&node, &["a/1", "b"]);
    let asked = json!({"names": ["b"], "prefixes": ["a/"], "mode": "latest", "types": ["put", "delete"],
        "data": "text", "heartbeat": "15s", "limit": 100, "timeout": "1m"});
    let answer = Batch::of(node.client().ask(&post(asked.to_string())));
    assert_eq!(answer.told(), ["a/1=v", "b=v", "synced"]);
    assert_eq!(answer.events()[0]["data"], "a/1");
    let mut asked = asked;
    asked["since"] = answer.cursor().into();
    let mut waiting = parked(&node, &post(asked.to_string()), 0);
    node.delete("b").expect(204);
    assert_eq!(Batch::of(waiting.answer()).told(), ["-b"]);
    for bad in [
        "",
        "[]",
        "{",
        "{\"prefixes\":\"a\"}",
        "{\"prefixes\":[\"a\"],\"prefix\":\"b\"}",
        "{\"prefixes\":[\"a\"],\"prefixes\":[\"a\"]}",
        "{\"prefixes\":[\"a\"],\"limit\":\"5\"}",
        "{\"prefixes\":[\"a\"]} x",
    ] {
        assert_code(&node.client().ask(&post(bad)), 400, "bad-request");
    }
    for bad in ["{}", "{\"prefixes\":[\"a\"],\"dots\":true}", "{\"prefixes\":[\"a\"],\"types\":[]}"] {
        assert_code(&node.client().ask(&post(bad)), 400, "bad-parameter");
    }
    let typed = |kind: &str| Request::new("POST", "/v1/watch").header("Content-Type", kind).body("{}");
    assert_code(&node.client().ask(&typed("text/plain")), 415, "wrong-content-type");
    assert_code(&node.client().ask(&Request::new("POST", "/v1/watch").body("{}")), 415, "wrong-content-type");
    let beside = Request::new("POST", "/v1/watch?timeout=0s").header("Content-Type", "application/json");
    assert_code(&node.client().ask(&beside.body("{\"prefixes\":[\"\"]}")), 400, "bad-parameter");
    let large = format!("{{\"prefixes\":[\"{}\"]}}", "p".repeat(64 << 10));
    assert_code(&node.client().ask(&post(large)), 413, "too-large");
    assert!(node.metric("vwatch_limit_hits_total{limit=\"watch_body_bytes\"}") >= 1.0);
}

#[test]
fn a_last_event_id_stands_before_since_and_a_head_never_waits() {
    let node = Node::start();
    let cursor = batch(&node, "prefix=").cursor().to_owned();
    write(&node, &["n"]);
    let header = watch("prefix=&since=now").header("Last-Event-ID", &cursor);
    assert_eq!(Batch::of(node.client().ask(&header)).told(), ["n=v"]);
    let empty = watch(&format!("prefix=&since={cursor}")).header("Last-Event-ID", "");
    assert_eq!(Batch::of(node.client().ask(&empty)).told(), ["n=v"]);
    let head = |query: &str| node.client().ask(&Request::new("HEAD", &format!("/v1/watch?{query}")));
    let answer = head("prefix=&since=now&timeout=1m").expect(200);
    assert!(answer.body.is_empty() && answer.header("Content-Type") == Some("application/json"));
    assert_eq!(head("prefix=&since=x").status, 400);
    assert_eq!(parked_feeds(&node), 0);
}

#[test]
fn a_cursor_of_another_set_begins_again() {
    let (one, other) = (Node::start(), Node::start());
    write(&one, &["n"]);
    write(&other, &["m"]);
    for mode in ["latest", "all"] {
        let cursor = batch(&one, &format!("prefix=&mode={mode}")).cursor().to_owned();
        let query = format!("prefix=&mode={mode}&since={cursor}");
        assert_eq!(batch(&other, &query).told(), ["reset:genesis", "m=v", "synced"]);
    }
    assert_eq!(other.metric("vwatch_feed_interruptions_total{reason=\"reset_genesis\"}"), 2.0);
}

#[test]
fn parked_watches_are_limited_and_counted() {
    let node = Node::with(&["--max-watchers=3", "--max-watchers-per-name=2"]);
    write(&node, &["a", "b"]);
    let since = |scope: &str| {
        let cursor = batch(&node, &format!("{scope}&since=now&timeout=0s")).cursor().to_owned();
        format!("{scope}&since={cursor}&timeout=1m")
    };
    let of_a: Vec<_> = (0..2).map(|others| parked(&node, &watch(&since("prefix=a")), others)).collect();
    let one_more = ask(&node, &since("prefix=a&name=b"));
    assert_code(&one_more, 503, "too-many-watchers");
    assert_eq!(one_more.header("Retry-After"), Some("1"));
    let _of_b = node.watch(&Request::new("GET", "/v1/versions/b?version=v&timeout=1m"));
    node.wait_parked(1);
    assert_code(&ask(&node, &since("prefix=c")), 503, "too-many-watchers");
    let read = node.get("a?version=v&timeout=1m");
    assert_code(&read, 503, "too-many-watchers");
    assert!(
        batch(&node, "prefix=c&since=now&timeout=0s").events().is_empty(),
        "what does not wait is answered"
    );
    assert!(node.metric("vwatch_limit_hits_total{limit=\"watchers\"}") >= 2.0);
    assert!(node.metric("vwatch_limit_hits_total{limit=\"watchers_of_a_name\"}") >= 1.0);
    // a reader that goes leaves its place
    drop(of_a);
    cluster_tests::wait::wait_until("the places", LIMIT, || parked_feeds(&node) == 0);
    let _again = parked(&node, &watch(&since("prefix=c")), 0);
}

#[test]
fn many_scopes_wait_and_each_change_wakes_its_own() {
    let node = Node::start();
    let request = |i: usize| {
        let scope = match i % 3 {
            0 => format!("name=p/{i}"),
            1 => format!("prefix=p/{i}&name=q/{i}"),
            _ => format!("prefix=r/&prefix=p/{i}"),
        };
        let cursor = batch(&node, &format!("{scope}&since=now&timeout=0s")).cursor().to_owned();
        watch(&format!("{scope}&since={cursor}&timeout=1m"))
    };
    let mut waiting: Vec<_> = (10..40).map(|i| (i, node.watch(&request(i)))).collect();
    cluster_tests::wait::wait_until("all to be parked", LIMIT, || parked_feeds(&node) == 30);
    for i in 10..40 {
        let mut server = node.server();
        server.ask(&put(&format!("p/{i}?version=v{i}"))).expect(204);
    }
    for (i, connection) in &mut waiting {
        assert_eq!(Batch::of(connection.answer()).told(), [format!("p/{i}=v{i}")]);
    }
    assert_eq!(parked_feeds(&node), 0);
}

#[test]
fn a_node_that_stops_answers_with_the_cursor() {
    let mut node = Node::start();
    write(&node, &["n"]);
    let cursor = batch(&node, "prefix=n").cursor().to_owned();
    let query = format!("prefix=n&since={cursor}&timeout=1m");
    let mut waiting: Vec<_> = (0..20).map(|others| parked(&node, &watch(&query), others)).collect();
    node.terminate();
    for connection in &mut waiting {
        let answer = connection.answer();
        assert!(answer.says_close(), "{answer:?}");
        let batch = Batch::of(answer);
        assert!(batch.events().is_empty() && !batch.more());
    }
    assert!(node.wait_exit(LIMIT).success());
}

#[test]
fn a_reader_that_was_away_for_long_is_told_the_difference() {
    let node = Node::with(&["--data-limit-bytes=1048576"]);
    write(&node, &["quiet/1", "quiet/2"]);
    let cursor = batch(&node, "prefix=quiet/").cursor().to_owned();
    let all_cursor = batch(&node, "prefix=quiet/&mode=all").cursor().to_owned();
    let mut server = node.server();
    server.ask(&delete("quiet/1")).expect(204);
    // more than the ring has by its bytes
    let large = vec![b'x'; 1 << 20];
    for i in 0..70 {
        server.ask(&put(&format!("busy?version=v{i}")).body(&large)).expect(204);
    }
    assert_eq!(all(&node, &format!("prefix=quiet/&since={cursor}&timeout=0s")).0, ["-quiet/1"]);
    assert_eq!(all(&node, &format!("prefix=quiet/&mode=all&since={all_cursor}&timeout=0s")).0, ["-quiet/1"]);
    assert_eq!(node.metric("vwatch_feeds_begun_total{from=\"cursor_by_scan\"}"), 2.0);
    assert!(node.metric("vwatch_change_ring_reach_seconds") > 0.0);
}

#[test]
fn a_watch_is_of_one_namespace() {
    let node = Node::start();
    let write =
        |target: &str| node.server().ask(&Request::new("PUT", &format!("{target}?version=v"))).expect(204);
    for target in ["/v1/versions/n", "/v1/ns/team/versions/n", "/v1/ns/team2/versions/n"] {
        write(target);
    }
    let of = |space: &str, query: &str| {
        node.client().ask(&Request::new("GET", &format!("/v1/{space}watch?{query}")))
    };
    let team = Batch::of(of("ns/team/", "prefix="));
    assert_eq!(team.told(), ["n=v", "synced"]);
    assert_eq!(batch(&node, "prefix=").told(), ["n=v", "synced"]);
    let query = format!("prefix=&since={}", team.cursor());
    let request = Request::new("GET", &format!("/v1/ns/team/watch?{query}&timeout=1m"));
    let mut waiting = parked(&node, &request, 0);
    write("/v1/versions/m");
    write("/v1/ns/team2/versions/m");
    write("/v1/ns/team/versions/o");
    assert_eq!(Batch::of(waiting.answer()).told(), ["o=v"]);
    for other in ["", "ns/team2/"] {
        assert_code(&of(other, &query), 400, "other-scope");
    }
    let list = node.client().ask(&Request::new("GET", "/v1/ns/team/versions?cursor=all&limit=1")).expect(200);
    let cursor = list.json()["cursor"].as_str().expect("a cursor").to_owned();
    assert!(list.header("Link").is_some_and(|link| link.contains(&format!("&cursor={cursor}&"))));
    write("/v1/ns/team/versions/n");
    let since = Batch::of(of("ns/team/", &format!("prefix=&mode=all&since={cursor}")));
    assert_eq!(since.told(), ["n=v"]);
    // a log has no newest state of a name
    let event =
        node.server().ask(&Request::new("POST", "/v1/ns/log.audit/events/login").body("x")).expect(201);
    for query in ["prefix=", "prefix=&mode=latest"] {
        assert_code(&of("ns/log.audit/", query), 400, "bad-parameter");
    }
    let list = node.client().ask(&Request::new("GET", "/v1/ns/log.audit/versions?cursor=latest"));
    assert_code(&list, 400, "bad-parameter");
    let log = Batch::of(of("ns/log.audit/", "prefix=login/&mode=all"));
    assert_eq!(log.events()[0]["name"], event.json()["name"]);
    assert_code(&of("ns/.own/", "prefix="), 400, "bad-namespace");
    assert_code(&of("ns/Team/", "prefix="), 400, "bad-namespace");
}
