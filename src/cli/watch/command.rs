//! Runs a command at a change, and ends it with the watch.

use std::convert::Infallible;
use std::ffi::OsString;
use std::io::{self, ErrorKind};
use std::os::unix::process::ExitStatusExt;
use std::process::{ChildStdin, Command, ExitStatus, Stdio};

use rustix::process::Signal;
use tokio::io::AsyncWriteExt;

use super::super::failure::{Failure, complain};
use super::super::stop::{Stop, number};
use super::group::CommandGroup;
use super::state::Change;

/// Exit codes of shells for a command that does not exist, or cannot be executed.
const NOT_FOUND: u8 = 127;
const NOT_EXECUTABLE: u8 = 126;

/// A command to run.
pub(super) struct Runner<'a> {
    program: &'a OsString,
    arguments: &'a [OsString],
    /// It stays in the process group of the watch.
    foreground: bool,
    /// The namespace of the name; empty for a plain one.
    namespace: &'a str,
    has_started: bool,
    /// The exit code of the first run that failed.
    failed: Option<u8>,
}

impl<'a> Runner<'a> {
    /// A runner for a command with at least the program.
    pub(super) fn new(command: &'a [OsString], foreground: bool) -> Self {
        let (program, arguments) = command.split_first().expect("asked for only with a command");
        Self { program, arguments, foreground, namespace: "", has_started: false, failed: None }
    }

    /// Tells the command the namespace of the name.
    pub(super) fn within(self, namespace: &'a str) -> Self {
        Self { namespace, ..self }
    }

    /// The exit code of the first run that failed, if one has.
    pub(super) fn failed(&self) -> Option<u8> {
        self.failed
    }

