//! Caching nodes of a cluster: one of them polls a name, all of them have it, and others take over.
#![allow(clippy::unwrap_used, reason = "a panic is a failed test with a line number")]

use std::sync::{Arc, Mutex};
use std::time::Duration;

use cluster_tests::cluster::Cluster;
use cluster_tests::upstream::{Upstream, status};
use cluster_tests::wait::{LIMIT, wait_until};

const NAMES: usize = 12;

#[test]
fn one_node_of_a_cluster_polls_a_name_and_others_take_over() {
    let tag = Arc::new(Mutex::new("\"v1\"".to_owned()));
    let upstream = Upstream::start({
        let tag = Arc::clone(&tag);
        move |asked| {
            let tag = tag.lock().unwrap().clone();
            let known = asked.header("If-None-Match") == Some(tag.as_str());
            status(if known { 304 } else { 200 }).header("ETag", tag)
        }
    });
    let mut cluster = Cluster::of(3)
        .flag("--fill-from", &upstream.url())
        .flag("--fill-strategy", "FILL_CACHE")
        .flag("--fill-path", "/{{.name}}")
        .flag("--fill-expiry", "1s")
        .flag("--fill-rate", "1000")
        .start();
    cluster.ready();
    let names: Vec<String> = (0..NAMES).map(|i| format!("n{i}")).collect();
    let is_everywhere = |cluster: &Cluster, version: &str| {
        let running = (0..3).filter(|i| cluster.is_running(*i));
        running.into_iter().all(|i| {
            names.iter().all(|name| {
                let answer = cluster.get(i, name);
                answer.status == 200 && answer.version() == Some(version)
            })
        })
    };
    wait_until("all nodes to know all names", LIMIT, || is_everywhere(&cluster, "v1"));
    // first reads make each node send a request; from then on the owner sends one an interval, whatever node is read
    wait_until("an interval with about one request a name", LIMIT, || {
        let before = upstream.asked().len();
        std::thread::sleep(Duration::from_secs(3));
        let asked = upstream.asked().len() - before;
        // one node has to send requests: three turns, each up to a tenth early
        (NAMES..=NAMES * 3 * 4 / 3).contains(&asked)
    });
    *tag.lock().unwrap() = "\"v2\"".to_owned();
    wait_until("all nodes to know of the change", LIMIT, || is_everywhere(&cluster, "v2"));
    // a node that leaves a name to its owner knows that it is fresh
    wait_until("all to be fresh", LIMIT, || {
        (0..3).all(|i| names.iter().all(|name| cluster.get(i, name).header("Warning").is_none()))
    });
    cluster.kill(0);
    *tag.lock().unwrap() = "\"v3\"".to_owned();
    wait_until("others to take over the names of the dead one", LIMIT, || is_everywhere(&cluster, "v3"));
}

/// A member that fills nothing owns names like the others: the nodes that read these names request them themselves.
#[test]
fn a_name_that_its_owner_does_not_fill_is_polled_by_the_node_that_reads_it() {
    let tag = Arc::new(Mutex::new("\"v1\"".to_owned()));
    let upstream = Upstream::start({
        let tag = Arc::clone(&tag);
        move |_| status(200).header("ETag", tag.lock().unwrap())
    });
    let url = upstream.url();
    let filling = [
        ("VWATCH_FILL_FROM", url.as_str()),
        ("VWATCH_FILL_STRATEGY", "FILL_CACHE"),
        ("VWATCH_FILL_PATH", "/{{.name}}"),
        ("VWATCH_FILL_EXPIRY", "500ms"),
        ("VWATCH_FILL_RATE", "1000"),
    ];
    let plan = filling.iter().fold(Cluster::of(2), |plan, (name, text)| plan.env(1, name, text));
    let cluster = plan.start();
    cluster.ready();
    // so many that the one that fills nothing owns some
    let names: Vec<String> = (0..NAMES).map(|i| format!("n{i}")).collect();
    for version in ["v1", "v2", "v3"] {
        *tag.lock().unwrap() = format!("\"{version}\"");
        wait_until(&format!("all to be {version}"), LIMIT, || {
            names.iter().all(|name| cluster.get(1, name).version() == Some(version))
        });
    }
    let told = "vwatch_fill_owners_told_total{heard=\"not_filled\"}";
    assert!(cluster.node(1).metric(told) >= 1.0);
}
