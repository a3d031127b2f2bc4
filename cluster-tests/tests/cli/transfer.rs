//! `vwatch export` and `vwatch import`: a set from one group into another.

use std::io::Write;
use std::path::PathBuf;

use cluster_tests::cluster::Cluster;
use cluster_tests::node::{Finished, Node, run_to_end};
use cluster_tests::text::now_us;
use serde_json::{Value, json};

use super::program::{command, text};

/// A file of a test, which is removed with it.
struct Lines(PathBuf);

impl Lines {
    fn new(name: &str) -> Self {
        Self(std::env::temp_dir().join(format!("vwatch-{}-{name}.jsonl", std::process::id())))
    }

    fn with(name: &str, lines: &[Value]) -> Self {
        let file = Self::new(name);
        let lines: String = lines.iter().map(|line| format!("{line}\n")).collect();
        std::fs::write(&file.0, lines).expect("a file");
        file
    }

    fn path(&self) -> &str {
        self.0.to_str().expect("a path of text")
    }

    fn read(&self) -> Vec<Value> {
        let text = std::fs::read_to_string(&self.0).expect("a file");
        text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
    }
}

impl Drop for Lines {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

fn export(node: &Node, arguments: &[&str]) -> Finished {
    run_to_end(&[&["export", "--client-url", &node.client_addr().to_string()], arguments].concat())
}

fn import(node: &Node, arguments: &[&str]) -> Finished {
    let (client, server) = (node.client_addr().to_string(), node.server_addr().to_string());
    run_to_end(&[&["import", "--client-url", &client, "--server-url", &server], arguments].concat())
}

/// All values of a node, with their stamps, as its list has them.
fn set(node: &Node) -> String {
    let listed = |namespace: &str| {
        run_to_end(&[
            "ls",
            "-w",
            "json",
            "--client-url",
            &node.client_addr().to_string(),
            "--namespace",
            namespace,
        ])
        .stdout
    };
    listed("") + &listed("team") + &listed("log.x")
}

#[test]
fn a_set_of_one_group_is_in_another_one_behind_it() {
    let (from, to) = (Cluster::of(2).start(), Cluster::of(2).start());
    from.ready();
    let mut server = from.node(0).server();
    for i in 0..2000 {
        let put = cluster_tests::node::put(&format!("many/{i:05}?version=v{i}"));
        server.ask(&put.body(format!("data {i}\n"))).expect(204);
    }
    from.node(0).put("binary", [0xff, 0, 0x9b]).expect(204);
    from.node(0).put("ends?expires=1h", "soon").expect(204);
    let team = cluster_tests::http::Request::new("PUT", "/v1/ns/team/versions/many/1?version=t");
    server.ask(&team.body("of the team")).expect(204);
    let event = cluster_tests::http::Request::new("POST", "/v1/ns/log.x/events/e");
    server.ask(&event.body("an event")).expect(201);

    let file = Lines::new("set");
    let exported = export(from.node(0), &["--all-namespaces", file.path()]);
    assert_eq!((exported.code, exported.stdout.as_str(), exported.stderr.as_str()), (Some(0), "", ""));
    assert_eq!(file.read().len(), 2004);
    to.ready();
    let imported = import(to.node(1), &[file.path()]);
    assert_eq!((imported.code, imported.stderr.as_str()), (Some(0), ""), "{imported:?}");
    assert_eq!(imported.stdout, "imported 2,004 of 2,004 lines\n");
    let there = set(from.node(0));
    assert!(there.matches("\"last-sync\"").count() == 2004 && there.contains("\"expires\""), "{there}");
    assert_eq!(set(to.node(1)), there);
    // twice is as once
    let again = import(to.node(1), &["-w", "json", "--prefix", "many/000", file.path()]);
    let counts: Value = serde_json::from_str(&again.stdout).expect("JSON");
    assert_eq!((again.code, &counts["imported"], &counts["complete"]), (Some(0), &json!(100), &json!(true)));
    assert_eq!(set(to.node(1)), there);

    // a part of it
    let some = export(from.node(0), &["--prefix", "many/0001"]);
    assert_eq!(some.stdout.lines().count(), 10);
    let team = export(from.node(0), &["--namespace", "team", "-"]);
    let line: Value = serde_json::from_str(&team.stdout).expect("one line");
    assert_eq!((&line["namespace"], &line["data"]), (&json!("team"), &json!("of the team")));
}

#[test]
fn a_history_is_kept_and_may_come_twice() {
    let (from, to) = (Node::start(), Node::start());
    for i in 0..5 {
        from.put(&format!("n?version=v{i}"), format!("{i}")).expect(204);
    }
    from.put("gone?version=g", "x").expect(204);
    from.delete("gone").expect(204);
    let file = Lines::new("history");
    assert_eq!(export(&from, &["--history", file.path()]).code, Some(0));
    let lines = file.read();
    assert_eq!(lines.len(), 7, "{lines:?}");
    assert_eq!(lines.iter().filter(|line| line["past"] == json!(true)).count(), 5);
    assert_eq!(lines.iter().filter(|line| line["deleted"] == json!(true)).count(), 1);
    let history = |node: &Node, name: &str| {
        node.client().ask(&cluster_tests::http::Request::new("GET", &format!("/v1/history/{name}"))).json()
            ["versions"]
            .clone()
    };
    for _ in 0..2 {
        let imported = import(&to, &[file.path()]);
        assert_eq!((imported.code, imported.stderr.as_str()), (Some(0), ""), "{imported:?}");
        for name in ["n", "gone"] {
            assert_eq!(history(&to, name), history(&from, name));
        }
    }
    let again = import(&to, &[file.path()]);
    assert_eq!(again.stdout, "imported 2 of 7 lines: 5 present\n");
}

#[test]
fn lines_that_are_not_imported_are_told_by_number() {
    let node = Node::start();
    let now = now_us();
    node.put(&format!("newer?version=w&modified={now}"), "newer").expect(204);
    let value = |name: &str, revision: u64, data: &str| json!({"name": name, "version": "v", "revision": revision, "data": data});
    let mut ended = value("ended", now - 3_000_000, "x");
    ended["expires"] = json!(now - 1_000_000);
    let large = "x".repeat(5000);
    let file = Lines::with(
        "faults",
        &[
            value("a", now - 5, "x"),
            value("newer", now - 5, "x"),
            json!({"name": "no version", "revision": 1, "data": "x"}),
            value("large", now, &large),
            ended,
            value("b", now + 3_600_000_000, "from a clock that is ahead"),
            value("c", now - 5, "x"),
        ],
    );
    let imported = import(&node, &[file.path()]);
    assert_eq!(imported.code, Some(1), "{imported:?}");
    assert_eq!(imported.stdout, "imported 2 of 7 lines: 1 older, 1 ended, 2 refused, 1 invalid\n");
    for said in [
        "line 2: older: \"newer\": ",
        "line 3: invalid: a value without a version",
        "line 4: refused: \"large\": ",
        "line 6: refused: \"b\": ",
    ] {
        assert!(imported.stderr.contains(said), "{said}: {}", imported.stderr);
    }
    assert_eq!(imported.stderr.lines().count(), 4, "{}", imported.stderr);
    node.get("newer").expect(200);
    // only older ones are no failure of the command, and have a code of their own
    let older = Lines::with("older", &[value("newer", now - 5, "x")]);
    assert_eq!(import(&node, &[older.path()]).code, Some(5));
}

#[test]
fn standard_input_is_read_and_lines_are_chosen() {
    let node = Node::start();
    let (client, server) = (node.client_addr().to_string(), node.server_addr().to_string());
    let line = |namespace: &str, name: &str| {
        json!({"namespace": namespace, "name": name, "version": "v", "revision": now_us(), "data": "x"})
            .to_string()
            + "\n"
    };
    let input = line("", "a/1") + "\n" + &line("team", "a/2") + &line("team", "b");
    let fed = |arguments: &[&str], variable: Option<&str>| {
        let all = [&["import", "--client-url", &client, "--server-url", &server], arguments].concat();
        let mut import = command(&all);
        import.envs(variable.map(|namespace| ("VWATCH_NAMESPACE", namespace)));
        let mut child = import
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::piped())
            .spawn()
            .expect("the binary that was just built");
        child.stdin.take().expect("a pipe").write_all(input.as_bytes()).expect("it reads");
        text(&child.wait_with_output().expect("our own child").stdout)
    };
    assert_eq!(fed(&["--namespace", ""], None), "imported 1 of 4 lines: 2 left out\n");
    assert_eq!(fed(&["--prefix", "a/", "-"], Some("team")), "imported 1 of 4 lines: 2 left out\n");
    assert_eq!(fed(&["--into", "other", "--all-namespaces"], Some("team")), "imported 3 of 4 lines\n");
    let names =
        |namespace: &str| run_to_end(&["ls", "--client-url", &client, "--namespace", namespace]).stdout;
    assert_eq!([names(""), names("team"), names("other")], ["a/1\n", "a/2\n", "a/1\na/2\nb\n"]);
}

