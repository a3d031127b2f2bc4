//! Parked reads: what they wait for, and their answers.

use std::time::{Duration, Instant};

use cluster_tests::http::{Connection, Request, Response};
use cluster_tests::node::{Node, get, head};
use cluster_tests::text::{assert_refusal, now_us, timing};
use cluster_tests::wait::{LIMIT, wait_until};

/// A second, in stamps.
const SECOND_US: u64 = 1_000_000;

/// Long enough that an answer before it was a wake; what a test waits for comes long before.
const LONG: &str = "timeout=1m";

/// The answer of a wake: it came long before the timeout of a minute.
#[track_caller]
fn woken(watcher: &mut Connection) -> Response {
    watcher.try_answer(LIMIT).expect("a wake")
}

/// How long a read took that is expected to run into its timeout.
fn timed(node: &Node, request: &Request) -> (Response, Duration) {
    let started = Instant::now();
    let answer = node.client().ask(request);
    (answer, started.elapsed())
}

#[test]
fn the_current_version_parks_until_another_one() {
    let node = Node::start();
    node.put("n?version=v1", "one").expect(204);
    let mut watchers = [
        node.watch(&get(&format!("n?version=v1&{LONG}"))),
        node.watch(&get(&format!("n?{LONG}")).header("ETag", "\"v1\"")),
        node.watch(&get(&format!("n?{LONG}")).header("If-None-Match", "\"v1\"")),
        node.watch(&get(&format!("n?{LONG}")).header("If-None-Match", "W/\"v1\"")),
        node.watch(&get(&format!("n?{LONG}")).header("If-None-Match", "\"a,b\", W/\"v0\",\"v1\"")),
        node.watch(&get(&format!("n?{LONG}")).header("If-None-Match", "*")),
    ];
    node.wait_parked(watchers.len());

    let written = node.put("n?version=v2", "two").expect(204);

    for watcher in &mut watchers {
        let answer = woken(watcher).expect(200);
        assert_eq!((answer.version(), answer.text()), (Some("v2"), "two"));
        assert_eq!(answer.last_sync(), written.last_sync());
        assert_eq!(answer.header("Content-Type"), Some("application/octet-stream"));
    }
    node.wait_parked(0);
}

#[test]
fn any_version_of_a_list_parks_also_one_with_a_comma() {
    let node = Node::start();
    node.put("n?version=a,b", "").expect(204);
    let mut watcher =
        node.watch(&get(&format!("n?{LONG}")).header("If-None-Match", "\"x\", \"a,b\" , \"y\""));
    node.wait_parked(1);
    node.put("n?version=x", "").expect(204);
    // x is on the list too: known, and so no news
    let mut sentinel = node.watch(&get(&format!("n?version=x&{LONG}")));
    node.wait_parked(2);
    node.put("n?version=z", "").expect(204);
    assert_eq!(woken(&mut sentinel).expect(200).version(), Some("z"));
    assert_eq!(woken(&mut watcher).expect(200).version(), Some("z"));
}

#[test]
fn a_delete_wakes_with_410() {
    let node = Node::start();
    node.put("n?version=v1", "one").expect(204);
    let mut watchers = [
        node.watch(&get(&format!("n?version=v1&{LONG}"))),
        node.watch(&get(&format!("n?{LONG}")).header("If-None-Match", "\"v1\"")),
        node.watch(&get(&format!("n?{LONG}")).header("If-None-Match", "*")),
    ];
    node.wait_parked(watchers.len());

    node.delete("n").expect(204);

    let deleted = node.get("n").expect(410).last_sync();
    for watcher in &mut watchers {
        let answer = woken(watcher);
        assert_refusal(&answer, 410);
        assert_eq!(answer.last_sync(), deleted);
        assert!(answer.header("Last-Modified").is_some());
    }
}

#[test]
fn after_the_timeout_the_same_version_and_body_come_again() {
    let node = Node::start();
    let written = node.put("n?version=v1", "one").expect(204);
    for request in [get("n?version=v1&timeout=300ms"), get("n?timeout=300ms").header("ETag", "\"v1\"")] {
        let (answer, took) = timed(&node, &request);
        let answer = answer.expect(200);
        assert!(took >= Duration::from_millis(300), "{took:?}");
        assert_eq!((answer.version(), answer.text()), (Some("v1"), "one"));
        assert_eq!(answer.last_sync(), written.last_sync());
        assert!(timing(&answer).watch >= Duration::from_millis(299), "{answer:?}");
    }
}

