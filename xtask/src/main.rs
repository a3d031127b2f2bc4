//! The commands of a developer, and the stages of CI: `cargo xtask --help` lists them.
//!
//! Each stage prints the commands that it runs, so that a reader can run a part of it by hand.

mod api;
mod command;
mod fuzz;
mod lanes;
#[cfg(test)]
mod layers;
mod stages;

use std::process::ExitCode;
use std::time::{Duration, Instant};

use stages::{STAGES, Stage};

/// The stages of `ci`, the fast ones first. The unit tests run among all others.
const CI: [&str; 13] = [
    "format",
    "lint",
    "core",
    "client",
    "embed",
    "layers",
    "doc",
    "deny",
    "kubernetes",
    "python",
    "schemathesis",
    "long",
    "test",
];

const HEAD: &str = "\
The commands of a developer of vwatch. Each one is a stage of CI, and prints the commands that it runs.

Usage: cargo xtask COMMAND [ARGUMENT...]

  cargo xtask check              after each change
  cargo xtask e2e http limits    the tests in cluster-tests/tests/http whose name contains `limits`
  cargo xtask ci                 before a merge

Commands:
";

const TAIL: &str = "
`ci` runs check, doc, deny, kubernetes, python, schemathesis, long and test, and then prints the time of each. It
expects the tools that .ci/run installs below target/ci-tools; .ci/run is the same on a machine that has only Rust.
";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let outcome = match arguments.split_first() {
        None => Err(help()),
        Some((word, _)) if ["help", "--help", "-h"].contains(&word.as_str()) => {
            print!("{}", help());
            Ok(())
        }
        Some((word, rest)) if word == "ci" => ci(rest),
        Some((word, rest)) => match stage(word) {
            Ok(stage) if rest.iter().any(|word| word == "--help") => {
                print!("{}", line(stage));
                Ok(())
            }
            Ok(stage) => (stage.run)(rest),
            Err(message) => Err(message),
        },
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("{}", message.trim_end());
            ExitCode::FAILURE
        }
    }
}

/// The stage of this name, or a message that lists all names.
fn stage(name: &str) -> Result<&'static Stage, String> {
    let names = || STAGES.iter().map(|stage| stage.name).collect::<Vec<_>>().join(", ");
    let found = STAGES.iter().find(|stage| stage.name == name);
    found.ok_or_else(|| format!("xtask: no command {name}: use one of {}, ci", names()))
}

/// Runs all stages but those that `--without NAME` names, until one fails, and prints the time of each.
fn ci(arguments: &[String]) -> Result<(), String> {
    let mut without = Vec::new();
    let mut words = arguments.iter();
    while let Some(word) = words.next() {
        match (word.as_str(), words.next()) {
            ("--without", Some(name)) if CI.contains(&name.as_str()) => without.push(name.as_str()),
            _ => return Err(format!("xtask: ci takes --without STAGE, with one of {}", CI.join(", "))),
        }
    }
    let mut times: Vec<(&str, Duration)> = Vec::new();
    let mut outcome = Ok(());
    for name in CI.into_iter().filter(|name| !without.contains(name)) {
        println!("\n== {name}");
        let started = Instant::now();
        outcome = stage(name).and_then(|stage| (stage.run)(&[]));
        times.push((name, started.elapsed()));
        if outcome.is_err() {
            break;
        }
    }
    println!("\n== times");
    for (name, time) in &times {
        println!("{name:<12}{:>6.0} s", time.as_secs_f64());
    }
    println!("{:<12}{:>6.0} s", "all", times.iter().map(|(_, time)| time.as_secs_f64()).sum::<f64>());
    outcome
}

fn help() -> String {
    let lines: String = STAGES.iter().map(line).collect();
    format!(
        "{HEAD}{lines}  {:<26} {}\n{TAIL}",
        "ci [--without STAGE]...", "all stages, with the time of each"
    )
}

/// A line of the help, or two if the about text has two.
fn line(stage: &Stage) -> String {
    let about = stage.about.replace('\n', &format!("\n{:29}", ""));
    format!("  {:<26} {about}\n", format!("{} {}", stage.name, stage.arguments).trim_end())
}
