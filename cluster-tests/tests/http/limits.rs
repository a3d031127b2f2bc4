//! Limits of watchers and of time: a connection over a limit gets an error or is closed, and each is counted.

use cluster_tests::heavy::heavy;
use cluster_tests::http::Request;
use cluster_tests::node::{GROUP_SECRET, Node, get, put};
use cluster_tests::text::{assert_refusal, metric, now_us};
use cluster_tests::wait::{LIMIT, wait_until};

/// What makes the fast path give a connection to the ordinary path, and changes nothing else.
fn ordinary(request: &Request) -> Request {
    request.clone().header("Trailer", "X-None")
}

fn hits(node: &Node, limit: &str) -> f64 {
    let metrics = node.server().ask(&Request::new("GET", "/metrics")).expect(200);
    let name = format!("vwatch_limit_hits_total{{limit=\"{limit}\"}}");
    metric(metrics.text(), &name).expect("the metric")
}

const BOTH_PATHS: [fn(&Request) -> Request; 2] = [Request::clone, ordinary];

#[test]
fn one_watcher_too_many_gets_503() {
    let node = Node::with(&["--max-watchers", "6", "--max-watchers-per-name", "4"]);
    for name in ["a", "b"] {
        node.put(&format!("{name}?version=v1"), "").expect(204);
    }
    let a = get("a?version=v1&timeout=1m");
    let b = get("b?version=v1&timeout=1m");
    let mut parked: Vec<_> = (0..4).map(|i| node.watch(&BOTH_PATHS[i % 2](&a))).collect();
    node.wait_parked(4);
    for form in BOTH_PATHS {
        // a stamp to wait for, a list of versions: whatever is waited for, it is the same name
        let stamped = get("a?timeout=1m").header("X-Last-Sync", (now_us() + 60_000_000).to_string());
        for request in [&a, &stamped, &get("a").header("If-None-Match", "\"x\", \"v1\"")] {
            let mut connection = node.client();
            let answer = connection.ask(&form(request));
            assert_refusal(&answer, 503);
            assert_eq!(answer.header("Retry-After"), Some("1"));
            // the same connection goes on, and gets the record
            connection.ask(&form(&get("a"))).expect(200);
            connection.ask(&form(&get("a?version=v1&timeout=0s"))).expect(200);
        }
    }
    assert_eq!(hits(&node, "watchers_of_a_name"), 6.0);
    assert_eq!(hits(&node, "watchers"), 0.0);

    parked.extend((0..2).map(|i| node.watch(&BOTH_PATHS[i](&b))));
    node.wait_parked(6);
    for form in BOTH_PATHS {
        assert_refusal(&node.client().ask(&form(&b)), 503);
    }
    assert_eq!(hits(&node, "watchers"), 2.0);

    // a wake makes room
    node.put("a?version=v2", "").expect(204);
    for watcher in &mut parked[..4] {
        assert_eq!(watcher.answer().expect(200).version(), Some("v2"));
    }
    let mut again = node.watch(&get("a?version=v2&timeout=1m"));
    node.wait_parked(3);
    node.server().ask(&put("a?version=v3").body("")).expect(204);
    again.answer().expect(200);
}

#[test]
fn limits_are_shown_beside_what_there_is() {
    let node = Node::with(&["--max-watchers", "6", "--max-watchers-per-name", "4"]);
    let metrics = node.server().ask(&Request::new("GET", "/metrics")).expect(200);
    for (of, limit) in [("all", 6.0), ("a_name", 4.0)] {
        let name = format!("vwatch_parked_watchers_limit{{of=\"{of}\"}}");
        assert_eq!(metric(metrics.text(), &name), Some(limit));
    }
}

#[test]
fn a_silent_connection_is_closed_and_counted() {
    let node = Node::with(&["--idle-timeout", "1s"]);
    node.put("n?version=v1", "").expect(204);
    // silent from the beginning, after an answer, in the middle of a head; on each path
    let mut silent = vec![node.client(), node.server()];
    for form in BOTH_PATHS {
        let mut kept = node.client();
        kept.ask(&form(&get("n"))).expect(200);
        silent.push(kept);
    }
    let mut half = node.client();
    half.send_bytes(b"GET /v1/versions/n HT");
    silent.push(half);
    for connection in &mut silent {
        wait_until("the end of a silent connection", LIMIT, || connection.hung_up());
    }
    assert!(hits(&node, "idle_time") >= 5.0, "{}", hits(&node, "idle_time"));
}

/// A connection that does not take its answer is closed, on each path.
#[test]
fn a_connection_that_does_not_take_its_answer_is_closed_and_counted() {
    let node = Node::with(&["--idle-timeout", "2s", "--data-limit-bytes", "1MiB"]);
    node.put("big?version=v1", vec![b'x'; 1 << 20]).expect(204);
    for (form, times) in BOTH_PATHS.into_iter().zip([1.0, 2.0]) {
        // more than any socket takes, and none of it is read
        let mut stalled = node.client();
        for _ in 0..16 {
            if stalled.try_send_bytes(&form(&get("big")).bytes()).is_err() {
                break;
            }
        }
        wait_until("a write to be given up", LIMIT, || hits(&node, "write_time") >= times);
        wait_until("its place", LIMIT, || node.connections("client") == 0);
    }
}

/// A client that holds all places of the server port except those of peers does not separate the nodes.
#[test]
fn the_last_places_of_the_server_port_are_for_members() {
    let _heavy = heavy();
    let shared = ["--idle-timeout", "10m"];
    let mut nodes = Node::group(2, &shared);
    let mut strangers = Vec::new();
    let refused = loop {
        let mut stranger = nodes[0].server();
        stranger.send(&Request::new("GET", "/v1/watchers"));
        let answer = stranger.answer();
        if answer.status == 503 {
            break answer;
        }
        strangers.push(stranger);
        assert!(strangers.len() < 10_000, "no connection is rejected");
    };
    assert_eq!(refused.header("Retry-After"), Some("1"));
    for target in ["/healthz", "/readyz"] {
        assert!(nodes[0].server().ask(&Request::new("GET", target)).expect(200).says_close());
    }
    let (other, seed) = (nodes.remove(1), nodes[0].server_addr().to_string());
    let addresses = other.kill_for_its_ports();
    let again = Node::at(
        addresses,
        &[&["--node-id", "node-2", "--replicate-with", &seed, "--cluster-secret", GROUP_SECRET], &shared[..]]
            .concat(),
    );
    again.put("n?version=v1", "").expect(204);
    wait_until("its write where all places are taken", LIMIT, || nodes[0].get("n").status == 200);
    assert_eq!(nodes[0].get("n").version(), Some("v1"));
    assert!(strangers.iter().all(|stranger| !stranger.has_news()), "they still hold their places");
}
