//! Namespaces, and the events of logs.

use cluster_tests::http::{Request, Response};
use cluster_tests::node::Node;
use cluster_tests::text::{assert_refusal, metric, now_us, rfc3339_us};
use cluster_tests::wait::{LIMIT, wait_until};
use serde_json::{Value, json};

const MINUTE_US: u64 = 60_000_000;

fn ask(node: &Node, method: &str, target: &str) -> Response {
    let request = Request::new(method, target);
    match method {
        "GET" | "HEAD" if !target.contains("/watchers") => node.client().ask(&request),
        _ => node.server().ask(&request),
    }
}

fn read(node: &Node, target: &str) -> Response {
    ask(node, "GET", target)
}

fn write(node: &Node, target: &str, data: &str) -> Response {
    node.server().ask(&Request::new("PUT", target).body(data))
}

fn event(node: &Node, target: &str, data: &str) -> Response {
    node.server().ask(&Request::new("POST", target).body(data))
}

/// Demands an error with this status and code, without a key.
#[track_caller]
fn assert_code(answer: &Response, status: u16, code: &str) {
    assert_refusal(answer, status);
    assert_eq!(answer.header("X-Vwatch-Error"), Some(code), "{answer:?}");
}

#[track_caller]
fn names(page: &Response) -> Vec<String> {
    let page = page.json();
    let all = page["versions"].as_array().unwrap_or_else(|| panic!("no versions: {page}"));
    all.iter().map(|record| record["name"].as_str().expect("a name").to_owned()).collect()
}

/// Demands that no answer of the node has a key, or a part of one.
#[track_caller]
fn assert_no_key(answer: &Response) {
    let text = String::from_utf8_lossy(&answer.body);
    let shown = ["\u{1}", "\\u0001", "u{1}", "%01"].iter().find(|mark| text.contains(**mark));
    assert_eq!(shown, None, "{answer:?}");
}

#[test]
fn a_namespace_has_names_of_its_own() {
    let node = Node::start();
    write(&node, "/v1/versions/n?version=plain", "p").expect(204);
    write(&node, "/v1/ns/a/versions/n?version=in-a", "a").expect(204);
    write(&node, "/v1/ns/b/versions/n?version=in-b", "b").expect(204);
    for (target, version, data) in [
        ("/v1/versions/n", "plain", "p"),
        ("/v1/ns/a/versions/n", "in-a", "a"),
        ("/v1/ns/b/versions/n", "in-b", "b"),
        ("/v1/ns/%61/versions/n", "in-a", "a"),
    ] {
        let answer = read(&node, target).expect(200);
        assert_eq!((answer.version(), answer.text()), (Some(version), data), "{target}");
        assert_eq!(ask(&node, "HEAD", target).expect(200).version(), Some(version));
    }
    assert_code(&read(&node, "/v1/ns/c/versions/n"), 404, "not-found");
    ask(&node, "DELETE", "/v1/ns/a/versions/n").expect(204);
    assert_code(&read(&node, "/v1/ns/a/versions/n"), 410, "deleted");
    read(&node, "/v1/versions/n").expect(200);
    read(&node, "/v1/ns/b/versions/n").expect(200);

    let history = read(&node, "/v1/ns/a/history/n").expect(200);
    let types: Vec<Value> =
        history.json()["versions"].as_array().expect("versions").iter().map(|v| v["type"].clone()).collect();
    assert_eq!(types, ["delete", "put"]);
    let revision = history.json()["versions"][1]["revision"].clone();
    let past = read(&node, &format!("/v1/ns/a/versions/n?revision={revision}")).expect(200);
    assert_eq!(past.text(), "a");
    assert_code(&read(&node, &format!("/v1/versions/n?revision={revision}")), 404, "revision-unknown");
}