#[test]
fn after_the_timeout_if_none_match_gets_304_without_a_body() {
    let node = Node::start();
    let written = node.put("n?version=v1", "one").expect(204);
    for list in ["\"v1\"", "\"v0\", W/\"v1\"", "*"] {
        let (answer, took) = timed(&node, &get("n?timeout=300ms").header("If-None-Match", list));
        let answer = answer.expect(304);
        assert!(took >= Duration::from_millis(300), "{took:?}");
        assert_eq!(answer.version(), Some("v1"));
        assert_eq!(answer.last_sync(), written.last_sync());
        assert!(answer.body.is_empty());
    }
}

#[test]
fn without_a_timeout_block_for_holds() {
    let node = Node::with(&["--block-for", "400ms"]);
    node.put("n?version=v1", "one").expect(204);
    let (answer, took) = timed(&node, &get("n?version=v1"));
    assert_eq!(answer.expect(200).version(), Some("v1"));
    assert!((Duration::from_millis(400)..LIMIT).contains(&took), "{took:?}");
}

#[test]
fn head_parks_too() {
    let node = Node::start();
    node.put("n?version=v1", "one").expect(204);
    let (answer, took) = timed(&node, &head("n?version=v1&timeout=300ms"));
    assert_eq!(answer.expect(200).version(), Some("v1"));
    assert!(took >= Duration::from_millis(300), "{took:?}");
    let mut watcher = node.watch(&head(&format!("n?version=v1&{LONG}")));
    node.wait_parked(1);

    node.put("n?version=v2", "two!").expect(204);

    let answer = woken(&mut watcher).expect(200);
    assert_eq!((answer.version(), answer.header("Content-Length")), (Some("v2"), Some("4")));
    // nothing is left on the connection: the next answer is the next answer
    assert_eq!(watcher.ask(&get("n")).expect(200).text(), "two!");
}

#[test]
fn a_fresh_stamp_on_the_known_version_wakes_no_reader_that_waits_for_another_version() {
    let node = Node::start();
    let written = node.put("n?version=v1", "one").expect(204).last_sync().expect("a stamp");
    let mut watcher = node.watch(&get(&format!("n?version=v1&{LONG}")));
    let newer = (written + 1).to_string();
    let mut sentinel = node.watch(&get(&format!("n?version=v1&{LONG}")).header("X-Last-Sync", newer));
    node.wait_parked(2);

    let fresh = node.put("n?version=v1", "one").expect(204).last_sync();

    let news = woken(&mut sentinel).expect(200);
    assert_eq!(
        (news.version(), news.last_sync()),
        (Some("v1"), fresh),
        "a fresh stamp is what it waited for"
    );
    node.wait_parked(1);
    node.put("n?version=v2", "two").expect(204);
    assert_eq!(woken(&mut watcher).expect(200).version(), Some("v2"));
}

#[test]
fn a_write_to_another_name_wakes_no_reader() {
    let node = Node::start();
    for name in ["a", "a/b", "A", "b"] {
        node.put(&format!("{name}?version=v1"), "").expect(204);
    }
    let mut watcher = node.watch(&get(&format!("a?version=v1&{LONG}")));
    let mut sentinel = node.watch(&get(&format!("b?version=v1&{LONG}")));
    node.wait_parked(2);
    for name in ["a/b", "A", "c", "b"] {
        node.put(&format!("{name}?version=v2"), "").expect(204);
    }
    assert_eq!(woken(&mut sentinel).expect(200).version(), Some("v2"));
    node.wait_parked(1);
    assert!(!watcher.has_news());
    node.put("a?version=v2", "").expect(204);
    assert_eq!(woken(&mut watcher).expect(200).version(), Some("v2"));
}

#[test]
fn an_empty_version_parks_until_the_name_exists() {
    let node = Node::start();
    node.delete("gone").expect(204);
    let mut never = node.watch(&get(&format!("never?version=&{LONG}")));
    let mut gone = node.watch(&get(&format!("gone?version=&{LONG}")));
    node.wait_parked(2);

    for (name, watcher) in [("never", &mut never), ("gone", &mut gone)] {
        node.put(&format!("{name}?version=v1"), "here").expect(204);
        let answer = woken(watcher).expect(200);
        assert_eq!((answer.version(), answer.text()), (Some("v1"), "here"));
    }
}

#[test]
fn waiting_for_a_name_ends_in_404_or_410() {
    let node = Node::start();
    node.delete("gone").expect(204);
    for (name, status) in [("never", 404), ("gone", 410)] {
        let (answer, took) = timed(&node, &get(&format!("{name}?version=&timeout=300ms")));
        assert_refusal(&answer, status);
        assert!(took >= Duration::from_millis(300), "{took:?}");
    }
    assert!(node.get("gone?version=&timeout=1ms").expect(410).last_sync().is_some());
}

