//! `vwatch get --revision` and `--at`, `history`, `revert`, `compact` and `history-depth`, and the guide that shows
//! them.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Output, Stdio};

use cluster_tests::node::{Node, binary};
use cluster_tests::parts::find;
use cluster_tests::text::{now_us, rfc3339};
use cluster_tests::wait::{LIMIT, wait_until};
use serde_json::{Value, json};

use super::program::{run, text};
use super::readme::{normalised, steps};

/// Runs a command at a node.
fn at(node: &Node, arguments: &[&str]) -> Output {
    let urls = [node.client_addr().to_string(), node.server_addr().to_string()];
    run(&[arguments, &["--client-url", &urls[0], "--server-url", &urls[1]]].concat())
}

/// Demands an exit code, and returns what was printed on both.
#[track_caller]
fn said(output: &Output, code: i32) -> (String, String) {
    let (out, err) = (text(&output.stdout), text(&output.stderr));
    assert_eq!(output.status.code(), Some(code), "{out}{err}");
    assert!(err.lines().count() <= 1, "{err}");
    (out, err)
}

/// A value, another, a delete and a value, minutes ago.
#[track_caller]
fn written(node: &Node) -> [u64; 4] {
    let stamps = [4, 3, 2, 1].map(|ago| (now_us() / 60_000_000 - 5) * 60_000_000 - ago * 1_000_000);
    node.put(&format!("n?version=v1&modified={}", stamps[0]), "one").expect(204);
    node.put(&format!("n?version=v2&modified={}", stamps[1]), "two\u{1b}[2J").expect(204);
    node.delete(&format!("n?modified={}", stamps[2])).expect(204);
    node.put(&format!("n?version=v3&modified={}", stamps[3]), "three").expect(204);
    stamps
}

#[test]
fn a_value_that_ends_is_shown_with_its_end_and_then_as_expired() {
    let node = Node::start();
    let put = |arguments: &[&str]| at(&node, &[&["put"], arguments].concat());
    let printed = said(&put(&["--expires", "15s", "-w", "json", "n", "one"]), 0).0;
    let written: Value = serde_json::from_str(&printed).expect("JSON");
    let end = written["expires"].as_str().expect("its end").to_owned();
    assert!(end.as_str() > written["last_sync"].as_str().expect("its time"), "{written}");
    let read: Value =
        serde_json::from_str(&said(&at(&node, &["get", "-w", "json", "n"]), 0).0).expect("JSON");
    assert_eq!(read["expires"], written["expires"]);
    let listed: Value = serde_json::from_str(&said(&at(&node, &["ls", "-w", "json"]), 0).0).expect("JSON");
    assert_eq!(listed["versions"][0]["expires"], written["expires"]);
    let (_, verbose) = {
        let output = at(&node, &["get", "-v", "n"]);
        (text(&output.stdout), text(&output.stderr))
    };
    assert!(verbose.contains("expires: ") && verbose.contains(&end), "{verbose}");
    wait_until("the end", LIMIT, || node.get("n").status == 410);
    wait_until("the delete", LIMIT, || {
        said(&at(&node, &["history", "-w", "simple", "n"]), 0).0.lines().count() == 2
    });
    let table = said(&at(&node, &["history", "n"]), 0).0;
    let rows: Vec<&str> = table.lines().collect();
    assert!(rows[1].contains("delete (expired)") && rows[2].contains(&format!("put until {end}")), "{table}");
    let history: Value =
        serde_json::from_str(&said(&at(&node, &["history", "-w", "json", "n"]), 0).0).expect("JSON");
    assert_eq!(
        (&history["versions"][0]["expired"], &history["versions"][1]["expires"]),
        (&json!(true), &json!(end))
    );
    let (_, refused) = said(&put(&["--expires", "1ms", "n", "one"]), 1);
    assert!(refused.contains("a quarter of --tombstone-grace"), "{refused}");
    said(&put(&["--expires", "soon", "n", "one"]), 2);
}

