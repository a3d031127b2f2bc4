//! Groups that lose all of their processes at once.

use std::path::Path;

use cluster_tests::cluster::Cluster;
use cluster_tests::folder::{TestFolder, copy};
use cluster_tests::http::Request;
use cluster_tests::wait::{LIMIT, wait_until};

use super::node;

/// Five nodes end at once and start again in another order: one with an old state of its disk, one without any, and one
/// with that of another set. There is one set again, nothing that was deleted comes back, and a reader goes on.
#[test]
fn five_nodes_that_end_at_once_are_one_set_again() {
    let folder = TestFolder::new("group");
    let dirs: Vec<String> = (0..5).map(|i| folder.join(&format!("node-{i}"))).collect();
    let mut plan = Cluster::of(5).flag("--cold-start-wait", "20s");
    for (i, dir) in dirs.iter().enumerate() {
        plan = plan.env(i, "VWATCH_DATA_DIR", dir);
    }
    let mut cluster = plan.start();
    cluster.ready();
    cluster.all_see_all();
    for n in 0..30 {
        cluster.put(n % 5, &format!("old/{n}"), "1").expect(204);
    }
    cluster.all_agree();
    saved(&cluster);
    copy(Path::new(&dirs[3]), &folder.path().join("backup"));
    for n in 0..20 {
        cluster.delete((n + 1) % 5, &format!("old/{n}")).expect(204);
        cluster.put(n % 5, &format!("new/{n}"), "1").expect(204);
    }
    cluster.all_agree();
    let list = cluster
        .node(0)
        .client()
        .ask(&Request::new("GET", "/v1/versions?cursor=latest&keys-only"))
        .expect(200);
    let cursor = list.json()["cursor"].as_str().expect("a cursor").to_owned();
    cluster.put(2, "last", "1").expect(204);
    cluster.all_agree();
    saved(&cluster);
    let genesis = cluster.node(1).cluster()["genesis"].clone();
    (0..5).for_each(|i| cluster.kill(i));
    // an old state, another set, and nothing
    std::fs::remove_dir_all(&dirs[3]).unwrap();
    copy(&folder.path().join("backup"), Path::new(&dirs[3]));
    std::fs::remove_dir_all(&dirs[2]).unwrap();
    let mut other = node(&dirs[2], &["--node-id", "node-2"]);
    other.put("of/another/set", "x").expect(204);
    other.terminate();
    assert!(other.wait_exit(LIMIT).success());
    std::fs::remove_dir_all(&dirs[4]).unwrap();
    for i in [3, 4, 2, 0, 1] {
        cluster.restart(i);
    }
    cluster.ready();
    cluster.all_see_all();
    cluster.all_agree();
    for i in 0..5 {
        assert_eq!(cluster.node(i).cluster()["genesis"], genesis, "node-{i} is in the same set");
        for (name, status) in
            [("last", 200), ("new/7", 200), ("old/25", 200), ("old/7", 410), ("of/another/set", 404)]
        {
            assert_eq!(cluster.get(i, name).status, status, "{name} at node-{i}");
        }
    }
    let aside = |i: usize| {
        std::fs::read_dir(&dirs[i])
            .unwrap()
            .filter(|entry| entry.as_ref().unwrap().file_name().to_string_lossy().starts_with("aside-"))
    };
    assert_eq!((0..5).map(|i| aside(i).count()).collect::<Vec<_>>(), [0, 0, 1, 0, 0]);
    let target = format!("/v1/watch?since={cursor}&prefix=&timeout=0s");
    let told = || cluster.node(4).client().ask(&Request::new("GET", &target)).expect(200).text().to_owned();
    // a node may hold all that the reader was told, and claim it only after its next round
    wait_until("a node that is not behind the reader", LIMIT, || !told().contains("\"ahead\""));
    let told = told();
    assert!(told.contains("\"last\"") && !told.contains("reset") && !told.contains("old/"), "{told}");
    // as soon as all are there it is no set that was begun alone
    wait_until("a set that is not provisional", LIMIT, || {
        (0..5).all(|i| {
            !cluster.node(i).client().ask(&Request::new("GET", "/readyz")).text().contains("provisional")
        })
    });
}

/// A node that restarts with its disk takes over what it lacks, and brings what it alone has.
#[test]
fn a_node_that_restarts_compares_and_does_not_begin_again() {
    let folder = TestFolder::new("group");
    let mut plan = Cluster::of(3);
    for i in 0..3 {
        plan = plan.env(i, "VWATCH_DATA_DIR", &folder.join(&format!("node-{i}")));
    }
    let mut cluster = plan.start();
    cluster.ready();
    cluster.all_see_all();
    for n in 0..300 {
        cluster.put(n % 3, &format!("name/{n}"), "1").expect(204);
    }
    cluster.all_agree();
    saved(&cluster);
    // it accepts a write that reaches no other node, saves it, and is killed
    cluster.isolate(2);
    cluster.put(2, "alone", "1").expect(204);
    saved(&cluster);
    cluster.kill(2);
    cluster.heal();
    cluster.put(0, "meanwhile", "1").expect(204);
    cluster.restart(2);
    cluster.ready();
    for i in 0..3 {
        cluster.shows(i, "alone", "1");
        cluster.shows(i, "meanwhile", "1");
    }
    cluster.all_agree();
    let metric = |name: &str| cluster.node(2).metric(name);
    assert_eq!(metric("vwatch_disk_set_asides_total"), 0.0);
    assert_eq!(metric("vwatch_sync_snapshots_total"), 0.0, "it loaded what it had, and compared");
}

/// Waits until each node has saved all that it holds.
fn saved(cluster: &Cluster) {
    for i in 0..cluster.len() {
        let node = cluster.node(i);
        // the second commit from now on begins after all of this was noted
        for _ in 0..2 {
            let before = node.metric("vwatch_disk_commits_total");
            node.put(&format!("mark/{i}?version={before}"), "").expect(204);
            wait_until("a commit", LIMIT, || node.metric("vwatch_disk_commits_total") > before);
        }
    }
}
