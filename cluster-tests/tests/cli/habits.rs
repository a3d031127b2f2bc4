//! The table of `docs/guides/habits.md`: each line is run against a node.

use std::path::Path;

use cluster_tests::node::Node;

use super::program::{command, text};

/// A row: what is typed, and what its last cell says.
fn rows() -> Vec<(String, String)> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/guides/habits.md");
    let page = std::fs::read_to_string(path).expect("the page");
    let rows = page.lines().filter(|line| line.starts_with("| `vwatch "));
    rows.map(|row| {
        let cells: Vec<&str> = row.trim_matches('|').split(" | ").map(str::trim).collect();
        let [typed, _, answer] = cells[..] else { panic!("three cells: {row}") };
        (typed.trim_matches('`').to_owned(), answer.to_owned())
    })
    .collect()
}

#[test]
fn each_habit_works_or_is_answered_as_the_table_says() {
    let new = [("VWATCH_NEW_CLUSTER".to_owned(), "default".to_owned())];
    let node = Node::with_env(&[], &new);
    for name in ["app/a", "app/n", "old/a"] {
        node.put(&format!("{name}?version=v"), "data").expect(204);
    }
    let revision = node.get("app/a").last_sync().expect("a stamp").to_string();
    let rows = rows();
    assert!(rows.len() >= 20, "{rows:?}");
    for (typed, answer) in rows {
        let typed = typed.replace("REVISION", &revision);
        let words: Vec<&str> = typed.split(' ').skip(1).collect();
        let output = command(&words)
            .env("VWATCH_CLIENT_URL", format!("http://{}", node.client_addr()))
            .env("VWATCH_SERVER_URL", format!("http://{}", node.server_addr()))
            .stdin(std::process::Stdio::null())
            .output()
            .expect("the binary that was just built");
        let said = text(&output.stderr);
        assert!(said.lines().count() <= 1, "{typed}: {said}");
        if answer.starts_with("does it") {
            assert_eq!((output.status.code(), said.as_str()), (Some(0), ""), "{typed}");
            continue;
        }
        // the first code span that is no option or name is what it says
        let expected = answer.split('`').skip(1).step_by(2).find(|span| span.contains(' '));
        let expected = expected.unwrap_or_else(|| panic!("{typed}: nothing is said: {answer}"));
        assert!(said.contains(expected), "{typed}: {said:?} has not {expected:?}");
        let is_done = answer.starts_with("takes");
        assert_eq!(output.status.code(), Some(if is_done { 0 } else { 2 }), "{typed}: {said}");
    }
    // what the table deletes is deleted, and nothing else
    assert_eq!((node.get("old/a").status, node.get("app/a").status), (410, 200));
}
