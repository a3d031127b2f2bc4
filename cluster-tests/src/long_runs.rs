//! What the programs of long runs have in common: options that are numbers, and a line for each seed.

use std::panic::{RefUnwindSafe, catch_unwind};
use std::process::ExitCode;
use std::time::Instant;

/// Reads the options of the command line, each a name and a number. `flags` are those without a number, which the
/// caller reads.
///
/// # Errors
/// The usage for an option that there is not, and one line for a number that is none.
pub fn read_options(usage: &str, flags: &[&str], options: &mut [(&str, &mut u64)]) -> Result<(), String> {
    let words = std::env::args().skip(1).filter(|word| !flags.contains(&word.as_str()));
    read(words, usage, options)
}

fn read(
    mut words: impl Iterator<Item = String>,
    usage: &str,
    options: &mut [(&str, &mut u64)],
) -> Result<(), String> {
    while let Some(word) = words.next() {
        let option = options.iter_mut().find(|(name, _)| *name == word);
        let (_, place) = option.ok_or_else(|| usage.to_owned())?;
        let text = words.next().ok_or(format!("{word} needs a number"))?;
        **place = text.parse().map_err(|_| format!("{word}: {text} is not a number"))?;
    }
    Ok(())
}

/// Runs so many seeds, from the first one on, and prints a summary. `run` prints its line, and returns whether all was
/// in order. One that panics prints its fault itself, with the logs of all nodes.
pub fn run_seeds(first: u64, runs: u64, run: impl Fn(u64) -> bool + RefUnwindSafe) -> ExitCode {
    let started = Instant::now();
    let mut failed = Vec::new();
    for seed in first..first.saturating_add(runs) {
        let is_good = catch_unwind(|| run(seed)).unwrap_or_else(|_| {
            println!("seed {seed}: FAILED");
            false
        });
        failed.extend((!is_good).then_some(seed));
    }
    let minutes = started.elapsed().as_secs_f64() / 60.0;
    println!("{runs} runs in {minutes:.1} min, failed: {failed:?}");
    if failed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Tells what is wrong with the command line.
#[must_use]
pub fn refuse(error: &str) -> ExitCode {
    eprintln!("{error}");
    ExitCode::from(2)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_numbers() {
        let (mut one, mut two) = (1, 2);
        let mut parse = |line: &str| {
            let words = line.split_whitespace().map(str::to_owned);
            let read = read(words, "usage", &mut [("--one", &mut one), ("--two", &mut two)]);
            read.map(|()| (one, two))
        };
        assert_eq!(parse("--two 7"), Ok((1, 7)));
        assert_eq!(parse("--one 3 --two 4"), Ok((3, 4)));
        assert_eq!(parse("--one"), Err("--one needs a number".to_owned()));
        assert_eq!(parse("--one x"), Err("--one: x is not a number".to_owned()));
        assert_eq!(parse("--other 1"), Err("usage".to_owned()));
    }

    #[test]
    fn one_that_fails_or_panics_fails_all() {
        assert_eq!(run_seeds(1, 3, |_| true), ExitCode::SUCCESS);
        assert_eq!(run_seeds(1, 3, |seed| seed != 2), ExitCode::FAILURE);
        assert_eq!(
            run_seeds(1, 3, |seed| seed != 2 || panic!("a test of a run that panics")),
            ExitCode::FAILURE
        );
    }
}