/// A read in a namespace and the same read of a plain name differ in nothing but the name.
/// Whatnot: "Populate randomly".
#[test]
fn a_thousand_names_of_writers_at_the_same_time_are_all_there() {
    const WRITERS: usize = 8;
    let node = Node::start();
    let written: Vec<String> = std::thread::scope(|scope| {
        let writers: Vec<_> = (0..WRITERS)
            .map(|writer| {
                let mut connection = node.server();
                scope.spawn(move || {
                    let mut random = fastrand::Rng::with_seed(writer as u64);
                    let mut part = || (0..6).map(|_| random.lowercase()).collect::<String>();
                    let write = |n: usize| {
                        let name = format!("{}/{}/{writer}-{n}", part(), part());
                        let target = format!("/v1/ns/many/versions/{name}");
                        connection.ask(&Request::new("PUT", &target).body(name.as_str())).expect(204);
                        name
                    };
                    (0..1_000 / WRITERS).map(write).collect::<Vec<_>>()
                })
            })
            .collect();
        writers.into_iter().flat_map(|writer| writer.join().expect("a writer")).collect()
    });
    assert_eq!(written.len(), 1_000);
    let mut reader = node.client();
    for name in &written {
        let answer = reader.ask(&Request::new("GET", &format!("/v1/ns/many/versions/{name}"))).expect(200);
        assert_eq!(answer.text(), name);
    }
}

#[test]
fn an_answer_of_a_namespace_is_that_of_a_plain_name() {
    let node = Node::start();
    for parent in ["/v1/versions", "/v1/ns/a/versions"] {
        write(&node, &format!("{parent}/n?version=v&modified=1700000000000000"), "data").expect(204);
        write(&node, &format!("{parent}/gone?modified=1700000000000000"), "data").expect(204);
    }
    let without_times = |mut answer: Response| {
        answer
            .headers
            .retain(|(name, _)| !["date", "server-timing"].contains(&name.to_ascii_lowercase().as_str()));
        answer
    };
    for query in [
        "n",
        "n?version=v&timeout=0s",
        "n?version=other",
        "n?timeout=10",
        "n?timeout=5m",
        "n?vresion=v",
        "n?version=v&version=v",
        "n?version=a%20b",
        "n?revision=1700000000000000",
        "n?revision=x",
        "n?at=1&revision=1",
        "n?at=2099-01-01T00:00:00Z",
        "none",
        "none?timeout=0s&version=",
        "%zz",
        "%ff",
        "a%01b",
        "%01a%01n",
        "",
    ] {
        let plain = without_times(read(&node, &format!("/v1/versions/{query}")));
        let other = without_times(read(&node, &format!("/v1/ns/a/versions/{query}")));
        assert_eq!(format!("{plain:?}"), format!("{other:?}"), "{query}");
    }
    for query in ["n?limit=0", "n?limit=x", "n?before=x", "none", "n?limit=5&limit=5", ""] {
        let plain = without_times(read(&node, &format!("/v1/history/{query}")));
        let other = without_times(read(&node, &format!("/v1/ns/a/history/{query}")));
        // the text of a 404 names other paths for nothing
        assert_eq!((plain.status, plain.headers.len()), (other.status, other.headers.len()), "{query}");
    }
    for query in
        ["limit=0", "limit=x", "keys-only=x", "keys=1", "perfix=a", "prefix=%zz", "prefix=a&prefix=b"]
    {
        let plain = without_times(read(&node, &format!("/v1/versions?{query}")));
        let other = without_times(read(&node, &format!("/v1/ns/a/versions?{query}")));
        assert_eq!(format!("{plain:?}"), format!("{other:?}"), "{query}");
    }
    for query in ["n?modified=x", "n?modifeid=1", "n?modified=1&modified=1", "a%01b", ""] {
        let plain = without_times(write(&node, &format!("/v1/versions/{query}"), ""));
        let other = without_times(write(&node, &format!("/v1/ns/a/versions/{query}"), ""));
        assert_eq!(format!("{plain:?}"), format!("{other:?}"), "{query}");
        let plain = without_times(ask(&node, "DELETE", &format!("/v1/versions/{query}")));
        let other = without_times(ask(&node, "DELETE", &format!("/v1/ns/a/versions/{query}")));
        assert_eq!(format!("{plain:?}"), format!("{other:?}"), "{query}");
    }
    for (port, method, resource) in [("client", "POST", "versions/n"), ("server", "GET", "versions/n")] {
        let connection = || if port == "client" { node.client() } else { node.server() };
        let allow = |target: String| {
            let answer = connection().ask(&Request::new(method, &target)).expect(405);
            answer.header("Allow").map(str::to_owned)
        };
        assert_eq!(allow(format!("/v1/{resource}")), allow(format!("/v1/ns/a/{resource}")));
    }
}

