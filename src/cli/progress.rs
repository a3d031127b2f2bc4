//! How far long work has come, for people at a terminal, and what failed of it.

use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

use super::failure::{Failure, complain, tell};
use crate::wire::text::Escaped;

/// Time between two lines of progress.
const EVERY: Duration = Duration::from_millis(500);

/// Most failures that are printed, each with a line. All are counted.
const MAX_TOLD: u64 = 100;

/// A line on standard error that is replaced in its place, if that is a terminal.
pub(super) struct Progress {
    is_shown: bool,
    shown_at: Instant,
    is_on_the_line: bool,
}

impl Progress {
    /// None is shown yet. A terminal that cannot erase a line, and a file, get none.
    pub(super) fn new() -> Self {
        let is_dumb = std::env::var_os("TERM").is_none_or(|term| term == "dumb");
        let is_shown = std::io::stderr().is_terminal() && !is_dumb;
        Self { is_shown, shown_at: Instant::now(), is_on_the_line: false }
    }

    /// Shows a line, if the last one has been there for a while.
    pub(super) fn at(&mut self, line: impl FnOnce() -> String) {
        if !self.is_shown || self.shown_at.elapsed() < EVERY {
            return;
        }
        self.shown_at = Instant::now();
        self.is_on_the_line = true;
        let mut out = std::io::stderr().lock();
        // standard error may be closed: then there is no progress to see
        let _ = write!(out, "\r{}\u{1b}[K", Escaped(&line())).and_then(|()| out.flush());
    }

    /// Takes the line away, before another one is printed and at the end.
    pub(super) fn clear(&mut self) {
        if std::mem::take(&mut self.is_on_the_line) {
            let mut out = std::io::stderr().lock();
            let _ = write!(out, "\r\u{1b}[K").and_then(|()| out.flush());
        }
    }

    /// Prints a line about the whole work, for people at a terminal.
    pub(super) fn ends(&mut self, line: &str) {
        self.clear();
        if self.is_shown {
            tell(line);
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.clear();
    }
}

/// The failures of many items: the first ones are printed, all are counted.
#[derive(Default)]
pub(super) struct Failures {
    count: u64,
    /// The exit code of the first one.
    code: Option<u8>,
}

impl Failures {
    /// Prints a failure, and counts it.
    pub(super) fn note(&mut self, line: &str, code: u8, progress: &mut Progress) {
        self.count += 1;
        self.code.get_or_insert(code);
        if self.count <= MAX_TOLD {
            progress.clear();
            complain(line);
        }
        if self.count == MAX_TOLD {
            complain("further failures are counted, and not printed");
        }
    }

    /// How many there were.
    pub(super) fn count(&self) -> u64 {
        self.count
    }

    /// The outcome of the whole work, with the exit code of the first failure.
    pub(super) fn outcome(&self) -> Result<(), Failure> {
        self.code.map_or(Ok(()), |code| Err(Failure::Told(code)))
    }
}

/// A count with commas between thousands.
pub(super) fn grouped(count: u64) -> String {
    let digits = count.to_string();
    let mut shown = String::with_capacity(digits.len() * 4 / 3);
    for (at, digit) in digits.char_indices() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            shown.push(',');
        }
        shown.push(digit);
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_readable() {
        for (count, shown) in [(0, "0"), (999, "999"), (1_000, "1,000"), (1_234_567, "1,234,567")] {
            assert_eq!(grouped(count), shown);
        }
    }

    #[test]
    fn the_first_failure_is_the_exit_code() {
        let (mut failures, mut progress) = (Failures::default(), Progress::new());
        assert_eq!(failures.outcome(), Ok(()));
        failures.note("a", 5, &mut progress);
        failures.note("b", 1, &mut progress);
        assert_eq!((failures.count(), failures.outcome()), (2, Err(Failure::Told(5))));
    }
}
