//! Commands for all names that begin with a text.

use std::process::Stdio;

use cluster_tests::node::{Finished, Node, put, run_to_end};
use serde_json::Value;

use super::program::{command, run, text};

fn urls(node: &Node) -> [String; 2] {
    [format!("--client-url={}", node.client_addr()), format!("--server-url={}", node.server_addr())]
}

/// Runs a command against a node. The harness gives it no terminal.
fn vwatch(node: &Node, arguments: &[&str]) -> Finished {
    let [client, server] = urls(node);
    run_to_end(&[arguments, &[&client, &server]].concat())
}

/// A node with so many names below `many/`, and some others.
fn node(many: usize) -> Node {
    let node = Node::start();
    let mut server = node.server();
    for i in 0..many {
        server.ask(&put(&format!("many/{i:05}?version=v{i}")).body(format!("data {i}"))).expect(204);
    }
    for name in ["few/a", "few/b", "other"] {
        server.ask(&put(&format!("{name}?version=v")).body("line\n")).expect(204);
    }
    node
}

#[test]
fn all_names_with_their_values_come_in_each_form() {
    let node = node(1100);
    let got = |arguments: &[&str]| {
        let got = vwatch(&node, arguments);
        assert_eq!((got.code, got.stderr.as_str()), (Some(0), ""), "{arguments:?}");
        got.stdout
    };
    assert_eq!(got(&["get", "--prefix", "few/"]), "few/a\tv\tbase64:bGluZQo=\nfew/b\tv\tbase64:bGluZQo=\n");
    // as etcdctl has it
    assert_eq!(got(&["get", "few/a", "--prefix"]), "few/a\tv\tbase64:bGluZQo=\n");
    let all = got(&["get", "--prefix", ""]);
    assert_eq!((all.lines().count(), all.lines().nth(1101)), (1103, Some("many/01099\tv1099\tdata 1099")));
    let json = got(&["get", "--prefix", "many/", "-w", "json", "--limit", "1050"]);
    assert_eq!(json.lines().count(), 1050);
    let last: Value = serde_json::from_str(json.lines().last().expect("a line")).expect("JSON");
    assert_eq!((&last["name"], &last["version"]), (&"many/01049".into(), &"v1049".into()));
    assert_eq!(got(&["get", "--prefix", "few/", "-w", "table"]).lines().count(), 3);
    assert_eq!(got(&["get", "--prefix", "nothing/"]), "");
    // and what watch and ls print are the same names
    let watched = got(&["watch", "--prefix", "few/", "-n", "2"]);
    assert_eq!(watched.lines().next(), Some("few/a\tv\tbase64:bGluZQo="));
}

#[test]
fn all_names_are_deleted_and_the_others_stay() {
    let node = node(2100);
    let unasked = vwatch(&node, &["del", "--prefix", "many/"]);
    assert_eq!(unasked.code, Some(2), "{unasked:?}");
    assert!(unasked.stderr.contains("no terminal: run vwatch del -f --prefix many/"), "{unasked:?}");
    let done = vwatch(&node, &["del", "-f", "--prefix", "many/"]);
    assert_eq!((done.code, done.stdout.as_str(), done.stderr.as_str()), (Some(0), "", ""));
    assert_eq!(vwatch(&node, &["ls"]).stdout, "few/a\nfew/b\nother\n");
    assert_eq!(vwatch(&node, &["del", "-f", "--prefix", "many/"]).code, Some(0), "there is nothing left");

    // what is about one name does not keep the others, and is told
    node.put("few/later?version=v&modified=4000000000000000", "x").expect(400);
    let stamp = 1_000_000 + cluster_tests::text::now_us();
    node.put(&format!("few/b?version=w&modified={stamp}"), "x").expect(204);
    let lost = vwatch(
        &node,
        &["del", "few/", "--prefix", "-f", "--modified", &(stamp - 1).to_string(), "-w", "json"],
    );
    assert_eq!((lost.code, lost.stdout.lines().count()), (Some(5), 1), "{lost:?}");
    assert!(lost.stdout.contains("\"few/a\"") && lost.stderr.contains("older"), "{lost:?}");
    assert_eq!(vwatch(&node, &["ls"]).stdout, "few/b\nother\n");
    // another namespace has nothing to do with it
    let other = vwatch(&node, &["del", "-f", "--prefix", "", "--namespace", "team"]);
    assert_eq!(other.code, Some(0), "{other:?}");
    assert_eq!(vwatch(&node, &["ls"]).stdout, "few/b\nother\n");
}

/// On a terminal, which `script` makes.
#[test]
fn a_terminal_is_asked_with_the_number_of_names() {
    let Some(script) = cluster_tests::parts::find("script", "install util-linux") else { return };
    let node = node(0);
    let [client, server] = urls(&node);
    let binary = cluster_tests::node::binary().display().to_string();
    let answered = |answer: &str| {
        let line = format!("{binary} del --prefix few/ {client} {server}");
        let mut child = std::process::Command::new(&script)
            .args(["-qec", &line, "/dev/null"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("script");
        let mut input = child.stdin.take().expect("a pipe");
        std::io::Write::write_all(&mut input, answer.as_bytes()).expect("it reads");
        let output = child.wait_with_output().expect("our own child");
        (output.status.code(), text(&output.stdout))
    };
    let (code, said) = answered("n\n");
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("delete 2 names that begin with \"few/\"? [y/N]"), "{said}");
    assert!(said.contains("not confirmed: nothing was deleted"), "{said}");
    assert_eq!(vwatch(&node, &["ls", "few/"]).stdout.lines().count(), 2);
    let (code, said) = answered("y\n");
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("deleted 2 names"), "{said}");
    assert_eq!(vwatch(&node, &["ls", "few/"]).stdout, "");
}

#[test]
fn a_prefix_goes_with_no_names_and_no_past() {
    for arguments in [
        &["get", "--prefix", "a", "b"][..],
        &["get", "--prefix", "a", "--at", "5m"],
        &["get", "--prefix", "a", "--version", "v"],
        &["get", "--prefix", "a", "-v"],
        &["get", "--limit", "3", "a"],
        &["del", "--prefix", "a", "b"],
        &["get"],
        &["del"],
        &["get", "--prefix"],
    ] {
        let output = run(arguments);
        let line = text(&output.stderr);
        assert_eq!((output.status.code(), line.lines().count()), (Some(2), 1), "{arguments:?}: {line}");
    }
    // --rev is what etcdctl has
    let output = command(&["get", "--rev", "7", "--client-url", "127.0.0.1:1", "a"]).output();
    assert_eq!(output.expect("the binary that was just built").status.code(), Some(1));
}
