//! Runs the command of a user once, as if it was run without this process.

use std::ffi::{OsStr, OsString};
use std::process::{Command, Stdio};

use rustix::process::Signal;

use super::group::CommandGroup;
use super::{exit_code, never_started, wants_the_terminal};
use crate::cli::failure::Failure;

/// A running command that has standard input of this process.
pub(in crate::cli) struct Attached<'a> {
    program: &'a OsStr,
    group: CommandGroup,
    foreground: bool,
}

impl<'a> Attached<'a> {
    /// Starts a command with at least the program, in a process group of its own unless it stays in the `foreground`.
    /// `reaps_all`: no other child of this process is waited for elsewhere.
    ///
    /// # Errors
    /// If it cannot be started.
    pub(in crate::cli) fn start(
        command: &'a [OsString],
        foreground: bool,
        variables: Vec<(&'static str, String)>,
        reaps_all: bool,
    ) -> Result<Self, Failure> {
        let (program, arguments) = command.split_first().expect("asked for only with a command");
        let mut command = Command::new(program);
        command.args(arguments).envs(variables).stdin(Stdio::inherit());
        match CommandGroup::start(&mut command, !foreground, reaps_all) {
            Ok((group, _)) => Ok(Self { program, group, foreground }),
            Err(error) => Err(never_started(program, &error)),
        }
    }

    /// Waits for its end, and returns its exit code as a shell reports it. A caller may drop the future.
    ///
    /// # Errors
    /// If the system does not report how it ended.
    pub(in crate::cli) async fn wait(&mut self) -> Result<u8, Failure> {
        let program = self.program;
        let status = self.group.wait(|which| wants_the_terminal(program, which)).await;
        status
            .map(exit_code)
            .map_err(|error| Failure::Failed(format!("{}: cannot wait for it: {error}", program.display())))
    }

    /// Passes a signal of this process on. In the foreground the terminal has sent SIGINT to the command too.
    pub(in crate::cli) fn pass(&self, which: Signal) {
        if !(self.foreground && which == Signal::INT) {
            self.group.pass(which);
        }
    }

    /// Ends it with all of its group: SIGTERM, and SIGKILL as soon as `late` completes.
    pub(in crate::cli) async fn end_unless(&mut self, late: impl Future<Output = ()>) {
        self.group.end_unless(late).await;
    }
}
