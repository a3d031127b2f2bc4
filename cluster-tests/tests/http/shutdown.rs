//! The end of a node: orderly on a signal, at once on the second, and before it began where it cannot begin.

use std::io::ErrorKind;
use std::net::TcpListener;
use std::time::{Duration, Instant};

use cluster_tests::http::{Connection, Request};
use cluster_tests::node::{Finished, Node, free_addresses, get, put, run_to_end};
use cluster_tests::text::assert_refusal;
use cluster_tests::wait::{LIMIT, wait_until};

/// The default of `--shutdown-grace`, and some time for a busy machine.
const GRACE: Duration = Duration::from_secs(10 + 5);

fn park(node: &Node, count: usize, request: &Request) -> Vec<Connection> {
    (0..count).map(|_| node.watch(request)).collect()
}

/// A write whose last byte does not come: the node is not at its end as long as this hangs.
fn unfinished_write(node: &Node) -> Connection {
    let mut connection = node.server();
    let mut request = put("unfinished?version=v1").body("123").bytes();
    request.pop();
    connection.send_bytes(&request);
    connection
}

fn ends_in_order(signal: impl Fn(&Node)) {
    let mut node = Node::start();
    node.put("n?version=v1", "one").expect(204);
    node.delete("gone").expect(204);
    let mut on_value = park(&node, 300, &get("n?version=v1&timeout=1m"));
    let mut on_list = park(&node, 100, &get("n?timeout=1m").header("If-None-Match", "\"v1\""));
    let mut on_never = park(&node, 50, &get("never?version=&timeout=1m"));
    let mut on_gone = park(&node, 50, &get("gone?version=&timeout=1m"));
    node.wait_parked(500);
    let started = Instant::now();

    signal(&node);

    for watcher in &mut on_value {
        let answer = watcher.answer().expect(200);
        assert_eq!((answer.version(), answer.text()), (Some("v1"), "one"), "the current version");
        assert!(answer.says_close(), "{answer:?}");
    }
    for watcher in &mut on_list {
        let answer = watcher.answer().expect(304);
        assert!(answer.says_close() && answer.version() == Some("v1"), "{answer:?}");
    }
    for (watchers, status) in [(&mut on_never, 404), (&mut on_gone, 410)] {
        for watcher in watchers {
            let answer = watcher.answer();
            assert_refusal(&answer, status);
            assert!(answer.says_close(), "{answer:?}");
        }
    }
    for watcher in on_value.iter_mut().chain(&mut on_list).chain(&mut on_never).chain(&mut on_gone) {
        wait_until("the end of a connection", LIMIT, || watcher.hung_up());
    }
    let status = node.wait_exit(LIMIT);
    assert_eq!(status.code(), Some(0), "{status}");
    assert!(started.elapsed() < GRACE, "{:?}", started.elapsed());
    let refused = Connection::try_open(node.client_addr()).expect_err("the node listens no more");
    assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
}

#[test]
fn sigterm_sends_all_readers_home() {
    ends_in_order(Node::terminate);
}

#[test]
fn sigint_does_too() {
    ends_in_order(Node::interrupt);
}

#[test]
fn the_answers_are_spread_over_at_most_half_of_the_grace() {
    let mut node = Node::with(&["--shutdown-grace", "20s"]);
    node.put("n?version=v1", "one").expect(204);
    let mut watchers = park(&node, 500, &get("n?version=v1&timeout=1m"));
    node.wait_parked(500);
    let started = Instant::now();
    node.terminate();
    for watcher in &mut watchers {
        watcher.answer().expect(200);
    }
    let took = started.elapsed();
    assert!(took < Duration::from_secs(10 + 5), "half of 20 s, and some time for a busy machine: {took:?}");
    assert_eq!(node.wait_exit(LIMIT).code(), Some(0));
}

/// The answers to 6,000 parked readers take six seconds, in which the node accepts requests.
#[test]
fn a_node_that_ends_announces_it_and_parks_no_more_readers() {
    let mut node = Node::with(&["--shutdown-grace", "30s"]);
    node.put("n?version=v1", "one").expect(204);
    let watchers = park(&node, 6_000, &get("n?version=v1&timeout=1m"));
    node.wait_parked(6_000);
    node.terminate();
    wait_until("the first to be sent home", LIMIT, || watchers.iter().any(Connection::has_news));

    for address in [node.client_addr(), node.server_addr()] {
        let answer = Connection::open(address).ask(&Request::new("GET", "/readyz"));
        assert_refusal(&answer, 503);
        Connection::open(address).ask(&Request::new("GET", "/healthz")).expect(200);
    }
    for request in [get("n?version=v1"), get("n").header("If-None-Match", "*"), get("never?version=")] {
        let answer = node.client().ask(&request);
        assert_refusal(&answer, 503);
        let after = answer.header("Retry-After").unwrap_or_else(|| panic!("no Retry-After: {answer:?}"));
        assert!(after.parse::<u32>().is_ok(), "seconds: {answer:?}");
    }
    // a read that does not wait is answered to the end
    assert_eq!(node.get("n").expect(200).text(), "one");
    assert!(watchers.iter().any(|watcher| !watcher.has_news()), "all this while others were still parked");
    assert_eq!(node.wait_exit(LIMIT).code(), Some(0));
}

#[test]
fn what_hangs_ends_with_the_grace() {
    let mut node = Node::with(&["--shutdown-grace", "1s"]);
    let mut hanging = unfinished_write(&node);
    // a head without an end hangs too
    let mut head = node.client();
    head.send_bytes(b"GET /v1/versions/n HTTP/1.1\r\n");
    node.terminate();
    let status = node.wait_exit(Duration::from_secs(1) + LIMIT);
    assert_eq!(status.code(), Some(0), "{status}");
    wait_until("the end of the connections", LIMIT, || hanging.hung_up() && head.hung_up());
}

