//! Writes of one name: the server port's PUT and DELETE.

use cluster_tests::http::{Request, Response};
use cluster_tests::node::{Node, delete, get, put};
use cluster_tests::text::{assert_refusal, http_date, now_us};

/// A second, in stamps.
const SECOND_US: u64 = 1_000_000;

/// vwatch's README: a Thursday in March 2025.
const MARCH: &str = "Thu, 13 Mar 2025 03:48:12 GMT";
const MARCH_US: u64 = 1_741_837_692_000_000;

/// The result of `xxh3sum -H2` for no bytes.
const OF_NOTHING: &str = "xxh3:99aa06d3014798d86001c324468d497f";
/// The two examples of vwatch's README.
const OF_3456: &str = "xxh3:ee66b703453af390404f394777116873";
const OF_1234: &str = "xxh3:9a4dea864648af82823c8c03e6dd2202";

/// Checks the three headers of the record that stands in the answer to a write, and that they agree.
#[track_caller]
fn tells(answer: &Response, version: &str) -> u64 {
    assert_eq!(answer.version(), Some(version), "{answer:?}");
    let last_sync = answer.last_sync().expect("X-Last-Sync");
    assert_eq!(answer.header("Last-Modified"), Some(http_date(last_sync).as_str()));
    last_sync
}

#[test]
fn a_write_is_answered_with_what_stands() {
    let node = Node::start();
    let before = now_us();
    let written = node.put("n?version=v1", "data").expect(204);
    let after = now_us();

    let stamp = tells(&written, "v1");
    assert!((before..=after).contains(&stamp), "our clock's: {before} {stamp} {after}");
    assert!(written.body.is_empty());
    let read = node.get("n").expect(200);
    assert_eq!((tells(&read, "v1"), read.text()), (stamp, "data"));
}

#[test]
fn the_version_is_the_header_or_the_parameter_or_the_digest() {
    let node = Node::start();
    let tagged = |target: &str| put(target).header("ETag", "\"by-header\"").body("3456");
    tells(&node.server().ask(&tagged("a?version=by-parameter")).expect(204), "by-header");
    tells(&node.server().ask(&tagged("b")).expect(204), "by-header");
    tells(&node.put("c?version=by-parameter", "3456").expect(204), "by-parameter");
    tells(&node.put("d", "3456").expect(204), OF_3456);
    tells(&node.put("e", "1234").expect(204), OF_1234);
    tells(&node.put("f", "").expect(204), OF_NOTHING);

    for (name, version) in [("a", "by-header"), ("c", "by-parameter"), ("d", OF_3456), ("f", OF_NOTHING)] {
        tells(&node.get(name).expect(200), version);
    }
}

/// vwatch takes the header with and without quotes.
#[test]
fn the_version_header_needs_no_quotes() {
    let node = Node::start();
    tells(&node.server().ask(&put("n").header("ETag", "v1").body("")).expect(204), "v1");
}

#[test]
fn every_character_that_may_stand_in_an_etag_may_stand_in_a_version() {
    let node = Node::start();
    let all: String = ('!'..='~').filter(|&c| c != '"').collect();
    let tag = format!("\"{all}\"");
    tells(&node.server().ask(&put("n").header("ETag", &tag).body("")).expect(204), &all);
    tells(&node.get("n").expect(200), &all);
    let unchanged = node.client().ask(&get("n?timeout=0s").header("If-None-Match", &tag));
    assert_eq!(unchanged.expect(304).version(), Some(all.as_str()));

    let long = "v".repeat(256);
    tells(&node.put(&format!("long?version={long}"), "").expect(204), &long);
    tells(&node.put("sha?version=sha256%3A55109e78%2Fb", "").expect(204), "sha256:55109e78/b");
    // a plus is a space in a form, and a space may not stand in an ETag
    tells(&node.put("plus?version=a%2Bb", "").expect(204), "a+b");
}

