//! Lease events of a stream at a node that is alone, which votes itself.

use cluster_tests::http::{Request, Response};
use cluster_tests::node::Node;
use cluster_tests::stream::{FORMS, Path, Stream, request};
use cluster_tests::wait::{LIMIT, wait_until};
use serde_json::Value;

/// A node of a new cluster, whose voter need not abstain: leases may last for longer than a test.
fn node() -> Node {
    let new = [("VWATCH_NEW_CLUSTER".to_owned(), "default".to_owned())];
    Node::with_env(&["--lease-max-ttl=1m"], &new)
}

fn put(node: &Node, target: &str) -> Response {
    node.server().ask(&Request::new("PUT", target))
}

/// Acquires a lease. Its token.
fn acquire(node: &Node, target: &str) -> u64 {
    let lease = put(node, &format!("/v1/leases/{target}")).expect(200).json();
    lease["token"].as_u64().expect("a token")
}

fn release(node: &Node, target: &str, token: u64) {
    let and = if target.contains('?') { '&' } else { '?' };
    let target = format!("/v1/leases/{target}{and}token={token}");
    node.server().ask(&Request::new("DELETE", &target)).expect(204);
}

/// A stream with lease events.
fn open(node: &Node, form: &str, query: &str) -> Stream {
    Stream::open(node.client_addr(), &request(form, Path::Fast, &format!("{query}&leases=true")))
}

/// The next event of leases, and its words: the type, the path, and a star for a prefix.
fn next(stream: &mut Stream) -> (Value, String) {
    loop {
        let event = stream.event_to_come();
        let star = if event["prefix"] == true { "/*" } else { "" };
        match (event["type"].as_str().expect("a type"), event["path"].as_str()) {
            (kind, Some(path)) => return (event.clone(), format!("{kind} {path}{star}")),
            (kind, None) if kind.starts_with("leases") => return (event.clone(), kind.to_owned()),
            _ => {}
        }
    }
}

#[track_caller]
fn tells(stream: &mut Stream, expected: &[&str]) {
    let told: Vec<String> = expected.iter().map(|_| next(stream).1).collect();
    assert_eq!(told, expected);
}

#[test]
fn a_stream_tells_what_is_held_and_then_what_happens_to_it() {
    let node = node();
    for (run, form) in FORMS.into_iter().enumerate() {
        let (job, ns) = (format!("jobs{run}/n"), format!("team{run}"));
        let first = acquire(&node, &format!("{job}?ttl=1m&holder=me"));
        let mut stream = open(&node, form, &format!("prefix=jobs{run}/"));
        let mut of_namespace = Stream::open(
            node.client_addr(),
            &Request::new("GET", &format!("/v1/ns/{ns}/watch?prefix=jobs&leases=true"))
                .header("Accept", form),
        );
        tells(&mut of_namespace, &["leases-synced"]);
        let (held, words) = next(&mut stream);
        assert_eq!(words, format!("held {job}"));
        assert_eq!(
            (&held["token"], &held["holder"], &held["prefix"]),
            (&first.into(), &"me".into(), &false.into())
        );
        let left = held["expires_in_ms"].as_u64().expect("the time");
        assert!((40_000..=58_500).contains(&left), "{held}");
        assert!(held.get("id").is_none(), "an id is the holder's");
        tells(&mut stream, &["leases-synced"]);

        // another one waits, and gets it
        let mut waits = node.server();
        waits.send(&Request::new("PUT", &format!("/v1/leases/{job}?ttl=1m&wait=1m&holder=next")));
        wait_until("one that waits", LIMIT, || node.metric("vwatch_lease_waiters") == 1.0);
        release(&node, &job, first);
        let second = waits.answer().expect(200).json()["token"].as_u64().expect("a token");
        let (released, words) = next(&mut stream);
        assert_eq!((words, &released["token"]), (format!("released {job}"), &first.into()));
        assert!(released.get("expires_in_ms").is_none(), "{released}");
        let (acquired, words) = next(&mut stream);
        assert_eq!((words, &acquired["token"]), (format!("acquired {job}"), &second.into()));
        assert_eq!(acquired["holder"], "next");
        // a renewal is no event, and neither is what lies elsewhere
        acquire(&node, &format!("other{run}?ttl=1m"));
        put(&node, &format!("/v1/ns/{ns}/leases/jobs?ttl=1m")).expect(200);
        release(&node, &job, second);
        tells(&mut stream, &[&format!("released {job}")]);
        let short = acquire(&node, &format!("{job}?ttl=1s"));
        tells(&mut stream, &[&format!("acquired {job}")]);
        let (expired, words) = next(&mut stream);
        assert_eq!((words, &expired["token"]), (format!("expired {job}"), &short.into()));
        tells(&mut of_namespace, &["acquired jobs"]);
    }
    assert!(node.metric("vwatch_lease_checks_total{result=\"over\"}") >= 2.0);
    assert_eq!(node.metric("vwatch_lease_watch_resets_total"), 0.0);
    wait_until("no reader", LIMIT, || node.metric("vwatch_lease_watches") == 0.0);
}

