//! `vwatch bench`: that it measures what is there, hides no stall, leaves nothing behind, and says what it cannot do.

use std::thread;
use std::time::Duration;

use cluster_tests::cluster::Cluster;
use cluster_tests::http::Request;
use cluster_tests::node::{Finished, Node, run_to_end};
use serde_json::Value;

fn bench(node: &Node, arguments: &str) -> Finished {
    let client = format!("http://{}", node.client_addr());
    let server = format!("http://{}", node.server_addr());
    let mut all = vec!["bench"];
    all.extend(arguments.split_whitespace());
    all.extend(["--client-url", &client, "--server-url", &server]);
    run_to_end(&all)
}

#[track_caller]
fn figures(finished: &Finished) -> Value {
    assert_eq!(finished.code, Some(0), "{finished:?}");
    serde_json::from_str(&finished.stdout).unwrap_or_else(|e| panic!("{e}: {finished:?}"))
}

#[track_caller]
fn number(figures: &Value, name: &str) -> f64 {
    let found = name.split('.').fold(figures, |value, field| &value[field]);
    found.as_f64().unwrap_or_else(|| panic!("no {name} in {figures}"))
}

#[track_caller]
fn is_clean(node: &Node) {
    node.wait_parked(0);
    let list = node.client().ask(&Request::new("GET", "/v1/versions")).expect(200);
    assert_eq!(list.json()["versions"], Value::Array(Vec::new()), "what was written is deleted");
}

#[test]
fn watchers_are_parked_woken_and_counted() {
    let node = Node::with(&["--jitter-per-watch", "0s"]);
    let finished = bench(&node, "watch --watchers 300 --names 3 --writes 4 --every 500ms -w json");
    let figures = figures(&finished);
    assert_eq!(figures["of"], "watch");
    for (name, expected) in
        [("woken", 1200.0), ("lost", 0.0), ("stale", 0.0), ("early", 0.0), ("dropped", 0.0)]
    {
        assert_eq!(number(&figures, name), expected, "{name} in {figures}");
    }
    let (median, longest) = (number(&figures, "wake_ms.p50"), number(&figures, "wake_ms.max"));
    assert!(0.0 < median && median <= longest, "{figures}");
    assert!(number(&figures, "last_wake_ms") > 0.0 && number(&figures, "put_ms.p50") > 0.0, "{figures}");
    assert_eq!(number(&figures, "server.pid"), f64::from(node.pid()), "found by its port");
    assert!(number(&figures, "server.cpu_ms_per_10k_wakes") > 0.0, "{figures}");
    assert!(finished.stderr.contains("write 5 of 5: 300 woken"), "progress: {}", finished.stderr);
    is_clean(&node);
}

/// Who is told of their timeout parks again, and is still woken by the write.
#[test]
fn watchers_whose_time_is_up_ask_again() {
    let node = Node::start();
    let figures =
        figures(&bench(&node, "watch --watchers 10 --writes 2 --every 1500ms --timeout 300ms -w json"));
    assert!(number(&figures, "timeouts") >= 10.0, "{figures}");
    assert_eq!((number(&figures, "woken"), number(&figures, "early")), (20.0, 0.0), "{figures}");
}

/// The writer's node does not count who is parked at another one, and what is written comes there a while later.
#[test]
fn watchers_may_be_at_another_node() {
    let cluster = Cluster::of(2).flag("--jitter-per-watch", "0s").start();
    cluster.ready();
    let (reader, writer) =
        (cluster.node(1).client_addr().to_string(), cluster.node(0).server_addr().to_string());
    let arguments = "bench watch --watchers 20 --names 5 --writes 50 --every 40ms -w json";
    let mut all: Vec<&str> = arguments.split_whitespace().collect();
    all.extend(["--client-url", &reader, "--server-url", &writer]);
    let finished = run_to_end(&all);
    let figures = figures(&finished);
    assert_eq!(number(&figures, "woken") + number(&figures, "superseded"), 1000.0, "{figures}");
    for name in ["lost", "stale", "early", "dropped", "refused"] {
        assert_eq!(number(&figures, name), 0.0, "{name} in {figures}");
    }
    assert!(figures["parked_ms"].is_null(), "{figures}");
    assert!(finished.stderr.contains("parked at another node than the writer's"), "{}", finished.stderr);
}

