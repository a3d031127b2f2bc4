//! Runs the command of a user again and again, or once, and ends it with this process.

mod attached;
mod group;

use std::convert::Infallible;
use std::ffi::{OsStr, OsString};
use std::io::{self, ErrorKind};
use std::os::unix::process::ExitStatusExt;
use std::process::{ChildStdin, Command, ExitStatus, Stdio};

use hyper::body::Bytes;
use rustix::process::Signal;
use tokio::io::AsyncWriteExt;

use super::failure::{Failure, complain};
use super::stop::{Stop, number};
pub(super) use attached::Attached;
use group::CommandGroup;

/// Exit codes of shells for a command that does not exist, or cannot be executed.
const NOT_FOUND: u8 = 127;
const NOT_EXECUTABLE: u8 = 126;

/// A command to run.
pub(super) struct Runner<'a> {
    program: &'a OsString,
    arguments: &'a [OsString],
    /// It stays in the process group of this process.
    foreground: bool,
    /// The namespace of the names; empty for plain ones.
    namespace: &'a str,
    /// What goes on after a failure.
    work: &'static str,
    has_started: bool,
    /// The exit code of the first run that failed.
    failed: Option<u8>,
}

/// What one run of the command gets.
#[derive(Clone, Debug, Default)]
pub(super) struct RunInput {
    /// Variables of its environment. Each begins with `VWATCH_`.
    pub(super) variables: Vec<(&'static str, String)>,
    /// Its standard input.
    pub(super) data: Bytes,
}

impl<'a> Runner<'a> {
    /// A runner for a command with at least the program. Its names are in `namespace`, and `work` goes on after a
    /// failure.
    pub(super) fn new(
        command: &'a [OsString],
        foreground: bool,
        namespace: &'a str,
        work: &'static str,
    ) -> Self {
        let (program, arguments) = command.split_first().expect("asked for only with a command");
        Self { program, arguments, foreground, namespace, work, has_started: false, failed: None }
    }

    /// The result of all runs.
    ///
    /// # Errors
    /// The exit code of the first run that failed, if one has.
    pub(super) fn outcome(&self) -> Result<(), Failure> {
        self.failed.map_or(Ok(()), |code| Err(Failure::Command { code, line: None }))
    }

    /// Runs the command to its end, and returns whether it succeeded. Reports a failure and keeps it for
    /// [`Runner::outcome`].
    ///
    /// # Errors
    /// A signal, after the command has ended too. Also a command that cannot be started and never was: its name is most
    /// likely wrong. After a first run it may be missing for a moment, while a new one is installed.
    pub(super) async fn run(
        &mut self,
        input: &RunInput,
        is_last: bool,
        stop: &mut Stop,
    ) -> Result<bool, Failure> {
        let (mut group, pipe) = match self.start(input, stop.owns_children()) {
            Ok(started) => started,
            Err(error) if !self.has_started => return Err(never_started(self.program, &error)),
            Err(error) => {
                self.fail(start_code(&error), &format!("cannot run it: {error}"), is_last);
                return Ok(false);
            }
        };
        self.has_started = true;
        let ended = tokio::select! {
            biased;
            which = stop.signal() => Err(which),
            // the end of the command counts, even if it has not read all: a child of it may hold the pipe
            status = group.wait(|which| self.wants_the_terminal(which)) => Ok(status),
            never = self.feed(pipe, &input.data) => match never {},
        };
        match ended {
            Ok(Ok(status)) if status.success() => return Ok(true),
            Ok(Ok(status)) => self.fail(exit_code(status), &status.to_string(), is_last),
            Ok(Err(error)) => self.fail(1, &format!("cannot wait for it: {error}"), is_last),
            Err(which) => {
                group.end(stop).await;
                return Err(Failure::Signal(number(which)));
            }
        }
        Ok(false)
    }

    /// Writes the data and closes the pipe; never completes.
    async fn feed(&self, input: Option<ChildStdin>, data: &[u8]) -> Infallible {
        if let Some(input) = input
            && let Err(error) = write(input, data).await
        {
            complain(&format!("{}: cannot write to it: {error}", self.program.display()));
        }
        std::future::pending().await
    }

    fn start(&self, input: &RunInput, reaps_all: bool) -> io::Result<(CommandGroup, Option<ChildStdin>)> {
        let mut command = Command::new(self.program);
        // a command that this one runs may be run by another one
        let own = ["VWATCH_NAME", "VWATCH_VERSION", "VWATCH_LAST_SYNC", "VWATCH_DELETED", "VWATCH_CURSOR"];
        for variable in own {
            command.env_remove(variable);
        }
        command
            .args(self.arguments)
            .env("VWATCH_NAMESPACE", self.namespace)
            .envs(input.variables.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::piped());
        CommandGroup::start(&mut command, !self.foreground, reaps_all)
    }

    fn fail(&mut self, code: u8, what: &str, is_last: bool) {
        self.failed.get_or_insert(code);
        let program = self.program.display();
        match is_last {
            true => complain(&format!("{program}: {what}")),
            false => complain(&format!("{program}: {what}: {} goes on", self.work)),
        }
    }

