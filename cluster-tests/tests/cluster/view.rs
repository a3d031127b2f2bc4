//! `GET /v1/cluster`: the view of the cluster, and whether discovery, gossip and requests see the same nodes.

use std::net::{Ipv6Addr, SocketAddr, TcpListener};

use cluster_tests::docker::skipped;
use cluster_tests::http::Request;
use cluster_tests::node::{GROUP_SECRET, Node, free_addresses, get};
use cluster_tests::text::{assert_refusal, metric};
use cluster_tests::wait::{LIMIT, wait_for, wait_until};
use serde_json::Value;

#[track_caller]
fn text<'a>(of: &'a Value, path: &str) -> &'a str {
    of.pointer(path).and_then(Value::as_str).unwrap_or_else(|| panic!("no text {path} in {of:#}"))
}

#[track_caller]
fn numbers(of: &Value) -> (u64, u64, u64, bool) {
    let number = |name: &str| of["agreement"][name].as_u64().unwrap_or_else(|| panic!("no {name} in {of:#}"));
    (number("dns"), number("gossip"), number("data"), of["agreement"]["agree"].as_bool().expect("a bool"))
}

#[test]
fn a_node_without_others_answers_with_itself() {
    let node = Node::with(&["--node-id", "alone", "--region", "eu"]);
    node.put("a?version=1", "x").expect(204);
    node.delete("b").expect(204);

    let seen = node.cluster();

    assert_eq!((text(&seen, "/node/node_id"), text(&seen, "/node/region")), ("alone", "eu"));
    assert_eq!((text(&seen, "/node/standing"), text(&seen, "/node/state")), ("ready", "ready"));
    assert_eq!(text(&seen, "/node/client"), node.client_addr().to_string());
    assert_eq!(text(&seen, "/node/server"), node.server_addr().to_string());
    assert_eq!((seen["node"]["values"].as_u64(), seen["node"]["tombstones"].as_u64()), (Some(1), Some(1)));
    assert_eq!(seen["node"]["set"]["records"], 2);
    assert_eq!(text(&seen, "/node/set/digest").len(), 32);
    assert_eq!(seen["node"]["set"]["genesis"]["provisional"], false);
    assert_eq!(seen["members"]["live"], Value::Array(Vec::new()));
    assert_eq!(numbers(&seen), (1, 1, 1, true));
    // it is for operators
    assert_refusal(&node.client().ask(&Request::new("GET", "/v1/cluster")), 404);
}

/// Gossip, pushes and what is shown of addresses, all over IPv6; one listens on all addresses, and finds out its own.
#[test]
fn a_group_on_ipv6_is_a_group() {
    let bind = || TcpListener::bind((Ipv6Addr::LOCALHOST, 0));
    if let Err(error) = bind() {
        return skipped("a_group_on_ipv6_is_a_group", &format!("there is no IPv6 loopback: {error}"));
    }
    let nodes = Node::started(|| {
        // held together, so that they differ
        let held = [bind(), bind(), bind(), bind()].map(|port| port.expect("a free port"));
        let at = |port: usize| held[port].local_addr().expect("bound");
        let everywhere = SocketAddr::from((Ipv6Addr::UNSPECIFIED, at(1).port()));
        let flags = ["--replicate-with", &format!("{},{}", at(1), at(3)), "--cluster-secret", GROUP_SECRET]
            .map(str::to_owned);
        let listens = [(at(0), everywhere), (at(2), at(3))];
        drop(held);
        listens.map(|(client, server)| Node::launch(client, server, &flags, &[])).into()
    });
    for node in &nodes {
        wait_until("two that agree", LIMIT, || numbers(&node.cluster()) == (2, 2, 2, true));
    }
    let first = &nodes[1].cluster()["members"]["live"][0];
    let known_at = SocketAddr::from((Ipv6Addr::LOCALHOST, nodes[0].server_addr().port()));
    assert_eq!(text(first, "/server"), known_at.to_string(), "{first:#}");
    nodes[0].put("name?version=v1", "").expect(204);
    wait_until("the write", LIMIT, || nodes[1].get("name").status == 200);
    let mut parked = nodes[0].watch(&get("name?version=v1&timeout=1m"));
    nodes[1].put("name?version=v2", "").expect(204);
    assert_eq!(parked.answer().expect(200).version(), Some("v2"));
}

