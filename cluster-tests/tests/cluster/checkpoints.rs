//! Checkpoints in a cluster: written at one node, they hold back a compaction at each.

use cluster_tests::cluster::{Cluster, Plan};
use cluster_tests::feed::all;
use cluster_tests::http::{Request, Response};
use cluster_tests::text::now_us;
use cluster_tests::wait::{LIMIT, wait_until};
use serde_json::{Value, json};

const MINUTE_US: u64 = 60_000_000;

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

fn checkpoint(cluster: &Cluster, i: usize, method: &str, id: &str, since: &str) -> Response {
    let request = Request::new(method, &format!("/v1/checkpoints/{id}")).body(since);
    cluster.node(i).server().ask(&request)
}

/// Waits until all nodes give the same checkpoint, or none.
#[track_caller]
fn wait_for(cluster: &Cluster, id: &str, since: Option<&str>) {
    wait_until(&format!("{since:?} at all nodes"), LIMIT, || {
        (0..cluster.len()).all(|i| {
            let got = checkpoint(cluster, i, "GET", id, "");
            match since {
                Some(since) => got.status == 200 && got.text() == since,
                None => got.status == 404,
            }
        })
    });
}

fn compact(cluster: &Cluster, i: usize, before: &str) -> Value {
    cluster.compact(i, before).json()
}

/// How many versions of a name each node keeps.
fn kept(cluster: &Cluster, name: &str) -> Vec<usize> {
    let of = |i: usize| {
        let answer = cluster.node(i).client().ask(&Request::new("GET", &format!("/v1/history/{name}")));
        if answer.status == 200 { answer.json()["versions"].as_array().map_or(0, Vec::len) } else { 0 }
    };
    (0..cluster.len()).map(of).collect()
}

/// Versions of `n`, a minute apart, each at the next node; the last one is from `last` minutes ago. Returns their
/// stamps.
fn write(cluster: &Cluster, count: u64, last: u64) -> Vec<u64> {
    let end = (now_us() / MINUTE_US - last) * MINUTE_US;
    let stamps: Vec<u64> = (0..count).map(|i| end - (count - 1 - i) * MINUTE_US).collect();
    for (i, stamp) in stamps.iter().enumerate() {
        cluster.put_at(i % cluster.len(), "n", &format!("v{i}"), *stamp).expect(204);
    }
    stamps
}

#[test]
fn a_checkpoint_of_one_node_holds_back_a_compaction_at_another() {
    let mut cluster = started(Cluster::of(3));
    let stamps = write(&cluster, 6, 20);
    wait_until("all versions at all nodes", LIMIT, || kept(&cluster, "n") == [6, 6, 6]);
    let since = format!("at:{}", stamps[3]);
    checkpoint(&cluster, 0, "PUT", "reader", &since).expect(204);
    wait_for(&cluster, "reader", Some(&since));
    let asked = stamps[5];
    let held = compact(&cluster, 1, &asked.to_string());
    assert_eq!(held, json!({"horizon": stamps[3], "asked": asked, "held_by": "checkpoint reader"}));
    wait_until("what is not held back to go", LIMIT, || kept(&cluster, "n") == [3, 3, 3]);
    for i in 0..3 {
        assert_eq!(cluster.node(i).cluster()["history"]["held_by"]["checkpoint"], "reader", "node {i}");
    }

    // a node that was killed takes it with the set
    cluster.kill(2);
    cluster.restart(2);
    cluster.ready();
    wait_for(&cluster, "reader", Some(&since));
    assert_eq!(compact(&cluster, 2, &asked.to_string())["held_by"], "checkpoint reader");

    // the newest one wins, wherever it was written
    let later = format!("at:{}", stamps[4]);
    checkpoint(&cluster, 2, "PUT", "reader", &later).expect(204);
    wait_for(&cluster, "reader", Some(&later));
    assert_eq!(compact(&cluster, 0, &asked.to_string())["horizon"], stamps[4]);
    checkpoint(&cluster, 1, "DELETE", "reader", "").expect(204);
    wait_for(&cluster, "reader", None);
    assert_eq!(
        compact(&cluster, 0, &asked.to_string()),
        json!({"horizon": asked, "asked": asked, "held_by": null})
    );
    wait_until("the others to go", LIMIT, || kept(&cluster, "n") == [1, 1, 1]);
    cluster.all_agree();
}

#[test]
fn an_expired_checkpoint_holds_nothing_back_at_any_node() {
    let cluster = started(Cluster::of(2).flag("--checkpoint-expiry", "2s"));
    let stamps = write(&cluster, 4, 20);
    wait_until("all versions at all nodes", LIMIT, || kept(&cluster, "n") == [4, 4]);
    let since = format!("at:{}", stamps[0]);
    checkpoint(&cluster, 0, "PUT", "reader", &since).expect(204);
    wait_for(&cluster, "reader", Some(&since));
    wait_until("it to expire", LIMIT, || {
        (0..2).all(|i| checkpoint(&cluster, i, "GET", "reader", "").header("X-Vwatch-Expired").is_some())
    });
    assert_eq!(compact(&cluster, 1, &stamps[3].to_string())["held_by"], Value::Null);
    wait_until("all older ones to go", LIMIT, || kept(&cluster, "n") == [1, 1]);
    wait_for(&cluster, "reader", Some(&since));
}

/// What a reader of every version is told that was away while its names were written and compacted.
#[track_caller]
fn away(with_checkpoint: bool) -> Vec<String> {
    let cluster = started(Cluster::of(2).flag("--history-versions", "20"));
    cluster.put(0, "n", "v0").expect(204);
    cluster.all_agree();
    let cursor = all(cluster.node(0), "prefix=&mode=all").1;
    if with_checkpoint {
        checkpoint(&cluster, 0, "PUT", "reader", &cursor).expect(204);
        wait_for(&cluster, "reader", Some(&cursor));
    }
    for i in 1..=10 {
        cluster.put(i % 2, "n", &format!("v{i}")).expect(204);
    }
    cluster.all_agree();
    // until the clock alone would let the compaction pass all of the older versions
    let newest = now_us();
    wait_until("a compaction that waits for the clock no more", LIMIT, || {
        let answer = compact(&cluster, 1, "now");
        assert_eq!(answer["held_by"] == "checkpoint reader", with_checkpoint, "{answer}");
        with_checkpoint && now_us() > newest + 8_000_000 || answer["horizon"].as_u64() > Some(newest)
    });
    if !with_checkpoint {
        // a node drops them in slices, and tells what it still holds
        wait_until("the older ones to go", LIMIT, || cluster.node(1).cluster()["history"]["bytes"] == 0);
    }
    // the reader comes back at the other node
    let since = if with_checkpoint {
        checkpoint(&cluster, 1, "GET", "reader", "").expect(200).text().to_owned()
    } else {
        cursor
    };
    let mut told = all(cluster.node(1), &format!("prefix=&mode=all&timeout=0s&since={since}")).0;
    told.sort_unstable();
    told
}

#[test]
fn a_reader_that_was_away_is_told_every_version() {
    let mut expected: Vec<String> = (1..=10).map(|i| format!("n=v{i}")).collect();
    expected.sort_unstable();
    assert_eq!(away(true), expected);
}

#[test]
fn a_reader_without_a_checkpoint_is_told_what_it_missed() {
    assert_eq!(away(false), ["compacted", "n=v10"]);
}
