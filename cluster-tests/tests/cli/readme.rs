//! The walk-through of README.md, run from its own text: the program prints what the README shows.

use std::io::{BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, Stdio};

use cluster_tests::dev::Dev;
use cluster_tests::http::{Connection, Request};
use cluster_tests::node::binary;
use cluster_tests::text::metric;
use cluster_tests::wait::{LIMIT, wait_until};

/// A command of a `console` block, and what stands below it.
#[derive(Debug)]
pub(super) struct Step {
    pub(super) command: String,
    pub(super) output: String,
}

pub(super) fn steps(readme: &str) -> Vec<Step> {
    let mut steps: Vec<Step> = Vec::new();
    let mut in_console = false;
    for line in readme.lines() {
        match (in_console, line) {
            (false, "```console") => in_console = true,
            (true, "```") => in_console = false,
            (true, line) => match line.strip_prefix("$ ") {
                Some(command) => steps.push(Step { command: command.into(), output: String::new() }),
                None => {
                    let step = steps.last_mut().expect("a block begins with a command");
                    step.output.push_str(line);
                    step.output.push('\n');
                }
            },
            (false, _) => {}
        }
    }
    steps
}

/// What differs from run to run is replaced by its kind, after a check that it is of that kind.
pub(super) fn normalised(output: &str) -> String {
    let lines = output.trim_end().lines().map(|line| {
        let line = line.trim_end();
        match line.split_once(": ") {
            Some((name @ ("Date" | "Last-Modified"), date)) if date.len() == 29 && date.ends_with(" GMT") => {
                format!("{name}: <date>")
            }
            Some((name @ "X-Last-Sync", us)) if us.len() == 16 && us.bytes().all(|b| b.is_ascii_digit()) => {
                format!("{name}: <µs>")
            }
            Some((name @ "Server-Timing", timings)) => {
                let parts = timings.split(", ").map(|part| match part.split_once(";dur=") {
                    Some((what, dur)) if dur.ends_with('s') => format!("{what};dur=<duration>"),
                    _ => part.to_owned(),
                });
                format!("{name}: {}", parts.collect::<Vec<_>>().join(", "))
            }
            Some(("data", json)) => format!("data: {}", without_stamp(json)),
            Some(("id", cursor)) if cursor.starts_with("c1.") => "id: <cursor>".to_owned(),
            _ => line.split(' ').map(without_time).collect::<Vec<_>>().join(" "),
        }
    });
    lines.collect::<Vec<_>>().join("\n")
}

/// An event of a stream without its time.
fn without_stamp(json: &str) -> String {
    let mut event: serde_json::Value = serde_json::from_str(json).expect("an event");
    if let Some(revision) = event.get_mut("revision") {
        assert!(revision.as_u64().is_some_and(|us| us > 1_700_000_000_000_000), "{revision}");
        *revision = "<µs>".into();
        event["last-sync"] = "<time>".into();
    }
    event.to_string()
}

fn without_time(word: &str) -> &str {
    let is_time = word.len() >= 20 && word.starts_with("20") && word.contains('T') && word.ends_with('Z');
    if is_time { "<time>" } else { word }
}

fn ask(server: SocketAddr, path: &str) -> String {
    Connection::open(server).ask(&Request::new("GET", path)).expect(200).text().to_owned()
}

fn parked(server: SocketAddr) -> Option<f64> {
    metric(&ask(server, "/metrics"), "vwatch_parked_watchers")
}

fn digest(server: SocketAddr) -> serde_json::Value {
    let seen: serde_json::Value = serde_json::from_str(&ask(server, "/v1/cluster")).expect("JSON");
    seen["node"]["set"]["digest"].clone()
}

#[test]
fn the_walk_through_prints_what_the_readme_shows() {
    if Command::new("curl").arg("--version").output().is_err() {
        eprintln!("skipped: the walk-through needs curl, which is not on this machine");
        assert!(std::env::var_os("CI").is_none(), "CI has curl");
        return;
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace");
    let readme = std::fs::read_to_string(root.join("README.md")).expect("README.md");
    let mut steps = steps(&readme);

    // The first command starts the cluster of this test, on ports of its own, so that it disturbs no other test; the
    // last one runs this test.
    let first = steps.remove(0);
    assert_eq!(first.command, "cargo run --release -- dev");
    assert_eq!(steps.pop().expect("more than one").command, "cargo xtask test");
    assert!(steps.len() > 8, "{steps:?}");
    let dev = Dev::start(3);
    let of_readme: Vec<(String, String)> = [(8080, &dev.clients), (8008, &dev.servers)]
        .into_iter()
        .flat_map(|(port, all)| all.iter().map(move |at| (format!("{}:{port}", at.ip()), at.to_string())))
        .collect();
    let to_ours =
        |text: &str| of_readme.iter().fold(text.to_owned(), |text, (its, our)| text.replace(its, our));
    let to_its =
        |text: &str| of_readme.iter().fold(text.to_owned(), |text, (its, our)| text.replace(our, its));
    let program = binary().to_str().expect("a path of text");
    assert_eq!(to_its(&dev.guide).replace(program, "target/release/vwatch").trim(), first.output.trim());
    let (client, server) = (dev.clients[0].to_string(), dev.servers[0].to_string());

    // Where the reader stands after `cargo run --release -- dev`: in a folder that has target/release/vwatch.
    let folder = std::env::temp_dir().join(format!("vwatch-readme-{}", std::process::id()));
    std::fs::create_dir_all(folder.join("target/release")).expect("a folder");
    std::os::unix::fs::symlink(binary(), folder.join("target/release/vwatch")).expect("a link");
    let mut shell = Command::new("bash")
        .current_dir(&folder)
        .env("VWATCH_CLIENT_URL", &client)
        .env("VWATCH_SERVER_URL", &server)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("bash");
    let mut typed = shell.stdin.take().expect("piped");
    let mut printed = BufReader::new(shell.stdout.take().expect("piped")).lines();
    writeln!(typed, "exec 2>&1").expect("bash reads");

    const END: &str = "-- end of this command --";
    for step in &steps {
        let command = to_ours(&step.command);
        writeln!(typed, "{command}\nprintf '\\n{END}\\n'").expect("bash reads");
        let mut output = String::new();
        for line in printed.by_ref() {
            let line = line.expect("text");
            if line == END {
                break;
            }
            output.push_str(&line);
            output.push('\n');
        }
        assert_eq!(normalised(&to_its(&output)), normalised(&step.output), "$ {}", step.command);
        if command.ends_with('&') {
            wait_until("a reader parked on the third node", LIMIT, || parked(dev.servers[2]) == Some(1.0));
        }
        wait_until("equal sets", LIMIT, || {
            let first = digest(dev.servers[0]);
            dev.servers[1..].iter().all(|server| digest(*server) == first)
        });
    }
    drop(typed);
    assert!(shell.wait().expect("our own child").success());
    std::fs::remove_dir_all(&folder).expect("our own folder");
}
