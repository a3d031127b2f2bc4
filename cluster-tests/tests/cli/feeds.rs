//! `vwatch watch` and `vwatch diff` of many names.

use std::fs;
use std::path::PathBuf;

use cluster_tests::http::Request;
use cluster_tests::node::{Finished, Node, run_to_end};
use cluster_tests::wait::{LIMIT, wait_for_value, wait_until};

/// A folder of one test, removed at its end.
pub(super) struct Folder(pub(super) PathBuf);

impl Folder {
    pub(super) fn new(test: &str) -> Self {
        let path = std::env::temp_dir().join(format!("vwatch-{test}-{}", std::process::id()));
        fs::create_dir_all(&path).expect("a folder");
        Self(path)
    }

    pub(super) fn file(&self, name: &str) -> String {
        self.0.join(name).to_str().expect("a path in UTF-8").to_owned()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

pub(super) fn url(node: &Node) -> String {
    format!("http://{}", node.client_addr())
}

#[track_caller]
fn run(arguments: &[&str]) -> Finished {
    run_to_end(arguments)
}

/// Waits until a command has printed exactly this.
#[track_caller]
pub(super) fn prints(command: &Node, text: &str) {
    wait_for_value(LIMIT, || command.stdout(), |printed| printed == text);
}

#[test]
fn a_watch_goes_on_at_the_next_node_and_in_the_next_run() {
    let folder = Folder::new("watch-many");
    let cursor = folder.file("cursor");
    let mut nodes = Node::group(2, &[]);
    nodes[0].put("a/1?version=v1", "one").expect(204);
    nodes[0].put("b?version=v1", "").expect(204);
    let urls = format!("{},{}", url(&nodes[0]), url(&nodes[1]));
    let scope = ["--client-url", &urls, "--prefix", "a/", "b", "c", "--cursor-file", &cursor];
    let mut watch = Node::process(&[&["watch"], &scope[..]].concat());
    prints(&watch, "a/1\tv1\tone\nb\tv1\t\n");
    nodes[0].delete("b").expect(204);
    prints(&watch, "a/1\tv1\tone\nb\tv1\t\nb\t(deleted)\n");
    // a node of its group is gone: it goes on at the other one, which has all that it told
    wait_until("the delete at the other node", LIMIT, || nodes[1].get("b").status == 410);
    // that node may hold all that the watch was told, and claim it only after its next round
    let other = url(&nodes[1]);
    wait_until("the other node to go on from the cursor", LIMIT, || {
        let Ok(kept) = fs::read_to_string(&cursor) else { return false };
        let diff = ["diff", "--since", kept.trim(), "--client-url", &other];
        let told = run(&[&diff[..], &scope[2..6]].concat());
        told.code == Some(0) && told.stdout.is_empty() && told.stderr.is_empty()
    });
    nodes[0].kill();
    nodes[1].put("c?version=v1", "\n").expect(204);
    prints(&watch, "a/1\tv1\tone\nb\tv1\t\nb\t(deleted)\nc\tv1\tbase64:Cg==\n");
    // it keeps the cursor after it has printed
    wait_until("the cursor to be kept", LIMIT, || {
        let kept = fs::read_to_string(&cursor).expect("a cursor");
        run(&[&["diff", "--since", kept.trim()], &scope[..6]].concat()).stdout.is_empty()
    });
    watch.terminate();
    watch.wait_exit(LIMIT);
    nodes[1].put("a/1?version=v2", "two").expect(204);
    let again = run(&[&["watch", "-n", "1"], &scope[..]].concat());
    assert_eq!((again.code, again.stdout.as_str()), (Some(0), "a/1\tv2\ttwo\n"));
    let nothing = run(&[&["diff"], &scope[..]].concat());
    assert_eq!((nothing.code, nothing.stdout.as_str()), (Some(0), ""));
    let other = run(&["diff", "--client-url", &urls, "--prefix", "x", "--cursor-file", &cursor]);
    assert_eq!(other.code, Some(1));
    assert!(
        other.stderr.contains("cursor of another watch") && other.stderr.contains(&cursor),
        "{}",
        other.stderr
    );
}

#[test]
fn a_command_runs_for_each_change_in_order() {
    let node = Node::start();
    for (name, version) in [("a", "v1"), ("b", "v1"), ("a", "v2")] {
        node.put(&format!("{name}?version={version}"), format!("{name} {version}\n")).expect(204);
    }
    node.delete("b").expect(204);
    let url = url(&node);
    let script = "echo $VWATCH_NAME:$VWATCH_VERSION:$VWATCH_DELETED:$(cat)";
    let arguments = ["watch", "--client-url", &url, "--prefix", "", "--mode", "all", "-n", "4"];
    let ended = run(&[&arguments[..], &["--", "sh", "-c", script]].concat());
    let expected = "a:v1::a v1\na:v2::a v2\nb:v1::b v1\nb::1:\n";
    assert_eq!((ended.code, ended.stdout.as_str()), (Some(0), expected), "{}", ended.stderr);
    let failing = run(&[&arguments[..], &["--", "sh", "-c", "test $VWATCH_VERSION != v2"]].concat());
    assert_eq!(failing.code, Some(1));
}

#[test]
fn a_namespace_is_followed_by_itself() {
    let node = Node::start();
    let url = url(&node);
    let put =
        |target: &str| node.server().ask(&Request::new("PUT", &format!("{target}?version=v"))).expect(204);
    put("/v1/versions/plain");
    put("/v1/ns/team/versions/n");
    let arguments = ["--client-url", &url, "--namespace", "team", "--prefix", "", "-n", "1"];
    let watched = run(&[&["watch"], &arguments[..]].concat());
    assert_eq!((watched.code, watched.stdout.as_str()), (Some(0), "n\tv\t\n"));
    let ran =
        run(&[&["watch"], &arguments[..], &["--", "sh", "-c", "echo $VWATCH_NAMESPACE/$VWATCH_NAME"]]
            .concat());
    assert_eq!((ran.code, ran.stdout.as_str()), (Some(0), "team/n\n"));
    let log = run(&["diff", "--client-url", &url, "--namespace", "log.x", "--prefix", "", "--since", "now"]);
    assert!(log.code == Some(1) && log.stderr.contains("send mode=all"), "{}", log.stderr);
}

#[test]
fn a_difference_has_each_form_and_says_when_it_begins_again() {
    let folder = Folder::new("diff");
    let file = folder.file("cursor");
    let node = Node::start();
    let at = url(&node);
    let diff =
        |arguments: &[&str]| run(&[&["diff", "--client-url", &at, "--prefix", ""], arguments].concat());
    let first = diff(&["--since", "now", "--cursor-file", &file, "-w", "table"]);
    let cursor = fs::read_to_string(&file).expect("a cursor");
    assert_eq!((first.code, first.stdout), (Some(0), format!("cursor: {cursor}")));
    node.put("n?version=v1", "one").expect(204);
    node.delete("n").expect(204);
    node.put("m?version=v1", "one").expect(204);
    let json = diff(&["--since", cursor.trim(), "-w", "json"]);
    let lines: Vec<serde_json::Value> =
        json.stdout.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    let kinds: Vec<_> = lines.iter().map(|line| line["type"].as_str().expect("a type")).collect();
    assert_eq!(kinds, ["delete", "put", "progress"]);
    assert_eq!(lines[0]["last_sync"], lines[0]["last-sync"]);
    let ended = diff(&["--cursor-file", &file, "--types", "put"]);
    assert_eq!(ended.code, Some(1), "the cursor is of other types");
    // another set
    let other = Node::start();
    other.put("n?version=v7", "").expect(204);
    let reset = run(&["diff", "--client-url", &url(&other), "--prefix", "", "--cursor-file", &file]);
    assert_eq!((reset.code, reset.stdout.as_str()), (Some(0), "n\tv7\t\n"));
    assert!(reset.stderr.contains("it begins again, with all that stands (genesis)"), "{}", reset.stderr);
}