#[test]
fn a_reader_waits_in_a_namespace() {
    let node = Node::start();
    write(&node, "/v1/versions/n?version=v1", "").expect(204);
    write(&node, "/v1/ns/a/versions/n?version=v1", "").expect(204);
    let target = "/v1/ns/a/versions/n?version=v1&timeout=1m";
    let mut parked = node.watch(&Request::new("GET", target));
    let mut created = node.watch(&Request::new("GET", "/v1/ns/b/versions/n?version=&timeout=1m"));
    node.wait_parked(2);

    let page = read(&node, "/v1/ns/a/watchers").expect(200);
    let watched = page.json();
    assert_eq!(
        (&watched["watchers"][0]["name"], &watched["watchers"][0]["version"]),
        (&json!("n"), &json!("v1"))
    );
    assert_eq!(read(&node, "/v1/watchers").expect(200).json()["watchers"], json!([]));
    assert_eq!(read(&node, "/v1/ns/c/watchers").expect(200).json()["watchers"], json!([]));
    assert_code(&read(&node, "/v1/ns/a/watchers?limit=x"), 400, "bad-parameter");

    write(&node, "/v1/versions/n?version=v2", "").expect(204);
    assert!(!parked.has_news());
    write(&node, "/v1/ns/a/versions/n?version=v2", "new").expect(204);
    let answer = parked.answer().expect(200);
    assert_eq!((answer.version(), answer.text()), (Some("v2"), "new"));
    write(&node, "/v1/ns/b/versions/n?version=v1", "").expect(204);
    created.answer().expect(200);
    let late = read(&node, "/v1/ns/a/versions/n?version=v2&timeout=50ms").expect(200);
    assert_eq!(late.version(), Some("v2"), "its time is over");
    let same = Request::new("GET", "/v1/ns/a/versions/n?timeout=0s").header("If-None-Match", "\"v2\"");
    node.client().ask(&same).expect(304);
}

#[test]
fn a_list_has_one_namespace() {
    let node = Node::start();
    write(&node, "/v1/versions/p/1", "").expect(204);
    for i in 0..5 {
        write(&node, &format!("/v1/ns/a/versions/q/{i}"), "x").expect(204);
    }
    write(&node, "/v1/ns/a-b/versions/r", "").expect(204);
    assert_eq!(names(&read(&node, "/v1/versions").expect(200)), ["p/1"]);
    assert_eq!(names(&read(&node, "/v1/versions?prefix=q").expect(200)), [""; 0]);
    assert_eq!(names(&read(&node, "/v1/versions?after=%01a").expect(200)), ["p/1"]);
    assert!(names(&read(&node, "/v1/versions?prefix=%01").expect(200)).is_empty());
    assert!(names(&read(&node, "/v1/versions?prefix=%01a%01").expect(200)).is_empty());
    assert_eq!(names(&read(&node, "/v1/ns/a-b/versions").expect(200)), ["r"]);
    assert!(names(&read(&node, "/v1/ns/c/versions").expect(200)).is_empty());
    let mut found = Vec::new();
    let mut target = "/v1/ns/a/versions?prefix=q/&limit=2&keys-only".to_owned();
    loop {
        let page = read(&node, &target).expect(200);
        assert_no_key(&page);
        assert_eq!(page.json()["versions"][0]["data"], Value::Null);
        found.extend(names(&page));
        let Some(link) = page.header("Link") else { break };
        target = link.trim_start_matches('<').split('>').next().expect("a link").to_owned();
        assert!(target.starts_with("/v1/ns/a/versions?prefix=q/&limit=2&keys-only&after="), "{target}");
    }
    assert_eq!(found, ["q/0", "q/1", "q/2", "q/3", "q/4"]);
}

