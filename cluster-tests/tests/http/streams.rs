//! Watches that go on, by both paths and in both forms.

use std::collections::BTreeMap;
use std::io::Write;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use cluster_tests::feed::{all, batch};
use cluster_tests::http::Request;
use cluster_tests::node::{Node, delete, put};
use cluster_tests::stream::{FORMS, PATHS, Path, Stream, request, word};
use cluster_tests::text::assert_refusal;
use cluster_tests::wait::{LIMIT, wait_until};
use serde_json::Value;

fn open(node: &Node, form: &str, path: Path, query: &str) -> Stream {
    Stream::open(node.client_addr(), &request(form, path, query))
}

/// Each form by each path.
fn each(mut check: impl FnMut(&'static str, Path)) {
    for form in FORMS {
        PATHS.into_iter().for_each(|path| check(form, path));
    }
}

#[test]
fn a_stream_tells_what_stands_and_then_what_comes() {
    each(|form, path| {
        let node = Node::start();
        node.put("a/1?version=v1", "x").expect(204);
        node.put("b?version=v1", "x").expect(204);
        let mut stream = open(&node, form, path, "prefix=a/&name=c");
        assert!(stream.head.contains(&format!("\r\nContent-Type: {form}\r\n")), "{}", stream.head);
        assert!(stream.head.contains("\r\nCache-Control: no-store, no-transform\r\n"), "{}", stream.head);
        assert!(stream.head.contains("\r\nX-Accel-Buffering: no\r\n"), "{}", stream.head);
        assert_eq!(stream.told(2), ["a/1=v1", "synced"]);
        node.put("a/2?version=v1", "x").expect(204);
        node.put("b?version=v2", "x").expect(204);
        node.delete("a/1").expect(204);
        node.put("c?version=v1", "x").expect(204);
        assert_eq!(stream.told(3), ["a/2=v1", "-a/1", "c=v1"], "{form} by the {path:?} path");
        // its cursor is good for the batch form, and that of the batch form for a stream
        let query = format!("prefix=a/&name=c&since={}", stream.cursor());
        let (told, cursor) = all(&node, &format!("{query}&timeout=0s"));
        assert!(told.is_empty(), "{told:?}");
        node.put("c?version=v2", "x").expect(204);
        let mut resumed = open(&node, form, path, &format!("prefix=a/&name=c&since={cursor}"));
        assert_eq!(resumed.told(1), ["c=v2"]);
        assert_eq!(stream.told(1), ["c=v2"]);
    });
}

#[test]
fn a_stream_without_news_shows_that_it_lives() {
    each(|form, path| {
        let node = Node::start();
        let started = Instant::now();
        let mut stream = open(&node, form, path, "prefix=&since=now&heartbeat=1s");
        for _ in 0..3 {
            let event = stream.next_until(Instant::now() + LIMIT).expect("a sign of life");
            assert_eq!((&event["type"], &event["behind"]), (&"progress".into(), &0.into()), "{event}");
            assert!(stream.cursor.starts_with("c1."), "{event}");
        }
        // the first one comes at once
        assert!(started.elapsed() >= Duration::from_secs(2), "{:?}", started.elapsed());
        assert!(form != FORMS[0] || !stream.asides.is_empty(), "an event stream has comments");
    });
}

#[test]
fn event_sources_resume_by_last_event_id() {
    for path in PATHS {
        let node = Node::start();
        node.put("a?version=v1", "x").expect(204);
        let mut stream = open(&node, FORMS[0], path, "prefix=");
        assert_eq!(stream.told(2), ["a=v1", "synced"]);
        node.put("a?version=v2", "x").expect(204);
        let again = request(FORMS[0], path, "prefix=&since=oldest").header("Last-Event-ID", &stream.cursor);
        assert_eq!(Stream::open(node.client_addr(), &again).told(1), ["a=v2"]);
    }
}

#[test]
fn what_is_wrong_is_answered_before_any_event_and_the_same_for_all_forms() {
    let node = Node::start();
    for (query, status, code) in [
        ("", 400, "bad-parameter"),
        ("prefix=&since=c1.x", 400, "bad-cursor"),
        ("prefix=&mode=new", 400, "bad-parameter"),
        ("prefix=&heartbeat=1h", 400, "bad-parameter"),
        ("prefix=&limit=0", 400, "bad-parameter"),
        ("prefix=&sinse=now", 400, "bad-parameter"),
        ("name=%01", 400, "bad-name"),
    ] {
        for form in FORMS.into_iter().chain(["application/json"]) {
            let asked = Request::new("GET", &format!("/v1/watch?{query}")).header("Accept", form);
            let answer = node.client().ask(&asked);
            assert_refusal(&answer, status);
            assert_eq!(answer.header("X-Vwatch-Error"), Some(code), "{query} as {form}: {answer:?}");
        }
    }
    let other = Request::new("GET", "/v1/watch?prefix=").header("Accept", "text/html");
    assert_eq!(node.client().ask(&other).status, 406);
    let cursor = batch(&node, "prefix=a").cursor().to_owned();
    let asked = request(FORMS[0], Path::Fast, &format!("prefix=b&since={cursor}"));
    assert_eq!(node.client().ask(&asked).header("X-Vwatch-Error"), Some("other-scope"));
    for form in FORMS {
        let head = Request::new("HEAD", "/v1/watch?prefix=").header("Accept", form);
        assert_eq!(node.client().ask(&head).expect(200).header("Content-Type"), Some(form));
    }
}

#[test]
fn a_stream_ends_after_its_events_or_its_time() {
    let node = Node::start();
    for version in ["v1", "v2", "v3"] {
        node.put(&format!("a/{version}?version={version}"), "x").expect(204);
    }
    for form in FORMS {
        let mut stream = open(&node, form, Path::Fast, "prefix=a/&limit=2");
        let told: Vec<String> =
            stream.to_the_end().iter().map(word).filter(|word| word != "progress").collect();
        assert_eq!(told, ["a/v1=v1", "a/v2=v2"]);
        let rest = format!("prefix=a/&limit=2&since={}", stream.cursor);
        assert_eq!(open(&node, form, Path::Fast, &rest).told(2), ["a/v3=v3", "synced"]);
        let mut stream = open(&node, form, Path::Fast, "prefix=a/&since=now&timeout=1s");
        let started = Instant::now();
        assert!(stream.to_the_end().iter().all(|event| event["type"] == "progress"));
        assert!(started.elapsed() < LIMIT);
    }
}

#[test]
fn a_posted_scope_is_streamed() {
    let node = Node::start();
    node.put("a?version=v1", "x").expect(204);
    let body = r#"{"names":["a"],"data":"text"}"#;
    let asked = Request::new("POST", "/v1/watch")
        .header("Accept", FORMS[1])
        .header("Content-Type", "application/json")
        .body(body);
    let mut stream = Stream::open(node.client_addr(), &asked);
    assert_eq!(stream.event_to_come()["data"], "x");
    assert_eq!(stream.told(1), ["synced"]);
}

/// What was told of each name: the versions, in order.
fn by_name(events: &[Value]) -> BTreeMap<String, Vec<String>> {
    let mut names = BTreeMap::<_, Vec<_>>::new();
    for event in events.iter().filter(|event| event["name"].is_string()) {
        let name = event["name"].as_str().unwrap_or_default().to_owned();
        names.entry(name).or_default().push(event["version"].as_str().unwrap_or("deleted").to_owned());
    }
    names
}

/// Reads until each name has its last version.
fn read_all(stream: &mut Stream, names: usize, last: &str) -> Vec<Value> {
    let until = Instant::now() + LIMIT;
    let (mut events, mut done) = (Vec::new(), 0);
    while done < names {
        let event = stream.next_until(until).expect("the last version of each name");
        done += usize::from(event["version"] == last);
        events.push(event);
    }
    events
}

/// Readers begin, each at another moment, while there are writes: none misses a change, and none is told one twice.
/// What stands takes several steps, and a round of the group is under way most of the time.
#[test]
fn readers_that_begin_among_writes_are_told_each_change_once() {
    const NAMES: usize = 7;
    const VERSIONS: usize = 60;
    for jitter in ["0s", "500us"] {
        let node = Node::with(&["--history-versions=64", &format!("--jitter-per-watch={jitter}")]);
        let mut server = node.server();
        for name in 0..200 {
            server.ask(&put(&format!("m{name}?version=v")).body([b'x'; 100])).expect(204);
            server.ask(&put(&format!("n/{name}?version=v")).body([b'x'; 100])).expect(204);
        }
        let last = format!("v{VERSIONS:03}");
        thread::scope(|scope| {
            let readers: Vec<_> = (0..80)
                .map(|number| {
                    let (form, path) =
                        (FORMS[usize::from(number % 8 == 1)], PATHS[usize::from(number % 4 == 3)]);
                    let (node, last) = (&node, &last);
                    scope.spawn(move || {
                        thread::sleep(Duration::from_millis(5 * number as u64));
                        let mut stream = open(node, form, path, "prefix=n&mode=all");
                        read_all(&mut stream, NAMES, last)
                    })
                })
                .collect();
            for version in 1..=VERSIONS {
                for name in 0..NAMES {
                    server.ask(&put(&format!("n{name}?version=v{version:03}"))).expect(204);
                    server.ask(&put(&format!("m{name}?version=v{version:03}"))).expect(204);
                }
            }
            let expected: Vec<String> = (1..=VERSIONS).map(|version| format!("v{version:03}")).collect();
            for reader in readers {
                let told = by_name(&reader.join().expect("a reader"));
                assert_eq!(told.len(), NAMES + 200);
                for (name, versions) in told.into_iter().filter(|(name, _)| !name.contains('/')) {
                    assert_eq!(versions, expected, "{name} with a jitter of {jitter}");
                }
            }
        });
    }
}

/// What is told at once is told although no other event wakes the loop: many names, then silence, then one write.
#[test]
fn a_reader_of_many_names_is_told_what_comes_next_at_once() {
    let node = Node::start();
    let mut server = node.server();
    for name in 0..300 {
        server.ask(&put(&format!("n/{name}?version=v")).body([b'x'; 200])).expect(204);
    }
    for form in FORMS {
        let mut stream = open(&node, form, Path::Fast, "prefix=n/&heartbeat=60s");
        assert_eq!(stream.told(301).last().map(String::as_str), Some("synced"));
        server.ask(&put("n/new?version=v")).expect(204);
        let written = Instant::now();
        assert_eq!(stream.told(1), ["n/new=v"]);
        assert!(written.elapsed() < Duration::from_secs(10), "long before a sign of life");
        server.ask(&delete("n/new")).expect(204);
        assert_eq!(stream.told(1), ["-n/new"]);
    }
}

/// A reader that takes nothing for long is neither dropped nor does it cost the node memory, and is told all at last.
#[test]
fn a_reader_that_takes_nothing_for_long_is_told_all() {
    const WRITES: usize = 3_000;
    for path in PATHS {
        let node = Node::with(&["--history-versions=64", "--jitter-per-watch=0s"]);
        let mut slow = open(&node, FORMS[1], path, "prefix=s/&mode=all&since=now");
        let mut latest = open(&node, FORMS[0], path, "prefix=s/&since=now");
        let mut quick = open(&node, FORMS[1], path, "prefix=s/&mode=all&since=now");
        let data = [b'x'; 3_000];
        let is_over = AtomicBool::new(false);
        let told = thread::scope(|scope| {
            let reader = scope.spawn(|| {
                let mut told = Vec::new();
                while told.len() < WRITES {
                    told.push(word(&quick.event_to_come()));
                }
                is_over.store(true, Ordering::Relaxed);
                told
            });
            let mut server = node.server();
            for write in 0..WRITES {
                let target = format!("s/{}?version=v{write}", write % 100);
                server.ask(&put(&target).body(data)).expect(204);
            }
            reader.join().expect("a reader")
        });
        assert_eq!(told.len(), WRITES, "the quick reader does not wait for the slow ones");
        assert!(node.metric("vwatch_stream_kept_bytes") < 2e6, "whatever is not taken");
        let slowly: Vec<String> = (0..WRITES).map(|_| word(&slow.event_to_come())).collect();
        assert!(slowly == told, "the slow reader is told the same by the {path:?} path");
        let mut newest = BTreeMap::new();
        while newest.values().filter(|version: &&u64| **version >= (WRITES - 100) as u64).count() < 100 {
            let event = latest.event_to_come();
            let version: u64 =
                event["version"].as_str().and_then(|text| text[1..].parse().ok()).expect("a version");
            let before = newest.insert(event["name"].as_str().expect("a name").to_owned(), version);
            assert!(before < Some(version), "never back in time");
        }
    }
}

/// Streams of one scope and form wait as one, however many changes of other names lie between their beginnings.
#[test]
fn streams_of_one_scope_wait_as_one_among_changes_of_other_names() {
    let node = Node::start();
    let mut server = node.server();
    let mut streams: Vec<Stream> = (0..50)
        .map(|number| {
            let stream = open(&node, FORMS[0], PATHS[1], "prefix=n/&since=now&heartbeat=60s");
            server.ask(&put(&format!("other?version=v{number}"))).expect(204);
            stream
        })
        .collect();
    wait_until("one that waits for all", LIMIT, || node.metric("vwatch_parked_feeds") as usize == 1);
    server.ask(&put("n/new?version=v")).expect(204);
    streams.iter_mut().for_each(|stream| assert_eq!(stream.told(1), ["n/new=v"]));
    wait_until("one that waits for all again", LIMIT, || node.metric("vwatch_parked_feeds") as usize == 1);
}

#[test]
fn readers_that_leave_are_forgotten() {
    let node = Node::with(&["--jitter-per-watch=0s"]);
    node.put("a?version=v1", "x").expect(204);
    for path in PATHS {
        let mut streams: Vec<Stream> = (0..9)
            .map(|number| open(&node, FORMS[number % 2], path, "prefix=&since=now&heartbeat=1s"))
            .collect();
        // one that ends its half, one that sends more, one that hangs up
        streams[0].socket().shutdown(std::net::Shutdown::Write).expect("a socket");
        streams[1].socket().write_all(b"GET / HTTP/1.1\r\n\r\n").expect("a socket");
        drop(streams.pop());
        wait_until("two that have left", LIMIT, || node.metric("vwatch_streams") as usize <= 8);
        node.put("a?version=v2", "x").expect(204);
        assert_eq!(streams[2].told(1), ["a=v2"]);
        node.put("a?version=v1", "x").expect(204);
        drop(streams);
        wait_until("none left", LIMIT, || node.metric("vwatch_streams") as usize == 0);
        wait_until("none parked", LIMIT, || node.metric("vwatch_parked_feeds") as usize == 0);
        wait_until("nothing kept", LIMIT, || node.metric("vwatch_stream_kept_bytes") as usize == 0);
    }
}

#[test]
fn the_end_of_the_node_ends_streams_in_order() {
    each(|form, path| {
        let mut node = Node::start();
        let mut streams: Vec<Stream> =
            (0..20).map(|_| open(&node, form, path, "prefix=&since=now")).collect();
        streams.iter_mut().for_each(|stream| drop(stream.next_until(Instant::now() + LIMIT)));
        node.put("a?version=v1", "x").expect(204);
        node.terminate();
        for stream in &mut streams {
            let told: Vec<String> = stream.to_the_end().iter().map(word).collect();
            assert!(told.contains(&"a=v1".to_owned()), "{told:?}");
            let retry = stream.asides.iter().find_map(|line| line.strip_prefix("retry: "));
            let retry: Option<u64> = retry.and_then(|ms| ms.parse().ok());
            assert_eq!(retry.is_some(), form == FORMS[0], "{:?}", stream.asides);
            assert!(retry.is_none_or(|ms| (500..=1_100).contains(&ms)), "{retry:?}");
        }
        assert!(node.wait_exit(LIMIT).success());
    });
}

#[test]
fn an_event_source_that_a_node_cannot_serve_yet_comes_back() {
    let node = Node::with(&["--max-watchers=1"]);
    let mut first = open(&node, FORMS[0], Path::Fast, "prefix=&since=now");
    first.next_until(Instant::now() + LIMIT).expect("a sign of life");
    let mut second = open(&node, FORMS[0], Path::Fast, "prefix=&since=now");
    assert_eq!(second.to_the_end(), Vec::<Value>::new());
    assert!(
        second.asides[0].starts_with("retry: ") && second.asides[1].starts_with(": too many"),
        "{:?}",
        second.asides
    );
    let refused = node.client().ask(&request(FORMS[1], Path::Fast, "prefix=&since=now"));
    assert_refusal(&refused, 503);
    assert_eq!(refused.header("X-Vwatch-Error"), Some("too-many-watchers"));
    drop(first);
    wait_until("a place", LIMIT, || {
        let mut third = open(&node, FORMS[0], Path::Fast, "prefix=&since=now");
        third.next_until(Instant::now() + LIMIT).is_some_and(|event| event["type"] == "progress")
    });
}

#[test]
fn a_delete_and_a_value_with_much_data_are_streamed() {
    each(|form, path| {
        let node = Node::with(&["--data-limit-bytes=1000000"]);
        let mut stream = open(&node, form, path, "prefix=&since=now&data=text");
        let large = "x".repeat(900_000);
        node.put("a?version=v1", &large).expect(204);
        assert!(stream.event_to_come()["data"] == large.as_str());
        node.server().ask(&delete("a")).expect(204);
        assert_eq!(stream.told(1), ["-a"]);
    });
}
