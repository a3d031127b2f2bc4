//! `vwatch disk`: the directory of a node that has stopped.

use std::collections::BTreeSet;
use std::fs::{self, OpenOptions};
use std::path::Path;

use cluster_tests::folder::{TestFolder, copy};
use cluster_tests::http::Request;
use cluster_tests::node::{Finished, Node, run_to_end};

use super::{node, stop};

fn disk(arguments: &[&str]) -> Finished {
    run_to_end(&[&["disk"], arguments].concat())
}

fn lines(text: &str) -> BTreeSet<&str> {
    text.lines().collect()
}

/// What a node has, as `vwatch export` writes it.
fn exported(node: &Node) -> String {
    let client = node.client_addr().to_string();
    let export = run_to_end(&["export", "--client-url", &client, "--history", "--all-namespaces"]);
    assert_eq!(export.code, Some(0), "{}", export.stderr);
    export.stdout
}

#[test]
fn a_directory_is_checked_exported_and_compacted() {
    let folder = TestFolder::new("disk-commands");
    let dir = folder.join("data");
    let first = node(&dir, &["--node-id", "n7"]);
    for i in 0..200 {
        first.put(&format!("many/{i:03}?version=v{i}"), "x".repeat(2000)).expect(204);
    }
    first.put("many/000?version=second", [0xff, 0]).expect(204);
    first.put("ends?expires=1h", "soon").expect(204);
    first.delete("many/001").expect(204);
    let of_team = Request::new("PUT", "/v1/ns/team/versions/x?version=t").body("of the team");
    first.server().ask(&of_team).expect(204);
    let held = exported(&first);
    assert_eq!(lines(&held).len(), 204, "{held}");

    for action in ["check", "export", "compact"] {
        let refused = disk(&[action, &dir]);
        assert_eq!((refused.code, refused.stdout.as_str()), (Some(1), ""), "{action}");
        assert!(refused.stderr.contains("is in use by another node"), "{action}: {}", refused.stderr);
    }
    stop(first);

    let check = disk(&["check", &dir]);
    assert_eq!((check.code, check.stderr.as_str()), (Some(0), ""), "{check:?}");
    assert!(check.stdout.starts_with("node \"n7\": 202 names with 204 records, "), "{}", check.stdout);
    assert!(
        check.stdout.contains("all records are those that were saved, by their digest"),
        "{}",
        check.stdout
    );

    // the lines of the running node, to standard output and to a file
    let export = disk(&["export", &dir]);
    assert_eq!((export.code, lines(&export.stdout)), (Some(0), lines(&held)), "{}", export.stderr);
    let file = folder.join("set.jsonl");
    let to_file = disk(&["export", &dir, &file]);
    assert_eq!((to_file.code, to_file.stdout.as_str()), (Some(0), ""), "{to_file:?}");
    assert_eq!(fs::read_to_string(&file).expect("a file"), export.stdout);
    let other = Node::start();
    let (client, server) = (other.client_addr().to_string(), other.server_addr().to_string());
    let import = run_to_end(&["import", "--client-url", &client, "--server-url", &server, &file]);
    assert_eq!(import.code, Some(0), "{}", import.stderr);
    assert_eq!(lines(&exported(&other)), lines(&held));

    let compact = disk(&["compact", &dir]);
    assert_eq!((compact.code, compact.stderr.as_str()), (Some(0), ""), "{compact:?}");
    let is_number = |text: &str| text.replace(',', "").parse::<u64>().is_ok_and(|bytes| bytes > 0);
    let (after, before) = compact.stdout.trim_end().split_once(" bytes, of ").expect("two numbers");
    assert!(is_number(after) && is_number(before.trim_end_matches(" before")), "{}", compact.stdout);
    let again = node(&dir, &[]);
    assert_eq!(lines(&exported(&again)), lines(&held), "it is as it was");
    stop(again);
}

#[test]
fn what_is_no_directory_of_a_node_is_said_so() {
    let folder = TestFolder::new("disk-commands");
    let dir = folder.join("data");
    for action in ["check", "export", "compact"] {
        let none = disk(&[action, &folder.join("nowhere")]);
        assert_eq!((none.code, none.stdout.as_str()), (Some(1), ""), "{action}");
        assert!(none.stderr.contains("nowhere: nothing was saved there"), "{action}: {}", none.stderr);
    }
    assert!(!Path::new(&folder.join("nowhere")).exists(), "it makes none");

    let first = node(&dir, &[]);
    for i in 0..20 {
        first.put(&format!("n{i}"), "x".repeat(1000)).expect(204);
    }
    stop(first);
    let damaged = folder.path().join("damaged");
    copy(Path::new(&dir), &damaged);
    let mut files: Vec<_> = walk(&damaged.join("set")).into_iter().filter(|path| path.is_file()).collect();
    files.sort_by_key(|path| std::cmp::Reverse(fs::metadata(path).expect("a file").len()));
    for file in &files {
        OpenOptions::new().write(true).open(file).expect("a file").set_len(10).expect("a shorter file");
    }
    for action in ["check", "export"] {
        let failed = disk(&[action, damaged.to_str().expect("UTF-8")]);
        assert_eq!((failed.code, failed.stdout.as_str()), (Some(1), ""), "{action}");
        assert_eq!(failed.stderr.lines().count(), 1, "{action}: {}", failed.stderr);
    }
    let unwritable = disk(&["export", &dir, "/dev/null/x"]);
    assert_eq!(unwritable.code, Some(1));
    assert!(unwritable.stderr.contains("cannot write /dev/null/x"), "{}", unwritable.stderr);
}

fn walk(folder: &Path) -> Vec<std::path::PathBuf> {
    let entries = fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry").path());
    entries.flat_map(|path| if path.is_dir() { walk(&path) } else { vec![path] }).collect()
}