#[test]
fn namespaces_are_listed_with_what_they_hold() {
    let node = Node::start();
    assert_eq!(read(&node, "/v1/ns").expect(200).json(), json!({"namespaces": []}));
    write(&node, "/v1/versions/plain", "").expect(204);
    for i in 0..3 {
        write(&node, "/v1/ns/b/versions/n", &"x".repeat(i)).expect(204);
    }
    write(&node, "/v1/ns/a-b/versions/n", "").expect(204);
    write(&node, "/v1/ns/a/versions/n", "").expect(204);
    event(&node, "/v1/ns/log.x/events/e", "1").expect(201);
    let page = read(&node, "/v1/ns").expect(200);
    assert_eq!(page.header("Content-Type"), Some("application/json"));
    let listed = page.json();
    let all: Vec<(&str, u64)> = listed["namespaces"].as_array().expect("a list").iter().map(row).collect();
    assert_eq!(all, [("a", 1), ("a-b", 1), ("b", 1), ("log.x", 1)]);
    let (bytes, history) = (&listed["namespaces"][2]["bytes"], &listed["namespaces"][2]["history_bytes"]);
    assert!(bytes.as_u64() > history.as_u64() && history.as_u64() > Some(0), "{listed}");
    ask(&node, "DELETE", "/v1/ns/b/versions/n").expect(204);
    assert_eq!(read(&node, "/v1/ns?prefix=b").expect(200).json()["namespaces"][0]["names"], 0);

    let page = read(&node, "/v1/ns?limit=2").expect(200);
    assert_eq!(page.json()["namespaces"].as_array().map(Vec::len), Some(2));
    let link = page.header("Link").expect("a link");
    let next = link.trim_start_matches('<').split('>').next().expect("a link");
    let rest = read(&node, next).expect(200).json();
    assert_eq!(
        rest["namespaces"].as_array().expect("a list").iter().map(row).collect::<Vec<_>>(),
        [("b", 0), ("log.x", 1)]
    );
    assert_eq!(read(&node, "/v1/ns?after=a").expect(200).json()["namespaces"][0]["namespace"], "a-b");
    for query in ["limit=0", "limit=x", "aftr=a", "after=%ff", "prefix=a&prefix=b"] {
        assert_code(&read(&node, &format!("/v1/ns?{query}")), 400, "bad-parameter");
    }
    let metrics = node.server().ask(&Request::new("GET", "/metrics"));
    assert_eq!(metric(metrics.text(), "vwatch_namespaces"), Some(4.0));
}

fn row(listed: &Value) -> (&str, u64) {
    (listed["namespace"].as_str().expect("a text"), listed["names"].as_u64().expect("a number"))
}