#[test]
fn a_node_that_takes_nothing_ends_the_import_and_a_file_is_whole_or_not_there() {
    let lines: Vec<_> = (0..50)
        .map(|i| json!({"name": format!("n{i}"), "version": "v", "revision": 7, "data": "x"}))
        .collect();
    let file = Lines::with("ended", &lines);
    let closed = ["import", "--client-url", "127.0.0.1:1", "--server-url", "127.0.0.1:1", file.path()];
    let ended = run_to_end(&closed);
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert_eq!(ended.stderr.lines().count(), 1, "{ended:?}");
    assert!(
        ended.stderr.contains("stopped at line 50: cannot reach")
            && ended.stderr.contains("run the command again")
    );
    let out = Lines::new("not-there");
    let failed = run_to_end(&["export", "--client-url", "127.0.0.1:1", out.path()]);
    assert_eq!(failed.code, Some(1), "{failed:?}");
    assert!(!out.0.exists());
    let beside = std::fs::read_dir(std::env::temp_dir()).expect("a folder").filter_map(Result::ok);
    let name = out.0.file_name().expect("a name").to_string_lossy().into_owned();
    assert!(!beside.into_iter().any(|entry| entry.file_name().to_string_lossy().starts_with(&name)));
    let nowhere = run_to_end(&["import", "/nowhere/file"]);
    assert_eq!(nowhere.code, Some(2), "{nowhere:?}");
}
