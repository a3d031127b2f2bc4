//! `vwatch members`: the members of a cluster, and what is wrong with it.

use cluster_tests::node::Node;
use cluster_tests::wait::{LIMIT, wait_for, wait_until};

use super::program::{command, run, text};

#[test]
fn members_prints_the_fault_and_fails() {
    let mut nodes = Node::group(2, &[]);
    let server = nodes[0].server_addr().to_string();
    let ask = || run(&["members", "--server-url", &server]);
    wait_until("two that agree", LIMIT, || ask().status.code() == Some(0));
    nodes[1].kill();
    let output = wait_for("the loss to be seen", LIMIT, || {
        let output = ask();
        text(&output.stdout).contains(" dead ").then_some(output)
    });
    assert_eq!(output.status.code(), Some(1));
    let said = text(&output.stderr);
    assert!(said.starts_with("vwatch: discovery names 2 nodes, gossip sees 1, 1 answer; "), "{said}");
    assert!(said.contains(&nodes[1].server_addr().to_string()) && said.lines().count() == 1, "{said}");
}

#[test]
fn members_of_a_node_without_others_is_itself() {
    let node = Node::with(&["--node-id", "alone"]);
    let output = run(&["members", "--server-url", &node.server_addr().to_string(), "-w", "simple"]);
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(text(&output.stdout), format!("alone ready {}\n", node.server_addr()));
    // the client port has no members
    let output = run(&["members", "--server-url", &node.client_addr().to_string()]);
    assert_eq!((output.status.code(), text(&output.stderr).contains("server port")), (Some(1), true));
}

#[test]
fn one_port_of_a_node_leads_to_the_other() {
    let node = Node::start();
    node.put("n?version=v1", "3456").expect(204);
    let server = node.server_addr().to_string();
    for typed in [&["get", "n"][..], &["ls"]] {
        let output = run(&[typed, &["--server-url", &server]].concat());
        assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    }
    let output = command(&["get", "n", "m"]).env("VWATCH_SERVER_URL", &server).output().expect("the binary");
    assert_eq!((output.status.code(), text(&output.stdout)), (Some(4), "3456".to_owned()));
    assert!(text(&output.stderr).ends_with("or vwatch watch m\n"), "{}", text(&output.stderr));
    let output = run(&["health", &server]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    let output = run(&["members", "-w", "simple", &server]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    let output = run(&["del", "--server-url", &server, "-w", "json", "n", "m"]);
    assert_eq!((output.status.code(), text(&output.stdout).lines().count()), (Some(0), 2));
}