#[test]
fn the_past_is_read_by_revision_time_and_age() {
    let node = Node::start();
    let [first, second, third, fourth] = written(&node);
    let get = |arguments: &[&str]| at(&node, &[&["get"], arguments].concat());
    let micros = [first, second, third, fourth].map(|stamp| stamp.to_string());
    assert_eq!(said(&get(&["--revision", &micros[0], "n"]), 0).0, "one");
    assert_eq!(said(&get(&["--at", &micros[1], "n"]), 0).0, "two\u{1b}[2J");
    assert_eq!(said(&get(&["--at", &rfc3339(second - 1), "n"]), 0).0, "one");
    assert_eq!(said(&get(&["--at", "0s", "n"]), 0).0, "three");
    assert_eq!(said(&get(&["--at", "now", "n"]), 0).0, "three");
    let json = said(&get(&["-w", "json", "--revision", &micros[0], "n"]), 0).0;
    let json: Value = serde_json::from_str(&json).expect("JSON");
    assert_eq!((&json["version"], &json["data"]), (&json!("v1"), &json!("b25l")));
    // of several names at one time
    node.put(&format!("m?version=v1&modified={first}"), "m").expect(204);
    assert_eq!(said(&get(&["--at", &micros[0], "n", "m"]), 0).0, "onem");

    for (arguments, line) in [
        (["--revision", &micros[2], "n"], "vwatch: deleted: \"n\": it was deleted then\n".to_owned()),
        (["--at", &micros[2], "n"], "vwatch: deleted: \"n\": it was deleted then\n".to_owned()),
        (["--at", "24h", "n"], "vwatch: not found: \"n\"\n".to_owned()),
        (
            ["--revision", "7", "n"],
            "vwatch: no such revision: \"n\": see those that are kept: vwatch history n\n".to_owned(),
        ),
    ] {
        assert_eq!(said(&get(&arguments), 4), (String::new(), line));
    }
    for (arguments, part) in [
        (&["--revision", "7", "--at", "7", "n"][..], "cannot be used with"),
        (&["--revision", "7", "--version", "v1", "n"], "cannot be used with"),
        (&["--at", "7", "--version", "v1", "n"], "cannot be used with"),
        (&["--at", "yesterday", "n"], "not a time: write microseconds since 1970"),
        (&["--revision", "5m", "n"], "not a whole number of microseconds"),
        (&["--revision", "7", "n", "m"], "--revision is for one name"),
    ] {
        let (_, err) = said(&get(arguments), 2);
        assert!(err.contains(part), "{err}");
    }

    let node = Node::with(&["--tombstone-grace", "10s"]);
    node.put(&format!("n?version=v1&modified={first}"), "one").expect(204);
    let verbose = || at(&node, &["get", "-v", "--at", &micros[0], "n"]);
    wait_until("an answer that is final", LIMIT, || text(&verbose().stderr).contains("final: true\n"));
    assert!(text(&verbose().stderr).contains("version: v1\n"));
    assert!(!text(&at(&node, &["get", "-v", "n"]).stderr).contains("final"));
}

#[test]
fn a_history_is_a_table_a_list_or_json() {
    let node = Node::start();
    let [first, second, third, fourth] = written(&node);
    let history = |arguments: &[&str]| at(&node, &[&["history", "n"], arguments].concat());
    let (table, _) = said(&history(&[]), 0);
    let rows: Vec<Vec<&str>> = table.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(rows[0], ["REVISION", "TIME", "TYPE", "VERSION", "DATA"]);
    let of = |at: usize| (rows[at][0].parse().unwrap_or(0), rows[at][2..].to_vec());
    assert_eq!(of(1), (fourth, vec!["put", "v3", "three"]));
    assert_eq!(of(2), (third, vec!["delete", "-", "-"]));
    assert_eq!(of(3), (second, vec!["put", "v2", "base64:dHdvG1sySg=="]));
    assert_eq!(of(4), (first, vec!["put", "v1", "one"]));
    assert_eq!(table.lines().last(), Some("complete: nothing older was dropped"));
    let simple = format!("{fourth} put v3\n{third} delete -\n{second} put v2\n{first} put v1\n");
    assert_eq!(said(&history(&["-w", "simple"]), 0).0, simple);
    let (limited, _) = said(&history(&["--limit", "2"]), 0);
    assert_eq!(limited.lines().count(), 4, "{limited}");
    assert!(limited.ends_with("not complete: --limit ends the list here\n"), "{limited}");
    let (json, _) = said(&history(&["-w", "json"]), 0);
    let json: Value = serde_json::from_str(&json).expect("JSON");
    assert_eq!((&json["name"], &json["complete"]), (&json!("n"), &json!(true)));
    assert_eq!(
        json["versions"][1],
        json!({"type": "delete", "revision": third,
        "last_sync": format!("{}.000000Z", rfc3339(third).trim_end_matches('Z')),
        "last-sync": format!("{}.000000Z", rfc3339(third).trim_end_matches('Z'))})
    );
    // longer than one page
    said(&at(&node, &["history-depth", "64"]), 0);
    for i in 0..70 {
        node.put("n", format!("{i}")).expect(204);
    }
    assert_eq!(said(&history(&["-w", "simple"]), 0).0.lines().count(), 64);
    let (table, _) = said(&history(&[]), 0);
    assert!(table.ends_with("not complete: older versions may have been dropped\n"), "{table}");
    let (_, err) = said(&at(&node, &["history", "never"]), 4);
    assert_eq!(err, "vwatch: not found: \"never\"\n");
    said(&at(&node, &["history", "--limit", "0", "n"]), 2);
    said(&at(&node, &["history", ""]), 2);
    said(&run(&["history", "n", "--client-url", &node.server_addr().to_string()]), 0);
    // without the page the server port has no histories: that is no missing name
    let off = Node::with(&["--page", "off"]);
    said(&run(&["history", "n", "--client-url", &off.server_addr().to_string()]), 1);
}