#[test]
fn a_delete_does_not_end_the_wait_for_a_name() {
    let node = Node::start();
    let mut watcher = node.watch(&get(&format!("n?version=&{LONG}")));
    node.wait_parked(1);
    let seen = now_us() + SECOND_US;
    let mut sentinel = node.watch(&get(&format!("n?{LONG}")).header("X-Last-Sync", seen.to_string()));
    node.wait_parked(2);

    node.delete(&format!("n?modified={seen}")).expect(204);

    assert_eq!(woken(&mut sentinel).expect(410).last_sync(), Some(seen));
    node.wait_parked(1);
    node.put("n?version=v1", "").expect(204);
    assert_eq!(woken(&mut watcher).expect(200).version(), Some("v1"));
}

#[test]
fn a_newer_stamp_parks_until_ours_reaches_it_through_versions_still_older() {
    let node = Node::start();
    let first = node.put("n?version=v0", "zero").expect(204).last_sync().expect("a stamp");
    let seen = first + SECOND_US;
    let ahead = |request: Request| request.header("X-Last-Sync", seen.to_string());
    let mut watchers = [
        node.watch(&ahead(get(&format!("n?{LONG}")))),
        node.watch(&ahead(get(&format!("n?version=v0&{LONG}")))),
        node.watch(&ahead(get(&format!("n?version=elsewhere&{LONG}")))),
        node.watch(&ahead(get(&format!("n?version=&{LONG}")))),
        node.watch(&ahead(get(&format!("n?{LONG}")).header("ETag", "\"elsewhere\""))),
        node.watch(&ahead(get(&format!("n?{LONG}")).header("If-None-Match", "\"v0\""))),
        node.watch(&ahead(get(&format!("n?{LONG}")).header("If-None-Match", "*"))),
        node.watch(&ahead(head(&format!("n?{LONG}")))),
    ];
    let count = watchers.len();
    node.wait_parked(count);

    for (older, version) in [(first + 1, "v1"), (seen - 1, "v2")] {
        let known = if version == "v1" { "v0" } else { "v1" };
        let mut sentinel = node.watch(&get(&format!("n?version={known}&{LONG}")));
        node.wait_parked(count + 1);
        node.put(&format!("n?version={version}&modified={older}"), "older").expect(204);
        assert_eq!(woken(&mut sentinel).expect(200).version(), Some(version));
        node.wait_parked(count);
        assert!(
            watchers.iter().all(|watcher| !watcher.has_news()),
            "{version} is older than what they have seen"
        );
    }

    node.put(&format!("n?version=v3&modified={seen}"), "new").expect(204);
    for watcher in &mut watchers {
        let answer = woken(watcher).expect(200);
        assert_eq!((answer.version(), answer.last_sync()), (Some("v3"), Some(seen)));
    }
}

#[test]
fn a_fresh_stamp_on_the_same_version_reaches_it_too() {
    let node = Node::start();
    let first = node.put("n?version=v1", "one").expect(204).last_sync().expect("a stamp");
    let seen = first + SECOND_US;
    let ahead = |request: Request| request.header("X-Last-Sync", seen.to_string());
    let mut watchers = [
        node.watch(&ahead(get(&format!("n?{LONG}")))),
        node.watch(&ahead(get(&format!("n?version=v1&{LONG}")))),
        node.watch(&ahead(get(&format!("n?{LONG}")).header("ETag", "\"v1\""))),
    ];
    let mut of_list = node.watch(&ahead(get(&format!("n?{LONG}")).header("If-None-Match", "\"v1\"")));
    node.wait_parked(watchers.len() + 1);
    node.put(&format!("n?version=v1&modified={seen}"), "one").expect(204);
    for watcher in &mut watchers {
        let answer = woken(watcher).expect(200);
        assert_eq!((answer.version(), answer.text(), answer.last_sync()), (Some("v1"), "one", Some(seen)));
    }
    // no body where it would be the same one again
    let answer = woken(&mut of_list).expect(304);
    assert_eq!((answer.version(), answer.last_sync()), (Some("v1"), Some(seen)));
}

