//! Leases at a node that is alone, which votes itself: the interface, and what Whatnot's tests ask of a lease.

use std::time::{Duration, Instant};

use cluster_tests::http::{Connection, Request, Response};
use cluster_tests::node::Node;
use cluster_tests::wait::{LIMIT, wait_until};
use serde_json::Value;

/// A node of a new cluster: its voter need not abstain, and leases may last for longer than a test.
fn node(flags: &[&str]) -> Node {
    let new = [("VWATCH_NEW_CLUSTER".to_owned(), "default".to_owned())];
    let node = Node::with_env(flags, &new);
    assert_eq!(node.metric("vwatch_lease_abstention_seconds"), 0.0);
    node
}

fn acquire(node: &Node, target: &str) -> Response {
    node.server().ask(&Request::new("PUT", &format!("/v1/leases/{target}")))
}

fn list(node: &Node, target: &str) -> Response {
    node.client().ask(&Request::new("GET", target))
}

/// A lease that is granted.
struct Lease {
    path: String,
    id: String,
    token: u64,
    answer: Value,
}

/// A lease that outlasts the test, unless the target says how long it lasts.
fn granted(node: &Node, target: &str) -> Lease {
    let and = if target.contains('?') { '&' } else { '?' };
    let ttl = if target.contains("ttl=") { String::new() } else { format!("{and}ttl=1m") };
    of(&acquire(node, &format!("{target}{ttl}")).expect(200), target)
}

fn of(answer: &Response, target: &str) -> Lease {
    let answer = answer.json();
    Lease {
        path: target.split('?').next().unwrap_or_default().to_owned(),
        id: answer["id"].as_str().expect("an id").to_owned(),
        token: answer["token"].as_u64().expect("a token"),
        answer,
    }
}

impl Lease {
    fn renew(&self, node: &Node) -> Response {
        acquire(node, &format!("{}?token={}&id={}", self.path, self.token, self.id))
    }

    fn release(&self, node: &Node) -> Response {
        node.server().ask(&Request::new("DELETE", &format!("/v1/leases/{}?token={}", self.path, self.token)))
    }
}

fn error(answer: &Response) -> &str {
    answer.header("X-Vwatch-Error").unwrap_or("no error")
}

/// Whatnot: "Create a new lease".
#[test]
fn a_new_lease_is_granted_listed_and_released() {
    let node = node(&[]);
    let lease = granted(&node, "jobs/nightly?ttl=30s&holder=me");
    assert_eq!(lease.answer["path"], "jobs/nightly");
    assert_eq!(lease.answer["holder"], "me");
    assert_eq!(lease.answer["ttl_ms"], 30_000);
    assert!(lease.answer["expires_in_ms"].as_u64().unwrap() <= 29_250);
    let listed = list(&node, "/v1/leases?prefix=jobs").expect(200).json();
    assert_eq!(listed["leases"][0]["path"], "jobs/nightly");
    assert_eq!(listed["leases"][0]["token"], lease.token);
    assert!(listed["leases"][0].get("id").is_none(), "an id is the holder's");
    assert_eq!(list(&node, "/v1/leases?prefix=other").expect(200).json()["leases"], Value::Array(vec![]));
    let of_path = list(&node, "/v1/leases/jobs/nightly").expect(200).json();
    assert_eq!(of_path["leases"][0]["holder"], "me");
    // a node that is alone coordinates all
    assert_eq!(of_path["coordinator"], node.cluster()["node"]["node_id"]);
    assert!(listed.get("coordinator").is_none(), "each path has its own");
    lease.release(&node).expect(204);
    lease.release(&node).expect(204);
    assert_eq!(list(&node, "/v1/leases").expect(200).json()["leases"], Value::Array(vec![]));
    assert_eq!(error(&lease.renew(&node).expect(410)), "lease-lost");
}

/// The empty path has words of its own in what users read.
#[test]
fn a_lease_on_the_whole_namespace_is_named() {
    let node = node(&[]);
    let lease = granted(&node, "?prefix=true&holder=me");
    for answer in [acquire(&node, "a").expect(409), node.put("a", "1").expect(423)] {
        let text = answer.text();
        assert!(text.contains(": the whole namespace is leased by \"me\" for "), "{text}");
    }
    let renewed = acquire(&node, &format!("?prefix=true&token={}&id={:032x}", lease.token, 1)).expect(410);
    assert!(renewed.text().contains("that on the whole namespace is not live"), "{}", renewed.text());
}