#[test]
fn a_revert_is_a_new_write() {
    let node = Node::start();
    let [first, second, third, _] = written(&node);
    let revert = |arguments: &[&str]| at(&node, &[&["revert"], arguments].concat());
    let [first, second, third] = [first, second, third].map(|stamp| stamp.to_string());
    assert_eq!(said(&revert(&["-f", "n", &first]), 0).0, "v1\n");
    let now = node.get("n").expect(200);
    assert_eq!((now.version(), now.text()), (Some("v1"), "one"));
    assert!(now.last_sync().expect("µs") > now_us() - 60_000_000, "a new stamp");
    assert_eq!(said(&revert(&["-f", "-w", "json", "n", &third]), 0).0.matches("\"deleted\":true").count(), 1);
    node.get("n").expect(410);
    assert_eq!(said(&revert(&["--force", "n", &second]), 0).0, "v2\n");
    assert_eq!(node.get("n").expect(200).text(), "two\u{1b}[2J");
    let listed = at(&node, &["history", "-w", "simple", "n"]);
    assert_eq!(said(&listed, 0).0.lines().count(), 7, "no revert takes anything back");

    // without a terminal it does not ask
    let (out, err) = said(&revert(&["n", &first]), 2);
    assert!(out.is_empty() && err.contains("no terminal: run vwatch revert -f n "), "{err}");
    assert!(said(&revert(&["-f", "n", "7"]), 4).1.starts_with("vwatch: no such revision: "));
    assert!(said(&revert(&["-f", "other", "7"]), 4).1.starts_with("vwatch: no such revision: "));
    said(&revert(&["-f", "n", "5m"]), 2);
    // a write that loses
    assert_eq!(said(&revert(&["-f", "--modified", "7", "n", &first]), 5).0, "");
    assert_eq!(node.get("n").expect(200).version(), Some("v2"), "nothing of this wrote");
}

