//! `ls` of one level, and of a tree.

use cluster_tests::node::Node;
use serde_json::{Value, json};

use super::program::{command, run, text};

/// What `ls` prints, which has to succeed.
#[track_caller]
fn ls(node: &Node, arguments: &[&str]) -> String {
    let url = node.client_addr().to_string();
    let output = run(&[&["ls", "--client-url", &url], arguments].concat());
    assert!(output.status.success(), "{arguments:?}: {}", text(&output.stderr));
    text(&output.stdout)
}

fn node() -> Node {
    let node = Node::start();
    for name in
        ["lobby", "hall/a/rack-1/power", "hall/a/rack-1", "hall/a/rack-2/power", "hall/b", "hall/c/gone"]
    {
        node.put(&format!("{name}?version=v"), "x").expect(204);
    }
    node.delete("hall/c/gone").expect(204);
    node
}

#[test]
fn one_level_is_listed_in_each_form() {
    let node = node();
    assert_eq!(ls(&node, &["--delimiter", "/"]), "hall/\nlobby\n");
    assert_eq!(ls(&node, &["--delimiter", "/", "hall/"]), "hall/a/\nhall/b\n");
    assert_eq!(ls(&node, &["--delimiter=/", "hall/a/"]), "hall/a/rack-1\nhall/a/rack-1/\nhall/a/rack-2/\n");
    assert_eq!(ls(&node, &["--delimiter", "-", "hall/a/"]), "hall/a/rack-\n");
    assert_eq!(
        ls(&node, &["--delimiter", "/", "--limit", "2", "hall/a/"]),
        "hall/a/rack-1\nhall/a/rack-1/\n"
    );
    let set: Value = serde_json::from_str(&ls(&node, &["-w", "json", "--delimiter", "/"])).expect("JSON");
    assert_eq!(set["versions"][0], json!({ "prefix": "hall/" }));
    assert_eq!((&set["versions"][1]["name"], &set["versions"][1]["data"]), (&json!("lobby"), &json!("eA==")));
    let keys = ls(&node, &["-w", "json", "--keys-only", "--delimiter", "/"]);
    let keys: Value = serde_json::from_str(&keys).expect("JSON");
    assert_eq!(
        (&keys["versions"][0], keys["versions"][1].get("data")),
        (&json!({ "prefix": "hall/" }), None)
    );
    let table = ls(&node, &["-w", "table", "--delimiter", "/"]);
    assert_eq!(table.lines().nth(1).map(str::trim_end), Some("hall/  -        -"));
}

#[test]
fn a_tree_is_drawn() {
    let node = node();
    let lines = [
        "├── hall/",
        "│   ├── a/",
        "│   │   ├── rack-1",
        "│   │   ├── rack-1/",
        "│   │   │   └── power",
        "│   │   └── rack-2/",
        "│   │       └── power",
        "│   └── b",
        "└── lobby",
        "",
    ];
    assert_eq!(ls(&node, &["--tree"]), lines.join("\n"));
    let below = ["hall/a/", "├── rack-1", "├── rack-1/", "│   └── power", "└── rack-2/", "    └── power", ""];
    assert_eq!(ls(&node, &["--tree", "hall/a/"]), below.join("\n"));
    assert_eq!(ls(&node, &["--tree", "hall/a/rack-2/p"]), "hall/a/rack-2/\n└── power\n");
    assert_eq!(ls(&node, &["--tree", "nothing/"]), "");
    assert_eq!(ls(&node, &["--tree", "--delimiter", "-", "hall/a/rack-2"]), "hall/a/rack-\n└── 2/power\n");
    // a form in the environment is for what has one
    let url = node.client_addr().to_string();
    let output =
        command(&["ls", "--tree", "lob", "--client-url", &url]).env("VWATCH_OUTPUT", "json").output();
    assert_eq!(text(&output.expect("the binary that was just built").stdout), "└── lobby\n");
}

#[test]
fn a_tree_of_more_names_than_a_page_is_complete() {
    let node = Node::start();
    let mut server = node.server();
    for i in 0..1100 {
        server.ask(&cluster_tests::node::put(&format!("d/{i:04}")).body("x")).expect(204);
    }
    server.ask(&cluster_tests::node::put("e").body("x")).expect(204);
    let tree = ls(&node, &["--tree"]);
    let lines: Vec<_> = tree.lines().collect();
    assert_eq!((lines.len(), lines[0], lines[1102 - 1]), (1102, "├── d/", "└── e"));
    assert_eq!((lines[1000], lines[1001], lines[1100]), ("│   ├── 0999", "│   ├── 1000", "│   └── 1099"));
}

#[test]
fn a_delimiter_that_is_none_and_a_form_of_a_tree_are_mistakes() {
    for (arguments, said) in [
        (&["--delimiter", ""][..], "it is empty: give one, such as /"),
        (&["--delimiter", "01234567890123456"], "17 bytes: give at most 16"),
        (&["--tree", "-w", "json"], "cannot be used with '--output <FORMAT>'"),
        (&["--tree", "--limit", "3"], "cannot be used with '--limit <COUNT>'"),
    ] {
        let output = run(&[&["ls"], arguments].concat());
        let line = text(&output.stderr);
        assert_eq!((output.status.code(), line.lines().count()), (Some(2), 1), "{arguments:?}: {line}");
        assert!(line.contains(said), "{arguments:?}: {line}");
    }
}
