//! Readers that have seen a write which no disk has.

use cluster_tests::cluster::Cluster;
use cluster_tests::folder::TestFolder;
use cluster_tests::http::{Request, Response};
use cluster_tests::node::{Node, run_to_end};
use cluster_tests::text::now_us;
use cluster_tests::wait::{LIMIT, wait_for, wait_until};

use super::{node, stop};

/// Nothing is saved for a minute but at the end.
const SELDOM: [&str; 2] = ["--durability", "1m"];

fn read(node: &Node, name: &str, seen: u64) -> Response {
    let get = Request::new("GET", &format!("/v1/versions/{name}?timeout=0s"));
    node.client().ask(&get.header("X-Last-Sync", seen.to_string()))
}

fn lost_since(answer: &Response) -> Option<u64> {
    answer.header("X-Vwatch-Lost-Since").map(|text| text.parse().expect("µs"))
}

/// The stamp of a lost write is ignored, and only that; the command line and a follower go on from what there is.
#[test]
fn a_reader_of_a_lost_write_goes_on_with_what_there_is() {
    let folder = TestFolder::new("lost");
    let dir = folder.join("data");
    let first = node(&dir, &SELDOM);
    for name in ["n", "other", "gone"] {
        first.put(&format!("{name}?version=v1"), "1").expect(204);
    }
    stop(first);
    let saved_us = now_us();

    let second = node(&dir, &SELDOM);
    let follower = Node::with(&["--fill-from", &format!("http://{}", second.client_addr())]);
    second.put("n?version=v2", "2").expect(204);
    second.delete("gone").expect(204);
    second.put("never?version=v1", "1").expect(204);
    let seen = second.get("n").expect(200).last_sync().expect("a stamp");
    let deleted = second.get("gone").expect(410).last_sync().expect("a stamp");
    let shows = |version: &str| {
        let answer = follower.get("n?timeout=1s");
        (answer.status == 200 && answer.version() == Some(version)).then_some(answer)
    };
    wait_for("the follower to have it", LIMIT, || shows("v2"));
    let third = Node::at(second.kill_for_its_ports(), &[&["--data-dir", &dir][..], &SELDOM].concat());

    let back = read(&third, "n", seen).expect(200);
    assert_eq!(back.version(), Some("v1"));
    let since = lost_since(&back).expect("a time");
    assert!(since <= saved_us && since < seen, "{since} {saved_us} {seen}");
    let back = read(&third, "gone", deleted).expect(200);
    assert_eq!((back.version(), lost_since(&back)), (Some("v1"), Some(since)));
    let nothing = read(&third, "never", seen).expect(404);
    assert_eq!(lost_since(&nothing), Some(since));
    // what is there, and what was never written before the end
    let there = third.get("other").expect(200).last_sync().expect("a stamp");
    assert_eq!(lost_since(&read(&third, "other", there).expect(200)), None);
    assert_eq!(lost_since(&third.get("n").expect(200)), None);
    let later = read(&third, "n", now_us() + 3_600_000_000).expect(409);
    assert_eq!((later.header("X-Vwatch-Error"), lost_since(&later)), (Some("would-go-back"), None));
    assert!(third.stderr().contains("may be lost"), "{}", third.stderr());

    let older = wait_for("the follower to go back", LIMIT, || shows("v1"));
    assert_eq!(older.text(), "1");
    let by_follower = read(&follower, "n", seen).expect(200);
    assert_eq!((by_follower.version(), lost_since(&by_follower)), (Some("v1"), Some(since)));
    third.wait_parked(1);

    // a reader with the stamp waits for a change of what there is, beside the follower
    let target = "/v1/versions/n?version=v1&timeout=1m";
    let request = Request::new("GET", target).header("X-Last-Sync", seen.to_string());
    let mut parked = third.watch(&request);
    third.wait_parked(2);

    third.put("n?version=v3", "3").expect(204);
    let woken = parked.answer().expect(200);
    assert_eq!((woken.version(), lost_since(&woken)), (Some("v3"), Some(since)));
    assert_eq!(lost_since(&read(&third, "n", seen).expect(200)), None, "it holds a newer one");
    wait_for("the follower to go on", LIMIT, || shows("v3"));

    // it is saved, and a later start keeps it
    stop(third);
    let fourth = node(&dir, &SELDOM);
    let gone = read(&fourth, "never", seen).expect(404);
    assert!(lost_since(&gone).is_some_and(|since| since < seen), "{gone:?}");
    let watch = ["watch", "-n", "1", "--client-url", &fourth.client_addr().to_string(), "other"];
    assert_eq!(run_to_end(&watch).code, Some(0));
}

/// As long as another disk may have the write a reader waits for it. Then all nodes tell that it is lost.
#[test]
fn a_group_tells_a_loss_when_all_disks_are_there() {
    let folder = TestFolder::new("lost");
    let mut plan = Cluster::of(3).flag("--durability", "1m").flag("--cold-start-wait", "1s");
    for i in 0..3 {
        plan = plan.env(i, "VWATCH_DATA_DIR", &folder.join(&format!("node-{i}")));
    }
    let mut cluster = plan.start();
    cluster.ready();
    cluster.all_see_all();
    cluster.put(0, "n", "1").expect(204);
    cluster.put(0, "kept", "1").expect(204);
    cluster.all_agree();
    for i in 0..3 {
        cluster.node(i).terminate();
    }
    for i in 0..3 {
        assert!(cluster.wait_exit(i).success());
    }
    for i in 0..3 {
        cluster.restart(i);
    }
    cluster.ready();
    cluster.all_see_all();
    // node 2 alone has this on its disk
    cluster.put(2, "kept", "2").expect(204);
    let kept = cluster.get(2, "kept").expect(200).last_sync().expect("a stamp");
    cluster.all_agree();
    cluster.kill(0);
    cluster.kill(1);
    cluster.node(2).terminate();
    assert!(cluster.wait_exit(2).success());
    // these two serve without it, and know of no loss
    cluster.restart(0);
    cluster.restart(1);
    wait_until("two nodes to serve what they have", LIMIT, || {
        [0, 1].iter().all(|i| cluster.node(*i).is_ready())
    });
    for i in 0..2 {
        let waits = read(cluster.node(i), "kept", kept);
        assert_eq!((waits.status, lost_since(&waits)), (409, None), "node {i}");
    }
    cluster.restart(2);
    cluster.ready();
    for i in 0..3 {
        cluster.shows(i, "kept", "2");
    }
    // and now without a save
    cluster.put(0, "n", "2").expect(204);
    let seen = cluster.get(0, "n").expect(200).last_sync().expect("a stamp");
    (0..3).for_each(|i| cluster.shows(i, "n", "2"));
    (0..3).for_each(|i| cluster.kill(i));
    (0..3).for_each(|i| cluster.restart(i));
    cluster.ready();
    for i in 0..3 {
        let told = wait_for("the loss to be told", LIMIT, || {
            let answer = read(cluster.node(i), "n", seen);
            assert!([200, 409].contains(&answer.status), "{answer:?}");
            (answer.status == 200).then_some(answer)
        });
        assert_eq!(told.version(), Some("1"), "node {i}");
        assert!(lost_since(&told).is_some_and(|since| since < seen), "{told:?}");
        assert_eq!(lost_since(&read(cluster.node(i), "kept", kept)), None, "node {i} has that");
    }
}
