//! The histories of names in a cluster: they become equal on all nodes, and so does how much of them is kept.

use std::process::Command;

use cluster_tests::cluster::{Cluster, PROTOCOL, Plan};
use cluster_tests::http::{Request, Response};
use cluster_tests::node::binary;
use cluster_tests::text::now_us;
use cluster_tests::wait::{LIMIT, wait_until};
use serde_json::{Value, json};

fn history(cluster: &Cluster, i: usize, name: &str) -> Response {
    cluster.node(i).client().ask(&Request::new("GET", &format!("/v1/history/{name}")))
}

/// The revisions of a name that a node keeps, newest first; none if it does not answer so.
fn revisions(cluster: &Cluster, i: usize, name: &str) -> Vec<u64> {
    let answer = history(cluster, i, name);
    if answer.status != 200 {
        return Vec::new();
    }
    let page = answer.json();
    let versions = page["versions"].as_array().expect("a list");
    versions.iter().map(|version| version["revision"].as_u64().expect("µs")).collect()
}

/// Waits until all nodes that run answer the same bytes about the history of each name, and have equal digests.
#[track_caller]
fn wait_equal(cluster: &Cluster, names: &[String]) {
    let running: Vec<usize> = (0..cluster.len()).filter(|&i| cluster.is_running(i)).collect();
    wait_until("equal histories", LIMIT, || {
        names.iter().all(|name| {
            let bodies: Vec<_> = running.iter().map(|&i| history(cluster, i, name)).collect();
            bodies.iter().all(|body| body.status == 200 && body.body == bodies[0].body)
        })
    });
    wait_until("equal digests", LIMIT, || {
        let digests: Vec<_> = running.iter().map(|&i| set_of(cluster, i)["digest"].clone()).collect();
        digests.iter().all(|digest| *digest == digests[0])
    });
}

/// The state of the set of a node.
fn set_of(cluster: &Cluster, i: usize) -> Value {
    cluster.node(i).cluster()["node"]["set"].clone()
}

#[track_caller]
fn server(cluster: &Cluster, i: usize, method: &str, target: &str) -> Value {
    cluster.node(i).server().ask(&Request::new(method, target)).expect(200).json()
}

/// A cluster whose nodes all see each other.
#[track_caller]
fn started(plan: Plan) -> Cluster {
    let cluster = plan.start();
    cluster.ready();
    let others = cluster.len() - 1;
    wait_until("all to see all", LIMIT, || {
        (0..cluster.len()).all(|i| {
            let seen = cluster.node(i).cluster();
            seen["members"]["live"].as_array().map_or(0, Vec::len) == others
        })
    });
    cluster
}

/// Writes and deletes of `names` names, each at another node than the one before. Returns the names.
#[track_caller]
fn write(cluster: &Cluster, names: usize, rounds: usize) -> Vec<String> {
    let all: Vec<String> = (0..names).map(|name| format!("n{name}")).collect();
    let start = now_us() - 600_000_000;
    for round in 0..rounds {
        for (at, name) in all.iter().enumerate() {
            let node = (round + at) % cluster.len();
            let stamp = start + (round * 1_000_000) as u64;
            if (round + at) % 4 == 3 {
                cluster.node(node).delete(&format!("{name}?modified={stamp}")).expect(204);
            } else {
                cluster.note(name);
                let target = format!("{name}?version=v{round}&modified={stamp}");
                let answer = cluster.node(node).put(&target, format!("data of {round}"));
                assert!(matches!(answer.status, 204 | 409), "{answer:?}");
            }
        }
    }
    all
}

#[test]
fn histories_that_are_written_at_different_nodes_become_equal_on_all() {
    let mut cluster = started(Cluster::of(3).flag("--history-versions", "8"));
    let names = write(&cluster, 6, 12);
    wait_equal(&cluster, &names);
    for name in &names {
        assert_eq!(revisions(&cluster, 0, name).len(), 8, "{name}");
    }

    // a node that was killed starts empty, and takes the histories with the set
    cluster.kill(2);
    let while_away = cluster.put(0, "n0", "while-away").last_sync().expect("a stamp");
    cluster.restart(2);
    cluster.ready();
    wait_equal(&cluster, &names);
    assert_eq!(revisions(&cluster, 2, "n0")[0], while_away);
    let oldest = *revisions(&cluster, 2, "n1").last().expect("eight");
    let read = |i: usize| {
        let answer = cluster.node(i).get(&format!("n1?revision={oldest}"));
        (answer.status, answer.last_sync(), answer.body)
    };
    assert_eq!(read(2), read(0));

    // writes at two nodes that do not hear each other are in both histories afterwards
    cluster.isolate(1);
    let at_one = cluster.put(1, "split", "one").last_sync().expect("a stamp");
    let at_zero = cluster.put(0, "split", "zero").last_sync().expect("a stamp");
    cluster.heal();
    wait_until("both writes at all nodes", LIMIT, || {
        let mut both = [at_one, at_zero];
        both.sort_unstable_by(|a, b| b.cmp(a));
        (0..3).all(|i| revisions(&cluster, i, "split") == both)
    });
}

