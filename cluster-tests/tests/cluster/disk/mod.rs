//! Nodes that keep what they hold on a disk: what survives the end of their processes, and what a disk may do to them.

mod commands;
mod damage;
mod groups;
mod kills;
mod lost;
mod slow;

use cluster_tests::folder::TestFolder;
use cluster_tests::node::{Node, run_to_end};
use cluster_tests::wait::LIMIT;

/// A node that is alone, with this directory.
fn node(dir: &str, flags: &[&str]) -> Node {
    Node::with(&[&["--data-dir", dir][..], flags].concat())
}

/// Ends a node in order.
fn stop(mut node: Node) {
    node.terminate();
    assert!(node.wait_exit(LIMIT).success(), "{}", node.stderr());
}

/// Without `--data-dir` the other two flags mean nothing, and a directory is of one node at a time.
#[test]
fn what_cannot_be_used_is_refused_in_words() {
    let folder = TestFolder::new("disk");
    let dir = folder.join("data");
    let ports = ["serve", "--listen-client", "127.0.0.1:0", "--listen-server", "127.0.0.1:0"];
    let refused = |flags: &[&str], words: &str| {
        let ended = run_to_end(&[&ports[..], flags].concat());
        let said = &ended.stderr;
        assert!(ended.code != Some(0) && said.contains(words), "{flags:?}: {said}");
    };
    refused(&["--durability", "always"], "--durability without --data-dir");
    refused(&["--data-dir", &dir, "--durability", "0s"], "bad --durability: shorter than 1ms");
    refused(&["--data-dir", &dir, "--durability", "2m"], "longer than 1m0s");
    refused(
        &["--data-dir", &dir, "--fill-from", "http://127.0.0.1:1", "--fill-strategy", "FILL_WATCH"],
        "--data-dir and --fill-from",
    );
    refused(&["--data-dir", "/dev/null/x"], "cannot make the directory /dev/null/x");
    let first = node(&dir, &["--node-id", "first"]);
    refused(&["--data-dir", &dir], "is in use by another node");
    drop(first);
    refused(&["--data-dir", &dir, "--node-id", "second"], "is the directory of the node \"first\"");
    // without an id the node gets that of the directory
    let again = node(&dir, &[]);
    assert_eq!(again.cluster()["node"]["node_id"], "first");
    drop(again);
    std::fs::write(folder.path().join("data/node"), "vwatch data, format 7\nfirst\n").unwrap();
    refused(&["--data-dir", &dir], "begins with \"vwatch data, format 7\"");
}
