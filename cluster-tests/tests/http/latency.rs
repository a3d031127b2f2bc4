//! The histograms of wakes and writes: what they count, on the fast path and on the ordinary one.

use cluster_tests::http::{Connection, Request};
use cluster_tests::node::{Node, delete, get, put};
use cluster_tests::stream::{self, Path, Stream};
use cluster_tests::text::{metric, samples};
use cluster_tests::wait::{LIMIT, wait_until};

const WAKES: &str = "vwatch_wake_latency_seconds";
const WRITES: &str = "vwatch_write_latency_seconds";

/// A node for each path, with what the label `path` says of it and what it says of the other one.
fn on_each_path(flags: &[&str]) -> [(Node, &'static str, &'static str); 2] {
    [(1, "fast", "ordinary"), (0, "ordinary", "fast")]
        .map(|(event_loops, path, other)| (Node::with_event_loops(event_loops, flags), path, other))
}

fn of(node: &Node, histogram: &str, part: &str, path: &str) -> f64 {
    node.metric(&format!("{histogram}_{part}{{path=\"{path}\"}}"))
}

/// An event loop counts what it has answered already, so the count may come a moment after the answer.
#[track_caller]
fn wait_for_count(node: &Node, histogram: &str, path: &str, count: f64) {
    let what = format!("{count} in {histogram} of the {path} path");
    wait_until(&what, LIMIT, || of(node, histogram, "count", path) >= count);
    assert!((of(node, histogram, "count", path) - count).abs() < 0.5, "not more than {what}");
}

#[test]
fn each_write_that_is_answered_counts_once() {
    for (node, path, other) in on_each_path(&[]) {
        let mut writer = node.server();
        writer.ask(&put("n?version=v2&modified=2000000").body("2")).expect(204);
        writer.ask(&put("n?version=v1&modified=1000000").body("1")).expect(409);
        writer.ask(&delete("n")).expect(204);
        // without a name there is nothing that could be written
        writer.ask(&put("").body("1")).expect(400);
        wait_for_count(&node, WRITES, path, 3.0);
        assert!(of(&node, WRITES, "sum", path) > 0.0);
        assert!(of(&node, WRITES, "count", other) < 0.5);
        // an event of a log is served by the ordinary path
        let event = Request::new("POST", "/v1/ns/log.a/events/e").body("1");
        node.server().ask(&event).expect(201);
        wait_for_count(&node, WRITES, "ordinary", if path == "ordinary" { 4.0 } else { 1.0 });
    }
}

/// Three writes that come together are answered together.
#[test]
fn writes_that_come_together_count_each() {
    let node = Node::with_event_loops(1, &[]);
    let mut writer = node.server();
    let writes: Vec<u8> = ["a", "b", "c"]
        .iter()
        .flat_map(|name| put(&format!("{name}?version=v1")).body("1").bytes())
        .collect();
    writer.send_bytes(&writes);
    (0..3).for_each(|_| drop(writer.answer().expect(204)));
    wait_for_count(&node, WRITES, "fast", 3.0);
}

#[test]
fn each_reader_that_a_change_wakes_counts_with_its_pause() {
    for (node, path, other) in on_each_path(&["--jitter-per-watch=100ms"]) {
        node.put("n?version=v1", "1").expect(204);
        let mut readers: Vec<Connection> =
            (0..3).map(|_| node.watch(&get("n?version=v1&timeout=1m"))).collect();
        node.wait_parked(3);
        // nothing changes for this one
        node.watch(&get("n?version=v1&timeout=1ms")).answer().expect(200);
        assert!(of(&node, WAKES, "count", path) < 0.5);
        node.put("n?version=v2", "2").expect(204);
        readers.iter_mut().for_each(|reader| drop(reader.answer().expect(200)));
        wait_for_count(&node, WAKES, path, 3.0);
        let sum = of(&node, WAKES, "sum", path);
        assert!(sum >= 0.3, "the second waits for 100 ms and the third for 200 ms: {sum} s");
        assert!(of(&node, WAKES, "count", other) < 0.5);
    }
}

#[test]
fn watches_of_many_names_count_too() {
    let node = Node::with_event_loops(1, &[]);
    let mut stream =
        Stream::open(node.client_addr(), &stream::request("text/event-stream", Path::Fast, "name=n"));
    wait_until("a group of streams to wait", LIMIT, || node.metric("vwatch_parked_feeds") > 0.5);
    node.put("n?version=v1", "1").expect(204);
    stream.told(1);
    wait_for_count(&node, WAKES, "fast", 1.0);
    let mut batch = node.client();
    batch.send(&Request::new("GET", "/v1/watch?name=n&since=now&timeout=1m"));
    wait_until("both to wait", LIMIT, || node.metric("vwatch_parked_feeds") > 1.5);
    node.put("n?version=v2", "2").expect(204);
    batch.answer().expect(200);
    wait_for_count(&node, WAKES, "ordinary", 1.0);
}

/// What Prometheus demands of a histogram, in both forms.
#[test]
fn the_buckets_of_a_histogram_grow_up_to_its_count() {
    let node = Node::start();
    (0..9).for_each(|i| drop(node.put(&format!("n{i}?version=v1"), "1").expect(204)));
    for form in ["text/plain", "application/openmetrics-text"] {
        let page = node.server().ask(&Request::new("GET", "/metrics").header("Accept", form)).expect(200);
        let page = page.text();
        assert!(page.contains(&format!("# TYPE {WRITES} histogram\n")), "{form}");
        for histogram in [WAKES, WRITES] {
            for path in ["fast", "ordinary"] {
                let is_bucket = |series: &str| {
                    series.starts_with(&format!("{histogram}_bucket{{"))
                        && series.contains(&format!("path=\"{path}\""))
                };
                let buckets: Vec<(String, f64)> =
                    samples(page).into_iter().filter(|(series, _)| is_bucket(series)).collect();
                assert_eq!(buckets.len(), 19, "{buckets:?}");
                assert!(buckets.is_sorted_by(|(_, one), (_, next)| one <= next), "{buckets:?}");
                let (last, all) = buckets.last().expect("some");
                assert!(last.contains("le=\"+Inf\""), "{last}");
                assert_eq!(metric(page, &format!("{histogram}_count{{path=\"{path}\"}}")), Some(*all));
            }
        }
    }
}
