//! `--namespace` and `VWATCH_NAMESPACE`, `namespaces` and `event put`, and the guide that shows them.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Output, Stdio};

use cluster_tests::http::Request;
use cluster_tests::node::{Node, binary};
use cluster_tests::wait::{LIMIT, wait_until};
use serde_json::{Value, json};

use super::program::{command, run, text};
use super::readme::{normalised, steps};

fn urls(node: &Node) -> [String; 4] {
    let (client, server) = (node.client_addr().to_string(), node.server_addr().to_string());
    ["--client-url".into(), client, "--server-url".into(), server]
}

/// Runs a command at a node.
fn at(node: &Node, arguments: &[&str]) -> Output {
    let urls = urls(node);
    run(&[arguments, &urls.each_ref().map(String::as_str)].concat())
}

/// Runs a command at a node, with a namespace in the environment.
fn within(node: &Node, namespace: &str, arguments: &[&str]) -> Output {
    let output = command(arguments).args(urls(node)).env("VWATCH_NAMESPACE", namespace).output();
    output.expect("the binary that was just built")
}

/// Demands an exit code, and returns what was printed on both.
#[track_caller]
fn said(output: &Output, code: i32) -> (String, String) {
    let (out, err) = (text(&output.stdout), text(&output.stderr));
    assert_eq!(output.status.code(), Some(code), "{out}{err}");
    assert!(err.lines().count() <= 1, "{err}");
    (out, err)
}

#[test]
fn each_command_that_names_names_takes_a_namespace() {
    let node = Node::start();
    let at = |arguments: &[&str], code: i32| said(&at(&node, arguments), code).0;
    at(&["put", "n", "plain"], 0);
    at(&["put", "--namespace", "a", "n", "one"], 0);
    at(&["put", "--namespace", "a", "n", "two"], 0);
    assert_eq!(at(&["get", "--namespace", "a", "n"], 0), "two");
    assert_eq!(at(&["get", "n"], 0), "plain");
    assert_eq!(at(&["get", "--namespace", "b", "n"], 4), "");
    assert_eq!(at(&["ls", "--namespace", "a"], 0), "n\n");
    assert_eq!(at(&["ls", "--namespace", "b"], 0), "");
    let history: Value =
        serde_json::from_str(&at(&["history", "-w", "json", "--namespace", "a", "n"], 0)).expect("JSON");
    assert_eq!(history["versions"].as_array().map(Vec::len), Some(2));
    let first = history["versions"][1]["revision"].to_string();
    assert_eq!(at(&["get", "--namespace", "a", "--revision", &first, "n"], 0), "one");
    for arguments in [
        &["get", "--namespace", "a", "--revision", "7", "n"][..],
        &["revert", "-f", "--namespace", "a", "n", "7"],
    ] {
        let (_, err) = said(&self::at(&node, arguments), 4);
        assert!(err.ends_with(": vwatch history --namespace a n\n"), "{err}");
    }
    at(&["revert", "-f", "--namespace", "a", "n", &first], 0);
    assert_eq!(at(&["get", "--namespace", "a", "n"], 0), "one");
    let urls = urls(&node);
    let urls = urls.each_ref().map(String::as_str);
    let watch = ["watch", "--namespace", "a", "-n", "1", "n"];
    let prints = ["--", "sh", "-c", "echo $VWATCH_NAMESPACE $VWATCH_NAME"];
    let watched = said(&run(&[&watch[..], &urls, &prints].concat()), 0).0;
    assert_eq!(watched, "a n\n");
    at(&["del", "--namespace", "a", "n"], 0);
    assert_eq!(at(&["get", "--namespace", "a", "n"], 4), "");
    assert_eq!(at(&["get", "n"], 0), "plain");
}

