//! How a command ends when it does not end well: one line on standard error and an exit code that scripts can rely on.

use std::io::{self, Write};
use std::process::ExitCode;

use crate::wire::text::Escaped;

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
    /// The version is still the one that was known.
    Unchanged,
    /// What went wrong is told already; this is the exit code.
    Told(u8),
    /// A write was sent, and it is not known whether it was done.
    InDoubt(String),
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
            Self::Usage(line)
            | Self::Failed(line)
            | Self::Missing(line)
            | Self::Lost(line)
            | Self::InDoubt(line) => Some(line),
            Self::Command { line, .. } => line.as_deref(),
            Self::Unchanged | Self::Told(_) | Self::ClosedPipe | Self::Signal(_) => None,
        }
    }

    pub(super) fn exit_code(&self) -> ExitCode {
        ExitCode::from(self.code())
    }

    pub(super) fn code(&self) -> u8 {
        match self {
            Self::ClosedPipe => 0,
            Self::Failed(_) => 1,
            Self::Usage(_) => 2,
            Self::Unchanged => 3,
            Self::Told(code) => *code,
            Self::Missing(_) => 4,
            Self::Lost(_) => 5,
            Self::InDoubt(_) => 6,
            Self::Command { code, .. } => *code,
            Self::Signal(number) => 128 + number,
        }
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

/// Does the same for several names, one after the other. Of one name, its failure is returned; of several each one is told,
/// and the code of the first is returned. What is not about a name ends it.
pub(super) async fn each(
    names: &[String],
    mut work: impl AsyncFnMut(&str) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let mut outcome = Ok(());
    for name in names {
        match work(name).await {
            Ok(()) => {}
            Err(failure) if names.len() > 1 && matches!(failure, Failure::Missing(_) | Failure::Lost(_)) => {
                failure.line().into_iter().for_each(complain);
                outcome = outcome.and(Err(Failure::Told(failure.code())));
            }
            Err(failure) => return Err(failure),
        }
    }
    outcome
}

/// One line on standard error. That it may be closed changes nothing.
pub(super) fn complain(line: &str) {
    tell(&format!("vwatch: {line}"));
}

/// The same for what is no complaint.
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
