//! The failures of commands: one line on standard error, and an exit code for scripts.

use std::io::{self, Write};
use std::process::ExitCode;

use crate::wire::text::Escaped;

/// Longest line that is printed, in characters: a server or a proxy may send any length.
const MAX_LINE_CHARS: usize = 2000;

/// Exit code for a wrong command line or setting.
pub(super) const USAGE: u8 = 2;
/// Exit code for a lease that is lost. It and that of [`HELD`] are apart from those that commands usually have, so that
/// `vwatch lock` can return the code of its command.
pub(super) const LEASE_LOST: u8 = 75;
/// Exit code where another lease stands in the way.
pub(super) const HELD: u8 = 76;

/// Why a command failed.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Failure {
    /// The command line, a setting or an address is invalid.
    Usage(String),
    /// The node is unreachable or rejects the request, or any failure without an exit code of its own.
    Failed(String),
    /// No such name, or it is deleted.
    Missing(String),
    /// A newer write stands.
    Lost(String),
    /// The lease is lost, or is none that the request needs.
    LeaseLost(String),
    /// Another lease stands in the way.
    Held(String),
    /// The version is still the known one.
    Unchanged,
    /// The failure is printed already. Has the exit code.
    Told(u8),
    /// A write was sent, and its result is unknown.
    InDoubt(String),
    /// The reader of standard output is gone. This is no failure: `vwatch ls | head` is fine.
    ClosedPipe,
    /// A command that `watch` ran failed. It has a line only if the command could not print one itself.
    Command {
        /// Its exit code.
        code: u8,
        /// The line to print.
        line: Option<String>,
    },
    /// Ended by this signal.
    Signal(u8),
}

impl Failure {
    /// The line to print, if any.
    pub(super) fn line(&self) -> Option<&str> {
        match self {
            Self::Usage(line)
            | Self::Failed(line)
            | Self::Missing(line)
            | Self::Lost(line)
            | Self::LeaseLost(line)
            | Self::Held(line)
            | Self::InDoubt(line) => Some(line),
            Self::Command { line, .. } => line.as_deref(),
            Self::Unchanged | Self::Told(_) | Self::ClosedPipe | Self::Signal(_) => None,
        }
    }

    /// Whether the same may work for another name.
    pub(super) fn is_about_one_name(&self) -> bool {
        matches!(self, Self::Missing(_) | Self::Lost(_) | Self::LeaseLost(_) | Self::Held(_))
    }

    pub(super) fn exit_code(&self) -> ExitCode {
        ExitCode::from(self.code())
    }

    pub(super) fn code(&self) -> u8 {
        match self {
            Self::ClosedPipe => 0,
            Self::Failed(_) => 1,
            Self::Usage(_) => USAGE,
            Self::Unchanged => 3,
            Self::Told(code) => *code,
            Self::Missing(_) => 4,
            Self::Lost(_) => 5,
            Self::InDoubt(_) => 6,
            Self::LeaseLost(_) => LEASE_LOST,
            Self::Held(_) => HELD,
            Self::Command { code, .. } => *code,
            Self::Signal(number) => 128 + number,
        }
    }
}

/// Only writes to standard output fail with a bare `io::Error` here.
impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::BrokenPipe => Self::ClosedPipe,
            _ => Self::Failed(format!("cannot write to standard output: {error}")),
        }
    }
}

/// Runs `work` for several names, one after the other. With one name, its failure is returned. With several, each
/// failure is printed, and the code of the first is returned. A failure that is not about a name ends the loop.
pub(super) async fn each(
    names: &[String],
    mut work: impl AsyncFnMut(&str) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let mut outcome = Ok(());
    for name in names {
        match work(name).await {
            Ok(()) => {}
            Err(failure) if names.len() > 1 && failure.is_about_one_name() => {
                failure.line().into_iter().for_each(complain);
                outcome = outcome.and(Err(Failure::Told(failure.code())));
            }
            Err(failure) => return Err(failure),
        }
    }
    outcome
}

/// Prints a failure or a warning as one line on standard error, if that is open.
pub(super) fn complain(line: &str) {
    tell(&format!("vwatch: {line}"));
}

/// Prints a message as one line on standard error, if that is open.
pub(super) fn tell(line: &str) {
    let _ = writeln!(io::stderr().lock(), "{}", printable(line));
}

/// One line with control characters escaped, so that nothing from outside moves the cursor of a terminal.
fn printable(line: &str) -> String {
    let line = line.trim();
    let end = line.char_indices().nth(MAX_LINE_CHARS).map_or(line.len(), |(at, _)| at);
    Escaped(&line[..end]).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_stays_one_line() {
        assert_eq!(printable("no\nsuch \u{1b}[2J\u{9b}name\r\n"), r"no\nsuch \u{1b}[2J\u{9b}name");
        assert_eq!(printable(&"x".repeat(100_000)).len(), MAX_LINE_CHARS);
    }

    #[tokio::test]
    async fn of_several_names_the_first_failure_is_the_exit_code() {
        let names = ["a", "b", "c"].map(str::to_owned);
        let mut done = Vec::new();
        let outcome = each(&names, async |name| {
            done.push(name.to_owned());
            match name {
                "a" => Ok(()),
                "b" => Err(Failure::Missing("b".to_owned())),
                _ => Err(Failure::Lost("c".to_owned())),
            }
        });
        assert_eq!(outcome.await, Err(Failure::Told(4)));
        assert_eq!(done, names);
        let unreachable = || Failure::Failed("x".to_owned());
        assert_eq!(each(&names, async |_| Err(unreachable())).await, Err(unreachable()));
        assert_eq!(
            each(&names[..1], async |_| Err(Failure::Missing("a".into()))).await.unwrap_err().line(),
            Some("a")
        );
    }

    #[test]
    fn a_closed_pipe_is_no_failure() {
        assert_eq!(Failure::from(io::Error::from(io::ErrorKind::BrokenPipe)), Failure::ClosedPipe);
        assert!(matches!(Failure::from(io::Error::from(io::ErrorKind::StorageFull)), Failure::Failed(_)));
    }
}