/// Whatnot: "Lease expires after set time".
#[test]
fn a_lease_expires_after_its_time_and_not_before() {
    let node = node(&[]);
    let asked = Instant::now();
    let first = granted(&node, "a?ttl=4s");
    let answer = acquire(&node, "a").expect(409);
    assert_eq!(error(&answer), "lease-held");
    let retry: u64 = answer.header("Retry-After").and_then(|text| text.parse().ok()).expect("seconds");
    assert!((1..=4).contains(&retry), "{retry}");
    let second = of(&acquire(&node, "a?ttl=1m&wait=30s").expect(200), "a");
    assert!(asked.elapsed() >= Duration::from_millis(3900), "before its end");
    assert!(second.token > first.token);
    // the TTL counts from when it is granted, not from when it was asked for
    assert!(second.answer["expires_in_ms"].as_u64().unwrap() > 57_000, "{}", second.answer);
    // one whose lease has expired cannot end the next one's
    assert_eq!(error(&first.release(&node).expect(409)), "lease-held");
    assert_eq!(error(&first.renew(&node).expect(410)), "lease-lost");
    second.renew(&node).expect(200);
}

/// Whatnot: "lease responds to context cancellation": it ends at once, and not at its deadline.
#[test]
fn a_released_lease_is_handed_over_at_once() {
    let node = node(&[]);
    let first = granted(&node, "a");
    let mut waits = node.server();
    waits.send(&Request::new("PUT", "/v1/leases/a?ttl=1m&wait=1m&holder=next"));
    wait_until("one that waits", LIMIT, || node.metric("vwatch_lease_waiters") == 1.0);
    first.release(&node).expect(204);
    // long before it would have expired
    let second = of(&waits.answer().expect(200), "a");
    assert!(second.token > first.token && second.answer["holder"] == "next");
    assert_eq!(second.renew(&node).expect(200).json()["token"], second.token);
}

/// Whatnot: "element prefix can be locked and unlocked", both orders, and children that are made later.
#[test]
fn a_prefix_covers_what_is_below_it_now_and_later() {
    let node = node(&[]);
    let below = granted(&node, "a/b/c");
    for path in ["a?prefix=true", "a/b?prefix=true", "a/b/c?prefix=true", "?prefix=true"] {
        assert_eq!(error(&acquire(&node, path).expect(409)), "lease-held", "{path}");
    }
    granted(&node, "a/b");
    granted(&node, "a/b/cd?prefix=true");
    below.release(&node).expect(204);
    let above = granted(&node, "x?prefix=true");
    for path in ["x", "x/new", "x/new/child?prefix=true", "?prefix=true"] {
        assert_eq!(error(&acquire(&node, path).expect(409)), "lease-held", "{path}");
    }
    granted(&node, "xy");
    let in_another = node.server().ask(&Request::new("PUT", "/v1/ns/other/leases/?prefix=true&ttl=1m"));
    assert_eq!(in_another.expect(200).json()["path"], "", "a namespace is one for itself");
    assert_eq!(
        node.server().ask(&Request::new("PUT", "/v1/ns/other/leases/x")).expect(409).header("X-Vwatch-Error"),
        Some("lease-held")
    );
    let target = format!("/v1/leases/x?prefix=true&token={}", above.token);
    node.server().ask(&Request::new("DELETE", &target)).expect(204);
    granted(&node, "x/new");
}

/// Whatnot: the second lock of `lockPrefixThenUnlock`, and the other way round.
#[test]
fn a_request_below_a_prefix_waits_until_that_is_released() {
    let node = node(&[]);
    for (held, waiting) in [("a?prefix=true", "a/b"), ("a/b", "a?prefix=true")] {
        let first = granted(&node, held);
        let mut waits = node.server();
        let and = if waiting.contains('?') { '&' } else { '?' };
        waits.send(&Request::new("PUT", &format!("/v1/leases/{waiting}{and}ttl=1m&wait=1m")));
        wait_until("one that waits", LIMIT, || node.metric("vwatch_lease_waiters") == 1.0);
        let target = format!("/v1/leases/{held}{}token={}", if and == '?' { '&' } else { '?' }, first.token);
        node.server().ask(&Request::new("DELETE", &target)).expect(204);
        let second = of(&waits.answer().expect(200), waiting);
        assert!(second.token > first.token);
        let target = format!("/v1/leases/{waiting}{and}token={}", second.token);
        node.server().ask(&Request::new("DELETE", &target)).expect(204);
    }
}