#[test]
fn the_stamp_is_the_header_or_the_parameter_or_ours() {
    let node = Node::start();
    let dated =
        node.server().ask(&put("dated?version=v").header("Last-Modified", MARCH).body("")).expect(204);
    assert_eq!((tells(&dated, "v"), dated.header("Last-Modified")), (MARCH_US, Some(MARCH)));
    let stamped = node.put(&format!("stamped?version=v&modified={}", MARCH_US + 123_456), "").expect(204);
    assert_eq!((tells(&stamped, "v"), stamped.header("Last-Modified")), (MARCH_US + 123_456, Some(MARCH)));
    let both = put(&format!("both?version=v&modified={MARCH_US}")).header("Last-Modified", MARCH).body("");
    assert_eq!(tells(&node.server().ask(&both).expect(204), "v"), MARCH_US, "they agree");

    for (name, stamp) in [("dated", MARCH_US), ("stamped", MARCH_US + 123_456), ("both", MARCH_US)] {
        assert_eq!(tells(&node.get(name).expect(200), "v"), stamp);
    }
}

#[test]
fn a_stamp_may_be_a_little_ahead_of_the_clock() {
    let node = Node::start();
    node.put(&format!("n?modified={}", now_us() + SECOND_US), "").expect(204);
    assert_refusal(&node.put(&format!("m?modified={}", now_us() + 60 * SECOND_US), ""), 400);

    let lenient = Node::with(&["--max-future", "1h"]);
    lenient.put(&format!("n?modified={}", now_us() + 1800 * SECOND_US), "").expect(204);
    assert_refusal(&lenient.put(&format!("m?modified={}", now_us() + 7200 * SECOND_US), ""), 400);
}

#[test]
fn without_a_stamp_a_write_supersedes_all_that_its_node_has_seen() {
    let node = Node::start();
    let ahead = now_us() + SECOND_US;
    node.put(&format!("n?version=v1&modified={ahead}"), "").expect(204);

    let second = tells(&node.put("n?version=v2", "two").expect(204), "v2");
    assert!(second > ahead);
    tells(&node.get("n").expect(200), "v2");
    node.delete("n").expect(204);
    let deleted = node.get("n").expect(410).last_sync().expect("a stamp");
    assert!(deleted > second);
    let third = tells(&node.put("n?version=v3", "three").expect(204), "v3");
    assert!(third > deleted);
}

#[test]
fn stamps_of_a_node_rise_from_write_to_write() {
    let node = Node::start();
    let mut server = node.server();
    let mut last = 0;
    for i in 0..100 {
        let name = ["a", "b"][i % 2];
        let stamp =
            tells(&server.ask(&put(&format!("{name}?version=v{i}")).body("")).expect(204), &format!("v{i}"));
        assert!(stamp > last, "{stamp} after {last}");
        last = stamp;
    }
}

#[test]
fn an_older_write_loses_and_gets_the_record_that_stands() {
    let node = Node::start();
    let winner = tells(&node.put("n?version=v2", "two").expect(204), "v2");

    let lost = node.put(&format!("n?version=v1&modified={}", winner - 1), "one");

    assert_refusal(&lost, 409);
    assert_eq!(tells(&lost, "v2"), winner);
    let read = node.get("n").expect(200);
    assert_eq!((tells(&read, "v2"), read.text()), (winner, "two"), "nothing was changed");
}

#[test]
fn a_newer_stamp_wins_also_with_a_lesser_version() {
    let node = Node::start();
    let stamp = now_us();
    node.put(&format!("n?version=z&modified={stamp}"), "").expect(204);
    node.put(&format!("n?version=a&modified={}", stamp + 1), "").expect(204);
    assert_eq!(tells(&node.get("n").expect(200), "a"), stamp + 1);
}

#[test]
fn of_two_writes_with_one_stamp_the_greater_version_stands_in_either_order() {
    let node = Node::start();
    let stamp = now_us();
    for (name, versions, statuses) in [("up", ["a", "b"], [204, 204]), ("down", ["b", "a"], [204, 409])] {
        for (version, status) in versions.iter().zip(statuses) {
            let answer =
                node.put(&format!("{name}?version={version}&modified={stamp}"), *version).expect(status);
            let stands = if status == 409 { "b" } else { version };
            assert_eq!(tells(&answer, stands), stamp);
        }
        assert_eq!(node.get(name).expect(200).text(), "b");
    }
}