#[test]
fn lease_events_lie_outside_the_cursor() {
    let node = node();
    for form in FORMS {
        let mut stream = open(&node, form, "prefix=c/&data=none");
        tells(&mut stream, &["leases-synced"]);
        assert_eq!(stream.event_to_come()["type"], "synced");
        let before = stream.cursor();
        let token = acquire(&node, "c/a?ttl=1m");
        tells(&mut stream, &["acquired c/a"]);
        assert_eq!(stream.cursor, before, "an event of a lease has none");
        drop(stream);
        let lease =
            Request::new("PUT", "/v1/versions/c/a?version=v").header("X-Vwatch-Lease", token.to_string());
        node.server().ask(&lease.body("")).expect(204);
        // it is good with and without leases, and what is held is told first
        let resumed = format!("prefix=c/&data=none&since={before}");
        let mut with = open(&node, form, &resumed);
        tells(&mut with, &["held c/a", "leases-synced"]);
        assert_eq!(with.told(1), ["c/a=v"]);
        let mut without = Stream::open(node.client_addr(), &request(form, Path::Fast, &resumed));
        assert_eq!(without.told(1), ["c/a=v"]);
        release(&node, "c/a", token);
        tells(&mut with, &["released c/a"]);
        // as many changes as are asked for are told, and what happens to leases meanwhile does not count
        let mut few = open(&node, form, "prefix=c/&data=none&limit=2");
        let events = few.to_the_end();
        let types: Vec<&str> = events.iter().filter_map(|event| event["type"].as_str()).collect();
        assert!(types.starts_with(&["leases-synced", "put", "synced"]), "{types:?}");
        node.server().ask(&Request::new("DELETE", "/v1/versions/c/a")).expect(204);
    }
}

#[test]
fn a_lease_concerns_those_that_watch_a_name_under_it() {
    let node = node();
    let above = acquire(&node, "jobs?prefix=true&ttl=1m");
    let query = |query: &str| open(&node, FORMS[1], query);
    let (mut below, mut tree, mut all) =
        (query("name=jobs/n/a"), query("prefix=jobs/n/&name=x"), query("prefix="));
    for stream in [&mut below, &mut tree, &mut all] {
        tells(stream, &["held jobs/*", "leases-synced"]);
    }
    let mut other = query("name=jobsx&prefix=job/&name=a");
    tells(&mut other, &["leases-synced"]);
    release(&node, "jobs?prefix=true", above);
    let one = acquire(&node, "jobs/n/b?ttl=1m");
    let whole = put(&node, "/v1/leases/?prefix=true&ttl=1m");
    assert_eq!(whole.status, 409);
    release(&node, "jobs/n/b", one);
    acquire(&node, "?prefix=true&ttl=1m");
    tells(&mut below, &["released jobs/*", "acquired /*"]);
    for stream in [&mut tree, &mut all] {
        tells(stream, &["released jobs/*", "acquired jobs/n/b", "released jobs/n/b", "acquired /*"]);
    }
    tells(&mut other, &["acquired /*"]);
}