#[test]
fn writes_are_held_to_leases() {
    let node = node(&[]);
    node.put("jobs/x", "before").expect(204);
    let lease = granted(&node, "jobs?prefix=true&holder=me");
    let token = lease.token.to_string();
    for method in ["PUT", "DELETE"] {
        for name in ["jobs", "jobs/x", "jobs/new/child"] {
            let target = format!("/v1/versions/{name}");
            let answer = node.server().ask(&Request::new(method, &target).body(""));
            assert_eq!(error(&answer.expect(423)), "locked", "{method} {name}");
            let other = Request::new(method, &target).header("X-Vwatch-Lease", "17").body("");
            assert_eq!(error(&node.server().ask(&other).expect(412)), "lease-not-held");
            for fence in ["", "?fence=strict"] {
                let own = Request::new(method, &format!("{target}{fence}"));
                let answer = node.server().ask(&own.header("X-Vwatch-Lease", &token).body("")).expect(204);
                assert!(answer.last_sync().unwrap() > lease.token, "stamped above the token");
            }
        }
    }
    node.put("jobsx", "free").expect(204);
    assert_eq!(node.get("jobs/new/child").status, 410, "reads go on");
    let bad = Request::new("PUT", "/v1/versions/a?fence=strict").body("");
    assert_eq!(error(&node.server().ask(&bad).expect(400)), "bad-parameter");
    let early =
        Request::new("PUT", "/v1/versions/jobs/x?modified=17").header("X-Vwatch-Lease", &token).body("");
    assert_eq!(error(&node.server().ask(&early).expect(400)), "bad-parameter");
    let target = format!("/v1/leases/jobs?prefix=true&token={token}");
    node.server().ask(&Request::new("DELETE", &target)).expect(204);
    let token = granted(&node, "jobs?prefix=true&ttl=2s").token.to_string();
    wait_until("the end of the lease", LIMIT, || node.put("jobs/x", "after").status == 204);
    // the voters keep it for a moment longer than its holder
    wait_until("the end of the token", LIMIT, || {
        let late = Request::new("PUT", "/v1/versions/jobs/x").header("X-Vwatch-Lease", &token).body("");
        error(&node.server().ask(&late)) == "lease-not-held"
    });
}

/// Whatnot: `TestLockQueuingStats` and "Queue Locks".
#[test]
fn those_that_wait_are_served_in_their_order() {
    let node = node(&[]);
    let mut lease = granted(&node, "a");
    let mut waiting: Vec<Connection> = Vec::new();
    for i in 0..5 {
        let mut connection = node.server();
        connection.send(&Request::new("PUT", &format!("/v1/leases/a?ttl=1m&wait=1m&holder=w{i}")));
        waiting.push(connection);
        wait_until("one more", LIMIT, || node.metric("vwatch_lease_waiters") == f64::from(i + 1));
    }
    assert_eq!(list(&node, "/v1/leases/a").json()["leases"][0]["waiting"], 5);
    // the third one gives up
    drop(waiting.remove(2));
    wait_until("one less", LIMIT, || node.metric("vwatch_lease_waiters") == 4.0);
    for (connection, holder) in waiting.iter_mut().zip(["w0", "w1", "w3", "w4"]) {
        lease.release(&node).expect(204);
        let next = of(&connection.answer().expect(200), "a");
        assert_eq!(next.answer["holder"], holder);
        assert!(next.token > lease.token);
        lease = next;
    }
}

#[test]
fn a_client_that_hangs_up_leaves_no_lease_behind() {
    let node = node(&[]);
    let first = granted(&node, "a");
    let mut gone = node.server();
    gone.send(&Request::new("PUT", "/v1/leases/a?ttl=1m&wait=1m"));
    wait_until("one that waits", LIMIT, || node.metric("vwatch_lease_waiters") == 1.0);
    drop(gone);
    wait_until("none that waits", LIMIT, || node.metric("vwatch_lease_waiters") == 0.0);
    first.release(&node).expect(204);
    granted(&node, "a");
}

#[test]
fn a_node_that_stops_answers_those_that_wait() {
    let mut node = node(&["--shutdown-grace=1h"]);
    granted(&node, "a");
    let mut waits = node.server();
    waits.send(&Request::new("PUT", "/v1/leases/a?ttl=1m&wait=10m&holder=w"));
    wait_until("one that waits", LIMIT, || node.metric("vwatch_lease_waiters") == 1.0);
    node.terminate();
    let answer = waits.answer();
    // or it has just got the lease
    assert!(answer.status == 200 || error(&answer) == "stopping", "{answer:?}");
    assert!(node.wait_exit(LIMIT).success());
}