#[test]
fn a_newer_stamp_parks_also_where_nothing_is_held() {
    let node = Node::start();
    node.delete("gone").expect(204);
    let seen = now_us() + SECOND_US;
    let ahead = |name: &str| get(&format!("{name}?{LONG}")).header("X-Last-Sync", seen.to_string());
    let mut never = node.watch(&ahead("never"));
    let mut gone = node.watch(&ahead("gone"));
    let mut deleted = node.watch(&ahead("deleted"));
    node.wait_parked(3);

    node.put(&format!("never?version=v1&modified={seen}"), "").expect(204);
    assert_eq!(woken(&mut never).expect(200).version(), Some("v1"));
    node.put(&format!("gone?version=v1&modified={seen}"), "").expect(204);
    assert_eq!(woken(&mut gone).expect(200).version(), Some("v1"));
    node.delete(&format!("deleted?modified={seen}")).expect(204);
    assert_eq!(woken(&mut deleted).expect(410).last_sync(), Some(seen));
}

#[test]
fn a_stamp_that_is_not_reached_ends_in_409_with_what_we_hold() {
    let node = Node::start();
    let held = node.put("value?version=v1", "one").expect(204).last_sync();
    node.delete("gone").expect(204);
    let deleted = node.get("gone").expect(410).last_sync();
    let ahead = (now_us() + 5 * SECOND_US).to_string();

    for (target, version, stamp) in [
        ("value?timeout=300ms", Some("v1"), held),
        ("value?version=v1&timeout=300ms", Some("v1"), held),
        ("value?version=v0&timeout=300ms", Some("v1"), held),
        ("gone?timeout=300ms", None, deleted),
        ("gone?version=&timeout=300ms", None, deleted),
        ("never?timeout=300ms", None, None),
        ("never?version=v1&timeout=300ms", None, None),
    ] {
        let (answer, took) = timed(&node, &get(target).header("X-Last-Sync", &ahead));
        assert_refusal(&answer, 409);
        assert!(took >= Duration::from_millis(300), "{target}: {took:?}");
        assert_eq!((answer.version(), answer.last_sync()), (version, stamp), "{target}");
    }
    let list = get("value?timeout=300ms").header("If-None-Match", "\"v1\"").header("X-Last-Sync", &ahead);
    assert_eq!(
        timed(&node, &list).0.expect(409).version(),
        Some("v1"),
        "not 304: our state is the older one"
    );
}

#[test]
fn a_stamp_that_is_ours_leaves_the_version_to_be_waited_for() {
    let node = Node::start();
    let held = node.put("n?version=v1", "one").expect(204).last_sync().expect("a stamp").to_string();
    let mut watcher = node.watch(&get(&format!("n?version=v1&{LONG}")).header("X-Last-Sync", &held));
    node.wait_parked(1);
    node.put("n?version=v2", "two").expect(204);
    assert_eq!(woken(&mut watcher).expect(200).version(), Some("v2"));
}

#[test]
fn a_stamp_from_before_this_set_leaves_the_rest_of_the_question() {
    let node = Node::start();
    node.put("n?version=v1", "one").expect(204);
    let mut watchers = [
        node.watch(&get(&format!("n?version=v1&{LONG}")).header("X-Last-Sync", "1")),
        node.watch(&get(&format!("new?version=&{LONG}")).header("X-Last-Sync", "1")),
    ];
    node.wait_parked(2);
    node.put("n?version=v2", "two").expect(204);
    node.put("new?version=v2", "two").expect(204);
    for watcher in &mut watchers {
        let answer = woken(watcher).expect(200);
        assert_eq!(answer.version(), Some("v2"));
        assert!(answer.header("X-Vwatch-Genesis").is_some(), "{answer:?}");
    }
}

#[test]
fn the_header_goes_before_the_parameter() {
    let node = Node::start();
    node.put("n?version=v1", "one").expect(204);
    // by the parameter alone it would park, by the header it is answered
    let at_once = node.client().ask(&get(&format!("n?version=v1&{LONG}")).header("ETag", "\"v0\""));
    assert_eq!(at_once.expect(200).version(), Some("v1"));
    // and the other way round
    let mut watcher = node.watch(&get(&format!("n?version=v0&{LONG}")).header("ETag", "\"v1\""));
    node.wait_parked(1);
    node.put("n?version=v2", "two").expect(204);
    assert_eq!(woken(&mut watcher).expect(200).version(), Some("v2"));
}

#[test]
fn if_none_match_goes_before_etag_and_the_parameter() {
    let node = Node::start();
    node.put("n?version=v1", "one").expect(204);
    let both =
        get(&format!("n?version=v1&{LONG}")).header("ETag", "\"v1\"").header("If-None-Match", "\"v0\"");
    assert_eq!(node.client().ask(&both).expect(200).version(), Some("v1"));
    let both =
        get(&format!("n?version=v0&{LONG}")).header("ETag", "\"v0\"").header("If-None-Match", "\"v1\"");
    let mut watcher = node.watch(&both);
    node.wait_parked(1);
    node.put("n?version=v2", "two").expect(204);
    assert_eq!(woken(&mut watcher).expect(200).version(), Some("v2"));
}

