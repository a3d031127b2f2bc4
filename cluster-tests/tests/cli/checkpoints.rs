//! `vwatch checkpoint`.

use std::io::Write;
use std::process::{Output, Stdio};

use cluster_tests::feed::all;
use cluster_tests::http::Request;
use cluster_tests::node::{Node, run_to_end};
use cluster_tests::text::now_us;
use cluster_tests::wait::{LIMIT, wait_until};
use serde_json::{Value, json};

use super::program::{command, run, text};

fn at(node: &Node, arguments: &[&str]) -> Output {
    let url = node.server_addr().to_string();
    run(&[&["checkpoint"], arguments, &["--server-url", &url]].concat())
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
fn a_checkpoint_is_set_listed_printed_and_removed() {
    let node = Node::start();
    let at = |arguments: &[&str], code: i32| said(&at(&node, arguments), code).0;
    assert_eq!(at(&["ls"], 0), "");
    assert_eq!(at(&["ls", "-w", "json"], 0), "{\"checkpoints\":[]}\n");
    let cursor = all(&node, "prefix=&mode=all&since=now&timeout=0s").1;
    assert_eq!(at(&["set", "reader", &cursor], 0), "");
    assert_eq!(at(&["get", "reader"], 0), format!("{cursor}\n"));
    assert_eq!(at(&["set", "-w", "table", "begins", "oldest"], 0), "the checkpoint begins is kept\n");
    let time = now_us() - 60_000_000;
    at(&["set", "by-time", &time.to_string()], 0);
    assert_eq!(at(&["get", "by-time"], 0), format!("at:{time}\n"));
    at(&["set", "--namespace", "team", "reader", "oldest"], 0);
    assert_eq!(at(&["ls"], 0), "begins\nby-time\nreader\n");
    assert_eq!(at(&["ls", "b"], 0), "begins\nby-time\n");
    assert_eq!(at(&["ls", "--namespace", "team"], 0), "reader\n");
    let table = at(&["ls", "-w", "table"], 0);
    assert!(table.starts_with("ID       HOLDS  ") && table.contains("\nbegins   -  "), "{table}");
    let listed: Value = serde_json::from_str(&at(&["ls", "-w", "json", "by"], 0)).expect("JSON");
    assert_eq!(listed["checkpoints"][0]["holds"], json!(time));
    let got: Value = serde_json::from_str(&at(&["get", "-w", "json", "reader"], 0)).expect("JSON");
    assert_eq!((&got["since"], &got["expired"]), (&json!(cursor), &json!(false)));
    let written: Value =
        serde_json::from_str(&at(&["set", "-w", "json", "reader", "oldest"], 0)).expect("JSON");
    assert_eq!(written["id"], "reader");
    assert_eq!(at(&["rm", "reader"], 0), "");
    assert_eq!(at(&["ls"], 0), "begins\nby-time\n");
    assert_eq!(at(&["ls", "--namespace", "team"], 0), "reader\n");
}

#[test]
fn a_cursor_comes_from_standard_input() {
    let node = Node::start();
    let url = node.server_addr().to_string();
    let mut set = command(&["checkpoint", "set", "reader", "-", "--server-url", &url])
        .stdin(Stdio::piped())
        .spawn()
        .expect("the binary that was just built");
    set.stdin.take().expect("piped").write_all(b"oldest\n").expect("it reads");
    assert!(set.wait().expect("our own child").success());
    assert_eq!(said(&at(&node, &["get", "reader"]), 0).0, "oldest\n");
}

#[test]
fn what_is_refused_says_why_and_has_an_exit_code() {
    let node = Node::with(&["--checkpoint-expiry", "1us"]);
    for (arguments, code, part) in [
        (&["get", "none"][..], 4, "not found: \"none\""),
        (&["rm", "none"], 4, "not found: \"none\""),
        (&["set", "r", "c1.damaged"], 1, "bad checkpoint: \"c1.damaged\": "),
        (&["set", "r", "now"], 2, "take a cursor with 'vwatch diff --since now"),
        (&["set", "R", "oldest"], 1, "bad id of a checkpoint: \"R\": use 1 to 128 characters"),
        (&["set", "r", "2099-01-01T00:00:00Z"], 1, "time in the future"),
        (&["set", "r"], 2, "required arguments"),
        (&["ls", "--namespace", ".own"], 2, "invalid value"),
    ] {
        let (_, err) = said(&at(&node, arguments), code);
        assert!(err.starts_with("vwatch: ") && err.contains(part), "{arguments:?}: {err}");
    }
    said(&at(&node, &["set", "--namespace", "a", "r", "oldest"]), 0);
    let (out, err) = said(&at(&node, &["get", "--namespace", "a", "r"]), 0);
    assert_eq!(out, "oldest\n");
    assert!(err.ends_with(": vwatch checkpoint set --namespace a r CURSOR\n"), "{err}");
    assert!(said(&at(&node, &["ls", "--namespace", "a", "-w", "table"]), 0).0.contains("- (expired)"));
    for subcommand in ["ls", "get", "set", "rm"] {
        let help = said(&run(&["checkpoint", subcommand, "--help"]), 0).0;
        assert!(help.contains("Examples:") && help.contains("--namespace"), "{help}");
    }
    let listed = node.server().ask(&Request::new("GET", "/v1/checkpoints")).expect(200).json();
    assert_eq!(listed["checkpoints"], json!([]));
}

#[test]
fn a_watch_begins_at_its_checkpoint_and_writes_it_at_its_end() {
    let node = Node::start();
    let (client, server) = (node.client_addr().to_string(), node.server_addr().to_string());
    let scope = ["--prefix", "a", "--mode", "all", "--checkpoint", "reader"];
    let urls = ["--client-url", &client, "--server-url", &server];
    let arguments = |more: &[&'static str]| [&["watch"][..], &scope, &urls, more].concat();
    node.put("a?version=v1", "one").expect(204);
    let first = run_to_end(&arguments(&["-n", "1"]));
    assert_eq!((first.code, first.stdout.as_str()), (Some(0), "a\tv1\tone\n"), "{}", first.stderr);
    let kept = || said(&at(&node, &["get", "reader"]), 0).0;
    let after_first = kept();
    assert!(after_first.starts_with("c1."), "{after_first}");

    // the next run goes on there, and a signal ends it after a last write
    node.put("a?version=v2", "two").expect(204);
    node.put("b?version=v1", "other").expect(204);
    let mut watch = Node::process(&arguments(&[]));
    wait_until("the second version", LIMIT, || watch.stdout() == "a\tv2\ttwo\n");
    wait_until("its cursor", LIMIT, || kept() != after_first);
    node.put("a?version=v3", "three").expect(204);
    wait_until("the third version", LIMIT, || watch.stdout() == "a\tv2\ttwo\na\tv3\tthree\n");
    watch.terminate();
    assert_eq!(watch.wait_exit(LIMIT).code(), Some(128 + 15));
    node.put("a?version=v4", "four").expect(204);
    let last = run_to_end(&arguments(&["-n", "1"]));
    assert_eq!((last.code, last.stdout.as_str()), (Some(0), "a\tv4\tfour\n"), "{}", last.stderr);

    // the checkpoint of another watch
    let other = run_to_end(&[&["watch", "--prefix", "b", "--checkpoint", "reader"][..], &urls].concat());
    assert_eq!(other.code, Some(1));
    let advice =
        "it is in the checkpoint reader: name another one, or remove it: vwatch checkpoint rm reader";
    assert!(other.stderr.contains(advice), "{}", other.stderr);
    let both = run_to_end(&arguments(&["--cursor-file", "f"]));
    assert_eq!(both.code, Some(2));
}