#[test]
fn retries_are_harmless() {
    let node = Node::start();
    let stamp = now_us();
    let target = format!("n?version=v1&modified={stamp}");
    for _ in 0..3 {
        assert_eq!(tells(&node.put(&target, "one").expect(204), "v1"), stamp);
    }
    // the same version stands already, with a newer stamp
    let fresh = tells(&node.put("n?version=v1", "one").expect(204), "v1");
    assert!(fresh > stamp);
    assert_eq!(tells(&node.put(&target, "one").expect(204), "v1"), fresh);
    assert_eq!(tells(&node.get("n").expect(200), "v1"), fresh);
}

#[test]
fn the_same_version_with_a_newer_stamp_is_stored_with_its_stamp() {
    let node = Node::start();
    let first = tells(&node.put("n?version=v1", "one").expect(204), "v1");
    let second = tells(&node.put(&format!("n?version=v1&modified={}", first + 5), "one").expect(204), "v1");
    let read = node.get("n").expect(200);
    assert_eq!((second, tells(&read, "v1"), read.text()), (first + 5, first + 5, "one"));
}

/// Readers that know the version would not be woken: they would keep the old data, and later readers would get the new.
#[test]
fn the_same_version_with_other_data_is_refused_and_changes_nothing() {
    let node = Node::start();
    let stamp = tells(&node.put("n?version=v1", "one").expect(204), "v1");
    let mut watcher = node.watch(&get("n?version=v1&timeout=1m"));
    node.wait_parked(1);
    for target in [
        "n?version=v1".to_owned(),
        format!("n?version=v1&modified={}", stamp + 5),
        "n?version=v1&modified=1".into(),
    ] {
        for data in ["uno", ""] {
            let refused = node.put(&target, data);
            assert_refusal(&refused, 409);
            assert!(refused.text().starts_with("same version, other data: "), "{refused:?}");
            assert_eq!(tells(&refused, "v1"), stamp);
            let read = node.get("n").expect(200);
            assert_eq!((tells(&read, "v1"), read.text()), (stamp, "one"));
        }
    }
    assert!(!watcher.has_news());
    // after a delete or another version, the old data no longer count
    node.put("n?version=v2", "two").expect(204);
    assert_eq!(watcher.answer().expect(200).text(), "two");
    node.put("n?version=v1", "uno").expect(204);
    node.delete("n").expect(204);
    node.put("n?version=v1", "eins").expect(204);
    assert_eq!(node.get("n").expect(200).text(), "eins");
}

#[test]
fn data_up_to_the_limit_is_taken_and_more_is_refused() {
    let node = Node::start();
    node.put("n?version=v1", vec![b'x'; 4096]).expect(204);
    assert_refusal(&node.put("n?version=v2", vec![b'x'; 4097]), 413);
    let read = node.get("n").expect(200);
    assert_eq!((read.version(), read.body.len()), (Some("v1"), 4096));

    let small = Node::with(&["--data-limit-bytes", "10"]);
    small.put("n?version=v1", "0123456789").expect(204);
    assert_refusal(&small.put("n?version=v2", "0123456789A"), 413);
    assert_eq!(small.get("n").expect(200).text(), "0123456789");
}

#[test]
fn data_in_chunks_is_put_together() {
    let node = Node::start();
    let request = put("n").chunks([&b"12"[..], b"3", b"4"]);
    tells(&node.server().ask(&request).expect(204), OF_1234);
    assert_eq!(node.get("n").expect(200).text(), "1234");
}

#[test]
fn without_the_error_data_is_cut_at_the_limit() {
    let node = Node::with(&["--data-limit-bytes", "4", "--data-limit-error=false"]);
    tells(&node.put("n", "12345678").expect(204), OF_1234);
    assert_eq!(node.get("n").expect(200).text(), "1234");
    let chunked = put("chunked").chunks([&b"123"[..], b"45", b"678"]);
    tells(&node.server().ask(&chunked).expect(204), OF_1234);
    assert_eq!(node.get("chunked").expect(200).text(), "1234");
    tells(&node.put("named?version=v1", "12345678").expect(204), "v1");
    assert_eq!(node.get("named").expect(200).text(), "1234");
    tells(&node.put("short", "3456").expect(204), OF_3456);
}

