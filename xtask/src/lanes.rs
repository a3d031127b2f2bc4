//! All tests, in two lanes: most of them wait for nodes, and leave the processors to those of the other lane.

use std::fs::File;
use std::path::Path;
use std::process::Command;

use crate::command::{cargo, ended, root, run as run_command, shown, target};

/// The programs below `cluster-tests/tests` of one lane, about half of the time. All other tests are in the other one.
const FIRST_LANE: [&str; 3] = ["cluster", "fill", "faults"];

/// Needs an image, which `.ci/run` builds meanwhile.
const LAST: &str = "containers";

/// Builds all tests and runs them, or those that the arguments select for `cargo test`.
pub(crate) fn run(rest: &[String]) -> Result<(), String> {
    if !rest.is_empty() {
        let mut command = tests();
        command.args(rest);
        return run_command(command);
    }
    let mut build = tests();
    build.arg("--no-run");
    run_command(build)?;

    let lanes = lanes(&programs()?);
    let log = target().join("tests.log");
    let file = File::create(&log).map_err(|error| format!("xtask: {}: {error}", log.display()))?;
    println!("$ {} >{} &", shown_all(&lanes[1]), log.display());
    let [first, second] = std::thread::scope(|scope| {
        let second = scope.spawn(|| lanes[1].iter().map(|words| run_to(words, &file)).collect::<Vec<_>>());
        let first = lanes[0].iter().map(|words| run_command(command(words))).collect();
        [first, second.join().expect("no lane panics")]
    });
    let text = std::fs::read(&log).map_err(|error| format!("xtask: {}: {error}", log.display()))?;
    println!("\n$ {}\n{}", shown_all(&lanes[1]), String::from_utf8_lossy(&text));
    let errors: Vec<_> = [first, second].concat().into_iter().filter_map(Result::err).collect();
    if errors.is_empty() { Ok(()) } else { Err(errors.join("\n")) }
}

/// `cargo test` for these targets, with all failures.
fn command(targets: &[String]) -> Command {
    let mut command = tests();
    command.arg("--no-fail-fast").args(targets);
    command
}

fn shown_all(lane: &[Vec<String>]) -> String {
    lane.iter().map(|targets| shown(&command(targets))).collect::<Vec<_>>().join("; ")
}

fn run_to(targets: &[String], log: &File) -> Result<(), String> {
    let mut command = command(targets);
    let failed = |error| format!("xtask: {}: {error}", shown(&command));
    let (out, err) = (log.try_clone().map_err(failed)?, log.try_clone().map_err(failed)?);
    command.stdout(out).stderr(err);
    let status = command.status();
    ended(&command, status)
}

/// `cargo test --workspace`, with two tests for each processor unless the user wants another number: most tests wait
/// for a node.
pub(crate) fn tests() -> Command {
    let mut command = cargo(["test", "--workspace", "--locked"]);
    if std::env::var_os("RUST_TEST_THREADS").is_none() {
        command.env("RUST_TEST_THREADS", (2 * processors()).to_string());
    }
    command
}

pub(crate) fn processors() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// The programs with tests over sockets: the files and folders of `cluster-tests/tests`.
fn programs() -> Result<Vec<String>, String> {
    let folder = root().join("cluster-tests/tests");
    let entries =
        std::fs::read_dir(&folder).map_err(|error| format!("xtask: {}: {error}", folder.display()))?;
    let stem = |path: &Path| path.file_stem().and_then(|stem| stem.to_str()).map(str::to_owned);
    let mut programs: Vec<_> = entries.filter_map(|entry| stem(&entry.ok()?.path())).collect();
    programs.sort();
    Ok(programs)
}

/// The targets of each command of both lanes.
fn lanes(programs: &[String]) -> [Vec<Vec<String>>; 2] {
    let named = |is_wanted: &dyn Fn(&str) -> bool| -> Vec<String> {
        let wanted = programs.iter().filter(|program| is_wanted(program));
        wanted.flat_map(|program| ["--test".to_owned(), program.clone()]).collect()
    };
    let is_first = |program: &str| FIRST_LANE.contains(&program);
    let mut others = named(&|program| !is_first(program) && program != LAST);
    others.extend(["--lib".to_owned(), "--bins".to_owned()]);
    let last = named(&|program| program == LAST);
    [vec![named(&is_first)], vec![others, last, vec!["--doc".to_owned()]]]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_program_is_in_one_lane() {
        let programs = programs().expect("the folder");
        let [first, second] = lanes(&programs).map(|lane| lane.concat());
        assert_eq!(first.len(), 2 * FIRST_LANE.len(), "all of the first lane are there: {programs:?}");
        for program in &programs {
            let of = |lane: &[String]| lane.iter().filter(|word| *word == program).count();
            assert_eq!(of(&first) + of(&second), 1, "{program}");
        }
        for kind in ["--lib", "--bins", "--doc"] {
            assert!(second.contains(&kind.to_owned()), "{kind}");
        }
    }
}