#[test]
fn what_is_no_namespace_is_refused_and_changes_nothing() {
    let node = Node::start();
    let long = "x".repeat(65);
    for namespace in
        ["A", "a_b", "a%20b", "%01", "a%01b", "é", "%C3%A9", "%ff", "%zz", "a%2Fb", "", &long, "a:b", "*"]
    {
        for resource in ["versions", "versions/", "versions/n", "history/n", "watchers", "events/e", "other"]
        {
            for method in ["GET", "PUT", "DELETE", "POST"] {
                for connection in [node.client(), node.server()] {
                    let target = format!("/v1/ns/{namespace}/{resource}");
                    let mut connection = connection;
                    let answer = connection.ask(&Request::new(method, &target));
                    assert!([400, 405].contains(&answer.status), "{method} {target}: {answer:?}");
                    if answer.status == 400 {
                        assert_code(&answer, 400, "bad-namespace");
                        assert_no_key(&answer);
                    }
                }
            }
        }
    }
    for namespace in [".", "..", ".x", "%2e%2e", ".log"] {
        for (method, resource) in
            [("GET", "versions"), ("GET", "versions/n"), ("PUT", "versions/n"), ("GET", "watchers")]
        {
            let answer = ask(&node, method, &format!("/v1/ns/{namespace}/{resource}"));
            assert_code(&answer, 400, "bad-namespace");
            assert!(answer.text().contains("are the node's own"), "{answer:?}");
        }
    }
    for target in ["/v1/ns/", "/v1/ns//versions/n"] {
        assert_code(&read(&node, target), 400, "bad-namespace");
    }
    for target in
        ["/v1/ns/a", "/v1/ns/a/", "/v1/ns/a/cluster", "/v1/ns/a/ns/b/versions/n", "/v1/ns/a/version/n"]
    {
        assert_code(&read(&node, target), 404, "no-such-path");
    }
    for target in ["/v1/ns/a/compact?before=now", "/v1/ns/a/history-depth?versions=1", "/v1/ns/a/fill/n"] {
        assert_code(&event(&node, target, ""), 404, "no-such-path");
    }
    // a plain name is none of a namespace
    for target in ["/v1/versions/%01a%01n", "/v1/ns/a/versions/%01b%01n", "/v1/ns/a/versions/n%01"] {
        assert_code(&write(&node, target, ""), 400, "bad-name");
        assert_code(&read(&node, target), 400, "bad-name");
    }
    let long = "n".repeat(513);
    assert_code(&write(&node, &format!("/v1/ns/a/versions/{long}"), ""), 414, "name-too-long");
    write(&node, &format!("/v1/ns/{}/versions/{}", "x".repeat(64), &long[1..]), "").expect(204);
    assert_eq!(read(&node, "/v1/ns").expect(200).json()["namespaces"].as_array().map(Vec::len), Some(1));
}

#[test]
fn an_event_gets_a_name_that_sorts_by_time() {
    let node = Node::start();
    let before = now_us();
    let mut written = Vec::new();
    for i in 0..3 {
        let answer = event(&node, "/v1/ns/log.deploys/events/deploy/web", &format!("event {i}")).expect(201);
        assert_eq!(answer.header("Content-Type"), Some("application/json"));
        let shown = answer.json();
        let name = shown["name"].as_str().expect("a name").to_owned();
        assert!(name.starts_with("deploy/web/0"), "{name}");
        assert_eq!(shown["version"].as_str(), answer.version());
        assert_eq!(shown["revision"].as_u64(), answer.last_sync());
        assert!(answer.last_sync() >= Some(before));
        assert_eq!(shown["last-sync"].as_str().map(rfc3339_us), answer.last_sync());
        assert_no_key(&answer);
        let location = answer.header("Location").expect("a place").to_owned();
        let event = read(&node, &location).expect(200);
        assert_eq!((event.text(), event.version()), (&*format!("event {i}"), answer.version()));
        written.push(name);
    }
    assert_eq!(names(&read(&node, "/v1/ns/log.deploys/versions").expect(200)), written);
    assert!(written.is_sorted());
    // the version is that of a write of the same data
    let plain = write(&node, "/v1/versions/n", "event 0").expect(204);
    let first = read(&node, &format!("/v1/ns/log.deploys/versions/{}", written[0])).expect(200);
    assert_eq!(plain.version(), first.version());
    // one that was a mistake can be deleted, and a log takes names like any other namespace
    ask(&node, "DELETE", &format!("/v1/ns/log.deploys/versions/{}", written[1])).expect(204);
    write(&node, "/v1/ns/log.deploys/versions/named", "").expect(204);
    assert_eq!(
        names(&read(&node, "/v1/ns/log.deploys/versions").expect(200)),
        ["deploy/web/", "deploy/web/", "named"]
            .iter()
            .zip([&written[0], &written[2], "named"])
            .map(|(_, name)| name.to_owned())
            .collect::<Vec<_>>()
    );
}