#[test]
fn the_environment_has_a_namespace_for_commands_without_one() {
    let node = Node::start();
    said(&within(&node, "a", &["put", "n", "of a"]), 0);
    assert_eq!(said(&within(&node, "a", &["get", "n"]), 0).0, "of a");
    said(&within(&node, "a", &["put", "--namespace", "", "n", "plain"]), 0);
    assert_eq!(said(&at(&node, &["get", "n"]), 0).0, "plain");
    assert_eq!(said(&within(&node, "", &["get", "n"]), 0).0, "plain");
    let (_, advice) = said(&within(&node, "a", &["get", "m"]), 4);
    assert!(advice.contains("vwatch watch --namespace a "), "{advice}");
    for bad in ["A", ".own", "a/b"] {
        let (_, err) = said(&within(&node, bad, &["get", "n"]), 2);
        assert!(err.starts_with(&format!("vwatch: bad VWATCH_NAMESPACE: got {bad:?}: ")), "{err}");
        // a command that has no names does not need it
        said(&within(&node, bad, &["namespaces"]), 0);
        said(&within(&node, bad, &["get", "--namespace", "a", "n"]), 0);
        let (_, err) = said(&at(&node, &["get", "--namespace", bad, "n"]), 2);
        assert!(err.contains("invalid value"), "{err}");
    }
    assert!(!node.stderr().contains("VWATCH_NAMESPACE"));
}

#[test]
fn namespaces_are_listed_in_each_form() {
    let node = Node::start();
    assert_eq!(said(&at(&node, &["namespaces"]), 0).0, "");
    assert_eq!(said(&at(&node, &["namespaces", "-w", "json"]), 0).0, "{\"namespaces\":[]}\n");
    for namespace in ["b", "a", "log.x"] {
        said(&at(&node, &["put", "--namespace", namespace, "n", ""]), 0);
    }
    assert_eq!(said(&at(&node, &["namespaces"]), 0).0, "a\nb\nlog.x\n");
    assert_eq!(said(&at(&node, &["namespaces", "log."]), 0).0, "log.x\n");
    let table = said(&at(&node, &["namespaces", "-w", "table"]), 0).0;
    assert!(table.starts_with("NAMESPACE  NAMES  BYTES  HISTORY\na          1      "), "{table}");
    let listed: Value =
        serde_json::from_str(&said(&at(&node, &["namespaces", "-w", "json", "b"]), 0).0).expect("JSON");
    assert_eq!(
        (&listed["namespaces"][0]["namespace"], &listed["namespaces"][0]["names"]),
        (&json!("b"), &json!(1))
    );
}

