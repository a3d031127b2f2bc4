//! `vwatch bench stream`: each delivery is counted, and what is lost is said.

use cluster_tests::cluster::Cluster;
use cluster_tests::node::{Node, run_to_end};
use cluster_tests::wait::{LIMIT, wait_until};
use serde_json::Value;

use super::bench::{bench, figures, is_clean, number};

fn is_whole(figures: &Value) {
    for name in ["lost", "repeated", "gaps", "dropped"] {
        assert_eq!(number(figures, name), 0.0, "{name} in {figures}");
    }
}

#[test]
fn all_streams_are_told_of_all_writes() {
    let node = Node::start();
    for (form, mode) in [("ndjson", "latest"), ("sse", "all")] {
        let arguments = format!(
            "stream --streams 50 --names 20 --rate 200 --duration 1s --form {form} --mode {mode} -w json"
        );
        let finished = bench(&node, &arguments);
        let figures = figures(&finished);
        assert_eq!(
            (&figures["of"], &figures["form"], &figures["mode"]),
            (&"stream".into(), &form.into(), &mode.into())
        );
        // on a busy machine a stream may be told a newer version of a name in the place of one
        let told = number(&figures, "delivered") + number(&figures, "superseded");
        assert_eq!((number(&figures, "writes"), told), (200.0, 10_000.0), "{figures}");
        is_whole(&figures);
        assert!(
            number(&figures, "delivery_ms.p50") > 0.0 && number(&figures, "last_ms.max") > 0.0,
            "{figures}"
        );
        assert!(number(&figures, "bytes_each") > 100.0, "{figures}");
        assert_eq!(number(&figures, "server.pid"), f64::from(node.pid()), "found by its port");
        assert!(finished.stderr.contains("50 streams have begun after"), "{}", finished.stderr);
        is_clean(&node);
    }
}

#[test]
fn every_version_is_delivered_at_full_speed() {
    let node = Node::start();
    let all = bench(&node, "stream --streams 3 --names 500 --rate 0 --duration 1s --mode all -w json");
    let all = figures(&all);
    assert_eq!(number(&all, "delivered"), 3.0 * number(&all, "writes"), "{all}");
    assert_eq!(number(&all, "told_to_all"), number(&all, "writes"), "{all}");
    assert!(all["writer_behind_ms"].is_null(), "nothing is due: {all}");
    is_whole(&all);
    let latest = bench(&node, "stream --streams 20 --names 1 --rate 0 --duration 1s -w json");
    let latest = figures(&latest);
    let told = number(&latest, "delivered") + number(&latest, "superseded");
    assert_eq!(told, 20.0 * number(&latest, "writes"), "{latest}");
    is_whole(&latest);
    is_clean(&node);
}

#[test]
fn streams_may_be_at_other_nodes_and_one_that_ends_is_an_error() {
    let mut cluster = Cluster::of(3).start();
    cluster.ready();
    let clients = format!("{},{}", cluster.node(1).client_addr(), cluster.node(2).client_addr());
    let writer = cluster.node(0).server_addr().to_string();
    let urls = ["--client-url", &clients, "--server-url", &writer];
    let arguments: Vec<&str> = "bench stream --streams 10 --rate 100 -w json".split(' ').collect();
    let times = ["--duration", "1s", "--give-up", "15s"];
    let short = run_to_end(&[&arguments[..], &urls, &times].concat());
    let figures = figures(&short);
    assert_eq!(number(&figures, "delivered") + number(&figures, "superseded"), 1000.0, "{figures}");
    is_whole(&figures);
    let of_one = run_to_end(&[&arguments[..], &urls, &["--pid", "1"]].concat());
    assert!(of_one.code == Some(2) && of_one.stderr.contains("not one process's"), "{of_one:?}");
    let times = ["--duration", "5s", "--give-up", "2s"];
    let mut bench = Node::process(&[&arguments[..], &urls, &times].concat());
    wait_until("the streams", LIMIT, || bench.stderr().contains("10 streams have begun"));
    cluster.kill(2);
    assert_eq!(bench.wait_exit(LIMIT).code(), Some(1));
    assert!(bench.stderr().contains("deliveries lost, 5 streams ended"), "{}", bench.stderr());
    let figures: Value = serde_json::from_str(&bench.stdout()).expect("figures all the same");
    assert_eq!(number(&figures, "dropped"), 5.0, "{figures}");
}

#[test]
fn what_cannot_be_measured_is_refused() {
    let node = Node::start();
    for (arguments, said) in [
        ("stream --streams 100000 --names 1000", "bad --names"),
        ("stream --rate 1000000 --duration 60s", "bad --rate"),
        ("stream --duration 0s --rate 0", "bad --duration"),
        ("stream --form xml", "invalid value 'xml'"),
    ] {
        let refused = bench(&node, arguments);
        assert!(refused.code == Some(2) && refused.stderr.contains(said), "{refused:?}");
    }
    let closed =
        run_to_end(&["bench", "stream", "--client-url", "127.0.0.1:1", "--server-url", "127.0.0.1:1"]);
    assert_eq!(closed.code, Some(1), "{closed:?}");
}