#[test]
fn an_idle_node_ends_before_its_grace() {
    let mut node = Node::with(&["--shutdown-grace", "1m"]);
    let mut idle = node.client();
    idle.ask(&get("never")).expect(404);
    node.terminate();
    assert_eq!(node.wait_exit(LIMIT).code(), Some(0));
    wait_until("the end of the connection", LIMIT, || idle.hung_up());
}

#[test]
fn the_second_signal_ends_it_at_once() {
    for first in [Node::terminate, Node::interrupt] {
        let mut node = Node::with(&["--shutdown-grace", "5m"]);
        let hanging = unfinished_write(&node);
        first(&node);
        wait_until("the end to begin", LIMIT, || !node.is_ready());
        assert!(node.is_running(), "something hangs, and there are five minutes");
        node.terminate();
        // long before the grace is over; with which code is its own business
        node.wait_exit(LIMIT);
        drop(hanging);
    }
}

/// The start fails: exit code 2, and one line with advice.
#[track_caller]
fn refused(arguments: &[&str], about: &str) {
    let Finished { code, stderr, .. } = run_to_end(arguments);
    assert_eq!(code, Some(2), "{arguments:?}: {stderr}");
    let lines: Vec<&str> = stderr.lines().filter(|line| !line.trim().is_empty()).collect();
    assert_eq!(lines.len(), 1, "{arguments:?}: one line: {stderr}");
    assert!(lines[0].contains(about), "{arguments:?}: nothing of {about:?} in {stderr}");
}

#[test]
fn a_port_in_use_is_one_line_and_exit_code_2() {
    let (client, server) = free_addresses();
    let taken = TcpListener::bind(client).expect("a free address");
    let (client, server) = (client.to_string(), server.to_string());
    refused(&["--listen-client", &client, "--listen-server", &server], &client);
    refused(&["--listen-client", &server, "--listen-server", &client], &client);
    refused(&["--listen-client", &server, "--listen-server", &server], &server);
    drop(taken);
}

#[test]
fn an_address_that_is_none_is_one_line_and_exit_code_2() {
    let (client, _) = free_addresses();
    let client = client.to_string();
    for bad in ["nonsense", "127.0.0.1", "127.0.0.1:99999", "127.0.0.1:-1", "", "300.0.0.1:80", "192.0.2.1:1"]
    {
        refused(&["--listen-client", &client, "--listen-server", bad], bad);
        refused(&["--listen-client", bad, "--listen-server", &client], bad);
    }
}

#[test]
fn a_flag_that_is_none_is_one_line_and_exit_code_2() {
    for (arguments, about) in [
        (&["--no-such-flag"][..], "--no-such-flag"),
        (&["--block-for", "10"], "--block-for"),
        (&["--block-for", "-1s"], "--block-for"),
        (&["--block-for"], "--block-for"),
        (&["--data-limit-bytes", "many"], "--data-limit-bytes"),
        (&["--data-limit-error=maybe"], "--data-limit-error"),
        (&["--log-level", "LOUD"], "--log-level"),
        (&["--shutdown-grace", "soon"], "--shutdown-grace"),
    ] {
        refused(arguments, about);
    }
}

/// A reader with a pending wake is answered too, and does not delay the end.
#[test]
fn a_fan_out_under_way_is_brought_to_its_end() {
    let mut node = Node::with(&["--jitter-per-watch", "1s", "--block-for", "1m"]);
    node.put("n?version=v1", "one").expect(204);
    let mut watchers = park(&node, 200, &get("n?version=v1&timeout=1m"));
    node.wait_parked(200);
    node.put("n?version=v2", "two").expect(204);
    node.wait_parked(0);

    node.terminate();

    for watcher in &mut watchers {
        assert_eq!(watcher.answer().expect(200).text(), "two");
    }
    assert_eq!(node.wait_exit(LIMIT).code(), Some(0));
    assert!(!node.stderr().contains("still open"), "{}", node.stderr());
}

/// Half a head is no request: nothing is owed to it.
#[test]
fn half_a_head_does_not_hold_the_end_up() {
    let mut node = Node::with(&["--shutdown-grace", "1m"]);
    let mut half = node.client();
    half.send_bytes(b"GET /v1/ver");
    wait_until("the node to see the connection", LIMIT, || node.connections("client") == 1);
    node.terminate();
    assert_eq!(node.wait_exit(LIMIT).code(), Some(0));
}

/// An answer that is being taken, if slowly, comes whole.
#[test]
fn a_long_answer_under_way_is_brought_to_its_end() {
    let mut node = Node::with(&[
        "--shutdown-grace=5m",
        "--data-limit-bytes=1MiB",
        // more than the system takes for it
        "--replicate-limit-bytes=64MiB",
    ]);
    for i in 0..12 {
        node.put(&format!("n{i}?version=v1"), vec![b'x'; 1 << 20]).expect(204);
    }
    let mut slow = node.server();
    slow.send(&Request::new("POST", "/v1/versions").body("{\"versions\":[]}"));
    wait_until("its answer to begin", LIMIT, || slow.has_news());
    node.terminate();
    // no more than some 2.5 MB/s, as over a long way
    while node.is_running() {
        slow.receive(128 << 10);
        std::thread::sleep(Duration::from_millis(50));
    }
    assert_eq!(slow.answer().expect(200).json().as_array().map(Vec::len), Some(12));
}
