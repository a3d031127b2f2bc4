//! The stages, each a command of its own.

use std::fs::File;
use std::process::{Command, Stdio};

use crate::command::{cargo, ended, program, root, run, shown, target, tools};
use crate::fuzz;
use crate::lanes::{self, processors};

/// One command of `cargo xtask`.
pub(crate) struct Stage {
    /// What the user types.
    pub name: &'static str,
    /// Its arguments, for the help.
    pub arguments: &'static str,
    /// What it does, for the help.
    pub about: &'static str,
    /// Runs it with the arguments that the user typed.
    pub run: fn(&[String]) -> Result<(), String>,
}

const fn stage(
    name: &'static str,
    arguments: &'static str,
    about: &'static str,
    run: fn(&[String]) -> Result<(), String>,
) -> Stage {
    Stage { name, arguments, about, run }
}

/// All stages but `ci`, in the order of the help.
pub(crate) const STAGES: [Stage; 27] = [
    stage(
        "check",
        "",
        "format, lint, core, client, embed, layers and unit: less than two minutes once the dependencies are built",
        check,
    ),
    stage("format", "", "is the source formatted? `cargo fmt --all` formats it", |rest| none(rest, format)),
    stage("lint", "", "clippy for all targets; a warning is an error", |rest| none(rest, lint)),
    stage("core", "", "the core builds alone, without the crates of the node", |rest| none(rest, core)),
    stage("client", "", "the client library builds alone, and without the crates of a server", |rest| {
        none(rest, client)
    }),
    stage("embed", "", "the node for programs builds alone, and without a command line and a log", |rest| {
        none(rest, embed)
    }),
    stage(
        "layers",
        "",
        "which module of src uses which, and that core and wire are pure: the tests of xtask",
        |rest| none(rest, layers),
    ),
    stage("unit", "[ARGUMENT]...", "the unit tests; a name selects those that contain it", unit),
    stage(
        "test",
        "[ARGUMENT]...",
        "all tests: `cargo test --workspace` in two lanes; with arguments just that, in one",
        lanes::run,
    ),
    stage(
        "e2e",
        "[AREA] [ARGUMENT]...",
        "tests with real processes and sockets, of all areas or one: cli, cluster, containers,\n\
         embedded, faults, fill, http. A name behind the area selects the tests that contain it",
        e2e,
    ),
    stage("doc", "", "the pages of rustdoc, without a broken link", |rest| none(rest, doc)),
    stage("api", "", "writes docs/reference/client-api.md, the public items of the client library", |rest| {
        none(rest, crate::api::write)
    }),
    stage(
        "clients",
        "[SECONDS] [RUNS]",
        "programs with the client library under random faults: five runs of 60 s each",
        clients,
    ),
    stage("deny", "", "licences and sources of all dependencies", |rest| none(rest, deny)),
    stage(
        "python",
        "[MODULE]...",
        "the client for Python: its types by mypy, and its tests, also with real nodes",
        python,
    ),
    stage("kubernetes", "", "docker/kubernetes against the schemas of Kubernetes", |rest| {
        none(rest, kubernetes)
    }),
    stage(
        "schemathesis",
        "[EXAMPLES [SEED]]",
        "asks nodes what their /openapi.json describes, and checks their answers",
        schemathesis,
    ),
    stage(
        "prometheus",
        "",
        "the dashboard and the alerts with a real Prometheus over real nodes; not in CI",
        |rest| none(rest, prometheus),
    ),
    stage(
        "package",
        "",
        "the Debian package in a fresh Debian; needs root and debootstrap, else it is skipped",
        |rest| none(rest, package),
    ),
    stage(
        "sim",
        "[ARGUMENT]...",
        "simulated clusters: 2,000 seeds, or what the arguments say (`--seeds N`)",
        sim,
    ),
    stage("faults", "[SECONDS]", "five runs of random faults on real nodes, 60 s each", faults),
    stage(
        "feeds",
        "[streams] [SECONDS] [RUNS]",
        "the promises of watches under random faults: five runs of 60 s each, of batches or of streams",
        feeds,
    ),
    stage("disk", "[KILLS]", "nodes that are killed while they save to a disk: 100 kills of each form", disk),
    stage(
        "browser",
        "",
        "EventSource and the page in a real Chromium, with pictures of all views; skipped where there is none",
        |rest| none(rest, browser),
    ),
    stage("long", "", "sim and fuzz, and faults beside them", |rest| none(rest, long)),
    stage("fuzz", "[SECONDS]", "every fuzz target, 10 s each, two at a time", fuzz::run),
    stage("bench", "[NAME] [ARGUMENT]...", "the benchmarks, or one: see bench/README.md", bench),
];

