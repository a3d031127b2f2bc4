//! The fuzz targets: built once, and run two at a time.

use std::fs::File;
use std::path::Path;
use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::command::{cargo, ended, root, run as run_command, target};

/// The folder of the fuzz targets, in the workspace.
const FOLDER: &str = "cluster-tests/fuzz";

/// Targets that run at the same time.
const AT_ONCE: usize = 2;

/// Lines of a failed target's output that are shown.
const SHOWN_LINES: usize = 40;

/// Fuzzes each target for 10 s, or for the seconds in the first argument, starting with the kept corpus. New inputs
/// stay in `target/fuzz-corpus`; `cargo fuzz cmin` makes a small corpus of them to keep.
pub(crate) fn run(rest: &[String]) -> Result<(), String> {
    let seconds = match rest {
        [] => 10,
        [seconds] => seconds.parse().map_err(|_| format!("xtask: {seconds} is not a number of seconds"))?,
        _ => return Err("xtask: fuzz takes one number, the seconds of each target".to_owned()),
    };
    let mut targets = targets()?;
    targets.sort();
    run_command(cargo_fuzz("build"))?;
    let next = AtomicUsize::new(0);
    let failures = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                while let Some(name) = targets.get(next.fetch_add(1, Ordering::Relaxed)) {
                    match fuzz(name, seconds) {
                        Ok(inputs) => println!("{name}: {inputs} inputs in {seconds} s"),
                        Err(failure) => failures.lock().expect("no thread panics").push(failure),
                    }
                }
            });
        }
    });
    let failures = failures.into_inner().expect("no thread panicked");
    if failures.is_empty() { Ok(()) } else { Err(failures.join("\n")) }
}

fn targets() -> Result<Vec<String>, String> {
    let folder = root().join(FOLDER).join("fuzz_targets");
    let entries =
        std::fs::read_dir(&folder).map_err(|error| format!("xtask: {}: {error}", folder.display()))?;
    let stem = |path: &Path| path.file_stem().and_then(|stem| stem.to_str()).map(str::to_owned);
    Ok(entries.filter_map(|entry| stem(&entry.ok()?.path())).collect())
}

/// `cargo fuzz` with a subcommand. The stable compiler is enough: there is no unsafe code of ours for a sanitizer to
/// check. In several units the targets are built by all processors; unless told so, `cargo fuzz` builds one.
fn cargo_fuzz(subcommand: &str) -> Command {
    let plain = ["--fuzz-dir", FOLDER, "--sanitizer", "none", "--codegen-units", "16"];
    let mut command = cargo(["fuzz", subcommand].into_iter().chain(plain));
    command.env("RUSTC_BOOTSTRAP", "1");
    command
}

/// Fuzzes one target, and returns the number of inputs, or the end of its output if it fails.
fn fuzz(name: &str, seconds: u32) -> Result<String, String> {
    let corpus = target().join("fuzz-corpus");
    let found = corpus.join(name);
    let path = corpus.join(format!("{name}.log"));
    let failed = |error| format!("xtask: {}: {error}", path.display());
    std::fs::create_dir_all(&found).map_err(failed)?;
    let log = File::create(&path).map_err(failed)?;
    let mut command = cargo_fuzz("run");
    command.arg(name).arg(&found).arg(root().join(FOLDER).join("corpus").join(name)).arg("--");
    command.arg(format!("-max_total_time={seconds}"));
    command.args(["-rss_limit_mb=2048", "-timeout=10", "-print_final_stats=1"]);
    command.stdout(log.try_clone().map_err(failed)?).stderr(log);
    let status = command.status();
    let text = String::from_utf8_lossy(&std::fs::read(&path).map_err(failed)?).into_owned();
    if let Err(error) = ended(&command, status) {
        let lines: Vec<_> = text.lines().collect();
        let last = &lines[lines.len().saturating_sub(SHOWN_LINES)..];
        return Err(format!("{}\n{error}", last.join("\n")));
    }
    let units = text.lines().find_map(|line| line.strip_prefix("stat::number_of_executed_units:"));
    Ok(units.map_or_else(|| "no number of".to_owned(), |units| units.trim().to_owned()))
}
