//! Values that end in a group of nodes: which node deletes them, and that all agree.

use cluster_tests::cluster::Cluster;
use cluster_tests::http::Response;
use cluster_tests::node::get;
use cluster_tests::wait::{LIMIT, wait_for, wait_until};

const SECOND_US: u64 = 1_000_000;

fn ask(cluster: &Cluster, i: usize, target: &str) -> Response {
    cluster.node(i).client().ask(&get(&format!("{target}?timeout=0s")))
}

fn expired(cluster: &Cluster, i: usize) -> u64 {
    cluster.node(i).metric("vwatch_expired_total") as u64
}

/// Names of which each node deletes some.
const NAMES: usize = 40;

#[test]
fn each_value_is_deleted_once_and_by_the_others_if_a_node_stands_still() {
    let cluster = Cluster::of(3).start();
    cluster.ready();
    let write = |round: &str, expires: &str| {
        for n in 0..NAMES {
            cluster.note(&format!("{round}{n}"));
            cluster.node(n % 3).put(&format!("{round}{n}?expires={expires}"), "x").expect(204);
        }
    };
    let gone = |round: &str, nodes: &[usize]| {
        wait_until("all nodes to have the deletes", 2 * LIMIT, || {
            nodes.iter().all(|i| (0..NAMES).all(|n| ask(&cluster, *i, &format!("{round}{n}")).status == 410))
        });
        // of the deletes, and not only because each node knows the end
        wait_until("no value with an end to be left", 2 * LIMIT, || {
            nodes.iter().all(|i| cluster.node(*i).metric("vwatch_expiring_names") == 0.0)
        });
    };
    write("a", "5s");
    gone("a", &[0, 1, 2]);
    let first: Vec<u64> = (0..3).map(|i| expired(&cluster, i)).collect();
    assert!(first.iter().sum::<u64>() >= NAMES as u64 && first.iter().all(|count| *count > 0), "{first:?}");
    // all nodes have them before the first ends
    write("b", "20s");
    wait_until("all nodes to have them", LIMIT, || {
        (0..3).all(|i| cluster.node(i).metric("vwatch_expiring_names") == NAMES as f64)
    });
    cluster.pause(2);
    gone("b", &[0, 1]);
    let of_two = expired(&cluster, 0) + expired(&cluster, 1) - first[0] - first[1];
    assert!(of_two >= NAMES as u64, "the two that run have deleted all: {of_two}");
    cluster.resume(2);
    gone("b", &[0, 1, 2]);
    cluster.all_agree();
}

#[test]
fn a_renewal_at_another_node_wins() {
    let cluster = Cluster::of(3).start();
    cluster.ready();
    let put = |i: usize| {
        let written = cluster.node(i).put("n?version=v&expires=10s", "x").expect(204);
        written.last_sync().expect("a stamp")
    };
    let first = put(0);
    let mut last = first;
    let mut i = 0;
    wait_until("an end to pass", LIMIT, || {
        i += 1;
        last = put(i % 3);
        std::thread::sleep(std::time::Duration::from_millis(100));
        last > first + 12 * SECOND_US
    });
    for i in 0..3 {
        let held = wait_for("the last renewal", LIMIT, || {
            let answer = ask(&cluster, i, "n");
            (answer.last_sync() == Some(last)).then_some(answer)
        });
        assert!(held.status == 200 || cluster_tests::text::now_us() >= last + 10 * SECOND_US, "{held:?}");
    }
    let deletes: u64 = (0..3).map(|i| expired(&cluster, i)).sum();
    assert!(deletes <= 3, "at most the last one: {deletes}");
}