fn none(rest: &[String], stage: fn() -> Result<(), String>) -> Result<(), String> {
    match rest.first() {
        None => stage(),
        Some(word) => Err(format!("xtask: this command takes no argument, and {word} is one")),
    }
}

fn check(rest: &[String]) -> Result<(), String> {
    none(rest, format)?;
    lint()?;
    core()?;
    client()?;
    embed()?;
    layers()?;
    unit(&[])
}

fn format() -> Result<(), String> {
    run(cargo(["fmt", "--all", "--check"]))?;
    run(cargo(["fmt", "--manifest-path", "cluster-tests/fuzz/Cargo.toml", "--check"]))
}

fn lint() -> Result<(), String> {
    run(cargo(["clippy", "--workspace", "--all-targets", "--locked", "--", "-D", "warnings"]))
}

fn core() -> Result<(), String> {
    run(cargo(["check", "--lib", "--no-default-features", "--locked"]))
}

/// Crates that only a server or a command line needs.
const OF_A_SERVER: [&str; 6] = ["axum", "chitchat", "clap", "h2", "hickory-resolver", "rcgen"];

fn client() -> Result<(), String> {
    builds_alone("client", "the client library", &OF_A_SERVER)
}

/// Crates that only a process of its own needs: a command line, a log, and signals.
const OF_A_PROCESS: [&str; 4] = ["clap", "hdrhistogram", "signal-hook-registry", "tracing-subscriber"];

fn embed() -> Result<(), String> {
    builds_alone("embed", "the node for programs", &OF_A_PROCESS)
}