#[test]
fn an_event_is_a_text_a_file_or_standard_input() {
    let node = Node::start();
    let folder = std::env::temp_dir().join(format!("vwatch-event-{}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("a folder");
    let file = folder.join("data");
    std::fs::write(&file, "of a file").expect("a file");
    let put = |arguments: &[&str]| within(&node, "log.x", &[&["event", "put", "e/1"], arguments].concat());
    let by_text = said(&put(&["--data", "of a text"]), 0).0;
    let by_file = said(&put(&[file.to_str().expect("UTF-8")]), 0).0;
    let nothing = said(&put(&["-"]), 0).0;
    for (name, data) in [(&by_text, "of a text"), (&by_file, "of a file"), (&nothing, "")] {
        assert!(name.starts_with("e/1/0"), "{name}");
        assert_eq!(said(&within(&node, "log.x", &["get", name.trim_end()]), 0).0, data);
    }
    assert_eq!(said(&within(&node, "log.x", &["ls", "e/1/"]), 0).0, format!("{by_text}{by_file}{nothing}"));
    let shown: Value = serde_json::from_str(&said(&put(&["--data", "x", "-w", "json"]), 0).0).expect("JSON");
    assert!(shown["name"].as_str().is_some_and(|name| name.starts_with("e/1/0")), "{shown}");
    for (arguments, part) in [
        (&["/no/such/file"][..], "cannot read /no/such/file"),
        (&["--data", "x", "file"], "cannot be used with"),
        (&["--namespace", "a", "--data", "x"], "no log: \"a\""),
        (&["--namespace", "", "--data", "x"], "no log: \"\""),
        (&["--modified", "7", "--data", "x"], "unexpected argument '--modified'"),
    ] {
        let (_, err) = said(&put(arguments), 2);
        assert!(err.contains(part), "{err}");
    }
    let help = said(&run(&["event", "put", "--help"]), 0).0;
    assert!(help.contains("A log is a namespace that begins with log."), "{help}");
    let listed = node.client().ask(&Request::new("GET", "/v1/ns")).expect(200).json();
    assert_eq!(listed["namespaces"][0]["names"], 4, "{listed}");
    std::fs::remove_dir_all(&folder).expect("our own folder");
}

#[test]
fn an_event_is_not_sent_a_second_time() {
    let nodes = [Node::start(), Node::start()];
    let servers = nodes.each_ref().map(|node| node.server_addr().to_string());
    let put = |urls: &str| {
        run(&[
            "event",
            "put",
            "e",
            "--namespace",
            "log.x",
            "--data",
            "x",
            "--timeout",
            "5s",
            "--server-url",
            urls,
        ])
    };
    // several nodes, one that is not there first: it goes to the next, without a stamp of the command
    said(&put(&format!("127.0.0.1:1,{}", servers.join(","))), 0);
    nodes[0].pause();
    said(&put(&servers.join(",")), 0);
    nodes[0].resume();
    let events = |node: &Node| {
        let page = node.client().ask(&Request::new("GET", "/v1/ns/log.x/versions")).expect(200).json();
        page["versions"].as_array().map_or(0, Vec::len)
    };
    wait_until("one event at each", LIMIT, || nodes.iter().map(events).collect::<Vec<_>>() == [1, 1]);
}

/// The text with each time, revision and id replaced.
fn plain(text: &str) -> String {
    let is_id = |word: &str| word.len() > 40 && word.bytes().all(|b| b.is_ascii_hexdigit() || b == b'-');
    let of_word = |word: &str| match word.rsplit_once('/') {
        Some((kind, id)) if is_id(id) => format!("{kind}/<id>"),
        _ if word.len() == 17 && word.starts_with("(17") => "(<µs>".to_owned(),
        _ => word.to_owned(),
    };
    let of_line = |line: &str| line.split(' ').map(of_word).collect::<Vec<_>>().join(" ");
    normalised(text).lines().map(of_line).collect::<Vec<_>>().join("\n")
}

#[test]
fn the_guide_shows_what_the_commands_print() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace");
    let guide = std::fs::read_to_string(root.join("docs/guides/namespaces.md")).expect("the guide");
    let steps = steps(&guide);
    assert!(steps.len() > 15, "{steps:?}");
    let node = Node::start();
    let path = std::env::var("PATH").unwrap_or_default();
    let folder = std::env::temp_dir().join(format!("vwatch-guide-ns-{}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("a folder");
    std::os::unix::fs::symlink(binary(), folder.join("vwatch")).expect("a link");
    let mut shell = Command::new("bash")
        .env_remove("VWATCH_OUTPUT")
        .env_remove("VWATCH_NAMESPACE")
        .env("PATH", format!("{}:{path}", folder.display()))
        .env("VWATCH_CLIENT_URL", node.client_addr().to_string())
        .env("VWATCH_SERVER_URL", node.server_addr().to_string())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("bash");
    let mut typed = shell.stdin.take().expect("piped");
    let mut printed = BufReader::new(shell.stdout.take().expect("piped")).lines();
    writeln!(typed, "exec 2>&1").expect("bash reads");
    const END: &str = "-- end of this command --";
    for step in &steps {
        writeln!(typed, "{}\nprintf '\\n{END}\\n'", step.command).expect("bash reads");
        let lines = printed.by_ref().map(|line| line.expect("text")).take_while(|line| line != END);
        let output = lines.fold(String::new(), |all, line| all + &line + "\n");
        assert_eq!(plain(&output), plain(&step.output), "$ {}", step.command);
    }
    drop(typed);
    assert!(shell.wait().expect("our own child").success());
    std::fs::remove_dir_all(&folder).expect("our own folder");
}