#[test]
fn a_version_alone_needs_no_body() {
    let node = Node::start();
    // as `curl -X PUT` sends it: neither a length nor chunks
    tells(&node.server().ask(&put("n?version=v1")).expect(204), "v1");
    assert_eq!(node.get("n").expect(200).body.len(), 0);
}

#[test]
fn what_comes_back_to_its_own_node_is_left_alone() {
    let node = Node::with(&["--node-id", "node-1"]);
    node.put("n?version=v1", "one").expect(204);
    let own = node.put("n?version=v2&source=node-1", "two").expect(200);
    assert!(own.header("ETag").is_none(), "nothing was done: {own:?}");
    node.put("new?version=v2&source=node-1", "two").expect(200);
    assert_eq!(node.get("n").expect(200).version(), Some("v1"));
    node.get("new").expect(404);

    tells(&node.put("n?version=v3&source=node-2", "three").expect(204), "v3");
    assert_eq!(node.get("n").expect(200).version(), Some("v3"));
}

#[test]
fn a_delete_leaves_a_tombstone() {
    let node = Node::start();
    let written = tells(&node.put("n?version=v1", "one").expect(204), "v1");
    let answer = node.delete("n").expect(204);
    assert!(answer.body.is_empty());
    let gone = node.get("n").expect(410);
    assert!(gone.last_sync() > Some(written));

    let stamp = now_us();
    node.put(&format!("dated?version=v1&modified={}", stamp - 1), "").expect(204);
    node.delete(&format!("dated?modified={stamp}")).expect(204);
    assert_eq!(node.get("dated").expect(410).last_sync(), Some(stamp));
}

#[test]
fn a_delete_of_what_was_never_seen_leaves_one_too() {
    let node = Node::start();
    node.delete("never").expect(204);
    let deleted = node.get("never").expect(410).last_sync().expect("a stamp");
    assert_refusal(&node.put(&format!("never?version=v1&modified={}", deleted - 1), ""), 409);
    node.get("never").expect(410);
}

#[test]
fn a_delete_can_be_repeated() {
    let node = Node::start();
    let stamp = now_us();
    node.put(&format!("n?version=v1&modified={}", stamp - 1), "").expect(204);
    for _ in 0..3 {
        node.delete(&format!("n?modified={stamp}")).expect(204);
        assert_eq!(node.get("n").expect(410).last_sync(), Some(stamp));
    }
    node.delete("n").expect(204);
    assert!(node.get("n").expect(410).last_sync() > Some(stamp));
}

#[test]
fn a_delete_older_than_what_stands_loses() {
    let node = Node::start();
    let stamp = tells(&node.put("n?version=v1", "one").expect(204), "v1");
    let lost = node.delete(&format!("n?modified={}", stamp - 1));
    assert_refusal(&lost, 409);
    assert_eq!(tells(&lost, "v1"), stamp);
    assert_eq!(node.get("n").expect(200).text(), "one");
}

#[test]
fn a_write_older_than_the_delete_loses() {
    let node = Node::start();
    node.put("n?version=v1", "one").expect(204);
    node.delete("n").expect(204);
    let deleted = node.get("n").expect(410).last_sync().expect("a stamp");

    let lost = node.put(&format!("n?version=v1&modified={}", deleted - 1), "one");

    assert_refusal(&lost, 409);
    assert_eq!((lost.version(), lost.last_sync()), (None, Some(deleted)));
    node.get("n").expect(410);
    tells(&node.put(&format!("n?version=v1&modified={}", deleted + 1), "again").expect(204), "v1");
    assert_eq!(node.get("n").expect(200).text(), "again");
}

#[test]
fn of_a_write_and_a_delete_with_one_stamp_the_delete_stands_in_either_order() {
    let node = Node::start();
    let stamp = now_us();
    node.put(&format!("a?version=v1&modified={stamp}"), "").expect(204);
    node.delete(&format!("a?modified={stamp}")).expect(204);
    node.delete(&format!("b?modified={stamp}")).expect(204);
    assert_refusal(&node.put(&format!("b?version=v1&modified={stamp}"), ""), 409);
    for name in ["a", "b"] {
        assert_eq!(node.get(name).expect(410).last_sync(), Some(stamp));
    }
}