#[test]
fn an_event_that_is_none_is_refused() {
    let node = Node::with(&["--data-limit-bytes=10"]);
    let code = |target: &str| event(&node, target, "x");
    assert_code(&code("/v1/ns/a/events/e"), 400, "bad-namespace");
    assert!(code("/v1/ns/a/events/e").text().contains("log."));
    assert_code(&code("/v1/ns/log/events/e"), 400, "bad-namespace");
    assert_code(&code("/v1/ns/.log.x/events/e"), 400, "bad-namespace");
    assert_code(&code("/v1/events/e"), 404, "no-such-path");
    assert_code(&code("/v1/ns/log.x/events"), 404, "no-such-path");
    for kind in ["", "a%01b", "%ff", "%zz", "%01log.x%01e"] {
        assert_code(&code(&format!("/v1/ns/log.x/events/{kind}")), 400, "bad-name");
    }
    assert_code(&code(&format!("/v1/ns/log.x/events/{}", "e".repeat(465))), 414, "name-too-long");
    for query in ["version=v", "modified=1", "verison=v"] {
        assert_code(&code(&format!("/v1/ns/log.x/events/e?{query}")), 400, "bad-parameter");
    }
    for (name, value) in [("ETag", "\"v\""), ("Last-Modified", "Thu, 13 Mar 2025 03:48:12 GMT")] {
        let request = Request::new("POST", "/v1/ns/log.x/events/e").header(name, value);
        assert_code(&node.server().ask(&request), 400, "bad-parameter");
    }
    let request = Request::new("POST", "/v1/ns/log.x/events/e").header("If-Match", "*");
    assert_code(&node.server().ask(&request), 400, "conditional-write");
    assert_code(&event(&node, "/v1/ns/log.x/events/e", "more than ten"), 413, "too-large");
    assert_eq!(ask(&node, "PUT", "/v1/ns/log.x/events/e").expect(405).header("Allow"), Some("POST"));
    assert_eq!(read(&node, "/v1/ns").expect(200).json()["namespaces"], json!([]));
    event(&node, &format!("/v1/ns/log.x/events/{}", "e".repeat(464)), "").expect(201);
}

#[test]
fn a_compaction_empties_a_log_and_leaves_values() {
    let node = Node::start();
    let old = (now_us() / MINUTE_US - 5) * MINUTE_US;
    for target in ["/v1/versions/n", "/v1/ns/a/versions/n", "/v1/ns/log.x/versions/n"] {
        write(&node, &format!("{target}?modified={old}"), "old").expect(204);
    }
    event(&node, "/v1/ns/log.x/events/e", "new").expect(201);
    let parked = node.watch(&Request::new("GET", "/v1/ns/log.x/versions/n").header("If-None-Match", "*"));
    node.wait_parked(1);
    let compacted = event(&node, "/v1/compact?before=2m", "").expect(200).json();
    let horizon = compacted["horizon"].as_u64().expect("µs");
    wait_until("a reader of the event is woken", LIMIT, || node.parked() == 0);
    drop(parked);
    for target in ["/v1/versions/n", "/v1/ns/a/versions/n"] {
        read(&node, target).expect(200);
    }
    assert_code(&read(&node, "/v1/ns/log.x/versions/n"), 404, "not-found");
    assert_code(&read(&node, "/v1/ns/log.x/history/n"), 404, "not-found");
    assert_code(&read(&node, &format!("/v1/ns/log.x/versions/n?revision={old}")), 410, "compacted");
    assert_code(&read(&node, &format!("/v1/ns/log.x/versions/n?at={}", now_us())), 410, "compacted");
    assert_eq!(names(&read(&node, "/v1/ns/log.x/versions").expect(200)).len(), 1, "the event is younger");
    // what is older would be gone at once
    let late = write(&node, &format!("/v1/ns/log.x/versions/n?modified={}", horizon - 1), "late");
    assert_code(&late, 400, "stamp-too-old");
    assert!(late.text().contains(&horizon.to_string()), "{late:?}");
    write(&node, &format!("/v1/ns/log.x/versions/n?modified={horizon}"), "late").expect(204);
}

