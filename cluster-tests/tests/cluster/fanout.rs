//! Names of one push do not delay each other's watchers.

use cluster_tests::cluster::Cluster;
use cluster_tests::heavy::heavy;
use cluster_tests::http::Connection;

const MANY: usize = 2_000;

#[test]
fn a_name_with_many_watchers_does_not_delay_another_name_of_the_same_push() {
    let _heavy = heavy();
    // the many are woken over 20 s
    let cluster = Cluster::of(2).flag("--jitter-per-watch", "10ms").start();
    cluster.ready();
    for name in ["many", "single"] {
        cluster.put(0, name, "1");
        cluster.shows(1, name, "1");
    }
    let many: Vec<Connection> = (0..MANY).map(|_| cluster.watch(1, "many", "1")).collect();
    let mut single = cluster.watch(1, "single", "1");
    cluster.node(1).wait_parked(MANY + 1);

    // one push is under way at a time: while the node does not acknowledge the first one, the next two writes become
    // one
    cluster.pause(1);
    cluster.put(0, "first", "1");
    cluster.put(0, "many", "2");
    cluster.put(0, "single", "2");
    cluster.resume(1);

    assert_eq!(single.answer().expect(200).version(), Some("2"));
    let woken = many.iter().filter(|watcher| watcher.has_news()).count();
    assert!(woken < MANY / 2, "{woken} of {MANY} were woken before the single one");
}