    fn wants_the_terminal(&self, which: Signal) {
        wants_the_terminal(self.program, which);
    }
}

/// Reports a signal that stops a program because it is not in the foreground.
fn wants_the_terminal(program: &OsStr, which: Signal) {
    if [Signal::TTIN, Signal::TTOU].contains(&which) {
        let program = program.display();
        complain(&format!("{program}: it is stopped, for it wants the terminal: use --foreground"));
    }
}

/// The failure of a command that cannot be started.
fn never_started(program: &OsStr, error: &io::Error) -> Failure {
    let why = match error.kind() {
        ErrorKind::NotFound => "no such command, or its interpreter is missing: name one that is there",
        ErrorKind::PermissionDenied => "it may not be executed: name a command, or try chmod +x",
        _ => "the system refuses it: name another command",
    };
    let line = format!("{}: cannot run it: {error}: {why}", program.display());
    Failure::Command { code: start_code(error), line: Some(line) }
}

async fn write(input: ChildStdin, data: &[u8]) -> io::Result<()> {
    let mut input = tokio::process::ChildStdin::from_std(input)?;
    match input.write_all(data).await {
        // the command need not read its input
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        written => written,
    }
}

fn start_code(error: &io::Error) -> u8 {
    if error.kind() == ErrorKind::NotFound { NOT_FOUND } else { NOT_EXECUTABLE }
}

/// The exit code that a shell reports for a command.
fn exit_code(status: ExitStatus) -> u8 {
    let signalled = || status.signal().map(|which| 128 + which);
    status.code().or_else(signalled).and_then(|code| u8::try_from(code).ok()).unwrap_or(1)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn input(version: &str, data: &[u8]) -> RunInput {
        let variables = vec![("VWATCH_NAME", "a/b".to_owned()), ("VWATCH_VERSION", version.to_owned())];
        RunInput { variables, data: Bytes::copy_from_slice(data) }
    }

    /// The exit code of a run that failed.
    async fn run(script: &str, input: &RunInput) -> Option<u8> {
        let command = ["sh", "-c", script].map(OsString::from);
        let mut runner = Runner::new(&command, false, "team", "it");
        let done = runner.run(input, true, &mut Stop::default()).await.unwrap();
        assert_eq!(done, runner.failed.is_none());
        runner.failed
    }

    fn scratch(name: &str) -> std::path::PathBuf {
        std::env::temp_dir().join(format!("vwatch-test-{}-{name}", std::process::id()))
    }

    #[tokio::test]
    async fn a_command_gets_its_input() {
        let out = scratch("input");
        let script = format!(
            "{{ echo \"$VWATCH_NAME $VWATCH_VERSION $VWATCH_NAMESPACE [$VWATCH_DELETED]\"; cat; }} > '{}'",
            out.display()
        );
        assert_eq!(run(&script, &input("v1", b"data")).await, None);
        assert_eq!(std::fs::read_to_string(&out).unwrap(), "a/b v1 team []\ndata");
        assert_eq!(run(&script, &RunInput::default()).await, None);
        assert_eq!(std::fs::read_to_string(&out).unwrap(), "  team []\n");
        std::fs::remove_file(out).unwrap();
    }

    #[tokio::test]
    async fn a_command_need_not_read() {
        let large = vec![b'x'; 1 << 20];
        assert_eq!(run("exit 0", &input("v", &large)).await, None);
        // its child keeps the pipe open and reads nothing
        assert_eq!(run("sleep 5 & exit 0", &input("v", &large)).await, None);
    }

    #[tokio::test]
    async fn the_first_failure_is_kept_as_a_shell_reports_it() {
        assert_eq!(run("exit 3", &input("v", b"")).await, Some(3));
        assert_eq!(run("kill -9 $$", &input("v", b"")).await, Some(137));
        let command = ["sh", "-c", "exit $VWATCH_VERSION"].map(OsString::from);
        let mut runner = Runner::new(&command, false, "", "it");
        for version in ["0", "7", "8", "0"] {
            runner.run(&input(version, b""), false, &mut Stop::default()).await.unwrap();
        }
        assert_eq!(runner.failed, Some(7));
    }

    #[tokio::test]
    async fn a_command_must_be_there_the_first_time() {
        let (input, mut stop) = (input("v", b""), Stop::default());
        for (program, code, why) in
            [("/nonexistent/command", 127, "no such command"), ("/etc/passwd", 126, "chmod +x")]
        {
            let command = [OsString::from(program)];
            let failure =
                Runner::new(&command, false, "", "it").run(&input, false, &mut stop).await.unwrap_err();
            let Failure::Command { code: got, line: Some(line) } = failure else { panic!("{failure:?}") };
            assert!(got == code && line.contains(why), "{got}: {line}");
        }
        let link = scratch("link");
        std::os::unix::fs::symlink("/bin/true", &link).unwrap();
        let command = [link.clone().into_os_string()];
        let mut runner = Runner::new(&command, false, "", "it");
        runner.run(&input, false, &mut stop).await.unwrap();
        std::fs::remove_file(link).unwrap();
        runner.run(&input, false, &mut stop).await.unwrap();
        assert_eq!(runner.failed, Some(127), "it is away");
    }

    /// A child of the command, and one that ignores SIGTERM, end with the group.
    #[tokio::test]
    async fn the_end_reaches_all_that_a_command_started() {
        let mut command = Command::new("sh");
        command.args(["-c", "sleep 300 & (trap '' TERM; sleep 301) & wait"]);
        let (mut group, _) = CommandGroup::start(&mut command, true, false).unwrap();
        let leader = group.leader();
        let mut stop = Stop::default();
        let ended = group.end(&mut stop);
        tokio::time::timeout(Duration::from_secs(20), ended).await.expect("it is bounded");
        // what ended is there until the first process of the system has taken note of it
        let is_left = || rustix::process::test_kill_process_group(leader).is_ok();
        let gone = async {
            while is_left() {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(60), gone).await.expect("nothing is left of it");
    }
}