#[test]
fn a_connection_watches_again_and_again() {
    let node = Node::start();
    let mut known = node.put("n", "0").expect(204).version().expect("a version").to_owned();
    let mut watcher = node.client();
    for i in 1..10 {
        watcher.send(&get(&format!("n?version={known}&{LONG}")));
        node.wait_parked(1);
        node.put("n", i.to_string()).expect(204);
        let answer = woken(&mut watcher).expect(200);
        assert_eq!(answer.text(), i.to_string());
        known = answer.version().expect("a version").to_owned();
    }
}

#[test]
fn without_jitter_a_wake_waits_for_nothing() {
    let node = Node::with(&["--jitter-per-watch", "0"]);
    node.put("n?version=v1", "").expect(204);
    let mut watchers: Vec<_> = (0..50).map(|_| node.watch(&get(&format!("n?version=v1&{LONG}")))).collect();
    node.wait_parked(50);
    node.put("n?version=v2", "").expect(204);
    for watcher in &mut watchers {
        let timing = timing(&woken(watcher).expect(200));
        assert_eq!(timing.jitter.unwrap_or_default(), Duration::ZERO);
    }
}

#[test]
fn the_fan_out_is_paced_per_watcher() {
    let node = Node::with(&["--jitter-per-watch", "50ms"]);
    node.put("n?version=v1", "").expect(204);
    let mut watchers: Vec<_> = (0..20).map(|_| node.watch(&get(&format!("n?version=v1&{LONG}")))).collect();
    node.wait_parked(20);
    let started = Instant::now();

    node.put("n?version=v2", "").expect(204);

    let mut longest = Duration::ZERO;
    for watcher in &mut watchers {
        let answer = woken(watcher).expect(200);
        let timing = timing(&answer);
        let jitter = timing.jitter.unwrap_or_else(|| panic!("a paced wake has jitter: {answer:?}"));
        // both are rounded to the millisecond
        assert!(jitter <= timing.watch + Duration::from_millis(1), "{timing:?}");
        longest = longest.max(jitter);
    }
    // spread over 20 * 50 ms, in even steps or at random: all 20 in the first half is one run in a million
    assert!(started.elapsed() >= Duration::from_millis(500), "{:?}", started.elapsed());
    assert!(longest >= Duration::from_millis(500), "{longest:?}");
}

#[test]
fn one_watcher_alone_waits_for_nothing() {
    let node = Node::with(&["--jitter-per-watch", "1m", "--block-for", "1m"]);
    node.put("n?version=v1", "").expect(204);
    let mut watcher = node.watch(&get("n?version=v1"));
    node.wait_parked(1);
    node.put("n?version=v2", "").expect(204);
    let answer = woken(&mut watcher).expect(200);
    // measured, and so with what a busy machine adds; with the pace of one watcher it could be up to a minute
    assert!(timing(&answer).jitter.is_some_and(|jitter| jitter < LIMIT), "{answer:?}");
}

#[test]
fn the_pace_never_goes_beyond_block_for() {
    let node = Node::with(&["--jitter-per-watch", "1m", "--block-for", "600ms"]);
    node.put("n?version=v1", "").expect(204);
    let mut watchers: Vec<_> = (0..5).map(|_| node.watch(&get(&format!("n?version=v1&{LONG}")))).collect();
    node.wait_parked(5);
    node.put("n?version=v2", "").expect(204);
    for watcher in &mut watchers {
        let answer = woken(watcher).expect(200);
        assert_eq!(answer.version(), Some("v2"));
        // measured, and so with what a busy machine adds
        assert!(timing(&answer).jitter.unwrap_or_default() < LIMIT, "{answer:?}");
    }
}

#[test]
fn a_timeout_is_not_paced() {
    let node = Node::with(&["--jitter-per-watch", "1m", "--block-for", "1m"]);
    node.put("n?version=v1", "").expect(204);
    let mut watchers: Vec<_> = (0..10).map(|_| node.watch(&get("n?version=v1&timeout=200ms"))).collect();
    for watcher in &mut watchers {
        let answer = woken(watcher).expect(200);
        assert_eq!(answer.version(), Some("v1"));
        assert_eq!(timing(&answer).jitter.unwrap_or_default(), Duration::ZERO, "{answer:?}");
    }
    wait_until("no parked reader", LIMIT, || node.parked() == 0);
}