#[test]
fn a_compaction_and_a_new_depth_at_one_node_hold_at_all() {
    let cluster = started(Cluster::of(3));
    let names = write(&cluster, 4, 8);
    wait_equal(&cluster, &names);
    let before = revisions(&cluster, 1, "n0");
    assert_eq!(before.len(), 8);

    // a whole second, as the answer has it
    let cut = (before[3] / 1_000_000 + 1) * 1_000_000;
    cluster.compact(0, &cut.to_string());
    wait_until("the compaction at all nodes", LIMIT, || {
        (0..3).all(|i| set_of(&cluster, i)["compaction_horizon"] == cut)
    });
    for i in 0..3 {
        assert_eq!(revisions(&cluster, i, "n0"), before[..3], "node {i}");
        let gone = cluster.node(i).get(&format!("n0?revision={}", before[5])).expect(410);
        assert_eq!(gone.header("X-Vwatch-Error"), Some("compacted"));
    }
    wait_equal(&cluster, &names);

    let depth = server(&cluster, 2, "PUT", "/v1/history-depth?versions=2");
    assert_eq!((&depth["versions"], &depth["least"]), (&json!(2), &json!(2)));
    wait_until("the depth at all nodes", LIMIT, || {
        (0..3).all(|i| set_of(&cluster, i)["history_versions"] == 2)
    });
    for i in 0..3 {
        assert_eq!(revisions(&cluster, i, "n0"), before[..2], "node {i}");
    }
    wait_equal(&cluster, &names);

    // the later setting holds, also if it is more, and from another node
    server(&cluster, 0, "PUT", "/v1/history-depth?versions=5");
    wait_until("the next depth at all nodes", LIMIT, || {
        (0..3).all(|i| set_of(&cluster, i)["history_versions"] == 5)
    });
    (0..6).for_each(|round| drop(cluster.put(round % 3, "n0", &format!("later{round}"))));
    wait_equal(&cluster, &names);
    assert_eq!(revisions(&cluster, 1, "n0").len(), 5);
}

#[test]
fn a_node_that_joins_takes_the_depth_of_the_set() {
    let mut cluster = Cluster::of(3).prepare();
    (0..2).for_each(|i| cluster.restart(i));
    cluster.ready();
    for round in 0..8 {
        cluster.put(round % 2, "n", &format!("v{round}"));
    }
    wait_until("eight versions at both", LIMIT, || (0..2).all(|i| revisions(&cluster, i, "n").len() == 8));
    cluster.set_env(2, "VWATCH_HISTORY_VERSIONS", "2");
    cluster.restart(2);
    cluster.ready();
    assert_eq!(set_of(&cluster, 2)["history_versions"], 8);
    wait_equal(&cluster, &["n".to_owned()]);
    assert!((0..3).all(|i| revisions(&cluster, i, "n").len() == 8));
    assert!((0..3).all(|i| set_of(&cluster, i)["history_versions"] == 8));
}

/// Writes versions of a name at the first node, stamped at these times.
fn write_versions(cluster: &Cluster, name: &str, stamps: impl Iterator<Item = u64>) {
    for stamp in stamps {
        let target = format!("{name}?version=v{stamp}&modified={stamp}");
        cluster.node(0).put(&target, "x".repeat(2_000)).expect(204);
    }
}