    /// Runs the command for a change, to its end. Reports a failure and keeps it for [`Runner::failed`].
    ///
    /// # Errors
    /// A signal, after the command has ended too. Also a command that cannot be started and never was: its name is most
    /// likely wrong. After a first run it may be missing for a moment, while a new one is installed.
    pub(super) async fn run(
        &mut self,
        change: &Change,
        is_last: bool,
        stop: &mut Stop,
    ) -> Result<(), Failure> {
        let (mut group, input) = match self.start(change, stop.owns_children()) {
            Ok(started) => started,
            Err(error) if !self.has_started => return Err(self.never_started(&error)),
            Err(error) => {
                self.fail(start_code(&error), &format!("cannot run it: {error}"), is_last);
                return Ok(());
            }
        };
        self.has_started = true;
        let ended = tokio::select! {
            biased;
            which = stop.signal() => Err(which),
            // the end of the command counts, even if it has not read all: a child of it may hold the pipe
            status = group.wait(|which| self.wants_the_terminal(which)) => Ok(status),
            never = self.feed(input, &change.data) => match never {},
        };
        match ended {
            Ok(Ok(status)) if status.success() => {}
            Ok(Ok(status)) => self.fail(exit_code(status), &status.to_string(), is_last),
            Ok(Err(error)) => self.fail(1, &format!("cannot wait for it: {error}"), is_last),
            Err(which) => {
                group.end(stop).await;
                return Err(Failure::Signal(number(which)));
            }
        }
        Ok(())
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

    fn start(&self, change: &Change, reaps_all: bool) -> io::Result<(CommandGroup, Option<ChildStdin>)> {
        let mut command = Command::new(self.program);
        command
            .args(self.arguments)
            .env("VWATCH_NAME", &change.name)
            .env("VWATCH_NAMESPACE", self.namespace)
            .env("VWATCH_VERSION", change.version.as_deref().unwrap_or(""))
            .env("VWATCH_LAST_SYNC", change.last_sync.map_or_else(String::new, |micros| micros.to_string()))
            .env_remove("VWATCH_DELETED")
            .stdin(Stdio::piped());
        if change.version.is_none() {
            command.env("VWATCH_DELETED", "1");
        }
        CommandGroup::start(&mut command, !self.foreground, reaps_all)
    }

    fn never_started(&self, error: &io::Error) -> Failure {
        let why = match error.kind() {
            ErrorKind::NotFound => "no such command, or its interpreter is missing: name one that is there",
            ErrorKind::PermissionDenied => "it may not be executed: name a command, or try chmod +x",
            _ => "the system refuses it: name another command",
        };
        let line = format!("{}: cannot run it: {error}: {why}", self.program.display());
        Failure::Command { code: start_code(error), line: Some(line) }
    }

    fn fail(&mut self, code: u8, what: &str, is_last: bool) {
        self.failed.get_or_insert(code);
        let outlook = if is_last { "" } else { ": watching goes on" };
        complain(&format!("{}: {what}{outlook}", self.program.display()));
    }

    fn wants_the_terminal(&self, which: Signal) {
        if [Signal::TTIN, Signal::TTOU].contains(&which) {
            complain(&format!(
                "{}: it is stopped, for it wants the terminal: watch with --foreground",
                self.program.display()
            ));
        }
    }
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

    use hyper::body::Bytes;

    use super::*;

    fn change(version: Option<&str>, data: &[u8]) -> Change {
        let version = version.map(str::to_owned);
        Change { name: "a/b".to_owned(), version, data: Bytes::copy_from_slice(data), last_sync: Some(7) }
    }

    /// The exit code of a run that failed.
    async fn run(script: &str, change: &Change) -> Option<u8> {
        let command = ["sh", "-c", script].map(OsString::from);
        let mut runner = Runner::new(&command, false);
        runner.run(change, true, &mut Stop::default()).await.unwrap();
        runner.failed()
    }

    fn scratch(name: &str) -> std::path::PathBuf {
        std::env::temp_dir().join(format!("vwatch-test-{}-{name}", std::process::id()))
    }

    #[tokio::test]
    async fn a_command_gets_the_change() {
        let out = scratch("change");
        let script = format!(
            "{{ echo \"$VWATCH_NAME $VWATCH_VERSION $VWATCH_LAST_SYNC [$VWATCH_DELETED]\"; cat; }} > '{}'",
            out.display()
        );
        assert_eq!(run(&script, &change(Some("v1"), b"data")).await, None);
        assert_eq!(std::fs::read_to_string(&out).unwrap(), "a/b v1 7 []\ndata");
        assert_eq!(run(&script, &change(None, b"")).await, None);
        assert_eq!(std::fs::read_to_string(&out).unwrap(), "a/b  7 [1]\n");
        std::fs::remove_file(out).unwrap();
    }

    #[tokio::test]
    async fn a_command_need_not_read() {
        let large = vec![b'x'; 1 << 20];
        assert_eq!(run("exit 0", &change(Some("v"), &large)).await, None);
        // its child keeps the pipe open and reads nothing
        assert_eq!(run("sleep 5 & exit 0", &change(Some("v"), &large)).await, None);
    }

    #[tokio::test]
    async fn the_first_failure_is_kept_as_a_shell_reports_it() {
        assert_eq!(run("exit 3", &change(Some("v"), b"")).await, Some(3));
        assert_eq!(run("kill -9 $$", &change(Some("v"), b"")).await, Some(137));
        let command = ["sh", "-c", "exit $VWATCH_VERSION"].map(OsString::from);
        let mut runner = Runner::new(&command, false);
        for version in ["0", "7", "8", "0"] {
            runner.run(&change(Some(version), b""), false, &mut Stop::default()).await.unwrap();
        }
        assert_eq!(runner.failed(), Some(7));
    }

    #[tokio::test]
    async fn a_command_must_be_there_the_first_time() {
        let (change, mut stop) = (change(Some("v"), b""), Stop::default());
        for (program, code, why) in
            [("/nonexistent/command", 127, "no such command"), ("/etc/passwd", 126, "chmod +x")]
        {
            let command = [OsString::from(program)];
            let failure = Runner::new(&command, false).run(&change, false, &mut stop).await.unwrap_err();
            let Failure::Command { code: got, line: Some(line) } = failure else { panic!("{failure:?}") };
            assert!(got == code && line.contains(why), "{got}: {line}");
        }
        let link = scratch("link");
        std::os::unix::fs::symlink("/bin/true", &link).unwrap();
        let command = [link.clone().into_os_string()];
        let mut runner = Runner::new(&command, false);
        runner.run(&change, false, &mut stop).await.unwrap();
        std::fs::remove_file(link).unwrap();
        runner.run(&change, false, &mut stop).await.unwrap();
        assert_eq!(runner.failed(), Some(127), "it is away");
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