/// Checks that the library builds with this feature alone, without a warning, and needs none of these crates.
fn builds_alone(feature: &str, what: &str, unwanted: &[&'static str]) -> Result<(), String> {
    let alone = ["--package", "vwatch", "--no-default-features", "--features", feature, "--locked"];
    let warnings = ["--", "-D", "warnings"];
    run(cargo(["clippy", "--lib"].into_iter().chain(alone).chain(warnings)))?;
    let mut command =
        cargo(["tree", "--edges", "normal", "--prefix", "none", "--format", "{p}"].into_iter().chain(alone));
    println!("$ {}", shown(&command));
    let output = command.output();
    let (tree, status) = match output {
        Ok(output) => (String::from_utf8_lossy(&output.stdout).into_owned(), Ok(output.status)),
        Err(error) => (String::new(), Err(error)),
    };
    ended(&command, status)?;
    match crates_among(&tree, unwanted)[..] {
        [] => Ok(()),
        ref found => Err(format!("xtask: {what} needs {}: move it to the feature node", found.join(", "))),
    }
}

/// Those of the crates that are in the lines of `cargo tree`, each a name and a version.
fn crates_among(tree: &str, crates: &[&'static str]) -> Vec<&'static str> {
    let has = |name: &&str| tree.lines().any(|line| line.split(' ').next() == Some(name));
    crates.iter().copied().filter(has).collect()
}

fn layers() -> Result<(), String> {
    run(cargo(["test", "--package", "xtask", "--locked", "--quiet"]))
}

fn unit(rest: &[String]) -> Result<(), String> {
    // the whole workspace, so that it is the build of `cargo test --workspace`
    run(with(cargo(["test", "--workspace", "--locked", "--lib"]), rest))
}

/// The areas of the tests over sockets, each a program below `cluster-tests/tests`.
const AREAS: [&str; 7] = ["cli", "cluster", "containers", "embedded", "faults", "fill", "http"];

fn e2e(rest: &[String]) -> Result<(), String> {
    let (areas, rest) = match rest.split_first() {
        None => (&AREAS[..], rest),
        Some((area, rest)) => {
            let at = AREAS.iter().position(|one| one == area);
            let at = at.ok_or_else(|| format!("xtask: no area {area}: use one of {}", AREAS.join(", ")))?;
            (&AREAS[at..=at], rest)
        }
    };
    let mut command = lanes::tests();
    command.args(areas.iter().flat_map(|area| ["--test", area]));
    run(with(command, rest))
}

fn doc() -> Result<(), String> {
    let mut command = cargo(["doc", "--workspace", "--no-deps", "--locked", "--quiet"]);
    command.env("RUSTDOCFLAGS", "-D warnings");
    run(command)
}

fn deny() -> Result<(), String> {
    // advisories need a database from the network, which CI may not have
    run(cargo(["deny", "check", "licenses", "bans", "sources"]))
}

/// Python with the packages that `.ci/run` installs, or else the one of the machine, to be run in the workspace.
fn python_program() -> Command {
    let python = tools().join("python/bin/python");
    program(if python.is_file() { python.into_os_string() } else { "python3".into() })
}

/// Python, to be run in the folder of the client for Python.
fn client_python(arguments: &[&str]) -> Command {
    let mut command = python_program();
    command.current_dir(root().join("clients/python")).args(arguments);
    command
}

fn python(rest: &[String]) -> Result<(), String> {
    build_vwatch()?;
    let has_mypy = client_python(&["-c", "import mypy"]).stderr(Stdio::null()).status();
    if has_mypy.is_ok_and(|status| status.success()) {
        run(client_python(&["-m", "mypy", "--strict", "vwatch", "tests"]))?;
    } else if std::env::var_os("CI").is_some_and(|ci| ci == "true") {
        return Err("xtask: there is no mypy, which .ci/run installs".to_owned());
    } else {
        println!("SKIPPED: the types, for there is no mypy: `pip install mypy` installs it");
    }
    let mut tests = client_python(&["-m", "tests"]);
    tests.env("VWATCH_BIN", target().join("debug/vwatch"));
    run(with(tests, rest))
}

fn build_vwatch() -> Result<(), String> {
    run(cargo(["build", "--package", "vwatch", "--bin", "vwatch", "--locked"]))
}

fn kubernetes() -> Result<(), String> {
    build_vwatch()?;
    let mut command = python_program();
    command.arg("cluster-tests/kubernetes.py").arg(target().join("debug/vwatch"));
    run(command)
        .map_err(|error| format!("{error}\nIt needs kubernetes-validate from PyPI, which .ci/run installs."))
}

fn schemathesis(rest: &[String]) -> Result<(), String> {
    build_vwatch()?;
    let mut command = python_program();
    command.arg("cluster-tests/schemathesis_run.py").arg(target().join("debug/vwatch"));
    run(with(command, rest))
        .map_err(|error| format!("{error}\nIt needs schemathesis from PyPI, which .ci/run installs."))
}

fn prometheus() -> Result<(), String> {
    build_vwatch()?;
    let mut command = program("python3");
    command.arg("packaging/prometheus-test").arg(target().join("debug/vwatch"));
    run(command)
}

fn package() -> Result<(), String> {
    let mut command = program("bash");
    command.arg("packaging/test");
    run(command)
}

fn sim(rest: &[String]) -> Result<(), String> {
    run(simulator(rest))
}

fn simulator(rest: &[String]) -> Command {
    let default = ["--seeds", "2000", "--each-fault", "--jobs", &processors().to_string()].map(str::to_owned);
    let command =
        cargo(["run", "--profile", "fast", "--package", "cluster-tests", "--locked", "--bin", "sim", "--"]);
    with(command, if rest.is_empty() { &default } else { rest })
}

fn faults(rest: &[String]) -> Result<(), String> {
    run(fault_runs(rest)?)
}

fn fault_runs(rest: &[String]) -> Result<Command, String> {
    let seconds = match rest {
        [] => "60",
        [seconds] if seconds.parse::<u32>().is_ok() => seconds,
        _ => return Err("xtask: faults takes one number, the seconds of each run".to_owned()),
    };
    let mut command =
        cargo(["test", "--workspace", "--locked", "--test", "faults", "--", "--nocapture", "random_faults"]);
    command.env("VWATCH_FAULTS_SECONDS", seconds);
    Ok(command)
}

fn feeds(rest: &[String]) -> Result<(), String> {
    let (form, rest) = match rest.split_first() {
        Some((word, rest)) if word == "streams" => ("watches_by_streams", rest),
        _ => ("watches_keep", rest),
    };
    let (seconds, runs) = match rest {
        [] => ("60", "5"),
        [seconds] => (seconds.as_str(), "5"),
        [seconds, runs] => (seconds.as_str(), runs.as_str()),
        _ => return Err("xtask: feeds takes the seconds of each run, and how many".to_owned()),
    };
    if [seconds, runs].iter().any(|text| text.parse::<u32>().is_err()) {
        return Err("xtask: feeds takes two numbers, the seconds of each run, and how many".to_owned());
    }
    let mut command =
        cargo(["test", "--workspace", "--locked", "--test", "faults", "--", "--nocapture", form]);
    command.env("VWATCH_FEEDS_SECONDS", seconds).env("VWATCH_FEEDS_RUNS", runs);
    run(command)
}

fn disk(rest: &[String]) -> Result<(), String> {
    let kills = match rest {
        [] => "100",
        [kills] if kills.parse::<u32>().is_ok() => kills,
        _ => return Err("xtask: disk takes one number, the kills of each form".to_owned()),
    };
    let test = ["test", "--workspace", "--locked", "--test", "cluster", "--", "--nocapture", "disk::kills"];
    let mut command = cargo(test);
    command.env("VWATCH_DISK_KILLS", kills);
    run(command)
}

fn clients(rest: &[String]) -> Result<(), String> {
    let (seconds, runs) = match rest {
        [] => ("60", "5"),
        [seconds] => (seconds.as_str(), "5"),
        [seconds, runs] => (seconds.as_str(), runs.as_str()),
        _ => return Err("xtask: clients takes the seconds of each run, and how many".to_owned()),
    };
    let program = ["run", "--locked", "--package", "cluster-tests", "--bin", "clients", "--"];
    run(cargo(program.into_iter().chain(["--seconds", seconds, "--runs", runs])))
}

fn browser() -> Result<(), String> {
    let test = ["test", "--workspace", "--locked", "--test", "cluster"];
    // by their modules
    let which = ["--", "--ignored", "--nocapture", "browser::", "page::"];
    run(cargo(test.into_iter().chain(which)))
}

/// The simulator and the fuzz targets need the processors, and the fault runs mostly time.
fn long() -> Result<(), String> {
    let path = target().join("faults.log");
    let log = |error| format!("xtask: {}: {error}", path.display());
    let mut faults = fault_runs(&[])?;
    let file = File::create(&path).map_err(log)?;
    faults.stdout(file.try_clone().map_err(log)?).stderr(file);
    println!("$ {} >{} &", shown(&faults), path.display());
    let mut running =
        faults.spawn().map_err(|error| format!("xtask: cannot run {}: {error}", shown(&faults)))?;
    let others = sim(&[]).and_then(|()| fuzz::run(&[]));
    let faulted = ended(&faults, running.wait());
    others?;
    let text = std::fs::read_to_string(&path).map_err(log)?;
    match faulted {
        Ok(()) => {
            text.lines().filter(|line| line.contains("ready and agreed")).for_each(|line| println!("{line}"));
            Ok(())
        }
        Err(error) => {
            let lines: Vec<_> = text.lines().collect();
            lines[lines.len().saturating_sub(200)..].iter().for_each(|line| println!("{line}"));
            Err(error)
        }
    }
}

fn bench(rest: &[String]) -> Result<(), String> {
    let mut command = cargo(["bench", "--package", "bench", "--locked"]);
    match rest.split_first() {
        None => run(command),
        Some((name, rest)) if root().join(format!("bench/benches/{name}.rs")).is_file() => {
            command.args(["--bench", name]);
            if !rest.is_empty() {
                command.arg("--");
            }
            run(with(command, rest))
        }
        Some((name, _)) => Err(format!("xtask: no benchmark {name}: bench/README.md lists them")),
    }
}

fn with(mut command: Command, rest: &[String]) -> Command {
    command.args(rest);
    command
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_crate_of_a_server_is_found_by_its_whole_name() {
        let tree = "vwatch v0.1.0 (/src)\nhyper v1.12.0\nclap-sys v1.0.0\naxum v0.8.9\nh2 v0.4.1 (*)\n";
        assert_eq!(crates_among(tree, &OF_A_SERVER), ["axum", "h2"]);
        assert!(crates_among("vwatch v0.1.0\nhyper v1.12.0\n", &OF_A_SERVER).is_empty());
    }
}