#[test]
fn namespaces_have_limits() {
    let node = Node::with(&["--max-namespaces=2", "--max-namespace-bytes=1000"]);
    write(&node, "/v1/ns/a/versions/n", "").expect(204);
    write(&node, "/v1/ns/b/versions/n", "").expect(204);
    for answer in [write(&node, "/v1/ns/c/versions/n", ""), event(&node, "/v1/ns/log.x/events/e", "")] {
        assert_code(&answer, 507, "too-many-namespaces");
    }
    let large = "x".repeat(900);
    assert_code(&write(&node, "/v1/ns/a/versions/m", &large), 507, "namespace-full");
    // a value in another's place, and the past does not count
    for i in 0..9 {
        write(&node, "/v1/ns/a/versions/n", &large[..700 - i]).expect(204);
    }
    ask(&node, "DELETE", "/v1/ns/a/versions/n").expect(204);
    write(&node, "/v1/versions/plain", &large).expect(204);
    write(&node, "/v1/versions/plain2", &large).expect(204);
    let metrics = node.server().ask(&Request::new("GET", "/metrics"));
    let hits = |limit: &str| metric(metrics.text(), &format!("vwatch_limit_hits_total{{limit=\"{limit}\"}}"));
    assert_eq!((hits("namespaces"), hits("namespace_bytes")), (Some(2.0), Some(1.0)));
}

#[test]
fn nothing_that_knows_no_namespace_shows_a_key() {
    let node = Node::start();
    write(&node, "/v1/versions/plain", "").expect(204);
    write(&node, "/v1/ns/secret/versions/hidden", "").expect(204);
    let event = event(&node, "/v1/ns/log.x/events/e", "").expect(201);
    assert_no_key(&event);
    let parked = node.watch(
        &Request::new("GET", "/v1/ns/secret/versions/hidden?timeout=1m&version=")
            .header("If-None-Match", "*"),
    );
    node.wait_parked(1);
    let set = Request::new("POST", "/v1/versions").header("Content-Type", "application/json").body("{}");
    let newer = node.server().ask(&set).expect(200);
    assert_eq!(newer.json().as_array().map(Vec::len), Some(1), "{newer:?}");
    for target in ["/v1/cluster", "/metrics", "/v1/watchers", "/v1/ns/secret/watchers"] {
        let answer = node.server().ask(&Request::new("GET", target)).expect(200);
        assert_no_key(&answer);
    }
    for target in [
        "/v1/versions",
        "/v1/ns",
        "/v1/ns/secret/versions",
        "/v1/ns/secret/history/hidden",
        "/v1/ns/secret/versions/none",
    ] {
        assert_no_key(&read(&node, target));
    }
    drop(parked);
    assert!(!node.stderr().contains(['\u{1}']) && !node.stderr().contains("\\u{1}"), "{}", node.stderr());
}

/// The key of a name in a namespace begins with U+0001: a text with it must not reach there.
#[test]
fn no_prefix_reaches_into_another_namespace() {
    let node = Node::with_env(&[], &[("VWATCH_NEW_CLUSTER".to_owned(), "default".to_owned())]);
    write(&node, "/v1/ns/team/versions/secret-name", "x").expect(204);
    node.server().ask(&Request::new("PUT", "/v1/ns/team/leases/secret-name?ttl=60s")).expect(200);
    for text in ["%01team%01", "%01", "%01team%01secret", "%00", "%02", "a%01"] {
        for target in [
            format!("/v1/watch?prefix={text}&timeout=1s"),
            format!("/v1/watch?prefix=free/&prefix={text}&mode=all&since=oldest&timeout=1s"),
            format!("/v1/watch?name={text}&timeout=1s"),
        ] {
            let answer = read(&node, &target).expect(400);
            assert!(answer.text().contains("control character"), "{target}: {}", answer.text());
            let stream = Request::new("GET", &target.replace("&timeout=1s", ""))
                .header("Accept", "application/x-ndjson");
            node.client().ask(&stream).expect(400);
        }
        for target in [
            format!("/v1/versions?prefix={text}"),
            format!("/v1/versions?prefix={text}&cursor=latest"),
            format!("/v1/versions?prefix={text}&delimiter=/"),
            format!("/v1/watchers?prefix={text}"),
            format!("/v1/leases?prefix={text}"),
        ] {
            let answer = read(&node, &target);
            assert!(matches!(answer.status, 200 | 400), "{target}: {}", answer.status);
            assert!(!answer.text().contains("secret"), "{target}: {}", answer.text());
        }
    }
}
