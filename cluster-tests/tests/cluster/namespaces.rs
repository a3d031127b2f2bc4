//! Namespaces and logs in a cluster: all nodes hold the same names, and drop the same events.

use cluster_tests::cluster::Cluster;
use cluster_tests::http::{Request, Response};
use cluster_tests::text::now_us;
use cluster_tests::wait::{LIMIT, wait_until};
use serde_json::{Value, json};

const MINUTE_US: u64 = 60_000_000;

fn read(cluster: &Cluster, i: usize, target: &str) -> Response {
    cluster.node(i).client().ask(&Request::new("GET", target))
}

fn write(cluster: &Cluster, i: usize, method: &str, target: &str, data: &str) -> Response {
    cluster.node(i).server().ask(&Request::new(method, target).body(data))
}

/// The state of the set of a node.
fn set_of(cluster: &Cluster, i: usize) -> Value {
    cluster.node(i).cluster()["node"]["set"].clone()
}

/// Waits until all nodes answer the same bytes for each target, and have equal digests. Returns the answers.
#[track_caller]
fn wait_equal(cluster: &Cluster, targets: &[&str]) -> Vec<Response> {
    let all = |target: &str| (0..cluster.len()).map(|i| read(cluster, i, target)).collect::<Vec<_>>();
    wait_until("equal answers", LIMIT, || {
        targets.iter().all(|target| {
            let answers = all(target);
            answers.iter().all(|answer| answer.status == 200 && answer.body == answers[0].body)
        })
    });
    wait_until("equal digests", LIMIT, || {
        let digests: Vec<_> = (0..cluster.len()).map(|i| set_of(cluster, i)["digest"].clone()).collect();
        digests.iter().all(|digest| *digest == digests[0])
    });
    targets.iter().map(|target| read(cluster, 0, target)).collect()
}

#[test]
fn namespaces_are_replicated_whatever_the_limit_of_a_node() {
    let mut cluster = Cluster::of(3).env(2, "VWATCH_MAX_NAMESPACES", "1").start();
    cluster.ready();
    write(&cluster, 2, "PUT", "/v1/ns/a/versions/n?version=v1", "one").expect(204);
    for (i, namespace) in ["b", "log.x", "c"].into_iter().enumerate() {
        write(&cluster, i % 2, "PUT", &format!("/v1/ns/{namespace}/versions/n?version=v1"), "one")
            .expect(204);
    }
    write(&cluster, 0, "PUT", "/v1/versions/n?version=plain", "plain").expect(204);
    let lists = ["/v1/ns", "/v1/ns/a/versions", "/v1/ns/b/versions", "/v1/ns/log.x/versions", "/v1/versions"];
    let names = |page: &Response| page.json()["versions"].as_array().map(Vec::len);
    wait_until("all namespaces at the last node", LIMIT, || {
        read(&cluster, 2, "/v1/ns").json()["namespaces"].as_array().map(Vec::len) == Some(4)
    });
    let answers = wait_equal(&cluster, &lists);
    assert!(answers[1..].iter().all(|page| names(page) == Some(1)));
    write(&cluster, 2, "PUT", "/v1/ns/new/versions/n", "").expect(507);
    write(&cluster, 2, "PUT", "/v1/ns/b/versions/n?version=v2", "two").expect(204);
    write(&cluster, 0, "DELETE", "/v1/ns/a/versions/n", "").expect(204);

    // a node that was killed starts empty, and takes them with the set
    cluster.kill(1);
    cluster.restart(1);
    cluster.ready();
    wait_equal(&cluster, &lists);
    wait_equal(&cluster, &["/v1/ns/b/history/n", "/v1/ns/a/history/n"]);
    assert_eq!(read(&cluster, 1, "/v1/ns/b/versions/n").expect(200).version(), Some("v2"));
    assert_eq!(read(&cluster, 1, "/v1/ns/a/versions/n").status, 410);

    // a reader at another node is woken
    let target = "/v1/ns/b/versions/n?version=v2&timeout=1m";
    let mut parked = cluster.node(0).watch(&Request::new("GET", target));
    cluster.node(0).wait_parked(1);
    write(&cluster, 1, "PUT", "/v1/ns/b/versions/n?version=v3", "three").expect(204);
    assert_eq!(parked.answer().expect(200).version(), Some("v3"));
}

#[test]
fn a_log_is_empty_on_all_nodes_after_a_compaction() {
    let cluster = Cluster::of(3).start();
    cluster.ready();
    let old = (now_us() / MINUTE_US - 30) * MINUTE_US;
    for i in 0..30 {
        let stamp = old + i * 1_000;
        for namespace in ["log.x", "a"] {
            let target = format!("/v1/ns/{namespace}/versions/{i:02}?modified={stamp}");
            write(&cluster, (i % 3) as usize, "PUT", &target, "data").expect(204);
        }
    }
    let lists = ["/v1/ns/log.x/versions", "/v1/ns/a/versions"];
    wait_until("all names at all nodes", LIMIT, || {
        (0..3).all(|i| {
            lists
                .iter()
                .all(|list| read(&cluster, i, list).json()["versions"].as_array().map(Vec::len) == Some(30))
        })
    });
    wait_equal(&cluster, &lists);
    let full = read(&cluster, 0, lists[1]).body;
    cluster.compact(1, "20m");
    let empty = json!({"versions": [], "peers": []});
    wait_until("an empty log at all nodes", LIMIT, || {
        (0..3).all(|i| read(&cluster, i, lists[0]).json() == empty)
    });
    let answers = wait_equal(&cluster, &[lists[0], lists[1], "/v1/ns"]);
    assert_eq!((answers[0].json(), &answers[1].body), (empty, &full), "only the log");
    assert_eq!(answers[2].json()["namespaces"].as_array().map(Vec::len), Some(1));
    assert!((0..3).all(|i| set_of(&cluster, i)["records"] == 30));

    // events of three nodes are at all, and in order of time
    for i in 0..9 {
        write(&cluster, i % 3, "POST", "/v1/ns/log.x/events/e", &i.to_string()).expect(201);
    }
    wait_until("all events at all nodes", LIMIT, || {
        (0..3).all(|i| read(&cluster, i, lists[0]).json()["versions"].as_array().map(Vec::len) == Some(9))
    });
    let page = wait_equal(&cluster, &lists[..1]).remove(0).json();
    let stamps =
        page["versions"].as_array().expect("events").iter().map(|event| event["last-sync"].to_string());
    let names = page["versions"].as_array().expect("events").iter().map(|event| event["name"].to_string());
    assert!(names.collect::<Vec<_>>().is_sorted());
    assert_eq!(stamps.count(), 9);
}