#[test]
fn a_body_asks_for_lease_events_too_and_other_forms_are_refused_in_words() {
    let node = node();
    acquire(&node, "a?ttl=1m");
    let body = r#"{"names":["a"],"leases":true}"#;
    let asked = Request::new("POST", "/v1/watch").header("Content-Type", "application/json").body(body);
    let mut stream = Stream::open(node.client_addr(), &asked.header("Accept", FORMS[1]));
    tells(&mut stream, &["held a", "leases-synced"]);
    let refused = |node: &Node, accept: &str, query: &str, status: u16, text: &str| {
        let asked = Request::new("GET", &format!("/v1/watch?{query}")).header("Accept", accept);
        let answer = node.client().ask(&asked).expect(status);
        assert!(answer.text().contains(text), "{}", answer.text());
    };
    refused(&node, "application/json", "prefix=&leases=true", 400, "leases=true without a stream: accept");
    refused(&node, FORMS[1], "prefix=&leases=yes", 400, "bad leases: \"yes\": send true or false");
    refused(&node, FORMS[1], "leases=true", 400, "no scope");
    let follower = Node::with(&["--fill-from", &format!("http://{}", node.client_addr())]);
    for form in FORMS {
        refused(&follower, form, "name=a&leases=true", 400, &node.client_addr().to_string());
    }
    // without leases=true nothing of them is told, and nothing is looked after
    let mut plain = Stream::open(node.client_addr(), &request(FORMS[1], Path::Fast, "name=a"));
    assert_eq!(plain.told(1), ["synced"]);
    assert_eq!(node.metric("vwatch_lease_watches"), 1.0);
}

#[test]
fn a_reader_that_falls_behind_begins_again_with_what_is_held() {
    let node = node();
    let mut stream = open(&node, FORMS[1], "prefix=s/");
    tells(&mut stream, &["leases-synced"]);
    let (long, label) = ("x".repeat(480), "y".repeat(256));
    let mut server = node.server();
    let (mut count, mut number) = (2_000, 0);
    // more than the system takes for a reader that takes nothing, and the node keeps
    let token = loop {
        for _ in 0..count {
            let path = format!("/v1/leases/s/{number}/{long}");
            let asked = Request::new("PUT", &format!("{path}?ttl=1m&holder={label}"));
            let lease = server.ask(&asked).expect(200).json();
            let token = lease["token"].as_u64().expect("a token");
            server.ask(&Request::new("DELETE", &format!("{path}?token={token}"))).expect(204);
            number += 1;
        }
        let token = acquire(&node, "s/last?ttl=1m");
        if reads_to_the_last(&mut stream) {
            break token;
        }
        release(&node, "s/last", token);
        tells(&mut stream, &["released s/last"]);
        count *= 2;
    };
    assert_eq!(node.metric("vwatch_lease_watch_resets_total"), 1.0);
    tells(&mut stream, &["leases-synced"]);
    release(&node, "s/last", token);
    tells(&mut stream, &["released s/last"]);
}

/// Reads up to the last lease. Whether it was told as held, after the stream had begun again. What comes before that is
/// told whole, and in order.
fn reads_to_the_last(stream: &mut Stream) -> bool {
    let mut held: Option<String> = None;
    loop {
        let (event, words) = next(stream);
        let path = event["path"].as_str().unwrap_or_default().to_owned();
        match words.split(' ').next().expect("a word") {
            "leases-reset" => {
                tells(stream, &["held s/last"]);
                return true;
            }
            "acquired" if path == "s/last" => return false,
            "acquired" => assert_eq!(held.replace(path), None),
            _ => assert_eq!((words, held.take()), (format!("released {path}"), Some(path))),
        }
    }
}