/// Whatnot: `TestClaimOverMax` and `TestSemaphoreClaim`.
#[test]
fn a_path_with_slots_is_shared_by_as_many() {
    let node = node(&[]);
    assert_eq!(error(&acquire(&node, "pool?slots=10&claim=11").expect(400)), "bad-parameter");
    let mut held: Vec<Lease> = (0..8).map(|_| granted(&node, "pool?slots=10")).collect();
    held.push(granted(&node, "pool?slots=10&claim=2"));
    assert_eq!(held[8].answer["claim"], 2);
    assert_eq!(error(&acquire(&node, "pool?slots=10").expect(409)), "lease-held");
    assert_eq!(error(&acquire(&node, "pool?slots=11").expect(409)), "lease-held", "another number of slots");
    assert_eq!(error(&acquire(&node, "pool").expect(409)), "lease-held", "alone");
    let tokens: Vec<u64> = held.iter().map(|lease| lease.token).collect();
    assert!(tokens.is_sorted(), "{tokens:?}");
    held[8].renew(&node).expect(200);
    // a return counts once
    held[0].release(&node).expect(204);
    held[0].release(&node).expect(204);
    granted(&node, "pool?slots=10");
    assert_eq!(error(&acquire(&node, "pool?slots=10").expect(409)), "lease-held");
}

#[test]
fn the_same_request_gets_the_same_lease() {
    let node = node(&[]);
    let target = "a?ttl=1m&request=6ba7b810-9dad-11d1-80b4-00c04fd430c8";
    let (one, two) = (granted(&node, target), granted(&node, target));
    assert_eq!((one.token, &one.id), (two.token, &two.id));
    assert_eq!(one.id.len(), 32);
    assert_eq!(error(&acquire(&node, "a").expect(409)), "lease-held");
}

#[test]
fn bad_input_is_refused_in_words_and_changes_nothing() {
    let node = node(&[]);
    for (target, code) in [
        ("", "bad-name"),
        ("/a", "bad-name"),
        ("a/", "bad-name"),
        ("a%0Ab", "bad-name"),
        ("a?ttl=1", "bad-parameter"),
        ("a?ttl=999ms", "bad-parameter"),
        ("a?ttl=60001ms", "bad-parameter"),
        ("a?ttl=-1s", "bad-parameter"),
        ("a?wait=601s", "bad-parameter"),
        ("a?wait=soon", "bad-parameter"),
        ("a?prefix=yes", "bad-parameter"),
        ("a?holder=%00", "bad-parameter"),
        ("a?request=1", "bad-parameter"),
        ("a?request=00000000-0000-0000-0000-000000000000", "bad-parameter"),
        ("a?slots=0", "bad-parameter"),
        ("a?slots=1025", "bad-parameter"),
        ("a?claim=1", "bad-parameter"),
        ("a?slots=2&prefix=true", "bad-parameter"),
        ("a?token=1", "bad-parameter"),
        ("a?id=6ba7b8109dad11d180b400c04fd430c8", "bad-parameter"),
        ("a?token=x&id=6ba7b8109dad11d180b400c04fd430c8", "bad-parameter"),
        ("a?token=1&id=6ba7b8109dad11d180b400c04fd430c8&wait=1s", "bad-parameter"),
        ("a?tll=5s", "bad-parameter"),
    ] {
        let answer = acquire(&node, target).expect(400);
        assert_eq!(error(&answer), code, "{target}: {}", answer.text());
        assert_eq!(answer.text().matches(": ").count().min(2), 2, "{target}: {}", answer.text());
    }
    let long = "x".repeat(257);
    assert_eq!(error(&acquire(&node, &format!("a?holder={long}")).expect(400)), "bad-parameter");
    let long = "x".repeat(513);
    assert_eq!(error(&acquire(&node, &long).expect(414)), "name-too-long");
    let no_token = node.server().ask(&Request::new("DELETE", "/v1/leases/a")).expect(400);
    assert_eq!(error(&no_token), "bad-parameter");
    assert_eq!(node.metric("vwatch_leases{state=\"known\"}"), 0.0);
}

#[test]
fn limits_have_their_names() {
    let node = node(&["--max-leases=3"]);
    let held: Vec<Lease> = (0..3).map(|i| granted(&node, &format!("n{i}"))).collect();
    let answer = acquire(&node, "one-more").expect(503);
    assert_eq!(error(&answer), "too-many-leases");
    assert_eq!(node.metric("vwatch_limit_hits_total{limit=\"leases\"}"), 1.0);
    held[0].release(&node).expect(204);
    granted(&node, "one-more");
}

#[test]
fn a_follower_takes_no_leases_and_a_voter_that_has_just_started_abstains() {
    let leader = Node::with(&["--lease-max-ttl=1h"]);
    let answer = acquire(&leader, "a").expect(503);
    assert_eq!(error(&answer), "no-majority");
    assert!(answer.text().contains("abstains for 1h1m"), "{}", answer.text());
    assert!(leader.metric("vwatch_lease_abstention_seconds") > 3600.0);
    let follower = Node::with(&["--fill-from", &format!("http://{}", leader.client_addr())]);
    assert_eq!(error(&acquire(&follower, "a").expect(405)), "method-not-allowed");
    leader.put("a", "writes go on").expect(204);
}