#[test]
fn a_full_set_takes_no_more_and_keeps_what_it_has() {
    let node = Node::with(&["--max-set-bytes", "65536"]);
    let data = vec![b'x'; 4000];
    let mut server = node.server();
    let mut stored = 0;
    let refused = loop {
        let answer = server.ask(&put(&format!("n{stored}?version=v1")).body(&data));
        if answer.status != 204 {
            break answer;
        }
        stored += 1;
        assert!(stored < 100, "100 records of 4,000 bytes are in a set of 65,536");
    };
    assert_refusal(&refused, 507);
    assert!(stored >= 10, "only {stored} fit");
    node.get(&format!("n{stored}")).expect(404);
    // what needs no more room is still taken
    server.ask(&put("n0?version=v2").body(&data)).expect(204);
    // a delete makes room
    server.ask(&delete("n0")).expect(204);
    server.ask(&put("m?version=v1").body("small")).expect(204);
    assert_eq!(node.get("m").expect(200).text(), "small");
    for i in 1..stored {
        assert_eq!(node.get(&format!("n{i}")).expect(200).body.len(), 4000);
    }
}

#[test]
fn names_up_to_the_limit_are_taken() {
    let node = Node::start();
    let longest = "n".repeat(512);
    node.put(&format!("{longest}?version=v1"), "").expect(204);
    assert_eq!(node.get(&longest).expect(200).version(), Some("v1"));
    // the limit is that of the name and not of its spelling
    let encoded = "%6E".repeat(512);
    assert_eq!(node.get(&encoded).expect(200).version(), Some("v1"));
    for refused in [format!("{longest}n"), format!("{encoded}n"), "é".repeat(256) + "n"] {
        let refused = refused.replace('é', "%C3%A9");
        assert_refusal(&node.put(&format!("{refused}?version=v1"), ""), 414);
        assert_refusal(&node.get(&refused), 414);
        assert_refusal(&node.delete(&refused), 414);
    }

    let short = Node::with(&["--name-limit-bytes", "8"]);
    short.put("12345678?version=v1", "").expect(204);
    assert_refusal(&short.put("123456789?version=v1", ""), 414);
}

#[test]
fn a_writer_that_sends_expect_continue_gets_100() {
    let node = Node::start();
    let mut server = node.server();
    let mut request =
        Request::new("PUT", "/v1/versions/n").header("Expect", "100-continue").body("1234").bytes();
    let body = request.split_off(request.len() - 4);
    server.send_bytes(&request);
    server.send_bytes(&body);
    tells(&server.answer().expect(204), OF_1234);
}

/// A write without the check of its condition would be worse than no write.
#[test]
fn a_write_on_a_condition_is_refused_and_not_done() {
    let node = Node::start();
    node.put("n?version=v1", "one").expect(204);
    for (field, value) in [
        ("If-Match", "\"v0\""),
        ("If-None-Match", "*"),
        ("If-Unmodified-Since", "Thu, 13 Mar 2025 03:48:12 GMT"),
    ] {
        for request in [put("n?version=v2").body("two"), delete("n")] {
            assert_refusal(&node.server().ask(&request.header(field, value)), 400);
        }
    }
    assert_eq!(node.get("n").expect(200).version(), Some("v1"));
}

/// A terminal takes them for commands. Only the node that accepts a write rejects them: see the round trips of
/// messages.
#[test]
fn a_version_with_a_control_character_is_refused() {
    let node = Node::start();
    for request in
        [put("n").header("ETag", b"\"v\xc2\x9b2J\""), put("n?version=v%C2%9B2J"), put("n?version=v%7f")]
    {
        let answer = node.server().ask(&request.body("data")).expect(400);
        assert!(answer.text().starts_with("bad version: "), "{answer:?}");
    }
    node.get("n").expect(404);
    // a reader may know one that another node accepted
    node.put("n?version=v1", "").expect(204);
    assert_eq!(node.get("n?version=v%C2%9B2J").expect(200).version(), Some("v1"));
}