#[test]
fn a_revert_asks_on_a_terminal() {
    let Some(script) = find("script", "it is in the Debian package bsdutils") else { return };
    let node = Node::start();
    let [first, ..] = written(&node);
    let typed = format!(
        "'{}' revert --client-url {} --server-url {} n {first}",
        binary().display(),
        node.client_addr(),
        node.server_addr()
    );
    let answered = |answer: &str| {
        let mut terminal = Command::new(&script)
            .args(["-qec", &typed, "/dev/null"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("script");
        terminal.stdin.take().expect("piped").write_all(answer.as_bytes()).expect("it reads");
        let ended = terminal.wait_with_output().expect("our own child");
        (ended.status.code(), text(&ended.stdout))
    };
    for answer in ["n\n", "\n"] {
        let (code, shown) = answered(answer);
        assert_eq!(code, Some(1), "{shown}");
        assert!(shown.contains("write version v1 (3 bytes) of ") && shown.contains("[y/N] "), "{shown}");
        assert!(shown.contains("not confirmed: nothing was written"), "{shown}");
        assert_eq!(node.get("n").expect(200).version(), Some("v3"));
    }
    let (code, shown) = answered("y\n");
    assert_eq!(code, Some(0), "{shown}");
    assert_eq!(node.get("n").expect(200).version(), Some("v1"));
}

#[test]
fn a_compaction_and_a_depth_say_what_they_did() {
    let node = Node::start();
    let [_, second, third, fourth] = written(&node);
    let compact = |arguments: &[&str]| at(&node, &[&["compact"], arguments].concat());
    let (out, err) = said(&compact(&[&third.to_string()]), 0);
    let time = format!("{}.000000Z", rfc3339(third).trim_end_matches('Z'));
    let expected = format!("older versions from before {time} ({third} µs) are dropped\n");
    assert_eq!((out, err), (expected, String::new()));
    assert_eq!(said(&at(&node, &["history", "n", "-w", "simple"]), 0).0.lines().count(), 2);
    let (_, err) = said(&at(&node, &["get", "--revision", &second.to_string(), "n"]), 4);
    assert!(
        err.starts_with("vwatch: compacted: \"n\": what there may have been then is not kept any more"),
        "{err}"
    );
    assert_eq!(said(&compact(&["-w", "simple", "1h"]), 0).0, format!("{third}\n"), "it only rises");
    let (out, err) = said(&compact(&["-w", "json", "now"]), 0);
    let json: Value = serde_json::from_str(&out).expect("JSON");
    assert_eq!(json["held_by"], "clock");
    assert!(err.contains(" because a write may still come with a stamp of the time in between"), "{err}");
    assert_eq!(said(&at(&node, &["history", "n", "-w", "simple"]), 0).0, format!("{fourth} put v3\n"));
    let (_, err) = said(&compact(&[&(now_us() + 3_600_000_000).to_string()]), 1);
    assert!(err.starts_with("vwatch: time in the future: "), "{err}");
    for bad in ["", "tomorrow", "-5m"] {
        said(&compact(&[bad]), 2);
    }

    let depth = |arguments: &[&str]| said(&at(&node, &[&["history-depth"], arguments].concat()), 0).0;
    assert_eq!(depth(&[]), "a name keeps 8 versions\n");
    assert_eq!(depth(&["3"]), "from now on a name keeps 3 versions\n");
    assert_eq!(
        depth(&["20"]),
        "from now on a name keeps 20 versions; it was 3, so older versions may be missing\n"
    );
    assert_eq!(
        (depth(&["-w", "simple"]), depth(&["-w", "json"])),
        ("20\n".into(), "{\"versions\":20}\n".into())
    );
    for bad in ["0", "65", "x", "-1"] {
        said(&at(&node, &["history-depth", bad]), 2);
    }
    // neither is on the client port
    let client = node.client_addr().to_string();
    said(&run(&["compact", "1h", "--server-url", &client]), 1);
    said(&run(&["history-depth", "3", "--server-url", &client]), 1);
}

#[test]
fn settings_go_on_to_the_next_node() {
    let node = Node::start();
    let urls = format!("127.0.0.1:1,{}", node.server_addr());
    let (out, _) = said(&run(&["history-depth", "4", "--server-url", &urls]), 0);
    assert_eq!(out, "from now on a name keeps 4 versions\n");
    said(&run(&["compact", "1h", "--server-url", &urls]), 0);
    assert_eq!(node.metric("vwatch_ignored_parameters_total"), 0.0, "no stamp of its own");
    let (_, err) = said(&run(&["compact", "1h", "--server-url", "127.0.0.1:1"]), 1);
    assert!(err.contains("connection refused") && err.contains("--server-url names another one"), "{err}");
}

/// The numbers of 16 digits in a text: revisions.
fn revisions(text: &str) -> Vec<&str> {
    let numbers = text.split(|c: char| !c.is_ascii_digit());
    numbers.filter(|number| number.len() == 16).collect()
}

#[test]
fn the_guide_shows_what_the_commands_print() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace");
    let guide = std::fs::read_to_string(root.join("docs/guides/history.md")).expect("the guide");
    let steps = steps(&guide);
    assert!(steps.len() > 12, "{steps:?}");
    let node = Node::start();
    let path = std::env::var("PATH").unwrap_or_default();
    let folder = std::env::temp_dir().join(format!("vwatch-guide-{}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("a folder");
    std::os::unix::fs::symlink(binary(), folder.join("vwatch")).expect("a link");
    let mut shell = Command::new("bash")
        .env_remove("VWATCH_OUTPUT")
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
    // the revisions of the guide, and those of this run
    let mut ours: BTreeMap<String, String> = BTreeMap::new();
    const END: &str = "-- end of this command --";
    for step in &steps {
        let known = revisions(&step.command);
        let command = known.iter().fold(step.command.clone(), |text, its| text.replace(its, &ours[*its]));
        writeln!(typed, "{command}\nprintf '\\n{END}\\n'").expect("bash reads");
        let lines = printed.by_ref().map(|line| line.expect("text")).take_while(|line| line != END);
        let output = lines.fold(String::new(), |all, line| all + &line + "\n");
        let its = revisions(&step.output).into_iter().map(str::to_owned);
        for (its, our) in its.zip(revisions(&output)) {
            let known = ours.entry(its.clone()).or_insert_with(|| our.to_owned());
            assert_eq!(known, our, "{its} in the guide, $ {}", step.command);
        }
        let plain = |text: &str| {
            revisions(text)
                .into_iter()
                .fold(normalised(text), |text, revision| text.replace(revision, "<µs>"))
        };
        assert_eq!(plain(&output), plain(&step.output), "$ {}", step.command);
    }
    drop(typed);
    assert!(shell.wait().expect("our own child").success());
    std::fs::remove_dir_all(&folder).expect("our own folder");
    // the guide says that a compaction of a few seconds later leaves the present version only
    wait_until("one version", LIMIT, || {
        said(&at(&node, &["compact", "now"]), 0);
        said(&at(&node, &["history", "-w", "simple", "app"]), 0).0.lines().count() == 1
    });
}