/// Nodes close connections that are silent for long, and between two writes the bench's own are.
#[test]
fn writes_may_be_far_apart() {
    let node = Node::with(&["--idle-timeout", "2s"]);
    let figures =
        figures(&bench(&node, "watch --watchers 5 --writes 1 --warm-up 0 --every 7s --timeout 3s -w json"));
    assert_eq!((number(&figures, "woken"), number(&figures, "lost")), (5.0, 0.0), "{figures}");
    is_clean(&node);
}

#[test]
fn writes_and_reads_come_at_their_rate() {
    let node = Node::start();
    for what in ["put", "get"] {
        let steady = figures(&bench(&node, &format!("{what} --rate 200 --duration 2s -w json")));
        assert_eq!(number(&steady, "answered"), 400.0, "{steady}");
        assert_eq!((number(&steady, "lost"), number(&steady, "refused")), (0.0, 0.0), "{steady}");
        let open =
            figures(&bench(&node, &format!("{what} --rate 0 --duration 500ms --connections 3 -w json")));
        assert!(number(&open, "per_second") > 100.0, "{open}");
        is_clean(&node);
    }
}

/// A node that does nothing for a second is charged for all that was due in it, not for one request a connection.
#[test]
fn a_stall_is_not_hidden() {
    let node = Node::start();
    let figures = thread::scope(|scope| {
        let bench = scope.spawn(|| bench(&node, "get --rate 200 --duration 4s --connections 2 -w json"));
        // some reads have come by then
        cluster_tests::wait::wait_until("reads", cluster_tests::wait::LIMIT, || answered(&node) > 50.0);
        node.pause();
        thread::sleep(Duration::from_secs(2));
        node.resume();
        figures(&bench.join().expect("a bench"))
    });
    assert_eq!(number(&figures, "answered"), 800.0, "{figures}");
    assert!(number(&figures, "ms.p90") > 500.0, "half of the time it stood still: {figures}");
}

fn answered(node: &Node) -> f64 {
    let metrics = node.server().ask(&Request::new("GET", "/metrics")).expect(200);
    let name = "vwatch_answers_total{port=\"client\",status=\"200\"}";
    cluster_tests::text::metric(metrics.text(), name).unwrap_or(0.0)
}

#[test]
fn a_refusal_is_told() {
    let node = Node::with(&["--max-watchers", "5"]);
    let finished = bench(&node, "watch --watchers 6 --writes 1");
    assert_eq!(finished.code, Some(1), "{finished:?}");
    let last = finished.stderr.lines().last().expect("a line");
    assert!(
        last.starts_with("vwatch: only 5 of 6 watchers could be parked: 503: too many watchers: "),
        "{last}"
    );
    is_clean(&node);
}

#[test]
fn what_cannot_be_measured_is_one_line() {
    let node = Node::start();
    for (arguments, code, said) in [
        ("watch --watchers 100000000", 2, "too many connections: 100000000 asked for"),
        ("watch --watchers 2 --names 3", 2, "bad --names: more than watchers"),
        ("watch --every 100us", 2, "bad --every: too short"),
        ("watch --timeout 0s", 2, "bad --timeout: nobody would park"),
        ("watch --watchers 0", 2, "invalid value '0' for '--watchers <COUNT>'"),
        ("put --duration 0s", 2, "bad --duration: it is zero"),
        ("get --pid 4000000000", 2, "bad --pid: no such process"),
        ("put --size 100000", 1, "413: data too large"),
    ] {
        let finished = bench(&node, arguments);
        let last = finished.stderr.lines().last().unwrap_or_default();
        assert_eq!(finished.code, Some(code), "{arguments}: {finished:?}");
        assert!(last.starts_with("vwatch: ") && last.contains(said), "{arguments}: {last}");
        assert!(finished.stdout.is_empty(), "{arguments}: {finished:?}");
    }
    let nobody = run_to_end(&["bench", "get", "--client-url", "127.0.0.1:1", "--server-url", "127.0.0.1:1"]);
    assert_eq!(nobody.code, Some(1));
    assert!(nobody.stderr.contains("cannot reach http://127.0.0.1:1"), "{nobody:?}");
    let nothing = run_to_end(&["bench"]);
    assert_eq!(nothing.code, Some(2), "{nothing:?}");
    let several = run_to_end(&["bench", "get", "--client-url", "127.0.0.1:1,127.0.0.1:2"]);
    assert!(several.stderr.contains("a figure is of one node"), "{several:?}");
}