#[test]
fn three_nodes_agree_until_one_is_gone_and_then_say_who() {
    let mut nodes = Node::group(3, &["--replicate-interval", "200ms"]);
    for node in &nodes {
        wait_until("three numbers that agree", LIMIT, || numbers(&node.cluster()) == (3, 3, 3, true));
    }
    nodes[0].put("name?version=v1", "x").expect(204);
    wait_until("equal sets", LIMIT, || {
        nodes.iter().all(|node| {
            let seen = node.cluster();
            let same = |member: &Value| member["same-set"] == true && member["lag"] == 0;
            seen["node"]["values"] == 1
                && seen["members"]["live"].as_array().expect("a list").iter().all(same)
        })
    });
    let seen = nodes[0].cluster();
    let other = &seen["members"]["live"][0];
    assert!(text(other, "/node_id").starts_with("node-"), "{other:#}");
    assert_eq!((text(other, "/state"), other["dirty"].as_bool()), ("ready", Some(false)));
    assert_eq!(text(other, "/set/digest"), text(&seen, "/node/set/digest"));
    assert_eq!(text(other, "/seal-key"), text(&seen, "/node/seal-key"));
    assert!(other["clock-offset-us"].as_i64().is_some_and(|us| us.abs() < 1_000_000), "{other:#}");
    assert_eq!(seen["discovery"]["addresses"].as_array().map(Vec::len), Some(3));

    let ports = nodes.pop().expect("the third").kill_for_its_ports();
    let gone = ports.1.to_string();

    let seen = wait_for("gossip to miss it", LIMIT, || {
        let seen = nodes[0].cluster();
        let said = seen["agreement"]["sentences"].to_string();
        (said.contains(&gone) && said.contains("gossip does not see it")).then_some(seen)
    });
    assert_eq!(numbers(&seen), (3, 2, 2, false));
    assert_eq!(text(&seen, "/members/dead/0/node_id"), "node-3");

    let first = nodes[0].server_addr().to_string();
    let flags = ["--node-id", "node-3", "--replicate-with", &first, "--cluster-secret", GROUP_SECRET];
    let mut again = Node::at(ports, &flags);
    wait_until("the dead process to be missed no more", LIMIT, || {
        let seen = nodes[0].cluster();
        numbers(&seen) == (3, 3, 3, true) && seen["members"]["dead"].as_array().is_some_and(Vec::is_empty)
    });

    // one that has left in order is not missed
    again.terminate();
    assert_eq!(again.wait_exit(LIMIT).code(), Some(0));
    let seen = wait_for("gossip to see that it is gone", LIMIT, || {
        let seen = nodes[0].cluster();
        (seen["members"]["live"].as_array().expect("a list").len() == 1).then_some(seen)
    });
    assert_eq!(seen["members"]["dead"], Value::Array(Vec::new()));
    wait_until("the line of the log", LIMIT, || nodes[0].stderr().contains(" left ("));
    assert_eq!(nodes[0].metric("vwatch_members{state=\"dead\"}"), 0.0);
}

/// The node listens on IPv4 and has an IPv6 address of another node, which may have a set.
#[test]
fn addresses_that_the_node_cannot_send_to_count_as_nodes() {
    let node = Node::with(&["--replicate-with", "[2001:db8::7]:8008", "--cluster-secret", GROUP_SECRET]);
    let seen = node.cluster();
    assert_eq!(seen["node"]["set"]["genesis"]["provisional"], true, "{seen:#}");
    assert!(
        !numbers(&seen).3 && seen["agreement"]["sentences"].to_string().contains("cannot send there"),
        "{seen:#}"
    );
    wait_until("a line in the log", LIMIT, || {
        node.stderr().contains("[2001:db8::7]:8008, and this node cannot")
    });
}

#[test]
fn a_stranger_to_discovery_is_named() {
    let nodes = Node::group(2, &[]);
    let seeds = nodes[0].server_addr().to_string();
    // it names the first only
    let flags = ["--node-id", "node-3", "--replicate-with", &seeds, "--cluster-secret", GROUP_SECRET];
    let third = Node::with(&flags);
    let seen = wait_for("the second to be seen", LIMIT, || {
        let seen = third.cluster();
        (numbers(&seen) == (2, 3, 3, false)).then_some(seen)
    });
    let said = seen["agreement"]["sentences"].to_string();
    assert!(said.contains("node-2") && said.contains("discovery does not name it"), "{said}");
}

