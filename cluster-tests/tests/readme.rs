//! README.md's walk-through, run from README.md's own text: what it says is printed is what is printed.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};

use cluster_tests::node::{Node, binary};

/// A command of a `console` block, and what stands below it.
#[derive(Debug)]
struct Step {
    command: String,
    output: String,
}

fn steps(readme: &str) -> Vec<Step> {
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
fn normalised(output: &str) -> String {
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
            _ => line.split(' ').map(without_time).collect::<Vec<_>>().join(" "),
        }
    });
    lines.collect::<Vec<_>>().join("\n")
}

fn without_time(word: &str) -> &str {
    let is_time = word.len() >= 20 && word.starts_with("20") && word.contains('T') && word.ends_with('Z');
    if is_time { "<time>" } else { word }
}

#[test]
fn the_walk_through_prints_what_it_says() {
    if Command::new("curl").arg("--version").output().is_err() {
        eprintln!("skipped: the walk-through needs curl, which is not on this machine");
        assert!(std::env::var_os("CI").is_none(), "CI has curl");
        return;
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace");
    let readme = std::fs::read_to_string(root.join("README.md")).expect("README.md");
    let mut steps = steps(&readme);

    // The first command starts a node and the last runs this test, so they are not run here. The node of this test has
    // ports of its own, so that it disturbs nobody.
    assert_eq!(steps.remove(0).command, "cargo run --release");
    assert_eq!(steps.pop().expect("more than one").command, "cargo test --workspace");
    assert!(steps.len() > 8, "{steps:?}");
    let node = Node::start();
    let (client, server) = (node.client_addr().to_string(), node.server_addr().to_string());

    // Where the reader stands after `cargo run --release`: in a folder that has target/release/vwatch.
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
        let command = step.command.replace("localhost:8080", &client).replace("localhost:8008", &server);
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
        assert_eq!(normalised(&output), normalised(&step.output), "$ {}", step.command);
        if command.ends_with('&') {
            node.wait_parked(1);
        }
    }
    drop(typed);
    assert!(shell.wait().expect("our own child").success());
    std::fs::remove_dir_all(&folder).expect("our own folder");
}
