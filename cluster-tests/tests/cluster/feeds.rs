//! Watches of many names in a cluster: a cursor is good at every node.

use std::time::{Duration, Instant};

use cluster_tests::cluster::{Cluster, Plan};
use cluster_tests::feed::{Batch, all, batch, watch};
use cluster_tests::http::Request;
use cluster_tests::wait::{LIMIT, wait_for, wait_until};

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

/// Waits until a node tells exactly this after a cursor.
#[track_caller]
fn tells(cluster: &Cluster, i: usize, query: &str, expected: &[&str]) {
    let mut last = Vec::new();
    let what = format!("{expected:?} at node {i}");
    let limit = Instant::now() + LIMIT;
    while Instant::now() < limit {
        last = all(cluster.node(i), query).0;
        last.sort_unstable();
        if last == expected {
            return;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    panic!("waited in vain for {what}: it tells {last:?}");
}

/// The cursor after what a node tells, once it claims all writes: no node tells anything after it. Until then a node
/// may have a write and not claim it, and another one tells it again.
#[track_caller]
fn settled(cluster: &Cluster, i: usize, scope: &str, since: &str) -> String {
    wait_for("a cursor that claims all writes", LIMIT, || {
        let cursor = all(cluster.node(i), &format!("{scope}&since={since}&timeout=0s")).1;
        let query = format!("{scope}&since={cursor}&timeout=0s");
        (0..cluster.len()).all(|other| all(cluster.node(other), &query).0.is_empty()).then_some(cursor)
    })
}

#[test]
fn a_cursor_goes_on_at_another_node_and_after_a_restart() {
    let mut cluster = started(Cluster::of(3));
    for (node, name) in ["a", "b", "c"].into_iter().enumerate() {
        cluster.put(node, name, "v1");
    }
    cluster.all_agree();
    for mode in ["latest", "all"] {
        let scope = format!("prefix=&mode={mode}");
        let cursor = settled(&cluster, 0, &scope, "now");
        let query = |cursor: &str| format!("{scope}&since={cursor}&timeout=0s");
        cluster.put(1, "b", "v2");
        cluster.delete(2, "c");
        for i in 0..3 {
            tells(&cluster, i, &query(&cursor), &["-c", "b=v2"]);
        }
        // a reader that waits at one node is told what is written at another
        let (_, now) = all(cluster.node(2), &query(&cursor));
        let mut waiting = cluster.node(2).watch(&watch(&format!("{scope}&since={now}&timeout=1m")));
        wait_until("a parked watch", LIMIT, || cluster.node(2).metric("vwatch_parked_feeds") == 1.0);
        cluster.put(0, "a", "v2");
        assert_eq!(Batch::of(waiting.answer()).told(), ["a=v2"]);
        // the emitter is gone, and comes back as another process
        cluster.all_agree();
        let emitted = settled(&cluster, 0, &scope, &now);
        cluster.kill(0);
        cluster.put(1, "d", "v1");
        tells(&cluster, 2, &query(&emitted), &["d=v1"]);
        cluster.restart(0);
        cluster.ready();
        tells(&cluster, 0, &query(&emitted), &["d=v1"]);
        cluster.delete(1, "d");
        cluster.put(0, "a", "v1");
        cluster.put(1, "b", "v1");
        cluster.put(2, "c", "v1");
        cluster.all_agree();
    }
}

#[test]
fn a_snapshot_that_is_cut_goes_on_elsewhere() {
    let cluster = started(Cluster::of(2));
    let names: Vec<String> = (0..40).map(|i| format!("n{i:02}")).collect();
    for (i, name) in names.iter().enumerate() {
        cluster.put(i % 2, name, "v1");
    }
    cluster.all_agree();
    let mut query = "prefix=n&limit=7".to_owned();
    let mut told = Vec::new();
    for turn in 0.. {
        assert!(turn < 40, "no end: {told:?}");
        let batch = batch(cluster.node(turn % 2), &query);
        query = format!("prefix=n&limit=7&since={}", batch.cursor());
        told.extend(batch.told());
        if !batch.more() {
            break;
        }
    }
    assert_eq!(told.iter().filter(|word| *word == "synced").count(), 1, "{told:?}");
    for name in &names {
        assert!(told.contains(&format!("{name}=v1")), "{name} is missing: {told:?}");
    }
}

#[test]
fn a_writer_that_dies_with_its_writes_is_told() {
    let mut cluster = started(Cluster::of(3));
    cluster.put(0, "kept", "v1");
    cluster.all_agree();
    cluster.isolate(2);
    cluster.node(2).put("lost?version=v1", "").expect(204);
    let cursors = ["latest", "all"].map(|mode| all(cluster.node(2), &format!("prefix=&mode={mode}")).1);
    // while the node may still catch up, it waits for a while
    let waits = Instant::now();
    let ahead = batch(cluster.node(0), &format!("prefix=&mode=all&since={}&timeout=1m", cursors[1]));
    assert!(waits.elapsed() >= Duration::from_secs(2));
    assert_eq!(ahead.told(), ["ahead"]);
    assert_eq!(ahead.events()[0]["writes"], 1);
    cluster.kill(2);
    let told = batch(cluster.node(0), &format!("prefix=&since={}&timeout=1s", cursors[0])).told();
    assert_eq!(told, ["reset:ahead", "kept=v1", "synced"]);
    let (_, cursor) = all(cluster.node(1), &format!("prefix=&since={}&timeout=0s", cursors[0]));
    tells(&cluster, 0, &format!("prefix=&since={cursor}&timeout=0s"), &[]);
    assert!(cluster.node(0).metric("vwatch_feed_interruptions_total{reason=\"ahead\"}") >= 1.0);
    assert!(cluster.node(0).metric("vwatch_feed_interruptions_total{reason=\"reset_ahead\"}") >= 1.0);
}

#[test]
fn a_node_that_is_behind_catches_up_before_it_answers() {
    let cluster = started(Cluster::of(2));
    cluster.put(0, "n", "v1");
    cluster.all_agree();
    cluster.slow(1, Duration::from_millis(100));
    // on a busy machine the two seconds for which it waits may be too short now and then
    let mut told = Vec::new();
    let mut caught_up = 0;
    for round in 0..20 {
        cluster.node(0).put(&format!("n?version=w{round}"), "").expect(204);
        let (_, cursor) = all(cluster.node(0), "prefix=");
        let batch = batch(cluster.node(1), &format!("prefix=&since={cursor}&timeout=2s"));
        caught_up += u32::from(batch.events().is_empty());
        told.push(batch.told());
        if caught_up == 3 {
            return;
        }
    }
    panic!("it has caught up in {caught_up} rounds only: {told:?}");
}

#[test]
fn versions_that_are_gone_are_told_as_compacted() {
    let cluster = started(Cluster::of(2).flag("--history-versions", "2"));
    cluster.put(0, "n", "v0");
    cluster.put(0, "quiet", "v0");
    cluster.all_agree();
    let of = |name: &str| all(cluster.node(0), &format!("name={name}&mode=all")).1;
    let (n, quiet) = (of("n"), of("quiet"));
    for version in ["v1", "v2", "v3", "v4"] {
        cluster.put(1, "n", version);
    }
    cluster.all_agree();
    // the node that did not give the cursor has only what is kept
    let query = format!("name=n&mode=all&since={n}&timeout=0s");
    tells(&cluster, 1, &query, &["compacted", "n=v3", "n=v4"]);
    let batch = batch(cluster.node(1), &query);
    let gap = batch.events().iter().find(|event| event["type"] == "compacted").expect("it");
    assert_eq!(gap["names"], serde_json::json!(["n"]));
    tells(&cluster, 1, &format!("name=quiet&mode=all&since={quiet}&timeout=0s"), &[]);
    assert!(cluster.node(1).metric("vwatch_feed_interruptions_total{reason=\"compacted_names\"}") >= 1.0);
}

#[test]
fn a_list_goes_on_at_a_node_that_has_as_much() {
    let cluster = started(Cluster::of(2));
    for name in ["a", "b", "c"] {
        cluster.put(0, name, "v1");
    }
    cluster.all_agree();
    let list = |i: usize, target: &str| cluster.node(i).client().ask(&Request::new("GET", target));
    let first = list(0, "/v1/versions?limit=1&cursor=latest").expect(200);
    let link = first.header("Link").expect("more").to_owned();
    let next = link.strip_prefix('<').and_then(|link| link.split_once('>')).expect("a target").0;
    wait_until("a page at the other node", LIMIT, || {
        let page = list(1, next);
        page.status == 200 && page.json()["cursor"] == first.json()["cursor"]
    });
    cluster.isolate(1);
    cluster.node(0).put("d?version=v1", "").expect(204);
    let first = list(0, "/v1/versions?limit=1&cursor=latest").expect(200);
    let link = first.header("Link").expect("more").to_owned();
    let next = link.strip_prefix('<').and_then(|link| link.split_once('>')).expect("a target").0;
    let behind = list(1, next);
    assert_eq!((behind.status, behind.header("X-Vwatch-Error")), (409, Some("would-go-back")));
}
