//! How a command ends when it does not end well: one line on standard error and an exit code that scripts can rely on.

use std::io::{self, Write};
use std::process::ExitCode;

/// Longest line that is printed, in characters: what a server or a proxy sends is not ours to bound otherwise.
const MAX_LINE_CHARS: usize = 2000;

/// Why a command did not do what it was asked.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Failure {
    /// The command line, a setting or an address cannot be taken.
    Usage(String),
    /// Unreachable, refused, or anything without a code of its own.
    Failed(String),
    /// No such name, or it is deleted.
    Missing(String),
    /// A newer write stands.
    Lost(String),
    /// Nobody reads our output any more. Not a failure: `vwatch ls | head` is fine.
    ClosedPipe,
    /// A command that was run for us failed, with this exit code. A line only where it could not say why itself.
    Command {
        /// Its exit code.
        code: u8,
        /// What to tell.
        line: Option<String>,
    },
    /// Ended by this signal.
    Signal(u8),
}

impl Failure {
    /// What to tell, if anything.
    pub(super) fn line(&self) -> Option<&str> {
        match self {
            Self::Usage(line) | Self::Failed(line) | Self::Missing(line) | Self::Lost(line) => Some(line),
            Self::Command { line, .. } => line.as_deref(),
            Self::ClosedPipe | Self::Signal(_) => None,
        }
    }

    pub(super) fn exit_code(&self) -> ExitCode {
        ExitCode::from(match self {
            Self::ClosedPipe => 0,
            Self::Failed(_) => 1,
            Self::Usage(_) => 2,
            Self::Missing(_) => 4,
            Self::Lost(_) => 5,
            Self::Command { code, .. } => *code,
            Self::Signal(number) => 128 + number,
        })
    }
}

/// Only what is written to standard output fails with a bare `io::Error` here.
impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::BrokenPipe => Self::ClosedPipe,
            _ => Self::Failed(format!("cannot write to standard output: {error}")),
        }
    }
}

/// One line on standard error. That it may be closed changes nothing.
pub(super) fn complain(line: &str) {
    tell(&format!("vwatch: {line}"));
}

/// The same for what is no complaint.
pub(super) fn tell(line: &str) {
    let _ = writeln!(io::stderr().lock(), "{}", printable(line));
}

/// One line without control characters, so that nothing from outside moves the cursor of a terminal.
fn printable(line: &str) -> String {
    line.trim().chars().take(MAX_LINE_CHARS).map(|c| if c.is_control() { ' ' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_stays_one_line() {
        assert_eq!(printable("no\nsuch \u{1b}[2Jname\r\n"), "no such  [2Jname");
        assert_eq!(printable(&"x".repeat(100_000)).len(), MAX_LINE_CHARS);
    }

    #[test]
    fn a_closed_pipe_is_no_failure() {
        assert_eq!(Failure::from(io::Error::from(io::ErrorKind::BrokenPipe)), Failure::ClosedPipe);
        assert!(matches!(Failure::from(io::Error::from(io::ErrorKind::StorageFull)), Failure::Failed(_)));
    }
}