#[test]
fn the_least_history_limit_decides_and_all_say_whose_it_is() {
    const LEAST: &str = "40000";
    const NEXT: &str = "1000000";
    const SECOND_US: u64 = 1_000_000;
    let limit = "VWATCH_MAX_HISTORY_BYTES";
    let plan = Cluster::of(3).flag("--history-versions", "64").env(0, limit, NEXT).env(1, limit, LEAST);
    let mut cluster = started(plan);
    let strictest = |cluster: &Cluster, i: usize| {
        let history = cluster.node(i).cluster()["history"].clone();
        let metric = cluster.node(i).metric("vwatch_history_least_limit_bytes");
        // what is known may change between the two requests
        let is_same = history["strictest"]["max_bytes"] == json!(metric as u64);
        history["strictest"]["node_id"].as_str().filter(|_| is_same).map(|node| (node.to_owned(), metric))
    };
    for i in 0..3 {
        let least = Some(("node-1".to_owned(), 40_000.0));
        wait_until("the least limit", LIMIT, || strictest(&cluster, i) == least);
    }
    let members = Command::new(binary()).args(["members", &cluster.addresses(0).1.to_string()]).output();
    let members = String::from_utf8_lossy(&members.expect("the binary").stdout).into_owned();
    assert!(members.contains("at most 40000 bytes: node-1 has the least --max-history-bytes"), "{members}");

    let bytes = |cluster: &Cluster, i: usize| cluster.node(i).metric("vwatch_history_bytes");
    let horizon =
        |cluster: &Cluster, i: usize| set_of(cluster, i)["compaction_horizon"].as_u64().expect("µs");
    let start = now_us() - 600 * SECOND_US;
    write_versions(&cluster, "n", (0..60).map(|i| start + i * 10 * SECOND_US));
    wait_until("the least limit at all nodes", LIMIT, || {
        (0..3).all(|i| (1.0..=40_000.0).contains(&bytes(&cluster, i)))
    });
    wait_equal(&cluster, &["n".to_owned()]);

    // without that node the next limit decides, and what was dropped does not come back
    assert_eq!(cluster.stop(1).code(), Some(0));
    for i in [0, 2] {
        let next = Some(("node-0".to_owned(), 1_000_000.0));
        wait_until("the next limit", LIMIT, || strictest(&cluster, i) == next);
    }
    let cut = horizon(&cluster, 0);
    write_versions(&cluster, "m", (1..40).map(|i| cut + i * SECOND_US));
    wait_until("more than the least limit", LIMIT, || [0, 2].iter().all(|i| bytes(&cluster, *i) > 70_000.0));
    wait_equal(&cluster, &["n".to_owned(), "m".to_owned()]);
    assert_eq!([0, 2].map(|i| horizon(&cluster, i)), [cut; 2]);

    // when it is back, its limit holds again
    cluster.restart(1);
    cluster.ready();
    wait_until("the least limit at all nodes", LIMIT, || (0..3).all(|i| bytes(&cluster, i) <= 40_000.0));
    assert!(horizon(&cluster, 0) > cut);
    wait_until("its name", LIMIT, || {
        (0..3).all(|i| strictest(&cluster, i) == Some(("node-1".to_owned(), 40_000.0)))
    });
}

/// Version 1 of the peer protocol has no histories: such a node would drop them, and the sets would never be equal.
#[test]
fn a_node_without_histories_stays_out_and_all_say_why() {
    let mut cluster = Cluster::of(3).env(2, PROTOCOL, "1").prepare();
    (0..2).for_each(|i| cluster.restart(i));
    cluster.ready();
    cluster.put(0, "n", "v1");
    cluster.put(1, "n", "v2");
    cluster.shows(0, "n", "v2");
    cluster.restart(2);
    let why = "no common version of the peer protocol, so no records are exchanged: it speaks 1, and this node 4: \
               upgrade node-2";
    let error = || {
        let seen = cluster.node(0).cluster();
        let members = seen["members"]["live"].as_array().cloned().unwrap_or_default();
        let old = members.into_iter().find(|member| member["node_id"] == "node-2")?;
        Some((old["error"].clone(), old["common_protocol"].clone()))
    };
    wait_until("the reason", LIMIT, || error() == Some((json!(why), Value::Null)));
    assert_eq!(cluster.node(2).server().ask(&Request::new("GET", "/readyz")).status, 503);
    assert_eq!(history(&cluster, 2, "n").status, 503);

    let members = Command::new(binary()).args(["members", &cluster.addresses(0).1.to_string()]).output();
    let members = members.expect("the binary");
    let shown = String::from_utf8_lossy(&members.stdout).into_owned();
    assert_eq!(members.status.code(), Some(1));
    assert!(shown.contains(why), "{shown}");

    // the others go on, and once it is upgraded, it takes part
    cluster.put(0, "n", "v3");
    wait_until("three versions at both", LIMIT, || (0..2).all(|i| revisions(&cluster, i, "n").len() == 3));
    cluster.set_env(2, PROTOCOL, "4");
    cluster.restart(2);
    cluster.ready();
    wait_equal(&cluster, &["n".to_owned()]);
    assert_eq!(revisions(&cluster, 2, "n").len(), 3);
}