#[test]
fn a_member_that_gossips_and_answers_no_requests_is_named() {
    let first = &Node::group(1, &[])[0];
    let (nowhere, _) = free_addresses();
    let (seed, nowhere) = (first.server_addr().to_string(), nowhere.to_string());
    let shared = ["--replicate-with", &seed, "--cluster-secret", GROUP_SECRET];
    let deaf = Node::with(&[&shared[..], &["--node-id", "deaf", "--advertise-server", &nowhere]].concat());
    let seen = wait_for("a request to fail", LIMIT, || {
        let seen = first.cluster();
        seen["agreement"]["sentences"].to_string().contains("requests fail").then_some(seen)
    });
    assert_eq!(numbers(&seen), (1, 2, 1, false));
    let other = &seen["members"]["live"][0];
    assert_eq!((text(other, "/node_id"), text(other, "/server")), ("deaf", nowhere.as_str()));
    assert!(text(other, "/error").contains("not reachable"), "{other:#}");
    drop(deaf);
}

#[test]
fn the_metrics_of_a_group() {
    let nodes = Node::group(2, &["--replicate-interval", "200ms"]);
    wait_until("two that agree", LIMIT, || numbers(&nodes[0].cluster()) == (2, 2, 2, true));
    nodes[0].put("a", "x").expect(204);
    nodes[1].put("b", "x").expect(204);
    let key = text(&nodes[0].cluster(), "/node/seal-key").to_owned();
    let page = || nodes[0].server().ask(&Request::new("GET", "/metrics")).expect(200).text().to_owned();
    let has = |name: &str, value: f64| {
        let known = metric(&page(), name).unwrap_or_else(|| panic!("no {name}"));
        assert!((known - value).abs() < f64::EPSILON, "{name} is {known}");
    };
    let moves = |name: &str| {
        wait_until(name, LIMIT, || metric(&page(), name).unwrap_or_else(|| panic!("no {name}")) > 0.0);
    };

    for kind in ["gossip", "request", "answer"] {
        for direction in ["in", "out"] {
            moves(&format!("vwatch_replication_bytes_total{{kind=\"{kind}\",direction=\"{direction}\"}}"));
        }
    }
    moves("vwatch_gossip_datagrams_total{direction=\"in\"}");
    moves("vwatch_sync_vectors_total");
    wait_until("no lag", LIMIT, || metric(&page(), "vwatch_peer_lag_writes") == Some(0.0));
    has("vwatch_standing{state=\"ready\"}", 1.0);
    has("vwatch_standing{state=\"joining\"}", 0.0);
    has("vwatch_members{state=\"live\"}", 1.0);
    has("vwatch_members{state=\"dead\"}", 0.0);
    has("vwatch_cluster_nodes{by=\"data\"}", 2.0);
    has("vwatch_cluster_agrees", 1.0);
    has("vwatch_peers_dirty", 0.0);
    has("vwatch_sync_old_differences_total", 0.0);
    has("vwatch_sync_wrong_horizons_total", 0.0);
    has("vwatch_gossip_dropped_total{reason=\"unknown_key\"}", 0.0);
    has("vwatch_discovery_addresses", 2.0);
    has(&format!("vwatch_seal_key{{key=\"{key}\"}}"), 1.0);
    assert!(metric(&page(), "vwatch_clock_offset_seconds").is_some_and(|offset| offset < 1.0));
    assert!(metric(&page(), "vwatch_discovery_age_seconds").is_some());
}

#[test]
fn a_node_that_leaves_its_group_exits_with_0_and_is_not_missed() {
    let mut nodes = Node::group(2, &["--shutdown-grace", "20s"]);
    nodes[1].put("last?version=v1", "x").expect(204);
    nodes[1].terminate();
    let status = nodes[1].wait_exit(LIMIT);
    assert_eq!(status.code(), Some(0), "{}", nodes[1].stderr());
    assert_eq!(nodes[0].get("last").expect(200).version(), Some("v1"), "its last write is with the other");
}

#[test]
fn all_of_a_group_may_stop_at_once_also_while_they_join() {
    for ready in [true, false] {
        let mut nodes = if ready { Node::group(3, &[]) } else { Node::group_not_ready(3, &[]) };
        for node in &nodes {
            wait_until("the node to listen", LIMIT, || {
                node.stderr().contains("Listening for client traffic")
            });
        }
        nodes.iter().for_each(Node::terminate);
        for node in &mut nodes {
            assert_eq!(node.wait_exit(LIMIT).code(), Some(0), "{}", node.stderr());
        }
    }
}
